//! Sessions without a message: what was done in them instead, logged once at the end.
//!
//! A user who sets up a device keeps trying until mail arrives. Activity that is of no consequence to the gateway (a
//! connection test, a login of an unknown kind, a port scan) is then the only sign that the device reaches it at all.

use super::Session;
use crate::report::Event;

/// What has happened in a session so far.
#[derive(Default)]
pub(super) struct Visit {
    heard: bool,
    quit: bool,
    /// An event about this session has already been logged.
    told: bool,
    /// The reply to a login whose form or mechanism was not understood.
    login: Option<&'static str>,
}

impl Visit {
    pub(super) fn heard(&mut self) {
        self.heard = true;
    }

    pub(super) fn quit(&mut self) {
        self.quit = true;
    }

    pub(super) fn told(&mut self) {
        self.told = true;
    }

    pub(super) fn login_not_understood(&mut self, reply: &'static str) {
        self.login = Some(reply);
    }

    /// What to add to the log text about a client that sent nothing.
    pub(super) fn silence(&self) -> &'static str {
        match self.heard {
            true => "",
            false => {
                " since it connected: most likely it expects another protocol; check the server and port configured in the client"
            }
        }
    }
}

impl Session {
    /// Logs a session in which nothing happened that another event reports. Many monitors connect every minute: the log
    /// suppresses repetitions.
    pub(super) fn account_for(&mut self) {
        // Programs on this host are not devices that are being set up.
        if self.visit.told || self.origin.client.is_none() {
            return;
        }
        let in_vain = "the client may require authentication or encryption that this listener does not offer";
        let tried = match self.visit {
            Visit { login: Some(reply), .. } => format!(
                "its login was not understood ({reply}), and no message followed: set the client to PLAIN or LOGIN, or disable authentication"
            ),
            Visit { quit: true, .. } => {
                "ended the session without sending a message: a connection test or a monitor; the connection works".into()
            }
            _ if self.tls.is_some() && !self.greeted => {
                "closed the connection after the TLS handshake: most likely it does not trust the certificate; disable certificate verification in the client, or set options certificate and key".into()
            }
            Visit { heard: false, .. } => {
                "closed the connection without sending anything: a port scan, a monitor, or a client that expects TLS or another protocol on this port".into()
            }
            _ if !self.understood => {
                "closed the connection without sending an SMTP command: check the server and port configured in the client".into()
            }
            _ => format!("closed the connection without sending a message: {in_vain}"),
        };
        Event::NoMail { client: self.origin.name(), helo: self.origin.helo.clone(), tried }.log();
    }
}
