// SPDX-License-Identifier: Apache-2.0
//! Everything that happens to a message or an account, as one type with one log line each.
//!
//! A line consists of `key=value` pairs. Values with spaces are quoted; the queue ID is in each line of its message, so
//! that `logread | grep ID` shows its whole history. Passwords and message text are never logged, and the subject only if option `log_subject` allows it.
//!
//! Events also get from where they happen to the observers: history, hook, control. Their hub exists once per process,
//! because an event can happen anywhere, on blocking threads too. It never waits: an observer that is slow loses events
//! and gets their number as soon as it has room again.

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::mpsc;

use super::repeats::{self, Same};
use crate::system::lock;

/// Why something was refused or failed: one plain sentence with its remedy.
pub type Reason = String;

/// How a connection to a provider was encrypted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TlsFacts {
    /// `TLSv1.3`, `TLSv1.2`, or `none`.
    pub version: String,
    /// Name of the cipher suite; empty without TLS.
    pub cipher: String,
    /// `yes` by an authority, `fingerprint`, or `no`.
    pub verified: &'static str,
    /// When the certificate of the server expires, seconds since 1970, if it says so. Not in the log.
    pub expires: Option<i64>,
}

impl std::fmt::Display for TlsFacts {
    /// In one sentence, for display.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let verified = match self.verified {
            "yes" => "the certificate is signed by a known authority",
            "fingerprint" => "the certificate matches the pinned fingerprint",
            _ => "the certificate was NOT verified",
        };
        write!(f, "{} with {}; {verified}", self.version, self.cipher)?;
        match self.expires {
            Some(expires) => write!(f, " and valid until {}", crate::message::date::rfc5322(expires)),
            None => Ok(()),
        }
    }
}

impl TlsFacts {}

/// What happened to a step of an escalation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StepResult {
    /// It has begun.
    Begun,
    /// Its account took the message.
    Taken,
    /// Its account will not take it.
    Failed,
}

/// Room for a line of the log, which most need.
const LINE: usize = 256;

/// One event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Devices can now connect here.
    Listening { listener: String, address: IpAddr, port: u16 },
    /// A device was refused before it could send a command.
    Refused { client: String, reason: Reason },
    /// A message is safe in the queue; the device got its 250.
    Accepted {
        id: String,
        client: String,
        helo: String,
        /// Name of the section `device` that applies to it, if it has one of its own. Not in the log.
        device: Option<String>,
        /// Its name for display, in the log as `device`; empty without such a section.
        title: String,
        login: Option<String>,
        /// Version of TLS, if the device used it.
        tls: Option<String>,
        from: String,
        to: Vec<String>,
        size: u64,
        /// See [`super::subject`].
        subject: String,
        repairs: Vec<&'static str>,
    },
    /// A device used a wrong user name or password.
    LoginFailed { client: String, name: String },
    /// A device offered a message that was not accepted.
    Rejected { client: String, from: String, to: Vec<String>, reply: String },
    /// A session ended other than with QUIT or between messages.
    Aborted { client: String, reason: Reason },
    /// A session ended without a message; `tried` is what was done instead, with advice.
    NoMail { client: String, helo: String, tried: Reason },
    /// A provider accepted the message for one recipient.
    Delivered {
        id: String,
        client: String,
        from: String,
        to: String,
        size: u64,
        subject: String,
        account: String,
        tls: Option<TlsFacts>,
        reply: String,
        delay: u64,
    },
    /// Delivery to one recipient was deferred.
    Deferred {
        id: String,
        to: String,
        account: String,
        tls: Option<TlsFacts>,
        reason: Reason,
        next: Duration,
        /// Whether nothing is wrong: the message waits because the settings say so, as for its digest.
        planned: bool,
    },
    /// Delivery to one recipient failed permanently.
    Failed {
        id: String,
        client: String,
        from: String,
        to: String,
        size: u64,
        subject: String,
        account: String,
        tls: Option<TlsFacts>,
        reason: Reason,
        delay: u64,
    },
    /// A step of the escalation of a message: it has begun, or ended. `to` is a recipient, if a channel ended it.
    Step { id: String, step: usize, account: String, to: String, result: StepResult, text: Reason },
    /// Nothing is sent to this recipient, since the rest of the message was delivered in time.
    Spared { id: String, to: String, reason: Reason },
    /// A message is finished for all recipients and left the queue.
    Removed { id: String },
    /// A message is in a digest and left the queue with it.
    Collected { id: String, digest: String },
    /// A digest was put into the queue: one of its mails, with this number of messages.
    Digested { id: String, device: String, messages: usize, to: Vec<String> },
    /// A report of a failure was put into the queue.
    Notified { id: String, about: String, to: String },
    /// A failure could not be reported to anyone.
    Unreported { about: String, reason: Reason },
    /// An account is paused.
    Paused { account: String, reason: Reason, next: Duration },
    /// The account works again.
    Resumed { account: String },
    /// A test mail was sent on request, to check whether the account works; `failed` is why it does not.
    Tested { account: String, to: String, tls: Option<TlsFacts>, failed: Option<Reason> },
    /// A file in the spool cannot be used and was set aside.
    SetAside { file: String, reason: Reason },
    /// The queue was read at start.
    Recovered { messages: usize, bytes: u64 },
    /// The queue could not be written.
    SpoolTrouble { id: String, reason: Reason },
    /// No more mail can be accepted; devices get a temporary error.
    QueueFull { reason: Reason },
    /// Mail is accepted again.
    QueueHasRoom,
    /// New settings are in effect.
    Reloaded,
    /// New settings cannot be used; the old ones stay in effect.
    ReloadRefused { reason: Reason },
    /// A problem that the administrator should fix.
    Advice { text: String },
    /// The program has started.
    Started { version: &'static str },
    /// The program ends.
    Stopped { waiting: usize },
    /// A check of everything was requested.
    Woken { reason: Reason },
    /// The clock was set; its new value, seconds since 1970.
    ClockSet { now: i64 },
    /// A message was put on hold, by the administrator or by the gateway for a reason.
    Held { id: String, reason: Reason },
    /// A message was released.
    Released { id: String },
    /// A message was deleted.
    Deleted { id: String },
    /// A device that is expected to send has been silent for too long; `device` is its section, `last` when it was heard
    /// last, seconds since 1970, if known.
    DeviceSilent { device: String, name: String, last: Option<i64>, reason: Reason },
    /// A device that was silent for too long was `heard` again, or is no longer expected to send.
    DeviceOk { device: String, name: String, heard: bool, reason: Reason },
    /// An observer was too slow for so many events; only that observer gets this, see `observe`.
    Overrun { lost: u32 },
}

/// One field of an event.
#[derive(Debug, Clone, Copy)]
pub enum Field<'a> {
    /// A word or a sentence.
    Text(&'a str),
    /// The same if it may be empty: then the log omits it.
    Optional(&'a str),
    /// A mail address.
    Address(&'a str),
    /// Recipients: the first few of them are listed.
    Addresses(&'a [String]),
    /// Sentences; the log omits an empty list.
    List(&'a [&'static str]),
    /// An IP address.
    Ip(IpAddr),
    /// A number of things or bytes.
    Number(u64),
    /// A duration in seconds.
    Seconds(u64),
    /// A moment, seconds since 1970.
    Time(i64),
}

/// Name and fields of an event.
#[derive(Debug)]
pub struct Fields<'a> {
    /// Its name in the log.
    pub name: &'static str,
    /// Its fields by key, in the order of the log.
    pub all: Vec<(&'static str, Field<'a>)>,
}

// Step by step, which is much less code than a single table.
impl<'a> Fields<'a> {
    fn new(name: &'static str) -> Self {
        Self { name, all: Vec::with_capacity(16) }
    }

    #[inline(never)]
    fn add(mut self, key: &'static str, field: Field<'a>) -> Self {
        self.all.push((key, field));
        self
    }

    fn text(self, key: &'static str, text: &'a str) -> Self {
        self.add(key, Field::Text(text))
    }

    fn optional(self, key: &'static str, text: &'a str) -> Self {
        self.add(key, Field::Optional(text))
    }

    fn address(self, key: &'static str, address: &'a str) -> Self {
        self.add(key, Field::Address(address))
    }

    fn number(self, key: &'static str, number: u64) -> Self {
        self.add(key, Field::Number(number))
    }

    fn tls(self, facts: Option<&'a TlsFacts>) -> Self {
        match facts {
            None => self,
            Some(tls) => self.text("tls", &tls.version).optional("cipher", &tls.cipher).text("verified", tls.verified),
        }
    }
}

impl std::fmt::Display for Field<'_> {
    /// The value alone, as passed to scripts.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Text(text) | Self::Optional(text) | Self::Address(text) => f.write_str(text),
            Self::Addresses(to) => f.write_str(&to.join(",")),
            Self::List(texts) => f.write_str(&texts.join(", ")),
            Self::Ip(ip) => ip.fmt(f),
            Self::Number(number) | Self::Seconds(number) => number.fmt(f),
            Self::Time(at) => at.fmt(f),
        }
    }
}

impl Field<'_> {
    /// Adds `key=value` to a line of the log; quotes values that are not a single word.
    fn write(&self, key: &str, line: &mut String) {
        /// Recipients that are listed.
        const SHOWN: usize = 5;
        let value: Cow<'_, str> = match self {
            Self::Optional("") | Self::List([]) => return,
            Self::Text(text) | Self::Optional(text) => (*text).into(),
            Self::Address(address) => ["<", address, ">"].concat().into(),
            Self::Addresses(to) => {
                let mut text: Vec<String> = to.iter().take(SHOWN).map(|a| ["<", a, ">"].concat()).collect();
                if to.len() > SHOWN {
                    text.push(format!("and-{}-more", to.len() - SHOWN));
                }
                text.join(",").into()
            }
            Self::Seconds(seconds) => format!("{seconds}s").into(),
            field => field.to_string().into(),
        };
        let plain = !value.is_empty() && value.bytes().all(|b| b.is_ascii_graphic() && b != b'"');
        // Not by `write!`, which takes each part through the same detours as a number with a width.
        [" ", key, "="].iter().for_each(|part| line.push_str(part));
        match plain {
            true => line.push_str(&value),
            false => ["\"", &value.replace('"', "'"), "\""].iter().for_each(|part| line.push_str(part)),
        }
    }
}

impl Event {
    /// Writes the event's line to the log, then passes the event to the observers (see `observe`). Never waits.
    pub fn log(&self) {
        self.log_by(self.at_will());
    }

    /// As [`Self::log`], for lines that `client` can cause as often as it likes: see [`repeats`].
    pub fn log_for(&self, client: &str) {
        self.log_by(Some(Same { client, kind: "advice", text: None, lasts: false }));
    }

    /// As [`Self::log`], for trouble that is found again every few seconds as long as it lasts: a disk that stays full. The
    /// line is written when it begins, and then once per hour while it lasts: see [`repeats`].
    pub fn log_lasting(&self) {
        self.log_by(Some(Same { client: "queue", kind: self.fields().name, text: None, lasts: true }));
    }

    /// As [`Self::log_lasting`], for trouble that many messages have in common: `reason` is what remains the same in its
    /// lines, while the number of messages and the first one differ.
    pub fn log_common(&self, reason: &str) {
        // Not among those that are about single messages, which may be many.
        self.log_by(Some(Same { client: "spool", kind: self.fields().name, text: Some(reason), lasts: true }));
    }

    fn log_by(&self, same: Option<Same<'_>>) {
        let (level, line) = (self.level(), self.line());
        if same.is_none_or(|same| repeats::is_new(same, level, &line)) {
            log::log!(target: "smtprelay", level, "{line}");
        }
        HUB.publish(self);
    }

    /// The client that can cause this line as often as it likes, and the kind of line: see [`repeats`].
    fn at_will(&self) -> Option<Same<'_>> {
        // How full it was differs each time.
        let text = matches!(self, Self::QueueFull { .. }).then_some("event=queue_full");
        let same = |client| Some(Same { client, kind: self.fields().name, text, lasts: false });
        match self {
            Self::Refused { client, .. }
            | Self::LoginFailed { client, .. }
            | Self::Rejected { client, .. }
            | Self::Aborted { client, .. }
            | Self::NoMail { client, .. } => same(client),
            // Devices that keep a queue full while it drains.
            Self::QueueFull { .. } | Self::QueueHasRoom => same("several"),
            _ => None,
        }
    }

    fn level(&self) -> log::Level {
        match self {
            Self::Deferred { planned: true, .. } => log::Level::Info,
            Self::Failed { .. }
            | Self::Step { result: StepResult::Failed, .. }
            | Self::Unreported { .. }
            | Self::SetAside { .. }
            | Self::SpoolTrouble { .. }
            | Self::ReloadRefused { .. } => log::Level::Error,
            Self::Refused { .. }
            | Self::LoginFailed { .. }
            | Self::Rejected { .. }
            | Self::Aborted { .. }
            | Self::Deferred { .. }
            | Self::Step { result: StepResult::Begun, .. }
            | Self::Held { .. }
            | Self::Paused { .. }
            | Self::Tested { failed: Some(_), .. }
            | Self::QueueFull { .. }
            | Self::DeviceSilent { .. }
            | Self::Overrun { .. }
            | Self::Advice { .. } => log::Level::Warn,
            _ => log::Level::Info,
        }
    }

    /// The name of the event and its fields, in order: the one table for log, ubus and hook.
    pub fn fields(&self) -> Fields<'_> {
        let fields = Fields::new;
        match self {
            Self::Listening { listener, address, port } => fields("listening")
                .optional("listener", listener)
                .add("address", Field::Ip(*address))
                .number("port", u64::from(*port)),
            Self::Refused { client, reason } => fields("refused").text("client", client).text("text", reason),
            Self::LoginFailed { client, name } => fields("login_failed")
                .text("client", client)
                .optional("login", name)
                .text("text", "wrong user name or password: compare the device's settings with the user sections"),
            Self::Accepted { id, client, helo, device: _, title, login, tls, from, to, size, subject, repairs } => {
                fields("accepted")
                    .text("id", id)
                    .text("client", client)
                    .optional("device", title)
                    .optional("helo", helo)
                    .optional("login", login.as_deref().unwrap_or_default())
                    .optional("tls", tls.as_deref().unwrap_or_default())
                    .address("from", from)
                    .add("to", Field::Addresses(to))
                    .number("size", *size)
                    .optional("subject", subject)
                    .add("repaired", Field::List(repairs))
            }
            Self::Rejected { client, from, to, reply } => fields("rejected")
                .text("client", client)
                .address("from", from)
                .add("to", Field::Addresses(to))
                .text("reply", reply),
            Self::Aborted { client, reason } => fields("aborted").text("client", client).text("text", reason),
            Self::NoMail { client, helo, tried } => {
                fields("no_mail").text("client", client).optional("helo", helo).text("text", tried)
            }
            Self::Delivered { id, client, from, to, size, subject, account, tls, reply: said, delay }
            | Self::Failed { id, client, from, to, size, subject, account, tls, reason: said, delay } => {
                let (name, key) = match self {
                    Self::Delivered { .. } => ("delivered", "reply"),
                    _ => ("failed", "text"),
                };
                fields(name)
                    .text("id", id)
                    .optional("client", client)
                    .address("from", from)
                    .address("to", to)
                    .number("size", *size)
                    .optional("subject", subject)
                    .text("account", account)
                    .tls(tls.as_ref())
                    .add("delay", Field::Seconds(*delay))
                    .text(key, said)
            }
            Self::Deferred { id, to, account, tls, reason, next, planned: _ } => fields("deferred")
                .text("id", id)
                .address("to", to)
                .optional("account", account)
                .tls(tls.as_ref())
                .add("next", Field::Seconds(next.as_secs()))
                .text("text", reason),
            Self::Step { id, step, account, to: _, result, text } => {
                let (name, key) = match result {
                    StepResult::Begun => ("escalated", "text"),
                    StepResult::Taken => ("step_taken", "reply"),
                    StepResult::Failed => ("step_failed", "text"),
                };
                fields(name).text("id", id).number("step", *step as u64).text("account", account).text(key, text)
            }
            Self::Spared { id, to, reason } => fields("spared").text("id", id).address("to", to).text("text", reason),
            Self::Removed { id } => fields("removed").text("id", id),
            Self::Collected { id, digest } => fields("collected").text("id", id).text("digest", digest),
            Self::Digested { id, device, messages, to } => fields("digested")
                .text("id", id)
                .optional("device", device)
                .number("messages", *messages as u64)
                .add("to", Field::Addresses(to)),
            Self::Notified { id, about, to } => {
                fields("notified").text("id", id).text("about", about).address("to", to)
            }
            Self::Unreported { about, reason } => fields("unreported").text("id", about).text("text", reason),
            Self::Paused { account, reason, next } => fields("paused")
                .text("account", account)
                .add("next", Field::Seconds(next.as_secs()))
                .text("text", reason),
            Self::Resumed { account } => fields("resumed").text("account", account),
            Self::Tested { account, to, tls, failed } => fields("tested")
                .text("account", account)
                .address("to", to)
                .tls(tls.as_ref())
                .text("result", if failed.is_some() { "failed" } else { "accepted" })
                .optional("text", failed.as_deref().unwrap_or_default()),
            Self::SetAside { file, reason } => fields("set_aside").text("file", file).text("text", reason),
            Self::Recovered { messages, bytes } => {
                fields("recovered").number("messages", *messages as u64).number("bytes", *bytes)
            }
            Self::SpoolTrouble { id, reason } => fields("spool_trouble").optional("id", id).text("text", reason),
            Self::QueueFull { reason } => fields("queue_full").text("text", reason),
            Self::QueueHasRoom => fields("queue_has_room"),
            Self::Woken { reason } => fields("woken").text("reason", reason),
            Self::ClockSet { now } => fields("clock_set").add("now", Field::Time(*now)),
            Self::Held { id, reason } => fields("held").text("id", id).optional("text", reason),
            Self::Released { id } => fields("released").text("id", id),
            Self::Deleted { id } => fields("deleted").text("id", id),
            Self::DeviceSilent { device, name, last, reason } => {
                let fields = fields("device_silent").text("device", device).text("name", name);
                let fields = match last {
                    Some(last) => fields.add("last", Field::Time(*last)),
                    None => fields,
                };
                fields.text("text", reason)
            }
            Self::DeviceOk { device, name, heard: _, reason } => {
                fields("device_ok").text("device", device).text("name", name).text("text", reason)
            }
            Self::Reloaded => fields("reloaded"),
            Self::ReloadRefused { reason } => fields("reload_refused").text("text", reason),
            Self::Advice { text } => fields("advice").text("text", text),
            Self::Started { version } => fields("started").text("version", version),
            Self::Stopped { waiting } => fields("stopped").number("waiting", *waiting as u64),
            Self::Overrun { lost } => fields("overrun").number("lost", u64::from(*lost)),
        }
    }

    /// The line as it is logged.
    pub fn line(&self) -> String {
        let fields = self.fields();
        let mut line = String::with_capacity(LINE);
        line.push_str("event=");
        line.push_str(fields.name);
        for (key, field) in &fields.all {
            field.write(key, &mut line);
        }
        line
    }
}

/// The maximum number of observers. Each uses memory for its waiting events.
pub const OBSERVER_LIMIT: usize = 4;

static HUB: Hub = Hub::new();

struct Observer {
    events: mpsc::Sender<Arc<Event>>,
    /// Events that were lost since the last one that was delivered.
    lost: u32,
}

struct Hub {
    observers: Mutex<Vec<Observer>>,
    /// Their number, so that events cost nothing without observers.
    count: AtomicUsize,
}

/// Every event from now on, in the order in which each thread saw them. At most `capacity` (at least 1) wait; when more
/// arrive they are lost, and an [`Event::Overrun`] says how many before the next one that fits.
///
/// Drop the receiver to stop. Beyond [`OBSERVER_LIMIT`] observers the returned receiver is closed.
pub fn observe(capacity: usize) -> mpsc::Receiver<Arc<Event>> {
    HUB.observe(capacity)
}

impl Hub {
    const fn new() -> Self {
        Self { observers: Mutex::new(Vec::new()), count: AtomicUsize::new(0) }
    }

    fn observe(&self, capacity: usize) -> mpsc::Receiver<Arc<Event>> {
        let (sender, receiver) = mpsc::channel(capacity.max(1));
        let mut observers = lock(&self.observers);
        observers.retain(|observer| !observer.events.is_closed());
        if observers.len() < OBSERVER_LIMIT {
            observers.push(Observer { events: sender, lost: 0 });
        }
        self.count.store(observers.len(), Ordering::Relaxed);
        receiver
    }

    /// Passes `event` to all observers. Never waits.
    fn publish(&self, event: &Event) {
        if self.count.load(Ordering::Relaxed) == 0 {
            return;
        }
        let event = Arc::new(event.clone());
        let mut observers = lock(&self.observers);
        observers.retain_mut(|observer| observer.pass(&event));
        self.count.store(observers.len(), Ordering::Relaxed);
    }
}

impl Observer {
    /// False when the observer is gone.
    fn pass(&mut self, event: &Arc<Event>) -> bool {
        if self.lost > 0 && self.events.try_send(Arc::new(Event::Overrun { lost: self.lost })).is_ok() {
            self.lost = 0;
        }
        // If a loss is still to be reported, a later event must not overtake it.
        if self.lost > 0 || self.events.try_send(Arc::clone(event)).is_err() {
            self.lost = self.lost.saturating_add(1);
        }
        !self.events.is_closed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_pairs_and_quotes_what_has_blanks() {
        let event = Event::Deferred {
            id: "ABC".into(),
            to: "a@b.c".into(),
            account: "gmail".into(),
            tls: None,
            reason: "the server said \"later\"".into(),
            next: Duration::from_secs(60),
            planned: false,
        };
        assert_eq!(event.level(), log::Level::Warn);
        assert_eq!(
            event.line(),
            "event=deferred id=ABC to=<a@b.c> account=gmail next=60s text=\"the server said 'later'\""
        );
        let Event::Deferred { id, to, account, tls, reason, next, .. } = event else { unreachable!() };
        let digest = Event::Deferred { id, to, account, tls, reason, next, planned: true };
        assert_eq!(digest.level(), log::Level::Info, "what was asked for is not a warning");
    }

    #[test]
    fn many_recipients_are_counted() {
        let to: Vec<String> = (0..7).map(|i| format!("{i}@x.y")).collect();
        let line = Event::Rejected { client: "10.0.0.1".into(), from: String::new(), to, reply: "452".into() }.line();
        assert!(line.contains("from=<> to=<0@x.y>,<1@x.y>,<2@x.y>,<3@x.y>,<4@x.y>,and-2-more "), "{line}");
    }

    fn removed(id: usize) -> Event {
        Event::Removed { id: id.to_string() }
    }

    fn drain(receiver: &mut mpsc::Receiver<Arc<Event>>) -> Vec<Event> {
        std::iter::from_fn(|| receiver.try_recv().ok()).map(|event| (*event).clone()).collect()
    }

    #[test]
    fn every_observer_gets_every_event() {
        let hub = Hub::new();
        hub.publish(&removed(0));
        let mut two = [hub.observe(8), hub.observe(8)];
        hub.publish(&removed(1));
        hub.publish(&removed(2));
        for receiver in &mut two {
            assert_eq!(drain(receiver), [removed(1), removed(2)]);
        }
    }

    #[test]
    fn a_slow_observer_hears_how_many_it_lost_and_disturbs_nobody() {
        let hub = Hub::new();
        let (mut slow, mut quick) = (hub.observe(2), hub.observe(100));
        (0..5).for_each(|n| hub.publish(&removed(n)));
        assert_eq!(drain(&mut slow), [removed(0), removed(1)]);
        hub.publish(&removed(5));
        assert_eq!(drain(&mut slow), [Event::Overrun { lost: 3 }, removed(5)]);
        assert_eq!(drain(&mut quick), (0..6).map(removed).collect::<Vec<_>>());
        // Room for one only: first the loss, and the event itself is lost in turn.
        let mut tiny = hub.observe(1);
        (0..3).for_each(|n| hub.publish(&removed(n)));
        assert_eq!(drain(&mut tiny), [removed(0)]);
        hub.publish(&removed(3));
        assert_eq!(drain(&mut tiny), [Event::Overrun { lost: 2 }]);
        hub.publish(&removed(4));
        assert_eq!(drain(&mut tiny), [Event::Overrun { lost: 1 }]);
    }

    #[test]
    fn there_is_an_end_to_observers_and_their_places_are_used_again() {
        let hub = Hub::new();
        let mut all: Vec<_> = (0..OBSERVER_LIMIT).map(|_| hub.observe(1)).collect();
        assert_eq!(hub.observe(1).try_recv(), Err(mpsc::error::TryRecvError::Disconnected));
        all.pop();
        hub.publish(&removed(0));
        assert_eq!(hub.count.load(Ordering::Relaxed), OBSERVER_LIMIT - 1);
        assert_eq!(hub.observe(1).try_recv(), Err(mpsc::error::TryRecvError::Empty));
    }

    #[test]
    fn events_of_all_threads_arrive() {
        let hub = Hub::new();
        let mut receiver = hub.observe(4000);
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let hub = &hub;
                scope.spawn(move || (0..1000).for_each(|n| hub.publish(&removed(thread * 1000 + n))));
            }
        });
        let mut seen = drain(&mut receiver);
        seen.sort_by_key(Event::line);
        seen.dedup();
        assert_eq!(seen.len(), 4000);
    }

    #[tokio::test]
    async fn what_is_logged_is_observed() {
        let mut receiver = observe(1000);
        let mine = Event::Advice { text: "what_is_logged_is_observed".into() };
        let logged = mine.clone();
        tokio::task::spawn_blocking(move || logged.log()).await.unwrap();
        // Other tests of this process log as well.
        while *receiver.recv().await.unwrap() != mine {}
    }
}
