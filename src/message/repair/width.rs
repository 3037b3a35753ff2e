// SPDX-License-Identifier: Apache-2.0
//! What SMTP can carry: 7 bits (RFC 5322 section 2.2) and short lines (section 2.1.1).

use super::draft::HeaderDraft;
use super::notes;
use crate::message::encoded::charset::UTF_8;
use crate::message::encoded::fold::longest_line;
use crate::message::encoded::short::{LINE_LIMIT, shortened};
use crate::message::encoded::{Style, field_value, unstructured};

/// Encodes non-ASCII text. With `utf8` (the client uses SMTPUTF8) UTF-8 stays (RFC 6532).
pub fn seven_bits(draft: &mut HeaderDraft<'_>, utf8: bool) {
    let mut encoded = false;
    for entry in &mut draft.entries {
        if entry.value.is_ascii() || utf8 && entry.charset.is_none() {
            continue;
        }
        encoded = true;
        let label = entry.charset.map_or(UTF_8, |charset| charset.name);
        let style = Style { word_limit: usize::MAX, label };
        let value = match field_value(&entry.name, &entry.value, style) {
            Ok(value) => value,
            // With SMTPUTF8 an address may be non-ASCII. Without it, no such address gets this far.
            Err(_) if utf8 && label == UTF_8 => entry.value.to_vec(),
            Err(_) => unstructured(entry.name.len() + 1, &entry.value, style),
        };
        (entry.value, entry.charset) = (value.into(), None);
    }
    if encoded {
        draft.note(notes::EIGHT_BIT_HEADER);
    }
}

/// Folds lines over 998 bytes: before spaces if that is enough, else by encoding long words.
pub fn short_lines(draft: &mut HeaderDraft<'_>) {
    let mut folded = false;
    for entry in &mut draft.entries {
        let column = entry.name.len() + 1;
        if longest_line(column, &entry.value) > LINE_LIMIT {
            folded = true;
            let (name, value) = shortened(&entry.name, &entry.value);
            let name = name.into_owned();
            (entry.name, entry.value) = (name.into(), value.into());
        }
    }
    if folded {
        draft.note(notes::LONG_HEADER_LINES);
    }
}
