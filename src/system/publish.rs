// SPDX-License-Identifier: Apache-2.0
//! How a file gets its final name so that it survives a power cut: the one sequence in which the program does that.
//!
//! 1. The directory is synced, unless the file system is known not to need it ([`is_sound`], as for 4.). Linux's vfat writes a
//!    file's first cluster into the directory before it writes the table of clusters; syncing the directory, which does
//!    not know of that cluster yet, writes the table first. Without this step a power cut in the next one leaves an entry
//!    whose cluster is free, and the kernel makes the file system read-only as soon as that file is removed.
//! 2. The content is synced, so that the name never refers to incomplete content.
//! 3. The file is renamed.
//! 4. The file is synced again, with the same exception. On Linux's vfat a rename creates a new directory entry of size
//!    0, and syncing the directory does not write the size, which belongs to the inode: without this step the file is
//!    empty after a power cut.
//! 5. The directory is synced, with what the kernel has written of its own accord ([`for_good`]). Only now may anything
//!    rely on the file, for example remove what it was copied from.
//!
//! What the file replaces, or was copied from, stays open until the directory is synced ([`Blocks`]).
//!
//! A new file that is written by one call, into one page, needs none of this on a sound file system: it is created under its
//! final name and synced. Linux's ext4 writes the creation of a file and its name in one transaction of the journal. UBIFS,
//! JFFS2 and F2FS write a log, in which the name comes before the content or is recovered from the file; Btrfs and XFS log the
//! name with the file. After a power cut before that sync has returned the file is complete, or empty, or not there.
//!
//! `docs/developer/spool.md` says what this costs.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard};

use super::lock;
use nix::libc::{dev_t, fsid_t};
use nix::sys::stat::{fstat, major, minor, stat};
use nix::sys::statfs::{Statfs, fstatfs, statfs};

/// The number of JFFS2 in `man 2 statfs`.
pub const JFFS2: u64 = 0x72b6;
/// That of overlayfs.
pub const OVERLAY: u64 = 0x794c_7630;
/// Sound file systems, by these numbers: tmpfs, ramfs, JFFS2, UBIFS, F2FS, Btrfs, XFS, and overlayfs, which
/// only goes on top of one of these or of [`EXT`].
const SOUND: [u64; 8] = [0x0102_1994, 0x8584_58f6, JFFS2, 0x2405_1905, 0xf2f5_2010, 0x9123_683e, 0x5846_5342, OVERLAY];
/// ext2, ext3 and ext4: sound with a journal.
const EXT: u64 = 0xef53;

/// A step of the sequence above.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PublishStep {
    /// The table of clusters is written, by a sync of the directory.
    SyncTable,
    /// The content is synced.
    SyncFile,
    /// The file gets its name.
    Rename,
    /// The file is synced under its name.
    SyncNamed,
    /// The directory is synced.
    SyncDirectory,
}

/// Performs all steps in their order, until one fails.
///
/// # Errors
/// The error of the first step that failed.
pub fn in_order<E>(mut step: impl FnMut(PublishStep) -> Result<(), E>) -> Result<(), E> {
    [
        PublishStep::SyncTable,
        PublishStep::SyncFile,
        PublishStep::Rename,
        PublishStep::SyncNamed,
        PublishStep::SyncDirectory,
    ]
    .into_iter()
    .try_for_each(&mut step)
}

/// Publishes the open file `from` as `to`, in the same directory. `after` is called after each step, and can abort
/// there. Blocks.
///
/// # Errors
/// If a step fails. Before [`PublishStep::Rename`] the old file is kept; after it the new file is there, but may not survive a
/// power cut.
pub fn file(
    file: &File,
    from: &Path,
    to: &Path,
    mut after: impl FnMut(PublishStep) -> io::Result<()>,
) -> io::Result<()> {
    let _replaced = Blocks::of(to);
    in_order(|step| {
        match step {
            PublishStep::SyncTable | PublishStep::SyncNamed if is_sound(file) => {}
            PublishStep::SyncFile | PublishStep::SyncNamed => alone(file, File::sync_all)?,
            PublishStep::Rename => fs::rename(from, to)?,
            PublishStep::SyncTable => alone(&File::open(parent(to))?, File::sync_all)?,
            PublishStep::SyncDirectory => for_good(&File::open(parent(to))?, File::sync_all)?,
        }
        after(step)
    })
}

/// The blocks of a file that is being removed or replaced: they are not freed while this exists.
///
/// Linux's vfat frees them, in its table of clusters, when no process has the file open any more, and any sync writes
/// the table. If the power fails before the directory is written as well, the file is back after the next mount, but
/// without its clusters: reading or removing it is an error that makes the kernel mount the file system read-only. So
/// this has to exist until the directory is synced. On file systems that do not need it ([`is_sound`]) it is empty.
#[derive(Debug)]
pub struct Blocks(Option<File>);

impl Blocks {
    /// Those of the file at `path`, if it can be opened.
    pub fn of(path: &Path) -> Self {
        let opened =
            OpenOptions::new().read(true).custom_flags(nix::libc::O_NOFOLLOW | nix::libc::O_NONBLOCK).open(path);
        Self(opened.ok().filter(|file| !is_sound(file)))
    }

    /// Whether the directory has to be synced before they are freed.
    pub fn wait(&self) -> bool {
        self.0.is_some()
    }
}

/// Syncs an open file or directory with `sync` while no other sync of this program runs, unless its file system does
/// not need it ([`is_sound`]). On Linux's vfat all files share the buffers of one table of clusters, and
/// `sync_mapping_buffers` takes dirty buffers off their list before it has written them: a sync that starts meanwhile
/// does not see them, and ends before they are on the disk.
///
/// # Errors
/// Those of `sync`.
pub fn alone<F: AsFd>(file: &F, sync: impl FnOnce(&F) -> io::Result<()>) -> io::Result<()> {
    let _alone = alone_at(file);
    sync(file)
}

/// As [`alone`], for the sync on which a promise depends: on a file system that may need it, everything else is written
/// first. Linux's vfat keeps size and first cluster of a file in the directory. When the kernel writes an inode of its own
/// accord, it changes the buffer of the directory without adding it to the list of any file (`__fat_write_inode`). A sync of
/// the file finds the inode clean then, and a sync of the directory need not know of the buffer: both succeed, and a power
/// cut makes the file empty. Writing the whole file system includes that buffer; the sync after it empties the cache of
/// the disk, which `syncfs` does not do there.
///
/// # Errors
/// Those of `sync` and of `syncfs`.
pub fn for_good<F: AsFd>(file: &F, sync: impl FnOnce(&F) -> io::Result<()>) -> io::Result<()> {
    let alone = alone_at(file);
    if alone.is_some() {
        nix::unistd::syncfs(file)?;
    }
    sync(file)
}

/// Keeps other syncs of this program away from a file system that may need it; `None` on the others.
fn alone_at(file: &impl AsFd) -> Option<MutexGuard<'static, ()>> {
    static SYNCS: Mutex<()> = Mutex::new(());
    (!is_sound(file)).then(|| lock(&SYNCS))
}

/// Whether a sync of a file, or of a directory, on the file system of an open file is sufficient by itself, so that the steps
/// for others can be skipped: there they would reduce the number of messages per second by a third or more. False if unknown.
///
/// Besides vfat, ext2 and ext4 without a journal are not sound: a sync does not write the maps of the inodes and blocks in use,
/// so after a power cut the kernel gives those of an accepted message to the next file. With a sync of the whole file system,
/// these maps are written ([`for_good`]). OpenWrt makes its ext4 images without a journal unless told otherwise.
pub fn is_sound(file: &impl AsFd) -> bool {
    let device = || fstat(file).map(|found| found.st_dev);
    fstatfs(file).is_ok_and(|found| judge(&found, device))
}

/// As [`is_sound`], for the file system that a path is on.
pub fn is_sound_at(path: &Path) -> bool {
    statfs(path).is_ok_and(|found| judge(&found, || stat(path).map(|found| found.st_dev)))
}

/// Whether a path is on ext2, or on ext4 without a journal.
pub fn lacks_journal(path: &Path) -> bool {
    statfs(path).is_ok_and(|found| file_system_number(&found) == EXT) && !is_sound_at(path)
}

/// The number of a file system in `man 2 statfs`.
pub fn file_system_number(found: &Statfs) -> u64 {
    u64::try_from(found.filesystem_type().0).unwrap_or_default()
}

/// `device` is only asked where that matters.
fn judge(found: &Statfs, device: impl FnOnce() -> nix::Result<dev_t>) -> bool {
    /// The file system that was judged last: nearly always the one of the queue.
    static LAST: Mutex<Option<(fsid_t, bool)>> = Mutex::new(None);
    let number = file_system_number(found);
    if number != EXT {
        return SOUND.contains(&number);
    }
    let id = found.filesystem_id();
    if let Some((_, journal)) = lock(&LAST).filter(|(last, _)| *last == id) {
        return journal;
    }
    let journal = device().is_ok_and(|device| has_journal(&name_of(device).unwrap_or_default(), Path::new(JOURNALS)));
    *lock(&LAST) = Some((id, journal));
    journal
}

/// A folder for each journal that is in use, named like the device, a hyphen, and the inode of the journal.
const JOURNALS: &str = "/proc/fs/jbd2";

/// Whether an ext4 file system on the device of this name has a journal.
fn has_journal(name: &str, journals: &Path) -> bool {
    let of_name = |entry: io::Result<fs::DirEntry>| {
        let entry = entry.map(|entry| entry.file_name()).unwrap_or_default();
        entry.to_str().and_then(|entry| entry.rsplit_once('-')).is_some_and(|(device, _)| device == name)
    };
    fs::read_dir(journals).is_ok_and(|mut all| all.any(of_name))
}

/// The kernel's name of a block device.
fn name_of(device: dev_t) -> Option<String> {
    let number = |text: Option<&str>| text?.parse::<u64>().ok();
    let all = fs::read_to_string("/proc/partitions").ok()?;
    all.lines().find_map(|line| {
        let mut words = line.split_whitespace();
        let found = (number(words.next())?, number(words.next())?);
        (found == (major(device), minor(device))).then(|| words.nth(1).map(str::to_string))?
    })
}

/// Makes `bytes` the content of the file at `path`, with this mode: at each moment the old or the new content is there,
/// complete. Symbolic links are not followed. Blocks.
///
/// # Errors
/// If it cannot be written; the temporary file is removed then, if possible.
pub fn replace(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let (opened, new) = create(path, mode)?;
    let mut opened = opened;
    opened.write_all(bytes).and_then(|()| file(&opened, &new, path, |_| Ok(()))).inspect_err(|_| {
        let _ = fs::remove_file(&new);
    })
}

/// Creates the temporary file from which `path` is going to be published; returns it with its path. Leftovers of an
/// earlier run are removed.
///
/// # Errors
/// If it cannot be created.
pub fn create(path: &Path, mode: u32) -> io::Result<(File, PathBuf)> {
    let mut name = OsString::from(path);
    name.push(".new");
    let new = PathBuf::from(name);
    match fs::remove_file(&new) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&new)?;
    Ok((file, new))
}

fn parent(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::Permissions;
    use std::os::unix::fs::{PermissionsExt, symlink};

    #[test]
    fn a_file_is_synced_before_and_after_it_gets_its_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        let (mut opened, new) = create(&path, 0o600).unwrap();
        opened.write_all(b"x").unwrap();
        let mut steps = Vec::new();
        file(&opened, &new, &path, |step| {
            steps.push((step, path.exists()));
            Ok(())
        })
        .unwrap();
        let before = [(PublishStep::SyncTable, false), (PublishStep::SyncFile, false)];
        let after = [PublishStep::Rename, PublishStep::SyncNamed, PublishStep::SyncDirectory];
        assert_eq!((&steps[..2], steps.len()), (&before[..], 5));
        assert_eq!(steps[2..].iter().map(|(step, _)| *step).collect::<Vec<_>>(), after);
    }

    #[test]
    fn what_is_not_known_to_keep_sizes_does_not() {
        let dir = tempfile::tempdir_in("/dev/shm").unwrap();
        assert!(is_sound(&File::open(dir.path()).unwrap()));
        assert!(!is_sound(&File::open("/proc/self/stat").unwrap()));
    }

    #[test]
    fn a_file_system_is_judged_by_its_number() {
        let dir = tempfile::tempdir_in("/dev/shm").unwrap();
        assert!(is_sound_at(dir.path()) && !is_sound_at(Path::new("/proc")) && !is_sound_at(&dir.path().join("no")));
        // This machine's disk, whatever it is: asked twice, by path and by file, the answer is the same.
        let here = is_sound_at(Path::new("."));
        assert_eq!((is_sound_at(Path::new(".")), is_sound(&File::open(".").unwrap())), (here, here));
    }

    #[test]
    fn ext4_is_sound_with_a_journal() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("sda1-8")).unwrap();
        fs::create_dir(dir.path().join("nvme0n1p2-8")).unwrap();
        for (name, expected) in [("sda1", true), ("sda", false), ("nvme0n1p2", true), ("", false), ("sda1-8", false)] {
            assert_eq!(has_journal(name, dir.path()), expected, "{name}");
        }
        assert!(!has_journal("sda1", &dir.path().join("none")));
        assert_eq!(name_of(0), None);
        // Each device of this machine has the name that its numbers are listed with.
        for line in fs::read_to_string("/proc/partitions").unwrap().lines().skip(2) {
            let words: Vec<&str> = line.split_whitespace().collect();
            let device = nix::sys::stat::makedev(words[0].parse().unwrap(), words[1].parse().unwrap());
            assert_eq!(name_of(device).as_deref(), Some(words[3]));
        }
    }

    #[test]
    fn blocks_are_kept_only_where_that_is_needed() {
        let dir = tempfile::tempdir_in("/dev/shm").unwrap();
        let path = dir.path().join("a");
        assert!(!Blocks::of(&path).wait(), "there is no such file");
        fs::write(&path, "x").unwrap();
        assert!(!Blocks::of(&path).wait());
        assert!(Blocks::of(Path::new("/proc/self/stat")).wait());
    }

    #[test]
    fn syncs_that_need_care_come_one_after_the_other() {
        let file = File::open("/proc/self/stat").unwrap();
        let at_it = std::sync::atomic::AtomicUsize::new(0);
        let sync = |_: &File| {
            assert_eq!(at_it.fetch_add(1, std::sync::atomic::Ordering::SeqCst), 0);
            std::thread::yield_now();
            at_it.fetch_sub(1, std::sync::atomic::Ordering::SeqCst);
            Ok(())
        };
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| (0..200).for_each(|_| alone(&file, sync).unwrap()));
            }
        });
    }

    #[test]
    fn a_step_that_fails_is_the_last_one() {
        let mut seen = Vec::new();
        let ended = in_order(|step| {
            seen.push(step);
            if step == PublishStep::SyncNamed { Err("no") } else { Ok(()) }
        });
        assert_eq!((ended, seen.len()), (Err("no"), 4));
    }

    #[test]
    fn the_old_file_or_the_new_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        replace(&path, b"old", 0o600).unwrap();
        let mode = || fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(), 0o600);
        // One that others could read becomes private.
        fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        // What an interrupted run has left, or another user has put there, is replaced and not followed.
        let other = dir.path().join("other");
        fs::write(&other, "of another user").unwrap();
        symlink(&other, dir.path().join("a.new")).unwrap();
        replace(&path, b"new", 0o600).unwrap();
        assert_eq!((mode(), fs::read(&path).unwrap()), (0o600, b"new".to_vec()));
        assert_eq!(fs::read(&other).unwrap(), b"of another user");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
        // It cannot be written: nothing is left of it, and the old one stays.
        let folder = dir.path().join("folder");
        fs::create_dir_all(folder.join("x")).unwrap();
        assert!(replace(&folder, b"x", 0o600).is_err());
        assert!(!dir.path().join("folder.new").exists());
    }
}
