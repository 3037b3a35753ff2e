// SPDX-License-Identifier: Apache-2.0
//! How new settings reach a running gateway: the order, its result, and what `status` reports about the settings. They
//! are applied in `daemon::reload`.

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;
use tokio::sync::{mpsc, oneshot, watch};
use zeroize::Zeroizing;

use crate::config::{Account, Keyword, Settings, files};
use crate::inbound::listener::{Shown, obstacles_of};
use crate::secrets::vault::Left;
use crate::system::json::json;
use crate::system::task;
use crate::ubus::daemons;

/// How long root may take to hand over new settings: procd waits a second for more changes, then the init script runs.
const PROCD_PATIENCE: Duration = Duration::from_secs(20);

/// What root hands over.
pub struct Offer {
    /// The settings file, for messages.
    pub file: PathBuf,
    /// Its content.
    pub text: Zeroizing<Vec<u8>>,
    /// The files that it names.
    pub files: files::Files,
    /// New sockets, by their address in the settings.
    pub sockets: Vec<(SocketAddr, TcpListener)>,
    /// Warnings from root about files that others can read.
    pub said: Vec<String>,
}

/// The result of an order: the warnings, or why nothing has changed.
pub type ReloadResult = Result<Vec<String>, String>;

/// An order to the running gateway.
pub enum ReloadOrder {
    /// Apply these settings.
    Take(Box<Offer>, oneshot::Sender<ReloadResult>),
    /// Read the file again, if permitted.
    Read(oneshot::Sender<ReloadResult>),
    /// The sender has found the new settings to be invalid.
    Refuse(String, oneshot::Sender<ReloadResult>),
}

/// Where the current settings come from, and the messages about them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SettingsInfo {
    /// The file.
    pub file: PathBuf,
    /// The checksum of its content.
    pub sum: u32,
    /// When they were applied, in seconds since 1970.
    pub loaded: i64,
    /// Why the last reload was refused.
    pub error: Option<String>,
    /// Warnings about the current settings.
    pub warnings: Vec<String>,
}

/// Where devices cannot connect.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Unreachable {
    /// Why, for each address.
    pub obstacles: Vec<String>,
    /// Whether there are listeners and none of them is open.
    pub nowhere: bool,
}

impl Unreachable {
    /// For programs.
    pub fn word(&self) -> &'static str {
        match (self.nowhere, self.obstacles.is_empty()) {
            (true, _) => "no",
            (false, false) => "partly",
            (false, true) => "yes",
        }
    }

    /// `state` with what keeps devices from connecting, which is more urgent.
    pub fn before(&self, state: String) -> String {
        match self.obstacles.as_slice() {
            [] => state,
            obstacles => {
                let who = if self.nowhere { "Devices" } else { "Some devices" };
                format!("{who} cannot connect: {}. {state}", obstacles.join("; "))
            }
        }
    }
}

/// What `status` reports about settings and listeners, and the way to change the settings.
#[derive(Clone)]
pub struct ReloadDesk {
    /// To the gateway.
    pub orders: mpsc::Sender<ReloadOrder>,
    /// The settings.
    pub standing: watch::Receiver<SettingsInfo>,
    /// The listeners.
    pub listeners: watch::Receiver<Vec<Shown>>,
}

impl ReloadDesk {
    /// Reloads the settings: by the gateway itself if it may read them, otherwise by root, through procd, which runs a
    /// reload when it is notified of changed settings.
    ///
    /// # Errors
    /// Why nothing has changed.
    pub async fn read(&self) -> ReloadResult {
        let file = self.standing.borrow().file.clone();
        let may_read = task::blocking(move || match access(&file) {
            Err(nix::Error::EACCES) => daemons::settings_changed().map(|()| false),
            _ => Ok(true),
        });
        let mut standing = self.standing.clone();
        standing.mark_unchanged();
        match may_read.await.unwrap_or(Ok(true)) {
            Ok(true) => return self.order(ReloadOrder::Read).await,
            Ok(false) => {}
            Err(trouble) => {
                return Err(format!(
                    "the gateway no longer has the right to read its settings, and procd cannot be notified ({trouble}): \
                     run service smtprelay reload as root"
                ));
            }
        }
        match tokio::time::timeout(PROCD_PATIENCE, standing.changed()).await {
            Ok(Ok(())) => {
                let SettingsInfo { error, warnings, .. } = standing.borrow().clone();
                error.map_or(Ok(warnings), Err)
            }
            Ok(Err(_)) => Err("the gateway is shutting down".into()),
            Err(_) => {
                Err("procd was notified of the new settings, but they were not applied: see the system log".into())
            }
        }
    }

    /// Sends an order, and waits for its result.
    ///
    /// # Errors
    /// Why nothing has changed.
    pub async fn order(&self, order: impl FnOnce(oneshot::Sender<ReloadResult>) -> ReloadOrder) -> ReloadResult {
        let ending = |_| "the gateway is shutting down".to_string();
        let (answer, answered) = oneshot::channel();
        self.orders.send(order(answer)).await.map_err(|_| ending(()))?;
        answered.await.map_err(|_| ending(()))?
    }

    /// `settings` of `status`, for the current settings: a missing password may have been stored since, and of the
    /// leftovers of former accounts only those in `left` still exist. The gateway may not read its settings: a caller
    /// that may passes their name as `file` and their checksum as `sum`, and learns whether they have changed.
    pub fn settings(&self, now: &Settings, left: &[Left], params: &Value) -> Value {
        let SettingsInfo { file, sum, loaded, error, warnings } = &*self.standing.borrow();
        let same_file = params.get("file").and_then(Value::as_str).is_some_and(|name| Path::new(name) == file);
        let sum_now = params.get("sum").and_then(Value::as_u64).filter(|_| same_file);
        let stored = now.accounts.iter().filter(|account| !account.misses_password());
        let gone = now.left.iter().filter(|secret| !left.contains(secret)).map(|secret| secret.text.clone());
        let done: Vec<String> = stored.map(Account::password_warning).chain(gone).collect();
        let mut left: Vec<&str> = left.iter().map(|secret| secret.account.as_str()).collect();
        left.dedup();
        let warnings: Vec<&String> =
            warnings.iter().filter(|warning| !done.iter().any(|text| warning.ends_with(text))).collect();
        json!({
            "file": file.display().to_string(),
            "loaded": loaded,
            "changed": sum_now.map(|now| now != u64::from(*sum)),
            "error": error,
            "warnings": warnings,
            "secrets_left": left,
        })
    }

    /// Addresses that need no new socket, as written in the settings.
    pub fn addresses(&self) -> Vec<String> {
        let open = |shown: &Shown| shown.address.filter(|_| shown.open).map(|address| address.to_string());
        self.listeners.borrow().iter().filter_map(open).collect()
    }

    /// Why devices cannot connect: an entry for each address where they cannot, and whether they can nowhere.
    pub fn unreachable(&self) -> Unreachable {
        let listeners = self.listeners.borrow();
        let nowhere = !listeners.is_empty() && !listeners.iter().any(|shown| shown.open);
        Unreachable { obstacles: obstacles_of(&listeners), nowhere }
    }

    /// `listeners` of `status`.
    pub fn listeners(&self) -> Value {
        let view = |shown: &Shown| {
            json!({
                "name": shown.name,
                "address": shown.address.map(|address| address.ip().to_string()),
                "port": shown.address.map(|address| address.port()),
                "tls": shown.tls.word(),
                "open": shown.open,
                "note": shown.note,
            })
        };
        self.listeners.borrow().iter().map(view).collect()
    }
}

fn access(file: &Path) -> nix::Result<()> {
    nix::unistd::eaccess(file, nix::unistd::AccessFlags::R_OK)
}
