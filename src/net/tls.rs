//! TLS towards the provider: whom to trust, and what went wrong in words.

use std::io;
use std::sync::Arc;

use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::client::WebPkiServerVerifier;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::{self, CertificateError, ClientConfig, InvalidMessage, RootCertStore};

use super::expiry;
use super::trust::{Judge, Lack, Trust};
use super::{Trouble, TroubleKind};
use crate::config::Account;
use crate::config::files;
use crate::report::TlsFacts;

/// Bytes of the largest `ca_file`.
const CA_FILE_LIMIT: u64 = 4 << 20;

fn setup(reason: String) -> Trouble {
    Trouble::new(TroubleKind::Setup, reason)
}

/// The authorities that the account trusts.
fn roots(account: &Account) -> Result<RootCertStore, Trouble> {
    let mut store = RootCertStore::empty();
    if let Some(path) = &account.ca_file {
        let unusable = |what: String| setup(format!("ca_file {}: {what}", path.display()));
        let pem = files::read(path, CA_FILE_LIMIT).map_err(|e| unusable(format!("can't be read: {e}")))?;
        for certificate in CertificateDer::pem_slice_iter(&pem) {
            let certificate = certificate.map_err(|e| unusable(format!("is no PEM file: {e}")))?;
            store.add(certificate).map_err(|e| unusable(format!("has a certificate that is no authority: {e}")))?;
        }
        if store.is_empty() {
            return Err(unusable("has no certificate in it (PEM, BEGIN CERTIFICATE)".into()));
        }
    } else {
        store.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        if store.is_empty() {
            return Err(setup(
                "no certificate authorities on this system, so no provider can be verified: install the package ca-bundle".into(),
            ));
        }
    }
    Ok(store)
}

/// Prepares TLS for an account. Reads files: call it off the runtime thread.
///
/// # Errors
/// When there is nothing to trust.
pub fn connector(account: &Account) -> Result<TlsConnector, Trouble> {
    let provider = crate::system::crypto::provider();
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|e| setup(format!("TLS can't be set up: {e}")))?;
    let trust = match account.fingerprint {
        Some(fingerprint) => Trust::Fingerprint(fingerprint),
        None if !account.verify => Trust::Anything,
        None => {
            let known = Arc::new(roots(account)?);
            let verifier = WebPkiServerVerifier::builder_with_provider(known, Arc::clone(&provider)).build();
            Trust::Authorities(verifier.map_err(|e| setup(format!("TLS can't be set up: {e}")))?)
        }
    };
    let judge = Arc::new(Judge { trust, provider });
    let config = builder.dangerous().with_custom_certificate_verifier(judge).with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}

/// What the log says of a connection; `None` is one without TLS.
pub fn facts(tls: Option<&TlsStream<TcpStream>>, account: &Account) -> TlsFacts {
    let Some(tls) = tls else {
        return TlsFacts { version: "none".into(), verified: "no", ..TlsFacts::default() };
    };
    let (_, session) = tls.get_ref();
    let version =
        session.protocol_version().and_then(|v| v.as_str().map(|name| name.replace('_', "."))).unwrap_or_default();
    let cipher = session.negotiated_cipher_suite().map(|c| format!("{:?}", c.suite())).unwrap_or_default();
    let verified = match (account.fingerprint.is_some(), account.verify) {
        (true, _) => "fingerprint",
        (false, true) => "yes",
        (false, false) => "no",
    };
    let leaf = session.peer_certificates().and_then(|chain| chain.first());
    let expires = leaf.and_then(|leaf| expiry::not_after(leaf));
    TlsFacts { version, cipher, verified, expires }
}

/// What helps when the other side does not speak what was expected.
pub const PORT_AND_TLS: &str = "check port and tls (465 implicit, 587 starttls)";

/// A failed handshake in words.
pub fn explain(error: &io::Error, host: &str) -> Trouble {
    let (what, remedy) = match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        Some(rustls::Error::InvalidCertificate(problem)) => certificate(problem, host),
        Some(rustls::Error::InvalidMessage(problem)) => message(problem, host),
        Some(rustls::Error::PeerIncompatible(what)) => {
            (format!("{host} offers only TLS that is too old to be safe ({what:?}); "), "it needs TLS 1.2 or newer")
        }
        Some(rustls::Error::AlertReceived(alert)) => (format!("{host} broke off the TLS handshake ({alert:?}); "), ASK),
        Some(other) => (format!("TLS with {host} failed: {other}; "), ASK),
        None => {
            return Trouble::new(
                TroubleKind::Unreachable,
                format!("the connection to {host} broke during the TLS handshake: {error}"),
            );
        }
    };
    Trouble::new(TroubleKind::Tls, what + remedy).remedy(remedy)
}

/// What came was not read: another protocol, or more than TLS may carry.
fn message(problem: &InvalidMessage, host: &str) -> (String, &'static str) {
    use InvalidMessage as M;
    match problem {
        M::CertificatePayloadTooLarge | M::HandshakePayloadTooLarge => (
            format!("the certificates that {host} sends are larger than 64 KB in all: "),
            "have the server send its own certificate and the intermediate ones only",
        ),
        // The first bytes already are not those of TLS, or of a version that there is.
        M::InvalidContentType | M::UnknownProtocolVersion | M::MessageTooLarge | M::InvalidEmptyPayload => {
            (format!("{host} does not speak TLS on this port; "), PORT_AND_TLS)
        }
        other => (format!("{host} sent something in the TLS handshake that is not valid ({other:?}); "), ASK),
    }
}

const ASK: &str = "check host and port, or ask the provider";
const POSING: &str = "check option host; somebody may be posing as the provider";
const UNKNOWN: &str =
    "for a server of your own set ca_file, otherwise install ca-bundle; somebody may be posing as the provider";
const TOO_OLD: &str = "the server needs a certificate of today (version 3, RSA of 2048 bits or ECDSA, SHA-256); for a server of your own fingerprint takes it as it is";
const PINNED: &str =
    "for a server of your own set fingerprint, which takes the certificate as it is; otherwise ask the provider";

/// The names that a certificate has, as they stand in the error: `DnsName("a.example")`.
fn names(presented: &[String]) -> String {
    const SHOWN: usize = 3;
    let plain = |name: &String| name.split('"').nth(1).unwrap_or(name).chars().filter(|c| !c.is_control()).collect();
    let shown: Vec<String> = presented.iter().take(SHOWN).map(plain).collect();
    let more = if presented.len() > SHOWN { " and others" } else { "" };
    format!("{}{more}", shown.join(", "))
}

/// What is wrong with a certificate, up to the remedy, and the remedy.
fn certificate(problem: &CertificateError, host: &str) -> (String, &'static str) {
    use CertificateError as E;
    let signed = format!("the certificate of {host} is signed by an authority that is not known here");
    let called = |issuer: &str| if issuer.is_empty() { String::new() } else { format!(" ('{issuer}')") };
    match problem {
        E::UnknownIssuer => (format!("{signed}: "), UNKNOWN),
        E::NotValidForNameContext { presented, .. } if presented.is_empty() => (
            format!(
                "the certificate of {host} has no subjectAltName, and the name in its subject (CN) does not count (RFC 9525): "
            ),
            "for a server of your own set fingerprint, or make a certificate with subjectAltName; somebody may be posing as the provider",
        ),
        E::NotValidForNameContext { presented, .. } => {
            (format!("the certificate is for another name than {host} (it is for {}): ", names(presented)), POSING)
        }
        E::NotValidForName => (format!("the certificate is for another name than {host}: "), POSING),
        E::Expired | E::ExpiredContext { .. } => {
            (format!("the certificate of {host} has expired; "), "if it has not, this router's clock is wrong")
        }
        E::NotValidYet | E::NotValidYetContext { .. } => {
            let what = format!("the certificate of {host} is not yet valid: ");
            (what, "this router's clock is most likely wrong, check NTP")
        }
        E::ApplicationVerificationFailure => (
            format!("the certificate of {host} does not have the fingerprint that is set: "),
            "it was renewed, or somebody is posing as the provider",
        ),
        E::Revoked => (format!("the certificate of {host} was revoked; "), "ask the provider"),
        E::BadSignature => (
            format!("{host} does not have the key of its certificate, or the certificate was changed: "),
            "somebody may be posing as the provider",
        ),
        E::BadEncoding => (format!("the certificate of {host} can't be read: "), PINNED),
        E::InvalidPurpose | E::InvalidPurposeContext { .. } => {
            (format!("the certificate of {host} is not for servers (extendedKeyUsage): "), PINNED)
        }
        E::UnsupportedSignatureAlgorithmContext { .. } | E::UnsupportedSignatureAlgorithmForPublicKeyContext { .. } => {
            (
                format!("the certificate of {host}, or one above it, is signed in a way that is not safe any more: "),
                TOO_OLD,
            )
        }
        E::Other(other) => match other.0.downcast_ref::<Lack>() {
            Some(Lack::SelfSigned) => (format!("{signed} (it is self-signed): "), UNKNOWN),
            Some(Lack::Alone { issuer }) => (
                format!(
                    "{signed}{}, and it came alone: a server has to send its intermediate certificates as well: ",
                    called(issuer)
                ),
                UNKNOWN,
            ),
            Some(Lack::Chain { issuer }) => (format!("{signed}{}: ", called(issuer)), UNKNOWN),
            Some(Lack::SmallKey { bits }) => (
                format!("the RSA key of {host} has {bits} bits, too few to be verified with this version of TLS: "),
                "give the server a key of 2048 bits; verify '0' takes it, but anybody on the way can read along then",
            ),
            None => unnamed(&other.to_string(), host),
        },
        other => (format!("the certificate of {host} is not acceptable: {other:?}; "), "ask the provider"),
    }
}

/// What rustls has no name of its own for: it passes on what the library below says.
fn unnamed(reason: &str, host: &str) -> (String, &'static str) {
    // The remedy of each stands behind its first words.
    if reason.contains("CaUsedAsEndEntity") {
        // What `openssl req -x509` makes when it is told nothing else.
        return (
            format!("the certificate of {host} is one of an authority (CA:TRUE), not of a server: "),
            "for a server of your own set fingerprint, or make a certificate with CA:FALSE",
        );
    }
    if reason.contains("UnsupportedCriticalExtension") {
        return (format!("the certificate of {host} has a critical extension that is not known here: "), PINNED);
    }
    if reason.contains("UnsupportedCertVersion") {
        return (format!("the certificate of {host} is of X.509 version 1: "), TOO_OLD);
    }
    if reason.contains("EndEntityUsedAsCa") || reason.contains("Constraint") {
        let what = format!("the certificate of {host} is signed by one that may not sign it ({reason}): ");
        return (what, PINNED);
    }
    if reason.contains("Maximum") {
        let what = format!("{host} sends a chain of certificates that is too long to be verified ({reason}): ");
        return (what, "have the server send its own certificate and the intermediate ones only");
    }
    (format!("the certificate of {host} is not acceptable: {reason}; "), PINNED)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio_rustls::rustls::{AlertDescription, PeerIncompatible};

    /// What happened, and what to do about it.
    fn said(error: rustls::Error) -> (String, String) {
        let trouble = explain(&io::Error::new(io::ErrorKind::InvalidData, error), "mx");
        assert_eq!(trouble.kind, TroubleKind::Tls);
        (trouble.what().to_string(), trouble.remedy)
    }

    #[test]
    fn each_failure_has_its_sentence() {
        use CertificateError as C;
        use rustls::Error as E;
        const POSING: &str = "somebody may be posing as the provider";
        let bad = |problem| E::InvalidCertificate(problem);
        let own = format!("for a server of your own set ca_file, otherwise install ca-bundle; {POSING}");
        for (error, what, remedy) in [
            (bad(C::Expired), "the certificate of mx has expired", "if it has not, this router's clock is wrong"),
            (
                bad(C::NotValidYet),
                "the certificate of mx is not yet valid",
                "this router's clock is most likely wrong, check NTP",
            ),
            (
                bad(C::NotValidForName),
                "the certificate is for another name than mx",
                &format!("check option host; {POSING}"),
            ),
            (bad(C::UnknownIssuer), "the certificate of mx is signed by an authority that is not known here", &own),
            (
                bad(C::ApplicationVerificationFailure),
                "the certificate of mx does not have the fingerprint that is set",
                "it was renewed, or somebody is posing as the provider",
            ),
            (bad(C::Revoked), "the certificate of mx was revoked", "ask the provider"),
            (bad(C::BadEncoding), "the certificate of mx can't be read", PINNED),
            (
                E::InvalidMessage(InvalidMessage::CertificatePayloadTooLarge),
                "the certificates that mx sends are larger than 64 KB in all",
                "have the server send its own certificate and the intermediate ones only",
            ),
            // What other libraries call "wrong version number": SMTP in the clear where TLS was expected.
            (
                E::InvalidMessage(InvalidMessage::InvalidContentType),
                "mx does not speak TLS on this port",
                "check port and tls (465 implicit, 587 starttls)",
            ),
            (
                E::PeerIncompatible(PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig),
                "mx offers only TLS that is too old to be safe (ServerTlsVersionIsDisabledByOurConfig)",
                "it needs TLS 1.2 or newer",
            ),
            (
                E::AlertReceived(AlertDescription::HandshakeFailure),
                "mx broke off the TLS handshake (HandshakeFailure)",
                "check host and port, or ask the provider",
            ),
            (
                E::AlertReceived(AlertDescription::UnrecognisedName),
                "mx broke off the TLS handshake (UnrecognisedName)",
                "check host and port, or ask the provider",
            ),
        ] {
            assert_eq!(said(error), (what.to_string(), remedy.to_string()));
        }
        let broken = explain(&io::Error::from(io::ErrorKind::ConnectionReset), "mx");
        assert_eq!(broken.kind, TroubleKind::Unreachable);
        assert_eq!(broken.what(), "the connection to mx broke during the TLS handshake: connection reset");
    }
}
