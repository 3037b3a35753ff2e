// SPDX-License-Identifier: Apache-2.0
//! The UCI file format, OpenWrt's configuration format: parses bytes into sections.
//!
//! This module accepts and refuses what libuci accepts and refuses in its strict mode, the mode of the
//! `uci` command and of LuCI, down to the line and byte of an error. `tests/libuci` compares it with the C
//! library. The grammar in short:
//!
//! * `config TYPE [NAME]` opens a section, or opens one of the same type and name again.
//! * `option NAME VALUE` sets a value. A later one replaces it. An empty or missing value changes nothing.
//! * `list NAME VALUE` appends an item. An option of that name becomes the first item.
//! * `package NAME` is checked and has no effect. `#` begins a comment. `;` separates commands.
//!
//! One wrong line makes the whole file invalid.
//!
//! The differences from libuci are limits ([`MAX_FILE`], [`MAX_SECTIONS`], [`MAX_OPTIONS`], [`MAX_VALUES`]) and
//! the quotes that [`export`] puts around a section type where they are needed.
//!
//! Nothing here reads files, and no error repeats a value: values may be passwords.

use std::borrow::Cow;

mod error;
mod lexer;
mod parser;
#[cfg(test)]
mod tests;

pub use error::ParseError;
pub use parser::parse;

/// The largest file that is read, in bytes. Read one byte more than this from a file to notice a larger one.
pub const MAX_FILE: usize = 1 << 20;
/// The maximum number of sections in one file.
pub const MAX_SECTIONS: usize = 4096;
/// The maximum number of options in one section. A list is one option.
pub const MAX_OPTIONS: usize = 1024;
/// The maximum number of values in one file: options and list items together, each time they are set.
pub const MAX_VALUES: usize = 32_768;

/// All sections of one file, in the order of the file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Package {
    /// The sections. Two named ones never have the same name.
    pub sections: Vec<Section>,
}

/// One `config` section.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Section {
    /// The section type: visible ASCII, never empty.
    pub kind: String,
    /// The section name, or none for an anonymous section: ASCII letters, digits and `_`, never empty.
    pub name: Option<String>,
    /// The line of the first `config` command of this section, counted from 1.
    pub line: u32,
    /// The options, each name once, in the order in which they were first set.
    pub options: Vec<Opt>,
}

/// One option or list of a section.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opt {
    /// The option name: ASCII letters, digits and `_`, never empty.
    pub name: String,
    /// Its value.
    pub value: Value,
    /// The line of the command that set it last, counted from 1. For a list: that appended its last item.
    pub line: u32,
}

/// The value of an option. The bytes are those of the file: any but NUL, not always UTF-8.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// Set by `option`. Never empty.
    One(Vec<u8>),
    /// Set by `list`: at least one item. An item may be empty.
    Many(Vec<Vec<u8>>),
}

impl Package {
    /// The sections of one type, in file order.
    pub fn of_kind<'a>(&'a self, kind: &'a str) -> impl Iterator<Item = &'a Section> {
        self.sections.iter().filter(move |section| section.kind == kind)
    }
}

impl Section {
    /// The option or list with that name.
    pub fn get(&self, name: &str) -> Option<&Opt> {
        self.options.iter().find(|option| option.name == name)
    }
}

impl Value {
    /// The items of a list. An option is treated as a list of one item: people write `option network 'lan'` where
    /// `list network 'lan'` is meant.
    pub fn items(&self) -> &[Vec<u8>] {
        match self {
            Value::One(value) => std::slice::from_ref(value),
            Value::Many(items) => items,
        }
    }

    /// The value as text. Bytes that are not UTF-8 become U+FFFD. The items of a list are joined by spaces, as
    /// `uci get` prints them.
    pub fn text(&self) -> Cow<'_, str> {
        match self {
            Value::One(value) => String::from_utf8_lossy(value),
            Value::Many(items) => String::from_utf8_lossy(&items.join(&b' ')).into_owned().into(),
        }
    }
}

/// Writes a package in the canonical form of `uci export`, without the `package` line: a blank line in front of
/// each section and one at the end. [`parse`] reads it back to the same package, apart from line numbers.
///
/// libuci writes a section type without quotes and so cannot read back a type with one of `'`, `"`, `\`, `#`
/// or `;` in it. Such a type is quoted here.
pub fn export(package: &Package) -> Vec<u8> {
    let mut out = Vec::new();
    for section in &package.sections {
        out.extend_from_slice(b"\nconfig ");
        let kind = section.kind.as_bytes();
        if kind.iter().any(|byte| b"'\"\\#;".contains(byte)) {
            quote(&mut out, kind);
        } else {
            out.extend_from_slice(kind);
        }
        if let Some(name) = &section.name {
            out.push(b' ');
            quote(&mut out, name.as_bytes());
        }
        out.push(b'\n');
        for option in &section.options {
            let keyword: &[u8] = match option.value {
                Value::One(_) => b"\toption ",
                Value::Many(_) => b"\tlist ",
            };
            for item in option.value.items() {
                out.extend_from_slice(keyword);
                out.extend_from_slice(option.name.as_bytes());
                out.push(b' ');
                quote(&mut out, item);
                out.push(b'\n');
            }
        }
    }
    out.push(b'\n');
    out
}

/// Appends `text` in single quotes. A single quote in it becomes `'\''`: quote ends, escaped quote, quote begins.
fn quote(out: &mut Vec<u8>, text: &[u8]) {
    out.push(b'\'');
    for &byte in text {
        match byte {
            b'\'' => out.extend_from_slice(b"'\\''"),
            _ => out.push(byte),
        }
    }
    out.push(b'\'');
}
