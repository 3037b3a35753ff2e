// SPDX-License-Identifier: Apache-2.0
//! Current addresses and subnets of the host's interfaces, from the kernel, and by the names of OpenWrt's networks.

use std::net::IpAddr;

use ipnet::IpNet;
use nix::ifaddrs::getifaddrs;
use nix::net::if_::InterfaceFlags;
use nix::sys::socket::SockaddrStorage;

use super::networks::{self, Networks};

/// An address of an interface with its subnet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// Name of the interface, such as `br-lan`, or of the network, such as `lan`: see [`by_name`].
    pub interface: String,
    /// The address.
    pub ip: IpAddr,
    /// The directly connected subnet.
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
/// If the kernel cannot be asked.
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

/// Whether there is a default route, IPv4 or IPv6.
pub fn has_default_route() -> bool {
    let read = |path| std::fs::read_to_string(path).unwrap_or_default();
    // Interface, destination, …; the first line is a header.
    let v4 = read("/proc/net/route").lines().any(|line| line.split_whitespace().nth(1) == Some("00000000"));
    // Destination, its prefix length, …, interface; the kernel has an unreachable default route of its own on lo.
    let is_default = |line: &str| line.starts_with(&format!("{} 00 ", "0".repeat(32))) && !line.ends_with(" lo");
    v4 || read("/proc/net/ipv6_route").lines().any(|line| is_default(line.trim_end()))
}

/// Every address of this host under each name that the settings can use for its interface; see [`by_name`].
pub fn named() -> Vec<Address> {
    by_name(&addresses().unwrap_or_default(), &networks::known())
}

/// Addresses under the names that the settings can use: those of networks, and those of the kernel.
///
/// The information from netifd takes precedence, and a network takes precedence over an interface of the same name.
/// netifd does not report link-local IPv6 addresses; they are taken from the kernel, for the network's interface. For a
/// network that netifd does not know, or without netifd, OpenWrt's bridge is used (`lan` is `br-lan`). An address can
/// appear under several names; an empty name matches nothing.
pub fn by_name(kernel: &[Address], networks: &Networks) -> Vec<Address> {
    let known = |name: &str| networks.list.iter().any(|network| network.name == name);
    let mut all = Vec::new();
    for address in kernel {
        let under = |interface: &str| Address { interface: interface.into(), ..address.clone() };
        all.push(under(if known(&address.interface) { "" } else { &address.interface }));
        all.extend(address.interface.strip_prefix("br-").filter(|name| !known(name)).map(under));
    }
    for network in networks.list.iter().filter(|network| network.up) {
        let under = |address: &Address| Address { interface: network.name.clone(), ..address.clone() };
        let told = network.addresses.iter().filter(|_| networks.current);
        all.extend(told.map(|net| Address {
            interface: network.name.clone(),
            ip: net.addr(),
            net: net.trunc(),
            scope: 0,
        }));
        let on_it = kernel.iter().filter(|address| address.interface == network.device);
        // Outdated information is good enough for the interface, but no longer for the addresses.
        all.extend(on_it.filter(|address| address.scope != 0 || !networks.current).map(under));
    }
    all
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

    fn kernel() -> Vec<Address> {
        let address = |interface: &str, net: &str, scope| {
            let net: IpNet = net.parse().unwrap();
            Address { interface: interface.into(), ip: net.addr(), net: net.trunc(), scope }
        };
        vec![
            address("br-lan", "192.168.1.1/24", 0),
            address("br-lan", "fe80::1/64", 7),
            address("br-guest", "10.9.0.1/16", 0),
            address("wan", "192.168.100.2/24", 0),
            address("pppoe-wan", "203.0.113.9/32", 0),
        ]
    }

    /// The addresses that `name` stands for in the settings.
    fn meant(name: &str, networks: &Networks) -> Vec<String> {
        let all = by_name(&kernel(), networks);
        all.iter().filter(|address| address.interface == name).map(|address| address.ip.to_string()).collect()
    }

    fn network(name: &str, device: &str, up: bool, addresses: &[&str]) -> networks::Network {
        let addresses = addresses.iter().map(|net| net.parse().unwrap()).collect();
        networks::Network { name: name.into(), device: device.into(), up, addresses }
    }

    #[test]
    fn without_netifd_a_network_is_its_interface_or_its_bridge() {
        let none = Networks::default();
        assert_eq!(meant("lan", &none), ["192.168.1.1", "fe80::1"]);
        assert_eq!(meant("br-lan", &none), ["192.168.1.1", "fe80::1"]);
        assert_eq!(meant("wan", &none), ["192.168.100.2"]);
        assert_eq!(meant("an", &none), Vec::<String>::new());
    }

    #[test]
    fn what_netifd_says_of_a_network_counts_and_nothing_else_is_taken_for_it() {
        let list = vec![
            // Not the bridge that shares its name, and an address that the kernel does not show yet.
            network("lan", "br-guest", true, &["10.9.0.1/16", "fd00::1/60"]),
            network("wan", "pppoe-wan", true, &["203.0.113.9/32"]),
            network("guest", "br-guest", false, &[]),
        ];
        let networks = Networks { list, current: true };
        assert_eq!(meant("lan", &networks), ["10.9.0.1", "fd00::1"]);
        assert_eq!(meant("wan", &networks), ["203.0.113.9"], "the network, not the interface");
        assert_eq!(meant("guest", &networks), Vec::<String>::new(), "it is down");
        assert_eq!(meant("br-lan", &networks), ["192.168.1.1", "fe80::1"], "a name of the kernel");
        let subnets: Vec<_> = by_name(&kernel(), &networks).into_iter().filter(|a| a.interface == "lan").collect();
        assert_eq!(subnets[1].net, "fd00::/60".parse::<IpNet>().unwrap());
    }

    #[test]
    fn link_local_addresses_come_from_the_kernel() {
        let networks = Networks { list: vec![network("lan", "br-lan", true, &["192.168.1.1/24"])], current: true };
        assert_eq!(meant("lan", &networks), ["192.168.1.1", "fe80::1"]);
        assert!(by_name(&kernel(), &networks).iter().any(|a| a.interface == "lan" && a.scope == 7));
    }

    #[test]
    fn what_was_said_some_time_ago_still_tells_the_interface() {
        let networks = Networks { list: vec![network("lan", "pppoe-wan", true, &["1.2.3.4/32"])], current: false };
        assert_eq!(meant("lan", &networks), ["203.0.113.9"]);
    }
}
