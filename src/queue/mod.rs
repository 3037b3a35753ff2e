// SPDX-License-Identifier: Apache-2.0
//! The queue: what has been accepted and is not finished yet.
//!
//! [`record`] is the format of one message on disk, [`journal`] the notes appended to it, [`State`] their combined
//! result; [`spool`] the directories and their guarantees, [`Draft`] a message while it is received, [`stored`] a
//! message while it is being sent, [`Item`] while it waits, [`schedule`] which one is due when. Every change of the
//! directories goes through one layer, where tests record it, let it fail, and replay what a power cut may leave of it.

mod client;
mod disk;
mod draft;
mod error;
mod id;
mod item;
pub mod journal;
mod ledger;
mod line;
pub mod lock;
mod moving;
mod owed;
pub mod record;
mod recovery;
mod replace;
pub mod schedule;
pub mod spool;
mod state;
pub mod stored;

pub use client::Client;
pub use draft::Draft;
pub use error::SpoolError;
pub use id::{MessageId, NotAnId};
pub use item::Rest;
pub use item::{Item, Placed};
pub use journal::Note;
pub use ledger::Wear;
pub use record::{Marks, Over, Replaces};
pub use record::{Meta, Undated};
pub use recovery::{Found, Listed};
pub use replace::{Replacements, Sorted, Unremoved};
pub use schedule::{Position, Schedule};
pub use spool::{Entry, Place, Spool};
pub use state::{RecipientState, State};
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

/// As [`blocking`], for a message that is coming in while its device waits.
///
/// # Errors
/// As [`blocking`].
async fn writing<T, E>(work: impl FnOnce() -> Result<T, E> + Send + 'static) -> Result<T, E>
where
    T: Send + 'static,
    E: From<std::io::Error> + Send + 'static,
{
    task::intake(work).await.unwrap_or_else(|| Err(ending().into()))
}

fn ending() -> std::io::Error {
    std::io::Error::other("the program is shutting down")
}
