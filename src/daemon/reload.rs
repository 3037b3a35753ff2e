// SPDX-License-Identifier: Apache-2.0
//! New settings for a running gateway, and what else root opens for it.
//!
//! The gateway no longer has the right to read its settings or to bind a port below 1024. So `smtprelay reload`, run by
//! root, checks the new settings and hands over open files and sockets ([`crate::control::socket`]); [`SettingsKeeper`]
//! applies them. Invalid settings change nothing, wherever the error is found. Sessions are not affected.
//!
//! The init script names the networks of the listeners to procd, and procd runs a reload when one of them changes. The
//! gateway asks for the rest: an address on an interface that netifd does not know, a change at the moment when procd
//! learns about the networks ([`ask_for_sockets`]), and the log socket of a restarted log daemon, which a gateway in a
//! jail cannot see ([`ask_for_log`]).

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use super::startup;
use crate::config::{self, Settings, effect, files};
use crate::control::reload::{Offer, ReloadOrder, ReloadResult, SettingsInfo};
use crate::inbound::listener::{Shown, Sockets};
use crate::report::{Event, subject};
use crate::system::{clock, logging, task};

/// Applies new settings.
pub struct SettingsKeeper {
    file: PathBuf,
    publish: watch::Sender<Arc<Settings>>,
    standing: watch::Sender<SettingsInfo>,
    sockets: Arc<Sockets>,
}

impl SettingsKeeper {
    /// For settings from `file` with the checksum `sum` and these warnings, which are in use from now on.
    pub fn new(
        (file, sum): (PathBuf, u32),
        warnings: Vec<String>,
        publish: watch::Sender<Arc<Settings>>,
        sockets: Arc<Sockets>,
    ) -> Self {
        let standing = SettingsInfo { file: file.clone(), sum, loaded: clock::now(), error: None, warnings };
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
        let (mut settings, sum) = (loaded.settings, loaded.sum);
        let later = effect::keep_until_start(&self.publish.borrow().relay, &mut settings.relay);
        warnings.extend((!later.is_empty()).then(|| effect::sentence(&later)));
        for text in &warnings {
            Event::Advice { text: text.clone() }.log();
        }
        files::replace(offer.files);
        self.sockets.add(offer.sockets);
        log::set_max_level(settings.relay.log_level);
        subject::show(settings.relay.log_subject);
        if !settings.relay.log_subject {
            logging::forget(" subject=");
        }
        self.publish.send_replace(Arc::new(settings));
        let (file, loaded) = (offer.file, clock::now());
        let standing = SettingsInfo { file, sum, loaded, error: None, warnings: warnings.clone() };
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

/// How long procd has for a reload of its own.
const FIRST: Duration = Duration::from_secs(10);
/// After that procd is asked, first after this time and then less and less often.
const NEXT: Duration = Duration::from_secs(60);
/// The longest interval.
const LONGEST: Duration = Duration::from_secs(3600);

/// After this time without a lost line, logging is considered restored.
const CALM: Duration = Duration::from_secs(600);

/// The pauses before each request to procd.
fn pauses() -> impl Iterator<Item = Duration> {
    let ever_longer = |pause: &Duration| Some((*pause * 2).min(LONGEST));
    std::iter::once(FIRST).chain(std::iter::successors(Some(NEXT), ever_longer))
}

/// Requests a reload for as long as a listener lacks an address that only root can open. Ends with the listeners.
pub async fn ask_for_sockets(listeners: watch::Receiver<Vec<Shown>>, ask: impl AsyncFn()) {
    ask_for_sockets_with(listeners, ask, pauses).await;
}

async fn ask_for_sockets_with<P: Iterator<Item = Duration>>(
    mut listeners: watch::Receiver<Vec<Shown>>,
    ask: impl AsyncFn(),
    pauses: impl Fn() -> P,
) {
    let lacks = |shown: &Vec<Shown>| shown.iter().any(|listener| listener.needs_root);
    while listeners.wait_for(lacks).await.is_ok() {
        for pause in pauses() {
            let settled = timeout(pause, listeners.wait_for(|shown| !lacks(shown))).await.map(|there| there.is_ok());
            match settled {
                Ok(true) => break,
                Ok(false) => return,
                Err(_) => ask().await,
            }
        }
    }
}

/// Requests a reload, which provides a new connection to the log, whenever `lost` reports that a line could not be sent
/// there. Does not end.
pub async fn ask_for_log(lost: impl AsyncFn(), ask: impl AsyncFn()) {
    ask_for_log_with(lost, ask, pauses).await;
}

async fn ask_for_log_with<P: Iterator<Item = Duration>>(
    lost: impl AsyncFn(),
    ask: impl AsyncFn(),
    pauses: impl Fn() -> P,
) {
    loop {
        for pause in pauses() {
            if timeout(CALM, lost()).await.is_err() {
                break;
            }
            ask().await;
            sleep(pause).await;
            // Lines from before the new connection was there, and those of the reload itself if there is none.
            let _ = timeout(Duration::ZERO, lost()).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::path::Path;

    use serde_json::Value;
    use tokio::sync::mpsc;
    use zeroize::Zeroizing;

    use super::*;
    use crate::config::{Loaded, TlsMode};
    use crate::control::reload::ReloadDesk;

    const GOOD: &str = "config listener 'lan'\n\tlist address '127.0.0.1'\n\toption port '0'\n\n\
    config account 'a'\n\toption host 'mail.example'\n\toption from 'me@example.com'\n";

    fn loaded(text: &str) -> Loaded {
        config::parse(Path::new("/etc/config/smtprelay"), text.as_bytes()).unwrap()
    }

    fn offer(text: &str) -> Offer {
        let file = PathBuf::from("/etc/config/smtprelay");
        let text = Zeroizing::new(text.as_bytes().to_vec());
        Offer { file, text, files: files::Files::new(), sockets: Vec::new(), said: Vec::new() }
    }

    fn keeper(file: &Path) -> (SettingsKeeper, watch::Receiver<Arc<Settings>>) {
        let (publish, current) = watch::channel(Arc::new(loaded(GOOD).settings));
        (SettingsKeeper::new((file.into(), 0), Vec::new(), publish, Arc::default()), current)
    }

    #[tokio::test]
    async fn good_settings_are_in_use_at_once_and_bad_ones_change_nothing() {
        let (keeper, current) = keeper(Path::new("/x"));
        let standing = keeper.standing();
        let reason = keeper.take(offer(&GOOD.replace("'0'", "'99999'"))).await.unwrap_err();
        assert!(reason.contains("/etc/config/smtprelay:3: error: "), "{reason}");
        assert_eq!(current.borrow().listeners[0].port, 0);
        assert_eq!((standing.borrow().error.clone(), standing.borrow().file.clone()), (Some(reason), "/x".into()));
        let warnings = keeper.take(offer(&GOOD.replace("'0'", "'2525'\n\toption colour 'red'"))).await.unwrap();
        assert!(
            warnings.len() == 1 && warnings[0].contains(":4: warning: ") && warnings[0].contains("colour"),
            "{warnings:?}"
        );
        assert_eq!(current.borrow().listeners[0].port, 2525);
        assert_eq!((standing.borrow().error.clone(), standing.borrow().warnings.clone()), (None, warnings));
    }

    #[tokio::test]
    async fn what_holds_from_the_next_start_on_is_told() {
        let (keeper, _current) = keeper(Path::new("/x"));
        let warnings =
            keeper.take(offer(&format!("config relay 'main'\n\toption spool '/other'\n{GOOD}"))).await.unwrap();
        assert!(
            warnings.iter().any(|text| text.contains("a change to option spool takes effect at the next start")),
            "{warnings:?}"
        );
    }

    #[tokio::test]
    async fn that_a_password_is_missing_is_told_until_one_is_stored() {
        let text = format!("{GOOD}\toption username 'me'\n");
        let (keeper, current) = keeper(Path::new("/x"));
        keeper.take(offer(&text)).await.unwrap();
        let (orders, _) = mpsc::channel(1);
        let desk =
            ReloadDesk { orders, standing: keeper.standing(), listeners: watch::Sender::new(Vec::new()).subscribe() };
        let told =
            |settings: &Settings| desk.settings(settings, &[], &Value::Null)["warnings"].as_array().unwrap().len();
        let mut settings = Settings::clone(&current.borrow());
        assert_eq!(told(&settings), 1, "{}", desk.settings(&settings, &[], &Value::Null));
        settings.accounts[0] = settings.accounts[0].with_password(&crate::secrets::Secret::new("p".into()));
        assert_eq!(told(&settings), 0, "{}", desk.settings(&settings, &[], &Value::Null));
    }

    #[tokio::test]
    async fn the_file_is_read_again_where_that_is_possible() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("smtprelay");
        let (keeper, current) = keeper(&file);
        let reason = keeper.read().await.unwrap_err();
        assert!(reason.contains("cannot read the settings"), "{reason}");
        assert_eq!(keeper.standing().borrow().error.as_deref(), Some(reason.as_str()));
        std::fs::write(&file, GOOD.replace("'0'", "'2526'")).unwrap();
        assert_eq!(keeper.read().await, Ok(Vec::new()));
        assert_eq!(current.borrow().listeners[0].port, 2526);
    }

    fn shown(needs_root: bool) -> Vec<Shown> {
        vec![Shown { name: "lan".into(), address: None, open: !needs_root, tls: TlsMode::None, note: None, needs_root }]
    }

    #[test]
    fn procd_has_its_time_and_is_asked_ever_more_rarely() {
        let seconds: Vec<u64> = pauses().take(9).map(|pause| pause.as_secs()).collect();
        assert_eq!(seconds, [10, 60, 120, 240, 480, 960, 1920, 3600, 3600]);
    }

    #[tokio::test]
    async fn it_is_asked_for_while_it_is_needed() {
        let (listeners, seen) = watch::channel(shown(true));
        let (listeners, asked) = (Cell::new(Some(listeners)), Cell::new(0));
        let ask = async || {
            asked.set(asked.get() + 1);
            let Some(sender) = listeners.take() else { return };
            match asked.get() {
                // The third reload helps; then another one is needed.
                3 => drop(sender.send_replace(shown(false))),
                // The one after it finds that the gateway has ended.
                5 => return,
                _ => drop(sender.send_replace(shown(true))),
            }
            listeners.set(Some(sender));
        };
        let again = async {
            while asked.get() < 3 {
                tokio::task::yield_now().await;
            }
            let sender = listeners.take().unwrap();
            assert!(!sender.borrow()[0].needs_root);
            sender.send_replace(shown(true));
            listeners.set(Some(sender));
        };
        tokio::join!(ask_for_sockets_with(seen, ask, || std::iter::repeat(Duration::ZERO)), again);
        assert_eq!(asked.get(), 5);
    }

    #[tokio::test]
    async fn a_lost_line_asks_and_those_of_the_reload_do_not() {
        let (lines, asked) = (tokio::sync::Notify::new(), Cell::new(0));
        let ask = async || {
            asked.set(asked.get() + 1);
            // The messages of the reload itself are lost as well.
            lines.notify_one();
        };
        let device = async {
            for round in 1..=3 {
                lines.notify_one();
                while asked.get() < round {
                    sleep(Duration::from_millis(1)).await;
                }
                for _ in 0..10 {
                    sleep(Duration::from_millis(1)).await;
                }
                assert_eq!(asked.get(), round);
            }
        };
        let pauses = || std::iter::repeat(Duration::ZERO);
        tokio::select! {
            () = ask_for_log_with(async || lines.notified().await, ask, pauses) => unreachable!("it does not end"),
            () = device => {}
        }
    }
}
