// SPDX-License-Identifier: Apache-2.0
//! Header text in readable form: encoded words (RFC 2047) decoded, since the gateway encodes every umlaut.

use crate::message::base64::strict;
use crate::message::encoded;
use crate::message::header;

/// The Subject in `header`, readable; empty when there is none.
pub fn subject(header: &[u8]) -> String {
    header::find(header, "Subject").map(|field| words(&encoded::decode(&field.unfolded()))).unwrap_or_default()
}

/// `text` with its encoded words decoded. Words in unknown charsets, and text that only looks like a word,
/// stay as they are.
pub fn words(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    // Bytes of adjacent words of one charset: some programs split characters (RFC 2047 section 5 forbids this).
    let mut held: Vec<u8> = Vec::new();
    let mut blanks = "";
    let mut rest = text;
    while !rest.is_empty() {
        let word_end = rest.find([' ', '\t']).unwrap_or(rest.len());
        let (word, tail) = rest.split_at_checked(word_end).unwrap_or((rest, ""));
        let next = tail.trim_start_matches([' ', '\t']);
        match decoded(word) {
            Some(bytes) => {
                // Spaces between two encoded words are ignored (RFC 2047 section 6.2).
                if held.is_empty() {
                    out.push_str(blanks);
                }
                held.extend(bytes);
            }
            None => {
                out.push_str(&encoded::decode(&std::mem::take(&mut held)));
                out.push_str(blanks);
                out.push_str(word);
            }
        }
        blanks = tail.get(..tail.len() - next.len()).unwrap_or_default();
        rest = next;
    }
    out.push_str(&encoded::decode(&held));
    out
}

/// The bytes of one `=?charset?B?text?=`, if the charset is UTF-8 or a subset of windows-1252.
fn decoded(word: &str) -> Option<Vec<u8>> {
    let mut parts = word.strip_prefix("=?")?.strip_suffix("?=")?.split('?');
    let (charset, encoding, text) = (parts.next()?, parts.next()?, parts.next()?);
    // RFC 2231 section 5: a language may follow the charset.
    let charset = charset.split('*').next().unwrap_or_default().to_ascii_lowercase();
    let known = ["utf-8", "us-ascii", "iso-8859-1", "windows-1252", "iso-8859-15"].contains(&charset.as_str());
    if !known || parts.next().is_some() {
        return None;
    }
    let bytes = match encoding {
        "B" | "b" => strict(text.as_bytes())?,
        "Q" | "q" => q(text)?,
        _ => return None,
    };
    let is_latin = charset.starts_with("iso") || charset.starts_with("win");
    // Latin bytes that happen to be valid UTF-8 would be read as such later.
    Some(if is_latin { bytes.iter().map(|b| latin(*b)).collect::<String>().into_bytes() } else { bytes })
}

fn latin(byte: u8) -> char {
    encoded::decode(&[byte]).chars().next().unwrap_or(' ')
}

/// RFC 2047 section 4.2.
fn q(text: &str) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        out.push(match byte {
            b'_' => b' ',
            b'=' => {
                let digit = |byte: Option<u8>| char::from(byte?).to_digit(16).and_then(|d| u8::try_from(d).ok());
                digit(bytes.next())? << 4 | digit(bytes.next())?
            }
            byte => byte,
        });
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn words_of_all_kinds() {
        for (written, read) in [
            ("plain text", "plain text"),
            ("=?utf-8?B?U3TDtnJ1bmc=?= im Werk", "Störung im Werk"),
            ("=?UTF-8?Q?St=C3=B6rung_1?=  =?utf-8?q?_und_2?=", "Störung 1 und 2"),
            ("a  =?iso-8859-1*de?Q?=FCber?= b", "a  über b"),
            ("=?windows-1252?Q?5_=80?=", "5 €"),
            // A character that was split.
            ("=?utf-8?Q?=C3?= =?utf-8?Q?=BC?=", "ü"),
            // Latin bytes that look like UTF-8 are not.
            ("=?iso-8859-1?Q?=C3=BC?=", "Ã¼"),
            ("=?koi8-r?B?8NLJ18XU?= x", "=?koi8-r?B?8NLJ18XU?= x"),
            ("=?utf-8?Q?=G1?= =?utf-8?X?a?= =?utf-8?B?*?= =??=", "=?utf-8?Q?=G1?= =?utf-8?X?a?= =?utf-8?B?*?= =??="),
            ("", ""),
        ] {
            assert_eq!(words(written), read);
        }
    }

    #[test]
    fn subjects() {
        assert_eq!(subject(b"From: x\r\nSubject: =?utf-8?Q?a?=\r\n =?utf-8?Q?b?=\r\n"), "ab");
        assert_eq!(subject(b"Subject: St\xf6rung\r\n"), "Störung");
        assert_eq!(subject(b"From: x\r\n"), "");
    }

    proptest! {
        #[test]
        fn what_the_repair_encodes_is_read_back(text in "[a-zäöüß€ ]{1,200}") {
            let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
            let written = encoded::unstructured(8, format!(" {text}").as_bytes(), usize::MAX);
            let header = [b"Subject:", written.as_slice(), b"\r\n"].concat();
            prop_assert_eq!(subject(&header), text);
        }

        #[test]
        fn anything_can_be_read(header: Vec<u8>, text in "(=\\?utf-8\\?[QBx]\\?[=a-z0-9_]{0,9}\\?=| |x|\u{fc}){0,12}") {
            subject(&header);
            words(&text);
        }
    }
}
