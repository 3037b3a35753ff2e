// SPDX-License-Identifier: Apache-2.0
//! The two directions of a conversation: lines and bytes in, replies out, encrypted from some point on. Knows nothing
//! about SMTP.

use std::future::poll_fn;
use std::io::{self, ErrorKind};
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

/// Bytes read at a time.
const READ: usize = 8 << 10;
/// Maximum length of a command line: RFC 4954 section 4 asks for 12288 bytes during a login, RFC 5321 section 4.5.3.1.4
/// for 512.
const LINE_LIMIT: usize = 12_288;
/// Bytes of replies that are buffered while there is input to process; beyond that they are written out first. A client
/// that never reads therefore stalls its own session and costs no memory.
const REPLIES: usize = 4 << 10;
/// How long a reply may wait for a client that does not read it.
const WRITE_TIME: Duration = Duration::from_secs(60);
/// How long a TLS handshake may take; small devices need seconds for one.
const HANDSHAKE_TIME: Duration = Duration::from_secs(60);
/// How long and how much is read after our last reply, so that the client sees it before the connection is reset.
const LINGER_TIME: Duration = Duration::from_secs(2);
const LINGER_BYTES: usize = 64 << 10;

/// The result of reading a line.
#[derive(Debug, PartialEq, Eq)]
pub enum InputLine {
    /// A line without its line ending.
    Whole(Vec<u8>),
    /// A line that was too long; it was discarded.
    TooLong,
    /// No complete line has arrived yet.
    NotYet,
}

/// The result of waiting for input.
#[derive(Debug)]
pub enum Input {
    /// Data arrived.
    Some,
    /// The client has closed its side.
    End,
    /// Nothing arrived before the timeout.
    Silence,
    /// The connection failed.
    Broken(io::Error),
}

/// What a conversation can run over: TCP, a local socket, or TLS on top of either.
pub trait Transport: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Transport for S {}

/// One type for all kinds of connections: generic code would be compiled, and shipped, once for each.
pub type Stream = Box<dyn Transport>;

/// Performs the handshake. Returns the encrypted stream and the version, such as `TLSv1.3`.
///
/// # Errors
/// If it fails or takes too long; [`explain`](super::tls::explain) describes the reason.
pub async fn handshake(acceptor: &TlsAcceptor, stream: Stream) -> io::Result<(Stream, String)> {
    let late = || io::Error::new(ErrorKind::TimedOut, format!("not completed within {} s", HANDSHAKE_TIME.as_secs()));
    let tls = tokio::time::timeout(HANDSHAKE_TIME, acceptor.accept(stream)).await.map_err(|_| late())??;
    let version = tls.get_ref().1.protocol_version();
    let version = version.and_then(|v| v.as_str()).map(|name| name.replace('_', "."));
    Ok((Box::new(tls), version.unwrap_or_else(|| "TLS".into())))
}

/// A conversation on `stream`. At most 20 kB of unread input are kept in memory.
pub struct Talk {
    stream: Stream,
    input: Vec<u8>,
    output: Vec<u8>,
    /// False once a reply could not be written: from then on the session only reads.
    answering: bool,
    /// Whether every line so far ended with LF alone.
    bare_lf: bool,
    /// Whether the last line did.
    ended_bare: bool,
    /// Inside a line that is too long.
    overlong: bool,
}

impl Talk {
    /// Starts a conversation.
    pub fn new(stream: Stream) -> Self {
        Self {
            stream,
            input: Vec::new(),
            output: Vec::new(),
            answering: true,
            bare_lf: true,
            ended_bare: false,
            overlong: false,
        }
    }

    /// Whether the last line taken ended with LF alone.
    pub fn ended_bare(&self) -> bool {
        self.ended_bare
    }

    /// Whether every line so far ended with LF alone.
    pub fn bare_lf(&self) -> bool {
        self.bare_lf
    }

    /// Whether the beginning of a line has arrived but not its end.
    pub fn in_line(&self) -> bool {
        self.overlong || !self.input.is_empty()
    }

    /// Input that has arrived and is not used yet.
    pub fn unread(&self) -> &[u8] {
        &self.input
    }

    /// Removes `count` bytes from the input, or all of it if there are fewer.
    pub fn used(&mut self, count: usize) {
        self.input.drain(..count.min(self.input.len()));
        self.spare();
    }

    /// A buffer in which nothing is left is not kept, neither for the rest of the session nor while a message is written.
    fn spare(&mut self) {
        if self.input.is_empty() {
            self.input = Vec::new();
        }
    }

    /// Removes the next line from the input.
    pub fn line(&mut self) -> InputLine {
        let Some(lf) = memchr::memchr(b'\n', &self.input) else {
            if self.input.len() > LINE_LIMIT {
                self.input.clear();
                self.overlong = true;
            }
            return InputLine::NotYet;
        };
        let mut line: Vec<u8> = self.input.drain(..=lf).collect();
        line.pop();
        self.ended_bare = line.last() != Some(&b'\r');
        if !self.ended_bare {
            line.pop();
            self.bare_lf = false;
        }
        if std::mem::take(&mut self.overlong) || line.len() > LINE_LIMIT {
            InputLine::TooLong
        } else {
            InputLine::Whole(line)
        }
    }

    /// Whether so many replies are buffered that they should be sent before anything else is done.
    pub fn must_flush(&self) -> bool {
        self.output.len() >= REPLIES
    }

    /// Buffers a reply.
    pub fn reply(&mut self, text: &str) {
        if !self.answering {
            return;
        }
        self.output.extend_from_slice(text.as_bytes());
        self.output.extend_from_slice(b"\r\n");
    }

    /// Sends the buffered replies together, as pipelining requires (RFC 2920 section 3.2).
    pub async fn flush(&mut self) {
        let output = std::mem::take(&mut self.output);
        if output.is_empty() || !self.answering {
            return;
        }
        let sent = timeout(WRITE_TIME, async {
            self.stream.write_all(&output).await?;
            self.stream.flush().await
        });
        // A client that has gone or does not read may still have sent a complete message.
        self.answering = matches!(sent.await, Ok(Ok(())));
    }

    /// Waits for more input.
    pub async fn fill(&mut self, limit: Duration) -> Input {
        self.spare();
        match timeout(limit, poll_fn(|context| self.poll_input(context))).await {
            Ok(Ok(0)) => Input::End,
            Ok(Ok(_)) => Input::Some,
            Ok(Err(error)) => Input::Broken(error),
            Err(_) => Input::Silence,
        }
    }

    /// Appends what has arrived. It is read onto the stack first, so that a session that waits has no buffer: there may
    /// be hundreds that never say anything.
    fn poll_input(&mut self, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let mut space = [MaybeUninit::uninit(); READ];
        let mut arrived = ReadBuf::uninit(&mut space);
        ready!(Pin::new(&mut self.stream).poll_read(context, &mut arrived))?;
        self.input.extend_from_slice(arrived.filled());
        Poll::Ready(Ok(arrived.filled().len()))
    }

    /// Switches to TLS. Input that arrived before and is not used yet is discarded: an attacker in the path could have
    /// injected it, to have it treated as part of the protected session (RFC 3207 section 6, CVE-2011-0411). Returns
    /// the TLS version.
    ///
    /// # Errors
    /// If the handshake fails. After that nothing more can be sent.
    pub async fn start_tls(&mut self, acceptor: &TlsAcceptor) -> io::Result<String> {
        self.flush().await;
        let plain = std::mem::replace(self, Self::new(Box::new(tokio::io::empty())));
        let (stream, version) = handshake(acceptor, plain.stream).await?;
        *self = Self::new(stream);
        Ok(version)
    }

    /// Closes the connection in a way that lets the client read the last replies.
    pub async fn goodbye(mut self) {
        self.flush().await;
        // The end of a TLS session is a message as well, for which there may be no room.
        let closed = timeout(LINGER_TIME, self.stream.shutdown());
        if !self.answering || !matches!(closed.await, Ok(Ok(()))) {
            return;
        }
        let mut left = LINGER_BYTES;
        let mut waste = vec![0; 1024];
        let _ = timeout(LINGER_TIME, async {
            while left > 0 {
                match self.stream.read(&mut waste).await {
                    Ok(0) | Err(_) => break,
                    Ok(read) => left = left.saturating_sub(read),
                }
            }
        })
        .await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn lines_of_both_kinds_and_lines_that_are_too_long() {
        let (ours, mut theirs) = tokio::io::duplex(64 << 10);
        let mut talk = Talk::new(Box::new(ours));
        let long = [b"x".repeat(30_000), b"\r\nNOOP\r\n".to_vec()].concat();
        theirs.write_all(b"EHLO a\nMAIL").await.unwrap();
        assert!(matches!(talk.fill(Duration::from_secs(5)).await, Input::Some));
        assert_eq!(talk.line(), InputLine::Whole(b"EHLO a".to_vec()));
        assert_eq!((talk.line(), talk.bare_lf()), (InputLine::NotYet, true));
        theirs.write_all(&long).await.unwrap();
        drop(theirs);
        let mut lines = Vec::new();
        while let Input::Some = talk.fill(Duration::from_secs(5)).await {
            loop {
                match talk.line() {
                    InputLine::NotYet => break,
                    line => lines.push(line),
                }
            }
        }
        assert_eq!(lines, [InputLine::TooLong, InputLine::Whole(b"NOOP".to_vec())]);
        assert!(!talk.bare_lf());
    }
}
