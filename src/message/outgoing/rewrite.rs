// SPDX-License-Identifier: Apache-2.0
//! Converts a body to a form that can be sent, as a stream: 7 bits for servers without 8BITMIME (RFC 6152 section 3),
//! lines of at most 998 bytes, and no bytes that a text must not contain.
//!
//! Walks through a message part by part (RFC 2046 section 5.1). The decoded content of a part stays the same. A part
//! that cannot be sent as it is gets encoded and its header updated. A part that is already encoded keeps its encoding:
//! long lines get soft line breaks in quoted-printable and breaks anywhere in base64.

use super::CannotConvert;
use super::coder::Coder;
use super::lines::{Code, Patch, Wrap, crlf};
use crate::message::encoded::{self, Charset};
use crate::message::header::{LINE_LIMIT, find, push_line};
use crate::message::parts::{
    Bound, Content, DELIMITER_LIMIT, Entity, HEADER_LIMIT, NESTING, Position, Tree, charset, is_header_line, make_room,
    relabelled,
};

/// Rewrites one body.
#[derive(Debug)]
pub struct Rewrite {
    /// Whether only 7 bits are supported. If not, nothing is refused.
    seven_bit: bool,
    tree: Tree,
    state: State,
    /// The start of a line that has to be examined as a whole.
    held: Vec<u8>,
    /// Whether a line was started that is not a boundary, and is not complete yet.
    mid_line: bool,
    /// A CRLF that was not written yet: it belongs to the boundary if one follows.
    line_end: bool,
    /// The charset that the message or its first part with one names: that of names in parts which name none.
    charset: Option<Vec<u8>>,
}

#[derive(Debug)]
enum State {
    /// In the header of a part, or of a message in a part.
    Header { text: Vec<u8>, in_digest: bool, whole_message: bool },
    /// In a body, or in the text around parts.
    Body(Coder),
}

impl Rewrite {
    /// For the body that belongs to `header` and cannot be sent as it is. Also returns the header that matches the
    /// result.
    ///
    /// # Errors
    /// If the header says that the body is something that cannot be encoded.
    pub fn new(header: &[u8], seven_bit: bool) -> Result<(Vec<u8>, Self), CannotConvert> {
        let state = State::Body(Coder::around(seven_bit));
        let (tree, held) = (Tree::default(), Vec::new());
        let mut this = Self { seven_bit, tree, state, held, mid_line: false, line_end: false, charset: None };
        let header = this.enter(header, false, true, true)?;
        Ok((header.unwrap_or_default(), this))
    }

    /// Appends the converted form of `body` to `out`, up to what depends on what follows.
    ///
    /// # Errors
    /// If a part cannot be encoded, or exceeds the limits.
    pub fn push(&mut self, body: &[u8], out: &mut Vec<u8>) -> Result<(), CannotConvert> {
        self.held.extend_from_slice(body);
        let mut held = std::mem::take(&mut self.held);
        let mut rest = &held[..];
        loop {
            let in_header = matches!(self.state, State::Header { .. });
            let limit = if in_header { HEADER_LIMIT } else { DELIMITER_LIMIT };
            if let Some((line, tail)) = crlf(rest).and_then(|at| rest.split_at_checked(at)) {
                rest = tail.get(2..).unwrap_or_default();
                self.line(line, out)?;
            } else if self.mid_line || rest.len() > limit + 1 {
                if in_header {
                    self.long_header(out)?;
                }
                // A CR at the end may be half of a CRLF.
                let length = rest.len() - usize::from(rest.ends_with(b"\r"));
                let Some((start, tail)) = rest.split_at_checked(length) else { break };
                self.body(start, out)?;
                self.mid_line = true;
                rest = tail;
                break;
            } else {
                break;
            }
        }
        let left = rest.len();
        held.drain(..held.len() - left);
        self.held = held;
        Ok(())
    }

    /// Ends the body: appends what is left.
    ///
    /// # Errors
    /// As for `push`.
    pub fn finish(&mut self, out: &mut Vec<u8>) -> Result<(), CannotConvert> {
        let held = std::mem::take(&mut self.held);
        if !held.is_empty() {
            self.line(&held, out)?;
            // The header of the part was not ended.
            self.line_end = false;
        }
        if self.line_end {
            self.body(b"", out)?;
        }
        match std::mem::replace(&mut self.state, State::Body(Coder::around(false))) {
            State::Header { text, .. } => out.extend_from_slice(&self.fitting(&text)?),
            State::Body(mut coder) => {
                // The message ends with a line ending, whatever its content ends with.
                if let Coder::QuotedPrintable(coder) = &mut coder {
                    coder.finish_line(out);
                }
                coder.finish(out)?;
                if matches!(coder, Coder::Base64(_)) {
                    out.extend_from_slice(b"\r\n");
                }
            }
        }
        unless_lost(self.tree.close(0))
    }

    /// Takes a line, or the rest of one, without its CRLF.
    fn line(&mut self, line: &[u8], out: &mut Vec<u8>) -> Result<(), CannotConvert> {
        if !self.mid_line && self.delimiter(line, out)? {
            return Ok(());
        }
        let State::Header { text, in_digest, whole_message } = &mut self.state else {
            self.body(line, out)?;
            self.mid_line = false;
            self.line_end = true;
            return Ok(());
        };
        if is_header_line(line, text.is_empty()) {
            let length = line.len() + 2;
            let early = if text.len() + length <= HEADER_LIMIT { Some(Vec::new()) } else { make_room(text, length) };
            let Some(early) = early else {
                self.long_header(out)?;
                return self.line(line, out);
            };
            push_line(line, text);
            out.extend_from_slice(&self.fitting(&early)?);
            return Ok(());
        }
        let (text, in_digest, whole_message) = (std::mem::take(text), *in_digest, *whole_message);
        if let Some(header) = self.enter(&text, in_digest, whole_message, false)? {
            push_line(&header, out);
        }
        // A line that is not a field ends the header like the blank line, which is missing.
        if line.is_empty() { Ok(()) } else { self.line(line, out) }
    }

    /// Passes `bytes` to the body, after the CRLF that turned out to belong to it.
    fn body(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<(), CannotConvert> {
        let State::Body(coder) = &mut self.state else { return Ok(()) };
        if self.seven_bit && matches!(coder, Coder::Around { .. }) && !bytes.is_ascii() {
            self.tree.lose();
        }
        if std::mem::take(&mut self.line_end) {
            coder.push(b"\r\n", out)?;
        }
        coder.push(bytes, out)
    }

    /// Starts the body that belongs to `header`. Returns the updated header; nothing if it depends on the body. `known`
    /// is whether the body is known not to fit.
    fn enter(
        &mut self,
        header: &[u8],
        in_digest: bool,
        whole_message: bool,
        known: bool,
    ) -> Result<Option<Vec<u8>>, CannotConvert> {
        let entity = Entity::read(header, in_digest);
        let mut header = self.fitting(header)?;
        if self.seven_bit && Entity::read(&header, in_digest) != entity {
            return Err(CannotConvert::seven_bit("the Content-Type of a part contains 8-bit bytes"));
        }
        let place = match self.tree.enter(&entity.content) {
            Ok(place) => place,
            Err(bound) => {
                self.pass_on(match bound {
                    Bound::Nesting => format!("its parts are nested more than {NESTING} levels deep"),
                    Bound::Boundary => "a boundary between its parts is too long".into(),
                })?;
                return Ok(Some(header));
            }
        };
        if self.seven_bit && place != Position::Leaf && !entity.called_7bit {
            header = relabelled(&header, "7bit", whole_message);
        }
        let coder = match entity.content {
            Content::Multipart { .. } | Content::Message => {
                self.go_to(place);
                return Ok(Some(header));
            }
            Content::QuotedPrintable => Coder::Patch(Patch::default()),
            Content::Base64 => Coder::Code(Code::default()),
            Content::Leaf { text } if known || self.seven_bit && !entity.called_7bit => {
                let (coder, name) = Coder::encoding(text);
                header = relabelled(&header, name, whole_message);
                coder
            }
            // The header of the whole message is needed before its body has been seen.
            _ if known => {
                let mut out = Vec::new();
                let coder = Coder::convert(&header, b"", whole_message, self.seven_bit, &mut out)?;
                out.truncate(out.len().saturating_sub(2));
                header = out;
                coder
            }
            content => {
                self.state = State::Body(Coder::undecided(header, content, self.seven_bit, whole_message));
                return Ok(None);
            }
        };
        self.state = State::Body(coder);
        Ok(Some(header))
    }

    fn go_to(&mut self, place: Position) {
        self.state = match place {
            Position::Header { in_digest, whole_message } => {
                State::Header { text: Vec::new(), in_digest, whole_message }
            }
            Position::Around | Position::Leaf => State::Body(Coder::around(self.seven_bit)),
        };
    }

    /// Whether `line` is a boundary. If so, ends what it ends and writes it.
    fn delimiter(&mut self, line: &[u8], out: &mut Vec<u8>) -> Result<bool, CannotConvert> {
        let Some(delimiter) = self.tree.delimiter(line) else { return Ok(false) };
        match &mut self.state {
            State::Body(coder) => coder.finish(out)?,
            State::Header { text, .. } => {
                let text = std::mem::take(text);
                out.extend_from_slice(&self.fitting(&text)?);
            }
        }
        if std::mem::take(&mut self.line_end) {
            out.extend_from_slice(b"\r\n");
        }
        push_line(if line.len() > LINE_LIMIT { line.trim_ascii_end() } else { line }, out);
        let (place, lost) = self.tree.pass(delimiter);
        unless_lost(lost)?;
        self.go_to(place);
        Ok(true)
    }

    /// The header of a part is too long to be held back: it is passed on with what follows.
    fn long_header(&mut self, out: &mut Vec<u8>) -> Result<(), CannotConvert> {
        let State::Header { text, .. } = &mut self.state else { return Ok(()) };
        let text = std::mem::take(text);
        self.pass_on(format!("the header of a part exceeds {} KiB", HEADER_LIMIT >> 10))?;
        out.extend_from_slice(&self.fitting(&text)?);
        Ok(())
    }

    /// What exceeds the limits cannot be converted to 7 bits; to other servers it is passed on as it is.
    fn pass_on(&mut self, reason: String) -> Result<(), CannotConvert> {
        if self.seven_bit {
            return Err(CannotConvert::seven_bit(&reason));
        }
        self.state = State::Body(Coder::Refuse(String::new(), Wrap::default()));
        Ok(())
    }

    /// `header` in lines that fit, and in 7 bits if only those are supported.
    fn fitting(&mut self, header: &[u8]) -> Result<Vec<u8>, CannotConvert> {
        let own = find(header, "Content-Type").and_then(|field| charset(field.value));
        if self.charset.is_none() {
            self.charset.clone_from(&own);
        }
        let named = own.as_deref().or(self.charset.as_deref()).and_then(Charset::find);
        let header = encoded::part_header(header, self.seven_bit, named);
        match self.seven_bit && !header.is_ascii() {
            true => Err(CannotConvert::seven_bit("the header of a part contains 8-bit bytes")),
            false => Ok(header),
        }
    }
}

/// Fails if the parts of a multipart were not found, and what was `lost` were their 8-bit bytes.
fn unless_lost(lost: bool) -> Result<(), CannotConvert> {
    match lost {
        true => Err(CannotConvert::seven_bit("no part begins with the boundary named in its header")),
        false => Ok(()),
    }
}
