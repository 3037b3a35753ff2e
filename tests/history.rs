// SPDX-License-Identifier: Apache-2.0
//! What is remembered of the mail: the last verdicts and every device, over restarts and crashes.

mod support;

use std::net::Ipv4Addr;
use std::time::Duration;

use serde_json::{Value, json};
use support::ask::{SOON, hello, json, said, send_on};
use support::disk::wait_for_files;
use support::provider::{Fault, Provider, Step, Times, TlsMode};
use support::relay::{Relay, RelayBuilder, Section, field};
use support::timewarp::TimeWarp;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpSocket;

const TO: [&str; 1] = ["ops@example.com"];
/// 2027-03-01 12:00 UTC.
const NOON: i64 = 1_803_902_400;

fn relay_to(provider: &Provider) -> RelayBuilder {
    let account = Section::account("provider", provider).option("from_policy", "keep").option("host", "localhost");
    Relay::builder().section(account)
}

/// Sends a mail for each of `to` in one session from this address, and returns all that was said.
async fn session_from(relay: &Relay, last: u8, to: &[&str]) -> String {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind((Ipv4Addr::new(127, 0, 0, last), 0).into()).unwrap();
    let mut stream = socket.connect(relay.addr()).await.unwrap();
    let mut text = format!("EHLO plc{last}\r\n");
    for to in to {
        text += &format!("MAIL FROM:<plc@example.com>\r\nRCPT TO:<{to}>\r\nDATA\r\nSubject: x\r\n\r\nx\r\n.\r\n");
    }
    text += "QUIT\r\n";
    let mut said = Vec::new();
    // Who is refused can't write.
    let _ = stream.write_all(text.as_bytes()).await;
    let _ = stream.read_to_end(&mut said).await;
    String::from_utf8_lossy(&said).into_owned()
}

async fn device(relay: &Relay, client: &str) -> Value {
    let devices = json(relay, "devices").await;
    let found = devices["devices"].as_array().expect("a list").iter().find(|device| device["client"] == json!(client));
    found.unwrap_or_else(|| panic!("{client} is not among {devices}")).clone()
}

/// Accepted, delivered, failed, refused.
fn counts(device: &Value) -> [u64; 4] {
    ["accepted", "delivered", "failed", "refused"].map(|name| device[name].as_u64().expect(name))
}

/// Waits until the history has so many verdicts; it hears of them a moment after the log.
async fn verdicts(relay: &Relay, count: usize) -> Vec<Value> {
    let there = async {
        loop {
            let history = json(relay, "history").await;
            let entries = history["entries"].as_array().expect("a list").clone();
            assert_eq!(history["total"], json!(entries.len()));
            if entries.len() >= count {
                return entries;
            }
        }
    };
    tokio::time::timeout(SOON, there).await.unwrap_or_else(|_| panic!("never {count} verdicts"))
}

#[tokio::test]
async fn each_device_is_counted_the_refused_ones_too() {
    let provider = Provider::builder().tls(TlsMode::Implicit).start().await;
    provider.set_fault(
        Step::Rcpt("gone@example.com".into()),
        Fault::Reply("550 5.1.1 No such user".into()),
        Times::Always,
    );
    let mut relay = relay_to(&provider)
        .allow_nobody()
        .allow("127.0.0.1/32")
        .allow("127.0.0.2/31")
        .durability("always")
        .start()
        .await;
    let said_to = session_from(&relay, 2, &["a@example.com", "gone@example.com", "b@example.com"]).await;
    assert_eq!(said_to.matches("queued as").count(), 3, "{said_to}");
    assert_eq!(session_from(&relay, 3, &["c@example.com"]).await.matches("queued as").count(), 1);
    for _ in 0..3 {
        assert!(!session_from(&relay, 9, &["d@example.com"]).await.contains("queued as"));
    }
    let sent = relay.command_with_input(&["send", "-f", "ups@example.com", "e@example.com"], b"on battery\n").await;
    assert!(sent.status.success());
    // a, b, c, e and the notice about gone.
    provider.wait_for_messages(5, SOON).await;
    wait_for_files(&relay.safe_spool(), 0).await;
    verdicts(&relay, 7).await;
    let check = async |relay: &Relay| {
        assert_eq!(counts(&device(relay, "127.0.0.2").await), [3, 2, 1, 0]);
        assert_eq!(counts(&device(relay, "127.0.0.3").await), [1, 1, 0, 0]);
        assert_eq!(counts(&device(relay, "127.0.0.9").await), [0, 0, 0, 3]);
        // Programs of the router; the gateway's own mail is not theirs.
        assert_eq!(counts(&device(relay, "local").await), [1, 1, 0, 0]);
        let refused = device(relay, "127.0.0.9").await;
        assert_eq!(refused["last_verdict"]["outcome"], json!("refused"));
        assert!(refused["last_verdict"]["text"].as_str().unwrap().contains("allow"), "{refused}");
        assert_eq!(device(relay, "127.0.0.2").await["helo"], json!("plc2"));
    };
    check(&relay).await;
    let text = said(&relay, "devices").await;
    println!("{text}");
    let cells = |line: &str| line.split_whitespace().take(7).map(String::from).collect::<Vec<_>>();
    let rows: Vec<Vec<String>> = text.lines().map(cells).collect();
    assert!(rows.contains(&cells("127.0.0.2 HELO plc2 3 2 1 0")), "{text}");
    assert!(text.contains("  not allowed; refused: "), "{text}");
    let text = said(&relay, "history").await;
    println!("{text}");
    let gone = text.lines().find(|line| line.contains("gone@example.com")).expect("the failure");
    assert!(gone.contains("  failed     127.0.0.2  gone@example.com  ") && gone.contains("No such user"), "{gone}");
    assert!(gone.starts_with("20") && gone.as_bytes()[13] == b':', "{gone} has a time");
    let before = json(&relay, "history").await;
    relay.restart().await;
    check(&relay).await;
    assert_eq!(json(&relay, "history").await, before);
}

#[tokio::test]
async fn the_last_200_of_300_verdicts_are_kept() {
    let provider = Provider::builder().tls(TlsMode::Implicit).start().await;
    let reply = "250 2.0.0 OK  1732342343 5b1f17b1804b1-432b53s12345678f8f.12 - gsmtp";
    provider.set_fault(Step::Dot, Fault::Reply(reply.into()), Times::Always);
    let relay = relay_to(&provider).durability("memory").start().await;
    let mut device = hello(&relay).await;
    let mut sent = Vec::new();
    for n in 0..300 {
        sent.push(send_on(&mut device, &[&format!("operator{n}@example.com")], &n.to_string()).await);
    }
    provider.wait_for_messages(300, SOON).await;
    wait_for_files(&relay.spool(), 0).await;
    let delivered = |line: &str| field(line, "event") == Some("delivered");
    let order = relay.wait_lines(delivered, 300, SOON).await;
    let order: Vec<String> = order.iter().filter_map(|line| field(line, "id").map(str::to_owned)).collect();
    let there = async {
        loop {
            let newest = json(&relay, "history").await["entries"][0]["id"].clone();
            if newest == json!(order[299]) {
                return;
            }
        }
    };
    tokio::time::timeout(SOON, there).await.expect("the newest verdict");
    let history = json(&relay, "history").await;
    assert_eq!(history["total"], json!(200));
    let names: Vec<&str> =
        history["entries"].as_array().unwrap().iter().map(|entry| entry["id"].as_str().unwrap()).collect();
    let wanted: Vec<&str> = order.iter().rev().take(200).map(String::as_str).collect();
    assert_eq!(names, wanted);
    let counters = &json(&relay, "status").await["counters"];
    assert_eq!((&counters["accepted"], &counters["delivered"]), (&json!(300), &json!(300)), "{counters}");
    // With a header.
    assert_eq!(said(&relay, "history").await.lines().count(), 201);
}

#[tokio::test]
async fn a_crash_costs_a_minute_of_history_at_most() {
    let Some(time) = TimeWarp::new(NOON) else { return };
    let provider = Provider::builder().tls(TlsMode::None).start().await;
    let mut relay = time.around(relay_to(&provider)).start().await;
    if !time.rule(&relay) {
        return;
    }
    let mut device = hello(&relay).await;
    let first = send_on(&mut device, &TO, "first").await;
    verdicts(&relay, 1).await;
    time.advance(Duration::from_secs(61), Duration::from_millis(20)).await;
    send_on(&mut device, &TO, "second").await;
    verdicts(&relay, 2).await;
    drop(device);
    relay.kill9();
    relay.restart().await;
    time.rule(&relay);
    let kept = verdicts(&relay, 1).await;
    assert_eq!(kept.iter().map(|entry| &entry["id"]).collect::<Vec<_>>(), [&json!(first)]);
    let third = send_on(&mut hello(&relay).await, &TO, "third").await;
    verdicts(&relay, 2).await;
    // In order: nothing is lost, and what can't be read is no reason not to start.
    relay.restart().await;
    time.rule(&relay);
    assert_eq!(verdicts(&relay, 2).await[0]["id"], json!(third));
    relay.kill9();
    for torn in [&b"\xff\xfe{"[..], b"", &[b'['; 100_000]] {
        std::fs::write(relay.spool().join("history"), torn).unwrap();
        relay.restart().await;
        time.rule(&relay);
        assert_eq!(json(&relay, "history").await["total"], json!(0));
        relay.kill9();
    }
}

#[tokio::test]
async fn only_what_is_new_in_the_log_is_told() {
    let provider = Provider::builder().tls(TlsMode::Implicit).start().await;
    let pump = Section::new("device", "pump").option("name", "Pump house").list("ip", "127.0.0.2");
    let relay = relay_to(&provider).section(pump).start().await;
    session_from(&relay, 2, &TO).await;
    verdicts(&relay, 1).await;
    let mut client = smtprelay::control::socket::ControlClient::connect(&relay.spool()).unwrap().expect("a gateway");
    let mut log = |after: &Value| client.call("log_read", json!({ "after": after })).unwrap();
    let first = log(&Value::Null);
    assert_eq!((&first["reset"], &first["more"]), (&json!(true), &json!(false)));
    let entry = &first["entries"][0];
    assert_eq!(
        (&entry["number"], &entry["outcome"], &entry["device"]),
        (&json!(1), &json!("delivered"), &json!("Pump house"))
    );
    let lines = |log: &Value| -> Vec<String> {
        log["lines"].as_array().unwrap().iter().map(|line| line["text"].as_str().unwrap().to_string()).collect()
    };
    assert!(lines(&first).iter().any(|line| line.starts_with("event=accepted ")), "{first:#}");
    // Nothing has happened since: the last result only, in a few hundred bytes.
    let same = log(&first["cursor"]);
    assert_eq!(
        (&same["reset"], &same["entries"], lines(&same).len()),
        (&json!(false), &first["entries"], 0),
        "{same:#}"
    );
    session_from(&relay, 2, &TO).await;
    verdicts(&relay, 2).await;
    let news = log(&same["cursor"]);
    let numbers: Vec<&Value> = news["entries"].as_array().unwrap().iter().map(|entry| &entry["number"]).collect();
    assert_eq!(numbers, [&json!(1), &json!(2)]);
    assert!(lines(&news).iter().any(|line| line.starts_with("event=accepted ")), "{news:#}");
    // A cursor of another run, or nonsense, means everything.
    for other in ["ANOTHERRUN-1-1", "", "-", "x-18446744073709551616-0"] {
        let all = log(&json!(other));
        assert_eq!((&all["reset"], all["entries"].as_array().unwrap().len()), (&json!(true), 2), "{other}");
    }
}

#[tokio::test]
async fn results_have_their_subject_until_that_is_switched_off() {
    let provider = Provider::builder().tls(TlsMode::Implicit).start().await;
    let no = Fault::Reply("550 5.1.1 No such user".into());
    provider.set_fault(Step::Rcpt("gone@example.com".into()), no, Times::Always);
    let pump = Section::new("device", "pump").option("name", "Pump house").list("ip", "127.0.0.1");
    let mut relay = relay_to(&provider).section(pump).start().await;
    let mut device = hello(&relay).await;
    for to in ["ops@example.com", "gone@example.com"] {
        send_on(&mut device, &[to], "=?iso-8859-1?Q?St=F6rung?= =?utf-8?Q?_<b>_3?=").await;
    }
    let delivered = relay.wait_log(|line| line.contains("event=delivered") && line.contains("<ops@"), SOON).await;
    let failed = relay.wait_log(|line| line.contains("event=failed"), SOON).await;
    for line in [&delivered, &failed] {
        assert!(line.contains(" subject=\"Störung <b> 3\" "), "{line}");
    }
    // The third is the report of the gateway.
    let entries = verdicts(&relay, 3).await;
    let about = |entries: &[Value]| -> Vec<String> {
        let ours = entries.iter().filter(|entry| entry["device"] == "Pump house");
        ours.map(|entry| entry["subject"].as_str().unwrap().to_string()).collect()
    };
    assert_eq!(about(&entries), ["Störung <b> 3", "Störung <b> 3"], "{entries:#?}");
    let text = said(&relay, "history").await;
    assert!(text.contains("  Pump house (127.0.0.1)  gone@example.com  Störung <b> 3  "), "{text}");
    // They come back with the next run.
    relay.restart().await;
    assert_eq!(about(&verdicts(&relay, 3).await), ["Störung <b> 3", "Störung <b> 3"]);

    relay.configure("relay", "main", |section| section.option("log_subject", "0"));
    said(&relay, "reload").await;
    let forgotten = async { while verdicts(&relay, 3).await.iter().any(|entry| entry["subject"] != "") {} };
    tokio::time::timeout(SOON, forgotten).await.expect("no subject is left");
    assert!(!said(&relay, "history").await.contains("SUBJECT"));
    // What the log page of LuCI reads.
    let mut client = smtprelay::control::socket::ControlClient::connect(&relay.spool()).unwrap().expect("a gateway");
    let log = client.call("log_read", json!({})).unwrap();
    assert!(!log.to_string().contains("rung") && log.to_string().contains("event=reloaded"), "{log}");
    assert_eq!(log["more"], json!(false));
    relay.sigterm();
    relay.wait_exit().await;
    let file = std::fs::read_to_string(relay.spool().join("history")).unwrap();
    assert!(file.contains("gone@example.com") && !file.contains("rung"), "{file}");
}
