// SPDX-License-Identifier: Apache-2.0
//! `smtprelay log [ID] [--follow]`: the gateway's lines in the system log, by the program that this system has for it.

use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use super::{exit, fail};

/// Becomes the program that shows the log; with `id` only the lines about this message.
pub fn show(id: Option<&str>, follow: bool) -> ExitCode {
    let mut logread = Command::new("logread");
    logread.args(["-e", id.unwrap_or("smtprelay")]).args(follow.then_some("-f"));
    let mut journal = Command::new("journalctl");
    journal.args(["-t", "smtprelay", "--no-pager"]).args(follow.then_some("-f"));
    if let Some(id) = id {
        journal.args(["-g", id]);
    }
    // This returns only if there is no such program.
    for program in [&mut logread, &mut journal] {
        let _ = program.exec();
    }
    let text = "this system has neither logread nor journalctl: look for smtprelay in the files of its log daemon";
    fail((exit::UNAVAILABLE, text.into()))
}
