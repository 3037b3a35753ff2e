// SPDX-License-Identifier: Apache-2.0
//! The queue: what has been accepted and is not finished yet.
//!
//! | file | holds |
//! |---|---|
//! | `entry` | what all parts know of a message: ID, client, directory, error |
//! | `record`, `journal` | the format of a message on disk, and of the notes that are appended to it |
//! | `ledger`, `owed` | the accounting of the queue: room, and changes that the disk has refused |
//! | `spool` | the directories and their guarantees; above it: |
//! | `at_once` | what the runtime thread does itself, where the directory is in memory |
//! | `draft` | a message while it is received, up to its publication |
//! | `lock` | which process has the queue, also where the settings name another one by now |
//! | `moving`, `replace`, `recovery` | many messages: to safe storage, replaced by a digest, after a start |
//! | `stored` | a message while it is being sent |
//! | `item`, `schedule` | a message while it waits, and which one is due when |
//!
//! Every change of the directories goes through one layer, `disk`, where tests record it, let it fail, and replay what a
//! power cut may leave of it.

mod at_once;
mod disk;
mod draft;
mod entry;
mod item;
mod journal;
mod ledger;
mod lock;
mod moving;
mod owed;
mod record;
mod recovery;
mod replace;
mod schedule;
mod spool;
mod stored;

pub use draft::Draft;
pub use entry::{ById, Client, Entry, MessageId, NotAnId, Place, SpoolError};
pub use item::{Item, Placed, Plan, Rest, Step};
pub use journal::{Attempt, Note, Progress, RecipientState, State, StepNote, StepProgress};
pub use ledger::Wear;
pub use lock::{SpoolLock, deserted, in_use};
pub use record::{Marks, Meta, Over, Replaces, Undated};
pub use recovery::Found;
pub use replace::{Replacements, Sorted, Unremoved};
pub use schedule::{Position, Reserve, Schedule, backoff};
pub use spool::Spool;
pub use stored::Stored;

use crate::system::task;

#[cfg(test)]
mod tests;

/// Runs file work on the pool of blocking threads, so that a slow flash chip never stops a session.
///
/// # Errors
/// Those of `work`; also when the pool is shutting down.
pub(crate) async fn blocking<T, E>(work: impl FnOnce() -> Result<T, E> + Send + 'static) -> Result<T, E>
where
    T: Send + 'static,
    E: From<std::io::Error> + Send + 'static,
{
    task::blocking(work).await.unwrap_or_else(|| Err(ending().into()))
}

/// As [`blocking`], for a message that is coming in while its device waits. `at_once`: where the file is in memory alone,
/// one buffer is copied into it in less time than another thread needs to wake up.
///
/// # Errors
/// As [`blocking`].
async fn writing<T, E>(at_once: bool, work: impl FnOnce() -> Result<T, E> + Send + 'static) -> Result<T, E>
where
    T: Send + 'static,
    E: From<std::io::Error> + Send + 'static,
{
    // In a box in either case: otherwise its code would be in the program twice.
    let work: Box<dyn FnOnce() -> Result<T, E> + Send> = Box::new(work);
    if at_once {
        return work();
    }
    task::intake(work).await.unwrap_or_else(|| Err(ending().into()))
}

fn ending() -> std::io::Error {
    std::io::Error::other("the program is shutting down")
}
