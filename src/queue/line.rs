// SPDX-License-Identifier: Apache-2.0
//! The messages of one route, in the orders in which they are needed. Contains IDs only; the schedule has the messages.
//!
//! Messages take turns by client: each client that has some is served once per round, its oldest message first.
//!
//! It is one ordered set, so that a client costs nothing in addition to its messages, and each step takes the same time
//! however many messages and clients there are (up to the logarithm).

use std::collections::BTreeSet;
use std::ops::Bound;
use std::time::{Duration, Instant};

use super::client::Client;
use super::id::MessageId;
use super::item::{Item, PROBE_LIMIT};

/// How long a message is regarded as new.
pub(super) const FRESH: Duration = Duration::from_secs(60);
/// New messages that are remembered as such. Beyond them, one per client.
const FRESH_LIMIT: usize = 1024;

/// A moment, in nanoseconds since an hour before the schedule was created; earlier moments are treated as that.
pub(super) type Stamp = u64;

/// Time as the schedule measures it: half the size of the standard library's.
#[derive(Debug, Clone, Copy)]
pub(super) struct Clock(Instant);

impl Clock {
    /// Begins some time ago: messages may have been seen before the schedule existed.
    pub(super) fn new() -> Self {
        let now = Instant::now();
        Self(now.checked_sub(Duration::from_secs(3600)).unwrap_or(now))
    }

    pub(super) fn stamp(self, at: Instant) -> Stamp {
        u64::try_from(at.saturating_duration_since(self.0).as_nanos()).unwrap_or(u64::MAX)
    }

    pub(super) fn instant(self, stamp: Stamp) -> Instant {
        self.0 + Duration::from_nanos(stamp)
    }
}

/// The state of a message in its line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stand {
    /// It may be tried now.
    Due,
    /// It is retried at this time.
    Later(Stamp),
    /// It rests until its release time, which nothing but time brings.
    Turn(Stamp),
    /// It rests until its digest is written.
    Digest(Stamp),
    /// It is on hold.
    Held,
}

/// A message with its position.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) item: Item,
    pub(super) stand: Stand,
}

impl Slot {
    /// Its position among messages that take turns by client.
    pub(super) fn turn(&self, clock: Clock) -> Turn {
        let Item { entry, demoted, since, .. } = &self.item;
        (entry.client, *demoted, entry.arrived, clock.stamp(*since), entry.id)
    }

    /// The same position, regardless of trouble of the account.
    fn aged(&self, clock: Clock) -> Turn {
        let (client, _, arrived, since, id) = self.turn(clock);
        (client, 0, arrived, since, id)
    }

    /// Its position among the new ones, in order of arrival.
    fn fresh(&self, clock: Clock) -> Turn {
        let (client, _, _, since, id) = self.turn(clock);
        (client, 0, 0, since, id)
    }
}

/// The messages of one route.
#[derive(Debug, Default)]
pub(super) struct RouteQueue {
    /// Due.
    pub(super) due: Turns,
    /// Due, and the account fell into trouble over them: others are tried first.
    pub(super) demoted: Turns,
    /// Of those that are due and not demoted, those that came in just now.
    pub(super) fresh: Turns,
    /// By the time of the next attempt.
    pub(super) later: BTreeSet<(Stamp, MessageId)>,
    /// Of these, the ones that may be tried before their time.
    pub(super) probes: Turns,
    /// Those that rest until their release time, ordered by it.
    pub(super) turns: BTreeSet<(Stamp, MessageId)>,
    /// Those that rest until their digest is written, ordered by time.
    pub(super) digests: BTreeSet<(Stamp, MessageId)>,
    /// Were `later` and become due, step by step.
    pub(super) waking: BTreeSet<(Stamp, MessageId)>,
    /// Were in `demoted` or `probes` and become due as others do, since the provider has accepted one.
    pub(super) excused: BTreeSet<Turn>,
    /// Whether the next slot belongs to a new message.
    pub(super) fresh_turn: bool,
    /// The number of messages, held ones included.
    pub(super) len: usize,
}

impl RouteQueue {
    /// Adds a message to its orders.
    pub(super) fn insert(&mut self, clock: Clock, slot: &Slot) {
        self.len += 1;
        let id = slot.item.entry.id;
        match slot.stand {
            Stand::Due if slot.item.demoted > 0 => self.demoted.insert(slot.turn(clock)),
            Stand::Due => self.due.insert(slot.turn(clock)),
            Stand::Later(at) => {
                self.later.insert((at, id));
                if slot.item.probes < PROBE_LIMIT {
                    self.probes.insert(slot.aged(clock));
                }
            }
            Stand::Turn(at) => _ = self.turns.insert((at, id)),
            Stand::Digest(at) => _ = self.digests.insert((at, id)),
            Stand::Held => {}
        }
    }

    /// Removes a message from all orders.
    pub(super) fn remove(&mut self, clock: Clock, slot: &Slot) {
        self.len = self.len.saturating_sub(1);
        let id = slot.item.entry.id;
        match slot.stand {
            Stand::Due if slot.item.demoted > 0 => {
                let turn = slot.turn(clock);
                _ = self.demoted.remove(&turn) || self.excused.remove(&turn);
            }
            Stand::Due => {
                self.due.remove(&slot.turn(clock));
                self.fresh.remove(&slot.fresh(clock));
            }
            Stand::Later(at) => {
                _ = self.later.remove(&(at, id)) || self.waking.remove(&(at, id));
                if slot.item.probes < PROBE_LIMIT {
                    let turn = slot.aged(clock);
                    _ = self.probes.remove(&turn) || self.excused.remove(&turn);
                }
            }
            Stand::Turn(at) => _ = self.turns.remove(&(at, id)),
            Stand::Digest(at) => _ = self.digests.remove(&(at, id)),
            Stand::Held => {}
        }
    }

    /// Remembers that a due message came in just now. Many new ones of a client are a backlog like any other, but
    /// one per client is always remembered.
    pub(super) fn remember(&mut self, clock: Clock, slot: &Slot, now: Stamp) {
        if slot.stand != Stand::Due || slot.item.demoted > 0 {
            return;
        }
        while let Some(old) = self.fresh.first_of(slot.item.entry.client).filter(|turn| is_old(turn, now)) {
            self.fresh.remove(&old);
        }
        if self.fresh.len() < FRESH_LIMIT || self.fresh.first_of(slot.item.entry.client).is_none() {
            self.fresh.insert(slot.fresh(clock));
        }
    }

    /// The new message that is sent next; it stays where it is otherwise.
    pub(super) fn next_fresh(&mut self, now: Stamp) -> Option<MessageId> {
        loop {
            let turn = self.fresh.take()?;
            if !is_old(&turn, now) {
                return Some(turn.4);
            }
        }
    }

    /// Those whose time has come, or that were woken, one after another.
    pub(super) fn next_woken(&mut self, now: Stamp) -> Option<MessageId> {
        let due = |set: &mut BTreeSet<(Stamp, MessageId)>| set.first().copied().filter(|(at, _)| *at <= now);
        self.waking.first().copied().or_else(|| due(&mut self.later)).or_else(|| due(&mut self.turns)).map(|(_, id)| id)
    }

    /// Whether there are messages that become due as soon as they are moved.
    pub(super) fn is_waking(&self) -> bool {
        !(self.waking.is_empty() && self.excused.is_empty())
    }

    /// When the next waiting message becomes due.
    pub(super) fn next_time(&self) -> Option<Stamp> {
        let first = |set: &BTreeSet<(Stamp, MessageId)>| set.first().map(|(at, _)| *at);
        first(&self.later).into_iter().chain(first(&self.turns)).min()
    }

    /// Whether a message is due now.
    pub(super) fn has_due(&self, now: Stamp) -> bool {
        let waits = self.due.is_empty() && self.demoted.is_empty() && !self.is_waking();
        !waits || self.next_time().is_some_and(|at| at <= now)
    }

    /// Makes everything due whose scheduled time would come.
    pub(super) fn wake_all(&mut self) {
        self.waking.append(&mut self.later);
    }

    /// Messages that the account fell into trouble over become normal again.
    pub(super) fn forgive(&mut self) {
        self.excused.append(&mut self.demoted.take_all());
    }

    /// Makes those due whose deferral was the provider's trouble.
    pub(super) fn wake_put_off(&mut self) {
        self.excused.append(&mut self.probes.take_all());
    }

    /// The one that is sent next.
    pub(super) fn next(&mut self) -> Option<MessageId> {
        self.due.take().or_else(|| self.demoted.take()).map(|turn| turn.4)
    }

    /// The one that is tried before its time.
    pub(super) fn next_probe(&mut self) -> Option<MessageId> {
        self.probes.take().map(|turn| turn.4)
    }
}

fn is_old(turn: &Turn, now: Stamp) -> bool {
    Duration::from_nanos(now.saturating_sub(turn.3)) >= FRESH
}

/// The position of a message: its client; how often the account fell into trouble over it; its age, which is the
/// second of its arrival, and within that the order in which this run saw it, in nanoseconds.
pub(super) type Turn = (Client, u32, i64, u64, MessageId);

/// Messages in turns.
#[derive(Debug, Default)]
pub(super) struct Turns {
    set: BTreeSet<Turn>,
    /// The client that was served last.
    last: Option<Client>,
}

impl Turns {
    pub(super) fn insert(&mut self, turn: Turn) {
        self.set.insert(turn);
    }

    /// True when it was there.
    pub(super) fn remove(&mut self, turn: &Turn) -> bool {
        self.set.remove(turn)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.set.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.set.len()
    }

    /// All messages; none are left.
    pub(super) fn take_all(&mut self) -> BTreeSet<Turn> {
        std::mem::take(&mut self.set)
    }

    /// The oldest message of a client.
    pub(super) fn first_of(&self, client: Client) -> Option<Turn> {
        let first = (client, 0, i64::MIN, 0, MessageId::FIRST);
        self.set.range(first..).next().copied().filter(|(of, ..)| *of == client)
    }

    /// Takes out the message to be sent next.
    pub(super) fn take(&mut self) -> Option<Turn> {
        let behind =
            |client| (Bound::Excluded((client, u32::MAX, i64::MAX, u64::MAX, MessageId::LAST)), Bound::Unbounded);
        let next = self.last.and_then(|client| self.set.range(behind(client)).next().copied());
        let turn = next.or_else(|| self.set.first().copied())?;
        self.set.remove(&turn);
        self.last = Some(turn.0);
        Some(turn)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(n: u8) -> Client {
        Client::V4([10, 0, 0, n])
    }

    #[test]
    fn clients_take_turns_and_each_sends_its_oldest_first() {
        let mut turns = Turns::default();
        for (n, arrived) in [(1, 5), (1, 3), (1, 4), (2, 9), (3, 7), (3, 8)] {
            turns.insert((client(n), 0, arrived, 0, MessageId::FIRST));
        }
        assert_eq!(turns.first_of(client(1)).map(|turn| turn.2), Some(3));
        assert_eq!(turns.first_of(client(4)), None);
        let order: Vec<i64> = std::iter::from_fn(|| turns.take().map(|turn| turn.2)).collect();
        assert_eq!(order, [3, 9, 7, 4, 8, 5]);
        // A new client waits one round at most, whichever was served before.
        turns.insert((client(3), 0, 1, 0, MessageId::FIRST));
        turns.insert((client(3), 0, 2, 0, MessageId::FIRST));
        assert_eq!(turns.take().map(|turn| turn.0), Some(client(3)));
        turns.insert((client(1), 0, 9, 0, MessageId::FIRST));
        assert_eq!(turns.take().map(|turn| turn.0), Some(client(1)));
        assert_eq!(turns.len(), 1);
    }
}
