// SPDX-License-Identifier: Apache-2.0
//! The kernel's IPv6 neighbours, requested via netlink (rtnetlink(7)): `/proc` has only those for IPv4.
//!
//! A dump is read into a fixed buffer, and only up to the number of entries that are kept. The other side is the
//! kernel, but lengths are checked anyway.

use std::io;
use std::net::{IpAddr, Ipv6Addr};
use std::os::fd::AsRawFd;

use nix::errno::Errno;
use nix::sys::socket::sockopt::ReceiveTimeout;
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, setsockopt, socket};
use nix::sys::time::{TimeVal, TimeValLike};

use super::{LeaseLine, Mac};

/// Size of the buffer in bytes. The kernel never puts more than this into one packet of a dump (`NLMSG_GOODSIZE`, and
/// what larger buffers turn it into).
const BUFFER: usize = 32 << 10;
/// Maximum number of packets read from a dump, and of neighbours that are kept.
const PACKETS: usize = 256;
const LIMIT: usize = 1024;
/// Timeout for one packet from the kernel, in seconds. It never takes that long, but nothing may wait forever.
const PATIENCE: i64 = 2;

/// linux/netlink.h and linux/rtnetlink.h.
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const RTM_NEWNEIGH: u16 = 28;
const RTM_GETNEIGH: u16 = 30;
const NLM_F_REQUEST: u16 = 1;
const NLM_F_DUMP: u16 = 0x300;
const MESSAGE_HEADER: usize = 16;
/// linux/neighbour.h: `struct ndmsg`, and the attributes that follow it.
const NEIGHBOUR_HEADER: usize = 12;
const NDA_DST: u16 = 1;
const NDA_LLADDR: u16 = 2;
/// States in which the hardware address is unknown (incomplete, failed) or meaningless (no ARP).
const UNKNOWN_STATES: u16 = 0x01 | 0x20 | 0x40;
const FAMILY: u8 = 10;

/// Who uses which address. Empty if the kernel does not say: an old one, or one without IPv6. Blocks for a moment.
pub fn neighbours() -> Vec<LeaseLine> {
    ask(&request(None), PACKETS).unwrap_or_default()
}

/// Who uses `ip` at the interface with this index. Kernels before 5.0 do not answer this. Blocks for a moment.
pub fn neighbour_of(ip: Ipv6Addr, interface: u32) -> Option<Mac> {
    // The answer is one packet: the neighbour, or an error.
    ask(&request(Some((ip, interface))), 1).ok()?.iter().find(|line| line.ip == ip)?.mac
}

/// The neighbours in the answer, of which at most so many packets are read.
fn ask(request: &[u8], packets: usize) -> io::Result<Vec<LeaseLine>> {
    let flags = SockFlag::SOCK_CLOEXEC;
    let kernel = socket(AddressFamily::Netlink, SockType::Raw, flags, SockProtocol::NetlinkRoute)?;
    setsockopt(&kernel, ReceiveTimeout, &TimeVal::seconds(PATIENCE))?;
    // Without a destination address it goes to the kernel.
    send(kernel.as_raw_fd(), request, MsgFlags::empty())?;
    let (mut found, mut buffer) = (Vec::new(), vec![0; BUFFER]);
    for _ in 0..packets {
        let length = match recv(kernel.as_raw_fd(), &mut buffer, MsgFlags::empty()) {
            Err(Errno::EINTR) => continue,
            other => other?,
        };
        if read(buffer.get(..length).unwrap_or_default(), &mut found) || found.len() >= LIMIT {
            break;
        }
    }
    Ok(found)
}

/// A request for one IPv6 neighbour at an interface, or for all: `struct nlmsghdr`, `struct ndmsg` and the address, in
/// the host's byte order.
fn request(one: Option<(Ipv6Addr, u32)>) -> Vec<u8> {
    let (length, flags) = if one.is_some() { (48_u32, NLM_F_REQUEST) } else { (28, NLM_F_REQUEST | NLM_F_DUMP) };
    let mut bytes = Vec::with_capacity(48);
    bytes.extend(length.to_ne_bytes());
    bytes.extend(RTM_GETNEIGH.to_ne_bytes());
    bytes.extend(flags.to_ne_bytes());
    bytes.extend(1u32.to_ne_bytes());
    bytes.extend(0u32.to_ne_bytes());
    bytes.extend([FAMILY, 0, 0, 0]);
    bytes.extend(one.map_or(0, |(_, interface)| interface).to_ne_bytes());
    bytes.resize(MESSAGE_HEADER + NEIGHBOUR_HEADER, 0);
    if let Some((ip, _)) = one {
        bytes.extend(20u16.to_ne_bytes());
        bytes.extend(NDA_DST.to_ne_bytes());
        bytes.extend(ip.octets());
    }
    bytes
}

/// Reads one packet; true if it is the last one.
fn read(packet: &[u8], found: &mut Vec<LeaseLine>) -> bool {
    let mut rest = packet;
    while let Some((header, body, next)) = message(rest) {
        match header {
            NLMSG_DONE | NLMSG_ERROR => return true,
            RTM_NEWNEIGH if found.len() < LIMIT => found.extend(neighbour(body)),
            _ => {}
        }
        rest = next;
    }
    // After bytes that are not a message, no further message can be found.
    !rest.is_empty()
}

/// Type and body of the first message, and the rest.
fn message(bytes: &[u8]) -> Option<(u16, &[u8], &[u8])> {
    let length = usize::try_from(u32::from_ne_bytes(*bytes.first_chunk()?)).ok()?;
    let kind = u16::from_ne_bytes(*bytes.get(4..)?.first_chunk()?);
    let body = bytes.get(MESSAGE_HEADER..length)?;
    Some((kind, body, bytes.get(aligned(length)..).unwrap_or_default()))
}

/// The content of a neighbour message, if it has an address and a hardware address.
fn neighbour(body: &[u8]) -> Option<LeaseLine> {
    let state = u16::from_ne_bytes(*body.get(8..)?.first_chunk()?);
    if body.first() != Some(&FAMILY) || state & UNKNOWN_STATES != 0 {
        return None;
    }
    let (mut ip, mut mac) = (None, None);
    let mut rest = body.get(NEIGHBOUR_HEADER..)?;
    while let Some((kind, value, next)) = attribute(rest) {
        match kind {
            NDA_DST => ip = <[u8; 16]>::try_from(value).ok(),
            NDA_LLADDR => mac = <[u8; 6]>::try_from(value).ok(),
            _ => {}
        }
        rest = next;
    }
    let mac = Mac::from(mac?);
    mac.is_known().then_some(LeaseLine { ip: IpAddr::V6(Ipv6Addr::from(ip?)), mac: Some(mac), host: None })
}

/// Type and value of the first attribute (`struct rtattr`), and the rest.
fn attribute(bytes: &[u8]) -> Option<(u16, &[u8], &[u8])> {
    let length = usize::from(u16::from_ne_bytes(*bytes.first_chunk()?));
    let kind = u16::from_ne_bytes(*bytes.get(2..)?.first_chunk()?);
    Some((kind, bytes.get(4..length)?, bytes.get(aligned(length)..).unwrap_or_default()))
}

fn aligned(length: usize) -> usize {
    length.saturating_add(3) & !3
}

#[cfg(test)]
mod tests {
    use super::super::Reach;
    use super::*;
    use proptest::prelude::*;
    use std::process::Command;

    fn attribute_of(kind: u16, value: &[u8]) -> Vec<u8> {
        let mut bytes = u16::try_from(value.len() + 4).unwrap().to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(value);
        bytes.resize(aligned(bytes.len()), 0);
        bytes
    }

    fn message_of(kind: u16, body: &[u8]) -> Vec<u8> {
        let mut bytes = u32::try_from(body.len() + MESSAGE_HEADER).unwrap().to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.resize(MESSAGE_HEADER, 0);
        bytes.extend(body);
        bytes.resize(aligned(bytes.len()), 0);
        bytes
    }

    fn neighbour_of(ip: [u8; 16], mac: &[u8], state: u16) -> Vec<u8> {
        let mut body = vec![FAMILY, 0, 0, 0, 2, 0, 0, 0];
        body.extend(state.to_ne_bytes());
        body.extend([0, 1]);
        // NDA_PROBES and other attributes.
        body.extend([attribute_of(NDA_DST, &ip), attribute_of(4, &[0; 4]), attribute_of(NDA_LLADDR, mac)].concat());
        message_of(RTM_NEWNEIGH, &body)
    }

    #[test]
    fn the_end_of_a_dump_is_known() {
        let mut found = Vec::new();
        assert!(read(&message_of(NLMSG_DONE, &[0; 4]), &mut found));
        assert!(read(&message_of(NLMSG_ERROR, &[0; 20]), &mut found));
        assert!(read(&[3, 0, 0, 0, 0, 0], &mut found));
        assert!(!read(&message_of(RTM_NEWNEIGH, &[0; 12]), &mut found));
        assert!(found.is_empty());
    }

    proptest! {
        #[test]
        fn what_the_kernel_writes_is_read(known: Vec<([u8; 16], [u8; 6])>, state in prop::sample::select(vec![2u16, 4, 8, 16, 0x80])) {
            let mut packet: Vec<u8> = Vec::new();
            known.iter().for_each(|(ip, mac)| packet.extend(neighbour_of(*ip, mac, state)));
            packet.extend(neighbour_of([1; 16], &[2; 6], 0x20));
            packet.extend(neighbour_of([1; 16], &[2; 8], 2));
            let mut found = Vec::new();
            prop_assert!(!read(&packet, &mut found));
            let lines = known.iter().filter(|(_, mac)| *mac != [0; 6]);
            let lines: Vec<LeaseLine> = lines
                .map(|(ip, mac)| LeaseLine { ip: Ipv6Addr::from(*ip).into(), mac: Some(Mac::from(*mac)), host: None })
                .collect();
            prop_assert_eq!(found, lines);
        }

        #[test]
        fn anything_can_stand_there(bytes: Vec<u8>, body: Vec<u8>, cut: prop::sample::Index, flip: prop::sample::Index) {
            let mut packet = [neighbour_of([1; 16], &[2; 6], 2), message_of(RTM_NEWNEIGH, &body)].concat();
            let (cut, flip) = (cut.index(packet.len()), flip.index(packet.len()));
            packet[flip] ^= 0xff;
            for bytes in [bytes.as_slice(), &packet, &packet[..cut]] {
                let mut found = Vec::new();
                read(bytes, &mut found);
                prop_assert!(found.len() <= 2 || bytes.len() > packet.len());
            }
        }
    }

    /// The inner half of the next test, in its own network namespace.
    #[test]
    #[ignore = "run by the_kernel_says_who_has_an_address_of_ipv6"]
    fn in_a_namespace() {
        let found = neighbours();
        let is_it = |ip: &str| found.iter().find(|line| line.ip.to_string() == ip).and_then(|line| line.mac);
        assert_eq!(is_it("fd00:25::1:2"), Mac::parse("02:00:00:00:00:25"), "{found:?}");
        assert_eq!(is_it("fd00:25::1:3"), None, "{found:?}");
        // The same device at both of its addresses; one that does not answer; another network; our own address.
        let how = |ip: &str| super::super::reach(ip.parse().unwrap(), 0);
        let plc = Reach::Neighbour(Mac::parse("02:00:00:00:00:25").unwrap());
        assert_eq!([how("fd00:25::1:2"), how("fd00:25::1:4")], [plc, plc]);
        assert_eq!([how("fd00:25::1:3"), how("fd00:25::1")], [Reach::Connected; 2]);
        assert_eq!([how("fd00:26::1:2"), how("2001:db8::1")], [Reach::Routed; 2]);
    }

    #[test]
    fn the_kernel_says_who_has_an_address_of_ipv6() {
        let script = "ip link add lan type veth peer name plc && ip link set lan up && ip link set plc up && \
            ip -6 neigh add fd00:25::1:2 lladdr 02:00:00:00:00:25 dev lan nud stale && \
            ip -6 neigh add fd00:25::1:4 lladdr 02:00:00:00:00:25 dev lan nud stale && \
            ip -6 addr add fd00:25::1/64 dev lan nodad && ip -6 route add fd00:26::/64 via fd00:25::1:2 && \
            ip -6 neigh add fd00:25::1:3 dev lan nud failed && echo ready && exec \"$0\" --ignored --exact \"$1\"";
        let name = concat!(module_path!(), "::in_a_namespace");
        let name = name.split_once("::").unwrap().1;
        let me = std::env::current_exe().unwrap();
        let ran = Command::new("unshare").args(["-n", "sh", "-c", script]).arg(me).arg(name).output();
        let said = ran.as_ref().map(|ran| String::from_utf8_lossy(&ran.stdout).into_owned()).unwrap_or_default();
        if !said.starts_with("ready") {
            println!("skipped: this needs root, unshare and ip with veth: {ran:?}");
            return;
        }
        assert!(ran.unwrap().status.success() && said.contains("1 passed"), "{said}");
    }
}
