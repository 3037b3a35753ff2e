// SPDX-License-Identifier: Apache-2.0
//! `smtprelay import`: a script in a package of its own, because it is needed once.

use std::ffi::OsString;
use std::io::ErrorKind;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use super::{exit, fail};

/// The script of the package `smtprelay-import`.
const SCRIPT: &str = "/usr/libexec/smtprelay/import";

/// Becomes the script. Returns only if it cannot be run.
pub fn import(arguments: Vec<OsString>) -> ExitCode {
    let error = Command::new(SCRIPT).args(arguments).exec();
    let text = match error.kind() {
        ErrorKind::NotFound => "import needs the package smtprelay-import: install it with opkg or apk".into(),
        _ => format!("{SCRIPT}: {error}"),
    };
    fail((exit::UNAVAILABLE, text))
}
