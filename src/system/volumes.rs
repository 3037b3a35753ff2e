// SPDX-License-Identifier: Apache-2.0
//! File systems without owners and modes: access rights for all of their files are set when they are mounted.

use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::sys::statfs::statfs;

/// By their numbers in `man 2 statfs`. With a FUSE driver, NTFS and exFAT look like any other file system of that kind.
const WITHOUT_OWNERS: [(u64, &str); 8] = [
    (0x4d44, "vfat"),
    (0x2011_bab0, "exfat"),
    (0x7366_746e, "ntfs3"),
    (0x5346_544e, "ntfs"),
    (0x6573_5546, "fuse"),
    (0xff53_4d42, "cifs"),
    (0xfe53_4d42, "smb3"),
    (0x517b, "smbfs"),
];

/// The file system of a directory, if it has no owners, with the metadata of the directory or of the nearest existing
/// one above it.
pub fn without_owners(path: &Path) -> Option<(&'static str, Metadata)> {
    let there = path.ancestors().find(|path| path.is_dir())?;
    let kind = u64::try_from(statfs(there).ok()?.filesystem_type().0).ok()?;
    let (_, name) = WITHOUT_OWNERS.iter().find(|(number, _)| *number == kind)?;
    Some((name, fs::metadata(there).ok()?))
}

/// Whether a user may create files in a directory, according to its mode.
pub fn may_write(directory: &Metadata, uid: u32, gid: u32) -> bool {
    let bits = match directory {
        _ if uid == 0 => return true,
        own if own.uid() == uid => own.mode() >> 6,
        group if group.gid() == gid => group.mode() >> 3,
        other => other.mode(),
    };
    bits & 0o3 == 0o3
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn what_has_owners_is_no_trouble() {
        let dir = tempfile::tempdir().unwrap();
        assert!(without_owners(&dir.path().join("not/there")).is_none());
    }

    #[test]
    fn owner_group_and_others() {
        let dir = tempfile::tempdir().unwrap();
        let may = |mode, uid, gid| {
            fs::set_permissions(dir.path(), Permissions::from_mode(mode)).unwrap();
            let found = fs::metadata(dir.path()).unwrap();
            may_write(&found, uid + found.uid(), gid + found.gid())
        };
        assert!(may(0o700, 0, 1) && may(0o070, 1, 0) && may(0o777, 1, 1));
        assert!(!may(0o755, 1, 1) && !may(0o770, 1, 1));
    }
}
