// SPDX-License-Identifier: Apache-2.0
//! Concurrent work. Everything is boxed before the runtime sees it: otherwise each kind of future would instantiate the
//! runtime's machinery again, some kilobytes of code each.
//!
//! Host name lookups are isolated from everything else. The C library's resolver blocks, for half a minute and longer
//! if no name server answers, and cannot be interrupted. So each lookup gets a thread of its own that ends with it. On
//! the pool, a dead uplink would take the threads that accepted mail needs to get to the disk.

use std::future::Future;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::pin::Pin;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};
use std::{io, thread};

use tokio::sync::{Semaphore, oneshot};
use tokio::task::JoinHandle;

use super::lock;

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

/// Returns at this time, without one never.
pub async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}

/// What the slots of tokio's timers begin at multiples of, in ms since the runtime began: those that are wide enough for
/// half a minute, and the narrower ones.
const SLOTS: (u64, u64) = (32_768, 64);
/// From which wait on the moment matters so little that it is moved to the nearest of the wide slots.
const UNHURRIED: Duration = Duration::from_secs(30);
/// What the runtime has begun before [`begin`], at most.
const EARLIER: Duration = Duration::from_micros(900);

static BEGUN: OnceLock<Instant> = OnceLock::new();

/// A runtime has just begun: [`regular`] waits by its clock.
pub fn begin() {
    BEGUN.get_or_init(Instant::now);
}

/// The moment nearest to `wait` from now at which a timer wakes the processor once, together with all others that
/// were moved there. A timer elsewhere wakes it up to three times (`findings/tokio-sleep-wakes-thrice.sh`). Waits of half a
/// minute and longer are up to 16 s shorter or longer than `wait`, so this is for what is done regularly while nothing
/// happens.
pub fn regular(wait: Duration) -> Instant {
    let (now, begun) = (Instant::now(), *BEGUN.get_or_init(Instant::now));
    moved(now.saturating_duration_since(begun), wait).and_then(|at| begun.checked_add(at)).unwrap_or(now + wait)
}

/// As [`regular`], by the time since the runtime began.
fn moved(now: Duration, wait: Duration) -> Option<Duration> {
    let slot = if wait < UNHURRIED { SLOTS.1 } else { SLOTS.0 };
    let at = u64::try_from(now.saturating_add(wait).as_millis()).ok()?.checked_add(slot / 2)? / slot;
    Duration::from_millis(at.checked_mul(slot)?).checked_sub(EARLIER)
}

/// Waits until [`regular`].
pub async fn pause(wait: Duration) {
    sleep_until(Some(regular(wait))).await;
}

/// Runs file operations on the pool of blocking threads, so that a slow flash chip never stops a session. `None` if the
/// program is shutting down and the pool accepts no more work. Not for host name lookups, see [`lookup`].
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

/// Names the calling thread; the standard library calls this for each thread that it starts, and for no other. In place of
/// the function of the C library, which also names other threads: it formats the path of a file for that, the only thing in
/// the program that needs `printf`.
#[cfg(target_env = "musl")]
#[unsafe(no_mangle)]
extern "C" fn pthread_setname_np(_: nix::libc::pthread_t, name: *const std::ffi::c_char) -> std::ffi::c_int {
    // SAFETY: the standard library passes a string that ends with a zero byte.
    let name = unsafe { std::ffi::CStr::from_ptr(name) };
    nix::sys::prctl::set_name(name).map_or_else(|error| error as std::ffi::c_int, |()| 0)
}

/// Maximum number of concurrent lookups: more than two connections of a few accounts, a login and a test mail need.
/// Others wait.
const LOOKUPS: usize = 8;
/// Stack size of a lookup in bytes. Only what is used costs memory.
const STACK: usize = 512 << 10;

static PLACES: Lookups = Lookups(Semaphore::const_new(LOOKUPS));

/// The addresses of `host`, in the order of the resolver (RFC 6724), each with `port`. A literal address needs no
/// lookup. The caller sets the timeout; an abandoned lookup keeps its slot until the resolver gives up.
///
/// # Errors
/// The error of the resolver, in its own words.
pub async fn lookup(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    if let Ok(ip) = host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(ip, port)]);
    }
    let host = host.to_string();
    PLACES.run(Box::new(move || (host.as_str(), port).to_socket_addrs().map(Iterator::collect))).await
}

/// A limited number of threads for work that may hang.
struct Lookups(Semaphore);

type Found = io::Result<Vec<SocketAddr>>;

impl Lookups {
    async fn run(&'static self, resolve: Box<dyn FnOnce() -> Found + Send>) -> Found {
        let place = self.0.acquire().await.map_err(io::Error::other)?;
        let (tell, told) = oneshot::channel();
        thread::Builder::new().name("lookup".into()).stack_size(STACK).spawn(move || {
            let found = resolve();
            drop(place);
            // The caller may have stopped waiting.
            let _ = tell.send(found);
        })?;
        told.await.map_err(|_| io::Error::other("the lookup was aborted"))?
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, mpsc};

    use super::*;

    #[test]
    fn regular_waits_meet() {
        let ms = Duration::from_millis;
        // Whenever they began: what is looked after each half minute, each minute, and each hour.
        for begun in [0, 1, 999, 16_000, 40_000, 3_600_000] {
            let mut moments = std::collections::BTreeSet::new();
            for wait in [30_000, 60_000, 3_600_000].map(ms) {
                let mut now = ms(begun);
                while now < ms(begun + 10_000_000) {
                    let at = moved(now, wait).unwrap();
                    assert!(at > now && at.abs_diff(now + wait) <= ms(16_385), "{now:?} {wait:?} {at:?}");
                    assert_eq!((at + EARLIER).as_millis() % 32_768, 0, "{at:?}");
                    moments.insert(at);
                    now = at + ms(2);
                }
            }
            assert!(moments.len() <= 10_000_000 / 32_768 + 120, "{begun}: {}", moments.len());
        }
        // What is waited for is not delayed.
        assert_eq!(moved(ms(5000), ms(1000)), Some(ms(6016) - EARLIER));
        assert_eq!(moved(Duration::MAX, ms(1000)), None);
    }

    /// Counted by the system, for a thread with a runtime of its own.
    #[test]
    fn a_regular_wait_wakes_the_processor_once() {
        let slept = || {
            let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
            let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
            line.unwrap().trim().parse::<u64>().unwrap()
        };
        let sleeps = || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
            let begun = Instant::now();
            let at = moved(begun.elapsed(), Duration::from_millis(100)).map(|at| begun + at);
            let before = slept();
            runtime.block_on(sleep_until(at));
            slept() - before
        };
        // A busy machine may begin one of the runtimes too early. Any other moment takes two, but for one in 64.
        assert_eq!((0..5).map(|_| sleeps()).min(), Some(1));
    }

    #[tokio::test]
    async fn work_comes_back_with_its_result() {
        assert_eq!(blocking(|| 7).await, Some(7));
        let (tell, told) = tokio::sync::oneshot::channel();
        spawn(async move { tell.send("done").unwrap() }).await.unwrap();
        assert_eq!(told.await, Ok("done"));
    }

    /// However long other work takes, an incoming message gets to the disk.
    #[test]
    fn other_work_leaves_threads_to_the_intake() {
        let runtime = tokio::runtime::Builder::new_current_thread().max_blocking_threads(THREADS).build().unwrap();
        runtime.block_on(async {
            let (release, released) = std::sync::mpsc::channel::<()>();
            let released = std::sync::Arc::new(std::sync::Mutex::new(released));
            let long = || {
                let released = std::sync::Arc::clone(&released);
                tokio::spawn(blocking(move || released.lock().unwrap().recv().unwrap()))
            };
            let all: Vec<_> = (0..2 * THREADS).map(|_| long()).collect();
            // They have started, as far as they may.
            tokio::task::yield_now().await;
            assert_eq!(intake(|| 7).await, Some(7));
            all.iter().for_each(|_| release.send(()).unwrap());
            for one in all {
                assert_eq!(one.await.unwrap(), Some(()));
            }
        });
    }

    #[tokio::test]
    async fn an_address_is_its_own_answer_and_localhost_has_one() {
        assert_eq!(lookup("::1", 25).await.unwrap(), ["[::1]:25".parse().unwrap()]);
        assert!(lookup("localhost", 587).await.unwrap().iter().all(|at| at.ip().is_loopback() && at.port() == 587));
    }

    /// With a resolver that never answers, the disk still gets its threads.
    #[test]
    fn lookups_that_hang_take_no_thread_from_the_disk() {
        let runtime = tokio::runtime::Builder::new_current_thread().max_blocking_threads(1).build().unwrap();
        runtime.block_on(async {
            let places: &'static Lookups = Box::leak(Box::new(Lookups(Semaphore::const_new(2))));
            let (release, released) = mpsc::channel::<()>();
            let released = Arc::new(std::sync::Mutex::new(released));
            let (begin, mut begun) = tokio::sync::mpsc::unbounded_channel();
            let hanging: Vec<_> = (0..3)
                .map(|number| {
                    let (released, begin) = (Arc::clone(&released), begin.clone());
                    tokio::spawn(places.run(Box::new(move || {
                        begin.send(number).unwrap();
                        released.lock().unwrap().recv().unwrap();
                        Ok(Vec::new())
                    })))
                })
                .collect();
            // Two threads, in the order in which the system runs them.
            let mut first = [begun.recv().await, begun.recv().await];
            first.sort_unstable();
            assert_eq!(first, [Some(0), Some(1)]);
            assert_eq!(blocking(|| 7).await, Some(7));
            // The third waits for a slot, not for a thread of its own.
            assert!(begun.try_recv().is_err());
            release.send(()).unwrap();
            assert_eq!(begun.recv().await, Some(2));
            (0..2).for_each(|_| release.send(()).unwrap());
            for lookup in hanging {
                assert!(lookup.await.unwrap().unwrap().is_empty());
            }
        });
    }
}
