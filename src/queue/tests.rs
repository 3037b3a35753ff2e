// SPDX-License-Identifier: Apache-2.0
//! The queue on a real disk: what is committed exists, what is not leaves nothing, what is damaged is set aside.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::record::{Attempt, Note, Progress};
use super::*;
use crate::config::{Durability, Relay, load, uci};
use crate::message::{BodyForm, Encode, Envelope};
use crate::system::memory::Meminfo;

mod books;
mod faults;
mod leavings;
mod machine;
mod owed;
mod replacing;
mod replay;

fn relay(dir: &Path, durability: Durability, limit: u64) -> Relay {
    let (settings, _) = load::settings(&uci::parse(b"").unwrap());
    Relay {
        spool: dir.join("ram"),
        safe_spool: Some(dir.join("flash")),
        durability,
        spool_limit: limit,
        ..settings.relay
    }
}

fn meta(to: &[&str]) -> Meta {
    Meta {
        envelope: Envelope {
            from: "plc@example.com".into(),
            to: to.iter().map(ToString::to_string).collect(),
            smtputf8: false,
        },
        form: BodyForm { eight_bit: false, encode: Encode::Verbatim },
        arrived: 1_800_000_000,
        client: "10.0.0.7".into(),
        notice: false,
        undated: None,
        marks: Marks::default(),
    }
}

async fn put(spool: &Arc<Spool>, body: &[u8], to: &[&str]) -> Result<Entry, SpoolError> {
    let mut draft = spool.draft(Client::of_message(&meta(to)))?;
    for piece in body.chunks(5000) {
        draft.buffer().extend_from_slice(piece);
        draft.settle().await?;
    }
    draft.commit(b"Subject: x\r\n".to_vec(), meta(to)).await
}

fn attempt(index: usize, progress: Progress) -> Note {
    Note::Attempt(Attempt { at: 1, early: false, results: vec![(index, progress, "a reply".into())] })
}

async fn body_of(mut stored: Stored) -> Result<Vec<u8>, SpoolError> {
    let mut all = Vec::new();
    loop {
        let piece = stored.next().await?;
        if piece.is_empty() {
            return Ok(all);
        }
        all.extend(piece);
    }
}

/// A directory in memory where available: these tests sync a lot, and they do not test the disk.
fn scratch() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn file(dir: &Path, id: MessageId) -> PathBuf {
    dir.join(format!("flash/queue/{id}.msg"))
}

#[tokio::test]
async fn a_message_of_any_size_comes_back_as_it_went_in() {
    let dir = tempfile::tempdir().unwrap();
    for durability in [Durability::Memory, Durability::Always] {
        let relay = relay(dir.path(), durability, 1 << 24);
        let spool = Spool::open(&relay).unwrap();
        for size in [0, 1, 4_999, 16 << 10, 200_000] {
            let body: Vec<u8> = (0..size).map(|i| u8::try_from(i % 251).unwrap()).collect();
            let entry = put(&spool, &body, &["ops@example.com"]).await.unwrap();
            let stored = spool.open_message(&entry).unwrap();
            assert_eq!(stored.header, b"Subject: x\r\n");
            assert_eq!(stored.meta, meta(&["ops@example.com"]));
            assert_eq!(
                entry.size,
                fs::metadata(
                    dir.path()
                        .join(if durability == Durability::Always { "flash" } else { "ram" })
                        .join(format!("queue/{}.msg", entry.id))
                )
                .unwrap()
                .len()
            );
            assert_eq!(body_of(stored).await.unwrap(), body);
            spool.remove(&entry).unwrap();
        }
        assert!(Spool::list(&relay).unwrap().is_empty());
    }
}

#[tokio::test]
async fn always_accepts_into_the_safe_directory_only() {
    let dir = tempfile::tempdir().unwrap();
    let spool = Spool::open(&relay(dir.path(), Durability::Always, 1 << 20)).unwrap();
    let entry = put(&spool, b"x", &["a@b.c"]).await.unwrap();
    assert_eq!(names(&dir.path().join("flash/queue")), [format!("{}.msg", entry.id)]);
    assert!(names(&dir.path().join("ram/queue")).is_empty());
}

#[tokio::test]
async fn a_draft_that_comes_to_nothing_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let spool = Spool::open(&relay(dir.path(), Durability::Always, 1 << 20)).unwrap();
    let mut draft = spool.draft(Client::Own).unwrap();
    draft.buffer().resize(100_000, b'x');
    draft.settle().await.unwrap();
    assert_eq!(names(&dir.path().join("flash/queue")).len(), 1);
    assert!(spool.room_for(Client::Own, 1_000_000).is_err());
    drop(draft);
    // The file is removed on the pool of blocking threads; a job there follows only by luck, so ask the disk.
    while !names(&dir.path().join("flash/queue")).is_empty() {
        tokio::task::yield_now().await;
    }
    spool.room_for(Client::Own, 1_000_000).unwrap();
}

#[tokio::test]
async fn a_full_queue_refuses_and_recovers() {
    let dir = tempfile::tempdir().unwrap();
    let spool = Spool::open(&relay(dir.path(), Durability::Memory, 100_000)).unwrap();
    assert!(matches!(spool.room_for(Client::Own, 100_001), Err(SpoolError::Full(_))));
    let entry = put(&spool, &[b'x'; 60_000], &["a@b.c"]).await.unwrap();
    // It comes in parts, so the share of its client ends before the room does.
    assert!(matches!(put(&spool, &[b'x'; 60_000], &["a@b.c"]).await, Err(SpoolError::Share(_))));
    assert!(matches!(spool.room_for(Client::Own, 60_000), Err(SpoolError::Full(_))));
    spool.remove(&entry).unwrap();
    put(&spool, &[b'x'; 60_000], &["a@b.c"]).await.unwrap();
}

/// A message of slightly more than 1,000 bytes from device `number`.
async fn put_from(spool: &Arc<Spool>, number: u8) -> Result<Entry, SpoolError> {
    let meta = Meta { client: format!("10.0.0.{number}"), ..meta(&["a@b.c"]) };
    let mut draft = spool.draft(Client::of_message(&meta))?;
    draft.buffer().resize(1000, b'x');
    draft.commit(Vec::new(), meta).await
}

#[tokio::test]
async fn one_client_leaves_room_for_others_and_gets_its_own_back() {
    let dir = scratch();
    let relay = relay(dir.path(), Durability::Memory, 100_000);
    let mut spool = Spool::open(&relay).unwrap();
    let mut entries = Vec::new();
    let refusal = loop {
        match put_from(&spool, 1).await {
            Ok(entry) => entries.push(entry),
            Err(error) => break error,
        }
    };
    assert!(matches!(refusal, SpoolError::Share(_)), "{refusal}");
    let (used, count, _) = spool.usage_now();
    assert!((80_000..=87_500).contains(&used), "{used} bytes in {count} messages");
    // Also after a restart, when the queue has been read.
    drop(spool);
    spool = Spool::open(&relay).unwrap();
    assert_eq!(spool.recover().len(), count);
    assert!(matches!(put_from(&spool, 1).await, Err(SpoolError::Share(_))));
    for number in 2..=3 {
        put_from(&spool, number).await.unwrap();
    }
    // One that is given up, or set aside, releases its room.
    let (first, second) = (entries.remove(0), entries.remove(0));
    for entry in entries.drain(..6) {
        spool.remove(&entry).unwrap();
    }
    spool.set_aside(&first, "test");
    spool.replace(&[second], Vec::new(), Vec::new()).unwrap();
    let taken = put_from(&spool, 1).await.unwrap();
    assert_eq!(spool.ledger().share(taken.client).messages, count - 7);
    // An abandoned message takes nothing.
    let before = spool.ledger().share(taken.client);
    let mut draft = spool.draft(taken.client).unwrap();
    draft.buffer().resize(2000, b'x');
    draft.settle().await.unwrap();
    drop(draft);
    assert_eq!(spool.ledger().share(taken.client), before);
}

#[tokio::test]
async fn what_the_file_system_needs_is_counted() {
    let dir = scratch();
    let relay = relay(dir.path(), Durability::Memory, 1 << 20);
    let mut spool = Spool::open(&relay).unwrap();
    // The room of the files as reported by the kernel, and a kilobyte each for what it does not include.
    let taken = |place: &str| -> u64 {
        let queue = dir.path().join(place).join("queue");
        let blocks = |name| fs::metadata(queue.join(name)).unwrap().blocks() * 512 + 1024;
        names(&queue).into_iter().map(blocks).sum()
    };
    let mut entries = Vec::new();
    for size in [0, 1, 3000, 4096, 9000, 100_000] {
        entries.push(put(&spool, &vec![b'x'; size], &["a@b.c"]).await.unwrap());
        assert_eq!(spool.usage_now().0, taken("ram"), "{size}");
    }
    let note = attempt(0, Progress::Waiting);
    for _ in 0..100 {
        spool.record(&entries[0], &note).unwrap();
    }
    assert_eq!(spool.usage_now().0, taken("ram"), "with a journal");
    let (moved, _) = spool.move_to_safe(entries.split_off(4)).remove(1);
    spool.remove(&moved).unwrap();
    assert_eq!(spool.usage_now().0, taken("ram") + taken("flash"));
    let used = spool.usage_now();
    drop(spool);
    spool = Spool::open(&relay).unwrap();
    spool.recover();
    assert_eq!(spool.usage_now(), used, "after a restart");
}

#[tokio::test]
async fn nothing_is_accepted_while_memory_is_low_and_what_was_accepted_stays() {
    let dir = scratch();
    let relay = relay(dir.path(), Durability::Memory, 1 << 20);
    let mut spool = Spool::open(&relay).unwrap();
    let meminfo = dir.path().join("meminfo");
    let says = |spool: &mut Arc<Spool>, text: &str| {
        fs::write(&meminfo, text).unwrap();
        Arc::get_mut(spool).unwrap().memory = Meminfo::of(&meminfo);
    };
    says(&mut spool, "MemTotal: 25600 kB\nMemAvailable: 4096 kB\n");
    let entry = put(&spool, b"one", &["a@b.c"]).await.unwrap();
    says(&mut spool, "MemTotal: 25600 kB\nMemAvailable: 4095 kB\n");
    let refusal = put(&spool, b"two", &["a@b.c"]).await.unwrap_err();
    assert!(refusal.to_string().contains("4095 KB of memory"), "{refusal}");
    assert!(matches!(spool.room_for(Client::Local, 0), Err(SpoolError::Full(_))));
    // What replaces others frees room, so it goes on.
    let mut digest = spool.replacing_draft(entry.client).unwrap();
    digest.buffer().resize(5000, b'x');
    digest.commit(Vec::new(), meta(&["a@b.c"])).await.unwrap();
    spool.record(&entry, &attempt(0, Progress::Waiting)).unwrap();
    // An old kernel does not report it.
    says(&mut spool, "MemTotal: 25600 kB\nMemFree: 1 kB\n");
    put(&spool, b"three", &["a@b.c"]).await.unwrap();
}

#[tokio::test]
async fn recovery_finds_messages_with_their_state_and_clears_leavings() {
    let dir = tempfile::tempdir().unwrap();
    let relay = relay(dir.path(), Durability::Always, 1 << 20);
    let spool = Spool::open(&relay).unwrap();
    let entry = put(&spool, b"text", &["a@b.c", "d@e.f"]).await.unwrap();
    spool.record(&entry, &attempt(0, Progress::Delivered)).unwrap();
    let queue = dir.path().join("flash/queue");
    fs::write(queue.join(".HALF.tmp"), b"half").unwrap();
    fs::write(queue.join("NOTES.txt"), b"not ours").unwrap();
    fs::write(queue.join("FOREIGN.msg"), b"not ours at all, but long enough to have had a preamble of ours").unwrap();
    drop(spool);

    let spool = Spool::open(&relay).unwrap();
    let found = spool.recover();
    assert_eq!(found.len(), 1);
    assert_eq!((found[0].id, found[0].place), (entry.id, Place::Safe));
    let mut left = ["FOREIGN.bad".to_string(), format!("{}.msg", entry.id), "NOTES.txt".into()];
    left.sort();
    assert_eq!(names(&queue), left);
    let state = spool.open_message(&found[0]).unwrap().state;
    assert_eq!(state.attempts, 1);
    assert_eq!(state.recipients[0].progress, Progress::Delivered);
    assert_eq!(state.recipients[1].progress, Progress::Waiting);
}

#[tokio::test]
async fn a_torn_file_is_set_aside_wherever_it_is_torn() {
    let dir = tempfile::tempdir().unwrap();
    let relay = relay(dir.path(), Durability::Always, 1 << 20);
    let spool = Spool::open(&relay).unwrap();
    let entry = put(&spool, b"some text\r\n", &["a@b.c"]).await.unwrap();
    let whole = fs::read(file(dir.path(), entry.id)).unwrap();
    for length in 0..whole.len() {
        fs::write(file(dir.path(), entry.id), &whole[..length]).unwrap();
        assert!(spool.recover().is_empty(), "cut to {length}");
        let _ = fs::remove_file(file(dir.path(), entry.id));
    }
    fs::write(file(dir.path(), entry.id), &whole).unwrap();
    assert_eq!(spool.recover().len(), 1);
}

#[tokio::test]
async fn a_changed_body_is_noticed_before_its_end_is_sent() {
    let dir = tempfile::tempdir().unwrap();
    let spool = Spool::open(&relay(dir.path(), Durability::Always, 1 << 20)).unwrap();
    let entry = put(&spool, &[b'x'; 50_000], &["a@b.c"]).await.unwrap();
    let mut bytes = fs::read(file(dir.path(), entry.id)).unwrap();
    bytes[record::PREAMBLE + 49_999] ^= 1;
    fs::write(file(dir.path(), entry.id), bytes).unwrap();
    let stored = spool.open_message(&entry).unwrap();
    assert!(matches!(body_of(stored).await, Err(SpoolError::Damaged(_))));
    spool.set_aside(&entry, "test");
    assert_eq!(names(&dir.path().join("flash/queue")), [format!("{}.bad", entry.id)]);
}

#[tokio::test]
async fn moving_to_safety_takes_the_journal_along() {
    let dir = tempfile::tempdir().unwrap();
    let relay = relay(dir.path(), Durability::Deferred, 1 << 20);
    let spool = Spool::open(&relay).unwrap();
    let entry = put(&spool, b"text", &["a@b.c", "d@e.f"]).await.unwrap();
    assert_eq!(entry.place, Place::Spool);
    spool.record(&entry, &attempt(1, Progress::Failed)).unwrap();
    let (moved, error) = spool.move_to_safe(vec![entry.clone()]).remove(0);
    assert!(error.is_none());
    assert_eq!(moved.place, Place::Safe);
    assert!(names(&dir.path().join("ram/queue")).is_empty());
    assert_eq!(spool.open_message(&moved).unwrap().state.recipients[1].progress, Progress::Failed);

    // A copy that a crash left behind in RAM is not a second message.
    fs::copy(file(dir.path(), entry.id), dir.path().join(format!("ram/queue/{}.msg", entry.id))).unwrap();
    assert_eq!(spool.recover().len(), 1);
    assert!(names(&dir.path().join("ram/queue")).is_empty());

    put(&spool, b"two", &["a@b.c"]).await.unwrap();
    assert_eq!(spool.move_all_to_safe().unwrap(), 1);
    assert_eq!(Spool::list(&relay).unwrap().len(), 2);
}

/// Bytes and messages in the accounting of the queue.
fn books(spool: &Spool) -> (u64, usize) {
    let ledger = spool.ledger();
    let room = |place, size| spool.room_of(place, size);
    for (place, usage) in [(Place::Spool, ledger.spool), (Place::Safe, ledger.safe)] {
        // In pages, never less than what the bytes of all would take in one file.
        assert!(usage.messages == 0 && usage.room == 0 || usage.room >= room(place, usage.bytes), "{usage:?}");
    }
    (ledger.spool.bytes + ledger.safe.bytes + ledger.reserved, ledger.messages())
}

/// Bytes and messages in the directories.
fn on_disk(dir: &Path) -> (u64, usize) {
    let queues = ["ram", "flash"].map(|place| dir.join(place).join("queue"));
    let messages: Vec<PathBuf> = queues
        .iter()
        .flat_map(|queue| names(queue).into_iter().filter(|n| n.ends_with(".msg")).map(|n| queue.join(n)))
        .collect();
    (messages.iter().map(|path| fs::metadata(path).unwrap().len()).sum(), messages.len())
}
