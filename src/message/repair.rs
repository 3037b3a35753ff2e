// SPDX-License-Identifier: Apache-2.0
//! Repairs what a device sends, as it is received.
//!
//! The text passes through these stages: `lines` finds the line endings, `split` finds where the header ends, `walk`
//! converts the line endings of text to CRLF and examines the body on its way to the spool. The header stays in memory
//! until the body has been seen; then each step of [`Repair::finish`] corrects one thing. What is already correct is
//! not touched.
//!
//! NUL bytes are removed from text. They come from text buffers that are sent with their padding, have no meaning
//! there, and no transfer encoding except `binary` may contain them (RFC 2045 section 2.7). In parts that are not text
//! they are content, as is every bare CR or LF; `walk` distinguishes them, and they are sent encoded.

mod addresses;
mod draft;
mod lines;
mod mime;
mod once;
mod split;
mod walk;

use std::fmt;

use super::encoded::Charset;
use super::header::push_line;
use super::{BodyForm, Encode, Facts, date, received};
use draft::HeaderDraft;
use lines::{Lines, Piece};
use split::LineKind;
use walk::{Mended, Walk};

/// Maximum size of a header that is accepted, in bytes.
pub const HEADER_LIMIT: usize = 64 << 10;
/// Maximum number of fields of a header that is accepted.
pub const FIELD_LIMIT: usize = 2000;
/// Maximum number of Received fields before a mail loop is assumed (RFC 5321 section 6.3 asks for a large number).
const HOP_LIMIT: usize = 25;
/// How many of them may be our own: there can be reasons for a message to pass through this gateway more than once.
const OWN_HOP_LIMIT: usize = 3;
/// Maximum number of lines before the header that are skipped: blank ones, and those of an mbox file.
const LEADING_LINES: usize = 256;
/// Lines of lookahead to find out whether the header continues after a line that is not a field.
const LOOK_AHEAD: usize = 24;
/// How much [evidence](split::evidence) it takes for the header to continue: one field that does not occur in text, or
/// two that might.
const EVIDENCE: usize = 2;
/// How much it takes at the start of a message.
const TOP_EVIDENCE: usize = 3;

/// A message that is ready to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Repaired {
    /// The header, up to and including its last CRLF; without the blank line that separates it from the body.
    pub header: Vec<u8>,
    /// What is known about the body.
    pub form: BodyForm,
    /// The repairs that were made, as text for the log: each of [`notes::ALL`] at most once. Empty for a correct
    /// message.
    pub repairs: Vec<&'static str>,
    /// Where in `header` our own dates begin, [`date::LENGTH`] bytes each. They can be corrected if the clock turns out
    /// to have been wrong.
    pub dates: Vec<u32>,
}

/// Why a message is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MessageRefusal {
    /// A mail loop.
    Loop {
        /// Its number of Received fields.
        hops: usize,
    },
    /// Its header is over [`HEADER_LIMIT`] or [`FIELD_LIMIT`].
    HeaderTooLarge,
}

impl fmt::Display for MessageRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Loop { hops } => {
                write!(f, "mail loop detected: {hops} hops; check for forwarding that leads back to this gateway")
            }
            Self::HeaderTooLarge => write!(
                f,
                "the message header exceeds {} KiB or {FIELD_LIMIT} fields; send long text below the blank line",
                HEADER_LIMIT >> 10
            ),
        }
    }
}

impl std::error::Error for MessageRefusal {}

/// One message that is being received. [`push`](Self::push) its text, then [`finish`](Self::finish).
///
/// Memory: at most [`HEADER_LIMIT`] for the header and as much for one of its lines, whatever the message's size.
#[derive(Debug, Default)]
pub struct Repair {
    lines: Lines,
    place: HeaderPlace,
    /// Lines before the header that may have to be removed: blank ones, and `From ` lines of an mbox file.
    lead: Vec<u8>,
    lead_lines: usize,
    /// The lines of the header so far.
    header: Vec<u8>,
    /// A line that is not a field, and what follows it, while it is undecided whether the header continues there.
    doubt: Vec<u8>,
    doubt_lines: usize,
    /// How much the fields in `doubt` indicate a header.
    evidence: usize,
    /// Whether `doubt` ends with a field, and whether that one indicates a header.
    doubt_field: Option<bool>,
    /// Whether more than one line at the start of the message is not a field.
    many_lines: bool,
    /// The current line of the header.
    line: Vec<u8>,
    walk: Walk,
    /// Repairs in the lines of the header.
    mended: Mended,
    notes: Vec<&'static str>,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum HeaderPlace {
    #[default]
    Header,
    Body,
    /// The header is too large: the rest is read and discarded.
    TooLarge,
}

impl Repair {
    /// Starts a message.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next bytes of the message, dots unstuffed, line endings as received, in chunks of any size. What
    /// belongs to the body is added to `body`: at most twice the length of `bytes`, and at times what was held back
    /// before.
    pub fn push(&mut self, bytes: &[u8], body: &mut Vec<u8>) {
        let mut lines = self.lines;
        lines.push(bytes, |piece| {
            self.piece(piece, body);
            self.place == HeaderPlace::Body && self.walk.keeps()
        });
        self.lines = lines;
    }

    /// Ends the message: adds the rest of the body to `body` and returns the repaired header.
    ///
    /// # Errors
    /// If a mail loop is detected, or the header is too large.
    pub fn finish(mut self, facts: &Facts<'_>, body: &mut Vec<u8>) -> Result<Repaired, MessageRefusal> {
        let mut lines = self.lines;
        lines.finish(|piece| {
            self.piece(piece, body);
            false
        });
        let text =
            || !self.doubt.is_empty() || self.header.is_empty() || split::trailing(&self.header) < self.header.len();
        if self.place == HeaderPlace::Header && text() {
            self.begin_body(body);
        }
        self.text_from_header(body);
        if self.place == HeaderPlace::TooLarge {
            return Err(MessageRefusal::HeaderTooLarge);
        }
        self.walk.finish(body);
        if self.walk.mended.line {
            self.note(notes::LINE_IN_HEADER);
        }
        let (hops, ours) = received::hops(&self.header, facts.hostname);
        if hops > HOP_LIMIT || ours > OWN_HOP_LIMIT {
            return Err(MessageRefusal::Loop { hops });
        }
        let mut draft = HeaderDraft::read(&self.header, self.notes).ok_or(MessageRefusal::HeaderTooLarge)?;
        draft.read_text(self.walk.charset.as_deref().and_then(Charset::find));
        let had_bcc = draft.tidy();
        draft.content_types();
        once::resolve(&mut draft, self.walk.boundary().ok());
        addresses::repair(&mut draft, facts, had_bcc);
        once::date_and_id(&mut draft, facts);
        let form = mime::fit(&mut draft, &self.walk);
        draft.seven_bits(facts.envelope.smtputf8);
        draft.short_lines();
        if self.walk.mended.delimiter {
            draft.note(notes::DELIMITERS);
        }
        if self.walk.mended.charset {
            draft.note(notes::CHARSET);
        }
        let (header, body) = (self.mended, self.walk.mended);
        let in_lines = [
            (header.ends || body.ends, notes::LINE_ENDS),
            (header.last || body.last, notes::LAST_LINE_END),
            (header.nul || body.nul, notes::NUL),
        ];
        let in_lines = in_lines.into_iter().filter_map(|(happened, note)| happened.then_some(note));
        let mut repairs: Vec<_> = in_lines.chain(draft.notes.iter().copied()).collect();
        let mut header = received::received(facts).into_bytes();
        let own = header.len();
        let mut dates = vec![own.saturating_sub(date::LENGTH + 2)];
        dates.extend(draft.write(&mut header));
        let body_changed = body.nul || body.line || form.encode != Encode::Verbatim;
        if mime::breaks_signature(&self.header, header.get(own..).unwrap_or_default(), body_changed) {
            repairs.push(notes::SIGNATURE);
        }
        let dates = dates.into_iter().filter_map(|at| u32::try_from(at).ok()).collect();
        Ok(Repaired { header, form, repairs, dates })
    }

    fn piece(&mut self, piece: Piece<'_>, body: &mut Vec<u8>) {
        match (self.place, piece) {
            (HeaderPlace::Header, Piece::Text(text)) => self.header_text(text, body),
            (HeaderPlace::Header, Piece::Nul) => self.mended.nul = true,
            (HeaderPlace::Header, Piece::End(end)) => {
                self.mended.line_end(end);
                self.header_line(body);
            }
            (HeaderPlace::Body, piece) => self.walk.piece(piece, body),
            (HeaderPlace::TooLarge, _) => {}
        }
    }

    fn header_text(&mut self, text: &[u8], body: &mut Vec<u8>) {
        let used = self.lead.len() + self.header.len() + self.doubt.len() + self.line.len();
        let Some((head, tail)) = text.split_at_checked(HEADER_LIMIT.saturating_sub(used)) else {
            self.line.extend_from_slice(text);
            return;
        };
        self.line.extend_from_slice(head);
        if tail.is_empty() {
            return;
        }
        // Full. Unknown fields that make up half the header are text without its blank line. What has been read
        // decides, and that is the same however the message was split into chunks.
        let unknown = self.header.len() - split::trailing(&self.header).min(self.header.len());
        let kind = split::kind(&self.line);
        let goes_on = match kind {
            LineKind::Continuation => unknown > 0,
            LineKind::Field => !split::is_known_field(&self.line),
            LineKind::Blank | LineKind::Other => true,
        };
        let no_field = kind == LineKind::Other && self.line.len() > split::NAME_LIMIT;
        if !self.doubt.is_empty() || no_field || goes_on && unknown + self.line.len() >= HEADER_LIMIT / 2 {
            self.begin_body(body);
            let line = std::mem::take(&mut self.line);
            self.piece(Piece::Text(&line), body);
            self.piece(Piece::Text(tail), body);
        } else {
            self.place = HeaderPlace::TooLarge;
            self.header = Vec::new();
            self.line = Vec::new();
        }
    }

    fn header_line(&mut self, body: &mut Vec<u8>) {
        let line = std::mem::take(&mut self.line);
        let in_header = !self.header.is_empty();
        let line = match line.strip_prefix(b"\xef\xbb\xbf") {
            // A text editor's byte order mark.
            Some(rest) if !in_header && split::is_known_field(rest) => {
                self.note(notes::LEADING_LINES);
                rest
            }
            _ => &line,
        };
        let with_colon = split::with_colon(line);
        if with_colon.is_some() {
            self.note(notes::LINE_IN_HEADER);
        }
        let line = with_colon.as_deref().unwrap_or(line);
        let kind = split::kind(line);
        if !self.doubt.is_empty() {
            self.look_ahead(line, kind, body);
            return;
        }
        let blank = kind == LineKind::Blank || !in_header && line.trim_ascii().is_empty();
        match kind {
            LineKind::Field | LineKind::Other if split::is_wrapped_parameter(line, &self.header) => {
                self.note(notes::LINE_IN_HEADER);
                self.keep(&[b" ", line].concat());
            }
            LineKind::Blank if in_header => self.end_header(body),
            // Some devices end the header with a line of spaces, and text may look like fields.
            LineKind::Field if split::blank_last_line(&self.header).is_some() && !split::is_known_field(line) => {
                self.text_begins(line, body);
            }
            _ if blank && self.lead_lines < LEADING_LINES => self.lead(line),
            LineKind::Field if in_header || self.lead.is_empty() => self.keep(line),
            LineKind::Continuation if in_header => self.keep(line),
            LineKind::Field if split::is_known_field(line) => {
                self.note(notes::LEADING_LINES);
                self.lead = Vec::new();
                self.keep(line);
            }
            LineKind::Other if !in_header && split::is_mailbox_line(line) && self.lead_lines < LEADING_LINES => {
                self.lead(line);
            }
            LineKind::Other | LineKind::Field | LineKind::Continuation if !line.starts_with(b"--") => {
                self.look_ahead(line, kind, body)
            }
            _ => self.text_begins(line, body),
        }
    }

    /// Takes a line, starting with the first that is not a field. The header continues if known mail fields follow: a
    /// single one that text might contain is enough only if the blank line comes after it. At the start of a message,
    /// where text is just as likely, it takes more; and after several lines that are not fields, the blank line too.
    fn look_ahead(&mut self, line: &[u8], kind: LineKind, body: &mut Vec<u8>) {
        let top = self.header.is_empty();
        let evidence = if kind == LineKind::Field { split::evidence(line, &self.header) } else { 0 };
        self.evidence += evidence;
        self.many_lines |= kind == LineKind::Other && top && self.doubt_lines > 0;
        let enough = self.evidence >= if top { TOP_EVIDENCE } else { EVIDENCE };
        if evidence > 0 && enough && !self.many_lines {
            self.header_goes_on();
            self.keep(line);
            return;
        }
        let ends_well = match self.doubt_field {
            Some(evident) => enough || evident && !self.many_lines,
            None => false,
        };
        if kind == LineKind::Blank && ends_well {
            self.header_goes_on();
            self.end_header(body);
            return;
        }
        if kind == LineKind::Blank || line.starts_with(b"--") || self.doubt_lines == LOOK_AHEAD {
            self.text_begins(line, body);
            return;
        }
        self.doubt_field = match kind {
            LineKind::Field => Some(evidence > 0),
            LineKind::Continuation => self.doubt_field,
            LineKind::Other | LineKind::Blank => None,
        };
        push_line(line, &mut self.doubt);
        self.doubt_lines += 1;
    }

    /// What was in doubt is header: a line that is not a field continues the one before, or becomes a field of its own.
    fn header_goes_on(&mut self) {
        self.note(if self.lead.is_empty() { notes::LINE_IN_HEADER } else { notes::LEADING_LINES });
        self.lead = Vec::new();
        (self.doubt_lines, self.evidence, self.doubt_field, self.many_lines) = (0, 0, None, false);
        for line in std::mem::take(&mut self.doubt).split_inclusive(|byte| *byte == b'\n') {
            let line = line.strip_suffix(b"\r\n").unwrap_or(line);
            match split::kind(line) {
                LineKind::Other if split::is_mailbox_line(line) => self.note(notes::LEADING_LINES),
                LineKind::Other if split::takes_lines(&self.header) => self.keep(&[b" ", line].concat()),
                LineKind::Other | LineKind::Blank => self.keep(&[b"X-Original-Line: ", line].concat()),
                // There is no field before it that it could continue.
                LineKind::Continuation if self.header.is_empty() && split::is_known_field(line.trim_ascii_start()) => {
                    self.keep(line.trim_ascii_start());
                }
                LineKind::Continuation if self.header.is_empty() => self.keep(&[b"X-Original-Line:", line].concat()),
                LineKind::Continuation | LineKind::Field => self.keep(line),
            }
        }
    }

    fn text_begins(&mut self, line: &[u8], body: &mut Vec<u8>) {
        self.begin_body(body);
        self.piece(Piece::Text(line), body);
        self.piece(Piece::End(b"\r\n"), body);
    }

    fn keep(&mut self, line: &[u8]) {
        push_line(line, &mut self.header);
    }

    fn lead(&mut self, line: &[u8]) {
        push_line(line, &mut self.lead);
        self.lead_lines += 1;
    }

    /// The blank line after the header was found.
    fn end_header(&mut self, body: &mut Vec<u8>) {
        if split::has_known_field(&self.header) {
            self.place = HeaderPlace::Body;
            self.walk = self.walk();
        } else {
            // Not a single known mail field: text that looks like fields. As a header it would never be seen.
            self.begin_body(body);
            self.piece(Piece::End(b"\r\n"), body);
        }
    }

    /// The blank line after the header is missing: what was read so far is header, text, or the one followed by the
    /// other.
    fn begin_body(&mut self, body: &mut Vec<u8>) {
        self.place = HeaderPlace::Body;
        let mut text = self.header.split_off(split::trailing(&self.header).min(self.header.len()));
        text.append(&mut self.doubt);
        while let Some(blank) = split::blank_last_line(&self.header) {
            self.header.truncate(blank);
        }
        self.walk = self.walk();
        let lead = std::mem::take(&mut self.lead);
        let (note, lead) = match (self.header.is_empty(), lead.strip_prefix(b"\r\n")) {
            (false, _) => (Some(notes::SEPARATOR), &[][..]),
            // An empty header has its blank line (RFC 5322 section 3.5).
            (true, Some(rest)) => (Some(notes::NO_HEADER), rest),
            (true, None) => (Some(notes::NO_HEADER), lead.as_slice()),
        };
        note.into_iter().for_each(|note| self.note(note));
        for line in lead.split_inclusive(|byte| *byte == b'\n').chain(text.split_inclusive(|byte| *byte == b'\n')) {
            self.piece(Piece::Text(line.strip_suffix(b"\r\n").unwrap_or(line)), body);
            self.piece(Piece::End(b"\r\n"), body);
        }
    }

    /// A message whose body is empty, and whose header ends with unknown fields: these are its text, and the blank line
    /// after them belongs to it. In the header nobody would see them.
    fn text_from_header(&mut self, body: &mut Vec<u8>) {
        if self.place != HeaderPlace::Body || self.walk.has_text() || self.walk.boundary() != Err(false) {
            return;
        }
        let at = split::trailing(&self.header);
        if at >= self.header.len() || split::is_signed(&self.header) {
            return;
        }
        self.note(notes::SEPARATOR);
        for line in self.header.split_off(at).split_inclusive(|byte| *byte == b'\n') {
            self.piece(Piece::Text(line.strip_suffix(b"\r\n").unwrap_or(line)), body);
            self.piece(Piece::End(b"\r\n"), body);
        }
    }

    /// The walk through the body. It reads the header as it will be, with the blanks and control characters in it mended:
    /// otherwise a boundary or charset behind one would be found only when the message comes a second time.
    fn walk(&self) -> Walk {
        let (mut header, mut signed) = (Vec::new(), false);
        if let Some(mut draft) = HeaderDraft::read(&self.header, Vec::new()) {
            // Only a multipart has something that a signature protects from correction.
            let has_signature = draft.find("Content-Type").is_some() && mime::has_signature(&draft);
            draft.entries.retain(|entry| entry.is("Content-Type Content-Transfer-Encoding Content-Disposition"));
            draft.read_text(None);
            draft.tidy();
            signed = has_signature || mime::media(&draft).is_some_and(|media| mime::is_protected(&media));
            draft.write(&mut header);
        }
        Walk::new(&header, signed)
    }

    fn note(&mut self, note: &'static str) {
        notes::add(&mut self.notes, note);
    }
}

/// The names of the repairs in the log. The golden tests have a case for each.
pub mod notes {
    macro_rules! notes {
        ($($name:ident = $text:literal;)*) => {
            $(#[doc = $text] pub const $name: &str = $text;)*
            /// All of them.
            pub const ALL: &[&str] = &[$($text),*];
        };
    }

    notes! {
        LINE_ENDS = "line endings converted to CRLF";
        LAST_LINE_END = "missing final line ending added";
        NUL = "NUL bytes removed";
        CONTROLS = "control characters in the header replaced by spaces";
        LEADING_LINES = "lines before the header removed";
        LINE_IN_HEADER = "line without a colon in the header kept";
        SEPARATOR = "blank line after the header added";
        NO_HEADER = "header added to text without a header";
        NAME_BLANKS = "space before a colon removed";
        BLANK_FOLDING = "blank line within a field removed";
        PRIVATE = "Bcc and Return-Path removed";
        DOUBLED = "duplicate field removed or renamed";
        MERGED = "duplicate recipient fields merged";
        EMPTY = "empty field removed";
        ADDRESSES = "address list corrected";
        ADDRESSES_UNUSABLE = "address field without an address renamed";
        FROM_ADDED = "From added";
        FROM_REPLACED = "From without an address replaced";
        SENDER_ADDED = "Sender added";
        TO_ADDED = "To added";
        DATE_ADDED = "Date added";
        DATE_CORRECTED = "Date corrected";
        DATE_REPLACED = "invalid Date replaced";
        DATE_UNSET = "Date of a clock that is not set replaced";
        MESSAGE_ID_ADDED = "Message-ID added";
        MESSAGE_ID_REPLACED = "invalid Message-ID replaced";
        CONTENT_FIELD = "invalid content field renamed";
        CONTENT_TYPE = "Content-Type corrected";
        DELIMITERS = "boundary lines in the body corrected";
        CHARSET = "charset of the text set";
        TRANSFER_ENCODING = "Content-Transfer-Encoding corrected";
        MIME_VERSION = "MIME-Version added";
        LONG_TEXT_LINES = "text with lines over 998 bytes will be sent as quoted-printable";
        LONG_BODY_LINES = "parts with lines over 998 bytes will be encoded";
        BINARY = "binary parts will be sent as base64";
        EIGHT_BIT_HEADER = "8-bit text in the header encoded";
        LONG_HEADER_LINES = "long header lines folded";
        SIGNATURE = "DKIM signature no longer valid";
    }

    /// Adds `note` to `all`, once.
    pub(super) fn add(all: &mut Vec<&'static str>, note: &'static str) {
        if !all.contains(&note) {
            all.push(note);
        }
    }
}

#[cfg(test)]
mod tests;
