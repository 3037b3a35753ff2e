// SPDX-License-Identifier: Apache-2.0
//! What a provider stand-in offers and asks for.

use std::time::Duration;

use super::super::certs::Cert;
use super::auth::{Mechanism, Tokens};

/// How TLS begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsMode {
    /// With the first byte, as on port 465.
    Implicit,
    /// By STARTTLS, as on port 587; without it nothing can be sent.
    StartTls,
    /// Never.
    None,
}

/// Which versions of TLS are spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsVersions {
    /// TLS 1.2 and 1.3.
    Both,
    /// TLS 1.2 only.
    Only12,
    /// TLS 1.3 only.
    Only13,
}

/// What the stand-in offers and asks for. A change holds for connections that come after it.
#[derive(Clone, Debug)]
pub struct Settings {
    /// How TLS begins.
    pub tls: TlsMode,
    /// Which versions of TLS are spoken.
    pub versions: TlsVersions,
    /// Which certificate is shown.
    pub cert: Cert,
    /// Takes up TLS sessions of earlier connections again.
    pub resumption: bool,
    /// User and password without which MAIL is refused; none: MAIL needs no login.
    pub login: Option<(String, String)>,
    /// Tokens that are good in place of the password.
    pub tokens: Option<Tokens>,
    /// Offered in AUTH; empty: AUTH is not offered.
    pub mechanisms: Vec<Mechanism>,
    /// Offers PIPELINING (RFC 2920).
    pub pipelining: bool,
    /// Offers 8BITMIME (RFC 6152).
    pub eight_bit_mime: bool,
    /// Offers SMTPUTF8 (RFC 6531).
    pub smtputf8: bool,
    /// Offers SIZE with this many bytes (RFC 1870) and refuses what is bigger.
    pub size: Option<u64>,
    /// Offers CHUNKING (RFC 3030).
    pub chunking: bool,
    /// Does not skip a chunk that it refuses for want of a recipient, and reads it as commands, against RFC 3030 section 2.
    pub reads_refused_chunks: bool,
    /// Asks for the text (354) also when it has taken no sender or no recipient, as RFC 2920 section 3.1 allows.
    pub asks_anyway: bool,
    /// How many messages it takes on one connection, and what it says to MAIL then.
    pub most: Option<(usize, String)>,
    /// Offers STARTTLS, if `tls` is [`TlsMode::StartTls`]. If not, it behaves as if somebody had taken STARTTLS
    /// out of the reply, and takes mail without TLS: what a stripping attacker would do.
    pub starttls_offered: bool,
    /// Lines of plain text that are sent in the same packet behind the 220 to STARTTLS.
    pub injection: Option<String>,
    /// The first line.
    pub greeting: String,
    /// On each so-many-th connection, the reply to a text takes so long.
    pub slow: Option<(usize, Duration)>,
}

impl Default for Settings {
    /// Implicit TLS 1.2 or 1.3 with a good certificate, no login, all capabilities but CHUNKING.
    fn default() -> Settings {
        Settings {
            tls: TlsMode::Implicit,
            versions: TlsVersions::Both,
            cert: Cert::Good,
            resumption: true,
            login: None,
            tokens: None,
            mechanisms: Vec::new(),
            pipelining: true,
            eight_bit_mime: true,
            smtputf8: true,
            size: Some(50 * 1024 * 1024),
            chunking: false,
            reads_refused_chunks: false,
            asks_anyway: false,
            most: None,
            starttls_offered: true,
            injection: None,
            greeting: "220 provider.example ESMTP".to_owned(),
            slow: None,
        }
    }
}
