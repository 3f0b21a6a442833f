//! A vmlinux: an x86 ELF executable of 32 or 64 bits, whose segments go to their physical addresses and whose entry point is
//! physical too. It comes without a setup header, so what the header would say is a constant here. Or any kernel of such a file that
//! has an entry for PVH.

use super::{Entry, Error, File, Image, Kernel, LoadStep, MAX_STEPS, Protocol, pvh, zero_page::ZeroPage};
use arch::Mode;
use heapless::Vec;
use object::Endianness;
use object::elf::{
    EM_386, EM_X86_64, ET_CORE, ET_DYN, ET_EXEC, ET_REL, FileHeader32, FileHeader64, Machine, PF_X, PT_INTERP, PT_LOAD,
    PT_NOTE,
};
use object::read::elf::{FileHeader, ProgramHeader};

/// Loadable segments that a kernel may have; Linux has three or four.
pub const MAX_SEGMENTS: usize = 8;
/// COMMAND_LINE_SIZE of Linux on x86, without the NUL.
const COMMAND_LINE_MAX: usize = 2047;
/// boot.rst on `initrd_addr_max`, for a kernel that does not say.
const INITRD_MAX: u64 = 0x37ff_ffff;
/// What Linux's bzImages for x86-64 say.
const INITRD_MAX_64: u64 = 0x7fff_ffff;
/// `e_ident[EI_CLASS]` of a 64-bit file.
const ELFCLASS64: u8 = 2;
const EI_CLASS: usize = 4;
/// Bytes of a segment of notes that are read: Linux's has some 500, of which the first are Xen's.
const NOTES: usize = 2048;

/// Reads the headers of a vmlinux, all of them in `head`, its first bytes.
pub(super) fn read(file: &mut impl Image, head: &[u8]) -> Result<Kernel, Error> {
    if head.get(EI_CLASS) == Some(&ELFCLASS64) {
        let kernel = read_class::<FileHeader64<Endianness>>(file, head, EM_X86_64, Mode::Bits64)?;
        return Ok(Kernel { initrd_max: INITRD_MAX_64, ..kernel });
    }
    read_class::<FileHeader32<Endianness>>(file, head, EM_386, Mode::Bits32)
}

fn read_class<H: FileHeader<Endian = Endianness>>(
    image: &mut impl Image,
    head: &[u8],
    machine: Machine,
    mode: Mode,
) -> Result<Kernel, Error> {
    let file = H::parse(head).map_err(|_| Error::BadHeader)?;
    let endian = file.endian().map_err(|_| Error::BadHeader)?;
    if file.e_machine(endian) != machine {
        return Err(Error::OtherMachine(file.e_machine(endian).0));
    }
    if endian != Endianness::Little {
        return Err(Error::NotExecutable("it is big-endian"));
    }
    match file.e_type(endian) {
        ET_EXEC => {}
        ET_REL => return Err(Error::NotExecutable("an object file or a module, which is not linked")),
        ET_DYN => return Err(Error::NotExecutable("a shared library or a program that can be moved")),
        ET_CORE => return Err(Error::NotExecutable("a core dump")),
        _ => return Err(Error::NotExecutable("its type is unknown")),
    }
    let segments = file.program_headers(endian, head).map_err(|_| Error::BadHeader)?;
    if segments.iter().any(|s| s.p_type(endian) == PT_INTERP) {
        return Err(Error::NotExecutable("a program, which needs a dynamic linker"));
    }
    let size = image.size();
    let mut steps = Vec::new();
    for segment in segments.iter().filter(|s| s.p_type(endian) == PT_LOAD) {
        add_segment(segment, endian, size, &mut steps)?;
    }
    refuse_overlaps(&mut steps)?;
    let (at, mode, protocol) = match pvh_entry(image, segments, endian)? {
        Some(at) => (at, Mode::Bits32, Protocol::Pvh),
        None => (file.e_entry(endian).into(), mode, Protocol::Linux),
    };
    if !segments.iter().any(|s| runs(s, endian, at)) {
        return Err(Error::BadHeader);
    }
    let end = steps.iter().map(|step| step.range().1).max().ok_or(Error::BadHeader)?;
    Ok(Kernel {
        steps,
        end,
        entry: Entry { at, mode, protocol },
        is_long: machine == EM_X86_64,
        initrd_max: INITRD_MAX,
        command_line_max: COMMAND_LINE_MAX,
        zero_page: ZeroPage::with_own_header(),
    })
}

/// The entry that the notes of a kernel name.
fn pvh_entry<P: ProgramHeader<Endian = Endianness>>(
    image: &mut impl Image,
    segments: &[P],
    endian: Endianness,
) -> Result<Option<u64>, Error> {
    for segment in segments.iter().filter(|s| s.p_type(endian) == PT_NOTE) {
        let mut notes = [0; NOTES];
        let length = notes.len().min(usize::try_from(segment.p_filesz(endian).into()).unwrap_or(NOTES));
        let Some(part) = notes.get_mut(..length) else { continue };
        let read = image.read(segment.p_offset(endian).into(), part)?;
        if let Some(at) = pvh::entry(part.get(..read).unwrap_or_default()) {
            return Ok(Some(at));
        }
    }
    Ok(None)
}

fn add_segment<P: ProgramHeader<Endian = Endianness>>(
    segment: &P,
    endian: Endianness,
    size: u64,
    steps: &mut Vec<LoadStep, MAX_STEPS>,
) -> Result<(), Error> {
    let [gpa, offset] = [segment.p_paddr(endian), segment.p_offset(endian)].map(Into::into);
    let [in_file, in_memory] = [segment.p_filesz(endian), segment.p_memsz(endian)].map(Into::into);
    let zeros = in_memory.checked_sub(in_file).ok_or(Error::BadHeader)?;
    if offset.checked_add(in_file).is_none_or(|end| end > size) {
        return Err(Error::Truncated);
    }
    if gpa.checked_add(in_memory).is_none() {
        return Err(Error::BadHeader);
    }
    let copy = LoadStep::Copy { file: File::Kernel, offset, gpa, len: in_file };
    let zero = LoadStep::Zero { gpa: gpa + in_file, len: zeros };
    for step in [(in_file, copy), (zeros, zero)].into_iter().filter(|(len, _)| *len != 0).map(|(_, step)| step) {
        // One step stays free for the initrd.
        if steps.len() + 1 >= MAX_STEPS || steps.push(step).is_err() {
            return Err(Error::BadHeader);
        }
    }
    Ok(())
}

/// Sorts the steps by address, and refuses those that would undo each other.
fn refuse_overlaps(steps: &mut [LoadStep]) -> Result<(), Error> {
    steps.sort_unstable_by_key(|step| step.range().0);
    let overlap = steps.windows(2).any(|pair| matches!(pair, [a, b] if a.range().1 > b.range().0));
    if overlap { Err(Error::BadHeader) } else { Ok(()) }
}

/// Whether the processor can start at `entry` in this segment.
fn runs<P: ProgramHeader<Endian = Endianness>>(segment: &P, endian: Endianness, entry: u64) -> bool {
    let start: u64 = segment.p_paddr(endian).into();
    segment.p_type(endian) == PT_LOAD
        && segment.p_flags(endian) & PF_X == PF_X
        && entry.checked_sub(start).is_some_and(|offset| offset < segment.p_filesz(endian).into())
}
