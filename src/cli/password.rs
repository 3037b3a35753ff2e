// SPDX-License-Identifier: Apache-2.0
//! `smtprelay password ACCOUNT`: stores the password of an account encrypted, whether or not the gateway is running.

use std::io::IsTerminal;
use std::path::Path;
use std::process::ExitCode;

use serde_json::json;
use smtprelay::config::{self, Relay, stored};
use smtprelay::control::client::{CallFailure, ControlClient};
use smtprelay::secrets::Secret;
use smtprelay::secrets::left;
use smtprelay::secrets::password::{PasswordFile, check};

use super::{complain, exit, print, terminal};

/// A failure: the exit code and the error message.
type Fault = (u8, String);

/// Prompts for the password of the account called `name` and stores it, or with `delete` removes the stored one.
pub fn password(name: &str, delete: bool, file: &Path) -> ExitCode {
    match change(name, delete, file) {
        Ok(text) => print(&text),
        Err((code, text)) => {
            complain(&format!("smtprelay: {text}"));
            ExitCode::from(code)
        }
    }
}

fn change(name: &str, delete: bool, file: &Path) -> Result<String, Fault> {
    let usage = |text: String| (exit::USAGE, text);
    let failed = |text: String| (1, text);
    // Settings that are not valid yet may lack just this password.
    let (relay, logins) = config::outline(file).map_err(|error| failed(error.to_string()))?;
    let Some(login) = logins.iter().find(|login| login.account == name) else {
        if delete && left::remove(&relay.secrets, name).map_err(failed)? {
            return Ok(format!("removed the stored secrets of account '{name}', which is no longer in the settings\n"));
        }
        let names: Vec<&str> = logins.iter().map(|login| login.account.as_str()).collect();
        let (file, names) = (file.display(), names.join(", "));
        return Err(usage(format!("no account is named '{name}' in {file}; accounts: {names}")));
    };
    if login.tokens && !delete {
        return Err(usage(format!("account '{name}' uses OAuth tokens, not a password: run 'smtprelay login {name}'")));
    }
    if !relay.secrets.is_absolute() {
        return Err(usage(format!("option secrets in {} must be an absolute path", file.display())));
    }
    let place = PasswordFile::of(&relay.secrets, name).map_err(|error| usage(error.to_string()))?;
    let entered = match delete {
        true => None,
        false => enter(name)?,
    };
    let mut text = match &entered {
        Some(password) => {
            place.save(password).map_err(failed)?;
            format!("the password of account '{name}' is stored encrypted in {}\n", place.path().display())
        }
        None if place.remove().map_err(failed)? => {
            format!("the stored password of account '{name}' has been removed\n")
        }
        None => return Ok(format!("no password is stored for account '{name}'\n")),
    };
    // It is stored, and perhaps others can read it there.
    let drives = config::advice::drives(&relay);
    let about = format!("option secrets '{}'", relay.secrets.display());
    drives.iter().filter(|drive| entered.is_some() && drive.text.starts_with(&about)).for_each(|d| complain(&d.text));
    if !login.tokens {
        text += &tell(&relay, login, entered.as_ref(), file);
    }
    Ok(text)
}

/// The password; `None` if the stored one is to be removed.
fn enter(name: &str) -> Result<Option<Secret>, Fault> {
    let failed = |error: std::io::Error| (1, format!("cannot read the password: {error}"));
    if !std::io::stdin().is_terminal() {
        let password = terminal::line().map_err(failed)?;
        // A script whose variable is empty does not intend to remove the password.
        return match check(password.expose()) {
            Ok(()) => Ok(Some(password)),
            Err(text) => {
                Err((exit::USAGE, format!("{text}; nothing was changed; use --delete to remove a stored password")))
            }
        };
    }
    let prompt = format!("Password of account '{name}' (leave empty to remove the stored one): ");
    let first = terminal::hidden(&prompt).map_err(failed)?;
    if first.is_empty() {
        return Ok(None);
    }
    check(first.expose()).map_err(|text| (exit::USAGE, format!("{text}; nothing was changed")))?;
    match terminal::hidden("Repeat password: ").map_err(failed)? == first {
        true => Ok(Some(first)),
        false => Err((exit::USAGE, "the passwords do not match; nothing was changed".into())),
    }
}

/// Makes the running gateway use it at once. Returns what to report about that.
fn tell(relay: &Relay, login: &stored::AccountLogin, password: Option<&Secret>, file: &Path) -> String {
    let name = &login.account;
    if login.written.is_some() {
        return format!(
            "option password of account '{name}' in {} still takes precedence; remove it: uci delete smtprelay.{name}.password; uci commit smtprelay; service smtprelay reload\n",
            file.display()
        );
    }
    let later =
        |why: &str| format!("the running gateway could not be notified: {why}; run 'service smtprelay reload'\n");
    let mut client = match ControlClient::connect(&relay.spool) {
        Ok(Some(client)) => client,
        Ok(None) => return String::new(),
        Err(text) => return later(&text),
    };
    let text = password.map(Secret::expose).unwrap_or_default();
    match client.call("set_password", json!({ "account": name, "password": text })) {
        Ok(_) if password.is_some() => "the gateway now uses it\n".into(),
        Ok(_) => "the gateway no longer uses it\n".into(),
        Err(CallFailure { text, .. }) => later(&text),
    }
}
