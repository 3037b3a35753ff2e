// SPDX-License-Identifier: Apache-2.0

use super::super::{Account, Problem, load, show, uci};
use super::*;
use crate::config::TlsMode;
use crate::message::FromPolicy;

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
