// SPDX-License-Identifier: Apache-2.0
//! The table of all options: where the value of each lies in the settings, its kind and its limits. Reading and `show`
//! walk through it, and tests compare it with `docs/reference/settings.md` and the LuCI page.
//!
//! A new option needs a field in its struct, with its default there, and a line here.

use std::net::IpAddr;

use ipnet::IpNet;

use super::alias::{self, Alias};
use super::channel::Channel;
use super::device::{self, Device, OverRate, RECIPIENT_FORM, Rewrite};
use super::escalation::Escalation;
use super::pattern::{PATTERN_FORM, Pattern};
use super::reader::{Field, Options, list, texts};
use super::services::{self, TokenUse};
use super::settings::{Account, Listener, LoginMethod, OAuth, Relay, Route, Settings, User};
use super::uci::{self, Opt, Package, Section};
use crate::message::{is_address, is_one_address};
use crate::secrets::{MASK, Secret};
use crate::system::leases::Mac;
use Field::{Flag, Hidden, Later, Number, Optional, OptionalPath, Own, Path, Port, Program, Size, Text, Time, Word};

/// What an option with an IP address may be. Leading zeros, with which panels of devices show it, elsewhere mean octal
/// numbers.
const IP_FORM: &str = "an IP address without leading zeros, such as 192.168.1.1";
/// What an option with IP addresses or networks may be.
const NETWORK_FORM: &str = "an IP address or a network without leading zeros, such as 192.168.1.20 or 192.168.1.0/28";
/// A week in seconds.
const WEEK: u64 = 7 * 86_400;
/// A year in seconds.
const YEAR: u64 = 365 * 86_400;

/// The options of section `relay`.
pub fn relay(relay: &mut Relay) -> Options<'_> {
    vec![
        ("enabled", Flag(&mut relay.enabled)),
        ("hostname", Optional(&mut relay.hostname, "a host name", is_host_name)),
        ("admin", Optional(&mut relay.admin, "a mail address such as me@example.com", is_one_address)),
        ("spool", Path(&mut relay.spool)),
        ("safe_spool", OptionalPath(&mut relay.safe_spool)),
        ("durability", Word(&mut relay.durability)),
        ("spool_limit", Size(&mut relay.spool_limit, 64 << 10)),
        ("message_limit", Size(&mut relay.message_limit, 16 << 10)),
        ("retry_for", Time(&mut relay.retry_for, 10, u64::MAX)),
        ("retry_min", Time(&mut relay.retry_min, 1, u64::MAX)),
        ("retry_max", Time(&mut relay.retry_max, 1, u64::MAX)),
        ("delay_notice", Time(&mut relay.delay_notice, 0, u64::MAX)),
        ("notify_boot", Flag(&mut relay.notify_boot)),
        ("hook", Program(&mut relay.hook)),
        ("secrets", Path(&mut relay.secrets)),
        ("user", Text(&mut relay.user)),
        ("jail", Flag(&mut relay.jail)),
        ("log_level", Word(&mut relay.log_level)),
        ("log_subject", Flag(&mut relay.log_subject)),
    ]
}

/// The options of a section `listener`.
pub fn listener(listener: &mut Listener) -> Options<'_> {
    let address = |text: &str| text.parse::<IpAddr>().ok();
    vec![
        ("enabled", Own("1".into())),
        ("interface", texts(&mut listener.interfaces)),
        ("address", list(&mut listener.addresses, IP_FORM, address)),
        ("port", Port(&mut listener.port, 0)),
        ("tls", Word(&mut listener.tls)),
        ("certificate", OptionalPath(&mut listener.certificate)),
        ("key", OptionalPath(&mut listener.key)),
        ("auth", Word(&mut listener.auth)),
        ("dialect", Word(&mut listener.dialect)),
        ("allow", list(&mut listener.allow, NETWORK_FORM, network)),
        ("max_sessions", Number(&mut listener.max_sessions, 10_000)),
        ("max_sessions_per_client", Number(&mut listener.max_sessions_per_client, 10_000)),
        ("max_recipients", Number(&mut listener.max_recipients, 1_000)),
        ("timeout", Time(&mut listener.timeout, 1, u64::MAX)),
    ]
}

/// The options of a section `user`.
pub fn user(user: &mut User) -> Options<'_> {
    vec![
        ("enabled", Own("1".into())),
        ("username", Text(&mut user.username)),
        ("password", Hidden(&mut user.password)),
        ("sender", list(&mut user.senders, "a mail address, or a domain such as example.com", sender)),
        ("account", texts(&mut user.accounts)),
    ]
}

/// The options of a section `account`, apart from those of [`oauth`].
pub fn account(account: &mut Account) -> Options<'_> {
    let username = account.shown_username().to_string();
    let mask = |secret: &Secret| if secret.is_empty() { "" } else { MASK }.to_string();
    vec![
        ("enabled", Own("1".into())),
        // The preset's name is not shown: its values are written out, and would be applied twice.
        ("provider", Own("custom".into())),
        ("region", Own(String::new())),
        ("host", Own(account.host.clone())),
        ("port", Port(&mut account.port, 1)),
        ("tls", Word(&mut account.tls)),
        ("verify", Flag(&mut account.verify)),
        ("ca_file", OptionalPath(&mut account.ca_file)),
        ("fingerprint", Word(&mut account.fingerprint)),
        ("username", Own(username)),
        ("password", Own(mask(&account.password))),
        ("from", Own(account.from.clone())),
        ("from_policy", Word(&mut account.from_policy)),
        ("default", Flag(&mut account.general)),
        ("null_sender", Flag(&mut account.null_sender)),
        ("connections", Number(&mut account.connections, 16)),
        ("timeout", Time(&mut account.timeout, 5, 600)),
        ("daily_limit", Later),
    ]
}

/// The options of a section `account` for a login with tokens.
pub fn oauth<'a>(method: &'a mut LoginMethod, oauth: &'a mut OAuth) -> Options<'a> {
    let any = |_: &str| true;
    vec![
        ("auth", Word(method)),
        ("oauth", Word(&mut oauth.issuer)),
        ("client_id", Text(&mut oauth.client_id)),
        ("client_secret", Hidden(&mut oauth.client_secret)),
        ("device_url", Optional(&mut oauth.device_url, "", any)),
        ("auth_url", Optional(&mut oauth.auth_url, "", any)),
        ("token_url", Text(&mut oauth.token_url)),
        ("scope", Text(&mut oauth.scope)),
    ]
}

/// The options of a section `channel`.
pub fn channel<'a>(account: &'a mut Account, channel: &'a mut Channel) -> Options<'a> {
    let token = if account.password.is_empty() { "" } else { MASK };
    let url = if channel.token == TokenUse::Address { "" } else { channel.url.as_str() };
    vec![
        ("enabled", Own("1".into())),
        ("service", Own(channel.service.clone())),
        ("url", Own(url.into())),
        ("token", Own(token.into())),
        ("to", Text(&mut channel.to)),
        ("priority", Word(&mut channel.priority)),
        ("method", Word(&mut channel.method)),
        ("header", texts(&mut channel.headers)),
        ("body", Text(&mut channel.body)),
        ("content", Word(&mut channel.content)),
        ("picture", Flag(&mut channel.picture)),
        ("ca_file", OptionalPath(&mut account.ca_file)),
        ("fingerprint", Word(&mut account.fingerprint)),
        ("default", Flag(&mut account.general)),
        ("timeout", Time(&mut account.timeout, 5, 600)),
    ]
}

/// The options of a section `route`.
pub fn route(route: &mut Route) -> Options<'_> {
    vec![
        ("account", texts(&mut route.accounts)),
        ("sender", list(&mut route.senders, PATTERN_FORM, Pattern::parse)),
        ("recipient", list(&mut route.recipients, PATTERN_FORM, Pattern::parse)),
        ("client", list(&mut route.clients, NETWORK_FORM, network)),
        ("login", texts(&mut route.logins)),
        ("device", texts(&mut route.devices)),
        ("after", Time(&mut route.after, 0, WEEK)),
    ]
}

/// The options of a section `escalation`.
pub fn escalation(escalation: &mut Escalation) -> Options<'_> {
    vec![
        ("enabled", Own("1".into())),
        ("device", texts(&mut escalation.devices)),
        ("subject", texts(&mut escalation.subjects)),
        ("priority", Word(&mut escalation.priority)),
        ("after", Time(&mut escalation.after, 0, WEEK)),
        ("account", texts(&mut escalation.accounts)),
    ]
}

/// The options of a section `device`.
pub fn device(device: &mut Device) -> Options<'_> {
    let rewrite = "a pattern and a new address without a star, such as '*@plant.local ops@example.com'";
    vec![
        ("ip", list(&mut device.ips, NETWORK_FORM, network)),
        ("mac", list(&mut device.macs, "a MAC address such as 00:11:22:aa:bb:cc", Mac::parse)),
        ("host", list(&mut device.hosts, "a host name", device::host)),
        ("name", Optional(&mut device.display, "", |_| true)),
        ("account", texts(&mut device.accounts)),
        ("after", Time(&mut device.after, 0, WEEK)),
        ("recipient", list(&mut device.recipients, RECIPIENT_FORM, device::recipient)),
        ("allow_recipient", list(&mut device.allow_recipients, PATTERN_FORM, Pattern::parse)),
        ("rewrite", list(&mut device.rewrites, rewrite, Rewrite::parse)),
        ("rate", Word(&mut device.rate)),
        ("over_rate", Word(&mut device.over_rate)),
        ("digest_every", Time(&mut device.digest_every, 10, WEEK)),
        ("expect_every", Time(&mut device.expect_every, 60, YEAR)),
    ]
}

/// The options of a section `alias`.
pub fn alias(alias: &mut Alias) -> Options<'_> {
    let name = "an address, a name such as root, *@example.com, or * for all names without domain";
    vec![
        ("name", list(&mut alias.names, name, alias::name)),
        ("to", list(&mut alias.to, RECIPIENT_FORM, device::recipient)),
    ]
}

/// A host name for EHLO: no spaces and nothing that ends a command early.
fn is_host_name(text: &str) -> bool {
    let fine = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_' | b':' | b'[' | b']');
    text.len() <= 255 && text.bytes().all(fine)
}

/// A sender that a user may have: an address, or a domain, which may also be written as the pattern that it is elsewhere.
fn sender(text: &str) -> Option<String> {
    let domain = text.strip_prefix("*@").unwrap_or(text);
    // A domain is valid if it forms an address with a name in front.
    let fits = is_one_address(text) || is_address(&format!("x@{domain}"));
    fits.then(|| domain.to_string())
}

fn network(text: &str) -> Option<IpNet> {
    text.parse::<IpNet>().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from)).map(|net| net.trunc())
}

fn section(kind: &str, name: &str, options: Options) -> Section {
    let shown = |(name, field): (&str, Field)| Some(Opt { name: name.into(), value: field.shown()?, line: 0 });
    // `@listener[1]` is what UCI calls a section without a name.
    let name = (!name.is_empty() && !name.starts_with('@')).then(|| name.to_string());
    Section { kind: kind.into(), name, line: 0, options: options.into_iter().filter_map(shown).collect() }
}

/// The effective settings as a UCI file: complete, with defaults filled in and secrets masked.
pub fn show(settings: &Settings) -> String {
    let Settings { mut relay, listeners, users, accounts, routes, devices, aliases, escalations, .. } =
        settings.clone();
    relay.hostname = Some(relay.hostname());
    let mut sections = vec![section("relay", "main", self::relay(&mut relay))];
    for mut one in listeners {
        sections.push(section("listener", &one.name.clone(), listener(&mut one)));
    }
    for mut one in users {
        sections.push(section("user", &one.section.clone(), user(&mut one)));
    }
    for mut one in accounts {
        if let Some(mut channel) = one.channel.take() {
            // The request of a service is not part of the settings.
            let hidden: &[&str] = match &channel.with_picture {
                Some(_) => &["method", "header", "body", "content"],
                None if channel.service == services::CUSTOM => &["picture"],
                None => &["method", "header", "body", "content", "picture"],
            };
            let name = one.name.clone();
            let options = self::channel(&mut one, &mut channel).into_iter();
            sections.push(section("channel", &name, options.filter(|(name, _)| !hidden.contains(name)).collect()));
            continue;
        }
        let (name, mut tokens, mut method) = (one.name.clone(), one.oauth.take(), LoginMethod::Tokens);
        let mut options = account(&mut one);
        if let Some(tokens) = &mut tokens {
            options.extend(oauth(&mut method, tokens));
        }
        sections.push(section("account", &name, options));
    }
    for mut one in routes {
        let at_once = one.after.is_zero();
        let options = route(&mut one).into_iter().filter(|(name, _)| !(at_once && *name == "after")).collect();
        sections.push(section("route", "", options));
    }
    for mut one in devices {
        // What has no effect is not shown.
        let hidden: &[&str] = match (one.rate, one.over_rate) {
            (None, _) => &["over_rate", "digest_every"],
            (_, OverRate::Digest) => &[],
            _ => &["digest_every"],
        };
        let name = one.name.clone();
        let (at_once, unexpected) = (one.after.is_zero(), one.expect_every.is_zero());
        let is_hidden =
            |name: &str| hidden.contains(&name) || at_once && name == "after" || unexpected && name == "expect_every";
        let options = device(&mut one).into_iter().filter(|(name, _)| !is_hidden(name)).collect();
        sections.push(section("device", &name, options));
    }
    for mut one in escalations {
        sections.push(section("escalation", &one.name.clone(), escalation(&mut one)));
    }
    for mut one in aliases {
        sections.push(section("alias", "", alias(&mut one)));
    }
    String::from_utf8_lossy(&uci::export(&Package { sections })).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{load, reader};
    use std::collections::{BTreeMap, BTreeSet};

    /// All sections with their options and the defaults of these as `show` prints them.
    fn defaults() -> BTreeMap<&'static str, BTreeMap<&'static str, String>> {
        let text = |field: Field| field.shown().map(|value| value.text().into_owned()).unwrap_or_default();
        let options = |options: Options| options.into_iter().map(|(name, field)| (name, text(field))).collect();
        let mut accounts: BTreeMap<_, _> = options(account(&mut Account::default()));
        accounts.append(&mut options(oauth(&mut LoginMethod::Password, &mut OAuth::default())));
        BTreeMap::from([
            ("relay", options(relay(&mut Relay::default()))),
            ("listener", options(listener(&mut Listener::default()))),
            ("user", options(user(&mut User::default()))),
            ("account", accounts),
            ("channel", {
                let (mut account, mut channel) = Channel::blank();
                options(self::channel(&mut account, &mut channel))
            }),
            ("route", options(route(&mut Route::default()))),
            ("device", options(device(&mut Device::new("d".into())))),
            ("escalation", options(escalation(&mut Escalation::new("e".into())))),
            ("alias", options(alias(&mut Alias::default()))),
        ])
    }

    /// The options of each section, without those that have no effect yet.
    fn names() -> BTreeMap<&'static str, BTreeSet<&'static str>> {
        let known = |options: BTreeMap<&'static str, String>| {
            options.into_keys().filter(|name| *name != "daily_limit").collect::<BTreeSet<_>>()
        };
        defaults().into_iter().map(|(kind, options)| (kind, known(options))).collect()
    }

    /// `docs/reference/settings.md`: section, option and default.
    fn documented() -> Vec<(&'static str, &'static str, &'static str)> {
        let mut found = Vec::new();
        for part in include_str!("../../docs/reference/settings.md").split("\n## `config ").skip(1) {
            let kind = &part[..part.find(|c: char| !c.is_ascii_lowercase()).unwrap()];
            let tables = part.split("\n\n").filter(|table| table.starts_with("| option |"));
            for row in tables.flat_map(|table| table.lines().skip(2)) {
                let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
                let default = if kind == "alias" { "" } else { cells[1] };
                let names = cells[0].split('`').skip(1).step_by(2);
                found.extend(names.map(|name| (kind, name.strip_prefix("list ").unwrap_or(name), default)));
            }
        }
        found
    }

    fn grouped<'a>(options: impl Iterator<Item = (&'a str, &'a str)>) -> BTreeMap<&'a str, BTreeSet<&'a str>> {
        let mut grouped = BTreeMap::<_, BTreeSet<_>>::new();
        for (kind, name) in options {
            assert!(grouped.entry(kind).or_default().insert(name), "{kind}.{name} twice");
        }
        grouped
    }

    #[test]
    fn the_documentation_names_the_options_of_the_table_and_their_defaults() {
        assert_eq!(grouped(documented().into_iter().map(|(kind, name, _)| (kind, name))), names());
        let defaults = defaults();
        for (kind, name, default) in documented() {
            let code = default.strip_prefix('`').and_then(|code| code.strip_suffix('`'));
            if let Some(code) = code.filter(|code| !code.contains('`')) {
                assert_eq!(defaults[kind][name], code, "{kind}.{name}");
            }
        }
    }

    #[test]
    fn the_luci_page_names_the_options_of_the_table() {
        let page = include_str!("../../openwrt/luci-app-smtprelay/htdocs/luci-static/resources/smtprelay/options.js");
        let quoted = |text: &'static str| text.split('\'').next().unwrap();
        let sections = page.split("\t\t\ttype: '").skip(1);
        let options =
            sections.flat_map(|part| part.split("\t{ name: '").skip(1).map(move |name| (quoted(part), quoted(name))));
        assert_eq!(grouped(options), names());
    }

    #[test]
    fn every_option_that_is_read_stands_in_the_table_and_no_other() {
        // An option may be read only together with another one.
        let text = "config relay\n option hook '/h'\nconfig listener 'l'\n list address '::1'\n\
            config account 'a'\n option host 'h'\n option auth 'xoauth2'\n option oauth 'custom'\n\
            config device 'd'\n option rate '1/h'\nconfig route\n list account 'a'\nconfig user 'u'\n option password 'p'\nconfig alias\n\
            config channel 'c'\n option service 'custom'\nconfig escalation 'e'\n list account 'a'\n";
        reader::ASKED.take();
        load::settings(&uci::parse(text.as_bytes()).unwrap());
        let asked = reader::ASKED.take();
        let known = defaults()
            .into_iter()
            .flat_map(|(kind, options)| options.into_keys().map(move |name| (kind.to_string(), name.to_string())));
        assert_eq!(asked, known.collect::<BTreeSet<_>>());
    }
}
