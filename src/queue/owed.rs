// SPDX-License-Identifier: Apache-2.0
//! Changes that the disk has refused so far: removals and notes.
//!
//! A disk that has become read-only, or fails for a while, does not stop delivery. The results are kept
//! here, apply at once ([`Spool::open_message`] and the start of the next run take them into account), and are written
//! down as soon as the disk accepts them. So that a restart of the program neither resends nor forgets, they are also
//! appended to a file `owed` in each of the two directories that accepts it. As `spool` is a RAM disk on most routers,
//! a reboot while the disk refuses everything loses them: then delivered messages are sent again; no mail is lost.
//!
//! A line of the file is `ID gone`, or `ID` and a record of the journal. Torn lines are skipped; IDs are never reused,
//! so outdated lines have no effect.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::error::SpoolError;
use super::id::MessageId;
use super::journal::Note;
use super::spool::{Entry, Spool};
use super::state::State;
use crate::report::Event;

/// Its name, next to `queue`.
const FILE: &str = "owed";
/// Bytes of it that are read at a start: as many as the largest queue can owe.
const FILE_LIMIT: u64 = 8 << 20;
/// Messages that are tried in one go; callers call again.
const AT_ONCE: usize = 256;
/// After so many failures in a row the disk is the cause, not the message.
const ENOUGH: usize = 8;

/// What is still to be written for one message.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Debt {
    /// It is finished and must not be sent again.
    Gone(Entry),
    /// These notes have to be written, in this order.
    Notes(Entry, Vec<Note>),
}

/// All pending changes. There is at most one debt for each file in the queue.
#[derive(Debug, Default)]
pub(super) struct Owed {
    debts: BTreeMap<MessageId, Debt>,
    /// Whether there may be a file.
    written: bool,
    /// Whether a thread is working on it.
    paying: bool,
    /// Where the last round ended.
    last: Option<MessageId>,
}

impl Spool {
    /// As [`Self::remove`]. What cannot be removed now is removed later, and not sent again meanwhile.
    ///
    /// # Errors
    /// When it could not be removed now; the text says whether this survives a restart of the program.
    pub fn remove_for_good(&self, entry: &Entry) -> Result<(), String> {
        self.remove(entry).map_err(|error| self.owe(Debt::Gone(entry.clone()), &error))
    }

    /// As [`Self::record`]. What cannot be recorded now applies anyway and is recorded later. Messages that are gone
    /// get no notes.
    ///
    /// # Errors
    /// As [`Self::remove_for_good`].
    pub fn record_for_good(&self, entry: &Entry, note: Note) -> Result<(), String> {
        // In their order: after those that are waiting already.
        let error = match self.owed().debts.contains_key(&entry.id) {
            true => SpoolError::Io(std::io::Error::other("earlier notes could not be written to the disk yet")),
            false => match self.record(entry, &note) {
                Ok(()) => return Ok(()),
                Err(SpoolError::Io(error)) if error.kind() == ErrorKind::NotFound && self.has_directories() => {
                    return Ok(());
                }
                Err(error) => error,
            },
        };
        Err(self.owe(Debt::Notes(entry.clone(), vec![note]), &error))
    }

    /// Remembers a failed removal, for a message that is in the accounting.
    pub(super) fn owe_removal(&self, entry: &Entry, error: &SpoolError) -> String {
        self.owe(Debt::Gone(entry.clone()), error)
    }

    fn owe(&self, debt: Debt, error: &SpoolError) -> String {
        let (lines, what) = match &debt {
            Debt::Gone(entry) => {
                (format!("{} gone\n", entry.id).into_bytes(), "it is finished but cannot be removed from the queue yet")
            }
            Debt::Notes(entry, notes) => {
                let record =
                    |note: &Note| [entry.id.as_str().as_bytes(), b" ", note.encode().trim_ascii(), b"\n"].concat();
                (notes.iter().flat_map(record).collect(), "its result cannot be recorded on the disk yet")
            }
        };
        let mut owed = self.owed();
        let mut remembered = false;
        for path in self.owed_files() {
            remembered |= self.append_line(&path, &lines).is_ok();
        }
        owed.written |= remembered;
        let id = debt.entry().id;
        match (debt, owed.debts.get_mut(&id)) {
            (_, Some(Debt::Gone(_))) => {}
            (Debt::Notes(_, new), Some(Debt::Notes(_, notes))) => notes.extend(new),
            (debt, _) => drop(owed.debts.insert(id, debt)),
        }
        let then = match remembered {
            true => "this survives a restart of the program",
            false => "this cannot be stored anywhere, so it would be sent again after a restart",
        };
        format!("{what}; retrying every 10 s; {then}: {error}")
    }

    fn append_line(&self, path: &Path, lines: &[u8]) -> std::io::Result<()> {
        let mut file = self.disk.append_or_create(path)?;
        file.append(lines)?;
        file.sync_data()
    }

    fn owed_files(&self) -> Vec<PathBuf> {
        let all = [Some(&self.spool), self.safe.as_ref()];
        all.into_iter().flatten().filter_map(|directory| Some(directory.queue.parent()?.join(FILE))).collect()
    }

    /// Whether changes are pending.
    pub fn owes(&self) -> bool {
        let owed = self.owed();
        owed.written || !owed.debts.is_empty()
    }

    /// Tries again to write what is pending, or part of it. Blocks. Does nothing while another thread does it.
    pub fn pay(&self) {
        if !std::mem::replace(&mut self.owed().paying, true) {
            self.pay_some();
            self.owed().paying = false;
        }
    }

    fn pay_some(&self) {
        let (round, all): (Vec<Debt>, usize) = {
            let owed = self.owed();
            let after = owed.last;
            let (early, late): (Vec<_>, Vec<_>) = owed.debts.iter().partition(|(id, _)| Some(**id) <= after);
            (late.into_iter().chain(early).take(AT_ONCE).map(|(_, debt)| debt.clone()).collect(), owed.debts.len())
        };
        let mut failed = 0;
        for debt in round {
            let id = debt.entry().id;
            self.owed().last = Some(id);
            if self.pay_one(&debt).is_err() {
                failed += 1;
                if failed >= ENOUGH {
                    return;
                }
                continue;
            }
            failed = 0;
            let mut owed = self.owed();
            match owed.debts.get_mut(&id) {
                // More notes came in the meantime.
                Some(Debt::Notes(_, notes)) if notes.len() > debt.notes() => drop(notes.drain(..debt.notes())),
                Some(Debt::Gone(_)) if debt.notes() > 0 => {}
                _ => drop(owed.debts.remove(&id)),
            }
        }
        let mut owed = self.owed();
        if owed.debts.is_empty() && all <= AT_ONCE {
            let mut gone = true;
            for path in self.owed_files() {
                gone &= !path.exists() || self.disk.clear(&path).is_ok();
            }
            owed.written = !gone;
        }
    }

    fn pay_one(&self, debt: &Debt) -> Result<(), SpoolError> {
        let id = debt.entry().id;
        let places = [Some(&self.spool), self.safe.as_ref()];
        if !places.into_iter().flatten().any(|directory| directory.file(id).exists()) {
            if !self.has_directories() {
                // The drive was removed: it may come back.
                return Err(SpoolError::Io(ErrorKind::NotFound.into()));
            }
            // It is gone. What failed was making this permanent.
            for directory in places.into_iter().flatten().filter(|directory| directory.sync) {
                self.disk.sync_directory(&directory.queue)?;
            }
            return Ok(());
        }
        match debt {
            Debt::Gone(entry) => {
                self.remove(entry)?;
                Event::Removed { id: id.to_string() }.log();
                Ok(())
            }
            Debt::Notes(entry, notes) => notes.iter().try_for_each(|note| self.record(entry, note)),
        }
    }

    /// Reads what an earlier run left pending, for existing messages: `find` knows them. Writes what it can. Whether
    /// there was anything.
    pub(super) fn take_over_debts(&self, find: impl Fn(MessageId) -> Option<Entry>) -> bool {
        for path in self.owed_files() {
            let Some(said) = read(&path, |id| find(id).is_some()) else { continue };
            let mut owed = self.owed();
            owed.written = true;
            // One file may contain what the other lacks: each adds what is new to it.
            for (entry, said) in said.into_iter().filter_map(|(id, said)| Some((find(id)?, said))) {
                let debt = match said {
                    Said::Gone => Debt::Gone(entry),
                    Said::Notes(notes) => Debt::Notes(entry, notes),
                };
                let id = debt.entry().id;
                match owed.debts.get(&id) {
                    Some(known) if known.weight() >= debt.weight() => {}
                    _ => drop(owed.debts.insert(id, debt)),
                }
            }
        }
        let owes = self.owes();
        if owes {
            self.pay();
        }
        owes
    }

    /// Whether a message in the queue is finished.
    pub(super) fn is_owed_gone(&self, id: MessageId) -> bool {
        matches!(self.owed().debts.get(&id), Some(Debt::Gone(_)))
    }

    /// Adds to the state of a message what its file does not contain yet.
    pub(super) fn apply_owed(&self, id: MessageId, state: &mut State) {
        if let Some(Debt::Notes(_, notes)) = self.owed().debts.get(&id) {
            notes.iter().for_each(|note| state.apply(note));
        }
    }
}

impl Debt {
    fn entry(&self) -> &Entry {
        match self {
            Self::Gone(entry) | Self::Notes(entry, _) => entry,
        }
    }

    fn notes(&self) -> usize {
        match self {
            Self::Gone(_) => 0,
            Self::Notes(_, notes) => notes.len(),
        }
    }

    /// Of two debts for one message, the one with more information applies.
    fn weight(&self) -> usize {
        match self {
            Self::Gone(_) => usize::MAX,
            Self::Notes(_, notes) => notes.len(),
        }
    }
}

/// What a file says of one message.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Said {
    /// It is finished.
    Gone,
    /// These results, in this order.
    Notes(Vec<Note>),
}

impl Said {
    fn weight(&self) -> usize {
        match self {
            Self::Gone => usize::MAX,
            Self::Notes(notes) => notes.len(),
        }
    }
}

/// What the files in `directories`, those of `queue`, say of all messages: for the command line, while no gateway runs.
pub(super) fn remembered<'a>(directories: impl Iterator<Item = &'a PathBuf>) -> BTreeMap<MessageId, Said> {
    let mut all: BTreeMap<MessageId, Said> = BTreeMap::new();
    for (id, said) in directories.filter_map(|directory| read(&directory.join(FILE), |_| true)).flatten() {
        match all.get(&id) {
            Some(known) if known.weight() >= said.weight() => {}
            _ => drop(all.insert(id, said)),
        }
    }
    all
}

/// What one file says of the messages that are `wanted`. `None` when no file can be read.
fn read(path: &Path, wanted: impl Fn(MessageId) -> bool) -> Option<BTreeMap<MessageId, Said>> {
    if fs::metadata(path).ok()?.len() > FILE_LIMIT {
        return None;
    }
    let mut all = BTreeMap::new();
    for (id, line) in fs::read(path).ok()?.split(|byte| *byte == b'\n').filter_map(parse).filter(|(id, _)| wanted(*id))
    {
        match line {
            OwedLine::Gone => drop(all.insert(id, Said::Gone)),
            OwedLine::Note(note) => match all.entry(id).or_insert(Said::Notes(Vec::new())) {
                Said::Notes(notes) => notes.push(note),
                Said::Gone => {}
            },
        }
    }
    Some(all)
}

enum OwedLine {
    Gone,
    Note(Note),
}

fn parse(line: &[u8]) -> Option<(MessageId, OwedLine)> {
    let (id, rest) = line.split_at_checked(10)?;
    let id = std::str::from_utf8(id).ok()?.parse().ok()?;
    match rest.strip_prefix(b" ")? {
        b"gone" => Some((id, OwedLine::Gone)),
        record => Note::read(record).next().map(|note| (id, OwedLine::Note(note))),
    }
}
