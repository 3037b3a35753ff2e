//! `smtprelay providers`: the presets for people and programs. Needs neither settings nor a running gateway.

use std::fmt::Write as _;

use serde_json::Value;
use smtprelay::config::providers::{self, Provider};

/// All presets, a line each, or all facts of one.
///
/// # Errors
/// When there is no preset of that name.
pub fn providers(name: Option<&str>, json: bool) -> Result<String, String> {
    let Some(name) = name else {
        let all = providers::all();
        return Ok(match json {
            true => format!("{}\n", Value::Array(all.iter().map(Provider::to_json).collect())),
            false => table(&all),
        });
    };
    let found = providers::find(name).ok_or_else(|| format!("no provider '{name}'; smtprelay providers lists them"))?;
    let facts = found.to_json();
    Ok(if json { format!("{facts}\n") } else { sheet(&facts) })
}

// Writing to a String can't fail, so the results below are let go.

fn table(all: &[Provider]) -> String {
    let mut out = String::new();
    let mut line = |cells: [&str; 7]| {
        let [name, host, port, tls, user, from, note] = cells;
        let _ = writeln!(out, "{name:17} {host:37} {port:>4} {tls:9} {user:10} {from:8} {note}");
    };
    line(["PROVIDER", "HOST", "PORT", "TLS", "USER NAME", "FROM", "NOTE"]);
    for provider in all {
        let facts = provider.to_json();
        let text = |name: &str| words(&facts, name);
        let user = facts.get("fixed_username").and_then(Value::as_str).map(|word| format!("'{word}'"));
        let note = [text("secret"), if provider.confirmed { String::new() } else { ", not confirmed".into() }].concat();
        let (port, user) = (text("port"), user.unwrap_or_else(|| text("username")));
        line([&provider.id, &provider.host, &port, &text("tls"), &user, &text("from_policy"), &note]);
    }
    out
}

/// What a fact says, as a word; empty where it is not known.
fn words(facts: &Value, name: &str) -> String {
    match facts.get(name) {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Number(number)) => number.to_string(),
        _ => String::new(),
    }
}

fn sheet(facts: &Value) -> String {
    let text = |name: &str| words(facts, name);
    let is = |name: &str| facts.get(name).and_then(Value::as_bool).unwrap_or(false);
    // A number with what it counts.
    let counted = |name: &str, unit: &str| match text(name) {
        number if number.is_empty() => number,
        number => format!("{number} {unit}"),
    };
    let limits = [
        ("size_mb", "MB a message"),
        ("recipients", "recipients a message"),
        ("per_minute", "a minute"),
        ("per_hour", "an hour"),
        ("per_day", "a day"),
    ];
    let limits: Vec<String> =
        limits.map(|(name, unit)| counted(name, unit)).into_iter().filter(|l| !l.is_empty()).collect();
    let username = match text("username").as_str() {
        "address" => "the mail address".into(),
        "localpart" => "the part of the mail address before the @".into(),
        "fixed" => format!("always '{}'", text("fixed_username")),
        "given" => "as the provider shows it".into(),
        "token" => "the same as the password".into(),
        _ => "none needed".to_string(),
    };
    let from = match text("from_policy").as_str() {
        "account" => "account: only the account's address is let through",
        "domain" => "domain: every address of the account's domain is let through",
        _ => "keep: every address is let through",
    };
    let confirmed = match is("confirmed") {
        true => "from public documents; limits and rules change, ask the provider",
        false => "not confirmed by a public document: check with the provider",
    };
    let also = match text("also") {
        also if also.is_empty() => also,
        also => format!(" (also {also})"),
    };
    let mut out = format!("{}: {}\n", text("provider"), text("title"));
    for (name, value) in [
        ("host", text("host")),
        ("port", format!("{} {}{also}", text("port"), text("tls"))),
        ("username", username),
        ("password", text("secret")),
        ("", text("help")),
        ("", text("url")),
        ("logins", text("auth")),
        ("From", from.into()),
        ("notices", if is("null_sender") { "" } else { "only with a sender: the account's address is put in" }.into()),
        ("limits", limits.join(", ")),
        ("addresses", text("domains")),
        ("checked", format!("{}, {confirmed}", text("checked"))),
    ] {
        if !value.is_empty() {
            let _ = writeln!(out, "  {name:10} {value}");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_has_every_provider_in_even_columns() {
        let table = providers(None, false).unwrap();
        assert_eq!(table.lines().count(), providers::all().len() + 1);
        let port = table.find("PORT").unwrap();
        for line in table.lines().skip(1) {
            assert!(line.get(port..port + 4).unwrap().trim().parse::<u16>().is_ok(), "{line}");
        }
    }

    #[test]
    fn one_with_all_facts() {
        let sheet = providers(Some("sendgrid"), false).unwrap();
        for part in ["always 'apikey'", "587 starttls (also 25 starttls", "permission Mail Send", "https://", "2026-"] {
            assert!(sheet.contains(part), "{sheet}");
        }
        assert!(providers(Some("ses"), false).unwrap().contains("only with a sender"));
        assert!(providers(Some("ionos"), false).unwrap().contains("not confirmed"));
        assert!(providers(Some("gmial"), false).unwrap_err().contains("'gmial'"));
        let one: Value = serde_json::from_str(&providers(Some("gmail"), true).unwrap()).unwrap();
        assert_eq!(one["port"], 465);
        let all: Value = serde_json::from_str(&providers(None, true).unwrap()).unwrap();
        assert_eq!(all.as_array().unwrap().len(), providers::all().len());
    }
}
