// SPDX-License-Identifier: Apache-2.0
//! What one device sends holds up no other: the backlog of one, however it came about, and an alarm of another.

mod support;

use std::net::IpAddr;

use support::ask::{SOON, queue_until, said};
use support::client::Client;
use support::provider::{Fault, Gate, Provider, Step, Times, TlsMode};
use support::relay::{Relay, RelayBuilder, Section, field};

/// Messages of the device with a backlog: more than are remembered as new in any way.
const BACKLOG: usize = 300;
/// Messages that may leave before the alarm does: those under way when it came, and a few turns.
const AHEAD: usize = 10;

async fn provider() -> Provider {
    Provider::builder().tls(TlsMode::None).start().await
}

fn account(name: &str, provider: &Provider) -> Section {
    Section::account(name, provider).option("from_policy", "keep").option("connections", "1")
}

fn builder() -> RelayBuilder {
    Relay::builder().relay_option("hostname", "gw.example").durability("memory").allow("127.0.0.0/8")
}

async fn device(relay: &Relay, number: u8) -> Client {
    let mut device = Client::greeted_from(IpAddr::from([127, 0, 0, number]), relay.addr()).await;
    device.set_limit(SOON);
    device.dialogue(&[("EHLO plc", 250)]).await;
    device
}

async fn send(device: &mut Client, subject: &str) {
    let text = format!("From: plc@example.com\r\nSubject: {subject}\r\n\r\nalarm\r\n");
    assert_eq!(device.send("plc@example.com", &["ops@example.com"], &text).await.code, 250);
}

/// One device sends a lot, then another an alarm.
async fn backlog_and_alarm(relay: &Relay) {
    let mut chatty = device(relay, 2).await;
    for number in 0..BACKLOG {
        send(&mut chatty, &format!("noise {number}")).await;
    }
    send(&mut device(relay, 3).await, "alarm").await;
}

/// How many messages the provider got before the alarm.
async fn ahead_of_the_alarm(provider: &Provider) -> usize {
    provider
        .wait_until("the alarm", SOON, |record| {
            let messages = record.attempts.iter();
            messages.map(|message| message.header("Subject")).position(|subject| subject.as_deref() == Some("alarm"))
        })
        .await
}

fn is_soon(ahead: usize) {
    assert!(ahead <= AHEAD, "{ahead} messages of another device left before the alarm");
}

#[tokio::test]
async fn an_alarm_leaves_before_the_backlog_of_another_device() {
    let provider = provider().await;
    let gate = Gate::closed();
    provider.set_fault(Step::Dot, Fault::Hold(gate.clone()), Times::First(1));
    let relay = builder().section(account("provider", &provider)).start().await;
    backlog_and_alarm(&relay).await;
    gate.open();
    is_soon(ahead_of_the_alarm(&provider).await);
}

#[tokio::test]
async fn an_alarm_leaves_before_what_was_deferred_of_another_device() {
    let provider = provider().await;
    provider.set_fault(Step::AnyRcpt, Fault::Reply("451 4.7.1 Greylisted".into()), Times::Always);
    let relay = builder().section(account("provider", &provider)).start().await;
    backlog_and_alarm(&relay).await;
    let deferred = |messages: &[serde_json::Value]| messages.iter().all(|message| message["standing"] == "later");
    queue_until(&relay, deferred).await;
    provider.clear_faults();
    said(&relay, "queue retry all").await;
    is_soon(ahead_of_the_alarm(&provider).await);
}

#[tokio::test]
async fn an_alarm_leaves_before_the_backlog_of_another_device_after_a_restart() {
    let provider = provider().await;
    provider.stop().await;
    let mut relay = builder().section(account("provider", &provider)).start().await;
    backlog_and_alarm(&relay).await;
    relay.kill9();
    provider.restart().await;
    let gate = Gate::closed();
    provider.set_fault(Step::Dot, Fault::Hold(gate.clone()), Times::First(1));
    relay.restart().await;
    queue_until(&relay, |messages| messages.len() == BACKLOG + 1).await;
    gate.open();
    is_soon(ahead_of_the_alarm(&provider).await);
}

#[tokio::test]
async fn an_alarm_of_another_route_leaves_before_a_backlog_at_the_same_account() {
    let provider = provider().await;
    let gate = Gate::closed();
    provider.set_fault(Step::Dot, Fault::Hold(gate.clone()), Times::First(1));
    let route = Section::new("route", "alarms").list("client", "127.0.0.3").list("account", "provider");
    let relay = builder().section(account("provider", &provider)).section(account("other", &provider)).section(route);
    let relay = relay.start().await;
    backlog_and_alarm(&relay).await;
    gate.open();
    is_soon(ahead_of_the_alarm(&provider).await);
}

/// A device that has a section is one client, whichever of its addresses it uses; its digest is its own as well.
#[tokio::test]
async fn a_named_device_has_one_turn_whatever_its_address() {
    let provider = provider().await;
    let gate = Gate::closed();
    provider.set_fault(Step::Dot, Fault::Hold(gate.clone()), Times::First(1));
    let both = Section::new("device", "camera").list("ip", "127.0.0.2").list("ip", "127.0.0.4");
    let relay = builder().section(account("provider", &provider)).section(both).start().await;
    let (mut first, mut second) = (device(&relay, 2).await, device(&relay, 4).await);
    for number in 0..20 {
        send(&mut first, &format!("first {number}")).await;
        send(&mut second, &format!("second {number}")).await;
    }
    let mut other = device(&relay, 3).await;
    for number in 0..20 {
        send(&mut other, &format!("other {number}")).await;
    }
    gate.open();
    let messages = provider.wait_for_messages(60, SOON).await;
    let is_other = |message: &support::provider::Message| {
        message.header("Subject").is_some_and(|subject| subject.starts_with("other"))
    };
    let place = messages.iter().rposition(is_other).expect("all have come");
    // Every other one, until it has sent all of its own.
    assert!(place <= 45, "the last of 20 messages came as number {place}");
}

#[tokio::test]
async fn an_alarm_does_not_wait_for_slow_mail_of_another_device() {
    let provider = provider().await;
    let gate = Gate::closed();
    provider.set_fault(Step::Rcpt("slow@example.com".into()), Fault::Hold(gate.clone()), Times::Always);
    let relay = builder().section(account("provider", &provider).option("connections", "2")).start().await;
    let mut slow = device(&relay, 2).await;
    for _ in 0..5 {
        assert_eq!(slow.send("plc@example.com", &["slow@example.com"], "Subject: slow\r\n\r\nx\r\n").await.code, 250);
    }
    send(&mut device(&relay, 3).await, "alarm").await;
    // While the provider still takes its time.
    ahead_of_the_alarm(&provider).await;
    gate.open();
    provider.wait_for_messages(6, SOON).await;
}

/// The slow mail waits for another account as well, and takes this one for its second recipient.
#[tokio::test]
async fn an_alarm_does_not_wait_for_slow_mail_that_takes_two_routes() {
    let provider = provider().await;
    let gate = Gate::closed();
    provider.set_fault(Step::Rcpt("slow@example.com".into()), Fault::Hold(gate.clone()), Times::Always);
    let nowhere = Section::custom_account("nowhere", "127.0.0.1", 1, "implicit").option("default", "0");
    let route = Section::new("route", "far").list("recipient", "*@far.example").list("account", "nowhere");
    let relay = builder().section(nowhere).section(account("provider", &provider).option("connections", "2"));
    let relay = relay.section(route).start().await;
    let mut slow = device(&relay, 2).await;
    let both = &["ops@far.example", "slow@example.com"];
    for _ in 0..5 {
        assert_eq!(slow.send("plc@example.com", both, "Subject: slow\r\n\r\nx\r\n").await.code, 250);
    }
    let is_paused = |line: &str| field(line, "event") == Some("paused") && field(line, "account") == Some("nowhere");
    relay.wait_log(is_paused, SOON).await;
    queue_until(&relay, |all| all.len() == 5 && all.iter().any(|one| one["standing"] == "sending")).await;
    send(&mut device(&relay, 3).await, "alarm").await;
    // While the provider still takes its time.
    ahead_of_the_alarm(&provider).await;
    gate.open();
    provider.wait_for_messages(6, SOON).await;
}

/// A device that sends until it is refused leaves room for others.
#[tokio::test]
async fn a_queue_that_one_device_has_filled_takes_mail_of_another() {
    let nowhere = Section::custom_account("provider", "127.0.0.1", 1, "implicit");
    let relay = builder().relay_option("spool_limit", "200K").section(nowhere).start().await;
    let mut greedy = device(&relay, 2).await;
    let mut taken = 0;
    loop {
        let reply = greedy.command("MAIL FROM:<plc@example.com>").await;
        if reply.code != 250 {
            assert_eq!((reply.code, reply.text().contains("from this client")), (452, true), "{reply:?}");
            break;
        }
        greedy.dialogue(&[("RSET", 250)]).await;
        send(&mut greedy, &"x".repeat(900)).await;
        taken += 1;
    }
    assert!(taken > 20, "{taken}");
    send(&mut device(&relay, 3).await, "alarm").await;
}
