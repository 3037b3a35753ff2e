// SPDX-License-Identifier: Apache-2.0
//! `smtprelay jail-mounts`, for the init script: the paths that a jail (ujail) for the gateway must contain, or why
//! there is none.
//!
//! A jail shows its program a few paths, as they are when it starts: if a file is replaced later, the jail still shows
//! the old one. What may be replaced while the gateway runs is therefore mounted with its directory. And there is no
//! jail where it would break features: hook scripts that may do anything on the router, a removable drive, name
//! resolution for providers.

use std::fs;
use std::io;
use std::net::IpAddr;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use smtprelay::config::Settings;
use smtprelay::config::files;
use smtprelay::report::hook::DEFAULT_PROGRAM;

use super::{complain, print};

/// Where hotplug-call finds the scripts for the gateway.
const SCRIPTS: &str = "/etc/hotplug.d/smtprelay";
/// The name servers: on OpenWrt a link to what dnsmasq writes, or netifd where there is no dnsmasq.
const NAME_SERVERS: &str = "/etc/resolv.conf";
/// Read by any gateway, where it exists: names, users, certificate authorities, leases of devices, ubus (the directory,
/// since ubusd creates a new socket when it restarts).
const ALWAYS: [&str; 8] = [
    "/etc/hosts",
    "/etc/passwd",
    "/etc/group",
    "/etc/ssl",
    "/tmp/dhcp.leases",
    "/tmp/hosts",
    "/tmp/odhcpd.leases",
    "/var/run/ubus",
];

/// Directories among them that the gateway cannot do without, in addition to its own: if one is not the same as when
/// the jail was created, a new jail is worth a restart. A replaced file is not: a reload should not interrupt anything.
const LASTING: [&str; 2] = ["/etc/ssl", "/var/run/ubus"];

/// Prints one line per path, `rw PATH` or `ro PATH`, and `shown IDENTITY`, which changes if a reload has to create a
/// new jail. Exit code 1, and the reason, if there is to be no jail.
pub fn mounts(file: &Path, settings: &Settings) -> ExitCode {
    let system = System { root: Path::new("/"), scripts: Path::new(SCRIPTS), name_servers: Path::new(NAME_SERVERS) };
    match paths(file, settings, &system) {
        Ok(lines) => {
            let mut text: String = lines.iter().map(|(access, path)| format!("{access} {path}\n")).collect();
            text.push_str(&format!("shown {}\n", shown(&lines)));
            print(&text)
        }
        Err(reason) => {
            complain(&format!("smtprelay: running without a jail: {reason}"));
            ExitCode::FAILURE
        }
    }
}

/// The identity of the lasting directories, whatever they contain: device and inode number of each.
fn shown(mounts: &Mounts) -> String {
    let lasting = mounts.iter().filter(|(access, path)| *access == "rw" || LASTING.contains(&path.as_str()));
    let numbers = lasting.filter_map(|(_, path)| {
        let found = fs::metadata(path).ok()?;
        Some(format!("{:x}:{:x}", found.dev(), found.ino()))
    });
    numbers.collect::<Vec<_>>().join(",")
}

type Mounts = Vec<(&'static str, String)>;

/// Locations on a router; tests use their own.
struct System<'a> {
    root: &'a Path,
    scripts: &'a Path,
    name_servers: &'a Path,
}

/// Whether this file may be replaced by one with other name servers while the gateway runs. Not if it lists only the
/// router itself (dnsmasq), nor if it is not a symbolic link: then it is the administrator's own.
fn name_servers_change(file: &Path) -> bool {
    if fs::symlink_metadata(file).is_ok_and(|found| found.is_file()) {
        return false;
    }
    let text = fs::read_to_string(file).unwrap_or_default();
    let servers = || text.lines().filter_map(|line| line.trim().strip_prefix("nameserver"));
    let is_own = |server: &str| server.trim().parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
    servers().next().is_none() || !servers().all(is_own)
}

/// Creates a directory for the gateway alone. Its parents are accessible to all users, as with mkdir.
fn make(directory: &Path) -> io::Result<()> {
    if let Some(above) = directory.parent() {
        fs::create_dir_all(above)?;
    }
    match fs::DirBuilder::new().mode(0o711).create(directory) {
        Err(_) if directory.is_dir() => Ok(()),
        made => made,
    }
}

fn paths(file: &Path, settings: &Settings, system: &System<'_>) -> Result<Mounts, String> {
    let System { root, scripts, name_servers } = *system;
    let relay = &settings.relay;
    if !relay.jail {
        return Err("option jail is 0".into());
    }
    if let Some(program) = &relay.hook {
        let is_default = program == Path::new(DEFAULT_PROGRAM);
        if is_default && fs::read_dir(scripts).is_ok_and(|mut scripts| scripts.next().is_some()) {
            return Err(format!("the scripts in {} may need access to the whole router", scripts.display()));
        }
        if !is_default {
            return Err(format!("the hook {} may need access to the whole router", program.display()));
        }
    }
    if let Some(safe) = &relay.safe_spool {
        let device = |path: &Path| fs::metadata(path).map(|found| found.dev()).ok();
        let place = safe.ancestors().find_map(device);
        if place != device(root) {
            return Err(format!("{} is on a separate drive, which may be removed and reconnected", safe.display()));
        }
    }
    if name_servers_change(name_servers) {
        return Err(format!("the name servers in {} may change", name_servers.display()));
    }
    let mut all = Vec::new();
    for directory in relay.safe_spool.iter().chain([&relay.spool, &relay.secrets]) {
        // A path that does not exist cannot be mounted. Ownership is set at the start.
        make(directory).map_err(|error| format!("cannot create {}: {error}", directory.display()))?;
        all.push(("rw", directory.clone()));
    }
    let mut files: Vec<PathBuf> = ALWAYS.iter().map(PathBuf::from).collect();
    files.push(file.into());
    files.extend(files::named(settings));
    all.extend(files.into_iter().filter(|path| path.exists()).map(|path| ("ro", path)));
    let word = |(access, path): (&'static str, PathBuf)| {
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'/' | b'.' | b'_' | b'-' | b'+' | b'@');
        match path.to_str().filter(|text| text.bytes().all(plain)) {
            Some(text) => Ok((access, text.to_string())),
            None => Err(format!("'{}' contains characters that a jail does not support", path.display())),
        }
    };
    all.into_iter().map(word).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use smtprelay::config;

    struct Place(tempfile::TempDir);

    impl Place {
        fn new() -> Self {
            let place = Self(tempfile::tempdir().unwrap());
            std::os::unix::fs::symlink("resolv.now", place.path("resolv.conf")).unwrap();
            fs::write(place.path("resolv.now"), "search lan\nnameserver 127.0.0.1\nnameserver ::1\n").unwrap();
            place
        }

        fn path(&self, name: &str) -> String {
            self.0.path().join(name).to_str().unwrap().to_string()
        }

        fn paths(&self, options: &str) -> Result<Mounts, String> {
            let text = format!(
                "config relay 'main'\n\toption spool '{}'\n\toption secrets '{}'\n{options}\n\
                 config listener 'lan'\n\tlist address '::1'\n\
                 config account 'a'\n\toption host 'h'\n\toption from 'a@b.c'\n\toption ca_file '{}'\n",
                self.path("spool"),
                self.path("secrets"),
                self.path("ca.pem"),
            );
            let file = self.path("settings");
            fs::write(&file, &text).unwrap();
            let settings = config::parse(Path::new(&file), text.as_bytes()).unwrap().settings;
            let at = |name| self.0.path().join(name);
            let (scripts, name_servers) = (at("scripts"), at("resolv.conf"));
            paths(
                Path::new(&file),
                &settings,
                &System { root: &at("."), scripts: &scripts, name_servers: &name_servers },
            )
        }
    }

    #[test]
    fn a_jail_holds_the_directories_and_the_files_that_are_named() {
        let place = Place::new();
        fs::write(place.path("ca.pem"), "").unwrap();
        let mounts = place.paths(&format!("\toption safe_spool '{}'", place.path("safe/mail"))).unwrap();
        for (access, name) in
            [("rw", "safe/mail"), ("rw", "spool"), ("rw", "secrets"), ("ro", "settings"), ("ro", "ca.pem")]
        {
            assert!(mounts.contains(&(access, place.path(name))), "{name} {mounts:?}");
        }
        assert!(mounts.iter().all(|(_, path)| Path::new(path).exists()), "{mounts:?}");
        let mode = |name| fs::metadata(place.path(name)).unwrap().mode() & 0o005;
        assert_eq!((mode("safe"), mode("safe/mail")), (0o005, 0o001), "what lies above is for all (umask 022)");
    }

    #[test]
    fn a_directory_that_was_recreated_is_another_one() {
        let place = Place::new();
        let before = shown(&place.paths("").unwrap());
        fs::write(place.path("secrets/key"), "what is in it does not count").unwrap();
        fs::write(place.path("settings"), "").unwrap();
        assert_eq!(shown(&place.paths("").unwrap()), before);
        // Not removed: its inode number could be reused for the new one.
        fs::rename(place.path("secrets"), place.path("old")).unwrap();
        assert_ne!(shown(&place.paths("").unwrap()), before);
    }

    #[test]
    fn what_a_jail_would_break_goes_without_one() {
        let place = Place::new();
        let refused = |options: &str| place.paths(options).unwrap_err();
        assert_eq!(refused("\toption jail '0'"), "option jail is 0");
        assert!(refused("\toption hook '/usr/bin/alarm'").contains("/usr/bin/alarm"));
        assert!(refused("\toption safe_spool '/proc/mail'").contains("separate drive"));
        assert!(refused(&format!("\toption safe_spool '{}'", place.path("my mail"))).contains("characters"));
        assert!(place.paths("").is_ok());
        fs::create_dir(place.path("scripts")).unwrap();
        assert!(place.paths("").is_ok());
        fs::write(place.path("scripts/10-led"), "").unwrap();
        assert!(refused("").contains("scripts"));
        assert!(place.paths("\toption hook 'none'").is_ok());
    }

    #[test]
    fn there_is_no_jail_where_the_name_servers_may_be_replaced() {
        let place = Place::new();
        assert!(place.paths("").is_ok(), "dnsmasq of the router itself");
        for text in ["nameserver 192.0.2.53\n", "nameserver 127.0.0.1\nnameserver 192.0.2.53\n", "", "# nothing\n"] {
            fs::write(place.path("resolv.now"), text).unwrap();
            assert!(place.paths("").unwrap_err().contains("name servers"), "{text:?}");
        }
        fs::remove_file(place.path("resolv.now")).unwrap();
        assert!(place.paths("").unwrap_err().contains("name servers"), "not there yet");
        fs::remove_file(place.path("resolv.conf")).unwrap();
        fs::write(place.path("resolv.conf"), "nameserver 192.0.2.53\n").unwrap();
        assert!(place.paths("").is_ok(), "a file of the owner");
    }
}
