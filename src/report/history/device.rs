// SPDX-License-Identifier: Apache-2.0
//! What is known of each device.

use serde_json::{Value, json};

use super::{CLIENT, DayCounts, HistoryEntry, HistoryOutcome, ID, kept};

/// Devices that are kept.
const DEVICES: usize = 256;
/// Bytes of text that they may contain together.
const DEVICE_TEXT: usize = 32 << 10;
/// Bytes that are kept of a HELO name, an address, a reply or reason.
const HELO: usize = 48;
const ADDRESS: usize = 64;
const TEXT: usize = 100;

/// One device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct DeviceRecord {
    pub(super) client: Box<str>,
    /// Its HELO name.
    pub(super) helo: Box<str>,
    pub(super) first_seen: i64,
    pub(super) last_seen: i64,
    pub(super) counts: DayCounts,
    /// Its last message.
    pub(super) id: Box<str>,
    pub(super) from: Box<str>,
    pub(super) to: Box<str>,
    pub(super) mail_at: i64,
    /// The last result of its mail, with time and text.
    pub(super) state: HistoryOutcome,
    pub(super) state_at: i64,
    pub(super) text: Box<str>,
}

impl DeviceRecord {
    pub(super) fn weight(&self) -> usize {
        [&self.client, &self.helo, &self.id, &self.from, &self.to, &self.text].iter().map(|t| t.len()).sum()
    }

    fn set(&mut self, at: i64, state: HistoryOutcome, text: &str) {
        self.state = state;
        self.state_at = at;
        self.text = kept(text, TEXT);
    }

    fn json(&self) -> Value {
        // A device that was refused at once has none.
        let last_mail = (!self.id.is_empty())
            .then(|| json!({ "id": &*self.id, "from": &*self.from, "to": &*self.to, "time": self.mail_at }));
        self.counts.add_to(json!({
            "client": &*self.client,
            "helo": &*self.helo,
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
pub(super) struct Devices(Vec<DeviceRecord>);

impl Devices {
    pub(super) fn iter(&self) -> impl Iterator<Item = &DeviceRecord> {
        self.0.iter()
    }

    /// Adds one from the file.
    pub(super) fn restore(&mut self, device: DeviceRecord) {
        self.0.push(device);
        self.bound();
    }

    pub(super) fn json(&self) -> Value {
        self.0.iter().rev().map(DeviceRecord::json).collect()
    }

    pub(super) fn accepted(&mut self, at: i64, client: &str, helo: &str, id: &str, from: &str, to: &[String]) {
        self.change(at, client, |device| {
            device.last_seen = at;
            device.counts.count(HistoryOutcome::Accepted);
            device.helo = kept(helo, HELO);
            device.id = kept(id, ID);
            device.from = kept(from, ADDRESS);
            device.to = kept(&first_of(to), ADDRESS);
            device.mail_at = at;
            device.set(at, HistoryOutcome::Accepted, "");
        });
    }

    pub(super) fn settled(&mut self, verdict: &HistoryEntry) {
        // Mail of an earlier version has no client; a device without an address could not be identified.
        if verdict.client.is_empty() {
            return;
        }
        self.change(verdict.at, &verdict.client, |device| {
            device.counts.count(verdict.outcome);
            device.set(verdict.at, verdict.outcome, &verdict.text);
            if matches!(verdict.outcome, HistoryOutcome::Refused | HistoryOutcome::Rejected) {
                device.last_seen = verdict.at;
            }
        });
    }

    /// The event does not contain the client; the last mail of a device is found by its ID.
    pub(super) fn deferred(&mut self, at: i64, id: &str, reason: &str) {
        if let Some(device) = self.0.iter_mut().find(|device| !id.is_empty() && *device.id == *id) {
            device.set(at, HistoryOutcome::Deferred, reason);
        }
        self.bound();
    }

    /// What a device did instead of sending mail. An administrator who looks for missing mail finds the reason here.
    pub(super) fn seen(&mut self, at: i64, client: &str, helo: &str, state: HistoryOutcome, text: &str) {
        self.change(at, client, |device| {
            device.last_seen = at;
            if !helo.is_empty() {
                device.helo = kept(helo, HELO);
            }
            device.set(at, state, text);
        });
    }

    fn change(&mut self, at: i64, client: &str, change: impl FnOnce(&mut DeviceRecord)) {
        let client = kept(client, CLIENT);
        let mut device = match self.0.iter().position(|device| device.client == client) {
            Some(place) => self.0.remove(place),
            None => DeviceRecord {
                client,
                helo: "".into(),
                first_seen: at,
                last_seen: at,
                counts: DayCounts::default(),
                id: "".into(),
                from: "".into(),
                to: "".into(),
                mail_at: 0,
                state: HistoryOutcome::Accepted,
                state_at: at,
                text: "".into(),
            },
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
pub(super) fn first_of(to: &[String]) -> String {
    match to {
        [] => String::new(),
        [only] => only.clone(),
        [first, rest @ ..] => format!("{first} and {} more", rest.len()),
    }
}
