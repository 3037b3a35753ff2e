// SPDX-License-Identifier: Apache-2.0
//! Where a real mail server under test delivers to: an LMTP server (RFC 2033) inside the test process.
//!
//! Delivery by LMTP keeps the bytes exactly as the server sent them, needs no user on the machine, and tells the
//! test at once when a message is there.

use std::net::Ipv4Addr;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

use super::watch::Watched;

/// A message that a server delivered.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// Envelope sender without brackets.
    pub sender: String,
    /// Envelope recipients without brackets.
    pub recipients: Vec<String>,
    /// The text with CRLF, dots unstuffed.
    pub data: Vec<u8>,
}

/// Takes every message for everybody. Ends when it is dropped.
pub struct Mailbox {
    port: u16,
    deliveries: Watched<Vec<Delivery>>,
    task: JoinHandle<()>,
}

impl Mailbox {
    /// Starts on a free port of 127.0.0.1.
    pub async fn start() -> Mailbox {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port for LMTP");
        let port = listener.local_addr().expect("the address of a bound socket").port();
        let deliveries = Watched::new(Vec::new());
        let shared = deliveries.clone();
        let task = tokio::spawn(async move {
            let mut conversations = JoinSet::new();
            while let Ok((tcp, _)) = listener.accept().await {
                let deliveries = shared.clone();
                conversations.spawn(async move {
                    if let Err(error) = converse(tcp, deliveries).await {
                        eprintln!("mailbox: {error}");
                    }
                });
            }
        });
        Mailbox { port, deliveries, task }
    }

    /// Where it listens.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Waits until at least so many messages are there, and returns all; `None` after `limit`.
    pub async fn wait(&self, count: usize, limit: Duration) -> Option<Vec<Delivery>> {
        self.deliveries.wait(limit, |all| Some(all.clone()).filter(|all| all.len() >= count)).await
    }

    /// What is there.
    pub fn deliveries(&self) -> Vec<Delivery> {
        self.deliveries.read(Vec::clone)
    }
}

impl Drop for Mailbox {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn converse(tcp: TcpStream, deliveries: Watched<Vec<Delivery>>) -> std::io::Result<()> {
    tcp.set_nodelay(true)?;
    let mut stream = BufReader::new(tcp);
    stream.write_all(b"220 mailbox.example LMTP\r\n").await?;
    let mut delivery = Delivery { sender: String::new(), recipients: Vec::new(), data: Vec::new() };
    loop {
        let mut line = Vec::new();
        if stream.read_until(b'\n', &mut line).await? == 0 {
            return Ok(());
        }
        let line = String::from_utf8_lossy(&line).trim_end().to_owned();
        let verb = line.split(' ').next().unwrap_or_default().to_ascii_uppercase();
        let reply: String = match verb.as_str() {
            "LHLO" => "250-mailbox.example\r\n250-PIPELINING\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n250 SIZE\r\n".into(),
            "MAIL" => {
                delivery.sender = address(&line);
                "250 2.1.0 Ok\r\n".into()
            }
            "RCPT" => {
                delivery.recipients.push(address(&line));
                "250 2.1.5 Ok\r\n".into()
            }
            "DATA" => {
                stream.write_all(b"354 Go ahead\r\n").await?;
                delivery.data = text(&mut stream).await?;
                // RFC 2033 section 4.2: a reply for each recipient.
                let replies = "250 2.0.0 Delivered\r\n".repeat(delivery.recipients.len());
                let done = Delivery { sender: String::new(), recipients: Vec::new(), data: Vec::new() };
                let done = std::mem::replace(&mut delivery, done);
                deliveries.change(|all| all.push(done));
                replies
            }
            "RSET" => {
                delivery.recipients.clear();
                "250 2.0.0 Ok\r\n".into()
            }
            "NOOP" => "250 2.0.0 Ok\r\n".into(),
            "QUIT" => {
                stream.write_all(b"221 2.0.0 Bye\r\n").await?;
                return Ok(());
            }
            _ => "500 5.5.1 Unknown command\r\n".into(),
        };
        stream.write_all(reply.as_bytes()).await?;
    }
}

async fn text(stream: &mut BufReader<TcpStream>) -> std::io::Result<Vec<u8>> {
    let mut text = Vec::new();
    loop {
        let start = text.len();
        // Lines end with CRLF only: goes on behind a lone LF.
        while !text[start..].ends_with(b"\r\n") {
            if stream.read_until(b'\n', &mut text).await? == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
        }
        if text[start..] == *b".\r\n" {
            text.truncate(start);
            return Ok(text);
        }
        if text[start..].starts_with(b".") {
            text.remove(start);
        }
    }
}

fn address(line: &str) -> String {
    let inside = line.split_once('<').and_then(|(_, rest)| rest.rsplit_once('>'));
    inside.map(|(address, _)| address.to_owned()).unwrap_or_default()
}
