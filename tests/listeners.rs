// SPDX-License-Identifier: Apache-2.0
//! TLS towards devices, and the dialect `strict`.

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};
use std::time::Duration;

use support::ask::{json, run};
use support::certs::{Cert, Certs};
use support::client::Client;
use support::provider::{Provider, TlsMode};
use support::relay::{Relay, RelayBuilder, Section, field};

const SOON: Duration = Duration::from_secs(60);
const TEXT: &str = "From: plc@example.com\r\nTo: ops@example.com\r\nSubject: x\r\n\r\nalarm\r\n";

fn relay() -> RelayBuilder {
    Relay::builder().durability("memory").section(Section::custom_account("provider", "127.0.0.1", 1, "implicit"))
}

fn protected(tls: &str, certs: &Certs) -> RelayBuilder {
    relay()
        .listener_option("tls", tls)
        .listener_option("certificate", certs.cert_file(Cert::Good).display())
        .listener_option("key", certs.key_file(Cert::Good).display())
}

fn offers_starttls(lines: &[String]) -> bool {
    lines.iter().any(|line| line == "STARTTLS")
}

#[tokio::test]
async fn starttls_is_offered_where_it_is_asked_for_and_begins_anew() {
    let certs = Certs::new();
    let provider = Provider::builder().tls(TlsMode::Implicit).login("u", "p").start().await;
    let account = Section::account("provider", &provider).option("from_policy", "keep");
    let relay = Relay::builder()
        .durability("memory")
        .listener_option("tls", "starttls")
        .listener_option("certificate", certs.cert_file(Cert::Good).display())
        .listener_option("key", certs.key_file(Cert::Good).display())
        .section(account)
        .start()
        .await;
    let mut device = Client::greeted(relay.addr()).await;
    assert!(offers_starttls(&device.command("EHLO plc").await.lines));
    device.dialogue(&[("AUTH PLAIN AHVzZXIAc2VjcmV0", 235), ("MAIL FROM:<a@b.c>", 250)]).await;
    device.dialogue(&[("STARTTLS", 220)]).await;
    device.start_tls(&certs).await.unwrap();
    // What was said before counts for nothing.
    device.dialogue(&[("RCPT TO:<d@e.f>", 503)]).await;
    assert!(!offers_starttls(&device.command("EHLO plc").await.lines));
    device.dialogue(&[("STARTTLS", 503)]).await;
    assert_eq!(device.send("plc@example.com", &["ops@example.com"], TEXT).await.code, 250);
    device.dialogue(&[("QUIT", 221)]).await;
    assert!(device.read_to_end().await.is_empty());
    let line = relay.wait_log(|line| line.contains("event=accepted"), SOON).await;
    assert_eq!((field(&line, "tls"), field(&line, "login")), (Some("TLSv1.3"), None), "{line}");
    // It is an offer: devices without TLS go on as ever.
    let mut device = Client::greeted(relay.addr()).await;
    device.dialogue(&[("EHLO plc", 250)]).await;
    assert_eq!(device.send("plc@example.com", &["ops@example.com"], TEXT).await.code, 250);
    let messages = provider.wait_for_messages(2, SOON).await;
    assert!(messages[0].headers("Received")[0].contains(" with ESMTPS "), "{}", messages[0].text());
    assert!(messages[1].headers("Received")[0].contains(" with ESMTP "), "{}", messages[1].text());
}

#[tokio::test]
async fn starttls_is_not_offered_otherwise() {
    let relay = relay().start().await;
    let mut device = Client::greeted(relay.addr()).await;
    assert!(!offers_starttls(&device.command("EHLO plc").await.lines));
    device.dialogue(&[("STARTTLS", 502)]).await;
    assert_eq!(device.send("plc@example.com", &["ops@example.com"], TEXT).await.code, 250);
}

#[tokio::test]
async fn what_comes_behind_starttls_in_plain_text_is_thrown_away() {
    let certs = Certs::new();
    let relay = protected("starttls", &certs).start().await;
    let mut device = Client::greeted(relay.addr()).await;
    device.dialogue(&[("EHLO plc", 250)]).await;
    device.write(b"STARTTLS\r\nEHLO evil\r\nMAIL FROM:<evil@x.y>\r\nRCPT TO:<victim@x.y>\r\n").await.unwrap();
    device.expect(220).await;
    device.start_tls(&certs).await.unwrap();
    // Each command has its own reply, and nothing was begun.
    device.dialogue(&[("NOOP", 250), ("RCPT TO:<victim@x.y>", 503), ("EHLO plc", 250), ("QUIT", 221)]).await;
    assert!(!relay.log().iter().any(|line| line.contains("evil")));
}

#[tokio::test]
async fn tls_from_the_first_byte() {
    let certs = Certs::new();
    let relay = protected("implicit", &certs).start().await;
    let mut device = Client::connect(relay.addr()).await;
    device.start_tls(&certs).await.unwrap();
    device.expect(220).await;
    assert!(!offers_starttls(&device.command("EHLO plc").await.lines));
    device.dialogue(&[("STARTTLS", 503), ("AUTH PLAIN AHVzZXIAc2VjcmV0", 235)]).await;
    assert_eq!(device.send("plc@example.com", &["ops@example.com"], TEXT).await.code, 250);
    relay.wait_log(|line| line.contains("event=accepted") && line.contains("tls=TLSv1.3"), SOON).await;
    // A device that speaks no TLS: the log says what is wrong.
    let mut plain = Client::connect(relay.addr()).await;
    plain.write(b"EHLO plc\r\n").await.unwrap();
    plain.read_to_end().await;
    relay.wait_log(|line| line.contains("event=aborted") && line.contains("does not speak TLS"), SOON).await;
}

/// A client of somebody else, that trusts nothing but our own certificate.
#[tokio::test]
async fn openssl_accepts_our_own_certificate_when_it_is_pinned() {
    if Command::new("openssl").arg("version").output().is_err() {
        return println!("skipped: no openssl here");
    }
    if fs::exists("/etc/uhttpd.crt").unwrap() {
        return println!("skipped: this machine has a certificate of uhttpd");
    }
    let relay = relay().listener_option("tls", "starttls").start().await;
    let pem = relay.safe_spool().join("tls.crt");
    for (version, name) in [("-tls1_2", "TLSv1.2"), ("-tls1_3", "TLSv1.3")] {
        let mut command = tokio::process::Command::new("openssl");
        command.args(["s_client", "-starttls", "smtp", "-verify_return_error", "-verify_ip", "127.0.0.1", "-brief"]);
        command.args([version, "-CAfile"]).arg(&pem).arg("-connect").arg(relay.addr().to_string());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        tokio::io::AsyncWriteExt::write_all(&mut child.stdin.take().unwrap(), b"QUIT\n").await.unwrap();
        let output = child.wait_with_output().await.unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(said.contains(name) && said.contains("Verification: OK"), "{said}");
    }
}

#[tokio::test]
async fn a_certificate_that_can_not_be_used_is_named() {
    let certs = Certs::new();
    let missing = certs.ca_file().with_file_name("missing.pem");
    let mut relay = protected("implicit", &certs).listener_option("certificate", missing.display()).prepare();
    let why = format!("option certificate '{}'", missing.display());
    let checked = run(&relay, "check").await;
    assert!(checked.code == 75 && checked.err.contains(&why), "{checked:?}");
    // It starts all the same: there may be mail to send.
    relay.spawn();
    relay.wait_log(|line| line.contains("event=advice") && line.contains(&why), SOON).await;
    relay.wait_log(started, SOON).await;
    let status = json(&relay, "status").await;
    assert_eq!(status["reachable"], "no", "{status}");
    assert!(status["health"].as_str().unwrap().contains(&why), "{status}");
    // Each has its own reason.
    let another = missing.with_file_name("another.pem");
    let second = Section::new("listener", "second").list("address", "127.0.0.1").list("allow", "127.0.0.0/8");
    let second = second.option("port", free_port()).option("tls", "starttls").option("certificate", another.display());
    let second = second.option("key", certs.key_file(Cert::Good).display());
    let relay = protected("implicit", &certs).listener_option("certificate", missing.display());
    let mut relay = relay.section(second).prepare();
    relay.spawn();
    relay.wait_log(started, SOON).await;
    for file in [&missing, &another] {
        let why = format!("option certificate '{}'", file.display());
        relay.wait_log(|line| line.contains("event=advice") && line.contains(&why), SOON).await;
        let status = json(&relay, "status").await;
        let of_it = |shown: &&serde_json::Value| shown["note"].as_str().is_some_and(|note| note.contains(&why));
        assert_eq!(status["listeners"].as_array().unwrap().iter().filter(of_it).count(), 1, "{status}");
    }
    // Beside a listener that can start, only the other one is missing.
    let second = Section::new("listener", "tls")
        .list("address", "127.0.0.1")
        .list("allow", "127.0.0.0/8")
        .option("port", 0)
        .option("tls", "implicit")
        .option("certificate", certs.cert_file(Cert::Good).display())
        .option("key", missing.display());
    let relay = self::relay().section(second).start().await;
    let line = relay.wait_log(|line| line.contains("event=advice") && line.contains("option key '"), SOON).await;
    assert!(line.contains("listener 'tls'"), "{line}");
    Client::greeted(relay.addr()).await.dialogue(&[("EHLO plc", 250)]).await;
}

#[tokio::test]
async fn a_reload_takes_over_new_certificates_and_keeps_old_ones() {
    let certs = Certs::new();
    let relay = protected("implicit", &certs).start().await;
    let accepted = async || {
        let mut device = Client::connect(relay.addr()).await;
        device.start_tls(&certs).await.is_ok()
    };
    assert!(accepted().await);
    fs::write(certs.cert_file(Cert::Good), "no certificate").unwrap();
    relay.sighup();
    relay.wait_log(|line| line.contains("event=advice") && line.contains("option certificate '"), SOON).await;
    assert!(accepted().await, "the old one stays");
    let status = json(&relay, "status").await;
    let note = status["listeners"][0]["note"].as_str().unwrap_or_default();
    assert!(note.starts_with("still uses its previous certificate, and will be closed after a restart: "), "{status}");
    // One that the device does not accept shows that it is in use.
    fs::copy(certs.cert_file(Cert::WrongName), certs.cert_file(Cert::Good)).unwrap();
    fs::copy(certs.key_file(Cert::WrongName), certs.key_file(Cert::Good)).unwrap();
    relay.sighup();
    while accepted().await {}
}

/// What a listener was without is no reason to turn devices away. It goes on as it was, and that is what is shown.
#[tokio::test]
async fn a_plain_listener_stays_as_it_is_when_its_new_certificate_can_not_be_used() {
    let certs = Certs::new();
    let missing = certs.ca_file().with_file_name("missing.pem");
    for tls in ["starttls", "implicit"] {
        let mut relay = relay().start().await;
        let mut before = Client::greeted(relay.addr()).await;
        relay.configure("listener", "lan", |section| {
            let section = section.option("tls", tls).option("certificate", missing.display());
            // What else has changed applies.
            section.option("key", certs.key_file(Cert::Good).display()).option("auth", "none")
        });
        let why = format!(
            "still runs without TLS, and will be closed after a restart: option certificate '{}'",
            missing.display()
        );
        let ran = run(&relay, "reload").await;
        assert!(ran.code == 0 && ran.err.contains("listener 'lan': option certificate '"), "{ran:?}");
        relay.wait_log(|line| line.contains("event=advice") && line.contains(&why), SOON).await;
        let status = json(&relay, "status").await;
        let shown = &status["listeners"][0];
        assert_eq!(
            (&shown["open"], &shown["tls"], &status["reachable"]),
            (&true.into(), &"none".into(), &"yes".into())
        );
        assert!(shown["note"].as_str().is_some_and(|note| note.contains(&why)), "{status}");
        let text = run(&relay, "status").await;
        let line = format!("listener lan: 127.0.0.1 port {}, tls none: {why}", relay.addr().port());
        assert!(text.code == 0 && text.out.contains(&line), "{text:?}");
        let checked = run(&relay, "check").await;
        assert!(checked.code == 75 && !checked.err.contains("cannot connect"), "{checked:?}");
        assert!(!relay.log().iter().any(|line| line.contains("cannot connect")), "{:?}", relay.log());
        let mut device = Client::greeted(relay.addr()).await;
        let offered = device.command("EHLO plc").await.lines;
        assert!(!offered.iter().any(|line| line == "STARTTLS" || line.starts_with("AUTH")), "{offered:?}");
        assert_eq!(device.send("plc@example.com", &["ops@example.com"], TEXT).await.code, 250);
        before.dialogue(&[("EHLO plc", 250)]).await;
        // Another port was never without TLS.
        let (former, port) = (relay.addr(), free_port());
        relay.configure("listener", "lan", |section| section.option("port", port));
        assert_eq!(run(&relay, "reload").await.code, 0);
        let closed = async {
            let is = |shown: &serde_json::Value| shown["open"] == false && shown["port"] == port;
            while !is(&json(&relay, "status").await["listeners"][0]) {}
        };
        tokio::time::timeout(SOON, closed).await.expect("the other port to be closed");
        relay.configure("listener", "lan", |section| section.option("port", former.port()).option("tls", "none"));
        assert_eq!(run(&relay, "reload").await.code, 0);
        let there = async { while json(&relay, "status").await["listeners"][0]["open"] == false {} };
        tokio::time::timeout(SOON, there).await.expect("the listener as it was");
        relay.configure("listener", "lan", |section| section.option("tls", tls));
        // With a good one it is what was asked for.
        relay.configure("listener", "lan", |section| {
            section.option("certificate", certs.cert_file(Cert::Good).display())
        });
        assert_eq!(run(&relay, "reload").await.code, 0);
        let there = async {
            let is = |shown: &serde_json::Value| shown["tls"] == tls && shown["note"].is_null();
            while !is(&json(&relay, "status").await["listeners"][0]) {}
        };
        tokio::time::timeout(SOON, there).await.expect("TLS");
    }
}

/// Whoever corrects the file need not know that a reload is missing.
#[tokio::test]
async fn a_certificate_that_is_replaced_by_a_good_one_opens_its_listener() {
    // What root has read before it was given up is no more correct than what was seen then.
    let is_root = nix::unistd::geteuid().is_root() && std::env::var_os("SMTPRELAY_RUNNER").is_none();
    for (user, tls, key_mode) in
        [("root", "implicit", 0o644), ("nobody", "implicit", 0o644), ("nobody", "starttls", 0o600)]
    {
        if user != "root" && !is_root {
            continue;
        }
        let certs = Certs::new();
        let (file, key) = (certs.ca_file().with_file_name("corrected.pem"), certs.key_file(Cert::Good));
        fs::write(&file, "no certificate").unwrap();
        fs::set_permissions(&key, fs::Permissions::from_mode(key_mode)).unwrap();
        let relay = protected(tls, &certs).relay_option("user", user);
        let mut relay = relay.listener_option("certificate", file.display()).prepare();
        relay.spawn();
        relay.wait_log(started, SOON).await;
        relay.wait_log(|line| line.contains("listener 'lan': cannot offer TLS: option certificate '"), SOON).await;
        fs::copy(certs.cert_file(Cert::Good), &file).unwrap();
        let line = relay.wait_log(|line| field(line, "event") == Some("listening"), SOON).await;
        let port: u16 = field(&line, "port").unwrap().parse().unwrap();
        let mut device = Client::connect(([127, 0, 0, 1], port).into()).await;
        if tls == "starttls" {
            device.expect(220).await;
            device.dialogue(&[("EHLO plc", 250), ("STARTTLS", 220)]).await;
            device.start_tls(&certs).await.unwrap();
            device.dialogue(&[("EHLO plc", 250)]).await;
        } else {
            device.start_tls(&certs).await.unwrap();
            device.expect(220).await;
        }
        let status = json(&relay, "status").await;
        assert_eq!((&status["reachable"], &status["listeners"][0]["note"]), (&"yes".into(), &serde_json::Value::Null));
    }
}

#[tokio::test]
async fn the_strict_dialect_takes_what_the_book_allows() {
    let relay = relay().listener_option("dialect", "strict").start().await;
    let mut device = Client::greeted(relay.addr()).await;
    device.dialogue(&[("MAIL FROM:<a@b.c>", 503), ("EHLO my plc", 501), ("EHLO plc", 250)]).await;
    device.dialogue(&[("MAIL FROM: <a@b.c>", 501), ("MAIL FROM:a@b.c", 501), ("QUIT)", 500)]).await;
    device.dialogue(&[("RCPT TO:<d@e.f>", 503), ("MAIL FROM:<a@b.c> FOO", 555), ("MAIL FROM:<a@b.c>", 250)]).await;
    device.dialogue(&[("MAIL FROM:<a@b.c>", 503), ("RCPT TO:<d@e.f>,<g@h.i>", 501), ("RSET", 250)]).await;
    assert_eq!(device.send("plc@example.com", &["ops@example.com"], TEXT).await.code, 250);
    // LF alone in the text, at its end, and in a command.
    device.dialogue(&[("MAIL FROM:<a@b.c>", 250), ("RCPT TO:<d@e.f>", 250), ("DATA", 354)]).await;
    device.write(b"Subject: x\r\n\r\none\n.\ntwo\r\n.\r\n").await.unwrap();
    assert!(device.expect(550).await.text().starts_with("5.6.11"));
    device.write(b"NOOP\nNOOP\r\n").await.unwrap();
    device.expect(521).await;
    assert!(device.read_to_end().await.is_empty());
    assert_eq!(relay.wait_lines(|line| line.contains("event=accepted"), 1, SOON).await.len(), 1);
}

#[tokio::test]
async fn who_speaks_before_the_greeting_is_refused_by_the_strict_dialect() {
    let relay = relay().listener_option("dialect", "strict").listener_option("max_sessions", 1).start().await;
    // Waits until there is a place for it, so its words are there before the program looks.
    let mut first = Client::greeted(relay.addr()).await;
    let mut early = Client::connect(relay.addr()).await;
    early.write(b"EHLO plc\r\nMAIL FROM:<a@b.c>\r\n").await.unwrap();
    first.dialogue(&[("QUIT", 221)]).await;
    drop(first);
    early.expect(554).await;
    assert!(early.read_to_end().await.is_empty());
    relay.wait_log(|line| line.contains("event=aborted") && line.contains("before the greeting"), SOON).await;
}

/// For settings that name one port twice.
fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn started(line: &str) -> bool {
    field(line, "event") == Some("started")
}

/// Without an address nobody can connect, and everything that can be asked says so.
#[tokio::test]
async fn a_network_without_an_address_is_told_everywhere() {
    if std::env::var_os("SMTPRELAY_RUNNER").is_some() {
        return println!("skipped: getifaddrs hangs in qemu-mips 7.2");
    }
    const WHY: &str = "listener 'guest': network nowhere0 has no address at the moment";
    let guest = || Section::new("listener", "guest").list("interface", "nowhere0");
    let mut relay = relay().section(guest()).start().await;
    let status = json(&relay, "status").await;
    assert_eq!(status["reachable"], "partly");
    assert!(status["health"].as_str().unwrap().starts_with(&format!("Some devices cannot connect: {WHY}. Relaying")));
    let open: Vec<_> = status["listeners"].as_array().unwrap().iter().map(|listener| &listener["open"]).collect();
    assert_eq!(open, [true, false]);
    let text = run(&relay, "status").await;
    assert_eq!(text.code, 1, "{text:?}");
    let address = format!("listener lan: 127.0.0.1 port {}, tls none\n", relay.addr().port());
    for part in [address.as_str(), "listener guest: NOT OPEN: network nowhere0 has no address at the moment\n"] {
        assert!(text.out.contains(part), "{part}: {}", text.out);
    }
    relay.wait_log(|line| line.contains(&format!("event=advice text=\"devices cannot connect: {WHY}\"")), SOON).await;
    let checked = run(&relay, "check").await;
    assert!(checked.code == 75 && checked.err.contains(WHY), "{checked:?}");
    assert!(checked.err.contains("the settings are valid, but devices cannot connect"), "{checked:?}");

    // None at all: it runs, since the network may come up, and says that nobody reaches it.
    relay.take_away("listener", "lan");
    relay.sigterm();
    relay.wait_exit().await;
    relay.spawn();
    relay.wait_log(started, SOON).await;
    let status = json(&relay, "status").await;
    assert_eq!((&status["reachable"], &status["state"]), (&"no".into(), &"relaying".into()), "{status}");
    assert!(status["health"].as_str().unwrap().starts_with(&format!("Devices cannot connect: {WHY}")), "{status}");
    assert_eq!(run(&relay, "status").await.code, 1);
}

#[tokio::test]
async fn a_port_that_is_taken_is_told_before_and_after() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let mut relay = relay().listener_option("port", port).prepare();
    let why = format!("listener 'lan': cannot listen on 127.0.0.1:{port}");
    let checked = run(&relay, "check").await;
    assert!(checked.code == 75 && checked.err.contains(&why), "{checked:?}");
    assert!(checked.err.contains("another mail server is running on this port"), "{checked:?}");
    // It starts, since there may be mail to send, and waits for the port.
    relay.spawn();
    relay.wait_log(started, SOON).await;
    relay.wait_log(|line| line.contains(&format!("event=advice text=\"devices cannot connect: {why}")), SOON).await;
    let status = json(&relay, "status").await;
    assert_eq!((&status["reachable"], &status["state"]), (&"no".into(), &"relaying".into()), "{status}");
    drop(taken);
    relay.wait_log(|line| field(line, "event") == Some("listening"), SOON).await;
    Client::greeted(([127, 0, 0, 1], port).into()).await.dialogue(&[("EHLO plc", 250)]).await;
    assert_eq!(run(&relay, "check").await.code, 0);
    // A port of the gateway itself is no obstacle.
    relay.restart().await;
    assert_eq!(run(&relay, "check").await.code, 0);
    relay.wait_log(started, SOON).await;
    let log = relay.log();
    let place = |event: &str| log.iter().rposition(|line| field(line, "event") == Some(event));
    assert!(place("listening") < place("started"), "{log:?}");
    assert_eq!(run(&relay, "status").await.code, 0);
}

/// The port has a default, which a second section is easily left with. Nobody may take the rules of that section to be in
/// effect, and the gateway starts all the same.
#[tokio::test]
async fn of_two_listeners_with_one_address_the_second_is_said_to_be_closed() {
    let port = free_port();
    let second = |address: &str| {
        Section::new("listener", "secure")
            .list("address", address)
            .list("allow", "127.0.0.0/8")
            .option("port", port)
            .option("auth", "required")
    };
    let user = || Section::new("user", "camera").option("password", "secret");
    for (first, address) in [("127.0.0.1", "127.0.0.1"), ("0.0.0.0", "127.0.0.1"), ("127.0.0.1", "0.0.0.0")] {
        let relay = relay().listener_option("port", port).address(first);
        let mut relay = relay.section(second(address)).section(user()).prepare();
        let why = format!("listener 'secure': listener 'lan' already has {first}:{port}");
        for spawned in [false, true] {
            let checked = run(&relay, "check").await;
            assert!(checked.code == 75 && checked.err.contains(&why), "{spawned}: {checked:?}");
            assert!(!checked.err.contains("another mail server"), "{checked:?}");
            if !spawned {
                relay.spawn();
                relay.wait_log(started, SOON).await;
            }
        }
        let status = json(&relay, "status").await;
        assert_eq!(status["reachable"], "partly", "{status}");
        assert!(status["health"].as_str().unwrap().contains(&why), "{status}");
        Client::greeted(([127, 0, 0, 1], port).into()).await.dialogue(&[("EHLO plc", 250)]).await;
        relay.sigterm();
        relay.wait_exit().await;
    }
    if std::env::var_os("SMTPRELAY_RUNNER").is_some() {
        return println!("skipped: getifaddrs hangs in qemu-mips 7.2");
    }
    // By its network, too.
    let by_network = Section::new("listener", "secure").list("interface", "lo").option("port", port);
    let mut relay = relay().listener_option("port", port).section(by_network).prepare();
    let why = format!("listener 'secure': listener 'lan' already has 127.0.0.1:{port}");
    assert!(run(&relay, "check").await.err.contains(&why));
    relay.spawn();
    relay.wait_log(started, SOON).await;
    let status = json(&relay, "status").await;
    assert_eq!(status["reachable"], "partly", "{status}");
    assert!(status["health"].as_str().unwrap().contains(&why), "{status}");
}

/// Sockets and certificates are kept by the name of their section.
#[tokio::test]
async fn listeners_without_a_name_keep_apart() {
    let certs = Certs::new();
    let ports = [free_port(), free_port()];
    let mut relay = relay().prepare();
    let text = fs::read_to_string(relay.config_path()).unwrap();
    let [plain, tls] = ports.map(|port| {
        format!("config listener\n\tlist address '127.0.0.1'\n\tlist allow '127.0.0.0/8'\n\toption port '{port}'\n")
    });
    let files = format!(
        "\toption key '{}'\n\toption certificate '{}'\n",
        certs.key_file(Cert::Good).display(),
        certs.cert_file(Cert::Good).display()
    );
    fs::write(relay.config_path(), format!("{text}\n{plain}\n{tls}\toption tls 'starttls'\n{files}")).unwrap();
    relay.spawn();
    relay.wait_log(started, SOON).await;
    for (port, offered) in ports.into_iter().zip([false, true]) {
        let mut device = Client::greeted(([127, 0, 0, 1], port).into()).await;
        assert_eq!(offers_starttls(&device.command("EHLO plc").await.lines), offered, "{port}");
    }
    let status = json(&relay, "status").await;
    let names: Vec<_> = status["listeners"].as_array().unwrap().iter().map(|shown| shown["name"].clone()).collect();
    assert_eq!(names, ["lan", "@listener[1]", "@listener[2]"]);
}

/// One socket has to be closed before the other can be opened, and both are the gateway's.
#[tokio::test]
async fn from_one_address_to_all_and_back_nobody_is_turned_away() {
    let port = free_port();
    let mut relay = relay().listener_option("port", port).start().await;
    let mut kept = Client::greeted(([127, 0, 0, 1], port).into()).await;
    for (name, address) in [("lan", "0.0.0.0"), ("lan", "127.0.0.1"), ("all", "0.0.0.0"), ("one", "127.0.0.1")] {
        relay.configure("listener", "lan", |section| section.option("enabled", "0"));
        relay.configure("listener", name, |_| {
            let section = Section::new("listener", name).list("address", address).option("port", port);
            section.list("allow", "127.0.0.0/8")
        });
        for other in ["all", "one"].into_iter().filter(|other| *other != name) {
            relay.configure("listener", other, |_| Section::new("listener", other).option("enabled", "0"));
        }
        assert_eq!(run(&relay, "check").await.code, 0);
        let ran = run(&relay, "reload").await;
        assert!(ran.code == 0 && ran.err.is_empty(), "{ran:?}");
        let there = |line: &str| {
            let is = |wanted, value: &str| field(line, wanted) == Some(value);
            is("event", "listening") && is("listener", name) && is("address", address)
        };
        relay.wait_log(there, SOON).await;
        Client::greeted(([127, 0, 0, 1], port).into()).await.dialogue(&[("EHLO plc", 250)]).await;
        kept.dialogue(&[("EHLO plc", 250)]).await;
    }
    assert!(!relay.log().iter().any(|line| line.contains("cannot connect")), "{:?}", relay.log());
}

#[tokio::test]
async fn who_is_refused_is_named_as_sender() {
    let user = Section::new("user", "camera").option("password", "secret");
    let relay = relay().listener_option("auth", "required").section(user).start().await;
    let mut device = Client::greeted(relay.addr()).await;
    device.dialogue(&[("EHLO plc", 250), ("MAIL FROM:<plc@example.com>", 530)]).await;
    let line = relay.wait_log(|line| field(line, "event") == Some("rejected"), SOON).await;
    assert_eq!(field(&line, "from"), Some("<plc@example.com>"), "{line}");
}

#[tokio::test]
async fn settings_that_differ_from_what_runs_are_named() {
    let mut relay = relay().start().await;
    assert_eq!(json(&relay, "status").await["settings"]["changed"], false);
    relay.configure("relay", "main", |section| section.option("retry_for", "1d"));
    assert_eq!(json(&relay, "status").await["settings"]["changed"], true);
    let file = relay.config_path().display().to_string();
    let status = run(&relay, "status").await;
    assert!(status.out.contains(&format!("settings: {file} has changed since it was read at ")), "{status:?}");
    let tested = run(&relay, "test me@example.com").await;
    assert!(tested.err.contains("this test uses the former settings") && tested.err.contains(&file), "{tested:?}");
    assert_eq!(run(&relay, "reload").await.code, 0);
    assert_eq!(json(&relay, "status").await["settings"]["changed"], false);
    let tested = run(&relay, "test me@example.com").await;
    assert!(!tested.err.contains("former settings"), "{tested:?}");
}
