// SPDX-License-Identifier: Apache-2.0
//! Devices that are expected to send: a month in simulated time with reboots, power cuts and a clock that jumps; what the
//! administrator, scripts and monitoring are told; what it costs.

mod support;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use serde_json::Value;
use support::ask::{SOON, json, run};
use support::client::Client;
use support::mime::parsed;
use support::provider::{Fault, Message, Provider, Step, Times, TlsMode};
use support::relay::{Relay, RelayBuilder, Section, field};
use support::timewarp::TimeWarp;

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
/// 2027-03-01 12:00 UTC.
const NOON: i64 = 1_803_902_400;
/// When a router without a battery starts, if it knows no better.
const BUILT: i64 = 1_748_736_000;
/// Longer than an answer of the provider takes on a busy machine, in real time.
const QUIET: Duration = Duration::from_millis(5);

fn device(name: &str, ip: &str, every: &str) -> Section {
    Section::new("device", name).list("ip", ip).option("expect_every", every)
}

fn relay_to(provider: &Provider) -> RelayBuilder {
    let account = Section::account("provider", provider).option("from_policy", "keep");
    let builder = Relay::builder().relay_option("hostname", "gw.example").relay_option("admin", "admin@example.com");
    builder.section(account).allow_nobody().allow("127.0.0.0/8")
}

async fn provider() -> Provider {
    Provider::builder().tls(TlsMode::None).start().await
}

/// A message of the device with this address.
async fn send_from(relay: &Relay, source: &str) {
    send_to(relay, source, "ops@example.com").await;
}

async fn send_to(relay: &Relay, source: &str, to: &str) {
    let source: IpAddr = source.parse().expect("an address");
    let mut client = Client::greeted_from(source, relay.addr()).await;
    client.set_limit(SOON);
    client.dialogue(&[("EHLO plc", 250)]).await;
    let reply = client.send("plc@example.com", &[to], "Subject: alive\r\n\r\nx\r\n").await;
    assert_eq!(reply.code, 250, "{reply:?}");
    client.dialogue(&[("QUIT", 221)]).await;
}

/// The notices, by their subjects.
fn notices(provider: &Provider) -> Vec<Message> {
    let subject = |message: &Message| message.header("Subject").unwrap_or_default();
    provider.messages().into_iter().filter(|message| subject(message) != "alive").collect()
}

fn subjects(provider: &Provider) -> Vec<String> {
    notices(provider).iter().filter_map(|message| message.header("Subject")).collect()
}

/// The events about devices, each as its name and the device.
fn events(relay: &Relay) -> Vec<(String, String)> {
    let log = relay.log();
    let event = |line: &String| {
        let name = field(line, "event").filter(|name| name.starts_with("device_"))?;
        Some((name.to_owned(), field(line, "device")?.to_owned()))
    };
    log.iter().filter_map(event).collect()
}

async fn expected(relay: &Relay) -> BTreeMap<String, Value> {
    let status = json(relay, "status").await;
    let list = status["expected"].as_array().expect("a list").clone();
    list.into_iter().map(|device| (device["name"].as_str().expect("a name").to_owned(), device)).collect()
}

#[tokio::test]
async fn a_month_with_reboots_power_cuts_and_a_clock_that_jumps() {
    let Some(time) = TimeWarp::new(NOON) else { return };
    let provider = provider().await;
    let builder = relay_to(&provider)
        .section(device("often", "127.0.0.2", "8h"))
        .section(device("daily", "127.0.0.3", "26h"))
        .section(device("dies", "127.0.0.4", "2d").option("name", "Boiler, cellar"))
        .section(device("dead", "127.0.0.5", "1w"));
    let mut relay = time.around(builder).start().await;
    if !time.rule(&relay) {
        return;
    }
    let silences = |relay: &Relay, device: &str| {
        let is_it = |(event, of): &(String, String)| event == "device_silent" && of == device;
        events(relay).iter().filter(|event| is_it(event)).count()
    };
    // The log of earlier runs is kept: restarts append.
    for day in 0..30 {
        for hour in 0..24 {
            // Every three hours; the ninth day lacks four messages.
            if hour % 3 == 0 && !(day == 9 && (6..18).contains(&hour)) {
                send_from(&relay, "127.0.0.2").await;
            }
            if hour == 7 {
                send_from(&relay, "127.0.0.3").await;
            }
            // It dies on the 12th day, and is repaired on the 20th.
            if hour % 12 == 0 && !(12..20).contains(&day) {
                send_from(&relay, "127.0.0.4").await;
            }
            time.advance(HOUR, QUIET).await;
            match (day, hour) {
                // NTP was wrong by years, and is right again.
                (3, 5) => time.set_wall(time.wall() + 400 * 86_400),
                (3, 15) => time.set_wall(time.wall() - 400 * 86_400),
                // The wall clock goes back in the middle of a silence, and forth before it ends.
                (9, 7) => time.set_wall(time.wall() - 5 * 86_400),
                (9, 16) => time.set_wall(time.wall() + 5 * 86_400),
                // Every fourth day the router is restarted in order, every fourth the power fails; for a while the
                // clock shows when the system was built, and sometimes it is never set in a run.
                _ if hour == 13 && day % 4 == 1 || hour == 3 && day % 4 == 3 => {
                    let wall = time.wall();
                    if day % 4 == 1 {
                        relay.sigterm();
                        relay.wait_exit().await;
                    } else {
                        relay.kill9();
                    }
                    time.reboot();
                    time.set_wall(BUILT);
                    relay.restart().await;
                    assert!(time.rule(&relay));
                    if day % 8 != 7 {
                        time.advance(2 * MINUTE, QUIET).await;
                        time.set_wall(wall + 180);
                    }
                }
                _ => {}
            }
        }
        if time.wall() < NOON {
            time.set_wall(NOON + day * 86_400);
        }
    }
    time.advance(10 * MINUTE, QUIET).await;
    let wanted = [("often", 1), ("daily", 0), ("dies", 1), ("dead", 1)];
    let found = wanted.map(|(device, _)| (device, silences(&relay, device)));
    println!("{:#?}\n{:#?}\ntime jumped {} times", subjects(&provider), events(&relay), time.jumps());
    assert_eq!(found, wanted);
    let ends: Vec<_> = events(&relay).into_iter().filter(|(event, _)| event == "device_ok").map(|(_, of)| of).collect();
    assert_eq!(ends, ["often", "dies"]);
    let wanted = [
        "Silent device: dead",
        "Silent device: often",
        "Heard again: often",
        "Silent device: Boiler, cellar",
        "Heard again: Boiler, cellar",
    ];
    assert_eq!(subjects(&provider), wanted);
    let now = expected(&relay).await;
    let overdue: Vec<&String> =
        now.iter().filter(|(_, device)| device["overdue"] == true).map(|(name, _)| name).collect();
    assert_eq!(overdue, ["dead"]);
}

#[tokio::test]
async fn everybody_is_told_once_and_once_that_it_is_over() {
    let Some(time) = TimeWarp::new(NOON) else { return };
    let provider = provider().await;
    let told = tempfile::Builder::new().prefix("smtprelay-silent-").tempdir().expect("a folder");
    std::fs::set_permissions(told.path(), PermissionsExt::from_mode(0o777)).expect("a mode");
    let (script, calls) = (told.path().join("script"), told.path().join("calls"));
    let text = format!(
        "#!/bin/sh\ncase $ACTION in device*) echo \"$ACTION $SMTPRELAY_DEVICE: $SMTPRELAY_REASON\" >>'{}';; esac\n",
        calls.display()
    );
    std::fs::write(&script, text).expect("a script");
    std::fs::set_permissions(&script, PermissionsExt::from_mode(0o755)).expect("a mode");
    let calls = || std::fs::read_to_string(&calls).unwrap_or_default();
    let network = device("pumps", "127.0.0.16/28", "24h").option("name", "Pump house");
    let builder = relay_to(&provider).relay_option("hook", script.display()).section(network);
    let mut relay = time.around(builder).start().await;
    if !time.rule(&relay) {
        return;
    }
    let file = relay.safe_spool().join("silent_devices");
    // Each of the hosts is the device, a stranger is not, and neither is the gateway itself.
    send_from(&relay, "127.0.0.17").await;
    time.advance(20 * HOUR, QUIET).await;
    send_from(&relay, "127.0.0.18").await;
    let heard = time.wall();
    time.advance(5 * HOUR, QUIET).await;
    send_from(&relay, "127.0.0.2").await;
    let shown = expected(&relay).await["pumps"].clone();
    assert_eq!(
        (&shown["overdue"], &shown["device"], &shown["every"]),
        (&false.into(), &"Pump house".into(), &86_400.into())
    );
    assert!((shown["last_heard"].as_i64().expect("a time") - heard).abs() <= 2, "{shown}");
    assert_eq!((events(&relay).len(), run(&relay, "status --check").await.code), (0, 0));

    time.advance(20 * HOUR, QUIET).await;
    let there = || !notices(&provider).is_empty();
    assert!(time.advance_until(HOUR, Duration::from_secs(5), QUIET, there).await.is_some(), "{:?}", relay.log());
    let log = relay.log();
    let line = log.iter().find(|line| field(line, "event") == Some("device_silent")).expect("an event");
    assert_eq!((field(line, "device"), field(line, "name")), (Some("pumps"), Some("Pump house")), "{line}");
    let reason = "no message has been accepted for 1d; one is expected every 1d";
    assert_eq!(field(line, "text"), Some(reason), "{line}");
    let mail = &notices(&provider)[0];
    assert_eq!((mail.recipients.as_slice(), mail.sender.as_str()), (&["admin@example.com".to_owned()][..], ""));
    if let Some(found) = parsed(&mail.data) {
        let words = found["parts"][0]["text"].as_str().expect("text").split_whitespace().collect::<Vec<_>>().join(" ");
        println!("{words}");
        assert!(words.contains("Pump house has been silent for 1 day: the mail gateway gw.example"), "{words}");
        assert!(words.contains(&smtprelay::message::date::rfc5322(heard)[..20]), "{words}");
    }
    let script_said = async {
        while !calls().contains("device_silent") {
            tokio::time::sleep(MINUTE / 6000).await;
        }
    };
    tokio::time::timeout(SOON, script_said).await.expect("the hook");
    assert_eq!(calls(), format!("device_silent pumps: {reason}\n"));
    let shown = expected(&relay).await["pumps"].clone();
    assert!((shown["overdue_since"].as_i64().expect("a time") - heard - 86_400).abs() <= 2, "{shown}");
    let text = run(&relay, "status").await;
    assert!(text.code == 0 && text.out.contains("device Pump house: SILENT for 1d"), "{text:?}");
    let check = run(&relay, "status --check").await;
    assert!(check.code == 1 && check.out.contains("WARNING - Relaying; no messages waiting."), "{check:?}");
    assert!(check.out.contains("Silent for too long: Pump house."), "{check:?}");
    let metrics = run(&relay, "status --prometheus").await.out;
    assert!(metrics.contains("smtprelay_device_overdue{device=\"pumps\"} 1\n"), "{metrics}");
    assert!(metrics.contains("smtprelay_device_last_heard_timestamp_seconds{device=\"pumps\"} "), "{metrics}");
    let history = json(&relay, "history").await;
    let entry = &history["entries"][1];
    assert_eq!(
        (&entry["outcome"], &entry["device"], &entry["text"]),
        (&"silent".into(), &"Pump house".into(), &reason.into()),
        "{history}"
    );

    // Neither a restart nor a power cut is another silence, once the mail has outlived the latter.
    time.advance(2 * MINUTE, QUIET).await;
    let stored = std::fs::read_to_string(&file).expect("the file");
    assert!(stored.starts_with("{\"pumps\":[86") && stored.contains(",true,"), "{stored}");
    relay.kill9();
    time.reboot();
    relay.restart().await;
    assert!(time.rule(&relay));
    time.advance(30 * HOUR, QUIET).await;
    relay.sigterm();
    relay.wait_exit().await;
    relay.restart().await;
    assert!(time.rule(&relay));
    time.advance(HOUR, QUIET).await;
    assert_eq!((notices(&provider).len(), events(&relay).len()), (1, 1), "{:?}", relay.log());

    send_from(&relay, "127.0.0.30").await;
    let there = || notices(&provider).len() == 2;
    assert!(time.advance_until(HOUR, Duration::from_secs(5), QUIET, there).await.is_some(), "{:?}", relay.log());
    assert_eq!(subjects(&provider), ["Silent device: Pump house", "Heard again: Pump house"]);
    let over = async {
        while !calls().contains("device_ok") {
            tokio::time::sleep(MINUTE / 6000).await;
        }
    };
    tokio::time::timeout(SOON, over).await.expect("the hook");
    assert!(calls().contains("device_ok pumps: a message was accepted after 2d 7h"), "{}", calls());
    time.advance(MINUTE, QUIET).await;
    assert!(!file.exists(), "there is nothing to remember");
    assert_eq!(run(&relay, "status --check").await.code, 0);
    send_from(&relay, "127.0.0.17").await;
    time.advance(HOUR, QUIET).await;
    assert_eq!((notices(&provider).len(), events(&relay).len()), (2, 2));

    // The settings no longer expect it: no mail, but whatever a script has switched on is switched off.
    time.advance(25 * HOUR, QUIET).await;
    assert_eq!(notices(&provider).len(), 3);
    relay.configure("device", "pumps", |_| device("pumps", "127.0.0.16/28", "3d"));
    assert_eq!(run(&relay, "reload").await.code, 0);
    relay.wait_log(|line| line.contains("its expect_every was changed or removed"), SOON).await;
    time.advance(2 * MINUTE, QUIET).await;
    assert_eq!(notices(&provider).len(), 3);
    relay.take_away("device", "pumps");
    assert_eq!(run(&relay, "reload").await.code, 0);
    time.advance(2 * MINUTE, QUIET).await;
    assert!(!file.exists() && expected(&relay).await.is_empty());
}

/// A device that sends often is not worth a write; and without an expectation there is nothing at all.
#[tokio::test]
async fn it_costs_nothing_that_is_not_needed() {
    for every in [None, Some("24h")] {
        let Some(time) = TimeWarp::new(NOON) else { return };
        let provider = provider().await;
        let section = Section::new("device", "plc").list("ip", "127.0.0.2");
        let section = every.iter().fold(section, |section, every| section.option("expect_every", every));
        let relay = time.around(relay_to(&provider).section(section)).start().await;
        if !time.rule(&relay) {
            return;
        }
        let file = relay.safe_spool().join("silent_devices");
        send_from(&relay, "127.0.0.2").await;
        for _ in 0..10 {
            time.advance(5 * HOUR, QUIET).await;
            assert!(!file.exists(), "{every:?}");
            send_from(&relay, "127.0.0.2").await;
        }
        let status = json(&relay, "status").await;
        assert_eq!(status["safe_spool"]["files_written"], 0, "{every:?}");
        assert_eq!(status["expected"].as_array().map(Vec::len), Some(every.iter().count()));
        // An idle hour has as many wakings with the expectation as without.
        let before = time.jumps();
        time.advance(HOUR, QUIET).await;
        println!("{every:?}: {} wakings in an idle hour", time.jumps() - before);
    }
}

/// Without `safe_spool`, it is beside the passwords, which are on flash.
#[tokio::test]
async fn many_silent_devices_share_a_mail_and_none_is_lost_with_the_queue() {
    let Some(time) = TimeWarp::new(NOON) else { return };
    let provider = provider().await;
    let sections =
        (0..20).map(|n| device(&format!("plc{n}"), &format!("127.0.1.{n}"), if n < 5 { "1h" } else { "90m" }));
    let secrets = tempfile::Builder::new().prefix("smtprelay-secrets-").tempdir().expect("a folder");
    let builder = relay_to(&provider).relay_option("safe_spool", "").relay_option("durability", "memory");
    let builder = builder.relay_option("secrets", secrets.path().display());
    let builder = sections.fold(builder, |builder, section| builder.section(section));
    let mut relay = time.around(builder).start().await;
    if !time.rule(&relay) {
        return;
    }
    time.advance(2 * HOUR, QUIET).await;
    assert_eq!(subjects(&provider), ["5 silent devices", "15 silent devices"]);
    let stored = std::fs::read_to_string(secrets.path().join("silent_devices")).expect("the file");
    assert_eq!(stored.matches(",true,").count(), 20, "{stored}");
    for n in 0..20 {
        send_from(&relay, &format!("127.0.1.{n}")).await;
    }
    // Within ten minutes there are three at the most; the last tells of all that came meanwhile, or when it is stopped.
    relay.sigterm();
    relay.wait_exit().await;
    relay.restart().await;
    assert!(time.rule(&relay));
    time.advance(20 * MINUTE, QUIET).await;
    let told = notices(&provider);
    assert!(told.len() <= 2 + 3 + 1, "{:?}", subjects(&provider));
    let words: String = told.iter().skip(2).map(Message::text).collect();
    assert_eq!(words.matches(" has been heard again:").count(), 20, "{words}");
}

/// What the gateway itself writes on behalf of a device is not a sign of life: the digest of its mail, and the report of a
/// failure.
#[tokio::test]
async fn mail_of_the_gateway_itself_does_not_end_a_silence() {
    let Some(time) = TimeWarp::new(NOON) else { return };
    let provider = provider().await;
    let recipient = Step::Rcpt("gone@example.com".into());
    provider.set_fault(recipient, Fault::Reply("451 4.2.1 Mailbox busy".into()), Times::Always);
    let section = device("pump", "127.0.0.2", "1h").option("rate", "2/d").option("digest_every", "90m");
    let builder = relay_to(&provider).relay_option("retry_for", "80m").section(section);
    let relay = time.around(builder).start().await;
    if !time.rule(&relay) {
        return;
    }
    send_to(&relay, "127.0.0.2", "gone@example.com").await;
    for _ in 0..3 {
        send_from(&relay, "127.0.0.2").await;
    }
    let happened = |event: &str| relay.log().iter().any(|line| field(line, "event") == Some(event));
    let there = || happened("digested") && happened("failed");
    assert!(time.advance_until(4 * HOUR, MINUTE, QUIET, there).await.is_some(), "{:?}", relay.log());
    time.advance(MINUTE, QUIET).await;
    let wanted = [("device_silent".to_owned(), "pump".to_owned())];
    assert_eq!(events(&relay), wanted, "{:?}", relay.log());
    send_from(&relay, "127.0.0.2").await;
    relay.wait_log(|line| field(line, "event") == Some("device_ok"), SOON).await;
}
