// SPDX-License-Identifier: Apache-2.0
//! The metrics for Prometheus: the numbers, the format, and the collector for prometheus-node-exporter-lua beside it.

mod support;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::net::IpAddr;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;
use support::ask::{Ran, SOON, json, queue_until, run};
use support::client::Client;
use support::provider::{Fault, Provider, Step, Times, TlsMode};
use support::relay::{Relay, Section, field};

const COLLECTOR: &str = "files/usr/lib/lua/prometheus-collectors/smtprelay.lua";

/// The samples by name and labels, the labels in the order of their names.
fn samples(text: &str) -> BTreeMap<String, f64> {
    let sample = |line: &str| {
        let (series, value) = line.rsplit_once(' ').expect(line);
        let series = match series.trim_end_matches('}').split_once('{') {
            None => series.to_string(),
            Some((name, labels)) => {
                // The labels of this test have no commas in their values.
                let mut labels: Vec<&str> = labels.split(',').collect();
                labels.sort_unstable();
                format!("{name}{{{}}}", labels.join(","))
            }
        };
        (series, value.parse().expect(line))
    };
    text.lines().filter(|line| !line.starts_with('#')).map(sample).collect()
}

async fn session_from(relay: &Relay, source: &str, to: &[&str]) {
    let source: IpAddr = source.parse().expect("an address");
    let mut client = Client::greeted_from(source, relay.addr()).await;
    client.dialogue(&[("EHLO plc", 250)]).await;
    client.send("plc@example.com", to, "Subject: x\r\n\r\nx\r\n").await;
    client.dialogue(&[("QUIT", 221)]).await;
}

/// Asks until the metric has this value, which may come behind.
async fn metrics_with(relay: &Relay, series: &str, value: impl Fn() -> f64) -> BTreeMap<String, f64> {
    let there = async {
        loop {
            let found = samples(&run(relay, "status --prometheus").await.out);
            if found.get(series) == Some(&value()) {
                return found;
            }
        }
    };
    tokio::time::timeout(SOON, there).await.unwrap_or_else(|_| panic!("never {series} {}", value()))
}

/// A gateway with devices that has delivered, deferred and failed.
async fn busy(provider: &Provider) -> Relay {
    for (name, reply) in [("gone", "550 5.1.1 No such user"), ("late", "451 4.2.1 Mailbox busy")] {
        let step = Step::Rcpt(format!("{name}@example.com"));
        provider.set_fault(step, Fault::Reply(reply.into()), Times::Always);
    }
    let account = Section::account("provider", provider).option("from_policy", "keep").option("host", "localhost");
    let relay = Relay::builder()
        .section(account)
        .section(Section::new("device", "pump").list("ip", "127.0.0.2").option("expect_every", "1h"))
        .section(Section::new("device", "idle").list("ip", "127.0.0.77").option("expect_every", "1d"))
        .allow_nobody()
        .allow("127.0.0.1/32")
        .allow("127.0.0.2/31")
        .start()
        .await;
    session_from(&relay, "127.0.0.2", &["a@example.com", "gone@example.com"]).await;
    session_from(&relay, "127.0.0.3", &["b@example.com"]).await;
    session_from(&relay, "127.0.0.2", &["late@example.com"]).await;
    let stranger: IpAddr = "127.0.0.9".parse().expect("an address");
    Client::connect_from(stranger, relay.addr()).await.read_to_end().await;
    let sent = relay.command_with_input(&["send", "-f", "ups@example.com", "c@example.com"], b"on battery\n").await;
    assert!(sent.status.success());
    // a, b, c and the report about gone.
    metrics_with(&relay, "smtprelay_account_delivered_recipients_total{account=\"provider\"}", || 4.0).await;
    // It may be tried more than once. Once it is held, it is not tried again.
    relay.wait_log(|line| field(line, "event") == Some("deferred"), SOON).await;
    queue_until(&relay, |all| all.len() == 1 && all[0]["standing"] == "later").await;
    assert_eq!(run(&relay, "queue hold all").await.out, "1 message held\n");
    let deferrals = || relay.log().iter().filter(|line| field(line, "event") == Some("deferred")).count();
    let series = "smtprelay_account_deferred_recipients_total{account=\"provider\"}";
    metrics_with(&relay, series, || deferrals() as f64).await;
    metrics_with(&relay, "smtprelay_refused_total", || 1.0).await;
    metrics_with(&relay, "smtprelay_queue_messages", || 1.0).await;
    relay
}

#[tokio::test]
async fn the_numbers_are_right_after_delivering_deferring_failing_and_refusing() {
    let provider = Provider::builder().tls(TlsMode::Implicit).start().await;
    let mut relay = busy(&provider).await;
    let ran = run(&relay, "status --prometheus").await;
    assert_eq!((ran.code, ran.err.as_str()), (0, ""), "{ran:?}");
    println!("{}", ran.out);
    let found = samples(&ran.out);
    for (series, value) in [
        ("up", 1.0),
        ("relaying", 1.0),
        ("reachable", 1.0),
        ("clock_set", 1.0),
        ("accepted_messages_total", 4.0),
        ("delivered_recipients_total", 4.0),
        ("failed_recipients_total", 1.0),
        ("refused_total", 1.0),
        ("device_accepted_messages_total{device=\"pump\"}", 2.0),
        ("device_delivered_recipients_total{device=\"pump\"}", 1.0),
        ("device_failed_recipients_total{device=\"pump\"}", 1.0),
        ("device_refused_total{device=\"pump\"}", 0.0),
        ("device_accepted_messages_total{device=\"idle\"}", 0.0),
        ("device_accepted_messages_total{device=\"other\"}", 1.0),
        ("device_refused_total{device=\"other\"}", 1.0),
        ("device_accepted_messages_total{device=\"local\"}", 1.0),
        ("device_delivered_recipients_total{device=\"local\"}", 1.0),
        ("device_overdue{device=\"pump\"}", 0.0),
        ("device_overdue{device=\"idle\"}", 0.0),
        ("account_failed_recipients_total{account=\"provider\"}", 1.0),
        ("account_paused{account=\"provider\"}", 0.0),
        ("account_tls_info{account=\"provider\",verified=\"ca\",version=\"TLSv1.3\"}", 1.0),
        ("queue_messages", 1.0),
        ("queue_held_messages", 1.0),
    ] {
        assert_eq!(found.get(&format!("smtprelay_{series}")), Some(&value), "{series}");
    }
    let value = |name: &str| *found.get(&format!("smtprelay_{name}")).unwrap_or_else(|| panic!("{name}"));
    let by_account = value("account_deferred_recipients_total{account=\"provider\"}");
    assert!(by_account >= 1.0);
    assert_eq!(value("deferred_recipients_total"), by_account);
    let status = json(&relay, "status").await;
    let heard = value("device_last_heard_timestamp_seconds{device=\"pump\"}");
    assert!((heard - status["clock"]["now"].as_f64().expect("a time")).abs() < 600.0, "{heard}");
    let idle = "smtprelay_device_last_heard_timestamp_seconds{device=\"idle\"}";
    assert!(!found.contains_key(idle), "what is not known is absent");
    assert_eq!(value("start_time_seconds"), status["started"].as_f64().expect("a time"));
    assert!(value("queue_oldest_age_seconds") <= status["queue"]["oldest"].as_f64().expect("an age"));
    let expires = status["accounts"][0]["last"]["expires"].as_f64().expect("a time");
    assert_eq!(value("account_certificate_expiry_timestamp_seconds{account=\"provider\"}"), expires);
    let by_device: f64 = ["pump", "idle", "other", "local"]
        .iter()
        .map(|name| value(&format!("device_accepted_bytes_total{{device=\"{name}\"}}")))
        .sum();
    assert!(by_device > 0.0);
    assert_eq!(by_device, value("accepted_bytes_total"));
    assert!(!ran.out.contains("127.0.0."), "no address is a label");
    checked_by_promtool(&ran.out);

    relay.sigterm();
    relay.wait_exit().await;
    let ran = run(&relay, "status --prometheus").await;
    assert_eq!((ran.code, run(&relay, "status").await.code), (69, 69));
    assert_eq!(samples(&ran.out), BTreeMap::from([("smtprelay_up".to_string(), 0.0)]));
    assert!(ran.err.contains("not running"), "{ran:?}");
    checked_by_promtool(&ran.out);
}

#[tokio::test]
async fn the_format_is_not_mixed_with_others() {
    let provider = Provider::builder().tls(TlsMode::Implicit).start().await;
    let relay = Relay::builder().account("provider", &provider).start().await;
    for other in ["--json", "--check"] {
        let ran = run(&relay, &format!("status --prometheus {other}")).await;
        assert!(ran.code == 64 && ran.err.contains("--prometheus is a format of its own"), "{ran:?}");
    }
}

/// The linter of Prometheus (Debian: prometheus), where it is installed.
fn checked_by_promtool(text: &str) {
    let started = Command::new("promtool")
        .args(["check", "metrics", "--extended"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let Ok(mut promtool) = started else {
        println!("promtool is not installed (Debian: prometheus): its check is skipped");
        return;
    };
    promtool.stdin.take().expect("its input").write_all(text.as_bytes()).expect("it reads");
    let ran = Ran::of(promtool.wait_with_output().expect("it ends"));
    println!("promtool: {}", ran.out);
    assert_eq!((ran.code, ran.err.as_str()), (0, ""), "promtool");
}

/// A value as libubus-lua would pass it: null is nothing.
fn as_lua(value: &Value) -> String {
    match value {
        Value::Null => "nil".into(),
        Value::Bool(_) | Value::Number(_) => value.to_string(),
        Value::String(text) => {
            let mut quoted = String::new();
            for byte in text.bytes() {
                write!(quoted, "\\{byte:03}").expect("a string");
            }
            format!("\"{quoted}\"")
        }
        Value::Array(values) => format!("{{{}}}", values.iter().map(as_lua).collect::<Vec<_>>().join(",")),
        Value::Object(fields) => {
            let field = |(name, value): (&String, &Value)| format!("[\"{name}\"]={}", as_lua(value));
            format!("{{{}}}", fields.iter().map(field).collect::<Vec<_>>().join(","))
        }
    }
}

/// What the collector prints; `None` without lua5.1.
fn collected(answer: &[&str]) -> Option<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut lua = Command::new("lua5.1");
    let ran = lua.current_dir(root).args(["tests/metrics/exporter.lua", COLLECTOR]).args(answer).output();
    let Ok(output) = ran else {
        println!("lua5.1 is not installed (Debian: lua5.1): the collector is not run");
        return None;
    };
    let ran = Ran::of(output);
    assert_eq!((ran.code, ran.err.as_str()), (0, ""), "{ran:?}");
    Some(ran.out)
}

#[tokio::test]
async fn the_collector_has_the_same_metrics() {
    let provider = Provider::builder().tls(TlsMode::Implicit).start().await;
    let relay = busy(&provider).await;
    let mut status = json(&relay, "status").await;
    let command = run(&relay, "status --prometheus").await.out;
    let file = relay.dir().join("answer.lua");
    let collect = |status: &Value| {
        std::fs::write(&file, format!("return {}", as_lua(status))).expect("a file");
        collected(&[file.to_str().expect("a path")])
    };
    let Some(by_lua) = collect(&status) else { return };
    let (mut ours, mut theirs) = (samples(&command), samples(&by_lua));
    for (name, found) in [("ours", &mut ours), ("theirs", &mut theirs)] {
        // Time goes on between the two.
        let age = found.insert("smtprelay_queue_oldest_age_seconds".into(), 0.0);
        assert!(age.is_some(), "{name}");
    }
    assert_eq!(ours, theirs);
    let comments = |text: &str| text.lines().filter(|line| line.starts_with('#')).map(String::from).collect::<Vec<_>>();
    assert_eq!(comments(&command), comments(&by_lua), "HELP and TYPE, in the same order");
    checked_by_promtool(&by_lua);
    // The exporter writes labels as they are.
    status["counters"]["accounts"][0]["name"] = "a\"b\\c\nd".into();
    let odd = collect(&status).expect("it ran before");
    assert!(odd.contains("smtprelay_account_failed_recipients_total{account=\"a\\\"b\\\\c\\nd\"} 1\n"), "{odd}");
    checked_by_promtool(&odd);
    // Large numbers keep their digits.
    status["counters"]["accepted_bytes"] = 1_234_567_890_123_456_u64.into();
    let large = collect(&status).expect("it ran before");
    assert!(large.contains("\nsmtprelay_accepted_bytes_total 1234567890123456\n"), "{large}");
    // An error of the gateway is no status.
    let down = "# HELP smtprelay_up Whether the gateway is running.\n# TYPE smtprelay_up gauge\nsmtprelay_up 0\n";
    let error = serde_json::json!({ "error": "the gateway is shutting down", "kind": "failed" });
    assert_eq!(collect(&error).as_deref(), Some(down));
    for answer in [&[][..], &["nobus"], &["nomodule"]] {
        assert_eq!(collected(answer).as_deref(), Some(down), "{answer:?}");
    }
}
