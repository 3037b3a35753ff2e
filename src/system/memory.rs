// SPDX-License-Identifier: Apache-2.0
//! What file systems offer: how much memory a queue in a RAM disk may use, and whether files have owners.
//!
//! On most routers the queue is in a RAM disk. What it uses there is missing everywhere else, and when memory runs out
//! the kernel kills processes.

use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use nix::sys::statfs::{FsType, statfs};
use nix::sys::statvfs::statvfs;
use nix::unistd::{AccessFlags, access};

use super::{lock, publish};

/// Where the kernel reports its memory (proc(5)).
const MEMINFO: &str = "/proc/meminfo";
/// How long an answer of the kernel is used. On a small router mail takes several hundred KB in this time.
const GOOD_FOR: Duration = Duration::from_millis(100);
/// Bytes that are left to the rest of the system, of those that the kernel estimates to be available.
const RESERVE: u64 = 4 << 20;
/// The part of the memory that has to be free or in the cache of files, and the most of it in bytes. The estimate includes
/// names and inodes that the kernel keeps; when a process needs memory, it is not given these before another is killed.
const AT_ONCE_PART: u64 = 10;
const AT_ONCE_MOST: u64 = 3 << 20;
/// So much more, where there is more memory than this: for a moment the kernel hands out nothing of another 4 MB, to mend what is
/// scattered (`vm.watermark_boost_factor`), where a zone is larger than four such blocks, and kills instead.
const BOOST: u64 = 4 << 20;
const BOOSTED_FROM: u64 = 20 << 20;
/// File systems in memory, by their numbers in `man 2 statfs`: tmpfs and ramfs.
const IN_MEMORY: [u64; 2] = [0x0102_1994, 0x8584_58f6];
/// What a router needs for everything else: this much of the memory that its kernel reports is never used for the
/// queue.
const SYSTEM: u64 = 20 << 20;
/// The fraction of the rest that the queue may use by default.
const PART: u64 = 4;
/// What the queue may use in any case.
const LEAST: u64 = 2 << 20;
/// Allocation unit of memory, and of file systems that do not report one.
const PAGE: u64 = 4096;

/// What the kernel reports about its memory.
#[derive(Debug)]
pub struct Meminfo {
    file: PathBuf,
    /// When it was last asked, and what was short.
    last: Mutex<Option<(Instant, Option<String>)>>,
}

impl Default for Meminfo {
    fn default() -> Self {
        Self::of(MEMINFO)
    }
}

impl Meminfo {
    /// As reported by this file.
    pub fn of(file: impl Into<PathBuf>) -> Self {
        Self { file: file.into(), last: Mutex::new(None) }
    }

    /// What is short, if so little memory is left that the kernel may kill processes soon; at most a tenth of a second
    /// old. The file is generated in memory: reading it never waits for a disk.
    pub fn shortage(&self) -> Option<String> {
        let now = Instant::now();
        let mut last = lock(&self.last);
        if let Some((_, known)) = last.as_ref().filter(|(asked, _)| now.saturating_duration_since(*asked) < GOOD_FOR) {
            return known.clone();
        }
        let known = std::fs::read_to_string(&self.file).ok().and_then(|text| shortage_in(&text));
        *last = Some((now, known.clone()));
        known
    }
}

fn shortage_in(text: &str) -> Option<String> {
    if let Some(available) = field(text, "MemAvailable:").filter(|available| *available < RESERVE) {
        return Some(format!("only {} KB of memory are available", available >> 10));
    }
    let [free, active, inactive] = ["MemFree:", "Active(file):", "Inactive(file):"].map(|name| field(text, name));
    let at_once = free?.saturating_add(active?).saturating_add(inactive?);
    (at_once < at_once_reserve(field(text, "MemTotal:")?))
        .then(|| format!("only {} KB of memory are free or in the cache of files", at_once >> 10))
}

/// What has to be free or in the cache of files, of so much memory.
fn at_once_reserve(total: u64) -> u64 {
    let boost = if total > BOOSTED_FROM { BOOST } else { 0 };
    (total / AT_ONCE_PART).min(AT_ONCE_MOST) + boost
}

fn read(file: &Path, name: &str) -> Option<u64> {
    std::fs::read_to_string(file).ok().and_then(|text| field(&text, name))
}

/// A field of `/proc/meminfo`, in bytes.
fn field(text: &str, name: &str) -> Option<u64> {
    let kilobytes: u64 =
        text.lines().find_map(|line| line.strip_prefix(name))?.split_whitespace().next()?.parse().ok()?;
    kilobytes.checked_mul(1024)
}

/// Default limit in bytes for a queue in the directory `spool`: `most` on a disk and if memory is plentiful; in a RAM
/// disk a quarter of the system's memory beyond 20 MB, but at least 2 MB.
pub fn queue_limit(spool: &Path, most: u64) -> u64 {
    // If it does not exist yet, it is created at the start.
    let kind = spool.ancestors().find_map(|path| statfs(path).ok()).map(|found| found.filesystem_type());
    let total = kind.filter(lies_in_memory).and_then(|_| read(Path::new(MEMINFO), "MemTotal:"));
    total.map_or(most, |total| part_of(total, most))
}

/// Whether an existing directory is on a file system in memory. Work on its files never waits for a disk; where there is
/// swap, it waits as any other use of memory does.
pub fn is_in_memory(path: &Path) -> bool {
    statfs(path).is_ok_and(|found| lies_in_memory(&found.filesystem_type()))
}

fn lies_in_memory(kind: &FsType) -> bool {
    u64::try_from(kind.0).is_ok_and(|kind| IN_MEMORY.contains(&kind))
}

fn part_of(total: u64, most: u64) -> u64 {
    // Rounded to 64 KB, for readability.
    ((total.saturating_sub(SYSTEM) / PART) >> 16 << 16).clamp(LEAST.min(most), most)
}

/// The allocation unit of the file system of a path, in bytes.
pub fn block_size(path: &Path) -> u64 {
    // Some network file systems report the size of a request instead.
    #[allow(clippy::useless_conversion, reason = "it has 32 bits on some systems")]
    let told = statvfs(path).map_or(PAGE, |found| u64::from(found.fragment_size()));
    if (512..=64 << 10).contains(&told) { told } else { PAGE }
}

/// By their numbers in `man 2 statfs`. With a FUSE driver, NTFS and exFAT look like any other file system of that kind.
const WITHOUT_OWNERS: [(u64, &str); 8] = [
    (0x4d44, "vfat"),
    (0x2011_bab0, "exfat"),
    (0x7366_746e, "ntfs3"),
    (0x5346_544e, "ntfs"),
    (0x6573_5546, "fuse"),
    (0xff53_4d42, "cifs"),
    (0xfe53_4d42, "smb3"),
    (0x517b, "smbfs"),
];

/// The file system of a directory, if it has no owners, with the metadata of the directory or of the nearest existing
/// one above it.
pub fn without_owners(path: &Path) -> Option<(&'static str, Metadata)> {
    let there = path.ancestors().find(|path| path.is_dir())?;
    let kind = publish::file_system_number(&statfs(there).ok()?);
    let (_, name) = WITHOUT_OWNERS.iter().find(|(number, _)| *number == kind)?;
    Some((name, fs::metadata(there).ok()?))
}

/// File systems of the kernel itself, where nothing can be created: proc and sysfs.
const VIRTUAL: [u64; 2] = [0x9fa0, 0x6265_6572];

/// Why nothing can be created in a directory, or in the nearest existing one above it, by the user of this process.
pub fn obstacle(path: &Path) -> Option<String> {
    let (there, found) = path.ancestors().find_map(|path| Some((path, fs::metadata(path).ok()?)))?;
    let what = match access(there, AccessFlags::W_OK | AccessFlags::X_OK) {
        _ if !found.is_dir() => "it is not a directory".into(),
        Err(error) => error.desc().to_lowercase(),
        Ok(()) if statfs(there).is_ok_and(|found| VIRTUAL.contains(&publish::file_system_number(&found))) => {
            "its file system is not a disk".into()
        }
        Ok(()) => return None,
    };
    Some(format!("nothing can be stored in {}: {what}", there.display()))
}

/// Whether two paths lead to one directory, by a symbolic link, another spelling, or a mount of one of them; also for
/// directories that do not exist yet.
pub fn is_one_place(one: &Path, other: &Path) -> bool {
    let place = |path: &Path| {
        path.ancestors().find_map(|there| {
            let found = fs::metadata(there).ok()?;
            Some((found.dev(), found.ino(), path.strip_prefix(there).ok()?.to_path_buf()))
        })
    };
    matches!((place(one), place(other)), (Some(one), Some(other)) if one == other)
}

/// Whether a user may create files in a directory, according to its mode.
pub fn may_write(directory: &Metadata, uid: u32, gid: u32) -> bool {
    let bits = match directory {
        _ if uid == 0 => return true,
        own if own.uid() == uid => own.mode() >> 6,
        group if group.gid() == gid => group.mode() >> 3,
        other => other.mode(),
    };
    bits & 0o3 == 0o3
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn the_field_is_read_and_may_be_missing() {
        let text = "MemTotal:        2048 kB\nMemFree:          100 kB\nMemAvailable:   1234 kB\n";
        assert_eq!(field(text, "MemAvailable:"), Some(1234 * 1024));
        assert_eq!(field(text, "SwapFree:"), None);
        assert_eq!(field("MemAvailable:\n", "MemAvailable:"), None);
        assert_eq!(Meminfo::of("/none").shortage(), None);
    }

    #[test]
    fn a_directory_that_can_not_be_made_is_known_before() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        std::fs::write(&file, "x").unwrap();
        assert_eq!(obstacle(dir.path()), None);
        assert_eq!(obstacle(&dir.path().join("new/er")), None);
        for (path, what) in
            [(file.clone(), "not a directory"), (file.join("x/y"), "not a directory"), ("/proc/x".into(), "/proc: ")]
        {
            let said = obstacle(&path).unwrap();
            assert!(said.starts_with("nothing can be stored in /") && said.contains(what), "{said}");
        }
    }

    #[test]
    fn the_kernel_is_asked_ten_times_a_second() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("meminfo");
        std::fs::write(&file, "MemAvailable: 100 kB\n").unwrap();
        let meminfo = Meminfo::of(&file);
        let said = meminfo.shortage().unwrap();
        assert_eq!(said, "only 100 KB of memory are available");
        std::fs::write(&file, "MemAvailable: 8000 kB\n").unwrap();
        let asked = meminfo.last.lock().unwrap().as_ref().unwrap().0;
        *meminfo.last.lock().unwrap() = Some((asked + Duration::from_secs(60), Some("it".into())));
        assert_eq!(meminfo.shortage().as_deref(), Some("it"));
        *meminfo.last.lock().unwrap() = Some((asked.checked_sub(GOOD_FOR).unwrap(), Some("it".into())));
        assert_eq!(meminfo.shortage(), None);
    }

    /// The kernel's report when it killed the gateway on a router with 64 MB, with 6 MB "available": it had set its limit to
    /// 4952 KB.
    #[test]
    fn what_the_kernel_only_hopes_for_is_no_memory() {
        let says = |total: u64, free: u64, files: u64| {
            shortage_in(&format!(
                "MemTotal: {total} kB\nMemFree: {free} kB\nMemAvailable: 6446 kB\nActive(file): {files} kB\nInactive(file): 764 kB\n"
            ))
        };
        let said = says(49492, 3100, 656).unwrap();
        assert_eq!(said, "only 4520 KB of memory are free or in the cache of files");
        assert!(says(49492, 5640, 763).is_some() && says(49492, 5640, 764).is_none(), "7 MB are kept");
        // A router with 32 MB whose kernel leaves half of it has no zone in which it does that.
        assert!(says(17036, 900, 39).is_some() && says(17036, 900, 40).is_none(), "a tenth is kept");
        assert_eq!([25, 58, 1024].map(|total| at_once_reserve(total << 20) >> 10), [6656, 7168, 7168]);
    }

    #[test]
    fn the_limit_follows_from_the_memory_where_the_queue_lies_in_it() {
        let megabytes = |total: u64| part_of(total << 20, 32 << 20) / (1 << 10);
        // Routers with 32, 64, 128 and 256 MB, minus what the kernel has reserved for itself.
        assert_eq!([25, 58, 121, 248].map(megabytes), [2048, 9728, 25856, 32768]);
        assert_eq!(queue_limit(Path::new("/proc/none"), 32 << 20), 32 << 20, "not in memory");
    }

    #[test]
    fn pages_are_what_room_is_given_out_in() {
        if Path::new("/dev/shm").is_dir() {
            assert_eq!(block_size(Path::new("/dev/shm")), PAGE);
        }
        assert_eq!(block_size(Path::new("/none")), PAGE);
    }

    #[test]
    fn what_has_owners_is_no_trouble() {
        let dir = tempfile::tempdir().unwrap();
        assert!(without_owners(&dir.path().join("not/there")).is_none());
    }

    #[test]
    fn owner_group_and_others() {
        let dir = tempfile::tempdir().unwrap();
        let may = |mode, uid, gid| {
            fs::set_permissions(dir.path(), Permissions::from_mode(mode)).unwrap();
            let found = fs::metadata(dir.path()).unwrap();
            may_write(&found, uid + found.uid(), gid + found.gid())
        };
        assert!(may(0o700, 0, 1) && may(0o070, 1, 0) && may(0o777, 1, 1));
        assert!(!may(0o755, 1, 1) && !may(0o770, 1, 1));
    }
}
