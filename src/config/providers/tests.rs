// SPDX-License-Identifier: Apache-2.0

use super::super::{Problem, load, show, uci};
use super::*;

#[test]
fn each_line_of_the_data_is_a_preset_and_the_names_are_in_order() {
    let whole: Value = serde_json::from_str(PRESETS).unwrap();
    let names: Vec<_> = all().into_iter().map(|p| p.id).collect();
    assert_eq!(
        names,
        whole["providers"].as_array().unwrap().iter().map(|p| p["id"].as_str().unwrap()).collect::<Vec<_>>()
    );
    assert!(entries().iter().all(|entry| entry["checked"] == whole["checked"]));
    // Domains are read without a parser.
    assert!(!PRESETS.contains('\\'));
    assert!(names.is_sorted_by(|a, b| a < b), "{names:?}");
}

#[test]
fn keys_of_the_data_are_known() {
    const KEYS: [&str; 23] = [
        "id",
        "name",
        "host",
        "port",
        "tls",
        "also",
        "user",
        "auth",
        "issuer",
        "secret",
        "blanks",
        "from",
        "null_sender",
        "size",
        "minute",
        "hour",
        "day",
        "recipients",
        "confirmed",
        "checked",
        "domains",
        "url",
        "help",
    ];
    for entry in entries() {
        for key in entry.as_object().unwrap().keys() {
            assert!(KEYS.contains(&key.as_str()), "{key} in {entry}");
        }
    }
}

#[test]
fn addresses_tell_their_provider() {
    for (address, id) in [
        ("me@gmail.com", "gmail"),
        ("Me@GoogleMail.COM", "gmail"),
        ("me@hotmail.com", "outlook"),
        ("me@outlook.de", "outlook"),
        ("me@live.co.uk", "outlook"),
        ("me@msn.com", "outlook"),
        ("me@icloud.com", "icloud"),
        ("me@me.com", "icloud"),
        ("me@mac.com", "icloud"),
        ("me@gmx.de", "gmx"),
        ("me@gmx.net", "gmx"),
        ("me@gmx.com", "gmx-com"),
        ("me@gmx.co.uk", "gmx-com"),
        ("me@web.de", "webde"),
        ("me@yahoo.co.uk", "yahoo"),
        ("me@verizon.net", "aol"),
        ("me@magenta.de", "tonline"),
        ("me@yahoo.co.jp", ""),
        ("me@example.com", ""),
        ("me@notgmail.com", ""),
        ("me@outlook.com.example.org", ""),
        ("me@outlook.example.org", ""),
        ("me@outlook.", ""),
        ("me@sub.gmail.com", ""),
        ("me@", ""),
        ("me", ""),
        ("", ""),
    ] {
        assert_eq!(of_address(address).map(|p| p.id).unwrap_or_default(), id, "{address}");
    }
}

#[test]
fn words_of_the_data_are_known() {
    for provider in all() {
        let (user, secret) = (provider.user.as_str(), provider.secret.as_str());
        let fixed = user.strip_prefix('=').is_some_and(|word| !word.is_empty());
        assert!(fixed || ["address", "localpart", "given", "token", "none"].contains(&user), "{}", provider.id);
        assert!(["password", "app", "code", "token", "oauth2", "none"].contains(&secret), "{}", provider.id);
        assert_ne!(provider.tls, TlsMode::None, "{}", provider.id);
    }
}

#[test]
fn no_domain_belongs_to_two() {
    let all = all();
    for provider in &all {
        for domain in provider.domains.split_whitespace() {
            let address = format!("me@{}", domain.replace('*', "org"));
            let found = of_address(&address).map(|p| p.id);
            // Of a name under every top-level domain, some can be listed elsewhere.
            let expected = if address == "me@gmx.org" { "gmx" } else { &provider.id };
            assert_eq!(found.as_deref(), Some(expected), "{domain}");
        }
    }
}

#[test]
fn only_what_looks_like_an_app_password_loses_its_blanks() {
    let gmail = find("gmail").unwrap();
    for pasted in [
        "abcd efgh ijkl mnop",
        " abcd efgh ijkl mnop\u{a0}",
        "abcd\u{a0}efgh\u{a0}ijkl\u{a0}mnop",
        "abcdefghijklmnop",
        " abcdefghijklmnop ",
    ] {
        assert_eq!(gmail.password(pasted), "abcdefghijklmnop", "{pasted}");
    }
    for other in [
        "",
        " ",
        "correct horse",
        "abcd efgh ijkl mno",
        "abcd efgh ijkl mnop qrst",
        "abcd efgh ijkl mno1",
        "abc defg hijk lmnop",
        "ab cd ef gh ij kl mn op",
        "abcd-efgh-ijkl-mnop",
        " x ",
        "äbc efgh ijkl mnop",
    ] {
        assert_eq!(gmail.password(other), other);
    }
    assert_eq!(find("gmx").unwrap().password("abcd efgh ijkl mnop"), "abcd efgh ijkl mnop");
    let dropping: Vec<_> = all().into_iter().filter(|p| p.drops_blanks).map(|p| p.id).collect();
    assert_eq!(dropping, ["aol", "gmail", "gworkspace", "gworkspace-relay", "icloud", "yahoo"]);
}

#[test]
fn login_names() {
    let name = |id: &str, username: Option<&str>| find(id).unwrap().login_name(username, "s3cret");
    let some = |text: &str| Some(text.to_string());
    assert_eq!(name("gmail", Some("me@gmail.com")), some("me@gmail.com"));
    assert_eq!(name("webde", Some("me@web.de")), some("me"));
    assert_eq!(name("webde", Some("me")), some("me"));
    assert_eq!(name("sendgrid", None), some("apikey"));
    assert_eq!(name("sendgrid", Some("plc@example.com")), some("apikey"));
    assert_eq!(name("postmark", None), some("s3cret"));
    assert_eq!(name("postmark", Some("plc@example.com")), some("s3cret"));
    assert_eq!(name("postmark", Some("access-key")), some("access-key"));
    assert_eq!(name("ses", Some("AKIA123")), some("AKIA123"));
    assert_eq!(name("m365-directsend", None), None);
    assert_eq!(find("postmark").unwrap().login_name(None, ""), None);
}

#[test]
fn hosts_of_one_account() {
    let ses = find("ses").unwrap();
    assert_eq!(ses.host("eu-central-1", ""), "email-smtp.eu-central-1.amazonaws.com");
    assert_eq!(ses.host("", "me@example.com"), "email-smtp.{region}.amazonaws.com");
    let direct = find("m365-directsend").unwrap();
    assert_eq!(direct.host("", "plc@plant.example.com"), "plant-example-com.mail.protection.outlook.com");
    assert_eq!(find("gmail").unwrap().host("x", "me@y"), "smtp.gmail.com");
}

/// The account with these options, and its findings.
fn account(options: &[(&str, &str)]) -> (Option<Account>, Vec<(Severity, String)>) {
    let mut text = "config listener 'l'\n list address '::1'\nconfig account 'a'\n".to_string();
    options.iter().for_each(|(name, value)| text.push_str(&format!(" option {name} '{value}'\n")));
    let (settings, problems) = load::settings(&uci::parse(text.as_bytes()).unwrap());
    let said = problems.into_iter().map(|Problem { severity, text, .. }| (severity, text)).collect();
    (settings.accounts.into_iter().next(), said)
}

/// As [`account`], where there are no complaints.
fn fine(options: &[(&str, &str)]) -> Account {
    let (account, said) = account(options);
    assert!(said.iter().all(|(severity, _)| *severity == Severity::Note), "{said:?}");
    account.unwrap()
}

const LOGIN: [(&str, &str); 2] = [("username", "Me@GMail.com"), ("password", "abcd efgh ijkl mnop")];

#[test]
fn the_address_alone_is_enough() {
    for provider in [None, Some(("provider", "custom"))] {
        let options: Vec<_> = LOGIN.into_iter().chain(provider).collect();
        let (found, said) = account(&options);
        let found = found.unwrap();
        assert_eq!(said, [(Severity::Note, "provider gmail, recognised by the address Me@GMail.com".to_string())]);
        assert_eq!((found.provider.as_str(), found.host.as_str(), found.port), ("gmail", "smtp.gmail.com", 465));
        assert_eq!((found.from.as_str(), found.password.expose()), ("Me@GMail.com", "abcdefghijklmnop"));
    }
    let web = fine(&[("username", "plc@web.de"), ("password", "abcd efgh ijkl mnop")]);
    assert_eq!((web.username.as_deref(), web.from.as_str()), (Some("plc"), "plc@web.de"));
    assert_eq!(web.password.expose(), "abcd efgh ijkl mnop");
}

#[test]
fn what_is_said_goes_before_what_is_recognised() {
    let own = fine(&[&LOGIN[..], &[("host", "mx.example.com")]].concat());
    assert_eq!((own.provider.as_str(), own.host.as_str()), ("custom", "mx.example.com"));
    assert_eq!(own.password.expose(), "abcd efgh ijkl mnop");
    let named = fine(&[&LOGIN[..], &[("provider", "gworkspace")]].concat());
    assert_eq!(named.provider, "gworkspace");
    let changed = fine(&[&LOGIN[..], &[("tls", "starttls"), ("from_policy", "keep")]].concat());
    assert_eq!((changed.tls, changed.port, changed.from_policy), (TlsMode::StartTls, 587, FromPolicy::Keep));
    let (_, said) = account(&[&LOGIN[..], &[("enabled", "0")]].concat());
    assert!(!said.iter().any(|(_, text)| text.contains("recognised")), "{said:?}");
}

#[test]
fn an_unknown_domain_is_an_error_that_says_what_is_missing() {
    let (_, said) = account(&[("username", "plc@example.com"), ("password", "x")]);
    let errors: Vec<_> = said.iter().filter(|(severity, _)| *severity == Severity::Error).collect();
    assert_eq!(errors.len(), 1, "{said:?}");
    assert!(errors[0].1.starts_with("option host is missing: "), "{said:?}");
}

#[test]
fn microsoft_takes_no_passwords_of_consumers() {
    for address in ["me@outlook.com", "me@hotmail.de", "me@live.com"] {
        let (_, said) = account(&[("username", address), ("password", "x")]);
        let warned = said.iter().find(|(severity, _)| *severity == Severity::Warning).unwrap();
        assert!(
            warned.1.starts_with("provider outlook: ") && warned.1.contains("only a sign-in with OAuth2"),
            "{said:?}"
        );
    }
    let (_, said) = account(&[("provider", "m365"), ("username", "me@example.com"), ("password", "x")]);
    assert_eq!(said, []);
}

#[test]
fn services_with_login_names_of_their_own() {
    let sendgrid = fine(&[("provider", "sendgrid"), ("password", "SG.x"), ("from", "plc@example.com")]);
    assert_eq!(sendgrid.username.as_deref(), Some("apikey"));
    let ses = [("provider", "ses"), ("username", "AKIA1"), ("password", "x"), ("from", "plc@example.com")];
    let (_, said) = account(&ses);
    assert!(matches!(said.as_slice(), [(Severity::Error, text)] if text.contains("needs option region")), "{said:?}");
    let ses = fine(&[&ses[..], &[("region", "eu-central-1")]].concat());
    assert_eq!(ses.host, "email-smtp.eu-central-1.amazonaws.com");
    assert!(!ses.null_sender);
    let direct = fine(&[("provider", "m365-directsend"), ("from", "plc@example.com")]);
    assert_eq!((direct.host.as_str(), direct.username), ("example-com.mail.protection.outlook.com", None));
    // Nothing is configured: as shipped.
    for id in ["sendgrid", "postmark", "m365-directsend", "gmail"] {
        let (found, said) = account(&[("provider", id)]);
        assert!(found.is_none() && said[0].1.contains("is not configured yet"), "{id}: {said:?}");
    }
}

#[test]
fn a_login_name_that_is_a_secret_is_not_shown() {
    let postmark = fine(&[("provider", "postmark"), ("password", "s3cret"), ("from", "plc@example.com")]);
    assert_eq!(postmark.username.as_deref(), Some("s3cret"));
    let text = "config listener 'l'\n list address '::1'\nconfig account 'a'\n option provider 'postmark'\n option password 's3cret'\n option from 'plc@example.com'\n";
    let (settings, _) = load::settings(&uci::parse(text.as_bytes()).unwrap());
    assert!(!show(&settings).contains("s3cret"), "{}", show(&settings));
    assert_eq!(settings.accounts[0].shown_username(), "********");
}

#[test]
fn the_odd_port_is_kept_with_its_odd_tls() {
    let charter = fine(&[("username", "me@charter.net"), ("password", "x")]);
    assert_eq!((charter.port, charter.tls), (587, TlsMode::Implicit));
}
