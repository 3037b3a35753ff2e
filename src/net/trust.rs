// SPDX-License-Identifier: Apache-2.0
//! What a connection trusts: certificate authorities, the one certificate with a given fingerprint, or any certificate.
//!
//! The library parses every certificate by the rules of the web PKI and rejects, before any verifier is called, what
//! devices and old servers use: X.509 version 1, unknown critical extensions, RSA keys below 2048 bits. If a
//! fingerprint identifies the certificate, or if nothing is verified, none of that matters: only the public key is
//! extracted, to verify that the server has the matching private key.
//!
//! [`Certificate`] walks through the DER encoding (X.690) of a certificate (RFC 5280 section 4.1) to what the library does
//! not expose: that key, human-readable names, and when it expires. Nothing is trusted because it was read there.

mod verified;

use std::fmt;
use std::sync::{Arc, Mutex};

use ring::signature;
use tokio_rustls::rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use tokio_rustls::rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use tokio_rustls::rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, UnixTime, alg_id};
use tokio_rustls::rustls::server::ParsedCertificate;
use tokio_rustls::rustls::{
    CertificateError, DigitallySignedStruct, Error, OtherError, RootCertStore, SignatureScheme,
};

use crate::message::date::days_from_1970;
use crate::system::lock;

const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;
const OBJECT: u8 = 0x06;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
/// The explicit tag of the version.
const VERSION: u8 = 0xa0;
/// `id-at-commonName` and `id-at-organizationName` (2.5.4.3, 2.5.4.10).
const NAMES: [&[u8]; 2] = [&[0x55, 4, 3], &[0x55, 4, 10]];

/// What makes a certificate trusted.
#[derive(Debug)]
pub enum Trust {
    /// It is signed by one of these authorities.
    Authorities(RootCertStore),
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
    /// The certificate that was last rejected, so that its owner can decide to trust it.
    pub rejected: Mutex<Option<Presented>>,
}

/// A certificate as a server presents it: what its owner can compare with what the server shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Presented {
    /// Its SHA-256 fingerprint, as openssl prints it.
    pub fingerprint: String,
    /// Name of the authority that signed it; empty if it has none.
    pub issuer: String,
    /// When it expires, seconds since 1970.
    pub expires: Option<i64>,
}

impl Presented {
    fn of(certificate: &[u8]) -> Self {
        let digest = ring::digest::digest(&ring::digest::SHA256, certificate);
        let bytes: Vec<String> = digest.as_ref().iter().map(|byte| format!("{byte:02X}")).collect();
        let read = Certificate::read(certificate);
        Self {
            fingerprint: bytes.join(":"),
            issuer: read.map(|read| read.issuer_name()).unwrap_or_default(),
            expires: read.and_then(|read| read.not_after()),
        }
    }
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
    /// Its authority is unknown, and the chain that the server sent has a gap: it includes other certificates, but not
    /// that one.
    Gap {
        /// Name of the authority whose certificate is missing.
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
        _ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let judged = match &self.trust {
            Trust::Authorities(known) => {
                let judged = self.issued(known, certificate, intermediates, name, now);
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
        };
        if judged.is_err() {
            *lock(&self.rejected) = Some(Presented::of(certificate));
        }
        judged
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        match &self.trust {
            Trust::Authorities(_) => {
                let known = &self.provider.signature_verification_algorithms;
                let verified = verify_tls12_signature(message, certificate, signature, known);
                verified.map_err(|error| small_key(certificate).unwrap_or(error))
            }
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
            Trust::Authorities(_) => {
                let known = &self.provider.signature_verification_algorithms;
                let verified = verify_tls13_signature(message, certificate, signature, known);
                verified.map_err(|error| small_key(certificate).unwrap_or(error))
            }
            _ => self.signed(message, certificate, (signature.scheme, signature.signature()), true),
        }
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

impl Judge {
    /// Verifies path, dates, purpose and name. Not by the library's WebPkiServerVerifier, which does the same and has the
    /// reader of revocation lists in it, 8 KB of the program for what is never given to it.
    fn issued(
        &self,
        known: &RootCertStore,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let certificate = ParsedCertificate::try_from(certificate)?;
        let algorithms = verified::algorithms(&self.provider);
        verify_server_cert_signed_by_trust_anchor(&certificate, known, intermediates, now, algorithms)?;
        verify_server_name(&certificate, name)?;
        Ok(ServerCertVerified::assertion())
    }

    /// Whether the server has the private key of its certificate, whatever else the certificate contains.
    fn signed(
        &self,
        message: &[u8],
        certificate: &[u8],
        (scheme, signature): (SignatureScheme, &[u8]),
        tls13: bool,
    ) -> Result<HandshakeSignatureValid, Error> {
        use SignatureScheme as Scheme;
        let Some(Certificate { key, .. }) = Certificate::read(certificate) else {
            return self.cannot_tell(CertificateError::BadEncoding.into());
        };
        // RFC 8446 section 4.2.3: not allowed for handshake signatures.
        if tls13 && matches!(scheme, Scheme::RSA_PKCS1_SHA256 | Scheme::RSA_PKCS1_SHA384 | Scheme::RSA_PKCS1_SHA512) {
            return Err(CertificateError::BadSignature.into());
        }
        if let Some(bits) = key.rsa_bits().filter(|bits| *bits < 2048) {
            let Some(algorithm) = for_small_keys(scheme) else {
                return self.cannot_tell(Lack::SmallKey { bits }.into());
            };
            let valid = signature::UnparsedPublicKey::new(algorithm, key.bits).verify(message, signature);
            return match valid {
                Ok(()) => Ok(HandshakeSignatureValid::assertion()),
                // Smaller keys cannot be verified at all.
                Err(_) if bits < 1024 => self.cannot_tell(Lack::SmallKey { bits }.into()),
                Err(_) => Err(CertificateError::BadSignature.into()),
            };
        }
        let mapping = self.provider.signature_verification_algorithms.mapping;
        let possible = mapping.iter().find(|(known, _)| *known == scheme).map_or(&[][..], |(_, algorithms)| algorithms);
        // In TLS 1.3 the scheme implies the curve: the first one.
        let most = if tls13 { 1 } else { possible.len() };
        let fits = possible.iter().take(most).find(|known| known.public_key_alg_id().as_ref() == key.algorithm);
        let Some(algorithm) = fits else {
            return self.cannot_tell(CertificateError::BadSignature.into());
        };
        let valid = algorithm.verify_signature(key.bits, message, signature);
        valid.map(|()| HandshakeSignatureValid::assertion()).map_err(|_| CertificateError::BadSignature.into())
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

/// If a signature cannot be verified because of a small RSA key: that error, instead of the library's, which is the one
/// for a wrong signature.
fn small_key(certificate: &[u8]) -> Option<Error> {
    let bits = Certificate::read(certificate)?.key.rsa_bits().filter(|bits| *bits < 2048)?;
    Some(Lack::SmallKey { bits }.into())
}

/// Why the issuer of a certificate is unknown.
fn unknown(certificate: &[u8], intermediates: &[CertificateDer<'_>]) -> Option<Lack> {
    let leaf = Certificate::read(certificate)?;
    if leaf.is_own_issuer() {
        return Some(Lack::SelfSigned);
    }
    // Some servers send their own certificate twice.
    let sent = intermediates.iter().filter(|sent| sent.as_ref() != certificate);
    let mut others: Vec<Certificate<'_>> = sent.filter_map(|sent| Certificate::read(sent)).collect();
    if others.is_empty() {
        return Some(Lack::Alone { issuer: leaf.issuer_name() });
    }
    // From issuer to issuer, as far as they were sent.
    let mut end = leaf;
    while let Some(next) = others.iter().find(|sent| sent.subject == end.issuer).copied() {
        others.retain(|sent| sent.subject != next.subject);
        end = next;
    }
    let issuer = end.issuer_name();
    Some(if others.is_empty() || end.is_own_issuer() { Lack::Chain { issuer } } else { Lack::Gap { issuer } })
}

/// Parts of a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Certificate<'a> {
    /// The complete name of the issuer.
    issuer: &'a [u8],
    /// Start and end of validity.
    validity: &'a [u8],
    /// The complete name of the subject.
    subject: &'a [u8],
    /// Its public key.
    key: Key<'a>,
}

/// A public key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Key<'a> {
    /// The kind of key: the content of the AlgorithmIdentifier.
    algorithm: &'a [u8],
    /// The key itself, in the encoding of its kind.
    bits: &'a [u8],
}

impl<'a> Certificate<'a> {
    /// Parses a certificate, including version 1. `None` if it is not structured like one.
    pub(super) fn read(certificate: &'a [u8]) -> Option<Self> {
        let (certificate, _) = value(certificate, SEQUENCE)?;
        let (mut rest, _) = value(certificate, SEQUENCE)?;
        if let Some((_, behind)) = value(rest, VERSION) {
            rest = behind;
        }
        rest = value(rest, INTEGER)?.1;
        // The signature algorithm.
        rest = value(rest, SEQUENCE)?.1;
        let (issuer, rest) = value(rest, SEQUENCE)?;
        let (validity, rest) = value(rest, SEQUENCE)?;
        let (subject, rest) = value(rest, SEQUENCE)?;
        let (key, _) = value(rest, SEQUENCE)?;
        let (algorithm, rest) = value(key, SEQUENCE)?;
        // The first byte is the number of unused bits in the last byte: for a key, zero.
        let bits = value(rest, BIT_STRING)?.0.strip_prefix(&[0])?;
        Some(Self { issuer, validity, subject, key: Key { algorithm, bits } })
    }

    /// Whether issuer and subject are the same, as in a self-signed certificate.
    fn is_own_issuer(&self) -> bool {
        self.issuer == self.subject
    }

    /// The issuer's name for people: its common name, otherwise its organization; empty if it has neither.
    fn issuer_name(&self) -> String {
        let found = NAMES.iter().find_map(|wanted| attribute(self.issuer, wanted));
        found.map(|name| String::from_utf8_lossy(name).into_owned()).unwrap_or_default()
    }

    /// The end of its validity, in seconds since 1970. `None` if it cannot be found where it belongs.
    pub(super) fn not_after(&self) -> Option<i64> {
        let (_, _, behind) = any(self.validity)?;
        let (tag, end, _) = any(behind)?;
        match tag {
            // Two-digit year: 1950 to 2049 (RFC 5280 section 4.1.2.5.1).
            UTC_TIME => {
                let year = number(end.get(..2)?)?;
                time(if year < 50 { 2000 + year } else { 1900 + year }, end.get(2..)?)
            }
            GENERALIZED_TIME => time(number(end.get(..4)?)?, end.get(4..)?),
            _ => None,
        }
    }
}

impl Key<'_> {
    /// Bits of the modulus of an RSA key (RFC 8017 appendix A.1.1); `None` for other keys.
    fn rsa_bits(&self) -> Option<usize> {
        let (numbers, _) = value(self.bits, SEQUENCE).filter(|_| self.algorithm == alg_id::RSA_ENCRYPTION.as_ref())?;
        let (modulus, _) = value(numbers, INTEGER)?;
        let zeros: u32 = modulus.iter().take_while(|byte| **byte == 0).map(|byte| byte.leading_zeros()).sum();
        let first = modulus.iter().find(|byte| **byte != 0).map_or(0, |byte| byte.leading_zeros());
        (modulus.len() * 8).checked_sub(usize::try_from(zeros + first).ok()?)
    }
}

/// `MMDDHHMMSSZ` within a year; certificates allow no other form.
fn time(year: i64, rest: &[u8]) -> Option<i64> {
    let [a, b, c, d, e, f, g, h, i, j, b'Z'] = rest else { return None };
    let two = |tens: &u8, ones: &u8| number(&[*tens, *ones]);
    let (month, day) = (two(a, b)?, two(c, d)?);
    let (hour, minute, second) = (two(e, f)?, two(g, h)?, two(i, j)?);
    let exists = month <= 12 && (1..=31).contains(&day) && hour < 24 && minute < 60 && second <= 60;
    let month = usize::try_from(month - 1).ok()?;
    exists.then(|| days_from_1970(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second)
}

/// A number of at most four digits.
fn number(digits: &[u8]) -> Option<i64> {
    digits.iter().try_fold(0, |sum: i64, digit| digit.is_ascii_digit().then(|| sum * 10 + i64::from(digit - b'0')))
}

/// The last value of an attribute in a name: the most specific one.
fn attribute<'a>(mut name: &'a [u8], wanted: &[u8]) -> Option<&'a [u8]> {
    let mut found = None;
    while let Some((set, rest)) = value(name, SET) {
        name = rest;
        let pair = value(set, SEQUENCE).and_then(|(pair, _)| value(pair, OBJECT));
        if let Some((kind, rest)) = pair
            && kind == wanted
        {
            found = any(rest).map(|(_, text, _)| text).or(found);
        }
    }
    found
}

/// The content of the value with `tag` at the start of `bytes`, and the rest.
fn value(bytes: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    any(bytes).filter(|(found, ..)| *found == tag).map(|(_, content, rest)| (content, rest))
}

/// Tag and content of the value at the start of `bytes`, and the rest.
fn any(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (tag, rest) = bytes.split_first()?;
    let (first, rest) = rest.split_first()?;
    let (length, rest) = match first {
        0..=0x7f => (usize::from(*first), rest),
        // The number of length bytes; three of them allow 16 MB, more than any chain that TLS carries.
        0x81..=0x83 => {
            let (digits, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            (digits.iter().fold(0, |sum, digit| sum << 8 | usize::from(*digit)), rest)
        }
        _ => return None,
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((*tag, content, rest))
}

#[cfg(test)]
#[path = "trust/tests.rs"]
mod tests;
