//! The heap: a fixed area, for the specification and the book-keeping of start-up.

use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicBool, Ordering};

use talc::TalcLock;
use talc::lock_api::{GuardSend, RawMutex};
use talc::source::Claim;

const SIZE: usize = 1 << 20;

#[repr(C, align(4096))]
struct Area(UnsafeCell<[u8; SIZE]>);
// SAFETY: only the allocator refers to it.
unsafe impl Sync for Area {}

static AREA: Area = Area(UnsafeCell::new([0; SIZE]));

/// The root task has one thread, so a contended lock is a bug; it hangs.
struct OneThread(AtomicBool);

// SAFETY: `try_lock` succeeds for one holder at a time.
unsafe impl RawMutex for OneThread {
    #[allow(clippy::declare_interior_mutable_const, reason = "what the trait asks for")]
    const INIT: Self = Self(AtomicBool::new(false));
    type GuardMarker = GuardSend;

    fn lock(&self) {
        while !self.try_lock() {}
    }

    fn try_lock(&self) -> bool {
        !self.0.swap(true, Ordering::Acquire)
    }

    unsafe fn unlock(&self) {
        self.0.store(false, Ordering::Release);
    }
}

// SAFETY: only the allocator uses the area.
#[global_allocator]
static HEAP: TalcLock<OneThread, Claim> = TalcLock::new(unsafe { Claim::array(AREA.0.get()) });
