// SPDX-License-Identifier: Apache-2.0
//! Failed logins cost time, counted per client: opening more connections does not make guessing passwords any faster.
//!
//! After a failed login, the next login of the same client is delayed, longer with each failure. The delay comes before
//! the password is verified, so that a client learns nothing by disconnecting early. A client without failed logins is
//! never delayed.

use crate::system::lock;
use std::net::IpAddr;
use std::sync::Mutex;
use std::time::Duration;

/// How long a client waits after its first failed login; doubles with each further one.
const DELAY: Duration = Duration::from_millis(250);
/// The longest delay: half a guess per second.
const DELAY_LIMIT: Duration = Duration::from_secs(2);
/// Total time for which the logins of one client may be waiting; further ones are refused without verification.
const QUEUE: Duration = Duration::from_secs(20);
/// After this time without a failed login, earlier ones are forgotten.
const FORGOTTEN: Duration = Duration::from_secs(600);
/// Clients with failed logins that are tracked at the same time. Further clients share one entry, so that many
/// addresses together cannot guess any faster either.
const CLIENTS: usize = 512;

/// A client that fails to log in. The addresses of one IPv6 network are treated as one client: a host there can use as
/// many as it likes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Guesser {
    V4(u32),
    V6(u64),
    /// All clients for which there is no entry.
    Others,
}

#[derive(Debug)]
struct GuessCount {
    client: Guesser,
    wrong: u32,
    /// Logins that are waiting; each of them is treated as failed when the delay of the next one is computed.
    waiting: u32,
    /// When the next login is verified.
    next: Duration,
    /// When the last login failed.
    last: Duration,
}

/// What is known about failed logins. Times are those of a monotonic clock.
#[derive(Debug, Default)]
pub struct Guesses(Vec<GuessCount>);

static GUESSES: Mutex<Guesses> = Mutex::new(Guesses(Vec::new()));

/// Gives short-lived access to the state of this process.
pub fn with<T>(work: impl FnOnce(&mut Guesses) -> T) -> T {
    work(&mut lock(&GUESSES))
}

impl Guesses {
    fn place(&mut self, ip: IpAddr, now: Duration) -> (Guesser, Option<&mut GuessCount>) {
        self.0.retain(|entry| now.saturating_sub(entry.last) < FORGOTTEN);
        let client = match ip.to_canonical() {
            IpAddr::V4(ip) => Guesser::V4(ip.to_bits()),
            IpAddr::V6(ip) => Guesser::V6(u64::try_from(ip.to_bits() >> 64).unwrap_or_default()),
        };
        let is_known = self.0.iter().any(|entry| entry.client == client);
        let client = if is_known || self.0.len() < CLIENTS { client } else { Guesser::Others };
        (client, self.0.iter_mut().find(|entry| entry.client == client))
    }

    /// How long this login has to wait before it is verified; `None` if too many are waiting already.
    pub fn wait(&mut self, ip: IpAddr, now: Duration) -> Option<Duration> {
        let (_, Some(entry)) = self.place(ip, now) else { return Some(Duration::ZERO) };
        let wait = entry.next.saturating_sub(now);
        if wait > QUEUE {
            return None;
        }
        if wait.is_zero() {
            entry.waiting = 0;
        }
        // The next login waits for this one, whatever its result.
        entry.waiting = entry.waiting.saturating_add(1);
        entry.next = entry.next.max(now).saturating_add(delay(entry.wrong.saturating_add(entry.waiting)));
        Some(wait)
    }

    /// Records a failed login.
    pub fn wrong(&mut self, ip: IpAddr, now: Duration) {
        match self.place(ip, now) {
            (_, Some(entry)) => {
                entry.wrong = entry.wrong.saturating_add(1);
                entry.last = now;
                entry.next = entry.next.max(now.saturating_add(delay(entry.wrong)));
            }
            (client, None) => {
                self.0.push(GuessCount { client, wrong: 1, waiting: 0, next: now.saturating_add(delay(1)), last: now })
            }
        }
    }
}

fn delay(wrong: u32) -> Duration {
    DELAY.saturating_mul(1 << wrong.saturating_sub(1).min(8)).min(DELAY_LIMIT)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::from_secs(1_000);

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    /// How many logins of a client are verified per minute with this many sessions, none of which waits for anything
    /// else.
    fn guessed(clients: &[IpAddr], sessions: usize) -> usize {
        let mut guesses = Guesses::default();
        let (mut due, mut seen) = (Vec::new(), 0);
        for millis in 0..60_000 {
            let now = NOW + Duration::from_millis(millis);
            let (ready, later): (Vec<_>, Vec<_>) = due.drain(..).partition(|(at, _)| *at <= now);
            due = later;
            for (_, client) in ready {
                guesses.wrong(client, now);
                seen += 1;
            }
            while due.len() < sessions {
                let client = clients[(seen + due.len()) % clients.len()];
                let Some(wait) = guesses.wait(client, now) else { break };
                due.push((now + wait, client));
                if wait == Duration::ZERO {
                    break;
                }
            }
        }
        seen
    }

    #[test]
    fn more_sessions_guess_no_faster() {
        let one = guessed(&[ip("10.0.0.1")], 1);
        let many = guessed(&[ip("10.0.0.1")], 100);
        assert!((25..=35).contains(&one) && many <= one + 5, "{one} {many}");
        let network: Vec<IpAddr> = (0..50).map(|n| ip(&format!("fd00::{n:x}"))).collect();
        let many = guessed(&network, 100);
        assert!(many <= one + 5, "{many}");
    }

    #[test]
    fn only_who_was_wrong_waits() {
        let mut guesses = Guesses::default();
        for _ in 0..50 {
            guesses.wrong(ip("10.0.0.1"), NOW);
        }
        assert_eq!(guesses.wait(ip("10.0.0.2"), NOW), Some(Duration::ZERO));
        assert_eq!(guesses.wait(ip("10.0.0.1"), NOW), Some(DELAY_LIMIT));
        while guesses.wait(ip("10.0.0.1"), NOW).is_some() {}
        assert_eq!(guesses.wait(ip("::ffff:10.0.0.1"), NOW), None);
        assert_eq!(guesses.wait(ip("10.0.0.1"), NOW + FORGOTTEN), Some(Duration::ZERO));
    }

    #[test]
    fn the_table_is_bounded_and_does_not_forget_because_of_others() {
        let mut guesses = Guesses::default();
        for n in 0..2000_u32 {
            guesses.wrong(IpAddr::from((n + (10 << 24)).to_be_bytes()), NOW);
        }
        assert_eq!(guesses.0.len(), CLIENTS + 1);
        assert!(guesses.wait(ip("10.0.0.0"), NOW) > Some(Duration::ZERO));
        assert!(guesses.wait(ip("10.0.7.0"), NOW) > Some(Duration::ZERO));
    }
}
