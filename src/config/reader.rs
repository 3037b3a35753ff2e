// SPDX-License-Identifier: Apache-2.0
//! Reads the options of one UCI section into typed fields and collects errors and unknown options, with their lines.
//! [`Field`] says for each kind of value how it is read, and how `show` prints it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::uci::{Section, Value};
use super::units;
use crate::message::tokens::is_odd_blank;
use crate::secrets::{MASK, Secret};

/// A century: longer times mean the same to people, and no time that is calculated with this one overflows.
const FOREVER: Duration = Duration::from_secs(36_525 * 86_400);

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

/// Boolean values of OpenWrt's `get_bool`.
const TRUE: [&str; 5] = ["1", "on", "true", "yes", "enabled"];
const FALSE: [&str; 5] = ["0", "off", "false", "no", "disabled"];

/// Options whose values may begin or end with a space. From all others blanks are removed: they were pasted with the value,
/// and nobody finds them in a message such as `the username is not an address`. So are tabs and line ends from these.
const VERBATIM: [&str; 4] = ["password", "subject", "header", "body"];

/// A value that is one of some words.
pub trait Keyword: Copy + PartialEq + 'static {
    /// The words with their values, in the order of error messages.
    const WORDS: &'static [(&'static str, Self)];

    /// The value of `word`.
    fn of(word: &str) -> Option<Self> {
        Self::WORDS.iter().find(|(known, _)| *known == word).map(|(_, value)| *value)
    }

    /// The word of this value; empty if it has none.
    fn word(self) -> &'static str {
        Self::WORDS.iter().find(|(_, value)| *value == self).map_or("", |(word, _)| word)
    }
}

/// A value with a notation of its own.
pub trait Notation {
    /// What is allowed, for error messages.
    fn form(&self) -> String;
    /// Takes the value of `text`; false, and unchanged, if that is not allowed.
    fn set(&mut self, text: &str) -> bool;
    /// The value as it is written; empty: none.
    fn text(&self) -> String;
}

impl<T: Keyword> Notation for T {
    fn form(&self) -> String {
        format!("one of {}", T::WORDS.iter().map(|(word, _)| *word).collect::<Vec<_>>().join(", "))
    }

    fn set(&mut self, text: &str) -> bool {
        put(self, T::of(text))
    }

    fn text(&self) -> String {
        self.word().into()
    }
}

/// The values of a list while it is read or shown.
pub trait Items {
    /// Appends the value of `text`; false if that is not allowed.
    fn add(&mut self, text: &str) -> bool;
    /// The values as they are written.
    fn texts(&self) -> Vec<String>;
}

struct Parsed<'a, T>(&'a mut Vec<T>, fn(&str) -> Option<T>);

impl<T: ToString> Items for Parsed<'_, T> {
    fn add(&mut self, text: &str) -> bool {
        let value = (self.1)(text);
        let fits = value.is_some();
        self.0.extend(value);
        fits
    }

    fn texts(&self) -> Vec<String> {
        self.0.iter().map(T::to_string).collect()
    }
}

/// The place of an option's value in the settings, with its kind and its limits. The value that is there before it is
/// read is the default.
pub enum Field<'a> {
    /// `1` or `0`.
    Flag(&'a mut bool),
    /// One of some words, or another value with a notation of its own.
    Word(&'a mut dyn Notation),
    /// A number from 1 to this one.
    Number(&'a mut u32, u32),
    /// A TCP port, at least this one.
    Port(&'a mut u16, u16),
    /// A size in bytes, at least this one.
    Size(&'a mut u64, u64),
    /// A duration, between these numbers of seconds.
    Time(&'a mut Duration, u64, u64),
    /// Any text.
    Text(&'a mut String),
    /// A text that need not be set, what it has to be, and whether it is. It is an error where it is not.
    Optional(&'a mut Option<String>, &'static str, fn(&str) -> bool),
    /// A text that is not shown.
    Hidden(&'a mut Secret),
    /// An absolute path: commands and the gateway run in different directories.
    Path(&'a mut PathBuf),
    /// An absolute path that need not be set.
    OptionalPath(&'a mut Option<PathBuf>),
    /// An absolute path of a program, or `none`.
    Program(&'a mut Option<PathBuf>),
    /// Several values, and what each has to be.
    List(Box<dyn Items + 'a>, &'static str),
    /// Read by code of its own; this is shown.
    Own(String),
    /// An option of a later version, so that it is reported as such instead of as a typo.
    Later,
}

/// The options of a section with their fields, in the order of `show`.
pub type Options<'a> = Vec<(&'static str, Field<'a>)>;

/// A list whose values `parse` reads; `form` is what they have to be.
pub fn list<'a, T: ToString>(values: &'a mut Vec<T>, form: &'static str, parse: fn(&str) -> Option<T>) -> Field<'a> {
    Field::List(Box::new(Parsed(values, parse)), form)
}

/// A list of any texts.
pub fn texts(values: &mut Vec<String>) -> Field<'_> {
    list(values, "", |text| Some(text.to_string()))
}

/// Replaces `field` if there is a value; false if there is none.
fn put<T>(field: &mut T, value: Option<T>) -> bool {
    let fits = value.is_some();
    if let Some(value) = value {
        *field = value;
    }
    fits
}

/// The value of a flag as OpenWrt reads it.
pub fn flag(text: &str) -> Option<bool> {
    if TRUE.contains(&text) { Some(true) } else { FALSE.contains(&text).then_some(false) }
}

impl Field<'_> {
    /// Takes the value of option `name`.
    ///
    /// # Errors
    /// What is wrong with `text`.
    fn read(self, name: &str, text: &str) -> Result<(), String> {
        let path = |form: &str| match Path::new(text).is_absolute() {
            true => Ok(()),
            false => Err(format!("option {name} must be an absolute path{form}")),
        };
        let (fits, allowed) = match self {
            Self::Flag(field) => (put(field, flag(text)), "0 or 1".into()),
            Self::Word(field) => (field.set(text), field.form()),
            Self::Number(field, highest) => {
                let number = text.parse().ok().filter(|number| (1..=highest).contains(number));
                (put(field, number), format!("a number from 1 to {highest}"))
            }
            Self::Port(field, lowest) => {
                let port = text.parse().ok().filter(|port| *port >= lowest);
                (put(field, port), format!("a port from {lowest} to 65535"))
            }
            Self::Size(field, lowest) => {
                let size = units::parse_size(text).filter(|size| *size >= lowest);
                (put(field, size), format!("{}, at least {}", units::SIZE_FORM, units::format_size(lowest)))
            }
            Self::Time(field, lowest, highest) => {
                let form = |seconds| units::format_duration(Duration::from_secs(seconds));
                let time = units::parse_duration(text).filter(|time| time.as_secs() >= lowest);
                if time.is_some_and(|time| time.as_secs() > highest) {
                    return Err(format!("option {name} is more than {}", form(highest)));
                }
                let time = time.map(|time| time.min(FOREVER));
                (put(field, time), format!("{}, at least {}", units::DURATION_FORM, form(lowest)))
            }
            Self::Optional(field, form, fits) => {
                *field = Some(text.into());
                (fits(text), form.into())
            }
            Self::Text(field) => (put(field, Some(text.into())), String::new()),
            Self::Hidden(field) => (put(field, Some(Secret::new(text.into()))), String::new()),
            Self::Path(field) => {
                *field = text.into();
                return path("");
            }
            Self::OptionalPath(field) => {
                *field = Some(text.into());
                return path("");
            }
            Self::Program(field) => {
                *field = Some(text.into()).filter(|_| text != "none");
                return if field.is_some() { path(", or 'none'") } else { Ok(()) };
            }
            Self::List(..) | Self::Own(_) | Self::Later => return Ok(()),
        };
        if fits { Ok(()) } else { Err(format!("option {name} '{text}' is not {allowed}")) }
    }

    /// The value as `show` prints it. Empty ones are omitted, since UCI cannot store them.
    pub fn shown(self) -> Option<Value> {
        let path = |path: Option<&Path>| path.map(|path| path.display().to_string());
        let text = match self {
            Self::Flag(field) => if *field { "1" } else { "0" }.into(),
            Self::Word(field) => field.text(),
            Self::Number(field, _) => field.to_string(),
            Self::Port(field, _) => field.to_string(),
            Self::Size(field, _) => units::format_size(*field),
            Self::Time(field, ..) => units::format_duration(*field),
            Self::Text(field) => field.clone(),
            Self::Optional(field, ..) => field.clone().unwrap_or_default(),
            Self::Hidden(field) => if field.is_empty() { "" } else { MASK }.into(),
            Self::Path(field) => path(Some(field)).unwrap_or_default(),
            Self::OptionalPath(field) => path(field.as_deref()).unwrap_or_default(),
            Self::Program(field) => path(field.as_deref()).unwrap_or_else(|| "none".into()),
            Self::List(items, _) => {
                let items: Vec<_> = items.texts().into_iter().map(String::into_bytes).collect();
                return (!items.is_empty()).then_some(Value::Many(items));
            }
            Self::Own(text) => text,
            Self::Later => String::new(),
        };
        (!text.is_empty()).then(|| Value::One(text.into_bytes()))
    }
}

/// A section while it is being read. Each getter marks its option as known; [`Reader::finish`] warns about the others.
pub struct Reader<'a> {
    section: &'a Section,
    known: Vec<&'static str>,
    problems: &'a mut Vec<Problem>,
}

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

    /// The line of option `name`, or the section's when it is absent.
    fn line_of(&self, name: &str) -> u32 {
        self.section.options.iter().find(|o| o.name == name).map_or(self.section.line, |o| o.line)
    }

    /// Adds a finding at the section's own line.
    pub fn problem(&mut self, severity: Severity, text: impl Into<String>) {
        self.problems.push(Problem { line: self.section.line, severity, text: text.into() });
    }

    /// Adds a finding at option `name`.
    pub fn problem_at(&mut self, name: &str, severity: Severity, text: impl Into<String>) {
        let line = self.line_of(name);
        self.problems.push(Problem { line, severity, text: text.into() });
    }

    /// Adds an error at option `name`.
    pub fn error(&mut self, name: &str, text: impl Into<String>) {
        self.problem_at(name, Severity::Error, text);
    }

    /// Adds a warning at option `name`.
    pub fn warn(&mut self, name: &str, text: impl Into<String>) {
        self.problem_at(name, Severity::Warning, text);
    }

    /// All non-empty values of `name`, without blanks around them; a single option is treated as a list of one.
    pub fn list(&mut self, name: &'static str) -> Vec<String> {
        #[cfg(test)]
        ASKED.with_borrow_mut(|asked| asked.insert((self.section.kind.clone(), name.to_string())));
        self.known.push(name);
        let Some(option) = self.section.options.iter().find(|o| o.name == name) else { return Vec::new() };
        let mut texts = Vec::new();
        let verbatim = VERBATIM.contains(&name);
        for item in option.value.items() {
            // Those without a width come with what is copied from documents, and LuCI removes them like others.
            let is_blank =
                |c: char| if verbatim { matches!(c, '\t' | '\r' | '\n') } else { c.is_whitespace() || is_odd_blank(c) };
            match std::str::from_utf8(item).map(|text| text.trim_matches(is_blank)) {
                Ok("") => {}
                // A control character in a name, address or path would end up in protocol lines and logs.
                Ok(text) if text.chars().any(char::is_control) => {
                    // A password must not appear in a message.
                    let shown = if matches!(name, "password" | "token" | "client_secret") {
                        MASK.into()
                    } else {
                        text.escape_debug().to_string()
                    };
                    self.error(name, format!("option {name} '{shown}' is not free of control characters"));
                }
                Ok(text) => texts.push(text.to_string()),
                Err(_) => self.error(name, format!("option {name} '…' is not UTF-8 text")),
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

    /// Reads `options` into their fields.
    pub fn fill(&mut self, options: Options<'_>) {
        for (name, field) in options {
            match field {
                Field::List(mut items, form) => {
                    for text in self.list(name).iter().filter(|text| !items.add(text)) {
                        self.error(name, format!("list {name} '{text}' is not {form}"));
                    }
                }
                Field::Own(_) => {}
                Field::Later => {
                    if self.text(name).is_some_and(|value| value != "0") {
                        self.warn(name, format!("option {name} has no effect in this version"));
                    }
                }
                field => {
                    let read = self.text(name).map(|text| field.read(name, &text));
                    read.into_iter().filter_map(Result::err).for_each(|text| self.error(name, text));
                }
            }
        }
    }

    /// `option enabled` of sections that are left out without it.
    pub fn enabled(&mut self) -> bool {
        let mut enabled = true;
        self.fill(vec![("enabled", Field::Flag(&mut enabled))]);
        enabled
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
