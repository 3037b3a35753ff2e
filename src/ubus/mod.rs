// SPDX-License-Identifier: Apache-2.0
//! OpenWrt's message bus, independent of what this gateway uses it for: messages, connections, and requests to other
//! daemons.
//!
//! | module | content |
//! |---|---|
//! | [`blobmsg`] | values as bytes |
//! | [`message`] | ubus messages |
//! | [`connection`] | a connection: matches answers with requests; a single blocking request |
//! | [`daemons`] | information from netifd, notifications to procd |

pub mod blobmsg;
pub mod connection;
pub mod daemons;
pub mod message;

use std::ffi::OsString;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use nix::sys::socket::{self, AddressFamily, SockFlag, SockType, UnixAddr};

/// Where ubusd listens.
const SOCKET: &str = "/var/run/ubus/ubus.sock";
/// Overrides the path of the socket, for tests.
const VARIABLE: &str = "SMTPRELAY_UBUS";
/// ubusd's own object, which distributes events.
pub const BROKER: u32 = 1;

fn path() -> PathBuf {
    std::env::var_os(VARIABLE).unwrap_or_else(|| OsString::from(SOCKET)).into()
}

/// Connects to ubusd, immediately or not at all: a full backlog is a failure. Never waits; `None` without ubusd.
///
/// ubusd remembers who opened a connection: one opened while the program is root keeps root's rights. Later ones have
/// the rights granted by `/usr/share/acl.d/smtprelay.json`.
pub fn connect() -> Option<UnixStream> {
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let socket: OwnedFd = socket::socket(AddressFamily::Unix, SockType::Stream, flags, None).ok()?;
    socket::connect(socket.as_raw_fd(), &UnixAddr::new(&path()).ok()?).ok()?;
    Some(socket.into())
}
