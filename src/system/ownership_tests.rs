// SPDX-License-Identifier: Apache-2.0

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::PathBuf;

use nix::unistd::{Gid, Uid};

use super::*;

/// A user that need not exist.
fn owner() -> Option<Identity> {
    if !nix::unistd::geteuid().is_root() {
        println!("skipped: only root gives files away");
        return None;
    }
    Some(Identity { name: "relay".into(), uid: Uid::from_raw(4650), gid: Gid::from_raw(4651) })
}

fn owners(path: &Path) -> (u32, u32) {
    let file = fs::symlink_metadata(path).unwrap();
    (file.uid(), file.gid())
}

const OURS: (u32, u32) = (4650, 4651);
const ROOT: (u32, u32) = (0, 0);

/// A queue as an earlier version left it.
fn queue(base: &Path) -> PathBuf {
    let spool = base.join("spool");
    fs::create_dir_all(spool.join("queue")).unwrap();
    for file in ["lock", "history", "tls.key", "queue/A.msg", "queue/.B.tmp", "queue/C.bad"] {
        fs::write(spool.join(file), file).unwrap();
    }
    spool
}

#[test]
fn what_an_earlier_version_left_is_taken_over() {
    let Some(owner) = owner() else { return };
    let dir = tempfile::tempdir().unwrap();
    let spool = queue(dir.path());
    assert_eq!(take_over(&spool, DirectoryKind::Queue, &owner), Vec::<String>::new());
    for file in ["", "lock", "history", "tls.key", "queue", "queue/A.msg", "queue/.B.tmp", "queue/C.bad"] {
        assert_eq!(owners(&spool.join(file)), OURS, "{file}");
    }
    assert_eq!(owners(dir.path()), ROOT);
    // Through a symbolic link of root's own it is the same directory.
    let link = dir.path().join("link");
    symlink(&spool, &link).unwrap();
    assert_eq!(take_over(&link, DirectoryKind::Queue, &owner), Vec::<String>::new());
    assert_eq!(owners(&link), ROOT);
}

#[test]
fn links_lead_nowhere() {
    let Some(owner) = owner() else { return };
    let dir = tempfile::tempdir().unwrap();
    let spool = queue(dir.path());
    let (file, folder) = (dir.path().join("shadow"), dir.path().join("etc"));
    fs::write(&file, "secret").unwrap();
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("passwd"), "").unwrap();
    symlink(&file, spool.join("queue/D.msg")).unwrap();
    symlink(&folder, spool.join("queue/sub")).unwrap();
    fs::hard_link(&file, spool.join("queue/E.msg")).unwrap();
    fs::hard_link(&file, spool.join("announced")).unwrap();
    take_over(&spool, DirectoryKind::Queue, &owner);
    for path in [&file, &folder, &folder.join("passwd"), &spool.join("queue/D.msg")] {
        assert_eq!(owners(path), ROOT, "{}", path.display());
    }
    assert_eq!(owners(&spool.join("queue/A.msg")), OURS);
    // The directory of the queue itself is a link.
    let other = dir.path().join("other");
    fs::create_dir(&other).unwrap();
    symlink(&folder, other.join("queue")).unwrap();
    take_over(&other, DirectoryKind::Queue, &owner);
    assert_eq!((owners(&folder), owners(&folder.join("passwd"))), (ROOT, ROOT));
}

#[test]
fn directories_of_others_stay_theirs() {
    let Some(owner) = owner() else { return };
    let dir = tempfile::tempdir().unwrap();
    let spool = queue(dir.path());
    fs::write(spool.join("photo.jpg"), "").unwrap();
    let advice = take_over(&spool, DirectoryKind::Queue, &owner);
    assert!(advice.len() == 1 && advice[0].contains("photo.jpg"), "{advice:?}");
    assert_eq!((owners(&spool), owners(&spool.join("photo.jpg"))), (ROOT, ROOT));
    assert_eq!((owners(&spool.join("queue")), owners(&spool.join("lock"))), (OURS, OURS));
    // A directory of secrets has no subdirectories, so this is /etc or the like.
    let advice = take_over(&spool, DirectoryKind::Secrets, &owner);
    assert!(advice.len() == 1 && advice[0].contains("queue"), "{advice:?}");
    assert_eq!((owners(&spool), owners(&spool.join("photo.jpg"))), (ROOT, ROOT));
}

#[test]
fn secrets_are_for_the_user_alone() {
    let Some(owner) = owner() else { return };
    let dir = tempfile::tempdir().unwrap();
    let secrets = dir.path().join("secrets");
    make_secrets(&secrets).unwrap();
    make_secrets(&secrets).unwrap();
    fs::write(secrets.join("m365.token"), "").unwrap();
    fs::set_permissions(&secrets, PermissionsExt::from_mode(0o755)).unwrap();
    assert_eq!(take_over(&secrets, DirectoryKind::Secrets, &owner), Vec::<String>::new());
    assert_eq!((owners(&secrets), owners(&secrets.join("m365.token"))), (OURS, OURS));
    assert_eq!(fs::metadata(&secrets).unwrap().mode() & 0o777, 0o700);
    let missing = take_over(&dir.path().join("none"), DirectoryKind::Secrets, &owner);
    assert!(missing[0].contains("cannot change the owner"), "{missing:?}");
}
