// SPDX-License-Identifier: Apache-2.0
//! The mail after a boot of the router (`notify_boot`): it waits for clock and uplink, and reports what is known.

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

/// In `safe_spool` (otherwise in `spool`): what the last run knew when it ended.
const STOPPED: &str = "last_stop";
/// In `spool`: the last boot of the router that has been announced.
const ANNOUNCED: &str = "announced";
/// How often to check whether clock and uplink are available.
const LOOK: Duration = Duration::from_secs(5);
/// How long to wait for the uplink before the mail is queued anyway.
const PATIENCE: Duration = Duration::from_secs(600);

/// What an earlier run left behind: the last one before this boot of the router. Later runs do not change it, so that
/// the mail is correct even if the program was restarted before it could be written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LastRun {
    /// When it ended cleanly, in seconds since 1970.
    stopped: Option<i64>,
    /// The boot of the router during which it ended; `None` if nothing is known.
    boot: Option<String>,
    /// The boot of the router that was announced last.
    announced: Option<String>,
}

fn stop_file(relay: &Relay) -> PathBuf {
    relay.safe_spool.as_ref().unwrap_or(&relay.spool).join(STOPPED)
}

fn read(path: &Path) -> Option<String> {
    // A few bytes that we have written; anything else is ignored.
    fs::metadata(path).ok().filter(|file| file.len() < 4096).and_then(|_| fs::read_to_string(path).ok())
}

/// The file of the last run: `boot` is the boot during which it ran and `at` the time of its clean shutdown; `before`
/// is the same for the last run before that boot.
fn read_stop(path: &Path) -> Value {
    read(path).and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default()
}

impl LastRun {
    /// Reads what the last run left, and removes the mark of a clean shutdown: this run has not ended cleanly yet.
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
        Event::SpoolTrouble { id: String::new(), reason: format!("cannot write {}: {error}", path.display()) }.log();
    }
}

/// Leaves the mark of a clean shutdown.
pub fn stopped(relay: &Relay) {
    let path = stop_file(relay);
    let before = read_stop(&path).get_mut("before").map(Value::take);
    write(&path, &json!({ "at": clock::now(), "boot": clock::boot(), "before": before }).to_string());
}

/// Queues the mail once after each boot of the router, if it is enabled. `waiting` is the content of the queue at the
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
                Event::Advice { text: format!("the boot notification cannot be queued: {error}") }.log();
                tokio::time::sleep(PATIENCE).await;
            }
        }
    }
}

async fn announce(settings: &Settings, desk: &Desk, last: &LastRun, waiting: (usize, u64)) -> Result<(), IntakeError> {
    let from = settings.accounts.first().map(|account| account.from.clone()).unwrap_or_default();
    let hostname = settings.relay.hostname();
    let Some(to) = settings.relay.admin.clone().or(Some(from.clone())).filter(|to| is_address(to)) else {
        Event::Advice { text: "notify_boot is enabled, but it has no recipient: set option admin".into() }.log();
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
