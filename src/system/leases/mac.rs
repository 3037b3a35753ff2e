// SPDX-License-Identifier: Apache-2.0
//! Ethernet hardware addresses (MAC addresses).

use std::fmt;
use std::net::IpAddr;

/// A hardware address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mac([u8; 6]);

impl Mac {
    /// Parses six pairs of hexadecimal digits, separated by colons or hyphens, or not separated.
    pub fn parse(text: &str) -> Option<Self> {
        let separated = text.len() == 17;
        let mark = if separated { text.as_bytes().get(2).copied().filter(|b| matches!(b, b':' | b'-'))? } else { b':' };
        let step = if separated { 3 } else { 2 };
        if !separated && text.len() != 12 {
            return None;
        }
        let mut bytes = [0; 6];
        for (place, pair) in bytes.iter_mut().zip(text.as_bytes().chunks(step)) {
            let (digits, rest) = pair.split_at_checked(2)?;
            if rest.iter().any(|b| *b != mark) || !digits.iter().all(u8::is_ascii_hexdigit) {
                return None;
            }
            *place = u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
        }
        Some(Self(bytes))
    }

    /// The one contained in an IPv6 address that its host generated (RFC 4291 appendix A).
    pub fn in_address(ip: IpAddr) -> Option<Self> {
        let IpAddr::V6(ip) = ip else { return None };
        let [.., a, b, c, 0xff, 0xfe, d, e, f] = ip.octets() else { return None };
        // The "universal/local" bit is inverted. A group address never belongs to a host.
        (a & 1 == 0).then_some(Self([a ^ 2, b, c, d, e, f]))
    }

    /// The one in a DHCP client's DUID, as hexadecimal digits: types LLT and LL (RFC 8415 sections 11.2 and 11.4) with
    /// hardware type 1.
    pub fn in_duid(duid: &str) -> Option<Self> {
        let digits: String = duid.chars().filter(|c| *c != ':').collect();
        match (digits.get(..8)?.to_ascii_lowercase().as_str(), digits.len()) {
            ("00010001", 28) => Self::parse(digits.get(16..)?),
            ("00030001", 20) => Self::parse(digits.get(8..)?),
            _ => None,
        }
    }

    /// Whether it is valid: the kernel writes zeros for a neighbour that does not answer.
    pub fn is_known(self) -> bool {
        self.0 != [0; 6]
    }
}

impl From<[u8; 6]> for Mac {
    fn from(bytes: [u8; 6]) -> Self {
        Self(bytes)
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, byte) in self.0.iter().enumerate() {
            write!(f, "{}{byte:02x}", if place == 0 { "" } else { ":" })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn in_other_things() {
        let mac = Mac::parse("00:11:22:aa:bb:cc");
        assert_eq!(Mac::in_duid("00:03:00:01:00:11:22:aa:bb:cc"), mac);
        assert_eq!(Mac::in_duid("0001000129112233001122AABBCC"), mac);
        assert_eq!(Mac::in_duid("0002000000090cc084d303000912"), None);
        assert_eq!(Mac::in_address("fe80::211:22ff:feaa:bbcc".parse().unwrap()), mac);
        assert_eq!(Mac::in_address("fe80::1234:22fe:feaa:bbcc".parse().unwrap()), None);
        assert_eq!(Mac::in_address("fe80::311:22ff:feaa:bbcc".parse().unwrap()), None);
        assert_eq!(Mac::in_address("10.0.0.1".parse().unwrap()), None);
    }

    proptest! {
        #[test]
        fn forms_read_back(bytes: [u8; 6]) {
            let mac = Mac(bytes);
            let text = mac.to_string();
            for form in [text.clone(), text.replace(':', "-"), text.replace(':', ""), text.to_ascii_uppercase()] {
                prop_assert_eq!(Mac::parse(&form), Some(mac));
            }
            prop_assert_eq!(Mac::parse(&text.replacen(':', "-", 1)), None);
            prop_assert_eq!(Mac::parse(&format!("{text}0")), None);
        }

        #[test]
        fn any_text_can_be_read(text in "[0-9a-fx:ü+-]{0,30}", bytes: [u8; 16]) {
            if let Some(mac) = Mac::parse(&text) {
                prop_assert_eq!(Mac::parse(&mac.to_string()), Some(mac));
            }
            Mac::in_duid(&text);
            Mac::in_address(IpAddr::from(bytes));
        }
    }
}
