// SPDX-License-Identifier: Apache-2.0
//! Collects messages into digests: one mail for each device and group of recipients replaces what has waited in the
//! queue until the interval ended. A message that would be the only one, that is too large, or whose digest cannot be
//! written is sent as it is.
//!
//! A [`Composer`] writes one digest into the queue, reading its messages one by one.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{DEFAULT_LIMIT, Digest, Facts, Letter, Output, Planner};
use crate::intake::{Desk, Intake, IntakeError, Origin};
use crate::message::{CannotConvert, Envelope};
use crate::policy::Policies;
use crate::queue::{
    Client, Entry, Item, Marks, MessageId, Meta, Note, Placed, Replaces, Rest, Spool, SpoolError, Stored, blocking,
};
use crate::report::Event;
use crate::system::{clock, task};

/// How long messages wait when their digest could not be written.
const AGAIN: Duration = Duration::from_secs(60);
/// How often that is attempted before they are sent as they are.
const TRIES: u32 = 5;

/// Size limit of one mail of a digest in bytes; the plan stays far below.
const MAIL_LIMIT: u64 = 4 * DEFAULT_LIMIT;
/// The HELO name in the Received line; the device itself did not send this message.
const HELO: &str = "digest";

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

/// Messages grouped by what they have in common, and those that cannot be read now. There are few groups: about as many
/// as devices that send too much.
fn into_groups(spool: &Spool, items: Vec<Item>) -> (Vec<(Group, Vec<Item>)>, Vec<Placed>) {
    let (mut groups, mut back) = (Vec::<(Group, Vec<Item>)>::new(), Vec::new());
    for item in items {
        match spool.open_message(&item.entry) {
            Ok(stored) => {
                let group = Group::of(stored.meta);
                match groups.iter_mut().find(|(known, _)| *known == group) {
                    Some((_, items)) => items.push(item),
                    None => groups.push((group, vec![item])),
                }
            }
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
    match remove(spool, further, last, replaced) {
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
    further: Vec<Entry>,
    last: Vec<Entry>,
    replaced: Vec<Item>,
) -> Result<Vec<Entry>, Vec<Placed>> {
    let entries: Vec<Entry> = replaced.iter().map(|item| item.entry.clone()).collect();
    let name = last.first().map(|mail| mail.id.to_string()).unwrap_or_default();
    match spool.replace(&entries, further.clone(), last.clone()) {
        Ok((mails, failed)) => {
            for item in &replaced {
                Event::Collected { id: item.entry.id.to_string(), digest: name.clone() }.log();
            }
            if let Some((count, error)) = failed {
                let reason = "are in the digest but cannot be removed from the queue yet; retrying every 10 s";
                trouble(&name, format!("{count} messages {reason}: {error}"));
            }
            Ok(mails)
        }
        Err(error) => {
            let reason = "the digest cannot be moved to safe_spool, so its messages stay in the queue";
            trouble(&name, format!("{reason}: {error}"));
            // The one that marks the digest as complete goes first.
            for mail in last.iter().chain(&further) {
                if let Err(Some(error)) = spool.remove_for_good(mail) {
                    trouble(mail.id.as_str(), error);
                }
            }
            Err(replaced.into_iter().map(put_off).collect())
        }
    }
}

/// Records that a message is sent separately.
fn let_go(spool: &Spool, item: Item) -> Placed {
    if let Err(Some(error)) = spool.record_for_good(&item.entry, Note::Alone(clock::now())) {
        trouble(item.entry.id.as_str(), error);
    }
    released(item)
}

/// Completes what an earlier run was interrupted in. The messages are those of [`Sorted`](crate::queue::Sorted).
pub fn carry_on(spool: &Spool, [further, last, replaced, alone, torn]: [Vec<Item>; 5]) -> Vec<Placed> {
    for item in torn {
        let id = item.entry.id;
        match spool.remove_for_good(&item.entry) {
            Ok(()) => Event::Removed { id: id.to_string() }.log(),
            Err(Some(error)) => trouble(id.as_str(), format!("an incomplete digest cannot be removed: {error}")),
            Err(None) => {}
        }
    }
    let mut back: Vec<Placed> = alone.into_iter().map(|item| let_go(spool, item)).collect();
    let entries = |items: &[Item]| items.iter().map(|item| item.entry.clone()).collect::<Vec<Entry>>();
    match remove(spool, entries(&further), entries(&last), replaced) {
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

/// What the messages of one digest have in common.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Group {
    /// The section of the device.
    device: String,
    /// Its address: devices without a section have nothing else in common.
    client: String,
    /// The login, since accounts may depend on it.
    login: Option<String>,
    /// Who gets it.
    to: Vec<String>,
    /// The rate that it exceeded.
    rate: String,
}

impl Group {
    fn of(meta: Meta) -> Self {
        let Marks { device, login, over, .. } = meta.marks;
        let rate = over.map(|over| over.rate).unwrap_or_default();
        Self { device: device.unwrap_or_default(), client: meta.client, login, to: meta.envelope.to, rate }
    }
}

/// A digest that is being written.
struct Plan<'a> {
    group: &'a Group,
    /// The messages that it covers.
    items: &'a [Item],
    /// What goes where.
    digest: Digest,
    /// The envelope sender: that of the first message with one, so that the digest takes the same route as the messages
    /// would.
    sender: String,
}

/// Writes digests.
pub struct Composer {
    /// The queue.
    pub spool: Arc<Spool>,
    /// The intake that they are queued through.
    pub desk: Desk,
    /// Our own host name.
    pub hostname: String,
    /// The display names of devices.
    pub policies: Arc<Policies>,
    /// The From address for mail of each route: that of its first account.
    pub addresses: Vec<String>,
}

/// Why a digest was not written.
#[derive(Debug)]
enum ComposeError {
    /// This message (counted from 0) cannot be read, or cannot be made part of a mail.
    Message(usize, SpoolError),
    /// The queue refuses the digest.
    Queue(IntakeError),
}

impl fmt::Display for ComposeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Message(_, error) => error.fmt(f),
            Self::Queue(error) => error.fmt(f),
        }
    }
}

impl From<IntakeError> for ComposeError {
    fn from(error: IntakeError) -> Self {
        Self::Queue(error)
    }
}

/// A digest that is in the queue together with its messages.
struct Written {
    /// How many messages it covers, from the first.
    count: usize,
    /// Those of them that it only lists.
    alone: Vec<usize>,
    /// Its mails, the last one last. None when all messages are to be sent separately.
    mails: Vec<(Entry, Meta)>,
}

impl Written {
    /// Its mails.
    fn entries(&self) -> Vec<Entry> {
        self.mails.iter().map(|(entry, _)| entry.clone()).collect()
    }

    /// Hands the mails to the dispatcher, as they now are. One that is not in `entries` was withdrawn.
    fn announce(mut self, desk: &Desk, entries: &[Entry], device: &str) {
        // This is the order in which people read them.
        if let Some(first) = self.mails.pop() {
            self.mails.insert(0, first);
        }
        for (entry, meta) in self.mails {
            let Some(entry) = entries.iter().find(|now| now.id == entry.id) else { continue };
            let messages = meta.marks.replaces.as_ref().map_or(0, |replaces| replaces.of.len());
            let (id, to) = (entry.id.to_string(), meta.envelope.to.clone());
            Event::Digested { id, device: device.into(), messages, to }.log();
            desk.announce(entry.clone(), meta);
        }
    }
}

impl Composer {
    /// Plans a digest of the first `items`, as many as fit into one of about `room` bytes, and writes its mails to the
    /// queue. They are not announced to anyone yet.
    ///
    /// # Errors
    /// When a message cannot be read or the queue refuses a mail. What was written before is removed.
    async fn write(&self, group: &Group, items: &[Item], room: u64) -> Result<Written, ComposeError> {
        let plan = self.plan(group, items, room).await?;
        let count = plan.items.len();
        let mut written = Written { count, alone: plan.digest.alone().collect(), mails: Vec::new() };
        if written.alone.len() == count {
            return Ok(written);
        }
        // The first mail says that the others exist, so it is written last.
        for number in (1..plan.digest.mails()).chain([0]) {
            match self.mail(&plan, number).await {
                Ok(mail) => written.mails.push(mail),
                Err(trouble) => {
                    let (spool, entries) = (Arc::clone(&self.spool), written.entries());
                    // What cannot be removed now is removed later; at the next start it is an incomplete digest.
                    let remove = move || entries.iter().for_each(|mail| drop(spool.remove_for_good(mail)));
                    let _ = task::blocking(remove).await;
                    return Err(trouble);
                }
            }
        }
        Ok(written)
    }

    /// A digest of the first `items`.
    async fn plan<'a>(&self, group: &'a Group, items: &'a [Item], room: u64) -> Result<Plan<'a>, ComposeError> {
        let mut planner = Planner::new(DEFAULT_LIMIT);
        let (mut count, mut bytes, mut sender) = (0, 0u64, String::new());
        for (index, item) in items.iter().enumerate() {
            // One that is not attached takes no space.
            let size = if item.entry.size > DEFAULT_LIMIT { 0 } else { item.entry.size };
            if planner.is_full() || (count > 1 && bytes.saturating_add(size) > room) {
                break;
            }
            let stored = self.read(index, item).await?;
            planner.add(&Facts {
                arrived: item.entry.arrived,
                from: &stored.meta.envelope.from,
                header: &stored.header,
                body_size: stored.body_size,
                form: stored.meta.form,
            });
            if sender.is_empty() {
                sender = stored.meta.envelope.from;
            }
            count += 1;
            bytes = bytes.saturating_add(size);
        }
        Ok(Plan { group, items: items.get(..count).unwrap_or(items), digest: planner.finish(), sender })
    }

    async fn read(&self, index: usize, item: &Item) -> Result<Stored, ComposeError> {
        self.spool.open_to_send(&item.entry).await.map_err(|error| ComposeError::Message(index, error))
    }

    /// Writes mail `number` of a digest.
    async fn mail(&self, plan: &Plan<'_>, number: usize) -> Result<(Entry, Meta), ComposeError> {
        let Plan { group, items, digest, sender } = plan;
        let from = self.address(items);
        let id = || MessageId::random().map_err(|error| ComposeError::Queue(SpoolError::Io(error).into()));
        let boundary = format!("{}{}", id()?, id()?);
        let letter =
            Letter { device: &self.title(group), from: &from, to: &group.to, rate: &group.rate, boundary: &boundary };
        let client = group.client.parse().ok();
        let device = Some(group.device.clone()).filter(|device| !device.is_empty());
        // All of them are of one client.
        let owner = items.first().map_or_else(|| Client::at(client), |item| item.entry.client);
        let mut intake = self.desk.begin_digest(owner, MAIL_LIMIT)?;
        let mut attached = Vec::new();
        for step in digest.steps(number, &letter) {
            match step {
                Output::Bytes(bytes) => intake.push(&bytes).await?,
                Output::Text(index) => self.text(&mut intake, plan, index).await?,
                Output::Part(index) => {
                    attached.push(index);
                    self.part(&mut intake, plan, index).await?;
                }
            }
        }
        let last = number == 0;
        let alone: Vec<usize> = digest.alone().collect();
        let names = |fits: &dyn Fn(&usize) -> bool| {
            let those = items.iter().enumerate().filter(|(index, _)| fits(index));
            those.map(|(_, item)| item.entry.id).collect::<Vec<MessageId>>()
        };
        let replaces = Replaces {
            of: names(&|index| if last { !alone.contains(index) } else { attached.contains(index) }),
            alone: names(&|index| last && alone.contains(index)),
            last,
        };
        let marks = Marks {
            device,
            login: group.login.clone(),
            over: None,
            replaces: Some(replaces),
            owner: owner.to_record(),
            // Determined from its own header.
            alarm: None,
        };
        let origin = Origin { client, helo: HELO.into(), protocol: "local", notice: false, marks };
        let to = group.to.clone();
        let sender = if sender.is_empty() { from.as_str() } else { sender.as_str() };
        let smtputf8 = to.iter().map(String::as_str).chain([sender]).any(|address| !address.is_ascii());
        let envelope = Envelope { from: sender.into(), to, smtputf8 };
        let (_, entry, meta) = intake.keep(envelope, &origin, &self.hostname, &from).await?;
        Ok((entry, meta))
    }

    /// The display name of the device.
    fn title(&self, group: &Group) -> String {
        let device = self.policies.device_named(&group.device);
        match device.map(|device| (device.name_in_mail(), device.is_default())) {
            Some((Some(name), _)) => name.into(),
            Some((None, _)) => group.client.clone(),
            None => group.device.clone(),
        }
    }

    /// The From address: that of the account through which the digest is sent first.
    fn address(&self, items: &[Item]) -> String {
        let route = items.first().map_or(0, |item| usize::from(item.route));
        self.addresses.get(route).or(self.addresses.first()).cloned().unwrap_or_default()
    }

    /// The start of the text of a message.
    async fn text(&self, intake: &mut Intake, plan: &Plan<'_>, index: usize) -> Result<(), ComposeError> {
        let Some(item) = plan.items.get(index) else { return Ok(()) };
        let mut stored = self.read(index, item).await?;
        let mut excerpt = plan.digest.excerpt(index, &stored.header, stored.meta.form);
        loop {
            let piece = stored.next().await.map_err(|error| ComposeError::Message(index, error))?;
            // To the end of a short one: only there is its text verified to be what was accepted.
            if piece.is_empty() || !excerpt.push(&piece) {
                break;
            }
        }
        Ok(intake.push(&excerpt.finish()).await?)
    }

    /// A whole message.
    async fn part(&self, intake: &mut Intake, plan: &Plan<'_>, index: usize) -> Result<(), ComposeError> {
        let Some(item) = plan.items.get(index) else { return Ok(()) };
        let unfit = |reason: CannotConvert| {
            let error = std::io::Error::other(format!("it cannot be attached to a digest: {reason}"));
            ComposeError::Message(index, SpoolError::Io(error))
        };
        let mut stored = self.read(index, item).await?;
        let mut out = Vec::new();
        let mut part =
            plan.digest.part(std::mem::take(&mut stored.header), stored.meta.form, &mut out).map_err(unfit)?;
        loop {
            intake.push(&out).await?;
            out.clear();
            let piece = stored.next().await.map_err(|error| ComposeError::Message(index, error))?;
            if piece.is_empty() {
                break;
            }
            part.push(&piece, &mut out);
        }
        part.finish(&mut out).map_err(unfit)?;
        Ok(intake.push(&out).await?)
    }
}
