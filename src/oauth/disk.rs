//! Work that touches the disk, off the runtime thread.

use super::Later;
use crate::system::task;

/// Runs `work` where it may block. `None` if the program is shutting down.
pub fn away<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Later<'static, Option<T>> {
    Box::pin(task::blocking(work))
}
