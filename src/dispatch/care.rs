//! What waiting mail needs beside being sent: it is moved to safety, gets its true time, grows too old, and its failures
//! are told.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::settle::Settle;
use super::{Dispatch, Step};
use crate::config::Durability;
use crate::queue::journal::Note;
use crate::queue::{Entry, Place, Spool, blocking};
use crate::queue::{Item, Schedule};
use crate::report::Event;
use crate::system::clock;

/// How long `deferred` mail stays in RAM before it is moved to `safe_spool`: with the time until it is looked through, and
/// that of the move, less than the minute that is promised.
const MOVE_AFTER: Duration = Duration::from_secs(45);
/// How long mail may lie in RAM with a time of arrival that turned out wrong: most of it leaves before.
const REDATE_AFTER: Duration = Duration::from_secs(60);
/// Messages that are cared for at a time: those in hand are not sent meanwhile.
const AT_ONCE: usize = 64;
/// Nothing expires in the first minute, when the clock may be on its way to be set, nor in the first minute after that.
const EXPIRE_AFTER: Duration = Duration::from_secs(60);

impl Dispatch {
    /// Looks through waiting mail.
    pub(super) fn care(&mut self) {
        self.look_at_clock();
        self.expire();
        if !self.caring {
            self.put_in_order();
        }
    }

    /// If the clock was set since the last look, everything gets its true time and is tried.
    pub(super) fn look_at_clock(&mut self) {
        if !self.watch.jumped() {
            return;
        }
        if clock::is_set() {
            Event::ClockSet { now: clock::now() }.log();
            self.queues.each(Schedule::redate);
            self.clock_set = Instant::now();
        }
        self.wake();
    }

    /// Moves to safety what has waited a minute, and writes down true times; some messages at a time.
    fn put_in_order(&mut self) {
        let deferred = self.settings.borrow().relay.durability == Durability::Deferred;
        let moves = deferred && self.spool.can_move();
        let settled = self.clock_set.elapsed() >= REDATE_AFTER;
        let needs_move = |item: &Item| moves && item.entry.place == Place::Spool && item.since.elapsed() >= MOVE_AFTER;
        let needs_time = |item: &Item| item.undated && settled;
        let taken = self.queues.take_where(AT_ONCE, |item| needs_move(item) || needs_time(item));
        if taken.is_empty() {
            return;
        }
        self.caring = true;
        taken.iter().for_each(|(item, _)| self.take_in_hand(&item.entry));
        let spool = Arc::clone(&self.spool);
        let more = taken.len() == AT_ONCE;
        self.start(async move {
            let work = move || Ok::<_, std::io::Error>(put_in_order(&spool, taken, moves));
            let (back, trouble) = blocking(work).await.unwrap_or_default();
            Step::Cared { back, more: more && !trouble }
        });
    }

    /// Gives up what is too old.
    fn expire(&mut self) {
        let limit = self.settings.borrow().relay.retry_for;
        if self.clock_set.elapsed() < EXPIRE_AFTER.min(limit) || !clock::is_set() {
            return;
        }
        let expired = self.queues.take_where(AT_ONCE, |item| {
            let tried = item.age().map(|age| age.saturating_sub(item.rested));
            !item.held && item.rest.is_none() && tried.is_some_and(|tried| tried > limit)
        });
        for (item, _) in expired {
            let pause = self.lanes.paused(self.ways.routes.accounts(item.route), Instant::now());
            let pause = pause.map(|(_, pause)| pause.reason);
            self.take_in_hand(&item.entry);
            let settle = Settle {
                spool: Arc::clone(&self.spool),
                routes: Arc::clone(&self.ways.routes),
                teller: self.teller(),
                account: String::new(),
                wait: super::CARE,
            };
            let (wakings, id) = (self.wakings, item.entry.id);
            self.start(async move {
                Step::Settled { id, wakings, generation: None, left: settle.expire(item, pause).await }
            });
        }
    }

    /// Writes the summaries whose time has come.
    pub(super) fn tell(&mut self) {
        let teller = self.teller();
        loop {
            let Some(batch) = teller.reporter().take_due(Instant::now()) else { return };
            let settle = Settle {
                spool: Arc::clone(&self.spool),
                routes: Arc::clone(&self.ways.routes),
                teller: teller.clone(),
                account: String::new(),
                wait: Duration::ZERO,
            };
            self.start(async move {
                settle.summarize(batch).await;
                Step::Told
            });
        }
    }

    /// The order to stop: everything that waits goes to safety, what others have in hand included: whoever has a message
    /// in hand finds it where it is then.
    pub(super) fn bring_to_safety(&self) -> impl Future<Output = ()> + Send + 'static {
        let deferred = self.settings.borrow().relay.durability == Durability::Deferred;
        let spool = (deferred && self.spool.can_move()).then(|| Arc::clone(&self.spool));
        let undated: Vec<Entry> =
            self.queues.items().filter(|(item, _)| item.undated).map(|(item, _)| item.entry.clone()).collect();
        async move {
            let Some(spool) = spool else { return };
            let moved = blocking(move || {
                for entry in &undated {
                    write_time(&spool, entry);
                }
                spool.move_all_to_safe()
            });
            if let Err(error) = moved.await {
                let reason = format!("can't move the queue to safe_spool: {error}");
                Event::SpoolTrouble { id: String::new(), reason }.log();
            }
        }
    }
}

fn write_time(spool: &Spool, entry: &Entry) -> bool {
    match spool.record(entry, &Note::Arrived(entry.arrived)) {
        Ok(()) => true,
        Err(error) => {
            Event::SpoolTrouble { id: entry.id.to_string(), reason: error.to_string() }.log();
            false
        }
    }
}

type Waiting = (Item, Option<Instant>);

/// Returns the messages, and whether some could not be put in order.
fn put_in_order(spool: &Spool, mut taken: Vec<Waiting>, moves: bool) -> (Vec<Waiting>, bool) {
    let mut trouble = false;
    for (item, _) in taken.iter_mut().filter(|(item, _)| item.undated) {
        // True times are worth writing only where they outlast the run of the system.
        item.undated = !write_time(spool, &item.entry);
        trouble |= item.undated;
    }
    if !moves {
        return (taken, trouble);
    }
    let (to_move, mut back): (Vec<_>, Vec<_>) =
        taken.into_iter().partition(|(item, _)| item.entry.place == Place::Spool);
    let moved = spool.move_to_safe(to_move.iter().map(|(item, _)| item.entry.clone()).collect());
    let mut first = None;
    let mut failed = 0;
    for ((mut item, at), (entry, error)) in to_move.into_iter().zip(moved) {
        if let Some(error) = error {
            failed += 1;
            first.get_or_insert((entry.id, error));
        }
        item.entry = entry;
        back.push((item, at));
    }
    if let Some((id, error)) = first {
        let reason = format!("{failed} messages can't be moved to safe_spool, so a power cut would lose them: {error}");
        Event::SpoolTrouble { id: id.to_string(), reason }.log();
        trouble = true;
    }
    (back, trouble)
}
