// SPDX-License-Identifier: Apache-2.0
//! Long outages in simulated time: nothing grows, nothing is lost, one probe a pause, and mail is through soon after.

mod support;

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use support::client::Client;
use support::provider::{Fault, Gate, Message, Provider, Step, Times, TlsMode};
use support::relay::{Relay, Section, field};
use support::timewarp::{Names, TimeWarp};

/// In real time, for what takes seconds at most.
const SOON: Duration = Duration::from_secs(120);
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(86_400);
/// 2027-03-01 12:00 UTC.
const NOON: i64 = 1_803_902_400;
/// Longer than an answer of the provider takes on a busy machine, in real time.
const QUIET: Duration = Duration::from_millis(20);
/// How soon after the end of an outage the first message has to be through: 30 s, and a step or two for the precision of
/// the look.
const THROUGH: Duration = Duration::from_secs(31);

/// The number in the subject.
fn number(message: &Message) -> usize {
    message.header("Subject").and_then(|subject| subject.parse().ok()).expect("a numbered message")
}

async fn hello(relay: &Relay) -> Client {
    let mut device = Client::greeted(relay.addr()).await;
    device.set_limit(SOON);
    device.dialogue(&[("EHLO plc", 250)]).await;
    device
}

async fn send(device: &mut Client, number: usize) {
    let text = format!("From: plc@example.com\r\nTo: ops@example.com\r\nSubject: {number}\r\n\r\nalarm\r\n");
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

/// What the process holds.
#[derive(Debug)]
struct Held {
    /// Heap and stacks in kB: memory that no other process shares and no file stands behind.
    memory: u64,
    files: usize,
    threads: usize,
}

impl Held {
    fn by(relay: &Relay) -> Held {
        let process = format!("/proc/{}", relay.pid());
        let rollup = fs::read_to_string(format!("{process}/smaps_rollup")).expect("memory of the relay");
        let line = rollup.lines().find(|line| line.starts_with("Anonymous:")).expect("a sum");
        let memory = line.split_whitespace().nth(1).and_then(|kb| kb.parse().ok()).expect("a number");
        let count = |folder| fs::read_dir(format!("{process}/{folder}")).expect("a folder of the process").count();
        Held { memory, files: count("fd"), threads: count("task") }
    }
}

/// Panics when a message was given up, or somebody was told that it was.
fn nothing_was_given_up(relay: &Relay) {
    for event in ["failed", "notified", "unreported", "set_aside", "spool_trouble"] {
        let line = relay.log().into_iter().find(|line| field(line, "event") == Some(event));
        assert_eq!(line, None, "after {} lines", relay.log().len());
    }
}

#[tokio::test]
async fn a_week_without_uplink_with_2000_messages() {
    const FIRST: usize = 1580;
    const DAILY: usize = 60;
    const ALL: usize = FIRST + 7 * DAILY;
    const CONNECTIONS: usize = 2;
    let Some(time) = TimeWarp::new(NOON) else { return };
    let provider = Provider::builder().tls(TlsMode::Implicit).login("u", "p").start().await;
    let account = Section::account("provider", &provider)
        .option("host", "localhost")
        .option("from_policy", "keep")
        .option("connections", CONNECTIONS);
    let builder = Relay::builder().relay_option("retry_for", "14d").relay_option("spool_limit", "64M").section(account);
    let relay = time.around(builder).start().await;
    if !time.rule(&relay) {
        return;
    }
    time.set_names(Names::Fail);
    provider.stop().await;
    // When each was sent, by the wall clock of the relay.
    let mut sent = Vec::new();
    let mut samples = Vec::new();
    // Most come in the first two hours.
    let gap = 2 * HOUR / FIRST as u32;
    let started = (time.now(), std::time::Instant::now());
    for _ in 0..FIRST / 20 {
        let mut device = hello(&relay).await;
        for _ in 0..20 {
            sent.push(time.wall());
            send(&mut device, sent.len() - 1).await;
            time.advance(gap, Duration::ZERO).await;
        }
    }
    time.advance(HOUR, Duration::ZERO).await;
    samples.push(("3 hours".to_owned(), time.lookups(), Held::by(&relay)));
    for day in 1..=7 {
        // Two days the name service fails, one day it is silent, then names are known, but nothing listens there.
        time.set_names(match day {
            1 | 2 => Names::Fail,
            3 => Names::Silent,
            _ => Names::Real,
        });
        let mut device = None;
        for n in 0..DAILY {
            if n % 20 == 0 {
                device = Some(hello(&relay).await);
            }
            if let Some(device) = &mut device {
                sent.push(time.wall());
                send(device, sent.len() - 1).await;
            }
            time.advance(Duration::from_secs(5), Duration::ZERO).await;
        }
        drop(device);
        let end = day * DAY;
        time.advance(end.saturating_sub(time.now() - started.0), Duration::ZERO).await;
        samples.push((format!("{day} days"), time.lookups(), Held::by(&relay)));
    }
    for (when, probes, held) in &samples {
        println!("after {when}: {probes} probes, {held:?}");
    }
    println!("the week took {:.1?}, time jumped {} times", started.1.elapsed(), time.jumps());
    nothing_was_given_up(&relay);
    assert_eq!((sent.len(), queued(&relay)), (ALL, ALL));
    // With the silent name service a probe takes 20 s longer.
    let (seconds, probes) = ((time.now() - started.0).as_secs(), time.lookups());
    assert!((seconds / 60..seconds / 10).contains(&probes), "{probes} probes in {seconds} s");
    let (_, _, base) = &samples[0];
    for (when, _, held) in &samples {
        // A probe that waits for the silent name service has its message open.
        let probe = usize::from(when == "3 days");
        assert!((base.files..=base.files + probe).contains(&held.files), "open files after {when}: {held:?}, {base:?}");
        assert!(held.threads < 32, "threads after {when}: {held:?}");
        // Not with time: 1 kB for each message that has come since, and a tenth. 28,000 probes that each left something
        // behind would be far more.
        let more = (ALL - FIRST) as u64;
        assert!(held.memory <= base.memory + base.memory / 10 + more, "memory after {when}: {held:?}, was {base:?}");
    }

    // The uplink is back.
    provider.restart().await;
    let there = || !provider.messages().is_empty();
    let first = time.advance_until(HOUR, Duration::from_millis(500), QUIET, there).await.expect("mail within an hour");
    let drained = std::time::Instant::now();
    let messages = provider.wait_for_messages(ALL, SOON).await;
    println!("first message through after {first:.1?}, all {ALL} after {:.1?} of real time", drained.elapsed());
    assert!(first <= THROUGH, "first message through after {first:?}");
    assert_eq!(provider.complaints(), Vec::<String>::new());
    let order: Vec<usize> = messages.iter().map(number).collect();
    let mut each = order.clone();
    each.sort_unstable();
    assert_eq!(each, (0..ALL).collect::<Vec<_>>(), "each arrives once");
    // In order of age: overtaken only by what was under way on another connection, or came within the same second.
    for (place, n) in order.iter().enumerate().skip(2 * CONNECTIONS) {
        let before = order[..place - 2 * CONNECTIONS].iter().map(|n| sent[*n]).max().unwrap_or(i64::MIN);
        assert!(before <= sent[*n] + 1, "message {n} came at place {place}, behind younger ones");
    }
    nothing_was_given_up(&relay);
}

/// How many messages of the backlog arrive before the alarm `number`, of those behind the first `before`.
fn ahead(messages: &[Message], before: usize, alarm: usize) -> usize {
    let place = messages.iter().position(|message| number(message) == alarm).expect("the alarm");
    place.saturating_sub(before)
}

#[tokio::test]
async fn a_new_alarm_is_not_behind_the_backlog() {
    const BACKLOG: usize = 600;
    const AT_RETURN: usize = BACKLOG;
    const IN_BETWEEN: usize = BACKLOG + 1;
    /// Messages of the backlog that may be delivered first.
    const FEW: usize = 50;
    /// Messages that are delivered before the second alarm, and how many are then under way.
    const FIRST: usize = 100;
    const CONNECTIONS: usize = 2;
    let times = |count: usize| Times::First(u32::try_from(count).expect("a small number"));
    let Some(time) = TimeWarp::new(NOON) else { return };
    let provider = Provider::builder().tls(TlsMode::None).start().await;
    let account = Section::account("provider", &provider).option("connections", CONNECTIONS);
    let builder = Relay::builder().durability("memory").section(account);
    let relay = time.around(builder).start().await;
    if !time.rule(&relay) {
        return;
    }
    provider.stop().await;
    for n in 0..BACKLOG {
        // A session of its own for each hundred: as many failures of a device are never one conversation.
        let mut device = hello(&relay).await;
        send(&mut device, n).await;
        time.advance(Duration::from_secs(10), Duration::ZERO).await;
    }
    // The connections stand still behind these while the next alarm comes in, so that the count does not depend on speed; the
    // fault is set now, since mail goes on leaving while the log is read.
    let (open, gate) = (Gate::closed(), Gate::closed());
    open.open();
    provider.set_fault(Step::Dot, Fault::Hold(open), times(FIRST));
    provider.set_fault(Step::Dot, Fault::Hold(gate.clone()), times(CONNECTIONS));
    provider.restart().await;
    let mut device = hello(&relay).await;
    send(&mut device, AT_RETURN).await;
    let before = provider.messages().len();
    let still = || provider.messages().len() == FIRST + CONNECTIONS;
    time.advance_until(HOUR, Duration::from_millis(500), QUIET, still).await.expect("mail within an hour");
    send(&mut device, IN_BETWEEN).await;
    let then = provider.messages().len();
    gate.open();
    let messages = provider.wait_for_messages(BACKLOG + 2, SOON).await;
    assert_eq!(messages.len(), BACKLOG + 2);
    let (first, second) = (ahead(&messages, before, AT_RETURN), ahead(&messages, then, IN_BETWEEN));
    println!("ahead of the alarm sent at the return: {first}; ahead of one sent after {then} were delivered: {second}");
    assert!(first < FEW && second < FEW, "{first} and {second} messages of the backlog were delivered first");
}

/// A way in which a provider is out of order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outage {
    NoName,
    Refuses,
    /// Accepts connections, says nothing, and is started anew.
    Hangs,
    /// Accepts connections and says nothing. When new ones work again, those from before still hang.
    HangsForEver,
    Greets421,
    Mail451,
    Rcpt451,
    Dot451,
}

impl Outage {
    const ALL: [Outage; 8] = [
        Outage::NoName,
        Outage::Refuses,
        Outage::Hangs,
        Outage::HangsForEver,
        Outage::Greets421,
        Outage::Mail451,
        Outage::Rcpt451,
        Outage::Dot451,
    ];

    async fn begin(self, provider: &Provider, time: &TimeWarp) {
        let reply = |text: &str| Fault::Reply(text.to_owned());
        let (step, fault) = match self {
            Outage::NoName => return time.set_names(Names::Fail),
            Outage::Refuses => return provider.stop().await,
            Outage::Hangs | Outage::HangsForEver => (Step::Greeting, Fault::Hang),
            Outage::Greets421 => (Step::Greeting, Fault::CloseAfterReply("421 4.3.2 Shutting down".to_owned())),
            Outage::Mail451 => (Step::Mail, reply("451 4.3.0 Try again later")),
            Outage::Rcpt451 => (Step::AnyRcpt, reply("451 4.3.0 Try again later")),
            Outage::Dot451 => (Step::Dot, reply("451 4.3.0 Try again later")),
        };
        provider.set_fault(step, fault, Times::Always);
    }

    async fn end(self, provider: &Provider, time: &TimeWarp) {
        provider.clear_faults();
        match self {
            Outage::NoName => time.set_names(Names::Real),
            Outage::Refuses | Outage::Hangs => provider.restart().await,
            _ => {}
        }
    }

    /// Real time that has to be quiet before time jumps: none when nobody answers.
    fn quiet(self) -> Duration {
        match self {
            Outage::Hangs | Outage::HangsForEver => Duration::ZERO,
            // A reply that comes too late for that is one more trouble, and the outage is only the worse for it.
            _ => Duration::from_millis(4),
        }
    }

    /// How soon the first message has to be through.
    fn limit(self) -> Duration {
        match self {
            // The connection that hangs has to be given up first: two minutes for a greeting.
            Outage::HangsForEver => THROUGH + Duration::from_secs(120),
            _ => THROUGH,
        }
    }
}

/// What was seen of an outage.
struct Seen {
    outage: Outage,
    length: Duration,
    messages: usize,
    connections: usize,
    first: Option<Duration>,
    last: Option<Duration>,
}

/// Waits for so many messages, with ever longer looks.
async fn through(time: &TimeWarp, provider: &Provider, count: usize) -> Option<Duration> {
    let start = time.now();
    let there = || provider.messages().len() >= count;
    for (limit, step) in [(40, 500), (160, 5000), (3600, 60_000)] {
        let (limit, step) = (Duration::from_secs(limit), Duration::from_millis(step));
        let left = limit.saturating_sub(time.now() - start);
        if time.advance_until(left, step, QUIET, there).await.is_some() {
            return Some(time.now() - start);
        }
    }
    None
}

async fn suffer(outage: Outage, length: Duration, count: usize) -> Option<Seen> {
    let time = TimeWarp::new(NOON)?;
    let provider = Provider::builder().tls(TlsMode::None).start().await;
    let account = Section::account("provider", &provider).option("host", "localhost");
    let relay = time.around(Relay::builder().durability("memory").section(account)).start().await;
    if !time.rule(&relay) {
        return None;
    }
    outage.begin(&provider, &time).await;
    let mut device = hello(&relay).await;
    for n in 0..count {
        send(&mut device, n).await;
    }
    drop(device);
    time.advance(length, outage.quiet()).await;
    assert_eq!(provider.messages().len(), 0, "{outage:?}");
    let before = provider.connections().len();
    outage.end(&provider, &time).await;
    let start = time.now();
    let first = through(&time, &provider, 1).await;
    through(&time, &provider, count).await;
    let last = (provider.messages().len() >= count).then(|| time.now() - start);
    let mut numbers: HashMap<usize, usize> = HashMap::new();
    provider.messages().iter().for_each(|message| *numbers.entry(number(message)).or_default() += 1);
    assert!(numbers.values().all(|times| *times == 1), "{outage:?}: {numbers:?}");
    nothing_was_given_up(&relay);
    Some(Seen { outage, length, messages: count, connections: before, first, last })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mail_is_through_within_half_a_minute_of_the_provider_s_return() {
    let mut cases = Vec::new();
    for length in [HOUR / 6, 2 * HOUR] {
        for messages in [1, 50] {
            cases.extend(Outage::ALL.map(|outage| (outage, length, messages)));
        }
    }
    // They sleep most of the time, so that several fit beside each other.
    let mut seen = Vec::new();
    for some in cases.chunks(16) {
        let running: Vec<_> = some.iter().map(|case| tokio::spawn(suffer(case.0, case.1, case.2))).collect();
        for one in running {
            let Some(one) = one.await.expect("an outage") else { return };
            seen.push(one);
        }
    }
    let text = |time: Option<Duration>| time.map_or("-".to_owned(), |time| format!("{:.1} s", time.as_secs_f64()));
    println!("{:<13} {:>7} {:>8} {:>11} {:>9} {:>9}", "outage", "length", "messages", "connections", "first", "last");
    for one in &seen {
        let (name, minutes) = (format!("{:?}", one.outage), format!("{} min", one.length.as_secs() / 60));
        let (first, last) = (text(one.first), text(one.last));
        println!("{name:<13} {minutes:>7} {:>8} {:>11} {first:>9} {last:>9}", one.messages, one.connections);
    }
    let late: Vec<_> = seen.iter().filter(|one| one.first.is_none_or(|first| first > one.outage.limit())).collect();
    let names: Vec<_> = late.iter().map(|one| (one.outage, one.length, one.messages)).collect();
    assert!(names.is_empty(), "too late: {names:?}");
}
