//! One process for one queue.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::fcntl::{Flock, FlockArg};

/// How long a start waits for an earlier process to give up the queue: one that was killed amid a slow write to flash holds
/// it for a moment after its end was seen.
const LOCK_PATIENCE: Duration = Duration::from_secs(5);
/// How often it looks meanwhile.
const LOCK_LOOK: Duration = Duration::from_millis(20);

/// Keeps two programs from working on one queue; given up when dropped, or when the process ends however it may.
pub struct SpoolLock(#[allow(dead_code, reason = "held, not read")] Flock<File>);

/// Takes the queue for this process alone; waits for a process that is ending. `None` when another one has the queue and
/// keeps it. Blocks.
///
/// # Errors
/// When the lock file can't be made.
pub fn lock(spool: &Path) -> Result<Option<SpoolLock>> {
    let until = Instant::now() + LOCK_PATIENCE;
    let mut told = false;
    loop {
        let lock = try_lock(spool)?;
        if lock.is_some() || Instant::now() > until {
            return Ok(lock);
        }
        if !std::mem::replace(&mut told, true) {
            // There may be no log yet. Nothing is lost if nobody reads it.
            let text = format!("smtprelay: another smtprelay works on {}, waiting for its end\n", spool.display());
            let _ = std::io::stderr().lock().write_all(text.as_bytes());
        }
        std::thread::sleep(LOCK_LOOK);
    }
}

/// Takes the queue for this process alone. `None` when another one has it.
///
/// # Errors
/// When the lock file can't be made.
pub fn try_lock(spool: &Path) -> Result<Option<SpoolLock>> {
    let path = spool.join("lock");
    let mut options = OpenOptions::new();
    // The directory may belong to somebody who is not root, who may be: no links are followed.
    options.create(true).truncate(false).write(true).mode(0o600).custom_flags(nix::libc::O_NOFOLLOW);
    let file = options.open(&path);
    let file = file.with_context(|| format!("can't make {}", path.display()))?;
    Ok(Flock::lock(file, FlockArg::LockExclusiveNonblock).ok().map(SpoolLock))
}
