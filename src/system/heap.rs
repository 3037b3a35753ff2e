// SPDX-License-Identifier: Apache-2.0
//! The heap. The C library's own rounds each allocation up to a power of two and returns nothing to the system; on a
//! router with 64 MB, what a busy hour needed would be missing until the next restart.
//!
//! What is smaller than half a page goes to dlmalloc. What is larger, the state of sessions and the buffers of messages,
//! gets pages of its own: dlmalloc returns memory only from the end of its heap, where some small record always outlives the
//! session in whose time it was made. Freed pages are kept for the next session until [`give_back`].

use std::alloc::{GlobalAlloc, Layout};
use std::num::NonZeroUsize;
use std::ptr::{self, NonNull};
use std::sync::Mutex;

use dlmalloc::{Allocator, Dlmalloc};
use nix::sys::mman::{MapFlags, ProtFlags, mmap_anonymous, munmap};

use super::lock;

/// Bytes of a page, on nearly all kernels of OpenWrt. On one with larger pages an allocation wastes the rest of its last.
const PAGE: usize = 4096;
/// From how many bytes on an allocation gets pages of its own: the state of a session is larger, and the nodes of the tables
/// of queued mail are smaller.
const LARGE_FROM: usize = 2048;
/// Freed runs of up to this many pages are kept.
const KEPT: usize = 8;

static SMALL: Mutex<Dlmalloc<Kernel>> = Mutex::new(Dlmalloc::new_with_allocator(Kernel));
static RUNS: Mutex<Runs> = Mutex::new(Runs([const { None }; KEPT]));

/// The allocator of the program; main.rs declares it.
pub struct Heap;

// SAFETY: dlmalloc keeps the contract of GlobalAlloc for the sizes and alignments that it is given, and runs of pages are
// mappings that nobody else uses; locks make each call exclusive, and locking allocates nothing.
unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        match pages_of(layout) {
            // SAFETY: the caller vouches for the layout, here and below.
            None => unsafe { lock(&SMALL).malloc(layout.size(), layout.align()) },
            Some(pages) => lock(&RUNS).take(pages).unwrap_or_else(|| map(pages)),
        }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        match pages_of(layout) {
            // SAFETY: see alloc.
            None => unsafe { lock(&SMALL).calloc(layout.size(), layout.align()) },
            Some(pages) => match lock(&RUNS).take(pages) {
                Some(run) => {
                    // SAFETY: the run has at least as many bytes, and nobody else uses it.
                    unsafe { run.write_bytes(0, layout.size()) };
                    run
                }
                None => map(pages),
            },
        }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        match pages_of(layout) {
            // SAFETY: the caller vouches that it was allocated here with this layout.
            None => unsafe { lock(&SMALL).free(place, layout.size(), layout.align()) },
            Some(pages) => {
                // SAFETY: see above; then it is a run of as many pages.
                if !unsafe { lock(&RUNS).keep(place, pages) } {
                    unmap(place, pages);
                }
            }
        }
    }

    unsafe fn realloc(&self, place: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: the caller vouches that the new size is valid for the alignment.
        let new = unsafe { Layout::from_size_align_unchecked(size, layout.align()) };
        match (pages_of(layout), pages_of(new)) {
            // SAFETY: see dealloc.
            (None, None) => unsafe { lock(&SMALL).realloc(place, layout.size(), layout.align(), size) },
            (Some(before), Some(after)) if before == after => place,
            // SAFETY: both places have the bytes that are copied, and do not overlap.
            _ => unsafe {
                let moved = self.alloc(new);
                if !moved.is_null() {
                    ptr::copy_nonoverlapping(place, moved, layout.size().min(size));
                    self.dealloc(place, layout);
                }
                moved
            },
        }
    }
}

/// The number of pages that an allocation gets for itself, if it does. Alignments beyond a page are dlmalloc's.
fn pages_of(layout: Layout) -> Option<usize> {
    (layout.size() >= LARGE_FROM && layout.align() <= PAGE).then(|| layout.size().div_ceil(PAGE))
}

/// Freed runs of pages, by their length: each a list whose links lie in the runs.
struct Runs([Option<NonNull<FreeRun>>; KEPT]);

/// The beginning of a freed run.
struct FreeRun {
    next: Option<NonNull<FreeRun>>,
}

// SAFETY: the lists belong to whoever has the lock, and no run in them is used by anybody.
unsafe impl Send for Runs {}

impl Runs {
    fn list(&mut self, pages: usize) -> Option<&mut Option<NonNull<FreeRun>>> {
        self.0.get_mut(pages.checked_sub(1)?)
    }

    fn take(&mut self, pages: usize) -> Option<*mut u8> {
        let list = self.list(pages)?;
        let run = (*list)?;
        // SAFETY: what is in the list was written by `keep`, and has not been used since.
        *list = unsafe { run.as_ref() }.next;
        Some(run.as_ptr().cast())
    }

    /// Keeps a freed run for the next allocation of its length. False if it is too long.
    ///
    /// # Safety
    /// `place` is a run of `pages` pages that nobody uses.
    unsafe fn keep(&mut self, place: *mut u8, pages: usize) -> bool {
        let Some((list, run)) = self.list(pages).zip(NonNull::new(place.cast::<FreeRun>())) else { return false };
        // SAFETY: the caller vouches for the run, which begins at a page and so has the alignment.
        unsafe { run.write(FreeRun { next: *list }) };
        *list = Some(run);
        true
    }
}

/// Pages of the kernel, zeroed; null if there are none.
fn map(pages: usize) -> *mut u8 {
    let Some(length) = pages.checked_mul(PAGE).and_then(NonZeroUsize::new) else { return ptr::null_mut() };
    // SAFETY: a new anonymous mapping at a place that the kernel chooses overlaps nothing.
    let mapped =
        unsafe { mmap_anonymous(None, length, ProtFlags::PROT_READ | ProtFlags::PROT_WRITE, MapFlags::MAP_PRIVATE) };
    mapped.map_or(ptr::null_mut(), |place| place.as_ptr().cast())
}

fn unmap(place: *mut u8, pages: usize) -> bool {
    // SAFETY: called for mappings that nobody uses any more, or parts of such.
    NonNull::new(place).is_some_and(|place| unsafe { munmap(place.cast(), pages.saturating_mul(PAGE)) }.is_ok())
}

/// Where dlmalloc gets its memory. It is never moved by `mremap`, as the crate's own version does it: the program for
/// little-endian MIPS ended in the middle of long answers under qemu-user 7.2 then.
struct Kernel;

// SAFETY: each region is a mapping of its own or the rest of one, private, zeroed and not used by anybody else.
unsafe impl Allocator for Kernel {
    fn alloc(&self, size: usize) -> (*mut u8, usize, u32) {
        let pages = size.div_ceil(PAGE);
        (map(pages), pages.saturating_mul(PAGE), 0)
    }

    fn remap(&self, _: *mut u8, _: usize, _: usize, _: bool) -> *mut u8 {
        ptr::null_mut()
    }

    /// On a kernel with larger pages it may refuse to free a part of one, which dlmalloc keeps then.
    fn free_part(&self, place: *mut u8, old: usize, new: usize) -> bool {
        old.checked_sub(new).is_some_and(|rest| self.free(place.wrapping_add(new), rest))
    }

    fn free(&self, place: *mut u8, size: usize) -> bool {
        unmap(place, size.div_ceil(PAGE))
    }

    fn can_release_part(&self, _: u32) -> bool {
        true
    }

    fn allocates_zeros(&self) -> bool {
        true
    }

    fn page_size(&self) -> usize {
        PAGE
    }
}

/// Returns memory that is not used to the system. Takes microseconds.
pub fn give_back() {
    // SAFETY: trimming touches only memory that is not allocated, and the lock is held.
    unsafe { lock(&SMALL).trim(0) };
    for pages in 1..=KEPT {
        while let Some(run) = { lock(&RUNS).take(pages) } {
            unmap(run, pages);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(size: usize, align: usize) -> Layout {
        Layout::from_size_align(size, align).unwrap()
    }

    #[test]
    fn what_is_allocated_can_be_used_grown_shrunk_and_freed() {
        let sizes = [1, 1000, LARGE_FROM - 1, LARGE_FROM, PAGE - 1, PAGE, PAGE + 1, 3 * PAGE, KEPT * PAGE, 1_000_000];
        for (from, to) in sizes.iter().flat_map(|from| sizes.iter().map(move |to| (*from, *to))) {
            for align in [1, 8, 64, PAGE, 4 * PAGE] {
                let both = from.min(to);
                // SAFETY: the pointers are used within their sizes, and freed once with the layout of their allocation.
                unsafe {
                    let place = Heap.alloc(bytes(from, align));
                    assert!(!place.is_null() && (place as usize).is_multiple_of(align));
                    place.write_bytes(7, from);
                    let moved = Heap.realloc(place, bytes(from, align), to);
                    assert!((moved as usize).is_multiple_of(align));
                    assert!(std::slice::from_raw_parts(moved, both).iter().all(|byte| *byte == 7), "{from} {to}");
                    moved.write_bytes(7, to);
                    Heap.dealloc(moved, bytes(to, align));
                    let zeroed = Heap.alloc_zeroed(bytes(to, align));
                    assert!(std::slice::from_raw_parts(zeroed, to).iter().all(|byte| *byte == 0), "{to}");
                    Heap.dealloc(zeroed, bytes(to, align));
                }
            }
        }
    }

    #[test]
    fn threads_share_it() {
        std::thread::scope(|scope| {
            for mark in 0..4_u8 {
                scope.spawn(move || {
                    for round in 1..2000_usize {
                        let layout = bytes(round * 7, 8);
                        // SAFETY: as above.
                        unsafe {
                            let place = Heap.alloc(layout);
                            place.write_bytes(mark, layout.size());
                            if round % 64 == 0 {
                                give_back();
                            }
                            assert!(std::slice::from_raw_parts(place, layout.size()).iter().all(|byte| *byte == mark));
                            Heap.dealloc(place, layout);
                        }
                    }
                });
            }
        });
    }

    #[test]
    fn freed_memory_goes_back_to_the_system() {
        // What a session makes, and what outlives it.
        let (session, record) = (bytes(7600, 8), bytes(300, 8));
        // SAFETY: as above.
        let pairs: Vec<_> = (0..500).map(|_| unsafe { (Heap.alloc(session), Heap.alloc(record)) }).collect();
        let mapped = || {
            let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
            pairs.iter().filter(|(place, _)| in_a_mapping(&maps, *place as usize)).count()
        };
        assert_eq!(mapped(), 500);
        // SAFETY: as above.
        pairs.iter().for_each(|(place, _)| unsafe { Heap.dealloc(*place, session) });
        give_back();
        // Another thread may have got some of the places meanwhile.
        assert!(mapped() < 250, "{} of 500 places are still mapped", mapped());
        // SAFETY: as above.
        pairs.iter().for_each(|(_, place)| unsafe { Heap.dealloc(*place, record) });
    }

    fn in_a_mapping(maps: &str, place: usize) -> bool {
        maps.lines().filter_map(|line| line.split(' ').next()?.split_once('-')).any(|(from, to)| {
            let bound = |hex| usize::from_str_radix(hex, 16).unwrap();
            (bound(from)..bound(to)).contains(&place)
        })
    }
}
