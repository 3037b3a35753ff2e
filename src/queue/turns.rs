//! Messages that take turns by client: each client that has some is served once in a round, its oldest message first.
//!
//! All of it is one ordered set, so that a client costs nothing beside its messages, and each step takes the same time
//! however many messages and clients there are (to the logarithm).

use std::collections::BTreeSet;
use std::ops::Bound;

use super::client::Client;
use super::id::MessageId;

/// The place of a message: whose it is; how often the account fell into trouble over it; its order of age, which is the
/// second of its arrival, and within that the order in which this run saw it, in nanoseconds.
pub(super) type Turn = (Client, u32, i64, u64, MessageId);

/// Messages in turns.
#[derive(Debug, Default)]
pub(super) struct Turns {
    set: BTreeSet<Turn>,
    /// Who was served last.
    last: Option<Client>,
}

impl Turns {
    pub(super) fn insert(&mut self, turn: Turn) {
        self.set.insert(turn);
    }

    /// True when it was there.
    pub(super) fn remove(&mut self, turn: &Turn) -> bool {
        self.set.remove(turn)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.set.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.set.len()
    }

    /// All messages, leaving none.
    pub(super) fn take_all(&mut self) -> BTreeSet<Turn> {
        std::mem::take(&mut self.set)
    }

    /// The oldest message of a client.
    pub(super) fn first_of(&self, client: Client) -> Option<Turn> {
        let first = (client, 0, i64::MIN, 0, MessageId::FIRST);
        self.set.range(first..).next().copied().filter(|(of, ..)| *of == client)
    }

    /// Takes out the message whose turn it is.
    pub(super) fn take(&mut self) -> Option<Turn> {
        let behind =
            |client| (Bound::Excluded((client, u32::MAX, i64::MAX, u64::MAX, MessageId::LAST)), Bound::Unbounded);
        let next = self.last.and_then(|client| self.set.range(behind(client)).next().copied());
        let turn = next.or_else(|| self.set.first().copied())?;
        self.set.remove(&turn);
        self.last = Some(turn.0);
        Some(turn)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(n: u8) -> Client {
        Client::V4([10, 0, 0, n])
    }

    #[test]
    fn clients_take_turns_and_each_sends_its_oldest_first() {
        let mut turns = Turns::default();
        for (n, arrived) in [(1, 5), (1, 3), (1, 4), (2, 9), (3, 7), (3, 8)] {
            turns.insert((client(n), 0, arrived, 0, MessageId::FIRST));
        }
        assert_eq!(turns.first_of(client(1)).map(|turn| turn.2), Some(3));
        assert_eq!(turns.first_of(client(4)), None);
        let order: Vec<i64> = std::iter::from_fn(|| turns.take().map(|turn| turn.2)).collect();
        assert_eq!(order, [3, 9, 7, 4, 8, 5]);
        // Who comes anew waits one round at most, whoever was served before.
        turns.insert((client(3), 0, 1, 0, MessageId::FIRST));
        turns.insert((client(3), 0, 2, 0, MessageId::FIRST));
        assert_eq!(turns.take().map(|turn| turn.0), Some(client(3)));
        turns.insert((client(1), 0, 9, 0, MessageId::FIRST));
        assert_eq!(turns.take().map(|turn| turn.0), Some(client(1)));
        assert_eq!(turns.len(), 1);
    }
}
