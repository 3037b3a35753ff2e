// SPDX-License-Identifier: Apache-2.0
//! The trace field that every hop adds (RFC 5321 section 4.4), and loop detection based on it.

use super::address::is_address;
use super::{Facts, date, header};

/// What follows the host name in our own fields.
const MARK: &str = "(smtprelay)";

/// The Received field for a message, with its last CRLF. Always ASCII, no line longer than 350 bytes.
///
/// The recipient is named only if there is a single one: otherwise each recipient would see the others (RFC 5321
/// section 7.6).
pub fn received(facts: &Facts<'_>) -> String {
    let client = match facts.client.map(|client| client.to_canonical()) {
        Some(std::net::IpAddr::V4(ip)) => format!("([{ip}])"),
        Some(std::net::IpAddr::V6(ip)) => format!("([IPv6:{ip}])"),
        None => "(local)".into(),
    };
    let mut field = format!(
        "Received: from {} {client}\r\n\tby {} {MARK} with {} id {}",
        safe(facts.helo, "unknown"),
        host(facts.hostname),
        safe(facts.protocol, "SMTP"),
        safe(facts.id, "unknown"),
    );
    if let [only] = facts.envelope.to.as_slice()
        && only.is_ascii()
        && is_address(only)
    {
        field.push_str(&format!("\r\n\tfor <{only}>"));
    }
    field.push_str(&format!(";\r\n\t{}\r\n", date::rfc5322(facts.now)));
    field
}

/// How many hops `header` records: all, and those of this gateway.
pub fn hops(header: &[u8], hostname: &str) -> (usize, usize) {
    let ours = format!(" by {} {MARK} ", host(hostname)).to_ascii_lowercase();
    let mut count = (0, 0);
    for field in header::fields(header).filter(|field| field.is("Received")) {
        let mut text = field.unfolded().to_ascii_lowercase();
        text.iter_mut().filter(|byte| **byte == b'\t').for_each(|byte| *byte = b' ');
        count.0 += 1;
        count.1 += usize::from(memchr::memmem::find(&text, ours.as_bytes()).is_some());
    }
    count
}

/// `name` as the host in a header field or new Message-ID: only what a domain may contain, `localhost` if nothing
/// remains.
pub fn host(name: &str) -> String {
    let is_label = |label: &[u8]| !label.is_empty() && label.iter().all(|byte| is_plain(*byte));
    if name.len() <= 255 && name.as_bytes().split(|byte| *byte == b'.').all(is_label) {
        return name.to_string();
    }
    let kept: String =
        name.chars().filter(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_')).take(255).collect();
    let kept = kept.split('.').filter(|label| !label.is_empty()).collect::<Vec<_>>().join(".");
    if kept.is_empty() { "localhost".into() } else { kept }
}

/// Whether a byte may be in a label of a host name.
fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_')
}

/// `text` with a hyphen for every character with a meaning in structured fields; at most 255 bytes.
pub fn safe(text: &str, empty: &str) -> String {
    if text.len() <= 253
        && text.bytes().all(|byte| is_plain(byte) || byte == b'.')
        && text.bytes().any(|byte| byte != b'-')
    {
        return text.to_string();
    }
    let inside = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let kept: String = inside
        .unwrap_or(text)
        .chars()
        .map(|c| match c {
            '.' | '-' | '_' => c,
            ':' if inside.is_some() => c,
            c if c.is_ascii_alphanumeric() => c,
            // Many devices send an address here: `plc@example.com` stays readable.
            _ => '-',
        })
        .take(253)
        .collect();
    match inside {
        _ if kept.bytes().all(|b| b == b'-') => empty.into(),
        Some(_) => format!("[{kept}]"),
        None => kept,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Envelope;
    use std::net::IpAddr;

    fn facts<'a>(envelope: &'a Envelope, helo: &'a str, client: Option<&str>) -> Facts<'a> {
        let client = client.map(|ip| ip.parse::<IpAddr>().unwrap());
        Facts { helo, client, protocol: "ESMTP", ..Facts::sample(envelope) }
    }

    fn envelope(to: &[&str]) -> Envelope {
        Envelope { from: "plc@example.com".into(), to: to.iter().map(|t| t.to_string()).collect(), smtputf8: false }
    }

    #[test]
    fn one_recipient_is_named() {
        assert_eq!(
            received(&facts(&envelope(&["ops@example.com"]), "plc", Some("192.168.1.5"))),
            "Received: from plc ([192.168.1.5])\r\n\
             \tby router.example.com (smtprelay) with ESMTP id 4Qx7\r\n\
             \tfor <ops@example.com>;\r\n\
             \tMon, 23 Nov 2026 01:02:03 +0000\r\n"
        );
    }

    #[test]
    fn more_are_not_and_nothing_of_the_client_gets_loose() {
        let many = envelope(&["a@example.com", "b@example.com"]);
        let field = received(&facts(&many, "x (y)\r\nBcc: z@example.com", Some("2001:db8::5")));
        assert!(field.starts_with("Received: from x--y---Bcc--z-example.com ([IPv6:2001:db8::5])\r\n"), "{field}");
        assert!(!field.contains("for "));
        assert!(received(&facts(&many, "", None)).starts_with("Received: from unknown (local)\r\n"));
        assert!(
            received(&facts(&many, "[10.0.0.1]", Some("::ffff:10.0.0.1"))).contains("from [10.0.0.1] ([10.0.0.1])")
        );
        for odd in ["jürgen@example.com", "a@b>; x", "root"] {
            assert!(!received(&facts(&envelope(&[odd]), "x", None)).contains("for "), "{odd}");
        }
    }

    #[test]
    fn hops_are_counted() {
        let envelope = envelope(&["ops@example.com"]);
        let ours = received(&facts(&envelope, "plc", None));
        let other = ours.replace("router.example.com", "other.example.com");
        let plain = "Received: from a by b; Mon, 23 Nov 2026 01:02:03 +0000\r\n";
        let header = format!("{ours}Subject: x\r\n{other}{plain}{ours}");
        assert_eq!(hops(header.as_bytes(), "ROUTER.example.com"), (4, 2));
        assert_eq!(hops(b"", "router.example.com"), (0, 0));
    }

    #[test]
    fn hosts() {
        for (name, expected) in [("router", "router"), ("a..b.", "a.b"), ("", "localhost"), ("ü\r\n<>", "localhost")] {
            assert_eq!(host(name), expected);
        }
    }
}
