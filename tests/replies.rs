// SPDX-License-Identifier: Apache-2.0
//! Replies that mean another thing than they seem to, and servers that count what is said on one connection.

mod support;

use std::time::Duration;

use serde_json::Value;
use support::ask::{json, queue_until, run, said};
use support::client::Client;
use support::provider::{Fault, Gate, Mechanism, Provider, ProviderBuilder, Step, Times, TlsMode};
use support::relay::{Relay, RelayBuilder, Section, field};

const SOON: Duration = Duration::from_secs(120);
const TEXT: &str = "From: plc@example.com\r\nTo: ops@example.com\r\nSubject: x\r\nDate: Mon, 23 Nov 2026 01:02:03 +0000\r\nMessage-ID: <1@example.com>\r\n\r\nalarm\r\n";

fn provider() -> ProviderBuilder {
    Provider::builder().tls(TlsMode::Implicit).login("u", "p")
}

fn account(provider: &Provider) -> Section {
    Section::account("provider", provider).option("from_policy", "keep").option("connections", 1)
}

fn relay_to(provider: &Provider) -> RelayBuilder {
    Relay::builder().durability("always").section(account(provider))
}

async fn send(relay: &Relay, to: &[&str]) -> String {
    let mut device = Client::greeted(relay.addr()).await;
    device.dialogue(&[("EHLO plc", 250)]).await;
    let reply = device.send("plc@example.com", to, TEXT).await;
    assert_eq!(reply.code, 250, "{reply:?}");
    reply.text().rsplit(' ').next().unwrap().to_string()
}

fn is(event: &'static str, id: &str) -> impl Fn(&str) -> bool {
    let id = id.to_owned();
    move |line: &str| field(line, "event") == Some(event) && field(line, "id") == Some(id.as_str())
}

/// The message itself, without notices.
fn copies(provider: &Provider) -> usize {
    provider.messages().iter().filter(|message| !message.sender.is_empty()).count()
}

/// Success without its state: the text was never sent, or nobody knows which reply answers what.
#[tokio::test]
async fn nothing_counts_as_delivered_that_was_never_sent() {
    let reply = |text: &str| Fault::Reply(text.into());
    for (step, fault) in [
        (Step::Data, reply("250 2.0.0 Ok")),
        (Step::Data, reply("251 2.0.0 Ok")),
        (Step::Data, reply("200 Ok")),
        (Step::Data, reply("221 2.0.0 Bye")),
        (Step::Data, reply("354 Go on\r\n250 2.0.0 Ok: queued")),
        (Step::AnyRcpt, reply("250 2.1.5 Ok\r\n250 2.1.5 Ok")),
        // The refusal of the second one is taken for the answer to DATA.
        (Step::Rcpt("ops@example.com".into()), reply("250 2.1.5 Ok\r\n550 5.1.1 No")),
        (Step::Mail, reply("334 VXNlcm5hbWU6")),
    ] {
        let provider = provider().start().await;
        provider.set_fault(step.clone(), fault.clone(), Times::First(1));
        let relay = relay_to(&provider).start().await;
        let id = send(&relay, &["ops@example.com"]).await;
        let what = format!("{step:?} {fault:?}");
        let line = relay.wait_log(|line| is("deferred", &id)(line) || is("delivered", &id)(line), SOON).await;
        assert_eq!((field(&line, "event"), copies(&provider)), (Some("deferred"), 0), "{what}: {line}");
        // It is tried again by itself, or has been: replies on a new connection count.
        said(&relay, "queue retry all").await;
        relay.wait_log(is("removed", &id), SOON).await;
        assert_eq!(copies(&provider), 1, "{what}\n{}", provider.transcript());
    }
}

/// A reply that nothing had asked for is not the answer to the next command, also where each command waits for its reply.
#[tokio::test]
async fn an_extra_refusal_fails_nothing() {
    let reply = |text: &str| Fault::Reply(text.into());
    for (step, fault) in [
        (Step::Mail, reply("250 2.1.0 Ok\r\n550 5.7.1 Extra")),
        (Step::Ehlo, reply("250-provider.example\r\n250 8BITMIME\r\n550 5.7.1 Extra")),
        (Step::Rcpt("a@example.com".into()), reply("250 2.1.5 Ok\r\n550 5.1.1 Extra")),
        (Step::Rcpt("b@example.com".into()), reply("250 2.1.5 Ok\r\n550 5.1.1 Extra")),
        (Step::AnyRcpt, reply("550 5.1.1 No\r\n550 5.1.1 Extra")),
        (Step::AnyRcpt, reply("550 5.1.1 No\r\n250 2.1.5 Extra")),
    ] {
        for pipelining in [false, true] {
            let builder = Provider::builder().tls(TlsMode::Implicit).with(|s| s.pipelining = pipelining);
            let provider = builder.start().await;
            provider.set_fault(step.clone(), fault.clone(), Times::First(1));
            let relay = relay_to(&provider).start().await;
            let id = send(&relay, &["a@example.com", "b@example.com"]).await;
            // A connection that was opened ahead and has said too much is not used.
            if step != Step::Ehlo {
                relay.wait_log(is("deferred", &id), SOON).await;
                said(&relay, "queue retry all").await;
            }
            relay.wait_log(is("removed", &id), SOON).await;
            let failed = relay.log().into_iter().find(|line| field(line, "event") == Some("failed"));
            let what = format!("{step:?} {fault:?}, pipelining: {pipelining}\n{}", provider.transcript());
            assert_eq!((failed, copies(&provider)), (None, 1), "{what}");
        }
    }
}

/// Each time the message has arrived, and nobody can know it: after some copies it is held, also when the gateway is
/// started anew in between, and people hear what to do.
#[tokio::test]
async fn a_message_that_may_have_arrived_is_not_sent_for_ever() {
    for fault in [Fault::AcceptThenClose, Fault::Half, Fault::Garbage, Fault::Reply("221 2.0.0 Bye".into())] {
        // Garbage is said in place of taking it.
        let taken = !matches!(fault, Fault::Garbage);
        let provider = provider().start().await;
        provider.set_fault(Step::Dot, fault.clone(), Times::First(3));
        let mut relay = relay_to(&provider).relay_option("retry_min", "1h").start().await;
        let id = send(&relay, &["ops@example.com"]).await;
        let doubts = |count: u64| {
            move |all: &[Value]| all.len() == 1 && all[0]["doubts"] == count && all[0]["standing"] == "later"
        };
        queue_until(&relay, doubts(1)).await;
        relay.kill9();
        relay.restart().await;
        queue_until(&relay, doubts(2)).await;
        said(&relay, "queue retry all").await;
        let line = relay.wait_log(is("held", &id), SOON).await;
        assert!(line.contains("it was sent 3 times") && line.contains("queue release"), "{line}");
        let offers = || provider.record().attempts.iter().filter(|m| !m.sender.is_empty()).count();
        assert_eq!((copies(&provider), offers()), (if taken { 3 } else { 0 }, 3), "{fault:?}");
        // Whoever sent it hears of it.
        let notice = |record: &support::provider::Record| {
            let all = record.attempts.iter();
            all.filter(|m| m.accepted && m.sender.is_empty()).map(|m| m.text().to_string()).next()
        };
        let text = provider.wait_until("the notice", SOON, notice).await;
        assert!(text.contains("Subject: Delivery uncertain: mail from 127.0.0.1"), "{text}");
        let words = text.replace("\r\n", " ");
        assert!(words.contains("Action: delayed") && words.contains(&format!("queue release {id}")), "{text}");
        // What wakes all mail does not wake it, nor does a restart.
        relay.kill9();
        relay.restart().await;
        queue_until(&relay, |all| all.iter().any(|message| message["standing"] == "held")).await;
        let status = json(&relay, "status").await;
        assert!(status["health"].as_str().unwrap().contains("1 held: smtprelay queue says why"), "{status}");
        let shown = said(&relay, "queue").await;
        assert!(shown.contains("so it may have arrived"), "{shown}");
        said(&relay, "queue retry all").await;
        // Released, it is sent once more.
        assert_eq!(run(&relay, &format!("queue release {id}")).await.code, 0);
        relay.wait_log(is("removed", &id), SOON).await;
        assert_eq!(offers(), 4, "{fault:?}");
    }
}

/// Only the recipients that the text was sent for may have got it: the others are tried as before, and nobody is told that
/// they may have it.
#[tokio::test]
async fn a_recipient_that_was_deferred_each_time_is_not_in_doubt() {
    const OPS: &str = "ops@example.com";
    const GREY: &str = "grey@example.com";
    for released_early in [false, true] {
        let provider = provider().start().await;
        let later = Fault::Reply("450 4.2.0 Greylisted".into());
        provider.set_fault(Step::Rcpt(GREY.into()), later, Times::Always);
        provider.set_fault(Step::Dot, Fault::AcceptThenClose, Times::First(3));
        let mut relay = relay_to(&provider).relay_option("retry_min", "1h").start().await;
        let id = send(&relay, &[OPS, GREY]).await;
        let tried = |count: u64| {
            move |all: &[Value]| {
                all.iter().any(|m| m["doubts"] == count && m["standing"] == "later" && m["held"] == false)
            }
        };
        for count in 1..3 {
            queue_until(&relay, tried(count)).await;
            said(&relay, "queue retry all").await;
        }
        queue_until(&relay, tried(3)).await;
        let line = relay.wait_log(is("held", &id), SOON).await;
        assert!(line.contains("other recipients: to ops@example.com it was sent 3 times"), "{line}");
        let text = provider.wait_until("the notice", SOON, |record| {
            record.attempts.iter().find(|m| m.accepted && m.sender.is_empty()).map(|m| m.text())
        });
        let words = text.await.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(
            words.contains(OPS) && words.contains(&format!("queue release {id}")) && !words.contains(GREY),
            "{words}"
        );
        assert!(words.contains("still attempted for the others"), "{words}");
        relay.kill9();
        relay.restart().await;
        queue_until(&relay, tried(3)).await;
        let offered = || provider.record().attempts.iter().filter(|m| m.recipients.iter().any(|to| to == OPS)).count();
        let delivered = |to: &'static str| {
            let of_it = is("delivered", &id);
            move |line: &str| of_it(line) && field(line, "to") == Some(&format!("<{to}>"))
        };
        if released_early {
            assert_eq!(run(&relay, &format!("queue release {id}")).await.code, 0);
            relay.wait_log(delivered(OPS), SOON).await;
            provider.clear_faults();
            said(&relay, "queue retry all").await;
            relay.wait_log(delivered(GREY), SOON).await;
        } else {
            provider.clear_faults();
            said(&relay, "queue retry all").await;
            relay.wait_log(delivered(GREY), SOON).await;
            queue_until(&relay, |all| all.iter().any(|message| message["standing"] == "held")).await;
            assert_eq!(offered(), 3);
            assert_eq!(run(&relay, &format!("queue release {id}")).await.code, 0);
        }
        relay.wait_log(is("removed", &id), SOON).await;
        assert_eq!(offered(), 4);
    }
}

/// So many messages at once: the first one is held up until all are there.
async fn send_many(relay: &Relay, provider: &Provider, count: usize) -> Vec<String> {
    let gate = Gate::closed();
    provider.set_fault(Step::Dot, Fault::Hold(gate.clone()), Times::First(1));
    let mut ids = Vec::new();
    for _ in 0..count {
        ids.push(send(relay, &["ops@example.com"]).await);
    }
    gate.open();
    ids
}

/// Servers count the messages of a connection, and say so in many ways. What they say is not about the message, and the
/// number is remembered.
#[tokio::test]
async fn a_limit_of_a_connection_is_not_that_of_a_message() {
    for reply in [
        "452 4.5.3 Too many messages sent",
        "450 4.7.1 Too many",
        "451 4.3.2 Enough for now",
        "421 4.3.2 Closing",
        "550 5.7.1 Too many messages in this session",
        "550 5.5.3 session limit reached",
        "503 5.5.1 limit reached",
    ] {
        let provider = provider().with(|s| s.most = Some((3, reply.into()))).start().await;
        let relay = relay_to(&provider).start().await;
        for id in send_many(&relay, &provider, 8).await {
            relay.wait_log(is("removed", &id), SOON).await;
        }
        let trouble = |line: &String| matches!(field(line, "event"), Some("deferred" | "paused" | "failed"));
        assert_eq!(relay.log().into_iter().find(trouble), None, "{reply}");
        let connections = provider.connections();
        let counts: Vec<usize> = connections.iter().map(|connection| connection.messages).collect();
        assert_eq!(counts, [3, 3, 2], "{reply}\n{}", provider.transcript());
        // Only the first connection was tried beyond its limit.
        let asked = connections.iter().flat_map(|c| &c.verbs).filter(|verb| *verb == "MAIL").count();
        assert_eq!(asked, 9, "{reply}\n{}", provider.transcript());
    }
}

/// What a new connection says as well is the server's word on the message.
#[tokio::test]
async fn what_a_new_connection_says_counts() {
    let provider = provider().start().await;
    let relay = relay_to(&provider).start().await;
    let first = send(&relay, &["ops@example.com"]).await;
    relay.wait_log(is("removed", &first), SOON).await;
    provider.set_fault(Step::Mail, Fault::Reply("450 4.1.8 Unknown sender".into()), Times::First(2));
    let id = send(&relay, &["ops@example.com"]).await;
    let line = relay.wait_log(is("deferred", &id), SOON).await;
    assert!(line.contains("450 4.1.8 Unknown sender"), "{line}");
    assert_eq!(provider.connections().len(), 2);
}

/// Whatever a kept connection says about itself, or if it ends without a word, the message is offered at once on a new one.
#[tokio::test]
async fn a_kept_connection_is_given_up_before_a_message() {
    for (step, fault) in [
        (Step::AnyRcpt, Fault::Reply("451 4.7.1 session quota".into())),
        (Step::Data, Fault::Reply("451 4.3.0 Temporary failure".into())),
        (Step::Mail, Fault::Close),
        (Step::Mail, Fault::Reset),
    ] {
        for chunking in [false, true] {
            if chunking && step == Step::Data {
                continue;
            }
            let provider = provider().with(|s| s.chunking = chunking).start().await;
            let relay = relay_to(&provider).relay_option("retry_min", "10m").start().await;
            let first = send(&relay, &["ops@example.com"]).await;
            relay.wait_log(is("removed", &first), SOON).await;
            provider.set_fault(step.clone(), fault.clone(), Times::First(1));
            let id = send(&relay, &["ops@example.com"]).await;
            let line = relay.wait_log(|line| is("removed", &id)(line) || is("deferred", &id)(line), SOON).await;
            let what = format!("{step:?} {fault:?}, chunking: {chunking}: {line}\n{}", provider.transcript());
            assert_eq!((field(&line, "event"), provider.connections().len()), (Some("removed"), 2), "{what}");
            let paused = relay.log().into_iter().find(|line| field(line, "event") == Some("paused"));
            assert_eq!((paused, copies(&provider)), (None, 2), "{what}");
        }
    }
}

/// So do those that get many refusals in one message: the other recipients are named on new connections.
#[tokio::test]
async fn a_list_of_unknown_recipients_takes_several_connections() {
    for pipelining in [true, false] {
        let provider = provider().with(|s| s.pipelining = pipelining).start().await;
        let relay = relay_to(&provider).relay_option("retry_min", "10m").start().await;
        let mut to: Vec<String> = (0..29).map(|n| format!("gone{n}@example.com")).collect();
        for gone in &to {
            provider.set_fault(Step::Rcpt(gone.clone()), Fault::Reply("550 5.1.1 Unknown".into()), Times::Always);
        }
        to.push("ops@example.com".into());
        let to: Vec<&str> = to.iter().map(String::as_str).collect();
        let id = send(&relay, &to).await;
        relay.wait_log(is("removed", &id), SOON).await;
        let mut refusals = vec![0; provider.connections().len()];
        for event in provider.record().transcript {
            refusals[event.connection] += usize::from(event.text.starts_with("S: 5"));
        }
        // Those that are named before it is known; then DATA is not asked for.
        assert!(refusals.iter().all(|count| *count <= 10), "{refusals:?}\n{}", provider.transcript());
        let got: Vec<Vec<String>> = provider.messages().into_iter().map(|m| m.recipients).collect();
        assert!(got.contains(&vec!["ops@example.com".to_string()]), "{got:?}");
        // Good recipients stay together, however many.
        let many: Vec<String> = (0..25).map(|n| format!("ops{n}@example.com")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        let id = send(&relay, &many).await;
        relay.wait_log(is("removed", &id), SOON).await;
        assert_eq!(provider.messages().last().map(|m| m.recipients.len()), Some(25));
        assert_eq!(provider.complaints(), Vec::<String>::new());
    }
}

/// Servers make clients wait that collect refusals: others must not wait with them.
#[tokio::test]
async fn a_connection_with_refusals_is_left() {
    let provider = provider().start().await;
    let relay = relay_to(&provider).start().await;
    for n in 0..12 {
        let gone = format!("gone{n}@example.com");
        provider.set_fault(Step::Rcpt(gone.clone()), Fault::Reply("450 4.1.1 Unknown".into()), Times::Always);
        let id = send(&relay, &[&gone]).await;
        relay.wait_log(is("deferred", &id), SOON).await;
    }
    let mut refusals = vec![0; provider.connections().len()];
    for event in provider.record().transcript {
        refusals[event.connection] += usize::from(event.text.starts_with("S: 4") || event.text.starts_with("S: 5"));
    }
    // The recipient and DATA; the third message brings it over five.
    assert!(refusals.len() >= 4 && refusals.iter().all(|count| *count <= 6), "{refusals:?}");
    assert_eq!(provider.complaints(), Vec::<String>::new());
}

/// A server that offers a login says in its own words that it misses one. The mail waits for it.
#[tokio::test]
async fn a_missing_login_is_found_behind_whatever_the_server_says() {
    let offers = || Provider::builder().tls(TlsMode::Implicit).mechanisms(&[Mechanism::Plain]);
    for (step, reply) in [
        (Step::AnyRcpt, "550 I cannot deliver mail for {ops@example.com}"),
        (Step::AnyRcpt, "554 5.7.1 Not here"),
        (Step::AnyRcpt, "450 4.7.1 Relay not possible"),
        (Step::Mail, "550 No"),
        (Step::Mail, "503 5.5.4 Error: send AUTH command first"),
        (Step::Mail, "530 5.7.0 Authentication required."),
        (Step::AnyRcpt, "553 Relaying disallowed"),
        (Step::AnyRcpt, "554 5.7.1 Sender address rejected: Access denied"),
        (Step::AnyRcpt, "550 Your message looks like spam, please sign on"),
        (Step::Mail, "501 5.7.1 Not permitted"),
        (Step::Mail, "502 5.5.1 Not implemented"),
        (Step::Mail, "503 Bad sequence of commands"),
        (Step::Mail, "421 Too many invalid commands"),
    ] {
        let provider = offers().start().await;
        provider.set_fault(step, Fault::Reply(reply.into()), Times::First(1));
        let relay = relay_to(&provider).start().await;
        let id = send(&relay, &["ops@example.com"]).await;
        let line = relay.wait_log(|line| field(line, "event") == Some("paused"), SOON).await;
        assert!(line.contains("set username and password of the account") && line.contains(reply), "{line}");
        assert_eq!(field(&line, "next"), Some("60s"), "{line}");
        said(&relay, "wake").await;
        relay.wait_log(is("removed", &id), SOON).await;
        // It takes mail without a login: then it speaks of this recipient, and perhaps of the login.
        provider.set_fault(Step::AnyRcpt, Fault::Reply("550 No".into()), Times::First(1));
        let id = send(&relay, &["ops@example.com"]).await;
        let line = relay.wait_log(is("failed", &id), SOON).await;
        assert!(line.contains("requires a login for this recipient, set username and password"), "{line}");
    }
    // What is clearly about something else stays what it is, also at the first message.
    for (step, reply, event) in [
        (Step::AnyRcpt, "550 5.1.1 No such user", "failed"),
        (Step::AnyRcpt, "450 4.2.0 Greylisted", "deferred"),
        (Step::Mail, "552 5.3.4 Too large", "failed"),
    ] {
        let provider = offers().start().await;
        provider.set_fault(step, Fault::Reply(reply.into()), Times::First(1));
        let relay = relay_to(&provider).start().await;
        let id = send(&relay, &["ops@example.com"]).await;
        let line = relay.wait_log(|line| field(line, "event") == Some("paused") || is(event, &id)(line), SOON).await;
        assert_eq!(field(&line, "event"), Some(event), "{line}");
    }
}

/// One device writes to an address that the server does not relay to. Alarms of the others leave at once all the same, and
/// whoever sent it hears of it. It is not final before the server has accepted other mail on the same connection: it may
/// know the account by the address of the uplink, and that changes.
#[tokio::test]
async fn a_recipient_that_is_not_relayed_to_stops_no_other_mail() {
    const LOGIN: &str = "requires a login for this recipient, set username and password of the account";
    let plain = || Provider::builder().tls(TlsMode::Implicit);
    for (builder, logs_in) in [(plain(), false), (plain().mechanisms(&[Mechanism::Plain]), false), (provider(), true)] {
        let provider = builder.start().await;
        let relay = relay_to(&provider).relay_option("retry_min", "1h").start().await;
        let deliver = async |relay: &Relay| {
            let id = send(relay, &["ops@example.com"]).await;
            relay.wait_log(is("removed", &id), SOON).await;
        };
        let all_wait =
            async |relay: &Relay| queue_until(relay, |all| all.iter().all(|one| one["standing"] == "later")).await;
        if !logs_in {
            deliver(&relay).await;
        }
        for (reply, fails, fresh) in [
            ("554 5.7.1 <x@outside.example>: Relay access denied", true, true),
            ("550 relay not permitted", true, false),
            ("530 5.7.0 Authentication required", true, true),
            ("503 5.5.1 AUTH first", true, false),
            ("454 4.7.1 <x@outside.example>: Relay access denied", false, true),
            ("550 4.7.1 Relaying denied", false, false),
        ] {
            let what = format!("{reply}, logs in: {logs_in}");
            // The notices about the last one have left: nothing else opens the next connection.
            all_wait(&relay).await;
            provider.clear_faults();
            let refusal = Fault::Reply(reply.into());
            provider.set_fault(Step::Rcpt("x@outside.example".into()), refusal, Times::Always);
            if fresh {
                provider.restart().await;
            }
            let id = send(&relay, &["x@outside.example"]).await;
            let said = relay.wait_log(|line| is("failed", &id)(line) || is("deferred", &id)(line), SOON).await;
            let event = if fails && !fresh { "failed" } else { "deferred" };
            assert_eq!(field(&said, "event"), Some(event), "{what}: {said}");
            assert!(said.contains(reply) && said.contains(LOGIN) != logs_in, "{what}: {said}");
            // Once the server has accepted another message, it is asked again at once.
            deliver(&relay).await;
            if fails {
                relay.wait_log(is("failed", &id), SOON).await;
            }
        }
        // Another recipient that is accepted says the same.
        all_wait(&relay).await;
        provider.restart().await;
        provider.clear_faults();
        let refusal = Fault::Reply("550 5.7.1 Relaying denied".into());
        provider.set_fault(Step::Rcpt("x@outside.example".into()), refusal, Times::Always);
        let id = send(&relay, &["x@outside.example", "ops@example.com"]).await;
        relay.wait_log(is("failed", &id), SOON).await;
        let paused = relay.log().into_iter().find(|line| field(line, "event") == Some("paused"));
        assert_eq!(paused, None, "logs in: {logs_in}");
    }
}

/// Where the server has never accepted anything, it is the account that is wrong, and nothing bounces.
#[tokio::test]
async fn an_account_that_was_never_accepted_is_told_what_it_misses() {
    for reply in ["554 5.7.1 <x@example.com>: Relay access denied", "454 4.7.1 Relay access denied", "530 5.7.0 No"] {
        let provider = Provider::builder().tls(TlsMode::Implicit).start().await;
        provider.set_fault(Step::AnyRcpt, Fault::Reply(reply.into()), Times::First(1));
        let relay = relay_to(&provider).start().await;
        let id = send(&relay, &["ops@example.com"]).await;
        let line = relay.wait_log(|line| field(line, "event") == Some("paused"), SOON).await;
        assert!(field(&line, "next") == Some("60s") && line.contains(reply), "{line}");
        said(&relay, "wake").await;
        relay.wait_log(is("removed", &id), SOON).await;
    }
}

/// How often a recipient was named.
fn named(provider: &Provider, address: &str) -> usize {
    let command = format!("RCPT TO:<{address}>");
    provider.record().transcript.iter().filter(|event| event.text.contains(&command)).count()
}

/// Waits until all that is left of a message waits for its first turn, with `retry_min` of ten minutes.
async fn waits_for_its_first_turn(relay: &Relay, id: &str) {
    let all = queue_until(relay, |all| all.len() == 1 && all[0]["standing"] == "later").await;
    assert_eq!(all[0]["id"], id);
    let next = all[0]["next"].as_u64().unwrap();
    assert!((400..=600).contains(&next), "{next}");
    let lines = relay.log();
    let deferred = lines.iter().rfind(|line| is("deferred", id)(line) && line.contains("Greylisted")).unwrap();
    let next: u64 = field(deferred, "next").unwrap().trim_end_matches('s').parse().unwrap();
    assert!((500..=600).contains(&next), "{deferred}");
}

/// A provider that takes few recipients at once gets the others in transactions that follow at once. These are neither
/// attempts for one that was deferred, nor do they make it wait longer.
#[tokio::test]
async fn a_deferred_recipient_is_left_out_while_the_others_follow() {
    let builder = || provider().with(|s| s.pipelining = false);
    for many in [false, true] {
        let provider = builder().start().await;
        let relay = relay_to(&provider).relay_option("retry_min", "10m").start().await;
        let refuse = |address: &str, reply: &str, times| {
            provider.set_fault(Step::Rcpt(address.into()), Fault::Reply(reply.into()), times);
        };
        refuse("grey@example.com", "450 4.2.0 Greylisted", Times::First(2));
        let mut to = vec!["grey@example.com".to_string()];
        if many {
            // Of ten that are named first, most are refused, and the connection is left for the rest.
            for n in 0..9 {
                let gone = format!("gone{n}@example.com");
                refuse(&gone, "550 5.1.1 Unknown", Times::Always);
                to.push(gone);
            }
            to.push("ops@example.com".into());
        } else {
            for n in 0..6 {
                let one = format!("ops{n}@example.com");
                refuse(&one, "452 4.5.3 Too many recipients", Times::First(n));
                to.push(one);
            }
        }
        let to: Vec<&str> = to.iter().map(String::as_str).collect();
        let id = send(&relay, &to).await;
        relay.wait_lines(is("delivered", &id), if many { 1 } else { 6 }, SOON).await;
        if many {
            queue_until(&relay, |all| all.len() == 1).await;
        }
        waits_for_its_first_turn(&relay, &id).await;
        assert_eq!(named(&provider, "grey@example.com"), 1, "{}", provider.transcript());
        let later = |line: &str| is("deferred", &id)(line) && line.contains("Too many") && !line.contains("next=0s");
        assert_eq!(relay.log().into_iter().find(|line| later(line)), None);
        // It was named no more only in those that followed.
        said(&relay, "queue retry all").await;
        relay.wait_lines(|line| is("deferred", &id)(line) && line.contains("Greylisted"), 2, SOON).await;
        waits_for_its_first_turn(&relay, &id).await;
        said(&relay, "queue retry all").await;
        relay.wait_log(is("removed", &id), SOON).await;
        assert_eq!(provider.complaints(), Vec::<String>::new());
    }
}

/// One recipient is deferred, another meets trouble of the account: the message is tried with the account, and none of
/// these attempts makes it wait longer afterwards.
#[tokio::test]
async fn attempts_during_an_outage_are_not_those_of_a_recipient() {
    let provider = provider().with(|s| s.pipelining = false).start().await;
    let relay = relay_to(&provider).relay_option("retry_min", "10m").start().await;
    let refuse = |address: &str, reply: &str, times| {
        provider.set_fault(Step::Rcpt(address.into()), Fault::Reply(reply.into()), times);
    };
    refuse("grey@example.com", "450 4.2.0 Greylisted", Times::Always);
    refuse("ops@example.com", "421 4.4.2 Closing", Times::First(4));
    let mark = relay.mark();
    let id = send(&relay, &["grey@example.com", "ops@example.com"]).await;
    let mut from = mark;
    for _ in 0..4 {
        let line = relay.wait_log_from(from, is("deferred", &id), SOON).await;
        // As long as the account pauses.
        assert_eq!(field(&line, "next"), Some("3s"), "{line}");
        relay.wait_log_from(from, |line| field(line, "event") == Some("paused"), SOON).await;
        from = relay.mark();
        said(&relay, "wake").await;
    }
    relay.wait_log(is("delivered", &id), SOON).await;
    waits_for_its_first_turn(&relay, &id).await;
}

/// Greylisted once, and woken when the provider accepted another one: what it meets in a later outage is the outage.
#[tokio::test]
async fn an_outage_is_not_the_fault_of_a_message_that_was_once_woken() {
    let grey = Step::Rcpt("grey@example.com".into());
    let provider = provider().start().await;
    let relay = relay_to(&provider).relay_option("retry_min", "1h").start().await;
    provider.set_fault(grey.clone(), Fault::Reply("450 4.2.0 Greylisted".into()), Times::First(2));
    let id = send(&relay, &["grey@example.com"]).await;
    relay.wait_log(is("deferred", &id), SOON).await;
    let other = send(&relay, &["ops@example.com"]).await;
    relay.wait_log(is("removed", &other), SOON).await;
    // Right after that, it was the message.
    relay.wait_lines(is("deferred", &id), 2, SOON).await;
    let mark = relay.mark();
    // On the kept connection and on a new one, at each attempt.
    provider.set_fault(Step::Mail, Fault::Reply("451 4.3.0 Temporary system problem".into()), Times::Always);
    for _ in 0..2 {
        let from = relay.mark();
        said(&relay, &format!("queue retry {id}")).await;
        let event = |line: &str| field(line, "event").is_some_and(|event| event == "paused" || event == "deferred");
        let line = relay.wait_log_from(from, event, SOON).await;
        assert_eq!(field(&line, "event"), Some("paused"), "{line}");
    }
    let resumed = relay.log_from(mark).into_iter().find(|line| field(line, "event") == Some("resumed"));
    assert_eq!(resumed, None);
    provider.clear_faults();
    said(&relay, "wake").await;
    relay.wait_log(is("removed", &id), SOON).await;
}

/// The outage begins before the messages that were woken have left. Once another message has met it, none of them takes it
/// for its own trouble, and none says that it is over.
#[tokio::test]
async fn what_was_woken_before_an_outage_waits_for_its_end() {
    let grey = Step::Rcpt("grey@example.com".into());
    let provider = provider().start().await;
    let relay = relay_to(&provider).relay_option("retry_min", "1h").start().await;
    let gate = Gate::closed();
    provider.set_fault(grey.clone(), Fault::Reply("450 4.2.0 Greylisted".into()), Times::First(4));
    provider.set_fault(grey, Fault::Hold(gate.clone()), Times::First(1));
    for _ in 0..4 {
        let id = send(&relay, &["grey@example.com"]).await;
        relay.wait_log(is("deferred", &id), SOON).await;
    }
    let other = send(&relay, &["ops@example.com"]).await;
    relay.wait_log(is("removed", &other), SOON).await;
    let holds = |record: &support::provider::Record| {
        let asked = record.transcript.iter().filter(|event| event.text.contains("*: at Rcpt")).count();
        (asked == 5).then_some(())
    };
    provider.wait_until("the first of those that were woken", SOON, holds).await;
    provider.set_fault(Step::Mail, Fault::Reply("451 4.3.0 Temporary system problem".into()), Times::Always);
    send(&relay, &["ops@example.com"]).await;
    let mark = relay.mark();
    gate.open();
    let paused = |line: &str| field(line, "event") == Some("paused");
    relay.wait_log_from(mark, paused, SOON).await;
    let mark = relay.mark();
    for _ in 0..4 {
        let from = relay.mark();
        said(&relay, "wake").await;
        relay.wait_log_from(from, paused, SOON).await;
    }
    let wrong = |line: &String| matches!(field(line, "event"), Some("resumed" | "deferred"));
    assert_eq!(relay.log_from(mark).into_iter().find(wrong), None);
    provider.clear_faults();
    said(&relay, "queue retry all").await;
    queue_until(&relay, |all| all.is_empty()).await;
}

/// What is refused again right after another message was accepted is that message's own trouble, also where the words are
/// about a login: then it waits alone.
#[tokio::test]
async fn a_sender_that_misses_a_login_waits_alone() {
    let provider = provider().start().await;
    let relay = relay_to(&provider).relay_option("retry_min", "1h").start().await;
    let sender = "plc@example.com";
    let refusal = Fault::Reply(format!("553 5.7.1 <{sender}>: Sender address rejected: not logged in"));
    provider.set_fault(Step::Mail, refusal.clone(), Times::First(1));
    let id = send(&relay, &["x@example.com"]).await;
    relay.wait_log(|line| field(line, "event") == Some("paused"), SOON).await;
    let gate = Gate::closed();
    provider.set_fault(Step::Rcpt("ops@example.com".into()), Fault::Hold(gate.clone()), Times::First(1));
    let other = send(&relay, &["ops@example.com"]).await;
    said(&relay, "wake").await;
    provider.wait_for_line("RCPT TO:<ops@example.com>", SOON).await;
    provider.set_fault(Step::Mail, refusal.clone(), Times::First(1));
    gate.open();
    relay.wait_log(is("removed", &other), SOON).await;
    let line = relay.wait_log(is("deferred", &id), SOON).await;
    assert!(line.contains("not logged in"), "{line}");
    // Nor does it stop the others at its next attempts.
    provider.set_fault(Step::Mail, refusal, Times::First(1));
    said(&relay, &format!("queue retry {id}")).await;
    relay.wait_lines(is("deferred", &id), 2, SOON).await;
    let last = send(&relay, &["ops@example.com"]).await;
    relay.wait_log(is("removed", &last), SOON).await;
    let is_pause = |line: &str| field(line, "event") == Some("paused");
    let pauses = |relay: &Relay| relay.log().into_iter().filter(|line| is_pause(line)).count();
    assert_eq!(pauses(&relay), 1);
    // Nor where it is the first one after an outage, or after a refusal that concerned another message. Whether the account
    // works then, the next message finds out, unless all that was missing was a reply.
    let refusal = Fault::Reply(format!("553 5.7.1 <{sender}>: Sender address rejected: not logged in"));
    let busy = Fault::Reply("451 4.3.0 Temporary system problem".into());
    for (number, trouble) in [busy, refusal.clone(), Fault::Close].into_iter().enumerate() {
        let (mark, answers) = (relay.mark(), number == 2);
        if answers {
            provider.set_fault(Step::Connect, trouble.clone(), Times::Always);
        }
        provider.set_fault(Step::Mail, trouble, Times::Always);
        let waits = send(&relay, &["ops@example.com"]).await;
        relay.wait_log_from(mark, is_pause, SOON).await;
        said(&relay, &format!("queue hold {waits}")).await;
        let before = pauses(&relay);
        provider.clear_faults();
        provider.set_fault(Step::Mail, refusal.clone(), Times::First(1));
        said(&relay, &format!("queue retry {id}")).await;
        relay.wait_lines(is("deferred", &id), 3 + number, SOON).await;
        let resumes = |line: &String| field(line, "event") == Some("resumed");
        assert_eq!(relay.log_from(mark).iter().any(resumes), answers, "{number}");
        let last = send(&relay, &["ops@example.com"]).await;
        relay.wait_log(is("removed", &last), SOON).await;
        assert_eq!(pauses(&relay), before);
    }
}
