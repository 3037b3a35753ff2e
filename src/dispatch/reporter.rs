//! Who is told of failures when: the first few of a person at once, what comes in a storm in one summary.
//!
//! A message whose failure has not been told yet stays in the queue, so that a crash makes nobody go without. Pure: the
//! caller has the clock and the queue.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::intake::Behalf;
use crate::queue::Item;
use crate::queue::{Entry, MessageId};
use crate::report::{Kind, SummaryItem};

/// Notices that one person gets as single mails within [`WINDOW`].
const SINGLES: u32 = 3;
/// How long single mails are counted.
const WINDOW: Duration = Duration::from_secs(600);
/// How long what comes after them is collected.
const COLLECT: Duration = Duration::from_secs(300);
/// How long it waits for more after a restart: what an earlier run collected has waited already.
const EARLIER: Duration = Duration::from_secs(15);
/// How long a summary waits that the queue did not take.
const AGAIN: Duration = Duration::from_secs(60);
/// Messages that one summary lists; further ones are counted in it.
const LISTED: usize = 500;

/// What is known of one person and one kind of news.
#[derive(Default)]
struct Towards {
    singles: u32,
    window_ends: Option<Instant>,
    due: Option<Instant>,
    /// When it goes at the latest, whatever comes in the meantime.
    latest: Option<Instant>,
    since: i64,
    behalf: Behalf,
    items: Vec<SummaryItem>,
    messages: BTreeMap<MessageId, News>,
    left_out: u64,
}

/// What is told of one message.
#[derive(Debug, Clone)]
pub struct News {
    /// The message.
    entry: Entry,
    /// The recipients that it concerns, by their place in the envelope.
    recipients: Vec<usize>,
}

/// News for one person that is to be told in one mail.
pub struct Batch {
    /// Whom.
    pub to: Vec<String>,
    /// For which device: what is the same for all of the messages.
    pub behalf: Behalf,
    /// What kind of news.
    pub kind: Kind,
    /// Since when it was collected, seconds since 1970.
    pub since: i64,
    /// The messages.
    pub items: Vec<SummaryItem>,
    /// All messages, those that are not listed included.
    pub messages: BTreeMap<MessageId, News>,
    /// How many are not listed.
    pub left_out: u64,
}

/// What is to be done when a batch of failures was told.
#[derive(Default)]
pub struct Told {
    /// Messages that were kept for it alone: they go.
    pub done: Vec<Item>,
    /// Messages that others still wait for: it is written down that their failures are told.
    pub waiting: Vec<Entry>,
}

/// All news that wait to be told.
#[derive(Default)]
pub struct Reporter {
    towards: BTreeMap<(Vec<String>, Kind), Towards>,
    /// Failures in batches that are being told.
    telling: BTreeMap<MessageId, News>,
    /// Messages that are done but for their news.
    parked: Vec<Item>,
}

impl Reporter {
    /// Whether news for `to` may go out as a mail of their own now.
    pub fn single(&mut self, to: &[String], kind: Kind, now: Instant) -> bool {
        self.forget_old(now);
        let towards = self.towards.entry((to.to_vec(), kind)).or_default();
        if towards.due.is_some() {
            return false;
        }
        towards.window_ends.get_or_insert(now + WINDOW);
        towards.singles = towards.singles.saturating_add(1);
        towards.singles <= SINGLES
    }

    fn forget_old(&mut self, now: Instant) {
        self.towards.retain(|_, towards| towards.due.is_some() || towards.window_ends.is_some_and(|end| end > now));
    }

    /// Keeps news of a message for the next summary, which comes soon when they are of an `earlier` run; each with the recipient's place in the envelope.
    pub fn collect(
        &mut self,
        to: &[String],
        kind: Kind,
        (entry, behalf): (&Entry, &Behalf),
        items: impl IntoIterator<Item = (usize, SummaryItem)>,
        (now, earlier): ((Instant, i64), bool),
    ) {
        let towards = self.towards.entry((to.to_vec(), kind)).or_default();
        let fresh = towards.due.is_none();
        let latest = *towards.latest.get_or_insert(now.0 + COLLECT);
        if fresh || earlier {
            towards.due = Some(if earlier { latest.min(now.0 + EARLIER) } else { latest });
        }
        if fresh {
            towards.since = now.1;
            towards.behalf = behalf.clone();
        } else {
            towards.behalf.keep_common(behalf);
        }
        let fresh = || News { entry: entry.clone(), recipients: Vec::new() };
        let news = towards.messages.entry(entry.id).or_insert_with(fresh);
        for (recipient, item) in items {
            news.recipients.push(recipient);
            if towards.items.len() < LISTED {
                towards.items.push(item);
            } else {
                towards.left_out = towards.left_out.saturating_add(1);
            }
        }
    }

    /// What is still to be told of the failures of message `id`.
    fn untold(&self, id: MessageId) -> impl Iterator<Item = &News> {
        let failures = self.towards.iter().filter(|((_, kind), _)| *kind == Kind::Failed);
        failures.filter_map(move |(_, towards)| towards.messages.get(&id)).chain(self.telling.get(&id))
    }

    /// Whether failures of message `id` are still to be told.
    pub fn has(&self, id: MessageId) -> bool {
        self.untold(id).next().is_some()
    }

    /// Whether it is among them that message `id` failed for this recipient.
    pub fn knows(&self, id: MessageId, recipient: usize) -> bool {
        self.untold(id).any(|news| news.recipients.contains(&recipient))
    }

    /// Keeps a message that is done until its news are told.
    pub fn park(&mut self, item: Item) {
        self.parked.push(item);
    }

    /// Messages that are kept only for their news.
    pub fn parked(&self) -> usize {
        self.parked.len()
    }

    /// When the next summary is to be written.
    pub fn next(&self) -> Option<Instant> {
        self.towards.values().filter_map(|towards| towards.due).min()
    }

    /// The news whose time has come.
    pub fn take_due(&mut self, now: Instant) -> Option<Batch> {
        let key = self.towards.iter().find(|(_, t)| t.due.is_some_and(|due| due <= now))?.0.clone();
        let towards = self.towards.get_mut(&key)?;
        towards.due = None;
        towards.latest = None;
        // Somebody who got a summary gets the next news in one, too.
        towards.window_ends = Some(now + WINDOW);
        let batch = Batch {
            to: key.0,
            kind: key.1,
            behalf: std::mem::take(&mut towards.behalf),
            since: towards.since,
            items: std::mem::take(&mut towards.items),
            messages: std::mem::take(&mut towards.messages),
            left_out: std::mem::take(&mut towards.left_out),
        };
        for (id, news) in batch.messages.iter().filter(|_| batch.kind == Kind::Failed) {
            self.telling.insert(*id, news.clone());
        }
        Some(batch)
    }

    fn forget(&mut self, batch: &Batch) {
        for id in batch.messages.keys().filter(|_| batch.kind == Kind::Failed) {
            self.telling.remove(id);
        }
    }

    /// A batch was told. A message of which more has been collected meanwhile stays as it is until that is told, too.
    pub fn told(&mut self, batch: &Batch) -> Told {
        self.forget(batch);
        let parked = std::mem::take(&mut self.parked);
        let over = |id: &MessageId| batch.kind == Kind::Failed && batch.messages.contains_key(id) && !self.has(*id);
        let (done, parked): (Vec<Item>, _) = parked.into_iter().partition(|item| over(&item.entry.id));
        let mut known: Vec<MessageId> = done.iter().map(|item| item.entry.id).collect();
        known.sort_unstable();
        let others = batch.messages.iter().filter(|(id, _)| over(id) && known.binary_search(id).is_err());
        let waiting = others.map(|(_, news)| news.entry.clone()).collect();
        self.parked = parked;
        Told { done, waiting }
    }

    /// A batch could not be told; it is tried again.
    pub fn not_told(&mut self, batch: Batch, now: Instant) {
        self.forget(&batch);
        let towards = self.towards.entry((batch.to, batch.kind)).or_default();
        if towards.due.is_some() {
            towards.behalf.keep_common(&batch.behalf);
        } else {
            towards.behalf = batch.behalf;
        }
        towards.due = Some(now + AGAIN);
        towards.since = batch.since;
        for (id, mut news) in batch.messages {
            news.recipients.extend(towards.messages.remove(&id).into_iter().flat_map(|later| later.recipients));
            towards.messages.insert(id, news);
        }
        towards.left_out = towards.left_out.saturating_add(batch.left_out);
        let later = std::mem::replace(&mut towards.items, batch.items);
        for item in later {
            if towards.items.len() < LISTED {
                towards.items.push(item);
            } else {
                towards.left_out = towards.left_out.saturating_add(1);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
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

    /// A storm: what is told at once, the rest as it comes in one batch.
    fn storm(reporter: &mut Reporter, count: usize, now: Instant) -> usize {
        let mut singles = 0;
        for n in 0..count {
            if reporter.single(&to(), Kind::Failed, now) {
                singles += 1;
            } else {
                reporter.collect(
                    &to(),
                    Kind::Failed,
                    (&item(n, now).entry, &Behalf::default()),
                    [(0, news(n))],
                    ((now, 7), false),
                );
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
        assert_eq!((batch.items.len(), batch.left_out, batch.messages.len(), batch.since), (500, 197, 697, 7));
        assert!(reporter.take_due(now + COLLECT).is_none());
        // Until it is told, the messages are kept.
        assert!(reporter.has(id(10)));
        assert_eq!(reporter.parked(), 697);
        assert_eq!(reporter.told(&batch).done.len(), 697);
        assert!(!reporter.has(id(10)));
        assert_eq!((reporter.parked(), reporter.next()), (0, None));
        // Who got a summary gets the next news in one as well, and single mails when it has been quiet for a while.
        assert!(!reporter.single(&to(), Kind::Failed, now + COLLECT + Duration::from_secs(1)));
        assert!(reporter.single(&to(), Kind::Failed, now + COLLECT + WINDOW));
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
                reporter.collect(&to(), Kind::Failed, (&item(n, now).entry, behalf), [(0, news(n))], ((now, 7), false));
            }
            let batch = reporter.take_due(now + COLLECT).unwrap();
            // It is not taken, and one more of another device comes meanwhile.
            let other = behalf("10.0.0.9", "yard");
            reporter.collect(
                &to(),
                Kind::Failed,
                (&item(99, now).entry, &other),
                [(0, news(99))],
                ((now + COLLECT, 9), false),
            );
            let first = batch.behalf.clone();
            reporter.not_told(batch, now + COLLECT);
            assert_eq!(reporter.take_due(now + COLLECT + AGAIN).unwrap().behalf, Behalf::default());
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
        let seconds = Duration::from_secs;
        let mut reporter = Reporter::default();
        let to = to();
        let mut collect = |n, at| {
            let about = item(n, at);
            reporter.collect(&to, Kind::Failed, (&about.entry, &Behalf::default()), [(0, news(n))], ((at, 7), true));
            reporter.next().unwrap()
        };
        // As long as more of them are read, up to the time that any summary takes.
        assert_eq!(collect(1, now), now + EARLIER);
        assert_eq!(collect(2, now + seconds(10)), now + seconds(10) + EARLIER);
        assert_eq!(collect(3, now + seconds(295)), now + COLLECT);
        assert_eq!(reporter.take_due(now + COLLECT).unwrap().items.len(), 3);
    }

    #[test]
    fn people_and_kinds_of_news_are_counted_apart() {
        let now = Instant::now();
        let mut reporter = Reporter::default();
        storm(&mut reporter, 10, now);
        assert!(reporter.single(&["other@example.com".into()], Kind::Failed, now));
        assert!(reporter.single(&to(), Kind::Delayed, now));
    }

    #[test]
    fn a_summary_that_was_not_taken_comes_again_with_what_was_new() {
        let now = Instant::now();
        let mut reporter = Reporter::default();
        storm(&mut reporter, 10, now);
        let batch = reporter.take_due(now + COLLECT).unwrap();
        reporter.collect(
            &to(),
            Kind::Failed,
            (&item(99, now).entry, &Behalf::default()),
            [(0, news(99))],
            ((now + COLLECT, 9), false),
        );
        reporter.not_told(batch, now + COLLECT);
        assert!(reporter.has(id(5)) && reporter.has(id(99)));
        let again = reporter.take_due(now + COLLECT + AGAIN).unwrap();
        assert_eq!((again.items.len(), again.since), (8, 7));
        assert_eq!(again.items.last().map(|item| item.id.clone()), Some(id(99).to_string()));
        let told = reporter.told(&again);
        assert_eq!((told.done.len(), told.waiting.len()), (7, 1));
    }

    #[test]
    fn a_message_with_more_to_tell_stays_until_all_is_told() {
        let now = Instant::now();
        let mut reporter = Reporter::default();
        let collect = |reporter: &mut Reporter, kind, recipient, now| {
            reporter.collect(
                &to(),
                kind,
                (&item(1, now).entry, &Behalf::default()),
                [(recipient, news(1))],
                ((now, 7), false),
            );
        };
        // That a delay is to be told says nothing of failures.
        collect(&mut reporter, Kind::Delayed, 0, now);
        assert!(!reporter.has(id(1)) && !reporter.knows(id(1), 0));
        collect(&mut reporter, Kind::Failed, 0, now);
        assert!(reporter.knows(id(1), 0) && !reporter.knows(id(1), 1) && !reporter.has(id(2)));
        let due = now + COLLECT;
        let mut batches: Vec<Batch> = std::iter::from_fn(|| reporter.take_due(due)).collect();
        let first = batches.remove(batches.iter().position(|batch| batch.kind == Kind::Failed).unwrap());
        assert!(reporter.knows(id(1), 0));
        // The second recipient fails while the first is being told.
        collect(&mut reporter, Kind::Failed, 1, due);
        reporter.park(item(1, now));
        let told = reporter.told(&first);
        assert_eq!((told.done.len(), told.waiting.len(), reporter.parked()), (0, 0, 1));
        assert!(!reporter.knows(id(1), 0) && reporter.knows(id(1), 1));
        let second = reporter.take_due(due + COLLECT).unwrap();
        assert_eq!(reporter.told(&batches.remove(0)).done.len(), 0);
        assert_eq!(reporter.told(&second).done.len(), 1);
        assert!(!reporter.has(id(1)));
    }
}
