// SPDX-License-Identifier: Apache-2.0
//! Every power cut: what the spool does to the disk is recorded, each prefix of it is taken as the moment of a cut, and
//! for each the possible states of the disk are created, started on and checked.
//!
//! [`Scenario`] is what is done to the spool, and what it promised when; [`model`] knows what a disk may keep;
//! [`Checker`] starts the queue on that, and checks that every promise was kept.

mod model;

use std::collections::hash_map::DefaultHasher;
use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::hash::{Hash, Hasher};

use super::super::disk::probe::Broken;
use super::*;
use model::{Fate, Image, Model};

/// States that are tried for one moment, if there are not more.
const EXHAUSTIVE: u64 = 1000;

/// States chosen at random for a moment that has more. `SMTPRELAY_STATES` sets another number.
fn drawn() -> usize {
    std::env::var("SMTPRELAY_STATES").ok().and_then(|n| n.parse().ok()).unwrap_or(40)
}

/// What a disk does on its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Nothing is known of it: files are renamed.
    Unknown,
    Vfat,
    /// A sync of a new file makes its name last as well: small files are created under their names.
    Sound,
}

fn replay(durability: Durability, broken: Option<Broken>, kind: Kind) -> Result<Checker, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let scenario = Scenario::run(&runtime, durability, broken, kind);
    let mut checker = Checker::new(runtime, durability, kind);
    checker.all(&scenario)?;
    Ok(checker)
}

/// Prints how many states were tried, and that none breaks a promise.
fn holds(durability: Durability, kind: Kind) {
    let checker = replay(durability, None, kind).unwrap_or_else(|violation| panic!("{durability:?}: {violation}"));
    println!("{durability:?}, {kind:?}: {checker}");
    assert!(checker.states > 1000, "only {} states", checker.states);
}

#[test]
fn always_keeps_its_promise_at_every_power_cut() {
    holds(Durability::Always, Kind::Unknown);
}

#[test]
fn always_keeps_its_promise_on_vfat() {
    holds(Durability::Always, Kind::Vfat);
}

#[test]
fn always_keeps_its_promise_where_small_files_are_not_renamed() {
    holds(Durability::Always, Kind::Sound);
}

#[test]
fn deferred_keeps_its_promise_at_every_power_cut() {
    holds(Durability::Deferred, Kind::Unknown);
}

#[test]
fn deferred_keeps_its_promise_on_vfat() {
    holds(Durability::Deferred, Kind::Vfat);
}

#[test]
fn memory_keeps_its_promise_at_every_crash() {
    holds(Durability::Memory, Kind::Unknown);
}

#[test]
fn a_wrong_order_is_found() {
    let both = [Durability::Always, Durability::Deferred];
    for (broken, kind, modes) in [
        (Broken::RenameFirst, Kind::Unknown, &both[..]),
        (Broken::NoFileSync, Kind::Unknown, &both),
        (Broken::NoDirectorySync, Kind::Unknown, &both),
        (Broken::NoSecondSync, Kind::Vfat, &both),
        // Messages are moved in the same way everywhere.
        (Broken::NoFileSync, Kind::Sound, &both[..1]),
        // A removal needs it.
        (Broken::NoDirectorySync, Kind::Sound, &both[..1]),
    ] {
        for durability in modes {
            let violation = replay(*durability, Some(broken), kind).err();
            println!("{broken:?}, {kind:?}, {durability:?}: {violation:?}");
            assert!(violation.is_some(), "{broken:?} goes unnoticed on {kind:?} with {durability:?}");
        }
    }
    // One that relies on a sync of the file for its name where that is not enough.
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let scenario = Scenario::run(&runtime, Durability::Always, None, Kind::Sound);
    let violation = Checker::new(runtime, Durability::Always, Kind::Vfat).all(&scenario).err();
    println!("{violation:?}");
    assert!(violation.is_some_and(|what| what.contains("is lost")));
}

/// Something that was done for a message, and how many operations the disk had performed by then.
#[derive(Debug, Clone)]
enum Event {
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
struct Story {
    body: Vec<u8>,
    to: Vec<String>,
    events: Vec<(usize, Event)>,
}

/// A recorded run.
struct Scenario {
    base: tempfile::TempDir,
    start: Vec<(PathBuf, usize, Vec<u8>)>,
    ops: Vec<Op>,
    stories: BTreeMap<MessageId, Story>,
}

/// A run while it is recorded.
struct Stage {
    bench: Bench,
    entries: Vec<Entry>,
    stories: BTreeMap<MessageId, Story>,
    /// Whether it is killed soon.
    killed: bool,
}

impl Scenario {
    fn run(runtime: &tokio::runtime::Runtime, durability: Durability, broken: Option<Broken>, kind: Kind) -> Self {
        let bench = Bench::new(durability);
        bench.probe.set_sound(kind == Kind::Sound);
        let mut stage = Stage { bench, entries: Vec::new(), stories: BTreeMap::new(), killed: false };
        let start = stage.leavings();
        if let Some(broken) = broken {
            stage.bench.probe.break_order(broken);
        }
        runtime.block_on(stage.play());
        Self { start, ops: stage.bench.probe.ops(), base: stage.bench.dir, stories: stage.stories }
    }
}

impl Stage {
    /// The leftovers of an earlier run that was interrupted.
    fn leavings(&self) -> Vec<(PathBuf, usize, Vec<u8>)> {
        let mut files = Vec::new();
        for place in ["ram", "flash"] {
            for (name, bytes) in [(".HA1F000000.tmp", vec![0; 64]), (".E1SE000000.tmp", b"SMTPRLY1".to_vec())] {
                let path = self.bench.path(place).join("queue").join(name);
                fs::write(&path, &bytes).unwrap();
                files.push((path.clone(), self.bench.probe.number(&path), bytes));
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
        self.note(4, Note::Told(3, Some(vec![0])));
        self.note(2, Note::Warned(4));
        self.move_some(&[2, 3, 4, 5]);
        self.note(0, Note::Told(5, Some(vec![1])));
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
        self.bench.probe.fail(Fault { after, error: nix::errno::Errno::EIO, part: after % 2 == 1, for_good: true });
    }

    fn start_again(&mut self) {
        self.bench.probe.heal();
        self.killed = false;
        self.restart();
    }

    /// The program is killed and started again.
    fn restart(&mut self) {
        self.bench.spool = self.bench.start();
        let found = self.bench.spool.recover();
        for entry in &mut self.entries {
            if let Some(found) = found.iter().find(|found| found.id == entry.id) {
                entry.place = found.place;
            }
        }
    }

    fn event(&mut self, id: MessageId, event: Event) {
        let at = self.bench.probe.count();
        self.stories.entry(id).or_default().events.push((at, event));
    }

    fn is_synced(&self, place: Place) -> bool {
        self.bench.spool.directory(place).sync
    }

    async fn accept(&mut self, size: usize, recipients: usize) {
        // A body that looks like no other, also in its parts.
        let seed = self.stories.len() * 7919;
        let body: Vec<u8> = (0..size).map(|i| u8::try_from((seed + i * 31 + i / 251) % 251).unwrap()).collect();
        let to: Vec<String> = (0..recipients).map(|n| format!("ops{n}@example.com")).collect();
        let mut draft = self.bench.spool.draft(Client::Own).unwrap();
        let story = Story { body: body.clone(), to: to.clone(), events: Vec::new() };
        let id = draft.id();
        self.stories.insert(id, story);
        for piece in body.chunks(500) {
            draft.buffer(0).extend_from_slice(piece);
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
        let mut draft = self.bench.spool.draft(Client::Own).unwrap();
        draft.buffer(0).resize(2_000, b'x');
        draft.settle().await.unwrap();
        let path = self.bench.spool.directory(self.bench.spool.accept_place()).temporary(draft.id());
        drop(draft);
        while path.exists() {
            tokio::task::yield_now().await;
        }
    }

    fn note(&mut self, index: usize, note: Note) {
        let entry = self.entries[index].clone();
        self.event(entry.id, Event::Noting(note.clone()));
        if let Err(error) = self.bench.spool.record(&entry, &note) {
            return assert!(self.killed, "{error}");
        }
        let safe = self.is_synced(entry.place);
        self.event(entry.id, Event::Noted { note, safe });
    }

    fn move_some(&mut self, indices: &[usize]) {
        if !self.bench.spool.can_move() || self.bench.relay.durability == Durability::Memory {
            return;
        }
        let entries = indices.iter().map(|index| self.entries[*index].clone()).collect();
        for (index, (entry, error)) in indices.iter().zip(self.bench.spool.move_to_safe(entries)) {
            assert!(entry.id == self.entries[*index].id && (error.is_none() || self.killed), "{error:?}");
            self.entries[*index] = entry.clone();
            if error.is_none() {
                self.event(entry.id, Event::Moved);
            }
        }
    }

    fn move_all(&mut self) {
        if self.bench.spool.can_move() && self.bench.relay.durability == Durability::Deferred {
            self.bench.spool.move_all_to_safe().unwrap();
            for index in 0..self.entries.len() {
                let entry = &mut self.entries[index];
                if self.bench.spool.directory(Place::Safe).file(entry.id).exists() && entry.place == Place::Spool {
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
        if let Err(error) = self.bench.spool.remove(&entry) {
            return assert!(self.killed, "{error}");
        }
        let safe = self.is_synced(entry.place);
        self.event(entry.id, Event::Removed { safe });
    }
}

/// What ended the run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum End {
    /// The program was killed: the disk has everything.
    Killed,
    /// The power went: the disk has what was synced, and more or less of the rest.
    PowerCut,
}

/// Tries states, and records their number.
struct Checker {
    runtime: tokio::runtime::Runtime,
    durability: Durability,
    kind: Kind,
    work: tempfile::TempDir,
    seen: HashSet<u64>,
    random: u64,
    moments: usize,
    /// States tried, without repetitions.
    states: usize,
}

impl fmt::Display for Checker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} states of the disk at {} moments, none breaks a promise", self.states, self.moments)
    }
}

/// What must be true of a message.
#[derive(Debug, Default, Hash)]
struct Promise {
    /// It is there.
    kept: bool,
    /// It is not there.
    gone: bool,
    /// These notes are there, in this order.
    notes: Vec<String>,
    /// These may exist.
    possible: Vec<String>,
}

impl Promise {
    /// What was promised for a message when the disk had performed `moment` operations.
    fn at(story: &Story, moment: usize, end: End) -> Self {
        let mut promise = Self::default();
        let killed = end == End::Killed;
        for (at, event) in story.events.iter().filter(|(at, _)| *at <= moment) {
            match event {
                Event::Accepted { safe } => promise.kept |= *safe || killed,
                Event::Moved => {
                    promise.kept = true;
                    promise.notes.clone_from(&promise.possible);
                }
                Event::Noting(note) => promise.possible.push(text(note)),
                Event::Noted { note, safe } if *safe || killed => promise.notes.push(text(note)),
                Event::Noted { .. } => {}
                Event::Removing if *at < moment => (promise.kept, promise.notes) = Default::default(),
                Event::Removing => {}
                Event::Removed { safe } => promise.gone = *safe || killed,
            }
        }
        promise
    }
}

impl Checker {
    fn new(runtime: tokio::runtime::Runtime, durability: Durability, kind: Kind) -> Self {
        let (seen, random, moments, states) = (HashSet::new(), 0x9e37_79b9_7f4a_7c15, 0, 0);
        Self { runtime, durability, kind, work: scratch(), seen, random, moments, states }
    }

    /// Tries every moment of a scenario.
    fn all(&mut self, scenario: &Scenario) -> Result<(), String> {
        let mut model = Model::new(scenario.base.path(), self.kind);
        ["ram", "ram/queue", "flash", "flash/queue"].iter().for_each(|directory| model.with_directory(directory));
        scenario.start.iter().for_each(|(path, number, bytes)| model.with_file(path, *number, bytes.clone()));
        let made = scenario.ops.iter().position(|op| !is_making(op)).unwrap_or_default();
        for moment in made..=scenario.ops.len() {
            self.moments += 1;
            self.state(scenario, moment, End::Killed, model.killed())?;
            self.moment(scenario, moment, &model)?;
            if let Some(op) = scenario.ops.get(moment) {
                model.apply(op);
            }
        }
        Ok(())
    }

    /// The states that a power cut may leave at one moment.
    fn moment(&mut self, scenario: &Scenario, moment: usize, model: &Model) -> Result<(), String> {
        // With `spool` on a RAM disk, only the other one is left.
        let fates = model.fates(Some("flash"));
        let count = fates.iter().try_fold(1u64, |all, fates| all.checked_mul(fates.len() as u64)).unwrap_or(u64::MAX);
        if count <= EXHAUSTIVE {
            let mut number = vec![0; fates.len()];
            loop {
                let chosen: Vec<Fate> = number.iter().zip(&fates).map(|(n, fates)| fates[*n]).collect();
                self.state(scenario, moment, End::PowerCut, model.state(&chosen).without("ram"))?;
                let Some(next) = (0..number.len()).find(|i| number[*i] + 1 < fates[*i].len()) else { break };
                number[next] += 1;
                number[..next].fill(0);
            }
        } else {
            for _ in 0..drawn() {
                let chosen = self.draw(&fates);
                self.state(scenario, moment, End::PowerCut, model.state(&chosen).without("ram"))?;
            }
        }
        // With `spool` on an ordinary disk, both keep any part.
        let fates = model.fates(None);
        for _ in 0..drawn() / 2 {
            let chosen = self.draw(&fates);
            self.state(scenario, moment, End::PowerCut, model.state(&chosen))?;
        }
        Ok(())
    }

    /// Fates at random; how much is kept is random as well.
    fn draw(&mut self, fates: &[&[Fate]]) -> Vec<Fate> {
        let kept = [5, 50, 95][self.random(3)];
        fates
            .iter()
            .map(|fates| if self.random(100) < kept { fates[0] } else { fates[self.random(fates.len())] })
            .collect()
    }

    /// xorshift64: the same numbers in every run.
    fn random(&mut self, below: usize) -> usize {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        usize::try_from(self.random % below as u64).unwrap()
    }

    fn state(&mut self, scenario: &Scenario, moment: usize, end: End, image: Image) -> Result<(), String> {
        let promises: Vec<_> =
            scenario.stories.iter().map(|(id, story)| (*id, story, Promise::at(story, moment, end))).collect();
        let mut hasher = DefaultHasher::new();
        (end, &image).hash(&mut hasher);
        promises.iter().for_each(|(_, _, promise)| promise.hash(&mut hasher));
        if !self.seen.insert(hasher.finish()) {
            return Ok(());
        }
        self.states += 1;
        let base = self.work.path().join("disk");
        image.make(&base);
        self.start(&base, end, &promises).map_err(|what| {
            let last = moment.checked_sub(1).and_then(|last| scenario.ops.get(last));
            let files: Vec<_> = image.files.iter().map(|(path, bytes)| (path, bytes.len())).collect();
            format!("{end:?} after operation {moment} ({}): {what}; the disk had {files:?}", brief(last))
        })
    }

    /// Starts on the disk in `base`.
    fn start(&self, base: &Path, end: End, promises: &[(MessageId, &Story, Promise)]) -> Result<(), String> {
        let spool =
            Spool::open(&relay(base, self.durability, 1 << 22)).map_err(|e| format!("refuses to start: {e}"))?;
        let entries = spool.recover();
        let named = |end: &str| {
            let all = ["ram", "flash"]
                .into_iter()
                .flat_map(|place| names(&base.join(place).join("queue")).into_iter().map(move |name| (place, name)));
            all.filter(|(_, name)| name.ends_with(end)).collect::<Vec<_>>()
        };
        if !named(".tmp").is_empty() {
            return Err(format!("leavings stay: {:?}", named(".tmp")));
        }
        let torn = named(".bad");
        // On vfat a name can exist before the size does, and where small files are not renamed before the content: of a
        // message that was not promised yet.
        let renames = self.kind == Kind::Unknown;
        let whole = |place: &str| match end {
            End::Killed => renames || self.kind == Kind::Vfat,
            End::PowerCut => renames && spool.directory(place_of(place)).sync,
        };
        if torn.iter().any(|(place, _)| whole(place)) {
            return Err(format!("a file was torn under its final name where that can't be: {torn:?}"));
        }
        if books(&spool) != on_disk(base) {
            return Err(format!("the books say {:?}, the disk {:?}", books(&spool), on_disk(base)));
        }
        for id in entries.iter().map(|entry| entry.id) {
            if !promises.iter().any(|(known, ..)| *known == id) {
                return Err(format!("{id} is foreign"));
            }
        }
        for (id, story, promise) in promises {
            self.message(&spool, *id, story, promise, entries.iter().find(|entry| entry.id == *id))
                .map_err(|what| format!("{id} {what} ({promise:?})"))?;
        }
        self.goes_on(&spool, &entries)
    }

    fn message(
        &self,
        spool: &Spool,
        id: MessageId,
        story: &Story,
        promise: &Promise,
        entry: Option<&Entry>,
    ) -> Result<(), String> {
        let Some(entry) = entry else {
            return if promise.kept { Err("is lost".into()) } else { Ok(()) };
        };
        if promise.gone {
            return Err("has come back".into());
        }
        let stored = spool.open_message(entry).map_err(|e| format!("can't be opened: {e}"))?;
        let (known, state) = (stored.meta.clone(), stored.state.clone());
        let body = match stored.read_body() {
            Ok(body) => body,
            // Its text is not sent.
            Err(SpoolError::Damaged(_)) if !promise.kept => return Ok(()),
            Err(error) => return Err(format!("can't be read: {error}")),
        };
        let to: Vec<&str> = story.to.iter().map(String::as_str).collect();
        if body != story.body || known != meta(&to) {
            return Err(format!("of {} bytes is not what was accepted", body.len()));
        }
        let notes: Vec<String> = spool.notes(entry).map_err(|e| e.to_string())?.iter().map(text).collect();
        if !is_within(&promise.notes, &notes) || !is_within(&notes, &promise.possible) {
            return Err(format!("has the notes {notes:?}"));
        }
        let mut expected = State::new(&known.envelope);
        expected.replay(notes.concat().as_bytes());
        if expected == state { Ok(()) } else { Err(format!("({id}) has the state {state:?}")) }
    }

    /// The queue still accepts a message and a note.
    fn goes_on(&self, spool: &Arc<Spool>, entries: &[Entry]) -> Result<(), String> {
        let next = self.runtime.block_on(put(spool, b"next", &["a@b.c"])).map_err(|e| format!("takes nothing: {e}"))?;
        for entry in [entries.first(), Some(&next)].into_iter().flatten() {
            spool.record(entry, &Note::Held(true)).map_err(|e| format!("notes nothing: {e}"))?;
            if !spool.open_message(entry).is_ok_and(|stored| stored.state.held) {
                return Err("a new note is not read back".into());
            }
        }
        Ok(())
    }
}

fn text(note: &Note) -> String {
    String::from_utf8(note.encode()).unwrap()
}

/// Whether `part` is in `all`, in its order.
fn is_within(part: &[String], all: &[String]) -> bool {
    let mut all = all.iter();
    part.iter().all(|note| all.any(|other| other == note))
}

fn place_of(name: &str) -> Place {
    if name == "flash" { Place::Safe } else { Place::Spool }
}

fn is_making(op: &Op) -> bool {
    matches!(op, Op::MakeDirectory(_) | Op::SyncDirectory(_))
}

fn brief(op: Option<&Op>) -> String {
    match op {
        Some(Op::Write(file, at, bytes)) => format!("{} bytes to file {file} at {at}", bytes.len()),
        other => format!("{other:?}"),
    }
}
