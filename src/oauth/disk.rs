//! Work that touches the disk, off the runtime thread.

use super::Later;
use crate::system::task;

/// Runs `work` where it may block. `None` when the program is ending.
pub fn away<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Later<'static, Option<T>> {
    Box::pin(task::blocking(work))
}
