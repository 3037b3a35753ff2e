// SPDX-License-Identifier: Apache-2.0
//! The accounting of the queue, and what it records about a message that is tried for very long.

use super::*;

#[tokio::test]
async fn danger_and_wear_are_known() {
    let dir = scratch();
    let spool = Spool::open(&relay(dir.path(), Durability::Deferred, 1 << 20)).unwrap();
    let one = put(&spool, &[b'x'; 3_000], &["a@b.c"]).await.unwrap();
    let two = put(&spool, b"two", &["a@b.c"]).await.unwrap();
    assert_eq!(spool.in_danger(), (2, one.size + two.size));
    assert_eq!(spool.wear(), Wear { files: 0, bytes: 0 });
    assert_eq!(books(&spool), (one.size + two.size, 2));
    // Each in one page of memory.
    assert_eq!(spool.usage_now(), (2 * (4096 + 1024), 2, 1 << 20));
    let (one, _) = spool.move_to_safe(vec![one]).remove(0);
    assert_eq!(spool.in_danger(), (1, two.size));
    assert_eq!(spool.wear(), Wear { files: 1, bytes: one.size });
    let note = attempt(0, Progress::Waiting);
    spool.record(&one, &note).unwrap();
    let length = u64::try_from(note.encode().len()).unwrap();
    assert_eq!(spool.wear(), Wear { files: 1, bytes: one.size + length });
    spool.record(&two, &note).unwrap();
    assert_eq!(spool.in_danger(), (1, two.size + length));
    assert_eq!(spool.wear().bytes, one.size + length);

    let spool = Spool::open(&relay(dir.path(), Durability::Always, 1 << 20)).unwrap();
    assert_eq!(spool.recover().len(), 2);
    assert_eq!(spool.in_danger(), (0, 0), "what is synced is in no danger");
    let three = put(&spool, &[b'x'; 3_000], &["a@b.c"]).await.unwrap();
    assert_eq!(spool.wear(), Wear { files: 1, bytes: three.size });
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
    for note in [&ends, &Note::Told(3), &Note::Held(true)] {
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
    draft.buffer().resize(8_000, b'x');
    draft.settle().await.unwrap();
    draft.buffer().resize(8_000, b'x');
    assert!(matches!(draft.settle().await, Err(SpoolError::Full(_))));
    // The second chunk is missing by now.
    assert!(matches!(draft.commit(Vec::new(), meta(&["a@b.c"])).await, Err(SpoolError::Io(_))));
    assert_eq!(books(&spool), (0, 0));
}
