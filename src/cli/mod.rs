// SPDX-License-Identifier: Apache-2.0
//! The commands other than running the gateway.

mod ask;
mod check;
mod import;
mod jail;
mod login;
mod metrics;
mod parse;
mod password;
mod providers;
mod queue;
mod reload;
mod setup;
mod show;
mod system_log;
mod table;
mod test_mail;
mod usage;

pub use ask::{ask, ask_running_only};
pub use check::check;
pub use import::import;
pub use jail::mounts;
pub use login::login;
pub use parse::{Asked, Command, parse};
pub use password::password;
pub use reload::{reload, spool_in_use, spool_of};
pub use setup::setup;
pub use system_log::show as show_log;
pub use test_mail::test;

use std::io::Write;
use std::pin::Pin;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Map, Value};
use smtprelay::config::uci;
use smtprelay::system::json::{json, put};
use smtprelay::system::{spelled_out, task};

/// Exit codes of sysexits.h, which callers of a sendmail check.
pub mod exit {
    /// Usage error.
    pub const USAGE: u8 = 64;
    /// What should be an address is not one, or the message has no recipient.
    pub const DATA: u8 = 65;
    /// There is no such message.
    pub const NO_INPUT: u8 = 66;
    /// The gateway does not accept a recipient.
    pub const NO_HOST: u8 = 68;
    /// The gateway is not running, or does not accept a message.
    pub const UNAVAILABLE: u8 = 69;
    /// Temporary failure: try again.
    pub const TEMPORARY: u8 = 75;
}

/// Whether errors are printed as JSON as well.
static AS_JSON: AtomicBool = AtomicBool::new(false);

/// From now on, a command that fails prints `{"error": …, "exit": …}` for the program that called it with `--json`.
pub fn fail_in_json() {
    AS_JSON.store(true, Ordering::Relaxed);
}

/// Prints an error or warning for the user of the command: each line names the program, which may be one of many in the
/// log of a script.
pub fn complain(text: &str) {
    let mut out = std::io::stderr().lock();
    for line in spelled_out(text).lines() {
        let line = line.strip_prefix("smtprelay: ").unwrap_or(line);
        // Nothing can be reported if stderr is gone.
        let _ = writeln!(out, "smtprelay: {line}");
    }
}

/// One thread for everything that waits, a few for disks. Names are resolved on separate threads.
pub fn new_runtime() -> std::io::Result<tokio::runtime::Runtime> {
    const STACK: usize = 512 << 10;
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let runtime = builder.enable_all().max_blocking_threads(task::THREADS).thread_stack_size(STACK).build();
    task::begin();
    runtime
}

/// Runs `work` to completion. Boxed, so that it has one type, because each type costs some kilobytes of program.
pub fn wait_for<T>(runtime: &tokio::runtime::Runtime, work: impl Future<Output = T>) -> T {
    let mut result = None;
    let work: Pin<Box<dyn Future<Output = ()> + '_>> = Box::pin(async { result = Some(work.await) });
    run(runtime, work);
    // `run` returned, so `work` is complete.
    result.unwrap_or_else(|| std::process::abort())
}

#[inline(never)]
fn run(runtime: &tokio::runtime::Runtime, work: Pin<Box<dyn Future<Output = ()> + '_>>) {
    runtime.block_on(work);
}

/// Prints the result of a command.
pub fn print(text: &str) -> ExitCode {
    match std::io::stdout().lock().write_all(text.as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

/// Why a command failed: the exit code, and the error message.
pub type Failure = (u8, String);

/// Prints why a command failed.
pub fn fail((code, text): Failure) -> ExitCode {
    complain(&text);
    if AS_JSON.load(Ordering::Relaxed) {
        // The exit code says it as well.
        let _ = print(&format!("{}\n", json!({ "error": text, "exit": code })));
    }
    ExitCode::from(code)
}

/// Prints the result of a command, or why it failed. Whether it comes from the gateway, the disk or a provider: text of
/// others cannot turn lines around.
pub fn finish(result: Result<String, Failure>) -> ExitCode {
    result.map_or_else(fail, |text| print(&spelled_out(&text)))
}

/// As [`finish`], for a result with an exit code of its own.
pub fn finish_with(result: Result<(String, u8), Failure>) -> ExitCode {
    match result {
        Ok((text, code)) if print(&spelled_out(&text)) == ExitCode::SUCCESS => ExitCode::from(code),
        Ok(_) => ExitCode::FAILURE,
        Err(failure) => fail(failure),
    }
}

/// The exit code for an error of this kind, as the gateway names it.
fn exit_code(kind: &str) -> u8 {
    match kind {
        "wrong" => exit::USAGE,
        "not_found" => exit::NO_INPUT,
        "busy" => exit::TEMPORARY,
        "broken" => exit::UNAVAILABLE,
        _ => 1,
    }
}

/// Settings as `smtprelay show` prints them, as JSON: a list of sections.
pub fn settings_as_json(text: &str) -> String {
    let sections = uci::parse(text.as_bytes()).map(|package| package.sections).unwrap_or_default();
    let view = |section: &uci::Section| {
        let value = |value: &uci::Value| match value {
            uci::Value::Many(_) => {
                value.items().iter().map(|item| Value::from(String::from_utf8_lossy(item))).collect()
            }
            text => Value::from(text.text()),
        };
        let mut options = Map::new();
        for option in &section.options {
            put(&mut options, &option.name, &value(&option.value));
        }
        json!({ "type": section.kind, "name": section.name, "options": options })
    };
    let sections: Vec<Value> = sections.iter().map(view).collect();
    format!("{}\n", json!({ "sections": sections }))
}

/// The reply to a message as JSON, with its ID.
pub fn sent_as_json(reply: &str) -> String {
    let behind = reply.split_once("queued as ").map(|(_, rest)| rest).unwrap_or_default();
    let id = behind.split(|c: char| !c.is_ascii_alphanumeric()).next().unwrap_or_default();
    format!("{}\n", json!({ "id": id, "reply": reply }))
}

/// A text in an answer of the gateway; empty if there is none.
fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value.get(name).and_then(Value::as_str).unwrap_or_default()
}

/// A list in an answer of the gateway; empty if there is none.
fn list<'a>(value: &'a Value, name: &str) -> &'a [Value] {
    value.get(name).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}
