// SPDX-License-Identifier: Apache-2.0
//! Applies a preset to the options of an account: the provider is named, or recognised by the address.

use super::providers::{self, Provider};
use super::reader::{Reader, Severity};
use crate::message::is_address;
use crate::secrets::Secret;

/// Name of the provider that has no preset.
pub const CUSTOM: &str = "custom";

/// The options of an account that depend on its provider.
pub struct PresetOptions {
    /// Name of the preset, or [`CUSTOM`].
    pub provider: String,
    /// The preset.
    pub preset: Option<Provider>,
    /// `option host`, else that of the preset. Empty: neither.
    pub host: String,
    /// `option username` as written.
    pub given: Option<String>,
    /// The login name.
    pub username: Option<String>,
    /// The effective password.
    pub password: Secret,
    /// Whether it is `option password`, rather than the stored one.
    pub written: bool,
    /// The sender that the provider allows; may be empty.
    pub from: String,
}

impl PresetOptions {
    /// Whether the destination of mail has not been configured yet: as in the shipped file.
    pub fn is_empty(&self) -> bool {
        // Where the preset knows the login name, only the sender has to be set in addition to the password.
        let named = |preset: &Provider| preset.user.starts_with('=') || matches!(&*preset.user, "token" | "none");
        let nowhere = match &self.preset {
            Some(preset) if named(preset) => self.from.is_empty(),
            preset => self.host.is_empty() || preset.is_some(),
        };
        self.given.is_none() && !self.written && nowhere
    }
}

/// Reads these options. If the section is not `enabled`, only the keywords are checked. `stored` is the password that
/// is used without `option password`; empty: none.
pub fn login(read: &mut Reader<'_>, enabled: bool, stored: Secret) -> PresetOptions {
    let mut provider = read.text("provider").unwrap_or_else(|| CUSTOM.into());
    let given = read.text("username");
    let host = read.text("host");
    let mut preset = providers::find(&provider);
    if preset.is_none() && provider != CUSTOM {
        let text = format!(
            "option provider '{provider}' is not custom or one that 'smtprelay providers' lists; without it, the provider is found by the address"
        );
        read.error("provider", text);
    }
    // An account without a host could not be used at all, so this never diverts mail from its destination.
    let address = given.as_deref().filter(|_| provider == CUSTOM && host.is_none());
    if let Some((address, known)) = address.and_then(|address| Some((address, providers::of_address(address)?))) {
        if enabled {
            let line = read.line_of("username");
            read.problem(Severity::Note, line, format!("provider {}, recognised by the address {address}", known.id));
        }
        provider = known.id.clone();
        preset = Some(known);
    }
    let own = read.text("password").map(Secret::new);
    let (written, text) = (own.is_some(), own.unwrap_or(stored));
    let password = preset.as_ref().map_or_else(|| text.expose().to_string(), |preset| preset.password(text.expose()));
    if let Some(preset) = preset.as_ref().filter(|preset| preset.secret == "oauth2" && !password.is_empty()) {
        read.warn("password", format!("provider {}: {}", preset.id, preset.help));
    }
    let region = read.text("region").unwrap_or_default();
    let from = read.text("from").or(given.clone().filter(|name| is_address(name))).unwrap_or_default();
    let username = match &preset {
        Some(preset) => preset.login_name(given.as_deref(), &password),
        None => given.clone(),
    };
    PresetOptions {
        host: host.or(preset.as_ref().map(|preset| preset.host(&region, &from))).unwrap_or_default(),
        provider,
        preset,
        given,
        username,
        password: Secret::new(password),
        written,
        from,
    }
}

#[cfg(test)]
mod tests;
