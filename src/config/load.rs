//! From the sections of the file to [`Settings`], with everything that is wrong or odd about them.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use log::LevelFilter;

use super::oauth;
use super::pattern::{PATTERN_FORM, Pattern};
use super::preset;
use super::reader::{Problem, Reader, Severity};
use super::secret::Secret;
use super::settings::{
    Account, AuthMode, Dialect, Durability, Listener, Relay, Route, Settings, TlsMode, User, default,
};
use super::stored::Passwords;
use super::uci::{Package, Section};
use super::{alias, device, references};
use crate::message::{FromPolicy, is_address};

/// Words of `option durability`.
pub const DURABILITIES: [(&str, Durability); 3] =
    [("memory", Durability::Memory), ("deferred", Durability::Deferred), ("always", Durability::Always)];
/// Words of `option auth`.
pub const AUTH_MODES: [(&str, AuthMode); 4] = [
    ("ignore", AuthMode::Ignore),
    ("none", AuthMode::None),
    ("optional", AuthMode::Optional),
    ("required", AuthMode::Required),
];
/// Words of `option dialect`.
pub const DIALECTS: [(&str, Dialect); 2] = [("tolerant", Dialect::Tolerant), ("strict", Dialect::Strict)];
/// Words of `option tls`.
pub const TLS_MODES: [(&str, TlsMode); 3] =
    [("implicit", TlsMode::Implicit), ("starttls", TlsMode::StartTls), ("none", TlsMode::None)];
/// Words of `option from_policy`.
pub const FROM_POLICIES: [(&str, FromPolicy); 3] =
    [("account", FromPolicy::Account), ("domain", FromPolicy::Domain), ("keep", FromPolicy::Keep)];
/// Words of `option log_level`.
pub const LOG_LEVELS: [(&str, LevelFilter); 4] = [
    ("error", LevelFilter::Error),
    ("warning", LevelFilter::Warn),
    ("info", LevelFilter::Info),
    ("debug", LevelFilter::Debug),
];

/// Reads all sections. The settings are usable only when no finding is an error.
pub fn settings(package: &Package) -> (Settings, Vec<Problem>) {
    settings_with(package, &Passwords::default())
}

/// As [`settings`], with the passwords that are stored for the accounts.
pub fn settings_with(package: &Package, stored: &Passwords) -> (Settings, Vec<Problem>) {
    let mut problems = Vec::new();
    let mut relay_section: Option<&Section> = None;
    let mut listeners = Vec::new();
    let mut accounts = Vec::new();
    let mut routes = Vec::new();
    let mut users = Vec::new();
    let mut devices = Vec::new();
    let mut aliases = Vec::new();
    for section in &package.sections {
        match section.kind.as_str() {
            "relay" if relay_section.is_some() => problems.push(Problem {
                line: section.line,
                severity: Severity::Error,
                text: "a second section 'relay': there can be only one".into(),
            }),
            "relay" => relay_section = Some(section),
            "listener" => listeners.extend(listener(section, &mut problems)),
            "account" => accounts.extend(account(section, stored, &mut problems)),
            "route" => routes.push(section),
            "user" => users.extend(user(section, &users, &mut problems)),
            "device" => devices.push((section.line, device::read(section, &mut problems))),
            "alias" => aliases.push(alias::read(section, &mut problems)),
            other => problems.push(Problem {
                line: section.line,
                severity: Severity::Warning,
                text: format!("unknown section '{other}' is ignored"),
            }),
        }
    }
    let nothing = Section { kind: "relay".into(), name: None, line: 0, options: Vec::new() };
    let relay = relay(relay_section.unwrap_or(&nothing), &mut problems);
    device::check(&devices, &mut problems);
    alias::check(&aliases, &devices, relay.admin.as_deref(), &mut problems);
    let devices = devices.into_iter().map(|(_, device)| device).collect();
    accounts
        .iter_mut()
        .filter_map(|account: &mut Account| account.oauth.as_mut())
        .for_each(|oauth| oauth.secrets.clone_from(&relay.secrets));
    let mut whole = |severity, text: &str| problems.push(Problem { line: 0, severity, text: text.into() });
    if relay.enabled && listeners.is_empty() {
        whole(Severity::Error, "no section 'listener' is enabled: no device could connect");
    }
    if routes.len() > ROUTE_LIMIT {
        whole(Severity::Error, "more than 64 sections 'route'");
    }
    if relay.enabled && !accounts.is_empty() && !accounts.iter().any(|account| account.general) {
        whole(Severity::Error, "no account has default '1': mail that no route names could not leave");
    }
    if relay.enabled && accounts.is_empty() {
        whole(Severity::Error, "no section 'account' is filled in: set provider (or host), username and password");
    }
    if users.is_empty() && listeners.iter().any(|listener| listener.auth == AuthMode::Required) {
        whole(Severity::Error, "auth 'required' without a section 'user': no device could send");
    }
    let routes = routes.into_iter().map(|section| route(section, &accounts, &mut problems)).collect();
    let settings = Settings { relay, listeners, users, accounts, routes, devices, aliases };
    references::check(package, &settings, &mut problems);
    (settings, problems)
}

fn relay(section: &Section, problems: &mut Vec<Problem>) -> Relay {
    let mut read = Reader::new(section, problems);
    let relay = Relay {
        enabled: read.flag("enabled", true),
        hostname: host_name(&mut read, "hostname"),
        admin: address(&mut read, "admin"),
        spool: read.text("spool").map_or_else(|| PathBuf::from(default::SPOOL), PathBuf::from),
        safe_spool: read.text("safe_spool").map(PathBuf::from),
        durability: read.choice("durability", default::DURABILITY, &DURABILITIES),
        spool_limit: read.size("spool_limit", default::SPOOL_LIMIT, 64 << 10),
        message_limit: read.size("message_limit", default::MESSAGE_LIMIT, 16 << 10),
        retry_for: read.duration("retry_for", default::RETRY_FOR, Duration::from_secs(10)),
        retry_min: read.duration("retry_min", default::RETRY_MIN, Duration::from_secs(1)),
        retry_max: read.duration("retry_max", default::RETRY_MAX, Duration::from_secs(1)),
        delay_notice: read.duration("delay_notice", default::DELAY_NOTICE, Duration::ZERO),
        notify_boot: read.flag("notify_boot", false),
        hook: match read.text("hook").as_deref() {
            Some("none") => None,
            program => Some(PathBuf::from(program.unwrap_or(default::HOOK))),
        },
        secrets: read.text("secrets").map_or_else(|| PathBuf::from(default::SECRETS), PathBuf::from),
        user: read.text("user").unwrap_or_else(|| default::USER.into()),
        jail: read.flag("jail", true),
        log_level: read.choice("log_level", default::LOG_LEVEL, &LOG_LEVELS),
    };
    let paths = [
        ("spool", Some(&relay.spool)),
        ("safe_spool", relay.safe_spool.as_ref()),
        ("hook", relay.hook.as_ref()),
        ("secrets", Some(&relay.secrets)),
    ];
    for (name, path) in paths {
        if path.is_some_and(|path| !path.is_absolute()) {
            read.error(name, format!("option {name} must be an absolute path"));
        }
    }
    if relay.user == "root" {
        let line = read.line();
        let text = "user 'root': whoever finds a fault in the gateway owns the router; take the option away";
        read.problem(Severity::Note, line, text);
    }
    if relay.safe_spool.as_ref() == Some(&relay.spool) {
        read.error("safe_spool", "spool and safe_spool must be different directories");
    }
    if relay.durability == Durability::Always && relay.safe_spool.is_none() {
        let text = "durability 'always' without safe_spool: mail survives a power cut only if spool itself is on flash or disk";
        read.warn("durability", text);
    }
    if relay.retry_max < relay.retry_min {
        read.error("retry_max", "retry_max must not be shorter than retry_min");
    }
    read.finish();
    relay
}

/// A host name as it may stand in EHLO: no blanks and nothing that ends a command early.
fn host_name(read: &mut Reader, name: &'static str) -> Option<String> {
    let text = read.text(name)?;
    let fine = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_' | b':' | b'[' | b']');
    if text.len() > 255 || !text.bytes().all(fine) {
        read.error(name, format!("option {name} '{text}' is not a host name"));
    }
    Some(text)
}

fn address(read: &mut Reader, name: &'static str) -> Option<String> {
    let text = read.text(name)?;
    if !is_address(&text) {
        read.error(name, format!("option {name} '{text}' is not a mail address such as me@example.com"));
    }
    Some(text)
}

fn listener(section: &Section, problems: &mut Vec<Problem>) -> Option<Listener> {
    let mut read = Reader::new(section, problems);
    let enabled = read.flag("enabled", true);
    let mut addresses: Vec<IpAddr> = Vec::new();
    for text in read.list("address") {
        match text.parse() {
            Ok(address) => addresses.push(address),
            Err(_) => read.error("address", format!("list address '{text}' is not an IP address")),
        }
    }
    let mut allow: Vec<IpNet> = Vec::new();
    for text in read.list("allow") {
        match network(&text) {
            Some(net) => {
                if net.prefix_len() == 0 {
                    let text = format!("list allow '{net}' lets the whole world send through your account");
                    read.warn("allow", text);
                }
                allow.push(net);
            }
            None => read.error("allow", format!("list allow '{text}' is not a network such as 192.168.1.0/24")),
        }
    }
    let listener = Listener {
        name: section.name.clone().unwrap_or_default(),
        interfaces: read.list("interface"),
        addresses,
        port: read.port("port", default::LISTENER_PORT, 0),
        tls: read.choice("tls", default::LISTENER_TLS, &TLS_MODES),
        certificate: read.text("certificate").map(PathBuf::from),
        key: read.text("key").map(PathBuf::from),
        auth: read.choice("auth", default::AUTH, &AUTH_MODES),
        dialect: read.choice("dialect", default::DIALECT, &DIALECTS),
        allow,
        max_sessions: read.number("max_sessions", default::MAX_SESSIONS, 1..=10_000),
        max_sessions_per_client: read.number("max_sessions_per_client", default::MAX_SESSIONS_PER_CLIENT, 1..=10_000),
        max_recipients: read.number("max_recipients", default::MAX_RECIPIENTS, 1..=1_000),
        timeout: read.duration("timeout", default::TIMEOUT, Duration::from_secs(1)),
    };
    for (name, path) in [("certificate", &listener.certificate), ("key", &listener.key)] {
        if path.as_ref().is_some_and(|path| !path.is_absolute()) {
            read.error(name, format!("option {name} must be an absolute path"));
        }
    }
    if listener.certificate.is_some() != listener.key.is_some() {
        read.error("certificate", "options certificate and key belong together: set both or none");
    }
    if enabled && listener.interfaces.is_empty() && listener.addresses.is_empty() {
        let line = read.line();
        read.problem(Severity::Error, line, "listener without interface and without address: nothing to listen on");
    }
    read.finish();
    enabled.then_some(listener)
}

/// A login of a device; `known` are those before it.
fn user(section: &Section, known: &[User], problems: &mut Vec<Problem>) -> Option<User> {
    let mut read = Reader::new(section, problems);
    let enabled = read.flag("enabled", true);
    let user = User {
        section: section.name.clone().unwrap_or_default(),
        username: read.text("username").or(section.name.clone()).unwrap_or_default(),
        password: Secret::new(read.text("password").unwrap_or_default()),
        senders: read.list("sender"),
        accounts: read.list("account"),
    };
    for sender in &user.senders {
        // A domain is what would be an address with a name in front.
        if !is_address(sender) && !is_address(&format!("x@{sender}")) {
            read.error("sender", format!("list sender '{sender}' is neither a mail address nor a domain"));
        }
    }
    let line = read.line();
    if user.username.is_empty() {
        read.problem(Severity::Error, line, "a user needs a name: write config user 'camera' or option username");
    } else if known.iter().any(|other| other.username == user.username) {
        read.error("username", format!("a second user '{}'", user.username));
    }
    if enabled && user.password.is_empty() {
        let text = format!("user '{}' has no password: set option password", user.username);
        read.problem(Severity::Error, line, text);
    }
    read.finish();
    enabled.then_some(user)
}

fn account(section: &Section, stored: &Passwords, problems: &mut Vec<Problem>) -> Option<Account> {
    let mut read = Reader::new(section, problems);
    let enabled = read.flag("enabled", true);
    let name = section.name.clone().unwrap_or_default();
    let login = preset::login(&mut read, enabled, stored.of(&name));
    for text in stored.warnings(&name).filter(|_| enabled) {
        read.warn("password", text);
    }
    let empty = login.is_empty();
    let preset = login.preset;
    let tls = read.choice("tls", preset.as_ref().map_or(TlsMode::Implicit, |p| p.tls), &TLS_MODES);
    let usual_port = match tls {
        TlsMode::Implicit => default::PORT_IMPLICIT,
        TlsMode::StartTls => default::PORT_STARTTLS,
        TlsMode::None => default::PORT_NONE,
    };
    let account = Account {
        name,
        host: login.host,
        port: read.port("port", preset.as_ref().filter(|p| p.tls == tls).map_or(usual_port, |p| p.port), 1),
        provider: login.provider,
        tls,
        verify: read.flag("verify", true),
        ca_file: read.text("ca_file").map(PathBuf::from),
        fingerprint: fingerprint(&mut read),
        username: login.username,
        password: login.password,
        password_written: login.written,
        oauth: oauth::read(&mut read),
        from: login.from,
        from_policy: read.choice(
            "from_policy",
            preset.as_ref().map_or(FromPolicy::Account, |p| p.from_policy),
            &FROM_POLICIES,
        ),
        null_sender: read.flag("null_sender", preset.as_ref().is_none_or(|p| p.null_sender)),
        general: read.flag("default", true),
        connections: read.number("connections", default::CONNECTIONS, 1..=16),
        timeout: read.duration("timeout", default::ACCOUNT_TIMEOUT, Duration::from_secs(5)),
    };
    if account.timeout > Duration::from_secs(600) {
        read.error("timeout", "option timeout is more than 10m");
    }
    read.not_yet(&["daily_limit"]);
    if enabled && empty && account.tls != TlsMode::None {
        let (line, text) = (read.line(), format!("account '{}' is not filled in yet and is not used", account.name));
        read.problem(Severity::Warning, line, text);
    }
    let used = enabled && (!empty || account.tls == TlsMode::None);
    // A section that is switched off may be half filled in; only its words are checked.
    if used {
        let told = stored.warnings(&account.name).next().is_some();
        account_fits_together(&account, told, &mut read);
    }
    read.finish();
    used.then_some(account)
}

/// Routes at most: each has a schedule of its own.
const ROUTE_LIMIT: usize = 64;

fn route(section: &Section, accounts: &[Account], problems: &mut Vec<Problem>) -> Route {
    let mut read = Reader::new(section, problems);
    let names = read.list("account");
    for name in &names {
        if !accounts.iter().any(|account| account.name == *name) {
            read.error("account", format!("list account '{name}': there is no account of this name that is used"));
        }
    }
    if names.is_empty() {
        let line = read.line();
        read.problem(Severity::Error, line, "a route needs list account: the accounts that its mail leaves through");
    }
    let clients = read.each("client", "an address or a network", network);
    let route = Route {
        accounts: names,
        senders: read.each("sender", PATTERN_FORM, Pattern::parse),
        recipients: read.each("recipient", PATTERN_FORM, Pattern::parse),
        clients,
        logins: read.list("login"),
        devices: read.list("device"),
    };
    read.finish();
    route
}

fn network(text: &str) -> Option<IpNet> {
    text.parse::<IpNet>().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from)).map(|net| net.trunc())
}

/// `told`: what is wrong with the stored password is said already.
fn account_fits_together(account: &Account, told: bool, read: &mut Reader) {
    let line = read.line();
    if account.name.is_empty() {
        read.problem(Severity::Error, line, "an account needs a name: write config account 'provider'");
    }
    let host_byte = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_' | b':');
    if account.host.is_empty() {
        read.problem(
            Severity::Error,
            line,
            "option host is missing: the provider's mail server, such as smtp.example.com; or set option provider to one that 'smtprelay providers' lists",
        );
    } else if account.host.contains('{') {
        let text = format!("the host {} needs option region, such as eu-central-1", account.host);
        read.problem(Severity::Error, line, text);
    } else if !account.host.bytes().all(host_byte) {
        read.error("host", format!("option host '{}' is not a host name", account.host));
    }
    if !account.from.is_empty() && !is_address(&account.from) {
        read.error("from", format!("option from '{}' is not a mail address such as me@example.com", account.from));
    }
    if account.from.is_empty() && account.from_policy != FromPolicy::Keep {
        let text =
            "option from is missing: the address that the provider allows as sender (the username is no address)";
        read.problem(Severity::Error, line, text);
    }
    if let Some(oauth) = &account.oauth {
        oauth::fits_together(oauth, read);
        if account.username.is_none() {
            read.error("auth", "auth 'xoauth2' without option username: the address of the mailbox");
        }
    } else if account.misses_password() && !told {
        // Not an error: its mail is taken and waits, as with a password that is wrong.
        let text = format!(
            "account '{0}' has no password, its mail waits: smtprelay password {0} stores one, or set option password",
            account.name
        );
        read.warn("username", text);
    }
    if account.username.is_none() && !account.password.is_empty() {
        match account.password_written {
            true => read.error("password", "option password without option username"),
            false => read.warn("password", "the stored password is not used without option username"),
        }
    }
    if account.tls == TlsMode::None {
        if account.username.is_some() {
            let text = "tls 'none' with a username would send the password readable by all; use implicit or starttls";
            read.error("tls", text);
        } else {
            let text = format!("tls 'none': mail goes to {} unprotected and can be read on the way", account.host);
            read.warn("tls", text);
        }
    }
    if !account.verify && account.fingerprint.is_none() && account.tls != TlsMode::None {
        let text = format!("verify '0': anybody between here and {} can read mail and password", account.host);
        read.warn("verify", text);
    }
    let odd = matches!((account.tls, account.port), (TlsMode::Implicit, 587 | 25) | (TlsMode::StartTls, 465));
    if odd && account.provider == "custom" {
        let text = format!("port {} is unusual with this tls; implicit goes with 465, starttls with 587", account.port);
        read.warn("port", text);
    }
}

/// SHA-256 as hex, with or without colons, as `openssl x509 -fingerprint -sha256` prints it.
fn fingerprint(read: &mut Reader) -> Option<[u8; 32]> {
    let text = read.text("fingerprint")?;
    let digits: Option<Vec<u8>> =
        text.chars().filter(|c| *c != ':').map(|c| c.to_digit(16).and_then(|d| u8::try_from(d).ok())).collect();
    let bytes: Vec<u8> =
        digits.unwrap_or_default().chunks_exact(2).map(|pair| pair.iter().fold(0, |n, d| n << 4 | d)).collect();
    let digest = <[u8; 32]>::try_from(bytes).ok();
    if digest.is_none() {
        read.error("fingerprint", format!("option fingerprint '{text}' is not a SHA-256: 64 hex digits"));
    }
    digest
}
