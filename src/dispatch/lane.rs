//! The state of one account: its connections, and whether it is paused.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio_rustls::TlsConnector;

use crate::config::{Account, Settings};
use crate::outbound::verdict::TroubleKind;
use crate::outbound::{Connection, Trouble};
use crate::report::Event;

/// How long an unused connection is kept for the next message.
const IDLE: Duration = Duration::from_secs(20);
/// Messages on one connection; some providers want no more than a hundred.
const MESSAGES: u32 = 100;

/// Why and how long nothing is sent.
struct Pause {
    until: Instant,
    failures: u32,
    trouble: Trouble,
}

/// What a delivery takes along.
pub struct Job {
    /// The account.
    pub account: Arc<Account>,
    /// Our own name.
    pub hostname: String,
    /// TLS, when an earlier delivery has prepared it.
    pub connector: Option<TlsConnector>,
    /// A connection that is still open.
    pub connection: Option<Connection>,
    /// Which settings it was started under.
    pub generation: u32,
}

/// What a delivery brings back.
pub struct Returned {
    /// As in the job.
    pub generation: u32,
    /// TLS, for the next delivery.
    pub connector: Option<TlsConnector>,
}

/// One account at work.
pub struct Lane {
    account: Option<Arc<Account>>,
    hostname: String,
    connector: Option<TlsConnector>,
    idle: Vec<Connection>,
    in_flight: u32,
    pause: Option<Pause>,
    generation: u32,
}

/// Seconds that an account pauses after its `failures`-th trouble in a row. A broken uplink is looked at often, so that
/// mail is through half a minute after it is back; a refused login seldom, since providers lock accounts for that.
fn pause_time(kind: TroubleKind, failures: u32) -> Duration {
    let (first, last) = match kind {
        TroubleKind::Unreachable => (3, 20),
        TroubleKind::Tls | TroubleKind::Setup => (10, 60),
        TroubleKind::Busy => (30, 900),
        TroubleKind::Login => (60, 900),
    };
    Duration::from_secs(u64::min(first << failures.saturating_sub(1).min(10), last))
}

impl Lane {
    /// The lane of the first account.
    pub fn new(settings: &Settings) -> Self {
        static GENERATION: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        Self {
            account: settings.accounts.first().cloned().map(Arc::new),
            hostname: settings.relay.hostname(),
            connector: None,
            idle: Vec::new(),
            in_flight: 0,
            pause: None,
            generation: GENERATION.fetch_add(1, std::sync::atomic::Ordering::Relaxed),
        }
    }

    /// Name of the account.
    pub fn name(&self) -> String {
        self.account.as_ref().map(|a| a.name.clone()).unwrap_or_default()
    }

    /// The reason why nothing is sent now.
    pub fn paused(&self, now: Instant) -> Option<String> {
        self.pause.as_ref().filter(|pause| pause.until > now).map(|pause| pause.trouble.reason.clone())
    }

    /// How long the pause still is.
    pub fn wait(&self, now: Instant) -> Duration {
        self.pause.as_ref().map_or(Duration::ZERO, |pause| pause.until.saturating_duration_since(now))
    }

    /// Whether another delivery may start. While the account is in trouble there is one at a time.
    pub fn has_room(&self, now: Instant) -> bool {
        let Some(account) = &self.account else { return false };
        match &self.pause {
            Some(pause) => pause.until <= now && self.in_flight == 0,
            None => self.in_flight < account.connections,
        }
    }

    /// What the next delivery takes along; `None` without an account. Call it only when there is room.
    pub fn job(&mut self) -> Option<Job> {
        let account = self.account.clone()?;
        self.in_flight = self.in_flight.saturating_add(1);
        Some(Job {
            account,
            hostname: self.hostname.clone(),
            connector: self.connector.clone(),
            connection: self.idle.pop(),
            generation: self.generation,
        })
    }

    /// Takes back what a delivery returns. False when it was started under older settings, so that what it met says
    /// nothing about these.
    pub fn returned(&mut self, returned: Returned, connection: Option<Connection>, now: Instant) -> bool {
        if returned.generation != self.generation {
            return false;
        }
        self.connector = self.connector.take().or(returned.connector);
        if let Some(mut connection) = connection.filter(|c| c.messages < MESSAGES) {
            connection.used = now;
            self.idle.push(connection);
        }
        true
    }

    /// What came of a delivery is on disk, and its place is free. Not before: so at most as many messages as there are
    /// places can come twice after a crash.
    pub fn settled(&mut self, generation: u32) {
        if generation == self.generation {
            self.in_flight = self.in_flight.saturating_sub(1);
        }
    }

    /// Trouble: everything waits. The log hears of it when it is new, and then ever more seldom.
    pub fn pause(&mut self, trouble: &Trouble, now: Instant) {
        let (failures, known) = match &self.pause {
            // A delivery that was under way when another met the trouble tells nothing new.
            Some(pause) if pause.until > now => return,
            Some(pause) => (pause.failures.saturating_add(1), pause.trouble.reason == trouble.reason),
            None => (1, false),
        };
        let wait = pause_time(trouble.kind, failures);
        if !known || failures.is_power_of_two() {
            Event::Paused { account: self.name(), reason: trouble.reason.clone(), next: wait }.log();
        }
        self.idle.clear();
        // Certificates may have been installed in the meantime.
        self.connector = None;
        self.pause = Some(Pause { until: now + wait, failures, trouble: trouble.clone() });
    }

    /// A transaction came to an end: the account is fine.
    pub fn works(&mut self) {
        if self.pause.take().is_some() {
            Event::Resumed { account: self.name() }.log();
        }
    }

    /// When the oldest idle connection is to be closed.
    pub fn idle_until(&self) -> Option<Instant> {
        self.idle.iter().map(|connection| connection.used + IDLE).min()
    }

    /// Says goodbye on connections that were idle too long.
    pub fn close_idle(&mut self, now: Instant) {
        let (keep, close) = std::mem::take(&mut self.idle).into_iter().partition(|c| c.used + IDLE > now);
        self.idle = keep;
        for connection in close {
            tokio::spawn(quit(connection));
        }
    }
}

/// QUIT (RFC 5321 section 4.1.1.10); nobody waits for the answer long.
pub async fn quit(mut connection: Connection) {
    connection.client.timeout = Duration::from_secs(5);
    let _ = connection.client.quit().await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broken_uplink_is_probed_within_half_a_minute_and_a_refused_login_is_not() {
        let times = |kind| [1, 2, 3, 4, 5, 99].map(|n| pause_time(kind, n).as_secs());
        assert_eq!(times(TroubleKind::Unreachable), [3, 6, 12, 20, 20, 20]);
        assert_eq!(times(TroubleKind::Login), [60, 120, 240, 480, 900, 900]);
    }
}
