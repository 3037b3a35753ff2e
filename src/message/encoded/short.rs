//! Header fields whose lines are too long (RFC 5322 section 2.1.1).

use super::fold::{fold, unfold};
use super::parameters::rebuild;
use super::{ADDRESS_FIELDS, PARAMETER_FIELDS, field_value, structured, unstructured};
use crate::message::address::list::{Mailbox, mailboxes};
use crate::message::address::tokens::tokens;

/// Bytes of the longest line that mail may have, without its end.
pub const LINE_LIMIT: usize = 998;
/// Bytes of a word that can stay whole on a line beside the longest field name.
const WORD_LIMIT: usize = 700;
/// Bytes of a word that stays whole when all else failed.
const SHORT_WORD_LIMIT: usize = 60;

/// The value of the field `name` in lines that fit: folded before blanks if that is enough, else with long words encoded.
pub fn short(name: &[u8], value: &[u8]) -> Vec<u8> {
    let column = name.len() + 1;
    let is_one_of = |names: &[&str]| names.iter().any(|one| name.eq_ignore_ascii_case(one.as_bytes()));
    let fits = |value: &Vec<u8>| super::fold::longest_line(column, value) <= LINE_LIMIT;
    let line = unfold(value);
    let blanks = || Some(fold(column, &line));
    let commas = || is_one_of(&ADDRESS_FIELDS).then(|| fold(column, &spaced(&line)));
    let words = || field_value(name, &line, WORD_LIMIT).ok();
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
    for token in tokens(list) {
        out.extend_from_slice(token.text);
        if token.is(b',') {
            out.push(b' ');
        }
    }
    out
}
