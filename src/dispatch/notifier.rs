// SPDX-License-Identifier: Apache-2.0
//! Who is notified of failures, and when: the first few per person at once, the rest of a storm in one summary.
//!
//! A message whose failure has not been reported yet stays in the queue, so that a crash loses no report. Pure: the
//! caller has the clock and the queue.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use super::delivery::Ways;
use crate::config::Settings;
use crate::intake::{Behalf, Desk, IntakeError};
use crate::message::{Envelope, header, is_address};
use crate::queue::{ById, Entry, Item, MessageId, Meta};
use crate::report::{Event, FailedRecipient, Notice, ReportKind, Summary, SummaryItem};
use crate::system::clock;
use crate::system::lock;

/// Notifications that one person gets as single mails within [`WINDOW`].
const SINGLES: u32 = 3;
/// The interval in which single mails are counted.
const WINDOW: Duration = Duration::from_secs(600);
/// How long further ones are collected.
const COLLECT: Duration = Duration::from_secs(300);
/// How long a summary waits when the queue refuses it.
const AGAIN: Duration = Duration::from_secs(60);
/// Messages that one summary lists; the rest are only included in its total.
const LISTED: usize = 500;

/// The state for one person and one kind of report.
struct Towards {
    to: Vec<String>,
    kind: ReportKind,
    singles: u32,
    window_ends: Option<Instant>,
    due: Option<Instant>,
    /// When it is sent at the latest, regardless of what comes in the meantime.
    latest: Option<Instant>,
    /// Whether an earlier run has collected some of it.
    earlier: bool,
    reports: Reports,
}

impl Towards {
    fn new(to: &[String], kind: ReportKind) -> Self {
        let (singles, window_ends, due, latest, earlier) = (0, None, None, None, false);
        Self { to: to.to_vec(), kind, singles, window_ends, due, latest, earlier, reports: Reports::default() }
    }
}

/// Reports for one person that go into one mail.
#[derive(Default)]
pub struct Reports {
    /// The device: what is the same for all of the messages.
    pub behalf: Behalf,
    /// Since when they have been collected, seconds since 1970.
    pub since: i64,
    /// The messages.
    pub items: Vec<SummaryItem>,
    /// The number of all messages, including those that are not listed.
    pub messages: ById<News>,
    /// How many are omitted.
    pub left_out: u64,
}

impl Reports {
    fn list(&mut self, item: SummaryItem) {
        if self.items.len() < LISTED {
            self.items.push(item);
        } else {
            self.left_out = self.left_out.saturating_add(1);
        }
    }
}

/// What is reported about one message.
#[derive(Debug, Clone)]
pub struct News {
    /// The message.
    entry: Entry,
    /// The recipients that it concerns, by their index in the envelope.
    recipients: Vec<usize>,
}

fn add(messages: &mut ById<News>, id: MessageId, news: News) {
    match messages.get_mut(&id) {
        Some(known) => known.recipients.extend(news.recipients),
        None => drop(messages.insert(id, Box::new(news))),
    }
}

/// Reports that are due.
pub struct Batch {
    /// The person.
    pub to: Vec<String>,
    /// The kind of report.
    pub kind: ReportKind,
    /// What goes into the mail.
    pub reports: Reports,
}

/// All pending reports.
#[derive(Default)]
pub struct Reporter {
    /// Of those who were notified lately, or are to be.
    towards: Vec<Towards>,
    /// What is in batches that are being reported, by kind.
    telling: Vec<(ReportKind, ById<News>)>,
    /// Messages that are finished except for their reports.
    parked: Vec<Item>,
    /// The number of messages of an earlier run that are still being read, and one for reading the queue.
    reading: u32,
}

impl Reporter {
    /// What an earlier run collected is still to be read.
    pub fn new() -> Self {
        Self { reading: 1, ..Self::default() }
    }

    /// A message of an earlier run is read, since something about it has to be reported.
    pub fn reads_one(&mut self) {
        self.reading = self.reading.saturating_add(1);
    }

    /// A message of an earlier run, or the whole queue, has been read. What an earlier run collected has waited
    /// already, and each restart might delay it again: so nothing is waited for once it is complete.
    pub fn has_read(&mut self, now: Instant) {
        self.reading = self.reading.saturating_sub(1);
        for towards in self.towards.iter_mut().filter(|towards| self.reading == 0 && towards.earlier) {
            towards.due = towards.due.map(|due| due.min(now));
        }
    }

    fn towards(&mut self, to: &[String], kind: ReportKind) -> Option<&mut Towards> {
        let is_it = |towards: &Towards| towards.kind == kind && towards.to == to;
        let place = self.towards.iter().position(is_it).unwrap_or_else(|| {
            self.towards.push(Towards::new(to, kind));
            self.towards.len() - 1
        });
        self.towards.get_mut(place)
    }

    /// Whether a report for `to` may be sent as a separate mail now.
    pub fn single(&mut self, to: &[String], kind: ReportKind, now: Instant) -> bool {
        self.forget_old(now);
        let Some(towards) = self.towards(to, kind).filter(|towards| towards.due.is_none()) else { return false };
        towards.window_ends.get_or_insert(now + WINDOW);
        towards.singles = towards.singles.saturating_add(1);
        towards.singles <= SINGLES
    }

    fn forget_old(&mut self, now: Instant) {
        self.towards.retain(|towards| towards.due.is_some() || towards.window_ends.is_some_and(|end| end > now));
    }

    /// Keeps reports of a message for the next summary, with the recipients' indexes. What is from an `earlier` run is
    /// reported when all of that has been read.
    pub fn collect(
        &mut self,
        to: &[String],
        kind: ReportKind,
        (entry, behalf): (&Entry, &Behalf),
        items: impl IntoIterator<Item = (usize, SummaryItem)>,
        (now, earlier): ((Instant, i64), bool),
    ) {
        let Some(towards) = self.towards(to, kind) else { return };
        let fresh = towards.due.is_none();
        let latest = *towards.latest.get_or_insert(now.0 + COLLECT);
        towards.due.get_or_insert(latest);
        towards.earlier |= earlier;
        let reports = &mut towards.reports;
        if fresh {
            reports.since = now.1;
            reports.behalf = behalf.clone();
        } else {
            reports.behalf.keep_common(behalf);
        }
        let mut recipients = Vec::new();
        for (recipient, item) in items {
            recipients.push(recipient);
            reports.list(item);
        }
        add(&mut reports.messages, entry.id, News { entry: entry.clone(), recipients });
    }

    /// These recipients of message `id`, by index and address, have got it or never will: a summary that still calls them
    /// delayed or in doubt would contradict that. `None`: it was deleted, and with it what is known of all of them.
    pub fn finished(&mut self, id: MessageId, over: Option<&[(usize, &str)]>) {
        let is_over = |is_it: &dyn Fn(&(usize, &str)) -> bool| over.is_none_or(|over| over.iter().any(is_it));
        for towards in self.towards.iter_mut().filter(|towards| towards.kind != ReportKind::Failed) {
            let reports = &mut towards.reports;
            let Some(news) = reports.messages.get_mut(&id) else { continue };
            let (name, named, listed) = (id.to_string(), news.recipients.len(), reports.items.len());
            news.recipients.retain(|index| !is_over(&|(known, _)| known == index));
            let left = news.recipients.len();
            reports.items.retain(|item| item.id != name || !is_over(&|(_, to)| *to == item.recipient));
            // Those that are gone and were not listed.
            let unlisted = (named - left).saturating_sub(listed - reports.items.len());
            reports.left_out = reports.left_out.saturating_sub(unlisted as u64);
            if left == 0 {
                reports.messages.remove(&id);
            }
            if reports.messages.is_empty() {
                (towards.due, towards.latest, towards.reports) = (None, None, Reports::default());
            }
        }
    }

    /// What is collected of this kind about message `id`.
    fn collected(&self, id: MessageId, kind: ReportKind) -> impl Iterator<Item = &News> {
        let same = self.towards.iter().filter(move |towards| towards.kind == kind);
        same.filter_map(move |towards| towards.reports.messages.get(&id)).map(|news| &**news)
    }

    /// What is still to be reported of this kind about message `id`.
    fn untold(&self, id: MessageId, kind: ReportKind) -> impl Iterator<Item = &News> {
        let telling = self.telling.iter().filter(move |(of, _)| *of == kind);
        self.collected(id, kind).chain(telling.filter_map(move |(_, telling)| telling.get(&id)).map(|news| &**news))
    }

    /// Whether something of this kind is still to be reported about message `id`.
    pub fn has(&self, id: MessageId, kind: ReportKind) -> bool {
        self.untold(id, kind).next().is_some()
    }

    /// Whether what happened to message `id` for this recipient is among them.
    pub fn knows(&self, id: MessageId, kind: ReportKind, recipient: usize) -> bool {
        self.untold(id, kind).any(|news| news.recipients.contains(&recipient))
    }

    /// Keeps a finished message until its failures are reported.
    pub fn park(&mut self, item: Item) {
        self.parked.push(item);
    }

    /// Messages that are kept only for their reports.
    pub fn parked(&self) -> usize {
        self.parked.len()
    }

    /// When the next summary is to be written.
    pub fn next(&self) -> Option<Instant> {
        self.towards.iter().filter_map(|towards| towards.due).min()
    }

    /// The reports that are due.
    pub fn take_due(&mut self, now: Instant) -> Option<Batch> {
        let towards = self.towards.iter_mut().find(|towards| towards.due.is_some_and(|due| due <= now))?;
        towards.due = None;
        towards.latest = None;
        towards.earlier = false;
        // After a summary, the next reports to the same person are summarized, too.
        towards.window_ends = Some(now + WINDOW);
        let (to, kind, reports) = (towards.to.clone(), towards.kind, std::mem::take(&mut towards.reports));
        let place = self.telling.iter().position(|(of, _)| *of == kind).unwrap_or_else(|| {
            self.telling.push((kind, ById::new()));
            self.telling.len() - 1
        });
        if let Some((_, telling)) = self.telling.get_mut(place) {
            // Another batch may be about other recipients of the same message, for another person.
            reports.messages.iter().for_each(|(id, news)| add(telling, *id, News::clone(news)));
        }
        Some(Batch { to, kind, reports })
    }

    fn release(&mut self, batch: &Batch) {
        for (_, telling) in self.telling.iter_mut().filter(|(of, _)| *of == batch.kind) {
            for (id, told) in &batch.reports.messages {
                let Some(news) = telling.get_mut(id) else { continue };
                news.recipients.retain(|index| !told.recipients.contains(index));
                if news.recipients.is_empty() {
                    telling.remove(id);
                }
            }
        }
    }

    /// A batch was reported: for these messages and recipients this is recorded, then [`Self::forget`] follows. Not for
    /// messages that leave with it. One about which more has been collected meanwhile stays, and the next summary will
    /// name only that.
    pub fn told(&self, batch: &Batch) -> Vec<(Entry, Vec<usize>)> {
        let mut parked: Vec<MessageId> = self.parked.iter().map(|item| item.entry.id).collect();
        parked.sort_unstable();
        let stays =
            |id: &MessageId| parked.binary_search(id).is_err() || self.collected(*id, batch.kind).next().is_some();
        let messages = batch.reports.messages.iter().filter(|(id, _)| stays(id));
        messages.map(|(_, news)| (news.entry.clone(), news.recipients.clone())).collect()
    }

    /// That a batch was reported is recorded. Returns the messages that were kept only for it: they are removed.
    pub fn forget(&mut self, batch: &Batch) -> Vec<Item> {
        self.release(batch);
        let parked = std::mem::take(&mut self.parked);
        let was_in = |id| batch.kind == ReportKind::Failed && batch.reports.messages.contains_key(&id);
        let over = |item: &Item| was_in(item.entry.id) && !self.has(item.entry.id, batch.kind);
        let (done, parked) = parked.into_iter().partition(over);
        self.parked = parked;
        done
    }

    /// A batch could not be reported; it is retried.
    pub fn not_told(&mut self, batch: Batch, now: Instant) {
        self.release(&batch);
        let Some(towards) = self.towards(&batch.to, batch.kind) else { return };
        let later = std::mem::replace(&mut towards.reports, batch.reports);
        let reports = &mut towards.reports;
        if towards.due.is_some() {
            reports.behalf.keep_common(&later.behalf);
        }
        towards.due = Some(now + AGAIN);
        later.messages.into_iter().for_each(|(id, news)| add(&mut reports.messages, id, *news));
        reports.left_out = reports.left_out.saturating_add(later.left_out);
        later.items.into_iter().for_each(|item| reports.list(item));
    }
}

/// Characters of a subject that are kept for a summary.
const SUBJECT_SHOWN: usize = 200;

/// A message to be reported to its sender.
pub struct About<'a> {
    /// Where it is in the queue.
    pub entry: &'a Entry,
    /// Its envelope and metadata.
    pub meta: &'a Meta,
    /// When it was accepted, seconds since 1970, as far as known now.
    pub arrived: i64,
    /// How long it had to rest since then because of its rate.
    pub rested: Duration,
    /// When it was last released from hold, seconds since 1970.
    pub released: Option<i64>,
    /// Its header.
    pub header: &'a [u8],
    /// Whether a recipient of it is still tried.
    pub goes_on: bool,
}

/// Writes the reports.
#[derive(Clone)]
pub struct Teller {
    /// The intake that they are queued through.
    pub desk: Desk,
    /// The current settings.
    pub settings: Arc<Settings>,
    /// What the settings say about devices and accounts.
    pub ways: Ways,
    /// Whether it is about what an earlier run left: a summary has been due since then.
    pub earlier: bool,
    /// The pending reports of the whole program.
    pub reporter: Arc<Mutex<Reporter>>,
}

impl Teller {
    /// The pending reports; nothing waits while this is locked.
    pub fn reporter(&self) -> MutexGuard<'_, Reporter> {
        lock(&self.reporter)
    }

    /// Who is notified about a message, or why nobody is. A notification is never reported by mail: this could loop
    /// forever (RFC 5321 section 6.1).
    ///
    /// The device chose the sender's address, and a notification contains the header that it wrote. So it goes only
    /// where the device itself may send and where mail of the device would go; otherwise it would bypass its rules.
    fn addressees(&self, meta: &Meta) -> Result<Vec<String>, &'static str> {
        if meta.notice || meta.envelope.from.is_empty() {
            return Err("it is a notification itself, so no notification is sent for it");
        }
        if self.settings.accounts.iter().all(|account| account.channel.is_some()) && !self.settings.accounts.is_empty()
        {
            return Err("only channels are set up, and notifications are sent as mail; add a section account");
        }
        let sender = &meta.envelope.from;
        let told = self.ways.policies.told(meta.marks.device.as_deref(), &meta.client, sender).unwrap_or_default();
        // An address from the settings exists; one from the device often does not.
        let told: Vec<String> = told.into_iter().filter(|to| to != sender || can_be_told(to)).collect();
        if !told.is_empty() {
            return Ok(told);
        }
        let owner = self.settings.relay.admin.clone().or_else(|| self.account_from(meta));
        owner
            .filter(|to| is_address(to))
            .map(|to| vec![to])
            .ok_or("no known address may receive a notification; set option admin to be notified of failures")
    }

    /// The address of the account through which the message is sent first.
    fn account_from(&self, meta: &Meta) -> Option<String> {
        let routes = &self.ways.routes;
        let recipient = meta.envelope.to.first().map_or("", String::as_str);
        let places = routes.accounts(routes.of(meta, recipient)).iter();
        let mut accounts = places.filter_map(|place| self.settings.accounts.get(*place));
        // A channel has no address; accounts come before channels.
        let account = accounts.find(|account| account.channel.is_none());
        account.or_else(|| self.settings.accounts.first()).map(|account| account.from.clone())
    }

    /// Reports `failures`, each with the recipient's index in the envelope. True when nothing more is to be done; false
    /// when the reports wait for a summary, so that the message must stay.
    ///
    /// # Errors
    /// When the queue refuses the notification.
    pub async fn tell(
        &self,
        about: &About<'_>,
        kind: ReportKind,
        failures: Vec<(usize, FailedRecipient)>,
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
            self.collect(&to, kind, about, failures);
            return Ok(false);
        }
        let hostname = self.settings.relay.hostname();
        let from = self.settings.own_address(&hostname);
        // As `Item::is_too_old` decides it.
        let attempted = self.settings.relay.retry_for.as_secs();
        let until = about.arrived.saturating_add_unsigned(attempted.saturating_add(about.rested.as_secs()));
        let until = until.max(about.released.map_or(i64::MIN, |at| at.saturating_add_unsigned(attempted)));
        let failed: Vec<FailedRecipient> = failures.iter().map(|(_, failure)| failure.clone()).collect();
        let notice = Notice {
            kind,
            id: &id,
            hostname: &hostname,
            from: &from,
            to: &to,
            arrived: about.arrived,
            goes_on: about.goes_on,
            retry_until: Some(until),
            client: &about.meta.client,
            header: about.header,
            subjects: self.settings.relay.log_subject,
            failures: &failed,
        };
        let text = notice.text();
        match self.post(text, &to, Behalf::of(about.meta), (&hostname, &from)).await {
            Ok(notice) => Event::Notified { id: notice, about: id, to: to.join(", ") }.log(),
            Err(error) => {
                // No other attempt follows, after which it could be reported.
                if kind != ReportKind::Delayed {
                    self.collect(&to, kind, about, failures);
                }
                return Err(error);
            }
        }
        Ok(true)
    }

    fn collect(&self, to: &[String], kind: ReportKind, about: &About<'_>, failures: Vec<(usize, FailedRecipient)>) {
        let items = failures.into_iter().map(|(recipient, failure)| (recipient, summary_item(about, failure)));
        let (subject, times) = ((about.entry, &Behalf::of(about.meta)), (Instant::now(), clock::now()));
        self.reporter().collect(to, kind, subject, items, (times, self.earlier));
    }

    /// Puts a summary into the queue.
    ///
    /// # Errors
    /// When the queue refuses it.
    pub async fn summarize(&self, batch: &Batch) -> Result<(), IntakeError> {
        let hostname = self.settings.relay.hostname();
        let from = self.settings.own_address(&hostname);
        let Batch { to, kind, reports } = batch;
        let summary = Summary {
            hostname: &hostname,
            from: &from,
            to,
            kind: *kind,
            since: reports.since,
            until: clock::now(),
            total: reports.left_out.saturating_add(reports.items.len() as u64),
            subjects: self.settings.relay.log_subject,
            items: &reports.items,
            left_out: reports.left_out,
        };
        let id = self.post(summary.text(), to, reports.behalf.clone(), (&hostname, &from)).await?;
        let about = format!("{}-messages", reports.messages.len());
        Event::Notified { id, about, to: to.join(", ") }.log();
        Ok(())
    }

    /// Queues a mail of our own, with the null sender: it is never bounced (RFC 5321 section 4.5.5).
    /// It takes the route that mail of the device does.
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

fn summary_item(about: &About<'_>, failure: FailedRecipient) -> SummaryItem {
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

/// Whether a mail to the sender can be delivered: many devices use addresses that do not exist.
fn can_be_told(address: &str) -> bool {
    const NOWHERE: [&str; 7] = ["local", "lan", "localdomain", "internal", "invalid", "home", "localhost"];
    let domain = address.rsplit('@').next().unwrap_or_default();
    let last = domain.rsplit('.').next().unwrap_or_default();
    is_address(address) && domain.contains('.') && !NOWHERE.iter().any(|name| last.eq_ignore_ascii_case(name))
}

#[cfg(test)]
mod tests {
    use super::{can_be_told, *};
    use crate::queue::{Client, Place};

    fn to() -> Vec<String> {
        vec!["ops@example.com".into()]
    }

    fn id(n: usize) -> MessageId {
        format!("{n:010}").parse().unwrap()
    }

    fn news(n: usize) -> SummaryItem {
        SummaryItem {
            id: id(n).to_string(),
            arrived: 0,
            client: "10.0.0.7".into(),
            subject: "alarm".into(),
            recipient: "x@y.z".into(),
            reason: "no".into(),
        }
    }

    fn item(n: usize, now: Instant) -> Item {
        Item::new(Entry { id: id(n), client: Client::Own, place: Place::Spool, arrived: 0, size: 1 }, now)
    }

    /// Collects the failure of the first recipient of message `n`.
    fn collect(reporter: &mut Reporter, n: usize, behalf: &Behalf, now: (Instant, i64)) {
        let entry = item(n, now.0).entry;
        reporter.collect(&to(), ReportKind::Failed, (&entry, behalf), [(0, news(n))], (now, false));
    }

    /// A storm: what is reported at once; the rest comes in one batch.
    fn storm(reporter: &mut Reporter, count: usize, now: Instant) -> usize {
        let mut singles = 0;
        for n in 0..count {
            if reporter.single(&to(), ReportKind::Failed, now) {
                singles += 1;
            } else {
                collect(reporter, n, &Behalf::default(), (now, 7));
                reporter.park(item(n, now));
            }
        }
        singles
    }

    #[test]
    fn a_storm_is_three_mails_and_a_summary() {
        let now = Instant::now();
        let mut reporter = Reporter::default();
        assert_eq!(storm(&mut reporter, 700, now), 3);
        assert!(reporter.take_due(now + COLLECT - Duration::from_secs(1)).is_none());
        assert_eq!(reporter.next(), Some(now + COLLECT));
        let batch = reporter.take_due(now + COLLECT).unwrap();
        let reports = &batch.reports;
        let counts = (reports.items.len(), reports.left_out, reports.messages.len(), reports.since);
        assert_eq!(counts, (500, 197, 697, 7));
        assert!(reporter.take_due(now + COLLECT).is_none());
        // Until it is reported, the messages are kept.
        assert!(reporter.has(id(10), ReportKind::Failed));
        assert_eq!(reporter.parked(), 697);
        assert_eq!(reporter.told(&batch).len(), 0);
        assert!(reporter.has(id(10), ReportKind::Failed), "until that is recorded");
        assert_eq!(reporter.forget(&batch).len(), 697);
        assert!(!reporter.has(id(10), ReportKind::Failed));
        assert_eq!((reporter.parked(), reporter.next()), (0, None));
        // After a summary the next reports are summarized as well; single mails return after some quiet time.
        assert!(!reporter.single(&to(), ReportKind::Failed, now + COLLECT + Duration::from_secs(1)));
        assert!(reporter.single(&to(), ReportKind::Failed, now + COLLECT + WINDOW));
    }

    #[test]
    fn a_summary_is_written_for_the_device_that_all_of_it_comes_from() {
        let now = Instant::now();
        let behalf = |client: &str, device: &str| Behalf {
            client: client.parse().ok(),
            device: Some(device.into()),
            login: None,
        };
        let summary = |all: &[Behalf]| {
            let mut reporter = Reporter::default();
            for (n, behalf) in all.iter().enumerate() {
                collect(&mut reporter, n, behalf, (now, 7));
            }
            let batch = reporter.take_due(now + COLLECT).unwrap();
            // It is refused, and one more of another device comes meanwhile.
            collect(&mut reporter, 99, &behalf("10.0.0.9", "yard"), (now + COLLECT, 9));
            let first = batch.reports.behalf.clone();
            reporter.not_told(batch, now + COLLECT);
            assert_eq!(reporter.take_due(now + COLLECT + AGAIN).unwrap().reports.behalf, Behalf::default());
            first
        };
        let (one, two) = (behalf("10.0.0.7", "hall"), behalf("10.0.0.8", "hall"));
        assert_eq!(summary(&[one.clone(), one.clone()]), one);
        assert_eq!(summary(&[one.clone(), two]), Behalf { client: None, ..one.clone() });
        assert_eq!(summary(&[one, behalf("10.0.0.7", "pump")]), Behalf { device: None, ..behalf("10.0.0.7", "") });
    }

    #[test]
    fn what_an_earlier_run_collected_is_told_soon_and_in_one_mail() {
        let now = Instant::now();
        let to = to();
        let collect = |reporter: &mut Reporter, n, earlier| {
            let entry = item(n, now).entry;
            reporter.collect(
                &to,
                ReportKind::Delayed,
                (&entry, &Behalf::default()),
                [(0, news(n))],
                ((now, 7), earlier),
            );
        };
        let mut reporter = Reporter::new();
        reporter.reads_one();
        reporter.reads_one();
        collect(&mut reporter, 1, true);
        reporter.has_read(now);
        // Of a long queue only the time limit of a summary is kept.
        assert_eq!(reporter.next(), Some(now + COLLECT));
        reporter.has_read(now);
        collect(&mut reporter, 2, true);
        assert_eq!(reporter.next(), Some(now + COLLECT));
        reporter.has_read(now);
        assert_eq!(reporter.next(), Some(now));
        assert_eq!(reporter.take_due(now).unwrap().reports.items.len(), 2);
        // What this run collects has its own time.
        let mut reporter = Reporter::new();
        collect(&mut reporter, 3, false);
        reporter.has_read(now);
        assert_eq!(reporter.next(), Some(now + COLLECT));
    }

    #[test]
    fn people_and_kinds_of_news_are_counted_apart() {
        let now = Instant::now();
        let mut reporter = Reporter::default();
        storm(&mut reporter, 10, now);
        assert!(reporter.single(&["other@example.com".into()], ReportKind::Failed, now));
        assert!(reporter.single(&to(), ReportKind::Delayed, now));
    }

    #[test]
    fn a_summary_that_was_not_taken_comes_again_with_what_was_new() {
        let now = Instant::now();
        let mut reporter = Reporter::default();
        storm(&mut reporter, 10, now);
        let batch = reporter.take_due(now + COLLECT).unwrap();
        collect(&mut reporter, 99, &Behalf::default(), (now + COLLECT, 9));
        reporter.not_told(batch, now + COLLECT);
        assert!(reporter.has(id(5), ReportKind::Failed) && reporter.has(id(99), ReportKind::Failed));
        let again = reporter.take_due(now + COLLECT + AGAIN).unwrap();
        assert_eq!((again.reports.items.len(), again.reports.since), (8, 7));
        assert_eq!(again.reports.items.last().map(|item| item.id.clone()), Some(id(99).to_string()));
        assert_eq!((reporter.told(&again).len(), reporter.forget(&again).len()), (1, 7));
    }

    #[test]
    fn a_message_with_more_to_tell_stays_until_all_is_told() {
        let now = Instant::now();
        let mut reporter = Reporter::default();
        let collect = |reporter: &mut Reporter, kind, recipient, now| {
            let entry = item(1, now).entry;
            reporter.collect(&to(), kind, (&entry, &Behalf::default()), [(recipient, news(1))], ((now, 7), false));
        };
        // A pending delay report does not concern failures.
        collect(&mut reporter, ReportKind::Delayed, 0, now);
        assert!(reporter.has(id(1), ReportKind::Delayed));
        assert!(!reporter.has(id(1), ReportKind::Failed) && !reporter.knows(id(1), ReportKind::Failed, 0));
        collect(&mut reporter, ReportKind::Failed, 0, now);
        assert!(
            reporter.knows(id(1), ReportKind::Failed, 0)
                && !reporter.knows(id(1), ReportKind::Failed, 1)
                && !reporter.has(id(2), ReportKind::Failed)
        );
        let due = now + COLLECT;
        let mut batches: Vec<Batch> = std::iter::from_fn(|| reporter.take_due(due)).collect();
        let first = batches.remove(batches.iter().position(|batch| batch.kind == ReportKind::Failed).unwrap());
        assert!(reporter.knows(id(1), ReportKind::Failed, 0));
        // The second recipient fails while the first is being reported.
        collect(&mut reporter, ReportKind::Failed, 1, due);
        reporter.park(item(1, now));
        let told: Vec<Vec<usize>> = reporter.told(&first).into_iter().map(|(_, recipients)| recipients).collect();
        assert_eq!((told, reporter.forget(&first).len(), reporter.parked()), (vec![vec![0]], 0, 1));
        assert!(!reporter.knows(id(1), ReportKind::Failed, 0) && reporter.knows(id(1), ReportKind::Failed, 1));
        let second = reporter.take_due(due + COLLECT).unwrap();
        assert_eq!(reporter.forget(&batches.remove(0)).len(), 0);
        assert_eq!((reporter.told(&second).len(), reporter.forget(&second).len()), (0, 1));
        assert!(!reporter.has(id(1), ReportKind::Failed));
    }

    /// Option admin was changed between two failures of one message, so both summaries are written at the same time.
    #[test]
    fn summaries_for_two_people_about_one_message_are_known_apart() {
        let now = Instant::now();
        let mut reporter = Reporter::default();
        for (recipient, to) in ["old@example.com", "new@example.com"].into_iter().enumerate() {
            let (entry, behalf) = (item(1, now).entry, Behalf::default());
            let news = [(recipient, news(1))];
            reporter.collect(&[to.into()], ReportKind::Failed, (&entry, &behalf), news, ((now, 7), false));
        }
        reporter.park(item(1, now));
        let batches: Vec<Batch> = std::iter::from_fn(|| reporter.take_due(now + COLLECT)).collect();
        let known = |reporter: &Reporter| [0, 1].map(|index| reporter.knows(id(1), ReportKind::Failed, index));
        assert_eq!((batches.len(), known(&reporter)), (2, [true, true]));
        assert_eq!((reporter.forget(&batches[0]).len(), known(&reporter)), (0, [false, true]));
        assert_eq!((reporter.forget(&batches[1]).len(), known(&reporter)), (1, [false, false]));
    }

    #[test]
    fn a_message_that_is_finished_while_its_report_is_recorded_leaves_with_it() {
        let now = Instant::now();
        let mut reporter = Reporter::default();
        collect(&mut reporter, 1, &Behalf::default(), (now, 7));
        let batch = reporter.take_due(now + COLLECT).unwrap();
        // Another recipient is pending, and gets it now.
        assert_eq!(reporter.told(&batch).len(), 1);
        assert!(reporter.knows(id(1), ReportKind::Failed, 0));
        reporter.park(item(1, now));
        assert_eq!((reporter.forget(&batch).len(), reporter.parked()), (1, 0));
    }

    #[test]
    fn only_senders_that_can_exist_are_told() {
        assert!(can_be_told("ops@example.com"));
        for nowhere in ["root", "plc@plant", "plc@plant.local", "a@x.LAN", "", "a b@c.de"] {
            assert!(!can_be_told(nowhere), "{nowhere}");
        }
    }
}
