// SPDX-License-Identifier: Apache-2.0
//! How this host reaches an IPv6 client, which says how much of its address the client can choose itself.

use std::net::{IpAddr, Ipv6Addr};

use nix::net::if_::if_nametoindex;

use super::{Mac, netlink};
use crate::system::interfaces;

/// How an IPv6 address is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// Directly, through this hardware address.
    Neighbour(Mac),
    /// Directly; the kernel does not say through which hardware address, or there is none.
    Connected,
    /// Through a router.
    Routed,
}

/// How `ip` is reached, of the interface `scope` if it is link-local. Blocks for a moment: the kernel may be busy with
/// its interfaces.
pub fn reach(ip: Ipv6Addr, scope: u32) -> Reach {
    let mut found = Reach::Routed;
    for address in interfaces::addresses().unwrap_or_default() {
        if !address.net.contains(&IpAddr::V6(ip)) || (address.scope != 0 && scope != 0 && address.scope != scope) {
            continue;
        }
        found = Reach::Connected;
        // Asked for this address alone, since a host with a thousand of them could push others out of a list.
        let index = if_nametoindex(address.interface.as_str()).ok();
        if let Some(mac) = index.and_then(|index| netlink::neighbour_of(ip, index)) {
            return Reach::Neighbour(mac);
        }
    }
    found
}
