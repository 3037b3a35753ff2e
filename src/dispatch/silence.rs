// SPDX-License-Identifier: Apache-2.0
//! Devices that are expected to send (`expect_every`): which of them have been silent for too long, and which have been
//! heard again. Pure: the caller has the clock and the disk.
//!
//! A stopwatch for each device counts its silence. It runs while the gateway runs and could have heard the device, by
//! the clock that nobody sets, and goes back to zero with each message that is accepted from the device. No decision
//! depends on the wall clock, which on a router is wrong until NTP sets it, and may be set back and forth. So what is
//! counted is never more than the true silence, and there are no false alarms.
//!
//! A restart continues with what is stored ([`Record`]). Storing wears flash, so a device that sends more often than a
//! quarter of its time costs nothing, and otherwise this is written:
//!
//! - when its silence reaches a quarter of its time, the next quarter, and so on;
//! - in a run in which it has not been heard yet, also after ten minutes, and each time when that has doubled: however
//!   often the power fails, at least half of each run of more than ten minutes counts;
//! - a minute after its silence was reported, when the mail that says so survives a power cut as well;
//! - when it is heard, if what is stored says otherwise: at once, so that no false alarm follows a power cut;
//! - at the end of the run.

pub(super) mod file;
pub(super) mod tell;
#[cfg(test)]
mod tests;

use std::time::{Duration, Instant};

use crate::config::Device;
use crate::report::brief;
use crate::system::clock;

/// The silence of a run after which it is stored first, and the least that is worth storing.
const FIRST: Duration = Duration::from_secs(600);
/// How long after it was queued the mail about a silence is on safe storage, whatever `durability` is, or has left.
const SETTLED: Duration = Duration::from_secs(60);
/// The least time between two writes.
const BETWEEN: Duration = Duration::from_secs(5);
/// How long to wait after one that failed.
const RETRY: Duration = Duration::from_secs(60);

/// What outlives a run about a device. All zero, which is not stored: it was heard lately.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Record {
    /// How long it was silent, at least.
    pub silent: Duration,
    /// Whether that was reported.
    pub told: bool,
    /// When it was last heard, seconds since 1970, if known.
    pub last: Option<i64>,
    /// When its time had passed, seconds since 1970, if known.
    pub since: Option<i64>,
}

/// What is stored, by the name of the section.
pub type Records = Vec<(String, Record)>;

/// A moment of this run, or of an earlier one, in seconds since 1970, if it is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// Of this run: the wall clock of now tells when it was.
    Now(Instant),
    /// Of an earlier one.
    Earlier(Option<i64>),
}

impl Moment {
    /// Seconds since 1970 by the clock of now; `None` if that is not known.
    pub fn wall(self) -> Option<i64> {
        match self {
            Self::Now(moment) => clock::since(moment),
            Self::Earlier(wall) => wall,
        }
    }
}

/// A device whose silence was too long.
#[derive(Debug, Clone, Copy)]
struct Overdue {
    /// When its time had passed.
    since: Moment,
    /// When the mail about it was queued, in this run.
    noticed: Option<Instant>,
}

/// A device that is expected to send.
#[derive(Debug)]
struct Watched {
    name: String,
    title: String,
    every: Duration,
    /// Its silence in earlier runs, unless it was heard in this one.
    before: Duration,
    /// When it was last heard in this run, or else when this run, or the expectation, began.
    since: Instant,
    /// Whether it was heard in this run.
    heard: bool,
    overdue: Option<Overdue>,
    /// What is stored about it.
    stored: Record,
}

impl Watched {
    fn new(device: &Device, stored: Record, now: Instant) -> Self {
        let overdue = Overdue { since: Moment::Earlier(stored.since), noticed: None };
        Self {
            name: device.name.clone(),
            title: device.title().into(),
            every: device.expect_every,
            before: stored.silent,
            since: now,
            heard: false,
            overdue: stored.told.then_some(overdue),
            stored,
        }
    }

    fn silence(&self, now: Instant) -> Duration {
        self.before.saturating_add(now.saturating_duration_since(self.since))
    }

    /// When its silence is this long.
    fn reaches(&self, silence: Duration) -> Instant {
        self.since + silence.saturating_sub(self.before)
    }

    /// When it was last heard; `None` if that is not known.
    fn last(&self) -> Option<Moment> {
        match self.heard {
            true => Some(Moment::Now(self.since)),
            false => self.stored.last.map(|last| Moment::Earlier(Some(last))),
        }
    }

    /// What would be stored now. `all` stores the silence exactly, however short: when the run ends.
    fn record(&self, now: Instant, all: bool) -> Record {
        let silent = Duration::from_secs(self.silence(now).as_secs());
        // One that sends often is not stored: it would have to be corrected when it is heard.
        let is_worth_it = all || !self.heard || self.overdue.is_some() || silent >= self.every / 4;
        if !is_worth_it || silent.is_zero() {
            return Record::default();
        }
        let wall = |moment: Moment| moment.wall();
        let is_settled = |noticed: Instant| all || now.saturating_duration_since(noticed) >= SETTLED;
        let told = |overdue: Overdue| self.stored.told || overdue.noticed.is_some_and(is_settled);
        Record {
            silent,
            told: self.overdue.is_some_and(told),
            last: self.last().and_then(wall),
            since: self.overdue.map(|overdue| overdue.since).and_then(wall),
        }
    }

    /// When something about it has to be stored.
    fn due(&self, now: Instant) -> Option<Instant> {
        let stored = self.stored;
        if stored.silent > self.silence(now) || stored.told && self.overdue.is_none() {
            return Some(now);
        }
        match self.overdue {
            Some(_) if stored.told => None,
            Some(overdue) => overdue.noticed.map(|noticed| noticed + SETTLED),
            None => {
                let quarter = (self.every / 4).max(FIRST);
                // Of this run; something may have been stored together with another device, at any time.
                let counted = stored.silent.saturating_sub(self.before);
                let mark = match self.heard {
                    true => stored.silent.saturating_add(quarter),
                    false => self.before.saturating_add(FIRST.max(counted + counted.min(quarter))),
                };
                (mark < self.every).then(|| self.reaches(mark))
            }
        }
    }
}

/// What has changed about a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// It has been silent for too long.
    Silent,
    /// It was overdue, and a message was accepted from it.
    Heard,
    /// It was overdue, and the settings no longer expect it, or not yet.
    Ended,
}

/// A change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Which.
    pub turn: Turn,
    /// Name of the section.
    pub name: String,
    /// Its name for display.
    pub title: String,
    /// How often it is expected.
    pub every: Duration,
    /// How long it has been, or was, silent.
    pub silent: Duration,
    /// When it was heard last, before that; `None` if that is not known.
    pub last: Option<Moment>,
}

impl Change {
    fn of(watched: &Watched, turn: Turn, now: Instant) -> Self {
        let (name, title) = (watched.name.clone(), watched.title.clone());
        Self { turn, name, title, every: watched.every, silent: watched.silence(now), last: watched.last() }
    }

    /// What has happened, in one sentence.
    fn reason(&self) -> String {
        let (silent, every) = (brief(self.silent.as_secs()), brief(self.every.as_secs()));
        match self.turn {
            Turn::Silent => format!("no message has been accepted for {silent}; one is expected every {every}"),
            Turn::Heard => format!("a message was accepted after {silent} of silence"),
            Turn::Ended => "its expect_every was changed or removed".into(),
        }
    }
}

/// A device that is expected to send, as shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expected {
    /// Name of the section.
    pub name: String,
    /// Its name for display.
    pub title: String,
    /// How often it is expected.
    pub every: Duration,
    /// How long it has been silent.
    pub silent: Duration,
    /// When it was last heard; `None` if that is not known.
    pub last: Option<Moment>,
    /// Since when it is overdue, if so.
    pub overdue: Option<Moment>,
}

/// All devices that are expected to send.
#[derive(Debug)]
pub struct Silence {
    watched: Vec<Watched>,
    /// Whether something is stored about devices that are not among them.
    outdated: bool,
    /// Whether something is being stored.
    writing: bool,
    /// When something may be stored again.
    free: Instant,
}

impl Silence {
    /// Those of `devices` that are expected to send, with what an earlier run has stored.
    pub fn new(devices: &[Device], mut stored: Records, now: Instant) -> Self {
        let mut watched = Vec::new();
        for device in devices.iter().filter(|device| device.is_expected()) {
            let place = stored.iter().position(|(name, _)| *name == device.name);
            let record = place.map(|place| stored.swap_remove(place).1).unwrap_or_default();
            watched.push(Watched::new(device, record, now));
        }
        Self { watched, outdated: !stored.is_empty(), writing: false, free: now }
    }

    /// The settings have changed. Returns those that were overdue and are no longer expected; [`Self::look`] has the rest.
    pub fn renew(&mut self, devices: &[Device], now: Instant) -> Vec<Change> {
        let mut before = std::mem::take(&mut self.watched);
        for device in devices.iter().filter(|device| device.is_expected()) {
            let Some(place) = before.iter().position(|known| known.name == device.name) else {
                self.watched.push(Watched::new(device, Record::default(), now));
                continue;
            };
            let mut known = before.swap_remove(place);
            known.title = device.title().into();
            known.every = device.expect_every;
            self.watched.push(known);
        }
        self.outdated |= before.iter().any(|gone| gone.stored != Record::default());
        let gone = before.iter().filter(|gone| gone.overdue.is_some());
        gone.map(|gone| Change::of(gone, Turn::Ended, now)).collect()
    }

    /// A message of the device with this section was accepted.
    pub fn heard(&mut self, name: &str, now: Instant) -> Option<Change> {
        let watched = self.watched.iter_mut().find(|watched| watched.name == name)?;
        let change = watched.overdue.take().map(|_| Change::of(watched, Turn::Heard, now));
        watched.before = Duration::ZERO;
        watched.since = now;
        watched.heard = true;
        change
    }

    /// Those whose time has passed by now, and those that have more time now; each once.
    pub fn look(&mut self, now: Instant) -> Vec<Change> {
        let mut changes = Vec::new();
        for watched in &mut self.watched {
            let is_late = watched.silence(now) >= watched.every;
            if is_late == watched.overdue.is_some() {
                continue;
            }
            changes.push(Change::of(watched, if is_late { Turn::Silent } else { Turn::Ended }, now));
            // Its time may have passed in an earlier run, which ended before it could be reported.
            let since = match watched.before >= watched.every {
                true => Moment::Earlier(watched.stored.since),
                false => Moment::Now(watched.reaches(watched.every)),
            };
            watched.overdue = is_late.then_some(Overdue { since, noticed: None });
        }
        changes
    }

    /// The mail that says that these are silent is in the queue.
    pub fn noticed<'a>(&mut self, names: impl Iterator<Item = &'a str>, now: Instant) {
        for name in names {
            let watched = self.watched.iter_mut().find(|watched| watched.name == name);
            if let Some(overdue) = watched.and_then(|watched| watched.overdue.as_mut()) {
                overdue.noticed.get_or_insert(now);
            }
        }
    }

    /// When [`Self::look`] or [`Self::take_records`] will have something, if nothing happens until then.
    pub fn next(&self, now: Instant) -> Option<Instant> {
        let times = self.watched.iter().filter(|watched| watched.overdue.is_none());
        let times = times.map(|watched| watched.reaches(watched.every));
        times.chain(self.store_at(now)).min()
    }

    fn store_at(&self, now: Instant) -> Option<Instant> {
        if self.writing {
            return None;
        }
        let due = self.watched.iter().filter_map(|watched| watched.due(now)).chain(self.outdated.then_some(now));
        due.min().map(|due| due.max(self.free))
    }

    /// What is to be stored now, if anything. [`Self::stored`] follows.
    pub fn take_records(&mut self, now: Instant) -> Option<Records> {
        self.store_at(now).filter(|at| *at <= now)?;
        self.writing = true;
        Some(self.records(now, false))
    }

    /// What is to be stored when the run ends; `None` if that is stored already.
    pub fn at_end(&self, now: Instant) -> Option<Records> {
        let differs = |watched: &Watched| watched.record(now, true) != watched.stored;
        (self.outdated || self.watched.iter().any(differs)).then(|| self.records(now, true))
    }

    fn records(&self, now: Instant, all: bool) -> Records {
        let mut records = Records::new();
        for watched in &self.watched {
            let record = watched.record(now, all);
            if record != Record::default() {
                records.push((watched.name.clone(), record));
            }
        }
        records
    }

    /// `records` were stored, or not.
    pub fn stored(&mut self, records: &Records, done: bool, now: Instant) {
        self.writing = false;
        self.free = now + if done { BETWEEN } else { RETRY };
        if done {
            self.outdated = false;
            for watched in &mut self.watched {
                let record = records.iter().find(|(name, _)| *name == watched.name);
                watched.stored = record.map(|(_, record)| *record).unwrap_or_default();
            }
        }
    }

    /// All of them, as shown.
    pub fn expected(&self, now: Instant) -> Vec<Expected> {
        let view = |watched: &Watched| Expected {
            name: watched.name.clone(),
            title: watched.title.clone(),
            every: watched.every,
            silent: watched.silence(now),
            last: watched.last(),
            overdue: watched.overdue.map(|overdue| overdue.since),
        };
        self.watched.iter().map(view).collect()
    }
}
