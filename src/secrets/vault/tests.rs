// SPDX-License-Identifier: Apache-2.0

use std::os::unix::fs::{PermissionsExt, symlink};

use proptest::prelude::*;

use super::*;
use crate::secrets::Secret;
use crate::secrets::password::PasswordFile;

fn vault() -> (tempfile::TempDir, Vault) {
    let dir = tempfile::tempdir().unwrap();
    let vault = Vault::new(&dir.path().join("secrets"));
    vault.write(&vault.lock().unwrap(), "a", b"hunter2").unwrap();
    (dir, vault)
}

fn trouble(vault: &Vault) -> String {
    vault.read("a", 100).unwrap_err().to_string()
}

#[test]
fn a_text_is_kept_sealed_and_its_key_is_made_once() {
    let (_dir, vault) = vault();
    let key = fs::read(vault.path("key")).unwrap();
    vault.write(&vault.lock().unwrap(), "b", b"other").unwrap();
    assert_eq!(fs::read(vault.path("key")).unwrap(), key);
    assert!(matches!(vault.read("a", 7).unwrap(), Some(Content::Sealed(text)) if *text == b"hunter2"));
    assert!(vault.read("a", 6).is_err());
    assert!(vault.read("c", 7).unwrap().is_none() && !vault.has("c") && vault.has("a"));
    assert!(!fs::read(vault.path("a")).unwrap().windows(7).any(|part| part == b"hunter2"));
    assert!(!vault.is_exposed("a"));
}

#[test]
fn what_was_not_sealed_is_told_apart() {
    let (_dir, vault) = vault();
    fs::write(vault.path("a"), "{}").unwrap();
    assert!(matches!(vault.read("a", 100).unwrap(), Some(Content::Plain(text)) if *text == b"{}"));
}

#[test]
fn damage_is_told_with_the_file() {
    let (_dir, vault) = vault();
    let whole = fs::read(vault.path("a")).unwrap();
    for part in [&whole[..whole.len() - 1], &whole[..9]] {
        fs::write(vault.path("a"), part).unwrap();
        assert_eq!(trouble(&vault), BROKEN);
    }
    fs::write(vault.path("a"), whole).unwrap();
    for (key, said) in [(&b"short"[..], "key is damaged; restore it"), (&[1; 33], "more than 32 bytes")] {
        fs::write(vault.path("key"), key).unwrap();
        assert!(trouble(&vault).contains(said), "{}", trouble(&vault));
        // Nothing is encrypted with an invalid key, and the key is not replaced without being asked.
        assert!(vault.write(&vault.lock().unwrap(), "b", b"x").is_err() && !vault.has("b"));
    }
    fs::write(vault.path("key"), [1; 32]).unwrap();
    assert_eq!(trouble(&vault), BROKEN);
    fs::remove_file(vault.path("key")).unwrap();
    assert!(trouble(&vault).contains("key is missing"), "{}", trouble(&vault));
    vault.write(&vault.lock().unwrap(), "a", b"again").unwrap();
    assert!(matches!(vault.read("a", 100).unwrap(), Some(Content::Sealed(text)) if *text == b"again"));
}

const STEPS: [WriteStep; 7] = [
    WriteStep::Create,
    WriteStep::Write,
    WriteStep::Publish(publish::PublishStep::SyncTable),
    WriteStep::Publish(publish::PublishStep::SyncFile),
    WriteStep::Publish(publish::PublishStep::Rename),
    WriteStep::Publish(publish::PublishStep::SyncNamed),
    WriteStep::Publish(publish::PublishStep::SyncDirectory),
];

fn empty() -> (tempfile::TempDir, Vault) {
    let dir = tempfile::tempdir().unwrap();
    let directory = Vault::new(&dir.path().join("secrets"));
    (dir, directory)
}

fn write(directory: &Vault, bytes: &[u8], cut: Option<WriteStep>) -> io::Result<()> {
    let lock = directory.lock()?;
    directory.write_file(&lock, "a", bytes, &mut |step| match Some(step) == cut {
        true => Err(io::Error::other("power cut")),
        false => Ok(()),
    })
}

fn read(directory: &Vault) -> Option<Vec<u8>> {
    directory.read_file("a", 100).unwrap().map(|bytes| bytes.to_vec())
}

#[test]
fn whatever_step_is_the_last_one_the_old_or_the_new_file_is_whole() {
    for cut in STEPS {
        let (_dir, directory) = empty();
        write(&directory, b"old", None).unwrap();
        assert!(write(&directory, b"newer", Some(cut)).is_err());
        let renamed = matches!(cut, WriteStep::Publish(step) if !matches!(step, publish::PublishStep::SyncTable | publish::PublishStep::SyncFile));
        let expected: &[u8] = if renamed { b"newer" } else { b"old" };
        assert_eq!(read(&directory).unwrap(), expected, "{cut:?}");
        // The next write is not hindered by leftovers.
        write(&directory, b"newest", None).unwrap();
        assert_eq!(read(&directory).unwrap(), b"newest");
        assert_eq!(fs::read_dir(&directory.0).unwrap().count(), 1, "{cut:?}");
    }
}

#[test]
fn the_text_is_synced_before_it_gets_its_name() {
    let (_dir, directory) = empty();
    let lock = directory.lock().unwrap();
    let mut steps = Vec::new();
    let mut after = |step| {
        steps.push(step);
        Ok(())
    };
    directory.write_file(&lock, "a", b"x", &mut after).unwrap();
    assert_eq!(steps, STEPS);
}

#[test]
fn files_are_for_their_owner_only() {
    let (_dir, directory) = empty();
    write(&directory, b"x", None).unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&directory.path("a")), mode(&directory.0)), (0o600, 0o700));
    assert!(!directory.is_exposed("a") && !directory.is_exposed("b"));
    fs::set_permissions(directory.path("a"), fs::Permissions::from_mode(0o640)).unwrap();
    assert!(directory.is_exposed("a"));
}

#[test]
fn root_writes_for_the_owner_of_the_directory() {
    if !nix::unistd::geteuid().is_root() {
        return println!("skipped: only root can give files away");
    }
    let (_dir, directory) = empty();
    drop(directory.lock().unwrap());
    std::os::unix::fs::chown(&directory.0, Some(65534), Some(65534)).unwrap();
    write(&directory, b"x", None).unwrap();
    let data = fs::metadata(directory.path("a")).unwrap();
    assert_eq!((data.uid(), data.gid()), (65534, 65534));
}

#[test]
fn odd_things_in_the_place_of_a_file_are_told() {
    let (dir, directory) = empty();
    assert_eq!(read(&directory), None);
    write(&directory, &[b'x'; 100], None).unwrap();
    assert_eq!(read(&directory).unwrap().len(), 100);
    assert!(directory.read_file("a", 99).unwrap_err().to_string().contains("more than 99 bytes"));
    let other = dir.path().join("other");
    fs::write(&other, "secret of another user").unwrap();
    symlink(&other, directory.path("link")).unwrap();
    assert!(directory.read_file("link", 100).is_err());
    nix::unistd::mkfifo(&directory.path("pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    assert_eq!(directory.read_file("pipe", 100).unwrap().unwrap().len(), 0);
    fs::create_dir(directory.path("folder")).unwrap();
    assert!(directory.read_file("folder", 100).is_err());
    // A symbolic link in place of the temporary file is replaced, not followed.
    symlink(&other, directory.path("a.new")).unwrap();
    write(&directory, b"x", None).unwrap();
    assert_eq!(fs::read(&other).unwrap(), b"secret of another user");
}

#[test]
fn what_is_removed_is_gone() {
    let (_dir, directory) = empty();
    write(&directory, b"x", None).unwrap();
    let lock = directory.lock().unwrap();
    assert!(directory.remove(&lock, "a").unwrap() && !directory.remove(&lock, "a").unwrap());
    assert_eq!(read(&directory), None);
}

fn key() -> Key {
    Key::of(&[7; KEY]).unwrap()
}

fn open(key: &Key, name: &str, sealed: &[u8]) -> Option<Vec<u8>> {
    key.open(name, Zeroizing::new(sealed.to_vec())).map(|text| text.to_vec())
}

#[test]
fn the_format_stays() {
    // Encrypted by another implementation (Python's cryptography) with the key 07…07 and the nonce 00 01 … 0b.
    let sealed = FROM_ELSEWHERE;
    let bytes: Vec<u8> =
        (0..sealed.len()).step_by(2).map(|at| u8::from_str_radix(&sealed[at..at + 2], 16).unwrap()).collect();
    assert_eq!(open(&key(), "gmail.password", &bytes).unwrap(), b"hunter2");
}

const FROM_ELSEWHERE: &str = "534d5450524c5331000102030405060708090a0b44009f5709e99dcd2c6cd704402070428433d893734a10";

#[test]
fn a_file_cannot_take_the_place_of_another() {
    let sealed = key().seal("gmail.password", b"hunter2").unwrap();
    assert!(is_sealed(&sealed) && sealed.len() == OVERHEAD + 7);
    assert_eq!(open(&key(), "gmail.password", &sealed).unwrap(), b"hunter2");
    assert_eq!(open(&key(), "gmx.password", &sealed), None);
    assert_eq!(open(&Key::of(&[8; KEY]).unwrap(), "gmail.password", &sealed), None);
    // Never the same twice.
    assert_ne!(key().seal("gmail.password", b"hunter2").unwrap(), sealed);
    assert_ne!(*Key::make().unwrap(), *Key::make().unwrap());
    assert!(Key::of(&[7; KEY - 1]).is_none());
}

proptest! {
    #[test]
    fn what_is_sealed_is_opened_and_nothing_else(text: Vec<u8>, name: String, at: usize, bit in 0..8u8, cut: usize) {
        let sealed = key().seal(&name, &text).unwrap();
        prop_assert_eq!(open(&key(), &name, &sealed), Some(text));
        let mut changed = sealed.clone();
        changed[at % sealed.len()] ^= 1 << bit;
        prop_assert_eq!(open(&key(), &name, &changed), None);
        prop_assert_eq!(open(&key(), &name, &sealed[..cut % sealed.len()]), None);
        let longer = [sealed.as_slice(), b"x"].concat();
        prop_assert_eq!(open(&key(), &name, &longer), None);
    }

    #[test]
    fn whatever_is_there_can_be_looked_at(bytes: Vec<u8>) {
        prop_assert_eq!(open(&key(), "x", &bytes), None);
        prop_assert_eq!(open(&key(), "x", &[MAGIC.as_slice(), &bytes].concat()), None);
    }
}

#[test]
fn what_nobody_uses_is_found_and_removed() {
    let dir = tempfile::tempdir().unwrap();
    let secrets = dir.path().join("secrets");
    assert_eq!(find_left(&secrets, &[], None), []);
    for name in ["old", "kept"] {
        PasswordFile::of(&secrets, name).unwrap().save(&Secret::new("p".into())).unwrap();
    }
    fs::write(secrets.join("gone.token"), "{}").unwrap();
    fs::write(secrets.join("notes.txt"), "").unwrap();
    let found = find_left(&secrets, &["kept"], Some("new"));
    let names: Vec<&str> = found.iter().map(|left| left.account.as_str()).collect();
    assert_eq!(names, ["gone", "old"]);
    assert!(found[0].text.starts_with("an OAuth login is stored for account 'gone'"), "{found:?}");
    for part in ["a password is stored for account 'old'", "smtprelay password new;", "smtprelay password old --delete"]
    {
        assert!(found[1].text.contains(part), "{found:?}");
    }
    assert!(found.iter().all(Left::is_there));
    assert_eq!(
        (remove_left(&secrets, "old"), remove_left(&secrets, "old"), remove_left(&secrets, "gone")),
        (Ok(true), Ok(false), Ok(true))
    );
    assert!(!found.iter().any(Left::is_there));
    assert_eq!(find_left(&secrets, &["kept"], None), []);
    assert!(remove_left(&secrets, "../x").is_err());
}
