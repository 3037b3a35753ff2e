// SPDX-License-Identifier: Apache-2.0
//! Header fields in 7 bits: encoded words (RFC 2047) and encoded parameters (RFC 2231); and in lines that are not too
//! long (RFC 5322 section 2.1.1).
//!
//! Bytes over 127 are UTF-8 if they are valid UTF-8, else in the charset that the message names, else windows-1252,
//! which is what Western devices send.

pub mod charset;
pub mod parameters;
pub mod words;

use std::borrow::Cow;

use super::address::{Mailbox, mailboxes};
use super::base64;
use super::header::{self, LINE, LINE_LIMIT, fold, is_one_of, longest_line, push_field, push_line, unfold};
use super::tokens::{loose_encoded_word, tokens};
pub use charset::{Charset, Style, decode};
pub use words::{phrase, structured, unstructured};

/// Fields that contain addresses (RFC 5322 sections 3.6.2, 3.6.3 and 3.6.6, RFC 8098 section 2.1, and common ones).
pub const ADDRESS_FIELDS: &str = "From Sender Reply-To To Cc Bcc Resent-From Resent-Sender Resent-Reply-To \
    Resent-To Resent-Cc Resent-Bcc Disposition-Notification-To Return-Receipt-To Errors-To Delivered-To \
    Mail-Followup-To Mail-Reply-To";
/// Fields with parameters (RFC 2045 section 5.1, RFC 2183 section 2).
pub const PARAMETER_FIELDS: &str = "Content-Type Content-Disposition";

/// Structured fields in which only comments may contain encoded words (RFC 2047 section 5), as dates do with the name
/// of the time zone (RFC 5322 section 3.2.2).
const BARE_FIELDS: &str = "Date Resent-Date Received Return-Path MIME-Version Content-Transfer-Encoding Message-ID \
    Resent-Message-ID Original-Message-ID Content-ID In-Reply-To References DKIM-Signature Authentication-Results \
    ARC-Seal ARC-Message-Signature ARC-Authentication-Results Received-SPF Auto-Submitted Content-Language \
    Content-Location Content-Base Content-MD5 Archived-At List-Unsubscribe List-Unsubscribe-Post List-Subscribe \
    List-Help List-Post List-Owner List-Archive Importance Priority X-Priority X-MSMail-Priority Precedence Sensitivity \
    Expires Reply-By Thread-Index TLS-Required";

/// Maximum length of a word that fits on a line after the longest field name.
const WORD_LIMIT: usize = 700;
/// Maximum length of a word that is kept whole if everything else failed.
const SHORT_WORD_LIMIT: usize = 60;

/// Whether the field `name` may contain encoded words only in comments.
pub fn is_bare(name: &[u8]) -> bool {
    is_one_of(name, BARE_FIELDS)
}

/// `value`, what follows `name:`, in 7 bits and folded to lines of 76 characters where spaces allow it. The result
/// begins with the space that `value` begins with, and has no trailing CRLF.
///
/// In addition to bytes over 127, words longer than the limit of `style` are encoded, since that is how they can be
/// broken (`usize::MAX`: none). Veiled text gets the label of `style`. `None` if an address, not just a name, is not
/// ASCII: no encoding can express it in 7 bits (RFC 6531 section 3.2).
pub fn field_value<'a>(name: &[u8], value: &[u8], style: impl Into<Style<'a>>) -> Option<Vec<u8>> {
    let style = style.into();
    let column = name.len() + 1;
    let mended =
        if value.is_ascii() || is_bare(name) { Cow::Borrowed(value) } else { resplit(value, style.label).into() };
    let value = &*mended;
    if is_one_of(name, ADDRESS_FIELDS) {
        structured(column, value, style)
    } else if is_one_of(name, PARAMETER_FIELDS) {
        Some(parameters::encode(column, value, style))
    } else if is_bare(name) {
        Some(words::escaped(column, value, style))
    } else {
        Some(unstructured(column, value, style))
    }
}

/// The whole of `header` in 7 bits, if that is possible; fields that already are stay byte for byte.
pub fn downgrade_header(header: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(header.len());
    for field in header::fields(header) {
        if field.raw.is_ascii() {
            out.extend_from_slice(field.raw);
            continue;
        }
        let value = field_value(field.name, field.value, usize::MAX)?;
        // A line that is not a field cannot be encoded as one; a repaired header contains no such line.
        if field.name.is_empty() {
            push_line(&value, &mut out);
        } else {
            write_field(field.name, &value, &mut out);
        }
    }
    Some(out)
}

/// The header of a part in a form that can be sent: lines of at most 998 bytes, and 7 bits if `seven_bit`. A non-ASCII
/// address, which cannot be expressed in 7 bits, stays readable in a field of another name; the header of a part does
/// not route mail. Text that is not UTF-8 is in `charset`.
pub fn part_header(header: &[u8], seven_bit: bool, charset: Option<Charset>) -> Vec<u8> {
    let mut out = Vec::with_capacity(header.len());
    for field in header::fields(header) {
        let eight_bit = seven_bit && !field.raw.is_ascii();
        let long = longest_line(field.name.len() + 1, field.value) > LINE_LIMIT;
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
                field_value(field.name, text, style).unwrap_or_else(|| {
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
    match shortened(name, value) {
        Some((name, value)) => push_field(&name, &value, out),
        None => push_field(name, value, out),
    }
}

/// The field `name` in lines that fit, if it has others: its name and value. An ID that cannot be written stays
/// readable under another name.
pub fn shortened<'a>(name: &'a [u8], value: &[u8]) -> Option<(Cow<'a, [u8]>, Vec<u8>)> {
    if longest_line(name.len() + 1, value) <= LINE_LIMIT {
        return None;
    }
    let fitting = short(name, value);
    if !is_bare(name) || !fitting.trim_ascii().is_empty() {
        return Some((name.into(), fitting));
    }
    let name = [b"X-Original-", name].concat();
    let value = short(&name, value);
    Some((name.into(), value))
}

/// Whether a field stays what it is when it is sent: [`shortened`] gives it no other name.
pub fn keeps_name(name: &[u8], value: &[u8]) -> bool {
    shortened(name, value).is_none_or(|(sent, _)| *sent == *name)
}

/// The value of the field `name` in lines that fit: folded before spaces if that is enough, else with long words
/// encoded.
fn short(name: &[u8], value: &[u8]) -> Vec<u8> {
    let column = name.len() + 1;
    let fits = |value: &Vec<u8>| longest_line(column, value) <= LINE_LIMIT;
    let line = resplit(&unfold(value), charset::UTF_8);
    if is_bare(name) {
        // An ID that is too long for a line cannot be written at all.
        let words = line.split(u8::is_ascii_whitespace).filter(|word| word.len() <= LINE_LIMIT - 32);
        return fold(column, &[b" ", words.collect::<Vec<_>>().join(&b' ').trim_ascii()].concat());
    }
    let blanks = || Some(fold(column, &line));
    let commas = || is_one_of(name, ADDRESS_FIELDS).then(|| fold(column, &spaced(&line)));
    let words = || field_value(name, &line, WORD_LIMIT);
    let rebuilt = || {
        if is_one_of(name, ADDRESS_FIELDS) {
            let list = mailboxes(&line).iter().map(Mailbox::write).collect::<Vec<_>>().join(&b", "[..]);
            Some(words::with_addresses(column, &[b" ", list.as_slice()].concat(), SHORT_WORD_LIMIT))
        } else {
            is_one_of(name, PARAMETER_FIELDS).then(|| parameters::rebuild(&line))
        }
    };
    let steps: [&dyn Fn() -> Option<Vec<u8>>; 4] = [&blanks, &commas, &words, &rebuilt];
    let short = steps.iter().find_map(|step| step().filter(fits));
    short.unwrap_or_else(|| unstructured(column, &line, SHORT_WORD_LIMIT))
}

/// A list with a space after each comma.
fn spaced(list: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(list.len() * 2);
    for token in tokens(list) {
        out.extend_from_slice(token.text);
        if token.is(b',') {
            out.push(b' ');
        }
    }
    out
}

/// `line`, with encoded words that are too long for a line split into several of the same charset, and with those that
/// hold bytes they must not contain as correct ones.
pub fn resplit(line: &[u8], label: &str) -> Vec<u8> {
    with_words(line, false, &|word| {
        let odd = word.len() > WORD_LIMIT || !word.iter().all(u8::is_ascii_graphic);
        let (text, label) = word_text(word, label).filter(|_| odd)?;
        let mut out = Vec::new();
        words::encode(LINE, &text, &label, &mut out);
        Some(out)
    })
}

/// `text`, which will be encoded with the charset `label`, with its encoded words decoded if they are of the same
/// charset: else they would be encoded twice.
pub fn undone(text: &[u8], label: &str) -> String {
    let text = decode(text);
    let plain = with_words(text.as_bytes(), true, &|word| {
        let (text, named) = word_text(word, label)?;
        named.eq_ignore_ascii_case(label).then(|| text.into_bytes())
    });
    decode(&plain).into_owned()
}

/// `line` with each encoded word replaced by what `replace` makes of it. Spaces between words that are replaced do not
/// count (RFC 2047 section 6.2) and are left out if the result is `plain` text.
fn with_words(line: &[u8], plain: bool, replace: &dyn Fn(&[u8]) -> Option<Vec<u8>>) -> Vec<u8> {
    let mut out = Vec::with_capacity(line.len());
    let mut rest = line;
    let mut after_word = false;
    while let Some(at) = memchr::memmem::find(rest, b"=?") {
        let Some((before, tail)) = rest.split_at_checked(at) else { break };
        let length = loose_encoded_word(tail).unwrap_or(2);
        let Some((word, after)) = tail.split_at_checked(length) else { break };
        let new = Some(word).filter(|_| length > 2).and_then(replace);
        if !(plain && after_word && new.is_some() && before.trim_ascii().is_empty()) {
            out.extend_from_slice(before);
        }
        after_word = new.is_some();
        out.extend_from_slice(new.as_deref().unwrap_or(word));
        rest = after;
    }
    out.extend_from_slice(rest);
    out
}

/// The text of the encoded `word`, which stands in a text with the charset `label`, and its charset: UTF-8 if it can be
/// converted, else veiled.
fn word_text(word: &[u8], label: &str) -> Option<(String, String)> {
    let inside = word.strip_prefix(b"=?")?.strip_suffix(b"?=")?;
    let mut three = inside.splitn(3, |byte| *byte == b'?');
    let (charset, encoding, text) = (three.next()?, three.next()?, three.next()?);
    let named = charset.split(|byte| *byte == b'*').next()?;
    let bytes = if encoding.eq_ignore_ascii_case(b"b") {
        Some(text).filter(|text| text.is_ascii()).map(base64::decoded)?
    } else {
        // What is not encoded is in the charset of the word; it has been read as another one.
        let text = decode(text);
        let own = label != charset::UTF_8
            || charset::converted(named, "\u{fc}".as_bytes()).is_some_and(|one| one == "\u{fc}");
        let raw = if own { charset::bytes_of(&text, label) } else { charset::to_windows_1252(&text)? };
        let blanks: Vec<u8> = raw.iter().map(|byte| if *byte == b'_' { b' ' } else { *byte }).collect();
        words::unescape(&blanks, b'=')
    };
    if let Some(text) = charset::converted(named, &bytes) {
        return Some((text, charset::UTF_8.to_string()));
    }
    let charset = Charset::named(named)?;
    // A word may not end within a character (RFC 2047 section 5), as far as character boundaries are known.
    if charset.has_escapes() {
        let text = charset::from_iso_2022_jp(&bytes).and_then(|bytes| charset::EUC_JP.veil(&bytes))?;
        return Some((text, charset::EUC_JP.name.to_string()));
    }
    Some((charset.veil(&bytes)?, charset.name.to_string()))
}

#[cfg(test)]
mod tests;
