// SPDX-License-Identifier: Apache-2.0
//! The Controllino's conversation in all the ways in which it happens: each time exactly one correct mail arrives.

mod support;

use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use support::client::{Chunking, Client, Controllino, SKETCH, SKETCH_GIVES_UP, controllino};
use support::provider::{Message, Provider, TlsMode};
use support::relay::{Relay, Section};

/// Long, since the program may run under an emulator.
const SOON: Duration = Duration::from_secs(60);

struct Bed {
    provider: Provider,
    relay: Relay,
}

impl Bed {
    async fn start() -> Bed {
        let provider = Provider::builder().tls(TlsMode::Implicit).login("u", "p").start().await;
        let account = Section::account("provider", &provider).option("from_policy", "keep");
        let relay = Relay::builder().durability("always").section(account).start().await;
        Bed { provider, relay }
    }

    /// Waits for exactly one mail and looks at every part of it.
    async fn one_correct_mail(&self, what: &str) -> Message {
        self.relay.wait_log(|line| line.contains("event=removed"), SOON).await;
        let messages = self.provider.wait_for_messages(1, SOON).await;
        assert_eq!(messages.len(), 1, "{what}");
        assert_eq!(self.provider.complaints(), Vec::<String>::new(), "{what}");
        let message = messages.into_iter().next().unwrap();
        assert_eq!(message.sender, "plc@example.com", "{what}");
        assert_eq!(message.recipients, ["ops@example.com"], "{what}");
        assert_eq!(message.login.as_deref(), Some("u"), "{what}");
        for (name, value) in [("From", "plc@example.com"), ("To", "ops@example.com"), ("Subject", "Pump alarm")] {
            let fields = message.headers(name);
            assert!(fields.len() == 1 && fields[0].contains(value), "{what}: {name} {fields:?}");
        }
        for name in ["Date", "Message-ID"] {
            assert_eq!(message.headers(name).len(), 1, "{what}: {name}\n{}", message.text());
        }
        message
    }
}

/// Plays the published sketch as it times itself. Replies are looked at, never read.
async fn play_sketch(relay: &Relay) -> TcpStream {
    let mut device = TcpStream::connect(relay.addr()).await.unwrap();
    device.set_nodelay(true).unwrap();
    for piece in SKETCH {
        let mut first = [0];
        device.peek(&mut first).await.unwrap();
        if matches!(first[0], b'4' | b'5') {
            device.write_all(SKETCH_GIVES_UP.as_bytes()).await.unwrap();
            return device;
        }
        device.write_all(piece.as_bytes()).await.unwrap();
    }
    device
}

#[tokio::test]
async fn the_published_sketch() {
    let provider = Provider::builder().tls(TlsMode::Implicit).login("u", "p").start().await;
    let account = Section::account("provider", &provider).option("from_policy", "keep");
    let relay = Relay::builder().durability("always").section(account).start().await;
    let mut device = play_sketch(&relay).await;
    // `client.stop()` says goodbye before it forgets what was not read.
    device.shutdown().await.unwrap();
    let message = provider.wait_for_messages(1, SOON).await.remove(0);
    drop(device);
    assert_eq!((message.sender.as_str(), message.recipients.join(" ")), ("plc@example.com", "ops@example.com".into()));
    assert_eq!(message.header("Subject").as_deref(), Some("a Horse"));
    for name in ["From", "To", "Date", "Message-ID"] {
        assert_eq!(message.headers(name).len(), 1, "{name}\n{}", message.text());
    }
    assert_eq!(message.body(), b"The horse does not eat cucumber salad\r\n");
    assert_eq!(provider.complaints(), Vec::<String>::new());
    assert_eq!(provider.messages().len(), 1);
}

#[tokio::test]
async fn the_published_sketch_is_turned_away() {
    let relay = Relay::builder().allow_nobody().allow("10.0.0.0/8").start().await;
    let mut device = play_sketch(&relay).await;
    device.shutdown().await.unwrap();
    relay.wait_log(|line| line.contains("event=refused"), SOON).await;
    assert!(!relay.log().iter().any(|line| line.contains("event=accepted")));
}

const BODY: &[u8] = b"Pump 3 has stopped.\r\nLevel 4.20 m\r\n";

#[tokio::test]
async fn every_sketch_in_every_chunking() {
    for sketch in Controllino::ALL {
        for chunking in [Chunking::Whole, Chunking::Bytes(1), Chunking::Lines, Chunking::Println] {
            let what = format!("{sketch:?} in {chunking:?}");
            let bed = Bed::start().await;
            let mut device = Client::connect(bed.relay.addr()).await;
            device.write_in(&controllino(sketch), chunking).await.unwrap();
            let said = String::from_utf8(device.read_to_end().await).unwrap();
            assert!(said.contains("\r\n250 2.0.0 Ok: queued as "), "{what}: {said}");
            assert!(said.ends_with("221 2.0.0 Bye\r\n"), "{what}: {said}");
            let mail = bed.one_correct_mail(&what).await;
            match sketch {
                Controllino::LoneLf => {
                    assert_eq!(mail.body(), b"Pump 3 has stopped.\r\n\r\nLevel 4.20 m\r\n", "{what}")
                }
                _ => assert_eq!(mail.body(), BODY, "{what}"),
            }
        }
    }
}

#[tokio::test]
async fn all_sent_before_the_greeting_is_read() {
    let bed = Bed::start().await;
    let mut device = Client::connect(bed.relay.addr()).await;
    device.write(&controllino(Controllino::Classic)).await.unwrap();
    // Nothing is read until the mail is through.
    assert_eq!(bed.one_correct_mail("before the greeting").await.body(), BODY);
    assert!(device.read_to_end().await.starts_with(b"220 "));
}

#[tokio::test]
async fn text_sent_before_the_354() {
    let bed = Bed::start().await;
    let mut device = Client::greeted(bed.relay.addr()).await;
    device.dialogue(&[("EHLO plc@example.com", 250), ("MAIL From: <plc@example.com>", 250)]).await;
    device.dialogue(&[("RCPT To: <ops@example.com>", 250)]).await;
    let text = "DATA\r\nTo: ops@example.com\r\nFrom: plc@example.com\r\nSubject: Pump alarm\r\nPump 3 has stopped.\r\nLevel 4.20 m\r\n.\r\n";
    device.write(text.as_bytes()).await.unwrap();
    device.expect(354).await;
    device.expect(250).await;
    assert_eq!(bed.one_correct_mail("before the 354").await.body(), BODY);
}

#[tokio::test]
async fn connection_reset_right_after_the_last_dot_with_no_reply_read() {
    for round in 0..10 {
        let bed = Bed::start().await;
        let mut device = Client::connect(bed.relay.addr()).await;
        let bytes = controllino(Controllino::Classic);
        let end = bytes.windows(5).position(|w| w == b"\r\n.\r\n").unwrap() + 5;
        device.write(&bytes[..end]).await.unwrap();
        if round % 2 == 0 {
            // The bytes have arrived, the replies have left, nobody has read them.
            bed.relay.wait_log(|line| line.contains("event=accepted"), SOON).await;
        } else {
            // The reset may overtake what the program has not read yet, so the kernel has to have it: it has when the
            // greeting was sent, which the program does before it reads.
            device.expect(220).await;
        }
        device.reset();
        bed.one_correct_mail(&format!("reset, round {round}")).await;
    }
}

#[tokio::test]
async fn closed_without_quit_and_half_closed() {
    for half in [false, true] {
        let bed = Bed::start().await;
        let mut device = Client::connect(bed.relay.addr()).await;
        let bytes = controllino(Controllino::Classic);
        let end = bytes.len() - b"QUIT)\r\n".len();
        device.write(&bytes[..end]).await.unwrap();
        device.finish().await;
        if !half {
            drop(device);
        }
        bed.one_correct_mail("no QUIT").await;
    }
}

#[tokio::test]
async fn a_device_that_speaks_bare_lf_is_understood() {
    let bed = Bed::start().await;
    let mut device = Client::connect(bed.relay.addr()).await;
    let bytes: Vec<u8> = controllino(Controllino::Classic).into_iter().filter(|b| *b != b'\r').collect();
    device.write(&bytes).await.unwrap();
    assert_eq!(bed.one_correct_mail("bare LF").await.body(), BODY);
}
