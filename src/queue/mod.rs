//! The queue: what has been accepted and not yet been dealt with.
//!
//! [`record`] is the format of one message on disk, [`spool`] the directories with their promises, [`Draft`] a message
//! while it is being received, [`stored`] a message while it is being sent, [`schedule`] who is due when.

mod checksum;
mod draft;
pub mod record;
mod recovery;
pub mod schedule;
pub mod spool;
pub mod stored;

pub use draft::Draft;
pub use record::{Meta, RecipientState, State};
pub use recovery::Listed;
pub use schedule::Schedule;
pub use spool::{Entry, Place, Spool, SpoolError};
pub use stored::Stored;

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
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(_) => Err(std::io::Error::other("the program is ending").into()),
    }
}
