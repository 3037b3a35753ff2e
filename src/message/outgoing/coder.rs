// SPDX-License-Identifier: Apache-2.0
//! Converts the bytes of one body when it is sent.

use super::CannotConvert;
use super::lines::{Base64Lines, Code, Patch, QuotedPrintable, Wrap};
use crate::message::encoded;
use crate::message::header::{LINE_LIMIT, fields, push_line};
use crate::message::parts::{Content, Entity, is_file, relabelled};
use crate::message::tokens::quoted;

/// Maximum size of a body that is held back until it is known whether it can be sent as it is, in bytes.
const UNDECIDED_LIMIT: usize = 16 << 10;

/// Takes the bytes of one body and writes them in the form that the connection supports.
#[derive(Debug)]
pub enum Coder {
    /// Text around parts or around uuencoded files, which nobody reads. Long lines are broken.
    Around {
        /// Breaks the lines.
        wrap: Wrap,
        /// What stands for a byte over 127 if only 7 bits are supported.
        instead: Option<u8>,
    },
    /// Already quoted-printable.
    Patch(Patch),
    /// Already base64.
    Code(Code),
    /// To quoted-printable.
    QuotedPrintable(QuotedPrintable),
    /// To base64.
    Base64(Base64Lines),
    /// Held back until it is known whether it can be sent as it is.
    Undecided(Box<Undecided>),
    /// Fits so far, and can no longer be encoded. Contains the reason why 8-bit bytes cannot be sent.
    Refuse(String, Wrap),
}

/// A body that may be sent as it is, and its header, which depends on that decision.
#[derive(Debug)]
pub struct Undecided {
    /// The header without the blank line.
    header: Vec<u8>,
    /// What decides how to encode it if it does not fit: bytes that are not encoded yet, an unknown encoding, or parts
    /// without a boundary.
    content: Content,
    /// Whether only 7 bits are supported.
    seven_bit: bool,
    /// Whether it is a whole message rather than a part.
    whole_message: bool,
    /// The body seen so far.
    body: Vec<u8>,
    /// Length of its last line in bytes.
    line: usize,
    odd: bool,
}

impl Undecided {
    /// Takes more of the body. Returns whether it has to be decided now.
    fn push(&mut self, bytes: &[u8]) -> bool {
        self.body.extend_from_slice(bytes);
        if bytes == b"\r\n" {
            self.line = 0;
        } else {
            self.line += bytes.len();
            self.odd |= self.line > LINE_LIMIT
                || self.seven_bit && !bytes.is_ascii()
                || memchr::memchr3(b'\r', b'\n', 0, bytes).is_some();
        }
        // A line in an unknown encoding is examined as a whole.
        let whole = self.line == 0 || matches!(self.content, Content::Leaf { .. });
        self.odd && whole || self.body.len() > UNDECIDED_LIMIT
    }

    /// Writes what was held back. Returns the coder for the rest.
    fn decide(&mut self, out: &mut Vec<u8>) -> Result<Coder, CannotConvert> {
        let (header, body) = (std::mem::take(&mut self.header), std::mem::take(&mut self.body));
        let (header, mut coder) = match &self.content {
            Content::Leaf { text } => {
                let (coder, name) = Coder::encoding(*text);
                (relabelled(&header, name, self.whole_message), coder)
            }
            Content::Encoded(name) if self.odd || is_uuencode(name) => {
                return Coder::convert(&header, &body, self.whole_message, self.seven_bit, out);
            }
            _ if self.odd => return Coder::convert(&header, &body, self.whole_message, self.seven_bit, out),
            other => {
                let what =
                    if let Content::Encoded(name) = other { name.as_str() } else { "multipart without boundary" };
                let reason = format!("a part is {what} and contains 8-bit bytes");
                // Its lines are known to fit, so they need no further look; the last one may go on.
                let mut wrap = Wrap::default();
                push_line(&header, out);
                wrap.push(&body, out);
                return Ok(Coder::Refuse(if self.seven_bit { reason } else { String::new() }, wrap));
            }
        };
        push_line(&header, out);
        coder.push(&body, out)?;
        Ok(coder)
    }
}

impl Coder {
    /// For text around parts.
    pub fn around(seven_bit: bool) -> Self {
        Self::Around { wrap: Wrap::default(), instead: seven_bit.then_some(b'?') }
    }

    /// For a body that has not started and belongs to `header`, which is written when it has been decided.
    pub fn undecided(header: Vec<u8>, content: Content, seven_bit: bool, whole_message: bool) -> Self {
        let (body, line, odd) = (Vec::new(), 0, false);
        Self::Undecided(Box::new(Undecided { header, content, seven_bit, whole_message, body, line, odd }))
    }

    /// The coder for a body that is not encoded, and the name of its encoding.
    pub fn encoding(text: bool) -> (Self, &'static str) {
        if text {
            (Self::QuotedPrintable(QuotedPrintable::default()), "quoted-printable")
        } else {
            (Self::Base64(Base64Lines::default()), "base64")
        }
    }

    /// Writes `header` and the `body` so far in a form that can be sent. The body is in an unknown encoding and may not
    /// fit as it is: uuencode with a non-ASCII file name, or yEnc, which is 8-bit by nature. Returns the coder for the
    /// rest.
    ///
    /// The name in the `begin` line of uuencode is moved to its MIME field (RFC 2183 section 2.3). The encoded data
    /// stays: it is 7-bit, so that other bytes can only be text around it. Anything else that cannot be sent is wrapped
    /// in base64 around the old encoding, which the header keeps under another name; parts without a boundary become
    /// text.
    ///
    /// # Errors
    /// If the bytes cannot be expressed in 7 bits.
    pub fn convert(
        header: &[u8],
        body: &[u8],
        whole_message: bool,
        seven_bit: bool,
        out: &mut Vec<u8>,
    ) -> Result<Self, CannotConvert> {
        let content = Entity::read(header, false).content;
        if matches!(&content, Content::Encoded(name) if is_uuencode(name)) {
            let name = begin_name(body).filter(|_| seven_bit);
            push_line(&name.map_or(header.to_vec(), |name| named(header, name)), out);
            let mut coder = Self::Around { wrap: Wrap::default(), instead: seven_bit.then_some(b'_') };
            for line in body.split_inclusive(|byte| *byte == b'\n') {
                let text = line.strip_suffix(b"\r\n").unwrap_or(line);
                coder.push(text, out)?;
                if text.len() < line.len() {
                    coder.push(b"\r\n", out)?;
                }
            }
            return Ok(coder);
        }
        let unbounded = content == Content::Unbounded;
        let aside = if unbounded { "Content-Type" } else { "Content-Transfer-Encoding" };
        let mut kept = Vec::with_capacity(header.len() + 64);
        for field in fields(header) {
            if field.is(aside) {
                kept.extend_from_slice(b"X-Original-");
            }
            kept.extend_from_slice(field.raw);
        }
        let (mut coder, name) = Self::encoding(unbounded);
        push_line(&relabelled(&kept, name, whole_message), out);
        coder.push(body, out)?;
        Ok(coder)
    }

    /// Takes `bytes` of the body: part of a line, or a CRLF.
    ///
    /// # Errors
    /// If they cannot be expressed in 7 bits.
    pub fn push(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<(), CannotConvert> {
        let encodes = matches!(self, Self::QuotedPrintable(_) | Self::Base64(_) | Self::Undecided(_));
        if !encodes && bytes != b"\r\n" && memchr::memchr3(b'\r', b'\n', 0, bytes).is_some() {
            // Only if receiving and sending side parse a header differently: no such byte may be sent.
            let is_odd = |byte: &u8| matches!(byte, b'\r' | b'\n' | 0);
            let text: Vec<u8> = bytes.iter().map(|byte| if is_odd(byte) { b' ' } else { *byte }).collect();
            return self.push(&text, out);
        }
        match self {
            Self::Around { wrap, instead: Some(instead) } if !bytes.is_ascii() => {
                let ascii: Vec<u8> = bytes.iter().map(|byte| if byte.is_ascii() { *byte } else { *instead }).collect();
                wrap.push(&ascii, out);
            }
            Self::Around { wrap, .. } => wrap.push(bytes, out),
            Self::Patch(patch) => patch.push(bytes, out),
            Self::Code(code) => code.push(bytes, out),
            Self::QuotedPrintable(coder) => coder.push(bytes, out),
            Self::Base64(coder) => coder.push(bytes, out),
            Self::Refuse(reason, _) if !reason.is_empty() && !bytes.is_ascii() => {
                return Err(CannotConvert::seven_bit(reason));
            }
            Self::Refuse(_, wrap) => wrap.push(bytes, out),
            Self::Undecided(held) => {
                if held.push(bytes) {
                    *self = held.decide(out)?;
                }
            }
        }
        Ok(())
    }

    /// Ends the body. Its last line has no CRLF unless the body itself ends with one.
    ///
    /// # Errors
    /// If what was held back cannot be expressed in 7 bits.
    pub fn finish(&mut self, out: &mut Vec<u8>) -> Result<(), CannotConvert> {
        match self {
            Self::QuotedPrintable(coder) => coder.finish(out),
            Self::Base64(coder) => coder.finish(out),
            Self::Undecided(held) if held.odd => {
                *self = held.decide(out)?;
                self.finish(out)?;
            }
            Self::Undecided(held) => {
                push_line(&held.header, out);
                out.append(&mut held.body);
            }
            Self::Around { wrap, .. } | Self::Refuse(_, wrap) => wrap.finish(out),
            Self::Patch(_) | Self::Code(_) => {}
        }
        Ok(())
    }
}

/// Whether `encoding` is uuencode under one of its names.
fn is_uuencode(encoding: &str) -> bool {
    encoding.strip_prefix("x-").unwrap_or(encoding).starts_with("uu")
}

/// The name in the first `begin` line of `body`, if it is not ASCII.
fn begin_name(body: &[u8]) -> Option<&[u8]> {
    let mut lines = body.split(|byte| *byte == b'\n').filter_map(|line| {
        let rest = line.strip_suffix(b"\r").unwrap_or(line).strip_prefix(b"begin ")?;
        let mode = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        rest.get(mode + 1..).filter(|_| mode > 0)
    });
    lines.next().filter(|name| !name.is_ascii())
}

/// `header` with `name` as the file name, if it has none yet.
fn named(header: &[u8], name: &[u8]) -> Vec<u8> {
    if is_file(header) {
        return header.to_vec();
    }
    let name = [b" x; filename=", &quoted(name)[..]].concat();
    let coded = encoded::field_value(b"Content-Disposition", &name, usize::MAX).unwrap_or_default();
    let coded = coded.strip_prefix(b" x").unwrap_or(&coded);
    let mut out = Vec::with_capacity(header.len() + coded.len());
    let mut done = false;
    for field in fields(header) {
        let raw = field.raw;
        if field.is("Content-Disposition") && !std::mem::replace(&mut done, true) {
            out.extend_from_slice(raw.trim_ascii_end());
            push_line(coded, &mut out);
        } else {
            out.extend_from_slice(raw);
        }
    }
    if !done {
        out.extend_from_slice(b"Content-Disposition: attachment");
        push_line(coded, &mut out);
    }
    out
}
