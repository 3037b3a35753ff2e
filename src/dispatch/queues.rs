//! What waits, by route: a schedule for each, so that one whose accounts are paused holds up no other.

use std::time::Instant;

use super::routes::RouteId;
use crate::queue::MessageId;
use crate::queue::{Item, Schedule};

/// A message with the time when it is tried next: none when it is due, or held.
pub type Waiting = (Item, Option<Instant>);

/// The schedules of all routes.
#[derive(Debug, Default)]
pub struct Queues {
    /// Of the route for everything that no rule names.
    general: Schedule,
    others: Vec<Schedule>,
}

impl Queues {
    /// As many as there are routes, all empty.
    pub fn new(routes: usize) -> Self {
        let mut queues = Self::default();
        queues.others.resize_with(routes.saturating_sub(1), Schedule::default);
        queues
    }

    /// Where messages of a route wait; those of a route that the settings no longer have go with the general ones.
    pub fn of(&mut self, route: RouteId) -> &mut Schedule {
        let other = usize::from(route).checked_sub(1);
        match other.and_then(|at| self.others.get_mut(at)) {
            Some(schedule) => schedule,
            None => &mut self.general,
        }
    }

    fn schedules(&self) -> impl Iterator<Item = &Schedule> {
        [&self.general].into_iter().chain(&self.others)
    }

    /// All schedules with their routes.
    pub fn all(&self) -> impl Iterator<Item = (RouteId, &Schedule)> {
        self.schedules().enumerate().map(|(at, schedule)| (RouteId::try_from(at).unwrap_or(0), schedule))
    }

    /// As [`Schedule::add`].
    pub fn add(&mut self, item: Item) {
        self.of(item.route).add(item);
    }

    /// As [`Schedule::add_fresh`].
    pub fn add_fresh(&mut self, item: Item, now: Instant) {
        self.of(item.route).add_fresh(item, now);
    }

    /// As [`Schedule::put_back`].
    pub fn put_back(&mut self, item: Item, at: Option<Instant>) {
        self.of(item.route).put_back(item, at);
    }

    /// As [`Schedule::take`].
    pub fn take(&mut self, id: MessageId) -> Option<Waiting> {
        self.general.take(id).or_else(|| self.others.iter_mut().find_map(|schedule| schedule.take(id)))
    }

    /// As [`Schedule::take_digests`].
    pub fn take_digests(&mut self, now: Instant) -> Vec<Item> {
        let mut taken = self.general.take_digests(now);
        taken.extend(self.others.iter_mut().flat_map(|schedule| schedule.take_digests(now)));
        taken
    }

    /// As [`Schedule::take_where`]; `limit` is for all together.
    pub fn take_where(&mut self, limit: usize, fits: impl Fn(&Item) -> bool) -> Vec<Waiting> {
        let mut taken = self.general.take_where(limit, &fits);
        for schedule in &mut self.others {
            taken.append(&mut schedule.take_where(limit.saturating_sub(taken.len()), &fits));
        }
        taken
    }

    /// Does `what` to every schedule.
    pub fn each(&mut self, what: impl Fn(&mut Schedule)) {
        what(&mut self.general);
        self.others.iter_mut().for_each(what);
    }

    /// As [`Schedule::items`].
    pub fn items(&self) -> impl Iterator<Item = (&Item, Option<Instant>)> {
        self.schedules().flat_map(Schedule::items)
    }

    /// Messages in all of them.
    pub fn len(&self) -> usize {
        self.schedules().map(Schedule::len).sum()
    }

    /// Messages that rest.
    pub fn resting(&self) -> usize {
        self.schedules().map(Schedule::resting).sum()
    }

    /// Messages that the owner holds back.
    pub fn held(&self) -> usize {
        self.schedules().map(Schedule::held).sum()
    }
}
