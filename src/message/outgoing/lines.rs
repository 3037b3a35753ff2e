// SPDX-License-Identifier: Apache-2.0
//! Bodies in lines that SMTP allows, as streams: long lines broken where nothing depends on it, quoted-printable and
//! base64 written and fixed (RFC 2045 sections 6.7 and 6.8).

use crate::message::base64;
use crate::message::encoded::words::escape;
use crate::message::header::LINE_LIMIT;

/// Bytes in one line of base64, 76 characters (RFC 2045 section 6.8).
const ROW: usize = 57;
/// Columns at which overlong base64 lines are broken: a multiple of four, as each line is.
const CODE_WIDTH: usize = 988;
/// Maximum length of a line of quoted-printable, without its CRLF: rule 5 of RFC 2045 section 6.7.
const WIDTH: usize = 76;
/// Bytes of lookahead needed to encode a byte: `From ` is the longest sequence that is checked.
const AHEAD: usize = 5;
/// Where [`Patch`] breaks a line; one more escape may follow. SMTP allows 998 bytes.
const PATCH_WIDTH: usize = 900;

/// The position of the first CRLF.
pub fn crlf(text: &[u8]) -> Option<usize> {
    memchr::memchr_iter(b'\n', text).filter_map(|lf| lf.checked_sub(1)).find(|cr| text.get(*cr) == Some(&b'\r'))
}

/// Breaks overlong lines: after a space if there is one, and never within a UTF-8 character. For text that no program
/// reads; no new line looks like a boundary.
#[derive(Debug, Default)]
pub struct Wrap {
    /// The start of a line whose end is not known yet.
    held: Vec<u8>,
}

impl Wrap {
    /// Appends `text` to `out`, up to the start of a line that may be too long.
    pub fn push(&mut self, text: &[u8], out: &mut Vec<u8>) {
        self.held.extend_from_slice(text);
        let held = std::mem::take(&mut self.held);
        let mut rest = &held[..];
        loop {
            // The longest line that may stay, with its CRLF.
            let (window, whole) = match rest.get(..LINE_LIMIT + 2) {
                Some(window) => (window, true),
                None => (rest, false),
            };
            let (taken, broken) = match crlf(window) {
                Some(at) => (at + 2, false),
                None if whole => (break_at(window), true),
                None => break,
            };
            let Some((line, tail)) = rest.split_at_checked(taken) else { break };
            out.extend_from_slice(line);
            rest = tail;
            if broken {
                out.extend_from_slice(line_break(rest));
            }
        }
        self.held = rest.to_vec();
    }

    /// Appends the rest.
    pub fn finish(&mut self, out: &mut Vec<u8>) {
        // One byte over the limit may be held back, in case it is a CR.
        let held = std::mem::take(&mut self.held);
        match held.split_at_checked(break_at(&held)) {
            Some((line, rest)) if held.len() > LINE_LIMIT && crlf(&held).is_none() => {
                out.extend_from_slice(line);
                out.extend_from_slice(line_break(rest));
                out.extend_from_slice(rest);
            }
            _ => out.extend_from_slice(&held),
        }
    }
}

/// What to insert as the line break before `rest`: with a space where a boundary could begin.
fn line_break(rest: &[u8]) -> &'static [u8] {
    if rest.starts_with(b"-") { b"\r\n " } else { b"\r\n" }
}

/// Breaks overlong base64 lines, which changes nothing (RFC 2045 section 6.8: line breaks are ignored), and replaces
/// stray 8-bit bytes by question marks, which are ignored too.
#[derive(Debug, Default)]
pub struct Code {
    column: usize,
}

impl Code {
    /// Appends `text` to `out`.
    pub fn push(&mut self, text: &[u8], out: &mut Vec<u8>) {
        for &byte in text {
            if matches!(byte, b'\r' | b'\n') {
                self.column = 0;
            } else {
                if self.column >= CODE_WIDTH {
                    out.extend_from_slice(line_break(&[byte]));
                    self.column = 0;
                }
                self.column += 1;
            }
            out.push(if byte.is_ascii() { byte } else { b'?' });
        }
    }
}

/// Number of bytes that stay on an overlong line.
fn break_at(line: &[u8]) -> usize {
    let most = line.get(..LINE_LIMIT).unwrap_or(line);
    // A word that fills half a line is broken itself.
    if let Some(blank) = memchr::memrchr2(b' ', b'\t', most).filter(|at| *at >= LINE_LIMIT / 2) {
        return blank + 1;
    }
    // A UTF-8 character has at most three bytes after its first. If there are more, it is not UTF-8.
    let is_inner = |at: usize| line.get(at).is_some_and(|byte| byte & 0xc0 == 0x80);
    (most.len().saturating_sub(3)..=most.len()).rev().find(|at| !is_inner(*at)).unwrap_or(most.len())
}

/// Base64 in lines of 76 characters, with CRLF between them and none after the last.
#[derive(Debug, Default)]
pub struct Base64Lines {
    /// Bytes of an incomplete line.
    held: Vec<u8>,
    /// Whether there already is a line.
    started: bool,
}

impl Base64Lines {
    /// Appends the complete lines that `bytes` produce to `out`.
    pub fn push(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        self.held.extend_from_slice(bytes);
        self.rows(self.held.len() / ROW * ROW, out);
    }

    /// Appends the last line.
    pub fn finish(&mut self, out: &mut Vec<u8>) {
        self.rows(self.held.len(), out);
    }

    /// Appends the first `length` bytes that are held.
    fn rows(&mut self, length: usize, out: &mut Vec<u8>) {
        let rows: Vec<u8> = self.held.drain(..length).collect();
        for row in rows.chunks(ROW) {
            if std::mem::replace(&mut self.started, true) {
                out.extend_from_slice(b"\r\n");
            }
            out.extend_from_slice(base64(row).as_bytes());
        }
    }
}

/// Encodes a text whose lines end with CRLF as quoted-printable. A bare CR or LF is content and is escaped.
#[derive(Debug, Default)]
pub struct QuotedPrintable {
    /// Not encoded yet, because it depends on what follows.
    held: Vec<u8>,
    /// Bytes on the current output line.
    column: usize,
}

impl QuotedPrintable {
    /// Appends the encoded `text` to `out`, up to some bytes that depend on what follows.
    pub fn push(&mut self, text: &[u8], out: &mut Vec<u8>) {
        self.held.extend_from_slice(text);
        self.code(AHEAD, out);
    }

    /// Appends the encoded rest.
    pub fn finish(&mut self, out: &mut Vec<u8>) {
        self.code(1, out);
    }

    /// Appends the encoded rest, and ends its last line if it is not ended, without changing the text.
    pub fn finish_line(&mut self, out: &mut Vec<u8>) {
        // These are the last bytes of the text: they are held as long as they may depend on others.
        if !self.held.is_empty() && !self.held.ends_with(b"\r\n") {
            // Something follows: the soft line break.
            self.held.push(b'=');
            self.code(2, out);
            self.held.clear();
            out.extend_from_slice(b"=\r\n");
        }
    }

    /// Encodes while at least `ahead` bytes are available.
    fn code(&mut self, ahead: usize, out: &mut Vec<u8>) {
        let mut held = std::mem::take(&mut self.held);
        let mut rest = &held[..];
        while rest.len() >= ahead {
            if let Some(next_line) = rest.strip_prefix(b"\r\n") {
                out.extend_from_slice(b"\r\n");
                self.column = 0;
                rest = next_line;
            } else if let Some((byte, tail)) = rest.split_first() {
                self.byte(*byte, tail, out);
                rest = tail;
            }
        }
        let left = rest.len();
        held.drain(..held.len() - left);
        self.held = held;
    }

    /// Encodes one byte, followed by `tail`.
    fn byte(&mut self, byte: u8, tail: &[u8], out: &mut Vec<u8>) {
        let ends_line = tail.is_empty() || tail.starts_with(b"\r\n");
        let mut plain = self.is_plain(byte, tail, ends_line);
        // A line that continues needs its last column for the "=".
        let room = if ends_line { WIDTH } else { WIDTH - 1 };
        if self.column + if plain { 1 } else { 3 } > room {
            out.extend_from_slice(b"=\r\n");
            self.column = 0;
            plain = self.is_plain(byte, tail, ends_line);
        }
        if plain {
            out.push(byte);
            self.column += 1;
        } else {
            out.extend(escape(byte));
            self.column += 3;
        }
    }

    /// Whether `byte` may be written as it is. At the start of a line, some bytes are escaped although they need not
    /// be: dots and `From ` may be damaged in transit (RFC 2049 section 3), and two hyphens could be mistaken for the
    /// end of a part.
    fn is_plain(&self, byte: u8, tail: &[u8], ends_line: bool) -> bool {
        match byte {
            b' ' | b'\t' => !ends_line,
            b'=' => false,
            b'.' => self.column > 0,
            b'F' => self.column > 0 || !tail.starts_with(b"rom "),
            b'-' => self.column > 0 || !tail.starts_with(b"-"),
            _ => byte.is_ascii_graphic(),
        }
    }
}

/// Fixes a text that is already quoted-printable: stray 8-bit bytes are escaped, overlong lines get soft line breaks,
/// never within an escape. Everything else stays.
#[derive(Debug, Default)]
pub struct Patch {
    /// Bytes on the current output line.
    column: usize,
    /// Bytes that still belong to an escape in the text.
    escaped: u8,
}

impl Patch {
    /// Appends the fixed `text` to `out`.
    pub fn push(&mut self, text: &[u8], out: &mut Vec<u8>) {
        for &byte in text {
            let line_end = matches!(byte, b'\r' | b'\n');
            let broken = self.column >= PATCH_WIDTH && self.escaped == 0 && !line_end;
            if broken {
                out.extend_from_slice(b"=\r\n");
                self.column = 0;
            }
            // A byte with a meaning at the start of a line was not there before.
            if broken && matches!(byte, b'-' | b'F' | b'.') {
                out.extend(escape(byte));
                self.column = 3;
                continue;
            }
            self.escaped = match byte {
                b'=' => 2,
                _ if line_end => 0,
                _ => self.escaped.saturating_sub(1),
            };
            if byte.is_ascii() {
                out.push(byte);
                self.column = if line_end { 0 } else { self.column + 1 };
            } else {
                out.extend(escape(byte));
                self.column += 3;
            }
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use proptest::prelude::*;

    fn wrapped(pieces: &[&[u8]]) -> Vec<u8> {
        let (mut wrap, mut out) = (Wrap::default(), Vec::new());
        pieces.iter().for_each(|piece| wrap.push(piece, &mut out));
        wrap.finish(&mut out);
        out
    }

    fn coded(pieces: &[&[u8]]) -> String {
        let (mut coder, mut out) = (Base64Lines::default(), Vec::new());
        pieces.iter().for_each(|piece| coder.push(piece, &mut out));
        coder.finish(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn lines_that_fit_stay() {
        for length in [0, 1, 997, 998] {
            let text = [&vec![b'x'; length][..], b"\r\nnext\r\n"].concat();
            assert_eq!(wrapped(&[&text]), text);
            assert_eq!(wrapped(&[&vec![b'x'; length]]), vec![b'x'; length]);
        }
    }

    #[test]
    fn long_lines_are_broken_where_it_hurts_least() {
        let blank = format!("{} {}\r\n", "x".repeat(900), "y".repeat(200));
        assert_eq!(wrapped(&[blank.as_bytes()]), blank.replace(' ', " \r\n").into_bytes());
        let early = format!("a {}\r\n", "y".repeat(1200));
        assert_eq!(
            wrapped(&[early.as_bytes()]),
            format!("a {}\r\n{}\r\n", "y".repeat(996), "y".repeat(204)).into_bytes()
        );
        let umlauts = "x".to_string() + &"ä".repeat(600);
        let out = String::from_utf8(wrapped(&[umlauts.as_bytes()])).unwrap();
        assert_eq!(out.find("\r\n"), Some(997));
        assert_eq!(wrapped(&[&[0xe4; 999]]), [&[0xe4; 998][..], b"\r\n\xe4"].concat());
        let bytes = wrapped(&[&[0xa4; 1000]]);
        assert_eq!(crlf(&bytes), Some(998), "no UTF-8: broken anywhere");
        assert_eq!(wrapped(&[&[b'x'; 999]]), [&[b'x'; 998][..], b"\r\nx"].concat());
        assert_eq!(wrapped(&[&[b'x'; 999], b"\r\n"]), [&[b'x'; 998][..], b"\r\nx\r\n"].concat());
    }

    #[test]
    fn base64_has_full_lines_and_no_last_line_end() {
        assert_eq!(coded(&[]), "");
        assert_eq!(coded(&[b"foo", b"b"]), "Zm9vYg==");
        assert_eq!(coded(&[&[0; 57]]), "A".repeat(76));
        assert_eq!(coded(&[&[0; 58]]), format!("{}\r\nAA==", "A".repeat(76)));
    }

    fn quoted_printable(pieces: &[&[u8]]) -> String {
        let (mut coder, mut out) = (QuotedPrintable::default(), Vec::new());
        pieces.iter().for_each(|piece| coder.push(piece, &mut out));
        coder.finish(&mut out);
        String::from_utf8(out).unwrap()
    }

    /// A decoder by the letter of RFC 2045: anything that it forbids is a panic.
    pub(in super::super) fn quoted_printable_decoded(text: &str) -> Vec<u8> {
        let mut out = Vec::new();
        let mut lines = text.split("\r\n").peekable();
        while let Some(line) = lines.next() {
            assert!(line.len() <= 76, "line too long: {line}");
            assert!(!line.ends_with([' ', '\t']), "blank at the end: {line:?}");
            let mut chars = line.bytes();
            let mut soft = false;
            while let Some(byte) = chars.next() {
                assert!(!soft, "text behind a soft break");
                if byte != b'=' {
                    assert!(matches!(byte, b' ' | b'\t' | b'!'..=b'~'), "byte {byte} in the open");
                    out.push(byte);
                } else if chars.len() == 0 {
                    soft = true;
                } else {
                    let digits: String = chars.by_ref().take(2).map(char::from).collect();
                    assert!(!digits.contains(|c: char| c.is_ascii_lowercase()));
                    out.push(u8::from_str_radix(&digits, 16).unwrap());
                }
            }
            if !soft && lines.peek().is_some() {
                out.extend_from_slice(b"\r\n");
            }
        }
        out
    }

    #[test]
    fn what_must_be_escaped_is() {
        let cases: &[(&[u8], &str)] = &[
            (b"plain text\r\n", "plain text\r\n"),
            (b"a=b\r\n", "a=3Db\r\n"),
            ("Tür\r\n".as_bytes(), "T=C3=BCr\r\n"),
            (b"blank \r\ntab\t\r\n  x\r\n", "blank=20\r\ntab=09\r\n  x\r\n"),
            (b"end ", "end=20"),
            (b"\0\x7f\x0c", "=00=7F=0C"),
            (b"a\rb\nc\r\r\n", "a=0Db=0Ac=0D\r\n"),
            (b".\r\n..a.\r\n", "=2E\r\n=2E.a.\r\n"),
            (b"From me\r\nFrom\r\n From \r\n", "=46rom me\r\nFrom\r\n From=20\r\n"),
            (b"--part\r\n-\r\n- -- x\r\n", "=2D-part\r\n-\r\n- -- x\r\n"),
        ];
        for (plain, code) in cases {
            assert_eq!(quoted_printable(&[plain]), *code);
        }
    }

    #[test]
    fn a_last_line_is_ended_softly() {
        for length in 0..160 {
            let text = "x".repeat(length) + "\n";
            let (mut coder, mut out) = (QuotedPrintable::default(), Vec::new());
            coder.push(text.as_bytes(), &mut out);
            coder.finish_line(&mut out);
            coder.finish(&mut out);
            assert!(out.ends_with(b"=0A=\r\n"));
            assert_eq!(quoted_printable_decoded(&String::from_utf8(out).unwrap()), text.as_bytes());
        }
    }

    #[test]
    fn lines_are_filled_and_broken_softly() {
        let line = "x".repeat(76);
        assert_eq!(quoted_printable(&[line.as_bytes(), b"\r\n"]), format!("{line}\r\n"));
        assert_eq!(quoted_printable(&["x".repeat(77).as_bytes()]), format!("{}=\r\nxx", "x".repeat(75)));
        let umlaut = ["x".repeat(73).as_bytes(), b"\xfc\r\n"].concat();
        assert_eq!(quoted_printable(&[&umlaut]), format!("{}=FC\r\n", "x".repeat(73)));
        // The new line starts with a dot that was in the middle.
        assert_eq!(
            quoted_printable(&[format!("{}.yy", "x".repeat(75)).as_bytes()]),
            format!("{}=\r\n=2Eyy", "x".repeat(75))
        );
    }

    #[test]
    fn patches_touch_only_bytes_over_127() {
        let mut out = Vec::new();
        Patch::default().push(b"a=3Db =\r\n\xc3\xbcx\r\n", &mut out);
        assert_eq!(out, b"a=3Db =\r\n=C3=BCx\r\n");
        let (mut coder, mut out) = (Patch::default(), Vec::new());
        coder.push(&[0xe4; 998], &mut out);
        coder.push(b"\r\n", &mut out);
        let text = String::from_utf8(out).unwrap();
        assert!(text.split("\r\n").all(|line| line.len() <= 998));
        assert_eq!(text.replace("=\r\n", ""), format!("{}\r\n", "=E4".repeat(998)));
    }

    /// Texts with many of the sequences that matter.
    pub(in super::super) fn texts() -> impl Strategy<Value = Vec<u8>> {
        let words = vec![&b"\r\n"[..], b"\r", b"\n", b" ", b"\t", b".", b"From ", b"--", b"=", b"\0", b"\xc3\xa4"];
        let pieces = prop_oneof![
            3 => prop::sample::select(words).prop_map(<[u8]>::to_vec),
            2 => prop::collection::vec(any::<u8>(), 0..6),
            1 => "[a-z ]{0,90}".prop_map(String::into_bytes),
        ];
        prop::collection::vec(pieces, 0..40).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #[test]
        fn wrapping_adds_line_ends_only(
            words in prop::collection::vec(("[a-zä€😀]{0,400}", prop::sample::select(vec!["\r\n", " ", "", "\r"])), 0..40),
            size in 1usize..2000,
        ) {
            let text: String = words.into_iter().map(|(word, end)| word + end).collect();
            let out = wrapped(&[text.as_bytes()]);
            let pieces: Vec<&[u8]> = text.as_bytes().chunks(size).collect();
            prop_assert_eq!(&wrapped(&pieces), &out);
            let out = String::from_utf8(out).unwrap();
            prop_assert!(out.split("\r\n").all(|line| line.len() <= 998));
            prop_assert_eq!(out.replace("\r\n", ""), text.replace("\r\n", ""));
        }

        #[test]
        fn base64_comes_back(bytes in prop::collection::vec(any::<u8>(), 0..400), size in 1usize..100) {
            let code = coded(&[&bytes]);
            let pieces: Vec<&[u8]> = bytes.chunks(size).collect();
            prop_assert_eq!(&coded(&pieces), &code);
            prop_assert_eq!(crate::message::base64::tests::decoded(&code), bytes);
        }

        #[test]
        fn the_text_comes_back(text in texts()) {
            let code = quoted_printable(&[&text]);
            prop_assert_eq!(quoted_printable_decoded(&code), text);
            prop_assert!(!code.split("\r\n").any(|line| line.starts_with('.') || line.starts_with("From ") || line.starts_with("--")));
        }

        #[test]
        fn pieces_make_no_difference(text in texts(), size in 1usize..9) {
            let pieces: Vec<&[u8]> = text.chunks(size).collect();
            prop_assert_eq!(quoted_printable(&pieces), quoted_printable(&[&text]));
        }

        #[test]
        fn patches_leave_7_bit(text in texts(), size in 1usize..9) {
            let (mut whole, mut parts) = (Vec::new(), Vec::new());
            Patch::default().push(&text, &mut whole);
            let mut coder = Patch::default();
            text.chunks(size).for_each(|piece| coder.push(piece, &mut parts));
            prop_assert!(whole.is_ascii());
            prop_assert_eq!(whole, parts);
        }
    }
}
