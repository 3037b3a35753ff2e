// SPDX-License-Identifier: Apache-2.0
//! Where the queue is in memory, no message waits for a thread; where a disk could become part of it, none is touched by the
//! runtime thread.

use std::sync::mpsc;

use super::*;
use crate::system::task;

/// A queue in memory with a `safe_spool`, which an earlier run may have used.
fn queue(dir: &Path) -> Arc<Spool> {
    let spool = Spool::open(&relay(dir, Durability::Deferred, 1 << 20)).unwrap();
    spool.scan();
    spool
}

/// Runs `test` on a runtime whose only thread for disks is busy until it ends.
fn without_threads(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().max_blocking_threads(1).build().unwrap();
    runtime.block_on(async {
        let (done, wait) = mpsc::channel::<()>();
        let busy = tokio::spawn(task::intake(move || wait.recv().is_err()));
        tokio::task::yield_now().await;
        test.await;
        drop(done);
        assert_eq!(busy.await.unwrap(), Some(true));
    });
}

/// The directory, if there are file systems in memory here.
fn memory() -> Option<tempfile::TempDir> {
    tempfile::tempdir_in("/dev/shm").ok()
}

#[test]
fn a_message_in_memory_needs_no_thread() {
    let Some(dir) = memory() else { return };
    without_threads(async {
        let spool = queue(dir.path());
        // In one piece, and in many.
        for body in [b"small".to_vec(), b"large, ".repeat(9000)] {
            let entry = put(&spool, &body, &["a@example.com"]).await.unwrap();
            assert_eq!(names(&dir.path().join("ram/queue")), [format!("{}.msg", entry.id)]);
            let stored = spool.open_to_send(&entry).await.unwrap();
            assert_eq!(body_of(stored).await.unwrap(), body);
            assert!(spool.remove_at_once(&entry));
            assert_eq!(spool.usage_now().1, 0);
        }
        assert_eq!(names(&dir.path().join("ram/queue")), [""; 0]);
        // What became of the file meanwhile is for a thread to find out.
        let entry = put(&spool, b"x", &["a@example.com"]).await.unwrap();
        fs::remove_file(dir.path().join(format!("ram/queue/{}.msg", entry.id))).unwrap();
        assert!(spool.open_at_once(&entry).is_none() && !spool.remove_at_once(&entry));
        assert!(spool.remove(&entry).is_ok());
    });
}

#[tokio::test]
async fn with_mail_in_safe_storage_the_disk_is_left_to_threads() {
    let Some(dir) = memory() else { return };
    let spool = queue(dir.path());
    assert!(spool.works_at_once());
    let moved = put(&spool, b"moved", &["a@example.com"]).await.unwrap();
    let stays = put(&spool, b"stays", &["a@example.com"]).await.unwrap();
    let moving = spool.nothing_moves();
    assert!(spool.open_at_once(&stays).is_some());
    drop(moving);
    let done = spool.move_to_safe(vec![moved]);
    let (moved, None) = &done[0] else { panic!("{:?}", done[0].1) };
    assert!(!spool.works_at_once(), "a message could be in both");
    for entry in [moved, &stays] {
        assert!(spool.open_at_once(entry).is_none() && !spool.remove_at_once(entry));
    }
    spool.remove(moved).unwrap();
    assert!(!spool.works_at_once(), "a copy of the other one could be left");
    spool.remove(&stays).unwrap();
    assert!(spool.works_at_once(), "nothing is left");
}

#[tokio::test]
async fn what_an_earlier_run_left_is_looked_for() {
    let Some(dir) = memory() else { return };
    let entry = put(&queue(dir.path()), b"x", &["a@example.com"]).await.unwrap();
    // Killed after the copy, before the original was removed, and the copy cannot be listed at the start.
    let [ram, flash] =
        ["ram", "flash"].map(|place| dir.path().join(place).join("queue").join(format!("{}.msg", entry.id)));
    fs::create_dir(&flash).unwrap();
    let spool = queue(dir.path());
    assert!(!spool.works_at_once());
    fs::remove_dir(dir.path().join("flash/queue").join(names(&dir.path().join("flash/queue"))[0].clone())).unwrap();
    fs::copy(&ram, &flash).unwrap();
    spool.remove(&entry).unwrap();
    assert!(!ram.exists() && !flash.exists());
}

#[tokio::test]
async fn nothing_is_done_at_once_while_messages_move_or_on_a_disk_that_is_synced() {
    let Some(dir) = memory() else { return };
    let spool = queue(dir.path());
    let entry = put(&spool, b"x", &["a@example.com"]).await.unwrap();
    let moving = spool.moving.write().unwrap();
    assert!(!spool.remove_at_once(&entry));
    drop(moving);
    assert!(spool.remove_at_once(&entry));
    let other = memory().unwrap();
    let spool = Spool::open(&relay(other.path(), Durability::Always, 1 << 20)).unwrap();
    spool.scan();
    let entry = put(&spool, b"x", &["a@example.com"]).await.unwrap();
    assert!(!spool.works_at_once() && spool.open_at_once(&entry).is_none() && !spool.remove_at_once(&entry));
}
