// SPDX-License-Identifier: Apache-2.0
//! A directory of small files, accessible to its owner only, each of which is complete at every moment.
//!
//! Root may write on behalf of the user that the gateway runs as: files get the owner of the directory. Since that user
//! can put anything there, nothing that root reads or writes follows a symbolic link.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, fchown};
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};
use nix::libc;
use zeroize::Zeroizing;

use crate::system::publish;

/// Such a directory; it need not exist yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Directory(PathBuf);

/// Excludes other writers, in this process and in others, until it is dropped.
pub struct Lock(#[allow(dead_code, reason = "held, not read")] Flock<File>);

/// A step of [`Directory::write`] after which the power may fail; tests let each of them fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WriteStep {
    /// The temporary file exists.
    Create,
    /// Its content is written.
    Write,
    /// It is being renamed to its final name.
    Publish(publish::PublishStep),
}

impl Directory {
    /// The directory at `path`.
    pub fn new(path: &Path) -> Self {
        Self(path.to_path_buf())
    }

    /// The path of a file in the directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// The content of a file; `None` if there is none.
    ///
    /// # Errors
    /// If it cannot be read, or is larger than `limit` bytes.
    pub fn read(&self, name: &str, limit: usize) -> io::Result<Option<Zeroizing<Vec<u8>>>> {
        // A symbolic link leads elsewhere, and opening a pipe would block.
        let mut options = OpenOptions::new();
        options.read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK);
        let file = match options.open(self.path(name)) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            file => file?,
        };
        // Everything fits from the start: growing would leave copies behind in memory.
        let mut bytes = Zeroizing::new(Vec::with_capacity(limit.saturating_add(1)));
        file.take(limit as u64 + 1).read_to_end(&mut bytes)?;
        match bytes.len() <= limit {
            true => Ok(Some(bytes)),
            false => Err(io::Error::other(format!("it has more than {limit} bytes"))),
        }
    }

    /// Whether anyone other than the owner may read a file. False if there is none.
    pub fn is_exposed(&self, name: &str) -> bool {
        fs::symlink_metadata(self.path(name)).is_ok_and(|data| data.is_file() && data.mode() & 0o077 != 0)
    }

    /// Creates the directory if necessary, and excludes other writers.
    ///
    /// # Errors
    /// If the directory cannot be created or opened.
    pub fn lock(&self) -> io::Result<Lock> {
        match DirBuilder::new().mode(0o700).create(&self.0) {
            Ok(()) => {
                if let Some(parent) = self.0.parent() {
                    File::open(parent)?.sync_all()?;
                }
            }
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
        Flock::lock(File::open(&self.0)?, FlockArg::LockExclusive).map(Lock).map_err(|(_, error)| error.into())
    }

    /// Makes `bytes` the content of a file. At each moment either the old or the new content is there, complete.
    /// `after` is called after each step, and can abort there.
    ///
    /// # Errors
    /// If it cannot be written. The old content is kept.
    pub fn write(
        &self,
        _: &Lock,
        name: &str,
        bytes: &[u8],
        after: &mut dyn FnMut(WriteStep) -> io::Result<()>,
    ) -> io::Result<()> {
        let path = self.path(name);
        let (mut file, new) = publish::create(&path, 0o600)?;
        after(WriteStep::Create)?;
        let (owner, own) = (fs::metadata(&self.0)?, file.metadata()?);
        if owner.uid() != own.uid() {
            fchown(&file, Some(owner.uid()), Some(owner.gid()))?;
        }
        file.write_all(bytes)?;
        after(WriteStep::Write)?;
        publish::file(&file, &new, &path, |step| after(WriteStep::Publish(step)))
    }

    /// Removes a file. False if there was none.
    ///
    /// # Errors
    /// If it cannot be removed.
    pub fn remove(&self, _: &Lock, name: &str) -> io::Result<bool> {
        match fs::remove_file(self.path(name)) {
            Ok(()) => File::open(&self.0)?.sync_all().map(|()| true),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    const STEPS: [WriteStep; 7] = [
        WriteStep::Create,
        WriteStep::Write,
        WriteStep::Publish(publish::PublishStep::SyncTable),
        WriteStep::Publish(publish::PublishStep::SyncFile),
        WriteStep::Publish(publish::PublishStep::Rename),
        WriteStep::Publish(publish::PublishStep::SyncNamed),
        WriteStep::Publish(publish::PublishStep::SyncDirectory),
    ];

    fn directory() -> (tempfile::TempDir, Directory) {
        let dir = tempfile::tempdir().unwrap();
        let directory = Directory::new(&dir.path().join("secrets"));
        (dir, directory)
    }

    fn write(directory: &Directory, bytes: &[u8], cut: Option<WriteStep>) -> io::Result<()> {
        let lock = directory.lock()?;
        directory.write(&lock, "a", bytes, &mut |step| match Some(step) == cut {
            true => Err(io::Error::other("power cut")),
            false => Ok(()),
        })
    }

    fn read(directory: &Directory) -> Option<Vec<u8>> {
        directory.read("a", 100).unwrap().map(|bytes| bytes.to_vec())
    }

    #[test]
    fn whatever_step_is_the_last_one_the_old_or_the_new_file_is_whole() {
        for cut in STEPS {
            let (_dir, directory) = directory();
            write(&directory, b"old", None).unwrap();
            assert!(write(&directory, b"newer", Some(cut)).is_err());
            let renamed = matches!(cut, WriteStep::Publish(step) if !matches!(step, publish::PublishStep::SyncTable | publish::PublishStep::SyncFile));
            let expected: &[u8] = if renamed { b"newer" } else { b"old" };
            assert_eq!(read(&directory).unwrap(), expected, "{cut:?}");
            // The next write is not hindered by leftovers.
            write(&directory, b"newest", None).unwrap();
            assert_eq!(read(&directory).unwrap(), b"newest");
            assert_eq!(fs::read_dir(&directory.0).unwrap().count(), 1, "{cut:?}");
        }
    }

    #[test]
    fn the_text_is_synced_before_it_gets_its_name() {
        let (_dir, directory) = directory();
        let lock = directory.lock().unwrap();
        let mut steps = Vec::new();
        let mut after = |step| {
            steps.push(step);
            Ok(())
        };
        directory.write(&lock, "a", b"x", &mut after).unwrap();
        assert_eq!(steps, STEPS);
    }

    #[test]
    fn files_are_for_their_owner_only() {
        let (_dir, directory) = directory();
        write(&directory, b"x", None).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&directory.path("a")), mode(&directory.0)), (0o600, 0o700));
        assert!(!directory.is_exposed("a") && !directory.is_exposed("b"));
        fs::set_permissions(directory.path("a"), fs::Permissions::from_mode(0o640)).unwrap();
        assert!(directory.is_exposed("a"));
    }

    #[test]
    fn root_writes_for_the_owner_of_the_directory() {
        if !nix::unistd::geteuid().is_root() {
            return println!("skipped: only root can give files away");
        }
        let (_dir, directory) = directory();
        drop(directory.lock().unwrap());
        std::os::unix::fs::chown(&directory.0, Some(65534), Some(65534)).unwrap();
        write(&directory, b"x", None).unwrap();
        let data = fs::metadata(directory.path("a")).unwrap();
        assert_eq!((data.uid(), data.gid()), (65534, 65534));
    }

    #[test]
    fn odd_things_in_the_place_of_a_file_are_told() {
        let (dir, directory) = directory();
        assert_eq!(read(&directory), None);
        write(&directory, &[b'x'; 100], None).unwrap();
        assert_eq!(read(&directory).unwrap().len(), 100);
        assert!(directory.read("a", 99).unwrap_err().to_string().contains("more than 99 bytes"));
        let other = dir.path().join("other");
        fs::write(&other, "secret of another user").unwrap();
        symlink(&other, directory.path("link")).unwrap();
        assert!(directory.read("link", 100).is_err());
        nix::unistd::mkfifo(&directory.path("pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert_eq!(directory.read("pipe", 100).unwrap().unwrap().len(), 0);
        fs::create_dir(directory.path("folder")).unwrap();
        assert!(directory.read("folder", 100).is_err());
        // A symbolic link in place of the temporary file is replaced, not followed.
        symlink(&other, directory.path("a.new")).unwrap();
        write(&directory, b"x", None).unwrap();
        assert_eq!(fs::read(&other).unwrap(), b"secret of another user");
    }

    #[test]
    fn what_is_removed_is_gone() {
        let (_dir, directory) = directory();
        write(&directory, b"x", None).unwrap();
        let lock = directory.lock().unwrap();
        assert!(directory.remove(&lock, "a").unwrap() && !directory.remove(&lock, "a").unwrap());
        assert_eq!(read(&directory), None);
    }
}
