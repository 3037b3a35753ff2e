// SPDX-License-Identifier: Apache-2.0
//! The settings as the program uses them: typed, complete, with every default in one place: `Default`.
//! `docs/reference/settings.md` lists the defaults; a test compares the two.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use log::LevelFilter;

use super::alias::Alias;
use super::channel::Channel;
use super::device::Device;
use super::escalation::Escalation;
use super::pattern::Pattern;
use super::reader::Keyword;
use crate::message::sender::Senders;
use crate::message::{FromPolicy, is_address};
use crate::secrets::vault::Left;
use crate::secrets::{MASK, Secret};

/// What the `250` to a message guarantees (design, section 6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// Complete in `spool`; survives a crash of the program.
    Memory,
    /// As `memory`, and moved to `safe_spool` when it is not delivered within a minute, and at shutdown.
    Deferred,
    /// On permanent storage, file and directory synced.
    Always,
}

impl Keyword for Durability {
    const WORDS: &'static [(&'static str, Self)] =
        &[("memory", Self::Memory), ("deferred", Self::Deferred), ("always", Self::Always)];
}

/// The meaning of a login by a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuthMode {
    /// Logins are offered and any is accepted, so that devices with and without one both work.
    Ignore,
    /// No login is offered.
    None,
    /// Logins are offered. One that is used must be valid; without one, mail is accepted as from any other device.
    Optional,
    /// Mail is only accepted after a login of a section `user`.
    Required,
}

impl Keyword for AuthMode {
    const WORDS: &'static [(&'static str, Self)] =
        &[("ignore", Self::Ignore), ("none", Self::None), ("optional", Self::Optional), ("required", Self::Required)];
}

/// How strictly a device must follow the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// Unambiguous deviations are tolerated.
    Tolerant,
    /// Only what RFC 5321 allows is accepted.
    Strict,
}

impl Keyword for Dialect {
    const WORDS: &'static [(&'static str, Self)] = &[("tolerant", Self::Tolerant), ("strict", Self::Strict)];
}

/// How a connection is encrypted, to providers and from devices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TlsMode {
    /// TLS from the first byte, usually port 465.
    Implicit,
    /// STARTTLS, required; usually port 587.
    StartTls,
    /// No encryption; only if explicitly set.
    None,
}

impl Keyword for TlsMode {
    const WORDS: &'static [(&'static str, Self)] =
        &[("implicit", Self::Implicit), ("starttls", Self::StartTls), ("none", Self::None)];
}

impl Keyword for FromPolicy {
    const WORDS: &'static [(&'static str, Self)] =
        &[("account", Self::Account), ("domain", Self::Domain), ("keep", Self::Keep)];
}

impl Keyword for LevelFilter {
    const WORDS: &'static [(&'static str, Self)] =
        &[("error", Self::Error), ("warning", Self::Warn), ("info", Self::Info), ("debug", Self::Debug)];
}

impl TlsMode {
    /// The usual port of a provider: RFC 8314, RFC 6409, plain SMTP.
    pub fn usual_port(self) -> u16 {
        match self {
            Self::Implicit => 465,
            Self::StartTls => 587,
            Self::None => 25,
        }
    }
}

/// The section `relay`: the global settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Relay {
    /// Whether the service is to run at all.
    pub enabled: bool,
    /// Our host name for providers and Received lines; `None` means the host's own name.
    pub hostname: Option<String>,
    /// Who is notified about failures that cannot be reported to the sender.
    pub admin: Option<String>,
    /// Directory of the queue.
    pub spool: PathBuf,
    /// Directory that survives power loss.
    pub safe_spool: Option<PathBuf>,
    /// The guarantee of the `250`.
    pub durability: Durability,
    /// The size limit of the queue in bytes.
    pub spool_limit: u64,
    /// Size limit of a message in bytes.
    pub message_limit: u64,
    /// How long delivery is attempted.
    pub retry_for: Duration,
    /// The delay after the first temporary failure of a message; doubles with each further one.
    pub retry_min: Duration,
    /// The maximum delay between two attempts.
    pub retry_max: Duration,
    /// After how long the sender is notified that a message is delayed; zero: never.
    pub delay_notice: Duration,
    /// Whether the admin gets a mail after each start of the system.
    pub notify_boot: bool,
    /// The program for events; `None`: none.
    pub hook: Option<PathBuf>,
    /// Directory of stored passwords and of the tokens of accounts that log in with OAuth 2.0.
    pub secrets: PathBuf,
    /// The user of the gateway after it was started as root; `root`: it stays root.
    pub user: String,
    /// Whether the service may run in a jail (ujail), where the system has one. For the init script.
    pub jail: bool,
    /// The log level.
    pub log_level: LevelFilter,
    /// Whether log, history and lists of the queue show subjects.
    pub log_subject: bool,
}

impl Default for Relay {
    fn default() -> Self {
        Self {
            enabled: true,
            hostname: None,
            admin: None,
            // A RAM disk on OpenWrt.
            spool: "/var/spool/smtprelay".into(),
            safe_spool: None,
            durability: Durability::Deferred,
            // Stands for what the memory allows, see `load`.
            spool_limit: 0,
            message_limit: 25 << 20,
            retry_for: Duration::from_secs(4 * 86_400),
            retry_min: Duration::from_secs(30),
            retry_max: Duration::from_secs(3600),
            delay_notice: Duration::from_secs(4 * 3600),
            notify_boot: false,
            // OpenWrt's dispatcher of hotplug scripts.
            hook: Some("/sbin/hotplug-call".into()),
            // It survives power cuts and system upgrades.
            secrets: "/etc/smtprelay".into(),
            // The package creates this user.
            user: "smtprelay".into(),
            jail: true,
            log_level: LevelFilter::Info,
            log_subject: true,
        }
    }
}

/// A section `listener`: where devices connect and which ones are allowed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listener {
    /// The name of the section.
    pub name: String,
    /// Networks whose addresses are listened on.
    pub interfaces: Vec<String>,
    /// Fixed addresses to listen on.
    pub addresses: Vec<IpAddr>,
    /// TCP port; 0 means any free one (for tests).
    pub port: u16,
    /// How connections are encrypted; with [`TlsMode::StartTls`] it is offered, not required.
    pub tls: TlsMode,
    /// Certificate chain for TLS, PEM or DER; `None` means the router's, or a generated one.
    pub certificate: Option<PathBuf>,
    /// Its private key, PEM or DER.
    pub key: Option<PathBuf>,
    /// The meaning of a login.
    pub auth: AuthMode,
    /// How strictly a device must follow the protocol.
    pub dialect: Dialect,
    /// Networks that may send. Empty: the subnets of the interfaces listened on, and this host.
    pub allow: Vec<IpNet>,
    /// Maximum number of sessions.
    pub max_sessions: u32,
    /// Maximum number of sessions per address.
    pub max_sessions_per_client: u32,
    /// Maximum number of recipients of one message.
    pub max_recipients: u32,
    /// The timeout for an idle device.
    pub timeout: Duration,
}

impl Default for Listener {
    fn default() -> Self {
        Self {
            name: String::new(),
            interfaces: Vec::new(),
            addresses: Vec::new(),
            port: 25,
            // Old devices try STARTTLS where it is offered, and give up.
            tls: TlsMode::None,
            certificate: None,
            key: None,
            auth: AuthMode::Ignore,
            dialect: Dialect::Tolerant,
            allow: Vec::new(),
            // Further sessions wait in the kernel's backlog, without an error.
            max_sessions: 600,
            // A further session of the same address gets a 421.
            max_sessions_per_client: 500,
            max_recipients: 100,
            // RFC 5321 section 4.5.3.2.7 requires at least five minutes.
            timeout: Duration::from_secs(300),
        }
    }
}

/// A section `user`: a login of a device, and its permissions.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct User {
    /// Name of the section; empty when it has none.
    pub section: String,
    /// Name of the login; no two users have the same.
    pub username: String,
    /// Its password, never empty.
    pub password: Secret,
    /// Addresses and domains that it may use as envelope sender; empty: all.
    pub senders: Vec<String>,
    /// Names of the accounts for its mail, first choice first; empty: the general ones.
    pub accounts: Vec<String>,
}

/// A section `account`: a provider and the login there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// The name of the section.
    pub name: String,
    /// Name of the preset, or `custom`.
    pub provider: String,
    /// Host name or address of the provider; its certificate must contain this name.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// How the connection is encrypted.
    pub tls: TlsMode,
    /// Whether the certificate is verified. Disabling this is for tests only.
    pub verify: bool,
    /// PEM file with the certificate authorities to trust instead of the system's.
    pub ca_file: Option<PathBuf>,
    /// Checksum of the files for certificates and login, as they were when the settings were read;
    /// `None` if it was not determined. With other files it is a different account.
    pub files: Option<u32>,
    /// SHA-256 of the only certificate to trust, regardless of its issuer.
    pub fingerprint: Option<[u8; 32]>,
    /// Login name; `None` sends without a login.
    pub username: Option<String>,
    /// Password of the login.
    pub password: Secret,
    /// Whether it is `option password`: this takes precedence over a stored one.
    pub password_written: bool,
    /// The source of the tokens that replace the password; `None`: the password is used.
    pub oauth: Option<OAuth>,
    /// The address that the provider allows as sender; may be empty with [`FromPolicy::Keep`].
    pub from: String,
    /// The treatment of other sender addresses.
    pub from_policy: FromPolicy,
    /// Whether mail that matches no route may be sent through it.
    pub general: bool,
    /// Whether the provider accepts mail without a sender, such as bounces (RFC 5321 section 4.5.5).
    pub null_sender: bool,
    /// Maximum number of connections.
    pub connections: u32,
    /// The timeout for a reply of the provider.
    pub timeout: Duration,
    /// How messages are sent if it is a section `channel`, as HTTPS requests; `None`: as mail.
    pub channel: Option<Box<Channel>>,
}

impl Default for Account {
    fn default() -> Self {
        Self {
            name: String::new(),
            provider: "custom".into(),
            host: String::new(),
            // Stands for the usual one, see `account`.
            port: 0,
            tls: TlsMode::Implicit,
            verify: true,
            ca_file: None,
            files: None,
            fingerprint: None,
            username: None,
            password: Secret::default(),
            password_written: false,
            oauth: None,
            from: String::new(),
            from_policy: FromPolicy::Account,
            general: true,
            null_sender: true,
            connections: 2,
            // The other times of a delivery are derived from it.
            timeout: Duration::from_secs(120),
            channel: None,
        }
    }
}

/// How an account logs in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LoginMethod {
    /// With a password.
    Password,
    /// With OAuth 2.0 tokens (RFC 6749).
    Tokens,
}

impl Keyword for LoginMethod {
    const WORDS: &'static [(&'static str, Self)] = &[("password", Self::Password), ("xoauth2", Self::Tokens)];
}

/// The issuer of the tokens.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Issuer {
    /// Gmail and Google Workspace: its device flow issues no tokens for mail, so an address is copied back.
    Google,
    /// Microsoft 365 and outlook.com: device flow.
    Microsoft,
    /// Any issuer, specified by the URLs of the account.
    #[default]
    Custom,
}

impl Keyword for Issuer {
    const WORDS: &'static [(&'static str, Self)] =
        &[("google", Self::Google), ("microsoft", Self::Microsoft), ("custom", Self::Custom)];
}

/// How an account gets its tokens.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
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

/// A section `route`: which accounts are used for some mail.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Route {
    /// Names of the accounts, first choice first.
    pub accounts: Vec<String>,
    /// Envelope senders; empty: all.
    pub senders: Vec<Pattern>,
    /// Recipients; empty: all.
    pub recipients: Vec<Pattern>,
    /// Networks of devices; empty: all, and programs on this host.
    pub clients: Vec<IpNet>,
    /// Verified logins, by the user's section or name; empty: all, and mail without a login.
    pub logins: Vec<String>,
    /// Names of sections `device`; empty: all, and clients without one.
    pub devices: Vec<String>,
    /// Mail may take its channels only after this time, and all of its accounts if it has no others; zero: at once.
    pub after: Duration,
}

/// All settings.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settings {
    /// The section `relay`.
    pub relay: Relay,
    /// Enabled sections `listener`.
    pub listeners: Vec<Listener>,
    /// Enabled sections `user`.
    pub users: Vec<User>,
    /// Enabled sections `account`, in the order of the file, then enabled sections `channel`.
    pub accounts: Vec<Account>,
    /// Sections `route`, in the order of the file: the first match applies.
    pub routes: Vec<Route>,
    /// Sections `device`, in the order of the file.
    pub devices: Vec<Device>,
    /// Enabled sections `escalation`, in the order of the file: the first match applies.
    pub escalations: Vec<Escalation>,
    /// Sections `alias`.
    pub aliases: Vec<Alias>,
    /// The stored passwords of accounts without a section, as they were when the settings were read.
    pub left: Vec<Left>,
}

impl Settings {
    /// The From address of mail of the gateway itself; `hostname` is our own name.
    pub fn own_address(&self, hostname: &str) -> String {
        let from = self.accounts.first().map(|account| account.from.clone()).filter(|from| is_address(from));
        from.unwrap_or_else(|| format!("postmaster@{hostname}"))
    }
}

impl Account {
    /// Which senders are accepted.
    pub fn senders(&self) -> Senders<'_> {
        Senders { policy: self.from_policy, address: &self.from, null: self.null_sender }
    }

    /// The login name for display: with some providers it is a secret, the same as the password.
    pub fn shown_username(&self) -> &str {
        match self.username.as_deref() {
            Some(name) if name == self.password.expose() && !name.is_empty() => MASK,
            name => name.unwrap_or_default(),
        }
    }
}

impl Relay {
    /// Bytes of the largest message that is accepted: never more than an empty queue has for one client, including
    /// what is added to it.
    pub fn largest_message(&self) -> u64 {
        self.message_limit.min(self.spool_limit / 4 * 3)
    }

    /// Our host name: the setting, or the host's, or a literal that every server accepts (RFC 5321 section 4.1.4).
    pub fn hostname(&self) -> String {
        self.hostname.clone().unwrap_or_else(crate::system::host_name)
    }

    /// The effect of a power cut on queued mail, in one sentence.
    pub fn promise(&self) -> String {
        let spool = self.spool.display();
        match (self.durability, &self.safe_spool) {
            (Durability::Always, Some(_)) => {
                "mail is on stable storage before it is accepted: a power cut loses nothing".into()
            }
            (Durability::Always, None) => format!(
                "mail is written through to {spool} before it is accepted: a power cut loses nothing if that is flash or disk, and everything if it is RAM"
            ),
            (Durability::Deferred, Some(safe)) => format!(
                "a power cut loses undelivered mail of the last minute; mail that waits longer, and all mail at a reboot, is moved to {}",
                safe.display()
            ),
            (Durability::Deferred, None) => format!(
                "no safe_spool is set: a power cut or a reboot loses all mail queued in {spool} if that is RAM; set safe_spool to a directory on flash or USB"
            ),
            (Durability::Memory, _) => format!(
                "durability is 'memory': a power cut or a reboot loses all mail queued in {spool} if that is RAM"
            ),
        }
    }

    /// The directory that a message is accepted into: permanent storage with [`Durability::Always`].
    pub fn accept_spool(&self) -> &PathBuf {
        match (self.durability, &self.safe_spool) {
            (Durability::Always, Some(safe)) => safe,
            _ => &self.spool,
        }
    }
}
