// SPDX-License-Identifier: Apache-2.0
//! A port of the loopback interface that stays with its stand-in while that listens, is stopped, and listens again.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use tokio::net::{TcpListener, TcpSocket};

/// The port, for as long as this value lives.
pub struct Port {
    /// Where it is.
    pub address: SocketAddr,
    /// Bound, never listening.
    _reserved: TcpSocket,
}

impl Port {
    /// A free one.
    pub fn reserve() -> Port {
        let reserved = socket();
        reserved.bind((Ipv4Addr::LOCALHOST, 0).into()).expect("a free port on the loopback interface");
        Port { address: reserved.local_addr().expect("the address of a bound socket"), _reserved: reserved }
    }

    /// Listens on it. Must be called inside of a tokio runtime.
    pub fn listen(&self) -> TcpListener {
        // Somebody's connection may have been given the port while nobody listened on it: it ends.
        const TRIES: u32 = 600;
        for _ in 0..TRIES {
            let socket = socket();
            match socket.bind(self.address) {
                Err(error) if error.kind() == ErrorKind::AddrInUse => {
                    std::thread::sleep(Duration::from_millis(50));
                }
                bound => {
                    bound.expect("the port of the stand-in");
                    return socket.listen(128).expect("listen on the port of the stand-in");
                }
            }
        }
        panic!("the port of the stand-in, {}, stays in use", self.address)
    }
}

fn socket() -> TcpSocket {
    let socket = TcpSocket::new_v4().expect("a TCP socket");
    // Lets the reserving and the listening socket have the same port, and a restart follow a stop at once.
    socket.set_reuseaddr(true).expect("SO_REUSEADDR");
    socket
}
