// SPDX-License-Identifier: Apache-2.0
//! Who hears of failures and delays, and when, in simulated time: single notices, summaries, crashes in between.

mod support;

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Value, json};
use support::ask::{SOON, hello, json as asked, queue_until, run, said, send, send_on};
use support::disk::{files, wait_for_files};
use support::mime::{parsed, parsed_report};
use support::provider::{Fault, Message, Provider, Step, Times, TlsMode};
use support::relay::{Relay, RelayBuilder, Section, field};
use support::timewarp::TimeWarp;

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
/// 2027-03-01 12:00 UTC.
const NOON: i64 = 1_803_902_400;
/// Longer than an answer of the provider takes on a busy machine, in real time.
const QUIET: Duration = Duration::from_millis(5);
const STORM: usize = 60;
const LATE: &str = "late@example.com";

/// A gateway in simulated time with a provider that knows nobody whose name begins with `gone`.
async fn start(time: &TimeWarp, change: impl FnOnce(RelayBuilder) -> RelayBuilder) -> Option<(Provider, Relay)> {
    let provider = Provider::builder().tls(TlsMode::None).start().await;
    for n in 0..STORM {
        refuse(&provider, &gone(n));
    }
    let account = Section::account("provider", &provider).option("from_policy", "keep");
    let builder = Relay::builder().relay_option("hostname", "gw.example").section(account);
    let relay = time.around(change(builder)).start().await;
    time.rule(&relay).then_some((provider, relay))
}

fn gone(n: usize) -> String {
    format!("gone{n}@example.com")
}

fn refuse(provider: &Provider, address: &str) {
    provider.set_fault(Step::Rcpt(address.into()), Fault::Reply("550 5.1.1 No such user".into()), Times::Always);
}

fn put_off(provider: &Provider, address: &str, times: Times) {
    provider.set_fault(Step::Rcpt(address.into()), Fault::Reply("451 4.2.1 Mailbox busy".into()), times);
}

async fn restart(time: &TimeWarp, relay: &mut Relay) {
    relay.restart().await;
    assert!(time.rule(relay));
}

/// The mails that tell, among all that arrived.
fn told(provider: &Provider) -> Vec<Message> {
    provider.messages().into_iter().filter(|message| message.sender.is_empty()).collect()
}

/// What one of them says to people; `None` without a parser.
fn words(message: &Message) -> Option<String> {
    let found =
        if message.text().contains("multipart/report") { parsed_report(&message.data) } else { parsed(&message.data) };
    found.map(|found: Value| found["parts"][0]["text"].as_str().expect("text").to_owned())
}

/// Lets time pass until so many mails that tell have arrived.
async fn wait_told(time: &TimeWarp, provider: &Provider, count: usize, limit: Duration) -> Duration {
    let there = || told(provider).len() >= count;
    let took = time.advance_until(limit, Duration::from_secs(5), QUIET, there).await;
    took.unwrap_or_else(|| panic!("{} of {count} mails tell after {limit:?}", told(provider).len()))
}

/// Sends the storm and waits until all have failed.
async fn storm(relay: &Relay) -> Vec<String> {
    let mut device = hello(relay).await;
    let mut names = Vec::new();
    for n in 0..STORM {
        names.push(send_on(&mut device, &[&gone(n)], &format!("alarm {n}")).await);
    }
    for name in &names {
        relay.wait_log(|line| field(line, "event") == Some("failed") && field(line, "id") == Some(name), SOON).await;
    }
    names
}

/// Waits until so many failures are collected for a summary.
async fn collected(relay: &Relay, count: usize) {
    let there = async { while asked(relay, "status").await["queue"]["reporting"] != json!(count) {} };
    tokio::time::timeout(SOON, there).await.unwrap_or_else(|_| panic!("not {count} failures are collected"));
}

/// Of which messages these mails tell, and how often in all.
fn told_of<'a>(mails: &[String], names: &'a [String]) -> (BTreeSet<&'a str>, usize) {
    let about = |name: &&String| mails.iter().filter(|mail| mail.contains(name.as_str())).count();
    (
        names.iter().filter(|name| about(name) > 0).map(String::as_str).collect(),
        names.iter().map(|name| about(&name)).sum(),
    )
}

#[tokio::test]
async fn a_storm_is_three_notices_and_one_summary() {
    let Some(time) = TimeWarp::new(NOON) else { return };
    let Some((provider, relay)) = start(&time, |builder| builder).await else { return };
    let names = storm(&relay).await;
    provider.wait_for_messages(3, SOON).await;
    // Until the others are told, their files stay; but nobody waits for them, and nothing can be done about them.
    collected(&relay, STORM - 3).await;
    let status = asked(&relay, "status").await;
    assert_eq!(
        (&status["queue"]["messages"], &status["health"]),
        (&json!(0), &json!("Relaying; no messages waiting."))
    );
    assert_eq!(run(&relay, &format!("queue show {}", names[STORM - 1])).await.code, 66);
    let took = wait_told(&time, &provider, 4, 20 * MINUTE).await;
    println!("the summary came after {took:?}");
    wait_for_files(&relay.spool(), 0).await;
    wait_for_files(&relay.safe_spool(), 0).await;
    queue_until(&relay, |all| all.is_empty()).await;
    // Nothing comes after it.
    time.advance(2 * HOUR, QUIET).await;
    let mails = told(&provider);
    assert_eq!((mails.len(), provider.messages().len()), (4, 4));
    assert!(mails.iter().all(|mail| mail.recipients == ["plc@example.com"]));
    let Some(texts) = mails.iter().map(words).collect::<Option<Vec<String>>>() else { return };
    println!("{}", texts[3]);
    let (about, times) = told_of(&texts, &names);
    assert_eq!((about.len(), times), (STORM, STORM), "each once");
    assert_eq!(mails[3].header("Subject").as_deref(), Some("57 messages not delivered"));
    for n in 0..STORM {
        assert_eq!(texts.iter().filter(|text| text.contains(&gone(n))).count(), 1, "{}", gone(n));
    }
}

#[tokio::test]
async fn a_crash_between_failure_and_summary_leaves_nobody_in_the_dark() {
    let Some(time) = TimeWarp::new(NOON) else { return };
    let Some((provider, mut relay)) = start(&time, |builder| builder).await else { return };
    let names = storm(&relay).await;
    collected(&relay, STORM - 3).await;
    // Nothing is waited for, as the next restart may come soon; nor for an account that can send nothing.
    provider.stop().await;
    for round in 0..3 {
        match round {
            1 => relay.restart().await,
            _ => {
                relay.kill9();
                relay.restart().await;
            }
        }
        assert!(time.rule(&relay));
        let summary = |line: &str| line.contains("event=notified") && line.contains("57-messages");
        if round == 0 {
            relay.wait_log(summary, SOON).await;
        }
        queue_until(&relay, |all| all.len() == 1 && all[0]["notice"] == true).await;
        assert_eq!(relay.log().iter().filter(|line| summary(line)).count(), 1, "{:#?}", relay.log());
    }
    provider.restart().await;
    wait_told(&time, &provider, 4, 20 * MINUTE).await;
    wait_for_files(&relay.safe_spool(), 0).await;
    wait_for_files(&relay.spool(), 0).await;
    let mails = told(&provider);
    let Some(texts) = mails.iter().map(words).collect::<Option<Vec<String>>>() else { return };
    let (about, times) = told_of(&texts, &names);
    println!("{} mails tell of {} failures, {times} times", mails.len(), about.len());
    assert_eq!((about.len(), times), (STORM, STORM), "each once");
    assert_eq!(mails.len(), 4, "three singles, and one summary");
}

/// The messages in the safe spool whose journal contains `note` so often.
fn noted(relay: &Relay, note: &str, times: usize) -> usize {
    let text = |name: &String| std::fs::read(relay.safe_spool().join("queue").join(name)).unwrap_or_default();
    let has = |name: &&String| String::from_utf8_lossy(&text(name)).matches(note).count() == times;
    files(&relay.safe_spool()).iter().filter(has).count()
}

/// What was collected for a summary when the gateway was killed is told after the next start, once.
#[tokio::test]
async fn delays_and_doubts_that_a_crash_kept_from_their_summary_are_told_as_well() {
    const MANY: usize = 8;
    const SINGLES: usize = 3;
    for (note, times, words) in
        [("\"late\"", 1, "messages are delayed"), ("\"doubt\"", 3, "messages with uncertain delivery")]
    {
        let Some(time) = TimeWarp::new(NOON) else { return };
        let change = |builder: RelayBuilder| {
            builder
                .relay_option("durability", "always")
                .relay_option("delay_notice", "1h")
                .relay_option("retry_max", "1m")
        };
        let Some((provider, mut relay)) = start(&time, change).await else { return };
        let delayed = note == "\"late\"";
        let mut device = hello(&relay).await;
        let mut names = Vec::new();
        for n in 0..MANY {
            let to = format!("late{n}@example.com");
            match delayed {
                true => put_off(&provider, &to, Times::Always),
                false => provider.set_fault(Step::Dot, Fault::Close, Times::Always),
            }
            names.push(send_on(&mut device, &[&to], &format!("alarm {n}")).await);
        }
        drop(device);
        let collected = if delayed { MANY - SINGLES } else { MANY };
        let there = || noted(&relay, note, times) >= collected;
        let took = time.advance_until(3 * HOUR, Duration::from_secs(20), QUIET, there).await;
        assert!(took.is_some(), "{note}: {:#?}", relay.log());
        let singles = |relay: &Relay| relay.log().iter().filter(|line| line.contains("event=notified")).count();
        assert_eq!(singles(&relay), SINGLES, "{note}: {:#?}", relay.log());
        relay.kill9();
        provider.clear_faults();
        (0..MANY).filter(|_| delayed).for_each(|n| put_off(&provider, &format!("late{n}@example.com"), Times::Always));
        restart(&time, &mut relay).await;
        let summary = |line: &str| line.contains("event=notified") && line.contains("5-messages");
        relay.wait_log(summary, SOON).await;
        wait_told(&time, &provider, SINGLES + 1, 20 * MINUTE).await;
        restart(&time, &mut relay).await;
        time.advance(20 * MINUTE, QUIET).await;
        relay.kill9();
        restart(&time, &mut relay).await;
        time.advance(20 * MINUTE, QUIET).await;
        let mails: Vec<String> = told(&provider).iter().map(Message::text).collect();
        assert!(mails.iter().any(|mail| mail.contains(&format!("Subject: 5 {words}"))), "{mails:#?}");
        assert_eq!((mails.len(), told_of(&mails, &names).0.len()), (SINGLES + 1, MANY), "{note}: {mails:#?}");
    }
}

/// The summary asks its reader to release the messages, or to delete them. One that is deleted has nothing more to say.
#[tokio::test]
async fn a_deleted_message_is_in_no_summary_of_doubts() {
    const MANY: usize = 5;
    let Some(time) = TimeWarp::new(NOON) else { return };
    let change = |builder: RelayBuilder| builder.relay_option("durability", "always").relay_option("retry_max", "1m");
    let Some((provider, relay)) = start(&time, change).await else { return };
    provider.set_fault(Step::Dot, Fault::Close, Times::Always);
    let mut device = hello(&relay).await;
    let mut names = Vec::new();
    for n in 0..MANY {
        names.push(send_on(&mut device, &["ops@example.com"], &format!("alarm {n}")).await);
    }
    drop(device);
    let of =
        |event: &str| relay.log().into_iter().filter(|line| field(line, "event") == Some(event)).collect::<Vec<_>>();
    let there = || of("held").len() == MANY && of("notified").len() == 3;
    assert!(time.advance_until(3 * HOUR, Duration::from_secs(20), QUIET, there).await.is_some(), "{:#?}", relay.log());
    let singles = of("notified");
    names.retain(|name| !singles.iter().any(|line| line.contains(name.as_str())));
    assert_eq!(names.len(), 2, "{singles:?}");
    said(&relay, &format!("queue delete {}", names[0])).await;
    provider.clear_faults();
    said(&relay, "wake").await;
    wait_told(&time, &provider, 4, 20 * MINUTE).await;
    let mails: Vec<String> = told(&provider).iter().map(Message::text).collect();
    let summary = mails.iter().find(|mail| mail.contains("with uncertain delivery")).expect("a summary");
    assert!(summary.contains("Subject: 1 message with") && summary.contains(&names[1]), "{summary}");
    assert!(!summary.contains(&names[0]), "{summary}");
}

#[tokio::test]
async fn recipients_that_fail_one_after_the_other_are_all_told() {
    let Some(time) = TimeWarp::new(NOON) else { return };
    let Some((provider, relay)) = start(&time, |builder| builder.relay_option("retry_min", "60s")).await else {
        return;
    };
    // A storm, so that what follows is collected.
    let mut device = hello(&relay).await;
    for n in 0..3 {
        send_on(&mut device, &[&gone(n)], "storm").await;
    }
    provider.wait_for_messages(3, SOON).await;
    // One fails at once, one at the next try, one in the end after the summary.
    put_off(&provider, "second@example.com", Times::First(1));
    refuse(&provider, "second@example.com");
    put_off(&provider, LATE, Times::First(5));
    refuse(&provider, LATE);
    let name = send_on(&mut device, &[&gone(3), "second@example.com", LATE], "three ways to fail").await;
    let mut last = 3;
    let mut seen: Vec<String> = Vec::new();
    for recipient in [gone(3), "second@example.com".to_owned(), LATE.to_owned()] {
        let told_of_it = || told(&provider).iter().any(|mail| mail.text().contains(&recipient));
        let took = time.advance_until(6 * HOUR, Duration::from_secs(20), QUIET, told_of_it).await;
        println!("{recipient} told after {took:?}");
        assert!(took.is_some(), "nobody heard of {recipient}: {:#?}", relay.log());
        let mails = told(&provider);
        seen.extend(mails.iter().skip(last).map(Message::text));
        last = mails.len();
    }
    for recipient in [gone(3).as_str(), "second@example.com", LATE] {
        let times = seen.iter().filter(|text| text.contains(recipient) && text.contains(&name)).count();
        assert_eq!(times, 1, "{recipient} in {seen:#?}");
    }
    wait_for_files(&relay.safe_spool(), 0).await;
    wait_for_files(&relay.spool(), 0).await;
    queue_until(&relay, |all| all.is_empty()).await;
}

#[tokio::test]
async fn a_delay_is_told_once_and_never_of_a_notice() {
    let Some(time) = TimeWarp::new(NOON) else { return };
    let change = |builder: RelayBuilder| builder.relay_option("retry_for", "6h").relay_option("delay_notice", "1h");
    let Some((provider, mut relay)) = start(&time, change).await else { return };
    put_off(&provider, LATE, Times::Always);
    let name = send(&relay, &[LATE], "delayed").await;
    time.advance(HOUR - 5 * MINUTE, QUIET).await;
    assert_eq!(told(&provider).len(), 0);
    // With the next try after an hour.
    let took = wait_told(&time, &provider, 1, 2 * HOUR).await;
    println!("told {took:?} after 55 min");
    // The next notices have to wait, and nobody is told of that.
    put_off(&provider, "plc@example.com", Times::Always);
    send(&relay, &[&gone(0)], "a failure").await;
    time.advance(HOUR, QUIET).await;
    restart(&time, &mut relay).await;
    time.advance(HOUR, QUIET).await;
    relay.kill9();
    restart(&time, &mut relay).await;
    time.advance(HOUR, QUIET).await;
    let mails = told(&provider);
    assert_eq!(mails.len(), 1);
    let waiting = queue_until(&relay, |all| all.len() == 2).await;
    assert!(waiting.iter().any(|message| message["notice"] == json!(true)), "{waiting:?}");
    let Some(found) = parsed_report(&mails[0].data) else { return };
    assert_eq!(found["parts"][1]["blocks"][1]["Action"], json!("delayed"), "{found}");
    assert_eq!(found["parts"][1]["blocks"][1]["Final-Recipient"], json!(format!("rfc822; {LATE}")));
    let text = found["parts"][0]["text"].as_str().unwrap();
    assert!(text.contains(&name) && text.contains("Mailbox busy"), "{text}");
    // It expires after six hours, and that is told in turn.
    provider.clear_faults();
    put_off(&provider, LATE, Times::Always);
    wait_told(&time, &provider, 3, 6 * HOUR).await;
    let last = told(&provider);
    assert!(last.iter().filter(|mail| mail.text().contains("Action: failed")).count() == 2, "{}", last.len());
    wait_for_files(&relay.safe_spool(), 0).await;
}

#[tokio::test]
async fn no_delay_is_told_when_it_is_switched_off_or_while_nothing_leaves() {
    for (delay_notice, provider_stops) in [("0", false), ("30m", true)] {
        let Some(time) = TimeWarp::new(NOON) else { return };
        let change = |builder: RelayBuilder| builder.relay_option("delay_notice", delay_notice);
        let Some((provider, relay)) = start(&time, change).await else { return };
        if provider_stops {
            provider.stop().await;
        }
        put_off(&provider, LATE, Times::Always);
        send(&relay, &[if provider_stops { "ops@example.com" } else { LATE }], "delayed").await;
        time.advance(2 * HOUR, QUIET).await;
        assert_eq!(files(&relay.safe_spool()).len(), 1, "the message waits, and nothing else");
        assert_eq!(told(&provider).len(), 0);
        if provider_stops {
            provider.restart().await;
            time.advance(HOUR, QUIET).await;
            assert_eq!((provider.messages().len(), told(&provider).len()), (1, 0));
        }
    }
}

#[tokio::test]
async fn what_is_given_up_after_its_time_is_told() {
    for provider_stops in [false, true] {
        let Some(time) = TimeWarp::new(NOON) else { return };
        let change = |builder: RelayBuilder| builder.relay_option("retry_for", "1h").relay_option("delay_notice", "0");
        let Some((provider, relay)) = start(&time, change).await else { return };
        put_off(&provider, LATE, Times::Always);
        let to = if provider_stops { "ops@example.com" } else { LATE };
        if provider_stops {
            provider.stop().await;
        }
        let name = send(&relay, &["now@example.com", to], "given up").await;
        time.advance(HOUR - MINUTE, QUIET).await;
        assert!(!relay.log().iter().any(|line| field(line, "event") == Some("failed")));
        time.advance(3 * MINUTE, QUIET).await;
        relay.wait_log(|line| field(line, "event") == Some("failed") && field(line, "id") == Some(&name), SOON).await;
        provider.restart().await;
        wait_told(&time, &provider, 1, HOUR).await;
        let Some(text) = words(&told(&provider)[0]) else { return };
        println!("{text}");
        let why = if provider_stops { "no connection to" } else { "Mailbox busy" };
        let flat = text.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(flat.contains(to) && flat.contains("given up after 1h; last error: ") && flat.contains(why), "{text}");
        assert_eq!(flat.contains("now@example.com"), provider_stops, "{text}");
        wait_for_files(&relay.safe_spool(), 0).await;
    }
}
