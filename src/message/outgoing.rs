//! Fits a message to what the provider takes: 8-bit or 7-bit, raw UTF-8 in the header or not.

mod coder;
mod lines;
mod opaque;
mod quoted_printable;
mod rewrite;

use std::fmt;

pub use self::quoted_printable::QuotedPrintable;
use self::rewrite::Rewrite;
use super::{BodyForm, Encode, encoded};

/// What the provider offers in its answer to EHLO.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Offers {
    /// 8BITMIME (RFC 6152).
    pub eight_bit_mime: bool,
    /// SMTPUTF8 (RFC 6531).
    pub smtputf8: bool,
}

/// The message can't be put in a form that the provider takes. Says why, in a sentence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CannotConvert(pub String);

impl CannotConvert {
    fn seven_bit(reason: &str) -> Self {
        Self(format!("the provider takes 7-bit text only (no 8BITMIME), and this message can't be made so: {reason}"))
    }
}

impl fmt::Display for CannotConvert {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for CannotConvert {}

/// One message on its way to one provider. The header is ready at once, the body passes through in pieces.
#[derive(Debug)]
pub struct Outgoing {
    header: Vec<u8>,
    eight_bit: bool,
    body: Body,
    /// Why the body can't go on.
    failure: Option<CannotConvert>,
}

#[derive(Debug)]
enum Body {
    Verbatim,
    QuotedPrintable(QuotedPrintable),
    Rewrite(Box<Rewrite>),
}

impl Outgoing {
    /// For the message with `header` (CRLF line ends) and a body of `form`.
    ///
    /// # Errors
    /// When the header says that it can't be done. More may come to light in the body, see [`Outgoing::finish`].
    pub fn new(mut header: Vec<u8>, form: BodyForm, offers: Offers) -> Result<Self, CannotConvert> {
        if !header.is_empty() && !header.ends_with(b"\r\n") {
            header.extend_from_slice(b"\r\n");
        }
        if !offers.smtputf8 && !header.is_ascii() {
            header = encoded::downgrade_header(&header).map_err(|error| CannotConvert(error.to_string()))?;
        }
        let eight_bit = form.eight_bit && form.encode != Encode::QuotedPrintable;
        let seven_bit = eight_bit && !offers.eight_bit_mime;
        let body = if form.encode == Encode::QuotedPrintable {
            Body::QuotedPrintable(QuotedPrintable::default())
        } else if seven_bit || form.encode == Encode::Parts {
            let (fitting, rewrite) = Rewrite::new(&header, seven_bit)?;
            header = fitting;
            Body::Rewrite(Box::new(rewrite))
        } else {
            Body::Verbatim
        };
        Ok(Self { header, eight_bit: eight_bit && offers.eight_bit_mime, body, failure: None })
    }

    /// The header as it is to be sent: ends with CRLF, without the blank line.
    pub fn header(&self) -> &[u8] {
        &self.header
    }

    /// Whether the transaction needs `BODY=8BITMIME` (RFC 6152 section 2).
    pub fn needs_8bitmime(&self) -> bool {
        self.eight_bit
    }

    /// Whether the transaction needs `SMTPUTF8` (RFC 6531 section 3.4), for the header; addresses are another matter.
    pub fn needs_smtputf8(&self) -> bool {
        !self.header.is_ascii()
    }

    /// Whether the body that is sent may be longer or shorter than the one that was stored.
    pub fn changes_size(&self) -> bool {
        !matches!(self.body, Body::Verbatim)
    }

    /// Appends the form of `body` that is to be sent to `out`, up to what depends on what follows. After a failure
    /// nothing more comes; [`Outgoing::finish`] tells.
    pub fn push(&mut self, body: &[u8], out: &mut Vec<u8>) {
        if self.failure.is_some() {
            return;
        }
        match &mut self.body {
            Body::Verbatim => out.extend_from_slice(body),
            Body::QuotedPrintable(coder) => coder.push(body, out),
            Body::Rewrite(rewrite) => self.failure = rewrite.push(body, out).err(),
        }
    }

    /// Appends what is left.
    ///
    /// # Errors
    /// When a part of the body could not be converted. What was sent of it is no message then: the connection has to be
    /// broken, not the message ended.
    pub fn finish(&mut self, out: &mut Vec<u8>) -> Result<(), CannotConvert> {
        if let Some(failure) = &self.failure {
            return Err(failure.clone());
        }
        match &mut self.body {
            Body::Verbatim => Ok(()),
            Body::QuotedPrintable(coder) => {
                coder.finish(out);
                Ok(())
            }
            Body::Rewrite(rewrite) => rewrite.finish(out),
        }
    }
}

#[cfg(test)]
mod tests;
#[cfg(test)]
mod trees;
