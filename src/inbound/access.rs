// SPDX-License-Identifier: Apache-2.0
//! Which networks may connect.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::config::Listener;
use crate::system::interfaces::Address;

/// The networks that may send through a listener: those named in the settings, or else the subnets directly connected
/// to the interfaces it listens on, and this host itself. The default is never "everyone".
pub fn allowed(listener: &Listener, host: &[Address]) -> Vec<IpNet> {
    if !listener.allow.is_empty() {
        return listener.allow.clone();
    }
    let listened = |address: &&Address| {
        listener.interfaces.contains(&address.interface)
            || listener.addresses.iter().any(|ip| ip.is_unspecified() || *ip == address.ip)
    };
    // A public address is most likely the uplink, whose subnet is full of strangers.
    let private = |address: &&Address| match address.ip {
        IpAddr::V4(ip) => ip.is_private() || ip.is_link_local() || ip.is_loopback(),
        IpAddr::V6(ip) => ip.is_unique_local() || ip.is_unicast_link_local() || ip.is_loopback(),
    };
    let named = |address: &&Address| listener.interfaces.contains(&address.interface);
    let mut nets: Vec<IpNet> = host
        .iter()
        .filter(|address| listened(address) && (private(address) || named(address)))
        .map(|address| address.net)
        .collect();
    nets.extend(["127.0.0.0/8", "::1/128"].iter().filter_map(|net| net.parse::<IpNet>().ok()));
    nets.sort();
    nets.dedup();
    nets
}

/// Whether `client` is in one of `nets`.
pub fn may_send(client: IpAddr, nets: &[IpNet]) -> bool {
    let client = client.to_canonical();
    nets.iter().any(|net| net.contains(&client))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{load, uci};
    use crate::system::interfaces::Networks;
    use crate::system::interfaces::by_name;

    fn host() -> Vec<Address> {
        let address = |interface: &str, ip: &str, net: &str| Address {
            interface: interface.into(),
            ip: ip.parse().unwrap(),
            net: net.parse().unwrap(),
            scope: 0,
        };
        let kernel = [
            address("lo", "127.0.0.1", "127.0.0.0/8"),
            address("br-lan", "192.168.1.1", "192.168.1.0/24"),
            address("br-lan", "2001:db8:1::1", "2001:db8:1::/64"),
            address("wan", "203.0.113.9", "203.0.113.0/24"),
            address("guest", "10.9.0.1", "10.9.0.0/16"),
        ];
        by_name(&kernel, &Networks::default())
    }

    fn nets(listener: &str) -> Vec<String> {
        let package = uci::parse(format!("config listener 'l'\n{listener}").as_bytes()).unwrap();
        let (settings, _) = load::settings(&package);
        allowed(&settings.listeners[0], &host()).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn without_a_setting_only_the_own_networks_may_send() {
        assert_eq!(nets("list interface 'lan'"), ["127.0.0.0/8", "192.168.1.0/24", "::1/128", "2001:db8:1::/64"]);
        assert_eq!(nets("list address '10.9.0.1'"), ["10.9.0.0/16", "127.0.0.0/8", "::1/128"]);
    }

    #[test]
    fn no_default_lets_the_uplink_in() {
        for listener in ["list address '0.0.0.0'", "list address '::'", "list address '203.0.113.9'"] {
            let nets: Vec<IpNet> = nets(listener).iter().map(|n| n.parse().unwrap()).collect();
            assert!(!may_send("203.0.113.77".parse().unwrap(), &nets), "{listener}");
            assert!(!may_send("8.8.8.8".parse().unwrap(), &nets), "{listener}");
            assert!(!may_send("2a00::1".parse().unwrap(), &nets), "{listener}");
            assert!(may_send("127.0.0.1".parse().unwrap(), &nets), "{listener}");
        }
    }

    #[test]
    fn mapped_addresses_are_the_addresses_they_stand_for() {
        let nets = ["192.168.1.0/24".parse().unwrap()];
        assert!(may_send("::ffff:192.168.1.7".parse().unwrap(), &nets));
        assert!(!may_send("::ffff:192.168.2.7".parse().unwrap(), &nets));
    }
}
