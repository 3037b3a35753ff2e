// SPDX-License-Identifier: Apache-2.0
//! The options of an account that logs in with OAuth 2.0 tokens (RFC 6749) instead of a password.

use std::path::PathBuf;

use super::reader::{Reader, Severity};
use super::settings::default;
use crate::secrets::Secret;

/// The issuer of the tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Issuer {
    /// Gmail and Google Workspace: its device flow issues no tokens for mail, so an address is copied back.
    Google,
    /// Microsoft 365 and outlook.com: device flow.
    Microsoft,
    /// Any issuer, specified by the URLs of the account.
    Custom,
}

/// Keywords of `option oauth`.
pub const ISSUERS: [(&str, Issuer); 3] =
    [("google", Issuer::Google), ("microsoft", Issuer::Microsoft), ("custom", Issuer::Custom)];

/// How an account gets its tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OAuth {
    /// The issuer.
    pub issuer: Issuer,
    /// The administrator's own client ID: none is included.
    pub client_id: String,
    /// Google issues one even to programs that cannot keep it secret; Microsoft uses none. May be empty.
    pub client_secret: Secret,
    /// Device authorization endpoint (RFC 8628); `None`: an address is copied back.
    pub device_url: Option<String>,
    /// Authorization endpoint (RFC 6749 section 3.1), for the browser.
    pub auth_url: Option<String>,
    /// Token endpoint (RFC 6749 section 3.2).
    pub token_url: String,
    /// The scope of the token.
    pub scope: String,
    /// Directory of the token files: `option secrets` of the section `relay`.
    pub secrets: PathBuf,
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

/// Reads the options; `None` if the account logs in with a password.
pub fn read(read: &mut Reader) -> Option<OAuth> {
    let wanted = read.choice("auth", false, &[("password", false), ("xoauth2", true)]);
    let named = read.text("oauth").is_some();
    let issuer = read.choice("oauth", Issuer::Custom, &ISSUERS);
    let [device, auth, token, scope] = known(issuer);
    let values = [
        ("client_id", ""),
        ("client_secret", ""),
        ("device_url", device),
        ("auth_url", auth),
        ("token_url", token),
        ("scope", scope),
    ];
    let values = values.map(|(name, known)| read.text(name).unwrap_or_else(|| known.into()));
    let [client_id, client_secret, device_url, auth_url, token_url, scope] = values;
    let some = |text: String| Some(text).filter(|text| !text.is_empty());
    let oauth = OAuth {
        issuer,
        client_id,
        client_secret: Secret::new(client_secret),
        device_url: some(device_url),
        auth_url: some(auth_url),
        token_url,
        scope,
        secrets: PathBuf::from(default::SECRETS),
    };
    if named && !wanted {
        read.warn("oauth", "option oauth has no effect without option auth 'xoauth2'");
    }
    if wanted && !named {
        read.error("auth", "auth 'xoauth2' needs option oauth: 'google', 'microsoft' or 'custom'");
    }
    wanted.then_some(oauth)
}

/// Checks that everything required is set.
pub fn fits_together(oauth: &OAuth, read: &mut Reader) {
    let line = read.line();
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
        read.problem(Severity::Error, line, *text);
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
