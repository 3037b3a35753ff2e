// SPDX-License-Identifier: Apache-2.0
//! The state of the gateway as metrics for Prometheus, in its text format 0.0.4
//! (<https://prometheus.io/docs/instrumenting/exposition_formats/>).
//!
//! The collector for prometheus-node-exporter-lua has the same table
//! (`files/usr/lib/lua/prometheus-collectors/smtprelay.lua`); `tests/metrics.rs` compares them. What is not known is
//! absent: a value that is made up would be believed.

use std::fmt::Write as _;

use serde_json::Value;

/// A metric. It is a counter if its name ends in `_total`, otherwise a gauge.
struct Metric {
    /// Its name after `smtprelay_`.
    name: &'static str,
    help: &'static str,
    /// Where its value is in each entry of `list`, as a JSON pointer. With `=WORD` it is whether the text there is that
    /// word, with `?` whether there is anything. If empty the value is 1: the labels say it all.
    value: &'static str,
    /// The list in `status`; if empty, `status` itself is the only entry.
    list: &'static str,
    /// The labels, as `NAME=POINTER` separated by commas: an entry without one of them is left out.
    labels: &'static str,
}

const fn single(name: &'static str, value: &'static str, help: &'static str) -> Metric {
    Metric { name, help, value, list: "", labels: "" }
}

const ACCOUNT: &str = "account=/name";
const DEVICE: &str = "device=/name";

const fn account(name: &'static str, value: &'static str, help: &'static str) -> Metric {
    Metric { name, help, value, list: "/accounts", labels: ACCOUNT }
}

const fn by_account(name: &'static str, value: &'static str, help: &'static str) -> Metric {
    Metric { name, help, value, list: "/counters/accounts", labels: ACCOUNT }
}

const fn by_device(name: &'static str, value: &'static str, help: &'static str) -> Metric {
    Metric { name, help, value, list: "/counters/devices", labels: DEVICE }
}

const fn expected(name: &'static str, value: &'static str, help: &'static str) -> Metric {
    Metric { name, help, value, list: "/expected", labels: DEVICE }
}

const METRICS: [Metric; 38] = [
    Metric {
        name: "build_info",
        help: "Version of the running gateway.",
        value: "",
        list: "",
        labels: "version=/version",
    },
    single("start_time_seconds", "/started", "When the gateway started, in seconds since 1970."),
    single("clock_set", "/clock/set", "Whether the clock of the router is set."),
    single("relaying", "/state=relaying", "Whether mail can be sent: an account is set up and not paused."),
    single("reachable", "/reachable=yes", "Whether devices can connect to all addresses of the listeners."),
    Metric {
        name: "listener_open",
        help: "Whether devices can connect to all addresses of the listener.",
        value: "/open",
        list: "/listeners",
        labels: "listener=/name",
    },
    single("accepted_messages_total", "/counters/accepted", "Messages accepted from clients."),
    single("accepted_bytes_total", "/counters/accepted_bytes", "Bytes of the messages accepted from clients."),
    single("delivered_recipients_total", "/counters/delivered", "Recipients for whom a provider accepted the message."),
    single("delivered_bytes_total", "/counters/delivered_bytes", "Bytes delivered, counted for each recipient."),
    single("deferred_recipients_total", "/counters/deferred", "Failed attempts that are retried, for each recipient."),
    single("failed_recipients_total", "/counters/failed", "Recipients whose message failed permanently."),
    single("refused_total", "/counters/refused", "Connections and messages of clients that were refused."),
    by_device("device_accepted_messages_total", "/accepted", "Messages accepted, by device section."),
    by_device("device_accepted_bytes_total", "/accepted_bytes", "Bytes of messages accepted, by device section."),
    by_device("device_delivered_recipients_total", "/delivered", "Recipients delivered to, by device section."),
    by_device(
        "device_delivered_bytes_total",
        "/delivered_bytes",
        "Bytes delivered for each recipient, by device section.",
    ),
    by_device("device_failed_recipients_total", "/failed", "Recipients failed permanently, by device section."),
    by_device("device_refused_total", "/refused", "Connections and messages refused, by device section."),
    expected(
        "device_last_heard_timestamp_seconds",
        "/last_heard",
        "When the device was last heard that is expected to send, in seconds since 1970.",
    ),
    expected("device_overdue", "/overdue", "Whether the device has been silent for longer than is expected of it."),
    by_account("account_delivered_recipients_total", "/delivered", "Recipients delivered to, by account."),
    by_account("account_delivered_bytes_total", "/delivered_bytes", "Bytes delivered for each recipient, by account."),
    by_account("account_deferred_recipients_total", "/deferred", "Failed attempts that are retried, by account."),
    by_account("account_failed_recipients_total", "/failed", "Recipients failed permanently, by account."),
    single("queue_messages", "/queue/messages", "Messages that wait for delivery."),
    single("queue_held_messages", "/queue/held", "Messages that wait for the administrator."),
    single("queue_bytes", "/queue/bytes", "Bytes of the queue."),
    single("queue_limit_bytes", "/queue/limit", "Bytes that the queue may have."),
    single("queue_oldest_age_seconds", "/queue/oldest", "Age of the oldest queued message."),
    single("power_cut_messages", "/power_cut/messages", "Messages that a power cut would lose now."),
    account("account_paused", "/paused?", "Whether the account is paused after an error."),
    account("account_paused_seconds", "/paused/since", "How long the account has been paused."),
    account(
        "account_secret_missing",
        "/secret=missing",
        "Whether the account has no password or token although it logs in.",
    ),
    account("account_test_failed", "/failed_test?", "Whether the last test failed and no mail was accepted since."),
    account(
        "account_last_success_timestamp_seconds",
        "/last/time",
        "When the provider last accepted a message, in seconds since 1970.",
    ),
    account(
        "account_certificate_expiry_timestamp_seconds",
        "/last/expires",
        "When the certificate that the provider last presented expires, in seconds since 1970.",
    ),
    Metric {
        name: "account_tls_info",
        help: "TLS version of the last delivery, and how the certificate was verified.",
        value: "",
        list: "/accounts",
        labels: "account=/name,version=/last/tls,verified=/last/verified",
    },
];

/// The metrics of the gateway with this `status`; null if it is not running.
pub fn of(status: &Value) -> String {
    let mut out = String::new();
    let up = Value::from(u8::from(!status.is_null()));
    write(&mut out, "up", "Whether the gateway is running.", &[(String::new(), up)]);
    for metric in &METRICS {
        let samples = samples(metric, status);
        write(&mut out, metric.name, metric.help, &samples);
    }
    out
}

/// The lines of a metric; none if it has no samples.
fn write(out: &mut String, name: &str, help: &str, samples: &[(String, Value)]) {
    if samples.is_empty() {
        return;
    }
    let kind = if name.ends_with("_total") { "counter" } else { "gauge" };
    // Writing to a String cannot fail.
    let _ = write!(out, "# HELP smtprelay_{name} {help}\n# TYPE smtprelay_{name} {kind}\n");
    for (labels, value) in samples {
        let _ = writeln!(out, "smtprelay_{name}{labels} {value}");
    }
}

/// Labels and value for each entry that has them. Of several with the same labels, such as the addresses of a listener,
/// there is one: with the least value.
fn samples(metric: &Metric, status: &Value) -> Vec<(String, Value)> {
    let one = std::slice::from_ref(status);
    let entries = match metric.list {
        "" => one,
        list => status.pointer(list).and_then(Value::as_array).map_or(&[][..], Vec::as_slice),
    };
    let mut samples: Vec<(String, Value)> = Vec::new();
    for entry in entries {
        let Some((labels, value)) = labels(metric.labels, entry).zip(value(metric.value, entry)) else { continue };
        match samples.iter_mut().find(|(known, _)| *known == labels) {
            Some((_, least)) if value.as_u64() < least.as_u64() => *least = value,
            Some(_) => {}
            None => samples.push((labels, value)),
        }
    }
    samples
}

/// The labels of an entry in braces, or nothing if the metric has none.
fn labels(labels: &str, entry: &Value) -> Option<String> {
    if labels.is_empty() {
        return Some(String::new());
    }
    let mut shown = Vec::new();
    for (name, pointer) in labels.split(',').filter_map(|label| label.split_once('=')) {
        let text = match entry.pointer(pointer)?.as_str()? {
            // By a certificate authority.
            "yes" if name == "verified" => "ca",
            text => text,
        };
        shown.push(format!("{name}=\"{}\"", escaped(text)));
    }
    Some(format!("{{{}}}", shown.join(",")))
}

/// The number that an entry has for `value`, see [`Metric::value`].
fn value(value: &str, entry: &Value) -> Option<Value> {
    let flag = |yes: bool| Some(Value::from(u8::from(yes)));
    if value.is_empty() {
        return flag(true);
    }
    if let Some(pointer) = value.strip_suffix('?') {
        return flag(!entry.pointer(pointer)?.is_null());
    }
    if let Some((pointer, word)) = value.split_once('=') {
        return flag(entry.pointer(pointer)?.as_str()? == word);
    }
    match entry.pointer(value)? {
        Value::Bool(yes) => flag(*yes),
        number @ Value::Number(_) => Some(number.clone()),
        _ => None,
    }
}

/// A text as the value of a label.
fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests;
