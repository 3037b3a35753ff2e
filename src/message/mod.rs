//! Turns what a device sends into a correct RFC 5322 message. Pure functions on bytes: no files, no network.
//!
//! On the way in, [`Repair`] takes the text as it arrives and gives the body for the spool at once; the header comes at
//! the end, since it depends on the whole body (its charset, for one). On the way out, [`sender`] fits the From to the
//! account, [`Outgoing`] fits the text to what the provider takes, and [`DotStuffer`] makes it safe for DATA.

pub mod address;
mod base64;
pub mod date;
pub mod dots;
pub mod encoded;
pub mod header;
pub mod outgoing;
mod parts;
pub mod received;
pub mod repair;
pub mod sender;

use std::net::IpAddr;

pub use address::is_address;
pub use base64::base64;
pub use dots::DotStuffer;
pub use outgoing::{CannotConvert, Offers, Outgoing};
pub use repair::{Refusal, Repair, Repaired};
pub use sender::FromPolicy;

/// Who a message is from and for, as SMTP says it (RFC 5321 section 2.3.1); the header may say otherwise.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Envelope {
    /// Sender; empty for the null sender of notices.
    pub from: String,
    /// Recipients.
    pub to: Vec<String>,
    /// Whether the client announced international addresses or headers (RFC 6531).
    pub smtputf8: bool,
}

/// All that the repair needs to know beside the text.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    /// Sender and recipients.
    pub envelope: &'a Envelope,
    /// Name of the message in the queue.
    pub id: &'a str,
    /// Our own name.
    pub hostname: &'a str,
    /// What the client called itself.
    pub helo: &'a str,
    /// Address of the client; `None` when it was submitted on this host.
    pub client: Option<IpAddr>,
    /// `SMTP`, `ESMTP`, `ESMTPA`, `UTF8SMTP` … (RFC 3848, RFC 6531 section 4.3).
    pub protocol: &'a str,
    /// Seconds since 1970, UTC.
    pub now: i64,
    /// The account's address, for messages that name no usable sender; may be empty.
    pub fallback_from: &'a str,
}

/// What has to happen to a stored body on its way out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encode {
    /// Nothing: it leaves as it lies there.
    Verbatim,
    /// Quoted-printable (RFC 2045 section 6.7); the header says so already.
    QuotedPrintable,
    /// Its parts, each as its own encoding allows: lines over 998 bytes are broken softly or encoded, and so is what has
    /// bytes that no line of text may hold. Until then such bytes lie there as they came.
    Parts,
}

/// What is known about a stored body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BodyForm {
    /// Whether it has bytes over 127 as it lies there.
    pub eight_bit: bool,
    /// What has to happen to it on its way out.
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

    /// The form of a stored number; `None` for numbers of other versions.
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
