// SPDX-License-Identifier: Apache-2.0
//! Address lists (RFC 5322 section 3.4): split into elements, as they occur in headers, in SMTP commands and on command
//! lines; read tolerantly and written correctly; and whether a list is correct.

use super::{ADDRESS_LIMIT, for_header, is_address};
use crate::message::encoded::charset::decode;
use crate::message::tokens::{Token, TokenKind, is_atext, quoted, tokens, unescaped};

/// One element of a list: a mailbox, or whatever is in its place. Together the elements contain all tokens except the
/// separators and brackets between them.
#[derive(Debug, Default)]
pub(super) struct Element<'a> {
    /// Tokens outside angle brackets.
    pub(super) words: Vec<Token<'a>>,
    /// How many of them preceded the bracket.
    pub(super) before: usize,
    /// Tokens inside angle brackets.
    pub(super) angle: Option<Vec<Token<'a>>>,
    /// The bracket was not closed before the next one opened: `<Pump 3 <a@b>>`.
    pub(super) nested: bool,
    /// The words are a group name (RFC 5322 section 3.4).
    pub(super) names_group: bool,
}

/// Passes the elements of `value` to `take`, one after the other.
pub(super) fn split<'a>(value: &'a [u8], take: &mut dyn FnMut(Element<'a>)) {
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
pub(super) fn bare_words<'a, 'b>(element: &'b [Token<'a>]) -> Vec<&'b [Token<'a>]> {
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

/// The text of a word, without spaces and comments.
pub(super) fn joined(word: &[Token<'_>]) -> Vec<u8> {
    word.iter().filter(|token| !token.is_filling()).flat_map(|token| token.text).copied().collect()
}

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

/// The mailboxes in `value`, the value of From, To and similar fields, whatever it looks like: with groups, comments,
/// quoted names, semicolons instead of commas, missing brackets. Text without an address is skipped.
pub fn mailboxes(value: &[u8]) -> Vec<Mailbox> {
    read(value).0
}

/// Like [`mailboxes`]; also returns whether there was text that belongs to none of them.
pub fn read(value: &[u8]) -> (Vec<Mailbox>, bool) {
    match only_address(value) {
        Some(address) => (vec![Mailbox { name: Vec::new(), address: address.to_string() }], false),
        None => taken_apart(value),
    }
}

fn taken_apart(value: &[u8]) -> (Vec<Mailbox>, bool) {
    let (mut found, mut lost) = (Vec::new(), false);
    split(value, &mut |element| lost |= read_element(&element, &mut found));
    (found, lost)
}

/// The address that is all of `value`, alone or in brackets, as nearly all devices write it. Taking it apart would find
/// the same.
pub(super) fn only_address(value: &[u8]) -> Option<&str> {
    let value = value.trim_ascii();
    let inside = value.strip_prefix(b"<").and_then(|rest| rest.strip_suffix(b">")).unwrap_or(value);
    let is_plain = |byte: &u8| byte.is_ascii() && (is_atext(*byte) || matches!(byte, b'.' | b'@'));
    let text = std::str::from_utf8(inside).ok().filter(|text| text.bytes().all(|byte| is_plain(&byte)))?;
    (!text.ends_with('.') && is_address(text)).then_some(text)
}

/// `value` as a single name: quotes and escapes undone, comments left out. Empty if nothing remains.
pub fn as_name(value: &[u8]) -> Vec<u8> {
    display(&tokens(value).collect::<Vec<_>>())
}

/// Adds the mailboxes of an element to `found`; returns whether there was text that belongs to none of them.
fn read_element(element: &Element<'_>, found: &mut Vec<Mailbox>) -> bool {
    if element.names_group {
        return false;
    }
    let words = &element.words;
    let mut lost = false;
    if let Some(angle) = &element.angle {
        let text = joined(angle);
        // After a route (RFC 5322 section 4.4) comes the address.
        let text = match text.starts_with(b"@") {
            true => memchr::memrchr(b':', &text).and_then(|at| text.get(at + 1..)).unwrap_or_default(),
            false => &text,
        };
        if let Some(address) = address(text) {
            let (first, last) = words.split_at_checked(element.before).unwrap_or((words, &[]));
            let names = [display(first), display(last), comments(words)];
            let lost = names.iter().take(2).all(|name| !name.is_empty());
            let name = names.into_iter().find(|name| !name.is_empty()).unwrap_or_default();
            found.push(Mailbox { name, address });
            return lost;
        }
        lost = !text.is_empty();
    }
    // Without brackets, those words that are addresses; the others are the name if there is one address.
    let (mut addresses, mut others) = (Vec::new(), Vec::new());
    for word in bare_words(words) {
        let text = joined(word);
        match address(&text) {
            Some(address) => addresses.push(address),
            None if text == b"mailto" => {}
            None => others.extend(word.iter().copied()),
        }
    }
    let mut name = display(&others);
    if addresses.len() != 1 {
        lost |= !name.is_empty();
        name.clear();
    } else if name.is_empty() {
        name = comments(words);
    }
    found.extend(addresses.into_iter().map(|address| Mailbox { name: name.clone(), address }));
    lost
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

/// `text` with single spaces; empty if it has neither letters nor digits.
fn tidy(text: &[u8]) -> Vec<u8> {
    if !text.iter().any(|byte| byte.is_ascii_alphanumeric() || *byte >= 0x80) {
        return Vec::new();
    }
    let words: Vec<&[u8]> = text.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty()).collect();
    words.join(&b' ')
}

/// The contents of a correct list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct List {
    /// Number of mailboxes, including those in groups.
    pub mailboxes: usize,
    /// Whether there are groups.
    pub groups: bool,
    /// Whether all addresses are ASCII. Names may be something else.
    pub ascii: bool,
}

/// Parses `value` as an address list in the grammar of RFC 5322 sections 3.4 and 4.4; `None` if it is not one. All
/// obsolete forms except empty elements are accepted. An empty value is not a list.
pub fn check(value: &[u8]) -> Option<List> {
    let mut parts = tokens(value).filter(|token| !token.is_filling());
    let mut list = List { mailboxes: 0, groups: false, ascii: true };
    let mut in_group = false;
    loop {
        let (words, end) = words(&mut parts);
        let after = match end {
            Some(end) if end.is(b'@') && words.local => domain(&mut parts, &words, &mut list)?,
            Some(end) if end.is(b'<') && (words.count == 0 || words.phrase) => {
                angle(&mut parts, &mut list)?;
                parts.next()
            }
            Some(end) if end.is(b':') && words.phrase && !in_group => {
                (list.groups, in_group) = (true, true);
                continue;
            }
            // An empty group.
            Some(end) if end.is(b';') && in_group && words.count == 0 => Some(end),
            _ => return None,
        };
        if !goes_on(after, &mut parts, &mut in_group)? {
            return Some(list);
        }
    }
}

/// What precedes `@`, `<` or `:`.
struct Words {
    count: usize,
    /// Total size in bytes.
    length: usize,
    /// Whether it can be a local part: words with single dots between them.
    local: bool,
    /// Whether it can be a phrase: it begins with a word.
    phrase: bool,
    ascii: bool,
}

fn words<'a>(parts: &mut impl Iterator<Item = Token<'a>>) -> (Words, Option<Token<'a>>) {
    let mut all = Words { count: 0, length: 0, local: false, phrase: false, ascii: true };
    let (mut alternates, mut word_before) = (true, false);
    for token in parts {
        let is_word = matches!(token.kind, TokenKind::Atom | TokenKind::Quoted);
        if !is_word && !token.is(b'.') {
            return (all, Some(token));
        }
        alternates &= is_word != word_before;
        word_before = is_word;
        all.count += 1;
        all.length += token.text.len();
        all.phrase |= all.count == 1 && is_word;
        all.local = alternates && word_before;
        all.ascii &= token.text.is_ascii();
    }
    (all, None)
}

/// Reads the domain after `local@` and counts the mailbox; returns the token after it.
fn domain<'a>(
    parts: &mut impl Iterator<Item = Token<'a>>,
    local: &Words,
    list: &mut List,
) -> Option<Option<Token<'a>>> {
    let mut length = local.length + 1;
    let mut ascii = local.ascii;
    let after = loop {
        let label = parts.next().filter(|token| matches!(token.kind, TokenKind::Atom | TokenKind::Literal))?;
        length += label.text.len() + 1;
        ascii &= label.text.is_ascii();
        match parts.next() {
            Some(dot) if dot.is(b'.') && label.kind == TokenKind::Atom => {}
            after => break after,
        }
    };
    list.mailboxes += 1;
    list.ascii &= ascii;
    (length <= ADDRESS_LIMIT).then_some(after)
}

/// Reads the content of `<` and `>`, including an obsolete route (`@a,@b:`).
fn angle<'a>(parts: &mut impl Iterator<Item = Token<'a>>, list: &mut List) -> Option<()> {
    loop {
        let (words, end) = words(parts);
        let end = end.filter(|end| end.is(b'@'))?;
        if words.count > 0 {
            return domain(parts, &words, list)?.filter(|token| token.is(b'>')).map(|_| ());
        }
        // A route: its domain is parsed as one, but not counted as a mailbox.
        let mut uncounted = List { ..*list };
        let after = domain(parts, &words, &mut uncounted)?;
        list.ascii &= uncounted.ascii && end.text.is_ascii();
        after.filter(|token| token.is(b',') || token.is(b':'))?;
    }
}

/// Reads `after`, what follows an element: a comma, the end of its group, or the end. Returns whether another element
/// follows.
fn goes_on<'a>(
    after: Option<Token<'a>>,
    parts: &mut impl Iterator<Item = Token<'a>>,
    in_group: &mut bool,
) -> Option<bool> {
    let ends_group = *in_group && after.is_some_and(|token| token.is(b';'));
    *in_group &= !ends_group;
    match if ends_group { parts.next() } else { after } {
        Some(token) => token.is(b',').then_some(true),
        None => (!*in_group).then_some(false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn found(value: &str) -> Vec<(String, String)> {
        mailboxes(value.as_bytes())
            .into_iter()
            .map(|m| (String::from_utf8_lossy(&m.name).into_owned(), m.address))
            .collect()
    }

    #[test]
    fn correct_lists() {
        for (value, mailboxes, groups, ascii) in [
            ("a@b", 1, false, true),
            (" a@b (Name)", 1, false, true),
            (" J. Doe <a@b>,\r\n \"x, y\" <c.d@[1.2.3.4]>", 2, false, true),
            ("<a@b>", 1, false, true),
            ("A (c) <@x,@y:a@b>", 1, false, true),
            ("Ops: a@b, C <c@d>;, e@f", 3, true, true),
            ("undisclosed-recipients:;", 0, true, true),
            ("a @ b . c", 1, false, true),
            ("\"a b\"@c", 1, false, true),
            ("=?utf-8?Q?Alarm,_Halle?= <a@b>", 1, false, true),
            ("Jürgen <a@b>", 1, false, true),
            ("jürgen@b", 1, false, false),
            ("<a@bü>", 1, false, false),
        ] {
            assert_eq!(check(value.as_bytes()), Some(List { mailboxes, groups, ascii }), "{value}");
        }
        let long = format!("{}@b", "a".repeat(319));
        for bad in [
            "",
            " ",
            "a",
            "a@",
            "@b",
            "a b@c",
            "a@b c@d",
            "a@b>",
            "<a@b",
            "a@b; c@d",
            "a@b,",
            ",a@b",
            "PLC: p <a@b>",
            "a..b@c",
            "a@b..c",
            "x: y: a@b;;",
            "x: a@b",
            "a@b <c@d>",
            "<a@b> PLC",
            "<>",
            "\"a <b@c>",
            "a@b\0",
            ". <a@b>",
            &long,
        ] {
            assert_eq!(check(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn any_list_is_read() {
        for (value, expected) in [
            ("a@b", vec![("", "a@b")]),
            ("a@b (Pump (three))", vec![("Pump (three)", "a@b")]),
            ("\"P, \\\"3\\\"\" <a@b>", vec![("P, \"3\"", "a@b")]),
            ("PLC: pump 3 <a@b>", vec![("PLC: pump 3", "a@b")]),
            ("Pump 3 a@b", vec![("Pump 3", "a@b")]),
            ("a@b; c@d ;", vec![("", "a@b"), ("", "c@d")]),
            ("a@b c@d", vec![("", "a@b"), ("", "c@d")]),
            ("A <a@b> B <c@d>", vec![("A", "a@b"), ("B", "c@d")]),
            ("A <a@b, C <c@d", vec![("A", "a@b"), ("C", "c@d")]),
            ("<a@b> Pump", vec![("Pump", "a@b")]),
            ("A < a@b >", vec![("A", "a@b")]),
            ("Ops: A <a@b>, c@d; e@f", vec![("A", "a@b"), ("", "c@d"), ("", "e@f")]),
            ("<@x,@y:a@b>", vec![("", "a@b")]),
            ("a @ b", vec![("", "a@b")]),
            ("mailto:a@b", vec![("", "a@b")]),
            ("<mailto:a@b>", vec![("", "a@b")]),
            ("\"a@b\"", vec![("", "a@b")]),
            ("P <\"a@b\">, c@d.", vec![("P", "a@b"), ("", "c@d")]),
            ("\"Pump <a@b>", vec![("\"Pump", "a@b")]),
            ("a@b <>", vec![("", "a@b")]),
            ("J. a..b@c", vec![("J.", "a..b@c")]),
            ("root", vec![]),
            ("undisclosed-recipients:;", vec![]),
            ("", vec![]),
            // Obsolete blanks around the dots of a domain (RFC 5322 appendix A.6), and dots that end a sentence.
            (
                "Mary Smith <mary@x.net>, , jdoe@test   . example",
                vec![("Mary Smith", "mary@x.net"), ("", "jdoe@test.example")],
            ),
            ("a@b . c . d", vec![("", "a@b.c.d")]),
            ("a@b. c@d", vec![("", "a@b"), ("", "c@d")]),
            ("Pump failed. a@b", vec![("Pump failed.", "a@b")]),
        ] {
            let expected: Vec<_> = expected.into_iter().map(|(n, a)| (n.to_string(), a.to_string())).collect();
            assert_eq!(found(value), expected, "{value}");
        }
        assert!(read(b"root, a@b").1);
        assert!(!read(b"Pump; a@b").0.is_empty());
        assert!(!read(b"PLC: p <a@b>; c@d (x)").1);
    }

    proptest! {
        #[test]
        fn a_lone_address_needs_not_be_taken_apart(value in "[ \t]?<?[a@.=?+!q\\-]{1,4}@[a.=?_q\\-]{1,6}>?[ .\r]?") {
            prop_assert_eq!(read(value.as_bytes()), taken_apart(value.as_bytes()));
        }

        #[test]
        fn what_is_written_is_correct(value in "[\"\\\\()<>@.,;: a-c\r\n\t=?Q\u{e9}\\[\\]]{0,60}") {
            let (all, _) = read(value.as_bytes());
            if !all.is_empty() {
                let written = all.iter().map(Mailbox::write).collect::<Vec<_>>().join(&b", "[..]);
                let list = check(&written);
                prop_assert_eq!(list.map(|l| l.mailboxes), Some(all.len()), "{:?}", String::from_utf8_lossy(&written));
                let all: Vec<_> = all.iter().map(|m| Mailbox { name: m.name.clone(), address: for_header(&m.address) }).collect();
                prop_assert_eq!(&mailboxes(&written), &all, "{:?}", String::from_utf8_lossy(&written));
            }
            for mailbox in mailboxes(value.as_bytes()) {
                prop_assert!(is_address(&mailbox.address));
            }
        }

        #[test]
        fn correct_lists_are_read_whole(names in proptest::collection::vec(("[a-c. ]{0,6}", "[a-c]{1,3}(\\.[a-c]{1,2})?@[a-c]{1,3}"), 1..5)) {
            let all: Vec<Mailbox> =
                names.into_iter().map(|(n, address)| Mailbox { name: tidy(n.as_bytes()), address }).collect();
            let written = all.iter().map(Mailbox::write).collect::<Vec<_>>().join(&b",\r\n "[..]);
            prop_assert_eq!(mailboxes(&written), all);
        }

        #[test]
        fn any_bytes_can_be_read(value: Vec<u8>) {
            read(&value);
            check(&value);
        }
    }
}
