// SPDX-License-Identifier: Apache-2.0
//! A router whose memory runs out, and one whose gateway is killed.

use super::machine::{Machine, System};
use super::support::client::Client;
use super::support::log::field;
use super::support::provider::{Provider, TlsMode};
use super::{SOON, greeted, memory, memory_of, send, settings};

/// What is left when something has taken the rest, in KB: above what the gateway keeps free for others (4 MB).
const LEFT: u64 = 7 * 1024;
/// Bytes of a message, and how many of them would take all of that and more.
const LARGE: usize = 64 << 10;
const ENOUGH: usize = 200;

/// Mail is refused for the time being before the kernel has to kill; what was accepted is delivered, and with memory there
/// is mail again. Then the gateway is killed: procd starts it again, and nothing is lost.
///
/// Not part of `make test` yet: it was tried on one kind of host only.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "see docs/developer/testing.md"]
async fn little_memory_refuses_mail_and_a_killed_gateway_loses_none() {
    let Some(kit) = std::env::var_os("ROUTER_VM") else {
        println!("skipped: ROUTER_VM does not name a virtual machine (make test-router)");
        return;
    };
    let provider = Provider::builder().tls(TlsMode::Implicit).login("u", "p").start().await;
    let ca = provider.certs().ca_file();
    let settings =
        settings(&provider).replacen("option enabled '1'", "option enabled '1'\n\toption spool_limit '48M'", 1);
    let mut machine = Machine::router(kit.as_ref(), &settings, &ca, System::Jffs2, 64);
    machine.boot().await;
    provider.stop().await;
    let (code, _) = machine.run("mount -o remount,size=60M /tmp", SOON).await;
    assert_eq!(code, 0);

    // Something takes memory, and mail takes what is left.
    let (_, _, [_, _, available]) = memory_of(&mut machine).await;
    eat(&mut machine, available - LEFT).await;
    memory(&mut machine, "something has taken the memory").await;
    let mut client = greeted(&machine).await;
    let mut accepted = 0;
    let refused = loop {
        assert!(accepted < ENOUGH, "{ENOUGH} messages of 64 KiB were accepted with 7 MB of memory");
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

    // There is memory again.
    let (code, _) = machine.run("rm /tmp/eaten", SOON).await;
    assert_eq!(code, 0);
    machine.run("sleep 2", SOON).await;
    send(&mut client, "with memory").await;
    client.dialogue(&[("QUIT", 221)]).await;

    // What waits is in the RAM disk, which outlives the program.
    machine.run("read -r pid <$PIDFILE; kill -KILL \"$pid\"", SOON).await;
    machine.wait_for_count("listening", 2, SOON, |line| field(line, "event") == Some("listening")).await;
    provider.restart().await;
    let messages = provider.wait_for_messages(accepted + 1, SOON).await;
    let mut names: Vec<String> = messages.iter().filter_map(|message| message.header("Subject")).collect();
    let mut expected: Vec<String> = (0..accepted).map(|number| format!("large {number}")).collect();
    expected.push("with memory".into());
    names.sort();
    expected.sort();
    assert_eq!(names, expected);
    alive(&machine, 2);
    machine.shut_down("stop; off", SOON).await;
}

/// So many KB of the memory are gone.
async fn eat(machine: &mut Machine, kilobytes: u64) {
    // In bites: all at once, the kernel kills before it has looked for what it could give up.
    let bite = "head -c 512k /dev/zero >>/tmp/eaten; usleep 20000";
    let bites = format!("i=0; while [ $i -lt {} ]; do {bite}; i=$((i + 1)); done", kilobytes / 512);
    let (code, said) = machine.run(&bites, SOON).await;
    assert_eq!(code, 0, "{said:?}");
}

/// The reply to a message of [`LARGE`] bytes, or the first one that refuses it.
async fn large(client: &mut Client, number: usize) -> (u16, String) {
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
