// SPDX-License-Identifier: Apache-2.0
//! Several accounts: which mail takes which, and who steps in for whom.

mod support;

use std::time::Duration;

use support::client::Client;
use support::provider::{Fault, Provider, ProviderBuilder, Step, Times, TlsMode};
use support::relay::{Relay, RelayBuilder, Section, field};

const SOON: Duration = Duration::from_secs(60);

fn provider() -> ProviderBuilder {
    Provider::builder().tls(TlsMode::Implicit).login("u", "p")
}

fn account(name: &str, provider: &Provider) -> Section {
    Section::account(name, provider).option("from_policy", "keep").option("timeout", "5s")
}

fn relay_to(first: &Provider, second: &Provider) -> RelayBuilder {
    Relay::builder().durability("always").section(account("first", first)).section(account("second", second))
}

async fn send(relay: &Relay, from: &str, to: &[&str], subject: &str) {
    let mut device = Client::greeted(relay.addr()).await;
    device.dialogue(&[("EHLO plc", 250)]).await;
    let text = format!("From: {from}\r\nSubject: {subject}\r\n\r\nalarm\r\n");
    assert_eq!(device.send(from, to, &text).await.code, 250);
}

/// Subjects of what has arrived, in order.
fn subjects(provider: &Provider) -> Vec<String> {
    provider.messages().iter().filter_map(|message| message.header("Subject")).collect()
}

async fn delivered(relay: &Relay, count: usize) {
    relay.wait_lines(|line| field(line, "event") == Some("removed"), count, SOON).await;
}

/// The first account meets `trouble`; mail takes the second, and the first again when `mend` has ended it.
async fn steps_in(trouble: impl AsyncFnOnce(&Provider), mend: impl AsyncFnOnce(&Provider)) {
    let (first, second) = (provider().start().await, provider().start().await);
    let relay = relay_to(&first, &second).start().await;
    send(&relay, "plc@example.com", &["ops@example.com"], "before").await;
    delivered(&relay, 1).await;
    assert_eq!((subjects(&first), subjects(&second)), (vec!["before".into()], vec![]));
    // The kept connection is of the time before.
    first.restart().await;
    trouble(&first).await;
    for n in 0..5 {
        send(&relay, "plc@example.com", &["ops@example.com"], &format!("during {n}")).await;
    }
    delivered(&relay, 6).await;
    let mut during = subjects(&second);
    during.sort();
    assert_eq!(during, ["during 0", "during 1", "during 2", "during 3", "during 4"]);
    mend(&first).await;
    assert!(relay.command(&["wake", "test"]).await.status.success());
    send(&relay, "plc@example.com", &["ops@example.com"], "after").await;
    delivered(&relay, 7).await;
    assert_eq!(subjects(&first), ["before", "after"]);
    assert_eq!(subjects(&second).len(), 5);
    for provider in [&first, &second] {
        assert_eq!(provider.complaints(), Vec::<String>::new());
    }
}

#[tokio::test]
async fn the_second_account_steps_in_when_the_first_is_refused() {
    steps_in(async |first| first.stop().await, async |first| first.restart().await).await;
}

#[tokio::test]
async fn the_second_account_steps_in_when_the_login_is_refused() {
    let refusal = || Fault::Reply("535 5.7.8 Authentication credentials invalid".into());
    steps_in(async |first| first.set_fault(Step::Auth, refusal(), Times::Always), async |first| first.clear_faults())
        .await;
}

#[tokio::test]
async fn the_second_account_steps_in_when_the_quota_is_used_up() {
    let refusal = || Fault::Reply("550 5.4.5 Daily user sending limit exceeded".into());
    steps_in(async |first| first.set_fault(Step::Mail, refusal(), Times::Always), async |first| first.clear_faults())
        .await;
}

#[tokio::test]
async fn the_second_account_steps_in_when_the_first_is_silent() {
    steps_in(
        async |first| first.set_fault(Step::Greeting, Fault::Hang, Times::Always),
        async |first| first.clear_faults(),
    )
    .await;
}

#[tokio::test]
async fn rules_send_mail_their_way_and_a_message_may_take_two() {
    let (first, second) = (provider().start().await, provider().start().await);
    let relay = relay_to(&first, &second)
        .section(Section::new("route", "by_sender").list("account", "second").list("sender", "camera*@*"))
        .section(Section::new("route", "by_recipient").list("account", "second").list("recipient", "*@second.example"))
        .start()
        .await;
    send(&relay, "plc@example.com", &["ops@example.com"], "general").await;
    send(&relay, "Camera7@example.com", &["ops@example.com"], "camera").await;
    send(&relay, "plc@example.com", &["a@example.com", "b@second.example", "c@example.com"], "both").await;
    delivered(&relay, 3).await;
    let mut found = (subjects(&first), subjects(&second));
    found.0.sort();
    found.1.sort();
    assert_eq!(found, (vec!["both".into(), "general".into()], vec!["both".into(), "camera".into()]));
    let both = |provider: &Provider| {
        let message = provider.messages().into_iter().find(|m| m.header("Subject").as_deref() == Some("both"));
        message.expect("its part of the message").recipients
    };
    assert_eq!(both(&first), ["a@example.com", "c@example.com"]);
    assert_eq!(both(&second), ["b@second.example"]);
}

#[tokio::test]
async fn a_paused_route_holds_up_no_other_and_waiting_mail_follows_new_rules() {
    let (first, second) = (provider().start().await, provider().start().await);
    let camera = Section::new("route", "cameras").list("account", "second").list("sender", "camera*@*");
    let mut relay = relay_to(&first, &second).section(camera).start().await;
    second.stop().await;
    for n in 0..20 {
        send(&relay, "camera@example.com", &["ops@example.com"], &format!("camera {n}")).await;
    }
    send(&relay, "plc@example.com", &["ops@example.com"], "alarm").await;
    delivered(&relay, 1).await;
    assert_eq!(subjects(&first), ["alarm"]);
    // Another run reads its way from the file.
    relay.restart().await;
    send(&relay, "plc@example.com", &["ops@example.com"], "alarm 2").await;
    first.wait_for_messages(2, SOON).await;
    assert_eq!(subjects(&first), ["alarm", "alarm 2"]);
    relay.configure("route", "cameras", |_| {
        Section::new("route", "cameras").list("account", "first").list("sender", "camera*@*")
    });
    relay.sighup();
    first.wait_for_messages(22, SOON).await;
    assert_eq!(subjects(&second), Vec::<String>::new());
    let mut all = subjects(&first);
    all.sort();
    all.dedup();
    assert_eq!(all.len(), 22, "each once");
}

#[tokio::test]
async fn rules_that_lead_nowhere_are_told() {
    let (first, second) = (provider().start().await, provider().start().await);
    let relay = relay_to(&first, &second).section(Section::new("route", "x").list("account", "third")).prepare();
    let check = relay.command(&["check"]).await;
    // The account may just have been deleted: it must not go on because settings are refused.
    assert!(check.status.success());
    let said = String::from_utf8_lossy(&check.stderr).into_owned();
    assert!(said.contains("list account 'third': no enabled account has this name"), "{said}");
}
