// SPDX-License-Identifier: Apache-2.0
//! Which process has the queue: the lock that keeps two programs from using it, and how a command finds a gateway that
//! holds a lock which is not where the settings say.

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context;
use nix::fcntl::{Flock, FlockArg};

use crate::config::DEFAULT_FILE;

/// Its name in the directory.
const NAME: &str = "lock";

/// How long a start waits for an earlier process to release the queue: one that was killed during a slow write to flash
/// keeps the lock for a moment after its end was seen.
const LOCK_PATIENCE: Duration = Duration::from_secs(5);
/// How often it checks meanwhile.
const LOCK_LOOK: Duration = Duration::from_millis(20);

/// Keeps two programs from using one queue; released when dropped, or when the process ends in any way.
pub struct SpoolLock(#[allow(dead_code, reason = "held, not read")] Flock<File>);

impl SpoolLock {
    /// Locks the queue for this process alone; waits for a process that is ending. `None` when another one has it and
    /// keeps it. Blocks.
    ///
    /// # Errors
    /// When the lock file cannot be created.
    pub fn take(spool: &Path) -> anyhow::Result<Option<Self>> {
        let until = Instant::now() + LOCK_PATIENCE;
        let mut told = false;
        loop {
            let lock = Self::try_take(spool)?;
            if lock.is_some() || Instant::now() > until {
                return Ok(lock);
            }
            if !std::mem::replace(&mut told, true) {
                // There may be no log yet. If nobody reads this, nothing is lost.
                let text =
                    format!("smtprelay: another smtprelay is using {}, waiting for it to exit\n", spool.display());
                let _ = std::io::stderr().lock().write_all(text.as_bytes());
            }
            std::thread::sleep(LOCK_LOOK);
        }
    }

    /// Locks the queue for this process alone. `None` when another one has it.
    ///
    /// # Errors
    /// When the lock file cannot be created.
    pub fn try_take(spool: &Path) -> anyhow::Result<Option<Self>> {
        let path = spool.join(NAME);
        let mut options = OpenOptions::new();
        // The directory may belong to a user other than root, and this process may be root: links are not followed.
        options.create(true).truncate(false).write(true).mode(0o600).custom_flags(nix::libc::O_NOFOLLOW);
        let file = options.open(&path);
        let file = file.with_context(|| format!("cannot create {}", path.display()))?;
        Ok(Flock::lock(file, FlockArg::LockExclusiveNonblock).ok().map(Self))
    }
}

/// All processes, by their directory in `/proc`, and the files that each has open. Only root sees those of others.
fn processes() -> impl Iterator<Item = (PathBuf, Vec<PathBuf>)> {
    let found = fs::read_dir("/proc").into_iter().flatten().flatten().map(|process| process.path());
    found.map(|process| {
        let open = fs::read_dir(process.join("fd")).into_iter().flatten().flatten();
        let open = open.filter_map(|open| fs::read_link(open.path()).ok()).collect();
        (process, open)
    })
}

/// What to say if a gateway still holds the lock of the queue in `spool` although its directory was removed: whatever
/// is put there now, it does not see.
pub fn deserted(spool: &Path) -> Option<String> {
    let gone = PathBuf::from(format!("{} (deleted)", spool.join(NAME).display()));
    let (process, _) = processes().find(|(_, open)| open.contains(&gone))?;
    Some(format!(
        "the gateway is running (process {}), but its directory {} was removed or replaced: mail cannot be accepted there; \
         service smtprelay restart recreates it",
        process.file_name()?.display(),
        spool.display()
    ))
}

/// The directory `spool` that a gateway with the settings in `file` has used since its start, whatever they say now.
pub fn in_use(file: &Path) -> Option<PathBuf> {
    let is_it = |process: &Path| {
        let line = fs::read(process.join("cmdline")).unwrap_or_default();
        let mut words = line.split(|byte| *byte == 0);
        let runs = words.any(|word| word == b"run");
        let named = words.skip_while(|word| !matches!(*word, b"--config" | b"-c")).nth(1);
        runs && named.map_or(Path::new(DEFAULT_FILE), |named| Path::new(OsStr::from_bytes(named))) == file
    };
    let (_, open) =
        processes().filter(|(process, _)| is_it(process)).find(|(_, open)| open.iter().any(|path| is_lock(path)))?;
    open.into_iter().find(|path| is_lock(path))?.parent().map(Path::to_path_buf)
}

fn is_lock(path: &Path) -> bool {
    path.file_name() == Some(OsStr::new(NAME))
}
