//! TLS towards the provider: whom to trust, and what went wrong in words.

use std::io;
use std::sync::Arc;

use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use tokio_rustls::rustls::crypto::{self, CryptoProvider};
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::rustls::{
    self, CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
};

use super::expiry;
use super::verdict::{Trouble, TroubleKind};
use super::wire::Stream;
use crate::config::Account;
use crate::report::TlsFacts;
use crate::system::carried;

/// Bytes of the largest `ca_file`.
const CA_FILE_LIMIT: u64 = 4 << 20;

/// Trusts the certificate with one fingerprint, or (with none) every certificate. Signatures are checked all the same,
/// so the other side does have the key.
#[derive(Debug)]
struct Pinned {
    fingerprint: Option<[u8; 32]>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let digest = ring::digest::digest(&ring::digest::SHA256, certificate);
        match self.fingerprint {
            Some(wanted) if digest.as_ref() != wanted => {
                Err(rustls::Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure))
            }
            _ => Ok(ServerCertVerified::assertion()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        crypto::verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

fn setup(reason: String) -> Trouble {
    Trouble::new(TroubleKind::Setup, reason)
}

/// The authorities that the account trusts.
fn roots(account: &Account) -> Result<RootCertStore, Trouble> {
    let mut store = RootCertStore::empty();
    if let Some(path) = &account.ca_file {
        let unusable = |what: String| setup(format!("ca_file {}: {what}", path.display()));
        let pem = carried::read(path, CA_FILE_LIMIT).map_err(|e| unusable(format!("can't be read: {e}")))?;
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
    let config = if account.fingerprint.is_some() || !account.verify {
        let verifier = Arc::new(Pinned { fingerprint: account.fingerprint, provider });
        builder.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth()
    } else {
        builder.with_root_certificates(roots(account)?).with_no_client_auth()
    };
    Ok(TlsConnector::from(Arc::new(config)))
}

/// What the log says of a connection.
pub fn facts(stream: &Stream, account: &Account) -> TlsFacts {
    let Stream::Tls(tls) = stream else {
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
pub(super) const PORT_AND_TLS: &str = "check port and tls (465 implicit, 587 starttls)";

/// A failed handshake in words.
pub fn explain(error: &io::Error, host: &str) -> Trouble {
    let (what, remedy) = match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        Some(rustls::Error::InvalidCertificate(problem)) => certificate(problem, host),
        Some(rustls::Error::InvalidMessage(_)) => (format!("{host} does not speak TLS on this port; "), PORT_AND_TLS),
        Some(rustls::Error::PeerIncompatible(what)) => {
            (format!("{host} offers only TLS that is too old to be safe ({what:?}); "), "it needs TLS 1.2 or newer")
        }
        Some(rustls::Error::AlertReceived(alert)) => {
            (format!("{host} broke off the TLS handshake ({alert:?}); "), "check host and port, or ask the provider")
        }
        Some(other) => (format!("TLS with {host} failed: {other}; "), "check host and port, or ask the provider"),
        None => {
            return Trouble::new(
                TroubleKind::Unreachable,
                format!("the connection to {host} broke during the TLS handshake: {error}"),
            );
        }
    };
    Trouble::new(TroubleKind::Tls, what + remedy).remedy(remedy)
}

/// What is wrong with a certificate, up to the remedy, and the remedy.
fn certificate(problem: &CertificateError, host: &str) -> (String, &'static str) {
    use CertificateError as E;
    match problem {
        E::UnknownIssuer => (
            format!("the certificate of {host} is signed by an authority that is not known here: "),
            "for a server of your own set ca_file, otherwise install ca-bundle; somebody may be posing as the provider",
        ),
        E::NotValidForName | E::NotValidForNameContext { .. } => (
            format!("the certificate is for another name than {host}: "),
            "check option host; somebody may be posing as the provider",
        ),
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
        // What `openssl req -x509` makes when it is told nothing else. rustls has no name of its own for it.
        E::Other(reason) if reason.to_string().contains("CaUsedAsEndEntity") => (
            format!("the certificate of {host} is one of an authority (CA:TRUE), not of a server: "),
            "for a server of your own set fingerprint, or make a certificate with CA:FALSE",
        ),
        other => (format!("the certificate of {host} is not acceptable: {other:?}; "), "ask the provider"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio_rustls::rustls::{AlertDescription, InvalidMessage, PeerIncompatible};

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
            (bad(C::BadEncoding), "the certificate of mx is not acceptable: BadEncoding", "ask the provider"),
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
