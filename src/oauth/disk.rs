//! Work that touches the disk, off the runtime thread.

use std::sync::{Arc, Mutex, PoisonError};

use super::Later;

/// Runs `work` where it may block. `None` when the program is ending.
pub fn away<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Later<'static, Option<T>> {
    let place = Arc::new(Mutex::new(None));
    let result = Arc::clone(&place);
    let work = Box::new(move || {
        let done = work();
        *place.lock().unwrap_or_else(PoisonError::into_inner) = Some(done);
    });
    Box::pin(async move {
        blocking(work).await;
        result.lock().unwrap_or_else(PoisonError::into_inner).take()
    })
}

fn blocking(work: Box<dyn FnOnce() + Send>) -> Later<'static, ()> {
    Box::pin(async move {
        // It ends without having run only with the program.
        let _ = tokio::task::spawn_blocking(work).await;
    })
}
