// SPDX-License-Identifier: Apache-2.0
//! Clients that speak something other than SMTP: the session ends before anything in it is taken for a command.

mod support;

use std::net::IpAddr;
use std::time::Duration;

use support::ask::json;
use support::certs::{Cert, Certs};
use support::client::{Chunking, Client};
use support::relay::{Relay, Section, field};

const SOON: Duration = Duration::from_secs(60);
/// What an attacker has hidden in the request of somebody's browser.
const SMUGGLED: &str = "EHLO x\r\nMAIL FROM:<evil@example.org>\r\nRCPT TO:<victim@example.org>\r\nDATA\r\nSubject: evil\r\n\r\nevil\r\n.\r\nQUIT\r\n";

async fn relay(dialect: &str) -> Relay {
    let account = Section::custom_account("provider", "127.0.0.1", 1, "implicit");
    Relay::builder().durability("always").listener_option("dialect", dialect).section(account).start().await
}

fn post(path: &str) -> Vec<u8> {
    let head = "Host: 192.168.1.1:25\r\nUser-Agent: Mozilla/5.0\r\nContent-Type: text/plain;charset=UTF-8";
    let length = SMUGGLED.len();
    format!("POST {path} HTTP/1.1\r\n{head}\r\nContent-Length: {length}\r\n\r\n{SMUGGLED}").into_bytes()
}

#[tokio::test]
async fn nothing_of_another_protocol_is_obeyed() {
    let smuggled = SMUGGLED.as_bytes();
    let attacks = [
        ("HTTP", post("/")),
        ("too long", post(&format!("/{}", "x".repeat(20_000)))),
        // The request line went elsewhere: a proxy, or a copy without it.
        ("header", [b"Host: 192.168.1.1:25\r\n\r\n", smuggled].concat()),
        // The empty line that some browsers put in front.
        ("HTTP", [b"\r\n".to_vec(), post("/")].concat()),
        // `fetch` can choose the method.
        ("HTTP", [b"EHLO / HTTP/1.1\r\nHost: gw\r\n\r\n", smuggled].concat()),
        ("FTP", [b"USER x\r\n", smuggled].concat()),
        // The server name in a TLS hello: https://127.0.0.1 \r\nEHLO x\r\n…
        ("TLS", [b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", smuggled].concat()),
        ("SIP", [b"OPTIONS sip:gw SIP/2.0\r\n", smuggled].concat()),
        ("SOCKS", [b"\x04\x01\x00\x19\x7f\x00\x00\x01\r\n", smuggled].concat()),
    ];
    for dialect in ["tolerant", "strict"] {
        let relay = relay(dialect).await;
        // Each attack from an address of its own: what comes again from the same one is counted and not written.
        let mut addresses = (1..).map(|last| IpAddr::from([127, 0, 2, last]));
        for (name, bytes) in &attacks {
            for chunking in [Chunking::Whole, Chunking::Lines] {
                let what = format!("{dialect}, {name}, {chunking:?}");
                let address = addresses.next().unwrap();
                let mut client = Client::greeted_from(address, relay.addr()).await;
                // The gateway may have hung up in between.
                let _ = client.write_in(bytes, chunking).await;
                let said = String::from_utf8_lossy(&client.read_to_end().await).into_owned();
                let last = said.lines().last().unwrap_or_default();
                assert!(
                    last.starts_with("521 5.5.1 ") || last.starts_with("500 5.5.2 Line too long"),
                    "{what}: {said}"
                );
                // Not even the EHLO was answered.
                assert!(!said.lines().any(|line| line.starts_with('2') || line.starts_with('3')), "{what}: {said}");
                let own = format!("event=aborted client={address} ");
                relay.wait_log(|line| line.contains(&own) && line.contains(name), SOON).await;
            }
        }
        assert!(!relay.log().iter().any(|line| line.contains("event=accepted")));
        assert_eq!(std::fs::read_dir(relay.safe_spool().join("queue")).unwrap().count(), 0);
    }
}

#[tokio::test]
async fn odd_beginnings_of_devices_are_forgiven() {
    let relay = relay("tolerant").await;
    for first in ["", "\r\n", "\0\0\r\n", "\u{feff}EHLO plc\r\n", "XCLIENT ADDR=192.0.2.1\r\n", "FOO\r\n"] {
        let mut device = Client::greeted(relay.addr()).await;
        device.write(first.as_bytes()).await.unwrap();
        device.write(b"EHLO plc\r\nMAILFROM:<a@b.c>\r\nRCPTTO:<d@e.f>\r\nDATA\r\nHost: x\r\n\r\nGET / HTTP/1.1\r\n.\r\nQUIT\r\n").await.unwrap();
        let said = String::from_utf8_lossy(&device.read_to_end().await).into_owned();
        assert!(said.contains("queued as") && said.ends_with("221 2.0.0 Bye\r\n"), "{first:?}: {said}");
    }
}

/// Waits for the one line of this event and client, and looks whether the device is listed with the same text.
async fn told(relay: &Relay, event: &str, client: IpAddr, text: &str) {
    let start = format!("event={event} client={client} ");
    relay.wait_log(|line| line.contains(&start) && line.contains(text), SOON).await;
    let listed = async {
        loop {
            let devices = json(relay, "devices").await;
            let is_it = |device: &serde_json::Value| {
                device["client"] == serde_json::json!(client.to_string())
                    && device["last_verdict"]["text"].as_str().is_some_and(|said| said.contains(text))
            };
            if devices["devices"].as_array().expect("a list").iter().any(is_it) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(SOON, listed).await.unwrap_or_else(|_| panic!("{client} is not listed with {text:?}"));
}

#[tokio::test]
async fn sessions_without_a_message_are_told_and_counted() {
    let mut relay = relay("tolerant").await;
    let address = |last| IpAddr::from([127, 0, 3, last]);
    let cases: [(&[u8], &str, &str); 13] = [
        (b"EHLO probe\r\nQUIT\r\n", "no_mail", "a connection test or a monitor"),
        (b"EHLO plc\r\nAUTH NTLM\r\nQUIT\r\n", "no_mail", "its login was not understood (504 "),
        (b"", "no_mail", "without sending anything"),
        (b"FOO\r\n", "no_mail", "without sending an SMTP command"),
        (b"EHLO plc\r\n", "no_mail", "without sending a message"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", "aborted", "speaks TLS"),
        // Who tried to send is not taken for a monitor.
        (b"EHLO plc\r\nMAIL FROM:<a@b.c>\r\nDATA\r\nx\r\n.\r\nQUIT\r\n", "rejected", "554 5.5.1 No valid recipients"),
        (b"EHLO plc\r\nDATA\r\nx\r\n.\r\nQUIT\r\n", "rejected", "503 5.5.1 Need MAIL and RCPT"),
        (b"EHLO plc\r\nMAIL FROM:<a@b.c>\r\nBDAT 2 LAST\r\nx\nQUIT\r\n", "rejected", "502 5.5.1 BDAT not supported"),
        (b"EHLO plc\r\nRCPT TO:<a@b.c>\r\nQUIT\r\n", "no_mail", "a command was refused (503 5.5.1 Need MAIL"),
        (b"EHLO plc\r\nRCPT TO:<a@b.c>\r\n", "no_mail", "a command was refused (503 5.5.1 Need MAIL"),
        (b"FOO\r\nQUIT\r\n", "no_mail", "a command was refused (500 "),
        (b"EHLO plc\r\nSTARTTLS\r\nQUIT\r\n", "no_mail", "a command was refused (502 5.5.1 TLS not available)"),
    ];
    for (last, (bytes, event, text)) in (1..).zip(cases) {
        let mut client = Client::greeted_from(address(last), relay.addr()).await;
        client.write(bytes).await.unwrap();
        client.finish().await;
        client.read_to_end().await;
        told(&relay, event, address(last), text).await;
    }
    // A monitor that comes each minute is one line, and a number.
    for _ in 0..20 {
        let mut client = Client::greeted_from(address(1), relay.addr()).await;
        client.dialogue(&[("EHLO probe", 250), ("QUIT", 221)]).await;
        client.read_to_end().await;
    }
    // Whose message was accepted or refused has no second line.
    let mut client = Client::greeted_from(address(99), relay.addr()).await;
    client.dialogue(&[("EHLO plc", 250)]).await;
    assert_eq!(client.send("a@b.c", &["ops@example.com"], "Subject: x\r\n\r\nx\r\n").await.code, 250);
    client.dialogue(&[("QUIT", 221)]).await;
    client.read_to_end().await;
    relay.sigterm();
    relay.wait_exit().await;
    let log = relay.log();
    let of = |last| log.iter().filter(move |line| field(line, "client") == Some(address(last).to_string().as_str()));
    let monitor: Vec<&String> = of(1).collect();
    assert_eq!(monitor.len(), 2, "{monitor:#?}");
    assert_eq!((field(monitor[1], "times"), field(monitor[1], "helo")), (Some("20"), Some("probe")));
    assert!((7..10).all(|last| of(last).count() == 1), "{log:#?}");
    assert!(of(99).all(|line| line.contains("event=accepted") || !line.contains("no_mail")), "{log:#?}");
}

#[tokio::test]
async fn plain_text_on_a_tls_port_is_told() {
    let certs = Certs::new();
    let account = Section::custom_account("provider", "127.0.0.1", 1, "implicit");
    let relay = Relay::builder()
        .listener_option("tls", "implicit")
        .listener_option("certificate", certs.cert_file(Cert::Good).display())
        .listener_option("key", certs.key_file(Cert::Good).display())
        .section(account);
    let relay = relay.start().await;
    for (last, bytes, text) in
        [(1, &b"EHLO plc\r\n"[..], "does not speak TLS"), (2, b"", "no complete TLS client hello received")]
    {
        let address = IpAddr::from([127, 0, 4, last]);
        let mut client = Client::connect_from(address, relay.addr()).await;
        client.write(bytes).await.unwrap();
        client.finish().await;
        client.read_to_end().await;
        told(&relay, "aborted", address, text).await;
    }
}
