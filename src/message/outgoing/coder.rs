// SPDX-License-Identifier: Apache-2.0
//! Converts the bytes of one body when it is sent.

use super::CannotConvert;
use super::lines::{Base64Lines, Code, LONGEST, Wrap};
use super::opaque;
use super::quoted_printable::{Patch, QuotedPrintable};
use crate::message::parts::entity::relabelled;

/// Maximum size of a body that is held back until it is known whether it can be sent as it is, in bytes.
const UNDECIDED_LIMIT: usize = 16 << 10;

/// Takes the bytes of one body and writes them in the form that the connection supports.
#[derive(Debug)]
pub enum Coder {
    /// Text around parts, which nobody reads. Long lines are broken; if only 7 bits are supported, 8-bit bytes become
    /// question marks.
    Around {
        /// Breaks the lines.
        wrap: Wrap,
        /// Whether only 7 bits are supported.
        seven_bit: bool,
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

/// How an undecided body may be encoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BodyEncoding {
    /// Quoted-printable.
    Text,
    /// Base64.
    Binary,
    /// Not at all: an unknown encoding, or parts without a boundary. Contains its description.
    Opaque(String),
}

/// A body that may be sent as it is, and its header, which depends on that decision.
#[derive(Debug)]
pub struct Undecided {
    /// The header without the blank line.
    pub header: Vec<u8>,
    /// How to encode it if it does not fit.
    pub kind: BodyEncoding,
    /// Whether only 7 bits are supported.
    pub seven_bit: bool,
    /// Whether it is a whole message rather than a part.
    pub whole_message: bool,
    /// The body seen so far.
    body: Vec<u8>,
    /// Length of its last line in bytes.
    line: usize,
    odd: bool,
}

impl Undecided {
    /// A body that has not started.
    pub fn new(header: Vec<u8>, kind: BodyEncoding, seven_bit: bool, whole_message: bool) -> Self {
        Self { header, kind, seven_bit, whole_message, body: Vec::new(), line: 0, odd: false }
    }

    /// Takes more of the body. Returns whether it has to be decided now.
    fn push(&mut self, bytes: &[u8]) -> bool {
        self.body.extend_from_slice(bytes);
        if bytes == b"\r\n" {
            self.line = 0;
        } else {
            self.line += bytes.len();
            self.odd |= self.line > LONGEST
                || self.seven_bit && !bytes.is_ascii()
                || memchr::memchr3(b'\r', b'\n', 0, bytes).is_some();
        }
        // A line in an unknown encoding is examined as a whole.
        let whole = self.line == 0 || !matches!(self.kind, BodyEncoding::Opaque(_));
        self.odd && whole || self.body.len() > UNDECIDED_LIMIT
    }

    /// Writes what was held back. Returns the coder for the rest.
    fn decide(self, out: &mut Vec<u8>) -> Result<Coder, CannotConvert> {
        let this = self;
        let (header, mut coder) = match this.kind {
            BodyEncoding::Opaque(_) if this.odd => {
                let (header, body) = (&this.header, this.body);
                return opaque::convert(header, body, this.whole_message, out);
            }
            BodyEncoding::Opaque(what) => {
                let reason = format!("a part is {what} and contains 8-bit bytes");
                (this.header, Coder::Refuse(if this.seven_bit { reason } else { String::new() }, Wrap::default()))
            }
            kind => {
                let (coder, name) = Coder::encoding(kind == BodyEncoding::Text);
                (relabelled(&this.header, name, this.whole_message), coder)
            }
        };
        out.extend_from_slice(&header);
        out.extend_from_slice(b"\r\n");
        coder.push(&this.body, out)?;
        Ok(coder)
    }
}

impl Coder {
    /// For text around parts.
    pub fn around(seven_bit: bool) -> Self {
        Self::Around { wrap: Wrap::default(), seven_bit }
    }

    /// The coder for a body that is not encoded, and the name of its encoding.
    pub fn encoding(text: bool) -> (Self, &'static str) {
        if text {
            (Self::QuotedPrintable(QuotedPrintable::default()), "quoted-printable")
        } else {
            (Self::Base64(Base64Lines::default()), "base64")
        }
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
            Self::Around { wrap, seven_bit: true } if !bytes.is_ascii() => {
                let ascii: Vec<u8> = bytes.iter().map(|byte| if byte.is_ascii() { *byte } else { b'?' }).collect();
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
                if held.push(bytes)
                    && let Self::Undecided(held) = std::mem::replace(self, Self::around(false))
                {
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
                if let Self::Undecided(held) = std::mem::replace(self, Self::around(false)) {
                    *self = held.decide(out)?;
                    self.finish(out)?;
                }
            }
            Self::Undecided(held) => {
                out.append(&mut held.header);
                out.extend_from_slice(b"\r\n");
                out.append(&mut held.body);
            }
            Self::Around { wrap, .. } | Self::Refuse(_, wrap) => wrap.finish(out),
            Self::Patch(_) | Self::Code(_) => {}
        }
        Ok(())
    }
}
