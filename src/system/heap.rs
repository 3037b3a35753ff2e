// SPDX-License-Identifier: Apache-2.0
//! The heap: dlmalloc, behind one lock. The C library's own rounds each allocation up to a power of two and returns
//! nothing to the system; on a router with 64 MB, what a busy hour needed would be missing until the next restart.

use std::alloc::{GlobalAlloc, Layout};
use std::sync::Mutex;

use dlmalloc::Dlmalloc;

use super::lock;

static HEAP: Mutex<Dlmalloc> = Mutex::new(Dlmalloc::new());

/// The allocator of the program; main.rs declares it.
pub struct Heap;

// SAFETY: dlmalloc keeps the contract of GlobalAlloc for the sizes and alignments that it is given; the lock makes each
// call exclusive, and locking allocates nothing.
unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller vouches for the layout, here and below.
        unsafe { lock(&HEAP).malloc(layout.size(), layout.align()) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: see alloc.
        unsafe { lock(&HEAP).calloc(layout.size(), layout.align()) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        // SAFETY: the caller vouches that it was allocated here with this layout.
        unsafe { lock(&HEAP).free(place, layout.size(), layout.align()) }
    }

    unsafe fn realloc(&self, place: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: see dealloc.
        unsafe { lock(&HEAP).realloc(place, layout.size(), layout.align(), size) }
    }
}

/// Returns memory that is not used to the system. Takes microseconds; by itself the allocator keeps up to 2 MB.
pub fn give_back() {
    // SAFETY: trimming touches only memory that is not allocated, and the lock is held.
    unsafe { lock(&HEAP).trim(0) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_allocated_can_be_used_grown_and_freed() {
        for align in [1, 8, 64, 4096] {
            let layout = Layout::from_size_align(1000, align).unwrap();
            // SAFETY: the pointers are used within their sizes, and freed once with the layout of their allocation.
            unsafe {
                let place = Heap.alloc(layout);
                assert!(!place.is_null() && (place as usize).is_multiple_of(align));
                place.write_bytes(7, 1000);
                let grown = Heap.realloc(place, layout, 100_000);
                assert!((0..1000).all(|at| *grown.add(at) == 7));
                Heap.dealloc(grown, Layout::from_size_align(100_000, align).unwrap());
                let zeroed = Heap.alloc_zeroed(layout);
                assert!((0..1000).all(|at| *zeroed.add(at) == 0));
                Heap.dealloc(zeroed, layout);
            }
        }
        give_back();
    }
}
