// SPDX-License-Identifier: Apache-2.0
//! Collects messages into digests: one mail for each device and group of recipients replaces what has waited in the
//! queue until the interval ended. A message that would be the only one, that is too large, or whose digest cannot be
//! written is sent as it is.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::DEFAULT_LIMIT;
use super::compose::{ComposeError, Composer, Group};
use crate::queue::Item;
use crate::queue::journal::Note;
use crate::queue::{Entry, MessageId, Placed, Rest, Spool, SpoolError, blocking};
use crate::report::Event;
use crate::system::clock;

/// How long messages wait when their digest could not be written.
const AGAIN: Duration = Duration::from_secs(60);
/// How often that is attempted before they are sent as they are.
const TRIES: u32 = 5;

/// Messages that were used for digests, and those of them that are left.
pub struct Collected {
    /// All of them.
    pub taken: Vec<MessageId>,
    /// Those that are still in the queue.
    pub back: Vec<Placed>,
}

/// One that is sent as it is.
fn released(item: Item) -> Placed {
    (Item { rest: None, ..item }, None)
}

/// One whose digest was not written. After some attempts it is sent separately: the queue may be too full otherwise.
fn put_off(mut item: Item) -> Placed {
    item.rest = match item.rest {
        Some(rest) if rest.failed < TRIES => {
            Some(Rest { until: Instant::now() + AGAIN, failed: rest.failed.saturating_add(1), ..rest })
        }
        _ => None,
    };
    (item, None)
}

fn trouble(id: &str, reason: String) {
    Event::SpoolTrouble { id: id.into(), reason }.log();
}

/// Writes the digests of `items`.
pub async fn collect(composer: Composer, items: Vec<Item>) -> Collected {
    let taken = items.iter().map(|item| item.entry.id).collect();
    let spool = Arc::clone(&composer.spool);
    let sorted = blocking(move || Ok::<_, std::io::Error>(into_groups(&spool, items)));
    // The pool refuses work only while the program shuts down: everything is found at the next start.
    let (groups, mut back) = sorted.await.unwrap_or_default();
    for (group, items) in groups {
        back.append(&mut write(&composer, &group, items).await);
    }
    Collected { taken, back }
}

/// Messages grouped by what they have in common, and those that cannot be read now.
fn into_groups(spool: &Spool, items: Vec<Item>) -> (BTreeMap<Group, Vec<Item>>, Vec<Placed>) {
    let (mut groups, mut back) = (BTreeMap::<Group, Vec<Item>>::new(), Vec::new());
    for item in items {
        match spool.open_message(&item.entry) {
            Ok(stored) => groups.entry(Group::of(stored.meta)).or_default().push(item),
            Err(error) => back.extend(unreadable(spool, item, error)),
        }
    }
    (groups, back)
}

/// A message that cannot be read is sent separately.
fn unreadable(spool: &Spool, item: Item, error: SpoolError) -> Option<Placed> {
    if let SpoolError::Damaged(reason) = error {
        spool.set_aside(&item.entry, &reason);
        return None;
    }
    trouble(item.entry.id.as_str(), error.to_string());
    Some(released(item))
}

/// Writes as many digests as the messages of a group need. Returns those that are still in the queue.
async fn write(composer: &Composer, group: &Group, items: Vec<Item>) -> Vec<Placed> {
    let mut back = Vec::new();
    let mut rest = items;
    while rest.len() > 1 {
        let (used, _, limit) = composer.spool.usage_now();
        // While the digest is written, it exists in addition to its messages.
        let room = DEFAULT_LIMIT.max(limit.saturating_sub(used) / 2);
        match composer.write(group, &rest, room).await {
            Ok(written) => {
                let later = rest.split_off(written.count.min(rest.len()));
                let (alone, replaced): (Vec<_>, Vec<_>) = std::mem::replace(&mut rest, later)
                    .into_iter()
                    .enumerate()
                    .partition(|(index, _)| written.alone.contains(index));
                let strip = |items: Vec<(usize, Item)>| items.into_iter().map(|(_, item)| item).collect::<Vec<_>>();
                let (alone, replaced) = (strip(alone), strip(replaced));
                if written.mails.is_empty() {
                    back.extend(alone.into_iter().chain(replaced).map(released));
                    continue;
                }
                let (spool, mails) = (Arc::clone(&composer.spool), written.entries());
                let done = blocking(move || Ok::<_, std::io::Error>(replace(&spool, mails, replaced, alone)));
                // Refused only while the program shuts down: everything is found at the next start.
                let Ok((mails, mut left)) = done.await else { return back };
                back.append(&mut left);
                written.announce(&composer.desk, &mails, &group.device);
            }
            Err(ComposeError::Message(index, error)) if index < rest.len() => {
                let item = rest.remove(index);
                let spool = Arc::clone(&composer.spool);
                let left = blocking(move || Ok::<_, std::io::Error>(unreadable(&spool, item, error)));
                back.extend(left.await.unwrap_or_default());
            }
            Err(error) => {
                let name = &group.device;
                trouble("", format!("the digest of device '{name}' could not be queued and will be retried: {error}"));
                back.extend(rest.drain(..).map(put_off));
            }
        }
    }
    back.extend(rest.into_iter().map(released));
    back
}

/// Removes from the queue what a digest contains, and releases what it only lists. Returns the mails of the digest that
/// may be sent now, and the messages that are left.
fn replace(spool: &Spool, mails: Vec<Entry>, replaced: Vec<Item>, alone: Vec<Item>) -> (Vec<Entry>, Vec<Placed>) {
    let last = mails.last().map(|mail| mail.id);
    let (last, further): (Vec<Entry>, Vec<Entry>) = mails.into_iter().partition(|mail| Some(mail.id) == last);
    let name = last.first().map(|mail| mail.id.to_string()).unwrap_or_default();
    match remove(spool, (further.clone(), last.clone()), &name, replaced) {
        Ok(mails) => (mails, alone.into_iter().map(|item| let_go(spool, item)).collect()),
        Err(mut left) => {
            left.extend(alone.into_iter().map(put_off));
            (Vec::new(), left)
        }
    }
}

/// Removes the messages that a digest contains; its `mails` are all but the last, and the last. `Err` with the
/// messages, when they have to stay and the digest was withdrawn.
fn remove(
    spool: &Spool,
    (further, last): (Vec<Entry>, Vec<Entry>),
    name: &str,
    replaced: Vec<Item>,
) -> Result<Vec<Entry>, Vec<Placed>> {
    let entries: Vec<Entry> = replaced.iter().map(|item| item.entry.clone()).collect();
    match spool.replace(&entries, further.clone(), last.clone()) {
        Ok((mails, failed)) => {
            for item in &replaced {
                Event::Collected { id: item.entry.id.to_string(), digest: name.into() }.log();
            }
            if let Some((count, error)) = failed {
                let reason = "are in the digest but cannot be removed from the queue yet; retrying every 10 s";
                trouble(name, format!("{count} messages {reason}: {error}"));
            }
            Ok(mails)
        }
        Err(error) => {
            trouble(
                name,
                format!("the digest cannot be moved to safe_spool, so its messages stay in the queue: {error}"),
            );
            // The one that marks the digest as complete goes first.
            for mail in last.iter().chain(&further) {
                if let Err(error) = spool.remove_for_good(mail) {
                    trouble(mail.id.as_str(), error);
                }
            }
            Err(replaced.into_iter().map(put_off).collect())
        }
    }
}

/// Records that a message is sent separately.
fn let_go(spool: &Spool, item: Item) -> Placed {
    if let Err(error) = spool.record_for_good(&item.entry, Note::Alone(clock::now())) {
        trouble(item.entry.id.as_str(), error);
    }
    released(item)
}

/// Completes what an earlier run was interrupted in.
pub fn carry_on(
    spool: &Spool,
    further: Vec<Item>,
    last: Vec<Item>,
    replaced: Vec<Item>,
    alone: Vec<Item>,
    torn: Vec<Item>,
) -> Vec<Placed> {
    for item in torn {
        let id = item.entry.id;
        match spool.remove_for_good(&item.entry) {
            Ok(()) => Event::Removed { id: id.to_string() }.log(),
            Err(error) => trouble(id.as_str(), format!("an incomplete digest cannot be removed: {error}")),
        }
    }
    let mut back: Vec<Placed> = alone.into_iter().map(|item| let_go(spool, item)).collect();
    let entries = |items: &[Item]| items.iter().map(|item| item.entry.clone()).collect::<Vec<Entry>>();
    let name = last.first().map(|item| item.entry.id.to_string()).unwrap_or_default();
    match remove(spool, (entries(&further), entries(&last)), &name, replaced) {
        Ok(mails) => {
            for mut item in further.into_iter().chain(last) {
                if let Some(mail) = mails.iter().find(|mail| mail.id == item.entry.id) {
                    item.entry.place = mail.place;
                }
                back.push((item, None));
            }
        }
        Err(left) => back.extend(left),
    }
    back
}
