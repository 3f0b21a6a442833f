//! The boot information that the kernel passes to the root task (seL4 manual, table 9.2).
//!
//! Its layout depends on the kernel, so members are read at the offsets that the C compiler computed.

use core::ops::Range;
use core::slice;

use crate::{GRANULE_SIZE, Word, cap, init_thread::Slot, sys};

/// The boot information.
#[derive(Clone, Copy)]
pub struct BootInfoPtr(*const u8);

// SAFETY: the boot information never changes.
unsafe impl Send for BootInfoPtr {}
// SAFETY: as above.
unsafe impl Sync for BootInfoPtr {}

/// Untyped memory.
#[derive(Clone, Copy, Debug)]
pub struct UntypedDesc {
    /// Its capability.
    pub cap: cap::Untyped,
    /// The physical address of its first byte.
    pub paddr: Word,
    /// log2 of its bytes.
    pub size_bits: usize,
    /// Whether it is device memory, which can be retyped to frames and untyped memory only.
    pub is_device: bool,
}

/// A further piece of boot information.
#[derive(Clone, Copy, Debug)]
pub struct BootInfoExtra {
    /// Its type (`SEL4_BOOTINFO_HEADER_…`).
    pub id: Word,
    /// Its contents, without the header.
    pub content: &'static [u8],
}

impl BootInfoPtr {
    /// The boot information at `pointer`.
    ///
    /// # Safety
    /// It is what the kernel passed to the initial thread, and it stays mapped.
    pub const unsafe fn new(pointer: *const u8) -> Self {
        Self(pointer)
    }

    fn read<T: Copy>(self, offset: usize) -> T {
        // SAFETY: by `new`, and callers read members of the structure, or of the extra region, as integers; the
        // structure is packed.
        unsafe { self.0.add(offset).cast::<T>().read_unaligned() }
    }

    fn region(self, offset: usize) -> Range<usize> {
        let start: Word = self.read(offset + sys::offsetof_seL4_SlotRegion_start);
        let end: Word = self.read(offset + sys::offsetof_seL4_SlotRegion_end);
        start as usize..end as usize
    }

    /// The address of the IPC buffer.
    pub fn ipc_buffer(self) -> *mut u8 {
        self.read::<usize>(sys::offsetof_seL4_BootInfo_ipcBuffer) as *mut u8
    }

    /// The empty slots of the initial CNode.
    pub fn empty(self) -> Range<usize> {
        self.region(sys::offsetof_seL4_BootInfo_empty)
    }

    /// The slots of the frames of the root task's image, in the order of their addresses.
    pub fn user_image_frames(self) -> Range<usize> {
        self.region(sys::offsetof_seL4_BootInfo_userImageFrames)
    }

    /// The slots of untyped memory.
    pub fn untyped(self) -> Range<usize> {
        self.region(sys::offsetof_seL4_BootInfo_untyped)
    }

    /// All untyped memory: the remaining RAM, and the rest of the physical address space as device memory.
    pub fn untyped_list(self) -> impl ExactSizeIterator<Item = UntypedDesc> {
        let first = self.untyped().start;
        (0..self.untyped().len()).map(move |index| {
            let at = sys::offsetof_seL4_BootInfo_untypedList + index * sys::sizeof_seL4_UntypedDesc;
            UntypedDesc {
                cap: Slot::from_index(first + index).cap(),
                paddr: self.read(at + sys::offsetof_seL4_UntypedDesc_paddr),
                size_bits: self.read::<u8>(at + sys::offsetof_seL4_UntypedDesc_sizeBits).into(),
                is_device: self.read::<u8>(at + sys::offsetof_seL4_UntypedDesc_isDevice) != 0,
            }
        })
    }

    /// log2 of the slots of the initial CNode.
    pub fn init_thread_cnode_size_bits(self) -> usize {
        self.read::<u8>(sys::offsetof_seL4_BootInfo_initThreadCNodeSizeBits).into()
    }

    /// Levels of the IOMMU's tables; zero without an IOMMU.
    pub fn num_io_pt_levels(self) -> usize {
        self.read::<Word>(sys::offsetof_seL4_BootInfo_numIOPTLevels) as usize
    }

    /// Extra boot information: a sequence of pieces, one page after the start of the structure.
    pub fn extra(self) -> impl Iterator<Item = BootInfoExtra> {
        let end = GRANULE_SIZE + self.read::<Word>(sys::offsetof_seL4_BootInfo_extraLen) as usize;
        let header = sys::sizeof_seL4_BootInfoHeader;
        let mut at = GRANULE_SIZE;
        core::iter::from_fn(move || {
            if at + header > end {
                return None;
            }
            let id = self.read(at + sys::offsetof_seL4_BootInfoHeader_id);
            let len = self.read::<Word>(at + sys::offsetof_seL4_BootInfoHeader_len) as usize;
            if len < header || len > end - at {
                return None;
            }
            // SAFETY: the piece is inside the extra region, which is mapped after the structure and never changes.
            let content = unsafe { slice::from_raw_parts(self.0.add(at + header), len - header) };
            at += len;
            Some(BootInfoExtra { id, content })
        })
    }
}
