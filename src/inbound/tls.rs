// SPDX-License-Identifier: Apache-2.0
//! TLS towards devices: which certificate is presented, and readable explanations of failures.

use std::io::{self, ErrorKind};
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::ring::sign::any_ecdsa_type;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::ResolvesServerCert;
use tokio_rustls::rustls::sign::{CertifiedKey, SingleCertAndKey};
use tokio_rustls::rustls::{self, ServerConfig};

use super::certificate;
use super::connection::Stream;
use crate::config::files;
use crate::config::files::ROUTERS;
use crate::config::{Listener, Relay};
use crate::system::crypto::{self, alerted, words};
use crate::system::publish;

/// The gateway's own certificate and key, in the queue directory.
const OWN: (&str, &str) = ("tls.crt", "tls.key");
/// How long a handshake may take; small devices need seconds for one.
const HANDSHAKE_TIME: Duration = Duration::from_secs(60);
/// Maximum size of a file that is read, in bytes.
const FILE_LIMIT: u64 = 256 << 10;

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

/// Certificate chain and key from two files, each PEM or DER. Only ECDSA: signing with RSA and Ed25519 would add 22 KB
/// to the package for MIPS, and ECDSA on P-256 is what OpenWrt and Let's Encrypt create by default.
fn read(certificate: &Path, key: &Path) -> Result<CertifiedKey, String> {
    let wrong = |option: &str, path: &Path, what: String| format!("option {option} '{}': {what}", path.display());
    let bytes = files::read(certificate, FILE_LIMIT)
        .map_err(|e| wrong("certificate", certificate, format!("cannot be read: {e}")))?;
    let chain = chain(bytes.to_vec()).map_err(|what| wrong("certificate", certificate, what))?;
    let bytes = files::read(key, FILE_LIMIT).map_err(|e| wrong("key", key, format!("cannot be read: {e}")))?;
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
    let made = certificate::make(&relay.hostname(), addresses)?;
    // The certificate is written last: one without its key is generated again.
    for (path, bytes, mode) in [(&key, &made.key, 0o600), (&certificate, &made.certificate, 0o644)] {
        publish::replace(path, bytes, mode)
            .map_err(|e| format!("cannot write {}: {e}; set options certificate and key", path.display()))?;
    }
    read(&certificate, &key)
}

/// Performs the handshake. Returns the encrypted stream and the version, such as `TLSv1.3`.
///
/// # Errors
/// If it fails or takes too long; [`explain`] describes the reason.
pub async fn handshake(acceptor: &TlsAcceptor, stream: Stream) -> io::Result<(Stream, String)> {
    let late = || io::Error::new(ErrorKind::TimedOut, format!("not completed within {} s", HANDSHAKE_TIME.as_secs()));
    let tls = tokio::time::timeout(HANDSHAKE_TIME, acceptor.accept(stream)).await.map_err(|_| late())??;
    let version = tls.get_ref().1.protocol_version();
    let version = version.and_then(|v| v.as_str()).map(|name| name.replace('_', "."));
    Ok((Box::new(tls), version.unwrap_or_else(|| "TLS".into())))
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
