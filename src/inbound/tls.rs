// SPDX-License-Identifier: Apache-2.0
//! TLS towards devices: which certificate is presented, and readable explanations of failures.
//!
//! Where the router has no certificate, a self-signed one is made (ECDSA on P-256). An X.509 certificate (RFC 5280
//! section 4.1) is a handful of nested DER values: a tag, a length, the content. The few kinds that are needed are
//! written by hand here; a crate for it would be larger than this whole module.

use std::io::{self, ErrorKind};
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use ring::rand::{SecureRandom, SystemRandom};
use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::ring::sign::any_ecdsa_type;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::ResolvesServerCert;
use tokio_rustls::rustls::sign::{CertifiedKey, SingleCertAndKey};
use tokio_rustls::rustls::{self, ServerConfig};
use zeroize::Zeroizing;

use crate::config::files::{self, ROUTERS};
use crate::config::{Listener, Relay};
use crate::message::base64::base64;
use crate::system::crypto::{self, alerted, words};
use crate::system::publish;

/// The gateway's own certificate and key, in the queue directory.
const OWN: (&str, &str) = ("tls.crt", "tls.key");
/// Maximum size of a file that is read, in bytes.
const FILE_LIMIT: u64 = 256 << 10;

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

/// The TLS configuration towards devices: the certificate named by the listener, or else the router's, or else a
/// self-signed one for `addresses`. Reads and writes files: do not call it on the runtime thread.
///
/// # Errors
/// If a file cannot be used; the text names file and option.
pub fn acceptor(listener: &Listener, relay: &Relay, addresses: &[IpAddr]) -> Result<TlsAcceptor, String> {
    let certified = match (&listener.certificate, &listener.key) {
        (Some(certificate), Some(key)) => read(certificate, key)?,
        // A router whose certificate is broken can still use the self-signed one.
        _ => match read(Path::new(ROUTERS.0), Path::new(ROUTERS.1)) {
            Ok(routers) => routers,
            Err(_) => own(relay, addresses)?,
        },
    };
    let config = ServerConfig::builder_with_provider(crypto::provider())
        .with_safe_default_protocol_versions()
        .map_err(|error| format!("TLS cannot be set up: {error}"))?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(certified)) as Arc<dyn ResolvesServerCert>);
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// Certificate chain and key from two files: as root has read them, or as they are now if those cannot be used. A key that
/// only root can read may match a corrected certificate.
fn read(certificate: &Path, key: &Path) -> Result<CertifiedKey, String> {
    let fresh = |path: &Path, limit| files::now(path, limit).or_else(|_| files::read(path, limit));
    read_by(files::read, certificate, key).or_else(|error| read_by(fresh, certificate, key).map_err(|_| error))
}

/// Each of the two is PEM or DER. Only ECDSA: signing with RSA and Ed25519 would add 22 KB to the package for MIPS, and
/// ECDSA on P-256 is what OpenWrt and Let's Encrypt create by default.
fn read_by(read: files::Reading, certificate: &Path, key: &Path) -> Result<CertifiedKey, String> {
    let wrong = |option: &str, path: &Path, what: String| format!("option {option} '{}': {what}", path.display());
    let bytes =
        read(certificate, FILE_LIMIT).map_err(|e| wrong("certificate", certificate, format!("cannot be read: {e}")))?;
    let chain = chain(bytes.to_vec()).map_err(|what| wrong("certificate", certificate, what))?;
    let bytes = read(key, FILE_LIMIT).map_err(|e| wrong("key", key, format!("cannot be read: {e}")))?;
    let private =
        private_key(&bytes).ok_or_else(|| wrong("key", key, "contains no private key (PEM or DER)".into()))?;
    let signing = any_ecdsa_type(&private)
        .map_err(|_| wrong("key", key, "is not an ECDSA key on P-256 or P-384; other keys are not supported".into()))?;
    let certified = CertifiedKey::new(chain, signing);
    match certified.keys_match() {
        // What cannot be compared is left for the devices to check.
        Ok(()) | Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::Unknown)) => Ok(certified),
        Err(_) => Err(wrong("key", key, format!("does not match the certificate in {}", certificate.display()))),
    }
}

fn is_pem(bytes: &[u8]) -> bool {
    memchr::memmem::find(bytes, b"-----BEGIN ").is_some()
}

fn chain(bytes: Vec<u8>) -> Result<Vec<CertificateDer<'static>>, String> {
    let none = "contains no certificate (PEM or DER)";
    let chain = match is_pem(&bytes) {
        true => {
            CertificateDer::pem_slice_iter(&bytes).collect::<Result<Vec<_>, _>>().map_err(|e| format!("{none}: {e}"))?
        }
        // A sequence with a two-byte length, like every certificate.
        false if bytes.starts_with(&[0x30, 0x82]) => vec![CertificateDer::from(bytes)],
        false => Vec::new(),
    };
    if chain.is_empty() { Err(none.into()) } else { Ok(chain) }
}

fn private_key(bytes: &[u8]) -> Option<PrivateKeyDer<'static>> {
    match is_pem(bytes) {
        true => PrivateKeyDer::from_pem_slice(bytes).ok(),
        false => PrivateKeyDer::try_from(bytes.to_vec()).ok(),
    }
}

/// The self-signed certificate, generated if there is none yet.
fn own(relay: &Relay, addresses: &[IpAddr]) -> Result<CertifiedKey, String> {
    let directory = relay.safe_spool.as_ref().unwrap_or(&relay.spool);
    let (certificate, key) = (directory.join(OWN.0), directory.join(OWN.1));
    if let Ok(found) = read(&certificate, &key) {
        return Ok(found);
    }
    let made = make(&relay.hostname(), addresses)?;
    // The certificate is written last: one without its key is generated again.
    // In PEM, because that is what the forms of devices and computers take.
    let key_text = Zeroizing::new(pem("PRIVATE KEY", &made.key));
    let certificate_text = pem("CERTIFICATE", &made.certificate);
    for (path, text, mode) in [(&key, &*key_text, 0o600), (&certificate, &certificate_text, 0o644)] {
        publish::replace(path, text.as_bytes(), mode)
            .map_err(|e| format!("cannot write {}: {e}; set options certificate and key", path.display()))?;
    }
    read(&certificate, &key)
}

/// The textual form of a DER value (RFC 7468 section 2).
fn pem(label: &str, der: &[u8]) -> String {
    let mut text = format!("-----BEGIN {label}-----\n");
    // 48 bytes make a line of 64 characters.
    for line in der.chunks(48) {
        text.push_str(&Zeroizing::new(base64(line)));
        text.push('\n');
    }
    text.push_str(&format!("-----END {label}-----\n"));
    text
}

/// A key and its certificate, both in DER.
struct Made {
    /// PKCS #8.
    key: Vec<u8>,
    /// X.509.
    certificate: Vec<u8>,
}

/// Generates a key and a certificate for a host with this name and these addresses.
///
/// # Errors
/// If the system provides no random numbers.
fn make(name: &str, addresses: &[IpAddr]) -> Result<Made, String> {
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

/// Describes a failed handshake.
pub fn explain(error: &io::Error) -> String {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        Some(rustls::Error::InvalidMessage(_)) => {
            "the client does not speak TLS, which this listener expects: use another port for it, or set tls 'none' or 'starttls'".into()
        }
        Some(rustls::Error::PeerIncompatible(what)) => {
            let what = words(&format!("{what:?}"));
            format!("the client only supports TLS that is too old to be secure ({what}): let it send without TLS, to a listener with tls 'none'")
        }
        Some(rustls::Error::AlertReceived(alert)) => format!(
            "the client aborted the TLS handshake with alert {}: most likely it does not trust the certificate; disable certificate verification in the device, or set options certificate and key",
            alerted(*alert)
        ),
        Some(other) => format!("the TLS handshake failed ({})", words(&format!("{other:?}"))),
        None if matches!(error.kind(), ErrorKind::TimedOut | ErrorKind::UnexpectedEof) => {
            format!("no complete TLS client hello received ({error}): a client without TLS waits in vain for a greeting here; use another port for it, or set tls 'none' or 'starttls'")
        }
        None => format!("the connection failed during the TLS handshake: {error}"),
    }
}

#[cfg(test)]
mod tests;
