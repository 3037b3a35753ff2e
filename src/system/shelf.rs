// SPDX-License-Identifier: Apache-2.0
//! Records with texts, of which the oldest are dropped sooner or later: results and lines of the log.
//!
//! All texts stand one after another in one piece of memory. With an allocation for each, the few hundred that remain of a
//! busy hour would lie between what was freed since, and keep all of these pages from going back to the system.

use std::collections::VecDeque;
use std::fmt;

/// Bytes by which the memory for texts grows, and that texts which are gone may leave in it.
const STEP: usize = 4096;

/// At most `MOST` records, oldest first, each with a text; the caller drops what is too much.
#[derive(Clone)]
pub struct Shelf<T, const MOST: usize> {
    rows: VecDeque<Row<T>>,
    /// First those of rows that are gone, then those that are there, in their order.
    texts: String,
}

#[derive(Clone)]
struct Row<T> {
    record: T,
    /// Where its text begins.
    begin: u32,
    length: u32,
}

impl<T, const MOST: usize> Shelf<T, MOST> {
    /// Nothing, which takes no memory.
    pub const fn new() -> Self {
        Self { rows: VecDeque::new(), texts: String::new() }
    }

    /// The number of records.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Bytes of all texts.
    pub fn text_size(&self) -> usize {
        self.texts.len().saturating_sub(self.gap())
    }

    /// Bytes of memory that it takes.
    pub fn memory(&self) -> usize {
        self.rows.capacity() * size_of::<Row<T>>() + self.texts.capacity()
    }

    /// The records with their texts, oldest first.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (&T, &str)> {
        self.rows.iter().map(|row| (&row.record, self.text(row)))
    }

    /// The newest record.
    pub fn last(&self) -> Option<(&T, &str)> {
        self.rows.back().map(|row| (&row.record, self.text(row)))
    }

    /// The newest record.
    pub fn last_mut(&mut self) -> Option<&mut T> {
        self.rows.back_mut().map(|row| &mut row.record)
    }

    /// Adds a record; its text is that of all `parts` together.
    pub fn push(&mut self, record: T, parts: &[&str]) {
        let length = parts.iter().map(|part| part.len()).sum();
        let count = self.rows.len();
        if count == self.rows.capacity() {
            // Doubling would end far above the bound.
            self.rows.reserve_exact(count.max(8).min((MOST + 1).saturating_sub(count).max(1)));
        }
        if self.texts.capacity() - self.texts.len() < length {
            if self.gap() >= STEP {
                self.close_gap();
            }
            if self.texts.capacity() - self.texts.len() < length {
                self.texts.reserve_exact(length.next_multiple_of(STEP));
            }
        }
        let begin = self.texts.len();
        parts.iter().for_each(|part| self.texts.push_str(part));
        // A text of 4 GB would be lost.
        self.rows.push_back(Row { record, begin: short(begin), length: short(length) });
    }

    /// Drops the record at this place.
    pub fn remove(&mut self, place: usize) {
        let Some(row) = self.rows.remove(place) else { return };
        if place > 0 {
            self.cut(row.begin, row.length);
            let later = self.rows.iter_mut().skip(place);
            later.for_each(|later| later.begin = later.begin.saturating_sub(row.length));
        }
        if self.rows.is_empty() {
            self.texts.clear();
        }
    }

    /// Keeps those records for which `wanted` says so.
    pub fn retain(&mut self, wanted: impl Fn(&T, &str) -> bool) {
        let mut place = 0;
        while let Some(row) = self.rows.get(place) {
            match wanted(&row.record, self.text(row)) {
                true => place += 1,
                false => self.remove(place),
            }
        }
    }

    fn text(&self, row: &Row<T>) -> &str {
        let rest = self.texts.get(row.begin as usize..).unwrap_or_default();
        rest.get(..row.length as usize).unwrap_or_default()
    }

    /// Bytes of texts that are gone.
    fn gap(&self) -> usize {
        self.rows.front().map_or(0, |row| row.begin as usize)
    }

    fn close_gap(&mut self) {
        let gap = short(self.gap());
        self.cut(0, gap);
        self.rows.iter_mut().for_each(|row| row.begin = row.begin.saturating_sub(gap));
    }

    /// Drops bytes of the texts, which are whole ones.
    fn cut(&mut self, begin: u32, length: u32) {
        let (begin, end) = (begin as usize, begin.saturating_add(length) as usize);
        if self.texts.is_char_boundary(begin) && self.texts.is_char_boundary(end) {
            self.texts.replace_range(begin..end, "");
        }
    }
}

fn short(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

impl<T, const MOST: usize> Default for Shelf<T, MOST> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T: PartialEq, const MOST: usize> PartialEq for Shelf<T, MOST> {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl<T: Eq, const MOST: usize> Eq for Shelf<T, MOST> {}

impl<T: fmt::Debug, const MOST: usize> fmt::Debug for Shelf<T, MOST> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_list().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn memory_is_that_of_what_is_kept_and_little_more() {
        let mut shelf: Shelf<u64, 100> = Shelf::new();
        let text = "x".repeat(99);
        for number in 0..10_000 {
            shelf.push(number, &[&text, "é"]);
            if shelf.len() > 100 {
                shelf.remove(0);
            }
        }
        assert_eq!((shelf.len(), shelf.text_size()), (100, 100 * 101));
        assert!(shelf.memory() <= 101 * 16 + 100 * 101 + 2 * STEP + 101, "{} bytes", shelf.memory());
        assert!(shelf.iter().map(|(number, _)| *number).eq(9_900..10_000));
        assert!(shelf.iter().all(|(_, kept)| kept == format!("{text}é")));
        assert_eq!(shelf.last().map(|(number, _)| *number), Some(9_999));
    }

    #[derive(Debug, Clone)]
    enum Step {
        Push(String, usize),
        Remove(usize),
        Retain(char),
    }

    proptest! {
        /// It holds what a list of texts would.
        #[test]
        fn it_is_a_list(steps in proptest::collection::vec(prop_oneof![
            ("[aé€x]{0,9}", 1..300_usize).prop_map(|(text, times)| Step::Push(text, times)),
            prop_oneof![Just(0), 0..9_usize].prop_map(Step::Remove),
            "[aé€]".prop_map(|text| Step::Retain(text.chars().next().unwrap())),
        ], 0..80)) {
            let (mut shelf, mut list) = (Shelf::<usize, 8>::new(), Vec::new());
            for (number, step) in steps.into_iter().enumerate() {
                match step {
                    Step::Push(text, times) => {
                        let text = text.repeat(times);
                        shelf.push(number, &[&text, "|", "é"]);
                        list.push((number, text + "|é"));
                    }
                    Step::Remove(place) => {
                        shelf.remove(place);
                        if place < list.len() {
                            list.remove(place);
                        }
                    }
                    Step::Retain(letter) => {
                        shelf.retain(|_, text| !text.starts_with(letter));
                        list.retain(|(_, text)| !text.starts_with(letter));
                    }
                }
                prop_assert!(shelf.iter().eq(list.iter().map(|(number, text)| (number, &**text))));
                prop_assert!(shelf.iter().rev().eq(list.iter().rev().map(|(number, text)| (number, &**text))));
                prop_assert_eq!(shelf.text_size(), list.iter().map(|(_, text)| text.len()).sum::<usize>());
                prop_assert_eq!((shelf.len(), shelf.is_empty()), (list.len(), list.is_empty()));
            }
        }
    }
}
