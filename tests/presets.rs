// SPDX-License-Identifier: Apache-2.0
//! The presets, as the program tells them: against rules, against what is known from elsewhere, and against the
//! documentation.

mod support;

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::time::Duration;

use serde_json::Value;
use support::client::Client;
use support::provider::{Provider, TlsMode};
use support::relay::{Relay, Section};

const SOON: Duration = Duration::from_secs(60);

/// What public documents say: Mozilla's data base of providers (March 2026) and the help pages of the sending services.
/// Provider, host, port, TLS.
const KNOWN: &[(&str, &str, u16, &str)] = &[
    ("gmail", "smtp.gmail.com", 465, "implicit"),
    ("gworkspace", "smtp.gmail.com", 465, "implicit"),
    ("gworkspace-relay", "smtp-relay.gmail.com", 587, "starttls"),
    ("m365", "smtp.office365.com", 587, "starttls"),
    ("m365-directsend", "{domain}.mail.protection.outlook.com", 25, "starttls"),
    ("outlook", "smtp-mail.outlook.com", 587, "starttls"),
    ("yahoo", "smtp.mail.yahoo.com", 465, "implicit"),
    ("aol", "smtp.aol.com", 465, "implicit"),
    ("icloud", "smtp.mail.me.com", 587, "starttls"),
    ("gmx", "mail.gmx.net", 465, "implicit"),
    ("gmx-com", "mail.gmx.com", 465, "implicit"),
    ("webde", "smtp.web.de", 465, "implicit"),
    ("mailcom", "smtp.mail.com", 465, "implicit"),
    ("mailboxorg", "smtp.mailbox.org", 465, "implicit"),
    ("posteo", "posteo.de", 465, "implicit"),
    ("fastmail", "smtp.fastmail.com", 465, "implicit"),
    ("proton", "smtp.protonmail.ch", 587, "starttls"),
    ("zoho", "smtp.zoho.com", 465, "implicit"),
    ("zoho-eu", "smtp.zoho.eu", 465, "implicit"),
    ("zoho-in", "smtp.zoho.in", 465, "implicit"),
    ("yandex", "smtp.yandex.com", 465, "implicit"),
    ("mailru", "smtp.mail.ru", 465, "implicit"),
    ("qq", "smtp.qq.com", 465, "implicit"),
    ("163", "smtp.163.com", 465, "implicit"),
    ("126", "smtp.126.com", 465, "implicit"),
    ("comcast", "smtp.comcast.net", 465, "implicit"),
    ("tonline", "securesmtp.t-online.de", 465, "implicit"),
    // AT&T's other name, outbound.att.net, leads to the same service.
    ("att", "smtp.mail.att.net", 465, "implicit"),
    ("ionos", "smtp.ionos.de", 465, "implicit"),
    ("ionos-com", "smtp.ionos.com", 465, "implicit"),
    ("ionos-uk", "smtp.ionos.co.uk", 465, "implicit"),
    ("1und1", "smtp.1und1.de", 465, "implicit"),
    ("strato", "smtp.strato.de", 465, "implicit"),
    ("vodafone-de", "smtp.vodafonemail.de", 465, "implicit"),
    ("ovh", "ssl0.ovh.net", 465, "implicit"),
    ("gandi", "mail.gandi.net", 465, "implicit"),
    ("bluewin", "smtpauths.bluewin.ch", 465, "implicit"),
    ("a1", "securemail.a1.net", 587, "starttls"),
    ("orange-fr", "smtp.orange.fr", 465, "implicit"),
    ("free-fr", "smtp.free.fr", 465, "implicit"),
    ("laposte", "smtp.laposte.net", 465, "implicit"),
    ("sfr", "smtp.sfr.fr", 465, "implicit"),
    ("libero", "smtp.libero.it", 465, "implicit"),
    ("virgilio", "out.virgilio.it", 465, "implicit"),
    ("tiscali", "smtp.tiscali.it", 465, "implicit"),
    ("naver", "smtp.naver.com", 465, "implicit"),
    ("daum", "smtp.daum.net", 465, "implicit"),
    ("wp-pl", "smtp.wp.pl", 465, "implicit"),
    ("o2-pl", "poczta.o2.pl", 465, "implicit"),
    ("onet", "smtp.poczta.onet.pl", 465, "implicit"),
    ("seznam", "smtp.seznam.cz", 465, "implicit"),
    ("ziggo", "smtp.ziggo.nl", 587, "starttls"),
    ("kpn", "smtp.kpnmail.nl", 465, "implicit"),
    ("btinternet", "mail.btinternet.com", 465, "implicit"),
    ("virginmedia", "smtp.virginmedia.com", 465, "implicit"),
    ("sky", "smtp.tools.sky.com", 465, "implicit"),
    // Implicit TLS on the port of STARTTLS.
    ("spectrum", "mobile.charter.net", 587, "implicit"),
    ("twc", "mail.twc.com", 587, "starttls"),
    ("telstra", "smtp.telstra.com", 465, "implicit"),
    ("xtra", "send.xtra.co.nz", 465, "implicit"),
    ("bell", "smtphm.sympatico.ca", 587, "starttls"),
    ("godaddy", "smtpout.secureserver.net", 465, "implicit"),
    ("ses", "email-smtp.{region}.amazonaws.com", 587, "starttls"),
    ("sendgrid", "smtp.sendgrid.net", 587, "starttls"),
    ("sendgrid-eu", "smtp.eu.sendgrid.net", 587, "starttls"),
    ("mailgun", "smtp.mailgun.org", 587, "starttls"),
    ("mailgun-eu", "smtp.eu.mailgun.org", 587, "starttls"),
    // Its regional hosts (mail-eu, mail-us, mail-au) are for option host.
    ("smtp2go", "mail.smtp2go.com", 587, "starttls"),
    ("brevo", "smtp-relay.brevo.com", 587, "starttls"),
    ("mailjet", "in-v3.mailjet.com", 587, "starttls"),
    ("postmark", "smtp.postmarkapp.com", 587, "starttls"),
    // Without a preset: Elastic Email, MailerSend, Resend. Nothing is known of them for sure; they work as custom.
];

async fn presets() -> Vec<Value> {
    let relay = Relay::builder().prepare();
    let output = relay.command(&["providers", "--json"]).await;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let all: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    all.as_array().expect("a list").clone()
}

/// A fact; empty where it is left out.
fn text<'a>(preset: &'a Value, name: &str) -> &'a str {
    preset[name].as_str().unwrap_or_default()
}

fn is_host_name(host: &str) -> bool {
    let label = |label: &str| {
        let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        !label.is_empty()
            && label.len() < 64
            && label.bytes().all(inner)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    host.contains('.') && host.split('.').all(label) && !host.ends_with(|c: char| c.is_ascii_digit())
}

/// Whether this is the usual protection of the port.
fn is_usual(port: u16, tls: &str) -> bool {
    match port {
        465 | 994 | 2465 | 8465 | 443 => tls == "implicit",
        25 | 80 | 587 | 2525 | 2587 | 8025 => tls == "starttls",
        _ => false,
    }
}

fn is_date(text: &str) -> bool {
    let parts: Vec<Option<u32>> = text.split('-').map(|part| part.parse().ok()).collect();
    let fits = matches!(parts.as_slice(), [Some(2025..=2099), Some(1..=12), Some(1..=31)]);
    fits && text.len() == 10
}

#[tokio::test]
async fn presets_are_what_is_known() {
    let presets = presets().await;
    let have: BTreeSet<(&str, &str, u64, &str)> =
        presets.iter().map(|p| (text(p, "id"), text(p, "host"), p["port"].as_u64().unwrap(), text(p, "tls"))).collect();
    let known: BTreeSet<_> = KNOWN.iter().map(|(id, host, port, tls)| (*id, *host, u64::from(*port), *tls)).collect();
    assert_eq!(have, known);
    println!("{} presets", have.len());
}

#[tokio::test]
async fn presets_keep_the_rules() {
    let presets = presets().await;
    let names: Vec<&str> = presets.iter().map(|preset| text(preset, "id")).collect();
    assert!(names.is_sorted_by(|a, b| a < b), "each once, in order: {names:?}");
    let mut odd = Vec::new();
    for preset in &presets {
        let id = text(preset, "id");
        assert!(id.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-'), "{id}");
        let host = text(preset, "host").replace("{region}", "eu-central-1").replace("{domain}", "example-com");
        assert!(is_host_name(&host), "{id}: {host}");
        let port = u16::try_from(preset["port"].as_u64().unwrap()).unwrap();
        if !is_usual(port, text(preset, "tls")) {
            odd.push(id);
        }
        for other in text(preset, "also").split(", ").filter(|other| !other.is_empty()) {
            let (port, tls) = other.split_once(' ').unwrap_or_else(|| panic!("{id}: {other}"));
            assert!(is_usual(port.parse().unwrap(), tls), "{id}: {other}");
        }
        for mechanism in text(preset, "auth").split(' ') {
            assert!(["PLAIN", "LOGIN", "CRAM-MD5", "XOAUTH2"].contains(&mechanism), "{id}: {mechanism}");
        }
        assert!(is_date(text(preset, "checked")), "{id}: {}", text(preset, "checked"));
        let url = text(preset, "url");
        if let Some(rest) = url.strip_prefix("https://") {
            assert!(is_host_name(rest.split('/').next().unwrap()) && !url.contains(char::is_whitespace), "{id}: {url}");
        } else {
            assert_eq!(url, "", "{id}");
        }
        let help = text(preset, "help");
        assert!(help.len() < 140 && (help.is_empty() || help.ends_with('.')), "{id}: {help}");
        assert!(
            !help.is_empty() || text(preset, "secret") == "password",
            "{id} says nothing about what to set as password"
        );
        for domain in text(preset, "domains").split_whitespace() {
            assert!(is_host_name(&domain.replace('*', "com")), "{id}: {domain}");
        }
        for limit in ["size", "minute", "hour", "day", "recipients"] {
            assert!(preset[limit].is_null() || preset[limit].as_u64().is_some_and(|n| n > 0), "{id}: {limit}");
        }
        // A policy that lets more through than the account's address needs a domain of the owner's own.
        if text(preset, "from") != "account" {
            assert!(
                [
                    "gworkspace-relay",
                    "ionos",
                    "ionos-com",
                    "ionos-uk",
                    "m365-directsend",
                    "mailgun",
                    "mailgun-eu",
                    "strato"
                ]
                .contains(&id),
                "{id}"
            );
        }
    }
    assert_eq!(odd, ["spectrum"], "port and TLS that do not go together");
    let refuse: Vec<_> = presets.iter().filter(|p| p["null_sender"] == false).map(|p| text(p, "id")).collect();
    assert_eq!(refuse, ["126", "163", "qq", "ses"]);
}

/// The table for the documentation.
fn table(presets: &[Value]) -> String {
    let mut table =
        "| provider | host, port | user name | password | From | a day | addresses |\n|---|---|---|---|---|---|---|\n"
            .to_string();
    for preset in presets {
        let day = preset["day"].as_u64().map(|n| n.to_string()).unwrap_or_default();
        let sure = if preset["confirmed"] == false { " (not confirmed)" } else { "" };
        writeln!(
            table,
            "| `{}` | {}, {} {}{sure} | {} | {} | {} | {day} | {} |",
            text(preset, "id"),
            text(preset, "host"),
            preset["port"],
            text(preset, "tls"),
            text(preset, "user"),
            text(preset, "secret"),
            text(preset, "from"),
            text(preset, "domains"),
        )
        .unwrap();
    }
    table
}

#[tokio::test]
async fn the_documentation_has_the_same_table() {
    const BEGIN: &str = "<!-- made by tests/presets.rs -->\n";
    const END: &str = "<!-- end -->\n";
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/guide/providers.md");
    let page = std::fs::read_to_string(file).unwrap();
    let (before, rest) = page.split_once(BEGIN).expect("where the table begins");
    let (have, after) = rest.split_once(END).expect("where the table ends");
    let expected = table(&presets().await);
    if std::env::var_os("SMTPRELAY_GOLDEN").is_some_and(|value| value == "write") {
        std::fs::write(file, format!("{before}{BEGIN}{expected}{END}{after}")).unwrap();
        return;
    }
    assert_eq!(have, expected, "run this test with SMTPRELAY_GOLDEN=write");
}

#[tokio::test]
async fn one_provider_with_all_facts_or_a_clear_no() {
    let relay = Relay::builder().prepare();
    let said = relay.command(&["providers", "outlook"]).await;
    let said = String::from_utf8(said.stdout).unwrap();
    assert!(said.starts_with("outlook Outlook.com") && said.contains("only a sign-in with OAuth2 works"), "{said}");
    let unknown = relay.command(&["providers", "gmial"]).await;
    assert_eq!(unknown.status.code(), Some(64));
    assert!(String::from_utf8_lossy(&unknown.stderr).contains("no provider is named 'gmial'"));
    // Neither settings nor a gateway are needed.
    let nowhere = relay.command(&["providers", "--config", "/nonexistent"]).await;
    assert!(nowhere.status.success());
}

#[tokio::test]
async fn check_tells_which_provider_it_recognised() {
    let account =
        Section::new("account", "me").option("username", "me@gmail.com").option("password", "abcd efgh ijkl mnop");
    let mut relay = Relay::builder().section(account).prepare();
    let checked = relay.command(&["check"]).await;
    let said = String::from_utf8(checked.stderr).unwrap();
    assert!(checked.status.success(), "{said}");
    assert!(said.contains("note: provider gmail, recognised by the address me@gmail.com"), "{said}");
    let shown = String::from_utf8(relay.command(&["show"]).await.stdout).unwrap();
    assert!(shown.contains("option host 'smtp.gmail.com'") && shown.contains("option from 'me@gmail.com'"), "{shown}");
    assert!(!shown.contains("abcd"), "{shown}");
    relay.configure("account", "me", |section| section.option("username", "me@example.org"));
    let checked = relay.command(&["check"]).await;
    assert_eq!(checked.status.code(), Some(1));
    let said = String::from_utf8(checked.stderr).unwrap();
    assert!(said.contains("error: option host is missing"), "{said}");
}

/// An account of this preset, at the stand-in.
fn account_at(provider: &Provider, preset: &str, username: &str, password: &str) -> Section {
    Section::account("a", provider)
        .option("provider", preset)
        .option("username", username)
        .option("password", password)
        .option("from", "plc@example.com")
}

async fn send(relay: &Relay) {
    let mut device = Client::greeted(relay.addr()).await;
    device.dialogue(&[("EHLO plc", 250)]).await;
    let reply = device.send("plc@example.com", &["ops@example.net"], "Subject: x\r\n\r\nx\r\n").await;
    assert_eq!(reply.code, 250, "{reply:?}");
}

#[tokio::test]
async fn login_names_and_passwords_arrive_as_the_provider_wants_them() {
    for (preset, username, password, user, secret) in [
        ("gmail", "me@gmail.com", "abcd efgh ijkl mnop", "me@gmail.com", "abcdefghijklmnop"),
        ("custom", "me@gmail.com", "abcd efgh ijkl mnop", "me@gmail.com", "abcd efgh ijkl mnop"),
        ("webde", "me@web.de", "two  words ", "me", "two  words "),
        ("sendgrid", "", "SG.key", "apikey", "SG.key"),
        ("postmark", "", "t0ken", "t0ken", "t0ken"),
    ] {
        let provider = Provider::builder().tls(TlsMode::Implicit).login(user, secret).start().await;
        let relay = Relay::builder().section(account_at(&provider, preset, username, password)).start().await;
        send(&relay).await;
        let messages = provider.wait_for_messages(1, SOON).await;
        assert_eq!(messages[0].login.as_deref(), Some(user), "{preset}");
    }
}

#[tokio::test]
async fn a_token_is_not_told_as_login_name() {
    let provider = Provider::builder().tls(TlsMode::Implicit).login("x", "y").start().await;
    let relay = Relay::builder().section(account_at(&provider, "postmark", "", "t0ken")).start().await;
    send(&relay).await;
    let line = relay.wait_log(|line| line.contains("event=paused"), SOON).await;
    assert!(line.contains("refused the login of '********'"), "{line}");
    assert!(!relay.log().iter().any(|line| line.contains("t0ken")), "{:?}", relay.log());
}
