// SPDX-License-Identifier: Apache-2.0
//! Address fields in 7 bits: names and comments are encoded; of the addresses only a non-ASCII domain is changed, into
//! its A-labels.

use super::NonAsciiAddress;
use super::charset::{Style, UTF_8, decode, raw};
use super::fold::{fold, unfold};
use super::words::encode;
use crate::message::address::idna;
use crate::message::address::list::unescaped;
use crate::message::address::tokens::{Token, TokenKind, tokens};

/// The value of From, To and similar fields in 7 bits; see [`super::field_value`] for the rest.
///
/// # Errors
/// If an address is not ASCII, apart from its domain.
pub fn structured(column: usize, value: &[u8], style: impl Into<Style>) -> Result<Vec<u8>, NonAsciiAddress> {
    let (out, all_ascii) = write(column, value, style.into());
    if all_ascii { Ok(out) } else { Err(NonAsciiAddress) }
}

/// Like [`structured`], but non-ASCII addresses stay as they are (RFC 6532 section 3.3).
pub fn with_addresses(column: usize, value: &[u8], style: impl Into<Style>) -> Vec<u8> {
    write(column, value, style.into()).0
}

/// Also returns whether all addresses are ASCII.
fn write(column: usize, value: &[u8], style: Style) -> (Vec<u8>, bool) {
    let line = unfold(value);
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
pub fn escaped(column: usize, value: &[u8], style: Style) -> Vec<u8> {
    let line = unfold(value);
    let text = decode(&line);
    let mut out = Vec::with_capacity(text.len() * 2);
    for token in tokens(text.as_bytes()) {
        if token.text.is_ascii() {
            out.extend_from_slice(token.text);
        } else if token.kind == TokenKind::Comment {
            out.push(b'(');
            encode(column, &decode(&unescaped(token.text)), style.label, &mut out);
            out.push(b')');
        } else {
            for c in decode(token.text).chars() {
                let (bytes, length) = raw(c, style.label);
                for byte in bytes.iter().take(length) {
                    match byte.is_ascii() {
                        true => out.push(*byte),
                        false => out.extend_from_slice(format!("%{byte:02X}").as_bytes()),
                    }
                }
            }
        }
    }
    fold(column, &out)
}

struct Writer {
    out: Vec<u8>,
    column: usize,
    style: Style,
    /// Whether all addresses so far can be expressed in ASCII.
    all_ascii: bool,
}

impl Writer {
    fn needs(&self, token: &Token<'_>) -> bool {
        let longest = token.text.split(u8::is_ascii_whitespace).map(<[u8]>::len).max().unwrap_or(0);
        !token.text.is_ascii() || longest > self.style.word_limit
    }

    fn plain(&mut self, token: &Token<'_>) {
        if token.kind == TokenKind::Comment && self.needs(token) {
            self.out.push(b'(');
            let text = unescaped(token.text);
            encode(self.column, &decode(&text), self.style.label, &mut self.out);
            self.out.push(b')');
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
        let mut run = Vec::new();
        // Comments within the run are moved after it.
        let mut comments = Vec::new();
        for (at, token) in part.iter().enumerate() {
            if at < first || at > last {
                if at == last + 1 {
                    self.end_run(&run, &comments);
                }
                self.plain(token);
                continue;
            }
            match token.kind {
                TokenKind::Comment => comments.push(*token),
                TokenKind::Quoted => run.extend(unescaped(token.text)),
                _ => run.extend_from_slice(token.text),
            }
        }
        if last + 1 == part.len() {
            self.end_run(&run, &comments);
        }
    }

    fn end_run(&mut self, run: &[u8], comments: &[Token<'_>]) {
        // An encoded word must be separated by spaces (RFC 2047 section 5, rule 3).
        if self.out.last().is_some_and(|byte| !matches!(byte, b' ' | b'\t' | b',' | b':' | b';')) {
            self.out.push(b' ');
        }
        let text = decode(run).into_owned();
        encode(self.column, &text, self.style.label, &mut self.out);
        for comment in comments {
            self.out.push(b' ');
            self.plain(comment);
        }
    }
}
