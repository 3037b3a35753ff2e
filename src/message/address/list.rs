//! Lists of addresses in header fields (RFC 5322 section 3.4), read with tolerance and written correctly.

use super::tokens::{Kind, Token, tokens};
use super::{for_header, is_address};
use crate::message::encoded::decode;

/// One address with the name that is shown for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mailbox {
    /// The name without quotes and escapes; encoded words are left as they are, bytes over 127 too. May be empty.
    pub name: Vec<u8>,
    /// The address; [`is_address`] holds.
    pub address: String,
}

impl Mailbox {
    /// The mailbox as it stands in a header field: `address`, or `"name" <address>`. Bytes over 127 stay.
    pub fn write(&self) -> Vec<u8> {
        let address = for_header(&self.address).into_bytes();
        if self.name.is_empty() {
            return address;
        }
        [quoted(&self.name), b" <".to_vec(), address, b">".to_vec()].concat()
    }
}

/// `text` as a quoted string (RFC 5322 section 3.2.4). Encoded words in it stay outside the quotes, where they count.
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

/// The mailboxes in `value`, the value of From, To or the like, whatever it looks like: with groups, comments, quoted
/// names, semicolons for commas, brackets forgotten. Text without an address is passed over.
pub fn mailboxes(value: &[u8]) -> Vec<Mailbox> {
    read(value).0
}

/// As [`mailboxes`]; also tells whether there was text that is in none of them.
pub fn read(value: &[u8]) -> (Vec<Mailbox>, bool) {
    let mut reader = Reader { semicolons: tokens(value).filter(|token| token.is(b';')).count(), ..Reader::default() };
    for token in tokens(value) {
        reader.token(token);
    }
    reader.close();
    (reader.found, reader.lost)
}

/// `value` as one name: quotes and escapes undone, comments left out. Empty when it says nothing.
pub fn as_name(value: &[u8]) -> Vec<u8> {
    display(&tokens(value).collect::<Vec<_>>())
}

#[derive(Default)]
struct Reader<'a> {
    found: Vec<Mailbox>,
    lost: bool,
    /// Semicolons still to come: with one, a colon names a group; without, it is part of a name.
    semicolons: usize,
    in_group: bool,
    /// Text of the element so far, apart from what is in angle brackets.
    words: Vec<Token<'a>>,
    /// How many of them stood before the bracket.
    before: usize,
    /// What is in angle brackets.
    angle: Option<Vec<u8>>,
    in_angle: bool,
}

impl<'a> Reader<'a> {
    fn token(&mut self, token: Token<'a>) {
        if token.is(b';') {
            self.semicolons = self.semicolons.saturating_sub(1);
        }
        let angle = self.angle.as_mut().filter(|_| self.in_angle);
        if let Some(angle) = angle {
            let forgotten = token.is(b';') || token.is(b'<') || token.is(b',') && !angle.starts_with(b"@");
            if !forgotten {
                match token {
                    end if end.is(b'>') => self.in_angle = false,
                    filling if filling.is_filling() => {}
                    part => angle.extend_from_slice(part.text),
                }
                return;
            }
            self.in_angle = false;
        }
        if token.is(b',') || token.is(b';') {
            self.close();
            self.in_group &= !token.is(b';');
        } else if token.is(b'<') {
            if self.angle.is_some() {
                // A comma was forgotten: what stands between the brackets names the second.
                let next = self.words.split_off(self.before.min(self.words.len()));
                self.close();
                self.words = next;
            }
            self.angle = Some(Vec::new());
            self.in_angle = true;
            self.before = self.words.len();
        } else if token.is(b':') && self.semicolons > 0 && !self.in_group && self.angle.is_none() {
            self.in_group = true;
            self.words.clear();
        } else {
            self.words.push(token);
        }
    }

    /// Ends an element.
    fn close(&mut self) {
        let words = std::mem::take(&mut self.words);
        let angle = self.angle.take();
        self.in_angle = false;
        let before = std::mem::take(&mut self.before);
        if let Some(text) = angle {
            // After a route (RFC 5322 section 4.4) comes the address.
            let text = match text.starts_with(b"@") {
                true => memchr::memrchr(b':', &text).and_then(|at| text.get(at + 1..)).unwrap_or_default(),
                false => &text,
            };
            if let Some(address) = address(text) {
                let (first, last) = words.split_at_checked(before).unwrap_or((&words, &[]));
                let name = [display(first), display(last), comments(&words)].into_iter().find(|n| !n.is_empty());
                self.lost |= !display(first).is_empty() && !display(last).is_empty();
                self.found.push(Mailbox { name: name.unwrap_or_default(), address });
                return;
            }
            self.lost |= !text.is_empty();
        }
        self.bare(&words);
    }

    /// An element without brackets: the words that are addresses, the others are the name if there is one address.
    fn bare(&mut self, element: &[Token<'a>]) {
        let mut addresses = Vec::new();
        let mut others: Vec<Token<'a>> = Vec::new();
        for word in bare_words(element) {
            let text: Vec<u8> = word.iter().filter(|t| !t.is_filling()).flat_map(|t| t.text).copied().collect();
            match address(&text) {
                Some(address) => addresses.push(address),
                None if text == b"mailto" => {}
                None => others.extend(word),
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

/// The address that `text` means, freed of what is often put around it.
fn address(text: &[u8]) -> Option<String> {
    let text = decode(text);
    let plain = text.strip_prefix("mailto:").unwrap_or(&text).trim_end_matches('.');
    let quoted = plain.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    [Some(plain), quoted].into_iter().flatten().find(|address| is_address(address)).map(str::to_string)
}

/// Splits an element at blanks and at specials that no address holds. Blanks beside an `@` don't split.
fn bare_words<'a, 'b>(element: &'b [Token<'a>]) -> Vec<&'b [Token<'a>]> {
    let mut words = Vec::new();
    let (mut start, mut at) = (0, 0);
    let splits = |token: &Token<'_>| token.kind == Kind::Special && !token.is(b'.') && !token.is(b'@');
    while let Some(token) = element.get(at) {
        let mut next = at + 1;
        let mut split = splits(token);
        if token.is_filling() {
            while element.get(next).is_some_and(Token::is_filling) {
                next += 1;
            }
            let is_at = |place: Option<usize>| place.and_then(|p| element.get(p)).is_some_and(|t| t.is(b'@'));
            split = !is_at(at.checked_sub(1)) && !is_at(Some(next));
        }
        if split {
            words.extend(element.get(start..at).filter(|word| !word.is_empty()));
            words.extend(element.get(at..next));
            start = next;
        }
        at = next;
    }
    words.extend(element.get(start..).filter(|word| !word.is_empty()));
    words
}

/// The text of a name: quotes and escapes undone, blanks made single, comments left out. Empty when it says nothing.
fn display(words: &[Token<'_>]) -> Vec<u8> {
    let mut out = Vec::new();
    for token in words {
        match token.kind {
            Kind::Comment => {}
            Kind::Quoted => out.extend(unescaped(token.text)),
            Kind::Blank => out.push(b' '),
            _ => out.extend_from_slice(token.text),
        }
    }
    tidy(&out)
}

/// The text of the comments.
fn comments(words: &[Token<'_>]) -> Vec<u8> {
    let texts: Vec<_> = words.iter().filter(|t| t.kind == Kind::Comment).map(|t| unescaped(t.text)).collect();
    tidy(&texts.join(&b' '))
}

/// The inside of a quoted string or comment, without its escapes (RFC 5322 section 3.2.1).
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

/// `text` with single blanks; empty when it has neither letter nor digit.
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
