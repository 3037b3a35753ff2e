// SPDX-License-Identifier: Apache-2.0
//! The parts of a body (RFC 2046 section 5.1): which boundary ends what, and what begins after it.
//!
//! Receiving and sending side walk through a body with the same [`Tree`], so they agree where a part begins and whether
//! it is text.

pub mod entity;

use crate::message::header;
use entity::Content;

/// Maximum nesting of multiparts and messages.
pub const NESTING: usize = 16;
/// Maximum size of the header of a part, in bytes.
pub const HEADER_LIMIT: usize = 16 << 10;
/// Maximum length of a boundary: nearly three times what RFC 2046 section 5.1.1 allows.
const BOUNDARY_LIMIT: usize = 200;
/// Maximum length of a line that is examined as a whole, since it may be a boundary followed by spaces.
pub const DELIMITER_LIMIT: usize = 1024;
/// Maximum number of boundaries of one multipart that are looked for, if its type is named more than once.
const CANDIDATES: usize = 8;

/// The current position of the walk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Position {
    /// In the header of a part, or of a message that is a part.
    Header {
        /// Whether a part without a declared type is a message.
        in_digest: bool,
        /// Whether it is the header of a message.
        whole_message: bool,
    },
    /// In the text around parts, which nobody reads.
    Around,
    /// In the body of a part.
    Leaf,
}

/// The open multiparts.
#[derive(Debug, Default)]
pub struct Tree {
    levels: Vec<Level>,
    /// Number of open multiparts and messages.
    nesting: usize,
    /// The boundary of the outermost multipart, once a part of it has begun.
    found: Option<Vec<u8>>,
}

#[derive(Debug)]
struct Level {
    /// Its boundary, or the candidates until the first is found.
    boundaries: Vec<Vec<u8>>,
    digest: bool,
    nesting: usize,
    /// Whether a part has begun.
    seen: bool,
    /// Whether 8-bit bytes were replaced before that.
    lost: bool,
}

/// A line that is a boundary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Delimiter {
    level: usize,
    candidate: usize,
    closing: bool,
}

/// Why a walk cannot enter a part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bound {
    /// Parts are nested too deeply.
    Nesting,
    /// The boundary is too long.
    Boundary,
}

impl Tree {
    /// The multipart that a message may be. `boundaries` are those named in its header.
    pub fn of_candidates(boundaries: Vec<(Vec<u8>, bool)>) -> Self {
        let mut tree = Self::default();
        let digest = boundaries.first().is_some_and(|(_, digest)| *digest);
        let short = boundaries.into_iter().map(|(boundary, _)| boundary).filter(|one| one.len() <= BOUNDARY_LIMIT);
        let boundaries: Vec<Vec<u8>> = short.take(CANDIDATES).collect();
        if !boundaries.is_empty() {
            tree.nesting = 1;
            tree.levels.push(Level { boundaries, digest, nesting: 1, seen: false, lost: false });
        }
        tree
    }

    /// Whether no multipart is open, so that no line can be a boundary.
    pub fn is_empty(&self) -> bool {
        self.levels.is_empty()
    }

    /// Enters an entity with `content`; returns what comes next.
    ///
    /// # Errors
    /// If that exceeds the limits; it is then passed on as one block.
    pub fn enter(&mut self, content: &Content) -> Result<Position, Bound> {
        match content {
            Content::Multipart { boundary, digest } => {
                if boundary.len() > BOUNDARY_LIMIT {
                    return Err(Bound::Boundary);
                }
                self.deeper()?;
                let (boundaries, nesting) = (vec![boundary.clone()], self.nesting);
                self.levels.push(Level { boundaries, digest: *digest, nesting, seen: false, lost: false });
                Ok(Position::Around)
            }
            Content::Message => {
                self.deeper()?;
                Ok(Position::Header { in_digest: false, whole_message: true })
            }
            _ => Ok(Position::Leaf),
        }
    }

    fn deeper(&mut self) -> Result<(), Bound> {
        if self.nesting >= NESTING {
            return Err(Bound::Nesting);
        }
        self.nesting += 1;
        Ok(())
    }

    /// Whether `line`, given without its line ending, is a boundary (RFC 2046 section 5.1.1).
    pub fn delimiter(&self, line: &[u8]) -> Option<Delimiter> {
        let is_blank = |rest: &[u8]| rest.iter().all(|byte| matches!(byte, b' ' | b'\t'));
        let line = line.strip_prefix(b"--").filter(|line| line.len() + 2 <= DELIMITER_LIMIT)?;
        self.levels.iter().enumerate().rev().find_map(|(level, open)| {
            open.boundaries.iter().enumerate().find_map(|(candidate, boundary)| {
                let tail = line.strip_prefix(&boundary[..])?;
                let closing = tail.strip_prefix(b"--").is_some_and(is_blank);
                (closing || is_blank(tail)).then_some(Delimiter { level, candidate, closing })
            })
        })
    }

    /// Moves past `delimiter`: ends what it ends, and returns what comes next. `true` if that ended a multipart whose
    /// text was [lost](Self::lose).
    pub fn pass(&mut self, delimiter: Delimiter) -> (Position, bool) {
        let Delimiter { level: at, candidate, closing } = delimiter;
        let (mut nesting, mut in_digest) = (self.nesting, false);
        if let Some(level) = self.levels.get_mut(at) {
            level.seen |= !closing;
            if candidate < level.boundaries.len() {
                level.boundaries.swap(0, candidate);
                level.boundaries.truncate(1);
            }
            if at == 0 && !closing && self.found.is_none() {
                self.found = level.boundaries.first().cloned();
            }
            (nesting, in_digest) = (level.nesting, level.digest);
        }
        let lost = self.close(at + usize::from(!closing));
        self.nesting = if closing { nesting.saturating_sub(1) } else { nesting };
        (if closing { Position::Around } else { Position::Header { in_digest, whole_message: false } }, lost)
    }

    /// Ends the multiparts within the outermost `count`. Text before the first part is not worth a refusal; but if no
    /// part ever came, it was the message itself: then the result is `true`.
    pub fn close(&mut self, count: usize) -> bool {
        let lost = self.levels.iter().skip(count).any(|level| level.lost && !level.seen);
        self.levels.truncate(count);
        lost
    }

    /// Records that 8-bit bytes around parts were replaced.
    pub fn lose(&mut self) {
        if let Some(level) = self.levels.last_mut() {
            level.lost |= !level.seen;
        }
    }

    /// The boundary of the outermost multipart, if a part of it has begun.
    pub fn boundary(&self) -> Option<&[u8]> {
        self.found.as_deref()
    }
}

/// Whether `line` continues the header of a part; `first` is whether it would begin it. A line that begins like a
/// boundary is never a field, whatever colons it contains.
pub fn is_header_line(line: &[u8], first: bool) -> bool {
    match line {
        [] | [b'-', b'-', ..] => false,
        [b' ' | b'\t', ..] => !first,
        _ => header::fields(line).next().is_some_and(|field| !field.name.is_empty()),
    }
}
