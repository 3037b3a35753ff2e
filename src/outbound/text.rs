// SPDX-License-Identifier: Apache-2.0
//! The text of a message during delivery: with DATA in chunks (RFC 5321 section 4.1.1.4), or with one BDAT (RFC 3030).

use mail_send::Error;
use smtp_proto::{EXT_AUTH, EXT_CHUNKING, EXT_PIPELINING};
use tokio::io::AsyncWriteExt;
use tokio::time::timeout;

use super::reply::{Answer, Reply, SmtpCommand};
use super::transaction::{Delivery, Stop};
use super::verdict::Verdict;
use crate::message::{DotStuffer, Outgoing};
use crate::queue::{SpoolError, Stored};

/// Bytes of a message that is sent before the server has accepted its envelope.
const CHUNK_LIMIT: u64 = 48 << 10;

impl Delivery<'_> {
    /// A small message as one BDAT command (RFC 3030 section 2), which can go out together with the envelope and saves
    /// the wait for the 354. None where that is not offered, or is unsuitable:
    /// - The server has not shown yet that its replies match our commands, see [`Connection::in_step`]: the
    ///   answer to BDAT is a 250 like those to the envelope, so they cannot be distinguished as with 354.
    /// - It may require a login, and refuse the envelope. The text sent with it would be wasted, and a server that does
    ///   not skip it reads what a device wrote as commands.
    /// - The message was tried before: if a connection breaks during a BDAT it is unknown whether it has arrived,
    ///   with DATA only at the very end.
    ///
    /// [`Connection::in_step`]: super::connection::Connection::in_step
    pub(super) async fn chunk(&mut self, outgoing: &Outgoing, stored: &mut Stored) -> Result<Option<Vec<u8>>, Stop> {
        let offers = |extension| self.connection.offers.has_capability(extension);
        let offered = offers(EXT_CHUNKING) && offers(EXT_PIPELINING);
        let known = self.connection.in_step && (self.account.username.is_some() || !offers(EXT_AUTH));
        let size = stored.body_size.saturating_add(outgoing.header().len() as u64);
        let small = size <= CHUNK_LIMIT && !outgoing.changes_size();
        let first = stored.state.attempts == 0 && stored.state.doubts == 0;
        if !(offered && known && small && first) {
            return Ok(None);
        }
        let mut text = [outgoing.header(), b"\r\n"].concat();
        loop {
            match stored.next().await {
                Ok(piece) if piece.is_empty() => break,
                Ok(piece) => text.extend_from_slice(&piece),
                Err(error) => return Err(self.unreadable(&error)),
            }
        }
        self.chunked = true;
        self.outcome.text_sent = true;
        self.outcome.text_ended = true;
        Ok(Some([format!("BDAT {} LAST\r\n", text.len()).into_bytes(), text].concat()))
    }

    /// The message itself, from disk, in chunks.
    pub(super) async fn text(&mut self, mut outgoing: Outgoing, stored: &mut Stored) -> Result<(), Stop> {
        self.in_step().await?;
        self.outcome.text_sent = true;
        let mut dots = DotStuffer::new();
        let mut wire = Vec::new();
        dots.push(outgoing.header(), &mut wire);
        dots.push(b"\r\n", &mut wire);
        loop {
            let chunk = match stored.next().await {
                Ok(chunk) => chunk,
                Err(error) => return Err(self.unreadable(&error)),
            };
            let mut encoded = Vec::new();
            if chunk.is_empty() {
                if let Err(reason) = outgoing.finish(&mut encoded) {
                    // The text was sent without its end, so the server discards it with the connection.
                    self.rest(&Verdict::Failed(format!("cannot be sent to {}: {reason}", self.account.host).into()));
                    return Err(Stop::Dead);
                }
                dots.push(&encoded, &mut wire);
                break;
            }
            outgoing.push(&chunk, &mut encoded);
            dots.push(&encoded, &mut wire);
            if let Err(error) = self.piece(&wire).await {
                return Err(self.interrupted(error).await);
            }
            wire.clear();
        }
        dots.finish(&mut wire);
        // The last moment: anything received from here on is treated as the answer to the final dot.
        self.in_step().await?;
        self.outcome.text_ended = true;
        if let Err(error) = self.write(&wire).await {
            return Err(self.interrupted(error).await);
        }
        let limit = self.patience().end();
        match self.reply(limit).await {
            Ok(reply) => self.end(&reply),
            Err(error) => Err(self.lost(&error, SmtpCommand::End.name(), limit)),
        }
    }

    /// Makes sure that the server has not sent an unexpected reply: this could not be distinguished from the answer
    /// to the final dot. Without that dot nothing is delivered.
    async fn in_step(&mut self) -> Result<(), Stop> {
        if !self.client().stream.has_spoken() {
            return Ok(());
        }
        let limit = self.patience().goodbye();
        match self.reply(limit).await {
            // It refuses the text before its end.
            Ok(reply) if reply.answers(SmtpCommand::End) == Answer::No => {
                self.refused(&reply);
            }
            Ok(reply) => {
                let reason = format!(
                    "{} replied before the end of the message without being asked: {reply}; so the message was not completed and the connection was closed",
                    self.account.host
                );
                self.outcome.in_step = Some(false);
                self.rest(&Verdict::Deferred(reason.into()));
            }
            Err(error) => {
                self.lost(&error, "the text of the message", limit);
            }
        }
        Err(Stop::Dead)
    }

    /// The server's result for the whole message.
    pub(super) fn end(&mut self, reply: &Reply) -> Result<(), Stop> {
        match reply.answers(SmtpCommand::End) {
            // With BDAT the answers to the envelope look like this one: an extra answer, or one about an address (RFC
            // 3463 section 3.2), shows that it is not the one to the text.
            Answer::Yes if self.chunked && (reply.is_about_address() || self.client().stream.has_spoken()) => {
                Err(self.out_of_step(SmtpCommand::End, reply))
            }
            Answer::Yes => {
                if !self.chunked && !reply.is_about_address() {
                    self.outcome.in_step = Some(!self.client().stream.has_spoken());
                }
                self.rest(&Verdict::Delivered(reply.to_string()));
                Ok(())
            }
            // After the refusal of a message the server is ready for the next one. Whether it belongs to this message
            // is shown by the RSET after a chunk.
            Answer::No => match self.refused(reply) {
                Stop::Refused if !self.chunked => Ok(()),
                stop => Err(stop),
            },
            Answer::Continue | Answer::Odd => Err(self.out_of_step(SmtpCommand::End, reply)),
        }
    }

    async fn piece(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let written = timeout(self.patience().piece(), self.connection.client.stream.write_all(bytes)).await;
        written.map_err(|_| Error::Timeout)?.map_err(Error::Io)
    }

    /// The server closed the connection in the middle of the text; it may have said why.
    async fn interrupted(&mut self, error: Error) -> Stop {
        let limit = self.patience().goodbye();
        match self.reply(limit).await {
            Ok(reply) if reply.answers(SmtpCommand::End) == Answer::No => {
                self.refused(&reply);
                Stop::Dead
            }
            _ => self.lost(&error, "the text of the message", self.patience().piece()),
        }
    }

    /// The disk failed in the middle of the text: without the final dot nothing is delivered.
    fn unreadable(&mut self, error: &SpoolError) -> Stop {
        if let SpoolError::Damaged(reason) = error {
            self.outcome.damaged = Some(reason.clone());
        }
        self.rest(&Verdict::Deferred(error.to_string().into()));
        Stop::Dead
    }
}
