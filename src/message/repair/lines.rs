//! Line ends: whatever came, CRLF leaves. A bare CR or LF would let somebody hide a second message (SMTP smuggling).

use super::notes;

/// A piece of text without line ends, or a line end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Piece<'a> {
    /// Part of a line; never CR, LF or NUL in it.
    Text(&'a [u8]),
    /// The end of a line.
    End,
}

/// Finds the line ends in text that comes in pieces. CRLF, CR CR LF, LF and CR each end a line.
#[derive(Debug, Default, Clone, Copy)]
pub struct Lines {
    /// CRs that wait for the next byte, two at most.
    returns: u8,
    /// Whether the last line has begun and not ended.
    open: bool,
    odd: bool,
    nul: bool,
    added: bool,
}

impl Lines {
    /// Gives the pieces of `bytes` to `to`.
    pub fn push(&mut self, bytes: &[u8], mut to: impl FnMut(Piece<'_>)) {
        let mut rest = bytes;
        while !rest.is_empty() {
            let length = memchr::memchr3(b'\r', b'\n', 0, rest).unwrap_or(rest.len());
            let Some((text, tail)) = rest.split_at_checked(length) else {
                return;
            };
            if !text.is_empty() {
                self.bare_returns(&mut to);
                self.open = true;
                to(Piece::Text(text));
            }
            match tail.first() {
                Some(b'\n') => {
                    self.odd |= self.returns != 1;
                    self.returns = 0;
                    self.open = false;
                    to(Piece::End);
                }
                Some(b'\r') if self.returns == 2 => {
                    self.odd = true;
                    self.open = false;
                    to(Piece::End);
                }
                Some(b'\r') => self.returns += 1,
                Some(_) => self.nul = true,
                None => {}
            }
            rest = tail.get(1..).unwrap_or_default();
        }
    }

    /// Ends the text, and its last line if it has no end.
    pub fn finish(&mut self, mut to: impl FnMut(Piece<'_>)) {
        self.bare_returns(&mut to);
        if self.open {
            self.open = false;
            self.added = true;
            to(Piece::End);
        }
    }

    /// What was repaired.
    pub fn notes(&self) -> Vec<&'static str> {
        let all = [(self.odd, notes::LINE_ENDS), (self.added, notes::LAST_LINE_END), (self.nul, notes::NUL)];
        all.into_iter().filter(|(happened, _)| *happened).map(|(_, note)| note).collect()
    }

    fn bare_returns(&mut self, to: &mut impl FnMut(Piece<'_>)) {
        for _ in 0..self.returns {
            self.odd = true;
            self.open = false;
            to(Piece::End);
        }
        self.returns = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn lines(chunks: &[&[u8]]) -> (Vec<u8>, Vec<&'static str>) {
        let mut out = Vec::new();
        let mut to = |piece: Piece<'_>| match piece {
            Piece::Text(text) => out.extend_from_slice(text),
            Piece::End => out.extend_from_slice(b"\r\n"),
        };
        let mut lines = Lines::default();
        chunks.iter().for_each(|chunk| lines.push(chunk, &mut to));
        lines.finish(&mut to);
        (out, lines.notes())
    }

    #[test]
    fn every_line_end() {
        use notes::*;
        for (text, expected, notes) in [
            ("", "", vec![]),
            ("a\r\nb\r\n", "a\r\nb\r\n", vec![]),
            ("a\nb\n", "a\r\nb\r\n", vec![LINE_ENDS]),
            ("a\r\r\nb\r\n", "a\r\nb\r\n", vec![LINE_ENDS]),
            ("a\rb\r\n", "a\r\nb\r\n", vec![LINE_ENDS]),
            ("a\r\r\r\nb\r\n", "a\r\n\r\nb\r\n", vec![LINE_ENDS]),
            ("a\n\rb\r\n", "a\r\n\r\nb\r\n", vec![LINE_ENDS]),
            ("a\r\r", "a\r\n\r\n", vec![LINE_ENDS]),
            ("a", "a\r\n", vec![LAST_LINE_END]),
            ("a\r\0\nb\0\0\r\n", "a\r\nb\r\n", vec![NUL]),
            ("\0", "", vec![NUL]),
        ] {
            assert_eq!(lines(&[text.as_bytes()]), (expected.as_bytes().to_vec(), notes), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn cuts_do_not_matter(text in "[ab\r\n\0]{0,40}", at in 0..40usize) {
            let whole = lines(&[text.as_bytes()]);
            let (head, tail) = text.as_bytes().split_at(at.min(text.len()));
            prop_assert_eq!(lines(&[head, tail]), whole);
        }
    }
}
