// SPDX-License-Identifier: Apache-2.0
//! The history as a file.
//!
//! A first line with version and checksum, then one JSON array per line:
//!
//! ```text
//! smtprelay-history 1 CRC32
//! ["day",DAY,ACCEPTED,DELIVERED,FAILED,REFUSED]
//! ["device",CLIENT,HELO,FIRST,LAST,ACCEPTED,DELIVERED,FAILED,REFUSED,ID,FROM,TO,MAIL_AT,STATE,STATE_AT,TEXT,SECTION]
//! ["verdict",AT,OUTCOME,ID,CLIENT,FROM,TO,SIZE,ACCOUNT,TLS,TEXT,DELAY,TIMES,SUBJECT]
//! ```
//!
//! It is not essential: a file that is truncated, changed or of another version is an empty history. The numbers of
//! this run are not known to continue those of the last, so counters since the start begin at zero.

use serde_json::Value;

use super::{
    ACCOUNT, ADDRESS, CLIENT, DAYS, DayCounts, DeviceRecord, History, HistoryEntry, HistoryOutcome, ID, REASON,
    SUBJECT, TLS, kept,
};
use crate::system::checksum::Checksum;
use crate::system::json::json;

const FIRST: &str = "smtprelay-history 1 ";
/// The size limit of a valid file.
const LARGEST: usize = 512 << 10;

impl History {
    /// The file. At most some 200 KB.
    pub fn encode(&self) -> Vec<u8> {
        let mut lines = String::new();
        let mut add = |line: Value| {
            lines.push_str(&line.to_string());
            lines.push('\n');
        };
        for (day, c) in &self.days {
            add(json!(["day", day, c.accepted, c.delivered, c.failed, c.refused]));
        }
        for d in &self.devices.0 {
            let c = d.counts;
            add(json!([
                "device",
                &*d.client,
                &*d.helo,
                d.first_seen,
                d.last_seen,
                c.accepted,
                c.delivered,
                c.failed,
                c.refused,
                &*d.id,
                &*d.from,
                &*d.to,
                d.mail_at,
                d.state.name(),
                d.state_at,
                &*d.text,
                &*d.section
            ]));
        }
        for v in self.verdicts() {
            add(json!([
                "verdict",
                v.at,
                v.outcome.name(),
                v.id,
                v.client,
                v.from,
                v.to,
                v.size,
                v.account,
                v.tls,
                v.text,
                v.delay,
                v.times,
                v.subject
            ]));
        }
        format!("{FIRST}{:08x}\n{lines}", Checksum::of(lines.as_bytes())).into_bytes()
    }

    /// The history in a file; an empty one if it is incomplete or not ours.
    pub fn decode(file: &[u8]) -> Self {
        lines(file).and_then(Self::read).unwrap_or_default()
    }

    fn read(lines: &str) -> Option<Self> {
        let mut history = Self::default();
        for line in lines.lines() {
            let Ok(Value::Array(values)) = serde_json::from_str(line) else { return None };
            let mut values = Values(values.into_iter());
            match &*values.text(ID)? {
                "day" => {
                    history.days.push((values.time()?, values.counts()?));
                    if history.days.len() > DAYS {
                        return None;
                    }
                }
                "device" => history.devices.restore(values.device()?),
                "verdict" => history.push(values.verdict()?),
                _ => return None,
            }
        }
        Some(history)
    }
}

/// The rest after the first line, if that is valid.
fn lines(file: &[u8]) -> Option<&str> {
    if file.len() > LARGEST {
        return None;
    }
    let (first, lines) = std::str::from_utf8(file).ok()?.split_once('\n')?;
    let sum = u32::from_str_radix(first.strip_prefix(FIRST)?, 16).ok()?;
    (sum == Checksum::of(lines.as_bytes())).then_some(lines)
}

/// The values of a line that have not been read yet.
struct Values(std::vec::IntoIter<Value>);

impl Values {
    fn text(&mut self, limit: usize) -> Option<Box<str>> {
        // A truncated text ends with a mark that would not fit a second time.
        Some(kept(self.0.next()?.as_str()?, limit + '…'.len_utf8()))
    }

    fn time(&mut self) -> Option<i64> {
        self.0.next()?.as_i64()
    }

    fn size(&mut self) -> Option<u64> {
        self.0.next()?.as_u64()
    }

    fn count(&mut self) -> Option<u32> {
        u32::try_from(self.size()?).ok()
    }

    fn outcome(&mut self) -> Option<HistoryOutcome> {
        HistoryOutcome::of(self.0.next()?.as_str()?)
    }

    fn counts(&mut self) -> Option<DayCounts> {
        Some(DayCounts {
            accepted: self.count()?,
            delivered: self.count()?,
            failed: self.count()?,
            refused: self.count()?,
        })
    }

    fn device(&mut self) -> Option<DeviceRecord> {
        Some(DeviceRecord {
            client: self.text(CLIENT)?,
            helo: self.text(ADDRESS)?,
            first_seen: self.time()?,
            last_seen: self.time()?,
            counts: self.counts()?,
            id: self.text(ID)?,
            from: self.text(ADDRESS)?,
            to: self.text(ADDRESS)?,
            mail_at: self.time()?,
            state: self.outcome()?,
            state_at: self.time()?,
            text: self.text(REASON)?,
            // Earlier versions did not write it.
            section: self.text(ADDRESS).unwrap_or_default(),
        })
    }

    fn verdict(&mut self) -> Option<HistoryEntry> {
        Some(HistoryEntry {
            at: self.time()?,
            outcome: self.outcome()?,
            id: self.text(ID)?,
            client: self.text(CLIENT)?,
            from: self.text(ADDRESS)?,
            to: self.text(ADDRESS)?,
            size: self.size()?,
            account: self.text(ACCOUNT)?,
            tls: self.text(TLS)?,
            text: self.text(REASON)?,
            delay: self.size()?,
            times: self.count()?,
            // Earlier versions did not write it.
            subject: self.text(SUBJECT).unwrap_or_default(),
            ..HistoryEntry::default()
        })
    }
}
