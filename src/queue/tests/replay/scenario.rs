// SPDX-License-Identifier: Apache-2.0
//! What is done to the spool, and what it promised when.

use std::collections::BTreeMap;

use super::super::super::disk::Disk;
use super::super::super::disk::probe::{Fault, Op, Probe};
use super::*;

/// Something that was done for a message, and how many operations the disk had performed by then.
#[derive(Debug, Clone)]
pub enum Event {
    /// Its commit returned; whether the place is synced.
    Accepted { safe: bool },
    /// A note's record returned.
    Noted { note: Note, safe: bool },
    /// A note is about to be recorded.
    Noting(Note),
    /// Its move returned.
    Moved,
    /// It is about to be removed.
    Removing,
    /// Its removal returned; whether the place is synced.
    Removed { safe: bool },
}

/// All that is known of one message.
#[derive(Debug, Clone, Default)]
pub struct Story {
    pub body: Vec<u8>,
    pub to: Vec<String>,
    pub events: Vec<(usize, Event)>,
}

/// A recorded run.
pub struct Scenario {
    pub base: tempfile::TempDir,
    pub start: Vec<(PathBuf, usize, Vec<u8>)>,
    pub ops: Vec<Op>,
    pub stories: BTreeMap<MessageId, Story>,
}

/// A run while it is recorded.
struct Stage {
    base: tempfile::TempDir,
    relay: Relay,
    disk: Disk,
    probe: Arc<Probe>,
    spool: Arc<Spool>,
    entries: Vec<Entry>,
    stories: BTreeMap<MessageId, Story>,
    /// Whether it is killed soon.
    killed: bool,
}

impl Scenario {
    pub fn run(runtime: &tokio::runtime::Runtime, durability: Durability, broken: Option<Broken>) -> Self {
        let base = scratch();
        let (disk, probe) = Disk::watched();
        let relay = relay(base.path(), durability, 1 << 20);
        let spool = Spool::open_on(&relay, disk.clone()).unwrap();
        let mut stage =
            Stage { base, relay, disk, probe, spool, entries: Vec::new(), stories: BTreeMap::new(), killed: false };
        let start = stage.leavings();
        if let Some(broken) = broken {
            stage.probe.break_order(broken);
        }
        runtime.block_on(stage.play());
        Self { base: stage.base, start, ops: stage.probe.ops(), stories: stage.stories }
    }
}

impl Stage {
    /// The leftovers of an earlier run that was interrupted.
    fn leavings(&self) -> Vec<(PathBuf, usize, Vec<u8>)> {
        let mut files = Vec::new();
        for place in ["ram", "flash"] {
            for (name, bytes) in [(".HA1F000000.tmp", vec![0; 64]), (".E1SE000000.tmp", b"SMTPRLY1".to_vec())] {
                let path = self.base.path().join(place).join("queue").join(name);
                fs::write(&path, &bytes).unwrap();
                files.push((path.clone(), self.probe.number(&path), bytes));
            }
        }
        files
    }

    async fn play(&mut self) {
        self.restart();
        for (size, recipients) in [(300, 2), (1_500, 1), (2_500, 3), (0, 1)] {
            self.accept(size, recipients).await;
        }
        self.note(0, attempt(0, Progress::Delivered));
        self.note(1, Note::Held(true));
        self.note(2, attempt(1, Progress::Waiting));
        self.move_some(&[0, 1]);
        self.note(0, attempt(1, Progress::Failed));
        for _ in 0..3 {
            self.accept(700, 2).await;
        }
        self.note(4, attempt(0, Progress::Failed));
        self.note(4, Note::Told(3));
        self.note(2, Note::Warned(4));
        self.move_some(&[2, 3, 4, 5]);
        self.note(0, Note::Told(5));
        self.remove(0);
        self.give_up().await;
        self.note(1, Note::Held(false));
        self.remove(4);
        self.restart();
        self.note(2, attempt(0, Progress::Delivered));
        self.note(6, Note::Arrived(6));
        self.accept(100, 1).await;
        self.remove(6);
        self.move_all();
        self.remove(3);
        self.note(7, Note::Held(true));
        self.accept(50, 1).await;
        self.restart();
        self.remove(7);
        // Killed at each point of a reception, a note and a move; what follows builds on what is left of them.
        for after in 0..8 {
            self.kill_in(after);
            self.accept(1_200, 1).await;
            self.start_again();
        }
        for after in 0..3 {
            self.kill_in(after);
            self.note(5, Note::Warned(after as i64));
            self.start_again();
            self.note(5, Note::Warned(after as i64 + 10));
        }
        for after in 0..12 {
            self.accept(10, 1).await;
            self.accept(20, 1).await;
            let last = self.entries.len() - 1;
            self.note(last, Note::Held(true));
            self.kill_in(after);
            self.move_some(&[last - 1, last]);
            self.start_again();
            self.note(last, Note::Held(false));
            self.remove(last - 1);
            self.remove(last);
        }
        self.kill_in(0);
        self.remove(5);
        self.start_again();
    }

    /// The program is killed so many operations from now.
    fn kill_in(&mut self, after: usize) {
        self.killed = true;
        self.probe.fail(Fault { after, error: nix::errno::Errno::EIO, part: after % 2 == 1, for_good: true });
    }

    fn start_again(&mut self) {
        self.probe.heal();
        self.killed = false;
        self.restart();
    }

    /// The program is killed and started again.
    fn restart(&mut self) {
        self.spool = Spool::open_on(&self.relay, self.disk.clone()).unwrap();
        let found = self.spool.recover();
        for entry in &mut self.entries {
            if let Some(found) = found.iter().find(|found| found.id == entry.id) {
                entry.place = found.place;
            }
        }
    }

    fn event(&mut self, id: MessageId, event: Event) {
        let at = self.probe.count();
        self.stories.entry(id).or_default().events.push((at, event));
    }

    fn is_synced(&self, place: Place) -> bool {
        self.spool.directory(place).sync
    }

    async fn accept(&mut self, size: usize, recipients: usize) {
        // A body that looks like no other, also in its parts.
        let seed = self.stories.len() * 7919;
        let body: Vec<u8> = (0..size).map(|i| u8::try_from((seed + i * 31 + i / 251) % 251).unwrap()).collect();
        let to: Vec<String> = (0..recipients).map(|n| format!("ops{n}@example.com")).collect();
        let mut draft = self.spool.draft(Client::Own).unwrap();
        let story = Story { body: body.clone(), to: to.clone(), events: Vec::new() };
        let id = draft.id();
        self.stories.insert(id, story);
        for piece in body.chunks(500) {
            draft.buffer().extend_from_slice(piece);
            if let Err(error) = draft.settle().await {
                return assert!(self.killed, "{error}");
            }
        }
        let to: Vec<&str> = to.iter().map(String::as_str).collect();
        let entry = match draft.commit(b"Subject: x\r\n".to_vec(), meta(&to)).await {
            Ok(entry) => entry,
            Err(error) => return assert!(self.killed, "{error}"),
        };
        let safe = self.is_synced(entry.place);
        self.entries.push(entry);
        self.event(id, Event::Accepted { safe });
    }

    /// A reception that is abandoned.
    async fn give_up(&mut self) {
        let mut draft = self.spool.draft(Client::Own).unwrap();
        draft.buffer().resize(2_000, b'x');
        draft.settle().await.unwrap();
        let path = self.spool.directory(self.spool.accept_place()).temporary(draft.id());
        drop(draft);
        while path.exists() {
            tokio::task::yield_now().await;
        }
    }

    fn note(&mut self, index: usize, note: Note) {
        let entry = self.entries[index].clone();
        self.event(entry.id, Event::Noting(note.clone()));
        if let Err(error) = self.spool.record(&entry, &note) {
            return assert!(self.killed, "{error}");
        }
        let safe = self.is_synced(entry.place);
        self.event(entry.id, Event::Noted { note, safe });
    }

    fn move_some(&mut self, indices: &[usize]) {
        if !self.spool.can_move() || self.relay.durability == Durability::Memory {
            return;
        }
        let entries = indices.iter().map(|index| self.entries[*index].clone()).collect();
        for (index, (entry, error)) in indices.iter().zip(self.spool.move_to_safe(entries)) {
            assert!(entry.id == self.entries[*index].id && (error.is_none() || self.killed), "{error:?}");
            self.entries[*index] = entry.clone();
            if error.is_none() {
                self.event(entry.id, Event::Moved);
            }
        }
    }

    fn move_all(&mut self) {
        if self.spool.can_move() && self.relay.durability == Durability::Deferred {
            self.spool.move_all_to_safe().unwrap();
            for index in 0..self.entries.len() {
                let entry = &mut self.entries[index];
                if self.spool.directory(Place::Safe).file(entry.id).exists() && entry.place == Place::Spool {
                    entry.place = Place::Safe;
                    let id = entry.id;
                    self.event(id, Event::Moved);
                }
            }
        }
    }

    fn remove(&mut self, index: usize) {
        let entry = self.entries[index].clone();
        self.event(entry.id, Event::Removing);
        if let Err(error) = self.spool.remove(&entry) {
            return assert!(self.killed, "{error}");
        }
        let safe = self.is_synced(entry.place);
        self.event(entry.id, Event::Removed { safe });
    }
}
