// SPDX-License-Identifier: Apache-2.0
//! A push service in the test process: HTTPS, strict about requests, scriptable. What a service documents about its
//! requests is in [`super::push_services`].

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_rustls::{TlsAcceptor, rustls};

use super::certs::{Cert, Certs};
use super::port::Port;
use super::provider::Gate;
use super::watch::Watched;

/// A request.
#[derive(Clone, Debug, Default)]
pub struct Asked {
    /// Such as `POST`.
    pub method: String,
    /// Path and query.
    pub target: String,
    /// Header fields, their names in lower case.
    pub fields: BTreeMap<String, String>,
    /// The body, if it is text.
    pub body: String,
    /// The body.
    pub bytes: Bytes,
}

/// Bytes whose content is not shown.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Bytes(pub Vec<u8>);

impl std::fmt::Debug for Bytes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

/// A part of a form with parts (RFC 7578).
#[derive(Debug, PartialEq, Eq)]
pub struct Part {
    /// The name of the field.
    pub name: String,
    /// The name of the file, if it is one.
    pub file: Option<String>,
    /// Its media type; empty if it has none.
    pub kind: String,
    /// Its content.
    pub content: Bytes,
}

impl Part {
    /// Its content as text.
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.content.0).expect("text")
    }
}

impl Asked {
    /// A header field; empty if it is missing.
    pub fn field(&self, name: &str) -> &str {
        self.fields.get(name).map(String::as_str).unwrap_or_default()
    }

    /// The body as JSON, if it says that it is.
    pub fn json(&self) -> Value {
        assert_eq!(self.field("content-type"), "application/json", "{self:?}");
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The body as a form, if it says that it is.
    pub fn form(&self) -> BTreeMap<String, String> {
        assert_eq!(self.field("content-type"), "application/x-www-form-urlencoded", "{self:?}");
        form_urlencoded::parse(self.body.as_bytes()).into_owned().collect()
    }

    /// The parts of the body, if it says that it has some.
    pub fn parts(&self) -> Option<Vec<Part>> {
        let boundary = self.field("content-type").strip_prefix("multipart/form-data; boundary=")?;
        let (first, between) = (format!("--{boundary}\r\n"), format!("\r\n--{boundary}"));
        let mut rest = self.bytes.0.strip_prefix(first.as_bytes()).expect("a boundary");
        let mut parts = Vec::new();
        loop {
            let head = memchr::memmem::find(rest, b"\r\n\r\n").expect("the end of a header");
            let header = std::str::from_utf8(&rest[..head]).expect("text");
            rest = &rest[head + 4..];
            let end = memchr::memmem::find(rest, between.as_bytes()).expect("another boundary");
            let content = Bytes(rest[..end].to_vec());
            rest = &rest[end + between.len()..];
            let mut part = Part { name: String::new(), file: None, kind: String::new(), content };
            for line in header.split("\r\n") {
                if let Some(kind) = line.strip_prefix("Content-Type: ") {
                    part.kind = kind.into();
                    continue;
                }
                let named = line.strip_prefix("Content-Disposition: form-data; name=\"").expect(line);
                let named = named.strip_suffix('"').expect(line);
                match named.split_once("\"; filename=\"") {
                    Some((name, file)) => (part.name, part.file) = (name.into(), Some(file.into())),
                    None => part.name = named.into(),
                }
                assert!(!part.name.contains('"'), "{line}");
            }
            parts.push(part);
            match rest {
                b"--\r\n" => return Some(parts),
                _ => rest = rest.strip_prefix(b"\r\n").expect("the end of a boundary"),
            }
        }
    }
}

/// What it does with the next request.
#[derive(Clone, Debug)]
pub enum Says {
    /// This status, these header fields (each with CRLF), and this body.
    Status(u16, &'static str, &'static str),
    /// Nothing, for ever.
    Hang,
    /// The request is read, and the connection is closed.
    Close,
    /// The connection is closed at once.
    Refuse,
    /// The usual, but its reply waits for the gate.
    Hold(Gate),
    /// This status as soon as the header is read, and the connection is closed.
    Early(u16),
    /// The connection is closed when the body has begun.
    Cut,
    /// The usual, but the body is read as slowly as over a slow line: so many bytes at a time.
    Slow(usize),
}

impl Says {
    /// Whether it does not wait for the whole request.
    fn is_hasty(&self) -> bool {
        matches!(self, Self::Refuse | Self::Early(_) | Self::Cut | Self::Slow(_))
    }
}

/// How long a slow service takes for each piece.
const SLOW: Duration = Duration::from_millis(500);

/// What a service replies to a request: status and body.
pub type Usual = fn(&Asked) -> (u16, String);

#[derive(Default)]
struct State {
    asked: Vec<Asked>,
    script: VecDeque<Says>,
}

/// A service that is running, or stopped for a while.
pub struct PushServer {
    state: Watched<State>,
    certs: Certs,
    usual: Usual,
    port: Port,
    task: Mutex<Option<JoinHandle<()>>>,
}

impl PushServer {
    /// Starts to listen.
    pub async fn start(usual: Usual) -> PushServer {
        PushServer::start_with(usual, &Certs::new()).await
    }

    /// As [`PushServer::start`], with a certificate of these.
    pub async fn start_with(usual: Usual, certs: &Certs) -> PushServer {
        let (state, certs, task) = (Watched::new(State::default()), certs.clone(), Mutex::new(None));
        let server = PushServer { state, certs, usual, port: Port::reserve(), task };
        server.resume();
        server
    }

    /// Listens again.
    pub fn resume(&self) {
        let task = tokio::spawn(accept(self.port.listen(), self.state.clone(), self.certs.clone(), self.usual));
        *self.task.lock().unwrap_or_else(PoisonError::into_inner) = Some(task);
    }

    /// Listens no more: connections are refused, and open ones are closed.
    pub async fn stop(&self) {
        let task = self.task.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(task) = task {
            task.abort();
            let _ = task.await;
        }
    }

    /// Its address, without a path.
    pub fn url(&self) -> String {
        format!("https://127.0.0.1:{}", self.port.address.port())
    }

    /// The file with the authority to trust.
    pub fn ca_file(&self) -> String {
        self.certs.ca_file().display().to_string()
    }

    /// The file with an authority that has not signed its certificate.
    pub fn other_ca_file(&self) -> String {
        self.certs.other_ca_file().display().to_string()
    }

    /// What it says next, one request each.
    pub fn script(&self, says: impl IntoIterator<Item = Says>) {
        self.state.change(|state| state.script.extend(says));
    }

    /// The requests so far.
    pub fn asked(&self) -> Vec<Asked> {
        self.state.read(|state| state.asked.clone())
    }

    /// Waits until so many requests have come, and returns them.
    pub async fn wait(&self, count: usize) -> Vec<Asked> {
        let limit = Duration::from_secs(60);
        let there = self.state.wait(limit, |state| (state.asked.len() >= count).then(|| state.asked.clone())).await;
        there.unwrap_or_else(|| panic!("{count} requests within {limit:?}: {:#?}", self.asked()))
    }
}

impl Drop for PushServer {
    fn drop(&mut self) {
        if let Some(task) = self.task.lock().unwrap_or_else(PoisonError::into_inner).take() {
            task.abort();
        }
    }
}

async fn accept(listener: TcpListener, state: Watched<State>, certs: Certs, usual: Usual) {
    let versions: &[&rustls::SupportedProtocolVersion] = &[&rustls::version::TLS13, &rustls::version::TLS12];
    let acceptor = TlsAcceptor::from(certs.server_config(Cert::Good, versions));
    let port = listener.local_addr().expect("its address").port();
    // Conversations end with the server.
    let mut tasks = tokio::task::JoinSet::new();
    while let Ok((tcp, _)) = listener.accept().await {
        let manner = state.change(|state| match state.script.front() {
            Some(says) if says.is_hasty() => state.script.pop_front(),
            _ => None,
        });
        if matches!(manner, Some(Says::Refuse)) {
            continue;
        }
        let (acceptor, state) = (acceptor.clone(), state.clone());
        tasks.spawn(async move {
            let Ok(mut tls) = acceptor.accept(tcp).await else { return };
            let Ok(asked) = request(&mut tls, port, manner.as_ref()).await else { return };
            let next = state.change(|state| {
                state.asked.push(asked.clone());
                if manner.is_some() { manner } else { state.script.pop_front() }
            });
            let (status, fields, body) = match next {
                None | Some(Says::Refuse | Says::Slow(_)) => with(usual(&asked)),
                Some(Says::Early(status)) => (status, "", "refused".to_string()),
                Some(Says::Cut) => return,
                Some(Says::Status(status, fields, body)) => (status, fields, body.to_string()),
                Some(Says::Hang) => std::future::pending().await,
                Some(Says::Close) => return,
                Some(Says::Hold(gate)) => {
                    gate.passed().await;
                    with(usual(&asked))
                }
            };
            let head = format!("HTTP/1.1 {status} Whatever\r\n{fields}Content-Length: {}\r\n\r\n", body.len());
            let _ = tls.write_all((head + &body).as_bytes()).await;
            let _ = tls.shutdown().await;
        });
    }
}

fn with((status, body): (u16, String)) -> (u16, &'static str, String) {
    (status, "Content-Type: application/json\r\n", body)
}

/// Reads a request and checks what RFC 9112 requires of each.
async fn request<S: tokio::io::AsyncRead + Unpin>(
    stream: &mut S,
    port: u16,
    manner: Option<&Says>,
) -> std::io::Result<Asked> {
    let mut bytes = Vec::new();
    let end = loop {
        if stream.read_buf(&mut bytes).await? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        if let Some(at) = memchr::memmem::find(&bytes, b"\r\n\r\n") {
            break at;
        }
    };
    let mut body = bytes.split_off(end + 4);
    let head = std::str::from_utf8(&bytes[..end]).expect("a header in UTF-8");
    let mut lines = head.split("\r\n");
    let first: Vec<&str> = lines.next().expect("a request line").split(' ').collect();
    assert!(first.len() == 3 && first[2] == "HTTP/1.1" && first[1].starts_with('/'), "{head}");
    let mut fields = BTreeMap::new();
    for line in lines {
        let (name, value) = line.split_once(": ").unwrap_or_else(|| panic!("a header field: {line:?} in {head}"));
        let before = fields.insert(name.to_ascii_lowercase(), value.to_owned());
        assert!(before.is_none(), "{name} twice: {head}");
    }
    let host = fields.get("host").and_then(|host| host.strip_suffix(&format!(":{port}")));
    // A virtual machine has another address for it, and a name.
    assert!(matches!(host, Some("127.0.0.1" | "localhost")), "{head}");
    let length: usize = fields.get("content-length").expect("a length").parse().expect("a number");
    let wanted = match manner {
        Some(Says::Early(_)) => 0,
        Some(Says::Cut) => length / 2,
        _ => length,
    };
    let mut paused = body.len();
    while body.len() < wanted {
        if stream.read_buf(&mut body).await? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        if let Some(Says::Slow(piece)) = manner
            && body.len() - paused > *piece
        {
            paused = body.len();
            tokio::time::sleep(SLOW).await;
        }
    }
    assert!(wanted < length || body.len() == length, "{} bytes of {length}", body.len());
    let (method, target) = (first[0].to_owned(), first[1].to_owned());
    let text = std::str::from_utf8(&body).unwrap_or_default().to_owned();
    Ok(Asked { method, target, fields, body: text, bytes: Bytes(body) })
}
