//! Addresses and subnets that the host's interfaces have now, from the kernel.

use std::net::IpAddr;

use ipnet::IpNet;
use nix::ifaddrs::getifaddrs;
use nix::net::if_::InterfaceFlags;
use nix::sys::socket::SockaddrStorage;

/// One address of an interface with its subnet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// Name of the interface, such as `br-lan`.
    pub interface: String,
    /// The address.
    pub ip: IpAddr,
    /// The subnet that is directly connected through it.
    pub net: IpNet,
    /// Scope of a link-local IPv6 address (RFC 4007), 0 for others.
    pub scope: u32,
}

fn ip_of(address: Option<&SockaddrStorage>) -> Option<(IpAddr, u32)> {
    let address = address?;
    if let Some(v4) = address.as_sockaddr_in() {
        return Some((IpAddr::V4(v4.ip()), 0));
    }
    let v6 = address.as_sockaddr_in6()?;
    let scope = if v6.ip().is_unicast_link_local() { v6.scope_id() } else { 0 };
    Some((IpAddr::V6(v6.ip()), scope))
}

/// Every address of every interface that is up.
///
/// # Errors
/// When the kernel can't be asked.
pub fn addresses() -> std::io::Result<Vec<Address>> {
    let mut found = Vec::new();
    for entry in getifaddrs()? {
        if !entry.flags.contains(InterfaceFlags::IFF_UP) {
            continue;
        }
        let Some((ip, scope)) = ip_of(entry.address.as_ref()) else { continue };
        let Some((mask, _)) = ip_of(entry.netmask.as_ref()) else { continue };
        let Ok(net) = IpNet::with_netmask(ip, mask) else { continue };
        found.push(Address { interface: entry.interface_name, ip, net: net.trunc(), scope });
    }
    Ok(found)
}

/// Whether there is a way to the rest of the world: a default route, IPv4 or IPv6.
pub fn has_default_route() -> bool {
    let read = |path| std::fs::read_to_string(path).unwrap_or_default();
    // Interface, destination, …; the first line is a heading.
    let v4 = read("/proc/net/route").lines().any(|line| line.split_whitespace().nth(1) == Some("00000000"));
    // Destination, its prefix length, …, interface; the kernel has an unreachable one of its own on lo.
    let is_default = |line: &str| line.starts_with(&format!("{} 00 ", "0".repeat(32))) && !line.ends_with(" lo");
    v4 || read("/proc/net/ipv6_route").lines().any(|line| is_default(line.trim_end()))
}

/// Whether the interface that the kernel calls `kernel` is what the settings call `wanted`: the name itself, or
/// OpenWrt's bridge of that network (`lan` is `br-lan`).
pub fn is_named(kernel: &str, wanted: &str) -> bool {
    kernel == wanted || kernel.strip_prefix("br-") == Some(wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_found_with_its_subnet() {
        let all = addresses().unwrap();
        let lo = all.iter().find(|a| a.ip == IpAddr::from([127, 0, 0, 1])).expect("no loopback address");
        assert_eq!(lo.net, "127.0.0.0/8".parse::<IpNet>().unwrap());
    }

    #[test]
    fn a_network_is_its_interface_or_its_bridge() {
        assert!(is_named("br-lan", "lan"));
        assert!(is_named("eth0", "eth0"));
        assert!(!is_named("br-lan2", "lan"));
        assert!(!is_named("wlan", "lan"));
    }
}
