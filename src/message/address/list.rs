// SPDX-License-Identifier: Apache-2.0
//! Address lists in header fields (RFC 5322 section 3.4), parsed tolerantly and written correctly.

use super::elements::{Element, bare_words, split};
use super::tokens::{Token, TokenKind, tokens};
use super::{for_header, is_address};
use crate::message::encoded::decode;

/// One address with its display name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mailbox {
    /// The name without quotes and escapes; encoded words are left as they are, as are bytes over 127. May be empty.
    pub name: Vec<u8>,
    /// The address; valid according to [`is_address`].
    pub address: String,
}

impl Mailbox {
    /// The mailbox as it is written in a header field: `address`, or `"name" <address>`. Bytes over 127 stay.
    pub fn write(&self) -> Vec<u8> {
        let address = for_header(&self.address).into_bytes();
        if self.name.is_empty() {
            return address;
        }
        [quoted(&self.name), b" <".to_vec(), address, b">".to_vec()].concat()
    }
}

/// `text` as a quoted string (RFC 5322 section 3.2.4). Encoded words in it stay outside the quotes, where they are
/// valid.
pub fn quoted(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len() + 2);
    let mut open = false;
    for word in text.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty()) {
        let plain = !super::tokens::is_encoded_word(word);
        if open && !plain {
            out.push(b'"');
        }
        if !out.is_empty() {
            out.push(b' ');
        }
        if plain && !open {
            out.push(b'"');
        }
        open = plain;
        for byte in word.iter().filter(|byte| !plain || !byte.is_ascii_control()) {
            if plain && matches!(byte, b'"' | b'\\') {
                out.push(b'\\');
            }
            out.push(*byte);
        }
    }
    if open {
        out.push(b'"');
    }
    out
}

/// The mailboxes in `value`, the value of From, To and similar fields, whatever it looks like: with groups, comments,
/// quoted names, semicolons instead of commas, missing brackets. Text without an address is skipped.
pub fn mailboxes(value: &[u8]) -> Vec<Mailbox> {
    read(value).0
}

/// Like [`mailboxes`]; also returns whether there was text that belongs to none of them.
pub fn read(value: &[u8]) -> (Vec<Mailbox>, bool) {
    let mut reader = Reader::default();
    split(value, &mut |element| reader.element(&element));
    (reader.found, reader.lost)
}

/// `value` as a single name: quotes and escapes undone, comments left out. Empty if nothing remains.
pub fn as_name(value: &[u8]) -> Vec<u8> {
    display(&tokens(value).collect::<Vec<_>>())
}

#[derive(Default)]
struct Reader {
    found: Vec<Mailbox>,
    lost: bool,
}

impl Reader {
    /// Interprets an element.
    fn element(&mut self, element: &Element<'_>) {
        if element.names_group {
            return;
        }
        let words = &element.words;
        if let Some(angle) = &element.angle {
            let text: Vec<u8> = angle.iter().filter(|t| !t.is_filling()).flat_map(|t| t.text).copied().collect();
            // After a route (RFC 5322 section 4.4) comes the address.
            let text = match text.starts_with(b"@") {
                true => memchr::memrchr(b':', &text).and_then(|at| text.get(at + 1..)).unwrap_or_default(),
                false => &text,
            };
            if let Some(address) = address(text) {
                let (first, last) = words.split_at_checked(element.before).unwrap_or((words, &[]));
                let name = [display(first), display(last), comments(words)].into_iter().find(|n| !n.is_empty());
                self.lost |= !display(first).is_empty() && !display(last).is_empty();
                self.found.push(Mailbox { name: name.unwrap_or_default(), address });
                return;
            }
            self.lost |= !text.is_empty();
        }
        self.bare(words);
    }

    /// An element without brackets: the words that are addresses; the others are the name if there is one address.
    fn bare(&mut self, element: &[Token<'_>]) {
        let mut addresses = Vec::new();
        let mut others = Vec::new();
        for word in bare_words(element) {
            let text: Vec<u8> = word.iter().filter(|t| !t.is_filling()).flat_map(|t| t.text).copied().collect();
            match address(&text) {
                Some(address) => addresses.push(address),
                None if text == b"mailto" => {}
                None => others.extend(word.iter().copied()),
            }
        }
        let name = Some(display(&others)).filter(|name| !name.is_empty());
        if addresses.len() != 1 {
            self.lost |= name.is_some();
            self.found.extend(addresses.into_iter().map(|address| Mailbox { name: Vec::new(), address }));
            return;
        }
        let name = name.unwrap_or_else(|| comments(element));
        self.found.extend(addresses.into_iter().map(|address| Mailbox { name: name.clone(), address }));
    }
}

/// The address that `text` means, without what is often put around it.
pub(super) fn address(text: &[u8]) -> Option<String> {
    let text = decode(text);
    let plain = text.strip_prefix("mailto:").unwrap_or(&text).trim_end_matches('.');
    let quoted = plain.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    [Some(plain), quoted].into_iter().flatten().find(|address| is_address(address)).map(str::to_string)
}

/// The text of a name: quotes and escapes undone, spaces reduced to one, comments left out. Empty if nothing remains.
fn display(words: &[Token<'_>]) -> Vec<u8> {
    let mut out = Vec::new();
    for token in words {
        match token.kind {
            TokenKind::Comment => {}
            TokenKind::Quoted => out.extend(unescaped(token.text)),
            TokenKind::Blank => out.push(b' '),
            _ => out.extend_from_slice(token.text),
        }
    }
    tidy(&out)
}

/// The text of the comments.
fn comments(words: &[Token<'_>]) -> Vec<u8> {
    let texts: Vec<_> = words.iter().filter(|t| t.kind == TokenKind::Comment).map(|t| unescaped(t.text)).collect();
    tidy(&texts.join(&b' '))
}

/// The content of a quoted string or comment, without its escapes (RFC 5322 section 3.2.1).
pub fn unescaped(text: &[u8]) -> Vec<u8> {
    let inside = text.get(1..text.len().saturating_sub(1)).unwrap_or_default();
    let mut out = Vec::with_capacity(inside.len());
    let mut bytes = inside.iter().copied();
    while let Some(byte) = bytes.next() {
        match byte {
            b'\\' => out.extend(bytes.next()),
            b'\r' | b'\n' => {}
            other => out.push(other),
        }
    }
    out
}

/// `text` with single spaces; empty if it has neither letters nor digits.
fn tidy(text: &[u8]) -> Vec<u8> {
    if !text.iter().any(|byte| byte.is_ascii_alphanumeric() || *byte >= 0x80) {
        return Vec::new();
    }
    let words: Vec<&[u8]> = text.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty()).collect();
    words.join(&b' ')
}

#[cfg(test)]
#[path = "list_tests.rs"]
mod tests;
