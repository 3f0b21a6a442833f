//! Relocates a 32-bit vmlinux to another physical address, as a bzImage's own start code does (Linux:
//! CONFIG_RELOCATABLE, arch/x86/boot/compressed/misc.c).
//!
//! The kernel maps physical memory at a fixed distance, so its virtual addresses move by as much. Behind the ELF in the
//! payload there is a table of all words that hold one: little-endian 32-bit words, each the virtual address of such a
//! word, to be read from the end of the file backwards as far as a zero. Left out: 64-bit kernels, which have more tables.

use super::error::Error;

/// Fields of the ELF header and of a program header (System V ABI, chapters 4 and 5).
const E_ENTRY: usize = 24;
const E_PHOFF: usize = 28;
const E_SHOFF: usize = 32;
const E_SHNUM: usize = 48;
const E_PHENTSIZE: usize = 42;
const E_PHNUM: usize = 44;
const P_TYPE: usize = 0;
const P_OFFSET: usize = 4;
const P_VADDR: usize = 8;
const P_PADDR: usize = 12;
const P_FILESZ: usize = 16;
const PT_LOAD: u32 = 1;

/// The loaded part of an ELF, without relocation table and sections; a kernel with debug information has hundreds of
/// megabytes of those. A file that is not a complete 32-bit ELF stays unchanged; the guest's loader reports what is
/// wrong with it.
pub fn loaded(mut elf: Vec<u8>) -> Vec<u8> {
    const CLASS_32: &[u8] = b"\x7fELF\x01";
    let ends = |segment: &Segment| Some(segment.offset.checked_add(segment.filesz)? as usize);
    let end = segments(&elf).ok().and_then(|all| all.iter().filter_map(ends).max());
    if let Some(end) = end.filter(|end| (E_SHNUM + 4..=elf.len()).contains(end) && elf.starts_with(CLASS_32)) {
        elf.truncate(end);
        // e_shnum and e_shstrndx
        for field in [E_SHOFF, E_SHNUM] {
            elf[field..field + 4].fill(0);
        }
    }
    elf
}

/// A loadable segment.
struct Segment {
    header: usize,
    offset: u32,
    vaddr: u32,
    paddr: u32,
    filesz: u32,
}

/// Relocates `payload`, an ELF and its relocation table, so that its lowest segment loads at `at`. Keeps the table.
pub fn relocate(mut payload: Vec<u8>, at: u32) -> Result<Vec<u8>, Error> {
    let segments = segments(&payload)?;
    let linked = segments.iter().map(|segment| segment.paddr).min().ok_or(Error::NotAnElf)?;
    let delta = at.wrapping_sub(linked);
    if delta == 0 {
        return Ok(payload);
    }
    let places = table(&payload)?;
    for place in places {
        let at = file_offset(&segments, place).ok_or(Error::BadRelocation(place))?;
        add(&mut payload, at, delta)?;
    }
    for segment in &segments {
        add(&mut payload, segment.header + P_VADDR, delta)?;
        add(&mut payload, segment.header + P_PADDR, delta)?;
    }
    add(&mut payload, E_ENTRY, delta)?;
    Ok(payload)
}

fn segments(elf: &[u8]) -> Result<Vec<Segment>, Error> {
    let table = word(elf, E_PHOFF)? as usize;
    let half = |at| word(elf, at).map(|word| (word & 0xffff) as usize);
    let (size, count) = (half(E_PHENTSIZE)?, half(E_PHNUM)?);
    let mut found = Vec::new();
    for header in (0..count).map(|n| table.saturating_add(n * size)) {
        if word(elf, header + P_TYPE)? == PT_LOAD {
            let field = |at| word(elf, header + at);
            let (offset, filesz) = (field(P_OFFSET)?, field(P_FILESZ)?);
            found.push(Segment { header, offset, vaddr: field(P_VADDR)?, paddr: field(P_PADDR)?, filesz });
        }
    }
    Ok(found)
}

/// The virtual addresses in the table.
fn table(payload: &[u8]) -> Result<Vec<u32>, Error> {
    let mut places = Vec::new();
    let mut at = payload.len();
    loop {
        at = at.checked_sub(4).ok_or(Error::NotRelocatable)?;
        match word(payload, at)? {
            0 if places.is_empty() => return Err(Error::NotRelocatable),
            0 => return Ok(places),
            place => places.push(place),
        }
    }
}

/// Where in the file the word at virtual address `vaddr` is.
fn file_offset(segments: &[Segment], vaddr: u32) -> Option<usize> {
    segments.iter().find_map(|segment| {
        let inside = vaddr.checked_sub(segment.vaddr)?;
        (inside.checked_add(4)? <= segment.filesz).then(|| segment.offset as usize + inside as usize)
    })
}

fn word(bytes: &[u8], at: usize) -> Result<u32, Error> {
    let word = bytes.get(at..).and_then(|rest| rest.first_chunk()).ok_or(Error::Truncated)?;
    Ok(u32::from_le_bytes(*word))
}

fn add(bytes: &mut [u8], at: usize, delta: u32) -> Result<(), Error> {
    let moved = word(bytes, at)?.wrapping_add(delta);
    bytes.get_mut(at..at + 4).ok_or(Error::Truncated)?.copy_from_slice(&moved.to_le_bytes());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINKED: u32 = 0x0100_0000;
    const OFFSET: u32 = 0xc000_0000;

    /// Two segments of 16 bytes, at file offsets 0x100 and 0x110; then the table: a zero and `places`.
    fn payload(places: &[u32]) -> Vec<u8> {
        let mut file = vec![0; 0x120];
        file[..4].copy_from_slice(b"\x7fELF");
        let mut put = |at: usize, value: u32| file[at..at + 4].copy_from_slice(&value.to_le_bytes());
        put(24, LINKED + 2);
        put(28, 52);
        put(42, 32 | 2 << 16); // e_phentsize, e_phnum
        for (header, at) in [(52, 0), (84, 0x10)] {
            put(header, 1);
            put(header + 4, 0x100 + at);
            put(header + 8, OFFSET + LINKED + at);
            put(header + 12, LINKED + at);
            put(header + 16, 16);
        }
        put(0x104, OFFSET + LINKED + 8);
        put(0x119, LINKED);
        for place in [0].iter().chain(places) {
            file.extend(place.to_le_bytes());
        }
        file
    }

    #[test]
    fn what_is_not_loaded_is_left_out() {
        let mut file = payload(&[OFFSET + LINKED + 4]);
        assert_eq!(loaded(file.clone()), file, "of no class");
        file[4] = 1;
        file[32] = 0x20;
        file[48] = 3;
        let short = loaded(file.clone());
        assert_eq!(short.len(), 0x120);
        assert_eq!((short[32], short[48]), (0, 0), "sections");
        file.truncate(0x110);
        assert_eq!(loaded(file.clone()), file, "not all there");
        assert!(loaded(Vec::new()).is_empty());
    }

    #[test]
    fn words_in_the_table_headers_and_entry_move_by_the_same() {
        let before = payload(&[OFFSET + LINKED + 4, OFFSET + LINKED + 0x19]);
        let after = relocate(before.clone(), LINKED + 0x0300_0000).unwrap();
        for at in [24, 60, 64, 92, 96, 0x104, 0x119] {
            assert_eq!(word(&after, at).unwrap(), word(&before, at).unwrap() + 0x0300_0000, "{at:#x}");
        }
        let changed = (0..0x120).filter(|&at| after[at] != before[at]).count();
        assert_eq!(changed, 7, "nothing else");
    }

    #[test]
    fn a_kernel_that_is_there_already_stays_as_it_is() {
        assert_eq!(relocate(payload(&[]), LINKED).unwrap(), payload(&[]));
    }

    #[test]
    fn a_kernel_without_a_table_cannot_move() {
        assert_eq!(relocate(payload(&[]), LINKED * 2), Err(Error::NotRelocatable));
    }

    #[test]
    fn a_relocation_outside_the_segments_is_an_error() {
        for place in [OFFSET, OFFSET + LINKED + 0x1d, 1, u32::MAX] {
            assert_eq!(relocate(payload(&[place]), LINKED * 2), Err(Error::BadRelocation(place)));
        }
    }

    #[test]
    fn a_truncated_file_is_an_error_or_has_a_shorter_table_at_every_length() {
        let file = payload(&[OFFSET + LINKED + 4]);
        for length in 0..file.len() {
            let _ = relocate(file[..length].to_vec(), LINKED * 2);
        }
    }
}
