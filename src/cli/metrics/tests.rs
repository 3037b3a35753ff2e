// SPDX-License-Identifier: Apache-2.0

use std::collections::BTreeSet;

use proptest::prelude::*;
use serde_json::json;

use super::*;

/// A name of a metric, or with `colons` false of a label.
fn name(text: &str, colons: bool) -> Option<(&str, &str)> {
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '_' || (colons && c == ':');
    let end = text.find(|c: char| !fits(c)).unwrap_or(text.len());
    let (name, rest) = text.split_at(end);
    (!name.is_empty() && !name.starts_with(|c: char| c.is_ascii_digit())).then_some((name, rest))
}

/// A text in quotes with its escapes undone, and what follows.
fn quoted(text: &str) -> Option<(String, &str)> {
    let mut chars = text.strip_prefix('"')?.char_indices();
    let mut plain = String::new();
    loop {
        let (at, c) = chars.next()?;
        match c {
            '"' => return Some((plain, &text[at + 2..])),
            '\\' => plain.push(match chars.next()?.1 {
                'n' => '\n',
                c @ ('\\' | '"') => c,
                _ => return None,
            }),
            '\n' => return None,
            c => plain.push(c),
        }
    }
}

/// Name, labels, value.
type Sample = (String, Vec<(String, String)>, f64);

fn sample(line: &str) -> Option<Sample> {
    let (metric, mut rest) = name(line, true)?;
    let mut labels = Vec::new();
    if let Some(inside) = rest.strip_prefix('{') {
        rest = inside;
        loop {
            let (label, behind) = name(rest, false)?;
            let (value, behind) = quoted(behind.strip_prefix('=')?)?;
            labels.push((label.to_string(), value));
            match behind.strip_prefix(',') {
                Some(next) => rest = next,
                None => {
                    rest = behind.strip_prefix('}')?;
                    break;
                }
            }
        }
    }
    Some((metric.into(), labels, rest.strip_prefix(' ')?.parse().ok()?))
}

/// All samples; panics if a line is not in the format, a metric lacks HELP or TYPE, or a series is there twice.
fn parsed(text: &str) -> Vec<Sample> {
    assert!(text.ends_with('\n'));
    let (mut samples, mut series, mut described) = (Vec::new(), BTreeSet::new(), String::new());
    let mut lines = text.strip_suffix('\n').unwrap().split('\n');
    while let Some(line) = lines.next() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            let (metric, help) = help.split_once(' ').unwrap();
            assert!(help.ends_with('.') && !help.contains('\\'), "{line}");
            let kind = if metric.ends_with("_total") { "counter" } else { "gauge" };
            assert_eq!(lines.next(), Some(&*format!("# TYPE {metric} {kind}")));
            described = metric.into();
            continue;
        }
        let (metric, labels, value) = sample(line).unwrap_or_else(|| panic!("not a sample: {line}"));
        assert_eq!(metric, described, "{line}");
        assert!(series.insert((metric.clone(), labels.clone())), "twice: {line}");
        samples.push((metric, labels, value));
    }
    samples
}

#[test]
fn a_gateway_that_is_not_running_has_one_metric() {
    assert_eq!(
        of(&Value::Null),
        "# HELP smtprelay_up Whether the gateway is running.\n# TYPE smtprelay_up gauge\nsmtprelay_up 0\n"
    );
}

#[test]
fn names_follow_the_conventions() {
    let names: Vec<&str> = METRICS.iter().map(|metric| metric.name).collect();
    assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len());
    for metric in &METRICS {
        let (found, rest) = name(metric.name, false).expect(metric.name);
        assert!(rest.is_empty() && !found.contains("__") && !found.ends_with("_count"), "{found}");
        assert_eq!(found.ends_with("_info"), metric.value.is_empty(), "{found}");
        assert!(["", ACCOUNT, DEVICE].contains(&metric.labels) || !metric.labels.contains("address"), "{found}");
    }
}

#[test]
fn what_is_not_known_is_absent_and_nothing_is_there_twice() {
    let status = json!({
        "version": "1.0", "started": null, "state": "paused", "reachable": "partly", "clock": { "set": false },
        "listeners": [
            { "name": "lan", "open": true }, { "name": "lan", "open": false }, { "name": "lan", "open": true },
            { "name": "guest", "open": true },
        ],
        "queue": { "messages": 0, "oldest": null },
        "accounts": [
            { "name": "new", "paused": null, "secret": "missing", "last": null },
            { "name": "old", "paused": { "since": 7 }, "secret": "set",
              "last": { "time": 5, "tls": "TLSv1.3", "verified": "yes", "expires": null } },
        ],
    });
    let text = of(&status);
    let samples: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
    assert_eq!(
        samples,
        [
            "smtprelay_up 1",
            "smtprelay_build_info{version=\"1.0\"} 1",
            "smtprelay_clock_set 0",
            "smtprelay_relaying 0",
            "smtprelay_reachable 0",
            "smtprelay_listener_open{listener=\"lan\"} 0",
            "smtprelay_listener_open{listener=\"guest\"} 1",
            "smtprelay_queue_messages 0",
            "smtprelay_account_paused{account=\"new\"} 0",
            "smtprelay_account_paused{account=\"old\"} 1",
            "smtprelay_account_paused_seconds{account=\"old\"} 7",
            "smtprelay_account_secret_missing{account=\"new\"} 1",
            "smtprelay_account_secret_missing{account=\"old\"} 0",
            "smtprelay_account_last_success_timestamp_seconds{account=\"old\"} 5",
            "smtprelay_account_tls_info{account=\"old\",version=\"TLSv1.3\",verified=\"ca\"} 1",
        ]
    );
    parsed(&text);
}

#[test]
fn label_values_are_escaped() {
    assert_eq!(escaped("a\\b\"c\nd"), "a\\\\b\\\"c\\nd");
}

proptest! {
    #[test]
    fn each_line_is_in_the_format_whatever_the_names(
        names in prop::collection::vec(any::<String>(), 0..6),
        version in any::<String>(),
        count in any::<u64>(),
    ) {
        let entries: Vec<Value> = names
            .iter()
            .map(|name| json!({
                "name": name, "open": true, "paused": null, "accepted": count, "delivered": 1, "secret": name,
                "last": { "tls": name, "verified": name, "expires": -1, "time": count },
            }))
            .collect();
        let status = json!({
            "version": version, "listeners": entries, "accounts": entries, "queue": { "messages": count },
            "counters": { "accounts": entries, "devices": entries, "accepted": count },
        });
        let samples = parsed(&of(&status));
        let distinct: BTreeSet<&String> = names.iter().collect();
        let mut found = BTreeSet::new();
        for (metric, labels, _) in &samples {
            if metric == "smtprelay_device_accepted_messages_total" {
                found.insert(&labels[0].1);
            }
        }
        prop_assert_eq!(found, distinct);
    }
}
