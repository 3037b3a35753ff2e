// SPDX-License-Identifier: Apache-2.0
//! Decoding bytes as text: UTF-8, else the charset that the message names, else windows-1252.
//!
//! Text in a charset that the message names is not converted: that would take tables of tens of KB. It is only
//! labelled. While its field is being repaired, each of its characters is represented by a private-use character
//! ([`Charset::veil`]), so that the second byte of a Shift_JIS character is not mistaken for a backslash; [`raw`]
//! returns the bytes for the encoded word.

use std::borrow::Cow;

/// How bytes form characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum CharsetKind {
    /// One byte each.
    Single,
    /// Two bytes over 160; in EUC-JP also three.
    Euc,
    /// Two bytes, the second one possibly ASCII; in GB18030 also four.
    Double,
    /// Shift_JIS: two bytes, or one of the half-width katakana.
    ShiftJis,
}

/// A charset that header text can be labelled with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Charset {
    /// Its name in the IANA registry.
    pub name: &'static str,
    kind: CharsetKind,
}

/// How to encode header text.
#[derive(Debug, Clone, Copy)]
pub struct Style {
    /// Maximum length of a word that stays as it is, in bytes.
    pub word_limit: usize,
    /// The charset name used in encoded words.
    pub label: &'static str,
}

impl From<usize> for Style {
    fn from(word_limit: usize) -> Self {
        Self { word_limit, label: UTF_8 }
    }
}

/// The charset of all text that is not labelled otherwise.
pub const UTF_8: &str = "utf-8";
/// What ISO-2022-JP becomes: the same characters with the eighth bit set instead of escape sequences.
pub const EUC_JP: Charset = Charset { name: "euc-jp", kind: CharsetKind::Euc };
/// Text that was not UTF-8 and has been converted, since nothing declared its charset.
pub const GUESSED: Charset = Charset { name: UTF_8, kind: CharsetKind::Single };
/// Charsets with more than one byte per character.
const WIDE: [Charset; 9] = [
    EUC_JP,
    Charset { name: "euc-kr", kind: CharsetKind::Euc },
    Charset { name: "gb2312", kind: CharsetKind::Euc },
    Charset { name: "gbk", kind: CharsetKind::Double },
    Charset { name: "gb18030", kind: CharsetKind::Double },
    Charset { name: "big5", kind: CharsetKind::Double },
    Charset { name: "big5-hkscs", kind: CharsetKind::Double },
    Charset { name: "ks_c_5601-1987", kind: CharsetKind::Euc },
    Charset { name: "shift_jis", kind: CharsetKind::ShiftJis },
];
/// Charsets with one byte per character. Not ISO-8859-1: what is labelled so is windows-1252.
const NARROW: &str = "koi8-r koi8-u iso-8859-2 iso-8859-3 iso-8859-4 iso-8859-5 iso-8859-6 iso-8859-7 iso-8859-8 \
    iso-8859-9 iso-8859-10 iso-8859-13 iso-8859-14 iso-8859-15 iso-8859-16 windows-874 windows-1250 windows-1251 \
    windows-1253 windows-1254 windows-1255 windows-1256 windows-1257 windows-1258 tis-620 ibm850 ibm852 ibm866 \
    macintosh";
/// U+E080 to U+E0FF: a single-byte character.
const ONE: u32 = 0xe000;
/// Plane 15: a two-byte character.
const TWO: u32 = 0xf_0000;
/// Plane 16: two more bytes of the previous character.
const MORE: u32 = 0x10_0000;

impl Charset {
    /// The charset that a message calls `name`; `None` for UTF-8, for windows-1252, and for unknown ones.
    pub fn find(name: &[u8]) -> Option<Self> {
        let name = match name.to_ascii_lowercase().as_slice() {
            b"x-sjis" | b"sjis" | b"shift-jis" | b"windows-31j" | b"cp932" => b"shift_jis".to_vec(),
            b"x-gbk" | b"cp936" => b"gbk".to_vec(),
            b"x-euc-jp" => b"euc-jp".to_vec(),
            other => match other.strip_prefix(b"cp125") {
                Some(page) => [b"windows-125", page].concat(),
                None => other.to_vec(),
            },
        };
        let wide = WIDE.into_iter().find(|charset| charset.name.as_bytes() == name);
        let narrow = || NARROW.split(' ').find(|one| one.as_bytes() == name);
        wide.or_else(|| narrow().map(|name| Self { name, kind: CharsetKind::Single }))
    }

    /// `bytes` with each non-ASCII character as a private-use character; `None` if they are not in this charset.
    pub fn veil(self, bytes: &[u8]) -> Option<String> {
        let mut out = String::with_capacity(bytes.len() * 2);
        let mut rest = bytes.iter().copied();
        while let Some(first) = rest.next() {
            let kana = self.kind == CharsetKind::ShiftJis && (0xa1..=0xdf).contains(&first);
            if first.is_ascii() || kana || self.kind == CharsetKind::Single {
                out.push(if first.is_ascii() { char::from(first) } else { char::from_u32(ONE + u32::from(first))? });
                continue;
            }
            let second = rest.next()?;
            let fits = match self.kind {
                CharsetKind::Euc => first >= 0x8e && second >= 0xa1,
                CharsetKind::ShiftJis => {
                    (0x81..=0xfc).contains(&first) && (0x40..=0xfc).contains(&second) && second != 0x7f
                }
                _ => first >= 0x81 && (second >= 0x40 || second.is_ascii_digit()) && second != 0x7f,
            };
            if !fits {
                return None;
            }
            out.push(char::from_u32(TWO + u32::from(u16::from_be_bytes([first, second])))?);
            let more = match (self.kind, first, second) {
                (CharsetKind::Euc, 0x8f, _) => u16::from(rest.next()?),
                (CharsetKind::Double, _, b'0'..=b'9') => u16::from_be_bytes([rest.next()?, rest.next()?]),
                _ => continue,
            };
            out.push(char::from_u32(MORE + u32::from(more)).filter(|_| more >= 0x80)?);
        }
        Some(out)
    }
}

/// Whether `c` continues the character before it.
pub fn goes_on(c: char) -> bool {
    u32::from(c) >= MORE
}

/// The bytes of `c` in the charset called `label`.
pub fn raw(c: char, label: &str) -> impl Iterator<Item = u8> {
    let mut bytes = [0; 4];
    let code = u32::from(c);
    let [_, _, high, low] = code.to_be_bytes();
    let length = if label == UTF_8 || c.is_ascii() {
        c.encode_utf8(&mut bytes).len()
    } else {
        let length;
        (bytes, length) = match code {
            0xe080..=0xe0ff => ([low, 0, 0, 0], 1),
            MORE.. if high == 0 => ([low, 0, 0, 0], 1),
            TWO.. => ([high, low, 0, 0], 2),
            _ => ([b'?', 0, 0, 0], 1),
        };
        length
    };
    bytes.into_iter().take(length)
}

/// The bytes of `text` in the charset called `label`.
pub fn bytes_of(text: &str, label: &str) -> Vec<u8> {
    text.chars().flat_map(|c| raw(c, label)).collect()
}

/// `text` as EUC-JP, if it is ISO-2022-JP (RFC 1468) with non-ASCII characters.
pub fn from_iso_2022_jp(text: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len());
    // What precedes each byte of a character, and how many bytes it has.
    let (mut prefix, mut width): (&[u8], usize) = (b"", 0);
    let mut found = false;
    let mut rest = text;
    while let Some((first, tail)) = rest.split_first() {
        let escapes: [(&[u8], &[u8], usize); 6] = [
            (b"\x1b(B", b"", 0),
            (b"\x1b(J", b"", 0),
            (b"\x1b(I", b"\x8e", 1),
            (b"\x1b$@", b"", 2),
            (b"\x1b$B", b"", 2),
            (b"\x1b$(D", b"\x8f", 2),
        ];
        if let Some((sequence, before, wide)) = escapes.into_iter().find(|(sequence, ..)| rest.starts_with(sequence)) {
            (prefix, width) = (before, wide);
            found |= wide > 0;
            rest = rest.get(sequence.len()..)?;
        } else if width == 0 || !first.is_ascii_graphic() {
            if !first.is_ascii() || *first == 0x1b {
                return None;
            }
            out.push(*first);
            rest = tail;
        } else {
            let (character, tail) = rest.split_at_checked(width)?;
            if !character.iter().all(u8::is_ascii_graphic) {
                return None;
            }
            out.extend_from_slice(prefix);
            out.extend(character.iter().map(|byte| byte | 0x80));
            rest = tail;
        }
    }
    found.then_some(out)
}

/// 0x80 to 0x9F in windows-1252; the five unassigned ones are control characters, as WHATWG defines it.
const WINDOWS_1252: [char; 32] = [
    '\u{20ac}', '\u{81}', '\u{201a}', '\u{192}', '\u{201e}', '\u{2026}', '\u{2020}', '\u{2021}', //
    '\u{2c6}', '\u{2030}', '\u{160}', '\u{2039}', '\u{152}', '\u{8d}', '\u{17d}', '\u{8f}', //
    '\u{90}', '\u{2018}', '\u{2019}', '\u{201c}', '\u{201d}', '\u{2022}', '\u{2013}', '\u{2014}', //
    '\u{2dc}', '\u{2122}', '\u{161}', '\u{203a}', '\u{153}', '\u{9d}', '\u{17e}', '\u{178}',
];

/// The text that `bytes` represent.
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
    fn veiled_text_comes_back() {
        for (name, text) in [
            ("KOI8-R", &b"\xf7\xee\xe9 x"[..]),
            ("gb18030", b"\xb1\xa8\x95\x5c\x81\x30\x89\x38"),
            ("Shift_JIS", b"\x95\x5c\x8e\xa6 \xb1\x83\x40"),
            ("EUC-JP", b"\xc9\xbd\x8e\xb1\x8f\xb0\xa1"),
            ("cp1251", b"\xcd\xe0"),
        ] {
            let charset = Charset::find(name.as_bytes()).unwrap();
            let veiled = charset.veil(text).unwrap();
            let back = bytes_of(&veiled, charset.name);
            assert!(veiled.chars().all(|c| c.is_ascii() || u32::from(c) >= ONE));
            assert_eq!(back, text, "{name}");
        }
        for name in ["utf-8", "us-ascii", "iso-8859-1", "windows-1252", "x-unknown", ""] {
            assert_eq!(Charset::find(name.as_bytes()), None, "{name}");
        }
        assert_eq!(Charset::find(b"gbk").unwrap().veil(b"St\xf6 "), None);
        assert_eq!(EUC_JP.veil(b"\xc9x"), None);
    }

    #[test]
    fn iso_2022_jp_becomes_euc_jp() {
        assert_eq!(from_iso_2022_jp(b"a \x1b$BI=\x1b(B b").as_deref(), Some(&b"a \xc9\xbd b"[..]));
        assert_eq!(from_iso_2022_jp(b"\x1b(I1\x1b(B").as_deref(), Some(&b"\x8e\xb1"[..]));
        for other in [&b"plain"[..], b"\x1b[1m", b"\x1b$BI", b"\x1b$B\xc9"] {
            assert_eq!(from_iso_2022_jp(other), None);
        }
    }

    #[test]
    fn both_charsets() {
        assert_eq!(decode("St\u{f6}rung \u{20ac}".as_bytes()), "St\u{f6}rung \u{20ac}");
        assert_eq!(decode(b"St\xf6rung 5 \x80"), "St\u{f6}rung 5 \u{20ac}");
        assert_eq!(decode(b"\xff\x9f\xa0"), "\u{ff}\u{178}\u{a0}");
        assert_eq!(decode(b"plain"), "plain");
    }
}
