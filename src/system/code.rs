// SPDX-License-Identifier: Apache-2.0
//! The memory that holds the program's own code and constants. The kernel reads them from the file, and keeps what has run,
//! with what lies around it, in reach of the process for as long as nothing presses: after a burst that is several hundred KB,
//! of code that may not run again for days.

use std::ptr::NonNull;

use nix::sys::mman::{MmapAdvise, madvise};

unsafe extern "C" {
    /// The first byte of the program in memory, and the one behind its code. From the linker.
    static __executable_start: u8;
    static etext: u8;
}

/// The whole pages of the program that are mapped from its file and never written to: `None` if the linker has placed
/// something else there.
fn pages(page: usize) -> Option<(NonNull<u8>, usize)> {
    let (begin, end) = (&raw const __executable_start, &raw const etext);
    let length = end.addr().checked_sub(begin.addr())?;
    let is_whole = begin.addr().is_multiple_of(page);
    NonNull::new(begin.cast_mut()).filter(|_| is_whole).map(|begin| (begin, length - length % page))
}

/// Code and constants are the first thing that the kernel takes when it needs memory, and belong to the process again,
/// without being read again, when they are used before that. What is needed while nothing happens is back at once. Takes
/// microseconds, and as much again until the code is back in reach: sixteen pages at a time.
pub fn put_aside() {
    // Pages of 4 KB divide those of any kernel. Where they are larger the end does not fit, and the kernel rounds it up: beyond
    // the code there would be data, so then nothing is done.
    let page = nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE).ok().flatten();
    let Some((begin, length)) = page.and_then(|page| pages(usize::try_from(page).ok()?)) else { return };
    for advice in [MmapAdvise::MADV_COLD, MmapAdvise::MADV_DONTNEED] {
        // SAFETY: the pages are those of a file which is mapped privately, and nothing has been written to them: their content
        // is read from there again. A kernel older than 5.4 does not know the first advice: that does no harm.
        let _ = unsafe { madvise(begin.cast(), length, advice) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// KB in memory of the mapping of the program's code.
    fn resident() -> usize {
        let maps = std::fs::read_to_string("/proc/self/smaps").unwrap();
        let here = resident as *const () as usize;
        let covers = |line: &&str| {
            let bound = |hex: &str| usize::from_str_radix(hex, 16);
            let ends = line.split(' ').next().and_then(|range| range.split_once('-'));
            ends.is_some_and(|(from, to)| {
                bound(from).is_ok_and(|from| from <= here) && bound(to).is_ok_and(|to| here < to)
            })
        };
        let mut lines = maps.lines().skip_while(|line| !covers(line));
        let rss = lines.find_map(|line| line.strip_prefix("Rss:")).unwrap();
        rss.trim().trim_end_matches(" kB").parse().unwrap()
    }

    #[test]
    fn code_that_does_not_run_is_put_aside_and_comes_back() {
        let (begin, length) = pages(4096).unwrap();
        let read = || {
            // SAFETY: these are pages of the program, which can be read.
            let bytes = (0..length).step_by(4096).map(|at| unsafe { begin.as_ptr().add(at).read_volatile() });
            bytes.fold(0_u64, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte.into()))
        };
        let (content, all) = (read(), resident());
        put_aside();
        // Other tests run at the same time, and need some of it.
        let left = resident();
        assert!(left < all / 2, "{left} of {all} KB");
        assert_eq!(read(), content);
    }
}
