// SPDX-License-Identifier: Apache-2.0
//! A self-signed certificate (ECDSA on P-256), for devices that want TLS where the router has no certificate.
//!
//! An X.509 certificate (RFC 5280 section 4.1) is a handful of nested DER values: a tag, a length, the content. The few
//! kinds that are needed are written by hand here; a crate for it would be larger than this whole module.

use std::net::IpAddr;

use ring::rand::{SecureRandom, SystemRandom};
use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair};

const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;
const OCTET_STRING: u8 = 0x04;
const OBJECT: u8 = 0x06;
const UTF8_STRING: u8 = 0x0c;
const UTC_TIME: u8 = 0x17;
const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const BOOLEAN_TRUE: &[u8] = &[0x01, 0x01, 0xff];
/// Context-specific tags: version and extensions of a certificate, names of a host.
const VERSION: u8 = 0xa0;
const EXTENSIONS: u8 = 0xa3;
const DNS_NAME: u8 = 0x82;
const IP_ADDRESS: u8 = 0x87;

/// ecdsa-with-SHA256 (RFC 5758 section 3.2).
const ECDSA_SHA256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02];
/// id-ecPublicKey and secp256r1 (RFC 5480 section 2.1.1).
const EC_PUBLIC_KEY: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
const SECP256R1: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
/// commonName, and the extensions of RFC 5280 section 4.2.1: subjectAltName, basicConstraints, keyUsage, extKeyUsage.
const COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];
const SUBJECT_ALT_NAME: &[u8] = &[0x55, 0x1d, 0x11];
const BASIC_CONSTRAINTS: &[u8] = &[0x55, 0x1d, 0x13];
const KEY_USAGE: &[u8] = &[0x55, 0x1d, 0x0f];
const EXT_KEY_USAGE: &[u8] = &[0x55, 0x1d, 0x25];
/// id-kp-serverAuth.
const SERVER_AUTH: &[u8] = &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x01];

/// Valid at all times as far as a device can tell: the router's clock may be wrong when this is generated. 2049 is the
/// last year that this form can express (RFC 5280 section 4.1.2.5).
const NOT_BEFORE: &[u8] = b"000101000000Z";
const NOT_AFTER: &[u8] = b"491231235959Z";
/// Maximum length of a common name, in bytes (RFC 5280 appendix A.1).
const COMMON_NAME_LIMIT: usize = 64;

/// A key and its certificate, both in DER.
pub struct Made {
    /// PKCS #8.
    pub key: Vec<u8>,
    /// X.509.
    pub certificate: Vec<u8>,
}

/// Generates a key and a certificate for a host with this name and these addresses.
///
/// # Errors
/// If the system provides no random numbers.
pub fn make(name: &str, addresses: &[IpAddr]) -> Result<Made, String> {
    let random = SystemRandom::new();
    let cannot = |what: &str| format!("cannot create a certificate: {what}");
    let key = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &random)
        .map_err(|_| cannot("no random numbers available from the system"))?;
    let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, key.as_ref(), &random)
        .map_err(|_| cannot("the new key is not usable"))?;
    let mut serial = [0; 16];
    random.fill(&mut serial).map_err(|_| cannot("no random numbers available from the system"))?;
    // A positive number without leading zeros (section 4.1.2.2).
    if let Some(first) = serial.first_mut() {
        *first = *first & 0x3f | 0x40;
    }
    let algorithm = value(SEQUENCE, &[&value(OBJECT, &[ECDSA_SHA256])]);
    let owner = distinguished_name(name);
    let public_key = value(
        SEQUENCE,
        &[
            &value(SEQUENCE, &[&value(OBJECT, &[EC_PUBLIC_KEY]), &value(OBJECT, &[SECP256R1])]),
            &value(BIT_STRING, &[&[0], pair.public_key().as_ref()]),
        ],
    );
    let body = value(
        SEQUENCE,
        &[
            &value(VERSION, &[&value(INTEGER, &[&[2]])]),
            &value(INTEGER, &[&serial]),
            &algorithm,
            &owner,
            &value(SEQUENCE, &[&value(UTC_TIME, &[NOT_BEFORE]), &value(UTC_TIME, &[NOT_AFTER])]),
            &owner,
            &public_key,
            &value(EXTENSIONS, &[&value(SEQUENCE, &[&extensions(name, addresses)])]),
        ],
    );
    let signature = pair.sign(&random, &body).map_err(|_| cannot("signing failed"))?;
    let certificate = value(SEQUENCE, &[&body, &algorithm, &value(BIT_STRING, &[&[0], signature.as_ref()])]);
    Ok(Made { key: key.as_ref().to_vec(), certificate })
}

/// A value with its tag and length (X.690 section 8.1).
fn value(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let content = parts.concat();
    let mut out = vec![tag];
    match u8::try_from(content.len()) {
        Ok(short) if short < 0x80 => out.push(short),
        _ => {
            let length = content.len().to_be_bytes();
            let digits: Vec<u8> = length.iter().copied().skip_while(|byte| *byte == 0).collect();
            // There are no more than eight.
            out.push(0x80 | u8::try_from(digits.len()).unwrap_or(8));
            out.extend(digits);
        }
    }
    out.extend(content);
    out
}

fn distinguished_name(name: &str) -> Vec<u8> {
    let mut end = name.len().min(COMMON_NAME_LIMIT);
    while !name.is_char_boundary(end) {
        end = end.saturating_sub(1);
    }
    let shown = name.get(..end).filter(|name| !name.is_empty()).unwrap_or("smtprelay");
    let attribute = value(SEQUENCE, &[&value(OBJECT, &[COMMON_NAME]), &value(UTF8_STRING, &[shown.as_bytes()])]);
    value(SEQUENCE, &[&value(SET, &[&attribute])])
}

fn extensions(name: &str, addresses: &[IpAddr]) -> Vec<u8> {
    let mut names = Vec::new();
    let dns = name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_'));
    if dns && !name.is_empty() {
        names.extend(value(DNS_NAME, &[name.as_bytes()]));
    }
    for address in addresses {
        names.extend(match address {
            IpAddr::V4(ip) => value(IP_ADDRESS, &[&ip.octets()]),
            IpAddr::V6(ip) => value(IP_ADDRESS, &[&ip.octets()]),
        });
    }
    let extension = |id: &[u8], critical: bool, content: &[u8]| {
        let critical = if critical { BOOLEAN_TRUE } else { &[] };
        value(SEQUENCE, &[&value(OBJECT, &[id]), critical, &value(OCTET_STRING, &[content])])
    };
    let mut all = vec![
        // Not a CA: trusting this certificate means trusting this host alone.
        extension(BASIC_CONSTRAINTS, true, &value(SEQUENCE, &[])),
        // digitalSignature: the first bit of a string with seven unused ones.
        extension(KEY_USAGE, true, &value(BIT_STRING, &[&[7, 0x80]])),
        extension(EXT_KEY_USAGE, false, &value(SEQUENCE, &[&value(OBJECT, &[SERVER_AUTH])])),
    ];
    if !names.is_empty() {
        all.push(extension(SUBJECT_ALT_NAME, false, &value(SEQUENCE, &[&names])));
    }
    all.concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    fn openssl(args: &[&str], file: &std::path::Path) -> Option<String> {
        let output = match Command::new("openssl").args(args).arg(file).output() {
            Ok(output) => output,
            Err(error) => {
                println!("skipped: no openssl here ({error})");
                return None;
            }
        };
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        Some(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    #[test]
    fn openssl_reads_it() {
        let dir = tempfile::tempdir().unwrap();
        let made = make("router.lan", &["192.168.1.1".parse().unwrap(), "fd00::1".parse().unwrap()]).unwrap();
        let (certificate, key) = (dir.path().join("c"), dir.path().join("k"));
        std::fs::write(&certificate, &made.certificate).unwrap();
        std::fs::write(&key, &made.key).unwrap();
        let Some(text) = openssl(&["x509", "-inform", "der", "-noout", "-text", "-in"], &certificate) else { return };
        for part in [
            "Version: 3",
            "ecdsa-with-SHA256",
            "Issuer: CN = router.lan",
            "Not After : Dec 31 23:59:59 2049 GMT",
            "CA:FALSE",
            "TLS Web Server Authentication",
            "DNS:router.lan, IP Address:192.168.1.1, IP Address:FD00:0:0:0:0:0:0:1",
        ] {
            let flat = |text: &str| text.replace(' ', "");
            assert!(flat(&text).contains(&flat(part)), "{part}\n{text}");
        }
        // Its signature is valid according to an independent implementation.
        let pem = dir.path().join("pem");
        std::fs::write(&pem, openssl(&["x509", "-inform", "der", "-in"], &certificate).unwrap()).unwrap();
        let trusted = pem.to_str().unwrap();
        openssl(&["verify", "-check_ss_sig", "-CAfile", trusted], &pem);
        let public = openssl(&["x509", "-inform", "der", "-noout", "-pubkey", "-in"], &certificate);
        assert_eq!(openssl(&["pkey", "-inform", "der", "-pubout", "-in"], &key), public);
    }

    #[test]
    fn odd_names_and_long_ones() {
        for name in ["", "müller router", &"ä".repeat(100), &"x".repeat(255)] {
            let made = make(name, &[]).unwrap();
            assert!(made.certificate.starts_with(&[0x30, 0x82]), "{name}");
        }
        assert_eq!(value(SEQUENCE, &[&[0; 127]])[..2], [0x30, 127]);
        assert_eq!(value(SEQUENCE, &[&[0; 128]])[..3], [0x30, 0x81, 128]);
        assert_eq!(value(SEQUENCE, &[&[0; 300]])[..4], [0x30, 0x82, 1, 44]);
    }
}
