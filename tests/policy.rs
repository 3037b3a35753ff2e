//! Whom the mail of a device goes to: fixed, allowed and rewritten recipients, and aliases.

mod support;

use std::time::Duration;

use support::client::Client;
use support::provider::{Provider, TlsMode};
use support::relay::{Relay, Section};

const SOON: Duration = Duration::from_secs(60);
const TEXT: &str = "Subject: alarm\r\n\r\nx\r\n";

async fn relay_with(provider: &Provider, sections: Vec<Section>) -> Relay {
    let account = Section::account("provider", provider).option("from_policy", "keep");
    let builder = Relay::builder().durability("memory").relay_option("admin", "admin@example.com").section(account);
    sections.into_iter().fold(builder, |builder, section| builder.section(section)).start().await
}

fn alias(name: &str, to: &[&str]) -> Section {
    let section = name.replace(|c: char| !c.is_ascii_alphanumeric(), "_");
    to.iter().fold(Section::new("alias", &section).list("name", name), |section, to| section.list("to", to))
}

async fn hello(relay: &Relay) -> Client {
    let mut device = Client::greeted(relay.addr()).await;
    device.dialogue(&[("EHLO plc", 250)]).await;
    device
}

async fn recipients(provider: &Provider, count: usize) -> Vec<String> {
    provider.wait_for_messages(count, SOON).await.pop().expect("a message").recipients
}

#[tokio::test]
async fn aliases_say_who_is_meant() {
    let provider = Provider::builder().tls(TlsMode::Implicit).login("u", "p").start().await;
    let relay = relay_with(
        &provider,
        vec![
            alias("root", &["staff"]),
            alias("staff", &["me@example.com", "you@example.com"]),
            alias("*@plant.local", &["plant@example.com"]),
        ],
    )
    .await;
    let mut device = hello(&relay).await;
    let cases: [(&[&str], &[&str]); 4] = [
        (&["root"], &["me@example.com", "you@example.com"]),
        (&["x@plant.local", "me@example.com", "root"], &["plant@example.com", "me@example.com", "you@example.com"]),
        // Nobody explains it, so the admin gets it.
        (&["postmaster"], &["admin@example.com"]),
        (&["ops@example.com"], &["ops@example.com"]),
    ];
    for (number, (named, meant)) in cases.iter().enumerate() {
        assert_eq!(device.send("plc@example.com", named, TEXT).await.code, 250);
        assert_eq!(recipients(&provider, number + 1).await, *meant, "{named:?}");
    }
    // Programs of this host are meant as well.
    let sent = relay.command_with_input(&["send", "root"], b"Subject: cron\n\nx\n").await;
    assert!(sent.status.success());
    assert_eq!(recipients(&provider, cases.len() + 1).await, ["me@example.com", "you@example.com"]);
}

#[tokio::test]
async fn a_device_writes_to_whom_it_may() {
    let provider = Provider::builder().tls(TlsMode::Implicit).login("u", "p").start().await;
    let section = Section::new("device", "pump")
        .list("ip", "127.0.0.1")
        .list("allow_recipient", "*@example.com")
        .list("rewrite", "*@plant.local ops@example.com");
    let relay = relay_with(&provider, vec![section]).await;
    let mut device = hello(&relay).await;
    device.dialogue(&[("MAIL FROM:<plc@example.com>", 250), ("RCPT TO:<evil@example.org>", 550)]).await;
    let refused = relay.wait_log(|line| line.contains("event=rejected"), SOON).await;
    assert!(refused.contains("pump may not send to evil@example.org (list allow_recipient"), "{refused}");
    device.dialogue(&[("RCPT TO:<a@plant.local>", 250), ("RCPT TO:<b@example.com>", 250), ("DATA", 354)]).await;
    device.write(format!("{TEXT}.\r\n").as_bytes()).await.unwrap();
    device.expect(250).await;
    assert_eq!(recipients(&provider, 1).await, ["ops@example.com", "b@example.com"]);
}

#[tokio::test]
async fn a_device_with_fixed_recipients_may_say_what_it_likes() {
    let provider = Provider::builder().tls(TlsMode::Implicit).login("u", "p").start().await;
    let fixed = Section::new("device", "default").list("recipient", "ops@example.com").list("recipient", "root");
    let relay = relay_with(&provider, vec![fixed, alias("root", &["me@example.com"])]).await;
    let mut device = hello(&relay).await;
    for (number, named) in ["whoever", "a@b.c"].into_iter().enumerate() {
        assert_eq!(device.send("plc@example.com", &[named], TEXT).await.code, 250);
        assert_eq!(recipients(&provider, number + 1).await, ["ops@example.com", "me@example.com"]);
    }
}
