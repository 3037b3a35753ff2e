// SPDX-License-Identifier: Apache-2.0
//! How long a provider may take for each step, derived from the account's option `timeout`.

use std::time::Duration;

/// Option `timeout` of the account: for one reply. All other times are proportional to it, so that one option scales
/// all timeouts. With the default of 120 s the times below are those in brackets.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience(pub Duration);

impl Patience {
    /// For a TCP connection to one address; a provider has several (20 s).
    pub fn connection(self) -> Duration {
        self.0.min(Duration::from_secs(20))
    }

    /// For the TLS handshake (60 s).
    pub fn handshake(self) -> Duration {
        self.0 / 2
    }

    /// For the reply to a command (120 s). RFC 5321 section 4.5.3.2 says five minutes, which no provider needs, but
    /// some delay new clients for a while.
    pub fn command(self) -> Duration {
        self.0
    }

    /// For one chunk of the text to be sent (180 s, RFC 5321 section 4.5.3.2.5).
    pub fn piece(self) -> Duration {
        self.0 * 3 / 2
    }

    /// For the reply to the end of the message (600 s, RFC 5321 section 4.5.3.2.6): giving up early sends it twice.
    pub fn end(self) -> Duration {
        self.0 * 5
    }

    /// For the last replies of a server that is closing, and for the reply to RSET (10 s): nothing is lost without it.
    pub fn goodbye(self) -> Duration {
        self.0.min(Duration::from_secs(10))
    }
}
