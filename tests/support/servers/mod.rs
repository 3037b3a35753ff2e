// SPDX-License-Identifier: Apache-2.0
//! Real mail servers as providers: Postfix with STARTTLS (OpenSSL), Exim with implicit TLS (GnuTLS).
//!
//! They come from Debian's packages, which `scripts/servers.sh` unpacks into a folder: the one that the environment
//! variable `SMTPRELAY_SERVERS` names, else `servers` where cargo builds. They run on the loopback interface, with configuration
//! and queue in a temp folder, demand a login, and hand every message to a [`Mailbox`] inside the test process:
//! nothing is ever delivered anywhere else. They need root, because they change to users of their own.
//!
//! `start` returns `None` and says "skipped" with the reason if the folder or root is missing:
//!
//! ```ignore
//! let certs = Certs::new();
//! let Some(postfix) = Postfix::start(&certs).await else { return };
//! ```

mod exim;
mod postfix;

use std::fs;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::certs::open_to_all;

pub use super::mailbox::{Delivery, Mailbox};
pub use exim::Exim;
pub use postfix::Postfix;

/// The user that may send. No `@`: the account needs `option from`.
pub const USER: &str = "relay";
/// Its password.
pub const PASSWORD: &str = "correct horse 'battery' staple";
/// The name of the servers in their greeting and in the Received line.
pub const HOSTNAME: &str = "provider.example";

/// The folder that `scripts/servers.sh` filled.
struct Packages {
    root: PathBuf,
}

impl Packages {
    /// Finds it, or says why not.
    fn find(program: &str, users: &[&str]) -> Result<Packages, String> {
        let folder = std::env::var_os("SMTPRELAY_SERVERS")
            .map(PathBuf::from)
            .unwrap_or_else(|| Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("servers"));
        let root = fs::canonicalize(folder.join("root"))
            .map_err(|_| format!("no servers in {}; run scripts/servers.sh", folder.display()))?;
        if !root.join(program).is_file() {
            return Err(format!("no {program} in {}; run scripts/servers.sh again", root.display()));
        }
        if !nix::unistd::geteuid().is_root() {
            return Err("mail servers have to be started by root".to_owned());
        }
        for user in users {
            if !matches!(nix::unistd::User::from_name(user), Ok(Some(_))) {
                return Err(format!("there is no user {user}; run scripts/servers.sh as root"));
            }
        }
        Ok(Packages { root })
    }

    /// For LD_LIBRARY_PATH: the unpacked libraries. Postfix has some of its own.
    fn library_path(&self) -> String {
        let folders = [Some(self.root.join("usr/lib/postfix")), self.multiarch("usr/lib"), self.multiarch("lib")];
        let folders: Vec<String> = folders.iter().flatten().map(|folder| folder.display().to_string()).collect();
        folders.join(":")
    }

    /// For SASL_PATH: the plug-ins of Cyrus SASL.
    fn sasl_path(&self) -> PathBuf {
        self.multiarch("usr/lib").unwrap_or_default().join("sasl2")
    }

    /// `lib/x86_64-linux-gnu` or what it is called on this machine.
    fn multiarch(&self, parent: &str) -> Option<PathBuf> {
        let entries = fs::read_dir(self.root.join(parent)).ok()?;
        entries.flatten().map(|entry| entry.path()).find(|path| path.to_string_lossy().contains("-linux-"))
    }
}

/// Says why a test does nothing.
fn skipped<T>(server: &str, why: &str) -> Option<T> {
    eprintln!("skipped: {server}: {why}");
    None
}

/// A folder that other users can enter.
fn temp_folder(server: &str) -> TempDir {
    let dir = tempfile::Builder::new().prefix(&format!("smtprelay-{server}-")).tempdir().expect("temp folder");
    open_to_all(dir.path());
    dir
}

/// Makes a folder that belongs to this user and its group.
fn folder_of(user: &str, path: &Path) {
    fs::create_dir_all(path).expect("make a folder for a mail server");
    give_to(user, path);
}

/// Makes a file or folder belong to this user and its group.
fn give_to(user: &str, path: &Path) {
    let user = nix::unistd::User::from_name(user).ok().flatten().expect("a user that was there before");
    nix::unistd::chown(path, Some(user.uid), Some(user.gid)).expect("chown for a mail server");
}

/// The messages without their envelopes.
fn texts(deliveries: Vec<Delivery>) -> Vec<Vec<u8>> {
    deliveries.into_iter().map(|delivery| delivery.data).collect()
}
