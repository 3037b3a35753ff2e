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
use crate::secrets::left::Left;
use crate::secrets::{MASK, Secret};

/// Every default of every option. `docs/reference/settings.md` lists them for people; a test compares the two.
pub mod default {
    use super::{AuthMode, Dialect, Durability, Duration, TlsMode};
    use log::LevelFilter;

    /// Where accepted mail is kept; a RAM disk on OpenWrt.
    pub const SPOOL: &str = "/var/spool/smtprelay";
    /// When the `250` is given.
    pub const DURABILITY: Durability = Durability::Deferred;
    /// Bytes that the queue may take; in a RAM disk [`crate::system::memory::queue_limit`] makes it less.
    pub const SPOOL_LIMIT: u64 = 32 << 20;
    /// Bytes of the largest message.
    pub const MESSAGE_LIMIT: u64 = 25 << 20;
    /// How long delivery is tried.
    pub const RETRY_FOR: Duration = Duration::from_secs(4 * 86_400);
    /// How long a message waits after its first temporary refusal.
    pub const RETRY_MIN: Duration = Duration::from_secs(30);
    /// How long it waits at most between two attempts.
    pub const RETRY_MAX: Duration = Duration::from_secs(3600);
    /// After how long the sender hears that a message is still waiting.
    pub const DELAY_NOTICE: Duration = Duration::from_secs(4 * 3600);
    /// What is run when mail stops or starts to flow: OpenWrt's dispatcher of hotplug scripts.
    pub const HOOK: &str = "/sbin/hotplug-call";
    /// Where passwords and tokens are kept: survives power cuts and upgrades of the system.
    pub const SECRETS: &str = "/etc/smtprelay";
    /// Who the gateway becomes when it was started as root; the package makes this user.
    pub const USER: &str = "smtprelay";
    /// What is logged.
    pub const LOG_LEVEL: LevelFilter = LevelFilter::Info;
    /// Where devices connect.
    pub const LISTENER_PORT: u16 = 25;
    /// What a login of a device means.
    pub const AUTH: AuthMode = AuthMode::Ignore;
    /// How connections of devices are protected: old ones try STARTTLS where it is offered, and give up.
    pub const LISTENER_TLS: TlsMode = TlsMode::None;
    /// How closely a device must keep to the protocol.
    pub const DIALECT: Dialect = Dialect::Tolerant;
    /// Sessions at once, all devices together. More wait in the kernel's backlog, without an error.
    pub const MAX_SESSIONS: u32 = 600;
    /// Sessions at once of one address; a further one gets a 421.
    pub const MAX_SESSIONS_PER_CLIENT: u32 = 500;
    /// Recipients of one message.
    pub const MAX_RECIPIENTS: u32 = 100;
    /// How long a silent device is waited for: RFC 5321 section 4.5.3.2.7 asks for at least five minutes.
    pub const TIMEOUT: Duration = Duration::from_secs(300);
    /// TLS from the first byte (RFC 8314).
    pub const PORT_IMPLICIT: u16 = 465;
    /// Submission with STARTTLS (RFC 6409).
    pub const PORT_STARTTLS: u16 = 587;
    /// Plain SMTP.
    pub const PORT_NONE: u16 = 25;
    /// How long a provider may take for a reply; the other times of a delivery follow from it.
    pub const ACCOUNT_TIMEOUT: Duration = Duration::from_secs(120);
    /// Connections to one provider at once.
    pub const CONNECTIONS: u32 = 2;
}

/// What the `250` to a message means (design, section 6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// Complete in `spool`; survives a crash of the program.
    Memory,
    /// As `memory`, and moved to `safe_spool` when it is not delivered within a minute, and at shutdown.
    Deferred,
    /// On stable storage, file and directory synced.
    Always,
}

/// What a login by a device means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuthMode {
    /// Logins are offered and any is accepted, so that devices with and without one both work.
    Ignore,
    /// No login is offered.
    None,
    /// Logins are offered. One that is tried must be right; without one, mail is taken as from any other device.
    Optional,
    /// Mail is only taken after a login of a section `user`.
    Required,
}

/// How closely a device must keep to the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// What is meant counts.
    Tolerant,
    /// What RFC 5321 says counts.
    Strict,
}

/// How a connection is protected, towards providers and towards devices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TlsMode {
    /// TLS from the first byte, usually port 465.
    Implicit,
    /// STARTTLS, required; usually port 587.
    StartTls,
    /// No protection; only when spelled out.
    None,
}

/// The section `relay`: everything that exists once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Relay {
    /// Whether the service is to run at all.
    pub enabled: bool,
    /// Our name towards providers and in Received lines; `None` means the host's own name.
    pub hostname: Option<String>,
    /// Who hears about failures that the sender can't be told of.
    pub admin: Option<String>,
    /// Directory of the queue.
    pub spool: PathBuf,
    /// Directory that survives power loss.
    pub safe_spool: Option<PathBuf>,
    /// What the `250` means.
    pub durability: Durability,
    /// Bytes that the queue may take.
    pub spool_limit: u64,
    /// Bytes of the largest message.
    pub message_limit: u64,
    /// How long delivery is tried.
    pub retry_for: Duration,
    /// How long a message waits after its first temporary refusal; doubles with each further one.
    pub retry_min: Duration,
    /// How long it waits at most between two attempts.
    pub retry_max: Duration,
    /// After how long the sender hears that a message is still waiting; zero: never.
    pub delay_notice: Duration,
    /// Whether the admin gets a mail after each start of the system.
    pub notify_boot: bool,
    /// Program that is run when mail stops or starts to flow; `None`: none.
    pub hook: Option<PathBuf>,
    /// Directory of stored passwords and of the tokens of accounts that log in with OAuth 2.0.
    pub secrets: PathBuf,
    /// Who the gateway becomes when it was started as root; `root`: it stays root.
    pub user: String,
    /// Whether the service may run in a jail (ujail), where the system has one. For the init script.
    pub jail: bool,
    /// What is logged.
    pub log_level: log::LevelFilter,
}

/// A section `listener`: where devices connect and who may.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listener {
    /// Name of the section.
    pub name: String,
    /// Networks whose addresses are listened on.
    pub interfaces: Vec<String>,
    /// Fixed addresses.
    pub addresses: Vec<IpAddr>,
    /// TCP port; 0 means any free one (for tests).
    pub port: u16,
    /// How connections are protected; with [`TlsMode::StartTls`] it is offered, not required.
    pub tls: TlsMode,
    /// Certificate chain for TLS, PEM or DER; `None` means the router's, or one of our own.
    pub certificate: Option<PathBuf>,
    /// Its private key, PEM or DER.
    pub key: Option<PathBuf>,
    /// What a login means.
    pub auth: AuthMode,
    /// How closely a device must keep to the protocol.
    pub dialect: Dialect,
    /// Networks that may send. Empty: the subnets of the interfaces listened on, and this host.
    pub allow: Vec<IpNet>,
    /// Sessions at once in all.
    pub max_sessions: u32,
    /// Sessions at once of one address.
    pub max_sessions_per_client: u32,
    /// Recipients of one message.
    pub max_recipients: u32,
    /// How long a silent device is waited for.
    pub timeout: Duration,
}

/// A section `user`: a login of a device, and what it may do.
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
    /// Names of the accounts that its mail leaves by, first choice first; empty: as for all others.
    pub accounts: Vec<String>,
}

/// A section `account`: a provider and the login there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// Name of the section.
    pub name: String,
    /// Name of the preset, or `custom`.
    pub provider: String,
    /// Host name or address of the provider; the name that its certificate must carry.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// How the connection is protected.
    pub tls: TlsMode,
    /// Whether the certificate is checked. Off is for a lab only.
    pub verify: bool,
    /// PEM file with the authorities to trust instead of the system's.
    pub ca_file: Option<PathBuf>,
    /// SHA-256 over the files that decide whom it trusts and how it logs in, as they were when the settings were read;
    /// `None` where nobody has looked. With other files it is another account.
    pub files: Option<[u8; 32]>,
    /// SHA-256 of the one certificate to trust, whoever signed it.
    pub fingerprint: Option<[u8; 32]>,
    /// Login name; `None` sends without a login.
    pub username: Option<String>,
    /// Password of the login.
    pub password: Secret,
    /// Whether it is `option password`: that goes before a stored one.
    pub password_written: bool,
    /// Where the tokens come from that take the place of the password; `None`: it is the password.
    pub oauth: Option<OAuth>,
    /// The address that the provider allows as sender; may be empty with [`FromPolicy::Keep`].
    pub from: String,
    /// What happens to other sender addresses.
    pub from_policy: FromPolicy,
    /// Whether mail that no route names may leave through it.
    pub general: bool,
    /// Whether the provider takes mail without a sender, as notices are (RFC 5321 section 4.5.5).
    pub null_sender: bool,
    /// Connections at once.
    pub connections: u32,
    /// How long the provider may take for a reply.
    pub timeout: Duration,
}

/// A section `route`: which accounts some mail leaves through.
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
    /// Sections `route`, in the order of the file: the first that fits counts.
    pub routes: Vec<Route>,
    /// Sections `device`, in the order of the file.
    pub devices: Vec<Device>,
    /// Sections `alias`.
    pub aliases: Vec<Alias>,
    /// What is stored for accounts that have no section, as it was when the settings were read.
    pub left: Vec<Left>,
}

impl Settings {
    /// The address that mail of the gateway itself comes from in its header; `hostname` is our own name.
    pub fn own_address(&self, hostname: &str) -> String {
        let from = self.accounts.first().map(|account| account.from.clone()).filter(|from| is_address(from));
        from.unwrap_or_else(|| format!("postmaster@{hostname}"))
    }
}

impl Account {
    /// Which senders may pass.
    pub fn senders(&self) -> Senders<'_> {
        Senders { policy: self.from_policy, address: &self.from, null: self.null_sender }
    }

    /// Whether there can be no login for lack of a password.
    pub fn misses_password(&self) -> bool {
        let named = self.username.is_some() || self.is_named_by_token();
        self.oauth.is_none() && self.password.is_empty() && named
    }

    /// What is said of an account whose password is missing when the settings are read.
    pub fn password_warning(&self) -> String {
        format!(
            "account '{0}' has no password, its mail waits: smtprelay password {0} stores one, or set option password",
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

    /// The login name as it may be shown: with some providers it is a secret, the same as the password.
    pub fn shown_username(&self) -> &str {
        match self.username.as_deref() {
            Some(name) if name == self.password.expose() && !name.is_empty() => MASK,
            name => name.unwrap_or_default(),
        }
    }
}

impl Relay {
    /// Bytes of the largest message that is taken: never more than an empty queue has for one client, with what is added
    /// to it.
    pub fn largest_message(&self) -> u64 {
        self.message_limit.min(self.spool_limit / 4 * 3)
    }

    /// Our own name: the setting, or the host's, or a literal that every server takes (RFC 5321 section 4.1.4).
    pub fn hostname(&self) -> String {
        self.hostname.clone().unwrap_or_else(crate::system::host_name)
    }

    /// What a power cut would do to waiting mail, in one sentence.
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
                "a power cut loses mail of the last minute that has not left; what waits longer, and everything at a reboot, is moved to {}",
                safe.display()
            ),
            (Durability::Deferred, None) => format!(
                "no safe_spool is set: a power cut or a reboot loses all mail that waits in {spool} if that is RAM; set safe_spool to a directory on flash or USB"
            ),
            (Durability::Memory, _) => format!(
                "durability is 'memory': a power cut or a reboot loses all mail that waits in {spool} if that is RAM"
            ),
        }
    }

    /// The directory that a message is accepted into: stable storage with [`Durability::Always`].
    pub fn accept_spool(&self) -> &PathBuf {
        match (self.durability, &self.safe_spool) {
            (Durability::Always, Some(safe)) => safe,
            _ => &self.spool,
        }
    }
}
