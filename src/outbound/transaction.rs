//! Hands one message to a provider: MAIL, RCPT, DATA (RFC 5321 section 4.1.1), pipelined where offered (RFC 2920); small
//! messages in one flight with their envelope where the server knows BDAT (RFC 3030).

use std::collections::VecDeque;
use std::time::Instant;

use mail_send::{Error, SmtpClient};
use smtp_proto::{EXT_8BIT_MIME, EXT_CHUNKING, EXT_PIPELINING, EXT_SIZE, EXT_SMTP_UTF8, Response};
use tokio::io::AsyncWriteExt;
use tokio::time::{Duration, timeout};

use super::client::{Connection, broken};
use super::verdict::{Outcome, Trouble, Verdict, account_trouble, judge};
use super::wire::Wire;
use crate::config::Account;
use crate::message::{DotStuffer, Offers, Outgoing, sender};
use crate::queue::record::Progress;
use crate::queue::{SpoolError, Stored};

/// For one piece of the text to leave (RFC 5321 section 4.5.3.2.5).
const BLOCK_TIME: Duration = Duration::from_secs(180);
/// For the answer to the final dot (RFC 5321 section 4.5.3.2.6): giving up early sends the message twice.
const FINAL_TIME: Duration = Duration::from_secs(600);

/// Bytes of a message that is sent before the server has agreed to its envelope.
const CHUNK_LIMIT: u64 = 48 << 10;

/// What is left of the connection after a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Line {
    /// It can carry the next message.
    Open,
    /// It is closed, or nobody knows where the conversation stands.
    Dead,
}

/// One recipient of this transaction.
struct Target {
    /// Index in the envelope.
    index: usize,
    address: String,
}

/// Sends `stored` to all recipients that still wait. Never fails as a whole: what happened stands in the outcome.
pub async fn send(connection: &mut Connection, mut stored: Stored, account: &Account) -> (Outcome, Line) {
    let mut outcome = Outcome { tls: Some(connection.tls.clone()), ..Outcome::default() };
    let utf8 = connection.offers.has_capability(EXT_SMTP_UTF8);
    let mut targets = Vec::new();
    for (index, recipient) in
        stored.state.recipients.iter().enumerate().filter(|(_, r)| r.progress == Progress::Waiting)
    {
        if !recipient.address.is_ascii() && !utf8 {
            let reason = format!("{} does not take international addresses (SMTPUTF8)", account.host);
            outcome.results.push((index, Verdict::Failed(reason)));
        } else {
            targets.push(Target { index, address: recipient.address.clone() });
        }
    }
    if targets.is_empty() {
        return (outcome, Line::Open);
    }
    let rewritten = sender::apply(&stored.header, &stored.meta.envelope.from, account.from_policy, &account.from);
    let offers = Offers { eight_bit_mime: connection.offers.has_capability(EXT_8BIT_MIME), smtputf8: utf8 };
    let outgoing = match Outgoing::new(rewritten.header, stored.meta.form, offers) {
        Ok(outgoing) => outgoing,
        Err(reason) => {
            let failed =
                |t: &Target| (t.index, Verdict::Failed(format!("can't be sent to {}: {reason}", account.host)));
            outcome.results.extend(targets.iter().map(failed));
            return (outcome, Line::Open);
        }
    };
    let mail = mail_command(connection, &rewritten.envelope_from, &outgoing, &stored);
    let mut transaction = Transaction { connection, account, outcome, targets };
    let line = transaction.run(&mail, outgoing, &mut stored).await;
    transaction.connection.messages = transaction.connection.messages.saturating_add(1);
    transaction.connection.used = Instant::now();
    (transaction.outcome, line)
}

/// MAIL with the parameters that the server knows and the message needs (RFC 1870, 6152, 6531).
fn mail_command(connection: &Connection, from: &str, outgoing: &Outgoing, stored: &Stored) -> String {
    let offers = |extension| connection.offers.has_capability(extension);
    let mut command = format!("MAIL FROM:<{from}>");
    if offers(EXT_SIZE) && !outgoing.changes_size() {
        let size = stored.body_size.saturating_add(outgoing.header().len() as u64).saturating_add(2);
        command.push_str(&format!(" SIZE={size}"));
    }
    if outgoing.needs_8bitmime() && offers(EXT_8BIT_MIME) {
        command.push_str(" BODY=8BITMIME");
    }
    let international =
        !from.is_ascii() || outgoing.needs_smtputf8() || stored.meta.envelope.to.iter().any(|a| !a.is_ascii());
    if international && offers(EXT_SMTP_UTF8) {
        command.push_str(" SMTPUTF8");
    }
    command.push_str("\r\n");
    command
}

struct Transaction<'a> {
    connection: &'a mut Connection,
    account: &'a Account,
    outcome: Outcome,
    targets: Vec<Target>,
}

/// Why a transaction ended before its end.
enum Stop {
    /// The server refused; the connection can go on after RSET.
    Refused,
    /// The connection is of no more use.
    Dead,
}

/// What the server said to the commands of a transaction.
struct Replies {
    /// The refusal of MAIL, if it was refused.
    mail_refusal: Option<Response<String>>,
    /// The reply to DATA or BDAT; none when it was not sent.
    last: Option<Response<String>>,
}

impl Transaction<'_> {
    async fn run(&mut self, mail: &str, outgoing: Outgoing, stored: &mut Stored) -> Line {
        match self.hand_over(mail, outgoing, stored).await {
            Ok(()) => Line::Open,
            Err(Stop::Dead) => Line::Dead,
            Err(Stop::Refused) => match self.client().cmd(b"RSET\r\n").await {
                Ok(reply) if reply.code == 250 => Line::Open,
                _ => Line::Dead,
            },
        }
    }

    async fn hand_over(&mut self, mail: &str, outgoing: Outgoing, stored: &mut Stored) -> Result<(), Stop> {
        if let Some(chunk) = self.chunk(&outgoing, stored).await? {
            self.outcome.text_sent = true;
            let Replies { mail_refusal, last } = self.envelope(mail, &chunk).await?;
            return match (mail_refusal, last) {
                (Some(refusal), _) => Err(self.refused(&refusal)),
                // All recipients have their verdict; that of the text only follows from them.
                (None, _) if self.targets.is_empty() => Err(Stop::Refused),
                (None, Some(reply)) => self.end(&reply),
                (None, None) => Err(Stop::Refused),
            };
        }
        let Replies { mail_refusal, last } = self.envelope(mail, b"DATA\r\n").await?;
        match (mail_refusal, last) {
            // RFC 2920 section 3.1: a server may ask for the text although it took no sender or no recipient.
            (refusal, Some(reply)) if reply.code == 354 && (refusal.is_some() || self.targets.is_empty()) => {
                let ended = match self.write(b".\r\n").await {
                    Ok(()) => self.reply(FINAL_TIME).await,
                    Err(error) => Err(error),
                };
                let stop = refusal.map_or(Stop::Refused, |refusal| self.refused(&refusal));
                Err(if ended.is_err() { Stop::Dead } else { stop })
            }
            (Some(refusal), _) => Err(self.refused(&refusal)),
            (None, _) if self.targets.is_empty() => Err(Stop::Refused),
            (None, Some(reply)) if reply.code == 354 => self.text(outgoing, stored).await,
            (None, Some(reply)) => Err(self.refused(&reply)),
            (None, None) => Err(Stop::Refused),
        }
    }

    /// A small message as one BDAT command (RFC 3030 section 2), which can go out together with the envelope and saves
    /// the wait for the 354. None when the server does not know it or the message is not small.
    async fn chunk(&mut self, outgoing: &Outgoing, stored: &mut Stored) -> Result<Option<Vec<u8>>, Stop> {
        let offers = |extension| self.connection.offers.has_capability(extension);
        let size = stored.body_size.saturating_add(outgoing.header().len() as u64);
        if !offers(EXT_CHUNKING) || !offers(EXT_PIPELINING) || outgoing.changes_size() || size > CHUNK_LIMIT {
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

    fn client(&mut self) -> &mut SmtpClient<Wire> {
        &mut self.connection.client
    }

    /// Gives `verdict` to all recipients that have none yet.
    fn rest(&mut self, verdict: &Verdict) {
        self.outcome.results.extend(self.targets.drain(..).map(|t| (t.index, verdict.clone())));
    }

    /// The connection broke: everybody waits. Whether the account has to is seen at the next connection.
    fn lost(&mut self, error: &Error, what: &str) -> Stop {
        let trouble = broken(error, &self.connection.client, &self.account.host, what);
        self.rest(&Verdict::Deferred(trouble.reason));
        Stop::Dead
    }

    async fn reply(&mut self, limit: Duration) -> Result<Response<String>, Error> {
        timeout(limit, self.client().read()).await.unwrap_or(Err(Error::Timeout))
    }

    /// The server refused the whole message.
    fn refused(&mut self, reply: &Response<String>) -> Stop {
        let host = &self.account.host;
        if let Some(trouble) = account_trouble(reply, host) {
            self.pause(trouble);
        } else {
            self.rest(&judge(reply, host));
        }
        if reply.code == 421 { Stop::Dead } else { Stop::Refused }
    }

    fn pause(&mut self, trouble: Trouble) {
        self.rest(&Verdict::Deferred(trouble.reason.clone()));
        self.outcome.trouble = Some(trouble);
    }

    /// MAIL, a RCPT for each target, and `last`, all at once where the server allows it. Leaves those recipients in
    /// `targets` that the server took; the others have their verdict.
    async fn envelope(&mut self, mail: &str, last: &[u8]) -> Result<Replies, Stop> {
        let limit = self.client().timeout;
        let rcpt = |target: &Target| format!("RCPT TO:<{}>\r\n", target.address);
        let pipelined = self.connection.offers.has_capability(EXT_PIPELINING);
        if pipelined {
            let flight = mail.to_string() + &self.targets.iter().map(rcpt).collect::<String>();
            self.write(&[flight.as_bytes(), last].concat()).await.map_err(|e| self.lost(&e, "MAIL"))?;
        }
        let reply = self.ask(mail.as_bytes(), pipelined, limit).await.map_err(|e| self.lost(&e, "MAIL"))?;
        let mail_refusal = (!(200..=299).contains(&reply.code)).then_some(reply);
        // Without pipelining there is no point in asking on after a refusal.
        if mail_refusal.is_some() && !pipelined {
            return Ok(Replies { mail_refusal, last: None });
        }
        let mut waiting = VecDeque::from(std::mem::take(&mut self.targets));
        while let Some(target) = waiting.pop_front() {
            let asked = self.ask(rcpt(&target).as_bytes(), pipelined, limit).await;
            // After the refusal of MAIL that of a RCPT says nothing about the recipient.
            let kept =
                asked.is_err() || mail_refusal.is_some() || matches!(&asked, Ok(r) if (200..=299).contains(&r.code));
            let refused = match &asked {
                Ok(reply) if !kept => self.recipient_refused(&target, reply),
                _ => None,
            };
            if kept {
                self.targets.push(target);
            }
            if let Err(error) = asked {
                self.targets.extend(waiting);
                // A server that hangs up after refusing MAIL has said all there is to say.
                return match mail_refusal {
                    Some(_) => Ok(Replies { mail_refusal, last: None }),
                    None => Err(self.lost(&error, "RCPT")),
                };
            }
            if let Some(verdict) = refused {
                self.targets.extend(waiting);
                self.rest(&verdict);
                return Err(Stop::Dead);
            }
        }
        if self.targets.is_empty() && !pipelined {
            return Ok(Replies { mail_refusal, last: None });
        }
        // With BDAT the text is out, and its reply is the final one.
        let (limit, name) =
            if last.starts_with(b"BDAT") { (FINAL_TIME, "the end of the message") } else { (limit, "DATA") };
        match self.ask(last, pipelined, limit).await {
            Ok(reply) => Ok(Replies { mail_refusal, last: Some(reply) }),
            Err(_) if mail_refusal.is_some() => Ok(Replies { mail_refusal, last: None }),
            Err(error) => Err(self.lost(&error, name)),
        }
    }

    /// Sends `command`, unless it has gone out already, and reads the reply to it.
    async fn ask(&mut self, command: &[u8], sent: bool, limit: Duration) -> Result<Response<String>, Error> {
        if !sent {
            self.write(command).await?;
        }
        self.reply(limit).await
    }

    /// Takes down the refusal of one recipient. Gives the verdict for all the others when the server ends the
    /// conversation with it.
    fn recipient_refused(&mut self, target: &Target, reply: &Response<String>) -> Option<Verdict> {
        let host = &self.account.host;
        let verdict = match account_trouble(reply, host) {
            Some(trouble) => {
                let verdict = Verdict::Deferred(trouble.reason.clone());
                self.outcome.trouble = Some(trouble);
                verdict
            }
            None => judge(reply, host),
        };
        self.outcome.results.push((target.index, verdict.clone()));
        (reply.code == 421).then_some(verdict)
    }

    async fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let client = self.client();
        let written = timeout(BLOCK_TIME, async {
            client.stream.write_all(bytes).await?;
            client.stream.flush().await
        });
        written.await.map_err(|_| Error::Timeout)?.map_err(Error::Io)
    }

    /// The message itself, from disk, in pieces.
    async fn text(&mut self, mut outgoing: Outgoing, stored: &mut Stored) -> Result<(), Stop> {
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
        let reply = match self.reply(FINAL_TIME).await {
            Ok(reply) => reply,
            Err(error) => return Err(self.lost(&error, "the end of the message")),
        };
        self.end(&reply)
    }

    /// The server's verdict on the whole message.
    fn end(&mut self, reply: &Response<String>) -> Result<(), Stop> {
        if (200..=299).contains(&reply.code) {
            let verdict = judge(reply, &self.account.host);
            self.rest(&verdict);
            return Ok(());
        }
        // After the refusal of a message the server is ready for the next one.
        match self.refused(reply) {
            Stop::Refused => Ok(()),
            Stop::Dead => Err(Stop::Dead),
        }
    }

    async fn piece(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let written = timeout(BLOCK_TIME, self.client().stream.write_all(bytes)).await;
        written.map_err(|_| Error::Timeout)?.map_err(Error::Io)
    }

    /// The server hung up in the middle of the text; it may have said why.
    async fn interrupted(&mut self, error: Error) -> Stop {
        const LAST_WORDS: Duration = Duration::from_secs(2);
        match self.reply(LAST_WORDS).await {
            Ok(reply) if reply.code >= 400 => {
                self.refused(&reply);
                Stop::Dead
            }
            _ => self.lost(&error, "the text of the message"),
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
