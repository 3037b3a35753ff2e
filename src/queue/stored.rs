//! A message while it is being sent: read from disk in pieces, checked to the last byte.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};

use super::blocking;
use super::checksum::Checksum;
use super::record::{Meta, PREAMBLE, Preamble, State};
use super::spool::SpoolError;

/// Bytes read at a time.
const CHUNK: usize = 32 << 10;

/// An open message of the queue.
pub struct Stored {
    /// Envelope and circumstances.
    pub meta: Meta,
    /// Where its recipients are.
    pub state: State,
    /// Its header, without the blank line.
    pub header: Vec<u8>,
    /// Bytes of its body as stored.
    pub body_size: u64,
    body: Option<Body>,
}

struct Body {
    file: File,
    left: u64,
    crc: Checksum,
    expected: u32,
    started: bool,
}

impl Stored {
    pub(super) fn new(file: File, preamble: &Preamble, header: Vec<u8>, meta: Meta, state: State) -> Self {
        let body =
            Body { file, left: preamble.body, crc: Checksum::new(), expected: preamble.body_crc, started: false };
        Self { meta, state, header, body_size: preamble.body, body: Some(body) }
    }

    /// The next piece of the body; empty at its end.
    ///
    /// # Errors
    /// When the disk fails, and [`SpoolError::Damaged`] instead of the end when the body is not what was accepted. The
    /// caller must not finish the message then.
    pub async fn next(&mut self) -> Result<Vec<u8>, SpoolError> {
        let Some(body) = self.body.take() else {
            return Err(SpoolError::Io(std::io::Error::other("reading went on after a failure")));
        };
        let (body, chunk) = blocking(move || body.next()).await?;
        self.body = Some(body);
        Ok(chunk)
    }
}

impl Body {
    fn next(mut self) -> Result<(Self, Vec<u8>), SpoolError> {
        if !self.started {
            self.file.seek(SeekFrom::Start(PREAMBLE as u64))?;
            self.started = true;
        }
        let length = usize::try_from(self.left).unwrap_or(CHUNK).min(CHUNK);
        let mut chunk = vec![0; length];
        self.file.read_exact(&mut chunk)?;
        self.crc.update(&chunk);
        self.left = self.left.saturating_sub(length as u64);
        if chunk.is_empty() && self.crc.value() != self.expected {
            return Err(SpoolError::Damaged("its text on disk is not what was accepted".into()));
        }
        Ok((self, chunk))
    }
}
