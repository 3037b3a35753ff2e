// SPDX-License-Identifier: Apache-2.0
//! Host name lookups, isolated from everything else.
//!
//! The C library's resolver blocks, for half a minute and longer if no name server answers, and cannot be interrupted.
//! So each lookup gets a thread of its own that ends with it. On the pool of `task`, a dead uplink would take the
//! threads that accepted mail needs to get to the disk.

use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::thread;

use tokio::sync::{Semaphore, oneshot};

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
    use super::*;
    use crate::system::task;
    use std::sync::{Arc, mpsc};

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
            assert_eq!((begun.recv().await, begun.recv().await), (Some(0), Some(1)));
            assert_eq!(task::blocking(|| 7).await, Some(7));
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
