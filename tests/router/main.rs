// SPDX-License-Identifier: Apache-2.0
//! The installed package on a router: a MIPS kernel, 64 MB of memory or 32, JFFS2 under an overlay.
//!
//! `scripts/router.sh` makes kernel and initramfs and names their folder in `ROUTER_VM`; without it there is nothing to
//! run. docs/developer/testing.md says what this proves and what not.

mod bench;
mod half_year;
#[path = "../powercut/machine/mod.rs"]
mod machine;
mod peers;
mod pressure;
#[path = "../support/mod.rs"]
mod support;
mod table;
mod wear;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use machine::{Machine, System};
use support::client::{Chunking, Client, Controllino, controllino};
use support::log::field;
use support::provider::{Provider, TlsMode};

/// For anything: the machine is slow, and perhaps not alone.
const SOON: Duration = Duration::from_secs(120);
/// Devices that are connected at the same time: on a router with 64 MB, and on one where programs have 17 MB, which
/// Debian's kernel leaves of 32: with more of them the kernel reads the program's pages from the flash again and again.
const DEVICES: usize = 50;
const FEW_DEVICES: usize = 10;
/// Messages that wait for the provider while the router boots.
const QUEUED: usize = 20;

/// What the gateway may take, in KB: its resident pages, and those that would be free without it.
const RSS_LIMIT: u64 = 6 * 1024;
const PRIVATE_LIMIT: u64 = 4 * 1024;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_router_with_64_mb() {
    router(64).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_router_with_32_mb() {
    router(32).await;
}

/// The folder that `scripts/router.sh` has made; in its folder `before`, if there is one, is an earlier package.
fn kit() -> Option<PathBuf> {
    std::env::var_os("ROUTER_VM").map(PathBuf::from)
}

/// The shipped settings, and what the owner of a router has to add.
fn settings(provider: &Provider) -> String {
    let port = provider.port();
    format!(
        "config relay 'main'\n\toption enabled '1'\n\toption safe_spool '/etc/smtprelay/spool'\n\
         config listener 'lan'\n\tlist address '10.0.2.15'\n\toption port '25'\n\tlist allow '10.0.2.0/24'\n\
         config account 'provider'\n\toption provider 'custom'\n\toption host 'localhost'\n\toption port '{port}'\n\
         \toption tls 'implicit'\n\toption ca_file '/etc/powercut/ca.pem'\n\toption username 'u'\n\
         \toption password 'p'\n\toption from 'relay@provider.example'\n"
    )
}

/// What the gateway takes, in KB: its resident pages, and those that would be free without it. Behind these, of the machine:
/// total, free, available, in reach at once.
async fn memory_of(machine: &mut Machine) -> (u64, u64, [u64; 4]) {
    let (code, said) = machine.run("memory", SOON).await;
    assert_eq!(code, 0, "{said:?}");
    let line = said.iter().find(|line| line.starts_with("router: memory ")).expect("a line with the memory");
    let value = |name| -> u64 {
        let value = field(line, name).and_then(|value| value.parse().ok());
        value.unwrap_or_else(|| panic!("no {name} in {line:?}"))
    };
    (value("rss"), value("private"), ["total", "free", "available", "reach"].map(value))
}

/// One line of the table of memory.
async fn memory(machine: &mut Machine, when: &str) {
    let (rss, private, [total, free, available, reach]) = memory_of(machine).await;
    println!(
        "| {:>2} MB | {when:<50} | {free:>6} | {available:>6} | {reach:>6} | {rss:>5} | {private:>5} |",
        total.div_ceil(32 * 1024) * 32
    );
    assert!(
        rss <= RSS_LIMIT && private <= PRIVATE_LIMIT,
        "{when}: the gateway takes more than it should: RSS {rss}, private {private} KB"
    );
}

/// Waits until the queue is empty: so many messages have been removed since the boot.
async fn removed(machine: &Machine, count: usize) {
    machine.wait_for_count("removed", count, SOON, |line| field(line, "event") == Some("removed")).await;
}

/// Lines of text, so many bytes in all.
fn lines(bytes: usize) -> String {
    "Pump 3 has stopped, and the tank is half empty. Please look after it today.\r\n"
        .chars()
        .cycle()
        .take(bytes)
        .collect::<String>()
        + "\r\n"
}

/// A message in good order, on a connection where EHLO was said.
async fn send(client: &mut Client, name: &str) {
    submit(client, name, "Pump 3 has stopped.\r\n").await;
}

/// A message with this text, on a connection where EHLO was said.
async fn submit(client: &mut Client, name: &str, text: &str) {
    let text = format!("From: plc@example.com\r\nTo: ops@example.com\r\nSubject: {name}\r\n\r\n{text}");
    let reply = client.send("plc@example.com", &["ops@example.com"], &text).await;
    assert_eq!(reply.code, 250, "{name}: {reply:?}");
}

async fn greeted(machine: &Machine) -> Client {
    let mut client = Client::greeted(machine.addr()).await;
    client.set_limit(SOON);
    client.dialogue(&[("EHLO plc", 250)]).await;
    client
}

async fn router(megabytes: u64) {
    let Some(kit) = kit() else {
        println!("skipped: ROUTER_VM does not name a virtual machine (make test-router)");
        return;
    };
    let start = Instant::now();
    println!("\n| memory | KB | free | available | free or cached | RSS | private |");
    let provider = Provider::builder().tls(TlsMode::Implicit).login("u", "p").start().await;
    let ca = provider.certs().ca_file();
    let mut machine = Machine::router(kit.as_ref(), &settings(&provider), &ca, System::Jffs2, megabytes);

    machine.boot().await;
    memory(&mut machine, "started").await;
    let mut sent = a_controllino(&mut machine, &provider).await;
    memory(&mut machine, "after the first message").await;
    let devices = if megabytes < 64 { FEW_DEVICES } else { DEVICES };
    sent += many_sessions(&mut machine, &provider, devices, sent).await;
    memory(&mut machine, &format!("after {devices} sessions")).await;
    sent += reload(&mut machine, &provider, sent).await;
    memory(&mut machine, "after the reload").await;
    boot_with_a_queue(&mut machine, &provider, sent).await;
    memory(&mut machine, "booted with a queue, and delivered it").await;
    machine.shut_down("stop; off", SOON).await;

    assert_eq!(provider.complaints(), [""; 0]);
    println!(
        "{megabytes} MB: boots of {:.1} s, all in {:.0} s",
        machine.boots.iter().sum::<f64>() / machine.boots.len() as f64,
        start.elapsed().as_secs_f64()
    );
}

/// The mail of the devices that this program is for: no blank line, no Date, all bytes without a look at the replies.
async fn a_controllino(machine: &mut Machine, provider: &Provider) -> usize {
    let mut device = Client::greeted(machine.addr()).await;
    device.set_limit(SOON);
    device.write_in(&controllino(Controllino::Classic), Chunking::Println).await.expect("send the conversation");
    let said = device.read_to_end().await;
    assert!(String::from_utf8_lossy(&said).contains("queued as "), "{}", String::from_utf8_lossy(&said));
    let messages = provider.wait_for_messages(1, SOON).await;
    let message = &messages[0];
    let tls = message.tls.as_ref().expect("TLS");
    assert_eq!((tls.version.as_str(), message.login.as_deref()), ("TLSv1_3", Some("u")));
    assert_eq!(message.header("Subject").as_deref(), Some("Pump alarm"));
    assert!(message.header("Date").is_some() && message.header("Message-ID").is_some(), "{}", message.text());
    assert!(message.text().contains("\r\n\r\nPump 3 has stopped.\r\n"), "{}", message.text());
    removed(machine, 1).await;
    1
}

/// Many devices at the same time, each with a message.
async fn many_sessions(machine: &mut Machine, provider: &Provider, devices: usize, sent: usize) -> usize {
    let mut clients = Vec::new();
    for _ in 0..devices {
        clients.push(greeted(machine).await);
    }
    memory(machine, &format!("{devices} sessions are open")).await;
    for (number, client) in clients.iter_mut().enumerate() {
        send(client, &format!("one of {devices}: {number}")).await;
    }
    memory(machine, &format!("{devices} sessions have sent a message each")).await;
    provider.wait_for_messages(sent + devices, SOON).await;
    removed(machine, sent + devices).await;
    for client in &mut clients {
        client.dialogue(&[("QUIT", 221)]).await;
    }
    devices
}

/// The gateway takes a changed setting, and keeps its connections.
async fn reload(machine: &mut Machine, provider: &Provider, sent: usize) -> usize {
    let mut client = greeted(machine).await;
    let change = "sed -i \"s/option port '25'/&\\n\\toption max_sessions '123'/\" /etc/config/smtprelay";
    let (code, said) = machine.run(change, SOON).await;
    assert_eq!(code, 0, "{said:?}");
    let (code, said) = machine.run("smtprelay reload", SOON).await;
    assert_eq!(code, 0, "{said:?}");
    machine.wait("the new settings", SOON, |line| field(line, "event") == Some("reloaded")).await;
    send(&mut client, "after the reload").await;
    provider.wait_for_messages(sent + 1, SOON).await;
    removed(machine, sent + 1).await;
    client.dialogue(&[("QUIT", 221)]).await;
    1
}

/// Mail that waits in memory goes to the flash at a shutdown, and is delivered after the next boot.
async fn boot_with_a_queue(machine: &mut Machine, provider: &Provider, sent: usize) {
    provider.stop().await;
    let mut client = greeted(machine).await;
    for number in 0..QUEUED {
        send(&mut client, &format!("queued {number}")).await;
    }
    client.dialogue(&[("QUIT", 221)]).await;
    memory(machine, "20 messages wait").await;
    let said = machine.shut_down("stop; off", SOON).await;
    assert!(said.iter().any(|line| line == "router: the gateway ended with exit code 0"), "{}", said.join("\n"));
    provider.restart().await;
    machine.boot().await;
    let found = machine.wait("the queue", SOON, |line| field(line, "event") == Some("recovered")).await;
    assert_eq!(field(&found, "messages"), Some(QUEUED.to_string().as_str()), "{found}");
    let messages = provider.wait_for_messages(sent + QUEUED, SOON).await;
    removed(machine, QUEUED).await;
    let mut names: Vec<String> = messages.iter().skip(sent).filter_map(|message| message.header("Subject")).collect();
    let mut expected: Vec<String> = (0..QUEUED).map(|number| format!("queued {number}")).collect();
    names.sort();
    expected.sort();
    assert_eq!(names, expected);
}
