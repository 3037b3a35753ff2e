// SPDX-License-Identifier: Apache-2.0
//! What the tests of this folder share: a provider that takes tokens, a login server that gives them, a relay between.

use std::path::Path;
use std::process::Output;
use std::time::Duration;

use smtprelay::oauth::store::Store;

use super::support::certs::Certs;
use super::support::client::Client;
use super::support::login_server::LoginServer;
use super::support::provider::{Provider, TlsMode};
use super::support::relay::{Relay, RelayBuilder, Section};

pub const SOON: Duration = Duration::from_secs(60);
pub const USER: &str = "me@example.com";

/// Everything that is needed.
pub struct Bench {
    pub provider: Provider,
    pub login: LoginServer,
    pub relay: Relay,
}

/// Provider and login server that know each other.
pub async fn servers() -> (Provider, LoginServer) {
    let certs = Certs::new();
    let login = LoginServer::start(&certs).await;
    let provider = Provider::builder().tls(TlsMode::Implicit).certs(&certs).tokens(USER, login.tokens()).start().await;
    (provider, login)
}

/// A relay with an account there.
pub fn relay_to(provider: &Provider, login: &LoginServer) -> RelayBuilder {
    let account = login.account(Section::account("acme", provider)).option("timeout", "5s");
    Relay::builder().durability("always").relay_option("log_level", "debug").section(account)
}

impl Bench {
    /// It runs, but nobody has signed in.
    pub async fn start() -> Bench {
        let (provider, login) = servers().await;
        let relay = relay_to(&provider, &login).start().await;
        Bench { provider, login, relay }
    }

    /// It runs, and somebody has signed in.
    pub async fn signed_in() -> Bench {
        let bench = Bench::start().await;
        bench.sign_in().await;
        bench
    }

    /// Somebody signs in.
    pub async fn sign_in(&self) {
        self.login.approve();
        let output = self.relay.command(&["login", "acme"]).await;
        assert!(output.status.success(), "{}", said(&output));
    }

    /// A message that the provider takes, as the so-manieth.
    pub async fn mail_arrives(&self, count: usize) {
        send(&self.relay).await;
        self.provider.wait_for_messages(count, SOON).await;
    }

    /// Waits for a pause, and gives its reason.
    pub async fn paused(&self, mark: usize) -> String {
        self.relay.wait_log_from(mark, |line| line.contains("event=paused"), SOON).await
    }

    /// What was said about the logins at the provider: the numbers of the tokens, `!` behind those that were refused.
    pub fn logins(&self) -> Vec<String> {
        let connections = self.provider.connections();
        let all = connections.iter().flat_map(|connection| connection.logins.iter());
        all.map(|login| {
            let number = login.secret.split('-').nth(2).unwrap_or("?").trim_start_matches('0').to_string();
            number + if login.accepted { "" } else { "!" }
        })
        .collect()
    }

    /// Ends the test: the provider had nothing to object to, and no secret is in a log.
    pub fn finish(self) {
        assert_eq!(self.provider.complaints(), [""; 0]);
        let log = self.relay.log().join("\n");
        for secret in self.login.secrets() {
            assert!(!log.contains(&secret), "{secret} is in the log");
        }
    }
}

/// The refresh token of the account in a directory of secrets. On disk it is encrypted.
pub fn token_on_disk(secrets: &Path) -> String {
    let file = std::fs::read(secrets.join("acme.token")).unwrap();
    assert!(!String::from_utf8_lossy(&file).contains("token"), "it can be read on disk");
    let login = Store::of(secrets, "acme").unwrap().load().unwrap();
    login.expect("a login").refresh.expose().to_string()
}

/// Sends a message to the relay.
pub async fn send(relay: &Relay) {
    let mut device = Client::greeted(relay.addr()).await;
    device.dialogue(&[("EHLO plc", 250)]).await;
    let text = "From: plc@example.com\r\nTo: ops@example.com\r\nSubject: x\r\n\r\nalarm\r\n";
    let reply = device.send("plc@example.com", &["ops@example.com"], text).await;
    assert_eq!(reply.code, 250, "{reply:?}");
}

/// Both outputs of a command.
pub fn said(output: &Output) -> String {
    String::from_utf8_lossy(&[output.stdout.as_slice(), output.stderr.as_slice()].concat()).into_owned()
}
