//! The envelope of a message on its way: MAIL, RCPT and what follows, one by one or all in one flight (RFC 2920), perhaps
//! with the text behind it (RFC 3030).
//!
//! First all replies are read, then they are judged: what a server says late decides about what it said early.

use mail_send::Error;
use smtp_proto::EXT_PIPELINING;
use tokio::time::Duration;

use super::reply::{Answer, Command, Reply};
use super::transaction::Transaction;

/// What the server said to the commands of an envelope, as far as it got.
#[derive(Default)]
pub(super) struct Replies {
    /// To MAIL.
    pub mail: Option<Reply>,
    /// To RCPT, in the order of the targets; fewer when the conversation ended before.
    pub recipients: Vec<Reply>,
    /// To DATA, or to BDAT: then it is the verdict on the text.
    pub last: Option<(Command, Reply)>,
    /// Why there is no more: the error, the command without a reply, and how long the server had for it.
    pub broken: Option<(Error, Command, Duration)>,
}

impl Replies {
    /// All of them, in their order, with what each answers.
    fn all(&self) -> impl Iterator<Item = (Command, &Reply)> {
        let mail = self.mail.iter().map(|reply| (Command::Mail, reply));
        let recipients = self.recipients.iter().map(|reply| (Command::Rcpt, reply));
        mail.chain(recipients).chain(self.last.iter().map(|(command, reply)| (*command, reply)))
    }

    /// Whether the server has said that it closes the connection.
    pub fn is_closing(&self) -> bool {
        self.all().any(|(_, reply)| reply.code == 421)
    }

    /// The first one that its command can't be answered with.
    pub fn odd(&self) -> Option<(Command, &Reply)> {
        self.all().find(|(command, reply)| reply.answers(*command) == Answer::Odd)
    }

    /// Whether the server took the sender.
    pub fn took_sender(&self) -> bool {
        self.mail.as_ref().is_some_and(|reply| reply.is_yes(Command::Mail))
    }

    /// Whether it took a recipient as well, so that it may take the text.
    pub fn took_somebody(&self) -> bool {
        self.took_sender() && self.recipients.iter().any(|reply| reply.is_yes(Command::Rcpt))
    }
}

impl Transaction<'_> {
    /// Sends MAIL, a RCPT for each target, and then DATA, or `chunk`: BDAT with the text. It is given only where commands
    /// are pipelined.
    pub(super) async fn fly(&mut self, mail: &str, chunk: Option<&[u8]>) -> Replies {
        let rcpts: Vec<String> =
            self.targets.iter().map(|target| format!("RCPT TO:<{}>\r\n", target.address)).collect();
        let (last, command) = match chunk {
            Some(chunk) => (chunk, Command::End),
            None => (b"DATA\r\n".as_slice(), Command::Data),
        };
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
        let broken = |error: Error, command, limit| Some((unsent.unwrap_or(error), command, limit));
        match self.ask(mail.as_bytes(), pipelined, limit).await {
            Ok(reply) => replies.mail = Some(reply),
            Err(error) => {
                replies.broken = broken(error, Command::Mail, limit);
                return replies;
            }
        }
        // Without pipelining there is no point in asking on after a refusal.
        if !pipelined && !replies.took_sender() {
            return replies;
        }
        for rcpt in &rcpts {
            match self.ask(rcpt.as_bytes(), pipelined, limit).await {
                Ok(reply) => replies.recipients.push(reply),
                Err(error) => {
                    replies.broken = broken(error, Command::Rcpt, limit);
                    return replies;
                }
            }
            if !pipelined && (replies.is_closing() || replies.odd().is_some()) {
                return replies;
            }
        }
        let somebody = replies.took_somebody();
        match chunk {
            None if !pipelined && !somebody || replies.is_closing() => return replies,
            // The text is out: what becomes of it must be heard, also of a server that is closing.
            Some(_) if somebody => limit = limit.max(self.patience().end()),
            _ => {}
        }
        match self.ask(last, pipelined, limit).await {
            Ok(reply) => replies.last = Some((command, reply)),
            Err(error) => replies.broken = broken(error, command, limit),
        }
        replies
    }
}
