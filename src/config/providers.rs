//! Presets of mail providers: what an owner would otherwise have to look up. `docs/providers.md` says what each fact
//! means and how to add a provider.
//!
//! Host, port and TLS of a provider hold for years; its limits and rules do not. So those are hints, shown with the
//! date when they were looked up, and never a reason to refuse mail.

use serde_json::{Value, json};

use super::settings::TlsMode;
use crate::message::{FromPolicy, is_address};

/// The presets as data, so that adding one is adding a line.
const PRESETS: &str = include_str!("providers.json");
/// Letters of an app password where they are shown in groups, and of such a group.
const APP_PASSWORD: usize = 16;
const GROUP: usize = 4;

/// What the login name of an account is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UserForm {
    /// The mail address.
    Address,
    /// The part of the mail address before the `@`.
    LocalPart,
    /// One word, the same for every account.
    Fixed(String),
    /// What the provider shows in its settings.
    Given,
    /// The token that is the password, too.
    Token,
    /// None is needed: the provider knows the router by its address.
    None,
}

/// What is to be set as password.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SecretKind {
    /// The password of the mailbox.
    Password,
    /// A second password for programs, made in the settings of the mailbox.
    AppPassword,
    /// As an app password; so called by Chinese providers.
    Code,
    /// What a sending service gives: a key or token.
    Token,
    /// None: the owner signs in in a browser.
    OAuth2,
    /// None at all.
    None,
}

/// What is known about one provider. Numbers are `None` where they are not known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Provider {
    /// Name in `option provider`.
    pub id: String,
    /// Name for people.
    pub title: String,
    /// Host of its submission service; may hold `{region}` or `{domain}`, see [`Provider::host`].
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// How the connection is protected. Never derived from the port: some providers are unusual.
    pub tls: TlsMode,
    /// Other ports, for people: `587 starttls`.
    pub also: String,
    /// What the login name is.
    pub user: UserForm,
    /// SASL mechanisms that it offers, for people; the greeting tells what is used.
    pub auth: String,
    /// What is to be set as password.
    pub secret: SecretKind,
    /// Whether it shows app passwords in groups of letters, whose blanks do not belong to them.
    pub drops_blanks: bool,
    /// Which senders it lets through.
    pub from_policy: FromPolicy,
    /// Whether it takes notices, which have no sender (RFC 5321 section 4.5.5).
    pub null_sender: bool,
    /// Largest message, in MB.
    pub size: Option<u64>,
    /// Mails a minute.
    pub per_minute: Option<u64>,
    /// Mails an hour.
    pub per_hour: Option<u64>,
    /// Mails a day; where the provider counts recipients, recipients.
    pub per_day: Option<u64>,
    /// Recipients of one message.
    pub recipients: Option<u64>,
    /// Whether a public document says so, or it is only known by hearsay. Concerns host, port, TLS and login name.
    pub confirmed: bool,
    /// When these facts were last looked up: `YYYY-MM-DD`.
    pub checked: String,
    /// Domains of its mailboxes, apart by blanks; `name.*` stands for the name under every top-level domain.
    pub domains: String,
    /// Where to get the password; may be empty.
    pub url: String,
    /// One sentence about it; may be empty.
    pub help: String,
}

fn provider(entry: &Value, checked: &str) -> Option<Provider> {
    let or = |key: &str, default: &str| entry.get(key).and_then(Value::as_str).unwrap_or(default).to_string();
    let number = |key: &str| entry.get(key).and_then(Value::as_u64);
    let flag = |key: &str, default: bool| entry.get(key).and_then(Value::as_bool).unwrap_or(default);
    let id = entry.get("id").and_then(Value::as_str)?;
    let secret = match or("secret", "password").as_str() {
        "password" => SecretKind::Password,
        "app" => SecretKind::AppPassword,
        "code" => SecretKind::Code,
        "token" => SecretKind::Token,
        "oauth2" => SecretKind::OAuth2,
        "none" => SecretKind::None,
        _ => return None,
    };
    let usual_help = match secret {
        SecretKind::AppPassword => "Make one in the security settings of the mailbox.",
        SecretKind::Code => "Switch on SMTP in webmail: it shows the code.",
        _ => "",
    };
    Some(Provider {
        id: id.to_string(),
        title: or("name", id),
        host: entry.get("host").and_then(Value::as_str)?.to_string(),
        port: number("port").and_then(|n| u16::try_from(n).ok())?,
        tls: match or("tls", "").as_str() {
            "implicit" => TlsMode::Implicit,
            "starttls" => TlsMode::StartTls,
            _ => return None,
        },
        also: or("also", ""),
        user: match or("user", "address").as_str() {
            "address" => UserForm::Address,
            "localpart" => UserForm::LocalPart,
            "given" => UserForm::Given,
            "token" => UserForm::Token,
            "none" => UserForm::None,
            fixed => UserForm::Fixed(fixed.strip_prefix('=')?.to_string()),
        },
        auth: or("auth", "PLAIN LOGIN"),
        secret,
        drops_blanks: flag("blanks", false),
        from_policy: match or("from", "account").as_str() {
            "account" => FromPolicy::Account,
            "domain" => FromPolicy::Domain,
            "keep" => FromPolicy::Keep,
            _ => return None,
        },
        null_sender: flag("null_sender", true),
        size: number("size"),
        per_minute: number("minute"),
        per_hour: number("hour"),
        per_day: number("day"),
        recipients: number("recipients"),
        confirmed: flag("confirmed", true),
        checked: or("checked", checked),
        domains: or("domains", ""),
        url: or("url", ""),
        help: or("help", usual_help),
    })
}

/// All presets, by name.
pub fn all() -> Vec<Provider> {
    let presets: Value = serde_json::from_str(PRESETS).unwrap_or_default();
    let checked = presets.get("checked").and_then(Value::as_str).unwrap_or_default();
    let list = presets.get("providers").and_then(Value::as_array);
    list.map(|list| list.iter().filter_map(|entry| provider(entry, checked)).collect()).unwrap_or_default()
}

/// The preset with this name.
pub fn find(id: &str) -> Option<Provider> {
    all().into_iter().find(|provider| provider.id == id)
}

/// The provider of the mailbox `address`, if its domain is one that only this provider has.
pub fn of_address(address: &str) -> Option<Provider> {
    let domain = address.rsplit_once('@')?.1.to_ascii_lowercase();
    let all = all();
    // A domain that is spelled out goes before one of many.
    let exact = all.iter().find(|provider| provider.domains.split_whitespace().any(|known| known == domain));
    exact.or_else(|| all.iter().find(|provider| provider.has_one_of_many(&domain))).cloned()
}

impl Provider {
    /// Whether `name.*` of the data means `domain`: a top-level domain below the name, or two labels like `co.uk`.
    fn has_one_of_many(&self, domain: &str) -> bool {
        let is_top = |rest: &str| match rest.split_once('.') {
            Some((second, top)) => matches!(second, "co" | "com" | "net" | "org") && top.len() == 2,
            None => rest.len() > 1,
        };
        let names = self.domains.split_whitespace().filter_map(|known| known.strip_suffix('*'));
        names.filter_map(|name| domain.strip_prefix(name)).any(is_top)
    }

    /// The host for one account. `{region}` is `region`; `{domain}` is the domain of `from` with dashes for dots, as
    /// Microsoft names the host of an organisation. What is not known stays in its brackets.
    pub fn host(&self, region: &str, from: &str) -> String {
        let domain = from.rsplit_once('@').map(|(_, domain)| domain.replace('.', "-")).unwrap_or_default();
        let fill = |host: String, name: &str, value: &str| match value {
            "" => host,
            value => host.replace(name, value),
        };
        fill(fill(self.host.clone(), "{region}", region), "{domain}", &domain)
    }

    /// The login name for an account with this `option username` and password. Where the login is no address, the
    /// option may still be one: it is the sender, then.
    pub fn login_name(&self, username: Option<&str>, password: &str) -> Option<String> {
        let name = match &self.user {
            UserForm::Address | UserForm::Given | UserForm::None => username?,
            UserForm::LocalPart => username?.split('@').next()?,
            UserForm::Fixed(word) => word,
            UserForm::Token => {
                let own = username.filter(|name| !is_address(name));
                own.or((!password.is_empty()).then_some(password))?
            }
        };
        Some(name.to_string())
    }

    /// `password` as it is meant. Some providers show app passwords as four groups of four letters, and so they are
    /// pasted; blanks are dropped from what has just that shape, and from nothing else.
    pub fn password(&self, password: &str) -> String {
        let groups: Vec<&str> = password.split_whitespace().collect();
        let joined = groups.concat();
        let shape = groups.iter().all(|group| group.len() == GROUP) || groups.len() == 1;
        let fits = shape && joined.len() == APP_PASSWORD && joined.bytes().all(|byte| byte.is_ascii_alphabetic());
        if self.drops_blanks && fits { joined } else { password.to_string() }
    }

    /// All facts, for programs. Names are those of the settings where there is such an option.
    pub fn to_json(&self) -> Value {
        let (username, word) = match &self.user {
            UserForm::Address => ("address", None),
            UserForm::LocalPart => ("localpart", None),
            UserForm::Fixed(word) => ("fixed", Some(word)),
            UserForm::Given => ("given", None),
            UserForm::Token => ("token", None),
            UserForm::None => ("none", None),
        };
        let secret = match self.secret {
            SecretKind::Password => "password",
            SecretKind::AppPassword => "app password",
            SecretKind::Code => "authorization code",
            SecretKind::Token => "key",
            SecretKind::OAuth2 => "oauth2",
            SecretKind::None => "none",
        };
        let from_policy = match self.from_policy {
            FromPolicy::Account => "account",
            FromPolicy::Domain => "domain",
            FromPolicy::Keep => "keep",
        };
        json!({
            "provider": self.id,
            "title": self.title,
            "host": self.host,
            "port": self.port,
            "tls": if self.tls == TlsMode::StartTls { "starttls" } else { "implicit" },
            "also": self.also,
            "username": username,
            "fixed_username": word,
            "secret": secret,
            "auth": self.auth,
            "from_policy": from_policy,
            "null_sender": self.null_sender,
            "size_mb": self.size,
            "per_minute": self.per_minute,
            "per_hour": self.per_hour,
            "per_day": self.per_day,
            "recipients": self.recipients,
            "domains": self.domains,
            "url": self.url,
            "help": self.help,
            "confirmed": self.confirmed,
            "checked": self.checked,
        })
    }
}

#[cfg(test)]
mod tests;
