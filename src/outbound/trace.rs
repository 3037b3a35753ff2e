// SPDX-License-Identifier: Apache-2.0
//! The connection to a provider, step by step, for an observer: what `smtprelay test` shows.
//!
//! A [`Trace`] is passed along with a connection. The code that sends all mail reports each step to it, so it shows
//! is how mail is really sent.

use std::sync::{Arc, Mutex, MutexGuard};

use super::transcript::Transcript;
use crate::config::Account;
use crate::net::Trouble;
use crate::system::lock;

/// One step, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TraceStep {
    /// The clock of this router is set, so that certificates can be verified.
    Clock,
    /// There is a route to the internet.
    Uplink,
    /// The name of the provider's host has an address.
    Dns,
    /// The host accepts the connection; without implicit TLS also: it greets.
    Tcp,
    /// The connection is encrypted, and the host is verified.
    Tls,
    /// It accepts mail from this account: greeting, EHLO and login.
    Login,
    /// It has accepted the test mail.
    Accepted,
}

impl TraceStep {
    /// All of them, in order.
    pub const ALL: [Self; 7] =
        [Self::Clock, Self::Uplink, Self::Dns, Self::Tcp, Self::Tls, Self::Login, Self::Accepted];

    /// Its name in the API.
    pub fn name(self) -> &'static str {
        match self {
            Self::Clock => "clock",
            Self::Uplink => "uplink",
            Self::Dns => "dns",
            Self::Tcp => "tcp",
            Self::Tls => "tls",
            Self::Login => "login",
            Self::Accepted => "accepted",
        }
    }
}

/// The state of a step.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum StepProgress {
    /// It has not started yet.
    #[default]
    Pending,
    /// It is in progress.
    Running,
    /// It succeeded.
    Ok,
    /// It failed, and the test ends with it.
    Failed,
    /// It does not apply here.
    Skipped,
}

impl StepProgress {
    /// Its name in the API.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Running => "running",
            Self::Ok => "ok",
            Self::Failed => "failed",
            Self::Skipped => "skipped",
        }
    }
}

/// The current state of a step.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Seen {
    /// Its state.
    pub progress: StepProgress,
    /// The result, in one sentence.
    pub text: String,
    /// The remedy; empty: none, or unknown.
    pub remedy: String,
}

struct Record {
    steps: [Seen; TraceStep::ALL.len()],
    transcript: Transcript,
}

/// Observes one connection. A clone observes the same one.
#[derive(Clone)]
pub struct Trace(Arc<Mutex<Record>>);

impl Trace {
    /// Observes a connection of `account`, whose secrets will be masked.
    pub fn new(account: &Account) -> Self {
        let transcript = Transcript::new(&[account.password.expose()]);
        Self(Arc::new(Mutex::new(Record { steps: Default::default(), transcript })))
    }

    /// All steps with their current state, in the order of [`TraceStep::ALL`].
    pub fn steps(&self) -> [Seen; TraceStep::ALL.len()] {
        self.lock().steps.clone()
    }

    /// The conversation so far: `> ` by us, `< ` by the server, `* ` neither.
    pub fn transcript(&self) -> Vec<String> {
        self.lock().transcript.lines().to_vec()
    }

    /// A step begins.
    pub fn begin(&self, step: TraceStep) {
        self.set(step, StepProgress::Running, String::new());
    }

    /// A step succeeded; the next one begins.
    pub fn done(&self, step: TraceStep, text: impl Into<String>) {
        self.set(step, StepProgress::Ok, text.into());
        let next = TraceStep::ALL.into_iter().skip_while(|other| *other != step).nth(1);
        if let Some(next) = next.filter(|next| self.progress(*next) == StepProgress::Pending) {
            self.begin(next);
        }
    }

    /// A step does not apply; the next one begins.
    pub fn skip(&self, step: TraceStep, text: impl Into<String>) {
        self.done(step, text);
        self.edit(step, |seen| seen.progress = StepProgress::Skipped);
    }

    /// A step failed, and the test ends.
    pub fn fail(&self, step: TraceStep, text: &str, remedy: &str) {
        self.set(step, StepProgress::Failed, text.to_string());
        self.edit(step, |seen| seen.remedy = remedy.to_string());
    }

    /// The step in progress failed, and the test ends.
    pub fn end(&self, trouble: &Trouble) {
        let current = TraceStep::ALL.into_iter().rev().find(|step| self.progress(*step) == StepProgress::Running);
        self.fail(current.unwrap_or(TraceStep::Accepted), &trouble.why.what, &trouble.why.remedy);
    }

    /// The state of a step.
    pub fn progress(&self, step: TraceStep) -> StepProgress {
        self.lock().steps.get(step as usize).map(|seen| seen.progress).unwrap_or_default()
    }

    pub(super) fn sent(&self, bytes: &[u8]) {
        self.lock().transcript.sent(bytes);
    }

    pub(super) fn received(&self, line: &[u8]) {
        self.lock().transcript.received(line);
    }

    pub(super) fn note(&self, text: &str) {
        self.lock().transcript.note(text);
    }

    fn set(&self, step: TraceStep, progress: StepProgress, text: String) {
        self.edit(step, |seen| *seen = Seen { progress, text, remedy: String::new() });
    }

    fn edit(&self, step: TraceStep, change: impl FnOnce(&mut Seen)) {
        if let Some(seen) = self.lock().steps.get_mut(step as usize) {
            change(seen);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Record> {
        lock(&self.0)
    }
}
