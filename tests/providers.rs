// SPDX-License-Identifier: Apache-2.0
//! Real mail servers as providers, real mail programs as devices. The message arrives byte for byte apart from the
//! lines that servers add on top.

mod support;

use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use support::certs::Certs;
use support::relay::{Relay, Section};
use support::servers::{Exim, PASSWORD, Postfix, USER};

const SOON: Duration = Duration::from_secs(120);

/// With what goes wrong easily: dots at line starts, blanks at line ends, a long line, no blank line at the end.
const TEXT: &str = "From: Pump house <plc@provider.example>\r\nTo: ops@provider.example\r\nSubject: =?utf-8?q?Pr=C3=BCfung?=\r\n\
	Date: Mon, 23 Nov 2026 01:02:03 +0000\r\nMessage-ID: <1@provider.example>\r\nMIME-Version: 1.0\r\n\
	Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n\
	.dot\r\n..two\r\n. \r\nblanks   \r\n\r\n\r\nFrom here\r\nPr\u{fc}fung\r\n\r\n\r\nend\r\n";

fn text() -> String {
    TEXT.replace("end\r\n", &format!("{}\r\nend\r\n", "x".repeat(900)))
}

/// A program that sends, with its arguments and what it gets on stdin.
struct Sender {
    name: &'static str,
    arguments: Vec<String>,
    input: Vec<u8>,
    /// What it adds to the text by itself.
    adds: &'static str,
}

/// The programs as people call them. Each sends the same text.
fn senders(relay: SocketAddr, dir: &Path) -> Vec<Sender> {
    let (host, port) = (relay.ip().to_string(), relay.port().to_string());
    let file = dir.join("mail.eml");
    std::fs::write(&file, text()).unwrap();
    let file = file.display().to_string();
    let words = |line: &str| line.split(' ').map(str::to_string).collect::<Vec<_>>();
    let python = "import smtplib, sys\n\
        with smtplib.SMTP(sys.argv[1], int(sys.argv[2])) as s:\n\
        \ts.login('plc', 'anything')\n\
        \ts.sendmail('plc@provider.example', ['ops@provider.example'], open(sys.argv[3], 'rb').read(), ['body=8bitmime'])\n";
    let mut swaks = words("--from plc@provider.example --to ops@provider.example --suppress-data --silent 2 --server");
    swaks.extend([host.clone(), "--port".into(), port.clone(), "--data".into(), format!("@{file}")]);
    let mut msmtp = words("--from=plc@provider.example --auth=login --user=plc --passwordeval=echo\u{a0}x --tls=off");
    msmtp.extend([format!("--host={host}"), format!("--port={port}"), "ops@provider.example".into()]);
    let msmtp = msmtp.into_iter().map(|word| word.replace('\u{a0}', " ")).collect();
    let mut curl =
        words("--silent --show-error --mail-from plc@provider.example --mail-rcpt ops@provider.example --upload-file");
    curl.extend([file.clone(), format!("smtp://{host}:{port}/plc")]);
    vec![
        // swaks writes CRLF before the final dot, whether or not the text ends with one.
        Sender { name: "swaks", arguments: swaks, input: Vec::new(), adds: "\r\n" },
        Sender { name: "curl", arguments: curl, input: Vec::new(), adds: "" },
        // msmtp reads the text as programs of this host write it, with LF.
        Sender { name: "msmtp", arguments: msmtp, input: text().replace("\r\n", "\n").into_bytes(), adds: "" },
        Sender {
            name: "python3",
            arguments: vec!["-c".into(), python.into(), host, port, file],
            input: Vec::new(),
            adds: "",
        },
    ]
}

/// Runs a sender; false when the machine does not have it.
async fn run(sender: &Sender) -> bool {
    let mut command = tokio::process::Command::new(sender.name);
    command.args(&sender.arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    // No settings of whoever runs the tests.
    command.env("HOME", "/nonexistent").kill_on_drop(true);
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            println!("skipped: {} is not installed", sender.name);
            return false;
        }
        Err(error) => panic!("{}: {error}", sender.name),
    };
    let mut stdin = child.stdin.take().unwrap();
    tokio::io::AsyncWriteExt::write_all(&mut stdin, &sender.input).await.unwrap();
    drop(stdin);
    let output = tokio::time::timeout(SOON, child.wait_with_output()).await.expect(sender.name).unwrap();
    let said = [output.stdout, output.stderr].concat();
    assert!(output.status.success(), "{}: {}", sender.name, String::from_utf8_lossy(&said));
    true
}

/// What the relay was given, out of what arrived: everything below the fields that servers add on top.
fn as_sent(arrived: &[u8]) -> String {
    let text = String::from_utf8(arrived.to_vec()).unwrap();
    let start = text.find("\r\nFrom: ").map(|at| at + 2).unwrap_or_else(|| panic!("no From in\n{text}"));
    let added = &text[..start];
    assert!(added.contains("(smtprelay)"), "no Received of the relay in\n{text}");
    text[start..].to_string()
}

async fn relay_to(certs: &Certs, port: u16, tls: &str) -> Relay {
    let account = Section::custom_account("provider", "localhost", port, tls)
        .option("ca_file", certs.ca_file().display())
        .option("username", USER)
        .option("password", PASSWORD)
        .option("from", "plc@provider.example")
        .option("from_policy", "keep");
    Relay::builder().durability("always").section(account).start().await
}

async fn delivered(relay: &Relay, mark: usize) -> String {
    let line = relay.wait_log_from(mark, |line| line.contains("event=delivered"), SOON).await;
    assert!(line.contains("tls=TLSv1.3") && line.contains("verified=yes"), "{line}");
    line
}

#[tokio::test]
async fn postfix_with_starttls_and_login() {
    let certs = Certs::new();
    let Some(postfix) = Postfix::start(&certs).await else { return };
    let relay = relay_to(&certs, postfix.port(), "starttls").await;
    let mut sent = 0;
    for sender in senders(relay.addr(), relay.dir()) {
        let mark = relay.mark();
        if run(&sender).await {
            sent += 1;
            let arrived = postfix.wait_for_deliveries(sent, SOON).await;
            let mail = arrived.last().unwrap();
            assert_eq!(
                (mail.sender.as_str(), mail.recipients.as_slice()),
                ("plc@provider.example", &["ops@provider.example".to_string()][..])
            );
            assert_eq!(as_sent(&mail.data), text() + sender.adds, "{}", sender.name);
            println!("{} → postfix: {}", sender.name, delivered(&relay, mark).await);
        }
    }
    assert!(sent > 0, "none of the programs is installed");
}

#[tokio::test]
async fn exim_with_implicit_tls_and_login() {
    let certs = Certs::new();
    let Some(exim) = Exim::start(&certs).await else { return };
    let relay = relay_to(&certs, exim.port(), "implicit").await;
    let mut sent = 0;
    for sender in senders(relay.addr(), relay.dir()) {
        let mark = relay.mark();
        if run(&sender).await {
            sent += 1;
            let arrived = exim.wait_for_deliveries(sent, SOON).await;
            assert_eq!(as_sent(&arrived.last().unwrap().data), text() + sender.adds, "{}", sender.name);
            println!("{} → exim: {}", sender.name, delivered(&relay, mark).await);
        }
    }
    assert!(sent > 0, "none of the programs is installed");
}

#[tokio::test]
async fn a_wrong_password_is_told_in_the_words_of_a_real_server() {
    let certs = Certs::new();
    let Some(postfix) = Postfix::start(&certs).await else { return };
    let mut relay = relay_to(&certs, postfix.port(), "starttls").await;
    relay.configure("account", "provider", |section| section.option("password", "wrong"));
    relay.restart().await;
    let senders = senders(relay.addr(), relay.dir());
    let python = senders.iter().find(|s| s.name == "python3").unwrap();
    if !run(python).await {
        return;
    }
    let line = relay.wait_log(|line| line.contains("event=paused"), SOON).await;
    assert!(line.contains("refused the login of 'relay': 535 5.7.8"), "{line}");
    relay.configure("account", "provider", |section| section.option("password", PASSWORD));
    relay.sighup();
    assert_eq!(postfix.wait_for_messages(1, SOON).await.len(), 1);
}
