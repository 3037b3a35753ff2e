// SPDX-License-Identifier: Apache-2.0
//! The recent results: the last verdicts, each device, counters by day.
//!
//! Pure state: it takes events and returns JSON. `spool/history` keeps it over a restart ([`History::encode`]).
//!
//! Memory stays below 200 KB on 64 bits; on 32 it is 165 KB: at most 200 verdicts with 40 KB of text, 256
//! devices with 32 KB of text, 30 days of 24 bytes; the rest is the overhead of an allocator for some 3000 blocks.

mod device;
mod file;
pub mod keep;

use std::collections::VecDeque;

use serde_json::{Value, json};

use self::device::Devices;
use super::letter::one_line;
use super::{Event, TlsFacts};
use crate::system::clock;

/// Verdicts that are kept.
const VERDICTS: usize = 200;
/// Of these, the refused mail or clients: any number of addresses can cause them at no cost.
const TURNED_AWAY: usize = 100;
/// Bytes of text that they may contain together; the oldest are dropped first, but see [`TURNED_AWAY`].
const VERDICT_TEXT: usize = 40 << 10;
/// Accounts whose last test is kept.
const TESTS: usize = 16;
/// Days with separate counters.
const DAYS: usize = 30;
const DAY: i64 = 86_400;

/// Bytes that are kept of each text.
const ID: usize = 16;
const CLIENT: usize = 48;
const ADDRESS: usize = 120;
const ACCOUNT: usize = 40;
const TLS: usize = 80;
const REASON: usize = 197;

/// The final or last result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum HistoryOutcome {
    Delivered,
    Failed,
    /// Refused before it sent a command.
    Refused,
    /// A message was not accepted.
    Rejected,
    /// The following are states of a device, never verdicts.
    Accepted,
    Deferred,
    Aborted,
    /// It connected and offered no message.
    Connected,
}

impl HistoryOutcome {
    const ALL: [Self; 8] = [
        Self::Delivered,
        Self::Failed,
        Self::Refused,
        Self::Rejected,
        Self::Accepted,
        Self::Deferred,
        Self::Aborted,
        Self::Connected,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Delivered => "delivered",
            Self::Failed => "failed",
            Self::Refused => "refused",
            Self::Rejected => "rejected",
            Self::Accepted => "accepted",
            Self::Deferred => "deferred",
            Self::Aborted => "aborted",
            Self::Connected => "connected",
        }
    }

    fn of(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|outcome| outcome.name() == name)
    }
}

/// One verdict.
#[derive(Debug, Clone, PartialEq, Eq)]
struct HistoryEntry {
    at: i64,
    outcome: HistoryOutcome,
    id: Box<str>,
    client: Box<str>,
    from: Box<str>,
    to: Box<str>,
    size: u64,
    account: Box<str>,
    /// Version, cipher, verification and expiry of the certificate separated by spaces; empty without a connection.
    tls: Box<str>,
    /// The reply or the reason.
    text: Box<str>,
    /// Seconds from the arrival.
    delay: u64,
    /// How often the same happened in a row: a device that is refused every second must not displace everything else.
    times: u32,
}

impl HistoryEntry {
    fn new(at: i64, outcome: HistoryOutcome, client: &str, text: &str) -> Self {
        Self {
            at,
            outcome,
            client: kept(client, CLIENT),
            text: kept(text, REASON),
            id: "".into(),
            from: "".into(),
            to: "".into(),
            size: 0,
            account: "".into(),
            tls: "".into(),
            delay: 0,
            times: 1,
        }
    }

    /// Bytes of its texts.
    fn weight(&self) -> usize {
        [&self.id, &self.client, &self.from, &self.to, &self.account, &self.tls, &self.text]
            .iter()
            .map(|t| t.len())
            .sum()
    }

    fn is_turned_away(&self) -> bool {
        matches!(self.outcome, HistoryOutcome::Refused | HistoryOutcome::Rejected)
    }

    fn repeats(&self, other: &Self) -> bool {
        self.is_turned_away() && *self == Self { at: self.at, times: self.times, ..other.clone() }
    }

    fn json(&self) -> Value {
        let mut tls = self.tls.splitn(4, ' ');
        let mut tls_part = || tls.next().unwrap_or_default();
        json!({
            "time": self.at,
            "outcome": self.outcome.name(),
            "id": &*self.id,
            "client": &*self.client,
            "from": &*self.from,
            "to": &*self.to,
            "size": self.size,
            "account": &*self.account,
            "tls": tls_part(),
            "cipher": tls_part(),
            "verified": tls_part(),
            "text": &*self.text,
            "delay": self.delay,
            "times": self.times,
        })
    }
}

/// The number of each.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct DayCounts {
    /// Messages.
    accepted: u32,
    /// Recipients.
    delivered: u32,
    /// Recipients.
    failed: u32,
    /// Connections and messages that were refused.
    refused: u32,
}

impl DayCounts {
    fn count(&mut self, outcome: HistoryOutcome) {
        let counter = match outcome {
            HistoryOutcome::Accepted => &mut self.accepted,
            HistoryOutcome::Delivered => &mut self.delivered,
            HistoryOutcome::Failed => &mut self.failed,
            HistoryOutcome::Refused | HistoryOutcome::Rejected => &mut self.refused,
            HistoryOutcome::Deferred | HistoryOutcome::Aborted | HistoryOutcome::Connected => return,
        };
        *counter = counter.saturating_add(1);
    }

    fn fields(self) -> [(&'static str, u32); 4] {
        [("accepted", self.accepted), ("delivered", self.delivered), ("failed", self.failed), ("refused", self.refused)]
    }

    /// `object` with the four counters.
    fn add_to(self, mut object: Value) -> Value {
        if let Some(map) = object.as_object_mut() {
            map.extend(self.fields().map(|(name, count)| (name.to_string(), count.into())));
        }
        object
    }
}

/// The last verdicts, the devices, and the counters. Times are seconds since 1970, days are in UTC.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct History {
    /// Oldest first.
    verdicts: VecDeque<HistoryEntry>,
    /// Bytes of text in them.
    weight: usize,
    devices: Devices,
    /// When this run began: the first event.
    since: Option<i64>,
    /// The last successful test of each account, in this run.
    tests: Vec<HistoryEntry>,
    total: DayCounts,
    /// Days since 1970 with their counters, in order.
    days: Vec<(i64, DayCounts)>,
}

impl History {
    /// Takes an event that happened at `at`.
    pub fn take(&mut self, at: i64, event: &Event) {
        self.since.get_or_insert(at);
        match event {
            Event::Accepted { id, client, helo, from, to, .. } => {
                self.count(at, HistoryOutcome::Accepted);
                self.devices.accepted(at, client, helo, id, from, to);
            }
            Event::Delivered { id, client, from, to, size, account, tls, reply, delay } => {
                let verdict = HistoryEntry::new(at, HistoryOutcome::Delivered, client, reply);
                self.settle(HistoryEntry {
                    size: *size,
                    delay: *delay,
                    ..verdict.about(id, from, to, account, tls.as_ref())
                });
            }
            Event::Failed { id, client, from, to, size, account, tls, reason, delay } => {
                let verdict = HistoryEntry::new(at, HistoryOutcome::Failed, client, reason);
                self.settle(HistoryEntry {
                    size: *size,
                    delay: *delay,
                    ..verdict.about(id, from, to, account, tls.as_ref())
                });
            }
            Event::Refused { client, reason } => {
                self.settle(HistoryEntry::new(at, HistoryOutcome::Refused, client, reason))
            }
            Event::Rejected { client, from, to, reply } => {
                let verdict = HistoryEntry::new(at, HistoryOutcome::Rejected, client, reply);
                let to = device::first_of(to);
                self.settle(verdict.about("", from, &to, "", None));
            }
            Event::Tested { account, to, tls, failed: None } => {
                let verdict =
                    HistoryEntry::new(at, HistoryOutcome::Delivered, "", "").about("", "", to, account, tls.as_ref());
                self.tests.retain(|other| other.account != verdict.account);
                self.tests.push(verdict);
                if self.tests.len() > TESTS {
                    self.tests.remove(0);
                }
            }
            Event::Deferred { id, reason, .. } => self.devices.deferred(at, id, reason),
            Event::Aborted { client, reason } => self.devices.seen(at, client, "", HistoryOutcome::Aborted, reason),
            Event::NoMail { client, helo, tried } => {
                self.devices.seen(at, client, helo, HistoryOutcome::Connected, tried);
            }
            Event::LoginFailed { client, name } => {
                let text = format!("wrong user name or password, login '{name}'");
                self.devices.seen(at, client, "", HistoryOutcome::Rejected, &text);
            }
            _ => {}
        }
    }

    /// The verdicts, newest first: `limit` of them after the first `offset`.
    pub fn entries(&self, offset: usize, limit: usize) -> Value {
        let entries: Vec<Value> = self.verdicts.iter().rev().skip(offset).take(limit).map(HistoryEntry::json).collect();
        json!({ "total": self.verdicts.len(), "entries": entries })
    }

    /// The devices, the most recently seen first.
    pub fn devices(&self) -> Value {
        self.devices.json()
    }

    /// Counters since the start of the program, and of the last 30 days with events.
    pub fn counters(&self) -> Value {
        let day = |(day, counts): &(i64, DayCounts)| counts.add_to(json!({ "day": day.saturating_mul(DAY) }));
        let days: Vec<Value> = self.days.iter().rev().map(day).collect();
        self.total.add_to(json!({ "since": self.since, "days": days }))
    }

    /// The counters of the day of `now`, in UTC: the program does not know the local time.
    pub fn today(&self, now: i64) -> Value {
        let today = self.days.iter().find(|(day, _)| *day == now.div_euclid(DAY));
        today.map(|(_, counts)| *counts).unwrap_or_default().add_to(json!({}))
    }

    /// When mail was last accepted by `account`, or by any: null, or `time`, `to`, `account`, `tls`, `cipher`,
    /// `verified` (`ca`, `fingerprint`, `no`), `expires` of the certificate. Includes tests, while the verdict is kept.
    pub fn last(&self, account: Option<&str>) -> Value {
        let is_it = |v: &&HistoryEntry| {
            v.outcome == HistoryOutcome::Delivered && account.is_none_or(|name| *v.account == *name)
        };
        let (mail, test) = (self.verdicts.iter().rev().find(is_it), self.tests.iter().rev().find(is_it));
        // Of two at the same time, the test: that is what the user looks for.
        let newest = mail.into_iter().chain(test).max_by_key(|verdict| verdict.at);
        newest.map_or(Value::Null, HistoryEntry::last)
    }

    fn settle(&mut self, verdict: HistoryEntry) {
        self.count(verdict.at, verdict.outcome);
        self.devices.settled(&verdict);
        match self.verdicts.back_mut() {
            Some(last) if last.repeats(&verdict) => {
                last.at = verdict.at;
                last.times = last.times.saturating_add(1);
            }
            _ => self.push(verdict),
        }
    }

    fn push(&mut self, verdict: HistoryEntry) {
        self.weight += verdict.weight();
        self.verdicts.push_back(verdict);
        while self.verdicts.len() > VERDICTS || self.weight > VERDICT_TEXT {
            let turned_away = || self.verdicts.iter().enumerate().filter(|(_, verdict)| verdict.is_turned_away());
            let beyond = turned_away().count() > TURNED_AWAY;
            let place = turned_away().next().filter(|_| beyond).map_or(0, |(place, _)| place);
            let Some(oldest) = self.verdicts.remove(place) else { break };
            self.weight = self.weight.saturating_sub(oldest.weight());
        }
    }

    fn count(&mut self, at: i64, outcome: HistoryOutcome) {
        self.total.count(outcome);
        // Before the clock is set the day is unknown.
        if at < clock::EARLIEST {
            return;
        }
        let today = at.div_euclid(DAY);
        // A clock that was once far ahead must not leave days behind that never expire.
        self.days.retain(|(day, _)| *day <= today + 1);
        let place = self.days.partition_point(|(day, _)| *day < today);
        match self.days.get_mut(place) {
            Some((day, counts)) if *day == today => counts.count(outcome),
            _ => {
                let mut counts = DayCounts::default();
                counts.count(outcome);
                self.days.insert(place, (today, counts));
            }
        }
        if self.days.len() > DAYS {
            self.days.remove(0);
        }
    }
}

impl HistoryEntry {
    /// Where and how mail was accepted.
    fn last(&self) -> Value {
        let mut parts = self.tls.split(' ');
        let mut part = || parts.next().unwrap_or_default();
        let (version, cipher) = (part().replace("TLSv", "TLS "), part());
        let verified = match part() {
            "yes" => "ca",
            other => other,
        };
        let expires: Option<i64> = part().parse().ok();
        json!({
            "time": self.at,
            "to": &*self.to,
            "account": &*self.account,
            "tls": version,
            "cipher": cipher,
            "verified": verified,
            "expires": expires,
        })
    }

    fn about(self, id: &str, from: &str, to: &str, account: &str, tls: Option<&TlsFacts>) -> Self {
        let expires = tls.and_then(|tls| tls.expires).map(|at| format!(" {at}")).unwrap_or_default();
        let tls =
            tls.map(|tls| format!("{} {} {}{expires}", tls.version, tls.cipher, tls.verified)).unwrap_or_default();
        Self {
            id: kept(id, ID),
            from: kept(from, ADDRESS),
            to: kept(to, ADDRESS),
            account: kept(account, ACCOUNT),
            tls: kept(&tls, TLS),
            ..self
        }
    }
}

/// A text in its stored form: clean, and limited to `limit` bytes plus the `…` of a truncation.
fn kept(text: &str, limit: usize) -> Box<str> {
    one_line(text, limit).into_boxed_str()
}

#[cfg(test)]
#[path = "history/tests.rs"]
mod tests;
