// SPDX-License-Identifier: Apache-2.0
//! What a connection trusts: certificate authorities, the one certificate with a given fingerprint, or any certificate.
//!
//! The library parses every certificate by the rules of the web PKI and rejects, before any verifier is called, what
//! devices and old servers use: X.509 version 1, unknown critical extensions, RSA keys below 2048 bits. If a
//! fingerprint identifies the certificate, or if nothing is verified, none of that matters: only the public key is
//! extracted, to verify that the server has the matching private key.

use std::fmt;
use std::sync::Arc;

use ring::signature;
use tokio_rustls::rustls::client::WebPkiServerVerifier;
use tokio_rustls::rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use tokio_rustls::rustls::crypto::CryptoProvider;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::rustls::{CertificateError, DigitallySignedStruct, Error, OtherError, SignatureScheme};

use super::x509::{Certificate, Key};

/// What makes a certificate trusted.
#[derive(Debug)]
pub enum Trust {
    /// It is signed by one of these authorities.
    Authorities(Arc<WebPkiServerVerifier>),
    /// It has this SHA-256 fingerprint.
    Fingerprint([u8; 32]),
    /// Nothing: any certificate is accepted.
    Anything,
}

/// Verifies the certificates and signatures of servers.
#[derive(Debug)]
pub struct Judge {
    /// What makes a certificate trusted.
    pub trust: Trust,
    /// The available cryptographic algorithms.
    pub provider: Arc<CryptoProvider>,
}

/// Problems with a certificate for which the library has no error of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lack {
    /// It is self-signed, and it is not a known authority.
    SelfSigned,
    /// Its authority is unknown, and it came alone: usually the server does not send its intermediate certificate.
    Alone {
        /// Name of the authority that signed it.
        issuer: String,
    },
    /// The authority at the end of the chain that the server sent is unknown.
    Chain {
        /// Its name.
        issuer: String,
    },
    /// Its RSA key is too small for the signatures of this TLS version.
    SmallKey {
        /// Bits of the key.
        bits: usize,
    },
}

impl fmt::Display for Lack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

impl std::error::Error for Lack {}

impl From<Lack> for Error {
    fn from(lack: Lack) -> Self {
        Self::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(lack))))
    }
}

impl ServerCertVerifier for Judge {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        match &self.trust {
            Trust::Authorities(known) => {
                let judged = known.verify_server_cert(certificate, intermediates, name, ocsp, now);
                judged.map_err(|error| match error {
                    Error::InvalidCertificate(CertificateError::UnknownIssuer) => {
                        unknown(certificate, intermediates).map_or(error, Error::from)
                    }
                    error => error,
                })
            }
            Trust::Fingerprint(wanted) => {
                let digest = ring::digest::digest(&ring::digest::SHA256, certificate);
                if digest.as_ref() == wanted {
                    return Ok(ServerCertVerified::assertion());
                }
                Err(Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure))
            }
            Trust::Anything => Ok(ServerCertVerified::assertion()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        match &self.trust {
            Trust::Authorities(known) => known.verify_tls12_signature(message, certificate, signature),
            _ => self.signed(message, certificate, (signature.scheme, signature.signature()), false),
        }
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        match &self.trust {
            Trust::Authorities(known) => known.verify_tls13_signature(message, certificate, signature),
            _ => self.signed(message, certificate, (signature.scheme, signature.signature()), true),
        }
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

impl Judge {
    /// Whether the server has the private key of its certificate, whatever else the certificate contains.
    fn signed(
        &self,
        message: &[u8],
        certificate: &[u8],
        (scheme, signature): (SignatureScheme, &[u8]),
        tls13: bool,
    ) -> Result<HandshakeSignatureValid, Error> {
        let Some(Certificate { key, .. }) = Certificate::read(certificate) else {
            return self.cannot_tell(CertificateError::BadEncoding.into());
        };
        // RFC 8446 section 4.2.3: not allowed for handshake signatures.
        let old = matches!(
            scheme,
            SignatureScheme::RSA_PKCS1_SHA256 | SignatureScheme::RSA_PKCS1_SHA384 | SignatureScheme::RSA_PKCS1_SHA512
        );
        let small = key.rsa_bits().filter(|bits| *bits < 2048);
        if tls13 && old {
            return Err(Error::InvalidCertificate(CertificateError::BadSignature));
        }
        if let Some(bits) = small {
            let Some(algorithm) = for_small_keys(scheme) else {
                return self.cannot_tell(Lack::SmallKey { bits }.into());
            };
            let valid = signature::UnparsedPublicKey::new(algorithm, key.bits).verify(message, signature);
            return match valid {
                Ok(()) => Ok(HandshakeSignatureValid::assertion()),
                // Smaller keys cannot be verified at all.
                Err(_) if bits < 1024 => self.cannot_tell(Lack::SmallKey { bits }.into()),
                Err(_) => Err(Error::InvalidCertificate(CertificateError::BadSignature)),
            };
        }
        self.verified(message, key, (scheme, signature), tls13)
    }

    fn verified(
        &self,
        message: &[u8],
        key: Key<'_>,
        (scheme, signature): (SignatureScheme, &[u8]),
        tls13: bool,
    ) -> Result<HandshakeSignatureValid, Error> {
        let mapping = self.provider.signature_verification_algorithms.mapping;
        let possible = mapping.iter().find(|(known, _)| *known == scheme).map_or(&[][..], |(_, algorithms)| algorithms);
        // In TLS 1.3 the scheme implies the curve: the first one.
        let most = if tls13 { 1 } else { possible.len() };
        let fits = possible.iter().take(most).find(|known| known.public_key_alg_id().as_ref() == key.algorithm);
        let Some(algorithm) = fits else {
            return self.cannot_tell(Error::InvalidCertificate(CertificateError::BadSignature));
        };
        match algorithm.verify_signature(key.bits, message, signature) {
            Ok(()) => Ok(HandshakeSignatureValid::assertion()),
            Err(_) => Err(Error::InvalidCertificate(CertificateError::BadSignature)),
        }
    }

    /// The signature cannot be verified at all. If any certificate is accepted this does not matter: an attacker would
    /// have a key of their own anyway.
    fn cannot_tell(&self, error: Error) -> Result<HandshakeSignatureValid, Error> {
        match self.trust {
            Trust::Anything => Ok(HandshakeSignatureValid::assertion()),
            _ => Err(error),
        }
    }
}

/// Algorithms for signatures with RSA keys of 1024 bits and more; there is none for PSS, so none for TLS 1.3.
fn for_small_keys(scheme: SignatureScheme) -> Option<&'static dyn signature::VerificationAlgorithm> {
    match scheme {
        SignatureScheme::RSA_PKCS1_SHA256 => Some(&signature::RSA_PKCS1_1024_8192_SHA256_FOR_LEGACY_USE_ONLY),
        SignatureScheme::RSA_PKCS1_SHA512 => Some(&signature::RSA_PKCS1_1024_8192_SHA512_FOR_LEGACY_USE_ONLY),
        _ => None,
    }
}

/// Why the issuer of a certificate is unknown.
fn unknown(certificate: &[u8], intermediates: &[CertificateDer<'_>]) -> Option<Lack> {
    let leaf = Certificate::read(certificate)?;
    if leaf.is_own_issuer() {
        return Some(Lack::SelfSigned);
    }
    let last = intermediates.last().and_then(|last| Certificate::read(last));
    Some(match last {
        Some(last) => Lack::Chain { issuer: last.issuer_name() },
        None => Lack::Alone { issuer: leaf.issuer_name() },
    })
}

#[cfg(test)]
#[path = "trust/tests.rs"]
mod tests;
