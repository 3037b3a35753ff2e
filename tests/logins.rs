// SPDX-License-Identifier: Apache-2.0
//! Logins of devices: who is asked for one, what a right one allows, what a wrong one costs.

mod support;

use std::time::Duration;

use base64::{Engine, prelude::BASE64_STANDARD};
use hmac::{Hmac, KeyInit, Mac};
use support::client::Client;
use support::provider::{Provider, TlsMode};
use support::relay::{Relay, RelayBuilder, Section};

const SOON: Duration = Duration::from_secs(60);
const TEXT: &str = "From: cam@example.com\r\nTo: ops@example.com\r\nSubject: x\r\n\r\nalarm\r\n";

fn relay(auth: &str) -> RelayBuilder {
    let camera = Section::new("user", "camera").option("password", "s3cret-word").list("sender", "cam@example.com");
    let plc = Section::new("user", "plc")
        .option("username", "plc@plant")
        .option("password", "tänzer")
        .list("sender", "example.com")
        .list("sender", "other@plant.example");
    Relay::builder()
        .durability("memory")
        .listener_option("auth", auth)
        .section(camera)
        .section(plc)
        .section(Section::new("user", "any").option("password", "any").option("account", "provider"))
        .section(Section::custom_account("provider", "127.0.0.1", 1, "implicit"))
}

fn plain(name: &str, password: &str) -> String {
    format!("AUTH PLAIN {}", BASE64_STANDARD.encode(format!("\0{name}\0{password}")))
}

async fn hello(relay: &Relay) -> Client {
    let mut device = Client::greeted(relay.addr()).await;
    device.dialogue(&[("EHLO cam", 250)]).await;
    device
}

async fn cram_md5(device: &mut Client, name: &str, password: &str) -> u16 {
    let asked = device.command("AUTH CRAM-MD5").await;
    assert_eq!(asked.code, 334, "{asked:?}");
    let challenge = BASE64_STANDARD.decode(&asked.lines[0]).unwrap();
    let mut mac = Hmac::<md5::Md5>::new_from_slice(password.as_bytes()).unwrap();
    mac.update(&challenge);
    let digest: String = mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    device.command(&BASE64_STANDARD.encode(format!("{name} {digest}"))).await.code
}

#[tokio::test]
async fn without_a_login_nothing_is_taken_where_it_is_required() {
    let relay = relay("required").start().await;
    let mut device = Client::greeted(relay.addr()).await;
    let offers = device.command("EHLO cam").await.lines;
    assert!(offers.contains(&"AUTH PLAIN LOGIN CRAM-MD5".to_string()), "{offers:?}");
    let reply = device.command("MAIL FROM:<cam@example.com>").await;
    assert_eq!((reply.code, reply.text().starts_with("5.7.0")), (530, true), "{reply:?}");
    // A client that does not wait: its text is text, and it is told in the end.
    device.write(format!("MAIL FROM:<a@b.c>\r\nRCPT TO:<d@e.f>\r\nDATA\r\n{TEXT}.\r\n").as_bytes()).await.unwrap();
    for code in [530, 530, 354, 530] {
        device.expect(code).await;
    }
    // Programs of the router itself are not devices.
    let sent = relay.command_with_input(&["send", "-f", "root@example.com", "ops@example.com"], b"x\n").await;
    assert!(sent.status.success(), "{}", String::from_utf8_lossy(&sent.stderr));
    let accepted = relay.wait_lines(|line| line.contains("event=accepted"), 1, SOON).await;
    assert!(accepted.len() == 1 && accepted[0].contains("client=local"), "{accepted:?}");
}

#[tokio::test]
async fn a_right_login_in_every_form() {
    let provider = Provider::builder().tls(TlsMode::Implicit).login("u", "p").start().await;
    let relay = relay("required").section(Section::account("real", &provider)).start().await;
    for hello in ["EHLO cam", "HELO cam"] {
        for dialogue in [
            &[(plain("camera", "s3cret-word"), 235)][..],
            &[("AUTH PLAIN".into(), 334), (BASE64_STANDARD.encode("x\0camera\0s3cret-word"), 235)],
            &[("AUTH LOGIN".into(), 334), ("Y2FtZXJh".into(), 334), (BASE64_STANDARD.encode("s3cret-word"), 235)],
            &[("auth login Y2FtZXJh".into(), 334), (BASE64_STANDARD.encode("s3cret-word"), 235)],
            &[(plain("camera", "wrong"), 535), (plain("camera", "s3cret-word"), 235)],
        ] {
            let mut device = Client::greeted(relay.addr()).await;
            device.dialogue(&[(hello, 250)]).await;
            for (line, code) in dialogue {
                device.dialogue(&[(line, *code)]).await;
            }
            assert_eq!(device.send("cam@example.com", &["ops@example.com"], TEXT).await.code, 250);
        }
    }
    let mut device = hello(&relay).await;
    assert_eq!(cram_md5(&mut device, "plc@plant", "tänzer").await, 235);
    assert_eq!(device.send("plc@example.com", &["ops@example.com"], TEXT).await.code, 250);
    let mut device = hello(&relay).await;
    assert_eq!(cram_md5(&mut device, "plc@plant", "tanzer").await, 535);
    relay.wait_log(|line| line.contains("event=accepted") && line.contains("login=camera "), SOON).await;
    relay.wait_log(|line| line.contains("event=accepted") && line.contains("login=plc@plant "), SOON).await;
    let secrets = ["s3cret-word", "tänzer", "wrong\"", &BASE64_STANDARD.encode("s3cret-word")];
    assert!(!relay.log().iter().any(|line| secrets.iter().any(|secret| line.contains(secret))));
}

#[tokio::test]
async fn wrong_logins_are_logged_and_end_the_session() {
    let relay = relay("required").start().await;
    let mut device = hello(&relay).await;
    for (name, password) in [("camera", "wrong"), ("nobody", "s3cret-word"), ("Camera", ""), ("", "")] {
        device.dialogue(&[(&plain(name, password), 535)]).await;
    }
    device.dialogue(&[(&plain("CAMERA", "s3cret-word"), 421)]).await;
    assert!(device.read_to_end().await.is_empty());
    relay.wait_log(|line| line.contains("event=login_failed") && line.contains("login=nobody "), SOON).await;
    let failed = relay.wait_lines(|line| line.contains("event=login_failed client=127.0.0.1"), 5, SOON).await;
    assert_eq!(failed.len(), 5);
    assert!(!relay.log().iter().any(|line| line.contains("s3cret-word")));
}

#[tokio::test]
async fn where_it_is_optional_a_login_must_be_right_but_need_not_be() {
    let relay = relay("optional").start().await;
    let mut device = hello(&relay).await;
    assert_eq!(device.send("anybody@example.com", &["ops@example.com"], TEXT).await.code, 250);
    device.dialogue(&[(&plain("camera", "wrong"), 535)]).await;
    assert_eq!(device.send("anybody@example.com", &["ops@example.com"], TEXT).await.code, 250);
    device.dialogue(&[("MAIL FROM:<anybody@example.com>", 250), (&plain("camera", "s3cret-word"), 503)]).await;
    device.dialogue(&[("RSET", 250), (&plain("camera", "s3cret-word"), 235)]).await;
    device.dialogue(&[("AUTH LOGIN", 503), ("MAIL FROM:<anybody@example.com>", 550)]).await;
    assert_eq!(device.send("cam@example.com", &["ops@example.com"], TEXT).await.code, 250);
}

#[tokio::test]
async fn a_login_may_use_its_own_senders_only() {
    let relay = relay("required").start().await;
    for (name, password, sender, code) in [
        ("camera", "s3cret-word", "cam@example.com", 250),
        ("camera", "s3cret-word", "CAM@Example.COM", 250),
        ("camera", "s3cret-word", "plc@example.com", 550),
        ("camera", "s3cret-word", "", 550),
        ("camera", "s3cret-word", "not an address", 550),
        ("plc@plant", "tänzer", "whoever@example.com", 250),
        ("plc@plant", "tänzer", "other@plant.example", 250),
        ("plc@plant", "tänzer", "more@plant.example", 550),
        ("plc@plant", "tänzer", "a@sub.example.com", 550),
        ("any", "any", "whoever@wherever.example", 250),
        ("any", "any", "", 250),
    ] {
        let mut device = hello(&relay).await;
        device.dialogue(&[(&plain(name, password), 235)]).await;
        let reply = device.command(&format!("MAIL FROM:<{sender}>")).await;
        assert_eq!(reply.code, code, "{name} as {sender}: {reply:?}");
        assert_eq!(reply.text().starts_with("5.7.1"), code == 550, "{reply:?}");
    }
}

#[tokio::test]
async fn where_there_are_none_none_is_offered() {
    let relay = relay("none").start().await;
    let mut device = Client::greeted(relay.addr()).await;
    let offers = device.command("EHLO cam").await.lines;
    assert!(!offers.iter().any(|offer| offer.contains("AUTH")), "{offers:?}");
    device.dialogue(&[(&plain("camera", "s3cret-word"), 503), ("AUTH LOGIN", 503)]).await;
    assert_eq!(device.send("cam@example.com", &["ops@example.com"], TEXT).await.code, 250);
}

#[tokio::test]
async fn new_logins_hold_after_a_reload() {
    let mut relay = relay("required").start().await;
    hello(&relay).await.dialogue(&[(&plain("new", "new"), 535)]).await;
    relay.configure("user", "new", |user| user.option("password", "new"));
    relay.sighup();
    relay.wait_log(|line| line.contains("event=reloaded"), SOON).await;
    // The listener hears of it a moment later.
    while hello(&relay).await.command(&plain("new", "new")).await.code != 235 {}
}

#[tokio::test]
async fn more_sessions_guess_no_faster_and_nobody_else_waits() {
    const SESSIONS: usize = 40;
    let relay = relay("required").start().await;
    let device = |n: u8| std::net::IpAddr::from([127, 0, 1, n]);
    let mut guessing = Vec::new();
    for n in 0..SESSIONS {
        let mut client = Client::greeted_from(device(1), relay.addr()).await;
        client.dialogue(&[("EHLO plc", 250)]).await;
        client.write(format!("{}\r\n", plain("camera", &format!("guess {n}"))).as_bytes()).await.unwrap();
        guessing.push(client);
    }
    // While all of them are trying, a device with the right password gets in at once.
    let mut other = Client::greeted_from(device(2), relay.addr()).await;
    other.dialogue(&[("EHLO plc", 250), (&plain("camera", "s3cret-word"), 235)]).await;
    // Most are not even looked at: with one guess in two seconds they would wait too long.
    let mut refused = 0;
    for client in &mut guessing {
        client.set_limit(SOON);
        let code = client.reply().await.code;
        assert!(matches!(code, 454 | 535), "{code}");
        refused += usize::from(code == 454);
    }
    assert!(refused >= SESSIONS / 2, "{refused} of {SESSIONS} were refused unseen");
}
