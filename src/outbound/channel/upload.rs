// SPDX-License-Identifier: Apache-2.0
//! The picture of a stored message, decoded while it is sent.

use std::io;

use crate::message::picture::{Finder, Picture};
use crate::net::http::{Later, Pieces};
use crate::queue::Stored;

/// Reads a message for the second time. Its last piece is returned only when the rest of the message is read as well,
/// and is what was accepted: without that piece no service takes the request.
pub struct Upload<'a> {
    stored: &'a mut Stored,
    finder: Finder,
    size: u64,
    /// Bytes decoded so far.
    decoded: u64,
    /// The piece that is returned next.
    held: Vec<u8>,
    ended: bool,
    failed: bool,
}

impl<'a> Upload<'a> {
    /// Starts with `picture`, which was found in the body of `stored`.
    pub fn new(stored: &'a mut Stored, picture: &Picture) -> Self {
        stored.rewind();
        let finder = Finder::decode(&stored.header, picture);
        Self { stored, finder, size: picture.size, decoded: 0, held: Vec::new(), ended: false, failed: false }
    }

    /// Whether the message could not be read, or is another one now.
    pub fn has_failed(&self) -> bool {
        self.failed
    }

    async fn piece(&mut self) -> io::Result<Vec<u8>> {
        while !self.ended {
            let chunk = self.stored.next().await.map_err(|_| io::ErrorKind::InvalidData)?;
            let mut piece = Vec::new();
            self.ended = chunk.is_empty();
            if self.ended {
                self.finder.finish(&mut piece);
            } else {
                self.finder.push(&chunk, &mut piece);
            }
            self.decoded = self.decoded.saturating_add(piece.len() as u64);
            if self.decoded > self.size || self.ended && self.decoded != self.size {
                return Err(io::ErrorKind::InvalidData.into());
            }
            if !piece.is_empty() {
                let before = std::mem::replace(&mut self.held, piece);
                if !before.is_empty() {
                    return Ok(before);
                }
            }
        }
        Ok(std::mem::take(&mut self.held))
    }
}

impl Pieces for Upload<'_> {
    fn size(&self) -> u64 {
        self.size
    }

    fn next(&mut self) -> Later<'_, io::Result<Vec<u8>>> {
        Box::pin(async move {
            let piece = self.piece().await;
            self.failed |= piece.is_err();
            piece
        })
    }
}
