// SPDX-License-Identifier: Apache-2.0
//! The method `set_password`: write-only, and effective immediately.

use std::sync::Arc;

use serde_json::Value;
use tokio::sync::watch;

use super::CallError;
use crate::config::{Account, Settings};
use crate::oauth::Later;
use crate::secrets::Secret;
use crate::secrets::password::{PasswordFile, check};
use crate::secrets::vault::remove_left;
use crate::system::json::json;
use crate::system::task::blocking;

/// Stores the password of an account and adds it to the current settings; an empty one removes the stored password. An
/// account that is paused because of its password is retried immediately, as after every change of the settings.
///
/// If the settings have an `option password`, it takes precedence: the answer says so in `note`.
///
/// # Errors
/// `wrong`, `not_found`, or `failed` if it cannot be stored. No message contains the password.
pub fn set<'a>(publish: &'a watch::Sender<Arc<Settings>>, params: &'a Value) -> Later<'a, Result<Value, CallError>> {
    Box::pin(async move {
        let text = |name| params.get(name).and_then(Value::as_str);
        let name = text("account").ok_or_else(|| CallError::Wrong("account must be the name of an account".into()))?;
        let password = text("password").ok_or_else(|| CallError::Wrong("password must be a string".into()))?;
        let password = Secret::new(password.to_string());
        let settings = publish.borrow().clone();
        let account = settings.accounts.iter().find(|account| account.name == name);
        let missing = || CallError::NotFound(format!("no enabled account is named '{name}'"));
        let Some(account) = account else {
            // It was deleted or renamed: its leftovers may be removed.
            let (directory, gone) = (settings.relay.secrets.clone(), name.to_string());
            let removed = match password.is_empty() && settings.left.iter().any(|left| left.account == name) {
                true => blocking(move || remove_left(&directory, &gone)).await.unwrap_or(Ok(false)),
                false => Ok(false),
            };
            return match removed.map_err(CallError::Failed)? {
                true => Ok(json!({})),
                false => Err(missing()),
            };
        };
        if account.oauth.is_some() {
            let text = format!("account '{name}' logs in with tokens, not with a password: smtprelay login {name}");
            return Err(CallError::Wrong(text));
        }
        if !password.is_empty() {
            check(password.expose()).map_err(CallError::Wrong)?;
        }
        store(&settings, account, password.clone()).await.map_err(CallError::Failed)?;
        // The settings may have been reloaded meanwhile.
        let mut written = false;
        publish.send_if_modified(|settings| {
            let changed = with_password(settings, name, &password, &mut written);
            changed.map(|new| *settings = Arc::new(new)).is_some()
        });
        let note = format!(
            "the password is stored, but account '{name}' has an option password in the settings, which takes precedence; to use the stored one, run uci delete smtprelay.{name}.password"
        );
        Ok(if written { json!({ "note": note }) } else { json!({}) })
    })
}

async fn store(settings: &Settings, account: &Account, password: Secret) -> Result<(), String> {
    let place = PasswordFile::of(&settings.relay.secrets, &account.name).map_err(|error| error.to_string())?;
    let name = account.name.clone();
    let stored = blocking(move || match password.is_empty() {
        true => place.remove().map(|_| ()),
        false => place.save(&password),
    });
    stored.await.unwrap_or_else(|| Err("the gateway is shutting down".into()))?;
    log::info!(target: "smtprelay", "event=password_changed account={name}");
    Ok(())
}

/// The settings with this password; `None` if nothing changes, also for `written`: an `option password` takes
/// precedence.
fn with_password(settings: &Settings, name: &str, password: &Secret, written: &mut bool) -> Option<Settings> {
    let place = settings.accounts.iter().position(|account| account.name == name)?;
    let old = settings.accounts.get(place)?;
    *written = old.password_written;
    if *written {
        return None;
    }
    let new = old.with_password(password);
    let mut settings = settings.clone();
    *settings.accounts.get_mut(place)? = new;
    Some(settings)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::config::{load, uci};

    fn publish(dir: &std::path::Path, account: &str) -> watch::Sender<Arc<Settings>> {
        let secrets = dir.join("secrets");
        let text = format!("config relay\n option secrets '{}'\nconfig account 'a'\n{account}", secrets.display());
        watch::Sender::new(Arc::new(load::settings(&uci::parse(text.as_bytes()).unwrap()).0))
    }

    async fn set_to(publish: &watch::Sender<Arc<Settings>>, password: &str) -> Result<Value, CallError> {
        set(publish, &json!({ "account": "a", "password": password, "ubus_rpc_session": "0" })).await
    }

    fn login(publish: &watch::Sender<Arc<Settings>>) -> (Option<String>, String) {
        let account = &publish.borrow().accounts[0];
        (account.username.clone(), account.password.expose().to_string())
    }

    #[tokio::test]
    async fn it_is_stored_and_in_force_as_if_the_settings_were_read_anew() {
        let dir = tempfile::tempdir().unwrap();
        for (account, name) in [
            (" option provider 'gmail'\n option username 'me@gmail.com'\n", "me@gmail.com"),
            (" option provider 'sendgrid'\n option from 'me@example.com'\n", "apikey"),
            (" option provider 'postmark'\n option from 'me@example.com'\n", ""),
        ] {
            let publish = publish(dir.path(), account);
            assert!(publish.borrow().accounts[0].misses_password(), "{account}");
            let mut seen = publish.subscribe();
            for password in ["abcd efgh ijkl mnop", "ponm lkji hgfe dcba"] {
                assert_eq!(set_to(&publish, password).await, Ok(json!({})));
                assert!(seen.has_changed().unwrap());
                seen.mark_unchanged();
                let meant = if name.contains('@') { password.replace(' ', "") } else { password.to_string() };
                let name = if name.is_empty() { &meant } else { name };
                assert_eq!(login(&publish), (Some(name.to_string()), meant.clone()));
                let place = PasswordFile::of(&dir.path().join("secrets"), "a").unwrap();
                assert_eq!(place.load().unwrap().unwrap().expose(), password);
            }
            assert_eq!(set_to(&publish, "").await, Ok(json!({})));
            assert!(publish.borrow().accounts[0].misses_password(), "{account}");
        }
    }

    #[tokio::test]
    async fn an_option_goes_before_it() {
        let dir = tempfile::tempdir().unwrap();
        let publish = publish(dir.path(), " option host 'mx'\n option username 'me@x.y'\n option password 'old'\n");
        let seen = publish.subscribe();
        let note = set_to(&publish, "new").await.unwrap();
        assert!(note["note"].as_str().unwrap().contains("uci delete smtprelay.a.password"), "{note}");
        assert_eq!((login(&publish).1.as_str(), seen.has_changed().unwrap()), ("old", false));
    }

    #[tokio::test]
    async fn what_cannot_be_done_is_told_without_the_password() {
        let dir = tempfile::tempdir().unwrap();
        let publish = publish(dir.path(), " option host 'mx'\n option username 'me@x.y'\n");
        let token = self::publish(
            dir.path(),
            " option host 'mx'\n option username 'me@x.y'\n option auth 'xoauth2'\n option oauth 'microsoft'\n option client_id 'c'\n",
        );
        std::fs::write(dir.path().join("secrets"), "in the way").unwrap();
        for (publish, params, kind) in [
            (&publish, json!({ "account": "b", "password": "hunter2" }), "not_found"),
            (&publish, json!({ "account": "a", "password": "hunt\ner2" }), "wrong"),
            (&publish, json!({ "account": "a", "password": "x".repeat(2000) }), "wrong"),
            (&publish, json!({ "account": "a", "password": 5 }), "wrong"),
            (&publish, json!({ "password": "hunter2" }), "wrong"),
            (&publish, json!({ "account": "a", "password": "hunter2" }), "failed"),
            (&token, json!({ "account": "a", "password": "hunter2" }), "wrong"),
        ] {
            let refusal = set(publish, &params).await.unwrap_err();
            assert_eq!(refusal.kind(), kind, "{refusal}");
            assert!(!refusal.to_string().contains("hunt") && !refusal.to_string().contains("xxx"), "{refusal}");
        }
        assert!(publish.borrow().accounts[0].misses_password());
    }
}
