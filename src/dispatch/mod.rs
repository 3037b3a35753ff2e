//! Decides what is sent next, and what becomes of what was sent.
//!
//! One task owns the schedule and the state of the account; deliveries and work on files run as tasks of their own and
//! hand back what came of them. So there are no locks and no order of events in which something could be forgotten: a
//! message is either in the schedule, or in the hand of exactly one task.
//!
//! [`lane`](self) is the state of an account, `delivery` one attempt, `settle` what becomes of a message after it,
//! `reporter` and `tell` who hears of failures, `care` what waiting mail needs, `orders` what people ask for.

mod care;
mod delivery;
mod lane;
mod orders;
mod reporter;
mod settle;
mod tell;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;

use crate::config::Settings;
use crate::intake::Desk;
use crate::outbound::verdict::TroubleKind;
use crate::outbound::{Outcome, Trouble, Verdict};
use crate::queue::journal::Progress;
use crate::queue::schedule::{Item, backoff};
use crate::queue::{Entry, MessageId, Schedule, Spool};
use crate::report::Event;
use crate::system::{clock, ordered, task};
use delivery::{Attempted, Known, deliver};
use lane::Lane;
use reporter::Reporter;
use settle::{Left, Settle};
use tell::Teller;

pub use orders::{Change, Changed, Health, Order, Page, Standing, Waiting, Which};

/// How often waiting mail is looked through for what needs care.
const CARE: Duration = Duration::from_secs(10);
/// How often the clock is looked at.
const CLOCK: Duration = Duration::from_secs(5);
/// How long deliveries may go on after the order to stop; procd kills after 15 s.
const STOP_TIME: Duration = Duration::from_secs(5);

/// What a task of the dispatcher brings back.
enum Step {
    /// A message was tried.
    Attempted(Box<Attempted>),
    /// What came of it is written down.
    Settled {
        /// Which message.
        id: MessageId,
        /// How often everything had been woken when the attempt ended.
        wakings: u32,
        /// Under which settings it was sent, if it was: then its place in the lane is free now.
        generation: Option<u32>,
        /// The message, if something is still to be done for it.
        left: Left,
    },
    /// Messages were cared for.
    Cared {
        /// These, each with the time when it is tried next.
        back: Vec<(Item, Option<Instant>)>,
        /// Whether others need the same.
        more: bool,
    },
    /// An order was carried out.
    Obeyed {
        /// The messages that were in hand for it.
        taken: Vec<MessageId>,
        /// Those of them that are left.
        back: Vec<(Item, Option<Instant>)>,
        /// What has become of all that were meant.
        changed: Changed,
        /// Who waits for it.
        answer: oneshot::Sender<Changed>,
    },
    /// A summary was written, or not: then it is tried again.
    Told,
}

/// Everything between queue and providers.
pub struct Dispatch {
    settings: watch::Receiver<Arc<Settings>>,
    spool: Arc<Spool>,
    desk: Desk,
    schedule: Schedule,
    lane: Lane,
    reporter: Arc<Mutex<Reporter>>,
    running: JoinSet<Step>,
    /// Messages that a task has in hand.
    in_hand: BTreeMap<MessageId, Entry>,
    /// How often everything was woken.
    wakings: u32,
    /// Whether a batch of waiting mail is being put in order.
    caring: bool,
    /// Whether messages of an earlier run are still being read.
    recovering: bool,
    watch: clock::Watch,
    /// When the clock was last set, or the program started.
    clock_set: Instant,
}

/// What the dispatcher hears from the rest of the program.
pub struct Inputs {
    /// Messages that have just been accepted.
    pub arrivals: mpsc::UnboundedReceiver<Entry>,
    /// Messages of an earlier run, in pieces, until all have been read.
    pub recovered: mpsc::Receiver<Vec<Item>>,
    /// What people and hotplug scripts ask for.
    pub orders: mpsc::Receiver<Order>,
    /// The order to stop.
    pub stop: watch::Receiver<bool>,
}

impl Dispatch {
    /// A dispatcher with an empty schedule.
    pub fn new(settings: watch::Receiver<Arc<Settings>>, spool: Arc<Spool>, desk: Desk) -> Self {
        let (lane, now) = (Lane::new(&settings.borrow()), Instant::now());
        Self {
            settings,
            spool,
            desk,
            schedule: Schedule::default(),
            lane,
            reporter: Arc::default(),
            running: JoinSet::new(),
            in_hand: BTreeMap::new(),
            wakings: 0,
            caring: false,
            recovering: true,
            watch: clock::Watch::new(),
            clock_set: now,
        }
    }

    /// Sends until `stop` says otherwise, then puts everything into safety.
    pub async fn run(mut self, mut inputs: Inputs) {
        let every = |period| {
            let mut interval = tokio::time::interval(period);
            interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            interval
        };
        let (mut care, mut clock) = (every(CARE), every(CLOCK));
        loop {
            self.start_deliveries();
            let wake = self.next_wake();
            tokio::select! {
                Some(entry) = inputs.arrivals.recv() => self.arrived(entry),
                items = inputs.recovered.recv(), if self.recovering => self.recovered(items),
                // A task that panics ends the process, see main.rs.
                Some(Ok(step)) = self.running.join_next() => self.stepped(step),
                Some(order) = inputs.orders.recv() => self.obey(order),
                Ok(()) = self.settings.changed() => self.new_settings(),
                () = sleep_until(wake) => self.tell(),
                _ = care.tick() => self.care(),
                _ = clock.tick() => self.look_at_clock(),
                () = ordered(&mut inputs.stop) => break,
            }
        }
        self.wind_up(&mut inputs.arrivals).await;
    }

    fn arrived(&mut self, entry: Entry) {
        let now = Instant::now();
        if let Some(pause) = self.lane.paused(now) {
            Event::Deferred {
                id: entry.id.to_string(),
                to: String::new(),
                account: self.lane.name(),
                tls: None,
                reason: pause.reason,
                next: pause.next,
            }
            .log();
        }
        let item = Item { uptime: Some(clock::uptime()), ..Item::new(entry, now) };
        self.schedule.add_fresh(item, now);
    }

    /// Messages of an earlier run; `None` after the last of them.
    fn recovered(&mut self, items: Option<Vec<Item>>) {
        match items {
            Some(items) => items.into_iter().for_each(|item| self.schedule.add(item)),
            None => self.recovering = false,
        }
    }

    fn new_settings(&mut self) {
        self.lane = Lane::new(&self.settings.borrow_and_update());
        self.schedule.wake_all();
        self.wakings = self.wakings.wrapping_add(1);
    }

    fn teller(&self) -> Teller {
        let (desk, settings) = (self.desk.clone(), self.settings.borrow().clone());
        Teller { desk, settings, reporter: Arc::clone(&self.reporter) }
    }

    /// Messages in the queue, wherever they are.
    fn waiting(&self) -> usize {
        self.schedule.len() + self.in_hand.len() + self.teller().reporter().parked()
    }

    /// Begins work beside the sending.
    fn start(&mut self, work: impl Future<Output = Step> + Send + 'static) {
        let work: task::Boxed<Step> = Box::pin(work);
        self.running.spawn(work);
    }

    fn take_in_hand(&mut self, entry: &Entry) {
        self.in_hand.insert(entry.id, entry.clone());
    }

    /// Starts as many deliveries as the account may have at once. A paused account gets none, an account that has just
    /// come back gets one, to see.
    fn start_deliveries(&mut self) {
        let now = Instant::now();
        while self.lane.has_room(now) {
            if !self.schedule.has_due(now) && !self.may_probe(now) {
                break;
            }
            // Before anything is judged or dated by it.
            self.look_at_clock();
            if self.lane.waits_for_clock(now) {
                break;
            }
            let due = match self.recovering {
                // The order of age is known when all have been read; what has just come in need not wait for that.
                true => self.schedule.take_fresh(now),
                false => self.schedule.take_due(now),
            };
            let probe = self.may_probe(now);
            let Some(item) = due.or_else(|| probe.then(|| self.schedule.take_probe()).flatten()) else { break };
            let Some(job) = self.lane.job() else {
                self.schedule.add(item);
                break;
            };
            self.take_in_hand(&item.entry);
            let spool = Arc::clone(&self.spool);
            self.start(async move { Step::Attempted(Box::new(deliver(job, spool, item).await)) });
        }
        self.lane.close_idle(now);
    }

    fn may_probe(&self, now: Instant) -> bool {
        self.lane.next_probe().is_some_and(|at| at <= now) && self.schedule.has_probe()
    }

    /// When something happens by itself: a message becomes due, the pause ends, a connection has been idle too long, or
    /// a summary is to be written.
    fn next_wake(&self) -> Option<Instant> {
        let now = Instant::now();
        let mut times = vec![self.lane.idle_until(), self.teller().reporter().next()];
        if let Some(until) = self.lane.paused_until(now) {
            times.extend((!self.schedule.is_empty()).then_some(Some(until)));
        } else if self.lane.has_room(now) {
            times.push(self.schedule.next_time());
            times.push(self.lane.next_probe().filter(|_| self.schedule.has_probe()));
        }
        times.into_iter().flatten().min()
    }

    fn stepped(&mut self, step: Step) {
        match step {
            Step::Attempted(attempted) => self.attempted(*attempted),
            Step::Settled { id, wakings, generation, left } => {
                if let Some(generation) = generation {
                    self.lane.settled(generation);
                }
                self.in_hand.remove(&id);
                match left {
                    None => {}
                    // A message that was being written down when everything was woken is awake as well.
                    Some((item, Some(wait))) if wakings == self.wakings => {
                        self.schedule.add_later(item, Instant::now() + wait);
                    }
                    Some((item, _)) => self.schedule.add(item),
                }
            }
            Step::Cared { back, more } => {
                self.caring = false;
                self.put_back(back);
                if more {
                    self.care();
                }
            }
            Step::Obeyed { taken, back, changed, answer } => {
                for id in &taken {
                    self.in_hand.remove(id);
                }
                self.put_back(back);
                // Not before: whoever asked may at once ask for the next thing.
                let _ = answer.send(changed);
            }
            Step::Told => {}
        }
    }

    fn put_back(&mut self, back: Vec<(Item, Option<Instant>)>) {
        for (item, at) in back {
            self.in_hand.remove(&item.entry.id);
            self.schedule.put_back(item, at);
        }
    }

    /// Takes the connection back for the next message, and has what came of this one written down beside it.
    fn attempted(&mut self, attempted: Attempted) {
        let Attempted { mut item, mut outcome, known, connection, lane } = attempted;
        let (now, generation) = (Instant::now(), Some(lane.generation));
        if let Some(known) = &known {
            blame(&mut item, &mut outcome, known);
        }
        if self.lane.returned(lane, connection, now) {
            match &outcome.trouble {
                Some(trouble) => self.lane.pause(trouble, now),
                None if outcome.tls.is_some() => self.judge_provider(&mut item, &outcome, now),
                None => {}
            }
        }
        let attempts = known.as_ref().map_or(item.attempts, |known| known.state.attempts).saturating_add(1);
        let settings = self.settings.borrow().clone();
        let wait = match outcome.goes_on && has_taken(&outcome) {
            true => Duration::ZERO,
            false => backoff(attempts, jitter(), settings.relay.retry_min, settings.relay.retry_max),
        };
        let (spool, account) = (Arc::clone(&self.spool), self.lane.name());
        let settle = Settle { spool, teller: self.teller(), account, wait };
        let (wakings, id) = (self.wakings, item.entry.id);
        let settled = settle.settle(item, attempts, outcome, known);
        self.start(async move { Step::Settled { id, wakings, generation, left: settled.await } });
    }

    /// What a transaction that came to its end tells about the provider. One that puts off whatever it is given may have
    /// a trouble of its own that it does not name: then one message is tried from time to time, and all when it is taken.
    fn judge_provider(&mut self, item: &mut Item, outcome: &Outcome, now: Instant) {
        self.lane.works();
        let taken = has_taken(outcome);
        let put_off = outcome.results.iter().any(|(_, verdict)| matches!(verdict, Verdict::Deferred(_)));
        if taken {
            self.schedule.forgive();
            if self.lane.taken() {
                self.schedule.wake_put_off();
            }
        } else if put_off && item.may_be_providers() {
            self.lane.put_off(now);
        }
    }

    /// The order to stop: lets running deliveries end, then moves what waits to safety.
    async fn wind_up(mut self, arrivals: &mut mpsc::UnboundedReceiver<Entry>) {
        let deadline = tokio::time::Instant::now() + STOP_TIME;
        while let Ok(Some(Ok(step))) = tokio::time::timeout_at(deadline, self.running.join_next()).await {
            self.stepped(step);
        }
        // What is still running is cut off before its end; its file lies where it was.
        self.running.shutdown().await;
        while let Ok(entry) = arrivals.try_recv() {
            self.arrived(entry);
        }
        self.bring_to_safety().await;
    }
}

/// Whether the provider took the message for somebody.
fn has_taken(outcome: &Outcome) -> bool {
    outcome.results.iter().any(|(_, verdict)| matches!(verdict, Verdict::Delivered(_)))
}

/// Trouble of the account that a message drew: the next look is with another one. If that was taken and this one draws
/// it again, it is the message's own: it waits by itself, and the others go on.
fn blame(item: &mut Item, outcome: &mut Outcome, known: &Known) {
    let concerns_mail = |t: &Trouble| matches!(t.kind, TroubleKind::Busy | TroubleKind::Quota | TroubleKind::Sender);
    if outcome.trouble.is_none() {
        return;
    }
    if !item.woken {
        item.demoted = item.demoted.saturating_add(1);
        return;
    }
    if let Some(trouble) = outcome.trouble.take_if(|trouble| concerns_mail(trouble)) {
        let waiting = known.state.recipients.iter().enumerate().filter(|(_, r)| r.progress == Progress::Waiting);
        for (index, _) in waiting {
            if !outcome.results.iter().any(|(known, _)| *known == index) {
                outcome.results.push((index, Verdict::Deferred(trouble.reason.clone())));
            }
        }
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
