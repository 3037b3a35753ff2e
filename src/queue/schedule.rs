// SPDX-License-Identifier: Apache-2.0
//! Which message is due when. Independent of disk and network, so that it can be tested without either.
//!
//! Each route has a queue of its own, so that one whose accounts are paused delays no other. In it
//! clients take turns, and of each its oldest message leaves first: so the backlog of one, however long, delays no
//! other client's mail. After a long outage a new alarm would still wait behind everything old of its device, so every
//! second slot belongs to what has just come in.
//!
//! Everything is found by its ID, and each step takes the same time (up to the logarithm) whether ten messages wait or
//! twenty thousand, and however many clients there are. The queues of the routes contain IDs only; the turns of their
//! clients are one ordered set, so that a client costs nothing in addition to its messages. What concerns all of them is
//! done [step by step](Schedule::advance), so that the runtime thread is free in between.

use std::collections::BTreeSet;
use std::ops::Bound;
use std::time::{Duration, Instant};

use super::entry::{ById, Client, MessageId};
use super::item::{Item, PROBE_LIMIT};
use crate::system::clock;

/// Messages that are moved within the schedule at a time.
const PIECE: usize = 256;

/// What may not be taken out now, so that a connection stays free for the clients that use none.
#[derive(Debug, Default)]
pub struct Reserve {
    /// The clients that it concerns.
    pub clients: Vec<Client>,
    /// Up to so many bytes their messages may leave all the same.
    pub most: u64,
}

/// The position of a message in the list of all: the second of its arrival, and its ID.
pub type Position = (i64, MessageId);

/// All queued messages, by route.
#[derive(Debug)]
pub struct Schedule {
    clock: Clock,
    slots: ById<Slot>,
    /// All of them by the second of their arrival, for display.
    listed: BTreeSet<Position>,
    /// That of everything that matches no rule comes first.
    lines: Vec<RouteQueue>,
    /// When messages with a [`Plan`](super::Plan) are looked at again.
    moments: BTreeSet<(Stamp, MessageId)>,
    held: usize,
    resting: usize,
    planned: usize,
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
        let (slots, listed, moments) = (ById::new(), BTreeSet::new(), BTreeSet::new());
        Self { clock: Clock::new(), slots, listed, lines, moments, held: 0, resting: 0, planned: 0, redating: None }
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
            _ if item.plan.as_ref().is_some_and(|plan| plan.waits) => Stand::Planned,
            (None, Some(at)) => Stand::Later(at),
            (None, None) => Stand::Due,
        };
        self.held += usize::from(stand == Stand::Held);
        self.resting += usize::from(rests(stand));
        let slot = Box::new(Slot { item, stand });
        self.planned += usize::from(slot.waits_for_plan());
        if let Some(line) = Self::line(&mut self.lines, slot.item.route) {
            line.insert(self.clock, &slot);
        }
        self.listed.insert(position(&slot.item));
        if let Some(plan) = slot.item.active_plan() {
            let (clock, id) = (self.clock, slot.item.entry.id);
            self.moments.extend(plan.moment.map(|at| (clock.stamp(at), id)));
            for step in &plan.steps {
                let Some(line) = Self::line(&mut self.lines, step.route) else { continue };
                match step.turn {
                    Some(at) => _ = line.steps_later.insert((clock.stamp(at), id)),
                    None => _ = line.steps.set.insert(slot.aged(clock)),
                }
            }
        }
        self.slots.insert(slot.item.entry.id, slot);
    }

    fn unfile(&mut self, id: MessageId) -> Option<Slot> {
        let mut slot = self.slots.remove(&id)?;
        if let Some(line) = Self::line(&mut self.lines, slot.item.route) {
            line.remove(self.clock, &slot);
        }
        self.listed.remove(&position(&slot.item));
        if let Some(plan) = slot.item.active_plan() {
            let clock = self.clock;
            plan.moment.map(|at| self.moments.remove(&(clock.stamp(at), id)));
            for step in &plan.steps {
                let Some(line) = Self::line(&mut self.lines, step.route) else { continue };
                // One whose time has come may have become due meanwhile.
                line.steps.set.remove(&slot.aged(clock));
                if let Some(key) = step.turn.map(|at| (clock.stamp(at), id)) {
                    _ = line.steps_later.remove(&key) || line.steps_woken.remove(&key);
                }
            }
        }
        self.held -= usize::from(slot.stand == Stand::Held);
        self.resting -= usize::from(rests(slot.stand));
        self.planned -= usize::from(slot.waits_for_plan());
        if self.redating.is_some() {
            correct(&mut slot.item);
        }
        Some(*slot)
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

    /// Adds a message that has to wait until `at`, if so: also puts back what [`Self::take`] took out.
    pub fn put_back(&mut self, item: Item, at: Option<Instant>) {
        self.file(item, at.map(|at| self.clock.stamp(at)));
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
    pub fn take_due(&mut self, route: u16, now: Instant, reserve: &Reserve) -> Option<Item> {
        self.advance(now);
        let (slots, line) = (&self.slots, Self::line(&mut self.lines, route)?);
        let may = |turn: &Turn| may_leave(slots, reserve, turn);
        line.fresh_turn = !line.fresh_turn;
        let fresh = if line.fresh_turn { line.next_fresh(self.clock.stamp(now), &may) } else { None };
        let turn = || line.due.take(&may).or_else(|| line.demoted.take(&may)).map(|turn| turn.4);
        let id = fresh.or_else(turn)?;
        self.take(id).map(|(item, _)| item)
    }

    /// Takes out a message of a route that came in just now: clients take turns, the one that has waited longest first.
    pub fn take_fresh(&mut self, route: u16, now: Instant, reserve: &Reserve) -> Option<Item> {
        let (slots, line) = (&self.slots, Self::line(&mut self.lines, route)?);
        let may = |turn: &Turn| may_leave(slots, reserve, turn);
        let id = line.next_fresh(self.clock.stamp(now), &may)?;
        self.take(id).map(|(item, _)| item)
    }

    /// Takes out a message of a route that waits for its time and may be tried earlier: clients take turns, and of each
    /// the oldest comes first.
    pub fn take_probe(&mut self, route: u16) -> Option<Item> {
        let id = Self::line(&mut self.lines, route)?.probes.take(&|_| true)?.4;
        let mut item = self.take(id)?.0;
        item.probes = item.probes.saturating_add(1);
        Some(item)
    }

    /// Whether [`Self::take_probe`] would find one.
    pub fn has_probe(&self, route: u16) -> bool {
        self.look(route).is_some_and(|line| !line.probes.set.is_empty())
    }

    /// When the next waiting message of a route becomes due; `None` when none waits. Messages that are already due are
    /// ignored.
    pub fn next_time(&self, route: u16) -> Option<Instant> {
        let line = self.look(route)?;
        let times = line.next_time().into_iter().chain(line.next_step());
        times.min().map(|at| self.clock.instant(at))
    }

    /// When the next message with a plan is to be looked at.
    pub fn next_moment(&self) -> Option<Instant> {
        self.moments.first().map(|(at, _)| self.clock.instant(*at))
    }

    /// Takes out a message that is to be looked at now, as [`Self::take`] does.
    pub fn take_moment(&mut self, now: Instant) -> Option<(Item, Option<Instant>)> {
        let id = self.moments.first().filter(|(at, _)| *at <= self.clock.stamp(now))?.1;
        self.take(id)
    }

    /// Whether a step is due that takes this route.
    pub fn has_step(&self, route: u16, now: Instant) -> bool {
        let is_due = |line: &RouteQueue| line.steps_later.first().is_some_and(|(at, _)| *at <= self.clock.stamp(now));
        self.look(route).is_some_and(|line| !line.steps.set.is_empty() || !line.steps_woken.is_empty() || is_due(line))
    }

    /// Takes out the next message with a due step that takes this route, as [`Self::take`] does: clients take turns, and
    /// of each the oldest comes first. It takes a connection as any message does, so the same is reserved.
    pub fn take_step(&mut self, route: u16, now: Instant, reserve: &Reserve) -> Option<(Item, Option<Instant>)> {
        let (clock, slots) = (self.clock, &self.slots);
        let line = Self::line(&mut self.lines, route)?;
        let now = clock.stamp(now);
        let mut left = PIECE;
        while left > 0 {
            left -= 1;
            let woken = line.steps_woken.pop_first();
            let due = || line.steps_later.first().copied().filter(|(at, _)| *at <= now);
            let Some(key) = woken.or_else(due) else { break };
            line.steps_later.remove(&key);
            line.steps.set.extend(slots.get(&key.1).map(|slot| slot.aged(clock)));
        }
        let id = line.steps.take(&|turn| may_leave(slots, reserve, turn))?.4;
        self.take(id)
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

    /// How many messages of a route are due, without those whose time has just come.
    pub fn due(&self, route: u16) -> usize {
        self.look(route).map_or(0, |line| line.due.set.len() + line.demoted.set.len() + line.steps.set.len())
    }

    /// Whether nothing of a route waits.
    pub fn is_idle(&self, route: u16) -> bool {
        let has_steps = |line: &RouteQueue| {
            let sets = [&line.steps_later, &line.steps_woken];
            !line.steps.set.is_empty() || sets.into_iter().any(|set| !set.is_empty())
        };
        self.look(route).is_none_or(|line| line.len == 0 && !has_steps(line))
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
        self.lines.iter_mut().for_each(|line| move_all(&mut line.demoted.set, &mut line.excused));
    }

    /// Makes those due whose deferral was the provider's trouble.
    pub fn wake_put_off(&mut self) {
        self.lines.iter_mut().for_each(|line| move_all(&mut line.probes.set, &mut line.excused));
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

    /// Messages of which nothing may be sent before their plan says so.
    pub fn planned(&self) -> usize {
        self.planned
    }

    /// The message `id`, with the time when it is tried next: none when it is due, held, or rests.
    pub fn get(&self, id: MessageId) -> Option<(&Item, Option<Instant>)> {
        self.slots.get(&id).map(|slot| (&slot.item, slot.until(self.clock)))
    }

    /// All messages after `id` in the order of their IDs, which never changes: for callers that go through all of them
    /// in batches. As with [`Self::get`].
    pub fn behind(&self, id: Option<MessageId>) -> impl Iterator<Item = (&Item, Option<Instant>)> {
        let from = id.map_or(Bound::Unbounded, Bound::Excluded);
        self.slots.range((from, Bound::Unbounded)).map(|(_, slot)| (&slot.item, slot.until(self.clock)))
    }

    /// All messages after `position`, oldest first. As with [`Self::get`].
    pub fn listed(&self, position: Option<Position>) -> impl Iterator<Item = (&Item, Option<Instant>)> {
        let from = position.map_or(Bound::Unbounded, Bound::Excluded);
        self.listed.range((from, Bound::Unbounded)).filter_map(|(_, id)| self.get(*id))
    }

    /// Takes out the message `id`, with the time when it would have been tried next.
    pub fn take(&mut self, id: MessageId) -> Option<(Item, Option<Instant>)> {
        let slot = self.unfile(id)?;
        let until = slot.until(self.clock);
        Some((slot.item, until))
    }

    /// All messages, as [`Self::take`] would take them out.
    pub fn into_items(self) -> impl Iterator<Item = (Item, Option<Instant>)> {
        let clock = self.clock;
        self.slots.into_values().map(move |slot| {
            let until = slot.until(clock);
            (slot.item, until)
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
}

/// Whether a message may leave while this is reserved for others.
fn may_leave(slots: &ById<Slot>, reserve: &Reserve, turn: &Turn) -> bool {
    let is_small = || slots.get(&turn.4).is_some_and(|slot| slot.item.entry.size <= reserve.most);
    !reserve.clients.contains(&turn.0) || is_small()
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

/// How long a message is regarded as new.
const FRESH: Duration = Duration::from_secs(60);
/// New messages that are remembered as such. Beyond them, one per client.
const FRESH_LIMIT: usize = 1024;

/// A moment, in nanoseconds since an hour before the schedule was created; earlier moments are treated as that. Signed, as
/// the seconds of a [`Position`]: sets of both are the same code.
type Stamp = i64;

/// Time as the schedule measures it: half the size of the standard library's.
#[derive(Debug, Clone, Copy)]
struct Clock(Instant);

impl Clock {
    /// Begins some time ago: messages may have been seen before the schedule existed.
    fn new() -> Self {
        let now = Instant::now();
        Self(now.checked_sub(Duration::from_secs(3600)).unwrap_or(now))
    }

    fn stamp(self, at: Instant) -> Stamp {
        i64::try_from(at.saturating_duration_since(self.0).as_nanos()).unwrap_or(i64::MAX)
    }

    fn instant(self, stamp: Stamp) -> Instant {
        self.0 + Duration::from_nanos(stamp.unsigned_abs())
    }
}

/// The state of a message in its line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stand {
    /// It may be tried now.
    Due,
    /// It is retried at this time.
    Later(Stamp),
    /// It rests until its release time, which nothing but time brings.
    Turn(Stamp),
    /// It rests until its digest is written.
    Digest(Stamp),
    /// It is not sent until it is looked at again, apart from steps of its escalation.
    Planned,
    /// It is on hold.
    Held,
}

/// A message with its position.
#[derive(Debug)]
struct Slot {
    item: Item,
    stand: Stand,
}

impl Slot {
    /// Its position among messages that take turns by client.
    fn turn(&self, clock: Clock) -> Turn {
        let Item { entry, demoted, since, .. } = &self.item;
        (entry.client, *demoted, entry.arrived, clock.stamp(*since), entry.id)
    }

    /// The same position, regardless of trouble of the account.
    fn aged(&self, clock: Clock) -> Turn {
        let (client, _, arrived, since, id) = self.turn(clock);
        (client, 0, arrived, since, id)
    }

    /// When it is tried next: never when it is due, held, or rests.
    fn until(&self, clock: Clock) -> Option<Instant> {
        match self.stand {
            Stand::Later(at) => Some(clock.instant(at)),
            _ => None,
        }
    }

    fn waits_for_plan(&self) -> bool {
        self.stand == Stand::Planned && self.item.waits_for_plan()
    }

    /// Its position among the new ones, in order of arrival.
    fn fresh(&self, clock: Clock) -> Turn {
        let (client, _, _, since, id) = self.turn(clock);
        (client, 0, 0, since, id)
    }
}

/// The messages of one route.
#[derive(Debug, Default)]
struct RouteQueue {
    /// Due.
    due: Turns,
    /// Due, and the account fell into trouble over them: others are tried first.
    demoted: Turns,
    /// Of those that are due and not demoted, those that came in just now.
    fresh: Turns,
    /// By the time of the next attempt.
    later: BTreeSet<(Stamp, MessageId)>,
    /// Of these, the ones that may be tried before their time.
    probes: Turns,
    /// Those that rest until their release time, ordered by it.
    turns: BTreeSet<(Stamp, MessageId)>,
    /// Those that rest until their digest is written, ordered by time.
    digests: BTreeSet<(Stamp, MessageId)>,
    /// Were `later` and become due, step by step.
    waking: BTreeSet<(Stamp, MessageId)>,
    /// Were in `demoted` or `probes` and become due as others do, since the provider has accepted one.
    excused: BTreeSet<Turn>,
    /// Steps of escalations that are due.
    steps: Turns,
    /// Those that wait for their next attempt, by its time; and those of them that were woken.
    steps_later: BTreeSet<(Stamp, MessageId)>,
    steps_woken: BTreeSet<(Stamp, MessageId)>,
    /// Whether the next slot belongs to a new message.
    fresh_turn: bool,
    /// The number of messages, held ones included.
    len: usize,
}

impl RouteQueue {
    /// Adds a message to its orders.
    fn insert(&mut self, clock: Clock, slot: &Slot) {
        self.len += 1;
        let id = slot.item.entry.id;
        match slot.stand {
            Stand::Due if slot.item.demoted > 0 => _ = self.demoted.set.insert(slot.turn(clock)),
            Stand::Due => _ = self.due.set.insert(slot.turn(clock)),
            Stand::Later(at) => {
                self.later.insert((at, id));
                if slot.item.probes < PROBE_LIMIT {
                    self.probes.set.insert(slot.aged(clock));
                }
            }
            Stand::Turn(at) => _ = self.turns.insert((at, id)),
            Stand::Digest(at) => _ = self.digests.insert((at, id)),
            Stand::Planned | Stand::Held => {}
        }
    }

    /// Removes a message from all orders.
    fn remove(&mut self, clock: Clock, slot: &Slot) {
        self.len = self.len.saturating_sub(1);
        let id = slot.item.entry.id;
        match slot.stand {
            Stand::Due if slot.item.demoted > 0 => {
                let turn = slot.turn(clock);
                _ = self.demoted.set.remove(&turn) || self.excused.remove(&turn);
            }
            Stand::Due => {
                self.due.set.remove(&slot.turn(clock));
                self.fresh.set.remove(&slot.fresh(clock));
            }
            Stand::Later(at) => {
                _ = self.later.remove(&(at, id)) || self.waking.remove(&(at, id));
                if slot.item.probes < PROBE_LIMIT {
                    let turn = slot.aged(clock);
                    _ = self.probes.set.remove(&turn) || self.excused.remove(&turn);
                }
            }
            Stand::Turn(at) => _ = self.turns.remove(&(at, id)),
            Stand::Digest(at) => _ = self.digests.remove(&(at, id)),
            Stand::Planned | Stand::Held => {}
        }
    }

    /// Remembers that a due message came in just now. Many new ones of a client are a backlog like any other, but
    /// one per client is always remembered.
    fn remember(&mut self, clock: Clock, slot: &Slot, now: Stamp) {
        if slot.stand != Stand::Due || slot.item.demoted > 0 {
            return;
        }
        while let Some(old) = self.fresh.first_of(slot.item.entry.client).filter(|turn| is_old(turn, now)) {
            self.fresh.set.remove(&old);
        }
        if self.fresh.set.len() < FRESH_LIMIT || self.fresh.first_of(slot.item.entry.client).is_none() {
            self.fresh.set.insert(slot.fresh(clock));
        }
    }

    /// The new message that is sent next; it stays where it is otherwise.
    fn next_fresh(&mut self, now: Stamp, may: &dyn Fn(&Turn) -> bool) -> Option<MessageId> {
        loop {
            let turn = self.fresh.take(may)?;
            if !is_old(&turn, now) {
                return Some(turn.4);
            }
        }
    }

    /// Those whose time has come, or that were woken, one after another.
    fn next_woken(&mut self, now: Stamp) -> Option<MessageId> {
        let due = |set: &mut BTreeSet<(Stamp, MessageId)>| set.first().copied().filter(|(at, _)| *at <= now);
        self.waking.first().copied().or_else(|| due(&mut self.later)).or_else(|| due(&mut self.turns)).map(|(_, id)| id)
    }

    /// When the next waiting message becomes due.
    fn next_time(&self) -> Option<Stamp> {
        let first = |set: &BTreeSet<(Stamp, MessageId)>| set.first().map(|(at, _)| *at);
        first(&self.later).into_iter().chain(first(&self.turns)).min()
    }

    /// When the next step that waits becomes due.
    fn next_step(&self) -> Option<Stamp> {
        self.steps_later.first().map(|(at, _)| *at)
    }

    /// Whether a message is due now.
    fn has_due(&self, now: Stamp) -> bool {
        let turns = [&self.due.set, &self.demoted.set, &self.excused];
        // Those that were woken become due as soon as they are moved.
        let are_due = turns.into_iter().any(|set| !set.is_empty()) || !self.waking.is_empty();
        are_due || self.next_time().is_some_and(|at| at <= now)
    }

    /// Makes everything due whose scheduled time would come.
    fn wake_all(&mut self) {
        move_all(&mut self.later, &mut self.waking);
        move_all(&mut self.steps_later, &mut self.steps_woken);
    }
}

/// Adds `from` to `to`, which as a rule is empty: `BTreeSet::append` merges both, and would be 2 KB of the program.
fn move_all<T: Ord>(from: &mut BTreeSet<T>, to: &mut BTreeSet<T>) {
    if to.is_empty() {
        std::mem::swap(from, to);
    }
    to.extend(std::mem::take(from));
}

fn is_old(turn: &Turn, now: Stamp) -> bool {
    Duration::from_nanos(now.saturating_sub(turn.3).max(0).unsigned_abs()) >= FRESH
}

/// The position of a message: its client; how often the account fell into trouble over it; its age, which is the
/// second of its arrival, and within that the order in which this run saw it, in nanoseconds.
type Turn = (Client, u32, i64, Stamp, MessageId);

/// Messages in turns.
#[derive(Debug, Default)]
struct Turns {
    set: BTreeSet<Turn>,
    /// The client that was served last.
    last: Option<Client>,
}

impl Turns {
    /// The oldest message of a client.
    fn first_of(&self, client: Client) -> Option<Turn> {
        let first = (client, 0, i64::MIN, 0, MessageId::FIRST);
        self.set.range(first..).next().copied().filter(|(of, ..)| *of == client)
    }

    /// Takes out the message to be sent next. A client whose oldest one may not leave is passed over.
    fn take(&mut self, may: &dyn Fn(&Turn) -> bool) -> Option<Turn> {
        let behind =
            |client| (Bound::Excluded((client, u32::MAX, i64::MAX, Stamp::MAX, MessageId::LAST)), Bound::Unbounded);
        let (mut last, mut passed) = (self.last, None);
        loop {
            let next = last.and_then(|client| self.set.range(behind(client)).next().copied());
            let turn = next.or_else(|| self.set.first().copied())?;
            if may(&turn) {
                self.set.remove(&turn);
                self.last = Some(turn.0);
                return Some(turn);
            }
            // Those that are passed over are few: none but clients with a message in transfer.
            if passed == Some(turn.0) {
                return None;
            }
            passed = passed.or(Some(turn.0));
            last = Some(turn.0);
        }
    }
}

/// How long a message waits after its `attempts`-th temporary failure: `first`, doubling up to `last`, minus up to a
/// tenth at random (`jitter` from 0 to 255) so that messages which failed together are not retried together.
pub fn backoff(attempts: u32, jitter: u8, first: Duration, last: Duration) -> Duration {
    let doubled = first.saturating_mul(1 << attempts.saturating_sub(1).min(20)).min(last.max(first));
    doubled.saturating_sub(doubled / 2550 * u32::from(jitter))
}

#[cfg(test)]
mod tests;
