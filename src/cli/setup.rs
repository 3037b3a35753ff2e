// SPDX-License-Identifier: Apache-2.0
//! `smtprelay setup ADDRESS`: from the package as it is shipped to a delivered test mail.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use smtprelay::config::edit::{self, Place};
use smtprelay::config::providers::{self, Provider};
use smtprelay::config::{self, ConfigError, Severity, uci};
use smtprelay::control::socket::ControlClient;
use smtprelay::secrets::Secret;

use super::ask::state;
use super::test_mail::{Test, test};
use super::{Failure, complain, exit, fail, login, password, print, reload, show, spool_in_use, text, usage};

/// Starts the gateway on OpenWrt.
const INIT: &str = "/etc/init.d/smtprelay";
/// How long the start may take, which procd does on its own: a slow router reads the program from compressed flash.
const START: Duration = Duration::from_secs(20);

/// What to set up.
pub struct Setup {
    /// The mail address of the owner.
    pub address: String,
    /// The name of the account; by default one that fits.
    pub account: Option<String>,
    /// A preset; by default the one that the address belongs to.
    pub provider: Option<String>,
    /// A server without a preset.
    pub host: Option<String>,
    /// Its port.
    pub port: Option<u16>,
    /// How its connections are encrypted: `implicit` or `starttls`.
    pub tls: Option<String>,
    /// The OAuth 2.0 client to sign in with in place of a password.
    pub client_id: Option<String>,
}

/// Sets up the account, starts the gateway and sends the test mail.
pub fn setup(wanted: &Setup, file: &Path, runtime: std::io::Result<tokio::runtime::Runtime>) -> ExitCode {
    match prepare(wanted, file) {
        Ok((account, oauth)) => finish(&account, oauth, wanted, file, runtime),
        Err(failure) => fail(failure),
    }
}

/// Asks for the password and writes the settings. Returns the account, and whether it signs in with OAuth.
fn prepare(wanted: &Setup, file: &Path) -> Result<(String, bool), Failure> {
    let preset = destination(wanted)?;
    let failed = |text: String| (1, text);
    let text = match std::fs::read_to_string(file) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(failed(format!("{}: cannot read the settings: {error}", file.display()))),
    };
    let package = uci::parse(text.as_bytes()).map_err(|error| failed(format!("{}: {error}", file.display())))?;
    let account = account(wanted, preset.as_ref(), &package)?;
    let client = client(wanted, preset.as_ref(), &account, &package)?;
    let mut options = match &preset {
        Some(preset) => vec![("provider", preset.id.as_str()), ("host", ""), ("port", ""), ("tls", "")],
        None => vec![("provider", "custom")],
    };
    let port = wanted.port.map(|port| port.to_string()).unwrap_or_default();
    if preset.is_none() {
        options.push(("host", wanted.host.as_deref().unwrap_or_default()));
        options.extend([("port", port.as_str()), ("tls", wanted.tls.as_deref().unwrap_or_default())]);
    }
    options.extend([("username", wanted.address.as_str()), ("from", ""), ("password", ""), ("enabled", "")]);
    options.push(("auth", if client.is_some() { "xoauth2" } else { "" }));
    if let Some(client) = &client {
        options.extend([("oauth", client.issuer.as_str()), ("client_id", client.id.as_str())]);
        options.extend(client.secret.as_ref().map(|secret| ("client_secret", secret.expose())));
    }
    let edited = edit::set(&text, Place::Named("account", &account), &options)
        .and_then(|text| edit::set(&text, Place::First("relay", "main"), &[("enabled", "1")]))
        .map_err(failed)?;
    config::parse(file, edited.as_bytes()).map_err(|error| refused(&error, file, &text))?;
    let whose = preset.as_ref().map_or_else(|| wanted.host.clone().unwrap_or_default(), |preset| preset.id.clone());
    print(&format!("Account '{account}': {} at {whose}\n", wanted.address));
    if let Some(hint) = preset.as_ref().filter(|_| client.is_none()).and_then(hint) {
        print(&hint);
    }
    // Before anything is changed.
    let secret = match &client {
        Some(_) => None,
        None => Some(password::required(&password::of_account(&account))?),
    };
    edit::replace(file, &edited)
        .map_err(|error| failed(format!("{}: cannot write the settings: {error}", file.display())))?;
    if let Some(secret) = secret {
        print(&password::store(&account, Some(secret), file)?);
    }
    Ok((account, client.is_some()))
}

/// What is wrong with the settings that would be written: it was wrong before, in the file with this `text`, or it follows
/// from the options of this command. Then its line is in no file that anyone could open.
fn refused(error: &ConfigError, file: &Path, text: &str) -> Failure {
    if config::parse(file, text.as_bytes()).is_err() {
        return (1, error.to_string());
    }
    let errors = error.problems.iter().filter(|problem| problem.severity == Severity::Error);
    (exit::USAGE, errors.map(|problem| problem.text.as_str()).collect::<Vec<_>>().join("; "))
}

/// The OAuth 2.0 client that signs in to an account.
struct Client {
    issuer: String,
    id: String,
    /// `None` if it has none, or keeps the one in the settings.
    secret: Option<Secret>,
}

/// The client of an account that signs in with OAuth 2.0; `None` if a password is used.
fn client(
    wanted: &Setup,
    preset: Option<&Provider>,
    account: &str,
    package: &uci::Package,
) -> Result<Option<Client>, Failure> {
    let needs = preset.filter(|preset| preset.secret == "oauth2");
    if wanted.client_id.is_none() && needs.is_none() {
        return Ok(None);
    }
    let usage = |text: String| (exit::USAGE, text);
    let written = |option: &str| section_of(account, package).and_then(|section| text_of(section, option));
    let issuer = match preset {
        Some(preset) => Some(preset.issuer.clone()).filter(|issuer| !issuer.is_empty()),
        None => written("oauth"),
    };
    let id = wanted.client_id.clone().or_else(|| written("client_id")).ok_or_else(|| {
        let name = preset.map_or_else(|| account.to_string(), |preset| preset.id.clone());
        usage(format!(
            "{name} accepts no password, only a sign-in with OAuth 2.0 through a client of your own: register one as \
             docs/guide/oauth.md describes, and name it with --client-id"
        ))
    })?;
    let issuer = issuer.ok_or_else(|| {
        usage(
            "--client-id requires an account at Google or Microsoft, or option oauth of the account and the URLs of its \
             login server: see docs/guide/oauth.md"
                .into(),
        )
    })?;
    // Desktop clients of Google have a secret.
    let secret = match issuer == "google" && written("client_secret").is_none() {
        true => Some(password::required(&format!("Client secret of account '{account}'"))?),
        false => None,
    };
    Ok(Some(Client { issuer, id, secret }))
}

/// The section of the account called `name`.
fn section_of<'a>(name: &str, package: &'a uci::Package) -> Option<&'a uci::Section> {
    package.of_kind("account").find(|section| section.name.as_deref() == Some(name))
}

/// The value of an option in the settings, without the blanks around it, as the gateway reads it.
fn text_of(section: &uci::Section, name: &str) -> Option<String> {
    section.get(name).map(|option| option.value.text().trim().to_string())
}

/// Which password is wanted, and where to get it.
fn hint(preset: &Provider) -> Option<String> {
    let app = preset.secret == "app";
    let place = match (preset.url.as_str(), app) {
        ("", true) => "this provider requires an app password.".to_string(),
        ("", false) => String::new(),
        (url, true) => format!("create an app password at {url}"),
        (url, false) => format!("see {url}"),
    };
    let parts = [place.as_str(), &preset.help].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>();
    (!parts.is_empty()).then(|| format!("Password: {}\n", parts.join("\n          ")))
}

/// The provider; `None` for a server that the options name.
fn destination(wanted: &Setup) -> Result<Option<Provider>, Failure> {
    let usage = |text: String| (exit::USAGE, text);
    match (&wanted.host, &wanted.provider) {
        (Some(_), Some(_)) => Err(usage("--host and --provider exclude each other".into())),
        (Some(_), None) => Ok(None),
        (None, _) if wanted.port.is_some() || wanted.tls.is_some() => {
            Err(usage("--port and --tls require --host".into()))
        }
        (None, Some(name)) => providers::find(name).map(Some).ok_or_else(|| {
            let known = providers::all();
            let suggestion = usage::suggestion(name, known.iter().map(|provider| provider.id.as_str()));
            usage(format!("no provider is named '{name}'; 'smtprelay providers' lists them{suggestion}"))
        }),
        (None, None) => providers::of_address(&wanted.address).map(Some).ok_or_else(|| {
            let domain = wanted.address.rsplit_once('@').map(|(_, domain)| domain).unwrap_or_default();
            usage(format!(
                "no provider is known for {domain}: name it with --provider ('smtprelay providers' lists them), or its \
                 server for outgoing mail with --host, --port and --tls"
            ))
        }),
    }
}

/// The name of the account: the one that already has this address, the one of the shipped settings, or a new one.
fn account(wanted: &Setup, preset: Option<&Provider>, package: &uci::Package) -> Result<String, Failure> {
    let user = |section: &uci::Section| text_of(section, "username");
    let named = |wanted: &dyn Fn(&uci::Section) -> bool| {
        package.of_kind("account").filter(|section| wanted(section)).find_map(|section| section.name.clone())
    };
    let same = || named(&|section| user(section).is_some_and(|known| known.eq_ignore_ascii_case(&wanted.address)));
    let unused = || named(&|section| user(section).is_none() && text_of(section, "host").is_none());
    let fits = || preset.map_or_else(|| "mail".to_string(), |preset| preset.id.replace('-', "_"));
    let name = wanted.account.clone().or_else(same).or_else(unused).unwrap_or_else(fits);
    if !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') || name.is_empty() {
        return Err((exit::USAGE, format!("'{name}' is not a name for an account: use letters, digits and _")));
    }
    let other = section_of(&name, package).and_then(user);
    match other.filter(|other| !other.eq_ignore_ascii_case(&wanted.address)) {
        Some(other) => {
            Err((exit::USAGE, format!("account '{name}' belongs to {other}: name another one with --account")))
        }
        None => Ok(name),
    }
}

/// Starts the gateway, or has it apply the settings, and sends the test mail.
fn finish(
    account: &str,
    oauth: bool,
    wanted: &Setup,
    file: &Path,
    runtime: std::io::Result<tokio::runtime::Runtime>,
) -> ExitCode {
    let loaded = match config::load(file) {
        Ok(loaded) => loaded,
        Err(error) => return fail((1, error.to_string())),
    };
    if oauth {
        let signed_in = login(account, &loaded.settings, super::new_runtime());
        if signed_in != ExitCode::SUCCESS {
            return signed_in;
        }
    }
    let spool = || spool_in_use(&loaded.settings.relay.spool, file);
    let managed = file == Path::new(config::DEFAULT_FILE) && Path::new(INIT).exists();
    if managed {
        for action in ["enable", "reload"] {
            if !Command::new(INIT).arg(action).status().is_ok_and(|status| status.success()) {
                complain(&format!("'{INIT} {action}' failed: see 'smtprelay log'"));
            }
        }
        // Otherwise this process would send the test mail, and it would remain unknown whether the gateway runs.
        if !answers(&spool) {
            complain(&format!("the gateway did not start within {} s: see 'smtprelay log'", START.as_secs()));
        }
    } else if let Ok(Some(_)) = ControlClient::connect(&spool()) {
        let _ = reload(file, false);
    }
    let spool = spool();
    let mut settings = loaded.settings;
    settings.relay.spool = spool;
    let mail = Test { account: account.into(), to: wanted.address.clone(), verbose: false, json: false };
    let tested = test(&mail, &settings, file, runtime);
    if tested == ExitCode::SUCCESS && managed && !relays(&settings.relay.spool, file) {
        return ExitCode::FAILURE;
    }
    if tested == ExitCode::SUCCESS {
        let ports: Vec<String> = settings.listeners.iter().map(|listener| listener.port.to_string()).collect();
        print(&format!(
            "On your devices, set the mail server to the address of this router, port {}, without TLS, with any login or \
             none.\n",
            ports.first().map_or("25", String::as_str)
        ));
        if settings.relay.safe_spool.is_none() {
            print(
                "To keep queued mail over a power cut, set option safe_spool to a directory on flash or a USB drive.\n",
            );
        }
    }
    tested
}

/// Waits until the gateway answers; false if it does not in time.
fn answers(spool: &dyn Fn() -> PathBuf) -> bool {
    let begun = Instant::now();
    while !matches!(ControlClient::connect(&spool()), Ok(Some(_))) {
        if begun.elapsed() > START {
            return false;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    true
}

/// Whether the gateway relays and devices can connect, which it says.
fn relays(spool: &Path, file: &Path) -> bool {
    let Ok(Some(mut client)) = ControlClient::connect(spool) else {
        complain("the gateway is not running: see 'smtprelay log'");
        return false;
    };
    let Ok(status) = state(&mut client, file) else { return false };
    let works = show::exit_code(&status, false) == 0;
    if !works {
        complain(&format!("{}; 'smtprelay status' shows more", text(&status, "health").trim_end_matches('.')));
    }
    works
}
