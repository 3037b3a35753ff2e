// SPDX-License-Identifier: Apache-2.0
//! The bytes of one connection, read strictly.

use std::io;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::super::stream::Stream;

/// A command line longer than this is not read to its end (AUTH may have 12288 bytes, RFC 4954 section 4).
const LONGEST_LINE: usize = 16 * 1024;

/// Why a conversation is over.
#[derive(Debug)]
pub(super) enum End {
    /// Closed in good order by the client, or on purpose by the stand-in.
    Closed,
    /// Anything else.
    Failed(io::Error),
}

impl From<io::Error> for End {
    fn from(error: io::Error) -> End {
        End::Failed(error)
    }
}

/// A command line without its end.
pub(super) struct Line {
    pub bytes: Vec<u8>,
    /// It ended with a lone LF.
    pub bare_lf: bool,
}

/// A connection and what was read from it but not used yet.
pub(super) struct Wire {
    pub stream: Stream,
    buffer: Vec<u8>,
    used: usize,
}

impl Wire {
    pub fn new(stream: Stream) -> Wire {
        Wire { stream, buffer: Vec::new(), used: 0 }
    }

    /// Reads a command line up to LF.
    pub async fn line(&mut self) -> Result<Line, End> {
        let end = self.find(b"\n", LONGEST_LINE).await?;
        let mut bytes = self.consume(end);
        bytes.pop();
        let bare_lf = bytes.last() != Some(&b'\r');
        if !bare_lf {
            bytes.pop();
        }
        Ok(Line { bytes, bare_lf })
    }

    /// Reads a line of text with its CRLF. A lone LF or CR ends nothing.
    pub async fn text_line(&mut self) -> Result<Vec<u8>, End> {
        let end = self.find(b"\r\n", usize::MAX).await?;
        Ok(self.consume(end))
    }

    /// Reads exactly so many bytes.
    pub async fn exact(&mut self, count: usize) -> Result<Vec<u8>, End> {
        while self.waiting().len() < count {
            self.fill().await?;
        }
        Ok(self.consume(count))
    }

    /// Waits until something has arrived that nobody has asked for.
    pub async fn has_begun(&mut self) -> Result<(), End> {
        while self.waiting().is_empty() {
            self.fill().await?;
        }
        Ok(())
    }

    /// True if more has arrived than was asked for. Does not wait for it.
    pub async fn has_more(&mut self) -> bool {
        if self.waiting().is_empty() {
            tokio::select! {
                biased;
                // An error or the end shows again at the next real read.
                _ = self.fill() => {}
                () = std::future::ready(()) => {}
            }
        }
        !self.waiting().is_empty()
    }

    /// Throws away what has arrived; says how many bytes.
    pub fn discard(&mut self) -> usize {
        let count = self.waiting().len();
        self.consume(count);
        count
    }

    /// Reads and throws away until the client closes.
    pub async fn drain(&mut self) -> End {
        loop {
            self.discard();
            if let Err(end) = self.fill().await {
                return end;
            }
        }
    }

    pub async fn write(&mut self, bytes: &[u8]) -> Result<(), End> {
        self.stream.write_all(bytes).await?;
        self.stream.flush().await?;
        Ok(())
    }

    fn waiting(&self) -> &[u8] {
        &self.buffer[self.used..]
    }

    fn consume(&mut self, count: usize) -> Vec<u8> {
        let bytes = self.buffer[self.used..self.used + count].to_vec();
        self.used += count;
        bytes
    }

    /// Reads until `end` is there; says how many bytes it is from here to behind it.
    async fn find(&mut self, end: &[u8], limit: usize) -> Result<usize, End> {
        let mut searched = 0;
        loop {
            let waiting = self.waiting();
            if let Some(at) = waiting[searched..].windows(end.len()).position(|part| part == end) {
                return Ok(searched + at + end.len());
            }
            if waiting.len() > limit {
                return Err(End::Failed(io::Error::other(format!("no line end within {limit} bytes"))));
            }
            // The first byte of `end` may be there already.
            searched = waiting.len().saturating_sub(end.len() - 1);
            self.fill().await?;
        }
    }

    async fn fill(&mut self) -> Result<(), End> {
        if self.used > 0 {
            self.buffer.drain(..self.used);
            self.used = 0;
        }
        self.buffer.reserve(16 * 1024);
        match self.stream.read_buf(&mut self.buffer).await? {
            0 => Err(End::Closed),
            _ => Ok(()),
        }
    }
}
