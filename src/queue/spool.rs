// SPDX-License-Identifier: Apache-2.0
//! The directories of the queue and their guarantees.
//!
//! A message is written to `queue/.ID.tmp` and published as `queue/ID.msg`, with the syncs of [`publish`] if the place
//! promises to survive a power cut. So a file with its final name is always complete, in any case. Recovery is a
//! scan of the directory. All functions here block; callers are on a thread that may block.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};

use super::blocking;
use super::client::Client;
use super::disk::{Disk, Handle};
use super::draft::Draft;
use super::error::SpoolError;
use super::id::MessageId;
use super::journal::Note;
use super::ledger::{self, Ledger, Share, Wear};
use super::owed::Owed;
use super::recovery::set_aside;
use super::stored::{Stored, correct_dates, journal_length, read_message, read_notes};
use crate::config::{Durability, Relay};
use crate::report::Event;
use crate::system::lock;
use crate::system::memory::{self, Meminfo};
use crate::system::publish::{self, Blocks, PublishStep};

/// The maximum number of messages in the queue, whatever their size: each uses memory.
pub const MESSAGE_COUNT_LIMIT: usize = 20_000;
/// The share of a client in the queue, as a multiple of what is left free in addition.
const SHARE: usize = 7;
/// Bytes of memory left to the rest of the system: while less is available, nothing is accepted. Most queues are
/// in memory, and the next thing the kernel does is kill.
const MEMORY_RESERVE: u64 = 4 << 20;
/// Bytes of a journal beyond which only lasting things are recorded: retries of many days stay far below.
const JOURNAL_BOUND: u64 = 256 << 10;

/// Which of the two directories a message is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// `spool`: a RAM disk on most routers.
    Spool,
    /// `safe_spool`: survives power loss.
    Safe,
}

/// A message in the queue, as the schedule knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its name.
    pub id: MessageId,
    /// The client it belongs to.
    pub client: Client,
    /// Where its file is.
    pub place: Place,
    /// When it was accepted, seconds since 1970: by the clock at that time, or as determined later.
    pub arrived: i64,
    /// Bytes of its file.
    pub size: u64,
}

pub(super) struct Directory {
    pub(super) queue: PathBuf,
    /// Whether files and directory are synced before anything is confirmed.
    pub(super) sync: bool,
    /// The block size of its file system in bytes.
    pub(super) block: u64,
}

impl Directory {
    /// The file of a message.
    pub(super) fn file(&self, id: MessageId) -> PathBuf {
        self.queue.join(format!("{id}.msg"))
    }

    /// The file of a message that is not complete yet.
    pub(super) fn temporary(&self, id: MessageId) -> PathBuf {
        self.queue.join(format!(".{id}.tmp"))
    }
}

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

    pub(super) fn open_on(relay: &Relay, disk: Disk) -> Result<Arc<Self>, String> {
        let always = relay.durability == Durability::Always;
        let directory = |path: &Path, sync| {
            let queue = path.join("queue");
            // The outer directory may be traversed (it contains the socket for local mail), the mail is private.
            disk.make_directory(path, 0o711, sync)
                .and_then(|()| disk.make_directory(&queue, 0o700, sync))
                .map_err(|e| format!("cannot create the directory {}: {e}", queue.display()))?;
            let block = memory::block_size(&queue);
            Ok::<_, String>(Directory { queue, sync, block })
        };
        let spool = directory(&relay.spool, always)?;
        let safe = relay.safe_spool.as_deref().map(|path| directory(path, true)).transpose()?;
        let accept = if always && safe.is_some() { Place::Safe } else { Place::Spool };
        let (ledger, appending, owed) = Default::default();
        let (limit, moving) = (Mutex::new(relay.spool_limit), RwLock::default());
        let memory = Meminfo::default();
        Ok(Arc::new(Self { disk, spool, safe, accept, memory, limit, ledger, moving, appending, owed }))
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

    /// Where the file of a message is now: it may have been moved since `entry` was created. A safe copy has its
    /// name only when it is complete, so it takes precedence even if its original could not be removed.
    fn find(&self, entry: &Entry) -> (Place, PathBuf) {
        let original = self.spool.file(entry.id);
        match &self.safe {
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

    /// What was written to `safe_spool` since the program started.
    pub fn wear(&self) -> Wear {
        self.ledger().wear
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
        if let Some(available) = self.memory.available().filter(|available| *available < MEMORY_RESERVE) {
            return Err(SpoolError::Full(format!("only {} KB of memory are available", available >> 10)));
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

    /// Starts a message of a client. Nothing is written to the disk before there is data.
    ///
    /// # Errors
    /// When the queue is full or the system has no random numbers.
    pub fn draft(self: &Arc<Self>, client: Client) -> Result<Draft, SpoolError> {
        self.room_for(client, 0)?;
        Ok(Draft::new(Arc::clone(self), MessageId::random()?, client, false))
    }

    /// Starts a message that replaces others, which are removed when it exists. The limits of the queue do not
    /// apply to it; the caller limits its size.
    ///
    /// # Errors
    /// When the system has no random numbers.
    pub fn replacing_draft(self: &Arc<Self>, client: Client) -> Result<Draft, SpoolError> {
        Ok(Draft::new(Arc::clone(self), MessageId::random()?, client, true))
    }

    /// Creates the file that a draft is written to.
    pub(super) fn create(&self, id: MessageId) -> Result<Handle, SpoolError> {
        let taken = |directory: &Directory| directory.file(id).exists();
        if taken(&self.spool) || self.safe.as_ref().is_some_and(taken) {
            return Err(SpoolError::Io(io::Error::from(ErrorKind::AlreadyExists)));
        }
        let file = self.disk.create(&self.directory(self.accept).temporary(id))?;
        self.ledger().made(self.accept);
        Ok(file)
    }

    /// Removes the file of an abandoned draft.
    pub(super) fn discard(&self, id: MessageId) {
        // What cannot be removed now is removed at the next start.
        let _ = self.disk.clear(&self.directory(self.accept).temporary(id));
    }

    /// Puts a complete draft into the queue. When this returns, the guarantee of the place applies.
    pub(super) fn publish(&self, id: MessageId, file: &Handle) -> Result<(), SpoolError> {
        let directory = self.directory(self.accept);
        let mut named = false;
        let published = publish::in_order(|step| match step {
            PublishStep::Rename => {
                self.disk.rename(&directory.temporary(id), &directory.file(id))?;
                named = true;
                Ok(())
            }
            _ if !directory.sync => Ok(()),
            PublishStep::SyncTable => self.disk.sync_table(&directory.queue),
            PublishStep::SyncFile => file.sync_all(),
            PublishStep::SyncNamed => file.sync_named(),
            PublishStep::SyncDirectory => self.disk.sync_directory(&directory.queue),
        });
        if published.is_err() && named {
            // The device is notified of the failure and will retry: the message must not exist twice.
            let removed = self.disk.remove(&directory.file(id)).map_err(|error| {
                let size = file.len().unwrap_or_default();
                let room = self.room_of(self.accept, size);
                self.ledger().add(self.accept, size, room);
                let entry = Entry { id, client: Client::Own, place: self.accept, arrived: 0, size };
                let reason = self.owe_removal(&entry, &error.into());
                Event::SpoolTrouble { id: id.to_string(), reason }.log();
            });
            let _ = self.disk.sync_directory(&directory.queue);
            drop(removed);
        }
        Ok(published?)
    }

    /// Opens a message for sending, with corrected dates, away from the runtime thread.
    ///
    /// # Errors
    /// As [`Self::open_message`].
    pub async fn open_to_send(self: &Arc<Self>, entry: &Entry) -> Result<Stored, SpoolError> {
        let (spool, wanted) = (Arc::clone(self), entry.clone());
        let mut stored = blocking(move || spool.open_message(&wanted)).await?;
        correct_dates(&mut stored, entry.arrived);
        Ok(stored)
    }

    /// Opens a message for sending. Blocks.
    ///
    /// # Errors
    /// [`SpoolError::Damaged`] when the file is not a complete message.
    pub fn open_message(&self, entry: &Entry) -> Result<Stored, SpoolError> {
        let mut stored = read_message(self.open_file(entry)?, entry.id.as_str())?;
        self.apply_owed(entry.id, &mut stored.state);
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
        let copied = self.safe.as_ref().filter(|safe| safe.file(entry.id).exists());
        // First what a move may have left behind: it would come back when the safe one is gone.
        let sync = self.spool.sync || copied.is_some();
        let book = if copied.is_some() { None } else { Some(Place::Spool) };
        let mut found = self.remove_from(&self.spool, entry.id, sync, book)?.is_some();
        if let Some(safe) = copied {
            found |= self.remove_from(safe, entry.id, true, Some(Place::Safe))?.is_some();
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
        Ok(())
    }

    /// Whether the directories exist: a drive may have been removed.
    pub(super) fn has_directories(&self) -> bool {
        [Some(&self.spool), self.safe.as_ref()].into_iter().flatten().all(|directory| directory.queue.is_dir())
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

    /// Renames a file that cannot be used to `ID.bad`, so that the administrator can inspect it.
    pub fn set_aside(&self, entry: &Entry, reason: &str) {
        let (place, path) = self.find(entry);
        let size = fs::metadata(&path).map_or(entry.size, |metadata| metadata.len());
        self.book_gone(place, size);
        self.give_back(entry);
        set_aside(&self.disk, &path, reason);
    }
}
