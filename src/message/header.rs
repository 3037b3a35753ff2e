// SPDX-License-Identifier: Apache-2.0
//! A header as a list of fields (RFC 5322 section 2.2).

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

    /// The value on one line: unfolded (RFC 5322 section 2.2.3), without leading and trailing spaces.
    pub fn unfolded(&self) -> Vec<u8> {
        let joined: Vec<u8> = self.value.iter().copied().filter(|b| !matches!(b, b'\r' | b'\n')).collect();
        joined.trim_ascii().to_vec()
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

#[cfg(test)]
mod tests {
    use super::*;

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
}
