// SPDX-License-Identifier: Apache-2.0
//! Bodies in lines that SMTP allows: long lines broken where nothing depends on it, bytes as lines of base64.

use crate::message::base64;

/// Maximum length of a line, without its CRLF (RFC 5322 section 2.1.1).
pub const LONGEST: usize = 998;
/// Bytes in one line of base64, 76 characters (RFC 2045 section 6.8).
const ROW: usize = 57;

/// The position of the first CRLF.
pub fn crlf(text: &[u8]) -> Option<usize> {
    memchr::memchr_iter(b'\n', text).filter_map(|lf| lf.checked_sub(1)).find(|cr| text.get(*cr) == Some(&b'\r'))
}

/// Columns at which overlong base64 lines are broken: a multiple of four, as each line is.
const CODE_WIDTH: usize = 988;

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
            let (window, whole) = match rest.get(..LONGEST + 2) {
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
            Some((line, rest)) if held.len() > LONGEST && crlf(&held).is_none() => {
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
    let most = line.get(..LONGEST).unwrap_or(line);
    // A word that fills half a line is broken itself.
    if let Some(blank) = memchr::memrchr2(b' ', b'\t', most).filter(|at| *at >= LONGEST / 2) {
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
        let held = std::mem::take(&mut self.held);
        let rows = held.chunks_exact(ROW);
        self.held = rows.remainder().to_vec();
        rows.for_each(|row| self.row(row, out));
    }

    /// Appends the last line.
    pub fn finish(&mut self, out: &mut Vec<u8>) {
        let held = std::mem::take(&mut self.held);
        if !held.is_empty() {
            self.row(&held, out);
        }
    }

    fn row(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        if self.started {
            out.extend_from_slice(b"\r\n");
        }
        self.started = true;
        out.extend_from_slice(base64(bytes).as_bytes());
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

    /// An independent decoder: digit by digit, nothing unusual allowed.
    pub(in super::super) fn decoded(text: &str) -> Vec<u8> {
        let (mut out, mut bits, mut count) = (Vec::new(), 0u32, 0);
        let mut padding = 0;
        for line in text.split("\r\n") {
            assert!(line.len() <= 76 && line.len() % 4 == 0, "odd line: {line}");
            for digit in line.bytes() {
                assert!(padding == 0 || digit == b'=', "text behind the padding");
                let value = match digit {
                    b'A'..=b'Z' => digit - b'A',
                    b'a'..=b'z' => digit - b'a' + 26,
                    b'0'..=b'9' => digit - b'0' + 52,
                    b'+' => 62,
                    b'/' => 63,
                    b'=' => {
                        padding += 1;
                        continue;
                    }
                    _ => panic!("no digit: {digit}"),
                };
                bits = bits << 6 | u32::from(value);
                count += 6;
                if count >= 8 {
                    count -= 8;
                    out.push((bits >> count & 255) as u8);
                }
            }
        }
        assert!(padding <= 2);
        out
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
            prop_assert_eq!(decoded(&code), bytes);
        }
    }
}
