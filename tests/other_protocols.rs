//! Clients that speak something other than SMTP: the session ends before anything in it is taken for a command.

mod support;

use std::net::IpAddr;
use std::time::Duration;

use support::client::{Chunking, Client};
use support::relay::{Relay, Section};

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
