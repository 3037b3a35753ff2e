// SPDX-License-Identifier: Apache-2.0
//! Why an account sends nothing for a while, and how long that while is.

use std::time::{Duration, Instant};

use crate::net::{Trouble, TroubleKind};

/// What a server asks to wait is followed from a second on, and up to an hour where it limits us: each attempt may make
/// that longer.
const SHORTEST_ASKED: Duration = Duration::from_secs(1);
const LONGEST_ASKED: Duration = Duration::from_secs(3600);

/// Why nothing is sent, and for how long.
pub struct Pause {
    until: Instant,
    since: Instant,
    failures: u32,
    /// How many of these were refusals by the provider.
    refusals: u32,
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

/// How trouble is to be judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Look {
    /// It is current.
    Fresh,
    /// The delivery that met it was already running when someone reported a change. It does not know whether the change
    /// helped, so the next attempt is at once.
    Outdated,
}

/// How long an account pauses after its `failures`-th trouble in a row. What passes on its own is checked often, so
/// mail flows half a minute after it is over, however long it lasted. A refused login is retried rarely, since
/// providers lock accounts after several, and so is a limit, which includes attempts as well.
pub fn pause_time(kind: TroubleKind, failures: u32) -> Duration {
    let (first, last) = match kind {
        TroubleKind::Unreachable | TroubleKind::Tls | TroubleKind::Setup | TroubleKind::Busy => (3, 20),
        TroubleKind::Quota | TroubleKind::Rate => (30, 900),
        TroubleKind::Login | TroubleKind::Sender => (60, 900),
        TroubleKind::Clock => (5, 5),
    };
    Duration::from_secs(u64::min(first << failures.saturating_sub(1).min(10), last))
}

/// The longest pause that a server may ask for. Retry-After may also come with 503 and redirects (RFC 9110 section
/// 10.2.3), often from a proxy that knows nothing of the service behind it. That passes at any time, and a probe costs
/// nobody anything: an alarm waits no longer for it than without being asked.
fn longest_asked(kind: TroubleKind) -> Duration {
    match kind {
        TroubleKind::Quota | TroubleKind::Rate => LONGEST_ASKED,
        kind => pause_time(kind, u32::MAX),
    }
}

/// Whether the provider counts such attempts.
fn is_refusal(kind: TroubleKind) -> bool {
    use TroubleKind::{Login, Quota, Rate, Sender};
    matches!(kind, Login | Sender | Quota | Rate)
}

impl Pause {
    /// The pause for this trouble, and whether it is news: trouble is reported when it is new, and then less and less often.
    /// `before` is the pause whose end led to the attempt, if there was one.
    pub fn after(before: Option<Self>, trouble: &Trouble, look: Look, now: Instant) -> (Self, bool) {
        let known = before.as_ref().is_some_and(|pause| pause.trouble.why == trouble.why);
        let (mut failures, mut refusals) = before.as_ref().map_or((0, 0), |pause| (pause.failures, pause.refusals));
        let wait = match look {
            Look::Fresh => {
                let refuses = is_refusal(trouble.kind);
                failures = failures.saturating_add(1);
                refusals = refusals.saturating_add(u32::from(refuses));
                let asked = trouble.after.map(|after| after.clamp(SHORTEST_ASKED, longest_asked(trouble.kind)));
                // The provider has counted nothing of an outage before.
                asked.unwrap_or_else(|| pause_time(trouble.kind, if refuses { refusals } else { failures }))
            }
            Look::Outdated => Duration::ZERO,
        };
        let since = before.map_or(now, |pause| pause.since);
        let is_news = !known || failures.is_power_of_two();
        (Self { until: now + wait, since, failures, refusals, trouble: trouble.clone() }, is_news)
    }

    /// When the next attempt is.
    pub fn until(&self) -> Instant {
        self.until
    }

    /// Whether its cause may be over now that the uplink is back or the clock is set. Refusals by the provider are not
    /// affected: it registers each refused login and eventually locks the account.
    pub fn may_have_passed(&self) -> bool {
        !is_refusal(self.trouble.kind)
    }

    /// Whether its cause is over once the server has replied to a message.
    pub fn ends_with_a_reply(&self) -> bool {
        use TroubleKind::{Clock, Tls, Unreachable};
        matches!(self.trouble.kind, Unreachable | Tls | Clock)
    }

    /// The next attempt is now, and the pauses after it are short again.
    pub fn retry_now(&mut self, now: Instant) {
        self.until = now;
        (self.failures, self.refusals) = (0, 0);
    }

    /// What people are shown.
    pub fn facts(&self, now: Instant) -> PauseFacts {
        PauseFacts {
            reason: self.trouble.reason(),
            remedy: self.trouble.why.remedy.clone(),
            since: now.saturating_duration_since(self.since),
            next: Some(self.until.saturating_duration_since(now)),
        }
    }
}

impl PauseFacts {
    /// No account can send this mail: the settings have none for it, or no longer.
    pub fn no_account() -> Self {
        let remedy = "add a section account, or name an enabled account in its route";
        let reason = format!("no account is enabled for this mail: {remedy}");
        Self { reason, since: Duration::ZERO, next: None, remedy: remedy.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
    fn a_server_that_says_how_long_to_wait_is_followed() {
        let now = Instant::now();
        for (kind, after, expected) in [
            (TroubleKind::Quota, None, 30),
            (TroubleKind::Quota, Some(7), 7),
            (TroubleKind::Quota, Some(0), 1),
            (TroubleKind::Rate, Some(1 << 40), 3600),
            // What may pass at any time is not waited for any longer than without being asked.
            (TroubleKind::Busy, Some(7), 7),
            (TroubleKind::Busy, Some(3600), 20),
            (TroubleKind::Setup, Some(3600), 20),
        ] {
            let trouble = Trouble::new(kind, "slow down").after(after.map(Duration::from_secs));
            let (pause, _) = Pause::after(None, &trouble, Look::Fresh, now);
            assert_eq!(pause.until(), now + Duration::from_secs(expected), "{kind:?} {after:?}");
        }
    }

    /// Whoever counts logins has seen none during an outage.
    #[test]
    fn an_outage_makes_no_first_refusal_a_long_pause() {
        let (now, mut pause, mut waits) = (Instant::now(), None, Vec::new());
        use TroubleKind::{Login, Rate, Unreachable};
        for kind in [&[Unreachable; 20][..], &[Login, Unreachable, Login, Rate, Unreachable]].concat() {
            let (next, _) = Pause::after(pause, &Trouble::new(kind, "no"), Look::Fresh, now);
            waits.push((next.until() - now).as_secs());
            pause = Some(next);
        }
        assert_eq!(waits[18..], [20, 20, 60, 20, 120, 120, 20]);
    }

    #[test]
    fn trouble_is_reported_when_it_is_new_and_then_less_and_less_often() {
        let (now, trouble) = (Instant::now(), |text: &str| Trouble::new(TroubleKind::Busy, text));
        let (mut pause, mut told) = (None, Vec::new());
        for attempt in 1..=9 {
            let (next, is_news) = Pause::after(pause, &trouble("one"), Look::Fresh, now);
            pause = Some(next);
            told.extend(is_news.then_some(attempt));
        }
        assert_eq!(told, [1, 2, 4, 8]);
        assert!(Pause::after(pause, &trouble("another"), Look::Fresh, now).1);
    }
}
