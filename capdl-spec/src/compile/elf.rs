//! Programs: the loadable segments of an ELF become frames of a VSpace. seL4 does not set execute-disable, so a
//! segment's rights are to read, or to read and write; all pages are executable.

use layout::window;
use object::{Endianness, elf, read::elf::FileHeader, read::elf::ProgramHeader};

use crate::compile::bundle::PAGE;

/// A loadable segment.
pub(crate) struct Segment<'a> {
    pub at: u64,
    pub memory: u64,
    pub writable: bool,
    pub data: &'a [u8],
}

pub(crate) struct Program<'a> {
    pub entry: u64,
    pub segments: Vec<Segment<'a>>,
}

/// Why an ELF is no program for Portcullis.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ElfError {
    /// Not ELF64, or cut short.
    #[error("it is not a whole 64-bit ELF file")]
    Malformed,
    /// Relocatable, for another processor …
    #[error("it is not a static x86-64 executable")]
    NotExecutable,
    /// Outside the addresses of `layout::window` for images.
    #[error("a segment at {0:#x} lies outside the addresses for programs, {from:#x} to {to:#x}", from = window::IMAGE, to = IMAGE_END)]
    Outside(u64),
    /// Two segments share a page, and rights belong to pages.
    #[error("two segments share the page at {0:#x}")]
    SharedPage(u64),
}

/// Where programs must end: one page below the stacks, so that a stack overflow faults.
const IMAGE_END: u64 = window::STACKS - PAGE;

pub(crate) fn parse(file: &[u8]) -> Result<Program<'_>, ElfError> {
    let header = elf::FileHeader64::<Endianness>::parse(file).map_err(|_| ElfError::Malformed)?;
    let endian = header.endian().map_err(|_| ElfError::Malformed)?;
    if header.e_type(endian) != elf::ET_EXEC || header.e_machine(endian) != elf::EM_X86_64 {
        return Err(ElfError::NotExecutable);
    }
    let mut segments = Vec::new();
    for one in header.program_headers(endian, file).map_err(|_| ElfError::Malformed)? {
        if one.p_type(endian) != elf::PT_LOAD || one.p_memsz(endian) == 0 {
            continue;
        }
        let data = one.data(endian, file).map_err(|_| ElfError::Malformed)?;
        let segment = Segment {
            at: one.p_vaddr(endian),
            memory: one.p_memsz(endian),
            writable: one.p_flags(endian).contains(elf::PF_W),
            data,
        };
        check(&segment, segments.last())?;
        segments.push(segment);
    }
    Ok(Program { entry: header.e_entry(endian), segments })
}

/// ELF lists segments by ascending address.
fn check(segment: &Segment, before: Option<&Segment>) -> Result<(), ElfError> {
    let end = segment.at.checked_add(segment.memory).ok_or(ElfError::Outside(segment.at))?;
    if segment.data.len() as u64 > segment.memory {
        return Err(ElfError::Malformed);
    }
    if segment.at < window::IMAGE || end > IMAGE_END {
        return Err(ElfError::Outside(segment.at));
    }
    let page = segment.at / PAGE;
    match before {
        Some(before) if (before.at + before.memory - 1) / PAGE >= page => Err(ElfError::SharedPage(page * PAGE)),
        _ => Ok(()),
    }
}
