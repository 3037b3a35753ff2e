// SPDX-License-Identifier: Apache-2.0
//! The structure of an address list: its elements between commas and semicolons, as they occur in headers (RFC 5322
//! section 3.4), in SMTP commands and on command lines. Parsed tolerantly; [`list`](super::list) and
//! [`envelope`](super::envelope) interpret the elements.

use super::tokens::{Token, TokenKind, tokens};

/// One element of a list: a mailbox, or whatever is in its place. Together the elements contain all tokens except the
/// separators and brackets between them.
#[derive(Debug, Default)]
pub struct Element<'a> {
    /// Tokens outside angle brackets.
    pub words: Vec<Token<'a>>,
    /// How many of them preceded the bracket.
    pub before: usize,
    /// Tokens inside angle brackets.
    pub angle: Option<Vec<Token<'a>>>,
    /// The bracket was not closed before the next one opened: `<Pump 3 <a@b>>`.
    pub nested: bool,
    /// The words are a group name (RFC 5322 section 3.4).
    pub names_group: bool,
}

/// Passes the elements of `value` to `take`, one after the other.
pub fn split<'a>(value: &'a [u8], take: &mut dyn FnMut(Element<'a>)) {
    let semicolons = tokens(value).filter(|token| token.is(b';')).count();
    let mut splitter = Splitter { semicolons, in_group: false, in_angle: false, element: Element::default(), take };
    for token in tokens(value) {
        splitter.token(token);
    }
    splitter.close();
}

struct Splitter<'a, 'f> {
    /// Semicolons still to come: if there is one, a colon ends a group name; if not, it is part of a name.
    semicolons: usize,
    in_group: bool,
    in_angle: bool,
    element: Element<'a>,
    take: &'f mut dyn FnMut(Element<'a>),
}

impl<'a> Splitter<'a, '_> {
    fn token(&mut self, token: Token<'a>) {
        if token.is(b';') {
            self.semicolons = self.semicolons.saturating_sub(1);
        }
        if let Some(angle) = self.element.angle.as_mut().filter(|_| self.in_angle) {
            let forgotten = token.is(b';') || token.is(b'<') || token.is(b',') && !is_in_route(angle);
            if !forgotten {
                match token {
                    end if end.is(b'>') => self.in_angle = false,
                    part => angle.push(part),
                }
                return;
            }
            self.in_angle = false;
            self.element.nested = token.is(b'<');
        }
        let element = &mut self.element;
        if token.is(b',') || token.is(b';') {
            self.close();
            self.in_group &= !token.is(b';');
        } else if token.is(b'<') {
            if element.angle.is_some() {
                // A comma is missing: the words between the brackets name the second mailbox.
                let next = element.words.split_off(element.before.min(element.words.len()));
                self.close();
                self.element.words = next;
            }
            self.element.angle = Some(Vec::new());
            self.element.before = self.element.words.len();
            self.in_angle = true;
        } else if token.is(b':') && self.semicolons > 0 && !self.in_group && element.angle.is_none() {
            self.in_group = true;
            element.names_group = true;
            self.close();
        } else {
            element.words.push(token);
        }
    }

    /// Ends an element.
    fn close(&mut self) {
        self.in_angle = false;
        (self.take)(std::mem::take(&mut self.element));
    }
}

/// Whether `angle` is an unfinished route: its commas do not separate addresses (`<@a,@b:c@d>`).
fn is_in_route(angle: &[Token<'_>]) -> bool {
    let mut angle = angle.iter().filter(|token| !token.is_filling());
    angle.next().is_some_and(|first| first.is(b'@')) && !angle.any(|token| token.is(b':'))
}

/// Splits an element at spaces and at specials that an address cannot contain. Spaces next to an `@` do not split, nor
/// do those around a dot of a domain (`ops@test . example`, RFC 5322 section 4.4) if one precedes it: if one only
/// follows it, the dot may end a sentence.
pub fn bare_words<'a, 'b>(element: &'b [Token<'a>]) -> Vec<&'b [Token<'a>]> {
    let mut words = Vec::new();
    let (mut start, mut at) = (0, 0);
    let splits = |token: &Token<'_>| token.kind == TokenKind::Special && !token.is(b'.') && !token.is(b'@');
    while let Some(token) = element.get(at) {
        let mut next = at + 1;
        let mut split = splits(token);
        if token.is_filling() {
            while element.get(next).is_some_and(Token::is_filling) {
                next += 1;
            }
            let is_at = |place: Option<usize>| place.and_then(|p| element.get(p)).is_some_and(|t| t.is(b'@'));
            let is_dot = |place: Option<usize>| place.and_then(|p| element.get(p)).is_some_and(|t| t.is(b'.'));
            let in_domain = element.get(start..at).is_some_and(|word| word.iter().any(|token| token.is(b'@')));
            let before = at.checked_sub(2).and_then(|place| element.get(place)).is_some_and(Token::is_filling);
            let around_dot = is_dot(Some(next)) || is_dot(at.checked_sub(1)) && before;
            split = !(is_at(at.checked_sub(1)) || is_at(Some(next)) || in_domain && around_dot);
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
