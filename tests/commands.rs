// SPDX-License-Identifier: Apache-2.0
//! The command line as people and programs use it.

mod support;

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use support::login_server::{CLIENT, LoginServer, Say};
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
    assert_eq!(checked.status.code(), Some(75), "{said}");
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
    assert_eq!(relay.command(&["version"]).await.stdout, relay.command(&["--version"]).await.stdout);
    let whole = text(&relay.command(&["help"]).await.stdout);
    for line in whole.lines().filter(|line| line.starts_with("  ") && !line.starts_with("   ")) {
        let words: Vec<&str> =
            line.split_whitespace().take_while(|word| word.chars().all(char::is_lowercase)).collect();
        if words[0] == "help" {
            continue;
        }
        let name = if words[0] == "queue" { &words[..words.len().min(2)] } else { &words[..1] };
        let after = relay.command(&[name, &["--help"]].concat()).await;
        let before = relay.command(&[&["help"], name].concat()).await;
        assert!(after.status.success() && text(&after.stdout).contains(line), "{name:?}: {after:?}");
        assert_eq!(after.stdout, before.stdout, "{name:?}");
    }
    for (words, part) in [
        (&["stauts"][..], "unknown command 'stauts'; did you mean 'status'?"),
        (&["queue", "realese", "all"], "did you mean 'release'?"),
        (&["status", "--jsno"], "did you mean '--json'?"),
        (&["help", "qeueu"], "did you mean 'queue'?"),
        (&["providers", "gmial"], "did you mean 'gmail'?"),
        (&["run", "--json"], "option --json is not valid with run"),
        (&["queue", "delete", "all", "--device", "plc"], "option --device is not valid with queue delete"),
        (&["status", "now"], "'now' is one word too many"),
        (&["queue", "--older", "soon"], "--older 'soon' is not "),
    ] {
        let ran = relay.command(words).await;
        let said = text(&ran.stderr);
        assert_eq!(ran.status.code(), Some(64), "{words:?}: {said}");
        assert!(said.starts_with("smtprelay: ") && said.contains(part), "{words:?}: {said}");
    }
    assert!(relay.command(&["providers", "GMail"]).await.status.success());
    let wrong = relay.command(&["test", "me@@example.com"]).await;
    assert_eq!(wrong.status.code(), Some(65), "{}", text(&wrong.stderr));
    // The settings file has one name for every command, in front or behind.
    let file = relay.config_path().display().to_string();
    for words in [&["-c", &file, "check"][..], &["check", "-c", &file], &["check", &format!("--config={file}")]] {
        let mut command = tokio::process::Command::from(relay.program());
        let ran = command.args(words).output().await.unwrap();
        assert!(ran.status.success() && text(&ran.stdout).contains(&file), "{words:?}: {}", text(&ran.stderr));
    }
    let mut command = tokio::process::Command::from(relay.program());
    let sent = command.args(["-c", &file, "send"]).stdin(std::process::Stdio::null()).output().await.unwrap();
    assert!(sent.status.code() == Some(64) && text(&sent.stderr).contains("no recipient"), "{sent:?}");
}

/// Every command answers a program in JSON, also where it fails.
#[tokio::test]
async fn every_command_speaks_json() {
    let mut relay = Relay::builder().section(nowhere()).start().await;
    let id = support::ask::send(&relay, &["ops@example.com"], "x").await;
    for (command, field) in [
        ("version", "version"),
        ("check", "problems"),
        ("show", "sections"),
        ("reload", "warnings"),
        ("status", "health"),
        ("history", "entries"),
        ("devices", "devices"),
        ("wake", ""),
        ("queue hold all", "count"),
        ("queue release all", "already"),
        ("queue retry all", "over_rate"),
        ("providers gmail", "host"),
        (&format!("queue show {id} --body"), "body"),
        ("queue delete all", "count"),
    ] {
        let answer = support::ask::json(&relay, command).await;
        assert!(field.is_empty() || !answer[field].is_null(), "{command}: {answer}");
    }
    let shown = support::ask::json(&relay, "show").await;
    let account = shown["sections"].as_array().unwrap().iter().find(|section| section["type"] == "account").unwrap();
    assert_eq!((&account["name"], &account["options"]["password"]), (&"provider".into(), &"********".into()));
    relay.configure("relay", "main", |section| section.option("durability", "never"));
    let output = relay.command(&["check", "--json"]).await;
    let checked: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((output.status.code(), &checked["valid"]), (Some(1), &false.into()), "{checked}");
    let error = checked["problems"].as_array().unwrap().iter().find(|problem| problem["severity"] == "error").unwrap();
    assert!(error["line"].is_u64() && error["text"].as_str().unwrap().contains("durability 'never'"), "{error}");
    for (words, code) in [
        (&["reload", "--json"][..], 1),
        (&["queue", "show", "0000000000", "--json"], 66),
        (&["queue", "--jsn", "--json"], 64),
    ] {
        let ran = relay.command(words).await;
        let error: serde_json::Value = serde_json::from_slice(&ran.stdout).unwrap();
        assert_eq!((ran.status.code(), &error["exit"]), (Some(code), &code.into()), "{words:?}: {error}");
        assert!(error["error"].is_string(), "{error}");
    }
}

/// Hundreds of messages that wait for the same reason say so once; and some of them can be looked for.
#[tokio::test]
async fn a_queue_is_read_at_a_glance() {
    let pump = Section::new("device", "pump").list("ip", "127.0.0.1");
    let relay = Relay::builder().section(nowhere()).section(pump).start().await;
    for (count, to) in [(3, "ops@example.com"), (1, "night@example.org")] {
        for n in 0..count {
            support::ask::send(&relay, &[to], &n.to_string()).await;
        }
    }
    let settled = |messages: &[serde_json::Value]| {
        messages.len() == 4 && messages.iter().all(|m| m["why"].as_str().unwrap().starts_with("no connection"))
    };
    let all = support::ask::queue_until(&relay, settled).await;
    let listed = support::ask::said(&relay, "queue").await;
    let why = all[0]["why"].as_str().unwrap();
    let reasons: Vec<&str> = listed.lines().filter(|line| line.starts_with('[')).collect();
    assert_eq!(reasons, [format!("[1] {why} (4 times)")], "{listed}");
    assert!(listed.starts_with("ID          ") && listed.contains("  pump (127.0.0.1)  "), "{listed}");
    let recipients = listed.lines().next().unwrap().find("RECIPIENT").unwrap();
    assert!(listed.lines().skip(1).take(4).all(|line| line[recipients..].starts_with('<')), "{listed}");
    for (filter, count) in [
        ("--device pump", 4),
        ("--device 127.0.0.1", 4),
        ("--device 127.0.0.2", 0),
        ("--recipient example.org", 1),
        ("--recipient OPS@example.com", 3),
        ("--account provider", 4),
        ("--account other", 0),
        ("--newer 1d", 4),
        ("--older 1d", 0),
    ] {
        let found = support::ask::json(&relay, &format!("queue {filter}")).await;
        assert_eq!(found.as_array().unwrap().len(), count, "{filter}: {found}");
        let text = support::ask::said(&relay, &format!("queue {filter}")).await;
        assert!(count == 4 || text.contains(&format!("{count} of 4 messages waiting\n")), "{filter}: {text}");
    }
    let id = all[0]["id"].as_str().unwrap();
    let shown = support::ask::said(&relay, &format!("queue show {id} --body")).await;
    assert!(shown.trim_end().ends_with("\n\nalarm") && shown.contains("\nSubject: "), "{shown}");
    assert!(!support::ask::said(&relay, &format!("queue show {id}")).await.contains("alarm"));
}

/// A terminal for a command: what it types in, and what is shown.
fn on_terminal(relay: &Relay, arguments: &[&str], typed: &str) -> (Option<i32>, String) {
    use std::io::{Read, Write};
    let pty = nix::pty::openpty(None, None).unwrap();
    let mut command = relay.program();
    command.args(arguments).arg("--config").arg(relay.config_path()).env("TERM", "xterm");
    let end = || std::process::Stdio::from(pty.slave.try_clone().unwrap());
    let mut child = command.stdin(end()).stdout(end()).stderr(end()).spawn().unwrap();
    drop(command);
    drop(pty.slave);
    let mut terminal = std::fs::File::from(pty.master);
    terminal.write_all(typed.as_bytes()).unwrap();
    let mut shown = Vec::new();
    // At its end a terminal fails.
    let _ = terminal.read_to_end(&mut shown);
    (child.wait().unwrap().code(), text(&shown))
}

#[tokio::test]
async fn a_terminal_is_asked_and_has_colours() {
    let relay = Relay::builder().section(nowhere()).env("NO_COLOR", "").start().await;
    support::ask::send(&relay, &["ops@example.com"], "x").await;
    relay.wait_log(|line| line.contains("event=paused"), SOON).await;
    let settled = |messages: &[serde_json::Value]| messages.len() == 1 && messages[0]["standing"] != "sending";
    support::ask::queue_until(&relay, settled).await;
    let (code, shown) = on_terminal(&relay, &["queue", "delete", "all"], "n\n");
    assert!(code == Some(1) && shown.contains("Delete all 1 queued message? Nobody will be notified."), "{shown}");
    assert_eq!(support::ask::queue(&relay).await.len(), 1);
    let (code, shown) = on_terminal(&relay, &["status"], "");
    assert!(code == Some(1) && shown.contains("\x1b[31mNot relaying"), "{shown}");
    let (code, shown) = on_terminal(&relay, &["test", "ops@example.com"], "");
    assert!(code == Some(1) && shown.contains("\x1b[31m✗\x1b[0m tcp: "), "{shown}");
    let (code, shown) = on_terminal(&relay, &["queue", "delete", "all", "--yes"], "");
    assert!(code == Some(0) && shown.contains("1 message deleted"), "{shown}");
    let plain = Relay::builder().section(nowhere()).env("NO_COLOR", "1").start().await;
    let (_, shown) = on_terminal(&plain, &["status"], "");
    assert!(shown.contains("Relaying; ") && !shown.contains("\x1b["), "{shown}");
}

#[tokio::test]
async fn the_log_is_that_of_the_system() {
    if std::env::var_os("SMTPRELAY_RUNNER").is_some() {
        println!("skipped: an emulator has a name of its own");
        return;
    }
    let relay = Relay::builder().section(nowhere()).prepare();
    let logread = relay.dir().join("logread");
    std::fs::write(&logread, "#!/bin/sh\necho logread \"$@\"\n").unwrap();
    std::fs::set_permissions(&logread, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let path = format!("{}:/usr/bin:/bin", relay.dir().display());
    for (words, wanted) in [
        (&["log"][..], "logread -e smtprelay\n"),
        (&["log", "--follow"], "logread -e smtprelay -f\n"),
        (&["log", "7yd60paapz", "-f"], "logread -e 7YD60PAAPZ -f\n"),
    ] {
        let output = relay.program().args(words).env("PATH", &path).output().unwrap();
        assert_eq!(text(&output.stdout), wanted, "{}", text(&output.stderr));
    }
    let output = relay.program().arg("log").env("PATH", "/nonexistent").output().unwrap();
    assert_eq!(output.status.code(), Some(69));
}

/// From the settings as they are shipped to a delivered mail.
#[tokio::test]
async fn setup_takes_an_address_and_a_password() {
    let provider = Provider::builder().tls(TlsMode::Implicit).login("me@example.com", "s3cret word").start().await;
    let mut relay = Relay::builder()
        .relay_option("enabled", "0")
        .section(Section::new("account", "provider").option("provider", "custom"))
        .env("SSL_CERT_FILE", &provider.certs().ca_file().display().to_string())
        .prepare();
    let port = provider.port().to_string();
    let own = ["setup", "me@example.com", "--host", "127.0.0.1", "--port", &port, "--tls", "implicit"];
    let before = std::fs::read_to_string(relay.config_path()).unwrap();
    let said = text(&relay.command(&["status"]).await.stderr);
    assert!(said.contains("is switched off; set it up with 'smtprelay setup ADDRESS'"), "{said}");
    // What goes wrong changes nothing.
    for (words, input, code, part) in [
        (&["setup", "me@example.com"][..], &b"s3cret\n"[..], 64, "no provider is known for example.com"),
        (&["setup", "me@example.com", "--provider", "Gmial"], b"s3cret\n", 64, "did you mean 'gmail'?"),
        (&["setup", "me"], b"s3cret\n", 65, "is not a mail address"),
        (
            &["setup", "me@example.com", "--host", "h", "--port", "0"],
            b"s3cret\n",
            64,
            "--port requires a number from 1 to",
        ),
        (
            &["setup", "me@example.com", "--host", "h", "--tls", "none"],
            b"s3cret\n",
            64,
            "--tls requires implicit or start",
        ),
        (
            &["setup", "me@example.com", "--host", "h:465"],
            b"s3cret\n",
            64,
            "--host requires a host name without a port",
        ),
        (
            &["setup", "AKIA@example.com", "--provider", "ses"],
            b"s3cret\n",
            64,
            "smtprelay: the host email-smtp.{region}",
        ),
        (&own, b"\n", 64, "password"),
    ] {
        let ran = relay.command_with_input(words, input).await;
        let said = text(&ran.stderr);
        assert!(ran.status.code() == Some(code) && said.contains(part), "{words:?}: {said}");
        assert_eq!(std::fs::read_to_string(relay.config_path()).unwrap(), before);
    }
    let ran = relay.command_with_input(&own, b"s3cret word\n").await;
    let said = text(&ran.stdout);
    println!("{said}");
    assert!(ran.status.success(), "{said}{}", text(&ran.stderr));
    assert!(
        said.contains("Account 'provider' works") && said.contains("On your devices, set the mail server"),
        "{said}"
    );
    assert_eq!(provider.wait_for_messages(1, SOON).await[0].recipients, ["me@example.com"]);
    let after = std::fs::read_to_string(relay.config_path()).unwrap();
    assert!(after.contains("option enabled '1'") && !after.contains("s3cret"), "{after}");
    // It runs with them.
    relay.spawn();
    relay.wait_until_listening().await;
    support::ask::send(&relay, &["ops@example.com"], "x").await;
    provider.wait_for_messages(2, SOON).await;
    // A preset, beside the account that is there; the gateway that runs gets it at once.
    let ran = relay.command_with_input(&["setup", "me@gmail.com"], b"abcd efgh ijkl mnop\n").await;
    let said = text(&ran.stdout);
    assert!(said.contains("Account 'gmail': me@gmail.com at gmail\n"), "{said}{}", text(&ran.stderr));
    assert!(said.contains("create an app password at https://myaccount.google.com/apppasswords\n"), "{said}");
    let status = support::ask::json(&relay, "status").await;
    let names: Vec<_> = status["accounts"].as_array().unwrap().iter().map(|account| &account["name"]).collect();
    assert_eq!(names, ["provider", "gmail"], "{status}");
    assert_eq!(status["accounts"][1]["secret"], "set");
}

/// The same where the provider accepts no password: the sign-in comes before the test mail.
#[tokio::test]
async fn setup_signs_in_where_no_password_works() {
    let certs = support::certs::Certs::new();
    let login = LoginServer::start(&certs).await;
    let provider = Provider::builder().certs(&certs).tokens("me@example.com", login.tokens()).start().await;
    // The URLs of a login server of one's own, as docs/guide/oauth.md has them.
    let relay = Relay::builder()
        .relay_option("enabled", "0")
        .section(login.account(Section::new("account", "provider").option("provider", "custom")))
        .section(login.account(Section::new("account", "office").option("enabled", "0")))
        .env("SSL_CERT_FILE", &provider.certs().ca_file().display().to_string())
        .prepare();
    let written = || std::fs::read_to_string(relay.config_path()).unwrap();
    let before = written();
    let port = provider.port().to_string();
    for (words, code, part) in [
        (&["setup", "me@outlook.com", "--account", "new"][..], 64, "name it with --client-id"),
        (&["setup", "me@yahoo.com", "--client-id", "1"], 64, "requires an account at Google or Microsoft"),
        (&["setup", "me@gmail.com", "--client-id", "1", "--account", "new"], 64, "is empty; nothing was changed\n"),
    ] {
        let ran = relay.command_with_input(words, b"").await;
        let said = text(&ran.stderr);
        assert!(ran.status.code() == Some(code) && said.contains(part), "{words:?}: {said}");
        assert_eq!(written(), before);
    }
    login.approve();
    let client = ["--host", "127.0.0.1", "--port", &port, "--tls", "implicit", "--client-id", CLIENT.0];
    let ran = relay.command_with_input(&[&["setup", "me@example.com"], &client[..]].concat(), b"").await;
    let said = text(&ran.stdout);
    assert!(ran.status.success(), "{said}{}", text(&ran.stderr));
    let order = ["Account 'provider'", "sign in as me@example.com", "is logged in", "Account 'provider' works"];
    let places: Vec<_> = order.iter().map(|part| said.find(part).unwrap_or_else(|| panic!("{part}: {said}"))).collect();
    assert!(places.is_sorted(), "{said}");
    assert_eq!(provider.wait_for_messages(1, SOON).await[0].recipients, ["me@example.com"]);
    assert!(written().contains("option auth 'xoauth2'") && written().contains("option enabled '1'"));
    for secret in login.secrets() {
        assert!(!written().contains(&secret) || secret == CLIENT.1, "{}", written());
    }
    // The presets know whose client it is. Nobody agrees to this sign-in, so nothing is sent to the provider.
    login.script([Say::error("access_denied")]);
    let words = ["setup", "me@outlook.com", "--account", "office", "--client-id", "client-8"];
    let ran = relay.command_with_input(&words, b"").await;
    assert_eq!(ran.status.code(), Some(1), "{}", text(&ran.stderr));
    assert!(text(&ran.stderr).contains("login failed"), "{}", text(&ran.stderr));
    let office = written().split("config account 'office'").nth(1).expect("the section").to_owned();
    for option in ["provider 'outlook'", "oauth 'microsoft'", "client_id 'client-8'", "username 'me@outlook.com'"] {
        assert!(office.contains(option), "{option}: {office}");
    }
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
    assert_eq!(nobody.status.code(), Some(65));
    assert!(text(&nobody.stderr).contains("no recipient"));
    // The codes of sysexits.h, which callers of a sendmail look at.
    for (arguments, code) in [
        (&["send"][..], 64),
        (&["send", "-z", "ops@example.com"], 64),
        (&["send", "-a", "profile", "ops@example.com"], 64),
        (&["send", "--account", "x", "ops@example.com"], 64),
        (&["send", "ops@@example.com"], 65),
        (&["send", "-t"], 65),
    ] {
        let ran = relay.command_with_input(arguments, b"To: a@@b\n\nx\n").await;
        assert_eq!(ran.status.code(), Some(code), "{arguments:?}: {}", text(&ran.stderr));
        assert!(text(&ran.stderr).starts_with("smtprelay: "), "{}", text(&ran.stderr));
    }
    let named =
        relay.command_with_input(&["send", "--json", "-F", "Backup, nightly", "ops@example.com"], b"\ndone\n").await;
    let id: serde_json::Value = serde_json::from_slice(&named.stdout).unwrap();
    assert_eq!(id["id"].as_str().map(str::len), Some(10), "{id}");
    let messages = provider.wait_for_messages(3, SOON).await;
    assert!(
        messages[2].header("From").unwrap().starts_with("\"Backup, nightly\" <"),
        "{:?}",
        messages[2].header("From")
    );
}

#[tokio::test]
async fn local_mail_waits_for_a_gateway_that_does_not_run() {
    let provider = Provider::builder().tls(TlsMode::Implicit).login("u", "p").start().await;
    let mut relay = Relay::builder().durability("always").account("provider", &provider).prepare();
    let sent = relay.command_with_input(&["send", "-f", "ups@example.com", "ops@example.com"], b"on battery\n").await;
    assert!(sent.status.success(), "{}", text(&sent.stderr));
    let listed = text(&relay.command(&["queue"]).await.stdout);
    assert!(listed.contains("<ups@example.com>") && listed.contains("<ops@example.com>  waiting"), "{listed}");
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
    // There is nothing to retry while it does not run.
    for options in [&["-q"][..], &["-q30m"], &["-qI7YD60PAAPZ"]] {
        assert_eq!(run("sendmail", options).status.code(), Some(69), "{options:?}");
    }
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
