//! What the wire takes: seven bits (RFC 5322 section 2.2) and short lines (section 2.1.1).

use super::body::LINE_LIMIT;
use super::draft::{Draft, Entry};
use super::notes;
use crate::message::address::list::{Mailbox, mailboxes};
use crate::message::encoded::fold::{fold, longest_line, unfold};
use crate::message::encoded::parameters::rebuild;
use crate::message::encoded::{ADDRESS_FIELDS, PARAMETER_FIELDS, decode, field_value, structured, unstructured};

/// Bytes of a word that can stay whole on a line beside the longest field name.
const WORD_LIMIT: usize = 700;
/// Bytes of a word that stays whole when all else failed.
const SHORT_WORD_LIMIT: usize = 60;

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
            entry.value = short(entry, column).into();
        }
    }
    if folded {
        draft.note(notes::LONG_HEADER_LINES);
    }
}

fn short(entry: &Entry<'_>, column: usize) -> Vec<u8> {
    let is_one_of = |names: &[&str]| names.iter().any(|name| entry.is(name));
    let fits = |value: &Vec<u8>| longest_line(column, value) <= LINE_LIMIT;
    let line = unfold(&entry.value);
    let blanks = || Some(fold(column, &line));
    let commas = || is_one_of(&ADDRESS_FIELDS).then(|| fold(column, &spaced(&line)));
    let words = || field_value(&entry.name, &line, WORD_LIMIT).ok();
    let anew = || {
        if is_one_of(&ADDRESS_FIELDS) {
            let list = mailboxes(&line).iter().map(Mailbox::write).collect::<Vec<_>>().join(&b", "[..]);
            structured(column, &[b" ", list.as_slice()].concat(), SHORT_WORD_LIMIT).ok()
        } else {
            is_one_of(&PARAMETER_FIELDS).then(|| rebuild(&line))
        }
    };
    let steps: [&dyn Fn() -> Option<Vec<u8>>; 4] = [&blanks, &commas, &words, &anew];
    let short = steps.iter().find_map(|step| step().filter(fits));
    short.unwrap_or_else(|| unstructured(column, &line, SHORT_WORD_LIMIT))
}

/// A list with a blank after each comma.
fn spaced(list: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(list.len() * 2);
    for token in crate::message::address::tokens::tokens(list) {
        out.extend_from_slice(token.text);
        if token.is(b',') {
            out.push(b' ');
        }
    }
    out
}
