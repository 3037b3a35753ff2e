// SPDX-License-Identifier: Apache-2.0
//! Real handshakes with certificates of all kinds, good and unusual, and the resulting sentences.

use std::io;

use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair,
};
use ring::digest::{SHA256, digest};
use tokio_rustls::rustls::crypto::ring::default_provider as ring_provider;
use tokio_rustls::rustls::crypto::ring::sign::any_supported_type;
use tokio_rustls::rustls::pki_types::{PrivateKeyDer, alg_id};
use tokio_rustls::rustls::sign::{CertifiedKey, SingleCertAndKey};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, ServerConfig, SupportedProtocolVersion, version};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::super::tls::explain;
use super::super::x509::tests::{SMALL, bytes};
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
    Judge { trust, provider: crate::system::crypto::provider() }
}

fn authorities(root: &[u8]) -> Trust {
    let mut store = RootCertStore::empty();
    store.add(root.to_vec().into()).unwrap();
    let provider = crate::system::crypto::provider();
    Trust::Authorities(WebPkiServerVerifier::builder_with_provider(Arc::new(store), provider).build().unwrap())
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
        (self_signed(params(&[HOST])), Some(format!("{not_known} (it is self-signed); for your own server"))),
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
    let said = signed(pin(), new, &signature, true).unwrap();
    assert!(said.contains("the RSA key of mx.example has 1024 bits, too few to be verified"), "{said}");
    assert_eq!(signed(Trust::Anything, new, &signature, true), None);
}
