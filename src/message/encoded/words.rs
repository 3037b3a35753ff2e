// SPDX-License-Identifier: Apache-2.0
//! Encoded words (RFC 2047) in free text and in names.

use super::charset::{Style, UTF_8, decode, goes_on, raw};
use super::fold::{LINE, fold, unfold};
use crate::message::address::list::quoted;
use crate::message::address::tokens::is_encoded_word;
use crate::message::base64;

/// Maximum width of our encoded words: 75 is the limit, less so that brackets and commas fit on the same line.
pub const WORD: usize = 68;
/// Width of `=?utf-8?Q?` and `?=`.
const FRAME: usize = 12;
/// If fewer columns are left on a line, no encoded word is started on it.
const SCANTY: usize = 28;

/// Free text like that of Subject (RFC 5322 section 3.2.5) in 7 bits; see [`super::field_value`] for the rest. `column`
/// is the width of what precedes `value` on its line.
pub fn unstructured(column: usize, value: &[u8], style: impl Into<Style>) -> Vec<u8> {
    let line = unfold(value);
    let text = decode(&line);
    fold(column, &text_words(column, &text, style.into()))
}

/// `text` as a name in an address list: a quoted string, or encoded words if it is not ASCII.
pub fn phrase(text: &[u8]) -> Vec<u8> {
    if text.is_ascii() { quoted(text) } else { text_words(0, &decode(text), usize::MAX.into()) }
}

/// `text` with the words that need it encoded, not folded.
pub fn text_words(column: usize, text: &str, style: Style) -> Vec<u8> {
    let words = split(text);
    let needs = |word: &str| !word.is_ascii() || word.len() > style.word_limit;
    let is_encoded = |word: &str| is_encoded_word(word.as_bytes()) && !needs(word);
    let mut out = Vec::with_capacity(text.len() * 2);
    let mut at = 0;
    while let Some((blank, word)) = words.get(at).copied() {
        if !needs(word) {
            out.extend_from_slice(blank.as_bytes());
            out.extend_from_slice(word.as_bytes());
            at += 1;
            continue;
        }
        // Up to the last word that needs it, including the words between: spaces between encoded words are not
        // displayed (RFC 2047 section 6.2), so they have to be inside. For the same reason they are inside next to a
        // word that was already encoded.
        let rest = words.get(at..).unwrap_or_default();
        let reach = rest.iter().take_while(|(_, word)| !is_encoded(word));
        let count =
            reach.enumerate().filter(|(_, (_, word))| needs(word)).map(|(place, _)| place + 1).last().unwrap_or(1);
        let after_encoded = at.checked_sub(1).and_then(|before| words.get(before)).is_some_and(|(_, w)| is_encoded(w));
        let mut run = String::new();
        for (place, (blank, word)) in rest.iter().take(count).enumerate() {
            if place > 0 || after_encoded {
                run.push_str(blank);
            }
            run.push_str(word);
        }
        if let Some((blank, word)) = rest.get(count)
            && is_encoded(word)
        {
            run.push_str(blank);
        }
        out.extend_from_slice(if after_encoded { " " } else { blank }.as_bytes());
        encode(column, &run, style.label, &mut out);
        at += count;
    }
    out
}

/// Appends `text` to `out` as encoded words of the charset `label`, separated by single spaces. `column` is the width
/// of what precedes `out`; the first word is made to fit on the line if there is room for some of it.
pub fn encode(column: usize, text: &str, label: &str, out: &mut Vec<u8>) {
    let room = LINE.saturating_sub(column + out.len());
    let mut limit = if room < SCANTY { WORD } else { room.min(WORD) };
    let frame = FRAME - UTF_8.len() + label.len();
    let bytes_of = |text: &str| {
        let mut bytes = Vec::with_capacity(text.len());
        for c in text.chars() {
            let (raw, length) = raw(c, label);
            bytes.extend(raw.iter().take(length));
        }
        bytes
    };
    // Q while most of it stays readable, B for other scripts.
    let all = bytes_of(text);
    let use_q = all.iter().filter(|byte| q(**byte).1 > 1).count() * 2 <= all.len();
    let mut rest = text;
    let mut first = true;
    while !rest.is_empty() {
        let payload = limit.saturating_sub(frame);
        let mut length = 0;
        let (mut bytes, mut columns) = (0, 0);
        for c in rest.chars() {
            let (raw, count) = raw(c, label);
            bytes += count;
            columns = match use_q {
                true => columns + raw.iter().take(count).map(|byte| q(*byte).1).sum::<usize>(),
                false => bytes.div_ceil(3) * 4,
            };
            // At least one character per word, so that the loop ends.
            if columns > payload && length > 0 && !goes_on(c) {
                break;
            }
            length += c.len_utf8();
        }
        let Some((word, tail)) = rest.split_at_checked(length) else {
            break;
        };
        if !first {
            out.push(b' ');
        }
        let word = bytes_of(word);
        out.extend_from_slice(format!("=?{label}?{}?", if use_q { 'Q' } else { 'B' }).as_bytes());
        match use_q {
            true => word.iter().for_each(|byte| {
                let (code, columns) = q(*byte);
                out.extend(code.iter().take(columns));
            }),
            false => out.extend_from_slice(base64(&word).as_bytes()),
        }
        out.extend_from_slice(b"?=");
        rest = tail;
        first = false;
        limit = WORD;
    }
}

/// A byte in the Q encoding, and how many bytes that takes. Only what is safe within a phrase stays as it is (RFC 2047
/// section 5, rule 3).
fn q(byte: u8) -> ([u8; 3], usize) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    let digit = |nibble: u8| HEX.get(usize::from(nibble)).copied().unwrap_or(b'0');
    match byte {
        b' ' => ([b'_', 0, 0], 1),
        b'!' | b'*' | b'+' | b'-' | b'/' => ([byte, 0, 0], 1),
        _ if byte.is_ascii_alphanumeric() => ([byte, 0, 0], 1),
        _ => ([b'=', digit(byte >> 4), digit(byte & 15)], 3),
    }
}

/// `text` as words, each with the spaces before it. Trailing spaces come with an empty word.
fn split(text: &str) -> Vec<(&str, &str)> {
    let mut words = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let blanks = rest.len() - rest.trim_start_matches([' ', '\t']).len();
        let Some((blank, after)) = rest.split_at_checked(blanks) else {
            break;
        };
        let Some((word, tail)) = after.split_at_checked(after.find([' ', '\t']).unwrap_or(after.len())) else {
            break;
        };
        words.push((blank, word));
        rest = tail;
    }
    words
}
