// SPDX-License-Identifier: Apache-2.0
//! A clock that is wrong: at the start, as on a router without a battery, or set while mail waits.

mod support;

use std::collections::HashSet;
use std::fs;
use std::path::Path;
use std::time::Duration;

use smtprelay::message::date;
use support::client::Client;
use support::provider::{Message, Provider, TlsMode};
use support::relay::{Relay, RelayBuilder, Section, field};
use support::timewarp::TimeWarp;

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
const DAY: i64 = 86_400;
/// 2027-03-01 12:00 UTC: what the clock is set to.
const TRUE: i64 = 1_803_902_400;
/// Clocks with which routers start: 1970, and the day when the image was built (2025-06-01), which is earlier than the
/// program.
const STARTS: [i64; 2] = [60, 1_748_736_000];
/// 2026-01-01: a clock that shows less than that is evidently wrong.
const PROGRAM: i64 = 1_767_225_600;
/// How soon mail leaves when nothing is in its way any more, with a step for the precision of the look.
const SOON: Duration = Duration::from_secs(31);
/// Longer than an answer of the provider takes on a busy machine, in real time.
const QUIET: Duration = Duration::from_millis(20);
const STEP: Duration = Duration::from_millis(500);
/// By how many seconds a date may differ from the truth.
const EXACT: i64 = 2;
/// A date that the device wrote itself.
const OWN: &str = "Tue, 02 Jan 2007 03:04:05 +0100";

async fn provider() -> Provider {
    Provider::builder().tls(TlsMode::Implicit).login("u", "p").start().await
}

/// A relay whose account has a certificate to check, and that gives up soon.
fn relay_to(provider: &Provider, retry_for: &str) -> RelayBuilder {
    let account = Section::account("provider", provider).option("from_policy", "keep");
    Relay::builder().relay_option("retry_for", retry_for).section(account)
}

/// Sends a message without Message-ID, and with this Date if there is one.
async fn send(relay: &Relay, name: &str, own_date: Option<&str>) {
    let mut device = Client::greeted(relay.addr()).await;
    device.dialogue(&[("EHLO plc", 250)]).await;
    let own = own_date.map(|date| format!("Date: {date}\r\n")).unwrap_or_default();
    let text = format!("From: plc@example.com\r\nTo: ops@example.com\r\n{own}Subject: {name}\r\n\r\nalarm\r\n");
    let reply = device.send("plc@example.com", &["ops@example.com"], &text).await;
    assert_eq!(reply.code, 250, "{reply:?}");
}

/// Messages in both folders of the queue.
fn queued(relay: &Relay) -> usize {
    let count = |folder: &Path| {
        let files = fs::read_dir(folder.join("queue")).into_iter().flatten().flatten();
        files.filter(|file| file.path().extension().is_some_and(|end| end == "msg")).count()
    };
    count(&relay.spool()) + count(&relay.safe_spool())
}

fn nothing_was_given_up(relay: &Relay) {
    for event in ["failed", "notified", "unreported", "set_aside", "spool_trouble"] {
        assert_eq!(relay.log().into_iter().find(|line| field(line, "event") == Some(event)), None);
    }
}

/// Whether `text` ends with the date of `unix`, give or take [`EXACT`] seconds.
fn shows(text: &str, unix: i64) -> bool {
    (unix - EXACT..=unix + EXACT).any(|near| text.ends_with(&date::rfc5322(near)))
}

/// Lets time pass until so many messages have arrived, and says how much that took.
async fn arrived(time: &TimeWarp, provider: &Provider, count: usize) -> Option<Duration> {
    let there = || provider.messages().len() >= count;
    time.advance_until(20 * MINUTE, STEP, QUIET, there).await
}

/// A message that was sent, and when by the clock that never jumps.
struct Sent {
    name: String,
    at: Duration,
    own_date: bool,
}

/// Sends a message without and one with a date, then lets some time pass.
async fn send_two(time: &TimeWarp, relay: &Relay, sent: &mut Vec<Sent>) {
    for own_date in [false, true] {
        let name = format!("message {}", sent.len());
        send(relay, &name, own_date.then_some(OWN)).await;
        sent.push(Sent { name, at: time.now(), own_date });
        time.advance(Duration::from_secs(100), QUIET).await;
    }
}

/// What has to be true of all messages when the clock showed the true time `clock` at `moment`.
fn check(messages: &[Message], sent: &[Sent], clock: i64, moment: Duration) {
    assert_eq!(messages.len(), sent.len(), "each arrives once");
    for Sent { name, at, own_date } in sent {
        let message = messages.iter().find(|m| m.header("Subject").as_ref() == Some(name)).expect(name);
        let seconds = |time: Duration| i64::try_from(time.as_secs()).expect("less than a human life");
        let truth = clock + seconds(*at) - seconds(moment);
        let wanted = date::rfc5322(truth);
        let header = message.header("Date").expect("one date");
        match own_date {
            true => assert_eq!(header, OWN, "{name}"),
            false => assert!(shows(&header, truth), "{name} has {header:?}, it arrived at {wanted}"),
        }
        let received = message.headers("Received");
        assert!(shows(&received[0], truth), "{name} was {:?}, it arrived at {wanted}", received[0]);
    }
    let ids: HashSet<String> = messages.iter().map(|m| m.header("Message-ID").expect("one Message-ID")).collect();
    assert_eq!(ids.len(), messages.len(), "Message-IDs are unique: {ids:?}");
}

#[tokio::test]
async fn nothing_is_judged_before_the_clock_is_set_and_dates_are_right_after() {
    for start in STARTS {
        let Some(time) = TimeWarp::new(start) else { return };
        let provider = provider().await;
        let mut relay = time.around(relay_to(&provider, "1h")).start().await;
        if !time.rule(&relay) {
            return;
        }
        let mut sent = Vec::new();
        send_two(&time, &relay, &mut sent).await;
        send_two(&time, &relay, &mut sent).await;
        // Another run, with the messages of the first one.
        relay.restart().await;
        time.rule(&relay);
        send_two(&time, &relay, &mut sent).await;
        // Longer than retry_for.
        time.advance(3 * HOUR, QUIET).await;
        nothing_was_given_up(&relay);
        assert_eq!(queued(&relay), sent.len());
        assert_eq!(provider.connections().len(), 0, "certificates can't be judged, so nothing is to be asked for them");
        assert!(relay.log().iter().any(|line| line.contains("clock")), "the log says what it waits for");

        let moment = time.now();
        time.set_wall(TRUE);
        let first = arrived(&time, &provider, 1).await;
        let rest = arrived(&time, &provider, sent.len()).await;
        println!("clock at {start} set: first message through after {first:?}, the others {rest:?} later");
        assert!(first.is_some_and(|first| first <= SOON), "first message through after {first:?}");
        nothing_was_given_up(&relay);
        check(&provider.messages(), &sent, TRUE, moment);
        assert_eq!(provider.complaints(), Vec::<String>::new());
    }
}

#[tokio::test]
async fn mail_of_an_earlier_boot_without_clock_is_sent_when_the_clock_is_set() {
    let Some(time) = TimeWarp::new(STARTS[1]) else { return };
    let provider = provider().await;
    let mut relay = time.around(relay_to(&provider, "1h")).start().await;
    if !time.rule(&relay) {
        return;
    }
    let mut sent = Vec::new();
    send_two(&time, &relay, &mut sent).await;
    relay.sigterm();
    relay.wait_exit().await;
    // Off for nobody knows how long; the clock starts as it did before.
    time.reboot();
    time.set_wall(STARTS[1]);
    relay.restart().await;
    time.rule(&relay);
    time.advance(2 * HOUR, QUIET).await;
    nothing_was_given_up(&relay);
    let rebooted = TRUE - 2 * 3600;
    time.set_wall(TRUE);
    let all = arrived(&time, &provider, sent.len()).await;
    assert!(all.is_some(), "mail of the earlier boot never left");
    nothing_was_given_up(&relay);
    let messages = provider.messages();
    assert_eq!(messages.len(), sent.len());
    for message in &messages {
        // When it came nobody can know; it was not before the program was written, nor after the reboot.
        let header = message.header("Date").expect("one date");
        let own = header == OWN;
        let possible = ["2026 ", "2027 "].iter().any(|year| header.contains(year));
        println!("a message of an earlier boot has the date {header}, the reboot was at {}", date::rfc5322(rebooted));
        assert!(own || possible, "{header:?}");
    }
    assert_eq!(messages.iter().filter(|m| m.header("Date").as_deref() == Some(OWN)).count(), 1);
}

/// Mail waits for a provider that is out of order, and the clock is corrected by so many seconds meanwhile. What it says
/// afterwards is the truth: a router starts with the time of its last shutdown, which looks plausible.
async fn corrected(mut correction: i64) {
    let Some(time) = TimeWarp::new(TRUE) else { return };
    let provider = provider().await;
    let relay = time.around(relay_to(&provider, "12h")).start().await;
    if !time.rule(&relay) {
        return;
    }
    let start = time.now();
    provider.stop().await;
    let mut sent = Vec::new();
    send_two(&time, &relay, &mut sent).await;
    time.advance(10 * MINUTE, QUIET).await;
    time.set_wall(time.wall() + correction);
    time.advance(10 * MINUTE, QUIET).await;
    nothing_was_given_up(&relay);
    assert_eq!(queued(&relay), sent.len());
    provider.restart().await;
    if time.wall() < PROGRAM {
        // Now the clock is evidently wrong, and nothing can be judged before it is right again.
        time.advance(MINUTE, QUIET).await;
        assert_eq!(provider.connections().len(), 0, "certificates can't be judged");
        time.set_wall(time.wall() - correction);
        correction = 0;
    }
    let first = arrived(&time, &provider, 1).await;
    println!("clock corrected by {correction} s: first message through after {first:?}");
    assert!(first.is_some_and(|first| first <= SOON), "first message through after {first:?}");
    assert!(arrived(&time, &provider, sent.len()).await.is_some(), "the other one never came");
    nothing_was_given_up(&relay);
    check(&provider.messages(), &sent, TRUE + correction, start);
}

#[tokio::test]
async fn a_clock_that_goes_back_by_an_hour_is_believed() {
    corrected(-3600).await;
}

#[tokio::test]
async fn a_clock_that_goes_forward_by_a_day_makes_nothing_too_old() {
    corrected(DAY).await;
}

#[tokio::test]
async fn a_clock_that_goes_back_before_the_program_existed_makes_mail_wait() {
    corrected(PROGRAM - 90 * DAY - TRUE).await;
}
