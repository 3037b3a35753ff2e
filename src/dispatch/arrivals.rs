//! How messages get to their place: new ones, those of an earlier run, those that a task gives back, and all of them when
//! the settings have changed.

use std::sync::Arc;
use std::time::Instant;

use super::delivery::Ways;
use super::lanes::Lanes;
use super::queues::Queues;
use super::{Dispatch, Step};
use crate::queue::Item;
use crate::queue::{Entry, Meta, State, blocking};
use crate::report::Event;
use crate::system::clock;

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
                Some((account, pause)) => (account, pause.reason, pause.next),
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
        for (item, meta, state) in messages {
            let route = self.ways.routes.next(&meta, &state);
            self.replacements.found(item.entry.id, &meta);
            self.queues.add(Item { route, routed: self.routed, ..item });
        }
    }

    pub(super) fn new_settings(&mut self) {
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
    pub(super) fn find_routes(&mut self, items: Vec<Item>) {
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

    pub(super) fn put_back(&mut self, back: Vec<(Item, Option<Instant>)>) {
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
}
