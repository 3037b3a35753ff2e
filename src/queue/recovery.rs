//! What lies in the directories: after a crash for the program, at any time for people.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use super::record::{Meta, State};
use super::spool::{Entry, Place, Spool, SpoolError, Usage};
use super::stored::inspect;
use crate::config::Relay;
use crate::report::Event;

/// A message as `smtprelay queue` lists it: its name, and its envelope, state and size if they can be read.
pub type Listed = (String, Result<(Meta, State, u64), SpoolError>);

impl Spool {
    /// Reads what an earlier run left: complete messages come back, leavings of an interrupted reception go, damaged
    /// files are set aside. Never a reason not to start.
    pub fn recover(&self) -> Vec<Entry> {
        let mut found: BTreeMap<String, Entry> = BTreeMap::new();
        let safe = self.safe.iter().map(|directory| (Place::Safe, directory));
        for (place, directory) in safe.chain([(Place::Spool, &self.spool)]) {
            let files = match files_of(&directory.queue) {
                Ok(files) => files,
                Err(error) => {
                    let file = directory.queue.display().to_string();
                    Event::SetAside { file, reason: format!("can't list the queue: {error}") }.log();
                    continue;
                }
            };
            for (name, path) in files {
                if name.starts_with('.') && name.ends_with(".tmp") {
                    let _ = fs::remove_file(&path);
                } else if let Some(id) = name.strip_suffix(".msg") {
                    if found.contains_key(id) {
                        // A crash came between the copy to safety and the removal of the original.
                        let _ = fs::remove_file(&path);
                        continue;
                    }
                    match inspect(&path, id) {
                        Ok((meta, _, size)) => {
                            found.insert(id.into(), Entry { id: id.into(), place, arrived: meta.arrived, size });
                        }
                        Err(SpoolError::Damaged(reason)) => set_aside(&path, &reason),
                        // The file may be whole and the disk in trouble: it stays, for the next start.
                        Err(error) => Event::SpoolTrouble { id: id.into(), reason: error.to_string() }.log(),
                    }
                }
            }
        }
        *self.usage() = Usage { bytes: found.values().map(|e| e.size).sum(), messages: found.len() };
        found.into_values().collect()
    }

    /// What lies in the directories of `relay`, for people; changes nothing and needs no running program.
    ///
    /// # Errors
    /// When a directory can't be read; one that does not exist is empty.
    pub fn list(relay: &Relay) -> Result<Vec<Listed>, String> {
        let mut seen: BTreeMap<String, _> = BTreeMap::new();
        for path in relay.safe_spool.iter().chain([&relay.spool]) {
            let queue = path.join("queue");
            let files = match files_of(&queue) {
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                files => files.map_err(|e| format!("can't read the queue in {}: {e}", queue.display()))?,
            };
            for (name, path) in files {
                if let Some(id) = name.strip_suffix(".msg")
                    && !seen.contains_key(id)
                {
                    match inspect(&path, id) {
                        // It was delivered while we looked.
                        Err(SpoolError::Io(error)) if error.kind() == ErrorKind::NotFound => {}
                        result => {
                            seen.insert(id.to_string(), result);
                        }
                    }
                }
            }
        }
        Ok(seen.into_iter().collect())
    }
}

/// Names and paths of a directory's files, in the order of their names.
pub(super) fn files_of(queue: &Path) -> io::Result<Vec<(String, PathBuf)>> {
    let mut files: Vec<(String, PathBuf)> = fs::read_dir(queue)?
        .filter_map(Result::ok)
        .filter_map(|entry| Some((entry.file_name().into_string().ok()?, entry.path())))
        .collect();
    files.sort();
    Ok(files)
}

/// Renames a file that can't be used, for its owner to look at.
pub(super) fn set_aside(path: &Path, reason: &str) {
    let reason = match fs::rename(path, path.with_extension("bad")) {
        Ok(()) => format!("{reason}; kept as {}", path.with_extension("bad").display()),
        Err(error) => format!("{reason}; can't rename it: {error}"),
    };
    Event::SetAside { file: path.display().to_string(), reason }.log();
}
