// SPDX-License-Identifier: Apache-2.0
//! The command line as people and programs use it.

mod support;

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use support::provider::{Provider, TlsMode};
use support::relay::{Relay, Section};

const SOON: Duration = Duration::from_secs(60);

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn nowhere() -> Section {
    Section::custom_account("provider", "127.0.0.1", 1, "implicit").option("username", "u").option("password", "s3cret")
}

#[tokio::test]
async fn check_says_yes_or_names_the_line() {
    let mut relay = Relay::builder().section(nowhere()).prepare();
    let good = relay.command(&["check"]).await;
    assert!(good.status.success(), "{}", text(&good.stderr));
    relay.configure("relay", "main", |section| section.option("durability", "never"));
    let bad = relay.command(&["check"]).await;
    assert_eq!(bad.status.code(), Some(1));
    let said = text(&bad.stderr);
    assert!(
        said.contains("smtprelay.conf:") && said.contains("error: option durability 'never' is not one of"),
        "{said}"
    );
    let run = relay.command(&["run", "--foreground"]).await;
    assert!(!run.status.success());
}

/// Else a restart that relies on `check` would stop a gateway that works.
#[tokio::test]
async fn check_says_what_would_keep_the_gateway_from_starting() {
    let mut relay = Relay::builder().section(nowhere()).prepare();
    let file = relay.dir().join("file");
    std::fs::write(&file, "x").unwrap();
    let full = |path: &Path| path.display().to_string();
    let mut cases = vec![
        ("safe_spool", full(&file), "is not a directory"),
        ("safe_spool", full(&file.join("below")), "is not a directory"),
        ("safe_spool", "/proc/x".into(), "nothing can be stored in /proc: "),
        ("spool", full(&file), "is not a directory"),
    ];
    if nix::unistd::geteuid().is_root() {
        cases.insert(0, ("user", "nobody-of-this-name".into(), "does not exist"));
    }
    for (option, value, what) in cases {
        let mut before = None;
        relay.configure("relay", "main", |section| {
            before = Some(section.clone());
            section.option(option, &value)
        });
        let checked = relay.command(&["check"]).await;
        let said = text(&checked.stderr);
        assert!(said.contains(what) && said.contains("cannot start with these settings"), "{option} '{value}': {said}");
        assert_eq!(checked.status.code(), Some(1), "{option} '{value}': {said}");
        let run = relay.command(&["run", "--foreground"]).await;
        assert!(!run.status.success(), "{option} '{value}': {}", text(&run.stderr));
        relay.configure("relay", "main", |_| before.unwrap());
    }
    // What the gateway starts without is named all the same.
    relay.configure("listener", "lan", |section| {
        section.option("tls", "starttls").option("certificate", "/no/c.pem").option("key", "/no/k.pem")
    });
    relay.configure("account", "provider", |section| section.option("ca_file", full(&file)));
    let photos = relay.dir().join("photos");
    std::fs::create_dir_all(photos.join("holiday")).unwrap();
    relay.configure("relay", "main", |section| section.option("secrets", full(&photos)).option("user", "nobody"));
    let checked = relay.command(&["check"]).await;
    let said = text(&checked.stderr);
    assert_eq!(checked.status.code(), Some(3), "{said}");
    assert!(said.contains("certificate '/no/c.pem': cannot be read"), "{said}");
    assert!(said.contains(&format!("ca_file {}: contains no certificate", file.display())), "{said}");
    if nix::unistd::geteuid().is_root() {
        assert!(said.contains("also contains other files (holiday)"), "{said}");
        relay.configure("account", "provider", |section| section.option("password", ""));
        let stored = relay.command_with_input(&["password", "provider"], b"s3cret\n").await;
        let said = text(&stored.stderr);
        assert!(stored.status.success() && said.contains("also contains other files (holiday)"), "{said}");
    }
}

#[tokio::test]
async fn show_fills_in_and_masks() {
    let relay = Relay::builder().section(nowhere()).prepare();
    let shown = text(&relay.command(&["show"]).await.stdout);
    assert!(shown.contains("option password '********'") && !shown.contains("s3cret"), "{shown}");
    assert!(shown.contains("option retry_for '4d'") && shown.contains("option auth 'ignore'"), "{shown}");
}

#[tokio::test]
async fn version_help_and_nonsense() {
    let relay = Relay::builder().section(nowhere()).prepare();
    assert_eq!(text(&relay.command(&["--version"]).await.stdout), format!("smtprelay {}\n", env!("CARGO_PKG_VERSION")));
    assert!(text(&relay.command(&["--help"]).await.stdout).contains("usage: smtprelay COMMAND"));
    assert_eq!(relay.command(&["dance"]).await.status.code(), Some(64));
    assert_eq!(relay.command(&[]).await.status.code(), Some(64));
}

#[tokio::test]
async fn an_empty_queue_says_so() {
    let relay = Relay::builder().section(nowhere()).prepare();
    let listed = relay.command(&["queue"]).await;
    assert!(listed.status.success());
    assert_eq!(text(&listed.stdout), "Mail queue is empty\n");
}

#[tokio::test]
async fn local_mail_takes_the_same_way() {
    let provider = Provider::builder().tls(TlsMode::Implicit).login("u", "p").start().await;
    let relay = Relay::builder()
        .relay_option("admin", "admin@example.com")
        .section(Section::account("provider", &provider).option("from_policy", "keep"))
        .start()
        .await;
    let cron = b"From: root (Cron Daemon)\nTo: root\nBcc: hidden@example.com\nSubject: Cron <root@gw> backup\n\nfailed\n.\nnot dropped\n";
    let sent = relay.command_with_input(&["send", "-t", "-oi"], cron).await;
    assert!(sent.status.success(), "{}", text(&sent.stderr));
    let messages = provider.wait_for_messages(1, SOON).await;
    let mail = &messages[0];
    assert!(mail.recipients.contains(&"hidden@example.com".to_string()));
    assert!(!mail.text().contains("hidden"), "{}", mail.text());
    assert_eq!(mail.body(), b"failed\r\n.\r\nnot dropped\r\n");
    assert_eq!(mail.headers("Date").len(), 1);

    let sent =
        relay.command_with_input(&["send", "-f", "ups@example.com", "ops@example.com"], b"on battery\n.\ngone\n").await;
    assert!(sent.status.success(), "{}", text(&sent.stderr));
    let messages = provider.wait_for_messages(2, SOON).await;
    assert_eq!(messages[1].sender, "ups@example.com");
    assert_eq!(messages[1].body(), b"on battery\r\n");
    assert_eq!(messages[1].header("To").as_deref(), Some("ops@example.com"));

    let nobody = relay.command_with_input(&["send", "-t"], b"Subject: x\n\nx\n").await;
    assert_eq!(nobody.status.code(), Some(75));
    assert!(text(&nobody.stderr).contains("no recipient"));
}

#[tokio::test]
async fn local_mail_waits_for_a_gateway_that_does_not_run() {
    let provider = Provider::builder().tls(TlsMode::Implicit).login("u", "p").start().await;
    let mut relay = Relay::builder().durability("always").account("provider", &provider).prepare();
    let sent = relay.command_with_input(&["send", "-f", "ups@example.com", "ops@example.com"], b"on battery\n").await;
    assert!(sent.status.success(), "{}", text(&sent.stderr));
    let listed = text(&relay.command(&["queue"]).await.stdout);
    assert!(listed.contains("<ups@example.com>") && listed.contains("<ops@example.com> waiting"), "{listed}");
    assert!(listed.contains("1 message waiting\n"), "{listed}");
    relay.restart().await;
    provider.wait_for_messages(1, SOON).await;
}

#[tokio::test]
async fn it_answers_to_the_names_sendmail_and_mailq() {
    if std::env::var_os("SMTPRELAY_RUNNER").is_some() {
        println!("skipped: an emulator has a name of its own");
        return;
    }
    let relay = Relay::builder().section(nowhere()).prepare();
    let program = std::env::var_os("SMTPRELAY_BIN").unwrap_or_else(|| env!("CARGO_BIN_EXE_smtprelay").into());
    let run = |name: &str, arguments: &[&str]| {
        let link = relay.dir().join(name);
        std::os::unix::fs::symlink(Path::new(&program), &link).unwrap();
        let output = Command::new(&link).args(arguments).arg("--config").arg(relay.config_path()).output().unwrap();
        std::fs::remove_file(link).unwrap();
        output
    };
    assert_eq!(text(&run("sendmail", &["-bp"]).stdout), "Mail queue is empty\n");
    let usage = run("sendmail", &["-bs"]);
    assert_eq!(usage.status.code(), Some(64));
    let unread = run("mailq", &[]);
    // mailq takes no options: it looks at the settings of the system.
    assert!(unread.status.success() || text(&unread.stderr).contains("/etc/config/smtprelay"));
}

/// How a package of OpenWrt sends mail, and what arrives.
struct Caller {
    who: &'static str,
    /// The name of the program that it calls.
    name: &'static str,
    arguments: &'static [&'static str],
    input: &'static str,
    to: &'static str,
    /// A part of what arrives.
    body: &'static str,
}

const CALLERS: &[Caller] = &[
    Caller {
        who: "adblock",
        name: "msmtp",
        arguments: &["-a", "adb_notify", "ops@example.com"],
        input: "From: no-reply@adblock\nTo: ops@example.com\nSubject: adblock notification\nReply-to: no-reply@adblock\n\
         Mime-Version: 1.0\nContent-Type: text/html;charset=utf-8\nContent-Disposition: inline\n\n\
         <html><body><pre>\n.\n++ System\n</pre></body></html>\n",
        to: "ops@example.com",
        body: "++ System",
    },
    Caller {
        who: "adblock with its option for faults",
        name: "msmtp",
        arguments: &["--debug", "-a", "adb_notify", "ops@example.com"],
        input: "From: no-reply@adblock\nTo: ops@example.com\nSubject: s\n\ndebugged\n",
        to: "ops@example.com",
        body: "debugged",
    },
    Caller {
        who: "banip",
        name: "msmtp",
        arguments: &["--timeout=10", "-a", "ban_notify", "ops@example.com"],
        input: "From: no-reply@banIP\nTo: ops@example.com\nSubject: banIP notification\n\nbanned\n",
        to: "ops@example.com",
        body: "banned",
    },
    Caller {
        who: "travelmate",
        name: "msmtp",
        arguments: &["--timeout=10", "--debug", "-a", "trm_notify", "ops@example.com"],
        input: "From: no-reply@travelmate\nTo: ops@example.com\nSubject: travelmate connection to 'x'\n\nconnected\n",
        to: "ops@example.com",
        body: "connected",
    },
    Caller {
        who: "nut",
        name: "sendmail",
        arguments: &["root"],
        input: "From: root\nTo: root\nSubject: ONBATT Notification\nDate: Mon, 23 Nov 2026 09:00:00 +0000\n\
         Content-Type: text/plain; charset=utf-8\n\nUPS on battery\n.\n",
        to: "admin@example.com",
        body: "UPS on battery",
    },
    Caller {
        who: "a program that leaves all to the header",
        name: "sendmail",
        arguments: &["-t", "-oi", "-oem"],
        input: "From: root\nTo: ops@example.com\nSubject: s\n\nheader\n",
        to: "ops@example.com",
        body: "header",
    },
    Caller {
        who: "a mail program set up for msmtp",
        name: "msmtp",
        arguments: &["-C", "/etc/msmtprc", "--account", "gmail", "--read-envelope-from", "--read-recipients"],
        input: "From: me@example.com\nTo: ops@example.com\nSubject: s\n\nfrom a mail program\n",
        to: "ops@example.com",
        body: "from a mail program",
    },
];

#[tokio::test]
async fn packages_of_openwrt_send_as_they_do() {
    if std::env::var_os("SMTPRELAY_RUNNER").is_some() {
        println!("skipped: an emulator has a name of its own");
        return;
    }
    let provider = Provider::builder().tls(TlsMode::Implicit).login("u", "p").start().await;
    let relay = Relay::builder()
        .relay_option("admin", "admin@example.com")
        .section(Section::account("provider", &provider))
        .start()
        .await;
    let program = std::env::var_os("SMTPRELAY_BIN").unwrap_or_else(|| env!("CARGO_BIN_EXE_smtprelay").into());
    for name in ["sendmail", "msmtp"] {
        std::os::unix::fs::symlink(Path::new(&program), relay.dir().join(name)).unwrap();
    }
    for (at, Caller { who, name, arguments, input, to, body }) in CALLERS.iter().enumerate() {
        let mut command = tokio::process::Command::new(relay.dir().join(name));
        // In front, for what stands behind -- is an address.
        command.arg("--config").arg(relay.config_path()).args(*arguments);
        command.stdin(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        tokio::io::AsyncWriteExt::write_all(&mut stdin, input.as_bytes()).await.unwrap();
        drop(stdin);
        let output = child.wait_with_output().await.unwrap();
        assert!(output.status.success(), "{who}: {}", text(&output.stderr));
        let messages = provider.wait_for_messages(at + 1, SOON).await;
        let mail = &messages[at];
        assert_eq!(mail.recipients, [*to], "{who}");
        assert!(mail.text().contains(body), "{who}: {}", mail.text());
        assert!(!mail.text().contains("_notify"), "{who}: {}", mail.text());
    }
    let pretended = Command::new(relay.dir().join("msmtp")).args(["--pretend", "ops@example.com"]).output().unwrap();
    assert_eq!(pretended.status.code(), Some(64));
    let version = Command::new(relay.dir().join("msmtp")).arg("--version").output().unwrap();
    assert_eq!(text(&version.stdout), format!("smtprelay {}\n", env!("CARGO_PKG_VERSION")));
}
