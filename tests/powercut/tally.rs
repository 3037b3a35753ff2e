// SPDX-License-Identifier: Apache-2.0
//! What was promised, what arrived, and how often.

use std::collections::{HashMap, HashSet};

use super::load::{Promise, text};
use super::support::log::field;
use super::support::provider::{Message, Record};

/// The books of one machine.
#[derive(Default)]
pub struct Tally {
    /// Everything that got its 250.
    pub promises: Vec<Promise>,
    /// For each cut the number of messages that the provider had seen till then.
    cuts: Vec<usize>,
    /// Cuts before which the file system had become read-only, by their place in `cuts`.
    given_up: HashSet<usize>,
    /// Ids that left the queue for good, with the number of messages that the provider had seen when that was known.
    removed: HashMap<String, usize>,
    /// Files that the gateway found damaged and put aside.
    pub set_aside: usize,
}

/// How often things came to the provider.
#[derive(Debug, Default)]
pub struct Doubled {
    /// For each cut the messages that had come to a recipient before it, and came to him again.
    pub by_cut: Vec<HashSet<String>>,
    /// Cuts before which nothing could be written down any more.
    given_up: HashSet<usize>,
}

impl Doubled {
    /// Messages, counted once for each cut.
    pub fn total(&self) -> usize {
        self.by_cut.iter().map(HashSet::len).sum()
    }

    /// The most for one cut, if deliveries could be written down until then.
    pub fn most(&self) -> usize {
        let cuts = self.by_cut.iter().enumerate().filter(|(cut, _)| !self.given_up.contains(cut));
        cuts.map(|(_, names)| names.len()).max().unwrap_or(0)
    }
}

impl Tally {
    /// The power was cut: `said` is the console since the boot, `seen` the messages that the provider had seen.
    pub fn cut(&mut self, said: &[String], seen: usize) {
        self.cuts.push(seen);
        self.set_aside += said.iter().filter(|line| field(line, "event") == Some("set_aside")).count();
        for line in said.iter().filter(|line| field(line, "event") == Some("removed")) {
            if let Some(id) = field(line, "id") {
                self.removed.entry(id.to_owned()).or_insert(seen);
            }
        }
    }

    /// The file system had become read-only before the last cut.
    pub fn gave_up(&mut self) {
        self.given_up.extend(self.cuts.len().checked_sub(1));
    }

    /// The number of cuts before which the file system had become read-only.
    pub fn given_up(&self) -> usize {
        self.given_up.len()
    }

    /// What was promised to somebody and is not there.
    pub fn missing<'tally>(&'tally self, record: &Record) -> Vec<&'tally Promise> {
        let arrived: HashSet<(String, &str)> =
            record.attempts.iter().filter(|message| message.accepted).flat_map(deliveries).collect();
        let lacks = |promise: &&Promise| {
            promise.recipients.iter().any(|recipient| !arrived.contains(&(promise.name.clone(), *recipient)))
        };
        self.promises.iter().filter(lacks).collect()
    }

    /// Messages that arrived without a promise: the cut came between acceptance and 250.
    pub fn unpromised(&self, record: &Record) -> usize {
        let names: HashSet<&str> = self.promises.iter().map(|promise| promise.name.as_str()).collect();
        let accepted = record.attempts.iter().filter(|message| message.accepted);
        let others: HashSet<String> = accepted.map(name).filter(|name| !names.contains(name.as_str())).collect();
        others.len()
    }

    /// What came more than once. Panics when there is no excuse for it: no cut in between, or the queue had said that it
    /// was done with the message. Panics, too, when a message is not what was sent.
    pub fn doubled(&self, record: &Record) -> Doubled {
        let mut doubled = Doubled { by_cut: vec![HashSet::new(); self.cuts.len()], given_up: self.given_up.clone() };
        let mut last: HashMap<(String, &str), usize> = HashMap::new();
        let by_name: HashMap<&str, &Promise> = self.promises.iter().map(|one| (one.name.as_str(), one)).collect();
        for (at, message) in record.attempts.iter().enumerate().filter(|(_, message)| message.accepted) {
            assert_whole(message);
            let done = by_name.get(name(message).as_str()).and_then(|promise| self.removed.get(&promise.id));
            assert!(done.is_none_or(|done| at < *done), "{} came again, though it had been removed", name(message));
            for delivery in deliveries(message) {
                let Some(before) = last.insert(delivery.clone(), at) else { continue };
                // The first cut behind the delivery before is what made it forgotten.
                let cut = self.cuts.iter().position(|cut| before < *cut && *cut <= at);
                let cut = cut.unwrap_or_else(|| panic!("{delivery:?} came twice without a cut in between"));
                doubled.by_cut[cut].insert(delivery.0);
            }
        }
        doubled
    }
}

fn name(message: &Message) -> String {
    message.header("Subject").unwrap_or_default()
}

/// Message and recipient, for each recipient.
fn deliveries(message: &Message) -> impl Iterator<Item = (String, &str)> {
    let name = name(message);
    message.recipients.iter().map(move |recipient| (name.clone(), recipient.as_str()))
}

/// A torn message must never be delivered.
fn assert_whole(message: &Message) {
    let lines = message.header("X-Lines").and_then(|lines| lines.parse().ok()).unwrap_or(0);
    let sent = text(&name(message), lines);
    let body = sent.split_once("\r\n\r\n").map(|(_, body)| body.as_bytes());
    assert!(body == Some(message.body()), "{} is not what was sent:\n{}", name(message), message.text());
}
