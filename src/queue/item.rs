//! A message while it waits: what is known of it without reading its file.

use std::time::{Duration, Instant};

use super::rest::Rest;
use super::spool::Entry;
use crate::system::clock;

/// How often a message may be tried before its time, to see whether a provider that put everything off takes mail again.
/// Bounded, since the trouble may be the message's own.
pub(super) const PROBE_LIMIT: u32 = 60;

/// A message that waits its turn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// The message.
    pub entry: Entry,
    /// Attempts in its own time so far, those of earlier runs included once the message has been read.
    pub turns: u32,
    /// When it is tried by itself; `None` before the first attempt.
    pub turn: Option<Instant>,
    /// Whether the attempt that is under way came before that.
    pub early: bool,
    /// Which accounts it may leave through: a number of the dispatcher's.
    pub route: u16,
    /// Of which settings that number is.
    pub routed: u32,
    /// How often it was tried before its time.
    pub probes: u32,
    /// How often the account fell into trouble over this message: others are tried before it.
    pub demoted: u32,
    /// Whether it is tried again after the provider has taken another one: what happens now is its own doing.
    pub woken: bool,
    /// When this run first saw it.
    pub since: Instant,
    /// The age of the system in seconds when it was accepted; `None` when that was before the system was started.
    pub uptime: Option<u64>,
    /// Whether the owner holds it back.
    pub held: bool,
    /// Whether the file does not know the true time of arrival, since the clock was set later.
    pub undated: bool,
    /// Why it may not be tried yet, whatever wakes the others.
    pub rest: Option<Rest>,
    /// How long it has to rest, or had to: no part of the time for which delivery is tried.
    pub rested: Duration,
}

impl Item {
    /// A message that has just been accepted or recovered.
    pub fn new(entry: Entry, now: Instant) -> Self {
        Self {
            entry,
            turns: 0,
            turn: None,
            early: false,
            route: 0,
            routed: 0,
            probes: 0,
            demoted: 0,
            woken: false,
            since: now,
            uptime: None,
            held: false,
            undated: false,
            rest: None,
            rested: Duration::ZERO,
        }
    }

    /// Whether its being put off may be the provider's trouble. If it is put off again right after the provider took
    /// another one, it is its own: then it is tried in its own time only.
    pub fn may_be_providers(&mut self) -> bool {
        if self.woken {
            self.probes = PROBE_LIMIT;
        }
        self.probes < PROBE_LIMIT
    }

    /// From now on it is tried in its own time only.
    pub fn in_its_own_time(&mut self) {
        self.probes = PROBE_LIMIT;
    }

    /// How old the message is: by the time since the start of the system where that is known, which is never wrong,
    /// otherwise by the wall clock. `None` while that can't be trusted.
    pub fn age(&self) -> Option<Duration> {
        match self.uptime {
            Some(then) => Some(Duration::from_secs(clock::uptime().saturating_sub(then))),
            None if !clock::is_set() => None,
            // Accepted before the clock was right, in an earlier run of the system: as old as this run knows it.
            None => Some(clock::age(self.entry.arrived).map_or_else(|| self.since.elapsed(), Duration::from_secs)),
        }
    }
}
