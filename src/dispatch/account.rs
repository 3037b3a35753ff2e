// SPDX-License-Identifier: Apache-2.0
//! The state of an account: its connections, what is known of its provider, and whether it is paused.

mod lanes;
mod pause;

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio_rustls::TlsConnector;

pub use self::lanes::{AccountHealth, Lanes, nothing_new};
pub use self::pause::{Look, PauseFacts};
use self::pause::{Pause, pause_time};
use super::escalation::StepJob;
use crate::config::Account;
use crate::net::{Trouble, TroubleKind};
use crate::outbound::Connection;
use crate::outbound::test_mail::{self, judges_certificates};
use crate::queue::{Client, Entry, MessageId, Reserve};
use crate::report::Event;
use crate::system::{clock, task};

/// How long an unused connection is kept for the next message.
const IDLE: Duration = Duration::from_secs(20);
/// Messages per connection; some providers allow no more than a hundred.
const MESSAGES: u32 = 100;
/// How long it is remembered that a server allows fewer. Finding it out again costs a connection and one refused MAIL.
const REMEMBERED: Duration = Duration::from_secs(3600);
/// While a provider defers every message: how often one of them is tried before its time.
const PROBE: Duration = Duration::from_secs(15);
/// The same while it relays nothing to the recipient of a message, but may take other mail.
const UNRELAYED: Duration = Duration::from_secs(900);
/// How long no connection is opened ahead of mail after one for which no mail came, or which failed.
const AHEAD: Duration = Duration::from_secs(300);
/// How long mail that needs no certificate waits for the clock after the start, so that its dates are right.
const CLOCK_PATIENCE: Duration = Duration::from_secs(120);

/// Up to how many bytes a message is small: it takes a second at 512 kbit/s.
const SMALL: u64 = 64 << 10;
/// How long a small message may take on an open connection. An alarm can wait for that and still leave in three seconds.
const QUICK: Duration = Duration::from_secs(2);
/// How long it is remembered that one took longer.
const SLOW: Duration = Duration::from_secs(600);
/// How long mail waits for a connection that is about to be free. A new one takes four or five round trips and, on a small
/// router, the processor time of ten small messages; a small message takes two or three.
const SOON: Duration = Duration::from_millis(500);
/// As long as no more than so many wait: what they take one after another, a new connection takes to open.
const FEW: usize = 4;

/// A message that is being delivered.
struct Flight {
    id: MessageId,
    client: Client,
    began: Instant,
    /// Whether its time says how quick the provider is: it is small, and needed no new connection.
    telling: bool,
}

/// What a delivery starts with.
pub struct DeliveryJob {
    /// The account.
    pub account: Arc<Account>,
    /// Our own host name.
    pub hostname: String,
    /// TLS, when an earlier delivery has set it up.
    pub connector: Option<TlsConnector>,
    /// A connection that is still open.
    pub connection: Option<Connection>,
    /// The server has accepted mail from the account: a later refusal to relay is not about the account.
    pub takes_mail: bool,
    /// The server has shown that its replies match our commands.
    pub in_step: bool,
    /// The settings it was started with.
    pub generation: u32,
    /// How often everything had been woken by then.
    pub wakings: u32,
    /// The step of an escalation that it is, if it is one.
    pub step: Option<StepJob>,
}

/// What a delivery returns.
pub struct Returned {
    /// See the job.
    pub generation: u32,
    /// See the job.
    pub wakings: u32,
    /// After how many messages on a connection the server refused more, if it did.
    pub spent: Option<u32>,
    /// Whether the server's replies matched our commands, if that became clear.
    pub in_step: Option<bool>,
    /// TLS, for the next delivery.
    pub connector: Option<TlsConnector>,
}

/// What a connection that was opened ahead of mail returns.
pub struct Ahead {
    /// See the job.
    pub generation: u32,
    /// See the job.
    pub wakings: u32,
    /// TLS, for the next delivery.
    pub connector: Option<TlsConnector>,
    /// The connection, or why there is none.
    pub result: Result<Connection, Trouble>,
}

/// The state of one account.
pub struct Lane {
    account: Arc<Account>,
    hostname: String,
    connector: Option<TlsConnector>,
    idle: Vec<Connection>,
    in_flight: Vec<Flight>,
    /// Whether a connection is being opened for mail that a device is about to send.
    opening: bool,
    /// Since when such connections are opened again.
    ahead_from: Option<Instant>,
    /// Why one could not be opened, and when.
    ahead_trouble: Option<(Trouble, Instant)>,
    /// Whether a small message was quick, and when one was not.
    quick: bool,
    slow: Option<Instant>,
    pause: Option<Pause>,
    /// The client whose message the account fell into trouble over last.
    blamed: Option<Client>,
    /// Since the provider defers everything: when one message is tried before its time.
    doubt: Option<Instant>,
    /// Whether it defers messages for other reasons than that it does not relay to a recipient.
    defers: bool,
    /// How many messages the server accepts on one connection, as observed, and when.
    most: Option<(u32, Instant)>,
    /// The server has accepted mail from the account.
    takes_mail: bool,
    /// Whether the server's replies match our commands, as far as known. Once they did not, they are
    /// no longer trusted.
    in_step: Option<bool>,
    generation: u32,
    made: Instant,
}

impl Lane {
    /// The lane of an account. `hostname` is our own name.
    pub fn new(account: &Account, hostname: &str) -> Self {
        static GENERATION: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        Self {
            account: Arc::new(account.clone()),
            hostname: hostname.into(),
            connector: None,
            idle: Vec::new(),
            in_flight: Vec::new(),
            opening: false,
            ahead_from: None,
            ahead_trouble: None,
            quick: false,
            slow: None,
            pause: None,
            blamed: None,
            doubt: None,
            defers: false,
            most: None,
            takes_mail: false,
            in_step: None,
            made: Instant::now(),
            generation: GENERATION.fetch_add(1, std::sync::atomic::Ordering::Relaxed),
        }
    }

    /// The name of the account.
    pub fn name(&self) -> String {
        self.account.name.clone()
    }

    /// Which lane it is: deliveries and queued mail store this number.
    pub fn generation(&self) -> u32 {
        self.generation
    }

    /// Whether this is the lane of `account` as now configured: nothing has changed that its provider could notice.
    pub fn serves(&self, account: &Account, hostname: &str) -> bool {
        let Account { general, connections, .. } = *account;
        hostname == self.hostname && Account { general, connections, ..Account::clone(&self.account) } == *account
    }

    /// Continues with an account that it [serves](Self::serves).
    #[must_use]
    pub fn adopt(mut self, account: &Account) -> Self {
        self.account = Arc::new(account.clone());
        self
    }

    /// Sends QUIT on all idle connections: the account was removed or changed.
    pub fn close(self) {
        say_goodbye(self.idle);
    }

    /// Why nothing is sent now, or why nothing was sent before the attempt in progress.
    pub fn paused(&self, now: Instant) -> Option<PauseFacts> {
        self.pause.as_ref().map(|pause| pause.facts(now))
    }

    /// When the pause ends; `None` when there is none, or it is over.
    pub fn paused_until(&self, now: Instant) -> Option<Instant> {
        self.pause.as_ref().map(Pause::until).filter(|until| *until > now)
    }

    /// Ends a pause whose cause [may have passed](Pause::may_have_passed): the uplink is back, or the clock is set.
    pub fn look_now(&mut self, now: Instant) {
        if self.pause.as_ref().is_none_or(Pause::may_have_passed) {
            self.retry_now(now);
        }
    }

    /// Ends the pause: the administrator reports a change. If it did not help, retries start with short pauses again.
    pub fn retry_now(&mut self, now: Instant) {
        self.ahead_trouble = None;
        if let Some(pause) = &mut self.pause {
            pause.retry_now(now);
        }
        self.doubt = self.doubt.map(|_| now);
    }

    /// Waits as long as the clock is evidently wrong: certificates cannot be verified, and dates would be wrong.
    /// Returns whether it waits.
    pub fn waits_for_clock(&mut self, now: Instant) -> bool {
        let waits = self.needs_clock(now);
        if waits {
            self.pause(&test_mail::clock_trouble(), Look::Fresh, now);
        }
        waits
    }

    /// Whether a connection that was opened ahead has failed so recently that another attempt would be too early: then the
    /// account pauses as if mail had met that.
    pub fn has_just_failed(&mut self, now: Instant) -> bool {
        let Some((trouble, at)) = self.ahead_trouble.take() else { return false };
        let recent = now < at + pause_time(trouble.kind, 1);
        if recent {
            self.pause(&trouble, Look::Fresh, at);
        }
        recent
    }

    fn needs_clock(&self, now: Instant) -> bool {
        let judges = judges_certificates(&self.account);
        let patient = now.saturating_duration_since(self.made) < CLOCK_PATIENCE;
        !clock::is_set() && (judges || patient)
    }

    /// A message was deferred for reasons that may be the provider's. `unrelayed`: it relays nothing to a recipient.
    /// Servers lock out clients that ask for this often, so it is tried again when another message is accepted, and
    /// otherwise seldom; a check that is due before stays. True if such a message is to be tried in its own time: with
    /// another one it is found out sooner whether the provider accepts mail again.
    pub fn put_off(&mut self, unrelayed: bool, now: Instant) -> bool {
        self.defers |= !unrelayed;
        let stays = self.doubt.filter(|next| unrelayed && *next > now);
        self.doubt = Some(stays.unwrap_or(now + if self.defers { PROBE } else { UNRELAYED }));
        unrelayed && self.defers
    }

    /// When a message is to be tried before its time, to check whether the provider accepts mail again.
    pub fn next_probe(&self) -> Option<Instant> {
        self.doubt.filter(|_| self.in_flight.is_empty())
    }

    /// Whether another delivery may start when `due` messages wait. While the account is in trouble, there is one at a
    /// time; a connection that is being opened is waited for, and one that is soon free.
    pub fn has_room(&self, due: usize, now: Instant) -> bool {
        match &self.pause {
            Some(pause) => pause.until() <= now && self.in_flight.is_empty() && !self.opening,
            None => self.free() > 0 && (!self.idle.is_empty() || !self.opening && !self.is_soon_free(due, now)),
        }
    }

    fn is_soon_free(&self, due: usize, now: Instant) -> bool {
        due <= FEW && self.soon_free(now).is_some()
    }

    /// How long the end of a small message on an open connection is waited for, if there is one to wait for.
    pub fn soon_free(&self, now: Instant) -> Option<Instant> {
        if self.is_slow(now) {
            return None;
        }
        let small = self.in_flight.iter().filter(|flight| flight.telling);
        small.map(|flight| flight.began + SOON).max().filter(|until| *until > now)
    }

    fn is_slow(&self, now: Instant) -> bool {
        self.slow.is_some_and(|at| now.saturating_duration_since(at) < SLOW)
    }

    /// How many more deliveries its connections allow.
    fn free(&self) -> usize {
        usize::try_from(self.account.connections).unwrap_or(usize::MAX).saturating_sub(self.in_flight.len())
    }

    /// What the next delivery may not be, so that large or slow mail of one client does not hold all connections: the
    /// last free one is for clients that use none, and for small mail as long as that takes no time. With a single
    /// connection there is nothing to be reserved. After trouble over a message of one client, others are tried first.
    pub fn reserve(&self, now: Instant) -> Reserve {
        if self.is_in_trouble() {
            return Reserve { clients: self.blamed.into_iter().collect(), most: 0 };
        }
        if self.free() > 1 {
            return Reserve::default();
        }
        let most = if self.quick && !self.is_slow(now) { SMALL } else { 0 };
        Reserve { clients: self.in_flight.iter().map(|flight| flight.client).collect(), most }
    }

    /// A message of this client got the account into trouble.
    pub fn blame(&mut self, client: Client) {
        self.blamed = Some(client);
    }

    /// Whether it was in trouble at the last attempt.
    pub fn is_in_trouble(&self) -> bool {
        self.pause.is_some()
    }

    /// Prepares the delivery of a message. To be called only when there is room. `wakings`: how often everything was
    /// woken.
    pub fn job(&mut self, entry: &Entry, wakings: u32, now: Instant) -> DeliveryJob {
        let telling = entry.size <= SMALL && !self.idle.is_empty();
        self.in_flight.push(Flight { id: entry.id, client: entry.client, began: now, telling });
        let connection = self.idle.pop();
        self.job_with(connection, wakings)
    }

    /// What a connection is opened with for mail that a device is about to send; `None` if there is one already, or if it
    /// would not help. When the mail is complete, the handshake and the login are over.
    pub fn job_ahead(&mut self, wakings: u32, now: Instant) -> Option<DeliveryJob> {
        let healthy =
            self.account.channel.is_none() && self.pause.is_none() && self.doubt.is_none() && !self.needs_clock(now);
        let wanted = self.idle.is_empty() && !self.opening && self.has_room(1, now);
        let early = self.ahead_from.is_some_and(|from| from > now);
        (healthy && wanted && !early).then(|| {
            self.opening = true;
            self.job_with(None, wakings)
        })
    }

    /// Takes the result of [`Self::job_ahead`]. `awaited`: mail waits for it. Otherwise trouble that passes is ignored,
    /// unless mail [comes at once](Self::has_just_failed); a refused login never is.
    pub fn connected(&mut self, opened: Ahead, awaited: bool, look: Look, now: Instant) {
        self.opening = false;
        self.connector = self.connector.take().or(opened.connector);
        match opened.result {
            Ok(mut connection) => {
                connection.used = now;
                self.idle.push(connection);
            }
            Err(trouble) => {
                self.ahead_from = Some(now + AHEAD);
                if awaited || matches!(trouble.kind, TroubleKind::Login | TroubleKind::Quota) {
                    self.pause(&trouble, look, now);
                } else {
                    self.ahead_trouble = Some((trouble, now));
                }
            }
        }
    }

    fn job_with(&self, connection: Option<Connection>, wakings: u32) -> DeliveryJob {
        DeliveryJob {
            account: Arc::clone(&self.account),
            hostname: self.hostname.clone(),
            connector: self.connector.clone(),
            connection,
            takes_mail: self.takes_mail,
            in_step: self.in_step == Some(true),
            generation: self.generation,
            wakings,
            step: None,
        }
    }

    /// Takes back what a delivery returns.
    pub fn returned(&mut self, returned: Returned, connection: Option<Connection>, now: Instant) {
        self.connector = self.connector.take().or(returned.connector);
        if let Some(spent) = returned.spent {
            self.most = Some((spent, now));
        }
        if self.in_step != Some(false) {
            self.in_step = returned.in_step.or(self.in_step);
        }
        if let Some(mut connection) = connection {
            connection.used = now;
            self.idle.push(connection);
        }
        let most = self.most(now);
        let (spent, keep) = std::mem::take(&mut self.idle).into_iter().partition(|c| c.messages >= most);
        self.idle = keep;
        say_goodbye(spent);
    }

    /// How many messages one connection carries.
    fn most(&self, now: Instant) -> u32 {
        let fresh = self.most.filter(|(_, since)| now.saturating_duration_since(*since) < REMEMBERED);
        fresh.map_or(MESSAGES, |(most, _)| most.clamp(1, MESSAGES))
    }

    /// The result of a delivery is on disk, and its slot is free. Not before: so at most as many messages as there are
    /// slots can be duplicated after a crash.
    pub fn settled(&mut self, id: MessageId, now: Instant) {
        let Some(at) = self.in_flight.iter().position(|flight| flight.id == id) else { return };
        let Flight { began, telling, .. } = self.in_flight.swap_remove(at);
        if telling && now.saturating_duration_since(began) > QUICK {
            self.slow = Some(now);
        } else if telling {
            self.quick = true;
        }
    }

    /// Trouble: everything waits. It is logged when it is new, and then less and less often.
    pub fn pause(&mut self, trouble: &Trouble, look: Look, now: Instant) {
        // A delivery that was in progress when another met the trouble adds nothing new.
        if self.paused_until(now).is_some() {
            return;
        }
        let (pause, is_news) = Pause::after(self.pause.take(), trouble, look, now);
        if is_news {
            let next = pause.until().saturating_duration_since(now);
            Event::Paused { account: self.name(), reason: trouble.reason(), next }.log();
        }
        self.idle.clear();
        // Certificates may have been installed in the meantime.
        self.connector = None;
        self.pause = Some(pause);
    }

    /// Whether a refused message shows that the account works.
    pub fn ends_with_a_reply(&self) -> bool {
        self.pause.as_ref().is_none_or(Pause::ends_with_a_reply)
    }

    /// A transaction was completed: the account works.
    pub fn works(&mut self) {
        self.blamed = None;
        if self.pause.take().is_some() {
            Event::Resumed { account: self.name() }.log();
        }
    }

    /// A message was accepted. True when the provider had deferred all others before.
    pub fn taken(&mut self) -> bool {
        (self.takes_mail, self.defers) = (true, false);
        self.doubt.take().is_some()
    }

    /// When the oldest idle connection is to be closed.
    pub fn idle_until(&self) -> Option<Instant> {
        self.idle.iter().map(|connection| connection.used + IDLE).min()
    }

    /// Sends QUIT on connections that were idle too long.
    pub fn close_idle(&mut self, now: Instant) {
        let (keep, close): (_, Vec<_>) = std::mem::take(&mut self.idle).into_iter().partition(|c| c.used + IDLE > now);
        self.idle = keep;
        if close.iter().any(|connection| connection.messages == 0) {
            // A device that begins mail and never completes it costs the provider no login every 20 seconds.
            self.ahead_from = Some(now + AHEAD);
        }
        say_goodbye(close);
    }
}

fn say_goodbye(connections: Vec<Connection>) {
    for connection in connections {
        task::spawn(quit(connection));
    }
}

/// QUIT (RFC 5321 section 4.1.1.10); the reply is not waited for long.
pub async fn quit(mut connection: Connection) {
    connection.client.timeout = Duration::from_secs(5);
    connection.client.quit().await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Settings;
    use crate::queue::Place;

    #[test]
    fn trouble_from_before_a_change_is_looked_at_again_at_once() {
        let settings = settings(SETTINGS);
        let (mut lane, now) = (Lane::new(&settings.accounts[0], "gw"), Instant::now());
        let trouble = Trouble::new(TroubleKind::Login, String::from("no"));
        let message =
            |name| Entry { id: MessageId::like(name), client: Client::Own, place: Place::Spool, arrived: 0, size: 1 };
        lane.job(&message("one"), 0, now);
        lane.job(&message("other"), 0, now);
        lane.pause(&trouble, Look::Fresh, now);
        assert_eq!(lane.paused_until(now), Some(now + Duration::from_secs(60)));
        lane.retry_now(now);
        // It began with the old password.
        lane.pause(&trouble, Look::Outdated, now);
        assert_eq!((lane.paused_until(now), lane.is_in_trouble()), (None, true));
        lane.settled(message("one").id, now);
        lane.settled(message("other").id, now);
        assert!(lane.has_room(1, now));
        lane.pause(&trouble, Look::Fresh, now);
        assert_eq!(lane.paused_until(now), Some(now + Duration::from_secs(60)));
    }

    fn failed(job: &DeliveryJob, kind: TroubleKind) -> Ahead {
        let result = Err(Trouble::new(kind, String::from("no")));
        Ahead { generation: job.generation, wakings: 0, connector: None, result }
    }

    #[test]
    fn a_server_that_does_not_relay_to_a_recipient_is_asked_again_seldom() {
        let settings = settings(SETTINGS);
        let (mut lane, now) = (Lane::new(&settings.accounts[0], "gw"), Instant::now());
        assert!(!lane.put_off(true, now));
        assert_eq!(lane.next_probe(), Some(now + UNRELAYED));
        // What may be the provider's trouble is checked as soon as ever, and that check stays.
        assert!(!lane.put_off(false, now) && lane.put_off(true, now));
        assert_eq!(lane.next_probe(), Some(now + PROBE));
        // With others: such a message does not use up their check.
        assert!(lane.put_off(true, now + PROBE));
        assert_eq!(lane.next_probe(), Some(now + 2 * PROBE));
        assert!(lane.taken() && lane.next_probe().is_none());
        assert!(!lane.put_off(true, now));
        assert_eq!(lane.next_probe(), Some(now + UNRELAYED));
    }

    #[test]
    fn one_connection_at_a_time_is_opened_ahead_and_mail_waits_for_it() {
        let settings = settings(SETTINGS);
        let (mut lane, now) = (Lane::new(&settings.accounts[0], "gw"), Instant::now());
        let job = lane.job_ahead(0, now).unwrap();
        assert!(lane.job_ahead(0, now).is_none() && !lane.has_room(1, now));
        // The mail was not completed, and what passes does not pause the account.
        lane.connected(failed(&job, TroubleKind::Unreachable), false, Look::Fresh, now);
        assert!(lane.has_room(1, now) && !lane.is_in_trouble());
        // Mail that comes in this moment waits, and later mail does not.
        assert!(!lane.has_just_failed(now + Duration::from_secs(3)) && !lane.is_in_trouble());
        lane.ahead_trouble = Some((Trouble::new(TroubleKind::Unreachable, String::from("no")), now));
        assert!(lane.has_just_failed(now + Duration::from_secs(1)));
        assert_eq!(lane.paused_until(now), Some(now + Duration::from_secs(3)));
        lane.works();
        // Devices that begin mail again and again make no more attempts.
        assert!(lane.job_ahead(0, now + AHEAD - Duration::from_secs(1)).is_none());
        let later = now + AHEAD;
        let job = lane.job_ahead(0, later).unwrap();
        // Mail waits for it.
        lane.connected(failed(&job, TroubleKind::Unreachable), true, Look::Fresh, later);
        assert!(!lane.has_room(1, later) && lane.is_in_trouble());
        assert!(lane.job_ahead(0, later + AHEAD).is_none(), "an account in trouble is tried with mail");
    }

    #[test]
    fn a_login_that_was_refused_ahead_of_mail_is_not_repeated_for_it() {
        let settings = settings(SETTINGS);
        let (mut lane, now) = (Lane::new(&settings.accounts[0], "gw"), Instant::now());
        let job = lane.job_ahead(0, now).unwrap();
        lane.connected(failed(&job, TroubleKind::Login), false, Look::Fresh, now);
        assert_eq!(lane.paused_until(now), Some(now + Duration::from_secs(60)));
    }

    #[test]
    fn no_connection_is_opened_ahead_for_a_channel() {
        let channel = "config channel 'phone'\n option service 'ntfy'\n option to 'x'\n";
        let settings = settings(&format!("{SETTINGS}{channel}"));
        let ahead = |place: usize| {
            let (mut lane, now) = (Lane::new(&settings.accounts[place], "gw"), Instant::now());
            lane.job_ahead(0, now).is_some()
        };
        assert_eq!((ahead(1), ahead(2)), (true, false));
    }

    #[test]
    fn large_or_slow_mail_of_one_client_leaves_a_connection_to_others() {
        let settings = settings(SETTINGS);
        let (mut lane, now) = (Lane::new(&settings.accounts[0], "gw"), Instant::now());
        let (one, other) = (Client::V4([10, 0, 0, 1]), Client::V4([10, 0, 0, 2]));
        let message =
            |name, client| Entry { id: MessageId::like(name), client, place: Place::Spool, arrived: 0, size: 1 };
        let allowed = |lane: &Lane, client, now| match lane.reserve(now) {
            reserve if reserve.clients.contains(&client) => reserve.most,
            _ => u64::MAX,
        };
        assert_eq!(allowed(&lane, one, now), u64::MAX);
        lane.job(&message("1", one), 0, now);
        // Nothing is known of this provider yet.
        assert_eq!((allowed(&lane, one, now), allowed(&lane, other, now)), (0, u64::MAX));
        lane.in_flight[0].telling = true;
        lane.settled(message("1", one).id, now + QUICK);
        lane.job(&message("2", one), 0, now);
        assert_eq!((allowed(&lane, one, now), allowed(&lane, other, now)), (SMALL, u64::MAX));
        lane.in_flight[0].telling = true;
        let late = now + 2 * QUICK;
        lane.settled(message("2", one).id, late);
        lane.job(&message("3", one), 0, late);
        assert_eq!((allowed(&lane, one, late), allowed(&lane, one, late + SLOW)), (0, SMALL));
    }

    #[test]
    fn no_connection_is_opened_beside_one_that_is_soon_free() {
        let settings = settings(SETTINGS);
        let (mut lane, now) = (Lane::new(&settings.accounts[0], "gw"), Instant::now());
        let message = |name| {
            let client = Client::V4([10, 0, 0, 1]);
            Entry { id: MessageId::like(name), client, place: Place::Spool, arrived: 0, size: 1 }
        };
        // It opens a connection of its own, which takes longer.
        lane.job(&message("1"), 0, now);
        assert!(lane.has_room(1, now) && lane.soon_free(now).is_none());
        lane.in_flight[0].telling = true;
        assert_eq!((lane.has_room(1, now), lane.soon_free(now)), (false, Some(now + SOON)));
        assert!(lane.job_ahead(0, now).is_none());
        // A queue, or one that takes its time.
        assert!(lane.has_room(FEW + 1, now));
        let late = now + SOON;
        assert!(lane.has_room(1, late) && lane.soon_free(late).is_none() && lane.job_ahead(0, late).is_some());
        lane.opening = false;
        // Small messages have been slow.
        lane.settled(message("1").id, now + 2 * QUICK);
        lane.job(&message("2"), 0, now + 2 * QUICK);
        lane.in_flight[0].telling = true;
        assert!(lane.has_room(1, now + 2 * QUICK));
    }

    #[test]
    fn an_uplink_that_comes_back_ends_no_pause_of_a_refused_login() {
        let settings = settings(SETTINGS);
        for (kind, ends) in [
            (TroubleKind::Unreachable, true),
            (TroubleKind::Tls, true),
            (TroubleKind::Setup, true),
            (TroubleKind::Busy, true),
            (TroubleKind::Clock, true),
            (TroubleKind::Login, false),
            (TroubleKind::Sender, false),
            (TroubleKind::Quota, false),
        ] {
            let (mut lane, now) = (Lane::new(&settings.accounts[0], "gw"), Instant::now());
            lane.pause(&Trouble::new(kind, String::from("no")), Look::Fresh, now);
            lane.look_now(now);
            assert_eq!(lane.has_room(1, now), ends, "{kind:?}");
            lane.retry_now(now);
            assert!(lane.has_room(1, now));
        }
    }

    pub const SETTINGS: &str = "config listener 'l'\n list address '::1'\n\
        config account 'a'\n option host 'a.org'\n option username 'me@a.org'\n option password 'p'\n\
        config account 'b'\n option host 'b.org'\n option from 'me@b.org'\n";

    pub fn settings(text: &str) -> Settings {
        crate::config::parse(std::path::Path::new("t"), text.as_bytes()).unwrap().settings
    }
}
