// SPDX-License-Identifier: Apache-2.0
//! Queries the running gateway and prints the answer. If none is running, the queue is listed from the disk.

use std::path::Path;
use std::process::ExitCode;

use serde_json::{Value, json};
use smtprelay::config::{self, Settings, units};
use smtprelay::control::socket::{CallFailure, ControlClient};
use smtprelay::control::{PAGE_LIMIT, views};
use smtprelay::message::date;
use smtprelay::queue::Spool;

use super::parse::Question;
use super::{Failure, exit, exit_code, fail, finish, finish_with, list, text};

/// Queries and prints; `file` is the settings file.
pub fn ask(question: &Question, json: bool, settings: &Settings, file: &Path) -> ExitCode {
    match ControlClient::connect(&settings.relay.spool) {
        Ok(Some(mut client)) => finish_with(ask_running(question, json, &mut client, file)),
        Ok(None) => finish(ask_disk(question, json, settings)),
        Err(text) => fail((exit::UNAVAILABLE, text)),
    }
}

/// Queries although the settings are not valid: a running gateway continues with its previous ones, on the queue in
/// `spool`. `None` if none is running.
pub fn ask_running_only(question: &Question, json: bool, spool: &Path, file: &Path) -> Option<ExitCode> {
    let mut client = ControlClient::connect(spool).ok().flatten()?;
    Some(finish_with(ask_running(question, json, &mut client, file)))
}

/// The state of the gateway, and whether the settings in `file` are those that it runs with, see [`settings_differ`].
pub fn state(client: &mut ControlClient, file: &Path) -> Result<Value, CallFailure> {
    client.call("status", json!({ "file": file.display().to_string(), "sum": config::sum(file) }))
}

/// What to say if the gateway in this `status` runs with other settings than its file has now.
pub fn settings_differ(status: &Value) -> Option<String> {
    let settings = status.get("settings").filter(|settings| settings.get("changed") == Some(&Value::Bool(true)))?;
    let mut text = String::new();
    add(
        &mut text,
        "{file} has changed since it was read at {when loaded}: apply it with 'service smtprelay reload'",
        settings,
    );
    Some(text)
}

/// The exit code for a `status`: whether the gateway relays, and devices can connect.
fn works(status: &Value) -> u8 {
    u8::from(text(status, "state") != "relaying" || text(status, "reachable") != "yes")
}

fn failed(failure: CallFailure) -> Failure {
    (exit_code(&failure.kind), failure.text)
}

fn ask_running(
    question: &Question,
    json: bool,
    client: &mut ControlClient,
    file: &Path,
) -> Result<(String, u8), Failure> {
    if *question == Question::Status {
        let answer = state(client, file).map_err(failed)?;
        return Ok((if json { format!("{answer}\n") } else { status(&answer) }, works(&answer)));
    }
    answered(question, json, client).map(|text| (text, 0))
}

fn answered(question: &Question, json: bool, client: &mut ControlClient) -> Result<String, Failure> {
    let plain = |value: Value, as_text: fn(&Value) -> String| match json {
        true => format!("{value}\n"),
        false => as_text(&value),
    };
    let mut call = |method: &str, params: Value| client.call(method, params).map_err(failed);
    match question {
        Question::Status => call("status", json!({})).map(|answer| plain(answer, status)),
        Question::Show(id) => call("message", json!({ "id": id })).map(|answer| plain(answer, message)),
        Question::History => call("history", json!({})).map(|answer| plain(answer, history)),
        Question::Devices => call("devices", json!({})).map(|answer| plain(answer, devices)),
        Question::Change { method, id } => call(method, json!({ "id": id })).map(|done| changed(method, &done)),
        Question::Wake(reason) => call("wake", json!({ "reason": reason })).map(|_| String::new()),
        Question::Queue => {
            let status = call("status", json!({}))?;
            Ok(mail_queue(all_messages(client)?, json, text(&status, "health")))
        }
    }
}

/// The whole queue, fetched in pages.
fn all_messages(client: &mut ControlClient) -> Result<Vec<Value>, Failure> {
    let mut all = Vec::new();
    let mut after = Value::Null;
    loop {
        let mut page = client.call("queue", json!({ "after": after, "limit": PAGE_LIMIT })).map_err(failed)?;
        if let Some(messages) = page.get_mut("messages").and_then(Value::as_array_mut) {
            all.append(messages);
        }
        after = page.get_mut("next").map(Value::take).unwrap_or_default();
        if after.is_null() {
            return Ok(all);
        }
    }
}

/// No gateway is running: the queue can be listed, nothing more.
fn ask_disk(question: &Question, json: bool, settings: &Settings) -> Result<String, Failure> {
    match question {
        Question::Queue => {
            let listed = Spool::list(&settings.relay).map_err(|text| (1, text))?;
            let view = |(id, message): &smtprelay::queue::Listed| match message {
                Ok((meta, state, size)) => views::message(id, meta, state, *size, None),
                Err(error) => json!({ "id": id, "error": error.to_string() }),
            };
            // A message that only its report still needs is not waiting.
            let waits = |(_, message): &&smtprelay::queue::Listed| {
                message.as_ref().map_or(true, |(_, state, _)| !state.is_done())
            };
            let mut messages: Vec<Value> = listed.iter().filter(waits).map(view).collect();
            messages.sort_by_key(|message| message.get("arrived").and_then(Value::as_i64));
            Ok(mail_queue(messages, json, "The gateway is not running."))
        }
        // There is nothing to wake.
        Question::Wake(_) => Ok(String::new()),
        _ => Err((exit::UNAVAILABLE, "the gateway is not running; start it with 'service smtprelay start'".into())),
    }
}

/// The queue as it is printed.
fn mail_queue(messages: Vec<Value>, json: bool, health: &str) -> String {
    match json {
        true => format!("{}\n", Value::Array(messages)),
        false => queue(&messages, health),
    }
}

fn number(value: &Value, name: &str) -> u64 {
    value.get(name).and_then(Value::as_u64).unwrap_or(0)
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

/// Appends `template` with the fields of `value` that it names in braces: `{NAME}` is a text, `{number NAME}` a number,
/// `{size NAME}` a number of bytes, `{ago NAME}` one of seconds, and `{when NAME}` a time.
fn add(out: &mut String, template: &str, value: &Value) {
    let mut rest = template;
    while let Some((before, field)) = rest.split_once('{') {
        let (field, after) = field.split_once('}').unwrap_or((field, ""));
        out.push_str(before);
        match field.split_once(' ') {
            Some(("number", name)) => out.push_str(&number(value, name).to_string()),
            Some(("size", name)) => out.push_str(&units::format_size(number(value, name))),
            Some(("ago", name)) => out.push_str(&ago(number(value, name))),
            Some(("when", name)) => out.push_str(&when(value, name)),
            _ => out.push_str(text(value, field)),
        }
        rest = after;
    }
    out.push_str(rest);
}

/// One block per message, as mailq prints it.
fn queue(messages: &[Value], health: &str) -> String {
    if messages.is_empty() {
        return "Mail queue is empty\n".into();
    }
    let mut out = String::new();
    for message in messages {
        let age = message.get("age").and_then(Value::as_u64).map_or("clock was not set".into(), ago);
        out += &format!("{}  {age}", text(message, "id"));
        add(&mut out, "  {size size}  <{from}>  via {client}\n", message);
        if message.get("error").is_some_and(Value::is_string) {
            add(&mut out, "    {error}\n", message);
            continue;
        }
        recipients(&mut out, message);
        let timed = message.get("next").is_some_and(Value::is_u64);
        add(&mut out, if timed { "    {why} (next attempt in {ago next})\n" } else { "    {why}\n" }, message);
    }
    out += &match messages.len() {
        1 => format!("1 message waiting\n{health}\n"),
        n => format!("{n} messages waiting\n{health}\n"),
    };
    out
}

fn recipients(out: &mut String, message: &Value) {
    for recipient in list(message, "recipients") {
        let silent = text(recipient, "reply").is_empty();
        add(out, if silent { "    <{address}> {state}\n" } else { "    <{address}> {state}: {reply}\n" }, recipient);
    }
}

/// One message with its header and history.
fn message(message: &Value) -> String {
    let mut out = String::new();
    let about = "{id}  accepted {when arrived}, {size size}, from device {client}\nsender <{from}>\n";
    add(&mut out, about, message);
    recipients(&mut out, message);
    add(&mut out, "{why}\n", message);
    if message.get("next").is_some_and(Value::is_u64) {
        add(&mut out, "next attempt in {ago next}\n", message);
    }
    out.push_str("\nHistory:\n");
    for note in list(message, "history") {
        add(&mut out, "  {when at} {what}\n", note);
        for result in list(note, "results") {
            let place = usize::try_from(number(result, "recipient")).unwrap_or(usize::MAX);
            let address = list(message, "recipients").get(place).map(|recipient| text(recipient, "address"));
            out += &format!("    <{}> ", address.unwrap_or_default());
            add(&mut out, "{state}: {reply}\n", result);
        }
    }
    out += &format!("\n{}\n", text(message, "header").replace("\r\n", "\n").trim_end());
    out
}

/// The current state.
fn status(status: &Value) -> String {
    let part = |name: &str| status.get(name).unwrap_or(&Value::Null);
    let mut out = String::new();
    add(&mut out, "{health}\nsmtprelay {version}, running for {ago running}\n", status);
    if let Some(text) = settings_differ(status) {
        out += &format!("settings: {text}\n");
    }
    let error = part("settings").get("error").and_then(Value::as_str);
    out.extend(error.map(|error| format!("settings: the last change was refused: {error}\n")));
    for listener in list(status, "listeners") {
        listener_line(&mut out, listener);
    }
    if part("clock").get("set") == Some(&Value::Bool(false)) {
        out.push_str("the clock is not set\n");
    }
    for account in list(status, "accounts") {
        account_lines(&mut out, account);
    }
    for (name, template) in [
        (
            "today",
            "today (UTC): {number accepted} accepted, {number delivered} delivered, {number failed} failed, {number refused} refused\n",
        ),
        (
            "queue",
            "queue: {number messages} messages ({number held} held), {number reporting} completed and waiting for the next summary, {size bytes} of {size limit}\n",
        ),
        ("power_cut", "power cut now: {number messages} messages at risk; {meaning}\n"),
    ] {
        add(&mut out, template, part(name));
    }
    if !part("safe_spool").is_null() {
        let written = "safe_spool {path}: {number files_written} files, {size bytes_written} written since the start\n";
        add(&mut out, written, part("safe_spool"));
    }
    out
}

/// Where devices can connect, or why they cannot.
fn listener_line(out: &mut String, listener: &Value) {
    let place = if text(listener, "address").is_empty() { "" } else { " {address} port {number port}, tls {tls}" };
    let state = match (listener.get("open"), text(listener, "note").is_empty()) {
        (Some(Value::Bool(false)), _) => ": NOT OPEN: {note}",
        (_, false) => ": {note}",
        _ => "",
    };
    add(out, &format!("listener {{name}}:{place}{state}\n").replace(":: ", ": "), listener);
}

/// One account: its settings, then whether it works and when it was last used.
fn account_lines(out: &mut String, account: &Value) {
    add(out, "account {name}: {host} port {number port}, tls {tls_mode}", account);
    match text(account, "auth") {
        "none" => out.push_str(", no login\n"),
        auth => {
            add(out, ", login {username} with ", account);
            *out += &format!("{}\n", login_word(auth, text(account, "secret")));
        }
    }
    if let Some(paused) = account.get("paused").filter(|paused| !paused.is_null()) {
        add(out, "  PAUSED for {ago since}, next attempt in {ago next}: {reason}\n", paused);
    }
    let Some(last) = account.get("last").filter(|last| !last.is_null()) else {
        return add(out, "  no mail has been sent through it yet: try 'smtprelay test {name} RCPT'\n", account);
    };
    add(out, "  last mail {when time} to {to}, {tls}", last);
    let until = if when(last, "expires").is_empty() { "\n" } else { ", valid until {when expires}\n" };
    match text(last, "verified") {
        _ if text(last, "tls") == "none" => out.push_str(": NOT encrypted\n"),
        "no" => add(out, " {cipher}, certificate NOT verified\n", last),
        "ca" => add(out, &format!(" {{cipher}}, certificate verified{until}"), last),
        _ => add(out, &format!(" {{cipher}}, certificate pinned{until}"), last),
    }
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
fn changed(method: &str, done: &Value) -> String {
    let mut out = format!("{method}: ");
    add(&mut out, "{number count} done", done);
    for (name, template) in
        [("in_hand", ", {number in_hand} currently being sent"), ("failed", ", {number failed} failed, see the log")]
    {
        if number(done, name) > 0 {
            add(&mut out, template, done);
        }
    }
    out + "\n"
}

/// The latest results, newest last, as a log would show them.
fn history(history: &Value) -> String {
    let mut out = String::new();
    for entry in list(history, "entries").iter().rev() {
        add(&mut out, "{when time}  {id}  {outcome}  {client} -> {to}  {text}\n", entry);
    }
    if out.is_empty() { "No results yet\n".into() } else { out }
}

/// One line per device.
fn devices(devices: &Value) -> String {
    let mut out = String::new();
    for device in list(devices, "devices") {
        // From DHCP, else the name from its HELO.
        add(&mut out, if text(device, "name").is_empty() { "{client} ({helo})" } else { "{client} ({name})" }, device);
        if device.get("allowed").is_some_and(|allowed| allowed == false) {
            out.push_str("  not allowed");
        }
        let counts = "  accepted {number accepted}, delivered {number delivered}, failed {number failed}, refused {number refused}";
        add(&mut out, counts, device);
        out.push_str(&over_rate(device.get("rate").unwrap_or(&Value::Null)));
        add(&mut out, "  last seen {when last_seen}  ", device);
        add(&mut out, "{outcome}: {text}\n", device.get("last_verdict").unwrap_or(&Value::Null));
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
