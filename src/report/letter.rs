// SPDX-License-Identifier: Apache-2.0
//! What all mails of the gateway itself have in common: head, text, and making foreign texts safe for display.
//!
//! Texts use LF between lines. The result is ASCII, except for addresses that are not,
//! so it passes through any provider. Like all mail it is normalized, which adds Date and Message-ID.

use crate::message::base64::strict;
use crate::message::encoded::{self, unstructured};
use crate::message::outgoing::QuotedPrintable;
use crate::message::{date, header};
use crate::system::clock;
pub use crate::system::cut;
use crate::system::{is_deceptive, is_plain};

/// The length of a text line.
const WIDTH: usize = 76;
/// Bytes of an address that is shown: RFC 5321 section 4.5.3.1 allows 64 + 1 + 255.
pub const ADDRESS_SHOWN: usize = 320;
/// Bytes of a reason that is shown. With this no line can reach the 998 bytes of RFC 5322 section 2.1.1.
pub const REASON_SHOWN: usize = 600;

/// The state of the message that is reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ReportKind {
    /// Delivery was given up.
    Failed,
    /// It is delayed, and delivery is still attempted.
    Delayed,
    /// It is held: it is unknown whether it has arrived.
    Doubtful,
}

/// The header of a mail.
pub struct Head<'a> {
    /// Our own host name.
    pub hostname: &'a str,
    /// The sender.
    pub from: &'a str,
    /// The recipient.
    pub to: &'a [String],
    /// The subject.
    pub subject: &'a str,
    /// RFC 3834 section 5: `auto-replied` when it answers a message, else `auto-generated`.
    pub automatic: &'static str,
}

impl Head<'_> {
    /// The fields, up to and with `MIME-Version`.
    pub fn text(&self) -> String {
        let name: String =
            self.hostname.chars().filter(|c| c.is_ascii_graphic() && !matches!(c, '"' | '\\')).take(255).collect();
        let subject = format!(" {}", one_line(self.subject, 200));
        let subject = unstructured("Subject:".len(), subject.as_bytes(), usize::MAX);
        // Each on a separate line: RFC 5322 section 2.1.1 limits lines, not fields.
        let to: Vec<String> = self.to.iter().map(|to| format!("<{}>", one_line(to, ADDRESS_SHOWN))).collect();
        format!(
            "From: \"Mail gateway {name}\" <{}>\r\nTo: {}\r\nSubject:{}\r\nAuto-Submitted: {}\r\nMIME-Version: 1.0\r\n",
            one_line(self.from, ADDRESS_SHOWN),
            to.join(",\r\n "),
            String::from_utf8_lossy(&subject),
            self.automatic,
        )
    }
}

/// The last fields of a text part and the text: `text/SUBTYPE`, in 7 bits whatever it contains.
pub fn part(subtype: &str, text: &str) -> Vec<u8> {
    let text = text.replace('\n', "\r\n");
    let plain = text.bytes().all(|b| matches!(b, b' '..=b'~' | b'\t' | b'\r' | b'\n'));
    let fits = text.split("\r\n").all(|line| line.len() <= 998);
    let (encoding, text) = if plain && fits {
        ("7bit", text.into_bytes())
    } else {
        let (mut coder, mut coded) = (QuotedPrintable::default(), Vec::with_capacity(text.len() * 2));
        coder.push(text.as_bytes(), &mut coded);
        coder.finish(&mut coded);
        ("quoted-printable", coded)
    };
    let head = format!("Content-Type: text/{subtype}; charset=utf-8\r\nContent-Transfer-Encoding: {encoding}\r\n\r\n");
    [head.into_bytes(), text].concat()
}

/// Replaces a character with a special meaning for screens or mail: control characters of all kinds, and those
/// that change the text direction.
fn harmless(c: char) -> char {
    if c.is_control() || is_deceptive(c) { ' ' } else { c }
}

/// `text` on one line without control characters, at most `limit` bytes and the `…` that marks the truncation.
pub fn one_line(text: &str, limit: usize) -> String {
    // The history keeps ten texts of each message.
    if text.len() <= limit && is_plain(text.as_bytes()) {
        return text.to_string();
    }
    let mut line: String = cut(text, limit).chars().map(harmless).collect();
    if text.len() > limit {
        line.push('…');
    }
    line
}

/// Appends `text` as lines that begin with `indent` and are wrapped at a readable width.
pub fn fill(out: &mut String, indent: &str, text: &str) {
    let mut width = 0;
    for word in text.split_whitespace() {
        if width == 0 {
            out.push_str(indent);
            width = indent.len();
        } else if width + 1 + word.chars().count() > WIDTH {
            out.push('\n');
            out.push_str(indent);
            width = indent.len();
        } else {
            out.push(' ');
            width += 1;
        }
        out.push_str(word);
        width += word.chars().count();
    }
    if width > 0 {
        out.push('\n');
    }
}

/// A time in readable form; times of a clock that was not set yet are unknown.
pub fn when(at: i64) -> Option<String> {
    (at >= clock::EARLIEST).then(|| date::rfc5322(at))
}

/// The name of a device for display.
pub fn who(client: &str) -> String {
    match client {
        "local" | "" => "a program on the gateway".into(),
        address => one_line(address, 64),
    }
}

/// `1 message`, `17 messages`.
pub fn counted(number: u64, what: &str) -> String {
    if number == 1 { format!("1 {what}") } else { format!("{number} {what}s") }
}

/// `3 days 4 hours`, `2 minutes`: the two largest units.
pub fn duration(seconds: u64) -> String {
    let words = largest_units(seconds).map(|(n, unit)| counted(n, unit));
    joined(words, "0 seconds")
}

/// The same as `3d 4h`, `2m`: what is filled into sentences that are translated.
pub fn brief(seconds: u64) -> String {
    let words = largest_units(seconds).map(|(n, unit)| format!("{n}{}", unit.get(..1).unwrap_or_default()));
    joined(words, "0s")
}

fn largest_units(seconds: u64) -> impl Iterator<Item = (u64, &'static str)> {
    let parts = [
        (seconds / 86_400, "day"),
        (seconds / 3600 % 24, "hour"),
        (seconds / 60 % 60, "minute"),
        (seconds % 60, "second"),
    ];
    parts.into_iter().skip_while(|(n, _)| *n == 0).take(2).filter(|(n, _)| *n > 0)
}

fn joined(words: impl Iterator<Item = String>, none: &str) -> String {
    let words: Vec<String> = words.collect();
    if words.is_empty() { none.into() } else { words.join(" ") }
}

/// The Subject in `header`, readable; empty when there is none.
pub fn readable_subject(header: &[u8]) -> String {
    header::find(header, "Subject").map(|field| readable(&encoded::decode(&field.unfolded()))).unwrap_or_default()
}

/// `text` with its encoded words decoded. Words in unknown charsets, and text that only looks like a word,
/// stay as they are.
pub fn readable(text: &str) -> String {
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
        "Q" | "q" => quoted(text)?,
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
fn quoted(text: &str) -> Option<Vec<u8>> {
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
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn one_line_is_clean_and_cut_at_a_character() {
        assert_eq!(one_line("a\r\nb\x1b[2J\u{202e}\u{61c}c", 100), "a  b [2J  c");
        assert_eq!(one_line("äöü", 3), "ä…");
        assert_eq!(one_line("abc", 3), "abc");
        assert_eq!(cut("äöü", 1), "");
    }

    #[test]
    fn filled_lines_break_at_blanks() {
        let mut out = String::new();
        fill(&mut out, "  ", &"word ".repeat(30));
        assert!(out.lines().all(|line| line.len() <= WIDTH && line.starts_with("  word")), "{out}");
        assert_eq!(out.split_whitespace().count(), 30);
        fill(&mut out, "  ", " ");
        assert!(out.ends_with("word\n"));
    }

    #[test]
    fn a_clock_that_was_not_set_tells_no_time() {
        assert_eq!(when(1000), None);
        assert_eq!(when(1_795_395_723).as_deref(), Some("Mon, 23 Nov 2026 01:02:03 +0000"));
        assert_eq!(counted(1, "mail") + &counted(0, "mail"), "1 mail0 mails");
    }

    proptest! {
        #[test]
        fn parts_are_seven_bit_with_short_lines(text in "(?s).{0,300}", limit in 0usize..40) {
            let part = part("plain", &text);
            prop_assert!(part.is_ascii());
            prop_assert!(part.split(|b| *b == b'\n').all(|line| line.len() <= 998));
            let line = one_line(&text, limit);
            prop_assert!(line.len() <= limit + '…'.len_utf8());
            prop_assert!(!line.contains(char::is_control));
        }
    }

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
            assert_eq!(readable(written), read);
        }
    }

    #[test]
    fn subjects() {
        assert_eq!(readable_subject(b"From: x\r\nSubject: =?utf-8?Q?a?=\r\n =?utf-8?Q?b?=\r\n"), "ab");
        assert_eq!(readable_subject(b"Subject: St\xf6rung\r\n"), "Störung");
        assert_eq!(readable_subject(b"From: x\r\n"), "");
    }

    proptest! {
        #[test]
        fn what_the_repair_encodes_is_read_back(text in "[a-zäöüß€ ]{1,200}") {
            let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
            let written = encoded::unstructured(8, format!(" {text}").as_bytes(), usize::MAX);
            let header = [b"Subject:", written.as_slice(), b"\r\n"].concat();
            prop_assert_eq!(readable_subject(&header), text);
        }

        #[test]
        fn anything_can_be_read(header: Vec<u8>, text in "(=\\?utf-8\\?[QBx]\\?[=a-z0-9_]{0,9}\\?=| |x|\u{fc}){0,12}") {
            readable_subject(&header);
            readable(&text);
        }
    }

    #[test]
    fn durations_in_words() {
        for (seconds, words, short) in [
            (0, "0 seconds", "0s"),
            (61, "1 minute 1 second", "1m 1s"),
            (3600, "1 hour", "1h"),
            (270_059, "3 days 3 hours", "3d 3h"),
        ] {
            assert_eq!((duration(seconds).as_str(), brief(seconds).as_str()), (words, short));
        }
    }
}
