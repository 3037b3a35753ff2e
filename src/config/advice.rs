// SPDX-License-Identifier: Apache-2.0
//! Advice about this host, as far as the settings depend on it: whether files with secrets can be read by other users,
//! whether the gateway's user can write where it has to on drives whose file system has no owners, and whether
//! OpenWrt's firewall lets outsiders reach a listener.

use std::fs::{self, File, Metadata};
use std::io::Read;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::reader::flag;
use super::uci::{self, Package, Section};
use super::{Durability, Listener, Relay, Settings, TlsMode};
use crate::system::ownership::{self, DirectoryKind};
use crate::system::{memory, privileges, publish};

/// Files checked in the directory of secrets.
const SECRETS: usize = 256;

/// Advice for the administrator: one line for each file that others can read, for each drive that is mounted unsuitably, and
/// for a queue whose two directories are one, with the remedy. Reads the file system.
pub fn exposed(file: &Path, settings: &Settings) -> Vec<String> {
    let in_accounts = settings.accounts.iter().any(|account| {
        !account.password.is_empty() || account.oauth.as_ref().is_some_and(|oauth| !oauth.client_secret.is_empty())
    });
    let mut found = Vec::new();
    if in_accounts || settings.users.iter().any(|user| !user.password.is_empty()) {
        found.extend(open_to_others(file, "contains passwords"));
    }
    for listener in settings.listeners.iter().filter(|listener| listener.tls != TlsMode::None) {
        found.extend(listener.key.iter().filter_map(|key| open_to_others(key, "is a private key")));
    }
    found.extend(drives(&settings.relay).into_iter().map(|drive| drive.text));
    found.extend(one_directory(&settings.relay));
    if memory::without_owners(&settings.relay.secrets).is_some() {
        // chmod would not help.
        return found;
    }
    let entries = fs::read_dir(&settings.relay.secrets).into_iter().flatten().take(SECRETS);
    found.extend(entries.flatten().filter_map(|entry| open_to_others(&entry.path(), "is a secret")));
    found
}

/// Whether `spool` and `safe_spool` are one directory under two names. The queue has one place then. Reads the file system.
fn one_directory(relay: &Relay) -> Option<String> {
    let safe = relay.safe_spool.as_ref()?;
    memory::is_one_place(&relay.spool, safe).then(|| {
        format!(
            "options spool '{}' and safe_spool '{}' name the same directory: no mail is moved, so a power cut or a reboot loses all \
             that is queued there if that is RAM; set safe_spool to a directory on flash or USB",
            relay.spool.display(),
            safe.display()
        )
    })
}

/// Why a gateway with these settings would not start. Reads the file system.
pub fn hindrances(relay: &Relay) -> Vec<String> {
    if !relay.enabled {
        // Then a start does nothing: settings may be written before their directories exist, or on another machine.
        return Vec::new();
    }
    let queues = relay.safe_spool.iter().map(|path| ("safe_spool", path)).chain([("spool", &relay.spool)]);
    let directories = queues.filter_map(|(option, path)| {
        let what = memory::obstacle(&path.join("queue"))?;
        Some(format!("option {option} '{}' cannot be used: {what}", path.display()))
    });
    privileges::identity(&relay.user).err().into_iter().chain(directories).collect()
}

/// Directories that the gateway cannot use as it should, though it starts. Reads the file system.
pub fn directories(relay: &Relay) -> Vec<String> {
    let mut found = Vec::new();
    let queues: Vec<&Path> = relay.safe_spool.iter().chain([&relay.spool]).map(PathBuf::as_path).collect();
    if let Ok(Some(identity)) = privileges::identity(&relay.user) {
        let mixed = |path: &&Path| ownership::keeps_owner(path, DirectoryKind::Queue, &identity, &[]);
        found.extend(queues.iter().filter_map(mixed));
    }
    found.extend(secrets(relay));
    found
}

/// A note if the directory whose mail has to survive a power cut is on a file system that cannot promise that: ext4 without
/// a journal, or exFAT (`docs/developer/spool.md`). Reads the file system.
pub fn unsound(relay: &Relay) -> Option<String> {
    let is_exfat = |path: &Path| memory::without_owners(path).is_some_and(|(system, _)| system == "exfat");
    unsound_by(relay, publish::lacks_journal, is_exfat)
}

fn unsound_by(
    relay: &Relay,
    lacks_journal: impl Fn(&Path) -> bool,
    is_exfat: impl Fn(&Path) -> bool,
) -> Option<String> {
    let accepts = Some(("spool", &relay.spool)).filter(|_| relay.durability == Durability::Always);
    let (option, path) = relay.safe_spool.as_ref().map(|path| ("safe_spool", path)).or(accepts)?;
    let there = path.ancestors().find(|path| path.is_dir()).filter(|_| relay.durability != Durability::Memory)?;
    let what = if lacks_journal(there) {
        "is on ext2, or on ext4 without a journal: each message takes longer there, and a power cut can still make accepted mail \
         unreadable until e2fsck is run; add a journal while it is not mounted (tune2fs -O has_journal), or name a directory on \
         another file system"
    } else if is_exfat(there) {
        "is on exfat: a power cut can damage it, and mail that is accepted after that can be lost when it is repaired; name a \
         directory on ext4 with a journal, or on F2FS"
    } else {
        return None;
    };
    Some(format!("option {option} '{}' {what}", path.display()))
}

/// Why the gateway cannot use the secrets that are stored, if that is so. Reads the file system.
pub fn secrets(relay: &Relay) -> Option<String> {
    let path = &relay.secrets;
    let cannot = || Some(format!("option secrets '{}' cannot be used: {}", path.display(), memory::obstacle(path)?));
    let mixed = || {
        let inside: Vec<&Path> = relay.safe_spool.iter().chain([&relay.spool]).map(PathBuf::as_path).collect();
        ownership::keeps_owner(path, DirectoryKind::Secrets, &privileges::identity(&relay.user).ok()??, &inside)
    };
    cannot().or_else(mixed)
}

/// A directory on a drive whose file system has no owners, mounted with unsuitable options.
pub struct Drive {
    /// What is wrong, and the remedy.
    pub text: String,
    /// Whether no mail can be accepted because of it.
    pub refuses: bool,
}

/// The directories of the gateway that are mounted with unsuitable options. Reads the file system.
pub fn drives(relay: &Relay) -> Vec<Drive> {
    drives_by(relay, memory::without_owners)
}

/// `kind` returns the file system of a directory.
fn drives_by(relay: &Relay, kind: impl Fn(&Path) -> Option<(&'static str, Metadata)>) -> Vec<Drive> {
    // What cannot be determined now is reported when the gateway starts.
    let identity = privileges::identity(&relay.user).ok().flatten();
    let (uid, gid) = match &identity {
        Some(identity) => (identity.uid.as_raw(), identity.gid.as_raw()),
        None => (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw()),
    };
    let always = relay.durability == Durability::Always;
    let accepts_safely = always && relay.safe_spool.is_some();
    let safe = relay.safe_spool.as_deref().map(|path| ("safe_spool", path, accepts_safely));
    let spool = ("spool", relay.spool.as_path(), !accepts_safely);
    let secrets = ("secrets", relay.secrets.as_path(), false);
    let mut found = Vec::new();
    for (option, path, accepts) in safe.into_iter().chain([spool, secrets]) {
        let Some((system, there)) = kind(path) else { continue };
        let (writes, mode) = (memory::may_write(&there, uid, gid), there.mode() & 0o777);
        let what = match (writes, option) {
            (false, "secrets") => "no password or token can be stored",
            (false, _) if accepts => "no mail can be accepted, every message is answered with 451",
            (false, "safe_spool") => "no mail can be moved there, and queued mail is lost in a power cut",
            (false, _) => "the gateway cannot use it",
            (true, "secrets") if mode & 0o044 != 0 => "other users can read the passwords and their key",
            (true, _) if mode & 0o044 != 0 => "other users can read the mail",
            _ => continue,
        };
        let text = format!(
            "option {option} '{}' is on {system}, which stores no owners and modes: it belongs to user {} with mode {mode:o} \
             as it is mounted, so {what}; mount it with the options uid={uid},gid={gid},umask=077, or name a directory on \
             another file system",
            path.display(),
            there.uid(),
        );
        found.push(Drive { text, refuses: !writes && accepts });
    }
    found
}

fn open_to_others(path: &Path, what: &str) -> Option<String> {
    let file = fs::symlink_metadata(path).ok().filter(fs::Metadata::is_file)?;
    let mode = file.permissions().mode() & 0o777;
    (mode & 0o044 != 0).then(|| {
        let path = path.display();
        format!("{path} {what} and can be read by other users (mode {mode:o}): run chmod 600 {path}")
    })
}

/// The configuration file of the firewall.
const FIREWALL: &str = "/etc/config/firewall";

/// Reads the firewall configuration. Blocks, and may need root. `None` without a readable file.
fn read_firewall(file: &Path) -> Option<Package> {
    let mut bytes = Vec::new();
    let limit = u64::try_from(uci::MAX_FILE).unwrap_or(u64::MAX).saturating_add(1);
    File::open(file).ok()?.take(limit).read_to_end(&mut bytes).ok()?;
    uci::parse(&bytes).ok()
}

/// Reads the firewall configuration of this router, if permitted. Blocks.
pub fn reachable(settings: &Settings) -> Vec<String> {
    read_firewall(Path::new(FIREWALL)).map(|firewall| notes(&firewall, settings)).unwrap_or_default()
}

/// Advice for the administrator: a note for each listener that is reachable from outside.
fn notes(firewall: &Package, settings: &Settings) -> Vec<String> {
    let note = |listener: &Listener| Some(format!("listener '{}': {}", listener.name, note(firewall, listener)?));
    settings.listeners.iter().filter_map(note).collect()
}

/// Advice about this listener: one of its networks is in an upstream firewall zone (its
/// name is `wan`, or it masquerades) that accepts input. `None` if the firewall is fine.
fn note(firewall: &Package, listener: &Listener) -> Option<String> {
    let everywhere = listener.addresses.iter().any(std::net::IpAddr::is_unspecified);
    let listens = |network: &String| everywhere || listener.interfaces.contains(network);
    let open = firewall.of_kind("zone").filter(|zone| is_open(firewall, zone));
    let (zone, network) =
        open.filter_map(|zone| Some((text(zone, "name"), networks(zone).into_iter().find(listens)?))).next()?;
    Some(format!(
        "network {network} is in firewall zone {zone}, which accepts connections from outside: outsiders can reach \
         port {}. Set option input of that zone to REJECT, or use another network",
        listener.port
    ))
}

fn text(section: &Section, option: &str) -> String {
    section.get(option).map(|option| option.value.text().into_owned()).unwrap_or_default()
}

/// A list may also be written as one option separated by spaces.
fn networks(zone: &Section) -> Vec<String> {
    let values = ["network", "device"].map(|option| text(zone, option));
    values.iter().flat_map(|value| value.split_whitespace()).map(str::to_string).collect()
}

fn is_open(firewall: &Package, zone: &Section) -> bool {
    let off = flag(&text(zone, "enabled")) == Some(false);
    let outwards = text(zone, "name") == "wan" || flag(&text(zone, "masq")) == Some(true);
    let input = Some(text(zone, "input")).filter(|input| !input.is_empty());
    let defaults = || firewall.of_kind("defaults").next().map(|section| text(section, "input")).unwrap_or_default();
    outwards && !off && input.unwrap_or_else(defaults).eq_ignore_ascii_case("accept")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::load;

    #[test]
    fn a_drive_without_owners_is_named_with_the_mount_options() {
        let dir = tempfile::tempdir().unwrap();
        let relay = |durability: &str| {
            let text = format!(
                "config relay\n option user 'root'\n option secrets '{0}/s'\n option spool '{0}/a'\n \
                 option safe_spool '{0}/b'\n option durability '{durability}'\n",
                dir.path().display()
            );
            load::settings(&uci::parse(text.as_bytes()).unwrap()).0.relay
        };
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let vfat = |path: &Path| path.ends_with("b").then(|| ("vfat", fs::metadata(dir.path()).unwrap()));
        let here = || drives_by(&relay("always"), vfat);
        let said = here();
        assert_eq!(said.len(), 1);
        assert!(
            said[0].text.contains("other users can read the mail; mount it with the options uid="),
            "{}",
            said[0].text
        );
        assert!(!said[0].refuses);
        // Owned by another user, as on a drive mounted by root. A mode only restricts users other than root.
        let foreign = |path: &Path| path.ends_with("b").then(|| ("vfat", fs::metadata("/").unwrap()));
        for (durability, refuses, what) in
            [("always", true, "every message is answered with 451"), ("deferred", false, "lost in a power cut")]
        {
            let Ok(Some(_)) = privileges::identity("nobody") else { break };
            let relay = Relay { user: "nobody".into(), ..relay(durability) };
            let said = drives_by(&relay, foreign);
            assert_eq!((said.len(), said[0].refuses), (1, refuses), "{}", said[0].text);
            assert!(said[0].text.contains(what) && said[0].text.contains("umask=077"), "{}", said[0].text);
        }
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o700)).unwrap();
        assert!(here().is_empty());
        let secrets = |path: &Path| path.ends_with("s").then(|| ("exfat", fs::metadata("/").unwrap()));
        let said = drives_by(&relay("deferred"), secrets);
        assert!(said[0].text.contains("other users can read the passwords and their key"), "{}", said[0].text);
    }

    #[test]
    fn a_file_system_that_cannot_keep_mail_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let relay = |durability: &str, safe: &str| {
            let text = format!(
                "config relay\n option spool '{0}/a'\n option durability '{durability}'\n{safe}",
                dir.path().display()
            );
            load::settings(&uci::parse(text.as_bytes()).unwrap()).0.relay
        };
        let safe = format!(" option safe_spool '{}/b'\n", dir.path().display());
        let (yes, no) = (|_: &Path| true, |_: &Path| false);
        // The directory itself is made later.
        for (durability, safe, named) in [
            ("always", "", Some("option spool '")),
            ("always", &safe, Some("option safe_spool '")),
            ("deferred", &safe, Some("option safe_spool '")),
            ("memory", &safe, None),
        ] {
            let relay = relay(durability, safe);
            for (found, words) in
                [(unsound_by(&relay, yes, no), "without a journal"), (unsound_by(&relay, no, yes), "is on exfat")]
            {
                let as_it_should = match (&found, named) {
                    (Some(text), Some(named)) => text.starts_with(named) && text.contains(words),
                    (found, named) => found.is_none() && named.is_none(),
                };
                assert!(as_it_should, "{durability}: {found:?}");
            }
            assert_eq!(unsound_by(&relay, no, no), None);
        }
    }

    #[test]
    fn one_directory_under_two_names_is_said() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        let relay = |spool: &str, safe: &str| {
            let text = format!(
                "config relay\n option spool '{0}/{spool}'\n option safe_spool '{0}/{safe}'\n",
                dir.path().display()
            );
            load::settings(&uci::parse(text.as_bytes()).unwrap()).0.relay
        };
        fs::create_dir(path("tmp")).unwrap();
        std::os::unix::fs::symlink(path("tmp"), path("var")).unwrap();
        // Neither of the two has to exist.
        for same in ["tmp/spool/mail", "tmp/../var/spool/mail"] {
            let text = one_directory(&relay("var/spool/mail", same)).unwrap();
            assert!(text.contains(same) && text.contains("name the same directory"), "{text}");
        }
        assert_eq!(one_directory(&relay("var/spool/mail", "tmp/spool/safe")), None);
        assert_eq!(one_directory(&relay("var/spool/mail", "other/spool/mail")), None);
    }

    #[test]
    fn files_that_others_can_read_are_named_with_the_remedy() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        let text = format!(
            "config relay\n option secrets '{0}/secrets'\nconfig listener 'l'\n list address '::1'\n option tls 'implicit'\n option certificate '{0}/c'\n option key '{0}/k'\n\
             config account 'a'\n option host 'h'\n option username 'me@example.com'\n option password 'p'\n",
            dir.path().display()
        );
        let settings = crate::config::parse(&path("settings"), text.as_bytes()).unwrap().settings;
        fs::create_dir(path("secrets")).unwrap();
        let files = ["settings", "c", "k", "secrets/a.token"];
        let mode = |name: &str, mode| fs::set_permissions(path(name), fs::Permissions::from_mode(mode)).unwrap();
        for name in files {
            fs::write(path(name), &text).unwrap();
            mode(name, 0o600);
        }
        assert_eq!(exposed(&path("settings"), &settings), Vec::<String>::new());
        files.iter().for_each(|name| mode(name, 0o640));
        let found = exposed(&path("settings"), &settings);
        assert_eq!(found.len(), 3, "{found:?}");
        for (line, name) in found.iter().zip(["settings", "k", "secrets/a.token"]) {
            assert!(line.ends_with(&format!("(mode 640): run chmod 600 {}", path(name).display())), "{line}");
        }
        // Without a password in them the settings may be readable.
        let text = text.replace(" option username 'me@example.com'\n option password 'p'\n", " option from 'a@b.c'\n");
        let settings = crate::config::parse(&path("settings"), text.as_bytes()).unwrap().settings;
        assert_eq!(exposed(&path("settings"), &settings).len(), 2);
    }

    fn noted(firewall: &str, listener: &str) -> Option<String> {
        let listener = uci::parse(format!("config listener 'l'\n{listener}").as_bytes()).unwrap();
        let (settings, _) = load::settings(&listener);
        note(&uci::parse(firewall.as_bytes()).unwrap(), &settings.listeners[0])
    }

    /// The default of OpenWrt, with the given input of wan.
    fn usual(input: &str) -> String {
        format!(
            "config defaults\n\toption input REJECT\nconfig zone\n\toption name lan\n\tlist network 'lan'\n\toption input \
             ACCEPT\nconfig zone\n\toption name wan\n\tlist network 'wan'\n\tlist network 'wan6'\n\t{input}\n\toption \
             masq 1\n"
        )
    }

    #[test]
    fn a_zone_that_accepts_from_outside_is_noted() {
        let open = usual("option input ACCEPT");
        assert_eq!(noted(&open, "list interface lan"), None);
        let note = noted(&open, "list interface lan\nlist interface wan6").unwrap();
        assert!(note.contains("network wan6") && note.contains("zone wan") && note.contains("port 25"), "{note}");
        assert!(noted(&open, "list address 0.0.0.0").is_some(), "everywhere is outside too");
        assert_eq!(noted(&open, "list address 192.168.1.1"), None);
    }

    #[test]
    fn a_closed_zone_is_fine_and_the_defaults_hold_where_a_zone_says_nothing() {
        assert_eq!(noted(&usual("option input REJECT"), "list interface wan"), None);
        assert_eq!(noted(&usual(""), "list interface wan"), None);
        let open = usual("").replace("option input REJECT", "option input ACCEPT");
        assert!(noted(&open, "list interface wan").is_some());
        assert_eq!(noted("", "list interface wan"), None);
    }

    #[test]
    fn a_zone_that_masquerades_looks_outwards_whatever_its_name() {
        let zone = |more: &str| {
            format!("config zone\n\toption name lte\n\toption network 'a wwan'\n\toption input accept\n{more}")
        };
        assert!(noted(&zone("\toption masq 1"), "list interface wwan").is_some());
        assert_eq!(noted(&zone(""), "list interface wwan"), None);
        assert_eq!(noted(&zone("\toption masq 1\n\toption enabled 0"), "list interface wwan"), None);
        assert!(
            noted(
                &zone("\toption masq 1").replace("option network 'a wwan'", "list device wwan0"),
                "list interface wwan0"
            )
            .is_some()
        );
    }

    #[test]
    fn a_file_that_is_not_there_or_no_uci_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("firewall");
        assert!(read_firewall(&file).is_none());
        std::fs::write(&file, "config zone\n\toption name 'wan").unwrap();
        assert!(read_firewall(&file).is_none());
        std::fs::write(&file, usual("")).unwrap();
        assert_eq!(read_firewall(&file).unwrap().of_kind("zone").count(), 2);
    }
}
