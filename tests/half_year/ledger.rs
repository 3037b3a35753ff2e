// SPDX-License-Identifier: Apache-2.0
//! What became of each mail that was accepted.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use super::mails::{GONE, Mail, PHONE};
use super::support::log::field;
use super::support::provider::Message;

/// A mail that got its 250.
struct Accepted {
    id: String,
    kind: Mail,
    /// The message in which it is in the queue: itself, or the digest that contains it.
    carrier: String,
    /// How often each recipient got it.
    arrived: BTreeMap<String, usize>,
    /// How often a report said that it failed.
    reported: usize,
    /// How many kills came while it was in the queue, or before its removal was logged.
    kills: usize,
    /// How many attempts ended because an answer did not come in time: whoever was asked may have taken it all the same. On the
    /// router the clock is set forward, now and then while an answer is on its way.
    unanswered: usize,
    /// It had been removed when such a kill came.
    is_gone: bool,
}

/// The books.
#[derive(Default)]
pub struct Ledger {
    mails: BTreeMap<usize, Accepted>,
    by_id: HashMap<String, usize>,
    removed: HashSet<String>,
    /// Each event of the log, and how often it came.
    pub events: BTreeMap<String, usize>,
    /// Mails of the gateway itself: reports, and digests by the mails that they contain.
    pub reports: usize,
    pub digests: usize,
    pub failed: usize,
}

/// What the books say at the end.
#[derive(Debug, Default)]
pub struct Total {
    pub accepted: usize,
    pub delivered: usize,
    pub failed: usize,
    pub doubled: usize,
    pub pushed: usize,
}

/// The name of a mail with this number, as it is in its subject.
pub fn name(number: usize) -> String {
    format!("[n{number:05}]")
}

/// The numbers of all names in this text, each once.
fn names(text: &str) -> BTreeSet<usize> {
    text.match_indices("[n").filter_map(|(at, _)| text.get(at + 2..at + 7)?.parse().ok()).collect()
}

impl Ledger {
    pub fn accept(&mut self, number: usize, id: &str, kind: Mail) {
        let new = Accepted {
            id: id.to_owned(),
            kind,
            carrier: id.to_owned(),
            arrived: BTreeMap::new(),
            reported: 0,
            kills: 0,
            unanswered: 0,
            is_gone: false,
        };
        assert!(self.by_id.insert(id.to_owned(), number).is_none(), "the ID {id} was given twice");
        self.mails.insert(number, new);
    }

    pub fn accepted(&self) -> usize {
        self.mails.len()
    }

    /// Those that are in the queue, as far as the log says.
    #[allow(dead_code)] // tests/router/half_year asks
    pub fn waiting(&self) -> usize {
        self.mails.values().filter(|mail| !self.removed.contains(&mail.carrier)).count()
    }

    /// Those that have reached all who can get them.
    pub fn arrived(&self) -> usize {
        let all = |mail: &&Accepted| mail.wanted().iter().all(|to| mail.arrived.contains_key(*to));
        self.mails.values().filter(all).count()
    }

    /// Takes in what the program has logged.
    pub fn log(&mut self, lines: &[String]) {
        for line in lines {
            let Some(event) = field(line, "event") else { continue };
            *self.events.entry(event.to_owned()).or_default() += 1;
            let Some(id) = field(line, "id") else { continue };
            match event {
                "removed" => _ = self.removed.insert(id.to_owned()),
                "delivered" => {
                    assert!(!self.removed.contains(id), "{id} was sent after it had been removed: {line}");
                }
                "deferred" if line.contains("did not answer within") => {
                    self.mails.values_mut().filter(|mail| mail.carrier == id).for_each(|mail| mail.unanswered += 1);
                }
                "failed" => self.failed += 1,
                "collected" => {
                    let digest = field(line, "digest").expect("the ID of the digest");
                    let mail = self.by_id.get(id).and_then(|number| self.mails.get_mut(number));
                    mail.unwrap_or_else(|| panic!("nobody sent {id}: {line}")).carrier = digest.to_owned();
                }
                _ => {}
            }
        }
    }

    /// The program was killed: what it had not removed may come once more. These IDs are in the queue; what is not among
    /// them was removed, and the kill came before the line in the log.
    pub fn killed(&mut self, queue: &HashSet<String>) {
        for mail in self.mails.values_mut().filter(|mail| !self.removed.contains(&mail.carrier)) {
            mail.kills += 1;
            mail.is_gone |= !queue.contains(&mail.carrier);
        }
        let gone = self.mails.values().filter(|mail| mail.is_gone).map(|mail| mail.carrier.clone());
        self.removed.extend(gone.collect::<Vec<_>>());
    }

    /// Takes in what the provider has accepted.
    pub fn provider(&mut self, messages: &[Message]) {
        for message in messages {
            let own = message.header("Auto-Submitted").is_some();
            let text = message.text();
            // A digest has a sender and names the mails in it; the mail after a start names none.
            if own && (message.sender.is_empty() || names(&text).is_empty()) {
                self.reports += 1;
                // A delay notification has another action.
                if text.contains("Action: failed") || text.contains("not delivered") {
                    names(&text).iter().for_each(|number| self.mail(*number).reported += 1);
                }
                continue;
            }
            self.digests += usize::from(own);
            let contained = if own { names(&text) } else { names(&message.header("Subject").unwrap_or_default()) };
            assert!(!contained.is_empty(), "nobody sent this: {text}");
            for number in contained {
                for to in &message.recipients {
                    *self.mail(number).arrived.entry(to.clone()).or_default() += 1;
                }
            }
        }
    }

    /// Takes in the title of a push.
    pub fn push(&mut self, title: &str) {
        for number in names(title) {
            *self.mail(number).arrived.entry(PHONE.to_owned()).or_default() += 1;
        }
    }

    fn mail(&mut self, number: usize) -> &mut Accepted {
        self.mails.get_mut(&number).unwrap_or_else(|| panic!("nothing was accepted as {}", name(number)))
    }

    /// Panics unless each mail is accounted for: each recipient has it once, or its failure was reported. Only a kill can
    /// have made a mail come once more, and only one that came while the mail was in the queue; or an answer that was not
    /// waited for.
    pub fn close(&self) -> Total {
        let mut total = Total { accepted: self.mails.len(), failed: self.failed, ..Total::default() };
        for (number, mail) in &self.mails {
            let what = || format!("{} ({}, {:?}): {:?}", name(*number), mail.id, mail.kind, mail.arrived);
            assert!(self.removed.contains(&mail.carrier), "it was never removed: {}", what());
            let wanted = mail.wanted();
            let got: Vec<&str> = mail.arrived.keys().map(String::as_str).collect();
            assert_eq!(got, wanted, "{}", what());
            let more = mail.arrived.values().map(|times| times - 1).max().unwrap_or(0);
            let known = mail.kills + mail.unanswered;
            assert!(
                more <= known,
                "it came {more} times more, which {known} kills and lost answers explain: {}",
                what()
            );
            total.doubled += usize::from(more > 0);
            total.delivered += usize::from(!wanted.is_empty());
            total.pushed += usize::from(wanted.contains(&PHONE));
            let fails = mail.kind.recipients().contains(&GONE);
            assert_eq!(mail.reported > 0, fails, "{} reports: {}", mail.reported, what());
            assert!(mail.reported <= usize::from(fails) + mail.kills, "{} reports: {}", mail.reported, what());
        }
        total
    }
}

impl Accepted {
    /// Who has to get it, in order.
    fn wanted(&self) -> Vec<&'static str> {
        let mut wanted: Vec<_> = self.kind.recipients().iter().copied().filter(|to| *to != GONE).collect();
        wanted.sort_unstable();
        wanted
    }
}
