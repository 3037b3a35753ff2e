// SPDX-License-Identifier: Apache-2.0
//! Quoted-printable (RFC 2045 section 6.7), as a stream.

/// Maximum length of a line, without its CRLF: rule 5.
const WIDTH: usize = 76;
/// Bytes of lookahead needed to encode a byte: `From ` is the longest sequence that is checked.
const AHEAD: usize = 5;
/// Where [`Patch`] breaks a line; one more escape may follow. SMTP allows 998 bytes.
const PATCH_WIDTH: usize = 900;

/// Encodes a text whose lines end with CRLF. A bare CR or LF is content and is escaped.
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
            out.extend_from_slice(&escape(byte));
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

/// `=` and two hexadecimal digits, upper case as rule 1 requires.
fn escape(byte: u8) -> [u8; 3] {
    let digit = |half: u8| if half < 10 { b'0' + half } else { b'A' + half - 10 };
    [b'=', digit(byte >> 4), digit(byte & 15)]
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
                out.extend_from_slice(&escape(byte));
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
                out.extend_from_slice(&escape(byte));
                self.column += 3;
            }
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use proptest::prelude::*;

    fn encoded(pieces: &[&[u8]]) -> String {
        let (mut coder, mut out) = (QuotedPrintable::default(), Vec::new());
        for piece in pieces {
            coder.push(piece, &mut out);
        }
        coder.finish(&mut out);
        String::from_utf8(out).unwrap()
    }

    /// A decoder by the letter of RFC 2045: anything that it forbids is a panic.
    pub(in super::super) fn decoded(text: &str) -> Vec<u8> {
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
            assert_eq!(encoded(&[plain]), *code);
        }
    }

    #[test]
    fn lines_are_filled_and_broken_softly() {
        let line = "x".repeat(76);
        assert_eq!(encoded(&[line.as_bytes(), b"\r\n"]), format!("{line}\r\n"));
        assert_eq!(encoded(&["x".repeat(77).as_bytes()]), format!("{}=\r\nxx", "x".repeat(75)));
        let umlaut = ["x".repeat(73).as_bytes(), b"\xfc\r\n"].concat();
        assert_eq!(encoded(&[&umlaut]), format!("{}=FC\r\n", "x".repeat(73)));
        // The new line starts with a dot that was in the middle.
        assert_eq!(encoded(&[format!("{}.yy", "x".repeat(75)).as_bytes()]), format!("{}=\r\n=2Eyy", "x".repeat(75)));
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
        fn the_text_comes_back(text in texts()) {
            let code = encoded(&[&text]);
            prop_assert_eq!(decoded(&code), text);
            prop_assert!(!code.split("\r\n").any(|line| line.starts_with('.') || line.starts_with("From ") || line.starts_with("--")));
        }

        #[test]
        fn pieces_make_no_difference(text in texts(), size in 1usize..9) {
            let pieces: Vec<&[u8]> = text.chunks(size).collect();
            prop_assert_eq!(encoded(&pieces), encoded(&[&text]));
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
