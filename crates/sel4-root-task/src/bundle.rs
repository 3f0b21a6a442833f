//! The root task's own image: its frames, and the bundle that the image tool puts behind it.

use core::ops::Range;
use core::slice;

use sel4::cap::cap_type;
use sel4::init_thread::Slot;
use sel4::{BootInfoPtr, GRANULE_SIZE};

unsafe extern "C" {
    /// The first byte of the image; from the linker script.
    static __image_start: u8;
    /// Where the bundle goes; from the linker script.
    static __bundle_start: u8;
}

/// The address of a static, as a number.
pub(crate) fn address_of<T>(it: *const T) -> usize {
    it as usize
}

/// The slot of the frame that `address`, within the image, lies in.
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

/// The bundle: whole pages, with zeros behind its last byte. One page of zeros when the image tool has put none in.
///
/// The bundle has no size of its own here. The kernel loads one contiguous range of frames for the image, and the
/// bundle is the last part of it, so it reaches as far as the frames do.
pub fn bundle(bootinfo: BootInfoPtr) -> &'static [u8] {
    let len = bundle_frames(bootinfo).len() * GRANULE_SIZE;
    // SAFETY: these frames are mapped from here on, as the linker script has it, and nothing writes to them.
    unsafe { slice::from_raw_parts(&raw const __bundle_start, len) }
}
