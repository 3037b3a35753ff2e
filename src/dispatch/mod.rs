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
use crate::queue::schedule::{Item, backoff};
use crate::queue::{Entry, Schedule, Spool, blocking};
use crate::report::Event;
use crate::system::clock;
use crate::system::ordered;
use delivery::{Attempted, deliver};
use lane::Lane;
use settle::Settle;

/// How long `deferred` mail stays in RAM before it is moved to `safe_spool`.
const MOVE_AFTER: Duration = Duration::from_secs(60);
/// How often waiting mail is looked through for what is too old or has to be moved.
const SWEEP: Duration = Duration::from_secs(15);
/// How long deliveries may go on after the order to stop; procd kills after 15 s.
const STOP_TIME: Duration = Duration::from_secs(5);

/// What a task of the dispatcher brings back.
enum Step {
    /// A message was tried.
    Attempted(Box<Attempted>),
    /// What came of it is written down. In `left` the message, if somebody still waits for it, with the time that it
    /// has to wait; none: it waits for the account.
    Settled {
        /// How often everything had been woken when the attempt ended.
        wakings: u32,
        /// Under which settings it was sent, if it was: then its place in the lane is free now.
        generation: Option<u32>,
        left: Option<(Item, Option<Duration>)>,
    },
}

/// Everything between queue and providers.
pub struct Dispatch {
    settings: watch::Receiver<Arc<Settings>>,
    spool: Arc<Spool>,
    desk: Desk,
    schedule: Schedule,
    lane: Lane,
    running: JoinSet<Step>,
    /// How often everything was woken.
    wakings: u32,
}

impl Dispatch {
    /// A dispatcher for what was recovered at start.
    pub fn new(settings: watch::Receiver<Arc<Settings>>, spool: Arc<Spool>, desk: Desk, recovered: Vec<Entry>) -> Self {
        let mut schedule = Schedule::default();
        let now = Instant::now();
        recovered.into_iter().for_each(|entry| schedule.add(Item::new(entry, now)));
        let lane = Lane::new(&settings.borrow());
        Self { settings, spool, desk, schedule, lane, running: JoinSet::new(), wakings: 0 }
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
                // A task that panics ends the process, see main.rs.
                Some(Ok(step)) = self.running.join_next() => self.stepped(step),
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
        self.wakings = self.wakings.wrapping_add(1);
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
            let spool = Arc::clone(&self.spool);
            self.running.spawn(async move { Step::Attempted(Box::new(deliver(job, spool, item).await)) });
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

    fn stepped(&mut self, step: Step) {
        if let Step::Settled { generation: Some(generation), .. } = &step {
            self.lane.settled(*generation);
        }
        match step {
            Step::Attempted(attempted) => self.attempted(*attempted),
            Step::Settled { left: None, .. } => {}
            // A message that was being written down when everything was woken is awake as well.
            Step::Settled { left: Some((item, Some(wait))), wakings, .. } if wakings == self.wakings => {
                self.schedule.add_later(item, Instant::now() + wait);
            }
            Step::Settled { left: Some((item, _)), .. } => self.schedule.add(item),
        }
    }

    /// Takes the connection back for the next message, and has what came of this one written down beside it.
    fn attempted(&mut self, attempted: Attempted) {
        let Attempted { item, outcome, known, connection, lane } = attempted;
        let (now, generation) = (Instant::now(), Some(lane.generation));
        if self.lane.returned(lane, connection, now) {
            match &outcome.trouble {
                Some(trouble) => self.lane.pause(trouble, now),
                None if outcome.tls.is_some() => self.lane.works(),
                None => {}
            }
        }
        let attempts = known.as_ref().map_or(item.attempts, |known| known.state.attempts).saturating_add(1);
        let settle = Settle {
            spool: Arc::clone(&self.spool),
            desk: self.desk.clone(),
            settings: self.settings.borrow().clone(),
            account: self.lane.name(),
            wait: backoff(attempts, jitter()),
        };
        let wakings = self.wakings;
        let settled = settle.settle(item, attempts, outcome, known);
        self.running.spawn(async move { Step::Settled { wakings, generation, left: settled.await } });
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
                let settle = Settle {
                    spool: Arc::clone(&self.spool),
                    desk: self.desk.clone(),
                    settings: Arc::clone(&settings),
                    account: self.lane.name(),
                    wait: SWEEP,
                };
                let wakings = self.wakings;
                self.running.spawn(async move {
                    Step::Settled { wakings, generation: None, left: settle.expire(item, last).await }
                });
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
        while let Ok(Some(Ok(step))) = tokio::time::timeout_at(deadline, self.running.join_next()).await {
            self.stepped(step);
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
