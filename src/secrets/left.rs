// SPDX-License-Identifier: Apache-2.0
//! Secrets of accounts that are no longer in the settings: the account was deleted or renamed.
//!
//! They are not removed automatically: the owner may notice a moment later that it was the wrong section, and nobody
//! else may know a password that was typed once. But they are reported until they are removed.

use std::fs;
use std::path::{Path, PathBuf};

use super::Vault;
use super::vault::check_name;

/// Maximum number of files examined in the directory of secrets.
const LIMIT: usize = 256;
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
pub fn find(directory: &Path, known: &[&str], lacks: Option<&str>) -> Vec<Left> {
    let entries = fs::read_dir(directory).into_iter().flatten().take(LIMIT).flatten();
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
pub fn remove(directory: &Path, account: &str) -> Result<bool, String> {
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
mod tests {
    use super::*;
    use crate::secrets::Secret;
    use crate::secrets::password::PasswordFile;

    #[test]
    fn what_nobody_uses_is_found_and_removed() {
        let dir = tempfile::tempdir().unwrap();
        let secrets = dir.path().join("secrets");
        assert_eq!(find(&secrets, &[], None), []);
        for name in ["old", "kept"] {
            PasswordFile::of(&secrets, name).unwrap().save(&Secret::new("p".into())).unwrap();
        }
        fs::write(secrets.join("gone.token"), "{}").unwrap();
        fs::write(secrets.join("notes.txt"), "").unwrap();
        let found = find(&secrets, &["kept"], Some("new"));
        let names: Vec<&str> = found.iter().map(|left| left.account.as_str()).collect();
        assert_eq!(names, ["gone", "old"]);
        assert!(found[0].text.starts_with("an OAuth login is stored for account 'gone'"), "{found:?}");
        for part in
            ["a password is stored for account 'old'", "smtprelay password new;", "smtprelay password old --delete"]
        {
            assert!(found[1].text.contains(part), "{found:?}");
        }
        assert!(found.iter().all(Left::is_there));
        assert_eq!(
            (remove(&secrets, "old"), remove(&secrets, "old"), remove(&secrets, "gone")),
            (Ok(true), Ok(false), Ok(true))
        );
        assert!(!found.iter().any(Left::is_there));
        assert_eq!(find(&secrets, &["kept"], None), []);
        assert!(remove(&secrets, "../x").is_err());
    }
}
