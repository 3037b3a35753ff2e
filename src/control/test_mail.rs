// SPDX-License-Identifier: Apache-2.0
//! Test mails that a client follows (the methods `test` and `job`): each is a job with a name.
//!
//! Also used by `smtprelay test` in its own process if no gateway is running.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::task::JoinHandle;

use super::CallError;
use crate::config::{Account, Settings};
use crate::message::is_one_address;
use crate::oauth::Later;
use crate::outbound::test_mail::{self, Tested};
use crate::outbound::trace::{Trace, TraceStep};
use crate::report::Event;
use crate::system::json::json;
use crate::system::lock;
use crate::system::{random_id, task};

/// Maximum number of jobs that are remembered; the oldest finished one is dropped first.
const JOBS: usize = 4;
/// How long the result is available.
const KEPT: Duration = Duration::from_secs(600);

struct TestJob {
    name: String,
    account: String,
    trace: Trace,
    /// The result, once the test is over.
    tested: Arc<Mutex<Option<Tested>>>,
    until: Instant,
    work: JoinHandle<()>,
}

/// The tests that are in progress or finished. Those in progress end when this is dropped.
#[derive(Default)]
pub struct Tests(Mutex<Vec<TestJob>>);

impl Tests {
    /// Starts a test of `account` (a name; empty: the default account) with a mail to `to`. The answer has `job`.
    /// `works` runs when the account has accepted the mail.
    ///
    /// # Errors
    /// If there is no such account or recipient, or if too many tests are in progress.
    pub fn start(&self, settings: &Settings, account: &str, to: &str, works: Works) -> Result<Value, CallError> {
        let account = chosen(settings, account)?.clone();
        // A channel says itself who gets its messages.
        let nobody = format!("{}@channel.invalid", account.name);
        let to = if account.channel.is_some() && !is_one_address(to) { nobody.as_str() } else { to };
        if !is_one_address(to) {
            return Err(CallError::Wrong(format!(
                "'{to}' is not a mail address; enter the recipient of the test mail"
            )));
        }
        let mut jobs = self.jobs();
        jobs.retain(|job| job.until > Instant::now());
        // Providers lock mailboxes after a few wrong logins.
        if let Some(same) = jobs.iter().find(|job| job.account == account.name && job.is_running()) {
            let text = format!(
                "account '{}' is already being tested (job {}); wait until that test ends",
                account.name, same.name
            );
            return Err(CallError::Busy(text));
        }
        if jobs.len() >= JOBS {
            let over = jobs.iter().position(|job| !job.is_running());
            let over =
                over.ok_or_else(|| CallError::Busy(format!("{JOBS} tests are in progress; wait until one ends")))?;
            jobs.remove(over);
        }
        let name = random_id().map_err(|error| CallError::Failed(error.to_string()))?;
        let (trace, tested) = (Trace::new(&account), Arc::new(Mutex::new(None)));
        let (hostname, to, known) = (settings.relay.hostname(), to.to_string(), account.name.clone());
        let work = task::spawn({
            let (trace, tested) = (trace.clone(), Arc::clone(&tested));
            async move {
                let outcome = test_mail::run(&account, &hostname, &to, &trace).await;
                let (tls, failed) = (outcome.tls.clone(), outcome.failed.clone());
                let works = works(account.name.clone());
                if failed.is_none() {
                    works.await;
                }
                Event::Tested { account: account.name, to, tls, failed }.log();
                *lock(&tested) = Some(outcome);
            }
        });
        let answer = json!({ "job": name });
        jobs.push(TestJob {
            name,
            account: known,
            trace,
            tested,
            until: Instant::now() + test_mail::LIMIT + KEPT,
            work,
        });
        Ok(answer)
    }

    /// The state of a test: `state` (`running`, `done`, `failed`), `text`, `account`, `steps`, `transcript`.
    ///
    /// # Errors
    /// If there is no such job.
    pub fn job(&self, name: &str) -> Result<Value, CallError> {
        let jobs = self.jobs();
        let job = jobs.iter().find(|job| job.name == name && job.until > Instant::now());
        let job = job.ok_or_else(|| CallError::NotFound(format!("there is no test '{name}'")))?;
        // First whether it is over, so that the result is complete.
        let tested = lock(&job.tested).clone();
        let (state, text) = match &tested {
            None if job.work.is_finished() => ("failed", "the program is shutting down".to_string()),
            None => ("running", format!("the test of account '{}' is in progress", job.account)),
            Some(Tested { failed: None, .. }) => {
                ("done", format!("account '{}' works: the test mail was accepted", job.account))
            }
            Some(Tested { failed: Some(text), .. }) => ("failed", text.clone()),
        };
        let steps = job.trace.steps();
        let steps: Vec<Value> = TraceStep::ALL
            .iter()
            .zip(&steps)
            .map(|(step, seen)| {
                let remedy = Some(&seen.remedy).filter(|remedy| !remedy.is_empty());
                json!({ "step": step.name(), "state": seen.progress.name(), "text": seen.text, "remedy": remedy })
            })
            .collect();
        let transcript = job.trace.transcript();
        let certificate = job
            .trace
            .certificate()
            .map(|seen| json!({ "fingerprint": seen.fingerprint, "issuer": seen.issuer, "expires": seen.expires }));
        Ok(json!({
            "state": state,
            "text": text,
            "account": job.account,
            "steps": steps,
            "certificate": certificate,
            "transcript": transcript,
        }))
    }

    fn jobs(&self) -> MutexGuard<'_, Vec<TestJob>> {
        lock(&self.0)
    }
}

/// What to do with the name of an account that has accepted a test mail.
pub type Works = Box<dyn FnOnce(String) -> Later<'static, ()> + Send>;

impl TestJob {
    fn is_running(&self) -> bool {
        lock(&self.tested).is_none() && !self.work.is_finished()
    }
}

impl Drop for TestJob {
    fn drop(&mut self) {
        self.work.abort();
    }
}

/// The account that is meant: by its name, or the first one that is used without a route.
fn chosen<'a>(settings: &'a Settings, name: &str) -> Result<&'a Account, CallError> {
    let accounts = &settings.accounts;
    if name.is_empty() {
        let first = accounts.iter().find(|account| account.general).or(accounts.first());
        return first.ok_or_else(|| {
            CallError::NotFound("no account is set up: set provider, username and password of a section account".into())
        });
    }
    accounts.iter().find(|account| account.name == name).ok_or_else(|| {
        let names: Vec<&str> = accounts.iter().map(|account| account.name.as_str()).collect();
        let others = if names.is_empty() { "none".to_string() } else { names.join(", ") };
        CallError::NotFound(format!("no enabled account is named '{name}'; enabled accounts: {others}"))
    })
}
