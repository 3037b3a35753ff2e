// SPDX-License-Identifier: Apache-2.0
//! What the runtime thread does with a message itself, without a thread for the disk: on most routers the queue is on a
//! file system in memory.
//!
//! The rule is that the runtime thread never waits for a disk, and it does not here. Each of these functions does a fixed
//! number of system calls on one file in memory, and copies one buffer at most; a hand-over to another thread and back takes
//! several times as long on a small processor. Where a disk could become part of it, the caller uses a thread as before: with
//! mail in `safe_spool`, where a message would have to be looked for; while messages move; and while changes are pending that
//! a disk has refused.

use std::fs::{self, File};
use std::sync::atomic::Ordering;

use super::entry::{Entry, Place};
use super::recovery::is_vacant;
use super::spool::Spool;
use super::stored::{Stored, read_message};

impl Spool {
    /// Whether an arriving message is written by the runtime thread.
    pub(super) fn works_at_once(&self) -> bool {
        self.directory(self.accept_place()).in_memory && self.safe_is_vacant()
    }

    /// Whether it is known that `safe_spool` has no message, so that none is looked for there: it had none when the queue
    /// was last empty, and nothing was moved since. True without a `safe_spool`.
    pub(super) fn safe_is_vacant(&self) -> bool {
        self.safe.is_none() || self.vacant.load(Ordering::Relaxed)
    }

    /// When the queue has become empty, looks whether `safe_spool` is as well. While there is a message, it is not looked
    /// for: an earlier run could have left a copy of it that nobody knows of. Blocks; the caller keeps messages from moving.
    pub(super) fn look_for_vacancy(&self) {
        if let Some(safe) = &self.safe
            && !self.vacant.load(Ordering::Relaxed)
            && self.can_move()
            && self.ledger().messages() == 0
        {
            self.vacant.store(is_vacant(safe), Ordering::Relaxed);
        }
    }

    /// Opens a message for sending, if that can be done at once. `None` also when it fails: a thread tries it again then.
    pub(super) fn open_at_once(&self, entry: &Entry) -> Option<Stored> {
        if !self.is_at_hand(entry) {
            return None;
        }
        let file = File::open(self.spool.file(entry.id)).ok()?;
        Some(read_message(file, entry.id.as_str()).ok()?.held_in_memory())
    }

    /// Removes a finished message, if that can be done at once. False also when it fails.
    pub fn remove_at_once(&self, entry: &Entry) -> bool {
        let Ok(_still) = self.moving.try_read() else { return false };
        let path = self.spool.file(entry.id);
        let remove = || {
            let size = fs::metadata(&path)?.len();
            self.disk.forget(&path)?;
            Ok::<_, std::io::Error>(size)
        };
        if !self.is_at_hand(entry) {
            return false;
        }
        let Ok(size) = remove() else { return false };
        self.book_gone(Place::Spool, size);
        self.give_back(entry);
        true
    }

    /// Whether the file of a message is in memory, and nothing else has to be considered.
    fn is_at_hand(&self, entry: &Entry) -> bool {
        entry.place == Place::Spool && self.spool.in_memory && self.safe_is_vacant() && !self.owes()
    }
}
