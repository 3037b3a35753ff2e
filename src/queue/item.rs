// SPDX-License-Identifier: Apache-2.0
//! A message while it waits: what is known about it without reading its file.
//!
//! A message beyond the rate of its device rests: until the rate permits it, or until its digest is written.

use std::time::{Duration, Instant};

use super::entry::Entry;
use super::journal::State;
use super::record::{Meta, Over};
use crate::message::date;
use crate::system::clock;

/// A message with the time of its next attempt: none when it is due, held, or rests.
pub type Placed = (Item, Option<Instant>);

/// How often a message may be tried before its time, to check whether a provider that deferred everything accepts mail
/// again. Limited, since the message itself may be the cause.
pub(super) const PROBE_LIMIT: u32 = 60;

/// What is planned for a message in addition to its next attempt.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// When it is looked at again: a step begins, or an account may be used from then on.
    pub moment: Option<Instant>,
    /// The account or channel whose step begins then, if one does.
    pub next: Option<String>,
    /// The steps that have begun and are still to be tried.
    pub steps: Vec<Step>,
    /// When the last one began, whether it is still tried or not; `None` if none has begun.
    pub begun: Option<Instant>,
    /// Whether it may not be sent otherwise until then.
    pub waits: bool,
    /// Whether this applies although it is held: it is not known whether it has arrived.
    pub despite_hold: bool,
}

/// A step of an escalation: another delivery of the same message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// The route of its account: a number assigned by the dispatcher.
    pub route: u16,
    /// Attempts so far in this run.
    pub turns: u32,
    /// When it is next tried; `None`: it is due.
    pub turn: Option<Instant>,
}

impl Step {
    /// A step that takes this route and has not been tried.
    pub fn new(route: u16) -> Self {
        Self { route, turns: 0, turn: None }
    }
}

/// A queued message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// The message.
    pub entry: Entry,
    /// Scheduled attempts so far, those of earlier runs included once the message has been read.
    pub turns: u32,
    /// When it is next tried; `None` before the first attempt.
    pub turn: Option<Instant>,
    /// Whether the current attempt came before that.
    pub early: bool,
    /// Which accounts it may leave through: a number assigned by the dispatcher.
    pub route: u16,
    /// The settings that number belongs to.
    pub routed: u32,
    /// How often it was tried before its time.
    pub probes: u32,
    /// How often the account fell into trouble over this message: others are tried before it.
    pub demoted: u32,
    /// Whether its next attempt follows because the provider has accepted another one: if that fails, it is due to the
    /// message itself.
    pub woken: bool,
    /// Whether the server was found to refuse this message in words that concern an account, while it accepts others.
    pub at_fault: bool,
    /// Recipients, by their index in the envelope, that are not part of its next attempt: they were deferred, while others
    /// follow at once because the provider takes fewer in one transaction.
    pub left_out: Box<[usize]>,
    /// When this run first saw it.
    pub since: Instant,
    /// The age of the system in seconds when it was accepted; `None` when that was before the system was started.
    pub uptime: Option<u64>,
    /// Whether it is on hold.
    pub held: bool,
    /// When it was last released: from then on it is attempted for as long as a new one. In a box, as few have it.
    pub released: Option<Box<Instant>>,
    /// Whether some of its recipients are not tried, since it is not known whether it has arrived: they wait for a release.
    pub doubtful: bool,
    /// Whether the file does not contain the true time of arrival, since the clock was set later.
    pub undated: bool,
    /// Why it may not be tried yet, whatever wakes the others.
    pub rest: Option<Rest>,
    /// How long it has to rest, or had to: not included in the time for which delivery is attempted.
    pub rested: Duration,
    /// What is planned for it; `None` for most messages.
    pub plan: Option<Box<Plan>>,
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
            at_fault: false,
            left_out: Box::default(),
            since: now,
            uptime: None,
            held: false,
            released: None,
            doubtful: false,
            undated: false,
            rest: None,
            rested: Duration::ZERO,
            plan: None,
        }
    }

    /// How long delivery of it has been possible.
    pub fn tried(&self) -> Duration {
        self.age().unwrap_or_else(|| self.since.elapsed()).saturating_sub(self.rested)
    }

    /// Whether it is to be given up, since its delivery has been attempted for longer than `limit`. Never while its age
    /// is not known.
    pub fn is_too_old(&self, limit: Duration) -> bool {
        let tried = self.age().map(|age| age.saturating_sub(self.rested));
        // Nothing was attempted while it was on hold, and who releases it wants it delivered.
        let is_over =
            tried.is_some_and(|tried| tried > limit) && self.released.as_ref().is_none_or(|at| at.elapsed() > limit);
        is_over && !self.held && self.rest.is_none()
    }

    /// Its plan, if it applies now.
    pub(super) fn active_plan(&self) -> Option<&Plan> {
        self.plan.as_deref().filter(|plan| self.rest.is_none() && (!self.held || plan.despite_hold))
    }

    /// Whether nothing of it may be sent before its plan says so; a step that has begun may.
    pub fn waits_for_plan(&self) -> bool {
        self.plan.as_ref().is_some_and(|plan| plan.waits && plan.steps.is_empty())
    }

    /// Whether its deferral may be the provider's trouble. If it is deferred again right after the provider accepted
    /// another one, it is its own: then it is tried at its scheduled times only.
    pub fn may_be_providers(&mut self) -> bool {
        if self.woken {
            self.probes = PROBE_LIMIT;
        }
        self.probes < PROBE_LIMIT
    }

    /// It is released from hold, and tried for all of its recipients again, those in doubt included: what is planned for
    /// these is found out at once.
    pub fn release(&mut self, now: Instant) {
        if self.doubtful {
            let plan = self.plan.get_or_insert_default();
            (plan.moment, plan.waits) = (Some(now), false);
        }
        (self.held, self.doubtful, self.released) = (false, false, Some(Box::new(now)));
        self.left_out = Box::default();
    }

    /// From now on it is tried at its scheduled times only.
    pub fn in_its_own_time(&mut self) {
        self.probes = PROBE_LIMIT;
    }

    /// How old the message is: by the time since the start of the system where that is known, which is never wrong,
    /// otherwise by the wall clock. `None` while that cannot be trusted.
    pub fn age(&self) -> Option<Duration> {
        match self.uptime {
            Some(then) => Some(Duration::from_secs(clock::uptime().saturating_sub(then))),
            None if !clock::is_set() => None,
            // Accepted before the clock was right, in an earlier run of the system: as old as this run knows.
            None => Some(clock::age(self.entry.arrived).map_or_else(|| self.since.elapsed(), Duration::from_secs)),
        }
    }
}

/// Up to this duration a time needs no date.
const NEAR: Duration = Duration::from_secs(20 * 3600);
/// The longest rest: that of a weekly digest, and no clock is more exact than this.
const LONGEST: Duration = Duration::from_secs(7 * 86_400 + 60);

/// The rest of one message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rest {
    /// When it ends.
    pub until: Instant,
    /// Whether it goes into a digest then.
    pub digest: bool,
    /// How often that digest could not be written.
    pub failed: u32,
}

impl Over {
    /// Why a message of `device` waits, which it does for `left` from now on, in one sentence.
    pub fn why(&self, device: &str, left: Duration) -> String {
        let seconds = i64::try_from(left.as_secs()).unwrap_or(i64::MAX);
        let date = date::rfc5322(clock::now().saturating_add(seconds));
        let (day, time) = (date.get(5..11).unwrap_or_default(), date.get(17..22).unwrap_or_default());
        let when = match clock::is_set() {
            false => format!("in {} s", left.as_secs()),
            true if left < NEAR => format!("at {time} UTC"),
            true => format!("on {day} at {time} UTC"),
        };
        let rate = &self.rate;
        match self.digest {
            true => format!("collected for the digest of device '{device}' {when}: it sends more than {rate}"),
            false => format!("rate limited, next attempt {when}: device '{device}' sends more than {rate}"),
        }
    }
}

impl Item {
    /// Makes a message that has just been accepted or recovered rest as long as its marks say. By the time since the
    /// start of the system where that is known: then setting the clock changes nothing. After another start it
    /// waits what is left by the wall clock, and at most the whole time again, if that cannot be trusted.
    #[must_use]
    pub fn resting(mut self, meta: &Meta, state: &State, now: Instant) -> Self {
        let (Some(over), Some(undated)) = (&meta.marks.over, &meta.undated) else { return self };
        self.rested = over.until.saturating_sub(Duration::from_secs(undated.uptime)).min(LONGEST);
        // A recipient has it already, or it was requested: it is sent separately.
        if state.alone || state.attempts > 0 {
            return self;
        }
        let until = match self.uptime {
            // Exactly the same moment for all of a digest.
            Some(_) => clock::moment(over.until).min(now + self.rested),
            None => now + self.rested.saturating_sub(self.age().unwrap_or_else(|| self.since.elapsed())),
        };
        if over.digest || until > now {
            self.rest = Some(Rest { until, digest: over.digest, failed: 0 });
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{BodyForm, Encode, Envelope};
    use crate::queue::{Client, Entry, Marks, Place, Undated};

    fn meta(digest: bool, uptime: u64) -> Meta {
        let over = Over { until: Duration::from_secs(uptime + 900), digest, rate: "1/h".into() };
        Meta {
            envelope: Envelope { from: "a@b.c".into(), to: vec!["d@e.f".into()], smtputf8: false },
            form: BodyForm { eight_bit: false, encode: Encode::Verbatim },
            arrived: clock::now(),
            client: "10.0.0.7".into(),
            notice: false,
            undated: Some(Undated { boot: "x".into(), uptime, dates: Vec::new() }),
            marks: Marks { over: Some(over), ..Marks::default() },
        }
    }

    fn left(meta: &Meta, uptime: Option<u64>, change: impl FnOnce(&mut State)) -> Option<u64> {
        let now = Instant::now();
        let mut state = State::new(&meta.envelope);
        change(&mut state);
        let entry = Entry {
            id: "0123456789".parse().unwrap(),
            client: Client::Own,
            place: Place::Spool,
            arrived: meta.arrived,
            size: 1,
        };
        let item = Item { uptime, ..Item::new(entry, now) }.resting(meta, &state, now);
        assert_eq!(item.rested, Duration::from_secs(900));
        item.rest.map(|rest| rest.until.saturating_duration_since(now).as_secs())
    }

    #[test]
    fn what_is_left_is_known_by_the_time_since_the_start() {
        let up = clock::uptime();
        let near = |left: Option<u64>, wanted: u64| left.is_some_and(|left| left.abs_diff(wanted) <= 2);
        assert!(near(left(&meta(false, up), Some(up), |_| ()), 900));
        // Accepted in another run of the system: by the wall clock.
        assert!(near(left(&meta(true, 7), None, |_| ()), 900));
        let mut old = meta(false, 7);
        old.arrived -= 300;
        assert!(near(left(&old, None, |_| ()), 600));
        // Long over: it may be sent, and its digest is due.
        old.arrived -= 7 * 86_400;
        assert_eq!(left(&old, None, |_| ()), None);
        old.marks.over.as_mut().unwrap().digest = true;
        assert_eq!(left(&old, None, |_| ()), Some(0));
        // A clock that was never set, or runs behind: no longer than it would have had to wait at first.
        old.arrived = 1000;
        assert!(near(left(&old, None, |_| ()), 900));
        old.arrived = clock::now() + 7 * 86_400;
        assert!(near(left(&old, None, |_| ()), 900));
    }

    #[test]
    fn why_it_waits_in_words() {
        let over = |digest| Over { until: Duration::ZERO, digest, rate: "20/h".into() };
        let text = over(true).why("pump_house", Duration::from_secs(60));
        let when = text.strip_prefix("collected for the digest of device 'pump_house' at ").unwrap();
        assert_eq!((when.find(':'), &when[5..]), (Some(2), " UTC: it sends more than 20/h"));
        let text = over(false).why("plc", Duration::from_secs(7 * 86_400));
        assert!(
            text.starts_with("rate limited, next attempt on ")
                && text.ends_with(" UTC: device 'plc' sends more than 20/h")
        );
    }

    #[test]
    fn what_was_tried_or_asked_for_rests_no_more() {
        let up = clock::uptime();
        assert_eq!(left(&meta(true, up), Some(up), |state| state.attempts = 1), None);
        assert_eq!(left(&meta(true, up), Some(up), |state| state.alone = true), None);
    }
}
