// SPDX-License-Identifier: Apache-2.0
//! Moves messages from `spool` to `safe_spool`: many messages with few syncs.
//!
//! A sync takes 10 to 30 ms on a router's flash, whatever is written, and after SIGTERM a few seconds remain for up to
//! thousands of messages. So each step of [`publish`] is done for all before the next one: all are copied, one sync
//! covers them all, all are renamed, and two more syncs cover that. Only then the originals are removed: always one
//! of the two is complete and on the disk.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use super::disk::Removed;
use super::entry::{Client, Directory, Entry, MessageId, Place, SpoolError};
use super::recovery::files_of;
use super::spool::Spool;
use super::stored::{is_one_file, is_whole};
use crate::system::publish::{self, PublishStep};

/// Files that are synced one by one; for more, one sync of the file system is cheaper.
const FEW: usize = 3;
/// Files that are moved at a time.
const PIECE_FILES: usize = 256;
/// Bytes that are moved at a time, unless a single message is larger.
const PIECE_BYTES: u64 = 4 << 20;
/// Bytes copied at a time.
const CHUNK: usize = 64 << 10;

impl Spool {
    /// Moves messages from `spool` to `safe_spool`, journals included. One that fails stays in place, with its error;
    /// what is already in safe storage is returned unchanged.
    pub fn move_to_safe(&self, entries: Vec<Entry>) -> Vec<(Entry, Option<SpoolError>)> {
        let mut done = Vec::with_capacity(entries.len());
        let mut piece = Vec::new();
        let mut bytes = 0u64;
        for entry in entries {
            if piece.len() >= PIECE_FILES || bytes.saturating_add(entry.size) > PIECE_BYTES && !piece.is_empty() {
                self.move_piece(std::mem::take(&mut piece), &mut done);
                bytes = 0;
            }
            bytes = bytes.saturating_add(entry.size);
            piece.push(entry);
        }
        self.move_piece(piece, &mut done);
        done
    }

    /// Moves everything in `spool` to `safe_spool`, including what no task is working on. For the end of a run.
    /// Returns how many were moved.
    ///
    /// # Errors
    /// The first failure; the others are moved anyway.
    pub fn move_all_to_safe(&self) -> Result<usize, SpoolError> {
        let entries = files_of(&self.spool)?.messages;
        // Completed moves are kept: their new place may not be known to any caller.
        let entries = entries.into_iter().filter(|(id, ..)| !self.is_owed_gone(*id));
        // Which client they belong to does not matter: they stay in the queue.
        let client = Client::Own;
        let entries = entries.map(|(id, size, _)| Entry { id, client, place: Place::Spool, arrived: 0, size });
        let mut moved = 0;
        let mut failure = None;
        for (entry, error) in self.move_to_safe(entries.collect()) {
            moved += usize::from(entry.place == Place::Safe);
            failure = failure.or(error);
        }
        failure.map_or(Ok(moved), Err)
    }

    fn move_piece(&self, piece: Vec<Entry>, done: &mut Vec<(Entry, Option<SpoolError>)>) {
        let Some(safe) = &self.safe else {
            return done.extend(piece.into_iter().map(|entry| (entry, None)));
        };
        let _alone = self.moving.write().unwrap_or_else(PoisonError::into_inner);
        self.vacant.store(false, Ordering::Relaxed);
        let (piece, there): (Vec<_>, Vec<_>) = piece.into_iter().partition(|entry| entry.place == Place::Spool);
        done.extend(there.into_iter().map(|entry| (entry, None)));
        let mut jobs: Vec<Move> = piece.into_iter().map(|entry| self.copy(safe, entry)).collect();
        let published = publish::in_order(|step| {
            match step {
                PublishStep::SyncFile => self.sync_copies(safe, &mut jobs),
                PublishStep::Rename => self.name_copies(safe, &mut jobs),
                _ if jobs.iter().all(|job| job.is(MoveState::Failed)) => {}
                PublishStep::SyncTable => self.disk.sync_table(&safe.queue)?,
                PublishStep::SyncNamed => self.sync_named(safe, &jobs)?,
                PublishStep::SyncDirectory => self.disk.sync_directory(&safe.queue)?,
            }
            Ok(())
        });
        if let Err(error) = published {
            self.take_back(safe, &mut jobs, &error);
        }
        self.remove_originals(&mut jobs);
        for job in jobs {
            let temporary = safe.temporary(job.entry.id);
            if job.is(MoveState::Failed) && temporary.exists() {
                let _ = self.disk.clear(&temporary);
            }
            done.push((job.entry, job.error));
        }
    }

    /// Copies a message to a temporary file.
    fn copy(&self, safe: &Directory, entry: Entry) -> Move {
        let fresh = !safe.file(entry.id).exists();
        let mut job = Move { entry, step: MoveState::Copied, size: 0, fresh, error: None };
        match self.copy_file(safe, job.entry.id) {
            Ok(Some(size)) => job.size = size,
            Ok(None) => job.step = MoveState::WasThere,
            // It was moved or removed in the meantime.
            Err(SpoolError::Io(error)) if error.kind() == ErrorKind::NotFound => match safe.file(job.entry.id).exists()
            {
                true => job.step = MoveState::WasThere,
                false => job.fail(error.into()),
            },
            Err(error) => {
                // The partial copy takes room that smaller messages may need.
                let _ = self.disk.clear(&safe.temporary(job.entry.id));
                job.fail(error);
            }
        }
        job
    }

    /// Returns the bytes copied; none when an earlier move has copied all of it but could not remove the original.
    fn copy_file(&self, safe: &Directory, id: MessageId) -> Result<Option<u64>, SpoolError> {
        let mut from = File::open(self.spool.file(id))?;
        if let Ok(earlier) = std::fs::metadata(safe.file(id)) {
            let original = from.metadata()?;
            if is_one_file(&earlier, &original) {
                let reason = "it is in safe_spool and in spool at once, since both show the same directory";
                return Err(SpoolError::Io(std::io::Error::other(reason)));
            }
            if earlier.len() >= original.len() && is_whole(&safe.file(id), id)? {
                return Ok(None);
            }
        }
        let temporary = safe.temporary(id);
        if temporary.exists() {
            self.disk.clear(&temporary)?;
        }
        let to = self.disk.create(&temporary)?;
        self.ledger().made(Place::Safe);
        let mut chunk = vec![0; CHUNK];
        let mut size = 0u64;
        loop {
            let read = from.read(&mut chunk)?;
            let Some(bytes) = chunk.get(..read).filter(|bytes| !bytes.is_empty()) else { return Ok(Some(size)) };
            self.ledger().wrote(Place::Safe, read);
            to.write_at(size, bytes)?;
            size = size.saturating_add(read as u64);
        }
    }

    /// Returns when all copies are on the disk.
    fn sync_copies(&self, safe: &Directory, jobs: &mut [Move]) {
        let copied = jobs.iter().filter(|job| job.is(MoveState::Copied)).count();
        if copied > FEW {
            if let Err(error) = self.disk.sync_file_system(&safe.queue) {
                jobs.iter_mut().filter(|job| job.is(MoveState::Copied)).for_each(|job| job.fail(again(&error)));
            }
            return;
        }
        for job in jobs.iter_mut().filter(|job| job.is(MoveState::Copied)) {
            let synced = self.disk.append(&safe.temporary(job.entry.id)).and_then(|file| file.sync_all());
            if let Err(error) = synced {
                job.fail(error.into());
            }
        }
    }

    /// Renames the copies to their final names.
    fn name_copies(&self, safe: &Directory, jobs: &mut [Move]) {
        for job in jobs.iter_mut().filter(|job| job.is(MoveState::Copied)) {
            match self.disk.rename(&safe.temporary(job.entry.id), &safe.file(job.entry.id)) {
                Ok(()) => job.step = MoveState::Named,
                Err(error) => job.fail(error.into()),
            }
        }
    }

    /// Returns when all copies are on the disk under their names, including those of an earlier move: that one may have
    /// failed here.
    fn sync_named(&self, safe: &Directory, jobs: &[Move]) -> std::io::Result<()> {
        let mut named = jobs.iter().filter(|job| !job.is(MoveState::Failed));
        if named.clone().count() > FEW {
            return self.disk.sync_all_named(&safe.queue);
        }
        named.try_for_each(|job| self.disk.append(&safe.file(job.entry.id))?.sync_named())
    }

    /// The names may not be on the disk: the messages stay where they were, and must not exist twice.
    fn take_back(&self, safe: &Directory, jobs: &mut [Move], error: &std::io::Error) {
        let mut removed = Removed::from(&self.disk, &safe.queue);
        for job in jobs.iter_mut().filter(|job| !job.is(MoveState::Failed)) {
            if job.is(MoveState::Named) {
                match self.disk.remove(&safe.file(job.entry.id)) {
                    Ok(blocks) => removed.add(blocks),
                    Err(_) => self.book(job),
                }
            }
            job.fail(again(error));
        }
        let _ = removed.sync();
    }

    fn remove_originals(&self, jobs: &mut [Move]) {
        let mut removed = Removed::from(&self.disk, &self.spool.queue);
        for job in jobs.iter_mut().filter(|job| !job.is(MoveState::Failed)) {
            // If this fails, both exist until the message is removed; recovery keeps the safe one.
            if let Ok(blocks) = self.disk.remove(&self.spool.file(job.entry.id)) {
                removed.add(blocks);
            }
            job.entry.place = Place::Safe;
            if job.is(MoveState::Named) {
                self.book(job);
            }
        }
        if removed.count > 0 {
            // On a RAM disk this costs nothing; on other disks a power cut would restore what was sent in the meantime.
            let _ = removed.sync();
        }
    }

    /// In the accounting a message is where its copy is, as soon as there is one.
    fn book(&self, job: &Move) {
        if job.fresh {
            let [before, after] = [Place::Spool, Place::Safe].map(|place| self.room_of(place, job.size));
            let mut ledger = self.ledger();
            ledger.take(Place::Spool, job.size, before);
            ledger.add(Place::Safe, job.size, after);
        }
    }
}

/// The state of the move of a message.
#[derive(Clone, Copy, PartialEq, Eq)]
enum MoveState {
    /// There is a temporary copy.
    Copied,
    /// An earlier move has copied it.
    WasThere,
    /// The copy has its final name.
    Named,
    /// It stays where it is.
    Failed,
}

struct Move {
    entry: Entry,
    step: MoveState,
    size: u64,
    /// Whether there was no copy before.
    fresh: bool,
    error: Option<SpoolError>,
}

impl Move {
    fn is(&self, step: MoveState) -> bool {
        self.step == step
    }

    fn fail(&mut self, error: SpoolError) {
        self.step = MoveState::Failed;
        self.error = Some(error);
    }
}

/// One failure that affects many messages.
fn again(error: &std::io::Error) -> SpoolError {
    match error.raw_os_error() {
        Some(code) => std::io::Error::from_raw_os_error(code).into(),
        None => std::io::Error::new(error.kind(), error.to_string()).into(),
    }
}
