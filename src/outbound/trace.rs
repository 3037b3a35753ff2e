//! The way to a provider, step by step, for somebody who looks on: what `smtprelay test` shows.
//!
//! A [`Trace`] goes along with a connection. It is told of each step by the same code that sends all mail, so what it shows is
//! how mail really goes.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::transcript::Transcript;
use crate::config::Account;
use crate::net::Trouble;

/// One step of the way, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// The clock of this router is set, so that certificates can be judged.
    Clock,
    /// There is a way to the rest of the world.
    Uplink,
    /// The name of the provider's host has an address.
    Dns,
    /// The host takes the connection; without implicit TLS also: it greets.
    Tcp,
    /// The connection is protected, and the host is the one it says it is.
    Tls,
    /// It takes mail from this account: greeting, EHLO and login.
    Login,
    /// It has taken the test mail.
    Accepted,
}

impl Step {
    /// All of them, in order.
    pub const ALL: [Self; 7] =
        [Self::Clock, Self::Uplink, Self::Dns, Self::Tcp, Self::Tls, Self::Login, Self::Accepted];

    /// The word for programs.
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

/// How far a step is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Progress {
    /// It is not its turn yet.
    #[default]
    Pending,
    /// It is under way.
    Running,
    /// It came to a good end.
    Ok,
    /// It is what the way ends at.
    Failed,
    /// There is nothing to do for it here.
    Skipped,
}

impl Progress {
    /// The word for programs.
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

/// What is known of a step.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Seen {
    /// How far it is.
    pub progress: Progress,
    /// What came of it, in one sentence.
    pub text: String,
    /// What to do about it; empty: nothing, or nobody knows.
    pub remedy: String,
}

struct Record {
    steps: [Seen; Step::ALL.len()],
    transcript: Transcript,
}

/// Follows one connection. A clone follows the same one.
#[derive(Clone)]
pub struct Trace(Arc<Mutex<Record>>);

impl Trace {
    /// Follows a connection of `account`, whose secrets will not be shown.
    pub fn new(account: &Account) -> Self {
        let transcript = Transcript::new(&[account.password.expose()]);
        Self(Arc::new(Mutex::new(Record { steps: Default::default(), transcript })))
    }

    /// All steps as they are now, in the order of [`Step::ALL`].
    pub fn steps(&self) -> [Seen; Step::ALL.len()] {
        self.lock().steps.clone()
    }

    /// What was said so far: `> ` by us, `< ` by the server, `* ` neither.
    pub fn transcript(&self) -> Vec<String> {
        self.lock().transcript.lines().to_vec()
    }

    /// A step begins.
    pub fn begin(&self, step: Step) {
        self.set(step, Progress::Running, String::new());
    }

    /// A step came to a good end; the next one begins.
    pub fn done(&self, step: Step, text: impl Into<String>) {
        self.set(step, Progress::Ok, text.into());
        let next = Step::ALL.into_iter().skip_while(|other| *other != step).nth(1);
        if let Some(next) = next.filter(|next| self.progress(*next) == Progress::Pending) {
            self.begin(next);
        }
    }

    /// There is nothing to do for a step; the next one begins.
    pub fn skip(&self, step: Step, text: impl Into<String>) {
        self.done(step, text);
        self.edit(step, |seen| seen.progress = Progress::Skipped);
    }

    /// The way ends at a step.
    pub fn fail(&self, step: Step, text: &str, remedy: &str) {
        self.set(step, Progress::Failed, text.to_string());
        self.edit(step, |seen| seen.remedy = remedy.to_string());
    }

    /// The way ends at the step that is under way.
    pub fn end(&self, trouble: &Trouble) {
        let current = Step::ALL.into_iter().rev().find(|step| self.progress(*step) == Progress::Running);
        self.fail(current.unwrap_or(Step::Accepted), trouble.what(), &trouble.remedy);
    }

    /// How far a step is.
    pub fn progress(&self, step: Step) -> Progress {
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

    fn set(&self, step: Step, progress: Progress, text: String) {
        self.edit(step, |seen| *seen = Seen { progress, text, remedy: String::new() });
    }

    fn edit(&self, step: Step, change: impl FnOnce(&mut Seen)) {
        if let Some(seen) = self.lock().steps.get_mut(step as usize) {
            change(seen);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Record> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
