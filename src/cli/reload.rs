// SPDX-License-Identifier: Apache-2.0
//! `smtprelay reload`: what root does for a gateway that does not run as root. Checks the new settings, opens what only
//! root can open, and passes it to the gateway.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use smtprelay::config::files;
use smtprelay::config::{self, ConfigError, Loaded, Relay, Severity};
use smtprelay::control::client::{CallFailure, ControlClient};
use smtprelay::control::fd_passing;
use smtprelay::daemon::startup;
use smtprelay::inbound::listener;
use smtprelay::queue::SpoolLock;
use smtprelay::system::{logging, privileges};

use super::{complain, exit};

/// How long to wait for a gateway that is starting.
const STARTING: Duration = Duration::from_secs(30);

/// Checks the settings in `file` and makes the running gateway apply them.
pub fn reload(file: &Path) -> ExitCode {
    let loaded = match config::load(file) {
        Ok(loaded) => loaded,
        Err(error) => return refuse(file, &error),
    };
    let handed = connect(&loaded.settings.relay.spool).and_then(|mut client| {
        hand_over_log(&mut client);
        hand_over(file, &loaded, &mut client)
    });
    match handed {
        Ok(()) => ExitCode::SUCCESS,
        Err((code, text)) => {
            complain(&format!("smtprelay: {text}"));
            ExitCode::from(code)
        }
    }
}

/// Waits for a gateway that is starting: a large queue on slow flash takes a while.
fn connect(spool: &Path) -> Result<ControlClient, (u8, String)> {
    let begun = Instant::now();
    loop {
        if let Some(client) = ControlClient::connect(spool).map_err(|text| (exit::UNAVAILABLE, text))? {
            return Ok(client);
        }
        if matches!(SpoolLock::try_take(spool), Err(_) | Ok(Some(_))) {
            let text =
                format!("no gateway is running on {}; start it with 'service smtprelay restart'", spool.display());
            return Err((exit::UNAVAILABLE, text));
        }
        if begun.elapsed() > STARTING {
            return Err((exit::TEMPORARY, "the gateway is starting or stopping; try again".into()));
        }
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// Reports the errors to the user, and to the gateway, whose `status` shows them from now on.
fn refuse(file: &Path, error: &ConfigError) -> ExitCode {
    complain(&error.to_string());
    if let Ok(Some(mut client)) = ControlClient::connect(&spool_of(file, error)) {
        hand_over_log(&mut client);
        let wrong = error.problems.iter().filter(|problem| problem.severity == Severity::Error);
        let reason: Vec<_> = wrong.map(|problem| config::describe(file, problem)).collect();
        // An older gateway does not know this request; then only the user sees the errors.
        let _ = client.call("reload_refused", json!({ "reason": shortened(reason.join("; ")) }));
    }
    ExitCode::FAILURE
}

/// A connection to the current log daemon, which may have been started after the gateway's jail was created. The result
/// is ignored: the settings do not depend on it, an older gateway does not know this request, and without a log daemon
/// there is nothing to pass.
fn hand_over_log(client: &mut ControlClient) {
    if let Ok(opened) = logging::socket() {
        let _ = client.call_with("log", json!({}), &[opened]);
    }
}

/// As much as fits into a request.
fn shortened(mut text: String) -> String {
    const LIMIT: usize = 4 << 10;
    if text.len() > LIMIT {
        let mut end = LIMIT;
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.truncate(end);
        text.push('…');
    }
    text
}

/// The spool directory of the gateway according to settings that are not valid: from what can be read of them.
pub fn spool_of(file: &Path, error: &ConfigError) -> PathBuf {
    let bytes = File::open(file).and_then(|file| files::contents(file, config::FILE_LIMIT)).unwrap_or_default();
    let package = config::uci::parse(&bytes).or_else(|_| {
        let line = error.problems.iter().find(|problem| problem.severity == Severity::Error).map_or(0, |p| p.line);
        let before =
            bytes.split_inclusive(|byte| *byte == b'\n').take(usize::try_from(line).unwrap_or(0).saturating_sub(1));
        config::uci::parse(&before.collect::<Vec<_>>().concat())
    });
    let settings = package.map(|package| config::load::settings(&package).0);
    settings.map_or_else(|_| Relay::default().spool, |settings| settings.relay.spool)
}

fn hand_over(file: &Path, loaded: &Loaded, client: &mut ControlClient) -> Result<(), (u8, String)> {
    let settings = &loaded.settings;
    startup::learn_networks(settings);
    let failed = |failure: CallFailure| (1, failure.text);
    let listening = client.call("listening", json!({})).map_err(failed)?;
    let listening: Vec<&str> = listening
        .get("addresses")
        .and_then(Value::as_array)
        .map(|addresses| addresses.iter().filter_map(Value::as_str).collect())
        .unwrap_or_default();
    let mut opened = Vec::new();
    for address in listener::addresses(settings) {
        if listening.contains(&address.to_string().as_str()) {
            continue;
        }
        match listener::open(address) {
            Ok(socket) => opened.push((address, socket)),
            Err(error) => complain(&format!("smtprelay: {}", listener::explain(address, &error))),
        }
    }
    let mut said = config::advice::exposed(file, settings);
    // A user other than root has nothing to pass; a missing user would have been reported when the gateway was started.
    if let Ok(Some(identity)) = privileges::identity(&settings.relay.user) {
        said.extend(startup::secrets(&settings.relay, &identity));
    }
    said.extend(config::advice::reachable(settings));
    let packed = fd_passing::pack(file, files::named(settings), opened, said);
    let parcel = packed.map_err(|error| (1, format!("cannot open {}: {error}", file.display())))?;
    let taken = client.call_with("reload", parcel.params, &parcel.descriptors).map_err(failed)?;
    let warnings = taken.get("warnings").and_then(Value::as_array);
    warnings.into_iter().flatten().filter_map(Value::as_str).for_each(complain);
    Ok(())
}
