// SPDX-License-Identifier: Apache-2.0
//! The name of a device in the From of its mail.

use crate::message::address::{Mailbox, mailboxes};
use crate::message::encoded;
use crate::message::header::{Field, fields, find};

/// Maximum length of a word that still fits on a line; longer ones are encoded, so that they can be folded.
const WORD_LIMIT: usize = 900;

/// `header` with `name` as the display name in From, if From has one address and no display name of its own: none at
/// all, or just the address or its local part again, as devices write it. Everything else stays byte for byte; so does
/// all of a signed message (RFC 6376), whose signature covers From.
pub fn named(header: &[u8], name: &str) -> Vec<u8> {
    let mut senders = fields(header).filter(|field| field.is("From"));
    let field = match (senders.next(), senders.next()) {
        (Some(only), None) if find(header, "DKIM-Signature").is_none() => with_name(&only, name),
        _ => None,
    };
    let Some(field) = field else { return header.to_vec() };
    let mut out = Vec::with_capacity(header.len() + name.len() + 32);
    for old in fields(header) {
        out.extend_from_slice(if old.is("From") { &field } else { old.raw });
    }
    out
}

/// The field with `name`; `None` if it keeps its own.
fn with_name(from: &Field<'_>, name: &str) -> Option<Vec<u8>> {
    let found = mailboxes(from.value);
    let [Mailbox { name: old, address }] = found.as_slice() else { return None };
    let local = address.rsplit_once('@').map_or(address.as_str(), |(local, _)| local);
    let says_nothing = old.is_empty() || [address, local].iter().any(|text| old.eq_ignore_ascii_case(text.as_bytes()));
    if !says_nothing || name.is_empty() {
        return None;
    }
    let mailbox = Mailbox { name: name.as_bytes().to_vec(), address: address.clone() };
    let value = [b" ", mailbox.write().as_slice()].concat();
    let value = encoded::field_value(b"From", &value, WORD_LIMIT).unwrap_or(value);
    Some([b"From:", value.as_slice(), b"\r\n"].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(header: &str) -> String {
        String::from_utf8(named(header.as_bytes(), "Pump house, 1")).unwrap()
    }

    #[test]
    fn a_name_is_given_to_those_without() {
        for from_field in
            ["plc@plant.local", "<plc@plant.local>", "PLC <plc@plant.local>", "\"plc@plant.local\" <plc@plant.local>"]
        {
            let header = format!("A: b\r\nFrom: {from_field}\r\nTo: x@y.z\r\n");
            assert_eq!(from(&header), "A: b\r\nFrom: \"Pump house, 1\" <plc@plant.local>\r\nTo: x@y.z\r\n");
        }
        let umlaut = named(b"From: plc@plant.local\r\n", "T\u{fc}r");
        assert_eq!(umlaut, b"From: =?utf-8?Q?T=C3=BCr?= <plc@plant.local>\r\n");
    }

    #[test]
    fn all_else_stays_byte_for_byte() {
        for header in [
            "From: Boiler <plc@plant.local>\r\n",
            "From: a@b.c, d@e.f\r\n",
            "From: a@b.c\r\nFrom: d@e.f\r\n",
            "DKIM-Signature: v=1\r\nFrom: a@b.c\r\n",
            "From:\r\n",
            "To: x@y.z\r\n",
            "",
        ] {
            assert_eq!(from(header), header);
        }
        assert_eq!(named(b"From: a@b.c\r\n", ""), b"From: a@b.c\r\n");
    }
}
