// SPDX-License-Identifier: Apache-2.0
//! How many bytes JFFS2 programs for what is written to it. The kernel counts neither these bytes nor those that it erases,
//! so this is an estimate by the format on the flash; `tests/router/wear.rs` compares it with what the flash saw.
//!
//! Each page of a file that is written, each name that comes or goes, and each change of length is a node
//! (`include/uapi/linux/jffs2.h`). The content of a page is compressed. A full erase block ends with a summary of its
//! nodes. What the kernel copies to gain erased blocks is not counted, since nothing tells when it does.

use std::fs;
use std::path::Path;
use std::sync::Mutex;

use nix::sys::statfs::statfs;

use crate::system::lock;
use crate::system::publish::{JFFS2, OVERLAY, file_system_number};

/// Bytes of a file that are compressed together.
const PAGE: usize = 4096;
/// Bytes of `struct jffs2_raw_inode`, and of its line in the summary.
const INODE: usize = 68 + 18;
/// Bytes of `struct jffs2_raw_dirent` without the name, and of its line in the summary, which repeats the name.
const NAME: usize = 40 + 24;

/// What is programmed for a directory on JFFS2.
#[derive(Debug)]
pub(super) struct Flash {
    /// Whether the kernel compresses as OpenWrt's do.
    lzma: bool,
    /// Bytes since the program started.
    programmed: Mutex<u64>,
}

impl Flash {
    /// The flash of this directory, if it is on JFFS2, or on an overlay over it.
    pub(super) fn of(directory: &Path) -> Option<Self> {
        let found = statfs(directory).ok()?;
        let is_jffs2 = match file_system_number(&found) {
            JFFS2 => true,
            // An overlay reports the numbers of its upper layer. JFFS2 and UBIFS do not know how many files there may be.
            OVERLAY => found.files() == 0 && is_on_mtd(),
            _ => false,
        };
        let is_openwrt = || fs::read_to_string("/proc/version").is_ok_and(|kernel| kernel.contains("OpenWrt"));
        is_jffs2.then(|| Self::new(is_openwrt()))
    }

    fn new(lzma: bool) -> Self {
        Self { lzma, programmed: Mutex::default() }
    }

    /// Bytes since the program started.
    pub(super) fn programmed(&self) -> u64 {
        *lock(&self.programmed)
    }

    /// A file has been created.
    pub(super) fn created(&self, path: &Path) {
        self.add(INODE);
        self.named(path);
    }

    /// A name has come or gone.
    pub(super) fn named(&self, path: &Path) {
        let length = path.file_name().map_or(0, |name| name.len());
        self.add(NAME.saturating_add(padded(length)).saturating_add(length));
    }

    /// The length of a file has been changed.
    pub(super) fn truncated(&self) {
        self.add(INODE);
    }

    /// These bytes of a file have been written.
    pub(super) fn wrote(&self, offset: u64, bytes: &[u8]) {
        let within = usize::try_from(offset % PAGE as u64).unwrap_or_default();
        let (first, others) = bytes.split_at_checked(PAGE.saturating_sub(within)).unwrap_or((bytes, &[]));
        for piece in std::iter::once(first).chain(others.chunks(PAGE)).filter(|piece| !piece.is_empty()) {
            self.add(INODE.saturating_add(padded(compressed(piece, self.lzma))));
        }
    }

    fn add(&self, bytes: usize) {
        let mut programmed = lock(&self.programmed);
        *programmed = programmed.saturating_add(bytes as u64);
    }
}

/// Whether there is flash without UBI. A router with UBI has UBIFS.
fn is_on_mtd() -> bool {
    let has = |file, word| fs::read_to_string(file).is_ok_and(|text| text.contains(word));
    has("/proc/mtd", "mtd0") && !has("/proc/devices", " ubi0")
}

/// Nodes begin at multiples of four bytes.
fn padded(length: usize) -> usize {
    length.checked_next_multiple_of(4).unwrap_or(length)
}

/// Bytes that a page takes when it is compressed: by LZO, and by zlib what LZO does not make shorter, in the order of most
/// kernels; or by LZMA, which takes about as many bytes as zlib, in OpenWrt's. Found by looking for repetitions as LZO does,
/// and by how evenly the bytes between them are distributed.
fn compressed(page: &[u8], lzma: bool) -> usize {
    let mut known = [0_u16; 2048];
    let mut counts = [0_u16; 256];
    let (mut at, mut alone, mut all_alone, mut matches, mut lzo) = (0_usize, 0_usize, 0_u32, 0_usize, 3_usize);
    while let Some(rest) = page.get(at..).filter(|rest| !rest.is_empty()) {
        let place = rest.first_chunk().map(|four| u32::from_le_bytes(*four).wrapping_mul(0x9e37_79b1) >> 21);
        let slot = place.and_then(|place| known.get_mut(place as usize));
        // Positions are counted from 1: 0 is none.
        let before = slot.map(|slot| std::mem::replace(slot, u16::try_from(at.saturating_add(1)).unwrap_or(0)));
        let before = before.and_then(|before| usize::from(before).checked_sub(1));
        let same =
            before.and_then(|before| Some(page.get(before..)?.iter().zip(rest).take_while(|(a, b)| a == b).count()));
        if let Some(same) = same.filter(|same| *same >= 4) {
            let distance = at.saturating_sub(before.unwrap_or_default());
            // LZO1X: a short match takes two bytes, a longer one three, and one more for each 255 beyond 33.
            let short = same <= 8 && distance <= 2048;
            lzo = lzo.saturating_add(run(alone)).saturating_add(if short { 2 } else { 3 });
            lzo = lzo.saturating_add(same.saturating_sub(33).div_ceil(255));
            (matches, alone) = (matches.saturating_add(1), 0);
            at = at.saturating_add(same);
        } else {
            if let Some(count) = rest.first().and_then(|byte| counts.get_mut(usize::from(*byte))) {
                *count = count.saturating_add(1);
            }
            (alone, all_alone) = (alone.saturating_add(1), all_alone.saturating_add(1));
            at = at.saturating_add(1);
        }
    }
    lzo = lzo.saturating_add(run(alone));
    if !lzma && lzo < page.len() {
        return lzo;
    }
    // Sixteenths of a bit for the bytes between the matches; a byte for each kind of them, and two for a match: with these
    // it agrees with zlib and LZMA within a twentieth for mail of all kinds.
    let bits = |count: u16| u32::from(count).saturating_mul(log2(all_alone).saturating_sub(log2(u32::from(count))));
    let (mut sixteenths, mut kinds) = (0_u32, 0_usize);
    for count in counts.into_iter().filter(|count| *count > 0) {
        sixteenths = sixteenths.saturating_add(bits(count));
        kinds = kinds.saturating_add(1);
    }
    let bytes = usize::try_from(sixteenths / 128).unwrap_or(usize::MAX);
    bytes.saturating_add(matches.saturating_mul(2)).saturating_add(kinds).saturating_add(6).min(page.len())
}

/// What LZO1X needs for bytes that are not in a match: up to three are counted in the match before.
fn run(bytes: usize) -> usize {
    let count = match bytes {
        0..=3 => 0,
        4..=18 => 1,
        _ => bytes.saturating_sub(18).div_ceil(255).saturating_add(1),
    };
    bytes.saturating_add(count)
}

/// The binary logarithm of a number, in sixteenths.
fn log2(number: u32) -> u32 {
    let Some(whole) = number.checked_ilog2() else { return 0 };
    let part = (u64::from(number) << 4 >> whole) & 15;
    whole.saturating_mul(16).saturating_add(part as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The sizes are those of lzo 2.10 (LZO1X-1), zlib 1.3 (level 3) and LZMA of xz 5.4 as OpenWrt's kernel sets it.
    #[test]
    fn sizes_are_near_those_of_the_real_ones() {
        let licence = include_bytes!("../../../LICENSE");
        let mut number = 0x9e37_79b9_u32;
        let random: Vec<u8> = std::iter::repeat_with(|| {
            number ^= number << 13;
            number ^= number >> 17;
            number ^= number << 5;
            number as u8
        })
        .take(3072)
        .collect();
        let base64 = crate::message::base64(&random);
        let alarm = "Pump 3 has stopped, and the tank is half empty.\r\n".repeat(20);
        // By LZO, where that makes it shorter, otherwise by zlib; by LZMA.
        let cases: [(&str, &[u8], usize, usize); 5] = [
            ("a page of English", &licence[..4096], 2229, 1524),
            ("a kilobyte of English", &licence[4096..5120], 749, 528),
            ("a line twenty times", alarm.as_bytes(), 85, 64),
            ("base64", base64.as_bytes(), 3117, 3201),
            ("no pattern at all", &random, 3072, 3072),
        ];
        for (name, bytes, usual, openwrt) in cases {
            for (lzma, real) in [(false, usual), (true, openwrt)] {
                let (estimate, node) = (compressed(bytes, lzma) + INODE, real + INODE);
                assert!(estimate.abs_diff(node) <= node / 10 + 16, "{name}, LZMA {lzma}: {estimate} for {node}");
            }
        }
    }

    #[test]
    fn each_page_and_each_name_is_a_node() {
        let flash = Flash::new(false);
        let spent = |work: &dyn Fn()| {
            let before = flash.programmed();
            work();
            usize::try_from(flash.programmed() - before).unwrap()
        };
        // The name takes 14 bytes, 16 in its node.
        let path = Path::new("/flash/0123456789.msg");
        assert_eq!(spent(&|| flash.created(path)), INODE + NAME + 16 + 14);
        assert_eq!(spent(&|| flash.named(path)), NAME + 16 + 14);
        assert_eq!(spent(&|| flash.truncated()), INODE);
        assert_eq!(spent(&|| flash.wrote(0, b"")), 0);
        assert_eq!(spent(&|| flash.wrote(0, b"abcde")), INODE + 8);
        assert_eq!(spent(&|| flash.wrote(PAGE as u64 - 5, b"abcde")), INODE + 8);
        assert_eq!(spent(&|| flash.wrote(PAGE as u64 - 2, b"abcde")), INODE + 4 + INODE + 4);
        assert!(spent(&|| flash.wrote(0, &[b'x'; 3 * PAGE])) < 3 * (INODE + 100));
    }

    #[test]
    fn what_is_no_flash_is_not_counted() {
        assert!(Flash::of(tempfile::tempdir().unwrap().path()).is_none());
        assert!(Flash::of(Path::new("/nowhere/at/all")).is_none());
    }
}
