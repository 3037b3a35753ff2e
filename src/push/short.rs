// SPDX-License-Identifier: Apache-2.0
//! Texts that are no longer than a service accepts.

use std::borrow::Cow;

/// What follows a text of which the end is missing.
const HINT: &str = "\n[shortened]";

/// The unit in which a service limits texts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Unit {
    /// Characters, counted as UTF-16 does: where a service counts whole characters, this is never more.
    #[default]
    Characters,
    /// Bytes of UTF-8.
    Bytes,
}

impl Unit {
    fn of(self, c: char) -> usize {
        match self {
            Self::Characters => c.len_utf16(),
            Self::Bytes => c.len_utf8(),
        }
    }

    fn length(self, text: &str) -> usize {
        text.chars().map(|c| self.of(c)).sum()
    }
}

/// The beginning of `text` that is at most `limit` units long.
fn beginning(text: &str, limit: usize, unit: Unit) -> &str {
    let mut length = 0;
    let end = text.char_indices().find(|(_, c)| {
        length += unit.of(*c);
        length > limit
    });
    end.and_then(|(at, _)| text.get(..at)).unwrap_or(text)
}

/// `text` with at most `limit` units. If its end is missing, which it also is where there is `more`, a last line says
/// so.
pub fn shortened(text: &str, limit: usize, unit: Unit, more: bool) -> Cow<'_, str> {
    let room = limit.saturating_sub(unit.length(HINT));
    match unit.length(text) {
        length if length <= limit && !more => Cow::Borrowed(text),
        length if length <= room => Cow::Owned(format!("{text}{HINT}")),
        _ => Cow::Owned(format!("{}{HINT}", beginning(text, room, unit).trim_end())),
    }
}

/// `text` as a title of at most `limit` units, with `…` where its end is missing.
pub fn title(text: &str, limit: usize, unit: Unit) -> Cow<'_, str> {
    match unit.length(text) <= limit {
        true => Cow::Borrowed(text),
        false => Cow::Owned(format!("{}…", beginning(text, limit.saturating_sub(unit.length("…")), unit))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_fits_is_not_touched_and_the_rest_says_that_it_is_missing() {
        let c = Unit::Characters;
        assert_eq!(shortened("Motion at gate", 14, c, false), "Motion at gate");
        assert_eq!(shortened("Motion", 100, c, true), "Motion\n[shortened]");
        assert_eq!(shortened("Motion at the gate", 17, c, false), "Motio\n[shortened]");
        assert_eq!(title("Störung", 7, c), "Störung");
        assert_eq!(title("Störung", 7, Unit::Bytes), "Stö…");
        // Each of these counts as two characters where UTF-16 is counted.
        assert_eq!(title("🔥🔥🔥", 5, c), "🔥🔥…");
    }

    proptest! {
        #[test]
        fn no_text_is_longer_than_the_service_accepts(text in ".{0,200}", limit in 20usize..120, bytes: bool, more: bool) {
            let unit = if bytes { Unit::Bytes } else { Unit::Characters };
            let short = shortened(&text, limit, unit, more);
            prop_assert!(unit.length(&short) <= limit);
            prop_assert!(*short == *text || short.ends_with(HINT));
            prop_assert!(unit.length(&title(&text, limit, unit)) <= limit);
        }
    }
}
