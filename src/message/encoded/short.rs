// SPDX-License-Identifier: Apache-2.0
//! Header fields whose lines are too long (RFC 5322 section 2.1.1).

use std::borrow::Cow;

use super::charset::{Charset, UTF_8};
use super::fold::{LINE, fold, unfold};
use super::parameters::rebuild;
use super::structured::with_addresses;
use super::words::encode;
use super::{ADDRESS_FIELDS, PARAMETER_FIELDS, field_value, unstructured};
use crate::message::address::list::{Mailbox, mailboxes};
use crate::message::address::tokens::{self, tokens};

/// Maximum length of a line of mail, without its line ending.
pub const LINE_LIMIT: usize = 998;
/// Maximum length of a word that fits on a line after the longest field name.
const WORD_LIMIT: usize = 700;
/// Maximum length of a word that is kept whole if everything else failed.
const SHORT_WORD_LIMIT: usize = 60;

/// The field `name` in lines that fit: its name and value. An ID that cannot be written stays readable under another
/// name.
pub fn shortened<'a>(name: &'a [u8], value: &[u8]) -> (Cow<'a, [u8]>, Vec<u8>) {
    let fitting = short(name, value);
    if !super::is_bare(name) || !fitting.trim_ascii().is_empty() {
        return (name.into(), fitting);
    }
    let name = [b"X-Original-", name].concat();
    let value = short(&name, value);
    (name.into(), value)
}

/// The value of the field `name` in lines that fit: folded before spaces if that is enough, else with long words
/// encoded.
fn short(name: &[u8], value: &[u8]) -> Vec<u8> {
    let column = name.len() + 1;
    let is_one_of = |names: &[&str]| names.iter().any(|one| name.eq_ignore_ascii_case(one.as_bytes()));
    let fits = |value: &Vec<u8>| super::fold::longest_line(column, value) <= LINE_LIMIT;
    let line = resplit(&unfold(value));
    if super::is_bare(name) {
        // An ID that is too long for a line cannot be written at all.
        let words = line.split(u8::is_ascii_whitespace).filter(|word| word.len() <= LINE_LIMIT - 32);
        return fold(column, &[b" ", words.collect::<Vec<_>>().join(&b' ').trim_ascii()].concat());
    }
    let blanks = || Some(fold(column, &line));
    let commas = || is_one_of(&ADDRESS_FIELDS).then(|| fold(column, &spaced(&line)));
    let words = || field_value(name, &line, WORD_LIMIT).ok();
    let rebuilt = || {
        if is_one_of(&ADDRESS_FIELDS) {
            let list = mailboxes(&line).iter().map(Mailbox::write).collect::<Vec<_>>().join(&b", "[..]);
            Some(with_addresses(column, &[b" ", list.as_slice()].concat(), SHORT_WORD_LIMIT))
        } else {
            is_one_of(&PARAMETER_FIELDS).then(|| rebuild(&line))
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

/// `line`, with encoded words that are too long for a line split into several of the same charset.
fn resplit(line: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(line.len());
    let mut rest = line;
    while let Some(at) = memchr::memmem::find(rest, b"=?") {
        let Some((before, tail)) = rest.split_at_checked(at) else { break };
        out.extend_from_slice(before);
        let length = tokens::encoded_word(tail).unwrap_or(2);
        let Some((word, after)) = tail.split_at_checked(length) else { break };
        match parts(word).filter(|_| word.len() > WORD_LIMIT) {
            Some(words) => out.extend_from_slice(&words.join(&b' ')),
            None => out.extend_from_slice(word),
        }
        rest = after;
    }
    out.extend_from_slice(rest);
    out
}

/// The encoded `word` split into several.
fn parts(word: &[u8]) -> Option<Vec<Vec<u8>>> {
    let inside = word.strip_prefix(b"=?")?.strip_suffix(b"?=")?;
    let mut three = inside.splitn(3, |byte| *byte == b'?');
    let (charset, encoding, text) = (three.next()?, three.next()?, three.next()?);
    let base64 = encoding.eq_ignore_ascii_case(b"b");
    let bytes = if base64 { crate::message::base64::decoded(text) } else { q_decoded(text) };
    // A word may not end within a character (RFC 2047 section 5), as far as character boundaries are known.
    let named = std::str::from_utf8(charset).ok()?.split('*').next()?.to_ascii_lowercase();
    let (text, label) = match Charset::find(named.as_bytes()) {
        Some(charset) => (charset.veil(&bytes)?, charset.name),
        None if named == UTF_8 => (String::from_utf8(bytes).ok()?, UTF_8),
        None => return None,
    };
    let mut out = Vec::new();
    encode(LINE, &text, label, &mut out);
    Some(out.split(|byte| *byte == b' ').map(<[u8]>::to_vec).collect())
}

fn q_decoded(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((first, tail)) = rest.split_first() {
        let digits = tail.get(..2).filter(|_| *first == b'=').and_then(|digits| std::str::from_utf8(digits).ok());
        let coded = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok());
        out.push(coded.unwrap_or(if *first == b'_' { b' ' } else { *first }));
        rest = if coded.is_some() { tail.get(2..).unwrap_or_default() } else { tail };
    }
    out
}
