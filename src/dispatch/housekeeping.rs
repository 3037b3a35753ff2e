// SPDX-License-Identifier: Apache-2.0
//! What queued mail needs in addition to delivery: it is moved to safe storage, gets its true time, expires, and its
//! failures are reported. Mail beyond the rate of its device waits until the interval ends and is collected into a
//! digest then.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Dispatch, Finished};
use crate::config::Durability;
use crate::digest::{self, Collected, Composer};
use crate::queue::{Entry, Item, MessageId, Note, Place, Placed, Sorted, Spool, blocking};
use crate::report::{Event, counted};
use crate::system::{clock, heap, task};

/// How long `deferred` mail stays in RAM before it is moved to `safe_spool`: with the interval of the check and
/// the time of the move, less than the promised minute.
const MOVE_AFTER: Duration = Duration::from_secs(45);
/// How long mail may stay in RAM with a time of arrival that turned out wrong: most of it leaves before.
const REDATE_AFTER: Duration = Duration::from_secs(60);
/// Messages that are processed at a time: they are not sent meanwhile.
const AT_ONCE: usize = 64;
/// Messages that are checked in one step.
const LOOK_AT: usize = 512;
/// Nothing expires in the first minute, when the clock may not be set yet, nor in the first minute after that.
const EXPIRE_AFTER: Duration = Duration::from_secs(60);

/// How late a digest may be written: the times of messages that came through a system start are less exact.
const GRACE: Duration = Duration::from_secs(2);

/// How far queued mail has been checked.
#[derive(Default)]
pub(super) struct Round {
    /// The message after which it continues.
    behind: Option<MessageId>,
    /// Whether nothing follows.
    is_last: bool,
    /// Messages that were given up on the way. Each needs a notification: more of them follow in the next round.
    expired: usize,
    /// Whether the disk has refused something: it would refuse the next as well. Old messages are given up all the same.
    refused: bool,
}

impl Dispatch {
    /// Checks queued mail, unless that is being done already.
    pub(super) fn care(&mut self) {
        self.stirred = false;
        self.look_at_clock();
        heap::give_back();
        if self.spool.owes() {
            let spool = Arc::clone(&self.spool);
            self.start(async move {
                let _ = task::blocking(move || spool.pay()).await;
                Finished::Told
            });
        }
        if self.caring.is_none() {
            self.caring = Some(Round::default());
            self.care_for_some();
        }
    }

    /// If the clock was set since the last check, everything gets its true time and is retried.
    pub(super) fn look_at_clock(&mut self) {
        if !self.watch.jumped() {
            return;
        }
        if clock::is_set() {
            Event::ClockSet { now: clock::now() }.log();
            self.queues.redate();
            self.clock_set = Instant::now();
        }
        self.wake();
    }

    /// Continues to check queued mail.
    pub(super) fn care_on(&mut self, done: bool) {
        match self.caring.as_mut().filter(|round| !round.is_last) {
            Some(round) => {
                round.refused |= !done;
                self.care_for_some();
            }
            None => self.caring = None,
        }
    }

    /// Checks some messages: moves to safe storage what has waited a minute, records true times, expires old ones.
    fn care_for_some(&mut self) {
        let settings = self.settings.borrow().clone();
        let moves = settings.relay.durability == Durability::Deferred && self.spool.can_move();
        let limit = settings.relay.retry_for;
        let settled = self.clock_set.elapsed() >= REDATE_AFTER;
        let may_expire = self.clock_set.elapsed() >= EXPIRE_AFTER.min(limit) && clock::is_set();
        let needs_move = |item: &Item| moves && item.entry.place == Place::Spool && item.since.elapsed() >= MOVE_AFTER;
        let is_too_old = |item: &Item| may_expire && item.is_too_old(limit);
        let Round { mut behind, mut expired, refused, .. } = self.caring.take().unwrap_or_default();
        let (mut seen, mut old, mut others) = (0, Vec::new(), Vec::new());
        for (item, _) in self.queues.behind(behind).take(LOOK_AT) {
            seen += 1;
            behind = Some(item.entry.id);
            if expired < AT_ONCE && is_too_old(item) {
                expired += 1;
                old.push(item.entry.id);
            } else if !refused && (needs_move(item) || item.undated && settled) {
                others.push(item.entry.id);
            }
            if others.len() == AT_ONCE {
                break;
            }
        }
        let is_last = seen < LOOK_AT && others.len() < AT_ONCE;
        self.caring = Some(Round { behind, is_last, expired, refused });
        for id in old {
            self.expire(id);
        }
        let taken = self.take_out(&others);
        let spool = Arc::clone(&self.spool);
        self.start(async move {
            if taken.is_empty() {
                // Lets other tasks use the thread in between.
                tokio::task::yield_now().await;
                return Finished::Cared { back: taken, done: true };
            }
            let work = move || Ok::<_, std::io::Error>(put_in_order(&spool, taken, moves));
            let (back, trouble) = blocking(work).await.unwrap_or_default();
            Finished::Cared { back, done: !trouble }
        });
    }

    /// Gives up a message.
    fn expire(&mut self, id: MessageId) {
        let Some((item, _)) = self.take_out([&id]).pop() else { return };
        let pause = self.lanes.paused(self.ways.routes.accounts(item.route), Instant::now());
        let pause = pause.map(|(_, pause)| pause.reason);
        let settle = self.settler(String::new(), super::CARE);
        let wakings = self.wakings;
        self.start(async move {
            Finished::Settled { id, wakings, generation: None, left: settle.expire(item, pause).await }
        });
    }

    /// Writes the summaries that are due.
    pub(super) fn tell(&mut self) {
        let teller = self.teller();
        loop {
            let Some(batch) = teller.reporter().take_due(Instant::now()) else { return };
            let settle = self.settler(String::new(), Duration::ZERO);
            self.start(async move {
                settle.summarize(batch).await;
                Finished::Told
            });
        }
    }

    /// When the next digest is to be written.
    pub(super) fn next_digest(&self) -> Option<Instant> {
        if self.is_collecting() { None } else { self.queues.next_digest().map(|at| at + GRACE) }
    }

    /// Whether no digest may be started: some of its messages may be missing.
    fn is_collecting(&self) -> bool {
        self.collecting || self.caring.is_some() || self.recovering
    }

    /// Starts the digests that are due.
    pub(super) fn collect(&mut self) {
        let now = Instant::now();
        if self.next_digest().is_none_or(|at| at > now) {
            return;
        }
        let items = self.queues.take_digests(now);
        self.collecting = true;
        items.iter().for_each(|item| self.take_in_hand(&item.entry));
        let settings = self.settings.borrow().clone();
        let composer = Composer {
            spool: Arc::clone(&self.spool),
            desk: self.desk.clone(),
            hostname: settings.relay.hostname(),
            policies: Arc::clone(&self.ways.policies),
            addresses: self.ways.routes.addresses(&settings),
        };
        self.start(async move { Finished::Collected(digest::collect(composer, items).await) });
    }

    /// All messages of an earlier run have been loaded: digests that were interrupted are continued.
    pub(super) fn carry_on_digests(&mut self) {
        let found = std::mem::take(&mut self.replacements);
        let sorted = found.sort(|id| self.queues.get(*id).is_some());
        if sorted == Sorted::default() {
            return;
        }
        let Sorted { further, last, replaced, alone, torn } = sorted;
        let found = [further, last, replaced, alone, torn]
            .map(|ids| self.take_out(&ids).into_iter().map(|(item, _)| item).collect::<Vec<Item>>());
        self.collecting = true;
        let spool = Arc::clone(&self.spool);
        self.start(async move {
            let taken = found.iter().flatten().map(|item| item.entry.id).collect();
            let work = move || Ok::<_, std::io::Error>(digest::carry_on(&spool, found));
            let back = blocking(work).await.unwrap_or_default();
            Finished::Collected(Collected { taken, back })
        });
    }

    /// The order to stop: all queued mail is moved to safe storage, including messages in use: their tasks find them at
    /// their new place.
    pub(super) fn bring_to_safety(&self) -> impl Future<Output = ()> + Send + 'static {
        let deferred = self.settings.borrow().relay.durability == Durability::Deferred;
        let spool = (deferred && self.spool.can_move()).then(|| Arc::clone(&self.spool));
        let undated = self.queues.behind(None).filter(|(item, _)| item.undated);
        let undated: Vec<Entry> = undated.map(|(item, _)| item.entry.clone()).collect();
        async move {
            let Some(spool) = spool else { return };
            let moved = blocking(move || {
                spool.pay();
                for entry in &undated {
                    write_time(&spool, entry);
                }
                spool.move_all_to_safe()
            });
            if let Err(error) = moved.await {
                let reason = format!("cannot move the queue to safe_spool: {error}");
                Event::SpoolTrouble { id: String::new(), reason }.log();
            }
        }
    }
}

fn write_time(spool: &Spool, entry: &Entry) -> bool {
    match spool.record(entry, &Note::Arrived(entry.arrived)) {
        Ok(()) => true,
        Err(error) => {
            let reason =
                format!("its time of arrival, and perhaps that of others, cannot be recorded on the disk yet: {error}");
            let trouble = Event::SpoolTrouble { id: entry.id.to_string(), reason };
            trouble.log_common(&format!("time of arrival: {error}"));
            false
        }
    }
}

/// Returns the messages, and whether some could not be processed.
fn put_in_order(spool: &Spool, mut taken: Vec<Placed>, moves: bool) -> (Vec<Placed>, bool) {
    let mut trouble = false;
    for (item, _) in taken.iter_mut().filter(|(item, _)| item.undated) {
        // True times are worth recording only where they outlive the system run.
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
    let mut failed = 0u64;
    for ((mut item, at), (entry, error)) in to_move.into_iter().zip(moved) {
        if let Some(error) = error {
            failed = failed.saturating_add(1);
            first.get_or_insert((entry.id, error));
        }
        item.entry = entry;
        back.push((item, at));
    }
    if let Some((id, error)) = first {
        let (messages, them) = (counted(failed, "message"), if failed == 1 { "it" } else { "them" });
        let reason = format!("{messages} cannot be moved to safe_spool, so a power cut would lose {them}: {error}");
        Event::SpoolTrouble { id: id.to_string(), reason }.log_common(&format!("cannot be moved: {error}"));
        trouble = true;
    }
    (back, trouble)
}
