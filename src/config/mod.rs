// SPDX-License-Identifier: Apache-2.0
//! The settings: the format of the file, its meaning, and the output of both.
//!
//! [`uci`] turns bytes into sections, [`mod@load`] turns sections into [`Settings`], [`show()`] prints them. Both walk
//! through the table of all [`options`].

mod account;
pub mod advice;
pub mod alias;
pub mod channel;
pub mod device;
pub mod edit;
pub mod effect;
pub mod escalation;
pub mod files;
pub mod load;
pub mod options;
pub mod pattern;
mod presets;
pub mod providers;
pub mod reader;
pub mod services;
pub mod settings;
pub mod stored;
pub mod uci;
pub mod units;

use std::fmt;
use std::fs::File;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use crate::system::checksum::Checksum;

pub use account::is_server;
pub use alias::Alias;
pub use channel::Channel;
pub use device::{DEFAULT_DEVICE, Device, OverRate, Rate};
pub use escalation::Escalation;
pub use options::show;
pub use pattern::Pattern;
pub use reader::{Keyword, Problem, Severity};
pub use settings::{
    Account, AuthMode, Dialect, Durability, Issuer, Listener, OAuth, Relay, Route, Settings, TlsMode, User,
};

/// OpenWrt's path of the settings.
pub const DEFAULT_FILE: &str = "/etc/config/smtprelay";
/// Bytes of the largest settings file that is read.
pub const FILE_LIMIT: u64 = 1 << 20;

/// Valid settings, with findings about them.
#[derive(Debug)]
pub struct Loaded {
    /// The settings.
    pub settings: Settings,
    /// Warnings and notes, each with its line.
    pub warnings: Vec<Problem>,
    /// The checksum of the file.
    pub sum: u32,
}

/// Invalid settings: everything that is wrong with them.
#[derive(Debug)]
pub struct ConfigError {
    /// The file.
    pub file: PathBuf,
    /// Errors and warnings in the order of the file; at least one error.
    pub problems: Vec<Problem>,
}

/// One finding as one line: `FILE:LINE: error: TEXT`.
pub fn describe(file: &Path, problem: &Problem) -> String {
    let kind = match problem.severity {
        Severity::Note => "note",
        Severity::Warning => "warning",
        Severity::Error => "error",
    };
    match problem.line {
        0 => format!("{}: {kind}: {}", file.display(), problem.text),
        line => format!("{}:{line}: {kind}: {}", file.display(), problem.text),
    }
}

/// The warnings, one line each. Notes are for `smtprelay check` and the log of a start: they need
/// not be repeated with each change.
pub fn worth_telling(file: &Path, problems: &[Problem]) -> Vec<String> {
    let told = problems.iter().filter(|problem| problem.severity != Severity::Note);
    told.map(|problem| describe(file, problem)).collect()
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, problem) in self.problems.iter().enumerate() {
            if i > 0 {
                f.write_str("\n")?;
            }
            f.write_str(&describe(&self.file, problem))?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigError {}

/// Reads and checks the settings in `file`, and the stored passwords of its accounts.
///
/// # Errors
/// When the file cannot be read or parsed, or one of its values is invalid; nothing is applied then.
pub fn load(file: &Path) -> Result<Loaded, ConfigError> {
    parse(file, &read(file)?)
}

/// Checks the settings that were read from `file`. Reads the stored passwords of its accounts.
///
/// # Errors
/// As [`load()`].
pub fn parse(file: &Path, bytes: &[u8]) -> Result<Loaded, ConfigError> {
    let package = package(file, bytes)?;
    let (mut settings, mut problems) = load::settings_with(&package, &stored::Passwords::read(&package));
    settings.left = stored::left(&package, &settings);
    let left =
        settings.left.iter().map(|left| Problem { line: 0, severity: Severity::Warning, text: left.text.clone() });
    problems.extend(left);
    stored::suggest(&package, &settings.accounts, file, &mut problems);
    problems.sort_by_key(|p| p.line);
    if problems.iter().any(|p| p.severity == Severity::Error) {
        return Err(ConfigError { file: file.to_path_buf(), problems });
    }
    Ok(Loaded { settings, warnings: problems, sum: Checksum::of(bytes) })
}

/// The checksum of `file` as it is now, see [`Loaded::sum`]. `None` if it cannot be read.
pub fn sum(file: &Path) -> Option<u32> {
    read(file).ok().map(|bytes| Checksum::of(&bytes))
}

/// The section `relay` and all sections `account` in `file`, regardless of errors in them.
///
/// # Errors
/// When the file cannot be read or parsed.
pub fn outline(file: &Path) -> Result<(Relay, Vec<stored::AccountLogin>), ConfigError> {
    let package = package(file, &read(file)?)?;
    Ok((load::settings(&package).0.relay, stored::logins(&package)))
}

fn fault(file: &Path, line: u32, text: String) -> ConfigError {
    let problem = Problem { line, severity: Severity::Error, text };
    ConfigError { file: file.to_path_buf(), problems: vec![problem] }
}

fn read(file: &Path) -> Result<Zeroizing<Vec<u8>>, ConfigError> {
    let read = File::open(file).and_then(|file| files::contents(file, FILE_LIMIT + 1));
    read.map_err(|e| fault(file, 0, format!("cannot read the settings: {e}")))
}

fn package(file: &Path, bytes: &[u8]) -> Result<uci::Package, ConfigError> {
    if bytes.len() as u64 > FILE_LIMIT {
        return Err(fault(file, 0, format!("larger than {FILE_LIMIT} bytes: this is not a settings file")));
    }
    uci::parse(bytes).map_err(|e| fault(file, e.origin, format!("{}; {}", e.message, e.remedy)))
}

#[cfg(test)]
mod tests;
