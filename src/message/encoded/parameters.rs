// SPDX-License-Identifier: Apache-2.0
//! The parameters of Content-Type and Content-Disposition (RFC 2045 section 5.1), and their encoding (RFC 2231).

use super::charset::{Style, UTF_8, bytes_of, decode};
use super::undone;
use super::words::{encode_comment, unescape};
use crate::message::header::{LINE, fold, unfold};
use crate::message::tokens::{TokenKind, ascii_blanks, quoted, tokens, unescaped};

/// Maximum length of a media type: each half may have 127 bytes (RFC 6838 section 4.2).
const MEDIA_TYPE_LIMIT: usize = 255;
/// Maximum length of a segment of an encoded parameter value on one line, in bytes.
const PIECE: usize = 48;

/// The segments of `value` between semicolons: the type, then parameters. Semicolons in quotes and comments are
/// ignored. Instead of the first one there may be a comma, or nothing but a space: `text/html charset=utf-8`.
pub fn pieces(value: &[u8]) -> Vec<&[u8]> {
    let mut pieces = Vec::new();
    let (mut start, mut at) = (0, 0);
    let mut after_type = false;
    for token in tokens(value) {
        let end = at + token.text.len();
        let forgotten = after_type
            && pieces.is_empty()
            && (token.kind == TokenKind::Blank || token.is(b','))
            && value.get(end..).is_some_and(begins_parameter);
        if token.is(b';') || forgotten {
            pieces.extend(value.get(start..at));
            start = end;
        }
        after_type |= token.text.contains(&b'/');
        at = end;
    }
    pieces.extend(value.get(start..));
    pieces
}

/// Whether `text` begins with a name and an equals sign.
fn begins_parameter(text: &[u8]) -> bool {
    let text = text.trim_ascii_start();
    let end = text.iter().position(|byte| !byte.is_ascii_alphanumeric() && !b"-_*".contains(byte));
    end.is_some_and(|end| end > 0 && text.get(end) == Some(&b'='))
}

/// A Content-Type with its semicolon and without quotes around the type, if it lacks the one or has the others.
pub fn corrected(value: &[u8]) -> Option<Vec<u8>> {
    let kind = media_type(value)?;
    let pieces = pieces(value);
    let quoted = tokens(value).find(|token| !token.is_filling())?.kind == TokenKind::Quoted;
    if !quoted && pieces.join(&b';') == value {
        return None;
    }
    let rest = pieces.iter().skip(1).map(|piece| piece.trim_ascii());
    Some([kind.as_bytes()].into_iter().chain(rest).collect::<Vec<_>>().join(&b"; "[..]))
}

/// Type and subtype in lower case (`text/plain`); `None` if `value` does not begin with them.
pub fn media_type(value: &[u8]) -> Option<String> {
    let mut text = Vec::new();
    for token in tokens(pieces(value).first()?) {
        match token.kind {
            TokenKind::Blank | TokenKind::Comment => text.push(b' '),
            TokenKind::Quoted => text.extend(unescaped(token.text)),
            _ => text.extend_from_slice(token.text),
        }
    }
    let text = String::from_utf8(text).ok()?.to_ascii_lowercase();
    let (kind, subtype) = text.split_once('/')?;
    let is_token = |part: &str| {
        !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`{|}~".contains(&b))
    };
    let (kind, subtype) = (kind.trim(), subtype.trim());
    let fits = kind.len() + subtype.len() < MEDIA_TYPE_LIMIT;
    (fits && is_token(kind) && is_token(subtype)).then(|| format!("{kind}/{subtype}"))
}

/// Names and values of all parameters.
pub fn parameters(value: &[u8]) -> impl Iterator<Item = (String, Vec<u8>)> {
    pieces(value).into_iter().skip(1).filter_map(parameter)
}

/// The value of the parameter `name` (RFC 2045 section 5.1), if it has one. That of a charset may be encoded (RFC 2231
/// section 4); a boundary is compared with bytes that are not.
pub fn find(value: &[u8], name: &str) -> Option<Vec<u8>> {
    let mut found = parameters(value).filter_map(|(key, text)| match key.strip_prefix(name)? {
        "" => Some(text),
        "*" if name == "charset" => Some(extended(&text, None).1),
        _ => None,
    });
    found.next().filter(|text| !text.is_empty())
}

/// Name and value of a parameter, both as text, without quotes, escapes and comments.
pub fn parameter(piece: &[u8]) -> Option<(String, Vec<u8>)> {
    let (name, value) = piece.split_at_checked(memchr::memchr(b'=', piece)?)?;
    let name = ascii_blanks(name);
    let name = std::str::from_utf8(name.trim_ascii()).ok()?.to_ascii_lowercase();
    let mut text = Vec::new();
    for token in tokens(value.get(1..).unwrap_or_default()) {
        match token.kind {
            TokenKind::Comment => {}
            TokenKind::Blank if !token.text.is_ascii() => {}
            TokenKind::Quoted => text.extend(unescaped(token.text)),
            _ => text.extend_from_slice(token.text),
        }
    }
    let is_name = !name.is_empty() && name.bytes().all(|b| b.is_ascii_graphic());
    is_name.then(|| (name, unfold(&text).trim_ascii().to_vec()))
}

/// A parsed parameter segment (RFC 2231 sections 3 and 4).
struct Piece {
    /// The name without asterisks and numbers.
    base: String,
    /// Its position in a value that consists of several segments.
    section: Option<usize>,
    /// Whether the value is encoded.
    extended: bool,
    text: Vec<u8>,
}

fn piece(piece: &[u8]) -> Option<Piece> {
    let (name, text) = parameter(piece).filter(|(name, _)| name.is_ascii() && name.len() <= PIECE)?;
    let extended = name.ends_with('*');
    let plain = name.trim_end_matches('*');
    let numbered = plain.split_once('*').and_then(|(base, number)| Some((base, number.parse().ok()?)));
    let (base, section) = numbered.map_or((plain, None), |(base, number)| (base, Some(number)));
    Some(Piece { base: base.to_string(), section, extended, text })
}

/// The whole value of the parameter `base`, whatever it consists of, in encoded segments. An encoded value takes
/// precedence over a plain one of the same name (RFC 2231 section 3).
fn whole(base: &str, all: &[Option<Piece>], style: Style<'_>) -> Vec<Vec<u8>> {
    let mine = || all.iter().flatten().filter(|piece| piece.base == base);
    if let Some(one) = mine().find(|piece| piece.section.is_none() && piece.extended) {
        let (label, bytes) = extended(&one.text, None);
        return encoded(base, &label, &bytes);
    }
    let mut sections: Vec<&Piece> = mine().filter(|piece| piece.section.is_some()).collect();
    sections.sort_by_key(|piece| piece.section);
    sections.dedup_by_key(|piece| piece.section);
    if sections.iter().any(|piece| piece.extended) {
        let (mut label, mut bytes) = (None, Vec::new());
        for piece in sections {
            if piece.extended {
                let (named, more) = extended(&piece.text, label.take());
                label = Some(named);
                bytes.extend(more);
            } else {
                bytes.extend_from_slice(&piece.text);
            }
        }
        return encoded(base, &label.unwrap_or_default(), &bytes);
    }
    let text: Vec<u8> = match mine().find(|piece| piece.section.is_none()) {
        Some(one) => one.text.clone(),
        None => sections.iter().flat_map(|piece| piece.text.iter().copied()).collect(),
    };
    encoded(base, style.label, &bytes_of(&undone(&text, style.label), style.label))
}

/// Charset and bytes of an encoded value; `label` is the charset if another segment has named it.
fn extended(text: &[u8], label: Option<String>) -> (String, Vec<u8>) {
    let mut parts = text.splitn(3, |byte| *byte == b'\'');
    let (named, value) = match (label, parts.next(), parts.next(), parts.next()) {
        (None, Some(named), Some(_), Some(value)) => (String::from_utf8_lossy(named).into_owned(), value),
        (label, ..) => (label.unwrap_or_default(), text),
    };
    let bytes = unescape(value, b'%');
    let is_name =
        !named.is_empty() && named.len() <= PIECE / 2 && named.bytes().all(|b| b.is_ascii_graphic() && b != b'%');
    // A label that does not define bytes over 127 is replaced by what they are.
    if !is_name || named.eq_ignore_ascii_case("us-ascii") || named.eq_ignore_ascii_case(UTF_8) {
        return (UTF_8.into(), decode(&bytes).into_owned().into_bytes());
    }
    (named, bytes)
}

/// `value` in 7 bits; see [`super::field_value`].
pub fn encode<'a>(column: usize, value: &[u8], style: impl Into<Style<'a>>) -> Vec<u8> {
    let style = style.into();
    let line = ascii_blanks(&unfold(value));
    let pieces = pieces(&line);
    let parameters: Vec<Option<Piece>> =
        pieces.iter().enumerate().map(|(number, text)| piece(text).filter(|_| number > 0)).collect();
    let fits = |piece: &[u8]| {
        let longest = piece.split(u8::is_ascii_whitespace).map(<[u8]>::len).max().unwrap_or(0);
        piece.is_ascii() && longest <= style.word_limit
    };
    // All segments of a value are encoded if one has to be.
    let odd = |base: &str| {
        let mut both = parameters.iter().zip(&pieces);
        both.any(|(one, text)| one.as_ref().is_some_and(|one| one.base == base) && !fits(text))
    };
    let mut out: Vec<u8> = Vec::with_capacity(line.len() * 2);
    let mut width = column;
    let mut done: Vec<&str> = Vec::new();
    for (text, parameter) in pieces.iter().zip(&parameters) {
        let (plain, lines) = match parameter {
            Some(one) if done.contains(&one.base.as_str()) => continue,
            Some(one) if odd(&one.base) => {
                done.push(&one.base);
                (false, whole(&one.base, &parameters, style))
            }
            _ if fits(text) => (true, vec![text.to_vec()]),
            _ => (false, vec![without_eight_bits(text, style)]),
        };
        for text in lines {
            if out.is_empty() {
                out = fold(column, &text);
                width = column + out.len();
                continue;
            }
            out.push(b';');
            if plain && width + text.len() < LINE {
                out.extend_from_slice(&text);
                width += text.len() + 1;
            } else if !text.trim_ascii().is_empty() {
                out.extend_from_slice(b"\r\n ");
                let folded = fold(1, text.trim_ascii());
                width = 1 + folded.len();
                out.extend(folded);
            }
        }
    }
    out
}

/// `value` without comments and without what is not a parameter, each parameter on its own line: the last resort for
/// words that are too long for any line.
pub fn rebuild(value: &[u8]) -> Vec<u8> {
    let pieces = pieces(value);
    let first = tokens(pieces.first().copied().unwrap_or_default()).filter(|token| token.kind != TokenKind::Comment);
    let first: Vec<u8> = first.flat_map(|token| token.text).copied().collect();
    let mut out = [b" ", first.trim_ascii()].concat();
    let parameters: Vec<Option<Piece>> = pieces.iter().skip(1).map(|text| piece(text)).collect();
    let mut done: Vec<&str> = Vec::new();
    for one in parameters.iter().flatten() {
        if done.contains(&one.base.as_str()) {
            continue;
        }
        let single = parameters.iter().flatten().filter(|other| other.base == one.base).count() == 1;
        done.push(&one.base);
        let lines = match single && one.text.is_ascii() && one.text.len() <= PIECE && !one.extended {
            true => vec![[one.base.as_bytes(), b"=", &quoted(&one.text)].concat()],
            false => whole(&one.base, &parameters, usize::MAX.into()),
        };
        for line in lines.iter().filter(|line| line.len() < LINE * 2) {
            out.extend_from_slice(b";\r\n ");
            out.extend_from_slice(line);
        }
    }
    out
}

/// `name*=utf-8''…`, in numbered segments if it is long (RFC 2231 sections 3 and 4).
fn encoded(name: &str, label: &str, bytes: &[u8]) -> Vec<Vec<u8>> {
    let label = if label.is_empty() { UTF_8 } else { label };
    let mut parts = vec![String::new()];
    let mut start = true;
    for byte in bytes {
        // The attribute-char of RFC 2231 section 7, without the unusual ones.
        let code = if byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_') {
            char::from(*byte).to_string()
        } else {
            format!("%{byte:02X}")
        };
        // A UTF-8 character stays in one segment.
        let inner = label == UTF_8 && byte & 0xc0 == 0x80 && !start;
        let ahead = if label == UTF_8 && *byte >= 0xc0 { 9 } else { 0 };
        match parts.last_mut() {
            Some(part)
                if part.len() + code.len() + ahead <= PIECE + 9 && (inner || part.len() + code.len() <= PIECE) =>
            {
                part.push_str(&code)
            }
            _ => parts.push(code),
        }
        start = false;
    }
    let one = parts.len() == 1;
    let numbered = parts.iter().enumerate().map(|(number, part)| {
        let charset = if number == 0 { format!("{label}''") } else { String::new() };
        if one { format!("{name}*={charset}{part}") } else { format!("{name}*{number}*={charset}{part}") }
    });
    numbered.map(String::into_bytes).collect()
}

/// What is not a parameter has no encoding: comments become encoded words, other bytes over 127 question marks.
fn without_eight_bits(piece: &[u8], style: Style<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    for token in tokens(piece) {
        if token.kind == TokenKind::Comment && !token.text.is_ascii() {
            encode_comment(LINE, &token, style.label, &mut out);
        } else {
            out.extend(token.text.iter().map(|byte| if byte.is_ascii() { *byte } else { b'?' }));
        }
    }
    out
}
