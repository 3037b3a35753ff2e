// SPDX-License-Identifier: Apache-2.0
//! Files in the settings that the gateway's user may not read: mainly private keys. They are read
//! with sufficient privileges, at the start and at each reload, and kept in memory.
//!
//! There is one set of them per process, like its privileges.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use zeroize::Zeroizing;

use super::{Settings, TlsMode};
use crate::system::lock;

/// Maximum number of files: two for each listener, one for each account.
pub const COUNT_LIMIT: usize = 96;
/// Bytes of the largest file; bundles of certificate authorities have some 200 KB.
pub const SIZE_LIMIT: u64 = 1 << 20;

/// The files of uhttpd. Its script creates both on first use: the certificate as DER, the key as DER or (if openssl is
/// installed) as PEM.
pub const ROUTERS: (&str, &str) = ("/etc/uhttpd.crt", "/etc/uhttpd.key");

/// Contents by path.
pub type Files = BTreeMap<PathBuf, Zeroizing<Vec<u8>>>;

/// [`read()`] or [`now`]: what cannot be used as root has read it may have been corrected since.
pub type Reading = fn(&Path, u64) -> io::Result<Zeroizing<Vec<u8>>>;

static CARRIED: Mutex<Files> = Mutex::new(Files::new());

/// The files in these settings. A listener with TLS but without a certificate uses the router's.
pub fn named(settings: &Settings) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> = settings.accounts.iter().filter_map(|account| account.ca_file.clone()).collect();
    for listener in settings.listeners.iter().filter(|listener| listener.tls != TlsMode::None) {
        match (&listener.certificate, &listener.key) {
            (Some(certificate), Some(key)) => paths.extend([certificate.clone(), key.clone()]),
            _ => paths.extend([PathBuf::from(ROUTERS.0), PathBuf::from(ROUTERS.1)]),
        }
    }
    paths.sort();
    paths.dedup();
    paths.truncate(COUNT_LIMIT);
    paths
}

/// Reads at most `limit` bytes; anything longer is truncated.
///
/// # Errors
/// Of the file system.
pub fn contents(file: File, limit: u64) -> io::Result<Zeroizing<Vec<u8>>> {
    // Allocated at its final size, so that growing leaves no copies of a key behind.
    let length = file.metadata().map_or(0, |file| file.len()).min(limit);
    let mut bytes = Zeroizing::new(Vec::with_capacity(usize::try_from(length).unwrap_or(0).saturating_add(1)));
    file.take(limit).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Reads those that exist: what cannot be read now is reported when it is needed.
pub fn collect(settings: &Settings) -> Files {
    let read = |path: PathBuf| {
        let bytes = now(&path, SIZE_LIMIT).ok()?;
        Some((path, bytes))
    };
    named(settings).into_iter().filter_map(read).collect()
}

/// Uses these instead of the former ones.
pub fn replace(files: Files) {
    *lock(&CARRIED) = files;
}

/// A file in the settings, at most `limit` bytes of it: as root read it at the start or the last reload, or as it
/// is now if root did not read it.
///
/// What root has read takes precedence over the disk: a key comes from root, and a certificate has to be of
/// the same age. Also, a file that was replaced is still seen in its old form in a jail.
///
/// # Errors
/// Of the file system.
pub fn read(path: &Path, limit: u64) -> io::Result<Zeroizing<Vec<u8>>> {
    let carried = lock(&CARRIED).get(path).cloned();
    read_beside(carried, path, limit)
}

/// A file as it is now, at most `limit` bytes of it.
///
/// # Errors
/// Of the file system.
pub fn now(path: &Path, limit: u64) -> io::Result<Zeroizing<Vec<u8>>> {
    contents(File::open(path)?, limit)
}

fn read_beside(carried: Option<Zeroizing<Vec<u8>>>, path: &Path, limit: u64) -> io::Result<Zeroizing<Vec<u8>>> {
    match carried {
        Some(mut bytes) => {
            bytes.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
            Ok(bytes)
        }
        None => now(path, limit),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_cut_at_their_limit() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        std::fs::write(&path, "0123456789").unwrap();
        assert_eq!(**read(&path, 100).unwrap(), *b"0123456789");
        assert_eq!(**read(&path, 4).unwrap(), *b"0123");
        assert_eq!(read(&dir.path().join("none"), 4).unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn what_root_has_read_goes_before_what_is_seen() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("certificate");
        std::fs::write(&path, "old, as a jail shows it").unwrap();
        let carried = || Some(Zeroizing::new(b"renewed".to_vec()));
        assert_eq!(**read_beside(carried(), &path, 100).unwrap(), *b"renewed");
        assert_eq!(**read_beside(carried(), &path, 3).unwrap(), *b"ren");
        assert_eq!(**read_beside(None, &path, 3).unwrap(), *b"old");
    }

    #[test]
    fn keys_and_authorities_are_named() {
        let text = b"config listener 'a'\n\toption tls 'implicit'\n\tlist address '::1'\n
config listener 'b'\n\toption tls 'starttls'\n\tlist address '::1'\n\toption certificate '/c'\n\toption key '/k'\n
config listener 'c'\n\tlist address '::1'\n\toption certificate '/x'\n\toption key '/x'\n
config account 'p'\n\toption host 'h'\n\toption ca_file '/ca'\n\toption from 'a@b.c'\n";
        let package = crate::config::uci::parse(text).unwrap();
        let (settings, problems) = crate::config::load::settings(&package);
        let names: Vec<_> = named(&settings).into_iter().map(|path| path.display().to_string()).collect();
        assert_eq!(names, ["/c", "/ca", "/etc/uhttpd.crt", "/etc/uhttpd.key", "/k"], "{problems:?}");
    }
}
