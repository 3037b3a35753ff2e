// SPDX-License-Identifier: Apache-2.0
//! Addresses of HTTPS servers (RFC 3986).

/// The parts of an `https://` address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Url<'a> {
    /// Host name or address of the server.
    pub host: &'a str,
    /// TCP port.
    pub port: u16,
    /// Path and query.
    pub target: &'a str,
}

impl<'a> Url<'a> {
    /// Parses `text`; `None` if it is not such an address.
    pub fn parse(text: &'a str) -> Option<Self> {
        let rest = text.strip_prefix("https://").filter(|rest| rest.bytes().all(|b| b.is_ascii_graphic()))?;
        let (authority, target) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let (host, port) = match authority.strip_prefix('[') {
            Some(literal) => literal.split_once(']')?,
            None => authority.split_at(authority.find(':').unwrap_or(authority.len())),
        };
        let port = match port.strip_prefix(':') {
            Some(digits) => digits.parse().ok().filter(|port| *port != 0)?,
            None if port.is_empty() => 443,
            None => return None,
        };
        let target = if target.is_empty() { "/" } else { target };
        let plain = host.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_' | b':'));
        (plain && !host.is_empty() && !target.contains('#')).then_some(Self { host, port, target })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn addresses_are_taken_apart() {
        let url = |text| Url::parse(text).map(|url| (url.host, url.port, url.target));
        assert_eq!(url("https://a.example/x/y?z=1"), Some(("a.example", 443, "/x/y?z=1")));
        assert_eq!(url("https://127.0.0.1:8443"), Some(("127.0.0.1", 8443, "/")));
        assert_eq!(url("https://[::1]:8443/t"), Some(("::1", 8443, "/t")));
        for wrong in [
            "http://a/",
            "https://",
            "https:///x",
            "https://a:0/",
            "https://a:x/",
            "https://u@a/",
            "https://a/ b",
            "https://[::1/",
            "https://a/x#y",
            "https://[::1]x/",
            "https://a\r\nb/",
            "https://ä/",
        ] {
            assert_eq!(url(wrong), None, "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn no_address_breaks_out_of_a_request(text in "https://\\PC*") {
            if let Some(url) = Url::parse(&text) {
                assert!(!format!("{}{}", url.host, url.target).contains([' ', '\r', '\n']));
                assert!(url.target.starts_with('/'));
            }
        }
    }
}
