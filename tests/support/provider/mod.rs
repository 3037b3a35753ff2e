// SPDX-License-Identifier: Apache-2.0
//! The mail provider: an SMTP server inside the test process.
//!
//! It is strict (what a correct client never does becomes a complaint), it remembers everything that arrived,
//! and it does wrong what the test tells it to. A test ends well with `assert_eq!(provider.complaints(), [""; 0])`.
//!
//! ```ignore
//! let provider = Provider::builder().tls(TlsMode::StartTls).login("me", "secret").start().await;
//! provider.set_fault(Step::Dot, Fault::Reply("451 4.3.0 Later".into()), Times::First(1));
//! // … point the relay at provider.port() and provider.certs().ca_file() …
//! let messages = provider.wait_for_messages(1, LIMIT).await;
//! ```

mod auth;
mod opening;
mod record;
mod script;
mod session;
mod settings;
mod transaction;
mod wire;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::task::{JoinHandle, JoinSet};
use tokio_rustls::rustls;

pub use auth::{Mechanism, Tokens};
pub use record::{Connection, Event, Login, Message, Record, Tls};
pub use script::{Fault, Gate, Step, Times};
pub use settings::{Settings, TlsMode, TlsVersions};

use super::certs::{Cert, Certs};
use super::port::Port;
use super::watch::Watched;
use script::Script;
use session::Session;

/// How a [`Provider`] will be.
pub struct ProviderBuilder {
    settings: Settings,
    certs: Option<Certs>,
}

impl ProviderBuilder {
    /// How TLS begins. Default: [`TlsMode::Implicit`].
    pub fn tls(mut self, tls: TlsMode) -> Self {
        self.settings.tls = tls;
        self
    }

    /// Certificates that the test has already. Default: new ones.
    pub fn certs(mut self, certs: &Certs) -> Self {
        self.certs = Some(certs.clone());
        self
    }

    /// Which certificate is shown. Default: [`Cert::Good`].
    pub fn cert(mut self, cert: Cert) -> Self {
        self.settings.cert = cert;
        self
    }

    /// The login without which no mail is taken; offers PLAIN and LOGIN. Default: none is asked for.
    pub fn login(mut self, user: &str, password: &str) -> Self {
        self.settings.login = Some((user.to_owned(), password.to_owned()));
        if self.settings.mechanisms.is_empty() {
            self.settings.mechanisms = vec![Mechanism::Plain, Mechanism::Login];
        }
        self
    }

    /// The tokens with which this user may log in; offers XOAUTH2.
    pub fn tokens(mut self, user: &str, tokens: &Tokens) -> Self {
        self.settings.login = Some((user.to_owned(), String::new()));
        self.settings.tokens = Some(tokens.clone());
        self.settings.mechanisms = vec![Mechanism::XOauth2];
        self
    }

    /// What AUTH offers.
    pub fn mechanisms(mut self, mechanisms: &[Mechanism]) -> Self {
        self.settings.mechanisms = mechanisms.to_vec();
        self
    }

    /// Anything else.
    pub fn with(mut self, change: impl FnOnce(&mut Settings)) -> Self {
        change(&mut self.settings);
        self
    }

    /// Starts to listen. Must be called inside of a tokio runtime.
    pub async fn start(self) -> Provider {
        let certs = self.certs.unwrap_or_default();
        let port = Port::reserve();
        let shared = Arc::new(Shared {
            settings: Mutex::new(self.settings),
            script: Mutex::new(Script::default()),
            tls: Mutex::new(None),
            certs,
            record: Watched::new(Record::default()),
        });
        let task = tokio::spawn(accept(port.listen(), shared.clone()));
        Provider(Arc::new(Inner { shared, port, task: Mutex::new(Some(task)) }))
    }
}

/// A provider stand-in that is running, or stopped for a while. A clone is another handle to the same one; with
/// the last handle it ends.
#[derive(Clone)]
pub struct Provider(Arc<Inner>);

struct Inner {
    shared: Arc<Shared>,
    port: Port,
    task: Mutex<Option<JoinHandle<()>>>,
}

/// What the handle and the conversations share.
struct Shared {
    settings: Mutex<Settings>,
    script: Mutex<Script>,
    /// Kept between connections, because it holds the TLS sessions that clients may take up again.
    tls: Mutex<Option<(Cert, TlsVersions, Arc<rustls::ServerConfig>)>>,
    certs: Certs,
    record: Watched<Record>,
}

impl Shared {
    fn settings(&self) -> Settings {
        lock(&self.settings).clone()
    }

    fn take_fault(&self, step: &Step) -> Option<Fault> {
        lock(&self.script).take(step)
    }

    fn tls_config(&self, settings: &Settings) -> Arc<rustls::ServerConfig> {
        let mut kept = lock(&self.tls);
        if let Some((cert, versions, config)) = &*kept
            && settings.resumption
            && (*cert, *versions) == (settings.cert, settings.versions)
        {
            return config.clone();
        }
        let versions: &[&rustls::SupportedProtocolVersion] = match settings.versions {
            TlsVersions::Both => &[&rustls::version::TLS13, &rustls::version::TLS12],
            TlsVersions::Only12 => &[&rustls::version::TLS12],
            TlsVersions::Only13 => &[&rustls::version::TLS13],
        };
        let config = self.certs.server_config(settings.cert, versions);
        *kept = Some((settings.cert, settings.versions, config.clone()));
        config
    }
}

impl Provider {
    /// Implicit TLS 1.2 or 1.3 with a good certificate, no login, all capabilities but CHUNKING.
    pub fn builder() -> ProviderBuilder {
        let settings = Settings::default();
        ProviderBuilder { settings, certs: None }
    }

    /// Where it listens: a port of 127.0.0.1 that stays the same across [`Provider::restart`].
    pub fn addr(&self) -> SocketAddr {
        self.0.port.address
    }

    /// The port of [`Provider::addr`].
    pub fn port(&self) -> u16 {
        self.0.port.address.port()
    }

    /// The certificates that it shows one of.
    pub fn certs(&self) -> &Certs {
        &self.0.shared.certs
    }

    /// What it offers at the moment.
    pub fn settings(&self) -> Settings {
        self.0.shared.settings()
    }

    /// Changes what it offers, for connections that come after.
    pub fn change(&self, change: impl FnOnce(&mut Settings)) {
        change(&mut lock(&self.0.shared.settings));
    }

    /// Lets something go wrong from now on, also on connections that exist. Faults for the same step happen in
    /// the order in which they were set.
    pub fn set_fault(&self, step: Step, fault: Fault, times: Times) {
        lock(&self.0.shared.script).set(step, fault, times);
    }

    /// From now on nothing goes wrong.
    pub fn clear_faults(&self) {
        lock(&self.0.shared.script).clear();
    }

    /// Shows a renewed certificate of the same CA from now on, and knows no TLS session from before.
    pub async fn renew_certificate(&self) {
        self.stop().await;
        self.0.shared.certs.renew();
        *lock(&self.0.shared.tls) = None;
        self.restart().await;
    }

    /// The messages that were accepted since the last call, in order; with them the texts of all messages and the
    /// transcript are forgotten. For long runs: everything that arrived in half a year does not fit into memory.
    pub fn take_messages(&self) -> Vec<Message> {
        self.0.shared.record.change(|record| {
            record.transcript.clear();
            std::mem::take(&mut record.attempts).into_iter().filter(|message| message.accepted).collect()
        })
    }

    /// Everything that arrived so far.
    pub fn record(&self) -> Record {
        self.0.shared.record.read(Record::clone)
    }

    /// The messages that were accepted so far, in order.
    pub fn messages(&self) -> Vec<Message> {
        self.0.shared.record.read(accepted)
    }

    /// The connections so far, in order.
    pub fn connections(&self) -> Vec<Connection> {
        self.record().connections
    }

    /// What a strict server has to object to so far.
    pub fn complaints(&self) -> Vec<String> {
        self.record().complaints
    }

    /// All conversations in time order, a line each, with the id of the connection in front.
    pub fn transcript(&self) -> String {
        let line = |event: &Event| format!("{} {}\n", event.connection, event.text);
        self.0.shared.record.read(|record| record.transcript.iter().map(line).collect())
    }

    /// Waits until at least so many messages were accepted, and returns all of them. Panics with the transcript
    /// if that takes longer than `limit`.
    pub async fn wait_for_messages(&self, count: usize, limit: Duration) -> Vec<Message> {
        let what = format!("{count} messages");
        self.wait_until(&what, limit, |record| Some(accepted(record)).filter(|all| all.len() >= count)).await
    }

    /// Waits until the record shows what `look` looks for. Panics with the transcript if that takes longer than
    /// `limit`; `what` says in the panic what was waited for.
    pub async fn wait_until<T>(&self, what: &str, limit: Duration, look: impl FnMut(&Record) -> Option<T>) -> T {
        match self.0.shared.record.wait(limit, look).await {
            Some(found) => found,
            None => panic!("provider: waited {limit:?} for {what}\n{}", self.transcript()),
        }
    }

    /// Waits until a line of the transcript contains this text, such as `*: at Dot` for a fault that happened.
    pub async fn wait_for_line(&self, part: &str, limit: Duration) {
        let seen = |record: &Record| record.transcript.iter().any(|event| event.text.contains(part)).then_some(());
        self.wait_until(part, limit, seen).await;
    }

    /// An outage: closes all connections and the port. Who connects now is refused.
    pub async fn stop(&self) {
        let task = lock(&self.0.task).take();
        if let Some(task) = task {
            task.abort();
            let _ = task.await;
        }
    }

    /// The end of the outage: listens on the same port again. Nothing was forgotten.
    pub async fn restart(&self) {
        self.stop().await;
        let task = tokio::spawn(accept(self.0.port.listen(), self.0.shared.clone()));
        *lock(&self.0.task) = Some(task);
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if let Some(task) = lock(&self.task).take() {
            task.abort();
        }
    }
}

/// Takes connections until it is aborted; that ends the conversations, too.
async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let mut conversations = JoinSet::new();
    loop {
        match listener.accept().await {
            Ok((tcp, _)) => {
                conversations.spawn(Session::new(shared.clone(), tcp).run());
            }
            Err(error) => eprintln!("provider stand-in: accept: {error}"),
        }
        while conversations.try_join_next().is_some() {}
    }
}

fn accepted(record: &Record) -> Vec<Message> {
    record.attempts.iter().filter(|message| message.accepted).cloned().collect()
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}
