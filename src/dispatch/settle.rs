//! What becomes of a message after an attempt: log, journal, notice, removal.

use std::sync::Arc;
use std::time::Duration;

use super::delivery::Known;
use crate::config::Settings;
use crate::intake::{Desk, IntakeError, Origin};
use crate::message::{Envelope, is_address};
use crate::outbound::{Outcome, Verdict};
use crate::queue::record::{Attempt, Progress};
use crate::queue::schedule::Item;
use crate::queue::{Meta, Spool, blocking};
use crate::report::{Event, Failure, Notice};
use crate::system::clock;

/// Bytes of a notice at most: its texts are bounded, so this is never met.
const NOTICE_LIMIT: u64 = 1 << 20;

/// What is needed to settle an attempt.
pub struct Settle {
    /// The queue.
    pub spool: Arc<Spool>,
    /// Where notices go in.
    pub desk: Desk,
    /// The settings of now.
    pub settings: Arc<Settings>,
    /// Name of the account.
    pub account: String,
    /// How long those will wait who have to.
    pub wait: Duration,
}

impl Settle {
    /// Writes down what came of an attempt. Gives the message back when somebody still waits for it, with the time to
    /// wait, or without one when it waits for the account.
    pub async fn settle(
        self,
        item: Item,
        attempts: u32,
        outcome: Outcome,
        known: Option<Known>,
    ) -> Option<(Item, Option<Duration>)> {
        if let Some(reason) = outcome.damaged {
            let (spool, entry) = (self.spool, item.entry);
            let _ = tokio::task::spawn_blocking(move || spool.set_aside(&entry, &reason)).await;
            return None;
        }
        let waits_for_account = outcome.trouble.is_some();
        let left = match &known {
            Some(known) => self.apply(item, &outcome, known).await?,
            // The message was not touched: no connection, or its file could not be read now.
            None => item,
        };
        let attempts = if known.is_none() && waits_for_account { left.attempts } else { attempts };
        Some((Item { attempts, ..left }, (!waits_for_account).then_some(self.wait)))
    }

    async fn apply(&self, mut item: Item, outcome: &Outcome, known: &Known) -> Option<Item> {
        let Known { meta, header, state } = known;
        let mut results = self.results(&item, outcome, meta);
        let failures: Vec<Failure> = results
            .iter()
            .filter(|(_, progress, _)| *progress == Progress::Failed)
            .filter_map(|(index, _, reason)| {
                Some(Failure { recipient: meta.envelope.to.get(*index)?.clone(), reason: reason.clone() })
            })
            .collect();
        // First the notice is safe in the queue, then the failure is final: in this order nobody stays untold.
        if !failures.is_empty()
            && let Err(error) = self.notify(&item, meta, header, &failures).await
        {
            let reason = format!("the notice of its failure can't be queued, so it is tried again: {error}");
            Event::SpoolTrouble { id: item.entry.id.clone(), reason }.log();
            results.retain(|(_, progress, _)| *progress != Progress::Failed);
        }
        let attempt = Attempt { at: clock::now(), results };
        let mut state = state.clone();
        state.apply(&attempt);
        if state.is_done() {
            self.remove(&item).await;
            return None;
        }
        if !attempt.results.is_empty() {
            let (spool, entry, line) = (Arc::clone(&self.spool), item.entry.clone(), attempt.clone());
            if let Err(error) = blocking(move || spool.record(&entry, &line)).await {
                Event::SpoolTrouble { id: item.entry.id.clone(), reason: error.to_string() }.log();
                item.unsaved.push(attempt);
            }
        }
        Some(item)
    }

    /// Verdicts as journal results, each with its line in the log.
    fn results(&self, item: &Item, outcome: &Outcome, meta: &Meta) -> Vec<(usize, Progress, String)> {
        let id = || item.entry.id.clone();
        let delay = clock::age(item.entry.arrived).unwrap_or_else(|| item.since.elapsed().as_secs());
        let mut results = Vec::with_capacity(outcome.results.len());
        for (index, verdict) in &outcome.results {
            let Some(to) = meta.envelope.to.get(*index).cloned() else { continue };
            let (account, tls) = (self.account.clone(), outcome.tls.clone());
            let (progress, text) = match verdict {
                Verdict::Delivered(reply) => {
                    let (from, size, reply) = (meta.envelope.from.clone(), item.entry.size, reply.clone());
                    Event::Delivered { id: id(), from, to, size, account, tls, reply: reply.clone(), delay }.log();
                    (Progress::Delivered, reply)
                }
                Verdict::Deferred(reason) => {
                    Event::Deferred { id: id(), to, account, tls, reason: reason.clone(), next: self.wait }.log();
                    (Progress::Waiting, reason.clone())
                }
                Verdict::Failed(reason) => {
                    Event::Failed { id: id(), to, account, tls, reason: reason.clone(), delay }.log();
                    (Progress::Failed, reason.clone())
                }
            };
            results.push((*index, progress, text));
        }
        results
    }

    async fn remove(&self, item: &Item) {
        let (spool, entry) = (Arc::clone(&self.spool), item.entry.clone());
        match blocking(move || spool.remove(&entry)).await {
            Ok(()) => Event::Removed { id: item.entry.id.clone() }.log(),
            Err(error) => {
                let reason =
                    format!("it is done but can't be removed, and would be sent again after a restart: {error}");
                Event::SpoolTrouble { id: item.entry.id.clone(), reason }.log();
            }
        }
    }

    /// Queues the report to whoever can be told. A failed notice is only logged: a notice about a notice could go round
    /// for ever (RFC 5321 section 6.1).
    async fn notify(&self, item: &Item, meta: &Meta, header: &[u8], failures: &[Failure]) -> Result<(), IntakeError> {
        let about = item.entry.id.clone();
        let account_from = self.settings.accounts.first().map(|a| a.from.clone()).unwrap_or_default();
        if meta.notice || meta.envelope.from.is_empty() {
            let reason = "it is a notice itself, so nobody is told by mail".into();
            Event::Unreported { about, reason }.log();
            return Ok(());
        }
        let admin = self.settings.relay.admin.clone();
        let sender = Some(meta.envelope.from.clone()).filter(|from| can_be_told(from));
        let Some(to) = sender.or(admin).or(Some(account_from.clone())).filter(|to| is_address(to)) else {
            Event::Unreported {
                about,
                reason: "the sender has no mail address; set option admin to hear of failures".into(),
            }
            .log();
            return Ok(());
        };
        let hostname = self.settings.relay.hostname();
        let from = if is_address(&account_from) { account_from } else { format!("postmaster@{hostname}") };
        let notice = Notice {
            id: &about,
            hostname: &hostname,
            from: &from,
            to: &to,
            arrived: meta.arrived,
            client: &meta.client,
            header,
            failures,
        };
        let origin = Origin { client: None, helo: hostname.clone(), protocol: "local", notice: true };
        let envelope = Envelope { from: String::new(), to: vec![to.clone()], smtputf8: !to.is_ascii() };
        let mut intake = self.desk.begin(NOTICE_LIMIT)?;
        intake.push(&notice.text()).await?;
        let taken = intake.finish(envelope, &origin, &hostname, &from).await?;
        Event::Notified { id: taken.id, about, to }.log();
        Ok(())
    }

    /// Gives up a message that is older than `retry_for`; `pause` is why the account sends nothing now, if so. Gives it
    /// back when its notice can't be queued.
    pub async fn expire(self, item: Item, pause: Option<String>) -> Option<(Item, Option<Duration>)> {
        let (queue, entry) = (Arc::clone(&self.spool), item.entry.clone());
        let stored = match blocking(move || queue.open_message(&entry)).await {
            Ok(stored) => stored,
            Err(error) => {
                Event::SpoolTrouble { id: item.entry.id.clone(), reason: error.to_string() }.log();
                return Some((item, Some(self.wait)));
            }
        };
        let mut state = stored.state;
        item.unsaved.iter().for_each(|earlier| state.apply(earlier));
        let days = crate::config::units::format_duration(self.settings.relay.retry_for);
        let verdict = |last: &str| {
            let last = if last.is_empty() { pause.as_deref().unwrap_or("it was never its turn") } else { last };
            Verdict::Failed(format!("given up after {days}; the last trouble was: {last}"))
        };
        let waiting = state.recipients.iter().enumerate().filter(|(_, r)| r.progress == Progress::Waiting);
        let results = waiting.map(|(index, recipient)| (index, verdict(&recipient.text))).collect();
        let outcome = Outcome { results, ..Outcome::default() };
        let known = Known { meta: stored.meta, header: stored.header, state };
        let item = self.apply(item, &outcome, &known).await?;
        Some((item, Some(self.wait)))
    }
}

/// Whether a mail to the sender has a chance: many devices have addresses that exist nowhere.
fn can_be_told(address: &str) -> bool {
    const NOWHERE: [&str; 7] = ["local", "lan", "localdomain", "internal", "invalid", "home", "localhost"];
    let domain = address.rsplit('@').next().unwrap_or_default();
    let last = domain.rsplit('.').next().unwrap_or_default();
    is_address(address) && domain.contains('.') && !NOWHERE.iter().any(|name| last.eq_ignore_ascii_case(name))
}

#[cfg(test)]
mod tests {
    use super::can_be_told;

    #[test]
    fn only_senders_that_can_exist_are_told() {
        assert!(can_be_told("ops@example.com"));
        for nowhere in ["root", "plc@plant", "plc@plant.local", "a@x.LAN", "", "a b@c.de"] {
            assert!(!can_be_told(nowhere), "{nowhere}");
        }
    }
}
