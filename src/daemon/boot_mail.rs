//! The mail after a start of the router (`notify_boot`): waits for clock and uplink, and tells what is known.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::sync::watch;

use crate::VERSION;
use crate::config::{Relay, Settings};
use crate::intake::{Behalf, Desk, IntakeError};
use crate::message::{Envelope, is_address};
use crate::report::{BootFacts, BootMail, Event, boot_reason};
use crate::system::{clock, interfaces, publish};

/// In `safe_spool` (else in `spool`): what the last run knew when it ended.
const STOPPED: &str = "last_stop";
/// In `spool`: which start of the router has been announced.
const ANNOUNCED: &str = "announced";
/// How often it is looked whether clock and uplink are there.
const LOOK: Duration = Duration::from_secs(5);
/// How long the uplink is waited for before the mail goes into the queue all the same.
const PATIENCE: Duration = Duration::from_secs(600);

/// What an earlier run left behind: the last one before this start of the router. Runs since then change nothing of it, so
/// that the mail tells the truth even when the program was started again before it could be written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LastRun {
    /// When it ended in order, seconds since 1970.
    stopped: Option<i64>,
    /// The start of the router in which it ended; `None` when nothing is remembered.
    boot: Option<String>,
    /// The start of the router that was announced last.
    announced: Option<String>,
}

fn stop_file(relay: &Relay) -> PathBuf {
    relay.safe_spool.as_ref().unwrap_or(&relay.spool).join(STOPPED)
}

fn read(path: &Path) -> Option<String> {
    // A few bytes of our own; anything else is not looked at.
    fs::metadata(path).ok().filter(|file| file.len() < 4096).and_then(|_| fs::read_to_string(path).ok())
}

/// The file of the last run: `boot` and `at` are its start of the router and its orderly end, `before` is the same of the
/// last run before that start.
fn read_stop(path: &Path) -> Value {
    read(path).and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default()
}

impl LastRun {
    /// Reads what the last run left, and takes the sign of an orderly end away: this run has not ended in order yet.
    pub fn read(relay: &Relay) -> Self {
        let path = stop_file(relay);
        let mut last = read_stop(&path);
        let same_boot = last.get("boot").and_then(Value::as_str) == Some(clock::boot());
        let ended = last.get("at").is_some();
        let before = match same_boot {
            true => last.get_mut("before").map(Value::take).unwrap_or_default(),
            false => json!({ "boot": last.get("boot"), "at": last.get("at") }),
        };
        if !same_boot || ended {
            write(&path, &json!({ "boot": clock::boot(), "before": before }).to_string());
        }
        let boot = before.get("boot").and_then(Value::as_str).map(str::to_string);
        let stopped = before.get("at").and_then(Value::as_i64);
        Self { stopped, boot, announced: read(&relay.spool.join(ANNOUNCED)) }
    }
}

fn write(path: &Path, text: &str) {
    if let Err(error) = publish::replace(path, text.as_bytes(), 0o600) {
        Event::SpoolTrouble { id: String::new(), reason: format!("can't write {}: {error}", path.display()) }.log();
    }
}

/// Leaves the sign of an orderly end.
pub fn stopped(relay: &Relay) {
    let path = stop_file(relay);
    let before = read_stop(&path).get_mut("before").map(Value::take);
    write(&path, &json!({ "at": clock::now(), "boot": clock::boot(), "before": before }).to_string());
}

/// Queues the mail once after each start of the router, if the owner wants it. `waiting` is what the queue held at the
/// start: messages and bytes.
pub async fn run(settings: watch::Receiver<Arc<Settings>>, desk: Desk, last: LastRun, waiting: (usize, u64)) {
    let current = settings.borrow().clone();
    if !current.relay.notify_boot || last.announced.as_deref() == Some(clock::boot()) {
        return;
    }
    let started = Instant::now();
    while !(clock::is_set() && (interfaces::has_default_route() || started.elapsed() > PATIENCE)) {
        tokio::time::sleep(LOOK).await;
    }
    loop {
        let current = settings.borrow().clone();
        match announce(&current, &desk, &last, waiting).await {
            Ok(()) => break write(&current.relay.spool.join(ANNOUNCED), clock::boot()),
            Err(error) => {
                Event::Advice { text: format!("the mail about the start of the router can't be queued: {error}") }
                    .log();
                tokio::time::sleep(PATIENCE).await;
            }
        }
    }
}

async fn announce(settings: &Settings, desk: &Desk, last: &LastRun, waiting: (usize, u64)) -> Result<(), IntakeError> {
    let from = settings.accounts.first().map(|account| account.from.clone()).unwrap_or_default();
    let hostname = settings.relay.hostname();
    let Some(to) = settings.relay.admin.clone().or(Some(from.clone())).filter(|to| is_address(to)) else {
        Event::Advice { text: "notify_boot is on, but there is nobody to tell: set option admin".into() }.log();
        return Ok(());
    };
    let from = settings.own_address(&hostname);
    let facts = BootFacts {
        pstore_has_dump: fs::read_dir("/sys/fs/pstore").is_ok_and(|mut files| files.next().is_some()),
        remembers: last.boot.is_some(),
        stopped_in_order: last.stopped,
        boot_id_changed: last.boot.as_deref() != Some(clock::boot()),
        clock: clock::now(),
    };
    let addresses: Vec<_> = interfaces::addresses().unwrap_or_default();
    let addresses: Vec<_> =
        addresses.into_iter().filter(|a| !a.ip.is_loopback()).map(|a| (a.interface, a.ip)).collect();
    let mail = BootMail {
        hostname: &hostname,
        from: &from,
        to: &to,
        version: VERSION,
        booted_at: clock::at_uptime(0),
        reason: &boot_reason(&facts),
        uptime: clock::uptime(),
        addresses: &addresses,
        waiting,
        oldest: None,
        last_stop: last.stopped,
    };
    let text = mail.text();
    let envelope = Envelope { from: from.clone(), to: vec![to.clone()], smtputf8: !to.is_ascii() };
    let id = desk.post(&text, envelope, Behalf::default(), (&hostname, &from)).await?;
    Event::Notified { id, about: "start".into(), to }.log();
    Ok(())
}
