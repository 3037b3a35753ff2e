// SPDX-License-Identifier: Apache-2.0
//! The program's log: one line per event, to the system log (mail facility) or to stderr.
//!
//! A line is sent at once if the log daemon takes it without delay, as it nearly always does. Otherwise it goes through a
//! thread of its own with a bounded backlog, and so do those after it until none waits, so that a hanging log daemon never
//! delays mail.
//!
//! A restarted log daemon creates a new socket. A gateway in a jail keeps seeing the old one (ujail shows the file as
//! it was), so root opens the new one for it ([`socket`], [`reconnect`]). Until then lines go to stdout and stderr,
//! which procd forwards to the log.

use std::io::{self, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixDatagram;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread;

use log::{Level, LevelFilter, Log, Metadata, Record};
use nix::sys::socket::{MsgFlags, SockType, getsockopt, send, sockopt};
use syslog::{Facility, LogFormat, Logger, LoggerBackend, Severity};
use tokio::sync::Notify;

use super::shelf::Shelf;
use super::{clock, cut, is_plain, spelled_out};
use crate::message::date::rfc5322;

/// Where log lines go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// The local system log. If there is none: stderr for errors and warnings, stdout for the rest.
    Syslog,
    /// Standard error, for `--foreground`.
    Stderr,
}

/// Maximum number of lines that wait for a slow log daemon; further ones are counted and dropped.
const BACKLOG: u32 = 2048;
/// Where the log daemons of OpenWrt and of Linux distributions listen.
const DAEMON: &str = "/dev/log";
/// Maximum length of a line in bytes: OpenWrt's logd truncates at 1023, including the header.
const LINE_LIMIT: usize = 960;

/// Lines that are kept for those who ask later, and the bytes of text that they may contain together.
const KEPT: usize = 200;
const KEPT_TEXT: usize = 24 << 10;

/// The newest lines.
static RECENT: Mutex<Recent> = Mutex::new(Recent { lines: Shelf::new(), last: 0 });

/// A line of the log that is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptLine {
    /// Its number in this run, from 1.
    pub number: u64,
    /// When it was written, seconds since 1970.
    pub time: i64,
    /// Its level: `error`, `warning`, `info`, `debug`.
    pub level: &'static str,
    /// The line.
    pub text: Box<str>,
}

struct Recent {
    /// The number of each, its time and level.
    lines: Shelf<(u64, i64, Level), KEPT>,
    /// The number of the last one.
    last: u64,
}

impl Recent {
    fn keep(&mut self, time: i64, level: Level, line: &str) {
        self.last = self.last.saturating_add(1);
        self.lines.push((self.last, time, level), &[line]);
        while self.lines.len() > KEPT || self.lines.text_size() > KEPT_TEXT {
            self.lines.remove(0);
        }
    }

    /// See [`recent`].
    fn after(&self, number: u64, limit: usize) -> (Vec<KeptLine>, bool) {
        let mut text = 0_usize;
        let newer = self.lines.iter().filter(|((line, ..), _)| *line > number);
        let fitting = newer.take_while(|(_, line)| {
            text = text.saturating_add(line.len());
            text <= limit
        });
        let kept = |((number, time, level), line): (&(u64, i64, Level), &str)| KeptLine {
            number: *number,
            time: *time,
            level: word(*level),
            text: line.into(),
        };
        let lines: Vec<KeptLine> = fitting.map(kept).collect();
        let last = lines.last().map_or(number, |line| line.number);
        (lines, self.lines.last().is_some_and(|((line, ..), _)| *line > last))
    }

    /// See [`forget`].
    fn forget(&mut self, part: &str) {
        self.lines.retain(|_, line| !line.contains(part));
    }
}

/// The lines of this run after the one with this number, oldest first, with `limit` bytes of text at most (which is more
/// than the longest line has), and whether there are more.
pub fn recent(number: u64, limit: usize) -> (Vec<KeptLine>, bool) {
    super::lock(&RECENT).after(number, limit)
}

/// Drops the kept lines that contain `part`. The log itself is not affected.
pub fn forget(part: &str) {
    super::lock(&RECENT).forget(part);
}

/// What root has opened since the start; used as soon as the open connection fails.
static HANDED: Mutex<Option<UnixDatagram>> = Mutex::new(None);
/// Signals that a line could not be sent.
static LOST: Notify = Notify::const_new();

enum LogEntry {
    Line(Level, String),
    Flush(SyncSender<()>),
}

struct ThreadedLog {
    /// Takes memory for the lines that wait, and not for those that might.
    entries: Sender<LogEntry>,
    /// How many lines wait.
    waiting: Arc<AtomicU32>,
    dropped: AtomicU32,
    /// The open connection to the log daemon. The thread has it locked while it waits for the daemon.
    logger: OpenLogger,
}

impl ThreadedLog {
    /// Sends a line without waiting. False if that is not possible, or if it would overtake others.
    fn send_at_once(&self, level: Level, line: &str) -> bool {
        if self.waiting.load(Ordering::Relaxed) > 0 || self.dropped.load(Ordering::Relaxed) > 0 {
            return false;
        }
        let Ok(logger) = self.logger.try_lock() else { return false };
        let Some(Logger { backend: LoggerBackend::Unix(socket), .. }) = &*logger else { return false };
        let text = datagram(severity(level), line);
        send(socket.as_raw_fd(), text.as_bytes(), MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL).is_ok()
    }

    /// Hands a line to the thread, unless too many wait already.
    fn hand_over(&self, level: Level, line: String) -> bool {
        if self.waiting.fetch_add(1, Ordering::Relaxed) >= BACKLOG {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
            return false;
        }
        self.entries.send(LogEntry::Line(level, line)).is_ok()
    }
}

impl Log for ThreadedLog {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        // Other crates log their own details, and might some day log a password.
        metadata.target().starts_with("smtprelay")
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let line = clean(record.args().to_string());
        super::lock(&RECENT).keep(clock::now(), record.level(), &line);
        if self.send_at_once(record.level(), &line) {
            return;
        }
        if !self.hand_over(record.level(), line) {
            self.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let lost = self.dropped.swap(0, Ordering::Relaxed);
        if lost > 0 {
            let note = format!("event=log_overrun lost={lost} text=\"the log daemon was too slow\"");
            let _ = self.hand_over(Level::Warn, note);
        }
    }

    fn flush(&self) {
        let (done, wait) = sync_channel(1);
        if self.entries.send(LogEntry::Flush(done)).is_ok() {
            let _ = wait.recv_timeout(std::time::Duration::from_secs(2));
        }
    }
}

/// One line without control characters (a terminal that shows the log would obey them), with characters that change the
/// writing direction spelled out, truncated to [`LINE_LIMIT`] bytes.
fn clean(text: String) -> String {
    let replaced = |c: char| if c.is_control() { ' ' } else { c };
    let line = match is_plain(text.as_bytes()) {
        true => text,
        false => spelled_out(&text).chars().map(replaced).collect(),
    };
    if line.len() > LINE_LIMIT { format!("{}…", cut(&line, LINE_LIMIT)) } else { line }
}

/// A line in the format of local log daemons (RFC 3164 section 4.1 without the host name, which logd would show as
/// text): `<22>Nov 23 01:02:03 smtprelay[77]: event=…`. The time is UTC; logd replaces it with its own, but drops the
/// first bytes of a line without one.
fn datagram(severity: Severity, line: &str) -> String {
    let priority = Facility::LOG_MAIL as u8 | severity as u8;
    let stamp = time_stamp(clock::now());
    // A system call, for each line otherwise.
    static PID: OnceLock<u32> = OnceLock::new();
    let pid = PID.get_or_init(std::process::id);
    format!("<{priority}>{stamp} smtprelay[{pid}]: {line}")
}

#[derive(Clone)]
struct LocalFormat;

impl LogFormat<&str> for LocalFormat {
    fn format<W: Write>(&self, out: &mut W, severity: Severity, line: &str) -> syslog::Result<()> {
        // In one piece: each call sends a datagram.
        out.write_all(datagram(severity, line).as_bytes())?;
        Ok(())
    }
}

fn severity(level: Level) -> Severity {
    match level {
        Level::Error => Severity::LOG_ERR,
        Level::Warn => Severity::LOG_WARNING,
        Level::Info => Severity::LOG_INFO,
        Level::Debug | Level::Trace => Severity::LOG_DEBUG,
    }
}

/// `Nov 23 01:02:03`, extracted from the date of a mail: `Mon, 23 Nov 2026 01:02:03 +0000`.
fn time_stamp(now: i64) -> String {
    let date = rfc5322(now);
    let mut words = date.split_whitespace().skip(1);
    let (day, month, time) = (words.next(), words.next(), words.nth(1));
    format!("{} {:>2} {}", month.unwrap_or("Jan"), day.unwrap_or("1"), time.unwrap_or("00:00:00"))
}

type LocalLogger = Logger<LoggerBackend, LocalFormat>;
type OpenLogger = Arc<Mutex<Option<LocalLogger>>>;

fn connect() -> Option<LocalLogger> {
    syslog::unix(LocalFormat).ok()
}

fn handed() -> Option<LocalLogger> {
    let socket = HANDED.lock().ok()?.take()?;
    Some(Logger { formatter: LocalFormat, backend: LoggerBackend::Unix(socket) })
}

/// Opens a connection to the current log daemon, for a gateway that cannot.
///
/// # Errors
/// From the system, if no log daemon accepts datagrams on `/dev/log`.
pub fn socket() -> io::Result<OwnedFd> {
    let socket = UnixDatagram::unbound()?;
    socket.connect(DAEMON)?;
    Ok(socket.into())
}

/// Takes what root has opened with [`socket`]. It is used as soon as a line cannot be sent otherwise.
///
/// # Errors
/// If it is anything else.
pub fn reconnect(opened: OwnedFd) -> Result<(), String> {
    let is_datagram = getsockopt(&opened, sockopt::SockType).is_ok_and(|kind| kind == SockType::Datagram);
    let socket = UnixDatagram::from(opened);
    if !is_datagram || socket.peer_addr().is_err() {
        return Err("this is not a connection to a log daemon".into());
    }
    if let Ok(mut handed) = HANDED.lock() {
        *handed = Some(socket);
    }
    Ok(())
}

/// Waits until a line could not be sent to the log daemon; returns at once if that has happened since the last call.
pub async fn lost() {
    LOST.notified().await;
}

fn to_stderr(level: Level, line: &str) {
    write_to(&mut std::io::stderr().lock(), level, line);
}

/// procd logs lines from stdout as `daemon.info`, from stderr as `daemon.err`.
fn to_procd(level: Level, line: &str) {
    match level {
        Level::Error | Level::Warn => to_stderr(level, line),
        Level::Info | Level::Debug | Level::Trace => write_to(&mut std::io::stdout().lock(), level, line),
    }
}

fn word(level: Level) -> &'static str {
    match level {
        Level::Error => "error",
        Level::Warn => "warning",
        Level::Info => "info",
        Level::Debug | Level::Trace => "debug",
    }
}

fn write_to(out: &mut impl Write, level: Level, line: &str) {
    let level = word(level);
    // In one piece, since stderr has no buffer. If that fails too, nothing else is left to report it.
    let _ = out.write_all(format!("smtprelay: {level}: {line}\n").as_bytes());
}

/// Sends one line to the log daemon: over the open connection or, since the daemon may have been restarted, over one
/// that root has opened since then, or over a new one of our own.
fn to_syslog(logger: &mut Option<LocalLogger>, level: Level, line: &str) -> bool {
    let others: [fn() -> Option<LocalLogger>; 2] = [handed, connect];
    let mut others = others.iter();
    loop {
        if let Some(open) = logger.as_mut()
            && open.formatter.format(&mut open.backend, severity(level), line).is_ok()
        {
            return true;
        }
        match others.next() {
            Some(other) => *logger = other(),
            None => {
                *logger = None;
                return false;
            }
        }
    }
}

fn write_all(entries: &Receiver<LogEntry>, waiting: &AtomicU32, target: Target, logger: &OpenLogger) {
    while let Ok(entry) = entries.recv() {
        match entry {
            LogEntry::Line(level, line) => {
                if target == Target::Stderr {
                    to_stderr(level, &line);
                } else if !to_syslog(&mut super::lock(logger), level, &line) {
                    to_procd(level, &line);
                    LOST.notify_one();
                }
                // Not before it is sent: the next one must not overtake it.
                waiting.fetch_sub(1, Ordering::Relaxed);
            }
            LogEntry::Flush(done) => {
                let _ = done.try_send(());
            }
        }
    }
}

/// The open connection to the log.
pub struct Opened {
    target: Target,
    logger: Option<LocalLogger>,
}

/// Opens the connection to the log, while the program still has the right to. No thread is started yet.
pub fn open(target: Target) -> Opened {
    Opened { target, logger: if target == Target::Syslog { connect() } else { None } }
}

/// Starts the log. Later calls (tests start several relays in one process) only change the level.
pub fn init(opened: Opened, level: LevelFilter) {
    let Opened { target, logger } = opened;
    let (entries, receiver) = channel();
    let waiting = Arc::new(AtomicU32::new(0));
    let logger: OpenLogger = Arc::new(Mutex::new(logger));
    let log =
        ThreadedLog { entries, waiting: Arc::clone(&waiting), dropped: AtomicU32::new(0), logger: Arc::clone(&logger) };
    if log::set_boxed_logger(Box::new(log)).is_ok() {
        let started = thread::Builder::new()
            .name("log".into())
            .stack_size(128 << 10)
            .spawn(move || write_all(&receiver, &waiting, target, &logger));
        if let Err(error) = started {
            to_stderr(Level::Error, &format!("cannot start the log: {error}"));
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
        // logd checks whether the 16th byte after the priority is a space.
        assert_eq!(line.as_bytes()[4 + 15], b' ');
    }

    #[test]
    fn the_newest_lines_are_kept_and_given_once() {
        let mut recent = Recent { lines: Shelf::new(), last: 0 };
        (0..KEPT + 5).for_each(|n| recent.keep(7, Level::Info, &format!("line {n}")));
        assert_eq!(recent.lines.len(), KEPT);
        let (lines, more) = recent.after(0, usize::MAX);
        assert_eq!((lines.len(), more, &*lines[0].text), (KEPT, false, "line 5"));
        let last = lines.last().unwrap().number;
        assert_eq!(recent.after(last, usize::MAX), (vec![], false));
        recent.keep(8, Level::Warn, "new");
        let (lines, more) = recent.after(last, usize::MAX);
        assert_eq!((lines.len(), more), (1, false));
        assert_eq!((lines[0].time, lines[0].level, &*lines[0].text), (8, "warning", "new"));
        // In portions.
        let (lines, more) = recent.after(0, 20);
        assert!(more && lines.len() == 3, "{lines:?}");
        (0..100).for_each(|_| recent.keep(9, Level::Debug, &"x".repeat(LINE_LIMIT)));
        assert!(recent.lines.text_size() <= KEPT_TEXT && recent.lines.len() <= KEPT_TEXT / LINE_LIMIT);
        recent.keep(9, Level::Info, "event=accepted subject=x");
        let (count, last) = (recent.lines.len(), recent.last);
        recent.forget(" subject=");
        assert_eq!((recent.lines.len(), recent.last), (count - 1, last));
        assert!(!recent.after(last - 1, usize::MAX).1, "what was dropped is not waited for");
    }

    #[test]
    fn only_a_way_to_a_log_daemon_is_taken() {
        let (one, _other) = UnixDatagram::pair().unwrap();
        reconnect(one.into()).unwrap();
        assert!(reconnect(UnixDatagram::unbound().unwrap().into()).is_err(), "not connected");
        assert!(reconnect(std::os::unix::net::UnixStream::pair().unwrap().0.into()).is_err());
        let udp = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        udp.connect(udp.local_addr().unwrap()).unwrap();
        assert!(reconnect(udp.into()).is_err());
        assert!(reconnect(std::fs::File::open("/dev/null").unwrap().into()).is_err());
        HANDED.lock().unwrap().take();
    }

    #[test]
    fn a_slow_log_daemon_makes_lines_wait_and_then_counts_them() {
        let (entries, receiver) = channel();
        let waiting = Arc::new(AtomicU32::new(0));
        let (dropped, logger) = Default::default();
        let log = ThreadedLog { entries, waiting: Arc::clone(&waiting), dropped, logger };
        let line = || {
            let record = Record::builder().target("smtprelay").level(Level::Info).args(format_args!("x")).build();
            log.log(&record);
        };
        (0..BACKLOG + 3).for_each(|_| line());
        assert_eq!((log.dropped.load(Ordering::Relaxed), waiting.load(Ordering::Relaxed)), (3, BACKLOG));
        // The daemon has taken some: the next line goes, and behind it how many did not.
        let taken = |wanted: usize| {
            let mut taken = Vec::new();
            while taken.len() < wanted {
                let LogEntry::Line(_, line) = receiver.recv().unwrap() else { panic!() };
                waiting.fetch_sub(1, Ordering::Relaxed);
                taken.push(line);
            }
            taken
        };
        taken(10);
        line();
        assert_eq!(log.dropped.load(Ordering::Relaxed), 0);
        let last = taken(BACKLOG as usize - 10 + 2).pop().unwrap();
        assert!(last.starts_with("event=log_overrun lost=3 "), "{last}");
        assert_eq!(waiting.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn a_line_is_sent_at_once_but_never_waits_nor_overtakes() {
        let (ours, daemon) = UnixDatagram::pair().unwrap();
        let open = Logger { formatter: LocalFormat, backend: LoggerBackend::Unix(ours) };
        let (entries, receiver) = channel();
        let (waiting, logger) = (Arc::new(AtomicU32::new(0)), Arc::new(Mutex::new(Some(open))));
        let log = ThreadedLog {
            entries,
            waiting: Arc::clone(&waiting),
            dropped: AtomicU32::new(0),
            logger: Arc::clone(&logger),
        };
        let line = |number: u32| {
            let text = format_args!("line {number}");
            log.log(&Record::builder().target("smtprelay").level(Level::Warn).args(text).build());
        };
        // As many as the daemon takes without reading any.
        let mut number = 0;
        while waiting.load(Ordering::Relaxed) == 0 {
            line(number);
            number += 1;
        }
        assert!(number > 1, "none was sent");
        let mut space = [0; 200];
        let mut read = |daemon: &UnixDatagram| {
            let length = daemon.recv(&mut space).unwrap();
            String::from_utf8(space[..length].to_vec()).unwrap()
        };
        for sent in 0..number - 1 {
            let text = read(&daemon);
            assert!(text.starts_with("<20>") && text.ends_with(&format!("]: line {sent}")), "{text}");
        }
        // There is room again, but one waits.
        line(number);
        let thread = thread::spawn({
            let waiting = Arc::clone(&waiting);
            move || write_all(&receiver, &waiting, Target::Syslog, &logger)
        });
        for sent in number - 1..=number {
            let text = read(&daemon);
            assert!(text.ends_with(&format!("]: line {sent}")), "{text}");
        }
        drop(log);
        thread.join().unwrap();
        assert_eq!(waiting.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn lines_are_cleaned_and_cut_at_a_character() {
        assert_eq!(clean(String::from("a\x1b[2Jb\nc\u{202e}")), "a [2Jb c<U+202E>");
        let long = "ä".repeat(1000);
        let cut = clean(long);
        assert!(cut.len() <= LINE_LIMIT + '…'.len_utf8());
        assert!(cut.ends_with('…'));
    }
}
