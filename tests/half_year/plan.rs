// SPDX-License-Identifier: Apache-2.0
//! What happens when: the mails of each day and the events between them, drawn from a seed.

use super::mails::{DAILY, Mail};

/// In seconds.
pub const MINUTE: i64 = 60;
pub const HOUR: i64 = 3600;
pub const DAY: i64 = 86_400;

/// Numbers that look random (splitmix64).
pub struct Random(pub u64);

impl Random {
    pub fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % limit
    }

    /// Seconds from `first` up to, but without, `end`.
    pub fn seconds(&mut self, first: i64, end: i64) -> i64 {
        first + i64::try_from(self.below(u64::try_from(end - first).expect("an interval"))).expect("a small number")
    }
}

/// A way in which mail does not get through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// Nothing listens at the provider.
    Down,
    /// The provider accepts the login and answers 451 to each sender, to each recipient, or to each text.
    Mail451,
    Rcpt451,
    Dot451,
    /// The provider answers 421 to each connection.
    Busy,
    /// No name can be looked up: the uplink is down.
    NoName,
    /// The flash takes nothing more, while the provider is down.
    FlashFull,
    /// The RAM disk with the queue takes nothing more, while the provider is well.
    SpoolFull,
}

/// Something that happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// A device has something to say.
    Send(Mail),
    /// A device closes its connection in the middle of a message.
    Abort,
    /// Someone connects and says nothing, until the gateway closes the connection.
    Silence,
    Begin(Trouble),
    End(Trouble),
    /// The provider shows another certificate from now on.
    Renew,
    /// The program is killed as soon as it has accepted some mails, and is started again.
    Kill,
    /// An orderly reboot: the RAM disk is empty afterwards.
    Reboot,
    /// The power fails two minutes after the last mail: the RAM disk is empty afterwards.
    PowerCut,
    /// New settings, by SIGHUP.
    Settings,
    /// The uplink is reconnected: what the scripts of the package run then.
    Reconnect,
    /// A look at what the program holds.
    Sample,
}

impl Act {
    /// How the samples name it; none for what happens all the time.
    pub fn name(self) -> Option<&'static str> {
        Some(match self {
            Act::Begin(Trouble::Down) => "down",
            Act::Begin(Trouble::Mail451 | Trouble::Rcpt451 | Trouble::Dot451) => "451",
            Act::Begin(Trouble::Busy) => "421",
            Act::Begin(Trouble::NoName) => "no-dns",
            Act::Begin(Trouble::FlashFull) => "flash-full",
            Act::Begin(Trouble::SpoolFull) => "spool-full",
            Act::Renew => "certificate",
            Act::Kill => "kill",
            Act::Reboot => "reboot",
            Act::PowerCut => "power-cut",
            Act::Settings => "settings",
            _ => return None,
        })
    }
}

/// How often each event comes in 180 days, and from when to when it lasts, in hours. The first ones find a free place most
/// easily: they need one where nothing else happens.
const SPANS: [(Trouble, u64, i64, i64); 8] = [
    (Trouble::FlashFull, 2, 4, 9),
    (Trouble::SpoolFull, 2, 2, 5),
    (Trouble::Down, 9, 3, 60),
    (Trouble::NoName, 3, 1, 10),
    (Trouble::Mail451, 2, 2, 9),
    (Trouble::Rcpt451, 2, 2, 9),
    (Trouble::Dot451, 2, 2, 9),
    (Trouble::Busy, 2, 1, 4),
];
/// The same for what takes a moment. These may come in the middle of an outage.
const MOMENTS: [(Act, u64); 5] =
    [(Act::Renew, 2), (Act::Kill, 6), (Act::Reboot, 4), (Act::PowerCut, 2), (Act::Settings, 12)];

/// Everything of so many days, in order, in seconds since their beginning at midnight. A short plan has each event once.
pub fn plan(days: i64, seed: u64) -> Vec<(i64, Act)> {
    let mut random = Random(seed);
    let mut acts = Vec::new();
    for day in 0..days {
        let midnight = day * DAY;
        for mail in DAILY {
            // Machines are switched on in the morning and off in the evening.
            acts.push((midnight + random.seconds(6 * HOUR, 22 * HOUR), Act::Send(mail)));
        }
        acts.push((midnight + random.seconds(6 * HOUR, 22 * HOUR), Act::Abort));
        acts.push((midnight + random.seconds(6 * HOUR, 22 * HOUR), Act::Silence));
        // After the sample of the night; many providers of internet access end the connection once per day.
        acts.push((midnight + 4 * HOUR, Act::Reconnect));
        acts.extend([3, 9, 15, 21].map(|hour| (midnight + hour * HOUR, Act::Sample)));
    }
    let number = |in_half_a_year: u64| (in_half_a_year * u64::try_from(days).expect("days")).div_ceil(180);
    let mut taken: Vec<(i64, i64)> = Vec::new();
    // The last day is for what is still in the queue.
    let last = (days - 1) * DAY;
    for (trouble, count, shortest, longest) in SPANS {
        // Outages of days would leave nothing else in a short plan.
        let longest = if days < 60 { longest.min(6) } else { longest };
        for _ in 0..number(count) {
            let length = random.seconds(shortest * HOUR, longest * HOUR);
            // By day, so that there is mail that it concerns.
            let begin = free(&mut random, &taken, last, length);
            taken.push((begin, begin + length));
            acts.extend([(begin, Act::Begin(trouble)), (begin + length, Act::End(trouble))]);
        }
    }
    // A full disk allows no loss of power: there is nowhere for the mail to go.
    let full: Vec<_> = taken[..usize::try_from(number(2) * 2).expect("a small number")].to_vec();
    for (act, count) in MOMENTS {
        // The last third belongs to one process: what it leaves behind in weeks can be seen.
        let last = if matches!(act, Act::Kill | Act::Reboot | Act::PowerCut) { last * 2 / 3 } else { last };
        for _ in 0..number(count) {
            let at = free(&mut random, &full, last, MINUTE);
            acts.push((at, act));
        }
    }
    acts.sort_by_key(|(at, _)| *at);
    acts
}

/// A moment by day with nothing of `taken` from two hours before it until two hours after the end.
fn free(random: &mut Random, taken: &[(i64, i64)], last: i64, length: i64) -> i64 {
    for _ in 0..10_000 {
        let begin = random.seconds(1, last / DAY) * DAY + random.seconds(8 * HOUR, 18 * HOUR);
        let end = begin + length;
        if end < last && taken.iter().all(|(from, to)| end + 2 * HOUR < *from || to + 2 * HOUR < begin) {
            return begin;
        }
    }
    panic!("too many events for so few days");
}
