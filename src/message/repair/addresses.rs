// SPDX-License-Identifier: Apache-2.0
//! Senders and recipients: From, Sender, Reply-To, To, Cc and similar (RFC 5322 sections 3.6.2 and 3.6.3).

use super::draft::{DraftField, HeaderDraft};
use super::notes;
use crate::message::Facts;
use crate::message::address::list::check;
use crate::message::address::list::{self, Mailbox, as_name};
use crate::message::address::{for_header, is_address};
use crate::message::encoded::ADDRESS_FIELDS;
use crate::message::encoded::charset::GUESSED;
use crate::message::header::fold;
use crate::message::received::host;

/// Maximum length of an unusable From that is kept as the display name; longer ones are renamed.
const NAME_LIMIT: usize = 200;
/// Maximum number of envelope recipients that are written to a missing To.
const TO_LIMIT: usize = 50;

/// Corrects every address list, merges recipient fields, and adds missing From and To fields.
pub fn repair(draft: &mut HeaderDraft<'_>, facts: &Facts<'_>, had_bcc: bool) {
    for entry in std::mem::take(&mut draft.entries) {
        match entry.is(ADDRESS_FIELDS) {
            true => one(draft, entry, facts),
            false => draft.entries.push(entry),
        }
    }
    for name in ["To", "Cc"] {
        merge(draft, name);
    }
    if draft.find("From").is_none() {
        draft.set("From", for_header(&sender(facts)).as_bytes());
        draft.note(notes::FROM_ADDED);
    }
    if draft.find("Sender").is_none()
        && let Some(from) = draft.value("From")
        && let [first, _, ..] = list::mailboxes(from).as_slice()
    {
        // RFC 5322 section 3.6.2: several authors, one sender.
        draft.set("Sender", for_header(&first.address).as_bytes());
        draft.note(notes::SENDER_ADDED);
    }
    if draft.find("To").is_none() && draft.find("Cc").is_none() {
        let value = fold(3, format!(" {}", recipients(facts, had_bcc)).as_bytes());
        draft.set("To", value.trim_ascii_start());
        draft.note(notes::TO_ADDED);
    }
}

/// Adds the address list `entry` to `draft`, corrected.
fn one<'a>(draft: &mut HeaderDraft<'a>, entry: DraftField<'a>, facts: &Facts<'_>) {
    // An address cannot be non-ASCII in a charset that is only labelled.
    let utf8 = facts.envelope.smtputf8 && entry.charset.is_none_or(|charset| charset == GUESSED);
    let (is_from, is_sender) = (entry.is("From Resent-From"), entry.is("Sender Resent-Sender"));
    let correct = check(&entry.value).is_some_and(|list| {
        (list.ascii || utf8) && (list.mailboxes > 0 || !is_from) && (!is_sender || list.mailboxes == 1 && !list.groups)
    });
    if correct {
        return draft.entries.push(entry);
    }
    let (mut found, mut lost) = list::read(&entry.value);
    let all = found.len();
    found.retain(|mailbox| utf8 || mailbox.address.is_ascii());
    if is_sender {
        found.truncate(1);
    }
    lost |= found.len() < all;
    if found.is_empty() {
        return useless(draft, entry, facts);
    }
    draft.note(notes::ADDRESSES);
    let value = write(entry.name.len() + 1, &found).into();
    draft.entries.push(DraftField { name: entry.name.clone(), value, charset: entry.charset });
    draft.entries.extend(entry.set_aside().filter(|_| lost));
}

/// Adds `entry`, a list without an address: as the name in From, else under another name.
fn useless<'a>(draft: &mut HeaderDraft<'a>, entry: DraftField<'a>, facts: &Facts<'_>) {
    if !entry.is("From") {
        draft.note(notes::ADDRESSES_UNUSABLE);
        return draft.entries.extend(entry.set_aside());
    }
    draft.note(notes::FROM_REPLACED);
    let name = as_name(&entry.value);
    let mut found = Mailbox { name, address: sender(facts) };
    if found.name.len() <= NAME_LIMIT {
        return draft.entries.push(DraftField { value: write(5, &[found]).into(), ..entry });
    }
    found.name.clear();
    draft.entries.push(DraftField { name: b"From".into(), value: write(5, &[found]).into(), charset: None });
    draft.entries.extend(entry.set_aside());
}

/// Merges all fields called `name` into one.
fn merge(draft: &mut HeaderDraft<'_>, name: &str) {
    let (Some(first), true) = (draft.find(name), draft.all(name).len() > 1) else {
        return;
    };
    let same: Vec<DraftField<'_>> = draft.entries.extract_if(.., |entry| entry.is(name)).collect();
    let mut values = Vec::new();
    for value in same.iter().map(|entry| entry.value.trim_ascii()) {
        if !values.contains(&value) {
            values.push(value);
        }
    }
    let value = [b" ", values.join(&b",\r\n "[..]).as_slice()].concat().into();
    let charset = same.iter().find_map(|entry| entry.charset);
    let name = same.into_iter().next().map(|entry| entry.name).unwrap_or_default();
    draft.entries.insert(first, DraftField { name, value, charset });
    draft.note(notes::MERGED);
}

fn write(column: usize, mailboxes: &[Mailbox]) -> Vec<u8> {
    let list = mailboxes.iter().map(Mailbox::write).collect::<Vec<_>>().join(&b", "[..]);
    fold(column, &[b" ", list.as_slice()].concat())
}

/// The address for a message that does not name an author.
fn sender(facts: &Facts<'_>) -> String {
    let utf8 = facts.envelope.smtputf8;
    [facts.envelope.from.as_str(), facts.fallback_from]
        .into_iter()
        .find(|address| is_address(address) && (utf8 || address.is_ascii()))
        .map_or_else(|| format!("postmaster@{}", host(facts.hostname)), str::to_string)
}

/// The To of a message that does not name a recipient. Bcc recipients are not disclosed, nor is a long list.
fn recipients(facts: &Facts<'_>, had_bcc: bool) -> String {
    let envelope = facts.envelope;
    let all: Vec<String> = envelope
        .to
        .iter()
        .filter(|address| is_address(address) && (envelope.smtputf8 || address.is_ascii()))
        .map(|address| for_header(address))
        .collect();
    if had_bcc || all.is_empty() || all.len() > TO_LIMIT {
        return "undisclosed-recipients:;".into();
    }
    all.join(", ")
}
