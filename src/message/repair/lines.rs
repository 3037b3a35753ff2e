// SPDX-License-Identifier: Apache-2.0
//! Line endings: which bytes end a line. In text they are replaced by CRLF; a bare CR or LF would allow a second
//! message to be hidden (SMTP smuggling).

/// A fragment of the input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Piece<'a> {
    /// Part of a line; never contains CR, LF or NUL.
    Text(&'a [u8]),
    /// A NUL byte.
    Nul,
    /// The end of a line, as received: CRLF, CR CR LF, LF or CR; empty for a last line without a line ending.
    End(&'static [u8]),
}

/// Finds the line endings in input that arrives in chunks. CRLF, CR CR LF, LF and CR each end a line.
#[derive(Debug, Default, Clone, Copy)]
pub struct Lines {
    /// CRs that wait for the next byte, two at most.
    returns: u8,
    /// Whether the last line has begun and not ended.
    open: bool,
    /// Whether NUL bytes are content. If not, they are ignored.
    nul: bool,
}

impl Lines {
    /// Passes the fragments of `bytes` to `to`, which returns whether NUL bytes are content from there on.
    pub fn push(&mut self, bytes: &[u8], mut to: impl FnMut(Piece<'_>) -> bool) {
        let mut rest = bytes;
        while !rest.is_empty() {
            let length = memchr::memchr3(b'\r', b'\n', 0, rest).unwrap_or(rest.len());
            let Some((text, tail)) = rest.split_at_checked(length) else {
                return;
            };
            if !text.is_empty() {
                self.bare_returns(&mut to);
                self.open = true;
                self.nul = to(Piece::Text(text));
            }
            match tail.first() {
                Some(b'\n') => {
                    let end: &[u8] = match self.returns {
                        0 => b"\n",
                        1 => b"\r\n",
                        _ => b"\r\r\n",
                    };
                    self.returns = 0;
                    self.open = false;
                    self.nul = to(Piece::End(end));
                }
                Some(b'\r') if self.returns == 2 => {
                    self.open = false;
                    self.nul = to(Piece::End(b"\r"));
                }
                Some(b'\r') => self.returns += 1,
                Some(_) => {
                    // A NUL that is content separates a CR from an LF after it.
                    if self.nul {
                        self.bare_returns(&mut to);
                        self.open = true;
                    }
                    self.nul = to(Piece::Nul);
                }
                None => {}
            }
            rest = tail.get(1..).unwrap_or_default();
        }
    }

    /// Ends the text, and its last line if it has no line ending.
    pub fn finish(&mut self, mut to: impl FnMut(Piece<'_>) -> bool) {
        self.bare_returns(&mut to);
        if std::mem::take(&mut self.open) {
            to(Piece::End(b""));
        }
    }

    fn bare_returns(&mut self, to: &mut impl FnMut(Piece<'_>) -> bool) {
        for _ in 0..std::mem::take(&mut self.returns) {
            self.open = false;
            self.nul = to(Piece::End(b"\r"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The text with CRLF line endings and its NUL bytes as `0`, and the original line endings.
    fn lines(chunks: &[&[u8]], nul: bool) -> (Vec<u8>, Vec<&'static [u8]>) {
        let (mut out, mut ends) = (Vec::new(), Vec::new());
        let mut to = |piece: Piece<'_>| {
            match piece {
                Piece::Text(text) => out.extend_from_slice(text),
                Piece::Nul if nul => out.push(b'0'),
                Piece::Nul => {}
                Piece::End(end) => {
                    out.extend_from_slice(b"\r\n");
                    ends.push(end);
                }
            }
            nul
        };
        let mut lines = Lines { nul, ..Lines::default() };
        chunks.iter().for_each(|chunk| lines.push(chunk, &mut to));
        lines.finish(&mut to);
        (out, ends)
    }

    #[test]
    fn every_line_end() {
        let (crlf, lf, cr, double, none) = (&b"\r\n"[..], &b"\n"[..], &b"\r"[..], &b"\r\r\n"[..], &b""[..]);
        for (text, expected, ends) in [
            ("", "", vec![]),
            ("a\r\nb\r\n", "a\r\nb\r\n", vec![crlf, crlf]),
            ("a\nb\n", "a\r\nb\r\n", vec![lf, lf]),
            ("a\r\r\nb\r\n", "a\r\nb\r\n", vec![double, crlf]),
            ("a\rb\r\n", "a\r\nb\r\n", vec![cr, crlf]),
            ("a\r\r\r\nb\r\n", "a\r\n\r\nb\r\n", vec![cr, double, crlf]),
            ("a\n\rb\r\n", "a\r\n\r\nb\r\n", vec![lf, cr, crlf]),
            ("a\r\r", "a\r\n\r\n", vec![cr, cr]),
            ("a", "a\r\n", vec![none]),
            ("a\r\0\nb\0\0\r\n", "a\r\nb\r\n", vec![crlf, crlf]),
            ("\0", "", vec![]),
        ] {
            assert_eq!(lines(&[text.as_bytes()], false), (expected.as_bytes().to_vec(), ends), "{text:?}");
        }
        // UTF-16.
        assert_eq!(lines(&[b"a\0\r\0\n\0"], true), (b"a0\r\n0\r\n0\r\n".to_vec(), vec![cr, lf, none]));
    }

    proptest! {
        #[test]
        fn cuts_do_not_matter(text in "[ab\r\n\0]{0,40}", at in 0..40usize, nul: bool) {
            let whole = lines(&[text.as_bytes()], nul);
            let (head, tail) = text.as_bytes().split_at(at.min(text.len()));
            prop_assert_eq!(lines(&[head, tail], nul), whole);
        }
    }
}
