// SPDX-License-Identifier: Apache-2.0
//! A header as a list of fields (RFC 5322 section 2.2), and folding: breaking a long field before spaces (section
//! 2.2.3).

/// Maximum width of a line with encoded words (RFC 2047 section 2), and of every line that we fold.
pub const LINE: usize = 76;
/// Maximum length of a line of mail, without its line ending (RFC 5322 section 2.1.1).
pub const LINE_LIMIT: usize = 998;
/// Maximum length of a field name, in bytes.
pub const NAME_LIMIT: usize = 255;
/// Consecutive spaces that are kept when a value is folded again; longer runs become one space.
const BLANKS: usize = 32;

/// One field of a header with CRLF line endings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Field<'a> {
    /// The whole field including folding and the last CRLF.
    pub raw: &'a [u8],
    /// Its name as written.
    pub name: &'a [u8],
    /// What follows the colon, including spaces and folding, without the last CRLF.
    pub value: &'a [u8],
}

impl Field<'_> {
    /// Whether the field is called `name`, case-insensitively.
    pub fn is(&self, name: &str) -> bool {
        self.name.eq_ignore_ascii_case(name.as_bytes())
    }

    /// Whether the field is called one of `names`.
    pub fn is_one_of(&self, names: &str) -> bool {
        is_one_of(self.name, names)
    }

    /// The value on one line: unfolded (RFC 5322 section 2.2.3), without leading and trailing spaces.
    pub fn unfolded(&self) -> Vec<u8> {
        unfold(self.value).trim_ascii().to_vec()
    }
}

/// The fields of `header`, in order. Lines that are not fields are returned with an empty name, so that nothing is
/// lost.
pub fn fields(header: &[u8]) -> impl Iterator<Item = Field<'_>> {
    let mut rest = header;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let mut end = 0;
        // A field continues as long as the next line begins with a space or tab.
        loop {
            let line = rest.get(end..).unwrap_or_default();
            end += memchr::memchr(b'\n', line).map_or(line.len(), |at| at + 1);
            if !matches!(rest.get(end), Some(b' ' | b'\t')) {
                break;
            }
        }
        let (raw, tail) = rest.split_at_checked(end)?;
        rest = tail;
        let text = raw.strip_suffix(b"\n").unwrap_or(raw);
        let text = text.strip_suffix(b"\r").unwrap_or(text);
        let colon =
            memchr::memchr(b':', text).filter(|at| is_name(text.get(..*at).unwrap_or_default().trim_ascii_end()));
        Some(match colon.and_then(|at| text.split_at_checked(at)) {
            Some((name, value)) => {
                Field { raw, name: name.trim_ascii_end(), value: value.get(1..).unwrap_or_default() }
            }
            None => Field { raw, name: b"", value: text },
        })
    })
}

/// The first field called `name`.
pub fn find<'a>(header: &'a [u8], name: &str) -> Option<Field<'a>> {
    fields(header).find(|field| field.is(name))
}

/// Whether `name` can be the name of a field: printable ASCII without a colon (RFC 5322 section 2.2).
pub fn is_name(name: &[u8]) -> bool {
    !name.is_empty() && name.iter().all(|b| b.is_ascii_graphic() && *b != b':')
}

/// Whether `name` is one of `names`, which spaces separate, case-insensitively.
pub fn is_one_of(name: &[u8], names: &str) -> bool {
    // Asked some two hundred times of each message, and `str::split` finds each space by a search of its own.
    let mut rest = names.as_bytes();
    loop {
        let end = rest.iter().position(|byte| *byte == b' ').unwrap_or(rest.len());
        if end == name.len() && rest.get(..end).is_some_and(|one| one.eq_ignore_ascii_case(name)) {
            return true;
        }
        match rest.get(end + 1..) {
            Some(behind) => rest = behind,
            None => return false,
        }
    }
}

/// Appends `line` and a CRLF to `out`.
pub fn push_line(line: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(line);
    out.extend_from_slice(b"\r\n");
}

/// Appends a field with what follows its colon.
pub fn push_field(name: &[u8], value: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(name);
    out.push(b':');
    push_line(value, out);
}

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
    fn fields_keep_every_byte() {
        let header = b"From: a@b.c\r\nSubject: one\r\n two\r\nnonsense\r\nX-Empty:\r\nLast: x";
        let all: Vec<_> = fields(header).collect();
        assert_eq!(all.iter().map(|f| f.raw).collect::<Vec<_>>().concat(), header);
        assert_eq!(
            all.iter().map(|f| f.name).collect::<Vec<_>>(),
            [&b"From"[..], b"Subject", b"", b"X-Empty", b"Last"]
        );
        assert_eq!(all[1].unfolded(), b"one two");
        assert_eq!(all[3].value, b"");
        assert_eq!(find(header, "LAST").map(|f| f.unfolded()), Some(b"x".to_vec()));
    }

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
