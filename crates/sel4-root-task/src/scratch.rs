//! Copying to and from frames that are not mapped in the root task: each is mapped for the moment, at an address set
//! aside. Nothing else in the root task refers to such memory, so no reference to it ever exists.

use core::cell::UnsafeCell;
use core::ptr;

use sel4::cap::{Cap, cap_type};
use sel4::vspace::FrameType;
use sel4::{CapRights, Error, GRANULE_SIZE, LARGE_PAGE_BITS, Result, VmAttributes, Word, init_thread};

use crate::bundle::address_of;

/// A page of the image whose own frame is unmapped at the start: its page table is there already.
#[repr(C, align(4096))]
struct Page(UnsafeCell<[u8; GRANULE_SIZE]>);
// SAFETY: never touched as a static.
unsafe impl Sync for Page {}

static PAGE: Page = Page(UnsafeCell::new([0; GRANULE_SIZE]));

/// Where a large frame goes: the end of the first GiB. The image's page directory covers it, and the image, with its
/// bundle, must stay below.
const LARGE: usize = (1 << 30) - (1 << LARGE_PAGE_BITS);

/// The address set aside for small frames.
pub(crate) fn page() -> usize {
    address_of(&PAGE)
}

/// The sizes of frames that there is a place for.
pub trait Place: FrameType {
    /// Where they are mapped.
    fn address() -> usize;
}

impl Place for cap_type::Granule {
    fn address() -> usize {
        page()
    }
}

impl Place for cap_type::LargePage {
    fn address() -> usize {
        LARGE
    }
}

/// The place. There is one for each size, so there should be one `Scratch`: two at once get errors, not memory.
#[derive(Debug, Default)]
pub struct Scratch(());

impl Scratch {
    /// The place.
    pub const fn new() -> Self {
        Self(())
    }

    /// Copies `bytes` into `frame`, `offset` bytes from its start. The capability must not be mapped anywhere.
    pub fn write<T: Place>(&mut self, frame: Cap<T>, offset: usize, bytes: &[u8]) -> Result<()> {
        self.with_mapped(frame, offset, bytes.len(), |memory| {
            // SAFETY: `with_mapped` has checked the range, and `bytes` cannot lie in memory set aside.
            unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), memory, bytes.len()) }
        })
    }

    /// Copies out of `frame` into `bytes`, from `offset` bytes behind its start. As for [`write`](Self::write).
    pub fn read<T: Place>(&mut self, frame: Cap<T>, offset: usize, bytes: &mut [u8]) -> Result<()> {
        let (to, len) = (bytes.as_mut_ptr(), bytes.len());
        self.with_mapped(frame, offset, len, |memory| {
            // SAFETY: as for `write`.
            unsafe { ptr::copy_nonoverlapping(memory, to, len) }
        })
    }

    fn with_mapped<T: Place>(
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
        // SAFETY: the address is set aside for this; no reference into it is ever made.
        unsafe { frame.frame_map_here(vspace, address as Word, CapRights::read_write(), VmAttributes::DEFAULT)? };
        copy((address + offset) as *mut u8);
        frame.frame_unmap()
    }
}
