//! Which message is due when. Knows nothing of disks and networks, so that it can be tested without either.
//!
//! What is due leaves in order of age. After a long outage that would make a new alarm wait behind everything old, so
//! every other turn belongs to what has just come in.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use super::id::MessageId;
use super::item::{Item, PROBE_LIMIT};
use crate::system::clock;

/// How long a message counts as new.
const FRESH: Duration = Duration::from_secs(60);
/// New messages that are remembered as such; more than these in a minute are a backlog like any other.
const FRESH_LIMIT: usize = 256;

/// Order of age: by the second of the arrival, within it in the order in which this run saw them. Those that the account
/// fell into trouble over come behind the others.
type Key = (u32, i64, Instant, MessageId);

/// Order of time, of the same type so that the code for it is there once.
fn time_key(at: Instant, id: MessageId) -> Key {
    (0, 0, at, id)
}

fn key(item: &Item) -> Key {
    (item.demoted, item.entry.arrived, item.since, item.entry.id)
}

/// All waiting messages: those that are due in order of age, the others in order of their time, those that rest, and
/// those held.
#[derive(Debug, Default)]
pub struct Schedule {
    due: BTreeMap<Key, Item>,
    /// By the time of the next try.
    later: BTreeMap<Key, Item>,
    held: BTreeMap<Key, Item>,
    /// Those that rest until their turn, by its time, which nothing but time brings.
    turns: BTreeMap<Key, Item>,
    /// Those that rest until their digest is written, by its time.
    digests: BTreeMap<Key, Item>,
    /// Of those that are due, which came in just now.
    fresh: VecDeque<(Instant, Key)>,
    /// Whether the next turn belongs to a new message.
    fresh_turn: bool,
}

impl Schedule {
    /// Adds a message that may be tried at once, unless it is held or rests.
    pub fn add(&mut self, item: Item) {
        if item.held {
            self.held.insert(key(&item), item);
        } else if let Some(rest) = item.rest {
            let map = if rest.digest { &mut self.digests } else { &mut self.turns };
            map.insert(time_key(rest.until, item.entry.id), item);
        } else {
            self.due.insert(key(&item), item);
        }
    }

    /// Adds a message that came in just now.
    pub fn add_fresh(&mut self, item: Item, now: Instant) {
        if self.fresh.len() < FRESH_LIMIT && item.rest.is_none() {
            self.fresh.push_back((now, key(&item)));
        }
        self.add(item);
    }

    /// Adds a message that has to wait until `at`.
    pub fn add_later(&mut self, item: Item, at: Instant) {
        if item.held || item.rest.is_some() {
            self.add(item);
        } else {
            self.later.insert(time_key(at, item.entry.id), item);
        }
    }

    /// Takes out the message whose turn it is, of those that are due.
    pub fn take_due(&mut self, now: Instant) -> Option<Item> {
        while let Some(first) = self.later.first_entry().filter(|first| first.key().2 <= now) {
            let item = first.remove();
            self.add(item);
        }
        while let Some(first) = self.turns.first_entry().filter(|first| first.key().2 <= now) {
            let item = first.remove();
            self.add(Item { rest: None, ..item });
        }
        self.fresh_turn = !self.fresh_turn;
        if self.fresh_turn
            && let Some(item) = self.take_fresh(now)
        {
            return Some(item);
        }
        self.due.pop_first().map(|(_, item)| item)
    }

    /// Takes out the message that has waited longest of those that came in just now.
    pub fn take_fresh(&mut self, now: Instant) -> Option<Item> {
        while let Some((came, key)) = self.fresh.pop_front() {
            if now.saturating_duration_since(came) < FRESH
                && let Some(item) = self.due.remove(&key)
            {
                return Some(item);
            }
        }
        None
    }

    /// Takes out the oldest message that waits for its time and may be tried before it.
    pub fn take_probe(&mut self) -> Option<Item> {
        let candidates = self.later.iter().filter(|(_, item)| item.probes < PROBE_LIMIT);
        let oldest = *candidates.min_by_key(|(_, item)| (item.entry.arrived, item.since))?.0;
        let mut item = self.later.remove(&oldest)?;
        item.probes = item.probes.saturating_add(1);
        Some(item)
    }

    /// Whether [`Self::take_probe`] would find one.
    pub fn has_probe(&self) -> bool {
        self.later.values().any(|item| item.probes < PROBE_LIMIT)
    }

    /// When the next waiting message becomes due; `None` when none waits. Messages that are due already do not count.
    pub fn next_time(&self) -> Option<Instant> {
        let first = |map: &BTreeMap<Key, Item>| map.first_key_value().map(|((.., at, _), _)| *at);
        first(&self.later).into_iter().chain(first(&self.turns)).min()
    }

    /// When the next digest is to be written.
    pub fn next_digest(&self) -> Option<Instant> {
        self.digests.first_key_value().map(|((.., at, _), _)| *at)
    }

    /// Takes out the messages that go into digests now, oldest first.
    pub fn take_digests(&mut self, now: Instant) -> Vec<Item> {
        let mut taken = Vec::new();
        while let Some(first) = self.digests.first_entry().filter(|first| first.key().2 <= now) {
            taken.push(first.remove());
        }
        taken.sort_unstable_by_key(key);
        taken
    }

    /// Whether a message is due now.
    pub fn has_due(&self, now: Instant) -> bool {
        !self.due.is_empty() || self.next_time().is_some_and(|at| at <= now)
    }

    /// Makes everything due but what is held: the uplink is back, or the owner has changed something.
    pub fn wake_all(&mut self) {
        for (_, item) in std::mem::take(&mut self.later) {
            self.add(item);
        }
    }

    /// The account works: those that it fell into trouble over get their place by age back.
    pub fn forgive(&mut self) {
        while let Some(last) = self.due.last_entry().filter(|last| last.key().0 > 0) {
            let item = last.remove();
            self.add(Item { demoted: 0, woken: true, ..item });
        }
    }

    /// Makes those due whose being put off was the provider's trouble.
    pub fn wake_put_off(&mut self) {
        for (key, item) in std::mem::take(&mut self.later) {
            if item.probes < PROBE_LIMIT {
                self.add(Item { woken: true, ..item });
            } else {
                self.later.insert(key, item);
            }
        }
    }

    /// Messages in the schedule, held ones included; those being sent are not among them.
    pub fn len(&self) -> usize {
        self.due.len() + self.later.len() + self.held.len() + self.resting()
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Messages that the owner holds back.
    pub fn held(&self) -> usize {
        self.held.len()
    }

    /// Messages that rest.
    pub fn resting(&self) -> usize {
        self.turns.len() + self.digests.len()
    }

    /// All messages, each with the time when it is tried next: none when it is due, held, or rests.
    pub fn items(&self) -> impl Iterator<Item = (&Item, Option<Instant>)> {
        let resting = self.turns.values().chain(self.digests.values());
        let due = self.due.values().chain(self.held.values()).chain(resting).map(|item| (item, None));
        due.chain(self.later.iter().map(|((.., at, _), item)| (item, Some(*at))))
    }

    /// Takes out the message `id`, with the time when it would have been tried next.
    pub fn take(&mut self, id: MessageId) -> Option<(Item, Option<Instant>)> {
        for map in [&mut self.due, &mut self.held, &mut self.turns, &mut self.digests] {
            let found = map.keys().find(|(.., known)| *known == id).copied();
            if let Some(item) = found.and_then(|key| map.remove(&key)) {
                return Some((item, None));
            }
        }
        let found = self.later.keys().find(|(.., known)| *known == id).copied()?;
        self.later.remove(&found).map(|item| (item, Some(found.2)))
    }

    /// The clock was set: messages of this run of the system get the time of arrival that follows from it. Those that an
    /// earlier one accepted without a clock count from now: more nobody can know.
    pub fn redate(&mut self) {
        let correct = |item: &mut Item| {
            let undated = (item.entry.arrived < clock::EARLIEST).then(clock::now);
            if let Some(arrived) = item.uptime.map(clock::at_uptime).or(undated) {
                item.entry.arrived = arrived;
                item.undated = true;
            }
        };
        for map in [&mut self.later, &mut self.held, &mut self.turns, &mut self.digests] {
            map.values_mut().for_each(correct);
        }
        for (_, mut item) in std::mem::take(&mut self.due) {
            correct(&mut item);
            self.add(item);
        }
        // The names of new ones have changed with their times; they are old enough to go by age.
        self.fresh.clear();
    }

    /// Takes out all messages that `fits` picks, at most `limit`, oldest first.
    pub fn take_where(&mut self, limit: usize, fits: impl Fn(&Item) -> bool) -> Vec<(Item, Option<Instant>)> {
        let mut keys: Vec<Key> = self.items().map(|(item, _)| item).filter(|item| fits(item)).map(key).collect();
        keys.sort_unstable();
        keys.truncate(limit);
        keys.iter().filter_map(|(.., id)| self.take(*id)).collect()
    }

    /// Puts back what [`Self::take`] took out.
    pub fn put_back(&mut self, item: Item, at: Option<Instant>) {
        match at {
            Some(at) => self.add_later(item, at),
            None => self.add(item),
        }
    }
}

/// How long a message waits after its `attempts`-th temporary failure: `first`, doubling up to `last`, less a tenth at
/// random (`jitter` from 0 to 255) so that messages which failed together do not come back together.
pub fn backoff(attempts: u32, jitter: u8, first: Duration, last: Duration) -> Duration {
    let doubled = first.saturating_mul(1 << attempts.saturating_sub(1).min(20)).min(last.max(first));
    doubled.saturating_sub(doubled / 2550 * u32::from(jitter))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queue::Place;
    use crate::queue::{Entry, Rest};

    fn id(name: &str) -> MessageId {
        format!("{name:0>10}").parse().unwrap()
    }

    fn item(name: &str, arrived: i64, now: Instant) -> Item {
        Item::new(Entry { id: id(name), place: Place::Spool, arrived, size: 1 }, now)
    }

    fn name(item: &Item) -> String {
        item.entry.id.to_string().trim_start_matches('0').to_string()
    }

    fn order(schedule: &mut Schedule, now: Instant) -> Vec<String> {
        std::iter::from_fn(|| schedule.take_due(now).map(|item| name(&item))).collect()
    }

    #[test]
    fn the_oldest_goes_first_whatever_the_order_of_waking() {
        let now = Instant::now();
        let mut schedule = Schedule::default();
        schedule.add(item("NEW", 30, now));
        schedule.add_later(item("AGED", 10, now), now);
        schedule.add_later(item("NEXT", 5, now), now + Duration::from_secs(60));
        assert_eq!(order(&mut schedule, now), ["AGED", "NEW"]);
        assert_eq!(schedule.next_time(), Some(now + Duration::from_secs(60)));
        schedule.wake_all();
        assert!(schedule.has_due(now));
        assert_eq!(order(&mut schedule, now), ["NEXT"]);
        assert!(schedule.is_empty());
    }

    #[test]
    fn new_alarms_share_the_way_with_a_backlog() {
        let now = Instant::now();
        let mut schedule = Schedule::default();
        for n in 0..6 {
            schedule.add(item(&format!("AGED{n}"), n, now));
        }
        schedule.add_fresh(item("FRESH1", 100, now), now);
        schedule.add_fresh(item("FRESH2", 101, now), now);
        let order = order(&mut schedule, now + Duration::from_secs(1));
        assert_eq!(order, ["FRESH1", "AGED0", "FRESH2", "AGED1", "AGED2", "AGED3", "AGED4", "AGED5"]);
    }

    #[test]
    fn what_came_more_than_a_minute_ago_is_not_new() {
        let now = Instant::now();
        let mut schedule = Schedule::default();
        schedule.add_fresh(item("PAST", 100, now), now);
        schedule.add(item("AGED", 1, now));
        assert_eq!(order(&mut schedule, now + FRESH), ["AGED", "PAST"]);
    }

    #[test]
    fn what_the_account_fell_over_comes_last_until_the_account_works() {
        let now = Instant::now();
        let mut schedule = Schedule::default();
        schedule.add(Item { demoted: 2, ..item("A", 1, now) });
        schedule.add(Item { demoted: 1, ..item("B", 2, now) });
        schedule.add(item("C", 3, now));
        assert_eq!(schedule.take_due(now).map(|item| name(&item)).as_deref(), Some("C"));
        schedule.forgive();
        let first = schedule.take_due(now).unwrap();
        assert_eq!((name(&first).as_str(), first.demoted, first.woken), ("A", 0, true));
    }

    #[test]
    fn held_messages_stay_until_released() {
        let now = Instant::now();
        let mut schedule = Schedule::default();
        schedule.add_later(Item { held: true, ..item("KEPT", 1, now) }, now);
        schedule.wake_all();
        assert!(schedule.take_due(now).is_none());
        assert!(schedule.take_probe().is_none());
        assert_eq!((schedule.len(), schedule.held()), (1, 1));
        let (held, at) = schedule.take(id("KEPT")).unwrap();
        schedule.put_back(Item { held: false, ..held }, at);
        assert_eq!(order(&mut schedule, now), ["KEPT"]);
    }

    #[test]
    fn probes_take_the_oldest_and_come_to_an_end() {
        let now = Instant::now();
        let later = now + Duration::from_secs(3600);
        let mut schedule = Schedule::default();
        schedule.add_later(item("B", 2, now), later);
        schedule.add_later(item("A", 1, now), later);
        let mut tried = Vec::new();
        while let Some(item) = schedule.take_probe() {
            tried.push(name(&item));
            schedule.add_later(item, later);
        }
        let limit = usize::try_from(PROBE_LIMIT).unwrap();
        assert_eq!(tried, [vec!["A"; limit], vec!["B"; limit]].concat());
        assert!(!schedule.has_probe());
    }

    #[test]
    fn messages_are_taken_out_by_age_and_put_back_as_they_were() {
        let now = Instant::now();
        let later = now + Duration::from_secs(9);
        let mut schedule = Schedule::default();
        schedule.add_later(item("B", 2, now), later);
        schedule.add(item("A", 1, now));
        schedule.add(item("C", 3, now));
        let taken = schedule.take_where(2, |_| true);
        assert_eq!(
            taken.iter().map(|(item, at)| (name(item), *at)).collect::<Vec<_>>(),
            [("A".to_string(), None), ("B".to_string(), Some(later))]
        );
        taken.into_iter().for_each(|(item, at)| schedule.put_back(item, at));
        assert_eq!(schedule.len(), 3);
        assert_eq!(schedule.next_time(), Some(later));
    }

    #[test]
    fn waiting_times_double_up_to_the_last() {
        let (first, last) = (Duration::from_secs(30), Duration::from_secs(3600));
        let seconds: Vec<u64> = (1..=9).map(|n| backoff(n, 0, first, last).as_secs()).collect();
        assert_eq!(seconds, [30, 60, 120, 240, 480, 960, 1920, 3600, 3600]);
        assert_eq!(backoff(u32::MAX, 0, first, last).as_secs(), 3600);
        let least = backoff(1, 255, first, last).as_millis();
        assert!((27_000..27_010).contains(&least), "{least}");
    }

    #[test]
    fn what_rests_waits_for_its_time_whatever_wakes_the_others() {
        let now = Instant::now();
        let after = |seconds| now + Duration::from_secs(seconds);
        let resting = |name: &str, arrived, seconds, digest| Item {
            rest: Some(Rest { until: after(seconds), digest, failed: 0 }),
            ..item(name, arrived, now)
        };
        let mut schedule = Schedule::default();
        schedule.add_fresh(resting("B", 2, 60, false), now);
        schedule.add_later(resting("A", 1, 30, false), now);
        schedule.put_back(resting("D", 4, 10, true), None);
        schedule.put_back(resting("C", 3, 10, true), None);
        schedule.wake_all();
        schedule.wake_put_off();
        assert!(schedule.take_due(now).is_none() && schedule.take_probe().is_none() && !schedule.has_due(now));
        assert_eq!((schedule.len(), schedule.resting()), (4, 4));
        assert_eq!((schedule.next_time(), schedule.next_digest()), (Some(after(30)), Some(after(10))));
        assert!(schedule.take_digests(after(9)).is_empty());
        let taken = schedule.take_digests(after(10));
        assert_eq!(taken.iter().map(name).collect::<Vec<_>>(), ["C", "D"]);
        assert_eq!(order(&mut schedule, after(59)), ["A"]);
        // Held back and released, it still rests.
        let (held, at) = schedule.take(id("B")).unwrap();
        schedule.put_back(Item { held: true, ..held }, at);
        assert_eq!((schedule.held(), schedule.resting()), (1, 0));
        assert!(order(&mut schedule, after(60)).is_empty());
        let (released, at) = schedule.take(id("B")).unwrap();
        schedule.put_back(Item { held: false, ..released }, at);
        assert_eq!(order(&mut schedule, after(60)), ["B"]);
    }
}
