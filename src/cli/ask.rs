// SPDX-License-Identifier: Apache-2.0
//! Queries the running gateway and prints the answer. If none is running, the queue is listed from the disk.

use std::io::{BufRead, IsTerminal, Write};
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use serde_json::Value;
use smtprelay::config::{self, Settings};
use smtprelay::control::socket::{CallFailure, ControlClient};
use smtprelay::control::{PAGE_LIMIT, views};
use smtprelay::queue::Spool;
use smtprelay::system::json::json;

use super::parse::Question;
use super::queue::{self, Filter};
use super::table::count;
use super::{Failure, complain, exit, exit_code, fail, finish, finish_with, metrics, show, text};

/// How long a list waits for the queue to be read after a start: a slow router reads a few hundred messages a second.
const READING: Duration = Duration::from_secs(20);

/// Queries and prints; `file` is the settings file.
pub fn ask(question: &Question, json: bool, settings: &Settings, file: &Path) -> ExitCode {
    match ControlClient::connect(&settings.relay.spool) {
        Ok(Some(mut client)) => finish_with(ask_running(question, json, &mut client, file)),
        Ok(None) => not_running(question, json, settings),
        Err(text) => fail((exit::UNAVAILABLE, text)),
    }
}

/// Queries although the settings are not valid: a running gateway continues with its previous ones, on the queue in
/// `spool`. `None` if none is running.
pub fn ask_running_only(question: &Question, json: bool, spool: &Path, file: &Path) -> Option<ExitCode> {
    let mut client = ControlClient::connect(spool).ok().flatten()?;
    Some(finish_with(ask_running(question, json, &mut client, file)))
}

/// The state of the gateway, and whether the settings in `file` are those that it runs with: `changed`.
pub fn state(client: &mut ControlClient, file: &Path) -> Result<Value, CallFailure> {
    client.call("status", json!({ "file": file.display().to_string(), "sum": config::sum(file) }))
}

fn failed(failure: CallFailure) -> Failure {
    (exit_code(&failure.kind), failure.text)
}

fn line(value: &Value) -> String {
    format!("{value}\n")
}

/// The output and the exit code.
fn ask_running(
    question: &Question,
    json: bool,
    client: &mut ControlClient,
    file: &Path,
) -> Result<(String, u8), Failure> {
    let plain = |value: Value, as_text: fn(&Value) -> String| if json { line(&value) } else { as_text(&value) };
    if matches!(question, Question::Change { method: "delete", id, sure: false } if id == "all") && !confirmed(client)?
    {
        return Err((1, "nothing was deleted".into()));
    }
    let mut call = |method: &str, params: Value| client.call(method, params).map_err(failed);
    let done = match question {
        Question::Status { check, prometheus } => {
            let answer = state(client, file).map_err(failed)?;
            return Ok(match check {
                _ if *prometheus => (metrics::of(&answer), show::exit_code(&answer, false)),
                true if !json => show::checked(&answer),
                _ => (plain(answer.clone(), show::status), show::exit_code(&answer, *check)),
            });
        }
        Question::Queue(filter) => {
            let (messages, status) = all_messages(client)?;
            mail_queue(messages, filter, json, text(&status, "health"))
        }
        Question::PostfixQueue => queue::postfix(&all_messages(client)?.0),
        Question::Show { id, body } => {
            plain(call(if *body { "body" } else { "message" }, json!({ "id": id }))?, queue::message)
        }
        Question::History => plain(call("history", json!({}))?, show::history),
        Question::Devices => plain(call("devices", json!({}))?, show::devices),
        Question::Change { method, id, .. } => {
            let done = call(method, json!({ "id": id }))?;
            if json { line(&done) } else { changed(method, &done) }
        }
        Question::Wake(reason) => {
            let done = call("wake", json!({ "reason": reason }))?;
            if json { line(&done) } else { String::new() }
        }
    };
    Ok((done, 0))
}

/// Whether everything is to be deleted. Only asked on a terminal: a script has decided.
fn confirmed(client: &mut ControlClient) -> Result<bool, Failure> {
    let stdin = std::io::stdin();
    if !stdin.is_terminal() {
        return Ok(true);
    }
    let status = client.call("status", json!({})).map_err(failed)?;
    let waiting = status.get("queue").and_then(|queue| queue.get("messages")).and_then(Value::as_u64).unwrap_or(0);
    let mut out = std::io::stderr().lock();
    // If the question cannot be seen, it is not answered with yes.
    let asked = write!(out, "Delete all {}? Nobody will be notified. [y/N] ", count(waiting, "queued message"));
    let mut answer = String::new();
    let read = asked.and_then(|()| out.flush()).and_then(|()| stdin.lock().read_line(&mut answer));
    Ok(read.is_ok() && matches!(answer.trim(), "y" | "Y" | "yes" | "Yes"))
}

/// All queued messages, and the status before they were listed. After a start they are read from the disk while
/// questions are answered already, so this waits.
fn all_messages(client: &mut ControlClient) -> Result<(Vec<Value>, Value), Failure> {
    let begun = Instant::now();
    let status = loop {
        let status = client.call("status", json!({})).map_err(failed)?;
        if status.pointer("/queue/recovering") != Some(&Value::Bool(true)) {
            break status;
        }
        if begun.elapsed() > READING {
            complain("messages queued before the last restart are still being loaded: the list is not complete");
            break status;
        }
        std::thread::sleep(Duration::from_millis(50));
    };
    let mut all = Vec::new();
    let mut after = Value::Null;
    loop {
        let mut page = client.call("queue", json!({ "after": after, "limit": PAGE_LIMIT })).map_err(failed)?;
        if let Some(messages) = page.get_mut("messages").and_then(Value::as_array_mut) {
            all.append(messages);
        }
        after = page.get_mut("next").map(Value::take).unwrap_or_default();
        if after.is_null() {
            return Ok((all, status));
        }
    }
}

/// No gateway is running: the queue can be listed, nothing more.
fn not_running(question: &Question, json: bool, settings: &Settings) -> ExitCode {
    let why = match settings.relay.enabled {
        true => "the gateway is not running; start it with 'service smtprelay start'",
        false => "the gateway is switched off; set it up with 'smtprelay setup ADDRESS', or set option enabled '1'",
    };
    finish(match question {
        Question::Status { prometheus: true, .. } => {
            // That it is not running is a value, too.
            complain(why);
            return finish_with(Ok((metrics::of(&Value::Null), exit::UNAVAILABLE)));
        }
        Question::Status { check: true, .. } if !json => {
            return finish_with(Ok((format!("SMTPRELAY CRITICAL - {why}\n"), show::CRITICAL)));
        }
        Question::Queue(Filter { account: Some(_), .. }) => {
            Err((exit::UNAVAILABLE, format!("--account requires a running gateway: {why}")))
        }
        Question::Queue(filter) => on_disk(settings)
            .map(|messages| mail_queue(messages, filter, json, "The gateway is not running."))
            .map_err(|text| (1, text)),
        Question::PostfixQueue => on_disk(settings).map(|messages| queue::postfix(&messages)).map_err(|text| (1, text)),
        // There is nothing to wake.
        Question::Wake(_) => Ok(if json { line(&json!({})) } else { String::new() }),
        _ => Err((exit::UNAVAILABLE, why.into())),
    })
}

fn on_disk(settings: &Settings) -> Result<Vec<Value>, String> {
    let listed = Spool::list(&settings.relay, |id, message| match message {
        // A message that only its report still needs is not waiting.
        Ok((stored, _)) if stored.state.is_done() => None,
        Ok((stored, size)) => {
            Some(views::message(id.as_str(), &stored.meta, &stored.state, &stored.header, size, None))
        }
        Err(error) => Some(json!({ "id": id.as_str(), "error": error.to_string() })),
    })?;
    let mut messages: Vec<Value> = listed.into_iter().flatten().collect();
    messages.sort_by_key(|message| message.get("arrived").and_then(Value::as_i64));
    Ok(messages)
}

/// The queue as it is printed.
fn mail_queue(mut messages: Vec<Value>, filter: &Filter, json: bool, health: &str) -> String {
    let all = messages.len();
    if !filter.is_empty() {
        messages.retain(|message| filter.admits(message));
    }
    match json {
        true => line(&Value::Array(messages)),
        false => queue::show(&messages, all, health),
    }
}

/// The result of a change.
fn changed(method: &str, done: &Value) -> String {
    let number = |name: &str| done.get(name).and_then(Value::as_u64).unwrap_or(0);
    let what = match method {
        "retry" => "attempted now",
        "hold" => "held",
        "release" => "released",
        _ => "deleted",
    };
    let state = if method == "hold" { "already held" } else { "not held" };
    let mut out = format!("{} {what}", count(number("count"), "message"));
    for (name, words) in [
        ("in_hand", "being sent right now"),
        ("already", state),
        ("held", "on hold (smtprelay queue release)"),
        ("over_rate", "waiting for the rate limit of the device (smtprelay queue retry ID)"),
        ("after", "not to be sent yet (option after)"),
        ("failed", "failed, see the log"),
    ] {
        if number(name) > 0 {
            out += &format!(", {} {words}", number(name));
        }
    }
    out + "\n"
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_was_not_changed_is_counted_with_its_reason() {
        let done =
            json!({ "count": 1, "in_hand": 0, "failed": 0, "already": 0, "held": 2, "over_rate": 3, "after": 4 });
        assert_eq!(
            changed("retry", &done),
            "1 message attempted now, 2 on hold (smtprelay queue release), 3 waiting for the rate limit of the device \
             (smtprelay queue retry ID), 4 not to be sent yet (option after)\n"
        );
        assert_eq!(changed("hold", &json!({ "count": 0, "already": 4 })), "0 messages held, 4 already held\n");
    }
}
