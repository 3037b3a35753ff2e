// SPDX-License-Identifier: Apache-2.0
//! The state of each account: its connections, and whether it is paused; selects the account for the next message of a
//! route.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio_rustls::TlsConnector;

use super::escalation::StepJob;
use crate::config::{Account, Settings};
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
/// How long no connection is opened ahead of mail after one for which no mail came, or which failed.
const AHEAD: Duration = Duration::from_secs(300);
/// What a server asks to wait is followed from a second to an hour.
const SHORTEST_ASKED: Duration = Duration::from_secs(1);
const LONGEST_ASKED: Duration = Duration::from_secs(3600);
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

/// Why nothing is sent, and for how long.
struct Pause {
    until: Instant,
    since: Instant,
    failures: u32,
    trouble: Trouble,
}

/// A pause, as shown to people.
#[derive(Debug, Clone)]
pub struct PauseFacts {
    /// The reason in one plain sentence with its remedy.
    pub reason: String,
    /// How long nothing has been sent.
    pub since: Duration,
    /// How long until the next attempt; `None` when only a change of the settings helps.
    pub next: Option<Duration>,
    /// The remedy alone; empty if it makes no sense on its own.
    pub remedy: String,
}

/// The state of an account.
#[derive(Debug, Clone)]
pub struct AccountHealth {
    /// Its name.
    pub name: String,
    /// Why it sends nothing, if it is paused.
    pub pause: Option<PauseFacts>,
}

impl PauseFacts {
    /// No account can send this mail: the settings have none for it, or no longer.
    pub fn no_account() -> Self {
        let remedy = "add a section account, or name an enabled account in its route";
        let reason = format!("no account is enabled for this mail: {remedy}");
        Self { reason, since: Duration::ZERO, next: None, remedy: remedy.into() }
    }
}

/// How trouble is to be judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Look {
    /// It is current.
    Fresh,
    /// The delivery that met it was already running when someone reported a change. It does not know whether the change
    /// helped, so the next attempt is at once.
    Outdated,
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
    /// The account has no login, and the server has accepted mail from it anyway.
    pub needs_no_login: bool,
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
    /// How many messages the server accepts on one connection, as observed, and when.
    most: Option<(u32, Instant)>,
    /// The account has no login, and the server has accepted mail from it anyway.
    needs_no_login: bool,
    /// Whether the server's replies match our commands, as far as known. Once they did not, they are
    /// no longer trusted.
    in_step: Option<bool>,
    generation: u32,
    made: Instant,
}

/// How long an account pauses after its `failures`-th trouble in a row. What passes on its own is checked often, so
/// mail flows half a minute after it is over, however long it lasted. A refused login is retried rarely, since
/// providers lock accounts after several, and so is a limit, which includes attempts as well.
fn pause_time(kind: TroubleKind, failures: u32) -> Duration {
    let (first, last) = match kind {
        TroubleKind::Unreachable | TroubleKind::Tls | TroubleKind::Setup | TroubleKind::Busy => (3, 20),
        TroubleKind::Quota | TroubleKind::Rate => (30, 900),
        TroubleKind::Login | TroubleKind::Sender => (60, 900),
        TroubleKind::Clock => (5, 5),
    };
    Duration::from_secs(u64::min(first << failures.saturating_sub(1).min(10), last))
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
            most: None,
            needs_no_login: false,
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
        self.pause.as_ref().map(|pause| PauseFacts {
            reason: pause.trouble.reason(),
            remedy: pause.trouble.why.remedy.clone(),
            since: now.saturating_duration_since(pause.since),
            next: Some(pause.until.saturating_duration_since(now)),
        })
    }

    /// When the pause ends; `None` when there is none, or it is over.
    pub fn paused_until(&self, now: Instant) -> Option<Instant> {
        self.pause.as_ref().map(|pause| pause.until).filter(|until| *until > now)
    }

    /// Ends a pause whose cause may be over now that the uplink is back or the clock is set. Refusals by the provider
    /// are not affected: it registers each refused login and eventually locks the account.
    pub fn look_now(&mut self, now: Instant) {
        let passes = |pause: &Pause| {
            use TroubleKind::{Login, Quota, Rate, Sender};
            !matches!(pause.trouble.kind, Login | Sender | Quota | Rate)
        };
        if self.pause.as_ref().is_none_or(passes) {
            self.retry_now(now);
        }
    }

    /// Ends the pause: the administrator reports a change. If it did not help, retries start with short pauses again.
    pub fn retry_now(&mut self, now: Instant) {
        self.ahead_trouble = None;
        if let Some(pause) = &mut self.pause {
            pause.until = now;
            pause.failures = 0;
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

    /// A message was deferred for reasons that may be the provider's.
    pub fn put_off(&mut self, now: Instant) {
        self.doubt = Some(now + PROBE);
    }

    /// When a message is to be tried before its time, to check whether the provider accepts mail again.
    pub fn next_probe(&self) -> Option<Instant> {
        self.doubt.filter(|_| self.in_flight.is_empty())
    }

    /// Whether another delivery may start when `due` messages wait. While the account is in trouble, there is one at a
    /// time; a connection that is being opened is waited for, and one that is soon free.
    pub fn has_room(&self, due: usize, now: Instant) -> bool {
        match &self.pause {
            Some(pause) => pause.until <= now && self.in_flight.is_empty() && !self.opening,
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
            needs_no_login: self.needs_no_login,
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
        let (before, known) = match &self.pause {
            // A delivery that was in progress when another met the trouble adds nothing new.
            Some(pause) if pause.until > now => return,
            Some(pause) => (pause.failures, pause.trouble.why == trouble.why),
            None => (0, false),
        };
        let (failures, wait) = match look {
            Look::Fresh => {
                let failures = before.saturating_add(1);
                let asked = trouble.after.map(|after| after.clamp(SHORTEST_ASKED, LONGEST_ASKED));
                (failures, asked.unwrap_or_else(|| pause_time(trouble.kind, failures)))
            }
            Look::Outdated => (before, Duration::ZERO),
        };
        if !known || failures.is_power_of_two() {
            Event::Paused { account: self.name(), reason: trouble.reason(), next: wait }.log();
        }
        self.idle.clear();
        // Certificates may have been installed in the meantime.
        self.connector = None;
        let since = self.pause.as_ref().map_or(now, |pause| pause.since);
        self.pause = Some(Pause { until: now + wait, since, failures, trouble: trouble.clone() });
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
        self.needs_no_login = self.account.username.is_none();
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

/// The lanes, in the order of the accounts.
pub struct Lanes(Vec<Lane>);

impl Lanes {
    /// A lane for each account.
    pub fn new(settings: &Settings) -> Self {
        let hostname = settings.relay.hostname();
        Self(settings.accounts.iter().map(|account| Lane::new(account, &hostname)).collect())
    }

    /// The lanes of new settings. An unchanged account keeps its lane, including connections and pause: nothing
    /// has changed for its provider. The connections of the others are closed.
    pub fn renew(&mut self, settings: &Settings) {
        let hostname = settings.relay.hostname();
        let mut former = std::mem::take(&mut self.0);
        for account in &settings.accounts {
            let same = former.iter().position(|lane| lane.serves(account, &hostname));
            self.0.push(match same {
                Some(at) => former.swap_remove(at).adopt(account),
                None => Lane::new(account, &hostname),
            });
        }
        former.into_iter().for_each(Lane::close);
    }

    /// The lanes at these indexes.
    pub fn generations(&self, order: &[usize]) -> Vec<u32> {
        order.iter().filter_map(|place| self.0.get(*place)).map(Lane::generation).collect()
    }

    /// The index of the account that takes the next of `due` messages, out of `order`: the first one that is not in
    /// trouble. One whose pause is over gets a message as a test; until that is back the next account is used. A healthy
    /// account that is fully busy is waited for: the others are for failover, not for speed.
    pub fn choose(&self, order: &[usize], due: usize, now: Instant) -> Option<usize> {
        for place in order {
            let Some(lane) = self.0.get(*place) else { continue };
            if lane.has_room(due, now) {
                return Some(*place);
            }
            if !lane.is_in_trouble() {
                return None;
            }
        }
        None
    }

    /// The lane at an index.
    pub fn get(&mut self, place: usize) -> Option<&mut Lane> {
        self.0.get_mut(place)
    }

    /// The same, read-only.
    pub fn at(&self, place: usize) -> Option<&Lane> {
        self.0.get(place)
    }

    /// The lane that started a delivery; `None` when it was started with older settings: then its trouble does not apply
    /// here.
    pub fn of(&mut self, generation: u32) -> Option<&mut Lane> {
        self.0.iter_mut().find(|lane| lane.generation == generation)
    }

    /// All of them.
    pub fn all(&mut self) -> impl Iterator<Item = &mut Lane> {
        self.0.iter_mut()
    }

    /// When the next idle connection is to be closed.
    pub fn idle_until(&self) -> Option<Instant> {
        self.0.iter().filter_map(Lane::idle_until).min()
    }

    /// Why mail that may take the accounts in `order` is not sent now, with the name of the account tried first,
    /// if there is one; `None` when one of them works.
    pub fn paused(&self, order: &[usize], now: Instant) -> Option<(String, PauseFacts)> {
        let lanes = || order.iter().filter_map(|place| self.0.get(*place));
        if lanes().any(|lane| !lane.is_in_trouble()) {
            return None;
        }
        let pauses = lanes().filter_map(|lane| Some((lane.name(), lane.paused(now)?)));
        Some(pauses.min_by_key(|(_, pause)| pause.next).unwrap_or_else(|| (String::new(), PauseFacts::no_account())))
    }

    /// The names of the accounts at these places.
    pub fn names(&self, order: &[usize]) -> Vec<String> {
        order.iter().filter_map(|place| Some(self.0.get(*place)?.name())).collect()
    }

    /// The state of each account.
    pub fn health(&self, now: Instant) -> Vec<AccountHealth> {
        self.0.iter().map(|lane| AccountHealth { name: lane.name(), pause: lane.paused(now) }).collect()
    }
}

/// Whether mail that waited for the lanes in `before` gains nothing from those in `now`: none is new, and their
/// order is the same.
pub fn nothing_new(before: &[u32], now: &[u32]) -> bool {
    let mut before = before.iter();
    now.iter().all(|lane| before.any(|known| known == lane))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::{Trouble, TroubleKind};
    use crate::queue::Place;

    #[test]
    fn what_passes_is_probed_within_half_a_minute_and_what_others_count_is_not() {
        let times = |kind| [1, 2, 3, 4, 5, 6, u32::MAX].map(|n| pause_time(kind, n).as_secs());
        for kind in [TroubleKind::Unreachable, TroubleKind::Tls, TroubleKind::Setup, TroubleKind::Busy] {
            assert_eq!(times(kind), [3, 6, 12, 20, 20, 20, 20], "{kind:?}");
        }
        assert_eq!(times(TroubleKind::Quota), [30, 60, 120, 240, 480, 900, 900]);
        assert_eq!(times(TroubleKind::Login), [60, 120, 240, 480, 900, 900, 900]);
        assert_eq!(times(TroubleKind::Sender), times(TroubleKind::Login));
    }

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
    fn a_server_that_says_how_long_to_wait_is_followed() {
        let settings = settings(SETTINGS);
        for (after, expected) in [(None, 30), (Some(7), 7), (Some(0), 1), (Some(1 << 40), 3600)] {
            let (mut lane, now) = (Lane::new(&settings.accounts[0], "gw"), Instant::now());
            let trouble = Trouble::new(TroubleKind::Quota, "slow down");
            lane.pause(&trouble.after(after.map(Duration::from_secs)), Look::Fresh, now);
            assert_eq!(lane.paused_until(now), Some(now + Duration::from_secs(expected)), "{after:?}");
        }
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

    const SETTINGS: &str = "config listener 'l'\n list address '::1'\n\
        config account 'a'\n option host 'a.org'\n option username 'me@a.org'\n option password 'p'\n\
        config account 'b'\n option host 'b.org'\n option from 'me@b.org'\n";

    fn settings(text: &str) -> Settings {
        crate::config::parse(std::path::Path::new("t"), text.as_bytes()).unwrap().settings
    }

    /// Those of two accounts that pause for a refused login.
    fn paused() -> (Lanes, Instant) {
        let (mut lanes, now) = (Lanes::new(&settings(SETTINGS)), Instant::now());
        let trouble = Trouble::new(TroubleKind::Login, "no");
        lanes.all().for_each(|lane| lane.pause(&trouble, Look::Fresh, now));
        (lanes, now)
    }

    #[test]
    fn an_account_that_is_as_it_was_keeps_its_lane_wherever_it_stands() {
        let (mut lanes, now) = paused();
        let before = lanes.generations(&[0, 1]);
        lanes.renew(&settings(SETTINGS));
        assert_eq!(lanes.generations(&[0, 1]), before);
        // Which mail it takes, and on how many connections, does not matter to its provider.
        let (head, rest) = SETTINGS.split_at(SETTINGS.find("config account 'b'").unwrap());
        let new = "config account 'n'\n option host 'n.org'\n option from 'me@n.org'\n option default '0'\n";
        lanes.renew(&settings(&format!("{head} option connections '7'\n option default '0'\n{new}{rest}")));
        let after = lanes.generations(&[0, 1, 2]);
        assert_eq!([after[0], after[2]], *before);
        let pauses: Vec<bool> = lanes.health(now).into_iter().map(|account| account.pause.is_some()).collect();
        assert_eq!(pauses, [true, false, true]);
    }

    #[test]
    fn what_the_provider_sees_makes_another_lane() {
        let stamped = |stamp| {
            let mut settings = settings(SETTINGS);
            settings.accounts[0].files = Some(stamp);
            settings
        };
        for changed in [
            settings(&SETTINGS.replace("'p'", "'q'")),
            settings(&SETTINGS.replace("a.org", "c.org")),
            settings(&SETTINGS.replace("'p'\n", "'p'\n option port '2465'\n")),
            settings(&SETTINGS.replace("'p'\n", "'p'\n option ca_file '/ca.pem'\n")),
            stamped(1),
        ] {
            let (mut lanes, now) = paused();
            let before = lanes.generations(&[0, 1]);
            lanes.renew(&changed);
            let after = lanes.generations(&[0, 1]);
            assert!(after[0] != before[0] && after[1] == before[1], "{before:?} {after:?}");
            assert!(lanes.at(0).unwrap().paused(now).is_none());
        }
        let (mut lanes, _) = paused();
        let before = lanes.generations(&[0, 1]);
        let text = SETTINGS.to_string() + "config relay\n option hostname 'other.example'\n";
        lanes.renew(&settings(&text));
        assert!(lanes.generations(&[0, 1]).iter().all(|lane| !before.contains(lane)));
    }

    #[test]
    fn what_mail_may_hope_for() {
        for (before, now, nothing) in [
            (&[1, 2][..], &[1, 2][..], true),
            (&[1, 2], &[2], true),
            (&[1, 2], &[], true),
            (&[1, 2], &[2, 1], false),
            (&[1, 2], &[1, 3], false),
            (&[1], &[1, 2], false),
            (&[], &[1], false),
        ] {
            assert_eq!(nothing_new(before, now), nothing, "{before:?} {now:?}");
        }
    }
}
