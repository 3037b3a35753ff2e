//! Why nothing can be sent through an account for now.

use crate::report::Reason;

/// What kind of trouble keeps all mail of an account from leaving. It decides how soon the account is tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TroubleKind {
    /// No connection: name service, network, server not there or silent.
    Unreachable,
    /// The server could not prove who it is, or offers no protection.
    Tls,
    /// The login was refused.
    Login,
    /// The account may not send from its own address.
    Sender,
    /// The provider is out of order, or closing: it will be back, and is looked at soon.
    Busy,
    /// A limit is used up, or the provider wants to see less: looking often makes it worse.
    Quota,
    /// The settings of the account can't work with this system or this server.
    Setup,
    /// The clock is evidently wrong, so that nobody's certificate can be judged.
    Clock,
}

/// Why an account is paused. Its mail waits; it is never returned for this.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    /// What kind of trouble.
    pub kind: TroubleKind,
    /// One plain sentence with its remedy.
    pub reason: Reason,
    /// The remedy alone, as it stands in the sentence; empty: there is none, or it can't be told apart.
    pub remedy: String,
}

/// What every sentence about an account ends with.
const WAITS: &str = "; mail waits";

impl Trouble {
    /// Trouble of `kind` for `reason`, to which is added that mail waits.
    pub fn new(kind: TroubleKind, reason: impl Into<Reason>) -> Self {
        Self { kind, reason: reason.into() + WAITS, remedy: String::new() }
    }

    /// Says which part of the sentence is the remedy.
    pub fn remedy(self, remedy: impl Into<String>) -> Self {
        Self { remedy: remedy.into(), ..self }
    }

    /// What happened, without the remedy and without what becomes of the mail.
    pub fn what(&self) -> &str {
        let what = self.reason.strip_suffix(WAITS).unwrap_or(&self.reason);
        match what.strip_suffix(self.remedy.as_str()) {
            Some(what) if !self.remedy.is_empty() => what.trim_end_matches([';', ':', ',', ' ']),
            _ => what,
        }
    }
}
