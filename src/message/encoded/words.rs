// SPDX-License-Identifier: Apache-2.0
//! Encoded words (RFC 2047): in free text, and in the names and comments of address fields. Of the addresses only a
//! non-ASCII domain is changed, into its A-labels.

use super::charset::{Style, UTF_8, bytes_of, decode, goes_on, raw};
use super::undone;
use crate::message::address::idna;
use crate::message::base64;
use crate::message::header::{LINE, fold, unfold};
use crate::message::tokens::{
    Token, TokenKind, ascii_blanks, encoded_word, is_encoded_word, quoted, tokens, unescaped,
};

/// Maximum width of our encoded words: 75 is the limit, less so that brackets and commas fit on the same line.
pub const WORD: usize = 68;
/// Width of `=?utf-8?Q?` and `?=`.
const FRAME: usize = 12;
/// If fewer columns are left on a line, no encoded word is started on it.
const SCANTY: usize = 28;

/// Free text like that of Subject (RFC 5322 section 3.2.5) in 7 bits; see [`super::field_value`] for the rest. `column`
/// is the width of what precedes `value` on its line.
pub fn unstructured<'a>(column: usize, value: &[u8], style: impl Into<Style<'a>>) -> Vec<u8> {
    let line = unfold(value);
    let text = decode(&line);
    fold(column, &text_words(column, &text, style.into()))
}

/// `text` as a name in an address list: a quoted string, or encoded words if it is not ASCII.
pub fn phrase(text: &[u8]) -> Vec<u8> {
    if text.is_ascii() { quoted(text) } else { text_words(0, &decode(text), usize::MAX.into()) }
}

/// `text` with the words that need it encoded, not folded.
pub fn text_words(column: usize, text: &str, style: Style<'_>) -> Vec<u8> {
    let words = split(text);
    let needs = |word: &str| !word.is_ascii() || word.len() > style.word_limit;
    let is_encoded = |word: &str| is_encoded_word(word.as_bytes()) && !needs(word);
    // Readers decode words that are not separated by spaces as well.
    let begins_encoded = |word: &str| encoded_word(word.as_bytes()).is_some() && !needs(word);
    let ends_encoded =
        |word: &str| !needs(word) && word.match_indices("=?").any(|(at, _)| word.get(at..).is_some_and(is_encoded));
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
        let after_encoded =
            at.checked_sub(1).and_then(|before| words.get(before)).is_some_and(|(_, w)| ends_encoded(w));
        let mut run = String::new();
        for (place, (blank, word)) in rest.iter().take(count).enumerate() {
            if place > 0 || after_encoded {
                run.push_str(blank);
            }
            run.push_str(word);
        }
        if let Some((blank, word)) = rest.get(count)
            && begins_encoded(word)
        {
            run.push_str(blank);
        }
        out.extend_from_slice(if after_encoded { " " } else { blank }.as_bytes());
        encode(column, &undone(run.as_bytes(), style.label), style.label, &mut out);
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
    // Q while most of it stays readable, B for other scripts.
    let all = bytes_of(text, label);
    let use_q = all.iter().filter(|byte| q_width(**byte) > 1).count() * 2 <= all.len();
    let mut rest = text;
    while !rest.is_empty() {
        let payload = limit.saturating_sub(frame);
        let (mut length, mut bytes, mut columns) = (0, 0, 0);
        for c in rest.chars() {
            bytes += raw(c, label).count();
            columns = match use_q {
                true => columns + raw(c, label).map(q_width).sum::<usize>(),
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
        if rest.len() < text.len() {
            out.push(b' ');
        }
        out.extend_from_slice(format!("=?{label}?{}?", if use_q { 'Q' } else { 'B' }).as_bytes());
        let word = bytes_of(word, label);
        if !use_q {
            out.extend_from_slice(base64(&word).as_bytes());
        }
        for byte in word.into_iter().filter(|_| use_q) {
            match byte {
                b' ' => out.push(b'_'),
                _ if q_width(byte) == 1 => out.push(byte),
                _ => out.extend(escape(byte)),
            }
        }
        out.extend_from_slice(b"?=");
        rest = tail;
        limit = WORD;
    }
}

/// How many bytes `byte` takes in the Q encoding. Only what is safe within a phrase stays as it is (RFC 2047 section 5,
/// rule 3).
fn q_width(byte: u8) -> usize {
    match byte {
        b' ' | b'!' | b'*' | b'+' | b'-' | b'/' => 1,
        _ if byte.is_ascii_alphanumeric() => 1,
        _ => 3,
    }
}

/// `=` and two hexadecimal digits, in upper case as RFC 2045 section 6.7 requires.
pub fn escape(byte: u8) -> [u8; 3] {
    let digit = |half: u8| if half < 10 { b'0' + half } else { b'A' + half - 10 };
    [b'=', digit(byte >> 4), digit(byte & 15)]
}

/// `text` without its escapes: `mark` and two hexadecimal digits.
pub fn unescape(text: &[u8], mark: u8) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((first, tail)) = rest.split_first() {
        let digits = tail.get(..2).filter(|_| *first == mark).and_then(|digits| std::str::from_utf8(digits).ok());
        let coded = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok());
        out.push(coded.unwrap_or(*first));
        rest = tail.get(if coded.is_some() { 2 } else { 0 }..).unwrap_or_default();
    }
    out
}

/// Appends `comment` to `out`, its text encoded.
pub fn encode_comment(column: usize, comment: &Token<'_>, label: &str, out: &mut Vec<u8>) {
    out.push(b'(');
    encode(column, &undone(&unescaped(comment.text), label), label, out);
    out.push(b')');
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

/// The value of From, To and similar fields in 7 bits; see [`super::field_value`] for the rest.
/// `None` if an address is not ASCII, apart from its domain.
pub fn structured<'a>(column: usize, value: &[u8], style: impl Into<Style<'a>>) -> Option<Vec<u8>> {
    let (out, all_ascii) = write(column, value, style.into());
    all_ascii.then_some(out)
}

/// Like [`structured`], but non-ASCII addresses stay as they are (RFC 6532 section 3.3).
pub fn with_addresses<'a>(column: usize, value: &[u8], style: impl Into<Style<'a>>) -> Vec<u8> {
    write(column, value, style.into()).0
}

/// Also returns whether all addresses are ASCII.
fn write(column: usize, value: &[u8], style: Style<'_>) -> (Vec<u8>, bool) {
    let line = ascii_blanks(&unfold(value));
    let mut writer = Writer { out: Vec::with_capacity(line.len() * 2), column, style, all_ascii: true };
    // What was read since the last comma or bracket: a name if `<` or `:` follows, else an address.
    let mut pending: Vec<Token<'_>> = Vec::new();
    for token in tokens(&line) {
        if token.is(b'<') || token.is(b':') {
            writer.name(&pending);
        } else if token.is(b',') || token.is(b';') || token.is(b'>') {
            writer.address(&pending);
        } else {
            pending.push(token);
            continue;
        }
        writer.out.extend_from_slice(token.text);
        pending.clear();
    }
    writer.address(&pending);
    (fold(column, &writer.out), writer.all_ascii)
}

/// The value of a structured field that allows encoded words only in comments (RFC 2047 section 5): other non-ASCII
/// bytes are written as `%` and two digits, in the same way in every such field, so that a reply still refers to the
/// right message.
pub fn escaped(column: usize, value: &[u8], style: Style<'_>) -> Vec<u8> {
    let line = unfold(value);
    let text = ascii_blanks(decode(&line).as_bytes());
    let mut out = Vec::with_capacity(text.len() * 2);
    let mut in_angle = false;
    for token in tokens(&text) {
        in_angle = token.is(b'<') || in_angle && !token.is(b'>');
        if token.text.is_ascii() {
            out.extend_from_slice(token.text);
        } else if token.kind == TokenKind::Comment && !in_angle {
            encode_comment(column, &token, style.label, &mut out);
        } else {
            for byte in bytes_of(&decode(token.text), style.label) {
                match byte.is_ascii() {
                    true => out.push(byte),
                    false => out.extend_from_slice(format!("%{byte:02X}").as_bytes()),
                }
            }
        }
    }
    fold(column, &out)
}

struct Writer<'a> {
    out: Vec<u8>,
    column: usize,
    style: Style<'a>,
    /// Whether all addresses so far can be expressed in ASCII.
    all_ascii: bool,
}

impl Writer<'_> {
    fn needs(&self, token: &Token<'_>) -> bool {
        let longest = token.text.split(u8::is_ascii_whitespace).map(<[u8]>::len).max().unwrap_or(0);
        !token.text.is_ascii() || longest > self.style.word_limit
    }

    fn plain(&mut self, token: &Token<'_>) {
        if token.kind == TokenKind::Comment && self.needs(token) {
            encode_comment(self.column, token, self.style.label, &mut self.out);
        } else {
            self.out.extend_from_slice(token.text);
        }
    }

    fn address(&mut self, part: &[Token<'_>]) {
        let mut in_domain = false;
        for token in part {
            in_domain |= token.is(b'@');
            if token.kind == TokenKind::Comment || token.text.is_ascii() {
                self.plain(token);
                continue;
            }
            // Only a domain can be expressed in ASCII, and only if its characters are supported.
            let known = in_domain && token.kind == TokenKind::Atom && self.style.label == UTF_8;
            let label = std::str::from_utf8(token.text).ok().filter(|_| known).and_then(idna::domain);
            self.all_ascii &= label.is_some();
            self.out.extend_from_slice(label.as_ref().map_or(token.text, |label| label.as_bytes()));
        }
    }

    /// A name: everything from the first to the last word that needs it becomes one run of encoded words.
    fn name(&mut self, part: &[Token<'_>]) {
        let needs = |token: &Token<'_>| token.kind != TokenKind::Comment && self.needs(token);
        let (Some(first), Some(last)) = (part.iter().position(needs), part.iter().rposition(needs)) else {
            part.iter().for_each(|token| self.plain(token));
            return;
        };
        let (before, rest) = part.split_at_checked(first).unwrap_or((part, &[]));
        let (inside, after) = rest.split_at_checked(last + 1 - first).unwrap_or((rest, &[]));
        before.iter().for_each(|token| self.plain(token));
        let (comments, words): (Vec<&Token<'_>>, Vec<&Token<'_>>) =
            inside.iter().partition(|token| token.kind == TokenKind::Comment);
        // A space between encoded words is not displayed; see [`text_words`].
        let blank = |near: Option<&Token<'_>>, beyond: Option<&Token<'_>>| match (near, beyond) {
            (Some(blank), Some(word)) if blank.kind == TokenKind::Blank && is_encoded_word(word.text) => &b" "[..],
            _ => b"",
        };
        let mut run = blank(before.last(), before.iter().rev().nth(1)).to_vec();
        for token in words {
            match token.kind {
                TokenKind::Quoted => run.extend(unescaped(token.text)),
                _ => run.extend_from_slice(token.text),
            }
        }
        run.extend_from_slice(blank(after.first(), after.get(1)));
        // An encoded word must be separated by spaces (RFC 2047 section 5, rule 3).
        if self.out.last().is_some_and(|byte| !matches!(byte, b' ' | b'\t' | b',' | b':' | b';')) {
            self.out.push(b' ');
        }
        encode(self.column, &undone(&run, self.style.label), self.style.label, &mut self.out);
        // Comments within the run are moved after it.
        for comment in comments {
            self.out.push(b' ');
            self.plain(comment);
        }
        after.iter().for_each(|token| self.plain(token));
    }
}
