//! PVH, Xen's way to start a kernel without firmware, by its public documentation (docs/misc/pvh.pandoc, and the structures in
//! xen/include/public/arch-x86/hvm/start_info.h): an ELF file has a note with the physical address of 32-bit code, which runs in
//! protected mode without paging, with flat segments, and with the address of `hvm_start_info` in EBX.

use super::{e820, low};

/// `n_type` of the note: XEN_ELFNOTE_PHYS32_ENTRY.
const PHYS32_ENTRY: u32 = 18;
/// Its name, with the NUL.
const XEN: &[u8] = b"Xen\0";
/// Bytes of a note in front of its name: the lengths of name and descriptor, and the type.
const HEADER: usize = 12;

const MAGIC: u32 = 0x336e_c578;
/// The one with a memory map.
const VERSION: u32 = 1;
/// Where the module is in [`StartInfo`], which has 56 bytes before it, and where the memory map.
const MODULE: usize = 64;
const MAP: usize = 96;
const MAP_ENTRY: usize = 24;
const SIZE: usize = MAP + e820::ENTRIES * MAP_ENTRY;

/// The entry that the notes name, if they do: `notes` is the content of a PT_NOTE segment, whose parts are aligned to four bytes.
pub(super) fn entry(notes: &[u8]) -> Option<u64> {
    let mut rest = notes;
    loop {
        let word = |at: usize| Some(u32::from_le_bytes(*rest.get(at..)?.first_chunk()?));
        let [name, descriptor] = [word(0)? as usize, word(4)? as usize];
        let kind = word(8)?;
        let at = HEADER.checked_add(name.checked_next_multiple_of(4)?)?;
        let end = at.checked_add(descriptor.checked_next_multiple_of(4)?)?;
        if kind == PHYS32_ENTRY && rest.get(HEADER..)?.get(..name)? == XEN {
            let address = rest.get(at..)?.get(..descriptor)?;
            return match *address {
                [a, b, c, d] | [a, b, c, d, 0, 0, 0, 0] => Some(u32::from_le_bytes([a, b, c, d]).into()),
                _ => None,
            };
        }
        rest = rest.get(end..)?;
    }
}

/// What the guest reads at [`low::ZERO_PAGE`]: `hvm_start_info`, and behind it the module and the memory map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StartInfo([u8; SIZE]);

impl StartInfo {
    /// Of a guest with this memory map, an initrd (address and bytes) and an RSDP, if it has them. The command line is at
    /// [`low::COMMAND_LINE`].
    pub(super) fn new(map: &[e820::Entry], initrd: Option<(u64, u64)>, rsdp: Option<u64>) -> Self {
        let mut info = Self([0; SIZE]);
        for (at, word) in [(0, MAGIC), (4, VERSION), (12, initrd.is_some().into()), (48, map.len() as u32)] {
            info.put(at, &word.to_le_bytes());
        }
        let modules = initrd.map_or(0, |_| low::ZERO_PAGE + MODULE as u64);
        let map_at = low::ZERO_PAGE + MAP as u64;
        for (at, address) in [(16, modules), (24, low::COMMAND_LINE), (32, rsdp.unwrap_or(0)), (40, map_at)] {
            info.put(at, &address.to_le_bytes());
        }
        if let Some((at, size)) = initrd {
            info.put(MODULE, &at.to_le_bytes());
            info.put(MODULE + 8, &size.to_le_bytes());
        }
        for (at, entry) in (MAP..).step_by(MAP_ENTRY).zip(map) {
            info.put(at, &entry.base.to_le_bytes());
            info.put(at + 8, &entry.size.to_le_bytes());
            info.put(at + 16, &(entry.kind as u32).to_le_bytes());
        }
        info
    }

    /// Its bytes.
    pub const fn bytes(&self) -> &[u8] {
        &self.0
    }

    fn put(&mut self, at: usize, bytes: &[u8]) {
        if let Some(place) = self.0.get_mut(at..at + bytes.len()) {
            place.copy_from_slice(bytes);
        }
    }
}
