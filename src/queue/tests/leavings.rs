// SPDX-License-Identifier: Apache-2.0
//! How a start handles what it finds: messages that are in both directories, and files that are not ours.

use super::super::disk::Disk;
use super::super::disk::probe::{Fault, Op};
use super::*;

/// A message in `deferred`'s RAM, and its file.
async fn waiting(dir: &Path) -> (Arc<Spool>, Entry, PathBuf, PathBuf) {
    let spool = Spool::open(&relay(dir, Durability::Deferred, 1 << 20)).unwrap();
    let entry = put(&spool, &[b'x'; 3_000], &["a@b.c", "d@e.f"]).await.unwrap();
    let original = dir.join(format!("ram/queue/{}.msg", entry.id));
    let copy = file(dir, entry.id);
    (spool, entry, original, copy)
}

#[tokio::test]
async fn a_torn_copy_never_costs_a_good_original() {
    let dir = scratch();
    let (spool, entry, original, copy) = waiting(dir.path()).await;
    let whole = fs::read(&original).unwrap();
    for length in (0..whole.len()).step_by(97) {
        fs::write(&original, &whole).unwrap();
        fs::write(&copy, &whole[..length]).unwrap();
        let found = spool.recover();
        assert_eq!(found.iter().map(|e| (e.id, e.place)).collect::<Vec<_>>(), [(entry.id, Place::Spool)]);
        assert_eq!(names(&dir.path().join("flash/queue")), [format!("{}.bad", entry.id)]);
    }
    // Also one of which only the body is torn, which the start does not read otherwise.
    let mut torn = whole.clone();
    torn[record::PREAMBLE + 2_000] = 0;
    fs::write(&copy, torn).unwrap();
    assert_eq!(spool.recover()[0].place, Place::Spool);
    assert_eq!(body_of(spool.open_message(&entry).unwrap()).await.unwrap(), [b'x'; 3_000]);
    assert_eq!(books(&spool), on_disk(dir.path()));
}

#[tokio::test]
async fn of_two_that_are_whole_the_newer_one_counts() {
    let dir = scratch();
    let (spool, _, original, copy) = waiting(dir.path()).await;
    fs::copy(&original, &copy).unwrap();
    let noted = [fs::read(&original).unwrap(), attempt(0, Progress::Delivered).encode()].concat();
    fs::write(&original, noted).unwrap();
    let found = spool.recover();
    assert_eq!((found.len(), found[0].place), (1, Place::Safe), "it is moved again");
    assert!(!original.exists());
    assert_eq!(spool.open_message(&found[0]).unwrap().state.recipients[0].progress, Progress::Delivered);
    assert_eq!(books(&spool), on_disk(dir.path()));

    // The other way round: the copy has advanced, and its original could not be removed.
    fs::copy(&copy, &original).unwrap();
    spool.record(&found[0], &attempt(1, Progress::Failed)).unwrap();
    spool.move_all_to_safe().unwrap();
    assert!(!original.exists());
    assert!(spool.open_message(&found[0]).unwrap().state.is_done());
}

#[tokio::test]
async fn nothing_is_built_on_what_a_killed_run_has_not_synced() {
    let dir = scratch();
    let (_, _, original, copy) = waiting(dir.path()).await;
    fs::copy(&original, &copy).unwrap();
    let (disk, probe) = Disk::watched();
    Spool::open_on(&relay(dir.path(), Durability::Deferred, 1 << 20), disk).unwrap().scan();
    let flash = dir.path().join("flash/queue");
    let synced = probe.ops().iter().position(|op| *op == Op::SyncFileSystem(flash.clone()));
    let removed = probe.ops().iter().position(|op| *op == Op::Remove(original.clone()));
    assert!(synced.is_some() && synced < removed, "{:?}", probe.ops());
}

#[tokio::test]
async fn an_original_that_stayed_goes_with_its_copy() {
    let dir = scratch();
    let (spool, entry, original, copy) = waiting(dir.path()).await;
    let (entry, _) = spool.move_to_safe(vec![entry]).remove(0);
    fs::copy(&copy, &original).unwrap();
    spool.remove(&entry).unwrap();
    assert!(!original.exists() && !copy.exists());
    assert_eq!(books(&spool), (0, 0));
}

#[tokio::test]
async fn notes_go_to_the_copy_also_when_the_original_could_not_be_removed() {
    let dir = scratch();
    let (disk, probe) = Disk::watched();
    let spool = Spool::open_on(&relay(dir.path(), Durability::Deferred, 1 << 20), disk).unwrap();
    let entry = put(&spool, b"x", &["a@b.c"]).await.unwrap();
    // Create, write, sync, rename, sync, sync the directory; then the removal fails.
    probe.fail(Fault { after: 6, error: nix::errno::Errno::EIO, part: false, for_good: false });
    assert_eq!(spool.move_all_to_safe().unwrap(), 1);
    assert!(probe.heal());
    spool.record(&entry, &attempt(0, Progress::Delivered)).unwrap();
    let (entry, error) = spool.move_to_safe(vec![entry]).remove(0);
    assert!(error.is_none() && spool.open_message(&entry).unwrap().state.is_done());
    assert_eq!(books(&spool), on_disk(dir.path()));
    assert_eq!(spool.in_danger(), (0, 0));
}

#[tokio::test]
async fn names_that_are_none_of_ours_are_set_aside_or_left_alone() {
    let dir = scratch();
    let (spool, entry, original, _) = waiting(dir.path()).await;
    let queue = dir.path().join("ram/queue");
    let whole = fs::read(&original).unwrap();
    for name in ["copy.msg", "lowercase0.msg", "..msg", "NOTES.txt", "x.tmp"] {
        fs::write(queue.join(name), &whole).unwrap();
    }
    fs::create_dir(queue.join("D1RECT0RY0.msg")).unwrap();
    let found = spool.scan();
    assert_eq!(found.iter().map(|f| f.id).collect::<Vec<_>>(), [entry.id]);
    assert_eq!(books(&spool), (entry.size, 1));
    let left = names(&queue);
    assert!(left.contains(&"copy.bad".to_string()) && left.contains(&"NOTES.txt".to_string()), "{left:?}");
    assert_eq!(spool.inspect(found[0]).map(|(entry, ..)| entry), Some(entry));
}

#[tokio::test]
async fn a_file_that_goes_while_the_queue_is_read_is_no_trouble() {
    let dir = scratch();
    let (spool, _, original, _) = waiting(dir.path()).await;
    let found = spool.scan();
    fs::remove_file(original).unwrap();
    assert!(spool.inspect(found[0]).is_none());
    assert_eq!(books(&spool), (0, 0));
}

#[tokio::test]
async fn the_time_of_arrival_that_was_found_out_later_counts() {
    let dir = scratch();
    let (spool, entry, ..) = waiting(dir.path()).await;
    spool.record(&entry, &Note::Arrived(1_900_000_000)).unwrap();
    assert_eq!(spool.recover()[0].arrived, 1_900_000_000);
}
