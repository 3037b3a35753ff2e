//! Whether files with secrets in them can be read by other users of this host.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::{Settings, TlsMode};

/// Files looked at in the directory of secrets.
const SECRETS: usize = 256;

/// What to tell the owner: a line for each file that others can read, with what to do about it. Reads the file system.
pub fn exposed(file: &Path, settings: &Settings) -> Vec<String> {
    let in_accounts = settings.accounts.iter().any(|account| {
        !account.password.is_empty() || account.oauth.as_ref().is_some_and(|oauth| !oauth.client_secret.is_empty())
    });
    let mut found = Vec::new();
    if in_accounts || settings.users.iter().any(|user| !user.password.is_empty()) {
        found.extend(open_to_others(file, "has passwords in it"));
    }
    for listener in settings.listeners.iter().filter(|listener| listener.tls != TlsMode::None) {
        found.extend(listener.key.iter().filter_map(|key| open_to_others(key, "is a private key")));
    }
    let entries = fs::read_dir(&settings.relay.secrets).into_iter().flatten().take(SECRETS);
    found.extend(entries.flatten().filter_map(|entry| open_to_others(&entry.path(), "is a secret")));
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_that_others_can_read_are_named_with_the_remedy() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        let text = format!(
            "config relay\n option secrets '{0}/secrets'\nconfig listener 'l'\n list address '::1'\n option tls 'implicit'\n option certificate '{0}/c'\n option key '{0}/k'\n\
             config account 'a'\n option host 'h'\n option username 'me@example.com'\n option password 'p'\n",
            dir.path().display()
        );
        let settings = super::super::parse(&path("settings"), text.as_bytes()).unwrap().settings;
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
        // Without a password in it everybody may read the settings.
        let text = text.replace(" option username 'me@example.com'\n option password 'p'\n", " option from 'a@b.c'\n");
        let settings = super::super::parse(&path("settings"), text.as_bytes()).unwrap().settings;
        assert_eq!(exposed(&path("settings"), &settings).len(), 2);
    }
}
