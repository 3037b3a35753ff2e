// SPDX-License-Identifier: Apache-2.0
//! The cryptography that TLS uses, with providers and devices alike.

use std::sync::Arc;

use tokio_rustls::rustls;
use tokio_rustls::rustls::crypto::{CryptoProvider, KeyProvider, ring};
use tokio_rustls::rustls::pki_types::PrivateKeyDer;
use tokio_rustls::rustls::sign::SigningKey;

/// Loads no private keys: client certificates are not supported, and listeners load their keys themselves. The code for
/// every kind of key would be dead weight.
#[derive(Debug)]
struct NoKeys;

impl KeyProvider for NoKeys {
    fn load_private_key(&self, _key: PrivateKeyDer<'static>) -> Result<Arc<dyn SigningKey>, rustls::Error> {
        Err(rustls::Error::General("client certificates are not supported".into()))
    }
}

/// Ring, without keys. The only place that names ring's own provider: if there are two, the compiler no longer sees
/// that its key code is unused, and the program grows by tens of kilobytes.
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(CryptoProvider { key_provider: &NoKeys, ..ring::default_provider() })
}
