// SPDX-License-Identifier: Apache-2.0
//! What a client hears that sends on after a refusal and judges by the last reply: the first refusal, so that "later" never
//! becomes "never".

mod support;

use support::client::Client;
use support::relay::{Relay, RelayBuilder, Section};

const TEXT: &str = "Subject: x\r\n\r\nalarm\r\n";

/// An account whose provider is not there: mail stays in the queue.
fn relay() -> RelayBuilder {
    Relay::builder().durability("always").section(Section::custom_account("provider", "127.0.0.1", 1, "implicit"))
}

/// Sends all of it without waiting; gives the codes that came back, without those of the greeting and EHLO.
async fn blindly(relay: &Relay, commands: &[&str]) -> Vec<u16> {
    let mut device = Client::greeted(relay.addr()).await;
    device.dialogue(&[("EHLO plc", 250)]).await;
    let bytes: String = commands.iter().map(|command| format!("{command}\r\n")).collect();
    device.write(bytes.as_bytes()).await.unwrap();
    device.finish().await;
    let said = String::from_utf8(device.read_to_end().await).unwrap();
    said.lines().map(|line| line[..3].parse().unwrap()).collect()
}

const MAIL: &str = "MAIL FROM:<plc@example.com>";
const RCPT: &str = "RCPT TO:<ops@example.com>";
const END: &str = "Subject: x\r\n\r\nalarm\r\n.";

/// A relay whose queue has no room for a message of 40 kB.
async fn full(dialect: &str) -> Relay {
    let relay = relay().relay_option("spool_limit", "100K").listener_option("dialect", dialect).start().await;
    let mut device = Client::greeted(relay.addr()).await;
    device.dialogue(&[("EHLO plc", 250)]).await;
    let text = format!("{TEXT}{}", "0123456789abcde\r\n".repeat(1000));
    for _ in 0..100 {
        if device.command("MAIL FROM:<plc@example.com> SIZE=40000").await.code == 452 {
            return relay;
        }
        device.dialogue(&[("RSET", 250)]).await;
        device.send("a@b.c", &["d@e.f"], &text).await;
    }
    panic!("the queue is never full");
}

#[tokio::test]
async fn a_queue_that_is_full_stays_a_reason_to_come_back() {
    for dialect in ["tolerant", "strict"] {
        let relay = full(dialect).await;
        let mail = "MAIL FROM:<plc@example.com> SIZE=40000";
        for (commands, expected) in [
            (&[mail, RCPT, RCPT, "DATA", END, "QUIT"][..], &[452, 452, 452, 354, 452, 221][..]),
            (&[mail, "DATA", END, "QUIT"], &[452, 354, 452, 221]),
            (&[mail, RCPT, "BDAT 4 LAST\r\nab", "QUIT"], &[452, 452, 452, 221]),
            (&[mail, RCPT, "BDAT 4\r\nab", "BDAT 4 LAST\r\nab", "QUIT"], &[452, 452, 452, 452, 221]),
            (&[mail, RCPT, "BDAT 0 LAST", "QUIT"], &[452, 452, 452, 221]),
            // Another message, or a new start, is judged by itself.
            (&[mail, RCPT, "RSET", MAIL, RCPT, "RSET", "QUIT"], &[452, 452, 250, 250, 250, 250, 221]),
            (&[mail, RCPT, "RSET", RCPT, "QUIT"], &[452, 452, 250, 503, 221]),
            (&[mail, "HELO plc", RCPT, "DATA", END, "QUIT"], &[452, 250, 503, 354, 503, 221]),
            (&[mail, RCPT, "DATA", END, RCPT, "QUIT"], &[452, 452, 354, 452, 503, 221]),
        ] {
            assert_eq!(blindly(&relay, commands).await, expected, "{dialect} {commands:?}");
        }
    }
}

#[tokio::test]
async fn the_first_refusal_stays() {
    let device = Section::new("device", "default")
        .option("rate", "1/h")
        .option("over_rate", "reject")
        .list("allow_recipient", "*@example.com");
    let builder = relay().relay_option("message_limit", "20K").section(device).listener_option("max_recipients", 2);
    let relay = builder.start().await;
    for (commands, expected) in [
        (&["MAIL FROM:<a@b.c> SIZE=99999", RCPT, "DATA", END, "QUIT"][..], &[552, 552, 354, 552, 221][..]),
        (&["MAIL FROM:<a@b.c>,<d@e.f>", RCPT, "DATA", END, "QUIT"], &[501, 501, 354, 501, 221]),
        (&[MAIL, "RCPT TO:<x@y.z>", "DATA", END, "QUIT"], &[250, 550, 354, 550, 221]),
        (&[MAIL, "RCPT TO:<bad one>", "DATA", END, "QUIT"], &[250, 501, 354, 501, 221]),
        (&[MAIL, "RCPT TO:<bad one>", "RCPT TO:<x@y.z>", "DATA", END, "QUIT"], &[250, 501, 550, 354, 501, 221]),
        // Too many recipients in one command: none of them was taken, and fewer may be.
        (
            &[MAIL, "RCPT TO:<1@example.com>,<2@example.com>,<3@example.com>", "DATA", END, "QUIT"],
            &[250, 452, 354, 452, 221],
        ),
        (
            &[MAIL, "RCPT TO:<x@y.z>", "RCPT TO:1@example.com 2@example.com 3@example.com", "DATA", END, "QUIT"],
            &[250, 550, 452, 354, 452, 221],
        ),
        // Somebody was taken: the message is his.
        (&[MAIL, "RCPT TO:<x@y.z>", RCPT, "DATA", END, "QUIT"], &[250, 550, 250, 354, 250, 221]),
        // Beyond the rate.
        (&[MAIL, RCPT, "DATA", END, "QUIT"], &[450, 450, 354, 450, 221]),
        (&[RCPT, "DATA", END, "QUIT"], &[503, 354, 503, 221]),
    ] {
        assert_eq!(blindly(&relay, commands).await, expected, "{commands:?}");
    }
}

#[tokio::test]
async fn mail_that_others_could_send_on_is_to_nobody_in_the_domain() {
    let below = Section::new("device", "default").list("allow_recipient", "*@*.example.com");
    let deeper = relay().section(below).start().await;
    let device = Section::new("device", "default").list("allow_recipient", "*@example.com");
    let user = Section::new("user", "cam").option("username", "cam").option("password", "secret");
    let user = user.list("sender", "example.com");
    let relay = relay().section(device).section(user).listener_option("auth", "optional").start().await;
    let rcpt = "RCPT TO:<ops@a.example.com>";
    for local in ["x%evil", "\"x@evil.org\"", "\"ops@evil.example.com\""] {
        let routed = format!("RCPT TO:<{local}@a.example.com>");
        assert_eq!(blindly(&deeper, &[MAIL, &routed, rcpt, "QUIT"]).await, [250, 550, 250, 221], "{local}");
    }
    for local in ["x%evil", "evil!x", "\"x@evil\"", "\"@evil:x\""] {
        let rcpt = format!("RCPT TO:<{local}@example.com>");
        assert_eq!(blindly(&relay, &[MAIL, &rcpt, RCPT, "QUIT"]).await, [250, 550, 250, 221], "{local}");
        let mail = format!("MAIL FROM:<{local}@example.com>");
        assert_eq!(blindly(&relay, &["AUTH PLAIN AGNhbQBzZWNyZXQ=", &mail, "QUIT"]).await, [235, 550, 221], "{local}");
    }
}

#[tokio::test]
async fn a_login_that_is_missing() {
    let user = Section::new("user", "cam").option("username", "cam").option("password", "secret");
    let user = user.list("sender", "cam@example.com");
    let relay = relay().section(user).listener_option("auth", "required").start().await;
    for (commands, expected) in [
        (&[MAIL, RCPT, "DATA", END, "QUIT"][..], &[530, 530, 354, 530, 221][..]),
        (&["RCPT TO:<ops@example.com>", "DATA", END, "QUIT"], &[503, 354, 530, 221]),
        (&[MAIL, "AUTH PLAIN AGNhbQBzZWNyZXQ=", RCPT, "QUIT"], &[530, 235, 503, 221]),
        (&["AUTH PLAIN AGNhbQBzZWNyZXQ=", MAIL, RCPT, "DATA", END, "QUIT"], &[235, 550, 550, 354, 550, 221]),
    ] {
        assert_eq!(blindly(&relay, commands).await, expected, "{commands:?}");
    }
}
