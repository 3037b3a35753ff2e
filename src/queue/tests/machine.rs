// SPDX-License-Identifier: Apache-2.0
//! The queue against a model that fits on a page: whatever is done in any order, both agree.

use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::sample::Index;

use super::*;

#[derive(Debug, Clone)]
enum Step {
    /// Bytes and recipients.
    Accept(usize, usize),
    Note(Index, Note),
    Move(Vec<Index>),
    MoveAll,
    Remove(Index),
    /// The program is killed and restarted; before that a leftover is created.
    Crash(Leaving),
    /// The disk fails at an operation of the step that follows.
    Fault(usize, bool),
}

#[derive(Debug, Clone)]
enum Leaving {
    Nothing,
    /// An interrupted reception.
    Temporary,
    /// An incomplete record, or zeros in its place.
    TornNote(Index, usize, bool),
    /// A copy in safe storage whose original still exists.
    Double(Index),
    /// Something that is not a message.
    Foreign,
}

fn step() -> impl Strategy<Value = Step> {
    let progress = prop_oneof![Just(Progress::Delivered), Just(Progress::Waiting), Just(Progress::Failed)];
    let note = prop_oneof![
        6 => (0usize..4, progress).prop_map(|(index, progress)| attempt(index, progress)),
        2 => any::<bool>().prop_map(Note::Held),
        1 => any::<u32>().prop_map(|at| Note::Arrived(at.into())),
        1 => Just(Note::Late(1)),
        1 => Just(Note::Warned(1)),
        1 => Just(Note::Asked(1, Some(vec![0]))),
        1 => Just(Note::Told(1, Some(vec![0]))),
    ];
    let leaving = prop_oneof![
        Just(Leaving::Nothing),
        Just(Leaving::Temporary),
        (any::<Index>(), 1usize..20, any::<bool>())
            .prop_map(|(which, cut, zeros)| Leaving::TornNote(which, cut, zeros)),
        any::<Index>().prop_map(Leaving::Double),
        Just(Leaving::Foreign),
    ];
    prop_oneof![
        6 => (0usize..4_000, 1usize..4).prop_map(|(bytes, to)| Step::Accept(bytes, to)),
        8 => (any::<Index>(), note).prop_map(|(which, note)| Step::Note(which, note)),
        2 => proptest::collection::vec(any::<Index>(), 1..6).prop_map(Step::Move),
        1 => Just(Step::MoveAll),
        3 => any::<Index>().prop_map(Step::Remove),
        3 => leaving.prop_map(Step::Crash),
        2 => (0usize..12, any::<bool>()).prop_map(|(after, part)| Step::Fault(after, part)),
    ]
}

/// What the queue should contain.
#[derive(Debug, Clone)]
struct Expected {
    entry: Entry,
    body: Vec<u8>,
    to: usize,
    notes: Vec<Note>,
}

struct Machine {
    runtime: tokio::runtime::Runtime,
    bench: Bench,
    model: BTreeMap<MessageId, Expected>,
    accepted: u8,
    foreign: usize,
}

impl Machine {
    fn new(durability: Durability) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        Self { runtime, bench: Bench::new(durability), model: BTreeMap::new(), accepted: 0, foreign: 0 }
    }

    fn recipients(to: usize) -> Vec<String> {
        (0..to).map(|n| format!("ops{n}@example.com")).collect()
    }

    /// The message that an index means, if there is one.
    fn pick(&self, index: &Index) -> Option<Expected> {
        (!self.model.is_empty()).then(|| self.model.values().nth(index.index(self.model.len())).unwrap().clone())
    }

    /// Performs a step; an error is accepted only while a fault is set.
    fn step(&mut self, step: &Step, faulty: bool) {
        match step {
            Step::Accept(bytes, to) => {
                self.accepted = self.accepted.wrapping_add(1);
                let body = vec![self.accepted; *bytes];
                let names = Self::recipients(*to);
                let names: Vec<&str> = names.iter().map(String::as_str).collect();
                match self.runtime.block_on(put(&self.bench.spool, &body, &names)) {
                    Ok(entry) => {
                        self.model.insert(entry.id, Expected { entry, body, to: *to, notes: Vec::new() });
                    }
                    Err(error) => assert!(faulty, "{error}"),
                }
            }
            Step::Note(which, note) => {
                let Some(expected) = self.pick(which) else { return };
                let written = self.bench.spool.record(&expected.entry, note);
                assert!(faulty || written.is_ok(), "{written:?}");
                let known = self.model.get_mut(&expected.entry.id).unwrap();
                known.notes.push(note.clone());
                if written.is_err() {
                    // The disk may have it anyway, if only its sync has failed.
                    self.bench.probe.heal();
                    if self.bench.spool.notes(&expected.entry).unwrap().len() < known.notes.len() {
                        known.notes.pop();
                    }
                }
            }
            Step::Move(which) => {
                let mut chosen: Vec<Entry> = which.iter().filter_map(|w| self.pick(w)).map(|e| e.entry).collect();
                chosen.sort_by_key(|entry| entry.id);
                chosen.dedup();
                for (entry, error) in self.bench.spool.move_to_safe(chosen) {
                    assert!(
                        error.is_none() == (entry.place == Place::Safe) && (error.is_none() || faulty),
                        "{error:?}"
                    );
                    self.model.get_mut(&entry.id).unwrap().entry.clone_from(&entry);
                }
            }
            Step::MoveAll => {
                let moved = self.bench.spool.move_all_to_safe();
                assert!(faulty || moved.is_ok(), "{moved:?}");
                // Entries may contain an old place of a message: it is found.
            }
            Step::Remove(which) => {
                let Some(expected) = self.pick(which) else { return };
                if let Err(error) = self.bench.spool.remove(&expected.entry) {
                    assert!(faulty, "{error}");
                    self.bench.probe.heal();
                    if self.bench.spool.open_message(&expected.entry).is_ok() {
                        self.bench.spool.remove(&expected.entry).unwrap();
                    }
                }
                self.model.remove(&expected.entry.id);
            }
            Step::Crash(leaving) => self.crash(leaving),
            Step::Fault(after, part) => {
                self.bench.probe.fail(Fault { after: *after, error: Errno::EIO, part: *part, for_good: false });
            }
        }
    }

    fn crash(&mut self, leaving: &Leaving) {
        self.bench.probe.heal();
        let queue = self.bench.path("flash/queue");
        match leaving {
            Leaving::Nothing => {}
            Leaving::Temporary => fs::write(queue.join(".HA1F000000.tmp"), b"half").unwrap(),
            Leaving::TornNote(which, cut, zeros) => {
                if let Some(expected) = self.pick(which) {
                    let record = Note::Held(true).encode();
                    let mut torn = record[..*cut.min(&(record.len() - 2))].to_vec();
                    if *zeros {
                        torn.fill(0);
                    }
                    let (path, mut bytes) = self.file_of(expected.entry.id);
                    bytes.extend(torn);
                    fs::write(path, bytes).unwrap();
                }
            }
            Leaving::Double(which) => {
                if let Some(expected) = self.pick(which) {
                    let (_, bytes) = self.file_of(expected.entry.id);
                    for place in ["ram", "flash"] {
                        let file = format!("{place}/queue/{}.msg", expected.entry.id);
                        fs::write(self.bench.path(file), &bytes).unwrap();
                    }
                }
            }
            Leaving::Foreign => {
                self.foreign += 1;
                let name = MessageId::like(&format!("F0RE1GN{}", self.foreign));
                fs::write(queue.join(format!("{name}.msg")), b"SMTPRLY1 or not").unwrap();
            }
        }
        self.bench.spool = self.bench.start();
        let found = self.bench.spool.recover();
        assert_eq!(found.len(), self.model.len(), "{found:?}");
        for entry in found {
            self.model.get_mut(&entry.id).expect("a message of ours").entry.clone_from(&entry);
        }
    }

    fn file_of(&self, id: MessageId) -> (PathBuf, Vec<u8>) {
        let paths = ["flash", "ram"].map(|place| self.bench.path(place).join(format!("queue/{id}.msg")));
        paths.into_iter().find_map(|path| fs::read(&path).ok().map(|bytes| (path, bytes))).expect("its file")
    }

    /// Whether the queue agrees with the model.
    fn compare(&self, faults: bool) {
        for expected in self.model.values() {
            let stored = self.bench.spool.open_message(&expected.entry).unwrap();
            let names = Self::recipients(expected.to);
            let mut state = State::new(&meta(&names.iter().map(String::as_str).collect::<Vec<_>>()).envelope);
            expected.notes.iter().for_each(|note| state.apply(note));
            assert_eq!(stored.state, state);
            assert_eq!(self.bench.spool.notes(&expected.entry).unwrap(), expected.notes);
            assert_eq!(stored.read_body().unwrap(), expected.body);
        }
        assert_eq!(books(&self.bench.spool).1, self.model.len());
        // A file that could not be removed after its move exists a second time, until its message is removed.
        if !faults {
            self.bench.books_are_right();
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn the_queue_does_what_its_model_does(
        durability in prop_oneof![Just(Durability::Always), Just(Durability::Deferred), Just(Durability::Memory)],
        steps in proptest::collection::vec(step(), 1..40),
    ) {
        let mut machine = Machine::new(durability);
        let (mut faulty, mut faults) = (false, false);
        for step in &steps {
            let setting = matches!(step, Step::Fault(..));
            machine.step(step, faulty);
            faulty = setting;
            faults = !matches!(step, Step::Crash(_)) && (faults || setting);
            if !setting {
                machine.bench.probe.heal();
                machine.compare(faults);
            }
        }
        machine.bench.probe.heal();
        machine.crash(&Leaving::Nothing);
        machine.compare(false);
        for expected in std::mem::take(&mut machine.model).into_values() {
            machine.bench.spool.remove(&expected.entry).unwrap();
        }
        prop_assert_eq!(on_disk(machine.bench.dir.path()), (0, 0));
        prop_assert_eq!(books(&machine.bench.spool), (0, 0));
    }
}
