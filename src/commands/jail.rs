//! `smtprelay jail-mounts`, for the init script: what a jail (ujail) for the gateway has to hold, or why it gets none.
//!
//! A jail shows its program a few paths, as they are when it starts. So there is none where that would break what the
//! owner was promised: scripts that may do anything on the router, and a drive that comes and goes.

use std::fs;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use smtprelay::config::Settings;
use smtprelay::report::hook::DEFAULT_PROGRAM;
use smtprelay::system::carried;

use super::{complain, print};

/// Where hotplug-call finds the scripts for the gateway.
const SCRIPTS: &str = "/etc/hotplug.d/smtprelay";
/// What any gateway looks at, where it is there: names, users, certificate authorities, leases of devices.
const ALWAYS: [&str; 7] =
    ["/etc/hosts", "/etc/passwd", "/etc/group", "/etc/ssl", "/tmp/dhcp.leases", "/tmp/hosts", "/tmp/odhcpd.leases"];

/// Prints a line for each path, `rw PATH` or `ro PATH`. Exit code 1, and why, when there is to be no jail.
pub fn mounts(file: &Path, settings: &Settings) -> ExitCode {
    match paths(file, settings, Path::new("/"), Path::new(SCRIPTS)) {
        Ok(lines) => print(&lines.iter().map(|(access, path)| format!("{access} {path}\n")).collect::<String>()),
        Err(reason) => {
            complain(&format!("smtprelay: without a jail: {reason}"));
            ExitCode::FAILURE
        }
    }
}

type Mounts = Vec<(&'static str, String)>;

fn paths(file: &Path, settings: &Settings, root: &Path, scripts: &Path) -> Result<Mounts, String> {
    let relay = &settings.relay;
    if !relay.jail {
        return Err("option jail is 0".into());
    }
    if let Some(program) = &relay.hook {
        let is_default = program == Path::new(DEFAULT_PROGRAM);
        if is_default && fs::read_dir(scripts).is_ok_and(|mut scripts| scripts.next().is_some()) {
            return Err(format!("the scripts in {} may need all of the router", scripts.display()));
        }
        if !is_default {
            return Err(format!("the hook {} may need all of the router", program.display()));
        }
    }
    if let Some(safe) = &relay.safe_spool {
        let device = |path: &Path| fs::metadata(path).map(|found| found.dev()).ok();
        let place = safe.ancestors().find_map(device);
        if place != device(root) {
            return Err(format!("{} lies on a drive of its own, which may come and go", safe.display()));
        }
    }
    let mut all = Vec::new();
    for directory in relay.safe_spool.iter().chain([&relay.spool, &relay.secrets]) {
        // What is not there can't be shown. Whose it is, is seen to at the start.
        let made = fs::DirBuilder::new().recursive(true).mode(0o711).create(directory);
        made.map_err(|error| format!("can't make {}: {error}", directory.display()))?;
        all.push(("rw", directory.clone()));
    }
    let mut files: Vec<PathBuf> = ALWAYS.iter().map(PathBuf::from).collect();
    files.push(file.into());
    files.extend(carried::named(settings));
    all.extend(files.into_iter().filter(|path| path.exists()).map(|path| ("ro", path)));
    let word = |(access, path): (&'static str, PathBuf)| {
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'/' | b'.' | b'_' | b'-' | b'+' | b'@');
        match path.to_str().filter(|text| text.bytes().all(plain)) {
            Some(text) => Ok((access, text.to_string())),
            None => Err(format!("'{}' has characters in it that a jail can't take", path.display())),
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
            Self(tempfile::tempdir().unwrap())
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
            paths(Path::new(&file), &settings, self.0.path(), &self.0.path().join("scripts"))
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
    }

    #[test]
    fn what_a_jail_would_break_goes_without_one() {
        let place = Place::new();
        let refused = |options: &str| place.paths(options).unwrap_err();
        assert_eq!(refused("\toption jail '0'"), "option jail is 0");
        assert!(refused("\toption hook '/usr/bin/alarm'").contains("/usr/bin/alarm"));
        assert!(refused("\toption safe_spool '/proc/mail'").contains("drive of its own"));
        assert!(refused(&format!("\toption safe_spool '{}'", place.path("my mail"))).contains("characters"));
        assert!(place.paths("").is_ok());
        fs::create_dir(place.path("scripts")).unwrap();
        assert!(place.paths("").is_ok());
        fs::write(place.path("scripts/10-led"), "").unwrap();
        assert!(refused("").contains("scripts"));
        assert!(place.paths("\toption hook 'none'").is_ok());
    }
}
