//! Large messages and full disks.

mod support;

use std::path::Path;
use std::process::Command;
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

/// A file system of a few hundred kB, mounted where only root may; gone with the value.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn mount(options: &str) -> Option<SmallDisk> {
        let dir = tempfile::tempdir().unwrap();
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(dir.path()).status();
        if mounted.is_ok_and(|status| status.success()) {
            return Some(SmallDisk(dir));
        }
        println!("skipped: only root can mount a small disk");
        None
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.path()).status();
    }
}

#[tokio::test]
async fn a_full_disk_is_a_452_keeps_nothing_half_and_recovers() {
    let Some(disk) = SmallDisk::mount("size=256k") else { return };
    let relay = Relay::builder()
        .durability("always")
        .relay_option("safe_spool", disk.path().join("spool").display())
        .section(Section::custom_account("provider", "127.0.0.1", 1, "implicit"))
        .start()
        .await;
    let queue = disk.path().join("spool/queue");
    let files = || std::fs::read_dir(&queue).unwrap().count();
    let text =
        |kilobytes: usize| format!("Subject: x\r\n\r\n{}", format!("{}\r\n", "x".repeat(62)).repeat(16 * kilobytes));
    let mut device = hello(&relay).await;
    // Sizes on both sides of what is written in one piece.
    let mut full = Vec::new();
    for kilobytes in [300, 4] {
        let mut accepted = files();
        loop {
            let code = device.send("plc@example.com", &["ops@example.com"], &text(kilobytes)).await.code;
            if code != 250 {
                assert_eq!(code, 452);
                break;
            }
            accepted += 1;
        }
        full.push(accepted);
        // The half-written file is removed behind the reply.
        while files() != accepted {
            tokio::task::yield_now().await;
        }
    }
    assert_eq!(full[0], 0);
    assert!(full[1] > 10, "{full:?}");
    // Space returns.
    let one = std::fs::read_dir(&queue).unwrap().next().unwrap().unwrap().path();
    std::fs::remove_file(one).unwrap();
    assert_eq!(device.send("plc@example.com", &["ops@example.com"], &text(4)).await.code, 250);
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
