//! Why an account cannot send anything at the moment.

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
    /// The settings of the account cannot work on this system or with this server.
    Setup,
    /// The clock is evidently wrong, so no certificate can be verified.
    Clock,
}

/// Why an account is paused. Its mail waits; it never bounces for this reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    /// The kind of problem.
    pub kind: TroubleKind,
    /// One plain sentence with its remedy.
    pub reason: Reason,
    /// The remedy alone, exactly as in the sentence; empty if there is none or if it cannot be separated.
    pub remedy: String,
}

/// How every sentence about an account ends.
const WAITS: &str = "; mail waits";

impl Trouble {
    /// A problem of `kind` with this `reason`; the note that mail waits is appended.
    pub fn new(kind: TroubleKind, reason: impl Into<Reason>) -> Self {
        Self { kind, reason: reason.into() + WAITS, remedy: String::new() }
    }

    /// Marks which part of the sentence is the remedy.
    pub fn remedy(self, remedy: impl Into<String>) -> Self {
        Self { remedy: remedy.into(), ..self }
    }

    /// What happened, without the remedy and without the note that mail waits.
    pub fn what(&self) -> &str {
        let what = self.reason.strip_suffix(WAITS).unwrap_or(&self.reason);
        match what.strip_suffix(self.remedy.as_str()) {
            Some(what) if !self.remedy.is_empty() => what.trim_end_matches([';', ':', ',', ' ']),
            _ => what,
        }
    }
}
