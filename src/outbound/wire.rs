// SPDX-License-Identifier: Apache-2.0
//! The client's end of a conversation, and the stream below it: returns one reply line at a time and sends commands as
//! a whole. This is the only place where replies are read, so that all of them are treated alike.
//!
//! Bytes that arrive after a line stay here, where they can be seen: bytes after the answer to STARTTLS are an attack
//! (RFC 3207 section 6), replies after a reply belong to the next command, or to nothing that was requested.

use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use mail_send::Error;
use smtp_proto::EhloResponse;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::client::TlsStream;

use super::reply::{Lines, Mask, Reply, SmtpCommand, shown};
use super::trace::Trace;
use crate::net::{Trouble, TroubleKind};

/// Bytes that are kept of a reply line: eight times what RFC 5321 section 4.5.3.1.5 allows.
const LINE_LIMIT: usize = 4096;
/// Bytes of the longest reply: EHLO of a server with many extensions has a tenth.
const REPLY_LIMIT: usize = 64 << 10;
/// Bytes that are collected before they are sent.
const WRITE_BUFFER: usize = 16 << 10;

/// What carries bytes.
trait Transport: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Transport for S {}

/// A connection with or without TLS.
#[derive(Default)]
pub enum Stream {
    /// Unencrypted.
    Plain(TcpStream),
    /// Encrypted.
    Tls(Box<TlsStream<TcpStream>>),
    /// None: the connection is being upgraded.
    #[default]
    Closed,
}

impl Stream {
    fn open(&mut self) -> Option<&mut dyn Transport> {
        match self {
            Self::Plain(tcp) => Some(tcp),
            Self::Tls(tls) => Some(tls),
            Self::Closed => None,
        }
    }
}

/// A [`Stream`] by lines.
#[derive(Default)]
pub struct Wire {
    stream: Stream,
    input: Vec<u8>,
    output: Vec<u8>,
    sent: usize,
    last_line: String,
    /// Secrets to be masked in what the server says.
    pub mask: Mask,
    closed: bool,
    /// The observer, if there is one.
    trace: Option<Trace>,
}

impl Wire {
    /// Takes over `stream`.
    pub fn new(stream: Stream) -> Self {
        Self { stream, ..Self::default() }
    }

    /// Attaches an observer.
    pub fn follow(mut self, trace: Option<&Trace>) -> Self {
        self.trace = trace.cloned();
        self
    }

    /// The last reply line that was returned, for error messages.
    pub fn last_line(&self) -> &str {
        &self.last_line
    }

    /// Whether the other side has closed the connection.
    pub fn is_closed(&self) -> bool {
        self.closed
    }

    /// Bytes that have arrived and have not been read yet.
    pub fn unread(&self) -> usize {
        self.input.len()
    }

    /// Its TLS session, if any.
    pub fn tls(&self) -> Option<&TlsStream<TcpStream>> {
        match &self.stream {
            Stream::Tls(tls) => Some(tls),
            Stream::Plain(_) | Stream::Closed => None,
        }
    }

    /// Takes the TCP connection out, to start TLS on it.
    ///
    /// # Errors
    /// When it already uses TLS.
    pub fn into_tcp(mut self) -> io::Result<TcpStream> {
        match std::mem::take(&mut self.stream) {
            Stream::Plain(tcp) => Ok(tcp),
            Stream::Tls(_) | Stream::Closed => Err(io::Error::other("the connection already uses TLS")),
        }
    }

    /// Whether an idle connection is still usable: nothing has arrived (a server that sends something now is closing)
    /// and it is not closed. Does not wait.
    pub fn is_idle(&mut self) -> bool {
        self.look();
        !self.closed && self.input.is_empty()
    }

    /// Whether the server has sent something that has not been read yet; blank lines are ignored. Does not wait.
    pub fn has_spoken(&mut self) -> bool {
        self.look();
        !self.input.trim_ascii().is_empty()
    }

    /// Whether that is a reply that nothing has asked for. 421 is none: a server that closes the connection may say so
    /// at any time (RFC 5321 section 3.8).
    pub fn has_more(&mut self) -> bool {
        self.has_spoken() && !self.says_goodbye()
    }

    /// Whether `error` means that the server has closed the connection, so that everything it said has arrived.
    pub fn was_closed(&self, error: &Error) -> bool {
        match error {
            Error::UnparseableReply => self.closed,
            Error::Io(error) => matches!(error.kind(), io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe),
            _ => false,
        }
    }

    /// Whether that is 421, or begins like it.
    pub fn says_goodbye(&self) -> bool {
        let said = self.input.trim_ascii_start();
        said.iter().zip(b"421").all(|(said, code)| said == code)
    }

    /// Reads what has arrived.
    fn look(&mut self) {
        let mut context = Context::from_waker(std::task::Waker::noop());
        while !self.closed && self.input.len() < LINE_LIMIT {
            // Errors show again in the next operation.
            if !matches!(self.poll_fill(&mut context), Poll::Ready(Ok(()))) {
                return;
            }
        }
    }

    /// Reads what arrives next; at the end of the stream `closed` is set.
    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut bytes = [MaybeUninit::uninit(); 2048];
        let mut buffer = ReadBuf::uninit(&mut bytes);
        let read = match self.stream.open() {
            Some(stream) => ready!(Pin::new(stream).poll_read(cx, &mut buffer)),
            None => Ok(()),
        };
        match read {
            Ok(()) if buffer.filled().is_empty() => self.closed = true,
            Ok(()) => self.input.extend_from_slice(buffer.filled()),
            // Many servers close a TLS connection without close_notify.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => self.closed = true,
            Err(error) => {
                self.closed = true;
                return Poll::Ready(Err(error));
            }
        }
        Poll::Ready(Ok(()))
    }

    /// The next line with its end, up to the size limit; `None` when the server has closed the connection before the
    /// end of a line. `bytes` counts those of the reply that it belongs to.
    ///
    /// # Errors
    /// When the connection breaks, or the reply is too long.
    pub async fn line(&mut self, bytes: &mut usize) -> io::Result<Option<Vec<u8>>> {
        let mut line = Vec::new();
        loop {
            let end = memchr::memchr(b'\n', &self.input).map(|at| at + 1);
            let piece: Vec<u8> = self.input.drain(..end.unwrap_or(self.input.len())).collect();
            *bytes = bytes.saturating_add(piece.len());
            let room = LINE_LIMIT.saturating_sub(line.len());
            line.extend_from_slice(piece.get(..room).unwrap_or(&piece));
            let over = *bytes > REPLY_LIMIT;
            if end.is_some() || self.closed || over {
                if !line.is_empty() {
                    if let Some(trace) = &self.trace {
                        trace.received(&line);
                    }
                    let shown = String::from_utf8_lossy(&line).trim_end().to_string();
                    // Blank lines are ignored, so the previous line stays.
                    self.last_line = if shown.is_empty() { std::mem::take(&mut self.last_line) } else { shown };
                }
                if over {
                    self.closed = true;
                    return Err(io::Error::other("the reply is too long"));
                }
                return Ok(end.map(|_| line));
            }
            std::future::poll_fn(|cx| self.poll_fill(cx)).await?;
        }
    }

    /// Collects what is to be sent: it leaves with the next flush, or when it has become much.
    ///
    /// # Errors
    /// When the connection breaks.
    pub async fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.output.len() >= WRITE_BUFFER {
            self.send().await?;
        }
        self.output.extend_from_slice(bytes);
        if let Some(trace) = &self.trace {
            trace.sent(bytes);
        }
        Ok(())
    }

    /// Sends all that was collected.
    ///
    /// # Errors
    /// When the connection breaks.
    pub async fn flush(&mut self) -> io::Result<()> {
        self.send().await?;
        match self.stream.open() {
            Some(stream) => stream.flush().await,
            None => Ok(()),
        }
    }

    async fn send(&mut self) -> io::Result<()> {
        while let Some(rest) = self.output.get(self.sent..).filter(|rest| !rest.is_empty()) {
            let written = match self.stream.open() {
                Some(stream) => stream.write(rest).await?,
                None => 0,
            };
            if written == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            self.sent += written;
        }
        self.output.clear();
        self.sent = 0;
        Ok(())
    }
}

/// The client's end of a conversation.
pub struct SmtpClient {
    /// The stream that carries it.
    pub stream: Wire,
    /// How long the server may take for a reply, unless otherwise specified.
    pub timeout: Duration,
}

impl SmtpClient {
    /// Reads the next reply, whatever command it answers.
    ///
    /// # Errors
    /// [`Error::Timeout`], [`Error::UnparseableReply`] for an invalid reply and for a connection that was closed, else
    /// [`Error::Io`].
    pub async fn read(&mut self, limit: Duration) -> Result<Reply, Error> {
        let lines = timeout(limit, self.lines()).await.map_err(|_| Error::Timeout)??;
        Ok(lines.reply().masked(&self.stream.mask))
    }

    /// Sends a command and reads the reply to it.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub async fn ask(&mut self, command: &[u8]) -> Result<Reply, Error> {
        Ok(self.exchange(command).await?.reply().masked(&self.stream.mask))
    }

    /// EHLO: the reply, and the extensions that the server offers if it succeeds.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub async fn hello(&mut self, name: &str) -> Result<(Reply, Option<EhloResponse<String>>), Error> {
        let lines = self.exchange(format!("EHLO {name}\r\n").as_bytes()).await?;
        let offers = EhloResponse::parse(&mut lines.regular().as_bytes().iter()).ok();
        Ok((lines.reply().masked(&self.stream.mask), offers))
    }

    /// QUIT (RFC 5321 section 4.1.1.10); the reply of the server is ignored.
    pub async fn quit(&mut self) {
        let _ = self.exchange(b"QUIT\r\n").await;
    }

    async fn exchange(&mut self, command: &[u8]) -> Result<Lines, Error> {
        let exchanged = timeout(self.timeout, async {
            if self.stream.has_more() {
                // It would be taken for the reply to `command`. It is shown as what the server said last.
                self.stream.line(&mut 0).await?;
                return Err(Error::UnparseableReply);
            }
            self.stream.write_all(command).await?;
            self.stream.flush().await?;
            self.lines().await
        });
        exchanged.await.map_err(|_| Error::Timeout)?
    }

    async fn lines(&mut self) -> Result<Lines, Error> {
        let mut lines = Lines::default();
        let mut bytes = 0;
        loop {
            let line = self.stream.line(&mut bytes).await?.ok_or(Error::UnparseableReply)?;
            match lines.add(&line) {
                Ok(true) => return Ok(lines),
                Ok(false) => {}
                Err(_) => return Err(Error::UnparseableReply),
            }
        }
    }
}

/// An error during `what`; `limit` is the time that the server had. Not for replies to a message.
pub(super) fn broken(error: &Error, wire: &Wire, host: &str, what: &str, limit: Duration) -> Trouble {
    const UPLINK: &str = "if this persists, check the uplink, option host and option port";
    // A server that expects implicit TLS says nothing until it starts.
    const TLS: &str = "if this persists, check the uplink, option host, port and tls (465 implicit, 587 starttls)";
    let look = if what == SmtpCommand::Greeting.name() { TLS } else { UPLINK };
    let last = wire.last_line();
    // Many services that are not SMTP say nothing.
    let said = shown(&wire.mask.apply(last), 80);
    let reason = match error {
        Error::Timeout => format!("{host} did not respond for {} s during {what}", limit.as_secs()),
        Error::UnparseableReply if wire.is_closed() && last.is_empty() => {
            format!("{host} closed the connection during {what} without a reply")
        }
        Error::UnparseableReply if wire.is_closed() => {
            format!("{host} closed the connection during {what}; its last reply was: {said}")
        }
        Error::UnparseableReply => format!("{host} did not answer in SMTP during {what}: {said}"),
        Error::Io(error) => format!("the connection to {host} was lost during {what}: {error}"),
        other => format!("{what} at {host} failed: {other}"),
    };
    Trouble::new(TroubleKind::Unreachable, reason).remedy(look)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    async fn pair() -> (Wire, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        (Wire::new(Stream::Plain(client)), listener.accept().await.unwrap().0)
    }

    #[tokio::test]
    async fn one_read_gives_one_line_and_keeps_the_rest() {
        let (mut wire, mut server) = pair().await;
        server.write_all(b"220 ready\r\n250 injected\r\n").await.unwrap();
        assert_eq!(wire.line(&mut 0).await.unwrap().unwrap(), b"220 ready\r\n");
        assert_eq!(wire.unread(), 14);
        assert!(!wire.is_idle() && wire.has_spoken());
        assert_eq!(wire.line(&mut 0).await.unwrap().unwrap(), b"250 injected\r\n");
        assert!(wire.is_idle() && !wire.has_spoken());
        drop(server);
        assert_eq!(wire.line(&mut 0).await.unwrap(), None);
        assert!(wire.is_closed() && !wire.is_idle() && !wire.has_spoken());
    }

    #[tokio::test]
    async fn a_line_of_any_length_is_cut_and_half_a_line_is_none() {
        let (mut wire, mut server) = pair().await;
        let long =
            [b"250 ".to_vec(), vec![b'x'; 3 * LINE_LIMIT], b"\r\n\r\n250 ok\r\n250 2.0.0 Queu".to_vec()].concat();
        let sent = tokio::spawn(async move { server.write_all(&long).await });
        assert_eq!(wire.line(&mut 0).await.unwrap().map(|line| line.len()), Some(LINE_LIMIT));
        assert_eq!(wire.line(&mut 0).await.unwrap().unwrap(), b"\r\n");
        assert_eq!(wire.line(&mut 0).await.unwrap().unwrap(), b"250 ok\r\n");
        sent.await.unwrap().unwrap();
        assert_eq!(wire.line(&mut 0).await.unwrap(), None);
        assert_eq!(wire.last_line(), "250 2.0.0 Queu");
    }

    #[tokio::test]
    async fn a_reply_has_an_end() {
        for endless in [&b"250-\r\n"[..], b"\r\n", b"xxxx"] {
            let (mut wire, mut server) = pair().await;
            let flood = tokio::spawn(async move { while server.write_all(endless).await.is_ok() {} });
            let mut bytes = 0;
            let error = loop {
                match wire.line(&mut bytes).await {
                    Ok(line) => assert!(line.is_some()),
                    Err(error) => break error,
                }
            };
            assert_eq!(error.to_string(), "the reply is too long");
            assert!(bytes <= REPLY_LIMIT + LINE_LIMIT, "{bytes}");
            drop(wire);
            flood.await.unwrap();
        }
    }

    #[tokio::test]
    async fn a_server_without_a_name_offers_what_it_says() {
        use smtp_proto::{AUTH_PLAIN, EXT_AUTH, EXT_SIZE, EXT_START_TLS};
        for reply in [
            &b"250-\r\n250-AUTH PLAIN\r\n250-STARTTLS\r\n250 SIZE\r\n"[..],
            b"250- \r\n250-AUTH PLAIN\r\n250-\r\n250-STARTTLS\r\n250 SIZE\r\n",
        ] {
            let (stream, mut server) = pair().await;
            let mut client = SmtpClient { stream, timeout: Duration::from_secs(5) };
            server.write_all(reply).await.unwrap();
            let offers = EhloResponse::parse(&mut client.lines().await.unwrap().regular().as_bytes().iter()).unwrap();
            assert_eq!(offers.capabilities, EXT_AUTH | EXT_START_TLS | EXT_SIZE);
            assert_eq!(offers.auth_mechanisms, AUTH_PLAIN);
        }
    }

    #[tokio::test]
    async fn commands_leave_in_one_piece_at_the_flush() {
        let (mut wire, mut server) = pair().await;
        for command in ["MAIL FROM:<a@b.c>\r\n", "RCPT TO:<d@e.f>\r\n", "DATA\r\n"] {
            wire.write_all(command.as_bytes()).await.unwrap();
        }
        wire.flush().await.unwrap();
        let mut buffer = [0; 100];
        let length = server.read(&mut buffer).await.unwrap();
        assert_eq!(&buffer[..length], b"MAIL FROM:<a@b.c>\r\nRCPT TO:<d@e.f>\r\nDATA\r\n");
    }

    #[tokio::test]
    async fn each_break_has_its_sentence() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let wire = Wire::new(Stream::Plain(stream));
        let limit = Duration::from_secs(120);
        let check = |error, at: &str, what: &str, remedy: &str| {
            let trouble = broken(&error, &wire, "mx", at, limit);
            assert_eq!((trouble.kind, trouble.why.what.as_str()), (TroubleKind::Unreachable, what));
            assert_eq!(trouble.why.remedy, format!("if this persists, check the uplink, option host{remedy}"));
            assert_eq!(trouble.reason(), format!("{what}; {}; mail waits", trouble.why.remedy));
        };
        let tls = ", port and tls (465 implicit, 587 starttls)";
        let port = " and option port";
        check(Error::Timeout, SmtpCommand::Greeting.name(), "mx did not respond for 120 s during the greeting", tls);
        check(Error::Timeout, "EHLO", "mx did not respond for 120 s during EHLO", port);
        let reset = std::io::Error::from(std::io::ErrorKind::ConnectionReset);
        check(Error::Io(reset), "the login", "the connection to mx was lost during the login: connection reset", port);
    }
}
