// SPDX-License-Identifier: Apache-2.0
//! Finds where the header ends if the blank line is missing.

use super::once::is_message_id;
use crate::message::address::list::check;
use crate::message::address::mailboxes;
use crate::message::date::is_date;
use crate::message::encoded::parameters::{media_type, parameter};
use crate::message::header::{self, is_name, is_one_of};

pub use crate::message::header::NAME_LIMIT;

/// How much of the end of a header is searched for the field that a parameter belongs to, in bytes.
const WRAPPED_LIMIT: usize = 2048;

/// The kind of a header line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LineKind {
    /// Empty.
    Blank,
    /// Begins with a space: continues the field before.
    Continuation,
    /// The first line of a field.
    Field,
    /// None of these: text.
    Other,
}

/// Known mail fields (RFC 5322 section 3.6, the IANA registry of message headers, and common ones).
const KNOWN: &str = "Accept-Language Apparently-To Approved Archived-At Autocrypt Autoforwarded Autosubmitted Bcc \
    Cc Comments Date Deferred-Delivery Delivered-To Delivery-Date Envelope-To Errors-To Expires Expiry-Date \
    Feedback-ID Followup-To From Importance In-Reply-To Jabber-ID Keywords Mail-Followup-To Mail-Reply-To \
    Mailing-List Message-ID Message-Type MIME-Version MT-Priority Newsgroups Obsoletes Organization Precedence \
    Priority Received References Reply-By Reply-To Require-Recipient-Valid-Since Return-Path Return-Receipt-To \
    Sender Sensitivity Subject Supersedes Thread-Index Thread-Topic TLS-Report-Domain TLS-Report-Submitter \
    TLS-Required To User-Agent VBR-Info Xref Return-Receipt-Requested";
/// Prefixes of further field names.
const KNOWN_FAMILIES: &str = "X- List- Content- Resent- ARC- DKIM- DomainKey- Received- Authentication- Auto- BIMI- \
    Original- Disposition-Notification- Downgraded-";

/// The kind of `line`, given without its line ending.
pub fn kind(line: &[u8]) -> LineKind {
    match line.first() {
        None => LineKind::Blank,
        Some(b' ' | b'\t') => LineKind::Continuation,
        // A boundary may contain colons.
        Some(b'-') if line.starts_with(b"--") => LineKind::Other,
        Some(_) => match name(line) {
            // Spaces before the colon (RFC 5322 section 4.5) only where nothing else can be meant: in text they are
            // common.
            Some((name, blanks)) if !blanks || is_known(name) => LineKind::Field,
            _ => LineKind::Other,
        },
    }
}

/// Whether `line` separates the messages of an mbox file (RFC 4155), possibly in escaped form.
pub fn is_mailbox_line(line: &[u8]) -> bool {
    line.strip_prefix(b">").unwrap_or(line).starts_with(b"From ")
}

/// `Mime-Version 1.0` and similar with the missing colon; `None` if that cannot be meant.
pub fn with_colon(line: &[u8]) -> Option<Vec<u8>> {
    let (name, value) = line.split_at_checked(memchr::memchr2(b' ', b'\t', line)?)?;
    let encodings = [&b"7bit"[..], b"8bit", b"binary", b"base64", b"quoted-printable"];
    let is = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
    let meant = is("MIME-Version") && value.trim_ascii() == b"1.0"
        || is("Content-Type") && media_type(value).is_some()
        || is("Content-Transfer-Encoding") && encodings.iter().any(|one| value.trim_ascii().eq_ignore_ascii_case(one))
        || is("Message-ID") && is_message_id(value);
    meant.then(|| [name, b":", value].concat())
}

/// How much `line`, after a line that is not a field, indicates that the header continues rather than text: 0 unless it
/// is a known field with a valid value, and `header` does not have it yet if it may occur only once; 2 if its value
/// hardly occurs in text.
pub fn evidence(line: &[u8], header: &[u8]) -> usize {
    let Some((name, _)) = name(line).filter(|(name, _)| is_known(name)) else { return 0 };
    let value = line.get(memchr::memchr(b':', line).map_or(line.len(), |at| at + 1)..).unwrap_or_default();
    let name = String::from_utf8_lossy(name).to_ascii_lowercase();
    let new = || header::find(header, &name).is_none();
    let strong = match name.as_str() {
        "from" | "to" | "cc" | "bcc" | "sender" => new() && check(value).is_some(),
        "date" => new() && is_date(value),
        "mime-version" => value.trim_ascii().starts_with(b"1"),
        "content-type" => media_type(value).is_some(),
        _ => false,
    };
    let weak = match name.as_str() {
        "from" | "to" | "cc" | "bcc" | "sender" | "reply-to" => new() && !mailboxes(value).is_empty(),
        "date" | "mime-version" | "content-type" => false,
        "subject" => new(),
        "message-id" | "in-reply-to" | "references" => value.contains(&b'<') && value.contains(&b'@'),
        "received" => value.contains(&b';'),
        "x-mailer" | "x-priority" | "x-msmail-priority" | "x-mimeole" | "x-originating-ip" => new(),
        // In text, an X is seldom the start of a field name.
        _ => !name.starts_with("x-") && name.contains('-') && new(),
    };
    if strong { 2 } else { usize::from(weak) }
}

/// Whether a line that was broken without a space can continue the last field of `header`. Some fields are better
/// without it.
pub fn takes_lines(header: &[u8]) -> bool {
    let last = header::fields(header).last();
    let fixed = "Date Message-ID MIME-Version Content-Transfer-Encoding Return-Path From Sender";
    last.is_some_and(|last| !last.name.is_empty() && !last.is_one_of(fixed))
}

/// Whether `line` is a parameter that was wrapped without a space: the Content field at the end of `header` ends with a
/// semicolon, and `line` is `name=value`. It may look like a field if there is a colon in the value.
pub fn is_wrapped_parameter(line: &[u8], header: &[u8]) -> bool {
    let is_name = |name: &str| name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_*".contains(&byte));
    header.ends_with(b";\r\n")
        && parameter(line).is_some_and(|(name, value)| is_name(&name) && !matches!(value.as_slice(), b"" | b"="))
        && header
            .get(header.len().saturating_sub(WRAPPED_LIMIT)..)
            .and_then(|end| header::fields(end).last())
            .is_some_and(|last| last.name.get(..8).is_some_and(|start| start.eq_ignore_ascii_case(b"Content-")))
}

/// Whether `line` is the first line of a known mail field.
pub fn is_known_field(line: &[u8]) -> bool {
    name(line).is_some_and(|(name, _)| is_known(name))
}

/// Whether `header` has a known mail field.
pub fn has_known_field(header: &[u8]) -> bool {
    header::fields(header).any(|field| is_known(field.name))
}

/// Whether `header` is signed (RFC 6376).
pub fn is_signed(header: &[u8]) -> bool {
    header::find(header, "DKIM-Signature").is_some()
}

/// Where the unknown fields at the end of `header` begin; its length if there are none. Without a blank line after them
/// they are text: `Temperature: 80`.
pub fn trailing(header: &[u8]) -> usize {
    let (mut at, mut known) = (0, 0);
    for field in header::fields(header) {
        at += field.raw.len();
        if is_known(field.name) {
            known = at;
        }
    }
    known
}

/// Where the last line of `header` begins, if it consists of spaces only.
pub fn blank_last_line(header: &[u8]) -> Option<usize> {
    let text = header.strip_suffix(b"\r\n")?;
    let at = memchr::memrchr(b'\n', text)? + 1;
    text.get(at..)?.trim_ascii().is_empty().then_some(at)
}

/// The name of the field that `line` begins, and whether spaces follow it.
fn name(line: &[u8]) -> Option<(&[u8], bool)> {
    let before = line.get(..memchr::memchr(b':', line)?)?;
    let name = before.trim_ascii_end();
    (is_name(name) && before.len() <= NAME_LIMIT).then_some((name, name.len() < before.len()))
}

fn is_known(name: &[u8]) -> bool {
    let begins = |family: &str| {
        let start = name.get(..family.len());
        start.is_some_and(|start| start.eq_ignore_ascii_case(family.as_bytes()))
    };
    is_one_of(name, KNOWN) || KNOWN_FAMILIES.split(' ').any(begins)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_of_lines() {
        for (line, expected) in [
            ("", LineKind::Blank),
            (" x", LineKind::Continuation),
            ("Subject: x", LineKind::Field),
            ("Subject : x", LineKind::Field),
            ("subject\t:", LineKind::Field),
            ("Temperature: 80", LineKind::Field),
            ("Temperature : 80", LineKind::Other),
            ("Pump 3: stopped", LineKind::Other),
            ("Pump stopped", LineKind::Other),
            (": x", LineKind::Other),
            ("----=_12:34:56", LineKind::Other),
            ("Größe: 3", LineKind::Other),
        ] {
            assert_eq!(kind(line.as_bytes()), expected, "{line}");
        }
        assert_eq!(kind(format!("{}: x", "a".repeat(255)).as_bytes()), LineKind::Field);
        assert_eq!(kind(format!("{}: x", "a".repeat(256)).as_bytes()), LineKind::Other);
    }

    #[test]
    fn wrapped_parameters() {
        let header = b"Subject: x;\r\nContent-Type: multipart/mixed;\r\n charset=x;\r\n";
        for line in ["boundary=\"b\"", "boundary=\"a:b\"", "Name = x y", "filename*0*=utf-8''a"] {
            assert!(is_wrapped_parameter(line.as_bytes(), header), "{line}");
        }
        for line in ["Pump 3 = off", "=5", "boundary", "boundary=", "YWJj=="] {
            assert!(!is_wrapped_parameter(line.as_bytes(), header), "{line}");
        }
        for header in [&b"Content-Type: multipart/mixed\r\n"[..], b"Content-ID: <a@b>;\r\nSubject: x;\r\n", b""] {
            assert!(!is_wrapped_parameter(b"boundary=b", header));
        }
    }

    #[test]
    fn forgotten_colons() {
        assert_eq!(with_colon(b"Mime-Version 1.0").as_deref(), Some(&b"Mime-Version: 1.0"[..]));
        assert_eq!(with_colon(b"Content-Type text/plain").as_deref(), Some(&b"Content-Type: text/plain"[..]));
        for text in ["Mime-Version: 1.0", "Content-Type mismatch", "Message-ID missing", "Pump 1.0", "MIME-Version"] {
            assert_eq!(with_colon(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn what_speaks_for_a_header() {
        let header = b"Subject: x\r\nTo: a@b\r\n";
        for (line, expected) in [
            ("From: a@b", 2),
            ("Date: Mon, 23 Nov 2026 01:02:03 +0000", 2),
            ("Mime-Version: 1.0", 2),
            ("Content-Type: text/plain", 2),
            ("From: a@b said", 1),
            ("Reply-To: a@b", 1),
            ("Content-Disposition: inline", 1),
            ("User-Agent: x", 1),
            ("X-Mailer: x", 1),
        ] {
            assert_eq!(evidence(line.as_bytes(), header), expected, "{line}");
        }
        for line in [
            "From: Hall 3",
            "Date: today",
            "To: c@d",
            "Subject: y",
            "Priority: 1",
            "X-Axis: 3",
            "Level: 3",
            "Content-Type: mismatch",
            "Comments: none",
            "Received: 80 %",
        ] {
            assert_eq!(evidence(line.as_bytes(), header), 0, "{line}");
        }
    }

    #[test]
    fn unknown_fields_at_the_end() {
        assert_eq!(trailing(b"Subject: x\r\nTemp: 80\r\n 81\r\nLevel: 3\r\n"), 12);
        assert_eq!(trailing(b"Temp: 80\r\nX-Mine: 1\r\n"), 21);
        assert_eq!(trailing(b"Temp: 80\r\n"), 0);
        assert_eq!(blank_last_line(b"Subject: x\r\n \t\r\n"), Some(12));
        assert_eq!(blank_last_line(b"Subject: x\r\n y\r\n"), None);
    }
}
