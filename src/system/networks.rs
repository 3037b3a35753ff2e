// SPDX-License-Identifier: Apache-2.0
//! OpenWrt's networks: the interface and the addresses of each, as last reported by netifd.
//!
//! One instance per process, like the interfaces themselves. `control::ubus` asks netifd.

use std::net::IpAddr;
use std::sync::{Arc, LazyLock};

use ipnet::IpNet;
use serde_json::Value;
use tokio::sync::watch;

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
pub fn read(dump: &Value) -> Vec<Network> {
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
        let networks = read(&dump());
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
            assert_eq!(read(&value), []);
        }
        let wrong = json!([{ "address": "x", "mask": 8 }, { "address": "1.2.3.4", "mask": 33 }, { "mask": 1 }, 7]);
        let networks = read(&json!({ "interface": [{ "interface": "lan", "ipv4-address": wrong }] }));
        assert_eq!(networks.len(), 1);
        assert_eq!(networks[0].addresses, []);
        let many: Vec<Value> = (0..1000).map(|n| json!({ "interface": n.to_string() })).collect();
        assert_eq!(read(&json!({ "interface": many })).len(), LIMIT);
    }
}
