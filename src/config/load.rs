// SPDX-License-Identifier: Apache-2.0
//! Converts the sections of the file to [`Settings`], with everything that is wrong or unusual about them.
//!
//! References between sections: the accounts that devices and users name, the devices and logins that routes name.
//!
//! An unknown name is a warning, not an error: the section may just have been deleted, and settings that are
//! refused leave the former ones in effect.

use super::alias::{self, Alias};
use super::device::{self, Device};
use super::pattern::report_domains;
use super::reader::{Problem, Reader, Severity};
use super::settings::{Account, AuthMode, Durability, Listener, Relay, Route, Settings, User};
use super::stored::Passwords;
use super::uci::{Package, Section};
use super::{account, channel, escalation, options};
use crate::system::memory;

/// The size limit of the queue in bytes; on a RAM disk [`memory::queue_limit`] reduces it.
const SPOOL_LIMIT: u64 = 32 << 20;
/// Maximum number of routes: each has a schedule of its own.
const ROUTE_LIMIT: usize = 64;

/// Reads all sections. The settings are usable only when no finding is an error.
pub fn settings(package: &Package) -> (Settings, Vec<Problem>) {
    settings_with(package, &Passwords::default())
}

/// As [`settings`], with the stored passwords of the accounts.
pub fn settings_with(package: &Package, stored: &Passwords) -> (Settings, Vec<Problem>) {
    let mut problems = Vec::new();
    let mut relay_section: Option<&Section> = None;
    let mut settings = Settings::default();
    let (mut routes, mut devices, mut channels) = (Vec::new(), Vec::new(), Vec::new());
    let mut escalations = Vec::new();
    let mut listeners = 0;
    for section in &package.sections {
        match section.kind.as_str() {
            "relay" if relay_section.is_some() => problems.push(Problem {
                line: section.line,
                severity: Severity::Error,
                text: "duplicate section 'relay': only one is allowed".into(),
            }),
            "relay" => relay_section = Some(section),
            "listener" => {
                settings.listeners.extend(listener(section, listeners, &mut problems));
                listeners += 1;
            }
            "account" => settings.accounts.extend(account::read(section, stored, &mut problems)),
            "channel" => channels.extend(channel::read(section, stored, &mut problems)),
            "route" => routes.push(section),
            "escalation" => escalations.push(section),
            "user" => {
                let user = user(section, &settings.users, &mut problems);
                settings.users.extend(user);
            }
            "device" => devices.push((section.line, device(section, &mut problems))),
            "alias" => settings.aliases.push(alias(section, &mut problems)),
            other => problems.push(Problem {
                line: section.line,
                severity: Severity::Warning,
                text: format!("unknown section '{other}' is ignored"),
            }),
        }
    }
    // The gateway's own address is that of the first account. Two sections of one name are refused by UCI.
    settings.accounts.extend(channels);
    let nothing = Section { kind: "relay".into(), name: None, line: 0, options: Vec::new() };
    settings.relay = relay(relay_section.unwrap_or(&nothing), &mut problems);
    device::check(&devices, &mut problems);
    alias::check(&settings.aliases, &devices, settings.relay.admin.as_deref(), &mut problems);
    settings.devices = devices.into_iter().map(|(_, device)| device).collect();
    let Settings { relay, listeners, users, accounts, .. } = &mut settings;
    let tokens = accounts.iter_mut().filter_map(|account| account.oauth.as_mut());
    tokens.for_each(|oauth| oauth.secrets.clone_from(&relay.secrets));
    let mut whole = |severity, text: &str| problems.push(Problem { line: 0, severity, text: text.into() });
    if relay.enabled && listeners.is_empty() {
        whole(Severity::Warning, "no section 'listener' is enabled: no device can connect");
    }
    if routes.len() > ROUTE_LIMIT {
        whole(Severity::Error, "more than 64 sections 'route'");
    }
    if escalations.len() > ROUTE_LIMIT {
        whole(Severity::Error, "more than 64 sections 'escalation'");
    }
    if relay.enabled && !accounts.is_empty() && !accounts.iter().any(|account| account.general) {
        whole(Severity::Warning, "no account has default '1': mail that matches no route stays in the queue");
    }
    // Deleted sections go out of use, even if something still refers to them: if the settings were refused, the
    // former ones would stay in effect, with the account, listener or login that was just deleted.
    if relay.enabled && accounts.is_empty() {
        let text = "no account is enabled: mail is accepted and stays in the queue; set provider (or host), username and password of a section 'account'";
        whole(Severity::Warning, text);
    }
    if users.is_empty() && listeners.iter().any(|listener| listener.auth == AuthMode::Required) {
        whole(Severity::Warning, "auth 'required' without a section 'user': no device can send");
    }
    let routes = routes.into_iter().map(|section| route(section, accounts, &mut problems));
    let routes: Vec<Route> = routes.collect();
    let read = escalations.into_iter().filter_map(|section| escalation::read(section, accounts, &mut problems));
    settings.escalations = read.collect();
    settings.routes = routes;
    check(package, &settings, &mut problems);
    (settings, problems)
}

fn relay(section: &Section, problems: &mut Vec<Problem>) -> Relay {
    let mut read = Reader::new(section, problems);
    let mut relay = Relay::default();
    read.fill(options::relay(&mut relay));
    if relay.spool_limit == 0 {
        relay.spool_limit = memory::queue_limit(&relay.spool, SPOOL_LIMIT);
    }
    if relay.user == "root" {
        let text = "user 'root': a vulnerability in the gateway gives full control of the router; remove the option";
        read.problem(Severity::Note, text);
    }
    if relay.safe_spool.as_ref() == Some(&relay.spool) {
        read.error("safe_spool", "spool and safe_spool must be different directories");
    }
    if relay.durability == Durability::Always && relay.safe_spool.is_none() {
        let text = "durability 'always' without safe_spool: mail survives a power cut only if spool itself is on flash or disk";
        read.warn("durability", text);
    }
    if relay.retry_max < relay.retry_min {
        read.error("retry_max", "retry_max must not be shorter than retry_min");
    }
    read.finish();
    relay
}

/// `index` is its place among the sections of this kind. One without a name has UCI's name for it: sockets and certificates
/// are kept by the name.
fn listener(section: &Section, index: usize, problems: &mut Vec<Problem>) -> Option<Listener> {
    let mut read = Reader::new(section, problems);
    let enabled = read.enabled();
    let name = section.name.clone().unwrap_or_else(|| format!("@listener[{index}]"));
    let mut listener = Listener { name, ..Listener::default() };
    read.fill(options::listener(&mut listener));
    for net in listener.allow.iter().filter(|net| net.prefix_len() == 0) {
        let text = format!("list allow '{net}' allows anyone on the internet to send through your account");
        read.warn("allow", text);
    }
    if listener.certificate.is_some() != listener.key.is_some() {
        read.error("certificate", "options certificate and key belong together: set both or none");
    }
    if enabled && listener.interfaces.is_empty() && listener.addresses.is_empty() {
        read.problem(Severity::Error, "listener without interface and without address: nothing to listen on");
    }
    read.finish();
    enabled.then_some(listener)
}

/// A login of a device; `known` are the logins before it.
fn user(section: &Section, known: &[User], problems: &mut Vec<Problem>) -> Option<User> {
    let mut read = Reader::new(section, problems);
    let enabled = read.enabled();
    let name = section.name.clone().unwrap_or_default();
    let mut user = User { section: name.clone(), username: name, ..User::default() };
    read.fill(options::user(&mut user));
    if user.username.is_empty() {
        read.problem(Severity::Error, "a user needs a name: write config user 'camera' or option username");
    } else if known.iter().any(|other| other.username == user.username) {
        read.error("username", format!("duplicate user '{}'", user.username));
    }
    if enabled && user.password.is_empty() {
        let text = format!("user '{}' has no password: set option password", user.username);
        read.problem(Severity::Error, text);
    }
    read.finish();
    enabled.then_some(user)
}

fn route(section: &Section, accounts: &[Account], problems: &mut Vec<Problem>) -> Route {
    let mut read = Reader::new(section, problems);
    let mut route = Route::default();
    read.fill(options::route(&mut route));
    let used = |name: &String| accounts.iter().any(|account| account.name == *name);
    for name in route.accounts.iter().filter(|name| !used(name)) {
        let waits = if route.accounts.iter().any(used) { "" } else { "; mail of this route stays in the queue" };
        read.warn("account", format!("list account '{name}': no enabled account has this name{waits}"));
    }
    if route.accounts.is_empty() {
        read.problem(Severity::Error, "a route needs list account: the accounts that its mail is sent through");
    }
    report_domains("sender", &route.senders, &mut read);
    report_domains("recipient", &route.recipients, &mut read);
    escalation::judge(&route, accounts, &mut read);
    read.finish();
    route
}

fn device(section: &Section, problems: &mut Vec<Problem>) -> Device {
    let mut read = Reader::new(section, problems);
    let mut device = Device::new(section.name.clone().unwrap_or_default());
    read.fill(options::device(&mut device));
    device::fits_together(&device, &mut read);
    read.finish();
    device
}

fn alias(section: &Section, problems: &mut Vec<Problem>) -> Alias {
    let mut read = Reader::new(section, problems);
    let mut alias = Alias { line: section.line, ..Alias::default() };
    read.fill(options::alias(&mut alias));
    for (option, values) in [("name", &alias.names), ("to", &alias.to)] {
        if values.is_empty() {
            read.error(option, format!("alias without list {option}"));
        }
    }
    read.finish();
    alias
}

/// Finds unknown names.
pub(super) fn check(package: &Package, settings: &Settings, problems: &mut Vec<Problem>) {
    let names = |kind: &str| package.of_kind(kind).filter_map(|section| section.name.clone()).collect::<Vec<String>>();
    let (mut accounts, devices) = (names("account"), names("device"));
    accounts.extend(names("channel"));
    for section in ["device", "user"].iter().flat_map(|kind| package.of_kind(kind)) {
        let mut read = Reader::new(section, problems);
        let named = read.list("account");
        let used = |name: &&String| settings.accounts.iter().any(|account| account.name == **name);
        for name in named.iter().filter(|name| !used(name)) {
            let known = accounts.contains(name);
            let what = if known { "not enabled" } else { "not the name of a section 'account' or 'channel'" };
            let whose = section.name.as_deref().unwrap_or_default();
            read.warn("account", format!("account '{name}' is {what}: mail of '{whose}' cannot be sent through it"));
        }
    }
    escalation::check(package, settings, problems);
    let mut logins = names("user");
    logins.extend(settings.users.iter().map(|user| user.username.clone()));
    let verifies = |auth| matches!(auth, AuthMode::Optional | AuthMode::Required);
    let verified = settings.listeners.iter().any(|listener| verifies(listener.auth));
    for section in package.of_kind("route") {
        let mut read = Reader::new(section, problems);
        for name in read.list("device").iter().filter(|name| !devices.contains(name)) {
            read.warn(
                "device",
                format!("list device '{name}' is not the name of a section 'device' and matches no mail"),
            );
        }
        let named = read.list("login");
        for name in named.iter().filter(|name| !logins.contains(name)) {
            read.warn("login", format!("list login '{name}' is not the name of a section 'user' and matches no mail"));
        }
        if !named.is_empty() && !verified {
            read.warn("login", "list login matches no mail: no listener has auth 'optional' or 'required'");
        }
    }
}
