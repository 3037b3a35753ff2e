// SPDX-License-Identifier: Apache-2.0
//! `make bench-router`: what the gateway costs on a slow processor. Nothing is asserted but that the mail arrives.
//!
//! The machine does 500 million instructions in a second of its own clock (qemu's -icount), so the kernel's processor
//! times say the same on any host. They are those of all threads of the gateway, from `/proc/PID/task/*/schedstat`; what
//! the kernel does in its own threads for network and flash is not in them.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;

use super::machine::{Machine, System};
use super::support::certs::{Certs, Keys};
use super::support::log::field;
use super::support::provider::{Provider, TlsMode};
use super::table::Table;
use super::{SOON, greeted, kit, lines, memory_of, removed, send, settings, submit};

/// MB: so many that a queue of [`QUEUE`] fits into the RAM disk.
const MEMORY: u64 = 160;
/// Messages whose mean is taken.
const EACH: usize = 20;
/// How often that is done. The kernel's work for packets that arrive while the gateway runs is counted as the gateway's: a
/// matter of moments, so that one round differs from the next by a tenth.
const ROUNDS: usize = 9;
/// Rounds that are made for these at most.
const TRIES: usize = 4 * ROUNDS;
/// Machines that may stop, of those that are booted for one table.
const MACHINES: usize = 4;
/// Messages that wait for the provider.
const QUEUE: usize = 10_000;
/// How long the idle gateway is watched.
const IDLE: Duration = Duration::from_secs(60);

/// Processor time in ms, and sleeps.
#[derive(Clone, Copy)]
struct Spent {
    ms: f64,
    slept: f64,
}

/// A router that delivers to a provider.
struct Bench {
    machine: Machine,
    provider: Provider,
    /// Messages sent.
    sent: usize,
    /// Messages sent since the gateway's last start.
    since: usize,
}

impl Bench {
    /// With the package of this folder.
    async fn boot(kit: &Path, keys: &[Keys], more: &str) -> Bench {
        let provider = Provider::builder()
            .tls(TlsMode::Implicit)
            .login("u", "p")
            .certs(&Certs::of_keys(keys))
            .with(|settings| settings.resumption = false)
            .start()
            .await;
        let settings = settings(&provider).replacen("option enabled '1'", &format!("option enabled '1'\n{more}"), 1);
        let ca = provider.certs().ca_file();
        let mut machine = Machine::slow_router(kit, &settings, &ca, System::Jffs2, MEMORY);
        machine.boot().await;
        Bench { machine, provider, sent: 0, since: 0 }
    }

    /// What the gateway has spent since its start.
    async fn spent(&mut self) -> Spent {
        let (_, said) = self.machine.run("cpu", SOON).await;
        let line = said.iter().find(|line| line.starts_with("router: cpu ")).expect("a line with the times");
        let value = |name| -> f64 { field(line, name).and_then(|value| value.parse().ok()).expect("a number") };
        Spent { ms: value("run") / 1000.0, slept: value("slept") }
    }

    /// As [`Bench::spent`], when all threads but one have ended.
    async fn quiet(&mut self) -> Spent {
        self.machine.run("quiet", SOON).await;
        self.spent().await
    }

    /// Waits until `count` more messages have left the queue. Returns the ms for each of them since `before`.
    async fn done(&mut self, count: usize, before: Spent) -> f64 {
        self.sent += count;
        self.since += count;
        self.provider.wait_for_messages(self.sent, SOON).await;
        removed(&self.machine, self.since).await;
        (self.spent().await.ms - before.ms) / count as f64
    }

    /// One message by a device that connects for it.
    async fn one(&mut self, name: &str, text: &str) -> f64 {
        let before = self.quiet().await;
        let mut client = greeted(&self.machine).await;
        submit(&mut client, name, text).await;
        client.dialogue(&[("QUIT", 221)]).await;
        self.done(1, before).await
    }

    /// Messages by a device that stays connected or connects for each: the median of [`ROUNDS`] of [`EACH`]. A round in which
    /// the gateway has opened another connection to the provider does not count, since that costs as much as ten messages.
    async fn rounds(&mut self, stays: bool, text: &str) -> f64 {
        let (mut rounds, mut tries) = (Vec::new(), 0);
        while rounds.len() < ROUNDS {
            tries += 1;
            assert!(tries <= TRIES, "another connection was opened in nearly each of {TRIES} rounds");
            let (before, known) = (self.quiet().await, self.provider.connections().len());
            let mut client = greeted(&self.machine).await;
            for number in 0..EACH {
                submit(&mut client, &format!("further {number}"), text).await;
                if !stays && number + 1 < EACH {
                    client.dialogue(&[("QUIT", 221)]).await;
                    client = greeted(&self.machine).await;
                }
            }
            client.dialogue(&[("QUIT", 221)]).await;
            let round = self.done(EACH, before).await;
            if self.provider.connections().len() == known {
                rounds.push(round);
            }
        }
        println!("rounds: {rounds:.2?}");
        rounds.sort_by(f64::total_cmp);
        rounds[ROUNDS / 2]
    }

    /// The provider closes its connections; the next message needs a new one.
    async fn reconnect(&mut self) {
        self.provider.restart().await;
        self.quiet().await;
    }
}

/// A label and a figure.
type Row = (&'static str, f64);

/// The rows of the table, of a machine that has just booted.
async fn messages(bench: &mut Bench) -> Vec<Row> {
    let mut rows = Vec::new();
    let mut add = |label, value: f64| {
        println!("{label}: {value:.2}");
        rows.push((label, value));
    };
    let first = bench.quiet().await;
    add("first start after boot", first.ms);
    // Its pages are in the cache now.
    bench.machine.run("read -r pid <$PIDFILE; kill -TERM \"$pid\"", SOON).await;
    bench.machine.wait_for_count("listening", 2, SOON, |line| field(line, "event") == Some("listening")).await;
    let second = bench.quiet().await;
    add("start", second.ms);

    let before = bench.quiet().await;
    tokio::time::sleep(IDLE).await;
    let after = bench.quiet().await;
    add("idle, a minute", after.ms - before.ms);
    add("idle, a minute: wake-ups", after.slept - before.slept);
    add("idle: RSS, KB", memory_of(&mut bench.machine).await.0 as f64);

    let small = lines(1024);
    let message = bench.one("first", &small).await;
    add("first message of 1 KiB, with connection and TLS 1.3", message);
    let anew = bench.rounds(false, &small).await;
    add("further message of 1 KiB, device connects for each", anew);
    let kept = bench.rounds(true, &small).await;
    add("further message of 1 KiB, device stays connected", kept);
    let mebibyte = lines(1 << 20);
    bench.one("warm", &mebibyte).await;
    let message = bench.one("large", &mebibyte).await;
    add("message of 1 MiB", message);

    bench.provider.stop().await;
    let before = bench.quiet().await;
    let mut client = greeted(&bench.machine).await;
    // On a busy host a second of the machine takes a minute.
    client.set_limit(SOON * 5);
    for number in 0..QUEUE {
        send(&mut client, &format!("queued {number}")).await;
    }
    client.dialogue(&[("QUIT", 221)]).await;
    let accepted = bench.spent().await;
    add("message that waits, each of 10,000", (accepted.ms - before.ms) / QUEUE as f64);
    add("10,000 queued: RSS, KB", memory_of(&mut bench.machine).await.0 as f64);
    rows
}

/// The rows of the package in this folder. With `-icount`, qemu 7.2 now and then stops the whole machine: the processor's
/// timer sets itself to the moment that it is, without end, while the clock stands still. Then even the console is silent,
/// and another machine is measured. A gateway that does not answer on a machine whose console does is a failure.
async fn measured(kit: &Path) -> Vec<Row> {
    for _ in 0..MACHINES {
        let bench = Bench::boot(kit, &[Keys::P256; 2], "\toption spool_limit '72M'\n").await;
        let bench = Arc::new(Mutex::new(bench));
        let measured = Arc::clone(&bench);
        match tokio::spawn(async move { messages(&mut *measured.lock().await).await }).await {
            Ok(rows) => return rows,
            Err(failed) if bench.lock().await.machine.answers(SOON).await => {
                std::panic::resume_unwind(failed.into_panic())
            }
            Err(_) => println!("the machine has stopped, with its console; another one is measured"),
        }
    }
    panic!("{MACHINES} machines have stopped");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "make bench-router"]
async fn bench_messages() {
    let Some(kit) = kit() else { return };
    let rows = measured(&kit).await;
    let before = kit.join("before");
    if !before.exists() {
        let mut table = Table::new("router", "CPU ms at 500 MIPS");
        rows.iter().for_each(|(label, value)| table.add(label, *value));
        return table.write();
    }
    let mut table = Table::new("router", "CPU ms at 500 MIPS | before | ratio");
    for ((label, now), (_, before)) in rows.iter().zip(measured(&before).await) {
        table.row(label, &[*now, before, now / before]);
    }
    table.write();
}

/// The chains of real providers: one that is signed by a P-384 key is what Let's Encrypt gives today (E7, E8 below ISRG
/// Root X1).
const CHAINS: [(&str, &[Keys]); 4] = [
    ("P-256", &[Keys::P256, Keys::P256]),
    ("RSA 2048", &[Keys::Rsa(2048), Keys::Rsa(2048)]),
    ("Let's Encrypt: RSA 4096, P-384, P-256", &[Keys::Rsa(4096), Keys::P384, Keys::P256]),
    ("P-384 throughout", &[Keys::P384, Keys::P384, Keys::P384]),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "make bench-router"]
async fn bench_handshakes() {
    let Some(kit) = kit() else { return };
    let mut table = Table::new("router-handshakes", "first, CPU ms at 500 MIPS | again");
    for (name, keys) in CHAINS {
        let mut bench = Bench::boot(&kit, keys, "").await;
        let mut spent = [0.0; 2];
        for (number, ms) in spent.iter_mut().enumerate() {
            bench.reconnect().await;
            *ms = bench.one(&format!("connecting {number}"), "").await;
        }
        // What belongs to the message and not to the connection, with that of the last one.
        let message = bench.one("connected", "").await;
        let connections = bench.provider.connections();
        assert!(connections.iter().all(|one| one.tls.as_ref().is_none_or(|tls| !tls.resumed)), "{connections:?}");
        table.row(name, &spent.map(|ms| ms - message));
    }
    table.write();
}
