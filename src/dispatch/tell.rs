//! Who hears of a failure or a delay, and the mail that tells: a report about one message (RFC 3464), or a summary.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::reporter::{Batch, Reporter};
use crate::config::Settings;
use crate::intake::{Desk, IntakeError};
use crate::message::{Envelope, header, is_address};
use crate::queue::{Entry, Meta};
use crate::report::{Event, Failure, Kind, Notice, Summary, SummaryItem};
use crate::system::clock;

/// Characters of a subject that are kept for a summary.
const SUBJECT_SHOWN: usize = 200;

/// A message that has news for its sender.
pub struct About<'a> {
    /// Where it is in the queue.
    pub entry: &'a Entry,
    /// Its envelope and circumstances.
    pub meta: &'a Meta,
    /// When it was accepted, seconds since 1970, as well as it is known now.
    pub arrived: i64,
    /// Its header.
    pub header: &'a [u8],
}

/// Writes the mails that tell.
#[derive(Clone)]
pub struct Teller {
    /// Where they go in.
    pub desk: Desk,
    /// The settings of now.
    pub settings: Arc<Settings>,
    /// What waits to be told, of the whole program.
    pub reporter: Arc<Mutex<Reporter>>,
}

impl Teller {
    /// The news that wait; nothing waits while this is held.
    pub fn reporter(&self) -> MutexGuard<'_, Reporter> {
        self.reporter.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn account_from(&self) -> String {
        self.settings.accounts.first().map(|a| a.from.clone()).unwrap_or_default()
    }

    /// Who hears of a message, or why nobody does. A notice is never reported by mail: it could go round for ever
    /// (RFC 5321 section 6.1).
    fn addressee(&self, meta: &Meta) -> Result<String, &'static str> {
        if meta.notice || meta.envelope.from.is_empty() {
            return Err("it is a notice itself, so nobody is told by mail");
        }
        let sender = Some(meta.envelope.from.clone()).filter(|from| can_be_told(from));
        let somebody = sender.or_else(|| self.settings.relay.admin.clone()).or_else(|| Some(self.account_from()));
        somebody
            .filter(|to| is_address(to))
            .ok_or("the sender has no mail address; set option admin to hear of failures")
    }

    /// Sees to it that somebody hears of `failures`, each with the recipient's place in the envelope. True when nothing more is to be done; false when the news wait for
    /// a summary, so that the message must stay.
    ///
    /// # Errors
    /// When the queue does not take the notice.
    pub async fn tell(
        &self,
        about: &About<'_>,
        kind: Kind,
        failures: Vec<(usize, Failure)>,
    ) -> Result<bool, IntakeError> {
        let to = match self.addressee(about.meta) {
            Ok(to) => to,
            Err(reason) => {
                Event::Unreported { about: about.entry.id.to_string(), reason: reason.into() }.log();
                return Ok(true);
            }
        };
        let (now, id) = (Instant::now(), about.entry.id.to_string());
        if !self.reporter().single(&to, kind, now) {
            let items = failures.into_iter().map(|(recipient, failure)| (recipient, summary_item(about, failure)));
            self.reporter().collect(&to, kind, about.entry, items, (now, clock::now()));
            return Ok(kind == Kind::Delayed);
        }
        let hostname = self.settings.relay.hostname();
        let from = self.settings.own_address(&hostname);
        let failures: Vec<Failure> = failures.into_iter().map(|(_, failure)| failure).collect();
        let notice = Notice {
            kind,
            id: &id,
            hostname: &hostname,
            from: &from,
            to: &to,
            arrived: about.arrived,
            retry_until: Some(about.arrived.saturating_add_unsigned(self.settings.relay.retry_for.as_secs())),
            client: &about.meta.client,
            header: about.header,
            failures: &failures,
        };
        let text = notice.text();
        let notice = self.post(text, &from, &to, &hostname).await?;
        Event::Notified { id: notice, about: id, to }.log();
        Ok(true)
    }

    /// Puts a summary into the queue.
    ///
    /// # Errors
    /// When the queue does not take it.
    pub async fn summarize(&self, batch: &Batch) -> Result<(), IntakeError> {
        let hostname = self.settings.relay.hostname();
        let from = self.settings.own_address(&hostname);
        let summary = Summary {
            hostname: &hostname,
            from: &from,
            to: &batch.to,
            kind: batch.kind,
            since: batch.since,
            until: clock::now(),
            total: batch.left_out.saturating_add(batch.items.len() as u64),
            items: &batch.items,
            left_out: batch.left_out,
        };
        let id = self.post(summary.text(), &from, &batch.to, &hostname).await?;
        let about = format!("{}-messages", batch.messages.len());
        Event::Notified { id, about, to: batch.to.clone() }.log();
        Ok(())
    }

    /// Queues a mail of our own, with the null sender: nothing about it ever comes back (RFC 5321 section 4.5.5).
    async fn post(&self, text: Vec<u8>, from: &str, to: &str, hostname: &str) -> Result<String, IntakeError> {
        let envelope = Envelope { from: String::new(), to: vec![to.into()], smtputf8: !to.is_ascii() };
        self.desk.post(&text, envelope, hostname, from).await
    }
}

fn summary_item(about: &About<'_>, failure: Failure) -> SummaryItem {
    let subject = header::find(about.header, "Subject").map(|field| field.unfolded()).unwrap_or_default();
    let subject = String::from_utf8_lossy(&subject).trim().chars().take(SUBJECT_SHOWN).collect();
    SummaryItem {
        id: about.entry.id.to_string(),
        arrived: about.arrived,
        client: about.meta.client.clone(),
        subject,
        recipient: failure.recipient,
        reason: failure.reason,
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
