// SPDX-License-Identifier: Apache-2.0
//! `smtprelay test [ACCOUNT] RCPT`: sends one test mail, step by step. The running gateway sends it; if none is
//! running, this process does.

use std::io::{IsTerminal, Write};
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use serde_json::Value;
use smtprelay::config::Settings;
use smtprelay::control::CallError;
use smtprelay::control::socket::ControlClient;
use smtprelay::control::test_mail::Tests;
use smtprelay::oauth::keeper;
use smtprelay::system::json::json;
use smtprelay::system::spelled_out;
use tokio::runtime::Runtime;

use super::ask::state;
use super::show::settings_differ;
use super::table::{Colour, paint};
use super::{complain, exit, exit_code, fail, list, print, text, wait_for};

/// How often the progress is checked.
const LOOK: Duration = Duration::from_millis(100);
/// How long to wait at the end for a login that is being renewed.
const LOGIN_PATIENCE: Duration = Duration::from_secs(3);

/// What to test, and how to show it.
pub struct Test {
    /// Name of the account; empty: the first one that mail would use.
    pub account: String,
    /// The recipient of the test mail.
    pub to: String,
    /// With the SMTP transcript.
    pub verbose: bool,
    /// As JSON for programs.
    pub json: bool,
}

/// Why there is no result: kind and text.
type Failed = (String, String);

/// Runs the test, and shows each step when it is complete.
pub fn test(test: &Test, settings: &Settings, file: &Path, runtime: std::io::Result<Runtime>) -> ExitCode {
    let moves = !test.json && std::io::stdout().is_terminal();
    let mut show = Show { live: !test.json, moves, begun: Instant::now(), shown: 0 };
    let tested = match (ControlClient::connect(&settings.relay.spool), runtime) {
        (Ok(Some(mut client)), _) => {
            let differs = state(&mut client, file).ok().and_then(|status| settings_differ(&status));
            differs.iter().for_each(|text| complain(&format!("this test uses the former settings: {text}")));
            ask(test, client, &mut show)
        }
        (Ok(None), Ok(runtime)) => wait_for(&runtime, run(test, settings, &mut show)),
        (Ok(None), Err(error)) => Err(("failed".into(), error.to_string())),
        (Err(text), _) => Err(("broken".into(), text)),
    };
    match tested {
        Ok(job) => report(test, &job),
        Err((kind, text)) => {
            // A wrong account name, here.
            let code = if kind == "not_found" { exit::USAGE } else { exit_code(&kind) };
            fail((code, text))
        }
    }
}

/// Lets the running gateway do it.
fn ask(test: &Test, mut client: ControlClient, show: &mut Show) -> Result<Value, Failed> {
    let mut call = |method: &str, params| client.call(method, params).map_err(|e| (e.kind, e.text));
    let job = call("test", json!({ "account": test.account, "to": test.to }))?;
    loop {
        let job = call("job", json!({ "id": job.get("job") }))?;
        if show.look(&job) {
            return Ok(job);
        }
        std::thread::sleep(LOOK);
    }
}

/// Does it in this process.
async fn run(test: &Test, settings: &Settings, show: &mut Show) -> Result<Value, Failed> {
    let failed = |refusal: CallError| (refusal.kind().to_string(), refusal.to_string());
    let tests = Tests::default();
    // No mail is waiting in this process.
    let works = Box::new(|_| Box::pin(async {}) as _);
    let job = tests.start(settings, &test.account, &test.to, works).map_err(failed)?;
    let name = job.get("job").and_then(Value::as_str).unwrap_or_default();
    loop {
        let job = tests.job(name).map_err(failed)?;
        if show.look(&job) {
            keeper::settle(LOGIN_PATIENCE).await;
            return Ok(job);
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Back to the beginning of the line, which is erased.
const CLEAR: &str = "\r\x1b[K";

/// The steps on the screen.
struct Show {
    live: bool,
    /// Whether the line of the running step may change: on a terminal.
    moves: bool,
    /// When the running step began.
    begun: Instant,
    /// Number of steps shown.
    shown: usize,
}

impl Show {
    /// Shows new steps; true if the test is complete.
    fn look(&mut self, job: &Value) -> bool {
        let steps = list(job, "steps");
        while let Some(step) = steps.get(self.shown) {
            let Some(line) = line(step) else { break };
            self.write(&format!("{}{line}", if self.moves { CLEAR } else { "" }));
            self.shown += 1;
            self.begun = Instant::now();
        }
        let runs = job.get("state").is_some_and(|state| state == "running");
        if self.moves {
            let step = steps.iter().find(|step| text(step, "state") == "running").filter(|_| runs);
            let place = step.map(|step| {
                let seconds = self.begun.elapsed().as_secs();
                format!("{CLEAR}… {} ({} of {}, {seconds} s)", text(step, "step"), self.shown + 1, steps.len())
            });
            self.write(place.as_deref().unwrap_or(CLEAR));
        }
        !runs
    }

    fn write(&self, text: &str) {
        if self.live {
            let mut out = std::io::stdout().lock();
            // The output may be gone; the exit code still tells the result.
            let _ = out.write_all(spelled_out(text).as_bytes()).and_then(|()| out.flush());
        }
    }
}

/// A completed step.
fn line(step: &Value) -> Option<String> {
    let mark = match text(step, "state") {
        "ok" => paint("✓", Colour::Green),
        "failed" => paint("✗", Colour::Red),
        "skipped" => "-".into(),
        _ => return None,
    };
    let remedy = match text(step, "remedy") {
        "" => String::new(),
        remedy => format!("  → {remedy}\n"),
    };
    Some(format!("{mark} {}: {}\n{remedy}", text(step, "step"), text(step, "text")))
}

fn report(test: &Test, job: &Value) -> ExitCode {
    let works = text(job, "state") == "done";
    let mut out = String::new();
    if test.json {
        out = format!("{job}\n");
    } else {
        if test.verbose {
            out.push_str("SMTP transcript (> sent, < received):\n");
            for line in list(job, "transcript") {
                out = out + "  " + line.as_str().unwrap_or_default() + "\n";
            }
        }
        out += &match works {
            true => format!("Account '{}' works: the test mail to {} was accepted.\n", text(job, "account"), test.to),
            false => format!("Account '{}' is not working.\n", text(job, "account")),
        };
    }
    if print(&spelled_out(&out)) == ExitCode::SUCCESS && works { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
