//! Bytes as text: UTF-8, else windows-1252.

use std::borrow::Cow;

/// 0x80 to 0x9F in windows-1252; the five that it leaves open are control characters, as the WHATWG has it.
const WINDOWS_1252: [char; 32] = [
    '\u{20ac}', '\u{81}', '\u{201a}', '\u{192}', '\u{201e}', '\u{2026}', '\u{2020}', '\u{2021}', //
    '\u{2c6}', '\u{2030}', '\u{160}', '\u{2039}', '\u{152}', '\u{8d}', '\u{17d}', '\u{8f}', //
    '\u{90}', '\u{2018}', '\u{2019}', '\u{201c}', '\u{201d}', '\u{2022}', '\u{2013}', '\u{2014}', //
    '\u{2dc}', '\u{2122}', '\u{161}', '\u{203a}', '\u{153}', '\u{9d}', '\u{17e}', '\u{178}',
];

/// The text that `bytes` mean.
pub fn decode(bytes: &[u8]) -> Cow<'_, str> {
    match std::str::from_utf8(bytes) {
        Ok(text) => Cow::Borrowed(text),
        Err(_) => Cow::Owned(bytes.iter().map(|byte| windows_1252(*byte)).collect()),
    }
}

fn windows_1252(byte: u8) -> char {
    let index = usize::from(byte.wrapping_sub(0x80));
    WINDOWS_1252.get(index).copied().unwrap_or(char::from(byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_charsets() {
        assert_eq!(decode("St\u{f6}rung \u{20ac}".as_bytes()), "St\u{f6}rung \u{20ac}");
        assert_eq!(decode(b"St\xf6rung 5 \x80"), "St\u{f6}rung 5 \u{20ac}");
        assert_eq!(decode(b"\xff\x9f\xa0"), "\u{ff}\u{178}\u{a0}");
        assert_eq!(decode(b"plain"), "plain");
    }
}
