//! Secrets of accounts that the settings no longer have: an account was deleted, or has another name now.
//!
//! They are not removed by themselves: with the next key stroke the owner may find that it was the wrong section, and a
//! password that was typed once is perhaps known to nobody else. But they are named until somebody removes them.

use std::fs;
use std::path::{Path, PathBuf};

use super::Vault;
use super::vault::check_name;

/// Files looked at in the directory of secrets.
const LIMIT: usize = 256;
/// Ends of the names of files that belong to an account, and what is in them.
const KINDS: [(&str, &str); 2] = [(".password", "a password"), (".token", "a sign-in")];

/// A secret that nobody uses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Left {
    /// The account that it was stored for.
    pub account: String,
    /// What is to be told.
    pub text: String,
    path: PathBuf,
}

impl Left {
    /// Whether it is still there. Reads the disk.
    pub fn is_there(&self) -> bool {
        self.path.symlink_metadata().is_ok()
    }
}

/// Finds what is stored in `directory` for accounts that are not in `known`; `lacks` is one that has no password although it
/// needs one. What can't be read has nothing in it. Reads the disk.
pub fn find(directory: &Path, known: &[&str], lacks: Option<&str>) -> Vec<Left> {
    let entries = fs::read_dir(directory).into_iter().flatten().take(LIMIT).flatten();
    let left = |path: PathBuf| {
        let name = path.file_name()?.to_str()?;
        let (account, what) = KINDS.iter().find_map(|(end, what)| Some((name.strip_suffix(end)?, what)))?;
        if known.contains(&account) || check_name(account).is_err() {
            return None;
        }
        let renamed = lacks.map_or_else(String::new, |new| {
            format!("; if account '{new}' is the same under another name, enter it again: smtprelay password {new}")
        });
        let text = format!(
            "{what} is stored for account '{account}', which is not in the settings any more{renamed}; smtprelay password {account} --delete removes it"
        );
        Some(Left { account: account.into(), text, path })
    };
    let mut found: Vec<Left> = entries.filter_map(|entry| left(entry.path())).collect();
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found
}

/// Removes all that is stored for an account. False: nothing was. Blocks.
///
/// # Errors
/// What the disk did not let remove.
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
    whole().map_err(|error: std::io::Error| format!("can't remove what is stored for account '{account}': {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secrets::Secret;
    use crate::secrets::password::Place;

    #[test]
    fn what_nobody_uses_is_found_and_removed() {
        let dir = tempfile::tempdir().unwrap();
        let secrets = dir.path().join("secrets");
        assert_eq!(find(&secrets, &[], None), []);
        for name in ["old", "kept"] {
            Place::of(&secrets, name).unwrap().save(&Secret::new("p".into())).unwrap();
        }
        fs::write(secrets.join("gone.token"), "{}").unwrap();
        fs::write(secrets.join("notes.txt"), "").unwrap();
        let found = find(&secrets, &["kept"], Some("new"));
        let names: Vec<&str> = found.iter().map(|left| left.account.as_str()).collect();
        assert_eq!(names, ["gone", "old"]);
        assert!(found[0].text.starts_with("a sign-in is stored for account 'gone'"), "{found:?}");
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
