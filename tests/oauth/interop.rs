// SPDX-License-Identifier: Apache-2.0
//! A login server that others have written: the npm package oidc-provider (`scripts/login_server.sh` fetches it).

use std::path::{Path, PathBuf};
use std::process::Stdio;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use super::bench::{SOON, USER, said, send};
use super::support::certs::{Cert, Certs};
use super::support::login_server::CLIENT;
use super::support::provider::{Mechanism, Provider, TlsMode};
use super::support::relay::{Relay, Section};

/// The process, and what it has said.
struct Foreign {
    _child: Child,
    stdin: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
    issuer: String,
}

impl Foreign {
    async fn start(certs: &Certs) -> Option<Foreign> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let folder = std::env::var_os("SMTPRELAY_LOGIN_SERVER").map(PathBuf::from);
        let folder = folder.unwrap_or_else(|| Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("login-server"));
        if !folder.join("node_modules/oidc-provider").exists() {
            println!("skipped: no oidc-provider in {}; scripts/login_server.sh fetches it", folder.display());
            return None;
        }
        let mut command = Command::new("node");
        command.arg(root.join("tests/oauth/login_server.mjs")).arg(&folder).arg("47110");
        command.env("CERT", certs.cert_file(Cert::Good)).env("KEY", certs.key_file(Cert::Good));
        command.env("CLIENT", CLIENT.0).env("SECRET", CLIENT.1).env("NODE_EXTRA_CA_CERTS", certs.ca_file());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().expect("node");
        let (stdin, stdout) = (child.stdin.take().expect("a pipe"), child.stdout.take().expect("a pipe"));
        let lines = BufReader::new(stdout).lines();
        let mut server = Foreign { _child: child, stdin, lines, issuer: String::new() };
        server.issuer = server.next("issuer ").await;
        Some(server)
    }

    /// The rest of the next line that begins so.
    async fn next(&mut self, start: &str) -> String {
        let found = async {
            loop {
                let line = self.lines.next_line().await.expect("its output").expect("a server that runs");
                if let Some(rest) = line.strip_prefix(start) {
                    return rest.to_owned();
                }
            }
        };
        tokio::time::timeout(SOON, found).await.expect("a line in time")
    }

    async fn sign_in(&mut self, url: &str) -> String {
        self.stdin.write_all(format!("sign-in {url}\n").as_bytes()).await.expect("a server that reads");
        self.next("signed-in ").await
    }
}

fn account(server: &Foreign, provider: &Provider) -> Section {
    Section::account("acme", provider)
        .option("username", USER)
        .option("auth", "xoauth2")
        .option("oauth", "custom")
        .option("client_id", CLIENT.0)
        .option("client_secret", CLIENT.1)
        .option("token_url", format!("{}/token", server.issuer))
        .option("scope", "openid offline_access mail")
}

/// Takes every token: which ones it was shown is looked at afterwards.
async fn provider(certs: &Certs) -> Provider {
    Provider::builder().tls(TlsMode::Implicit).certs(certs).mechanisms(&[Mechanism::XOauth2]).start().await
}

/// Messages with a renewal each: every one needs the refresh token that came with the one before.
async fn mail_flows(relay: &mut Relay, server: &mut Foreign, provider: &Provider) {
    for count in 1..=3 {
        send(relay).await;
        provider.wait_for_messages(count, SOON).await;
        let issued = server.next("token ").await;
        let connections = provider.connections();
        let login = connections.last().and_then(|connection| connection.logins.last()).expect("a login");
        assert_eq!((login.user.as_str(), &login.secret), (USER, &issued));
        relay.restart().await;
    }
    assert_eq!(provider.complaints(), [""; 0]);
}

#[tokio::test]
async fn device_flow_of_oidc_provider() {
    let certs = Certs::new();
    let Some(mut server) = Foreign::start(&certs).await else { return };
    let provider = provider(&certs).await;
    let account = account(&server, &provider).option("device_url", format!("{}/device/auth", server.issuer));
    let mut relay = Relay::builder().durability("always").section(account).start().await;
    let mut command = relay.interactive(&["login", "acme"]);
    let url = command.line(|line| line.trim().starts_with("https://")).await;
    let code = command.line(|line| !line.trim().is_empty()).await;
    let end = server.sign_in(&format!("{}?user_code={}", url.trim(), code.trim())).await;
    println!("the browser ended at {end}");
    command.line(|line| line.contains("is logged in")).await;
    server.next("token ").await;
    mail_flows(&mut relay, &mut server, &provider).await;
}

#[tokio::test]
async fn address_copied_back_from_oidc_provider() {
    let certs = Certs::new();
    let Some(mut server) = Foreign::start(&certs).await else { return };
    let provider = provider(&certs).await;
    let account = account(&server, &provider).option("auth_url", format!("{}/auth", server.issuer));
    let mut relay = Relay::builder().durability("always").section(account).start().await;
    let mut command = relay.interactive(&["login", "acme"]);
    let url = command.line(|line| line.starts_with("https://")).await;
    let address = server.sign_in(&url).await;
    // A code that it did not give.
    let foreign = address.replace("code=", "code=x");
    let address = address + "\n";
    command.write(&(foreign + "\n")).await;
    command.write(&address).await;
    command.line(|line| line.contains("is logged in")).await;
    server.next("token ").await;
    // A code is good once.
    let again = relay.command_with_input(&["login", "acme"], address.as_bytes()).await;
    assert!(!again.status.success(), "{}", said(&again));
    mail_flows(&mut relay, &mut server, &provider).await;
}
