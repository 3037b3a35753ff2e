// SPDX-License-Identifier: Apache-2.0
//! Which message is due when. Independent of disk and network, so that it can be tested without either.
//!
//! Each route has a line of its own, so that one whose accounts are paused delays no other. In a line
//! clients take turns, and of each its oldest message leaves first: so the backlog of one, however long, delays no
//! other client's mail. After a long outage a new alarm would still wait behind everything old of its device, so every
//! second slot belongs to what has just come in.
//!
//! Everything is found by its ID, and each step takes the same time whether ten messages wait or twenty thousand. What
//! concerns all of them is done [step by step](Schedule::advance), so that the runtime thread is free in between.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::time::{Duration, Instant};

use super::id::MessageId;
use super::item::Item;
use super::line::{Clock, RouteQueue, Slot, Stamp, Stand};
use crate::system::clock;

/// Messages that are moved within the schedule at a time.
const PIECE: usize = 256;

/// The position of a message in the list of all: the second of its arrival, and its ID.
pub type Position = (i64, MessageId);

/// All queued messages, by route.
#[derive(Debug)]
pub struct Schedule {
    clock: Clock,
    slots: BTreeMap<MessageId, Slot>,
    /// All of them by the second of their arrival, for display.
    listed: BTreeSet<Position>,
    /// That of everything that matches no rule comes first.
    lines: Vec<RouteQueue>,
    held: usize,
    resting: usize,
    /// Since the clock was set: the last message that has its true time.
    redating: Option<MessageId>,
}

impl Default for Schedule {
    fn default() -> Self {
        Self::new(1)
    }
}

impl Schedule {
    /// An empty one for this number of routes.
    pub fn new(routes: usize) -> Self {
        let mut lines = Vec::new();
        lines.resize_with(routes.max(1), RouteQueue::default);
        let (slots, listed) = (BTreeMap::new(), BTreeSet::new());
        Self { clock: Clock::new(), slots, listed, lines, held: 0, resting: 0, redating: None }
    }

    /// The line of a route; messages of one that the settings no longer have are added to the general ones.
    fn line(lines: &mut [RouteQueue], route: u16) -> Option<&mut RouteQueue> {
        let at = if usize::from(route) < lines.len() { usize::from(route) } else { 0 };
        lines.get_mut(at)
    }

    fn look(&self, route: u16) -> Option<&RouteQueue> {
        self.lines.get(usize::from(route)).or_else(|| self.lines.first())
    }

    fn file(&mut self, item: Item, later: Option<Stamp>) {
        // There is never a second one with this ID.
        self.take(item.entry.id);
        let stand = match (item.rest, later) {
            _ if item.held => Stand::Held,
            (Some(rest), _) if rest.digest => Stand::Digest(self.clock.stamp(rest.until)),
            (Some(rest), _) => Stand::Turn(self.clock.stamp(rest.until)),
            (None, Some(at)) => Stand::Later(at),
            (None, None) => Stand::Due,
        };
        self.held += usize::from(stand == Stand::Held);
        self.resting += usize::from(rests(stand));
        let slot = Slot { item, stand };
        if let Some(line) = Self::line(&mut self.lines, slot.item.route) {
            line.insert(self.clock, &slot);
        }
        self.listed.insert(position(&slot.item));
        self.slots.insert(slot.item.entry.id, slot);
    }

    fn unfile(&mut self, id: MessageId) -> Option<Slot> {
        let mut slot = self.slots.remove(&id)?;
        if let Some(line) = Self::line(&mut self.lines, slot.item.route) {
            line.remove(self.clock, &slot);
        }
        self.listed.remove(&position(&slot.item));
        self.held -= usize::from(slot.stand == Stand::Held);
        self.resting -= usize::from(rests(slot.stand));
        if self.redating.is_some() {
            correct(&mut slot.item);
        }
        Some(slot)
    }

    /// Adds a message that may be tried at once, unless it is held or rests.
    pub fn add(&mut self, item: Item) {
        self.file(item, None);
    }

    /// Adds a message that came in just now.
    pub fn add_fresh(&mut self, item: Item, now: Instant) {
        let id = item.entry.id;
        self.file(item, None);
        if let Some(slot) = self.slots.get(&id)
            && let Some(line) = Self::line(&mut self.lines, slot.item.route)
        {
            line.remember(self.clock, slot, self.clock.stamp(now));
        }
    }

    /// Adds a message that has to wait until `at`.
    pub fn add_later(&mut self, item: Item, at: Instant) {
        self.file(item, Some(self.clock.stamp(at)));
    }

    /// Performs one step of what is to be done for many: those that are due or were woken become due, and get
    /// their true time if the clock was set. True when there is more to do.
    pub fn advance(&mut self, now: Instant) -> bool {
        let now = self.clock.stamp(now);
        let mut more = self.correct_some();
        for at in 0..self.lines.len() {
            let mut left = PIECE;
            while left > 0
                && let Some(line) = self.lines.get_mut(at)
            {
                left -= 1;
                let excused = line.excused.first().map(|turn| turn.4);
                let Some(id) = excused.or_else(|| line.next_woken(now)) else { break };
                let Some(Slot { mut item, .. }) = self.unfile(id) else { break };
                if excused.is_some() {
                    (item.demoted, item.woken) = (0, true);
                }
                // Its rest is over, if it had one.
                item.rest = None;
                self.file(item, None);
            }
            more |= left == 0;
        }
        more
    }

    /// Takes out the next due message of a route.
    pub fn take_due(&mut self, route: u16, now: Instant) -> Option<Item> {
        self.advance(now);
        let line = Self::line(&mut self.lines, route)?;
        line.fresh_turn = !line.fresh_turn;
        let fresh = if line.fresh_turn { line.next_fresh(self.clock.stamp(now)) } else { None };
        let id = fresh.or_else(|| Self::line(&mut self.lines, route)?.next())?;
        self.take(id).map(|(item, _)| item)
    }

    /// Takes out a message of a route that came in just now: clients take turns, the one that has waited longest first.
    pub fn take_fresh(&mut self, route: u16, now: Instant) -> Option<Item> {
        let id = Self::line(&mut self.lines, route)?.next_fresh(self.clock.stamp(now))?;
        self.take(id).map(|(item, _)| item)
    }

    /// Takes out a message of a route that waits for its time and may be tried earlier: clients take turns, and of each
    /// the oldest comes first.
    pub fn take_probe(&mut self, route: u16) -> Option<Item> {
        let id = Self::line(&mut self.lines, route)?.next_probe()?;
        let mut item = self.take(id)?.0;
        item.probes = item.probes.saturating_add(1);
        Some(item)
    }

    /// Whether [`Self::take_probe`] would find one.
    pub fn has_probe(&self, route: u16) -> bool {
        self.look(route).is_some_and(|line| !line.probes.is_empty())
    }

    /// When the next waiting message of a route becomes due; `None` when none waits. Messages that are already due are
    /// ignored.
    pub fn next_time(&self, route: u16) -> Option<Instant> {
        self.look(route)?.next_time().map(|at| self.clock.instant(at))
    }

    /// When the next digest is to be written.
    pub fn next_digest(&self) -> Option<Instant> {
        let next = self.lines.iter().filter_map(|line| line.digests.first()).min();
        next.map(|(at, _)| self.clock.instant(*at))
    }

    /// Takes out the messages that go into digests now, oldest first.
    pub fn take_digests(&mut self, now: Instant) -> Vec<Item> {
        let now = self.clock.stamp(now);
        let mut taken = Vec::new();
        for at in 0..self.lines.len() {
            while let Some((_, id)) =
                self.lines.get(at).and_then(|line| line.digests.first().filter(|(at, _)| *at <= now))
            {
                let id = *id;
                taken.extend(self.take(id).map(|(item, _)| item));
            }
        }
        taken.sort_unstable_by_key(|item: &Item| (item.entry.arrived, item.since, item.entry.id));
        taken
    }

    /// Whether a message of a route is due now.
    pub fn has_due(&self, route: u16, now: Instant) -> bool {
        self.look(route).is_some_and(|line| line.has_due(self.clock.stamp(now)))
    }

    /// Whether nothing of a route waits.
    pub fn is_idle(&self, route: u16) -> bool {
        self.look(route).is_none_or(|line| line.len == 0)
    }

    /// Makes everything due except what is held or rests: the uplink is back, or the settings have changed.
    pub fn wake_all(&mut self) {
        self.lines.iter_mut().for_each(RouteQueue::wake_all);
        self.advance(Instant::now());
    }

    /// As [`Self::wake_all`], for one route.
    pub fn wake_route(&mut self, route: u16) {
        Self::line(&mut self.lines, route).into_iter().for_each(RouteQueue::wake_all);
    }

    /// Those that wait for a time after `at`.
    pub fn later_than(&self, at: Instant) -> Vec<MessageId> {
        let from = (Bound::Excluded((self.clock.stamp(at), MessageId::LAST)), Bound::Unbounded);
        self.lines.iter().flat_map(|line| line.later.range(from)).map(|(_, id)| *id).collect()
    }

    /// The account works: those that it fell into trouble over regain their position by age.
    pub fn forgive(&mut self) {
        self.lines.iter_mut().for_each(RouteQueue::forgive);
    }

    /// Makes those due whose deferral was the provider's trouble.
    pub fn wake_put_off(&mut self) {
        self.lines.iter_mut().for_each(RouteQueue::wake_put_off);
    }

    /// Messages in the schedule, held ones included; those being sent are not among them.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// Messages that are on hold.
    pub fn held(&self) -> usize {
        self.held
    }

    /// Messages that rest.
    pub fn resting(&self) -> usize {
        self.resting
    }

    fn seen<'a>(&self, slot: &'a Slot) -> (&'a Item, Option<Instant>) {
        (&slot.item, self.until(slot.stand))
    }

    fn until(&self, stand: Stand) -> Option<Instant> {
        match stand {
            Stand::Later(at) => Some(self.clock.instant(at)),
            _ => None,
        }
    }

    /// The message `id`, with the time when it is tried next: none when it is due, held, or rests.
    pub fn get(&self, id: MessageId) -> Option<(&Item, Option<Instant>)> {
        self.slots.get(&id).map(|slot| self.seen(slot))
    }

    /// All messages after `id` in the order of their IDs, which never changes: for callers that go through all of them
    /// in batches. As with [`Self::get`].
    pub fn behind(&self, id: Option<MessageId>) -> impl Iterator<Item = (&Item, Option<Instant>)> {
        let from = id.map_or(Bound::Unbounded, Bound::Excluded);
        self.slots.range((from, Bound::Unbounded)).map(|(_, slot)| self.seen(slot))
    }

    /// All messages after `position`, oldest first. As with [`Self::get`].
    pub fn listed(&self, position: Option<Position>) -> impl Iterator<Item = (&Item, Option<Instant>)> {
        let from = position.map_or(Bound::Unbounded, Bound::Excluded);
        self.listed.range((from, Bound::Unbounded)).filter_map(|(_, id)| self.get(*id))
    }

    /// Takes out the message `id`, with the time when it would have been tried next.
    pub fn take(&mut self, id: MessageId) -> Option<(Item, Option<Instant>)> {
        let slot = self.unfile(id)?;
        let until = self.until(slot.stand);
        Some((slot.item, until))
    }

    /// All messages, as [`Self::take`] would take them out.
    pub fn into_items(self) -> impl Iterator<Item = (Item, Option<Instant>)> {
        let clock = self.clock;
        self.slots.into_values().map(move |Slot { item, stand }| match stand {
            Stand::Later(at) => (item, Some(clock.instant(at))),
            _ => (item, None),
        })
    }

    /// The clock was set: messages of this run of the system get the resulting time of arrival, step by step.
    /// Those that an earlier one accepted without a clock are dated from now: more cannot be known.
    pub fn redate(&mut self) {
        self.redating = Some(MessageId::FIRST);
        self.correct_some();
    }

    /// Corrects the times of some messages; true when there are more.
    fn correct_some(&mut self) -> bool {
        let Some(from) = self.redating else { return false };
        let range = self.slots.range((Bound::Excluded(from), Bound::Unbounded));
        let ids: Vec<MessageId> = range.take(PIECE).map(|(id, _)| *id).collect();
        for id in &ids {
            let wrong = self.slots.get(id).is_some_and(|slot| true_arrival(&slot.item).is_some());
            // What is taken out now has its true time.
            if wrong && let Some(Slot { item, stand }) = self.unfile(*id) {
                let later = if let Stand::Later(at) = stand { Some(at) } else { None };
                self.file(item, later);
            }
        }
        self.redating = ids.last().copied().filter(|_| ids.len() == PIECE);
        self.redating.is_some()
    }

    /// Puts back what [`Self::take`] took out.
    pub fn put_back(&mut self, item: Item, at: Option<Instant>) {
        let later = at.map(|at| self.clock.stamp(at));
        self.file(item, later);
    }
}

fn position(item: &Item) -> Position {
    (item.entry.arrived, item.entry.id)
}

fn rests(stand: Stand) -> bool {
    matches!(stand, Stand::Turn(_) | Stand::Digest(_))
}

/// When a message arrived by the current clock, if that differs from its known time.
fn true_arrival(item: &Item) -> Option<i64> {
    let undated = || (item.entry.arrived < clock::EARLIEST).then(clock::now);
    item.uptime.map(clock::at_uptime).or_else(undated).filter(|arrived| *arrived != item.entry.arrived)
}

fn correct(item: &mut Item) {
    if let Some(arrived) = true_arrival(item) {
        item.entry.arrived = arrived;
        item.undated = true;
    }
}

/// How long a message waits after its `attempts`-th temporary failure: `first`, doubling up to `last`, minus up to a
/// tenth at random (`jitter` from 0 to 255) so that messages which failed together are not retried together.
pub fn backoff(attempts: u32, jitter: u8, first: Duration, last: Duration) -> Duration {
    let doubled = first.saturating_mul(1 << attempts.saturating_sub(1).min(20)).min(last.max(first));
    doubled.saturating_sub(doubled / 2550 * u32::from(jitter))
}

#[cfg(test)]
mod tests {
    use super::super::item::PROBE_LIMIT;
    use super::super::line::FRESH;
    use super::*;
    use crate::queue::{Client, Entry, Place, Rest};
    use proptest::prelude::*;

    fn id(name: &str) -> MessageId {
        format!("{name:0>10}").parse().unwrap()
    }

    fn item(name: &str, arrived: i64, now: Instant) -> Item {
        from(7, name, arrived, now)
    }

    /// A message of device `number`.
    fn from(number: u8, name: &str, arrived: i64, now: Instant) -> Item {
        let client = Client::V4([10, 0, 0, number]);
        Item::new(Entry { id: id(name), client, place: Place::Spool, arrived, size: 1 }, now)
    }

    fn name(item: &Item) -> String {
        item.entry.id.to_string().trim_start_matches('0').to_string()
    }

    fn order(schedule: &mut Schedule, now: Instant) -> Vec<String> {
        std::iter::from_fn(|| schedule.take_due(0, now).map(|item| name(&item))).collect()
    }

    #[test]
    fn the_oldest_goes_first_whatever_the_order_of_waking() {
        let now = Instant::now();
        let mut schedule = Schedule::default();
        schedule.add(item("NEW", 30, now));
        schedule.add_later(item("AGED", 10, now), now);
        schedule.add_later(item("NEXT", 5, now), now + Duration::from_secs(60));
        assert_eq!(order(&mut schedule, now), ["AGED", "NEW"]);
        assert_eq!(schedule.next_time(0), Some(now + Duration::from_secs(60)));
        schedule.wake_all();
        assert!(schedule.has_due(0, now));
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
        assert_eq!(schedule.take_due(0, now).map(|item| name(&item)).as_deref(), Some("C"));
        schedule.forgive();
        let first = schedule.take_due(0, now).unwrap();
        assert_eq!((name(&first).as_str(), first.demoted, first.woken), ("A", 0, true));
    }

    #[test]
    fn held_messages_stay_until_released() {
        let now = Instant::now();
        let mut schedule = Schedule::default();
        schedule.add_later(Item { held: true, ..item("KEPT", 1, now) }, now);
        schedule.wake_all();
        assert!(schedule.take_due(0, now).is_none());
        assert!(schedule.take_probe(0).is_none());
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
        while let Some(item) = schedule.take_probe(0) {
            tried.push(name(&item));
            schedule.add_later(item, later);
        }
        let limit = usize::try_from(PROBE_LIMIT).unwrap();
        assert_eq!(tried, [vec!["A"; limit], vec!["B"; limit]].concat());
        assert!(!schedule.has_probe(0));
    }

    #[test]
    fn messages_are_taken_out_by_age_and_put_back_as_they_were() {
        let now = Instant::now();
        let later = now + Duration::from_secs(9);
        let mut schedule = Schedule::default();
        schedule.add_later(item("B", 2, now), later);
        schedule.add(item("A", 1, now));
        schedule.add(item("C", 3, now));
        let two: Vec<MessageId> = schedule.listed(None).map(|(item, _)| item.entry.id).take(2).collect();
        let taken: Vec<_> = two.into_iter().filter_map(|id| schedule.take(id)).collect();
        assert_eq!(
            taken.iter().map(|(item, at)| (name(item), *at)).collect::<Vec<_>>(),
            [("A".to_string(), None), ("B".to_string(), Some(later))]
        );
        taken.into_iter().for_each(|(item, at)| schedule.put_back(item, at));
        assert_eq!(schedule.len(), 3);
        assert_eq!(schedule.next_time(0), Some(later));
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
        assert!(schedule.take_due(0, now).is_none() && schedule.take_probe(0).is_none() && !schedule.has_due(0, now));
        assert_eq!((schedule.len(), schedule.resting()), (4, 4));
        assert_eq!((schedule.next_time(0), schedule.next_digest()), (Some(after(30)), Some(after(10))));
        assert!(schedule.take_digests(after(9)).is_empty());
        let taken = schedule.take_digests(after(10));
        assert_eq!(taken.iter().map(name).collect::<Vec<_>>(), ["C", "D"]);
        assert_eq!(order(&mut schedule, after(59)), ["A"]);
        // Held and released, it still rests.
        let (held, at) = schedule.take(id("B")).unwrap();
        schedule.put_back(Item { held: true, ..held }, at);
        assert_eq!((schedule.held(), schedule.resting()), (1, 0));
        assert!(order(&mut schedule, after(60)).is_empty());
        let (released, at) = schedule.take(id("B")).unwrap();
        schedule.put_back(Item { held: false, ..released }, at);
        assert_eq!(order(&mut schedule, after(60)), ["B"]);
    }

    /// A backlog of one device, and an alarm of another that is not new any more.
    fn backlog(put: impl Fn(&mut Schedule, Item)) -> Schedule {
        let now = Instant::now();
        let mut schedule = Schedule::default();
        for n in 0..2000 {
            put(&mut schedule, from(1, &format!("A{n:04}"), n, now));
        }
        put(&mut schedule, from(2, "A1ARM", 5000, now));
        schedule
    }

    /// How many messages leave up to the alarm.
    fn turns_of_the_alarm(mut next: impl FnMut() -> Option<Item>) -> usize {
        1 + std::iter::from_fn(|| next().filter(|item| name(item) != "A1ARM")).count()
    }

    #[test]
    fn the_backlog_of_one_device_holds_up_no_other() {
        let now = Instant::now();
        let later = now + Duration::from_secs(3600);
        let mut due = backlog(|schedule, item| schedule.add(item));
        assert_eq!(turns_of_the_alarm(|| due.take_due(0, now)), 2, "after a restart");
        let mut fresh = backlog(|schedule, item| schedule.add_fresh(item, now));
        assert!(turns_of_the_alarm(|| fresh.take_due(0, now)) <= 4, "all of it has just come in");
        let mut fresh = backlog(|schedule, item| schedule.add_fresh(item, now));
        assert!(turns_of_the_alarm(|| fresh.take_fresh(0, now)) <= 2, "while the queue is being read");
        let mut deferred = backlog(|schedule, item| schedule.add_later(item, later));
        let mut probed = backlog(|schedule, item| schedule.add_later(item, later));
        assert!(turns_of_the_alarm(|| probed.take_probe(0)) <= 2, "one at a time, while the account is in doubt");
        deferred.wake_all();
        while deferred.advance(now) {}
        assert!(turns_of_the_alarm(|| deferred.take_due(0, now)) <= 2, "deferred, and woken");
        let mut deferred = backlog(|schedule, item| schedule.add_later(item, later));
        while deferred.advance(later) {}
        assert!(turns_of_the_alarm(|| deferred.take_due(0, later)) <= 2, "deferred, and its time has come");
        let mut demoted = backlog(|schedule, item| schedule.add(Item { demoted: 1, ..item }));
        assert!(turns_of_the_alarm(|| demoted.take_due(0, now)) <= 2, "the account fell into trouble over all of it");
    }

    #[test]
    fn a_flood_leaves_each_device_a_place_among_the_new_ones() {
        let now = Instant::now();
        let mut schedule = Schedule::default();
        for n in 0..3000 {
            schedule.add_fresh(from(1, &format!("A{n:04}"), n, now), now);
        }
        // An old backlog of its own, and something new.
        for n in 0..50 {
            schedule.add(from(2, &format!("B{n:04}"), n, now));
        }
        schedule.add_fresh(from(2, "NEW", 9000, now), now);
        let order = order(&mut schedule, now);
        let place = order.iter().position(|name| name == "NEW");
        assert!(place.is_some_and(|place| place < 8), "{place:?}");
        assert_eq!(order.len(), 3051);
    }

    #[test]
    fn what_concerns_all_is_done_in_pieces() {
        let now = Instant::now();
        let later = now + Duration::from_secs(60);
        let mut schedule = Schedule::new(3);
        for n in 0..1000u16 {
            let item = Item { route: n % 4, ..item(&format!("{n:04}"), i64::from(n), now) };
            schedule.add_later(item, later);
        }
        schedule.wake_all();
        // Route 3 is not one of these three, so its messages are added to the first.
        let pieces = std::iter::from_fn(|| schedule.advance(now).then_some(())).count();
        assert!((0..=4).contains(&pieces), "{pieces}");
        assert_eq!([0, 1, 2].map(|route| (schedule.has_due(route, now), schedule.next_time(route))), [(true, None); 3]);
        assert_eq!(std::iter::from_fn(|| schedule.take_due(0, now)).count(), 500);
        assert!(schedule.is_idle(0) && !schedule.is_idle(1));
        let positions = |schedule: &Schedule, behind| {
            schedule.listed(behind).map(|(item, _)| (item.entry.arrived, item.entry.id)).take(3).collect::<Vec<_>>()
        };
        let first = positions(&schedule, None);
        assert_eq!(first.iter().map(|(arrived, _)| *arrived).collect::<Vec<_>>(), [1, 2, 5]);
        // It continues there, whether the message is still in the queue or not.
        schedule.take(first[2].1);
        assert_eq!(positions(&schedule, first.last().copied())[0].0, 6);
    }

    #[test]
    fn a_clock_that_is_set_gives_all_their_true_time() {
        let now = Instant::now();
        let later = now + Duration::from_secs(60);
        let mut schedule = Schedule::default();
        for n in 0..600 {
            let early = item(&format!("{n:04}"), 100 + n, now);
            schedule.put_back(Item { uptime: Some(clock::uptime()), ..early }, (n % 2 == 0).then_some(later));
        }
        schedule.redate();
        // One that is taken out early has its true time as well.
        let last = schedule.take(id("0599")).unwrap().0;
        assert!(last.undated && last.entry.arrived >= clock::EARLIEST);
        while schedule.advance(now) {}
        assert!(schedule.behind(None).all(|(item, _)| item.undated && item.entry.arrived >= clock::EARLIEST));
        assert_eq!((schedule.len(), schedule.behind(None).filter(|(_, at)| *at == Some(later)).count()), (599, 300));
    }

    /// What can be done to a schedule.
    #[derive(Debug, Clone)]
    enum Deed {
        Add { route: u16, client: u8, demoted: u32, held: bool },
        Fresh { route: u16, client: u8 },
        Later { route: u16, client: u8, seconds: u64, probes: u32 },
        Rest { digest: bool, seconds: u64 },
        TakeDue(u16),
        TakeFresh(u16),
        TakeProbe(u16),
        Take(usize),
        WakeAll,
        Forgive,
        WakePutOff,
        Redate,
        Advance(u64),
        Digests(u64),
    }

    fn deed() -> impl Strategy<Value = Deed> {
        let (route, client) = (0u16..3, 0u8..4);
        let place = (route.clone(), client);
        prop_oneof![
            (place.clone(), 0u32..2, any::<bool>()).prop_map(|((route, client), demoted, held)| Deed::Add {
                route,
                client,
                demoted,
                held
            }),
            place.clone().prop_map(|(route, client)| Deed::Fresh { route, client }),
            (place, 0u64..90, 59u32..=60).prop_map(|((route, client), seconds, probes)| Deed::Later {
                route,
                client,
                seconds,
                probes
            }),
            (any::<bool>(), 0u64..90).prop_map(|(digest, seconds)| Deed::Rest { digest, seconds }),
            route.clone().prop_map(Deed::TakeDue),
            route.clone().prop_map(Deed::TakeFresh),
            route.prop_map(Deed::TakeProbe),
            any::<usize>().prop_map(Deed::Take),
            Just(Deed::WakeAll),
            Just(Deed::Forgive),
            Just(Deed::WakePutOff),
            Just(Deed::Redate),
            (0u64..90).prop_map(Deed::Advance),
            (0u64..90).prop_map(Deed::Digests),
        ]
    }

    proptest! {
        /// Whatever is done, each message exists once and can be found, and nothing stays when all have been taken.
        #[test]
        fn no_message_is_lost_or_doubled(deeds in proptest::collection::vec(deed(), 0..60)) {
            let now = Instant::now();
            let after = |seconds| now + Duration::from_secs(seconds);
            let mut schedule = Schedule::new(2);
            let (mut number, mut there) = (0, BTreeSet::new());
            for deed in deeds {
                number += 1;
                let new = |client| from(client, &number.to_string(), number, now);
                let mut gone = Vec::new();
                match deed {
                    Deed::Add { route, client, demoted, held } => {
                        schedule.add(Item { route, demoted, held, ..new(client) });
                        there.insert(id(&number.to_string()));
                    }
                    Deed::Fresh { route, client } => {
                        schedule.add_fresh(Item { route, ..new(client) }, now);
                        there.insert(id(&number.to_string()));
                    }
                    Deed::Later { route, client, seconds, probes } => {
                        schedule.add_later(Item { route, probes, ..new(client) }, after(seconds));
                        there.insert(id(&number.to_string()));
                    }
                    Deed::Rest { digest, seconds } => {
                        let rest = Some(Rest { until: after(seconds), digest, failed: 0 });
                        schedule.add(Item { rest, ..new(1) });
                        there.insert(id(&number.to_string()));
                    }
                    Deed::TakeDue(route) => gone.extend(schedule.take_due(route, now)),
                    Deed::TakeFresh(route) => gone.extend(schedule.take_fresh(route, now)),
                    Deed::TakeProbe(route) => gone.extend(schedule.take_probe(route)),
                    Deed::Take(at) => {
                        let known = at.checked_rem(there.len()).and_then(|at| there.iter().nth(at)).copied();
                        gone.extend(known.map(|id| schedule.take(id).unwrap().0));
                    }
                    Deed::WakeAll => schedule.wake_all(),
                    Deed::Forgive => schedule.forgive(),
                    Deed::WakePutOff => schedule.wake_put_off(),
                    Deed::Redate => schedule.redate(),
                    Deed::Advance(seconds) => _ = schedule.advance(after(seconds)),
                    Deed::Digests(seconds) => gone.extend(schedule.take_digests(after(seconds))),
                }
                for item in gone {
                    prop_assert!(there.remove(&item.entry.id), "{} came twice", name(&item));
                }
                prop_assert_eq!(schedule.len(), there.len());
                prop_assert_eq!(schedule.listed(None).count(), there.len());
                prop_assert!(there.iter().all(|id| schedule.get(*id).is_some()));
                let held = schedule.behind(None).filter(|(item, _)| item.held).count();
                let resting = schedule.behind(None).filter(|(item, _)| !item.held && item.rest.is_some()).count();
                prop_assert_eq!((schedule.held(), schedule.resting()), (held, resting));
            }
            schedule.wake_all();
            while schedule.advance(after(3600)) {}
            schedule.advance(after(3600));
            let held: Vec<MessageId> =
                schedule.behind(None).filter(|(item, _)| item.held).map(|(item, _)| item.entry.id).collect();
            let kept = held.iter().filter_map(|id| schedule.take(*id)).count();
            let digests = schedule.take_digests(after(3600)).len();
            let due = (0..2).map(|route| std::iter::from_fn(|| schedule.take_due(route, now)).count()).sum::<usize>();
            prop_assert_eq!(kept + digests + due, there.len());
            prop_assert!(schedule.is_empty() && schedule.is_idle(0) && schedule.is_idle(1));
            prop_assert!(!schedule.has_due(0, now) && !schedule.has_probe(0) && schedule.next_digest().is_none());
        }
    }
}
