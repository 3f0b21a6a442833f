//! Copies to and from frames that are not mapped in the root task: maps each temporarily at a reserved address. Nothing
//! else in the root task refers to that address, so no reference to the memory ever exists.

use core::cell::UnsafeCell;
use core::ptr;

use sel4::cap::{Cap, cap_type};
use sel4::vspace::FrameType;
use sel4::{CapRights, Error, GRANULE_SIZE, LARGE_PAGE_BITS, Result, VmAttributes, Word, init_thread};

use crate::bundle::address_of;

/// A page of the image whose own frame is unmapped at the start, so its page table exists already.
#[repr(C, align(4096))]
struct Page(UnsafeCell<[u8; GRANULE_SIZE]>);
// SAFETY: never touched as a static.
unsafe impl Sync for Page {}

static PAGE: Page = Page(UnsafeCell::new([0; GRANULE_SIZE]));

/// The address for large frames: the end of the first GiB. The image's page directory covers it, and the image, with
/// its bundle, must end below.
const LARGE: usize = (1 << 30) - (1 << LARGE_PAGE_BITS);

/// The reserved address for small frames.
pub(crate) fn page() -> usize {
    address_of(&PAGE)
}

/// Frame sizes with a reserved address.
pub trait ScratchFrame: FrameType {
    /// The reserved address.
    fn address() -> usize;
}

impl ScratchFrame for cap_type::Granule {
    fn address() -> usize {
        page()
    }
}

impl ScratchFrame for cap_type::LargePage {
    fn address() -> usize {
        LARGE
    }
}

/// Access to the reserved addresses, one for each size. There should be one `Scratch`: with two in use at once, mapping
/// fails.
#[derive(Debug, Default)]
pub struct Scratch(());

impl Scratch {
    /// Access to the reserved addresses.
    pub const fn new() -> Self {
        Self(())
    }

    /// Copies `bytes` into `frame`, `offset` bytes from its start. The capability must not be mapped anywhere.
    pub fn write<T: ScratchFrame>(&mut self, frame: Cap<T>, offset: usize, bytes: &[u8]) -> Result<()> {
        self.with_mapped(frame, offset, bytes.len(), |memory| {
            // SAFETY: `with_mapped` has checked the range, and `bytes` cannot be at a reserved address.
            unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), memory, bytes.len()) }
        })
    }

    /// Copies from `frame`, `offset` bytes from its start, into `bytes`. As for [`write`](Self::write).
    pub fn read<T: ScratchFrame>(&mut self, frame: Cap<T>, offset: usize, bytes: &mut [u8]) -> Result<()> {
        let (to, len) = (bytes.as_mut_ptr(), bytes.len());
        self.with_mapped(frame, offset, len, |memory| {
            // SAFETY: as for `write`.
            unsafe { ptr::copy_nonoverlapping(memory, to, len) }
        })
    }

    fn with_mapped<T: ScratchFrame>(
        &mut self,
        frame: Cap<T>,
        offset: usize,
        len: usize,
        copy: impl FnOnce(*mut u8),
    ) -> Result<()> {
        if offset.checked_add(len).is_none_or(|end| end > 1 << T::FRAME_BITS) {
            return Err(Error::RangeError);
        }
        let vspace = init_thread::slot::VSPACE.cap();
        let address = T::address();
        // SAFETY: the address is reserved for this; no reference to it is ever created.
        unsafe { frame.frame_map_here(vspace, address as Word, CapRights::read_write(), VmAttributes::DEFAULT)? };
        copy((address + offset) as *mut u8);
        frame.frame_unmap()
    }
}
