//! Work that runs beside other work. Everything is boxed before the runtime sees it: each kind of future would otherwise
//! bring the runtime's machinery along once more, some kilobytes of code each.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::task::JoinHandle;

/// A future of any kind.
pub type Boxed<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// Runs `future` beside everything else.
pub fn spawn(future: impl Future<Output = ()> + Send + 'static) -> JoinHandle<()> {
    let boxed: Boxed<()> = Box::pin(future);
    tokio::spawn(boxed)
}

/// Runs file work on the pool of blocking threads, so that a slow flash chip never stops a session. `None` when the
/// program is ending and the pool takes no more.
///
/// The work goes on when nobody waits for it any more.
pub async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    let place = Arc::new(Mutex::new(None));
    let theirs = Arc::clone(&place);
    run(Box::new(move || *theirs.lock().unwrap_or_else(PoisonError::into_inner) = Some(work()))).await;
    place.lock().unwrap_or_else(PoisonError::into_inner).take()
}

async fn run(work: Box<dyn FnOnce() + Send>) {
    // An error means that the work was not done, which its empty place tells.
    let _ = tokio::task::spawn_blocking(work).await;
}

#[cfg(test)]
mod tests {
    #[tokio::test]
    async fn work_comes_back_with_its_result() {
        assert_eq!(super::blocking(|| 7).await, Some(7));
        let (tell, told) = tokio::sync::oneshot::channel();
        super::spawn(async move { tell.send("done").unwrap() }).await.unwrap();
        assert_eq!(told.await, Ok("done"));
    }
}
