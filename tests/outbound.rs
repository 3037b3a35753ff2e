// SPDX-License-Identifier: Apache-2.0
//! What the provider says and does, and what becomes of the mail.

mod support;

use std::time::Duration;

use support::ask::said;
use support::client::Client;
use support::provider::{Fault, Mechanism, Provider, ProviderBuilder, Step, Times, TlsMode};
use support::relay::{Relay, RelayBuilder, Section, field};

const SOON: Duration = Duration::from_secs(60);
const TEXT: &str = "From: plc@example.com\r\nTo: ops@example.com\r\nSubject: x\r\nDate: Mon, 23 Nov 2026 01:02:03 +0000\r\nMessage-ID: <1@example.com>\r\n\r\nalarm\r\n..dot\r\n";

fn provider() -> ProviderBuilder {
    Provider::builder().tls(TlsMode::Implicit).login("u", "p")
}

fn account(provider: &Provider) -> Section {
    Section::account("provider", provider).option("from_policy", "keep")
}

fn relay_to(provider: &Provider) -> RelayBuilder {
    Relay::builder().durability("always").section(account(provider))
}

/// Settings of a provider that takes commands in flights, and texts with BDAT.
fn way(pipelining: bool, chunking: bool) -> impl FnOnce(&mut support::provider::Settings) {
    move |s| (s.pipelining, s.chunking) = (pipelining, chunking)
}

/// A first message by DATA, behind which a server that offers CHUNKING is known to be in step.
async fn open_way(relay: &Relay) {
    let id = send_to(relay, &["opening@example.com"], TEXT).await;
    removed(relay, &id).await;
}

/// By which command each message came.
fn commands(provider: &Provider) -> Vec<&'static str> {
    provider.messages().iter().map(|message| message.command).collect()
}

async fn send_to(relay: &Relay, to: &[&str], text: &str) -> String {
    let mut device = Client::greeted(relay.addr()).await;
    device.dialogue(&[("EHLO plc", 250)]).await;
    let reply = device.send("plc@example.com", to, text).await;
    assert_eq!(reply.code, 250, "{reply:?}");
    reply.text().rsplit(' ').next().unwrap().to_string()
}

fn queued(relay: &Relay) -> usize {
    std::fs::read_dir(relay.safe_spool().join("queue")).unwrap().count()
}

async fn removed(relay: &Relay, id: &str) {
    relay.wait_log(|line| line.contains("event=removed") && line.contains(id), SOON).await;
}

#[tokio::test]
async fn a_provider_that_takes_fewer_recipients_at_once_gets_the_others_right_after() {
    let provider = provider().start().await;
    for name in ["c@example.com", "d@example.com"] {
        let refusal = Fault::Reply("452 4.5.3 Too many recipients".into());
        provider.set_fault(Step::Rcpt(name.into()), refusal, Times::First(1));
    }
    // Without the rule they would wait for this.
    let relay = relay_to(&provider).relay_option("retry_min", "10m").start().await;
    let id = send_to(&relay, &["a@example.com", "b@example.com", "c@example.com", "d@example.com"], TEXT).await;
    removed(&relay, &id).await;
    let recipients: Vec<_> = provider.messages().into_iter().map(|message| message.recipients).collect();
    assert_eq!(recipients, [["a@example.com", "b@example.com"], ["c@example.com", "d@example.com"]]);
}

#[tokio::test]
async fn a_message_passes_byte_for_byte_and_its_story_can_be_found_by_its_name() {
    let provider = provider().start().await;
    let relay = relay_to(&provider).relay_option("hostname", "gw.example").start().await;
    let id = send_to(&relay, &["ops@example.com"], TEXT).await;
    let messages = provider.wait_for_messages(1, SOON).await;
    let (received, rest) =
        messages[0].text().split_once("\r\nFrom: ").map(|(a, b)| (a.to_string(), format!("From: {b}"))).unwrap();
    assert_eq!(rest, TEXT);
    assert!(received.starts_with("Received: from plc ([127.0.0.1])"), "{received}");
    assert!(received.contains("by gw.example (smtprelay)") && received.contains(&id), "{received}");
    assert_eq!(provider.complaints(), Vec::<String>::new());
    assert_eq!(provider.connections()[0].hello, ["gw.example"]);
    removed(&relay, &id).await;
    assert_eq!(queued(&relay), 0);
    let story: Vec<String> = relay.log().into_iter().filter(|line| line.contains(&id)).collect();
    let events: Vec<_> = story.iter().filter_map(|line| field(line, "event")).collect();
    assert_eq!(events, ["accepted", "delivered", "removed"]);
    for (line, names) in [
        (&story[0], &["client", "helo", "from", "to", "size"][..]),
        (&story[1], &["from", "to", "size", "account", "tls", "cipher", "verified", "delay", "reply"]),
    ] {
        for name in names {
            assert!(field(line, name).is_some_and(|value| !value.is_empty()), "{name} in {line}");
        }
    }
    assert!(!relay.log().iter().any(|line| line.contains("alarm")), "message text in the log");
}

#[tokio::test]
async fn every_login_that_a_provider_may_want() {
    for mechanism in [Mechanism::Plain, Mechanism::Login, Mechanism::CramMd5] {
        let provider = provider().mechanisms(&[mechanism]).start().await;
        let relay = relay_to(&provider).start().await;
        send_to(&relay, &["ops@example.com"], TEXT).await;
        let messages = provider.wait_for_messages(1, SOON).await;
        assert_eq!(messages[0].login.as_deref(), Some("u"), "{mechanism:?}");
    }
}

#[tokio::test]
async fn a_small_message_goes_out_in_one_flight_with_its_envelope() {
    let provider = provider().with(|s| s.chunking = true).start().await;
    let relay = relay_to(&provider).start().await;
    let long = format!("{TEXT}{}", "0123456789abcde\r\n".repeat(6000));
    for text in [TEXT, TEXT, &long, TEXT] {
        let id = send_to(&relay, &["ops@example.com"], text).await;
        removed(&relay, &id).await;
    }
    // The first one shows that the server is in step.
    assert_eq!(commands(&provider), ["DATA", "BDAT", "DATA", "BDAT"]);
    let messages = provider.messages();
    assert!(messages[1].text().ends_with(TEXT) && messages[2].text().ends_with(&long));
    // A refusal with the text behind it leaves both sides in step.
    provider.set_fault(Step::AnyRcpt, Fault::Reply("550 5.1.1 No".into()), Times::First(1));
    let gone = send_to(&relay, &["gone@example.com"], TEXT).await;
    removed(&relay, &gone).await;
    let id = send_to(&relay, &["ops@example.com"], TEXT).await;
    removed(&relay, &id).await;
    assert!(commands(&provider)[4..].iter().all(|command| *command == "BDAT"), "{:?}", commands(&provider));
    assert_eq!(provider.complaints(), Vec::<String>::new());
}

/// What shows that a server is out of step takes away its right to a text before it has asked for it.
#[tokio::test]
async fn a_server_that_was_out_of_step_gets_no_text_before_it_asks_for_it() {
    let twice = || Fault::Reply("250 2.1.5 Ok\r\n250 2.1.5 Ok".into());
    for (step, fault) in [
        (Step::AnyRcpt, twice()),
        (Step::Mail, Fault::Reply("221 2.0.0 Bye".into())),
        (Step::Dot, Fault::Reply("250 2.0.0 Ok\r\n250 2.0.0 Ok".into())),
    ] {
        for first in [true, false] {
            let what = format!("{step:?} {fault:?}, the first message: {first}");
            let provider = provider().with(|s| s.chunking = true).start().await;
            let relay = relay_to(&provider).start().await;
            if !first {
                open_way(&relay).await;
            }
            provider.set_fault(step.clone(), fault.clone(), Times::First(1));
            let doubtful = send_to(&relay, &["ops@example.com"], TEXT).await;
            if first && step == Step::Dot {
                // By DATA the first answer is the one to the text; the next delivery finds the other.
                removed(&relay, &doubtful).await;
            } else {
                let line = relay.wait_log(|line| line.contains("event=deferred"), SOON).await;
                assert!(line.contains(&doubtful), "{what}: {line}");
                said(&relay, "queue retry all").await;
                removed(&relay, &doubtful).await;
            }
            let before = provider.messages().len();
            for _ in 0..2 {
                let id = send_to(&relay, &["ops@example.com"], TEXT).await;
                removed(&relay, &id).await;
            }
            assert_eq!(commands(&provider)[before..], ["DATA", "DATA"], "{what}\n{}", provider.transcript());
        }
    }
}

/// A server that does not skip the text that it refuses with the envelope (RFC 3030 section 2) reads it as commands: that
/// shows, the refusal is asked for once more, and there is no second time.
#[tokio::test]
async fn a_text_that_the_server_does_not_skip_is_the_last_one_that_it_gets_unasked() {
    let provider = provider().with(|s| (s.chunking, s.reads_refused_chunks) = (true, true)).start().await;
    let relay = relay_to(&provider).start().await;
    open_way(&relay).await;
    provider.set_fault(Step::Rcpt("gone@example.com".into()), Fault::Reply("550 5.1.1 No".into()), Times::Always);
    let gone = send_to(&relay, &["gone@example.com"], TEXT).await;
    // The kept connection is of no more use, so it is asked for at once.
    relay.wait_log(|line| line.contains("event=failed") && line.contains(&gone), SOON).await;
    removed(&relay, &gone).await;
    for _ in 0..2 {
        let id = send_to(&relay, &["ops@example.com"], TEXT).await;
        removed(&relay, &id).await;
    }
    assert!(commands(&provider).iter().all(|command| *command == "DATA"), "{:?}", commands(&provider));
    let chunks = provider.connections().iter().flat_map(|c| c.verbs.clone()).filter(|verb| verb == "BDAT").count();
    assert_eq!(chunks, 1, "{}", provider.transcript());
    let asked = provider.transcript().matches("C: RCPT TO:<gone@example.com>").count();
    assert_eq!(asked, 2, "{}", provider.transcript());
}

/// After 421 the server closes the connection (RFC 5321 section 3.8). It is unknown which command a reply behind it answers:
/// none is taken for the result of a text or of another recipient.
#[tokio::test]
async fn nothing_that_follows_421_counts() {
    for chunking in [true, false] {
        for replies in [
            // 421 in addition to the others: the reply to the second recipient comes where that to the text is expected.
            "250 Ok\r\n421 4.3.2 Closing\r\n250 Ok",
            "250 2.1.5 Ok\r\n421 4.3.2 Closing\r\n250 2.1.5 Ok",
            "421 4.3.2 Closing\r\n250 Ok\r\n250 Ok",
            // What is said of the first recipient comes where the reply to the second one is expected.
            "421 4.3.2 Closing\r\n550 5.1.1 No such user",
        ] {
            let provider = provider().with(|s| s.chunking = chunking).start().await;
            let relay = relay_to(&provider).start().await;
            open_way(&relay).await;
            let fault = Fault::CloseAfterReply(replies.into());
            provider.set_fault(Step::Rcpt("a@example.com".into()), fault, Times::First(1));
            let mark = relay.mark();
            let id = send_to(&relay, &["a@example.com", "b@example.com"], TEXT).await;
            relay.wait_log_from(mark, |line| line.contains("event=removed") && line.contains(&id), SOON).await;
            let what = format!("{replies:?}, chunking: {chunking}\n{}", provider.transcript());
            let of_it = |line: &&String| line.contains(&id);
            for line in relay.log().iter().filter(of_it) {
                assert_ne!(field(line, "event"), Some("failed"), "{line}\n{what}");
                assert!(!line.contains("event=delivered") || line.contains("queued as"), "{line}\n{what}");
            }
            let messages = provider.messages();
            assert_eq!(messages[1..].iter().map(|m| m.recipients.len()).collect::<Vec<_>>(), [2], "{what}");
        }
    }
}

/// A server that has accepted a text may say 421 right behind that. It has the message, and it was not out of step.
#[tokio::test]
async fn a_message_that_was_accepted_before_421_is_delivered() {
    let provider = provider().with(|s| s.chunking = true).start().await;
    let relay = relay_to(&provider).start().await;
    let fault = || Fault::CloseAfterReply("250 2.0.0 Ok: queued\r\n421 4.3.2 Closing".into());
    provider.set_fault(Step::Dot, fault(), Times::First(1));
    open_way(&relay).await;
    provider.set_fault(Step::Dot, fault(), Times::First(1));
    for _ in 0..2 {
        let id = send_to(&relay, &["ops@example.com"], TEXT).await;
        let is_over = |line: &str| matches!(field(line, "event"), Some("removed" | "deferred")) && line.contains(&id);
        let line = relay.wait_log(is_over, SOON).await;
        assert_eq!(field(&line, "event"), Some("removed"), "{line}\n{}", provider.transcript());
    }
    assert_eq!(commands(&provider), ["DATA", "BDAT", "BDAT"], "{}", provider.transcript());
}

/// Where a login may be missing the envelope may be refused: no text leaves with it.
#[tokio::test]
async fn without_a_login_no_text_leaves_with_the_envelope_of_a_server_that_offers_one() {
    for (offers, expected) in [(true, ["DATA", "DATA"]), (false, ["DATA", "BDAT"])] {
        let mechanisms: &[Mechanism] = if offers { &[Mechanism::Plain] } else { &[] };
        let builder = Provider::builder().tls(TlsMode::Implicit).mechanisms(mechanisms);
        let provider = builder.with(|s| s.chunking = true).start().await;
        let relay = relay_to(&provider).start().await;
        for _ in 0..2 {
            let id = send_to(&relay, &["ops@example.com"], TEXT).await;
            removed(&relay, &id).await;
        }
        assert_eq!(commands(&provider), expected, "offers a login: {offers}");
    }
}

#[tokio::test]
async fn starttls_and_servers_that_offer_little() {
    let little = |s: &mut support::provider::Settings| {
        s.pipelining = false;
        s.size = None;
    };
    for tls in [TlsMode::Implicit, TlsMode::StartTls] {
        let provider = provider().tls(tls).with(little).start().await;
        let relay = relay_to(&provider).start().await;
        send_to(&relay, &["a@example.com", "b@example.com"], TEXT).await;
        let messages = provider.wait_for_messages(1, SOON).await;
        assert_eq!(messages[0].recipients, ["a@example.com", "b@example.com"]);
        assert_eq!(provider.complaints(), Vec::<String>::new());
    }
}

#[tokio::test]
async fn plain_relaying_where_it_is_spelled_out() {
    let provider = Provider::builder().tls(TlsMode::None).start().await;
    let relay = relay_to(&provider).start().await;
    send_to(&relay, &["ops@example.com"], TEXT).await;
    provider.wait_for_messages(1, SOON).await;
    let line = relay.wait_log(|line| line.contains("event=delivered"), SOON).await;
    assert!(line.contains("tls=none") && line.contains("verified=no"), "{line}");
    assert!(relay.log().iter().any(|line| line.contains("unencrypted and can be read on the network path")));
}

#[tokio::test]
async fn one_connection_serves_many_messages() {
    let provider = provider().start().await;
    let relay =
        Relay::builder().durability("always").section(account(&provider).option("connections", 1)).start().await;
    for _ in 0..10 {
        let id = send_to(&relay, &["ops@example.com"], TEXT).await;
        removed(&relay, &id).await;
    }
    assert_eq!(provider.wait_for_messages(10, SOON).await.len(), 10);
    assert_eq!(provider.connections().len(), 1);
}

#[tokio::test]
async fn each_recipient_has_its_own_verdict() {
    for (pipelining, chunking) in [(true, true), (true, false), (false, false)] {
        let provider = provider().with(way(pipelining, chunking)).start().await;
        provider.set_fault(
            Step::Rcpt("gone@example.com".into()),
            Fault::Reply("550 5.1.1 No such user".into()),
            Times::Always,
        );
        provider.set_fault(
            Step::Rcpt("full@example.com".into()),
            Fault::Reply("452 4.2.2 Mailbox full".into()),
            Times::First(1),
        );
        let relay = relay_to(&provider).start().await;
        let id = send_to(&relay, &["ok@example.com", "gone@example.com", "full@example.com"], TEXT).await;
        let of = |event: &'static str| {
            let id = id.clone();
            move |line: &str| field(line, "event") == Some(event) && line.contains(&id)
        };
        assert!(relay.wait_log(of("delivered"), SOON).await.contains("to=<ok@example.com>"));
        let failed = relay.wait_log(of("failed"), SOON).await;
        assert!(failed.contains("to=<gone@example.com>") && failed.contains("550 5.1.1 No such user"), "{failed}");
        let deferred = relay.wait_log(of("deferred"), SOON).await;
        assert!(
            deferred.contains("to=<full@example.com>") && deferred.contains("452 4.2.2 Mailbox full"),
            "{deferred}"
        );
        // The message, and the notice about the recipient who is gone.
        let messages = provider.wait_for_messages(2, SOON).await;
        let notice = messages.iter().find(|m| m.sender.is_empty()).expect("a notice");
        assert_eq!(notice.recipients, ["plc@example.com"]);
        let text = notice.text();
        for part in [
            "Content-Type: multipart/report; report-type=delivery-status;",
            "Final-Recipient: rfc822; gone@example.com\r\nAction: failed\r\nStatus: 5.1.1\r\n",
            "Subject: x\r\n",
            "Auto-Submitted: auto-replied",
        ] {
            assert!(text.contains(part), "{part}\n{text}");
        }
        assert!(!text.contains("full@example.com\r\nAction"));
        let notice = relay.wait_log(|line| line.contains("event=notified"), SOON).await;
        removed(&relay, field(&notice, "id").unwrap()).await;
        // The state is on disk: after a restart only the third is tried, and gets it.
        let mut relay = relay;
        relay.kill9();
        relay.restart().await;
        let messages = provider.wait_for_messages(3, SOON).await;
        assert_eq!(messages[2].recipients, ["full@example.com"]);
        removed(&relay, &id).await;
        assert_eq!(provider.complaints(), Vec::<String>::new());
    }
}

#[tokio::test]
async fn a_refused_notice_is_not_answered_by_another() {
    let provider = provider().start().await;
    provider.set_fault(Step::AnyRcpt, Fault::Reply("550 5.1.1 No such user".into()), Times::Always);
    let relay = relay_to(&provider).start().await;
    send_to(&relay, &["gone@example.com"], TEXT).await;
    relay.wait_log(|line| line.contains("event=unreported"), SOON).await;
    relay.wait_log(|line| line.contains("event=removed"), SOON).await;
    let notified = relay.log().iter().filter(|line| line.contains("event=notified")).count();
    assert_eq!(notified, 1);
}

#[tokio::test]
async fn a_sender_that_exists_nowhere_is_not_told_but_admin_is() {
    let provider = provider().start().await;
    provider.set_fault(Step::Rcpt("gone@example.com".into()), Fault::Reply("550 5.1.1 No".into()), Times::Always);
    let relay = relay_to(&provider).relay_option("admin", "admin@example.com").start().await;
    let mut device = Client::greeted(relay.addr()).await;
    device.dialogue(&[("EHLO plc", 250)]).await;
    assert_eq!(device.send("plc@plant.local", &["gone@example.com"], TEXT).await.code, 250);
    let messages = provider.wait_for_messages(1, SOON).await;
    assert_eq!(messages[0].recipients, ["admin@example.com"]);
}

#[tokio::test]
async fn an_outage_ends_by_itself() {
    let provider = provider().start().await;
    provider.stop().await;
    let relay = relay_to(&provider).start().await;
    let id = send_to(&relay, &["ops@example.com"], TEXT).await;
    relay.wait_log(|line| line.contains("event=paused") && line.contains("no connection to 127.0.0.1"), SOON).await;
    provider.restart().await;
    removed(&relay, &id).await;
    relay.wait_log(|line| line.contains("event=resumed"), SOON).await;
    assert_eq!(provider.messages().len(), 1);
}

#[tokio::test]
async fn what_the_provider_does_not_offer_is_converted_or_refused_with_the_reason() {
    let seven_bit = |s: &mut support::provider::Settings| {
        s.eight_bit_mime = false;
        s.smtputf8 = false;
    };
    let provider = provider().with(seven_bit).start().await;
    let relay = relay_to(&provider).start().await;
    send_to(
        &relay,
        &["ops@example.com"],
        "From: Gr\u{f6}\u{df}e <plc@example.com>\r\nTo: ops@example.com\r\nSubject: \u{fc}ber\r\n\r\n\u{dc}berlauf\r\n",
    )
    .await;
    let messages = provider.wait_for_messages(1, SOON).await;
    assert!(messages[0].data.is_ascii());
    assert!(messages[0].text().contains("=C3=9Cberlauf"), "{}", messages[0].text());
    assert!(messages[0].mail_params.iter().all(|p| !p.starts_with("BODY") && p != "SMTPUTF8"));

    let id = send_to(&relay, &["b\u{fc}ro@example.com"], TEXT).await;
    let line = relay.wait_log(|line| line.contains("event=failed") && line.contains(&id), SOON).await;
    assert!(line.contains("does not support international addresses (SMTPUTF8)"), "{line}");

    provider.change(|s| {
        s.eight_bit_mime = true;
        s.smtputf8 = true;
    });
    removed(&relay, &id).await;
    let notice = relay.wait_log(|line| line.contains("event=notified"), SOON).await;
    removed(&relay, field(&notice, "id").unwrap()).await;
    let relay = relay_to(&provider).start().await;
    let before = provider.messages().len();
    send_to(
        &relay,
        &["b\u{fc}ro@example.com"],
        "From: plc@example.com\r\nTo: x@example.com\r\nSubject: x\r\n\r\n\u{dc}ber\r\n",
    )
    .await;
    let messages = provider.wait_for_messages(before + 1, SOON).await;
    let mail = |m: &&support::provider::Message| m.recipients == ["b\u{fc}ro@example.com"];
    let Some(last) = messages.iter().find(mail) else { panic!("{messages:?}") };
    assert!(last.text().contains("\u{dc}ber\r\n"));
    assert!(
        last.mail_params.contains(&"BODY=8BITMIME".to_string()) && last.mail_params.contains(&"SMTPUTF8".to_string())
    );
    assert_eq!(provider.complaints(), Vec::<String>::new());
}

#[tokio::test]
async fn the_account_address_takes_the_place_of_the_devices() {
    let provider = provider().start().await;
    let relay = Relay::builder().durability("memory").account("provider", &provider).start().await;
    send_to(&relay, &["ops@example.com"], TEXT).await;
    let messages = provider.wait_for_messages(1, SOON).await;
    assert_eq!(messages[0].sender, "relay@provider.example");
    assert_eq!(messages[0].header("From").as_deref(), Some("\"plc@example.com\" <relay@provider.example>"));
    assert_eq!(messages[0].header("Reply-To").as_deref(), Some("plc@example.com"));
}

#[tokio::test]
async fn mail_that_gets_too_old_is_given_up_and_somebody_hears_of_it() {
    let provider = provider().start().await;
    provider.set_fault(Step::Rcpt("ops@example.com".into()), Fault::Reply("451 4.3.0 later".into()), Times::Always);
    let relay = relay_to(&provider).relay_option("retry_for", "10s").start().await;
    let id = send_to(&relay, &["ops@example.com"], TEXT).await;
    let limit = Duration::from_secs(180);
    let line = relay.wait_log(|line| line.contains("event=failed") && line.contains(&id), limit).await;
    assert!(line.contains("given up after 10s") && line.contains("451 4.3.0 later"), "{line}");
    let messages = provider.wait_for_messages(1, SOON).await;
    assert_eq!(
        (messages[0].sender.as_str(), messages[0].recipients.as_slice()),
        ("", &["plc@example.com".to_string()][..])
    );
}

/// A device that has said whom its mail is for, and nothing of its text yet.
async fn begun(relay: &Relay) -> Client {
    let mut device = Client::greeted(relay.addr()).await;
    device
        .dialogue(&[("EHLO plc", 250), ("MAIL FROM:<plc@example.com>", 250), ("RCPT TO:<ops@example.com>", 250)])
        .await;
    device
}

#[tokio::test]
async fn the_connection_is_there_before_the_text_is() {
    let provider = provider().start().await;
    let relay = relay_to(&provider).start().await;
    let mut device = begun(&relay).await;
    let is_ready = |record: &support::provider::Record| {
        record.connections.first().is_some_and(|c| c.logins.iter().any(|login| login.accepted)).then_some(())
    };
    provider.wait_until("a login before there is a text", SOON, is_ready).await;
    // Another one that begins meanwhile needs no second connection.
    let other = begun(&relay).await;
    device.dialogue(&[("DATA", 354)]).await;
    device.write(TEXT.as_bytes()).await.unwrap();
    device.dialogue(&[(".", 250)]).await;
    provider.wait_for_messages(1, SOON).await;
    assert_eq!(provider.connections().len(), 1, "{}", provider.transcript());
    drop(other);
}

#[tokio::test]
async fn mail_that_was_only_begun_leaves_no_trouble_behind() {
    let provider = provider().start().await;
    let port = provider.port();
    provider.stop().await;
    let relay = relay_to(&provider).start().await;
    // The provider is away; the device thinks better of it, again and again.
    for _ in 0..3 {
        let mut device = begun(&relay).await;
        device.dialogue(&[("RSET", 250), ("QUIT", 221)]).await;
    }
    // Nobody waits for the provider: the account is not in trouble.
    assert!(!relay.log().iter().any(|line| line.contains("event=paused")), "{:?}", relay.log());
    assert!(said(&relay, "status").await.contains("Relaying"));
    assert_eq!(provider.port(), port);
    provider.restart().await;
    let id = send_to(&relay, &["ops@example.com"], TEXT).await;
    removed(&relay, &id).await;
}
