// SPDX-License-Identifier: Apache-2.0
//! Whether files with secrets can be read by other users of this host, and whether the gateway's user can write
//! where it has to, on drives whose file system has no owners.

use std::fs::{self, Metadata};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use super::{Durability, Relay, Settings, TlsMode};
use crate::system::{memory, privileges};

/// Files checked in the directory of secrets.
const SECRETS: usize = 256;

/// Advice for the administrator: one line for each file that others can read, with the remedy. Reads the file system.
pub fn exposed(file: &Path, settings: &Settings) -> Vec<String> {
    let in_accounts = settings.accounts.iter().any(|account| {
        !account.password.is_empty() || account.oauth.as_ref().is_some_and(|oauth| !oauth.client_secret.is_empty())
    });
    let mut found = Vec::new();
    if in_accounts || settings.users.iter().any(|user| !user.password.is_empty()) {
        found.extend(open_to_others(file, "contains passwords"));
    }
    for listener in settings.listeners.iter().filter(|listener| listener.tls != TlsMode::None) {
        found.extend(listener.key.iter().filter_map(|key| open_to_others(key, "is a private key")));
    }
    found.extend(drives(&settings.relay).into_iter().map(|drive| drive.text));
    if memory::without_owners(&settings.relay.secrets).is_some() {
        // chmod would not help.
        return found;
    }
    let entries = fs::read_dir(&settings.relay.secrets).into_iter().flatten().take(SECRETS);
    found.extend(entries.flatten().filter_map(|entry| open_to_others(&entry.path(), "is a secret")));
    found
}

/// A directory on a drive whose file system has no owners, mounted with unsuitable options.
pub struct Drive {
    /// What is wrong, and the remedy.
    pub text: String,
    /// Whether no mail can be accepted because of it.
    pub refuses: bool,
}

/// The directories of the gateway that are mounted with unsuitable options. Reads the file system.
pub fn drives(relay: &Relay) -> Vec<Drive> {
    drives_by(relay, memory::without_owners)
}

/// `kind` returns the file system of a directory.
fn drives_by(relay: &Relay, kind: impl Fn(&Path) -> Option<(&'static str, Metadata)>) -> Vec<Drive> {
    // What cannot be determined now is reported when the gateway starts.
    let identity = privileges::identity(&relay.user).ok().flatten();
    let (uid, gid) = match &identity {
        Some(identity) => (identity.uid.as_raw(), identity.gid.as_raw()),
        None => (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw()),
    };
    let always = relay.durability == Durability::Always;
    let accepts_safely = always && relay.safe_spool.is_some();
    let safe = relay.safe_spool.as_deref().map(|path| ("safe_spool", path, accepts_safely));
    let spool = ("spool", relay.spool.as_path(), !accepts_safely);
    let secrets = ("secrets", relay.secrets.as_path(), false);
    let mut found = Vec::new();
    for (option, path, accepts) in safe.into_iter().chain([spool, secrets]) {
        let Some((system, there)) = kind(path) else { continue };
        let (writes, mode) = (memory::may_write(&there, uid, gid), there.mode() & 0o777);
        let what = match (writes, option) {
            (false, "secrets") => "no password or token can be stored",
            (false, _) if accepts => "no mail can be accepted, every message is answered with 451",
            (false, "safe_spool") => "no mail can be moved there, and queued mail is lost in a power cut",
            (false, _) => "the gateway cannot use it",
            (true, "secrets") if mode & 0o044 != 0 => "other users can read the passwords and their key",
            (true, _) if mode & 0o044 != 0 => "other users can read the mail",
            _ => continue,
        };
        let text = format!(
            "option {option} '{}' is on {system}, which stores no owners and modes: it belongs to user {} with mode {mode:o} \
             as it is mounted, so {what}; mount it with the options uid={uid},gid={gid},umask=077, or name a directory on \
             another file system",
            path.display(),
            there.uid(),
        );
        found.push(Drive { text, refuses: !writes && accepts });
    }
    found
}

fn open_to_others(path: &Path, what: &str) -> Option<String> {
    let file = fs::symlink_metadata(path).ok().filter(fs::Metadata::is_file)?;
    let mode = file.permissions().mode() & 0o777;
    (mode & 0o044 != 0).then(|| {
        let path = path.display();
        format!("{path} {what} and can be read by other users (mode {mode:o}): run chmod 600 {path}")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_drive_without_owners_is_named_with_the_mount_options() {
        let dir = tempfile::tempdir().unwrap();
        let relay = |durability: &str| {
            let text = format!(
                "config relay\n option user 'root'\n option secrets '{0}/s'\n option spool '{0}/a'\n \
                 option safe_spool '{0}/b'\n option durability '{durability}'\n",
                dir.path().display()
            );
            super::super::load::settings(&super::super::uci::parse(text.as_bytes()).unwrap()).0.relay
        };
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let vfat = |path: &Path| path.ends_with("b").then(|| ("vfat", fs::metadata(dir.path()).unwrap()));
        let here = || drives_by(&relay("always"), vfat);
        let said = here();
        assert_eq!(said.len(), 1);
        assert!(
            said[0].text.contains("other users can read the mail; mount it with the options uid="),
            "{}",
            said[0].text
        );
        assert!(!said[0].refuses);
        // Owned by another user, as on a drive mounted by root. A mode only restricts users other than root.
        let foreign = |path: &Path| path.ends_with("b").then(|| ("vfat", fs::metadata("/").unwrap()));
        for (durability, refuses, what) in
            [("always", true, "every message is answered with 451"), ("deferred", false, "lost in a power cut")]
        {
            let Ok(Some(_)) = privileges::identity("nobody") else { break };
            let relay = Relay { user: "nobody".into(), ..relay(durability) };
            let said = drives_by(&relay, foreign);
            assert_eq!((said.len(), said[0].refuses), (1, refuses), "{}", said[0].text);
            assert!(said[0].text.contains(what) && said[0].text.contains("umask=077"), "{}", said[0].text);
        }
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o700)).unwrap();
        assert!(here().is_empty());
        let secrets = |path: &Path| path.ends_with("s").then(|| ("exfat", fs::metadata("/").unwrap()));
        let said = drives_by(&relay("deferred"), secrets);
        assert!(said[0].text.contains("other users can read the passwords and their key"), "{}", said[0].text);
    }

    #[test]
    fn files_that_others_can_read_are_named_with_the_remedy() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        let text = format!(
            "config relay\n option secrets '{0}/secrets'\nconfig listener 'l'\n list address '::1'\n option tls 'implicit'\n option certificate '{0}/c'\n option key '{0}/k'\n\
             config account 'a'\n option host 'h'\n option username 'me@example.com'\n option password 'p'\n",
            dir.path().display()
        );
        let settings = super::super::parse(&path("settings"), text.as_bytes()).unwrap().settings;
        fs::create_dir(path("secrets")).unwrap();
        let files = ["settings", "c", "k", "secrets/a.token"];
        let mode = |name: &str, mode| fs::set_permissions(path(name), fs::Permissions::from_mode(mode)).unwrap();
        for name in files {
            fs::write(path(name), &text).unwrap();
            mode(name, 0o600);
        }
        assert_eq!(exposed(&path("settings"), &settings), Vec::<String>::new());
        files.iter().for_each(|name| mode(name, 0o640));
        let found = exposed(&path("settings"), &settings);
        assert_eq!(found.len(), 3, "{found:?}");
        for (line, name) in found.iter().zip(["settings", "k", "secrets/a.token"]) {
            assert!(line.ends_with(&format!("(mode 640): run chmod 600 {}", path(name).display())), "{line}");
        }
        // Without a password in them the settings may be readable.
        let text = text.replace(" option username 'me@example.com'\n option password 'p'\n", " option from 'a@b.c'\n");
        let settings = super::super::parse(&path("settings"), text.as_bytes()).unwrap().settings;
        assert_eq!(exposed(&path("settings"), &settings).len(), 2);
    }
}
