//! Decides what is sent next, and what becomes of what was sent.
//!
//! One task owns the schedule and the state of the account; deliveries run as tasks of their own and hand back what came
//! of them. So there are no locks and no order of events in which something could be forgotten.

mod delivery;
mod lane;
mod settle;

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use crate::config::{Durability, Settings};
use crate::intake::Desk;
use crate::queue::record::{Attempt, Progress};
use crate::queue::schedule::{Item, backoff};
use crate::queue::{Entry, Schedule, Spool, blocking};
use crate::report::Event;
use crate::system::clock;
use crate::system::ordered;
use delivery::{Finished, deliver};
use lane::Lane;

/// How long `deferred` mail stays in RAM before it is moved to `safe_spool`.
const MOVE_AFTER: Duration = Duration::from_secs(60);
/// How often waiting mail is looked through for what is too old or has to be moved.
const SWEEP: Duration = Duration::from_secs(15);
/// How long deliveries may go on after the order to stop; procd kills after 15 s.
const STOP_TIME: Duration = Duration::from_secs(5);

/// Everything between queue and providers.
pub struct Dispatch {
    settings: watch::Receiver<Arc<Settings>>,
    spool: Arc<Spool>,
    desk: Desk,
    schedule: Schedule,
    lane: Lane,
    running: JoinSet<Finished>,
}

impl Dispatch {
    /// A dispatcher for what was recovered at start.
    pub fn new(settings: watch::Receiver<Arc<Settings>>, spool: Arc<Spool>, desk: Desk, recovered: Vec<Entry>) -> Self {
        let mut schedule = Schedule::default();
        let now = Instant::now();
        recovered.into_iter().for_each(|entry| schedule.add(Item::new(entry, now)));
        let lane = Lane::new(&settings.borrow());
        Self { settings, spool, desk, schedule, lane, running: JoinSet::new() }
    }

    /// Sends until `stop` says otherwise, then puts everything into safety. Returns how many messages wait.
    pub async fn run(mut self, mut arrivals: mpsc::UnboundedReceiver<Entry>, mut stop: watch::Receiver<bool>) -> usize {
        let mut sweep = tokio::time::interval(SWEEP);
        sweep.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            self.start_deliveries();
            let wake = self.next_wake();
            tokio::select! {
                Some(entry) = arrivals.recv() => self.arrived(entry),
                Some(finished) = self.running.join_next() => {
                    if let Ok(finished) = finished {
                        self.finished(finished).await;
                    }
                }
                Ok(()) = self.settings.changed() => self.new_settings(),
                () = sleep_until(wake) => {}
                _ = sweep.tick() => self.sweep().await,
                () = ordered(&mut stop) => break,
            }
        }
        self.wind_up(&mut arrivals).await
    }

    fn arrived(&mut self, entry: Entry) {
        if let Some(reason) = self.lane.paused(Instant::now()) {
            Event::Deferred {
                id: entry.id.clone(),
                to: String::new(),
                account: self.lane.name(),
                tls: None,
                reason,
                next: self.lane.wait(Instant::now()),
            }
            .log();
        }
        self.schedule.add(Item::new(entry, Instant::now()));
    }

    fn new_settings(&mut self) {
        self.lane = Lane::new(&self.settings.borrow_and_update());
        self.schedule.wake_all();
    }

    /// Starts as many deliveries as the account may have at once. A paused account gets none, an account that has just
    /// come back gets one, to see.
    fn start_deliveries(&mut self) {
        let now = Instant::now();
        while self.lane.has_room(now) {
            let Some(item) = self.schedule.take_due(now) else { break };
            let Some(job) = self.lane.job() else {
                self.schedule.add(item);
                break;
            };
            self.running.spawn(deliver(job, Arc::clone(&self.spool), item));
        }
        self.lane.close_idle(now);
    }

    /// When something happens by itself: a message becomes due, the pause ends, or a connection has been idle too long.
    fn next_wake(&self) -> Option<Instant> {
        let now = Instant::now();
        let mut times = vec![self.lane.idle_until()];
        if self.lane.paused(now).is_some() && !self.schedule.is_empty() {
            times.push(Some(now + self.lane.wait(now)));
        } else if self.lane.has_room(now) {
            times.push(self.schedule.next_time());
        }
        times.into_iter().flatten().min()
    }

    async fn finished(&mut self, finished: Finished) {
        let Finished { mut item, outcome, meta, attempts_before, connection, lane, header } = finished;
        let now = Instant::now();
        let current = self.lane.returned(lane, connection, now);
        if let Some(reason) = &outcome.damaged {
            let (spool, entry, reason) = (Arc::clone(&self.spool), item.entry, reason.clone());
            let _ = tokio::task::spawn_blocking(move || spool.set_aside(&entry, &reason)).await;
            return;
        }
        if let Some(trouble) = &outcome.trouble
            && current
        {
            self.lane.pause(trouble, now);
        } else if current && outcome.tls.is_some() {
            self.lane.works();
        }
        let Some(meta) = meta else {
            // The message was not touched: no connection, or its file could not be read now.
            if outcome.trouble.is_some() {
                self.schedule.add(item);
            } else {
                item.attempts = item.attempts.saturating_add(1);
                let at = now + backoff(item.attempts, jitter());
                self.schedule.add_later(item, at);
            }
            return;
        };
        let settled = settle::Settle {
            spool: &self.spool,
            desk: &self.desk,
            settings: &self.settings.borrow().clone(),
            account: self.lane.name(),
            wait: backoff(attempts_before.saturating_add(1), jitter()),
        };
        if let Some(mut item) = settled.apply(item, &outcome, &meta, &header).await {
            item.attempts = attempts_before.saturating_add(1);
            if outcome.trouble.is_some() {
                self.schedule.add(item);
            } else {
                self.schedule.add_later(item, now + settled.wait);
            }
        }
    }

    /// Gives up what is too old, and moves to safety what has waited a minute.
    async fn sweep(&mut self) {
        let settings = self.settings.borrow().clone();
        let mut expired = Vec::new();
        let mut to_move = Vec::new();
        for item in self.schedule.items() {
            let limit = settings.relay.retry_for;
            // Without a clock that can be trusted nothing is ever too old; mail that came before the clock was set is
            // as old as this run knows it.
            let age = clock::age(item.entry.arrived).map_or_else(
                || if clock::is_set() { item.since.elapsed() } else { Duration::ZERO },
                Duration::from_secs,
            );
            if age > limit {
                expired.push(item.entry.id.clone());
            } else if settings.relay.durability == Durability::Deferred
                && item.since.elapsed() >= MOVE_AFTER
                && item.entry.place == crate::queue::Place::Spool
            {
                to_move.push(item.entry.id.clone());
            }
        }
        for id in expired {
            if let Some(item) = self.schedule.take(&id) {
                let last = self.lane.paused(Instant::now());
                if let Some(item) =
                    settle::expire(&self.spool, &self.desk, &settings, &self.lane.name(), item, last).await
                {
                    self.schedule.add_later(item, Instant::now() + SWEEP);
                }
            }
        }
        if self.spool.can_move() {
            for id in to_move {
                self.move_to_safe(&id).await;
            }
        }
    }

    /// Moves one waiting message to `safe_spool`; if that fails it stays where it is and is tried again.
    async fn move_to_safe(&mut self, id: &str) {
        let Some(item) = self.schedule.find_mut(id) else { return };
        let (spool, entry) = (Arc::clone(&self.spool), item.entry.clone());
        match blocking(move || spool.move_to_safe(&entry)).await {
            Ok(entry) => {
                if let Some(item) = self.schedule.find_mut(id) {
                    item.entry = entry;
                }
            }
            Err(error) => Event::SpoolTrouble {
                id: id.to_string(),
                reason: format!("can't be moved to safe_spool, so a power cut would lose it: {error}"),
            }
            .log(),
        }
    }

    /// The order to stop: lets running deliveries end, then moves what waits to safety.
    async fn wind_up(mut self, arrivals: &mut mpsc::UnboundedReceiver<Entry>) -> usize {
        let deadline = tokio::time::Instant::now() + STOP_TIME;
        while let Ok(Some(finished)) = tokio::time::timeout_at(deadline, self.running.join_next()).await {
            if let Ok(finished) = finished {
                self.finished(finished).await;
            }
        }
        // What is still running is cut off before its end; its file lies where it was.
        self.running.shutdown().await;
        while let Ok(entry) = arrivals.try_recv() {
            self.schedule.add(Item::new(entry, Instant::now()));
        }
        let settings = self.settings.borrow().clone();
        if settings.relay.durability == Durability::Deferred && self.spool.can_move() {
            let spool = Arc::clone(&self.spool);
            let moved = blocking(move || spool.move_all_to_safe());
            if let Err(error) = moved.await {
                Event::SpoolTrouble {
                    id: String::new(),
                    reason: format!("can't move the queue to safe_spool: {error}"),
                }
                .log();
            }
        }
        self.schedule.len()
    }
}

/// A random byte that keeps messages which failed together from coming back together.
fn jitter() -> u8 {
    let mut byte = [0; 1];
    // Without randomness the jitter is missing, nothing else.
    let _ = getrandom::fill(&mut byte);
    let [byte] = byte;
    byte
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}

/// A journal line for results of now.
fn attempt(results: Vec<(usize, Progress, String)>) -> Attempt {
    Attempt { at: clock::now(), results }
}
