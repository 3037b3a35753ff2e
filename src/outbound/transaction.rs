// SPDX-License-Identifier: Apache-2.0
//! Sends one message to a provider: MAIL, RCPT, DATA (RFC 5321 section 4.1.1), pipelined where offered (RFC 2920). Its
//! text goes in chunks by DATA (section 4.1.1.4), or with one BDAT (RFC 3030).
//!
//! A small message is sent in one flight with its envelope (RFC 3030), but only to a server that has shown that its
//! replies match our commands; all others get no text before they have asked for it with 354.
//!
//! First all replies of a flight are read, then they are evaluated: a late reply may decide what an early one means.

use std::time::Instant;

use mail_send::Error;
use smtp_proto::{EXT_8BIT_MIME, EXT_AUTH, EXT_CHUNKING, EXT_PIPELINING, EXT_SIZE, EXT_SMTP_UTF8};
use tokio::time::{Duration, timeout};

use super::connection::{Connection, Patience};
use super::reply::{Answer, Reply, SmtpCommand};
use super::reply_table;
use super::verdict::{Judged, Outcome, Stage, Verdict, judge, judge_relaying, login_missing};
use super::wire::{SmtpClient, broken};
use crate::config::Account;
use crate::message::address::for_envelope;
use crate::message::sender::{self, FromPolicy};
use crate::message::{DotStuffer, Offers, Outgoing};
use crate::net::{Explanation, Trouble};
use crate::queue::{Progress, SpoolError, Stored};

/// The state of the connection after a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConnectionState {
    /// It can be used for the next message.
    Open,
    /// It works, but the server accepts no more on it, or slows it down: it is closed with QUIT.
    Spent,
    /// It is closed, or the state of the conversation is unknown.
    Dead,
}

/// Bytes of a message that is sent before the server has accepted its envelope.
const CHUNK_LIMIT: u64 = 48 << 10;
/// Refusals on one connection after which it is closed. Servers slow down clients that get many: Postfix delays each
/// reply by a second after ten (smtpd_soft_error_limit), and a flight that is refused as a whole is several errors.
const REFUSALS: usize = 5;
/// Recipients that are named before it is known how many of them are refused. If most are, the others are named on a
/// new connection: a list of addresses that no longer exist must not slow down the mail behind it.
const FIRST_FLIGHT: usize = 10;

/// One recipient of this transaction.
struct Target {
    /// Index in the envelope.
    index: usize,
    /// The address as used in RCPT.
    address: String,
}

/// Sends `stored` to all pending recipients. Never fails as a whole: the results are in the outcome.
pub async fn send(connection: &mut Connection, mut stored: Stored, account: &Account) -> (Outcome, ConnectionState) {
    let mut outcome = Outcome { tls: Some(connection.tls.clone()), ..Outcome::default() };
    let utf8 = connection.offers.has_capability(EXT_SMTP_UTF8);
    let mut targets = Vec::new();
    for (index, recipient) in
        stored.state.recipients.iter().enumerate().filter(|(_, r)| r.progress == Progress::Waiting)
    {
        match for_envelope(&recipient.address, utf8) {
            Some(address) => targets.push(Target { index, address }),
            None => {
                let mut reason = format!("{} does not support international addresses (SMTPUTF8)", account.host);
                if recipient.address.rsplit_once('@').is_some_and(|(local, _)| local.is_ascii()) {
                    reason.push_str(", and the domain cannot be written in ASCII");
                }
                outcome.results.push((index, Verdict::Failed(reason.into())));
            }
        }
    }
    if targets.is_empty() {
        return (outcome, ConnectionState::Open);
    }
    let mut senders = account.senders();
    if !utf8 && sender::needs_utf8(&stored.header, &stored.meta.envelope.from) {
        // The server does not support this sender, so the account's address replaces it.
        senders.policy = FromPolicy::Account;
    }
    let rewritten = sender::apply(&stored.header, &stored.meta.envelope.from, senders);
    let Some(from) = for_envelope(&rewritten.envelope_from, utf8) else {
        let reason =
            format!("{} does not support the sender <{}> (no SMTPUTF8)", account.host, rewritten.envelope_from);
        let remedy = format!("set option from of account '{}' to an ASCII address", account.name);
        // Other messages have other senders.
        let failed = Verdict::Failed(Explanation::new(reason, remedy));
        outcome.results.extend(targets.iter().map(|target| (target.index, failed.clone())));
        return (outcome, ConnectionState::Open);
    };
    let offers = Offers { eight_bit_mime: connection.offers.has_capability(EXT_8BIT_MIME), smtputf8: utf8 };
    let outgoing = match Outgoing::new(rewritten.header, stored.meta.form, offers) {
        Ok(outgoing) => outgoing,
        Err(reason) => {
            let failed =
                |t: &Target| (t.index, Verdict::Failed(format!("cannot be sent to {}: {reason}", account.host).into()));
            outcome.results.extend(targets.iter().map(failed));
            return (outcome, ConnectionState::Open);
        }
    };
    let international = !from.is_ascii() || targets.iter().any(|target| !target.address.is_ascii());
    let mail = mail_command(connection, &from, international, &outgoing, &stored);
    let (own_sender, own_header) = (rewritten.own_envelope, rewritten.own_header);
    let mut transaction = Delivery { connection, account, outcome, targets, own_sender, own_header, chunked: false };
    let line = transaction.run(&mail, outgoing, &mut stored).await;
    transaction.connection.messages = transaction.connection.messages.saturating_add(1);
    transaction.connection.used = Instant::now();
    match line {
        ConnectionState::Open if transaction.connection.refusals >= REFUSALS => {
            (transaction.outcome, ConnectionState::Spent)
        }
        line => (transaction.outcome, line),
    }
}

/// MAIL with the parameters that the server supports and the message needs (RFC 1870, 6152, 6531). `international`: one
/// of its addresses is not ASCII.
fn mail_command(
    connection: &Connection,
    from: &str,
    international: bool,
    outgoing: &Outgoing,
    stored: &Stored,
) -> String {
    let offers = |extension| connection.offers.has_capability(extension);
    let mut command = format!("MAIL FROM:<{from}>");
    if offers(EXT_SIZE) && !outgoing.changes_size() {
        let size = stored.body_size.saturating_add(outgoing.header().len() as u64).saturating_add(2);
        command.push_str(&format!(" SIZE={size}"));
    }
    if outgoing.needs_8bitmime() && offers(EXT_8BIT_MIME) {
        command.push_str(" BODY=8BITMIME");
    }
    if (international || outgoing.needs_smtputf8()) && offers(EXT_SMTP_UTF8) {
        command.push_str(" SMTPUTF8");
    }
    command.push_str("\r\n");
    command
}

/// One message in delivery.
struct Delivery<'a> {
    connection: &'a mut Connection,
    account: &'a Account,
    outcome: Outcome,
    /// Recipients without a result yet.
    targets: Vec<Target>,
    /// The sender is the account's own address.
    own_sender: bool,
    /// So are From and Sender in the header.
    own_header: bool,
    /// The text was sent with the envelope.
    chunked: bool,
}

/// Why a transaction ended early.
enum Stop {
    /// The server refused; the connection can be used again after RSET.
    Refused,
    /// The server accepts no more on this connection.
    Spent,
    /// The connection cannot be used any more.
    Dead,
}

impl Delivery<'_> {
    async fn run(&mut self, mail: &str, outgoing: Outgoing, stored: &mut Stored) -> ConnectionState {
        match self.hand_over(mail, outgoing, stored).await {
            Ok(()) => ConnectionState::Open,
            Err(Stop::Dead) => ConnectionState::Dead,
            // Whether the server has skipped the text matters for the next connection as well.
            Err(Stop::Spent) if self.chunked && self.reset().await == ConnectionState::Dead => ConnectionState::Dead,
            Err(Stop::Spent) => ConnectionState::Spent,
            Err(Stop::Refused) => self.reset().await,
        }
    }

    /// RSET after a refusal, which also checks whether both sides are in step: it gets one reply, and nothing came
    /// before. A server that did not skip the text that it refused with its envelope reads it as commands, and answers
    /// them (RFC 3030 section 2 forbids that).
    async fn reset(&mut self) -> ConnectionState {
        let answer = self.ask(b"RSET\r\n", false, self.patience().goodbye()).await;
        let more = self.client().stream.has_more();
        let yes = answer.as_ref().is_ok_and(|reply| reply.is_yes(SmtpCommand::Reset));
        if yes && !more {
            return ConnectionState::Open;
        }
        // A 354 here answers the earlier DATA: then the reply taken for its answer belonged to something else.
        if let Ok(reply) = &answer
            && (self.chunked || more || reply.answers(SmtpCommand::Reset) == Answer::Odd)
            && reply.code != 421
        {
            self.take_back(SmtpCommand::Reset, reply);
        }
        if self.chunked {
            self.outcome.in_step = Some(false);
        }
        ConnectionState::Dead
    }

    async fn hand_over(&mut self, mail: &str, outgoing: Outgoing, stored: &mut Stored) -> Result<(), Stop> {
        let chunk = self.chunk(&outgoing, stored).await?;
        let mut replies = self.fly(mail, chunk.as_deref()).await;
        // If the reply to the text came at its place, so did the others.
        if !replies.has_taken_text() || self.client().stream.has_more() {
            replies.end_at_closing();
        }
        let closing = replies.is_closing();
        let done = self.land(replies, outgoing, stored).await;
        // After 421 the server closes the connection, whatever else it says (RFC 5321 section 3.8).
        if closing { Err(Stop::Dead) } else { done }
    }

    /// What the replies to a flight mean, and what remains to be done.
    async fn land(&mut self, replies: Replies, outgoing: Outgoing, stored: &mut Stored) -> Result<(), Stop> {
        if let Some((command, reply)) = replies.odd() {
            // It is unknown which command each of the others answers.
            return Err(self.out_of_step(command, reply));
        }
        let asked_all = replies.recipients.len() == self.targets.len();
        let answered = asked_all || !replies.took_sender() || replies.is_closing();
        if replies.mail.is_some() && !replies.took_somebody() && answered {
            // No recipient accepts the text: if it was sent, it has not arrived.
            self.text_is_nowhere();
        }
        if let Some((error, SmtpCommand::Mail, _)) = &replies.broken
            && self.connection.messages > 0
            && self.connection.client.stream.was_closed(error)
        {
            // It had closed the kept connection before it read the flight: it answers in order, so there would be a
            // reply to MAIL before the one to the text.
            self.text_is_nowhere();
        }
        let Replies { mail, recipients, last, broken } = replies;
        let refusal = mail.filter(|reply| !reply.is_yes(SmtpCommand::Mail));
        if self.is_of_connection(refusal.as_ref(), &recipients, last.as_ref()) {
            self.targets.clear();
            self.outcome.again = true;
            return Err(Stop::Spent);
        }
        self.outcome.sender_taken = refusal.is_none();
        match refusal {
            Some(refusal) => self.sender_refused(&refusal),
            None => self.take_down(&recipients),
        }
        let nobody = self.targets.is_empty();
        match (last, broken) {
            // RFC 2920 section 3.1: a server may ask for the text although it accepted no sender or no recipient.
            (Some((SmtpCommand::Data, reply)), _) if reply.is_yes(SmtpCommand::Data) && nobody => {
                self.empty_text().await
            }
            // A text without recipients cannot be accepted: this answers something else, and so did the refusals.
            (Some((command, reply)), _) if nobody && reply.is_yes(command) => {
                self.take_back(command, &reply);
                Err(Stop::Dead)
            }
            (_, None) if nobody => Err(Stop::Refused),
            (_, Some(_)) if nobody => Err(Stop::Dead),
            (Some((SmtpCommand::End, reply)), _) => self.end(&reply),
            (Some((command, reply)), _) if reply.is_yes(command) => self.text(outgoing, stored).await,
            (Some((_, reply)), _) => Err(self.refused(&reply)),
            (None, Some((error, command, limit))) => Err(self.lost(&error, command.name(), limit)),
            // The server is closing. It has the text if that was sent with the envelope.
            (None, None) => {
                self.doubt();
                Err(Stop::Dead)
            }
        }
    }

    /// Whether the refusal may only concern this connection, since it has carried messages before: servers
    /// limit their number, and the time. The reply on a new connection decides.
    fn is_of_connection(
        &self,
        mail: Option<&Reply>,
        recipients: &[Reply],
        last: Option<&(SmtpCommand, Reply)>,
    ) -> bool {
        if self.connection.messages == 0 {
            return false;
        }
        if let Some(refusal) = mail {
            // Only the sender and the size of the message are known so far. 503 is about what came before.
            return refusal.code < 500 || refusal.code == 503 || reply_table::is_of_connection(refusal);
        }
        let (taken, refused): (Vec<_>, Vec<_>) = recipients.iter().partition(|reply| reply.is_yes(SmtpCommand::Rcpt));
        match last {
            _ if taken.is_empty() => !refused.is_empty() && refused.into_iter().all(reply_table::is_of_connection),
            // For a text that was sent, the verdict is about the text.
            Some((SmtpCommand::Data, reply)) => {
                reply.answers(SmtpCommand::Data) == Answer::No && reply_table::is_of_connection(reply)
            }
            _ => false,
        }
    }

    /// The text that was to leave with the envelope was not sent, or cannot have arrived.
    fn text_is_nowhere(&mut self) {
        self.outcome.text_sent = false;
        self.outcome.text_ended = false;
    }

    /// Ends a text that the server should not have requested.
    async fn empty_text(&mut self) -> Result<(), Stop> {
        let ended = self.ask(b".\r\n", false, self.patience().end()).await;
        let answered = ended.is_ok_and(|reply| reply.answers(SmtpCommand::End) != Answer::Odd);
        Err(if answered { Stop::Refused } else { Stop::Dead })
    }

    /// The server sent an invalid reply to `command`: it is out of step. All further replies
    /// are ignored, and the connection is closed.
    fn out_of_step(&mut self, command: SmtpCommand, reply: &Reply) -> Stop {
        let (host, name) = (&self.account.host, command.name());
        let reason = if reply.is_unasked() {
            format!(
                "{host} sent a reply before {name} that nothing had asked for: {reply}, so the connection was closed"
            )
        } else {
            format!(
                "{host} answered {name} with: {reply}, which is not a valid reply to it, so the connection was closed"
            )
        };
        self.outcome.in_step = Some(false);
        self.doubt();
        self.rest(&Verdict::Deferred(reason.into()));
        Stop::Dead
    }

    /// The refusals in this transaction may not have been refusals: `reply` to `command` shows that both were out of
    /// step.
    fn take_back(&mut self, command: SmtpCommand, reply: &Reply) {
        self.outcome.in_step = Some(false);
        let (host, command) = (&self.account.host, command.name());
        for (_, verdict) in &mut self.outcome.results {
            if let Verdict::Failed(why) = verdict {
                let odd = format!(
                    "{host} answered {command} with: {reply}, so its replies cannot be matched to the commands"
                );
                *verdict = Verdict::Deferred(format!("{why}; but {odd}").into());
            }
        }
    }

    fn client(&mut self) -> &mut SmtpClient {
        &mut self.connection.client
    }

    fn patience(&self) -> Patience {
        self.connection.patience
    }

    /// The conversation ends without a result. If the whole text was sent, it may have arrived: not for recipients that
    /// the server refused before, for whom it was not sent.
    fn doubt(&mut self) {
        if self.outcome.text_ended {
            self.outcome.doubtful.extend(self.targets.iter().map(|target| target.index));
        }
    }

    /// Applies `verdict` to all recipients that have none yet.
    fn rest(&mut self, verdict: &Verdict) {
        self.outcome.results.extend(self.targets.drain(..).map(|t| (t.index, verdict.clone())));
    }

    /// The connection was lost during `what`, with `limit` as its timeout.
    ///
    /// If text was sent, the message may have arrived already or may be what makes the server fail: it
    /// is deferred separately, with increasing delays. Otherwise it is the account's trouble, unless the connection was
    /// used before: such a connection may be closed at any time.
    fn lost(&mut self, error: &Error, what: &str, limit: Duration) -> Stop {
        self.doubt();
        let trouble = broken(error, &self.connection.client.stream, &self.account.host, what, limit);
        if self.outcome.text_sent || self.connection.messages > 0 {
            self.rest(&Verdict::Deferred(trouble.into_why()));
        } else {
            self.pause(trouble);
        }
        Stop::Dead
    }

    /// The account is in trouble. The recipients wait with it; this is not an attempt for them.
    fn pause(&mut self, trouble: Trouble) {
        self.targets.clear();
        self.outcome.trouble.get_or_insert(trouble);
    }

    /// MAIL was refused, and everything with it (RFC 5321 section 3.3).
    fn sender_refused(&mut self, reply: &Reply) {
        if self.connection.login_missing && reply_table::may_miss_login(reply, true) {
            self.pause(login_missing(reply, &self.account.host));
            return;
        }
        self.judge_all(reply, if self.own_sender { Stage::OwnSender } else { Stage::Sender });
    }

    /// The server refused the text.
    fn refused(&mut self, reply: &Reply) -> Stop {
        self.judge_all(reply, Stage::Text { own_sender: self.own_header });
        if reply.code == 421 { Stop::Dead } else { Stop::Refused }
    }

    fn judge_all(&mut self, reply: &Reply, stage: Stage) {
        match judge(reply, &self.account.host, stage) {
            Judged::Account(trouble) => self.pause(trouble),
            Judged::Message(verdict) => self.rest(&verdict),
        }
    }

    /// Records the replies for the recipients, in their order. Those without a reply or accepted stay pending.
    fn take_down(&mut self, replies: &[Reply]) {
        let somebody = replies.iter().any(|reply| reply.is_yes(SmtpCommand::Rcpt));
        self.outcome.goes_on = somebody && replies.iter().any(reply_table::is_too_many);
        let mut replies = replies.iter();
        for target in std::mem::take(&mut self.targets) {
            let stage = Stage::Recipient { own_sender: self.own_sender };
            let refusal = replies.next().filter(|reply| !reply.is_yes(SmtpCommand::Rcpt));
            match refusal.map(|reply| (self.judge_recipient(reply, stage, somebody), reply.code)) {
                None => self.targets.push(target),
                Some((Judged::Message(verdict), _)) => self.outcome.results.push((target.index, verdict)),
                // A server that accepts others does not object to the account: the reply is about this recipient.
                Some((Judged::Account(trouble), code)) if somebody && code != 421 => {
                    self.outcome.results.push((target.index, Verdict::Deferred(trouble.into_why())));
                }
                Some((Judged::Account(trouble), _)) => {
                    self.outcome.trouble.get_or_insert(trouble);
                }
            }
        }
    }

    /// What a refusal of RCPT means; `somebody`: another recipient was accepted.
    fn judge_recipient(&mut self, reply: &Reply, stage: Stage, somebody: bool) -> Judged {
        let (account, host) = (self.account, &self.account.host);
        let has_login = account.username.is_some();
        let login = || format!("if {host} requires a login for this recipient, {}", reply_table::NO_LOGIN);
        let misses_login = self.connection.login_missing && !somebody;
        let proven = somebody || self.connection.has_taken;
        let works = proven || has_login || self.connection.takes_mail;
        if works && !misses_login && reply.code != 421 && reply_table::asks_for_login(reply) {
            // Else one device that writes to such an address would stop the mail of all others.
            let judged = judge_relaying(reply, host, proven, (!has_login).then(login));
            self.outcome.unrelayed |= matches!(judged, Judged::Message(Verdict::Deferred(_)));
            return judged;
        }
        let judged = judge(reply, host, stage);
        let without = !has_login && self.connection.offers.has_capability(EXT_AUTH);
        if !without || !reply_table::may_miss_login(reply, false) {
            return judged;
        }
        match judged {
            _ if misses_login => Judged::Account(login_missing(reply, host)),
            // It accepts mail without a login, if perhaps only some of it.
            Judged::Message(Verdict::Failed(why)) => {
                let login = login();
                let gap = if why.remedy.is_empty() { "" } else { "; " };
                Judged::Message(Verdict::Failed(Explanation::new(why.what, format!("{}{gap}{login}", why.remedy))))
            }
            judged => judged,
        }
    }

    /// Sends `command`, unless it has been sent already, and reads its reply. A reply that is there before the command
    /// is sent does not answer it.
    async fn ask(&mut self, command: &[u8], sent: bool, limit: Duration) -> Result<Reply, Error> {
        if !sent {
            if let Some(early) = self.unasked(limit).await? {
                return Ok(early);
            }
            self.write(command).await?;
        }
        self.reply(limit).await
    }

    /// A reply that has arrived while no command was waiting for one.
    async fn unasked(&mut self, limit: Duration) -> Result<Option<Reply>, Error> {
        if !self.client().stream.has_more() {
            return Ok(None);
        }
        self.reply(limit).await.map(|reply| Some(reply.unasked()))
    }

    async fn reply(&mut self, limit: Duration) -> Result<Reply, Error> {
        let reply = self.client().read(limit).await?;
        if reply.code >= 400 {
            self.connection.refusals = self.connection.refusals.saturating_add(1);
        }
        Ok(reply)
    }

    /// Sends all of `bytes` and of what was collected before.
    async fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let limit = self.patience().piece();
        let client = self.client();
        let written = timeout(limit, async {
            client.stream.write_all(bytes).await?;
            client.stream.flush().await
        });
        written.await.map_err(|_| Error::Timeout)?.map_err(Error::Io)
    }
}

/// The replies of the server to the commands of an envelope, as far as they were received.
#[derive(Default)]
struct Replies {
    /// To MAIL.
    mail: Option<Reply>,
    /// To RCPT, in the order of the targets; fewer when the conversation ended before.
    recipients: Vec<Reply>,
    /// To DATA, or to BDAT: then it is the result for the text.
    last: Option<(SmtpCommand, Reply)>,
    /// Why further replies are missing: the error, the command without a reply, and the time the server had for it.
    broken: Option<(Error, SmtpCommand, Duration)>,
}

impl Replies {
    /// All of them, in order, with the command that each answers.
    fn all(&self) -> impl Iterator<Item = (SmtpCommand, &Reply)> {
        let mail = self.mail.iter().map(|reply| (SmtpCommand::Mail, reply));
        let recipients = self.recipients.iter().map(|reply| (SmtpCommand::Rcpt, reply));
        mail.chain(recipients).chain(self.last.iter().map(|(command, reply)| (*command, reply)))
    }

    /// Whether the server has announced that it closes the connection.
    fn is_closing(&self) -> bool {
        self.all().any(|(_, reply)| reply.code == 421)
    }

    /// Whether a text that was sent with the envelope was accepted, by a reply that cannot be one to the envelope: it has a
    /// status, and that is not about an address (RFC 3463 section 3.2).
    fn has_taken_text(&self) -> bool {
        matches!(&self.last, Some((SmtpCommand::End, reply))
            if reply.is_yes(SmtpCommand::End) && reply.status.is_some() && !reply.is_about_address())
    }

    /// Forgets what follows a 421 to a recipient. A server that is closing may say 421 in addition to its other replies
    /// (RFC 5321 section 3.8), so that each of these may be the one to any of the commands.
    fn end_at_closing(&mut self) {
        if let Some(at) = self.recipients.iter().position(|reply| reply.code == 421) {
            self.recipients.truncate(at + 1);
            (self.last, self.broken) = (None, None);
        }
    }

    /// The first one that is not a valid reply to its command.
    fn odd(&self) -> Option<(SmtpCommand, &Reply)> {
        self.all().find(|(command, reply)| reply.answers(*command) == Answer::Odd)
    }

    /// Whether so many recipients were refused for good that the server may slow down this connection.
    fn refuses_many(&self) -> bool {
        self.recipients.iter().filter(|reply| reply.code >= 500).count() >= REFUSALS
    }

    /// Whether the server accepted the sender.
    fn took_sender(&self) -> bool {
        self.mail.as_ref().is_some_and(|reply| reply.is_yes(SmtpCommand::Mail))
    }

    /// Whether it accepted a recipient as well, so that it may accept the text.
    fn took_somebody(&self) -> bool {
        self.took_sender() && self.recipients.iter().any(|reply| reply.is_yes(SmtpCommand::Rcpt))
    }
}

impl Delivery<'_> {
    /// Sends MAIL, a RCPT for each target, and then DATA, or `chunk`: BDAT with the text. It is only given if commands
    /// are pipelined.
    async fn fly(&mut self, mail: &str, chunk: Option<&[u8]>) -> Replies {
        let rcpts: Vec<String> =
            self.targets.iter().map(|target| format!("RCPT TO:<{}>\r\n", target.address)).collect();
        let (last, command) = match chunk {
            Some(chunk) => (chunk, SmtpCommand::End),
            None => (b"DATA\r\n".as_slice(), SmtpCommand::Data),
        };
        let pipelined = self.connection.offers.has_capability(EXT_PIPELINING);
        let mut limit = self.patience().command();
        let mut replies = Replies::default();
        let mut unsent = None;
        // All in one flight, unless there are many recipients.
        let (first, others) = rcpts.split_at_checked(FIRST_FLIGHT).unwrap_or((&rcpts, &[]));
        let mut last_sent = pipelined;
        if pipelined {
            match self.unasked(limit).await {
                Ok(None) => {}
                Ok(early) => replies.mail = early,
                Err(error) => replies.broken = Some((error, SmtpCommand::Mail, limit)),
            }
            if replies.mail.is_some() || replies.broken.is_some() {
                self.text_is_nowhere();
                return replies;
            }
            let end = if others.is_empty() { last } else { &[] };
            // A server that closed the connection may have said why before.
            if let Err(error) = self.write(&[mail.as_bytes(), first.concat().as_bytes(), end].concat()).await {
                unsent = Some(error);
                limit = self.patience().goodbye();
            }
        }
        let broken = |error: Error, command, limit| Some((unsent.unwrap_or(error), command, limit));
        match self.ask(mail.as_bytes(), pipelined, limit).await {
            Ok(reply) => replies.mail = Some(reply),
            Err(error) => {
                replies.broken = broken(error, SmtpCommand::Mail, limit);
                return replies;
            }
        }
        // Without pipelining it makes no sense to continue after a refusal.
        if !pipelined && !replies.took_sender() {
            return replies;
        }
        for (at, rcpt) in rcpts.iter().enumerate() {
            // No text was sent: what would be said of the others is not known to be about them.
            if chunk.is_none() && replies.is_closing() {
                return replies;
            }
            if at == FIRST_FLIGHT {
                if !replies.took_sender() || replies.odd().is_some() {
                    return replies;
                }
                if replies.refuses_many() {
                    self.targets.truncate(at);
                    self.outcome.unnamed = true;
                    last_sent = false;
                    break;
                }
                let rest = [others.concat().as_bytes(), last].concat();
                if pipelined && let Err(error) = self.write(&rest).await {
                    replies.broken = broken(error, SmtpCommand::Rcpt, limit);
                    return replies;
                }
            }
            match self.ask(rcpt.as_bytes(), pipelined, limit).await {
                Ok(reply) => replies.recipients.push(reply),
                Err(error) => {
                    replies.broken = broken(error, SmtpCommand::Rcpt, limit);
                    return replies;
                }
            }
            if !pipelined && replies.odd().is_some() {
                return replies;
            }
        }
        let somebody = replies.took_somebody();
        match chunk {
            None if !last_sent && !somebody || replies.is_closing() => return replies,
            // The text was sent: its result must be read, also from a server that is closing.
            Some(_) if somebody => limit = limit.max(self.patience().end()),
            _ => {}
        }
        match self.ask(last, last_sent, limit).await {
            Ok(reply) => replies.last = Some((command, reply)),
            Err(error) => replies.broken = broken(error, command, limit),
        }
        replies
    }

    /// A small message as one BDAT command (RFC 3030 section 2), which can go out together with the envelope and saves
    /// the wait for the 354. None where that is not offered, or is unsuitable:
    /// - The server has not shown yet that its replies match our commands, see [`Connection::in_step`]: the
    ///   answer to BDAT is a 250 like those to the envelope, so they cannot be distinguished as with 354.
    /// - It may require a login, and refuse the envelope. The text sent with it would be wasted, and a server that does
    ///   not skip it reads what a device wrote as commands.
    /// - The message was tried before: if a connection breaks during a BDAT it is unknown whether it has arrived,
    ///   with DATA only at the very end.
    async fn chunk(&mut self, outgoing: &Outgoing, stored: &mut Stored) -> Result<Option<Vec<u8>>, Stop> {
        let offers = |extension| self.connection.offers.has_capability(extension);
        let offered = offers(EXT_CHUNKING) && offers(EXT_PIPELINING);
        let known = self.connection.in_step && (self.account.username.is_some() || !offers(EXT_AUTH));
        let size = stored.body_size.saturating_add(outgoing.header().len() as u64);
        let small = size <= CHUNK_LIMIT && !outgoing.changes_size() && self.targets.len() <= FIRST_FLIGHT;
        let first = stored.state.attempts == 0 && stored.state.doubts() == 0;
        if !(offered && known && small && first) {
            return Ok(None);
        }
        let mut text = [outgoing.header(), b"\r\n"].concat();
        loop {
            let piece = stored.next().await.map_err(|error| self.unreadable(&error))?;
            if piece.is_empty() {
                break;
            }
            text.extend_from_slice(&piece);
        }
        self.chunked = true;
        self.outcome.text_sent = true;
        self.outcome.text_ended = true;
        Ok(Some([format!("BDAT {} LAST\r\n", text.len()).into_bytes(), text].concat()))
    }

    /// The message itself, from disk, in chunks.
    async fn text(&mut self, mut outgoing: Outgoing, stored: &mut Stored) -> Result<(), Stop> {
        self.in_step().await?;
        self.outcome.text_sent = true;
        let mut dots = DotStuffer::new();
        let mut wire = Vec::new();
        dots.push(outgoing.header(), &mut wire);
        dots.push(b"\r\n", &mut wire);
        loop {
            let chunk = stored.next().await.map_err(|error| self.unreadable(&error))?;
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
            Ok(reply) if reply.answers(SmtpCommand::End) == Answer::No => _ = self.refused(&reply),
            Ok(reply) => {
                let reason = format!(
                    "{} replied before the end of the message without being asked: {reply}; so the message was not completed and the connection was closed",
                    self.account.host
                );
                self.outcome.in_step = Some(false);
                self.rest(&Verdict::Deferred(reason.into()));
            }
            Err(error) => _ = self.lost(&error, "the text of the message", limit),
        }
        Err(Stop::Dead)
    }

    /// The server's result for the whole message.
    fn end(&mut self, reply: &Reply) -> Result<(), Stop> {
        match reply.answers(SmtpCommand::End) {
            // With BDAT the answers to the envelope look like this one: an extra answer, or one about an address (RFC
            // 3463 section 3.2), shows that it is not the one to the text. 421 may be that one, unless this one has a
            // status.
            Answer::Yes if self.chunked && (reply.is_about_address() || self.has_more_than(reply)) => {
                Err(self.out_of_step(SmtpCommand::End, reply))
            }
            Answer::Yes => {
                if !self.chunked && !reply.is_about_address() {
                    self.outcome.in_step = Some(!self.client().stream.has_more());
                }
                self.rest(&Verdict::Delivered(reply.to_string()));
                self.connection.has_taken = true;
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

    /// Whether the server has said more than `reply`: 421 does not count, if the reply has a status.
    fn has_more_than(&mut self, reply: &Reply) -> bool {
        let stream = &mut self.connection.client.stream;
        if reply.status.is_some() { stream.has_more() } else { stream.has_spoken() }
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
