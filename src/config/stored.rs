// SPDX-License-Identifier: Apache-2.0
//! Passwords of accounts, and tokens of channels, that are not in a settings file: `smtprelay password NAME` has stored
//! them encrypted.

use std::path::{Path, PathBuf};

use super::reader::{Problem, Reader, Severity};
use super::settings::{Account, Relay, Settings};
use super::uci::{Package, Section};
use crate::secrets::Secret;
use crate::secrets::password::PasswordFile;
use crate::secrets::vault::{self, Left};

/// What is stored for one account.
#[derive(Debug)]
struct StoredSecret {
    account: String,
    password: Secret,
    /// Advice for the administrator.
    warnings: Vec<String>,
}

/// What is stored for the accounts of a settings file.
#[derive(Debug, Default)]
pub struct Passwords(Vec<StoredSecret>);

/// The value of one option, regardless of errors in the section.
fn value(section: &Section, name: &'static str) -> Option<String> {
    Reader::new(section, &mut Vec::new()).text(name)
}

/// The directory of `option secrets`.
fn directory(package: &Package) -> PathBuf {
    let set = package.of_kind("relay").find_map(|section| value(section, "secrets"));
    set.map_or_else(|| Relay::default().secrets, PathBuf::from)
}

/// A section `account` or `channel`, limited to its password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccountLogin {
    /// The name of the section.
    pub account: String,
    /// Whether it logs in with tokens instead of a password.
    pub tokens: bool,
    /// The line of `option password`, if there is one: it takes precedence over a stored password.
    pub written: Option<u32>,
    /// What the section and its secret are called.
    pub words: (&'static str, &'static str),
}

/// The sections with a stored secret, and the options that take precedence over it.
const KINDS: [(&str, &str); 2] = [("account", "password"), ("channel", "token")];

/// All sections `account` and `channel` with a name, enabled or not.
pub fn logins(package: &Package) -> Vec<AccountLogin> {
    let login = |words: (&'static str, &'static str), section: &Section| {
        let account = section.name.clone()?;
        let tokens = value(section, "auth").is_some_and(|auth| auth == "xoauth2");
        let line = section.get(words.1).map(|option| option.line);
        let written = line.filter(|_| value(section, words.1).is_some());
        Some(AccountLogin { account, tokens, written, words })
    };
    let of_kind =
        |words: (&'static str, &'static str)| package.of_kind(words.0).filter_map(move |section| login(words, section));
    KINDS.into_iter().flat_map(of_kind).collect()
}

impl Passwords {
    /// Reads what is stored for the accounts of `package`. Blocks.
    pub fn read(package: &Package) -> Self {
        let directory = directory(package);
        let logins = logins(package).into_iter().filter(|login| !login.tokens);
        Self(logins.filter_map(|login| stored(&directory, login)).collect())
    }

    /// The stored password of an account; empty when there is none that can be used.
    pub fn of(&self, account: &str) -> Secret {
        self.0.iter().find(|stored| stored.account == account).map(|stored| stored.password.clone()).unwrap_or_default()
    }

    /// Advice for the administrator about it.
    pub fn warnings(&self, account: &str) -> impl Iterator<Item = &String> {
        self.0.iter().filter(move |stored| stored.account == account).flat_map(|stored| &stored.warnings)
    }
}

fn stored(directory: &Path, login: AccountLogin) -> Option<StoredSecret> {
    // A name that cannot be a file name has none.
    let place = PasswordFile::of(directory, &login.account).ok()?;
    let (name, (kind, secret)) = (login.account, login.words);
    if !place.is_there() {
        return None;
    }
    let (mut password, mut warnings) = (Secret::default(), Vec::new());
    match place.load() {
        _ if login.written.is_some() => warnings.push(format!(
            "{kind} '{name}' has both an option {secret} and a stored {secret}; the option takes precedence. Remove one of them: uci delete smtprelay.{name}.{secret}, or smtprelay password {name} --delete"
        )),
        Ok(found) => password = found.unwrap_or_default(),
        Err(text) => warnings.push(text),
    }
    Some(StoredSecret { account: name, password, warnings })
}

/// Passwords that are stored for accounts without a section. A disabled account has one.
pub fn left(package: &Package, settings: &Settings) -> Vec<Left> {
    let sections = KINDS.iter().flat_map(|(kind, _)| package.of_kind(kind));
    let known: Vec<&str> = sections.filter_map(|section| section.name.as_deref()).collect();
    let lacks = settings.accounts.iter().find(|account| account.misses_password());
    vault::find_left(&settings.relay.secrets, &known, lacks.map(|account| account.name.as_str()))
}

/// Lists the passwords of `accounts` that need not be in `file`.
pub fn suggest(package: &Package, accounts: &[Account], file: &Path, problems: &mut Vec<Problem>) {
    let used = |login: &AccountLogin| !login.tokens && accounts.iter().any(|account| account.name == login.account);
    for login in logins(package).iter().filter(|login| used(login)) {
        let Some(line) = login.written else { continue };
        let text = format!(
            "the {2} of {3} '{0}' is in clear text in {1}; smtprelay password {0} stores it encrypted",
            login.account,
            file.display(),
            login.words.1,
            login.words.0
        );
        problems.push(Problem { line, severity: Severity::Note, text });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Loaded, load, outline, show};
    use std::fs;

    struct Bench(tempfile::TempDir);

    impl Bench {
        /// Settings with these options of the account `a`.
        fn new(options: &str) -> Self {
            let bench = Self(tempfile::tempdir().unwrap());
            bench.write(options);
            bench
        }

        fn write(&self, options: &str) {
            let secrets = self.0.path().join("secrets");
            // The section with the directory may come last.
            let text = format!(
                "config listener 'l'\n list address '::1'\nconfig account 'a'\n{options}\nconfig relay\n option secrets '{}'\n",
                secrets.display()
            );
            fs::write(self.file(), text).unwrap();
        }

        fn file(&self) -> PathBuf {
            self.0.path().join("smtprelay")
        }

        fn place(&self) -> PasswordFile {
            PasswordFile::of(&self.0.path().join("secrets"), "a").unwrap()
        }

        fn store(self, text: &str) -> Self {
            self.place().save(&Secret::new(text.into())).unwrap();
            self
        }

        fn load(&self) -> (Vec<Account>, Vec<String>) {
            let Loaded { settings, warnings, .. } = load(&self.file()).unwrap();
            let show = show(&settings);
            assert!(!show.contains("abcd") && !show.contains("hunter2"), "{show}");
            (
                settings.accounts,
                warnings.into_iter().map(|w| format!("{} {:?} {}", w.line, w.severity, w.text)).collect(),
            )
        }
    }

    const GMAIL: &str = " option provider 'gmail'\n option username 'me@gmail.com'\n";

    #[test]
    fn an_account_without_a_password_takes_the_stored_one() {
        let bench = Bench::new(GMAIL);
        let (accounts, warnings) = bench.load();
        assert!(accounts[0].misses_password());
        assert_eq!(
            warnings,
            [
                "5 Warning account 'a' has no password, so its mail stays in the queue: store one with smtprelay password a, or set option password"
            ]
        );
        let bench = bench.store("abcd efgh ijkl mnop");
        let (accounts, warnings) = bench.load();
        assert_eq!(warnings, [""; 0]);
        assert_eq!((accounts[0].password.expose(), accounts[0].password_written), ("abcdefghijklmnop", false));
        assert_eq!(bench.place().remove(), Ok(true));
        assert!(bench.load().0[0].misses_password());
    }

    #[test]
    fn where_the_preset_knows_the_name_a_stored_password_fills_the_account_in() {
        for (preset, name) in [("sendgrid", "apikey"), ("postmark", "abcd")] {
            let bench = Bench::new(&format!(" option provider '{preset}'\n option from 'me@example.com'\n"));
            let (accounts, warnings) = bench.load();
            assert!(accounts[0].misses_password() && warnings[0].contains("has no password"), "{warnings:?}");
            let (accounts, warnings) = bench.store("abcd").load();
            assert_eq!((accounts[0].username.as_deref(), warnings.len()), (Some(name), 0));
        }
    }

    #[test]
    fn a_password_in_the_settings_goes_first_and_could_be_kept_out_of_them() {
        let bench = Bench::new(&format!("{GMAIL} option password 'hunter2'"));
        let (accounts, warnings) = bench.load();
        assert_eq!((accounts[0].password.expose(), accounts[0].password_written), ("hunter2", true));
        let file = bench.file();
        let note = format!(
            "6 Note the password of account 'a' is in clear text in {}; smtprelay password a stores it encrypted",
            file.display()
        );
        assert_eq!(warnings, [note.as_str()]);
        let (accounts, warnings) = bench.store("abcd").load();
        assert_eq!(accounts[0].password.expose(), "hunter2");
        assert!(warnings[0].starts_with(
            "6 Warning account 'a' has both an option password and a stored password; the option takes precedence"
        ));
    }

    #[test]
    fn a_file_that_cannot_be_used_is_told_and_mail_is_taken_all_the_same() {
        let bench = Bench::new(GMAIL).store("abcd");
        let whole = fs::read(bench.place().path()).unwrap();
        fs::write(bench.place().path(), &whole[..20]).unwrap();
        let (accounts, warnings) = bench.load();
        assert!(accounts[0].misses_password());
        assert!(warnings.len() == 1 && warnings[0].contains("a.password: it cannot be decrypted"), "{warnings:?}");
        assert!(warnings[0].ends_with("enter it again: smtprelay password a"), "{warnings:?}");
    }

    #[test]
    fn one_that_nobody_asked_for_hinders_nothing() {
        let oauth = " option auth 'xoauth2'\n option oauth 'microsoft'\n option client_id 'c'\n option host 'mx'\n option username 'me@x.y'\n";
        let (accounts, warnings) = Bench::new(oauth).store("abcd").load();
        assert_eq!((accounts[0].password.is_empty(), warnings.len()), (true, 0));
        let (accounts, warnings) = Bench::new(" option host 'mx'\n option from 'me@x.y'\n").store("abcd").load();
        assert_eq!(accounts[0].username, None);
        assert!(warnings[0].contains("the stored password is not used without option username"), "{warnings:?}");
        // As shipped.
        let bench = Bench::new(" option provider 'custom'\n").store("abcd");
        let (_, told) = bench.load();
        let told = told.join("\n");
        assert!(told.contains("is not configured yet") && !told.contains("without option username"), "{told}");
        let (relay, logins) = outline(&bench.file()).unwrap();
        assert_eq!((relay.secrets, logins.len()), (bench.0.path().join("secrets"), 1));
    }
}
