//! How long a message rests that its device sent beyond its rate: until its turn, or until its digest is written.

use std::time::{Duration, Instant};

use super::Item;
use super::marks::Over;
use super::record::Meta;
use super::state::State;
use crate::message::date;
use crate::system::clock;

/// Up to here a time needs no date.
const NEAR: Duration = Duration::from_secs(20 * 3600);
/// The longest rest: that of a digest of a week, and no clock is more exact than this.
const LONGEST: Duration = Duration::from_secs(7 * 86_400 + 60);

/// The rest of one message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rest {
    /// When it ends.
    pub until: Instant,
    /// Whether it goes into a digest then.
    pub digest: bool,
    /// How often that digest could not be written.
    pub failed: u32,
}

impl Over {
    /// Why a message of `device` waits, which it does for `left` from now on, in one sentence.
    pub fn why(&self, device: &str, left: Duration) -> String {
        let seconds = i64::try_from(left.as_secs()).unwrap_or(i64::MAX);
        let date = date::rfc5322(clock::now().saturating_add(seconds));
        let (day, time) = (date.get(5..11).unwrap_or_default(), date.get(17..22).unwrap_or_default());
        let when = match clock::is_set() {
            false => format!("in {} s", left.as_secs()),
            true if left < NEAR => format!("at {time} UTC"),
            true => format!("on {day} at {time} UTC"),
        };
        let rate = &self.rate;
        match self.digest {
            true => format!("collected for the digest of device '{device}' {when}: it sends more than {rate}"),
            false => format!("waits for its turn {when}: device '{device}' sends more than {rate}"),
        }
    }
}

impl Item {
    /// Makes a message that has just been accepted or recovered rest as long as its marks say. By the time since the
    /// start of the system where that is known: then no setting of the clock changes anything. After another start it
    /// waits what is left by the wall clock, and once more all of it at most, if that can't be trusted.
    #[must_use]
    pub fn resting(mut self, meta: &Meta, state: &State, now: Instant) -> Self {
        let (Some(over), Some(undated)) = (&meta.marks.over, &meta.undated) else { return self };
        self.rested = over.until.saturating_sub(Duration::from_secs(undated.uptime)).min(LONGEST);
        // Somebody has it already, or it was asked for: it goes on by itself.
        if state.alone || state.attempts > 0 {
            return self;
        }
        let until = match self.uptime {
            // The very same moment for all of a digest.
            Some(_) => clock::moment(over.until).min(now + self.rested),
            None => now + self.rested.saturating_sub(self.age().unwrap_or_else(|| self.since.elapsed())),
        };
        if over.digest || until > now {
            self.rest = Some(Rest { until, digest: over.digest, failed: 0 });
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{BodyForm, Encode, Envelope};
    use crate::queue::{Client, Entry, Marks, Place, Undated};

    fn meta(digest: bool, uptime: u64) -> Meta {
        let over = Over { until: Duration::from_secs(uptime + 900), digest, rate: "1/h".into() };
        Meta {
            envelope: Envelope { from: "a@b.c".into(), to: vec!["d@e.f".into()], smtputf8: false },
            form: BodyForm { eight_bit: false, encode: Encode::Verbatim },
            arrived: clock::now(),
            client: "10.0.0.7".into(),
            notice: false,
            undated: Some(Undated { boot: "x".into(), uptime, dates: Vec::new() }),
            marks: Marks { over: Some(over), ..Marks::default() },
        }
    }

    fn left(meta: &Meta, uptime: Option<u64>, change: impl FnOnce(&mut State)) -> Option<u64> {
        let now = Instant::now();
        let mut state = State::new(&meta.envelope);
        change(&mut state);
        let entry = Entry {
            id: "0123456789".parse().unwrap(),
            client: Client::Own,
            place: Place::Spool,
            arrived: meta.arrived,
            size: 1,
        };
        let item = Item { uptime, ..Item::new(entry, now) }.resting(meta, &state, now);
        assert_eq!(item.rested, Duration::from_secs(900));
        item.rest.map(|rest| rest.until.saturating_duration_since(now).as_secs())
    }

    #[test]
    fn what_is_left_is_known_by_the_time_since_the_start() {
        let up = clock::uptime();
        let near = |left: Option<u64>, wanted: u64| left.is_some_and(|left| left.abs_diff(wanted) <= 2);
        assert!(near(left(&meta(false, up), Some(up), |_| ()), 900));
        // Accepted in another run of the system: by the wall clock.
        assert!(near(left(&meta(true, 7), None, |_| ()), 900));
        let mut old = meta(false, 7);
        old.arrived -= 300;
        assert!(near(left(&old, None, |_| ()), 600));
        // Long over: its turn has come, and its digest is due.
        old.arrived -= 7 * 86_400;
        assert_eq!(left(&old, None, |_| ()), None);
        old.marks.over.as_mut().unwrap().digest = true;
        assert_eq!(left(&old, None, |_| ()), Some(0));
        // A clock that was never set, or runs behind: no longer than it would have had to wait at first.
        old.arrived = 1000;
        assert!(near(left(&old, None, |_| ()), 900));
        old.arrived = clock::now() + 7 * 86_400;
        assert!(near(left(&old, None, |_| ()), 900));
    }

    #[test]
    fn why_it_waits_in_words() {
        let over = |digest| Over { until: Duration::ZERO, digest, rate: "20/h".into() };
        let text = over(true).why("pump_house", Duration::from_secs(60));
        let when = text.strip_prefix("collected for the digest of device 'pump_house' at ").unwrap();
        assert_eq!((when.find(':'), &when[5..]), (Some(2), " UTC: it sends more than 20/h"));
        let text = over(false).why("plc", Duration::from_secs(7 * 86_400));
        assert!(
            text.starts_with("waits for its turn on ") && text.ends_with(" UTC: device 'plc' sends more than 20/h")
        );
    }

    #[test]
    fn what_was_tried_or_asked_for_rests_no_more() {
        let up = clock::uptime();
        assert_eq!(left(&meta(true, up), Some(up), |state| state.attempts = 1), None);
        assert_eq!(left(&meta(true, up), Some(up), |state| state.alone = true), None);
    }
}
