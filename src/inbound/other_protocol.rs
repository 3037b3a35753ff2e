// SPDX-License-Identifier: Apache-2.0
//! Recognizes clients that speak a protocol other than SMTP.
//!
//! A web page opened on the LAN can make the browser POST to port 25, with SMTP commands in the body. A server that
//! answers each line of the HTTP header with `500` and continues would then execute the body, and a stranger sends mail
//! (cross-protocol attack; the same is done with FTP logins, and with the server name in a TLS hello). So the session
//! ends at the first sign of another protocol, before anything after it is read as a command. None of these signs
//! matches what a mail client sends: a line that begins with an SMTP verb is treated as another protocol only if it
//! ends with that protocol's version.

/// A protocol that a client speaks instead of SMTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// TLS (RFC 8446) where plain text was expected; also the hello of SSL 2 and 3.
    Tls,
    /// HTTP (RFC 9112, RFC 9113), also UPnP's.
    Http,
    /// SIP (RFC 3261).
    Sip,
    /// RTSP (RFC 7826).
    Rtsp,
    /// SSH (RFC 4253).
    Ssh,
    /// FTP or POP3 (RFC 959, RFC 1939): both begin with a user name.
    FtpOrPop3,
    /// IMAP (RFC 9051).
    Imap,
    /// SOCKS 4 or 5 (RFC 1928).
    Socks,
    /// The PROXY protocol of load balancers.
    Proxy,
    /// STUN or TURN (RFC 8489), which web pages can speak as well.
    Stun,
    /// XML or JSON, as used by XMPP and many RPC protocols.
    Structured,
    /// The header of a message or request where a command was expected.
    Header,
}

impl Protocol {
    /// The common name of the protocol.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tls => "TLS",
            Self::Http => "HTTP",
            Self::Sip => "SIP",
            Self::Rtsp => "RTSP",
            Self::Ssh => "SSH",
            Self::FtpOrPop3 => "FTP or POP3",
            Self::Imap => "IMAP",
            Self::Socks => "SOCKS",
            Self::Proxy => "the PROXY protocol",
            Self::Stun => "STUN",
            Self::Structured => "XML or JSON",
            Self::Header => "header fields without SMTP commands",
        }
    }

    /// The last reply of the session.
    pub fn reply(self) -> String {
        format!("521 5.5.1 This server speaks SMTP, not {}", self.name())
    }

    /// The remedy.
    pub fn advice(self) -> &'static str {
        match self {
            Self::Tls => {
                "set its encryption to none or STARTTLS, or add a listener with option tls 'implicit' (usually port 465)"
            }
            Self::Http => {
                "if no user on this client opened the address in a browser, a web page may have tried to send mail"
            }
            Self::FtpOrPop3 | Self::Imap => {
                "configure this server for outgoing mail (SMTP), not for incoming mail or file transfer"
            }
            Self::Proxy => "disable the PROXY protocol in the load balancer in front of it",
            _ => "check the server and port configured in the client",
        }
    }
}

/// Verbs that begin a request of HTTP or a similar protocol. None of them is a prefix of an SMTP command.
const HTTP_METHODS: [&str; 14] = [
    "GET",
    "HEAD",
    "POST",
    "PUT",
    "DELETE",
    "CONNECT",
    "OPTIONS",
    "TRACE",
    "PATCH",
    "PROPFIND",
    "M-SEARCH",
    "NOTIFY",
    "SUBSCRIBE",
    "REPORT",
];
/// What the request line of each protocol ends with, and its status line begins with, before the version number.
const VERSIONS: [(&str, Protocol); 4] =
    [("HTTP/", Protocol::Http), ("SIP/", Protocol::Sip), ("RTSP/", Protocol::Rtsp), ("ICAP/", Protocol::Http)];
/// Commands that IMAP clients begin with, after their tag (RFC 9051 section 6).
const IMAP_COMMANDS: [&str; 5] = ["LOGIN", "CAPABILITY", "AUTHENTICATE", "STARTTLS", "ID"];
/// Maximum length of a header field name that is looked for, in bytes.
const FIELD_NAME_LIMIT: usize = 76;

/// Examines the first bytes of a connection, up to the first SMTP command, for protocols that are not line-based. Also
/// `None` if there are too few bytes so far.
pub fn of_bytes(start: &[u8]) -> Option<Protocol> {
    match start {
        // A record with a handshake, versions SSL 3.0 to TLS 1.3 (RFC 8446 section 5.1).
        [0x16, 0x03, 0..=4, ..] => Some(Protocol::Tls),
        // The hello of SSL 2, which old clients also send to offer SSL 3 and TLS 1.0 (RFC 5246 appendix E.2).
        [0x80..=0xff, _, 0x01, 0x00 | 0x03, 0..=3, ..] => Some(Protocol::Tls),
        // SOCKS 4: CONNECT or BIND; SOCKS 5: methods, the first of which is 0 to 2 (RFC 1928 section 3).
        [0x04, 1..=2, ..] | [0x05, 1..=9, 0..=2, ..] => Some(Protocol::Socks),
        // A request with the magic cookie (RFC 8489 section 5); over TCP nothing precedes it.
        [0x00..=0x03, _, _, _, 0x21, 0x12, 0xa4, 0x42, ..] => Some(Protocol::Stun),
        // The binary form of PROXY, designed so that older servers read its end as QUIT.
        [b'\r', b'\n', b'\r', b'\n', 0, b'\r', b'\n', b'Q', ..] => Some(Protocol::Proxy),
        _ => None,
    }
}

/// Examines a line, without its line ending, where a command is expected. `first`: no SMTP command came before it in
/// this session.
pub fn of_line(line: &[u8], first: bool) -> Option<Protocol> {
    let line = line.trim_ascii();
    if let Some(found) = of_version(line) {
        return Some(found);
    }
    let word_end = line.iter().position(u8::is_ascii_whitespace).unwrap_or(line.len());
    let (word, rest) = line.split_at_checked(word_end)?;
    let is = |verb: &str| word.eq_ignore_ascii_case(verb.as_bytes());
    if HTTP_METHODS.iter().any(|method| is(method)) {
        return Some(Protocol::Http);
    }
    if word.starts_with(b"SSH-") {
        return Some(Protocol::Ssh);
    }
    if !first {
        return None;
    }
    if is("USER") || is("CAPA") || is("FEAT") {
        return Some(Protocol::FtpOrPop3);
    }
    if is("PROXY") && rest.trim_ascii_start().get(..3).is_some_and(|family| matches!(family, b"TCP" | b"UNK")) {
        return Some(Protocol::Proxy);
    }
    let command = rest.trim_ascii_start().split(u8::is_ascii_whitespace).next().unwrap_or_default();
    let tagged = word.iter().all(u8::is_ascii_alphanumeric) && word.iter().any(u8::is_ascii_digit);
    if tagged && IMAP_COMMANDS.iter().any(|known| command.eq_ignore_ascii_case(known.as_bytes())) {
        return Some(Protocol::Imap);
    }
    match line {
        [b'<', b'?' | b'a'..=b'z' | b'A'..=b'Z', ..] | [b'{', ..] => Some(Protocol::Structured),
        _ if is_field(line) => Some(Protocol::Header),
        _ => None,
    }
}

/// A request line that ends with ` HTTP/1.1` or similar, or a status line that begins with it.
fn of_version(line: &[u8]) -> Option<Protocol> {
    let last = line.rsplit(u8::is_ascii_whitespace).next().unwrap_or_default();
    let first = line.split(u8::is_ascii_whitespace).next().unwrap_or_default();
    let is_version = |word: &[u8], name: &str| {
        let split = word.split_at_checked(name.len());
        split.is_some_and(|(head, number)| {
            head.eq_ignore_ascii_case(name.as_bytes())
                && number.first().is_some_and(u8::is_ascii_digit)
                && number.iter().all(|byte| byte.is_ascii_digit() || *byte == b'.')
        })
    };
    VERSIONS.iter().find(|(name, _)| is_version(last, name) || is_version(first, name)).map(|(_, protocol)| *protocol)
}

/// `Name: value`, as in the header of a request or a message, where the name is not an SMTP verb with what devices
/// append to it (`MAIL FROM:`, `RCPTTO:`).
fn is_field(line: &[u8]) -> bool {
    let Some(colon) = line.iter().take(FIELD_NAME_LIMIT).position(|byte| *byte == b':') else { return false };
    let name = line.get(..colon).unwrap_or_default();
    let is_name = name.first().is_some_and(u8::is_ascii_alphabetic)
        && name.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'));
    is_name && !super::dialect::begins_with_verb(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inbound::dialect::{Command, parse};
    use proptest::prelude::*;

    #[test]
    fn lines_of_other_protocols() {
        use Protocol::*;
        for (line, expected) in [
            ("POST / HTTP/1.1", Http),
            ("GET /index.html", Http),
            ("get / http/1.0", Http),
            ("EHLO / HTTP/1.1", Http),
            ("MAIL FROM:<a@b.c> HTTP/1.1", Http),
            ("PRI * HTTP/2.0", Http),
            ("CONNECT gateway:25 HTTP/1.1", Http),
            ("M-SEARCH * HTTP/1.1", Http),
            ("HTTP/1.1 200 OK", Http),
            ("OPTIONS sip:gateway SIP/2.0", Sip),
            ("SIP/2.0 200 OK", Sip),
            ("DESCRIBE rtsp://gateway/1 RTSP/1.0", Rtsp),
            ("SSH-2.0-OpenSSH_9.2p1 Debian-2", Ssh),
        ] {
            assert_eq!(of_line(line.as_bytes(), true), Some(expected), "{line}");
            assert_eq!(of_line(line.as_bytes(), false), Some(expected), "{line} later");
        }
        for (line, expected) in [
            ("Host: gateway:25", Header),
            ("Content-Type: text/plain", Header),
            ("Subject: alarm", Header),
            ("USER anonymous", FtpOrPop3),
            ("CAPA", FtpOrPop3),
            ("a001 LOGIN user secret", Imap),
            ("1 capability", Imap),
            ("PROXY TCP4 192.0.2.1 192.0.2.2 56324 25", Proxy),
            ("<?xml version='1.0'?>", Structured),
            ("<stream:stream to='x'>", Structured),
            ("{\"jsonrpc\": \"2.0\"}", Structured),
        ] {
            assert_eq!(of_line(line.as_bytes(), true), Some(expected), "{line}");
            // What follows a command is treated as a command.
            assert_eq!(of_line(line.as_bytes(), false), None, "{line} later");
        }
    }

    #[test]
    fn first_bytes_of_other_protocols() {
        use Protocol::*;
        for (bytes, expected) in [
            (&b"\x16\x03\x01\x02\x00\x01\x00"[..], Some(Tls)),
            (b"\x16\x03\x03", Some(Tls)),
            (b"\x80\x2e\x01\x03\x01\x00\x15", Some(Tls)),
            (b"\x80\x2e\x01\x00\x02\x00\x15", Some(Tls)),
            (b"\x05\x01\x00", Some(Socks)),
            (b"\x05\x02\x00\x02", Some(Socks)),
            (b"\x04\x01\x00\x19\x0a\x00\x00\x01user\0", Some(Socks)),
            (b"\x00\x01\x00\x08\x21\x12\xa4\x42rest of it", Some(Stun)),
            (b"\r\n\r\n\x00\r\nQUIT\n", Some(Proxy)),
            (b"\x16\x03", None),
            (b"", None),
            (b"\r\n\r\nEHLO plc\r\n", None),
            // Line noise of a modem, and a telnet client that negotiates.
            (b"\0\0EHLO plc\r\n", None),
            (b"\xff\xfd\x03EHLO plc\r\n", None),
            (b"\xef\xbb\xbfEHLO plc\r\n", None),
        ] {
            assert_eq!(of_bytes(bytes), expected, "{bytes:x?}");
        }
    }

    #[test]
    fn what_devices_say_is_none_of_them() {
        for line in [
            "EHLO",
            "EHLO plc@example.com",
            "HELO my plc",
            "ehlo http://plc/",
            "MAIL FROM:<plc@example.com>",
            "MAILFROM:<plc@example.com>",
            "MAIL:FROM:<plc@example.com>",
            "RCPTTO:ops@example.com",
            "RCPT TO: Host: x <ops@example.com>",
            "DATA",
            "QUIT)",
            "QUIT:",
            "AUTH LOGIN",
            "NOOP",
            "",
            "EHLO <plc>",
            "FOO",
            "XCLIENT ADDR=192.0.2.1",
            "SEND FROM:<plc@example.com>",
            "TURN",
        ] {
            assert_eq!(of_line(line.as_bytes(), true), None, "{line}");
            assert_eq!(of_bytes(line.as_bytes()), None, "{line}");
        }
    }

    proptest! {
        /// What the dialect understands is SMTP, unless it ends with the version of another protocol.
        #[test]
        fn what_is_understood_is_smtp(
            line in "(MAIL|RCPT|EHLO|HELO|AUTH|VRFY|mail from|rcpt to|quit|data)[ -~]{0,30}", first in any::<bool>()
        ) {
            if parse(line.as_bytes()) != Command::Unknown && !line.contains('/') {
                prop_assert_eq!(of_line(line.as_bytes(), first), None);
            }
        }

        #[test]
        fn any_bytes_can_be_looked_at(bytes: Vec<u8>, first in any::<bool>()) {
            of_line(&bytes, first);
            of_bytes(&bytes);
        }
    }
}
