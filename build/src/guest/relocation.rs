//! Moves a vmlinux to another physical address, as a bzImage's own start code does (Linux: CONFIG_RELOCATABLE,
//! arch/x86/boot/compressed/misc.c).
//!
//! A 32-bit kernel maps physical memory at a fixed distance, so its virtual addresses move by as much. Behind the ELF in the
//! payload there is a table of all words that hold one: little-endian 32-bit words, each the virtual address of such a
//! word, to be read from the end of the file backwards as far as a zero.
//!
//! A 64-bit kernel maps its own image at fixed virtual addresses wherever it is: its first instructions find out where they
//! run, and write that into its page tables (arch/x86/kernel/head64.c, `__startup_64`). So only where it loads changes, by
//! multiples of 2 MiB, and its tables of relocations, which are for other virtual addresses, are of no use here.

use super::error::Error;

/// Offsets and widths of fields of the ELF header and of a program header (System V ABI, chapters 4 and 5; ELF-64 Object File
/// Format).
struct Format {
    /// Bytes of an address, an offset or a size.
    word: usize,
    e_phoff: usize,
    e_shoff: usize,
    e_phentsize: usize,
    e_phnum: usize,
    e_shnum: usize,
    header: usize,
    p_offset: usize,
    p_vaddr: usize,
    p_paddr: usize,
    p_filesz: usize,
}

const E_ENTRY: usize = 24;
const P_TYPE: usize = 0;
const PT_LOAD: u64 = 1;
const PT_NULL: u32 = 0;
const PT_NOTE: u32 = 4;

const ELF32: Format = Format {
    word: 4,
    e_phoff: 28,
    e_shoff: 32,
    e_phentsize: 42,
    e_phnum: 44,
    e_shnum: 48,
    header: 52,
    p_offset: 4,
    p_vaddr: 8,
    p_paddr: 12,
    p_filesz: 16,
};

const ELF64: Format = Format {
    word: 8,
    e_phoff: 32,
    e_shoff: 40,
    e_phentsize: 54,
    e_phnum: 56,
    e_shnum: 60,
    header: 64,
    p_offset: 8,
    p_vaddr: 16,
    p_paddr: 24,
    p_filesz: 32,
};

/// What 64-bit kernels map with: they move by multiples of it.
const LARGE_PAGE: u64 = 2 << 20;

/// The format of an ELF, by its class.
fn format(elf: &[u8]) -> Option<&'static Format> {
    match elf {
        [0x7f, b'E', b'L', b'F', 1, ..] => Some(&ELF32),
        [0x7f, b'E', b'L', b'F', 2, ..] => Some(&ELF64),
        _ => None,
    }
}

/// The loaded part of an ELF, without relocation table and sections; a kernel with debug information has hundreds of
/// megabytes of those. A file that is not a complete ELF stays unchanged; the guest's loader reports what is
/// wrong with it.
pub fn loaded(mut elf: Vec<u8>) -> Vec<u8> {
    let Some(format) = format(&elf) else { return elf };
    let ends = |segment: &Segment| usize::try_from(segment.offset.checked_add(segment.filesz)?).ok();
    let end = segments(&elf, format).ok().and_then(|all| all.iter().filter_map(ends).max());
    if let Some(end) = end.filter(|end| (format.header..=elf.len()).contains(end)) {
        elf.truncate(end);
        elf[format.e_shoff..format.e_shoff + format.word].fill(0);
        // e_shnum and e_shstrndx
        elf[format.e_shnum..format.e_shnum + 4].fill(0);
    }
    elf
}

/// An ELF without the headers of its notes, among which an entry for PVH may be. A file that is no complete ELF stays unchanged.
pub fn without_notes(elf: Vec<u8>) -> Vec<u8> {
    retyped(elf, PT_NOTE, PT_NULL)
}

/// The opposite, for a test.
pub fn with_notes(elf: Vec<u8>) -> Vec<u8> {
    retyped(elf, PT_NULL, PT_NOTE)
}

fn retyped(mut elf: Vec<u8>, from: u32, to: u32) -> Vec<u8> {
    let Some(format) = format(&elf) else { return elf };
    for header in headers(&elf, format, from.into()).unwrap_or_default() {
        elf[header..header + 4].copy_from_slice(&to.to_le_bytes());
    }
    elf
}

/// A loadable segment.
struct Segment {
    header: usize,
    offset: u64,
    vaddr: u64,
    paddr: u64,
    filesz: u64,
}

/// Relocates `payload`, an ELF and what is behind it, so that its lowest segment loads at `at`.
pub fn relocate(mut payload: Vec<u8>, at: u64) -> Result<Vec<u8>, Error> {
    let format = format(&payload).ok_or(Error::NotAnElf)?;
    let segments = segments(&payload, format)?;
    let linked = segments.iter().map(|segment| segment.paddr).min().ok_or(Error::NotAnElf)?;
    let delta = at.wrapping_sub(linked);
    if delta == 0 {
        return Ok(payload);
    }
    if format.word == ELF32.word {
        let delta = u32::try_from(at).map_err(|_| Error::BadPlace(at))?.wrapping_sub(linked as u32);
        for place in table(&payload)? {
            let at = file_offset(&segments, place).ok_or(Error::BadRelocation(place))?;
            add(&mut payload, at, 4, delta.into())?;
        }
        for segment in &segments {
            add(&mut payload, segment.header + format.p_vaddr, 4, delta.into())?;
        }
    } else if !delta.is_multiple_of(LARGE_PAGE) {
        return Err(Error::BadPlace(at));
    }
    for segment in &segments {
        add(&mut payload, segment.header + format.p_paddr, format.word, delta)?;
    }
    // A physical address in both.
    add(&mut payload, E_ENTRY, format.word, delta)?;
    // The address of a PVH entry would be another one.
    Ok(without_notes(payload))
}

fn segments(elf: &[u8], format: &Format) -> Result<Vec<Segment>, Error> {
    let mut found = Vec::new();
    for header in headers(elf, format, PT_LOAD)? {
        let word = |offset: usize| field(elf, header.checked_add(offset).ok_or(Error::Truncated)?, format.word);
        let (offset, filesz) = (word(format.p_offset)?, word(format.p_filesz)?);
        found.push(Segment { header, offset, vaddr: word(format.p_vaddr)?, paddr: word(format.p_paddr)?, filesz });
    }
    Ok(found)
}

/// Where the program headers of a type are.
fn headers(elf: &[u8], format: &Format, kind: u64) -> Result<Vec<usize>, Error> {
    let table = field(elf, format.e_phoff, format.word)? as usize;
    let (size, count) = (field(elf, format.e_phentsize, 2)? as usize, field(elf, format.e_phnum, 2)? as usize);
    let mut found = Vec::new();
    for header in (0..count).map(|n| table.saturating_add(n * size)) {
        if field(elf, header.checked_add(P_TYPE).ok_or(Error::Truncated)?, 4)? == kind {
            found.push(header);
        }
    }
    Ok(found)
}

/// The virtual addresses in a 32-bit kernel's table.
fn table(payload: &[u8]) -> Result<Vec<u32>, Error> {
    let mut places = Vec::new();
    let mut at = payload.len();
    loop {
        at = at.checked_sub(4).ok_or(Error::NotRelocatable)?;
        match field(payload, at, 4)? as u32 {
            0 if places.is_empty() => return Err(Error::NotRelocatable),
            0 => return Ok(places),
            place => places.push(place),
        }
    }
}

/// Where in the file the word at virtual address `vaddr` is.
fn file_offset(segments: &[Segment], vaddr: u32) -> Option<usize> {
    segments.iter().find_map(|segment| {
        let inside = u64::from(vaddr).checked_sub(segment.vaddr)?;
        (inside.checked_add(4)? <= segment.filesz).then(|| usize::try_from(segment.offset.checked_add(inside)?).ok())?
    })
}

/// A little-endian field.
fn field(bytes: &[u8], at: usize, width: usize) -> Result<u64, Error> {
    let end = at.checked_add(width).ok_or(Error::Truncated)?;
    let bytes = bytes.get(at..end).ok_or(Error::Truncated)?;
    Ok(bytes.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte)))
}

/// Adds to a little-endian field, without a carry out of it.
fn add(bytes: &mut [u8], at: usize, width: usize, delta: u64) -> Result<(), Error> {
    let moved = field(bytes, at, width)?.wrapping_add(delta).to_le_bytes();
    bytes.get_mut(at..at + width).ok_or(Error::Truncated)?.copy_from_slice(&moved[..width]);
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
        file[..5].copy_from_slice(b"\x7fELF\x01");
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
        file[4] = 0;
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
        let after = relocate(before.clone(), u64::from(LINKED) + 0x0300_0000).unwrap();
        for at in [24, 60, 64, 92, 96, 0x104, 0x119] {
            assert_eq!(field(&after, at, 4).unwrap(), field(&before, at, 4).unwrap() + 0x0300_0000, "{at:#x}");
        }
        let changed = (0..0x120).filter(|&at| after[at] != before[at]).count();
        assert_eq!(changed, 7, "nothing else");
    }

    #[test]
    fn a_kernel_that_is_there_already_stays_as_it_is() {
        assert_eq!(relocate(payload(&[]), LINKED.into()).unwrap(), payload(&[]));
    }

    #[test]
    fn a_kernel_without_a_table_cannot_move() {
        assert_eq!(relocate(payload(&[]), u64::from(LINKED) * 2), Err(Error::NotRelocatable));
    }

    #[test]
    fn a_relocation_outside_the_segments_is_an_error() {
        for place in [OFFSET, OFFSET + LINKED + 0x1d, 1, u32::MAX] {
            assert_eq!(relocate(payload(&[place]), u64::from(LINKED) * 2), Err(Error::BadRelocation(place)));
        }
    }

    #[test]
    fn a_truncated_file_is_an_error_or_has_a_shorter_table_at_every_length() {
        let file = payload(&[OFFSET + LINKED + 4]);
        for length in 0..file.len() {
            let _ = relocate(file[..length].to_vec(), u64::from(LINKED) * 2);
        }
    }

    /// A 64-bit kernel of one segment of 32 bytes at file offset 0x100, with sections and tables of relocations behind it.
    fn payload64() -> Vec<u8> {
        let mut file = vec![0; 0x180];
        file[..5].copy_from_slice(b"\x7fELF\x02");
        let mut put = |at: usize, value: u64| file[at..at + 8].copy_from_slice(&value.to_le_bytes());
        put(24, 0x100_0000);
        put(32, 64);
        put(40, 0x140); // e_shoff
        put(54, 56 | 1 << 16); // e_phentsize, e_phnum
        put(60, 3); // e_shnum
        for (at, value) in [(0, 1), (8, 0x100), (16, 0xffff_ffff_8100_0000), (24, 0x100_0000), (32, 32)] {
            put(64 + at, value);
        }
        file
    }

    #[test]
    fn a_64_bit_kernel_keeps_its_virtual_addresses() {
        let (before, after) = (payload64(), relocate(payload64(), 0x420_0000).unwrap());
        assert_eq!(field(&after, 24, 8), Ok(0x420_0000), "the entry");
        assert_eq!(field(&after, 64 + 24, 8), Ok(0x420_0000), "where the segment loads");
        let changed = (0..before.len()).filter(|&at| after[at] != before[at]).collect::<Vec<_>>();
        assert_eq!(changed, [26, 27, 64 + 26, 64 + 27], "nothing else");
        assert_eq!(relocate(payload64(), 0x410_0000), Err(Error::BadPlace(0x410_0000)), "not a large page");
        assert_eq!(field(&relocate(payload64(), 5 << 30).unwrap(), 24, 8), Ok(5 << 30));
    }

    #[test]
    fn of_a_64_bit_kernel_only_what_is_loaded_stays() {
        let short = loaded(payload64());
        assert_eq!(short.len(), 0x120);
        assert_eq!((field(&short, 40, 8), field(&short, 60, 2)), (Ok(0), Ok(0)), "sections");
        for end in 0..0x120 {
            assert_eq!(loaded(payload64()[..end].to_vec()).len(), end, "not all there");
            let _ = relocate(payload64()[..end].to_vec(), 0x420_0000);
        }
    }

    #[test]
    fn a_32_bit_kernel_is_not_moved_above_4_gib() {
        assert_eq!(relocate(payload(&[OFFSET + LINKED + 4]), 4 << 30), Err(Error::BadPlace(4 << 30)));
    }
}
