//! The guest's memory, as a device on the bus reaches it: by copies, each checked against the RAM that is there.
//!
//! There are no references into guest memory. The guest's other processors, and passed-through devices, may change the
//! bytes at any time, so a model copies them once, and checks the copy.

use mmio::{Record, Reservation};

/// The bytes are not all RAM of the guest.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NotRam;

/// Default accesses of one width, by copying bytes.
macro_rules! scalar {
    ($read:ident, $write:ident, $int:ty) => {
        #[doc = concat!("Reads a little-endian `", stringify!($int), "`. Where it is aligned, the guest's writes do not tear it.")]
        fn $read(&self, gpa: u64) -> Result<$int, NotRam> {
            let mut bytes = [0; size_of::<$int>()];
            self.read(gpa, &mut bytes)?;
            Ok(<$int>::from_le_bytes(bytes))
        }

        #[doc = concat!("Writes a little-endian `", stringify!($int), "`. Where it is aligned, the guest sees all of it or nothing.")]
        fn $write(&self, gpa: u64, value: $int) -> Result<(), NotRam> {
            self.write(gpa, &value.to_le_bytes())
        }
    };
}

/// RAM by guest-physical address. A refused access has read or written nothing.
///
/// The accesses by width are atomic where memory is shared with a running guest: an implementation for such memory overrides
/// them, since a copy of bytes is not.
pub trait GuestMemory {
    /// Whether the `len` bytes from `gpa` on are RAM. True for zero bytes, at any address.
    fn has(&self, gpa: u64, len: u64) -> bool;
    /// Copies the bytes from `gpa` on to `into`.
    fn read(&self, gpa: u64, into: &mut [u8]) -> Result<(), NotRam>;
    /// Copies `bytes` to `gpa`.
    fn write(&self, gpa: u64, bytes: &[u8]) -> Result<(), NotRam>;

    /// Appends the `len` bytes from `gpa` on to a record that has room for them. Memory that is shared with a guest
    /// overrides this and the next, which copy twice.
    fn send(&self, mut gpa: u64, len: u32, to: &mut Reservation<'_>) -> Result<(), NotRam> {
        let mut bytes = [0; CHUNK];
        for len in chunks(len) {
            let bytes = bytes.get_mut(..len).ok_or(NotRam)?;
            self.read(gpa, bytes)?;
            to.write(bytes).map_err(|_| NotRam)?;
            gpa += len as u64;
        }
        Ok(())
    }

    /// Copies the `len` bytes from offset `at` of a record on to `gpa`.
    fn receive(&self, mut gpa: u64, len: u32, from: &Record<'_>, mut at: u32) -> Result<(), NotRam> {
        let mut bytes = [0; CHUNK];
        for len in chunks(len) {
            let bytes = bytes.get_mut(..len).ok_or(NotRam)?;
            from.read(at, bytes).map_err(|_| NotRam)?;
            self.write(gpa, bytes)?;
            gpa += len as u64;
            at += len as u32;
        }
        Ok(())
    }

    scalar!(read_u16, write_u16, u16);
    scalar!(read_u32, write_u32, u32);
    scalar!(read_u64, write_u64, u64);
}

/// Bytes that the default copies take at a time.
const CHUNK: usize = 64;

/// The lengths of the pieces of `len` bytes.
fn chunks(len: u32) -> impl Iterator<Item = usize> {
    let len = len as usize;
    (0..len).step_by(CHUNK).map(move |done| (len - done).min(CHUNK))
}

/// No memory at all, for functions that use none.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct NoMemory;

impl GuestMemory for NoMemory {
    fn has(&self, _gpa: u64, len: u64) -> bool {
        len == 0
    }

    fn read(&self, _gpa: u64, _into: &mut [u8]) -> Result<(), NotRam> {
        Err(NotRam)
    }

    fn write(&self, _gpa: u64, _bytes: &[u8]) -> Result<(), NotRam> {
        Err(NotRam)
    }
}

/// Memory for tests: one region of RAM, with a record of the accesses.
#[cfg(test)]
pub(crate) mod fake {
    use super::*;
    use core::cell::{Cell, RefCell};
    use std::{vec, vec::Vec};

    /// RAM of the given bytes from `base` on.
    pub struct Fake {
        base: u64,
        bytes: RefCell<Vec<u8>>,
        /// Address and length of each read since the last [`Fake::forget`].
        pub reads: RefCell<Vec<(u64, u64)>>,
        /// Likewise of each write.
        pub writes: RefCell<Vec<(u64, u64)>>,
        /// What each read of 16 bytes, the size of a virtio descriptor, has found.
        pub seen: RefCell<Vec<[u8; 16]>>,
        /// Accesses that were refused.
        pub refused: Cell<usize>,
    }

    impl Fake {
        /// `len` bytes of zeros at `base`.
        pub fn new(base: u64, len: usize) -> Self {
            Self::of(base, vec![0; len])
        }

        /// These bytes at `base`.
        pub fn of(base: u64, bytes: Vec<u8>) -> Self {
            Self {
                base,
                bytes: RefCell::new(bytes),
                reads: RefCell::default(),
                writes: RefCell::default(),
                seen: RefCell::default(),
                refused: Cell::new(0),
            }
        }

        /// Empties the records.
        pub fn forget(&self) {
            self.reads.borrow_mut().clear();
            self.writes.borrow_mut().clear();
            self.seen.borrow_mut().clear();
        }

        /// A copy of the bytes at `gpa`.
        pub fn bytes<const N: usize>(&self, gpa: u64) -> [u8; N] {
            let at = (gpa - self.base) as usize;
            self.bytes.borrow()[at..at + N].try_into().unwrap()
        }

        fn range(&self, gpa: u64, len: usize) -> Result<core::ops::Range<usize>, NotRam> {
            if !self.has(gpa, len as u64) {
                self.refused.set(self.refused.get() + 1);
                return Err(NotRam);
            }
            let at = (gpa - self.base) as usize;
            Ok(at..at + len)
        }
    }

    impl GuestMemory for Fake {
        fn has(&self, gpa: u64, len: u64) -> bool {
            let end = self.base + self.bytes.borrow().len() as u64;
            len == 0 || gpa >= self.base && gpa.checked_add(len).is_some_and(|last| last <= end)
        }

        fn read(&self, gpa: u64, into: &mut [u8]) -> Result<(), NotRam> {
            let range = self.range(gpa, into.len())?;
            self.reads.borrow_mut().push((gpa, into.len() as u64));
            into.copy_from_slice(&self.bytes.borrow()[range]);
            if let Ok(descriptor) = into.as_ref().try_into() {
                self.seen.borrow_mut().push(descriptor);
            }
            Ok(())
        }

        fn write(&self, gpa: u64, bytes: &[u8]) -> Result<(), NotRam> {
            let range = self.range(gpa, bytes.len())?;
            self.writes.borrow_mut().push((gpa, bytes.len() as u64));
            self.bytes.borrow_mut()[range].copy_from_slice(bytes);
            Ok(())
        }
    }

    #[test]
    fn a_refused_access_has_touched_nothing() {
        let memory = Fake::new(0x1000, 4);
        memory.write(0x1000, &[1, 2, 3, 4]).unwrap();
        assert_eq!(*memory.writes.borrow(), [(0x1000, 4)]);
        memory.forget();
        let mut bytes = [9; 2];
        assert_eq!(memory.read(0x1003, &mut bytes), Err(NotRam));
        assert_eq!(memory.write(0x1003, &[9, 9]), Err(NotRam));
        assert_eq!((bytes, memory.bytes(0x1000)), ([9, 9], [1, 2, 3, 4]));
        assert_eq!((memory.reads.borrow().len(), memory.writes.borrow().len(), memory.refused.get()), (0, 0, 2));
    }

    #[test]
    fn numbers_are_little_endian_and_inside() {
        let memory = Fake::new(0x1000, 16);
        memory.write_u32(0x1004, 0x0403_0201).unwrap();
        assert_eq!(memory.bytes(0x1004), [1, 2, 3, 4]);
        assert_eq!(memory.read_u16(0x1005), Ok(0x0302));
        assert_eq!(memory.read_u64(0x1000), Ok(0x0403_0201_0000_0000));
        for gpa in [0xfff, 0x1009, u64::MAX] {
            assert_eq!(memory.read_u64(gpa), Err(NotRam), "{gpa:#x}");
            assert_eq!(memory.write_u64(gpa, 0), Err(NotRam), "{gpa:#x}");
        }
        assert!(memory.has(0, 0) && NoMemory.has(7, 0) && !NoMemory.has(0, 1));
        assert_eq!(NoMemory.read_u16(0), Err(NotRam));
    }
}
