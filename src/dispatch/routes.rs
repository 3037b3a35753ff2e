//! Which accounts a message may leave through, in which order.
//!
//! All messages with the same answer share a route. The usual case is a single route: every account, in the order of the
//! settings.

use ipnet::IpNet;

use crate::config::{Account, Route, Settings};
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
    let any = |patterns: &[String], text: &str| {
        patterns.is_empty() || patterns.iter().any(|pattern| matches(pattern.as_bytes(), text.as_bytes()))
    };
    any(&rule.senders, &meta.envelope.from)
        && any(&rule.recipients, recipient)
        && comes_from(&rule.clients, &meta.client)
}

fn comes_from(nets: &[IpNet], client: &str) -> bool {
    let ip: Option<std::net::IpAddr> = client.parse().ok();
    nets.is_empty() || ip.is_some_and(|ip| nets.iter().any(|net| net.contains(&ip)))
}

/// Whether `text` is what `pattern` says: `*` stands for anything, upper and lower case are the same. Takes time in
/// proportion to the product of the lengths at most.
pub fn matches(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while let Some(byte) = text.get(t) {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, t));
                p += 1;
            }
            Some(wanted) if wanted.eq_ignore_ascii_case(byte) => {
                p += 1;
                t += 1;
            }
            _ => match star {
                // The last star takes one byte more.
                Some((at, taken)) => {
                    star = Some((at, taken + 1));
                    p = at + 1;
                    t = taken + 1;
                }
                None => return false,
            },
        }
    }
    pattern.get(p..).is_some_and(|rest| rest.iter().all(|byte| *byte == b'*'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn patterns_are_read_as_people_mean_them() {
        for (pattern, text) in [
            ("*", ""),
            ("*@example.com", "Ops@Example.COM"),
            ("plc*@*", "plc7@a.b"),
            ("a@b", "A@B"),
            ("*a*a*b", "xaayab"),
            ("**", "x"),
        ] {
            assert!(matches(pattern.as_bytes(), text.as_bytes()), "{pattern} {text}");
        }
        for (pattern, text) in
            [("", "a"), ("*@example.com", "a@example.com.evil"), ("a*b", "a"), ("a", "ab"), ("*a", "b")]
        {
            assert!(!matches(pattern.as_bytes(), text.as_bytes()), "{pattern} {text}");
        }
    }

    proptest! {
        #[test]
        fn what_stands_for_a_star_may_be_anything(head in "[a-z]{0,5}", middle in ".{0,20}", tail in "[a-z]{0,5}") {
            let pattern = format!("{head}*{tail}");
            let text = format!("{head}{middle}{tail}");
            prop_assert!(matches(pattern.as_bytes(), text.as_bytes()));
        }

        #[test]
        fn no_pattern_takes_for_ever(pattern in "[*ab]{0,40}", text in "[ab]{0,200}") {
            let _ = matches(pattern.as_bytes(), text.as_bytes());
        }
    }
}
