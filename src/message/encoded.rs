// SPDX-License-Identifier: Apache-2.0
//! Header text in 7 bits: encoded words (RFC 2047) and encoded parameters (RFC 2231).
//!
//! Bytes over 127 are UTF-8 if they are valid UTF-8, else in the charset that the message names, else windows-1252,
//! which is what Western devices send.

pub mod charset;
pub mod fold;
pub mod parameters;
pub mod short;
pub mod structured;
pub mod words;

use std::fmt;

use super::header;
pub use charset::{Charset, Style, decode};
pub use structured::structured;
pub use words::{phrase, unstructured};

/// Fields that contain addresses (RFC 5322 sections 3.6.2, 3.6.3 and 3.6.6, RFC 8098 section 2.1, and common ones).
pub const ADDRESS_FIELDS: [&str; 18] = [
    "From",
    "Sender",
    "Reply-To",
    "To",
    "Cc",
    "Bcc",
    "Resent-From",
    "Resent-Sender",
    "Resent-Reply-To",
    "Resent-To",
    "Resent-Cc",
    "Resent-Bcc",
    "Disposition-Notification-To",
    "Return-Receipt-To",
    "Errors-To",
    "Delivered-To",
    "Mail-Followup-To",
    "Mail-Reply-To",
];
/// Fields with parameters (RFC 2045 section 5.1, RFC 2183 section 2).
pub const PARAMETER_FIELDS: [&str; 2] = ["Content-Type", "Content-Disposition"];

/// Structured fields in which only comments may contain encoded words (RFC 2047 section 5), as dates do with the name
/// of the time zone (RFC 5322 section 3.2.2).
const BARE_FIELDS: [&str; 14] = [
    "Date",
    "Resent-Date",
    "Received",
    "Return-Path",
    "MIME-Version",
    "Content-Transfer-Encoding",
    "Message-ID",
    "Resent-Message-ID",
    "Content-ID",
    "In-Reply-To",
    "References",
    "DKIM-Signature",
    "Authentication-Results",
    "Auto-Submitted",
];

/// Whether the field `name` may contain encoded words only in comments.
pub fn is_bare(name: &[u8]) -> bool {
    BARE_FIELDS.iter().any(|one| name.eq_ignore_ascii_case(one.as_bytes()))
}

/// An address, not just a name, is not ASCII: no encoding can express it in 7 bits (RFC 6531 section 3.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NonAsciiAddress;

impl fmt::Display for NonAsciiAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an address in the header is not ASCII, and the upstream server accepts only ASCII (no SMTPUTF8)")
    }
}

impl std::error::Error for NonAsciiAddress {}

/// `value`, what follows `name:`, in 7 bits and folded to lines of 76 characters where spaces allow it. The result
/// begins with the space that `value` begins with, and has no trailing CRLF.
///
/// In addition to bytes over 127, words longer than the limit of `style` are encoded, since that is how they can be
/// broken (`usize::MAX`: none). Veiled text gets the label of `style`.
pub fn field_value(name: &[u8], value: &[u8], style: impl Into<Style>) -> Result<Vec<u8>, NonAsciiAddress> {
    let style = style.into();
    let is_one_of = |names: &[&str]| names.iter().any(|one| name.eq_ignore_ascii_case(one.as_bytes()));
    let column = name.len() + 1;
    if is_one_of(&ADDRESS_FIELDS) {
        structured(column, value, style)
    } else if is_one_of(&PARAMETER_FIELDS) {
        Ok(parameters::encode(column, value, style))
    } else if is_bare(name) {
        Ok(structured::escaped(column, value, style))
    } else {
        Ok(unstructured(column, value, style))
    }
}

/// The whole of `header` in 7 bits; fields that already are stay byte for byte.
pub fn downgrade_header(header: &[u8]) -> Result<Vec<u8>, NonAsciiAddress> {
    let mut out = Vec::with_capacity(header.len());
    for field in header::fields(header) {
        if field.raw.is_ascii() {
            out.extend_from_slice(field.raw);
            continue;
        }
        let value = field_value(field.name, field.value, usize::MAX)?;
        // A line that is not a field cannot be encoded as one; a repaired header contains no such line.
        if field.name.is_empty() {
            out.extend(value);
            out.extend_from_slice(b"\r\n");
        } else {
            write_field(field.name, &value, &mut out);
        }
    }
    Ok(out)
}

/// The header of a part in a form that can be sent: lines of at most 998 bytes, and 7 bits if `seven_bit`. A non-ASCII
/// address, which cannot be expressed in 7 bits, stays readable in a field of another name; the header of a part does
/// not route mail.
pub fn part_header(header: &[u8], seven_bit: bool) -> Vec<u8> {
    let mut out = Vec::with_capacity(header.len());
    let kind = header::find(header, "Content-Type");
    let charset = kind.and_then(|field| super::parts::entity::parameter(field.value, "charset"));
    let charset = charset.and_then(|name| Charset::find(&name));
    for field in header::fields(header) {
        let eight_bit = seven_bit && !field.raw.is_ascii();
        let long = fold::longest_line(field.name.len() + 1, field.value) > short::LINE_LIMIT;
        if field.name.is_empty() || !eight_bit && !long {
            out.extend_from_slice(field.raw);
            continue;
        }
        let value = match eight_bit {
            true => {
                let veiled = charset.filter(|_| std::str::from_utf8(field.value).is_err());
                let veiled = veiled.and_then(|charset| Some((charset.veil(field.value)?, charset.name)));
                let (text, label) = veiled.as_ref().map_or((field.value, charset::UTF_8), |(t, l)| (t.as_bytes(), *l));
                let style = Style { word_limit: usize::MAX, label };
                field_value(field.name, text, style).unwrap_or_else(|_| {
                    out.extend_from_slice(b"X-Original-");
                    unstructured(field.name.len() + 12, text, style)
                })
            }
            false => field.value.to_vec(),
        };
        write_field(field.name, &value, &mut out);
    }
    out
}

/// Adds a field whose lines may still be too long.
fn write_field(name: &[u8], value: &[u8], out: &mut Vec<u8>) {
    let fits = fold::longest_line(name.len() + 1, value) <= short::LINE_LIMIT;
    let (name, value) = if fits { (name.into(), value.to_vec()) } else { short::shortened(name, value) };
    out.extend_from_slice(&name);
    out.push(b':');
    out.extend_from_slice(&value);
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
#[path = "encoded/tests.rs"]
mod tests;
