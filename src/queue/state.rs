// SPDX-License-Identifier: Apache-2.0
//! The state of a message: the sum of its journal.

use super::journal::{Note, Progress};
use crate::message::Envelope;

/// How often a message is offered with an unknown outcome: each time may be a copy. Then it
/// is held, and the administrator has to decide.
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
    /// Whether it is on hold, by the administrator or by the gateway after too many uncertain attempts.
    pub held: bool,
    /// How often its whole text was sent with an unknown outcome.
    pub doubts: u32,
    /// When it really arrived, if that was determined later; seconds since 1970.
    pub arrived: Option<i64>,
    /// Whether a delay notification was sent.
    pub warned: bool,
    /// Whether it is excluded from digests.
    pub alone: bool,
}

impl State {
    /// The state of a message that was never tried.
    pub fn new(envelope: &Envelope) -> Self {
        let waiting = |address: &String| RecipientState {
            address: address.clone(),
            progress: Progress::Waiting,
            text: String::new(),
            told: false,
        };
        let recipients = envelope.to.iter().map(waiting).collect();
        let (attempts, turns, doubts) = (0, 0, 0);
        Self { recipients, attempts, turns, held: false, doubts, arrived: None, warned: false, alone: false }
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
            }
            Note::Held(held) => {
                self.held = *held;
                if !held {
                    // When it is released, it is offered one more time, not three times.
                    self.doubts = self.doubts.min(DOUBT_LIMIT - 1);
                }
            }
            Note::Doubt(_) => {
                self.doubts = self.doubts.saturating_add(1);
                // In one note, so that no crash can separate them.
                self.held |= self.is_doubtful();
            }
            Note::Arrived(at) => self.arrived = Some(*at),
            Note::Warned(_) => self.warned = true,
            Note::Alone(_) => self.alone = true,
            Note::Told(_) => {
                let failed = self.recipients.iter_mut().filter(|r| r.progress == Progress::Failed);
                failed.for_each(|recipient| recipient.told = true);
            }
        }
    }

    /// Replays a journal, skipping what is torn.
    pub fn replay(&mut self, journal: &[u8]) {
        Note::read(journal).for_each(|note| self.apply(&note));
    }

    /// Whether it is not offered any more, since it may have arrived several times already.
    pub fn is_doubtful(&self) -> bool {
        self.doubts >= DOUBT_LIMIT
    }

    /// Why an uncertain message is held, and what to do: for display.
    pub fn doubt(&self) -> String {
        let waiting = |r: &&RecipientState| r.progress == Progress::Waiting && !r.text.is_empty();
        let last =
            self.recipients.iter().find(waiting).map(|r| format!("; last result: {}", r.text)).unwrap_or_default();
        format!(
            "it is held: it was sent {} times, but the provider never clearly confirmed or refused it, so it may have arrived; ask the recipient, then release it (smtprelay queue release) to send it again, or delete it{last}",
            self.doubts
        )
    }

    /// Whether no recipient is pending.
    pub fn is_done(&self) -> bool {
        self.recipients.iter().all(|r| r.progress != Progress::Waiting)
    }

    /// The recipients whose failure has not been reported yet, with their index in the envelope.
    pub fn untold(&self) -> impl Iterator<Item = (usize, &RecipientState)> {
        self.recipients.iter().enumerate().filter(|(_, r)| r.progress == Progress::Failed && !r.told)
    }
}

#[cfg(test)]
mod tests {
    use super::super::journal::Attempt;
    use super::*;

    fn state() -> State {
        State::new(&Envelope { from: "a@b.c".into(), to: vec!["d@e.f".into(), "g@h.i".into()], smtputf8: false })
    }

    fn attempt(index: usize, progress: Progress) -> Note {
        Note::Attempt(Attempt { at: 1, early: false, results: vec![(index, progress, "a reply".into())] })
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
        state.apply(&Note::Told(2));
        assert_eq!(state.untold().count(), 0);
        state.apply(&attempt(1, Progress::Failed));
        assert_eq!(state.untold().map(|(index, _)| index).collect::<Vec<_>>(), [1]);
        assert!(state.is_done());
    }

    #[test]
    fn doubts_hold_a_message_until_somebody_releases_it_for_one_more_try() {
        let mut state = state();
        for doubts in 1..=DOUBT_LIMIT {
            assert!(!state.held);
            state.apply(&Note::Doubt(1));
            assert_eq!((state.doubts, state.held), (doubts, doubts == DOUBT_LIMIT));
        }
        state.apply(&Note::Held(false));
        assert!(!state.held && !state.is_doubtful());
        state.apply(&Note::Doubt(2));
        assert!(state.held && state.is_doubtful());
        // It is not an attempt of its own.
        assert_eq!(state.attempts, 0);
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
}
