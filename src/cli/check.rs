// SPDX-License-Identifier: Apache-2.0
//! `smtprelay check`: everything that can be said about the settings, on this host.

use std::path::Path;
use std::process::ExitCode;

use serde_json::Value;
use smtprelay::config::{self, Problem, Relay, Settings, Severity, TlsMode};
use smtprelay::control::socket::ControlClient;
use smtprelay::daemon::startup;
use smtprelay::inbound::{self, listener};
use smtprelay::net;
use smtprelay::system::json::json;

use super::{complain, exit, list, print, spool_in_use};

/// What was found, and what it means for a gateway with these settings.
#[derive(Default)]
struct Found {
    /// Severity, line of the file (0: none), and text.
    all: Vec<(Severity, u32, String)>,
    /// Whether the file is valid.
    valid: bool,
    /// Whether the gateway starts and accepts mail.
    works: bool,
    /// Whether devices can connect.
    reachable: bool,
    /// Whether all files that the settings name can be used. Without one of them an account or a listener does not work,
    /// and the others do.
    complete: bool,
}

impl Found {
    fn problems(&mut self, problems: Vec<Problem>) {
        self.all.extend(problems.into_iter().map(|problem| (problem.severity, problem.line, problem.text)));
    }

    fn warnings(&mut self, texts: Vec<String>) {
        self.all.extend(texts.into_iter().map(|text| (Severity::Warning, 0, text)));
    }
}

/// Checks the settings in `file`. The init script relies on the exit code: it does not stop a gateway for another one
/// that would not start.
pub fn check(file: &Path, json: bool) -> ExitCode {
    let mut found = Found::default();
    let mut result = String::new();
    match config::load(file) {
        Err(error) => found.problems(error.problems),
        Ok(loaded) => {
            found.valid = true;
            found.problems(loaded.warnings);
            result = about_host(file, &loaded.settings, &mut found);
        }
    }
    let code = match (found.valid && found.works, found.reachable && found.complete) {
        (true, true) => 0,
        (true, false) => exit::TEMPORARY,
        (false, _) => 1,
    };
    if json {
        let view = |(severity, line, text): &(Severity, u32, String)| {
            let word = match severity {
                Severity::Note => "note",
                Severity::Warning => "warning",
                Severity::Error => "error",
            };
            json!({ "severity": word, "line": Some(line).filter(|line| **line > 0), "text": text })
        };
        let Found { all, valid, works, reachable, complete } = &found;
        let problems: Vec<Value> = all.iter().map(view).collect();
        let file = file.display().to_string();
        let view = json!({
            "file": file, "valid": valid, "works": works, "reachable": reachable, "complete": complete,
            "problems": problems,
        });
        print(&format!("{view}\n"));
        return ExitCode::from(code);
    }
    for (severity, line, text) in found.all {
        match line {
            // What is about the host names its place itself.
            0 if found.valid && severity == Severity::Warning => complain(&text),
            _ => complain(&config::describe(file, &Problem { severity, line, text })),
        }
    }
    match code {
        0 => return print(&format!("{}: the settings are valid\n", file.display())),
        _ if result.is_empty() => {}
        _ => complain(&format!("{}: {result}", file.display())),
    }
    ExitCode::from(code)
}

/// What can be seen of the settings only on this host: files, directories, networks, and a gateway that is running.
/// Returns the conclusion, if not all is well.
fn about_host(file: &Path, settings: &Settings, found: &mut Found) -> String {
    let relay = &settings.relay;
    found.warnings(config::advice::exposed(file, settings));
    found.warnings(config::advice::directories(relay));
    found.all.extend(config::advice::unsound(relay).map(|text| (Severity::Note, 0, text)));
    let unusable = files(settings);
    found.complete = unusable.is_empty();
    found.warnings(unusable);
    found.warnings(waits_for_the_next_start(relay, file).into_iter().collect());
    if relay.enabled && relay.safe_spool.is_none() {
        found.all.push((Severity::Note, 0, relay.promise()));
    }
    let hindrances = config::advice::hindrances(relay);
    let refuses = config::advice::drives(relay).iter().any(|drive| drive.refuses);
    (found.works, found.reachable) = (hindrances.is_empty() && !refuses, true);
    if !hindrances.is_empty() {
        found.all.extend(hindrances.into_iter().map(|text| (Severity::Error, 0, text)));
        return "the gateway cannot start with these settings".into();
    }
    if refuses {
        return "no mail can be accepted with these settings".into();
    }
    let obstacles = obstacles(file, settings);
    found.reachable = obstacles.is_empty();
    found.warnings(obstacles);
    match found.reachable {
        false => "the settings are valid, but devices cannot connect at the moment".into(),
        true => "the settings are valid, but a file that they name cannot be used".into(),
    }
}

/// Why devices could not connect. The settings are valid all the same: a gateway with them follows its networks and
/// tries again.
fn obstacles(file: &Path, settings: &Settings) -> Vec<String> {
    if !settings.relay.enabled {
        return Vec::new();
    }
    startup::learn_networks(settings);
    let running = ControlClient::connect(&spool_in_use(&settings.relay.spool, file)).ok().flatten();
    let held = running.and_then(|mut client| client.call("listening", json!({})).ok()).unwrap_or_default();
    let held: Vec<String> = list(&held, "addresses").iter().filter_map(Value::as_str).map(String::from).collect();
    listener::obstacles(settings, &held)
}

/// Files in the settings that cannot be used.
pub(super) fn files(settings: &Settings) -> Vec<String> {
    let listeners = settings.listeners.iter().filter(|l| l.tls != TlsMode::None && l.certificate.is_some());
    let certificates = listeners.filter_map(|listener| {
        let error = inbound::tls::acceptor(listener, &settings.relay, &[]).err()?;
        Some(format!("listener '{}': {error}", listener.name))
    });
    let named = settings.accounts.iter().filter(|account| account.tls != TlsMode::None && account.ca_file.is_some());
    let authorities = named.filter_map(|account| {
        let trouble = net::tls::connector(account).err()?;
        Some(format!("account '{}': {}", account.name, trouble.why))
    });
    certificates.chain(authorities).collect()
}

/// Changes that a reload of the running gateway, if there is one, would not apply.
fn waits_for_the_next_start(relay: &Relay, file: &Path) -> Option<String> {
    let mut client = ControlClient::connect(&spool_in_use(&relay.spool, file)).ok()??;
    config::effect::waits(relay, &client.call("fixed", json!({})).ok()?)
}
