//! Logins on disk: a file an account, `ACCOUNT.token`, for its owner only.
//!
//! A server may give a new refresh token with every access token and take the old one back. So a new one is on disk, synced,
//! before anything is done with what came with it; the old one stays until then. It is written only when it has changed:
//! flash wears out.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, fchown};
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};
use serde_json::Value;
use zeroize::Zeroizing;

use super::token::{TOKEN_LIMIT, Tokens, is_token, take};
use crate::config::{Account, OAuth, Secret};
use crate::outbound::verdict::{Trouble, TroubleKind};

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
    directory: PathBuf,
    name: String,
}

/// A step of [`Store::replace`] after which the power may go; tests let each of them fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Create,
    Write,
    SyncFile,
    Rename,
    SyncDirectory,
}

impl Store {
    /// The store of the account with this name.
    ///
    /// # Errors
    /// When the name can't be one of a file.
    pub fn of(directory: &Path, name: &str) -> io::Result<Self> {
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-');
        match (1..=64).contains(&name.len()) && name.bytes().all(plain) {
            true => Ok(Self { directory: directory.to_path_buf(), name: name.to_string() }),
            false => Err(io::Error::other("the account's name must consist of letters, digits and _")),
        }
    }

    /// The file.
    pub fn path(&self) -> PathBuf {
        self.directory.join(format!("{}.token", self.name))
    }

    /// What was written last; `None` when there never was a login.
    ///
    /// # Errors
    /// When there is something that can't be used.
    pub fn load(&self) -> io::Result<Option<Login>> {
        let file = match File::open(self.path()) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            file => file?,
        };
        let mut bytes = Zeroizing::new(Vec::with_capacity(FILE_LIMIT + 1));
        file.take(FILE_LIMIT as u64 + 1).read_to_end(&mut bytes)?;
        let login = Some(&bytes).filter(|bytes| bytes.len() <= FILE_LIMIT).and_then(|bytes| Login::from_json(bytes));
        login.map(Some).ok_or_else(|| io::Error::other("it is no token file of this version"))
    }

    /// Writes down a new login, whatever was there.
    ///
    /// # Errors
    /// When it can't be written. What was there stays.
    pub fn save(&self, login: &Login) -> io::Result<()> {
        let _lock = self.lock()?;
        self.write(login, |_| Ok(()))
    }

    /// Writes down what has taken the place of `old`. False when something else is there by now: somebody has logged in anew,
    /// and that counts.
    ///
    /// # Errors
    /// When it can't be written. What was there stays.
    pub fn replace(&self, old: &Secret, new: &Login) -> io::Result<bool> {
        let _lock = self.lock()?;
        if self.load()?.is_none_or(|there| there.refresh != *old) {
            return Ok(false);
        }
        self.write(new, |_| Ok(()))?;
        Ok(true)
    }

    /// Makes the directory if need be, and keeps other writers out: the gateway and `smtprelay login`.
    fn lock(&self) -> io::Result<Flock<File>> {
        match DirBuilder::new().mode(0o700).create(&self.directory) {
            Ok(()) => {
                if let Some(parent) = self.directory.parent() {
                    File::open(parent)?.sync_all()?;
                }
            }
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
        Flock::lock(File::open(&self.directory)?, FlockArg::LockExclusive).map_err(|(_, error)| error.into())
    }

    /// Temporary file, sync, rename, sync: at each moment either the old or the new one is there, whole.
    fn write(&self, login: &Login, after: impl Fn(Step) -> io::Result<()>) -> io::Result<()> {
        let (path, new) = (self.path(), self.directory.join(format!("{}.new", self.name)));
        // Of a run that was cut off.
        match fs::remove_file(&new) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
        after(Step::Create)?;
        // Root may write for the user that the gateway runs as.
        let (owner, own) = (fs::metadata(&self.directory)?, file.metadata()?);
        if owner.uid() != own.uid() {
            fchown(&file, Some(owner.uid()), Some(owner.gid()))?;
        }
        file.write_all(login.to_json().as_bytes())?;
        after(Step::Write)?;
        file.sync_all()?;
        after(Step::SyncFile)?;
        fs::rename(&new, &path)?;
        after(Step::Rename)?;
        File::open(&self.directory)?.sync_all()?;
        after(Step::SyncDirectory)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::os::unix::fs::PermissionsExt;

    const STEPS: [Step; 5] = [Step::Create, Step::Write, Step::SyncFile, Step::Rename, Step::SyncDirectory];

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
    fn a_login_is_kept_for_its_owner_only() {
        let (_dir, store) = store();
        assert_eq!(store.load().unwrap(), None);
        store.save(&login("one")).unwrap();
        assert_eq!(store.load().unwrap(), Some(login("one")));
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&store.path()), mode(&store.directory)), (0o600, 0o700));
        assert_eq!(fs::read_dir(&store.directory).unwrap().count(), 1);
    }

    #[test]
    fn whatever_step_is_the_last_one_the_old_or_the_new_login_is_whole() {
        for cut in STEPS {
            let (_dir, store) = store();
            store.save(&login("old")).unwrap();
            let lock = store.lock().unwrap();
            let cut_off = store.write(&login("new"), |step| match step == cut {
                true => Err(io::Error::other("power cut")),
                false => Ok(()),
            });
            drop(lock);
            assert!(cut_off.is_err());
            let there = store.load().unwrap().unwrap();
            let renamed = matches!(cut, Step::Rename | Step::SyncDirectory);
            assert_eq!(there, login(if renamed { "new" } else { "old" }), "{cut:?}");
            // The next one is not hindered by what was left.
            assert!(store.replace(&there.refresh, &login("newer")).unwrap());
            assert_eq!(store.load().unwrap(), Some(login("newer")));
            assert_eq!(fs::read_dir(&store.directory).unwrap().count(), 1, "{cut:?}");
        }
    }

    #[test]
    fn the_text_is_synced_before_it_gets_its_name() {
        let (_dir, store) = store();
        let _lock = store.lock().unwrap();
        let steps = std::cell::RefCell::new(Vec::new());
        store
            .write(&login("x"), |step| {
                steps.borrow_mut().push(step);
                Ok(())
            })
            .unwrap();
        assert_eq!(*steps.borrow(), STEPS);
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
