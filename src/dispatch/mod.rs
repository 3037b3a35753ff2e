//! Decides what is sent next, and what becomes of what was sent.
//!
//! One task owns the schedule and the state of the account; deliveries and work on files run as tasks of their own and
//! hand back what came of them. So there are no locks and no order of events in which something could be forgotten: a
//! message is either in the schedule, or in the hand of exactly one task.
//!
//! `lane` is the state of an account, `lanes` which of them takes a message, `routes` and `queues` which way messages go
//! and where they wait, `delivery` one attempt, `outcome` and `settle` what becomes of a message after it, `reporter` and
//! `tell` who hears of failures, `care` what waiting mail needs, `digests` and `compose` mail that is sent in place of others, `orders` what people ask for.

mod care;
mod compose;
mod delivery;
mod digests;
mod lane;
mod lanes;
mod orders;
mod outcome;
mod queues;
mod reporter;
mod routes;
mod settle;
mod tell;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;

use crate::config::Settings;
use crate::intake::Desk;
use crate::queue::schedule::Item;
use crate::queue::{Entry, MessageId, Meta, Replacements, Spool, State, blocking};
use crate::report::Event;
use crate::system::{clock, ordered, task};
use delivery::{Attempted, Ways, deliver};
use digests::Collected;
use lane::Lane;
use lanes::Lanes;
use queues::Queues;
use reporter::Reporter;
use routes::RouteId;
use settle::Left;
use tell::Teller;

pub use orders::{AccountHealth, Change, Changed, Health, Order, Page, Standing, Waiting, Which};

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
    /// Digests were written, or carried on with.
    Collected(Collected),
    /// Messages were cared for.
    Cared {
        /// These, each with the time when it is tried next.
        back: Vec<(Item, Option<Instant>)>,
        /// Whether others need the same.
        more: bool,
    },
    /// These messages are no longer in hand.
    Back(Vec<(Item, Option<Instant>)>),
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
    ways: Ways,
    queues: Queues,
    lanes: Lanes,
    reporter: Arc<Mutex<Reporter>>,
    running: JoinSet<Step>,
    /// Messages that a task has in hand.
    in_hand: BTreeMap<MessageId, Entry>,
    /// How often the settings have changed, and with them the routes.
    routed: u32,
    /// How often everything was woken.
    wakings: u32,
    /// Whether a batch of waiting mail is being put in order.
    caring: bool,
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
            queues: Queues::new(ways.routes.len()),
            ways,
            lanes: Lanes::new(&current),
            reporter: Arc::default(),
            running: JoinSet::new(),
            in_hand: BTreeMap::new(),
            routed: 0,
            wakings: 0,
            caring: false,
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
            self.start_deliveries();
            let wake = self.next_wake();
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
                }
                _ = care.tick() => self.care(),
                _ = clock.tick() => self.look_at_clock(),
                () = ordered(&mut inputs.stop) => break,
            }
        }
        self.wind_up(&mut inputs.arrivals).await;
    }

    fn arrived(&mut self, entry: Entry, meta: &Meta) {
        let now = Instant::now();
        let route = self.ways.routes.next(meta, &State::new(&meta.envelope));
        let item = Item { route, routed: self.routed, uptime: Some(clock::uptime()), ..Item::new(entry, now) };
        let item = item.resting(meta, &State::new(&meta.envelope), now);
        self.tell_what_it_waits_for(&item, meta, now);
        self.queues.add_fresh(item, now);
    }

    /// Says in the log what keeps a new message from leaving at once.
    fn tell_what_it_waits_for(&self, item: &Item, meta: &Meta, now: Instant) {
        let (account, reason, next) = match (item.rest, &meta.marks.over) {
            (Some(rest), Some(over)) => {
                let left = rest.until.saturating_duration_since(now);
                (String::new(), over.why(meta.marks.device.as_deref().unwrap_or_default(), left), left)
            }
            _ => match self.lanes.paused(self.ways.routes.accounts(item.route), now) {
                Some((account, pause)) => (account, pause.reason, pause.next),
                None => return,
            },
        };
        let (id, to) = (item.entry.id.to_string(), String::new());
        Event::Deferred { id, to, account, tls: None, reason, next }.log();
    }

    /// Messages of an earlier run; `None` after the last of them.
    fn recovered(&mut self, messages: Option<Vec<(Item, Meta, State)>>) {
        let Some(messages) = messages else {
            self.recovering = false;
            self.carry_on_digests();
            return;
        };
        for (item, meta, state) in messages {
            let route = self.ways.routes.next(&meta, &state);
            self.replacements.found(item.entry.id, &meta);
            self.queues.add(Item { route, routed: self.routed, ..item });
        }
    }

    fn new_settings(&mut self) {
        let settings = self.settings.borrow_and_update().clone();
        self.ways = Ways::new(&settings);
        self.routed = self.routed.wrapping_add(1);
        self.lanes = Lanes::new(&settings);
        let waiting = self.queues.take_where(usize::MAX, |_| true);
        self.queues = Queues::new(self.ways.routes.len());
        self.wakings = self.wakings.wrapping_add(1);
        self.put_back(waiting.into_iter().map(|(item, _)| (item, None)).collect());
    }

    /// Reads messages once more, to see which way they go by the settings of now.
    fn find_routes(&mut self, items: Vec<Item>) {
        items.iter().for_each(|item| self.take_in_hand(&item.entry));
        let (spool, routes, routed) = (Arc::clone(&self.spool), Arc::clone(&self.ways.routes), self.routed);
        self.start(async move {
            let found = blocking(move || {
                let find = |item: Item| {
                    // What can't be read now is looked at when it is its turn.
                    let route = spool.open_message(&item.entry).map_or(0, |read| routes.next(&read.meta, &read.state));
                    (Item { route, routed, ..item }, None)
                };
                Ok::<_, std::io::Error>(items.into_iter().map(find).collect())
            });
            Step::Back(found.await.unwrap_or_default())
        });
    }

    fn teller(&self) -> Teller {
        let (desk, settings) = (self.desk.clone(), self.settings.borrow().clone());
        Teller { desk, settings, reporter: Arc::clone(&self.reporter) }
    }

    /// Messages in the queue, wherever they are.
    fn waiting(&self) -> usize {
        self.queues.len() + self.in_hand.len() + self.teller().reporter().parked()
    }

    /// Begins work beside the sending.
    fn start(&mut self, work: impl Future<Output = Step> + Send + 'static) {
        let work: task::Boxed<Step> = Box::pin(work);
        self.running.spawn(work);
    }

    fn take_in_hand(&mut self, entry: &Entry) {
        self.in_hand.insert(entry.id, entry.clone());
    }

    /// Starts as many deliveries as the accounts may have at once. A paused account gets none, an account that has just
    /// come back gets one, to see.
    fn start_deliveries(&mut self) {
        let now = Instant::now();
        let routes = Arc::clone(&self.ways.routes);
        for route in 0..routes.len() {
            let route = RouteId::try_from(route).unwrap_or(0);
            while let Some(place) = self.lanes.choose(routes.accounts(route), now) {
                if !self.start_delivery(route, place, now) {
                    break;
                }
            }
        }
        self.lanes.all().for_each(|lane| lane.close_idle(now));
    }

    /// Gives the next message of a route to the account at `place`. False when there is none.
    fn start_delivery(&mut self, route: RouteId, place: usize, now: Instant) -> bool {
        if !self.queues.of(route).has_due(now) && !self.may_probe(route, place, now) {
            return false;
        }
        // Before anything is judged or dated by it.
        self.look_at_clock();
        let probe = self.may_probe(route, place, now);
        let (queue, Some(lane)) = (self.queues.of(route), self.lanes.get(place)) else { return false };
        if lane.waits_for_clock(now) {
            // Another account may not need it.
            return true;
        }
        let due = match self.recovering {
            // The order of age is known when all have been read; what has just come in need not wait for that.
            true => queue.take_fresh(now),
            false => queue.take_due(now),
        };
        let Some(item) = due.or_else(|| probe.then(|| queue.take_probe()).flatten()) else { return false };
        let job = lane.job();
        self.take_in_hand(&item.entry);
        let (spool, ways) = (Arc::clone(&self.spool), self.ways.clone());
        self.start(async move { Step::Attempted(Box::new(deliver(job, spool, ways, item).await)) });
        true
    }

    fn may_probe(&mut self, route: RouteId, place: usize, now: Instant) -> bool {
        let time = self.lanes.at(place).and_then(Lane::next_probe);
        time.is_some_and(|at| at <= now) && self.queues.of(route).has_probe()
    }

    /// When something happens by itself: a message becomes due, a pause ends, a connection has been idle too long, or a
    /// summary is to be written.
    fn next_wake(&self) -> Option<Instant> {
        let now = Instant::now();
        let mut times = vec![self.lanes.idle_until(), self.teller().reporter().next(), self.next_digest()];
        for (route, queue) in self.queues.all().filter(|(_, queue)| !queue.is_empty()) {
            let order = self.ways.routes.accounts(route);
            times.extend(order.iter().filter_map(|place| self.lanes.at(*place)).map(|lane| lane.paused_until(now)));
            if let Some(lane) = self.lanes.choose(order, now).and_then(|place| self.lanes.at(place)) {
                times.push(queue.next_time());
                times.push(lane.next_probe().filter(|_| queue.has_probe()));
            }
        }
        times.into_iter().flatten().min()
    }

    fn stepped(&mut self, step: Step) {
        match step {
            Step::Attempted(attempted) => self.attempted(*attempted),
            Step::Settled { id, wakings, generation, left } => {
                if let Some(lane) = generation.and_then(|generation| self.lanes.of(generation)) {
                    lane.settled();
                }
                self.in_hand.remove(&id);
                match left {
                    None => {}
                    // A message that was being written down when everything was woken is awake as well.
                    Some((item, Some(wait))) if wakings == self.wakings => {
                        self.put_back(vec![(item, Some(Instant::now() + wait))]);
                    }
                    Some((item, _)) => self.put_back(vec![(item, None)]),
                }
            }
            Step::Collected(Collected { taken, back }) => {
                self.collecting = false;
                for id in &taken {
                    self.in_hand.remove(id);
                }
                self.put_back(back);
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
            Step::Back(back) => self.put_back(back),
            Step::Told => {}
        }
    }

    fn put_back(&mut self, back: Vec<(Item, Option<Instant>)>) {
        let mut astray = Vec::new();
        for (item, at) in back {
            self.in_hand.remove(&item.entry.id);
            if self.ways.routes.is_single() {
                self.queues.put_back(Item { route: 0, routed: self.routed, ..item }, at);
            } else if item.routed == self.routed {
                self.queues.put_back(item, at);
            } else {
                astray.push(item);
            }
        }
        if !astray.is_empty() {
            self.find_routes(astray);
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
