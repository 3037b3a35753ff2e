// SPDX-License-Identifier: Apache-2.0
//! What the dispatcher does about silent devices: it passes on what it hears, reports what has changed, and stores what
//! outlives the run. A mail that cannot be queued is retried, and when many devices fall silent they share one.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::{Change, Moment, Records, Turn, file};
use crate::config::Settings;
use crate::dispatch::{Dispatch, Finished};
use crate::intake::{Behalf, Desk, IntakeError};
use crate::message::{Envelope, is_address};
use crate::queue::Meta;
use crate::report::{Event, SilenceItem, SilenceNotice};
use crate::system::task;

/// Mails about silent devices within [`WINDOW`]; what happens then waits for the next one.
const SINGLES: usize = 3;
/// The interval in which they are counted.
const WINDOW: Duration = Duration::from_secs(600);
/// How long to wait when the queue refuses one.
const AGAIN: Duration = Duration::from_secs(60);
/// Changes that one mail lists; the rest are only included in its total.
const LISTED: usize = 200;

/// What is to be reported by mail.
#[derive(Debug, Default)]
pub struct Pending {
    items: Vec<SilenceItem>,
    left_out: usize,
    /// When the last mails were queued, the oldest first.
    posted: VecDeque<Instant>,
    /// Not before this, since the queue has refused one.
    again: Option<Instant>,
    /// Whether one is being queued.
    posting: bool,
}

impl Pending {
    fn add(&mut self, item: SilenceItem) {
        match self.items.len() < LISTED {
            true => self.items.push(item),
            false => self.left_out = self.left_out.saturating_add(1),
        }
    }

    /// When the next mail may be queued; `None` if there is nothing to report.
    pub fn next(&self, now: Instant) -> Option<Instant> {
        if self.posting || self.items.is_empty() {
            return None;
        }
        let full = self.posted.front().filter(|_| self.posted.len() >= SINGLES);
        Some(full.map_or(now, |oldest| *oldest + WINDOW).max(self.again.unwrap_or(now)))
    }

    /// What goes into one mail, if it may be queued now, or `at_once`.
    fn take(&mut self, now: Instant, at_once: bool) -> Option<(Vec<SilenceItem>, usize)> {
        self.next(now).filter(|at| at_once || *at <= now)?;
        self.posting = true;
        Some((std::mem::take(&mut self.items), std::mem::take(&mut self.left_out)))
    }

    /// The mail was queued.
    fn posted(&mut self, now: Instant) {
        (self.posting, self.again) = (false, None);
        self.posted.push_back(now);
        while self.posted.len() > SINGLES {
            self.posted.pop_front();
        }
    }

    /// It was not.
    fn refused(&mut self, items: Vec<SilenceItem>, left_out: usize, now: Instant) {
        (self.posting, self.again) = (false, Some(now + AGAIN));
        let later = std::mem::replace(&mut self.items, items);
        self.left_out = self.left_out.saturating_add(left_out);
        later.into_iter().for_each(|item| self.add(item));
    }
}

/// A mail about silent devices was queued, or was not.
pub struct Posted {
    items: Vec<SilenceItem>,
    left_out: usize,
    /// Why it was not.
    error: Option<IntakeError>,
}

/// What outlives the run was stored, or was not.
pub struct Stored {
    records: Records,
    error: Option<String>,
}

impl Dispatch {
    /// A message was accepted. Those that the gateway itself wrote say nothing about the device that they are about.
    pub(in crate::dispatch) fn hear(&mut self, meta: &Meta, now: Instant) {
        let own = meta.notice || meta.marks.replaces.is_some();
        let device = meta.marks.device.as_deref().filter(|_| !own);
        if let Some(change) = device.and_then(|device| self.silence.heard(device, now)) {
            self.report_silence(change);
        }
    }

    /// The settings have changed.
    pub(in crate::dispatch) fn renew_silence(&mut self, settings: &Settings) {
        let gone = self.silence.renew(&settings.devices, Instant::now());
        gone.into_iter().for_each(|change| self.report_silence(change));
        self.look_for_silence();
    }

    /// When [`Self::look_for_silence`] has something to do; never without devices that are expected to send.
    pub(in crate::dispatch) fn next_silence(&self, now: Instant) -> Option<Instant> {
        self.silence.next(now).into_iter().chain(self.about_silence.next(now)).min()
    }

    /// Reports and stores what is due.
    pub(in crate::dispatch) fn look_for_silence(&mut self) {
        let now = Instant::now();
        self.silence.look(now).into_iter().for_each(|change| self.report_silence(change));
        self.post_about_silence(false);
        if let Some(records) = self.silence.take_records(now) {
            let path = self.silence_file.clone();
            self.start(async move {
                let (records, done) = task::blocking(move || {
                    let done = file::write(&path, &records);
                    (records, done.map_err(|error| format!("cannot write {}: {error}", path.display())))
                })
                .await
                .unwrap_or_else(|| (Records::new(), Err("the gateway is shutting down".into())));
                Finished::SilenceStored(Stored { records, error: done.err() })
            });
        }
    }

    /// What outlives the run is on the disk.
    pub(in crate::dispatch) fn silence_stored(&mut self, stored: Stored) {
        let Stored { records, error } = stored;
        self.silence.stored(&records, error.is_none(), Instant::now());
        // Once: it is retried every minute.
        if let Some(reason) = error.clone().filter(|_| !self.silence_troubled) {
            Event::SpoolTrouble { id: String::new(), reason }.log();
        }
        self.silence_troubled = error.is_some();
    }

    fn report_silence(&mut self, change: Change) {
        let reason = change.reason();
        let Change { turn, name: device, title: name, every, silent, last } = change;
        let last = last.and_then(Moment::wall);
        if turn != Turn::Ended {
            let is_silent = turn == Turn::Silent;
            let item = SilenceItem { device: device.clone(), name: name.clone(), is_silent, every, silent, last };
            self.about_silence.add(item);
        }
        match turn {
            Turn::Silent => Event::DeviceSilent { device, name, last, reason }.log(),
            Turn::Heard | Turn::Ended => {
                Event::DeviceOk { device, name, heard: turn == Turn::Heard, reason }.log();
            }
        }
    }

    /// Queues a mail about what has changed, if it is its time, or `at_once`.
    pub(in crate::dispatch) fn post_about_silence(&mut self, at_once: bool) {
        let Some((items, left_out)) = self.about_silence.take(Instant::now(), at_once) else { return };
        let (settings, desk) = (self.settings.borrow().clone(), self.desk.clone());
        self.start(async move {
            let error = post(&settings, &desk, &items, left_out).await.err();
            Finished::SilencePosted(Posted { items, left_out, error })
        });
    }

    /// The mail is in the queue.
    pub(in crate::dispatch) fn silence_posted(&mut self, posted: Posted) {
        let (Posted { items, left_out, error }, now) = (posted, Instant::now());
        if let Some(error) = error {
            // Once: it is retried every minute.
            if self.about_silence.again.is_none() {
                let text = format!("the notification about silent devices cannot be queued yet: {error}");
                Event::Advice { text }.log();
            }
            return self.about_silence.refused(items, left_out, now);
        }
        self.about_silence.posted(now);
        self.silence.noticed(items.iter().filter(|item| item.is_silent).map(|item| item.device.as_str()), now);
    }

    /// The run ends: everything is stored.
    pub(in crate::dispatch) async fn store_silence(&self) {
        let Some(records) = self.silence.at_end(Instant::now()) else { return };
        let path = self.silence_file.clone();
        let written = task::blocking(move || {
            file::write(&path, &records).map_err(|error| format!("cannot write {}: {error}", path.display()))
        });
        if let Some(Err(reason)) = written.await {
            Event::SpoolTrouble { id: String::new(), reason }.log();
        }
    }
}

/// Who is notified; otherwise why nobody is.
fn owner(settings: &Settings) -> Result<String, &'static str> {
    let mut accounts = settings.accounts.iter().filter(|account| account.channel.is_none());
    let account = accounts.next();
    if account.is_none() && !settings.accounts.is_empty() {
        return Err("only channels are set up, and notifications are sent as mail; add a section account");
    }
    let to = settings.relay.admin.clone().or_else(|| account.map(|account| account.from.clone()));
    to.filter(|to| is_address(to)).ok_or("no known address may receive a notification; set option admin")
}

async fn post(settings: &Settings, desk: &Desk, items: &[SilenceItem], left_out: usize) -> Result<(), IntakeError> {
    let about = match items {
        [one] => one.device.clone(),
        _ => format!("{}-devices", items.len().saturating_add(left_out)),
    };
    let to = match owner(settings) {
        Ok(to) => to,
        Err(reason) => {
            Event::Unreported { about, reason: reason.into() }.log();
            return Ok(());
        }
    };
    let hostname = settings.relay.hostname();
    let from = settings.own_address(&hostname);
    let notice = SilenceNotice { hostname: &hostname, from: &from, to: &to, items, left_out };
    // With the null sender: it is never bounced (RFC 5321 section 4.5.5).
    let envelope = Envelope { from: String::new(), to: vec![to.clone()], smtputf8: !to.is_ascii() };
    let id = desk.post(&notice.text(), envelope, Behalf::default(), (&hostname, &from)).await?;
    Event::Notified { id, about, to }.log();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{load, uci};

    fn item(name: &str) -> SilenceItem {
        SilenceItem {
            device: name.into(),
            name: name.into(),
            is_silent: true,
            every: WINDOW,
            silent: WINDOW,
            last: None,
        }
    }

    #[test]
    fn the_first_mails_are_sent_at_once_and_what_follows_shares_one() {
        let (mut pending, start) = (Pending::default(), Instant::now());
        assert_eq!((pending.next(start), pending.take(start, true)), (None, None));
        for n in 0..SINGLES {
            pending.add(item("a"));
            assert_eq!(pending.take(start, false).map(|(items, _)| items.len()), Some(1), "{n}");
            // One at a time.
            pending.add(item("b"));
            assert_eq!((pending.next(start), pending.take(start, true)), (None, None));
            pending.items.clear();
            pending.posted(start);
        }
        pending.add(item("c"));
        pending.add(item("d"));
        assert_eq!((pending.take(start, false), pending.next(start)), (None, Some(start + WINDOW)));
        assert_eq!(pending.take(start + WINDOW, false).map(|(items, _)| items.len()), Some(2));
        // What is refused is retried with what has come meanwhile, and is bounded.
        pending.refused(vec![item("c"), item("d")], 0, start + WINDOW);
        (0..LISTED).for_each(|_| pending.add(item("e")));
        assert_eq!(pending.next(start + WINDOW), Some(start + WINDOW + AGAIN));
        let (items, left_out) = pending.take(start + WINDOW, true).unwrap();
        assert_eq!((items.len(), items[0].device.as_str(), left_out), (LISTED, "c", 2));
    }

    #[test]
    fn the_administrator_is_told_or_else_the_account() {
        let told = |text: &str| owner(&load::settings(&uci::parse(text.as_bytes()).unwrap()).0);
        let account = "config account 'a'\n option host 'h'\n option from 'me@example.com'\n";
        let channel = "config channel 'c'\n option service 'ntfy'\n option to 'topic'\n";
        assert_eq!(told(account).as_deref(), Ok("me@example.com"));
        let admin = format!("config relay\n option admin 'admin@example.com'\n{account}");
        assert_eq!(told(&admin).as_deref(), Ok("admin@example.com"));
        assert!(told(channel).unwrap_err().contains("only channels"));
        assert!(told("config relay\n").unwrap_err().contains("option admin"));
    }
}
