// SPDX-License-Identifier: Apache-2.0
//! A mail transaction: MAIL, RCPT, DATA, and the result (RFC 5321 section 3.3).
//!
//! How much the device may send (option rate in its `device` section) is checked at MAIL, so that it need not send a
//! text in vain, and counted when the text is complete.

use std::sync::{Arc, MutexGuard};

use super::{Phase, Session};
use crate::inbound::data::{Decoder, LineEnds};
use crate::inbound::dialect;
use crate::intake::{Intake, IntakeError, Taken};
use crate::message::Envelope;
use crate::policy::{RateOutcome, Rates};
use crate::queue::{Marks, Over};
use crate::report::Event;
use crate::system::clock;
use crate::system::lock;

impl Session {
    /// MAIL starts a transaction; an earlier one is discarded.
    pub(super) fn mail(&mut self, from: Result<String, String>, size: u64, smtputf8: bool) {
        self.reset();
        // A device with an unusable sender still has something to report.
        let from = from.unwrap_or_else(|why| {
            let client = self.origin.name();
            let text = format!("the sender given by {client} is invalid, using the account's address instead ({why})");
            Event::Advice { text }.log_for(&client);
            self.rules.fallback_from.clone()
        });
        if let Some(reply) = self.login_missing().or_else(|| self.sender_forbidden(&from)) {
            self.log_rejected(from, Vec::new(), &reply);
            self.visit.told = true;
            return self.refuse(reply);
        }
        if let Some(reply) = self.over_rate() {
            self.log_rejected(from, Vec::new(), &reply);
            self.visit.told = true;
            return self.refuse(reply);
        }
        let limit = self.rules.size_limit;
        let envelope = Envelope { from, to: Vec::new(), smtputf8 };
        let refusal = if size > limit {
            // RFC 1870 section 6.1 (3): what cannot fit is refused before it is sent.
            Err(IntakeError::TooLarge(limit))
        } else {
            self.desk.room_for(self.client(), size)
        };
        match refusal {
            Ok(()) => {
                self.transaction = Some(envelope);
                self.reply("250 2.1.0 Ok");
            }
            Err(error) => {
                self.log_rejected(envelope.from, Vec::new(), &error.to_string());
                self.visit.told = true;
                self.refuse(error.reply());
            }
        }
    }

    /// RCPT. Either all recipients on a line are accepted or none: it gets one reply.
    pub(super) fn rcpt(&mut self, to: Result<Vec<String>, String>) {
        let limit = usize::try_from(self.rules.listener.max_recipients).unwrap_or(usize::MAX);
        let (rules, device) = (Arc::clone(&self.rules), self.device().cloned());
        let Some(envelope) = &mut self.transaction else {
            let reply = self.refused.clone().unwrap_or_else(|| "503 5.5.1 Need MAIL before RCPT".into());
            return self.reply(&reply);
        };
        let known = &mut envelope.to;
        let before = known.len();
        let added = to.map_err(|why| (Vec::new(), why.clone(), format!("501 5.1.3 {why}"))).and_then(|to| {
            for address in to {
                // Aliases are resolved when the message is complete: here the device gets the refusal of its own
                // command.
                if let Err(refusal) = rules.policies.may(device.as_ref(), &address) {
                    return Err((vec![address], refusal.to_string(), refusal.reply()));
                }
                if known.contains(&address) {
                    continue;
                }
                if known.len() >= limit {
                    let text = format!("more than {limit} recipients (option max_recipients)");
                    return Err((vec![address], text, "452 4.5.3 Too many recipients".into()));
                }
                known.push(address);
            }
            Ok(())
        });
        match added {
            Ok(()) => {
                if before == 0 {
                    self.expect_text();
                }
                self.reply("250 2.1.5 Ok");
            }
            Err((to, text, reply)) => {
                known.truncate(before);
                self.rejected(&to, &text);
                self.visit.told = true;
                self.refuse(reply);
            }
        }
    }

    /// The transaction has a recipient, so its route is known: the connection to the provider can be opened meanwhile.
    fn expect_text(&mut self) {
        let rates = || Some(self.rates().peek(self.device()?, self.origin.client?, clock::since_boot()));
        if rates().is_some_and(|outcome| !matches!(outcome, RateOutcome::Pass)) {
            return;
        }
        let Some(envelope) = &self.transaction else { return };
        if let Ok(to) = self.rules.policies.recipients(self.device(), &envelope.to) {
            let envelope = Envelope { to, from: envelope.from.clone(), smtputf8: envelope.smtputf8 };
            self.origin.marks = self.marks(None);
            self.desk.expect(envelope, &self.origin);
        }
    }

    /// What a message is marked with.
    fn marks(&self, over: Option<Over>) -> Marks {
        let device = self.device().map(|device| device.name.clone());
        let login = self.user.as_ref().map(|user| user.username.clone());
        Marks { device, login, over, replaces: None, owner: self.origin.marks.owner, alarm: None }
    }

    /// DATA is always answered with 354: see the top of `session.rs`. Errors are reported at the end of the text.
    pub(super) fn data(&mut self) {
        let intake = match &self.transaction {
            None => {
                let refused = self.refused.clone().or_else(|| self.login_missing());
                Err(refused.unwrap_or_else(|| "503 5.5.1 Need MAIL and RCPT before DATA".to_string()))
            }
            Some(envelope) if envelope.to.is_empty() => {
                Err(self.refused.clone().unwrap_or_else(|| "554 5.5.1 No valid recipients".to_string()))
            }
            Some(_) => self.desk.begin(self.client(), self.rules.size_limit).map_err(|error| {
                self.rejected(&[], &error.to_string());
                error.reply()
            }),
        };
        self.pace.text_began(intake.is_err());
        self.line_ends = self.strict().then(LineEnds::default);
        self.phase = Phase::Text(Decoder::new(self.talk.bare_lf()), intake);
        self.reply("354 End data with <CR><LF>.<CR><LF>");
    }

    pub(super) fn rejected(&self, to: &[String], reply: &str) {
        let envelope = self.transaction.clone().unwrap_or_default();
        let to = if to.is_empty() { envelope.to } else { to.to_vec() };
        self.log_rejected(envelope.from, to, reply);
    }

    fn log_rejected(&self, from: String, to: Vec<String>, reply: &str) {
        Event::Rejected { client: self.origin.name(), from, to, reply: reply.to_string() }.log();
    }

    /// Takes in text; true if the message has ended and commands may follow.
    pub(super) async fn text(&mut self) -> bool {
        let Phase::Text(decoder, intake) = &mut self.phase else { return false };
        // None of this is kept while the disk is waited for, by many sessions at the same time if they are many.
        let (end, taken) = {
            let unread = self.talk.unread();
            let mut text = Vec::with_capacity(unread.len());
            let end = decoder.push(unread, &mut text);
            if let Some(ends) = &mut self.line_ends {
                ends.push(&text);
            }
            (end, intake.as_mut().map_or(Ok(()), |open| open.take(&text)))
        };
        self.talk.used(end.unwrap_or(usize::MAX));
        let settled = match (intake.as_mut(), taken) {
            (Ok(open), Ok(())) => open.settle().await,
            (_, taken) => taken,
        };
        if let Err(error) = settled {
            // Consumed to its end, so that the client understands the reply.
            *intake = Err(error.reply());
            self.rejected(&[], &error.to_string());
        }
        if end.is_some() {
            // In a box of its own: what it needs is large, and every session would have room for it all the time.
            Box::pin(self.end_of_text()).await;
        }
        end.is_some()
    }

    async fn end_of_text(&mut self) {
        let Phase::Text(_, intake) = std::mem::replace(&mut self.phase, Phase::Command) else { return };
        self.pace.text_ended();
        let envelope = self.transaction.take().unwrap_or_default();
        // Whatever happens to the message is logged as an event; often the refusal of an earlier command was.
        let told = self.refused.take().is_some() || !envelope.to.is_empty();
        self.visit.told = true;
        let bad_ends = self.line_ends.take().is_some_and(|ends| ends.bad());
        let reply = match intake {
            Err(reply) => {
                if !told {
                    self.log_rejected(envelope.from, envelope.to, &reply);
                }
                reply
            }
            Ok(_) if bad_ends => {
                self.log_rejected(envelope.from, envelope.to, dialect::BARE_LF_IN_TEXT);
                dialect::BARE_LF_IN_TEXT.to_string()
            }
            Ok(intake) => self.accept(intake, envelope).await,
        };
        self.reply(&reply);
    }

    async fn accept(&mut self, intake: Box<Intake>, mut envelope: Envelope) -> String {
        let rules = Arc::clone(&self.rules);
        match rules.policies.recipients(self.device(), &envelope.to) {
            Ok(to) => envelope.to = to,
            Err(refusal) => {
                self.log_rejected(envelope.from, envelope.to, &refusal.to_string());
                return refusal.reply();
            }
        }
        let outcome = match self.count() {
            Ok(outcome) => outcome,
            Err(reply) => {
                self.log_rejected(envelope.from, envelope.to, &reply);
                return reply;
            }
        };
        self.origin.protocol = protocol(self.extended, self.tls.is_some(), self.login.is_some(), envelope.smtputf8);
        let taken = intake.finish(envelope.clone(), &self.origin, &rules.hostname, &rules.fallback_from).await;
        match taken {
            Ok(Taken { id, size, subject, repairs }) => {
                let device = self.device().filter(|device| !device.is_default());
                let event = Event::Accepted {
                    id: id.clone(),
                    client: self.origin.name(),
                    helo: self.origin.helo.clone(),
                    device: device.map(|device| device.name.clone()),
                    title: device.map(|device| device.title().to_string()).unwrap_or_default(),
                    login: self.login.clone(),
                    tls: self.tls.clone(),
                    from: envelope.from,
                    to: envelope.to,
                    size,
                    subject,
                    repairs,
                };
                event.log();
                self.pace.accepted();
                format!("250 2.0.0 Ok: queued as {id}")
            }
            Err(error) => {
                self.give_back(outcome);
                self.log_rejected(envelope.from, envelope.to, &error.to_string());
                error.reply()
            }
        }
    }

    fn rates(&self) -> MutexGuard<'_, Rates> {
        lock(self.desk.rates())
    }

    /// The reply to MAIL if the message could not be accepted now.
    fn over_rate(&self) -> Option<String> {
        let (device, client, now) = (self.device()?, self.origin.client?, clock::since_boot());
        let mut rates = self.rates();
        let refusal = rates.peek(device, client, now).refusal(device, now)?;
        // This is counted as well.
        rates.take(device, client, now);
        Some(refusal)
    }

    /// Counts a complete message, and marks it with what is known about its device.
    ///
    /// # Errors
    /// The reply if it cannot be accepted now.
    fn count(&mut self) -> Result<RateOutcome, String> {
        let now = clock::since_boot();
        let outcome = match (self.device(), self.origin.client) {
            (Some(device), Some(client)) => self.rates().take(device, client, now),
            _ => RateOutcome::Pass,
        };
        let device = self.device();
        if let Some(refusal) = device.and_then(|device| outcome.refusal(device, now)) {
            return Err(refusal);
        }
        let rate = device.and_then(|device| device.rate).map(|rate| rate.to_string()).unwrap_or_default();
        let over = match outcome {
            RateOutcome::Pass | RateOutcome::Reject { .. } => None,
            RateOutcome::Digest { due } => Some(Over { until: due, digest: true, rate }),
            RateOutcome::Defer { until } => Some(Over { until, digest: false, rate }),
        };
        self.origin.marks = self.marks(over);
        Ok(outcome)
    }

    /// The message was not accepted after all.
    fn give_back(&self, outcome: RateOutcome) {
        if let (Some(device), Some(client)) = (self.device(), self.origin.client) {
            self.rates().give_back(device, client, outcome);
        }
    }
}

/// The `with` of the Received line (RFC 3848, RFC 6531 section 4.3).
fn protocol(extended: bool, tls: bool, login: bool, smtputf8: bool) -> &'static str {
    match (smtputf8, tls, login) {
        _ if !extended => "SMTP",
        (false, false, false) => "ESMTP",
        (false, false, true) => "ESMTPA",
        (false, true, false) => "ESMTPS",
        (false, true, true) => "ESMTPSA",
        (true, false, false) => "UTF8SMTP",
        (true, false, true) => "UTF8SMTPA",
        (true, true, false) => "UTF8SMTPS",
        (true, true, true) => "UTF8SMTPSA",
    }
}
