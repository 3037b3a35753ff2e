// SPDX-License-Identifier: Apache-2.0
//! The mail after a start of the router: once, when the clock is set, with the reason.

mod support;

use std::time::Duration;

use serde_json::Value;
use support::ask::{SOON, send};
use support::mime::parsed;
use support::provider::{Message, Provider, TlsMode};
use support::relay::{Relay, RelayBuilder, Section, field};
use support::timewarp::TimeWarp;

/// 2027-03-01 12:00 UTC.
const NOON: i64 = 1_803_902_400;
/// Longer than an uplink is waited for: where the tests run, there may be none.
const PATIENCE: Duration = Duration::from_secs(660);
const QUIET: Duration = Duration::from_millis(25);
const BOOT: &str = "Started: gw.example";

fn relay_to(provider: &Provider) -> RelayBuilder {
    let account = Section::account("provider", provider).option("from_policy", "keep");
    let builder = Relay::builder().relay_option("hostname", "gw.example").relay_option("admin", "admin@example.com");
    builder.relay_option("notify_boot", "1").section(account)
}

fn boot_mails(provider: &Provider) -> Vec<Message> {
    let messages = provider.messages().into_iter();
    messages.filter(|message| message.header("Subject").as_deref() == Some(BOOT)).collect()
}

/// Lets time pass until so many boot mails have arrived, and reads the last one: its text with single blanks. None
/// without a parser.
async fn boot_mail(time: &TimeWarp, provider: &Provider, count: usize) -> Option<String> {
    let there = || boot_mails(provider).len() >= count;
    let took = time.advance_until(2 * PATIENCE, Duration::from_secs(5), QUIET, there).await;
    assert!(took.is_some(), "boot mail {count} never came");
    let mails = boot_mails(provider);
    assert_eq!(mails.len(), count);
    let mail = mails.last().expect("one at least");
    assert_eq!(mail.recipients, ["admin@example.com"]);
    let found: Value = parsed(&mail.data)?;
    let text = found["parts"][0]["text"].as_str().expect("text").to_owned();
    println!("{text}");
    Some(text.split_whitespace().collect::<Vec<_>>().join(" "))
}

async fn restart(time: &TimeWarp, relay: &mut Relay) {
    relay.restart().await;
    assert!(time.rule(relay));
}

#[tokio::test]
async fn once_per_boot_with_the_reason() {
    let Some(time) = TimeWarp::new(NOON) else { return };
    let provider = Provider::builder().tls(TlsMode::None).start().await;
    let mut relay = time.around(relay_to(&provider)).start().await;
    if !time.rule(&relay) {
        return;
    }
    // Nothing is known of an earlier run.
    let Some(text) = boot_mail(&time, &provider, 1).await else { return };
    assert!(text.contains("No messages were queued."), "{text}");
    assert!(text.contains("Reason: unknown"), "{text}");
    // Neither a restart nor a crash of the program is a boot.
    restart(&time, &mut relay).await;
    time.advance(PATIENCE, QUIET).await;
    relay.kill9();
    restart(&time, &mut relay).await;
    time.advance(PATIENCE, QUIET).await;
    assert_eq!(boot_mails(&provider).len(), 1);
    // A reboot in order, with mail waiting.
    provider.stop().await;
    send(&relay, &["ops@example.com"], "waits").await;
    relay.sigterm();
    relay.wait_exit().await;
    time.reboot();
    provider.restart().await;
    restart(&time, &mut relay).await;
    let text = boot_mail(&time, &provider, 2).await.expect("a parser");
    for part in [
        "The mail gateway gw.example started on Mon, 01 Mar 2027",
        "Reason: clean restart at Mon, 01 Mar 2027",
        "1 message was queued, ",
        "smtprelay 0.",
    ] {
        assert!(text.contains(part), "{part} is missing in {text}");
    }
    // The addresses of this machine: all but the loopback.
    let addresses = smtprelay::system::interfaces::addresses().unwrap();
    for address in addresses.iter().filter(|address| !address.ip.is_loopback()) {
        assert!(text.contains(&format!("{} {}", address.interface, address.ip)), "{address:?} is missing in {text}");
    }
    // The power fails.
    relay.kill9();
    time.reboot();
    restart(&time, &mut relay).await;
    let text = boot_mail(&time, &provider, 3).await.expect("a parser");
    assert!(text.contains("Reason: power failure or system hang"), "{text}");
    assert!(!text.contains("clean restart"), "{text}");
}

#[tokio::test]
async fn not_before_the_clock_is_set_and_the_reason_outlives_a_restart_before_that() {
    const WRONG: i64 = 1_748_736_000;
    let Some(time) = TimeWarp::new(NOON) else { return };
    let provider = Provider::builder().tls(TlsMode::None).start().await;
    let mut relay = time.around(relay_to(&provider).relay_option("notify_boot", "0")).start().await;
    if !time.rule(&relay) {
        return;
    }
    time.advance(PATIENCE, QUIET).await;
    assert_eq!(boot_mails(&provider).len(), 0, "it is not wanted");
    relay.configure("relay", "main", |section| section.option("notify_boot", "1"));
    relay.kill9();
    time.reboot();
    time.set_wall(WRONG);
    restart(&time, &mut relay).await;
    time.advance(PATIENCE, QUIET).await;
    // Early in a boot programs are restarted when the network comes up.
    restart(&time, &mut relay).await;
    time.advance(PATIENCE, QUIET).await;
    assert_eq!(provider.messages().len(), 0);
    assert!(!relay.log().iter().any(|line| field(line, "event") == Some("notified")));
    time.set_wall(NOON);
    let Some(text) = boot_mail(&time, &provider, 1).await else { return };
    assert!(text.contains("Reason: power failure or system hang"), "{text}");
    let minutes = 2 * PATIENCE.as_secs() / 60;
    assert!(text.contains(&format!(" {minutes} minutes ")), "up for {minutes} minutes: {text}");
    relay.wait_log(|line| field(line, "event") == Some("notified"), SOON).await;
    // Told is told.
    restart(&time, &mut relay).await;
    time.advance(PATIENCE, QUIET).await;
    assert_eq!(boot_mails(&provider).len(), 1);
}
