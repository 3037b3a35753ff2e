//! Which message is due when. Knows nothing of disks and networks, so that it can be tested without either.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::record::Attempt;
use super::spool::Entry;

/// A message that waits its turn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// The message.
    pub entry: Entry,
    /// Attempts that this run has made.
    pub attempts: u32,
    /// When this run first saw it.
    pub since: Instant,
    /// What the disk did not take; applied to the state whenever it is read.
    pub unsaved: Vec<Attempt>,
}

impl Item {
    /// A message that has just been accepted or recovered.
    pub fn new(entry: Entry, now: Instant) -> Self {
        Self { entry, attempts: 0, since: now, unsaved: Vec::new() }
    }
}

/// All waiting messages: those that are due in order of age, the others in order of their time.
#[derive(Debug, Default)]
pub struct Schedule {
    due: BTreeMap<(i64, String), Item>,
    later: BTreeMap<(Instant, String), Item>,
}

impl Schedule {
    /// Adds a message that may be tried at once.
    pub fn add(&mut self, item: Item) {
        self.due.insert((item.entry.arrived, item.entry.id.clone()), item);
    }

    /// Adds a message that has to wait until `at`.
    pub fn add_later(&mut self, item: Item, at: Instant) {
        self.later.insert((at, item.entry.id.clone()), item);
    }

    /// Takes out the oldest message that is due.
    pub fn take_due(&mut self, now: Instant) -> Option<Item> {
        while let Some(first) = self.later.first_entry().filter(|first| first.key().0 <= now) {
            let item = first.remove();
            self.add(item);
        }
        self.due.pop_first().map(|(_, item)| item)
    }

    /// When the next waiting message becomes due; `None` when none waits. Messages that are due already do not count.
    pub fn next_time(&self) -> Option<Instant> {
        self.later.first_key_value().map(|((at, _), _)| *at)
    }

    /// Whether a message is due now.
    pub fn has_due(&self, now: Instant) -> bool {
        !self.due.is_empty() || self.next_time().is_some_and(|at| at <= now)
    }

    /// Makes everything due: the uplink is back, or the owner has changed something.
    pub fn wake_all(&mut self) {
        for (_, item) in std::mem::take(&mut self.later) {
            self.add(item);
        }
    }

    /// Messages in the schedule; those being sent are not among them.
    pub fn len(&self) -> usize {
        self.due.len() + self.later.len()
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All waiting messages, to look at.
    pub fn items(&self) -> impl Iterator<Item = &Item> {
        self.due.values().chain(self.later.values())
    }

    /// The waiting message `id`, to change where it lies.
    pub fn find_mut(&mut self, id: &str) -> Option<&mut Item> {
        self.due.values_mut().chain(self.later.values_mut()).find(|item| item.entry.id == id)
    }

    /// Takes out the waiting message `id`.
    pub fn take(&mut self, id: &str) -> Option<Item> {
        let due = self.due.keys().find(|(_, known)| known == id).cloned();
        let later = self.later.keys().find(|(_, known)| known == id).cloned();
        due.and_then(|key| self.due.remove(&key)).or_else(|| later.and_then(|key| self.later.remove(&key)))
    }
}

/// How long a message waits after its `attempts`-th temporary failure: 30 s, doubling up to an hour, less a tenth at
/// random (`jitter` from 0 to 255) so that messages which failed together do not come back together.
pub fn backoff(attempts: u32, jitter: u8) -> Duration {
    const FIRST: u64 = 30_000;
    const LAST: u64 = 3_600_000;
    let full = FIRST.saturating_mul(1 << attempts.saturating_sub(1).min(16)).min(LAST);
    Duration::from_millis(full - full / 10 * u64::from(jitter) / 255)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queue::Place;

    fn item(id: &str, arrived: i64, now: Instant) -> Item {
        Item::new(Entry { id: id.into(), place: Place::Spool, arrived, size: 1 }, now)
    }

    #[test]
    fn the_oldest_goes_first_whatever_the_order_of_waking() {
        let now = Instant::now();
        let mut schedule = Schedule::default();
        schedule.add(item("new", 30, now));
        schedule.add_later(item("old", 10, now), now);
        schedule.add_later(item("later", 5, now), now + Duration::from_secs(60));
        let mut order = Vec::new();
        while let Some(next) = schedule.take_due(now) {
            order.push(next.entry.id);
        }
        assert_eq!(order, ["old", "new"]);
        assert_eq!(schedule.next_time(), Some(now + Duration::from_secs(60)));
        schedule.wake_all();
        assert!(schedule.has_due(now));
        assert_eq!(schedule.take_due(now).map(|i| i.entry.id).as_deref(), Some("later"));
        assert!(schedule.is_empty());
    }

    #[test]
    fn waiting_times_double_up_to_an_hour() {
        let seconds: Vec<u64> = (1..=9).map(|n| backoff(n, 0).as_secs()).collect();
        assert_eq!(seconds, [30, 60, 120, 240, 480, 960, 1920, 3600, 3600]);
        assert_eq!(backoff(u32::MAX, 0).as_secs(), 3600);
        assert_eq!(backoff(1, 255).as_millis(), 27_000);
    }
}
