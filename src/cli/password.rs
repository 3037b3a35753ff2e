//! `smtprelay password ACCOUNT`: stores the password of an account encrypted, whether the gateway runs or not.

use std::io::IsTerminal;
use std::path::Path;
use std::process::ExitCode;

use serde_json::json;
use smtprelay::config::{self, Relay, stored};
use smtprelay::control::client::{Client, Failure};
use smtprelay::secrets::Secret;
use smtprelay::secrets::left;
use smtprelay::secrets::password::{Place, check};

use super::{complain, exit, print, terminal};

/// What went wrong: the exit code, and what to say.
type Fault = (u8, String);

/// Asks for the password of the account called `name` and stores it, or with `delete` removes the stored one.
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
    // Settings that can't be used yet may lack just this password.
    let (relay, logins) = config::outline(file).map_err(|error| failed(error.to_string()))?;
    let Some(login) = logins.iter().find(|login| login.account == name) else {
        if delete && left::remove(&relay.secrets, name).map_err(failed)? {
            return Ok(format!(
                "what was stored for account '{name}', which is not in the settings any more, is removed\n"
            ));
        }
        let names: Vec<&str> = logins.iter().map(|login| login.account.as_str()).collect();
        let (file, names) = (file.display(), names.join(", "));
        return Err(usage(format!("there is no account '{name}' in {file}; there is {names}")));
    };
    if login.tokens && !delete {
        return Err(usage(format!(
            "account '{name}' logs in with tokens, not with a password: smtprelay login {name}"
        )));
    }
    if !relay.secrets.is_absolute() {
        return Err(usage(format!("option secrets in {} must be an absolute path", file.display())));
    }
    let place = Place::of(&relay.secrets, name).map_err(|error| usage(error.to_string()))?;
    let entered = match delete {
        true => None,
        false => enter(name)?,
    };
    let mut text = match &entered {
        Some(password) => {
            place.save(password).map_err(failed)?;
            format!("the password of account '{name}' is stored encrypted in {}\n", place.path().display())
        }
        None if place.remove().map_err(failed)? => format!("the stored password of account '{name}' is removed\n"),
        None => return Ok(format!("no password of account '{name}' was stored\n")),
    };
    // It is stored, and perhaps others can read it where it lies.
    let drives = config::permissions::drives(&relay);
    let about = format!("option secrets '{}'", relay.secrets.display());
    drives.iter().filter(|drive| entered.is_some() && drive.text.starts_with(&about)).for_each(|d| complain(&d.text));
    if !login.tokens {
        text += &tell(&relay, login, entered.as_ref(), file);
    }
    Ok(text)
}

/// The password; `None` when the stored one is to be removed.
fn enter(name: &str) -> Result<Option<Secret>, Fault> {
    let failed = |error: std::io::Error| (1, format!("can't read the password: {error}"));
    if !std::io::stdin().is_terminal() {
        let password = terminal::line().map_err(failed)?;
        // A script whose variable is empty does not mean to lose the password.
        return match check(password.expose()) {
            Ok(()) => Ok(Some(password)),
            Err(text) => Err((exit::USAGE, format!("{text}; nothing was changed; --delete removes a stored password"))),
        };
    }
    let prompt = format!("Password of account '{name}' (nothing removes a stored one): ");
    let first = terminal::hidden(&prompt).map_err(failed)?;
    if first.is_empty() {
        return Ok(None);
    }
    check(first.expose()).map_err(|text| (exit::USAGE, format!("{text}; nothing was changed")))?;
    match terminal::hidden("Once more: ").map_err(failed)? == first {
        true => Ok(Some(first)),
        false => Err((exit::USAGE, "that was another one; nothing was changed".into())),
    }
}

/// Has the running gateway use it at once. Returns what is to be said about it.
fn tell(relay: &Relay, login: &stored::Login, password: Option<&Secret>, file: &Path) -> String {
    let name = &login.account;
    if login.written.is_some() {
        return format!(
            "option password of account '{name}' in {} still counts; remove it: uci delete smtprelay.{name}.password; uci commit smtprelay; service smtprelay reload\n",
            file.display()
        );
    }
    let later = |why: &str| format!("the gateway runs and does not know of it yet: {why}; service smtprelay reload\n");
    let mut client = match Client::connect(&relay.spool) {
        Ok(Some(client)) => client,
        Ok(None) => return String::new(),
        Err(text) => return later(&text),
    };
    let text = password.map(Secret::expose).unwrap_or_default();
    match client.call("set_password", json!({ "account": name, "password": text })) {
        Ok(_) if password.is_some() => "the gateway uses it from now on\n".into(),
        Ok(_) => "the gateway does not use it any more\n".into(),
        Err(Failure { text, .. }) => later(&text),
    }
}
