// SPDX-License-Identifier: Apache-2.0
//! The recent results: the last verdicts, each device, counters by day.
//!
//! [`History`] is pure state: it takes events and returns JSON. [`run`] feeds it, and writes it to the spool now and
//! then so that it survives a restart ([`History::encode`]).
//!
//! Memory stays below 160 KB on 64 bits: at most 200 verdicts with 42 KB of text, 256 devices with 25 KB of text, 30 days of
//! 24 bytes, and one counter for each account and section `device` that mail went through; the rest is the overhead of an
//! allocator for some 1800 blocks.

mod entry;
mod file;
mod tally;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::sync::{mpsc, watch};

use self::entry::{HistoryEntry, HistoryOutcome, Number};
use self::tally::Tally;
use super::event::StepResult;
use super::letter::one_line;
use super::subject;
use super::{Event, observe};
use crate::system::json::json;
use crate::system::shelf::Shelf;
use crate::system::{clock, lock, ordered, publish, task};

/// Verdicts that are kept.
const VERDICTS: usize = 200;
/// Of these, the refused mail or clients: any number of addresses can cause them at no cost.
const TURNED_AWAY: usize = 100;
/// Bytes of text that they may contain together; the oldest are dropped first, but see [`TURNED_AWAY`].
const VERDICT_TEXT: usize = 42 << 10;
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
const SUBJECT: usize = subject::SUBJECT_SHOWN;

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
            _ => return,
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
    /// Oldest first, with the lengths of their texts.
    verdicts: Shelf<HistoryEntry<u8>, VERDICTS>,
    /// The number of the last one.
    last_number: Number,
    devices: Devices,
    /// When this run began: the first event.
    since: Option<i64>,
    /// The last successful and the last failed test of each account, in this run.
    tests: Vec<HistoryEntry>,
    total: DayCounts,
    /// Since the start of the program, by account and device.
    tally: Tally,
    /// Days since 1970 with their counters, in order.
    days: Vec<(i64, DayCounts)>,
}

impl History {
    /// Takes an event that happened at `at`.
    pub fn take(&mut self, at: i64, event: &Event) {
        self.since.get_or_insert(at);
        let device = match event {
            Event::Accepted { client, device, .. } => self.devices.kind(client, device.as_deref()),
            Event::Delivered { client, .. }
            | Event::Failed { client, .. }
            | Event::Refused { client, .. }
            | Event::Rejected { client, .. } => self.devices.kind(client, None),
            _ => None,
        };
        self.tally.take(event, device);
        match event {
            Event::Accepted { id, client, helo, device, from, to, .. } => {
                self.count(at, HistoryOutcome::Accepted);
                self.devices.accepted(at, client, helo, id, from, to);
                self.devices.belongs(client, device.as_deref().unwrap_or_default());
            }
            Event::Delivered { id, client, from, to, size, subject, account, tls, reply: text, delay }
            | Event::Failed { id, client, from, to, size, subject, account, tls, reason: text, delay } => {
                let is_delivered = matches!(event, Event::Delivered { .. });
                let outcome = if is_delivered { HistoryOutcome::Delivered } else { HistoryOutcome::Failed };
                let verdict = HistoryEntry::new(at, outcome, client, text).about(id, from, to, account, tls.as_ref());
                let subject = kept(if subject::is_shown() { subject } else { "" }, SUBJECT);
                self.settle(HistoryEntry { size: *size, subject, delay: *delay, ..verdict });
            }
            // It is about the message, whose recipients are counted when they have it.
            Event::Step { id, account, to, result, text, .. } if !to.is_empty() => {
                let taken = *result == StepResult::Taken;
                let outcome = if taken { HistoryOutcome::Delivered } else { HistoryOutcome::Failed };
                self.push(HistoryEntry::new(at, outcome, "", text).about(id, "", to, account, None));
            }
            Event::Refused { client, reason } => {
                self.settle(HistoryEntry::new(at, HistoryOutcome::Refused, client, reason))
            }
            Event::Rejected { client, from, to, reply } => {
                let verdict = HistoryEntry::new(at, HistoryOutcome::Rejected, client, reply);
                let to = first_of(to);
                self.settle(verdict.about("", from, &to, "", None));
            }
            Event::Tested { account, to, tls, failed } => {
                let outcome = if failed.is_some() { HistoryOutcome::Failed } else { HistoryOutcome::Delivered };
                let verdict = HistoryEntry::new(at, outcome, "", failed.as_deref().unwrap_or_default());
                let verdict = verdict.about("", "", to, account, tls.as_ref());
                self.tests.retain(|other| other.account != verdict.account || other.outcome != outcome);
                self.tests.push(verdict);
                if self.tests.len() > TESTS {
                    self.tests.remove(0);
                }
            }
            Event::DeviceSilent { device, reason, .. } => {
                self.settle(HistoryEntry::new(at, HistoryOutcome::Silent, device, reason));
            }
            Event::DeviceOk { device, heard: true, reason, .. } => {
                self.settle(HistoryEntry::new(at, HistoryOutcome::Heard, device, reason));
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
            Event::Started { .. } | Event::Reloaded if !subject::is_shown() => self.forget_subjects(),
            _ => {}
        }
    }

    /// Drops the subjects that were kept while `log_subject` allowed it.
    fn forget_subjects(&mut self) {
        for (lengths, text) in std::mem::take(&mut self.verdicts).iter() {
            let verdict = HistoryEntry { subject: "", ..lengths.filled(text) };
            self.verdicts.push(verdict.lengths(), &verdict.texts());
        }
    }

    /// The verdicts, oldest first.
    fn verdicts(&self) -> impl DoubleEndedIterator<Item = HistoryEntry<&str>> {
        self.verdicts.iter().map(|(lengths, text)| lengths.filled(text))
    }

    /// The section `device` that applied to the last message of each of `clients`; empty if there was none.
    pub fn sections(&self, clients: &[&str]) -> Vec<String> {
        let known = |client: &&str| self.devices.0.iter().find(|device| *device.client == **client);
        clients
            .iter()
            .map(|client| known(client).map(|device| device.section.to_string()).unwrap_or_default())
            .collect()
    }

    /// The verdicts from number `since` on, oldest first, `limit` of them, and the number to ask for next: that of the
    /// last one, which may still be repeated.
    pub fn news(&self, since: u32, limit: usize) -> (Vec<Value>, u32, bool) {
        let mut newer = self.verdicts().filter(|verdict| verdict.number.0 >= since);
        let found: Vec<HistoryEntry<&str>> = newer.by_ref().take(limit).collect();
        let next = found.last().map_or(since, |last| last.number.0);
        (found.into_iter().map(HistoryEntry::json).collect(), next, newer.next().is_some())
    }

    /// The verdicts, newest first: `limit` of them after the first `offset`.
    pub fn entries(&self, offset: usize, limit: usize) -> Value {
        let entries: Vec<Value> = self.verdicts().rev().skip(offset).take(limit).map(HistoryEntry::json).collect();
        json!({ "total": self.verdicts.len(), "entries": entries })
    }

    /// The devices, the most recently seen first.
    pub fn devices(&self) -> Value {
        self.devices.json()
    }

    /// Counters since the start of the program, also by these accounts and sections `device`, and of the last 30 days
    /// with events.
    pub fn counters(&self, accounts: &[&str], devices: &[&str]) -> Value {
        let day = |(day, counts): &(i64, DayCounts)| counts.add_to(json!({ "day": day.saturating_mul(DAY) }));
        let days: Vec<Value> = self.days.iter().rev().map(day).collect();
        let mut counters = self.total.add_to(json!({ "since": self.since, "days": days }));
        if let Some(fields) = counters.as_object_mut() {
            self.tally.add_to(fields, accounts, devices);
        }
        counters
    }

    /// The counters of the day of `now`, in UTC: the program does not know the local time.
    pub fn today(&self, now: i64) -> Value {
        let today = self.days.iter().find(|(day, _)| *day == now.div_euclid(DAY));
        today.map(|(_, counts)| *counts).unwrap_or_default().add_to(json!({}))
    }

    /// When mail was last accepted by `account`, or by any: null, or `time`, `to`, `account`, `tls`, `cipher`,
    /// `verified` (`ca`, `fingerprint`, `no`), `expires` of the certificate. Includes tests, while the verdict is kept.
    pub fn last(&self, account: Option<&str>) -> Value {
        let is_it = |v: &HistoryEntry<&str>| {
            v.outcome == HistoryOutcome::Delivered && account.is_none_or(|name| *v.account == *name)
        };
        let mail = self.verdicts().rev().find(is_it);
        let test = self.tests.iter().rev().map(HistoryEntry::borrowed).find(is_it);
        // Of two at the same time, the test: that is what the user looks for.
        let newest = mail.into_iter().chain(test).max_by_key(|verdict| verdict.at);
        newest.map_or(Value::Null, HistoryEntry::last)
    }

    /// The last test of this account, with `time` and `text`, if it failed and no mail was accepted since.
    pub fn failed_test(&self, account: &str) -> Value {
        let mut tests = self.tests.iter().rev().filter(|test| *test.account == *account);
        let failed = tests.next().filter(|test| test.outcome == HistoryOutcome::Failed);
        let mut mail = self.verdicts().rev().filter(|verdict| *verdict.account == *account);
        let later = mail.find(|verdict| verdict.outcome == HistoryOutcome::Delivered);
        let failed = failed.filter(|test| later.is_none_or(|mail| mail.at <= test.at));
        failed.map_or(Value::Null, |test| json!({ "time": test.at, "text": &*test.text }))
    }

    fn settle(&mut self, verdict: HistoryEntry) {
        self.count(verdict.at, verdict.outcome);
        self.devices.settled(&verdict);
        let last = self.verdicts.last().map(|(lengths, text)| lengths.filled(text));
        if !last.is_some_and(|last| last.repeats(verdict.borrowed())) {
            self.push(verdict);
        } else if let Some(last) = self.verdicts.last_mut() {
            last.at = verdict.at;
            last.times = last.times.saturating_add(1);
        }
    }

    fn push(&mut self, mut verdict: HistoryEntry) {
        self.last_number.0 = self.last_number.0.saturating_add(1);
        verdict.number = self.last_number;
        self.verdicts.push(verdict.lengths(), &verdict.texts());
        while self.verdicts.len() > VERDICTS || self.verdicts.text_size() > VERDICT_TEXT {
            let turned_away =
                || self.verdicts.iter().enumerate().filter(|(_, (verdict, _))| verdict.outcome.is_turned_away());
            let beyond = turned_away().count() > TURNED_AWAY;
            let place = turned_away().next().filter(|_| beyond).map_or(0, |(place, _)| place);
            self.verdicts.remove(place);
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

/// A text in its stored form: clean, and limited to `limit` bytes plus the `…` of a truncation.
fn kept(text: &str, limit: usize) -> Box<str> {
    one_line(text, limit).into_boxed_str()
}

/// Devices that are kept.
const DEVICES: usize = 256;
/// Bytes of text that they may contain together.
const DEVICE_TEXT: usize = 25 << 10;
/// Bytes that are kept of a DEVICE_HELO name, an address, a reply or reason.
const DEVICE_HELO: usize = 48;
const DEVICE_SECTION: usize = 48;
const DEVICE_ADDRESS: usize = 64;
const DEVICE_REASON: usize = 100;

/// One device.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct DeviceRecord {
    client: Box<str>,
    /// Its DEVICE_HELO name.
    helo: Box<str>,
    /// The section `device` that applied to its last message: it keeps its name when its MAC address is no longer known.
    section: Box<str>,
    first_seen: i64,
    last_seen: i64,
    counts: DayCounts,
    /// Its last message.
    id: Box<str>,
    from: Box<str>,
    to: Box<str>,
    mail_at: i64,
    /// The last result of its mail, with time and text.
    state: HistoryOutcome,
    state_at: i64,
    text: Box<str>,
}

impl DeviceRecord {
    fn weight(&self) -> usize {
        [&self.client, &self.helo, &self.section, &self.id, &self.from, &self.to, &self.text]
            .iter()
            .map(|t| t.len())
            .sum()
    }

    fn set(&mut self, at: i64, state: HistoryOutcome, text: &str) {
        self.state = state;
        self.state_at = at;
        self.text = kept(text, DEVICE_REASON);
    }

    fn json(&self) -> Value {
        // A device that was refused at once has none.
        let last_mail = (!self.id.is_empty())
            .then(|| json!({ "id": &*self.id, "from": &*self.from, "to": &*self.to, "time": self.mail_at }));
        self.counts.add_to(json!({
            "client": &*self.client,
            "helo": &*self.helo,
            "section": &*self.section,
            "first_seen": self.first_seen,
            "last_seen": self.last_seen,
            "last_mail": last_mail,
            "last_verdict": {
                "outcome": self.state.name(),
                "text": &*self.text,
                "time": self.state_at,
            },
        }))
    }
}

/// All of them, ordered by their last event.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Devices(Vec<DeviceRecord>);

impl Devices {
    /// The kind of device that a client is counted under: its section `device`, the one `known` to apply or else that of
    /// its last message. `None` for the gateway's own mail.
    fn kind<'a>(&'a self, client: &str, known: Option<&'a str>) -> Option<&'a str> {
        match client {
            "" => return None,
            tally::LOCAL => return Some(tally::LOCAL),
            _ => {}
        }
        let record = || self.0.iter().find(|device| *device.client == *client).map(|device| &*device.section);
        let section = known.or_else(record).filter(|section| !section.is_empty());
        Some(section.unwrap_or(tally::OTHER))
    }

    /// Adds one from the file.
    fn restore(&mut self, device: DeviceRecord) {
        self.0.push(device);
        self.bound();
    }

    fn json(&self) -> Value {
        self.0.iter().rev().map(DeviceRecord::json).collect()
    }

    fn accepted(&mut self, at: i64, client: &str, helo: &str, id: &str, from: &str, to: &[String]) {
        self.change(at, client, |device| {
            device.last_seen = at;
            device.counts.count(HistoryOutcome::Accepted);
            device.helo = kept(helo, DEVICE_HELO);
            device.id = kept(id, ID);
            device.from = kept(from, DEVICE_ADDRESS);
            device.to = kept(&first_of(to), DEVICE_ADDRESS);
            device.mail_at = at;
            device.set(at, HistoryOutcome::Accepted, "");
        });
    }

    /// `section` applied to the message that `client` has just sent.
    fn belongs(&mut self, client: &str, section: &str) {
        let client = kept(client, CLIENT);
        if let Some(device) = self.0.iter_mut().rev().find(|device| device.client == client) {
            device.section = kept(section, DEVICE_SECTION);
        }
        self.bound();
    }

    fn settled(&mut self, verdict: &HistoryEntry) {
        // Mail of an earlier version has no client; a device without an address could not be identified.
        if verdict.client.is_empty() || verdict.outcome.is_of_section() {
            return;
        }
        self.change(verdict.at, &verdict.client, |device| {
            device.counts.count(verdict.outcome);
            device.set(verdict.at, verdict.outcome, &verdict.text);
            if verdict.outcome.is_turned_away() {
                device.last_seen = verdict.at;
            }
        });
    }

    /// The event does not contain the client; the last mail of a device is found by its ID.
    fn deferred(&mut self, at: i64, id: &str, reason: &str) {
        if let Some(device) = self.0.iter_mut().find(|device| !id.is_empty() && *device.id == *id) {
            device.set(at, HistoryOutcome::Deferred, reason);
        }
        self.bound();
    }

    /// What a device did instead of sending mail. An administrator who looks for missing mail finds the reason here.
    fn seen(&mut self, at: i64, client: &str, helo: &str, state: HistoryOutcome, text: &str) {
        self.change(at, client, |device| {
            device.last_seen = at;
            if !helo.is_empty() {
                device.helo = kept(helo, DEVICE_HELO);
            }
            device.set(at, state, text);
        });
    }

    fn change(&mut self, at: i64, client: &str, change: impl FnOnce(&mut DeviceRecord)) {
        let client = kept(client, CLIENT);
        let mut device = match self.0.iter().position(|device| device.client == client) {
            Some(place) => self.0.remove(place),
            None => DeviceRecord { client, first_seen: at, last_seen: at, state_at: at, ..DeviceRecord::default() },
        };
        change(&mut device);
        self.0.push(device);
        self.bound();
    }

    /// Clients that never sent a message are dropped first: refused connections must not displace devices. Then those
    /// without an event for the longest time.
    fn bound(&mut self) {
        let mut weight: usize = self.0.iter().map(DeviceRecord::weight).sum();
        while self.0.len() > DEVICES || weight > DEVICE_TEXT {
            let last = self.0.len().saturating_sub(1);
            let stranger = self.0.iter().take(last).position(|device| device.counts.accepted == 0);
            weight -= self.0.remove(stranger.unwrap_or(0)).weight();
        }
    }
}

/// The first recipient and the number of others.
fn first_of(to: &[String]) -> String {
    match to {
        [] => String::new(),
        [only] => only.clone(),
        [first, rest @ ..] => format!("{first} and {} more", rest.len()),
    }
}

/// Name of its file in the spool directory: RAM on most routers, so writing it costs no flash.
const FILE: &str = "history";
/// Bytes of the file that are read back; what [`History`] writes is smaller.
const FILE_LIMIT: u64 = 1 << 20;
/// How often it is written, if there were events.
const EVERY: Duration = Duration::from_secs(60);
/// Events that may wait.
const EVENTS: usize = 2048;

/// The history of earlier runs, and the events of this one from now on.
pub fn open(spool: &Path) -> (Arc<Mutex<History>>, mpsc::Receiver<Arc<Event>>) {
    let events = observe(EVENTS);
    let path = spool.join(FILE);
    let small = fs::metadata(&path).is_ok_and(|file| file.len() <= FILE_LIMIT);
    let bytes = small.then(|| fs::read(&path).ok()).flatten().unwrap_or_default();
    (Arc::new(Mutex::new(History::decode(&bytes))), events)
}

/// Follows `events` until the order to stop.
pub async fn run(
    history: Arc<Mutex<History>>,
    mut events: mpsc::Receiver<Arc<Event>>,
    spool: PathBuf,
    mut stop: watch::Receiver<bool>,
) {
    // When it is written next; without events never.
    let mut due = None;
    loop {
        tokio::select! {
            Some(event) = events.recv() => {
                lock(&history).take(clock::now(), &event);
                due.get_or_insert_with(|| Instant::now() + EVERY);
            }
            () = task::sleep_until(due) => {
                due = None;
                write(&history, &spool).await;
            }
            () = ordered(&mut stop) => break,
        }
    }
    // The dispatcher ends at the same order: its last events are taken until all is quiet.
    while let Ok(Some(event)) = tokio::time::timeout(Duration::from_millis(200), events.recv()).await {
        lock(&history).take(clock::now(), &event);
    }
    write(&history, &spool).await;
}

/// Writes the history. A failure loses nothing but the history.
async fn write(history: &Mutex<History>, spool: &Path) {
    let bytes = lock(history).encode();
    let path = spool.join(FILE);
    // It contains addresses and replies of providers: only its owner may read it.
    let written = task::blocking(move || publish::replace(&path, &bytes, 0o600));
    if let Some(Err(error)) = written.await {
        log::debug!(target: "smtprelay", "event=history_not_written text=\"{error}\"");
    }
}

#[cfg(test)]
mod tests;
