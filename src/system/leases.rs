// SPDX-License-Identifier: Apache-2.0
//! Which device uses an address on the LAN: its hardware address, and the host name from its DHCP request.
//!
//! The sources are the kernel's neighbour tables for IPv4 and IPv6 and the lease files of the DHCP servers. A device
//! that is not (or no longer) a neighbour is recognized by an address that contains the hardware address (RFC 4291
//! appendix A) or by its DUID (RFC 8415 section 11.2).

mod files;
mod mac;
mod netlink;

use std::fs::File;
use std::io::Read;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Mutex;

// A session waits for it.
use super::task::intake as blocking;
use files::LeaseLine;
pub use mac::Mac;

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
        let mut lines = files::neighbours(&content(&sources.neighbours));
        if sources.netlink {
            lines.extend(netlink::neighbours());
        }
        for path in &sources.leases {
            lines.extend(files::leases(&content(path)));
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

impl Leases {
    /// Reads `sources` on the first request.
    pub fn new(sources: Sources) -> Self {
        Self { sources, last: Mutex::new(Last::default()) }
    }

    /// Who uses each of `addresses`; without an address the identity is unknown. Files are read once for all of them.
    pub async fn identities(&self, addresses: &[Option<IpAddr>]) -> Vec<Identity> {
        let mut last = self.last.lock().await;
        if last.read.is_none_or(|read| read.elapsed() >= FRESH) {
            let sources = self.sources.clone();
            if let Some(table) = blocking(move || Table::read(&sources)).await {
                last.unknown.clear();
                last.table = Arc::new(table);
                last.read = Some(Instant::now());
            }
        }
        let table = &last.table;
        addresses.iter().map(|ip| ip.map(|ip| table.identity(ip)).unwrap_or_default()).collect()
    }

    /// Who uses `ip`. Files are read on the pool of blocking threads, by one session on behalf of all that ask
    /// meanwhile.
    pub async fn identity(&self, ip: IpAddr) -> Identity {
        let mut last = self.last.lock().await;
        let fresh = last.read.is_some_and(|read| read.elapsed() < FRESH);
        if !fresh {
            last.unknown.clear();
        }
        let mut found = last.table.identity(ip);
        let worth = found.host.is_none() && !last.unknown.contains(&ip) && last.unknown.len() < UNKNOWN_LIMIT;
        if !fresh || worth {
            let sources = self.sources.clone();
            // During shutdown there is no answer any more; the old one is good enough.
            if let Some(table) = blocking(move || Table::read(&sources)).await {
                last.table = Arc::new(table);
                last.read = Some(Instant::now());
            }
            found = last.table.identity(ip);
            if found.host.is_none() && last.unknown.len() < UNKNOWN_LIMIT {
                last.unknown.push(ip);
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
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
}
