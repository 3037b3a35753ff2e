// SPDX-License-Identifier: Apache-2.0
//! The readable text of a message, as far as its beginning has one: quoted-printable and base64 decoded, the first text
//! of a message with parts.

use super::base64::decoded;
use super::encoded::{self, parameters};
use super::header::find;
use super::html;

/// Levels of nested parts that are searched.
const DEPTH_LIMIT: u32 = 4;
/// Parts at each of these levels that are checked.
const PART_LIMIT: usize = 10;

/// The encoding of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// As it is.
    Plain,
    /// RFC 2045 section 6.7.
    QuotedPrintable,
    /// RFC 2045 section 6.8.
    Base64,
}

/// The media type that `header` specifies, in lower case; empty if it cannot be read.
pub fn media(header: &[u8]) -> String {
    let kind = find(header, "Content-Type").map(|field| field.unfolded()).filter(|kind| !kind.is_empty());
    kind.map_or_else(|| "text/plain".into(), |kind| parameters::media_type(&kind).unwrap_or_default())
}

/// A parameter of Content-Type, if it is not empty.
pub fn parameter(header: &[u8], name: &str) -> Option<Vec<u8>> {
    let kind = find(header, "Content-Type")?.unfolded();
    let mut found = parameters::pieces(&kind).into_iter().skip(1).filter_map(parameters::parameter);
    found.find_map(|(key, value)| (key == name).then_some(value)).filter(|value| !value.is_empty())
}

/// The encoding that `header` specifies; `None` for an unknown one.
pub fn encoding(header: &[u8]) -> Option<Encoding> {
    let value = find(header, "Content-Transfer-Encoding").map(|field| field.unfolded()).unwrap_or_default();
    let word = value.split(|b| matches!(b, b';' | b'(' | b' ' | b'\t')).next().unwrap_or_default();
    match word.to_ascii_lowercase().as_slice() {
        b"" | b"7bit" | b"8bit" | b"binary" => Some(Encoding::Plain),
        b"quoted-printable" => Some(Encoding::QuotedPrintable),
        b"base64" => Some(Encoding::Base64),
        _ => None,
    }
}

/// Whether `header` says that its body is a file, and not part of the text.
pub fn is_file(header: &[u8]) -> bool {
    find(header, "Content-Disposition")
        .is_some_and(|field| !field.unfolded().to_ascii_lowercase().starts_with(b"inline"))
}

/// The first text of this media type in a body with `header`. `coded`: the body has the encoding that the header
/// specifies; otherwise it is stored without one, which only a single text is.
pub fn first(kind: &str, header: &[u8], body: &[u8], coded: bool) -> Option<String> {
    match coded {
        true => of_part(kind, header, body, DEPTH_LIMIT),
        false => (media(header) == kind).then(|| decode(body)),
    }
}

/// The text that a person would read: the plain one, else the HTML as text, without spaces at both ends; empty if there
/// is none. `coded` as for [`first`].
pub fn readable(header: &[u8], body: &[u8], coded: bool) -> String {
    let plain = first("text/plain", header, body, coded).filter(|text| !text.trim().is_empty());
    let text = plain.or_else(|| first("text/html", header, body, coded).map(|text| html::text(&text)));
    text.unwrap_or_default().replace("\r\n", "\n").trim().to_string()
}

fn of_part(kind: &str, header: &[u8], body: &[u8], depth: u32) -> Option<String> {
    let media = media(header);
    if media == kind {
        return Some(match encoding(header)? {
            Encoding::Plain => decode(body),
            Encoding::QuotedPrintable => decode(&quoted_printable(body)),
            Encoding::Base64 => decode(&base64(body)),
        });
    }
    let boundary = parameter(header, "boundary").filter(|_| media.starts_with("multipart/") && depth > 0)?;
    parts(body, &boundary).take(PART_LIMIT).find_map(|part| {
        let (header, body) = split(part);
        if is_file(header) { None } else { of_part(kind, header, body, depth - 1) }
    })
}

/// The parts between lines that begin with the boundary (RFC 2046 section 5.1.1); the last may be truncated.
fn parts<'a>(body: &'a [u8], boundary: &[u8]) -> impl Iterator<Item = &'a [u8]> {
    let delimiter = [b"--", boundary].concat();
    let mut rest = Some(body);
    let mut next = move || {
        let text = rest?;
        let mut at = 0;
        loop {
            let line = text.get(at..).unwrap_or_default();
            let end = memchr::memchr(b'\n', line).map_or(line.len(), |end| end + 1);
            if line.is_empty() || line.starts_with(&delimiter) {
                rest = text.get(at + end..).filter(|_| !line.is_empty());
                return text.get(..at);
            }
            at += end;
        }
    };
    // Text before the first boundary is not a part.
    next();
    std::iter::from_fn(next)
}

/// Header and body of a part.
fn split(part: &[u8]) -> (&[u8], &[u8]) {
    if let Some(body) = part.strip_prefix(b"\r\n") {
        return (b"", body);
    }
    match memchr::memmem::find(part, b"\r\n\r\n") {
        Some(at) => (part.get(..at + 2).unwrap_or_default(), part.get(at + 4..).unwrap_or_default()),
        None => (part, b""),
    }
}

/// The decoded text; a truncated last character is dropped, since otherwise all would look like another charset.
fn decode(bytes: &[u8]) -> String {
    let whole = match std::str::from_utf8(bytes) {
        Err(error) if error.error_len().is_none() => bytes.get(..error.valid_up_to()).unwrap_or_default(),
        _ => bytes,
    };
    encoded::decode(whole).into_owned()
}

/// RFC 2045 section 6.7. Invalid escapes stay as they are.
fn quoted_printable(text: &[u8]) -> Vec<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((byte, tail)) = rest.split_first() {
        rest = tail;
        match (byte, tail) {
            (b'=', [b'\r', b'\n', after @ ..] | [b'\n', after @ ..]) => rest = after,
            (b'=', [high, low, after @ ..]) => match (digit(*high), digit(*low)) {
                (Some(high), Some(low)) => {
                    out.push(high << 4 | low);
                    rest = after;
                }
                _ => out.push(b'='),
            },
            _ => out.push(*byte),
        }
    }
    out
}

/// RFC 2045 section 6.8: characters outside the alphabet are ignored, and the end may be missing.
fn base64(text: &[u8]) -> Vec<u8> {
    let end = text.iter().position(|byte| *byte == b'=').unwrap_or(text.len());
    decoded(text.get(..end).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_text_that_a_person_would_read() {
        let both = "Content-Type: multipart/alternative; boundary=b\r\n";
        let file = "Content-Type: multipart/mixed; boundary=b\r\n";
        let html = "Content-Type: text/html; charset=iso-8859-1\r\nContent-Transfer-Encoding: quoted-printable\r\n";
        for (header, body, expected) in [
            ("", "one\r\n\r\ntwo \r\n\r\n", "one\n\ntwo"),
            (html, "<p>T=FCr&nbsp;1<br>offen</p>", "Tür 1\noffen"),
            (both, "--b\r\n\r\nplain\r\n--b\r\nContent-Type: text/html\r\n\r\n<p>html</p>\r\n--b--\r\n", "plain"),
            (both, "--b\r\n\r\n \r\n--b\r\nContent-Type: text/html\r\n\r\n<p>html</p>\r\n--b--\r\n", "html"),
            (
                file,
                "--b\r\nContent-Type: text/plain\r\nContent-Disposition: attachment; filename=log.txt\r\n\r\nlog\r\n--b\r\n\r\ntext\r\n--b--\r\n",
                "text",
            ),
            (file, "--b\r\nContent-Type: image/jpeg\r\n\r\nx\r\n--b--\r\n", ""),
            ("Content-Type: text/plain; charset=iso-8859-1\r\nContent-Transfer-Encoding: base64\r\n", "w7w=", "ü"),
        ] {
            assert_eq!(readable(header.as_bytes(), body.as_bytes(), true), expected, "{header}{body}");
        }
        // A text that will be encoded on its way out.
        let header = b"Content-Transfer-Encoding: quoted-printable\r\n";
        assert_eq!(readable(header, "a=C3=BC ü".as_bytes(), false), "a=C3=BC ü");
    }

    proptest! {
        #[test]
        fn encoded_texts_are_read_back(text in "[ -~äöü€]{1,400}") {
            let text = text.trim_end();
            let mut coder = crate::message::outgoing::QuotedPrintable::default();
            let mut coded = Vec::new();
            coder.push(text.as_bytes(), &mut coded);
            coder.finish(&mut coded);
            prop_assert_eq!(quoted_printable(&coded), text.as_bytes());
            let coded = crate::message::base64(text.as_bytes());
            let lines: Vec<&str> = coded.as_bytes().chunks(76).map(|line| std::str::from_utf8(line).unwrap()).collect();
            prop_assert_eq!(base64(lines.join("\r\n").as_bytes()), text.as_bytes());
        }
    }
}
