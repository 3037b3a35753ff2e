// SPDX-License-Identifier: Apache-2.0
//! Encrypted files in a directory, by name.

use std::io;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::directory::{Directory, Lock};
use super::seal::{KEY, Key, OVERHEAD, is_sealed};

/// Name of the key file.
const KEY_FILE: &str = "key";
/// The caller appends, in its own words, what to do about a file that cannot be decrypted.
const BROKEN: &str = "it cannot be decrypted: it is incomplete, was modified, or belongs to another key file";

/// The secrets of one directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vault(Directory);

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
        Self(Directory::new(directory))
    }

    /// The path of a file.
    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path(name)
    }

    /// Excludes other writers.
    ///
    /// # Errors
    /// If the directory cannot be created or opened.
    pub fn lock(&self) -> io::Result<Lock> {
        self.0.lock()
    }

    /// Whether anyone other than the owner may read a file.
    pub fn is_exposed(&self, name: &str) -> bool {
        self.0.is_exposed(name)
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
        let Some(bytes) = self.0.read(name, limit.saturating_add(OVERHEAD))? else { return Ok(None) };
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
        self.0.write(lock, name, &sealed, &mut |_| Ok(()))
    }

    /// Removes a file. False if there was none.
    ///
    /// # Errors
    /// If it cannot be removed.
    pub fn remove(&self, lock: &Lock, name: &str) -> io::Result<bool> {
        self.0.remove(lock, name)
    }

    fn key_trouble(&self, what: &str) -> io::Error {
        io::Error::other(format!("the key file {} {what}", self.path(KEY_FILE).display()))
    }

    fn key(&self) -> io::Result<Option<Key>> {
        let bytes =
            self.0.read(KEY_FILE, KEY).map_err(|error| self.key_trouble(&format!("cannot be used: {error}")))?;
        let Some(bytes) = bytes else { return Ok(None) };
        let key = Key::of(&bytes).ok_or_else(|| {
            self.key_trouble("is damaged; restore it, or remove it and enter all passwords and logins again")
        });
        key.map(Some)
    }

    fn make_key(&self, lock: &Lock) -> io::Result<Key> {
        let bytes = Key::make().map_err(io::Error::other)?;
        self.0.write(lock, KEY_FILE, bytes.as_slice(), &mut |_| Ok(()))?;
        Key::of(bytes.as_slice()).ok_or_else(|| self.key_trouble("cannot be created"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn vault() -> (tempfile::TempDir, Vault) {
        let dir = tempfile::tempdir().unwrap();
        let vault = Vault::new(&dir.path().join("secrets"));
        vault.write(&vault.lock().unwrap(), "a", b"hunter2").unwrap();
        (dir, vault)
    }

    fn trouble(vault: &Vault) -> String {
        vault.read("a", 100).unwrap_err().to_string()
    }

    #[test]
    fn a_text_is_kept_sealed_and_its_key_is_made_once() {
        let (_dir, vault) = vault();
        let key = fs::read(vault.path("key")).unwrap();
        vault.write(&vault.lock().unwrap(), "b", b"other").unwrap();
        assert_eq!(fs::read(vault.path("key")).unwrap(), key);
        assert!(matches!(vault.read("a", 7).unwrap(), Some(Content::Sealed(text)) if *text == b"hunter2"));
        assert!(vault.read("a", 6).is_err());
        assert!(vault.read("c", 7).unwrap().is_none() && !vault.has("c") && vault.has("a"));
        assert!(!fs::read(vault.path("a")).unwrap().windows(7).any(|part| part == b"hunter2"));
        assert!(!vault.is_exposed("a"));
    }

    #[test]
    fn what_was_not_sealed_is_told_apart() {
        let (_dir, vault) = vault();
        fs::write(vault.path("a"), "{}").unwrap();
        assert!(matches!(vault.read("a", 100).unwrap(), Some(Content::Plain(text)) if *text == b"{}"));
    }

    #[test]
    fn damage_is_told_with_the_file() {
        let (_dir, vault) = vault();
        let whole = fs::read(vault.path("a")).unwrap();
        for part in [&whole[..whole.len() - 1], &whole[..9]] {
            fs::write(vault.path("a"), part).unwrap();
            assert_eq!(trouble(&vault), BROKEN);
        }
        fs::write(vault.path("a"), whole).unwrap();
        for (key, said) in [(&b"short"[..], "key is damaged; restore it"), (&[1; 33], "more than 32 bytes")] {
            fs::write(vault.path("key"), key).unwrap();
            assert!(trouble(&vault).contains(said), "{}", trouble(&vault));
            // Nothing is encrypted with an invalid key, and the key is not replaced without being asked.
            assert!(vault.write(&vault.lock().unwrap(), "b", b"x").is_err() && !vault.has("b"));
        }
        fs::write(vault.path("key"), [1; 32]).unwrap();
        assert_eq!(trouble(&vault), BROKEN);
        fs::remove_file(vault.path("key")).unwrap();
        assert!(trouble(&vault).contains("key is missing"), "{}", trouble(&vault));
        vault.write(&vault.lock().unwrap(), "a", b"again").unwrap();
        assert!(matches!(vault.read("a", 100).unwrap(), Some(Content::Sealed(text)) if *text == b"again"));
    }
}
