// SPDX-License-Identifier: Apache-2.0
//! TLS to the provider: which certificates to trust, and TLS errors in plain words.

use std::fmt;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex};

use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::{self, CertificateError, ClientConfig, InvalidMessage, PeerIncompatible, RootCertStore};

use super::trust::{Certificate, Judge, Lack, Trust};
use super::{Trouble, TroubleKind};
use crate::config::{Account, files};
use crate::report::TlsFacts;
use crate::system::crypto::{alerted, words};

/// Maximum size of `ca_file` in bytes.
const CA_FILE_LIMIT: u64 = 4 << 20;

fn setup(reason: String) -> Trouble {
    Trouble::new(TroubleKind::Setup, reason)
}

/// The certificate authorities that the account trusts.
fn roots(account: &Account) -> Result<RootCertStore, Trouble> {
    if let Some(path) = &account.ca_file {
        // As root has read it, or as it is now if that cannot be used.
        return authorities(path, files::read).or_else(|error| authorities(path, files::now).map_err(|_| error));
    }
    let mut store = RootCertStore::empty();
    store.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if store.is_empty() {
        let what = "no certificate authorities are installed, so no server certificate can be verified";
        return Err(setup(what.into()).remedy("install the package ca-bundle"));
    }
    Ok(store)
}

fn authorities(path: &Path, read: files::Reading) -> Result<RootCertStore, Trouble> {
    let mut store = RootCertStore::empty();
    let unusable = |what: String| setup(format!("ca_file {}: {what}", path.display()));
    let pem = read(path, CA_FILE_LIMIT).map_err(|e| unusable(format!("cannot be read: {e}")))?;
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        let certificate =
            certificate.map_err(|e| unusable(format!("is not a valid PEM file ({})", words(&format!("{e:?}")))))?;
        store.add(certificate).map_err(|e| {
            let flaw = words(&format!("{:?}", cause(&e)));
            unusable(format!("contains a certificate that cannot be used as an authority ({flaw}); {PINNED}"))
        })?;
    }
    match store.is_empty() {
        true => Err(unusable("contains no certificate (PEM, BEGIN CERTIFICATE)".into())),
        false => Ok(store),
    }
}

/// Prepares TLS for an account. Reads files, so it must not be called on the runtime thread.
///
/// # Errors
/// If there is nothing to trust.
pub fn connector(account: &Account) -> Result<TlsConnector, Trouble> {
    Ok(judged(account)?.0)
}

/// The same, with its judge, which knows the certificate that it has rejected.
///
/// # Errors
/// If there is nothing to trust.
pub fn judged(account: &Account) -> Result<(TlsConnector, Arc<Judge>), Trouble> {
    let provider = crate::system::crypto::provider();
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|e| setup(format!("TLS cannot be set up: {e}")))?;
    let trust = match account.fingerprint {
        Some(fingerprint) => Trust::Fingerprint(fingerprint),
        None if !account.verify => Trust::Anything,
        None => Trust::Authorities(roots(account)?),
    };
    let judge = Arc::new(Judge { trust, provider, rejected: Mutex::default() });
    let verifier = Arc::clone(&judge);
    let config = builder.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth();
    Ok((TlsConnector::from(Arc::new(config)), judge))
}

/// What the log records about a connection; `None` means without TLS.
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
    let expires = leaf.and_then(|leaf| Certificate::read(leaf)?.not_after());
    TlsFacts { version, cipher, verified, expires }
}

/// The remedy if the server does not speak the expected protocol.
pub const PORT_AND_TLS: &str = "check port and tls (465 implicit, 587 starttls)";

/// Describes a failed handshake in words, without Debug output.
pub fn explain(error: &io::Error, host: &str) -> Trouble {
    let (what, remedy) = match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        Some(rustls::Error::InvalidCertificate(problem)) => certificate(problem, host),
        Some(rustls::Error::InvalidMessage(problem)) => message(problem, host),
        Some(rustls::Error::PeerIncompatible(what)) => incompatible(what, host),
        Some(rustls::Error::AlertReceived(alert)) => {
            let remedy = if *alert == rustls::AlertDescription::HandshakeFailure { OTHER_KEY } else { ASK };
            (format!("{host} aborted the TLS handshake with alert {}", alerted(*alert)), remedy)
        }
        Some(rustls::Error::NoCertificatesPresented) => (format!("{host} sent no certificate"), ASK),
        Some(rustls::Error::PeerMisbehaved(what)) => {
            (format!("{host} violated the TLS protocol ({})", words(&format!("{what:?}"))), ASK)
        }
        Some(rustls::Error::General(text)) => (format!("TLS with {host} failed: {text}"), ASK),
        Some(other) => (format!("TLS with {host} failed ({})", words(&format!("{other:?}"))), ASK),
        None => {
            return Trouble::new(
                TroubleKind::Unreachable,
                format!("the connection to {host} was lost during the TLS handshake: {error}"),
            );
        }
    };
    Trouble::new(TroubleKind::Tls, what).remedy(remedy)
}

/// The server supports nothing that this program may use.
fn incompatible(what: &PeerIncompatible, host: &str) -> (String, &'static str) {
    use PeerIncompatible as P;
    match what {
        P::ServerDoesNotSupportTls12Or13 | P::ServerTlsVersionIsDisabledByOurConfig => (
            format!("{host} supports only TLS versions that are no longer secure"),
            "update the server to TLS 1.2 or newer, or ask the provider",
        ),
        other => (
            format!("{host} supports no TLS parameters that are secure today ({})", words(&format!("{other:?}"))),
            "update the server, or ask the provider",
        ),
    }
}

/// The cause within an error: the library below, if it names one, says more than the error itself.
fn cause(error: &rustls::Error) -> &dyn fmt::Debug {
    match error {
        rustls::Error::InvalidCertificate(CertificateError::Other(other)) => &other.0,
        rustls::Error::InvalidCertificate(problem) => problem,
        other => other,
    }
}

/// The message could not be parsed: it belongs to another protocol, or is larger than TLS allows.
fn message(problem: &InvalidMessage, host: &str) -> (String, &'static str) {
    use InvalidMessage as M;
    match problem {
        M::CertificatePayloadTooLarge | M::HandshakePayloadTooLarge => {
            (format!("the certificates that {host} sends exceed 64 KB in total"), CHAIN)
        }
        // Not even the first bytes are those of TLS, or of a TLS version that exists.
        M::InvalidContentType | M::UnknownProtocolVersion | M::MessageTooLarge | M::InvalidEmptyPayload => {
            (format!("{host} does not speak TLS on this port"), PORT_AND_TLS)
        }
        other => (format!("{host} sent an invalid TLS message ({})", words(&format!("{other:?}"))), ASK),
    }
}

const ASK: &str = "check host and port, or ask the provider";
/// A server aborts like this if it has nothing in common with us, most often because of its key.
const OTHER_KEY: &str =
    "check host and port; your own server needs a key of RSA with 2048 bits, ECDSA with P-256 or P-384, or Ed25519";
const POSING: &str = "check option host; another server may be impersonating the provider";
const UNKNOWN: &str = "for your own server, set ca_file or fingerprint; otherwise install ca-bundle; another server may be impersonating the provider";
const TOO_OLD: &str = "the server needs a current certificate (version 3, RSA of 2048 bits or ECDSA, SHA-256); for your own server, set fingerprint, which accepts the certificate as it is";
const PINNED: &str =
    "for your own server, set fingerprint, which accepts the certificate as it is; otherwise ask the provider";
const CHAIN: &str = "configure the server to send only its own certificate and the intermediate certificates";

/// The hosts in a certificate; empty if there are none. The error contains them in these forms: `DnsName("a.example")`,
/// `IpAddress(192.0.2.1)`; other kinds of names are not about hosts.
fn names(presented: &[String]) -> String {
    const SHOWN: usize = 3;
    let host = |name: &String| {
        let dns = || name.strip_prefix("DnsName(\"")?.strip_suffix("\")");
        let ip = || name.strip_prefix("IpAddress(")?.strip_suffix(')');
        Some(dns().or_else(ip)?.chars().filter(|c| !c.is_control()).collect())
    };
    let mut hosts = presented.iter().filter_map(host);
    let shown: Vec<String> = hosts.by_ref().take(SHOWN).collect();
    let more = if hosts.next().is_some() { " and others" } else { "" };
    format!("{}{more}", shown.join(", "))
}

/// What is wrong with a certificate, up to the remedy, and the remedy.
fn certificate(problem: &CertificateError, host: &str) -> (String, &'static str) {
    use CertificateError as E;
    let signed = format!("the certificate of {host} is signed by an unknown authority");
    let called = |issuer: &str| if issuer.is_empty() { String::new() } else { format!(" ('{issuer}')") };
    match problem {
        E::UnknownIssuer => (signed, UNKNOWN),
        E::NotValidForNameContext { presented, .. } => match names(presented) {
            // There may be names of other kinds, such as a mail address.
            hosts if hosts.is_empty() => {
                let kind = if presented.is_empty() { "" } else { " with a host" };
                (
                    format!(
                        "the certificate of {host} has no subjectAltName{kind}, and its common name (CN) is ignored (RFC 9525)"
                    ),
                    "for your own server, set fingerprint or create a certificate with a subjectAltName; another server may be impersonating the provider",
                )
            }
            hosts => (format!("the certificate is not valid for {host}, only for {hosts}"), POSING),
        },
        E::NotValidForName => (format!("the certificate is not valid for {host}"), POSING),
        E::Expired | E::ExpiredContext { .. } => (
            format!("the certificate of {host} has expired"),
            "renew it; if it is still valid, this router's clock is wrong: check NTP",
        ),
        E::NotValidYet | E::NotValidYetContext { .. } => {
            let what = format!("the certificate of {host} is not yet valid");
            (what, "this router's clock is probably wrong, check NTP")
        }
        E::ApplicationVerificationFailure => (
            format!("the certificate of {host} does not match option fingerprint"),
            "if it was renewed, set the new fingerprint; otherwise another server may be impersonating the provider",
        ),
        E::Revoked => (format!("the certificate of {host} has been revoked"), "ask the provider"),
        E::BadSignature => (
            format!("{host} does not have the private key of its certificate, or the certificate was modified"),
            "another server may be impersonating the provider; the key of your own server must be RSA of 2048 bits or more, or ECDSA",
        ),
        E::BadEncoding => (format!("the certificate of {host} cannot be read"), PINNED),
        E::InvalidPurpose | E::InvalidPurposeContext { .. } => (not_for_servers(host), PINNED),
        E::UnhandledCriticalExtension => (critical(host), PINNED),
        #[allow(deprecated, reason = "a verifier may still return it")]
        E::UnsupportedSignatureAlgorithm
        | E::UnsupportedSignatureAlgorithmContext { .. }
        | E::UnsupportedSignatureAlgorithmForPublicKeyContext { .. } => (
            format!(
                "the certificate of {host}, or one above it, is signed with an algorithm that is no longer secure (such as SHA-1)"
            ),
            TOO_OLD,
        ),
        E::Other(other) => match other.0.downcast_ref::<Lack>() {
            Some(Lack::SelfSigned) => (format!("{signed} (it is self-signed)"), UNKNOWN),
            Some(Lack::Alone { issuer }) => (
                format!(
                    "{signed}{}, and it came alone: a server must also send its intermediate certificates",
                    called(issuer)
                ),
                UNKNOWN,
            ),
            Some(Lack::Gap { issuer }) => (
                format!(
                    "{signed}{}, whose certificate was not sent: a server must also send its intermediate certificates",
                    called(issuer)
                ),
                UNKNOWN,
            ),
            Some(Lack::Chain { issuer }) => (format!("{signed}{}", called(issuer)), UNKNOWN),
            Some(Lack::SmallKey { bits }) => (
                format!("the RSA key of {host} has {bits} bits, too few to be verified with this version of TLS"),
                "give the server a key of 2048 bits; verify '0' accepts it, but then the connection can be intercepted",
            ),
            None => unnamed(&other.to_string(), host),
        },
        other => (format!("the certificate of {host} is not acceptable ({})", words(&format!("{other:?}"))), PINNED),
    }
}

fn not_for_servers(host: &str) -> String {
    format!("the certificate of {host} is not meant for servers (extendedKeyUsage)")
}

fn critical(host: &str) -> String {
    format!("the certificate of {host} has an unsupported critical extension")
}

/// Errors for which rustls has no variant of its own: it passes on the error of the library below.
fn unnamed(reason: &str, host: &str) -> (String, &'static str) {
    if reason.contains("CaUsedAsEndEntity") {
        // What `openssl req -x509` creates by default.
        return (
            format!("the certificate of {host} is a CA certificate (CA:TRUE), not a server certificate"),
            "for your own server, set fingerprint or create a certificate with CA:FALSE",
        );
    }
    if reason.contains("UnsupportedCriticalExtension") {
        return (critical(host), PINNED);
    }
    if reason.contains("UnsupportedCertVersion") {
        return (format!("the certificate of {host} is an X.509 version 1 certificate"), TOO_OLD);
    }
    if reason.contains("EmptyEkuExtension") {
        return (not_for_servers(host), PINNED);
    }
    let named = words(reason);
    if reason.contains("EndEntityUsedAsCa") || reason.contains("Constraint") {
        let what = format!("the issuer of the certificate of {host} is not allowed to sign it ({named})");
        return (what, PINNED);
    }
    if reason.contains("Maximum") {
        return (format!("{host} sends a certificate chain that is too long to be verified ({named})"), CHAIN);
    }
    (format!("the certificate of {host} is not acceptable ({named})"), PINNED)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio_rustls::rustls::pki_types::{ServerName, UnixTime};
    use tokio_rustls::rustls::{ExtendedKeyPurpose, OtherError};

    /// What happened, and the remedy.
    fn said(error: rustls::Error) -> (String, String) {
        let trouble = explain(&io::Error::new(io::ErrorKind::InvalidData, error), "mx");
        assert_eq!(trouble.kind, TroubleKind::Tls);
        let why = trouble.into_why();
        (why.what, why.remedy)
    }

    #[test]
    fn each_failure_has_its_sentence() {
        use CertificateError as C;
        use rustls::Error as E;
        const POSING: &str = "another server may be impersonating the provider";
        let bad = |problem| E::InvalidCertificate(problem);
        let own = format!("for your own server, set ca_file or fingerprint; otherwise install ca-bundle; {POSING}");
        for (error, what, remedy) in [
            (
                bad(C::Expired),
                "the certificate of mx has expired",
                "renew it; if it is still valid, this router's clock is wrong: check NTP",
            ),
            (
                bad(C::NotValidYet),
                "the certificate of mx is not yet valid",
                "this router's clock is probably wrong, check NTP",
            ),
            (bad(C::NotValidForName), "the certificate is not valid for mx", &format!("check option host; {POSING}")),
            (bad(C::UnknownIssuer), "the certificate of mx is signed by an unknown authority", &own),
            (
                bad(C::ApplicationVerificationFailure),
                "the certificate of mx does not match option fingerprint",
                "if it was renewed, set the new fingerprint; otherwise another server may be impersonating the provider",
            ),
            (bad(C::Revoked), "the certificate of mx has been revoked", "ask the provider"),
            (bad(C::BadEncoding), "the certificate of mx cannot be read", PINNED),
            (
                E::InvalidMessage(InvalidMessage::CertificatePayloadTooLarge),
                "the certificates that mx sends exceed 64 KB in total",
                "configure the server to send only its own certificate and the intermediate certificates",
            ),
            // What other libraries call "wrong version number": plain-text SMTP where TLS was expected.
            (
                E::InvalidMessage(InvalidMessage::InvalidContentType),
                "mx does not speak TLS on this port",
                "check port and tls (465 implicit, 587 starttls)",
            ),
            (
                E::PeerIncompatible(PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig),
                "mx supports only TLS versions that are no longer secure",
                "update the server to TLS 1.2 or newer, or ask the provider",
            ),
            (
                E::AlertReceived(rustls::AlertDescription::HandshakeFailure),
                "mx aborted the TLS handshake with alert 40 (handshake failure)",
                OTHER_KEY,
            ),
            (
                E::AlertReceived(rustls::AlertDescription::UnrecognisedName),
                "mx aborted the TLS handshake with alert 112 (unrecognised name)",
                "check host and port, or ask the provider",
            ),
        ] {
            assert_eq!(said(error), (what.to_string(), remedy.to_string()));
        }
        let broken = explain(&io::Error::from(io::ErrorKind::ConnectionReset), "mx");
        assert_eq!(broken.kind, TroubleKind::Unreachable);
        assert_eq!(broken.why.what, "the connection to mx was lost during the TLS handshake: connection reset");
    }

    /// What the library below rustls says: its `Display` is its `Debug`.
    #[derive(Debug)]
    struct Below(&'static str);

    impl fmt::Display for Below {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(self.0)
        }
    }

    impl std::error::Error for Below {}

    /// Every error of a certificate that can be constructed here.
    fn flaws() -> Vec<CertificateError> {
        use CertificateError as C;
        let time = UnixTime::since_unix_epoch(std::time::Duration::from_secs(1_800_000_000));
        let expected = ServerName::try_from("mx").unwrap();
        let presented = |names: &[&str]| names.iter().map(|name| format!("DnsName(\"{name}\")")).collect();
        let mut flaws = vec![
            C::BadEncoding,
            C::Expired,
            C::ExpiredContext { time, not_after: time },
            C::NotValidYet,
            C::NotValidYetContext { time, not_before: time },
            C::Revoked,
            C::UnhandledCriticalExtension,
            C::UnknownIssuer,
            C::UnknownRevocationStatus,
            C::ExpiredRevocationList,
            C::ExpiredRevocationListContext { time, next_update: time },
            C::BadSignature,
            #[allow(deprecated, reason = "a verifier may still return it")]
            C::UnsupportedSignatureAlgorithm,
            C::UnsupportedSignatureAlgorithmContext { signature_algorithm_id: vec![1], supported_algorithms: vec![] },
            C::UnsupportedSignatureAlgorithmForPublicKeyContext {
                signature_algorithm_id: vec![1],
                public_key_algorithm_id: vec![2],
            },
            C::NotValidForName,
            C::NotValidForNameContext { expected: expected.clone(), presented: vec![] },
            C::NotValidForNameContext { expected: expected.clone(), presented: presented(&["a.example", "b.example"]) },
            C::NotValidForNameContext {
                expected,
                presented: [
                    "DirectoryName",
                    "IpAddress(10.0.0.1)",
                    "UniformResourceIdentifier(\"x\")",
                    "Unsupported(0x01)",
                    "DnsName(\"c.example\")",
                ]
                .map(String::from)
                .to_vec(),
            },
            C::InvalidPurpose,
            C::InvalidPurposeContext {
                required: ExtendedKeyPurpose::ServerAuth,
                presented: vec![ExtendedKeyPurpose::ClientAuth, ExtendedKeyPurpose::Other(vec![1, 3])],
            },
            C::InvalidOcspResponse,
            C::ApplicationVerificationFailure,
        ];
        let lacks = [
            Lack::SelfSigned,
            Lack::Alone { issuer: "an issuer".into() },
            Lack::Gap { issuer: "an issuer".into() },
            Lack::Chain { issuer: String::new() },
            Lack::SmallKey { bits: 1024 },
        ];
        flaws.extend(lacks.map(|lack| C::Other(OtherError(Arc::new(lack)))));
        // Variants of webpki 0.103 that rustls passes on.
        let below = [
            "CaUsedAsEndEntity",
            "CertDistrusted",
            "EmptyEkuExtension",
            "EndEntityUsedAsCa",
            "ExtensionValueInvalid",
            "InvalidNetworkMaskConstraint",
            "InvalidSerialNumber",
            "MalformedDnsIdentifier",
            "MalformedExtensions",
            "MalformedNameConstraint",
            "MaximumNameConstraintComparisonsExceeded",
            "MaximumPathBuildCallsExceeded",
            "MaximumPathDepthExceeded",
            "MaximumSignatureChecksExceeded",
            "NameConstraintViolation",
            "PathLenConstraintViolated",
            "SignatureAlgorithmMismatch",
            "TrailingData(CertificateTBSCertificate)",
            "UnsupportedCertVersion",
            "UnsupportedCriticalExtension",
            "UnsupportedNameType",
        ];
        flaws.extend(below.map(|below| C::Other(OtherError(Arc::new(Below(below))))));
        flaws
    }

    #[test]
    fn no_error_of_tls_is_shown_as_debug_output_and_each_has_a_remedy() {
        use rustls::Error as E;
        use rustls::{CertRevocationListError, EncryptedClientHelloError, InconsistentKeys, PeerMisbehaved};
        use rustls::{ContentType, HandshakeType};
        let mut errors: Vec<E> = flaws().into_iter().map(E::InvalidCertificate).collect();
        errors.extend((0..=u8::MAX).map(|alert| E::AlertReceived(alert.into())));
        errors.extend(INVALID.map(E::InvalidMessage));
        errors.extend(incompatibilities().into_iter().map(E::PeerIncompatible));
        errors.extend([
            E::InappropriateMessage {
                expect_types: vec![ContentType::Handshake, ContentType::Alert],
                got_type: ContentType::ApplicationData,
            },
            E::InappropriateHandshakeMessage {
                expect_types: vec![HandshakeType::ServerHello],
                got_type: HandshakeType::Finished,
            },
            E::InvalidEncryptedClientHello(EncryptedClientHelloError::SniRequired),
            E::NoCertificatesPresented,
            E::UnsupportedNameType,
            E::DecryptError,
            E::EncryptError,
            E::PeerMisbehaved(PeerMisbehaved::AttemptedDowngradeToTls12WhenTls13IsSupported),
            E::PeerMisbehaved(PeerMisbehaved::SelectedUnofferedCipherSuite),
            E::PeerMisbehaved(PeerMisbehaved::SignedHandshakeWithUnadvertisedSigScheme),
            E::InvalidCertRevocationList(CertRevocationListError::BadSignature),
            E::General("there is no key exchange group".into()),
            E::FailedToGetCurrentTime,
            E::FailedToGetRandomBytes,
            E::HandshakeNotComplete,
            E::PeerSentOversizedRecord,
            E::NoApplicationProtocol,
            E::BadMaxFragmentSize,
            E::InconsistentKeys(InconsistentKeys::KeyMismatch),
            E::Other(OtherError(Arc::new(Below("UnsupportedCertVersion")))),
        ]);
        for error in errors {
            let debug = format!("{error:?}");
            let (what, remedy) = said(error);
            let mut text = format!("{what}; {remedy}");
            // Names of X.509, and of our options, are written like this.
            for name in ["subjectAltName", "extendedKeyUsage"] {
                text = text.replace(name, "");
            }
            let camel =
                text.as_bytes().windows(2).any(|pair| pair[0].is_ascii_lowercase() && pair[1].is_ascii_uppercase());
            assert!(!camel && !text.contains(['{', '}', '[', ']', '"']), "{debug}: {text}");
            assert!(what.contains("mx") && !remedy.is_empty(), "{debug}: {text}");
        }
    }

    #[test]
    fn where_a_fingerprint_helps_the_remedy_names_it() {
        use CertificateError as C;
        let below = |name| C::Other(OtherError(Arc::new(Below(name))));
        for flaw in [
            C::NotValidForNameContext { expected: ServerName::try_from("mx").unwrap(), presented: vec![] },
            C::UnsupportedSignatureAlgorithmContext { signature_algorithm_id: vec![1], supported_algorithms: vec![] },
            C::InvalidPurpose,
            C::UnknownIssuer,
            below("CaUsedAsEndEntity"),
            below("UnsupportedCertVersion"),
            below("UnsupportedCriticalExtension"),
        ] {
            let (what, remedy) = said(rustls::Error::InvalidCertificate(flaw));
            assert!(remedy.contains("fingerprint"), "{what}: {remedy}");
        }
    }

    #[test]
    fn only_hosts_are_named() {
        for (presented, expected) in [
            (&["Unsupported(0x01)"][..], ""),
            (&["DirectoryName", "UniformResourceIdentifier(\"https://x\")"], ""),
            (&["IpAddress(10.0.0.1)", "Unsupported(0x01)"], "10.0.0.1"),
            (&["Unsupported(0x01)", "DnsName(\"a\")", "DnsName(\"b\")", "IpAddress(::1)"], "a, b, ::1"),
            (&["DnsName(\"a\")", "DnsName(\"b\")", "DnsName(\"c\")", "DirectoryName"], "a, b, c"),
            (&["DnsName(\"a\")", "DnsName(\"b\")", "DnsName(\"c\")", "DnsName(\"d\")"], "a, b, c and others"),
        ] {
            let presented: Vec<String> = presented.iter().map(|name| name.to_string()).collect();
            assert_eq!(names(&presented), expected);
        }
    }

    const INVALID: [InvalidMessage; 27] = [
        InvalidMessage::CertificatePayloadTooLarge,
        InvalidMessage::HandshakePayloadTooLarge,
        InvalidMessage::InvalidCcs,
        InvalidMessage::InvalidContentType,
        InvalidMessage::InvalidCertificateStatusType,
        InvalidMessage::InvalidCertRequest,
        InvalidMessage::InvalidDhParams,
        InvalidMessage::InvalidEmptyPayload,
        InvalidMessage::InvalidKeyUpdate,
        InvalidMessage::InvalidServerName,
        InvalidMessage::MessageTooLarge,
        InvalidMessage::MessageTooShort,
        InvalidMessage::MissingData("CertificatePayload"),
        InvalidMessage::MissingKeyExchange,
        InvalidMessage::NoSignatureSchemes,
        InvalidMessage::TrailingData("CertificatePayload"),
        InvalidMessage::UnexpectedMessage("ServerHello"),
        InvalidMessage::UnknownProtocolVersion,
        InvalidMessage::UnsupportedCompression,
        InvalidMessage::UnsupportedCurveType,
        InvalidMessage::EmptyTicketValue,
        InvalidMessage::IllegalEmptyList("CipherSuites"),
        InvalidMessage::IllegalEmptyValue,
        InvalidMessage::DuplicateExtension(7),
        InvalidMessage::PreSharedKeyIsNotFinalExtension,
        InvalidMessage::UnknownHelloRetryRequestExtension,
        InvalidMessage::UnknownCertificateExtension,
    ];

    fn incompatibilities() -> Vec<PeerIncompatible> {
        use PeerIncompatible as P;
        vec![
            P::EcPointsExtensionRequired,
            P::ExtendedMasterSecretExtensionRequired,
            P::IncorrectCertificateTypeExtension,
            P::KeyShareExtensionRequired,
            P::NamedGroupsExtensionRequired,
            P::NoCertificateRequestSignatureSchemesInCommon,
            P::NoCipherSuitesInCommon,
            P::NoEcPointFormatsInCommon,
            P::NoKxGroupsInCommon,
            P::NoSignatureSchemesInCommon,
            P::NullCompressionRequired,
            P::ServerDoesNotSupportTls12Or13,
            P::ServerSentHelloRetryRequestWithUnknownExtension,
            P::ServerTlsVersionIsDisabledByOurConfig,
            P::SignatureAlgorithmsExtensionRequired,
            P::SupportedVersionsExtensionRequired,
            P::Tls12NotOffered,
            P::Tls12NotOfferedOrEnabled,
            P::Tls13RequiredForQuic,
            P::UncompressedEcPointsRequired,
            P::UnsolicitedCertificateTypeExtension,
            P::ServerRejectedEncryptedClientHello(None),
        ]
    }
}
