//! The program's log: one line an event, to the system log (mail facility) or to stderr.
//!
//! Lines go through a thread of their own with a bounded backlog, so that a log daemon that hangs never holds up mail.

use std::io::Write;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread;

use log::{Level, LevelFilter, Log, Metadata, Record};
use syslog::{Facility, LogFormat, Logger, LoggerBackend, Severity};

use super::clock;
use super::visible::spelled_out;
use crate::message::date::rfc5322;

/// Where log lines go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// The local system log, or stderr where there is none.
    Syslog,
    /// Standard error, for `--foreground`.
    Stderr,
}

/// Lines that wait for a slow log daemon; later ones are counted and dropped.
const BACKLOG: usize = 2048;
/// Bytes of one line: OpenWrt's logd cuts at 1023, header included.
const LINE_LIMIT: usize = 960;

enum Entry {
    Line(Level, String),
    Flush(SyncSender<()>),
}

struct ThreadedLog {
    entries: SyncSender<Entry>,
    dropped: AtomicU32,
}

impl Log for ThreadedLog {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        // Other crates speak of their own matters, and one day might speak of a password.
        metadata.target().starts_with("smtprelay")
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let line = clean(&record.args().to_string());
        match self.entries.try_send(Entry::Line(record.level(), line)) {
            Ok(()) => {
                let lost = self.dropped.swap(0, Ordering::Relaxed);
                if lost > 0 {
                    let note = format!("event=log_overrun lost={lost} text=\"the log daemon was too slow\"");
                    let _ = self.entries.try_send(Entry::Line(Level::Warn, note));
                }
            }
            Err(TrySendError::Full(_)) => {
                self.dropped.fetch_add(1, Ordering::Relaxed);
            }
            Err(TrySendError::Disconnected(_)) => {}
        }
    }

    fn flush(&self) {
        let (done, wait) = sync_channel(1);
        if self.entries.send(Entry::Flush(done)).is_ok() {
            let _ = wait.recv_timeout(std::time::Duration::from_secs(2));
        }
    }
}

/// One line without control characters (a terminal that shows the log obeys them), those that turn the direction of writing
/// spelled out, cut at [`LINE_LIMIT`] bytes.
fn clean(text: &str) -> String {
    let mut line: String = spelled_out(text).chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    if line.len() > LINE_LIMIT {
        let mut end = LINE_LIMIT;
        while !line.is_char_boundary(end) {
            end -= 1;
        }
        line.truncate(end);
        line.push('…');
    }
    line
}

/// A line as local log daemons take it (RFC 3164 section 4.1 without the host name, which logd would show as text):
/// `<22>Nov 23 01:02:03 smtprelay[77]: event=…`. The time is UTC; logd puts its own in its place, but drops the first
/// bytes of a line without one.
#[derive(Clone)]
struct LocalFormat;

impl LogFormat<&str> for LocalFormat {
    fn format<W: Write>(&self, out: &mut W, severity: Severity, line: &str) -> syslog::Result<()> {
        let priority = Facility::LOG_MAIL as u8 | severity as u8;
        let stamp = time_stamp(clock::now());
        write!(out, "<{priority}>{stamp} smtprelay[{}]: {line}", std::process::id())?;
        Ok(())
    }
}

/// `Nov 23 01:02:03`, cut out of the date of a mail: `Mon, 23 Nov 2026 01:02:03 +0000`.
fn time_stamp(now: i64) -> String {
    let date = rfc5322(now);
    let mut words = date.split_whitespace().skip(1);
    let (day, month, time) = (words.next(), words.next(), words.nth(1));
    format!("{} {:>2} {}", month.unwrap_or("Jan"), day.unwrap_or("1"), time.unwrap_or("00:00:00"))
}

fn connect() -> Option<Logger<LoggerBackend, LocalFormat>> {
    syslog::unix(LocalFormat).ok()
}

fn to_stderr(level: Level, line: &str) {
    let level = match level {
        Level::Error => "error",
        Level::Warn => "warning",
        Level::Info => "info",
        Level::Debug | Level::Trace => "debug",
    };
    // There is nobody to tell when stderr is gone.
    let _ = writeln!(std::io::stderr().lock(), "smtprelay: {level}: {line}");
}

/// One line to the log daemon; reconnects once, since the daemon may have been restarted.
fn to_syslog(logger: &mut Option<Logger<LoggerBackend, LocalFormat>>, level: Level, line: &str) -> bool {
    for _ in 0..2 {
        if logger.is_none() {
            *logger = connect();
        }
        let Some(open) = logger.as_mut() else { return false };
        let sent = match level {
            Level::Error => open.err(line),
            Level::Warn => open.warning(line),
            Level::Info => open.info(line),
            Level::Debug | Level::Trace => open.debug(line),
        };
        if sent.is_ok() {
            return true;
        }
        *logger = None;
    }
    false
}

fn write_all(entries: &Receiver<Entry>, target: Target, mut logger: Option<Logger<LoggerBackend, LocalFormat>>) {
    while let Ok(entry) = entries.recv() {
        match entry {
            Entry::Line(level, line) => {
                if target == Target::Stderr || !to_syslog(&mut logger, level, &line) {
                    to_stderr(level, &line);
                }
            }
            Entry::Flush(done) => {
                let _ = done.try_send(());
            }
        }
    }
}

/// The way to the log, open already.
pub struct Opened {
    target: Target,
    logger: Option<Logger<LoggerBackend, LocalFormat>>,
}

/// Opens the way to the log, while the program may open anything. No thread is started yet.
pub fn open(target: Target) -> Opened {
    Opened { target, logger: if target == Target::Syslog { connect() } else { None } }
}

/// Starts the log. Later calls (tests start several relays in one process) change nothing but the level.
pub fn init(opened: Opened, level: LevelFilter) {
    let Opened { target, logger } = opened;
    let (entries, receiver) = sync_channel(BACKLOG);
    if log::set_boxed_logger(Box::new(ThreadedLog { entries, dropped: AtomicU32::new(0) })).is_ok() {
        let started = thread::Builder::new()
            .name("log".into())
            .stack_size(128 << 10)
            .spawn(move || write_all(&receiver, target, logger));
        if let Err(error) = started {
            to_stderr(Level::Error, &format!("can't start the log: {error}"));
        }
    }
    log::set_max_level(level);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn syslog_lines_have_the_form_that_log_daemons_cut_up() {
        assert_eq!(time_stamp(1_795_395_723), "Nov 23 01:02:03");
        let mut line = Vec::new();
        LocalFormat.format(&mut line, Severity::LOG_INFO, "event=started").unwrap();
        let line = String::from_utf8(line).unwrap();
        assert!(
            line.starts_with("<22>") && line.ends_with(&format!(" smtprelay[{}]: event=started", std::process::id()))
        );
        // logd looks whether the 16th byte behind the priority is a blank.
        assert_eq!(line.as_bytes()[4 + 15], b' ');
    }

    #[test]
    fn lines_are_cleaned_and_cut_at_a_character() {
        assert_eq!(clean("a\x1b[2Jb\nc\u{202e}"), "a [2Jb c<U+202E>");
        let long = "ä".repeat(1000);
        let cut = clean(&long);
        assert!(cut.len() <= LINE_LIMIT + '…'.len_utf8());
        assert!(cut.ends_with('…'));
    }
}
