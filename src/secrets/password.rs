// SPDX-License-Identifier: Apache-2.0
//! Passwords of accounts: one encrypted file per account, `ACCOUNT.password`. It contains what was typed, as `option
//! password` would.

use std::io;
use std::path::{Path, PathBuf};

use zeroize::Zeroize;

use super::Vault;
use super::vault::{Content, check_name};
use crate::secrets::Secret;

/// Maximum length of a password in bytes. Tokens that providers issue instead of passwords have a few hundred.
pub const LIMIT: usize = 1024;

/// Where the password of one account is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PasswordFile {
    vault: Vault,
    account: String,
}

/// Whether this can be a password: whatever `option password` accepts.
///
/// # Errors
/// Why not; the message does not contain the text.
pub fn check(text: &str) -> Result<(), String> {
    match text {
        "" => Err("the password is empty".into()),
        text if text.len() > LIMIT => Err(format!("the password has more than {LIMIT} bytes")),
        text if text.chars().any(char::is_control) => {
            Err("the password contains a control character, such as a tab or a line break".into())
        }
        _ => Ok(()),
    }
}

impl PasswordFile {
    /// The place for the account with this name.
    ///
    /// # Errors
    /// If the name cannot be part of a file name.
    pub fn of(directory: &Path, account: &str) -> io::Result<Self> {
        check_name(account)?;
        Ok(Self { vault: Vault::new(directory), account: account.into() })
    }

    fn name(&self) -> String {
        format!("{}.password", self.account)
    }

    /// The path of the file.
    pub fn path(&self) -> PathBuf {
        self.vault.path(&self.name())
    }

    /// Whether one is stored, usable or not.
    pub fn is_there(&self) -> bool {
        self.vault.has(&self.name())
    }

    /// The password; `None` if none is stored.
    ///
    /// # Errors
    /// What is wrong with which file, and the remedy.
    pub fn load(&self) -> Result<Option<Secret>, String> {
        let trouble = |why: &str| {
            let (path, account) = (self.path(), &self.account);
            format!(
                "the stored password of account '{account}' cannot be used: {}: {why}; enter it again: smtprelay password {account}",
                path.display()
            )
        };
        let content = self.vault.read(&self.name(), LIMIT).map_err(|error| trouble(&error.to_string()))?;
        let mut bytes = match content {
            None => return Ok(None),
            Some(Content::Sealed(bytes)) => bytes,
            Some(Content::Plain(_)) => return Err(trouble("it was not written by smtprelay password")),
        };
        let text = String::from_utf8(std::mem::take(&mut *bytes)).map(Secret::new).map_err(|wrong| {
            wrong.into_bytes().zeroize();
            trouble("it is not valid UTF-8")
        })?;
        check(text.expose()).map_err(|why| trouble(&why))?;
        Ok(Some(text))
    }

    /// Stores a password. To spare the flash, an identical password is not written again, unless others may read the
    /// file.
    ///
    /// # Errors
    /// If it is not a valid password, or cannot be written. The old one is kept.
    pub fn save(&self, password: &Secret) -> Result<(), String> {
        check(password.expose())?;
        if matches!(self.load(), Ok(Some(there)) if there == *password) && !self.vault.is_exposed(&self.name()) {
            return Ok(());
        }
        let saved =
            self.vault.lock().and_then(|lock| self.vault.write(&lock, &self.name(), password.expose().as_bytes()));
        saved.map_err(|error| self.cannot("write", &error))
    }

    /// Removes it. False if none was stored.
    ///
    /// # Errors
    /// If it cannot be removed.
    pub fn remove(&self) -> Result<bool, String> {
        if !self.is_there() {
            return Ok(false);
        }
        let removed = self.vault.lock().and_then(|lock| self.vault.remove(&lock, &self.name()));
        removed.map_err(|error| self.cannot("remove", &error))
    }

    fn cannot(&self, what: &str, error: &io::Error) -> String {
        let remedy = match error.kind() {
            io::ErrorKind::PermissionDenied => "; only root and the gateway have access",
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "; free some space there",
            io::ErrorKind::NotFound => "; the parent directory of option secrets must exist",
            io::ErrorKind::ReadOnlyFilesystem => "; set option secrets to a writable directory",
            _ => "",
        };
        format!("cannot {what} {}: {error}{remedy}", self.path().display())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::fs;

    fn place() -> (tempfile::TempDir, PasswordFile) {
        let dir = tempfile::tempdir().unwrap();
        let place = PasswordFile::of(&dir.path().join("secrets"), "gmail").unwrap();
        (dir, place)
    }

    fn secret(text: &str) -> Secret {
        Secret::new(text.into())
    }

    #[test]
    fn a_password_is_kept_replaced_and_removed() {
        let (_dir, place) = place();
        assert_eq!((place.load(), place.is_there(), place.remove()), (Ok(None), false, Ok(false)));
        place.save(&secret("abcd efgh ijkl mnop")).unwrap();
        assert_eq!(place.load().unwrap().unwrap().expose(), "abcd efgh ijkl mnop");
        let before = fs::read(place.path()).unwrap();
        place.save(&secret("abcd efgh ijkl mnop")).unwrap();
        assert_eq!(fs::read(place.path()).unwrap(), before, "written although nothing has changed");
        place.save(&secret("tänzer")).unwrap();
        assert_eq!(place.load().unwrap().unwrap().expose(), "tänzer");
        assert_eq!((place.remove(), place.load()), (Ok(true), Ok(None)));
    }

    #[test]
    fn what_cannot_be_one_changes_nothing() {
        let (_dir, place) = place();
        place.save(&secret("good")).unwrap();
        for wrong in ["", "a\tb", "a\nb", "a\0b", &"x".repeat(LIMIT + 1)] {
            let said = place.save(&secret(wrong)).unwrap_err();
            assert!(said.starts_with("the password ") && (wrong.is_empty() || !said.contains(wrong)), "{said}");
        }
        place.save(&secret(&"x".repeat(LIMIT))).unwrap();
        assert_eq!(place.load().unwrap().unwrap().expose().len(), LIMIT);
        for name in ["", "a/b", "..", "a b", "ä", &"x".repeat(65)] {
            assert!(PasswordFile::of(Path::new("/x"), name).is_err(), "{name}");
        }
    }

    #[test]
    fn a_file_that_is_none_is_told_with_its_name_and_remedy() {
        let (_dir, place) = place();
        place.save(&secret("good")).unwrap();
        let whole = fs::read(place.path()).unwrap();
        for bytes in [b"".as_slice(), b"hunter2\n", &whole[..20], &[b'x'; 2000]] {
            fs::write(place.path(), bytes).unwrap();
            let said = place.load().unwrap_err();
            assert!(said.contains("gmail.password: ") && said.ends_with("smtprelay password gmail"), "{said}");
            assert!(!said.contains("hunter2"));
        }
        // The files of two accounts were swapped.
        let other = PasswordFile::of(place.path().parent().unwrap(), "gmx").unwrap();
        fs::write(other.path(), whole).unwrap();
        assert!(other.load().is_err());
        other.save(&secret("again")).unwrap();
        assert_eq!(other.load().unwrap(), Some(secret("again")));
    }

    #[test]
    fn one_that_others_may_read_is_written_anew() {
        use std::os::unix::fs::PermissionsExt;
        let (_dir, place) = place();
        place.save(&secret("good")).unwrap();
        fs::set_permissions(place.path(), fs::Permissions::from_mode(0o644)).unwrap();
        place.save(&secret("good")).unwrap();
        assert_eq!(fs::metadata(place.path()).unwrap().permissions().mode() & 0o777, 0o600);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]
        #[test]
        fn what_is_written_is_read(text in "\\PC{1,90}") {
            let (_dir, place) = place();
            place.save(&secret(&text)).unwrap();
            prop_assert_eq!(place.load(), Ok(Some(secret(&text))));
        }
    }
}
