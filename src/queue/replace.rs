// SPDX-License-Identifier: Apache-2.0
//! A digest replaces the messages that are in it.
//!
//! The order makes this safe. First all mails of the digest are committed, the one that says so last. If one of the
//! messages is in safe storage, the mails of the digest are moved there too. Then the messages are removed, and only
//! after that the digest is sent. So if this is interrupted, the next start finds the messages, or a complete digest
//! that names them; it then continues where this one stopped. Nothing is lost, and nothing is sent twice.

use std::collections::BTreeSet;

use super::disk::Removed;
use super::entry::{Entry, MessageId, Place, SpoolError};
use super::owed::Debt;
use super::record::{Meta, Replaces};
use super::spool::Spool;

/// How many messages could not be removed, with the reason of the first; `None` when all were.
pub type Unremoved = Option<(usize, SpoolError)>;

/// The digests that an earlier run left, as they are found while the queue is read.
#[derive(Debug, Default)]
pub struct Replacements(Vec<(MessageId, Replaces)>);

/// What is to be done about them.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Sorted {
    /// Last mails of digests, which must not be sent before the messages that are in them are gone.
    pub last: BTreeSet<MessageId>,
    /// The further mails of these digests.
    pub further: BTreeSet<MessageId>,
    /// Messages that are in one of them and are to be removed.
    pub replaced: BTreeSet<MessageId>,
    /// Messages that one of them lists as sent separately.
    pub alone: BTreeSet<MessageId>,
    /// Mails of digests that were never completed, to be removed: the messages in them still exist.
    pub torn: BTreeSet<MessageId>,
}

impl Replacements {
    /// Registers a message that was found.
    pub fn found(&mut self, id: MessageId, meta: &Meta) {
        self.0.extend(meta.marks.replaces.clone().map(|replaces| (id, replaces)));
    }

    /// Determines what is to be done, when all messages have been read; `is_there` knows their IDs.
    pub fn sort(&self, is_there: impl Fn(&MessageId) -> bool) -> Sorted {
        let mut sorted = Sorted::default();
        for (id, replaces) in self.0.iter().filter(|(_, replaces)| replaces.last) {
            let there = |ids: &[MessageId]| ids.iter().copied().filter(&is_there).collect::<Vec<_>>();
            let (replaced, alone) = (there(&replaces.of), there(&replaces.alone));
            if !(replaced.is_empty() && alone.is_empty()) {
                sorted.last.insert(*id);
            }
            sorted.replaced.extend(replaced);
            sorted.alone.extend(alone);
        }
        for (id, replaces) in self.0.iter().filter(|(_, replaces)| !replaces.last) {
            // Nothing is removed before a digest is complete. If only some exist, the others could not be removed, and
            // this mail may be all that is left of them.
            if replaces.of.iter().all(|of| is_there(of) && !sorted.replaced.contains(of)) {
                sorted.torn.insert(*id);
            } else if replaces.of.iter().any(|of| sorted.replaced.contains(of)) {
                sorted.further.insert(*id);
            }
        }
        sorted
    }
}

impl Spool {
    /// Removes `messages`, which are replaced by digests: their `further` mails, and the `last` one of each. Blocks.
    /// Returns the mails with their current place, in this order, and how many messages could not be removed, with the
    /// reason of the first: this is retried.
    ///
    /// # Errors
    /// When the digest cannot be moved to where the messages are safe; then none of them was removed.
    pub fn replace(
        &self,
        messages: &[Entry],
        further: Vec<Entry>,
        last: Vec<Entry>,
    ) -> Result<(Vec<Entry>, Unremoved), SpoolError> {
        let in_safety = messages.iter().any(|message| self.place_of(message) == Place::Safe);
        let mut mails = Vec::with_capacity(further.len() + last.len());
        for piece in [further, last] {
            if !in_safety {
                mails.extend(piece);
                continue;
            }
            // The last ones when the others exist.
            for (entry, error) in self.move_to_safe(piece) {
                if let Some(error) = error {
                    return Err(error);
                }
                mails.push(entry);
            }
        }
        Ok((mails, self.remove_all(messages)))
    }

    /// Removes many messages from the queue, with one sync of each directory for all. Returns how many could not be
    /// removed, and why the first of them: they would come back at the next start.
    fn remove_all(&self, entries: &[Entry]) -> Unremoved {
        let _still = self.nothing_moves();
        let mut failed: Unremoved = None;
        let mut fail = |count: usize, error: SpoolError| {
            failed = Some(match failed.take() {
                Some((before, first)) => (before.saturating_add(count), first),
                None => (count, error),
            });
        };
        let is_copied = |entry: &&Entry| self.safe.as_ref().is_some_and(|safe| safe.file(entry.id).exists());
        let (copied, others): (Vec<&Entry>, Vec<&Entry>) = entries.iter().partition(is_copied);
        // First what a move may have left behind, as for a single message.
        let mut rounds = vec![(&self.spool, &copied, None), (&self.spool, &others, Some(Place::Spool))];
        rounds.extend(self.safe.as_ref().map(|safe| (safe, &copied, Some(Place::Safe))));
        for (directory, entries, book) in rounds {
            let mut removed = Removed::from(&self.disk, &directory.queue);
            for entry in entries {
                let gone = self.remove_from(directory, entry.id, false, book);
                if book.is_some() && gone.is_ok() {
                    self.give_back(entry);
                }
                match gone {
                    Ok(Some(blocks)) => removed.add(blocks),
                    Ok(None) if book.is_some() => self.book_gone(entry.place, entry.size),
                    Ok(None) => {}
                    Err(error) => {
                        self.owe(entry, Debt::Gone, &error);
                        fail(1, error);
                    }
                }
            }
            let sync = directory.sync || book.is_none();
            let count = removed.count;
            if count > 0
                && sync
                && let Err(error) = removed.sync()
            {
                fail(count, error.into());
            }
        }
        failed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: usize) -> MessageId {
        format!("{n:010}").parse().unwrap()
    }

    fn ids(all: &[usize]) -> BTreeSet<MessageId> {
        all.iter().map(|n| id(*n)).collect()
    }

    fn mail(of: &[usize], alone: &[usize], last: bool) -> Replaces {
        let all = |all: &[usize]| all.iter().map(|n| id(*n)).collect();
        Replaces { of: all(of), alone: all(alone), last }
    }

    #[test]
    fn what_an_earlier_run_left_is_sorted() {
        let found = Replacements(vec![
            // Complete, and some of its messages are left.
            (id(100), mail(&[2], &[], false)),
            (id(101), mail(&[1, 2, 3], &[4], true)),
            // Interrupted before its last mail.
            (id(102), mail(&[5], &[], false)),
            // Complete long ago: its last mail has been sent.
            (id(103), mail(&[6], &[], false)),
            // The same, but a message that is in it could not be removed.
            (id(105), mail(&[6, 5], &[], false)),
            // Complete, nothing left to do.
            (id(104), mail(&[7, 8], &[9], true)),
        ]);
        let there = ids(&[2, 3, 4, 5]);
        let expected = Sorted {
            last: ids(&[101]),
            further: ids(&[100]),
            replaced: ids(&[2, 3]),
            alone: ids(&[4]),
            torn: ids(&[102]),
        };
        assert_eq!(found.sort(|id| there.contains(id)), expected);
    }
}
