// SPDX-License-Identifier: Apache-2.0
//! Converts the sections of the file to [`Settings`], with everything that is wrong or unusual about them.
//!
//! References between sections: the accounts that devices and users name, the devices and logins that routes name.
//!
//! An unknown name is a warning, not an error: the section may just have been deleted, and settings that are
//! refused leave the former ones in effect.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use log::LevelFilter;

use super::pattern::{PATTERN_FORM, Pattern};
use super::reader::{Problem, Reader, Severity};
use super::settings::{
    Account, AuthMode, Dialect, Durability, Listener, Relay, Route, Settings, TlsMode, User, default,
};
use super::stored::Passwords;
use super::uci::{Package, Section};
use super::{account, alias, device};
use crate::message::{FromPolicy, is_address};
use crate::secrets::Secret;
use crate::system::memory;

/// Keywords of `option durability`.
pub const DURABILITIES: [(&str, Durability); 3] =
    [("memory", Durability::Memory), ("deferred", Durability::Deferred), ("always", Durability::Always)];
/// Keywords of `option auth`.
pub const AUTH_MODES: [(&str, AuthMode); 4] = [
    ("ignore", AuthMode::Ignore),
    ("none", AuthMode::None),
    ("optional", AuthMode::Optional),
    ("required", AuthMode::Required),
];
/// Keywords of `option dialect`.
pub const DIALECTS: [(&str, Dialect); 2] = [("tolerant", Dialect::Tolerant), ("strict", Dialect::Strict)];
/// Keywords of `option tls`.
pub const TLS_MODES: [(&str, TlsMode); 3] =
    [("implicit", TlsMode::Implicit), ("starttls", TlsMode::StartTls), ("none", TlsMode::None)];
/// Keywords of `option from_policy`.
pub const FROM_POLICIES: [(&str, FromPolicy); 3] =
    [("account", FromPolicy::Account), ("domain", FromPolicy::Domain), ("keep", FromPolicy::Keep)];
/// Keywords of `option log_level`.
pub const LOG_LEVELS: [(&str, LevelFilter); 4] = [
    ("error", LevelFilter::Error),
    ("warning", LevelFilter::Warn),
    ("info", LevelFilter::Info),
    ("debug", LevelFilter::Debug),
];

/// Reads all sections. The settings are usable only when no finding is an error.
pub fn settings(package: &Package) -> (Settings, Vec<Problem>) {
    settings_with(package, &Passwords::default())
}

/// As [`settings`], with the stored passwords of the accounts.
pub fn settings_with(package: &Package, stored: &Passwords) -> (Settings, Vec<Problem>) {
    let mut problems = Vec::new();
    let mut relay_section: Option<&Section> = None;
    let mut listeners = Vec::new();
    let mut accounts = Vec::new();
    let mut routes = Vec::new();
    let mut users = Vec::new();
    let mut devices = Vec::new();
    let mut aliases = Vec::new();
    for section in &package.sections {
        match section.kind.as_str() {
            "relay" if relay_section.is_some() => problems.push(Problem {
                line: section.line,
                severity: Severity::Error,
                text: "duplicate section 'relay': only one is allowed".into(),
            }),
            "relay" => relay_section = Some(section),
            "listener" => listeners.extend(listener(section, &mut problems)),
            "account" => accounts.extend(account::read(section, stored, &mut problems)),
            "route" => routes.push(section),
            "user" => users.extend(user(section, &users, &mut problems)),
            "device" => devices.push((section.line, device::read(section, &mut problems))),
            "alias" => aliases.push(alias::read(section, &mut problems)),
            other => problems.push(Problem {
                line: section.line,
                severity: Severity::Warning,
                text: format!("unknown section '{other}' is ignored"),
            }),
        }
    }
    let nothing = Section { kind: "relay".into(), name: None, line: 0, options: Vec::new() };
    let relay = relay(relay_section.unwrap_or(&nothing), &mut problems);
    device::check(&devices, &mut problems);
    alias::check(&aliases, &devices, relay.admin.as_deref(), &mut problems);
    let devices = devices.into_iter().map(|(_, device)| device).collect();
    accounts
        .iter_mut()
        .filter_map(|account: &mut Account| account.oauth.as_mut())
        .for_each(|oauth| oauth.secrets.clone_from(&relay.secrets));
    let mut whole = |severity, text: &str| problems.push(Problem { line: 0, severity, text: text.into() });
    if relay.enabled && listeners.is_empty() {
        whole(Severity::Warning, "no section 'listener' is enabled: no device can connect");
    }
    if routes.len() > ROUTE_LIMIT {
        whole(Severity::Error, "more than 64 sections 'route'");
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
    let routes = routes.into_iter().map(|section| route(section, &accounts, &mut problems)).collect();
    let settings = Settings { relay, listeners, users, accounts, routes, devices, aliases, left: Vec::new() };
    check(package, &settings, &mut problems);
    (settings, problems)
}

fn relay(section: &Section, problems: &mut Vec<Problem>) -> Relay {
    let mut read = Reader::new(section, problems);
    let spool = read.path("spool").unwrap_or_else(|| PathBuf::from(default::SPOOL));
    let relay = Relay {
        enabled: read.flag("enabled", true),
        hostname: host_name(&mut read, "hostname"),
        admin: address(&mut read, "admin"),
        spool_limit: read.size("spool_limit", memory::queue_limit(&spool, default::SPOOL_LIMIT), 64 << 10),
        spool,
        safe_spool: read.path("safe_spool"),
        durability: read.choice("durability", default::DURABILITY, &DURABILITIES),
        message_limit: read.size("message_limit", default::MESSAGE_LIMIT, 16 << 10),
        retry_for: read.duration("retry_for", default::RETRY_FOR, Duration::from_secs(10)),
        retry_min: read.duration("retry_min", default::RETRY_MIN, Duration::from_secs(1)),
        retry_max: read.duration("retry_max", default::RETRY_MAX, Duration::from_secs(1)),
        delay_notice: read.duration("delay_notice", default::DELAY_NOTICE, Duration::ZERO),
        notify_boot: read.flag("notify_boot", false),
        hook: match read.text("hook").as_deref() {
            Some("none") => None,
            program => Some(PathBuf::from(program.unwrap_or(default::HOOK))),
        },
        secrets: read.path("secrets").unwrap_or_else(|| PathBuf::from(default::SECRETS)),
        user: read.text("user").unwrap_or_else(|| default::USER.into()),
        jail: read.flag("jail", true),
        log_level: read.choice("log_level", default::LOG_LEVEL, &LOG_LEVELS),
    };
    if relay.hook.as_ref().is_some_and(|path| !path.is_absolute()) {
        read.error("hook", "option hook must be an absolute path, or 'none'");
    }
    if relay.user == "root" {
        let line = read.line();
        let text = "user 'root': a vulnerability in the gateway gives full control of the router; remove the option";
        read.problem(Severity::Note, line, text);
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

/// A host name for EHLO: no spaces and nothing that ends a command early.
fn host_name(read: &mut Reader, name: &'static str) -> Option<String> {
    let text = read.text(name)?;
    let fine = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_' | b':' | b'[' | b']');
    if text.len() > 255 || !text.bytes().all(fine) {
        read.error(name, format!("option {name} '{text}' is not a host name"));
    }
    Some(text)
}

fn address(read: &mut Reader, name: &'static str) -> Option<String> {
    let text = read.text(name)?;
    if !is_address(&text) {
        read.error(name, format!("option {name} '{text}' is not a mail address such as me@example.com"));
    }
    Some(text)
}

fn listener(section: &Section, problems: &mut Vec<Problem>) -> Option<Listener> {
    let mut read = Reader::new(section, problems);
    let enabled = read.flag("enabled", true);
    let mut addresses: Vec<IpAddr> = Vec::new();
    for text in read.list("address") {
        match text.parse() {
            Ok(address) => addresses.push(address),
            Err(_) => read.error("address", format!("list address '{text}' is not an IP address")),
        }
    }
    let mut allow: Vec<IpNet> = Vec::new();
    for text in read.list("allow") {
        match network(&text) {
            Some(net) => {
                if net.prefix_len() == 0 {
                    let text = format!("list allow '{net}' allows anyone on the internet to send through your account");
                    read.warn("allow", text);
                }
                allow.push(net);
            }
            None => read.error("allow", format!("list allow '{text}' is not a network such as 192.168.1.0/24")),
        }
    }
    let listener = Listener {
        name: section.name.clone().unwrap_or_default(),
        interfaces: read.list("interface"),
        addresses,
        port: read.port("port", default::LISTENER_PORT, 0),
        tls: read.choice("tls", default::LISTENER_TLS, &TLS_MODES),
        certificate: read.path("certificate"),
        key: read.path("key"),
        auth: read.choice("auth", default::AUTH, &AUTH_MODES),
        dialect: read.choice("dialect", default::DIALECT, &DIALECTS),
        allow,
        max_sessions: read.number("max_sessions", default::MAX_SESSIONS, 1..=10_000),
        max_sessions_per_client: read.number("max_sessions_per_client", default::MAX_SESSIONS_PER_CLIENT, 1..=10_000),
        max_recipients: read.number("max_recipients", default::MAX_RECIPIENTS, 1..=1_000),
        timeout: read.duration("timeout", default::TIMEOUT, Duration::from_secs(1)),
    };
    if listener.certificate.is_some() != listener.key.is_some() {
        read.error("certificate", "options certificate and key belong together: set both or none");
    }
    if enabled && listener.interfaces.is_empty() && listener.addresses.is_empty() {
        let line = read.line();
        read.problem(Severity::Error, line, "listener without interface and without address: nothing to listen on");
    }
    read.finish();
    enabled.then_some(listener)
}

/// A login of a device; `known` are the logins before it.
fn user(section: &Section, known: &[User], problems: &mut Vec<Problem>) -> Option<User> {
    let mut read = Reader::new(section, problems);
    let enabled = read.flag("enabled", true);
    let user = User {
        section: section.name.clone().unwrap_or_default(),
        username: read.text("username").or(section.name.clone()).unwrap_or_default(),
        password: Secret::new(read.text("password").unwrap_or_default()),
        senders: read.list("sender"),
        accounts: read.list("account"),
    };
    for sender in &user.senders {
        // A domain is valid if it forms an address with a name in front.
        if !is_address(sender) && !is_address(&format!("x@{sender}")) {
            read.error("sender", format!("list sender '{sender}' is neither a mail address nor a domain"));
        }
    }
    let line = read.line();
    if user.username.is_empty() {
        read.problem(Severity::Error, line, "a user needs a name: write config user 'camera' or option username");
    } else if known.iter().any(|other| other.username == user.username) {
        read.error("username", format!("duplicate user '{}'", user.username));
    }
    if enabled && user.password.is_empty() {
        let text = format!("user '{}' has no password: set option password", user.username);
        read.problem(Severity::Error, line, text);
    }
    read.finish();
    enabled.then_some(user)
}

/// Maximum number of routes: each has a schedule of its own.
const ROUTE_LIMIT: usize = 64;

fn route(section: &Section, accounts: &[Account], problems: &mut Vec<Problem>) -> Route {
    let mut read = Reader::new(section, problems);
    let names = read.list("account");
    let used = |name: &String| accounts.iter().any(|account| account.name == *name);
    for name in names.iter().filter(|name| !used(name)) {
        let waits = if names.iter().any(used) { "" } else { "; mail of this route stays in the queue" };
        read.warn("account", format!("list account '{name}': no enabled account has this name{waits}"));
    }
    if names.is_empty() {
        let line = read.line();
        read.problem(Severity::Error, line, "a route needs list account: the accounts that its mail is sent through");
    }
    let clients = read.each("client", "an address or a network", network);
    let route = Route {
        accounts: names,
        senders: read.each("sender", PATTERN_FORM, Pattern::parse),
        recipients: read.each("recipient", PATTERN_FORM, Pattern::parse),
        clients,
        logins: read.list("login"),
        devices: read.list("device"),
    };
    read.finish();
    route
}

fn network(text: &str) -> Option<IpNet> {
    text.parse::<IpNet>().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from)).map(|net| net.trunc())
}

/// Finds unknown names.
pub(super) fn check(package: &Package, settings: &Settings, problems: &mut Vec<Problem>) {
    let names = |kind: &str| package.of_kind(kind).filter_map(|section| section.name.clone()).collect::<Vec<String>>();
    let (accounts, devices) = (names("account"), names("device"));
    for section in ["device", "user"].iter().flat_map(|kind| package.of_kind(kind)) {
        let mut read = Reader::new(section, problems);
        let named = read.list("account");
        for name in &named {
            let used = settings.accounts.iter().any(|account| account.name == *name);
            if !accounts.contains(name) {
                let whose = section.name.as_deref().unwrap_or_default();
                let text = format!(
                    "account '{name}' is not the name of a section 'account': mail of '{whose}' cannot be sent through it"
                );
                read.warn("account", text);
            } else if !used {
                let whose = section.name.as_deref().unwrap_or_default();
                let text = format!("account '{name}' is not enabled: mail of '{whose}' cannot be sent through it");
                read.warn("account", text);
            }
        }
    }
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
