// SPDX-License-Identifier: Apache-2.0
//! Changes that the disk has refused so far: removals and notes.
//!
//! A disk that has become read-only, or fails for a while, does not stop delivery. The results are kept
//! here, apply at once (messages that are opened and the start of the next run take them into account), and are written
//! down as soon as the disk accepts them. So that a restart of the program neither resends nor forgets, they are also
//! appended to a file `owed` in each of the two directories that accepts it. As `spool` is a RAM disk on most routers,
//! a reboot while the disk refuses everything loses them: then delivered messages are sent again; no mail is lost.
//!
//! A line of the file is `ID gone`, or `ID` and a record of the journal. Torn lines are skipped; IDs are never reused,
//! so outdated lines have no effect.

use std::fs;
use std::path::{Path, PathBuf};

use super::entry::{ById, Entry, MessageId};
use super::journal::{Note, State};

/// Its name, next to `queue`.
pub(super) const FILE: &str = "owed";
/// Bytes of it that are read at a start: as many as the largest queue can owe.
const FILE_LIMIT: u64 = 8 << 20;
/// Messages that are tried in one go; callers call again.
pub(super) const AT_ONCE: usize = 256;

/// What is still to be written for one message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Debt {
    /// It is finished and must not be sent again.
    Gone,
    /// These notes have to be written, in this order.
    Notes(Vec<Note>),
}

impl Debt {
    /// Of two debts for one message, the one with more information applies.
    fn weight(&self) -> usize {
        match self {
            Self::Gone => usize::MAX,
            Self::Notes(notes) => notes.len(),
        }
    }

    /// Adds a later change of the same message.
    fn add(&mut self, later: Self) {
        match (&mut *self, later) {
            (Self::Notes(notes), Self::Notes(new)) => notes.extend(new),
            (_, Self::Gone) => *self = Self::Gone,
            (Self::Gone, _) => {}
        }
    }

    /// Adds to the state of a message what its file does not contain yet.
    pub(super) fn apply(&self, state: &mut State) {
        if let Self::Notes(notes) = self {
            notes.iter().for_each(|note| state.apply(note));
        }
    }

    /// The lines of the file.
    pub(super) fn lines(&self, id: MessageId) -> Vec<u8> {
        let record = |note: &Note| [id.as_str().as_bytes(), b" ", note.encode().trim_ascii(), b"\n"].concat();
        match self {
            Self::Gone => format!("{id} gone\n").into_bytes(),
            Self::Notes(notes) => notes.iter().flat_map(record).collect(),
        }
    }
}

/// All pending changes. There is at most one debt for each file in the queue.
#[derive(Debug, Default)]
pub(super) struct Owed {
    /// Each with whether what was added last survives a restart.
    debts: ById<(Entry, Debt, bool)>,
    /// Whether there may be a file.
    pub(super) written: bool,
    /// Whether a thread is working on it.
    pub(super) paying: bool,
    /// Where the last round ended.
    pub(super) last: Option<MessageId>,
}

impl Owed {
    /// The number of messages with pending changes.
    pub(super) fn len(&self) -> usize {
        self.debts.len()
    }

    /// What is pending for a message.
    pub(super) fn of(&self, id: MessageId) -> Option<&Debt> {
        self.debts.get(&id).map(|owed| &owed.1)
    }

    /// Adds a change that came after those that are pending; `survives` is whether a restart would not forget it. Returns
    /// whether that is news about the message.
    pub(super) fn add(&mut self, entry: &Entry, debt: Debt, survives: bool) -> bool {
        let Some((owner, known, survived)) = self.debts.get_mut(&entry.id).map(|owed| &mut **owed) else {
            self.debts.insert(entry.id, Box::new((entry.clone(), debt, survives)));
            return true;
        };
        let is_finished = debt == Debt::Gone && *known != Debt::Gone;
        if is_finished {
            *owner = entry.clone();
        }
        known.add(debt);
        std::mem::replace(survived, survives) != survives || is_finished
    }

    /// Adds what an earlier run left pending, if nothing more is known.
    pub(super) fn take_over(&mut self, entry: Entry, debt: Debt) {
        if self.of(entry.id).is_none_or(|known| known.weight() < debt.weight()) {
            self.debts.insert(entry.id, Box::new((entry, debt, true)));
        }
    }

    /// What is tried next.
    pub(super) fn round(&self) -> Vec<(Entry, Debt)> {
        let (early, late): (Vec<_>, Vec<_>) = self.debts.iter().partition(|(id, _)| Some(**id) <= self.last);
        late.into_iter().chain(early).take(AT_ONCE).map(|(_, owed)| (owed.0.clone(), owed.1.clone())).collect()
    }

    /// This much is on the disk now.
    pub(super) fn paid(&mut self, id: MessageId, paid: &Debt) {
        match self.debts.get_mut(&id).map(|owed| &mut owed.1) {
            // More notes came in the meantime.
            Some(Debt::Notes(notes)) if notes.len() > paid.weight() => drop(notes.drain(..paid.weight())),
            Some(Debt::Gone) if *paid != Debt::Gone => {}
            _ => drop(self.debts.remove(&id)),
        }
    }
}

/// What `files` say of the messages that are `wanted`: one may contain what another lacks. `None` when none can be read.
pub(super) fn remembered(
    files: impl Iterator<Item = PathBuf>,
    wanted: impl Fn(MessageId) -> bool,
) -> Option<ById<Debt>> {
    let add = |mut all: ById<Debt>, one: ById<Debt>| {
        for (id, debt) in one {
            if all.get(&id).is_none_or(|known| known.weight() < debt.weight()) {
                all.insert(id, debt);
            }
        }
        all
    };
    files.filter_map(|path| read(&path, &wanted)).reduce(add)
}

/// What one file says. `None` when it cannot be read.
fn read(path: &Path, wanted: impl Fn(MessageId) -> bool) -> Option<ById<Debt>> {
    if fs::metadata(path).ok()?.len() > FILE_LIMIT {
        return None;
    }
    let mut all = ById::<Debt>::new();
    for (id, debt) in fs::read(path).ok()?.split(|byte| *byte == b'\n').filter_map(parse).filter(|(id, _)| wanted(*id))
    {
        match all.get_mut(&id) {
            Some(known) => known.add(debt),
            None => drop(all.insert(id, Box::new(debt))),
        }
    }
    Some(all)
}

fn parse(line: &[u8]) -> Option<(MessageId, Debt)> {
    let (id, rest) = line.split_at_checked(10)?;
    let id = std::str::from_utf8(id).ok()?.parse().ok()?;
    match rest.strip_prefix(b" ")? {
        b"gone" => Some((id, Debt::Gone)),
        record => Note::read(record).next().map(|note| (id, Debt::Notes(vec![note]))),
    }
}
