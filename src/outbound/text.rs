//! The text of a message on its way, in pieces (RFC 5321 section 4.1.1.4).

use mail_send::Error;
use tokio::io::AsyncWriteExt;
use tokio::time::timeout;

use super::reply::{Answer, Command, Reply};
use super::transaction::{Stop, Transaction};
use super::verdict::Verdict;
use crate::message::{DotStuffer, Outgoing};
use crate::queue::{SpoolError, Stored};

impl Transaction<'_> {
    /// The message itself, from disk, in pieces.
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
                    // The text went out without its end, so the server drops it with the connection.
                    self.rest(&Verdict::Failed(format!("can't be sent to {}: {reason}", self.account.host)));
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
        // The last moment: what comes from here on is taken for the answer to the final dot.
        self.in_step().await?;
        self.outcome.text_ended = true;
        if let Err(error) = self.write(&wire).await {
            return Err(self.interrupted(error).await);
        }
        let limit = self.patience().end();
        match self.reply(limit).await {
            Ok(reply) => self.end(&reply),
            Err(error) => Err(self.lost(&error, Command::End.name(), limit)),
        }
    }

    /// Sees to it that the server has said nothing beyond what it was asked: then nobody could tell that from the answer
    /// to the final dot. Without that dot nothing is delivered.
    async fn in_step(&mut self) -> Result<(), Stop> {
        if !self.client().stream.has_spoken() {
            return Ok(());
        }
        let limit = self.patience().goodbye();
        match self.reply(limit).await {
            // It does not wait for the end of the text to refuse it.
            Ok(reply) if reply.answers(Command::End) == Answer::No => {
                self.refused(&reply);
            }
            Ok(reply) => {
                let reason = format!(
                    "{} said before the end of the message, without being asked: {reply}; so the message was not ended and the connection closed; it waits and is tried again",
                    self.account.host
                );
                self.rest(&Verdict::Deferred(reason));
            }
            Err(error) => {
                self.lost(&error, "the text of the message", limit);
            }
        }
        Err(Stop::Dead)
    }

    /// The server's verdict on the whole message.
    fn end(&mut self, reply: &Reply) -> Result<(), Stop> {
        match reply.answers(Command::End) {
            Answer::Yes => {
                self.rest(&Verdict::Delivered(reply.to_string()));
                Ok(())
            }
            // After the refusal of a message the server is ready for the next one.
            Answer::No => match self.refused(reply) {
                Stop::Refused => Ok(()),
                stop => Err(stop),
            },
            Answer::Continue | Answer::Odd => Err(self.out_of_step(Command::End, reply)),
        }
    }

    async fn piece(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let written = timeout(self.patience().piece(), self.connection.client.stream.write_all(bytes)).await;
        written.map_err(|_| Error::Timeout)?.map_err(Error::Io)
    }

    /// The server hung up in the middle of the text; it may have said why.
    async fn interrupted(&mut self, error: Error) -> Stop {
        let limit = self.patience().goodbye();
        match self.reply(limit).await {
            Ok(reply) if reply.answers(Command::End) == Answer::No => {
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
        self.rest(&Verdict::Deferred(error.to_string()));
        Stop::Dead
    }
}
