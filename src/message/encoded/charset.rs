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
    /// Two bytes, most of which are over 160: real text goes beyond what the charset has. A few such pairs can be
    /// windows-1252 as well.
    Extended,
    /// Two bytes, the second one possibly ASCII; in GB18030 also four.
    Double,
    /// Shift_JIS: two bytes, or one of the half-width katakana.
    ShiftJis,
    /// ISO 2022 in 7 bits: what a byte means depends on the escape sequence before it.
    Shifted,
}

/// A charset that header text can be labelled with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Charset<'a> {
    /// Its name in the IANA registry, or as the message has it.
    pub name: &'a str,
    kind: CharsetKind,
}

/// How to encode header text.
#[derive(Debug, Clone, Copy)]
pub struct Style<'a> {
    /// Maximum length of a word that stays as it is, in bytes.
    pub word_limit: usize,
    /// The charset name used in encoded words.
    pub label: &'a str,
}

impl From<usize> for Style<'static> {
    fn from(word_limit: usize) -> Self {
        Self { word_limit, label: UTF_8 }
    }
}

/// The charset of all text that is not labelled otherwise.
pub const UTF_8: &str = "utf-8";
/// What ISO-2022-JP becomes: the same characters with the eighth bit set instead of escape sequences.
pub const EUC_JP: Charset<'static> = Charset { name: "euc-jp", kind: CharsetKind::Euc };
/// Text that was not UTF-8 and has been converted, since nothing declared its charset.
pub const GUESSED: Charset<'static> = Charset { name: UTF_8, kind: CharsetKind::Single };
/// Charsets with more than one byte per character: their names as [`key`] has them, how their bytes form characters,
/// and the name that readers know, if it is another.
const WIDE: [(&str, CharsetKind, &str); 9] = [
    ("eucjp", CharsetKind::Euc, "euc-jp"),
    ("shiftjis sjis mskanji windows31j cp932", CharsetKind::ShiftJis, "shift_jis"),
    // Text that is called GB2312 usually goes beyond it.
    ("gb2312 gb231280 euccn", CharsetKind::Extended, "gbk"),
    ("gbk cp936", CharsetKind::Double, "gbk"),
    ("gb18030", CharsetKind::Double, "gb18030"),
    ("big5 cp950", CharsetKind::Double, "big5"),
    ("euckr ksc56011987 ksc5601", CharsetKind::Extended, ""),
    ("cp949 windows949 big5hkscs", CharsetKind::Double, ""),
    ("iso2022jp iso2022jp1 iso2022jp2 iso2022jp3 iso2022jp2004 iso2022kr iso2022cn", CharsetKind::Shifted, ""),
];
/// Charsets with one byte per character, by the names that readers know. Not ISO-8859-1: what is labelled so is
/// windows-1252.
const NARROW: &str = "koi8-r koi8-u iso-8859-2 iso-8859-3 iso-8859-4 iso-8859-5 iso-8859-6 iso-8859-7 iso-8859-8 \
    iso-8859-9 iso-8859-10 iso-8859-13 iso-8859-14 iso-8859-15 iso-8859-16 windows-874 windows-1250 windows-1251 \
    windows-1253 windows-1254 windows-1255 windows-1256 windows-1257 windows-1258 tis-620 ibm850 ibm852 ibm866 \
    macintosh x-mac-cyrillic cyrillic greek hebrew arabic viscii";
/// The beginnings of names, as [`key`] has them, that say nothing about bytes over 127, or something else than that
/// each is a character.
const UNUSABLE: &str = "utf ucs unicode iso10646 iso646 iso2022 ansi ascii usascii hz unknown windows1252";
/// Names of ISO-8859-1.
const LATIN_1: &str = "iso88591 latin1 windows1252";
/// Maximum length of the name of a charset: those in the IANA registry have up to 40 bytes.
const LABEL_LIMIT: usize = 40;
/// U+E080 to U+E0FF: a single-byte character.
const ONE: u32 = 0xe000;
/// Plane 15: a two-byte character.
const TWO: u32 = 0xf_0000;
/// Plane 16: two more bytes of the previous character.
const MORE: u32 = 0x10_0000;

impl<'a> Charset<'a> {
    /// The charset that a message calls `name`; `None` for UTF-8, for windows-1252, and for names that do not say how
    /// to read a byte. Nothing has to be known about any other: its text is only labelled.
    pub fn find(name: &'a [u8]) -> Option<Self> {
        let key = key(name);
        let one = Self::named(name)?;
        let known = one.kind != CharsetKind::Single || NARROW.split(' ').any(|name| name == one.name);
        // Names of charsets have digits; what has none is hardly one (`German`, `default`).
        let usable = key.bytes().any(|byte| byte.is_ascii_digit())
            && !UNUSABLE.split(' ').any(|start| key.starts_with(start))
            && !is_latin_1(&key);
        (known || usable).then_some(one)
    }

    /// The charset called `name`, whatever that is: if unknown, one with a byte per character. `None` if there can be
    /// none of that name.
    pub fn named(name: &'a [u8]) -> Option<Self> {
        let is_label = |byte: u8| byte.is_ascii_alphanumeric() || b"-_+".contains(&byte);
        let declared = std::str::from_utf8(name).ok()?;
        if declared.is_empty() || declared.len() > LABEL_LIMIT || !declared.bytes().all(is_label) {
            return None;
        }
        let key = key(name);
        let wide = WIDE.iter().find(|(names, ..)| names.split(' ').any(|one| one == key));
        if let Some((_, kind, known)) = wide {
            return Some(Self { name: if known.is_empty() { declared } else { known }, kind: *kind });
        }
        let known = NARROW.split(' ').find(|one| self::key(one.as_bytes()) == key);
        Some(Self { name: known.unwrap_or(declared), kind: CharsetKind::Single })
    }

    /// Whether its text is ASCII with escape sequences.
    pub fn has_escapes(self) -> bool {
        self.kind == CharsetKind::Shifted
    }

    /// `bytes` with each non-ASCII character as a private-use character; `None` if they are not in this charset.
    pub fn veil(self, bytes: &[u8]) -> Option<String> {
        let mut out = String::with_capacity(bytes.len() * 2);
        if self.kind == CharsetKind::Shifted {
            let is_shift = |byte: &u8| matches!(byte, 0x0e | 0x0f | 0x1b);
            let (first, last) = (bytes.iter().position(is_shift)?, bytes.iter().rposition(is_shift)?);
            // It has to stay together; the last escape sequence has two more bytes.
            let end = last + if bytes.get(last) == Some(&0x1b) { 3 } else { 1 };
            for (at, byte) in bytes.iter().enumerate() {
                let inside = (first..end).contains(&at) && !matches!(byte, b'\r' | b'\n');
                out.push(if inside { char::from_u32(MORE + u32::from(*byte))? } else { char::from(*byte) });
            }
            return Some(out).filter(|_| bytes.is_ascii());
        }
        // Characters that are not in the usual range, less those that are.
        let mut beyond = 0;
        let mut rest = bytes.iter().copied();
        while let Some(first) = rest.next() {
            let kana = self.kind == CharsetKind::ShiftJis && (0xa1..=0xdf).contains(&first);
            if first.is_ascii() || kana || self.kind == CharsetKind::Single {
                out.push(if first.is_ascii() { char::from(first) } else { char::from_u32(ONE + u32::from(first))? });
                continue;
            }
            let second = rest.next()?;
            beyond += if first >= 0xa1 && second >= 0xa1 { -1 } else { 1 };
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
        (self.kind != CharsetKind::Extended || beyond <= 0).then_some(out)
    }
}

/// `name` without what its spellings differ in: letters and digits only, in lower case, without the prefixes of
/// unregistered names and of aliases.
fn key(name: &[u8]) -> String {
    let name: String = name
        .iter()
        .filter(|byte| byte.is_ascii_alphanumeric())
        .map(|byte| char::from(byte.to_ascii_lowercase()))
        .collect();
    let bare = name.strip_prefix("cs").or(name.strip_prefix('x')).unwrap_or(&name);
    let page = bare.strip_prefix("cp125").or(bare.strip_prefix("win125"));
    page.map_or(bare.to_string(), |page| format!("windows125{page}"))
}

fn is_latin_1(key: &str) -> bool {
    LATIN_1.split(' ').any(|one| one == key)
}

/// `bytes` as text, if `name` is a charset that can be converted: UTF-8, ASCII, and ISO-8859-1 and what it usually is.
pub fn converted(name: &[u8], bytes: &[u8]) -> Option<String> {
    match key(name).as_str() {
        "utf8" | "usascii" | "ascii" => std::str::from_utf8(bytes).ok().map(str::to_string),
        other => is_latin_1(other).then(|| bytes.iter().map(|byte| windows_1252(*byte)).collect()),
    }
}

/// `text` in windows-1252, if that is possible.
pub fn to_windows_1252(text: &str) -> Option<Vec<u8>> {
    text.chars().map(|c| (0..=u8::MAX).find(|byte| windows_1252(*byte) == c)).collect()
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
            ("iso-2022-kr", b"\x1b$)C\x0e1b\x0f x"),
            ("x-no-such-1", b"\xcd\xe0"),
        ] {
            let charset = Charset::find(name.as_bytes()).unwrap();
            let veiled = charset.veil(text).unwrap();
            let back = bytes_of(&veiled, charset.name);
            assert!(veiled.chars().all(|c| c.is_ascii() || u32::from(c) >= ONE));
            assert!(!veiled.is_ascii(), "{name}");
            assert_eq!(back, text, "{name}");
        }
        for (name, known) in [
            ("KOI8R", "koi8-r"),
            ("csKOI8R", "koi8-r"),
            ("iso8859-2", "iso-8859-2"),
            ("win-1251", "windows-1251"),
            ("ms_kanji", "shift_jis"),
            ("csShiftJIS", "shift_jis"),
            ("gb_2312-80", "gbk"),
            ("EUC-CN", "gbk"),
            ("cp949", "cp949"),
            ("ks_c_5601-1987", "ks_c_5601-1987"),
            ("iso_8859-5", "iso-8859-5"),
            ("iso-8859-8-i", "iso-8859-8-i"),
            ("latin2", "latin2"),
            ("cp437", "cp437"),
            ("866", "866"),
            ("Cyrillic", "cyrillic"),
        ] {
            assert_eq!(Charset::find(name.as_bytes()).map(|charset| charset.name), Some(known), "{name}");
        }
        let long = "1".repeat(41);
        for name in [
            "utf-8",
            "utf8",
            "utf-16le",
            "us-ascii",
            "ansi_x3.4-1968",
            "iso-8859-1",
            "latin1",
            "windows-1252",
            "cp1252",
            "unknown-8bit",
            "x-unknown",
            "German",
            "a b1",
            "ü1",
            "",
            &long,
        ] {
            assert_eq!(Charset::find(name.as_bytes()), None, "{name}");
        }
        assert_eq!(Charset::find(b"gbk").unwrap().veil(b"St\xf6 "), None);
        assert_eq!(EUC_JP.veil(b"\xc9x"), None);
        assert_eq!(Charset::find(b"iso-2022-kr").unwrap().veil(b"St\xf6"), None);
        assert!(Charset::find(b"euc-kr").unwrap().veil(b"\x8c\x63\xb9\xe6\xb0\xa2").is_some());
        assert_eq!(Charset::find(b"gb2312").unwrap().veil(b"Gr\xf6\xdfe \xfcber \xf6l"), None);
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
