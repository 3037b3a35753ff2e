// SPDX-License-Identifier: Apache-2.0
//! Which device uses an address on the LAN: its hardware address, and the host name from its DHCP request.
//!
//! The sources are the kernel's neighbour tables for IPv4 and IPv6 and the lease files of the DHCP servers. A device
//! that is not (or no longer) a neighbour is recognized by an address that contains the hardware address (RFC 4291
//! appendix A) or by its DUID (RFC 8415 section 11.2).
//!
//! Names and identifiers in the files come from devices: they can contain anything, and lines that cannot be parsed are
//! skipped.

mod netlink;
mod reach;

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Mutex;

use super::task::intake as blocking;
pub use reach::{Reach, reach};

/// Maximum number of bytes read from a file: more than two thousand devices.
const FILE_LIMIT: u64 = 256 << 10;
/// Maximum number of known devices.
const ENTRY_LIMIT: usize = 4096;
/// Maximum age of what was read.
const FRESH: Duration = Duration::from_secs(5);
/// Addresses that are remembered as unknown while what was read is still fresh.
const UNKNOWN_LIMIT: usize = 256;

/// Where to look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sources {
    /// The kernel's IPv4 neighbours.
    pub neighbours: PathBuf,
    /// Whether to ask the kernel for IPv6 neighbours.
    pub netlink: bool,
    /// The files of the DHCP servers: dnsmasq's leases, odhcpd's state and host files, in any combination.
    pub leases: Vec<PathBuf>,
}

impl Default for Sources {
    /// The paths on OpenWrt.
    fn default() -> Self {
        Self {
            neighbours: "/proc/net/arp".into(),
            netlink: true,
            leases: ["/tmp/dhcp.leases", "/tmp/hosts/odhcpd", "/tmp/odhcpd.leases"].map(PathBuf::from).into(),
        }
    }
}

/// What is known about the device that uses an address.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Identity {
    /// Its hardware address.
    pub mac: Option<Mac>,
    /// The host name from its DHCP request. A device can choose any name: it does not prove identity.
    pub host: Option<String>,
}

/// The content of the files.
#[derive(Debug, Default, PartialEq, Eq)]
struct Table(Vec<LeaseLine>);

impl Table {
    fn read(sources: &Sources) -> Self {
        let mut lines = neighbours(&content(&sources.neighbours));
        if sources.netlink {
            lines.extend(netlink::neighbours());
        }
        for path in &sources.leases {
            lines.extend(leases(&content(path)));
        }
        lines.truncate(ENTRY_LIMIT);
        Self(lines)
    }

    /// The neighbour table takes precedence: it says who uses the address, the leases who should use it.
    fn identity(&self, ip: IpAddr) -> Identity {
        let ip = ip.to_canonical();
        let mine = || self.0.iter().filter(|line| line.ip == ip);
        let mac = mine().find_map(|line| line.mac).or_else(|| Mac::in_address(ip));
        // The name of the same hardware at another address is valid here too: usually it is the other protocol.
        let fits = |line: &&LeaseLine| line.mac.is_none() || mac.is_none() || line.mac == mac;
        let host = mine().filter(fits).find_map(|line| line.host.clone());
        let elsewhere =
            || self.0.iter().filter(|line| mac.is_some() && line.mac == mac).find_map(|line| line.host.clone());
        Identity { mac, host: host.or_else(elsewhere) }
    }
}

/// The text of a file up to the limit; empty if it cannot be read: not every router has each of them.
fn content(path: &Path) -> Vec<u8> {
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(FILE_LIMIT).read_to_end(&mut bytes));
    if read.is_err() {
        bytes.clear();
    }
    bytes
}

/// Finds out who uses an address, from files that are read again when their content is outdated or does not contain the
/// address.
#[derive(Debug)]
pub struct Leases {
    sources: Sources,
    last: Mutex<Last>,
}

#[derive(Debug, Default)]
struct Last {
    read: Option<Instant>,
    table: Arc<Table>,
    /// Addresses that were not in the files: not worth reading them again for a while.
    unknown: Vec<IpAddr>,
}

impl Last {
    fn is_fresh(&self) -> bool {
        self.read.is_some_and(|read| read.elapsed() < FRESH)
    }
}

impl Leases {
    /// Reads `sources` on the first request.
    pub fn new(sources: Sources) -> Self {
        Self { sources, last: Mutex::new(Last::default()) }
    }

    /// Who uses each of `addresses`; without an address the identity is unknown. Files are read once for all of them.
    pub async fn identities(&self, addresses: &[Option<IpAddr>]) -> Vec<Identity> {
        let mut last = self.last.lock().await;
        if !last.is_fresh() && self.read(&mut last).await {
            last.unknown.clear();
        }
        let table = &last.table;
        addresses.iter().map(|ip| ip.map(|ip| table.identity(ip)).unwrap_or_default()).collect()
    }

    /// Who uses `ip`. Files are read on the pool of blocking threads, by one session on behalf of all that ask
    /// meanwhile.
    pub async fn identity(&self, ip: IpAddr) -> Identity {
        let mut last = self.last.lock().await;
        let fresh = last.is_fresh();
        if !fresh {
            last.unknown.clear();
        }
        let mut found = last.table.identity(ip);
        let worth = found.host.is_none() && !last.unknown.contains(&ip) && last.unknown.len() < UNKNOWN_LIMIT;
        if !fresh || worth {
            // During shutdown there is no answer any more; the old one is good enough.
            self.read(&mut last).await;
            found = last.table.identity(ip);
            if found.host.is_none() && last.unknown.len() < UNKNOWN_LIMIT {
                last.unknown.push(ip);
            }
        }
        found
    }

    /// Reads the files; false during shutdown.
    async fn read(&self, last: &mut Last) -> bool {
        let sources = self.sources.clone();
        let read = blocking(move || Table::read(&sources)).await;
        let done = read.is_some();
        if let Some(table) = read {
            (last.table, last.read) = (Arc::new(table), Some(Instant::now()));
        }
        done
    }
}

/// The content of one line.
#[derive(Debug, Clone, PartialEq, Eq)]
struct LeaseLine {
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
fn neighbours(text: &[u8]) -> Vec<LeaseLine> {
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
fn leases(text: &[u8]) -> Vec<LeaseLine> {
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

    /// Its six bytes.
    pub fn bytes(self) -> [u8; 6] {
        self.0
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
    use proptest::prelude::*;

    use super::*;

    fn sources(dir: &Path) -> Sources {
        Sources {
            neighbours: dir.join("arp"),
            netlink: false,
            leases: vec![dir.join("dhcp.leases"), dir.join("odhcpd")],
        }
    }

    const ARP: &str = "IP address       HW type     Flags       HW address            Mask     Device\n\
        192.168.1.20     0x1         0x2         00:11:22:aa:bb:cc     *        br-lan\n\
        192.168.1.21     0x1         0x0         00:00:00:00:00:00     *        br-lan\n\
        192.168.1.22     0x1         0x2         02:00:00:00:00:22     *        br-lan\n";
    const DNSMASQ: &str = "1795395723 00:11:22:aa:bb:cc 192.168.1.20 plc-7 01:00:11:22:aa:bb:cc\n\
        1795395723 02:00:00:00:00:33 192.168.1.22 * *\n\
        duid 00:01:00:01:29:11:22:33:00:11:22:aa:bb:cc\n\
        1795395723 1120523 fd00::20 camera 00:03:00:01:02:00:00:00:00:44\n";
    const ODHCPD: &str = "# br-lan 00030001020000000055 1 printer 1795395723 55 128 fd00::55/128\n\
        fd00::55\tprinter.lan\tprinter\n\
        # br-lan 020000000066 ipv4 broken\\x20name 1795395723 c0a80142 32 192.168.1.66/32\n";

    #[tokio::test]
    async fn a_device_is_found_by_each_source_and_across_protocols() {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in [("arp", ARP), ("dhcp.leases", DNSMASQ), ("odhcpd", ODHCPD)] {
            std::fs::write(dir.path().join(name), text).unwrap();
        }
        let leases = Leases::new(sources(dir.path()));
        for (ip, mac, host) in [
            ("192.168.1.20", "00:11:22:aa:bb:cc", "plc-7"),
            ("::ffff:192.168.1.20", "00:11:22:aa:bb:cc", "plc-7"),
            // SLAAC: the address contains the hardware address, the other protocol's lease has the name.
            ("fe80::211:22ff:feaa:bbcc", "00:11:22:aa:bb:cc", "plc-7"),
            ("fd00::20", "02:00:00:00:00:44", "camera"),
            ("fd00::55", "02:00:00:00:00:55", "printer"),
            ("192.168.1.66", "02:00:00:00:00:66", ""),
            // The neighbour is not the device that has the lease.
            ("192.168.1.22", "02:00:00:00:00:22", ""),
            ("192.168.1.21", "", ""),
            ("10.9.9.9", "", ""),
        ] {
            let found = leases.identity(ip.parse().unwrap()).await;
            let mac = (!mac.is_empty()).then(|| Mac::parse(mac).unwrap());
            let host = (!host.is_empty()).then(|| host.to_string());
            assert_eq!(found, Identity { mac, host }, "{ip}");
        }
    }

    #[tokio::test]
    async fn one_that_came_a_moment_ago_is_known_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let leases = Leases::new(sources(dir.path()));
        assert_eq!(leases.identity("192.168.1.30".parse().unwrap()).await, Identity::default());
        std::fs::write(dir.path().join("dhcp.leases"), DNSMASQ).unwrap();
        assert_eq!(leases.identity("192.168.1.20".parse().unwrap()).await.host.as_deref(), Some("plc-7"));
    }

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
