// SPDX-License-Identifier: Apache-2.0
//! The state of the gateway, its history and its devices, for people and for monitoring.

use serde_json::Value;

use super::table::{Colour, ago, bytes, count, device, local, paint, short_subject, table};
use super::{list, text};

/// Exit codes of monitoring plugins (<https://www.monitoring-plugins.org/doc/guidelines.html>).
const WARNING: u8 = 1;
/// As [`WARNING`].
pub const CRITICAL: u8 = 2;

fn number(value: &Value, name: &str) -> u64 {
    value.get(name).and_then(Value::as_u64).unwrap_or(0)
}

fn when(value: &Value, name: &str) -> String {
    value.get(name).and_then(Value::as_i64).map(local).unwrap_or_default()
}

fn part<'a>(value: &'a Value, name: &str) -> &'a Value {
    value.get(name).unwrap_or(&Value::Null)
}

/// What to say if the gateway in this `status` runs with other settings than its file has now.
pub fn settings_differ(status: &Value) -> Option<String> {
    let settings = status.get("settings").filter(|settings| settings.get("changed") == Some(&Value::Bool(true)))?;
    let (file, read) = (text(settings, "file"), when(settings, "loaded"));
    Some(format!("{file} has changed since it was read at {read}: apply it with 'service smtprelay reload'"))
}

/// Whether mail is relayed, and devices can connect.
fn works(status: &Value) -> bool {
    text(status, "state") == "relaying" && text(status, "reachable") == "yes"
}

/// The exit code: 1 if something does not work; or, with `check`, that of a monitoring plugin.
pub fn exit_code(status: &Value, check: bool) -> u8 {
    if check { checked(status).1 } else { u8::from(!works(status)) }
}

/// One line with performance data, and the exit code of a monitoring plugin.
pub fn checked(status: &Value) -> (String, u8) {
    let queue = part(status, "queue");
    let error = part(status, "settings").get("error").is_some_and(Value::is_string);
    let uneasy =
        text(status, "reachable") == "partly" || error || number(queue, "held") > 0 || overdue(status).next().is_some();
    let (word, code) = match (text(status, "state"), text(status, "reachable")) {
        ("relaying", "yes") if !uneasy && settings_differ(status).is_none() => ("OK", 0),
        ("relaying", "yes" | "partly") => ("WARNING", WARNING),
        _ => ("CRITICAL", CRITICAL),
    };
    let today = part(status, "today");
    let figures = format!(
        "waiting={} held={} bytes={}B delivered={} failed={}",
        number(queue, "messages"),
        number(queue, "held"),
        number(queue, "bytes"),
        number(today, "delivered"),
        number(today, "failed")
    );
    let differs = settings_differ(status).map(|text| format!(" {text}")).unwrap_or_default();
    let silent: Vec<&str> = overdue(status).map(|device| text(device, "device")).collect();
    let silent =
        if silent.is_empty() { String::new() } else { format!(" Silent for too long: {}.", silent.join(", ")) };
    // A line of a plugin has its figures behind a bar.
    let health = format!("{}{differs}{silent}", text(status, "health")).replace(['|', '\n'], "/");
    (format!("SMTPRELAY {word} - {health} | {figures}\n"), code)
}

/// The current state.
pub fn status(status: &Value) -> String {
    let colour = if works(status) { Colour::Green } else { Colour::Red };
    let mut out = format!("{}\n", paint(text(status, "health"), colour));
    out += &format!("smtprelay {}, running for {}\n", text(status, "version"), ago(number(status, "running")));
    let error = part(status, "settings").get("error").and_then(Value::as_str).map(String::from);
    let refused = error.map(|error| format!("the last change was refused: {error}"));
    for trouble in settings_differ(status).into_iter().chain(refused) {
        out += &format!("{}\n", paint(&format!("settings: {trouble}"), Colour::Red));
    }
    for listener in list(status, "listeners") {
        out += &listener_line(listener);
    }
    if part(status, "clock").get("set") == Some(&Value::Bool(false)) {
        out.push_str("the clock is not set\n");
    }
    for account in list(status, "accounts") {
        account_lines(&mut out, account);
    }
    for device in overdue(status) {
        out += &overdue_line(device);
    }
    let (today, queue, danger) = (part(status, "today"), part(status, "queue"), part(status, "power_cut"));
    out += &format!(
        "today (UTC): {} accepted, {} delivered, {} failed, {} refused\n",
        number(today, "accepted"),
        number(today, "delivered"),
        number(today, "failed"),
        number(today, "refused")
    );
    out += &format!(
        "queue: {} ({} held), {} completed and waiting for the next summary, {} of {}\n",
        count(number(queue, "messages"), "message"),
        number(queue, "held"),
        number(queue, "reporting"),
        bytes(number(queue, "bytes")),
        bytes(number(queue, "limit"))
    );
    let messages = count(number(danger, "messages"), "message");
    out += &format!("power cut now: {messages} at risk; {}\n", text(danger, "meaning"));
    let safe = part(status, "safe_spool");
    if !safe.is_null() {
        let (files, written) = (count(number(safe, "files_written"), "file"), bytes(number(safe, "bytes_written")));
        let flash = match safe.get("bytes_programmed").and_then(Value::as_u64) {
            Some(programmed) => format!(", about {} on the flash", bytes(programmed)),
            None => " before the file system compresses it".to_string(),
        };
        out += &format!("safe_spool {}: {files}, {written} written since the start{flash}\n", text(safe, "path"));
    }
    out
}

/// The devices that have been silent for too long.
fn overdue(status: &Value) -> impl Iterator<Item = &Value> {
    list(status, "expected").iter().filter(|device| device.get("overdue") == Some(&Value::Bool(true)))
}

/// A device that has been silent for too long.
fn overdue_line(device: &Value) -> String {
    let known = |name: &str, words: &str, otherwise: &str| match when(device, name).as_str() {
        "" => otherwise.to_string(),
        time => format!("{words} {time}"),
    };
    let (silent, every) = (ago(number(device, "silent")), ago(number(device, "every")));
    let last = known("last_heard", "last heard", "not known when last heard");
    let since = known("overdue_since", ", overdue since", "");
    let state = format!("SILENT for {silent}, expected every {every}; {last}{since}");
    format!("device {}: {}\n", text(device, "device"), paint(&state, Colour::Red))
}

/// Where devices can connect, or why they cannot.
fn listener_line(listener: &Value) -> String {
    let place = match text(listener, "address") {
        "" => String::new(),
        address => format!("{address} port {}, tls {}", number(listener, "port"), text(listener, "tls")),
    };
    let note = text(listener, "note");
    let state = match listener.get("open") {
        Some(Value::Bool(false)) => paint(&format!("NOT OPEN: {note}"), Colour::Red),
        _ => note.to_string(),
    };
    let parts = [place, state].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(": ");
    format!("listener {}: {parts}\n", text(listener, "name"))
}

/// One account: its settings, then whether it works and when it was last used.
fn account_lines(out: &mut String, account: &Value) {
    let name = text(account, "name");
    *out += &format!(
        "account {name}: {} port {}, tls {}",
        text(account, "host"),
        number(account, "port"),
        text(account, "tls_mode")
    );
    *out += &match text(account, "auth") {
        "none" => ", no login\n".to_string(),
        "token" => format!(", with {}\n", login_word("token", text(account, "secret"))),
        auth => format!(", login {} with {}\n", text(account, "username"), login_word(auth, text(account, "secret"))),
    };
    if let Some(paused) = account.get("paused").filter(|paused| !paused.is_null()) {
        let (since, next) = (ago(number(paused, "since")), ago(number(paused, "next")));
        let state = format!("PAUSED for {since}, next attempt in {next}: {}", text(paused, "reason"));
        *out += &format!("  {}\n", paint(&state, Colour::Red));
    }
    let Some(last) = account.get("last").filter(|last| !last.is_null()) else {
        *out += &format!(
            "  no mail has been sent through it since the start; 'smtprelay test {name} RCPT' sends a test mail\n"
        );
        return;
    };
    *out += &format!("  last mail {} to {}, {}", when(last, "time"), text(last, "to"), text(last, "tls"));
    let until = match when(last, "expires").as_str() {
        "" => "\n".to_string(),
        expires => format!(", valid until {expires}\n"),
    };
    let cipher = text(last, "cipher");
    *out += &match text(last, "verified") {
        _ if text(last, "tls") == "none" => ": NOT encrypted\n".to_string(),
        "no" => format!(" {cipher}, certificate NOT verified\n"),
        "fingerprint" => format!(" {cipher}, certificate pinned{until}"),
        _ => format!(" {cipher}, certificate verified{until}"),
    };
}

/// How an account logs in, and whether it can.
fn login_word(auth: &str, secret: &str) -> &'static str {
    match (auth, secret) {
        ("xoauth2", "missing") => "a token, but not signed in yet",
        ("token", "missing") => "a token, but none is set",
        ("xoauth2" | "token", _) => "a token",
        (_, "missing") => "a password, but none is set",
        _ => "a password",
    }
}

/// The latest results, newest last, as a log would show them.
pub fn history(history: &Value) -> String {
    // Without any subject the column is left out.
    let subjects = list(history, "entries").iter().any(|entry| !text(entry, "subject").is_empty());
    let row = |entry: &Value| {
        let cell = |name: &str| text(entry, name).to_string();
        let mut row = vec![when(entry, "time"), cell("id"), cell("outcome"), device(entry), cell("to")];
        row.extend(subjects.then(|| short_subject(entry)));
        row.push(cell("text"));
        row
    };
    let rows: Vec<Vec<String>> = list(history, "entries").iter().rev().map(row).collect();
    match rows.is_empty() {
        true => "No results yet\n".into(),
        false if subjects => {
            table(&["TIME", "ID", "RESULT", "DEVICE", "RECIPIENT", "SUBJECT", "REPLY OR REASON"], &rows)
        }
        false => table(&["TIME", "ID", "RESULT", "DEVICE", "RECIPIENT", "REPLY OR REASON"], &rows),
    }
}

/// One line per device.
pub fn devices(devices: &Value) -> String {
    let row = |device: &Value| {
        // What it says in HELO may be anything, so this is marked, and only shown where nothing else is known.
        let name = match (text(device, "device"), text(device, "helo")) {
            ("", "") => String::new(),
            ("", helo) => format!("HELO {helo}"),
            (name, _) => name.into(),
        };
        let counted = |name| number(device, name).to_string();
        let verdict = part(device, "last_verdict");
        let refused = if device.get("allowed") == Some(&Value::Bool(false)) { "not allowed; " } else { "" };
        let last = match text(verdict, "text") {
            "" => text(verdict, "outcome").to_string(),
            why => format!("{}: {why}", text(verdict, "outcome")),
        };
        vec![
            text(device, "client").into(),
            name,
            counted("accepted"),
            counted("delivered"),
            counted("failed"),
            counted("refused"),
            when(device, "last_seen"),
            format!("{refused}{last}{}", over_rate(part(device, "rate"))),
        ]
    };
    let rows: Vec<Vec<String>> = list(devices, "devices").iter().map(row).collect();
    match rows.is_empty() {
        true => "No device has connected yet\n".into(),
        false => table(
            &["DEVICE", "NAME", "ACCEPTED>", "DELIVERED>", "FAILED>", "REFUSED>", "LAST SEEN", "LAST RESULT"],
            &rows,
        ),
    }
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
    if counts.is_empty() { String::new() } else { format!("; over {}: {}", text(rate, "limit"), counts.join(", ")) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_device_that_sends_too_much_is_told_of() {
        let device = json!({ "devices": [{
            "client": "10.0.0.7", "helo": "plc", "accepted": 5, "last_seen": 0, "last_verdict": { "outcome": "delivered" },
            "rate": { "limit": "2/h", "digested": 3, "deferred": 0, "rejected": 1 },
        }] });
        let said = devices(&device);
        assert!(said.contains("delivered; over 2/h: 3 in digests, 1 rejected\n"), "{said}");
        let quiet = json!({ "devices": [{ "client": "10.0.0.7", "rate": { "limit": "2/h", "digested": 0 } }] });
        assert!(!devices(&quiet).contains("over "));
        assert_eq!(devices(&json!({ "devices": [] })), "No device has connected yet\n");
    }

    #[test]
    fn what_a_device_says_in_helo_is_not_its_name() {
        let row = |device: &str, helo: &str| {
            let said = devices(&json!({ "devices": [{ "client": "10.0.0.7", "device": device, "helo": helo }] }));
            said.lines().last().unwrap().split_whitespace().collect::<Vec<_>>().join(" ")
        };
        assert!(row("Pump house", "localhost").starts_with("10.0.0.7 Pump house 0 0"));
        assert!(row("", "plc").starts_with("10.0.0.7 HELO plc 0 0"));
        assert!(row("", "").starts_with("10.0.0.7 0 0"));
    }

    #[test]
    fn who_is_silent_for_too_long_is_named() {
        let device = |name: &str, overdue: bool, last: Option<i64>| json!({ "name": "x", "device": name, "every": 86_400, "silent": 93_600, "last_heard": last, "overdue": overdue, "overdue_since": last });
        let state = json!({ "state": "relaying", "reachable": "yes", "health": "Relaying.", "expected": [
            device("Pump", true, None), device("Lift", false, None), device("Boiler", true, Some(1_803_902_400)),
        ] });
        let said = status(&state);
        assert!(
            said.contains("device Pump: SILENT for 1d 2h, expected every 1d; not known when last heard\n"),
            "{said}"
        );
        assert!(said.contains("device Boiler: SILENT for 1d 2h, expected every 1d; last heard 2027-"), "{said}");
        assert!(said.contains(", overdue since 2027-") && !said.contains("Lift"), "{said}");
        let (line, code) = checked(&state);
        assert_eq!((code, exit_code(&state, false)), (1, 0));
        assert!(line.starts_with("SMTPRELAY WARNING - Relaying. Silent for too long: Pump, Boiler. |"), "{line}");
    }

    #[test]
    fn monitoring_gets_its_codes() {
        let status = |state: &str, reachable: &str, held: u64, changed: bool| {
            json!({ "state": state, "reachable": reachable, "health": "a | b", "settings": { "changed": changed },
                "queue": { "messages": 3, "held": held, "bytes": 9 }, "today": { "delivered": 1 } })
        };
        for (state, code, plain) in [
            (status("relaying", "yes", 0, false), 0, 0),
            (status("relaying", "yes", 1, false), 1, 0),
            (status("relaying", "yes", 0, true), 1, 0),
            (status("relaying", "partly", 0, false), 1, 1),
            (status("relaying", "no", 0, false), 2, 1),
            (status("paused", "yes", 0, false), 2, 1),
            (status("no_account", "yes", 0, false), 2, 1),
        ] {
            assert_eq!((exit_code(&state, true), exit_code(&state, false)), (code, plain), "{state}");
        }
        let (line, _) = checked(&status("paused", "yes", 0, false));
        assert_eq!(line, "SMTPRELAY CRITICAL - a / b | waiting=3 held=0 bytes=9B delivered=1 failed=0\n");
    }
}
