// SPDX-License-Identifier: Apache-2.0
//! Why an account cannot send anything at the moment.

use std::ops::{Deref, DerefMut};
use std::time::Duration;

use crate::report::Reason;

/// The kind of problem that keeps all mail of an account waiting. It decides how soon the account is retried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TroubleKind {
    /// No connection: name service, network, or a server that is down or does not answer.
    Unreachable,
    /// The server could not prove its identity, or offers no encryption.
    Tls,
    /// The login was refused.
    Login,
    /// The account may not send from its own address.
    Sender,
    /// The provider is out of order or shutting down: it will be back, and is retried soon.
    Busy,
    /// A limit has been reached, or the provider asks for less traffic: retrying often makes it worse.
    Quota,
    /// The service accepts fewer requests in this time, whatever they contain: no message is the cause.
    Rate,
    /// The settings of the account cannot work on this system or with this server.
    Setup,
    /// The clock is evidently wrong, so no certificate can be verified.
    Clock,
}

/// Why mail is not sent: each fact by itself, from where it arises to where it is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation {
    /// What happened, to what: a clause without a full stop.
    pub what: String,
    /// What to do about it; empty if there is nothing to do, or nothing is known.
    pub remedy: String,
}

impl Explanation {
    /// What happened, with its remedy.
    pub fn new(what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { what: what.into(), remedy: remedy.into() }
    }
}

impl From<String> for Explanation {
    fn from(what: String) -> Self {
        Self::new(what, "")
    }
}

impl std::fmt::Display for Explanation {
    /// Both in one sentence.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let gap = if self.remedy.is_empty() { "" } else { "; " };
        write!(f, "{}{gap}{}", self.what, self.remedy)
    }
}

/// Why an account is paused. Its mail waits; it never bounces for this reason. In a box, since it is handed on as an error
/// in many places, and a pointer takes the least code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble(Box<TroubleFacts>);

/// What there is to know about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TroubleFacts {
    /// The kind of problem.
    pub kind: TroubleKind,
    /// What happened, and the remedy.
    pub why: Explanation,
    /// How long the server asks to wait, if it says so.
    pub after: Option<Duration>,
}

impl Trouble {
    /// A problem of `kind`, without a remedy so far.
    pub fn new(kind: TroubleKind, what: impl Into<String>) -> Self {
        Self(Box::new(TroubleFacts { kind, why: Explanation::new(what, ""), after: None }))
    }

    /// Adds the remedy.
    pub fn remedy(mut self, remedy: impl Into<String>) -> Self {
        self.why.remedy = remedy.into();
        self
    }

    /// Sets how long the server asks to wait.
    pub fn after(mut self, wait: Option<Duration>) -> Self {
        self.after = wait;
        self
    }

    /// What happened, and the remedy.
    pub fn into_why(self) -> Explanation {
        self.0.why
    }

    /// The sentence for the log and for people, which says that mail waits.
    pub fn reason(&self) -> Reason {
        format!("{}; mail waits", self.why)
    }
}

impl Deref for Trouble {
    type Target = TroubleFacts;

    fn deref(&self) -> &TroubleFacts {
        &self.0
    }
}

impl DerefMut for Trouble {
    fn deref_mut(&mut self) -> &mut TroubleFacts {
        &mut self.0
    }
}
