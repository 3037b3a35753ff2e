// SPDX-License-Identifier: Apache-2.0
//! What a device may do, what it may not, and what it is told.

mod support;

use std::time::Duration;

use support::client::Client;
use support::provider::{Provider, TlsMode};
use support::relay::{Relay, RelayBuilder, Section};

const SOON: Duration = Duration::from_secs(60);
const TEXT: &str = "From: plc@example.com\r\nTo: ops@example.com\r\nSubject: x\r\n\r\nalarm\r\n";

async fn provider() -> Provider {
    Provider::builder().tls(TlsMode::Implicit).login("u", "p").start().await
}

fn relay_to(provider: &Provider) -> RelayBuilder {
    Relay::builder().durability("always").section(Section::account("provider", provider).option("from_policy", "keep"))
}

/// An account whose provider is not there: mail stays in the queue.
fn relay_to_nobody() -> RelayBuilder {
    Relay::builder().durability("always").section(Section::custom_account("provider", "127.0.0.1", 1, "implicit"))
}

async fn hello(relay: &Relay) -> Client {
    let mut device = Client::greeted(relay.addr()).await;
    device.dialogue(&[("EHLO plc", 250)]).await;
    device
}

#[tokio::test]
async fn ehlo_offers_what_is_supported() {
    let relay = relay_to_nobody().relay_option("message_limit", "10M").start().await;
    let mut device = Client::greeted(relay.addr()).await;
    let offers = device.command("EHLO plc").await.lines[1..].to_vec();
    assert_eq!(
        offers,
        ["PIPELINING", "8BITMIME", "SMTPUTF8", "SIZE 10485760", "AUTH PLAIN LOGIN", "ENHANCEDSTATUSCODES"]
    );
    assert_eq!(device.command("HELO plc").await.lines.len(), 1);
}

#[tokio::test]
async fn a_client_outside_the_networks_is_turned_away_and_logged() {
    let provider = provider().await;
    let relay = relay_to(&provider).allow_nobody().allow("10.0.0.0/8").start().await;
    let mut device = Client::connect(relay.addr()).await;
    let reply = device.reply().await;
    assert_eq!((reply.code, reply.text().starts_with("5.7.1")), (554, true), "{reply:?}");
    let _ = device.write(b"EHLO x\r\nMAIL FROM:<a@b.c>\r\nRCPT TO:<d@e.f>\r\nDATA\r\nx\r\n.\r\n").await;
    assert!(device.read_to_end().await.is_empty());
    let line = relay.wait_log(|line| line.contains("event=refused"), SOON).await;
    assert!(line.contains("client=127.0.0.1"), "{line}");
    assert!(!relay.log().iter().any(|line| line.contains("event=accepted")));
    assert_eq!(String::from_utf8_lossy(&relay.command(&["queue"]).await.stdout), "Mail queue is empty\n");
}

#[tokio::test]
async fn ipv6_devices_are_served_and_refused_alike() {
    let provider = provider().await;
    let relay = relay_to(&provider).address("::1").start().await;
    let mut device = hello(&relay).await;
    assert_eq!(device.send("plc@example.com", &["ops@example.com"], TEXT).await.code, 250);
    provider.wait_for_messages(1, SOON).await;
    relay.wait_log(|line| line.contains("event=accepted") && line.contains("client=::1 "), SOON).await;
    let relay = relay_to(&provider).address("::1").allow_nobody().allow("127.0.0.0/8").start().await;
    assert_eq!(Client::connect(relay.addr()).await.reply().await.code, 554);
}

#[tokio::test]
async fn any_login_works_and_no_password_is_logged() {
    let relay = relay_to_nobody().start().await;
    for dialogue in [
        // Name and password "hidden1", in each way in which devices log in.
        &[("AUTH PLAIN AGhpZGRlbjEAaGlkZGVuMQ==", 235)][..],
        &[("AUTH PLAIN", 334), ("AGhpZGRlbjEAaGlkZGVuMQ==", 235)],
        &[("AUTH LOGIN", 334), ("aGlkZGVuMQ==", 334), ("aGlkZGVuMQ==", 235)],
        &[("auth login aGlkZGVuMQ==", 334), ("aGlkZGVuMQ==", 235)],
        &[("AUTH CRAM-MD5", 334), ("aGlkZGVuMQ==", 235)],
        &[("AUTH LOGIN", 334), ("*", 501)],
        &[("AUTH NTLM", 504)],
    ] {
        let mut device = Client::greeted(relay.addr()).await;
        device.dialogue(&[("HELO plc", 250)]).await;
        device.dialogue(dialogue).await;
        assert_eq!(device.send("plc@example.com", &["ops@example.com"], TEXT).await.code, 250);
    }
    let mut device = hello(&relay).await;
    assert_eq!(device.command("AUTH LOGIN").await.lines, ["VXNlcm5hbWU6"]);
    assert_eq!(device.command("eA==").await.lines, ["UGFzc3dvcmQ6"]);
    device.dialogue(&[("czNjcmV0LXdvcmQ=", 235)]).await;
    assert_eq!(device.send("plc@example.com", &["ops@example.com"], TEXT).await.code, 250);
    relay.wait_log(|line| line.contains("event=accepted") && line.contains("login=x "), SOON).await;
    assert!(!relay.log().iter().any(|line| line.contains("s3cret-word") || line.contains("czNjcmV0LXdvcmQ=")));
}

#[tokio::test]
async fn too_large_is_refused_when_declared_and_swallowed_otherwise() {
    let relay = relay_to_nobody().relay_option("message_limit", "20K").start().await;
    let mut device = hello(&relay).await;
    let reply = device.command("MAIL FROM:<a@b.c> SIZE=20481").await;
    assert_eq!(reply.code, 552, "{reply:?}");
    device.dialogue(&[("MAIL FROM:<a@b.c> SIZE=20480", 250), ("RSET", 250)]).await;
    let text = format!("Subject: x\r\n\r\n{}", "0123456789abcde\r\n".repeat(1500));
    assert_eq!(device.send("a@b.c", &["d@e.f"], &text).await.code, 552);
    assert_eq!(device.send("a@b.c", &["d@e.f"], TEXT).await.code, 250);
    let kept = std::fs::read_dir(relay.safe_spool().join("queue")).unwrap().count();
    assert_eq!(kept, 1);
}

#[tokio::test]
async fn limits_on_recipients_lines_and_nonsense() {
    let relay = relay_to_nobody().listener_option("max_recipients", 3).start().await;
    let mut device = hello(&relay).await;
    device.dialogue(&[("MAIL FROM:<a@b.c>", 250), ("RCPT TO:<1@e.f>,<2@e.f>", 250), ("RCPT TO:<3@e.f>", 250)]).await;
    device.dialogue(&[("RCPT TO:<1@e.f>", 250), ("RCPT TO:<4@e.f>", 452), ("RSET", 250)]).await;
    device.write(format!("NOOP {}\r\nNOOP\r\n", "x".repeat(100_000)).as_bytes()).await.unwrap();
    device.expect(500).await;
    device.expect(250).await;
    for _ in 0..100 {
        device.dialogue(&[("FOO bar", 500)]).await;
    }
    device.dialogue(&[("Host: x", 421)]).await;
    assert!(device.read_to_end().await.is_empty());
}

#[tokio::test]
async fn text_never_becomes_a_command_whatever_was_refused_before() {
    let provider = provider().await;
    let relay = relay_to(&provider).relay_option("message_limit", "16K").start().await;
    let smuggled = "MAIL FROM:<evil@x.y>\r\nRCPT TO:<victim@x.y>\r\nDATA\r\nSubject: evil\r\n\r\nevil\r\n";
    for before in [
        "",
        "MAIL FROM:<a@b.c> SIZE=99999999\r\nRCPT TO:<d@e.f>\r\n",
        "MAIL FROM:<a@b.c>\r\nRCPT TO:<nobody>\r\n",
        "RCPT TO:<d@e.f>\r\n",
    ] {
        let mut device = hello(&relay).await;
        let bytes = format!("{before}DATA\r\n{smuggled}.\r\nQUIT\r\n");
        device.write(bytes.as_bytes()).await.unwrap();
        let said = String::from_utf8(device.read_to_end().await).unwrap();
        assert!(!said.contains("queued as"), "{before}: {said}");
        assert!(said.contains("354 ") && said.ends_with("221 2.0.0 Bye\r\n"), "{before}: {said}");
    }
    // No end of text but the right one, in a session of CRLF.
    for end in ["\n.\n", "\n.\r\n", "\r\n.\n", "\r.\r", "\r\r\n.\r\r\n"] {
        let mut device = hello(&relay).await;
        let text = format!("Subject: x\r\n\r\ntext{end}{}", smuggled.replace("DATA\r\n", "DATA\n"));
        device.dialogue(&[("MAIL FROM:<a@b.c>", 250), ("RCPT TO:<d@e.f>", 250), ("DATA", 354)]).await;
        device.write(format!("{text}\r\n.\r\nQUIT\r\n").as_bytes()).await.unwrap();
        let said = String::from_utf8(device.read_to_end().await).unwrap();
        assert_eq!(said.matches("queued as").count(), 1, "{end:?}: {said}");
    }
    let messages = provider.wait_for_messages(5, SOON).await;
    assert!(messages.iter().all(|m| m.sender == "a@b.c" && m.recipients == ["d@e.f"]));
    assert!(messages.iter().all(|m| m.text().contains("evil")), "the text is kept as text");
    assert_eq!(provider.complaints(), Vec::<String>::new());
}

#[tokio::test]
async fn silent_devices_end_and_slow_ones_live() {
    let relay = relay_to_nobody().listener_option("timeout", "2s").start().await;
    // Twice the time limit in all, but never silent for long.
    let slow = tokio::spawn({
        let addr = relay.addr();
        async move {
            let mut device = Client::greeted(addr).await;
            for byte in b"EHLO slow\r\n" {
                device.write(&[*byte]).await.unwrap();
                tokio::time::sleep(Duration::from_millis(400)).await;
            }
            device.expect(250).await
        }
    });
    let mut silent = Client::greeted(relay.addr()).await;
    silent.expect(421).await;
    let mut stuck = hello(&relay).await;
    stuck.dialogue(&[("MAIL FROM:<a@b.c>", 250), ("RCPT TO:<d@e.f>", 250), ("DATA", 354)]).await;
    stuck.write(b"Subject: x\n\ntext\n.\n").await.unwrap();
    stuck.expect(421).await;
    relay.wait_log(|line| line.contains("event=aborted") && line.contains("during DATA"), SOON).await;
    slow.await.unwrap();
    assert_eq!(std::fs::read_dir(relay.safe_spool().join("queue")).unwrap().count(), 0);
}

#[tokio::test]
async fn too_many_connections_of_one_address() {
    let relay = relay_to_nobody().listener_option("max_sessions_per_client", 2).start().await;
    let first = hello(&relay).await;
    let _second = hello(&relay).await;
    assert_eq!(Client::connect(relay.addr()).await.reply().await.code, 421);
    drop(first);
    // The place is free when the session has seen its end.
    loop {
        if Client::connect(relay.addr()).await.reply().await.code == 220 {
            break;
        }
    }
}

#[tokio::test]
async fn more_sessions_than_there_are_places_wait_and_are_served() {
    let relay = relay_to_nobody().listener_option("max_sessions", 3).start().await;
    let sessions: Vec<_> = (0..12)
        .map(|_| {
            let addr = relay.addr();
            tokio::spawn(async move {
                let mut device = Client::greeted(addr).await;
                device.dialogue(&[("EHLO plc", 250)]).await;
                let code = device.send("a@b.c", &["d@e.f"], TEXT).await.code;
                device.dialogue(&[("QUIT", 221)]).await;
                code
            })
        })
        .collect();
    for session in sessions {
        assert_eq!(session.await.unwrap(), 250);
    }
}

#[tokio::test]
async fn odd_commands_are_answered() {
    let relay = relay_to_nobody().relay_option("admin", "admin@example.com").start().await;
    let mut device = Client::greeted(relay.addr()).await;
    device.dialogue(&[("NOOP", 250), ("HELP", 214), ("VRFY root", 252), ("EXPN all", 252), ("STARTTLS", 502)]).await;
    device.dialogue(&[("RCPT TO:<a@b.c>", 503), ("EHLO", 250), ("FOO", 500), ("", 500)]).await;
    device.write(b"BDAT 10 LAST\r\nQUIT\r\n1234NOOP\r\n").await.unwrap();
    device.expect(502).await;
    device.expect(250).await;
    device
        .dialogue(&[("MAIL FROM:<>", 250), ("RCPT TO:<postmaster>", 250), ("RCPT TO:<root>", 250), ("DATA", 354)])
        .await;
    device.write(b"Subject: x\r\n\r\n.\r\n").await.unwrap();
    device.expect(250).await;
    relay.wait_log(|line| line.contains("event=accepted") && line.contains("to=<admin@example.com> "), SOON).await;
}

#[tokio::test]
async fn a_sender_that_can_not_be_used_is_no_reason_to_lose_mail() {
    let provider = provider().await;
    let relay = relay_to(&provider).start().await;
    let mut device = hello(&relay).await;
    device.dialogue(&[("MAIL FROM:<pump house@plant>", 250), ("RCPT TO:<ops@example.com>", 250), ("DATA", 354)]).await;
    device.write(b"Subject: x\r\n\r\nalarm\r\n.\r\n").await.unwrap();
    device.expect(250).await;
    assert_eq!(provider.wait_for_messages(1, SOON).await[0].sender, support::relay::ACCOUNT_FROM);
    relay.wait_log(|line| line.contains("event=advice") && line.contains("pump house@plant"), SOON).await;
}

#[tokio::test]
async fn a_mail_loop_is_cut() {
    let relay = relay_to_nobody().start().await;
    let mut device = hello(&relay).await;
    let text = "Received: from a by b; Mon, 23 Nov 2026 01:02:03 +0000\r\n".repeat(30) + TEXT;
    let reply = device.send("a@b.c", &["d@e.f"], &text).await;
    assert_eq!(reply.code, 554, "{reply:?}");
}

#[tokio::test]
async fn new_settings_hold_for_new_sessions_and_bad_ones_change_nothing() {
    let mut relay = relay_to_nobody().start().await;
    let mut old = hello(&relay).await;
    relay.configure("relay", "main", |section| section.option("message_limit", "1M"));
    relay.sighup();
    relay.wait_log(|line| line.contains("event=reloaded"), SOON).await;
    loop {
        let mut device = Client::greeted(relay.addr()).await;
        if device.command("EHLO plc").await.lines.contains(&"SIZE 1048576".to_string()) {
            break;
        }
    }
    assert_eq!(old.send("a@b.c", &["d@e.f"], TEXT).await.code, 250);
    relay.configure("relay", "main", |section| section.option("message_limit", "much"));
    relay.sighup();
    let line = relay.wait_log(|line| line.contains("event=reload_refused"), SOON).await;
    assert!(line.contains("option message_limit 'much' is not"), "{line}");
    assert_eq!(hello(&relay).await.send("a@b.c", &["d@e.f"], TEXT).await.code, 250);
}

#[tokio::test]
async fn the_order_to_stop_lets_a_message_in_and_says_goodbye_to_others() {
    let mut relay = relay_to_nobody().start().await;
    let mut idle = hello(&relay).await;
    let mut busy = hello(&relay).await;
    busy.dialogue(&[("MAIL FROM:<a@b.c>", 250), ("RCPT TO:<d@e.f>", 250), ("DATA", 354)]).await;
    relay.sigterm();
    idle.expect(421).await;
    busy.write(b"Subject: x\r\n\r\nlast words\r\n.\r\n").await.unwrap();
    busy.expect(250).await;
    assert!(relay.wait_exit().await.success());
    assert!(relay.log().iter().any(|line| line.contains("event=stopped waiting=1")));
    let kept = &support::ask::queue(&relay).await[0]["recipients"][0];
    assert_eq!((&kept["address"], &kept["state"]), (&"d@e.f".into(), &"waiting".into()));
}
