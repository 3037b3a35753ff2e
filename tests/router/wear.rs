// SPDX-License-Identifier: Apache-2.0
//! `make bench-router`: what the gateway writes to flash. The flash of the machine is a file, so what was programmed and
//! erased is the difference between two moments, as the chip saw it: compressed, with the nodes and the log of the file
//! system.

use std::time::Duration;

use super::machine::{Machine, System};
use super::support::provider::{Provider, TlsMode};
use super::table::Table;
use super::{SOON, greeted, removed, settings, submit};

/// Bytes that the flash erases at once.
const BLOCK: usize = 0x10000;
/// What an erased flash is full of.
const ERASED: u8 = 0xff;
/// Unchanged bytes within what is taken for one write: data may hold a few that look erased.
const GAP: usize = 16;
/// Messages that are delivered at once, and that wait.
const EACH: usize = 20;
/// The kernel writes what nobody has synced 30 s after it was changed, and looks every 5 s; UBIFS writes its buffers 5 s
/// after that.
const WRITTEN: Duration = Duration::from_secs(45);

/// How long an idle gateway is watched, beside that.
const IDLE: Duration = Duration::from_secs(600 - 45);

/// What happened to the flash between two moments.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wear {
    /// Bytes programmed: at least so many, for what was written and erased in between is not seen. Without summaries.
    programmed: usize,
    /// Bytes of summaries: JFFS2 writes one at the end of each block that is full, so it comes every sixty messages or so.
    summaries: usize,
    /// Blocks erased.
    pub erased: u64,
}

impl Wear {
    /// So many bytes, and nothing erased.
    pub fn of(programmed: usize) -> Wear {
        Wear { programmed, ..Wear::default() }
    }

    /// All bytes programmed.
    pub fn all(self) -> u64 {
        (self.programmed + self.summaries) as u64
    }
}

impl std::ops::AddAssign for Wear {
    fn add_assign(&mut self, more: Wear) {
        self.programmed += more.programmed;
        self.summaries += more.summaries;
        self.erased += more.erased;
    }
}

/// How often UBI has erased this block: its header has a counter (`struct ubi_ec_hdr`).
fn erase_counter(block: &[u8]) -> Option<u64> {
    let counter = block.strip_prefix(b"UBI#")?.get(4..12)?;
    Some(u64::from_be_bytes(counter.try_into().ok()?))
}

/// Where the summary of this block begins (`struct jffs2_sum_marker`): at its end, if it has one.
fn summary(block: &[u8]) -> Option<usize> {
    let start = block.strip_suffix(&0x0285_1885_u32.to_le_bytes())?.last_chunk()?;
    usize::try_from(u32::from_le_bytes(*start)).ok().filter(|start| *start < block.len())
}

pub fn wear(before: &[u8], after: &[u8]) -> Wear {
    let mut wear = Wear { programmed: 0, summaries: 0, erased: 0 };
    for (before, after) in before.chunks(BLOCK).zip(after.chunks(BLOCK)) {
        if before == after {
            continue;
        }
        let times = match (erase_counter(before), erase_counter(after)) {
            (Some(before), Some(after)) => after - before,
            // Programming clears bits; only erasing sets them.
            _ => u64::from(before.iter().zip(after).any(|(before, after)| after & !before != 0)),
        };
        wear.erased += times;
        let erased = [ERASED; BLOCK];
        let before = if times > 0 { &erased[..] } else { before };
        let nodes = match (summary(before), summary(after)) {
            (None, Some(start)) => start,
            _ => after.len(),
        };
        wear.summaries += after.len() - nodes;
        let (before, after) = (&before[..nodes], &after[..nodes]);
        let mut last = None;
        for (at, _) in before.iter().zip(after).enumerate().filter(|(_, (before, after))| before != after) {
            wear.programmed += match last {
                Some(last) if at - last <= GAP => at - last,
                _ => 1,
            };
            last = Some(at);
        }
    }
    wear
}

#[test]
fn what_was_programmed_and_erased_is_seen() {
    let mut before = vec![ERASED; 3 * BLOCK];
    before[BLOCK..BLOCK + 100].fill(0x55);
    let mut after = before.clone();
    assert_eq!(wear(&before, &after), Wear { programmed: 0, summaries: 0, erased: 0 });
    after[10..30].fill(0x12);
    after[15] = ERASED;
    after[BLOCK + 3] = 0x54;
    assert_eq!(wear(&before, &after), Wear { programmed: 21, summaries: 0, erased: 0 });
    after[BLOCK..BLOCK + 100].fill(ERASED);
    after[BLOCK..BLOCK + 7].fill(1);
    assert_eq!(wear(&before, &after), Wear { programmed: 27, summaries: 0, erased: 1 });
    let header = |count: u8| [b"UBI#\x01\0\0\0\0\0\0\0\0\0\0".as_slice(), &[count]].concat();
    before[2 * BLOCK..2 * BLOCK + 16].copy_from_slice(&header(3));
    after[2 * BLOCK..2 * BLOCK + 16].copy_from_slice(&header(5));
    assert_eq!(wear(&before, &after).erased, 3);
    // A summary of the last thousand bytes of a block.
    let marker = [0xfc18_u32.to_le_bytes(), 0x0285_1885_u32.to_le_bytes()].concat();
    after[BLOCK - 1000..BLOCK - 8].fill(0x33);
    after[BLOCK - 8..BLOCK].copy_from_slice(&marker);
    assert_eq!(wear(&before, &after), Wear { programmed: 27 + 16, summaries: 1000, erased: 3 });
}

/// A router whose wear is watched.
struct Watched {
    machine: Machine,
    provider: Provider,
    flash: Vec<u8>,
    /// What `smtprelay status` said last: bytes written, and programmed where it counts them.
    said: [f64; 2],
    sent: usize,
}

impl Watched {
    async fn boot(durability: &str, system: System) -> Option<Watched> {
        let kit = super::kit()?;
        let provider = Provider::builder().tls(TlsMode::Implicit).login("u", "p").start().await;
        let durability = format!("option durability '{durability}'\n\toption safe_spool");
        let settings = settings(&provider).replace("option safe_spool", &durability);
        let ca = provider.certs().ca_file();
        let mut machine = Machine::router(kit.as_ref(), &settings, &ca, system, 64);
        machine.boot().await;
        let flash = machine.flash();
        Some(Watched { machine, provider, flash, said: [0.0; 2], sent: 0 })
    }

    /// When everything has been written: what happened since the last call, and what `status` counts of it.
    async fn written(&mut self) -> (Wear, [f64; 2]) {
        tokio::time::sleep(WRITTEN).await;
        self.seen().await
    }

    /// What happened since the last call, and what `status` counts of it.
    async fn seen(&mut self) -> (Wear, [f64; 2]) {
        let (_, status) = self.machine.run("smtprelay status --json", SOON).await;
        let status = status.iter().find_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
        let bytes = |name: &str| status.as_ref().and_then(|status| status["safe_spool"][name].as_f64());
        let said = ["bytes_written", "bytes_programmed"].map(|name| bytes(name).unwrap_or(f64::NAN));
        let flash = self.machine.flash();
        let seen = (wear(&self.flash, &flash), [said[0] - self.said[0], said[1] - self.said[1]]);
        (self.flash, self.said) = (flash, said);
        seen
    }

    async fn send(&mut self, count: usize) {
        let text = "Pump 3 has stopped, and the tank is half empty.\r\n".repeat(20);
        let mut client = greeted(&self.machine).await;
        for _ in 0..count {
            submit(&mut client, &format!("message {}", self.sent), &text).await;
            self.sent += 1;
        }
        client.dialogue(&[("QUIT", 221)]).await;
    }
}

/// One durability on one file system: rows of the table.
async fn watched(durability: &str, system: System) -> Option<Vec<(String, [f64; COLUMNS])>> {
    let mut router = Watched::boot(durability, system).await?;
    // What the first boot writes, and the folders of the spool.
    router.send(EACH).await;
    router.provider.wait_for_messages(EACH, SOON).await;
    removed(&router.machine, EACH).await;
    router.written().await;

    let mut rows = Vec::new();
    let mut row = |what: &str, (wear, said): (Wear, [f64; 2]), each: usize| {
        let figures = figures(wear, said).map(|figure| figure / each as f64);
        let name = format!("{}, `{durability}`: {what}", system.label());
        rows.push((name, figures));
    };
    row("nothing for 45 s", router.written().await, 1);
    router.send(EACH).await;
    router.provider.wait_for_messages(2 * EACH, SOON).await;
    removed(&router.machine, 2 * EACH).await;
    row("a message that is delivered at once", router.written().await, EACH);

    router.provider.stop().await;
    router.send(EACH).await;
    // With `deferred`, until all have been moved.
    let waiting = "$(ls /etc/smtprelay/spool/queue | grep -c msg)";
    router.machine.run(&format!("while [ \"{waiting}\" -lt {EACH} ]; do sleep 1; done"), SOON).await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    row("a message that waits two minutes", router.written().await, EACH);
    router.provider.restart().await;
    let (_, said) = router.machine.run("smtprelay queue retry all", SOON).await;
    println!("{}", said.join("\n"));
    router.provider.wait_for_messages(3 * EACH, SOON).await;
    removed(&router.machine, 3 * EACH).await;
    row("its delivery and removal", router.written().await, EACH);
    Some(rows)
}

/// A gateway that has nothing to do, from the minute after its start on.
async fn idle(durability: &'static str, system: System) -> Option<(String, [f64; COLUMNS])> {
    let mut router = Watched::boot(durability, system).await?;
    router.written().await;
    tokio::time::sleep(IDLE).await;
    let (wear, said) = router.written().await;
    Some((format!("{}, `{durability}`: ten idle minutes", system.label()), figures(wear, said)))
}

const HEAD: &str = "bytes programmed | in summaries | programmed by `status` | written by `status` | blocks erased";
const COLUMNS: usize = 5;

/// The figures of a row.
fn figures(wear: Wear, [written, programmed]: [f64; 2]) -> [f64; COLUMNS] {
    [wear.programmed as f64, wear.summaries as f64, programmed, written, wear.erased as f64]
}

const RUNS: [(&str, System); 4] =
    [("deferred", System::Jffs2), ("always", System::Jffs2), ("deferred", System::Ubifs), ("always", System::Ubifs)];

/// Messages that fill five blocks of the flash: the summary of the last one is not written yet.
const BLOCKS_FULL: usize = 400;

/// What `status` says of the flash is what the chip saw, for mail that is delivered at once and for mail that waits.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn status_counts_what_the_flash_sees() {
    let Some(mut router) = Watched::boot("always", System::Jffs2).await else { return };
    router.send(EACH).await;
    removed(&router.machine, EACH).await;
    router.seen().await;
    router.send(BLOCKS_FULL).await;
    removed(&router.machine, EACH + BLOCKS_FULL).await;
    let (wear, [written, programmed]) = router.seen().await;
    println!("{BLOCKS_FULL} messages: {wear:?}, status: {written} bytes written, {programmed} programmed");
    let difference = programmed / wear.all() as f64 - 1.0;
    assert!(difference.abs() < 0.1, "status says {programmed}, the flash saw {wear:?}: {:.1} %", 100.0 * difference);
    router.machine.shut_down("stop; off", SOON).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "make bench-router"]
async fn bench_wear() {
    let mut table = Table::new("router-wear", HEAD);
    // Side by side: most of their time is waiting.
    let runs = RUNS.map(|(durability, system)| tokio::spawn(watched(durability, system)));
    for run in runs {
        let Some(rows) = run.await.expect("a router") else { return };
        rows.iter().for_each(|(name, figures)| table.row(name, figures));
    }
    table.write();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "make bench-router"]
async fn bench_wear_when_idle() {
    let mut table = Table::new("router-idle", HEAD);
    let runs = RUNS.map(|(durability, system)| tokio::spawn(idle(durability, system)));
    for run in runs {
        let Some((name, figures)) = run.await.expect("a router") else { return };
        table.row(&name, &figures);
    }
    table.write();
}
