// SPDX-License-Identifier: Apache-2.0
//! The heap. The C library's own rounds each allocation up to a power of two and returns nothing to the system; on a
//! router with 64 MB, what a busy hour needed would be missing until the next restart.
//!
//! What is smaller than 16 KB goes to dlmalloc: records, the state of sessions, short buffers. They lie close
//! together, and what one session has freed serves the next for something of another length. In front of it are the shortest
//! records that were freed last, a few of each length: a message takes and frees some four hundred, and dlmalloc would join
//! each with its neighbours only to divide it again. What is larger, the buffers of messages, gets pages of its own, which are kept for the next message. dlmalloc by itself returns memory only from the
//! end of its heap, where some small record always outlives the session in whose time it was made; [`give_back`] returns
//! all whole pages that are free.

use std::alloc::{GlobalAlloc, Layout};
use std::num::NonZeroUsize;
use std::ptr::{self, NonNull};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use dlmalloc::{Allocator, Dlmalloc};
use nix::sys::mman::{MapFlags, MmapAdvise, ProtFlags, madvise, mmap_anonymous, munmap};

use super::{code, lock};

/// Bytes of a page, on nearly all kernels of OpenWrt. On one with larger pages an allocation wastes the rest of its last.
const PAGE: usize = 4096;
/// From how many bytes on an allocation gets pages of its own. With half a page, the state of a session of 5.9 KB took 8, and
/// a buffer that grows left a run of each length behind: 50 devices took 0.7 MB more. With twice as much, dlmalloc needs a new
/// region for each few messages.
const LARGE_FROM: usize = 16 << 10;
/// Freed runs of up to this many pages are kept.
const KEPT: usize = 8;
/// Pages that are kept at most, what a dozen messages need at the same time.
const KEPT_PAGES: usize = 64;

/// The bytes that dlmalloc puts before each record, and the multiple to which it rounds the length with them.
const BEFORE: usize = size_of::<usize>();
const STEP: usize = 2 * BEFORE;
/// Lengths of the records that are kept when they are freed, in steps; and how many bytes of each length.
const SHORT: usize = 256 / STEP;
const KEPT_BYTES: usize = 256;

static SMALL: Mutex<Small> = Mutex::new(Small::new());
static RUNS: Mutex<Runs> = Mutex::new(Runs { lists: [const { None }; KEPT], pages: 0 });

/// The allocator of the program; main.rs declares it.
pub struct Heap;

// SAFETY: dlmalloc keeps the contract of GlobalAlloc for the sizes and alignments that it is given, and runs of pages are
// mappings that nobody else uses; locks make each call exclusive, and locking allocates nothing.
unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        match pages_of(layout) {
            // SAFETY: the caller vouches for the layout, here and below.
            None => unsafe { lock(&SMALL).alloc(layout) },
            Some(pages) => lock(&RUNS).take(pages).unwrap_or_else(|| map(pages)),
        }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        match pages_of(layout) {
            // SAFETY: see alloc.
            None => unsafe { lock(&SMALL).heap.calloc(layout.size(), layout.align()) },
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
            None => unsafe { lock(&SMALL).free(place, layout) },
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
            (None, None) => {
                let mut small = lock(&SMALL);
                small.returned = small.returned.saturating_add(layout.size());
                // SAFETY: see dealloc.
                unsafe { small.heap.realloc(place, layout.size(), layout.align(), size) }
            }
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

/// dlmalloc, and in front of it freed records by their length: each a list whose links lie in the records.
struct Small {
    heap: Dlmalloc<Kernel>,
    freed: [Freed; SHORT + 1],
    /// Bytes that dlmalloc got back since [`hollow`] was called last, or may have got back.
    returned: usize,
}

#[derive(Clone, Copy)]
struct Freed {
    first: Option<NonNull<FreeRun>>,
    bytes: usize,
}

// SAFETY: the lists belong to whoever has the lock, and no record in them is used by anybody.
unsafe impl Send for Small {}

/// Bytes of dlmalloc's piece for a record, in steps. Records of the same have room for each other, and dlmalloc accepts either
/// length when one is grown or freed. Two steps are the shortest piece that it has.
fn steps_of(layout: Layout) -> usize {
    match layout.align() <= STEP {
        true => layout.size().saturating_add(BEFORE).div_ceil(STEP).max(2),
        false => usize::MAX,
    }
}

impl Small {
    const fn new() -> Self {
        Self {
            heap: Dlmalloc::new_with_allocator(Kernel),
            freed: [Freed { first: None, bytes: 0 }; SHORT + 1],
            returned: 0,
        }
    }

    /// # Safety
    /// The layout is valid, and its size is not zero.
    unsafe fn alloc(&mut self, layout: Layout) -> *mut u8 {
        match self.take(steps_of(layout)) {
            Some(record) => record.as_ptr().cast(),
            // SAFETY: the caller vouches for the layout.
            None => unsafe { self.heap.malloc(layout.size(), layout.align()) },
        }
    }

    /// A freed record of so many steps.
    fn take(&mut self, steps: usize) -> Option<NonNull<FreeRun>> {
        let freed = self.freed.get_mut(steps)?;
        let record = freed.first?;
        // SAFETY: what is in the list was written by `free`, and has not been used since.
        freed.first = unsafe { record.as_ref() }.next;
        freed.bytes = freed.bytes.saturating_sub(steps.saturating_mul(STEP));
        Some(record)
    }

    /// # Safety
    /// `place` was allocated here with this layout, and nobody uses it any more.
    unsafe fn free(&mut self, place: *mut u8, layout: Layout) {
        let steps = steps_of(layout);
        if let Some(freed) = self.freed.get_mut(steps)
            && freed.bytes < KEPT_BYTES
            && let Some(record) = NonNull::new(place.cast::<FreeRun>())
        {
            // SAFETY: the shortest record has room for a link and is aligned for it.
            unsafe { record.write(FreeRun { next: freed.first }) };
            freed.first = Some(record);
            freed.bytes = freed.bytes.saturating_add(steps.saturating_mul(STEP));
            return;
        }
        self.returned = self.returned.saturating_add(layout.size());
        // SAFETY: the caller vouches for it.
        unsafe { self.heap.free(place, layout.size(), layout.align()) };
    }

    /// Gives the freed records to dlmalloc.
    fn give_back(&mut self) {
        for steps in 0..self.freed.len() {
            while let Some(record) = self.take(steps) {
                // SAFETY: dlmalloc has allocated it with the smallest alignment, for a length of as many steps.
                unsafe { self.heap.free(record.as_ptr().cast(), steps * STEP - BEFORE, BEFORE) };
            }
        }
    }
}

/// Freed runs of pages, by their length: each a list whose links lie in the runs.
struct Runs {
    lists: [Option<NonNull<FreeRun>>; KEPT],
    /// Pages in all of them.
    pages: usize,
}

/// The beginning of a freed run, or of a freed record.
struct FreeRun {
    next: Option<NonNull<FreeRun>>,
}

// SAFETY: the lists belong to whoever has the lock, and no run in them is used by anybody.
unsafe impl Send for Runs {}

impl Runs {
    fn list(&mut self, pages: usize) -> Option<&mut Option<NonNull<FreeRun>>> {
        self.lists.get_mut(pages.checked_sub(1)?)
    }

    fn take(&mut self, pages: usize) -> Option<*mut u8> {
        let list = self.list(pages)?;
        let run = (*list)?;
        // SAFETY: what is in the list was written by `keep`, and has not been used since.
        *list = unsafe { run.as_ref() }.next;
        self.pages = self.pages.saturating_sub(pages);
        Some(run.as_ptr().cast())
    }

    /// Keeps a freed run for the next allocation of its length. False if it is too long, or enough are kept.
    ///
    /// # Safety
    /// `place` is a run of `pages` pages that nobody uses.
    unsafe fn keep(&mut self, place: *mut u8, pages: usize) -> bool {
        let all = self.pages.saturating_add(pages);
        if all > KEPT_PAGES {
            return false;
        }
        let Some((list, run)) = self.list(pages).zip(NonNull::new(place.cast::<FreeRun>())) else { return false };
        // SAFETY: the caller vouches for the run, which begins at a page and so has the alignment.
        unsafe { run.write(FreeRun { next: *list }) };
        *list = Some(run);
        self.pages = all;
        true
    }
}

/// Pages of the kernel, zeroed; null if there are none.
fn map(pages: usize) -> *mut u8 {
    let Some(length) = pages.checked_mul(PAGE).and_then(NonZeroUsize::new) else { return ptr::null_mut() };
    TOOK.fetch_add(pages, Ordering::Relaxed);
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
        if FROM_ITS_OWN.load(Ordering::Relaxed) {
            return (ptr::null_mut(), 0, 0);
        }
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

/// While it is set, dlmalloc gets no memory of the system. Whoever sets it has the lock of [`SMALL`].
static FROM_ITS_OWN: AtomicBool = AtomicBool::new(false);
/// From how many bytes on that dlmalloc got back [`hollow`] is called. What a burst took may be freed long after it, when no more
/// is taken, so that does not count.
const WORTH_IT: usize = 32 << 10;
/// Pages that were taken from the system since the last [`give_back`].
static TOOK: AtomicUsize = AtomicUsize::new(0);
/// From how many such pages on it was a burst: 512 KB, of thirty messages or so at the same time.
const BURST: usize = 128;
/// Whether there was one since nothing was taken last.
static BURST_BEFORE: AtomicBool = AtomicBool::new(false);
/// The longest piece between records that [`hollow`] looks for, and by how much the next one is shorter. What a burst leaves
/// is shorter; and where dlmalloc divides a piece, it writes to one more page of it.
const LONGEST_PIECE: usize = 64 << 10;
const SHORTER: usize = 512;

/// Returns memory that is not used to the system. Takes microseconds, after a burst some hundred. Called every few seconds.
pub fn give_back() {
    let took = TOOK.swap(0, Ordering::Relaxed);
    {
        let mut small = lock(&SMALL);
        small.give_back();
        // SAFETY: trimming touches only memory that is not allocated, and the lock is held.
        unsafe { small.heap.trim(0) };
        if small.returned >= WORTH_IT {
            small.returned = 0;
            hollow(&mut small.heap);
        }
    }
    for pages in 1..=KEPT {
        while let Some(run) = { lock(&RUNS).take(pages) } {
            unmap(run, pages);
        }
    }
    // Until a whole interval was quiet, since the burst may go on with the memory that it has.
    let burst = took >= BURST || BURST_BEFORE.load(Ordering::Relaxed);
    if burst {
        code::put_aside();
    }
    BURST_BEFORE.store(burst && took > 0, Ordering::Relaxed);
}

/// Returns the whole pages between records. dlmalloc itself returns regions that are empty and the end of the last one, but
/// after a burst each region has some record that stays. The free pieces are allocated, the longest first, and freed again:
/// so their pages are known, and dlmalloc writes to none but the first and the last of a piece.
fn hollow(small: &mut Dlmalloc<Kernel>) {
    FROM_ITS_OWN.store(true, Ordering::Relaxed);
    let mut pieces: Option<NonNull<Piece>> = None;
    let mut size = LONGEST_PIECE;
    while size > PAGE {
        // SAFETY: the size is not zero and the alignment one that dlmalloc gives anyway; the lock is held.
        let place = unsafe { small.malloc(size, align_of::<Piece>()) };
        let Some(piece) = NonNull::new(place.cast::<Piece>()) else {
            size -= SHORTER;
            continue;
        };
        // SAFETY: the piece is longer than this, and aligned for it.
        unsafe { piece.write(Piece { next: pieces, size }) };
        pieces = Some(piece);
        drop_pages(place.wrapping_add(size_of::<Piece>()), size - size_of::<Piece>());
    }
    while let Some(piece) = pieces {
        // SAFETY: it was allocated and written above, with this size and alignment.
        unsafe {
            let Piece { next, size } = piece.read();
            pieces = next;
            small.free(piece.as_ptr().cast(), size, align_of::<Piece>());
        }
    }
    FROM_ITS_OWN.store(false, Ordering::Relaxed);
}

/// The beginning of a piece that [`hollow`] has.
struct Piece {
    next: Option<NonNull<Piece>>,
    size: usize,
}

/// The whole pages in this memory are zeroed when they are used the next time, and take none until then.
fn drop_pages(place: *mut u8, size: usize) {
    let begin = place.wrapping_add(place.align_offset(PAGE));
    let end = place.wrapping_add(size).addr() & !(PAGE - 1);
    let length = end.saturating_sub(begin.addr());
    if let Some(begin) = NonNull::new(begin).filter(|_| length > 0) {
        // SAFETY: the caller has this memory and needs nothing of what is in it. Larger pages of a kernel that has them make
        // this fail, since `begin` lies within one; the memory is kept then.
        let _ = unsafe { madvise(begin.cast(), length, MmapAdvise::MADV_DONTNEED) };
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
    fn short_records_are_used_again_by_those_that_fit() {
        let mut small = Small::new();
        for size in 1..=300_usize {
            for other in (size.saturating_sub(STEP)..=size + STEP).filter(|other| *other > 0) {
                let same = steps_of(bytes(size, 1)) == steps_of(bytes(other, 1));
                // SAFETY: as above.
                unsafe {
                    let place = small.alloc(bytes(size, 1));
                    place.write_bytes(7, size);
                    small.free(place, bytes(size, 1));
                    let again = small.alloc(bytes(other, 1));
                    again.write_bytes(8, other);
                    if same && size <= SHORT * STEP - BEFORE {
                        assert_eq!(again, place, "{size} {other}");
                    }
                    // dlmalloc checks the length.
                    let grown = small.heap.realloc(again, other, 1, other + 100);
                    small.free(grown, bytes(other + 100, 1));
                    small.give_back();
                }
            }
        }
    }

    #[test]
    fn of_the_records_that_are_freed_some_are_kept() {
        let mut small = Small::new();
        let all = 1..400_usize;
        // SAFETY: as above.
        let places: Vec<_> =
            all.map(|size| (0..20).map(|_| unsafe { small.alloc(bytes(size, 8)) }).collect()).collect();
        for (places, size) in places.iter().zip(1..) {
            let places: &Vec<*mut u8> = places;
            // SAFETY: as above.
            places.iter().for_each(|place| unsafe { small.free(*place, bytes(size, 8)) });
        }
        let kept: usize = small.freed.iter().map(|freed| freed.bytes).sum();
        assert!(kept > 1000 && kept <= (SHORT + 1) * 2 * KEPT_BYTES, "{kept}");
        small.give_back();
        assert!(small.freed.iter().all(|freed| freed.bytes == 0 && freed.first.is_none()));
    }

    #[test]
    fn of_the_runs_that_are_freed_some_are_kept() {
        let mut runs = Runs { lists: [const { None }; KEPT], pages: 0 };
        let kept: Vec<usize> = (1..=KEPT + 1)
            .cycle()
            .take(100)
            .filter(|pages| {
                let place = map(*pages);
                // SAFETY: it is new, and nobody else uses it.
                let kept = unsafe { runs.keep(place, *pages) };
                assert!(kept || unmap(place, *pages));
                kept
            })
            .collect();
        assert!(kept.iter().all(|pages| *pages <= KEPT));
        assert_eq!((kept.iter().sum::<usize>(), runs.pages), (KEPT_PAGES, KEPT_PAGES));
        let taken =
            |runs: &mut Runs, pages| std::iter::from_fn(|| runs.take(pages)).filter(|run| unmap(*run, pages)).count();
        let again: usize = (1..=KEPT).map(|pages| pages * taken(&mut runs, pages)).sum();
        assert_eq!((again, runs.pages), (KEPT_PAGES, 0));
    }

    #[test]
    fn freed_memory_goes_back_to_the_system() {
        // What a message needs, and what outlives it.
        let (message, record) = (bytes(17_000, 8), bytes(300, 8));
        // SAFETY: as above.
        let pairs: Vec<_> = (0..500).map(|_| unsafe { (Heap.alloc(message), Heap.alloc(record)) }).collect();
        let mapped = || {
            let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
            pairs.iter().filter(|(place, _)| in_a_mapping(&maps, *place as usize)).count()
        };
        assert_eq!(mapped(), 500);
        // SAFETY: as above.
        pairs.iter().for_each(|(place, _)| unsafe { Heap.dealloc(*place, message) });
        give_back();
        // Another thread may have got some of the places meanwhile.
        assert!(mapped() < 250, "{} of 500 places are still mapped", mapped());
        // SAFETY: as above.
        pairs.iter().for_each(|(_, place)| unsafe { Heap.dealloc(*place, record) });
    }

    #[test]
    fn pages_between_records_go_back_to_the_system() {
        // What lasts as long as a session, and what outlives some of them.
        let (buffer, record) = (bytes(1500, 8), bytes(40, 8));
        // SAFETY: as above.
        let places: Vec<_> = (0..4000)
            .map(|number| unsafe {
                let place = Heap.alloc(buffer);
                place.write_bytes(7, 1500);
                (place, (number % 10 == 0).then(|| Heap.alloc(record)))
            })
            .collect();
        // SAFETY: as above.
        places.iter().filter_map(|(_, kept)| *kept).for_each(|kept| unsafe { kept.write_bytes(9, 40) });
        let pages: std::collections::BTreeSet<usize> = places.iter().map(|(place, _)| *place as usize / PAGE).collect();
        let map = std::fs::File::open("/proc/self/pagemap").unwrap();
        let present = || {
            let is_present = |page: &&usize| {
                let mut entry = [0; 8];
                std::os::unix::fs::FileExt::read_exact_at(&map, &mut entry, **page as u64 * 8).unwrap();
                u64::from_ne_bytes(entry) >> 63 == 1
            };
            pages.iter().filter(is_present).count()
        };
        let before = present();
        // Nothing is taken from the system between this and the next.
        give_back();
        // SAFETY: as above.
        places.iter().for_each(|(place, _)| unsafe { Heap.dealloc(*place, buffer) });
        give_back();
        // Another thread may have got some of the places meanwhile.
        assert!(present() < before / 2, "{} of {before} pages are still there", present());
        for kept in places.iter().filter_map(|(_, kept)| *kept) {
            // SAFETY: as above.
            unsafe {
                assert!(std::slice::from_raw_parts(kept, 40).iter().all(|byte| *byte == 9));
                Heap.dealloc(kept, record);
            }
        }
    }

    fn in_a_mapping(maps: &str, place: usize) -> bool {
        maps.lines().filter_map(|line| line.split(' ').next()?.split_once('-')).any(|(from, to)| {
            let bound = |hex| usize::from_str_radix(hex, 16).unwrap();
            (bound(from)..bound(to)).contains(&place)
        })
    }
}
