// SPDX-License-Identifier: Apache-2.0
//! Turns what a device sends into a correct RFC 5322 message. Pure functions on bytes: no files, no network.
//!
//! For incoming mail, [`Repair`] takes the text as it arrives and produces the body for the spool at once; the header
//! follows at the end, since it depends on the whole body (its charset, for instance). For outgoing mail, [`sender`]
//! adapts the From to the account, [`Outgoing`] adapts the text to what the provider supports, and [`DotStuffer`] makes
//! it safe for DATA.

pub mod address;
pub mod base64;
pub mod date;
pub mod dots;
pub mod encoded;
pub mod header;
pub mod html;
pub mod outgoing;
mod parts;
pub mod picture;
pub mod received;
pub mod repair;
pub mod sender;
pub mod text;
pub mod tokens;

use std::net::IpAddr;

pub use address::{is_address, is_one_address};
pub use base64::base64;
pub use dots::DotStuffer;
pub use outgoing::{CannotConvert, Offers, Outgoing};
pub use repair::{MessageRefusal, Repair, Repaired};
pub use sender::FromPolicy;

/// The envelope of a message (RFC 5321 section 2.3.1); its header may name other senders and recipients.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Envelope {
    /// Sender; empty for the null sender of bounces.
    pub from: String,
    /// Recipients.
    pub to: Vec<String>,
    /// Whether the client announced international addresses or headers (RFC 6531).
    pub smtputf8: bool,
}

/// Everything the repair needs in addition to the text.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    /// Sender and recipients.
    pub envelope: &'a Envelope,
    /// Message ID in the queue.
    pub id: &'a str,
    /// The gateway's own host name.
    pub hostname: &'a str,
    /// The name from the client's HELO or EHLO.
    pub helo: &'a str,
    /// Address of the client; `None` when it was submitted on this host.
    pub client: Option<IpAddr>,
    /// `SMTP`, `ESMTP`, `ESMTPA`, `UTF8SMTP` … (RFC 3848, RFC 6531 section 4.3).
    pub protocol: &'a str,
    /// Seconds since 1970, UTC.
    pub now: i64,
    /// The account's address, for messages without a usable sender; may be empty.
    pub fallback_from: &'a str,
}

#[cfg(test)]
impl<'a> Facts<'a> {
    /// What the tests know about a message, with `envelope`.
    fn sample(envelope: &'a Envelope) -> Self {
        Self {
            envelope,
            id: "4Qx7",
            hostname: "router.example.com",
            helo: "plc",
            client: None,
            protocol: "SMTP",
            now: 1_795_395_723,
            fallback_from: "",
        }
    }
}

/// How a stored body has to be converted when it is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encode {
    /// Not at all: it is sent as stored.
    Verbatim,
    /// To quoted-printable (RFC 2045 section 6.7); the header already says so.
    QuotedPrintable,
    /// Part by part, as the encoding of each allows: lines over 998 bytes get soft line breaks or are encoded, and so
    /// are parts with bytes that a line of text must not contain. Until then such bytes are stored as received.
    Parts,
}

/// What is known about a stored body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BodyForm {
    /// Whether it contains bytes over 127 as stored.
    pub eight_bit: bool,
    /// How to convert it when it is sent.
    pub encode: Encode,
}

impl BodyForm {
    /// The number that is stored.
    pub fn to_code(self) -> u32 {
        let encode = match self.encode {
            Encode::Verbatim => 0,
            Encode::QuotedPrintable => 1,
            Encode::Parts => 2,
        };
        encode << 1 | u32::from(self.eight_bit)
    }

    /// The form for a stored number; `None` for numbers of other versions.
    pub fn from_code(code: u32) -> Option<Self> {
        let encode = match code >> 1 {
            0 => Encode::Verbatim,
            1 => Encode::QuotedPrintable,
            2 => Encode::Parts,
            _ => return None,
        };
        Some(Self { eight_bit: code & 1 == 1, encode })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_survive_storage() {
        for code in 0..6 {
            assert_eq!(BodyForm::from_code(code).map(BodyForm::to_code), Some(code));
        }
        assert_eq!(BodyForm::from_code(6), None);
    }
}
