// SPDX-License-Identifier: Apache-2.0
//! One request to a login server: HTTPS, with a form as request and a short reply (HTTP/1.1, RFC 9112), which is parsed
//! as it arrives. Everything is limited. Redirects are not followed: secrets go only to the address in the settings.

use std::io;
use std::time::Duration;

use form_urlencoded::byte_serialize;
use percent_encoding::percent_decode_str;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;
use zeroize::Zeroizing;

use super::Later;
use crate::config::{Account, Issuer};
use crate::net::{self, ConnectFailure, Trouble, TroubleKind, tls};
use crate::system::names;

/// Timeout from the name lookup to the last byte of the reply.
const PATIENCE: Duration = Duration::from_secs(45);
/// Timeout for one of several addresses.
const CONNECT_TIME: Duration = Duration::from_secs(10);
/// Capacity for a form with a token of some kilobytes, allocated at once: a growing string leaves copies of secrets
/// behind in memory.
const FORM_ROOM: usize = 16 << 10;
/// Maximum length in bytes of a header line.
const LINE_LIMIT: usize = 8 << 10;
/// Maximum size in bytes of the header, including chunk headers and trailers.
const HEADER_LIMIT: usize = 32 << 10;
/// Maximum number of header fields.
const FIELDS_LIMIT: usize = 128;
/// Maximum size in bytes of the body: a reply with tokens has a tenth of it.
const BODY_LIMIT: usize = 32 << 10;

/// Names and values of a form, as used in requests and in URLs (`application/x-www-form-urlencoded`, RFC 6749 appendix
/// B), that is being filled in. Wiped from memory when dropped.
pub struct Form(Zeroizing<String>);

impl Form {
    /// An empty one.
    pub(super) fn new() -> Self {
        Self(Zeroizing::new(String::with_capacity(FORM_ROOM)))
    }

    /// Adds a name and its value; an empty value is left out.
    pub(super) fn add(mut self, name: &str, value: &str) -> Self {
        if !value.is_empty() {
            let gap = if self.0.is_empty() { "" } else { "&" };
            self.0.extend([gap, name, "="]);
            self.0.extend(encoded(value));
        }
        self
    }

    /// The encoded form.
    pub(super) fn text(&self) -> &str {
        &self.0
    }
}

/// `value` as it stands in a form or a URL, in pieces. A space is `%20`, which both know, in place of the `+` of a
/// form.
pub fn encoded(value: &str) -> impl Iterator<Item = &str> {
    byte_serialize(value.as_bytes()).map(|piece| if piece == "+" { "%20" } else { piece })
}

/// The value of `name` in the query of `address`, or in a query alone. `None` if it is missing, or if it is not UTF-8.
pub fn value_of(address: &str, name: &str) -> Option<Zeroizing<String>> {
    let query = address.split_once('?').map_or(address, |(_, query)| query);
    let query = query.split('#').next().unwrap_or_default();
    let value = query.split('&').find_map(|pair| pair.split_once('=').filter(|(key, _)| *key == name))?.1;
    let value = Zeroizing::new(value.replace('+', " "));
    let is_code = |rest: &str| rest.bytes().take(2).filter(u8::is_ascii_hexdigit).count() == 2;
    let decoded = percent_decode_str(&value).decode_utf8().ok().filter(|_| value.split('%').skip(1).all(is_code))?;
    Some(Zeroizing::new(decoded.into_owned()))
}

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
    let found = names::lookup(url.host, url.port).await;
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

/// A complete reply. Its body may contain tokens, so it is wiped when dropped.
#[derive(Debug)]
pub struct Answer {
    /// Such as 200.
    pub status: u16,
    /// The body.
    pub body: Zeroizing<Vec<u8>>,
}

/// What is expected next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    /// The status line and the fields.
    Head,
    /// This number of bytes of the body.
    Body(usize),
    /// Everything until the connection is closed (RFC 9112 section 6.3).
    UntilClosed,
    ChunkSize,
    /// This number of bytes of a chunk.
    Chunk(usize),
    /// The line end after a chunk.
    ChunkEnd,
    Trailer,
    Done,
}

/// A reply that is being read.
#[derive(Debug)]
struct Response {
    next: Next,
    /// The header so far, or the line of a chunk.
    lines: Zeroizing<Vec<u8>>,
    /// Where the line that has not ended yet begins in it.
    line: usize,
    /// Bytes of all lines.
    header: usize,
    status: u16,
    body: Zeroizing<Vec<u8>>,
}

const NOT_HTTP: &str = "something that is not HTTP";
const TOO_LONG: &str = "much more than a token reply";

impl Response {
    /// Nothing has been read yet.
    fn new() -> Self {
        // Allocated at once, because a growing vector leaves copies of tokens behind.
        let body = Zeroizing::new(Vec::with_capacity(BODY_LIMIT));
        Self { next: Next::Head, lines: Zeroizing::default(), line: 0, header: 0, status: 0, body }
    }

    /// Processes the next bytes. True if the reply is complete; what follows it is ignored.
    ///
    /// # Errors
    /// What the server sent instead of a reply, in words.
    fn take(&mut self, mut bytes: &[u8]) -> Result<bool, &'static str> {
        while self.next != Next::Done && !bytes.is_empty() {
            let (left, after) = match self.next {
                Next::Body(left) => (left, Next::Done),
                Next::Chunk(left) => (left, Next::ChunkEnd),
                Next::UntilClosed => (usize::MAX, Next::Done),
                _ => {
                    bytes = self.take_line(bytes)?;
                    continue;
                }
            };
            let (piece, rest) = bytes.split_at(left.min(bytes.len()));
            if self.body.len() + piece.len() > BODY_LIMIT {
                return Err(TOO_LONG);
            }
            self.body.extend_from_slice(piece);
            self.next = match (self.next, left - piece.len()) {
                (_, 0) => after,
                (Next::Body(_), left) => Next::Body(left),
                (Next::Chunk(_), left) => Next::Chunk(left),
                (next, _) => next,
            };
            bytes = rest;
        }
        Ok(self.next == Next::Done)
    }

    /// The connection is closed, or the reply is complete.
    ///
    /// # Errors
    /// If a part is missing.
    fn finish(self) -> Result<Answer, &'static str> {
        match self.next {
            Next::Done | Next::UntilClosed => Ok(Answer { status: self.status, body: self.body }),
            Next::Head if self.header == 0 => Err("nothing"),
            _ => Err("an incomplete reply"),
        }
    }

    /// Takes bytes up to the end of a line, and processes the line if it is complete.
    fn take_line<'a>(&mut self, bytes: &'a [u8]) -> Result<&'a [u8], &'static str> {
        let end = memchr::memchr(b'\n', bytes);
        let (piece, rest) = bytes.split_at(end.map_or(bytes.len(), |at| at + 1));
        self.header += piece.len();
        self.lines.extend_from_slice(piece);
        if self.header > HEADER_LIMIT || self.lines.len() - self.line > LINE_LIMIT {
            return Err(TOO_LONG);
        }
        if end.is_some() {
            let lines = std::mem::take(&mut self.lines);
            self.next = match self.next {
                Next::Head => match head(&lines)? {
                    Some((status, next)) => {
                        self.status = status;
                        next
                    }
                    None => {
                        self.line = lines.len();
                        self.lines = lines;
                        return Ok(rest);
                    }
                },
                next => in_chunks(next, &lines)?,
            };
            self.line = 0;
        }
        Ok(rest)
    }
}

/// The status in a header, and what follows it (RFC 9112 section 6.3); `None` if it is incomplete.
fn head(lines: &[u8]) -> Result<Option<(u16, Next)>, &'static str> {
    let mut fields = [httparse::EMPTY_HEADER; FIELDS_LIMIT];
    let mut head = httparse::Response::new(&mut fields);
    match head.parse(lines) {
        Ok(httparse::Status::Complete(_)) => {}
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(httparse::Error::TooManyHeaders) => return Err(TOO_LONG),
        Err(_) => return Err(NOT_HTTP),
    }
    let status = head.code.filter(|code| (100..=599).contains(code)).ok_or(NOT_HTTP)?;
    let (mut length, mut chunked) = (None, false);
    for field in head.headers {
        let value = std::str::from_utf8(field.value).unwrap_or_default().trim();
        if field.name.eq_ignore_ascii_case("content-length") {
            let number = Some(value).filter(|v| v.bytes().all(|b| b.is_ascii_digit()));
            let number: usize = number.and_then(|v| v.parse().ok()).ok_or(NOT_HTTP)?;
            if length.replace(number).is_some_and(|known| known != number) {
                return Err(NOT_HTTP);
            }
        } else if field.name.eq_ignore_ascii_case("transfer-encoding") {
            if !value.eq_ignore_ascii_case("chunked") || chunked {
                return Err("an unrequested encoding");
            }
            chunked = true;
        }
    }
    let next = match (status, chunked, length) {
        // An interim response (RFC 9110 section 15.2): the final one follows.
        (100..=199, ..) => Next::Head,
        (204 | 304, ..) | (_, false, Some(0)) => Next::Done,
        (_, true, _) => Next::ChunkSize,
        (_, _, Some(length)) => Next::Body(length),
        _ => Next::UntilClosed,
    };
    Ok(Some((status, next)))
}

/// What follows a line before, after or behind a chunk (RFC 9112 section 7.1).
fn in_chunks(next: Next, line: &[u8]) -> Result<Next, &'static str> {
    // A lone LF may end a line (RFC 9112 section 2.2).
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    match next {
        // Hexadecimal, possibly followed by an extension.
        Next::ChunkSize => {
            let text = std::str::from_utf8(line).unwrap_or_default();
            let digits = text.split(';').next().unwrap_or_default().trim();
            let plain = (1..=8).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_hexdigit());
            let size = usize::from_str_radix(digits, 16).ok().filter(|_| plain).ok_or(NOT_HTTP)?;
            Ok(if size == 0 { Next::Trailer } else { Next::Chunk(size) })
        }
        Next::ChunkEnd if line.is_empty() => Ok(Next::ChunkSize),
        Next::Trailer if line.is_empty() => Ok(Next::Done),
        Next::Trailer => Ok(Next::Trailer),
        _ => Err(NOT_HTTP),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_example_of_rfc_6749_appendix_b() {
        let form = Form::new().add("a", " %&+£€").add("empty", "").add("b", "x");
        assert_eq!(form.text(), "a=%20%25%26%2B%C2%A3%E2%82%AC&b=x");
        assert_eq!(value_of("+%25%26%2B%C2%A3%E2%82%AC", "a"), None);
        assert_eq!(value_of("a=+%25%26%2B%C2%A3%E2%82%AC", "a").unwrap().as_str(), " %&+£€");
    }

    #[test]
    fn broken_values_are_none() {
        for address in
            ["", "http://127.0.0.1/", "?code", "?code=%", "?code=%4", "?code=%zz", "?code=%ff", "?xcode=1", "#code=1"]
        {
            assert_eq!(value_of(address, "code"), None, "{address}");
        }
        assert_eq!(value_of("http://127.0.0.1/?state=a&code=4%2F0b#x", "code").unwrap().as_str(), "4/0b");
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(name in "[a-z_]{1,9}", value in "\\PC{1,40}", more: String) {
            let form = Form::new().add(&name, &value).add("zz0", &more);
            assert_eq!(value_of(form.text(), &name).as_deref(), Some(&value));
            let _ = value_of(&more, &name);
        }
    }

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

    proptest! {
        #[test]
        fn no_address_breaks_out_of_a_request(text in "https://\\PC*") {
            if let Some(url) = Url::parse(&text) {
                assert!(!format!("{}{}", url.host, url.target).contains([' ', '\r', '\n']));
                assert!(url.target.starts_with('/'));
            }
        }
    }

    /// The result of these bytes when they arrive in pieces of this size and the connection is closed after them.
    fn read(bytes: &[u8], piece: usize) -> Result<(u16, Vec<u8>), &'static str> {
        let mut response = Response::new();
        for piece in bytes.chunks(piece.max(1)) {
            if response.take(piece)? {
                break;
            }
        }
        response.finish().map(|answer| (answer.status, answer.body.to_vec()))
    }

    #[test]
    fn every_form_of_a_reply() {
        for (reply, status, body) in [
            ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}behind", 200, "{}"),
            ("HTTP/1.1 400\r\ncontent-length:2\r\nContent-Length: 2\r\n\r\n{}", 400, "{}"),
            ("HTTP/1.0 200 OK\r\n\r\nuntil closed", 200, "until closed"),
            ("HTTP/1.1 204 \r\n\r\nno body", 204, ""),
            ("HTTP/1.1 200 OK\nContent-Length: 0\n\n", 200, ""),
            ("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx", 200, "x"),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n4;a=b\r\nWiki\r\nA \r\npedia in\r\n\r\n0\r\nX: y\r\n\r\n",
                200,
                "Wikipedia in\r\n",
            ),
        ] {
            for piece in [1, 3, 1000] {
                assert_eq!(read(reply.as_bytes(), piece), Ok((status, body.into())), "{reply}");
            }
        }
    }

    #[test]
    fn what_is_no_reply_is_refused() {
        let header = |field: &str| format!("HTTP/1.1 200 OK\r\n{field}\r\n\r\n{{}}");
        for (reply, why) in [
            (String::new(), "nothing"),
            ("220 mail.example ESMTP\r\n".into(), NOT_HTTP),
            ("HTTP/2 200\r\n\r\n".into(), NOT_HTTP),
            ("HTTP/1.1 999 x\r\n\r\n".into(), NOT_HTTP),
            ("HTTP/1.1 2000 x\r\n\r\n".into(), NOT_HTTP),
            ("HTTP/1.1 200 OK\r\nContent-Le".into(), "an incomplete reply"),
            (header("Content-Length: 3"), "an incomplete reply"),
            (header("Content-Length: -1"), NOT_HTTP),
            (header("Content-Length: 99999999999999999999999"), NOT_HTTP),
            (header("Content-Length: 1\r\nContent-Length: 2"), NOT_HTTP),
            (header("no colon"), NOT_HTTP),
            (header("Transfer-Encoding: gzip, chunked"), "an unrequested encoding"),
            (header("Transfer-Encoding: chunked\r\n\r\n-1"), NOT_HTTP),
            (header("Transfer-Encoding: chunked\r\n\r\n1\r\nxx"), NOT_HTTP),
            (header("Transfer-Encoding: chunked\r\n\r\nfffffffff\r\n"), NOT_HTTP),
            (header(&format!("X: {}", "x".repeat(LINE_LIMIT))), TOO_LONG),
            (header(&"X: y\r\n".repeat(HEADER_LIMIT / 6 + 1)), TOO_LONG),
            (format!("HTTP/1.1 200 OK\r\n\r\n{}", "x".repeat(BODY_LIMIT + 1)), TOO_LONG),
            (header(&format!("Transfer-Encoding: chunked\r\n\r\n{}", "1\r\nx\r\n".repeat(HEADER_LIMIT))), TOO_LONG),
            ("HTTP/1.1 100 Continue\r\n\r\n".repeat(HEADER_LIMIT / 20), TOO_LONG),
        ] {
            for piece in [1, 7, 100_000] {
                assert_eq!(read(reply.as_bytes(), piece), Err(why), "{:.60}", reply);
            }
        }
    }

    proptest! {
        #[test]
        fn nothing_is_taken_beyond_the_bounds(bytes: Vec<u8>, piece in 1..50usize) {
            let _ = read(&bytes, piece);
            let _ = read(&[b"HTTP/1.1 200 OK\r\n", bytes.as_slice()].concat(), piece);
            let _ = read(&[b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", bytes.as_slice()].concat(), piece);
        }

        #[test]
        fn how_a_reply_is_cut_does_not_matter(
            chunks in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..80), 0..9),
            piece in 1..300usize,
            chunked: bool,
        ) {
            let body = chunks.concat();
            let mut reply = b"HTTP/1.1 200 OK\r\n".to_vec();
            if chunked {
                reply.extend_from_slice(b"Transfer-Encoding: chunked\r\n\r\n");
                for chunk in &chunks {
                    reply.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
                    reply.extend_from_slice(chunk);
                    reply.extend_from_slice(b"\r\n");
                }
                reply.extend_from_slice(b"0\r\n\r\n");
            } else {
                reply.extend_from_slice(format!("Content-Length: {}\r\n\r\n", body.len()).as_bytes());
                reply.extend_from_slice(&body);
            }
            prop_assert_eq!(read(&reply, piece), Ok((200, body.clone())));
            // No prefix of it is mistaken for the complete reply.
            for end in 0..reply.len() {
                prop_assert!(read(&reply[..end], piece).is_err(), "{}", end);
            }
        }
    }
}
