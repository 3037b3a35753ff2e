//! Writes one digest into the queue, reading its messages piece by piece.

use std::fmt;
use std::sync::Arc;

use super::collect::Group;
use super::{DEFAULT_LIMIT, Digest, Facts, Letter, Planner, Step};
use crate::intake::{Desk, Intake, IntakeError, Origin};
use crate::message::{CannotConvert, Envelope};
use crate::policy::Policies;
use crate::queue::Item;
use crate::queue::{Client, Entry, Marks, MessageId, Meta, Replaces, Spool, SpoolError, Stored};
use crate::report::Event;
use crate::system::task;

/// Bytes of one mail of a digest; the plan stays far below.
const MAIL_LIMIT: u64 = 4 * DEFAULT_LIMIT;
/// What stands in the Received line for the device, which sent none of it like this.
const HELO: &str = "digest";

/// Writes digests.
pub struct Composer {
    /// The queue.
    pub spool: Arc<Spool>,
    /// Where they go in.
    pub desk: Desk,
    /// Our own name.
    pub hostname: String,
    /// What devices are called.
    pub policies: Arc<Policies>,
    /// Address in From for what leaves by each route: that of its first account.
    pub addresses: Vec<String>,
}

/// Why a digest was not written.
#[derive(Debug)]
pub enum Trouble {
    /// This message (counted from 0) can't be read, or not be made a part of a mail.
    Message(usize, SpoolError),
    /// The queue does not take it.
    Queue(IntakeError),
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Message(_, error) => error.fmt(f),
            Self::Queue(error) => error.fmt(f),
        }
    }
}

impl From<IntakeError> for Trouble {
    fn from(error: IntakeError) -> Self {
        Self::Queue(error)
    }
}

/// A digest that is in the queue, its messages as well.
pub struct Written {
    /// How many of the messages it is about, from the first.
    pub count: usize,
    /// Those of them that it only lists.
    pub alone: Vec<usize>,
    /// Its mails, the last one last. None when all messages are to be sent by themselves.
    pub mails: Vec<(Entry, Meta)>,
}

impl Written {
    /// Its mails.
    pub fn entries(&self) -> Vec<Entry> {
        self.mails.iter().map(|(entry, _)| entry.clone()).collect()
    }

    /// Hands the mails to the dispatcher, as they lie now. One that is not in `entries` was taken back.
    pub fn announce(mut self, desk: &Desk, entries: &[Entry], device: &str) {
        // People read them in this order.
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
    /// Plans a digest of the first of `items`, as many as fit into one of about `room` bytes, and writes its mails into the
    /// queue. Nobody has heard of them then.
    ///
    /// # Errors
    /// When a message can't be read or the queue does not take a mail. What was written before is removed.
    pub async fn write(&self, group: &Group, items: &[Item], room: u64) -> Result<Written, Trouble> {
        let (digest, count, sender) = self.plan(items, room).await?;
        let alone: Vec<usize> = digest.alone().collect();
        let mut written = Written { count, alone, mails: Vec::new() };
        if written.alone.len() == count {
            return Ok(written);
        }
        let items = items.get(..count).unwrap_or(items);
        // The first mail says that the others are there, so it is the last one to be written.
        for number in (1..digest.mails()).chain([0]) {
            match self.mail(group, items, &digest, number, &sender).await {
                Ok(mail) => written.mails.push(mail),
                Err(trouble) => {
                    let (spool, entries) = (Arc::clone(&self.spool), written.entries());
                    // What can't be removed now is removed later; at the next start it is no complete digest.
                    let remove = move || entries.iter().for_each(|mail| drop(spool.remove_for_good(mail)));
                    let _ = task::blocking(remove).await;
                    return Err(trouble);
                }
            }
        }
        Ok(written)
    }

    /// What goes where, of how many messages, and the sender of the envelope: that of the first message with one, so that
    /// the digest takes the same way as the messages would.
    async fn plan(&self, items: &[Item], room: u64) -> Result<(Digest, usize, String), Trouble> {
        let mut planner = Planner::new(DEFAULT_LIMIT);
        let (mut count, mut bytes, mut sender) = (0, 0u64, String::new());
        for (index, item) in items.iter().enumerate() {
            // One that is not attached costs no room.
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

    async fn read(&self, index: usize, item: &Item) -> Result<Stored, Trouble> {
        Stored::open(&self.spool, item).await.map_err(|error| Trouble::Message(index, error))
    }

    /// Writes mail `number` of a digest.
    async fn mail(
        &self,
        group: &Group,
        items: &[Item],
        digest: &Digest,
        number: usize,
        sender: &str,
    ) -> Result<(Entry, Meta), Trouble> {
        let from = self.address(items);
        let id = || MessageId::random().map_err(|error| Trouble::Queue(SpoolError::Io(error).into()));
        let boundary = format!("{}{}", id()?, id()?);
        let letter =
            Letter { device: &self.title(group), from: &from, to: &group.to, rate: &group.rate, boundary: &boundary };
        let client = group.client.parse().ok();
        let device = Some(group.device.clone()).filter(|device| !device.is_empty());
        let mut intake = self.desk.begin_digest(Client::of(client, device.as_deref()), MAIL_LIMIT)?;
        let mut attached = Vec::new();
        for step in digest.steps(number, &letter) {
            match step {
                Step::Bytes(bytes) => intake.push(&bytes).await?,
                Step::Text(index) => self.text(&mut intake, digest, items, index).await?,
                Step::Part(index) => {
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

    /// What people call the device.
    fn title(&self, group: &Group) -> String {
        let device = self.policies.device_named(&group.device);
        match device.map(|device| (device.name_in_mail(), device.is_default())) {
            Some((Some(name), _)) => name.into(),
            Some((None, _)) => group.client.clone(),
            None => group.device.clone(),
        }
    }

    /// The address in From: that of the account by which the digest leaves first.
    fn address(&self, items: &[Item]) -> String {
        let route = items.first().map_or(0, |item| usize::from(item.route));
        self.addresses.get(route).or(self.addresses.first()).cloned().unwrap_or_default()
    }

    /// The start of the text of a message.
    async fn text(&self, intake: &mut Intake, digest: &Digest, items: &[Item], index: usize) -> Result<(), Trouble> {
        let Some(item) = items.get(index) else { return Ok(()) };
        let mut stored = self.read(index, item).await?;
        let mut excerpt = digest.excerpt(index, &stored.header, stored.meta.form);
        loop {
            let piece = stored.next().await.map_err(|error| Trouble::Message(index, error))?;
            // To the end of a short one: only there its text is known to be what was accepted.
            if piece.is_empty() || !excerpt.push(&piece) {
                break;
            }
        }
        Ok(intake.push(&excerpt.finish()).await?)
    }

    /// A whole message.
    async fn part(&self, intake: &mut Intake, digest: &Digest, items: &[Item], index: usize) -> Result<(), Trouble> {
        let Some(item) = items.get(index) else { return Ok(()) };
        let unfit = |reason: CannotConvert| {
            let error = std::io::Error::other(format!("it can't be attached to a digest: {reason}"));
            Trouble::Message(index, SpoolError::Io(error))
        };
        let mut stored = self.read(index, item).await?;
        let mut out = Vec::new();
        let mut part = digest.part(std::mem::take(&mut stored.header), stored.meta.form, &mut out).map_err(unfit)?;
        loop {
            intake.push(&out).await?;
            out.clear();
            let piece = stored.next().await.map_err(|error| Trouble::Message(index, error))?;
            if piece.is_empty() {
                break;
            }
            part.push(&piece, &mut out);
        }
        part.finish(&mut out).map_err(unfit)?;
        Ok(intake.push(&out).await?)
    }
}
