//! A window of memory that another domain (a guest, a client, a server) may change at any time.
//!
//! Every access is an `asm!` block, which the compiler cannot split, repeat or omit: it can neither read a byte twice
//! nor assume that a byte still has its last value. An aligned scalar access is one MOV, so it is atomic (Intel SDM
//! volume 3, section 9.1.1); copies are REP MOVSQ, the fastest copy with that guarantee, and are not atomic. It leaves
//! out ordering beyond x86's own: a caller that needs a store-load fence adds one.

use core::arch::asm;
use core::ptr;

/// The access does not lie inside the window; nothing was read or written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutOfRange;

/// Memory shared with another domain. A copy of a `Window` refers to the same memory.
#[derive(Clone, Copy, Debug)]
pub struct Window {
    base: *mut u8,
    len: u64,
    /// Below this offset at least eight bytes are inside the window, so one comparison checks a scalar access.
    inner: u64,
}

// SAFETY: the memory may change during any access in any case, so it makes no difference which thread accesses it.
unsafe impl Send for Window {}

/// Scalar accesses of one width, at any alignment.
macro_rules! scalar {
    ($read:ident, $write:ident, $int:ty, $load:literal, $store:literal, $class:ident) => {
        #[doc = concat!("Reads a little-endian `", stringify!($int), "` at offset `at`; atomic where aligned.")]
        #[inline(always)]
        pub fn $read(&self, at: u64) -> Result<$int, OutOfRange> {
            let from = self.scalar(at, size_of::<$int>() as u64)?;
            let value: $int;
            // SAFETY: `scalar` found the bytes inside the window, which is mapped as long as `self` exists.
            unsafe { asm!($load, out($class) value, in(reg) from, options(nostack, preserves_flags, readonly)) };
            Ok(value)
        }

        #[doc = concat!("Writes a little-endian `", stringify!($int), "` at offset `at`; atomic where aligned.")]
        pub fn $write(&self, at: u64, value: $int) -> Result<(), OutOfRange> {
            let to = self.scalar(at, size_of::<$int>() as u64)?;
            // SAFETY: `scalar` found the bytes inside the window; nothing in Rust holds a reference to them.
            unsafe { asm!($store, in(reg) to, in($class) value, options(nostack, preserves_flags)) };
            Ok(())
        }
    };
}

impl Window {
    /// The `len` bytes at `base`.
    ///
    /// # Safety
    /// The bytes stay mapped, writable if the process writes through the window, and no Rust reference to any of them
    /// exists while a copy of the window does.
    pub const unsafe fn new(base: *mut u8, len: u64) -> Self {
        Self { base, len, inner: len.saturating_sub(7) }
    }

    /// A window over leaked memory; in host tests: `Window::leak(vec![0; 4096].leak())`.
    pub const fn leak(bytes: &'static mut [u8]) -> Self {
        let len = bytes.len() as u64;
        // SAFETY: the exclusive borrow is static and ends here, so no other code can access the bytes again.
        unsafe { Self::new(bytes.as_mut_ptr(), len) }
    }

    /// Length in bytes.
    pub const fn len(&self) -> u64 {
        self.len
    }

    /// Whether the window has no bytes at all.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The part of the window from `at`, `len` bytes long.
    pub fn part(&self, at: u64, len: u64) -> Result<Window, OutOfRange> {
        let base = self.range(at, len)?;
        // SAFETY: a part of this window, so the conditions that hold for the whole hold for it.
        Ok(unsafe { Window::new(base, len) })
    }

    /// Copies the bytes from offset `at` to `into`.
    pub fn read(&self, at: u64, into: &mut [u8]) -> Result<(), OutOfRange> {
        let from = self.range(at, into.len() as u64)?;
        // SAFETY: source inside the window; destination is an exclusive slice of the same length.
        unsafe { copy(from, into.as_mut_ptr(), into.len()) };
        Ok(())
    }

    /// Copies `bytes` to offset `at`.
    pub fn write(&self, at: u64, bytes: &[u8]) -> Result<(), OutOfRange> {
        let to = self.range(at, bytes.len() as u64)?;
        // SAFETY: destination inside the window; source is a slice of the same length.
        unsafe { copy(bytes.as_ptr(), to, bytes.len()) };
        Ok(())
    }

    /// Sets `len` bytes from offset `at`.
    pub fn fill(&self, at: u64, len: u64, byte: u8) -> Result<(), OutOfRange> {
        let to = self.range(at, len)?;
        let pattern = u64::from_ne_bytes([byte; 8]);
        // SAFETY: `len` bytes from `to` are inside the window; STOS goes upwards, the direction flag is clear in Rust.
        unsafe {
            asm!("rep stosq", "mov rcx, {tail}", "rep stosb",
                tail = in(reg) len % 8, in("rax") pattern,
                inout("rcx") len / 8 => _, inout("rdi") to => _, options(nostack, preserves_flags));
        }
        Ok(())
    }

    /// Copies `len` bytes from offset `at` to offset `to` of `other`, without an intermediate copy. If the two overlap,
    /// the result is that of a copy from low to high addresses.
    pub fn copy_to(&self, at: u64, other: &Window, to: u64, len: u64) -> Result<(), OutOfRange> {
        let from = self.range(at, len)?;
        let into = other.range(to, len)?;
        // SAFETY: both ranges are inside their windows. `range` gave the length, so it fits an usize.
        unsafe { copy(from, into, len as usize) };
        Ok(())
    }

    scalar!(read_u8, write_u8, u8, "mov {0}, [{1}]", "mov [{0}], {1}", reg_byte);
    scalar!(read_u16, write_u16, u16, "mov {0:x}, [{1}]", "mov [{0}], {1:x}", reg);
    scalar!(read_u32, write_u32, u32, "mov {0:e}, [{1}]", "mov [{0}], {1:e}", reg);
    scalar!(read_u64, write_u64, u64, "mov {0}, [{1}]", "mov [{0}], {1}", reg);

    /// The address of offset `at`, if `len` bytes from there are inside.
    // Not inlined: the callers are frequent, and this is their slow path.
    #[inline(never)]
    fn range(&self, at: u64, len: u64) -> Result<*mut u8, OutOfRange> {
        match at.checked_add(len) {
            Some(end) if end <= self.len => Ok(self.base.wrapping_add(at as usize)),
            _ => Err(OutOfRange),
        }
    }

    /// The same for up to eight bytes.
    #[inline(always)]
    fn scalar(&self, at: u64, len: u64) -> Result<*mut u8, OutOfRange> {
        if at < self.inner { Ok(self.base.wrapping_add(at as usize)) } else { self.range(at, len) }
    }

    /// Address of the first byte, for callers that depend on its alignment.
    pub(crate) fn base(&self) -> *mut u8 {
        self.base
    }
}

/// Copies upwards, eight bytes at a time.
///
/// # Safety
/// `len` bytes are readable at `from` and writable at `to`, and no reference forbids it.
unsafe fn copy(from: *const u8, to: *mut u8, len: usize) {
    debug_assert!(!ptr::eq(from, ptr::null()) || len == 0);
    // SAFETY: the caller's promise; the direction flag is clear in Rust, so both pointers go upwards.
    unsafe {
        asm!("rep movsq", "mov rcx, {tail}", "rep movsb",
            tail = in(reg) len % 8,
            inout("rcx") len / 8 => _, inout("rsi") from => _, inout("rdi") to => _,
            options(nostack, preserves_flags));
    }
}

/// For tests: a window of zeros; made of `u64`s, so that it is aligned.
#[cfg(test)]
pub(crate) fn zeros(len: u64) -> Window {
    let words: &'static mut [u64] = std::vec![0u64; (len as usize).div_ceil(8)].leak();
    // SAFETY: plain bytes of a static exclusive slice.
    let bytes = unsafe { core::slice::from_raw_parts_mut(words.as_mut_ptr().cast(), size_of_val(words)) };
    Window::leak(bytes).part(0, len).unwrap()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::vec;

    fn window(len: usize) -> Window {
        Window::leak(vec![0; len].leak())
    }

    #[test]
    fn bytes_written_are_read_back() {
        let w = window(64);
        w.write(3, b"portcullis").unwrap();
        let mut back = [0; 10];
        w.read(3, &mut back).unwrap();
        assert_eq!(&back, b"portcullis");
    }

    #[test]
    fn scalars_are_little_endian_at_any_alignment() {
        let w = window(32);
        w.write_u64(5, 0x1122_3344_5566_7788).unwrap();
        assert_eq!(w.read_u8(5), Ok(0x88));
        assert_eq!(w.read_u16(6), Ok(0x6677));
        assert_eq!(w.read_u32(9), Ok(0x1122_3344));
        w.write_u8(0, 1).unwrap();
        w.write_u16(1, 0x0302).unwrap();
        w.write_u32(14, 0xa0b0_c0d0).unwrap();
        assert_eq!(w.read_u32(0), Ok(0x0003_0201));
        assert_eq!(w.read_u64(14), Ok(0xa0b0_c0d0));
    }

    #[test]
    fn an_access_past_the_end_is_refused_and_changes_nothing() {
        let w = window(8);
        assert_eq!(w.write(7, &[1, 2]), Err(OutOfRange));
        assert_eq!(w.write_u32(5, !0), Err(OutOfRange));
        assert_eq!(w.fill(1, 8, 0xff), Err(OutOfRange));
        assert_eq!(w.read_u8(u64::MAX), Err(OutOfRange));
        assert_eq!(w.read_u64(u64::MAX - 3), Err(OutOfRange));
        assert!(w.part(4, u64::MAX).is_err());
        assert_eq!(w.read_u64(0), Ok(0));
    }

    #[test]
    fn an_empty_access_at_the_end_is_fine() {
        let w = window(8);
        assert_eq!(w.read(8, &mut []), Ok(()));
        assert_eq!(w.read(9, &mut []), Err(OutOfRange));
    }

    #[test]
    fn a_part_sees_the_same_bytes() {
        let w = window(16);
        let part = w.part(4, 8).unwrap();
        part.fill(0, 8, 7).unwrap();
        assert_eq!(w.read_u32(2), Ok(0x0707_0000));
        assert_eq!(w.read_u32(10), Ok(0x0000_0707));
    }

    proptest! {
        #[test]
        fn any_copy_equals_a_slice_copy(at in 0u64..80, to in 0u64..80, len in 0u64..80, seed in any::<[u8; 64]>()) {
            let (a, b) = (window(64), window(64));
            a.write(0, &seed).unwrap();
            let fits = at + len <= 64 && to + len <= 64;
            prop_assert_eq!(a.copy_to(at, &b, to, len).is_ok(), fits);
            let mut expected = [0; 64];
            if fits {
                let (at, to, len) = (at as usize, to as usize, len as usize);
                expected[to..to + len].copy_from_slice(&seed[at..at + len]);
            }
            let mut found = [0; 64];
            b.read(0, &mut found).unwrap();
            prop_assert_eq!(found, expected);
        }

        #[test]
        fn any_fill_equals_a_slice_fill(at in 0u64..80, len in 0u64..80, byte: u8) {
            let w = window(64);
            let fits = at + len <= 64;
            prop_assert_eq!(w.fill(at, len, byte).is_ok(), fits);
            let mut expected = [0; 64];
            if fits { expected[at as usize..(at + len) as usize].fill(byte); }
            let mut found = [0; 64];
            w.read(0, &mut found).unwrap();
            prop_assert_eq!(found, expected);
        }
    }
}
