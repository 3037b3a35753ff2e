//! From 8 bits to 7, for servers without 8BITMIME (RFC 6152 section 3), as a stream.
//!
//! Walks through a message part by part (RFC 2046 section 5.1). A part that is not 7-bit is encoded and its header says
//! so; parts that are encoded already stay as they are, apart from stray 8-bit bytes.

use super::CannotConvert;
use super::coder::{Coder, Undecided};
use super::entity::{self, Content, relabelled};
use super::lines::crlf;
use super::quoted_printable::Patch;
use crate::message::{encoded, header};

/// Multiparts and messages within each other.
const NESTING: usize = 8;
/// Bytes of the header of a part.
const HEADER_LIMIT: usize = 16 << 10;
/// Bytes of a boundary: nearly three times what RFC 2046 section 5.1.1 allows.
const BOUNDARY_LIMIT: usize = 200;
/// Bytes of the longest line that is looked at whole, since it may be a boundary with blanks behind it.
const DELIMITER_LIMIT: usize = 1024;

/// Rewrites one body.
#[derive(Debug)]
pub struct Downgrade {
    /// The multiparts that are open, outermost first.
    levels: Vec<Level>,
    /// Multiparts and messages that are open.
    nesting: usize,
    place: Place,
    /// The start of a line that has to be seen whole.
    held: Vec<u8>,
    /// Whether a line was begun that is no boundary, and whose end has not come.
    mid_line: bool,
    /// A CRLF that was not written yet: it belongs to the boundary if one follows.
    line_end: bool,
}

#[derive(Debug)]
struct Level {
    boundary: Vec<u8>,
    digest: bool,
    nesting: usize,
    /// Whether a part has begun.
    seen: bool,
    /// Whether 8-bit bytes were replaced before that.
    lost: bool,
}

#[derive(Debug)]
enum Place {
    /// In the header of a part, or of a message in a part.
    Header { text: Vec<u8>, in_digest: bool, whole_message: bool },
    /// In a body, or in the text around parts.
    Body(Coder),
}

impl Downgrade {
    /// For the 8-bit body that belongs to `header`. Gives the header that fits the result as well.
    ///
    /// # Errors
    /// When the header says that the body is something that can't be encoded.
    pub fn new(header: &[u8]) -> Result<(Vec<u8>, Self), CannotConvert> {
        let place = Place::Body(Coder::Replace);
        let mut this =
            Self { levels: Vec::new(), nesting: 0, place, held: Vec::new(), mid_line: false, line_end: false };
        let header = this.enter(header, false, true, true)?;
        Ok((header.unwrap_or_default(), this))
    }

    /// Appends the 7-bit form of `body` to `out`, up to what depends on what follows.
    ///
    /// # Errors
    /// When a part can't be encoded, or goes beyond the bounds.
    pub fn push(&mut self, body: &[u8], out: &mut Vec<u8>) -> Result<(), CannotConvert> {
        self.held.extend_from_slice(body);
        let mut held = std::mem::take(&mut self.held);
        let mut rest = &held[..];
        loop {
            let in_header = matches!(self.place, Place::Header { .. });
            let limit = if in_header { HEADER_LIMIT } else { DELIMITER_LIMIT };
            if let Some((line, tail)) = crlf(rest).and_then(|at| rest.split_at_checked(at)) {
                rest = tail.get(2..).unwrap_or_default();
                self.line(line, out)?;
            } else if self.mid_line || rest.len() > limit + 1 {
                if in_header {
                    return Err(long_header());
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

    /// The body is over: appends what is left.
    ///
    /// # Errors
    /// As with `push`.
    pub fn finish(&mut self, out: &mut Vec<u8>) -> Result<(), CannotConvert> {
        let held = std::mem::take(&mut self.held);
        if !held.is_empty() {
            self.line(&held, out)?;
            // It had no end.
            self.line_end = false;
        }
        if self.line_end {
            self.body(b"", out)?;
        }
        match std::mem::replace(&mut self.place, Place::Body(Coder::Replace)) {
            Place::Header { text, .. } => out.extend_from_slice(&ascii(&text)?),
            Place::Body(mut coder) => {
                coder.finish(out);
                if matches!(coder, Coder::Base64(_)) {
                    out.extend_from_slice(b"\r\n");
                }
            }
        }
        self.close(0)
    }

    /// Takes a line, or the rest of one, without its CRLF.
    fn line(&mut self, line: &[u8], out: &mut Vec<u8>) -> Result<(), CannotConvert> {
        if !self.mid_line && line.len() <= DELIMITER_LIMIT && self.delimiter(line, out)? {
            return Ok(());
        }
        let Place::Header { text, in_digest, whole_message } = &mut self.place else {
            self.body(line, out)?;
            self.mid_line = false;
            self.line_end = true;
            return Ok(());
        };
        if line.len() > HEADER_LIMIT {
            return Err(long_header());
        }
        if is_header_line(line, text.is_empty()) {
            text.extend_from_slice(line);
            text.extend_from_slice(b"\r\n");
            return if text.len() > HEADER_LIMIT { Err(long_header()) } else { Ok(()) };
        }
        let (text, in_digest, whole_message) = (std::mem::take(text), *in_digest, *whole_message);
        if let Some(header) = self.enter(&text, in_digest, whole_message, false)? {
            out.extend_from_slice(&header);
            out.extend_from_slice(b"\r\n");
        }
        // A line that is no field ends the header as the blank line does, which was forgotten.
        if line.is_empty() { Ok(()) } else { self.line(line, out) }
    }

    /// Gives `bytes` to the body, after the CRLF that turned out to be its own.
    fn body(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<(), CannotConvert> {
        let Place::Body(coder) = &mut self.place else { return Ok(()) };
        if let Some(level) = self.levels.last_mut().filter(|level| !level.seen) {
            level.lost |= !bytes.is_ascii();
        }
        if std::mem::take(&mut self.line_end) {
            coder.push(b"\r\n", out)?;
        }
        coder.push(bytes, out)
    }

    /// Begins with the body that belongs to `header`. Gives the header as it must be now; nothing if that depends on
    /// the body. `known` is whether the body is known to be 8-bit.
    fn enter(
        &mut self,
        header: &[u8],
        in_digest: bool,
        whole_message: bool,
        known: bool,
    ) -> Result<Option<Vec<u8>>, CannotConvert> {
        let entity = entity::read(header, in_digest);
        let mut header = ascii(header)?;
        if entity::read(&header, in_digest) != entity {
            return Err(CannotConvert::seven_bit("the Content-Type of a part has 8-bit bytes where it must not"));
        }
        if matches!(entity.content, Content::Multipart { .. } | Content::Message) {
            self.nesting += 1;
            if self.nesting > NESTING {
                return Err(CannotConvert::seven_bit(&format!("its parts are nested more than {NESTING} deep")));
            }
            if !entity.called_7bit {
                header = relabelled(&header, "7bit", whole_message);
            }
        }
        self.place = match entity.content {
            Content::Multipart { boundary, .. } if boundary.len() > BOUNDARY_LIMIT => {
                return Err(CannotConvert::seven_bit("a boundary between its parts is too long"));
            }
            Content::Multipart { boundary, digest } => {
                self.levels.push(Level { boundary, digest, nesting: self.nesting, seen: false, lost: false });
                Place::Body(Coder::Replace)
            }
            Content::Message => Place::Header { text: Vec::new(), in_digest: false, whole_message: true },
            Content::Leaf { text } if known || !entity.called_7bit => {
                let (coder, name) = Coder::encoding(text);
                header = relabelled(&header, name, whole_message);
                Place::Body(coder)
            }
            Content::Leaf { text } => {
                let held = Undecided { header: std::mem::take(&mut header), text, whole_message, body: Vec::new() };
                self.place = Place::Body(Coder::Undecided(Box::new(held)));
                return Ok(None);
            }
            Content::QuotedPrintable => Place::Body(Coder::Patch(Patch::default())),
            Content::Base64 => Place::Body(Coder::Replace),
            Content::Opaque(what) => Place::Body(Coder::Refuse(format!("a part is {what} with 8-bit bytes"))),
        };
        Ok(Some(header))
    }

    /// Whether `line` is a boundary (RFC 2046 section 5.1.1). If so, it ends what it ends and is written.
    fn delimiter(&mut self, line: &[u8], out: &mut Vec<u8>) -> Result<bool, CannotConvert> {
        let is_blank = |rest: &[u8]| rest.iter().all(|byte| matches!(byte, b' ' | b'\t'));
        let found = line.strip_prefix(b"--").and_then(|line| {
            self.levels.iter().enumerate().rev().find_map(|(at, level)| {
                let tail = line.strip_prefix(&level.boundary[..])?;
                let closing = tail.strip_prefix(b"--").is_some_and(is_blank);
                (closing || is_blank(tail)).then_some((at, closing, level.digest, level.nesting))
            })
        });
        let Some((at, closing, in_digest, nesting)) = found else { return Ok(false) };
        match &mut self.place {
            Place::Header { text, .. } => out.extend_from_slice(&ascii(text)?),
            Place::Body(coder) => coder.finish(out),
        }
        if std::mem::take(&mut self.line_end) {
            out.extend_from_slice(b"\r\n");
        }
        out.extend_from_slice(line);
        out.extend_from_slice(b"\r\n");
        if let Some(level) = self.levels.get_mut(at) {
            level.seen |= !closing;
        }
        self.close(at + usize::from(!closing))?;
        if closing {
            self.nesting = nesting - 1;
            self.place = Place::Body(Coder::Replace);
        } else {
            self.nesting = nesting;
            self.place = Place::Header { text: Vec::new(), in_digest, whole_message: false };
        }
        Ok(true)
    }

    /// Ends the multiparts within the outermost `count`. What stands before the first part is not worth a refusal; but
    /// if no part ever came, it was the message itself.
    fn close(&mut self, count: usize) -> Result<(), CannotConvert> {
        if self.levels.iter().skip(count).any(|level| level.lost && !level.seen) {
            return Err(CannotConvert::seven_bit("none of its parts begins with the boundary that its header names"));
        }
        self.levels.truncate(count);
        Ok(())
    }
}

/// Whether `line` goes on with a header; `first` is whether it would begin it.
fn is_header_line(line: &[u8], first: bool) -> bool {
    match line {
        [] => false,
        [b' ' | b'\t', ..] => !first,
        _ => header::fields(line).next().is_some_and(|field| !field.name.is_empty()),
    }
}

/// `header` with its 8-bit bytes encoded.
fn ascii(header: &[u8]) -> Result<Vec<u8>, CannotConvert> {
    if header.is_ascii() {
        return Ok(header.to_vec());
    }
    let header = encoded::downgrade_header(header).map_err(|error| CannotConvert(error.to_string()))?;
    if header.is_ascii() { Ok(header) } else { Err(CannotConvert::seven_bit("the header of a part is 8-bit")) }
}

fn long_header() -> CannotConvert {
    CannotConvert::seven_bit(&format!("the header of a part is over {} KiB long", HEADER_LIMIT >> 10))
}
