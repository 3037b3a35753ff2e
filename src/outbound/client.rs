//! Opens a connection to a provider up to the point where mail can be handed over.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use mail_send::smtp::AssertReply;
use mail_send::{Error, SmtpClient};
use smtp_proto::{EXT_START_TLS, EhloResponse};
use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;

use super::auth;
use super::tls;
use super::verdict::{Trouble, TroubleKind, reply_text};
use super::wire::{Stream, Wire};
use crate::config::{Account, TlsMode};
use crate::report::TlsFacts;

/// For one address; a provider has several.
const CONNECT_TIME: Duration = Duration::from_secs(20);
/// For the name service.
const LOOKUP_TIME: Duration = Duration::from_secs(30);
/// For greeting, EHLO, login, MAIL and RCPT: RFC 5321 section 4.5.3.2 says five minutes, which no provider needs, but
/// some let newcomers wait a while.
const COMMAND_TIME: Duration = Duration::from_secs(120);
/// For the TLS handshake.
const HANDSHAKE_TIME: Duration = Duration::from_secs(60);
/// Addresses of a name that are tried.
const ADDRESSES: usize = 6;

/// A connection that is ready for a message.
pub struct Connection {
    /// The client on its stream.
    pub client: SmtpClient<Wire>,
    /// What the server offers, after TLS.
    pub offers: EhloResponse<String>,
    /// How it is protected.
    pub tls: TlsFacts,
    /// Messages handed over on it.
    pub messages: u32,
    /// When it was last used.
    pub used: Instant,
}

/// A failure below the level of replies, in words. `what` is what was being done.
pub(super) fn broken(error: &Error, client: &SmtpClient<Wire>, host: &str, what: &str) -> Trouble {
    let last = client.stream.last_line();
    let reason = match error {
        Error::UnexpectedReply(reply) => {
            return Trouble::new(TroubleKind::Busy, format!("{host} answered {what} with: {}", reply_text(reply)));
        }
        Error::Timeout => format!("{host} was silent for {} s at {what}", client.timeout.as_secs()),
        Error::UnparseableReply if client.stream.is_closed() && last.is_empty() => {
            format!("{host} closed the connection at {what} without a word")
        }
        Error::UnparseableReply if client.stream.is_closed() => {
            format!("{host} closed the connection at {what}; its last words were: {last}")
        }
        Error::UnparseableReply => format!("{host} answered {what} with something that is not SMTP: {last}"),
        Error::Io(error) => format!("the connection to {host} broke at {what}: {error}"),
        other => format!("{what} at {host} failed: {other}"),
    };
    Trouble::new(TroubleKind::Unreachable, reason)
}

async fn tcp(account: &Account) -> Result<TcpStream, Trouble> {
    let host = &account.host;
    let unreachable = |reason: String| Trouble::new(TroubleKind::Unreachable, reason);
    let resolved = timeout(LOOKUP_TIME, lookup_host((host.as_str(), account.port))).await;
    let addresses: Vec<SocketAddr> = match resolved {
        Ok(Ok(found)) => found.take(ADDRESSES).collect(),
        Ok(Err(error)) => {
            return Err(unreachable(format!(
                "the name {host} can't be looked up ({error}): the uplink or its DNS is down, or the name is wrong"
            )));
        }
        Err(_) => {
            return Err(unreachable(format!(
                "no answer when looking up the name {host}: the uplink or its DNS is down"
            )));
        }
    };
    let mut last = format!("the name {host} has no address");
    for address in addresses {
        match timeout(CONNECT_TIME, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => {
                // Commands are collected and sent whole: waiting for more would only cost 40 ms.
                let _ = stream.set_nodelay(true);
                return Ok(stream);
            }
            Ok(Err(error)) => last = format!("no connection to {host} ({address}): {error}"),
            Err(_) => last = format!("no answer from {host} ({address}) within {} s", CONNECT_TIME.as_secs()),
        }
    }
    Err(unreachable(format!("{last}; check the uplink, option host and option port")))
}

async fn handshake(stream: TcpStream, account: &Account, connector: &TlsConnector) -> Result<Stream, Trouble> {
    let host = &account.host;
    let name = ServerName::try_from(host.clone()).map_err(|_| {
        Trouble::new(TroubleKind::Setup, format!("option host '{host}' is not a name that a certificate can have"))
    })?;
    match timeout(HANDSHAKE_TIME, connector.connect(name, stream)).await {
        Ok(Ok(stream)) => Ok(Stream::Tls(Box::new(stream))),
        Ok(Err(error)) => Err(tls::explain(&error, host)),
        Err(_) => Err(Trouble::new(
            TroubleKind::Unreachable,
            format!(
                "{host} did not finish the TLS handshake within {} s; check port and tls",
                HANDSHAKE_TIME.as_secs()
            ),
        )),
    }
}

async fn greeting(client: &mut SmtpClient<Wire>, host: &str) -> Result<(), Trouble> {
    let greeting = match timeout(COMMAND_TIME, client.read()).await {
        Ok(reply) => reply,
        Err(_) => Err(Error::Timeout),
    };
    greeting.and_then(AssertReply::assert_positive_completion).map_err(|e| broken(&e, client, host, "the greeting"))
}

/// EHLO; a server that does not know it is greeted with HELO (RFC 5321 section 3.2) and offers nothing.
async fn ehlo(client: &mut SmtpClient<Wire>, host: &str, name: &str) -> Result<EhloResponse<String>, Trouble> {
    match client.ehlo(name).await {
        Ok(offers) => Ok(offers),
        Err(Error::UnexpectedReply(reply)) if (500..=504).contains(&reply.code) => {
            let helo = client.cmd(format!("HELO {name}\r\n")).await.and_then(AssertReply::assert_positive_completion);
            helo.map_err(|e| broken(&e, client, host, "HELO"))?;
            Ok(EhloResponse::new(host.to_string()))
        }
        Err(error) => Err(broken(&error, client, host, "EHLO")),
    }
}

/// Connects, protects the connection as the account demands, and logs in. `name` is ours.
///
/// # Errors
/// What keeps the account from working, in words. No password leaves before the server has been verified.
pub async fn connect(account: &Account, name: &str, connector: Option<&TlsConnector>) -> Result<Connection, Trouble> {
    let host = &account.host;
    let connector =
        || connector.ok_or_else(|| Trouble::new(TroubleKind::Setup, "TLS was not prepared for this account"));
    let mut stream = Stream::Plain(tcp(account).await?);
    if account.tls == TlsMode::Implicit {
        stream = handshake(Wire::new(stream).into_tcp().map_err(|e| closed(host, &e))?, account, connector()?).await?;
    }
    let mut client = SmtpClient { stream: Wire::new(stream), timeout: COMMAND_TIME };
    greeting(&mut client, host).await?;
    let mut offers = ehlo(&mut client, host, name).await?;
    if account.tls == TlsMode::StartTls {
        client = start_tls(client, account, &offers, connector()?).await?;
        // RFC 3207 section 4.2: what was said before TLS counts for nothing.
        offers = ehlo(&mut client, host, name).await?;
    }
    let tls = tls::facts(client.stream.stream(), account);
    auth::log_in(&mut client, account, &offers).await?;
    Ok(Connection { client, offers, tls, messages: 0, used: Instant::now() })
}

fn closed(host: &str, error: &std::io::Error) -> Trouble {
    Trouble::new(TroubleKind::Unreachable, format!("the connection to {host} is gone: {error}"))
}

/// RFC 3207. Required: without it nothing is sent.
async fn start_tls(
    mut client: SmtpClient<Wire>,
    account: &Account,
    offers: &EhloResponse<String>,
    connector: &TlsConnector,
) -> Result<SmtpClient<Wire>, Trouble> {
    let host = &account.host;
    if !offers.has_capability(EXT_START_TLS) {
        return Err(Trouble::new(
            TroubleKind::Tls,
            format!(
                "{host} does not offer STARTTLS on port {}, so nothing was sent: check port and tls (465 implicit, 587 starttls); somebody may be stripping it",
                account.port
            ),
        ));
    }
    let reply = client.cmd(b"STARTTLS\r\n").await.and_then(AssertReply::into_positive_completion);
    reply.map_err(|e| broken(&e, &client, host, "STARTTLS"))?;
    if client.stream.unread() > 0 {
        return Err(Trouble::new(
            TroubleKind::Tls,
            format!(
                "{host} sent more in the clear behind its answer to STARTTLS: somebody on the way may be tampering, so nothing was sent"
            ),
        ));
    }
    let stream = client.stream.into_tcp().map_err(|e| closed(host, &e))?;
    Ok(SmtpClient { stream: Wire::new(handshake(stream, account, connector).await?), timeout: client.timeout })
}
