// SPDX-License-Identifier: Apache-2.0
//! Fields that may occur only once (RFC 5322 section 3.6, RFC 2045 section 3). Every message has two of them, Date and
//! Message-ID: when it was written and its identifier (RFC 5322 sections 3.6.1 and 3.6.4).

use super::draft::{DraftField, HeaderDraft};
use super::mime::has_signature;
use super::notes;
use crate::message::Facts;
use crate::message::address::mailboxes;
use crate::message::date::{UNSET_UNTIL, corrected, is_date, rfc5322, year_of};
use crate::message::encoded::parameters::media_type;
use crate::message::header::{LINE_LIMIT, longest_line, unfold};
use crate::message::parts::boundary;
use crate::message::received::{host, safe};
use crate::message::tokens::tokens;

/// Maximum length of a Message-ID that is kept: it cannot be folded.
const MESSAGE_ID_LIMIT: usize = 900;
/// To and Cc may occur only once too, but are merged rather than renamed.
const ONCE: &str = "From Sender Reply-To Subject Date Message-ID In-Reply-To References MIME-Version";
/// Fields that mean nothing when empty and must not be. An empty Subject is allowed.
const NEVER_EMPTY: &str = "From Sender Reply-To To Cc Date Message-ID In-Reply-To References MIME-Version";

/// Keeps one field of each kind: the first valid one. Copies of it are removed, others renamed. Of several
/// Content-Types the one with the boundary `named` is used, which occurs in the body; without one, a Content-Type that
/// is not multipart.
pub fn resolve(draft: &mut HeaderDraft<'_>, named: Option<&[u8]>) {
    let before = draft.entries.len();
    draft.entries.retain(|entry| !(entry.is_empty() && (is_content(entry) || entry.is(NEVER_EMPTY))));
    if draft.entries.len() < before {
        draft.note(notes::EMPTY);
    }
    let mut names: Vec<String> = ONCE.split(' ').map(str::to_string).collect();
    for entry in draft.entries.iter().filter(|entry| is_content(entry)) {
        let name = String::from_utf8_lossy(&entry.name).to_ascii_lowercase();
        if !names.contains(&name) {
            names.push(name);
        }
    }
    for name in names {
        one(draft, &name, named);
    }
}

fn one(draft: &mut HeaderDraft<'_>, name: &str, named: Option<&[u8]>) {
    let places = draft.all(name);
    let (Some(first), true) = (places.first(), places.len() > 1) else {
        return;
    };
    draft.note(notes::DOUBLED);
    let good = |at: &&usize| draft.entries.get(**at).filter(|entry| is_good(entry));
    let fits =
        |at: &&usize| good(at).is_some_and(|one| !one.is("Content-Type") || boundary(&one.value).as_deref() == named);
    let kept = *places.iter().find(fits).or_else(|| places.iter().find(|at| good(at).is_some())).unwrap_or(first);
    let text = draft.entries.get(kept).map(|entry| unfold(&entry.value)).unwrap_or_default();
    // From the back, so that positions stay valid when an entry is removed.
    for at in places.into_iter().rev().filter(|at| *at != kept) {
        let same = draft.entries.get(at).is_some_and(|e| unfold(&e.value).trim_ascii() == text.trim_ascii());
        if same {
            draft.entries.remove(at);
        } else {
            draft.set_aside(at);
        }
    }
}

fn is_content(entry: &DraftField<'_>) -> bool {
    entry.name.get(..8).is_some_and(|start| start.eq_ignore_ascii_case(b"Content-"))
}

/// Whether the value of the field is valid.
fn is_good(entry: &DraftField<'_>) -> bool {
    if entry.is("From Sender Reply-To") {
        !mailboxes(&entry.value).is_empty()
    } else if entry.is("Date") {
        is_date(&entry.value)
    } else if entry.is("Message-ID") {
        is_message_id(&entry.value)
    } else if entry.is("Content-Type") {
        media_type(&entry.value).is_some()
    } else {
        !entry.is_empty()
    }
}

/// Adds Date and Message-ID, or replaces unusable ones; the old value is kept under another field name.
pub fn date_and_id(draft: &mut HeaderDraft<'_>, facts: &Facts<'_>) {
    if let Some(right) = draft.value("Date").and_then(corrected) {
        draft.set("Date", right.trim_ascii());
        draft.note(notes::DATE_CORRECTED);
    }
    // Mail of a device without a clock would be shown below all other mail, or taken for spam. What is resent can be old
    // (RFC 5322 section 3.6.6), and a signature may be over the Date.
    let year = draft.value("Date").and_then(year_of);
    let unset =
        year.is_some_and(|year| year <= UNSET_UNTIL) && draft.find("Resent-Date").is_none() && !has_signature(draft);
    let usable = |value: &[u8]| !unset && year.is_some() && longest_line(5, value) <= LINE_LIMIT;
    let now = rfc5322(facts.now);
    let replaced = if unset { notes::DATE_UNSET } else { notes::DATE_REPLACED };
    draft.dated = draft.provide("Date", usable, now.as_bytes(), (replaced, notes::DATE_ADDED));
    // Unique, since the message ID in the queue is unique at its time.
    let new = format!("<{}.{}@{}>", safe(facts.id, "message"), facts.now.max(0), host(facts.hostname));
    let notes = (notes::MESSAGE_ID_REPLACED, notes::MESSAGE_ID_ADDED);
    draft.provide("Message-ID", is_message_id, new.as_bytes(), notes);
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
