//! What the wire takes: seven bits (RFC 5322 section 2.2) and short lines (section 2.1.1).

use super::draft::Draft;
use super::notes;
use crate::message::encoded::fold::longest_line;
use crate::message::encoded::short::{LINE_LIMIT, short};
use crate::message::encoded::{decode, field_value, unstructured};

/// Encodes text beyond ASCII. With `utf8` (the client speaks SMTPUTF8) valid UTF-8 stays (RFC 6532).
pub fn seven_bits(draft: &mut Draft<'_>, utf8: bool) {
    let mut encoded = false;
    for entry in &mut draft.entries {
        if entry.value.is_ascii() || utf8 && std::str::from_utf8(&entry.value).is_ok() {
            continue;
        }
        encoded = true;
        entry.value = match field_value(&entry.name, &entry.value, usize::MAX) {
            Ok(value) => value,
            // With SMTPUTF8 an address may be beyond ASCII, but in UTF-8. Without, no such address came this far.
            Err(_) if utf8 => decode(&entry.value).into_owned().into_bytes(),
            Err(_) => unstructured(entry.name.len() + 1, &entry.value, usize::MAX),
        }
        .into();
    }
    if encoded {
        draft.note(notes::EIGHT_BIT_HEADER);
    }
}

/// Folds lines over 998 bytes: before blanks if that is enough, else by encoding long words.
pub fn short_lines(draft: &mut Draft<'_>) {
    let mut folded = false;
    for entry in &mut draft.entries {
        let column = entry.name.len() + 1;
        if longest_line(column, &entry.value) > LINE_LIMIT {
            folded = true;
            entry.value = short(&entry.name, &entry.value).into();
        }
    }
    if folded {
        draft.note(notes::LONG_HEADER_LINES);
    }
}
