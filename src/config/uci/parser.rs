// SPDX-License-Identifier: Apache-2.0
//! Assembles the commands of a UCI file into sections.

use std::collections::HashMap;

use super::error::{self, ParseError, UciProblem};
use super::lexer::{Lexer, Statement};
use super::{MAX_FILE, MAX_OPTIONS, MAX_SECTIONS, MAX_VALUES, Opt, Package, Section, Value};

/// Reads a whole UCI file.
///
/// # Errors
///
/// The first error, with its position. There is no partial result.
pub fn parse(bytes: &[u8]) -> Result<Package, ParseError> {
    if bytes.len() > MAX_FILE {
        return Err(error::FILE_TOO_LARGE.at(1, 0, 1));
    }
    let mut parser =
        Parser { lexer: Lexer::new(bytes), package: Package::default(), names: HashMap::new(), open: None, values: 0 };
    while parser.lexer.next_line()? {
        parser.line()?;
    }
    Ok(parser.package)
}

struct Parser<'a> {
    lexer: Lexer<'a>,
    package: Package,
    /// The index of each section by its name. Anonymous ones are listed under the name that libuci generates: a
    /// `config` line with that name opens the anonymous section again.
    names: HashMap<String, usize>,
    /// The index of the section that options go to.
    open: Option<usize>,
    /// The number of values that have been set.
    values: usize,
}

impl Parser<'_> {
    /// All commands of the current line.
    fn line(&mut self) -> Result<(), ParseError> {
        while let Some(command) = self.lexer.command()? {
            match command {
                Statement::Package => self.package()?,
                Statement::Config => self.config()?,
                Statement::Option => self.option(false)?,
                Statement::List => self.option(true)?,
            }
        }
        Ok(())
    }

    /// `package NAME`: the file name is used instead, so this is only checked.
    fn package(&mut self) -> Result<(), ParseError> {
        self.lexer.enter_arguments(error::PACKAGE_WITHOUT_NAME)?;
        let name = self.required_word()?;
        self.check_name(&name, b"_-")?;
        self.end_of_command()
    }

    /// `config TYPE [NAME]`
    fn config(&mut self) -> Result<(), ParseError> {
        let line = self.lexer.origin();
        self.lexer.enter_arguments(error::CONFIG_WITHOUT_NAME)?;
        let kind = self.required_word()?;
        if !kind.iter().all(u8::is_ascii_graphic) {
            return Err(self.lexer.error(error::INVALID_TYPE));
        }
        let name = self.lexer.word()?;
        self.check_name(&name, b"_")?;
        self.end_of_command()?;

        let kind = ascii(&kind);
        let name = if name.is_empty() { None } else { Some(ascii(&name)) };
        if let Some(index) = name.as_ref().and_then(|name| self.names.get(name)).copied() {
            if self.package.sections.get(index).is_none_or(|section| section.kind != kind) {
                return Err(self.lexer.error(error::OTHER_TYPE));
            }
            self.open = Some(index);
            return Ok(());
        }

        let index = self.package.sections.len();
        if index >= MAX_SECTIONS {
            return Err(self.lexer.error(error::TOO_MANY_SECTIONS));
        }
        let key = name.clone().unwrap_or_else(|| made_up_name(index + 1, &kind));
        self.names.entry(key).or_insert(index);
        self.package.sections.push(Section { kind, name, line, options: Vec::new() });
        self.open = Some(index);
        Ok(())
    }

    /// `option NAME [VALUE]` and `list NAME [VALUE]`
    fn option(&mut self, list: bool) -> Result<(), ParseError> {
        let line = self.lexer.origin();
        if self.open.is_none() {
            return Err(self.lexer.error(error::NO_SECTION));
        }
        self.lexer.enter_arguments(error::OPTION_WITHOUT_NAME)?;
        let name = self.required_word()?;
        self.check_name(&name, b"_")?;
        let value = self.lexer.word()?;
        self.end_of_command()?;

        if value.is_empty() && !list {
            return Ok(());
        }
        self.values += 1;
        if self.values > MAX_VALUES {
            return Err(self.lexer.error(error::TOO_MANY_VALUES));
        }
        let open = self.open.and_then(|index| self.package.sections.get_mut(index));
        let set = open.map_or(Err(error::NO_SECTION), |section| set(section, ascii(&name), value, list, line));
        set.map_err(|problem| self.lexer.error(problem))
    }

    fn required_word(&mut self) -> Result<Vec<u8>, ParseError> {
        let word = self.lexer.word()?;
        if word.is_empty() {
            return Err(self.lexer.error(error::INSUFFICIENT_ARGUMENTS));
        }
        Ok(word)
    }

    /// A name has ASCII letters, digits, and these other characters.
    fn check_name(&self, name: &[u8], others: &[u8]) -> Result<(), ParseError> {
        let good = |byte: &u8| byte.is_ascii_alphanumeric() || others.contains(byte);
        if !name.iter().all(good) {
            return Err(self.lexer.error(error::INVALID_NAME));
        }
        Ok(())
    }

    fn end_of_command(&mut self) -> Result<(), ParseError> {
        if !self.lexer.word()?.is_empty() {
            return Err(self.lexer.error(error::TOO_MANY_ARGUMENTS));
        }
        Ok(())
    }
}

/// Sets an option, or appends to a list. An existing one keeps its position in the section.
fn set(section: &mut Section, name: String, value: Vec<u8>, list: bool, line: u32) -> Result<(), UciProblem> {
    let full = section.options.len() >= MAX_OPTIONS;
    let Some(option) = section.options.iter_mut().find(|option| option.name == name) else {
        if full {
            return Err(error::TOO_MANY_OPTIONS);
        }
        let value = if list { Value::Many(vec![value]) } else { Value::One(value) };
        section.options.push(Opt { name, value, line });
        return Ok(());
    };
    match &mut option.value {
        Value::Many(items) if list => items.push(value),
        Value::One(first) if list => {
            option.value = Value::Many(vec![std::mem::take(first), value]);
        }
        _ => option.value = Value::One(value),
    }
    option.line = line;
    Ok(())
}

/// The name that libuci generates for an anonymous section when it reads a file: `cfg`, the number of the section
/// counted from 1, and a hash of its type (Bernstein's, `h * 33 + c` from 5381).
fn made_up_name(number: usize, kind: &str) -> String {
    let hash = kind.bytes().fold(5381_u32, |hash, byte| hash.wrapping_mul(33).wrapping_add(u32::from(byte)));
    format!("cfg{number:02x}{:04x}", hash & 0xffff)
}

/// A name or type as a string. It has been checked to be ASCII.
fn ascii(word: &[u8]) -> String {
    String::from_utf8_lossy(word).into_owned()
}
