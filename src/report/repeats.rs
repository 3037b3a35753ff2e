// SPDX-License-Identifier: Apache-2.0
//! Log lines that a client can cause at will, or that lasting trouble causes every few seconds: the first is written,
//! further ones are only counted, or dropped.
//!
//! The same line of the same client is written again at the end of an interval, with `times=` the number since then;
//! the interval doubles as long as it continues. So a device that is refused every second causes some twenty lines per
//! day, and other log lines are kept. A line about lasting trouble is written again once an hour, when it is caused again:
//! never after the trouble has ended. Observers still get every event.

use std::sync::Mutex;
use std::time::Duration;

use tokio::sync::{Notify, watch};

use crate::system::lock;
use crate::system::{clock, ordered};

/// How long lines are counted after the first one.
const INTERVAL: Duration = Duration::from_secs(60);
/// How long they are counted at most before the number is written.
const INTERVAL_LIMIT: Duration = Duration::from_secs(3600);
/// Lines that are tracked at once, and those of one client. Further ones are only counted, on one line for all
/// of that kind of the client, or of all clients.
const KNOWN: usize = 256;
const KNOWN_OF_ONE: usize = 16;
/// How often the end of an interval is checked, if any has begun.
const LOOK: Duration = Duration::from_secs(10);

#[derive(Debug)]
struct Repeated {
    client: String,
    /// The event, such as `refused`.
    kind: &'static str,
    /// The line; without text for lines that are only counted together.
    line: String,
    level: log::Level,
    /// Whether it is about lasting trouble, so that no number is written.
    lasts: bool,
    times: u32,
    until: Duration,
    interval: Duration,
}

/// What is the same in all lines that are counted together.
#[derive(Debug, Clone, Copy)]
pub(super) struct Same<'a> {
    pub(super) client: &'a str,
    /// The event, such as `refused`.
    pub(super) kind: &'static str,
    /// The line, or what remains the same in it; the line itself if `None`.
    pub(super) text: Option<&'a str>,
    /// Whether it is about lasting trouble.
    pub(super) lasts: bool,
}

/// A line to write.
#[derive(Debug, PartialEq, Eq)]
struct Due {
    level: log::Level,
    line: String,
}

#[derive(Debug, Default)]
struct Repeats(Vec<Repeated>);

static REPEATS: Mutex<Repeats> = Mutex::new(Repeats(Vec::new()));
/// Tells that an interval has begun.
static BEGUN: Notify = Notify::const_new();

impl Repeats {
    /// Whether this line is written now; otherwise it is only counted.
    fn is_new(&mut self, same: Same<'_>, level: log::Level, line: &str, now: Duration) -> bool {
        let Same { client, kind, text, lasts } = same;
        let line = text.unwrap_or(line);
        // Written again by the first one that comes after the hour.
        self.0.retain(|entry| !entry.lasts || now < entry.until);
        if self.count(client, kind, line) {
            return false;
        }
        let of_client = self.0.iter().filter(|entry| entry.client == client).count();
        let (client, line, is_new) = match (self.0.len() < KNOWN, of_client < KNOWN_OF_ONE) {
            (true, true) => (client, line.to_string(), true),
            (true, false) => (client, together(kind, client), false),
            (false, _) => ("", together(kind, "several"), false),
        };
        if !is_new && self.count(client, kind, &line) {
            return false;
        }
        let times = u32::from(!is_new);
        let lasts = lasts && is_new;
        let interval = if lasts { INTERVAL_LIMIT } else { INTERVAL };
        let (client, until) = (client.to_string(), now.saturating_add(interval));
        self.0.push(Repeated { client, kind, line, level, lasts, times, until, interval });
        is_new
    }

    fn count(&mut self, client: &str, kind: &'static str, line: &str) -> bool {
        let known = |entry: &&mut Repeated| entry.client == client && entry.kind == kind && entry.line == line;
        let found = self.0.iter_mut().find(known);
        found.is_some_and(|entry| {
            entry.times = entry.times.saturating_add(1);
            true
        })
    }

    /// The numbers whose interval has ended by `now`. Lines that were not repeated are forgotten.
    fn due(&mut self, now: Duration) -> Vec<Due> {
        let mut due = Vec::new();
        self.0.retain_mut(|entry| {
            if now < entry.until {
                return true;
            }
            if entry.times == 0 || entry.lasts {
                return false;
            }
            let since = entry.interval.as_secs();
            due.push(Due { level: entry.level, line: format!("{} times={} within={since}s", entry.line, entry.times) });
            entry.times = 0;
            entry.interval = entry.interval.saturating_mul(2).min(INTERVAL_LIMIT);
            entry.until = now.saturating_add(entry.interval);
            true
        });
        due
    }
}

/// The line for events that are only counted.
fn together(kind: &str, client: &str) -> String {
    format!("event={kind} client={client} text=\"more of this kind, with other details\"")
}

fn repeats<T>(work: impl FnOnce(&mut Repeats) -> T) -> T {
    work(&mut lock(&REPEATS))
}

/// Whether this line is to be written now.
pub(super) fn is_new(same: Same<'_>, level: log::Level, line: &str) -> bool {
    let is_new = repeats(|repeats| repeats.is_new(same, level, line, clock::since_boot()));
    BEGUN.notify_one();
    is_new
}

/// Writes the numbers, until the order to stop.
pub async fn run(mut stop: watch::Receiver<bool>) {
    let mut ends = false;
    while !ends {
        let counts = repeats(|repeats| !repeats.0.is_empty());
        tokio::select! {
            () = tokio::time::sleep(LOOK), if counts => {}
            () = BEGUN.notified(), if !counts => continue,
            () = ordered(&mut stop) => ends = true,
        }
        // At the end all remaining numbers are written.
        let now = if ends { Duration::MAX } else { clock::since_boot() };
        for Due { level, line } in repeats(|repeats| repeats.due(now)) {
            log::log!(target: "smtprelay", level, "{line}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WARN: log::Level = log::Level::Warn;

    fn of<'a>(client: &'a str, kind: &'static str) -> Same<'a> {
        Same { client, kind, text: None, lasts: false }
    }

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(1000 + seconds)
    }

    #[test]
    fn the_first_is_written_and_the_rest_is_counted() {
        let mut repeats = Repeats::default();
        let line = "event=refused client=a text=x";
        assert!(repeats.is_new(of("a", "refused"), WARN, line, at(0)));
        assert!((0..299).all(|_| !repeats.is_new(of("a", "refused"), WARN, line, at(1))));
        assert!(repeats.is_new(of("b", "refused"), WARN, "event=refused client=b text=x", at(1)));
        assert_eq!(repeats.due(at(59)), []);
        let due = |line: &str| Due { level: WARN, line: line.into() };
        assert_eq!(repeats.due(at(61)), [due("event=refused client=a text=x times=299 within=60s")]);
        assert!(!repeats.is_new(of("a", "refused"), WARN, line, at(100)));
        assert_eq!(repeats.due(at(180)), []);
        assert_eq!(repeats.due(at(181)), [due("event=refused client=a text=x times=1 within=120s")]);
        // After an interval without one it is new again.
        assert_eq!(repeats.due(at(10_000)), []);
        assert!(repeats.0.is_empty() && repeats.is_new(of("a", "refused"), WARN, line, at(10_001)));
    }

    #[test]
    fn a_day_of_refusals_is_a_few_lines() {
        let mut repeats = Repeats::default();
        let mut lines = 0;
        for second in 0..86_400 {
            lines += usize::from(repeats.is_new(of("a", "refused"), WARN, "x", at(second)));
            lines += repeats.due(at(second)).len();
        }
        assert!(lines <= 32, "{lines}");
    }

    #[test]
    fn what_varies_is_bounded_for_one_client_and_for_all() {
        let mut repeats = Repeats::default();
        let written = (0..500).filter(|n| repeats.is_new(of("a", "rejected"), WARN, &format!("to={n}"), at(0))).count();
        assert_eq!(written, KNOWN_OF_ONE);
        assert!(repeats.is_new(of("b", "rejected"), WARN, "to=1", at(0)));
        for n in 0..2000 {
            repeats.is_new(of(&format!("10.0.0.{n}"), "refused"), WARN, "x", at(0));
        }
        assert!(repeats.0.len() <= KNOWN + 2, "{}", repeats.0.len());
        let due = repeats.due(at(61));
        assert_eq!(due.len(), 2, "{due:?}");
        assert!(due[0].line.starts_with("event=rejected client=a ") && due[0].line.ends_with("times=484 within=60s"));
        assert!(due[1].line.starts_with("event=refused client=several "), "{due:?}");
    }

    #[test]
    fn trouble_that_lasts_is_written_once_an_hour_and_not_after_its_end() {
        let mut repeats = Repeats::default();
        let trouble = Same { text: Some("full"), lasts: true, ..of("queue", "spool_trouble") };
        let written = |repeats: &mut Repeats, second: u64| {
            // How many messages wait differs each time.
            let is_new = repeats.is_new(trouble, WARN, &format!("{second} messages: full"), at(second));
            assert_eq!(repeats.due(at(second)), []);
            is_new
        };
        let lines: Vec<u64> = (0..9000).step_by(10).filter(|second| written(&mut repeats, *second)).collect();
        assert_eq!(lines, [0, 3600, 7200]);
        // Another reason is reported at once.
        assert!(repeats.is_new(Same { text: Some("read-only"), ..trouble }, WARN, "x", at(9000)));
        assert_eq!(repeats.due(at(20_000)), []);
        assert!(repeats.0.is_empty() && written(&mut repeats, 20_010));
        // What is too much for the memory of this is not dropped, but counted.
        let others = (0..100).filter(|n| {
            let same = Same { text: None, ..trouble };
            repeats.is_new(same, WARN, &format!("id={n}"), at(20_010))
        });
        assert_eq!(others.count(), KNOWN_OF_ONE - 1);
        assert!(repeats.due(at(20_080))[0].line.ends_with("times=85 within=60s"));
    }
}
