//! Hands one message to a provider: MAIL, RCPT, DATA (RFC 5321 section 4.1.1), pipelined where offered (RFC 2920).

use std::time::Instant;

use mail_send::{Error, SmtpClient};
use smtp_proto::{EXT_8BIT_MIME, EXT_PIPELINING, EXT_SIZE, EXT_SMTP_UTF8, Response};
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

impl Transaction<'_> {
    async fn run(&mut self, mail: &str, outgoing: Outgoing, stored: &mut Stored) -> Line {
        let result = match self.envelope(mail).await {
            Ok(accepted) => self.text(accepted, outgoing, stored).await,
            Err(stop) => Err(stop),
        };
        match result {
            Ok(()) => Line::Open,
            Err(Stop::Dead) => Line::Dead,
            Err(Stop::Refused) => match self.client().cmd(b"RSET\r\n").await {
                Ok(reply) if reply.code == 250 => Line::Open,
                _ => Line::Dead,
            },
        }
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

    /// MAIL, all RCPT, DATA. Returns whether the server awaits the text of a message that somebody gets.
    async fn envelope(&mut self, mail: &str) -> Result<bool, Stop> {
        let limit = self.client().timeout;
        let mut commands = vec![mail.to_string()];
        commands.extend(self.targets.iter().map(|t| format!("RCPT TO:<{}>\r\n", t.address)));
        commands.push("DATA\r\n".into());
        let pipelined = self.connection.offers.has_capability(EXT_PIPELINING);
        if pipelined {
            self.write(commands.concat().as_bytes()).await.map_err(|e| self.lost(&e, "MAIL"))?;
        }
        let mut mail_refusal = None;
        let mut accepted = Vec::new();
        let mut targets = std::mem::take(&mut self.targets).into_iter();
        let last = commands.len().saturating_sub(1);
        for (place, command) in commands.iter().enumerate() {
            let what = if place == 0 {
                "MAIL"
            } else if place == last {
                "DATA"
            } else {
                "RCPT"
            };
            // Without pipelining there is no point in asking on after a refusal.
            if !pipelined && (mail_refusal.is_some() || (place == last && accepted.is_empty())) {
                break;
            }
            let reply = match if pipelined { Ok(()) } else { self.write(command.as_bytes()).await } {
                Ok(()) => self.reply(limit).await,
                Err(error) => Err(error),
            };
            let reply = match reply {
                Ok(reply) => reply,
                Err(error) => {
                    self.targets = accepted.into_iter().chain(targets).collect();
                    return Err(self.lost(&error, what));
                }
            };
            match (place, reply.code) {
                (0, 200..=299) => {}
                (0, _) => mail_refusal = Some(reply),
                (_, 354) if place == last => {
                    self.targets =
                        if mail_refusal.is_some() { accepted.into_iter().chain(targets).collect() } else { accepted };
                    // RFC 2920 section 3.1: a server may ask for the text although it took no recipient.
                    return if self.targets.is_empty() || mail_refusal.is_some() {
                        self.empty_message(mail_refusal).await
                    } else {
                        Ok(true)
                    };
                }
                _ if place == last => {
                    self.targets = accepted.into_iter().chain(targets).collect();
                    return Err(match (mail_refusal, self.targets.is_empty()) {
                        (Some(refusal), _) => self.refused(&refusal),
                        // All recipients have their verdict; the refusal of DATA only follows from that.
                        (None, true) => Stop::Refused,
                        (None, false) => self.refused(&reply),
                    });
                }
                _ => {
                    let Some(target) = targets.next() else { continue };
                    let host = &self.account.host;
                    match reply.code {
                        200..=299 => accepted.push(target),
                        // The refusal of a RCPT after that of MAIL says nothing about the recipient.
                        _ if mail_refusal.is_some() => accepted.push(target),
                        _ => {
                            if let Some(trouble) = account_trouble(&reply, host) {
                                self.outcome.results.push((target.index, Verdict::Deferred(trouble.reason.clone())));
                                self.outcome.trouble = Some(trouble);
                            } else {
                                self.outcome.results.push((target.index, judge(&reply, host)));
                            }
                            if reply.code == 421 {
                                self.targets = accepted.into_iter().chain(targets).collect();
                                let verdict = judge(&reply, &self.account.host);
                                self.rest(&verdict);
                                return Err(Stop::Dead);
                            }
                        }
                    }
                }
            }
        }
        self.targets = accepted.into_iter().chain(targets).collect();
        Err(mail_refusal.map_or(Stop::Refused, |refusal| self.refused(&refusal)))
    }

    async fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let client = self.client();
        let written = timeout(BLOCK_TIME, async {
            client.stream.write_all(bytes).await?;
            client.stream.flush().await
        });
        written.await.map_err(|_| Error::Timeout)?.map_err(Error::Io)
    }

    /// Ends a transaction in which the server asked for a text that nobody would get.
    async fn empty_message(&mut self, mail_refusal: Option<Response<String>>) -> Result<bool, Stop> {
        let ended = match self.write(b".\r\n").await {
            Ok(()) => self.reply(FINAL_TIME).await.map(|_| ()),
            Err(error) => Err(error),
        };
        let stop = mail_refusal.map_or(Stop::Refused, |refusal| self.refused(&refusal));
        Err(if ended.is_err() { Stop::Dead } else { stop })
    }

    /// The message itself, from disk, in pieces.
    async fn text(&mut self, wanted: bool, mut outgoing: Outgoing, stored: &mut Stored) -> Result<(), Stop> {
        if !wanted {
            return Err(Stop::Refused);
        }
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
        if (200..=299).contains(&reply.code) {
            let verdict = judge(&reply, &self.account.host);
            self.rest(&verdict);
            return Ok(());
        }
        // After the refusal of a message the server is ready for the next one.
        match self.refused(&reply) {
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
