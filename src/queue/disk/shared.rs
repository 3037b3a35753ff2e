// SPDX-License-Identifier: Apache-2.0
//! Syncs of a directory that sessions share (group commit): while one is running, all that come meanwhile wait for the
//! next one together. A sync that has begun may have missed a change that was made after it began, so nobody relies on it.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use crate::system::lock;

/// Of each directory that was synced. There are few: the queues, and those above them when they are made.
#[derive(Clone, Default)]
pub(super) struct SharedSyncs(Arc<Mutex<BTreeMap<PathBuf, Arc<SharedSync>>>>);

impl SharedSyncs {
    /// Returns when `sync` of the directory at `path` has succeeded, by this call or by another one that began after this
    /// one. Blocks.
    ///
    /// # Errors
    /// Those of `sync`, for all who waited for it.
    pub(super) fn run(&self, path: &Path, sync: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        let shared = {
            let mut all = lock(&self.0);
            match all.get(path) {
                Some(shared) => Arc::clone(shared),
                None => Arc::clone(all.entry(path.into()).or_default()),
            }
        };
        shared.run(sync)
    }
}

#[derive(Default)]
struct SharedSync {
    turns: Mutex<Turns>,
    over: Condvar,
}

/// Syncs are counted from 1.
#[derive(Default)]
struct Turns {
    begun: u64,
    ended: u64,
    /// The last one that failed, with the number of its error (errno).
    failed: Option<(u64, i32)>,
}

impl SharedSync {
    fn run(&self, sync: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        let mut turns = lock(&self.turns);
        let mine = turns.begun.saturating_add(1);
        while turns.begun != turns.ended && turns.ended < mine {
            turns = self.over.wait(turns).unwrap_or_else(PoisonError::into_inner);
        }
        if turns.ended >= mine {
            // If a later one failed as well, it is not known whether this one's changes are on the disk.
            return match turns.failed {
                Some((at, error)) if at >= mine => Err(io::Error::from_raw_os_error(error)),
                _ => Ok(()),
            };
        }
        turns.begun = mine;
        drop(turns);
        let result = sync();
        let mut turns = lock(&self.turns);
        turns.ended = mine;
        if let Err(error) = &result {
            turns.failed = Some((mine, error.raw_os_error().unwrap_or(nix::libc::EIO)));
        }
        self.over.notify_all();
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc;

    #[test]
    fn who_comes_while_one_is_running_shares_the_next_one() {
        let shared = SharedSync::default();
        let syncs = AtomicUsize::new(0);
        let (begun, has_begun) = mpsc::channel();
        let (go, may_go) = mpsc::channel::<()>();
        std::thread::scope(|scope| {
            let (shared, syncs) = (&shared, &syncs);
            scope.spawn(move || {
                shared.run(|| {
                    begun.send(()).unwrap();
                    may_go.recv().unwrap();
                    syncs.fetch_add(1, Ordering::SeqCst);
                    Ok(())
                })
            });
            has_begun.recv().unwrap();
            let waiting: Vec<_> = (0..5)
                .map(|_| {
                    scope.spawn(move || {
                        shared.run(|| {
                            syncs.fetch_add(1, Ordering::SeqCst);
                            Ok(())
                        })
                    })
                })
                .collect();
            // Nobody relies on the one that began before; when they wait is up to the system, so they may need two.
            assert_eq!(lock(&shared.turns).ended, 0);
            go.send(()).unwrap();
            waiting.into_iter().for_each(|thread| thread.join().unwrap().unwrap());
        });
        assert!((2..=6).contains(&syncs.load(Ordering::SeqCst)), "{syncs:?}");
        assert_eq!(lock(&shared.turns).begun, syncs.load(Ordering::SeqCst) as u64);
    }

    #[test]
    fn each_change_is_seen_by_a_sync_that_began_after_it() {
        // The disk: what was changed, and what of it a sync has written.
        let (changed, written) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let syncs = SharedSyncs::default();
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..300 {
                        let mine = changed.fetch_add(1, Ordering::SeqCst) + 1;
                        let sync = || {
                            let seen = changed.load(Ordering::SeqCst);
                            std::thread::yield_now();
                            written.fetch_max(seen, Ordering::SeqCst);
                            Ok(())
                        };
                        syncs.run(Path::new("/queue"), sync).unwrap();
                        assert!(written.load(Ordering::SeqCst) >= mine);
                    }
                });
            }
        });
    }

    #[test]
    fn all_who_waited_for_a_sync_that_failed_hear_of_it() {
        let shared = SharedSync::default();
        let failed = || shared.run(|| Err(io::Error::from_raw_os_error(nix::libc::ENOSPC)));
        assert_eq!(failed().unwrap_err().raw_os_error(), Some(nix::libc::ENOSPC));
        shared.run(|| Ok(())).unwrap();
        let (begun, has_begun) = mpsc::channel();
        let (go, may_go) = mpsc::channel::<()>();
        std::thread::scope(|scope| {
            let shared = &shared;
            scope.spawn(move || {
                shared.run(|| {
                    begun.send(()).unwrap();
                    may_go.recv().unwrap();
                    Ok(())
                })
            });
            has_begun.recv().unwrap();
            let fails = || shared.run(|| Err(io::Error::from_raw_os_error(nix::libc::EIO)));
            let waiting: Vec<_> = (0..3).map(|_| scope.spawn(fails)).collect();
            go.send(()).unwrap();
            waiting.into_iter().for_each(|thread| {
                assert_eq!(thread.join().unwrap().unwrap_err().raw_os_error(), Some(nix::libc::EIO));
            });
        });
        shared.run(|| Ok(())).unwrap();
    }
}
