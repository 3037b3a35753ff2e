// SPDX-License-Identifier: Apache-2.0
//! Hears from the kernel when an address of the host appears or vanishes (rtnetlink), so that nobody has to look again and
//! again: on a router that does nothing, each look is a wake-up.

use std::io::{Error, ErrorKind, Result};
use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::libc::{RTMGRP_IPV4_IFADDR, RTMGRP_IPV6_IFADDR};
use nix::sys::socket::{AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, socket};
use tokio::io::unix::AsyncFd;

/// Bytes of a message that are looked at: none matters but that there is one.
const ENOUGH: usize = 64;

/// Tells of changes since it was made.
pub struct AddressChanges(AsyncFd<OwnedFd>);

impl AddressChanges {
    /// Begins to listen.
    ///
    /// # Errors
    /// If the kernel does not offer it (some emulators and sandboxes): then the addresses have to be looked at from time
    /// to time.
    pub fn new() -> Result<Self> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let socket = socket(AddressFamily::Netlink, SockType::Raw, flags, SockProtocol::NetlinkRoute)?;
        let groups = u32::try_from(RTMGRP_IPV4_IFADDR | RTMGRP_IPV6_IFADDR).map_err(Error::other)?;
        bind(socket.as_raw_fd(), &NetlinkAddr::new(0, groups))?;
        // SAFETY: the socket stays open until the AsyncFd, which owns it, is dropped.
        let registered = unsafe { AsyncFd::register(socket) };
        Ok(Self(registered.map_err(Error::other)?))
    }

    /// Returns when there was a change since the last call, or at once if the kernel has lost count of them.
    ///
    /// # Errors
    /// If there will be no more messages.
    pub async fn next(&self) -> Result<()> {
        let mut changed = false;
        loop {
            let mut ready = self.0.readable().await?;
            let took = ready.try_io(|socket| {
                let mut message = [0; ENOUGH];
                match recv(socket.as_raw_fd(), &mut message, MsgFlags::MSG_DONTWAIT) {
                    // More came than the kernel keeps.
                    Err(Errno::ENOBUFS) => Ok(1),
                    read => read.map_err(Error::from),
                }
            });
            match took {
                Ok(Ok(0)) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(Ok(_)) => changed = true,
                Ok(Err(error)) if error.kind() == ErrorKind::Interrupted => {}
                Ok(Err(error)) => return Err(error),
                // All were read.
                Err(_) if changed => return Ok(()),
                Err(_) => {}
            }
        }
    }
}
