//! Sessions without a message: what was done in them instead, told once at the end.
//!
//! Somebody who sets up a device tries until mail arrives. What is of no consequence to the gateway (a connection test, a
//! login of an unknown kind, a port scan) is then the only sign that the device reaches it at all.

use super::Session;
use crate::report::Event;

/// What a session has shown so far.
#[derive(Default)]
pub(super) struct Visit {
    heard: bool,
    quit: bool,
    /// An event has told of this session already.
    told: bool,
    /// The reply to a login whose form or mechanism is not understood.
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

    /// What to say of a client that went silent.
    pub(super) fn silence(&self) -> &'static str {
        match self.heard {
            true => "",
            false => {
                " from the beginning: most likely it waits for another protocol; check server and port in the client"
            }
        }
    }
}

impl Session {
    /// Tells of a session in which nothing happened that was told by another event. Many monitors connect each minute: the
    /// log counts what repeats.
    pub(super) fn account_for(&mut self) {
        // Programs on this host are no device that somebody sets up.
        if self.visit.told || self.origin.client.is_none() {
            return;
        }
        let in_vain = "the client may need a login or an encryption that this listener does not offer";
        let tried = match self.visit {
            Visit { login: Some(reply), .. } => format!(
                "its login was not understood ({reply}), and no message followed: set the client to PLAIN or LOGIN, or to no login"
            ),
            Visit { quit: true, .. } => {
                "ended the session without sending a message: a connection test or a monitor; the connection works".into()
            }
            _ if self.tls.is_some() && !self.greeted => {
                "closed the connection after the TLS handshake: most likely it does not trust the certificate; disable its check in the client, or set options certificate and key".into()
            }
            Visit { heard: false, .. } => {
                "closed the connection without a word: a port scan, a monitor, or a client that expects TLS or another protocol on this port".into()
            }
            _ if !self.understood => {
                "sent no SMTP command before it closed the connection: check which server and port are set in the client".into()
            }
            _ => format!("closed the connection without sending a message: {in_vain}"),
        };
        Event::NoMail { client: self.origin.name(), helo: self.origin.helo.clone(), tried }.log();
    }
}
