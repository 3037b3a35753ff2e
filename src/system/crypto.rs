// SPDX-License-Identifier: Apache-2.0
//! The cryptography that TLS uses, with providers and devices alike.

use std::sync::Arc;

use tokio_rustls::rustls;
use tokio_rustls::rustls::crypto::{CryptoProvider, KeyProvider, ring};
use tokio_rustls::rustls::pki_types::PrivateKeyDer;
use tokio_rustls::rustls::sign::SigningKey;
use tokio_rustls::rustls::{AlertDescription, CipherSuite, SupportedCipherSuite};

/// Loads no private keys: client certificates are not supported, and listeners load their keys themselves. The code for
/// every kind of key would be dead weight.
#[derive(Debug)]
struct NoKeys;

impl KeyProvider for NoKeys {
    fn load_private_key(&self, _key: PrivateKeyDer<'static>) -> Result<Arc<dyn SigningKey>, rustls::Error> {
        Err(rustls::Error::General("client certificates are not supported".into()))
    }
}

/// Ring, without keys. The only place that names ring's own provider: if there are two, the compiler no longer sees
/// that its key code is unused, and the program grows by tens of kilobytes.
pub fn provider() -> Arc<CryptoProvider> {
    let mut provider = CryptoProvider { key_provider: &NoKeys, ..ring::default_provider() };
    prefer(&mut provider.cipher_suites, has_aes());
    Arc::new(provider)
}

/// Offers ChaCha20-Poly1305 (RFC 8439) before AES where the processor has no instructions for AES: on a MIPS router a
/// megabyte then takes a fifth of the time. The suites are equally secure, and the server may still choose another one.
fn prefer(suites: &mut [SupportedCipherSuite], aes: bool) {
    let is_chacha = |suite: &SupportedCipherSuite| {
        matches!(
            suite.suite(),
            CipherSuite::TLS13_CHACHA20_POLY1305_SHA256
                | CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256
                | CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256
        )
    };
    if !aes {
        suites.sort_by_key(|suite| !is_chacha(suite));
    }
}

/// Whether the processor has instructions for AES. MIPS has none, and neither do the 32-bit ARM cores of routers.
fn has_aes() -> bool {
    #[cfg(target_arch = "x86_64")]
    return std::arch::is_x86_feature_detected!("aes");
    #[cfg(target_arch = "aarch64")]
    return std::arch::is_aarch64_feature_detected!("aes");
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    return false;
}

/// A TLS alert by its number and, if known, its name: `40 (handshake failure)`.
pub fn alerted(alert: AlertDescription) -> String {
    let name = alert.as_str().map(|name| format!(" ({})", words(name))).unwrap_or_default();
    format!("{}{name}", u8::from(alert))
}

/// The name of a variant in words: `HandshakeFailure` is "handshake failure". Its content is omitted; any other text is
/// returned unchanged.
pub fn words(debug: &str) -> String {
    let end = debug.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(debug.len());
    let (name, rest) = debug.split_at(end);
    if !(rest.is_empty() || rest.starts_with('(') || rest.starts_with(" {")) {
        return debug.to_string();
    }
    let mut text = String::with_capacity(name.len() + 8);
    let mut before: Option<char> = None;
    let mut letters = name.chars().peekable();
    while let Some(letter) = letters.next() {
        let begins = letters.peek().is_some_and(char::is_ascii_lowercase);
        if letter.is_ascii_uppercase() && before.is_some_and(|before| begins || !before.is_ascii_uppercase()) {
            text.push(' ');
        }
        text.push(if begins { letter.to_ascii_lowercase() } else { letter });
        before = Some(letter);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_instructions_for_aes_chacha20_is_offered_first() {
        let names = |aes| {
            let mut suites = ring::default_provider().cipher_suites;
            prefer(&mut suites, aes);
            suites.iter().map(|suite| format!("{:?}", suite.suite())).collect::<Vec<_>>()
        };
        let (with, without) = (names(true), names(false));
        assert_eq!(with.first().map(String::as_str), Some("TLS13_AES_256_GCM_SHA384"));
        let chacha = without.iter().take_while(|name| name.contains("CHACHA20")).count();
        assert_eq!(chacha, 3, "{without:?}");
        // AES keeps its order, and nothing is lost.
        let aes = |names: &[String]| names.iter().filter(|name| name.contains("AES")).cloned().collect::<Vec<_>>();
        assert_eq!(aes(&with), aes(&without));
        assert_eq!(with.len(), without.len());
    }

    #[test]
    fn variants_are_put_into_words() {
        for (debug, expected) in [
            ("HandshakeFailure", "handshake failure"),
            ("UnknownCA", "unknown CA"),
            ("UnknownPSKIdentity", "unknown PSK identity"),
            ("ServerDoesNotSupportTls12Or13", "server does not support tls12 or13"),
            ("TrailingData(CertificateTBSCertificate)", "trailing data"),
            ("CertExpired { time: UnixTime(1), not_after: UnixTime(0) }", "cert expired"),
            ("the name is not valid", "the name is not valid"),
            ("", ""),
        ] {
            assert_eq!(words(debug), expected);
        }
    }
}
