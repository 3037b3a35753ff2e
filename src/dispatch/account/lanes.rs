// SPDX-License-Identifier: Apache-2.0
//! All accounts in the order of the settings; selects the one for the next message of a route.

use std::time::Instant;

use super::{Lane, PauseFacts};
use crate::config::Settings;

/// The state of an account.
#[derive(Debug, Clone)]
pub struct AccountHealth {
    /// Its name.
    pub name: String,
    /// Why it sends nothing, if it is paused.
    pub pause: Option<PauseFacts>,
}

/// The lanes, in the order of the accounts.
pub struct Lanes(Vec<Lane>);

impl Lanes {
    /// A lane for each account.
    pub fn new(settings: &Settings) -> Self {
        let hostname = settings.relay.hostname();
        Self(settings.accounts.iter().map(|account| Lane::new(account, &hostname)).collect())
    }

    /// The lanes of new settings. An unchanged account keeps its lane, including connections and pause: nothing
    /// has changed for its provider. The connections of the others are closed.
    pub fn renew(&mut self, settings: &Settings) {
        let hostname = settings.relay.hostname();
        let mut former = std::mem::take(&mut self.0);
        for account in &settings.accounts {
            let same = former.iter().position(|lane| lane.serves(account, &hostname));
            self.0.push(match same {
                Some(at) => former.swap_remove(at).adopt(account),
                None => Lane::new(account, &hostname),
            });
        }
        former.into_iter().for_each(Lane::close);
    }

    /// The lanes at these indexes.
    pub fn generations(&self, order: &[usize]) -> Vec<u32> {
        order.iter().filter_map(|place| self.0.get(*place)).map(Lane::generation).collect()
    }

    /// The index of the account that takes the next of `due` messages, out of `order`: the first one that is not in
    /// trouble. One whose pause is over gets a message as a test; until that is back the next account is used. A healthy
    /// account that is fully busy is waited for: the others are for failover, not for speed.
    pub fn choose(&self, order: &[usize], due: usize, now: Instant) -> Option<usize> {
        for place in order {
            let Some(lane) = self.0.get(*place) else { continue };
            if lane.has_room(due, now) {
                return Some(*place);
            }
            if !lane.is_in_trouble() {
                return None;
            }
        }
        None
    }

    /// The lane at an index.
    pub fn get(&mut self, place: usize) -> Option<&mut Lane> {
        self.0.get_mut(place)
    }

    /// The same, read-only.
    pub fn at(&self, place: usize) -> Option<&Lane> {
        self.0.get(place)
    }

    /// The lane that started a delivery; `None` when it was started with older settings: then its trouble does not apply
    /// here.
    pub fn of(&mut self, generation: u32) -> Option<&mut Lane> {
        self.0.iter_mut().find(|lane| lane.generation == generation)
    }

    /// All of them.
    pub fn all(&mut self) -> impl Iterator<Item = &mut Lane> {
        self.0.iter_mut()
    }

    /// When the next idle connection is to be closed.
    pub fn idle_until(&self) -> Option<Instant> {
        self.0.iter().filter_map(Lane::idle_until).min()
    }

    /// Why mail that may take the accounts in `order` is not sent now, with the name of the account tried first,
    /// if there is one; `None` when one of them works.
    pub fn paused(&self, order: &[usize], now: Instant) -> Option<(String, PauseFacts)> {
        let lanes = || order.iter().filter_map(|place| self.0.get(*place));
        if lanes().any(|lane| !lane.is_in_trouble()) {
            return None;
        }
        let pauses = lanes().filter_map(|lane| Some((lane.name(), lane.paused(now)?)));
        Some(pauses.min_by_key(|(_, pause)| pause.next).unwrap_or_else(|| (String::new(), PauseFacts::no_account())))
    }

    /// The names of the accounts at these places.
    pub fn names(&self, order: &[usize]) -> Vec<String> {
        order.iter().filter_map(|place| Some(self.0.get(*place)?.name())).collect()
    }

    /// The state of each account.
    pub fn health(&self, now: Instant) -> Vec<AccountHealth> {
        self.0.iter().map(|lane| AccountHealth { name: lane.name(), pause: lane.paused(now) }).collect()
    }
}

/// Whether mail that waited for the lanes in `before` gains nothing from those in `now`: none is new, and their
/// order is the same.
pub fn nothing_new(before: &[u32], now: &[u32]) -> bool {
    let mut before = before.iter();
    now.iter().all(|lane| before.any(|known| known == lane))
}

#[cfg(test)]
mod tests {
    use super::super::Look;
    use super::super::tests::{SETTINGS, settings};
    use super::*;
    use crate::net::{Trouble, TroubleKind};

    /// Those of two accounts that pause for a refused login.
    fn paused() -> (Lanes, Instant) {
        let (mut lanes, now) = (Lanes::new(&settings(SETTINGS)), Instant::now());
        let trouble = Trouble::new(TroubleKind::Login, "no");
        lanes.all().for_each(|lane| lane.pause(&trouble, Look::Fresh, now));
        (lanes, now)
    }

    #[test]
    fn an_account_that_is_as_it_was_keeps_its_lane_wherever_it_stands() {
        let (mut lanes, now) = paused();
        let before = lanes.generations(&[0, 1]);
        lanes.renew(&settings(SETTINGS));
        assert_eq!(lanes.generations(&[0, 1]), before);
        // Which mail it takes, and on how many connections, does not matter to its provider.
        let (head, rest) = SETTINGS.split_at(SETTINGS.find("config account 'b'").unwrap());
        let new = "config account 'n'\n option host 'n.org'\n option from 'me@n.org'\n option default '0'\n";
        lanes.renew(&settings(&format!("{head} option connections '7'\n option default '0'\n{new}{rest}")));
        let after = lanes.generations(&[0, 1, 2]);
        assert_eq!([after[0], after[2]], *before);
        let pauses: Vec<bool> = lanes.health(now).into_iter().map(|account| account.pause.is_some()).collect();
        assert_eq!(pauses, [true, false, true]);
    }

    #[test]
    fn what_the_provider_sees_makes_another_lane() {
        let stamped = |stamp| {
            let mut settings = settings(SETTINGS);
            settings.accounts[0].files = Some(stamp);
            settings
        };
        for changed in [
            settings(&SETTINGS.replace("'p'", "'q'")),
            settings(&SETTINGS.replace("a.org", "c.org")),
            settings(&SETTINGS.replace("'p'\n", "'p'\n option port '2465'\n")),
            settings(&SETTINGS.replace("'p'\n", "'p'\n option ca_file '/ca.pem'\n")),
            stamped(1),
        ] {
            let (mut lanes, now) = paused();
            let before = lanes.generations(&[0, 1]);
            lanes.renew(&changed);
            let after = lanes.generations(&[0, 1]);
            assert!(after[0] != before[0] && after[1] == before[1], "{before:?} {after:?}");
            assert!(lanes.at(0).unwrap().paused(now).is_none());
        }
        let (mut lanes, _) = paused();
        let before = lanes.generations(&[0, 1]);
        let text = SETTINGS.to_string() + "config relay\n option hostname 'other.example'\n";
        lanes.renew(&settings(&text));
        assert!(lanes.generations(&[0, 1]).iter().all(|lane| !before.contains(lane)));
    }

    #[test]
    fn what_mail_may_hope_for() {
        for (before, now, nothing) in [
            (&[1, 2][..], &[1, 2][..], true),
            (&[1, 2], &[2], true),
            (&[1, 2], &[], true),
            (&[1, 2], &[2, 1], false),
            (&[1, 2], &[1, 3], false),
            (&[1], &[1, 2], false),
            (&[], &[1], false),
        ] {
            assert_eq!(nothing_new(before, now), nothing, "{before:?} {now:?}");
        }
    }
}
