//! All accounts at work, and which of them takes the next message of a route.

use std::time::Instant;

use super::lane::{Lane, PauseFacts};
use crate::config::Settings;

/// The lanes, in the order of the accounts.
pub struct Lanes(Vec<Lane>);

impl Lanes {
    /// A lane for each account.
    pub fn new(settings: &Settings) -> Self {
        let hostname = settings.relay.hostname();
        Self(settings.accounts.iter().map(|account| Lane::new(account, &hostname)).collect())
    }

    /// The place of the account that takes the next message, of those in `order`: the first one that is not in trouble.
    /// One whose pause is over gets a message to see, and until that is back the next account goes on. A healthy account
    /// that has its hands full is waited for: the others are for trouble, not for speed.
    pub fn choose(&self, order: &[usize], now: Instant) -> Option<usize> {
        for place in order {
            let Some(lane) = self.0.get(*place) else { continue };
            if lane.has_room(now) {
                return Some(*place);
            }
            if !lane.is_in_trouble() {
                return None;
            }
        }
        None
    }

    /// The lane at a place.
    pub fn get(&mut self, place: usize) -> Option<&mut Lane> {
        self.0.get_mut(place)
    }

    /// The same, to look at.
    pub fn at(&self, place: usize) -> Option<&Lane> {
        self.0.get(place)
    }

    /// The lane that started a delivery; `None` when it did so under older settings.
    pub fn of(&mut self, generation: u32) -> Option<&mut Lane> {
        self.0.iter_mut().find(|lane| lane.is(generation))
    }

    /// All of them.
    pub fn all(&mut self) -> impl Iterator<Item = &mut Lane> {
        self.0.iter_mut()
    }

    /// When the next idle connection is to be closed.
    pub fn idle_until(&self) -> Option<Instant> {
        self.0.iter().filter_map(Lane::idle_until).min()
    }

    /// Why mail that may take the accounts in `order` does not leave now, with the name of the account that is looked at
    /// first; `None` when one of them works.
    pub fn paused(&self, order: &[usize], now: Instant) -> Option<(String, PauseFacts)> {
        let lanes = || order.iter().filter_map(|place| self.0.get(*place));
        if lanes().any(|lane| !lane.is_in_trouble()) {
            return None;
        }
        lanes().filter_map(|lane| Some((lane.name(), lane.paused(now)?))).min_by_key(|(_, pause)| pause.next)
    }

    /// Name of each account, and why it sends nothing.
    pub fn health(&self, now: Instant) -> Vec<(String, Option<PauseFacts>)> {
        self.0.iter().map(|lane| (lane.name(), lane.paused(now))).collect()
    }
}
