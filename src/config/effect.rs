// SPDX-License-Identifier: Apache-2.0
//! When a changed option takes effect: at the next reload, or at the next start.
//!
//! Every option is listed here; a test compares this with what is read. Options that need a start keep their old value
//! until then, for the whole program.

use std::path::PathBuf;

use serde_json::Value;

use super::settings::Relay;

/// When a new value takes effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// From the next reload on: immediately, or for the next session, attempt or message.
    Reload,
    /// From the next start on: it belongs to something that is opened or given up at the start.
    Start,
}

use Effect::{Reload, Start};

/// All sections with their options.
pub const OPTIONS: &[(&str, &[(&str, Effect)])] = &[
    (
        "relay",
        &[
            // The init script starts and stops the service, and sets up its jail.
            ("enabled", Start),
            ("jail", Start),
            // The queue is locked and opened at the start.
            ("spool", Start),
            ("safe_spool", Start),
            ("durability", Start),
            // The process that runs it is started while the gateway still has root.
            ("hook", Start),
            ("user", Start),
            ("hostname", Reload),
            ("admin", Reload),
            ("spool_limit", Reload),
            ("message_limit", Reload),
            ("retry_for", Reload),
            ("retry_min", Reload),
            ("retry_max", Reload),
            ("delay_notice", Reload),
            ("notify_boot", Reload),
            ("secrets", Reload),
            ("log_level", Reload),
        ],
    ),
    (
        "listener",
        &[
            ("enabled", Reload),
            ("interface", Reload),
            ("address", Reload),
            ("port", Reload),
            ("tls", Reload),
            ("certificate", Reload),
            ("key", Reload),
            ("auth", Reload),
            ("dialect", Reload),
            ("allow", Reload),
            ("max_sessions", Reload),
            ("max_sessions_per_client", Reload),
            ("max_recipients", Reload),
            ("timeout", Reload),
        ],
    ),
    (
        "account",
        &[
            ("enabled", Reload),
            ("provider", Reload),
            ("region", Reload),
            ("host", Reload),
            ("port", Reload),
            ("tls", Reload),
            ("verify", Reload),
            ("ca_file", Reload),
            ("fingerprint", Reload),
            ("username", Reload),
            ("password", Reload),
            ("auth", Reload),
            ("oauth", Reload),
            ("client_id", Reload),
            ("client_secret", Reload),
            ("device_url", Reload),
            ("auth_url", Reload),
            ("token_url", Reload),
            ("scope", Reload),
            ("from", Reload),
            ("from_policy", Reload),
            ("null_sender", Reload),
            ("default", Reload),
            ("connections", Reload),
            ("timeout", Reload),
            ("daily_limit", Reload),
        ],
    ),
    (
        "device",
        &[
            ("ip", Reload),
            ("mac", Reload),
            ("host", Reload),
            ("name", Reload),
            ("account", Reload),
            ("recipient", Reload),
            ("allow_recipient", Reload),
            ("rewrite", Reload),
            ("rate", Reload),
            ("over_rate", Reload),
            ("digest_every", Reload),
        ],
    ),
    (
        "route",
        &[
            ("account", Reload),
            ("sender", Reload),
            ("recipient", Reload),
            ("client", Reload),
            ("login", Reload),
            ("device", Reload),
        ],
    ),
    (
        "user",
        &[("enabled", Reload), ("username", Reload), ("password", Reload), ("sender", Reload), ("account", Reload)],
    ),
    ("alias", &[("name", Reload), ("to", Reload)]),
];

/// The options that require a start.
pub fn of_start() -> impl Iterator<Item = (&'static str, &'static str)> {
    let options =
        OPTIONS.iter().flat_map(|(kind, options)| options.iter().map(move |(name, effect)| (*kind, *name, *effect)));
    options.filter(|(.., effect)| *effect == Start).map(|(kind, name, _)| (kind, name))
}

/// The message for such an option.
pub fn sentence(names: &[&str]) -> String {
    let (option, takes) = if names.len() == 1 { ("option", "takes") } else { ("options", "take") };
    format!("a change to {option} {} {takes} effect at the next start: service smtprelay restart", names.join(", "))
}

/// Gives `new` the values of `old` where a reload cannot change them, and returns the names of these options.
pub fn keep_until_start(old: &Relay, new: &mut Relay) -> Vec<&'static str> {
    let changed = differences(&values(old), &values(new));
    let Relay { enabled, jail, spool, safe_spool, durability, hook, user, .. } = old.clone();
    *new = Relay { enabled, jail, spool, safe_spool, durability, hook, user, ..new.clone() };
    changed
}

/// The options that require a start with their values, for comparison.
pub fn values(relay: &Relay) -> Vec<(&'static str, String)> {
    let path = |path: &Option<PathBuf>| path.as_ref().map(|path| path.display().to_string()).unwrap_or_default();
    vec![
        ("enabled", relay.enabled.to_string()),
        ("jail", relay.jail.to_string()),
        ("spool", relay.spool.display().to_string()),
        ("safe_spool", path(&relay.safe_spool)),
        ("durability", format!("{:?}", relay.durability)),
        ("hook", path(&relay.hook)),
        ("user", relay.user.clone()),
    ]
}

/// The names of those that differ.
fn differences(old: &[(&'static str, String)], new: &[(&'static str, String)]) -> Vec<&'static str> {
    new.iter().filter(|value| !old.contains(value)).map(|(name, _)| *name).collect()
}

/// What these settings would change only at the next start of a gateway that runs with `values`; `None`: nothing.
pub fn waits(relay: &Relay, values_of_now: &Value) -> Option<String> {
    let differs = |(name, value): &(&'static str, String)| {
        values_of_now.get(*name).and_then(Value::as_str).is_some_and(|now| now != value)
    };
    let names: Vec<&str> = values(relay).iter().filter(|value| differs(value)).map(|(name, _)| *name).collect();
    (!names.is_empty()).then(|| sentence(&names))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{load, reader, uci};
    use std::collections::BTreeSet;

    #[test]
    fn every_option_that_is_read_stands_in_the_table_and_no_other() {
        // An option may be read only together with another one.
        let text = "config relay\n option hook '/h'\nconfig listener 'l'\n list address '::1'\n\
            config account 'a'\n option host 'h'\n option auth 'xoauth2'\n option oauth 'custom'\n\
            config device 'd'\n option rate '1/h'\nconfig route\n list account 'a'\nconfig user 'u'\n option password 'p'\nconfig alias\n";
        reader::ASKED.take();
        load::settings(&uci::parse(text.as_bytes()).unwrap());
        let asked = reader::ASKED.take();
        let known = OPTIONS
            .iter()
            .flat_map(|(kind, options)| options.iter().map(|(name, _)| (kind.to_string(), name.to_string())));
        assert_eq!(asked, known.collect::<BTreeSet<_>>());
    }

    #[test]
    fn what_needs_a_start_keeps_its_value_and_is_named() {
        let of = |text: &str| load::settings(&uci::parse(text.as_bytes()).unwrap()).0.relay;
        let old = of("config relay\n");
        for (_, name) in of_start() {
            let value = match name {
                "enabled" | "jail" => "0",
                "durability" => "always",
                _ => "/other",
            };
            let mut new = of(&format!("config relay\n option {name} '{value}'\n option retry_for '1h'\n"));
            assert_eq!(keep_until_start(&old, &mut new), [name]);
            assert_eq!(new, Relay { retry_for: new.retry_for, ..old.clone() }, "{name}");
            assert_eq!(keep_until_start(&old, &mut new), [""; 0]);
        }
    }

    #[test]
    fn the_documentation_names_what_needs_a_start() {
        let docs = include_str!("../../docs/reference/settings.md");
        let paragraph = docs.split("\n\n").find(|text| text.contains("take effect at the next start")).unwrap();
        let named: BTreeSet<&str> =
            paragraph.split('`').skip(1).step_by(2).filter(|word| !word.contains(' ')).collect();
        assert_eq!(named, of_start().map(|(_, name)| name).collect::<BTreeSet<_>>());
    }
}
