//! The parameters of Content-Type and Content-Disposition (RFC 2045 section 5.1), and their encoding (RFC 2231).

use super::charset::decode;
use super::fold::{LINE, fold, unfold};
use super::words::encode as encode_words;
use crate::message::address::list::{quoted, unescaped};
use crate::message::address::tokens::{Kind, tokens};

/// Bytes of a piece of an encoded parameter's value on one line.
const PIECE: usize = 48;

/// The pieces of `value` between semicolons: the type, then parameters. Semicolons in quotes and comments don't count.
pub fn pieces(value: &[u8]) -> Vec<&[u8]> {
    let mut pieces = Vec::new();
    let (mut start, mut at) = (0, 0);
    for token in tokens(value) {
        let end = at + token.text.len();
        if token.is(b';') {
            pieces.extend(value.get(start..at));
            start = end;
        }
        at = end;
    }
    pieces.extend(value.get(start..));
    pieces
}

/// Type and subtype in small letters (`text/plain`); `None` when `value` doesn't begin with them.
pub fn media_type(value: &[u8]) -> Option<String> {
    let mut text = Vec::new();
    for token in tokens(pieces(value).first()?) {
        text.extend_from_slice(if token.is_filling() { b" " } else { token.text });
    }
    let text = String::from_utf8(text).ok()?.to_ascii_lowercase();
    let (kind, subtype) = text.split_once('/')?;
    let is_token = |part: &str| {
        !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`{|}~".contains(&b))
    };
    let (kind, subtype) = (kind.trim(), subtype.trim());
    (is_token(kind) && is_token(subtype)).then(|| format!("{kind}/{subtype}"))
}

/// Name and value of a parameter, both as text: quotes, escapes and comments are gone.
pub fn parameter(piece: &[u8]) -> Option<(String, Vec<u8>)> {
    let (name, value) = piece.split_at_checked(memchr::memchr(b'=', piece)?)?;
    let name = std::str::from_utf8(name.trim_ascii()).ok()?.to_ascii_lowercase();
    let mut text = Vec::new();
    for token in tokens(value.get(1..).unwrap_or_default()) {
        match token.kind {
            Kind::Comment => {}
            Kind::Quoted => text.extend(unescaped(token.text)),
            _ => text.extend_from_slice(token.text),
        }
    }
    let is_name = !name.is_empty() && name.bytes().all(|b| b.is_ascii_graphic());
    is_name.then(|| (name, unfold(&text).trim_ascii().to_vec()))
}

/// `value` in seven bits; see [`super::field_value`].
pub fn encode(column: usize, value: &[u8], word_limit: usize) -> Vec<u8> {
    let line = unfold(value);
    let mut out: Vec<u8> = Vec::with_capacity(line.len() * 2);
    let mut width = column;
    for (number, piece) in pieces(&line).into_iter().enumerate() {
        let longest = piece.split(u8::is_ascii_whitespace).map(<[u8]>::len).max().unwrap_or(0);
        let plain = piece.is_ascii() && longest <= word_limit;
        let lines = match parameter(piece) {
            _ if plain => vec![piece.to_vec()],
            Some((name, text)) if number > 0 && name.is_ascii() && name.len() <= PIECE => {
                encoded(&name, &decode(&text))
            }
            _ => vec![without_eight_bits(piece)],
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

/// `value` without its comments and without what is no parameter, all parameters on lines of their own: what is left to
/// do when words are too long for any line.
pub fn rebuild(value: &[u8]) -> Vec<u8> {
    let pieces = pieces(value);
    let first = pieces.first().map(|first| without_comments(first)).unwrap_or_default();
    let mut out = [b" ", first.trim_ascii()].concat();
    for (name, text) in pieces.iter().skip(1).filter_map(|piece| parameter(piece)) {
        let lines = match text.is_ascii() && text.len() <= PIECE {
            true => vec![[name.as_bytes(), b"=", &quoted(&text)].concat()],
            false if name.len() <= PIECE => encoded(&name, &decode(&text)),
            false => continue,
        };
        for line in lines.iter().filter(|line| line.len() < LINE * 2) {
            out.extend_from_slice(b";\r\n ");
            out.extend_from_slice(line);
        }
    }
    out
}

fn without_comments(piece: &[u8]) -> Vec<u8> {
    tokens(piece).filter(|token| token.kind != Kind::Comment).flat_map(|token| token.text).copied().collect()
}

/// `name*=utf-8''…`, in numbered pieces when it is long (RFC 2231 sections 3 and 4).
fn encoded(name: &str, text: &str) -> Vec<Vec<u8>> {
    let name = name.trim_end_matches('*');
    let mut parts = vec![String::new()];
    for c in text.chars() {
        let mut bytes = [0; 4];
        let mut code = String::new();
        for byte in c.encode_utf8(&mut bytes).bytes() {
            // The attribute-char of RFC 2231 section 7, less the odd ones.
            if byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_') {
                code.push(char::from(byte));
            } else {
                code.push_str(&format!("%{byte:02X}"));
            }
        }
        match parts.last_mut() {
            Some(part) if part.len() + code.len() <= PIECE => part.push_str(&code),
            _ => parts.push(code),
        }
    }
    let one = parts.len() == 1;
    let numbered = parts.iter().enumerate().map(|(number, part)| {
        let charset = if number == 0 { "utf-8''" } else { "" };
        if one { format!("{name}*={charset}{part}") } else { format!("{name}*{number}*={charset}{part}") }
    });
    numbered.map(String::into_bytes).collect()
}

/// What is no parameter has no encoding: comments become encoded words, other bytes over 127 question marks.
fn without_eight_bits(piece: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    for token in tokens(piece) {
        if token.kind == Kind::Comment && !token.text.is_ascii() {
            out.push(b'(');
            encode_words(LINE, &decode(&unescaped(token.text)), &mut out);
            out.push(b')');
        } else {
            out.extend(token.text.iter().map(|byte| if byte.is_ascii() { *byte } else { b'?' }));
        }
    }
    out
}
