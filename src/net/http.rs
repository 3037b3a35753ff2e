// SPDX-License-Identifier: Apache-2.0
//! One HTTPS request and its reply (HTTP/1.1, RFC 9112), on a connection of its own. Redirects are not followed: secrets
//! go only to the address in the settings.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::time::Duration;

use nix::sys::socket::{setsockopt, sockopt};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::pki_types::ServerName;
use zeroize::Zeroizing;

use super::{ConnectFailure, Trouble, TroubleKind, tls};
use crate::push::url::Url;
use crate::system::task;

mod response;

pub use response::Answer;
use response::Response;

/// How far an exchange has come.
pub enum HttpStep<'a> {
    /// The host has these addresses.
    Found(&'a [SocketAddr]),
    /// One of them accepts connections.
    Connected,
    /// The server is verified, and the connection is encrypted.
    Secured(&'a TlsStream<TcpStream>),
    /// Another piece of the body was handed to the kernel.
    Piece,
    /// The whole request was handed to the kernel: from here on the server may have all of it.
    Sent,
}

/// A request that is to be sent.
pub struct Exchange<'a> {
    /// What the server is called in sentences before its host name, with a space at the end; may be empty.
    pub who: &'a str,
    /// Where it is sent.
    pub url: Url<'a>,
    /// TLS, with whom it trusts.
    pub connector: &'a TlsConnector,
    /// Timeout for one of several addresses.
    pub connect_time: Duration,
    /// Whether the status alone decides: then the end of a body may be missing.
    pub status_only: bool,
    /// Gets each step.
    pub observer: &'a (dyn Fn(HttpStep<'_>) + Sync),
}

/// Bytes that the kernel may hold of a body in pieces: progress is that of the uplink, and not that of a buffer; and a
/// small router has not much more memory for it.
const UNSENT: usize = 64 << 10;

/// A future on the heap. Its code exists once in the program instead of once in everything that awaits it.
pub type Later<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// The body of a request: bytes, and between them what is produced while it is sent.
#[derive(Default)]
pub struct Body<'a> {
    /// Its beginning, or all of it.
    pub head: &'a [u8],
    /// What follows.
    pub pieces: Option<&'a mut (dyn Pieces + 'a)>,
    /// Its end.
    pub tail: &'a [u8],
}

/// The part of a body that is produced while it is sent.
pub trait Pieces: Send {
    /// The size of all pieces in bytes.
    fn size(&self) -> u64;

    /// The next piece; empty at the end. With an error of the kind `InvalidData` the request is given up: its end is
    /// not sent.
    fn next(&mut self) -> Later<'_, io::Result<Vec<u8>>>;
}

/// Sends a request with this method, these header fields (each ends with CRLF) and this body, and waits for the reply.
/// The caller limits the time.
///
/// # Errors
/// Why there is no reply, in words. A refusal is also a reply.
pub fn exchange<'a>(
    exchange: Exchange<'a>,
    method: &'a str,
    fields: &'a str,
    body: Body<'a>,
) -> Later<'a, Result<Answer, Trouble>> {
    Box::pin(async move { exchange.run(method, fields, body).await })
}

impl Exchange<'_> {
    /// The server cannot be reached, or does not reply.
    pub fn unreachable(&self, what: &str) -> Trouble {
        unreachable(self.who, self.url.host, what)
    }

    async fn run(&self, method: &str, fields: &str, body: Body<'_>) -> Result<Answer, Trouble> {
        let Url { host, port, target } = self.url;
        let name = ServerName::try_from(host.to_string()).map_err(|_| {
            Trouble::new(TroubleKind::Setup, format!("'{host}' is not a valid host name for a certificate"))
        })?;
        let tcp = self.connect().await?;
        (self.observer)(HttpStep::Connected);
        let peer = tcp.peer_addr();
        let mut stream = self.connector.connect(name, tcp).await.map_err(|error| tls::explain(&error, host))?;
        let _ = peer.map(super::works);
        (self.observer)(HttpStep::Secured(&stream));
        let authority = if host.contains(':') { format!("[{host}]") } else { host.to_string() };
        let authority = if port == 443 { authority } else { format!("{authority}:{port}") };
        // Allocated at once, because a growing string leaves copies of secrets behind.
        let mut head = Zeroizing::new(String::with_capacity(target.len() + fields.len() + authority.len() + 256));
        head.extend([method, " ", target, " HTTP/1.1\r\nHost: ", &authority]);
        head.push_str("\r\nUser-Agent: smtprelay\r\nAccept: application/json\r\nAccept-Encoding: identity\r\n");
        let size = body.pieces.as_ref().map_or(0, |pieces| pieces.size());
        let size = size.saturating_add((body.head.len() + body.tail.len()) as u64);
        head.extend([fields, "Content-Length: ", &size.to_string(), "\r\nConnection: close\r\n\r\n"]);
        let broke = |error: io::Error| match error.kind() {
            // Without the end of TLS; what rustls says about that is for programmers.
            io::ErrorKind::UnexpectedEof => self.unreachable("closed the connection without a complete reply"),
            _ => self.unreachable(&format!("closed the connection: {error}")),
        };
        // A server that refuses a request may close the connection before it has read all of it, and its reply says why.
        let unsent = match self.write(&mut stream, head.as_bytes(), body).await {
            Err(error) if error.kind() == io::ErrorKind::InvalidData => return Err(broke(error)),
            written => written.err(),
        };
        if unsent.is_none() {
            (self.observer)(HttpStep::Sent);
        }
        let sent = |what: &str| self.unreachable(&format!("sent {what}"));
        let mut response = Response::new(self.status_only);
        let mut buffer = Zeroizing::new(vec![0; 4096]);
        loop {
            let read = match stream.read(&mut buffer).await {
                Ok(read) => read,
                // The status may have come before the connection broke.
                Err(_) if self.status_only && response.has_status() => 0,
                Err(error) => return Err(broke(unsent.unwrap_or(error))),
            };
            let piece = buffer.get(..read).unwrap_or_default();
            if read == 0
                && !response.has_status()
                && let Some(error) = unsent
            {
                return Err(broke(error));
            }
            if read == 0 || response.take(piece).map_err(sent)? {
                return response.finish().map_err(sent);
            }
        }
    }

    async fn write(&self, stream: &mut TlsStream<TcpStream>, head: &[u8], body: Body<'_>) -> io::Result<()> {
        stream.write_all(head).await?;
        stream.write_all(body.head).await?;
        if let Some(pieces) = body.pieces {
            setsockopt(stream.get_ref().0, sockopt::SndBuf, &UNSENT)?;
            loop {
                let piece = pieces.next().await?;
                if piece.is_empty() {
                    break;
                }
                stream.write_all(&piece).await?;
                (self.observer)(HttpStep::Piece);
            }
        }
        stream.write_all(body.tail).await?;
        stream.flush().await
    }

    async fn connect(&self) -> Result<TcpStream, Trouble> {
        let found = task::lookup(self.url.host, self.url.port).await;
        let found = found.map_err(|error| self.unreachable(&format!("cannot be looked up ({error})")))?;
        (self.observer)(HttpStep::Found(&found));
        super::connect(found, self.connect_time).await.map_err(|failure| {
            let what = match failure {
                None => "has no address".into(),
                Some(ConnectFailure { address, error }) if error.kind() == io::ErrorKind::TimedOut => {
                    format!("does not answer ({address})")
                }
                Some(ConnectFailure { address, error }) => format!("cannot be reached ({address}): {error}"),
            };
            self.unreachable(&what)
        })
    }
}

/// Trouble with `host`, which `who` introduces.
pub fn unreachable(who: &str, host: &str, what: &str) -> Trouble {
    const LOOK: &str = "if this persists, check the uplink";
    Trouble::new(TroubleKind::Unreachable, format!("{who}{host} {what}")).remedy(LOOK)
}
