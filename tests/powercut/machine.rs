// SPDX-License-Identifier: Apache-2.0
//! A computer whose power can be cut: qemu with a disk that loses what was not flushed.
//!
//! Each boot writes to a qcow2 overlay above the disk as the last cut left it. Which cluster of the overlay belongs to
//! which block is known to qemu's memory alone until the guest flushes: what the guest has written and not flushed is
//! lost with the process, or half of it, as in the volatile cache of a real disk. The disk is slow as flash is, so that
//! many writes are under way at the cut.

use std::collections::HashSet;
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, Once};
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tokio::net::TcpSocket;

use super::support::log::{ProcessLog, field};

/// How long the machine may take to boot: it is emulated, perhaps beside others.
const BOOT_LIMIT: Duration = Duration::from_secs(120);
/// Bytes of the disk.
const DISK: u64 = 96 << 20;
/// Requests a second that the disk serves: a cheap USB stick.
const DISK_REQUESTS: u32 = 300;
/// Bytes a second that the disk moves.
const DISK_BYTES: u32 = 8 << 20;

/// The file system of the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum System {
    Ext4,
    Vfat,
    Exfat,
    F2fs,
}

impl System {
    /// Its name for mount and mkfs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ext4 => "ext4",
            Self::Vfat => "vfat",
            Self::Exfat => "exfat",
            Self::F2fs => "f2fs",
        }
    }

    /// Makes one in `disk`.
    fn make(self, disk: &Path) {
        let options: &[&str] = match self {
            Self::Ext4 => &["-q", "-F"],
            Self::Vfat => &["-F", "32"],
            Self::Exfat => &[],
            Self::F2fs => &["-q"],
        };
        run(Command::new(format!("mkfs.{}", self.name())).args(options).arg(disk));
    }

    /// What its own tool thinks of a copy of the disk, for the record. ext4 replays its journal first. The tool of exfat is
    /// not asked: it says nothing of what a mount would not see.
    fn check(self, copy: &Path) -> Option<String> {
        let ask = |program: &str, options: &[&str]| {
            Command::new(program).args(options).arg(copy).output().unwrap_or_else(|e| panic!("start {program}: {e}"))
        };
        let (replayed, check) = match self {
            Self::Ext4 => {
                let replay = ask("e2fsck", &["-p", "-E", "journal_only"]);
                (matches!(replay.status.code(), Some(0 | 1)), ask("e2fsck", &["-fn"]))
            }
            Self::Vfat => (true, ask("fsck.vfat", &["-n"])),
            Self::F2fs => (true, ask("fsck.f2fs", &["--dry-run"])),
            Self::Exfat => return None,
        };
        let clean = replayed && check.status.success();
        Some(if clean { "clean".into() } else { String::from_utf8_lossy(&check.stdout).into_owned() })
    }
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

/// The virtual machine, with power or without.
pub struct Machine {
    /// Kernel and initramfs.
    kit: PathBuf,
    dir: TempDir,
    system: System,
    child: Option<Child>,
    console: ProcessLog,
    address: SocketAddr,
    /// Bound, never listening: keeps the port while there is no power.
    _reserved: TcpSocket,
    /// Seconds from power to port 25, for each boot.
    pub boots: Vec<f64>,
    /// What the file system's own tool said after each cut.
    pub checks: Vec<String>,
}

impl Machine {
    /// A new machine with an empty disk that has this file system. `settings` are the gateway's; `ca_file` is there as
    /// `/etc/powercut/ca.pem`.
    pub fn new(kit: &Path, settings: &str, ca_file: &Path, system: System) -> Machine {
        keep_the_reason();
        let dir = tempfile::Builder::new().prefix("smtprelay-powercut-").tempdir().expect("temp folder of a machine");
        let path = |name: &str| dir.path().join(name);
        std::fs::write(path("smtprelay.conf"), settings).expect("write the settings");
        std::fs::write(path("system"), format!("{}\n", system.name())).expect("write the name of the file system");
        std::fs::copy(ca_file, path("ca.pem")).expect("copy the CA");
        let mut tar = Command::new("tar");
        tar.arg("-C").arg(dir.path()).arg("-cf").arg(path("settings.tar"));
        run(tar.args(["smtprelay.conf", "ca.pem", "system"]));
        let disk = std::fs::File::create(path("disk.raw")).expect("make the disk");
        disk.set_len(DISK).expect("give the disk its size");
        system.make(&path("disk.raw"));
        let reserved = TcpSocket::new_v4().expect("a TCP socket");
        reserved.set_reuseaddr(true).expect("SO_REUSEADDR");
        reserved.bind((Ipv4Addr::LOCALHOST, 0).into()).expect("a free port on the loopback interface");
        let address = reserved.local_addr().expect("the address of a bound socket");
        Machine {
            kit: kit.to_owned(),
            dir,
            system,
            child: None,
            console: ProcessLog::new(),
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
        let path = |name: &str| self.dir.path().join(name).display().to_string();
        let create = ["create", "-q", "-f", "qcow2", "-o", "cluster_size=4k", "-F", "raw", "-b"];
        run(Command::new("qemu-img").args(create).args([path("disk.raw"), path("disk.qcow2")]));
        let disk = format!(
            "if=none,id=disk,file={},format=qcow2,cache=writeback,l2-cache-size=2M,\
             throttling.iops-total={DISK_REQUESTS},throttling.bps-total={DISK_BYTES}",
            path("disk.qcow2")
        );
        let settings = format!("if=none,id=settings,file={},format=raw,readonly=on", path("settings.tar"));
        let network = format!("user,id=lan,hostfwd=tcp:{}-10.0.2.15:25", self.address);
        // Emulated in software unless asked otherwise: it boots in seconds, and a /dev/kvm that is there may still be of
        // no use within another virtual machine.
        let accel = std::env::var("POWERCUT_ACCEL").unwrap_or_else(|_| "tcg".into());
        let mut qemu = Command::new("qemu-system-x86_64");
        qemu.args(["-machine", "q35", "-cpu", "max", "-smp", "1", "-m", "160", "-accel", &accel])
            .args(["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-serial", "stdio"])
            .arg("-kernel")
            .arg(self.kit.join("vmlinuz"))
            .arg("-initrd")
            .arg(self.kit.join("initramfs"))
            .args(["-append", "console=ttyS0 quiet panic=-1 rdinit=/init mitigations=off no_timer_check"])
            .args(["-drive", &disk, "-device", "virtio-blk-pci,drive=disk"])
            .args(["-drive", &settings, "-device", "virtio-blk-pci,drive=settings"])
            .args(["-netdev", &network, "-device", "virtio-net-pci,netdev=lan,romfile="])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let start = Instant::now();
        let mut child = qemu.spawn().unwrap_or_else(|error| panic!("start {qemu:?}: {error}"));
        self.console.follow(&mut child);
        self.child = Some(child);
        self.wait("the gateway to listen", BOOT_LIMIT, |line| field(line, "event") == Some("listening")).await;
        self.boots.push(start.elapsed().as_secs_f64());
    }

    /// Cuts the power, now. Returns what the console said since the boot.
    pub fn cut(&mut self) -> Vec<String> {
        let mut child = self.child.take().expect("a machine that has power");
        child.kill().expect("SIGKILL to qemu");
        child.wait().expect("the end of qemu");
        self.console.finish();
        self.merge();
        self.check();
        let said = self.said();
        let troubles = ["-fs error", "FAT-fs (vda): error", "F2FS-fs (vda): Inconsistent", "event=crashed"];
        let trouble = |line: &&String| troubles.iter().any(|trouble| line.contains(trouble));
        assert_eq!(said.iter().find(trouble), None, "before the cut");
        said
    }

    /// The disk as the cut has left it becomes what the next boot finds.
    fn merge(&self) {
        let path = |name: &str| self.dir.path().join(name);
        let convert = ["convert", "-f", "qcow2", "-O", "raw"];
        run(Command::new("qemu-img").args(convert).args([path("disk.qcow2"), path("disk.new")]));
        std::fs::rename(path("disk.new"), path("disk.raw")).expect("rename the disk");
    }

    /// Asks the file system's own tool what it thinks of a copy of the disk, for the record.
    fn check(&mut self) {
        let copy = self.dir.path().join("check.raw");
        run(Command::new("cp").arg("--sparse=always").arg(self.dir.path().join("disk.raw")).arg(&copy));
        self.checks.extend(self.system.check(&copy));
    }

    /// The first line of the console since the boot that fits. Panics with the console when it does not come.
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
