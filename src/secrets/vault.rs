// SPDX-License-Identifier: Apache-2.0
//! Encrypted files in a directory, by name: accessible to their owner only, each of them complete at every moment.
//!
//! Root may write on behalf of the user that the gateway runs as: files get the owner of the directory. Since that user
//! can put anything there, nothing that root reads or writes follows a symbolic link.
//!
//! A file is encrypted by itself (RFC 8439, ChaCha20-Poly1305), by the implementation that TLS uses:
//!
//! ```text
//!  8 bytes    12 bytes   as long as the text   16 bytes
//!  "SMTPRLS1" nonce      encrypted text        tag
//! ```
//!
//! The nonce is random: a key would have to encrypt 2^32 files before two equal nonces become likely (NIST SP 800-38D
//! section 8.3 sets this limit for nonces of this size). The file name is authenticated together with the text, so that
//! a file cannot be substituted for another.
//!
//! Secrets of accounts that are no longer in the settings, because the account was deleted or renamed, are not removed
//! automatically: the owner may notice a moment later that it was the wrong section, and nobody else may know a
//! password that was typed once. But they are reported until they are removed ([`Left`]).

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, fchown};
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};
use nix::libc;
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use zeroize::Zeroizing;

use crate::system::publish;

/// Name of the key file.
const KEY_FILE: &str = "key";
/// The caller appends, in its own words, what to do about a file that cannot be decrypted.
const BROKEN: &str = "it cannot be decrypted: it is incomplete, was modified, or belongs to another key file";

/// The secrets of one directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vault(PathBuf);

/// The content of a file.
#[derive(Debug)]
pub enum Content {
    /// It was encrypted.
    Sealed(Zeroizing<Vec<u8>>),
    /// Written by an earlier version, or by hand.
    Plain(Zeroizing<Vec<u8>>),
}

/// Whether an account name can be part of a file name.
///
/// # Errors
/// The rules for names.
pub fn check_name(account: &str) -> io::Result<()> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-');
    match (1..=64).contains(&account.len()) && account.bytes().all(plain) {
        true => Ok(()),
        false => Err(io::Error::other("an account name consists of letters, digits and _, with at most 64 characters")),
    }
}

impl Vault {
    /// The secrets in `directory`, which need not exist yet.
    pub fn new(directory: &Path) -> Self {
        Self(directory.to_path_buf())
    }

    /// The path of a file.
    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Whether the file exists, readable or not.
    pub fn has(&self, name: &str) -> bool {
        self.path(name).symlink_metadata().is_ok()
    }

    /// The content of a file; `None` if there is none.
    ///
    /// # Errors
    /// If it cannot be read or decrypted, or if its text is larger than `limit` bytes.
    pub fn read(&self, name: &str, limit: usize) -> io::Result<Option<Content>> {
        let Some(bytes) = self.read_file(name, limit.saturating_add(OVERHEAD))? else { return Ok(None) };
        if !is_sealed(&bytes) {
            return Ok(Some(Content::Plain(bytes)));
        }
        let key = self.key()?.ok_or_else(|| self.key_trouble("is missing"))?;
        let text = key.open(name, bytes).ok_or_else(|| io::Error::other(BROKEN))?;
        Ok(Some(Content::Sealed(text)))
    }

    /// Encrypts `text` as the content of a file. Creates the key if there is none.
    ///
    /// # Errors
    /// If it cannot be written. The old content is kept.
    pub fn write(&self, lock: &Lock, name: &str, text: &[u8]) -> io::Result<()> {
        let key = match self.key()? {
            Some(key) => key,
            None => self.make_key(lock)?,
        };
        let sealed = key.seal(name, text).map_err(io::Error::other)?;
        self.write_file(lock, name, &sealed, &mut |_| Ok(()))
    }

    fn key_trouble(&self, what: &str) -> io::Error {
        io::Error::other(format!("the key file {} {what}", self.path(KEY_FILE).display()))
    }

    fn key(&self) -> io::Result<Option<Key>> {
        let bytes =
            self.read_file(KEY_FILE, KEY).map_err(|error| self.key_trouble(&format!("cannot be used: {error}")))?;
        let Some(bytes) = bytes else { return Ok(None) };
        let key = Key::of(&bytes).ok_or_else(|| {
            self.key_trouble("is damaged; restore it, or remove it and enter all passwords and logins again")
        });
        key.map(Some)
    }

    fn make_key(&self, lock: &Lock) -> io::Result<Key> {
        let bytes = Key::make().map_err(io::Error::other)?;
        self.write_file(lock, KEY_FILE, bytes.as_slice(), &mut |_| Ok(()))?;
        Key::of(bytes.as_slice()).ok_or_else(|| self.key_trouble("cannot be created"))
    }
}

/// Excludes other writers, in this process and in others, until it is dropped.
pub struct Lock(#[allow(dead_code, reason = "held, not read")] Flock<File>);

/// A step of [`Vault::write_file`] after which the power may fail; tests let each of them fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum WriteStep {
    /// The temporary file exists.
    Create,
    /// Its content is written.
    Write,
    /// It is being renamed to its final name.
    Publish(publish::PublishStep),
}

/// The files as they are on the disk.
impl Vault {
    /// The content of a file; `None` if there is none.
    ///
    /// # Errors
    /// If it cannot be read, or is larger than `limit` bytes.
    fn read_file(&self, name: &str, limit: usize) -> io::Result<Option<Zeroizing<Vec<u8>>>> {
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
    fn write_file(
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
        let path = self.path(name);
        // Until the directory is synced.
        let _blocks = publish::Blocks::of(&path);
        match fs::remove_file(path) {
            Ok(()) => publish::for_good(&File::open(&self.0)?, File::sync_all).map(|()| true),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// The first bytes of an encrypted file; the digit is the version of the format.
const MAGIC: &[u8; 8] = b"SMTPRLS1";
/// Length of the tag in bytes.
const TAG: usize = 16;
/// How many bytes an encrypted file is longer than its text.
const OVERHEAD: usize = MAGIC.len() + NONCE_LEN + TAG;
/// Length of a key in bytes.
const KEY: usize = 32;

/// The key of a directory.
struct Key(LessSafeKey);

/// `N` unpredictable bytes, or the reason why there are none.
fn random<const N: usize>() -> Result<Zeroizing<[u8; N]>, String> {
    let mut bytes = Zeroizing::new([0; N]);
    getrandom::fill(bytes.as_mut_slice()).map_err(|error| format!("the system provides no random numbers: {error}"))?;
    Ok(bytes)
}

impl Key {
    /// The bytes of a new key.
    ///
    /// # Errors
    /// If the system provides no random numbers.
    fn make() -> Result<Zeroizing<[u8; KEY]>, String> {
        random()
    }

    /// The key with these bytes; `None` if they are not a key.
    fn of(bytes: &[u8]) -> Option<Self> {
        UnboundKey::new(&CHACHA20_POLY1305, bytes).ok().map(|key| Self(LessSafeKey::new(key)))
    }

    /// Encrypts `text` for the file called `name`.
    ///
    /// # Errors
    /// If the system provides no random numbers.
    fn seal(&self, name: &str, text: &[u8]) -> Result<Vec<u8>, String> {
        let nonce = *random::<NONCE_LEN>()?;
        // Everything fits from the start: growing would leave copies of the text behind in memory.
        let mut sealed = Vec::with_capacity(OVERHEAD + text.len());
        sealed.extend_from_slice(MAGIC);
        sealed.extend_from_slice(&nonce);
        sealed.extend_from_slice(text);
        let body = sealed.get_mut(MAGIC.len() + NONCE_LEN..).unwrap_or_default();
        let nonce = Nonce::assume_unique_for_key(nonce);
        let tag = self.0.seal_in_place_separate_tag(nonce, Aad::from(name.as_bytes()), body);
        sealed.extend_from_slice(tag.map_err(|_| "the text is too long to be encrypted")?.as_ref());
        Ok(sealed)
    }

    /// The text of the file called `name`; `None` if it is incomplete, was modified, or belongs to another file or key.
    fn open(&self, name: &str, mut sealed: Zeroizing<Vec<u8>>) -> Option<Zeroizing<Vec<u8>>> {
        let nonce = sealed.strip_prefix(MAGIC)?.first_chunk::<NONCE_LEN>()?;
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let rest = MAGIC.len() + NONCE_LEN..;
        let aad = Aad::from(name.as_bytes());
        let length = self.0.open_within(nonce, aad, sealed.as_mut_slice(), rest).ok()?.len();
        sealed.truncate(length);
        Some(sealed)
    }
}

/// Whether this claims to be an encrypted file.
fn is_sealed(bytes: &[u8]) -> bool {
    bytes.starts_with(MAGIC)
}

/// Maximum number of files examined in the directory of secrets.
const FILE_COUNT: usize = 256;
/// File name extensions of an account's files, and what they contain.
const KINDS: [(&str, &str); 2] = [(".password", "a password"), (".token", "an OAuth login")];

/// A secret that is no longer used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Left {
    /// The account that it was stored for.
    pub account: String,
    /// The message to report.
    pub text: String,
    path: PathBuf,
}

impl Left {
    /// Whether it is still there. Accesses the disk.
    pub fn is_there(&self) -> bool {
        self.path.symlink_metadata().is_ok()
    }
}

/// Finds what is stored in `directory` for accounts that are not in `known`; `lacks` is an account that needs a
/// password and has none. Files that cannot be read are ignored. Accesses the disk.
pub fn find_left(directory: &Path, known: &[&str], lacks: Option<&str>) -> Vec<Left> {
    let entries = fs::read_dir(directory).into_iter().flatten().take(FILE_COUNT).flatten();
    let left = |path: PathBuf| {
        let name = path.file_name()?.to_str()?;
        let (account, what) = KINDS.iter().find_map(|(end, what)| Some((name.strip_suffix(end)?, what)))?;
        if known.contains(&account) || check_name(account).is_err() {
            return None;
        }
        let renamed = lacks.map_or_else(String::new, |new| {
            format!("; if account '{new}' is the same account with a new name, enter its password again: smtprelay password {new}")
        });
        let text = format!(
            "{what} is stored for account '{account}', which is no longer in the settings{renamed}; to remove it, run smtprelay password {account} --delete"
        );
        Some(Left { account: account.into(), text, path })
    };
    let mut found: Vec<Left> = entries.filter_map(|entry| left(entry.path())).collect();
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found
}

/// Removes everything that is stored for an account. False if there was nothing. Blocks.
///
/// # Errors
/// If the file system does not allow the removal.
pub fn remove_left(directory: &Path, account: &str) -> Result<bool, String> {
    let whole = || {
        check_name(account)?;
        let vault = Vault::new(directory);
        let names = KINDS.map(|(end, _)| format!("{account}{end}"));
        if !names.iter().any(|name| vault.has(name)) {
            return Ok(false);
        }
        let lock = vault.lock()?;
        names.iter().try_fold(false, |removed, name| Ok(vault.remove(&lock, name)? || removed))
    };
    whole().map_err(|error: std::io::Error| format!("cannot remove the stored secrets of account '{account}': {error}"))
}

#[cfg(test)]
mod tests;
