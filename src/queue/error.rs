// SPDX-License-Identifier: Apache-2.0
//! Why the queue could not do something.

use std::io::{self, ErrorKind};

/// Why the queue could not do something.
#[derive(Debug)]
pub enum SpoolError {
    /// The limit or the disk is full. This may pass.
    Full(String),
    /// There is room, but not for this client: the rest is reserved for others.
    Share(String),
    /// Another disk error.
    Io(io::Error),
    /// The file is damaged, permanently.
    Damaged(String),
}

impl From<io::Error> for SpoolError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::OutOfMemory | ErrorKind::FileTooLarge => {
                Self::Full(error.to_string())
            }
            _ => Self::Io(error),
        }
    }
}

impl std::fmt::Display for SpoolError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Full(what) => write!(f, "the queue is full: {what}"),
            Self::Share(what) => write!(f, "this client has used up its share of the queue: {what}"),
            Self::Io(error) => write!(f, "the queue cannot be read or written: {error}"),
            Self::Damaged(what) => f.write_str(what),
        }
    }
}

impl std::error::Error for SpoolError {}
