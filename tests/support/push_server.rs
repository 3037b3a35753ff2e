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
    /// The body.
    pub body: String,
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
}

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
        let refuses = state.change(|state| {
            let refuses = matches!(state.script.front(), Some(Says::Refuse));
            if refuses {
                state.script.pop_front();
            }
            refuses
        });
        if refuses {
            continue;
        }
        let (acceptor, state) = (acceptor.clone(), state.clone());
        tasks.spawn(async move {
            let Ok(mut tls) = acceptor.accept(tcp).await else { return };
            let Ok(asked) = request(&mut tls, port).await else { return };
            let (status, fields, body) = match state.change(|state| {
                state.asked.push(asked.clone());
                state.script.pop_front()
            }) {
                None | Some(Says::Refuse) => with(usual(&asked)),
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
async fn request<S: tokio::io::AsyncRead + Unpin>(stream: &mut S, port: u16) -> std::io::Result<Asked> {
    let mut bytes = Vec::new();
    loop {
        if stream.read_buf(&mut bytes).await? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        let Ok(text) = String::from_utf8(bytes.clone()) else { continue };
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
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
        if body.len() >= length {
            assert_eq!(body.len(), length);
            let (method, target, body) = (first[0].to_owned(), first[1].to_owned(), body.to_owned());
            return Ok(Asked { method, target, fields, body });
        }
    }
}
