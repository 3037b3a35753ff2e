// SPDX-License-Identifier: Apache-2.0
//! Makes the header match the body (RFC 2045), so that it is displayed as intended and can be sent.

use super::draft::HeaderDraft;
use super::notes;
use super::walk::Walk;
use crate::message::encoded::parameters::{media_type, parameter, pieces};
use crate::message::encoded::{Charset, keeps_name};
use crate::message::header::{Field, fields, push_field};
use crate::message::parts::{Content, Entity, is_ascii, is_unknown_encoding};
use crate::message::tokens::{quoted, tokens};
use crate::message::{BodyForm, Encode};

/// Maximum length of a Content-Transfer-Encoding that is left as it is; with long comments it could not be folded.
const ENCODING_LIMIT: usize = 200;

const SIGNATURE: &str = "DKIM-Signature";
/// How many signatures are looked at, and how many fields of each: more than exist, and few enough for any header.
const SIGNATURES: usize = 4;
const SIGNED_FIELDS: usize = 100;

/// A transfer encoding (RFC 2045 section 6.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Transfer {
    /// None declared, or `7bit`.
    SevenBit,
    /// `8bit`.
    EightBit,
    /// `binary`: never true of a message received through SMTP without BINARYMIME (RFC 3030).
    Binary,
    /// Any real encoding, not just a declaration.
    Coded,
}

/// Sets Content-Type, Content-Transfer-Encoding and MIME-Version to match the body. A body declared as encoded is left
/// alone; so are declared charsets, except one that is disproved by bytes over 127.
pub fn fit(draft: &mut HeaderDraft<'_>, walk: &Walk) -> BodyForm {
    let scan = &walk.scan;
    let transfer = transfer(draft);
    if let Some(right) = walk.right_boundary()
        && let Some(value) = draft.value("Content-Type")
    {
        let value = with_parameter(value, "boundary", &quoted(right));
        draft.set("Content-Type", value.trim_ascii());
        draft.note(notes::CONTENT_TYPE);
    }
    // A multipart without parts would be displayed as empty.
    let partless = || walk.boundary() == Err(true) && media(draft).is_some_and(|media| media.starts_with("multipart/"));
    let shown = || {
        let signed = || has_signature(draft) || media(draft).is_some_and(|media| is_protected(&media));
        scan.eight_bit || scan.long || walk.has_text() && !signed()
    };
    let unreadable = media(draft).is_none() || partless() && shown();
    if let Some(at) = draft.find("Content-Type").filter(|_| unreadable) {
        draft.set_aside(at);
        draft.note(notes::CONTENT_FIELD);
    }
    let content = Entity::read(&content_header(draft), false).content;
    let is_text =
        content == Content::Leaf { text: true } && media(draft).is_none_or(|media| media.starts_with("text/"));
    let plain = transfer != Transfer::Coded;
    if is_text && plain && (scan.eight_bit || scan.long) {
        charset(draft, walk);
    }
    // What only claims to be text is encoded like a part.
    let is_text = is_text && !walk.wide && !walk.binary;
    let (wanted, encode) = match (scan.long || walk.binary, is_text && plain) {
        (true, true) => (Some("quoted-printable"), Encode::QuotedPrintable),
        (odd, _) => {
            let eight_bit = transfer == Transfer::SevenBit && scan.eight_bit || transfer == Transfer::Binary;
            (eight_bit.then_some("8bit"), if odd { Encode::Parts } else { Encode::Verbatim })
        }
    };
    if let Some(wanted) = wanted {
        draft.set("Content-Transfer-Encoding", wanted.as_bytes());
        draft.note(notes::TRANSFER_ENCODING);
    }
    match encode {
        Encode::Verbatim => {}
        Encode::QuotedPrintable => draft.note(notes::LONG_TEXT_LINES),
        Encode::Parts if walk.binary => draft.note(notes::BINARY),
        Encode::Parts => draft.note(notes::LONG_BODY_LINES),
    }
    // Any value is accepted here unless it cannot be written on a line.
    let readable = |value: &[u8]| value.is_ascii() && value.len() <= ENCODING_LIMIT;
    let makes_mime = "Content-Type Content-Transfer-Encoding Content-Disposition MIME-Version";
    if draft.entries.iter().any(|entry| entry.is(makes_mime)) {
        draft.provide("MIME-Version", readable, b"1.0", (notes::CONTENT_FIELD, notes::MIME_VERSION));
    }
    BodyForm { eight_bit: scan.eight_bit, encode }
}

/// Whether the header is signed (RFC 6376): a change of it might invalidate that. A signature that cannot be sent does not
/// count: the message would be changed when it comes a second time, without it.
pub fn has_signature(draft: &HeaderDraft<'_>) -> bool {
    draft.entries.iter().any(|entry| entry.is(SIGNATURE) && keeps_name(&entry.name, &entry.value))
}

/// Whether a repair has broken a signature of the header `before`, which became `after`: it covers the fields that it names,
/// itself, and the body. White space is part of a field unless the signature says otherwise (RFC 6376 section 3.4).
pub fn breaks_signature(before: &[u8], after: &[u8], body_changed: bool) -> bool {
    fields(before).filter(|field| field.is(SIGNATURE)).take(SIGNATURES).any(|signature| {
        let tags = bare(signature.value);
        let tag = |name: &[u8]| tags.split(|byte| *byte == b';').find_map(|tag| tag.strip_prefix(name));
        let relaxed = tag(b"c=").is_some_and(|forms| forms.starts_with(b"relaxed"));
        let names = tag(b"h=").unwrap_or_default();
        body_changed || signed(before, names, relaxed) != signed(after, names, relaxed)
    })
}

/// The values of the fields that `names`, separated by colons, has, and of the signatures.
fn signed(header: &[u8], names: &[u8], relaxed: bool) -> Vec<Vec<u8>> {
    let is_signed = |field: &Field<'_>| {
        let mut names = names.split(|byte| *byte == b':').take(SIGNED_FIELDS);
        field.is(SIGNATURE) || names.any(|name| name.eq_ignore_ascii_case(field.name))
    };
    let text = |field: Field<'_>| if relaxed { bare(field.value) } else { field.value.to_vec() };
    fields(header).filter(is_signed).map(text).collect()
}

fn bare(value: &[u8]) -> Vec<u8> {
    let mut bare = value.to_vec();
    bare.retain(|byte| !byte.is_ascii_whitespace());
    bare
}

/// Whether a Content-Type says how to verify or decrypt the body (RFC 1847): then it stays as it is.
pub fn is_protected(media: &str) -> bool {
    matches!(media, "multipart/signed" | "multipart/encrypted")
}

/// The type that the header declares.
pub fn media(draft: &HeaderDraft<'_>) -> Option<String> {
    draft.value("Content-Type").and_then(media_type)
}

/// The fields that describe the content.
fn content_header(draft: &HeaderDraft<'_>) -> Vec<u8> {
    let mut header = Vec::new();
    for name in ["Content-Type", "Content-Transfer-Encoding", "Content-Disposition"] {
        if let Some(value) = draft.value(name) {
            push_field(name.as_bytes(), value, &mut header);
        }
    }
    header
}

/// The transfer encoding declared in the header. One that does not exist (`8-bit`) is renamed.
fn transfer(draft: &mut HeaderDraft<'_>) -> Transfer {
    const FIELD: &str = "Content-Transfer-Encoding";
    let Some(value) = draft.value(FIELD) else {
        return Transfer::SevenBit;
    };
    let long = value.len() > ENCODING_LIMIT;
    let text: Vec<u8> =
        tokens(value).filter(|token| !token.is_filling()).flat_map(|token| token.text.to_ascii_lowercase()).collect();
    let transfer = match text.as_slice() {
        b"7bit" => Transfer::SevenBit,
        b"8bit" => Transfer::EightBit,
        b"binary" => Transfer::Binary,
        b"base64" | b"quoted-printable" => Transfer::Coded,
        other if !long && std::str::from_utf8(other).is_ok_and(is_unknown_encoding) => Transfer::Coded,
        _ => {
            if let Some(at) = draft.find(FIELD) {
                draft.set_aside(at);
            }
            draft.note(notes::CONTENT_FIELD);
            return Transfer::SevenBit;
        }
    };
    if long {
        draft.set(FIELD, &text);
    }
    transfer
}

/// Declares the charset of a text without one, or with a wrong one.
fn charset(draft: &mut HeaderDraft<'_>, walk: &Walk) {
    let scan = &walk.scan;
    // What the text says of itself is better than a guess, and a wrong label in the header would win over it.
    let named = walk.charset.as_deref().and_then(Charset::find).filter(|_| scan.is_other());
    let charset = match named {
        _ if walk.wide => "utf-16",
        Some(named) => named.name,
        None => scan.charset(),
    };
    let Some(value) = draft.value("Content-Type") else {
        draft.set("Content-Type", format!("text/plain; charset={charset}").as_bytes());
        draft.note(notes::CHARSET);
        return;
    };
    let text =
        pieces(value).into_iter().find(|piece| is_called(piece, "charset")).and_then(parameter).map(|(_, text)| text);
    let disproved = |text: &[u8]| text.eq_ignore_ascii_case(b"utf-8") && scan.disproves_utf8() && !has_signature(draft);
    if !scan.eight_bit || !text.is_none_or(|text| is_ascii(&text) || disproved(&text)) {
        return;
    }
    let value = with_parameter(value, "charset", charset.as_bytes());
    draft.set("Content-Type", value.trim_ascii());
    draft.note(notes::CHARSET);
}

/// `value` with `text` as its parameter `name`.
pub fn with_parameter(value: &[u8], name: &str, text: &[u8]) -> Vec<u8> {
    let new = [b" ", name.as_bytes(), b"=", text].concat();
    let mut parts = pieces(value);
    match parts.iter().position(|piece| is_called(piece, name)).and_then(|at| parts.get_mut(at)) {
        Some(part) => *part = &new,
        None => {
            while parts.len() > 1 && parts.last().is_some_and(|part| part.trim_ascii().is_empty()) {
                parts.pop();
            }
            parts.push(&new);
        }
    }
    parts.join(&b';')
}

/// Whether `piece` is the parameter `name`, or part of it: as one parameter, encoded, or in numbered segments (RFC 2231
/// sections 3 and 4).
fn is_called(piece: &[u8], name: &str) -> bool {
    parameter(piece).is_some_and(|(key, _)| key.split('*').next() == Some(name))
}
