// SPDX-License-Identifier: Apache-2.0
//! When a message was written and its identifier: Date and Message-ID (RFC 5322 sections 3.6.1 and 3.6.4).

use super::body::LINE_LIMIT;
use super::draft::HeaderDraft;
use super::notes;
use crate::message::Facts;
use crate::message::address::tokens::tokens;
use crate::message::date::{is_date, rfc5322, with_right_weekday};
use crate::message::encoded::fold::longest_line;
use crate::message::received::{host, safe};

/// Maximum length of a Message-ID that is kept: it cannot be folded.
const MESSAGE_ID_LIMIT: usize = 900;

/// Adds Date and Message-ID, or replaces unusable ones; the old value is kept under another field name.
pub fn repair(draft: &mut HeaderDraft<'_>, facts: &Facts<'_>) {
    let usable = |value: &[u8]| is_date(value) && longest_line(5, value) <= LINE_LIMIT;
    if let Some(right) = draft.value("Date").and_then(with_right_weekday) {
        draft.set("Date", right.trim_ascii());
        draft.note(notes::WEEKDAY);
    }
    if let Some(at) = draft.find("Date").filter(|_| !draft.value("Date").is_some_and(usable)) {
        draft.set_aside(at);
        draft.set("Date", rfc5322(facts.now).as_bytes());
        draft.dated = true;
        draft.note(notes::DATE_REPLACED);
    } else if draft.find("Date").is_none() {
        draft.set("Date", rfc5322(facts.now).as_bytes());
        draft.dated = true;
        draft.note(notes::DATE_ADDED);
    }
    let utf8 =
        facts.envelope.smtputf8 && draft.find("Message-ID").and_then(|at| draft.entries.get(at)?.charset).is_none();
    let usable = |value: &[u8]| is_message_id(value) && (utf8 || value.is_ascii());
    // Unique, since the message ID in the queue is unique at its time.
    let new = format!("<{}.{}@{}>", safe(facts.id, "message"), facts.now.max(0), host(facts.hostname));
    if let Some(at) = draft.find("Message-ID").filter(|_| !draft.value("Message-ID").is_some_and(usable)) {
        draft.set_aside(at);
        draft.set("Message-ID", new.as_bytes());
        draft.note(notes::MESSAGE_ID_REPLACED);
    } else if draft.find("Message-ID").is_none() {
        draft.set("Message-ID", new.as_bytes());
        draft.note(notes::MESSAGE_ID_ADDED);
    }
}

/// Whether `value` is `<…@…>` and nothing else except comments. The content may be more unusual than RFC 5322 allows:
/// it is compared, never parsed.
pub fn is_message_id(value: &[u8]) -> bool {
    let mut parts = tokens(value).skip_while(|token| token.is_filling());
    if !parts.next().is_some_and(|token| token.is(b'<')) {
        return false;
    }
    let mut id = Vec::new();
    let closed = parts.by_ref().any(|token| {
        let end = token.is(b'>');
        if !end {
            id.extend_from_slice(token.text);
        }
        end
    });
    let at = id.iter().position(|byte| *byte == b'@');
    closed
        && parts.all(|token| token.is_filling())
        // Each non-ASCII byte may have to be written as three.
        && value.iter().map(|byte| if byte.is_ascii() { 1 } else { 3 }).sum::<usize>() <= MESSAGE_ID_LIMIT
        && at.is_some_and(|at| at > 0 && at + 1 < id.len())
        && id.iter().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'<' | b'>') || *byte >= 0x80)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn message_ids() {
        for good in [" <a@b>", "<a.b:c$1@[1.2]>", "<a@b> (added by c)", "\r\n <a@b@c>"] {
            assert!(is_message_id(good.as_bytes()), "{good}");
        }
        let long = format!("<{}@b>", "a".repeat(900));
        for bad in ["", "a@b", "<a>", "<@b>", "<a@>", "<a@b", "<a @b>", "<a@b> c", "<<a@b>>", "<a@b> <c@d>", &long] {
            assert!(!is_message_id(bad.as_bytes()), "{bad}");
        }
    }
}
