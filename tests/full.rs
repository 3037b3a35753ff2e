// SPDX-License-Identifier: Apache-2.0
//! A disk that is full, or takes nothing any more, at every place where something is written: nothing is lost, nothing half-kept, and the gateway is
//! back at work by itself when there is room again.

mod support;

use std::os::unix::fs::MetadataExt;
use std::time::Duration;

use support::client::Client;
use support::disk::{SmallDisk, files, wait_for_files};
use support::provider::{Fault, Provider, Step, Times, TlsMode};
use support::relay::{Relay, Section, field};
use support::timewarp::TimeWarp;

const SOON: Duration = Duration::from_secs(100);
/// 2027-03-01 12:00 UTC.
const NOON: i64 = 1_803_902_400;
/// kB that a message takes on disk beside its text, at most: header, envelope, the last page.
const BESIDE: usize = 16;

async fn hello(relay: &Relay) -> Client {
    let mut device = Client::greeted(relay.addr()).await;
    device.set_limit(SOON);
    device.dialogue(&[("EHLO plc", 250)]).await;
    device
}

fn text(name: &str, kilobytes: usize) -> String {
    let line = format!("{}\r\n", "x".repeat(62));
    format!("From: plc@example.com\r\nTo: ops@example.com\r\nSubject: {name}\r\n\r\n{}", line.repeat(16 * kilobytes))
}

/// Sends a message and says the reply that decided about it: the first one that is not what a client hopes for.
async fn offer(device: &mut Client, name: &str, kilobytes: usize) -> u16 {
    for (line, wanted) in [("MAIL FROM:<plc@example.com>", 250), ("RCPT TO:<ops@example.com>", 250), ("DATA", 354)] {
        let code = device.command(line).await.code;
        if code != wanted {
            device.dialogue(&[("RSET", 250)]).await;
            return code;
        }
    }
    device.write(text(name, kilobytes).as_bytes()).await.expect("send the text");
    device.command(".").await.code
}

/// Fills the disk but for 0, 4, 8 … kB, and offers a message each time.
async fn every_position(durability: &str, option: &str) {
    let Some(disk) = SmallDisk::mount(1024) else { return };
    let spool = disk.path().join("spool");
    let provider = Provider::builder().tls(TlsMode::None).start().await;
    let builder = Relay::builder().durability(durability).relay_option(option, spool.display());
    let relay = builder.account("provider", &provider).start().await;
    let mut device = hello(&relay).await;
    let mut accepted = Vec::new();
    let mut positions = 0;
    for kilobytes in [1, 20, 70, 300] {
        let mut fits_from = None;
        for room in (0..=kilobytes + BESIDE).step_by(4) {
            let name = format!("{kilobytes} kB into {room} kB");
            disk.freed().await;
            disk.leave(room);
            let code = offer(&mut device, &name, kilobytes).await;
            positions += 1;
            match code {
                250 => {
                    fits_from = fits_from.or(Some(room));
                    accepted.push(name);
                    provider.wait_for_messages(accepted.len(), SOON).await;
                }
                452 => assert_eq!(fits_from, None, "{name} was refused, less room was enough"),
                other => panic!("{name}: the reply was {other}"),
            }
            // Delivered, or never accepted: nothing stays of either.
            wait_for_files(&spool, 0).await;
        }
        println!("{durability}: {kilobytes} kB fit into {fits_from:?} kB");
        let fits_from = fits_from.unwrap_or_else(|| panic!("{kilobytes} kB never fitted"));
        assert!(fits_from >= kilobytes, "{kilobytes} kB fitted into {fits_from} kB");
    }
    // There is room again.
    disk.clear();
    assert_eq!(offer(&mut device, "room", 300).await, 250);
    accepted.push("room".to_owned());
    let messages = provider.wait_for_messages(accepted.len(), SOON).await;
    wait_for_files(&spool, 0).await;
    let arrived: Vec<String> = messages.iter().map(|m| m.header("Subject").expect("a subject")).collect();
    assert_eq!(arrived, accepted, "what was accepted arrives, each once");
    for message in &messages {
        assert!(message.text().ends_with(&format!("{}\r\n", "x".repeat(62))), "a text is cut off");
    }
    assert_eq!(provider.complaints(), Vec::<String>::new());
    println!("{durability}: {positions} positions tried, {} messages accepted", accepted.len());
}

#[tokio::test]
async fn every_position_of_a_full_spool_is_a_452() {
    every_position("memory", "spool").await;
}

#[tokio::test]
async fn every_position_of_a_full_safe_spool_is_a_452() {
    every_position("always", "safe_spool").await;
}

#[tokio::test]
async fn messages_that_wait_survive_a_full_disk_and_arrive_once() {
    let Some(disk) = SmallDisk::mount(512) else { return };
    let spool = disk.path().join("spool");
    let provider = Provider::builder().tls(TlsMode::None).start().await;
    provider.stop().await;
    let builder = Relay::builder().durability("memory").relay_option("spool", spool.display());
    let mut relay = builder.account("provider", &provider).start().await;
    let mut device = hello(&relay).await;
    let mut accepted = 0;
    for kilobytes in [70, 20, 1] {
        while offer(&mut device, &accepted.to_string(), kilobytes).await == 250 {
            accepted += 1;
        }
        wait_for_files(&spool, accepted).await;
    }
    assert!(accepted > 5, "{accepted} messages fitted");
    assert!(files(&spool).iter().all(|name| name.ends_with(".msg")), "{:?}", files(&spool));
    // A start needs no room either.
    drop(device);
    relay.restart().await;
    wait_for_files(&spool, accepted).await;
    provider.restart().await;
    relay.sighup();
    let messages = provider.wait_for_messages(accepted, SOON).await;
    wait_for_files(&spool, 0).await;
    let mut numbers: Vec<usize> =
        messages.iter().filter_map(|m| m.header("Subject").and_then(|subject| subject.parse().ok())).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, (0..accepted).collect::<Vec<_>>());
    assert_eq!(offer(&mut hello(&relay).await, "again", 70).await, 250);
    provider.wait_for_messages(accepted + 1, SOON).await;
}

#[tokio::test]
async fn who_has_a_message_does_not_get_it_again_when_that_can_t_be_written_down() {
    let Some(disk) = SmallDisk::mount(512) else { return };
    let spool = disk.path().join("spool");
    let provider = Provider::builder().tls(TlsMode::None).start().await;
    let builder = Relay::builder().durability("memory").relay_option("spool", spool.display());
    let relay = builder.account("provider", &provider).start().await;
    // What became of so many, with a reply that long, fills several pages; the last one of the file has no room for it.
    let recipients: Vec<String> = (0..90).map(|n| format!("recipient-number-{n}@example.com")).collect();
    let names: Vec<&str> = recipients.iter().map(String::as_str).collect();
    provider.set_fault(Step::Rcpt(recipients[7].clone()), Fault::Reply("451 4.2.1 Later".into()), Times::First(2));
    provider.set_fault(Step::Dot, Fault::Reply(format!("250 2.0.0 Ok: {}", "x".repeat(200))), Times::First(1));
    provider.stop().await;
    assert_eq!(hello(&relay).await.send("plc@example.com", &names, &text("many", 1)).await.code, 250);
    disk.leave(0);
    provider.restart().await;
    relay.sighup();
    provider.wait_for_messages(1, SOON).await;
    let trouble = relay.wait_log(|line| line.contains("event=spool_trouble"), SOON).await;
    println!("{trouble}");
    // Once more in vain, then it is taken. What was written down in vain must not have become a part of the file.
    let mut mark = 0;
    for _ in 0..2 {
        relay.wait_log_from(mark, |line| line.contains("4.2.1 Later"), SOON).await;
        mark = relay.mark();
        relay.sighup();
    }
    let messages = provider.wait_for_messages(2, SOON).await;
    wait_for_files(&spool, 0).await;
    assert_eq!(messages[0].recipients.len(), names.len() - 1);
    assert_eq!(messages[1].recipients, [recipients[7].clone()]);
    assert_eq!(provider.messages().len(), 2);
    let removed = relay.log().iter().filter(|line| line.contains("event=set_aside")).count();
    assert_eq!(removed, 0, "the file was damaged");
}

#[tokio::test]
async fn mail_that_does_not_fit_into_safe_spool_stays_where_it_is() {
    const TWO_MINUTES: Duration = Duration::from_secs(120);
    let Some(disk) = SmallDisk::mount(1024) else { return };
    let safe = disk.path().join("spool");
    let Some(time) = TimeWarp::new(NOON) else { return };
    let provider = Provider::builder().tls(TlsMode::None).start().await;
    provider.stop().await;
    let builder = Relay::builder().durability("deferred").relay_option("safe_spool", safe.display());
    let builder = builder.section(Section::account("provider", &provider));
    let mut relay = time.around(builder).start().await;
    if !time.rule(&relay) {
        return;
    }
    // Room for the small one alone.
    disk.leave(100);
    let mut device = hello(&relay).await;
    for (name, kilobytes) in [("large", 300), ("small", 20)] {
        assert_eq!(offer(&mut device, name, kilobytes).await, 250);
    }
    drop(device);
    time.advance(TWO_MINUTES, Duration::ZERO).await;
    let lies = |relay: &Relay| (files(&relay.spool()).len(), files(&safe).len());
    assert_eq!(lies(&relay), (1, 1), "{:?}, {:?}", files(&relay.spool()), files(&safe));
    assert!(files(&safe)[0].ends_with(".msg"));
    // The log says that a power cut would lose it.
    println!("{}", relay.wait_log(|line| line.contains("event=spool_trouble"), SOON).await);
    // A stop moves what fits and leaves the other.
    relay.restart().await;
    time.rule(&relay);
    assert_eq!(lies(&relay), (1, 1), "{:?}, {:?}", files(&relay.spool()), files(&safe));
    // There is room again.
    disk.clear();
    time.advance(TWO_MINUTES, Duration::ZERO).await;
    assert_eq!(lies(&relay), (0, 2), "{:?}, {:?}", files(&relay.spool()), files(&safe));
    provider.restart().await;
    let there = || provider.messages().len() >= 2;
    let quiet = Duration::from_millis(20);
    let step = Duration::from_millis(500);
    time.advance_until(TWO_MINUTES, step, quiet, there).await.expect("both messages");
    wait_for_files(&safe, 0).await;
    assert_eq!(provider.messages().len(), 2);
    assert_eq!(files(&relay.spool()), Vec::<String>::new());
}

/// Messages are looked after in the order of their IDs, and the disk refuses so many before that of an old one comes.
#[tokio::test]
async fn mail_that_can_not_be_moved_keeps_no_other_from_being_given_up() {
    const OLD: usize = 20;
    const YOUNG: usize = 200;
    const MINUTE: Duration = Duration::from_secs(60);
    let Some(disk) = SmallDisk::mount(1024) else { return };
    let Some(time) = TimeWarp::new(NOON) else { return };
    let provider = Provider::builder().tls(TlsMode::None).start().await;
    provider.stop().await;
    let builder =
        Relay::builder().durability("deferred").relay_option("safe_spool", disk.path().join("spool").display());
    let builder = builder.relay_option("retry_for", "1h").section(Section::account("provider", &provider));
    let relay = time.around(builder).start().await;
    if !time.rule(&relay) {
        return;
    }
    disk.leave(0);
    let mut device = hello(&relay).await;
    for number in 0..OLD {
        assert_eq!(offer(&mut device, &format!("old-{number}"), 1).await, 250);
    }
    drop(device);
    time.advance(50 * MINUTE, Duration::ZERO).await;
    let mut device = hello(&relay).await;
    for number in 0..YOUNG {
        assert_eq!(offer(&mut device, &format!("young-{number}"), 1).await, 250);
    }
    drop(device);
    time.advance(15 * MINUTE, Duration::ZERO).await;
    let failed = relay.log().iter().filter(|line| field(line, "event") == Some("failed")).count();
    assert_eq!(failed, OLD);
}

/// What is delivered while the disk can only be read has to be removed from it later, and is not sent again by a restart
/// in between.
#[tokio::test]
async fn what_is_done_on_a_read_only_disk_is_done_after_a_restart_as_well() {
    let Some(disk) = SmallDisk::mount(1024) else { return };
    let safe = disk.path().join("spool");
    let provider = Provider::builder().tls(TlsMode::None).start().await;
    provider.set_fault(Step::Rcpt("late@example.com".into()), Fault::Reply("451 4.2.1 Later".into()), Times::Always);
    provider.stop().await;
    let builder = Relay::builder().durability("always").relay_option("safe_spool", safe.display());
    let mut relay = builder.account("provider", &provider).start().await;
    let mut device = hello(&relay).await;
    for name in ["one", "two", "three"] {
        assert_eq!(offer(&mut device, name, 1).await, 250);
    }
    let to = ["ops@example.com", "late@example.com"];
    assert_eq!(device.send("plc@example.com", &to, &text("part", 1)).await.code, 250);
    drop(device);
    disk.read_only(true);
    provider.restart().await;
    relay.sighup();
    provider.wait_for_messages(4, SOON).await;
    for line in relay.wait_lines(|line| line.contains("event=spool_trouble"), 4, SOON).await {
        println!("{line}");
    }
    relay.restart().await;
    relay.wait_log(|line| line.contains("results or removals of 4 messages could not be written"), SOON).await;
    relay.wait_log(|line| line.contains("event=deferred"), SOON).await;
    assert_eq!(files(&safe).len(), 4, "{:?}", files(&safe));
    disk.read_only(false);
    // By itself, without a word from anybody.
    wait_for_files(&safe, 1).await;
    provider.clear_faults();
    relay.restart().await;
    relay.sighup();
    wait_for_files(&safe, 0).await;
    let mut arrived: Vec<_> =
        provider.messages().iter().map(|m| (m.header("Subject").expect("a subject"), m.recipients.clone())).collect();
    arrived.sort();
    let expected = [("one", to[0]), ("part", to[1]), ("part", to[0]), ("three", to[0]), ("two", to[0])];
    let mut expected = expected.map(|(name, to)| (name.to_owned(), vec![to.to_owned()]));
    expected.sort();
    assert_eq!(arrived, expected, "each once");
    assert!(!relay.spool().join("owed").exists());
}

/// Small messages take whole pages of a RAM disk: the limit counts these, so that the memory it names is never exceeded.
#[tokio::test]
async fn the_limit_of_the_queue_counts_the_pages_that_it_takes() {
    const LIMIT: usize = 200 << 10;
    let Some(disk) = SmallDisk::mount(4096) else { return };
    let spool = disk.path().join("spool");
    let builder = Relay::builder().durability("memory").relay_option("spool", spool.display());
    let nowhere = Section::custom_account("provider", "127.0.0.1", 1, "implicit");
    let relay = builder.relay_option("spool_limit", "200K").section(nowhere).start().await;
    let mut device = hello(&relay).await;
    let mut accepted = 0;
    let refusal = loop {
        match offer(&mut device, "small", 1).await {
            250 => accepted += 1,
            other => break other,
        }
        assert!(accepted * 4096 < LIMIT, "{accepted} messages, and no end");
    };
    assert_eq!(refusal, 452);
    wait_for_files(&spool, accepted).await;
    let pages = |name: String| std::fs::metadata(spool.join("queue").join(name)).expect("a file").blocks() * 512;
    let taken: u64 = files(&spool).into_iter().map(pages).sum();
    println!("{accepted} messages take {taken} bytes");
    // Not far below either: an eighth is for other clients, a fifth for what no file system counts.
    assert!((LIMIT as u64 / 2..=LIMIT as u64).contains(&taken), "{taken}");
}

/// On a router the log is a few kilobytes of memory that all programs share.
#[tokio::test]
async fn a_disk_that_stays_full_does_not_fill_the_log() {
    const HOURS: u32 = 12;
    let Some(disk) = SmallDisk::mount(512) else { return };
    let safe = disk.path().join("spool");
    let Some(time) = TimeWarp::new(NOON) else { return };
    let provider = Provider::builder().tls(TlsMode::None).start().await;
    provider.stop().await;
    let builder = Relay::builder().durability("deferred").relay_option("safe_spool", safe.display());
    let relay = time.around(builder.section(Section::account("provider", &provider))).start().await;
    if !time.rule(&relay) {
        return;
    }
    disk.leave(0);
    // How many messages wait differs then, and which is the first of them.
    for mail in 0..2 * HOURS {
        assert_eq!(offer(&mut hello(&relay).await, &mail.to_string(), 1).await, 250);
        time.advance(Duration::from_secs(1800), Duration::ZERO).await;
    }
    let trouble = |line: &str| line.contains("event=spool_trouble");
    let lines = relay.wait_lines(trouble, 12, SOON).await;
    println!("{}", lines.join("\n"));
    assert!(
        lines[0].contains("1 message cannot be moved to safe_spool, so a power cut would lose it: "),
        "{}",
        lines[0]
    );
    let last = lines.last().expect("a line");
    assert!(last.contains("text=\"2") && last.contains(" messages cannot be moved "), "the newest number: {last}");
    // At once, and then once per hour.
    assert!(lines.len() <= 13, "{} lines in {HOURS} hours", lines.len());
    disk.clear();
    let mark = relay.mark();
    time.advance(Duration::from_secs(7200), Duration::ZERO).await;
    assert_eq!((files(&relay.spool()).len(), files(&safe).len()), (0, 24));
    assert!(!relay.log_from(mark).iter().any(|line| trouble(line)), "it is over");
}
