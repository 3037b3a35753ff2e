// SPDX-License-Identifier: Apache-2.0
//! A slow line: a TCP proxy that delays every byte, in both directions.
//!
//! The handshake of TCP takes a round trip on a slow line as well. Here the first connection is made at once, so the
//! bytes of the client are held until that round trip would have been over.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::path::Path;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use super::{Options, publish};

/// Runs until it is killed.
pub fn run(options: &Options) -> Result<(), String> {
    let to: u16 = options.number("to")?.ok_or("--to is missing")?;
    let delay = Duration::from_millis(options.number("delay")?.ok_or("--delay is missing")?);
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(|e| format!("listen: {e}"))?;
    let port = listener.local_addr().map_err(|e| e.to_string())?.port();
    publish(Path::new(options.text("port-file")?), &port.to_string())?;
    for client in listener.incoming().flatten() {
        let begin = Instant::now();
        std::thread::spawn(move || connection(client, to, delay, begin));
    }
    Ok(())
}

fn connection(client: TcpStream, to: u16, delay: Duration, begin: Instant) {
    // The SYN is on its way.
    std::thread::sleep(delay);
    let Ok(server) = TcpStream::connect((Ipv4Addr::LOCALHOST, to)) else { return };
    let pair = (client.try_clone(), server.try_clone());
    let (Ok(client_too), Ok(server_too)) = pair else { return };
    let connected = begin + 2 * delay;
    std::thread::spawn(move || forward(client_too, server_too, delay, connected));
    forward(server, client, delay, begin);
}

/// Each piece leaves so long after it came, and none before `not_before` and the delay.
fn forward(mut from: TcpStream, mut to: TcpStream, delay: Duration, not_before: Instant) {
    let _ = to.set_nodelay(true);
    let (sender, pieces) = mpsc::channel::<(Instant, Vec<u8>)>();
    let writer = std::thread::spawn(move || {
        for (due, piece) in pieces {
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            if to.write_all(&piece).is_err() {
                break;
            }
        }
        let _ = to.shutdown(Shutdown::Write);
    });
    let mut buffer = vec![0; 65536];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        let due = Instant::now().max(not_before) + delay;
        if sender.send((due, buffer[..count].to_vec())).is_err() {
            break;
        }
    }
    // The end of the stream is as slow as the stream.
    std::thread::sleep(delay);
    drop(sender);
    let _ = writer.join();
}
