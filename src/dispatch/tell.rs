//! Who hears of a failure or a delay, and the mail that tells: a report about one message (RFC 3464), or a summary.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::delivery::Ways;
use super::reporter::{Batch, Reporter};
use crate::config::Settings;
use crate::intake::{Behalf, Desk, IntakeError};
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
    /// What they say about devices and accounts.
    pub ways: Ways,
    /// Whether it is about failures of an earlier run: a summary has been due since then.
    pub earlier: bool,
    /// What waits to be told, of the whole program.
    pub reporter: Arc<Mutex<Reporter>>,
}

impl Teller {
    /// The news that wait; nothing waits while this is held.
    pub fn reporter(&self) -> MutexGuard<'_, Reporter> {
        self.reporter.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Who hears of a message, or why nobody does. A notice is never reported by mail: it could go round for ever
    /// (RFC 5321 section 6.1).
    ///
    /// The device wrote the sender's address, and a notice holds the header that it wrote. So a notice goes to whom the
    /// device itself may send, and to whom a mail of the device would go; otherwise it would be a way round its rules.
    fn addressees(&self, meta: &Meta) -> Result<Vec<String>, &'static str> {
        if meta.notice || meta.envelope.from.is_empty() {
            return Err("it is a notice itself, so nobody is told by mail");
        }
        let sender = &meta.envelope.from;
        let told = self.ways.policies.told(meta.marks.device.as_deref(), &meta.client, sender).unwrap_or_default();
        // What the settings say in place of the sender is there; what the device said often is not.
        let told: Vec<String> = told.into_iter().filter(|to| to != sender || can_be_told(to)).collect();
        if !told.is_empty() {
            return Ok(told);
        }
        let owner = self.settings.relay.admin.clone().or_else(|| self.account_from(meta));
        owner
            .filter(|to| is_address(to))
            .map(|to| vec![to])
            .ok_or("no address is known to which a notice may go; set option admin to hear of failures")
    }

    /// The address of the account by which the message leaves first.
    fn account_from(&self, meta: &Meta) -> Option<String> {
        let routes = &self.ways.routes;
        let recipient = meta.envelope.to.first().map_or("", String::as_str);
        let place = routes.accounts(routes.of(meta, recipient)).first();
        let account = place.and_then(|place| self.settings.accounts.get(*place));
        account.or_else(|| self.settings.accounts.first()).map(|account| account.from.clone())
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
        let to = match self.addressees(about.meta) {
            Ok(to) => to,
            Err(reason) => {
                Event::Unreported { about: about.entry.id.to_string(), reason: reason.into() }.log();
                return Ok(true);
            }
        };
        let (now, id) = (Instant::now(), about.entry.id.to_string());
        if self.earlier || !self.reporter().single(&to, kind, now) {
            let items = failures.into_iter().map(|(recipient, failure)| (recipient, summary_item(about, failure)));
            self.reporter().collect(
                &to,
                kind,
                (about.entry, &Behalf::of(about.meta)),
                items,
                ((now, clock::now()), self.earlier),
            );
            return Ok(kind != Kind::Failed);
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
        let notice = self.post(text, &to, Behalf::of(about.meta), (&hostname, &from)).await?;
        Event::Notified { id: notice, about: id, to: to.join(", ") }.log();
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
        let id = self.post(summary.text(), &batch.to, batch.behalf.clone(), (&hostname, &from)).await?;
        let about = format!("{}-messages", batch.messages.len());
        Event::Notified { id, about, to: batch.to.join(", ") }.log();
        Ok(())
    }

    /// Queues a mail of our own, with the null sender: nothing about it ever comes back (RFC 5321 section 4.5.5).
    /// It takes the way that mail of the device does.
    async fn post(
        &self,
        text: Vec<u8>,
        to: &[String],
        behalf: Behalf,
        own: (&str, &str),
    ) -> Result<String, IntakeError> {
        let smtputf8 = to.iter().any(|address| !address.is_ascii());
        let envelope = Envelope { from: String::new(), to: to.to_vec(), smtputf8 };
        self.desk.post(&text, envelope, behalf, own).await
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
