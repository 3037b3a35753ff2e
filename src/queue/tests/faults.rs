// SPDX-License-Identifier: Apache-2.0
//! A disk that fails at every single operation in turn: nothing half-kept remains, and the next message works.

use nix::errno::Errno;

use super::super::disk::Disk;
use super::super::disk::probe::{Fault, Probe};
use super::*;

const DURABILITIES: [Durability; 3] = [Durability::Always, Durability::Deferred, Durability::Memory];

struct Bench {
    dir: tempfile::TempDir,
    spool: Arc<Spool>,
    probe: Arc<Probe>,
}

impl Bench {
    fn new(durability: Durability) -> Self {
        let dir = scratch();
        let (disk, probe) = Disk::watched();
        let spool = Spool::open_on(&relay(dir.path(), durability, 1 << 20), disk).unwrap();
        Self { dir, spool, probe }
    }

    /// Names of all files of the queue.
    fn files(&self) -> Vec<String> {
        ["ram", "flash"]
            .iter()
            .flat_map(|place| {
                names(&self.dir.path().join(place).join("queue")).into_iter().map(move |n| format!("{place}/{n}"))
            })
            .collect()
    }

    /// Whether the accounting matches the disk, once background work has ended.
    async fn books_are_right(&self) {
        while self.files().iter().any(|name| name.ends_with(".tmp")) {
            tokio::task::yield_now().await;
        }
        assert_eq!(books(&self.spool), on_disk(self.dir.path()));
    }
}

/// Runs `act` once for each operation that it makes, with that one failing in each of the ways. Returns how many faults
/// were met.
async fn each_fault<F: Future>(durability: Durability, act: impl Fn(Arc<Bench>, Fault) -> F) -> usize {
    let mut tried = 0;
    for (error, part) in [(Errno::ENOSPC, false), (Errno::ENOSPC, true), (Errno::EIO, false), (Errno::EIO, true)] {
        for after in 0.. {
            let bench = Arc::new(Bench::new(durability));
            act(Arc::clone(&bench), Fault { after, error, part, for_good: false }).await;
            if !bench.probe.heal() {
                break;
            }
            tried += 1;
        }
    }
    tried
}

fn is_of<T>(result: &Result<T, SpoolError>, fault: Fault) -> bool {
    match result {
        Ok(_) => true,
        Err(SpoolError::Full(_)) => fault.error == Errno::ENOSPC,
        Err(SpoolError::Io(io)) => fault.error == Errno::EIO && io.raw_os_error() == Some(Errno::EIO as i32),
        Err(SpoolError::Share(_) | SpoolError::Damaged(_)) => false,
    }
}

#[tokio::test]
async fn a_message_that_the_disk_does_not_take_leaves_nothing() {
    let mut tried = 0;
    for durability in DURABILITIES {
        tried += each_fault(durability, |bench, fault| async move {
            let first = put(&bench.spool, b"before", &["a@b.c"]).await.unwrap();
            let (files, usage) = (bench.files(), bench.spool.usage_now());
            bench.probe.fail(fault);
            let result = put(&bench.spool, &[b'x'; 40_000], &["a@b.c"]).await;
            assert!(is_of(&result, fault), "{result:?}");
            assert_eq!(result.is_err(), bench.probe.heal(), "no fault is passed over");
            bench.books_are_right().await;
            if let Ok(taken) = result {
                assert_eq!(body_of(bench.spool.open_message(&taken).unwrap()).await.unwrap(), [b'x'; 40_000]);
                return;
            }
            assert_eq!((bench.files(), bench.spool.usage_now()), (files, usage));
            let next = put(&bench.spool, &[b'y'; 40_000], &["a@b.c"]).await.unwrap();
            for (entry, body) in [(&next, vec![b'y'; 40_000]), (&first, b"before".to_vec())] {
                assert_eq!(body_of(bench.spool.open_message(entry).unwrap()).await.unwrap(), body);
            }
        })
        .await;
    }
    println!("{tried} faults while a message came in");
    assert!(tried > 40);
}

#[tokio::test]
async fn a_note_that_the_disk_does_not_take_hides_no_other() {
    let mut tried = 0;
    for durability in DURABILITIES {
        tried += each_fault(durability, |bench, fault| async move {
            let entry = put(&bench.spool, b"x", &["a@b.c", "d@e.f"]).await.unwrap();
            bench.spool.record(&entry, &attempt(0, Progress::Delivered)).unwrap();
            bench.probe.fail(fault);
            let result = bench.spool.record(&entry, &Note::Held(true));
            assert!(is_of(&result, fault), "{result:?}");
            assert_eq!(result.is_err(), bench.probe.heal(), "no fault is passed over");
            bench.books_are_right().await;
            bench.spool.record(&entry, &attempt(1, Progress::Failed)).unwrap();
            let notes = bench.spool.notes(&entry).unwrap();
            assert_eq!(notes.first(), Some(&attempt(0, Progress::Delivered)));
            assert_eq!(notes.last(), Some(&attempt(1, Progress::Failed)));
            assert!(bench.spool.open_message(&entry).unwrap().state.is_done());
        })
        .await;
    }
    println!("{tried} faults while a note was written");
    assert!(tried >= 14);
}

#[tokio::test]
async fn a_move_that_fails_anywhere_leaves_each_message_in_one_place() {
    let mut tried = 0;
    for count in [2, 6] {
        tried += each_fault(Durability::Deferred, |bench, fault| async move {
            let mut entries = Vec::new();
            for n in 0..count {
                let entry = put(&bench.spool, &[b'x'; 500][..n * 80], &["a@b.c", "d@e.f"]).await.unwrap();
                bench.spool.record(&entry, &attempt(0, Progress::Delivered)).unwrap();
                entries.push(entry);
            }
            let before = bench.spool.usage_now();
            bench.probe.fail(fault);
            let moved = bench.spool.move_to_safe(entries);
            bench.probe.heal();
            let mut failures = 0;
            for (entry, failure) in &moved {
                failures += usize::from(failure.is_some());
                assert_eq!(failure.is_some(), entry.place == Place::Spool);
                assert!(
                    failure.as_ref().is_none_or(|f| (fault.error == Errno::ENOSPC) == matches!(f, SpoolError::Full(_)))
                );
                assert!(
                    bench.dir.path().join("ram/queue").join(format!("{}.msg", entry.id)).exists() || failure.is_none()
                );
                assert_eq!(bench.spool.open_message(entry).unwrap().state.attempts, 1);
            }
            let (in_danger, _) = bench.spool.in_danger();
            assert_eq!(in_danger, failures);
            assert_eq!(bench.spool.usage_now(), before);
            assert!(!bench.files().iter().any(|name| name.ends_with(".tmp")));
            // What failed is moved the next time, and what could not be removed is removed with its copy.
            for (entry, failure) in bench.spool.move_to_safe(moved.into_iter().map(|(entry, _)| entry).collect()) {
                assert!(failure.is_none() && entry.place == Place::Safe);
                assert_eq!(bench.spool.open_message(&entry).unwrap().state.attempts, 1);
                bench.spool.remove(&entry).unwrap();
            }
            assert_eq!(bench.files(), [""; 0]);
            bench.books_are_right().await;
        })
        .await;
    }
    println!("{tried} faults while messages moved");
    assert!(tried > 60);
}

#[tokio::test]
async fn a_message_that_can_not_be_removed_is_removed_later() {
    let mut tried = 0;
    for durability in DURABILITIES {
        tried += each_fault(durability, |bench, fault| async move {
            let entry = put(&bench.spool, b"x", &["a@b.c"]).await.unwrap();
            bench.probe.fail(fault);
            let result = bench.spool.remove(&entry);
            assert!(is_of(&result, fault), "{result:?}");
            assert_eq!(result.is_err(), bench.probe.heal(), "no fault is passed over");
            bench.books_are_right().await;
            if result.is_err() && !bench.files().is_empty() {
                bench.spool.remove(&entry).unwrap();
            }
            assert_eq!(bench.files(), [""; 0]);
            bench.books_are_right().await;
        })
        .await;
    }
    println!("{tried} faults while messages were removed");
    assert!(tried >= 12);
}

#[tokio::test]
async fn a_start_goes_on_whatever_fails() {
    let mut tried = 0;
    for durability in DURABILITIES {
        tried += each_fault(durability, |bench, fault| async move {
            let entry = put(&bench.spool, b"x", &["a@b.c"]).await.unwrap();
            let queue = bench.dir.path().join("flash/queue");
            fs::write(queue.join(".HA1F000000.tmp"), b"half").unwrap();
            fs::write(queue.join("F0RE1GN000.msg"), [b'x'; 100]).unwrap();
            bench.probe.fail(fault);
            let found = bench.spool.recover();
            bench.probe.heal();
            assert_eq!(found.iter().map(|found| found.id).collect::<Vec<_>>(), [entry.id]);
            assert_eq!(bench.spool.recover().len(), 1);
            bench.books_are_right().await;
        })
        .await;
    }
    println!("{tried} faults at a start");
    assert!(tried >= 12);
}

#[tokio::test]
async fn a_session_that_is_cut_off_leaves_nothing_whenever_it_is() {
    let mut cut = 0;
    for durability in DURABILITIES {
        for after in 0.. {
            let bench = Bench::new(durability);
            bench.probe.hold(after);
            let moment = async {
                while !bench.probe.holds() {
                    tokio::task::yield_now().await;
                }
            };
            let done = tokio::select! {
                () = moment => false,
                result = put(&bench.spool, &[b'x'; 20_000], &["a@b.c"]) => result.is_ok(),
            };
            bench.probe.release();
            // The disk operation continues, and uses the spool until it has ended.
            while Arc::strong_count(&bench.spool) > 1 {
                tokio::task::yield_now().await;
            }
            assert_eq!(bench.files().len(), usize::from(done), "cut after {after} operations: {:?}", bench.files());
            assert_eq!(books(&bench.spool), on_disk(bench.dir.path()));
            cut += usize::from(!done);
            if done {
                break;
            }
        }
    }
    println!("{cut} sessions cut off");
    assert!(cut > 20);
}
