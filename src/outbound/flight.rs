//! The envelope of a message on its way: MAIL, RCPT and what follows, one by one or all in one flight (RFC 2920).
//!
//! First all replies are read, then they are judged: what a server says late decides about what it said early.

use mail_send::Error;
use smtp_proto::EXT_PIPELINING;
use tokio::time::Duration;

use super::reply::Reply;
use super::transaction::Transaction;

/// What the server said to the commands of an envelope, as far as it got.
#[derive(Default)]
pub(super) struct Replies {
    /// To MAIL.
    pub mail: Option<Reply>,
    /// To RCPT, in the order of the targets; fewer when the conversation ended before.
    pub recipients: Vec<Reply>,
    /// To DATA or BDAT.
    pub last: Option<Reply>,
    /// Why there is no more: the error, what was being done, and how long the server had for it.
    pub broken: Option<(Error, &'static str, Duration)>,
}

impl Replies {
    /// Whether the server has said that it closes the connection.
    pub fn is_closing(&self) -> bool {
        self.mail.iter().chain(&self.recipients).chain(&self.last).any(|reply| reply.code == 421)
    }

    fn took_somebody(&self) -> bool {
        self.mail.as_ref().is_some_and(Reply::is_positive) && self.recipients.iter().any(Reply::is_positive)
    }
}

impl Transaction<'_> {
    /// Sends MAIL, a RCPT for each target, and then DATA, or `chunk`: BDAT with its text. The text of a message goes out
    /// only with BDAT here.
    pub(super) async fn fly(&mut self, mail: &str, chunk: Option<&[u8]>) -> Replies {
        let rcpts: Vec<String> =
            self.targets.iter().map(|target| format!("RCPT TO:<{}>\r\n", target.address)).collect();
        let last = chunk.unwrap_or(b"DATA\r\n");
        let pipelined = self.connection.offers.has_capability(EXT_PIPELINING);
        let mut limit = self.patience().command();
        let mut replies = Replies::default();
        let mut unsent = None;
        if pipelined {
            let flight = [mail.as_bytes(), rcpts.concat().as_bytes(), last].concat();
            // A server that hung up may have said why before.
            if let Err(error) = self.write(&flight).await {
                unsent = Some(error);
                limit = self.patience().goodbye();
            }
        }
        let broken = |error: Error, what, limit| Some((unsent.unwrap_or(error), what, limit));
        match self.ask(mail.as_bytes(), pipelined, limit).await {
            Ok(reply) => replies.mail = Some(reply),
            Err(error) => {
                replies.broken = broken(error, "MAIL", limit);
                return replies;
            }
        }
        // Without pipelining there is no point in asking on after a refusal.
        if !pipelined && !replies.mail.as_ref().is_some_and(Reply::is_positive) {
            return replies;
        }
        for rcpt in &rcpts {
            match self.ask(rcpt.as_bytes(), pipelined, limit).await {
                Ok(reply) => replies.recipients.push(reply),
                Err(error) => {
                    replies.broken = broken(error, "RCPT", limit);
                    return replies;
                }
            }
            if !pipelined && replies.is_closing() {
                return replies;
            }
        }
        if !pipelined && !replies.took_somebody() {
            return replies;
        }
        let name = match chunk {
            // The text is out: what becomes of it must be heard, also of a server that is closing.
            Some(_) if replies.took_somebody() => {
                limit = self.patience().end();
                "the end of the message"
            }
            Some(_) => "the end of the message",
            None if replies.is_closing() => return replies,
            None => "DATA",
        };
        match self.ask(last, pipelined, limit).await {
            Ok(reply) => replies.last = Some(reply),
            Err(error) => replies.broken = broken(error, name, limit),
        }
        replies
    }
}
