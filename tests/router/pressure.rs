// SPDX-License-Identifier: Apache-2.0
//! A router whose memory runs out, and one whose gateway is killed.

use std::time::Instant;

use super::machine::{Machine, System};
use super::support::client::Client;
use super::support::log::field;
use super::support::provider::{Provider, TlsMode};
use super::{SOON, greeted, memory, settings};

/// What is left in reach when something has taken the rest, in KB: more than the gateway leaves to others, 7 MB of 64. With
/// 32 MB there is hardly more than that to begin with.
const LEFT: u64 = 8 * 1024;
const LEFT_OF_32: u64 = 2 * 1024 + 512;
/// What is in reach when there is memory again, in KB.
const ENOUGH_AGAIN: u64 = 10 * 1024;
const ENOUGH_AGAIN_OF_32: u64 = 2 * 1024 + 512;
/// Bytes of a message, and how many of them would take all of that and more.
const LARGE: usize = 64 << 10;
const ENOUGH: usize = 200;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn little_memory_of_64_mb_refuses_mail_and_a_killed_gateway_loses_none() {
    pressure(64, LEFT, ENOUGH_AGAIN).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn little_memory_of_32_mb_refuses_mail_and_a_killed_gateway_loses_none() {
    pressure(32, LEFT_OF_32, ENOUGH_AGAIN_OF_32).await;
}

/// Mail is refused for the time being before the kernel has to kill; what was accepted is delivered, and with memory there
/// is mail again. Then the gateway is killed: procd starts it again, and nothing is lost.
async fn pressure(megabytes: u64, left: u64, enough_again: u64) {
    let Some(kit) = super::kit() else {
        println!("skipped: ROUTER_VM does not name a virtual machine (make test-router)");
        return;
    };
    let provider = Provider::builder().tls(TlsMode::Implicit).login("u", "p").start().await;
    let ca = provider.certs().ca_file();
    let settings =
        settings(&provider).replacen("option enabled '1'", "option enabled '1'\n\toption spool_limit '48M'", 1);
    let mut machine = Machine::router(kit.as_ref(), &settings, &ca, System::Jffs2, megabytes);
    machine.boot().await;
    provider.stop().await;
    let (code, _) = machine.run("mount -o remount,size=60M /tmp", SOON).await;
    assert_eq!(code, 0);

    // Something takes memory, and mail takes what is left.
    memory(&mut machine, "nothing has taken memory").await;
    let (code, said) = machine.run(&format!("eat {left}"), SOON).await;
    assert_eq!(code, 0, "{said:?}");
    memory(&mut machine, "something has taken the memory").await;
    let mut client = greeted(&machine).await;
    let mut accepted = 0;
    let refused = loop {
        assert!(accepted < ENOUGH, "{ENOUGH} messages of 64 KiB were accepted with {left} KB of memory");
        let reply = large(&mut client, accepted).await;
        if reply.0 != 250 {
            break reply;
        }
        accepted += 1;
    };
    assert_eq!(refused.0, 452, "{refused:?}");
    memory(&mut machine, &format!("{accepted} large messages wait, the next is refused")).await;
    println!("refused with: {}", refused.1);
    alive(&machine, 1);
    assert!(accepted > 0, "no message was accepted");

    // There is memory again. What was refused is sent again, as a device does it.
    let (code, _) = machine.run(&format!("disgorge {enough_again}"), SOON).await;
    assert_eq!(code, 0);
    let limit = Instant::now() + SOON;
    while large(&mut client, accepted).await.0 != 250 {
        assert!(Instant::now() < limit, "mail is refused with memory");
    }
    client.dialogue(&[("QUIT", 221)]).await;

    // What waits is in the RAM disk, which outlives the program.
    machine.run("read -r pid <$PIDFILE; kill -KILL \"$pid\"", SOON).await;
    machine.wait_for_count("listening", 2, SOON, |line| field(line, "event") == Some("listening")).await;
    provider.restart().await;
    let messages = provider.wait_for_messages(accepted + 1, SOON).await;
    let mut names: Vec<String> = messages.iter().filter_map(|message| message.header("Subject")).collect();
    let mut expected: Vec<String> = (0..=accepted).map(|number| format!("large {number}")).collect();
    names.sort();
    expected.sort();
    assert_eq!(names, expected);
    alive(&machine, 2);
    machine.shut_down("stop; off", SOON).await;
}

/// The reply to a message of [`LARGE`] bytes, or the first one that refuses it.
async fn large(client: &mut Client, number: usize) -> (u16, String) {
    // What was refused in the middle is forgotten.
    client.dialogue(&[("RSET", 250)]).await;
    for line in ["MAIL FROM:<plc@example.com>", "RCPT TO:<ops@example.com>", "DATA"] {
        let reply = client.command(line).await;
        if reply.code >= 400 {
            return (reply.code, reply.text());
        }
    }
    let line = "It goes on and on.\r\n";
    let text = format!("Subject: large {number}\r\n\r\n{}.\r\n", line.repeat(LARGE / line.len()));
    client.write(text.as_bytes()).await.expect("send a message");
    let reply = client.reply().await;
    (reply.code, reply.text())
}

/// The kernel has killed nobody, and the gateway was started so often.
fn alive(machine: &Machine, starts: usize) {
    let said = machine.said();
    let of_kernel = |line: &&String| line.contains("Out of memory") || line.contains("oom-killer");
    let killed: Vec<&String> = said.iter().filter(of_kernel).collect();
    assert!(killed.is_empty(), "{killed:?}");
    assert_eq!(said.iter().filter(|line| field(line, "event") == Some("listening")).count(), starts);
}
