// SPDX-License-Identifier: Apache-2.0
//! The only way into the queue, for devices, local programs and messages of the gateway itself: text is repaired while
//! it arrives, and is in the queue when [`Intake::finish`] returns.

use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};

use tokio::sync::mpsc;

use crate::message::{BodyForm, Encode, Envelope, Facts, MessageRefusal, Repair};
use crate::policy::{Alarms, Rates};
use crate::queue::{Client, Draft, Entry, Marks, Meta, Spool, SpoolError, Undated};
use crate::report::{Event, subject};
use crate::system::clock;
use crate::system::lock;

/// Maximum size of a message of the gateway itself, in bytes: its texts are bounded, so this is never reached.
const OWN_LIMIT: u64 = 1 << 20;

/// Why a message was not accepted.
#[derive(Debug)]
pub enum IntakeError {
    /// Larger than `message_limit` bytes.
    TooLarge(u64),
    /// Its header cannot be accepted.
    Refused(MessageRefusal),
    /// The queue is full or its disk failed.
    Spool(SpoolError),
}

impl IntakeError {
    /// The SMTP reply to the message (RFC 5321 section 4.2.3, RFC 3463).
    pub fn reply(&self) -> String {
        match self {
            Self::TooLarge(limit) => format!("552 5.3.4 Message size exceeds the limit of {limit} bytes"),
            Self::Refused(refusal @ MessageRefusal::Loop { .. }) => format!("554 5.4.6 {refusal}"),
            Self::Refused(refusal) => format!("552 5.3.4 {refusal}"),
            Self::Spool(SpoolError::Share(_)) => {
                "452 4.3.1 Too many messages from this client in the queue, try again later".into()
            }
            Self::Spool(SpoolError::Full(_)) => "452 4.3.1 The queue is full, try again later".into(),
            Self::Spool(_) => "451 4.3.0 Cannot write to the queue, try again later".into(),
        }
    }
}

impl fmt::Display for IntakeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLarge(limit) => write!(f, "message size exceeds {limit} bytes (option message_limit)"),
            Self::Refused(refusal) => refusal.fmt(f),
            Self::Spool(error) => error.fmt(f),
        }
    }
}

impl From<SpoolError> for IntakeError {
    fn from(error: SpoolError) -> Self {
        Self::Spool(error)
    }
}

/// Where a message comes from.
#[derive(Debug, Clone, Default)]
pub struct Origin {
    /// Address of the device; `None` for programs on this host.
    pub client: Option<IpAddr>,
    /// The name from its HELO or EHLO.
    pub helo: String,
    /// The `with` of the Received line.
    pub protocol: &'static str,
    /// Whether the gateway itself wrote it.
    pub notice: bool,
    /// What the device policy decided about it.
    pub marks: Marks,
}

/// The device on whose behalf the gateway sends a message of its own: the settings of that device apply to the message
/// as well.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Behalf {
    /// Address of the device; `None` for programs on this host.
    pub client: Option<IpAddr>,
    /// Name of its `device` section.
    pub device: Option<String>,
    /// The login that was used to send it.
    pub login: Option<String>,
}

impl Behalf {
    /// The device that sent this message.
    pub fn of(meta: &Meta) -> Self {
        let Marks { device, login, .. } = &meta.marks;
        Self { client: meta.client.parse().ok(), device: device.clone(), login: login.clone() }
    }

    /// Drops what does not apply to a message of `other` as well.
    pub fn keep_common(&mut self, other: &Self) {
        self.client = self.client.filter(|client| other.client == Some(*client));
        self.device.take_if(|device| other.device.as_ref() != Some(device));
        self.login.take_if(|login| other.login.as_ref() != Some(login));
    }
}

impl Origin {
    /// The client as shown in logs and in the queue.
    pub fn name(&self) -> String {
        self.client.map_or_else(|| "local".to_string(), |ip| ip.to_canonical().to_string())
    }
}

/// A message that did not fit.
#[derive(Clone, Copy)]
struct Refused {
    /// Size of the smallest message that did not fit, in bytes.
    size: u64,
    /// The client whose share was full; `None`: the whole queue was full.
    client: Option<Client>,
}

/// Puts messages into the queue and passes them to the dispatcher.
#[derive(Clone)]
pub struct Desk {
    spool: Arc<Spool>,
    arrivals: mpsc::UnboundedSender<Box<(Entry, Meta)>>,
    /// Mail that has been begun.
    expected: mpsc::Sender<Box<Meta>>,
    /// What did not fit since the event for the full queue was logged; `None` while the queue is not full.
    full: Arc<Mutex<Option<Refused>>>,
    /// How much each device has sent: kept for the lifetime of the program, whatever happens to the settings.
    rates: Arc<Mutex<Rates>>,
    /// Which messages have to get through, by the current settings.
    alarms: Arc<Mutex<Arc<Alarms>>>,
}

impl Desk {
    /// A desk for `spool`; accepted messages are sent to `arrivals`, which contains no more than the spool does, and those
    /// that devices begin to `expected`.
    pub fn new(
        spool: Arc<Spool>,
        arrivals: mpsc::UnboundedSender<Box<(Entry, Meta)>>,
        expected: mpsc::Sender<Box<Meta>>,
    ) -> Self {
        let (full, rates, alarms) = Default::default();
        Self { spool, arrivals, expected, full, rates, alarms }
    }

    /// How much each device has sent. Do not wait for anything while holding the lock.
    pub fn rates(&self) -> &Arc<Mutex<Rates>> {
        &self.rates
    }

    /// From now on these messages have to get through.
    pub fn set_alarms(&self, alarms: Alarms) {
        *lock(&self.alarms) = Arc::new(alarms);
    }

    /// Whether a message of a client of `size` bytes (0: unknown) would be accepted now.
    ///
    /// # Errors
    /// The reason if not.
    pub fn room_for(&self, client: Client, size: u64) -> Result<(), IntakeError> {
        self.watch(client, size, self.spool.room_for(client, size))
    }

    /// Queues a message of the gateway itself, on behalf of a device or of none: then it is routed like mail that no
    /// rule mentions. `from` is its header address. Returns its message ID.
    ///
    /// # Errors
    /// If the queue does not accept it.
    pub async fn post(
        &self,
        text: &[u8],
        envelope: Envelope,
        behalf: Behalf,
        (hostname, from): (&str, &str),
    ) -> Result<String, IntakeError> {
        let Behalf { client, device, login } = behalf;
        let marks = Marks { device, login, ..Marks::default() };
        let origin = Origin { client, helo: hostname.into(), protocol: "local", notice: true, marks };
        let mut intake = self.begin(Client::Own, OWN_LIMIT)?;
        intake.push(text).await?;
        Ok(intake.finish(envelope, &origin, hostname, from).await?.id)
    }

    /// Begins a message of a client of at most `limit` bytes.
    ///
    /// # Errors
    /// If the queue is full.
    pub fn begin(&self, client: Client, limit: u64) -> Result<Box<Intake>, IntakeError> {
        let draft = self.watch(client, 0, self.spool.draft(client))?;
        Ok(Box::new(Intake { desk: self.clone(), client, draft, repair: Repair::new(), size: 0, limit }))
    }

    /// Begins a digest of a client's messages of at most `limit` bytes. The queue accepts it even when full, since the
    /// messages in it are removed.
    ///
    /// # Errors
    /// If the system provides no random numbers.
    pub fn begin_digest(&self, client: Client, limit: u64) -> Result<Box<Intake>, IntakeError> {
        let draft = self.spool.replacing_draft(client)?;
        Ok(Box::new(Intake { desk: self.clone(), client, draft, repair: Repair::new(), size: 0, limit }))
    }

    /// A message has been begun: what it is sent with can be prepared.
    pub fn expect(&self, envelope: Envelope, origin: &Origin) {
        let form = BodyForm { eight_bit: false, encode: Encode::Verbatim };
        let (client, marks) = (origin.name(), origin.marks.clone());
        let meta = Meta { envelope, form, arrived: 0, client, notice: false, undated: None, marks };
        // When more is begun than the dispatcher has taken in, it is sending already.
        let _ = self.expected.try_send(Box::new(meta));
    }

    /// Passes a message of [`Intake::keep`] to the dispatcher.
    pub fn announce(&self, entry: Entry, meta: Meta) {
        // Without a dispatcher the program is shutting down; the message is found at the next start.
        let _ = self.arrivals.send(Box::new((entry, meta)));
    }

    /// Logs once that the queue is full, for all clients or for one, when a message of `size` bytes (0: unknown) does
    /// not fit.
    fn watch<T>(&self, client: Client, size: u64, result: Result<T, SpoolError>) -> Result<T, IntakeError> {
        let error = match result {
            Ok(done) => return Ok(done),
            Err(error) => error,
        };
        let whose = matches!(error, SpoolError::Share(_)).then_some(client);
        if let SpoolError::Full(reason) | SpoolError::Share(reason) = &error {
            let mut full = lock(&self.full);
            if full.is_none() {
                Event::QueueFull { reason: reason.clone() }.log();
            }
            let Refused { size: smallest, client } = full.unwrap_or(Refused { size, client: whose });
            *full = Some(Refused { size: smallest.min(size), client: whose.or(client) });
        }
        Err(error.into())
    }

    /// Logs once that there is room again, when a message of `size` bytes of a client was accepted: not because a small
    /// one fits where larger ones do not, or because another client has room, but when what was refused would fit now,
    /// or half of the queue is free.
    fn taken(&self, client: Client, size: u64) {
        let mut full = lock(&self.full);
        let Some(refused) = *full else { return };
        let half = self.spool.usage_now().2 / 2;
        let fits = size >= refused.size && refused.client.is_none_or(|refused| refused == client);
        let of = refused.client.unwrap_or(Client::Own);
        if fits || self.spool.room_for(of, refused.size.min(half)).is_ok() {
            *full = None;
            Event::QueueHasRoom.log();
        }
    }
}

/// A message that is being received.
pub struct Intake {
    desk: Desk,
    client: Client,
    draft: Draft,
    repair: Repair,
    size: u64,
    limit: u64,
}

/// A message that is in the queue.
#[derive(Debug)]
pub struct Taken {
    /// Its message ID.
    pub id: String,
    /// Size as sent by the client, in bytes.
    pub size: u64,
    /// Its subject as the log shows it.
    pub subject: String,
    /// The repairs that were made, as text.
    pub repairs: Vec<&'static str>,
}

impl Intake {
    /// Takes the next bytes: dots unstuffed, line endings as received.
    ///
    /// # Errors
    /// If it is too large or the disk fails; the message cannot be used any more then.
    pub async fn push(&mut self, bytes: &[u8]) -> Result<(), IntakeError> {
        self.take(bytes)?;
        self.settle().await
    }

    /// The first half of [`Self::push`], which waits for nothing: the caller need not keep the bytes until the disk has them.
    ///
    /// # Errors
    /// If it is too large; the message cannot be used any more then.
    pub fn take(&mut self, bytes: &[u8]) -> Result<(), IntakeError> {
        self.size = self.size.saturating_add(bytes.len() as u64);
        if self.size > self.limit {
            return Err(IntakeError::TooLarge(self.limit));
        }
        self.repair.push(bytes, self.draft.buffer(bytes.len()));
        Ok(())
    }

    /// The second half of [`Self::push`]: writes what was taken, if it is much.
    ///
    /// # Errors
    /// If the disk fails; the message cannot be used any more then.
    pub async fn settle(&mut self) -> Result<(), IntakeError> {
        let settled = self.draft.settle().await;
        self.desk.watch(self.client, self.size, settled)
    }

    /// Ends the message. When this returns, it is in the queue with the guarantee of option `durability`.
    ///
    /// # Errors
    /// If it cannot be accepted; nothing of it remains then.
    pub async fn finish(
        self: Box<Self>,
        envelope: Envelope,
        origin: &Origin,
        hostname: &str,
        fallback_from: &str,
    ) -> Result<Taken, IntakeError> {
        let desk = self.desk.clone();
        let (taken, entry, meta) = self.keep(envelope, origin, hostname, fallback_from).await?;
        desk.announce(entry, meta);
        Ok(taken)
    }

    /// Like [`Self::finish`], but the dispatcher does not see the message before [`Desk::announce`], or the next start.
    ///
    /// # Errors
    /// As for [`Self::finish`].
    pub async fn keep(
        mut self: Box<Self>,
        envelope: Envelope,
        origin: &Origin,
        hostname: &str,
        fallback_from: &str,
    ) -> Result<(Taken, Entry, Meta), IntakeError> {
        let id = self.draft.id().to_string();
        let now = clock::now();
        let facts = Facts {
            envelope: &envelope,
            id: &id,
            hostname,
            helo: &origin.helo,
            // A message of the gateway itself comes from this host, whatever device it is about.
            client: origin.client.filter(|_| !origin.notice),
            protocol: origin.protocol,
            now,
            fallback_from,
        };
        let repaired = self.repair.finish(&facts, self.draft.buffer(0)).map_err(IntakeError::Refused)?;
        let mut marks = origin.marks.clone();
        if !origin.notice {
            let alarms = Arc::clone(&lock(&self.desk.alarms));
            marks.alarm = alarms.of(marks.device.as_deref(), &repaired.header);
        }
        let undated = Undated { boot: clock::boot().into(), uptime: clock::uptime(), dates: repaired.dates };
        let meta = Meta {
            envelope,
            form: repaired.form,
            arrived: now,
            client: origin.name(),
            notice: origin.notice,
            undated: Some(undated),
            marks,
        };
        let subject = subject::of(&repaired.header);
        let committed = self.draft.commit(repaired.header, meta.clone()).await;
        let entry = self.desk.watch(self.client, self.size, committed)?;
        self.desk.taken(self.client, self.size);
        Ok((Taken { id, size: self.size, subject, repairs: repaired.repairs }, entry, meta))
    }
}
