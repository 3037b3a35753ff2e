// SPDX-License-Identifier: Apache-2.0
//! How much room the queue uses, and how much it has written to flash.

use std::collections::BTreeMap;

use super::entry::{Client, Place};

/// The contents of one directory.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Usage {
    /// Bytes of the messages' files.
    pub(super) bytes: u64,
    /// What the file system needs for them, in bytes.
    pub(super) room: u64,
    /// How many there are.
    pub(super) messages: usize,
}

/// Bytes that a message takes in addition to the blocks of its file: its inode and name (in tmpfs some 600 bytes of
/// memory with a 32-bit kernel, 900 with a 64-bit one), and its line in the schedule.
const BESIDE: u64 = 1 << 10;

/// The room that a file of `bytes` takes where the block size is `block` bytes.
pub(super) fn room(bytes: u64, block: u64) -> u64 {
    let blocks = bytes.div_ceil(block.max(1));
    blocks.saturating_mul(block).saturating_add(BESIDE)
}

/// The share of a client in the queue.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Share {
    /// The room that its messages take, those that are arriving included, in bytes.
    pub(super) room: u64,
    /// Its messages, those that are arriving not included.
    pub(super) messages: usize,
}

/// What was written to `safe_spool` since the program started: this wears out flash.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Wear {
    /// Files created.
    pub files: u64,
    /// Bytes written, journals included; the overhead of the file system is not.
    pub bytes: u64,
    /// Bytes that JFFS2 has programmed for them, compressed and with its overhead, about; `None` on other file systems.
    pub programmed: Option<u64>,
}

/// The accounting of the queue.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    /// Room reserved for messages that are arriving, in bytes.
    pub(super) reserved: u64,
    pub(super) spool: Usage,
    pub(super) safe: Usage,
    pub(super) wear: Wear,
    /// The share of each client, by the size that its messages had when they were accepted. Messages of the gateway
    /// itself have none.
    clients: BTreeMap<Client, Share>,
}

impl Ledger {
    /// The share of a client.
    pub(super) fn share(&self, client: Client) -> Share {
        self.clients.get(&client).copied().unwrap_or_default()
    }

    /// A client uses room, and so many messages.
    pub(super) fn claim(&mut self, client: Client, room: u64, messages: usize) {
        if client == Client::Own || (room, messages) == (0, 0) {
            return;
        }
        let share = self.clients.entry(client).or_default();
        share.room = share.room.saturating_add(room);
        share.messages = share.messages.saturating_add(messages);
    }

    /// A client releases room, and so many messages.
    pub(super) fn give_back(&mut self, client: Client, room: u64, messages: usize) {
        if let Some(share) = self.clients.get_mut(&client) {
            share.room = share.room.saturating_sub(room);
            share.messages = share.messages.saturating_sub(messages);
            if *share == Share::default() {
                self.clients.remove(&client);
            }
        }
    }

    /// The accounting of one directory.
    pub(super) fn of(&mut self, place: Place) -> &mut Usage {
        match place {
            Place::Spool => &mut self.spool,
            Place::Safe => &mut self.safe,
        }
    }

    /// What everything takes, arriving messages included, in bytes.
    pub(super) fn room(&self) -> u64 {
        self.reserved.saturating_add(self.spool.room).saturating_add(self.safe.room)
    }

    /// Messages in both directories.
    pub(super) fn messages(&self) -> usize {
        self.spool.messages.saturating_add(self.safe.messages)
    }

    /// A message was added, of so many bytes that take `room`.
    pub(super) fn add(&mut self, place: Place, bytes: u64, room: u64) {
        let usage = self.of(place);
        usage.bytes = usage.bytes.saturating_add(bytes);
        usage.room = usage.room.saturating_add(room);
        usage.messages = usage.messages.saturating_add(1);
    }

    /// A message was removed, of so many bytes that took `room`.
    pub(super) fn take(&mut self, place: Place, bytes: u64, room: u64) {
        let usage = self.of(place);
        usage.bytes = usage.bytes.saturating_sub(bytes);
        usage.room = usage.room.saturating_sub(room);
        usage.messages = usage.messages.saturating_sub(1);
    }

    /// Bytes were written.
    pub(super) fn wrote(&mut self, place: Place, bytes: usize) {
        if place == Place::Safe {
            self.wear.bytes = self.wear.bytes.saturating_add(bytes as u64);
        }
    }

    /// A file was created.
    pub(super) fn made(&mut self, place: Place) {
        if place == Place::Safe {
            self.wear.files = self.wear.files.saturating_add(1);
        }
    }
}
