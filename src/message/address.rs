// SPDX-License-Identifier: Apache-2.0
//! Mail addresses: their syntax, and how to find them in header fields.

pub mod envelope;
pub mod idna;
pub mod list;

use super::{header, tokens};
pub use list::{Mailbox, mailboxes};

/// Maximum length of an address: 64 bytes for the local part, 255 for the domain (RFC 5321 section 4.5.3.1), and the
/// `@`.
pub const ADDRESS_LIMIT: usize = 320;

/// Whether `text` is an address: `local@domain`, the local part plain or quoted, the domain a name of one or more
/// labels or a literal like `[192.168.1.5]` (RFC 5321 section 4.1.2). Characters over 127 are allowed (RFC 6531 section
/// 3.3).
///
/// Every address accepted here can be used in `RCPT TO:<…>`: it contains no control characters, and spaces and brackets
/// only within the quotes of a quoted local part. More tolerant than the RFC about dots in the local part and
/// underscores in the domain.
pub fn is_address(text: &str) -> bool {
    text.len() <= ADDRESS_LIMIT && split(text).is_some_and(|(local, domain)| is_local(local) && is_domain(domain))
}

/// Whether `text` is the address of one mailbox, as it is named in settings or on the command line. A star is a valid
/// character of a local part (RFC 5322 section 3.2.3), but whoever writes `*@example.com` there means a pattern, and a
/// provider would refuse the mail to it.
pub fn is_one_address(text: &str) -> bool {
    is_address(text) && !text.contains('*')
}

/// The address as it is written in a header field: the local part quoted if it is not a dot-atom (RFC 5322 section
/// 3.4.1).
pub fn for_header(address: &str) -> String {
    match split(address) {
        Some((local, domain)) if !local.starts_with('"') && local.split('.').any(str::is_empty) => {
            format!("\"{local}\"@{domain}")
        }
        _ => address.to_string(),
    }
}

/// The address as it is written in MAIL and RCPT: the local part quoted if it is not a dot-string (RFC 5321 section
/// 4.1.2), and in ASCII unless the server accepts `utf8` (SMTPUTF8, RFC 6531 section 3.2). `None` if it cannot be
/// expressed in ASCII: only a domain can.
pub fn for_envelope(address: &str, utf8: bool) -> Option<String> {
    let address = for_header(address);
    if utf8 || address.is_ascii() {
        return Some(address);
    }
    let (local, domain) = split(&address).filter(|(local, _)| local.is_ascii())?;
    idna::domain(domain).map(|domain| format!("{local}@{domain}"))
}

/// The recipients named in the header: the addresses of To, Cc and Bcc, each once, in order, and names without a domain
/// (`To: root`, as cron writes it). For `sendmail -t`.
///
/// # Errors
/// If one of these fields contains anything else: the recipient it refers to would get nothing. The text names the
/// field and the part.
pub fn recipients_of(header: &[u8]) -> Result<Vec<String>, String> {
    let mut all: Vec<String> = Vec::new();
    for field in header::fields(header) {
        let Some(name) = ["To", "Cc", "Bcc"].iter().find(|name| field.is(name)) else { continue };
        for address in envelope::addresses(field.value).map_err(|error| format!("{name}: {error}"))? {
            if !all.contains(&address) {
                all.push(address);
            }
        }
    }
    Ok(all)
}

/// Whether the local part of `address` contains a route of its own: `x%evil.example@host`, `evil.example!x@host` or
/// `"x@evil.example"@host`. Some servers forward such mail to the domain in it (although RFC 5321 section 3.6.1 forbids
/// that), so it cannot be treated as mail to a recipient in its domain.
pub fn is_routed(address: &str) -> bool {
    address.rsplit_once('@').is_some_and(|(local, _)| local.bytes().any(routes))
}

/// Whether `byte` separates local part and domain in an obsolete route, or in the address of an obsolete network.
pub fn routes(byte: u8) -> bool {
    matches!(byte, b'%' | b'!' | b'@' | b':')
}

/// Local part and domain.
fn split(text: &str) -> Option<(&str, &str)> {
    if !text.starts_with('"') {
        return text.split_once('@');
    }
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => {
                let (local, rest) = text.split_at_checked(at + 1)?;
                return Some((local, rest.strip_prefix('@')?));
            }
            _ => {}
        }
    }
    None
}

fn is_local(local: &str) -> bool {
    if local.starts_with('"') {
        // What is inside was matched by `split`; this only rejects what no command may contain.
        return local.len() > 2 && local.chars().all(|c| c == ' ' || is_plain(c));
    }
    !local.is_empty()
        && local.chars().all(|c| match u8::try_from(c) {
            Ok(byte) if byte.is_ascii() => byte == b'.' || tokens::is_atext(byte),
            _ => is_plain(c),
        })
}

fn is_domain(domain: &str) -> bool {
    if let Some(literal) = domain.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        return !literal.is_empty()
            && literal.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b':' | b'-'));
    }
    domain.len() <= 255
        && domain.split('.').all(|label| {
            (1..=63).contains(&label.len())
                && label.chars().all(|c| match c {
                    '-' | '_' => true,
                    c if c.is_ascii() => c.is_ascii_alphanumeric(),
                    c => is_plain(c),
                })
        })
}

/// Whether `c` is neither a space nor a control character, in ASCII or beyond.
fn is_plain(c: char) -> bool {
    !c.is_control() && !c.is_whitespace() && !tokens::is_odd_blank(c)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn addresses() {
        let label = "a".repeat(63);
        for good in [
            "a@b",
            "plc@example.com",
            "plc+pump@sub.example.com",
            "root@pump_house",
            "a..b@example.com",
            "\"pump house\"@example.com",
            "\"a\\\"@b\"@example.com",
            "a@[192.168.1.5]",
            "a@[IPv6:2001:db8::1]",
            "jürgen@müller.example",
            &format!("a@{label}.example"),
        ] {
            assert!(is_address(good), "{good}");
        }
        for bad in [
            "",
            "a",
            "@b",
            "a@",
            "a@b@c",
            "a b@c",
            "a@b c",
            "a@b>",
            "<a@b>",
            "a@b..c",
            "a@b.",
            "a@.b",
            "a@b\r\n",
            "a@b\r\nQUIT",
            "\"a\r\n\"@b",
            "\"a\"b@c",
            "\"a@b",
            "\"\"@b",
            "\"a\\\"@b",
            "a,b@c",
            "a\0@b",
            "a@[]",
            "a@[1.2.3.4> X]",
            "a\u{a0}b@c",
            "a@b\u{85}",
            "(a)b@c",
            &format!("a@{label}a.example"),
            &format!("{}@b", "a".repeat(320)),
        ] {
            assert!(!is_address(bad), "{bad:?}");
        }
    }

    #[test]
    fn quoted_for_a_header_where_needed() {
        assert_eq!(for_header("a.b@c"), "a.b@c");
        assert_eq!(for_header("a..b@c"), "\"a..b\"@c");
        assert_eq!(for_header("a.@c"), "\"a.\"@c");
        assert_eq!(for_header("\"a b\"@c"), "\"a b\"@c");
    }

    #[test]
    fn as_the_envelope_needs_it() {
        for (address, utf8, expected) in [
            ("ILO.@x.y", false, Some("\"ILO.\"@x.y")),
            ("a..b@x.y", true, Some("\"a..b\"@x.y")),
            ("\"a b\"@x.y", false, Some("\"a b\"@x.y")),
            ("ops@m\u{fc}ller.example", false, Some("ops@xn--mller-kva.example")),
            (".a@m\u{fc}ller.example", false, Some("\".a\"@xn--mller-kva.example")),
            ("ops@m\u{fc}ller.example", true, Some("ops@m\u{fc}ller.example")),
            ("j\u{fc}rgen@x.y", true, Some("j\u{fc}rgen@x.y")),
            ("j\u{fc}rgen@x.y", false, None),
            ("ops@mu\u{308}ller.example", false, Some("ops@xn--mller-kva.example")),
            ("ops@m\u{323}ller.example", false, None),
            ("", false, Some("")),
        ] {
            assert_eq!(for_envelope(address, utf8).as_deref(), expected, "{address} {utf8}");
        }
    }

    #[test]
    fn recipients_of_a_header() {
        let header = b"From: x@y\r\nTo: One <1@a>, 2@a\r\nCc: 1@a,\r\n \"3, three\" <3@a>\r\nbcc : 4@a; root\r\n";
        assert_eq!(recipients_of(header).unwrap(), ["1@a", "2@a", "3@a", "4@a", "root"]);
        assert_eq!(recipients_of(b"To: root, Ops <ops@x.y>\r\nSubject: to, nobody\r\n").unwrap(), ["root", "ops@x.y"]);
        assert!(recipients_of(b"Subject: x\nTo: undisclosed-recipients:;\nCc:\n").unwrap().is_empty());
        let error = recipients_of(b"To: 1@a\nCc: 2@a, the night shift\n").unwrap_err();
        assert_eq!(error, "Cc: not a mail address: the night shift");
    }

    proptest! {
        #[test]
        fn an_address_is_one_safe_command(text in "[\"\\\\()\\[\\]<>@. a\r\n\u{e9}\0,:]{0,12}@?[a.\\[\\]>\r\n ]{0,6}") {
            if is_address(&text) {
                let command = format!("RCPT TO:<{text}>");
                prop_assert!(!command.contains(['\r', '\n', '\0']));
                if !text.starts_with('"') {
                    prop_assert!(!text.contains([' ', '<', '>', '(', ')', ',', ':', ';', '"', '\\']) || text.ends_with(']'));
                }
            }
        }

        #[test]
        fn any_text_can_be_asked_about(text: String) {
            is_address(&text);
            for_header(&text);
        }
    }
}
