// SPDX-License-Identifier: Apache-2.0
//! A message while it is being received: written to disk as it arrives, in the queue only when it is complete and
//! published.

use std::io::{self, ErrorKind};
use std::path::Path;
use std::sync::Arc;

use super::disk::Handle;
use super::entry::{Client, Entry, MessageId, SpoolError};
use super::owed::Debt;
use super::record::{Meta, PREAMBLE, Preamble};
use super::spool::Spool;
use super::writing;
use crate::report::Event;
use crate::system::checksum::Checksum;
use crate::system::publish::{self, PublishStep};

/// Bytes kept in memory before they are written. Small mail is written at once. In tests small mail is written in
/// chunks, so that thousands of states of a disk with all kinds of it can be checked quickly.
const BUFFER: usize = if cfg!(test) { 1 << 10 } else { 16 << 10 };

/// Bytes by which the first half of this memory grows.
const STEP: usize = 2 << 10;

/// Bytes of a file up to which it is created under its final name: what fits into one page is written by the file system
/// all at once or not at all.
const SMALL: usize = 4096;

/// A message that is not in the queue yet. Dropping it leaves nothing behind.
pub struct Draft {
    id: MessageId,
    buffer: Vec<u8>,
    body: u64,
    crc: Checksum,
    /// `None` after a failure.
    kept: Option<Kept>,
}

impl Draft {
    fn new(spool: Arc<Spool>, id: MessageId, client: Client, replaces: bool) -> Self {
        let kept =
            Some(Kept { spool, id, client, replaces, file: None, size: 0, reserved: 0, stage: DraftStage::Reserved });
        Self { id, buffer: Vec::new(), body: 0, crc: Checksum::new(), kept }
    }

    /// The ID that the message will have.
    pub fn id(&self) -> MessageId {
        self.id
    }

    /// Where repaired body bytes are appended, with room for `more` of them; [`Self::settle`] writes them when there are
    /// enough.
    pub fn buffer(&mut self, more: usize) -> &mut Vec<u8> {
        let gap = self.gap().saturating_sub(self.buffer.len());
        let (length, wanted) = (self.buffer.len(), self.buffer.len().saturating_add(gap).saturating_add(more));
        if self.buffer.capacity() < wanted {
            // Doubled as usual, it would be half empty in fifty sessions that are in the middle of a message. From the half
            // on it gets all at once, in pages of its own: what grows further between other records leaves holes.
            let room = if wanted <= BUFFER / 2 { wanted.next_multiple_of(STEP) } else { wanted.max(BUFFER) };
            self.buffer.reserve_exact(room.saturating_sub(length));
        }
        self.buffer.resize(length.saturating_add(gap), 0);
        &mut self.buffer
    }

    /// Bytes at the beginning of the buffer for the preamble, which stands before the body in the file: a message that is
    /// written at once needs no second copy then.
    fn gap(&self) -> usize {
        if self.body == 0 { PREAMBLE } else { 0 }
    }

    /// Writes the buffer to disk if it has grown large.
    ///
    /// # Errors
    /// When the queue or the disk is full, or the disk fails. The draft cannot be used afterwards.
    pub async fn settle(&mut self) -> Result<(), SpoolError> {
        if self.buffer.len() < BUFFER {
            return Ok(());
        }
        let offset = self.end();
        let gap = self.gap();
        let (mut kept, chunk) = self.take_body()?;
        let at_once = kept.spool.works_at_once();
        if at_once {
            // A large message comes in many pieces, and between them it is the turn of others.
            tokio::task::yield_now().await;
        }
        let (kept, chunk) = writing(at_once, move || {
            kept.write(offset, chunk.get(gap..).unwrap_or_default())?;
            Ok::<_, SpoolError>((kept, chunk))
        })
        .await?;
        self.kept = Some(kept);
        self.buffer = chunk;
        self.buffer.clear();
        Ok(())
    }

    /// The offset of the next part of the body in the file.
    fn end(&self) -> u64 {
        self.body.saturating_add(PREAMBLE as u64)
    }

    /// Takes the buffer, gap included, as the next part of the body, with room reserved for it, and with what it is written to.
    fn take_body(&mut self) -> Result<(Kept, Vec<u8>), SpoolError> {
        let broken = || SpoolError::Io(io::Error::other("reception continued after a failure"));
        let mut kept = self.kept.take().ok_or_else(broken)?;
        let gap = self.gap();
        let chunk = std::mem::take(self.buffer(0));
        let part = chunk.get(gap..).unwrap_or_default();
        kept.reserve(part.len() as u64)?;
        self.body = self.body.saturating_add(part.len() as u64);
        self.crc.update(part);
        Ok((kept, chunk))
    }

    /// Completes the message. When this returns, it is in the queue and `durability` is guaranteed. If the future
    /// is dropped before it returns, the message is not in the queue.
    ///
    /// # Errors
    /// As [`Self::settle`]; nothing is left in the queue then.
    pub async fn commit(mut self, header: Vec<u8>, meta: Meta) -> Result<Entry, SpoolError> {
        let (offset, is_whole) = (self.end(), self.body == 0);
        let (mut kept, mut chunk) = self.take_body()?;
        let envelope = meta.encode();
        let mut crc = Checksum::new();
        crc.update(&header);
        crc.update(&envelope);
        let length = |part: &[u8]| u32::try_from(part.len()).map_err(|_| SpoolError::Full("header too large".into()));
        let preamble = Preamble {
            body: self.body,
            header: length(&header)?,
            meta: length(&envelope)?,
            body_crc: self.crc.value(),
            meta_crc: crc.value(),
        };
        kept.reserve((PREAMBLE + header.len() + envelope.len()) as u64)?;
        let kept = writing(kept.spool.works_at_once(), move || {
            let preamble = preamble.encode();
            chunk.reserve_exact(header.len().saturating_add(envelope.len()));
            chunk.extend_from_slice(&header);
            chunk.extend_from_slice(&envelope);
            if is_whole {
                chunk.iter_mut().zip(preamble).for_each(|(place, byte)| *place = byte);
                kept.complete(&chunk)?;
            } else {
                kept.write(offset, &chunk)?;
                kept.write(0, &preamble)?;
                kept.publish()?;
            }
            Ok::<_, SpoolError>(kept)
        })
        .await?;
        Ok(kept.hand_over(meta.arrived))
    }
}

/// The state of a draft.
#[derive(Clone, Copy, PartialEq, Eq)]
enum DraftStage {
    /// It has bytes reserved, but no file.
    Reserved,
    /// It may have a file.
    Written,
    /// It is in the queue, but the device has not been notified.
    Published,
    /// It is in the queue.
    Done,
}

/// What a draft has reserved. It is passed along with each disk operation and released where that ends: a session
/// that is aborted while its message is being written leaves nothing, whichever of the two ends first.
struct Kept {
    spool: Arc<Spool>,
    id: MessageId,
    /// The client it belongs to.
    client: Client,
    /// Whether it replaces other messages.
    replaces: bool,
    file: Option<Handle>,
    /// Bytes of the file, when all of it is written.
    size: u64,
    /// What they take in the queue.
    reserved: u64,
    stage: DraftStage,
}

impl Kept {
    fn reserve(&mut self, bytes: u64) -> Result<(), SpoolError> {
        let size = self.size.saturating_add(bytes);
        let room = self.spool.room_of(self.spool.accept_place(), size);
        self.spool.reserve(self.client, room.saturating_sub(self.reserved), self.replaces)?;
        (self.size, self.reserved) = (size, room);
        Ok(())
    }

    /// Writes to the draft's file, which is created by the first write.
    fn write(&mut self, offset: u64, bytes: &[u8]) -> Result<(), SpoolError> {
        let file = match self.file.take() {
            Some(file) => file,
            None => {
                let file = self.spool.create(self.id)?;
                self.stage = DraftStage::Written;
                file
            }
        };
        self.spool.ledger().wrote(self.spool.accept_place(), bytes.len());
        file.write_at(offset, bytes)?;
        self.file = Some(file);
        Ok(())
    }

    /// Writes a message of which nothing has been written yet, and puts it into the queue.
    fn complete(&mut self, bytes: &[u8]) -> Result<(), SpoolError> {
        if bytes.len() > SMALL || !self.spool.takes_new_files() {
            self.write(0, bytes)?;
            return self.publish();
        }
        self.spool.put(self.id, bytes)?;
        self.published();
        Ok(())
    }

    fn publish(&mut self) -> Result<(), SpoolError> {
        if let Some(file) = &self.file {
            self.spool.publish(self.id, file)?;
        }
        self.file = None;
        self.published();
        Ok(())
    }

    /// It is in the queue now, and so in the accounting.
    fn published(&mut self) {
        let mut ledger = self.spool.ledger();
        ledger.reserved = ledger.reserved.saturating_sub(self.reserved);
        ledger.add(self.spool.accept_place(), self.size, self.reserved);
        ledger.claim(self.client, 0, 1);
        drop(ledger);
        self.stage = DraftStage::Published;
    }

    fn entry(&self, arrived: i64) -> Entry {
        Entry { id: self.id, client: self.client, place: self.spool.accept_place(), arrived, size: self.size }
    }

    fn hand_over(mut self, arrived: i64) -> Entry {
        self.stage = DraftStage::Done;
        self.entry(arrived)
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        let (spool, entry, stage) = (Arc::clone(&self.spool), self.entry(0), self.stage);
        if matches!(stage, DraftStage::Reserved | DraftStage::Written) {
            let mut ledger = spool.ledger();
            ledger.reserved = ledger.reserved.saturating_sub(self.reserved);
            ledger.give_back(self.client, self.reserved, 0);
        }
        let clear = move || match stage {
            DraftStage::Written => spool.discard(entry.id),
            // The device got no confirmation; it will send the message again.
            DraftStage::Published => drop(spool.remove_for_good(&entry)),
            DraftStage::Reserved | DraftStage::Done => {}
        };
        if matches!(stage, DraftStage::Written | DraftStage::Published) {
            match tokio::runtime::Handle::try_current() {
                Ok(runtime) => drop(runtime.spawn_blocking(clear)),
                Err(_) => clear(),
            }
        }
    }
}

impl Spool {
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
    fn create(&self, id: MessageId) -> Result<Handle, SpoolError> {
        self.create_at(&self.directory(self.accept_place()).temporary(id), id)
    }

    /// Creates a file at `path`, unless another one is the message of this name.
    fn create_at(&self, path: &Path, id: MessageId) -> Result<Handle, SpoolError> {
        let safe = self.safe.as_ref().filter(|_| !self.safe_is_vacant());
        let others = std::iter::once(&self.spool).chain(safe).map(|directory| directory.file(id));
        if others.into_iter().any(|other| other != path && other.exists()) {
            return Err(SpoolError::Io(io::Error::from(ErrorKind::AlreadyExists)));
        }
        let file = self.disk.create(path)?;
        self.ledger().made(self.accept_place());
        Ok(file)
    }

    /// Whether [`Self::put`] can be used: on a disk on which nothing is synced, a rename costs less than a torn file.
    fn takes_new_files(&self) -> bool {
        let directory = self.directory(self.accept_place());
        directory.in_memory || directory.sync && self.disk.takes_new_files(&directory.queue)
    }

    /// Puts a small message into the queue, with one sync instead of two, and without a rename ([`publish`]). When this
    /// returns, the guarantee of the place applies.
    fn put(&self, id: MessageId, bytes: &[u8]) -> Result<(), SpoolError> {
        let directory = self.directory(self.accept_place());
        let file = self.create_at(&directory.file(id), id)?;
        self.ledger().wrote(self.accept_place(), bytes.len());
        let synced = |()| if directory.sync { file.sync_all() } else { Ok(()) };
        let written = file.write_at(0, bytes).and_then(synced);
        if written.is_err() {
            self.withdraw(id, &file);
        }
        Ok(written?)
    }

    /// Removes the file of an abandoned draft.
    fn discard(&self, id: MessageId) {
        // What cannot be removed now is removed at the next start.
        let _ = self.disk.clear(&self.directory(self.accept_place()).temporary(id));
    }

    /// Puts a complete draft into the queue. When this returns, the guarantee of the place applies.
    fn publish(&self, id: MessageId, file: &Handle) -> Result<(), SpoolError> {
        let directory = self.directory(self.accept_place());
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
            self.withdraw(id, file);
        }
        Ok(published?)
    }

    /// Removes a draft that has its final name but could not be promised: the device is notified of the failure and will
    /// retry, so the message must not exist twice.
    fn withdraw(&self, id: MessageId, file: &Handle) {
        let (place, directory) = (self.accept_place(), self.directory(self.accept_place()));
        let removed = self.disk.remove(&directory.file(id)).map_err(|error| {
            let size = file.len().unwrap_or_default();
            let room = self.room_of(place, size);
            self.ledger().add(place, size, room);
            let entry = Entry { id, client: Client::Own, place, arrived: 0, size };
            if let Some(reason) = self.owe(&entry, Debt::Gone, &error.into()) {
                Event::SpoolTrouble { id: id.to_string(), reason }.log();
            }
        });
        let _ = self.disk.sync_directory(&directory.queue);
        drop(removed);
    }
}
