//! The wall clock, which on a router without a battery is wrong until NTP has set it.

use std::time::{SystemTime, UNIX_EPOCH};

/// 2026-01-01: the program did not exist before, so an earlier clock is wrong.
pub const EARLIEST: i64 = 1_767_225_600;

/// Seconds since 1970, UTC. Negative clocks count as 0.
pub fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).ok().and_then(|d| i64::try_from(d.as_secs()).ok()).unwrap_or(0)
}

/// Whether the clock can be right.
pub fn is_set() -> bool {
    now() >= EARLIEST
}

/// Seconds from `since` to now; `None` when one of the two was taken with a clock that was evidently wrong, so that
/// nothing is ever expired because NTP set the clock.
pub fn age(since: i64) -> Option<u64> {
    let now = now();
    if since < EARLIEST || now < EARLIEST {
        return None;
    }
    Some(u64::try_from(now.saturating_sub(since)).unwrap_or(0))
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
}
