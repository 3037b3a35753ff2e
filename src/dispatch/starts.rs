//! What is sent next, and when something happens by itself.

use std::sync::Arc;
use std::time::Instant;

use super::delivery::deliver;
use super::lane::Lane;
use super::routes::RouteId;
use super::{Dispatch, Step};

impl Dispatch {
    /// Starts as many deliveries as the accounts may have at once. A paused account gets none, an account that has just
    /// come back gets one, to see.
    pub(super) fn start_deliveries(&mut self) {
        let now = Instant::now();
        let routes = Arc::clone(&self.ways.routes);
        // Routes that share an account take turns, as clients do within a route.
        let mut idle = 0;
        while idle < routes.len() {
            let route = RouteId::try_from(self.turn % routes.len()).unwrap_or(0);
            let place = self.lanes.choose(routes.accounts(route), now);
            match place.is_some_and(|place| self.start_delivery(route, place, now)) {
                true => idle = 0,
                false => idle += 1,
            }
            self.turn = self.turn.wrapping_add(1) % routes.len();
        }
        self.lanes.all().for_each(|lane| lane.close_idle(now));
    }

    /// Gives the next message of a route to the account at `place`. False when there is none.
    pub(super) fn start_delivery(&mut self, route: RouteId, place: usize, now: Instant) -> bool {
        if !self.queues.has_due(route, now) && !self.may_probe(route, place, now) {
            return false;
        }
        // Before anything is judged or dated by it.
        self.look_at_clock();
        let probe = self.may_probe(route, place, now);
        let wakings = self.wakings;
        let Some(lane) = self.lanes.get(place) else { return false };
        if lane.waits_for_clock(now) {
            // Another account may not need it.
            return true;
        }
        let due = match self.recovering {
            // The order of age is known when all have been read; what has just come in need not wait for that.
            true => self.queues.take_fresh(route, now),
            false => self.queues.take_due(route, now),
        };
        let Some(mut item) = due.or_else(|| probe.then(|| self.queues.take_probe(route)).flatten()) else {
            return false;
        };
        item.early = item.turn.is_some_and(|turn| turn > now);
        let job = lane.job(wakings);
        self.take_in_hand(&item.entry);
        let (spool, ways) = (Arc::clone(&self.spool), self.ways.clone());
        self.start(async move { Step::Attempted(Box::new(deliver(job, spool, ways, item).await)) });
        true
    }

    pub(super) fn may_probe(&mut self, route: RouteId, place: usize, now: Instant) -> bool {
        let time = self.lanes.at(place).and_then(Lane::next_probe);
        time.is_some_and(|at| at <= now) && self.queues.has_probe(route)
    }

    /// When something happens by itself: a message becomes due, a pause ends, a connection has been idle too long, or a
    /// summary is to be written.
    pub(super) fn next_wake(&self) -> Option<Instant> {
        let now = Instant::now();
        let again = self.wake_again.as_ref().map(|(at, _)| *at);
        let mut times = vec![self.lanes.idle_until(), self.teller().reporter().next(), self.next_digest(), again];
        let routes = (0..self.ways.routes.len()).map(|route| RouteId::try_from(route).unwrap_or(0));
        for route in routes.filter(|route| !self.queues.is_idle(*route)) {
            let order = self.ways.routes.accounts(route);
            times.extend(order.iter().filter_map(|place| self.lanes.at(*place)).map(|lane| lane.paused_until(now)));
            if let Some(lane) = self.lanes.choose(order, now).and_then(|place| self.lanes.at(place)) {
                times.push(self.queues.next_time(route));
                times.push(lane.next_probe().filter(|_| self.queues.has_probe(route)));
            }
        }
        times.into_iter().flatten().min()
    }
}
