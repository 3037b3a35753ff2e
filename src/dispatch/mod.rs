//! Decides what is sent next, and what becomes of what was sent.
//!
//! One task owns the schedule and the state of the account; deliveries and work on files run as tasks of their own and
//! hand back what came of them. So there are no locks and no order of events in which something could be forgotten: a
//! message is either in the schedule, or in the hand of exactly one task.
//!
//! `arrivals` is how messages get to their place, `starts` what is sent next; `lane` is the state of an account, `lanes`
//! which of them takes a message, `routes` which way messages go, `delivery` one attempt,
//! `outcome` and `settle` what becomes of a message after it, `reporter` and `tell` who hears of failures, `housekeeping` what
//! waiting mail needs, `digests` and `compose` mail that is sent in place of others, `admin` what people ask for.

mod admin;
mod arrivals;
mod compose;
mod delivery;
mod digests;
mod housekeeping;
mod lane;
mod lanes;
mod outcome;
mod reporter;
mod routes;
mod settle;
mod starts;
mod tell;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use crate::config::Settings;
use crate::intake::Desk;
use crate::queue::Item;
use crate::queue::{Entry, MessageId, Meta, Replacements, Schedule, Spool, State};
use crate::system::{clock, ordered, task};
use admin::ChangeAll;
use arrivals::Former;
use delivery::{Attempted, Ways};
use digests::Collected;
use lanes::Lanes;
use reporter::Reporter;
use settle::Left;
use tell::Teller;

pub use admin::{AccountHealth, Cause, Change, Changed, From, Health, Order, Page, Standing, Waiting, Which};

/// How often waiting mail is looked through for what needs care.
const CARE: Duration = Duration::from_secs(10);
/// How often the clock is looked at.
const CLOCK: Duration = Duration::from_secs(5);
/// How long deliveries may go on after the order to stop; procd kills after 15 s.
const STOP_TIME: Duration = Duration::from_secs(5);

/// A message with the time when it is tried next: none when it is due, held, or rests.
type Placed = (Item, Option<Instant>);

/// What a task of the dispatcher brings back.
enum Step {
    /// A message was tried.
    Attempted(Box<Attempted>),
    /// What came of it is written down.
    Settled {
        /// Which message.
        id: MessageId,
        /// How often everything had been woken when the attempt began.
        wakings: u32,
        /// Under which settings it was sent, if it was: then its place in the lane is free now.
        generation: Option<u32>,
        /// The message, if something is still to be done for it.
        left: Left,
    },
    /// Digests were written, or carried on with.
    Collected(Collected),
    /// Messages were cared for.
    Cared {
        /// These, each with the time when it is tried next.
        back: Vec<Placed>,
        /// Whether the disk took it.
        done: bool,
    },
    /// It was found out which way messages go now.
    Routed {
        /// These, each with the time when it is tried next.
        back: Vec<Placed>,
        /// Those that have yet to be read, and are still in hand.
        rest: Vec<Placed>,
    },
    /// A piece of an order was carried out.
    Obeyed {
        /// The messages that were in hand for it.
        taken: Vec<MessageId>,
        /// Those of them that are left.
        back: Vec<Placed>,
        /// What is left of the order.
        rest: ChangeAll,
    },
    /// A summary was written, or not: then it is tried again.
    Told,
}

/// Everything between queue and providers.
pub struct Dispatch {
    settings: watch::Receiver<Arc<Settings>>,
    spool: Arc<Spool>,
    desk: Desk,
    ways: Ways,
    queues: Schedule,
    lanes: Lanes,
    reporter: Arc<Mutex<Reporter>>,
    running: JoinSet<Step>,
    /// Messages that a task has in hand.
    in_hand: BTreeMap<MessageId, Entry>,
    /// How often the routes have changed.
    routed: u32,
    /// The lanes behind each route of the settings before these.
    former: Former,
    /// How often everything was woken.
    wakings: u32,
    /// When everything was last woken by something outside.
    woken: Option<Instant>,
    /// When it is woken next, and why: what happened meanwhile is one waking.
    wake_again: Option<(Instant, String)>,
    /// While waiting mail is looked through: behind which message.
    caring: Option<housekeeping::Round>,
    /// Which route is served first next time.
    turn: usize,
    /// Whether digests are being written.
    collecting: bool,
    /// Digests that an earlier run left.
    replacements: Replacements,
    /// Whether messages of an earlier run are still being read.
    recovering: bool,
    watch: clock::Watch,
    /// When the clock was last set, or the program started.
    clock_set: Instant,
}

/// What the dispatcher hears from the rest of the program.
pub struct Inputs {
    /// Messages that have just been accepted.
    pub arrivals: mpsc::UnboundedReceiver<(Entry, Meta)>,
    /// Messages of an earlier run, in pieces, until all have been read.
    pub recovered: mpsc::Receiver<Vec<(Item, Meta, State)>>,
    /// What people and hotplug scripts ask for.
    pub orders: mpsc::Receiver<Order>,
    /// The order to stop.
    pub stop: watch::Receiver<bool>,
}

impl Dispatch {
    /// A dispatcher with an empty schedule.
    pub fn new(settings: watch::Receiver<Arc<Settings>>, spool: Arc<Spool>, desk: Desk) -> Self {
        let current = settings.borrow().clone();
        let (ways, now) = (Ways::new(&current), Instant::now());
        Self {
            settings,
            spool,
            desk,
            queues: Schedule::new(ways.routes.len()),
            ways,
            lanes: Lanes::new(&current),
            reporter: Arc::default(),
            running: JoinSet::new(),
            in_hand: BTreeMap::new(),
            routed: 0,
            former: Former::default(),
            wakings: 0,
            woken: None,
            wake_again: None,
            caring: None,
            turn: 0,
            collecting: false,
            replacements: Replacements::default(),
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
            let more = self.queues.advance(Instant::now());
            self.start_deliveries();
            let wake = if more { Some(Instant::now()) } else { self.next_wake() };
            tokio::select! {
                Some((entry, meta)) = inputs.arrivals.recv() => self.arrived(entry, &meta),
                items = inputs.recovered.recv(), if self.recovering => self.recovered(items),
                // A task that panics ends the process, see main.rs.
                Some(Ok(step)) = self.running.join_next() => self.stepped(step),
                Some(order) = inputs.orders.recv() => self.obey(order),
                Ok(()) = self.settings.changed() => self.new_settings(),
                () = sleep_until(wake) => {
                    self.tell();
                    self.collect();
                    self.wake_merged();
                }
                _ = care.tick() => self.care(),
                _ = clock.tick() => self.look_at_clock(),
                () = ordered(&mut inputs.stop) => break,
            }
        }
        self.wind_up(&mut inputs.arrivals).await;
    }

    fn teller(&self) -> Teller {
        let (desk, settings) = (self.desk.clone(), self.settings.borrow().clone());
        Teller { desk, settings, ways: self.ways.clone(), earlier: false, reporter: Arc::clone(&self.reporter) }
    }

    /// Messages that somebody waits for, wherever they are. What is done but for the summary that tells of it is not.
    fn waiting(&self) -> usize {
        self.queues.len() + self.in_hand.len()
    }

    /// Begins work beside the sending.
    fn start(&mut self, work: impl Future<Output = Step> + Send + 'static) {
        let work: task::Boxed<Step> = Box::pin(work);
        self.running.spawn(work);
    }

    fn take_in_hand(&mut self, entry: &Entry) {
        self.in_hand.insert(entry.id, entry.clone());
    }

    fn stepped(&mut self, step: Step) {
        match step {
            Step::Attempted(attempted) => self.attempted(*attempted),
            Step::Settled { id, wakings, generation, left } => {
                let lane = generation.map(|generation| self.lanes.of(generation));
                // What another account, or this one with other settings, makes of the message is open.
                let outdated = matches!(lane, Some(None));
                if let Some(Some(lane)) = lane {
                    lane.settled();
                }
                self.in_hand.remove(&id);
                let Some((mut item, wait)) = left else { return };
                if let Some(at) = wait.map(|wait| Instant::now() + wait) {
                    item.turn = Some(at);
                }
                // A message that was in hand when everything was woken is awake as well.
                let at = item.turn.filter(|_| wait.is_some() && wakings == self.wakings && !outdated);
                self.put_back(vec![(item, at)]);
            }
            Step::Collected(Collected { taken, back }) => {
                self.collecting = false;
                for id in &taken {
                    self.in_hand.remove(id);
                }
                self.put_back(back);
            }
            Step::Cared { back, done } => {
                self.put_back(back);
                self.care_on(done);
            }
            Step::Obeyed { taken, back, rest } => {
                for id in &taken {
                    self.in_hand.remove(id);
                }
                self.put_back(back);
                // Not before: whoever asked may at once ask for the next thing.
                self.change_some(rest);
            }
            Step::Routed { back, rest } => {
                self.put_back(back);
                if !rest.is_empty() {
                    self.find_routes(rest);
                }
            }
            Step::Told => {}
        }
    }

    /// The order to stop: lets running deliveries end, then moves what waits to safety.
    async fn wind_up(mut self, arrivals: &mut mpsc::UnboundedReceiver<(Entry, Meta)>) {
        // What nobody has in hand need not wait for deliveries that perhaps hang.
        let first = task::spawn(self.bring_to_safety());
        let deadline = tokio::time::Instant::now() + STOP_TIME;
        while let Ok(Some(Ok(step))) = tokio::time::timeout_at(deadline, self.running.join_next()).await {
            self.stepped(step);
        }
        // What is still running is cut off before its end; its file lies where it was.
        self.running.shutdown().await;
        while let Ok((entry, meta)) = arrivals.try_recv() {
            self.arrived(entry, &meta);
        }
        let _ = first.await;
        self.bring_to_safety().await;
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
