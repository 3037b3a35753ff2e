// SPDX-License-Identifier: Apache-2.0
//! Decides what is sent next, and handles the results.
//!
//! One task owns the schedule and the state of the accounts; deliveries and file operations run as separate tasks and
//! return their results. So locks are not needed, and whatever the order of events, nothing is lost: a message is either
//! in the schedule or owned by exactly one task. This file is the loop: how messages enter the schedule (new ones, those
//! of an earlier run, those returned by a task, and all of them when the settings have changed) and what starts next.
//!
//! `account` is the state of the accounts and selects one for each message, `routes` selects the accounts of messages,
//! `delivery` is one attempt, `settle` handles the result, `notifier` picks who is notified of failures, `housekeeping`
//! maintains queued mail and decides when it is collected into digests, `silence` watches devices that are expected to
//! send, `admin` handles requests of administrators.

mod account;
mod admin;
mod delivery;
mod escalation;
mod housekeeping;
mod notifier;
mod routes;
mod settle;
mod silence;

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

pub use account::AccountHealth;
use account::{Ahead, Lane, Lanes, Look, nothing_new, quit};
use admin::ChangeAll;
pub use admin::{Cause, Change, Changed, From, Health, Order, Page, Planned, Standing, Waiting, Which};
use delivery::{Attempted, Ways, connect_ahead, deliver};
pub use escalation::WAITS_FOR_MAIL;
use escalation::outlook;
use notifier::{Reporter, Teller};
use routes::{RouteId, Routes};
use settle::Left;
use silence::Silence;
pub use silence::{Expected, Moment};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use crate::config::Settings;
use crate::digest::Collected;
use crate::intake::Desk;
use crate::policy::Alarms;
use crate::queue::{
    ById, Entry, Item, MessageId, Meta, Placed, Plan, Replacements, Reserve, Schedule, Spool, State, backoff, blocking,
};
use crate::report::Event;
use crate::system::{clock, ordered, task};

/// How often queued mail is checked.
const CARE: Duration = Duration::from_secs(10);
/// How often all is checked while nothing waits and nothing happens.
const REST: Duration = Duration::from_secs(60);
/// How often the clock is checked while mail waits. Before mail is sent, it is checked anyway.
const CLOCK: Duration = Duration::from_secs(5);
/// How long deliveries may continue after the order to stop; procd kills the process after 15 s.
const STOP_TIME: Duration = Duration::from_secs(5);

/// What a task of the dispatcher returns.
enum Finished {
    /// A message was tried.
    Attempted(Box<Attempted>),
    /// A connection was opened, or could not be, for mail that a device is about to send.
    Connected {
        /// The route of that mail.
        route: RouteId,
        /// The result.
        ahead: Box<Ahead>,
    },
    /// The result was recorded.
    Settled {
        /// The message.
        id: MessageId,
        /// How often everything had been woken when the attempt began.
        wakings: u32,
        /// The settings it was sent with, if it was sent: then its slot in the lane is free now.
        generation: Option<u32>,
        /// The message, if it is not finished.
        left: Left,
    },
    /// What was planned for a message was done, or a step of its escalation was tried.
    Planned {
        /// The message.
        id: MessageId,
        /// How often everything had been woken when it began.
        wakings: u32,
        /// The settings of the account that tried it, if one did.
        generation: Option<u32>,
        /// The message, if it is not finished.
        left: Option<Placed>,
    },
    /// Digests were written or continued.
    Collected(Collected),
    /// Messages were processed by housekeeping.
    Cared {
        /// These, each with the time of its next attempt.
        back: Vec<Placed>,
        /// Whether the disk accepted it.
        done: bool,
    },
    /// The current routes of messages were determined.
    Routed {
        /// These, each with the time of its next attempt.
        back: Vec<Placed>,
        /// Those that have yet to be read and are still in use.
        rest: Vec<Placed>,
    },
    /// Part of an order was carried out.
    Obeyed {
        /// The messages that were in use for it.
        taken: Vec<MessageId>,
        /// Those of them that are left.
        back: Vec<Placed>,
        /// The rest of the order.
        rest: ChangeAll,
    },
    /// A summary was written, or failed and will be retried.
    Told,
    /// A mail about silent devices was queued, or refused.
    SilencePosted(silence::tell::Posted),
    /// What outlives the run about silent devices was stored, or not.
    SilenceStored(silence::tell::Stored),
}

/// Everything between the queue and the providers.
pub struct Dispatch {
    settings: watch::Receiver<Arc<Settings>>,
    spool: Arc<Spool>,
    desk: Desk,
    ways: Ways,
    queues: Schedule,
    lanes: Lanes,
    reporter: Arc<Mutex<Reporter>>,
    running: JoinSet<Finished>,
    /// Messages that a task is working on.
    in_hand: ById<Entry>,
    /// How often the routes have changed.
    routed: u32,
    /// The lanes of each route of the previous settings.
    former: Former,
    /// How often everything was woken.
    wakings: u32,
    /// When everything was last woken by an outside event.
    woken: Option<Instant>,
    /// When it is woken next, and why: everything that happened meanwhile causes one waking.
    wake_again: Option<(Instant, String)>,
    /// Whether mail went, or was announced, since the last check; what has come waits or has gone.
    stirred: bool,
    /// While queued mail is checked: after which message.
    caring: Option<housekeeping::Round>,
    /// The route that is served first next time.
    turn: usize,
    /// Messages whose plan is being followed.
    planning: usize,
    /// Whether a step comes before the other messages of its route next time.
    step_turn: bool,
    /// Whether digests are being written.
    collecting: bool,
    /// Digests that an earlier run left.
    replacements: Replacements,
    /// Whether messages of an earlier run are still being loaded.
    recovering: bool,
    /// Devices that are expected to send.
    silence: Silence,
    /// What is to be reported about them.
    about_silence: silence::tell::Pending,
    /// Where it is stored what outlives the run about them.
    silence_file: PathBuf,
    /// Whether it was reported that this cannot be written.
    silence_troubled: bool,
    watch: clock::Watch,
    /// When the clock was last set, or the program started.
    clock_set: Instant,
}

/// What the dispatcher receives from the rest of the program.
pub struct Inputs {
    /// Messages that have just been accepted.
    pub arrivals: mpsc::UnboundedReceiver<Box<(Entry, Meta)>>,
    /// Mail that devices have begun to send, as far as it is known then.
    pub expected: mpsc::Receiver<Box<Meta>>,
    /// Messages of an earlier run, in batches, until all have been read.
    pub recovered: mpsc::Receiver<Vec<(Item, Meta, State)>>,
    /// Requests of administrators and hotplug scripts.
    pub orders: mpsc::Receiver<Order>,
    /// The order to stop.
    pub stop: watch::Receiver<bool>,
}

impl Dispatch {
    /// A dispatcher with an empty schedule.
    pub fn new(settings: watch::Receiver<Arc<Settings>>, spool: Arc<Spool>, desk: Desk) -> Self {
        let current = settings.borrow().clone();
        let (ways, now) = (Ways::new(&current), Instant::now());
        desk.set_alarms(Alarms::new(&current));
        let silence_file = silence::file::path(&current.relay);
        Self {
            settings,
            spool,
            desk,
            queues: Schedule::new(ways.routes.len()),
            ways,
            lanes: Lanes::new(&current),
            reporter: Arc::new(Mutex::new(Reporter::new())),
            running: JoinSet::new(),
            in_hand: ById::new(),
            routed: 0,
            former: Former::default(),
            wakings: 0,
            woken: None,
            wake_again: None,
            stirred: true,
            caring: None,
            turn: 0,
            planning: 0,
            step_turn: false,
            collecting: false,
            replacements: Replacements::default(),
            recovering: true,
            silence: Silence::new(&current.devices, silence::file::read(&silence_file), now),
            about_silence: silence::tell::Pending::default(),
            silence_file,
            silence_troubled: false,
            watch: clock::Watch::new(),
            clock_set: now,
        }
    }

    /// Sends until `stop` ends it, then moves everything to safe storage.
    pub async fn run(mut self, mut inputs: Inputs) {
        let every = |period| {
            let mut interval = tokio::time::interval(period);
            interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            interval
        };
        let (mut care, mut clock, mut rest) = (every(CARE), every(CLOCK), Instant::now());
        loop {
            let is_quiet = !self.stirred && self.waiting() == 0 && !self.spool.owes();
            let more = self.queues.advance(Instant::now());
            self.follow_plans();
            self.start_deliveries();
            let wake = if more { Some(Instant::now()) } else { self.next_wake() };
            tokio::select! {
                Some(mail) = inputs.arrivals.recv() => {
                    // First that it was begun: otherwise its connection would be opened twice.
                    while let Ok(begun) = inputs.expected.try_recv() {
                        self.expect(&begun);
                    }
                    self.arrived(mail.0, &mail.1);
                }
                Some(meta) = inputs.expected.recv() => self.expect(&meta),
                items = inputs.recovered.recv(), if self.recovering => self.recovered(items),
                // A task that panics ends the process, see main.rs.
                Some(Ok(step)) = self.running.join_next() => self.stepped(step),
                Some(order) = inputs.orders.recv() => self.obey(order),
                Ok(()) = self.settings.changed() => self.new_settings(),
                () = task::sleep_until(wake) => {
                    self.tell();
                    self.collect();
                    self.wake_merged();
                    self.look_for_silence();
                }
                _ = care.tick(), if !is_quiet => self.care(),
                _ = clock.tick(), if !is_quiet => self.look_at_clock(),
                () = task::sleep_until(Some(rest)), if is_quiet => {
                    rest = task::regular(REST);
                    self.care();
                }
                () = ordered(&mut inputs.stop) => break,
            }
        }
        self.wind_up(&mut inputs.arrivals).await;
    }

    fn teller(&self) -> Teller {
        let (desk, settings) = (self.desk.clone(), self.settings.borrow().clone());
        Teller { desk, settings, ways: self.ways.clone(), earlier: false, reporter: Arc::clone(&self.reporter) }
    }

    /// Unfinished messages, wherever they are, without those that only wait for the summary that reports them.
    fn waiting(&self) -> usize {
        self.queues.len() + self.in_hand.len()
    }

    /// Starts background work.
    fn start(&mut self, work: impl Future<Output = Finished> + Send + 'static) {
        let work: task::Boxed<Finished> = Box::pin(work);
        self.running.spawn(work);
    }

    fn take_in_hand(&mut self, entry: &Entry) {
        self.in_hand.insert(entry.id, Box::new(entry.clone()));
    }

    /// Takes messages out of the schedule for a task.
    fn take_out<'a>(&mut self, ids: impl IntoIterator<Item = &'a MessageId>) -> Vec<Placed> {
        let taken: Vec<Placed> = ids.into_iter().filter_map(|id| self.queues.take(*id)).collect();
        taken.iter().for_each(|(item, _)| self.take_in_hand(&item.entry));
        taken
    }

    fn stepped(&mut self, step: Finished) {
        self.stirred |= !matches!(step, Finished::Cared { .. } | Finished::Told | Finished::SilenceStored(_));
        match step {
            Finished::Attempted(attempted) => self.attempted(*attempted),
            Finished::Connected { route, ahead } => self.connected(route, *ahead),
            Finished::Settled { id, wakings, generation, left } => {
                let lane = generation.map(|generation| self.lanes.of(generation));
                // Another account, or this one with other settings, may well handle the message.
                let outdated = matches!(lane, Some(None));
                if let Some(Some(lane)) = lane {
                    lane.settled(id, Instant::now());
                }
                self.in_hand.remove(&id);
                let Some((mut item, wait)) = left else { return };
                if let Some(at) = wait.map(|wait| Instant::now() + wait) {
                    item.turn = Some(at);
                }
                // A message that was in use when everything was woken is awake as well.
                let at = item.turn.filter(|_| wait.is_some() && wakings == self.wakings && !outdated);
                self.put_back(vec![(item, at)]);
            }
            Finished::Planned { id, wakings, generation, left } => {
                let lane = generation.and_then(|generation| self.lanes.of(generation));
                if let Some(lane) = lane {
                    lane.settled(id, Instant::now());
                }
                self.in_hand.remove(&id);
                self.planned(generation, left, wakings != self.wakings);
            }
            Finished::Collected(Collected { taken, back }) => {
                self.collecting = false;
                taken.iter().for_each(|id| _ = self.in_hand.remove(id));
                self.put_back(back);
            }
            Finished::Cared { back, done } => {
                self.put_back(back);
                self.care_on(done);
            }
            Finished::Obeyed { taken, back, rest } => {
                taken.iter().for_each(|id| _ = self.in_hand.remove(id));
                self.put_back(back);
                // Not before: the requester may at once ask for the next thing.
                self.change_some(rest);
            }
            Finished::Routed { back, rest } => {
                self.put_back(back);
                if !rest.is_empty() {
                    self.find_routes(rest);
                }
            }
            Finished::Told => {}
            Finished::SilencePosted(posted) => self.silence_posted(posted),
            Finished::SilenceStored(stored) => self.silence_stored(stored),
        }
    }

    /// The order to stop: lets running deliveries end, then moves queued mail to safe storage.
    async fn wind_up(mut self, arrivals: &mut mpsc::UnboundedReceiver<Box<(Entry, Meta)>>) {
        self.post_about_silence(true);
        // What no task is working on need not wait for deliveries that may hang.
        let first = task::spawn(self.bring_to_safety());
        let deadline = tokio::time::Instant::now() + STOP_TIME;
        while let Ok(Some(Ok(step))) = tokio::time::timeout_at(deadline, self.running.join_next()).await {
            self.stepped(step);
        }
        // What is still running is aborted; its file stays where it was.
        self.running.shutdown().await;
        while let Ok(mail) = arrivals.try_recv() {
            self.arrived(mail.0, &mail.1);
        }
        let _ = first.await;
        self.bring_to_safety().await;
        self.store_silence().await;
    }
}

/// A random byte that keeps messages which failed together from being retried together.
fn jitter() -> u8 {
    let mut byte = [0; 1];
    // Without randomness only the jitter is missing.
    let _ = getrandom::fill(&mut byte);
    let [byte] = byte;
    byte
}

impl Dispatch {
    /// Starts as many deliveries as the accounts may have at once. A paused account gets none, an account whose pause
    /// has just ended gets one, as a test.
    fn start_deliveries(&mut self) {
        let now = Instant::now();
        let routes = Arc::clone(&self.ways.routes);
        // Routes that share an account alternate, as clients do within a route.
        let mut idle = 0;
        while idle < routes.len() {
            let route = RouteId::try_from(self.turn % routes.len()).unwrap_or(0);
            let place = self.lanes.choose(routes.accounts(route), self.queues.due(route), now);
            match place.is_some_and(|place| self.start_delivery(route, place, now)) {
                true => idle = 0,
                false => idle += 1,
            }
            self.turn = self.turn.wrapping_add(1) % routes.len();
        }
        self.lanes.all().for_each(|lane| lane.close_idle(now));
    }

    /// Gives the next message of a route to the account at `place`. False when there is none.
    fn start_delivery(&mut self, route: RouteId, place: usize, now: Instant) -> bool {
        let has_step = self.queues.has_step(route, now);
        if !has_step && !self.queues.has_due(route, now) && !self.may_probe(route, place, now) {
            return false;
        }
        // Before the clock is used to judge or date anything.
        self.look_at_clock();
        let probe = self.may_probe(route, place, now);
        let wakings = self.wakings;
        let Some(lane) = self.lanes.get(place) else { return false };
        if lane.waits_for_clock(now) || lane.has_just_failed(now) {
            // Another account may not need it.
            return true;
        }
        // Steps and other messages of a route take turns.
        self.step_turn = !self.step_turn;
        let step_first = has_step && (self.step_turn || !self.queues.has_due(route, now));
        if step_first && self.start_step(route, place, now) {
            return true;
        }
        let Some(lane) = self.lanes.get(place) else { return false };
        let recovering = self.recovering;
        let mut next = |reserve: &Reserve| match recovering {
            // The order of age is known when all have been read; what has just come in need not wait for this.
            true => self.queues.take_fresh(route, now, reserve),
            false => self.queues.take_due(route, now, reserve),
        };
        let mut due = next(&lane.reserve(now));
        if due.is_none() && lane.is_in_trouble() {
            due = next(&Reserve::default());
        }
        let Some(mut item) = due.or_else(|| probe.then(|| self.queues.take_probe(route)).flatten()) else {
            return has_step && !step_first && self.start_step(route, place, now);
        };
        item.early = item.turn.is_some_and(|turn| turn > now);
        let job = lane.job(&item.entry, wakings, now);
        self.take_in_hand(&item.entry);
        let (spool, ways) = (Arc::clone(&self.spool), self.ways.clone());
        self.start(async move { Finished::Attempted(Box::new(deliver(job, spool, ways, item).await)) });
        true
    }

    /// Opens the connection for mail that a device has begun to send: a slow session and the handshake with the provider
    /// take their time together.
    fn expect(&mut self, mail: &Meta) {
        self.stirred = true;
        let (now, wakings) = (Instant::now(), self.wakings);
        let routes = Arc::clone(&self.ways.routes);
        let state = State::new(&mail.envelope);
        let Some(route) = outlook(&routes, mail, &state, Duration::ZERO, None).route else { return };
        let place = self.lanes.choose(routes.accounts(route), 1, now);
        let lane = place.and_then(|place| self.lanes.get(place));
        if let Some(job) = lane.and_then(|lane| lane.job_ahead(wakings, now)) {
            self.start(async move { Finished::Connected { route, ahead: Box::new(connect_ahead(job).await) } });
        }
    }

    fn connected(&mut self, route: RouteId, ahead: Ahead) {
        let awaited = !self.queues.is_idle(route);
        let look = if ahead.wakings == self.wakings { Look::Fresh } else { Look::Outdated };
        match (self.lanes.of(ahead.generation), ahead.result) {
            (Some(lane), result) => lane.connected(Ahead { result, ..ahead }, awaited, look, Instant::now()),
            // The settings have changed meanwhile.
            (None, Ok(connection)) => drop(task::spawn(quit(connection))),
            (None, Err(_)) => {}
        }
    }

    fn may_probe(&mut self, route: RouteId, place: usize, now: Instant) -> bool {
        let time = self.lanes.at(place).and_then(Lane::next_probe);
        time.is_some_and(|at| at <= now) && self.queues.has_probe(route)
    }

    /// The next timed event: a message becomes due, a pause ends, a connection has been idle or busy too long, or a
    /// summary is to be written.
    fn next_wake(&self) -> Option<Instant> {
        let now = Instant::now();
        let again = self.wake_again.as_ref().map(|(at, _)| *at);
        let reports = self.teller().reporter().next();
        let (plan, silence) = (self.next_plan(), self.next_silence(now));
        let mut times = vec![self.lanes.idle_until(), reports, self.next_digest(), again, plan, silence];
        let routes = (0..self.ways.routes.len()).map(|route| RouteId::try_from(route).unwrap_or(0));
        for route in routes.filter(|route| !self.queues.is_idle(*route)) {
            let order = self.ways.routes.accounts(route);
            let lanes = || order.iter().filter_map(|place| self.lanes.at(*place));
            times.extend(lanes().map(|lane| lane.paused_until(now)));
            times.extend(lanes().map(|lane| lane.soon_free(now)));
            if let Some(lane) =
                self.lanes.choose(order, self.queues.due(route), now).and_then(|place| self.lanes.at(place))
            {
                times.push(self.queues.next_time(route));
                times.push(lane.next_probe().filter(|_| self.queues.has_probe(route)));
            }
        }
        times.into_iter().flatten().min()
    }
}

/// Messages that are read at a time to find their routes.
const READ_AT_ONCE: usize = 64;

/// The routes before they changed.
#[derive(Debug, Clone, Default)]
struct Former {
    /// The settings it belongs to: [`Item::routed`].
    routed: u32,
    /// The lanes of each route.
    lanes: Vec<Vec<u32>>,
    /// What the numbers of the routes meant.
    routes: Arc<Routes>,
}

impl Former {
    /// Whether a message that gets these lanes may keep waiting for its time: those that deferred it are the same.
    fn keeps(&self, item: &Item, lanes: Option<&Vec<u32>>) -> bool {
        let before = self.lanes.get(usize::from(item.route)).filter(|_| item.routed == self.routed);
        before.zip(lanes).is_some_and(|(before, lanes)| nothing_new(before, lanes))
    }

    /// The plan of a message with the numbers of the current `routes`, whose lanes are `lanes`: deliveries that take the
    /// same accounts as before keep waiting for their time.
    fn plan(&self, item: &Item, routes: &Routes, lanes: &[Vec<u32>]) -> Option<Box<Plan>> {
        let mut plan = item.plan.clone()?;
        plan.steps.retain_mut(|step| {
            let before = self.lanes.get(usize::from(step.route)).filter(|_| item.routed == self.routed);
            let is_step = self.routes.is_step(step.route);
            let mut numbered = (0..).zip(lanes);
            let same = numbered.find(|(route, lanes)| Some(*lanes) == before && routes.is_step(*route) == is_step);
            same.map(|(route, _)| step.route = route).is_some()
        });
        Some(plan)
    }
}

impl Dispatch {
    fn arrived(&mut self, entry: Entry, meta: &Meta) {
        let now = Instant::now();
        let state = State::new(&meta.envelope);
        let item = Item { routed: self.routed, uptime: Some(clock::uptime()), ..Item::new(entry, now) };
        let mut item = item.resting(meta, &state, now);
        self.ways.routes.place(&mut item, meta, &state);
        self.hear(meta, now);
        self.tell_what_it_waits_for(&item, meta, now);
        self.queues.add_fresh(item, now);
    }

    /// Logs what keeps a new message from leaving at once.
    fn tell_what_it_waits_for(&self, item: &Item, meta: &Meta, now: Instant) {
        let waits = item.plan.as_ref().is_some_and(|plan| plan.waits);
        let (account, reason, next) = match (item.rest, &meta.marks.over) {
            (Some(rest), Some(over)) => {
                let left = rest.until.saturating_duration_since(now);
                (String::new(), over.why(meta.marks.device.as_deref().unwrap_or_default(), left), left)
            }
            _ if let Some(plan) = item.plan.as_ref().filter(|plan| plan.waits) => {
                let left = plan.moment.map(|at| at.saturating_duration_since(now)).unwrap_or_default();
                (String::new(), WAITS_FOR_MAIL.into(), left)
            }
            _ => match self.lanes.paused(self.ways.routes.accounts(item.route), now) {
                Some((account, pause)) => (account, pause.reason, pause.next.unwrap_or_default()),
                None => return,
            },
        };
        let (id, to) = (item.entry.id.to_string(), String::new());
        Event::Deferred { id, to, account, tls: None, reason, next, planned: item.rest.is_some() || waits }.log();
    }

    /// Messages of an earlier run; `None` after the last of them.
    fn recovered(&mut self, messages: Option<Vec<(Item, Meta, State)>>) {
        let Some(messages) = messages else {
            self.recovering = false;
            self.teller().reporter().has_read(Instant::now());
            self.carry_on_digests();
            return;
        };
        let (now, relay) = (Instant::now(), self.settings.borrow().relay.clone());
        for (item, meta, state) in messages {
            // That it is tried now is because of the start.
            let own = backoff(item.turns, 0, relay.retry_min, relay.retry_max);
            let turn = (item.turns > 0).then(|| now + own);
            self.replacements.found(item.entry.id, &meta);
            let mut item = Item { routed: self.routed, turn, ..item };
            let is_over = self.ways.routes.place(&mut item, &meta, &state);
            // One without pending recipients that no step of an escalation can get any more is finished.
            if state.owes_report() || is_over && !state.steps.is_empty() {
                self.tell_earlier(item);
            } else {
                self.queues.add(item);
            }
        }
    }

    /// What an earlier run did not get to report is reported now, whether an account works or not.
    fn tell_earlier(&mut self, item: Item) {
        self.take_in_hand(&item.entry);
        let settle = self.settler(String::new(), Duration::ZERO);
        let (wakings, id, teller) = (self.wakings, item.entry.id, self.teller());
        teller.reporter().reads_one();
        self.start(async move {
            let left = settle.tell_earlier(item).await;
            teller.reporter().has_read(Instant::now());
            Finished::Settled { id, wakings, generation: None, left }
        });
    }

    /// Applies new settings. Whatever they leave unchanged continues: a reload comes with each event of the network,
    /// and providers count logins and attempts.
    fn new_settings(&mut self) {
        let settings = self.settings.borrow_and_update().clone();
        self.spool.set_limit(settings.relay.spool_limit);
        self.renew_silence(&settings);
        let before = self.route_lanes();
        let ways = Ways::new(&settings);
        let same = ways.routes.sort_as(&self.ways.routes);
        self.desk.set_alarms(Alarms::new(&settings));
        let former = std::mem::replace(&mut self.ways, ways).routes;
        self.lanes.renew(&settings);
        if same {
            let now = self.route_lanes();
            for ((route, before), now) in (0..).zip(&before).zip(&now) {
                if !nothing_new(before, now) {
                    self.queues.wake_route(route);
                }
            }
        } else {
            self.former = Former { routed: self.routed, lanes: before, routes: former };
            self.routed = self.routed.wrapping_add(1);
            let waiting = std::mem::replace(&mut self.queues, Schedule::new(self.ways.routes.len()));
            self.put_back(waiting.into_items());
        }
        self.shorten(settings.relay.retry_max);
    }

    /// From now on nothing waits longer than this.
    fn shorten(&mut self, longest: Duration) {
        let latest = Instant::now() + longest;
        for id in self.queues.later_than(latest) {
            if let Some((item, _)) = self.queues.take(id) {
                self.queues.put_back(Item { turn: Some(latest), ..item }, Some(latest));
            }
        }
    }

    /// The lanes of each route.
    fn route_lanes(&self) -> Vec<Vec<u32>> {
        let routes = &self.ways.routes;
        let ids = (0..routes.len()).map(|route| RouteId::try_from(route).unwrap_or(0));
        ids.map(|route| self.lanes.generations(routes.accounts(route))).collect()
    }

    /// Reads messages again to find their routes under the current settings; some at a time, so that others can leave
    /// in between.
    fn find_routes(&mut self, mut astray: Vec<Placed>) {
        let (spool, routes, routed) = (Arc::clone(&self.spool), Arc::clone(&self.ways.routes), self.routed);
        let (former, lanes) = (self.former.clone(), self.route_lanes());
        self.start(async move {
            let piece = astray.split_off(astray.len().saturating_sub(READ_AT_ONCE));
            let found = blocking(move || {
                let find = |(item, at): Placed| {
                    // What cannot be read now is checked at its next attempt, and at the next moment of its plan.
                    let mut placed = item.clone();
                    let plan = former.plan(&item, &routes, &lanes);
                    (placed.route, placed.plan, placed.routed) = (0, plan, routed);
                    match (spool.open_message(&item.entry), &mut placed.plan) {
                        (Ok(read), _) => _ = routes.place(&mut placed, &read.meta, &read.state),
                        // Without a step, nothing else would bring it back.
                        (Err(_), Some(plan)) => {
                            _ = plan.moment.get_or_insert_with(|| Instant::now() + escalation::AGAIN)
                        }
                        (Err(_), None) => {}
                    }
                    let at = at.filter(|_| former.keeps(&item, lanes.get(usize::from(placed.route))));
                    (placed, at)
                };
                Ok::<_, std::io::Error>(piece.into_iter().map(find).collect())
            });
            Finished::Routed { back: found.await.unwrap_or_default(), rest: astray }
        });
    }

    fn put_back(&mut self, back: impl IntoIterator<Item = Placed>) {
        let mut astray = Vec::new();
        for (item, at) in back {
            self.in_hand.remove(&item.entry.id);
            if item.routed == self.routed {
                self.queues.put_back(item, at);
            } else if self.ways.routes.is_single() {
                let lanes = self.lanes.generations(self.ways.routes.accounts(0));
                let at = at.filter(|_| self.former.keeps(&item, Some(&lanes)));
                self.queues.put_back(Item { route: 0, routed: self.routed, plan: None, ..item }, at);
            } else {
                astray.push((item, at));
            }
        }
        if !astray.is_empty() {
            astray.iter().for_each(|(item, _)| self.take_in_hand(&item.entry));
            self.find_routes(astray);
        }
    }
}
