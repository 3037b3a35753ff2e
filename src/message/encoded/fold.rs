// SPDX-License-Identifier: Apache-2.0
//! Folding: breaking a long field before spaces (RFC 5322 section 2.2.3).

/// Maximum width of a line with encoded words (RFC 2047 section 2), and of every line that we fold.
pub const LINE: usize = 76;
/// Consecutive spaces that are kept when a value is folded again; longer runs become one space.
const BLANKS: usize = 32;

/// The value on one line: line endings removed, trailing spaces too.
pub fn unfold(value: &[u8]) -> Vec<u8> {
    let mut out: Vec<u8> = value.iter().copied().filter(|byte| !matches!(byte, b'\r' | b'\n')).collect();
    out.truncate(out.trim_ascii_end().len());
    out
}

/// Folds `value`, which has no line endings, before spaces, so that lines have [`LINE`] columns where possible;
/// `column` is the width of what precedes it. No line will be blank.
pub fn fold(column: usize, value: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(value.len() + value.len() / 32);
    let mut column = column;
    let mut rest = value.trim_ascii_end();
    while !rest.is_empty() {
        let blanks = rest.iter().take_while(|byte| is_blank(**byte)).count();
        let after = rest.get(blanks..).unwrap_or_default();
        let length = after.iter().position(|byte| is_blank(*byte)).unwrap_or(after.len());
        let (word, tail) = after.split_at_checked(length).unwrap_or((after, &[]));
        let blank = match rest.get(..blanks).unwrap_or_default() {
            long if long.len() > BLANKS => b" ",
            blank => blank,
        };
        // A word too long for any line gains nothing from a line of its own if it is the first.
        let first = out.is_empty() && blank.len() + word.len() > LINE;
        if !blank.is_empty() && !first && column + blank.len() + word.len() > LINE {
            out.extend_from_slice(b"\r\n");
            column = 0;
        }
        out.extend_from_slice(blank);
        out.extend_from_slice(word);
        column += blank.len() + word.len();
        rest = tail;
    }
    out
}

/// Width of the longest line of a field whose name and colon are `column` wide.
pub fn longest_line(column: usize, value: &[u8]) -> usize {
    let lines = value.split(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line).len());
    lines.enumerate().map(|(number, length)| if number == 0 { column + length } else { length }).max().unwrap_or(column)
}

fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn folds_before_blanks() {
        let value = format!(" {} {}  {}", "a".repeat(40), "b".repeat(40), "c".repeat(90));
        let folded = format!(" {}\r\n {}\r\n  {}", "a".repeat(40), "b".repeat(40), "c".repeat(90));
        assert_eq!(fold(8, value.as_bytes()), folded.as_bytes());
        let blanks = format!(" a{}b", " ".repeat(1200));
        assert_eq!(fold(8, blanks.as_bytes()), b" a b");
        assert_eq!(longest_line(8, folded.as_bytes()), 92);
        assert_eq!(longest_line(8, b" a\r\n b"), 10);
    }

    proptest! {
        #[test]
        fn only_line_ends_are_added(value in "[ \ta-c]{0,20}([ \t][a-c]{1,30}){0,12}", column in 1..90usize) {
            let folded = fold(column, value.as_bytes());
            prop_assert_eq!(unfold(&folded), value.trim_ascii_end().as_bytes());
            let lines = folded.split(|b| *b == b'\n').skip(1);
            for line in lines {
                prop_assert!(line.first().is_some_and(|b| is_blank(*b)));
                prop_assert!(!line.trim_ascii().is_empty());
                prop_assert!(line.len() <= LINE + 1);
            }
        }
    }
}
