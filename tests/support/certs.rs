// SPDX-License-Identifier: Apache-2.0
//! A certificate authority for one test: a folder of PEM files that vanishes with it.
//!
//! Each certificate but [`Cert::WrongName`] is for `localhost`, `127.0.0.1` and `::1`, and each is wrong in
//! exactly one way, so that a test which sees it refused knows why.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    date_time_ymd,
};
use tempfile::TempDir;
use tokio_rustls::rustls;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};

/// Which of the certificates a server shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cert {
    /// Valid, for the right name, signed by the CA of [`Certs::ca_file`].
    Good,
    /// As `Good`, but its time ran out in 2010.
    Expired,
    /// As `Good`, but its time begins in 2098.
    NotYetValid,
    /// As `Good`, but for `mail.other.example` only.
    WrongName,
    /// As `Good`, but signed by a CA that is not in [`Certs::ca_file`].
    UnknownCa,
    /// As `Good`, but signed by its own key, by no CA at all.
    SelfSigned,
    /// As `Good`, but marked as a CA's.
    Authority,
}

impl Cert {
    /// All of them.
    pub const ALL: [Cert; 7] = [
        Cert::Good,
        Cert::Expired,
        Cert::NotYetValid,
        Cert::WrongName,
        Cert::UnknownCa,
        Cert::SelfSigned,
        Cert::Authority,
    ];

    fn file_stem(self) -> &'static str {
        match self {
            Cert::Good => "good",
            Cert::Expired => "expired",
            Cert::NotYetValid => "not-yet-valid",
            Cert::WrongName => "wrong-name",
            Cert::UnknownCa => "unknown-ca",
            Cert::SelfSigned => "self-signed",
            Cert::Authority => "authority",
        }
    }

    fn names(self) -> Vec<String> {
        match self {
            Cert::WrongName => vec!["mail.other.example".into()],
            // rcgen turns what parses as an address into an address entry.
            _ => vec!["localhost".into(), "127.0.0.1".into(), "::1".into()],
        }
    }

    /// What it says, without a word on authorities.
    fn params(self) -> CertificateParams {
        let mut params = CertificateParams::new(self.names()).expect("names of a certificate");
        let (from, to) = self.years();
        params.not_before = date_time_ymd(from, 1, 1);
        params.not_after = date_time_ymd(to, 12, 31);
        params.distinguished_name.push(DnType::CommonName, self.file_stem());
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params
    }

    /// First and last year of validity. 2049 is the last year of the short time format that every TLS library
    /// reads (RFC 5280 section 4.1.2.5).
    fn years(self) -> (i32, i32) {
        match self {
            Cert::Expired => (2001, 2010),
            Cert::NotYetValid => (2098, 2099),
            _ => (2001, 2049),
        }
    }
}

/// The kind of a key pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keys {
    /// ECDSA with this curve, and the hash of its size.
    P256,
    P384,
    /// RSA with so many bits.
    Rsa(u32),
}

impl Keys {
    /// A new pair. ring makes none of RSA, so openssl does.
    fn generate(self) -> KeyPair {
        match self {
            Keys::P256 => KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256),
            Keys::P384 => KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384),
            Keys::Rsa(bits) => {
                let mut openssl = Command::new("openssl");
                openssl.args([
                    "genpkey",
                    "-quiet",
                    "-algorithm",
                    "RSA",
                    "-pkeyopt",
                    &format!("rsa_keygen_bits:{bits}"),
                ]);
                let output = openssl.output().expect("start openssl");
                KeyPair::from_pem(&String::from_utf8(output.stdout).expect("a key in PEM"))
            }
        }
        .expect("make a key")
    }
}

/// The folder with the CA and the servers' certificates and keys. A clone names the same folder; with the last
/// one it vanishes.
#[derive(Clone)]
pub struct Certs {
    dir: Arc<TempDir>,
    /// Who signed [`Cert::Good`].
    issuer: Arc<Issuer<'static, KeyPair>>,
}

impl Certs {
    /// Makes new keys and certificates. Panics when it cannot: there is no test without them.
    pub fn new() -> Certs {
        let dir = tempfile::Builder::new().prefix("smtprelay-certs-").tempdir().expect("temp folder for certificates");
        // Servers under test give up root before they read the CA file.
        open_to_all(dir.path());
        let ca = authority("smtprelay test CA");
        let stranger = authority("A CA that nobody trusts");
        fs::write(dir.path().join("ca.pem"), &ca.pem).expect("write ca.pem");
        fs::write(dir.path().join("other-ca.pem"), &stranger.pem).expect("write other-ca.pem");
        let certs = Certs { dir: Arc::new(dir), issuer: Arc::new(ca.issuer) };
        for cert in Cert::ALL {
            let key = KeyPair::generate().expect("make a key");
            let mut params = cert.params();
            if cert == Cert::Authority {
                params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            }
            let signed = match cert {
                Cert::UnknownCa => params.signed_by(&key, &stranger.issuer),
                Cert::SelfSigned => params.self_signed(&key),
                _ => params.signed_by(&key, &certs.issuer),
            }
            .expect("sign a certificate");
            fs::write(certs.cert_file(cert), signed.pem()).expect("write a certificate");
            fs::write(certs.key_file(cert), key.serialize_pem()).expect("write a key");
        }
        certs
    }

    /// As [`Certs::new`], but [`Cert::Good`] alone: its chain has keys of these kinds, from the CA down. Servers show all of
    /// it but the CA.
    pub fn of_keys(kinds: &[Keys]) -> Certs {
        let dir = tempfile::Builder::new().prefix("smtprelay-certs-").tempdir().expect("temp folder for certificates");
        open_to_all(dir.path());
        let [root, between @ .., last] = kinds else { panic!("a CA and a server have to be there") };
        let Authority { pem: ca, mut issuer } = authority_with("smtprelay test CA", root.generate(), None);
        let mut chain = Vec::new();
        for (number, kind) in between.iter().enumerate() {
            let next = authority_with(&format!("Between {number}"), kind.generate(), Some(&issuer));
            chain.insert(0, next.pem);
            issuer = next.issuer;
        }
        let key = last.generate();
        chain.insert(0, Cert::Good.params().signed_by(&key, &issuer).expect("sign a certificate").pem());
        let certs = Certs { dir: Arc::new(dir), issuer: Arc::new(issuer) };
        fs::write(certs.ca_file(), ca).expect("write ca.pem");
        fs::write(certs.cert_file(Cert::Good), chain.concat()).expect("write a chain");
        fs::write(certs.key_file(Cert::Good), key.serialize_pem()).expect("write a key");
        certs
    }

    /// Renews [`Cert::Good`]: another key and another certificate, signed by the same CA.
    pub fn renew(&self) {
        let key = KeyPair::generate().expect("make a key");
        let signed = Cert::Good.params().signed_by(&key, &*self.issuer).expect("sign a certificate");
        fs::write(self.cert_file(Cert::Good), signed.pem()).expect("write a certificate");
        fs::write(self.key_file(Cert::Good), key.serialize_pem()).expect("write a key");
    }

    /// The PEM file with the CA that signed the good certificate: what `option ca_file` names.
    pub fn ca_file(&self) -> PathBuf {
        self.dir.path().join("ca.pem")
    }

    /// A PEM file with a CA that signed nothing but [`Cert::UnknownCa`].
    pub fn other_ca_file(&self) -> PathBuf {
        self.dir.path().join("other-ca.pem")
    }

    /// The PEM file with the certificate.
    pub fn cert_file(&self, cert: Cert) -> PathBuf {
        self.dir.path().join(format!("{}.pem", cert.file_stem()))
    }

    /// The PEM file with its private key (PKCS #8).
    pub fn key_file(&self, cert: Cert) -> PathBuf {
        self.dir.path().join(format!("{}.key", cert.file_stem()))
    }

    /// SHA-256 over the DER form of the certificate, as 64 lower-case hex digits: what `option fingerprint` pins.
    pub fn fingerprint(&self, cert: Cert) -> String {
        let der = CertificateDer::from_pem_file(self.cert_file(cert)).expect("read a certificate back");
        let digest = ring::digest::digest(&ring::digest::SHA256, &der);
        digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// What a TLS server inside the test process needs to show the certificate.
    ///
    /// `versions` are those of rustls, such as `&[&rustls::version::TLS12]`.
    pub fn server_config(
        &self,
        cert: Cert,
        versions: &[&'static rustls::SupportedProtocolVersion],
    ) -> Arc<rustls::ServerConfig> {
        let chain = CertificateDer::pem_file_iter(self.cert_file(cert)).expect("read a chain back");
        let chain: Vec<_> = chain.map(|one| one.expect("read a certificate back")).collect();
        let key = PrivateKeyDer::from_pem_file(self.key_file(cert)).expect("read a key back");
        let config = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_protocol_versions(versions)
            .expect("versions that ring knows")
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .expect("certificate and key that belong together");
        Arc::new(config)
    }

    /// What a TLS client inside the test process needs to trust the CA, and nothing else.
    pub fn client_config(&self) -> Arc<rustls::ClientConfig> {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(self.ca_file()).expect("read the CA back")).expect("a usable CA");
        let config = rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("versions that ring knows")
            .with_root_certificates(roots)
            .with_no_client_auth();
        Arc::new(config)
    }
}

impl Default for Certs {
    fn default() -> Certs {
        Certs::new()
    }
}

struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

fn authority(name: &str) -> Authority {
    authority_with(name, KeyPair::generate().expect("make a key"), None)
}

/// An authority with this key, signed by another one or by itself.
fn authority_with(name: &str, key: KeyPair, by: Option<&Issuer<'static, KeyPair>>) -> Authority {
    let mut params = CertificateParams::new(Vec::<String>::new()).expect("no names");
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.not_before = date_time_ymd(2000, 1, 1);
    params.not_after = date_time_ymd(2099, 12, 31);
    let signed = match by {
        Some(issuer) => params.signed_by(&key, issuer),
        None => params.self_signed(&key),
    };
    let pem = signed.expect("sign a CA").pem();
    Authority { pem, issuer: Issuer::new(params, key) }
}

/// Makes a temp folder (created for its owner alone) readable for other users.
pub fn open_to_all(dir: &Path) {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(dir, fs::Permissions::from_mode(0o755)).expect("change the mode of a temp folder");
}
