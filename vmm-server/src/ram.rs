//! The guest's memory by guest-physical address, as the VMM reaches it: one region from 0, or, where a device without an
//! IOMMU uses the memory as well, one at its physical address and a page of low memory at 0. What lies between is not
//! there, for the VMM as for the guest.

use devices::{GuestMemory, NotRam};
use mmio::{OutOfRange, Record, Reservation, Window};

/// The memory of one guest.
#[derive(Clone, Copy, Debug)]
pub struct Ram {
    main: Window,
    at: u64,
    /// Empty where `main` begins at 0.
    low: Window,
}

/// Accesses of one width.
macro_rules! scalar {
    ($read:ident, $write:ident, $int:ty) => {
        #[doc = concat!("Reads a little-endian `", stringify!($int), "` at `gpa`; atomic where aligned.")]
        #[inline(always)]
        pub fn $read(&self, gpa: u64) -> Result<$int, OutOfRange> {
            // An address below has an offset there that no window reaches.
            self.main.$read(gpa.wrapping_sub(self.at)).or_else(|_| self.low.$read(gpa))
        }

        #[doc = concat!("Writes a little-endian `", stringify!($int), "` at `gpa`; atomic where aligned.")]
        pub fn $write(&self, gpa: u64, value: $int) -> Result<(), OutOfRange> {
            let (window, at) = self.region(gpa);
            window.$write(at, value)
        }
    };
}

impl Ram {
    /// No memory at all.
    pub const fn none() -> Self {
        Self::flat(Window::leak(&mut []))
    }

    /// All memory from address 0 on.
    pub const fn flat(memory: Window) -> Self {
        Self { main: memory, at: 0, low: Window::leak(&mut []) }
    }

    /// `main` at guest-physical address `at`, and `low`, which ends before that, at 0.
    pub const fn split(low: Window, main: Window, at: u64) -> Self {
        Self { main, at, low }
    }

    /// Copies the bytes from `gpa` to `into`. Like all accesses, it must lie in one region.
    pub fn read(&self, gpa: u64, into: &mut [u8]) -> Result<(), OutOfRange> {
        let (window, at) = self.region(gpa);
        window.read(at, into)
    }

    /// Copies `bytes` to `gpa`.
    pub fn write(&self, gpa: u64, bytes: &[u8]) -> Result<(), OutOfRange> {
        let (window, at) = self.region(gpa);
        window.write(at, bytes)
    }

    /// Sets `len` bytes from `gpa` on.
    pub fn fill(&self, gpa: u64, len: u64, byte: u8) -> Result<(), OutOfRange> {
        let (window, at) = self.region(gpa);
        window.fill(at, len, byte)
    }

    /// The `len` bytes from `gpa` on.
    pub fn part(&self, gpa: u64, len: u64) -> Result<Window, OutOfRange> {
        let (window, at) = self.region(gpa);
        window.part(at, len)
    }

    scalar!(read_u8, write_u8, u8);
    scalar!(read_u16, write_u16, u16);
    scalar!(read_u32, write_u32, u32);
    scalar!(read_u64, write_u64, u64);

    /// The region that has `gpa`, if any has, and the offset in it. An offset outside is refused by the window.
    fn region(&self, gpa: u64) -> (&Window, u64) {
        if gpa < self.at { (&self.low, gpa) } else { (&self.main, gpa - self.at) }
    }
}

/// Accesses of one width, atomic as the guest sees them.
macro_rules! shared {
    ($read:ident, $write:ident, $int:ty) => {
        fn $read(&self, gpa: u64) -> Result<$int, NotRam> {
            Ram::$read(self, gpa).map_err(|_| NotRam)
        }

        fn $write(&self, gpa: u64, value: $int) -> Result<(), NotRam> {
            Ram::$write(self, gpa, value).map_err(|_| NotRam)
        }
    };
}

impl GuestMemory for Ram {
    fn has(&self, gpa: u64, len: u64) -> bool {
        len == 0 || self.part(gpa, len).is_ok()
    }

    fn read(&self, gpa: u64, into: &mut [u8]) -> Result<(), NotRam> {
        Ram::read(self, gpa, into).map_err(|_| NotRam)
    }

    fn write(&self, gpa: u64, bytes: &[u8]) -> Result<(), NotRam> {
        Ram::write(self, gpa, bytes).map_err(|_| NotRam)
    }

    fn send(&self, gpa: u64, len: u32, to: &mut Reservation<'_>) -> Result<(), NotRam> {
        let (window, at) = self.region(gpa);
        to.copy_from(window, at, len).map_err(|_| NotRam)
    }

    fn receive(&self, gpa: u64, len: u32, from: &Record<'_>, at: u32) -> Result<(), NotRam> {
        let (window, to) = self.region(gpa);
        from.copy_to(at, window, to, len).map_err(|_| NotRam)
    }

    shared!(read_u16, write_u16, u16);
    shared!(read_u32, write_u32, u32);
    shared!(read_u64, write_u64, u64);
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;
    use std::vec;

    const AT: u64 = 64 << 20;

    fn split() -> Ram {
        let window = |len: usize| Window::leak(vec![0; len].leak());
        Ram::split(window(0x1000), window(0x2000), AT)
    }

    #[test]
    fn both_regions_have_their_own_bytes() {
        let ram = split();
        ram.write_u32(0xffc, 1).unwrap();
        ram.write(AT, &[2]).unwrap();
        ram.fill(AT + 0x1fff, 1, 3).unwrap();
        assert_eq!((ram.read_u32(0xffc), ram.read_u8(AT), ram.read_u8(AT + 0x1fff)), (Ok(1), Ok(2), Ok(3)));
        assert_eq!(ram.part(AT, 4).unwrap().read_u32(0), Ok(2));
    }

    #[test]
    fn what_lies_between_and_beyond_is_not_there() {
        let ram = split();
        for gpa in [0xffd, 0x1000, AT - 1, AT + 0x1ffd, AT + 0x2000, u64::MAX - 2, u64::MAX] {
            assert_eq!(ram.read_u32(gpa), Err(OutOfRange), "{gpa:#x}");
            assert_eq!(ram.write(gpa, &[0; 4]), Err(OutOfRange), "{gpa:#x}");
        }
        assert_eq!(ram.fill(0, AT + 1, 0), Err(OutOfRange), "across the gap");
    }

    #[test]
    fn devices_reach_what_the_vmm_reaches() {
        let ram = split();
        let memory: &dyn GuestMemory = &ram;
        for (gpa, len, has) in [(0xff0, 16, true), (0xff0, 17, false), (AT, 0x2000, true), (AT - 1, 1, false)] {
            assert_eq!(memory.has(gpa, len), has, "{gpa:#x}");
        }
        assert!(memory.has(u64::MAX, 0) && !memory.has(u64::MAX, 1) && !memory.has(0, u64::MAX));
        memory.write_u16(AT + 2, 0x0403).unwrap();
        assert_eq!(memory.read_u32(AT), Ok(0x0403_0000));
        assert_eq!(memory.write_u64(AT + 0x1ff9, 0), Err(NotRam));
    }
}
