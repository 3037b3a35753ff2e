// SPDX-License-Identifier: Apache-2.0
//! The settings as the program uses them: typed, complete, with every default in one place.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;

use super::alias::Alias;
use super::device::Device;
use super::oauth::OAuth;
use super::pattern::Pattern;
use super::preset::CUSTOM;
use super::providers;
use crate::message::sender::Senders;
use crate::message::{FromPolicy, is_address};
use crate::secrets::vault::Left;
use crate::secrets::{MASK, Secret};

/// Every default of every option. `docs/reference/settings.md` lists them; a test compares the two.
pub mod default {
    use super::{AuthMode, Dialect, Durability, Duration, TlsMode};
    use log::LevelFilter;

    /// The queue of accepted mail; a RAM disk on OpenWrt.
    pub const SPOOL: &str = "/var/spool/smtprelay";
    /// When the `250` is sent.
    pub const DURABILITY: Durability = Durability::Deferred;
    /// The size limit of the queue in bytes; on a RAM disk [`crate::system::memory::queue_limit`] reduces it.
    pub const SPOOL_LIMIT: u64 = 32 << 20;
    /// Size limit of a message in bytes.
    pub const MESSAGE_LIMIT: u64 = 25 << 20;
    /// How long delivery is attempted.
    pub const RETRY_FOR: Duration = Duration::from_secs(4 * 86_400);
    /// The delay after the first temporary failure of a message.
    pub const RETRY_MIN: Duration = Duration::from_secs(30);
    /// The maximum delay between two attempts.
    pub const RETRY_MAX: Duration = Duration::from_secs(3600);
    /// After how long the sender is notified that a message is delayed.
    pub const DELAY_NOTICE: Duration = Duration::from_secs(4 * 3600);
    /// The program for events: OpenWrt's dispatcher of hotplug scripts.
    pub const HOOK: &str = "/sbin/hotplug-call";
    /// The directory of passwords and tokens: survives power cuts and system upgrades.
    pub const SECRETS: &str = "/etc/smtprelay";
    /// The user of the gateway after it was started as root; the package creates it.
    pub const USER: &str = "smtprelay";
    /// The log level.
    pub const LOG_LEVEL: LevelFilter = LevelFilter::Info;
    /// Where devices connect.
    pub const LISTENER_PORT: u16 = 25;
    /// The meaning of a login of a device.
    pub const AUTH: AuthMode = AuthMode::Ignore;
    /// The encryption for devices: old ones try STARTTLS where it is offered, and give up.
    pub const LISTENER_TLS: TlsMode = TlsMode::None;
    /// How strictly a device must follow the protocol.
    pub const DIALECT: Dialect = Dialect::Tolerant;
    /// Maximum number of sessions of all devices. Further ones wait in the kernel's backlog, without an error.
    pub const MAX_SESSIONS: u32 = 600;
    /// Maximum number of sessions per address; a further one gets a 421.
    pub const MAX_SESSIONS_PER_CLIENT: u32 = 500;
    /// Maximum number of recipients of one message.
    pub const MAX_RECIPIENTS: u32 = 100;
    /// The timeout for an idle device: RFC 5321 section 4.5.3.2.7 requires at least five minutes.
    pub const TIMEOUT: Duration = Duration::from_secs(300);
    /// TLS from the first byte (RFC 8314).
    pub const PORT_IMPLICIT: u16 = 465;
    /// Submission with STARTTLS (RFC 6409).
    pub const PORT_STARTTLS: u16 = 587;
    /// Plain SMTP.
    pub const PORT_NONE: u16 = 25;
    /// The timeout for a provider's reply; the other times of a delivery are derived from it.
    pub const ACCOUNT_TIMEOUT: Duration = Duration::from_secs(120);
    /// Maximum number of connections to one provider.
    pub const CONNECTIONS: u32 = 2;
}

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

/// How strictly a device must follow the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// Unambiguous deviations are tolerated.
    Tolerant,
    /// Only what RFC 5321 allows is accepted.
    Strict,
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
    pub log_level: log::LevelFilter,
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

/// A section `user`: a login of a device, and its permissions.
#[derive(Debug, Clone, PartialEq, Eq)]
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
    /// SHA-256 over the files for certificates and login, as they were when the settings were read;
    /// `None` if it was not determined. With other files it is a different account.
    pub files: Option<[u8; 32]>,
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
}

/// All settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The section `relay`.
    pub relay: Relay,
    /// Enabled sections `listener`.
    pub listeners: Vec<Listener>,
    /// Enabled sections `user`.
    pub users: Vec<User>,
    /// Enabled sections `account`, in the order of the file.
    pub accounts: Vec<Account>,
    /// Sections `route`, in the order of the file: the first match applies.
    pub routes: Vec<Route>,
    /// Sections `device`, in the order of the file.
    pub devices: Vec<Device>,
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

    /// Whether a login is impossible because the password is missing.
    pub fn misses_password(&self) -> bool {
        let named = self.username.is_some() || self.is_named_by_token();
        self.oauth.is_none() && self.password.is_empty() && named
    }

    /// The warning about an account whose password is missing when the settings are read.
    pub fn password_warning(&self) -> String {
        format!(
            "account '{0}' has no password, so its mail stays in the queue: store one with smtprelay password {0}, or set option password",
            self.name
        )
    }

    /// Whether the login name is the same as the password.
    fn is_named_by_token(&self) -> bool {
        let same = || self.username.as_deref().is_none_or(|name| name == self.password.expose());
        self.provider != CUSTOM && same() && providers::find(&self.provider).is_some_and(|known| known.user == "token")
    }

    /// The same account with a password that has just been stored, as the settings would read it; empty: without one.
    pub fn with_password(&self, password: &Secret) -> Self {
        let mut account = self.clone();
        let known = providers::find(&self.provider).filter(|_| self.provider != CUSTOM);
        let meant = known.as_ref().map(|known| Secret::new(known.password(password.expose())));
        if self.is_named_by_token() {
            account.username = Some(password.expose().to_string()).filter(|name| !name.is_empty());
        }
        account.password = meant.unwrap_or_else(|| password.clone());
        account
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
