//! What the loader hands over: the memory map, the ACPI root pointer, and what the screen shows (multiboot specification 0.6.96,
//! section 3.3, and multiboot 2, section 3.6).

use core::iter;

use heapless::Vec;

use crate::acpi::Rsdp;
use crate::framebuffer::Framebuffer;
use crate::machine::{Memory, number};

/// Most ranges of memory.
pub const MOST_RANGES: usize = 128;
/// EAX from a loader that speaks multiboot 1.
pub const MAGIC: u32 = 0x2bad_b002;
/// EAX from a loader that speaks multiboot 2.
pub const MAGIC_2: u32 = 0x36d7_6289;
/// The type of a screen in text mode.
const TEXT: u8 = 2;
/// Types of multiboot 2's tags: the last one, and the memory map.
const END: u64 = 0;
const MEMORY: u64 = 6;
/// More than any loader hands over.
const LONGEST: usize = 1 << 16;

/// A range of memory, by the firmware.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// First byte.
    pub start: u64,
    /// Bytes.
    pub length: u64,
    /// 1 is free RAM (ACPI specification, "Address Range Types").
    pub kind: u32,
}

impl Range {
    /// The type of free RAM.
    const FREE: u32 = 1;

    /// Whether some of these bytes are in it.
    fn overlaps(&self, start: u64, length: u64) -> bool {
        self.start < start.saturating_add(length) && start < self.start.saturating_add(self.length)
    }
}

/// What started the loader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Firmware {
    /// A BIOS.
    Bios,
    /// UEFI.
    Uefi,
}

/// What the screen shows, by the loader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Screen {
    /// The loader says nothing of it, or that it is neither of the others.
    Unknown,
    /// Text of 80 by 25 characters from 0xb8000 on.
    Text,
    /// Pixels; `None` if their format is not known, or if they would be in free RAM, where this program may be.
    Pixels(Option<Framebuffer>),
}

/// What the loader has said.
#[derive(Debug)]
pub struct Loaded {
    /// Memory, by ranges.
    pub memory: Vec<Range, MOST_RANGES>,
    /// The root pointer.
    pub rsdp: Option<Rsdp>,
    /// The firmware.
    pub firmware: Firmware,
    /// The screen.
    pub screen: Screen,
}

/// Reads what is at `info`; `None` if no known loader has left it.
pub fn loaded<'a>(memory: &impl Memory<'a>, magic: u32, info: u32) -> Option<Loaded> {
    let info = u64::from(info);
    match magic {
        MAGIC => first(memory, memory.bytes(info, 116)?),
        MAGIC_2 => {
            let length = number::<4>(memory.bytes(info, 8)?, 0)? as usize;
            Some(second(memory.bytes(info, length.min(LONGEST))?))
        }
        _ => None,
    }
}

fn first<'a>(memory: &impl Memory<'a>, info: &[u8]) -> Option<Loaded> {
    let flags = number::<4>(info, 0)?;
    let mut ranges = Vec::new();
    if flags >> 6 & 1 != 0 {
        let (length, address) = (number::<4>(info, 44)? as usize, number::<4>(info, 48)?);
        let mut rest = memory.bytes(address, length.min(LONGEST))?;
        // An entry's length does not count the length's own four bytes.
        while let Some(size) = number::<4>(rest, 0) {
            let Some((entry, others)) = rest.split_at_checked((size as usize).saturating_add(4)) else { break };
            // What does not fit is left out.
            if let Some(range) = range(entry, 4) {
                let _ = ranges.push(range);
            }
            rest = others;
        }
    }
    // Without a word on the screen, a BIOS has left it as it was: in text mode.
    let text = flags >> 12 & 1 == 0 || info.get(109) == Some(&TEXT);
    let screen = if text { Screen::Text } else { Screen::Unknown };
    Some(Loaded { memory: ranges, rsdp: Rsdp::search(memory), firmware: Firmware::Bios, screen })
}

fn second(info: &[u8]) -> Loaded {
    let mut loaded = Loaded { memory: Vec::new(), rsdp: None, firmware: Firmware::Bios, screen: Screen::Unknown };
    for (kind, tag) in tags(info) {
        match kind {
            // What does not fit is left out.
            MEMORY => {
                for range in ranges(tag) {
                    let _ = loaded.memory.push(range);
                }
            }
            8 if tag.get(29) == Some(&TEXT) => loaded.screen = Screen::Text,
            8 => {
                loaded.screen =
                    Screen::Pixels(Framebuffer::parse(tag).filter(|screen| !is_in_free_memory(info, screen)))
            }
            // Of ACPI 1.0; that of 2.0 leads further.
            14 => loaded.rsdp = loaded.rsdp.or_else(|| Rsdp::parse(tag.get(8..)?)),
            15 => loaded.rsdp = tag.get(8..).and_then(Rsdp::parse).or(loaded.rsdp),
            11 | 12 | 17 | 18 => loaded.firmware = Firmware::Uefi,
            _ => {}
        }
    }
    loaded
}

/// Multiboot 2's tags: types, and all their bytes.
fn tags(info: &[u8]) -> impl Iterator<Item = (u64, &[u8])> {
    let mut rest = info.get(8..).unwrap_or_default();
    iter::from_fn(move || {
        let kind = number::<4>(rest, 0).filter(|kind| *kind != END)?;
        let size = (number::<4>(rest, 4)? as usize).max(8);
        let tag = rest.get(..size)?;
        rest = rest.get(size.next_multiple_of(8)..).unwrap_or_default();
        Some((kind, tag))
    })
}

/// The ranges in a tag.
fn ranges(tag: &[u8]) -> impl Iterator<Item = Range> {
    let width = number::<4>(tag, 8).unwrap_or(0).max(24) as usize;
    tag.get(16..).unwrap_or_default().chunks_exact(width).filter_map(|entry| range(entry, 0))
}

/// Whether a framebuffer overlaps what the memory map says is free RAM.
fn is_in_free_memory(info: &[u8], screen: &Framebuffer) -> bool {
    let mut ranges = tags(info).filter(|(kind, _)| *kind == MEMORY).flat_map(|(_, tag)| ranges(tag));
    ranges.any(|range| range.kind == Range::FREE && range.overlaps(screen.address(), screen.bytes()))
}

/// Start, length and type.
fn range(entry: &[u8], at: usize) -> Option<Range> {
    let (start, length) = (number::<8>(entry, at)?, number::<8>(entry, at + 8)?);
    Some(Range { start, length, kind: number::<4>(entry, at + 16)? as u32 })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    fn tag(kind: u32, body: &[u8]) -> Vec<u8> {
        let mut tag = [&kind.to_le_bytes()[..], &(8 + body.len() as u32).to_le_bytes(), body].concat();
        tag.resize(tag.len().next_multiple_of(8), 0);
        tag
    }

    #[test]
    fn multiboot_2_under_uefi() {
        let entry = |start: u64, length: u64, kind: u32| {
            [&start.to_le_bytes()[..], &length.to_le_bytes(), &kind.to_le_bytes(), &[0; 4]].concat()
        };
        let map =
            [&24u32.to_le_bytes()[..], &[0; 4], &entry(0x10_0000, 0x700_0000, 1), &entry(1 << 32, 1 << 30, 2)].concat();
        let mut rsdp = [0u8; 36];
        rsdp[..8].copy_from_slice(b"RSD PTR ");
        rsdp[15] = 2;
        rsdp[8] = 0u8.wrapping_sub(rsdp[..20].iter().fold(0, |sum: u8, byte| sum.wrapping_add(*byte)));
        rsdp[24..32].copy_from_slice(&0x7777_0000u64.to_le_bytes());
        let info = [&[0; 8][..], &tag(12, &[1; 8]), &tag(6, &map), &tag(15, &rsdp), &tag(0, &[])].concat();
        let loaded = second(&info);
        assert_eq!(loaded.firmware, Firmware::Uefi);
        assert_eq!(loaded.screen, Screen::Unknown);
        assert_eq!(loaded.rsdp.unwrap().xsdt, 0x7777_0000);
        assert_eq!(loaded.memory[0], Range { start: 0x10_0000, length: 0x700_0000, kind: 1 });
        assert_eq!(loaded.memory.len(), 2);
    }

    #[test]
    fn multiboot_2_says_what_the_screen_shows() {
        let screen = |kind: u8, bits: u8| {
            let numbers = [4096u32, 1024, 768].map(u32::to_le_bytes).concat();
            let body = [&0x8000_0000u64.to_le_bytes()[..], &numbers, &[bits, kind, 0, 0, 16, 8, 8, 8, 0, 8]].concat();
            second(&[&[0; 8][..], &tag(8, &body), &tag(0, &[])].concat()).screen
        };
        let Screen::Pixels(Some(framebuffer)) = screen(1, 32) else { panic!("no framebuffer") };
        assert_eq!(framebuffer.size(), (1024, 768));
        assert_eq!(screen(0, 8), Screen::Pixels(None));
        assert_eq!(screen(2, 16), Screen::Text);
    }

    #[test]
    fn a_framebuffer_in_free_memory_is_refused_wherever_its_tag_is() {
        let screen = |address: u64, kind: u32, first: bool| {
            let numbers = [4096u32, 1024, 768].map(u32::to_le_bytes).concat();
            let body = [&address.to_le_bytes()[..], &numbers, &[32, 1, 0, 0, 16, 8, 8, 8, 0, 8]].concat();
            let range = |start: u64, length: u64, kind: u32| {
                [&start.to_le_bytes()[..], &length.to_le_bytes(), &kind.to_le_bytes(), &[0; 4]].concat()
            };
            // More than are kept.
            let many = (0..200u64).map(|number| range(number, 1, 1)).collect::<Vec<_>>().concat();
            let map = [&24u32.to_le_bytes()[..], &[0; 4], &many, &range(0x1000_0000, 0x70_0000, kind)].concat();
            let both = match first {
                true => [tag(8, &body), tag(6, &map)],
                false => [tag(6, &map), tag(8, &body)],
            };
            second(&[&[0; 8][..], &both.concat(), &tag(0, &[])].concat()).screen
        };
        let bytes = 4096 * 768;
        for first in [true, false] {
            for address in [0x1000_0000, 0x1000_0004 - bytes, 0x106f_fffc] {
                assert_eq!(screen(address, 1, first), Screen::Pixels(None), "{address:#x}");
                assert_ne!(screen(address, 2, first), Screen::Pixels(None), "{address:#x} is reserved");
            }
            assert_ne!(screen(0x1070_0000, 1, first), Screen::Pixels(None));
        }
    }

    #[test]
    fn nothing_that_a_loader_may_hand_over_takes_for_ever() {
        for size in [0u32, 1, 7, 8, 9, u32::MAX] {
            let info = [&[0; 8][..], &6u32.to_le_bytes(), &size.to_le_bytes(), &[1; 40]].concat();
            second(&info);
        }
    }
}
