// SPDX-License-Identifier: Apache-2.0
//! The lexical tokens of structured fields (RFC 5322 section 3.2), parsed tolerantly, and text as a quoted string.

/// The kind of a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenKind {
    /// Spaces and folding.
    Blank,
    /// Bytes of atoms (RFC 5322 section 3.2.3), including bytes over 127 (RFC 6532 section 3.2).
    Atom,
    /// A quoted string with its quotes.
    Quoted,
    /// A comment with its brackets and all nested comments.
    Comment,
    /// A domain literal with its brackets.
    Literal,
    /// One byte that is none of these, for instance a dot.
    Special,
}

/// A token of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Token<'a> {
    /// Its kind.
    pub kind: TokenKind,
    /// Its bytes as written.
    pub text: &'a [u8],
}

impl Token<'_> {
    /// Whether it is the special character `byte`.
    pub fn is(&self, byte: u8) -> bool {
        self.kind == TokenKind::Special && self.text == [byte]
    }

    /// Whether it has no meaning in the grammar: spaces and comments (CFWS).
    pub fn is_filling(&self) -> bool {
        matches!(self.kind, TokenKind::Blank | TokenKind::Comment)
    }
}

/// The tokens of `value`. Concatenated they are the value, whatever it contains.
///
/// A bracket or quote that is never closed is a [`TokenKind::Special`], and so are all of the same kind after it: each
/// byte is examined a bounded number of times.
pub fn tokens(value: &[u8]) -> impl Iterator<Item = Token<'_>> {
    let mut rest = value;
    let (mut quotes, mut comments, mut literals) = (true, true, true);
    std::iter::from_fn(move || {
        let first = *rest.first()?;
        let (kind, length) = match first {
            b'"' if quotes => closed(rest, b'"', &mut quotes).map(|length| (TokenKind::Quoted, length)),
            b'[' if literals => closed(rest, b']', &mut literals).map(|length| (TokenKind::Literal, length)),
            b'(' if comments => closed(rest, b')', &mut comments).map(|length| (TokenKind::Comment, length)),
            _ if is_blank(first) => Some((TokenKind::Blank, run(rest, is_blank))),
            _ if is_atext(first) => {
                let atom = rest.get(..run(rest, is_atext)).unwrap_or_default();
                Some(match (encoded_word(rest), odd_blanks(atom)) {
                    (Some(length), _) => (TokenKind::Atom, length),
                    (None, (0, end)) => (TokenKind::Atom, end),
                    (None, (start, _)) => (TokenKind::Blank, start),
                })
            }
            _ => None,
        }
        .unwrap_or((TokenKind::Special, 1));
        let (text, tail) = rest.split_at_checked(length)?;
        rest = tail;
        Some(Token { kind, text })
    })
}

/// Whether `byte` may be in an atom.
pub fn is_atext(byte: u8) -> bool {
    // Not `contains`, which is a search for every byte.
    matches!(byte, b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | 0x80.. | b'!' | b'#'..=b'\'' | b'*' | b'+' | b'-' | b'/')
        || matches!(byte, b'=' | b'?' | b'^'..=b'`' | b'{'..=b'~')
}

fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | b'\n')
}

/// Whether `c` is a space that is not ASCII, such as the no-break space, or one without a width.
pub fn is_odd_blank(c: char) -> bool {
    !c.is_ascii() && (c.is_whitespace() || matches!(c, '\u{200b}' | '\u{feff}'))
}

/// `value` with an ASCII space for each run of other spaces between tokens.
pub fn ascii_blanks(value: &[u8]) -> Vec<u8> {
    let odd = |token: &Token<'_>| token.kind == TokenKind::Blank && !token.text.is_ascii();
    tokens(value).flat_map(|token| if odd(&token) { b" " } else { token.text }).copied().collect()
}

/// Where the spaces that are not ASCII at the start of `atom` end, and where those at its end begin. They come from
/// editors, and separate like others; within an atom they may belong to a name. Text that is not UTF-8 may have the
/// no-break space of most charsets with one byte per character.
fn odd_blanks(atom: &[u8]) -> (usize, usize) {
    if atom.is_ascii() {
        return (0, atom.len());
    }
    match std::str::from_utf8(atom) {
        Ok(text) => {
            (text.len() - text.trim_start_matches(is_odd_blank).len(), text.trim_end_matches(is_odd_blank).len())
        }
        Err(_) => {
            let text = |byte: &u8| *byte != 0xa0;
            (atom.iter().position(text).unwrap_or(atom.len()), atom.iter().rposition(text).map_or(0, |at| at + 1))
        }
    }
}

fn run(text: &[u8], is_in: fn(u8) -> bool) -> usize {
    text.iter().position(|byte| !is_in(*byte)).unwrap_or(text.len())
}

/// Length of what begins with a bracket or quote and ends with the first unescaped `end`. Comments nest.
fn closed(text: &[u8], end: u8, possible: &mut bool) -> Option<usize> {
    let (mut depth, mut escaped) = (1usize, false);
    for (at, byte) in text.iter().enumerate().skip(1) {
        match *byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            byte if byte == end && depth == 1 => return Some(at + 1),
            b')' if end == b')' => depth -= 1,
            b'(' if end == b')' => depth += 1,
            _ => {}
        }
    }
    *possible = false;
    None
}

/// Length of the encoded word at the start of `text` (RFC 2047 section 2). Real ones contain bytes that an atom must
/// not contain, and are longer than 75 bytes.
pub fn encoded_word(text: &[u8]) -> Option<usize> {
    loose_encoded_word(text).filter(|length| text.iter().take(*length).all(u8::is_ascii_graphic))
}

/// Like [`encoded_word`], but there may be spaces and bytes over 127 in its text: some programs forget to encode them.
/// Looks no further than the third question mark, so that each byte is examined a few times.
pub fn loose_encoded_word(text: &[u8]) -> Option<usize> {
    let [b'=', b'?', ..] = text else { return None };
    let mut marks = text.iter().enumerate().skip(2).filter(|(_, byte)| **byte == b'?').map(|(at, _)| at);
    let (charset, encoding, end) = (marks.next()?, marks.next()?, marks.next()?);
    let word = text.get(..end + 2)?;
    let is_one = charset > 2
        && encoding == charset + 2
        && word.ends_with(b"=")
        && word.iter().take(encoding).all(u8::is_ascii_graphic)
        && !word.iter().any(u8::is_ascii_control);
    is_one.then_some(word.len())
}

/// Whether `word` is an encoded word and nothing else.
pub fn is_encoded_word(word: &[u8]) -> bool {
    encoded_word(word) == Some(word.len())
}

/// `text` as a quoted string (RFC 5322 section 3.2.4). Encoded words in it stay outside the quotes, where they are
/// valid.
pub fn quoted(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len() + 2);
    let mut open = false;
    for word in text.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty()) {
        let plain = !is_encoded_word(word);
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn kinds(value: &str) -> Vec<(TokenKind, &str)> {
        tokens(value.as_bytes()).map(|t| (t.kind, std::str::from_utf8(t.text).unwrap())).collect()
    }

    #[test]
    fn every_kind() {
        use TokenKind::*;
        assert_eq!(
            kinds(r#""a \" b" (c (d\)) e) <f.g@[1.2]>"#),
            [
                (Quoted, r#""a \" b""#),
                (Blank, " "),
                (Comment, r"(c (d\)) e)"),
                (Blank, " "),
                (Special, "<"),
                (Atom, "f"),
                (Special, "."),
                (Atom, "g"),
                (Special, "@"),
                (Literal, "[1.2]"),
                (Special, ">"),
            ]
        );
        assert_eq!(kinds("=?utf-8?Q?a,_(b?=c"), [(Atom, "=?utf-8?Q?a,_(b?="), (Atom, "c")]);
        assert_eq!(kinds("=?a?"), [(Atom, "=?a?")]);
        assert_eq!(
            kinds("\u{a0}a\u{3000}b\u{2003}\u{a0};\u{85}"),
            [(Blank, "\u{a0}"), (Atom, "a\u{3000}b"), (Blank, "\u{2003}\u{a0}"), (Special, ";"), (Blank, "\u{85}")]
        );
        let latin: Vec<_> = tokens(b"\xa01.0\xa0").map(|token| token.kind).collect();
        assert_eq!(latin, [Blank, Atom, Special, Atom, Blank]);
    }

    #[test]
    fn what_is_not_closed_is_special() {
        use TokenKind::*;
        assert_eq!(kinds("\"a"), [(Special, "\""), (Atom, "a")]);
        assert_eq!(kinds("(a(b)"), [(Special, "("), (Atom, "a"), (Special, "("), (Atom, "b"), (Special, ")")]);
    }

    #[test]
    fn names_are_quoted() {
        assert_eq!(quoted(b"a \"b\" \\"), b"\"a \\\"b\\\" \\\\\"");
        assert_eq!(quoted(b"a =?utf-8?Q?b?= =?utf-8?Q?c?= d"), b"\"a\" =?utf-8?Q?b?= =?utf-8?Q?c?= \"d\"");
    }

    proptest! {
        #[test]
        fn nothing_is_lost(value: Vec<u8>) {
            let all: Vec<u8> = tokens(&value).flat_map(|t| t.text.to_vec()).collect();
            prop_assert_eq!(all, value);
        }

        #[test]
        fn nothing_is_lost_in_dense_input(value in "[\"\\\\()\\[\\]<>@. =?a,]{0,40}") {
            let all: Vec<u8> = tokens(value.as_bytes()).flat_map(|t| t.text.to_vec()).collect();
            prop_assert_eq!(all, value.as_bytes());
        }
    }
}
