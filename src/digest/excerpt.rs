// SPDX-License-Identifier: Apache-2.0
//! The readable text of a message, if it is short: quoted-printable and base64 decoded, the first text of
//! a message with parts.

use crate::message::base64::decoded;
use crate::message::encoded::{self, parameters};
use crate::message::header::find;
use crate::message::{BodyForm, Encode};
use crate::report::letter::{cut, one_line};

/// Bytes of a text that are shown.
pub const EXCERPT_LIMIT: usize = 2 << 10;
/// Bytes of a body that are searched for it: encoded text is up to three times as long, and parts have headers.
const RAW_LIMIT: usize = 10 << 10;
/// Levels of nested parts that are searched.
const DEPTH_LIMIT: u32 = 4;
/// Parts at each of these levels that are checked.
const PART_LIMIT: usize = 10;
/// Bytes of a line that is written: RFC 5322 section 2.1.1 allows 998.
const LINE_LIMIT: usize = 900;
/// Charsets that [`encoded::decode`] can read.
const CHARSETS: [&str; 5] = ["utf-8", "us-ascii", "iso-8859-1", "windows-1252", "ascii"];

/// The encoding of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Encoding {
    Plain,
    QuotedPrintable,
    Base64,
}

fn media(header: &[u8]) -> String {
    let kind = find(header, "Content-Type").map(|field| field.unfolded()).filter(|kind| !kind.is_empty());
    kind.map_or_else(|| "text/plain".into(), |kind| parameters::media_type(&kind).unwrap_or_default())
}

fn parameter(header: &[u8], name: &str) -> Option<Vec<u8>> {
    let kind = find(header, "Content-Type")?.unfolded();
    let mut found = parameters::pieces(&kind).into_iter().skip(1).filter_map(parameters::parameter);
    found.find_map(|(key, value)| (key == name).then_some(value)).filter(|value| !value.is_empty())
}

/// The encoding that `header` specifies; `None` for an unknown one.
fn encoding(header: &[u8]) -> Option<Encoding> {
    let value = find(header, "Content-Transfer-Encoding").map(|field| field.unfolded()).unwrap_or_default();
    let word = value.split(|b| matches!(b, b';' | b'(' | b' ' | b'\t')).next().unwrap_or_default();
    match word.to_ascii_lowercase().as_slice() {
        b"" | b"7bit" | b"8bit" | b"binary" => Some(Encoding::Plain),
        b"quoted-printable" => Some(Encoding::QuotedPrintable),
        b"base64" => Some(Encoding::Base64),
        _ => None,
    }
}

/// Whether a body with this header may contain a text to show.
pub fn has_text(header: &[u8]) -> bool {
    let media = media(header);
    media == "text/plain" || media.starts_with("multipart/")
}

/// Whether all of a message with this header and a body of `size` bytes is shown: plain text that is short and in
/// a supported charset, and not a file.
pub fn shows_all(header: &[u8], form: BodyForm, size: u64) -> bool {
    let charset = parameter(header, "charset").map(|name| name.to_ascii_lowercase());
    let known = charset.is_none_or(|name| CHARSETS.iter().any(|known| known.as_bytes() == name));
    let readable = form.encode == Encode::QuotedPrintable || encoding(header).is_some();
    let file = find(header, "Content-Disposition")
        .is_some_and(|field| !field.unfolded().to_ascii_lowercase().starts_with(b"inline"));
    media(header) == "text/plain" && known && readable && !file && size <= EXCERPT_LIMIT as u64
}

/// Takes a body and returns the start of its text.
#[derive(Debug)]
pub struct Excerpt {
    header: Vec<u8>,
    /// Whether the body is stored in the encoding that its header specifies.
    encoded: bool,
    /// Whether all of it is shown.
    whole: bool,
    raw: Vec<u8>,
}

impl Excerpt {
    pub(super) fn new(header: &[u8], form: BodyForm, whole: bool) -> Self {
        let fields = ["Content-Type", "Content-Transfer-Encoding"];
        let header = fields.iter().filter_map(|name| find(header, name)).map(|field| field.raw).collect::<Vec<_>>();
        let encoded = form.encode != Encode::QuotedPrintable;
        Self { header: header.concat(), encoded, whole, raw: Vec::new() }
    }

    /// Takes the next bytes of the stored body. Returns whether more are needed.
    pub fn push(&mut self, body: &[u8]) -> bool {
        let room = RAW_LIMIT.saturating_sub(self.raw.len());
        self.raw.extend_from_slice(body.get(..room).unwrap_or(body));
        self.raw.len() < RAW_LIMIT
    }

    /// The text, in lines that end with CRLF; with a last line that says so if it is truncated. Empty if there is none.
    pub fn finish(self) -> Vec<u8> {
        let text = match (self.encoded, media(&self.header).as_str()) {
            (false, "text/plain") => Some(decode(&self.raw)),
            (true, _) => text(&self.header, &self.raw, DEPTH_LIMIT),
            _ => None,
        };
        let text = text.unwrap_or_default();
        let text = text.trim_end();
        let shown = if self.whole { text } else { cut(text, EXCERPT_LIMIT) };
        let mut out = String::with_capacity(shown.len() + 64);
        for line in shown.split('\n') {
            let mut rest = line.strip_suffix('\r').unwrap_or(line);
            while rest.len() > LINE_LIMIT {
                let piece = cut(rest, LINE_LIMIT);
                out.push_str(&clean(piece));
                out.push_str("\r\n");
                rest = rest.get(piece.len()..).unwrap_or_default();
            }
            out.push_str(&clean(rest));
            out.push_str("\r\n");
        }
        if shown.is_empty() {
            return Vec::new();
        }
        if shown.len() < text.len() || (!self.whole && self.raw.len() >= RAW_LIMIT) {
            out.push_str("[continued in the attached message]\r\n");
        }
        out.into_bytes()
    }
}

/// A line without control characters; tabs become spaces.
fn clean(line: &str) -> String {
    one_line(line, line.len())
}

/// The first plain text in a body with `header`.
fn text(header: &[u8], body: &[u8], depth: u32) -> Option<String> {
    let media = media(header);
    if media == "text/plain" {
        return Some(match encoding(header)? {
            Encoding::Plain => decode(body),
            Encoding::QuotedPrintable => decode(&quoted_printable(body)),
            Encoding::Base64 => decode(&base64(body)),
        });
    }
    let boundary = parameter(header, "boundary").filter(|_| media.starts_with("multipart/") && depth > 0)?;
    parts(body, &boundary).take(PART_LIMIT).find_map(|part| {
        let (header, body) = split(part);
        text(header, body, depth - 1)
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

    const PLAIN: BodyForm = BodyForm { eight_bit: false, encode: Encode::Verbatim };

    fn excerpt(header: &str, body: &[u8]) -> String {
        let whole = shows_all(header.as_bytes(), PLAIN, body.len() as u64);
        let mut excerpt = Excerpt::new(header.as_bytes(), PLAIN, whole);
        body.chunks(3).all(|chunk| excerpt.push(chunk));
        String::from_utf8(excerpt.finish()).unwrap()
    }

    #[test]
    fn texts_of_all_kinds() {
        let parts = "Content-Type: multipart/mixed; boundary=\"b b\"\r\n";
        let inner = "Content-Type: multipart/alternative; boundary=c\r\n\r\n--c\r\nContent-Type: text/html\r\n\r\n<p>\r\n--c\r\n\r\ninner\r\n--c--\r\n";
        for (header, body, expected) in [
            ("", "one\r\n\r\ntwo\x07\r\n\r\n".to_string(), "one\r\n\r\ntwo \r\n"),
            ("", String::new(), ""),
            ("Content-Transfer-Encoding: Quoted-Printable (x)\r\n", "T=C3=BCr =\r\n1=\r\n=4".into(), "Tür 1=4\r\n"),
            ("Content-Transfer-Encoding: base64\r\n", "VMO8\r\nciAx\r\n".into(), "Tür 1\r\n"),
            ("Content-Transfer-Encoding: x-uuencode\r\n", "begin 644 x\r\n".into(), ""),
            ("Content-Type: text/html\r\n", "<p>x</p>".into(), ""),
            (parts, "preamble\r\n--b b\r\nContent-Type: image/jpeg\r\n\r\nx\r\n--b b\r\nContent-Type: text/plain\r\nContent-Transfer-Encoding: base64\r\n\r\nTW90aW9u\r\n--b b--\r\n".into(), "Motion\r\n"),
            (parts, format!("--b b\r\n{inner}\r\n--b b--\r\n"), "inner\r\n"),
            (parts, "--b b\r\n\r\ncut o".into(), "cut o\r\n"),
            (parts, "nothing".into(), ""),
        ] {
            assert_eq!(excerpt(header, body.as_bytes()), expected, "{header}{body}");
        }
        assert_eq!(excerpt("", b"St\xf6rung 5 \x80"), "Störung 5 €\r\n");
        assert_eq!(excerpt("", "ü\u{20ac}".as_bytes().split_last().unwrap().1), "ü\r\n");
    }

    #[test]
    fn long_texts_are_cut_and_say_so() {
        let out = excerpt("", "ab ü".repeat(2000).as_bytes());
        assert!(
            out.len() < EXCERPT_LIMIT + 60 && out.ends_with("\r\n[continued in the attached message]\r\n"),
            "{out}"
        );
        assert!(out.split("\r\n").all(|line| line.len() <= LINE_LIMIT));
        let just = excerpt("", "x".repeat(EXCERPT_LIMIT).as_bytes());
        assert_eq!(just.replace("\r\n", "").len(), EXCERPT_LIMIT);
    }

    #[test]
    fn what_is_shown_completely() {
        for (header, size, expected) in [
            ("", 2048, true),
            ("", 2049, false),
            ("Content-Type: text/plain; charset=\"UTF-8\"\r\nContent-Disposition: inline\r\n", 1, true),
            ("Content-Type: text/plain; charset=gb2312\r\n", 1, false),
            ("Content-Type: text/html\r\n", 1, false),
            ("Content-Type: nonsense\r\n", 1, false),
            ("Content-Transfer-Encoding: x-uue\r\n", 1, false),
            ("Content-Disposition: attachment; filename=log.txt\r\n", 1, false),
            ("Content-Type: multipart/mixed; boundary=x\r\n", 1, false),
        ] {
            assert_eq!(shows_all(header.as_bytes(), PLAIN, size), expected, "{header}");
        }
    }

    #[test]
    fn a_body_that_is_encoded_only_on_its_way_out_is_not_decoded() {
        let form = BodyForm { eight_bit: true, encode: Encode::QuotedPrintable };
        let mut excerpt = Excerpt::new(b"Content-Transfer-Encoding: quoted-printable\r\n", form, true);
        excerpt.push("a=C3=BC ü".as_bytes());
        assert_eq!(excerpt.finish(), "a=C3=BC ü\r\n".as_bytes());
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

        #[test]
        fn any_message_has_an_excerpt(
            body: Vec<u8>,
            lines in "(--b(--)?\r\n|\r\n|Content-Type: (text/plain|multipart/mixed; boundary=b)\r\n|Content-Transfer-Encoding: base64\r\n|=|ü|text ){0,30}",
            header in "(Content-Type: (text/plain|multipart/mixed; boundary=b)\r\n)?(Content-Transfer-Encoding: (base64|quoted-printable)\r\n)?",
        ) {
            for body in [body.as_slice(), lines.as_bytes()] {
                let out = excerpt(&header, body);
                prop_assert!(out.is_empty() || out.ends_with("\r\n"));
                prop_assert!(out.split("\r\n").all(|line| line.len() <= 998 && !line.contains(char::is_control)));
            }
        }
    }
}
