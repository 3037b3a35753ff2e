// SPDX-License-Identifier: Apache-2.0
//! Prints settings as a UCI file: complete, with defaults filled in and secrets masked.

use super::alias::Alias;
use super::device::{Device, OVER_RATES, OverRate};
use super::load::{AUTH_MODES, DIALECTS, DURABILITIES, FROM_POLICIES, LOG_LEVELS, TLS_MODES};
use super::oauth::ISSUERS;
use super::settings::{Account, Listener, Relay, Route, Settings, User};
use super::uci::{self, Opt, Package, Section, Value};
use super::units;
use crate::secrets::Secret;

/// Builds one section; empty values are omitted, since UCI cannot store them.
struct Writer(Section);

impl Writer {
    fn new(kind: &str, name: &str) -> Self {
        let name = (!name.is_empty()).then(|| name.to_string());
        Self(Section { kind: kind.into(), name, line: 0, options: Vec::new() })
    }

    fn option(mut self, name: &str, value: impl ToString) -> Self {
        let value = value.to_string();
        if !value.is_empty() {
            self.0.options.push(Opt { name: name.into(), value: Value::One(value.into_bytes()), line: 0 });
        }
        self
    }

    fn list<T: ToString>(mut self, name: &str, values: &[T]) -> Self {
        if !values.is_empty() {
            let values = values.iter().map(|v| v.to_string().into_bytes()).collect();
            self.0.options.push(Opt { name: name.into(), value: Value::Many(values), line: 0 });
        }
        self
    }
}

fn flag(value: bool) -> &'static str {
    if value { "1" } else { "0" }
}

fn word<T: PartialEq>(words: &[(&'static str, T)], value: &T) -> &'static str {
    words.iter().find(|(_, v)| v == value).map_or("", |(w, _)| w)
}

fn relay(relay: &Relay) -> Section {
    let path = |p: &std::path::Path| p.display().to_string();
    Writer::new("relay", "main")
        .option("enabled", flag(relay.enabled))
        .option("hostname", relay.hostname())
        .option("admin", relay.admin.as_deref().unwrap_or_default())
        .option("spool", path(&relay.spool))
        .option("safe_spool", relay.safe_spool.as_deref().map(path).unwrap_or_default())
        .option("durability", word(&DURABILITIES, &relay.durability))
        .option("spool_limit", units::format_size(relay.spool_limit))
        .option("message_limit", units::format_size(relay.message_limit))
        .option("retry_for", units::format_duration(relay.retry_for))
        .option("retry_min", units::format_duration(relay.retry_min))
        .option("retry_max", units::format_duration(relay.retry_max))
        .option("delay_notice", units::format_duration(relay.delay_notice))
        .option("notify_boot", flag(relay.notify_boot))
        .option("hook", relay.hook.as_deref().map_or("none".into(), path))
        .option("secrets", path(&relay.secrets))
        .option("user", &relay.user)
        .option("jail", flag(relay.jail))
        .option("log_level", word(&LOG_LEVELS, &relay.log_level))
        .0
}

fn listener(listener: &Listener) -> Section {
    Writer::new("listener", &listener.name)
        .option("enabled", flag(true))
        .list("interface", &listener.interfaces)
        .list("address", &listener.addresses)
        .option("port", listener.port)
        .option("tls", word(&TLS_MODES, &listener.tls))
        .option("certificate", optional_path(listener.certificate.as_deref()))
        .option("key", optional_path(listener.key.as_deref()))
        .option("auth", word(&AUTH_MODES, &listener.auth))
        .option("dialect", word(&DIALECTS, &listener.dialect))
        .list("allow", &listener.allow)
        .option("max_sessions", listener.max_sessions)
        .option("max_sessions_per_client", listener.max_sessions_per_client)
        .option("max_recipients", listener.max_recipients)
        .option("timeout", units::format_duration(listener.timeout))
        .0
}

fn optional_path(path: Option<&std::path::Path>) -> String {
    path.map(|path| path.display().to_string()).unwrap_or_default()
}

fn user(user: &User) -> Section {
    Writer::new("user", &user.section)
        .option("enabled", flag(true))
        .option("username", &user.username)
        .option("password", &user.password)
        .list("sender", &user.senders)
        .list("account", &user.accounts)
        .0
}

fn account(account: &Account) -> Section {
    let fingerprint: Vec<String> = account.fingerprint.iter().flatten().map(|byte| format!("{byte:02X}")).collect();
    // The preset's name is omitted: its values are written out, and would be applied twice.
    let writer = Writer::new("account", &account.name)
        .option("enabled", flag(true))
        .option("provider", "custom")
        .option("host", &account.host)
        .option("port", account.port)
        .option("tls", word(&TLS_MODES, &account.tls))
        .option("verify", flag(account.verify))
        .option("ca_file", account.ca_file.as_ref().map(|p| p.display().to_string()).unwrap_or_default())
        .option("fingerprint", fingerprint.join(":"))
        .option("username", account.shown_username())
        .option("password", mask(&account.password))
        .option("from", &account.from)
        .option("from_policy", word(&FROM_POLICIES, &account.from_policy))
        .option("default", flag(account.general))
        .option("null_sender", flag(account.null_sender))
        .option("connections", account.connections)
        .option("timeout", units::format_duration(account.timeout));
    let Some(oauth) = &account.oauth else { return writer.0 };
    writer
        .option("auth", "xoauth2")
        .option("oauth", word(&ISSUERS, &oauth.issuer))
        .option("client_id", &oauth.client_id)
        .option("client_secret", mask(&oauth.client_secret))
        .option("device_url", oauth.device_url.as_deref().unwrap_or_default())
        .option("auth_url", oauth.auth_url.as_deref().unwrap_or_default())
        .option("token_url", &oauth.token_url)
        .option("scope", &oauth.scope)
        .0
}

fn route(route: &Route) -> Section {
    Writer::new("route", "")
        .list("account", &route.accounts)
        .list("sender", &route.senders)
        .list("recipient", &route.recipients)
        .list("client", &route.clients)
        .list("login", &route.logins)
        .list("device", &route.devices)
        .0
}

fn device(device: &Device) -> Section {
    let section = Writer::new("device", &device.name)
        .list("ip", &device.ips)
        .list("mac", &device.macs)
        .list("host", &device.hosts)
        .option("name", device.display.as_deref().unwrap_or_default())
        .list("account", &device.accounts)
        .list("recipient", &device.recipients)
        .list("allow_recipient", &device.allow_recipients)
        .list("rewrite", &device.rewrites);
    // The others have no effect without a rate.
    let Some(rate) = device.rate else { return section.0 };
    let section = section.option("rate", rate).option("over_rate", word(&OVER_RATES, &device.over_rate));
    match device.over_rate {
        OverRate::Digest => section.option("digest_every", units::format_duration(device.digest_every)).0,
        OverRate::Defer | OverRate::Reject => section.0,
    }
}

fn alias(alias: &Alias) -> Section {
    Writer::new("alias", "").list("name", &alias.names).list("to", &alias.to).0
}

fn mask(secret: &Secret) -> String {
    if secret.is_empty() { String::new() } else { secret.to_string() }
}

/// The effective settings as a UCI file; passwords are masked.
pub fn show(settings: &Settings) -> String {
    let mut sections = vec![relay(&settings.relay)];
    sections.extend(settings.listeners.iter().map(listener));
    sections.extend(settings.users.iter().map(user));
    sections.extend(settings.accounts.iter().map(account));
    sections.extend(settings.routes.iter().map(route));
    sections.extend(settings.devices.iter().map(device));
    sections.extend(settings.aliases.iter().map(alias));
    String::from_utf8_lossy(&uci::export(&Package { sections })).into_owned()
}
