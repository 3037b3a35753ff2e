// SPDX-License-Identifier: Apache-2.0
//! Finds the end of a message in DATA and removes the dots that the client added (RFC 5321 section 4.5.2).
//!
//! The end-of-data marker decides what is treated as a command, so it is never guessed. In a session that uses CRLF,
//! only `CRLF . CRLF` ends the message. A session that has sent nothing but bare LF since its first command is read in
//! LF lines: there `LF . LF` ends it too. Mixtures (`LF . CRLF`, `CRLF . LF`) never do.

/// How the previous line ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// CR LF.
    Crlf,
    /// LF alone.
    Lf,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    /// At the start of a line.
    Start(Ending),
    /// After a dot at the start of a line.
    Dot(Ending),
    /// After dot and CR at the start of a line.
    DotCr(Ending),
    /// Within a line.
    Middle,
    /// Within a line, after a CR.
    Cr,
}

/// Reads the text of one message, in chunks of any size.
#[derive(Debug)]
pub struct Decoder {
    at: At,
    bare_lf: bool,
}

impl Decoder {
    /// `bare_lf`: whether every line of the session so far, DATA included, ended with LF alone.
    pub fn new(bare_lf: bool) -> Self {
        Self { at: At::Start(if bare_lf { Ending::Lf } else { Ending::Crlf }), bare_lf }
    }

    /// Appends the text in `input` to `out`. Returns the number of bytes used if the message ends within `input`; what
    /// follows is the next command. `None`: all of it was used and the message goes on.
    pub fn push(&mut self, input: &[u8], out: &mut Vec<u8>) -> Option<usize> {
        let mut used = 0;
        while let Some(&byte) = input.get(used) {
            match self.at {
                At::Middle | At::Cr => used += self.run(input.get(used..).unwrap_or_default(), out),
                At::Start(ending) if byte == b'.' => {
                    used += 1;
                    self.at = At::Dot(ending);
                }
                At::Start(_) => self.at = At::Middle,
                At::Dot(ending) => match byte {
                    b'\n' if self.bare_lf && ending == Ending::Lf => return Some(used + 1),
                    b'\r' => {
                        used += 1;
                        self.at = At::DotCr(ending);
                    }
                    // The dot was added by the client, or should have been: either way it is removed.
                    _ => self.at = At::Middle,
                },
                At::DotCr(Ending::Crlf) if byte == b'\n' => return Some(used + 1),
                At::DotCr(_) => {
                    out.push(b'\r');
                    self.at = At::Cr;
                }
            }
        }
        None
    }

    /// Copies up to and including the next LF; returns how many bytes that was.
    fn run(&mut self, input: &[u8], out: &mut Vec<u8>) -> usize {
        let Some(lf) = memchr::memchr(b'\n', input) else {
            out.extend_from_slice(input);
            if let Some(last) = input.last() {
                self.at = if *last == b'\r' { At::Cr } else { At::Middle };
            }
            return input.len();
        };
        let line = input.get(..=lf).unwrap_or_default();
        let after_cr = if lf == 0 { self.at == At::Cr } else { line.ends_with(b"\r\n") };
        out.extend_from_slice(line);
        self.at = match (after_cr, self.bare_lf) {
            (true, _) => At::Start(Ending::Crlf),
            (false, true) => At::Start(Ending::Lf),
            (false, false) => At::Middle,
        };
        line.len()
    }
}

/// Detects bare CR and LF, across chunks of text.
#[derive(Debug, Default)]
pub struct LineEnds {
    after_cr: bool,
    bad: bool,
}

impl LineEnds {
    /// Examines the next chunk of the text.
    pub fn push(&mut self, text: &[u8]) {
        for &byte in text {
            self.bad |= self.after_cr != (byte == b'\n');
            self.after_cr = byte == b'\r';
        }
    }

    /// Whether a bare CR or LF was found so far.
    pub fn bad(&self) -> bool {
        self.bad
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Text and rest, or `None` for the rest if the end was not found.
    fn decode(bare_lf: bool, input: &[u8]) -> (Vec<u8>, Option<Vec<u8>>) {
        let mut out = Vec::new();
        let end = Decoder::new(bare_lf).push(input, &mut out);
        (out, end.map(|end| input[end..].to_vec()))
    }

    fn crlf(input: &str) -> (String, Option<String>) {
        let (text, rest) = decode(false, input.as_bytes());
        (String::from_utf8(text).unwrap(), rest.map(|r| String::from_utf8(r).unwrap()))
    }

    fn lf(input: &str) -> (String, Option<String>) {
        let (text, rest) = decode(true, input.as_bytes());
        (String::from_utf8(text).unwrap(), rest.map(|r| String::from_utf8(r).unwrap()))
    }

    #[test]
    fn the_end_is_crlf_dot_crlf() {
        assert_eq!(crlf("a\r\n.\r\nQUIT\r\n"), ("a\r\n".into(), Some("QUIT\r\n".into())));
        assert_eq!(crlf(".\r\n"), (String::new(), Some(String::new())));
        assert_eq!(crlf("..\r\n.a\r\n.\r\n"), (".\r\na\r\n".into(), Some(String::new())));
    }

    #[test]
    fn no_other_line_end_is_an_end_in_a_crlf_session() {
        for smuggled in
            ["\n.\n", "\n.\r\n", "\r\n.\n", "\r.\r", "\r\n.\r", "\r.\r\n", "\n.\r", "\r\r\n.\r\r\n", "\r\n.\r\r\n"]
        {
            let input = format!("a{smuggled}MAIL FROM:<x@y>\r\n");
            assert_eq!(crlf(&input).1, None, "{smuggled:?}");
        }
        // CR CR LF is a line that ends with CR, followed by CRLF: the next dot is at the start of a line.
        assert_eq!(crlf("a\r\r\n.\r\n"), ("a\r\r\n".into(), Some(String::new())));
    }

    #[test]
    fn a_session_of_bare_lf_ends_with_lf_dot_lf() {
        assert_eq!(lf("a\n.\nQUIT\n"), ("a\n".into(), Some("QUIT\n".into())));
        assert_eq!(lf("a\n..\n.\n"), ("a\n.\n".into(), Some(String::new())));
        assert_eq!(lf("a\r\n.\r\nQUIT\n"), ("a\r\n".into(), Some("QUIT\n".into())));
        assert_eq!(lf("a\n.\r\nMAIL\n").1, None);
        assert_eq!(lf("a\r\n.\nMAIL\n").1, None);
    }

    #[test]
    fn line_ends_across_pieces() {
        for (pieces, bad) in [
            (&["a\r", "\nb\r\n"][..], false),
            (&["a\n"], true),
            (&["\n"], true),
            (&["a\r", "b\r\n"], true),
            (&["a\r\r\n"], true),
            (&["", "a\r\n", ""], false),
        ] {
            let mut ends = LineEnds::default();
            pieces.iter().for_each(|piece| ends.push(piece.as_bytes()));
            assert_eq!(ends.bad(), bad, "{pieces:?}");
        }
    }

    proptest! {
        #[test]
        fn chunking_changes_nothing(
            input in proptest::collection::vec(prop_oneof![Just(b'\r'), Just(b'\n'), Just(b'.'), Just(b'a')], 0..60),
            cuts in proptest::collection::vec(0usize..60, 0..6),
            bare_lf in any::<bool>(),
        ) {
            let whole = decode(bare_lf, &input);
            let mut cuts: Vec<usize> = cuts.into_iter().map(|c| c.min(input.len())).collect();
            cuts.push(input.len());
            cuts.sort_unstable();
            let mut decoder = Decoder::new(bare_lf);
            let mut out = Vec::new();
            let mut from = 0;
            let mut rest = None;
            for cut in cuts {
                if let Some(end) = decoder.push(&input[from..cut], &mut out) {
                    rest = Some(input[from + end..].to_vec());
                    break;
                }
                from = cut;
            }
            prop_assert_eq!((out, rest), whole);
        }

        /// A client that dot-stuffs correctly gets its text through, whatever the text.
        #[test]
        fn stuffed_text_comes_out_as_it_went_in(lines in proptest::collection::vec("[.a\r]{0,4}", 0..8), after in "[a-z]{0,5}") {
            let lines: Vec<String> = lines.iter().map(|l| l.replace('\r', "")).collect();
            for (end, bare) in [("\r\n", false), ("\n", true)] {
                let text: String = lines.iter().map(|l| format!("{l}{end}")).collect();
                let stuffed: String = lines.iter().map(|l| format!("{}{l}{end}", if l.starts_with('.') { "." } else { "" })).collect();
                let (out, rest) = decode(bare, format!("{stuffed}.{end}{after}").as_bytes());
                prop_assert_eq!(&out, text.as_bytes());
                prop_assert_eq!(rest.as_deref(), Some(after.as_bytes()));
            }
        }
    }
}
