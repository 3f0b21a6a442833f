//! The root task's own image: its frames, and the bundle that the image tool appends to it.

use core::ops::Range;
use core::slice;

use sel4::cap::cap_type;
use sel4::init_thread::Slot;
use sel4::{BootInfoPtr, GRANULE_SIZE};

unsafe extern "C" {
    /// The first byte of the image; from the linker script.
    static __image_start: u8;
    /// The start of the bundle; from the linker script.
    static __bundle_start: u8;
}

/// The address of a static, as a number.
pub(crate) fn address_of<T>(it: *const T) -> usize {
    it as usize
}

/// The slot of the frame that contains `address`, which must be inside the image.
pub fn image_slot(bootinfo: BootInfoPtr, address: usize) -> Slot<cap_type::Granule> {
    let page = (address - address_of(&raw const __image_start)) / GRANULE_SIZE;
    Slot::from_index(bootinfo.user_image_frames().start + page)
}

/// The slots of the bundle's frames, in the order of their addresses.
pub fn bundle_frames(bootinfo: BootInfoPtr) -> Range<usize> {
    let frames = bootinfo.user_image_frames();
    let first = image_slot(bootinfo, address_of(&raw const __bundle_start)).index();
    first.min(frames.end)..frames.end
}

/// The bundle: whole pages, padded with zeros. One page of zeros if the image tool has not appended a bundle.
///
/// No size is stored: the kernel maps one contiguous range of frames for the image, and the bundle is its last part, so
/// it ends with the frames.
pub fn bundle(bootinfo: BootInfoPtr) -> &'static [u8] {
    let len = bundle_frames(bootinfo).len() * GRANULE_SIZE;
    // SAFETY: the kernel mapped these frames from this address on, by the linker script, and nothing writes to them.
    unsafe { slice::from_raw_parts(&raw const __bundle_start, len) }
}
