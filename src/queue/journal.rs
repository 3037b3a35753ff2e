// SPDX-License-Identifier: Apache-2.0
//! What happens to a message after it was accepted: notes that are appended to its file one by one.
//!
//! A record is LF, the CRC-32 of the JSON in eight hex digits, a space, the JSON, LF. The leading LF: a crash may leave
//! a torn record at the end, and the next one has to start on a line of its own anyway. The trailing LF: a power cut
//! may leave zeros in place of the next record, which must not look like a part of this one. A part between two LFs
//! with a wrong CRC is skipped. JSON contains no LF, so no record looks like two.
//!
//! The sum of all notes is the [`State`] of the message.

use serde_json::Value;

use crate::message::Envelope;
use crate::system::checksum::Checksum;
use crate::system::json::json;

/// The state of one recipient.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// Still to be tried.
    Waiting,
    /// A provider has accepted it.
    Delivered,
    /// It has failed permanently.
    Failed,
}

/// The results of an attempt for some of the recipients.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// When: seconds since 1970.
    pub at: i64,
    /// Whether it was made before the message's time, because everything was woken. This does not increase the
    /// time until the next one.
    pub early: bool,
    /// Index of the recipient in the envelope, and its result.
    pub results: Vec<(usize, Progress, String)>,
}

/// What became of a step of an escalation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StepProgress {
    /// It has begun: from now on it is tried.
    Begun,
    /// Whether its account took the message is unknown; it is tried again.
    Doubtful,
    /// Its account took the message.
    Taken,
    /// Its account will not take it.
    Failed,
}

impl StepProgress {
    const LETTERS: [(Self, &str); 4] =
        [(Self::Begun, "B"), (Self::Doubtful, "U"), (Self::Taken, "D"), (Self::Failed, "F")];

    fn letter(self) -> &'static str {
        Self::LETTERS.iter().find(|(progress, _)| *progress == self).map_or("", |(_, letter)| letter)
    }

    fn of(letter: &str) -> Option<Self> {
        Self::LETTERS.iter().find(|(_, known)| *known == letter).map(|(progress, _)| *progress)
    }
}

/// News about a step of an escalation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StepNote {
    /// When: seconds since 1970.
    pub at: i64,
    /// The name of its account or channel.
    pub account: String,
    /// What became of it.
    pub progress: StepProgress,
    /// The reply or the reason.
    pub text: String,
}

/// One record of the journal. Times are seconds since 1970.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Note {
    /// An attempt was made.
    Attempt(Attempt),
    /// It was put on hold; `false`: it was released, which records of before say without a time.
    Held(bool),
    /// It was released.
    Released(i64),
    /// When it really arrived, determined when the clock was set.
    Arrived(i64),
    /// Its delay is reported with the next summary.
    Late(i64),
    /// A delay notification was sent.
    Warned(i64),
    /// The failures of these recipients, by their index in the envelope, have been reported. `None`, as earlier
    /// versions wrote it: all failures up to here, also one that came while the report was being written.
    Told(i64, Option<Vec<usize>>),
    /// Its whole text was sent for these recipients, and it is unknown whether it was accepted. `None`, as earlier
    /// versions wrote it: for all that are pending.
    Doubt(i64, Option<Vec<usize>>),
    /// It was reported that it is not sent to these recipients any more because of that; `None`: to all of them.
    Asked(i64, Option<Vec<usize>>),
    /// It is sent separately, not in a digest: as requested by the administrator, or since it is too large.
    Alone(i64),
    /// A step of its escalation has begun, or ended.
    Step(StepNote),
}

impl Note {
    /// The record to append.
    pub fn encode(&self) -> Vec<u8> {
        let json = match self {
            Self::Attempt(attempt) => attempt.to_json(),
            Self::Held(held) => json!({ "held": held }),
            Self::Released(at) => json!({ "released": at }),
            Self::Arrived(at) => json!({ "arrived": at }),
            Self::Late(at) => json!({ "late": at }),
            Self::Warned(at) => json!({ "warned": at }),
            Self::Told(at, None) => json!({ "told": at }),
            // A list, which earlier versions skip: they may report these failures again. They would take a number for all
            // failures so far, and one of these may not have been reported.
            Self::Told(at, Some(of)) => {
                let indexes = of.iter().map(|index| Value::from(*index));
                json!({ "told": std::iter::once(Value::from(*at)).chain(indexes).collect::<Vec<_>>() })
            }
            // Earlier versions take these for the whole message, which they hold then.
            Self::Doubt(at, of) => about("doubt", *at, of.as_deref()),
            Self::Asked(at, of) => about("asked", *at, of.as_deref()),
            Self::Alone(at) => json!({ "alone": at }),
            Self::Step(step) => step.to_json(),
        }
        .to_string();
        format!("\n{:08x} {json}\n", Checksum::of(json.as_bytes())).into_bytes()
    }

    /// Reads a record without its LF; `None` when it is torn or of another version.
    fn decode(piece: &[u8]) -> Option<Self> {
        let (crc, json) = piece.split_at_checked(9)?;
        let crc = u32::from_str_radix(std::str::from_utf8(crc).ok()?.strip_suffix(' ')?, 16).ok()?;
        if crc != Checksum::of(json) {
            return None;
        }
        let value: Value = serde_json::from_slice(json).ok()?;
        let (key, first) = value.as_object()?.iter().find(|(key, _)| key.as_str() != "r")?;
        match key.as_str() {
            "at" => Attempt::from_json(&value).map(Self::Attempt),
            "held" => first.as_bool().map(Self::Held),
            "released" => first.as_i64().map(Self::Released),
            "arrived" => first.as_i64().map(Self::Arrived),
            "late" => first.as_i64().map(Self::Late),
            "warned" => first.as_i64().map(Self::Warned),
            "told" => match first.as_array() {
                None => first.as_i64().map(|at| Self::Told(at, None)),
                Some(list) => {
                    let (at, of) = list.split_first()?;
                    Some(Self::Told(at.as_i64()?, Some(indexes(of)?)))
                }
            },
            "doubt" => Some(Self::Doubt(first.as_i64()?, recipients(&value)?)),
            "asked" => Some(Self::Asked(first.as_i64()?, recipients(&value)?)),
            "alone" => first.as_i64().map(Self::Alone),
            "step" => StepNote::from_json(first).map(Self::Step),
            _ => None,
        }
    }

    /// All complete records of a journal.
    pub fn read(journal: &[u8]) -> impl Iterator<Item = Self> {
        journal.split(|byte| *byte == b'\n').filter_map(Self::decode)
    }

    /// The lasting part of the note, for a journal that has grown too long: not that recipients are still pending.
    pub fn lasting(&self) -> Option<Self> {
        let Self::Attempt(attempt) = self else { return Some(self.clone()) };
        let results: Vec<_> = attempt.results.iter().filter(|(_, p, _)| *p != Progress::Waiting).cloned().collect();
        (!results.is_empty()).then_some(Self::Attempt(Attempt { results, ..*attempt }))
    }
}

/// The index of a recipient in the envelope.
fn index_of(value: &Value) -> Option<usize> {
    value.as_u64().and_then(|index| usize::try_from(index).ok())
}

/// The indexes of recipients in the envelope.
fn indexes(list: &[Value]) -> Option<Vec<usize>> {
    list.iter().map(index_of).collect()
}

/// The recipients that a record names, if it names any.
fn recipients(value: &Value) -> Option<Option<Vec<usize>>> {
    match value.get("r") {
        None => Some(None),
        Some(list) => indexes(list.as_array()?).map(Some),
    }
}

/// A record with its time, and the recipients that it is about if it names them.
fn about(key: &str, at: i64, of: Option<&[usize]>) -> Value {
    let of = of.map(|of| ("r".to_string(), Value::from(of)));
    Value::Object([(key.to_string(), Value::from(at))].into_iter().chain(of).collect())
}

impl StepNote {
    fn to_json(&self) -> Value {
        json!({ "step": json!([self.at, self.account, self.progress.letter(), self.text]) })
    }

    fn from_json(value: &Value) -> Option<Self> {
        let text = |index: usize| value.get(index)?.as_str();
        Some(Self {
            at: value.get(0)?.as_i64()?,
            account: text(1)?.to_string(),
            progress: StepProgress::of(text(2)?)?,
            text: text(3)?.to_string(),
        })
    }
}

impl Attempt {
    fn to_json(&self) -> Value {
        let result = |(index, progress, text): &(usize, Progress, String)| {
            let letter = match progress {
                Progress::Waiting => "W",
                Progress::Delivered => "D",
                Progress::Failed => "F",
            };
            json!([index, letter, text])
        };
        let mut value = json!({ "at": self.at, "r": self.results.iter().map(result).collect::<Vec<_>>() });
        if let Some(fields) = value.as_object_mut().filter(|_| self.early) {
            fields.insert("early".into(), true.into());
        }
        value
    }

    fn from_json(value: &Value) -> Option<Self> {
        let result = |entry: &Value| {
            let index = index_of(entry.get(0)?)?;
            let progress = match entry.get(1)?.as_str()? {
                "W" => Progress::Waiting,
                "D" => Progress::Delivered,
                "F" => Progress::Failed,
                _ => return None,
            };
            Some((index, progress, entry.get(2)?.as_str()?.to_string()))
        };
        Some(Self {
            at: value.get("at")?.as_i64()?,
            early: value.get("early").and_then(Value::as_bool).unwrap_or(false),
            results: value.get("r")?.as_array()?.iter().map(result).collect::<Option<_>>()?,
        })
    }
}

/// How often a message is offered for a recipient with an unknown outcome: each time may be a copy. Then it is not
/// sent to that recipient any more, and the administrator has to decide.
pub const DOUBT_LIMIT: u32 = 3;

/// One recipient with the last reply or reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecipientState {
    /// The address.
    pub address: String,
    /// Its state.
    pub progress: Progress,
    /// The last reply or reason; empty before the first attempt.
    pub text: String,
    /// Whether its failure has been reported.
    pub told: bool,
    /// How often the whole text was sent for it with an unknown outcome.
    pub doubts: u32,
    /// Whether it was reported that nothing more is sent to it because of that.
    pub asked: bool,
}

impl RecipientState {
    /// Whether it is pending, but not tried any more: it may have got the message several times already.
    pub fn is_doubtful(&self) -> bool {
        self.progress == Progress::Waiting && self.doubts >= DOUBT_LIMIT
    }
}

/// A step of an escalation that has begun.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StepState {
    /// The name of its account or channel.
    pub account: String,
    /// What became of it.
    pub progress: StepProgress,
    /// When it began, by the clock of that time: seconds since 1970.
    pub begun: i64,
    /// How often it is unknown whether the account took it.
    pub doubts: u32,
}

impl StepState {
    /// Whether its account is still to be tried.
    pub fn is_open(&self) -> bool {
        matches!(self.progress, StepProgress::Begun | StepProgress::Doubtful) && self.doubts < DOUBT_LIMIT
    }
}

/// The state of all recipients of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State {
    /// In the order of the envelope.
    pub recipients: Vec<RecipientState>,
    /// The number of attempts in the journal.
    pub attempts: u32,
    /// How many of them were made at the message's scheduled times: these determine how long it waits next.
    pub turns: u32,
    /// Whether it is on hold, by the administrator, or by the gateway after too many uncertain attempts for all
    /// recipients that are still pending.
    pub held: bool,
    /// When it was last released, by the clock of that time: seconds since 1970.
    pub released: Option<i64>,
    /// When it really arrived, if that was determined later; seconds since 1970.
    pub arrived: Option<i64>,
    /// Whether a delay notification is due.
    pub late: bool,
    /// Whether it was sent.
    pub warned: bool,
    /// Whether it is excluded from digests.
    pub alone: bool,
    /// The steps of its escalation that have begun, in that order.
    pub steps: Vec<StepState>,
}

impl State {
    /// The state of a message that was never tried.
    pub fn new(envelope: &Envelope) -> Self {
        let waiting = |address: &String| RecipientState {
            address: address.clone(),
            progress: Progress::Waiting,
            text: String::new(),
            told: false,
            doubts: 0,
            asked: false,
        };
        let recipients = envelope.to.iter().map(waiting).collect();
        let (attempts, turns) = (0, 0);
        Self {
            recipients,
            attempts,
            turns,
            held: false,
            released: None,
            arrived: None,
            late: false,
            warned: false,
            alone: false,
            steps: Vec::new(),
        }
    }

    /// Applies a note. Delivered and failed are final, so a note may come twice.
    pub fn apply(&mut self, note: &Note) {
        match note {
            Note::Attempt(attempt) => {
                self.attempts = self.attempts.saturating_add(1);
                self.turns = self.turns.saturating_add(u32::from(!attempt.early));
                for (index, progress, text) in &attempt.results {
                    if let Some(recipient) = self.recipients.get_mut(*index)
                        && recipient.progress == Progress::Waiting
                    {
                        recipient.progress = *progress;
                        recipient.text.clone_from(text);
                    }
                }
                self.hold_doubtful();
            }
            Note::Held(held) => {
                self.held = *held;
                if !held {
                    // When it is released, it is offered one more time, not three times.
                    for recipient in &mut self.recipients {
                        recipient.doubts = recipient.doubts.min(DOUBT_LIMIT - 1);
                        recipient.asked = false;
                    }
                }
            }
            Note::Released(at) => {
                self.apply(&Note::Held(false));
                self.released = Some(*at);
            }
            Note::Doubt(_, of) => {
                let sent = self.named(of.as_deref()).filter(|recipient| recipient.progress == Progress::Waiting);
                sent.for_each(|recipient| recipient.doubts = recipient.doubts.saturating_add(1));
                // In one note, so that no crash can separate them.
                self.hold_doubtful();
            }
            Note::Arrived(at) => self.arrived = Some(*at),
            Note::Late(_) => self.late = true,
            Note::Warned(_) => self.warned = true,
            // It may have been released in the meantime: then the next time is reported again.
            Note::Asked(_, of) => {
                self.named(of.as_deref()).for_each(|recipient| recipient.asked = recipient.is_doubtful());
            }
            Note::Alone(_) => self.alone = true,
            Note::Step(note) => self.step(note),
            Note::Told(_, of) => {
                let failed = self.named(of.as_deref()).filter(|recipient| recipient.progress == Progress::Failed);
                failed.for_each(|recipient| recipient.told = true);
            }
        }
    }

    /// The recipients with these indexes, or all.
    fn named(&mut self, of: Option<&[usize]>) -> impl Iterator<Item = &mut RecipientState> {
        let is_named = move |index: &usize| of.is_none_or(|of| of.contains(index));
        let all = self.recipients.iter_mut().enumerate();
        all.filter(move |(index, _)| is_named(index)).map(|(_, recipient)| recipient)
    }

    /// Holds the message when nothing can be tried any more.
    fn hold_doubtful(&mut self) {
        self.held |= self.is_doubtful() && self.to_try().next().is_none();
    }

    /// The end of a step is final, and a step begins once.
    fn step(&mut self, note: &StepNote) {
        let place = self.steps.iter().position(|step| step.account == note.account).unwrap_or_else(|| {
            let (account, progress) = (note.account.clone(), StepProgress::Begun);
            self.steps.push(StepState { account, progress, begun: note.at, doubts: 0 });
            self.steps.len() - 1
        });
        if let Some(step) = self.steps.get_mut(place).filter(|step| step.is_open()) {
            step.doubts = step.doubts.saturating_add(u32::from(note.progress == StepProgress::Doubtful));
            step.progress = note.progress;
        }
    }

    /// Whether the message counts as taken: a provider took it for a recipient, or a step of its escalation did.
    pub fn is_taken(&self) -> bool {
        self.recipients.iter().any(|recipient| recipient.progress == Progress::Delivered)
            || self.steps.iter().any(|step| step.progress == StepProgress::Taken)
    }

    /// Replays a journal, skipping what is torn.
    pub fn replay(&mut self, journal: &[u8]) {
        Note::read(journal).for_each(|note| self.apply(&note));
    }

    /// How often its whole text was sent with an unknown outcome, for the pending recipient with the most.
    pub fn doubts(&self) -> u32 {
        self.waiting().map(|(_, recipient)| recipient.doubts).max().unwrap_or(0)
    }

    /// Whether a recipient is not tried any more, since it may have got the message several times already.
    pub fn is_doubtful(&self) -> bool {
        self.recipients.iter().any(RecipientState::is_doubtful)
    }

    /// The recipients of which that has yet to be reported, with their index in the envelope.
    pub fn unasked(&self) -> impl Iterator<Item = (usize, &RecipientState)> {
        self.waiting().filter(|(_, recipient)| recipient.is_doubtful() && !recipient.asked)
    }

    /// Whether something has to be reported that was collected for a summary.
    pub fn owes_report(&self) -> bool {
        let is_late = self.late && !self.warned && self.to_try().next().is_some();
        is_late || self.untold().next().is_some() || self.unasked().next().is_some()
    }

    /// Why an uncertain message is held, or not tried for some recipients, and what to do: for display.
    pub fn doubt(&self) -> String {
        let doubtful: Vec<&RecipientState> = self.recipients.iter().filter(|r| r.is_doubtful()).collect();
        let last = doubtful.iter().find(|r| !r.text.is_empty());
        let last = last.map(|r| format!("; last result: {}", r.text)).unwrap_or_default();
        let to = || doubtful.iter().map(|r| r.address.as_str()).collect::<Vec<_>>().join(", ");
        let (what, delete) = match self.to_try().next().is_none() {
            true => ("it is held: it was sent".to_string(), ", or delete it"),
            false => (format!("it is only tried for its other recipients: to {} it was sent", to()), ""),
        };
        format!(
            "{what} {} times, but the provider never clearly confirmed or refused it, so it may have arrived; ask the recipient, then release it (smtprelay queue release) to send it again{delete}{last}",
            self.doubts()
        )
    }

    /// Whether no recipient is pending.
    pub fn is_done(&self) -> bool {
        self.waiting().next().is_none()
    }

    /// The recipients that are pending, with their index in the envelope.
    pub fn waiting(&self) -> impl Iterator<Item = (usize, &RecipientState)> {
        self.recipients.iter().enumerate().filter(|(_, r)| r.progress == Progress::Waiting)
    }

    /// Those of them that are tried.
    pub fn to_try(&self) -> impl Iterator<Item = (usize, &RecipientState)> {
        self.waiting().filter(|(_, recipient)| !recipient.is_doubtful())
    }

    /// The recipients whose failure has not been reported yet, with their index in the envelope.
    pub fn untold(&self) -> impl Iterator<Item = (usize, &RecipientState)> {
        self.recipients.iter().enumerate().filter(|(_, r)| r.progress == Progress::Failed && !r.told)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn state() -> State {
        State::new(&Envelope { from: "a@b.c".into(), to: vec!["d@e.f".into(), "g@h.i".into()], smtputf8: false })
    }

    fn results(results: Vec<(usize, Progress, String)>) -> Note {
        Note::Attempt(Attempt { at: 1, early: false, results })
    }

    fn attempt(index: usize, progress: Progress) -> Note {
        results(vec![(index, progress, "a reply".into())])
    }

    #[test]
    fn a_journal_cut_anywhere_says_what_its_whole_records_say() {
        let (first, second) = (attempt(0, Progress::Delivered).encode(), attempt(1, Progress::Failed).encode());
        let journal = [first.clone(), second].concat();
        for end in 0..=journal.len() {
            let mut state = state();
            state.replay(&journal[..end]);
            // Only the LF at its end may be missing.
            let whole = u32::from(end >= first.len() - 1) + u32::from(end >= journal.len() - 1);
            assert_eq!(state.attempts, whole, "cut at {end}");
        }
    }

    #[test]
    fn attempts_before_their_time_are_counted_apart() {
        let mut state = state();
        for early in [false, true, true, false] {
            let results = vec![(0, Progress::Waiting, "451 later".into())];
            state.replay(&Note::Attempt(Attempt { at: 1, early, results }).encode());
        }
        assert_eq!((state.attempts, state.turns), (4, 2));
    }

    #[test]
    fn nothing_leads_back() {
        let mut state = state();
        for note in [attempt(0, Progress::Delivered), attempt(0, Progress::Failed), attempt(9, Progress::Failed)] {
            state.apply(&note);
        }
        assert_eq!(state.recipients[0].progress, Progress::Delivered);
        assert!(!state.is_done());
    }

    #[test]
    fn told_are_those_who_had_failed_by_then() {
        let mut state = state();
        state.apply(&attempt(0, Progress::Failed));
        assert_eq!(state.untold().map(|(index, _)| index).collect::<Vec<_>>(), [0]);
        state.apply(&Note::Told(2, Some(vec![0, 9])));
        assert_eq!(state.untold().count(), 0);
        state.apply(&attempt(1, Progress::Failed));
        assert_eq!(state.untold().map(|(index, _)| index).collect::<Vec<_>>(), [1]);
        assert!(state.is_done());
    }

    /// The second recipient fails while the summary with the first one is being recorded.
    #[test]
    fn a_report_covers_only_the_recipients_that_it_names() {
        let both = [attempt(0, Progress::Failed), attempt(1, Progress::Failed)].map(|note| note.encode()).concat();
        let untold = |told: &[u8]| {
            let mut state = state();
            state.replay(&[&both, told].concat());
            state.untold().map(|(index, _)| index).collect::<Vec<_>>()
        };
        assert_eq!(untold(&Note::Told(2, Some(vec![0])).encode()), [1]);
        assert_eq!(untold(&Note::Told(2, Some(Vec::new())).encode()), [0, 1]);
        // As earlier versions wrote it.
        let json = "{\"told\":2}";
        assert!(untold(format!("\n{:08x} {json}\n", Checksum::of(json.as_bytes())).as_bytes()).is_empty());
        // What cannot be read does not keep anything from being reported.
        for json in ["{\"told\":[]}", "{\"told\":[2,-1]}", "{\"told\":[2,\"x\"]}", "{\"told\":[\"x\",0]}"] {
            let record = format!("\n{:08x} {json}\n", Checksum::of(json.as_bytes()));
            assert_eq!(untold(record.as_bytes()), [0, 1], "{json}");
        }
    }

    #[test]
    fn doubts_hold_a_message_until_somebody_releases_it_for_one_more_try() {
        let mut state = state();
        for doubts in 1..=DOUBT_LIMIT {
            assert!(!state.held);
            state.apply(&Note::Doubt(1, None));
            assert_eq!((state.doubts(), state.held), (doubts, doubts == DOUBT_LIMIT));
        }
        state.apply(&Note::Released(7));
        assert!(!state.held && !state.is_doubtful() && state.released == Some(7));
        state.apply(&Note::Doubt(2, Some(vec![0, 1])));
        assert!(state.held && state.is_doubtful());
        // It is not an attempt of its own.
        assert_eq!(state.attempts, 0);
    }

    /// The text was sent for the first recipient only; the second one is deferred each time.
    #[test]
    fn doubts_about_one_recipient_do_not_stop_the_others() {
        let to_try = |state: &State| state.to_try().map(|(index, _)| index).collect::<Vec<_>>();
        let mut state = state();
        for doubts in 1..=DOUBT_LIMIT {
            assert_eq!((to_try(&state), state.is_doubtful()), (vec![0, 1], false));
            let tried = [attempt(1, Progress::Waiting), Note::Doubt(1, Some(vec![0, 9]))];
            tried.iter().for_each(|note| state.replay(&note.encode()));
            assert_eq!((state.doubts(), state.held), (doubts, false));
        }
        assert_eq!((to_try(&state), state.is_doubtful()), (vec![1], true));
        assert!(state.doubt().contains("other recipients: to d@e.f it was sent 3 times"), "{}", state.doubt());
        // What has been said about one says nothing about another.
        let unasked = |state: &State| state.unasked().map(|(index, _)| index).collect::<Vec<_>>();
        state.replay(&Note::Asked(2, Some(vec![1])).encode());
        assert_eq!((unasked(&state), state.owes_report()), (vec![0], true));
        state.replay(&Note::Asked(3, Some(vec![0])).encode());
        assert_eq!((unasked(&state), state.owes_report()), (vec![], false));
        // Released, it is offered to both.
        let mut released = state.clone();
        released.replay(&Note::Held(false).encode());
        assert_eq!(to_try(&released), [0, 1]);
        // The other one is finished: now there is nothing to try.
        for end in [Progress::Delivered, Progress::Failed] {
            let mut state = state.clone();
            state.replay(&attempt(1, end).encode());
            assert!(state.held && !state.is_done() && to_try(&state).is_empty());
            assert!(state.doubt().starts_with("it is held: it was sent 3 times"), "{}", state.doubt());
            state.replay(&Note::Held(false).encode());
            assert!(!state.held && to_try(&state) == [0]);
        }
    }

    /// Earlier versions count doubts per message: they ignore `r`, and look for the first other name.
    #[test]
    fn what_names_recipients_can_be_read_by_earlier_versions() {
        for (note, name) in [(Note::Doubt(7, Some(vec![1])), "doubt"), (Note::Asked(7, Some(vec![1])), "asked")] {
            let record = note.encode();
            let value: Value = serde_json::from_slice(&record[10..]).unwrap();
            let first = value.as_object().unwrap().iter().find(|(key, _)| key.as_str() != "r").unwrap();
            assert_eq!((first.0.as_str(), first.1.as_i64()), (name, Some(7)));
            let json = format!("{{\"{name}\":7}}");
            let old = format!("\n{:08x} {json}\n", Checksum::of(json.as_bytes()));
            let all = if name == "doubt" { Note::Doubt(7, None) } else { Note::Asked(7, None) };
            assert!(Note::read(old.as_bytes()).eq([all.clone()]) && all.encode() == old.into_bytes());
        }
    }

    #[test]
    fn what_is_collected_for_a_summary_is_owed_until_it_is_told() {
        let mut state = state();
        let mut after = |notes: &[Note], owes: bool| {
            notes.iter().for_each(|note| state.apply(note));
            assert_eq!(state.owes_report(), owes, "{notes:?}");
        };
        after(&[], false);
        after(&[Note::Late(1)], true);
        after(&[Note::Warned(2)], false);
        after(&[Note::Doubt(3, None), Note::Doubt(4, None)], false);
        after(&[Note::Doubt(5, None)], true);
        after(&[Note::Asked(6, None)], false);
        // Released while the summary was being written, and uncertain again: that is another report.
        after(&[Note::Held(false), Note::Asked(7, None)], false);
        after(&[Note::Doubt(8, None)], true);
        after(&[Note::Asked(9, None), attempt(0, Progress::Failed)], true);
        after(&[Note::Told(10, Some(vec![0]))], false);
    }

    #[test]
    fn the_last_word_of_the_owner_counts() {
        let mut state = state();
        for note in [Note::Held(true), Note::Warned(5), Note::Arrived(6), Note::Arrived(7)] {
            state.apply(&note);
        }
        assert_eq!((state.held, state.warned, state.arrived), (true, true, Some(7)));
        state.apply(&Note::Held(false));
        assert!(!state.held);
    }

    fn step() -> impl Strategy<Value = StepNote> {
        let progress = (0..StepProgress::LETTERS.len()).prop_map(|at| StepProgress::LETTERS[at].0);
        let parts = (any::<i64>(), "\\PC{0,9}", progress, "\\PC*|.*");
        parts.prop_map(|(at, account, progress, text)| StepNote { at, account, progress, text })
    }

    #[test]
    fn a_step_begins_once_and_its_end_is_final() {
        let mut state = state();
        let note = |account: &str, progress| {
            Note::Step(StepNote { at: 1, account: account.into(), progress, text: "x".into() })
        };
        let doubts = [StepProgress::Doubtful; 3].map(|progress| note("b", progress));
        let all = [note("a", StepProgress::Begun), note("a", StepProgress::Failed), note("b", StepProgress::Begun)];
        all.iter().chain(&doubts).for_each(|note| state.replay(&note.encode()));
        state.replay(&note("a", StepProgress::Taken).encode());
        let open: Vec<_> = state.steps.iter().map(|step| (step.account.as_str(), step.is_open())).collect();
        assert_eq!((open, state.is_taken()), (vec![("a", false), ("b", false)], false));
        state.replay(
            &[note("c", StepProgress::Begun), note("c", StepProgress::Taken)].map(|note| note.encode()).concat(),
        );
        assert!(state.is_taken());
    }

    fn of() -> impl Strategy<Value = Option<Vec<usize>>> {
        proptest::option::of(proptest::collection::vec(0usize..300, 0..4))
    }

    fn note() -> impl Strategy<Value = Note> {
        let progress = prop_oneof![Just(Progress::Waiting), Just(Progress::Delivered), Just(Progress::Failed)];
        let result = (0usize..300, progress, "\\PC*|.*");
        let results = proptest::collection::vec(result, 0..4);
        prop_oneof![
            (any::<i64>(), any::<bool>(), results).prop_map(|(at, early, results)| Note::Attempt(Attempt {
                at,
                early,
                results
            })),
            any::<bool>().prop_map(Note::Held),
            any::<i64>().prop_map(Note::Released),
            any::<i64>().prop_map(Note::Arrived),
            any::<i64>().prop_map(Note::Late),
            any::<i64>().prop_map(Note::Warned),
            (any::<i64>(), of()).prop_map(|(at, of)| Note::Asked(at, of)),
            (any::<i64>(), of()).prop_map(|(at, of)| Note::Told(at, of)),
            (any::<i64>(), of()).prop_map(|(at, of)| Note::Doubt(at, of)),
            any::<i64>().prop_map(Note::Alone),
            step().prop_map(Note::Step),
        ]
    }

    #[test]
    fn a_torn_record_hides_nothing_that_follows() {
        let torn =
            Note::Attempt(Attempt { at: 1, early: false, results: vec![(0, Progress::Delivered, "250 ok".into())] })
                .encode();
        let next = Note::Held(true);
        for end in 0..torn.len() - 1 {
            let journal = [&torn[..end], &next.encode()].concat();
            assert!(Note::read(&journal).eq([Note::Held(true)]), "cut at {end}");
        }
    }

    #[test]
    fn only_what_ends_something_lasts() {
        let results = vec![(0, Progress::Waiting, "450 later".into()), (1, Progress::Failed, "550 no".into())];
        let lasting = Note::Attempt(Attempt { at: 1, early: false, results: results.clone() }).lasting();
        assert_eq!(lasting, Some(Note::Attempt(Attempt { at: 1, early: false, results: results[1..].to_vec() })));
        assert_eq!(Note::Attempt(Attempt { at: 1, early: false, results: results[..1].to_vec() }).lasting(), None);
        assert_eq!(Note::Held(false).lasting(), Some(Note::Held(false)));
    }

    proptest! {
        #[test]
        fn journals_read_back(notes in proptest::collection::vec(note(), 0..5)) {
            let journal: Vec<u8> = notes.iter().flat_map(Note::encode).collect();
            prop_assert_eq!(Note::read(&journal).collect::<Vec<_>>(), notes);
        }

        #[test]
        fn whatever_a_disk_makes_of_the_end_the_rest_stands(
            first in note(), torn in note(), last in note(), cut in any::<prop::sample::Index>(), zeros in 0usize..40
        ) {
            let part = torn.encode();
            let part = &part[..cut.index(part.len() - 1)];
            let journal = [&first.encode(), part, &vec![0; zeros], &last.encode()].concat();
            prop_assert_eq!(Note::read(&journal).collect::<Vec<_>>(), [first, last]);
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            Note::read(&bytes).for_each(drop);
        }
    }
}
