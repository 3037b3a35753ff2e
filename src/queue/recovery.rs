// SPDX-License-Identifier: Apache-2.0
//! What is in the directories: after a crash for the program, at any time for the command line.
//!
//! A start has two phases, so that devices can connect before thousands of messages are read: [`Spool::scan`] lists
//! the directories and cleans up, [`Spool::inspect`] reads one message.

use std::ffi::OsStr;
use std::fs::{self, File, Metadata};
use std::io::{self, ErrorKind};
use std::path::PathBuf;
use std::time::SystemTime;

use super::disk::Removed;
use super::entry::{ById, Client, Directory, Entry, MessageId, Place, SpoolError};
use super::journal::State;
use super::owed::{self, Debt, remembered};
use super::record::Meta;
use super::spool::Spool;
use super::stored::{Stored, inspect, is_one_file, is_whole};
use crate::config::Relay;
use crate::report::Event;
use crate::system::publish;

/// A file left by an earlier run, not read yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Found {
    /// The message that it should contain.
    pub id: MessageId,
    /// The directory that it is in.
    pub place: Place,
    /// Bytes of the file.
    pub size: u64,
    changed: SystemTime,
}

impl Found {
    fn entry(&self, arrived: i64, client: Client) -> Entry {
        Entry { id: self.id, client, place: self.place, arrived, size: self.size }
    }
}

impl Spool {
    /// Lists what an earlier run left, ordered by file time. Leftovers of interrupted receptions are removed, of a
    /// message in both directories one is kept, and the accounting of the queue starts. Never a reason not to start.
    ///
    /// Must be called before the first draft is created, by the one process that has the queue.
    pub fn scan(&self) -> Vec<Found> {
        let safe = self.safe.as_ref().map(|directory| self.scan_directory(Place::Safe, directory)).unwrap_or_default();
        let mut found = self.scan_directory(Place::Spool, &self.spool);
        for (id, copy) in safe {
            let kept = match found.remove(&id) {
                Some(original) => Box::new(self.choose(*copy, *original)),
                None => copy,
            };
            found.insert(id, kept);
        }
        if self.safe.is_some() {
            // An original that was removed, now or by a run that was killed then, must not come back after its copy was
            // sent. On a RAM disk this costs nothing.
            let _ = self.disk.sync_directory(&self.spool.queue);
        }
        let mut ledger = self.ledger();
        (ledger.spool, ledger.safe, ledger.reserved) = Default::default();
        found.values().for_each(|file| ledger.add(file.place, file.size, self.room_of(file.place, file.size)));
        drop(ledger);
        if self.take_over_debts(|id| found.get(&id).map(|found| found.entry(0, Client::Own))) {
            // Delivered by an earlier run, and removed now or later.
            found.retain(|id, file| !self.is_owed_gone(*id) && self.directory(file.place).file(*id).exists());
        }
        self.look_for_vacancy();
        let mut found: Vec<Found> = found.into_values().map(|found| *found).collect();
        found.sort_by_key(|file| (file.changed, file.id));
        found
    }

    /// Reads what an earlier run left pending, for existing messages: `find` knows them. Writes what it can. Whether
    /// there was anything.
    fn take_over_debts(&self, find: impl Fn(MessageId) -> Option<Entry>) -> bool {
        if let Some(debts) = remembered(self.owed_files(), |id| find(id).is_some()) {
            let mut owed = self.owed();
            owed.written = true;
            let known = debts.into_iter().filter_map(|(id, debt)| Some((find(id)?, *debt)));
            known.for_each(|(entry, debt)| owed.take_over(entry, debt));
        }
        let owes = self.owes();
        if owes {
            self.pay();
        }
        owes
    }

    fn scan_directory(&self, place: Place, directory: &Directory) -> ById<Found> {
        let trouble = |reason| Event::SpoolTrouble { id: String::new(), reason }.log();
        let name = directory.queue.display();
        if directory.sync {
            // What a killed run wrote is visible, but perhaps not on the disk yet.
            if let Err(error) = self.disk.sync_file_system(&directory.queue) {
                trouble(format!("cannot sync {name}: {error}"));
            }
        }
        let files = match files_of(directory) {
            Ok(files) => files,
            Err(error) => {
                trouble(format!("cannot list the queue in {name}, so mail there stays until the next start: {error}"));
                return ById::new();
            }
        };
        for (path, error) in files.unreadable {
            trouble(format!(
                "cannot read {}, which is skipped until the next start: {error}; the kernel log (dmesg) says why: check the file system (fsck)",
                path.display()
            ));
        }
        for twin in files.twins {
            trouble(format!(
                "a power cut has left {} and a message that share the same blocks; that message was not accepted yet and is skipped; check \
                 the file system before anything there is removed: unmount it and run fsck (on vfat: fsck.fat -a)",
                twin.display()
            ));
        }
        let mut removed = Removed::from(&self.disk, &directory.queue);
        for leaving in files.leavings {
            match self.disk.remove(&leaving) {
                Ok(blocks) => removed.add(blocks),
                Err(error) => trouble(format!("cannot remove {}, which takes up space: {error}", leaving.display())),
            }
        }
        if removed.count > 0 && directory.sync {
            // Their blocks may soon belong to new messages, so they must not come back.
            let _ = removed.sync();
        }
        for path in files.foreign {
            self.set_file_aside(&path, "its name is not a message ID");
        }
        let mut found = ById::new();
        for (id, size, changed) in files.messages {
            found.insert(id, Box::new(Found { id, place, size, changed }));
        }
        found
    }

    /// A message is in both directories: the crash came between its copy to safe storage and the removal of the
    /// original. The copy is complete then, since it has its final name; but nothing is removed before that is checked.
    fn choose(&self, copy: Found, original: Found) -> Found {
        let (copy_path, original_path) = (self.directory(Place::Safe).file(copy.id), self.spool.file(copy.id));
        let [one, other] = [&copy_path, &original_path].map(|path| fs::metadata(path).ok());
        if let (Some(one), Some(other)) = (one, other)
            && is_one_file(&one, &other)
        {
            // What is removed in one of the directories is gone from both.
            return original;
        }
        let whole = match is_whole(&copy_path, copy.id) {
            Ok(whole) => whole,
            // It cannot be read now. The original is removed together with it, later.
            Err(_) => return original,
        };
        if !whole {
            self.set_file_aside(&copy_path, "incomplete, but the original exists");
            return original;
        }
        // More was recorded in the original after a failed move: it is moved again, over the copy.
        if original.size > copy.size && matches!(is_whole(&original_path, copy.id), Ok(true)) {
            let moved = self.move_to_safe(vec![original.entry(0, Client::Own)]);
            return match moved.first() {
                Some((Entry { place: Place::Safe, .. }, _)) => Found { place: Place::Safe, ..original },
                _ => original,
            };
        }
        // Only the copy is left then, so it has to be on the disk for certain, whatever became of the sync of all.
        if self.disk.append(&copy_path).and_then(|file| file.sync_data()).is_ok() {
            let _ = self.disk.clear(&original_path);
        }
        copy
    }

    /// Reads one message that was found. `None` when it is damaged, and set aside then; when it cannot be read now, and
    /// stays for the next start; or when it is gone.
    pub fn inspect(&self, found: Found) -> Option<(Entry, Meta, State)> {
        let entry = found.entry(0, Client::Own);
        let path = self.directory(found.place).file(found.id);
        match inspect(&path, found.id.as_str()) {
            Ok((Stored { meta, mut state, .. }, _)) => {
                if let Some(debt) = self.owed().of(found.id) {
                    debt.apply(&mut state);
                }
                let arrived = state.arrived.unwrap_or(meta.arrived);
                let entry = found.entry(arrived, meta.owner());
                self.ledger().claim(entry.client, self.share_of(&entry), 1);
                Some((entry, meta, state))
            }
            Err(SpoolError::Damaged(reason)) => {
                self.set_aside(&entry, &reason);
                None
            }
            Err(SpoolError::Io(error)) if error.kind() == ErrorKind::NotFound => {
                self.book_gone(found.place, found.size);
                None
            }
            // The file may be intact and the disk in trouble.
            Err(error) => {
                Event::SpoolTrouble { id: found.id.to_string(), reason: error.to_string() }.log();
                None
            }
        }
    }

    /// Both phases at once.
    pub fn recover(&self) -> Vec<Entry> {
        self.scan().into_iter().filter_map(|found| self.inspect(found)).map(|(entry, _, _)| entry).collect()
    }

    /// What is in the directories of `relay`, as `view` describes each, for the command line; changes nothing and
    /// needs no running gateway. Finished messages that could not be removed yet are not listed.
    ///
    /// # Errors
    /// When a directory cannot be read; one that does not exist is empty.
    pub fn list<T>(
        relay: &Relay,
        view: impl Fn(&MessageId, Result<(Stored, u64), SpoolError>) -> T,
    ) -> Result<Vec<T>, String> {
        let mut seen = ById::new();
        let places = || relay.safe_spool.iter().chain([&relay.spool]);
        let owed = remembered(places().map(|path| path.join(owed::FILE)), |_| true).unwrap_or_default();
        for path in places() {
            let directory = Directory { queue: path.join("queue"), sync: false, block: 1, in_memory: false };
            let files = match files_of(&directory) {
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                files => files.map_err(|e| format!("cannot read the queue in {}: {e}", directory.queue.display()))?,
            };
            for (path, error) in files.unreadable {
                let id = path.file_stem().and_then(OsStr::to_str).and_then(|name| name.parse().ok());
                let Some(id) = id else { return Err(format!("cannot read the queue in {}: {error}", path.display())) };
                seen.insert(id, Box::new(view(&id, Err(error.into()))));
            }
            for (id, _, _) in files.messages {
                let debt = owed.get(&id).map(|debt| &**debt);
                if debt != Some(&Debt::Gone) && !seen.contains_key(&id) {
                    match inspect(&directory.file(id), id.as_str()) {
                        // It was delivered in the meantime.
                        Err(SpoolError::Io(error)) if error.kind() == ErrorKind::NotFound => {}
                        Ok((mut stored, size)) => {
                            debt.into_iter().for_each(|debt| debt.apply(&mut stored.state));
                            seen.insert(id, Box::new(view(&id, Ok((stored, size)))));
                        }
                        error => drop(seen.insert(id, Box::new(view(&id, error)))),
                    }
                }
            }
        }
        Ok(seen.into_values().map(|seen| *seen).collect())
    }
}

/// The contents of one directory.
#[derive(Default)]
pub(super) struct Files {
    /// Messages: name, size, time of the last change.
    pub(super) messages: Vec<(MessageId, u64, SystemTime)>,
    /// Leftovers of interrupted receptions and moves.
    leavings: Vec<PathBuf>,
    /// Files that look like a message but cannot be one.
    foreign: Vec<PathBuf>,
    /// Leftovers that share their blocks with a message, which is not listed either.
    twins: Vec<PathBuf>,
    /// What cannot be read, and why: on a damaged file system, which must not hold up the mail next to it.
    unreadable: Vec<(PathBuf, io::Error)>,
}

impl Files {
    /// Files one entry of the directory under what it is. Those that are not ours are ignored.
    fn take(&mut self, path: PathBuf, metadata: impl FnOnce() -> io::Result<Metadata>) {
        let Some(name) = path.file_name().and_then(OsStr::to_str) else { return };
        if name.starts_with('.') && name.ends_with(".tmp") {
            return self.leavings.push(path);
        }
        let Some(id) = name.strip_suffix(".msg").map(str::parse) else { return };
        match (id, metadata()) {
            // A power cut came before its content was on the disk: it was not accepted.
            (Ok(_), Ok(found)) if found.is_file() && found.len() == 0 => self.leavings.push(path),
            (Ok(id), Ok(found)) if found.is_file() => {
                self.messages.push((id, found.len(), found.modified().unwrap_or(SystemTime::UNIX_EPOCH)));
            }
            (_, Err(error)) if error.kind() == ErrorKind::NotFound => {}
            (_, Err(error)) => self.unreadable.push((path, error)),
            (_, Ok(_)) => self.foreign.push(path),
        }
    }

    /// Sorts out what a power cut during a rename leaves on vfat and the like, where a rename is two changes of the directory: the
    /// new name without a size, which is a leftover like others; or both names with the same blocks. None of these two
    /// may be removed: the blocks would be freed though the other one uses them, and a message that is accepted later would
    /// be damaged when that one is removed. Neither is promised, since the directory was not synced yet. Once
    /// `fsck.fat` has separated them they are treated like others.
    fn sort_out_renames(&mut self, directory: &Directory) {
        self.leavings.retain(|leaving| {
            let size = fs::metadata(leaving).map_or(0, |metadata| metadata.len());
            let twin =
                self.messages.iter().position(|(id, there, _)| *there == size && *leaving == directory.temporary(*id));
            if let Some(twin) = twin {
                self.messages.remove(twin);
                self.twins.push(leaving.clone());
            }
            twin.is_none()
        });
    }
}

/// Whether a directory of the queue certainly has no message.
pub(super) fn is_vacant(directory: &Directory) -> bool {
    files_of(directory).is_ok_and(|files| {
        files.messages.is_empty() && files.unreadable.is_empty() && files.twins.is_empty() && files.foreign.is_empty()
    })
}

/// Lists a directory of the queue.
pub(super) fn files_of(directory: &Directory) -> io::Result<Files> {
    let mut files = Files::default();
    for entry in fs::read_dir(&directory.queue)? {
        let entry = match entry {
            Ok(entry) => entry,
            // The rest of the directory is not returned.
            Err(error) => {
                files.unreadable.push((directory.queue.clone(), error));
                break;
            }
        };
        files.take(entry.path(), || entry.metadata());
    }
    if !publish::is_sound(&File::open(&directory.queue)?) {
        files.sort_out_renames(directory);
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_read_does_not_hold_up_the_mail_beside_it() {
        let place = tempfile::tempdir_in("/dev/shm").unwrap();
        let path = |name: &str| place.path().join(name);
        fs::write(path("0000000002.msg"), "x").unwrap();
        fs::write(path("0000000003.msg"), "").unwrap();
        let mut files = Files::default();
        // What ext4 answers for an entry whose inode a power cut has left deleted.
        files.take(path("0000000001.msg"), || Err(io::Error::from_raw_os_error(nix::libc::EUCLEAN)));
        files.take(path("0000000004.msg"), || Err(ErrorKind::NotFound.into()));
        for name in ["0000000002.msg", "0000000003.msg", "other"] {
            files.take(path(name), || fs::metadata(path(name)));
        }
        assert_eq!(
            files.messages.iter().map(|(id, size, _)| (id.as_str(), *size)).collect::<Vec<_>>(),
            [("0000000002", 1)]
        );
        assert_eq!(files.leavings, [path("0000000003.msg")]);
        let unreadable: Vec<_> = files.unreadable.iter().map(|(path, _)| path.clone()).collect();
        assert_eq!((unreadable, files.foreign.len()), (vec![path("0000000001.msg")], 0));
    }

    #[test]
    fn of_a_rename_that_was_cut_off_on_vfat_nothing_is_removed_that_shares_its_blocks() {
        let place = tempfile::tempdir_in("/dev/shm").unwrap();
        let directory = Directory { queue: place.path().into(), sync: true, block: 512, in_memory: false };
        let ids = ["0000000001", "0000000002", "0000000003", "0000000004"].map(|id| id.parse::<MessageId>().unwrap());
        let [both, no_size, parted, alone] = ids;
        for (id, message, leaving) in [
            (both, Some(700), Some(700)),
            (no_size, Some(0), Some(700)),
            (parted, Some(700), Some(0)),
            (alone, Some(700), None),
        ] {
            for (path, size) in [(directory.file(id), message), (directory.temporary(id), leaving)] {
                if let Some(size) = size {
                    fs::write(path, vec![0; size]).unwrap();
                }
            }
        }
        let listed = || {
            let mut files = files_of(&directory).unwrap();
            files.messages.sort_unstable();
            files.leavings.sort_unstable();
            files
        };
        let names = |files: &Files| files.messages.iter().map(|(id, _, _)| *id).collect::<Vec<_>>();
        // Elsewhere a rename is one change: all leftovers are removed.
        let mut files = listed();
        assert_eq!((names(&files), files.leavings.len()), (vec![both, parted, alone], 4));
        files.sort_out_renames(&directory);
        assert_eq!(names(&files), [parted, alone]);
        assert_eq!(files.twins, [directory.temporary(both)]);
        files.leavings.sort_unstable();
        let gone = [directory.temporary(no_size), directory.temporary(parted), directory.file(no_size)];
        assert_eq!(files.leavings, gone);
    }
}
