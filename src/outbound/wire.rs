//! The stream below mail-send's client: gives it one reply line at a time and sends its commands in one piece.
//!
//! mail-send drops what arrives behind the reply that it waits for. Handing it single lines keeps everything else here,
//! where it can be seen: bytes behind the answer to STARTTLS are an attack (RFC 3207 section 6), replies behind a reply
//! belong to the next command.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use super::mask::Mask;
use super::trace::Trace;

/// Bytes of the longest reply line: eight times what RFC 5321 section 4.5.3.1.5 allows.
const LINE_LIMIT: usize = 4096;
/// Bytes of the longest reply of many lines: EHLO of a server that offers much has a tenth.
const REPLY_LIMIT: usize = 64 << 10;
/// Bytes that are collected before they are sent.
const WRITE_BUFFER: usize = 16 << 10;

/// A connection with or without TLS.
pub enum Stream {
    /// Readable by all on the way.
    Plain(TcpStream),
    /// Protected.
    Tls(Box<TlsStream<TcpStream>>),
    /// Nothing: the connection is being upgraded.
    Closed,
}

/// A [`Stream`] by lines.
pub struct Wire {
    stream: Stream,
    input: Vec<u8>,
    output: Vec<u8>,
    sent: usize,
    last_line: String,
    /// What must not be shown of what the server says.
    pub mask: Mask,
    /// Bytes of lines so far that say "more follows" (RFC 5321 section 4.2.1).
    continued: usize,
    closed: bool,
    /// Who looks on, if somebody does.
    trace: Option<Trace>,
}

impl Wire {
    /// Takes over `stream`.
    pub fn new(stream: Stream) -> Self {
        Self {
            stream,
            input: Vec::new(),
            output: Vec::new(),
            sent: 0,
            last_line: String::new(),
            mask: Mask::default(),
            continued: 0,
            closed: false,
            trace: None,
        }
    }

    /// Lets somebody look on.
    pub fn follow(mut self, trace: Option<&Trace>) -> Self {
        self.trace = trace.cloned();
        self
    }

    /// The last reply line that was handed out, for error messages.
    pub fn last_line(&self) -> &str {
        &self.last_line
    }

    /// Whether the other side has closed the connection.
    pub fn is_closed(&self) -> bool {
        self.closed
    }

    /// Bytes that have arrived and that nobody has asked for.
    pub fn unread(&self) -> usize {
        self.input.len()
    }

    /// The stream itself, for its TLS facts.
    pub fn stream(&self) -> &Stream {
        &self.stream
    }

    /// Takes the TCP connection out, to put TLS on it.
    ///
    /// # Errors
    /// When it has TLS already.
    pub fn into_tcp(mut self) -> io::Result<TcpStream> {
        match std::mem::replace(&mut self.stream, Stream::Closed) {
            Stream::Plain(tcp) => Ok(tcp),
            Stream::Tls(_) | Stream::Closed => Err(io::Error::other("the connection has TLS already")),
        }
    }

    /// Whether an idle connection is still good: nothing has arrived (a server that says something now says goodbye)
    /// and it is not closed. Does not wait.
    pub fn is_idle(&mut self) -> bool {
        if self.closed || !self.input.is_empty() {
            return false;
        }
        let mut byte = [0; 1];
        let mut buffer = ReadBuf::new(&mut byte);
        let mut context = Context::from_waker(std::task::Waker::noop());
        self.stream.poll_read(&mut context, &mut buffer).is_pending()
    }

    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(rest) = self.output.get(self.sent..).filter(|rest| !rest.is_empty()) {
            let written = match &mut self.stream {
                Stream::Plain(tcp) => ready!(Pin::new(tcp).poll_write(cx, rest))?,
                Stream::Tls(tls) => ready!(Pin::new(tls).poll_write(cx, rest))?,
                Stream::Closed => 0,
            };
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.sent += written;
        }
        self.output.clear();
        self.sent = 0;
        Poll::Ready(Ok(()))
    }
}

impl Stream {
    fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Plain(tcp) => Pin::new(tcp).poll_read(cx, buffer),
            Self::Tls(tls) => Pin::new(tls).poll_read(cx, buffer),
            Self::Closed => Poll::Ready(Ok(())),
        }
    }
}

impl AsyncRead for Wire {
    /// Hands out at most one line.
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        loop {
            let line = memchr::memchr(b'\n', &this.input).map(|at| at + 1);
            // A line that outgrows the reader's buffer or the limit goes out in pieces; the parser joins or refuses it.
            let ready = line.or_else(|| (this.input.len() >= LINE_LIMIT || this.closed).then_some(this.input.len()));
            if let Some(length) = ready {
                let piece: Vec<u8> = this.input.drain(..length.min(out.remaining())).collect();
                if !piece.is_empty() {
                    if let Some(trace) = &this.trace {
                        trace.received(&piece);
                    }
                    this.last_line = String::from_utf8_lossy(&piece).trim_end().to_string();
                }
                // The parser above collects such lines for as long as they come.
                this.continued = match piece.get(3) {
                    Some(b'-') => this.continued.saturating_add(piece.len()),
                    _ => 0,
                };
                if this.continued > REPLY_LIMIT {
                    this.closed = true;
                    return Poll::Ready(Err(io::Error::other("a reply without an end")));
                }
                out.put_slice(&piece);
                return Poll::Ready(Ok(()));
            }
            let mut bytes = [0; 2048];
            let mut buffer = ReadBuf::new(&mut bytes);
            match ready!(this.stream.poll_read(cx, &mut buffer)) {
                Ok(()) if buffer.filled().is_empty() => this.closed = true,
                Ok(()) => this.input.extend_from_slice(buffer.filled()),
                // Many servers close a TLS connection without saying so.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => this.closed = true,
                Err(error) => {
                    this.closed = true;
                    return Poll::Ready(Err(error));
                }
            }
        }
    }
}

impl AsyncWrite for Wire {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.output.len() >= WRITE_BUFFER {
            ready!(self.poll_send(cx))?;
        }
        self.output.extend_from_slice(bytes);
        if let Some(trace) = &self.trace {
            trace.sent(bytes);
        }
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_send(cx))?;
        match &mut self.stream {
            Stream::Plain(tcp) => Pin::new(tcp).poll_flush(cx),
            Stream::Tls(tls) => Pin::new(tls).poll_flush(cx),
            Stream::Closed => Poll::Ready(Ok(())),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_send(cx))?;
        match &mut self.stream {
            Stream::Plain(tcp) => Pin::new(tcp).poll_shutdown(cx),
            Stream::Tls(tls) => Pin::new(tls).poll_shutdown(cx),
            Stream::Closed => Poll::Ready(Ok(())),
        }
    }
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
        let mut buffer = [0; 100];
        let length = wire.read(&mut buffer).await.unwrap();
        assert_eq!(&buffer[..length], b"220 ready\r\n");
        assert_eq!(wire.unread(), 14);
        assert!(!wire.is_idle());
        let length = wire.read(&mut buffer).await.unwrap();
        assert_eq!(&buffer[..length], b"250 injected\r\n");
        assert!(wire.is_idle());
        drop(server);
        assert_eq!(wire.read(&mut buffer).await.unwrap(), 0);
        assert!(wire.is_closed() && !wire.is_idle());
    }

    #[tokio::test]
    async fn a_reply_has_an_end() {
        let (mut wire, mut server) = pair().await;
        let flood = tokio::spawn(async move { while server.write_all(b"250-\r\n").await.is_ok() {} });
        let mut taken = 0;
        let error = loop {
            match wire.read(&mut [0; 100]).await {
                Ok(length) => taken += length,
                Err(error) => break error,
            }
        };
        assert_eq!(error.to_string(), "a reply without an end");
        assert!(taken <= REPLY_LIMIT);
        drop(wire);
        flood.await.unwrap();
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
}
