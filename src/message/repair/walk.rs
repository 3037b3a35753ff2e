// SPDX-License-Identifier: Apache-2.0
//! Distinguishes text from other content in a body while it is received, and gathers facts about it.
//!
//! In text every line ending becomes CRLF, and NUL bytes are removed. A part that is not text keeps its bytes: they are
//! content. Such a body is marked, and encoded when it is sent (RFC 2045 section 6.2: only `binary` may contain them,
//! and that cannot be sent).

use super::lines::Piece;
use super::mime::{is_protected, with_parameter};
use super::split;
use crate::message::encoded::parameters::{self, media_type};
use crate::message::header::{Field, LINE_LIMIT, fields, find, push_field, push_line};
use crate::message::parts::{
    Content, DELIMITER_LIMIT, Entity, HEADER_LIMIT, Position, Tree, charset, is_file, is_header_line, make_room,
};

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
    /// A line in the header of a part that is not a field, until the next one shows whether the header goes on.
    odd: Option<(Vec<u8>, &'static [u8])>,
    /// Whether the header names boundaries.
    expects: bool,
    /// Whether its boundary may be corrected by the first line that may be a delimiter.
    adopts: bool,
    /// Whether delimiters of inner multiparts may be corrected: nothing of what was read is signed.
    corrects: bool,
    /// A line that may be the first delimiter of an inner multipart, until the next one shows whether a part begins.
    alias: Option<(Vec<u8>, &'static [u8])>,
    /// A part from its Content-Type on, until its text shows whether it has the declared charset.
    kept: Option<Vec<u8>>,
    /// What was found in the text of that part; `None` while its header is read, or if its charset is not to be judged.
    part: Option<Scan>,
    /// Whether something looks like a part: a delimiter is followed by a blank line or by a field of its content.
    parts: bool,
    /// Whether there is text outside of the headers of parts.
    text: bool,
    /// What was found in what is stored.
    pub scan: Scan,
    /// The repairs made.
    pub mended: Mended,
    /// Whether bytes were kept that a line of text must not contain.
    pub binary: bool,
    /// The charset of the first part that names one for bytes over 127.
    pub charset: Option<Vec<u8>>,
    /// Whether text begins with the byte order mark of UTF-16.
    pub wide: bool,
    /// The start of a whole message of a type that can name its charset itself.
    markup: Option<Vec<u8>>,
}

/// Length of the start of a text in which the name of its charset is looked for, as browsers do, in bytes.
const MARKUP_LIMIT: usize = 1024;
/// Bytes of a part that are kept back for its charset. Texts of devices are shorter.
const PART_LIMIT: usize = 4 << 10;

/// What had to be repaired in text.
#[derive(Debug, Default, Clone, Copy)]
pub struct Mended {
    /// Line endings other than CRLF.
    pub ends: bool,
    /// NUL bytes.
    pub nul: bool,
    /// The ending of the last line was missing.
    pub last: bool,
    /// A line in a header that was not a field.
    pub line: bool,
    /// A delimiter other than the declared one.
    pub delimiter: bool,
    /// A part with text that does not have the declared charset.
    pub charset: bool,
}

impl Mended {
    /// Takes the end of a line of text, which becomes CRLF.
    pub fn line_end(&mut self, end: &[u8]) {
        self.last |= end.is_empty();
        self.ends |= !end.is_empty() && end != b"\r\n";
    }
}

#[derive(Debug, Default)]
enum State {
    Header {
        text: Vec<u8>,
        in_digest: bool,
    },
    /// In the first line of text.
    Start {
        /// Whether it has a file name.
        file: bool,
    },
    #[default]
    Text,
    Binary,
}

impl Walk {
    /// Starts the body that belongs to `header`, which has CRLF line endings. `signed` is whether the header must stay as
    /// it is.
    pub fn new(header: &[u8], signed: bool) -> Self {
        let mut walk = Self::default();
        let types: Vec<Field<'_>> =
            fields(header).filter(|field| field.is("Content-Type") && media_type(field.value).is_some()).collect();
        let multiparts = types.iter().filter_map(|field| match Entity::read(field.raw, false).content {
            Content::Multipart { boundary, digest } => Some((boundary, digest)),
            _ => None,
        });
        walk.tree = Tree::of_candidates(multiparts.collect());
        walk.expects = !walk.tree.is_empty();
        walk.adopts = walk.expects && !signed && types.len() == 1;
        walk.corrects = !signed;
        walk.charset = types.iter().find_map(|field| charset(field.value));
        if !walk.expects {
            let has_text = |field: &Field<'_>| !field.value.trim_ascii().is_empty();
            let first = |name| fields(header).find(|field| field.is(name) && has_text(field));
            let all = [types.first().copied(), first("Content-Transfer-Encoding"), first("Content-Disposition")];
            let header: Vec<u8> = all.iter().flatten().flat_map(|field| field.raw).copied().collect();
            let kind = types.first().and_then(|field| media_type(field.value));
            walk.markup = kind.filter(|kind| matches!(kind.as_str(), "text/html" | "text/xml")).map(|_| Vec::new());
            walk.enter(&header, false);
        }
        walk
    }

    /// Whether the next bytes are content even if text may not contain them: NUL, for instance.
    pub fn keeps(&self) -> bool {
        matches!(self.state, State::Binary | State::Start { file: true })
    }

    /// The boundary that occurs in the body; if none does, `Err` with whether one was declared.
    pub fn boundary(&self) -> Result<&[u8], bool> {
        self.tree.boundary().filter(|_| self.parts || self.tree.adopted().is_none()).ok_or(self.expects)
    }

    /// Whether a body in which no boundary occurs has text.
    pub fn has_text(&self) -> bool {
        self.text || self.tree.adopted().is_some()
    }

    /// The boundary that occurs in the body, if the declared one is another.
    pub fn right_boundary(&self) -> Option<&[u8]> {
        self.tree.adopted().filter(|_| self.parts)
    }

    /// Takes the next fragment. What is to be stored is added to `body`.
    pub fn piece(&mut self, piece: Piece<'_>, body: &mut Vec<u8>) {
        match piece {
            Piece::Nul if self.keeps() => {
                // A file that has one in its first line is not text, whatever its type says.
                self.state = State::Binary;
                self.binary = true;
                self.text(&[0], body);
            }
            Piece::Nul => self.mended.nul = true,
            Piece::Text(text) => self.text(text, body),
            Piece::End(end) => self.end_line(end, body),
        }
    }

    /// Ends the body.
    pub fn finish(&mut self, body: &mut Vec<u8>) {
        if !self.held.is_empty() {
            let held = std::mem::take(&mut self.held);
            self.settle(body);
            self.write(&held, body);
        }
        self.settle(body);
        match self.end.take() {
            Some(end) if self.keeps() && self.binary => {
                self.scan.end();
                self.add(end, body);
            }
            Some(end) => self.write_end(end, body),
            None => {}
        }
        self.release(body);
        self.charset = self.charset.take().or_else(|| named_inside(self.markup.as_deref()?));
    }

    fn text(&mut self, text: &[u8], body: &mut Vec<u8>) {
        if self.mid_line {
            self.write(text, body);
            return;
        }
        // Most lines of text need not be held, nor copied for that.
        let mut held = std::mem::take(&mut self.held);
        let line = if held.is_empty() {
            text
        } else {
            held.extend_from_slice(text);
            &held
        };
        self.begin(line);
        if !self.waits(line) {
            self.settle(body);
            self.give_up_header();
            self.write(line, body);
            self.mid_line = true;
        } else if held.is_empty() {
            self.held = text.to_vec();
        } else {
            self.held = held;
        }
    }

    /// Whether this start of a line may be one that has to be examined as a whole.
    fn waits(&self, line: &[u8]) -> bool {
        match self.state {
            State::Start { .. } if line.len() < 2 => true,
            State::Header { .. } => line.len() <= HEADER_LIMIT,
            _ if self.tree.is_empty() => false,
            _ if self.alias.is_some() && line.len() <= DELIMITER_LIMIT && may_describe(line) => true,
            _ => line.len() <= DELIMITER_LIMIT && (line.starts_with(b"--") || line == b"-"),
        }
    }

    fn end_line(&mut self, end: &'static [u8], body: &mut Vec<u8>) {
        if !std::mem::take(&mut self.mid_line) {
            let line = std::mem::take(&mut self.held);
            if self.line(&line, end, body) {
                return;
            }
        }
        self.after_line(end, body);
    }

    fn after_line(&mut self, end: &'static [u8], body: &mut Vec<u8>) {
        if matches!(self.state, State::Start { .. }) {
            self.state = State::Text;
        }
        // Two line endings in a row: the first one does not belong to a boundary.
        if let Some(before) = self.end.replace(end) {
            self.write_end(before, body);
        }
    }

    /// Takes the first bytes of a line. Text in UTF-16 begins with a byte order mark, and has line endings and NUL bytes
    /// within its characters; no text begins like a PNG image, which has line endings before its first NUL.
    fn begin(&mut self, line: &[u8]) {
        if matches!(self.state, State::Start { .. }) {
            let wide = matches!(line, [0xff, 0xfe, ..] | [0xfe, 0xff, ..]);
            self.wide |= wide;
            if wide || line.starts_with(b"\x89PNG") {
                self.state = State::Binary;
            }
        }
    }

    /// Takes a whole line. Returns whether its line ending was written too.
    fn line(&mut self, line: &[u8], end: &'static [u8], body: &mut Vec<u8>) -> bool {
        if line.len() >= CONTENT.len() && may_describe(line) && is_header_line(line, false) {
            if let Some((odd, end)) = self.odd.take() {
                self.keep_odd(&odd, end, body);
            }
            if let Some((delimiter, end)) = self.alias.take() {
                self.tree.alias(&delimiter);
                self.line(&delimiter, end, body);
            }
        } else {
            self.settle(body);
        }
        if self.adopts {
            self.adopts = !self.tree.adopt(line);
        }
        if let Some(delimiter) = self.tree.delimiter(line) {
            // The line ending before it is not part of the text.
            self.part.iter_mut().for_each(Scan::end);
            self.release(body);
            let right = self.tree.right(delimiter);
            self.mended.delimiter |= right.is_some();
            if let Some(before) = self.end.take() {
                // It belongs to the boundary, not to the part; a CR before it belongs to the part.
                let (own, before) =
                    if self.keeps() && before == b"\r\r\n" { (true, &b"\r\n"[..]) } else { (false, before) };
                if own {
                    self.write_end(b"\r", body);
                }
                self.state = State::Text;
                self.write_end(before, body);
            }
            self.state = match self.tree.pass(delimiter).0 {
                Position::Header { in_digest, .. } => State::Header { text: Vec::new(), in_digest },
                Position::Around | Position::Leaf => State::Text,
            };
            self.store(right.as_deref().unwrap_or(line), body);
            self.text_end(end, body);
            return true;
        }
        let State::Header { text, .. } = &mut self.state else {
            if self.corrects && self.tree.may_be_alias(line) {
                self.alias = Some((line.to_vec(), end));
                return true;
            }
            self.begin(line);
            if !line.is_empty() {
                self.write(line, body);
            }
            return false;
        };
        if is_header_line(line, text.is_empty()) {
            let length = line.len() + 2;
            if text.len() + length > HEADER_LIMIT && make_room(text, length).is_none() {
                self.give_up_header();
                return self.line(line, end, body);
            }
            push_line(line, text);
            // Nothing is changed in a message that is a part: it may be signed.
            if self.kept.is_none() && self.corrects && !self.tree.is_in_message() && is_content_type(line) {
                (self.kept, self.part) = (Some(Vec::new()), None);
            }
            self.store(line, body);
            self.text_end(end, body);
            return true;
        }
        if line.is_empty() {
            // A part without a header; but the line before may be a ruler, until there is a part with one.
            self.parts |= text.is_empty();
            self.end_header();
            self.text_end(end, body);
            return true;
        }
        if line.starts_with(b"--") {
            self.end_header();
            return self.line(line, end, body);
        }
        // A parameter after a semicolon needs no further evidence.
        if text.ends_with(b";\r\n") && parameters::parameter(line).is_some() {
            self.keep_odd(line, end, body);
        } else {
            self.odd = Some((line.to_vec(), end));
        }
        true
    }

    /// Ends the header of a part.
    fn end_header(&mut self) {
        if let State::Header { text, in_digest } = &mut self.state {
            let (text, in_digest) = (std::mem::take(text), *in_digest);
            let is_content =
                |field: Field<'_>| field.name.get(..8).is_some_and(|name| name.eq_ignore_ascii_case(b"Content-"));
            if fields(&text).any(is_content) {
                self.parts = true;
                self.tree.settle();
            }
            self.enter(&text, in_digest);
        }
    }

    /// Takes a line that is not a field into the header of a part, as it is done with the header of the message.
    fn keep_odd(&mut self, odd: &[u8], end: &'static [u8], body: &mut Vec<u8>) {
        let State::Header { text, .. } = &mut self.state else { return };
        let line = match split::with_colon(odd) {
            Some(line) => line,
            None if split::takes_lines(text) => [b" ", odd].concat(),
            None => [b"X-Original-Line: ", odd].concat(),
        };
        push_line(&line, text);
        self.mended.line = true;
        self.store(&line, body);
        self.text_end(end, body);
    }

    /// The header of a part does not go on after a line that is not a field: the body began with it. A line that may have
    /// been a delimiter is none.
    fn settle(&mut self, body: &mut Vec<u8>) {
        if let Some((line, end)) = self.alias.take() {
            self.write(&line, body);
            self.after_line(end, body);
        }
        while let Some((line, end)) = self.odd.take() {
            self.end_header();
            if !self.line(&line, end, body) {
                self.after_line(end, body);
            }
        }
    }

    fn enter(&mut self, header: &[u8], in_digest: bool) {
        let content = Entity::read(header, in_digest).content;
        let kind = find(header, "Content-Type").map(|field| field.value);
        if self.charset.is_none() {
            self.charset = kind.and_then(charset);
        }
        self.corrects &= !kind.and_then(media_type).is_some_and(|media| is_protected(&media));
        let is_text = content == Content::Leaf { text: true } && !is_file(header) && !self.tree.is_in_message();
        let named = kind.filter(|_| is_text && self.kept.is_some()).and_then(|kind| parameters::find(kind, "charset"));
        self.part = named.filter(|name| name.eq_ignore_ascii_case(b"utf-8")).map(|_| Scan::default());
        self.state = match self.tree.enter(&content) {
            Ok(Position::Header { in_digest, .. }) => State::Header { text: Vec::new(), in_digest },
            Ok(Position::Leaf) if content.is_binary() => State::Binary,
            Ok(Position::Leaf) if matches!(content, Content::Leaf { .. }) => State::Start { file: is_file(header) },
            _ => State::Text,
        };
    }

    fn give_up_header(&mut self) {
        if matches!(self.state, State::Header { .. }) {
            self.state = State::Text;
        }
    }

    /// Writes part of a line, after the line ending that turned out to belong to the content.
    fn write(&mut self, text: &[u8], body: &mut Vec<u8>) {
        if let Some(end) = self.end.take() {
            self.write_end(end, body);
        }
        self.text = self.text || !text.trim_ascii().is_empty();
        self.store(text, body);
    }

    fn store(&mut self, text: &[u8], body: &mut Vec<u8>) {
        self.scan.text(text);
        self.add(text, body);
        if let Some(markup) = &mut self.markup {
            markup.extend(text.iter().take(MARKUP_LIMIT.saturating_sub(markup.len())));
        }
    }

    fn write_end(&mut self, end: &'static [u8], body: &mut Vec<u8>) {
        if !self.keeps() || end.is_empty() {
            return self.text_end(end, body);
        }
        self.binary |= end != b"\r\n";
        self.scan.end();
        self.add(end, body);
    }

    fn text_end(&mut self, end: &'static [u8], body: &mut Vec<u8>) {
        self.mended.line_end(end);
        self.scan.end();
        self.add(b"\r\n", body);
    }

    /// Adds `bytes` to `body`, unless they are kept back.
    fn add(&mut self, bytes: &[u8], body: &mut Vec<u8>) {
        let Some(kept) = &mut self.kept else { return body.extend_from_slice(bytes) };
        let near = bytes.get(..PART_LIMIT.saturating_sub(kept.len())).unwrap_or(bytes);
        kept.extend_from_slice(bytes);
        let in_header = matches!(self.state, State::Header { .. });
        let judged = self.part.as_mut().map(|part| {
            if bytes == b"\r\n" {
                part.end()
            } else {
                part.text(near)
            }
            part.not_utf8 || part.characters
        });
        if near.len() < bytes.len() || judged.unwrap_or(!in_header) || self.keeps() {
            self.release(body);
        }
    }

    /// What was kept back of a part goes on, with another charset if the declared one is disproved.
    fn release(&mut self, body: &mut Vec<u8>) {
        let Some(kept) = self.kept.take() else { return };
        let part = self.part.take().filter(|part| part.disproves_utf8() && !self.keeps());
        let mut rest = &kept[..];
        if let Some(field) = fields(&kept).next().filter(|_| part.is_some()) {
            push_field(field.name, &with_parameter(field.value, "charset", b"windows-1252"), body);
            rest = kept.get(field.raw.len()..).unwrap_or_default();
            self.mended.charset = true;
        }
        body.extend_from_slice(rest);
    }
}

/// How the fields begin that describe a content.
const CONTENT: &[u8] = b"Content-";

/// Whether `line` begins the field Content-Type.
fn is_content_type(line: &[u8]) -> bool {
    fields(line).next().is_some_and(|field| field.is("Content-Type"))
}

/// Whether `line`, or the start of a line, may begin with [`CONTENT`].
fn may_describe(line: &[u8]) -> bool {
    line.iter().zip(CONTENT).all(|(byte, known)| byte.eq_ignore_ascii_case(known))
}

/// The charset that `markup` names: in a meta element of HTML, or in the declaration of XML.
fn named_inside(markup: &[u8]) -> Option<Vec<u8>> {
    let text = markup.to_ascii_lowercase();
    let after = |name: &[u8]| text.get(memchr::memmem::find(&text, name)? + name.len()..);
    let value = after(b"charset=").or_else(|| after(b"encoding="))?;
    let value = value.strip_prefix(b"\"").or_else(|| value.strip_prefix(b"'")).unwrap_or(value);
    let length =
        value.iter().position(|byte| matches!(byte, b'"' | b'\'' | b'>' | b';') || byte.is_ascii_whitespace())?;
    charset(&[b"x; charset=", value.get(..length)?].concat())
}

/// Examines a body. Needs a few bytes of memory.
#[derive(Debug, Default)]
pub struct Scan {
    line: u64,
    /// Whether a line is over [`LINE_LIMIT`].
    pub long: bool,
    /// Whether there are bytes over 127.
    pub eight_bit: bool,
    not_utf8: bool,
    /// Whether a character of UTF-8 came before what is none.
    characters: bool,
    /// The beginning of a character that was split between chunks.
    held: Vec<u8>,
}

impl Scan {
    /// Examines part of a line.
    pub fn text(&mut self, text: &[u8]) {
        self.line = self.line.saturating_add(text.len() as u64);
        self.long |= self.line > LINE_LIMIT as u64;
        if self.held.is_empty() && text.is_ascii() {
            return;
        }
        self.eight_bit |= !text.is_ascii();
        self.utf8(text);
    }

    /// Examines the end of a line. No character extends across it.
    pub fn end(&mut self) {
        self.line = 0;
        self.not_utf8 |= !self.held.is_empty();
        self.held.clear();
    }

    /// Whether the text is neither ASCII nor UTF-8.
    pub fn is_other(&self) -> bool {
        self.eight_bit && self.not_utf8
    }

    /// Whether the text is not UTF-8 at all: not even cut off.
    pub fn disproves_utf8(&self) -> bool {
        self.is_other() && !self.characters
    }

    /// The charset of the text, if the text itself does not declare one.
    pub fn charset(&self) -> &'static str {
        match (self.eight_bit, self.not_utf8) {
            (false, _) => "us-ascii",
            (true, false) => "utf-8",
            (true, true) => "windows-1252",
        }
    }

    fn utf8(&mut self, text: &[u8]) {
        let mut rest = text;
        while let (false, false, Some((first, tail))) = (self.not_utf8, self.held.is_empty(), rest.split_first()) {
            self.held.push(*first);
            rest = tail;
            match std::str::from_utf8(&self.held) {
                Ok(_) => {
                    self.characters |= self.held.len() > 1;
                    self.held.clear();
                }
                // At most four bytes are ever held: with four it is either a character or not.
                Err(error) => self.not_utf8 = error.error_len().is_some(),
            }
        }
        if self.not_utf8 {
            self.held.clear();
            return;
        }
        let valid = std::str::from_utf8(rest).map_or_else(|error| error.valid_up_to(), str::len);
        self.characters |= rest.iter().take(valid).any(|byte| !byte.is_ascii());
        if let Err(error) = std::str::from_utf8(rest) {
            self.not_utf8 = error.error_len().is_some();
            if !self.not_utf8 {
                self.held.extend(rest.iter().skip(error.valid_up_to()));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn scan(chunks: &[&[u8]]) -> Scan {
        let mut scan = Scan::default();
        chunks.iter().for_each(|chunk| scan.text(chunk));
        scan.end();
        scan
    }

    #[test]
    fn lengths() {
        assert!(!scan(&[&[b'a'; 500], &[b'a'; 498]]).long);
        assert!(scan(&[&[b'a'; 500], &[b'a'; 499]]).long);
        let mut two = scan(&[&[b'a'; 998]]);
        two.text(b"a");
        assert!(!two.long);
    }

    proptest! {
        #[test]
        fn charset_does_not_depend_on_cuts(
            text in prop_oneof!["[aü日\u{1f600}]{0,12}".prop_map(String::into_bytes), proptest::collection::vec(any::<u8>(), 0..6)],
            cuts in proptest::collection::vec(0..48usize, 3),
        ) {
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(text.len())).collect();
            cuts.sort_unstable();
            let parts = [&text[..cuts[0]], &text[cuts[0]..cuts[1]], &text[cuts[1]..cuts[2]], &text[cuts[2]..]];
            let expected = if text.is_ascii() {
                "us-ascii"
            } else if std::str::from_utf8(&text).is_ok() {
                "utf-8"
            } else {
                "windows-1252"
            };
            prop_assert_eq!(scan(&parts).charset(), expected);
            prop_assert_eq!(scan(&parts).disproves_utf8(), scan(&[&text]).disproves_utf8());
        }
    }
}
