// SPDX-License-Identifier: Apache-2.0
//! Why a file was refused.

use std::fmt;

/// Why a file was refused, and where. Prints as `line 3, byte 15: too many arguments`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParseError {
    /// How many lines had been read up to their line feed: counted from 1, but one less than an editor shows
    /// when the error is in a last line without line feed. This is the number that `uci` prints.
    pub line: u32,
    /// The offset in that line, in bytes, counted from 0. A quoted value over several lines is treated as one line,
    /// which begins where its command begins.
    pub byte: usize,
    /// The line on which the refused command begins, counted from 1 as an editor does: where to look. A quote that
    /// is never closed is noticed at the end of the file only, which is where `line` is.
    pub origin: u32,
    /// What is wrong, in the words of `uci`.
    pub message: &'static str,
    /// The remedy.
    pub remedy: &'static str,
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}, byte {}: {}", self.line, self.byte, self.message)
    }
}

impl std::error::Error for ParseError {}

/// A kind of error: what is wrong and what to do about it.
#[derive(Clone, Copy)]
pub(super) struct UciProblem {
    message: &'static str,
    remedy: &'static str,
}

impl UciProblem {
    /// The error at a place of the file. The numbers are those of [`ParseError`].
    pub(super) fn at(self, line: u32, byte: usize, origin: u32) -> ParseError {
        let UciProblem { message, remedy } = self;
        ParseError { line, byte, origin, message, remedy }
    }
}

/// Declares one constant per error.
macro_rules! problems {
    ($($name:ident: $message:literal, $remedy:literal;)*) => {
        $(pub(super) const $name: UciProblem = UciProblem { message: $message, remedy: $remedy };)*
    };
}

// The wording of libuci.
problems! {
    INVALID_COMMAND: "invalid command",
        "begin each line with config, option or list; a value over several lines needs quotes";
    PACKAGE_WITHOUT_NAME: "package without name", "add the name, or remove the line";
    CONFIG_WITHOUT_NAME: "config without name", "write the section type after config";
    OPTION_WITHOUT_NAME: "option without name", "write the option name after option or list";
    INSUFFICIENT_ARGUMENTS: "insufficient arguments", "write the section type or the option name after the keyword";
    TOO_MANY_ARGUMENTS: "too many arguments", "put a value that contains spaces in quotes";
    INVALID_NAME: "invalid character in name field", "use only letters, digits and _ in names";
    INVALID_TYPE: "invalid character in type field", "use only visible ASCII characters in section types";
    NO_SECTION: "option/list command found before the first section", "put a config line before it";
    OTHER_TYPE: "section of different type overwrites prior section with same name",
        "give one of the two sections another name";
    OPEN_SINGLE_QUOTE: "EOF with unterminated '", "close the single quote after the value";
    OPEN_DOUBLE_QUOTE: "EOF with unterminated \"", "close the double quote after the value";
}

// The limits, which libuci does not have.
problems! {
    FILE_TOO_LARGE: "the file is larger than 1 MiB", "remove what is not needed from the file";
    TOO_MANY_SECTIONS: "more than 4096 sections", "remove sections that are not needed";
    TOO_MANY_OPTIONS: "more than 1024 options in one section", "remove options that are not needed";
    TOO_MANY_VALUES: "more than 32768 values in one file", "remove options and list items that are not needed";
    NUL_BYTES: "too many NUL bytes", "this is not a text file; create it again";
}
