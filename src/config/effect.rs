// SPDX-License-Identifier: Apache-2.0
//! When a changed option takes effect: at the next reload, or at the next start.
//!
//! Options that need a start belong to something that is opened or given up at the start: the init script sets up the
//! service and its jail, the queue is locked and opened, and the process of the hook and the user are fixed while the
//! gateway still has root. They keep their old value until then, for the whole program.

use std::path::PathBuf;

use serde_json::Value;

use super::settings::Relay;

/// The message for such an option.
pub fn sentence(names: &[&str]) -> String {
    let (option, takes) = if names.len() == 1 { ("option", "takes") } else { ("options", "take") };
    format!("a change to {option} {} {takes} effect at the next start: service smtprelay restart", names.join(", "))
}

/// Gives `new` the values of `old` where a reload cannot change them, and returns the names of these options.
pub fn keep_until_start(old: &Relay, new: &mut Relay) -> Vec<&'static str> {
    let before = values(old);
    let changed = values(new).into_iter().filter(|value| !before.contains(value)).map(|(name, _)| name).collect();
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
    use crate::config::{load, options, uci};
    use std::collections::BTreeSet;

    #[test]
    fn what_needs_a_start_keeps_its_value_and_is_named() {
        let of = |text: &str| load::settings(&uci::parse(text.as_bytes()).unwrap()).0.relay;
        let old = of("config relay\n");
        for (name, _) in values(&old) {
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

    /// Whatever the table of options has: it is used from the reload on, or it is named as waiting for a start.
    #[test]
    fn every_option_takes_effect_or_is_named() {
        const VALUES: [&str; 8] = ["0", "1", "/other", "always", "5m", "300k", "debug", "me@example.com"];
        let of = |text: &str| load::settings(&uci::parse(text.as_bytes()).unwrap()).0.relay;
        let old = of("config relay\n");
        let at_start: Vec<&str> = values(&old).into_iter().map(|(name, _)| name).collect();
        for (name, _) in options::relay(&mut old.clone()) {
            let changed = VALUES.iter().map(|value| of(&format!("config relay\n option {name} '{value}'\n")));
            let wanted = changed.into_iter().find(|new| *new != old).unwrap_or_else(|| panic!("no value for {name}"));
            let mut new = wanted.clone();
            let waits = keep_until_start(&old, &mut new);
            match at_start.contains(&name) {
                true => assert_eq!((waits, new), (vec![name], old.clone()), "{name}"),
                false => assert_eq!((waits, new), (vec![], wanted), "{name}"),
            }
        }
    }

    #[test]
    fn the_documentation_names_what_needs_a_start() {
        let docs = include_str!("../../docs/reference/settings.md");
        let paragraph = docs.split("\n\n").find(|text| text.contains("take effect at the next start")).unwrap();
        let named: BTreeSet<&str> =
            paragraph.split('`').skip(1).step_by(2).filter(|word| !word.contains(' ')).collect();
        assert_eq!(named, values(&Relay::default()).into_iter().map(|(name, _)| name).collect::<BTreeSet<_>>());
    }
}
