// SPDX-License-Identifier: Apache-2.0
//! Which client a message belongs to, for sharing room in the queue and turns at the provider.

use std::net::IpAddr;

use super::record::Meta;
use crate::config::DEFAULT_DEVICE;

/// A client. Small, since one is kept with each queued message.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Client {
    /// The gateway itself: notifications, summaries, test and boot mail.
    #[default]
    Own,
    /// All programs of this host.
    Local,
    /// An IPv4 address.
    V4([u8; 4]),
    /// An IPv6 network of 64 bits: a host chooses the other 64, and as many as it likes (RFC 8981).
    V6([u8; 8]),
    /// A section `device`, by a hash of its name: whatever addresses it has.
    Device([u8; 8]),
}

impl Client {
    /// The client at `ip` (`None`: a program of this host), which is `device` if that is known.
    pub fn of(ip: Option<IpAddr>, device: Option<&str>) -> Self {
        // Devices that only match `default` have nothing in common.
        if let Some(name) = device.filter(|name| *name != DEFAULT_DEVICE) {
            return Self::Device(hash(name));
        }
        match ip.map(|ip| ip.to_canonical()) {
            None => Self::Local,
            Some(IpAddr::V4(ip)) => Self::V4(ip.octets()),
            Some(IpAddr::V6(ip)) => {
                let [a, b, c, d, e, f, g, h, ..] = ip.octets();
                Self::V6([a, b, c, d, e, f, g, h])
            }
        }
    }

    /// The client of a stored message.
    pub fn of_message(meta: &Meta) -> Self {
        match meta.notice {
            true => Self::Own,
            false => Self::of(meta.client.parse().ok(), meta.marks.device.as_deref()),
        }
    }
}

/// FNV-1a. Two names with the same hash would share their limits, nothing worse.
fn hash(name: &str) -> [u8; 8] {
    let mix = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    name.bytes().fold(0xcbf2_9ce4_8422_2325, mix).to_be_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(ip: &str, device: Option<&str>) -> Client {
        Client::of(ip.parse().ok(), device)
    }

    #[test]
    fn a_client_is_an_address_a_network_of_ipv6_or_a_named_device() {
        assert_eq!(of("10.0.0.7", None), of("::ffff:10.0.0.7", Some("default")));
        assert_ne!(of("10.0.0.7", None), of("10.0.0.8", None));
        assert_eq!(of("2001:db8::1", None), of("2001:db8::2:3:4:5", None));
        assert_ne!(of("2001:db8::1", None), of("2001:db8:0:1::1", None));
        assert_eq!(of("10.0.0.7", Some("pump")), of("2001:db8::1", Some("pump")));
        assert_ne!(of("10.0.0.7", Some("pump")), of("10.0.0.7", Some("pool")));
        assert_eq!(of("local", None), Client::Local);
        assert_eq!(std::mem::size_of::<Client>(), 9);
        assert_eq!(hash("a"), 0xaf63_dc4c_8601_ec8c_u64.to_be_bytes());
    }
}
