// SPDX-License-Identifier: Apache-2.0
//! Distinguishes text from other content in a body while it is received.
//!
//! In text every line ending becomes CRLF, and NUL bytes are removed. A part that is not text keeps its bytes: they are
//! content. Such a body is marked, and encoded when it is sent (RFC 2045 section 6.2: only `binary` may contain them,
//! and that cannot be sent).

use super::body::Scan;
use super::lines::Piece;
use crate::message::encoded::parameters::media_type;
use crate::message::header::{Field, fields};
use crate::message::parts::entity::{self, Content};
use crate::message::parts::{DELIMITER_LIMIT, HEADER_LIMIT, Position, Tree, is_header_line};

/// Walks through one body.
#[derive(Debug, Default)]
pub struct Walk {
    tree: Tree,
    state: State,
    /// The start of a line that has to be examined as a whole.
    held: Vec<u8>,
    /// Whether a line has begun that is not a boundary, and has not ended.
    mid_line: bool,
    /// A line ending that was not written yet: it belongs to the boundary if one follows.
    end: Option<&'static [u8]>,
    /// Whether the header names boundaries.
    expects: bool,
    /// The repairs made.
    pub mended: Mended,
    /// Whether bytes were kept that a line of text must not contain.
    pub binary: bool,
    /// The charset of the first part that names one.
    pub charset: Option<Vec<u8>>,
}

/// What had to be repaired in text.
#[derive(Debug, Default, Clone, Copy)]
pub struct Mended {
    /// Line endings other than CRLF.
    pub ends: bool,
    /// NUL bytes.
    pub nul: bool,
    /// The ending of the last line was missing.
    pub last: bool,
}

#[derive(Debug, Default)]
enum State {
    Header {
        text: Vec<u8>,
        in_digest: bool,
    },
    #[default]
    Text,
    Binary,
}

impl Walk {
    /// Starts the body that belongs to `header`, which has CRLF line endings.
    pub fn new(header: &[u8]) -> Self {
        let mut walk = Self::default();
        let types: Vec<Field<'_>> =
            fields(header).filter(|field| field.is("Content-Type") && media_type(field.value).is_some()).collect();
        let multiparts = types.iter().filter_map(|field| match entity::read(field.raw, false).content {
            Content::Multipart { boundary, digest } => Some((boundary, digest)),
            _ => None,
        });
        walk.tree = Tree::of_candidates(multiparts.collect());
        walk.expects = !walk.tree.is_empty();
        walk.charset = types.iter().find_map(|field| entity::parameter(field.value, "charset"));
        if !walk.expects {
            let has_text = |field: &Field<'_>| !field.value.trim_ascii().is_empty();
            let encoding = fields(header).find(|field| field.is("Content-Transfer-Encoding") && has_text(field));
            let both = [types.first().copied(), encoding];
            let header: Vec<u8> = both.iter().flatten().flat_map(|field| field.raw).copied().collect();
            walk.enter(&header, false);
        }
        walk
    }

    /// Whether the next bytes are content even if text may not contain them: NUL, for instance.
    pub fn keeps(&self) -> bool {
        matches!(self.state, State::Binary)
    }

    /// The boundary that occurs in the body; if none does, `Err` with whether one was declared.
    pub fn boundary(&self) -> Result<&[u8], bool> {
        self.tree.boundary().ok_or(self.expects)
    }

    /// Takes the next fragment. What is to be stored is passed to `scan` and added to `body`.
    pub fn piece(&mut self, piece: Piece<'_>, scan: &mut Scan, body: &mut Vec<u8>) {
        match piece {
            Piece::Nul if self.keeps() => {
                self.binary = true;
                self.text(&[0], scan, body);
            }
            Piece::Nul => self.mended.nul = true,
            Piece::Text(text) => self.text(text, scan, body),
            Piece::End(end) => self.end_line(end, scan, body),
        }
    }

    /// Ends the body.
    pub fn finish(&mut self, scan: &mut Scan, body: &mut Vec<u8>) {
        if !self.held.is_empty() {
            let held = std::mem::take(&mut self.held);
            self.write(&held, scan, body);
        }
        match self.end.take() {
            Some(end) if self.keeps() && self.binary => {
                scan.end();
                body.extend_from_slice(end);
            }
            Some(end) => self.write_end(end, scan, body),
            None => {}
        }
    }

    fn text(&mut self, text: &[u8], scan: &mut Scan, body: &mut Vec<u8>) {
        if self.mid_line {
            self.write(text, scan, body);
            return;
        }
        self.held.extend_from_slice(text);
        let wait = match self.state {
            State::Header { .. } => self.held.len() <= HEADER_LIMIT,
            _ if self.tree.is_empty() => false,
            _ => self.held.len() <= DELIMITER_LIMIT && (self.held.starts_with(b"--") || self.held == b"-"),
        };
        if !wait {
            self.give_up_header();
            let held = std::mem::take(&mut self.held);
            self.write(&held, scan, body);
            self.mid_line = true;
        }
    }

    fn end_line(&mut self, end: &'static [u8], scan: &mut Scan, body: &mut Vec<u8>) {
        if !std::mem::take(&mut self.mid_line) {
            let line = std::mem::take(&mut self.held);
            if self.line(&line, end, scan, body) {
                return;
            }
        }
        // Two line endings in a row: the first one does not belong to a boundary.
        if let Some(before) = self.end.replace(end) {
            self.write_end(before, scan, body);
        }
    }

    /// Takes a whole line. Returns whether its line ending was written too.
    fn line(&mut self, line: &[u8], end: &'static [u8], scan: &mut Scan, body: &mut Vec<u8>) -> bool {
        if let Some(delimiter) = self.tree.delimiter(line) {
            if let Some(before) = self.end.take() {
                // It belongs to the boundary, not to the part; a CR before it belongs to the part.
                let (own, before) =
                    if self.keeps() && before == b"\r\r\n" { (true, &b"\r\n"[..]) } else { (false, before) };
                if own {
                    self.write_end(b"\r", scan, body);
                }
                self.state = State::Text;
                self.write_end(before, scan, body);
            }
            self.state = match self.tree.pass(delimiter).0 {
                Position::Header { in_digest, .. } => State::Header { text: Vec::new(), in_digest },
                Position::Around | Position::Leaf => State::Text,
            };
            scan.text(line);
            body.extend_from_slice(line);
            self.text_end(end, scan, body);
            return true;
        }
        let State::Header { text, in_digest } = &mut self.state else {
            if !line.is_empty() {
                self.write(line, scan, body);
            }
            return false;
        };
        if is_header_line(line, text.is_empty()) {
            if line.len() > HEADER_LIMIT || text.len() + line.len() + 2 > HEADER_LIMIT {
                self.give_up_header();
                return self.line(line, end, scan, body);
            }
            text.extend_from_slice(line);
            text.extend_from_slice(b"\r\n");
            scan.text(line);
            body.extend_from_slice(line);
            self.text_end(end, scan, body);
            return true;
        }
        let (text, in_digest) = (std::mem::take(text), *in_digest);
        self.enter(&text, in_digest);
        if line.is_empty() {
            self.text_end(end, scan, body);
            return true;
        }
        self.line(line, end, scan, body)
    }

    fn enter(&mut self, header: &[u8], in_digest: bool) {
        let content = entity::read(header, in_digest).content;
        if self.charset.is_none() {
            let named = fields(header).find(|field| field.is("Content-Type"));
            self.charset = named.and_then(|field| entity::parameter(field.value, "charset"));
        }
        self.state = match self.tree.enter(&content) {
            Ok(Position::Header { in_digest, .. }) => State::Header { text: Vec::new(), in_digest },
            Ok(Position::Leaf) if content.is_binary() => State::Binary,
            _ => State::Text,
        };
    }

    fn give_up_header(&mut self) {
        if matches!(self.state, State::Header { .. }) {
            self.state = State::Text;
        }
    }

    /// Writes part of a line, after the line ending that turned out to belong to the content.
    fn write(&mut self, text: &[u8], scan: &mut Scan, body: &mut Vec<u8>) {
        if let Some(end) = self.end.take() {
            self.write_end(end, scan, body);
        }
        scan.text(text);
        body.extend_from_slice(text);
    }

    fn write_end(&mut self, end: &'static [u8], scan: &mut Scan, body: &mut Vec<u8>) {
        if !self.keeps() || end.is_empty() {
            return self.text_end(end, scan, body);
        }
        self.binary |= end != b"\r\n";
        scan.end();
        body.extend_from_slice(end);
    }

    fn text_end(&mut self, end: &'static [u8], scan: &mut Scan, body: &mut Vec<u8>) {
        self.mended.last |= end.is_empty();
        self.mended.ends |= !end.is_empty() && end != b"\r\n";
        scan.end();
        body.extend_from_slice(b"\r\n");
    }
}
