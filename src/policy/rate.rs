// SPDX-License-Identifier: Apache-2.0
//! How many messages a device may send: one token bucket per device.
//!
//! A bucket contains as many tokens as the rate has messages, and is refilled evenly over the period. It is stored as a
//! single number, the time at which it will be full again, so that an idle device costs nothing and needs no upkeep.
//! The caller supplies the time, from any monotonic clock. Nothing is stored across restarts; after a start all buckets
//! are full.

use std::net::IpAddr;
use std::time::Duration;

use crate::config::{Device, OverRate, Rate};

/// Maximum number of buckets for devices without a section. Beyond it, a full bucket is replaced, since a new one would
/// decide the same; while none is full, all further devices share one. Devices with a section always have their own.
const BUCKET_LIMIT: usize = 1024;
/// How far ahead messages may be deferred; what would have to wait longer is not accepted.
const HORIZON: Duration = Duration::from_secs(86_400);

/// What happens to one message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RateOutcome {
    /// It is sent like any other.
    Pass,
    /// It is accepted and added to the digest that is sent at `due`.
    Digest {
        /// By the caller's clock; the same for all messages of a digest.
        due: Duration,
    },
    /// It is accepted and is not sent before `until`; each message gets its own time.
    Defer {
        /// By the caller's clock.
        until: Duration,
    },
    /// It is rejected; the next one would be accepted at `until`.
    Reject {
        /// By the caller's clock.
        until: Duration,
    },
}

impl RateOutcome {
    /// The SMTP reply to a message that is rejected at `now`; `None` for all others. It is a temporary one: a device
    /// that can retry does so.
    pub fn refusal(&self, device: &Device, now: Duration) -> Option<String> {
        let (Self::Reject { until }, Some(rate)) = (self, device.rate) else { return None };
        let wait = until.saturating_sub(now).as_secs().saturating_add(1);
        Some(format!(
            "450 4.7.1 {} has exceeded its limit of {rate} (option rate), try again in {wait} s",
            device.title()
        ))
    }
}

/// What happened to the messages of one device.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Sent at once.
    pub passed: u64,
    /// Added to a digest.
    pub digested: u64,
    /// Deferred.
    pub deferred: u64,
    /// Rejected.
    pub rejected: u64,
}

impl Counts {
    fn of(&mut self, outcome: RateOutcome) -> &mut u64 {
        match outcome {
            RateOutcome::Pass => &mut self.passed,
            RateOutcome::Digest { .. } => &mut self.digested,
            RateOutcome::Defer { .. } => &mut self.deferred,
            RateOutcome::Reject { .. } => &mut self.rejected,
        }
    }
}

/// The buckets of all devices.
#[derive(Debug, Default)]
pub struct Rates {
    buckets: Vec<Bucket>,
}

#[derive(Debug)]
struct Bucket {
    /// Section, and for `default` also the client: those devices have nothing in common. The bucket of `default`
    /// without a client is the shared one.
    device: String,
    client: Option<IpAddr>,
    /// The rate that it was filled for; with a different one, after a change of the settings, the bucket starts full.
    rate: Rate,
    /// When it will be full again if no more tokens are taken.
    full_at: Duration,
    /// When the digest that is being collected is due.
    due: Option<Duration>,
    asked: Duration,
    counts: Counts,
}

impl Rates {
    /// Takes a token for a message of `client`, which is `device`, at `now`: once for each message that is about to be
    /// accepted. The decision is counted.
    pub fn take(&mut self, device: &Device, client: IpAddr, now: Duration) -> RateOutcome {
        let Some(rate) = device.rate else { return RateOutcome::Pass };
        let mut bucket = self.take_out(device, client, rate, now);
        bucket.asked = now;
        let outcome = bucket.decide(rate, device, now);
        match outcome {
            RateOutcome::Pass | RateOutcome::Defer { .. } => bucket.full_at = bucket.with_one_more(rate, now),
            RateOutcome::Digest { due } => bucket.due = Some(due),
            RateOutcome::Reject { .. } => {}
        }
        bucket.rate = rate;
        let count = bucket.counts.of(outcome);
        *count = count.saturating_add(1);
        self.buckets.push(bucket);
        outcome
    }

    /// Undoes what [`Self::take`] decided: the message was not accepted after all, for another reason.
    pub fn give_back(&mut self, device: &Device, client: IpAddr, outcome: RateOutcome) {
        let found = self.known(device, client).and_then(|at| self.buckets.get_mut(at));
        let (Some(rate), Some(bucket)) = (device.rate, found) else { return };
        let count = bucket.counts.of(outcome);
        *count = count.saturating_sub(1);
        if matches!(outcome, RateOutcome::Pass | RateOutcome::Defer { .. }) && bucket.rate == rate {
            bucket.full_at = bucket.full_at.saturating_sub(step(rate));
        }
    }

    /// What [`Self::take`] would decide, without taking or counting anything: for the reply to MAIL, so that a device
    /// need not send a text that is not accepted.
    pub fn peek(&self, device: &Device, client: IpAddr, now: Duration) -> RateOutcome {
        let Some(rate) = device.rate else { return RateOutcome::Pass };
        let BucketPlace::Known(at) = self.place(device, client, now) else { return RateOutcome::Pass };
        self.buckets.get(at).map_or(RateOutcome::Pass, |bucket| bucket.decide(rate, device, now))
    }

    /// What happened to the messages of `client`, which is `device`, since the start or since its bucket was replaced.
    pub fn counts(&self, device: &Device, client: IpAddr) -> Counts {
        let bucket = self.own(device, client_of(device, client)).and_then(|at| self.buckets.get(at));
        bucket.map(|bucket| bucket.counts).unwrap_or_default()
    }

    /// The bucket with this key.
    fn own(&self, device: &Device, client: Option<IpAddr>) -> Option<usize> {
        self.buckets.iter().position(|bucket| bucket.client == client && bucket.device == device.name)
    }

    /// The bucket that applies to a device, its own or the shared one.
    fn known(&self, device: &Device, client: IpAddr) -> Option<usize> {
        self.own(device, client_of(device, client)).or_else(|| self.own(device, None))
    }

    /// The bucket for the next message of a device.
    fn place(&self, device: &Device, client: IpAddr, now: Duration) -> BucketPlace {
        let client = client_of(device, client);
        if let Some(at) = self.own(device, client) {
            return BucketPlace::Known(at);
        }
        let unnamed = || self.buckets.iter().enumerate().filter(|(_, bucket)| bucket.client.is_some());
        if client.is_none() || unnamed().count() < BUCKET_LIMIT {
            return BucketPlace::New(client);
        }
        match unnamed().filter(|(_, bucket)| bucket.is_full(now)).min_by_key(|(_, bucket)| bucket.asked) {
            Some((at, _)) => BucketPlace::Instead(at, client),
            None => self.own(device, None).map_or(BucketPlace::New(None), BucketPlace::Known),
        }
    }

    /// Removes the bucket, or creates a full one for a new device; there is room to put it back.
    fn take_out(&mut self, device: &Device, client: IpAddr, rate: Rate, now: Duration) -> Bucket {
        let client = match self.place(device, client, now) {
            BucketPlace::Known(at) => return self.buckets.swap_remove(at),
            BucketPlace::Instead(at, client) => {
                self.buckets.swap_remove(at);
                client
            }
            BucketPlace::New(client) => client,
        };
        let device = device.name.clone();
        Bucket { device, client, rate, full_at: now, due: None, asked: now, counts: Counts::default() }
    }
}

/// The bucket for a message.
enum BucketPlace {
    /// An existing one.
    Known(usize),
    /// A new one.
    New(Option<IpAddr>),
    /// A new one that replaces a full one.
    Instead(usize, Option<IpAddr>),
}

impl Bucket {
    /// Whether a new bucket would decide the same.
    fn is_full(&self, now: Duration) -> bool {
        self.full_at <= now && self.due.is_none_or(|due| due <= now)
    }

    /// When it would be full again if one more token were taken.
    fn with_one_more(&self, rate: Rate, now: Duration) -> Duration {
        let full_at = if self.rate == rate { self.full_at.max(now) } else { now };
        full_at.saturating_add(step(rate))
    }

    fn decide(&self, rate: Rate, device: &Device, now: Duration) -> RateOutcome {
        let full_at = self.with_one_more(rate, now);
        // With one more token taken, it must not be further from full than a whole period.
        let capacity = step(rate).saturating_mul(rate.count);
        let until = full_at.saturating_sub(capacity);
        if until <= now {
            return RateOutcome::Pass;
        }
        match device.over_rate {
            OverRate::Digest => {
                let due = self.due.filter(|due| *due > now);
                RateOutcome::Digest { due: due.unwrap_or_else(|| now.saturating_add(device.digest_every)) }
            }
            OverRate::Defer if until.saturating_sub(now) <= HORIZON => RateOutcome::Defer { until },
            OverRate::Defer | OverRate::Reject => RateOutcome::Reject { until },
        }
    }
}

/// The time in which one token is refilled.
fn step(rate: Rate) -> Duration {
    rate.period.checked_div(rate.count).unwrap_or(rate.period)
}

fn client_of(device: &Device, client: IpAddr) -> Option<IpAddr> {
    device.is_default().then(|| client.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{load, uci};
    use proptest::prelude::*;

    fn device(name: &str, options: &str) -> Device {
        let package = uci::parse(format!("config device '{name}'\n{options}").as_bytes()).unwrap();
        load::settings(&package).0.devices.remove(0)
    }

    const PLC: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 7));

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(1_000_000 + seconds)
    }

    #[test]
    fn a_burst_passes_and_the_bucket_fills_again() {
        let device = device("plc", "option rate '3/m'\noption over_rate 'reject'\n");
        let mut rates = Rates::default();
        let mut take = |seconds| rates.take(&device, PLC, at(seconds));
        let (pass, no) = (RateOutcome::Pass, |seconds| RateOutcome::Reject { until: at(seconds) });
        assert_eq!([take(0), take(0), take(1), take(2), take(19)], [pass, pass, pass, no(20), no(20)]);
        assert_eq!([take(20), take(20), take(39), take(40)], [pass, no(40), no(40), pass]);
        // When idle it fills up to its size and no further.
        assert_eq!([take(10_000), take(10_000), take(10_000), take(10_000)], [pass, pass, pass, no(10_020)]);
        assert_eq!(rates.counts(&device, PLC), Counts { passed: 8, rejected: 5, ..Counts::default() });
        let refusal = rates.peek(&device, PLC, at(10_000)).refusal(&device, at(10_000)).unwrap();
        assert_eq!(refusal, "450 4.7.1 plc has exceeded its limit of 3/m (option rate), try again in 21 s");
    }

    #[test]
    fn a_storm_goes_into_one_digest_an_interval() {
        let device = device("plc", "option rate '2/h'\noption digest_every '15m'\n");
        let mut rates = Rates::default();
        let outcomes: Vec<RateOutcome> = (0..500).map(|n| rates.take(&device, PLC, at(n))).collect();
        assert!(outcomes.iter().take(2).all(|o| *o == RateOutcome::Pass));
        assert!(outcomes.iter().skip(2).all(|o| *o == RateOutcome::Digest { due: at(2 + 900) }));
        assert_eq!(rates.take(&device, PLC, at(902)), RateOutcome::Digest { due: at(902 + 900) });
        assert_eq!(rates.counts(&device, PLC), Counts { passed: 2, digested: 499, ..Counts::default() });
    }

    #[test]
    fn each_that_waits_has_its_own_place_up_to_a_day_ahead() {
        let device = device("plc", "option rate '1/h'\noption over_rate 'defer'\n");
        let mut rates = Rates::default();
        assert_eq!(rates.take(&device, PLC, at(0)), RateOutcome::Pass);
        for place in 1..=24 {
            assert_eq!(rates.take(&device, PLC, at(0)), RateOutcome::Defer { until: at(place * 3600) });
        }
        assert_eq!(rates.take(&device, PLC, at(0)), RateOutcome::Reject { until: at(25 * 3600) });
        assert_eq!(rates.take(&device, PLC, at(3600)), RateOutcome::Defer { until: at(25 * 3600) });
        assert_eq!(rates.counts(&device, PLC), Counts { passed: 1, deferred: 25, rejected: 1, ..Counts::default() });
    }

    #[test]
    fn what_was_not_accepted_is_given_back() {
        let device = device("plc", "option rate '2/h'\noption over_rate 'defer'\n");
        let mut rates = Rates::default();
        for seconds in [0, 1, 5] {
            for _ in 0..2 {
                let taken = rates.take(&device, PLC, at(seconds));
                assert_eq!(taken, RateOutcome::Pass);
                rates.give_back(&device, PLC, taken);
            }
        }
        assert_eq!(rates.counts(&device, PLC), Counts::default());
        let taken = [0; 3].map(|_| rates.take(&device, PLC, at(10)));
        assert_eq!(taken, [RateOutcome::Pass, RateOutcome::Pass, RateOutcome::Defer { until: at(10 + 1800) }]);
        rates.give_back(&device, PLC, taken[2]);
        assert_eq!(rates.take(&device, PLC, at(10)), taken[2]);
        assert_eq!(rates.counts(&device, PLC), Counts { passed: 2, deferred: 1, ..Counts::default() });
    }

    #[test]
    fn a_new_rate_begins_anew() {
        let old = device("plc", "option rate '1/d'\noption over_rate 'defer'\n");
        let new = device("plc", "option rate '1/m'\noption over_rate 'reject'\n");
        let mut rates = Rates::default();
        assert_eq!(rates.take(&old, PLC, at(0)), RateOutcome::Pass);
        assert_eq!(rates.take(&old, PLC, at(0)), RateOutcome::Defer { until: at(86_400) });
        assert_eq!(rates.peek(&new, PLC, at(1)), RateOutcome::Pass);
        assert_eq!(rates.take(&new, PLC, at(1)), RateOutcome::Pass);
        assert_eq!(rates.take(&new, PLC, at(2)), RateOutcome::Reject { until: at(61) });
    }

    #[test]
    fn devices_without_a_section_have_a_bucket_each_and_buckets_are_bounded() {
        let (default, named) = (device("default", "option rate '1/d'\n"), device("hall", "option rate '1/d'\n"));
        let free = device("free", "");
        let client = |n: u32| IpAddr::from(n.to_be_bytes());
        let mut rates = Rates::default();
        for n in 0..3 {
            assert_eq!(rates.take(&default, client(n), at(u64::from(n))), RateOutcome::Pass);
            assert_eq!(rates.take(&named, client(n), at(0)) == RateOutcome::Pass, n == 0);
            assert_eq!(rates.take(&free, client(n), at(0)), RateOutcome::Pass);
        }
        assert_ne!(rates.take(&default, client(0), at(10)), RateOutcome::Pass);
        // A flood of addresses gives no client a second burst, and replaces no client's bucket.
        let passed = (3..2 * 1024).filter(|n| rates.take(&default, client(*n), at(100)) == RateOutcome::Pass).count();
        assert_eq!(passed, BUCKET_LIMIT - 3 + 1);
        assert_eq!(rates.buckets.len(), BUCKET_LIMIT + 2);
        assert_ne!(rates.peek(&named, client(0), at(101)), RateOutcome::Pass);
        assert_ne!(rates.take(&default, client(0), at(101)), RateOutcome::Pass);
        assert_ne!(rates.peek(&default, client(9999), at(101)), RateOutcome::Pass);
        // A day later all are full again, and a new bucket replaces one of them.
        let later = at(90_000);
        assert!((5000..5100).all(|n| rates.take(&default, client(n), later) == RateOutcome::Pass));
        assert!((5000..5100).all(|n| rates.take(&default, client(n), later) != RateOutcome::Pass));
        assert_eq!(rates.counts(&named, client(0)).passed, 1);
        assert_eq!(rates.buckets.len(), BUCKET_LIMIT + 2);
    }

    proptest! {
        /// Whatever a device does, no more than twice the rate is sent in any period: the saved burst, and the refill.
        #[test]
        fn the_rate_holds(count in 1u32..50, gaps in proptest::collection::vec(0u64..400_000, 1..300)) {
            let mut device = device("plc", "option over_rate 'reject'\n");
            device.rate = Some(Rate { count, period: Duration::from_secs(60) });
            let mut rates = Rates::default();
            let (mut now, mut passed) = (at(0), Vec::new());
            for gap in gaps {
                now += Duration::from_micros(gap * 25);
                let peeked = rates.peek(&device, PLC, now);
                let outcome = rates.take(&device, PLC, now);
                prop_assert_eq!(peeked, outcome);
                match outcome {
                    RateOutcome::Pass => passed.push(now),
                    RateOutcome::Reject { until } => prop_assert!(until > now && until - now <= Duration::from_secs(60)),
                    other => prop_assert!(false, "{other:?}"),
                }
            }
            let most = 2 * count as usize;
            for window in passed.windows(most + 1) {
                prop_assert!(window[most] - window[0] >= Duration::from_millis(59_999));
            }
            // At the start nothing within the burst is delayed.
            prop_assert!(!passed.is_empty());
        }
    }
}
