//! The memory map that a PC's BIOS gives by INT 15h, function E820h (ACPI specification, "System Address Map
//! Interfaces"), as the zero page carries it. The guest prints it at boot, and a test predicts it from here.

use heapless::Vec;

/// What a range is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Kind {
    /// RAM that the guest may use.
    Usable = 1,
    /// Anything else.
    Reserved = 2,
}

/// One range of guest-physical addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// First byte.
    pub base: u64,
    /// Bytes.
    pub size: u64,
    /// What it is good for.
    pub kind: Kind,
}

/// Where the BIOS's own 64 KiB begin.
pub const BIOS: u64 = 0xf_0000;

/// Ranges in [`map`].
pub const ENTRIES: usize = 5;

/// The map of a guest with `ram` bytes of RAM from address zero, by ascending address. `ram` is at least 1 MiB.
///
/// 640 KiB less the kilobyte where a PC keeps its extended BIOS data; nothing where a VGA and option ROMs would be; the
/// BIOS's own 64 KiB, where [`super::low::PAGE_DIRECTORY`] lies; then everything from 1 MiB on.
pub fn map(ram: u64) -> Vec<Entry, ENTRIES> {
    map_at(0, ram, BIOS, None)
}

/// The same with a BIOS that begins at `bios`, and with what lies above 1 MiB at address `at` instead, if that is not zero: all of `ram`. If devices
/// have memory behind the RAM from the start (`windows`: first byte, and the one behind the last), nothing else should be
/// placed there.
pub fn map_at(at: u64, ram: u64, bios: u64, windows: Option<(u64, u64)>) -> Vec<Entry, ENTRIES> {
    let high = if at == 0 { 0x10_0000 } else { at };
    let ranges = [
        (0, 0x9_fc00, Kind::Usable),
        (0x9_fc00, 0xa_0000, Kind::Reserved),
        (bios, 0x10_0000, Kind::Reserved),
        (high, at.saturating_add(ram), Kind::Usable),
    ];
    let windows = windows.map(|(base, end)| (base, end, Kind::Reserved));
    let ranges = ranges.into_iter().chain(windows);
    ranges.map(|(base, end, kind)| Entry { base, size: end.saturating_sub(base), kind }).collect()
}
