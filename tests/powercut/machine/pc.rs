// SPDX-License-Identifier: Apache-2.0
//! A computer with x86-64 and a disk that loses what was not flushed.
//!
//! Each boot writes to a qcow2 overlay above the disk as the last cut left it. Which cluster of the overlay belongs to
//! which block is known to qemu's memory alone until the guest flushes: what the guest has written and not flushed is
//! lost with the process, or half of it, as in the volatile cache of a real disk. The disk is slow as flash is, so that
//! many writes are under way at the cut.

use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use super::{Hardware, System, damage_by_a_cut, run};

/// Bytes of the disk.
const DISK: u64 = 96 << 20;
/// Requests a second that the disk serves: a cheap USB stick.
const DISK_REQUESTS: u32 = 300;
/// Bytes a second that the disk moves.
const DISK_BYTES: u32 = 8 << 20;

pub(super) struct Pc {
    /// Kernel and initramfs.
    kit: PathBuf,
    dir: TempDir,
    system: System,
}

impl Pc {
    pub(super) fn new(kit: &Path, settings: &str, ca_file: &Path, system: System) -> Pc {
        let dir = tempfile::Builder::new().prefix("smtprelay-powercut-").tempdir().expect("temp folder of a machine");
        let path = |name: &str| dir.path().join(name);
        std::fs::write(path("smtprelay.conf"), settings).expect("write the settings");
        let kind = if system == System::Plain { "plain" } else { system.name() };
        std::fs::write(path("system"), format!("{kind}\n")).expect("write the name of the file system");
        std::fs::copy(ca_file, path("ca.pem")).expect("copy the CA");
        let mut tar = Command::new("tar");
        tar.arg("-C").arg(dir.path()).arg("-cf").arg(path("settings.tar"));
        run(tar.args(["smtprelay.conf", "ca.pem", "system"]));
        let disk = std::fs::File::create(path("disk.raw")).expect("make the disk");
        disk.set_len(DISK).expect("give the disk its size");
        make(system, &path("disk.raw"));
        Pc { kit: kit.to_owned(), dir, system }
    }

    fn path(&self, name: &str) -> String {
        self.dir.path().join(name).display().to_string()
    }
}

impl Hardware for Pc {
    fn power(&mut self, network: &str) -> Command {
        let create = ["create", "-q", "-f", "qcow2", "-o", "cluster_size=4k", "-F", "raw", "-b"];
        run(Command::new("qemu-img").args(create).args([self.path("disk.raw"), self.path("disk.qcow2")]));
        let disk = format!(
            "if=none,id=disk,file={},format=qcow2,cache=writeback,l2-cache-size=2M,\
             throttling.iops-total={DISK_REQUESTS},throttling.bps-total={DISK_BYTES}",
            self.path("disk.qcow2")
        );
        let settings = format!("if=none,id=settings,file={},format=raw,readonly=on", self.path("settings.tar"));
        // Emulated in software unless asked otherwise: it boots in seconds, and a /dev/kvm that is there may still be of
        // no use within another virtual machine.
        let accel = std::env::var("POWERCUT_ACCEL").unwrap_or_else(|_| "tcg".into());
        let mut qemu = Command::new("qemu-system-x86_64");
        qemu.args(["-machine", "q35", "-cpu", "max", "-smp", "1", "-m", "160", "-accel", &accel])
            .arg("-kernel")
            .arg(self.kit.join("vmlinuz"))
            .arg("-initrd")
            .arg(self.kit.join("initramfs"))
            .args(["-append", "console=ttyS0 quiet panic=-1 rdinit=/init mitigations=off no_timer_check"])
            .args(["-drive", &disk, "-device", "virtio-blk-pci,drive=disk"])
            .args(["-drive", &settings, "-device", "virtio-blk-pci,drive=settings"])
            .args(["-netdev", network, "-device", "virtio-net-pci,netdev=lan,romfile="]);
        qemu
    }

    fn mend(&mut self) {
        let (program, option) = match self.system {
            System::Exfat => ("fsck.exfat", "-y"),
            System::Vfat => ("fsck.vfat", "-a"),
            _ => panic!("this file system is not to be mended"),
        };
        let output = Command::new(program).arg(option).arg(self.path("disk.raw")).output();
        let output = output.unwrap_or_else(|error| panic!("start {program}: {error}"));
        // 1 says that something was mended.
        assert!(matches!(output.status.code(), Some(0 | 1)), "{program}: {output:?}");
    }

    fn tolerates(&self, line: &str) -> bool {
        match self.system {
            // Which inodes and blocks are in use is not written before a cut.
            System::Plain => line.contains("EXT4-fs error"),
            system => damage_by_a_cut(system).is_some_and(|words| line.contains(words)),
        }
    }

    /// The disk as the cut has left it becomes what the next boot finds; the tool gets a copy.
    fn lost_power(&mut self) -> Option<String> {
        let path = |name: &str| self.dir.path().join(name);
        let convert = ["convert", "-f", "qcow2", "-O", "raw"];
        run(Command::new("qemu-img").args(convert).args([path("disk.qcow2"), path("disk.new")]));
        std::fs::rename(path("disk.new"), path("disk.raw")).expect("rename the disk");
        let copy = path("check.raw");
        run(Command::new("cp").arg("--sparse=always").arg(path("disk.raw")).arg(&copy));
        check(self.system, &copy)
    }
}

/// Makes a file system in `disk`.
fn make(system: System, disk: &Path) {
    let options: &[&str] = match system {
        System::Ext4 => &["-q", "-F"],
        System::Plain => &["-q", "-F", "-O", "^has_journal"],
        System::Vfat => &["-F", "32"],
        System::F2fs => &["-q"],
        System::Exfat | System::Jffs2 | System::Ubifs => &[],
    };
    run(Command::new(format!("mkfs.{}", system.name())).args(options).arg(disk));
}

/// What the file system's own tool thinks of a copy of the disk. ext4 replays its journal first. The tool of exfat is not
/// asked: it says nothing of what a mount would not see.
fn check(system: System, copy: &Path) -> Option<String> {
    let ask = |program: &str, options: &[&str]| {
        Command::new(program).args(options).arg(copy).output().unwrap_or_else(|e| panic!("start {program}: {e}"))
    };
    let (replayed, check) = match system {
        System::Ext4 => {
            let replay = ask("e2fsck", &["-p", "-E", "journal_only"]);
            (matches!(replay.status.code(), Some(0 | 1)), ask("e2fsck", &["-fn"]))
        }
        System::Plain => (true, ask("e2fsck", &["-fn"])),
        System::Vfat => (true, ask("fsck.vfat", &["-n"])),
        System::F2fs => (true, ask("fsck.f2fs", &["--dry-run"])),
        System::Exfat | System::Jffs2 | System::Ubifs => return None,
    };
    let clean = replayed && check.status.success();
    Some(if clean { "clean".into() } else { String::from_utf8_lossy(&check.stdout).into_owned() })
}
