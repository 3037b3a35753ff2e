// SPDX-License-Identifier: Apache-2.0
//! A computer whose power can be cut: qemu, with a disk or a flash that forgets at the cut what a real one would forget.
//!
//! | module | machine |
//! |---|---|
//! | [`pc`] | x86-64 with a disk that has a volatile cache |
//! | [`router`] | MIPS with little memory, and flash under an overlay as OpenWrt mounts it |
//!
//! [`clock`] lets time pass on a router.
#![allow(dead_code)] // each test uses another part of it

mod clock;
mod pc;
mod router;

use std::collections::HashSet;
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Mutex, Once};
use std::time::{Duration, Instant};

use tokio::net::TcpSocket;

use super::support::log::{ProcessLog, field};
pub use clock::Clock;

/// How long the machine may take to boot: it is emulated, perhaps beside others.
const BOOT_LIMIT: Duration = Duration::from_secs(180);

/// The file system that keeps the mail. The kind of machine follows from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum System {
    Ext4,
    /// ext4 without a journal, as OpenWrt makes its ext4 images unless told otherwise.
    Plain,
    Vfat,
    Exfat,
    F2fs,
    /// The flash of a router.
    Jffs2,
    /// The flash of a router, by UBI.
    Ubifs,
}

impl System {
    /// Its name for mount and mkfs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ext4 | Self::Plain => "ext4",
            Self::Vfat => "vfat",
            Self::Exfat => "exfat",
            Self::F2fs => "f2fs",
            Self::Jffs2 => "jffs2",
            Self::Ubifs => "ubifs",
        }
    }

    /// Its name for people.
    pub fn label(self) -> &'static str {
        match self {
            Self::Plain => "ext4 without a journal",
            Self::Exfat => "exFAT",
            Self::F2fs => "F2FS",
            Self::Jffs2 => "JFFS2",
            Self::Ubifs => "UBIFS",
            Self::Ext4 | Self::Vfat => self.name(),
        }
    }

    /// True if it is on the flash of a router.
    pub fn is_on_flash(self) -> bool {
        matches!(self, Self::Jffs2 | Self::Ubifs)
    }
}

/// A kind of virtual machine: its parts, without power.
trait Hardware: Send + Sync {
    /// The command that gives it power, with what the last cut has left; `network` is the value of -netdev, for a
    /// network named `lan`.
    fn power(&mut self, network: &str) -> Command;

    /// What the console says when the machine waits for [`Hardware::prepare`] and an empty line.
    fn waits_for(&self) -> Option<&'static str> {
        None
    }

    /// Does something while the machine boots.
    fn prepare(&mut self) {}

    /// Whether the kernel may say this because of an earlier cut, through no fault of what has been written.
    fn tolerates(&self, _line: &str) -> bool {
        false
    }
    /// Mends the file system without power, as its owner would on another computer.
    fn mend(&mut self) {
        panic!("this file system is not to be mended");
    }

    /// The content of the flash.
    fn flash(&self) -> Vec<u8> {
        Vec::new()
    }

    /// The clock of the machine, if it is one that a test may set.
    fn clock(&self) -> Option<Clock> {
        None
    }

    /// What the clock on the board says at the next start, in seconds since 1970.
    fn begin_at(&mut self, _unix: i64) {}

    /// The power was cut. Returns what a tool thinks of the file system as it is now, for the record.
    fn lost_power(&mut self) -> Option<String>;
}

/// What the last panic said.
static REASON: Mutex<String> = Mutex::new(String::new());

/// Keeps what a panic says for [`Machine`]'s end, which prints the console behind it.
fn keep_the_reason() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if let Ok(mut reason) = REASON.lock() {
                *reason = info.to_string();
            }
            usual(info);
        }));
    });
}

/// What the console must never say.
const TROUBLES: [&str; 8] = [
    "-fs error",
    "FAT-fs (vda): error",
    "F2FS-fs (vda): Inconsistent",
    "jffs2: error",
    "UBIFS error",
    "UBI error",
    "router: failed",
    "event=crashed",
];

/// What the kernel says of an exFAT file system before it makes it read-only, through no fault of what has been written.
///
/// When a directory of exFAT needs another cluster, Linux 6.1 writes the table of clusters and the size of the directory
/// in any order. After a power cut between the two it finds the contradiction as soon as the directory has to grow again.
/// No order of syncs helps against that; `fsck.exfat` does.
const OUTGROWN: &str = "exFAT-fs (vda): error, bogus directory size";

/// What the kernel says of a vfat file system in the same case.
///
/// A file that was being written at the cut has its first cluster in the directory, while the table has it as free: Linux 6.1
/// writes the two in one batch without a barrier when it syncs the whole file system for another message. The gateway removes
/// such a leftover at its start, before anything else is written, and the kernel finds the contradiction. Left alone, its
/// cluster would be given to another message. `fsck.fat` repairs it.
const HALF_WRITTEN: &str = "FAT-fs (vda): error, fat_free_clusters: deleting FAT entry beyond EOF";

/// What the kernel says of this file system when the cut itself has damaged it, before it makes it read-only.
pub fn damage_by_a_cut(system: System) -> Option<&'static str> {
    match system {
        System::Exfat => Some(OUTGROWN),
        System::Vfat => Some(HALF_WRITTEN),
        _ => None,
    }
}

/// The virtual machine, with power or without.
pub struct Machine {
    hardware: Box<dyn Hardware>,
    child: Option<Child>,
    console: ProcessLog,
    keyboard: Option<ChildStdin>,
    /// Commands typed in so far.
    typed: usize,
    address: SocketAddr,
    /// Bound, never listening: keeps the port while there is no power.
    _reserved: TcpSocket,
    /// Seconds from power to port 25, for each boot.
    pub boots: Vec<f64>,
    /// What the file system's own tool said after each cut.
    pub checks: Vec<String>,
}

impl Machine {
    /// A new machine with an empty disk or flash that has this file system. `settings` are the gateway's; `ca_file` is there
    /// as `/etc/powercut/ca.pem`.
    pub fn new(kit: &Path, settings: &str, ca_file: &Path, system: System) -> Machine {
        if system.is_on_flash() {
            return Machine::router(kit, settings, ca_file, system, 64);
        }
        Machine::of(Box::new(pc::Pc::new(kit, settings, ca_file, system)))
    }

    /// A new router with an empty flash, and memory of so many MB.
    pub fn router(kit: &Path, settings: &str, ca_file: &Path, system: System, memory: u64) -> Machine {
        Machine::of(Box::new(router::Router::new(kit, settings, ca_file, system, memory)))
    }

    /// A new router whose processor does 500 million instructions in each second of its own clock, whatever else the host
    /// does: what it says of times repeats from run to run.
    pub fn slow_router(kit: &Path, settings: &str, ca_file: &Path, system: System, memory: u64) -> Machine {
        let router = router::Router::new(kit, settings, ca_file, system, memory);
        Machine::of(Box::new(router.slow()))
    }

    /// As [`Machine::slow_router`], with other relays in `/peers` and memory for them.
    pub fn slow_router_with_peers(kit: &Path, settings: &str, ca_file: &Path, system: System) -> Machine {
        let router = router::Router::new(kit, settings, ca_file, system, 208);
        Machine::of(Box::new(router.slow().with_archive(&kit.join("peers"))))
    }

    /// A new router whose clock the test sets forward. It begins at this time, in seconds since 1970.
    pub fn router_with_clock(kit: &Path, settings: &str, ca_file: &Path, system: System, began: i64) -> Machine {
        let router = router::Router::new(kit, settings, ca_file, system, 64);
        Machine::of(Box::new(router.with_clock(began)))
    }

    fn of(hardware: Box<dyn Hardware>) -> Machine {
        keep_the_reason();
        let reserved = TcpSocket::new_v4().expect("a TCP socket");
        reserved.set_reuseaddr(true).expect("SO_REUSEADDR");
        reserved.bind((Ipv4Addr::LOCALHOST, 0).into()).expect("a free port on the loopback interface");
        let address = reserved.local_addr().expect("the address of a bound socket");
        Machine {
            hardware,
            child: None,
            console: ProcessLog::new(),
            keyboard: None,
            typed: 0,
            address,
            _reserved: reserved,
            boots: Vec::new(),
            checks: Vec::new(),
        }
    }

    /// Where its port 25 is.
    pub fn addr(&self) -> SocketAddr {
        self.address
    }

    /// Gives it power and waits until the gateway listens.
    pub async fn boot(&mut self) {
        assert!(self.child.is_none(), "the machine has power already");
        let network = format!("user,id=lan,hostfwd=tcp:{}-10.0.2.15:25", self.address);
        let mut qemu = self.hardware.power(&network);
        qemu.args(["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-serial", "stdio"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let start = Instant::now();
        let mut child = qemu.spawn().unwrap_or_else(|error| panic!("start {qemu:?}: {error}"));
        self.keyboard = child.stdin.take();
        self.console.follow(&mut child);
        self.child = Some(child);
        if let Some(line) = self.hardware.waits_for() {
            self.wait("the machine to wait", BOOT_LIMIT, |said| said == line).await;
            self.hardware.prepare();
            self.type_in("");
        }
        self.wait("the gateway to listen", BOOT_LIMIT, |line| field(line, "event") == Some("listening")).await;
        self.boots.push(start.elapsed().as_secs_f64());
    }

    /// Types a command in, for a machine whose first program is a shell on the console.
    pub fn type_in(&mut self, command: &str) {
        let keyboard = self.keyboard.as_mut().expect("a machine that has power");
        writeln!(keyboard, "{command}").and_then(|()| keyboard.flush()).expect("type a command in");
    }

    /// Types a command in and waits for its end. Returns its exit code, and what the console said meanwhile.
    pub async fn run(&mut self, command: &str, limit: Duration) -> (i32, Vec<String>) {
        self.typed += 1;
        let (mark, done) = (self.console.mark(), format!("router: done {} ", self.typed));
        self.type_in(&format!("{command}; echo \"{done}$?\""));
        let last = match self.console.wait(mark, |line| line.starts_with(&done), limit).await {
            Ok(line) => line,
            Err(why) => panic!("waiting for the end of {command:?}: {why}"),
        };
        let code = last[done.len()..].parse().unwrap_or_else(|_| panic!("the exit code of {command:?}: {last:?}"));
        let mut said = self.console.lines().split_off(mark);
        said.truncate(said.iter().position(|line| *line == last).unwrap_or(said.len()));
        (code, said)
    }

    /// Whether the shell on the console does a command within the limit.
    pub async fn answers(&mut self, limit: Duration) -> bool {
        let mark = self.console.mark();
        self.type_in("echo 'router: answers'");
        self.console.wait(mark, |line| line == "router: answers", limit).await.is_ok()
    }

    /// Types in what shuts the machine down, and waits until it is off. Returns what the console said since the boot.
    pub async fn shut_down(&mut self, command: &str, limit: Duration) -> Vec<String> {
        self.type_in(command);
        if !self.console.wait_end(limit).await {
            panic!("the machine is not off within {limit:?}");
        }
        let mut child = self.child.take().expect("a machine that had power");
        child.wait().expect("the end of qemu");
        self.lost_power()
    }

    /// Cuts the power, now. Returns what the console said since the boot.
    pub fn cut(&mut self) -> Vec<String> {
        let mut child = self.child.take().expect("a machine that has power");
        child.kill().expect("SIGKILL to qemu");
        child.wait().expect("the end of qemu");
        self.lost_power()
    }

    /// Has the file system mended by its own tool while there is no power.
    pub fn mend(&mut self) {
        assert!(self.child.is_none(), "the machine has power");
        self.hardware.mend();
    }

    fn lost_power(&mut self) -> Vec<String> {
        self.keyboard = None;
        self.console.finish();
        self.checks.extend(self.hardware.lost_power());
        let said = self.said();
        let trouble =
            |line: &&String| TROUBLES.iter().any(|trouble| line.contains(trouble)) && !self.hardware.tolerates(line);
        assert_eq!(said.iter().find(trouble), None, "before the cut");
        said
    }

    /// The first line of the console since the boot that fits. Panics when it does not come.
    pub async fn wait(&self, what: &str, limit: Duration, fits: impl Fn(&str) -> bool) -> String {
        match self.console.wait(self.console.run_start(), fits, limit).await {
            Ok(line) => line,
            Err(why) => panic!("waiting for {what}: {why}"),
        }
    }

    /// Waits until so many lines since the boot fit.
    pub async fn wait_for_count(&self, what: &str, count: usize, limit: Duration, fits: impl Fn(&str) -> bool) {
        let (mut seen, mut mark) = (0, self.console.run_start());
        loop {
            let new = self.console.lines().split_off(mark);
            mark += new.len();
            seen += new.iter().filter(|line| fits(line)).count();
            if seen >= count {
                return;
            }
            if let Err(why) = self.console.wait(mark, &fits, limit).await {
                panic!("waiting for {count} times {what}, {seen} seen: {why}");
            }
        }
    }

    /// Waits until lines since the boot have named each of these ids; `named` finds the id in a line.
    pub async fn wait_for_each(&self, what: &str, ids: &[&str], limit: Duration, named: fn(&str) -> Option<&str>) {
        let mut missing: HashSet<&str> = ids.iter().copied().collect();
        let mut mark = self.console.run_start();
        loop {
            let new = self.console.lines().split_off(mark);
            mark += new.len();
            for id in new.iter().filter_map(|line| named(line)) {
                missing.remove(id);
            }
            if missing.is_empty() {
                return;
            }
            if let Err(why) = self.console.wait(mark, |line| named(line).is_some(), limit).await {
                panic!("waiting for {what}: {missing:?}: {why}");
            }
        }
    }

    /// The flash as it is now; empty for a machine without one.
    pub fn flash(&self) -> Vec<u8> {
        self.hardware.flash()
    }

    /// The clock of a machine from [`Machine::router_with_clock`] that has power.
    pub fn clock(&self) -> Clock {
        self.hardware.clock().expect("a machine whose clock can be set")
    }

    /// What the clock on the board says at the next boot, in seconds since 1970.
    pub fn begin_at(&mut self, unix: i64) {
        self.hardware.begin_at(unix);
    }

    /// The process that is the machine.
    pub fn process(&self) -> u32 {
        self.child.as_ref().expect("a machine that has power").id()
    }

    /// The number of lines of the console so far, over all boots.
    pub fn mark(&self) -> usize {
        self.console.mark()
    }

    /// The lines of the console from `mark` on.
    pub fn lines_from(&self, mark: usize) -> Vec<String> {
        self.console.lines_from(mark)
    }

    /// As [`Machine::wait`], from `mark` on; false when it does not come.
    pub async fn comes(&self, mark: usize, limit: Duration, fits: impl Fn(&str) -> bool) -> bool {
        self.console.wait(mark, fits, limit).await.is_ok()
    }

    /// What the console said since the boot.
    pub fn said(&self) -> Vec<String> {
        self.console.lines().split_off(self.console.run_start())
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // Behind the console, where the reason of a failure is found; a full disk must not hide it.
            let reason = REASON.lock().map(|reason| reason.clone()).unwrap_or_default();
            let _ =
                writeln!(std::io::stdout(), "--- console since the last boot\n{}\n{reason}", self.said().join("\n"));
        }
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Runs a tool that has to succeed.
fn run(command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| panic!("start {command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}
