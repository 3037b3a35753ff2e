// SPDX-License-Identifier: Apache-2.0
//! What the program holds, day by day, and that none of it grows.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use super::support::relay::Relay;

/// One look.
#[derive(Clone, Debug, Default)]
pub struct Sample {
    /// When, in days.
    pub day: f64,
    /// Nothing waits, nothing is wrong, and there was no mail for hours.
    pub at_rest: bool,
    /// How long this process has been running, in days.
    pub age: f64,
    /// Pages in memory, those that no other process has, and those that no file stands behind (heap and stacks), in kB.
    pub rss: u64,
    pub private: u64,
    pub anonymous: u64,
    pub descriptors: usize,
    pub threads: usize,
    /// Files and bytes below the folders of the queue and of the secrets.
    pub spool: Found,
    pub safe: Found,
    pub secrets: Found,
    pub accepted: usize,
    pub arrived: usize,
    /// Lines in the log since the last look.
    pub log: usize,
    /// What happened since the last look.
    pub events: Vec<&'static str>,
}

/// What is in a folder.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Found {
    pub files: usize,
    pub bytes: u64,
}

impl Found {
    pub fn below(folder: &Path) -> Found {
        let mut found = Found::default();
        // What vanishes meanwhile is not there.
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            match entry.metadata() {
                Ok(one) if one.is_dir() => found += Found::below(&entry.path()),
                Ok(one) => found += Found { files: 1, bytes: one.len() },
                Err(_) => {}
            }
        }
        found
    }
}

impl std::ops::AddAssign for Found {
    fn add_assign(&mut self, more: Found) {
        self.files += more.files;
        self.bytes += more.bytes;
    }
}

impl std::ops::Add for Found {
    type Output = Found;

    fn add(mut self, more: Found) -> Found {
        self += more;
        self
    }
}

impl Sample {
    /// Memory, descriptors and threads of the process.
    pub fn of(relay: &Relay) -> Sample {
        let process = format!("/proc/{}", relay.pid());
        let rollup = fs::read_to_string(format!("{process}/smaps_rollup")).expect("memory of the relay");
        let sum = |name: &str| -> u64 {
            let line = rollup.lines().find(|line| line.starts_with(name)).expect("a sum");
            line.split_whitespace().nth(1).and_then(|kb| kb.parse().ok()).expect("a number")
        };
        let count = |folder| fs::read_dir(format!("{process}/{folder}")).expect("a folder of the process").count();
        Sample {
            rss: sum("Rss:"),
            private: sum("Private_Clean:") + sum("Private_Dirty:"),
            anonymous: sum("Anonymous:"),
            descriptors: count("fd"),
            threads: count("task"),
            ..Sample::default()
        }
    }

    fn files(&self) -> Found {
        self.spool + self.safe + self.secrets
    }
}

/// All looks as a table for `scripts/half_year.py`.
pub fn table(samples: &[Sample]) -> String {
    let mut text = String::from(
        "day,at_rest,age,rss_kb,private_kb,anonymous_kb,descriptors,threads,spool_files,spool_bytes,safe_files,safe_bytes,\
         secrets_files,secrets_bytes,accepted,arrived,log_lines,events\n",
    );
    for one in samples {
        let rest = u8::from(one.at_rest);
        let _ = write!(text, "{:.3},{rest},{:.3},{},{},{}", one.day, one.age, one.rss, one.private, one.anonymous);
        let _ = write!(text, ",{},{}", one.descriptors, one.threads);
        for found in [one.spool, one.safe, one.secrets] {
            let _ = write!(text, ",{},{}", found.files, found.bytes);
        }
        let _ = writeln!(text, ",{},{},{},{}", one.accepted, one.arrived, one.log, one.events.join(" "));
    }
    text
}

fn median(mut values: Vec<u64>) -> u64 {
    values.sort_unstable();
    values.get(values.len() / 2).copied().expect("samples to take a median of")
}

fn span<T: Ord + Copy>(values: impl Iterator<Item = T> + Clone) -> (T, T) {
    (values.clone().min().expect("samples"), values.max().expect("samples"))
}

/// Memory at rest may differ by so much between the first and the last third of the time, in kB: these are different
/// processes of different age, and each thread for the disk that is still there has some 20 kB.
const MEMORY: u64 = 256;
/// What resident memory may differ by beside that, in kB: code that runs for the first time. Of a build for tests 16 MB are
/// resident, and the kernel maps 64 kB at a time. What is left behind is anonymous memory.
const CODE: u64 = 256;
/// As [`MEMORY`], for the last process between the first and the last third of its time at rest. In half a year these are 40 days
/// apart: 80 bytes left behind by each mail would be more, or 2 kB by each reload.
const OF_ONE: u64 = 64;
/// The same for one that is only some days old.
const OF_YOUNG: u64 = 512;
/// The history of the last 200 results, 30 days of counters, the IDs of the boot, how long devices have been silent: in
/// bytes. Of these the history alone is of some size, and it has reached its limit after ten days.
const STATE: u64 = 64 << 10;

/// Lines in the log within six hours, of which a router keeps some hundred: five for a mail, and what an outage adds. A line
/// every minute would be more.
const LOG: usize = 300;
/// The first thread, the log, and those for the disk, of which the program allows eight. They live for ten seconds of real time
/// without work, so the number differs from look to look.
const THREADS: usize = 10;

/// Panics when anything has grown between the end of the warm-up and the end.
///
/// Only looks at rest count: at night, with nothing in the queue and nothing wrong, and not a process that was started in the
/// last twelve hours. The log is looked at in bad times as well.
pub fn check(samples: &[Sample], warm_up: f64) {
    let rest: Vec<&Sample> = samples.iter().filter(|one| one.at_rest && one.day >= warm_up && one.age >= 0.5).collect();
    assert!(rest.len() >= 5, "only {} looks at rest", rest.len());
    let descriptors = span(rest.iter().map(|one| one.descriptors));
    let threads = span(rest.iter().map(|one| one.threads));
    let files = span(rest.iter().map(|one| one.files().files));
    let bytes = span(rest.iter().map(|one| one.files().bytes));
    println!("at rest: descriptors {descriptors:?}, threads {threads:?}, files {files:?}, bytes {bytes:?}");
    // Sockets that listen, the lock, the log: nothing that depends on what happened before.
    assert_eq!(descriptors.0, descriptors.1, "descriptors");
    assert!(threads.1 <= THREADS, "threads: {threads:?}");
    // The state of the daemon has a fixed number of files; some are written for the first time after the warm-up.
    assert!(files.1 - files.0 <= 2, "files: {files:?}");
    assert!(bytes.1 <= STATE, "bytes on disk: {bytes:?}");
    let most = samples.iter().max_by_key(|one| one.log).expect("samples");
    println!("log: at most {} lines in six hours, on day {:.1}", most.log, most.day);
    assert!(most.log <= LOG, "{} lines in six hours before day {:.1}", most.log, most.day);

    let end = samples.last().expect("samples");
    let since = |from: f64| rest.iter().filter(|one| one.day >= from).copied().collect::<Vec<_>>();
    let born = end.day - end.age;
    compare("all processes", &since(warm_up), MEMORY);
    // A young process fills its history; in a short run it stays young, and only gross leaks show.
    let (young, bound) = if warm_up > OLD { (OLD, OF_ONE) } else { (0.5, OF_YOUNG) };
    compare("the last process", &since(born + young), bound);
}

/// Days after which a process has filled its history of the last 200 results.
const OLD: f64 = 10.0;

/// Panics when the median of the last third has more than `bound` kB more than that of the first, of resident memory and
/// [`CODE`].
fn compare(which: &str, looks: &[&Sample], bound: u64) {
    let third = looks.len().div_ceil(3);
    let of = |some: &[&Sample], kb: fn(&Sample) -> u64| median(some.iter().map(|one| kb(one)).collect());
    let anonymous: fn(&Sample) -> u64 = |one| one.anonymous;
    for (what, kb, bound) in [("anonymous", anonymous, bound), ("resident", |one| one.rss, bound + CODE)] {
        let (first, last) = (of(&looks[..third], kb), of(&looks[looks.len() - third..], kb));
        println!(
            "{which}: {what} memory in the first third {first} kB, in the last {last} kB, of {} looks",
            looks.len()
        );
        assert!(last <= first + bound, "{what} memory of {which} has grown: {first} kB, {last} kB");
    }
}
