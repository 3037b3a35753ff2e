// SPDX-License-Identifier: Apache-2.0
//! Certificates in every form in which they occur, and the errors for those that cannot be used.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use super::*;
use crate::config::{load, uci};
use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ED25519};
use rustls::pki_types::ServerName;
use tokio_rustls::TlsConnector;

struct Files {
    dir: tempfile::TempDir,
}

impl Files {
    fn new() -> Files {
        Files { dir: tempfile::tempdir().unwrap() }
    }

    fn write(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.dir.path().join(name);
        fs::write(&path, bytes).unwrap();
        path
    }

    /// An acceptor with these two files, or with no files configured.
    fn acceptor(&self, files: Option<(&Path, &Path)>) -> Result<TlsAcceptor, String> {
        let named = files.map_or(String::new(), |(certificate, key)| {
            format!(" option certificate '{}'\n option key '{}'\n", certificate.display(), key.display())
        });
        let text = format!(
            "config relay 'main'\n option hostname 'router.lan'\n option spool '{}'\nconfig listener 'l'\n option tls 'implicit'\n list address '127.0.0.1'\n{named}",
            self.dir.path().display()
        );
        let (settings, _) = load::settings(&uci::parse(text.as_bytes()).unwrap());
        acceptor(&settings.listeners[0], &settings.relay, &["127.0.0.1".parse().unwrap()])
    }
}

/// Performs a handshake with a client that trusts this certificate alone. Returns the version.
async fn shake(
    acceptor: &TlsAcceptor,
    trusted: &[u8],
    name: &str,
    versions: &[&'static rustls::SupportedProtocolVersion],
) -> io::Result<Option<rustls::ProtocolVersion>> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from(trusted.to_vec())).unwrap();
    let config = rustls::ClientConfig::builder_with_provider(crypto::provider())
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let (ours, theirs) = tokio::io::duplex(64 << 10);
    let connector = TlsConnector::from(Arc::new(config));
    let name = ServerName::try_from(name.to_string()).unwrap();
    let (server, client) = tokio::join!(acceptor.accept(ours), connector.connect(name, theirs));
    client?;
    Ok(server?.get_ref().1.protocol_version())
}

const BOTH: [&rustls::SupportedProtocolVersion; 2] = [&rustls::version::TLS13, &rustls::version::TLS12];

#[tokio::test]
async fn keys_of_each_kind_as_pem_and_as_der() {
    let files = Files::new();
    for algorithm in [&PKCS_ECDSA_P256_SHA256, &PKCS_ECDSA_P384_SHA384] {
        let key = KeyPair::generate_for(algorithm).unwrap();
        let certificate = CertificateParams::new(vec!["localhost".into()]).unwrap().self_signed(&key).unwrap();
        let forms = [
            (
                files.write("pem.crt", certificate.pem().as_bytes()),
                files.write("pem.key", key.serialize_pem().as_bytes()),
            ),
            (files.write("der.crt", certificate.der()), files.write("der.key", key.serialized_der())),
        ];
        for (crt, _) in &forms {
            for (_, key) in &forms {
                let acceptor = files.acceptor(Some((crt, key))).unwrap();
                for version in BOTH {
                    let seen = shake(&acceptor, certificate.der(), "localhost", &[version]).await.unwrap();
                    assert_eq!(seen, Some(version.version));
                }
            }
        }
    }
}

/// What uhttpd's script creates: the certificate as DER; the key as PEM by openssl, as SEC 1 DER by px5g.
#[tokio::test]
async fn certificates_as_the_router_makes_them() {
    let files = Files::new();
    let path = |name: &str| files.dir.path().join(name).to_str().unwrap().to_owned();
    let openssl = |args: &[&str]| Command::new("openssl").args(args).output();
    let make = |new_key: &[&str]| {
        let names = ["-addext", "subjectAltName=DNS:localhost", "-addext", "basicConstraints=critical,CA:FALSE"];
        let out = ["-outform", "der", "-keyout", &path("pem"), "-out", &path("crt"), "-newkey"];
        let request = ["req", "-x509", "-sha256", "-nodes", "-days", "730", "-subj", "/CN=OpenWrt"];
        openssl(&[&request[..], &names[..], &out[..], new_key].concat())
    };
    match make(&["ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]) {
        Err(error) => return println!("skipped: no openssl here ({error})"),
        Ok(output) => assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr)),
    }
    let output = openssl(&["ec", "-in", &path("pem"), "-outform", "der", "-out", &path("der")]).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let crt = PathBuf::from(path("crt"));
    for key in [path("pem"), path("der")] {
        let acceptor = files.acceptor(Some((&crt, Path::new(&key)))).unwrap();
        for version in BOTH {
            shake(&acceptor, &fs::read(&crt).unwrap(), "localhost", &[version]).await.unwrap();
        }
    }
    // Routers that were set up long ago have RSA: an error if it is configured, skipped otherwise.
    assert!(make(&["rsa:2048"]).unwrap().status.success());
    let said = files.acceptor(Some((&crt, Path::new(&path("pem"))))).err().unwrap();
    assert!(said.contains("option key '") && said.contains("not an ECDSA key"), "{said}");
}

#[tokio::test]
async fn our_own_is_made_once_and_can_be_pinned() {
    if Path::new(ROUTERS.0).exists() {
        return println!("skipped: this machine has {}", ROUTERS.0);
    }
    let files = Files::new();
    let first = files.acceptor(None).unwrap();
    let written = fs::read(files.dir.path().join(OWN.0)).unwrap();
    let certificate = chain(written.clone()).unwrap().remove(0).to_vec();
    let mode =
        std::os::unix::fs::PermissionsExt::mode(&fs::metadata(files.dir.path().join(OWN.1)).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
    for name in ["router.lan", "127.0.0.1"] {
        for version in BOTH {
            shake(&first, &certificate, name, &[version]).await.unwrap();
        }
    }
    assert!(shake(&first, &certificate, "other.lan", &BOTH).await.is_err());
    let again = files.acceptor(None).unwrap();
    assert_eq!(fs::read(files.dir.path().join(OWN.0)).unwrap(), written);
    shake(&again, &certificate, "router.lan", &BOTH).await.unwrap();
    // Half of it lost, as by a power cut: generated again.
    fs::write(files.dir.path().join(OWN.1), b"").unwrap();
    files.acceptor(None).unwrap();
    assert_ne!(fs::read(files.dir.path().join(OWN.0)).unwrap(), written);
}

#[test]
fn files_that_can_not_be_used_are_named() {
    let files = Files::new();
    let pair = || {
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(vec!["localhost".into()]).unwrap().self_signed(&key).unwrap();
        (certificate.pem(), key.serialize_pem())
    };
    let ((good, key), (_, other)) = (pair(), pair());
    let crt = files.write("good.crt", good.as_bytes());
    let good_key = files.write("good.key", key.as_bytes());
    let none = files.dir.path().join("none");
    let empty = files.write("empty", b"");
    let words = files.write("words", b"dummy cert\n");
    let stranger = files.write("stranger", other.as_bytes());
    let other_kind = files.write("ed25519", KeyPair::generate_for(&PKCS_ED25519).unwrap().serialize_pem().as_bytes());
    let error = |crt: &Path, key: &Path| files.acceptor(Some((crt, key))).err().unwrap();
    for (crt, key, parts) in [
        (&none, &good_key, ["option certificate '", "none': cannot be read"]),
        (&crt, &none, ["option key '", "none': cannot be read"]),
        (&empty, &good_key, ["option certificate '", "contains no certificate"]),
        (&words, &good_key, ["option certificate '", "contains no certificate"]),
        (&crt, &words, ["option key '", "contains no private key"]),
        (&crt, &crt, ["option key '", "contains no private key"]),
        (&crt, &other_kind, ["option key '", "is not an ECDSA key"]),
        (&crt, &stranger, ["option key '", "does not match the certificate"]),
    ] {
        let said = error(crt, key);
        assert!(parts.iter().all(|part| said.contains(part)), "{said}");
    }
}

#[test]
fn an_error_of_a_client_is_in_words() {
    let said = |error: rustls::Error| explain(&io::Error::new(ErrorKind::InvalidData, error));
    let alerts = (0..=255).map(|code| said(rustls::Error::AlertReceived(rustls::AlertDescription::from(code))));
    let others = [
        rustls::Error::PeerIncompatible(rustls::PeerIncompatible::Tls12NotOffered),
        rustls::Error::PeerMisbehaved(rustls::PeerMisbehaved::TooManyEmptyFragments),
        rustls::Error::DecryptError,
    ];
    for text in alerts.chain(others.map(said)) {
        // Two words without a gap are the name of something in Rust.
        let is_name =
            |word: &str| word.chars().zip(word.chars().skip(1)).any(|(a, b)| a.is_lowercase() && b.is_uppercase());
        assert!(!text.contains('{') && !text.split(|c: char| !c.is_alphanumeric()).any(is_name), "{text}");
    }
    assert!(
        said(rustls::Error::AlertReceived(rustls::AlertDescription::UnknownCA)).contains("alert 48 (unknown CA): most")
    );
}

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
    std::fs::write(&pem, super::pem("CERTIFICATE", &made.certificate)).unwrap();
    // Byte for byte what it would have written itself.
    let theirs = openssl(&["x509", "-inform", "der", "-in"], &certificate).unwrap();
    assert_eq!(std::fs::read_to_string(&pem).unwrap(), theirs);
    let key_pem = dir.path().join("key.pem");
    std::fs::write(&key_pem, super::pem("PRIVATE KEY", &made.key)).unwrap();
    let trusted = pem.to_str().unwrap();
    openssl(&["verify", "-check_ss_sig", "-CAfile", trusted], &pem);
    let public = openssl(&["x509", "-inform", "der", "-noout", "-pubkey", "-in"], &certificate);
    assert_eq!(openssl(&["pkey", "-inform", "der", "-pubout", "-in"], &key), public);
    assert_eq!(openssl(&["pkey", "-pubout", "-in"], &key_pem), public);
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
