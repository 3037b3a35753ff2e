//! How messages get to their place: new ones, those of an earlier run, those that a task gives back, and all of them when
//! the settings have changed.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::delivery::Ways;
use super::lanes::nothing_new;
use super::routes::RouteId;
use super::{Dispatch, Placed, Step};
use crate::queue::schedule::backoff;
use crate::queue::{Entry, Item, Meta, Schedule, State, blocking};
use crate::report::Event;
use crate::system::clock;

/// Messages that are read at a time to see which way they go.
const READ_AT_ONCE: usize = 64;

/// What stood behind the routes before they changed.
#[derive(Debug, Clone, Default)]
pub(super) struct Former {
    /// Of which settings: [`Item::routed`].
    routed: u32,
    /// The lanes of each route.
    lanes: Vec<Vec<u32>>,
}

impl Former {
    /// Whether a message that has got these lanes may as well wait for its time: those that put it off are the same.
    fn keeps(&self, item: &Item, lanes: Option<&Vec<u32>>) -> bool {
        let before = self.lanes.get(usize::from(item.route)).filter(|_| item.routed == self.routed);
        before.zip(lanes).is_some_and(|(before, lanes)| nothing_new(before, lanes))
    }
}

impl Dispatch {
    pub(super) fn arrived(&mut self, entry: Entry, meta: &Meta) {
        let now = Instant::now();
        let route = self.ways.routes.next(meta, &State::new(&meta.envelope));
        let item = Item { route, routed: self.routed, uptime: Some(clock::uptime()), ..Item::new(entry, now) };
        let item = item.resting(meta, &State::new(&meta.envelope), now);
        self.tell_what_it_waits_for(&item, meta, now);
        self.queues.add_fresh(item, now);
    }

    /// Says in the log what keeps a new message from leaving at once.
    pub(super) fn tell_what_it_waits_for(&self, item: &Item, meta: &Meta, now: Instant) {
        let (account, reason, next) = match (item.rest, &meta.marks.over) {
            (Some(rest), Some(over)) => {
                let left = rest.until.saturating_duration_since(now);
                (String::new(), over.why(meta.marks.device.as_deref().unwrap_or_default(), left), left)
            }
            _ => match self.lanes.paused(self.ways.routes.accounts(item.route), now) {
                Some((account, pause)) => (account, pause.reason, pause.next.unwrap_or_default()),
                None => return,
            },
        };
        let (id, to) = (item.entry.id.to_string(), String::new());
        Event::Deferred { id, to, account, tls: None, reason, next }.log();
    }

    /// Messages of an earlier run; `None` after the last of them.
    pub(super) fn recovered(&mut self, messages: Option<Vec<(Item, Meta, State)>>) {
        let Some(messages) = messages else {
            self.recovering = false;
            self.carry_on_digests();
            return;
        };
        let (now, relay) = (Instant::now(), self.settings.borrow().relay.clone());
        for (item, meta, state) in messages {
            // That it is tried now is the start's doing.
            let own = backoff(item.turns, 0, relay.retry_min, relay.retry_max);
            let turn = (item.turns > 0).then(|| now + own);
            let route = self.ways.routes.next(&meta, &state);
            self.replacements.found(item.entry.id, &meta);
            let item = Item { route, routed: self.routed, turn, ..item };
            if state.untold().next().is_some() {
                self.tell_earlier(item);
            } else {
                self.queues.add(item);
            }
        }
    }

    /// Failures that an earlier run did not come to tell are told now, whether an account works or not.
    fn tell_earlier(&mut self, item: Item) {
        self.take_in_hand(&item.entry);
        let settle = self.settle_unsent(Duration::ZERO);
        let (wakings, id) = (self.wakings, item.entry.id);
        self.start(
            async move { Step::Settled { id, wakings, generation: None, left: settle.tell_earlier(item).await } },
        );
    }

    /// Takes the new settings into use. What they leave as it was goes on: a reload comes with each event of the network,
    /// and providers count logins and attempts.
    pub(super) fn new_settings(&mut self) {
        let settings = self.settings.borrow_and_update().clone();
        self.spool.set_limit(settings.relay.spool_limit);
        let before = self.route_lanes();
        let ways = Ways::new(&settings);
        let same = ways.routes.sort_as(&self.ways.routes);
        self.ways = ways;
        self.lanes.renew(&settings);
        if same {
            let now = self.route_lanes();
            for ((route, before), now) in (0..).zip(&before).zip(&now) {
                if !nothing_new(before, now) {
                    self.queues.wake_route(route);
                }
            }
        } else {
            self.former = Former { routed: self.routed, lanes: before };
            self.routed = self.routed.wrapping_add(1);
            let waiting = std::mem::replace(&mut self.queues, Schedule::new(self.ways.routes.len()));
            self.put_back(waiting.into_items());
        }
        self.shorten(settings.relay.retry_max);
    }

    /// Nothing waits longer than this from now on.
    fn shorten(&mut self, longest: Duration) {
        let latest = Instant::now() + longest;
        for id in self.queues.later_than(latest) {
            if let Some((item, _)) = self.queues.take(id) {
                self.queues.put_back(Item { turn: Some(latest), ..item }, Some(latest));
            }
        }
    }

    /// The lanes behind each route.
    fn route_lanes(&self) -> Vec<Vec<u32>> {
        let routes = &self.ways.routes;
        let ids = (0..routes.len()).map(|route| RouteId::try_from(route).unwrap_or(0));
        ids.map(|route| self.lanes.generations(routes.accounts(route))).collect()
    }

    /// Reads messages once more, to see which way they go by the settings of now; some at a time, so that others can leave
    /// in between.
    pub(super) fn find_routes(&mut self, mut astray: Vec<Placed>) {
        let (spool, routes, routed) = (Arc::clone(&self.spool), Arc::clone(&self.ways.routes), self.routed);
        let (former, lanes) = (self.former.clone(), self.route_lanes());
        self.start(async move {
            let piece = astray.split_off(astray.len().saturating_sub(READ_AT_ONCE));
            let found = blocking(move || {
                let find = |(item, at): Placed| {
                    // What can't be read now is looked at when it is its turn.
                    let route = spool.open_message(&item.entry).map_or(0, |read| routes.next(&read.meta, &read.state));
                    let at = at.filter(|_| former.keeps(&item, lanes.get(usize::from(route))));
                    (Item { route, routed, ..item }, at)
                };
                Ok::<_, std::io::Error>(piece.into_iter().map(find).collect())
            });
            Step::Routed { back: found.await.unwrap_or_default(), rest: astray }
        });
    }

    pub(super) fn put_back(&mut self, back: impl IntoIterator<Item = Placed>) {
        let mut astray = Vec::new();
        for (item, at) in back {
            self.in_hand.remove(&item.entry.id);
            if item.routed == self.routed {
                self.queues.put_back(item, at);
            } else if self.ways.routes.is_single() {
                let lanes = self.lanes.generations(self.ways.routes.accounts(0));
                let at = at.filter(|_| self.former.keeps(&item, Some(&lanes)));
                self.queues.put_back(Item { route: 0, routed: self.routed, ..item }, at);
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
