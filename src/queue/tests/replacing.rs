// SPDX-License-Identifier: Apache-2.0
//! A digest replaces messages, interrupted at every single operation: each of them exists, or is in a complete
//! digest, and not both.

use std::collections::{BTreeMap, BTreeSet};

use nix::errno::Errno;

use super::super::disk::Disk;
use super::super::disk::probe::{Fault, Probe};
use super::*;

/// Messages that are replaced, among them one that is attached to a further mail; another one is sent separately.
const MESSAGES: usize = 4;

struct Bench {
    dir: tempfile::TempDir,
    relay: Relay,
    probe: Arc<Probe>,
    spool: Arc<Spool>,
    messages: Vec<Entry>,
    alone: Entry,
    /// What the last mail replaced, if it has been sent.
    sent: Option<Replaces>,
}

impl Bench {
    /// With this many of the messages in safe storage.
    async fn new(durability: Durability, moved: usize) -> Self {
        let dir = scratch();
        let (disk, probe) = Disk::watched();
        let relay = relay(dir.path(), durability, 1 << 20);
        let spool = Spool::open_on(&relay, disk).unwrap();
        let mut messages = Vec::new();
        for n in 0..=MESSAGES {
            messages.push(put(&spool, format!("message {n}").as_bytes(), &["a@b.c"]).await.unwrap());
        }
        if durability == Durability::Deferred {
            let rest = messages.split_off(moved);
            messages = spool.move_to_safe(messages).into_iter().map(|(entry, _)| entry).chain(rest).collect();
        }
        let alone = messages.pop().unwrap();
        Self { dir, relay, probe, spool, messages, alone, sent: None }
    }

    /// What the dispatcher does, and the provider if it `sends`. Whatever fails, it undoes what it can.
    async fn replace(&mut self, sends: bool) {
        let of: Vec<MessageId> = self.messages.iter().map(|entry| entry.id).collect();
        let further = Replaces { of: of[1..3].to_vec(), ..Replaces::default() };
        let last = Replaces { of, alone: vec![self.alone.id], last: true };
        let mut written = Vec::new();
        for replaces in [further, last.clone()] {
            let mut draft = self.spool.replacing_draft(Client::Own).unwrap();
            draft.buffer().extend_from_slice(&[b'x'; 3000]);
            let marks = Marks { replaces: Some(replaces), ..Marks::default() };
            let done = match draft.settle().await {
                Ok(()) => draft.commit(b"Subject: digest\r\n".to_vec(), Meta { marks, ..meta(&["a@b.c"]) }).await,
                Err(error) => Err(error),
            };
            match done {
                Ok(entry) => written.push(entry),
                Err(_) => return written.iter().for_each(|mail| drop(self.spool.remove(mail))),
            }
        }
        let mail = vec![written.pop().unwrap()];
        match self.spool.replace(&self.messages, written.clone(), mail.clone()) {
            Err(_) => mail.iter().chain(&written).for_each(|mail| drop(self.spool.remove(mail))),
            Ok((mails, _)) if sends => {
                self.probe.heal();
                self.spool.remove(mails.last().unwrap()).unwrap();
                self.sent = Some(last);
            }
            Ok(_) => {}
        }
    }

    /// Another run starts and continues. Returns what exists then, with what it replaces.
    fn next_run(&mut self) -> BTreeMap<MessageId, Option<Replaces>> {
        self.probe.heal();
        self.spool = Spool::open(&self.relay).unwrap();
        let found: Vec<(Entry, Meta)> = {
            let inspected = self.spool.scan().into_iter().filter_map(|found| self.spool.inspect(found));
            inspected.map(|(entry, meta, _)| (entry, meta)).collect()
        };
        let mut replacements = Replacements::default();
        found.iter().for_each(|(entry, meta)| replacements.found(entry.id, meta));
        let sorted = replacements.sort(|id| found.iter().any(|(entry, _)| entry.id == *id));
        let of = |ids: &BTreeSet<MessageId>| {
            found.iter().map(|(entry, _)| entry).filter(|entry| ids.contains(&entry.id)).cloned().collect::<Vec<_>>()
        };
        of(&sorted.torn).iter().for_each(|entry| self.spool.remove(entry).unwrap());
        let (_, failed) = self.spool.replace(&of(&sorted.replaced), of(&sorted.further), of(&sorted.last)).unwrap();
        assert!(failed.is_none());
        assert!(sorted.alone.is_empty() || sorted.alone.contains(&self.alone.id));
        let left = self.spool.recover();
        assert_eq!(books(&self.spool), on_disk(self.dir.path()));
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
                    let mut bench = Bench::new(durability, moved).await;
                    bench.probe.fail(Fault { after, error, part, for_good });
                    bench.replace(false).await;
                    let met = bench.probe.heal();
                    // The leftovers of an interrupted draft are removed on the pool of blocking threads.
                    while Arc::strong_count(&bench.spool) > 1 {
                        tokio::task::yield_now().await;
                    }
                    let there = bench.next_run();
                    let case = format!("{durability:?} {moved} {error} {for_good} {part} {after}: {there:?}");
                    assert_eq!(bench.copies(&there), [1; MESSAGES], "{case}");
                    assert!(there.contains_key(&bench.alone.id), "{case}");
                    assert_eq!(bench.next_run(), there, "{case}");
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
            let mut bench = Bench::new(Durability::Deferred, moved).await;
            bench.probe.fail(Fault { after, error: Errno::EIO, part: false, for_good: true });
            bench.replace(false).await;
            let met = bench.probe.heal();
            while Arc::strong_count(&bench.spool) > 1 {
                tokio::task::yield_now().await;
            }
            for name in names(&bench.dir.path().join("ram/queue")) {
                fs::remove_file(bench.dir.path().join("ram/queue").join(name)).unwrap();
            }
            let there = bench.next_run();
            let safe = moved.min(MESSAGES);
            assert_eq!(bench.copies(&there)[..safe], [1; MESSAGES][..safe], "{moved} {after}: {there:?}");
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
                let mut bench = Bench::new(durability, moved).await;
                bench.probe.fail(Fault { after, error, part: false, for_good: false });
                bench.replace(true).await;
                let met = bench.probe.heal() || bench.sent.is_some() && after < 30;
                while Arc::strong_count(&bench.spool) > 1 {
                    tokio::task::yield_now().await;
                }
                let there = bench.next_run();
                let copies = bench.copies(&there);
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
