// SPDX-License-Identifier: Apache-2.0
//! Section `account`: what the preset fills in, the login with a password or with OAuth 2.0 tokens (RFC 6749), and
//! consistency checks.

use std::net::Ipv6Addr;

use super::reader::{Notation, Problem, Reader, Severity};
use super::settings::{Account, Issuer, LoginMethod, OAuth, TlsMode};
use super::stored::Passwords;
use super::uci::Section;
use super::{options, providers};
use crate::message::{FromPolicy, is_one_address};
use crate::secrets::Secret;

impl Account {
    /// Whether a login is impossible because the password is missing.
    pub fn misses_password(&self) -> bool {
        if let Some(channel) = &self.channel {
            return channel.needs_token() && self.password.is_empty();
        }
        let named = self.username.is_some() || self.is_named_by_token();
        self.oauth.is_none() && self.password.is_empty() && named
    }

    /// The warning about an account whose password is missing when the settings are read.
    pub fn password_warning(&self) -> String {
        if let Some(channel) = &self.channel {
            return format!(
                "channel '{0}' has no token, so its messages stay in the queue: store one with smtprelay password {0}, or set option token; {1}",
                self.name, channel.help
            );
        }
        if let Some(help) = self.refused_passwords() {
            return format!("account '{}' does not sign in, so its mail stays in the queue: {help}", self.name);
        }
        format!(
            "account '{0}' has no password, so its mail stays in the queue: store one with smtprelay password {0}, or set option password",
            self.name
        )
    }

    /// Why no password can be the remedy, and what is: the provider accepts only tokens, which the account does not use.
    pub fn refused_passwords(&self) -> Option<String> {
        let known = providers::find(&self.provider).filter(|known| known.secret == "oauth2" && self.oauth.is_none());
        known.map(|known| known.help)
    }

    /// Whether the login name is the same as the password.
    fn is_named_by_token(&self) -> bool {
        let same = || self.username.as_deref().is_none_or(|name| name == self.password.expose());
        self.provider != providers::CUSTOM
            && same()
            && providers::find(&self.provider).is_some_and(|known| known.user == "token")
    }

    /// The same account with a password that has just been stored, as the settings would read it; empty: without one.
    pub fn with_password(&self, password: &Secret) -> Self {
        let mut account = self.clone();
        let known = providers::find(&self.provider).filter(|_| self.provider != providers::CUSTOM);
        let meant = known.as_ref().map(|known| Secret::new(known.password(password.expose())));
        if self.is_named_by_token() {
            account.username = Some(password.expose().to_string()).filter(|name| !name.is_empty());
        }
        account.password = meant.unwrap_or_else(|| password.clone());
        account.locate();
        account
    }
}

/// One section `account`; `None` if it is not used.
pub fn read(section: &Section, stored: &Passwords, problems: &mut Vec<Problem>) -> Option<Account> {
    let mut read = Reader::new(section, problems);
    let enabled = read.enabled();
    let name = section.name.clone().unwrap_or_default();
    let mut account = Account { password: stored.of(&name), name, ..Account::default() };
    let (preset, empty) = providers::login(&mut read, enabled, &mut account);
    for text in stored.warnings(&account.name).filter(|_| enabled) {
        read.warn("password", text);
    }
    read.fill(options::account(&mut account));
    if account.port == 0 {
        let preset = preset.filter(|preset| preset.tls == account.tls);
        account.port = preset.map_or(account.tls.usual_port(), |preset| preset.port);
    }
    account.oauth = oauth(&mut read);
    if enabled && empty && account.tls != TlsMode::None {
        let text = format!("account '{}' is not configured yet and is not used", account.name);
        read.problem(Severity::Warning, text);
    }
    let used = enabled && (!empty || account.tls == TlsMode::None);
    // A section that is disabled may be incomplete; only its keywords are checked.
    if used {
        let told = stored.warnings(&account.name).next().is_some();
        fits_together(&account, told, &mut read);
    }
    read.finish();
    used.then_some(account)
}

/// Whether `host` can be the mail server of an account: a name or an address, without a port.
pub fn is_server(host: &str) -> bool {
    let fine = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_');
    !host.is_empty() && host.bytes().all(fine) || host.parse::<Ipv6Addr>().is_ok()
}

/// `told`: a problem with the stored password has already been reported.
fn fits_together(account: &Account, told: bool, read: &mut Reader) {
    if account.name.is_empty() {
        read.problem(Severity::Error, "an account needs a name: write config account 'provider'");
    }
    if account.host.is_empty() {
        read.problem(
            Severity::Error,
            "option host is missing: the provider's mail server, such as smtp.example.com; or set option provider to one that 'smtprelay providers' lists",
        );
    } else if account.host.contains('{') {
        let text = format!("the host {} needs option region, such as eu-central-1", account.host);
        read.problem(Severity::Error, text);
    } else if !is_server(&account.host) {
        let has_port = account.host.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
        let port = if has_port { "; the port is set with option port" } else { "" };
        // That of a preset is wrong because of the region in it.
        let option = if read.text("host").is_some() { "host" } else { "region" };
        read.error(option, format!("option host '{}' is not a host name{port}", account.host));
    }
    if !account.from.is_empty() && !is_one_address(&account.from) {
        read.error("from", format!("option from '{}' is not a mail address such as me@example.com", account.from));
    }
    if account.from.is_empty() && account.from_policy != FromPolicy::Keep {
        let text =
            "option from is missing: the address that the provider allows as sender (the username is not an address)";
        read.problem(Severity::Error, text);
    }
    if let Some(oauth) = &account.oauth {
        tokens_fit_together(oauth, read);
        if account.username.is_none() {
            read.error("auth", "auth 'xoauth2' without option username: the address of the mailbox");
        }
    } else if account.misses_password() && !told {
        // Not an error: its mail is accepted and queued, as with a wrong password.
        read.warn("username", account.password_warning());
    } else if let Some(help) = account.refused_passwords() {
        read.warn("password", format!("provider {}: {help}", account.provider));
    }
    if account.username.is_none() && !account.password.is_empty() {
        match account.password_written {
            true => read.error("password", "option password without option username"),
            false => read.warn("password", "the stored password is not used without option username"),
        }
    }
    if account.tls == TlsMode::None {
        if account.username.is_some() {
            let text = "tls 'none' with a username would send the password in clear text; use implicit or starttls";
            read.error("tls", text);
        } else {
            let text =
                format!("tls 'none': mail is sent to {} unencrypted and can be read on the network path", account.host);
            read.warn("tls", text);
        }
    }
    if !account.verify && account.fingerprint.is_none() && account.tls != TlsMode::None {
        let text = format!("verify '0': anyone on the network path to {} can read mail and password", account.host);
        read.warn("verify", text);
    }
    let odd = matches!((account.tls, account.port), (TlsMode::Implicit, 587 | 25) | (TlsMode::StartTls, 465));
    if odd && account.provider == "custom" {
        let text = format!("port {} is unusual for this tls mode; implicit uses 465, starttls uses 587", account.port);
        read.warn("port", text);
    }
}

/// A fingerprint: SHA-256 as hex, with or without colons, as `openssl x509 -fingerprint -sha256` prints it.
impl Notation for Option<[u8; 32]> {
    fn form(&self) -> String {
        "a SHA-256 fingerprint (64 hex digits)".into()
    }

    fn set(&mut self, text: &str) -> bool {
        let digits: Option<Vec<u8>> =
            text.chars().filter(|c| *c != ':').map(|c| c.to_digit(16).and_then(|d| u8::try_from(d).ok())).collect();
        let bytes: Vec<u8> =
            digits.unwrap_or_default().chunks_exact(2).map(|pair| pair.iter().fold(0, |n, d| n << 4 | d)).collect();
        *self = bytes.try_into().ok();
        self.is_some()
    }

    fn text(&self) -> String {
        self.iter().flatten().map(|byte| format!("{byte:02X}")).collect::<Vec<_>>().join(":")
    }
}

/// The known endpoints of an issuer: device, authorization and token, and the scope. From its documentation of 2026.
fn known(issuer: Issuer) -> [&'static str; 4] {
    match issuer {
        Issuer::Google => [
            "",
            "https://accounts.google.com/o/oauth2/v2/auth",
            "https://oauth2.googleapis.com/token",
            "https://mail.google.com/",
        ],
        Issuer::Microsoft => [
            "https://login.microsoftonline.com/common/oauth2/v2.0/devicecode",
            "",
            "https://login.microsoftonline.com/common/oauth2/v2.0/token",
            "https://outlook.office.com/SMTP.Send offline_access",
        ],
        Issuer::Custom => ["", "", "", ""],
    }
}

/// The OAuth 2.0 options; `None` if the account logs in with a password.
fn oauth(read: &mut Reader) -> Option<OAuth> {
    let (mut method, mut oauth) = (LoginMethod::Password, OAuth::default());
    read.fill(options::oauth(&mut method, &mut oauth));
    let named = read.text("oauth").is_some();
    let [device, auth, token, scope] = known(oauth.issuer);
    for (url, known) in [(&mut oauth.device_url, device), (&mut oauth.auth_url, auth)] {
        *url = url.take().or_else(|| Some(known.to_string()).filter(|known| !known.is_empty()));
    }
    for (text, known) in [(&mut oauth.token_url, token), (&mut oauth.scope, scope)] {
        if text.is_empty() {
            *text = known.into();
        }
    }
    let wanted = method == LoginMethod::Tokens;
    if named && !wanted {
        read.warn("oauth", "option oauth has no effect without option auth 'xoauth2'");
    }
    if wanted && !named {
        read.error("auth", "auth 'xoauth2' needs option oauth: 'google', 'microsoft' or 'custom'");
    }
    wanted.then_some(oauth)
}

/// Checks that everything required is set.
fn tokens_fit_together(oauth: &OAuth, read: &mut Reader) {
    let missing = [
        (
            oauth.client_id.is_empty(),
            "option client_id is missing: create your own client at Google or Microsoft, see docs/guide/oauth.md",
        ),
        (
            oauth.issuer == Issuer::Google && oauth.client_secret.is_empty(),
            "option client_secret is missing: Google shows it next to the client id",
        ),
        (oauth.token_url.is_empty(), "option token_url is missing: the URL of the server's token endpoint"),
        (
            oauth.device_url.is_none() && oauth.auth_url.is_none(),
            "option device_url or auth_url is missing: the address where a person signs in",
        ),
    ];
    for (_, text) in missing.iter().filter(|(missing, _)| *missing) {
        read.problem(Severity::Error, *text);
    }
    let urls = [
        ("device_url", oauth.device_url.as_deref().unwrap_or_default()),
        ("auth_url", oauth.auth_url.as_deref().unwrap_or_default()),
        ("token_url", oauth.token_url.as_str()),
    ];
    for (name, url) in urls {
        let https = url.starts_with("https://") && url.bytes().all(|b| b.is_ascii_graphic()) && !url.contains('#');
        if !url.is_empty() && !https {
            read.error(name, format!("option {name} '{url}' is not a URL such as https://login.example.com/path"));
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::config::{load, show, uci};

    const MICROSOFT: &str = "config relay 'main'\n option enabled '0'\n option secrets '/x'\nconfig account 'office'\n \
                             option host 'smtp.office365.com'\n option username 'me@example.com'\n option auth 'xoauth2'\n \
                             option oauth 'microsoft'\n option client_id 'c'\n";

    fn read(text: &str) -> (crate::config::Settings, Vec<String>) {
        let (settings, problems) = load::settings(&uci::parse(text.as_bytes()).unwrap());
        (settings, problems.into_iter().map(|problem| problem.text).collect())
    }

    #[test]
    fn a_client_id_is_all_that_microsoft_needs() {
        let (settings, problems) = read(MICROSOFT);
        assert_eq!(problems, [""; 0]);
        let oauth = settings.accounts[0].oauth.as_ref().unwrap();
        assert_eq!(oauth.scope, "https://outlook.office.com/SMTP.Send offline_access");
        assert!(oauth.device_url.as_deref().is_some_and(|url| url.ends_with("/common/oauth2/v2.0/devicecode")));
        assert_eq!(oauth.secrets, std::path::Path::new("/x"));
    }

    #[test]
    fn what_is_missing_or_wrong_is_named() {
        for (from, to, problem) in [
            ("client_id 'c'", "client_id ''", "option client_id is missing"),
            ("'microsoft'", "'google'", "option client_secret is missing"),
            ("'microsoft'", "'custom'", "option token_url is missing"),
            ("'microsoft'", "'yahoo'", "option oauth 'yahoo' is not one of google, microsoft, custom"),
            ("option oauth 'microsoft'", "", "needs option oauth"),
            ("auth 'xoauth2'", "auth 'password'", "option oauth has no effect without"),
            ("username 'me@example.com'", "from 'me@example.com'", "without option username"),
            ("client_id 'c'", "client_id 'c'\n option token_url 'http://x/'", "is not a URL such as https://"),
            ("'/x'", "'x'", "option secrets must be an absolute path"),
        ] {
            let (_, problems) = read(&MICROSOFT.replace(from, to));
            assert!(problems.iter().any(|text| text.contains(problem)), "{problem} in {problems:?}");
        }
    }

    #[test]
    fn show_masks_the_secret_and_reads_back() {
        let google = MICROSOFT.replace("'microsoft'", "'google'\n option client_secret 'hush'");
        let (settings, problems) = read(&google);
        assert_eq!(problems, [""; 0]);
        let shown = show(&settings);
        assert!(shown.contains("option client_secret '********'") && !shown.contains("hush"), "{shown}");
        assert!(!format!("{settings:?}").contains("hush"));
        let (mut again, _) = read(&shown);
        let kept = again.accounts[0].oauth.as_mut().unwrap();
        kept.client_secret = settings.accounts[0].oauth.as_ref().unwrap().client_secret.clone();
        again.relay.hostname.clone_from(&settings.relay.hostname);
        assert_eq!(again.accounts, settings.accounts);
        let (_, problems) = read(&google.replace("hush", "hu\tsh"));
        assert!(problems.iter().all(|text| !text.contains("hu")), "{problems:?}");
    }
}
