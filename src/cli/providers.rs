// SPDX-License-Identifier: Apache-2.0
//! `smtprelay providers` and `smtprelay services`: the presets of providers and of channels, for people and programs.
//! Both require neither settings nor a running gateway.

use serde_json::Value;
use smtprelay::config::providers::entries;
use smtprelay::config::services;

use super::table::table;
use super::{Failure, exit, usage};

/// What is shown about one provider: label and field of the data.
const SHEET: [(&str, &str); 19] = [
    ("host", "host"),
    ("port", "port"),
    ("TLS", "tls"),
    ("also", "also"),
    ("user name", "user"),
    ("password", "secret"),
    ("", "help"),
    ("", "url"),
    ("authentication", "auth"),
    ("OAuth 2.0", "issuer"),
    ("From", "from"),
    ("null sender", "null_sender"),
    ("MB per message", "size"),
    ("recipients", "recipients"),
    ("messages/minute", "minute"),
    ("messages/hour", "hour"),
    ("messages/day", "day"),
    ("addresses", "domains"),
    ("checked", "checked"),
];

/// All presets, one line each, or all details of one.
///
/// # Errors
/// If there is no preset with that name.
pub fn providers(name: Option<&str>, json: bool) -> Result<String, Failure> {
    let mut all = entries();
    if let Some(name) = name {
        let known: Vec<String> = all.iter().map(|entry| word(entry, "id")).collect();
        all.retain(|entry| word(entry, "id").eq_ignore_ascii_case(name));
        return match all.first() {
            Some(found) if json => Ok(format!("{found}\n")),
            Some(found) => Ok(sheet(found)),
            None => {
                let suggestion = usage::suggestion(name, known.iter().map(String::as_str));
                let text = format!("no provider is named '{name}'; 'smtprelay providers' lists them{suggestion}");
                Err((exit::USAGE, text))
            }
        };
    }
    if json {
        return Ok(format!("{}\n", Value::Array(all)));
    }
    let row = |entry: &Value| {
        ["id", "host", "port", "tls", "user", "from", "secret"].map(|field| word(entry, field)).to_vec()
    };
    let rows: Vec<Vec<String>> = all.iter().map(row).collect();
    Ok(table(&["PROVIDER", "HOST", "PORT>", "TLS", "USER NAME", "FROM", "PASSWORD"], &rows))
}

/// The services of channels, one line each.
pub fn services(json: bool) -> String {
    let all = services::entries();
    if json {
        return format!("{}\n", Value::Array(all));
    }
    let row = |entry: &Value| {
        let url = match (entry.get("own"), word(entry, "base")) {
            (Some(Value::Bool(true)), base) if base.is_empty() => "required".into(),
            (_, base) => base,
        };
        vec![word(entry, "id"), url, word(entry, "token"), word(entry, "to"), word(entry, "help")]
    };
    let rows: Vec<Vec<String>> = all.iter().map(row).collect();
    table(&["SERVICE", "URL", "TOKEN", "TO", "NOTE"], &rows)
}

/// A value as shown; empty if unknown.
fn word(entry: &Value, field: &str) -> String {
    match entry.get(field) {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Bool(false)) if field == "null_sender" => {
            "refused, bounces are sent from the account's address".into()
        }
        Some(value) => value.to_string(),
        None => String::new(),
    }
}

fn sheet(entry: &Value) -> String {
    let mut out = format!("{} {}\n", word(entry, "id"), word(entry, "name"));
    for (label, field) in SHEET {
        let value = word(entry, field);
        if !value.is_empty() {
            out += &format!("  {label:15} {value}\n");
        }
    }
    out += match entry.get("confirmed") {
        None => "Limits and rules of providers change: if in doubt, check with the provider.\n",
        Some(_) => "Not confirmed by public documentation: check with the provider.\n",
    };
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_has_every_provider_in_even_columns() {
        let table = providers(None, false).unwrap();
        assert_eq!(table.lines().count(), entries().len() + 1);
        let port = table.find("PORT").unwrap();
        for line in table.lines().skip(1) {
            assert!(line.get(port..port + 4).unwrap().trim().parse::<u16>().is_ok(), "{line}");
        }
    }

    #[test]
    fn one_with_all_facts() {
        let sheet = providers(Some("sendgrid"), false).unwrap();
        for part in ["=apikey", "25 starttls", "Mail Send permission", "https://", "2026-"] {
            assert!(sheet.contains(part), "{sheet}");
        }
        assert!(providers(Some("ses"), false).unwrap().contains("refused, bounces are sent from"));
        assert!(providers(Some("ionos"), false).unwrap().contains("Not confirmed"));
        let (code, text) = providers(Some("gmial"), false).unwrap_err();
        assert!(code == 64 && text.contains("'gmial'") && text.ends_with("did you mean 'gmail'?"), "{text}");
        assert_eq!(providers(Some("GMail"), false), providers(Some("gmail"), false));
        let one: Value = serde_json::from_str(&providers(Some("gmail"), true).unwrap()).unwrap();
        assert_eq!(one["port"], 465);
        let all: Value = serde_json::from_str(&providers(None, true).unwrap()).unwrap();
        assert_eq!(all.as_array().unwrap().len(), entries().len());
    }

    #[test]
    fn every_field_is_told() {
        for entry in entries() {
            for field in entry.as_object().unwrap().keys() {
                let told = SHEET.iter().any(|(_, shown)| shown == field);
                assert!(told || ["id", "name", "blanks", "confirmed"].contains(&field.as_str()), "{field}");
            }
        }
    }
}
