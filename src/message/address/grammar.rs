// SPDX-License-Identifier: Apache-2.0
//! Whether a list of addresses is correct (RFC 5322 section 3.4).

use super::ADDRESS_LIMIT;
use super::tokens::{Token, TokenKind, tokens};

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
        match end {
            Some(end) if end.is(b'@') && words.local => {
                let after = domain(&mut parts, &words, &mut list)?;
                if after.is_some_and(|token| token.is(b'>')) {
                    return None;
                }
                match separator(after, &mut parts, &mut in_group)? {
                    Next::Element => {}
                    Next::End => return Some(list),
                }
            }
            Some(end) if end.is(b'<') && (words.count == 0 || words.phrase) => {
                angle(&mut parts, &mut list)?;
                let after = parts.next();
                match separator(after, &mut parts, &mut in_group)? {
                    Next::Element => {}
                    Next::End => return Some(list),
                }
            }
            Some(end) if end.is(b':') && words.phrase && !in_group => {
                list.groups = true;
                in_group = true;
            }
            // An empty group.
            Some(end) if end.is(b';') && in_group && words.count == 0 => {
                match separator(Some(end), &mut parts, &mut in_group)? {
                    Next::Element => {}
                    Next::End => return Some(list),
                }
            }
            _ => return None,
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

enum Next {
    Element,
    End,
}

/// What follows an element: a comma, the end of its group, or the end.
fn separator<'a>(
    token: Option<Token<'a>>,
    parts: &mut impl Iterator<Item = Token<'a>>,
    in_group: &mut bool,
) -> Option<Next> {
    let mut token = token;
    if *in_group && token.is_some_and(|token| token.is(b';')) {
        *in_group = false;
        token = parts.next();
    }
    match token {
        Some(token) => token.is(b',').then_some(Next::Element),
        None => (!*in_group).then_some(Next::End),
    }
}
