// SPDX-License-Identifier: Apache-2.0
//! Section `account`: what the preset fills in, and consistency checks.

use std::time::Duration;

use super::load::{FROM_POLICIES, TLS_MODES};
use super::reader::{Problem, Reader, Severity};
use super::settings::{Account, TlsMode, default};
use super::stored::Passwords;
use super::uci::Section;
use super::{oauth, preset};
use crate::message::{FromPolicy, is_address};

/// One section `account`; `None` if it is not used.
pub fn read(section: &Section, stored: &Passwords, problems: &mut Vec<Problem>) -> Option<Account> {
    let mut read = Reader::new(section, problems);
    let enabled = read.flag("enabled", true);
    let name = section.name.clone().unwrap_or_default();
    let login = preset::login(&mut read, enabled, stored.of(&name));
    for text in stored.warnings(&name).filter(|_| enabled) {
        read.warn("password", text);
    }
    let empty = login.is_empty();
    let preset = login.preset;
    let tls = read.choice("tls", preset.as_ref().map_or(TlsMode::Implicit, |p| p.tls), &TLS_MODES);
    let usual_port = match tls {
        TlsMode::Implicit => default::PORT_IMPLICIT,
        TlsMode::StartTls => default::PORT_STARTTLS,
        TlsMode::None => default::PORT_NONE,
    };
    let account = Account {
        name,
        host: login.host,
        port: read.port("port", preset.as_ref().filter(|p| p.tls == tls).map_or(usual_port, |p| p.port), 1),
        provider: login.provider,
        tls,
        verify: read.flag("verify", true),
        ca_file: read.path("ca_file"),
        files: None,
        fingerprint: fingerprint(&mut read),
        username: login.username,
        password: login.password,
        password_written: login.written,
        oauth: oauth::read(&mut read),
        from: login.from,
        from_policy: read.choice(
            "from_policy",
            preset.as_ref().map_or(FromPolicy::Account, |p| p.from_policy),
            &FROM_POLICIES,
        ),
        null_sender: read.flag("null_sender", preset.as_ref().is_none_or(|p| p.null_sender)),
        general: read.flag("default", true),
        connections: read.number("connections", default::CONNECTIONS, 1..=16),
        timeout: read.duration("timeout", default::ACCOUNT_TIMEOUT, Duration::from_secs(5)),
    };
    if account.timeout > Duration::from_secs(600) {
        read.error("timeout", "option timeout is more than 10m");
    }
    read.not_yet(&["daily_limit"]);
    if enabled && empty && account.tls != TlsMode::None {
        let (line, text) = (read.line(), format!("account '{}' is not configured yet and is not used", account.name));
        read.problem(Severity::Warning, line, text);
    }
    let used = enabled && (!empty || account.tls == TlsMode::None);
    // A section that is disabled may be incomplete; only its keywords are checked.
    if used {
        let told = stored.warnings(&account.name).next().is_some();
        fits_together(&account, told, &mut read);
    }
    read.finish();
    used.then_some(account)
}

/// `told`: a problem with the stored password has already been reported.
fn fits_together(account: &Account, told: bool, read: &mut Reader) {
    let line = read.line();
    if account.name.is_empty() {
        read.problem(Severity::Error, line, "an account needs a name: write config account 'provider'");
    }
    let host_byte = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_' | b':');
    if account.host.is_empty() {
        read.problem(
            Severity::Error,
            line,
            "option host is missing: the provider's mail server, such as smtp.example.com; or set option provider to one that 'smtprelay providers' lists",
        );
    } else if account.host.contains('{') {
        let text = format!("the host {} needs option region, such as eu-central-1", account.host);
        read.problem(Severity::Error, line, text);
    } else if !account.host.bytes().all(host_byte) {
        read.error("host", format!("option host '{}' is not a host name", account.host));
    }
    if !account.from.is_empty() && !is_address(&account.from) {
        read.error("from", format!("option from '{}' is not a mail address such as me@example.com", account.from));
    }
    if account.from.is_empty() && account.from_policy != FromPolicy::Keep {
        let text =
            "option from is missing: the address that the provider allows as sender (the username is not an address)";
        read.problem(Severity::Error, line, text);
    }
    if let Some(oauth) = &account.oauth {
        oauth::fits_together(oauth, read);
        if account.username.is_none() {
            read.error("auth", "auth 'xoauth2' without option username: the address of the mailbox");
        }
    } else if account.misses_password() && !told {
        // Not an error: its mail is accepted and queued, as with a wrong password.
        read.warn("username", account.password_warning());
    }
    if account.username.is_none() && !account.password.is_empty() {
        match account.password_written {
            true => read.error("password", "option password without option username"),
            false => read.warn("password", "the stored password is not used without option username"),
        }
    }
    if account.tls == TlsMode::None {
        if account.username.is_some() {
            let text = "tls 'none' with a username would send the password in clear text; use implicit or starttls";
            read.error("tls", text);
        } else {
            let text =
                format!("tls 'none': mail is sent to {} unencrypted and can be read on the network path", account.host);
            read.warn("tls", text);
        }
    }
    if !account.verify && account.fingerprint.is_none() && account.tls != TlsMode::None {
        let text = format!("verify '0': anyone on the network path to {} can read mail and password", account.host);
        read.warn("verify", text);
    }
    let odd = matches!((account.tls, account.port), (TlsMode::Implicit, 587 | 25) | (TlsMode::StartTls, 465));
    if odd && account.provider == "custom" {
        let text = format!("port {} is unusual for this tls mode; implicit uses 465, starttls uses 587", account.port);
        read.warn("port", text);
    }
}

/// SHA-256 as hex, with or without colons, as `openssl x509 -fingerprint -sha256` prints it.
fn fingerprint(read: &mut Reader) -> Option<[u8; 32]> {
    let text = read.text("fingerprint")?;
    let digits: Option<Vec<u8>> =
        text.chars().filter(|c| *c != ':').map(|c| c.to_digit(16).and_then(|d| u8::try_from(d).ok())).collect();
    let bytes: Vec<u8> =
        digits.unwrap_or_default().chunks_exact(2).map(|pair| pair.iter().fold(0, |n, d| n << 4 | d)).collect();
    let digest = <[u8; 32]>::try_from(bytes).ok();
    if digest.is_none() {
        read.error("fingerprint", format!("option fingerprint '{text}' is not a SHA-256 fingerprint (64 hex digits)"));
    }
    digest
}
