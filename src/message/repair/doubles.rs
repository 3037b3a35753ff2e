// SPDX-License-Identifier: Apache-2.0
//! Fields that may occur only once (RFC 5322 section 3.6, RFC 2045 section 3).

use super::draft::{DraftField, HeaderDraft};
use super::{identity, notes};
use crate::message::address::list;
use crate::message::date::is_date;
use crate::message::encoded::fold::unfold;
use crate::message::encoded::parameters::media_type;
use crate::message::parts::entity;

/// To and Cc may occur only once too, but are merged rather than renamed.
const ONCE: [&str; 9] =
    ["From", "Sender", "Reply-To", "Subject", "Date", "Message-ID", "In-Reply-To", "References", "MIME-Version"];
/// Fields that mean nothing when empty and must not be. An empty Subject is allowed.
const NEVER_EMPTY: [&str; 10] =
    ["From", "Sender", "Reply-To", "To", "Cc", "Date", "Message-ID", "In-Reply-To", "References", "MIME-Version"];

/// Keeps one field of each kind: the first valid one. Copies of it are removed, others renamed. Of several
/// Content-Types the one that names `boundary` is used, which occurs in the body; without one, a Content-Type that is
/// not multipart.
pub fn resolve(draft: &mut HeaderDraft<'_>, boundary: Option<&[u8]>) {
    let before = draft.entries.len();
    draft
        .entries
        .retain(|entry| !(entry.is_empty() && (is_content(entry) || NEVER_EMPTY.iter().any(|name| entry.is(name)))));
    if draft.entries.len() < before {
        draft.note(notes::EMPTY);
    }
    let mut names: Vec<Vec<u8>> = ONCE.iter().map(|name| name.as_bytes().to_vec()).collect();
    for entry in draft.entries.iter().filter(|entry| is_content(entry)) {
        let name = entry.name.to_ascii_lowercase();
        if !names.contains(&name) {
            names.push(name);
        }
    }
    for name in names {
        one(draft, &name, boundary);
    }
}

fn one(draft: &mut HeaderDraft<'_>, name: &[u8], boundary: Option<&[u8]>) {
    let places: Vec<usize> = draft
        .entries
        .iter()
        .enumerate()
        .filter(|(_, entry)| entry.name.eq_ignore_ascii_case(name))
        .map(|(at, _)| at)
        .collect();
    let (Some(first), true) = (places.first(), places.len() > 1) else {
        return;
    };
    draft.note(notes::DOUBLED);
    let is_usable = |at: &&usize| draft.entries.get(**at).is_some_and(is_good);
    let fits = |at: &&usize| {
        let entry = draft.entries.get(**at).filter(|entry| is_good(entry));
        entry.is_some_and(|entry| !entry.is("Content-Type") || entity::boundary(&entry.value).as_deref() == boundary)
    };
    let kept = *places.iter().find(fits).or_else(|| places.iter().find(is_usable)).unwrap_or(first);
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
    if ["From", "Sender", "Reply-To"].iter().any(|name| entry.is(name)) {
        !list::mailboxes(&entry.value).is_empty()
    } else if entry.is("Date") {
        is_date(&entry.value)
    } else if entry.is("Message-ID") {
        identity::is_message_id(&entry.value)
    } else if entry.is("Content-Type") {
        media_type(&entry.value).is_some()
    } else {
        !entry.is_empty()
    }
}
