//! Presets of mail providers: what an owner would otherwise have to look up.

use serde_json::Value;

use super::settings::TlsMode;
use crate::message::FromPolicy;

/// The presets as data, so that adding one is adding a line.
const PRESETS: &str = include_str!("providers.json");

/// What is known about one provider.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Provider {
    /// Name in `option provider`.
    pub id: String,
    /// Host of its submission service.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// How the connection is protected. Never derived from the port: some providers are unusual.
    pub tls: TlsMode,
    /// Whether the login name is only the part before the `@`.
    pub user_is_localpart: bool,
    /// Which senders it lets through.
    pub from_policy: FromPolicy,
}

fn provider(entry: &Value) -> Option<Provider> {
    let text = |key: &str| entry.get(key).and_then(Value::as_str);
    Some(Provider {
        id: text("id")?.to_string(),
        host: text("host")?.to_string(),
        port: entry.get("port").and_then(Value::as_u64).and_then(|n| u16::try_from(n).ok())?,
        tls: match text("tls")? {
            "implicit" => TlsMode::Implicit,
            "starttls" => TlsMode::StartTls,
            _ => return None,
        },
        user_is_localpart: match text("user")? {
            "address" => false,
            "localpart" => true,
            _ => return None,
        },
        from_policy: match text("from")? {
            "account" => FromPolicy::Account,
            "domain" => FromPolicy::Domain,
            "keep" => FromPolicy::Keep,
            _ => return None,
        },
    })
}

/// All presets, by name.
pub fn all() -> Vec<Provider> {
    let presets: Value = serde_json::from_str(PRESETS).unwrap_or_default();
    presets.as_array().map(|list| list.iter().filter_map(provider).collect()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_line_of_the_data_is_a_preset_and_the_names_are_in_order() {
        let lines = PRESETS.lines().filter(|line| line.contains("\"id\"")).count();
        let names: Vec<_> = all().into_iter().map(|p| p.id).collect();
        assert_eq!(names.len(), lines);
        assert!(names.is_sorted(), "{names:?}");
    }
}
