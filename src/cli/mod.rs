// SPDX-License-Identifier: Apache-2.0
//! The commands other than running the gateway.

mod ask;
mod jail;
mod login;
mod parse;
mod password;
mod providers;
mod reload;
mod terminal;
mod test_mail;
mod text;

pub use ask::{ask, ask_running_only};
pub use jail::mounts;
pub use login::login;
pub use parse::{Asked, Command, parse};
pub use password::password;
pub use reload::{reload, spool_of};
pub use test_mail::test;

use std::io::Write;
use std::pin::Pin;
use std::process::ExitCode;

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
    let _ = writeln!(std::io::stderr().lock(), "{text}");
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
