// SPDX-License-Identifier: Apache-2.0
//! Writes one digest into the queue, reading its messages one by one.

use std::fmt;
use std::sync::Arc;

use super::{DEFAULT_LIMIT, Digest, Facts, Letter, Output, Planner};
use crate::intake::{Desk, Intake, IntakeError, Origin};
use crate::message::{CannotConvert, Envelope};
use crate::policy::Policies;
use crate::queue::Item;
use crate::queue::{Client, Entry, Marks, MessageId, Meta, Replaces, Spool, SpoolError, Stored};
use crate::report::Event;
use crate::system::task;

/// Size limit of one mail of a digest in bytes; the plan stays far below.
const MAIL_LIMIT: u64 = 4 * DEFAULT_LIMIT;
/// The HELO name in the Received line; the device itself did not send this message.
const HELO: &str = "digest";

/// What the messages of one digest have in common.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Group {
    /// The section of the device.
    pub device: String,
    /// Its address: devices without a section have nothing else in common.
    pub client: String,
    /// The login, since accounts may depend on it.
    pub login: Option<String>,
    /// Who gets it.
    pub to: Vec<String>,
    /// The rate that it exceeded.
    pub rate: String,
}

impl Group {
    pub fn of(meta: Meta) -> Self {
        let Marks { device, login, over, .. } = meta.marks;
        let rate = over.map(|over| over.rate).unwrap_or_default();
        Self { device: device.unwrap_or_default(), client: meta.client, login, to: meta.envelope.to, rate }
    }
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
pub enum ComposeError {
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
pub struct Written {
    /// How many messages it covers, from the first.
    pub count: usize,
    /// Those of them that it only lists.
    pub alone: Vec<usize>,
    /// Its mails, the last one last. None when all messages are to be sent separately.
    pub mails: Vec<(Entry, Meta)>,
}

impl Written {
    /// Its mails.
    pub fn entries(&self) -> Vec<Entry> {
        self.mails.iter().map(|(entry, _)| entry.clone()).collect()
    }

    /// Hands the mails to the dispatcher, as they now are. One that is not in `entries` was withdrawn.
    pub fn announce(mut self, desk: &Desk, entries: &[Entry], device: &str) {
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
    pub async fn write(&self, group: &Group, items: &[Item], room: u64) -> Result<Written, ComposeError> {
        let (digest, count, sender) = self.plan(items, room).await?;
        let alone: Vec<usize> = digest.alone().collect();
        let mut written = Written { count, alone, mails: Vec::new() };
        if written.alone.len() == count {
            return Ok(written);
        }
        let items = items.get(..count).unwrap_or(items);
        // The first mail says that the others exist, so it is written last.
        for number in (1..digest.mails()).chain([0]) {
            match self.mail(group, items, &digest, number, &sender).await {
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

    /// What goes where, the number of messages, and the envelope sender: that of the first message with one, so that
    /// the digest takes the same route as the messages would.
    async fn plan(&self, items: &[Item], room: u64) -> Result<(Digest, usize, String), ComposeError> {
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
        Ok((planner.finish(), count, sender))
    }

    async fn read(&self, index: usize, item: &Item) -> Result<Stored, ComposeError> {
        self.spool.open_to_send(&item.entry).await.map_err(|error| ComposeError::Message(index, error))
    }

    /// Writes mail `number` of a digest.
    async fn mail(
        &self,
        group: &Group,
        items: &[Item],
        digest: &Digest,
        number: usize,
        sender: &str,
    ) -> Result<(Entry, Meta), ComposeError> {
        let from = self.address(items);
        let id = || MessageId::random().map_err(|error| ComposeError::Queue(SpoolError::Io(error).into()));
        let boundary = format!("{}{}", id()?, id()?);
        let letter =
            Letter { device: &self.title(group), from: &from, to: &group.to, rate: &group.rate, boundary: &boundary };
        let client = group.client.parse().ok();
        let device = Some(group.device.clone()).filter(|device| !device.is_empty());
        let mut intake = self.desk.begin_digest(Client::of(client, device.as_deref()), MAIL_LIMIT)?;
        let mut attached = Vec::new();
        for step in digest.steps(number, &letter) {
            match step {
                Output::Bytes(bytes) => intake.push(&bytes).await?,
                Output::Text(index) => self.text(&mut intake, digest, items, index).await?,
                Output::Part(index) => {
                    attached.push(index);
                    self.part(&mut intake, digest, items, index).await?;
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
        let marks = Marks { device, login: group.login.clone(), over: None, replaces: Some(replaces) };
        let origin = Origin { client, helo: HELO.into(), protocol: "local", notice: false, marks };
        let to = group.to.clone();
        let sender = if sender.is_empty() { from.as_str() } else { sender };
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
    async fn text(
        &self,
        intake: &mut Intake,
        digest: &Digest,
        items: &[Item],
        index: usize,
    ) -> Result<(), ComposeError> {
        let Some(item) = items.get(index) else { return Ok(()) };
        let mut stored = self.read(index, item).await?;
        let mut excerpt = digest.excerpt(index, &stored.header, stored.meta.form);
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
    async fn part(
        &self,
        intake: &mut Intake,
        digest: &Digest,
        items: &[Item],
        index: usize,
    ) -> Result<(), ComposeError> {
        let Some(item) = items.get(index) else { return Ok(()) };
        let unfit = |reason: CannotConvert| {
            let error = std::io::Error::other(format!("it cannot be attached to a digest: {reason}"));
            ComposeError::Message(index, SpoolError::Io(error))
        };
        let mut stored = self.read(index, item).await?;
        let mut out = Vec::new();
        let mut part = digest.part(std::mem::take(&mut stored.header), stored.meta.form, &mut out).map_err(unfit)?;
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
