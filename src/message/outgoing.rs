// SPDX-License-Identifier: Apache-2.0
//! Adapts a message to what the provider supports: 8-bit or 7-bit, raw UTF-8 in the header or not.

mod coder;
mod lines;
mod rewrite;

use std::fmt;

pub use self::lines::QuotedPrintable;
use self::rewrite::Rewrite;
use super::{BodyForm, Encode, encoded};

/// The extensions that the provider offers in its EHLO reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Offers {
    /// 8BITMIME (RFC 6152).
    pub eight_bit_mime: bool,
    /// SMTPUTF8 (RFC 6531).
    pub smtputf8: bool,
}

/// The message cannot be converted to a form that the provider accepts. Contains the reason as a sentence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CannotConvert(pub String);

impl CannotConvert {
    fn seven_bit(reason: &str) -> Self {
        Self(format!(
            "the provider accepts only 7-bit text (no 8BITMIME), and this message cannot be converted: {reason}"
        ))
    }
}

impl fmt::Display for CannotConvert {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for CannotConvert {}

/// Why a header cannot be converted to ASCII.
const NON_ASCII_ADDRESS: &str =
    "an address in the header is not ASCII, and the upstream server accepts only ASCII (no SMTPUTF8)";

/// One message being sent to one provider. The header is ready at once, the body is converted in chunks.
#[derive(Debug)]
pub struct Outgoing {
    header: Vec<u8>,
    eight_bit: bool,
    body: Body,
    /// Why the body cannot be continued.
    failure: Option<CannotConvert>,
}

#[derive(Debug)]
enum Body {
    Verbatim,
    QuotedPrintable(QuotedPrintable),
    Rewrite(Box<Rewrite>),
}

impl Outgoing {
    /// For the message with `header` (CRLF line endings) and a body of `form`.
    ///
    /// # Errors
    /// If the header already shows that conversion is impossible. More may be discovered in the body, see
    /// [`Outgoing::finish`].
    pub fn new(mut header: Vec<u8>, form: BodyForm, offers: Offers) -> Result<Self, CannotConvert> {
        if !header.is_empty() && !header.ends_with(b"\r\n") {
            header.extend_from_slice(b"\r\n");
        }
        if !offers.smtputf8 && !header.is_ascii() {
            header = encoded::downgrade_header(&header).ok_or_else(|| CannotConvert(NON_ASCII_ADDRESS.to_string()))?;
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

    /// The header to send: ends with CRLF, without the blank line.
    pub fn header(&self) -> &[u8] {
        &self.header
    }

    /// Whether the transaction needs `BODY=8BITMIME` (RFC 6152 section 2).
    pub fn needs_8bitmime(&self) -> bool {
        self.eight_bit
    }

    /// Whether the transaction needs `SMTPUTF8` (RFC 6531 section 3.4) for the header; envelope addresses are handled
    /// elsewhere.
    pub fn needs_smtputf8(&self) -> bool {
        !self.header.is_ascii()
    }

    /// Whether the converted body may be longer or shorter than the stored one.
    pub fn changes_size(&self) -> bool {
        !matches!(self.body, Body::Verbatim)
    }

    /// Appends the converted form of `body` to `out`, up to what depends on what follows. After a failure nothing more
    /// is appended; [`Outgoing::finish`] reports it.
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

    /// Appends the rest.
    ///
    /// # Errors
    /// If part of the body could not be converted. What was sent is not a complete message then: the connection has to
    /// be dropped, the message must not be ended.
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
