// SPDX-License-Identifier: Apache-2.0
//! A disk that fails at every single operation in turn: nothing half-kept remains, and the next message works; what it
//! refuses is remembered, also by the next run; and a digest that is interrupted loses and doubles nothing.

use std::collections::{BTreeMap, BTreeSet};

use super::*;

const DURABILITIES: [Durability; 3] = [Durability::Always, Durability::Deferred, Durability::Memory];

/// Whether the accounting matches the disk, once background work has ended.
async fn books_are_right(bench: &Bench) {
    while bench.files().iter().any(|name| name.ends_with(".tmp")) {
        tokio::task::yield_now().await;
    }
    bench.books_are_right();
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
            books_are_right(&bench).await;
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
            books_are_right(&bench).await;
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
                assert!(bench.path(format!("ram/queue/{}.msg", entry.id)).exists() || failure.is_none());
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
            books_are_right(&bench).await;
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
            books_are_right(&bench).await;
            if result.is_err() && !bench.files().is_empty() {
                bench.spool.remove(&entry).unwrap();
            }
            assert_eq!(bench.files(), [""; 0]);
            books_are_right(&bench).await;
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
            let queue = bench.path("flash/queue");
            fs::write(queue.join(".HA1F000000.tmp"), b"half").unwrap();
            fs::write(queue.join("F0RE1GN000.msg"), [b'x'; 100]).unwrap();
            bench.probe.fail(fault);
            let found = bench.spool.recover();
            bench.probe.heal();
            assert_eq!(found.iter().map(|found| found.id).collect::<Vec<_>>(), [entry.id]);
            assert_eq!(bench.spool.recover().len(), 1);
            books_are_right(&bench).await;
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
            bench.settled().await;
            assert_eq!(bench.files().len(), usize::from(done), "cut after {after} operations: {:?}", bench.files());
            bench.books_are_right();
            cut += usize::from(!done);
            if done {
                break;
            }
        }
    }
    println!("{cut} sessions cut off");
    assert!(cut > 20);
}

fn fault() -> Fault {
    Fault { after: 0, error: nix::errno::Errno::EROFS, part: false, for_good: false }
}

/// The files `owed` that there are.
fn owed_files(bench: &Bench) -> Vec<&'static str> {
    ["ram", "flash"].into_iter().filter(|place| bench.path(place).join("owed").exists()).collect()
}

/// A message that is finished and one that is delivered to a recipient, which the disk refuses to take. Returns the
/// second.
async fn refused(bench: &Bench) -> Entry {
    let spool = &bench.spool;
    let entry = put(spool, b"x", &["a@b.c"]).await.unwrap();
    let other = put(spool, b"y", &["a@b.c", "d@e.f"]).await.unwrap();
    bench.probe.fail(fault());
    spool.remove_for_good(&entry).unwrap_err();
    bench.probe.fail(fault());
    spool.record_for_good(&other, attempt(0, Progress::Delivered)).unwrap_err();
    other
}

#[tokio::test]
async fn a_removal_that_failed_is_done_later() {
    let bench = Bench::new(Durability::Always);
    let spool = &bench.spool;
    let entry = put(spool, b"x", &["a@b.c"]).await.unwrap();
    bench.probe.fail(fault());
    let told = spool.remove_for_good(&entry).unwrap_err().unwrap();
    assert!(told.contains("this survives a restart of the program") && spool.owes(), "{told}");
    assert_eq!((owed_files(&bench), books(spool)), (vec!["ram", "flash"], on_disk(bench.dir.path())));
    spool.pay();
    assert_eq!((owed_files(&bench), books(spool)), (vec![], (0, 0)));
    assert!(!spool.owes() && on_disk(bench.dir.path()) == (0, 0));
}

/// Each attempt for a message that waits would otherwise be a line in the log.
#[tokio::test]
async fn what_the_disk_refuses_is_reported_once_for_each_message() {
    let bench = Bench::new(Durability::Always);
    let spool = &bench.spool;
    let one = put(spool, b"x", &["a@b.c", "d@e.f"]).await.unwrap();
    let other = put(spool, b"y", &["a@b.c", "d@e.f"]).await.unwrap();
    let note = |entry: &Entry| spool.record_for_good(entry, attempt(0, Progress::Waiting)).unwrap_err();
    let says = |text: Option<String>, what: &[&str]| {
        let text = text.expect("something for the log");
        assert!(what.iter().all(|what| text.contains(what)), "{text}");
    };
    for entry in [&one, &other] {
        bench.probe.fail(fault());
        says(note(entry), &["its result", "survives a restart"]);
        assert_eq!([note(entry), note(entry)], [None, None]);
    }
    // Now a restart would forget it.
    bench.probe.fail(Fault { for_good: true, ..fault() });
    says(note(&one), &["its result", "would be sent again after a restart"]);
    assert_eq!(note(&one), None);
    says(spool.remove_for_good(&other).unwrap_err(), &["it is finished", "would be sent again after a restart"]);
    assert_eq!(spool.remove_for_good(&other), Err(None));
    spool.pay();
    assert_eq!(note(&one), None);
    // When it is over and begins again, it is reported again.
    bench.probe.heal();
    spool.pay();
    assert!(!spool.owes());
    bench.probe.fail(fault());
    says(note(&one), &["its result", "survives a restart"]);
}

#[tokio::test]
async fn nobody_waits_for_the_disk_to_hear_what_is_pending() {
    let bench = Bench::new(Durability::Deferred);
    let spool = &bench.spool;
    let entry = put(spool, b"x", &["a@b.c"]).await.unwrap();
    let moving = spool.moving.write().unwrap();
    std::thread::scope(|scope| {
        let (begins, begun) = std::sync::mpsc::channel();
        let entry = &entry;
        scope.spawn(move || {
            begins.send(()).unwrap();
            spool.record_for_good(entry, Note::Warned(2)).unwrap();
        });
        begun.recv().unwrap();
        // The other thread waits for the end of the move, and holds nothing that others need meanwhile.
        for _ in 0..1000 {
            spool.owes();
            assert!(spool.open_message(entry).is_ok());
            std::thread::yield_now();
        }
        drop(moving);
    });
    assert!(spool.open_message(&entry).unwrap().state.warned);
}

#[tokio::test]
async fn the_next_run_knows_what_is_done_while_the_disk_takes_nothing() {
    let bench = Bench::new(Durability::Always);
    let spool = &bench.spool;
    let other = refused(&bench).await;
    // In the order in which it came.
    spool.record_for_good(&other, Note::Warned(2)).unwrap_err();
    // A safe_spool that cannot be written to has only what it had.
    fs::remove_file(bench.path("flash/owed")).unwrap();
    let next = bench.start();
    bench.probe.fail(Fault { for_good: true, ..fault() });
    let found = next.recover();
    assert_eq!(found.iter().map(|entry| entry.id).collect::<Vec<_>>(), [other.id]);
    let state = next.open_message(&other).unwrap().state;
    assert_eq!((state.recipients[0].progress, state.warned), (Progress::Delivered, true));
    assert_eq!(state.recipients[1].progress, Progress::Waiting);
    bench.probe.heal();
    let next = bench.start();
    assert_eq!(next.recover().len(), 1);
    assert_eq!((owed_files(&bench), next.notes(&other).unwrap().len()), (vec![], 2));
    assert_eq!(books(&next), on_disk(bench.dir.path()));
    assert_eq!(books(&next).1, 1);
}

#[tokio::test]
async fn without_a_running_program_the_queue_is_listed_as_the_next_run_will_see_it() {
    // One file is enough, whichever it is.
    for lost in ["ram", "flash"] {
        let bench = Bench::new(Durability::Always);
        let other = refused(&bench).await;
        fs::remove_file(bench.path(lost).join("owed")).unwrap();
        let listed = Spool::list(&bench.relay, |id, message| (*id, message.unwrap().0.state)).unwrap();
        assert_eq!(listed.iter().map(|(id, _)| *id).collect::<Vec<_>>(), [other.id], "{lost}");
        let state = &listed[0].1;
        let progress: Vec<_> = state.recipients.iter().map(|recipient| recipient.progress).collect();
        assert_eq!(progress, [Progress::Delivered, Progress::Waiting], "{lost}");
        assert_eq!(on_disk(bench.dir.path()).1, 2);
    }
}

#[tokio::test]
async fn a_file_that_is_torn_or_foreign_is_passed_over() {
    let bench = Bench::new(Durability::Always);
    let spool = &bench.spool;
    let entry = put(spool, b"x", &["a@b.c", "d@e.f"]).await.unwrap();
    let note = attempt(0, Progress::Failed).encode();
    let line = [entry.id.as_str().as_bytes(), b" ", note.trim_ascii(), b"\n"].concat();
    let gone = format!("{} gone", entry.id);
    for end in 0..gone.len() {
        fs::write(bench.path("ram/owed"), &gone[..end]).unwrap();
        assert_eq!(bench.start().recover().len(), 1, "{end}");
    }
    let junk = [b"\0\0\0\n0123456789 gone\n".as_slice(), &line[..20], b"\n", &line].concat();
    fs::write(bench.path("ram/owed"), junk).unwrap();
    let next = bench.start();
    assert_eq!(next.recover().len(), 1);
    assert_eq!(next.notes(&entry).unwrap(), [attempt(0, Progress::Failed)]);
}

#[tokio::test]
async fn a_drive_that_was_taken_out_may_come_back() {
    let bench = Bench::new(Durability::Always);
    let spool = &bench.spool;
    let entry = put(spool, b"x", &["a@b.c"]).await.unwrap();
    let (flash, away) = (bench.path("flash"), bench.path("away"));
    fs::rename(&flash, &away).unwrap();
    fs::create_dir(&flash).unwrap();
    spool.remove_for_good(&entry).unwrap_err();
    spool.pay();
    fs::remove_file(flash.join("owed")).unwrap();
    fs::remove_dir(&flash).unwrap();
    fs::rename(&away, &flash).unwrap();
    assert_eq!(bench.start().recover(), []);
    assert_eq!(on_disk(bench.dir.path()), (0, 0));
}

/// Messages that are replaced, among them one that is attached to a further mail; another one is sent separately.
const MESSAGES: usize = 4;

struct DigestBench {
    bench: Bench,
    messages: Vec<Entry>,
    alone: Entry,
    /// What the last mail replaced, if it has been sent.
    sent: Option<Replaces>,
}

impl DigestBench {
    /// With this many of the messages in safe storage.
    async fn new(durability: Durability, moved: usize) -> Self {
        let bench = Bench::new(durability);
        let mut messages = Vec::new();
        for n in 0..=MESSAGES {
            messages.push(put(&bench.spool, format!("message {n}").as_bytes(), &["a@b.c"]).await.unwrap());
        }
        if durability == Durability::Deferred {
            let rest = messages.split_off(moved);
            messages = bench.spool.move_to_safe(messages).into_iter().map(|(entry, _)| entry).chain(rest).collect();
        }
        let alone = messages.pop().unwrap();
        Self { bench, messages, alone, sent: None }
    }

    /// What the dispatcher does, and the provider if it `sends`. Whatever fails, it undoes what it can.
    async fn replace(&mut self, sends: bool) {
        let of: Vec<MessageId> = self.messages.iter().map(|entry| entry.id).collect();
        let further = Replaces { of: of[1..3].to_vec(), ..Replaces::default() };
        let last = Replaces { of, alone: vec![self.alone.id], last: true };
        let mut written = Vec::new();
        for replaces in [further, last.clone()] {
            let mut draft = self.bench.spool.replacing_draft(Client::Own).unwrap();
            draft.buffer(0).extend_from_slice(&[b'x'; 3000]);
            let marks = Marks { replaces: Some(replaces), ..Marks::default() };
            let done = match draft.settle().await {
                Ok(()) => draft.commit(b"Subject: digest\r\n".to_vec(), Meta { marks, ..meta(&["a@b.c"]) }).await,
                Err(error) => Err(error),
            };
            match done {
                Ok(entry) => written.push(entry),
                Err(_) => return written.iter().for_each(|mail| drop(self.bench.spool.remove(mail))),
            }
        }
        let mail = vec![written.pop().unwrap()];
        match self.bench.spool.replace(&self.messages, written.clone(), mail.clone()) {
            Err(_) => mail.iter().chain(&written).for_each(|mail| drop(self.bench.spool.remove(mail))),
            Ok((mails, _)) if sends => {
                self.bench.probe.heal();
                self.bench.spool.remove(mails.last().unwrap()).unwrap();
                self.sent = Some(last);
            }
            Ok(_) => {}
        }
    }

    /// Another run starts and continues. Returns what exists then, with what it replaces.
    fn next_run(&mut self) -> BTreeMap<MessageId, Option<Replaces>> {
        self.bench.probe.heal();
        self.bench.spool = Spool::open(&self.bench.relay).unwrap();
        let found: Vec<(Entry, Meta)> = {
            let inspected = self.bench.spool.scan().into_iter().filter_map(|found| self.bench.spool.inspect(found));
            inspected.map(|(entry, meta, _)| (entry, meta)).collect()
        };
        let mut replacements = Replacements::default();
        found.iter().for_each(|(entry, meta)| replacements.found(entry.id, meta));
        let sorted = replacements.sort(|id| found.iter().any(|(entry, _)| entry.id == *id));
        let of = |ids: &BTreeSet<MessageId>| {
            found.iter().map(|(entry, _)| entry).filter(|entry| ids.contains(&entry.id)).cloned().collect::<Vec<_>>()
        };
        of(&sorted.torn).iter().for_each(|entry| self.bench.spool.remove(entry).unwrap());
        let (_, failed) =
            self.bench.spool.replace(&of(&sorted.replaced), of(&sorted.further), of(&sorted.last)).unwrap();
        assert!(failed.is_none());
        assert!(sorted.alone.is_empty() || sorted.alone.contains(&self.alone.id));
        let left = self.bench.spool.recover();
        self.bench.books_are_right();
        found
            .into_iter()
            .filter(|(e, _)| left.iter().any(|l| l.id == e.id))
            .map(|(e, m)| (e.id, m.marks.replaces))
            .collect()
    }

    /// How often each of the messages will be sent: separately, and in a digest.
    fn copies(&self, there: &BTreeMap<MessageId, Option<Replaces>>) -> Vec<usize> {
        let complete = there.values().flatten().find(|replaces| replaces.last).or(self.sent.as_ref());
        let copies = |(n, entry): (usize, &Entry)| {
            let attached = there.values().flatten().any(|replaces| !replaces.last && replaces.of.contains(&entry.id));
            let in_digest =
                complete.is_some_and(|last| last.of.contains(&entry.id)) && (![1, 2].contains(&n) || attached);
            usize::from(in_digest) + usize::from(there.contains_key(&entry.id))
        };
        self.messages.iter().enumerate().map(copies).collect()
    }
}

/// Each durability, with some of the messages in safe storage where there is a choice.
const CASES: [(Durability, usize); 5] = [
    (Durability::Always, 0),
    (Durability::Memory, 0),
    (Durability::Deferred, 0),
    (Durability::Deferred, 2),
    (Durability::Deferred, MESSAGES + 1),
];

#[tokio::test]
async fn a_digest_that_is_cut_off_anywhere_loses_nothing_and_sends_nothing_twice() {
    let mut tried = 0;
    for (durability, moved) in CASES {
        for (error, for_good) in [(Errno::EIO, true), (Errno::EIO, false), (Errno::ENOSPC, false)] {
            for part in [false, true] {
                for after in 0.. {
                    let mut digest = DigestBench::new(durability, moved).await;
                    digest.bench.probe.fail(Fault { after, error, part, for_good });
                    digest.replace(false).await;
                    let met = digest.bench.probe.heal();
                    digest.bench.settled().await;
                    let there = digest.next_run();
                    let case = format!("{durability:?} {moved} {error} {for_good} {part} {after}: {there:?}");
                    assert_eq!(digest.copies(&there), [1; MESSAGES], "{case}");
                    assert!(there.contains_key(&digest.alone.id), "{case}");
                    assert_eq!(digest.next_run(), there, "{case}");
                    if !met {
                        break;
                    }
                    tried += 1;
                }
            }
        }
    }
    println!("{tried} faults while a digest took the place of messages");
    assert!(tried > 300, "{tried}");
}

#[tokio::test]
async fn a_power_cut_takes_nothing_that_was_in_safety() {
    let mut tried = 0;
    for moved in [2, MESSAGES + 1] {
        for after in 0.. {
            let mut digest = DigestBench::new(Durability::Deferred, moved).await;
            digest.bench.probe.fail(Fault { after, error: Errno::EIO, part: false, for_good: true });
            digest.replace(false).await;
            let met = digest.bench.probe.heal();
            digest.bench.settled().await;
            for name in names(&digest.bench.path("ram/queue")) {
                fs::remove_file(digest.bench.path("ram/queue").join(name)).unwrap();
            }
            let there = digest.next_run();
            let safe = moved.min(MESSAGES);
            assert_eq!(digest.copies(&there)[..safe], [1; MESSAGES][..safe], "{moved} {after}: {there:?}");
            if !met {
                break;
            }
            tried += 1;
        }
    }
    println!("{tried} power cuts while a digest took the place of messages");
    assert!(tried > 20, "{tried}");
}

#[tokio::test]
async fn what_could_not_be_removed_costs_no_other_its_attachment() {
    let mut tried = 0;
    for (durability, moved) in CASES {
        for error in [Errno::EIO, Errno::ENOSPC] {
            for after in 0.. {
                let mut digest = DigestBench::new(durability, moved).await;
                digest.bench.probe.fail(Fault { after, error, part: false, for_good: false });
                digest.replace(true).await;
                let met = digest.bench.probe.heal() || digest.sent.is_some() && after < 30;
                digest.bench.settled().await;
                let there = digest.next_run();
                let copies = digest.copies(&there);
                // What the disk refused to remove is remembered.
                assert!(
                    copies.iter().all(|copies| *copies == 1),
                    "{durability:?} {moved} {after}: {copies:?} {there:?}"
                );
                tried += 1;
                if !met {
                    break;
                }
            }
        }
    }
    println!("{tried} faults, none by which a message comes twice");
    assert!(tried > 40, "{tried}");
}
