// SPDX-License-Identifier: Apache-2.0
//! The only layer through which the directories of the queue are changed.
//!
//! Every create, write, sync, rename and remove goes through here, so that tests can record them, let any of them fail,
//! and replay what a power cut may leave of them. Reading does not. In the shipped program this is a thin layer over
//! the standard library. All functions block.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use jffs2::Flash;
use shared::SharedSyncs;

use crate::system::memory;
use crate::system::publish::{self, Blocks};

mod jffs2;
#[cfg(test)]
pub(super) mod probe;
mod shared;

/// Removed files that are kept open at a time.
const OPEN_FILES: usize = 64;

/// The disk that contains the queue.
#[derive(Clone, Default)]
pub(super) struct Disk {
    syncs: SharedSyncs,
    /// The bytes that are programmed for this directory are counted, if it is on JFFS2. That is found out when it is first
    /// used, since a start has to be quick.
    watched_directory: Option<PathBuf>,
    flash: Arc<OnceLock<Option<Arc<Flash>>>>,
    #[cfg(test)]
    pub(super) probe: Option<Arc<probe::Probe>>,
}

/// A file that is being written.
pub(super) struct Handle {
    file: File,
    flash: Option<Arc<Flash>>,
    #[cfg(test)]
    watched: Option<probe::Watched>,
}

impl Disk {
    /// From now on, the bytes that are programmed for this directory are counted, if it is on a flash with JFFS2.
    pub(super) fn watch_flash(&mut self, directory: &Path) {
        self.watched_directory = Some(directory.into());
    }

    /// Bytes programmed for the directory of [`Self::watch_flash`], about; `None` if they are not counted.
    pub(super) fn programmed(&self) -> Option<u64> {
        self.flash(self.watched_directory.as_ref()?).map(|flash| flash.programmed())
    }

    /// The flash on which this file is, if what is programmed is counted.
    fn flash_of(&self, path: &Path) -> Option<&Arc<Flash>> {
        let directory = self.watched_directory.as_ref()?;
        // Once it is known that there is none, no path has to be taken apart: that is done several times for each message.
        let may_be_there = self.flash.get().is_none_or(Option::is_some);
        if may_be_there && path.starts_with(directory) { self.flash(directory) } else { None }
    }

    fn flash(&self, directory: &Path) -> Option<&Arc<Flash>> {
        self.flash.get_or_init(|| Flash::of(directory).map(Arc::new)).as_ref()
    }

    /// Creates a directory and missing parent directories, accessible to all, as with mkdir; synced if `sync`, so
    /// that a power cut cannot remove it with everything in it.
    pub(super) fn make_directory(&self, path: &Path, mode: u32, sync: bool) -> io::Result<()> {
        let is_missing = |path: &&Path| !path.as_os_str().is_empty() && !path.is_dir();
        let missing: Vec<&Path> = path.ancestors().take_while(is_missing).collect();
        for next in missing.into_iter().rev() {
            #[cfg(test)]
            self.before(|| probe::Op::MakeDirectory(next.into()))?;
            DirBuilder::new().mode(if next == path { mode } else { 0o777 }).create(next)?;
            if let Some(parent) = next.parent().filter(|parent| sync && !parent.as_os_str().is_empty()) {
                self.sync_directory(parent)?;
            }
        }
        Ok(())
    }

    /// Creates a file that does not exist yet.
    pub(super) fn create(&self, path: &Path) -> io::Result<Handle> {
        #[cfg(test)]
        self.before_create(path)?;
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        self.flash_of(path).inspect(|flash| flash.created(path));
        Ok(self.handle(file, path))
    }

    /// Opens a file for appending.
    pub(super) fn append(&self, path: &Path) -> io::Result<Handle> {
        let file = OpenOptions::new().append(true).open(path)?;
        Ok(self.handle(file, path))
    }

    /// Opens a file for appending, creating it if it does not exist.
    pub(super) fn append_or_create(&self, path: &Path) -> io::Result<Handle> {
        match self.append(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.create(path)?;
                self.append(path)
            }
            opened => opened,
        }
    }

    fn handle(&self, file: File, path: &Path) -> Handle {
        Handle {
            file,
            flash: self.flash_of(path).cloned(),
            #[cfg(test)]
            watched: self.probe.as_ref().map(|probe| probe.watch(path)),
        }
    }

    /// Renames a file, atomically.
    pub(super) fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        #[cfg(test)]
        self.before(|| probe::Op::Rename(from.into(), to.into()))?;
        fs::rename(from, to)?;
        self.flash_of(from).inspect(|flash| flash.named(from));
        self.flash_of(to).inspect(|flash| flash.named(to));
        Ok(())
    }

    /// Removes a file. Its blocks are freed when the result is dropped: not before the directory is synced, if it is.
    pub(super) fn remove(&self, path: &Path) -> io::Result<Blocks> {
        #[cfg(test)]
        if path.exists() {
            self.before(|| probe::Op::Remove(path.into()))?;
        }
        let blocks = Blocks::of(path);
        fs::remove_file(path)?;
        self.flash_of(path).inspect(|flash| flash.named(path));
        Ok(blocks)
    }

    /// Removes a file of a directory whose file system is in memory.
    pub(super) fn forget(&self, path: &Path) -> io::Result<()> {
        #[cfg(test)]
        self.before(|| probe::Op::Remove(path.into()))?;
        fs::remove_file(path)
    }

    /// Whether nothing that is done in this directory waits for a disk.
    pub(super) fn is_in_memory(&self, directory: &Path) -> bool {
        #[cfg(test)]
        if self.probe.is_some() {
            // It is replayed as a disk.
            return false;
        }
        memory::is_in_memory(directory)
    }

    /// Removes a file that was never promised; the directory is synced only where its blocks must wait for this.
    pub(super) fn clear(&self, path: &Path) -> io::Result<()> {
        let blocks = self.remove(path)?;
        match path.parent().filter(|_| blocks.wait()) {
            Some(directory) => self.sync_directory(directory),
            None => Ok(()),
        }
    }

    /// Returns when the cluster table of Linux's vfat is on the disk, which has to be written before the file
    /// ([`publish`]).
    pub(super) fn sync_table(&self, directory: &Path) -> io::Result<()> {
        if publish::is_sound(&File::open(directory)?) {
            return Ok(());
        }
        self.sync_opened(directory, |directory| publish::alone(directory, File::sync_all))
    }

    /// Returns when the names in a directory are on the disk. Sessions that need it at the same time share it.
    pub(super) fn sync_directory(&self, path: &Path) -> io::Result<()> {
        let sync = || self.sync_opened(path, |directory| publish::for_good(directory, File::sync_all));
        self.syncs.run(path, sync)
    }

    fn sync_opened(&self, path: &Path, sync: fn(&File) -> io::Result<()>) -> io::Result<()> {
        #[cfg(test)]
        if !self.before(|| probe::Op::SyncDirectory(path.into()))? {
            return Ok(());
        }
        sync(&File::open(path)?)
    }

    /// Whether a small new file may be created under its final name in this directory, since a sync of the file makes its
    /// name last as well ([`publish`]).
    pub(super) fn takes_new_files(&self, directory: &Path) -> bool {
        #[cfg(test)]
        if let Some(probe) = &self.probe {
            return probe.is_sound();
        }
        publish::is_sound_at(directory)
    }

    /// As [`Handle::sync_named`] for all files in the directory `path`.
    pub(super) fn sync_all_named(&self, path: &Path) -> io::Result<()> {
        #[cfg(test)]
        if self.probe.is_some() {
            return self.sync_file_system(path);
        }
        if publish::is_sound(&File::open(path)?) { Ok(()) } else { self.sync_file_system(path) }
    }

    /// Returns when everything in the file system of `path` is on the disk: one long sync instead of hundreds of short
    /// ones. Linux reports failed writes here since 5.8 (`man 2 syncfs`).
    pub(super) fn sync_file_system(&self, path: &Path) -> io::Result<()> {
        #[cfg(test)]
        if !self.before(|| probe::Op::SyncFileSystem(path.into()))? {
            return Ok(());
        }
        publish::alone(&File::open(path)?, |directory| Ok(nix::unistd::syncfs(directory)?))
    }
}

/// Files that were removed from one directory and share its sync.
pub(super) struct Removed<'a> {
    disk: &'a Disk,
    directory: &'a Path,
    /// How many files were removed.
    pub(super) count: usize,
    blocks: Vec<Blocks>,
}

impl<'a> Removed<'a> {
    pub(super) fn from(disk: &'a Disk, directory: &'a Path) -> Self {
        Self { disk, directory, count: 0, blocks: Vec::new() }
    }

    /// Keeps the blocks of another file until the directory is synced, which it is at once if there are many.
    pub(super) fn add(&mut self, blocks: Blocks) {
        self.count += 1;
        self.blocks.extend(Some(blocks).filter(Blocks::wait));
        if self.blocks.len() >= OPEN_FILES {
            // Callers that rely on the removal call `sync`.
            let _ = self.disk.sync_directory(self.directory);
            self.blocks.clear();
        }
    }

    /// Returns when the directory is synced.
    pub(super) fn sync(self) -> io::Result<()> {
        self.disk.sync_directory(self.directory)
    }
}

impl Handle {
    /// Bytes of the file.
    pub(super) fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    /// Writes all of `bytes` at an offset.
    pub(super) fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        #[cfg(test)]
        let (bytes, then) = self.before_write(offset, bytes)?;
        self.file.write_all_at(bytes, offset)?;
        self.flash.iter().for_each(|flash| flash.wrote(offset, bytes));
        #[cfg(test)]
        then?;
        Ok(())
    }

    /// Writes all of `bytes` at the end; for files from [`Disk::append`].
    pub(super) fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        #[cfg(test)]
        let (bytes, then) = self.before_write(self.len()?, bytes)?;
        self.file.write_all(bytes)?;
        // Where in its page a record begins only matters for one that ends in the next.
        self.flash.iter().for_each(|flash| flash.wrote(0, bytes));
        #[cfg(test)]
        then?;
        Ok(())
    }

    /// Truncates the file.
    pub(super) fn set_len(&self, length: u64) -> io::Result<()> {
        #[cfg(test)]
        self.before(|file| probe::Op::SetLength(file, length))?;
        self.file.set_len(length)?;
        self.flash.iter().for_each(|flash| flash.truncated());
        Ok(())
    }

    /// Returns when the file is on the disk, under whichever name; a promise needs [`Disk::sync_directory`] after it.
    pub(super) fn sync_all(&self) -> io::Result<()> {
        #[cfg(test)]
        if !self.before(probe::Op::SyncFile)? {
            return Ok(());
        }
        publish::alone(&self.file, File::sync_all)
    }

    /// Returns when the file, which has just been renamed, is on the disk under its new name ([`publish`]).
    pub(super) fn sync_named(&self) -> io::Result<()> {
        #[cfg(test)]
        if self.watched.is_some() {
            // Tests replay it as on a file system that needs this.
            return self.sync_all();
        }
        if publish::is_sound(&self.file) { Ok(()) } else { self.sync_all() }
    }

    /// Returns when the content of the file is on the disk, its length included.
    pub(super) fn sync_data(&self) -> io::Result<()> {
        #[cfg(test)]
        if !self.before(probe::Op::SyncFile)? {
            return Ok(());
        }
        publish::for_good(&self.file, File::sync_data)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn what_lies_above_a_directory_is_for_everybody() {
        let place = tempfile::tempdir().unwrap();
        let own = place.path().join("var/spool/own");
        Disk::default().make_directory(&own, 0o711, true).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o005;
        assert_eq!((mode(own.parent().unwrap()), mode(&own)), (0o005, 0o001), "umask 022");
    }
}
