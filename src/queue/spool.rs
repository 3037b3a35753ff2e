// SPDX-License-Identifier: Apache-2.0
//! The directories of the queue and their guarantees.
//!
//! A message is written to `queue/.ID.tmp` and published as `queue/ID.msg`, with the syncs of [`publish`] if the place
//! promises to survive a power cut. A small one is created as `queue/ID.msg` at once, where that is safe. So a file with its
//! final name is complete, or was never accepted: empty then, or with a checksum that does not match. Recovery is a scan of
//! the directory. All functions here block; callers are on a thread that may block.
//!
//! Here are the room in the queue, and what is done with messages that are in it. How they get there is in `draft`, how
//! they are found after a start in `recovery`; `moving` and `replace` are about many of them.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};

use super::blocking;
use super::disk::Disk;
use super::entry::{Client, Directory, Entry, MessageId, Place, SpoolError};
use super::journal::Note;
use super::ledger::{self, Ledger, Share, Wear};
use super::owed::{self, Debt, Owed};
use super::stored::{Stored, correct_dates, is_one_file, journal_length, read_message, read_notes};
use crate::config::{Durability, Relay};
use crate::report::{Event, counted};
use crate::system::lock;
use crate::system::memory::{self, Meminfo};
use crate::system::publish::{self, Blocks, PublishStep};

/// The maximum number of messages in the queue, whatever their size: each uses memory.
pub const MESSAGE_COUNT_LIMIT: usize = 20_000;
/// The share of a client in the queue, as a multiple of what is left free in addition.
const SHARE: usize = 7;
/// Bytes of a journal beyond which only lasting things are recorded: retries of many days stay far below.
const JOURNAL_BOUND: u64 = 256 << 10;
/// After so many failures in a row the disk is the cause, not the message.
const ENOUGH: usize = 8;

/// The queue on disk.
pub struct Spool {
    pub(super) disk: Disk,
    pub(super) spool: Directory,
    pub(super) safe: Option<Directory>,
    accept: Place,
    /// The memory of the system.
    pub(super) memory: Meminfo,
    /// The size limit of the queue in bytes.
    limit: Mutex<u64>,
    ledger: Mutex<Ledger>,
    /// Locked for writing while messages move: nothing is recorded in a file that has been copied already.
    pub(super) moving: RwLock<()>,
    /// See [`Spool::safe_is_vacant`].
    pub(super) vacant: AtomicBool,
    /// Locked while a record is appended.
    appending: Mutex<()>,
    /// What the disk has refused.
    owed: Mutex<Owed>,
}

impl Spool {
    /// Opens the directories, creating them where they are missing.
    ///
    /// # Errors
    /// When a directory cannot be created.
    pub fn open(relay: &Relay) -> Result<Arc<Self>, String> {
        Self::open_on(relay, Disk::default())
    }

    pub(super) fn open_on(relay: &Relay, mut disk: Disk) -> Result<Arc<Self>, String> {
        let always = relay.durability == Durability::Always;
        let directory = |path: &Path, sync| {
            let queue = path.join("queue");
            // The outer directory may be traversed (it contains the socket for local mail), the mail is private.
            disk.make_directory(path, 0o711, sync)
                .and_then(|()| disk.make_directory(&queue, 0o700, sync))
                .map_err(|e| format!("cannot create the directory {}: {e}", queue.display()))?;
            let block = memory::block_size(&queue);
            let in_memory = !sync && disk.is_in_memory(&queue);
            Ok::<_, String>(Directory { queue, sync, block, in_memory })
        };
        let spool = directory(&relay.spool, always)?;
        let safe = relay.safe_spool.as_deref().map(|path| directory(path, true)).transpose()?;
        // To move a message from a directory to itself would be to remove it.
        let safe = safe.filter(|safe| !memory::is_one_place(&spool.queue, &safe.queue));
        if let Some(safe) = &safe {
            disk.watch_flash(&safe.queue);
        }
        let accept = if always && safe.is_some() { Place::Safe } else { Place::Spool };
        let (ledger, appending, owed) = Default::default();
        let (limit, moving) = (Mutex::new(relay.spool_limit), RwLock::default());
        let memory = Meminfo::default();
        let vacant = AtomicBool::new(false);
        Ok(Arc::new(Self { disk, spool, safe, accept, memory, limit, ledger, moving, vacant, appending, owed }))
    }

    /// Changes the limit of the queue. What exceeds it stays in the queue, and nothing is added meanwhile.
    pub fn set_limit(&self, bytes: u64) {
        *lock(&self.limit) = bytes;
    }

    fn limit(&self) -> u64 {
        *lock(&self.limit)
    }

    pub(super) fn ledger(&self) -> MutexGuard<'_, Ledger> {
        lock(&self.ledger)
    }

    pub(super) fn owed(&self) -> MutexGuard<'_, Owed> {
        lock(&self.owed)
    }

    pub(super) fn nothing_moves(&self) -> RwLockReadGuard<'_, ()> {
        self.moving.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn directory(&self, place: Place) -> &Directory {
        match (place, &self.safe) {
            (Place::Safe, Some(safe)) => safe,
            _ => &self.spool,
        }
    }

    /// Both directories, if there are two.
    pub(super) fn directories(&self) -> impl Iterator<Item = &Directory> {
        std::iter::once(&self.spool).chain(&self.safe)
    }

    /// Where the file of a message is now: it may have been moved since `entry` was created. A safe copy has its
    /// name only when it is complete, so it takes precedence even if its original could not be removed.
    fn find(&self, entry: &Entry) -> (Place, PathBuf) {
        let original = self.spool.file(entry.id);
        match &self.safe {
            _ if self.safe_is_vacant() => (Place::Spool, original),
            Some(safe) if safe.file(entry.id).exists() || !original.exists() => (Place::Safe, safe.file(entry.id)),
            _ => (Place::Spool, original),
        }
    }

    /// Opens the file of a message for reading.
    fn open_file(&self, entry: &Entry) -> io::Result<File> {
        match File::open(self.find(entry).1) {
            // It was moved in between.
            Err(error) if error.kind() == ErrorKind::NotFound => File::open(self.find(entry).1),
            opened => opened,
        }
    }

    /// Where new messages go.
    pub fn accept_place(&self) -> Place {
        self.accept
    }

    /// Whether there is a second, safe directory to move queued mail to.
    pub fn can_move(&self) -> bool {
        self.safe.is_some() && self.accept == Place::Spool
    }

    /// The room that the queue uses in bytes, its number of messages, and its limit.
    pub fn usage_now(&self) -> (u64, usize, u64) {
        let ledger = self.ledger();
        (ledger.room(), ledger.messages(), self.limit())
    }

    /// Messages and bytes that a power cut would lose now, if `spool` is a RAM disk: what is unsynced there.
    pub fn in_danger(&self) -> (usize, u64) {
        let usage = self.ledger().spool;
        if self.spool.sync { (0, 0) } else { (usage.messages, usage.bytes) }
    }

    /// What was written to `safe_spool` since the program started. Blocks, when the file system has to be asked for its kind.
    pub fn wear(&self) -> Wear {
        Wear { programmed: self.disk.programmed(), ..self.ledger().wear }
    }

    /// Whether a message of a client of `bytes` (0: unknown) would fit now.
    ///
    /// # Errors
    /// [`SpoolError::Full`] or [`SpoolError::Share`] with the reason.
    pub fn room_for(&self, client: Client, bytes: u64) -> Result<(), SpoolError> {
        self.room_beside(&self.ledger(), client, self.room_of(self.accept, bytes.max(1)))
    }

    /// A client may have [`SHARE`] times what would be left free in addition. So one alone leaves an eighth of it,
    /// two leave a fifteenth, and however many there are, some room is left for the next one.
    fn room_beside(&self, ledger: &Ledger, client: Client, room: u64) -> Result<(), SpoolError> {
        // Most queues are in memory, and the next thing the kernel does is kill.
        if let Some(shortage) = self.memory.shortage() {
            return Err(SpoolError::Full(shortage));
        }
        if ledger.messages() >= MESSAGE_COUNT_LIMIT {
            return Err(SpoolError::Full(format!("{} messages are queued", ledger.messages())));
        }
        let used = ledger.room();
        let limit = self.limit();
        let free = limit.saturating_sub(used);
        if free == 0 || room > free {
            return Err(SpoolError::Full(format!("{used} of {limit} bytes are used (option spool_limit)")));
        }
        let share = ledger.share(client);
        let left = free.saturating_sub(room);
        let places = MESSAGE_COUNT_LIMIT.saturating_sub(ledger.messages()).saturating_sub(1);
        // What the gateway writes itself is limited elsewhere, and reports the trouble of others.
        let has_share = client != Client::Own
            && (share.room.saturating_add(room) > left.saturating_mul(SHARE as u64)
                || share.messages >= places.saturating_mul(SHARE));
        if has_share {
            let Share { messages, room } = share;
            let why = format!(
                "{messages} messages from one client use {room} of {limit} bytes (option spool_limit); the rest is reserved for others"
            );
            return Err(SpoolError::Share(why));
        }
        Ok(())
    }

    /// The room that a file of `bytes` takes in one of the directories.
    pub(super) fn room_of(&self, place: Place, bytes: u64) -> u64 {
        ledger::room(bytes, self.directory(place).block)
    }

    /// The size of a message in the share of its client, wherever it is by now.
    pub(super) fn share_of(&self, entry: &Entry) -> u64 {
        self.room_of(self.accept, entry.size)
    }

    /// A message has left the queue, and its client gets its share back.
    pub(super) fn give_back(&self, entry: &Entry) {
        let room = self.share_of(entry);
        self.ledger().give_back(entry.client, room, 1);
    }

    /// The file of a message is gone.
    pub(super) fn book_gone(&self, place: Place, bytes: u64) {
        let room = self.room_of(place, bytes);
        self.ledger().take(place, bytes, room);
    }

    /// Reserves `room` for a message that is arriving; for one that replaces others, even if this exceeds
    /// the limit of the queue: otherwise a full queue could never be emptied.
    pub(super) fn reserve(&self, client: Client, room: u64, replaces: bool) -> Result<(), SpoolError> {
        let mut ledger = self.ledger();
        if !replaces {
            self.room_beside(&ledger, client, room)?;
        }
        ledger.reserved = ledger.reserved.saturating_add(room);
        ledger.claim(client, room, 0);
        Ok(())
    }

    /// Opens a message for sending, with corrected dates, away from the runtime thread.
    ///
    /// # Errors
    /// As [`Self::open_message`].
    pub async fn open_to_send(self: &Arc<Self>, entry: &Entry) -> Result<Stored, SpoolError> {
        let mut stored = match self.open_at_once(entry) {
            Some(stored) => stored,
            None => {
                let (spool, wanted) = (Arc::clone(self), entry.clone());
                blocking(move || spool.open_message(&wanted)).await?
            }
        };
        correct_dates(&mut stored, entry.arrived);
        Ok(stored)
    }

    /// Opens a message for sending. Blocks.
    ///
    /// # Errors
    /// [`SpoolError::Damaged`] when the file is not a complete message.
    pub fn open_message(&self, entry: &Entry) -> Result<Stored, SpoolError> {
        let mut stored = read_message(self.open_file(entry)?, entry.id.as_str())?;
        if let Some(debt) = self.owed().of(entry.id) {
            debt.apply(&mut stored.state);
        }
        Ok(stored)
    }

    /// The history of a message, for display: the last 200 notes.
    ///
    /// # Errors
    /// As [`Self::open_message`].
    pub fn notes(&self, entry: &Entry) -> Result<Vec<Note>, SpoolError> {
        read_notes(self.open_file(entry)?, entry.id.as_str())
    }

    /// Appends a note to the journal of a message. A journal that has grown very long only takes lasting notes.
    ///
    /// # Errors
    /// When the disk refuses it; the caller keeps it in memory then.
    pub fn record(&self, entry: &Entry, note: &Note) -> Result<(), SpoolError> {
        let _still = self.nothing_moves();
        let (place, path) = self.find(entry);
        let mut record = note.encode();
        if fs::metadata(&path)?.len() > JOURNAL_BOUND && journal_length(&path)? > JOURNAL_BOUND {
            let Some(lasting) = note.lasting() else { return Ok(()) };
            record = lasting.encode();
        }
        let mut file = self.disk.append(&path)?;
        let before = {
            let _alone = lock(&self.appending);
            let before = file.len()?;
            if let Err(error) = file.append(&record) {
                // A partial record hides no other, but it takes room.
                let _ = file.set_len(before);
                return Err(error.into());
            }
            before
        };
        let grows = {
            let length = record.len() as u64;
            let [before, after] = [before, before.saturating_add(length)].map(|size| self.room_of(place, size));
            let mut ledger = self.ledger();
            ledger.wrote(place, record.len());
            let usage = ledger.of(place);
            usage.bytes = usage.bytes.saturating_add(length);
            usage.room = usage.room.saturating_add(after.saturating_sub(before));
            after > before
        };
        let directory = self.directory(place);
        if directory.sync {
            if grows {
                self.disk.sync_table(&directory.queue)?;
            }
            file.sync_data()?;
        }
        Ok(())
    }

    /// Removes a finished message from the queue.
    ///
    /// # Errors
    /// When the file cannot be removed; it would come back at the next start.
    pub fn remove(&self, entry: &Entry) -> Result<(), SpoolError> {
        let _still = self.nothing_moves();
        let safe = self.safe.as_ref().filter(|_| !self.safe_is_vacant());
        let found_in = |directory: &Directory| fs::metadata(directory.file(entry.id)).ok();
        let copied = safe.and_then(|safe| Some((safe, found_in(safe)?)));
        // Where both directories show the same file, it was counted once.
        let is_one = copied
            .as_ref()
            .is_some_and(|(_, copy)| found_in(&self.spool).is_some_and(|original| is_one_file(copy, &original)));
        // First what a move may have left behind: it would come back when the safe one is gone.
        let sync = self.spool.sync || copied.is_some();
        let book = if copied.is_some() && !is_one { None } else { Some(Place::Spool) };
        let mut found = self.remove_from(&self.spool, entry.id, sync, book)?.is_some();
        if let Some((safe, _)) = copied {
            found |= self.remove_from(safe, entry.id, true, (!is_one).then_some(Place::Safe))?.is_some();
        }
        if !found {
            if !self.has_directories() {
                // The drive was removed, with the message on it.
                return Err(SpoolError::Io(ErrorKind::NotFound.into()));
            }
            // It was removed by hand.
            self.book_gone(entry.place, entry.size);
        }
        self.give_back(entry);
        self.look_for_vacancy();
        Ok(())
    }

    /// Whether the directories exist: a drive may have been removed.
    fn has_directories(&self) -> bool {
        self.directories().all(|directory| directory.queue.is_dir())
    }

    /// Where a message is now.
    pub(super) fn place_of(&self, entry: &Entry) -> Place {
        self.find(entry).0
    }

    /// Removes a message's file from one directory and from the accounting. `None` if it is not there, else its blocks.
    pub(super) fn remove_from(
        &self,
        directory: &Directory,
        id: MessageId,
        sync: bool,
        book: Option<Place>,
    ) -> Result<Option<Blocks>, SpoolError> {
        let path = directory.file(id);
        let removed = fs::metadata(&path).and_then(|metadata| Ok((metadata.len(), self.disk.remove(&path)?)));
        let blocks = match removed {
            Ok((size, blocks)) => {
                if let Some(place) = book {
                    self.book_gone(place, size);
                }
                blocks
            }
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        if sync {
            // Otherwise a power cut would bring it back and it would be sent twice.
            self.disk.sync_directory(&directory.queue)?;
        }
        Ok(Some(blocks))
    }

    /// As [`Self::remove`]. What cannot be removed now is removed later, and not sent again meanwhile.
    ///
    /// # Errors
    /// When it could not be removed now; the text, for the log, says whether this survives a restart of the program. `None`
    /// when it was returned for this message before.
    pub fn remove_for_good(&self, entry: &Entry) -> Result<(), Option<String>> {
        self.remove(entry).map_err(|error| self.owe(entry, Debt::Gone, &error))
    }

    /// As [`Self::record`]. What cannot be recorded now applies anyway and is recorded later. Messages that are gone
    /// get no notes.
    ///
    /// # Errors
    /// As [`Self::remove_for_good`].
    pub fn record_for_good(&self, entry: &Entry, note: Note) -> Result<(), Option<String>> {
        // In their order: after those that are waiting already. The lock is not held while the disk works, which may have
        // to wait for a move.
        let waits = self.owed().of(entry.id).is_some();
        let error = match waits {
            true => SpoolError::Io(io::Error::other("earlier notes could not be written to the disk yet")),
            false => match self.record(entry, &note) {
                Ok(()) => return Ok(()),
                Err(SpoolError::Io(error)) if error.kind() == ErrorKind::NotFound && self.has_directories() => {
                    return Ok(());
                }
                Err(error) => error,
            },
        };
        Err(self.owe(entry, Debt::Notes(vec![note]), &error))
    }

    /// Remembers a change that failed, of a message that is in the accounting. Returns what is to be logged about it.
    pub(super) fn owe(&self, entry: &Entry, debt: Debt, error: &SpoolError) -> Option<String> {
        let lines = debt.lines(entry.id);
        let what = match debt {
            Debt::Gone => "it is finished but cannot be removed from the queue yet",
            Debt::Notes(_) => "its result cannot be recorded on the disk yet",
        };
        let mut owed = self.owed();
        let mut remembered = false;
        for path in self.owed_files() {
            remembered |= self.append_line(&path, &lines).is_ok();
        }
        owed.written |= remembered;
        let is_news = owed.add(entry, debt, remembered);
        let then = match remembered {
            true => "this survives a restart of the program",
            false => "this cannot be stored anywhere, so it would be sent again after a restart",
        };
        is_news.then(|| format!("{what}; retrying every 10 s; {then}: {error}"))
    }

    fn append_line(&self, path: &Path, lines: &[u8]) -> io::Result<()> {
        let mut file = self.disk.append_or_create(path)?;
        file.append(lines)?;
        file.sync_data()
    }

    /// The files of refused changes.
    pub(super) fn owed_files(&self) -> impl Iterator<Item = PathBuf> {
        self.directories().filter_map(|directory| Some(directory.queue.parent()?.join(owed::FILE)))
    }

    /// Whether changes may be pending. Never waits for the disk: while another thread adds some, they are.
    pub fn owes(&self) -> bool {
        match self.owed.try_lock() {
            Ok(owed) => owed.written || owed.len() > 0,
            Err(_) => true,
        }
    }

    /// Whether a message in the queue is finished.
    pub(super) fn is_owed_gone(&self, id: MessageId) -> bool {
        self.owed().of(id) == Some(&Debt::Gone)
    }

    /// Tries again to write what is pending, or part of it. Blocks. Does nothing while another thread does it.
    pub fn pay(&self) {
        if !std::mem::replace(&mut self.owed().paying, true) {
            self.pay_some();
            self.owed().paying = false;
        }
    }

    fn pay_some(&self) {
        let (round, all) = {
            let owed = self.owed();
            (owed.round(), owed.len())
        };
        let (mut failed, mut refused) = (0, None);
        for (entry, debt) in round {
            self.owed().last = Some(entry.id);
            let Err(error) = self.pay_one(&entry, &debt) else {
                failed = 0;
                self.owed().paid(entry.id, &debt);
                continue;
            };
            refused = Some(error);
            failed += 1;
            if failed >= ENOUGH {
                break;
            }
        }
        let mut owed = self.owed();
        if let Some(error) = refused {
            let messages = counted(owed.len() as u64, "message");
            drop(owed);
            let reason = format!("could not be written to the disk yet; retrying every 10 s: {error}");
            let text = format!("results or removals of {messages} {reason}");
            return Event::SpoolTrouble { id: String::new(), reason: text }.log_common(&reason);
        }
        if owed.len() == 0 && all <= owed::AT_ONCE {
            let mut gone = true;
            for path in self.owed_files() {
                gone &= !path.exists() || self.disk.clear(&path).is_ok();
            }
            owed.written = !gone;
        }
    }

    fn pay_one(&self, entry: &Entry, debt: &Debt) -> Result<(), SpoolError> {
        if !self.directories().any(|directory| directory.file(entry.id).exists()) {
            if !self.has_directories() {
                // The drive was removed: it may come back.
                return Err(SpoolError::Io(ErrorKind::NotFound.into()));
            }
            // It is gone. What failed was making this permanent.
            for directory in self.directories().filter(|directory| directory.sync) {
                self.disk.sync_directory(&directory.queue)?;
            }
            return Ok(());
        }
        match debt {
            Debt::Gone => {
                self.remove(entry)?;
                Event::Removed { id: entry.id.to_string() }.log();
                Ok(())
            }
            Debt::Notes(notes) => notes.iter().try_for_each(|note| self.record(entry, note)),
        }
    }

    /// Removes a file that cannot be used from the queue, but keeps it as `ID.bad`.
    pub fn set_aside(&self, entry: &Entry, reason: &str) {
        let (place, path) = self.find(entry);
        let size = fs::metadata(&path).map_or(entry.size, |metadata| metadata.len());
        self.book_gone(place, size);
        self.give_back(entry);
        self.set_file_aside(&path, reason);
    }

    /// Renames a file that cannot be used, so that the administrator can inspect it.
    pub(super) fn set_file_aside(&self, path: &Path, reason: &str) {
        let (new, file) = (path.with_extension("bad"), self.disk.append(path));
        let named = publish::in_order(|step| {
            match (step, &file) {
                (PublishStep::Rename, _) => self.disk.rename(path, &new)?,
                // It is damaged, and whatever is left of it is better than nothing.
                (PublishStep::SyncFile, Ok(file)) => drop(file.sync_all()),
                (PublishStep::SyncNamed, Ok(file)) => drop(file.sync_named()),
                (PublishStep::SyncTable, _) | (PublishStep::SyncFile | PublishStep::SyncNamed, Err(_)) => {}
                (PublishStep::SyncDirectory, _) => {
                    drop(path.parent().map(|directory| self.disk.sync_directory(directory)))
                }
            }
            Ok::<_, io::Error>(())
        });
        let reason = match named {
            Ok(()) => format!("{reason}; kept as {}", new.display()),
            Err(error) => format!("{reason}; cannot rename it: {error}"),
        };
        Event::SetAside { file: path.display().to_string(), reason }.log();
    }
}
