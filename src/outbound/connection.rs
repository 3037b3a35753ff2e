// SPDX-License-Identifier: Apache-2.0
//! Opens a connection to a provider up to the point where mail can be sent.

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use mail_send::Error;
use nix::sys::socket::{setsockopt, sockopt};
use smtp_proto::{EXT_AUTH, EXT_START_TLS, EhloResponse};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;

use super::auth;
use super::reply::{Answer, Mask, Reply, SmtpCommand};
use super::trace::{Trace, TraceStep};
use super::verdict::{Judged, Stage, judge};
use super::wire::{SmtpClient, Stream, Wire, broken};
use crate::config::{Account, TlsMode};
use crate::net::tls::{self, PORT_AND_TLS};
use crate::net::{self, ConnectFailure, Trouble, TroubleKind};
use crate::report::TlsFacts;
use crate::system::task;

/// For DNS.
const LOOKUP_TIME: Duration = Duration::from_secs(30);
/// Seconds after which a connection without even an acknowledgement is closed: the uplink is gone, or is back
/// with another address. A server that is only slow does acknowledge, and has the times of [`Patience`].
const DEAD_PATH: u32 = 60;

/// How long a provider may take for each step: option `timeout` of the account, for one reply. All other times are
/// proportional to it, so that one option scales all timeouts. With the default of 120 s the times below are those in
/// brackets.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience(pub Duration);

impl Patience {
    /// For a TCP connection to one address; a provider has several (20 s).
    pub fn connection(self) -> Duration {
        self.0.min(Duration::from_secs(20))
    }

    /// For the TLS handshake (60 s).
    pub fn handshake(self) -> Duration {
        self.0 / 2
    }

    /// For the reply to a command (120 s). RFC 5321 section 4.5.3.2 says five minutes, which no provider needs, but
    /// some delay new clients for a while.
    pub fn command(self) -> Duration {
        self.0
    }

    /// For one chunk of the text to be sent (180 s, RFC 5321 section 4.5.3.2.5).
    pub fn piece(self) -> Duration {
        self.0 * 3 / 2
    }

    /// For the reply to the end of the message (600 s, RFC 5321 section 4.5.3.2.6): giving up early sends it twice.
    pub fn end(self) -> Duration {
        self.0 * 5
    }

    /// For the last replies of a server that is closing, and for the reply to RSET (10 s): nothing is lost without it.
    pub fn goodbye(self) -> Duration {
        self.0.min(Duration::from_secs(10))
    }
}

/// A connection that is ready for a message.
pub struct Connection {
    /// The conversation.
    pub client: SmtpClient,
    /// What the server offers, after TLS.
    pub offers: EhloResponse<String>,
    /// How it is encrypted.
    pub tls: TlsFacts,
    /// Messages sent on it.
    pub messages: u32,
    /// Replies of 4xx and 5xx on it.
    pub refusals: usize,
    /// The server has accepted a message on it.
    pub has_taken: bool,
    /// The server has accepted mail from this account, perhaps on another connection.
    pub takes_mail: bool,
    /// The server offers a login and the account has none. Cleared where mail was accepted without one before.
    pub login_missing: bool,
    /// The server has shown that its replies match our commands, so that a text may be sent with its envelope.
    pub in_step: bool,
    /// When it was last used.
    pub used: Instant,
    /// How long the server may take.
    pub(super) patience: Patience,
}

/// A refusal before any reply about a message.
fn opening(reply: &Reply, host: &str, what: &str) -> Trouble {
    match judge(reply, host, Stage::Opening) {
        Judged::Account(trouble) => trouble,
        Judged::Message(_) => Trouble::new(TroubleKind::Busy, format!("{host} answered {what} with: {reply}")),
    }
}

/// Makes the kernel close the connection when the path is dead: for sent data (RFC 5482), and by probes while idle.
fn watch_path(stream: &TcpStream) -> nix::Result<()> {
    const PROBES: u32 = 3;
    setsockopt(stream, sockopt::TcpUserTimeout, &(DEAD_PATH * 1000))?;
    setsockopt(stream, sockopt::TcpKeepIdle, &(DEAD_PATH / (PROBES + 1)))?;
    setsockopt(stream, sockopt::TcpKeepInterval, &(DEAD_PATH / (PROBES + 1)))?;
    setsockopt(stream, sockopt::TcpKeepCount, &PROBES)?;
    setsockopt(stream, sockopt::KeepAlive, &true)
}

async fn tcp(account: &Account, limit: Duration, trace: Option<&Trace>) -> Result<TcpStream, Trouble> {
    let host = &account.host;
    let unreachable = |what: String, remedy: &str| Trouble::new(TroubleKind::Unreachable, what).remedy(remedy);
    let silent = |_| unreachable(format!("no answer from DNS for the name {host}"), "the uplink or its DNS is down");
    let resolved = timeout(LOOKUP_TIME, task::lookup(host, account.port)).await.map_err(silent)?;
    let addresses = resolved.map_err(|error| {
        let what = format!("the name {host} cannot be resolved ({error})");
        unreachable(what, "the uplink or its DNS is down, or the name is wrong")
    })?;
    done(trace, TraceStep::Dns, || found(host, &addresses));
    let look = "check the uplink, option host and option port";
    let stream = net::connect(addresses, limit).await.map_err(|failure| {
        let what = match failure {
            None => format!("the name {host} has no address"),
            Some(ConnectFailure { address, error }) if error.kind() == io::ErrorKind::TimedOut => {
                format!("no answer from {host} ({address}) within {} s; ", limit.as_secs())
            }
            Some(ConnectFailure { address, error }) => format!("no connection to {host} ({address}): {error}"),
        };
        unreachable(what, look)
    })?;
    // Commands are collected and sent together: waiting for more would only cost 40 ms.
    let _ = stream.set_nodelay(true);
    // Without it a dead path is noticed only when the server's timeout expires.
    let _ = watch_path(&stream);
    if account.tls == TlsMode::Implicit {
        done(trace, TraceStep::Tcp, || connected(account));
    }
    Ok(stream)
}

/// Reports a completed step to the observer.
pub(super) fn done(trace: Option<&Trace>, step: TraceStep, text: impl FnOnce() -> String) {
    if let Some(trace) = trace {
        trace.done(step, text());
    }
}

/// The result of the DNS lookup, for display.
pub(super) fn found(host: &str, addresses: &[SocketAddr]) -> String {
    match addresses {
        [one] if one.ip().to_string() == host => format!("{host} is an IP address, no DNS lookup is needed"),
        [one] => format!("{host} has the address {}", one.ip()),
        [first, more @ ..] => format!("{host} has the addresses {} and {} more", first.ip(), more.len()),
        [] => format!("{host} has no address"),
    }
}

/// The TCP connection is open, for display.
pub(super) fn connected(account: &Account) -> String {
    format!("{} accepts connections on port {}", account.host, account.port)
}

async fn handshake(
    stream: TcpStream,
    account: &Account,
    connector: &TlsConnector,
    limit: Duration,
) -> Result<Stream, Trouble> {
    let host = &account.host;
    let name = ServerName::try_from(host.clone()).map_err(|_| {
        let reason = format!("option host '{host}' is not a valid host name for a certificate");
        Trouble::new(TroubleKind::Setup, reason)
    })?;
    match timeout(limit, connector.connect(name, stream)).await {
        Ok(Ok(stream)) => Ok(Stream::Tls(Box::new(stream))),
        Ok(Err(error)) => Err(tls::explain(&error, host)),
        Err(_) => {
            let what = format!("{host} did not finish the TLS handshake within {} s", limit.as_secs());
            Err(Trouble::new(TroubleKind::Unreachable, what).remedy("check port and tls"))
        }
    }
}

async fn greeting(client: &mut SmtpClient, host: &str) -> Result<(), Trouble> {
    let (what, limit) = (SmtpCommand::Greeting.name(), client.timeout);
    let reply = client.read(limit).await.map_err(|e| broken(&e, &client.stream, host, what, limit))?;
    if reply.is_yes(SmtpCommand::Greeting) { Ok(()) } else { Err(opening(&reply, host, what)) }
}

/// EHLO; a server that does not know it gets HELO (RFC 5321 section 3.2) and offers no extensions.
async fn ehlo(client: &mut SmtpClient, host: &str, name: &str) -> Result<EhloResponse<String>, Trouble> {
    let what = SmtpCommand::Hello.name();
    let (reply, offers) =
        client.hello(name).await.map_err(|e| broken(&e, &client.stream, host, what, client.timeout))?;
    match reply.answers(SmtpCommand::Hello) {
        Answer::Yes => {
            let unreadable = |_| broken(&Error::UnparseableReply, &client.stream, host, what, client.timeout);
            offers.ok_or(()).map_err(unreadable)
        }
        Answer::No if (500..=504).contains(&reply.code) => {
            let helo = client.ask(format!("HELO {name}\r\n").as_bytes()).await;
            let reply = helo.map_err(|e| broken(&e, &client.stream, host, "HELO", client.timeout))?;
            match reply.is_yes(SmtpCommand::Hello) {
                true => Ok(EhloResponse::new(host.to_string())),
                false => Err(opening(&reply, host, "HELO")),
            }
        }
        _ => Err(opening(&reply, host, what)),
    }
}

/// Connects, encrypts the connection as the account requires, and logs in. `name` is ours; `trace` gets each step.
///
/// # Errors
/// What keeps the account from working, as text. No password is sent before the server has been verified.
pub async fn connect(
    account: &Account,
    name: &str,
    connector: Option<&TlsConnector>,
    trace: Option<&Trace>,
) -> Result<Connection, Trouble> {
    // An observer is shown the steps before the login.
    if trace.is_none() && account.misses_password() {
        return Err(auth::no_password(account));
    }
    let host = &account.host;
    let connector = || connector.ok_or_else(|| Trouble::new(TroubleKind::Setup, "TLS was not set up for this account"));
    let patience = Patience(account.timeout);
    let tcp = tcp(account, patience.connection(), trace).await?;
    let peer = tcp.peer_addr();
    let stream = match account.tls {
        TlsMode::Implicit => handshake(tcp, account, connector()?, patience.handshake()).await?,
        TlsMode::StartTls | TlsMode::None => Stream::Plain(tcp),
    };
    let mut client = SmtpClient { stream: Wire::new(stream).follow(trace), timeout: patience.command() };
    let implicit = account.tls == TlsMode::Implicit;
    if implicit {
        protected(trace, &client.stream, account);
    }
    greeting(&mut client, host).await?;
    if !implicit {
        done(trace, TraceStep::Tcp, || connected(account));
    }
    let mut offers = ehlo(&mut client, host, name).await?;
    if account.tls == TlsMode::StartTls {
        client = start_tls(client, account, &offers, connector()?, patience).await?;
        client.stream = client.stream.follow(trace);
        protected(trace, &client.stream, account);
        // RFC 3207 section 4.2: what was said before TLS is discarded.
        offers = ehlo(&mut client, host, name).await?;
    }
    let tls = tls::facts(client.stream.tls(), account);
    if let Some(trace) = trace.filter(|_| account.tls == TlsMode::None) {
        trace.skip(TraceStep::Tls, "no TLS (option tls 'none'): anyone on the network path can read this connection");
    }
    let _ = peer.map(net::works);
    client.stream.mask = Mask::of(account);
    auth::log_in(&mut client, account, &offers).await?;
    done(trace, TraceStep::Login, || logged_in(account));
    let login_missing = account.username.is_none() && offers.has_capability(EXT_AUTH);
    Ok(Connection {
        client,
        offers,
        tls,
        messages: 0,
        refusals: 0,
        has_taken: false,
        takes_mail: false,
        login_missing,
        in_step: false,
        used: Instant::now(),
        patience,
    })
}

/// Reports to the observer that the connection has TLS.
fn protected(trace: Option<&Trace>, wire: &Wire, account: &Account) {
    if let Some(trace) = trace {
        let facts = tls::facts(wire.tls(), account);
        trace.note(&format!("{} from here on", facts.version));
        trace.done(TraceStep::Tls, facts.to_string());
    }
}

fn logged_in(account: &Account) -> String {
    let host = &account.host;
    match (account.shown_username(), &account.oauth) {
        ("", _) => format!("no login is used for this account at {host}"),
        (name, None) => format!("{host} accepted the login of '{name}'"),
        (name, Some(_)) => format!("{host} accepted the login of '{name}' with a token"),
    }
}

/// RFC 3207. Required: without it nothing is sent.
async fn start_tls(
    mut client: SmtpClient,
    account: &Account,
    offers: &EhloResponse<String>,
    connector: &TlsConnector,
    patience: Patience,
) -> Result<SmtpClient, Trouble> {
    const STRIPPED: &str = "it may be stripped on the network path";
    let host = &account.host;
    if !offers.has_capability(EXT_START_TLS) {
        let what = format!("{host} does not offer STARTTLS on port {}, so nothing was sent", account.port);
        return Err(Trouble::new(TroubleKind::Tls, what).remedy(format!("{PORT_AND_TLS}; {STRIPPED}")));
    }
    let what = SmtpCommand::StartTls.name();
    let reply = client.ask(b"STARTTLS\r\n").await;
    let reply = reply.map_err(|e| broken(&e, &client.stream, host, what, client.timeout))?;
    if !reply.is_yes(SmtpCommand::StartTls) {
        return Err(opening(&reply, host, what));
    }
    if client.stream.unread() > 0 {
        let what = format!(
            "{host} sent unencrypted data after its reply to STARTTLS: the connection may have been tampered with, so nothing was sent"
        );
        return Err(Trouble::new(TroubleKind::Tls, what));
    }
    let lost = |error| Trouble::new(TroubleKind::Unreachable, format!("the connection to {host} was lost: {error}"));
    let stream = client.stream.into_tcp().map_err(lost)?;
    let stream = handshake(stream, account, connector, patience.handshake()).await?;
    Ok(SmtpClient { stream: Wire::new(stream), timeout: patience.command() })
}

#[cfg(test)]
mod tests {
    use nix::sys::socket::getsockopt;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    /// A server that says these lines, each after the next command, and then closes the connection.
    async fn server(lines: &'static [&'static str]) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                for line in lines {
                    let _ = stream.write_all(line.as_bytes()).await;
                    let _ = stream.read(&mut [0; 512]).await;
                }
            }
        });
        address
    }

    #[tokio::test]
    async fn an_address_on_which_nothing_works_is_not_the_only_one_that_is_tried() {
        const READY: &[&str] = &["220 mx\r\n", "250 mx\r\n", "250 ok\r\n"];
        for lines in [&[][..], &["421 busy\r\n"], &["220 mx\r\n", "421 busy\r\n"], &["220 mx\r\n"]] {
            let (broken, good) = (server(lines).await, server(READY).await);
            let to = |address: SocketAddr| Account {
                host: "127.0.0.1".into(),
                port: address.port(),
                tls: TlsMode::None,
                timeout: Duration::from_secs(60),
                ..Account::default()
            };
            let next = async || {
                let both = vec![broken, good];
                net::connect(both, Duration::from_secs(60)).await.unwrap().peer_addr().unwrap()
            };
            assert!(connect(&to(broken), "me", None, None).await.is_err());
            assert_eq!(next().await, good, "{lines:?}");
            assert!(connect(&to(good), "me", None, None).await.is_ok());
            assert_eq!(next().await, good, "{lines:?}");
        }
    }

    #[tokio::test]
    async fn the_kernel_watches_the_path() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        watch_path(&stream).unwrap();
        assert_eq!(getsockopt(&stream, sockopt::TcpUserTimeout), Ok(60_000));
        let probes = (
            getsockopt(&stream, sockopt::TcpKeepIdle).unwrap(),
            getsockopt(&stream, sockopt::TcpKeepInterval).unwrap(),
            getsockopt(&stream, sockopt::TcpKeepCount).unwrap(),
        );
        assert_eq!(probes, (15, 15, 3));
        assert!(getsockopt(&stream, sockopt::KeepAlive).unwrap());
    }
}
