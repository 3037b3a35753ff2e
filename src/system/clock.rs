// SPDX-License-Identifier: Apache-2.0
//! The wall clock, which on a router without a battery is wrong until NTP sets it.

use super::lock;
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// 2026-01-01: the program did not exist before, so an earlier time is wrong.
pub const EARLIEST: i64 = 1_767_225_600;

/// A change of the clock by more than this many seconds means that it was set; less is NTP's normal adjustment.
pub const STEP: u64 = 60;

/// Seconds since 1970, UTC. A time before 1970 is returned as 0.
pub fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).ok().and_then(|d| i64::try_from(d.as_secs()).ok()).unwrap_or(0)
}

/// The wall clock time of an earlier moment, according to the clock now; `None` while it is not set.
pub fn since(moment: Instant) -> Option<i64> {
    let then = SystemTime::now().checked_sub(moment.elapsed())?.duration_since(UNIX_EPOCH).ok()?;
    i64::try_from(then.as_secs()).ok().filter(|then| is_set() && *then > 0)
}

/// Whether the clock can be correct.
pub fn is_set() -> bool {
    now() >= EARLIEST
}

/// Seconds from `since` to now; `None` if either of the two was taken from an evidently wrong clock, so that nothing
/// expires just because NTP set the clock.
pub fn age(since: i64) -> Option<u64> {
    let now = now();
    if since < EARLIEST || now < EARLIEST {
        return None;
    }
    Some(u64::try_from(now.saturating_sub(since)).unwrap_or(0))
}

/// The moment at which the wall clock showed `then`; now, if it cannot have been right then, or is not right now.
pub fn moment_of(then: i64) -> Instant {
    let now = Instant::now();
    age(then).and_then(|age| now.checked_sub(Duration::from_secs(age))).unwrap_or(now)
}

/// Time since the system was booted, including time asleep. It is never set and never wrong.
pub fn since_boot() -> Duration {
    let time = nix::time::clock_gettime(nix::time::ClockId::CLOCK_BOOTTIME);
    time.map(Duration::from).unwrap_or_default()
}

/// The same in whole seconds.
pub fn uptime() -> u64 {
    since_boot().as_secs()
}

/// The moment at which the system has been up for this long; repeated calls return the same moment for the same time.
pub fn moment(since_boot_then: Duration) -> Instant {
    static KNOWN: Mutex<Option<(Instant, Duration)>> = Mutex::new(None);
    let now = (Instant::now(), since_boot());
    let mut known = lock(&KNOWN);
    // The two clocks differ by the time asleep.
    let awake = |(at, up): &(Instant, Duration)| {
        let passed = (now.0.saturating_duration_since(*at), now.1.saturating_sub(*up));
        passed.0.abs_diff(passed.1) < Duration::from_secs(1)
    };
    let (at, up) = known.filter(awake).unwrap_or(now);
    *known = Some((at, up));
    let ahead = at.checked_add(since_boot_then.saturating_sub(up)).unwrap_or(at);
    ahead.checked_sub(up.saturating_sub(since_boot_then)).unwrap_or(at)
}

/// Identifies this boot of the system; empty if the kernel does not provide it.
pub fn boot() -> &'static str {
    static BOOT: OnceLock<String> = OnceLock::new();
    BOOT.get_or_init(|| {
        let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        id.chars().filter(char::is_ascii_hexdigit).take(32).collect()
    })
}

/// The wall clock time at which the uptime of this boot was `then`, according to the clock now.
pub fn at_uptime(then: u64) -> i64 {
    now().saturating_sub(i64::try_from(uptime().saturating_sub(then)).unwrap_or(i64::MAX))
}

/// Notices when the clock has been set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Watch {
    /// Wall clock minus uptime, in seconds; constant except for NTP's adjustments.
    offset: i64,
}

impl Watch {
    /// Starts watching.
    pub fn new() -> Self {
        Self { offset: at_uptime(0) }
    }

    /// Whether the clock has been set by more than [`STEP`] since the last call.
    pub fn jumped(&mut self) -> bool {
        let offset = at_uptime(0);
        let jumped = offset.abs_diff(self.offset) > STEP;
        self.offset = offset;
        jumped
    }
}

impl Default for Watch {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_arrival_before_the_program_existed_has_no_age() {
        assert_eq!(age(0), None);
        assert_eq!(age(EARLIEST - 1), None);
        assert!(age(EARLIEST).is_some());
        assert_eq!(age(now() + 3600), Some(0));
    }

    #[test]
    fn a_time_of_the_wall_clock_is_a_moment_if_it_can_be_right() {
        let ago = |then| moment_of(then).elapsed().as_secs();
        assert!((60..65).contains(&ago(now() - 60)));
        assert_eq!([EARLIEST - 1, 0, i64::MIN, now() + 3600, i64::MAX].map(ago), [0; 5]);
    }

    #[test]
    fn a_time_since_the_start_is_always_the_same_moment() {
        let (now, up) = (Instant::now(), since_boot());
        let hour = Duration::from_secs(3600);
        assert_eq!(moment(up + hour), moment(up + hour));
        assert_eq!(moment(up + hour) - moment(up), hour);
        assert!(moment(up + hour).saturating_duration_since(now).abs_diff(hour) < Duration::from_secs(2));
        assert!(moment(Duration::ZERO) <= Instant::now() && moment(Duration::MAX) >= now - hour);
    }

    #[test]
    fn a_moment_of_this_run_is_known_by_the_clock_of_now() {
        assert!((at_uptime(uptime()) - now()).abs() <= 1);
        assert!((now() - at_uptime(uptime().saturating_sub(5)) - 5).abs() <= 1 || uptime() < 5);
    }
}
