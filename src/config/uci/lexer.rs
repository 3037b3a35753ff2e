// SPDX-License-Identifier: Apache-2.0
//! Lines and words of a UCI file, as libuci (`file.c`) takes them apart.
//!
//! libuci reads one line at a time into a buffer. A quoted value or a backslash in front of the line feed makes
//! it read the next line behind what it has. The byte numbers of its errors are offsets in that buffer, so the
//! buffer is kept here in the same way.

use super::error::{self, ParseError, UciProblem};

/// The size of libuci's empty line buffer, in bytes.
const BUFFER_START: usize = 32;
/// The limit of the emulated buffer size, in bytes. Only NUL bytes let it grow to this (see `Lexer::capacity`).
const BUFFER_MAX: usize = 16 << 20;

/// The commands of a UCI file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Statement {
    Package,
    Config,
    Option,
    List,
}

/// A position in a file, moving forward.
pub(super) struct Lexer<'a> {
    input: &'a [u8],
    /// The number of bytes of `input` that have been read into `buffer`.
    read: usize,
    /// The current line, with its line feed.
    buffer: Vec<u8>,
    /// The place in `buffer`.
    pos: usize,
    /// Where the current keyword ends in `buffer`.
    keyword_end: usize,
    /// How large libuci's buffer would be. It matters for lines with NUL: `fgets` fills the buffer, the rest of
    /// data read is lost after the NUL, and what follows depends on how much that was. The buffer doubles
    /// each time, without a limit in libuci.
    capacity: usize,
    /// The number of line feeds libuci has seen; the line number in its errors.
    lines: u32,
    /// The number of the line of `input` that was read last, counted from 1.
    line_number: u32,
    /// The `line_number` at the beginning of the current command.
    origin: u32,
}

impl<'a> Lexer<'a> {
    pub(super) fn new(input: &'a [u8]) -> Self {
        Lexer {
            input,
            read: 0,
            buffer: Vec::new(),
            pos: 0,
            keyword_end: 0,
            capacity: BUFFER_START,
            lines: 0,
            line_number: 0,
            origin: 1,
        }
    }

    /// An error at the current position.
    pub(super) fn error(&self, problem: UciProblem) -> ParseError {
        problem.at(self.lines, self.pos, self.origin)
    }

    /// The number of the line on which the current command begins, counted from 1.
    pub(super) fn origin(&self) -> u32 {
        self.origin
    }

    /// Goes to the next line, past its leading white space. False at the end of the file.
    pub(super) fn next_line(&mut self) -> Result<bool, ParseError> {
        if self.read >= self.input.len() {
            return Ok(false);
        }
        self.pos = 0;
        self.fetch()?;
        self.skip_white_space();
        Ok(true)
    }

    /// The command that begins here, or none at the end of the line or at a comment. Does not move: errors that
    /// are found before the arguments count from in front of the keyword.
    pub(super) fn command(&mut self) -> Result<Option<Statement>, ParseError> {
        self.origin = self.line_number;
        let rest = self.buffer.get(self.pos..).unwrap_or_default();
        let blanks = rest.iter().take_while(|byte| is_blank(**byte)).count();
        let word = rest.iter().skip(blanks).take_while(|byte| !is_blank(**byte)).count();
        self.keyword_end = self.pos + blanks + word;
        match rest.get(blanks..blanks + word).unwrap_or_default() {
            [] | [b'#', ..] => Ok(None),
            b"p" | b"package" => Ok(Some(Statement::Package)),
            b"c" | b"config" => Ok(Some(Statement::Config)),
            b"o" | b"option" => Ok(Some(Statement::Option)),
            b"l" | b"list" => Ok(Some(Statement::List)),
            _ => Err(self.error(error::INVALID_COMMAND)),
        }
    }

    /// Goes past the keyword that [`Lexer::command`] found. If a keyword at the very end of the file is not followed
    /// by anything, this is `problem`.
    pub(super) fn enter_arguments(&mut self, problem: UciProblem) -> Result<(), ParseError> {
        if self.keyword_end >= self.buffer.len() {
            return Err(self.error(problem));
        }
        self.pos = self.keyword_end + 1;
        Ok(())
    }

    /// The next word of the command, empty at its end.
    pub(super) fn word(&mut self) -> Result<Vec<u8>, ParseError> {
        self.skip_white_space();
        if self.current() == Some(b';') {
            self.pos += 1;
            return Ok(Vec::new());
        }
        let start = self.pos;
        let mut word = Vec::new();
        loop {
            match self.current() {
                Some(b'\'') => self.quoted(&mut word, b'\'', error::OPEN_SINGLE_QUOTE)?,
                Some(b'"') => self.quoted(&mut word, b'"', error::OPEN_DOUBLE_QUOTE)?,
                None => break,
                Some(b'#') => {
                    self.buffer.truncate(self.pos);
                    break;
                }
                Some(b';') => {
                    // libuci writes the word and its NUL over what it has read. The NUL falls on the `;` when
                    // the word is as long as its spelling, and then the line ends here, without an error.
                    if self.pos - start == word.len() {
                        self.buffer.truncate(self.pos);
                    }
                    break;
                }
                Some(b'\\') => {
                    if self.backslash()? {
                        self.take(&mut word);
                    }
                }
                Some(_) => self.take(&mut word),
            }
            if self.current().is_some_and(is_white_space) {
                self.pos += 1;
                break;
            }
        }
        Ok(word)
    }

    /// A quoted value: everything up to the next `quote`, over any number of lines. In double quotes a backslash takes
    /// the next character as it is, or joins two lines.
    fn quoted(&mut self, word: &mut Vec<u8>, quote: u8, problem: UciProblem) -> Result<(), ParseError> {
        self.pos += 1;
        loop {
            match self.current() {
                Some(byte) if byte == quote => {
                    self.pos += 1;
                    return Ok(());
                }
                Some(b'\\') if quote == b'"' => {
                    if self.backslash()? {
                        self.take(word);
                    }
                }
                Some(_) => self.take(word),
                None => {
                    self.fetch()?;
                    if self.current().is_none() {
                        return Err(self.error(problem));
                    }
                }
            }
        }
    }

    /// Goes past a backslash. True if it escapes the next character, false if it joined the next line.
    fn backslash(&mut self) -> Result<bool, ParseError> {
        self.pos += 1;
        match self.buffer.get(self.pos..).unwrap_or_default() {
            [] | [b'\n', ..] | [b'\r', b'\n'] => {
                self.fetch()?;
                Ok(false)
            }
            _ => Ok(true),
        }
    }

    /// Reads the next line into the buffer at the current position, over what is there. At the end of
    /// the file nothing is there afterwards.
    fn fetch(&mut self) -> Result<(), ParseError> {
        self.buffer.truncate(self.pos);
        if self.pos + 1 >= self.capacity {
            self.grow()?;
        }
        loop {
            let room = self.capacity.saturating_sub(self.buffer.len() + 1);
            let chunk = self.next_chunk(room);
            let text = chunk.split(|byte| *byte == 0).next().unwrap_or_default();
            if text.is_empty() {
                return Ok(());
            }
            self.buffer.extend_from_slice(text);
            if text.ends_with(b"\n") {
                self.lines = self.lines.saturating_add(1);
                return Ok(());
            }
            self.grow()?;
        }
    }

    /// What `fgets` brings into `room` bytes: up to and with the line feed, or as much as there is room for.
    fn next_chunk(&mut self, room: usize) -> &'a [u8] {
        let (before, rest) = self.input.split_at_checked(self.read).unwrap_or((self.input, &[]));
        let rest = rest.get(..room).unwrap_or(rest);
        let length = match rest.iter().position(|byte| *byte == b'\n') {
            Some(line_feed) => line_feed + 1,
            None => rest.len(),
        };
        if length > 0 && matches!(before.last(), None | Some(b'\n')) {
            self.line_number = self.line_number.saturating_add(1);
        }
        self.read += length;
        rest.get(..length).unwrap_or_default()
    }

    fn grow(&mut self) -> Result<(), ParseError> {
        self.capacity = self.capacity.saturating_mul(2);
        if self.capacity > BUFFER_MAX {
            return Err(self.error(error::NUL_BYTES));
        }
        Ok(())
    }

    fn skip_white_space(&mut self) {
        while self.current().is_some_and(is_white_space) {
            self.pos += 1;
        }
    }

    /// Moves the current byte to the end of `word`.
    fn take(&mut self, word: &mut Vec<u8>) {
        word.extend(self.current());
        self.pos += 1;
    }

    fn current(&self) -> Option<u8> {
        self.buffer.get(self.pos).copied()
    }
}

/// What ends a keyword.
fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t')
}

/// What ends a bare word: `isspace` of C, which has the vertical tab (0x0b), unlike `u8::is_ascii_whitespace`.
fn is_white_space(byte: u8) -> bool {
    byte.is_ascii_whitespace() || byte == 0x0b
}
