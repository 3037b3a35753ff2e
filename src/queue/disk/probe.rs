// SPDX-License-Identifier: Apache-2.0
//! The disk of tests: records all operations, fails on request, and can use a wrong order.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use super::{Disk, Handle};
use crate::system::lock;

/// One change of the disk. Files have numbers, since their names change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Op {
    MakeDirectory(PathBuf),
    Create(PathBuf, usize),
    Write(usize, u64, Vec<u8>),
    SetLength(usize, u64),
    SyncFile(usize),
    SyncFileSystem(PathBuf),
    Rename(PathBuf, PathBuf),
    Remove(PathBuf),
    SyncDirectory(PathBuf),
}

/// A wrong order, to check that tests notice it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Broken {
    /// Files get their final name before their content is synced.
    RenameFirst,
    /// The content of files is never synced.
    NoFileSync,
    /// Names are never synced.
    NoDirectorySync,
    /// Files are not synced again after they were renamed.
    NoSecondSync,
}

/// How new files get their names to last on this disk.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Names {
    /// They are renamed, as where nothing is known of the file system, and on vfat.
    #[default]
    Renamed,
    /// Small ones are created under their names; syncing the directory makes these last.
    WithDirectory,
    /// The same, and syncing the file makes its name last.
    WithFile,
}

/// Which operation fails, and how.
#[derive(Debug, Clone, Copy)]
pub struct Fault {
    /// How many operations succeed before.
    pub after: usize,
    /// `ENOSPC` or `EIO`.
    pub error: nix::errno::Errno,
    /// Whether a write takes half of its bytes before it fails.
    pub part: bool,
    /// Whether everything fails from then on, as if the program had been killed.
    pub for_good: bool,
}

#[derive(Default)]
struct Inner {
    ops: Vec<Op>,
    files: usize,
    names: BTreeMap<PathBuf, usize>,
    fault: Option<Fault>,
    met: bool,
    broken: Option<Broken>,
    names_last: Names,
    /// How many operations are done before one is blocked.
    gate: Option<usize>,
    held: bool,
    /// Syncs that a wrong order delays until after the rename.
    late: Vec<Op>,
    /// Files that were renamed since the names were synced.
    named: Vec<usize>,
    /// Names that were removed. Two threads may try the same one; the real disk refuses the second.
    removed: BTreeSet<PathBuf>,
}

/// Monitors one disk.
#[derive(Default)]
pub struct Probe(Mutex<Inner>, Condvar);

/// A monitored file: its number.
pub(in crate::queue) struct Watched(Arc<Probe>, usize);

impl Probe {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        lock(&self.0)
    }

    /// Called before each operation; waits here if it is to be blocked.
    fn enter(&self) -> MutexGuard<'_, Inner> {
        let mut inner = self.inner();
        match inner.gate {
            Some(0) => inner.held = true,
            Some(more) => inner.gate = Some(more - 1),
            None => {}
        }
        while inner.held {
            inner = self.1.wait(inner).unwrap_or_else(PoisonError::into_inner);
        }
        inner
    }

    /// Blocks the operation after this number of others.
    pub fn hold(&self, after: usize) {
        let mut inner = self.inner();
        (inner.gate, inner.held) = (Some(after), false);
    }

    /// Whether an operation is blocked.
    pub fn holds(&self) -> bool {
        self.inner().held
    }

    /// Unblocks everything.
    pub fn release(&self) {
        let mut inner = self.inner();
        (inner.gate, inner.held) = (None, false);
        self.1.notify_all();
    }

    /// A disk with this wrong order.
    pub fn break_order(&self, broken: Broken) {
        self.inner().broken = Some(broken);
    }

    /// A disk of this kind.
    pub fn set_names(&self, names: Names) {
        self.inner().names_last = names;
    }

    /// Which kind it is.
    pub(super) fn names(&self) -> Names {
        self.inner().names_last
    }

    /// Lets an operation fail, counting from now.
    pub fn fail(&self, fault: Fault) {
        let mut inner = self.inner();
        (inner.fault, inner.met) = (Some(fault), false);
    }

    /// Ends the faults; returns whether one occurred.
    pub fn heal(&self) -> bool {
        let mut inner = self.inner();
        inner.fault = None;
        inner.met
    }

    /// How many operations there were.
    pub fn count(&self) -> usize {
        self.inner().ops.len()
    }

    /// All operations so far.
    pub fn ops(&self) -> Vec<Op> {
        self.inner().ops.clone()
    }

    /// The number of a file that may have been there before.
    pub(super) fn watch(self: &Arc<Self>, path: &Path) -> Watched {
        let mut inner = self.inner();
        let number = inner.number(path);
        Watched(Arc::clone(self), number)
    }

    /// The number of the file at `path`, assigned now if it has none.
    pub fn number(&self, path: &Path) -> usize {
        self.inner().number(path)
    }
}

impl Inner {
    fn number(&mut self, path: &Path) -> usize {
        if let Some(number) = self.names.get(path) {
            return *number;
        }
        self.files += 1;
        self.names.insert(path.into(), self.files);
        self.files
    }

    /// Whether this operation fails now.
    fn fault(&mut self) -> Option<Fault> {
        let fault = self.fault.as_mut()?;
        if fault.after > 0 {
            fault.after -= 1;
            return None;
        }
        self.met = true;
        let met = *fault;
        // A truncated write is truncated once.
        fault.part = false;
        if !met.for_good {
            self.fault = None;
        }
        Some(met)
    }

    /// Records an operation; false when it is omitted.
    fn note(&mut self, op: Op) -> bool {
        match (&op, self.broken) {
            (Op::SyncFile(_) | Op::SyncFileSystem(_), Some(Broken::NoFileSync)) => return false,
            (Op::SyncDirectory(_) | Op::SyncFileSystem(_), Some(Broken::NoDirectorySync)) => return false,
            (Op::SyncFile(file), Some(Broken::NoSecondSync)) if self.named.contains(file) => return false,
            (Op::SyncFileSystem(_), Some(Broken::NoSecondSync)) if !self.named.is_empty() => return false,
            (Op::SyncFile(_) | Op::SyncFileSystem(_), Some(Broken::RenameFirst)) => {
                self.late.push(op);
                return true;
            }
            (Op::SyncDirectory(_), _) => {
                let late = std::mem::take(&mut self.late);
                self.ops.extend(late);
                self.named.clear();
            }
            (Op::Create(path, number), _) => {
                self.removed.remove(path);
                self.names.insert(path.clone(), *number);
            }
            (Op::Rename(from, to), _) => {
                let number = self.number(from);
                self.names.remove(from);
                self.removed.remove(to);
                self.names.insert(to.clone(), number);
                self.named.push(number);
            }
            (Op::Remove(path), _) => {
                self.names.remove(path);
                if !self.removed.insert(path.clone()) {
                    return true;
                }
            }
            _ => {}
        }
        self.ops.push(op);
        true
    }
}

impl Disk {
    /// A monitored disk.
    pub(in crate::queue) fn watched() -> (Self, Arc<Probe>) {
        let probe = Arc::new(Probe::default());
        (Self { probe: Some(Arc::clone(&probe)), ..Self::default() }, probe)
    }

    /// Records an operation, or fails instead. False when it is to be omitted.
    pub(super) fn before(&self, op: impl FnOnce() -> Op) -> io::Result<bool> {
        let Some(probe) = &self.probe else { return Ok(true) };
        let mut inner = probe.enter();
        match inner.fault() {
            Some(fault) => Err(fault.error.into()),
            None => Ok(inner.note(op())),
        }
    }

    pub(super) fn before_create(&self, path: &Path) -> io::Result<()> {
        let Some(probe) = &self.probe else { return Ok(()) };
        let mut inner = probe.enter();
        if let Some(fault) = inner.fault() {
            return Err(fault.error.into());
        }
        if path.exists() {
            // The real disk refuses it.
            return Ok(());
        }
        inner.files += 1;
        let number = inner.files;
        inner.note(Op::Create(path.into(), number));
        Ok(())
    }
}

impl Handle {
    pub(super) fn before(&self, op: impl FnOnce(usize) -> Op) -> io::Result<bool> {
        let Some(Watched(probe, number)) = &self.watched else { return Ok(true) };
        let mut inner = probe.enter();
        match inner.fault() {
            Some(fault) => Err(fault.error.into()),
            None => Ok(inner.note(op(*number))),
        }
    }

    /// As [`Self::before`] for the sync of a new file. Whether its name lasts then; `None` on the real disk.
    pub(super) fn before_sync_new(&self) -> io::Result<Option<bool>> {
        let Some(Watched(probe, _)) = &self.watched else { return Ok(None) };
        self.before(Op::SyncFile)?;
        Ok(Some(probe.names() == Names::WithFile))
    }

    /// How much of `bytes` is to be written, and the result.
    pub(super) fn before_write<'a>(&self, offset: u64, bytes: &'a [u8]) -> io::Result<(&'a [u8], io::Result<()>)> {
        let Some(Watched(probe, number)) = &self.watched else { return Ok((bytes, Ok(()))) };
        let mut inner = probe.enter();
        let (bytes, then) = match inner.fault() {
            Some(fault) if fault.part => (&bytes[..bytes.len() / 2], Err(fault.error.into())),
            Some(fault) => return Err(fault.error.into()),
            None => (bytes, Ok(())),
        };
        inner.note(Op::Write(*number, offset, bytes.to_vec()));
        Ok((bytes, then))
    }
}
