//! Which accounts a message may leave through, in which order.
//!
//! All messages with the same answer share a route. The usual case is a single route: every account, in the order of the
//! settings.

use ipnet::IpNet;

use crate::config::{Account, Pattern, Route, Settings};
use crate::queue::journal::Progress;
use crate::queue::{Meta, State};

/// Number of a route: [`Item::route`](crate::queue::schedule::Item::route).
pub type RouteId = u16;

/// All routes of the settings.
#[derive(Debug, Default)]
pub struct Routes {
    rules: Vec<(Route, RouteId)>,
    /// Places in the list of accounts, by route. The first route is for what no rule names.
    accounts: Vec<Vec<usize>>,
}

impl Routes {
    /// The routes of `settings`.
    pub fn new(settings: &Settings) -> Self {
        let place = |name: &String| settings.accounts.iter().position(|account| account.name == *name);
        let general = |(at, account): (usize, &Account)| account.general.then_some(at);
        let mut accounts = vec![settings.accounts.iter().enumerate().filter_map(general).collect::<Vec<_>>()];
        let mut rules = Vec::new();
        for rule in &settings.routes {
            let places: Vec<usize> = rule.accounts.iter().filter_map(place).collect();
            let known = accounts.iter().position(|known| *known == places);
            let id = known.unwrap_or_else(|| {
                accounts.push(places);
                accounts.len() - 1
            });
            // The loader bounds the number of rules.
            rules.push((rule.clone(), RouteId::try_from(id).unwrap_or(0)));
        }
        Self { rules, accounts }
    }

    /// Whether there is only one way for everything, so that no message has to be looked at.
    pub fn is_single(&self) -> bool {
        self.accounts.len() <= 1
    }

    /// How many routes there are.
    pub fn len(&self) -> usize {
        self.accounts.len()
    }

    /// Places of the accounts of a route in the list of accounts, first choice first.
    pub fn accounts(&self, route: RouteId) -> &[usize] {
        self.accounts.get(usize::from(route)).map_or(&[], Vec::as_slice)
    }

    /// The route of a message for one of its recipients: that of the first rule that fits.
    pub fn of(&self, meta: &Meta, recipient: &str) -> RouteId {
        self.rules.iter().find(|(rule, _)| fits(rule, meta, recipient)).map_or(0, |(_, id)| *id)
    }

    /// The route of the first recipient that still waits.
    pub fn next(&self, meta: &Meta, state: &State) -> RouteId {
        if self.is_single() {
            return 0;
        }
        let waiting = state.recipients.iter().find(|recipient| recipient.progress == Progress::Waiting);
        waiting.map_or(0, |recipient| self.of(meta, &recipient.address))
    }
}

fn fits(rule: &Route, meta: &Meta, recipient: &str) -> bool {
    let any =
        |patterns: &[Pattern], text: &str| patterns.is_empty() || patterns.iter().any(|pattern| pattern.matches(text));
    any(&rule.senders, &meta.envelope.from)
        && any(&rule.recipients, recipient)
        && comes_from(&rule.clients, &meta.client)
}

fn comes_from(nets: &[IpNet], client: &str) -> bool {
    let ip: Option<std::net::IpAddr> = client.parse().ok();
    nets.is_empty() || ip.is_some_and(|ip| nets.iter().any(|net| net.contains(&ip)))
}
