// SPDX-License-Identifier: Apache-2.0
//! The files that say who uses an address: the kernel's `/proc/net/arp`, dnsmasq's leases, and what odhcpd writes.
//!
//! Names and identifiers in them come from devices: they can contain anything, and lines that cannot be parsed are
//! skipped.

use std::net::IpAddr;

use super::Mac;

/// The content of one line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaseLine {
    /// The address.
    pub ip: IpAddr,
    /// The hardware address of the device.
    pub mac: Option<Mac>,
    /// Its host name.
    pub host: Option<String>,
}

/// Maximum length of a name in bytes (RFC 1035 section 2.3.4).
const NAME_LIMIT: usize = 255;
/// Maximum number of lines of a file that are used.
const LINE_LIMIT: usize = 4096;

/// The kernel's neighbours: address, hardware type, flags, hardware address, mask, interface; below a header line.
pub fn neighbours(text: &[u8]) -> Vec<LeaseLine> {
    let read = |line: &str| {
        let mut words = line.split_ascii_whitespace();
        let ip = words.next()?.parse().ok()?;
        let mac = words.nth(2).and_then(Mac::parse).filter(|mac| mac.is_known())?;
        Some(LeaseLine { ip, mac: Some(mac), host: None })
    };
    lines(text, read)
}

/// The files of DHCP servers. Each line is one of:
///
/// * dnsmasq, IPv4: expiry, hardware address, address, name or `*`, client identifier.
/// * dnsmasq, IPv6: expiry, IAID (with `T` before it for temporary addresses), address, name or `*`, DUID.
/// * odhcpd's state: `#`, interface, DUID (for IPv4 the hardware address), IAID or `ipv4`, name or `-`, expiry, a
///   number, prefix length, addresses with prefix length.
/// * odhcpd's hosts: address, full name if there is a domain, name.
pub fn leases(text: &[u8]) -> Vec<LeaseLine> {
    let read = |line: &str| {
        let words: Vec<&str> = line.split_ascii_whitespace().take(16).collect();
        match words.as_slice() {
            ["#", _, duid, "ipv4", host, _, _, _, address, ..] => state(address, Mac::parse(duid), host),
            ["#", _, duid, _, host, _, _, _, address, ..] => state(address, Mac::in_duid(duid), host),
            [expiry, hardware, address, host, id, ..] if is_number(expiry) => Some(LeaseLine {
                ip: address.parse().ok()?,
                mac: Mac::parse(hardware).or_else(|| is_iaid(hardware).then(|| Mac::in_duid(id)).flatten()),
                host: name(host),
            }),
            [address, .., host] => Some(LeaseLine { ip: address.parse().ok()?, mac: None, host: name(host) }),
            _ => None,
        }
    };
    lines(text, read)
}

fn state(address: &str, mac: Option<Mac>, host: &str) -> Option<LeaseLine> {
    let address = address.split('/').next().unwrap_or_default();
    Some(LeaseLine { ip: address.parse().ok()?, mac, host: name(host) })
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())
}

fn is_iaid(text: &str) -> bool {
    is_number(text.strip_prefix('T').unwrap_or(text))
}

/// A valid host name. Others are ignored: `*` and `-` mean none, and odhcpd writes `broken\x20` before a name that
/// another device already has.
fn name(text: &str) -> Option<String> {
    let fine = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    let usable = text.len() <= NAME_LIMIT && text.bytes().all(fine) && text.bytes().any(|b| b.is_ascii_alphanumeric());
    usable.then(|| text.to_string())
}

/// Complete lines only: the last line of a truncated file may be incomplete.
fn lines(text: &[u8], read: impl Fn(&str) -> Option<LeaseLine>) -> Vec<LeaseLine> {
    let whole = memchr::memrchr(b'\n', text).and_then(|end| text.get(..end)).unwrap_or_default();
    let readable = whole.split(|b| *b == b'\n').filter_map(|line| std::str::from_utf8(line).ok());
    readable.filter_map(read).take(LINE_LIMIT).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn line(ip: &str, mac: &str, host: &str) -> LeaseLine {
        LeaseLine { ip: ip.parse().unwrap(), mac: Mac::parse(mac), host: (!host.is_empty()).then(|| host.into()) }
    }

    #[test]
    fn odd_lines() {
        let text = b"1795395723 06-00:11:22:33:44:55 192.168.1.5 token *\n\
            0 00:11:22:33:44:55 192.168.1.6 * *\n\
            1795395723 T77 fd00::1 temp 00:03:00:01:00:11:22:33:44:55\n\
            duid 00:03:00:01:00:11:22:33:44:66\n\
            \xff\xfe nonsense\n\
            192.168.1.7\tnas.lan\tnas\n\
            192.168.1.8\tnas8\n\
            # br-lan 001122334455 ipv4 - 0 c0a80109 32 192.168.1.9/32\n\
            # br-lan 00040102 5 long 1 2 64\n\
            1795395723 00:11:22:33:44:55 192.168.1.10 cut";
        assert_eq!(
            leases(text),
            [
                line("192.168.1.5", "", "token"),
                line("192.168.1.6", "00:11:22:33:44:55", ""),
                line("fd00::1", "00:11:22:33:44:55", "temp"),
                line("192.168.1.7", "", "nas"),
                line("192.168.1.8", "", "nas8"),
                line("192.168.1.9", "00:11:22:33:44:55", ""),
            ]
        );
    }

    proptest! {
        #[test]
        fn written_lines_are_read(ip: [u8; 4], mac: [u8; 6], host in "[a-z][a-z0-9-]{0,20}", expiry: u32) {
            let ip = IpAddr::from(ip);
            let mac = mac.map(|b| format!("{b:02x}")).join(":");
            let expected = line(&ip.to_string(), &mac, &host);
            prop_assert_eq!(leases(format!("{expiry} {mac} {ip} {host} *\n").as_bytes()), [expected.clone()]);
            let bare = mac.replace(':', "");
            let state = format!("# br-lan {bare} ipv4 {host} -1 0 32 {ip}/32\n");
            prop_assert_eq!(leases(state.as_bytes()), [expected]);
        }

        #[test]
        fn anything_can_stand_there(text: Vec<u8>, words in "([#*] |[0-9a-f:.T/]{1,12}[ \t\n]|name |ipv4 ){0,40}\n") {
            for bytes in [text.as_slice(), words.as_bytes()] {
                for line in leases(bytes).into_iter().chain(neighbours(bytes)) {
                    prop_assert!(line.host.is_none_or(|host| host.len() <= NAME_LIMIT));
                }
            }
        }
    }
}
