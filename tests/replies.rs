//! Replies that mean another thing than they seem to, and servers that count what is said on one connection.

mod support;

use std::time::Duration;

use serde_json::Value;
use support::ask::{json, queue_until, run, said};
use support::client::Client;
use support::provider::{Fault, Provider, ProviderBuilder, Step, Times, TlsMode};
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
        relay.sighup();
        relay.wait_log(is("removed", &id), SOON).await;
        assert_eq!(copies(&provider), 1, "{what}\n{}", provider.transcript());
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
        provider.set_fault(Step::Dot, fault.clone(), Times::Always);
        let mut relay = relay_to(&provider).relay_option("retry_min", "1h").start().await;
        let id = send(&relay, &["ops@example.com"]).await;
        let doubts = |count: u64| move |all: &[Value]| all[0]["doubts"] == count && all[0]["standing"] == "later";
        queue_until(&relay, doubts(1)).await;
        relay.kill9();
        relay.restart().await;
        queue_until(&relay, doubts(2)).await;
        said(&relay, "queue retry all").await;
        let line = relay.wait_log(is("held", &id), SOON).await;
        assert!(line.contains("it was sent 3 times") && line.contains("queue release"), "{line}");
        provider.clear_faults();
        let offers = || provider.record().attempts.iter().filter(|m| !m.sender.is_empty()).count();
        assert_eq!((copies(&provider), offers()), (if taken { 3 } else { 0 }, 3), "{fault:?}");
        // Whoever sent it hears of it.
        let notice = |record: &support::provider::Record| {
            let all = record.attempts.iter();
            all.filter(|m| m.accepted && m.sender.is_empty()).map(|m| m.text().to_string()).next()
        };
        let text = provider.wait_until("the notice", SOON, notice).await;
        assert!(text.contains("Subject: Perhaps not delivered: mail from 127.0.0.1"), "{text}");
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
