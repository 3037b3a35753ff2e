// SPDX-License-Identifier: Apache-2.0
//! What gateway and flash of the router hold, day by day, and that none of it grows.

use std::fmt::Write as _;

use super::Wear;

/// One look.
#[derive(Clone, Debug, Default)]
pub struct Held {
    /// When, in days.
    pub day: f64,
    /// Nothing waits, nothing is wrong, and there was no mail for hours.
    pub at_rest: bool,
    /// Nothing waits, and nothing is wrong.
    pub well: bool,
    /// Since the last look there was no mail, no event, and nothing was wrong.
    pub idle: bool,
    /// The same, but there may have been mail.
    pub usual: bool,
    /// How long this process has been running, in days.
    pub age: f64,
    /// Pages in memory, those that would be free without it, and those that no file stands behind (heap and stacks), in KB.
    pub rss: u64,
    pub private: u64,
    pub anonymous: u64,
    pub descriptors: u64,
    pub threads: u64,
    /// Files and bytes in the RAM disk, and in the gateway's folder on the flash.
    pub spool: (u64, u64),
    pub safe: (u64, u64),
    /// KB that the file system of the flash says are free.
    pub free: u64,
    /// What happened to the flash since the last look.
    pub wear: Wear,
    pub accepted: usize,
    pub arrived: usize,
    /// Lines in the log since the last look.
    pub log: usize,
    /// What happened since the last look.
    pub events: Vec<&'static str>,
}

/// All looks as a table for `scripts/half_year.py`.
pub fn table(looks: &[Held]) -> String {
    let mut text = String::from(
        "day,at_rest,idle,age,rss_kb,private_kb,anonymous_kb,descriptors,threads,spool_files,spool_bytes,safe_files,safe_bytes,\
         free_kb,programmed_bytes,erased_blocks,accepted,arrived,log_lines,events\n",
    );
    for one in looks {
        let (rest, idle) = (u8::from(one.at_rest), u8::from(one.idle));
        let _ =
            write!(text, "{:.3},{rest},{idle},{:.3},{},{},{}", one.day, one.age, one.rss, one.private, one.anonymous);
        let _ = write!(text, ",{},{}", one.descriptors, one.threads);
        for (files, bytes) in [one.spool, one.safe] {
            let _ = write!(text, ",{files},{bytes}");
        }
        let _ = write!(text, ",{},{},{}", one.free, one.wear.all(), one.wear.erased);
        let _ = writeln!(text, ",{},{},{},{}", one.accepted, one.arrived, one.log, one.events.join(" "));
    }
    text
}

/// Resident and private KB of a gateway at rest, at most: as on the router of `make test-router`.
const RSS: u64 = super::super::RSS_LIMIT;
const PRIVATE: u64 = super::super::PRIVATE_LIMIT;
/// Memory at rest may differ by so much between the first and the last third of the time, in KB: these are different processes
/// of different age.
const MEMORY: u64 = 512;
/// The first thread, the log, and eight for disk and name server.
const THREADS: u64 = 10;
/// Bytes of files at rest: history, counters, silence of devices, and the same as in the RAM disk.
const STATE: u64 = 64 << 10;
/// KB of the flash that may be taken at rest at the end and not after the warm-up. JFFS2 keeps some nodes for longer than others.
const FREE: u64 = 384;
/// Lines in the log within half a day: as in `tests/half_year`, with the lines of a reload.
const LOG: usize = 600;

/// Bytes programmed in half a day without events, at most: mail that is delivered at once does not come near the flash with
/// `deferred`, and one byte per hour would be more.
fn daily(durability: &str) -> u64 {
    if durability == "deferred" { 512 } else { 4 << 20 }
}

fn median(mut values: Vec<u64>) -> u64 {
    values.sort_unstable();
    values.get(values.len() / 2).copied().expect("looks to take a median of")
}

fn span<T: Ord + Copy>(values: impl Iterator<Item = T> + Clone) -> (T, T) {
    (values.clone().min().expect("looks"), values.max().expect("looks"))
}

/// Panics when anything has grown between the end of the warm-up and the end, or the flash is worn without need.
///
/// Only looks at rest count for memory and files: at night, with nothing in the queue and nothing wrong, and not a process
/// that was started in the last twelve hours.
pub fn check(looks: &[Held], warm_up: f64, durability: &str) {
    let rest: Vec<&Held> = looks.iter().filter(|one| one.at_rest && one.day >= warm_up && one.age >= 0.5).collect();
    assert!(rest.len() >= 4, "only {} looks at rest", rest.len());
    let descriptors = span(rest.iter().map(|one| one.descriptors));
    let threads = span(rest.iter().map(|one| one.threads));
    let files = span(rest.iter().map(|one| one.spool.0 + one.safe.0));
    let bytes = span(rest.iter().map(|one| one.spool.1 + one.safe.1));
    let (rss, private) = (span(rest.iter().map(|one| one.rss)), span(rest.iter().map(|one| one.private)));
    let free = span(rest.iter().map(|one| one.free));
    println!(
        "at rest, {} looks: descriptors {descriptors:?}, threads {threads:?}, files {files:?}, bytes {bytes:?}, resident \
         {rss:?} KB, private {private:?} KB, flash free {free:?} KB",
        rest.len()
    );
    let wears = looks.iter().filter(|one| !one.events.contains(&"flash-full"));
    let programmed: u64 = wears.map(|one| one.wear.all()).sum();
    let erased: u64 = looks.iter().map(|one| one.wear.erased).sum();
    println!("flash: {programmed} bytes programmed without those that filled it, {erased} blocks erased");
    // A reload hands over a connection to the log, which is kept for when the other one fails.
    assert!(descriptors.1 - descriptors.0 <= 1, "descriptors: {descriptors:?}");
    assert!(threads.1 <= THREADS, "threads: {threads:?}");
    // The state of the daemon has a fixed number of files; some are written for the first time after the warm-up.
    assert!(files.1 - files.0 <= 2, "files: {files:?}");
    assert!(bytes.1 <= STATE, "bytes of files: {bytes:?}");
    assert!(rss.1 <= RSS && private.1 <= PRIVATE, "memory: resident {rss:?}, private {private:?}");
    let most = looks.iter().max_by_key(|one| one.log).expect("looks");
    println!("log: at most {} lines in half a day, on day {:.1}", most.log, most.day);
    assert!(most.log <= LOG, "{} lines in half a day before day {:.1}", most.log, most.day);
    memory(&rest);
    flash(looks, &rest, warm_up, durability);
}

/// Memory in the first third of the looks at rest, and in the last.
fn memory(rest: &[&Held]) {
    let third = rest.len().div_ceil(3);
    for (what, kb) in [("anonymous", (|one| one.anonymous) as fn(&Held) -> u64), ("private", |one| one.private)] {
        let of = |some: &[&Held]| median(some.iter().map(|one| kb(one)).collect());
        let (first, last) = (of(&rest[..third]), of(&rest[rest.len() - third..]));
        println!("{what} memory in the first third {first} KB, in the last {last} KB");
        assert!(last <= first + MEMORY, "{what} memory has grown: {first} KB, {last} KB");
    }
}

/// Nothing is programmed on an idle day, little on a usual one, and no more in the last third of these than in the first.
fn flash(looks: &[Held], rest: &[&Held], warm_up: f64, durability: &str) {
    let (first, last) = (rest[0].free, rest[rest.len() - 1].free);
    assert!(last + FREE >= first, "the flash fills: {first} KB free on day {:.0}, {last} KB at the end", rest[0].day);
    let idle: Vec<&Held> = looks.iter().filter(|one| one.idle && one.day >= 1.0).collect();
    println!("flash: {} half days were idle", idle.len());
    // A short plan has events on each day.
    assert!(!idle.is_empty() || looks.len() < 60, "no day was idle");
    let usual = |one: &&Held| one.day >= warm_up && one.events.is_empty() && one.usual && !one.idle;
    let usual: Vec<u64> = looks.iter().filter(usual).map(|one| one.wear.all()).collect();
    if let Some(most) = usual.iter().max() {
        let third = usual.len().div_ceil(3);
        let (first, last) = (median(usual[..third].to_vec()), median(usual[usual.len() - third..].to_vec()));
        println!(
            "flash: in {} half days without events at most {most} bytes were programmed; medians of the first third {first}, of \
             the last {last}",
            usual.len()
        );
        assert!(*most <= daily(durability), "{most} bytes programmed in half a day without events");
        assert!(
            last <= first + daily(durability) / 4,
            "the flash is worn more and more: {first}, {last} bytes per half day"
        );
    }
    for one in idle {
        assert_eq!(one.wear.all(), 0, "bytes programmed while the gateway was idle before day {:.1}", one.day);
    }
}

/// Forty days in which nothing happens but mail, and none on every tenth day.
#[cfg(test)]
fn forty_days() -> Vec<Held> {
    let look = |half: u32| {
        let (day, night) = (f64::from(half) / 2.0 + 0.125, half.is_multiple_of(2));
        let idle = half.is_multiple_of(20);
        let accepted = usize::try_from(half).expect("a small number") * 10;
        Held {
            day,
            at_rest: night,
            well: true,
            usual: true,
            idle,
            age: day,
            descriptors: 16,
            threads: 2,
            ..Held::default()
        }
        .with(|held| {
            (held.rss, held.private, held.anonymous, held.free, held.accepted) = (2900, 1000, 300, 13_000, accepted)
        })
    };
    (0..80).map(look).collect()
}

#[cfg(test)]
impl Held {
    fn with(mut self, change: impl FnOnce(&mut Held)) -> Held {
        change(&mut self);
        self
    }
}

#[test]
fn what_grows_is_found() {
    check(&forty_days(), 3.0, "deferred");
    type Leak = (&'static str, fn(&mut Held));
    let leaks: [Leak; 7] = [
        ("a descriptor per ten days", |held| held.descriptors += held.day as u64 / 10),
        ("a file per day", |held| held.spool.0 += held.day as u64),
        ("50 KB per day", |held| held.private += held.day as u64 * 50),
        ("30 KB of the flash per day", |held| held.free -= held.day as u64 * 30),
        ("a line per minute", |held| held.log = 720),
        ("68 bytes per hour on the flash", |held| held.wear = Wear::of(12 * 68)),
        ("more bytes each day", |held| held.wear = Wear::of(if held.idle { 0 } else { held.day as usize * 300 })),
    ];
    for (what, leak) in leaks {
        let mut looks = forty_days();
        looks.iter_mut().for_each(leak);
        let found = std::panic::catch_unwind(|| check(&looks, 3.0, "deferred"));
        assert!(found.is_err(), "not found: {what}");
    }
}
