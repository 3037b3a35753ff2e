// SPDX-License-Identifier: Apache-2.0
//! A router: MIPS, little memory, and flash that the kernel sees as an MTD.
//!
//! The memory of the machine is a file. The kernel is told to use the first part; what lies behind it is the flash, by the
//! kernel's module phram, and the file keeps it when qemu is killed, in the order in which the processor wrote it. What
//! the next boot finds in the first part is nothing: that is the cut. Behind the flash lies the package that is installed.
//!
//! UBI does not take such a flash, because phram does not say how much it writes at once. So that is written into the
//! kernel's memory while the machine boots: 64, as mtdram has it, which UBI takes.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use super::{Clock, Hardware, System, clock, run};

/// Bytes of the flash: what a small router has.
const FLASH: u64 = 16 << 20;
/// Bytes for the package behind it.
const PACKAGE: u64 = 4 << 20;
/// Bytes that the flash erases at once.
const BLOCK: u32 = 0x10000;
/// Bytes that it writes at once.
const WRITE_BUFFER: u32 = 64;
/// Bytes of a page, and what the kernel wants the initramfs to begin at.
const PAGE: u64 = 4096;
/// What an erased flash is full of.
const ERASED: u8 = 0xff;

pub(super) struct Router {
    /// The kernel.
    kernel: PathBuf,
    dir: TempDir,
    system: System,
    /// The initramfs, with the settings.
    initramfs: Vec<u8>,
    /// Bytes of memory.
    memory: u64,
    /// Bytes of the package.
    package: u64,
    /// Whether its instructions make its clock.
    slow: bool,
    /// What the kernel is told besides.
    more: &'static str,
    /// What the clock on the board says at the next start, in seconds since 1970. None: the time of the host.
    began: Option<i64>,
}

impl Router {
    /// With an empty flash, and memory of so many MB.
    pub(super) fn new(kit: &Path, settings: &str, ca_file: &Path, system: System, memory: u64) -> Router {
        let dir = tempfile::Builder::new().prefix("smtprelay-router-").tempdir().expect("temp folder of a machine");
        let read = |name: &str| std::fs::read(kit.join(name)).unwrap_or_else(|error| panic!("read {name}: {error}"));
        let mut initramfs = [read("initramfs"), read(system.name())].concat();
        let package = read("package.ipk");
        let ca = std::fs::read(ca_file).expect("read the CA");
        initramfs.extend(archive(&[("settings/smtprelay.conf", settings.as_bytes()), ("settings/ca.pem", &ca)]));
        let (kernel, memory, length) = (kit.join("vmlinuz"), memory << 20, package.len() as u64);
        let router =
            Router { kernel, dir, system, initramfs, memory, package: length, slow: false, more: "", began: None };
        let file = File::create(router.ram()).expect("make the memory");
        file.set_len(memory + FLASH + PACKAGE).expect("give the memory its size");
        assert!(length <= PACKAGE, "the package is longer than the memory for it");
        file.write_all_at(&package, memory + FLASH).expect("write the package");
        file.write_all_at(&vec![ERASED; FLASH as usize], memory).expect("erase the flash");
        if system == System::Ubifs {
            file.write_all_at(&router.ubi(), memory).expect("make the volume");
        }
        router
    }

    /// With the files of another archive. They may take more than half of the memory, the limit of a tmpfs.
    pub(super) fn with_archive(mut self, archive: &Path) -> Router {
        self.more = "rootfstype=ramfs";
        self.initramfs.extend(std::fs::read(archive).unwrap_or_else(|error| panic!("read {archive:?}: {error}")));
        self
    }

    /// With 2 ns of its clock for each instruction.
    pub(super) fn slow(mut self) -> Router {
        self.slow = true;
        self
    }

    /// With a clock that the test sets forward ([`super::Clock`]). RCU would think that the processor was stuck for so long.
    pub(super) fn with_clock(mut self, began: i64) -> Router {
        self.more = "rcupdate.rcu_cpu_stall_suppress=1";
        self.began = Some(began);
        self
    }

    /// The beginning of the flash: an empty volume, which takes all that is left when it is first seen.
    fn ubi(&self) -> Vec<u8> {
        let path = |name: &str| self.dir.path().join(name);
        let volume =
            "[data]\nmode=ubi\nvol_id=0\nvol_type=dynamic\nvol_name=rootfs_data\nvol_size=1MiB\nvol_flags=autoresize\n";
        std::fs::write(path("volume"), volume).expect("describe the volume");
        let block = BLOCK.to_string();
        let mut ubinize = Command::new("ubinize");
        run(ubinize.args(["-m", "1", "-p", &block, "-o"]).arg(path("ubi")).arg(path("volume")));
        std::fs::read(path("ubi")).expect("read the volume")
    }

    fn ram(&self) -> PathBuf {
        self.dir.path().join("memory")
    }
}

impl Hardware for Router {
    fn power(&mut self, network: &str) -> Command {
        let file = OpenOptions::new().write(true).open(self.ram()).expect("open the memory");
        file.write_all_at(&vec![0; self.memory as usize], 0).expect("clear the memory");
        // qemu would put the initramfs to the end of the memory, which is the flash.
        let length = self.initramfs.len() as u64;
        let initramfs = self.memory - length.next_multiple_of(PAGE);
        file.write_all_at(&self.initramfs, initramfs).expect("load the initramfs");
        let total = (self.memory + FLASH + PACKAGE) >> 20;
        // Not at a random address (nokaslr): that may be where the initramfs is.
        let arguments = format!(
            "console=ttyS0 quiet panic=-1 nokaslr rdinit=/init mem={}M rd_start={:#x} rd_size={length} system={} flash={:#x} \
             flash_size={FLASH:#x} package={:#x} package_room={PACKAGE:#x} package_size={} {}",
            self.memory >> 20,
            // Where the processor sees the memory.
            0x8000_0000 + initramfs,
            self.system.name(),
            self.memory,
            self.memory + FLASH,
            self.package,
            self.more
        );
        let ram = format!("memory-backend-file,id=ram,size={total}M,share=on,mem-path={}", self.ram().display());
        let mut qemu = Command::new("qemu-system-mipsel");
        qemu.args(["-machine", "malta,memory-backend=ram", "-object", &ram])
            .args(["-cpu", "24Kc", "-m", &format!("{total}M")])
            .arg("-kernel")
            .arg(&self.kernel)
            .args(["-append", &arguments, "-netdev", network, "-device", "pcnet,netdev=lan,romfile="]);
        if self.slow {
            qemu.args(["-icount", "shift=1", "-rtc", "clock=vm"]);
        }
        if let Some(began) = self.began {
            qemu.args(["-rtc", &format!("base={}", clock::rtc(began))]);
        }
        qemu
    }

    fn waits_for(&self) -> Option<&'static str> {
        (self.system == System::Ubifs).then_some("router: phram is loaded")
    }

    /// Finds the kernel's `struct mtd_info` of the flash by its size, and sets how much is written at once.
    fn prepare(&mut self) {
        let file = OpenOptions::new().read(true).write(true).open(self.ram()).expect("open the memory");
        let mut memory = vec![0; self.memory as usize];
        file.read_exact_at(&mut memory, 0).expect("read the memory");
        // size, erasesize, writesize; then follow writebufsize and oobsize.
        let known = [FLASH as u32, 0, BLOCK, 1, 0, 0].map(u32::to_le_bytes).concat();
        let words = (0..memory.len() - known.len()).step_by(4);
        let found: Vec<usize> = words.filter(|at| memory[*at..].starts_with(&known)).collect();
        let [at] = found[..] else { panic!("the flash stands {} times in the kernel's memory", found.len()) };
        file.write_all_at(&WRITE_BUFFER.to_le_bytes(), at as u64 + 16).expect("write to the memory");
    }

    fn flash(&self) -> Vec<u8> {
        let file = File::open(self.ram()).expect("open the memory");
        let mut flash = vec![0; FLASH as usize];
        file.read_exact_at(&mut flash, self.memory).expect("read the flash");
        flash
    }

    fn clock(&self) -> Option<Clock> {
        Some(Clock::find(&self.ram(), self.memory, self.began?))
    }

    fn begin_at(&mut self, unix: i64) {
        self.began = Some(unix);
    }

    fn lost_power(&mut self) -> Option<String> {
        None
    }
}

/// An archive of these files as the kernel wants it (cpio, "newc"), with their folder.
fn archive(files: &[(&str, &[u8])]) -> Vec<u8> {
    const FOLDER: u32 = 0o040_755;
    const FILE: u32 = 0o100_644;
    let mut archive = Vec::new();
    let mut add = |mode: u32, name: &str, content: &[u8]| {
        archive.extend_from_slice(b"070701");
        let (length, name_length) = (content.len() as u32, name.len() as u32 + 1);
        for number in [0, mode, 0, 0, 1, 0, length, 0, 0, 0, 0, name_length, 0] {
            archive.extend_from_slice(format!("{number:08x}").as_bytes());
        }
        for part in [[name.as_bytes(), b"\0"].concat().as_slice(), content] {
            archive.extend_from_slice(part);
            archive.resize(archive.len().next_multiple_of(4), 0);
        }
    };
    add(FOLDER, "settings", b"");
    for (name, content) in files {
        add(FILE, name, content);
    }
    add(0, "TRAILER!!!", b"");
    archive
}
