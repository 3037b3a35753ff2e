// SPDX-License-Identifier: Apache-2.0
//! One result in the history.

use serde_json::Value;

use super::{ACCOUNT, ADDRESS, CLIENT, ID, REASON, SUBJECT, TLS, kept};
use crate::report::TlsFacts;
use crate::system::json::{json, put};

/// The final or last result.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum HistoryOutcome {
    Delivered,
    Failed,
    /// Refused before it sent a command.
    Refused,
    /// A message was not accepted.
    Rejected,
    /// A device that is expected to send was silent for too long.
    Silent,
    /// It was heard again.
    Heard,
    /// The following are states of a device, never verdicts.
    #[default]
    Accepted,
    Deferred,
    Aborted,
    /// It connected and offered no message.
    Connected,
}

impl HistoryOutcome {
    const NAMES: [(Self, &str); 10] = [
        (Self::Delivered, "delivered"),
        (Self::Failed, "failed"),
        (Self::Refused, "refused"),
        (Self::Rejected, "rejected"),
        (Self::Silent, "silent"),
        (Self::Heard, "heard"),
        (Self::Accepted, "accepted"),
        (Self::Deferred, "deferred"),
        (Self::Aborted, "aborted"),
        (Self::Connected, "connected"),
    ];

    pub(super) fn name(self) -> &'static str {
        Self::NAMES.iter().find(|(outcome, _)| *outcome == self).map_or("", |(_, name)| name)
    }

    pub(super) fn of(name: &str) -> Option<Self> {
        Self::NAMES.iter().find(|(_, known)| *known == name).map(|(outcome, _)| *outcome)
    }

    /// It is about a section `device` and not about a client.
    pub(super) fn is_of_section(self) -> bool {
        matches!(self, Self::Silent | Self::Heard)
    }

    /// Mail or a client was refused: any number of addresses can cause this at no cost.
    pub(super) fn is_turned_away(self) -> bool {
        matches!(self, Self::Refused | Self::Rejected)
    }
}

/// A number that does not count when two verdicts are compared.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Number(pub(super) u32);

impl PartialEq for Number {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Number {}

/// One verdict. In the history its texts stand together, and the entry has the length of each ([`HistoryEntry::lengths`]).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct HistoryEntry<T = Box<str>> {
    pub(super) at: i64,
    pub(super) outcome: HistoryOutcome,
    pub(super) id: T,
    /// Its address, or the name of its section: [`HistoryOutcome::is_of_section`].
    pub(super) client: T,
    pub(super) from: T,
    pub(super) to: T,
    pub(super) size: u64,
    pub(super) account: T,
    /// Version, cipher, verification and expiry of the certificate separated by spaces; empty without a connection.
    pub(super) tls: T,
    pub(super) subject: T,
    /// The reply or the reason.
    pub(super) text: T,
    /// Seconds from the arrival.
    pub(super) delay: u64,
    /// Its place among the verdicts of this run, from 1; a repetition does not change it.
    pub(super) number: Number,
    /// How often the same happened in a row: a device that is refused every second must not displace everything else.
    pub(super) times: u32,
}

/// The texts of an entry have lengths of one byte, with the `…` of a truncation.
const _: () = {
    const MOST: usize = u8::MAX as usize - "…".len();
    assert!(ID <= MOST && CLIENT <= MOST && ADDRESS <= MOST && SUBJECT <= MOST);
    assert!(ACCOUNT <= MOST && TLS <= MOST && REASON <= MOST);
};

impl HistoryEntry {
    pub(super) fn new(at: i64, outcome: HistoryOutcome, client: &str, text: &str) -> Self {
        Self { at, outcome, client: kept(client, CLIENT), text: kept(text, REASON), times: 1, ..Self::default() }
    }

    pub(super) fn borrowed(&self) -> HistoryEntry<&str> {
        self.with(self.texts())
    }

    pub(super) fn about(self, id: &str, from: &str, to: &str, account: &str, tls: Option<&TlsFacts>) -> Self {
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

impl HistoryEntry<u8> {
    /// The entry of which this has the lengths and `rest` the texts.
    pub(super) fn filled(self, mut rest: &str) -> HistoryEntry<&str> {
        let lengths = [self.id, self.client, self.from, self.to, self.account, self.tls, self.subject, self.text];
        self.with(lengths.map(|length| {
            let (text, behind) = rest.split_at_checked(length.into()).unwrap_or_default();
            rest = behind;
            text
        }))
    }
}

impl<T: AsRef<str>> HistoryEntry<T> {
    /// Its texts, one after another.
    pub(super) fn texts(&self) -> [&str; 8] {
        [&self.id, &self.client, &self.from, &self.to, &self.account, &self.tls, &self.subject, &self.text]
            .map(T::as_ref)
    }

    /// The same with the length of each text.
    pub(super) fn lengths(&self) -> HistoryEntry<u8> {
        self.with(self.texts().map(|text| u8::try_from(text.len()).unwrap_or(u8::MAX)))
    }
}

impl<T> HistoryEntry<T> {
    /// The same with other texts, in the order of [`HistoryEntry::texts`].
    fn with<U>(&self, [id, client, from, to, account, tls, subject, text]: [U; 8]) -> HistoryEntry<U> {
        let Self { at, outcome, size, delay, number, times, .. } = *self;
        HistoryEntry { at, outcome, id, client, from, to, size, account, tls, subject, text, delay, number, times }
    }
}

impl HistoryEntry<&str> {
    /// Whether it is the same as `self`, some time later.
    pub(super) fn repeats(self, other: Self) -> bool {
        self.outcome.is_turned_away() && self == Self { at: self.at, times: self.times, ..other }
    }

    pub(super) fn json(self) -> Value {
        let mut tls = self.tls.splitn(4, ' ');
        let mut tls_part = || tls.next().unwrap_or_default();
        let section = Some(self.client).filter(|_| self.outcome.is_of_section());
        let mut entry = json!({
            "number": self.number.0,
            "time": self.at,
            "outcome": self.outcome.name(),
            "id": self.id,
            "client": self.client,
            "from": self.from,
            "to": self.to,
            "size": self.size,
            "subject": self.subject,
            "account": self.account,
            "tls": tls_part(),
            "cipher": tls_part(),
            "verified": tls_part(),
            "text": self.text,
            "delay": self.delay,
            "times": self.times,
        });
        if let (Some(section), Some(fields)) = (section, entry.as_object_mut()) {
            put(fields, "section", &section);
        }
        entry
    }

    /// Where and how mail was accepted.
    pub(super) fn last(self) -> Value {
        let mut parts = self.tls.split(' ');
        let mut part = || parts.next().unwrap_or_default();
        let (version, cipher, verified) = (part(), part(), part());
        let expires: Option<i64> = part().parse().ok();
        json!({
            "time": self.at,
            "to": self.to,
            "account": self.account,
            "tls": version,
            "cipher": cipher,
            "verified": verified,
            "expires": expires,
        })
    }
}
