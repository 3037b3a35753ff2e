// SPDX-License-Identifier: Apache-2.0
//! The device on the LAN: raw bytes, sent as the test wants, whether or not they are SMTP.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::{TlsConnector, TlsStream};

use super::certs::Certs;
use super::stream::Stream;

pub use super::devices::{Controllino, SKETCH, SKETCH_GIVES_UP, controllino};

/// How bytes are cut into writes. Each write goes out at once (TCP_NODELAY), so that it normally is a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Chunking {
    /// All in one write.
    Whole,
    /// So many bytes a write.
    Bytes(usize),
    /// A write for each line.
    Lines,
    /// As `print` and `println` of an Arduino do it: a write for the line, another one for its CRLF.
    Println,
}

/// A reply of the server, of one line or more (RFC 5321 section 4.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// Such as 250.
    pub code: u16,
    /// What stands behind code and hyphen or blank, line by line.
    pub lines: Vec<String>,
}

impl Reply {
    /// All lines in one.
    pub fn text(&self) -> String {
        self.lines.join("\n")
    }
}

/// No reply is longer than this, in bytes.
const LONGEST_REPLY: usize = 64 * 1024;

/// A connection to the relay.
pub struct Client {
    stream: Stream,
    /// Read, but not used yet.
    buffer: Vec<u8>,
    /// How long each read waits.
    limit: Duration,
}

impl Client {
    /// Connects, and reads nothing.
    pub async fn connect(addr: SocketAddr) -> Client {
        let tcp = TcpStream::connect(addr).await.unwrap_or_else(|error| panic!("connect to {addr}: {error}"));
        tcp.set_nodelay(true).expect("TCP_NODELAY");
        Client { stream: Stream::Plain(tcp), buffer: Vec::new(), limit: Duration::from_secs(30) }
    }

    /// Connects from this address of the machine, as a device of its own, and reads the greeting.
    pub async fn greeted_from(source: IpAddr, addr: SocketAddr) -> Client {
        let mut client = Client::connect_from(source, addr).await;
        client.expect(220).await;
        client
    }

    /// Connects from this address of the machine, and reads nothing.
    pub async fn connect_from(source: IpAddr, addr: SocketAddr) -> Client {
        let socket = if source.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() };
        let socket = socket.expect("a socket");
        socket.bind(SocketAddr::new(source, 0)).unwrap_or_else(|error| panic!("bind to {source}: {error}"));
        let tcp = socket.connect(addr).await.unwrap_or_else(|error| panic!("connect to {addr}: {error}"));
        tcp.set_nodelay(true).expect("TCP_NODELAY");
        Client { stream: Stream::Plain(tcp), buffer: Vec::new(), limit: Duration::from_secs(30) }
    }

    /// Connects and reads the greeting, which has to be 220.
    pub async fn greeted(addr: SocketAddr) -> Client {
        let mut client = Client::connect(addr).await;
        client.expect(220).await;
        client
    }

    /// How long each read may take before it panics. Default: 30 seconds.
    pub fn set_limit(&mut self, limit: Duration) {
        self.limit = limit;
    }

    /// The address of this end: where the relay sees the device.
    pub fn local_addr(&self) -> SocketAddr {
        self.stream.tcp().expect("a connection").local_addr().expect("its address")
    }

    /// Does the TLS handshake (after STARTTLS, or at once) and checks the certificate for `localhost`.
    pub async fn start_tls(&mut self, certs: &Certs) -> io::Result<()> {
        let Stream::Plain(tcp) = self.stream.detach() else { panic!("TLS is on already") };
        let name = ServerName::try_from("localhost").expect("a name");
        let tls = TlsConnector::from(certs.client_config()).connect(name, tcp).await?;
        self.stream = Stream::Tls(Box::new(TlsStream::Client(tls)));
        Ok(())
    }

    /// Sends the bytes in one write.
    pub async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes).await?;
        self.stream.flush().await
    }

    /// Sends the bytes in pieces.
    pub async fn write_in(&mut self, bytes: &[u8], chunking: Chunking) -> io::Result<()> {
        for chunk in cut(bytes, chunking) {
            self.write(chunk).await?;
            // Lets the other tasks of the test run in between.
            tokio::task::yield_now().await;
        }
        Ok(())
    }

    /// Sends a line with CRLF and reads the reply.
    pub async fn command(&mut self, line: &str) -> Reply {
        self.write(format!("{line}\r\n").as_bytes()).await.unwrap_or_else(|error| panic!("send {line:?}: {error}"));
        self.reply().await
    }

    /// Sends the lines of a conversation one by one; each has to be answered with this code.
    pub async fn dialogue(&mut self, steps: &[(&str, u16)]) {
        for (line, code) in steps {
            let reply = self.command(line).await;
            assert_eq!(reply.code, *code, "reply to {line:?}: {reply:?}");
        }
    }

    /// Sends a message in good order on a connection where EHLO was said, and returns the reply to the final dot.
    /// `text` is with CRLF, and is dot-stuffed here.
    pub async fn send(&mut self, sender: &str, recipients: &[&str], text: &str) -> Reply {
        self.dialogue(&[(&format!("MAIL FROM:<{sender}>"), 250)]).await;
        for recipient in recipients {
            self.dialogue(&[(&format!("RCPT TO:<{recipient}>"), 250)]).await;
        }
        self.dialogue(&[("DATA", 354)]).await;
        let mut stuffed = format!("\r\n{text}").replace("\r\n.", "\r\n..");
        stuffed.drain(..2);
        if !stuffed.is_empty() && !stuffed.ends_with("\r\n") {
            stuffed.push_str("\r\n");
        }
        self.write(stuffed.as_bytes()).await.expect("send the text");
        self.command(".").await
    }

    /// Reads a reply and panics if it has another code.
    pub async fn expect(&mut self, code: u16) -> Reply {
        let reply = self.reply().await;
        assert_eq!(reply.code, code, "{reply:?}");
        reply
    }

    /// Reads a whole reply. Panics if there is none within the limit, or if it is no SMTP reply.
    pub async fn reply(&mut self) -> Reply {
        match self.try_reply().await {
            Ok(Some(reply)) => reply,
            Ok(None) => panic!("the connection was closed in place of a reply"),
            Err(error) => panic!("no reply: {error}"),
        }
    }

    /// Reads a whole reply; `None` if the connection was closed or reset.
    pub async fn try_reply(&mut self) -> io::Result<Option<Reply>> {
        let mut lines = Vec::new();
        loop {
            let Some(line) = self.line().await? else {
                return Ok(None);
            };
            let malformed = || io::Error::other(format!("not a line of an SMTP reply: {line:?}"));
            let code: u16 = line.get(..3).and_then(|code| code.parse().ok()).ok_or_else(malformed)?;
            let text = line.get(4..).unwrap_or_default().to_owned();
            lines.push(text);
            match line.as_bytes().get(3) {
                Some(b'-') => {}
                Some(b' ') | None => return Ok(Some(Reply { code, lines })),
                Some(_) => return Err(malformed()),
            }
        }
    }

    /// Everything that still comes until the connection is closed or reset.
    pub async fn read_to_end(&mut self) -> Vec<u8> {
        while let Ok(true) = self.fill().await {}
        std::mem::take(&mut self.buffer)
    }

    /// Ends the sending side; replies can still be read.
    pub async fn finish(&mut self) {
        let _ = self.stream.shutdown().await;
    }

    /// Closes with RST in place of FIN (SO_LINGER 0): replies that are on the way cannot be delivered any more.
    /// What was written just before may be lost, too, if the other side has not acknowledged it.
    pub fn reset(self) {
        self.stream.reset_on_close();
    }

    async fn line(&mut self) -> io::Result<Option<String>> {
        loop {
            if self.buffer.len() > LONGEST_REPLY {
                return Err(io::Error::other(format!("no line end within {LONGEST_REPLY} bytes")));
            }
            if let Some(end) = self.buffer.windows(2).position(|two| two == b"\r\n") {
                let line: Vec<u8> = self.buffer.drain(..end + 2).collect();
                return Ok(Some(String::from_utf8_lossy(&line[..end]).into_owned()));
            }
            if !self.fill().await? {
                return match self.buffer.is_empty() {
                    true => Ok(None),
                    false => Err(io::Error::other(format!("closed inside of a line: {:?}", self.buffer))),
                };
            }
        }
    }

    /// Reads more; false at the end of the connection, in whatever way it ended.
    async fn fill(&mut self) -> io::Result<bool> {
        let read = self.stream.read_buf(&mut self.buffer);
        match tokio::time::timeout(self.limit, read).await {
            Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, format!("nothing came for {:?}", self.limit))),
            Ok(Ok(count)) => Ok(count > 0),
            Ok(Err(error)) if error.kind() == io::ErrorKind::TimedOut => Err(error),
            Ok(Err(_)) => Ok(false),
        }
    }
}

/// Cuts bytes into what is written at once.
pub fn cut(bytes: &[u8], chunking: Chunking) -> Vec<&[u8]> {
    match chunking {
        Chunking::Whole => vec![bytes],
        Chunking::Bytes(count) => bytes.chunks(count.max(1)).collect(),
        Chunking::Lines => bytes.split_inclusive(|byte| *byte == b'\n').collect(),
        Chunking::Println => bytes
            .split_inclusive(|byte| *byte == b'\n')
            .flat_map(|line| match line.strip_suffix(b"\r\n") {
                Some(text) => vec![text, &line[text.len()..]],
                None => vec![line],
            })
            .filter(|part| !part.is_empty())
            .collect(),
    }
}
