// SPDX-License-Identifier: Apache-2.0
//! Queries the running gateway and prints the answer. If none is running, the queue is listed from the disk.

use std::path::Path;
use std::process::ExitCode;

use serde_json::{Value, json};
use smtprelay::config::Settings;
use smtprelay::control::client::{CallFailure, ControlClient};
use smtprelay::control::{PAGE_LIMIT, view};
use smtprelay::queue::Spool;

use super::parse::Question;
use super::{complain, exit, print, text};

/// The result of a query: the text to print, or the exit code and an error message.
type Answered = Result<String, (u8, String)>;

/// Queries and prints.
pub fn ask(question: &Question, json: bool, settings: &Settings) -> ExitCode {
    say(match ControlClient::connect(&settings.relay.spool) {
        Ok(Some(mut client)) => ask_running(question, json, &mut client),
        Ok(None) => ask_disk(question, json, settings),
        Err(text) => Err((exit::UNAVAILABLE, text)),
    })
}

/// Queries although the settings are not valid: a running gateway continues with its previous ones, on the queue in
/// `spool`. `None` if none is running.
pub fn ask_running_only(question: &Question, json: bool, spool: &Path) -> Option<ExitCode> {
    let mut client = ControlClient::connect(spool).ok().flatten()?;
    Some(say(ask_running(question, json, &mut client)))
}

fn say(answered: Answered) -> ExitCode {
    match answered {
        Ok(text) => print(&text),
        Err((code, text)) => {
            complain(&format!("smtprelay: {text}"));
            ExitCode::from(code)
        }
    }
}

fn code(failure: CallFailure) -> (u8, String) {
    let code = match failure.kind.as_str() {
        "wrong" => exit::USAGE,
        "not_found" => exit::NO_INPUT,
        "busy" => exit::TEMPORARY,
        "broken" => exit::UNAVAILABLE,
        _ => 1,
    };
    (code, failure.text)
}

fn ask_running(question: &Question, json: bool, client: &mut ControlClient) -> Answered {
    let plain = |value: Value, as_text: fn(&Value) -> String| match json {
        true => format!("{value}\n"),
        false => as_text(&value),
    };
    match question {
        Question::Status => Ok(plain(client.call("status", json!({})).map_err(code)?, text::status)),
        Question::Queue => {
            let status = client.call("status", json!({})).map_err(code)?;
            Ok(mail_queue(all_messages(client)?, json, status.get("health").and_then(Value::as_str)))
        }
        Question::Show(id) => Ok(plain(client.call("message", json!({ "id": id })).map_err(code)?, text::message)),
        Question::Change { method, id } => {
            let done = client.call(method, json!({ "id": id })).map_err(code)?;
            Ok(text::changed(method, &done))
        }
        Question::History => Ok(plain(client.call("history", json!({})).map_err(code)?, text::history)),
        Question::Devices => Ok(plain(client.call("devices", json!({})).map_err(code)?, text::devices)),
        Question::Wake(reason) => {
            client.call("wake", json!({ "reason": reason })).map_err(code)?;
            Ok(String::new())
        }
    }
}

/// The whole queue, fetched in pages.
fn all_messages(client: &mut ControlClient) -> Result<Vec<Value>, (u8, String)> {
    let mut all = Vec::new();
    let mut after = Value::Null;
    loop {
        let mut page = client.call("queue", json!({ "after": after, "limit": PAGE_LIMIT })).map_err(code)?;
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
fn ask_disk(question: &Question, json: bool, settings: &Settings) -> Answered {
    let not_running =
        || (exit::UNAVAILABLE, "the gateway is not running; start it with 'service smtprelay start'".to_string());
    match question {
        Question::Queue => {
            let listed = Spool::list(&settings.relay).map_err(|text| (1, text))?;
            let view = |(id, message): &smtprelay::queue::Listed| match message {
                Ok((meta, state, size)) => view::message(id, meta, state, *size, None),
                Err(error) => json!({ "id": id, "error": error.to_string() }),
            };
            // A message that only its report still needs is not waiting.
            let waits = |(_, message): &&smtprelay::queue::Listed| {
                message.as_ref().map_or(true, |(_, state, _)| !state.is_done())
            };
            let mut messages: Vec<Value> = listed.iter().filter(waits).map(view).collect();
            messages.sort_by_key(|message| message.get("arrived").and_then(Value::as_i64));
            Ok(mail_queue(messages, json, Some("The gateway is not running.")))
        }
        // There is nothing to wake.
        Question::Wake(_) => Ok(String::new()),
        _ => Err(not_running()),
    }
}

/// The queue as it is printed.
fn mail_queue(messages: Vec<Value>, json: bool, health: Option<&str>) -> String {
    match json {
        true => format!("{}\n", Value::Array(messages)),
        false => text::queue(&messages, health.unwrap_or_default()),
    }
}
