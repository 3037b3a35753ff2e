//! The queue on a real disk: what is committed is there, what is not leaves nothing, what is damaged is set aside.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::record::{Attempt, Note, Progress};
use super::*;
use crate::config::{Durability, Relay, load, uci};
use crate::message::{BodyForm, Encode, Envelope};

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

/// A directory in memory where there is one: these tests sync a lot, and the disk is not what they test.
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
    assert!(spool.room_for(1_000_000).is_err());
    drop(draft);
    // The file goes on the pool of blocking threads; a further job there comes after it only by luck, so ask the disk.
    while !names(&dir.path().join("flash/queue")).is_empty() {
        tokio::task::yield_now().await;
    }
    spool.room_for(1_000_000).unwrap();
}

#[tokio::test]
async fn a_full_queue_refuses_and_recovers() {
    let dir = tempfile::tempdir().unwrap();
    let spool = Spool::open(&relay(dir.path(), Durability::Memory, 100_000)).unwrap();
    assert!(matches!(spool.room_for(100_001), Err(SpoolError::Full(_))));
    let entry = put(&spool, &[b'x'; 60_000], &["a@b.c"]).await.unwrap();
    assert!(matches!(put(&spool, &[b'x'; 60_000], &["a@b.c"]).await, Err(SpoolError::Full(_))));
    assert!(matches!(spool.room_for(60_000), Err(SpoolError::Full(_))));
    spool.remove(&entry).unwrap();
    put(&spool, &[b'x'; 60_000], &["a@b.c"]).await.unwrap();
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
    fs::write(queue.join("NOTES.txt"), b"somebody's").unwrap();
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

/// Bytes and messages as the queue has them in its books.
fn books(spool: &Spool) -> (u64, usize) {
    let (bytes, messages, _) = spool.usage_now();
    (bytes, messages)
}

/// Bytes and messages that lie in the directories.
fn on_disk(dir: &Path) -> (u64, usize) {
    let queues = ["ram", "flash"].map(|place| dir.join(place).join("queue"));
    let messages: Vec<PathBuf> = queues
        .iter()
        .flat_map(|queue| names(queue).into_iter().filter(|n| n.ends_with(".msg")).map(|n| queue.join(n)))
        .collect();
    (messages.iter().map(|path| fs::metadata(path).unwrap().len()).sum(), messages.len())
}
