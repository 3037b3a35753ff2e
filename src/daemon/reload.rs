// SPDX-License-Identifier: Apache-2.0
//! New settings for a running gateway.
//!
//! The gateway no longer has the right to read its settings or to bind a port below 1024. So `smtprelay reload`, run by
//! root, checks the new settings and hands over open files and sockets ([`crate::control::fd_passing`]); this module
//! applies them. Invalid settings change nothing, wherever the error is found. Sessions are not affected.

use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::watch;

use super::startup;
use crate::config::{self, Settings, effect, files};
use crate::control::reload::{Offer, ReloadOrder, ReloadResult, SettingsInfo};
use crate::inbound::listener::Sockets;
use crate::report::Event;
use crate::system::{clock, task};

/// Applies new settings.
pub struct SettingsKeeper {
    file: PathBuf,
    publish: watch::Sender<Arc<Settings>>,
    standing: watch::Sender<SettingsInfo>,
    sockets: Arc<Sockets>,
}

impl SettingsKeeper {
    /// For settings from `file` with these warnings, which are in use from now on.
    pub fn new(
        file: PathBuf,
        warnings: Vec<String>,
        publish: watch::Sender<Arc<Settings>>,
        sockets: Arc<Sockets>,
    ) -> Self {
        let standing = SettingsInfo { file: file.clone(), loaded: clock::now(), error: None, warnings };
        Self { file, publish, standing: watch::Sender::new(standing), sockets }
    }

    /// The state of the settings, now and after each change.
    pub fn standing(&self) -> watch::Receiver<SettingsInfo> {
        self.standing.subscribe()
    }

    /// Carries out an order. The caller may be gone by then.
    pub async fn obey(&self, order: ReloadOrder) {
        let _ = match order {
            ReloadOrder::Take(offer, answer) => answer.send(self.take(*offer).await),
            ReloadOrder::Read(answer) => answer.send(self.read().await),
            ReloadOrder::Refuse(reason, answer) => answer.send(Err(self.refuse(reason))),
        };
    }

    /// Reads the file again. Only a gateway with read access to it can do that.
    ///
    /// # Errors
    /// Why nothing has changed.
    pub async fn read(&self) -> ReloadResult {
        let file = self.file.clone();
        let read = task::blocking(move || {
            let opened = std::fs::File::open(&file);
            match opened.and_then(|opened| files::contents(opened, config::FILE_LIMIT + 1)) {
                Ok(text) => Ok(Offer { file, text, files: files::Files::new(), sockets: Vec::new(), said: Vec::new() }),
                Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => Err(format!(
                    "the gateway no longer has the right to read {}: run service smtprelay reload (or smtprelay reload) as root",
                    file.display()
                )),
                Err(error) => Err(format!("{}: cannot read the settings: {error}", file.display())),
            }
        });
        match read.await {
            Some(Ok(offer)) => self.take(offer).await,
            Some(Err(reason)) => Err(self.refuse(reason)),
            None => Err("the gateway is shutting down".into()),
        }
    }

    /// All or nothing, and atomically: whoever sees the new settings also finds the new sockets.
    async fn take(&self, offer: Offer) -> ReloadResult {
        // Reads stored passwords, and the files that accounts trust.
        let parsed = task::blocking(move || {
            let mut parsed = config::parse(&offer.file, &offer.text);
            if let Ok(loaded) = &mut parsed {
                startup::stamp(&mut loaded.settings, &offer.files);
            }
            (parsed, offer)
        })
        .await;
        let (loaded, offer) = match parsed {
            Some((Ok(loaded), offer)) => (loaded, offer),
            Some((Err(error), _)) => return Err(self.refuse(error.to_string().replace('\n', "; "))),
            None => return Err("the gateway is shutting down".into()),
        };
        let mut warnings = config::worth_telling(&offer.file, &loaded.warnings);
        warnings.extend(offer.said);
        let mut settings = loaded.settings;
        let later = effect::keep_until_start(&self.publish.borrow().relay, &mut settings.relay);
        warnings.extend((!later.is_empty()).then(|| effect::sentence(&later)));
        for text in &warnings {
            Event::Advice { text: text.clone() }.log();
        }
        files::replace(offer.files);
        self.sockets.add(offer.sockets);
        log::set_max_level(settings.relay.log_level);
        self.publish.send_replace(Arc::new(settings));
        let standing = SettingsInfo { file: offer.file, loaded: clock::now(), error: None, warnings: warnings.clone() };
        self.standing.send_replace(standing);
        Event::Reloaded.log();
        Ok(warnings)
    }

    /// The current settings stay in use.
    fn refuse(&self, reason: String) -> String {
        Event::ReloadRefused { reason: reason.clone() }.log();
        self.standing.send_modify(|standing| standing.error = Some(reason.clone()));
        reason
    }
}

#[cfg(test)]
#[path = "reload_tests.rs"]
mod tests;
