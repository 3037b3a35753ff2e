//! What was accepted is there after a crash.

mod support;

use std::collections::HashMap;
use std::time::Duration;

use support::client::Client;
use support::provider::{Provider, TlsMode};
use support::relay::{Relay, Section};

const SOON: Duration = Duration::from_secs(240);

/// How often the program is killed. `SMTPRELAY_ROUNDS` names another number.
fn rounds() -> usize {
    std::env::var("SMTPRELAY_ROUNDS").ok().and_then(|n| n.parse().ok()).unwrap_or(20)
}

/// Messages of one round, all in sessions of their own at the same time.
const MESSAGES: usize = 500;
/// Connections to the provider: as many messages can be under way and come twice.
const CONNECTIONS: usize = 4;

/// Sends message `name`; true when it got its 250.
async fn try_send(addr: std::net::SocketAddr, name: String) -> bool {
    let Ok(stream) = tokio::net::TcpStream::connect(addr).await else { return false };
    let (read, mut write) = stream.into_split();
    let text = format!(
        "EHLO plc\r\nMAIL FROM:<plc@example.com>\r\nRCPT TO:<ops@example.com>\r\nDATA\r\nSubject: {name}\r\n\r\n{}\r\n.\r\nQUIT\r\n",
        "0123456789abcdef".repeat(60)
    );
    if tokio::io::AsyncWriteExt::write_all(&mut write, text.as_bytes()).await.is_err() {
        return false;
    }
    let mut said = Vec::new();
    // The end of the connection, clean or not, is the end of what was said.
    let _ = tokio::io::AsyncReadExt::read_to_end(&mut tokio::io::BufReader::new(read), &mut said).await;
    String::from_utf8_lossy(&said).contains("queued as")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_in_the_middle_of_500_messages() {
    let (mut promised, mut doubled) = (0, 0);
    for round in 0..rounds() {
        let provider = Provider::builder().tls(TlsMode::Implicit).login("u", "p").start().await;
        let account =
            Section::account("provider", &provider).option("from_policy", "keep").option("connections", CONNECTIONS);
        let mut relay = Relay::builder().durability("always").section(account).start().await;
        let addr = relay.addr();
        let sessions: Vec<_> = (0..MESSAGES).map(|n| tokio::spawn(try_send(addr, format!("r{round}m{n}")))).collect();
        // Killed at another point of the work in each round: after so many were accepted.
        let moment = (round + 1) * MESSAGES / (rounds() + 1);
        let accepted = |relay: &Relay| relay.log().iter().filter(|line| line.contains("event=accepted")).count();
        let mut mark = 0;
        while accepted(&relay) <= moment {
            relay.wait_log_from(mark, |line| line.contains("event=accepted"), SOON).await;
            mark = relay.mark();
        }
        relay.kill9();
        let mut kept = Vec::new();
        for (n, session) in sessions.into_iter().enumerate() {
            if session.await.unwrap() {
                kept.push(format!("r{round}m{n}"));
            }
        }
        relay.restart().await;
        let arrived = provider
            .wait_until("all that was promised", SOON, |record| {
                let mut counts: HashMap<String, usize> = HashMap::new();
                for message in record.attempts.iter().filter(|m| m.accepted) {
                    *counts.entry(message.header("Subject").unwrap_or_default()).or_default() += 1;
                }
                kept.iter().all(|name| counts.contains_key(name)).then_some(counts)
            })
            .await;
        let twice: usize = arrived.values().map(|count| count - 1).sum();
        println!("round {round}: {} got their 250, {} arrived, {twice} of them twice", kept.len(), arrived.len());
        assert!(twice <= CONNECTIONS, "{twice} came twice, only {CONNECTIONS} can have been under way");
        promised += kept.len();
        doubled += twice;
    }
    assert!(promised >= rounds() * MESSAGES / 10, "hardly anything was accepted before the kills");
    println!("{} rounds: {promised} promised, 0 lost, {doubled} twice", rounds());
}

#[tokio::test]
async fn memory_survives_a_crash_of_the_program() {
    let provider = Provider::builder().tls(TlsMode::Implicit).login("u", "p").start().await;
    provider.stop().await;
    let mut relay = Relay::builder().durability("memory").account("provider", &provider).start().await;
    let mut device = Client::greeted(relay.addr()).await;
    device.dialogue(&[("EHLO plc", 250)]).await;
    assert_eq!(device.send("plc@example.com", &["ops@example.com"], "Subject: x\r\n\r\nx\r\n").await.code, 250);
    relay.kill9();
    provider.restart().await;
    relay.restart().await;
    relay.wait_log(|line| line.contains("event=recovered messages=1"), SOON).await;
    provider.wait_for_messages(1, SOON).await;
}

#[tokio::test]
async fn deferred_mail_is_moved_to_safety_at_the_order_to_stop() {
    let provider = Provider::builder().tls(TlsMode::Implicit).login("u", "p").start().await;
    provider.stop().await;
    let mut relay = Relay::builder().durability("deferred").account("provider", &provider).start().await;
    let mut device = Client::greeted(relay.addr()).await;
    device.dialogue(&[("EHLO plc", 250)]).await;
    assert_eq!(device.send("plc@example.com", &["ops@example.com"], "Subject: x\r\n\r\nx\r\n").await.code, 250);
    let count = |dir: std::path::PathBuf| std::fs::read_dir(dir.join("queue")).unwrap().count();
    assert_eq!((count(relay.spool()), count(relay.safe_spool())), (1, 0));
    relay.sigterm();
    relay.wait_exit().await;
    assert_eq!((count(relay.spool()), count(relay.safe_spool())), (0, 1));
    // The RAM disk is gone with the reboot.
    std::fs::remove_dir_all(relay.spool()).unwrap();
    provider.restart().await;
    relay.restart().await;
    provider.wait_for_messages(1, SOON).await;
}

#[tokio::test]
async fn two_programs_never_work_on_one_queue() {
    let provider = Provider::builder().tls(TlsMode::Implicit).login("u", "p").start().await;
    let relay = Relay::builder().durability("always").account("provider", &provider).start().await;
    let second = relay.command(&["run", "--foreground"]).await;
    assert!(!second.status.success());
    let said = String::from_utf8_lossy(&second.stderr).into_owned();
    assert!(said.contains("another smtprelay works on"), "{said}");
}
