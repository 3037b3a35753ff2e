// SPDX-License-Identifier: Apache-2.0

use super::*;

#[test]
fn each_line_of_the_data_is_a_preset_and_the_names_are_in_order() {
    let lines = PRESETS.lines().filter(|line| line.contains("\"id\"")).count();
    let names: Vec<_> = all().into_iter().map(|p| p.id).collect();
    assert_eq!(names.len(), lines);
    assert!(names.is_sorted_by(|a, b| a < b), "{names:?}");
}

#[test]
fn keys_of_the_data_are_known() {
    const KEYS: [&str; 22] = [
        "id",
        "name",
        "host",
        "port",
        "tls",
        "also",
        "user",
        "auth",
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
