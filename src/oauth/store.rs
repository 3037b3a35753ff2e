//! Logins on disk: an encrypted file an account, `ACCOUNT.token`, for its owner only.
//!
//! A server may give a new refresh token with every access token and take the old one back. So a new one is on disk, synced,
//! before anything is done with what came with it; the old one stays until then. It is written only when it has changed:
//! flash wears out. Files of earlier versions were not encrypted; they are read, and encrypted with the next token.

use std::io;
use std::path::{Path, PathBuf};

use serde_json::Value;
use zeroize::Zeroizing;

use super::token::{TOKEN_LIMIT, Tokens, is_token, take};
use crate::config::{Account, OAuth};
use crate::net::{Trouble, TroubleKind};
use crate::secrets::Secret;
use crate::secrets::Vault;
use crate::secrets::vault::{Content, check_name};

/// Version of the file's format.
const VERSION: u64 = 1;
/// Bytes of the largest file.
const FILE_LIMIT: usize = TOKEN_LIMIT + (4 << 10);

/// What a login leaves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Login {
    /// The client that it was given to: of no use for another.
    pub client_id: String,
    /// The token endpoint that gave it: no other server gets to see it.
    pub token_url: String,
    /// For access tokens.
    pub refresh: Secret,
}

impl Login {
    /// A new login.
    ///
    /// # Errors
    /// When the server gave nothing that lasts.
    pub fn of(oauth: &OAuth, tokens: Tokens, account: &Account) -> Result<Self, Trouble> {
        let refresh = tokens.refresh.ok_or_else(|| {
            let text = format!(
                "the login server gave no refresh token, so the login of account '{}' would end within the hour; check option scope (offline_access) and the client",
                account.name
            );
            Trouble::new(TroubleKind::Setup, text)
        })?;
        Ok(Self { client_id: oauth.client_id.clone(), token_url: oauth.token_url.clone(), refresh })
    }

    /// Whether it was made with these settings.
    pub fn fits(&self, oauth: &OAuth) -> bool {
        self.client_id == oauth.client_id && self.token_url == oauth.token_url
    }

    fn to_json(&self) -> Zeroizing<String> {
        // All of it fits at once: no copies are left behind by growing.
        let mut text = Zeroizing::new(String::with_capacity(2 * FILE_LIMIT));
        text.push_str(&format!("{{\"version\":{VERSION}"));
        for (name, value) in
            [("client_id", &*self.client_id), ("token_url", &*self.token_url), ("refresh_token", self.refresh.expose())]
        {
            text.push_str(&format!(",\"{name}\":\""));
            for c in value.chars() {
                match c {
                    '"' | '\\' => text.extend(['\\', c]),
                    c if c.is_control() => {}
                    c => text.push(c),
                }
            }
            text.push('"');
        }
        text.push_str("}\n");
        text
    }

    fn from_json(bytes: &[u8]) -> Option<Self> {
        let mut said: Value = serde_json::from_slice(bytes).ok()?;
        if said.get("version").and_then(Value::as_u64) != Some(VERSION) {
            return None;
        }
        let refresh = Secret::new(take(&mut said, "refresh_token")?);
        let (client_id, token_url) = (take(&mut said, "client_id")?, take(&mut said, "token_url")?);
        is_token(refresh.expose()).then_some(Self { client_id, token_url, refresh })
    }
}

/// The file of one account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Store {
    vault: Vault,
    name: String,
}

impl Store {
    /// The store of the account with this name.
    ///
    /// # Errors
    /// When the name can't be one of a file.
    pub fn of(directory: &Path, name: &str) -> io::Result<Self> {
        check_name(name)?;
        Ok(Self { vault: Vault::new(directory), name: format!("{name}.token") })
    }

    /// The file.
    pub fn path(&self) -> PathBuf {
        self.vault.path(&self.name)
    }

    /// What was written last; `None` when there never was a login.
    ///
    /// # Errors
    /// When there is something that can't be used.
    pub fn load(&self) -> io::Result<Option<Login>> {
        let Some(Content::Sealed(text) | Content::Plain(text)) = self.vault.read(&self.name, FILE_LIMIT)? else {
            return Ok(None);
        };
        let login = Login::from_json(&text);
        login.map(Some).ok_or_else(|| io::Error::other("it is no token file of this version"))
    }

    /// Writes down a new login, whatever was there.
    ///
    /// # Errors
    /// When it can't be written. What was there stays.
    pub fn save(&self, login: &Login) -> io::Result<()> {
        self.vault.write(&self.vault.lock()?, &self.name, login.to_json().as_bytes())
    }

    /// Writes down what has taken the place of `old`. False when something else is there by now: somebody has logged in anew,
    /// and that counts.
    ///
    /// # Errors
    /// When it can't be written. What was there stays.
    pub fn replace(&self, old: &Secret, new: &Login) -> io::Result<bool> {
        let lock = self.vault.lock()?;
        if self.load()?.is_none_or(|there| there.refresh != *old) {
            return Ok(false);
        }
        self.vault.write(&lock, &self.name, new.to_json().as_bytes())?;
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::fs;

    fn login(refresh: &str) -> Login {
        let token_url = "https://login.example/token".into();
        Login { client_id: "c".into(), token_url, refresh: Secret::new(refresh.into()) }
    }

    fn store() -> (tempfile::TempDir, Store) {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::of(&dir.path().join("secrets"), "m365").unwrap();
        (dir, store)
    }

    #[test]
    fn a_login_is_kept_and_cannot_be_read_on_disk() {
        let (_dir, store) = store();
        assert_eq!(store.load().unwrap(), None);
        store.save(&login("one-refresh-token")).unwrap();
        assert_eq!(store.load().unwrap(), Some(login("one-refresh-token")));
        let file = fs::read(store.path()).unwrap();
        assert!(!file.windows(5).any(|part| part == b"token" || part == b"login"));
    }

    #[test]
    fn the_file_of_an_earlier_version_is_read_and_encrypted_with_the_next_token() {
        let (_dir, store) = store();
        drop(store.vault.lock().unwrap());
        fs::write(store.path(), login("one").to_json().as_bytes()).unwrap();
        assert_eq!(store.load().unwrap(), Some(login("one")));
        assert!(store.replace(&Secret::new("one".into()), &login("two")).unwrap());
        assert_eq!(store.load().unwrap(), Some(login("two")));
        assert!(!fs::read(store.path()).unwrap().starts_with(b"{"));
    }

    #[test]
    fn a_new_login_of_somebody_counts_more_than_what_took_the_place_of_the_old_one() {
        let (_dir, store) = store();
        assert!(!store.replace(&Secret::new("one".into()), &login("two")).unwrap());
        store.save(&login("one")).unwrap();
        assert!(store.replace(&Secret::new("one".into()), &login("two")).unwrap());
        assert!(!store.replace(&Secret::new("one".into()), &login("three")).unwrap());
        assert_eq!(store.load().unwrap(), Some(login("two")));
    }

    #[test]
    fn files_that_are_none_are_told() {
        let (_dir, store) = store();
        store.save(&login("one")).unwrap();
        let large = format!("{{\"version\":1,\"x\":\"{}\"}}", "x".repeat(FILE_LIMIT));
        for text in
            ["", "{", "[]", "{\"version\":2,\"client_id\":\"\",\"token_url\":\"\",\"refresh_token\":\"a\"}", &large]
        {
            fs::write(store.path(), text).unwrap();
            assert!(store.load().is_err(), "{text:.40}");
        }
        for name in ["", "a/b", "..", "a b", "ä"] {
            assert!(Store::of(Path::new("/x"), name).is_err(), "{name}");
        }
    }

    #[test]
    fn it_does_not_show_what_it_hides() {
        assert!(!format!("{:?}", login("hunter2")).contains("hunter2"));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(client_id in "[ -~]{0,90}", token_url in "[ -~]{0,90}", refresh in "[!-~]{1,900}") {
            let login = Login { client_id, token_url, refresh: Secret::new(refresh) };
            prop_assert_eq!(Login::from_json(login.to_json().as_bytes()), Some(login));
        }

        #[test]
        fn whatever_is_there_can_be_looked_at(bytes: Vec<u8>) {
            prop_assert_eq!(Login::from_json(&bytes), None);
        }
    }
}
