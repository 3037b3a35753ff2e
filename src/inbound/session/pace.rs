// SPDX-License-Identifier: Apache-2.0
//! How long a client may take: for a line, for a message text, and without sending any message.
//!
//! A timeout that restarts with each byte does not limit anything: a client that sends a byte now and then would keep
//! its session forever. What is measured here is the time spent waiting for the client; time that our own disk takes
//! does not count against it.

use std::time::{Duration, Instant};

/// How long a client may take for one command, from its first byte on. RFC 5321 section 4.5.3.2 gives servers five
/// minutes for the wait between commands, which is option timeout here; a line itself is short: this is ten bytes per
/// second.
pub const LINE_TIME: Duration = Duration::from_secs(60);
/// How long a session may last without an accepted message, not counting message texts. Option timeout applies where it
/// is longer.
pub const IDLE_TIME: Duration = Duration::from_secs(600);
/// Bytes per second at which a text has to arrive on average: a tenth of what 9600 baud can carry.
const TEXT_PACE: u64 = 96;
/// Extra time for a text, so that short texts and pauses do no harm.
const TEXT_GRACE: Duration = Duration::from_secs(300);
/// How long one text may take in total: 25 MB at 4 kB/s.
const TEXT_TIME: Duration = Duration::from_secs(7200);

/// The clocks of one session.
#[derive(Debug)]
pub struct Pace {
    /// When the last message was accepted, or the session began; the time of message texts is added to it.
    idle_since: Instant,
    /// Time spent waiting for the rest of the current line.
    line: Duration,
    /// Time spent waiting for the current text, and its size so far.
    text: Duration,
    bytes: u64,
    /// Whether the current text is refused whatever it contains: then it is idle time.
    in_vain: bool,
}

/// What a client was too slow for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Slow {
    /// A command.
    Line,
    /// The text of a message.
    Text,
    /// Sending a message at all.
    Idle,
}

impl Pace {
    /// A session that begins now.
    pub fn new() -> Self {
        Self { idle_since: Instant::now(), line: Duration::ZERO, text: Duration::ZERO, bytes: 0, in_vain: false }
    }

    /// A message was accepted.
    pub fn accepted(&mut self) {
        self.idle_since = Instant::now();
    }

    /// A line has ended; the time of the next one starts from zero.
    pub fn line_ended(&mut self) {
        self.line = Duration::ZERO;
    }

    /// A text begins.
    pub fn text_began(&mut self, in_vain: bool) {
        self.text_ended();
        self.in_vain = in_vain;
    }

    /// A text has ended.
    pub fn text_ended(&mut self) {
        if !self.in_vain {
            self.idle_since = self.idle_since.checked_add(self.text).unwrap_or(self.idle_since);
        }
        self.in_vain = false;
        self.text = Duration::ZERO;
        self.bytes = 0;
    }

    /// How long to wait for more of a command, and what the client is too slow for after that. Silence within a line is
    /// also limited by `timeout`.
    pub fn command(&self, in_line: bool, timeout: Duration) -> (Duration, Slow) {
        let idle = self.idle(timeout);
        let line = if in_line { LINE_TIME.saturating_sub(self.line) } else { Duration::MAX };
        if line < idle { (line, Slow::Line) } else { (idle, Slow::Idle) }
    }

    /// How much longer the session may last without an accepted message.
    fn idle(&self, timeout: Duration) -> Duration {
        IDLE_TIME.max(timeout).saturating_sub(self.idle_since.elapsed())
    }

    /// How long to wait for more of a text.
    pub fn text(&self, timeout: Duration) -> (Duration, Slow) {
        let earned = TEXT_GRACE.saturating_add(Duration::from_secs(self.bytes / TEXT_PACE));
        let text = earned.min(TEXT_TIME).saturating_sub(self.text);
        let idle = if self.in_vain { self.idle(timeout) } else { Duration::MAX };
        if idle < text { (idle, Slow::Idle) } else { (text, Slow::Text) }
    }

    /// Part of a command arrived after `waited`; `in_line`: its beginning had arrived before.
    pub fn command_came(&mut self, in_line: bool, waited: Duration) {
        if in_line {
            self.line = self.line.saturating_add(waited);
        }
    }

    /// This many bytes of a text arrived after `waited`.
    pub fn text_came(&mut self, bytes: usize, waited: Duration) {
        self.text = self.text.saturating_add(waited);
        self.bytes = self.bytes.saturating_add(bytes as u64);
    }
}

impl Slow {
    /// Why the session ends, for the log.
    pub fn reason(self) -> String {
        match self {
            Self::Line => format!("one command took longer than {} s", LINE_TIME.as_secs()),
            Self::Text => format!(
                "sent the message too slowly, it was discarded: less than {TEXT_PACE} bytes per second on average over more than {} s, or longer than {} s in total",
                TEXT_GRACE.as_secs(),
                TEXT_TIME.as_secs()
            ),
            Self::Idle => format!("no message was accepted in this session for {} s", IDLE_TIME.as_secs()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// How many bytes of a text arrive, one per `gap`, before the session ends.
    fn dripped(gap: Duration, bytes: u64) -> u64 {
        let mut pace = Pace::new();
        (0..bytes)
            .take_while(|_| {
                let fits = pace.text(SECOND).0 > gap;
                pace.text_came(1, gap);
                fits
            })
            .count() as u64
    }

    #[test]
    fn a_text_that_drips_ends_and_a_slow_one_does_not() {
        assert!((149..=151).contains(&dripped(2 * SECOND, 1_000_000)));
        // 9600 baud, and a tenth of it, and the largest message at 4 kB/s.
        assert_eq!(dripped(SECOND / 960, 1_000_000), 1_000_000);
        assert_eq!(dripped(SECOND / 97, 500_000), 500_000);
        let mut pace = Pace::new();
        assert!((0..6250).all(|_| {
            pace.text_came(4000, SECOND);
            pace.text(SECOND).0 > SECOND
        }));
        // A short text may pause for as long as option timeout allows.
        assert_eq!(Pace::new().text(SECOND).0, TEXT_GRACE);
    }

    #[test]
    fn a_line_has_its_time_however_it_comes() {
        let (mut pace, timeout) = (Pace::new(), Duration::from_secs(300));
        let mut came = 0;
        while pace.command(came > 0, timeout).0 > 2 * SECOND {
            pace.command_came(came > 0, 2 * SECOND);
            came += 1;
        }
        assert_eq!((came, pace.command(true, timeout).1), (30, Slow::Line));
        // The next line starts from zero.
        pace.line_ended();
        pace.command_came(false, SECOND);
        assert_eq!(pace.command(true, timeout), (LINE_TIME, Slow::Line));
        assert_eq!(pace.command(false, timeout).1, Slow::Idle);
    }

    #[test]
    fn a_text_is_no_idle_time() {
        let mut pace = Pace::new();
        let before = pace.idle_since;
        pace.text_came(1, 7 * SECOND);
        pace.text_ended();
        assert_eq!(pace.idle_since - before, 7 * SECOND);
        assert_eq!(pace.text(SECOND).0, TEXT_GRACE);
    }

    /// A client that never has anything accepted would otherwise hold its slot as long as it likes.
    #[test]
    fn a_text_in_vain_is_idle_time() {
        let mut pace = Pace::new();
        let before = pace.idle_since;
        pace.text_began(true);
        pace.text_came(1, 7 * SECOND);
        pace.text_ended();
        assert_eq!(pace.idle_since, before);
        let Some(long_ago) = Instant::now().checked_sub(IDLE_TIME - SECOND) else { return };
        pace.idle_since = long_ago;
        pace.text_began(true);
        assert_eq!((pace.text(SECOND).0 <= SECOND, pace.text(SECOND).1), (true, Slow::Idle));
        pace.text_began(false);
        assert_eq!(pace.text(SECOND).1, Slow::Text);
    }
}
