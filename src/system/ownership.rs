// SPDX-License-Identifier: Apache-2.0
//! Ownership of directories and their files: what root created, now or in an earlier version that always ran as root,
//! is given to the gateway's user.
//!
//! Changing owners as root in a directory where another user may write is a classic way to take over a system. So
//! nothing here uses a path twice: each file is opened without following links, examined, and changed through the open
//! descriptor. A file with more than one hard link is left alone, since it may be anything. A directory that contains
//! other things than the gateway's files keeps its owner.

use std::fs::{self, DirBuilder, DirEntry};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, open, openat};
use nix::sys::stat::{FileStat, Mode, SFlag, fchmod, fstat};
use nix::unistd::fchownat;

use super::privileges::Identity;

/// Maximum number of files examined: a full queue has a fifth of it.
const ENTRIES: usize = 100_000;
/// Maximum number of files in a directory of secrets.
const SECRETS: usize = 256;
/// Depth of nested directories: `spool`, and `queue` in it.
const DEPTH: u32 = 2;

/// What a directory contains that the gateway may take ownership of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DirectoryKind {
    /// `spool` or `safe_spool`.
    Queue,
    /// `secrets`: files only.
    Secrets,
}

impl DirectoryKind {
    /// Whether a file of this name is ours.
    fn knows(self, name: &str, is_directory: bool) -> bool {
        const FILES: [&str; 8] =
            ["lock", "owed", "history", ".history.tmp", "announced", "last_stop", "tls.crt", "tls.key"];
        match self {
            Self::Secrets => !is_directory,
            Self::Queue if is_directory => matches!(name, "queue" | "lost+found"),
            Self::Queue => {
                FILES.contains(&name)
                    || [".sock", ".new", ".token", ".key", ".probe"].iter().any(|end| name.ends_with(end))
            }
        }
    }
}

/// Creates the directory of secrets, if it is missing.
///
/// # Errors
/// From the file system, in words.
pub fn make_secrets(path: &Path) -> Result<(), String> {
    match DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
            Err(format!("cannot create the directory {}: {error}", path.display()))
        }
        _ => Ok(()),
    }
}

/// Gives the directory and the gateway's files in it to `owner`. Returns advice for the owner of the router; empty if
/// all is well.
pub fn take_over(path: &Path, kind: DirectoryKind, owner: &Identity) -> Vec<String> {
    take_over_around(path, kind, owner, &[])
}

/// As [`take_over`]; the directories `inside`, if they are in this one, belong there and are left as they are:
/// `/etc/smtprelay/spool` in `/etc/smtprelay`.
pub fn take_over_around(path: &Path, kind: DirectoryKind, owner: &Identity, inside: &[&Path]) -> Vec<String> {
    let left = if kind == DirectoryKind::Queue { ENTRIES } else { SECRETS };
    let inside = inside.iter().filter_map(|path| path.canonicalize().ok()).collect();
    let mut walk = Walk { owner, inside, left, advice: Vec::new() };
    if let Err(error) = walk.directory(path, kind) {
        let (path, name) = (path.display(), &owner.name);
        walk.advice.push(format!(
            "cannot change the owner of {path} to the user '{name}': {error}; on a file system without owners (vfat), mount it with uid={} and gid={}",
            owner.uid, owner.gid
        ));
    }
    walk.advice
}

/// What [`take_over_around`] would say about a directory that keeps its owner. Changes nothing.
pub fn keeps_owner(path: &Path, kind: DirectoryKind, owner: &Identity, inside: &[&Path]) -> Option<String> {
    let path = path.canonicalize().ok()?;
    let belongs = |entry: &DirEntry| inside.iter().any(|inside| inside.starts_with(entry.path()));
    let is_foreign = |entry: &DirEntry| {
        let is_directory = entry.file_type().is_ok_and(|kind| kind.is_dir());
        !(kind.knows(&entry.file_name().to_string_lossy(), is_directory) || is_directory && belongs(entry))
    };
    let foreign = fs::read_dir(&path).ok()?.take(ENTRIES).flatten().find(is_foreign)?;
    let is_owner = fs::metadata(&path).is_ok_and(|found| found.uid() == owner.uid.as_raw());
    (!is_owner).then(|| mixed(&path, &foreign.file_name().to_string_lossy(), owner))
}

fn mixed(path: &Path, foreign: &str, owner: &Identity) -> String {
    format!(
        "{} also contains other files ({foreign}), so its owner is not changed to the user '{}'; set the option to a separate directory",
        path.display(),
        owner.name
    )
}

struct Walk<'a> {
    owner: &'a Identity,
    inside: Vec<PathBuf>,
    left: usize,
    advice: Vec<String>,
}

const LOOK: OFlag = OFlag::O_PATH.union(OFlag::O_NOFOLLOW).union(OFlag::O_CLOEXEC);
const LIST: OFlag = OFlag::O_RDONLY.union(OFlag::O_DIRECTORY).union(OFlag::O_NOFOLLOW).union(OFlag::O_CLOEXEC);

/// The bits of a mode that are not the type of the file.
const PERMISSIONS: nix::libc::mode_t = 0o7777;

fn file_type(stat: &FileStat) -> SFlag {
    SFlag::from_bits_truncate(stat.st_mode & SFlag::S_IFMT.bits())
}

/// The names in a directory, without `.` and `..`.
fn names(directory: OwnedFd, limit: usize) -> nix::Result<Vec<std::ffi::CString>> {
    let mut names = Vec::new();
    for entry in Dir::from_fd(directory)?.iter() {
        let entry = entry?;
        let name = entry.file_name();
        if !matches!(name.to_bytes(), b"." | b"..") {
            names.push(name.to_owned());
        }
        if names.len() > limit {
            break;
        }
    }
    Ok(names)
}

impl Walk<'_> {
    fn directory(&mut self, path: &Path, kind: DirectoryKind) -> nix::Result<()> {
        // The name may be a link that root created; the directory's content may not be.
        let path = path.canonicalize().map_err(|error| Errno::from_raw(error.raw_os_error().unwrap_or(0)))?;
        let directory = open(&path, LIST, Mode::empty())?;
        let mut foreign = None;
        for name in names(openat(&directory, ".", LIST, Mode::empty())?, self.left)? {
            let Ok(opened) = openat(&directory, name.as_c_str(), LOOK, Mode::empty()) else { continue };
            let is_directory = file_type(&fstat(&opened)?) == SFlag::S_IFDIR;
            let text = name.to_string_lossy();
            let belongs = || is_directory && self.inside.iter().any(|inside| inside.starts_with(path.join(&*text)));
            if !kind.knows(&text, is_directory) && !belongs() {
                foreign = Some(text.into_owned());
            } else if text != "lost+found" && kind == DirectoryKind::Queue {
                self.entry(&directory, &name, &opened, 1)?;
            }
        }
        if let Some(foreign) = foreign {
            let stat = fstat(&directory)?;
            if stat.st_uid != self.owner.uid.as_raw() {
                self.advice.push(mixed(&path, &foreign, self.owner));
            }
            return Ok(());
        }
        if kind == DirectoryKind::Secrets {
            for name in names(openat(&directory, ".", LIST, Mode::empty())?, self.left)? {
                let Ok(opened) = openat(&directory, name.as_c_str(), LOOK, Mode::empty()) else { continue };
                self.entry(&directory, &name, &opened, DEPTH)?;
            }
        }
        let stat = fstat(&directory)?;
        // Not without need: JFFS2 writes an inode to the flash each time, and each reload comes here.
        if kind == DirectoryKind::Secrets && stat.st_mode & PERMISSIONS != Mode::S_IRWXU.bits() {
            fchmod(&directory, Mode::S_IRWXU)?;
        }
        self.chown(&directory, &stat)
    }

    /// One entry of a directory, and its content.
    fn entry(&mut self, parent: &OwnedFd, name: &std::ffi::CStr, opened: &OwnedFd, depth: u32) -> nix::Result<()> {
        let Some(left) = self.left.checked_sub(1) else { return Ok(()) };
        self.left = left;
        let stat = fstat(opened)?;
        match file_type(&stat) {
            SFlag::S_IFDIR if depth < DEPTH => {
                // Its owner first: from then on only root and the user can put anything in.
                self.chown(opened, &stat)?;
                let directory = openat(parent, name, LIST, Mode::empty())?;
                for name in names(openat(&directory, ".", LIST, Mode::empty())?, self.left)? {
                    let Ok(opened) = openat(&directory, name.as_c_str(), LOOK, Mode::empty()) else { continue };
                    self.entry(&directory, &name, &opened, depth + 1)?;
                }
                Ok(())
            }
            SFlag::S_IFREG if stat.st_nlink == 1 => self.chown(opened, &stat),
            // Links, devices, files with several hard links.
            _ => Ok(()),
        }
    }

    fn chown(&self, opened: &impl AsFd, stat: &FileStat) -> nix::Result<()> {
        let (uid, gid) = (self.owner.uid, self.owner.gid);
        if stat.st_uid == uid.as_raw() && stat.st_gid == gid.as_raw() {
            return Ok(());
        }
        fchownat(opened, "", Some(uid), Some(gid), AtFlags::AT_EMPTY_PATH)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use nix::unistd::{Gid, Uid};

    use super::*;

    /// A user that need not exist.
    fn owner() -> Option<Identity> {
        if !nix::unistd::geteuid().is_root() {
            println!("skipped: only root gives files away");
            return None;
        }
        Some(Identity { name: "relay".into(), uid: Uid::from_raw(4650), gid: Gid::from_raw(4651) })
    }

    fn owners(path: &Path) -> (u32, u32) {
        let file = fs::symlink_metadata(path).unwrap();
        (file.uid(), file.gid())
    }

    const OURS: (u32, u32) = (4650, 4651);
    const ROOT: (u32, u32) = (0, 0);

    /// A queue as an earlier version left it.
    fn queue(base: &Path) -> PathBuf {
        let spool = base.join("spool");
        fs::create_dir_all(spool.join("queue")).unwrap();
        for file in ["lock", "history", "tls.key", "queue/A.msg", "queue/.B.tmp", "queue/C.bad"] {
            fs::write(spool.join(file), file).unwrap();
        }
        spool
    }

    #[test]
    fn what_an_earlier_version_left_is_taken_over() {
        let Some(owner) = owner() else { return };
        let dir = tempfile::tempdir().unwrap();
        let spool = queue(dir.path());
        assert_eq!(take_over(&spool, DirectoryKind::Queue, &owner), Vec::<String>::new());
        for file in ["", "lock", "history", "tls.key", "queue", "queue/A.msg", "queue/.B.tmp", "queue/C.bad"] {
            assert_eq!(owners(&spool.join(file)), OURS, "{file}");
        }
        assert_eq!(owners(dir.path()), ROOT);
        // Through a symbolic link of root's own it is the same directory.
        let link = dir.path().join("link");
        symlink(&spool, &link).unwrap();
        assert_eq!(take_over(&link, DirectoryKind::Queue, &owner), Vec::<String>::new());
        assert_eq!(owners(&link), ROOT);
    }

    #[test]
    fn links_lead_nowhere() {
        let Some(owner) = owner() else { return };
        let dir = tempfile::tempdir().unwrap();
        let spool = queue(dir.path());
        let (file, folder) = (dir.path().join("shadow"), dir.path().join("etc"));
        fs::write(&file, "secret").unwrap();
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("passwd"), "").unwrap();
        symlink(&file, spool.join("queue/D.msg")).unwrap();
        symlink(&folder, spool.join("queue/sub")).unwrap();
        fs::hard_link(&file, spool.join("queue/E.msg")).unwrap();
        fs::hard_link(&file, spool.join("announced")).unwrap();
        take_over(&spool, DirectoryKind::Queue, &owner);
        for path in [&file, &folder, &folder.join("passwd"), &spool.join("queue/D.msg")] {
            assert_eq!(owners(path), ROOT, "{}", path.display());
        }
        assert_eq!(owners(&spool.join("queue/A.msg")), OURS);
        // The directory of the queue itself is a link.
        let other = dir.path().join("other");
        fs::create_dir(&other).unwrap();
        symlink(&folder, other.join("queue")).unwrap();
        take_over(&other, DirectoryKind::Queue, &owner);
        assert_eq!((owners(&folder), owners(&folder.join("passwd"))), (ROOT, ROOT));
    }

    #[test]
    fn directories_of_others_stay_theirs() {
        let Some(owner) = owner() else { return };
        let dir = tempfile::tempdir().unwrap();
        let spool = queue(dir.path());
        fs::write(spool.join("photo.jpg"), "").unwrap();
        let advice = take_over(&spool, DirectoryKind::Queue, &owner);
        assert!(advice.len() == 1 && advice[0].contains("photo.jpg"), "{advice:?}");
        assert_eq!((owners(&spool), owners(&spool.join("photo.jpg"))), (ROOT, ROOT));
        assert_eq!((owners(&spool.join("queue")), owners(&spool.join("lock"))), (OURS, OURS));
        // A directory of secrets has no subdirectories, so this is /etc or the like.
        let advice = take_over(&spool, DirectoryKind::Secrets, &owner);
        assert!(advice.len() == 1 && advice[0].contains("queue"), "{advice:?}");
        assert_eq!((owners(&spool), owners(&spool.join("photo.jpg"))), (ROOT, ROOT));
    }

    /// As the README has it: `safe_spool` is in the default directory of secrets.
    #[test]
    fn a_queue_may_be_in_the_directory_of_secrets() {
        let Some(owner) = owner() else { return };
        let dir = tempfile::tempdir().unwrap();
        let spool = queue(dir.path());
        fs::write(dir.path().join("m365.token"), "").unwrap();
        assert_eq!(take_over(&spool, DirectoryKind::Queue, &owner), Vec::<String>::new());
        let advice = take_over_around(dir.path(), DirectoryKind::Secrets, &owner, &[&spool]);
        assert_eq!(advice, Vec::<String>::new());
        for file in ["", "m365.token", "spool", "spool/queue/A.msg"] {
            assert_eq!(owners(&dir.path().join(file)), OURS, "{file}");
        }
        // Others are still named.
        fs::create_dir(dir.path().join("photos")).unwrap();
        std::os::unix::fs::chown(dir.path(), Some(0), Some(0)).unwrap();
        let advice = take_over_around(dir.path(), DirectoryKind::Secrets, &owner, &[&spool]);
        assert!(advice.len() == 1 && advice[0].contains("photos"), "{advice:?}");
        assert_eq!(owners(dir.path()), ROOT);
    }

    /// Each change of an inode is written to the flash, and each reload takes over.
    #[test]
    fn what_is_as_it_should_be_is_not_written_again() {
        let Some(owner) = owner() else { return };
        let dir = tempfile::tempdir().unwrap();
        let (secrets, file) = (dir.path().join("secrets"), dir.path().join("secrets/m365.token"));
        make_secrets(&secrets).unwrap();
        fs::write(&file, "").unwrap();
        let changed = |path: &Path| {
            let stat = fs::symlink_metadata(path).unwrap();
            (stat.ctime(), stat.ctime_nsec())
        };
        take_over(&secrets, DirectoryKind::Secrets, &owner);
        let before = (changed(&secrets), changed(&file));
        // Until a change now would be seen as a later one.
        let clock = dir.path().join("clock");
        while fs::write(&clock, "").is_ok() && changed(&clock) <= before.0.max(before.1) {
            fs::remove_file(&clock).unwrap();
        }
        take_over(&secrets, DirectoryKind::Secrets, &owner);
        assert_eq!((changed(&secrets), changed(&file)), before);
    }

    #[test]
    fn secrets_are_for_the_user_alone() {
        let Some(owner) = owner() else { return };
        let dir = tempfile::tempdir().unwrap();
        let secrets = dir.path().join("secrets");
        make_secrets(&secrets).unwrap();
        make_secrets(&secrets).unwrap();
        fs::write(secrets.join("m365.token"), "").unwrap();
        fs::set_permissions(&secrets, PermissionsExt::from_mode(0o755)).unwrap();
        assert_eq!(take_over(&secrets, DirectoryKind::Secrets, &owner), Vec::<String>::new());
        assert_eq!((owners(&secrets), owners(&secrets.join("m365.token"))), (OURS, OURS));
        assert_eq!(fs::metadata(&secrets).unwrap().mode() & 0o777, 0o700);
        let missing = take_over(&dir.path().join("none"), DirectoryKind::Secrets, &owner);
        assert!(missing[0].contains("cannot change the owner"), "{missing:?}");
    }
}
