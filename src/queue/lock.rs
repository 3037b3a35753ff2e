// SPDX-License-Identifier: Apache-2.0
//! One process for one queue.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::fcntl::{Flock, FlockArg};

/// How long a start waits for an earlier process to release the queue: one that was killed during a slow write to flash
/// keeps the lock for a moment after its end was seen.
const LOCK_PATIENCE: Duration = Duration::from_secs(5);
/// How often it checks meanwhile.
const LOCK_LOOK: Duration = Duration::from_millis(20);

/// Keeps two programs from using one queue; released when dropped, or when the process ends in any way.
pub struct SpoolLock(#[allow(dead_code, reason = "held, not read")] Flock<File>);

/// Locks the queue for this process alone; waits for a process that is ending. `None` when another one has it and
/// keeps it. Blocks.
///
/// # Errors
/// When the lock file cannot be created.
pub fn lock(spool: &Path) -> Result<Option<SpoolLock>> {
    let until = Instant::now() + LOCK_PATIENCE;
    let mut told = false;
    loop {
        let lock = try_lock(spool)?;
        if lock.is_some() || Instant::now() > until {
            return Ok(lock);
        }
        if !std::mem::replace(&mut told, true) {
            // There may be no log yet. If nobody reads this, nothing is lost.
            let text = format!("smtprelay: another smtprelay is using {}, waiting for it to exit\n", spool.display());
            let _ = std::io::stderr().lock().write_all(text.as_bytes());
        }
        std::thread::sleep(LOCK_LOOK);
    }
}

/// Locks the queue for this process alone. `None` when another one has it.
///
/// # Errors
/// When the lock file cannot be created.
pub fn try_lock(spool: &Path) -> Result<Option<SpoolLock>> {
    let path = spool.join("lock");
    let mut options = OpenOptions::new();
    // The directory may belong to a user other than root, and this process may be root: links are not followed.
    options.create(true).truncate(false).write(true).mode(0o600).custom_flags(nix::libc::O_NOFOLLOW);
    let file = options.open(&path);
    let file = file.with_context(|| format!("cannot create {}", path.display()))?;
    Ok(Flock::lock(file, FlockArg::LockExclusiveNonblock).ok().map(SpoolLock))
}
