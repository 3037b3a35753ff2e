//! Small files that nobody but their owner may read: addresses and replies of providers are in them.

use std::fs::{OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

/// Makes `bytes` the content of the file at `path`. One that others could read is closed to them first.
///
/// # Errors
/// When it can't be written; then it may have a part of them.
pub fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.set_permissions(Permissions::from_mode(0o600))?;
    file.write_all(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_open_file_is_closed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        let mode = || std::fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        write(&path, b"long").unwrap();
        assert_eq!(mode(), 0o600);
        std::fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        write(&path, b"x").unwrap();
        assert_eq!((mode(), std::fs::read(&path).unwrap()), (0o600, b"x".to_vec()));
    }
}
