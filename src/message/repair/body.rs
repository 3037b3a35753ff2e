// SPDX-License-Identifier: Apache-2.0
//! Facts about a body, gathered while it is received.

/// Maximum length of a line of mail, without its line ending (RFC 5322 section 2.1.1).
pub const LINE_LIMIT: usize = 998;

/// Examines a body. Needs a few bytes of memory.
#[derive(Debug, Default)]
pub struct Scan {
    line: u64,
    /// Whether a line is over [`LINE_LIMIT`].
    pub long: bool,
    /// Whether there are bytes over 127.
    pub eight_bit: bool,
    not_utf8: bool,
    /// The beginning of a character that was split between chunks.
    held: Vec<u8>,
}

impl Scan {
    /// Examines part of a line.
    pub fn text(&mut self, text: &[u8]) {
        self.line = self.line.saturating_add(text.len() as u64);
        self.long |= self.line > LINE_LIMIT as u64;
        if self.held.is_empty() && text.is_ascii() {
            return;
        }
        self.eight_bit |= !text.is_ascii();
        self.utf8(text);
    }

    /// Examines the end of a line. No character extends across it.
    pub fn end(&mut self) {
        self.line = 0;
        self.not_utf8 |= !self.held.is_empty();
        self.held.clear();
    }

    /// The charset of the text, if the text itself does not declare one.
    pub fn charset(&self) -> &'static str {
        match (self.eight_bit, self.not_utf8) {
            (false, _) => "us-ascii",
            (true, false) => "utf-8",
            (true, true) => "windows-1252",
        }
    }

    fn utf8(&mut self, text: &[u8]) {
        let mut rest = text;
        while let (false, false, Some((first, tail))) = (self.not_utf8, self.held.is_empty(), rest.split_first()) {
            self.held.push(*first);
            rest = tail;
            match std::str::from_utf8(&self.held) {
                Ok(_) => self.held.clear(),
                // At most four bytes are ever held: with four it is either a character or not.
                Err(error) => self.not_utf8 = error.error_len().is_some(),
            }
        }
        if self.not_utf8 {
            self.held.clear();
        } else if let Err(error) = std::str::from_utf8(rest) {
            self.not_utf8 = error.error_len().is_some();
            if !self.not_utf8 {
                self.held.extend(rest.iter().skip(error.valid_up_to()));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn scan(chunks: &[&[u8]]) -> Scan {
        let mut scan = Scan::default();
        chunks.iter().for_each(|chunk| scan.text(chunk));
        scan.end();
        scan
    }

    #[test]
    fn lengths() {
        assert!(!scan(&[&[b'a'; 500], &[b'a'; 498]]).long);
        assert!(scan(&[&[b'a'; 500], &[b'a'; 499]]).long);
        let mut two = scan(&[&[b'a'; 998]]);
        two.text(b"a");
        assert!(!two.long);
    }

    proptest! {
        #[test]
        fn charset_does_not_depend_on_cuts(
            text in prop_oneof!["[aü日\u{1f600}]{0,12}".prop_map(String::into_bytes), proptest::collection::vec(any::<u8>(), 0..6)],
            cuts in proptest::collection::vec(0..48usize, 3),
        ) {
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(text.len())).collect();
            cuts.sort_unstable();
            let parts = [&text[..cuts[0]], &text[cuts[0]..cuts[1]], &text[cuts[1]..cuts[2]], &text[cuts[2]..]];
            let expected = if text.is_ascii() {
                "us-ascii"
            } else if std::str::from_utf8(&text).is_ok() {
                "utf-8"
            } else {
                "windows-1252"
            };
            prop_assert_eq!(scan(&parts).charset(), expected);
        }
    }
}
