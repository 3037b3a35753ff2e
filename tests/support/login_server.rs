// SPDX-License-Identifier: Apache-2.0
//! The login server of a provider: device and token endpoint of OAuth 2.0 (RFC 6749, 7636, 8628) over TLS, inside the test
//! process. It is strict, it remembers what was asked, and it says something wrong when the test tells it to.
//!
//! ```ignore
//! let server = LoginServer::start(&certs).await;
//! server.script([Say::error("authorization_pending"), Say::error("slow_down")]);   // for the token endpoint
//! server.approve();
//! ```

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use smtprelay::oauth::value_of;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls;

use super::certs::{Cert, Certs};
use super::port::Port;
use super::provider::{Gate, Tokens};
use super::relay::Section;
use super::watch::Watched;

/// The client that is known here.
pub const CLIENT: (&str, &str) = ("client-7", "client-secret-hush");

/// A request: path, and the form.
pub type Asked = (String, BTreeMap<String, String>);

/// What the token endpoint says in place of the usual.
#[derive(Clone, Debug)]
pub enum Say {
    /// This status and this body.
    Body(u16, String),
    /// These bytes, then the connection is closed.
    Raw(Vec<u8>),
    /// Bytes without an end.
    Flood,
    /// Nothing, for ever.
    Hang,
    /// The connection is closed.
    Close,
    /// The usual, but its reply waits for the gate.
    Hold(Gate),
}

impl Say {
    /// A refusal (RFC 6749 section 5.2).
    pub fn error(code: &str) -> Say {
        Say::Body(400, format!(r#"{{"error":"{code}","error_description":"because of {code}"}}"#))
    }
}

/// How it behaves.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Every renewal gives a new refresh token.
    pub rotates: bool,
    /// Seconds that an access token is good, by its word.
    pub life: u64,
    /// Seconds between two questions, by its word.
    pub interval: u64,
    /// Seconds that a code for a person is good, by its word.
    pub code_life: u64,
    /// Says how long the body is; else it comes in chunks.
    pub sized: bool,
}

#[derive(Default)]
struct State {
    asked: Vec<Asked>,
    replied: usize,
    script: VecDeque<Say>,
    approved: bool,
    /// Code for a copied address, and the challenge of its verifier.
    codes: BTreeMap<String, String>,
    /// Refresh tokens that can be used, with the number of the access token that came with them. One that was replaced can
    /// until its successor is used, or the access token that came with that.
    refresh: Vec<(String, u32)>,
    numbers: u32,
}

struct Shared {
    settings: Mutex<Settings>,
    state: Watched<State>,
    tokens: Tokens,
    certs: Certs,
}

/// A login server that is running, or stopped for a while.
pub struct LoginServer {
    shared: Arc<Shared>,
    port: Port,
    task: Mutex<Option<JoinHandle<()>>>,
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl LoginServer {
    /// Starts to listen. Its tokens are good at a provider that got [`LoginServer::tokens`].
    pub async fn start(certs: &Certs) -> LoginServer {
        let settings = Settings { rotates: true, life: 3600, interval: 1, code_life: 900, sized: true };
        let shared = Arc::new(Shared {
            settings: Mutex::new(settings),
            state: Watched::new(State::default()),
            tokens: Tokens::default(),
            certs: certs.clone(),
        });
        let server = LoginServer { shared, port: Port::reserve(), task: Mutex::new(None) };
        server.resume();
        server
    }

    /// Listens again.
    pub fn resume(&self) {
        *lock(&self.task) = Some(tokio::spawn(accept(self.port.listen(), Arc::clone(&self.shared))));
    }

    /// Listens no more: connections are refused.
    pub async fn stop(&self) {
        let task = lock(&self.task).take();
        if let Some(task) = task {
            task.abort();
            let _ = task.await;
        }
    }

    /// An account at this provider that gets its tokens here.
    pub fn account(&self, section: Section) -> Section {
        let url = |path| format!("https://127.0.0.1:{}{path}", self.port.address.port());
        section
            .option("auth", "xoauth2")
            .option("oauth", "custom")
            .option("client_id", CLIENT.0)
            .option("client_secret", CLIENT.1)
            .option("device_url", url("/device"))
            .option("token_url", url("/token"))
            .option("scope", "mail offline")
    }

    /// Where a person signs in with a browser.
    pub fn auth_url(&self) -> String {
        format!("https://127.0.0.1:{}/auth?tenant=1", self.port.address.port())
    }

    /// The access tokens that are good at the moment.
    pub fn tokens(&self) -> &Tokens {
        &self.shared.tokens
    }

    /// Changes how it behaves.
    pub fn change(&self, change: impl FnOnce(&mut Settings)) {
        change(&mut lock(&self.shared.settings));
    }

    /// What the token endpoint says next, one request each.
    pub fn script(&self, says: impl IntoIterator<Item = Say>) {
        self.shared.state.change(|state| state.script.extend(says));
    }

    /// The person has typed in the code and agreed.
    pub fn approve(&self) {
        self.shared.state.change(|state| state.approved = true);
    }

    /// The person signs in at this address with a browser; returns the address that the browser is sent to.
    pub fn sign_in(&self, url: &str) -> String {
        let value = |name| value_of(url, name).unwrap_or_else(|| panic!("no {name} in {url}")).to_string();
        assert_eq!((value("client_id"), value("response_type")), (CLIENT.0.into(), "code".into()));
        assert_eq!(value("code_challenge_method"), "S256");
        let code = self.shared.state.change(|state| {
            let code = format!("4/{}+x", state.number());
            state.codes.insert(code.clone(), value("code_challenge"));
            code
        });
        let code = code.replace('/', "%2F").replace('+', "%2B");
        format!("{}?state={}&code={code}&scope=mail", value("redirect_uri"), value("state"))
    }

    /// The person takes everything back: no refresh token can be used any more.
    pub fn revoke(&self) {
        self.shared.state.change(|state| state.refresh.clear());
        self.tokens().clear();
    }

    /// Requests so far.
    pub fn asked(&self) -> Vec<Asked> {
        self.shared.state.read(|state| state.asked.clone())
    }

    /// How often tokens were asked for by this right.
    pub fn grants(&self, kind: &str) -> usize {
        self.asked().iter().filter(|(_, form)| form.get("grant_type").is_some_and(|have| have == kind)).count()
    }

    /// Replies so far.
    pub fn replied(&self) -> usize {
        self.shared.state.read(|state| state.replied)
    }

    /// Waits until so many requests have come.
    pub async fn wait_for_asked(&self, count: usize, limit: Duration) {
        let there = self.shared.state.wait(limit, |state| (state.asked.len() >= count).then_some(())).await;
        there.unwrap_or_else(|| panic!("{count} requests at the login server within {limit:?}: {:?}", self.asked()));
    }

    /// Waits until so many replies are written.
    pub async fn wait_for_replied(&self, count: usize, limit: Duration) {
        let there = self.shared.state.wait(limit, |state| (state.replied >= count).then_some(())).await;
        there.unwrap_or_else(|| panic!("{count} replies of the login server within {limit:?}"));
    }

    /// Everything that is secret so far.
    pub fn secrets(&self) -> Vec<String> {
        let mut all = vec![CLIENT.1.to_owned()];
        all.extend(
            (1..=self.shared.state.read(|state| state.numbers)).flat_map(|n| [access(n), refresh(n), device(n)]),
        );
        all
    }
}

impl Drop for LoginServer {
    fn drop(&mut self) {
        if let Some(task) = lock(&self.task).take() {
            task.abort();
        }
    }
}

fn access(number: u32) -> String {
    format!("access-token-{number:04}-{}", "x".repeat(1500))
}

fn refresh(number: u32) -> String {
    format!("1//refresh-token-{number:04}")
}

fn device(number: u32) -> String {
    format!("device-code-{number:04}")
}

impl State {
    fn number(&mut self) -> u32 {
        self.numbers += 1;
        self.numbers
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let versions: &[&rustls::SupportedProtocolVersion] = &[&rustls::version::TLS13, &rustls::version::TLS12];
    let acceptor = TlsAcceptor::from(shared.certs.server_config(Cert::Good, versions));
    // Conversations end with the server.
    let mut tasks = tokio::task::JoinSet::new();
    while let Ok((tcp, _)) = listener.accept().await {
        let (acceptor, shared) = (acceptor.clone(), Arc::clone(&shared));
        tasks.spawn(async move {
            if let Ok(mut tls) = acceptor.accept(tcp).await {
                let _ = converse(&mut tls, &shared).await;
                let _ = tls.shutdown().await;
            }
        });
    }
}

async fn converse<S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin>(
    stream: &mut S,
    shared: &Shared,
) -> std::io::Result<()> {
    let (head, body) = request(stream).await?;
    let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
    let names: Vec<&str> = body.split('&').filter_map(|pair| pair.split_once('=')).map(|(name, _)| name).collect();
    let form: BTreeMap<String, String> =
        names.iter().map(|name| ((*name).to_owned(), value_of(&body, name).expect("a form").to_string())).collect();
    let say = shared.state.change(|state| {
        state.asked.push((path.clone(), form.clone()));
        if path == "/token" { state.script.pop_front() } else { None }
    });
    if let Some(Say::Hold(gate)) = &say {
        let gate = gate.clone();
        let reply = usual(shared, &path, &head, &form);
        gate.passed().await;
        return write(stream, shared, reply).await;
    }
    match say {
        None => write(stream, shared, usual(shared, &path, &head, &form)).await,
        Some(Say::Body(status, body)) => write(stream, shared, (status, body)).await,
        Some(Say::Raw(bytes)) => stream.write_all(&bytes).await,
        Some(Say::Flood) => loop {
            stream.write_all(b"HTTP/1.1 200 OK\r\nX: y\r\n\r\n").await?;
            stream.write_all(&[b' '; 4096]).await?;
        },
        Some(Say::Hang) => std::future::pending().await,
        Some(Say::Close | Say::Hold(_)) => Ok(()),
    }
}

async fn request<S: tokio::io::AsyncRead + Unpin>(stream: &mut S) -> std::io::Result<(String, String)> {
    let mut bytes = Vec::new();
    loop {
        if stream.read_buf(&mut bytes).await? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: "));
        let length: usize = length.expect("a length").parse().expect("a number");
        if body.len() >= length {
            assert_eq!(body.len(), length);
            return Ok((head.to_owned(), body.to_owned()));
        }
    }
}

async fn write<S: tokio::io::AsyncWrite + Unpin>(
    stream: &mut S,
    shared: &Shared,
    (status, body): (u16, String),
) -> std::io::Result<()> {
    let head = format!(
        "HTTP/1.1 {status} Whatever\r\nContent-Type: application/json; charset=utf-8\r\nCache-Control: no-store\r\n"
    );
    let reply = match lock(&shared.settings).sized {
        true => format!("{head}Content-Length: {}\r\n\r\n{body}", body.len()),
        false => {
            let (a, b) = body.split_at(body.len() / 2);
            let chunk = |text: &str| format!("{:X};x=y\r\n{text}\r\n", text.len());
            format!("{head}Transfer-Encoding: chunked\r\n\r\n{}{}0\r\n\r\n", chunk(a), chunk(b))
        }
    };
    stream.write_all(reply.as_bytes()).await?;
    stream.flush().await?;
    shared.state.change(|state| state.replied += 1);
    Ok(())
}

type Reply = (u16, String);

fn usual(shared: &Shared, path: &str, head: &str, form: &BTreeMap<String, String>) -> Reply {
    let error = |code: &str| (400, format!(r#"{{"error":"{code}","error_description":"that is {code}"}}"#));
    let value = |name: &str| form.get(name).map(String::as_str).unwrap_or_default();
    if !head.starts_with("POST ") || !head.contains("Content-Type: application/x-www-form-urlencoded") {
        return (405, String::new());
    }
    if (value("client_id"), value("client_secret")) != CLIENT {
        return (401, r#"{"error":"invalid_client"}"#.into());
    }
    let settings = lock(&shared.settings).clone();
    shared.state.change(|state| match (path, value("grant_type")) {
        ("/device", "") if value("scope") == "mail offline" => {
            let number = state.number();
            let body = format!(
                r#"{{"device_code":"{}","user_code":"ABCD-{number:04}","verification_uri":"https://login.example/device","expires_in":{},"interval":{}}}"#,
                device(number),
                settings.code_life,
                settings.interval
            );
            (200, body)
        }
        ("/token", "urn:ietf:params:oauth:grant-type:device_code") => {
            match (1..=state.numbers).any(|n| device(n) == value("device_code")) {
                false => error("invalid_grant"),
                true if !std::mem::take(&mut state.approved) => error("authorization_pending"),
                true => given(state, shared, &settings, None),
            }
        }
        ("/token", "authorization_code") => {
            let digest = ring::digest::digest(&ring::digest::SHA256, value("code_verifier").as_bytes());
            let challenge = base64::Engine::encode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, digest);
            match state.codes.remove(value("code")) {
                Some(wanted) if wanted == challenge => given(state, shared, &settings, None),
                _ => error("invalid_grant"),
            }
        }
        ("/token", "refresh_token") => match usable(state, shared, value("refresh_token")) {
            true => {
                let same = (!settings.rotates).then(|| value("refresh_token").to_owned());
                given(state, shared, &settings, same)
            }
            false => error("invalid_grant"),
        },
        _ => (404, "no such place".into()),
    })
}

/// Whether a refresh token can still be used; those before it can't any more.
fn usable(state: &mut State, shared: &Shared, token: &str) -> bool {
    let used = state.refresh.iter().rposition(|(_, number)| shared.tokens.was_shown(&access(*number)));
    let at = state.refresh.iter().position(|(have, _)| have == token);
    let Some(at) = at.max(used) else { return false };
    state.refresh.drain(..at);
    state.refresh.first().is_some_and(|(have, _)| have == token)
}

/// New tokens. The access tokens of before are good no more.
fn given(state: &mut State, shared: &Shared, settings: &Settings, same: Option<String>) -> Reply {
    let number = state.number();
    let refresh = same.clone().unwrap_or_else(|| refresh(number));
    if same.is_none() {
        state.refresh.push((refresh.clone(), number));
    }
    shared.tokens.clear();
    shared.tokens.add(&access(number));
    let body = format!(
        r#"{{"token_type":"Bearer","scope":"mail","expires_in":{},"access_token":"{}","refresh_token":"{refresh}"}}"#,
        settings.life,
        access(number)
    );
    (200, body)
}
