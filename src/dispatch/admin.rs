// SPDX-License-Identifier: Apache-2.0
//! What administrators and hotplug scripts ask of the queue while the gateway runs.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::account::{AccountHealth, Lane};
use super::routes::RouteId;
use super::silence::Expected;
use super::{Dispatch, Finished};
use crate::queue::{Entry, Item, MessageId, Note, Placed, Position, Spool, blocking};
use crate::report::Event;
use crate::system::{clock, lock};

/// Messages that one order handles at a time.
const AT_ONCE: usize = 64;
/// Messages that it checks in one step.
const LOOK_AT: usize = 512;

/// Which messages are affected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Which {
    /// The one with this ID.
    One(MessageId),
    /// All that are queued.
    All,
}

/// How often outside events may wake everything. Earlier ones are merged into one waking at the end of this time.
const WAKE_EVERY: Duration = Duration::from_secs(30);

/// Why everything is to be retried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// An uplink came up, or the clock was set. This may happen often and says nothing about what a provider refuses.
    Outside,
    /// An administrator asked for it.
    Owner,
}

impl Cause {
    /// From the reason that hotplug scripts pass.
    pub fn of(reason: &str) -> Self {
        match reason == "clock" || reason.starts_with("uplink") {
            true => Self::Outside,
            false => Self::Owner,
        }
    }
}

/// An action on a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// Try it now.
    Retry,
    /// Do not send it until it is released.
    Hold,
    /// Retry it.
    Release,
    /// Remove it without notifying anyone.
    Delete,
}

/// A message as the schedule sees it.
#[derive(Debug, Clone)]
pub struct Waiting {
    /// The message.
    pub entry: Entry,
    /// Its state.
    pub standing: Standing,
    /// Why its route is paused, if so.
    pub paused: Option<String>,
    /// The accounts that it may be sent through next, in this order; empty while it is being sent.
    pub accounts: Vec<String>,
    /// What is planned for it in addition, if anything is.
    pub planned: Option<Planned>,
}

/// The plan of a message, for display.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Planned {
    /// The accounts that try it as steps of its escalation.
    pub tried: Vec<String>,
    /// The account whose step begins next, and in how long.
    pub next: Option<(String, Duration)>,
}

impl Waiting {
    /// Its position in the list.
    pub fn position(&self) -> Position {
        (self.entry.arrived, self.entry.id)
    }
}

/// A message of the schedule as seen at `now`, regardless of its accounts.
fn waiting(item: &Item, at: Option<Instant>, now: Instant) -> Waiting {
    let standing = match at {
        _ if item.held => Standing::Held,
        None if let Some(plan) = item.plan.as_ref().filter(|plan| plan.waits && item.rest.is_none()) => {
            Standing::Planned(plan.moment.map(|at| at.saturating_duration_since(now)).unwrap_or_default())
        }
        None if let Some(rest) = item.rest => Standing::Resting(rest.until.saturating_duration_since(now)),
        Some(at) if at > now => Standing::In(at.saturating_duration_since(now)),
        _ => Standing::Due,
    };
    Waiting { entry: item.entry.clone(), standing, paused: None, accounts: Vec::new(), planned: None }
}

/// A message that a task is working on, regardless of its accounts.
fn in_hand(entry: &Entry) -> Waiting {
    Waiting { entry: entry.clone(), standing: Standing::InHand, paused: None, accounts: Vec::new(), planned: None }
}

/// The state of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It is sent as soon as a connection is free.
    Due,
    /// It is retried after this time.
    In(Duration),
    /// Its device exceeded its rate: it, or its digest, is sent after this time.
    Resting(Duration),
    /// Its recipients take routes that it may use after this time, or steps of its escalation are all that is left.
    Planned(Duration),
    /// It is on hold.
    Held,
    /// It is being sent, recorded or moved right now.
    InHand,
}

/// Some of the queued messages, oldest first.
#[derive(Debug, Clone, Default)]
pub struct Page {
    /// All queued messages.
    pub total: usize,
    /// The requested messages.
    pub messages: Vec<Waiting>,
    /// Whether more follow.
    pub more: bool,
}

/// Where a page of the list begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum From {
    /// At the message with this number, from 0.
    Number(usize),
    /// After this position, no matter what has left in the meantime.
    Behind(Position),
}

/// The overall state.
#[derive(Debug, Clone, Default)]
pub struct Health {
    /// Messages in the queue.
    pub waiting: usize,
    /// Messages held by the administrator.
    pub held: usize,
    /// Messages that are finished except for the summary that reports them; none of them is waiting for delivery.
    pub reporting: usize,
    /// When the oldest queued message arrived, held ones included.
    pub oldest: Option<i64>,
    /// The accounts, in configuration order.
    pub accounts: Vec<AccountHealth>,
    /// The accounts for mail that matches no route, by their index in the settings.
    pub general: Vec<usize>,
    /// Why mail that matches no route is paused, and how long until the next attempt, if one is planned.
    pub paused: Option<(String, Option<Duration>)>,
    /// Whether messages of an earlier run are still being loaded.
    pub recovering: bool,
    /// Devices that are expected to send.
    pub expected: Vec<Expected>,
}

/// A request with the channel for its reply.
pub enum Order {
    /// The messages from a position on, at most `limit`.
    List { from: From, limit: usize, answer: oneshot::Sender<Page> },
    /// One message.
    Find { id: MessageId, answer: oneshot::Sender<Option<Waiting>> },
    /// Changes messages. Returns how many were changed, and whether a requested one is being processed right now.
    Change { which: Which, change: Change, answer: oneshot::Sender<Changed> },
    /// Something has changed: try the provider and everything else now.
    Wake { cause: Cause, reason: String, answer: oneshot::Sender<()> },
    /// The administrator has fixed something about an account: its pause ends.
    Look { account: String },
    /// An account was found to work by other means than the queue's.
    Works { account: String },
    /// The overall state.
    Health { answer: oneshot::Sender<Health> },
}

/// The result of a change.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Changed {
    /// Messages that were changed.
    pub count: usize,
    /// Messages that could not be changed because they are being sent.
    pub in_hand: usize,
    /// Messages that could not be changed because the disk failed; the log says why.
    pub failed: usize,
    /// Messages that are in the requested state already.
    pub already: usize,
    /// Messages that are not retried because they are on hold.
    pub held: usize,
    /// Messages that are not retried because they, or their digest, wait for the rate of their device.
    pub over_rate: usize,
    /// Messages that are not retried because an `option after` says when they may be sent.
    pub after: usize,
}

impl Dispatch {
    pub(super) fn obey(&mut self, order: Order) {
        // The requester may be gone before the reply: then nobody needs it.
        match order {
            Order::List { from, limit, answer } => drop(answer.send(self.page(from, limit))),
            Order::Find { id, answer } => drop(answer.send(self.find(id))),
            Order::Health { answer } => drop(answer.send(self.health())),
            Order::Wake { cause, reason, answer } => {
                match cause {
                    Cause::Owner => self.wake_for_owner(reason),
                    Cause::Outside => self.wake_for_outside(reason),
                }
                let _ = answer.send(());
            }
            Order::Works { account } => self.named(&account).into_iter().for_each(Lane::works),
            Order::Look { account } => {
                let now = Instant::now();
                self.named(&account).into_iter().for_each(|lane| lane.retry_now(now));
            }
            Order::Change { which, change, answer } => self.change(which, change, answer),
        }
    }

    fn named(&mut self, account: &str) -> Option<&mut Lane> {
        self.lanes.all().find(|lane| lane.name() == account)
    }

    fn wake_for_owner(&mut self, reason: String) {
        Event::Woken { reason }.log();
        self.end_pauses();
        self.wake_mail();
    }

    fn end_pauses(&mut self) {
        let now = Instant::now();
        self.lanes.all().for_each(|lane| lane.retry_now(now));
    }

    /// At once, unless that was just done; otherwise when it may be done again. A flapping uplink causes one waking per
    /// [`WAKE_EVERY`], the last of which is after it has come up for good.
    fn wake_for_outside(&mut self, reason: String) {
        let now = Instant::now();
        match self.woken.map(|woken| woken + WAKE_EVERY).filter(|next| *next > now) {
            Some(next) => self.wake_again = Some((next, reason)),
            None => self.wake_outside(reason, now),
        }
    }

    /// Wakes with the merged reason, if it is due.
    pub(super) fn wake_merged(&mut self) {
        let now = Instant::now();
        if let Some((_, reason)) = self.wake_again.take_if(|(at, _)| *at <= now) {
            self.wake_outside(reason, now);
        }
    }

    fn wake_outside(&mut self, reason: String, now: Instant) {
        self.woken = Some(now);
        Event::Woken { reason }.log();
        self.wake();
    }

    /// Everything is retried at once, the provider first, unless it has refused the account.
    pub(super) fn wake(&mut self) {
        let now = Instant::now();
        self.lanes.all().for_each(|lane| lane.look_now(now));
        self.wake_mail();
    }

    fn wake_mail(&mut self) {
        self.queues.wake_all();
        self.wakings = self.wakings.wrapping_add(1);
    }

    fn health(&self) -> Health {
        let now = Instant::now();
        Health {
            waiting: self.waiting(),
            held: self.queues.held(),
            reporting: self.teller().reporter().parked(),
            oldest: self.oldest(),
            accounts: self.lanes.health(now),
            general: self.ways.routes.accounts(0).to_vec(),
            paused: self.lanes.paused(self.ways.routes.accounts(0), now).map(|(_, pause)| (pause.reason, pause.next)),
            recovering: self.recovering,
            expected: self.silence.expected(now),
        }
    }

    /// The arrival of the oldest queued message: the first of the list, or one of the few that are being processed.
    fn oldest(&self) -> Option<i64> {
        let scheduled = self.queues.listed(None).next().map(|(item, _)| item.entry.arrived);
        self.in_hand.values().map(|entry| entry.arrived).chain(scheduled).min()
    }

    /// Why a route sends nothing, if it is paused.
    fn why_paused(&self, route: RouteId, now: Instant) -> Option<String> {
        self.lanes.paused(self.ways.routes.accounts(route), now).map(|(_, pause)| pause.reason)
    }

    /// With what is known about its route.
    fn with_accounts(&self, waiting: Waiting, route: RouteId, now: Instant) -> Waiting {
        let accounts = self.lanes.names(self.ways.routes.accounts(route));
        let item = self.queues.get(waiting.entry.id).map(|(item, _)| item);
        let planned = item.and_then(|item| item.plan.as_deref()).map(|plan| {
            let steps = plan.steps.iter().filter(|step| self.ways.routes.is_step(step.route));
            let names = steps.flat_map(|step| self.lanes.names(self.ways.routes.accounts(step.route)));
            let next = plan.next.clone().zip(plan.moment.map(|at| at.saturating_duration_since(now)));
            Planned { tried: names.collect(), next }
        });
        let planned = planned.filter(|planned| *planned != Planned::default());
        Waiting { paused: self.why_paused(route, now), accounts, planned, ..waiting }
    }

    /// One message, whatever its state.
    fn find(&self, id: MessageId) -> Option<Waiting> {
        let now = Instant::now();
        if let Some((item, at)) = self.queues.get(id) {
            return Some(self.with_accounts(waiting(item, at, now), item.route, now));
        }
        self.in_hand.get(&id).map(|entry| Waiting { paused: self.why_paused(0, now), ..in_hand(entry) })
    }

    fn page(&self, from: From, limit: usize) -> Page {
        let now = Instant::now();
        let (behind, skip) = match from {
            From::Number(number) => (None, number),
            From::Behind(position) => (Some(position), 0),
        };
        // Those that are not in the schedule: usually a few.
        let is_meant = |waiting: &Waiting| behind.is_none_or(|behind| waiting.position() > behind);
        let mut others: Vec<Waiting> = self.in_hand.values().map(|entry| in_hand(entry)).filter(is_meant).collect();
        others.sort_unstable_by_key(Waiting::position);
        // Scheduled messages are already in order; the others are merged in.
        let mut others = others.into_iter().peekable();
        let mut scheduled = self.queues.listed(behind).peekable();
        let next = || {
            let other = match (others.peek(), scheduled.peek()) {
                (Some(other), Some((item, _))) => other.position() < (item.entry.arrived, item.entry.id),
                (other, _) => other.is_some(),
            };
            match other {
                true => others.next().map(|waiting| (waiting, None)),
                false => scheduled.next().map(|(item, at)| (waiting(item, at, now), Some(item.route))),
            }
        };
        let mut all = std::iter::from_fn(next).skip(skip);
        let known = |(waiting, route)| match route {
            Some(route) => self.with_accounts(waiting, route, now),
            None => Waiting { paused: self.why_paused(0, now), ..waiting },
        };
        let messages = all.by_ref().take(limit).map(known).collect();
        Page { total: self.waiting(), messages, more: all.next().is_some() }
    }

    fn change(&mut self, which: Which, change: Change, answer: oneshot::Sender<Changed>) {
        let in_hand = match &which {
            Which::One(id) => usize::from(self.in_hand.contains_key(id)),
            Which::All => self.in_hand.len(),
        };
        let (changed, began) = (Changed { in_hand, ..Changed::default() }, Instant::now());
        let mut rest = ChangeAll { change, changed, began, left: None, answer };
        match (change, which) {
            (Change::Retry, Which::All) => {
                // Resting messages follow the policy of their device: only a message that is named is released.
                (rest.changed.held, rest.changed.over_rate) = (self.queues.held(), self.queues.resting());
                rest.changed.after = self.queues.planned();
                let stays = rest.changed.held.saturating_add(rest.changed.over_rate).saturating_add(rest.changed.after);
                rest.changed.count = self.queues.len().saturating_sub(stays);
                self.end_pauses();
                self.wake_mail();
                self.change_some(rest);
            }
            (Change::Retry, Which::One(id)) => {
                self.end_pauses();
                let Some((mut item, _)) = self.queues.take(id) else {
                    // One that is being processed is retried when it comes back.
                    self.wakings = self.wakings.wrapping_add(1);
                    (rest.changed.count, rest.changed.in_hand) = (in_hand, 0);
                    return self.change_some(rest);
                };
                if item.rest.is_some() && !item.held {
                    return self.begin_change(vec![(item, None)], rest);
                }
                item.plan.iter_mut().flat_map(|plan| &mut plan.steps).for_each(|step| step.turn = None);
                rest.changed.held = usize::from(item.held);
                rest.changed.after = usize::from(!item.held && item.waits_for_plan());
                rest.changed.count = 1_usize.saturating_sub(rest.changed.held).saturating_sub(rest.changed.after);
                self.queues.add(item);
                self.change_some(rest);
            }
            (_, Which::One(id)) => {
                let found = self.queues.get(id).map(|(item, _)| concerns(change, item));
                rest.changed.already = usize::from(found == Some(false));
                let is_meant = found == Some(true);
                let taken = is_meant.then(|| self.queues.take(id)).flatten();
                self.begin_change(taken.into_iter().collect(), rest);
            }
            (_, Which::All) => {
                rest.left = Some(None);
                self.change_some(rest);
            }
        }
    }

    /// Continues an order for all messages that existed when it was given, or replies that it is done.
    pub(super) fn change_some(&mut self, mut rest: ChangeAll) {
        let Some(mut behind) = rest.left else {
            // The requester may be gone.
            let _ = rest.answer.send(rest.changed);
            return;
        };
        let (mut seen, mut meant) = (0, Vec::new());
        for (item, _) in self.queues.behind(behind).take(LOOK_AT) {
            seen += 1;
            behind = Some(item.entry.id);
            if item.since > rest.began {
                continue;
            }
            if !concerns(rest.change, item) {
                rest.changed.already += 1;
            } else {
                meant.push(item.entry.id);
                if meant.len() == AT_ONCE {
                    break;
                }
            }
        }
        let more = seen == LOOK_AT || meant.len() == AT_ONCE;
        rest.left = more.then_some(behind);
        let taken = meant.iter().filter_map(|id| self.queues.take(*id)).collect();
        self.begin_change(taken, rest);
    }

    /// Carries out a change of some messages on disk; they are in use meanwhile. The `left` part of the order follows.
    fn begin_change(&mut self, taken: Vec<Placed>, mut rest: ChangeAll) {
        taken.iter().for_each(|(item, _)| self.take_in_hand(&item.entry));
        let (spool, reporter) = (Arc::clone(&self.spool), Arc::clone(&self.reporter));
        self.start(async move {
            let names: Vec<MessageId> = taken.iter().map(|(item, _)| item.entry.id).collect();
            let change = rest.change;
            let done = blocking(move || {
                let done = taken.into_iter().map(|one| carry_out(&spool, one, change));
                Ok::<_, std::io::Error>(done.collect::<Vec<_>>())
            });
            let mut back = Vec::new();
            for (outcome, id) in done.await.unwrap_or_default().into_iter().zip(&names) {
                match outcome {
                    Ok(left) => {
                        rest.changed.count += 1;
                        if left.is_none() {
                            lock(&reporter).finished(*id, None);
                        }
                        back.extend(left);
                    }
                    Err(unchanged) => {
                        rest.changed.failed += 1;
                        back.push(*unchanged);
                    }
                }
            }
            Finished::Obeyed { taken: names, back, rest }
        });
    }
}

/// Whether a change makes a difference to a message.
fn concerns(change: Change, item: &Item) -> bool {
    match change {
        Change::Hold => !item.held,
        Change::Release => item.held || item.doubtful,
        Change::Retry | Change::Delete => true,
    }
}

/// A change that is being carried out step by step.
pub(super) struct ChangeAll {
    change: Change,
    /// The result for the messages handled so far.
    changed: Changed,
    /// When it was ordered: messages that came later are not affected.
    began: Instant,
    /// Where it continues, if more messages are affected: after this one.
    left: Option<Option<MessageId>>,
    /// Where the reply goes.
    answer: oneshot::Sender<Changed>,
}

/// One message: `Ok` with what is left of it, `Err` with the unchanged message.
fn carry_out(spool: &Spool, (mut item, at): Placed, change: Change) -> Result<Option<Placed>, Box<Placed>> {
    let (entry, id) = (&item.entry, item.entry.id.to_string());
    let done = match change {
        Change::Delete => spool.remove(entry),
        Change::Hold => spool.record(entry, &Note::Held(true)),
        Change::Release => spool.record(entry, &Note::Released(clock::now())),
        Change::Retry => spool.record(entry, &Note::Alone(clock::now())),
    };
    if let Err(error) = done {
        Event::SpoolTrouble { id, reason: format!("the requested change could not be carried out: {error}") }.log();
        return Err(Box::new((item, at)));
    }
    match change {
        Change::Delete => {
            Event::Deleted { id }.log();
            return Ok(None);
        }
        Change::Hold => {
            item.held = true;
            Event::Held { id, reason: String::new() }.log();
            return Ok(Some((item, at)));
        }
        Change::Release => item.release(Instant::now()),
        Change::Retry => (item.rest, item.left_out) = (None, Box::default()),
    }
    // At once.
    Event::Released { id }.log();
    Ok(Some((item, None)))
}
