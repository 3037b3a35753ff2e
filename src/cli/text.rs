// SPDX-License-Identifier: Apache-2.0
//! The gateway's answers as readable text.

use std::fmt::Write as _;

use serde_json::Value;
use smtprelay::config::units;
use smtprelay::message::date;

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value.get(name).and_then(Value::as_str).unwrap_or_default()
}

fn number(value: &Value, name: &str) -> u64 {
    value.get(name).and_then(Value::as_u64).unwrap_or(0)
}

fn list<'a>(value: &'a Value, name: &str) -> &'a [Value] {
    value.get(name).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// `2h 5m`: the two largest units are enough for people.
fn ago(seconds: u64) -> String {
    const UNITS: [(u64, char); 4] = [(86_400, 'd'), (3600, 'h'), (60, 'm'), (1, 's')];
    let mut left = seconds;
    let mut parts = Vec::new();
    for (unit, letter) in UNITS {
        if left >= unit {
            parts.push(format!("{}{letter}", left / unit));
            left %= unit;
        }
    }
    if parts.is_empty() { "0s".into() } else { parts.get(..2).unwrap_or(&parts).join(" ") }
}

fn when(value: &Value, name: &str) -> String {
    value.get(name).and_then(Value::as_i64).map(date::rfc5322).unwrap_or_default()
}

// Writing to a String cannot fail, so the results below are ignored.

/// One block per message, as mailq prints it.
pub fn queue(messages: &[Value], health: &str) -> String {
    if messages.is_empty() {
        return "Mail queue is empty\n".into();
    }
    let mut out = String::new();
    for message in messages {
        let age = message.get("age").and_then(Value::as_u64).map_or("clock was not set".into(), ago);
        let size = units::format_size(number(message, "size"));
        let _ = writeln!(
            out,
            "{}  {age}  {size}  <{}>  via {}",
            text(message, "id"),
            text(message, "from"),
            text(message, "client")
        );
        if let Some(error) = message.get("error").and_then(Value::as_str) {
            let _ = writeln!(out, "    {error}");
            continue;
        }
        recipients(&mut out, message);
        let _ = write!(out, "    {}", text(message, "why"));
        let _ = match message.get("next").and_then(Value::as_u64) {
            Some(next) => writeln!(out, " (next attempt in {})", ago(next)),
            None => writeln!(out),
        };
    }
    let _ = match messages.len() {
        1 => writeln!(out, "1 message waiting"),
        n => writeln!(out, "{n} messages waiting"),
    };
    let _ = writeln!(out, "{health}");
    out
}

fn recipients(out: &mut String, message: &Value) {
    for recipient in list(message, "recipients") {
        let _ = write!(out, "    <{}> {}", text(recipient, "address"), text(recipient, "state"));
        let _ = match text(recipient, "reply") {
            "" => writeln!(out),
            reply => writeln!(out, ": {reply}"),
        };
    }
}

/// One message with its header and history.
pub fn message(message: &Value) -> String {
    let mut out = String::new();
    let size = units::format_size(number(message, "size"));
    let _ = writeln!(
        out,
        "{}  accepted {}, {size}, from device {}",
        text(message, "id"),
        when(message, "arrived"),
        text(message, "client")
    );
    let _ = writeln!(out, "sender <{}>", text(message, "from"));
    recipients(&mut out, message);
    let _ = writeln!(out, "{}", text(message, "why"));
    if let Some(next) = message.get("next").and_then(Value::as_u64) {
        let _ = writeln!(out, "next attempt in {}", ago(next));
    }
    let _ = writeln!(out, "\nHistory:");
    for note in list(message, "history") {
        let _ = writeln!(out, "  {} {}", when(note, "at"), text(note, "what"));
        for result in list(note, "results") {
            let address = list(message, "recipients")
                .get(usize::try_from(number(result, "recipient")).unwrap_or(usize::MAX))
                .map(|recipient| text(recipient, "address"));
            let _ = writeln!(
                out,
                "    <{}> {}: {}",
                address.unwrap_or_default(),
                text(result, "state"),
                text(result, "reply")
            );
        }
    }
    let _ = writeln!(out, "\n{}", text(message, "header").replace("\r\n", "\n").trim_end());
    out
}

/// The current state.
pub fn status(status: &Value) -> String {
    let nothing = Value::Null;
    let part = |name: &str| status.get(name).unwrap_or(&nothing);
    let (queue, power, clock) = (part("queue"), part("power_cut"), part("clock"));
    let mut out = format!("{}\n", text(status, "health"));
    let _ = writeln!(out, "smtprelay {}, running for {}", text(status, "version"), ago(number(status, "running")));
    if clock.get("set") == Some(&Value::Bool(false)) {
        let _ = writeln!(out, "the clock is not set");
    }
    for account in list(status, "accounts") {
        account_lines(&mut out, account);
    }
    let today = part("today");
    let _ = writeln!(
        out,
        "today (UTC): {} accepted, {} delivered, {} failed, {} refused",
        number(today, "accepted"),
        number(today, "delivered"),
        number(today, "failed"),
        number(today, "refused")
    );
    let _ = writeln!(
        out,
        "queue: {} messages ({} held), {} completed and waiting for the next summary, {} of {}",
        number(queue, "messages"),
        number(queue, "held"),
        number(queue, "reporting"),
        units::format_size(number(queue, "bytes")),
        units::format_size(number(queue, "limit"))
    );
    let _ = writeln!(out, "power cut now: {} messages at risk; {}", number(power, "messages"), text(power, "meaning"));
    if let Some(safe) = status.get("safe_spool").filter(|safe| !safe.is_null()) {
        let _ = writeln!(
            out,
            "safe_spool {}: {} files, {} written since the start",
            text(safe, "path"),
            number(safe, "files_written"),
            units::format_size(number(safe, "bytes_written"))
        );
    }
    out
}

/// One account: its settings, then whether it works and when it was last used.
fn account_lines(out: &mut String, account: &Value) {
    let port = number(account, "port");
    let _ = write!(out, "account {}: {} port {port}", text(account, "name"), text(account, "host"));
    let _ = write!(out, ", tls {}", text(account, "tls_mode"));
    let _ = match text(account, "auth") {
        "none" => writeln!(out, ", no login"),
        auth => {
            writeln!(out, ", login {} with {}", text(account, "username"), login_word(auth, text(account, "secret")))
        }
    };
    if let Some(paused) = account.get("paused").filter(|paused| !paused.is_null()) {
        let (since, next) = (ago(number(paused, "since")), ago(number(paused, "next")));
        let _ = writeln!(out, "  PAUSED for {since}, next attempt in {next}: {}", text(paused, "reason"));
    }
    let Some(last) = account.get("last").filter(|last| !last.is_null()) else {
        let _ = writeln!(
            out,
            "  no mail has been sent through it yet: try 'smtprelay test {} RCPT'",
            text(account, "name")
        );
        return;
    };
    let _ = write!(out, "  last mail {} to {}, {}", when(last, "time"), text(last, "to"), text(last, "tls"));
    let _ = match text(last, "verified") {
        _ if text(last, "tls") == "none" => writeln!(out, ": NOT encrypted"),
        "no" => writeln!(out, " {}, certificate NOT verified", text(last, "cipher")),
        how => {
            let how = if how == "ca" { "verified" } else { "pinned" };
            let until = when(last, "expires");
            let until = if until.is_empty() { until } else { format!(", valid until {until}") };
            writeln!(out, " {}, certificate {how}{until}", text(last, "cipher"))
        }
    };
}

/// How an account logs in, and whether it can.
fn login_word(auth: &str, secret: &str) -> &'static str {
    match (auth, secret) {
        ("xoauth2", "missing") => "a token, but not signed in yet",
        ("xoauth2", _) => "a token",
        (_, "missing") => "a password, but none is set",
        _ => "a password",
    }
}

/// The result of a change.
pub fn changed(method: &str, done: &Value) -> String {
    let mut out = format!("{method}: {} done", number(done, "count"));
    if number(done, "in_hand") > 0 {
        let _ = write!(out, ", {} currently being sent", number(done, "in_hand"));
    }
    if number(done, "failed") > 0 {
        let _ = write!(out, ", {} failed, see the log", number(done, "failed"));
    }
    out + "\n"
}

/// The latest results, newest last, as a log would show them.
pub fn history(history: &Value) -> String {
    let mut out = String::new();
    for entry in list(history, "entries").iter().rev() {
        let _ = writeln!(
            out,
            "{}  {}  {}  {} -> {}  {}",
            when(entry, "time"),
            text(entry, "id"),
            text(entry, "outcome"),
            text(entry, "client"),
            text(entry, "to"),
            text(entry, "text")
        );
    }
    if out.is_empty() { "No results yet\n".into() } else { out }
}

/// One line per device.
pub fn devices(devices: &Value) -> String {
    let mut out = String::new();
    for device in list(devices, "devices") {
        let last = device.get("last_verdict").unwrap_or(&Value::Null);
        // From DHCP, else the name from its HELO.
        let name = [text(device, "name"), text(device, "helo")].into_iter().find(|name| !name.is_empty());
        let refused = device.get("allowed").is_some_and(|allowed| allowed == false);
        let _ = writeln!(
            out,
            "{} ({}){}  accepted {}, delivered {}, failed {}, refused {}{}  last seen {}  {}: {}",
            text(device, "client"),
            name.unwrap_or_default(),
            if refused { "  not allowed" } else { "" },
            number(device, "accepted"),
            number(device, "delivered"),
            number(device, "failed"),
            number(device, "refused"),
            over_rate(device.get("rate").unwrap_or(&Value::Null)),
            when(device, "last_seen"),
            text(last, "outcome"),
            text(last, "text")
        );
    }
    if out.is_empty() { "No device has connected yet\n".into() } else { out }
}

/// What happened to mail over the rate limit of a device; empty if all was within it, or there is none.
fn over_rate(rate: &Value) -> String {
    let told = [("digested", "in digests"), ("deferred", "deferred"), ("rejected", "rejected")];
    let counts: Vec<String> = told
        .iter()
        .map(|(name, words)| (number(rate, name), words))
        .filter(|(count, _)| *count > 0)
        .map(|(count, words)| format!("{count} {words}"))
        .collect();
    if counts.is_empty() { String::new() } else { format!("  over {}: {}", text(rate, "limit"), counts.join(", ")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_that_sends_too_much_is_told_of() {
        let device = serde_json::json!({ "devices": [{
            "client": "10.0.0.7", "helo": "plc", "accepted": 5, "last_seen": 0, "last_verdict": { "outcome": "delivered" },
            "rate": { "limit": "2/h", "digested": 3, "deferred": 0, "rejected": 1 },
        }] });
        let said = devices(&device);
        assert!(said.contains("refused 0  over 2/h: 3 in digests, 1 rejected  last seen"), "{said}");
        let quiet =
            serde_json::json!({ "devices": [{ "client": "10.0.0.7", "rate": { "limit": "2/h", "digested": 0 } }] });
        assert!(!devices(&quiet).contains("over "));
    }

    #[test]
    fn times_are_short() {
        let shown: Vec<String> = [0, 59, 61, 3600, 3661, 90_061, 864_000].map(ago).into();
        assert_eq!(shown, ["0s", "59s", "1m 1s", "1h", "1h 1m", "1d 1h", "10d"]);
    }
}
