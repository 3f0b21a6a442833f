//! There is no heap. Some crates link `alloc` for features that are not used here, and `alloc` needs an allocator; this
//! one always fails. An allocation would be a bug, and panics.

use core::alloc::{GlobalAlloc, Layout};
use core::ptr;

struct NoHeap;

// SAFETY: a null pointer means that the allocation failed, which is always allowed.
unsafe impl GlobalAlloc for NoHeap {
    unsafe fn alloc(&self, _: Layout) -> *mut u8 {
        ptr::null_mut()
    }
    unsafe fn dealloc(&self, _: *mut u8, _: Layout) {}
}

#[global_allocator]
static HEAP: NoHeap = NoHeap;
