// SPDX-License-Identifier: Apache-2.0
//! What was accepted is there after a crash.

mod support;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use support::client::Client;
use support::disk::wait_for_files;
use support::provider::{Provider, TlsMode};
use support::relay::{Relay, Section, field};

const SOON: Duration = Duration::from_secs(240);

/// How often the program is killed with each kind of durability. `SMTPRELAY_ROUNDS` names another number.
fn rounds() -> usize {
    std::env::var("SMTPRELAY_ROUNDS").ok().and_then(|n| n.parse().ok()).unwrap_or(50)
}

/// What makes a run another one. `SMTPRELAY_SEED` takes one again that was printed.
fn seed() -> u64 {
    let now = || std::time::UNIX_EPOCH.elapsed().map_or(0, |time| u64::from(time.subsec_nanos()));
    std::env::var("SMTPRELAY_SEED").ok().and_then(|n| n.parse().ok()).unwrap_or_else(now)
}

/// Sessions at the same time in each round, and messages in each of them.
const SESSIONS: usize = 50;
const EACH: usize = 3;
const BODY: usize = 1000;
/// Connections to the provider: as many messages can be under way and come twice.
const CONNECTIONS: usize = 4;

/// Numbers that look random (splitmix64).
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % limit
    }
}

/// Sends messages in one go and says which of them got their 250, the first ones. Each 250 is counted when it is read.
async fn session(addr: std::net::SocketAddr, names: Vec<String>, count: Arc<watch::Sender<usize>>) -> Vec<String> {
    let Ok(stream) = tokio::net::TcpStream::connect(addr).await else { return Vec::new() };
    let (read, mut write) = stream.into_split();
    let mut text = format!("EHLO {}\r\n", names[0]);
    for name in &names {
        text += "MAIL FROM:<plc@example.com>\r\nRCPT TO:<ops@example.com>\r\nDATA\r\n";
        text += &format!("Subject: {name}\r\n\r\n{}\r\n.\r\n", "x".repeat(BODY - 2));
    }
    text += "QUIT\r\n";
    // The end of the connection, clean or not, is the end of what was said.
    let writing = async { drop(tokio::io::AsyncWriteExt::write_all(&mut write, text.as_bytes()).await) };
    let mut lines = tokio::io::AsyncBufReadExt::lines(tokio::io::BufReader::new(read));
    let reading = async {
        let mut promised = 0;
        while let Ok(Some(line)) = lines.next_line().await {
            if line.contains("queued as") {
                promised += 1;
                count.send_modify(|count| *count += 1);
            }
        }
        promised
    };
    let ((), promised) = tokio::join!(writing, reading);
    names.into_iter().take(promised).collect()
}

/// Kills the program at a random moment of its work: when the first message of some session of this round was accepted,
/// when the sessions have read some number of replies, or some milliseconds later. In good order first, now and then, so
/// that the kill comes amid the move to `safe_spool`.
async fn kill_at_random(
    relay: &mut Relay,
    round: usize,
    mut count: watch::Receiver<usize>,
    random: &mut Random,
) -> &'static str {
    if random.below(2) == 0 {
        let helo = format!("{round}-{}-0", random.below(SESSIONS as u64));
        let is_it = |line: &str| field(line, "event") == Some("accepted") && field(line, "helo") == Some(&helo);
        relay.wait_log(is_it, SOON).await;
    } else {
        let enough = 1 + random.below((SESSIONS * EACH / 2) as u64) as usize;
        let read = tokio::time::timeout(SOON, count.wait_for(|count| *count >= enough)).await;
        assert!(read.is_ok_and(|read| read.is_ok()), "fewer than {enough} messages were accepted");
    }
    let way = match random.below(4) {
        0 => "after a message",
        1 => {
            relay.sigterm();
            "amid the stop"
        }
        _ => "somewhen",
    };
    if way != "after a message" {
        tokio::time::sleep(Duration::from_micros(random.below(100_000))).await;
    }
    relay.kill9();
    way
}

async fn killed_again_and_again(durability: &str) {
    let seed = seed();
    println!("{durability}: SMTPRELAY_SEED={seed}");
    let mut random = Random(seed);
    let began = std::time::Instant::now();
    let provider = Provider::builder().tls(TlsMode::Implicit).login("u", "p").start().await;
    let account =
        Section::account("provider", &provider).option("from_policy", "keep").option("connections", CONNECTIONS);
    let builder = Relay::builder().durability(durability).relay_option("spool_limit", "64M");
    let mut relay = builder.section(account).start().await;
    let mut promised = Vec::new();
    let mut ways: BTreeMap<&str, usize> = BTreeMap::new();
    for round in 0..rounds() {
        let name = |session: usize| move |n| format!("{round}-{session}-{n}");
        let (count, counted) = watch::channel(0);
        let count = Arc::new(count);
        let sessions: Vec<_> = (0..SESSIONS)
            .map(|number| {
                let names = (0..EACH).map(name(number)).collect();
                tokio::spawn(session(relay.addr(), names, Arc::clone(&count)))
            })
            .collect();
        *ways.entry(kill_at_random(&mut relay, round, counted, &mut random).await).or_default() += 1;
        for session in sessions {
            promised.extend(session.await.unwrap());
        }
        relay.restart().await;
    }
    // When the queue is empty, the provider has everything.
    for spool in [relay.spool(), relay.safe_spool()] {
        wait_for_files(&spool, 0).await;
    }
    let mut arrived: HashMap<String, usize> = HashMap::new();
    for message in provider.messages() {
        assert_eq!(message.body().len(), BODY, "a message is torn");
        *arrived.entry(message.header("Subject").unwrap_or_default()).or_default() += 1;
    }
    let lost: Vec<_> = promised.iter().filter(|name| !arrived.contains_key(*name)).collect();
    assert!(lost.is_empty(), "{} of {} are lost: {lost:?}", lost.len(), promised.len());
    let twice: usize = arrived.values().map(|count| count - 1).sum();
    println!(
        "{durability}: {} kills ({ways:?}) in {:?}: {} promised, 0 lost, {} arrived, {twice} came once more than needed, \
         at most {} can: as many as were on their way to the provider at a kill; {} starts waited for the lock",
        rounds(),
        began.elapsed(),
        promised.len(),
        arrived.len(),
        rounds() * CONNECTIONS,
        relay.log().iter().filter(|line| line.contains("waiting for it to exit")).count()
    );
    assert!(twice <= rounds() * CONNECTIONS, "{twice} came twice");
    // A kill may come with the first of them, so a few rounds say nothing about that.
    let few = rounds() < 20;
    assert!(few || promised.len() >= rounds() * SESSIONS * EACH / 20, "hardly anything was accepted before the kills");
    // What had left the queue never comes back.
    let mut removed = HashSet::new();
    for line in relay.log() {
        match (field(&line, "event"), field(&line, "id")) {
            (Some("removed"), Some(id)) => _ = removed.insert(id.to_owned()),
            (Some("delivered"), Some(id)) => assert!(!removed.contains(id), "{id} was sent after it had been removed"),
            (Some("set_aside" | "spool_trouble"), _) => panic!("{line}"),
            _ => {}
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_at_random_instants_always() {
    killed_again_and_again("always").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_at_random_instants_deferred() {
    killed_again_and_again("deferred").await;
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

/// A process that was killed amid a write to slow flash holds its lock for a moment after its end was seen.
#[tokio::test]
async fn a_lock_that_is_given_up_late_is_waited_for() {
    let provider = Provider::builder().tls(TlsMode::Implicit).login("u", "p").start().await;
    let mut relay = Relay::builder().durability("always").account("provider", &provider).start().await;
    relay.kill9();
    let lock = std::fs::File::options().write(true).open(relay.spool().join("lock")).unwrap();
    let lock = nix::fcntl::Flock::lock(lock, nix::fcntl::FlockArg::LockExclusive).map_err(|(_, error)| error).unwrap();
    relay.spawn();
    relay.wait_log(|line| line.contains("waiting for it to exit"), SOON).await;
    drop(lock);
    relay.wait_until_listening().await;
}

#[tokio::test]
async fn two_programs_never_work_on_one_queue() {
    let provider = Provider::builder().tls(TlsMode::Implicit).login("u", "p").start().await;
    let relay = Relay::builder().durability("always").account("provider", &provider).start().await;
    let second = relay.command(&["run", "--foreground"]).await;
    assert!(!second.status.success());
    let said = String::from_utf8_lossy(&second.stderr).into_owned();
    assert!(said.contains("another smtprelay is already using"), "{said}");
}
