// SPDX-License-Identifier: Apache-2.0
//! The commands other than running the gateway.

mod ask;
mod jail;
mod login;
mod parse;
mod password;
mod providers;
mod reload;
mod test_mail;

pub use ask::{ask, ask_running_only};
pub use jail::mounts;
pub use login::login;
pub use parse::{Asked, Command, parse};
pub use password::password;
pub use reload::{reload, spool_in_use, spool_of};
pub use test_mail::test;

use std::io::Write;
use std::pin::Pin;
use std::process::ExitCode;

use serde_json::Value;
use smtprelay::system::spelled_out;

/// Exit codes of sysexits.h, which callers of a sendmail check.
pub mod exit {
    /// Usage error.
    pub const USAGE: u8 = 64;
    /// There is no such message.
    pub const NO_INPUT: u8 = 66;
    /// The gateway is not running.
    pub const UNAVAILABLE: u8 = 69;
    /// Temporary failure: try again.
    pub const TEMPORARY: u8 = 75;
}

/// Prints an error or warning for the user of the command.
pub fn complain(text: &str) {
    // Nothing can be reported if stderr is gone.
    let _ = writeln!(std::io::stderr().lock(), "{}", spelled_out(text));
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
    complain(&format!("smtprelay: {text}"));
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

/// A text in an answer of the gateway; empty if there is none.
fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value.get(name).and_then(Value::as_str).unwrap_or_default()
}

/// A list in an answer of the gateway; empty if there is none.
fn list<'a>(value: &'a Value, name: &str) -> &'a [Value] {
    value.get(name).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}
