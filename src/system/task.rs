// SPDX-License-Identifier: Apache-2.0
//! Concurrent work. Everything is boxed before the runtime sees it: otherwise each kind of future would instantiate the
//! runtime's machinery again, some kilobytes of code each.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};

use super::lock;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

/// Number of threads in the pool for blocking work.
pub const THREADS: usize = 8;
/// How many of these [`blocking`] may use. The others are reserved for incoming mail, so that no other work, however
/// long it takes, keeps a device waiting for its `250`.
const BESIDE: usize = THREADS - 2;

static BESIDE_INTAKE: Semaphore = Semaphore::const_new(BESIDE);

/// A future of any kind.
pub type Boxed<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// Runs `future` concurrently with everything else.
pub fn spawn(future: impl Future<Output = ()> + Send + 'static) -> JoinHandle<()> {
    let boxed: Boxed<()> = Box::pin(future);
    tokio::spawn(boxed)
}

/// Runs file operations on the pool of blocking threads, so that a slow flash chip never stops a session. `None` if the
/// program is shutting down and the pool accepts no more work. Not for host name lookups, see [`super::names`].
///
/// The work continues even if its result is no longer needed.
pub async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    let (work, place) = boxed(work);
    run(work).await;
    lock(&place).take()
}

/// As [`blocking`], for incoming mail: it has reserved threads.
pub async fn intake<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    let (work, place) = boxed(work);
    run_intake(work).await;
    lock(&place).take()
}

type Work = Box<dyn FnOnce() + Send>;

/// Work that stores its result in a shared place.
fn boxed<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> (Work, Arc<Mutex<Option<T>>>) {
    let place = Arc::new(Mutex::new(None));
    let theirs = Arc::clone(&place);
    (Box::new(move || *lock(&theirs) = Some(work())), place)
}

async fn run(work: Work) {
    // It is never closed.
    let Ok(place) = BESIDE_INTAKE.acquire().await else { return };
    // The permit is held as long as the work runs, even if its result is no longer needed.
    run_intake(Box::new(move || {
        work();
        drop(place);
    }))
    .await;
}

async fn run_intake(work: Work) {
    // An error means that the work was not done; its result stays empty then.
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

    /// However long other work takes, an incoming message gets to the disk.
    #[test]
    fn other_work_leaves_threads_to_the_intake() {
        let runtime =
            tokio::runtime::Builder::new_current_thread().max_blocking_threads(super::THREADS).build().unwrap();
        runtime.block_on(async {
            let (release, released) = std::sync::mpsc::channel::<()>();
            let released = std::sync::Arc::new(std::sync::Mutex::new(released));
            let long = || {
                let released = std::sync::Arc::clone(&released);
                tokio::spawn(super::blocking(move || released.lock().unwrap().recv().unwrap()))
            };
            let all: Vec<_> = (0..2 * super::THREADS).map(|_| long()).collect();
            // They have started, as far as they may.
            tokio::task::yield_now().await;
            assert_eq!(super::intake(|| 7).await, Some(7));
            all.iter().for_each(|_| release.send(()).unwrap());
            for one in all {
                assert_eq!(one.await.unwrap(), Some(()));
            }
        });
    }
}
