//! There is no heap. Some crates link `alloc` for what they offer beyond what is used here, and `alloc` wants an
//! allocator to exist; this one has nothing to give. An allocation would be a bug, and ends in a panic.

use core::alloc::{GlobalAlloc, Layout};
use core::ptr;

struct NoHeap;

// SAFETY: a null pointer says that an allocation failed, which is always allowed.
unsafe impl GlobalAlloc for NoHeap {
    unsafe fn alloc(&self, _: Layout) -> *mut u8 {
        ptr::null_mut()
    }
    unsafe fn dealloc(&self, _: *mut u8, _: Layout) {}
}

#[global_allocator]
static HEAP: NoHeap = NoHeap;
