//! A message while it is being received: written to disk as it comes, in the queue only when it is complete.

use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::sync::Arc;

use super::blocking;
use super::checksum::Checksum;
use super::record::{Meta, PREAMBLE, Preamble};
use super::spool::{Entry, Spool, SpoolError};

/// Bytes held in memory before they are written. Small mail is written in one go.
const BUFFER: usize = 16 << 10;

/// A message that is not in the queue yet. Dropping it leaves nothing behind.
pub struct Draft {
    spool: Arc<Spool>,
    id: String,
    file: Option<File>,
    buffer: Vec<u8>,
    body: u64,
    crc: Checksum,
    reserved: u64,
    published: bool,
}

impl Draft {
    pub(super) fn new(spool: Arc<Spool>, id: String) -> Self {
        let crc = Checksum::new();
        Self { spool, id, file: None, buffer: Vec::new(), body: 0, crc, reserved: 0, published: false }
    }

    /// The name that the message will have.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Where repaired body bytes are appended; [`Self::settle`] writes them out when there are enough.
    pub fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.buffer
    }

    /// Writes the buffer to disk if it has grown large.
    ///
    /// # Errors
    /// When the queue or the disk is full, or the disk fails. The draft is of no use then.
    pub async fn settle(&mut self) -> Result<(), SpoolError> {
        if self.buffer.len() < BUFFER {
            return Ok(());
        }
        let chunk = self.take_body()?;
        let (file, spool, id) = (self.file.take(), Arc::clone(&self.spool), self.id.clone());
        let written = blocking(move || {
            let mut file = open(file, &spool, &id)?;
            file.write_all(&chunk)?;
            Ok::<_, SpoolError>((file, chunk))
        })
        .await?;
        self.file = Some(written.0);
        self.buffer = written.1;
        self.buffer.clear();
        Ok(())
    }

    /// Takes the buffer as the next piece of the body, counted and paid for.
    fn take_body(&mut self) -> Result<Vec<u8>, SpoolError> {
        let chunk = std::mem::take(&mut self.buffer);
        self.reserve(chunk.len() as u64)?;
        self.body = self.body.saturating_add(chunk.len() as u64);
        self.crc.update(&chunk);
        Ok(chunk)
    }

    fn reserve(&mut self, bytes: u64) -> Result<(), SpoolError> {
        self.spool.reserve(bytes)?;
        self.reserved = self.reserved.saturating_add(bytes);
        Ok(())
    }

    /// Completes the message. When this returns, it is in the queue and the promise of `durability` holds.
    ///
    /// # Errors
    /// As [`Self::settle`]; nothing is left in the queue then.
    pub async fn commit(mut self, header: Vec<u8>, meta: Meta) -> Result<Entry, SpoolError> {
        let chunk = self.take_body()?;
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
        self.reserve((PREAMBLE + header.len() + envelope.len()) as u64)?;
        let (file, spool, id) = (self.file.take(), Arc::clone(&self.spool), self.id.clone());
        blocking(move || {
            let mut file = open(file, &spool, &id)?;
            file.write_all(&[chunk, header, envelope].concat())?;
            file.seek(SeekFrom::Start(0))?;
            file.write_all(&preamble.encode())?;
            spool.publish(&id, &file)
        })
        .await?;
        self.published = true;
        let place = self.spool.accept_place();
        Ok(Entry { id: self.id.clone(), place, arrived: meta.arrived, size: self.reserved })
    }
}

/// The draft's file, made with room for the preamble when this is the first write.
fn open(file: Option<File>, spool: &Spool, id: &str) -> Result<File, SpoolError> {
    match file {
        Some(file) => Ok(file),
        None => {
            let mut file = spool.create(id)?;
            file.write_all(&[0; PREAMBLE])?;
            Ok(file)
        }
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if self.published {
            return;
        }
        self.spool.release(self.reserved);
        let (spool, id) = (Arc::clone(&self.spool), std::mem::take(&mut self.id));
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn_blocking(move || spool.discard(&id))),
            Err(_) => spool.discard(&id),
        }
    }
}
