//! What should be on the disk and is not yet: removals and notes that it did not take.
//!
//! A disk that has become read-only, or fails for a while, does not stop the delivery of what lies on it. What came of
//! that is kept here, holds at once ([`Spool::open_message`] and the start of the next run reckon with it), and is written
//! down as soon as the disk takes it. So that a restart of the program neither sends again nor forgets, it is also
//! appended to a file `owed` in each of the two directories that takes it. As `spool` is a RAM disk on most routers, a
//! reboot while the disk takes nothing forgets it: then what had been delivered is sent again, and nothing is lost.
//!
//! A line of the file is `ID gone`, or `ID` and a record of the journal. What is torn is passed over; IDs do not come
//! twice, so lines that are out of date mean nothing.

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

/// Its name, beside `queue`.
const FILE: &str = "owed";
/// Bytes of it that are read at a start: as many as the largest queue can owe.
const FILE_LIMIT: u64 = 8 << 20;
/// Messages that are tried in one go; callers come again.
const AT_ONCE: usize = 256;
/// So many in a row that fail: it is the disk, not the message.
const ENOUGH: usize = 8;

/// What is owed for one message.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Debt {
    /// It is done and must not be sent again.
    Gone(Entry),
    /// These have to be noted, in this order.
    Notes(Entry, Vec<Note>),
}

/// All that is owed. There is at most one debt for each file in the queue.
#[derive(Debug, Default)]
pub(super) struct Owed {
    debts: BTreeMap<MessageId, Debt>,
    /// Whether there may be a file.
    written: bool,
    /// Whether somebody is at it.
    paying: bool,
    /// Where the last round ended.
    last: Option<MessageId>,
}

impl Spool {
    /// As [`Self::remove`]. What can't be removed now is removed later, and not sent again meanwhile.
    ///
    /// # Errors
    /// When it could not be removed now; the text says whether a restart of the program would know.
    pub fn remove_for_good(&self, entry: &Entry) -> Result<(), String> {
        self.remove(entry).map_err(|error| self.owe(Debt::Gone(entry.clone()), &error))
    }

    /// As [`Self::record`]. What can't be noted now holds all the same, and is noted later. Nothing is noted of a message
    /// that is gone.
    ///
    /// # Errors
    /// As [`Self::remove_for_good`].
    pub fn record_for_good(&self, entry: &Entry, note: Note) -> Result<(), String> {
        // In their order: behind those that wait already.
        let error = match self.owed().debts.contains_key(&entry.id) {
            true => SpoolError::Io(std::io::Error::other("the disk did not take what was to be noted before")),
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

    /// Takes note of a removal that has failed, for a message that is in the books.
    pub(super) fn owe_removal(&self, entry: &Entry, error: &SpoolError) -> String {
        self.owe(Debt::Gone(entry.clone()), error)
    }

    fn owe(&self, debt: Debt, error: &SpoolError) -> String {
        let (lines, what) = match &debt {
            Debt::Gone(entry) => (format!("{} gone\n", entry.id).into_bytes(), "it is done but can't be removed now"),
            Debt::Notes(entry, notes) => {
                let record =
                    |note: &Note| [entry.id.as_str().as_bytes(), b" ", note.encode().trim_ascii(), b"\n"].concat();
                (notes.iter().flat_map(record).collect(), "what came of it can't be written down now")
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
            true => "a restart of the program knows",
            false => "there is no place to remember it, so it would be sent again after a restart",
        };
        format!("{what}, and that is tried again every 10 s; {then}: {error}")
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

    /// Whether something is owed.
    pub fn owes(&self) -> bool {
        let owed = self.owed();
        owed.written || !owed.debts.is_empty()
    }

    /// Tries once more what is owed, or a part of it. Blocks. Nothing is done while somebody else does it.
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
                // More was noted in the meantime.
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
                // The drive was taken out: it may come back.
                return Err(SpoolError::Io(ErrorKind::NotFound.into()));
            }
            // It is gone. What has failed was to make that last.
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

    /// Reads what an earlier run owed, for messages that are there: `find` knows them. Pays what it can. Whether there was
    /// anything.
    pub(super) fn take_over_debts(&self, find: impl Fn(MessageId) -> Option<Entry>) -> bool {
        for path in self.owed_files() {
            let Some(said) = read(&path, |id| find(id).is_some()) else { continue };
            let mut owed = self.owed();
            owed.written = true;
            // One file may have what the other has not: each adds what is new to it.
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

    /// Whether a message that lies in the queue is done.
    pub(super) fn is_owed_gone(&self, id: MessageId) -> bool {
        matches!(self.owed().debts.get(&id), Some(Debt::Gone(_)))
    }

    /// Adds to the state of a message what its file does not say yet.
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

    /// Of two debts for one message the one that knows more counts.
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
    /// It is done.
    Gone,
    /// This came of it, in this order.
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

/// What the files in `directories`, those of `queue`, say of all messages: for people, while no program runs.
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

/// What one file says of the messages that are `wanted`. `None` when there is none that can be read.
fn read(path: &Path, wanted: impl Fn(MessageId) -> bool) -> Option<BTreeMap<MessageId, Said>> {
    if fs::metadata(path).ok()?.len() > FILE_LIMIT {
        return None;
    }
    let mut all = BTreeMap::new();
    for (id, line) in fs::read(path).ok()?.split(|byte| *byte == b'\n').filter_map(parse).filter(|(id, _)| wanted(*id))
    {
        match line {
            Line::Gone => drop(all.insert(id, Said::Gone)),
            Line::Note(note) => match all.entry(id).or_insert(Said::Notes(Vec::new())) {
                Said::Notes(notes) => notes.push(note),
                Said::Gone => {}
            },
        }
    }
    Some(all)
}

enum Line {
    Gone,
    Note(Note),
}

fn parse(line: &[u8]) -> Option<(MessageId, Line)> {
    let (id, rest) = line.split_at_checked(10)?;
    let id = std::str::from_utf8(id).ok()?.parse().ok()?;
    match rest.strip_prefix(b" ")? {
        b"gone" => Some((id, Line::Gone)),
        record => Note::read(record).next().map(|note| (id, Line::Note(note))),
    }
}
