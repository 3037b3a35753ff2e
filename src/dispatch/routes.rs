// SPDX-License-Identifier: Apache-2.0
//! Which accounts a message may be sent through, in which order.
//!
//! The most specific setting applies: the accounts of its section `device`, then those of the login with which it
//! came, then the first section `route` that matches, then all accounts in configuration order.
//!
//! All messages with the same result share a route. The usual case is a single one.

use std::time::Duration;

use ipnet::IpNet;

use crate::config::{Account, Escalation, Pattern, Route, Settings, User};
use crate::message::is_address;
use crate::queue::{Meta, State};

/// Number of a route: [`Item::route`](crate::queue::Item::route).
pub type RouteId = u16;

/// All routes of the settings.
#[derive(Debug, Default)]
pub struct Routes {
    /// The first that matches applies.
    rules: Vec<Rule>,
    /// Indexes in the list of accounts, by route. The first route is for mail that no rule matches.
    accounts: Vec<Vec<usize>>,
    /// The route without channels that notifications take instead, by route.
    notices: Vec<RouteId>,
    /// The routes of the steps of escalations, by the name of their account. No other mail takes them.
    steps: Vec<(String, RouteId)>,
    /// Which routes have an account for mail.
    mail: Vec<bool>,
    /// The sections `escalation`.
    alarms: Vec<Escalation>,
    /// Whether a message may have to be looked at again at some time.
    timed: bool,
}

/// A section with the routes of its mail.
#[derive(Debug, Clone, PartialEq)]
struct Rule {
    section: Route,
    way: Way,
}

/// The routes that a recipient may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Way {
    /// Until [`Self::after`]; `None`: it may not leave before.
    pub early: Option<RouteId>,
    /// From then on.
    pub late: RouteId,
    /// How long.
    pub after: Duration,
}

impl Way {
    fn at_once(route: RouteId) -> Self {
        Self { early: Some(route), late: route, after: Duration::ZERO }
    }
}

impl Routes {
    /// The routes of `settings`.
    pub fn new(settings: &Settings) -> Self {
        let place = |name: &String| settings.accounts.iter().position(|account| account.name == *name);
        let general = |(at, account): (usize, &Account)| account.general.then_some(at);
        let mut accounts = vec![settings.accounts.iter().enumerate().filter_map(general).collect::<Vec<_>>()];
        let mut rules = Vec::new();
        let is_mail = |at: &usize| settings.accounts.get(*at).is_some_and(|account| account.channel.is_none());
        for rule in rules_of(settings) {
            let places: Vec<usize> = rule.accounts.iter().filter_map(place).collect();
            let way = if rule.after.is_zero() {
                Way::at_once(route_of(&mut accounts, places))
            } else {
                // What has not left by mail takes the channels then, also if its account works and only defers it. If
                // there is only one kind, it waits for it.
                let (mail, mut late): (Vec<usize>, Vec<usize>) = places.into_iter().partition(is_mail);
                let mixed = !mail.is_empty() && !late.is_empty();
                late.extend(&mail);
                let late = route_of(&mut accounts, late);
                Way { early: mixed.then(|| route_of(&mut accounts, mail)), late, after: rule.after }
            };
            rules.push(Rule { section: rule, way });
        }
        // That a channel fails is not reported by a channel: this could go on forever.
        let mut notices = Vec::new();
        for route in 0..accounts.len() {
            let mail = |places: &Vec<usize>| places.iter().copied().filter(is_mail).collect::<Vec<usize>>();
            let own = accounts.get(route).map(mail).filter(|places| !places.is_empty());
            let places = own.or_else(|| accounts.first().map(mail)).unwrap_or_default();
            notices.push(route_of(&mut accounts, places));
        }
        let mut steps: Vec<(String, RouteId)> = Vec::new();
        for name in settings.escalations.iter().flat_map(|section| &section.accounts) {
            let known = steps.iter().any(|(known, _)| known == name);
            if let Some(place) = place(name).filter(|_| !known) {
                // There are no more of them than accounts.
                steps.push((name.clone(), RouteId::try_from(accounts.len()).unwrap_or(0)));
                accounts.push(vec![place]);
            }
        }
        let alarms = settings.escalations.clone();
        let timed = !steps.is_empty() || rules.iter().any(|rule| !rule.way.after.is_zero());
        let mail = accounts.iter().map(|places| places.iter().any(is_mail)).collect();
        Self { rules, accounts, notices, steps, mail, alarms, timed }
    }

    /// Whether a message may have a [`Plan`](crate::queue::Plan).
    pub fn are_timed(&self) -> bool {
        self.timed
    }

    /// Whether a route is one of [`Self::step`].
    pub fn is_step(&self, route: RouteId) -> bool {
        self.steps.iter().any(|(_, known)| *known == route)
    }

    /// Whether a route has an account for mail.
    pub fn is_mail(&self, route: RouteId) -> bool {
        self.mail.get(usize::from(route)).copied().unwrap_or(true)
    }

    /// The section `escalation` of a message.
    pub fn alarm(&self, meta: &Meta) -> Option<&Escalation> {
        let name = meta.marks.alarm.as_ref()?;
        self.alarms.iter().find(|section| section.name == *name)
    }

    /// The route of the steps of this account.
    pub fn step(&self, account: &str) -> Option<RouteId> {
        self.steps.iter().find(|(name, _)| name == account).map(|(_, route)| *route)
    }

    /// Whether every message has the same [`RouteId`] in these as in `others`, whatever accounts are behind it.
    pub fn sort_as(&self, others: &Self) -> bool {
        let same = self.rules == others.rules && self.notices == others.notices;
        let same = same && self.steps == others.steps && self.alarms == others.alarms;
        same && self.accounts.len() == others.accounts.len()
    }

    /// Whether all mail takes the same route, so that no message has to be checked.
    pub fn is_single(&self) -> bool {
        self.accounts.len() <= 1 && !self.timed
    }

    /// How many routes there are.
    pub fn len(&self) -> usize {
        self.accounts.len()
    }

    /// Indexes of the accounts of a route in the list of accounts, first choice first.
    pub fn accounts(&self, route: RouteId) -> &[usize] {
        self.accounts.get(usize::from(route)).map_or(&[], Vec::as_slice)
    }

    /// The From address of the gateway's own mail for each route: that of its first account.
    pub fn addresses(&self, settings: &Settings) -> Vec<String> {
        let own = || settings.own_address(&settings.relay.hostname());
        let account = |places: &Vec<usize>| places.first().and_then(|place| settings.accounts.get(*place));
        let from = |account: &Account| Some(account.from.clone()).filter(|from| is_address(from));
        self.accounts.iter().map(|places| account(places).and_then(from).unwrap_or_else(own)).collect()
    }

    /// The routes of a message for one of its recipients: those of the first rule that matches.
    pub fn way(&self, meta: &Meta, recipient: &str) -> Way {
        let found = self.rules.iter().find(|rule| fits(&rule.section, meta, recipient));
        let way = found.map_or(Way::at_once(0), |rule| rule.way);
        match meta.notice {
            true => Way::at_once(self.notices.get(usize::from(way.late)).copied().unwrap_or(way.late)),
            false => way,
        }
    }

    /// The route that it may take in the end.
    pub fn of(&self, meta: &Meta, recipient: &str) -> RouteId {
        self.way(meta, recipient).late
    }

    /// The route of the first recipient that is tried, in the end; of a message that is held, of the first pending one.
    pub fn next(&self, meta: &Meta, state: &State) -> RouteId {
        if self.is_single() {
            return 0;
        }
        let next = state.to_try().next().or_else(|| state.waiting().next());
        next.map_or(0, |(_, recipient)| self.of(meta, &recipient.address))
    }
}

/// The route that has these accounts, which is added if it is new.
fn route_of(routes: &mut Vec<Vec<usize>>, places: Vec<usize>) -> RouteId {
    let known = routes.iter().position(|known| *known == places);
    let id = known.unwrap_or_else(|| {
        routes.push(places);
        routes.len() - 1
    });
    // There cannot be more: each of them has its section in the settings.
    RouteId::try_from(id).unwrap_or(0)
}

/// The sections as rules, in the order in which they apply.
fn rules_of(settings: &Settings) -> Vec<Route> {
    let used = |name: &String| settings.accounts.iter().any(|account| account.name == *name);
    // Mail of a device whose accounts are all disabled is routed like all other mail.
    let usable = |accounts: &Vec<String>| accounts.iter().any(used);
    let devices = settings.devices.iter().filter(|device| usable(&device.accounts)).map(|device| Route {
        accounts: device.accounts.clone(),
        devices: vec![device.name.clone()],
        ..Route::default()
    });
    let users = settings.users.iter().filter(|user| usable(&user.accounts)).map(|user| Route {
        accounts: user.accounts.clone(),
        logins: vec![user.username.clone()],
        ..Route::default()
    });
    // Messages contain the names of logins, not of their sections.
    let named = |login: &String| {
        let is_meant = |user: &&User| user.section == *login || user.username == *login;
        settings.users.iter().filter(is_meant).map(|user| user.username.clone()).collect::<Vec<_>>()
    };
    let routes = settings.routes.iter().map(|route| {
        let mut logins: Vec<String> = route.logins.iter().flat_map(named).collect();
        if logins.is_empty() && !route.logins.is_empty() {
            // All of them are disabled: no mail matches.
            logins.clone_from(&route.logins);
        }
        Route { logins, ..route.clone() }
    });
    devices.chain(users).chain(routes).collect()
}

fn fits(rule: &Route, meta: &Meta, recipient: &str) -> bool {
    let any =
        |patterns: &[Pattern], text: &str| patterns.is_empty() || patterns.iter().any(|pattern| pattern.matches(text));
    any(&rule.senders, &meta.envelope.from)
        && any(&rule.recipients, recipient)
        && comes_from(&rule.clients, &meta.client)
        && is_one_of(&rule.devices, meta.marks.device.as_ref())
        && is_one_of(&rule.logins, meta.marks.login.as_ref())
}

fn is_one_of(names: &[String], name: Option<&String>) -> bool {
    names.is_empty() || name.is_some_and(|name| names.contains(name))
}

fn comes_from(nets: &[IpNet], client: &str) -> bool {
    let ip: Option<std::net::IpAddr> = client.parse().ok();
    nets.is_empty() || ip.is_some_and(|ip| nets.iter().any(|net| net.contains(&ip)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{load, uci};
    use crate::message::{BodyForm, Encode, Envelope};
    use crate::queue::Marks;

    const SETTINGS: &str = "
config account 'a'\n option host 'x.org'\n option tls 'none'\n option from 'a@x.org'\n
config account 'b'\n option host 'x.org'\n option tls 'none'\n option from 'a@x.org'\n
config account 'c'\n option host 'x.org'\n option tls 'none'\n option from 'a@x.org'\n option default '0'\n
config account 'off'\n option host 'x.org'\n option tls 'none'\n option from 'a@x.org'\n option enabled '0'\n
config user 'cam'\n option username 'camera-7'\n option password 'x'\n option account 'b'\n
config user 'plc'\n option password 'y'\n
config device 'hall'\n list account 'c'\n list account 'b'\n
config device 'yard'\n option account 'off'\n
config device 'default'\n
config route\n option account 'c'\n list login 'plc'\n
config route\n option account 'b'\n list device 'yard'\n list recipient '*@b.org'\n
config route\n list account 'b'\n list account 'c'\n list client '10.0.0.0/8'\n";

    /// Names of the accounts for a message of this device and login, to a recipient in this domain.
    fn way(device: Option<&str>, login: Option<&str>, domain: &str, client: &str) -> String {
        let settings = load::settings(&uci::parse(SETTINGS.as_bytes()).unwrap()).0;
        let routes = Routes::new(&settings);
        let to = format!("ops@{domain}");
        let meta = meta(device, login, &to, client);
        let places = routes.accounts(routes.of(&meta, &to));
        places.iter().map(|place| settings.accounts[*place].name.clone()).collect()
    }

    fn meta(device: Option<&str>, login: Option<&str>, to: &str, client: &str) -> Meta {
        let marks = Marks { device: device.map(Into::into), login: login.map(Into::into), ..Marks::default() };
        Meta {
            envelope: Envelope { from: "plc@x.org".into(), to: vec![to.into()], smtputf8: false },
            form: BodyForm { eight_bit: false, encode: Encode::Verbatim },
            arrived: 0,
            client: client.into(),
            notice: false,
            undated: None,
            marks,
        }
    }

    #[test]
    fn notifications_take_no_channel() {
        let channel = "config channel 'phone'\n option service 'ntfy'\n option to 'x'\n";
        let mail = "config account 'a'\n option host 'h'\n option from 'a@x.org'\n";
        let rules = "config route\n list account 'phone'\n list recipient 'p@x.org'\n\
                     config route\n list account 'phone'\n list account 'b'\n list recipient 'q@x.org'\n";
        let other = mail.replace("'a'", "'b'") + " option default '0'\n";
        let text = format!("{channel}{mail}{other}{rules}");
        let names = |text: &str, to: &str, notice: bool| {
            let settings = load::settings(&uci::parse(text.as_bytes()).unwrap()).0;
            let routes = Routes::new(&settings);
            let meta = Meta { notice, ..meta(None, None, to, "local") };
            let places = routes.accounts(routes.of(&meta, to));
            places.iter().map(|place| settings.accounts[*place].name.clone()).collect::<Vec<_>>().join(" ")
        };
        for (to, message, notice) in [("p@x.org", "phone", "a"), ("q@x.org", "phone b", "b"), ("r@x.org", "a", "a")] {
            assert_eq!((names(&text, to, false), names(&text, to, true)), (message.into(), notice.into()), "{to}");
        }
        // Without an account there is no way for them.
        let alone = format!("{channel} option default '1'\n");
        assert_eq!((names(&alone, "p@x.org", false), names(&alone, "p@x.org", true)), ("phone".into(), String::new()));
    }

    #[test]
    fn what_is_nearest_to_the_mail_counts() {
        for (device, login, domain, client, expected) in [
            (None, None, "x.org", "192.168.1.1", "ab"),
            (None, None, "x.org", "10.0.0.7", "bc"),
            (None, None, "x.org", "local", "ab"),
            // The device takes precedence over its login, and that over routes.
            (Some("hall"), Some("camera-7"), "x.org", "10.0.0.7", "cb"),
            (Some("default"), Some("camera-7"), "x.org", "10.0.0.7", "b"),
            (Some("default"), Some("plc"), "x.org", "10.0.0.7", "c"),
            // Its account is disabled.
            (Some("yard"), None, "x.org", "192.168.1.1", "ab"),
            (Some("yard"), None, "b.org", "192.168.1.1", "b"),
            // A section that no longer exists, and the name of a section where the login has another.
            (Some("gone"), Some("cam"), "x.org", "192.168.1.1", "ab"),
        ] {
            assert_eq!(way(device, login, domain, client), expected, "{device:?} {login:?} {domain} {client}");
        }
    }
}
