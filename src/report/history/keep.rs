// SPDX-License-Identifier: Apache-2.0
//! Keeps the history: takes events, and writes it to the spool now and then so that it survives a restart.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::{mpsc, watch};

use crate::report::{Event, History, observe};
use crate::system::lock;
use crate::system::{clock, ordered, publish, task};

/// Name of its file in the spool directory: RAM on most routers, so writing it costs no flash.
const FILE: &str = "history";
/// Bytes of the file that are read back; what [`History`] writes is smaller.
const LIMIT: u64 = 1 << 20;
/// How often it is written, if there were events.
const EVERY: Duration = Duration::from_secs(60);
/// Events that may wait.
const EVENTS: usize = 2048;

/// The history of earlier runs, and the events of this one from now on.
pub fn open(spool: &Path) -> (Arc<Mutex<History>>, mpsc::Receiver<Arc<Event>>) {
    let events = observe(EVENTS);
    let path = spool.join(FILE);
    let small = fs::metadata(&path).is_ok_and(|file| file.len() <= LIMIT);
    let bytes = small.then(|| fs::read(&path).ok()).flatten().unwrap_or_default();
    (Arc::new(Mutex::new(History::decode(&bytes))), events)
}

/// Follows `events` until the order to stop.
pub async fn run(
    history: Arc<Mutex<History>>,
    mut events: mpsc::Receiver<Arc<Event>>,
    spool: PathBuf,
    mut stop: watch::Receiver<bool>,
) {
    let mut timer = tokio::time::interval_at(tokio::time::Instant::now() + EVERY, EVERY);
    timer.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut changed = false;
    loop {
        tokio::select! {
            Some(event) = events.recv() => {
                lock(&history).take(clock::now(), &event);
                changed = true;
            }
            _ = timer.tick() => if std::mem::take(&mut changed) { write(&history, &spool).await },
            () = ordered(&mut stop) => break,
        }
    }
    // The dispatcher ends at the same order: its last events are taken until all is quiet.
    while let Ok(Some(event)) = tokio::time::timeout(Duration::from_millis(200), events.recv()).await {
        lock(&history).take(clock::now(), &event);
    }
    write(&history, &spool).await;
}

/// Writes the history. A failure loses nothing but the history.
async fn write(history: &Mutex<History>, spool: &Path) {
    let bytes = lock(history).encode();
    let path = spool.join(FILE);
    // It contains addresses and replies of providers: only its owner may read it.
    let written = task::blocking(move || publish::replace(&path, &bytes, 0o600));
    if let Some(Err(error)) = written.await {
        log::debug!(target: "smtprelay", "event=history_not_written text=\"{error}\"");
    }
}
