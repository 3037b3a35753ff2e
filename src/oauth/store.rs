// SPDX-License-Identifier: Apache-2.0
//! Logins on disk: one encrypted file per account, `ACCOUNT.token`, accessible to its owner only.
//!
//! A server may issue a new refresh token with every access token and revoke the old one. So a new one is written to
//! disk and synced before the access token that came with it is used; until then the old one is kept. It is written
//! only if it has changed: flash wears out. Files of earlier versions were not encrypted; they can be read, and are
//! encrypted with the next token.

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

/// Version of the file format.
const VERSION: u64 = 1;
/// Maximum size of a file in bytes.
const FILE_LIMIT: usize = TOKEN_LIMIT + (4 << 10);

/// The result of a login.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredLogin {
    /// The client that it was issued to: no other client can use it.
    pub client_id: String,
    /// The token endpoint that issued it: it is never sent to another server.
    pub token_url: String,
    /// For requesting access tokens.
    pub refresh: Secret,
}

impl StoredLogin {
    /// A new login.
    ///
    /// # Errors
    /// If the server returned no refresh token.
    pub fn of(oauth: &OAuth, tokens: Tokens, account: &Account) -> Result<Self, Trouble> {
        let refresh = tokens.refresh.ok_or_else(|| {
            let text = format!(
                "the login server returned no refresh token, so the login of account '{}' would expire within an hour",
                account.name
            );
            Trouble::new(TroubleKind::Setup, text).remedy("check option scope (offline_access) and the client")
        })?;
        Ok(Self { client_id: oauth.client_id.clone(), token_url: oauth.token_url.clone(), refresh })
    }

    /// Whether it was made with these settings.
    pub fn fits(&self, oauth: &OAuth) -> bool {
        self.client_id == oauth.client_id && self.token_url == oauth.token_url
    }

    fn to_json(&self) -> Zeroizing<String> {
        // Everything fits from the start: growing would leave copies behind in memory.
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
    /// Where the login of the account with this name is stored.
    ///
    /// # Errors
    /// If the name cannot be part of a file name.
    pub fn of(directory: &Path, name: &str) -> io::Result<Self> {
        check_name(name)?;
        Ok(Self { vault: Vault::new(directory), name: format!("{name}.token") })
    }

    /// The path of the file.
    pub fn path(&self) -> PathBuf {
        self.vault.path(&self.name)
    }

    /// What was last written; `None` if there has never been a login.
    ///
    /// # Errors
    /// If there is one that cannot be used.
    pub fn load(&self) -> io::Result<Option<StoredLogin>> {
        let Some(Content::Sealed(text) | Content::Plain(text)) = self.vault.read(&self.name, FILE_LIMIT)? else {
            return Ok(None);
        };
        let login = StoredLogin::from_json(&text);
        login.map(Some).ok_or_else(|| io::Error::other("it is not a token file of this version"))
    }

    /// Stores a new login, overwriting any other.
    ///
    /// # Errors
    /// If it cannot be written. The old one is kept.
    pub fn save(&self, login: &StoredLogin) -> io::Result<()> {
        self.vault.write(&self.vault.lock()?, &self.name, login.to_json().as_bytes())
    }

    /// Stores what replaces `old`. False if the file now contains another login: someone has signed in again, and the
    /// new login takes precedence.
    ///
    /// # Errors
    /// If it cannot be written. The old one is kept.
    pub fn replace(&self, old: &Secret, new: &StoredLogin) -> io::Result<bool> {
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

    fn login(refresh: &str) -> StoredLogin {
        let token_url = "https://login.example/token".into();
        StoredLogin { client_id: "c".into(), token_url, refresh: Secret::new(refresh.into()) }
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
            let login = StoredLogin { client_id, token_url, refresh: Secret::new(refresh) };
            prop_assert_eq!(StoredLogin::from_json(login.to_json().as_bytes()), Some(login));
        }

        #[test]
        fn whatever_is_there_can_be_looked_at(bytes: Vec<u8>) {
            prop_assert_eq!(StoredLogin::from_json(&bytes), None);
        }
    }
}
