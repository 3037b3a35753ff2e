// SPDX-License-Identifier: Apache-2.0
//! Walks through the DER encoding (X.690) of a certificate (RFC 5280 section 4.1) to what the library does not expose:
//! human-readable names, and the public key of a certificate that the library rejects. Nothing is trusted because it
//! was read here.

use tokio_rustls::rustls::pki_types::alg_id;

const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;
const OBJECT: u8 = 0x06;
const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
/// The explicit tag of the version.
const VERSION: u8 = 0xa0;
/// `id-at-commonName` and `id-at-organizationName` (2.5.4.3, 2.5.4.10).
const NAMES: [&[u8]; 2] = [&[0x55, 4, 3], &[0x55, 4, 10]];

/// Parts of a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Certificate<'a> {
    /// The complete name of the issuer.
    pub issuer: &'a [u8],
    /// Start and end of validity.
    pub validity: &'a [u8],
    /// The complete name of the subject.
    pub subject: &'a [u8],
    /// Its public key.
    pub key: Key<'a>,
}

/// A public key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Key<'a> {
    /// The kind of key: the content of the AlgorithmIdentifier.
    pub algorithm: &'a [u8],
    /// The key itself, in the encoding of its kind.
    pub bits: &'a [u8],
}

impl<'a> Certificate<'a> {
    /// Parses a certificate, including version 1. `None` if it is not structured like one.
    pub fn read(certificate: &'a [u8]) -> Option<Self> {
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
    pub fn is_own_issuer(&self) -> bool {
        self.issuer == self.subject
    }

    /// The issuer's name for people: its common name, otherwise its organization; empty if it has neither.
    pub fn issuer_name(&self) -> String {
        let found = NAMES.iter().find_map(|wanted| attribute(self.issuer, wanted));
        found.map(|name| String::from_utf8_lossy(name).into_owned()).unwrap_or_default()
    }
}

impl Key<'_> {
    /// Bits of the modulus of an RSA key (RFC 8017 appendix A.1.1); `None` for other keys.
    pub fn rsa_bits(&self) -> Option<usize> {
        let (numbers, _) = value(self.bits, SEQUENCE).filter(|_| self.algorithm == alg_id::RSA_ENCRYPTION.as_ref())?;
        let (modulus, _) = value(numbers, INTEGER)?;
        let zeros: u32 = modulus.iter().take_while(|byte| **byte == 0).map(|byte| byte.leading_zeros()).sum();
        let first = modulus.iter().find(|byte| **byte != 0).map_or(0, |byte| byte.leading_zeros());
        (modulus.len() * 8).checked_sub(usize::try_from(zeros + first).ok()?)
    }
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
pub(super) fn value(bytes: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    any(bytes).filter(|(found, ..)| *found == tag).map(|(_, content, rest)| (content, rest))
}

/// Tag and content of the value at the start of `bytes`, and the rest.
pub(super) fn any(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
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
pub(super) mod tests {
    use super::*;
    use proptest::prelude::*;
    use rcgen::{CertificateParams, DnType, KeyPair};

    /// A 1024-bit RSA key, a text, and its SHA-256 signature as created by `openssl dgst -sha256 -sign`.
    pub const SMALL: [&str; 3] = [
        "30818902818100c3a8b339b0e89fce3dbb0304a4ff3aab1ac0774b68c013c64d4967c6426ea2c3213f7b8f593638150a431f1bf5e1bfe582e33240a2f6fde7e7b66621ac19c63cc65e035ffba9c72fe1a69e483a22d3d4e5ae66db2c3f5a4397ae144e0199cb4ec519b8a77006ed4a35bdfcb124be1f5c75f5e31c921db2389babd14f864e2ff50203010001",
        "7369676e6564206279206120736d616c6c206b6579",
        "38c8fa4131285903e03af804856349f28a877650ff9c0f17719ce7d560d751b05d505c127f7e2e23ec26c4318487953f60a52cd1780268b43cdb3311edc04b71c3f8f38cf6508e364fdffe5ac90abf84b2f0811787fbd5aca93d0008dcadde0a80ab93fc1aaa108167ee1e1c9634f589f520937b5f8195935c42488a38d859ab",
    ];

    pub fn bytes(hex: &str) -> Vec<u8> {
        (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
    }

    fn made(common: &str, organization: &str) -> (Vec<u8>, Vec<u8>) {
        let mut params = CertificateParams::new(vec!["mx.example".to_string()]).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        for (kind, text) in [(DnType::OrganizationName, organization), (DnType::CommonName, common)] {
            if !text.is_empty() {
                params.distinguished_name.push(kind, text);
            }
        }
        let key = KeyPair::generate().unwrap();
        (params.self_signed(&key).unwrap().der().to_vec(), key.public_key_raw().to_vec())
    }

    #[test]
    fn names_and_key_are_found() {
        for (common, organization, name) in
            [("Plant CA", "Plant", "Plant CA"), ("", "Plant", "Plant"), ("", "", ""), ("W\u{e4}rme", "", "W\u{e4}rme")]
        {
            let (der, key) = made(common, organization);
            let found = Certificate::read(&der).unwrap();
            assert_eq!((found.issuer_name().as_str(), found.is_own_issuer()), (name, true));
            assert_eq!((found.key.bits, found.key.rsa_bits()), (key.as_slice(), None));
        }
        let bits = bytes(SMALL[0]);
        let key = Key { algorithm: alg_id::RSA_ENCRYPTION.as_ref(), bits: &bits };
        assert_eq!(key.rsa_bits(), Some(1024));
    }

    proptest! {
        #[test]
        fn whatever_comes_is_read_without_a_fault(bytes: Vec<u8>, at in 0usize..400, byte: u8, cut in 0usize..600) {
            let look = |bytes: &[u8]| Certificate::read(bytes).map(|found| (found.issuer_name(), found.key.rsa_bits()));
            let _ = look(&bytes);
            let mut changed = made("a", "b").0;
            if let Some(place) = changed.get_mut(at) {
                *place = byte;
            }
            let _ = look(&changed);
            changed.truncate(cut);
            let _ = look(&changed);
            let key = Key { algorithm: alg_id::RSA_ENCRYPTION.as_ref(), bits: &bytes };
            prop_assert!(key.rsa_bits().is_none_or(|bits| bits <= bytes.len() * 8));
        }
    }
}
