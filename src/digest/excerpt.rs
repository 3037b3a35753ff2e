// SPDX-License-Identifier: Apache-2.0
//! The readable text of a message, if it is short, as a part of a digest.

use crate::message::header::find;
use crate::message::text::{self, encoding, is_file, media, parameter};
use crate::message::{BodyForm, Encode};
use crate::report::letter::{cut, one_line};

/// Bytes of a text that are shown.
pub const EXCERPT_LIMIT: usize = 2 << 10;
/// Bytes of a body that are searched for it: encoded text is up to three times as long, and parts have headers.
const RAW_LIMIT: usize = 10 << 10;
/// Bytes of a line that is written: RFC 5322 section 2.1.1 allows 998.
const LINE_LIMIT: usize = 900;
/// Charsets that can be read.
const CHARSETS: [&str; 5] = ["utf-8", "us-ascii", "iso-8859-1", "windows-1252", "ascii"];

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
    media(header) == "text/plain" && known && readable && !is_file(header) && size <= EXCERPT_LIMIT as u64
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
        let text = text::first("text/plain", &self.header, &self.raw, self.encoded).unwrap_or_default();
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
