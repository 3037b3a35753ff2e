// SPDX-License-Identifier: Apache-2.0
//! What is done before anything else, with the privileges that the program was started with, until they are dropped.
//!
//! If started as root, the gateway does here what only root can do: it reads keys, takes ownership of its directories,
//! binds its ports and starts the process of the hook. Then it becomes `option user`. If started by another user it
//! keeps its privileges. There is a single thread until the end of [`prepare`], because privileges belong to threads.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Result, anyhow, bail};

use crate::config::files;
use crate::config::{self, Loaded, Relay, Settings, TlsMode};
use crate::inbound::listener;
use crate::inbound::listener::Sockets;
use crate::oauth::keeper;
use crate::queue::{Spool, SpoolLock};
use crate::report::hook::Helper;
use crate::system::checksum::Checksum;
use crate::system::ownership::{self, DirectoryKind};
use crate::system::privileges::{self, Identity};
use crate::system::{self, interfaces};
use crate::ubus;

/// The system's certificate authorities; an upgrade of the package ca-bundle replaces the file.
const BUNDLE: &str = "/etc/ssl/certs/ca-certificates.crt";

/// What [`super::run`] continues with.
pub struct Prepared {
    /// The settings file.
    pub file: PathBuf,
    /// The settings.
    pub settings: Settings,
    /// The checksum of the file.
    pub sum: u32,
    /// Warnings about them, each with its line.
    pub warnings: Vec<String>,
    /// Other messages to report as soon as the log is available.
    pub advice: Vec<String>,
    /// The queue, used by this process alone.
    pub spool: Arc<Spool>,
    /// Excludes other processes from it.
    pub lock: SpoolLock,
    /// Sockets that are already open.
    pub sockets: Sockets,
    /// Runs the hook, if this process may not.
    pub hook: Option<Helper>,
    /// A connection to ubus, if ubus is running.
    pub ubus: Option<UnixStream>,
}

/// Prepares everything and gives up root.
///
/// # Errors
/// If the program cannot start; the reason names the setting to change.
pub fn prepare(file: &Path, loaded: Loaded) -> Result<Prepared> {
    privileges::protect_memory();
    let Loaded { mut settings, warnings, sum } = loaded;
    let mut warnings = config::worth_telling(file, &warnings);
    let exposed = config::advice::exposed(file, &settings);
    warnings.extend(exposed.iter().cloned());
    let relay = &settings.relay;
    let identity = privileges::identity(&relay.user).map_err(anyhow::Error::msg)?;
    let mut advice = exposed;
    // First of all, so that it inherits nothing: no lock, no sockets.
    let hook = identity.as_ref().and_then(|_| hook(relay, &mut advice));
    system::raise_open_files();
    let spool = Spool::open(relay).map_err(|e| anyhow!("{e}; check options spool and safe_spool"))?;
    let Some(lock) = SpoolLock::take(&relay.spool)? else {
        bail!("another smtprelay is already using {}", relay.spool.display());
    };
    // Made while this is still root: a connection that root has opened keeps root's rights.
    let ubus = ubus::connect();
    learn_networks(&settings);
    let noted = config::advice::reachable(&settings);
    warnings.extend(noted.iter().cloned());
    advice.extend(noted);
    let mut sockets = Sockets::default();
    if let Some(identity) = &identity {
        advice.extend(directories(relay, identity));
        let files = files::collect(&settings);
        stamp(&mut settings, &files);
        files::replace(files);
        sockets = Sockets::prepare(&listener::addresses(&settings));
        privileges::give_up_root(identity).map_err(anyhow::Error::msg)?;
    }
    if identity.is_none() {
        stamp(&mut settings, &files::Files::new());
    }
    privileges::end_with_the_jail();
    let file = file.to_path_buf();
    Ok(Prepared { file, settings, sum, warnings, advice, spool, lock, sockets, hook, ubus })
}

/// Records the files that an account trusts and logs in with, so that a reload can detect changes; `files` are those
/// that root has read. Reads files, so it must not be called on the runtime thread.
pub fn stamp(settings: &mut Settings, files: &files::Files) {
    for account in settings.accounts.iter_mut().filter(|account| account.tls != TlsMode::None) {
        // The file may be a bundle of 200 KB: SHA-256 would take longer than everything else at a start.
        let mut sum = Checksum::new();
        if let Some(path) = &account.ca_file {
            match files.get(path) {
                Some(bytes) => sum.update(bytes),
                // A file that cannot be read is reported when it is needed.
                None => sum.update(&files::now(path, files::SIZE_LIMIT).unwrap_or_default()),
            }
        } else if let Ok(bundle) = std::env::var("SSL_CERT_FILE").map_or_else(|_| fs::metadata(BUNDLE), fs::metadata) {
            sum.update(&bundle.len().to_be_bytes());
            sum.update(&bundle.mtime().to_be_bytes());
        }
        // Not the tokens themselves: the gateway renews them on its own.
        sum.update(&[u8::from(account.oauth.is_some() && keeper::signed_in(account))]);
        account.files = Some(sum.value());
    }
}

/// Asks netifd for the networks, if listeners name any, before their addresses are needed. Blocks for up to two
/// seconds.
pub fn learn_networks(settings: &Settings) {
    if settings.listeners.iter().any(|listener| !listener.interfaces.is_empty())
        && let Some(list) = ubus::daemons::networks()
    {
        interfaces::learned(list);
    }
}

fn hook(relay: &Relay, advice: &mut Vec<String>) -> Option<Helper> {
    let program = relay.hook.as_ref()?;
    let started = Helper::start(program);
    started.map_err(|error| advice.push(format!("the hook {} cannot run: {error}", program.display()))).ok()
}

/// The directories of the queue.
fn queues(relay: &Relay) -> impl Iterator<Item = &Path> {
    relay.safe_spool.iter().chain([&relay.spool]).map(PathBuf::as_path)
}

/// Creates the directories, and gives them to the user.
fn directories(relay: &Relay, identity: &Identity) -> Vec<String> {
    let mut advice = Vec::new();
    advice.extend(queues(relay).flat_map(|path| ownership::take_over(path, DirectoryKind::Queue, identity)));
    advice.extend(secrets(relay, identity));
    advice
}

/// Creates the directory of secrets if it is missing, and gives it and its content to the user, including files that
/// root has restored while the gateway was running. Returns advice for the log.
pub fn secrets(relay: &Relay, identity: &Identity) -> Vec<String> {
    match ownership::make_secrets(&relay.secrets) {
        Ok(()) => {
            let inside: Vec<&Path> = queues(relay).collect();
            ownership::take_over_around(&relay.secrets, DirectoryKind::Secrets, identity, &inside)
        }
        Err(text) => vec![text],
    }
}

#[cfg(test)]
mod tests {
    use zeroize::Zeroizing;

    use super::*;
    use crate::config::{load, uci};

    #[test]
    fn other_authorities_make_another_account() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ca");
        let text = format!(
            "config account 'p'\n\toption host 'h'\n\toption from 'a@b.c'\n\toption ca_file '{}'\n",
            path.display()
        );
        let (mut settings, _) = load::settings(&uci::parse(text.as_bytes()).unwrap());
        let mut stamped = |files: &files::Files| {
            stamp(&mut settings, files);
            settings.accounts[0].files.unwrap()
        };
        let missing = stamped(&files::Files::new());
        fs::write(&path, "one").unwrap();
        let one = stamped(&files::Files::new());
        assert_eq!(one, stamped(&files::Files::new()));
        fs::write(&path, "two").unwrap();
        let two = stamped(&files::Files::new());
        assert!(one != two && one != missing && two != missing);
        // What root has read takes precedence.
        assert_eq!(one, stamped(&files::Files::from([(path.clone(), Zeroizing::new(b"one".to_vec()))])));
    }
}
