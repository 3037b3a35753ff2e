// SPDX-License-Identifier: Apache-2.0
//! What happens to a message in addition to its place in the schedule: recipients on other routes are tried there, steps
//! of an escalation begin at their time, and so do routes with `after`.
//!
//! A step is one more delivery of the same stored message, through one account or channel. Its state is part of the
//! message's own journal, and it is recorded that it has begun before anything is sent: so each step happens once, apart
//! from the moment between a provider's answer and its record. It waits in a route of its own, in addition to the
//! message's place in the schedule; since a message is never with two tasks, what one of them brings about is known to
//! the next.
//!
//! [`outlook`] is pure: from the state of a message and the time, what may be sent now, what is due, and what comes next.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::account::Look;
use super::delivery::{Attempted, Known, deliver};
use super::routes::{RouteId, Routes};
use super::settle::{Settle, has_taken};
use super::{Dispatch, Finished, jitter};
use crate::outbound::{Outcome, Verdict};
use crate::queue::{
    Attempt, Item, Meta, Note, Placed, Plan, Progress, Reserve, SpoolError, State, Step, StepNote, StepProgress,
    backoff, blocking,
};
use crate::report::{Event, StepResult};
use crate::system::clock;

/// Messages that are looked at together.
const AT_ONCE: usize = 16;
/// When a message that cannot be read now is looked at again, and when a step is tried again that may be the cause of its
/// account's trouble.
pub(super) const AGAIN: Duration = Duration::from_secs(30);
/// After so many attempts it may be.
const SUSPICIOUS: u32 = 3;

/// What a message has before it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outlook {
    /// The route of the first pending recipient that may leave now.
    pub route: Option<RouteId>,
    /// The other routes of recipients that may leave now: if that one fails, they need not wait.
    pub sides: Vec<RouteId>,
    /// Recipients for whom nothing is to be sent: the rest of the message has been delivered in time.
    pub spared: Vec<usize>,
    /// The account whose step begins now.
    pub begins: Option<String>,
    /// The routes of the steps that have begun and are still to be tried.
    pub steps: Vec<RouteId>,
    /// After how long something of this changes by itself.
    pub next: Option<Duration>,
    /// The account whose step begins then.
    pub next_step: Option<String>,
    /// Whether nothing more is sent.
    pub is_over: bool,
}

/// The outlook of a message that delivery has been possible for since `tried`; the last step of its escalation began
/// `begun` ago, if one has.
pub fn outlook(routes: &Routes, meta: &Meta, state: &State, tried: Duration, begun: Option<Duration>) -> Outlook {
    let mut outlook = Outlook::default();
    let mut rest = None;
    let mut sooner = |next: Duration| outlook.next = Some(outlook.next.map_or(next, |known: Duration| known.min(next)));
    for (index, recipient) in state.to_try() {
        let way = routes.way(meta, &recipient.address);
        let mut route = Some(way.late);
        if tried < way.after {
            route = way.early;
            sooner(way.after.saturating_sub(tried));
        } else if way.early.is_none() && *rest.get_or_insert_with(|| rest_is_delivered(routes, meta, state)) {
            outlook.spared.push(index);
            continue;
        }
        match route {
            Some(route) if outlook.route.is_none() => outlook.route = Some(route),
            Some(route) if outlook.route != Some(route) && !outlook.sides.contains(&route) => {
                outlook.sides.push(route);
            }
            _ => {}
        }
    }
    let done = state.is_done();
    let alarm = routes.alarm(meta).filter(|_| !state.is_taken());
    if let Some(alarm) = alarm {
        let open = state.steps.iter().filter(|step| step.is_open());
        outlook.steps = open.filter_map(|step| routes.step(&step.account)).collect();
        let steps = alarm.accounts.iter().filter(|name| routes.step(name).is_some()).enumerate();
        let mut left = steps.filter(|(_, name)| !state.steps.iter().any(|step| step.account == **name));
        if let Some((number, name)) = left.next() {
            let number = u32::try_from(number).unwrap_or(u32::MAX);
            let due = alarm.after.saturating_mul(number.saturating_add(1)).saturating_sub(tried);
            // After a long time without power, each step still gets its time.
            let due = begun.map_or(due, |begun| due.max(alarm.after.saturating_sub(begun)));
            let nothing_else = done && outlook.steps.is_empty();
            match due.is_zero() || nothing_else {
                true => outlook.begins = Some(name.clone()),
                false => {
                    if outlook.next.is_none_or(|next| due <= next) {
                        outlook.next = Some(due);
                    }
                    outlook.next_step = Some(name.clone());
                }
            }
        }
    }
    outlook.is_over = done && outlook.steps.is_empty() && outlook.begins.is_none() && outlook.next_step.is_none();
    outlook
}

/// Whether everything of a message that may leave before its routes with `after` has been delivered. False if there is
/// nothing of that kind: then nobody has it yet.
pub fn rest_is_delivered(routes: &Routes, meta: &Meta, state: &State) -> bool {
    let early = |address: &str| routes.way(meta, address).early.is_some();
    let mut rest = state.recipients.iter().filter(|recipient| early(&recipient.address)).peekable();
    rest.peek().is_some() && rest.all(|recipient| recipient.progress == Progress::Delivered)
}

/// Why a message waits whose pending recipients all take routes with `after`.
pub const WAITS_FOR_MAIL: &str = "its route is only used for what has not left by mail in time (option after)";

impl Routes {
    /// Gives a message its route, and its plan if it needs one. True when nothing more of it is sent.
    pub fn place(&self, item: &mut Item, meta: &Meta, state: &State) -> bool {
        item.route = self.next(meta, state);
        let former = item.plan.take().unwrap_or_default();
        // The usual message, and the usual settings.
        let is_plain = || !self.are_timed() && state.recipients.len() < 2;
        if self.is_single() || is_plain() {
            return state.is_done();
        }
        let now = Instant::now();
        // For a run that did not see it begin. If the clock cannot be trusted, the next one does not begin too early.
        let begun = former.begun.or_else(|| Some(clock::moment_of(state.steps.last()?.begun)));
        let outlook = outlook(self, meta, state, item.tried(), begun.map(|at| now.saturating_duration_since(at)));
        let is_due = !outlook.spared.is_empty() || outlook.begins.is_some();
        let next = if is_due { Some(Duration::ZERO) } else { outlook.next };
        item.route = outlook.route.unwrap_or(item.route);
        let steps: Vec<RouteId> = outlook.steps.iter().chain(&outlook.sides).copied().collect();
        if next.is_some() || !steps.is_empty() {
            let known = |route: RouteId| former.steps.iter().find(|step| step.route == route).cloned();
            let steps = steps.iter().map(|route| known(*route).unwrap_or(Step::new(*route)));
            item.plan = Some(Box::new(Plan {
                moment: next.map(|wait| now + wait),
                next: outlook.begins.or(outlook.next_step),
                steps: steps.collect(),
                begun,
                waits: outlook.route.is_none(),
                despite_hold: state.is_doubtful() && state.to_try().next().is_none(),
            }));
        }
        outlook.is_over
    }

    /// Whether a pending recipient of a message that was tried for so long may take this route. `rest`: whether everything
    /// that may leave early has been delivered.
    pub fn serve(&self, meta: &Meta, recipient: &str, route: RouteId, tried: Duration, rest: bool) -> bool {
        let way = self.way(meta, recipient);
        let late = way.early.is_some() || !rest;
        way.early == Some(route) || way.late == route && tried >= way.after && late
    }
}

/// A delivery in addition to the message's place in the schedule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StepJob {
    /// Its route.
    pub route: RouteId,
    /// Whether it is a step of an escalation; otherwise it is for the recipients that take this route.
    pub escalates: bool,
    /// Its account is a channel.
    pub is_channel: bool,
    /// When the message would have been tried next.
    pub at: Option<Instant>,
}

/// Prepares this copy of a message for a step: an account for mail gets the recipients of all other accounts for mail
/// that do not have it, also those that another provider has refused.
pub fn for_step(meta: &Meta, state: &mut State, routes: &Routes, is_mail: impl Fn(RouteId) -> bool, step: &StepJob) {
    for recipient in &mut state.recipients {
        let may = step.is_channel || is_mail(routes.of(meta, &recipient.address));
        recipient.progress = match recipient.progress {
            Progress::Waiting | Progress::Failed if may => Progress::Waiting,
            _ => Progress::Delivered,
        };
    }
}

impl Settle {
    /// Does what the plan of a message says for now. Returns it when it is not finished.
    pub async fn follow_plan(mut self, mut item: Item, at: Option<Instant>) -> Option<Placed> {
        self.aside = true;
        let (queue, entry) = (Arc::clone(&self.spool), item.entry.clone());
        let stored = match blocking(move || queue.open_message(&entry)).await {
            Ok(stored) => stored,
            Err(SpoolError::Damaged(reason)) => {
                self.set_aside(item, reason).await;
                return None;
            }
            Err(_) => {
                item.plan.get_or_insert_default().moment = Some(Instant::now() + AGAIN);
                return Some((item, at));
            }
        };
        let mut known = Known::of(&stored, &item);
        let begun = item.plan.as_ref().and_then(|plan| plan.begun).map(|at| at.elapsed());
        let Outlook { spared, begins, .. } = outlook(&self.routes, &known.meta, &known.state, item.tried(), begun);
        let id = item.entry.id.to_string();
        let text = "not needed: the rest of the message was delivered in time";
        let results: Vec<_> = spared.iter().map(|index| (*index, Progress::Delivered, text.to_string())).collect();
        if !results.is_empty() {
            let note = Note::Attempt(Attempt { at: clock::now(), early: true, results });
            self.take_note(&item, &mut known.state, note).await;
            for index in spared {
                let to = known.meta.envelope.to.get(index).cloned().unwrap_or_default();
                Event::Spared { id: id.clone(), to, reason: text.into() }.log();
            }
        }
        if let Some(account) = begins {
            let text = format!("not delivered after {} s", item.tried().as_secs());
            let note = StepNote { at: clock::now(), account: account.clone(), progress: StepProgress::Begun, text };
            let text = note.text.clone();
            self.take_note(&item, &mut known.state, Note::Step(note)).await;
            let step = known.state.steps.len();
            Event::Step { id, step, account, to: String::new(), result: StepResult::Begun, text }.log();
            item.plan.get_or_insert_default().begun = Some(Instant::now());
        }
        self.go_on(item, at, &Outcome::default(), known).await
    }

    /// Records what a step of a message, or an attempt for the recipients of another route, brought about. Returns the
    /// message when it is not finished.
    pub async fn settle_step(
        mut self,
        mut item: Item,
        step: StepJob,
        outcome: Outcome,
        known: Option<Known>,
    ) -> Option<Placed> {
        self.aside = step.escalates;
        if let Some(reason) = outcome.damaged {
            self.set_aside(item, reason).await;
            return None;
        }
        let mut steps = item.plan.iter_mut().flat_map(|plan| &mut plan.steps);
        if let Some(tried) = steps.find(|tried| tried.route == step.route) {
            tried.turns = tried.turns.saturating_add(u32::from(known.is_some()));
            let wait = match outcome.trouble.is_some() {
                // It remains due, and waits for the account.
                true if known.is_none() || tried.turns < SUSPICIOUS => None,
                true => Some(AGAIN),
                // The rest of them follows.
                false if (outcome.goes_on || outcome.unnamed) && has_taken(&outcome) => None,
                false => Some(self.wait),
            };
            tried.turn = wait.map(|wait| Instant::now() + wait);
        }
        let Some(mut known) = known else { return Some((item, step.at)) };
        if !step.escalates {
            // The message waits no longer for its own route because of this.
            item.early = true;
            return self.go_on(item, step.at, &outcome, known).await;
        }
        let number = known.state.steps.iter().position(|begun| begun.account == self.account).map_or(1, |at| at + 1);
        let result = result_of(&outcome);
        if matches!(result, Some((StepProgress::Taken, _))) && !step.is_channel {
            // These recipients have it: the message is not sent to them again.
            let results = self.results(&item, &delivered(&outcome), &known.meta, &known.header);
            let note = Note::Attempt(Attempt { at: clock::now(), early: true, results });
            self.take_note(&item, &mut known.state, note).await;
        }
        let id = item.entry.id.to_string();
        if let Some((progress, text)) = result {
            let note = StepNote { at: clock::now(), account: self.account.clone(), progress, text: text.clone() };
            self.take_note(&item, &mut known.state, Note::Step(note)).await;
            let ended = known.state.steps.iter().find(|step| step.account == self.account).is_none_or(|s| !s.is_open());
            let result = match progress {
                StepProgress::Taken => Some(StepResult::Taken),
                _ if ended => Some(StepResult::Failed),
                _ => None,
            };
            if let Some(result) = result {
                let to = known.meta.envelope.to.first().filter(|_| step.is_channel).cloned().unwrap_or_default();
                Event::Step { id, step: number, account: self.account.clone(), to, result, text }.log();
                return self.go_on(item, step.at, &Outcome::default(), known).await;
            }
        }
        if let Some((_, Verdict::Deferred(why))) = outcome.results.first() {
            let (account, tls, reason) = (self.account.clone(), outcome.tls.clone(), why.to_string());
            let id = item.entry.id.to_string();
            Event::Deferred { id, to: String::new(), account, tls, reason, next: self.wait, planned: false }.log();
        }
        self.go_on(item, step.at, &Outcome::default(), known).await
    }

    /// Records a note, and applies it to `state`.
    async fn take_note(&self, item: &Item, state: &mut State, note: Note) {
        state.apply(&note);
        self.note(&item.entry, note).await;
    }

    /// What is left of a message, with its new plan; at once if another route is free now.
    async fn go_on(&self, item: Item, at: Option<Instant>, outcome: &Outcome, known: Known) -> Option<Placed> {
        let route = item.route;
        let left = self.apply(item, outcome, known).await?;
        let at = at.filter(|_| left.route == route);
        Some((left, at))
    }
}

/// What an attempt says about its step, with the reply or reason; `None`: it is tried again.
fn result_of(outcome: &Outcome) -> Option<(StepProgress, String)> {
    let find = |is_it: fn(&Verdict) -> bool| outcome.results.iter().find(|(_, verdict)| is_it(verdict));
    if let Some((_, verdict)) = find(|verdict| matches!(verdict, Verdict::Delivered(_))) {
        return Some((StepProgress::Taken, verdict.text()));
    }
    if !outcome.doubtful.is_empty() {
        let text = find(|_| true).map(|(_, verdict)| verdict.text()).unwrap_or_default();
        return Some((StepProgress::Doubtful, text));
    }
    if outcome.trouble.is_some() || find(|verdict| matches!(verdict, Verdict::Deferred(_))).is_some() {
        return None;
    }
    match outcome.results.first() {
        Some((_, verdict)) => Some((StepProgress::Failed, verdict.text())),
        None => Some((StepProgress::Failed, "no recipient of the message can get it through this account".into())),
    }
}

/// The recipients that have it.
fn delivered(outcome: &Outcome) -> Outcome {
    let taken = outcome.results.iter().filter(|(_, verdict)| matches!(verdict, Verdict::Delivered(_)));
    Outcome { results: taken.cloned().collect(), tls: outcome.tls.clone(), ..Outcome::default() }
}

impl Dispatch {
    /// Looks at the messages whose plan says that something is due.
    pub(super) fn follow_plans(&mut self) {
        let now = Instant::now();
        while self.planning < AT_ONCE
            && let Some((item, at)) = self.queues.take_moment(now)
        {
            self.planning += 1;
            self.take_in_hand(&item.entry);
            let (id, wakings, settle) = (item.entry.id, self.wakings, self.settler(String::new(), Duration::ZERO));
            self.start(async move {
                Finished::Planned { id, wakings, generation: None, left: settle.follow_plan(item, at).await }
            });
        }
    }

    /// When that is the case next.
    pub(super) fn next_plan(&self) -> Option<Instant> {
        self.queues.next_moment().filter(|_| self.planning < AT_ONCE)
    }

    /// Gives a step, or recipients of another message, that take this route to its account. False when none is due,
    /// or when the last connection is for other clients.
    pub(super) fn start_step(&mut self, route: RouteId, place: usize, now: Instant) -> bool {
        let wakings = self.wakings;
        let Some(lane) = self.lanes.get(place) else { return false };
        let mut step = self.queues.take_step(route, now, &lane.reserve(now));
        if step.is_none() && lane.is_in_trouble() {
            step = self.queues.take_step(route, now, &Reserve::default());
        }
        let Some((item, at)) = step else { return false };
        let mut job = lane.job(&item.entry, wakings, now);
        let (escalates, is_channel) = (self.ways.routes.is_step(route), job.account.channel.is_some());
        job.step = Some(StepJob { route, escalates, is_channel, at });
        self.take_in_hand(&item.entry);
        let (spool, ways) = (Arc::clone(&self.spool), self.ways.clone());
        self.start(async move { Finished::Attempted(Box::new(deliver(job, spool, ways, item).await)) });
        true
    }

    /// Takes the result of a step.
    pub(super) fn step_attempted(&mut self, attempted: Attempted, step: StepJob) {
        let Attempted { item, outcome, known, connection, account, lane: returned, .. } = attempted;
        let (now, generation, wakings) = (Instant::now(), returned.generation, returned.wakings);
        let look = if wakings == self.wakings { Look::Fresh } else { Look::Outdated };
        let mut wakes = false;
        if let Some(lane) = self.lanes.of(generation) {
            lane.returned(returned, connection, now);
            if let Some(trouble) = &outcome.trouble {
                if known.is_some() {
                    lane.blame(item.entry.client);
                }
                lane.pause(trouble, look, now);
            } else if outcome.tls.is_some() {
                lane.works();
                wakes = has_taken(&outcome) && lane.taken();
            }
        }
        if wakes {
            self.queues.wake_put_off();
        }
        let relay = self.settings.borrow().relay.clone();
        let steps = item.plan.iter().flat_map(|plan| &plan.steps);
        let turns = steps.filter(|tried| tried.route == step.route).map(|tried| tried.turns).sum::<u32>();
        let wait = backoff(turns.saturating_add(1), jitter(), relay.retry_min, relay.retry_max);
        let (id, settle) = (item.entry.id, self.settler(account, wait));
        self.start(async move {
            let left = settle.settle_step(item, step, outcome, known).await;
            Finished::Planned { id, wakings, generation: Some(generation), left }
        });
    }

    /// Takes back a message that [`Self::follow_plans`] or a step had.
    pub(super) fn planned(&mut self, generation: Option<u32>, left: Option<Placed>, woken: bool) {
        match generation {
            Some(_) => {}
            None => self.planning = self.planning.saturating_sub(1),
        }
        if let Some((item, at)) = left {
            self.put_back(vec![(item, at.filter(|_| !woken))]);
        }
    }
}

#[cfg(test)]
mod tests;
