// SPDX-License-Identifier: Apache-2.0
//! Makes a text safe for DATA: transparency, RFC 5321 section 4.5.2.

use memchr::memchr_iter;

/// Doubles the dots at line starts and writes the end-of-data marker.
///
/// Strict receivers end a line at CRLF only. Some end it at a bare CR or LF too, and for them a dot after one could end
/// the message and turn the rest of it into commands. So a dot after any CR or LF is doubled.
#[derive(Debug)]
pub struct DotStuffer {
    /// The last two bytes; initially the line ending of the DATA command.
    last: [u8; 2],
}

impl Default for DotStuffer {
    fn default() -> Self {
        Self::new()
    }
}

impl DotStuffer {
    /// At the start of a text, which is the start of a line.
    pub fn new() -> Self {
        Self { last: *b"\r\n" }
    }

    /// Appends `text`, made safe, to `out`. How the text is split into chunks makes no difference.
    pub fn push(&mut self, text: &[u8], out: &mut Vec<u8>) {
        out.reserve(text.len());
        let mut done = 0;
        for dot in memchr_iter(b'.', text) {
            let before = match dot.checked_sub(1) {
                Some(at) => text.get(at).copied().unwrap_or_default(),
                None => self.last[1],
            };
            if matches!(before, b'\r' | b'\n') {
                // Up to and including the dot; the next chunk begins with the same dot again.
                out.extend_from_slice(text.get(done..=dot).unwrap_or_default());
                done = dot;
            }
        }
        out.extend_from_slice(text.get(done..).unwrap_or_default());
        self.last = match text {
            [] => self.last,
            [byte] => [self.last[1], *byte],
            [.., before, byte] => [*before, *byte],
        };
    }

    /// Appends the end-of-data marker: a line with a single dot. A missing last CRLF is added.
    pub fn finish(self, out: &mut Vec<u8>) {
        if self.last != *b"\r\n" {
            out.extend_from_slice(b"\r\n");
        }
        out.extend_from_slice(b".\r\n");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn stuffed(pieces: &[&[u8]]) -> Vec<u8> {
        let (mut stuffer, mut out) = (DotStuffer::new(), Vec::new());
        for piece in pieces {
            stuffer.push(piece, &mut out);
        }
        stuffer.finish(&mut out);
        out
    }

    /// A receiver by the letter of the RFC: lines end at CRLF, a line with a single dot ends the text, any other
    /// leading dot is removed. Returns the text and what follows its end.
    fn received(wire: &[u8]) -> Option<(Vec<u8>, &[u8])> {
        let (mut text, mut rest) = (Vec::new(), wire);
        loop {
            let end = memchr::memmem::find(rest, b"\r\n")? + 2;
            let (line, tail) = rest.split_at(end);
            rest = tail;
            if line == b".\r\n" {
                return Some((text, rest));
            }
            text.extend_from_slice(line.strip_prefix(b".").unwrap_or(line));
        }
    }

    /// Where a receiver that treats CR, LF and CRLF alike could see the end.
    fn loose_ends(wire: &[u8]) -> usize {
        let padded = [b"\n", wire].concat();
        padded.windows(3).filter(|w| w[1] == b'.' && [w[0], w[2]].iter().all(|b| matches!(b, b'\r' | b'\n'))).count()
    }

    #[test]
    fn dots_at_line_starts_are_doubled() {
        assert_eq!(stuffed(&[b".a\r\n.\r\nb.c\r\n..\r\n"]), b"..a\r\n..\r\nb.c\r\n...\r\n.\r\n");
        assert_eq!(stuffed(&[b"a\r", b"\n", b".", b".b"]), b"a\r\n...b\r\n.\r\n");
        assert_eq!(stuffed(&[b"a\n.\nQUIT\r\r.\rb"]), b"a\n..\nQUIT\r\r..\rb\r\n.\r\n");
    }

    #[test]
    fn the_end_adds_no_blank_line() {
        assert_eq!(stuffed(&[]), b".\r\n");
        assert_eq!(stuffed(&[b"a\r\n"]), b"a\r\n.\r\n");
        assert_eq!(stuffed(&[b"a\r", b"", b"\n"]), b"a\r\n.\r\n");
        assert_eq!(stuffed(&[b"a"]), b"a\r\n.\r\n");
        assert_eq!(stuffed(&[b"a\n"]), b"a\n\r\n.\r\n");
        assert_eq!(stuffed(&[b"a\r"]), b"a\r\r\n.\r\n");
    }

    fn texts() -> impl Strategy<Value = Vec<u8>> {
        let bytes = prop::sample::select(vec![&b"."[..], b"\r", b"\n", b"\r\n", b"a", b"\xe4"]);
        prop::collection::vec(bytes, 0..60).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #[test]
        fn pieces_make_no_difference(text in texts(), size in 1usize..9) {
            let pieces: Vec<&[u8]> = text.chunks(size).collect();
            prop_assert_eq!(stuffed(&pieces), stuffed(&[&text]));
        }

        #[test]
        fn the_end_comes_once_and_last(text in texts()) {
            let wire = stuffed(&[&text]);
            prop_assert!(wire.ends_with(b".\r\n"));
            prop_assert_eq!(loose_ends(&wire), 1);
            prop_assert_eq!(received(&wire).map(|(_, rest)| rest.len()), Some(0));
        }

        #[test]
        fn a_strict_receiver_gets_the_text_back(lines in prop::collection::vec("[.a ]{0,4}", 0..20), whole in any::<bool>()) {
            let mut text = lines.join("\r\n").into_bytes();
            if whole && !text.is_empty() {
                text.extend_from_slice(b"\r\n");
            }
            let wire = stuffed(&[&text]);
            let expected = if text.is_empty() || text.ends_with(b"\r\n") { text } else { [&text[..], b"\r\n"].concat() };
            prop_assert_eq!(received(&wire), Some((expected, &b""[..])));
        }
    }
}
