// SPDX-License-Identifier: Apache-2.0
//! Large messages and a full queue.

mod support;

use std::time::Duration;

use support::client::Client;
use support::provider::{Provider, TlsMode};
use support::relay::{Relay, Section};

const SOON: Duration = Duration::from_secs(240);

/// Kilobytes of memory that the process has used at its peak.
fn peak(relay: &Relay) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", relay.pid())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

async fn hello(relay: &Relay) -> Client {
    let mut device = Client::greeted(relay.addr()).await;
    device.set_limit(SOON);
    device.dialogue(&[("EHLO plc", 250)]).await;
    device
}

#[tokio::test]
async fn memory_does_not_grow_with_the_message() {
    const MEGABYTE: usize = 1 << 20;
    let provider =
        Provider::builder().tls(TlsMode::Implicit).login("u", "p").with(|s| s.size = Some(100 << 20)).start().await;
    let account = Section::account("provider", &provider).option("from_policy", "keep");
    let relay = Relay::builder().durability("always").relay_option("spool_limit", "64M").section(account).start().await;
    let line = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789abcd\r\n";
    let header = "From: plc@example.com\r\nTo: ops@example.com\r\nSubject: x\r\n\r\n";
    // The first message fills caches and loads certificates.
    let small = format!("{header}{}", line.repeat(100));
    assert_eq!(hello(&relay).await.send("plc@example.com", &["ops@example.com"], &small).await.code, 250);
    provider.wait_for_messages(1, SOON).await;
    let before = peak(&relay);
    let large = format!("{header}{}", line.repeat(25 * MEGABYTE / line.len() - 10));
    assert_eq!(hello(&relay).await.send("plc@example.com", &["ops@example.com"], &large).await.code, 250);
    let messages = provider.wait_for_messages(2, SOON).await;
    assert!(messages[1].text().ends_with(&large[header.len()..]));
    let grown = peak(&relay).saturating_sub(before);
    println!("peak memory before: {before} kB; a message of {} bytes added {grown} kB", large.len());
    if std::env::var_os("SMTPRELAY_RUNNER").is_none() {
        assert!(grown < 4096, "a message of 25 MB took {grown} kB of memory");
    }
}

#[tokio::test]
async fn the_limit_of_the_queue_is_a_452_before_the_text() {
    let relay = Relay::builder()
        .durability("memory")
        .relay_option("spool_limit", "100K")
        .section(Section::custom_account("provider", "127.0.0.1", 1, "implicit"))
        .start()
        .await;
    let mut device = hello(&relay).await;
    let text = format!("Subject: x\r\n\r\n{}", "0123456789abcde\r\n".repeat(3500));
    assert_eq!(device.send("a@b.c", &["d@e.f"], &text).await.code, 250);
    device.dialogue(&[("MAIL FROM:<a@b.c> SIZE=60000", 452), ("MAIL FROM:<a@b.c> SIZE=20000", 250)]).await;
    assert_eq!(device.send("a@b.c", &["d@e.f"], &text).await.code, 452);
    assert_eq!(device.send("a@b.c", &["d@e.f"], "Subject: x\r\n\r\nsmall\r\n").await.code, 250);
}
