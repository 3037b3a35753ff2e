//! What happens to the bytes of one body on its way through 7 bits.

use super::CannotConvert;
use super::entity::relabelled;
use super::lines::Base64Lines;
use super::quoted_printable::{Patch, QuotedPrintable};

/// Bytes of a body that may be held back until it is known whether it is 7-bit.
const UNDECIDED_LIMIT: usize = 16 << 10;

/// Takes the bytes of one body and writes them in 7 bits.
#[derive(Debug)]
pub enum Coder {
    /// Nobody reads this: text around parts, or bytes that base64 ignores. What is 8-bit becomes a question mark.
    Replace,
    /// Quoted-printable already.
    Patch(Patch),
    /// To quoted-printable.
    QuotedPrintable(QuotedPrintable),
    /// To base64.
    Base64(Base64Lines),
    /// Called 7-bit; held back until that is sure, for many are not.
    Undecided(Box<Undecided>),
    /// Can't be 8-bit, since it can't be encoded. Says why.
    Refuse(String),
}

/// A body that is called 7-bit, with its header, which depends on whether that is true.
#[derive(Debug)]
pub struct Undecided {
    /// The header without the blank line.
    pub header: Vec<u8>,
    /// Whether quoted-printable fits it.
    pub text: bool,
    /// Whether it is a whole message, not a part.
    pub whole_message: bool,
    /// As much of the body as was seen.
    pub body: Vec<u8>,
}

impl Coder {
    /// The coder for a body that is not encoded, and the name of its encoding.
    pub fn encoding(text: bool) -> (Self, &'static str) {
        if text {
            (Self::QuotedPrintable(QuotedPrintable::default()), "quoted-printable")
        } else {
            (Self::Base64(Base64Lines::default()), "base64")
        }
    }

    /// Takes `bytes` of the body.
    ///
    /// # Errors
    /// When they can't be said in 7 bits.
    pub fn push(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<(), CannotConvert> {
        match self {
            Self::Replace => out.extend(bytes.iter().map(|byte| if byte.is_ascii() { *byte } else { b'?' })),
            Self::Patch(patch) => patch.push(bytes, out),
            Self::QuotedPrintable(coder) => coder.push(bytes, out),
            Self::Base64(coder) => coder.push(bytes, out),
            Self::Refuse(_) if bytes.is_ascii() => out.extend_from_slice(bytes),
            Self::Refuse(reason) => return Err(CannotConvert::seven_bit(reason)),
            Self::Undecided(held) => {
                held.body.extend_from_slice(bytes);
                if held.body.len() > UNDECIDED_LIMIT || !bytes.is_ascii() {
                    let (mut coder, name) = Self::encoding(held.text);
                    out.extend_from_slice(&relabelled(&held.header, name, held.whole_message));
                    out.extend_from_slice(b"\r\n");
                    coder.push(&held.body, out)?;
                    *self = coder;
                }
            }
        }
        Ok(())
    }

    /// The body is over. Its last line has no CRLF unless the body itself ends with one.
    pub fn finish(&mut self, out: &mut Vec<u8>) {
        match self {
            Self::QuotedPrintable(coder) => coder.finish(out),
            Self::Base64(coder) => coder.finish(out),
            Self::Undecided(held) => {
                out.append(&mut held.header);
                out.extend_from_slice(b"\r\n");
                out.append(&mut held.body);
            }
            Self::Replace | Self::Patch(_) | Self::Refuse(_) => {}
        }
    }
}
