// SPDX-License-Identifier: Apache-2.0
//! Signatures of devices and servers behind the gateway (DKIM, RFC 6376): still good at the provider where nothing has
//! to be changed. Signed and checked with dkimpy.

mod support;

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use support::client::Client;
use support::provider::{Provider, TlsMode};
use support::relay::{Relay, Section};

const SOON: Duration = Duration::from_secs(120);

/// With what goes wrong easily: dots at line starts, 8 bits, blanks at line ends, folded fields, a Received field, many
/// blank lines at the end.
const TEXT: &str = "Received: from plc.plant.example (plc.plant.example [192.0.2.5])\r\n\tby mx.plant.example with ESMTP id 77;\r\n\
	\tMon, 23 Nov 2026 01:00:01 +0000\r\nFrom:  Pump  house\r\n\t<plc@plant.example>\r\nTo: ops@example.net\r\nSubject: =?utf-8?q?Pr=C3=BCfung?=\r\n  of  pump\r\n\
	Date: Mon, 23 Nov 2026 01:02:03 +0000\r\nMessage-ID: <1@plant.example>\r\nMIME-Version: 1.0\r\n\
	Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n\
	.dot\r\n..two\r\n. \r\nblanks   \r\n\r\nFrom here\r\nPrüfung bestanden\r\n\r\nend\r\n\r\n\r\n";

/// `sign KEY CANONICALIZATION` prints the message with a signature, `check PUBLIC` says whether it is good.
const PROGRAM: &str = r#"
import sys, dkim
text = sys.stdin.buffer.read()
if sys.argv[1] == 'sign':
    canonical = tuple(sys.argv[3].encode().split(b'/'))
    fields = [b'From', b'To', b'Subject', b'Date', b'Message-ID', b'MIME-Version', b'Content-Type', b'Content-Transfer-Encoding']
    signature = dkim.sign(text, b's1', b'plant.example', open(sys.argv[2], 'rb').read(), canonicalize=canonical, include_headers=fields)
    sys.stdout.buffer.write(signature + text)
else:
    record = b'v=DKIM1; k=rsa; p=' + sys.argv[2].encode()
    print('good' if dkim.verify(text, dnsfunc=lambda name, timeout=5: record) else 'bad')
"#;

/// Python with dkimpy, and a key.
struct Signer {
    python: &'static str,
    dir: tempfile::TempDir,
    public: String,
}

fn run(program: &str, arguments: &[&str], input: &[u8]) -> Option<Output> {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().ok()?;
    // A program that reads nothing closes the pipe.
    let _ = child.stdin.take()?.write_all(input);
    child.wait_with_output().ok()
}

impl Signer {
    /// `None` if the programs are not at hand.
    fn new() -> Option<Signer> {
        let has_dkim = |python: &&str| run(python, &["-c", "import dkim"], b"").is_some_and(|o| o.status.success());
        // Debian's modules belong to Debian's Python, which need not be the first one.
        let Some(python) = ["python3", "/usr/bin/python3"].into_iter().find(has_dkim) else {
            println!("skipped: no Python with dkimpy (Debian: python3-dkim)");
            return None;
        };
        let dir = tempfile::tempdir().unwrap();
        let key = dir.path().join("key.pem");
        let key = key.to_str().unwrap();
        let made = run("openssl", &["genrsa", "-traditional", "-out", key, "1024"], b"");
        if !made.is_some_and(|output| output.status.success()) {
            println!("skipped: openssl is not installed");
            return None;
        }
        let public = run("openssl", &["rsa", "-in", key, "-pubout"], b"").unwrap().stdout;
        let lines = String::from_utf8(public).unwrap();
        let public = lines.lines().filter(|line| !line.starts_with('-')).collect();
        Some(Signer { python, dir, public })
    }

    fn key(&self) -> String {
        Path::new(self.dir.path()).join("key.pem").display().to_string()
    }

    fn sign(&self, canonical: &str) -> String {
        let signed = run(self.python, &["-c", PROGRAM, "sign", &self.key(), canonical], TEXT.as_bytes()).unwrap();
        assert!(signed.status.success(), "{}", String::from_utf8_lossy(&signed.stderr));
        String::from_utf8(signed.stdout).unwrap()
    }

    fn is_good(&self, message: &[u8]) -> bool {
        let checked = run(self.python, &["-c", PROGRAM, "check", &self.public], message).unwrap();
        assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
        checked.stdout == b"good\n"
    }
}

#[tokio::test]
async fn a_signature_survives_where_nothing_has_to_be_changed() {
    let Some(signer) = Signer::new() else { return };
    // Policy, the account's address, and whether the signature is to be good afterwards.
    let cases = [
        ("keep", "relay@provider.example", true),
        ("account", "plc@plant.example", true),
        ("domain", "gate@plant.example", true),
        // From has to change, and that is signed.
        ("account", "relay@provider.example", false),
    ];
    for chunking in [false, true] {
        let provider = Provider::builder()
            .tls(TlsMode::Implicit)
            .login("u", "p")
            .with(|settings| settings.chunking = chunking)
            .start()
            .await;
        let mut count = 0;
        for (policy, from, good) in cases {
            let account = Section::account("a", &provider).option("from_policy", policy).option("from", from);
            let relay = Relay::builder().section(account).start().await;
            for canonical in ["simple/simple", "relaxed/relaxed", "simple/relaxed"] {
                let signed = signer.sign(canonical);
                assert!(signer.is_good(signed.as_bytes()), "{canonical}: not good to begin with");
                let mut device = Client::greeted(relay.addr()).await;
                device.dialogue(&[("EHLO plc", 250)]).await;
                let reply = device.send("plc@plant.example", &["ops@example.net"], &signed).await;
                assert_eq!(reply.code, 250, "{reply:?}");
                count += 1;
                let messages = provider.wait_for_messages(count, SOON).await;
                let mail = messages.last().unwrap();
                let case = format!("{policy}, {from}, {canonical}, {}", mail.command);
                // The first message of each relay opens the way.
                let chunk = chunking && canonical != "simple/simple";
                assert_eq!(mail.command, if chunk { "BDAT" } else { "DATA" }, "{case}");
                assert!(mail.headers("Received").len() == 2, "{case}: no Received line of the gateway");
                assert_eq!(signer.is_good(&mail.data), good, "{case}\n{}", mail.text());
                // The check is able to fail.
                let touched = mail.text().replace("bestanden", "bestanden!");
                assert!(!signer.is_good(touched.as_bytes()), "{case}");
                println!("{case}: {}", if good { "good" } else { "broken, as From is another" });
            }
        }
    }
}
