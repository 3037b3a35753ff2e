// SPDX-License-Identifier: Apache-2.0
//! Reads the options of one UCI section as typed values and collects errors and unknown options, with their lines.

use std::path::PathBuf;
use std::time::Duration;

use super::uci::{Section, Value};
use super::units;
use crate::secrets::MASK;

/// The severity of a finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// No problem; for information.
    Note,
    /// The settings can be used; the administrator should know.
    Warning,
    /// The settings cannot be used.
    Error,
}

/// One finding in the settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Line in the file, from 1; 0 when it concerns the file as a whole.
    pub line: u32,
    /// Whether the settings can still be used.
    pub severity: Severity,
    /// What is wrong and what is allowed.
    pub text: String,
}

/// A section while it is being read. Each getter marks its option as known; [`Reader::finish`] warns about the others.
pub struct Reader<'a> {
    section: &'a Section,
    known: Vec<&'static str>,
    problems: &'a mut Vec<Problem>,
}

/// Boolean values of OpenWrt's `get_bool`.
const TRUE: [&str; 5] = ["1", "on", "true", "yes", "enabled"];
const FALSE: [&str; 5] = ["0", "off", "false", "no", "disabled"];

#[cfg(test)]
thread_local! {
    /// All options that were requested, each with its section type: for the test of the table of options.
    pub static ASKED: std::cell::RefCell<std::collections::BTreeSet<(String, String)>> = std::cell::RefCell::default();
}

impl<'a> Reader<'a> {
    /// Begins to read `section`; findings go to `problems`.
    pub fn new(section: &'a Section, problems: &'a mut Vec<Problem>) -> Self {
        Self { section, known: Vec::new(), problems }
    }

    /// The section's own line.
    pub fn line(&self) -> u32 {
        self.section.line
    }

    /// The line of option `name`, or the section's when it is absent.
    pub fn line_of(&self, name: &str) -> u32 {
        self.section.options.iter().find(|o| o.name == name).map_or(self.section.line, |o| o.line)
    }

    /// Adds a finding at `line`.
    pub fn problem(&mut self, severity: Severity, line: u32, text: impl Into<String>) {
        self.problems.push(Problem { line, severity, text: text.into() });
    }

    /// Adds an error at option `name`.
    pub fn error(&mut self, name: &str, text: impl Into<String>) {
        let line = self.line_of(name);
        self.problem(Severity::Error, line, text);
    }

    /// Adds a warning at option `name`.
    pub fn warn(&mut self, name: &str, text: impl Into<String>) {
        let line = self.line_of(name);
        self.problem(Severity::Warning, line, text);
    }

    fn wrong(&mut self, line: u32, name: &str, value: &str, allowed: &str) {
        self.problem(Severity::Error, line, format!("option {name} '{value}' is not {allowed}"));
    }

    /// All non-empty values of `name`; a single option is treated as a list of one.
    pub fn list(&mut self, name: &'static str) -> Vec<String> {
        #[cfg(test)]
        ASKED.with_borrow_mut(|asked| asked.insert((self.section.kind.clone(), name.to_string())));
        self.known.push(name);
        let Some(option) = self.section.options.iter().find(|o| o.name == name) else { return Vec::new() };
        let items: Vec<&[u8]> = match &option.value {
            Value::One(value) => vec![value.as_slice()],
            Value::Many(items) => items.iter().map(Vec::as_slice).collect(),
        };
        let line = option.line;
        let mut texts = Vec::with_capacity(items.len());
        for item in items {
            match std::str::from_utf8(item) {
                Ok("") => {}
                // A control character in a name, address or path would end up in protocol lines and logs.
                Ok(text) if text.chars().any(char::is_control) => {
                    // A password must not appear in a message.
                    let shown = if matches!(name, "password" | "client_secret") {
                        MASK.into()
                    } else {
                        text.escape_debug().to_string()
                    };
                    self.wrong(line, name, &shown, "free of control characters");
                }
                Ok(text) => texts.push(text.to_string()),
                Err(_) => self.wrong(line, name, "…", "UTF-8 text"),
            }
        }
        texts
    }

    /// The value of `name`, or `None` when it is absent or empty. Several values are an error.
    pub fn text(&mut self, name: &'static str) -> Option<String> {
        let mut values = self.list(name);
        if values.len() > 1 {
            self.error(name, format!("{name} takes one value (write 'option {name}', not 'list {name}')"));
        }
        values.drain(..).next()
    }

    /// The path in option `name`. It has to be absolute: commands and the gateway run in different directories.
    pub fn path(&mut self, name: &'static str) -> Option<PathBuf> {
        let path = PathBuf::from(self.text(name)?);
        if !path.is_absolute() {
            self.error(name, format!("option {name} must be an absolute path"));
        }
        Some(path)
    }

    fn parsed<T>(&mut self, name: &'static str, default: T, allowed: &str, parse: impl FnOnce(&str) -> Option<T>) -> T {
        let Some(text) = self.text(name) else { return default };
        match parse(&text) {
            Some(value) => value,
            None => {
                let line = self.line_of(name);
                self.wrong(line, name, &text, allowed);
                default
            }
        }
    }

    /// A boolean value.
    pub fn flag(&mut self, name: &'static str, default: bool) -> bool {
        self.parsed(name, default, "0 or 1", |text| match text {
            _ if TRUE.contains(&text) => Some(true),
            _ if FALSE.contains(&text) => Some(false),
            _ => None,
        })
    }

    /// A whole number within `range`.
    pub fn number(&mut self, name: &'static str, default: u32, range: std::ops::RangeInclusive<u32>) -> u32 {
        let allowed = format!("a number from {} to {}", range.start(), range.end());
        self.parsed(name, default, &allowed, |text| text.parse().ok().filter(|n| range.contains(n)))
    }

    /// A TCP port; 0 (any free port) only where the caller allows it.
    pub fn port(&mut self, name: &'static str, default: u16, lowest: u16) -> u16 {
        let allowed = format!("a port from {lowest} to 65535");
        self.parsed(name, default, &allowed, |text| text.parse().ok().filter(|n| *n >= lowest))
    }

    /// A size in bytes, at least `lowest`.
    pub fn size(&mut self, name: &'static str, default: u64, lowest: u64) -> u64 {
        let allowed = format!("{}, at least {}", units::SIZE_FORM, units::format_size(lowest));
        self.parsed(name, default, &allowed, |text| units::parse_size(text).filter(|n| *n >= lowest))
    }

    /// A duration, at least `lowest`.
    pub fn duration(&mut self, name: &'static str, default: Duration, lowest: Duration) -> Duration {
        let allowed = format!("{}, at least {}", units::DURATION_FORM, units::format_duration(lowest));
        self.parsed(name, default, &allowed, |text| units::parse_duration(text).filter(|d| *d >= lowest))
    }

    /// One of some keywords.
    pub fn choice<T: Copy>(&mut self, name: &'static str, default: T, words: &[(&str, T)]) -> T {
        let allowed = format!("one of {}", words.iter().map(|(w, _)| *w).collect::<Vec<_>>().join(", "));
        self.parsed(name, default, &allowed, |text| words.iter().find(|(w, _)| *w == text).map(|(_, v)| *v))
    }

    /// The values of a list, each parsed by `parse`; a value that is not `allowed` is an error.
    pub fn each<T>(&mut self, name: &'static str, allowed: &str, parse: impl Fn(&str) -> Option<T>) -> Vec<T> {
        let mut values = Vec::new();
        for text in self.list(name) {
            match parse(&text) {
                Some(value) => values.push(value),
                None => self.error(name, format!("list {name} '{text}' is not {allowed}")),
            }
        }
        values
    }

    /// Marks options of a later version, so that they are reported as such instead of as typos.
    pub fn not_yet(&mut self, names: &[&'static str]) {
        for name in names {
            if self.text(name).is_some_and(|value| value != "0") {
                self.warn(name, format!("option {name} has no effect in this version"));
            }
        }
    }

    /// Warns about each option that was not requested: usually a typo.
    pub fn finish(self) {
        for option in &self.section.options {
            if !self.known.contains(&option.name.as_str()) {
                self.problems.push(Problem {
                    line: option.line,
                    severity: Severity::Warning,
                    text: format!("unknown option '{}' in section '{}' is ignored", option.name, self.section.kind),
                });
            }
        }
    }
}
