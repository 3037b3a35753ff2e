// SPDX-License-Identifier: Apache-2.0
//! Current addresses and subnets of the host's interfaces, from the kernel, and by the names of OpenWrt's networks, as
//! last reported by netifd.

use std::net::IpAddr;
use std::sync::{Arc, LazyLock};

use ipnet::IpNet;
use nix::ifaddrs::getifaddrs;
use nix::net::if_::InterfaceFlags;
use nix::sys::socket::SockaddrStorage;
use serde_json::Value;
use tokio::sync::watch;

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
    by_name(&addresses().unwrap_or_default(), &known())
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

/// Maximum number of networks, and of addresses of each kind per network.
const LIMIT: usize = 64;

static KNOWN: LazyLock<watch::Sender<Arc<Networks>>> = LazyLock::new(watch::Sender::default);

/// A network, such as `lan`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Network {
    /// Its name in `/etc/config/network`.
    pub name: String,
    /// The kernel's name of its interface, such as `br-lan`; empty if it has none at the moment.
    pub device: String,
    /// Whether it is up.
    pub up: bool,
    /// Our addresses in it with their prefix lengths, without link-local ones.
    pub addresses: Vec<IpNet>,
}

/// The information from netifd.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Networks {
    /// The networks; empty until netifd has answered.
    pub list: Vec<Network>,
    /// Whether netifd is reachable. If not, the addresses may have changed since.
    pub current: bool,
}

/// The last information from netifd.
pub fn known() -> Arc<Networks> {
    Arc::clone(&KNOWN.borrow())
}

/// Wakes when that changes.
pub fn follow() -> watch::Receiver<Arc<Networks>> {
    KNOWN.subscribe()
}

/// Stores new information from netifd.
pub fn learned(list: Vec<Network>) {
    set(Networks { list, current: true });
}

/// netifd is no longer reachable. The interface of a network will stay valid for some time, its addresses may not.
pub fn outdated() {
    let useful = |network: &&Network| network.up && !network.device.is_empty();
    let list = known().list.iter().filter(useful).cloned().collect();
    set(Networks { list, current: false });
}

fn set(networks: Networks) {
    KNOWN.send_if_modified(|known| {
        let changed = **known != networks;
        *known = Arc::new(networks);
        changed
    });
}

/// Parses the answer of `network.interface dump`. Addresses that cannot be parsed are left out.
pub fn read_networks(dump: &Value) -> Vec<Network> {
    let mut networks = Vec::new();
    for network in array(dump, "interface").iter().take(LIMIT) {
        let text = |name| network.get(name).and_then(Value::as_str);
        let Some(name) = text("interface") else { continue };
        let mut addresses = Vec::new();
        for kind in ["ipv4-address", "ipv6-address"] {
            addresses.extend(array(network, kind).iter().take(LIMIT).filter_map(address));
        }
        // The addresses that a network has from a delegated prefix are only here.
        for assignment in array(network, "ipv6-prefix-assignment").iter().take(LIMIT) {
            addresses.extend(assignment.get("local-address").and_then(address));
        }
        addresses.sort();
        addresses.dedup();
        networks.push(Network {
            name: name.into(),
            device: text("l3_device").or_else(|| text("device")).unwrap_or_default().into(),
            up: network.get("up").and_then(Value::as_bool).unwrap_or(false),
            addresses,
        });
    }
    networks
}

fn array<'a>(value: &'a Value, name: &str) -> &'a [Value] {
    value.get(name).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn address(value: &Value) -> Option<IpNet> {
    let ip: IpAddr = value.get("address")?.as_str()?.parse().ok()?;
    IpNet::new(ip, u8::try_from(value.get("mask")?.as_u64()?).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

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

    fn network(name: &str, device: &str, up: bool, addresses: &[&str]) -> Network {
        let addresses = addresses.iter().map(|net| net.parse().unwrap()).collect();
        Network { name: name.into(), device: device.into(), up, addresses }
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

    /// An answer of netifd, without the members that we do not use.
    fn dump() -> Value {
        json!({ "interface": [
            {
                "interface": "lan", "up": true, "l3_device": "br-lan", "proto": "static", "device": "br-lan",
                "ipv4-address": [{ "address": "192.168.1.1", "mask": 24 }],
                "ipv6-address": [],
                "ipv6-prefix-assignment": [
                    { "address": "fd12::", "mask": 60, "local-address": { "address": "fd12::1", "mask": 60 } },
                    { "address": "2001:db8::", "mask": 60, "local-address": {} },
                ],
            },
            { "interface": "wan", "up": false, "pending": true, "device": "eth1" },
            {
                "interface": "wan6", "up": true, "l3_device": "eth1", "device": "eth1", "ipv4-address": [],
                "ipv6-address": [{ "address": "2001:db8:1::7", "mask": 128, "preferred": 3600 }],
            },
        ] })
    }

    #[test]
    fn networks_have_their_interface_and_all_kinds_of_addresses() {
        let networks = read_networks(&dump());
        let shown: Vec<String> = networks
            .iter()
            .map(|n| {
                let addresses: Vec<String> = n.addresses.iter().map(ToString::to_string).collect();
                format!("{} {} {} {}", n.name, n.device, n.up, addresses.join(" "))
            })
            .collect();
        assert_eq!(
            shown,
            ["lan br-lan true 192.168.1.1/24 fd12::1/60", "wan eth1 false ", "wan6 eth1 true 2001:db8:1::7/128"]
        );
    }

    #[test]
    fn nonsense_is_left_out() {
        for value in
            [json!(null), json!({}), json!({ "interface": 7 }), json!({ "interface": [7, {}, { "up": true }] })]
        {
            assert_eq!(read_networks(&value), []);
        }
        let wrong = json!([{ "address": "x", "mask": 8 }, { "address": "1.2.3.4", "mask": 33 }, { "mask": 1 }, 7]);
        let networks = read_networks(&json!({ "interface": [{ "interface": "lan", "ipv4-address": wrong }] }));
        assert_eq!(networks.len(), 1);
        assert_eq!(networks[0].addresses, []);
        let many: Vec<Value> = (0..1000).map(|n| json!({ "interface": n.to_string() })).collect();
        assert_eq!(read_networks(&json!({ "interface": many })).len(), LIMIT);
    }
}
