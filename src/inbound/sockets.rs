//! Listening sockets, whether this process opened them itself while it could, or root handed them over.

use std::collections::HashMap;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::AsRawFd;
use std::sync::{Mutex, PoisonError};

use nix::errno::Errno;
use nix::sys::socket::sockopt::{IpFreebind, Ipv6V6Only, ReuseAddr};
use nix::sys::socket::{AddressFamily, Backlog, SockFlag, SockType, SockaddrStorage, bind, listen, setsockopt, socket};
use nix::unistd::geteuid;

use crate::system::interfaces;

/// Opens a listening socket, non-blocking as the runtime requires.
///
/// # Errors
/// The error of the system; [`explain`] says what to do.
pub fn open(address: SocketAddr) -> io::Result<TcpListener> {
    let family = if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = socket(family, SockType::Stream, flags, None)?;
    setsockopt(&socket, ReuseAddr, &true)?;
    if address.is_ipv6() {
        // `::` means IPv6 only, so that it can coexist with `0.0.0.0`.
        setsockopt(&socket, Ipv6V6Only, &true)?;
    }
    let place = SockaddrStorage::from(address);
    bind(socket.as_raw_fd(), &place).or_else(|error| {
        // An IPv6 address exists for a second or two before it can be bound, until duplicate address detection is done
        // (RFC 4862 section 5.4). This runs at just that moment, and later the process may no longer be root.
        if error != Errno::EADDRNOTAVAIL || !is_tentative(address) {
            return Err(error);
        }
        setsockopt(&socket, IpFreebind, &true)?;
        bind(socket.as_raw_fd(), &place)
    })?;
    // As many connections as the kernel will queue (net.core.somaxconn): all devices of a site may report the same
    // power cut at once. Not a number: nix does not accept one beyond musl's SOMAXCONN, which is 128.
    listen(&socket, Backlog::MAXALLOWABLE)?;
    Ok(TcpListener::from(socket))
}

/// Whether this host has the address, or is about to have it.
fn is_tentative(address: SocketAddr) -> bool {
    address.is_ipv6() && interfaces::addresses().is_ok_and(|all| all.iter().any(|own| own.ip == address.ip()))
}

/// Why listening on the address failed, and what to do about it.
pub fn explain(address: SocketAddr, error: &io::Error) -> String {
    let remedy = match error.kind() {
        io::ErrorKind::AddrInUse => ": another mail server is running on this port, stop it or choose another port",
        io::ErrorKind::PermissionDenied if geteuid().is_root() => ": this system denies it even to root",
        io::ErrorKind::PermissionDenied => ": ports below 1024 require root; run 'service smtprelay reload' as root",
        io::ErrorKind::AddrNotAvailable => ": no interface has this address at the moment",
        _ => "",
    };
    format!("cannot listen on {address}: {error}{remedy}")
}

/// Sockets that root opened and that are not in use yet, by the address in the settings; or why they could not be
/// opened.
#[derive(Default)]
pub struct Sockets(Mutex<HashMap<SocketAddr, io::Result<TcpListener>>>);

impl Sockets {
    /// Opens all of these now, for later use.
    pub fn prepare(addresses: &[SocketAddr]) -> Self {
        Self(Mutex::new(addresses.iter().map(|address| (*address, open(*address))).collect()))
    }

    /// Stores sockets that were handed over.
    pub fn add(&self, handed: Vec<(SocketAddr, TcpListener)>) {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *waiting = handed.into_iter().map(|(address, socket)| (address, Ok(socket))).collect();
    }

    /// The socket for this address: a stored one, or a new one.
    ///
    /// # Errors
    /// The error of the system, now or when root tried.
    pub fn open(&self, address: SocketAddr) -> io::Result<TcpListener> {
        let waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&address);
        waiting.unwrap_or_else(|| open(address))
    }

    /// Closes those that are not used: a device that connects there would wait in vain.
    pub fn close_rest(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_there_is_taken_and_the_rest_is_closed() {
        let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
        let (first, second) = (open(any).unwrap(), open(any).unwrap());
        let (one, two) = (first.local_addr().unwrap(), second.local_addr().unwrap());
        let sockets = Sockets::default();
        sockets.add(vec![(one, first), (two, second)]);
        assert_eq!(sockets.open(one).unwrap().local_addr().unwrap(), one);
        sockets.close_rest();
        assert!(std::net::TcpStream::connect(two).is_err());
        // It is bound again.
        assert_eq!(sockets.open(two).unwrap().local_addr().unwrap(), two);
    }

    #[test]
    fn what_root_could_not_bind_is_told_as_it_was() {
        let taken = open("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = taken.local_addr().unwrap();
        let sockets = Sockets::prepare(&[address]);
        drop(taken);
        let error = sockets.open(address).unwrap_err();
        assert!(explain(address, &error).contains("another mail server is running on this port"), "{error}");
        // The next call tries again.
        assert!(sockets.open(address).is_ok());
    }
}
