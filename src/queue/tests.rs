// SPDX-License-Identifier: Apache-2.0
//! The queue on a real disk: what is committed exists, what is not leaves nothing, what is damaged is set aside; the
//! accounting; and how a start handles what it finds.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::errno::Errno;

use super::disk::Disk;
use super::disk::probe::{Fault, Op, Probe};
use super::*;
use crate::config::{Durability, Relay, load, uci};
use crate::message::{BodyForm, Encode, Envelope};
use crate::system::memory::Meminfo;

mod at_once;
mod faults;
mod machine;
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
    let mut draft = spool.draft(meta(to).owner())?;
    for piece in body.chunks(5000) {
        draft.buffer(0).extend_from_slice(piece);
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

/// A queue in a directory of its own, on a disk that is monitored.
struct Bench {
    dir: tempfile::TempDir,
    relay: Relay,
    disk: Disk,
    probe: Arc<Probe>,
    spool: Arc<Spool>,
}

impl Bench {
    fn new(durability: Durability) -> Self {
        let dir = scratch();
        let relay = relay(dir.path(), durability, 1 << 20);
        let (disk, probe) = Disk::watched();
        let spool = Spool::open_on(&relay, disk.clone()).unwrap();
        Self { dir, relay, disk, probe, spool }
    }

    /// Another run of the program.
    fn start(&self) -> Arc<Spool> {
        Spool::open_on(&self.relay, self.disk.clone()).unwrap()
    }

    fn path(&self, below: impl AsRef<Path>) -> PathBuf {
        self.dir.path().join(below)
    }

    /// Names of all files of the queue.
    fn files(&self) -> Vec<String> {
        let of = |place: &str| {
            names(&self.path(place).join("queue")).into_iter().map(move |n| format!("{place}/{n}")).collect::<Vec<_>>()
        };
        ["ram", "flash"].into_iter().flat_map(of).collect()
    }

    /// Whether the accounting matches the disk.
    fn books_are_right(&self) {
        assert_eq!(books(&self.spool), on_disk(self.dir.path()));
    }

    /// Returns when the leftovers of an interrupted draft have been removed, on the pool of blocking threads.
    async fn settled(&self) {
        while Arc::strong_count(&self.spool) > 1 {
            tokio::task::yield_now().await;
        }
    }
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

/// A symbolic link, as `/var` is one to `/tmp` on OpenWrt.
#[tokio::test]
async fn one_directory_under_two_names_keeps_its_mail() {
    for durability in [Durability::Memory, Durability::Deferred, Durability::Always] {
        let dir = scratch();
        let relay = relay(dir.path(), durability, 1 << 20);
        fs::create_dir(&relay.spool).unwrap();
        std::os::unix::fs::symlink(&relay.spool, relay.safe_spool.as_ref().unwrap()).unwrap();
        let spool = Spool::open(&relay).unwrap();
        let entry = put(&spool, b"alarm", &["ops@example.com"]).await.unwrap();
        assert!(!spool.can_move());
        spool.move_to_safe(vec![entry.clone()]);
        spool.move_all_to_safe().unwrap();
        drop(spool);
        let spool = Spool::open(&relay).unwrap();
        assert_eq!(spool.recover(), std::slice::from_ref(&entry), "{durability:?}");
        assert_eq!(body_of(spool.open_message(&entry).unwrap()).await.unwrap(), b"alarm");
        spool.remove(&entry).unwrap();
        assert_eq!(spool.usage_now().1, 0);
    }
}

/// As a directory looks when the other one is the overlay on top of it: the same files, but not the same directory.
#[tokio::test]
async fn a_file_that_is_in_both_directories_is_not_taken_for_a_copy() {
    let bench = Bench::new(Durability::Deferred);
    let spool = &bench.spool;
    let entry = put(spool, b"alarm", &["ops@example.com"]).await.unwrap();
    let [ram, flash] = ["ram", "flash"].map(|place| bench.path(format!("{place}/queue/{}.msg", entry.id)));
    fs::hard_link(&ram, &flash).unwrap();
    let moved = spool.move_to_safe(vec![entry.clone()]);
    assert!(matches!(moved.as_slice(), [(kept, Some(_))] if kept.place == Place::Spool), "{moved:?}");
    spool.move_all_to_safe().unwrap_err();
    assert!(ram.exists() && flash.exists());
    let spool = bench.start();
    assert_eq!(spool.recover(), std::slice::from_ref(&entry));
    assert!(ram.exists() && flash.exists());
    spool.remove(&entry).unwrap();
    assert!(bench.files().is_empty());
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
        assert!(Spool::list(&relay, |id, _| *id).unwrap().is_empty());
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
    draft.buffer(0).resize(100_000, b'x');
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

#[test]
fn the_memory_of_a_draft_grows_with_its_text_and_not_to_twice_as_much() {
    let dir = tempfile::tempdir().unwrap();
    let spool = Spool::open(&relay(dir.path(), Durability::Memory, 1 << 20)).unwrap();
    let mut draft = spool.draft(Client::Own).unwrap();
    // In packets of Ethernet; in tests, each is more than half of what is kept in memory.
    for _ in 0..4 {
        draft.buffer(1460).extend_from_slice(&[b'x'; 1460]);
        let kept = draft.buffer(0);
        assert!(kept.capacity() <= kept.len() + 2048, "{} for {}", kept.capacity(), kept.len());
    }
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
    let mut draft = spool.draft(meta.owner())?;
    draft.buffer(0).resize(1000, b'x');
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
    draft.buffer(0).resize(2000, b'x');
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
    assert!(matches!(spool.room_for(Client::user(0), 0), Err(SpoolError::Full(_))));
    // What replaces others frees room, so it goes on.
    let mut digest = spool.replacing_draft(entry.client).unwrap();
    digest.buffer(0).resize(5000, b'x');
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
    assert_eq!(Spool::list(&relay, |id, _| *id).unwrap().len(), 2);
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

#[tokio::test]
async fn danger_and_wear_are_known() {
    let dir = scratch();
    let spool = Spool::open(&relay(dir.path(), Durability::Deferred, 1 << 20)).unwrap();
    let one = put(&spool, &[b'x'; 3_000], &["a@b.c"]).await.unwrap();
    let two = put(&spool, b"two", &["a@b.c"]).await.unwrap();
    assert_eq!(spool.in_danger(), (2, one.size + two.size));
    assert_eq!(spool.wear(), Wear { files: 0, bytes: 0, programmed: None });
    assert_eq!(books(&spool), (one.size + two.size, 2));
    // Each in one page of memory.
    assert_eq!(spool.usage_now(), (2 * (4096 + 1024), 2, 1 << 20));
    let (one, _) = spool.move_to_safe(vec![one]).remove(0);
    assert_eq!(spool.in_danger(), (1, two.size));
    assert_eq!(spool.wear(), Wear { files: 1, bytes: one.size, programmed: None });
    let note = attempt(0, Progress::Waiting);
    spool.record(&one, &note).unwrap();
    let length = u64::try_from(note.encode().len()).unwrap();
    assert_eq!(spool.wear(), Wear { files: 1, bytes: one.size + length, programmed: None });
    spool.record(&two, &note).unwrap();
    assert_eq!(spool.in_danger(), (1, two.size + length));
    assert_eq!(spool.wear().bytes, one.size + length);

    let spool = Spool::open(&relay(dir.path(), Durability::Always, 1 << 20)).unwrap();
    assert_eq!(spool.recover().len(), 2);
    assert_eq!(spool.in_danger(), (0, 0), "what is synced is in no danger");
    let three = put(&spool, &[b'x'; 3_000], &["a@b.c"]).await.unwrap();
    assert_eq!(spool.wear(), Wear { files: 1, bytes: three.size, programmed: None });
}

#[tokio::test]
async fn a_long_journal_takes_only_what_lasts() {
    let dir = scratch();
    let relay = relay(dir.path(), Durability::Memory, 1 << 20);
    let spool = Spool::open(&relay).unwrap();
    let entry = put(&spool, b"x", &["a@b.c", "d@e.f"]).await.unwrap();
    let later = |index| (index, Progress::Waiting, "450 later".repeat(500));
    let waits = Note::Attempt(Attempt { at: 1, early: false, results: vec![later(0), later(1)] });
    for _ in 0..200 {
        spool.record(&entry, &waits).unwrap();
    }
    let (bytes, _) = on_disk(dir.path());
    assert!((256 << 10..300 << 10).contains(&bytes), "{bytes}");
    assert_eq!(books(&spool), on_disk(dir.path()));
    let ends =
        Note::Attempt(Attempt { at: 2, early: false, results: vec![(0, Progress::Failed, "550 no".into()), later(1)] });
    for note in [&ends, &Note::Told(3, Some(vec![0])), &Note::Held(true)] {
        spool.record(&entry, note).unwrap();
    }
    let state = spool.open_message(&entry).unwrap().state;
    assert_eq!((state.recipients[0].progress, state.recipients[1].progress), (Progress::Failed, Progress::Waiting));
    assert!(state.held && state.untold().next().is_none());
    assert!(on_disk(dir.path()).0 < bytes + 300);
}

#[tokio::test]
async fn people_see_the_last_200_notes() {
    let dir = scratch();
    let spool = Spool::open(&relay(dir.path(), Durability::Memory, 1 << 20)).unwrap();
    let entry = put(&spool, b"x", &["a@b.c"]).await.unwrap();
    for at in 0..250 {
        spool.record(&entry, &Note::Warned(at)).unwrap();
    }
    assert!(spool.notes(&entry).unwrap().into_iter().eq((50..250).map(Note::Warned)));
}

#[tokio::test]
async fn a_draft_that_failed_is_never_completed() {
    let dir = scratch();
    let spool = Spool::open(&relay(dir.path(), Durability::Memory, 10_000)).unwrap();
    let mut draft = spool.draft(Client::Own).unwrap();
    draft.buffer(0).resize(8_000, b'x');
    draft.settle().await.unwrap();
    draft.buffer(0).resize(8_000, b'x');
    assert!(matches!(draft.settle().await, Err(SpoolError::Full(_))));
    // The second chunk is missing by now.
    assert!(matches!(draft.commit(Vec::new(), meta(&["a@b.c"])).await, Err(SpoolError::Io(_))));
    assert_eq!(books(&spool), (0, 0));
}

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
        // An empty one was a file whose content never came.
        let left = (length > 0).then(|| format!("{}.bad", entry.id));
        assert_eq!(names(&dir.path().join("flash/queue")), Vec::from_iter(left));
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

/// The directories are on an overlay and its upper layer, for example: each file is in both.
#[tokio::test]
async fn a_file_that_is_in_both_directories_is_counted_once() {
    for restarts in [false, true] {
        let bench = Bench::new(Durability::Deferred);
        let before = bench.spool.usage_now();
        let entry = put(&bench.spool, b"alarm", &["ops@example.com"]).await.unwrap();
        let [ram, flash] = ["ram", "flash"].map(|place| bench.path(format!("{place}/queue/{}.msg", entry.id)));
        fs::hard_link(&ram, &flash).unwrap();
        let spool = if restarts { bench.start() } else { bench.spool.clone() };
        match restarts {
            true => assert_eq!(spool.recover().len(), 1),
            false => assert!(spool.move_to_safe(vec![entry.clone()])[0].1.is_some()),
        }
        spool.remove(&entry).unwrap();
        assert_eq!(spool.usage_now(), before, "restarts: {restarts}");
    }
}
