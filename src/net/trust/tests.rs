// SPDX-License-Identifier: Apache-2.0
//! Real handshakes with certificates of all kinds, good and unusual, and the resulting sentences; and what is read in them.

use std::io;

use proptest::prelude::*;
use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, SanType, date_time_ymd,
};
use ring::digest::{SHA256, digest};
use tokio_rustls::rustls::crypto::ring::default_provider as ring_provider;
use tokio_rustls::rustls::crypto::ring::sign::any_supported_type;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;
use tokio_rustls::rustls::sign::{CertifiedKey, SingleCertAndKey};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, ServerConfig, SupportedProtocolVersion, version};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::super::tls::explain;
use super::*;

const HOST: &str = "mx.example";

fn named(name: &str) -> DistinguishedName {
    let mut distinguished = DistinguishedName::new();
    distinguished.push(DnType::CommonName, name);
    distinguished
}

fn params(names: &[&str]) -> CertificateParams {
    let mut params = CertificateParams::new(names.iter().map(|name| name.to_string()).collect::<Vec<_>>()).unwrap();
    params.distinguished_name = named("leaf");
    params
}

/// An authority, and what a server with a certificate from it sends.
struct Made {
    root: Vec<u8>,
    chain: Vec<CertificateDer<'static>>,
    key: Vec<u8>,
}

/// A certificate by `params` that an authority signs, with `between` intermediate ones.
fn made(params: CertificateParams, between: usize) -> Made {
    let authority = |name: &str| {
        let mut params = CertificateParams::default();
        params.distinguished_name = named(name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params
    };
    let root_key = KeyPair::generate().unwrap();
    let root_params = authority("Plant root");
    let root = root_params.self_signed(&root_key).unwrap().der().to_vec();
    let mut issuer = Issuer::new(root_params, root_key);
    let mut chain = Vec::new();
    for n in 0..between {
        let (params, key) = (authority(&format!("Plant {n}")), KeyPair::generate().unwrap());
        chain.insert(0, params.signed_by(&key, &issuer).unwrap().der().clone());
        issuer = Issuer::new(params, key);
    }
    let key = KeyPair::generate().unwrap();
    chain.insert(0, params.signed_by(&key, &issuer).unwrap().der().clone());
    Made { root, chain, key: key.serialize_der() }
}

/// An authority that has signed nothing.
fn other_root() -> Vec<u8> {
    let mut params = params(&[]);
    params.distinguished_name = named("Other root");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec()
}

fn self_signed(params: CertificateParams) -> Made {
    let key = KeyPair::generate().unwrap();
    let chain = vec![params.self_signed(&key).unwrap().der().clone()];
    Made { root: other_root(), chain, key: key.serialize_der() }
}

/// DER encoding of one value (X.690 section 10.1: the length in its shortest form).
fn wrapped(tag: u8, content: &[u8]) -> Vec<u8> {
    let [high, low] = u16::try_from(content.len()).unwrap().to_be_bytes();
    let length = match (high, low) {
        (0, 0..0x80) => vec![low],
        (0, _) => vec![0x81, low],
        _ => vec![0x82, high, low],
    };
    [&[tag], length.as_slice(), content].concat()
}

/// As old tools create it: version 1, without extensions.
fn version_1(made: Made) -> Made {
    let leaf = Certificate::read(&made.chain[0]).unwrap();
    let algorithm = wrapped(0x30, leaf.key.algorithm);
    let key = wrapped(0x30, &[algorithm.clone(), wrapped(3, &[&[0], leaf.key.bits].concat())].concat());
    let parts = [
        vec![2, 1, 7],
        algorithm.clone(),
        wrapped(0x30, leaf.issuer),
        wrapped(0x30, leaf.validity),
        wrapped(0x30, leaf.subject),
        key,
    ];
    let signed = [wrapped(0x30, &parts.concat()), algorithm, wrapped(3, &[0, 1, 2, 3])].concat();
    Made { chain: vec![wrapped(0x30, &signed).into()], ..made }
}

fn judge(trust: Trust) -> Judge {
    Judge { trust, provider: crate::system::crypto::provider(), rejected: Mutex::default() }
}

fn authorities(root: &[u8]) -> Trust {
    let mut store = RootCertStore::empty();
    store.add(root.to_vec().into()).unwrap();
    Trust::Authorities(store)
}

/// Performs a handshake with a server that uses `made`; returns the error that the account would report.
async fn shaken(made: &Made, trust: Trust, version: &'static SupportedProtocolVersion) -> Result<(), String> {
    let provider = crate::system::crypto::provider();
    let key = PrivateKeyDer::try_from(made.key.clone()).unwrap();
    // Unchecked: the server is as unusual as its certificate.
    let certified = CertifiedKey::new(made.chain.clone(), any_supported_type(&key).unwrap());
    // The gateway's own provider loads no private keys, so it cannot be used for servers.
    let server = ServerConfig::builder_with_provider(Arc::new(ring_provider()))
        .with_protocol_versions(&[version])
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(certified)));
    let client = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[version])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(judge(trust)))
        .with_no_client_auth();
    let (near, far) = tokio::io::duplex(256 << 10);
    let (acceptor, connector) = (TlsAcceptor::from(Arc::new(server)), TlsConnector::from(Arc::new(client)));
    let name = ServerName::try_from(HOST).unwrap();
    let (_, connected) = tokio::join!(acceptor.accept(far), connector.connect(name, near));
    connected.map(drop).map_err(|error| explain(&error, HOST).reason())
}

fn fingerprint(made: &Made) -> Trust {
    Trust::Fingerprint(digest(&SHA256, &made.chain[0]).as_ref().try_into().unwrap())
}

#[tokio::test]
async fn each_certificate_has_its_sentence_and_a_pin_takes_it_as_it_is() {
    let alone = || {
        let mut made = made(params(&[HOST]), 1);
        made.chain.truncate(1);
        made
    };
    // The whole chain with the root, without the one in this place.
    let gap = |between, place| {
        let mut made = made(params(&[HOST]), between);
        made.chain.push(made.root.clone().into());
        made.chain.remove(place);
        made
    };
    let twice = || {
        let mut made = alone();
        made.chain.push(made.chain[0].clone());
        made
    };
    let with_email = || {
        let mut params = params(&[]);
        params.subject_alt_names = vec![SanType::Rfc822Name("ops@mx.example".try_into().unwrap())];
        params
    };
    let unknown = |between| Made { root: other_root(), ..made(params(&[HOST]), between) };
    let critical = || {
        let mut params = params(&[HOST]);
        let mut extension = CustomExtension::from_oid_content(&[1, 3, 6, 1, 4, 1, 99999, 1], vec![5, 0]);
        extension.set_criticality(true);
        params.custom_extensions = vec![extension];
        params
    };
    let for_clients = || {
        let mut params = params(&[HOST]);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params
    };
    let ca = || {
        let mut params = params(&[HOST]);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params
    };
    let by_leaf = || {
        let (mut one, other) = (made(params(&[HOST]), 0), made(params(&["other.example"]), 0));
        one.chain = vec![one.chain.remove(0), other.chain[0].clone()];
        one
    };
    let not_known = "is signed by an unknown authority";
    for (number, (made, says)) in [
        (made(params(&[HOST]), 0), None),
        (made(params(&[HOST]), 2), None),
        (by_leaf(), None),
        (
            alone(),
            Some(format!("{not_known} ('Plant 0'), and it came alone: a server must also send its intermediate")),
        ),
        (unknown(0), Some(format!("{not_known} ('Plant root'), and it came alone"))),
        (unknown(2), Some(format!("{not_known} ('Plant root'); for your own server, set ca_file"))),
        // The intermediate certificate is missing, and the authority that is known came with it.
        (gap(1, 1), Some(format!("{not_known} ('Plant 0'), whose certificate was not sent: a server must also"))),
        (gap(2, 1), Some(format!("{not_known} ('Plant 1'), whose certificate was not sent"))),
        (twice(), Some(format!("{not_known} ('Plant 0'), and it came alone"))),
        (gap(2, 2), Some(format!("{not_known} ('Plant 0'), whose certificate was not sent"))),
        (self_signed(params(&[HOST])), Some(format!("{not_known} (it is self-signed); for your own server"))),
        (made(with_email(), 0), Some("has no subjectAltName with a host, and its common name (CN) is ignored".into())),
        (made(params(&[]), 0), Some("has no subjectAltName, and its common name (CN) is ignored".into())),
        (
            made(params(&["a.example", "b.example", "c.example", "d.example"]), 0),
            Some("is not valid for mx.example, only for a.example, b.example, c.example and others".into()),
        ),
        (
            made(critical(), 0),
            Some("has an unsupported critical extension; for your own server, set fingerprint".into()),
        ),
        (
            made(for_clients(), 0),
            Some("is not meant for servers (extendedKeyUsage); for your own server, set fingerprint".into()),
        ),
        (made(ca(), 0), Some("is a CA certificate (CA:TRUE), not a server certificate".into())),
        (
            version_1(made(params(&[HOST]), 0)),
            Some("is an X.509 version 1 certificate; the server needs a current certificate".into()),
        ),
        (made(params(&[HOST]), 9), Some("sends a certificate chain that is too long".into())),
    ]
    .into_iter()
    .enumerate()
    {
        for version in [&version::TLS12, &version::TLS13] {
            let found = shaken(&made, authorities(&made.root), version).await;
            match &says {
                None => assert_eq!(found, Ok(()), "{number}"),
                Some(says) => {
                    let found = found.unwrap_err();
                    assert!(found.contains(says.as_str()), "{number}: {found}");
                }
            }
            // With its fingerprint, or unverified, each of them is accepted.
            for trust in [fingerprint(&made), Trust::Anything] {
                assert_eq!(shaken(&made, trust, version).await, Ok(()), "{number}");
            }
            // Not with the fingerprint of another one, and not without the key.
            let other = Trust::Fingerprint([7; 32]);
            let said = shaken(&made, other, version).await.unwrap_err();
            assert!(said.contains("does not match option fingerprint"), "{number}: {said}");
        }
    }
}

#[tokio::test]
async fn who_has_no_key_is_not_the_server_of_the_fingerprint() {
    let (real, liar) = (made(params(&[HOST]), 0), made(params(&[HOST]), 0));
    // Version 1, so that the server does not notice that its key does not match.
    let real = version_1(real);
    let posing = Made { key: liar.key, ..real };
    for version in [&version::TLS12, &version::TLS13] {
        let said = shaken(&posing, fingerprint(&posing), version).await.unwrap_err();
        assert!(said.contains("does not have the private key of its certificate"), "{said}");
    }
}

#[tokio::test]
async fn a_chain_of_more_than_64_kb_is_called_that() {
    let mut large = params(&[HOST]);
    large.custom_extensions = vec![CustomExtension::from_oid_content(&[1, 3, 6, 1, 4, 1, 99999, 2], vec![4; 70_000])];
    let made = made(large, 0);
    for version in [&version::TLS12, &version::TLS13] {
        let said = shaken(&made, authorities(&made.root), version).await.unwrap_err();
        assert!(said.contains("exceed 64 KB in total"), "{said}");
    }
}

#[test]
fn small_rsa_keys_are_verified_where_they_can_be() {
    let [key, message, signature] = SMALL.map(bytes);
    let algorithm = wrapped(0x30, alg_id::RSA_ENCRYPTION.as_ref());
    let spki = wrapped(0x30, &[algorithm.clone(), wrapped(3, &[&[0], key.as_slice()].concat())].concat());
    let empty = wrapped(0x30, &[]);
    let parts = [vec![2, 1, 7], algorithm.clone(), empty.clone(), empty.clone(), empty, spki].concat();
    let certificate = wrapped(0x30, &wrapped(0x30, &parts));
    let mut wrong = signature.clone();
    wrong[9] ^= 1;
    let signed = |trust, scheme, signature: &[u8], tls13| {
        let error = judge(trust).signed(&message, &certificate, (scheme, signature), tls13).err()?;
        Some(explain(&io::Error::new(io::ErrorKind::InvalidData, error), HOST).reason())
    };
    let (old, new) = (SignatureScheme::RSA_PKCS1_SHA256, SignatureScheme::RSA_PSS_SHA256);
    let pin = || Trust::Fingerprint([0; 32]);
    assert_eq!(signed(pin(), old, &signature, false), None);
    assert!(signed(pin(), old, &wrong, false).unwrap().contains("does not have the private key"));
    // TLS 1.3 does not allow signatures of this kind.
    assert!(signed(pin(), old, &signature, true).unwrap().contains("does not have the private key"));
    // An authority of one's own does not help either, and that is not called a wrong signature.
    let with_ca = small_key(&certificate).map(|error| explain(&io::Error::other(error), HOST).reason()).unwrap();
    assert!(with_ca.contains("the RSA key of mx.example has 1024 bits"), "{with_ca}");
    let said = signed(pin(), new, &signature, true).unwrap();
    assert!(said.contains("the RSA key of mx.example has 1024 bits, too few to be verified"), "{said}");
    assert_eq!(signed(Trust::Anything, new, &signature, true), None);
}

/// A 1024-bit RSA key, a text, and its SHA-256 signature as created by `openssl dgst -sha256 -sign`.
const SMALL: [&str; 3] = [
    "30818902818100c3a8b339b0e89fce3dbb0304a4ff3aab1ac0774b68c013c64d4967c6426ea2c3213f7b8f593638150a431f1bf5e1bfe582e33240a2f6fde7e7b66621ac19c63cc65e035ffba9c72fe1a69e483a22d3d4e5ae66db2c3f5a4397ae144e0199cb4ec519b8a77006ed4a35bdfcb124be1f5c75f5e31c921db2389babd14f864e2ff50203010001",
    "7369676e6564206279206120736d616c6c206b6579",
    "38c8fa4131285903e03af804856349f28a877650ff9c0f17719ce7d560d751b05d505c127f7e2e23ec26c4318487953f60a52cd1780268b43cdb3311edc04b71c3f8f38cf6508e364fdffe5ac90abf84b2f0811787fbd5aca93d0008dcadde0a80ab93fc1aaa108167ee1e1c9634f589f520937b5f8195935c42488a38d859ab",
];

fn bytes(hex: &str) -> Vec<u8> {
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

fn certified(common: &str, organization: &str) -> (Vec<u8>, Vec<u8>) {
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
        let (der, key) = certified(common, organization);
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
        let mut changed = certified("a", "b").0;
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

fn certified_until(year: i32) -> Vec<u8> {
    let mut params = CertificateParams::new(vec!["mx.example".to_string()]).unwrap();
    params.not_before = date_time_ymd(2001, 1, 1);
    params.not_after = date_time_ymd(year, 12, 31);
    params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec()
}

fn until(certificate: &[u8]) -> Option<i64> {
    Certificate::read(certificate)?.not_after()
}

#[test]
fn both_forms_of_time_are_read() {
    assert_eq!(until(&certified_until(2010)), Some(1_293_753_600));
    assert_eq!(until(&certified_until(2049)), Some(2_524_521_600));
    assert_eq!(until(&certified_until(2099)), Some(4_102_358_400));
}

#[test]
fn a_time_that_does_not_exist_is_none() {
    assert_eq!(time(2026, b"1123010203Z"), Some(1_795_395_723));
    for odd in [&b"1323010203Z"[..], b"1123010203", b"112301020aZ", b"1123250203Z", b"0023010203Z", b"11230102+0Z"] {
        assert_eq!(time(2026, odd), None, "{odd:?}");
    }
}

proptest! {
    #[test]
    fn whatever_comes_has_an_end_or_none(bytes: Vec<u8>, at in 0usize..300, byte: u8, cut in 0usize..600) {
        let _ = until(&bytes);
        let mut changed = certified_until(2049);
        if let Some(place) = changed.get_mut(at) {
            *place = byte;
        }
        let _ = until(&changed);
        changed.truncate(cut);
        prop_assert!(changed.len() > 200 || until(&changed).is_none());
    }
}

/// Verifies a chain at `now`, in seconds since 1970.
fn judged(trust: Trust, chain: &[CertificateDer<'_>], name: &str, now: u64) -> Result<(), CertificateError> {
    let (now, name) = (UnixTime::since_unix_epoch(std::time::Duration::from_secs(now)), name.to_owned());
    let (leaf, rest) = chain.split_first().unwrap();
    match judge(trust).verify_server_cert(leaf, rest, &ServerName::try_from(name).unwrap(), &[], now) {
        Ok(_) => Ok(()),
        Err(Error::InvalidCertificate(error)) => Err(error),
        Err(error) => panic!("{error:?}"),
    }
}

/// All that is remembered is that a signature is valid.
#[test]
fn with_a_signature_that_was_verified_before_everything_else_is_judged_again() {
    const NOW: u64 = 1_800_000_000;
    let mut params = params(&[HOST]);
    (params.not_before, params.not_after) = (date_time_ymd(2026, 1, 1), date_time_ymd(2028, 1, 1));
    let made = made(params, 1);
    let now = |chain: &[CertificateDer<'_>]| judged(authorities(&made.root), chain, HOST, NOW);
    for _ in 0..3 {
        assert_eq!(now(&made.chain), Ok(()));
    }
    let (chain, year) = (&made.chain[..], 365 * 86_400);
    let refused = |root: &[u8], name, at| format!("{:?}", judged(authorities(root), chain, name, at).unwrap_err());
    assert!(refused(&made.root, HOST, NOW + year).starts_with("ExpiredContext"));
    assert!(refused(&made.root, HOST, NOW - 3 * year).starts_with("NotValidYetContext"));
    assert!(refused(&made.root, "other.example", NOW).starts_with("NotValidForNameContext"));
    assert!(refused(&other_root(), HOST, NOW).contains("Chain"));

    // A changed byte: in the name, the key, the signature, of the server's certificate and of the one above it.
    for (number, certificate) in made.chain.iter().enumerate() {
        let read = Certificate::read(certificate).unwrap();
        let place = |part: &[u8]| certificate.windows(part.len()).position(|found| found == part).unwrap();
        for at in [place(read.subject) + read.subject.len() - 1, certificate.len() - 1] {
            let mut changed = made.chain.clone();
            let mut bytes = certificate.to_vec();
            bytes[at] ^= 1;
            changed[number] = bytes.into();
            for _ in 0..2 {
                assert!(now(&changed).is_err(), "certificate {number}, byte {at}");
            }
        }
    }
    assert_eq!(now(&made.chain), Ok(()));
}

/// An authority of the same name with another key has signed nothing, whatever was verified before.
#[test]
fn what_one_key_has_signed_is_not_taken_as_signed_by_another() {
    const NOW: u64 = 1_800_000_000;
    let (one, other) = (made(params(&[HOST]), 1), made(params(&[HOST]), 1));
    for made in [&one, &other] {
        assert_eq!(judged(authorities(&made.root), &made.chain, HOST, NOW), Ok(()));
    }
    for _ in 0..2 {
        // The root of the other, and the intermediate certificate of the other: their names are the same.
        assert_eq!(judged(authorities(&other.root), &one.chain, HOST, NOW), Err(CertificateError::BadSignature));
        let mixed = [one.chain[0].clone(), other.chain[1].clone()];
        assert_eq!(judged(authorities(&other.root), &mixed, HOST, NOW), Err(CertificateError::BadSignature));
    }
}
