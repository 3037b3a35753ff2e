// SPDX-License-Identifier: Apache-2.0
//! What happens to a message after an attempt: log, journal, report to its sender, removal; and what the attempt says
//! about the account and about how long others wait.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::account::Look;
use super::delivery::{Attempted, Known, Ways, choose_recipients};
use super::notifier::{About, Batch, Teller};
use super::routes::Routes;
use super::{Dispatch, Finished, jitter};
use crate::net::TroubleKind;
use crate::outbound::{Outcome, Verdict, reply_table};
use crate::queue::{
    Attempt, Entry, Item, Meta, Note, Progress, RecipientState, Spool, SpoolError, State, backoff, blocking,
};
use crate::report::{Event, FailedRecipient, ReportKind, subject};
use crate::system::{clock, task};

/// A message with pending recipients, with the time that it has to wait; without one it waits for the account.
pub type Left = Option<(Item, Option<Duration>)>;

/// What is needed to settle an attempt.
pub struct Settle {
    /// The queue.
    pub spool: Arc<Spool>,
    /// The routes.
    pub routes: Arc<Routes>,
    /// Sends the reports.
    pub teller: Teller,
    /// The name of the account.
    pub account: String,
    /// How long deferred recipients will wait.
    pub wait: Duration,
    /// Whether those follow at once that were too many for the provider.
    pub follows: bool,
    /// Whether it is not about an attempt of the message on its own route.
    pub aside: bool,
    /// Whether the message is given up, with all that was planned for it.
    pub last: bool,
}

impl Settle {
    /// Records the result of an attempt. Returns the message when it is not finished.
    pub async fn settle(self, item: Item, turns: u32, outcome: Outcome, known: Option<Known>) -> Left {
        if let Some(reason) = outcome.damaged {
            self.set_aside(item, reason).await;
            return None;
        }
        let (waits_for_account, route) = (outcome.trouble.is_some(), item.route);
        let left = match known {
            Some(known) => self.apply(Item { turns, ..item }, &outcome, known).await?,
            // The message was not touched: no connection, or its file could not be read now.
            None => item,
        };
        // The remaining ones take another route: that is free at once.
        let goes_on = self.follows || left.route != route;
        Some((left, (!waits_for_account && !goes_on).then_some(self.wait)))
    }

    /// Its file is damaged: it is kept next to the queue, for a person to look at.
    pub(super) async fn set_aside(self, item: Item, reason: String) {
        let _ = task::blocking(move || self.spool.set_aside(&item.entry, &reason)).await;
    }

    pub(super) async fn apply(&self, mut item: Item, outcome: &Outcome, known: Known) -> Option<Item> {
        let Known { meta, header, mut state, arrived } = known;
        let (at, early, results) = (clock::now(), item.early, self.results(&item, outcome, &meta, &header));
        let attempt = Note::Attempt(Attempt { at, early, results });
        state.apply(&attempt);
        let stays = |(_, verdict): &&(usize, Verdict)| !matches!(verdict, Verdict::Deferred(_));
        let over = outcome.results.iter().filter(stays);
        let over = over.filter_map(|(index, _)| Some((*index, state.recipients.get(*index)?.address.as_str())));
        self.teller.reporter().finished(item.entry.id, Some(&over.collect::<Vec<_>>()));
        let entry = item.entry.clone();
        // Another account may get it, though no recipient is pending.
        let planned = self.routes.place(&mut item, &meta, &state);
        let done = state.is_done() && (self.last || planned);
        let (rested, released) = (item.rested, state.released);
        let about = About { entry: &entry, meta: &meta, arrived, rested, released, header: &header, goes_on: true };
        // If all succeeded, the file is removed at once and nothing has to be recorded.
        let mut untold = failures_of(state.untold());
        if (!done || !untold.is_empty()) && !outcome.results.is_empty() {
            self.note(&item.entry, attempt).await;
        }
        if !outcome.doubtful.is_empty() {
            let doubt = Note::Doubt(clock::now(), Some(outcome.doubtful.clone()));
            state.apply(&doubt);
            self.note(&item.entry, doubt).await;
            self.routes.place(&mut item, &meta, &state);
        }
        (item.held, item.doubtful) = (state.held, state.is_doubtful());
        // A summary may have reported earlier failures in the meantime, but not one of this attempt.
        let is_fresh = |index| outcome.results.iter().any(|(at, v)| *at == index && matches!(v, Verdict::Failed(_)));
        if untold.iter().any(|(index, _)| !is_fresh(*index))
            && let Some(now) = self.state_now(&item.entry).await
        {
            untold.retain(|(index, _)| is_fresh(*index) || now.untold().any(|(known, _)| known == *index));
        }
        if !untold.is_empty() && !self.tell_failures(&item, &about, untold, done).await && done {
            let mut reporter = self.teller.reporter();
            if reporter.has(item.entry.id, ReportKind::Failed) {
                reporter.park(item);
                return None;
            }
            return Some(item);
        }
        if done {
            self.remove(&item.entry).await;
            return None;
        }
        if self.aside || state.is_done() {
            return Some(item);
        }
        self.tell_doubt(&about, &state, &outcome.doubtful).await;
        if outcome.trouble.is_none() && (state.late || !self.teller.earlier) {
            self.tell_delay(&item, &about, &state).await;
        }
        Some(item)
    }

    /// Appends a note to the journal; what the disk refuses is valid all the same, and is recorded later.
    pub(super) async fn note(&self, entry: &Entry, note: Note) {
        let (spool, noted) = (Arc::clone(&self.spool), entry.clone());
        if let Some(Err(Some(reason))) = task::blocking(move || spool.record_for_good(&noted, note)).await {
            Event::SpoolTrouble { id: entry.id.to_string(), reason }.log();
        }
    }

    /// True when these failures need no further report.
    async fn tell_failures(
        &self,
        item: &Item,
        about: &About<'_>,
        mut untold: Vec<(usize, FailedRecipient)>,
        done: bool,
    ) -> bool {
        let id = item.entry.id;
        let collected = {
            let reporter = self.teller.reporter();
            untold.retain(|(recipient, _)| !reporter.knows(id, ReportKind::Failed, *recipient));
            reporter.has(id, ReportKind::Failed)
        };
        if untold.is_empty() {
            return false;
        }
        let these = untold.iter().map(|(index, _)| *index).collect();
        match self.teller.tell(about, ReportKind::Failed, untold).await {
            Ok(told) => {
                // The message stays for those that wait for a summary.
                let all = told && !collected;
                if told && !(all && done) {
                    self.note(&item.entry, Note::Told(clock::now(), Some(these))).await;
                }
                all
            }
            Err(error) => {
                let reason = format!("its non-delivery notification could not be queued and will be retried: {error}");
                Event::SpoolTrouble { id: item.entry.id.to_string(), reason }.log_lasting();
                false
            }
        }
    }

    /// Reports that a message is not sent to some of its recipients any more, since they may have got it several times;
    /// `fresh` are those of this attempt.
    async fn tell_doubt(&self, about: &About<'_>, state: &State, fresh: &[usize]) {
        let id = about.entry.id.to_string();
        let mut doubtful = failures_of(state.unasked());
        if !doubtful.is_empty() {
            let reporter = self.teller.reporter();
            doubtful.retain(|(index, _)| !reporter.knows(about.entry.id, ReportKind::Doubtful, *index));
        }
        // A summary may have named the others in the meantime.
        if doubtful.iter().any(|(index, _)| !fresh.contains(index))
            && let Some(now) = self.state_now(about.entry).await
        {
            doubtful.retain(|(index, _)| fresh.contains(index) || now.unasked().any(|(known, _)| known == *index));
        }
        if doubtful.is_empty() {
            return;
        }
        let these = doubtful.iter().map(|(index, _)| *index).collect();
        let about = &About { goes_on: state.to_try().next().is_some(), ..*about };
        if !self.teller.earlier {
            Event::Held { id: id.clone(), reason: state.doubt() }.log();
        }
        match self.teller.tell(about, ReportKind::Doubtful, doubtful).await {
            Ok(true) => self.note(about.entry, Note::Asked(clock::now(), Some(these))).await,
            Ok(false) => {}
            Err(error) => {
                let reason = format!(
                    "it is held, but the notification about that could not be queued and will be retried: {error}"
                );
                Event::SpoolTrouble { id, reason }.log_lasting();
            }
        }
    }

    /// Notifies the sender once that a message has been waiting for long. Only when others leave: while the whole
    /// account is in trouble, this notification would wait as well.
    async fn tell_delay(&self, item: &Item, about: &About<'_>, state: &State) {
        let after = self.teller.settings.relay.delay_notice;
        let is_late = || state.late || item.age().is_some_and(|age| age >= after);
        let is_tried = state.to_try().next().is_some();
        if after.is_zero() || state.warned || about.meta.notice || !is_tried || !is_late() {
            return;
        }
        if self.teller.reporter().has(item.entry.id, ReportKind::Delayed) {
            return;
        }
        if state.late && self.state_now(&item.entry).await.is_some_and(|now| now.warned) {
            return;
        }
        let waiting = failures_of(state.to_try());
        match self.teller.tell(about, ReportKind::Delayed, waiting).await {
            Ok(true) => self.note(&item.entry, Note::Warned(clock::now())).await,
            // After a restart it has to be known what was to be in the summary.
            Ok(false) if !state.late => self.note(&item.entry, Note::Late(clock::now())).await,
            Ok(false) => {}
            Err(error) => {
                let reason = format!("its delay notification could not be queued: {error}");
                Event::SpoolTrouble { id: item.entry.id.to_string(), reason }.log_lasting();
            }
        }
    }

    /// What the journal says now: a summary may have been written while the attempt was being made.
    async fn state_now(&self, entry: &Entry) -> Option<State> {
        let (queue, entry) = (Arc::clone(&self.spool), entry.clone());
        blocking(move || queue.open_message(&entry)).await.ok().map(|stored| stored.state)
    }

    /// Verdicts as journal results, with one log line each.
    pub(super) fn results(
        &self,
        item: &Item,
        outcome: &Outcome,
        meta: &Meta,
        header: &[u8],
    ) -> Vec<(usize, Progress, String)> {
        let id = || item.entry.id.to_string();
        let delay = item.age().unwrap_or_else(|| item.since.elapsed()).as_secs();
        let subject = if outcome.results.is_empty() { String::new() } else { subject::of(header) };
        let mut results = Vec::with_capacity(outcome.results.len());
        for (index, verdict) in &outcome.results {
            let Some(to) = meta.envelope.to.get(*index).cloned() else { continue };
            let (account, tls) = (self.account.clone(), outcome.tls.clone());
            // Mail from the gateway itself has no client: it must not look like mail of programs on this host.
            let client = if meta.notice { String::new() } else { meta.client.clone() };
            let (from, size) = (meta.envelope.from.clone(), item.entry.size);
            let (subject, text) = (subject.clone(), verdict.text());
            let (event, progress) = match verdict {
                Verdict::Delivered(reply) => {
                    let reply = reply.clone();
                    (
                        Event::Delivered { id: id(), client, from, to, size, subject, account, tls, reply, delay },
                        Progress::Delivered,
                    )
                }
                Verdict::Deferred(why) => {
                    let follows = self.follows && reply_table::is_one_too_many(why);
                    let (reason, next) = (text.clone(), if follows { Duration::ZERO } else { self.wait });
                    (Event::Deferred { id: id(), to, account, tls, reason, next, planned: false }, Progress::Waiting)
                }
                Verdict::Failed(_) => {
                    let reason = text.clone();
                    (
                        Event::Failed { id: id(), client, from, to, size, subject, account, tls, reason, delay },
                        Progress::Failed,
                    )
                }
            };
            event.log();
            results.push((*index, progress, text));
        }
        results
    }

    /// Removes a finished message from the queue.
    pub async fn remove(&self, entry: &Entry) {
        if self.spool.remove_at_once(entry) {
            return Event::Removed { id: entry.id.to_string() }.log();
        }
        let (spool, gone) = (Arc::clone(&self.spool), entry.clone());
        match task::blocking(move || spool.remove_for_good(&gone)).await {
            Some(Ok(())) => Event::Removed { id: entry.id.to_string() }.log(),
            Some(Err(Some(reason))) => Event::SpoolTrouble { id: entry.id.to_string(), reason }.log(),
            Some(Err(None)) | None => {}
        }
    }

    /// Puts a summary into the queue, and removes the messages that were kept for it.
    pub async fn summarize(self, batch: Batch) {
        match self.teller.summarize(&batch).await {
            Ok(()) => {
                let told = self.teller.reporter().told(&batch);
                // Until that is recorded, the attempts that are being made must not report it as well.
                for (entry, recipients) in told {
                    let at = clock::now();
                    let note = match batch.kind {
                        ReportKind::Failed => Note::Told(at, Some(recipients)),
                        ReportKind::Delayed => Note::Warned(at),
                        ReportKind::Doubtful => Note::Asked(at, Some(recipients)),
                    };
                    self.note(&entry, note).await;
                }
                let done = self.teller.reporter().forget(&batch);
                for item in done {
                    self.remove(&item.entry).await;
                }
            }
            Err(error) => {
                let reason = format!("the summary could not be queued and will be retried: {error}");
                Event::SpoolTrouble { id: String::new(), reason }.log_lasting();
                self.teller.reporter().not_told(batch, Instant::now());
            }
        }
    }

    /// Reports what an earlier run has not reported of a message. Returns it when recipients are still pending.
    pub async fn tell_earlier(mut self, item: Item) -> Left {
        self.teller.earlier = true;
        let (queue, entry) = (Arc::clone(&self.spool), item.entry.clone());
        // What cannot be read now is checked at its next attempt.
        let Ok(stored) = blocking(move || queue.open_message(&entry)).await else { return Some((item, None)) };
        let known = Known::of(&stored, &item);
        Some((self.apply(item, &Outcome::default(), known).await?, None))
    }

    /// Gives up a message that is older than `retry_for`; `pause` is why the account sends nothing now, if so. Returns
    /// it when it cannot be read or its notification cannot be queued.
    pub async fn expire(mut self, item: Item, pause: Option<String>) -> Left {
        let (queue, entry) = (Arc::clone(&self.spool), item.entry.clone());
        let stored = match blocking(move || queue.open_message(&entry)).await {
            Ok(stored) => stored,
            Err(SpoolError::Damaged(reason)) => {
                self.set_aside(item, reason).await;
                return None;
            }
            Err(error) => {
                Event::SpoolTrouble { id: item.entry.id.to_string(), reason: error.to_string() }.log_lasting();
                return Some((item, Some(self.wait)));
            }
        };
        self.last = true;
        let known = Known::of(&stored, &item);
        let days = crate::config::units::format_duration(self.teller.settings.relay.retry_for);
        let verdict = |last: &str| {
            let last = if last.is_empty() { pause.as_deref().unwrap_or("delivery was never attempted") } else { last };
            Verdict::Failed(format!("given up after {days}; last error: {last}").into())
        };
        let results = known.state.to_try().map(|(index, recipient)| (index, verdict(&recipient.text))).collect();
        let outcome = Outcome { results, ..Outcome::default() };
        let item = self.apply(item, &outcome, known).await?;
        Some((item, Some(self.wait)))
    }
}

/// These recipients, by their index in the envelope, with their last reply or reason.
fn failures_of<'a>(recipients: impl Iterator<Item = (usize, &'a RecipientState)>) -> Vec<(usize, FailedRecipient)> {
    let failed = |recipient: &RecipientState| FailedRecipient {
        recipient: recipient.address.clone(),
        reason: recipient.text.clone(),
        said: reply_table::without_advice(&recipient.text).to_string(),
    };
    recipients.map(|(at, recipient)| (at, failed(recipient))).collect()
}

impl Dispatch {
    /// Settles a message that `account` has tried, if any did; `wait` is how long what is left of it waits.
    pub(super) fn settler(&self, account: String, wait: Duration) -> Settle {
        let (spool, routes) = (Arc::clone(&self.spool), Arc::clone(&self.ways.routes));
        Settle { spool, routes, teller: self.teller(), account, wait, follows: false, aside: false, last: false }
    }

    /// Takes the connection back for the next message, and has the result of this one recorded in the background.
    pub(super) fn attempted(&mut self, attempted: Attempted) {
        let mut attempted = attempted;
        if let Some(step) = attempted.step.take() {
            return self.step_attempted(attempted, step);
        }
        let Attempted { mut item, mut outcome, known, connection, account, lane: returned, .. } = attempted;
        let (now, generation, wakings) = (Instant::now(), returned.generation, returned.wakings);
        let look = if wakings == self.wakings { Look::Fresh } else { Look::Outdated };
        let troubled = outcome.trouble.is_some();
        if let Some(known) = &known {
            let fails = self.lanes.of(generation).is_some_and(|lane| lane.is_in_trouble());
            blame(&mut item, &mut outcome, known, &self.ways, fails);
        }
        if troubled && outcome.trouble.is_none() {
            item.in_its_own_time();
        }
        if let Some(lane) = self.lanes.of(generation) {
            lane.returned(returned, connection, now);
            match &outcome.trouble {
                Some(trouble) => {
                    if known.is_some() {
                        lane.blame(item.entry.client);
                    }
                    lane.pause(trouble, look, now);
                }
                // A message at fault does not say that the account takes others again; the next one does.
                None if troubled && !has_taken(&outcome) && !lane.ends_with_a_reply() => {}
                None if outcome.tls.is_some() => self.judge_provider(generation, &mut item, &outcome, now),
                None => {}
            }
        }
        // That another message was accepted says something about this attempt, not about those to come.
        item.woken = false;
        let in_trouble = outcome.trouble.is_some();
        // Only with a result that stays: a recipient that is deferred again would be offered without end.
        let unnamed = outcome.unnamed && outcome.results.iter().any(|(_, result)| matches!(result, Verdict::Failed(_)));
        let follows = !in_trouble && (outcome.goes_on && has_taken(&outcome) || unnamed);
        item.left_out = if follows { left_out(&item, &outcome) } else { Box::default() };
        // An attempt before its time, whoever requested it, makes no message wait longer.
        let turns = known.as_ref().map_or(item.turns, |known| known.state.turns);
        let next = turns.saturating_add(u32::from(!item.early));
        let wait = if in_trouble {
            let until = self.lanes.of(generation).and_then(|lane| lane.paused_until(now));
            until.map_or(Duration::ZERO, |until| until.saturating_duration_since(now))
        } else {
            let relay = &self.settings.borrow().relay;
            backoff(next.max(1), jitter(), relay.retry_min, relay.retry_max)
        };
        // Nor does one that is not followed by a wait of its own: the message goes on at once, or with the account.
        item.early |= follows || in_trouble;
        let turns = if item.early { turns } else { next };
        let id = item.entry.id;
        let settle = Settle { follows, ..self.settler(account, wait) };
        let settled = settle.settle(item, turns, outcome, known);
        self.start(async move { Finished::Settled { id, wakings, generation: Some(generation), left: settled.await } });
    }

    /// What a completed transaction says about the provider. One that defers whatever it is given may have
    /// trouble of its own that it does not name: then one message is tried at times, and all when it is accepted.
    fn judge_provider(&mut self, generation: u32, item: &mut Item, outcome: &Outcome, now: Instant) {
        let Some(lane) = self.lanes.of(generation) else { return };
        lane.works();
        if !outcome.doubtful.is_empty() {
            // Each attempt may deliver another copy: no more attempts than the schedule says.
            item.in_its_own_time();
        }
        let put_off = outcome.results.iter().any(|(_, verdict)| matches!(verdict, Verdict::Deferred(_)));
        if has_taken(outcome) {
            let wake = lane.taken();
            self.queues.forgive();
            if wake {
                self.queues.wake_put_off();
            }
        } else if put_off && item.may_be_providers() && lane.put_off(outcome.unrelayed, now) {
            item.in_its_own_time();
        }
    }
}

/// Whether the provider accepted the message for any recipient.
pub(super) fn has_taken(outcome: &Outcome) -> bool {
    outcome.results.iter().any(|(_, verdict)| matches!(verdict, Verdict::Delivered(_)))
}

/// The recipients that wait for the next scheduled attempt while the others follow: those that were deferred, but not
/// because they were too many.
fn left_out(item: &Item, outcome: &Outcome) -> Box<[usize]> {
    let deferred = outcome.results.iter().filter_map(|(index, verdict)| match verdict {
        Verdict::Deferred(why) if !reply_table::is_one_too_many(why) => Some(*index),
        _ => None,
    });
    item.left_out.iter().copied().chain(deferred).collect()
}

/// Trouble of the account that a message caused: the next attempt is with another one. If that is accepted and this one
/// causes it again, the message itself is the cause: it waits alone, and the others continue. That includes what the
/// server says of a login or of settings in reply to a message: had it refused the account, no message had been accepted.
/// Such a refusal stays, so the next attempts do not stop the others either; an outage or a limit may be a new one.
///
/// If the account `fails` with others as well, since that message was accepted, it is not this one, unless it was found to be.
fn blame(item: &mut Item, outcome: &mut Outcome, known: &Known, ways: &Ways, fails: bool) {
    use TroubleKind::{Busy, Login, Quota, Rate, Sender, Setup};
    let Some(kind) = outcome.trouble.as_ref().map(|trouble| trouble.kind).filter(|kind| *kind != Rate) else { return };
    let stays = matches!(kind, Login | Sender | Setup);
    if !(item.woken && !fails || stays && item.at_fault) {
        item.demoted = item.demoted.saturating_add(1);
        return;
    }
    if let Some(trouble) = outcome.trouble.take_if(|_| stays || matches!(kind, Busy | Quota)) {
        item.at_fault |= stays;
        let mut state = known.state.clone();
        choose_recipients(&known.meta, &mut state, ways, item, None);
        for (index, _) in state.waiting() {
            if !outcome.results.iter().any(|(known, _)| *known == index) {
                outcome.results.push((index, Verdict::Deferred(trouble.why.clone())));
            }
        }
    }
}

#[cfg(test)]
mod tests;
