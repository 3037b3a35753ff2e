// SPDX-License-Identifier: Apache-2.0
//! Ownership of directories and their files: what root created, now or in an earlier version that always ran as root,
//! is given to the gateway's user.
//!
//! Changing owners as root in a directory where another user may write is a classic way to take over a system. So
//! nothing here uses a path twice: each file is opened without following links, examined, and changed through the open
//! descriptor. A file with more than one hard link is left alone, since it may be anything. A directory that contains
//! other things than the gateway's files keeps its owner.

use std::fs::DirBuilder;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

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
    let mut walk =
        Walk { owner, left: if kind == DirectoryKind::Queue { ENTRIES } else { SECRETS }, advice: Vec::new() };
    if let Err(error) = walk.directory(path, kind) {
        let (path, name) = (path.display(), &owner.name);
        walk.advice.push(format!(
            "cannot change the owner of {path} to the user '{name}': {error}; on a file system without owners (vfat), mount it with uid={} and gid={}",
            owner.uid, owner.gid
        ));
    }
    walk.advice
}

struct Walk<'a> {
    owner: &'a Identity,
    left: usize,
    advice: Vec<String>,
}

const LOOK: OFlag = OFlag::O_PATH.union(OFlag::O_NOFOLLOW).union(OFlag::O_CLOEXEC);
const LIST: OFlag = OFlag::O_RDONLY.union(OFlag::O_DIRECTORY).union(OFlag::O_NOFOLLOW).union(OFlag::O_CLOEXEC);

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
            if !kind.knows(&text, is_directory) {
                foreign = Some(text.into_owned());
            } else if text != "lost+found" && kind == DirectoryKind::Queue {
                self.entry(&directory, &name, &opened, 1)?;
            }
        }
        if let Some(foreign) = foreign {
            let stat = fstat(&directory)?;
            if stat.st_uid != self.owner.uid.as_raw() {
                self.advice.push(format!(
                    "{} also contains other files ({foreign}), so its owner is not changed to the user '{}'; set the option to a separate directory",
                    path.display(),
                    self.owner.name
                ));
            }
            return Ok(());
        }
        if kind == DirectoryKind::Secrets {
            for name in names(openat(&directory, ".", LIST, Mode::empty())?, self.left)? {
                let Ok(opened) = openat(&directory, name.as_c_str(), LOOK, Mode::empty()) else { continue };
                self.entry(&directory, &name, &opened, DEPTH)?;
            }
            fchmod(&directory, Mode::S_IRWXU)?;
        }
        self.chown(&directory, &fstat(&directory)?)
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
#[path = "ownership_tests.rs"]
mod tests;
