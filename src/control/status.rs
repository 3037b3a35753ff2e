// SPDX-License-Identifier: Apache-2.0
//! The method `status`: the state of everything, so that one look says why mail is not sent.

use serde_json::{Value, json};

use super::api::Api;
use super::methods::CallError;
use crate::VERSION;
use crate::config::{Account, Settings, TlsMode};
use crate::dispatch::{AccountHealth, Health, Order};
use crate::oauth::keeper;
use crate::report::History;
use crate::secrets::left::Left;
use crate::system::lock;
use crate::system::{clock, task};

impl Api {
    pub(super) async fn status(&self) -> Result<Value, CallError> {
        let health = self.order(|answer| Order::Health { answer }).await?;
        let settings = self.settings.borrow().clone();
        let accounts = settings.accounts.clone();
        let mut left = settings.left.clone();
        let looked = task::blocking(move || {
            left.retain(Left::is_there);
            (accounts.iter().map(secret).collect::<Vec<_>>(), left)
        });
        let (secrets, left) = looked.await.unwrap_or_default();
        let ((bytes, _, limit), wear) = (self.spool.usage_now(), self.spool.wear());
        let (endangered, endangered_bytes) = self.spool.in_danger();
        let safe = settings.relay.safe_spool.as_ref().map(|path| {
            json!({ "path": path.display().to_string(), "files_written": wear.files, "bytes_written": wear.bytes })
        });
        let history = lock(&self.history);
        let known = settings.accounts.iter().zip(secrets);
        let accounts: Vec<Value> =
            known.map(|(account, secret)| described(account, secret, &health, &history)).collect();
        let (state, sentence) = (state(&settings, &health), sentence(&settings, &health));
        Ok(json!({
            "version": VERSION,
            "running": self.started.elapsed().as_secs(),
            "health": sentence,
            "state": state,
            "settings": self.reload().settings(&settings, &left),
            "listeners": self.reload().listeners(),
            "clock": { "set": clock::is_set(), "now": clock::now() },
            "accounts": accounts,
            "queue": {
                "messages": health.waiting,
                "held": health.held,
                "reporting": health.reporting,
                "bytes": bytes,
                "limit": limit,
                "recovering": health.recovering,
            },
            "safe_spool": safe,
            "power_cut": {
                "messages": endangered,
                "bytes": endangered_bytes,
                "meaning": settings.relay.promise(),
            },
            "last": history.last(None),
            "today": history.today(clock::now()),
            "counters": history.counters(),
        }))
    }
}

/// Whether the account has its secret. Reads a file for accounts with an OAuth login.
fn secret(account: &Account) -> &'static str {
    let there = match (&account.username, &account.oauth) {
        _ if account.misses_password() => false,
        (None, _) => return "none",
        (Some(_), None) => !account.password.is_empty(),
        (Some(_), Some(_)) => keeper::signed_in(account),
    };
    if there { "set" } else { "missing" }
}

/// An account: its settings, whether it works, and when it last did.
fn described(account: &Account, secret: &str, health: &Health, history: &History) -> Value {
    let is_it = |known: &&AccountHealth| known.name == account.name;
    let paused = health.accounts.iter().find(is_it).and_then(|known| known.pause.as_ref()).map(|pause| {
        let remedy = Some(&pause.remedy).filter(|remedy| !remedy.is_empty());
        let (since, next) = (pause.since.as_secs(), pause.next.unwrap_or_default().as_secs());
        json!({ "reason": pause.reason, "remedy": remedy, "since": since, "next": next })
    });
    let auth = match (&account.username, &account.oauth) {
        _ if account.misses_password() => "password",
        (None, _) => "none",
        (Some(_), None) => "password",
        (Some(_), Some(_)) => "xoauth2",
    };
    let tls = match account.tls {
        TlsMode::Implicit => "implicit",
        TlsMode::StartTls => "starttls",
        TlsMode::None => "none",
    };
    json!({
        "name": account.name,
        "provider": account.provider,
        "host": account.host,
        "port": account.port,
        "tls_mode": tls,
        "from": account.from,
        "username": account.shown_username(),
        "auth": auth,
        "secret": secret,
        "paused": paused,
        "last": history.last(Some(&account.name)),
    })
}

/// The state, for programs.
fn state(settings: &Settings, health: &Health) -> &'static str {
    match &health.paused {
        _ if settings.accounts.is_empty() => "no_account",
        Some(_) => "paused",
        None => "relaying",
    }
}

/// The state, in one line.
fn sentence(settings: &Settings, health: &Health) -> String {
    let waiting = match health.waiting {
        0 => "no messages waiting".to_string(),
        1 => "1 message waiting".to_string(),
        n => format!("{n} messages waiting"),
    };
    let waiting = match health.held {
        0 => waiting,
        held => format!("{waiting} ({held} held: smtprelay queue says why)"),
    };
    match &health.paused {
        _ if settings.accounts.is_empty() => {
            format!(
                "Not relaying, {waiting}: no account is set up; set provider, username and password of a section account"
            )
        }
        Some((reason, Some(next))) => {
            format!("Not relaying, {waiting}, next attempt in {} s: {reason}", next.as_secs())
        }
        Some((reason, None)) => format!("Not relaying, {waiting}: {reason}"),
        None => format!("Relaying; {waiting}."),
    }
}
