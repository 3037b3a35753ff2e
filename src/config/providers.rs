// SPDX-License-Identifier: Apache-2.0
//! Presets of mail providers: what would otherwise have to be looked up, and how an account uses one. `docs/guide/providers.md` explains each fact
//! and how to add a provider.
//!
//! Host, port and TLS of a provider stay the same for years; its limits and rules do not. So those are hints, shown
//! with the date of their verification, and never a reason to refuse mail.

use serde_json::Value;

use super::presets;
use super::reader::{Keyword, Reader, Severity};
use super::settings::{Account, TlsMode};
use crate::message::{FromPolicy, is_address, is_one_address};
use crate::secrets::Secret;

/// Name of the provider that has no preset.
pub const CUSTOM: &str = "custom";

/// The presets as data, so that a provider can be added with one line.
const PRESETS: &str = include_str!("providers.json");
/// The length of an app password that is shown in groups, and of such a group.
const APP_PASSWORD: usize = 16;
const GROUP: usize = 4;

/// The default values that are left out of an entry.
const USUAL: [(&str, &str); 4] =
    [("user", "address"), ("auth", "PLAIN LOGIN"), ("secret", "password"), ("from", "account")];

/// The part of a preset that the settings use. [`entries`] has all the facts.
pub struct Provider {
    /// Name in `option provider`.
    pub id: String,
    /// Host of its submission service; may contain `{region}` or `{domain}`, see [`Provider::host`].
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// How the connection is encrypted. Never derived from the port: some providers are unusual.
    pub tls: TlsMode,
    /// The login name: `address`, `localpart` (the part before the `@`), `=word` (that word), `given` (assigned by
    /// the provider), `token` (the same as the password) or `none`.
    pub user: String,
    /// The kind of password: `password`, `app`, `code`, `token`, `oauth2` (no password works) or `none`.
    pub secret: String,
    /// Whose OAuth 2.0 client signs in to it, as in `option oauth`; empty if a sign-in needs settings of its own.
    pub issuer: String,
    /// Whether it shows app passwords in groups of letters, whose spaces are not part of them.
    pub drops_blanks: bool,
    /// Which senders it accepts.
    pub from_policy: FromPolicy,
    /// Whether it accepts bounces, which have no sender (RFC 5321 section 4.5.5).
    pub null_sender: bool,
    /// Domains of its mailboxes, separated by spaces; `name.*` stands for the name under every top-level domain.
    pub domains: String,
    /// The page where the password is created; may be empty.
    pub url: String,
    /// One sentence about the password; may be empty.
    pub help: String,
}

fn text<'a>(entry: &'a Value, key: &str) -> &'a str {
    entry.get(key).and_then(Value::as_str).unwrap_or_default()
}

fn provider(entry: Value) -> Option<Provider> {
    let entry = &completed(entry);
    let own = |key: &str| text(entry, key).to_string();
    let flag = |key: &str| entry.get(key).and_then(Value::as_bool);
    Some(Provider {
        id: own("id"),
        host: own("host"),
        port: entry.get("port").and_then(Value::as_u64).and_then(|n| u16::try_from(n).ok())?,
        tls: TlsMode::of(text(entry, "tls"))?,
        user: own("user"),
        secret: own("secret"),
        issuer: own("issuer"),
        drops_blanks: flag("blanks").unwrap_or(false),
        from_policy: FromPolicy::of(text(entry, "from"))?,
        null_sender: flag("null_sender").unwrap_or(true),
        domains: own("domains"),
        url: own("url"),
        help: own("help"),
    })
}

/// The data, by name: one object per provider, with the fields that `docs/guide/providers.md` explains. Missing fields
/// are filled in if there is a default.
pub fn entries() -> Vec<Value> {
    let checked = presets::text(PRESETS, "\"checked\":\"");
    let mut entries: Vec<Value> = presets::all(PRESETS).map(completed).collect();
    for entry in entries.iter_mut().filter_map(Value::as_object_mut) {
        entry.entry("checked").or_insert_with(|| checked.into());
    }
    entries
}

/// An entry with the default values that were left out.
fn completed(mut entry: Value) -> Value {
    if let Some(fields) = entry.as_object_mut() {
        for (key, usual) in USUAL {
            fields.entry(key).or_insert_with(|| usual.into());
        }
    }
    entry
}

/// All presets, by name.
pub fn all() -> Vec<Provider> {
    presets::all(PRESETS).filter_map(provider).collect()
}

/// The preset with this name, which is case-insensitive.
pub fn find(id: &str) -> Option<Provider> {
    provider(presets::find(PRESETS, &id.to_ascii_lowercase())?)
}

/// The provider of the mailbox `address`, if its domain belongs to this provider alone.
pub fn of_address(address: &str) -> Option<Provider> {
    let domain = address.rsplit_once('@')?.1.to_ascii_lowercase();
    let known = || presets::lines(PRESETS).map(|line| (line, presets::text(line, "\"domains\":\"")));
    // An exact domain takes precedence over a wildcard.
    let exact = known().find(|(_, domains)| domains.split_whitespace().any(|known| known == domain));
    let (line, _) = exact.or_else(|| known().find(|(_, domains)| has_one_of_many(domains, &domain)))?;
    provider(presets::parse(line)?)
}

/// Whether `name.*` of the data matches `domain`: a top-level domain after the name, or two labels like `co.uk`.
fn has_one_of_many(domains: &str, domain: &str) -> bool {
    let is_top = |rest: &str| match rest.split_once('.') {
        Some((second, top)) => matches!(second, "co" | "com" | "net" | "org") && top.len() == 2,
        None => rest.len() > 1,
    };
    let names = domains.split_whitespace().filter_map(|known| known.strip_suffix('*'));
    names.filter_map(|name| domain.strip_prefix(name)).any(is_top)
}

impl Provider {
    /// The host for an account. `{region}` is `region`; `{domain}` is the domain of `from` with dashes for dots, as
    /// Microsoft names the host of an organisation. Unknown values stay in their brackets.
    pub fn host(&self, region: &str, from: &str) -> String {
        let domain = from.rsplit_once('@').map(|(_, domain)| domain.replace('.', "-")).unwrap_or_default();
        let fill = |host: String, name: &str, value: &str| match value {
            "" => host,
            value => host.replace(name, value),
        };
        fill(fill(self.host.clone(), "{region}", region), "{domain}", &domain)
    }

    /// The login name for an account with this `option username` and password. Where the login is not an address, the
    /// option may still be one: then it is the sender.
    pub fn login_name(&self, username: Option<&str>, password: &str) -> Option<String> {
        let name = match self.user.as_str() {
            "localpart" => username?.split('@').next()?,
            "token" => {
                let own = username.filter(|name| !is_address(name));
                own.or((!password.is_empty()).then_some(password))?
            }
            form => match form.strip_prefix('=') {
                Some(word) => word,
                None => username?,
            },
        };
        Some(name.to_string())
    }

    /// The effective form of `password`. Some providers show app passwords as four groups of four letters, and users
    /// paste them that way; spaces are removed from passwords of exactly this form only.
    pub fn password(&self, password: &str) -> String {
        let groups: Vec<&str> = password.split_whitespace().collect();
        let joined = groups.concat();
        let shape = groups.iter().all(|group| group.len() == GROUP) || groups.len() == 1;
        let fits = shape && joined.len() == APP_PASSWORD && joined.bytes().all(|byte| byte.is_ascii_alphabetic());
        if self.drops_blanks && fits { joined } else { password.to_string() }
    }
}

/// Reads the options of an account that depend on its provider, and applies the preset. `account` has the stored
/// password, which is used without `option password`. If the section is not `enabled`, only the keywords are checked.
///
/// Returns the preset, and whether the destination of mail has not been configured yet: as in the shipped file.
pub fn login(read: &mut Reader<'_>, enabled: bool, account: &mut Account) -> (Option<Provider>, bool) {
    account.provider = read.text("provider").unwrap_or_else(|| CUSTOM.into());
    let given = read.text("username");
    let host = read.text("host");
    let named = Some(account.provider.as_str()).filter(|provider| *provider != CUSTOM);
    let mut preset = named.and_then(find);
    if preset.is_none() && named.is_some() {
        let text = format!(
            "option provider '{}' is not custom or one that 'smtprelay providers' lists; without it, the provider is found by the address",
            account.provider
        );
        read.error("provider", text);
    }
    // An account without a host could not be used at all, so this never diverts mail from its destination.
    let address = given.as_deref().filter(|_| account.provider == CUSTOM && host.is_none());
    if let Some((address, known)) = address.and_then(|address| Some((address, of_address(address)?))) {
        if enabled {
            let text = format!("provider {}, recognised by the address {address}", known.id);
            read.problem_at("username", Severity::Note, text);
        }
        account.provider.clone_from(&known.id);
        preset = Some(known);
    }
    if let Some(preset) = &preset {
        account.provider.clone_from(&preset.id);
    }
    if let Some(password) = read.text("password") {
        account.password = Secret::new(password);
        account.password_written = true;
    }
    let region = read.text("region").unwrap_or_default();
    account.from = read.text("from").or(given.clone().filter(|name| is_one_address(name))).unwrap_or_default();
    account.host = host.unwrap_or_default();
    account.username.clone_from(&given);
    // Where the preset knows the login name, only the sender has to be set in addition to the password.
    let mut nowhere = account.host.is_empty();
    if let Some(preset) = &preset {
        account.password = Secret::new(preset.password(account.password.expose()));
        if nowhere {
            account.host = preset.host(&region, &account.from);
        }
        account.username = preset.login_name(given.as_deref(), account.password.expose());
        account.tls = preset.tls;
        account.from_policy = preset.from_policy;
        account.null_sender = preset.null_sender;
        let named = preset.user.starts_with('=') || matches!(&*preset.user, "token" | "none");
        nowhere = !named || account.from.is_empty();
    }
    (preset, given.is_none() && !account.password_written && nowhere)
}

#[cfg(test)]
mod tests;
