// SPDX-License-Identifier: Apache-2.0
//! What devices send beyond their rate: digests, turns, refusals, in simulated time; crashes in between.

mod support;

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};
use support::ask::{SOON, hello, json as asked, queue_until, said, send, send_on};
use support::disk::wait_for_files;
use support::mime::parsed;
use support::provider::Step::Rcpt;
use support::provider::{Fault, Message, Provider, Times, TlsMode};
use support::relay::{Relay, RelayBuilder, Section, field};
use support::timewarp::TimeWarp;

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
const WEEK: i64 = 7 * 86_400;
/// 2027-03-01 12:00 UTC.
const NOON: i64 = 1_803_902_400;
/// Longer than an answer of the provider takes on a busy machine, in real time.
const QUIET: Duration = Duration::from_millis(25);
const OPS: &[&str] = &["ops@example.com"];

async fn provider() -> Provider {
    Provider::builder().tls(TlsMode::None).start().await
}

/// The device of the tests, with these options.
fn device(options: &[(&str, &str)]) -> Section {
    let section = Section::new("device", "pump_house").list("ip", "127.0.0.1").option("name", "Pump house");
    options.iter().fold(section, |section, (name, value)| section.option(name, value))
}

fn builder(provider: &Provider, options: &[(&str, &str)]) -> RelayBuilder {
    let account = Section::account("provider", provider).option("from_policy", "keep");
    Relay::builder().relay_option("hostname", "gw.example").section(account).section(device(options))
}

/// A gateway in simulated time.
async fn start(time: &TimeWarp, options: &[(&str, &str)]) -> Option<(Provider, Relay)> {
    let provider = provider().await;
    let relay = time.around(builder(&provider, options)).start().await;
    time.rule(&relay).then_some((provider, relay))
}

async fn restart(time: &TimeWarp, relay: &mut Relay) {
    relay.restart().await;
    assert!(time.rule(relay));
}

fn is_digest(message: &Message) -> bool {
    message.header("Auto-Submitted").is_some()
}

/// How often each of the mails `alarm N` has arrived: by itself, or as an event of a digest.
fn arrived(messages: &[Message]) -> BTreeMap<String, usize> {
    let mut found = BTreeMap::new();
    for message in messages {
        let text = message.text();
        let own = message.header("Subject").filter(|_| !is_digest(message));
        let listed = text.lines().filter_map(|line| line.strip_prefix("Subject: alarm "));
        let listed: Vec<String> = listed.map(|n| format!("alarm {}", n.trim_end())).collect();
        for name in own.map_or(listed, |own| vec![own]) {
            *found.entry(name).or_default() += 1;
        }
    }
    found
}

/// Sends so many mails, `alarm FIRST` and on, and returns their names.
async fn storm(relay: &Relay, first: usize, count: usize) -> Vec<String> {
    let mut device = hello(relay).await;
    let mut names = Vec::new();
    for n in first..first + count {
        names.push(send_on(&mut device, OPS, &format!("alarm {n}")).await);
    }
    names
}

/// Each of so many has come exactly once.
fn assert_each_once(provider: &Provider, count: usize) {
    let found = arrived(&provider.messages());
    assert_eq!(found.len(), count, "{found:?}");
    assert!(found.values().all(|times| *times == 1), "{found:?}");
}

async fn rate_of(relay: &Relay) -> Value {
    asked(relay, "devices").await["devices"].as_array().expect("devices")[0]["rate"].clone()
}

#[tokio::test]
async fn a_storm_of_500_is_one_mail_with_all_events() {
    let Some(time) = TimeWarp::new(NOON) else { return };
    let options = [("rate", "2/h"), ("over_rate", "digest"), ("digest_every", "15m")];
    let Some((provider, relay)) = start(&time, &options).await else { return };
    let names = storm(&relay, 0, 500).await;
    provider.wait_for_messages(2, SOON).await;
    let waiting = queue_until(&relay, |all| all.iter().all(|message| message["next"].is_number())).await;
    assert_eq!(waiting[0]["standing"], json!("later"));
    let why = waiting[0]["why"].as_str().expect("a reason");
    assert!(why.starts_with("collected for the digest of device 'pump_house' at 12:1"), "{why}");
    assert_eq!(rate_of(&relay).await, json!({ "limit": "2/h", "digested": 498, "deferred": 0, "rejected": 0 }));
    // Neither an order to try everything nor new settings take the messages apart.
    said(&relay, "wake test").await;
    relay.sighup();
    relay.wait_log(|line| line.contains("event=reloaded"), SOON).await;
    time.advance(14 * MINUTE, QUIET).await;
    assert_eq!(provider.messages().len(), 2);
    time.advance(2 * MINUTE, QUIET).await;
    let messages = provider.wait_for_messages(3, SOON).await;
    assert_each_once(&provider, 500);
    let digest = messages.iter().find(|message| is_digest(message)).expect("a digest");
    assert_eq!(
        (digest.sender.as_str(), digest.recipients.as_slice()),
        ("plc@example.com", ["ops@example.com".to_string()].as_slice())
    );
    relay
        .wait_log(|line| line.contains("event=digested") && line.contains("device=pump_house messages=498"), SOON)
        .await;
    let story = relay.wait_log(|line| line.contains("event=collected") && line.contains(&names[499]), SOON).await;
    assert!(field(&story, "digest").is_some(), "{story}");
    wait_for_files(&relay.spool(), 0).await;
    wait_for_files(&relay.safe_spool(), 0).await;
    assert_eq!(rate_of(&relay).await["digested"], json!(498));
    let Some(read) = parsed(&digest.data) else { return };
    assert_eq!(read["fields"]["Subject"], json!("Pump house: 498 messages"));
    assert_eq!(read["fields"]["From"], json!("Pump house <relay@provider.example>"));
    let text = read["parts"][0]["text"].as_str().expect("text");
    for n in 2..500 {
        let row = format!("  alarm {n}");
        let rows = text.lines().filter(|line| line.ends_with(&row) && line.contains(" 2027 12:0")).count();
        assert_eq!(rows, 1, "{row} in\n{text}");
        assert_eq!(text.matches(&format!("Subject: alarm {n}\n\nalarm\n")).count(), 1, "{n}");
    }
    println!("{}", text.lines().take(8).collect::<Vec<_>>().join("\n"));
}

#[tokio::test]
async fn restarts_and_crashes_while_messages_are_collected_lose_none() {
    let Some(time) = TimeWarp::new(NOON) else { return };
    let options = [("rate", "1/h"), ("digest_every", "30m")];
    let Some((provider, mut relay)) = start(&time, &options).await else { return };
    storm(&relay, 0, 20).await;
    time.advance(MINUTE, QUIET).await;
    restart(&time, &mut relay).await;
    // A clock that is set by a week changes nothing for what was accepted since the start of the system.
    time.set_wall(NOON + WEEK);
    // After the start the bucket is full again.
    storm(&relay, 20, 20).await;
    time.advance(MINUTE, QUIET).await;
    relay.kill9();
    restart(&time, &mut relay).await;
    time.set_wall(NOON);
    assert_eq!(queue_until(&relay, |all| all.len() == 38).await.len(), 38);
    time.advance(20 * MINUTE, QUIET).await;
    assert_eq!(provider.messages().len(), 2);
    // All are due at about the same time, and for the same people.
    time.advance(15 * MINUTE, QUIET).await;
    let digests = provider.messages().iter().filter(|message| is_digest(message)).count();
    assert!((1..=2).contains(&digests), "{digests} digests");
    assert_each_once(&provider, 40);
    wait_for_files(&relay.safe_spool(), 0).await;
}

#[tokio::test]
async fn after_a_reboot_with_another_clock_the_digest_still_comes() {
    for wall in [NOON + 600, NOON + WEEK, NOON - WEEK, 0] {
        let Some(time) = TimeWarp::new(NOON) else { return };
        let options = [("rate", "1/h"), ("digest_every", "1h")];
        let Some((provider, mut relay)) = start(&time, &options).await else { return };
        storm(&relay, 0, 10).await;
        provider.wait_for_messages(1, SOON).await;
        relay.sigterm();
        relay.wait_exit().await;
        time.reboot();
        time.set_wall(wall);
        relay.spawn();
        relay.wait_until_listening().await;
        assert!(time.rule(&relay));
        // Two digests if a second passed between the records of the messages.
        let there = || arrived(&provider.messages()).len() == 10;
        let took = time.advance_until(2 * HOUR, MINUTE, QUIET, there).await;
        println!("the clock at {wall}: {took:?}");
        assert!(took.is_some_and(|took| took <= HOUR + 5 * MINUTE), "{wall}: {took:?}");
        assert_each_once(&provider, 10);
    }
}

#[tokio::test]
async fn those_that_wait_for_their_turn_leave_in_order() {
    let Some(time) = TimeWarp::new(NOON) else { return };
    let options = [("rate", "2/m"), ("over_rate", "defer")];
    let Some((provider, mut relay)) = start(&time, &options).await else { return };
    let names = storm(&relay, 0, 8).await;
    provider.wait_for_messages(2, SOON).await;
    let waiting = queue_until(&relay, |all| all.len() == 6).await;
    let why = waiting[0]["why"].as_str().expect("a reason");
    assert!(
        why.starts_with("rate limited, next attempt at 12:0")
            && why.ends_with("device 'pump_house' sends more than 2/m"),
        "{why}"
    );
    assert_eq!(rate_of(&relay).await, json!({ "limit": "2/m", "digested": 0, "deferred": 6, "rejected": 0 }));
    said(&relay, "wake test").await;
    assert_eq!(provider.messages().len(), 2);
    for n in 3..=5 {
        time.advance(30 * Duration::from_secs(1), QUIET).await;
        assert_eq!(provider.wait_for_messages(n, SOON).await.len(), n);
    }
    restart(&time, &mut relay).await;
    time.advance(3 * Duration::from_secs(1), QUIET).await;
    assert_eq!(provider.messages().len(), 5);
    // One is wanted now.
    said(&relay, &format!("queue retry {}", names[7])).await;
    provider.wait_for_messages(6, SOON).await;
    time.advance(2 * MINUTE, QUIET).await;
    let subjects: Vec<String> =
        provider.wait_for_messages(8, SOON).await.iter().filter_map(|message| message.header("Subject")).collect();
    assert_eq!(subjects, [0, 1, 2, 3, 4, 7, 5, 6].map(|n| format!("alarm {n}")));
}

#[tokio::test]
async fn a_row_that_is_a_day_long_takes_no_more_and_long_waiting_is_no_failure() {
    let Some(time) = TimeWarp::new(NOON) else { return };
    let provider = provider().await;
    let builder = builder(&provider, &[("rate", "1/h"), ("over_rate", "defer")]).relay_option("retry_for", "30m");
    let relay = time.around(builder).start().await;
    if !time.rule(&relay) {
        return;
    }
    storm(&relay, 0, 25).await;
    let mut device = hello(&relay).await;
    let refused = device.command("MAIL FROM:<plc@example.com>").await;
    assert_eq!(refused.code, 450, "{refused:?}");
    assert!(
        refused.text().contains("Pump house has exceeded its limit of 1/h (option rate), try again in"),
        "{refused:?}"
    );
    assert_eq!(rate_of(&relay).await, json!({ "limit": "1/h", "digested": 0, "deferred": 24, "rejected": 1 }));
    time.advance(25 * HOUR, QUIET).await;
    provider.wait_for_messages(25, SOON).await;
    assert_each_once(&provider, 25);
    assert_eq!(provider.messages().len(), 25);
}

#[tokio::test]
async fn a_delay_notification_says_until_when_a_message_is_tried_that_had_to_rest() {
    let Some(time) = TimeWarp::new(NOON) else { return };
    let provider = provider().await;
    provider.set_fault(Rcpt("late@example.com".into()), Fault::Reply("450 4.2.0 later".into()), Times::Always);
    let builder = builder(&provider, &[("rate", "1/h"), ("over_rate", "defer")]);
    let builder = builder.relay_option("retry_for", "30m").relay_option("delay_notice", "5m");
    let relay = time.around(builder).start().await;
    if !time.rule(&relay) {
        return;
    }
    send(&relay, OPS, "first").await;
    send(&relay, &["late@example.com"], "rests for an hour").await;
    time.advance(HOUR + 10 * MINUTE, QUIET).await;
    let reports = || provider.messages().into_iter().filter(is_digest).map(|report| report.text());
    let report = reports().next().expect("a delay notification");
    let until = report.lines().find_map(|line| line.strip_prefix("Will-Retry-Until: ")).expect("a date");
    assert!(until.starts_with("Mon, 01 Mar 2027 13:3") && report.contains(&format!("until {until}")), "{report}");
    // That is when it is given up.
    time.advance(19 * MINUTE, QUIET).await;
    assert_eq!(reports().count(), 1);
    time.advance(5 * MINUTE, QUIET).await;
    assert!(reports().nth(1).is_some_and(|report| report.contains("given up after 30m")));
}

#[tokio::test]
async fn what_is_too_much_is_refused_with_a_sentence() {
    let provider = provider().await;
    let relay = builder(&provider, &[("rate", "2/h"), ("over_rate", "reject")]).start().await;
    storm(&relay, 0, 2).await;
    let mut device = hello(&relay).await;
    let text = "Pump house has exceeded its limit of 2/h (option rate), try again in ";
    // A device that does not wait for replies reads the same in the end.
    device.write(b"MAIL FROM:<plc@example.com>\r\nRCPT TO:<ops@example.com>\r\nDATA\r\n").await.unwrap();
    for code in [450, 450, 354] {
        let reply = device.expect(code).await;
        assert!(code == 354 || reply.text().contains(text), "{reply:?}");
    }
    device.write(b"Subject: lost\r\n\r\nx\r\n.\r\n").await.unwrap();
    let reply = device.expect(450).await;
    assert!(reply.text().starts_with("4.7.1 ") && reply.text().contains(text), "{reply:?}");
    let line = relay.wait_log(|line| line.contains("event=rejected"), SOON).await;
    assert!(line.contains(text) && line.contains("from=<plc@example.com>"), "{line}");
    assert_eq!(rate_of(&relay).await, json!({ "limit": "2/h", "digested": 0, "deferred": 0, "rejected": 1 }));
    // Programs of this host are no device.
    for _ in 0..5 {
        let sent = relay.command_with_input(&["send", "ops@example.com"], b"Subject: cron\n\nx\n").await;
        assert!(sent.status.success());
    }
    provider.wait_for_messages(7, SOON).await;
    // The settings change, and what was counted stays.
    relay.sighup();
    relay.wait_log(|line| line.contains("event=reloaded"), SOON).await;
    let mut device = hello(&relay).await;
    device.dialogue(&[("MAIL FROM:<plc@example.com>", 450)]).await;
    assert_eq!(rate_of(&relay).await["rejected"], json!(2));
}

#[tokio::test]
async fn single_messages_leave_the_collection_when_they_are_asked_for() {
    let Some(time) = TimeWarp::new(NOON) else { return };
    let Some((provider, mut relay)) = start(&time, &[("rate", "1/h")]).await else { return };
    let names = storm(&relay, 0, 5).await;
    provider.wait_for_messages(1, SOON).await;
    said(&relay, &format!("queue retry {}", names[1])).await;
    provider.wait_for_messages(2, SOON).await;
    said(&relay, &format!("queue delete {}", names[2])).await;
    said(&relay, &format!("queue hold {}", names[3])).await;
    said(&relay, "queue retry all").await;
    restart(&time, &mut relay).await;
    time.advance(20 * MINUTE, QUIET).await;
    // The only one that is left needs no digest.
    let subjects = |provider: &Provider| -> Vec<String> {
        provider.messages().iter().filter_map(|message| message.header("Subject")).collect()
    };
    assert_eq!(subjects(&provider), ["alarm 0", "alarm 1", "alarm 4"]);
    said(&relay, &format!("queue release {}", names[3])).await;
    time.advance(MINUTE, QUIET).await;
    assert_eq!(subjects(&provider), ["alarm 0", "alarm 1", "alarm 4", "alarm 3"]);
}

#[tokio::test]
async fn files_are_attached_whole_and_large_ones_come_by_themselves() {
    let Some(time) = TimeWarp::new(NOON) else { return };
    let Some((provider, relay)) = start(&time, &[("rate", "1/h")]).await else { return };
    storm(&relay, 0, 2).await;
    let mut device = hello(&relay).await;
    for (subject, lines) in [("picture", 1000), ("film", 80_000), ("second picture", 30_000), ("third picture", 40_000)]
    {
        let body = format!("{}\r\n", "QUJD".repeat(19)).repeat(lines);
        let head = "Content-Type: image/jpeg\r\nContent-Transfer-Encoding: base64\r\n";
        let text = format!("From: plc@example.com\r\nSubject: {subject}\r\nMIME-Version: 1.0\r\n{head}\r\n{body}");
        assert_eq!(device.send("plc@example.com", OPS, &text).await.code, 250);
    }
    time.advance(16 * MINUTE, QUIET).await;
    let messages = provider.wait_for_messages(4, SOON).await;
    let subjects: Vec<String> = messages.iter().filter_map(|message| message.header("Subject")).collect();
    println!("{subjects:?}");
    let times = |subject: &str| subjects.iter().filter(|found| *found == subject).count();
    assert_eq!((times("film"), times("Pump house: 5 messages (1 of 2)")), (1, 1), "{subjects:?}");
    assert_eq!((times("Pump house: 5 messages (2 of 2)"), messages.len()), (1, 4), "{subjects:?}");
    // The parts may cross on the way: there are several connections. What stands in which does not change.
    let part = |number: &str| -> String {
        let found = messages.iter().filter(|message| message.header("Subject").is_some_and(|s| s.contains(number)));
        found.map(Message::text).collect()
    };
    let (first, second) = (part("1 of 2"), part("2 of 2"));
    let attached = |text: &str, file: &str| text.matches(&format!("filename=\"{file}\"")).count();
    for (file, counts) in [("message-2.eml", (1, 0)), ("message-4.eml", (1, 0)), ("message-5.eml", (0, 1))] {
        assert_eq!((attached(&first, file), attached(&second, file)), counts, "{file}");
    }
    let all = first + &second;
    assert!(all.contains("Sent as a separate message"));
    wait_for_files(&relay.safe_spool(), 0).await;
    wait_for_files(&relay.spool(), 0).await;
}

#[tokio::test]
async fn a_full_queue_is_emptied_by_its_digest() {
    let Some(time) = TimeWarp::new(NOON) else { return };
    let provider = provider().await;
    let builder = builder(&provider, &[("rate", "1/h")]).relay_option("spool_limit", "64K");
    let relay = time.around(builder.relay_option("message_limit", "16K")).start().await;
    if !time.rule(&relay) {
        return;
    }
    let mut device = hello(&relay).await;
    let (mut taken, text) = (0, "x".repeat(60) + "\r\n");
    loop {
        let begun = device.command("MAIL FROM:<plc@example.com>").await;
        if begun.code == 452 {
            break;
        }
        device.dialogue(&[("RCPT TO:<ops@example.com>", 250), ("DATA", 354)]).await;
        device.write(format!("Subject: alarm {taken}\r\n\r\n{}", text.repeat(25)).as_bytes()).await.unwrap();
        if device.command(".").await.code != 250 {
            break;
        }
        taken += 1;
    }
    println!("{taken} messages fill the queue");
    assert!(taken > 10);
    assert_eq!(rate_of(&relay).await["digested"], json!(taken - 1));
    time.advance(16 * MINUTE, QUIET).await;
    provider.wait_for_messages(2, SOON).await;
    assert_each_once(&provider, taken);
    send(&relay, OPS, "there is room again").await;
}

/// In real time: killed again and again while digests are written, at another line of the log each time.
async fn crashes_while_digests_are_written(durability: &str) {
    let provider = provider().await;
    let options = [("rate", "1/d"), ("digest_every", "10s")];
    let mut relay = builder(&provider, &options).durability(durability).start().await;
    for (round, lines) in [1, 7, 30, 59].into_iter().enumerate() {
        let before = provider.messages().len();
        storm(&relay, round * 60, 60).await;
        let collected = |line: &str| line.contains("event=collected");
        let mark = relay.log().iter().filter(|line| collected(line)).count();
        relay.wait_lines(collected, mark + lines, SOON).await;
        relay.kill9();
        relay.spawn();
        relay.wait_until_listening().await;
        // One by itself and one digest; those that were sent before the crash may come once more, whole.
        provider.wait_for_messages(before + 2, SOON).await;
        queue_until(&relay, |all| all.is_empty()).await;
    }
    let found = arrived(&provider.messages());
    println!("{durability}: {} mails for {} messages", provider.messages().len(), found.len());
    assert_eq!(found.len(), 240, "{found:?}");
}

#[tokio::test]
async fn crashes_while_digests_are_written_lose_nothing_in_memory() {
    crashes_while_digests_are_written("memory").await;
}

#[tokio::test]
async fn crashes_while_digests_are_written_lose_nothing_on_flash() {
    crashes_while_digests_are_written("always").await;
}
