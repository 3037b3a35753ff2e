//! OpenWrt's message bus, without what this gateway says on it: messages, connections, and the questions that it asks.
//!
//! | module | holds |
//! |---|---|
//! | [`blobmsg`] | values as bytes |
//! | [`message`] | the messages |
//! | [`connection`] | one connection: who waits for which answer |
//! | [`call`] | one question, blocking |
//! | [`netifd`] | what netifd knows |
//! | [`procd`] | what procd is told |

pub mod blobmsg;
pub mod call;
pub mod connection;
pub mod message;
pub mod netifd;
pub mod procd;

use std::ffi::OsString;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use nix::sys::socket::{self, AddressFamily, SockFlag, SockType, UnixAddr};

/// Where ubusd listens.
const SOCKET: &str = "/var/run/ubus/ubus.sock";
/// Names another socket, for tests.
const VARIABLE: &str = "SMTPRELAY_UBUS";
/// ubusd's own object that spreads events.
pub const BROKER: u32 = 1;

fn path() -> PathBuf {
    std::env::var_os(VARIABLE).unwrap_or_else(|| OsString::from(SOCKET)).into()
}

/// Connects to ubusd, now or not at all: a full backlog is a no. Never waits; `None` without ubusd.
///
/// ubusd remembers who has opened a connection: one that is opened while the program is root keeps root's rights. Later
/// ones have those that `/usr/share/acl.d/smtprelay.json` gives.
pub fn connect() -> Option<UnixStream> {
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let socket: OwnedFd = socket::socket(AddressFamily::Unix, SockType::Stream, flags, None).ok()?;
    socket::connect(socket.as_raw_fd(), &UnixAddr::new(&path()).ok()?).ok()?;
    Some(socket.into())
}
