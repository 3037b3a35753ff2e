// SPDX-License-Identifier: Apache-2.0
//! A small disk that can be filled to the last page.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use nix::sys::statvfs::statvfs;
use tempfile::TempDir;

/// What the file system gives out at least, in bytes.
const PAGE: usize = 4096;

/// A file system in memory, mounted where only root may; gone with the value.
pub struct SmallDisk {
    dir: TempDir,
}

impl SmallDisk {
    /// A disk of so many kB. None, with the reason printed, for who may not mount.
    pub fn mount(kilobytes: usize) -> Option<SmallDisk> {
        let dir = tempfile::Builder::new().prefix("smtprelay-disk-").tempdir().expect("temp folder for a disk");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={kilobytes}k,mode=1777"), "tmpfs"]).arg(dir.path());
        if !mount.output().is_ok_and(|output| output.status.success()) {
            println!("skipped: only root can mount a small disk");
            return None;
        }
        Some(SmallDisk { dir })
    }

    /// The file that fills it. It does not stay open: that would keep the disk from being made one that can only be read.
    fn filler(&self) -> File {
        let opened = OpenOptions::new().create(true).append(true).open(self.dir.path().join("filler"));
        opened.expect("a file on the small disk")
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Waits until the room of removed files is free again: a process that still has one open keeps it.
    pub async fn freed(&self) {
        const SOON: Duration = Duration::from_secs(60);
        let start = Instant::now();
        loop {
            let now = statvfs(self.path()).expect("ask the small disk");
            let used = (now.blocks() - now.blocks_free()) * now.fragment_size();
            let named = room_of_files(self.path());
            if used <= named {
                return;
            }
            assert!(start.elapsed() < SOON, "{used} bytes are in use, and files have only {named}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Fills it up, but for so many kB, a multiple of 4.
    pub fn leave(&self, kilobytes: usize) {
        let mut filler = self.filler();
        filler.set_len(0).expect("empty the filler");
        let page = [0xff; PAGE];
        let mut pages = 0;
        loop {
            match filler.write(&page) {
                Ok(PAGE) => pages += 1,
                Err(error) if error.kind() == ErrorKind::StorageFull => break,
                other => panic!("fill the disk: {other:?}"),
            }
        }
        let left = (pages * PAGE).checked_sub(kilobytes * 1024).expect("a disk with so much room");
        filler.set_len(left as u64).expect("shorten the filler");
    }

    /// Makes it a disk that can only be read, as the kernel does after an error, or one that can be written again.
    pub fn read_only(&self, yes: bool) {
        let how = if yes { "remount,ro" } else { "remount,rw" };
        let done = Command::new("mount").args(["-o", how]).arg(self.path()).output().expect("start mount");
        assert!(done.status.success(), "mount -o {how}: {}", String::from_utf8_lossy(&done.stderr));
    }

    /// Takes back what [`SmallDisk::leave`] has filled.
    pub fn clear(&self) {
        self.filler().set_len(0).expect("empty the filler");
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.path()).status();
    }
}

/// Bytes that the files below a folder take on the disk. One that is removed meanwhile takes none.
fn room_of_files(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let room = |entry: std::fs::DirEntry| match entry.metadata() {
        Ok(found) if found.is_dir() => room_of_files(&entry.path()),
        Ok(found) => found.blocks() * 512,
        Err(_) => 0,
    };
    entries.map(room).sum()
}

/// The names of all files in the queue below this spool, temporary ones included, in order.
pub fn files(spool: &Path) -> Vec<String> {
    let folder: PathBuf = spool.join("queue");
    let entries = std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("read {}: {error}", folder.display()));
    let mut names: Vec<String> =
        entries.map(|entry| entry.expect("a file").file_name().to_string_lossy().into_owned()).collect();
    names.sort_unstable();
    names
}

/// Waits until so many files are in the queue: what came to nothing is removed behind the reply. Panics when nothing has
/// changed for a minute: how long a backlog takes is up to the machine.
pub async fn wait_for_files(spool: &Path, count: usize) {
    const STILL: Duration = Duration::from_secs(60);
    let mut last = (files(spool), Instant::now());
    while last.0.len() != count {
        tokio::time::sleep(Duration::from_millis(5)).await;
        let now = files(spool);
        if now != last.0 {
            last = (now, Instant::now());
        } else if last.1.elapsed() > STILL {
            panic!("there should be {count} files: {now:?}");
        }
    }
}
