// SPDX-License-Identifier: Apache-2.0

use super::*;
use crate::config::Loaded;
use crate::control::reload::ReloadDesk;
use std::path::Path;
use tokio::sync::mpsc;
use zeroize::Zeroizing;

const GOOD: &str = "config listener 'lan'\n\tlist address '127.0.0.1'\n\toption port '0'\n
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
    (SettingsKeeper::new(file.into(), Vec::new(), publish, Arc::default()), current)
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
    let warnings = keeper.take(offer(&format!("config relay 'main'\n\toption spool '/other'\n{GOOD}"))).await.unwrap();
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
    let told = |settings: &Settings| desk.settings(settings, &[])["warnings"].as_array().unwrap().len();
    let mut settings = Settings::clone(&current.borrow());
    assert_eq!(told(&settings), 1, "{}", desk.settings(&settings, &[]));
    settings.accounts[0] = settings.accounts[0].with_password(&crate::secrets::Secret::new("p".into()));
    assert_eq!(told(&settings), 0, "{}", desk.settings(&settings, &[]));
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
