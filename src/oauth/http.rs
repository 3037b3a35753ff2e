// SPDX-License-Identifier: Apache-2.0
//! One request to a login server: HTTPS, with a form as request and a short reply. Redirects are not followed: secrets
//! go only to the address in the settings.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;
use zeroize::Zeroizing;

use super::Later;
use super::form::Form;
use super::response::{Answer, Response};
use crate::config::{Account, Issuer};
use crate::net::tls;
use crate::net::{self, ConnectFailure};
use crate::net::{Trouble, TroubleKind};
use crate::system::task;

/// Timeout from the name lookup to the last byte of the reply.
const PATIENCE: Duration = Duration::from_secs(45);
/// Timeout for one of several addresses.
const CONNECT_TIME: Duration = Duration::from_secs(10);

/// The parts of an `https://` address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Url<'a> {
    /// Host name or address of the server.
    pub host: &'a str,
    /// TCP port.
    pub port: u16,
    /// Path and query.
    pub target: &'a str,
}

impl<'a> Url<'a> {
    /// Parses `text`; `None` if it is not such an address.
    pub fn parse(text: &'a str) -> Option<Self> {
        let rest = text.strip_prefix("https://").filter(|rest| rest.bytes().all(|b| b.is_ascii_graphic()))?;
        let (authority, target) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let (host, port) = match authority.strip_prefix('[') {
            Some(literal) => literal.split_once(']')?,
            None => authority.split_at(authority.find(':').unwrap_or(authority.len())),
        };
        let port = match port.strip_prefix(':') {
            Some(digits) => digits.parse().ok().filter(|port| *port != 0)?,
            None if port.is_empty() => 443,
            None => return None,
        };
        let target = if target.is_empty() { "/" } else { target };
        let plain = host.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_' | b':'));
        (plain && !host.is_empty() && !target.contains('#')).then_some(Self { host, port, target })
    }
}

/// Prepares TLS to the login server of `account`: it trusts the system's authorities or, for the owner's own servers,
/// those of the account. Certificates are always verified. Reads files, so it must not be called on the runtime thread.
///
/// # Errors
/// If there is no authority to trust.
pub fn connector(account: &Account) -> Result<TlsConnector, Trouble> {
    let own = account.oauth.as_ref().is_some_and(|oauth| oauth.issuer == Issuer::Custom);
    let ca_file = account.ca_file.clone().filter(|_| own);
    tls::connector(&Account { ca_file, fingerprint: None, verify: true, ..account.clone() })
}

/// Posts `form` to `address`, and waits for the reply until the shorter of `patience` and this module's own timeout.
///
/// # Errors
/// Why there is no reply, in words. A refusal is also a reply.
pub fn post<'a>(
    address: &'a str,
    form: &'a Form,
    connector: &'a TlsConnector,
    patience: Duration,
) -> Later<'a, Result<Answer, Trouble>> {
    Box::pin(async move {
        let Some(url) = Url::parse(address) else {
            let text = format!("'{address}' is not a valid login server address");
            return Err(Trouble::new(TroubleKind::Setup, text));
        };
        let patience = patience.min(PATIENCE);
        let exchanged = timeout(patience, exchange(&url, form, connector)).await;
        exchanged.unwrap_or_else(|_| Err(unreachable(&url, &format!("did not answer within {} s", patience.as_secs()))))
    })
}

fn unreachable(url: &Url, what: &str) -> Trouble {
    let Url { host, .. } = url;
    const LOOK: &str = "if this persists, check the uplink";
    Trouble::new(TroubleKind::Unreachable, format!("the login server {host} {what}")).remedy(LOOK)
}

async fn exchange(url: &Url<'_>, form: &Form, connector: &TlsConnector) -> Result<Answer, Trouble> {
    let Url { host, port, target } = url;
    let name = ServerName::try_from((*host).to_string());
    let name =
        name.map_err(|_| Trouble::new(TroubleKind::Setup, format!("'{host}' is not a valid login server name")))?;
    let tcp = connect(url).await?;
    let mut stream = connector.connect(name, tcp).await.map_err(|error| tls::explain(&error, host))?;
    let authority = if host.contains(':') { format!("[{host}]") } else { (*host).to_string() };
    let authority = if *port == 443 { authority } else { format!("{authority}:{port}") };
    let body = form.text();
    let head = format!(
        "POST {target} HTTP/1.1\r\nHost: {authority}\r\nUser-Agent: smtprelay\r\nAccept: application/json\r\n\
         Accept-Encoding: identity\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\
         Connection: close\r\n\r\n",
        body.len()
    );
    let broke = |error: std::io::Error| unreachable(url, &format!("closed the connection: {error}"));
    stream.write_all(head.as_bytes()).await.map_err(broke)?;
    stream.write_all(body.as_bytes()).await.map_err(broke)?;
    stream.flush().await.map_err(broke)?;
    let sent = |what: &str| unreachable(url, &format!("sent {what}"));
    let mut response = Response::new();
    let mut buffer = Zeroizing::new(vec![0; 4096]);
    loop {
        let read = stream.read(&mut buffer).await.map_err(broke)?;
        let piece = buffer.get(..read).unwrap_or_default();
        if read == 0 || response.take(piece).map_err(sent)? {
            return response.finish().map_err(sent);
        }
    }
}

async fn connect(url: &Url<'_>) -> Result<TcpStream, Trouble> {
    let found = task::lookup(url.host, url.port).await;
    let found = found.map_err(|error| unreachable(url, &format!("cannot be looked up ({error})")))?;
    net::connect(found, CONNECT_TIME).await.map_err(|failure| {
        let what = match failure {
            None => "has no address".into(),
            Some(ConnectFailure { address, error }) if error.kind() == io::ErrorKind::TimedOut => {
                format!("does not answer ({address})")
            }
            Some(ConnectFailure { address, error }) => format!("cannot be reached ({address}): {error}"),
        };
        unreachable(url, &what)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_taken_apart() {
        let url = |text| Url::parse(text).map(|url| (url.host, url.port, url.target));
        assert_eq!(url("https://a.example/x/y?z=1"), Some(("a.example", 443, "/x/y?z=1")));
        assert_eq!(url("https://127.0.0.1:8443"), Some(("127.0.0.1", 8443, "/")));
        assert_eq!(url("https://[::1]:8443/t"), Some(("::1", 8443, "/t")));
        for wrong in [
            "http://a/",
            "https://",
            "https:///x",
            "https://a:0/",
            "https://a:x/",
            "https://u@a/",
            "https://a/ b",
            "https://[::1/",
            "https://a/x#y",
            "https://[::1]x/",
            "https://a\r\nb/",
            "https://ä/",
        ] {
            assert_eq!(url(wrong), None, "{wrong}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_address_breaks_out_of_a_request(text in "https://\\PC*") {
            if let Some(url) = Url::parse(&text) {
                assert!(!format!("{}{}", url.host, url.target).contains([' ', '\r', '\n']));
                assert!(url.target.starts_with('/'));
            }
        }
    }
}
