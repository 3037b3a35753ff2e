// SPDX-License-Identifier: Apache-2.0
//! `smtprelay send`, also invoked as `sendmail` and `msmtp`: submits mail of local programs to the gateway.
//!
//! The message goes to the running gateway over its local socket, so that it is processed like a device's. If the
//! gateway is not running, the message is written to the queue directly and is sent at the next start.

mod request;

use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, anyhow, bail};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::sync::mpsc;

use crate::config::Settings;
use crate::inbound::accept::LOCAL_SOCKET;
use crate::intake::{Desk, Origin};
use crate::message::{DotStuffer, Envelope, address};
use crate::policy::Policies;
use crate::queue::{Client, Spool, SpoolLock};

pub use request::{Request, Style};

/// Bytes that are searched for recipients in the header.
const HEADER_LIMIT: usize = 64 << 10;

/// The text from stdin: its line endings converted to CRLF, ended by a single dot if that was requested.
struct Source<R> {
    input: R,
    dot_ends: bool,
    pending: Vec<u8>,
    ended: bool,
}

impl<R: Read> Source<R> {
    /// The next chunk; empty at the end.
    fn next(&mut self) -> io::Result<Vec<u8>> {
        let mut out = Vec::new();
        while out.is_empty() && !self.ended {
            let mut chunk = [0; 8192];
            let read = self.input.read(&mut chunk)?;
            self.pending.extend_from_slice(chunk.get(..read).unwrap_or_default());
            if read == 0 {
                self.ended = true;
                if !self.pending.is_empty() {
                    self.pending.push(b'\n');
                }
            }
            while let Some(lf) = memchr::memchr(b'\n', &self.pending) {
                let line: Vec<u8> = self.pending.drain(..=lf).collect();
                let text = line.strip_suffix(b"\n").unwrap_or(&line);
                let text = text.strip_suffix(b"\r").unwrap_or(text);
                if self.dot_ends && text == b"." {
                    self.ended = true;
                    self.pending.clear();
                    break;
                }
                out.extend_from_slice(text);
                out.extend_from_slice(b"\r\n");
            }
            // A line without end is passed on in chunks.
            if self.pending.len() > HEADER_LIMIT {
                out.append(&mut self.pending);
            }
        }
        Ok(out)
    }
}

/// Reads a message from `input` and submits it. Returns the gateway's reply.
///
/// # Errors
/// If there are no recipients, or the gateway does not accept the message; then it was not queued.
pub async fn send(request: Request, input: impl Read, settings: &Settings) -> Result<String> {
    let mut source = Source { input, dot_ends: request.dot_ends, pending: Vec::new(), ended: false };
    let mut head = Vec::new();
    while head.len() < HEADER_LIMIT && memchr::memmem::find(&head, b"\r\n\r\n").is_none() {
        let piece = source.next().context("cannot read the message")?;
        if piece.is_empty() {
            break;
        }
        head.extend_from_slice(&piece);
    }
    let mut to = request.to;
    if request.header_recipients {
        let end = memchr::memmem::find(&head, b"\r\n\r\n").map_or(head.len(), |at| at + 2);
        to.extend(address::recipients_of(head.get(..end).unwrap_or_default()).map_err(anyhow::Error::msg)?);
    }
    if to.is_empty() {
        bail!("no recipient: specify one on the command line, or use -t with a To field");
    }
    let from = request.from.unwrap_or_else(user_name);
    match UnixStream::connect(settings.relay.spool.join(LOCAL_SOCKET)).await {
        Ok(stream) => over_socket(stream, &from, &to, head, source).await,
        Err(_) => into_queue(settings, from, to, head, source).await,
    }
}

fn user_name() -> String {
    let user = nix::unistd::User::from_uid(nix::unistd::getuid()).ok().flatten();
    user.map_or_else(|| "root".to_string(), |user| user.name)
}

/// Expects a reply that begins with `code`; returns its text.
async fn reply(stream: &mut BufReader<UnixStream>, code: &str) -> Result<String> {
    let mut line = String::new();
    loop {
        line.clear();
        if stream.read_line(&mut line).await.context("no reply from the gateway")? == 0 {
            bail!("the gateway closed the connection");
        }
        if line.get(3..4) != Some("-") {
            break;
        }
    }
    let text = line.trim_end().to_string();
    if text.starts_with(code) { Ok(text) } else { Err(anyhow!("the gateway refused the message: {text}")) }
}

async fn over_socket<R: Read>(
    stream: UnixStream,
    from: &str,
    to: &[String],
    head: Vec<u8>,
    mut source: Source<R>,
) -> Result<String> {
    let mut stream = BufReader::new(stream);
    reply(&mut stream, "220").await?;
    let international = if to.iter().all(|a| a.is_ascii()) { "" } else { " SMTPUTF8" };
    let mut commands =
        vec![("EHLO localhost".to_string(), "250"), (format!("MAIL FROM:<{from}>{international}"), "250")];
    commands.extend(to.iter().map(|address| (format!("RCPT TO:<{address}>"), "250")));
    commands.push(("DATA".into(), "354"));
    for (command, code) in commands {
        stream.write_all(format!("{command}\r\n").as_bytes()).await?;
        reply(&mut stream, code).await?;
    }
    let mut dots = DotStuffer::new();
    let mut piece = head;
    loop {
        let mut wire = Vec::new();
        dots.push(&piece, &mut wire);
        stream.write_all(&wire).await?;
        piece = source.next().context("cannot read the message")?;
        if piece.is_empty() {
            break;
        }
    }
    let mut wire = Vec::new();
    dots.finish(&mut wire);
    stream.write_all(&wire).await?;
    let said = reply(&mut stream, "250").await?;
    let _ = stream.write_all(b"QUIT\r\n").await;
    Ok(said)
}

/// Writes the message to the queue of a gateway that is not running.
async fn into_queue<R: Read>(
    settings: &Settings,
    from: String,
    to: Vec<String>,
    head: Vec<u8>,
    mut source: Source<R>,
) -> Result<String> {
    let directory: &Path = &settings.relay.spool;
    let spool = Spool::open(&settings.relay).map_err(anyhow::Error::msg)?;
    let place = directory.to_path_buf();
    let taken =
        crate::system::task::blocking(move || SpoolLock::take(&place)).await.context("the program is shutting down")?;
    let Some(_lock) = taken? else {
        bail!("the gateway is starting or stopping; try again");
    };
    let (arrivals, _kept) = mpsc::unbounded_channel();
    spool.recover();
    let desk = Desk::new(Arc::clone(&spool), arrivals);
    let limit = settings.relay.largest_message();
    let mut intake = desk.begin(Client::Local, limit).map_err(|e| anyhow!("{e}"))?;
    let mut piece = head;
    while !piece.is_empty() {
        intake.push(&piece).await.map_err(|e| anyhow!("{e}"))?;
        piece = source.next().context("cannot read the message")?;
    }
    let to = Policies::new(settings).recipients(None, &to).map_err(|refusal| anyhow!("{refusal}"))?;
    let envelope = Envelope { smtputf8: to.iter().any(|a| !a.is_ascii()), from, to };
    let origin = Origin { helo: "localhost".into(), protocol: "local", ..Origin::default() };
    let fallback = settings.accounts.first().map(|a| a.from.clone()).unwrap_or_default();
    let hostname = settings.relay.hostname();
    let taken = intake.finish(envelope, &origin, &hostname, &fallback).await.map_err(|e| anyhow!("{e}"))?;
    Ok(format!("queued as {}; the gateway is not running, the message will be sent when it is started", taken.id))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &[u8], dot_ends: bool) -> Vec<u8> {
        let mut source = Source { input: text, dot_ends, pending: Vec::new(), ended: false };
        let mut all = Vec::new();
        loop {
            let piece = source.next().unwrap();
            if piece.is_empty() {
                return all;
            }
            all.extend(piece);
        }
    }

    #[test]
    fn a_lone_dot_ends_the_text_unless_told_otherwise() {
        assert_eq!(read(b"a\n.\nb\n", true), b"a\r\n");
        assert_eq!(read(b"a\n.\nb", false), b"a\r\n.\r\nb\r\n");
        assert_eq!(read(b"", true), b"");
    }
}
