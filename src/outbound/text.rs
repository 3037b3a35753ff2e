//! The text of a message on its way: with DATA in pieces (RFC 5321 section 4.1.1.4), or with BDAT at once (RFC 3030).

use mail_send::Error;
use smtp_proto::{EXT_CHUNKING, EXT_PIPELINING};
use tokio::io::AsyncWriteExt;
use tokio::time::timeout;

use super::reply::Reply;
use super::transaction::{Stop, Transaction};
use super::verdict::Verdict;
use crate::message::{DotStuffer, Outgoing};
use crate::queue::{SpoolError, Stored};

/// Bytes of a message that is sent before the server has agreed to its envelope.
const CHUNK_LIMIT: u64 = 48 << 10;

impl Transaction<'_> {
    /// A small message as one BDAT command (RFC 3030 section 2), which can go out together with the envelope and saves
    /// the wait for the 354. None when the server does not know it, or the message is not small or was tried before: if
    /// a connection breaks with a BDAT under way nobody knows whether it has arrived, with DATA only at the very end.
    pub(super) async fn chunk(&mut self, outgoing: &Outgoing, stored: &mut Stored) -> Result<Option<Vec<u8>>, Stop> {
        let offers = |extension| self.connection.offers.has_capability(extension);
        let size = stored.body_size.saturating_add(outgoing.header().len() as u64);
        let small = size <= CHUNK_LIMIT && !outgoing.changes_size();
        if !offers(EXT_CHUNKING) || !offers(EXT_PIPELINING) || !small || stored.state.attempts > 0 {
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
        Ok(Some([format!("BDAT {} LAST\r\n", text.len()).into_bytes(), text].concat()))
    }

    /// The message itself, from disk, in pieces.
    pub(super) async fn text(&mut self, mut outgoing: Outgoing, stored: &mut Stored) -> Result<(), Stop> {
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
        if let Err(error) = self.write(&wire).await {
            return Err(self.interrupted(error).await);
        }
        let limit = self.patience().end();
        match self.reply(limit).await {
            Ok(reply) => self.end(&reply),
            Err(error) => Err(self.lost(&error, "the end of the message", limit)),
        }
    }

    /// The server's verdict on the whole message.
    pub(super) fn end(&mut self, reply: &Reply) -> Result<(), Stop> {
        if reply.is_positive() {
            self.rest(&Verdict::Delivered(reply.to_string()));
            return Ok(());
        }
        // After the refusal of a message the server is ready for the next one.
        match self.refused(reply) {
            Stop::Refused => Ok(()),
            Stop::Dead => Err(Stop::Dead),
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
            Ok(reply) if reply.code >= 400 => {
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
