// SPDX-License-Identifier: Apache-2.0
//! `smtprelay reload`: what root does for a gateway that does not run as root. Checks the new settings, opens what only
//! root can open, and passes it to the gateway.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use serde_json::Value;
use smtprelay::config::files;
use smtprelay::config::{self, ConfigError, Loaded, Relay, Severity};
use smtprelay::control::SOCKET;
use smtprelay::control::socket::{self, CallFailure, ControlClient};
use smtprelay::daemon::startup;
use smtprelay::inbound::listener;
use smtprelay::queue::{self, SpoolLock};
use smtprelay::system::json::json;
use smtprelay::system::{cut, logging, privileges};

use super::{Failure, check, complain, exit, fail, list, print};

/// How long to wait for a gateway that is starting.
const STARTING: Duration = Duration::from_secs(30);

/// How long the gateway may take to close a socket.
const CLOSING: Duration = Duration::from_secs(3);

/// Bytes of the errors that are passed to the gateway.
const REASON_LIMIT: usize = 4 << 10;

/// Checks the settings in `file` and makes the running gateway apply them.
pub fn reload(file: &Path, json: bool) -> ExitCode {
    let loaded = match config::load(file) {
        Ok(loaded) => loaded,
        Err(error) => return refuse(file, &error),
    };
    let handed = connect(&spool_in_use(&loaded.settings.relay.spool, file)).and_then(|mut client| {
        hand_over_log(&mut client);
        hand_over(file, &loaded, &mut client)
    });
    match handed {
        Ok(warnings) if json => print(&format!("{}\n", json!({ "applied": true, "warnings": warnings }))),
        Ok(warnings) => {
            warnings.iter().for_each(|text| complain(text));
            ExitCode::SUCCESS
        }
        Err(failure) => fail(failure),
    }
}

/// Waits for a gateway that is starting: a large queue on slow flash takes a while.
fn connect(spool: &Path) -> Result<ControlClient, Failure> {
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
    if let Ok(Some(mut client)) = ControlClient::connect(&spool_of(file, error)) {
        hand_over_log(&mut client);
        let wrong = error.problems.iter().filter(|problem| problem.severity == Severity::Error);
        let reason = wrong.map(|problem| config::describe(file, problem)).collect::<Vec<_>>().join("; ");
        // As much as fits into a request.
        let mark = if reason.len() > REASON_LIMIT { "…" } else { "" };
        let reason = format!("{}{mark}", cut(&reason, REASON_LIMIT));
        // An older gateway does not know this request; then only the user sees the errors.
        let _ = client.call("reload_refused", json!({ "reason": reason }));
    }
    fail((1, error.to_string()))
}

/// A connection to the current log daemon, which may have been started after the gateway's jail was created. The result
/// is ignored: the settings do not depend on it, an older gateway does not know this request, and without a log daemon
/// there is nothing to pass.
fn hand_over_log(client: &mut ControlClient) {
    if let Ok(opened) = logging::socket() {
        let _ = client.call_with("log", json!({}), &[opened]);
    }
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
    let spool = settings.map_or_else(|_| Relay::default().spool, |settings| settings.relay.spool);
    spool_in_use(&spool, file)
}

/// The spool directory of the gateway: `spool`, unless one that was started with the settings in `file` uses another
/// one until its next start.
pub fn spool_in_use(spool: &Path, file: &Path) -> PathBuf {
    let other = if spool.join(SOCKET).exists() { None } else { queue::in_use(file) };
    other.unwrap_or_else(|| spool.to_path_buf())
}

fn hand_over(file: &Path, loaded: &Loaded, client: &mut ControlClient) -> Result<Vec<String>, Failure> {
    let settings = &loaded.settings;
    startup::learn_networks(settings);
    let failed = |failure: CallFailure| (1, failure.text);
    let listening = client.call("listening", json!({})).map_err(failed)?;
    let (mut opened, mut warnings, mut later) = (Vec::new(), Vec::new(), Vec::new());
    let (wanted, held) = (listener::addresses(settings), list(&listening, "addresses"));
    let held: Vec<&str> = held.iter().filter_map(Value::as_str).collect();
    for address in wanted.iter().copied().filter(|address| !held.contains(&address.to_string().as_str())) {
        match listener::open(address) {
            Ok(socket) => opened.push((address, socket)),
            Err(error) if error.kind() == ErrorKind::AddrInUse && listener::comes_free(address, &held, &wanted) => {
                later.push(address);
            }
            Err(error) => warnings.push(listener::explain(address, &error)),
        }
    }
    let mut said = config::advice::exposed(file, settings);
    // A user other than root has nothing to pass; a missing user would have been reported when the gateway was started.
    if let Ok(Some(identity)) = privileges::identity(&settings.relay.user) {
        said.extend(startup::secrets(&settings.relay, &identity));
    }
    said.extend(config::advice::reachable(settings));
    let parcel = |opened, said| {
        let packed = socket::pack(file, files::named(settings), opened, said);
        packed.map_err(|error| (1, format!("cannot open {}: {error}", file.display())))
    };
    let first = parcel(opened, said.clone())?;
    let taken = client.call_with("reload", first.params, &first.descriptors).map_err(failed)?;
    warnings.extend(list(&taken, "warnings").iter().filter_map(Value::as_str).map(String::from));
    // Not for `status`, which would show them until the next reload: it has the state of each listener.
    warnings.extend(check::files(settings));
    let (mut opened, end) = (Vec::new(), Instant::now() + CLOSING);
    for address in later {
        match open_when_free(address, client, end) {
            Ok(socket) => opened.extend(socket.map(|socket| (address, socket))),
            Err(error) => warnings.push(listener::explain(address, &error)),
        }
    }
    if !opened.is_empty() {
        let second = parcel(opened, said)?;
        client.call_with("reload", second.params, &second.descriptors).map_err(failed)?;
    }
    Ok(warnings)
}

/// Opens an address as soon as the gateway has closed its socket that is in the way; none if it has opened it itself.
fn open_when_free(address: SocketAddr, client: &mut ControlClient, end: Instant) -> io::Result<Option<TcpListener>> {
    loop {
        match listener::open(address) {
            Err(error) if error.kind() == ErrorKind::AddrInUse && Instant::now() < end => {}
            opened => return opened.map(Some),
        }
        let listening = client.call("listening", json!({})).unwrap_or_default();
        if list(&listening, "addresses").iter().any(|known| *known == address.to_string()) {
            return Ok(None);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}
