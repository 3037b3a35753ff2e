// SPDX-License-Identifier: Apache-2.0
//! What was counted since the program started, by account and by kind of device: for monitoring.
//!
//! A kind of device is a section `device`, never an address: the number of counters is bounded by the settings, and by
//! [`NAMES`] while settings are reloaded again and again.

use serde_json::{Map, Value};

use super::{Event, kept};

/// Names that are counted separately, of accounts and of devices.
const NAMES: usize = 128;
/// Bytes that are kept of a name.
const NAME: usize = 48;

/// Clients to which no section of their own applies.
pub(super) const OTHER: &str = "other";
/// The programs on the router.
pub(super) const LOCAL: &str = "local";

/// The number of each. Deliveries and failures are counted for each recipient, and so are their bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Sums {
    accepted: u64,
    accepted_bytes: u64,
    delivered: u64,
    delivered_bytes: u64,
    deferred: u64,
    failed: u64,
    refused: u64,
}

/// Fields that make sense for an account: it accepts nothing.
const OF_ACCOUNT: [&str; 4] = ["delivered", "delivered_bytes", "deferred", "failed"];
/// Fields that make sense for a device: a deferral does not tell whose mail it is.
const OF_DEVICE: [&str; 6] = ["accepted", "accepted_bytes", "delivered", "delivered_bytes", "failed", "refused"];
/// Those that the history does not count itself.
const OF_ALL: [&str; 3] = ["accepted_bytes", "delivered_bytes", "deferred"];

impl Sums {
    fn fields(&self) -> [(&'static str, u64); 7] {
        [
            ("accepted", self.accepted),
            ("accepted_bytes", self.accepted_bytes),
            ("delivered", self.delivered),
            ("delivered_bytes", self.delivered_bytes),
            ("deferred", self.deferred),
            ("failed", self.failed),
            ("refused", self.refused),
        ]
    }

    fn add(&mut self, other: &Self) {
        for (sum, more) in [
            (&mut self.accepted, other.accepted),
            (&mut self.accepted_bytes, other.accepted_bytes),
            (&mut self.delivered, other.delivered),
            (&mut self.delivered_bytes, other.delivered_bytes),
            (&mut self.deferred, other.deferred),
            (&mut self.failed, other.failed),
            (&mut self.refused, other.refused),
        ] {
            *sum = sum.saturating_add(more);
        }
    }

    /// Adds those of the fields that are in `names` to `object`.
    fn add_to(&self, object: &mut Map<String, Value>, names: &[&str]) {
        let chosen = self.fields().into_iter().filter(|(name, _)| names.contains(name));
        object.extend(chosen.map(|(name, count)| (name.to_string(), count.into())));
    }
}

type Named = Vec<(Box<str>, Sums)>;

/// The counters.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Tally {
    all: Sums,
    accounts: Named,
    devices: Named,
}

impl Tally {
    /// Counts an event; `device` is the kind of the client, if it has one.
    pub fn take(&mut self, event: &Event, device: Option<&str>) {
        let mut step = Sums::default();
        let account = match event {
            Event::Accepted { size, .. } => {
                (step.accepted, step.accepted_bytes) = (1, *size);
                ""
            }
            Event::Delivered { size, account, .. } => {
                (step.delivered, step.delivered_bytes) = (1, *size);
                account.as_str()
            }
            Event::Failed { account, .. } => {
                step.failed = 1;
                account.as_str()
            }
            Event::Deferred { account, planned: false, .. } => {
                step.deferred = 1;
                account.as_str()
            }
            Event::Refused { .. } | Event::Rejected { .. } => {
                step.refused = 1;
                ""
            }
            _ => return,
        };
        self.all.add(&step);
        if !account.is_empty()
            && let Some(sums) = row(&mut self.accounts, account)
        {
            sums.add(&step);
        }
        if let Some(device) = device {
            // Of the mail of devices nothing is lost for the sum.
            let known = row(&mut self.devices, device).is_some();
            if let Some(sums) = row(&mut self.devices, if known { device } else { OTHER }) {
                sums.add(&step);
            }
        }
    }

    /// Adds the counters to `counters`: of these accounts, and of these sections of devices and the rest of them.
    pub fn add_to(&self, counters: &mut Map<String, Value>, accounts: &[&str], devices: &[&str]) {
        self.all.add_to(counters, &OF_ALL);
        let devices: Vec<&str> = devices.iter().copied().chain([OTHER, LOCAL]).collect();
        counters.insert("accounts".into(), list(&self.accounts, accounts, &OF_ACCOUNT));
        counters.insert("devices".into(), list(&self.devices, &devices, &OF_DEVICE));
    }
}

/// The sums of `name`; `None` if there are too many names.
fn row<'a>(named: &'a mut Named, name: &str) -> Option<&'a mut Sums> {
    let place_of = |named: &Named, name: &str| named.iter().position(|(known, _)| **known == *name);
    // Nearly always it is known, and needs no copy.
    if let Some(place) = place_of(named, name) {
        return named.get_mut(place).map(|(_, sums)| sums);
    }
    let name = kept(name, NAME);
    let place = place_of(named, &name);
    if place.is_none() {
        // There is always room for one more of these two.
        if named.len() >= NAMES && !matches!(&*name, OTHER | LOCAL) {
            return None;
        }
        named.push((name, Sums::default()));
    }
    let place = place.unwrap_or(named.len().saturating_sub(1));
    named.get_mut(place).map(|(_, sums)| sums)
}

/// An entry for each of `names`, once: a section may be named like the rest.
fn list(named: &Named, names: &[&str], fields: &[&str]) -> Value {
    let mut entries: Vec<Value> = Vec::new();
    for (place, name) in names.iter().enumerate() {
        if names.iter().take(place).any(|before| before == name) {
            continue;
        }
        let key = kept(name, NAME);
        let sums = named.iter().find(|(known, _)| *known == key).map(|(_, sums)| *sums).unwrap_or_default();
        let mut entry = Map::new();
        entry.insert("name".into(), (*name).into());
        sums.add_to(&mut entry, fields);
        entries.push(entry.into());
    }
    entries.into()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn refused() -> Event {
        Event::Refused { client: "10.0.0.7".into(), reason: "x".into() }
    }

    fn deferred(account: &str, planned: bool) -> Event {
        Event::Deferred {
            id: "ID1".into(),
            to: "a@example.com".into(),
            account: account.into(),
            tls: None,
            reason: "450 later".into(),
            next: std::time::Duration::ZERO,
            planned,
        }
    }

    fn shown(tally: &Tally, accounts: &[&str], devices: &[&str]) -> Value {
        let mut counters = Map::new();
        tally.add_to(&mut counters, accounts, devices);
        counters.into()
    }

    #[test]
    fn what_the_settings_name_is_there_from_the_start_and_once() {
        let mut tally = Tally::default();
        let before = shown(&tally, &["gmail"], &["plc", "local"]);
        assert_eq!(
            before["accounts"],
            json!([{ "name": "gmail", "delivered": 0, "delivered_bytes": 0, "deferred": 0, "failed": 0 }])
        );
        let names: Vec<&Value> = before["devices"].as_array().unwrap().iter().map(|device| &device["name"]).collect();
        assert_eq!(names, ["plc", "local", "other"]);
        tally.take(&deferred("gmail", false), None);
        // It waits for its digest: nothing is wrong.
        tally.take(&deferred("gmail", true), None);
        tally.take(&deferred("", false), None);
        let after = shown(&tally, &["gmail"], &[]);
        assert_eq!((&after["deferred"], &after["accounts"][0]["deferred"]), (&json!(2), &json!(1)));
    }

    #[test]
    fn the_number_of_names_is_bounded_and_nothing_is_lost_for_the_sum() {
        let mut tally = Tally::default();
        for number in 0..1000 {
            tally.take(&refused(), Some(&format!("device{number}")));
            tally.take(&deferred(&format!("account{number}"), false), None);
        }
        tally.take(&refused(), Some(LOCAL));
        assert!(tally.devices.len() <= NAMES + 2 && tally.accounts.len() <= NAMES, "{tally:?}");
        let sum: u64 = tally.devices.iter().map(|(_, sums)| sums.refused).sum();
        assert_eq!((sum, tally.all.refused, tally.all.deferred), (1001, 1001, 1000));
        let shown = shown(&tally, &[], &[]);
        assert_eq!(shown["devices"][0]["refused"], json!(1000 - NAMES), "{}", shown["devices"][0]);
    }
}
