// SPDX-License-Identifier: Apache-2.0
//! Starts the queue on what a disk has kept, and checks that every promise was kept.

use std::collections::HashSet;
use std::collections::hash_map::DefaultHasher;
use std::fmt;
use std::hash::{Hash, Hasher};

use super::model::{Fate, Image, Model};
use super::scenario::{Event, Scenario, Story};
use super::*;

/// What ended the run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum End {
    /// The program was killed: the disk has everything.
    Killed,
    /// The power went: the disk has what was synced, and more or less of the rest.
    PowerCut,
}

/// Tries states, and records their number.
pub struct Checker {
    runtime: tokio::runtime::Runtime,
    durability: Durability,
    /// The file system is vfat.
    vfat: bool,
    work: tempfile::TempDir,
    seen: HashSet<u64>,
    random: u64,
    moments: usize,
    /// States tried, without repetitions.
    pub states: usize,
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
    pub fn new(runtime: tokio::runtime::Runtime, durability: Durability, vfat: bool) -> Self {
        let (seen, random, moments, states) = (HashSet::new(), 0x9e37_79b9_7f4a_7c15, 0, 0);
        Self { runtime, durability, vfat, work: scratch(), seen, random, moments, states }
    }

    /// Tries every moment of a scenario.
    pub fn all(&mut self, scenario: &Scenario) -> Result<(), String> {
        let mut model = Model::new(scenario.base.path(), self.vfat);
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
        // On vfat a name can exist before the size does: of a message that was not promised yet.
        let impossible = |place: &str| end == End::Killed || !self.vfat && spool.directory(place_of(place)).sync;
        if torn.iter().any(|(place, _)| impossible(place)) {
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
