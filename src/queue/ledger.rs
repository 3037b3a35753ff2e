//! What the queue takes up, and what it has cost the flash.

use super::spool::Place;

/// What lies in one directory.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Usage {
    /// Bytes of the messages' files.
    pub(super) bytes: u64,
    /// How many there are.
    pub(super) messages: usize,
}

/// What was written to `safe_spool` since the program started: flash wears out by it.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Wear {
    /// Files made.
    pub files: u64,
    /// Bytes written, journals included; what the file system adds is not.
    pub bytes: u64,
}

/// The books of the queue.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    /// Bytes set aside for messages that are arriving.
    pub(super) reserved: u64,
    pub(super) spool: Usage,
    pub(super) safe: Usage,
    pub(super) wear: Wear,
}

impl Ledger {
    /// The books of one directory.
    pub(super) fn of(&mut self, place: Place) -> &mut Usage {
        match place {
            Place::Spool => &mut self.spool,
            Place::Safe => &mut self.safe,
        }
    }

    /// Bytes of everything, arriving messages included.
    pub(super) fn bytes(&self) -> u64 {
        self.reserved.saturating_add(self.spool.bytes).saturating_add(self.safe.bytes)
    }

    /// Messages in both directories.
    pub(super) fn messages(&self) -> usize {
        self.spool.messages.saturating_add(self.safe.messages)
    }

    /// A message is there.
    pub(super) fn add(&mut self, place: Place, bytes: u64) {
        let usage = self.of(place);
        usage.bytes = usage.bytes.saturating_add(bytes);
        usage.messages = usage.messages.saturating_add(1);
    }

    /// A message is gone.
    pub(super) fn take(&mut self, place: Place, bytes: u64) {
        let usage = self.of(place);
        usage.bytes = usage.bytes.saturating_sub(bytes);
        usage.messages = usage.messages.saturating_sub(1);
    }

    /// Bytes were written.
    pub(super) fn wrote(&mut self, place: Place, bytes: usize) {
        if place == Place::Safe {
            self.wear.bytes = self.wear.bytes.saturating_add(bytes as u64);
        }
    }

    /// A file was made.
    pub(super) fn made(&mut self, place: Place) {
        if place == Place::Safe {
            self.wear.files = self.wear.files.saturating_add(1);
        }
    }
}
