//! The fast path for device registers in memory: a MOV between a general register and an address without RAM, in flat
//! 32-bit code or in 64-bit code, as drivers execute it. The exit gives the address, and the processor has checked the access; only the
//! instruction is missing. `access` is the slow path for everything else: it reads the VMCS, at one system call per
//! field.
//!
//! At each exit, the fast path reads again whatever the guest can change: its page tables and the bytes of the
//! instruction. It caches only the decoding of those bytes by `insn`.
//!
//! It does not check (in the VMCS) that segments are flat, nor that the exit did not come from the delivery of an
//! event. Instead, the instruction must explain the exit: with flat segments, its operand must be at the address that
//! the exit names, and it must read if the exit was a read. A program in a segment that is not flat can construct code
//! that passes this check; all it gets is a wrong value in a register of its own. Nor does it check, in long mode, that the
//! code is 64-bit code. What it takes for a MOV is one in 32-bit code as well: a byte that is a REX prefix in one is an
//! instruction without an operand in memory in the other.

use arch::{Mode, Width};
use vtx::{
    exit::{Direction, EptViolation},
    gpr::{Gpr, MessageGpr},
    words::Words,
};

use crate::{
    insn::{Instruction, NEXT, Operation, Segment, Source},
    paging::{Paging, locate},
    ram::Ram,
};

const PAGE: u64 = 4096;
/// Bytes of code that are read: opcode, ModRM, displacement, and a prefix or the first byte of a long opcode.
const BYTES: u64 = 8;
/// Entries of the cache: a power of two.
const KEPT: usize = 16;

/// A MOV between a register and memory, MOVZX among them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Move {
    /// Length of the instruction, in bytes.
    pub length: u32,
    /// Whether it reads the memory; otherwise it writes.
    pub load: bool,
    /// The operand in memory with all bits set: the mask of its width.
    pub ones: u64,
    /// The width of that operand.
    pub width: Width,
    /// The other operand.
    pub register: MessageGpr,
    /// The bits of the register that a load leaves unchanged. MOVZX writes all of its destination.
    kept: u64,
    /// The highest offset in a page at which the operand does not reach into the next page.
    last: u64,
    base: Option<MessageGpr>,
    displacement: u64,
}

impl Move {
    /// The register, with `value` loaded.
    #[inline(always)]
    pub fn loaded(&self, exit: &impl Words, value: u64) -> u64 {
        exit.register(self.register) & self.kept | value
    }

    /// The MOV that an instruction is, if it is simple enough. Not with byte registers from 4 on, which are AH to BH,
    /// nor with RSP, which the exit does not carry.
    fn of(instruction: &Instruction) -> Option<Self> {
        let Instruction { length, operation, width, address, mode } = *instruction;
        let (load, register, to) = match operation {
            Operation::Load(to) => (true, to, width),
            Operation::Extend { to, to_width, signed: false } => (true, to, to_width),
            Operation::Store(Source::Register(from)) => (false, from, width),
            _ => return None,
        };
        let flat = matches!(address.segment, Segment::Ds | Segment::Ss) && address.size == mode;
        // Device registers have 32 bits.
        let wide = width == Width::Qword;
        if !flat || wide || address.index.is_some() || to == Width::Byte && register > 3 {
            return None;
        }
        let base = match address.base {
            Some(NEXT) => return None,
            Some(base) => Some(Gpr::from_bits(base).place()?),
            None => None,
        };
        Some(Self {
            length: length.into(),
            load,
            ones: width.mask(),
            width,
            register: Gpr::from_bits(register).place()?,
            kept: if to == Width::Dword { 0 } else { mode.wrap(!to.mask()) },
            last: PAGE - width.bytes() as u64,
            base,
            displacement: address.displacement,
        })
    }
}

/// The cache of decoded instructions. Drivers have few instructions that access a device, and execute them often.
#[derive(Clone, Debug)]
pub struct Moves {
    mode: Mode,
    kept: [Known; KEPT],
}

/// An instruction, and the bytes that it was decoded from: those of `code` where `significant` has ones.
#[derive(Clone, Copy, Debug)]
struct Known {
    code: u64,
    significant: u64,
    instruction: Move,
}

impl Moves {
    /// An empty cache for code of this mode, 32 or 64 bits.
    pub const fn new(mode: Mode) -> Self {
        const NOTHING: Move = Move {
            length: 0,
            load: false,
            ones: 0,
            register: MessageGpr::Rax,
            kept: 0,
            width: Width::Byte,
            last: 0,
            base: None,
            displacement: 0,
        };
        // Matches no code: the entry has a one in `code` where `significant` has none.
        Self { mode, kept: [Known { code: 1, significant: 0, instruction: NOTHING }; KEPT] }
    }

    /// The instruction that led to an EPT violation, if it is that simple.
    #[inline(always)]
    pub fn find(&mut self, exit: &impl Words, violation: EptViolation, paging: Paging, ram: &Ram) -> Option<&Move> {
        match paging {
            // Most 32-bit guests page like this. As a constant, it lets the compiler shorten the two walks of the page
            // tables.
            Paging::Bits32 { large: true } => self.find_by::<true>(exit, violation, ram, paging),
            paging => {
                core::hint::cold_path();
                self.find_by::<false>(exit, violation, ram, paging)
            }
        }
    }

    #[inline(always)]
    fn find_by<const USUAL: bool>(
        &mut self,
        exit: &impl Words,
        violation: EptViolation,
        ram: &Ram,
        paging: Paging,
    ) -> Option<&Move> {
        let cr3 = exit.cr3();
        let mode = if USUAL { Mode::Bits32 } else { self.mode };
        let rip = exit.rip();
        // Near the end of a page, the instruction may continue in the next one, which would take another walk.
        if rip % PAGE > PAGE - BYTES {
            return None;
        }
        // CS is taken as flat: RIP is a linear address.
        let code = ram.read_u64(locate_by::<USUAL>(paging, cr3, ram, rip)?).ok()?;
        let access = self.decode(code)?;
        let base = access.base.map_or(0, |base| exit.register(base));
        let linear = mode.wrap(base.wrapping_add(access.displacement));
        let direction = if access.load { Direction::In } else { Direction::Out };
        if !violation.is_operand(direction) || linear % PAGE > access.last {
            return None;
        }
        (locate_by::<USUAL>(paging, cr3, ram, linear)? == violation.gpa).then_some(access)
    }

    /// What `code` begins with, its first byte lowest.
    #[inline(always)]
    fn decode(&mut self, code: u64) -> Option<&Move> {
        // Indexed by the byte after the opcode: there are few opcodes, so that byte tells instructions apart.
        let known = &mut self.kept[(code >> 8) as usize % KEPT];
        if code & known.significant != known.code {
            *known = first(code, self.mode)?;
        }
        Some(&known.instruction)
    }
}

/// The guest-physical address of `linear`; with the `USUAL` paging, inline.
#[inline(always)]
fn locate_by<const USUAL: bool>(paging: Paging, cr3: u64, ram: &Ram, linear: u64) -> Option<u64> {
    if USUAL {
        locate(Paging::Bits32 { large: true }, cr3, ram, linear)
    } else {
        locate_at_length(paging, cr3, ram, linear)
    }
}

#[inline(never)]
fn locate_at_length(paging: Paging, cr3: u64, ram: &Ram, linear: u64) -> Option<u64> {
    locate(paging, cr3, ram, linear)
}

#[cold]
fn first(code: u64, mode: Mode) -> Option<Known> {
    let instruction = Move::of(&Instruction::decode(&code.to_le_bytes(), mode)?)?;
    let significant = u64::MAX >> (64 - 8 * instruction.length);
    Some(Known { code: code & significant, significant, instruction })
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_takes_more_than_the_exit_is_not_simple() {
        let simple_in = |mode, bytes: &[u8]| {
            let mut code = [0; 8];
            code[..bytes.len()].copy_from_slice(bytes);
            first(u64::from_le_bytes(code), mode).is_some()
        };
        let simple = |bytes: &[u8]| simple_in(Mode::Bits32, bytes);
        for (bytes, is_simple) in [
            (&[0x89, 0xb7, 0x00, 0xb0, 0x5f, 0xff][..], true), // mov %esi, -0xa05000(%rdi)
            (&[0x8b, 0x04, 0x25, 0x20, 0xb0, 0x5f, 0xff], true), // mov 0xffffffffff5fb020, %eax
            (&[0x45, 0x8b, 0x45, 0x10], true),                 // mov 0x10(%r13), %r8d
            (&[0x4c, 0x8b, 0x06], false),                      // mov (%rsi), %r8
            (&[0x8b, 0x05, 0x10, 0, 0, 0], false),             // mov 0x10(%rip), %eax
            (&[0x40, 0x88, 0x3e], false),                      // mov %dil, (%rsi)
            (&[0x67, 0x8b, 0x06], false),                      // mov (%esi), %eax
        ] {
            assert_eq!(simple_in(Mode::Bits64, bytes), is_simple, "{bytes:02x?}");
        }
        for bytes in [&[0x8b, 0x06][..], &[0x66, 0x89, 0x46, 8], &[0x0f, 0xb7, 0x06], &[0xa1, 1, 2, 3, 4]] {
            assert!(simple(bytes), "{bytes:02x?}");
        }
        for bytes in [
            &[0x88, 0x26][..],   // mov %ah, (%esi)
            &[0x89, 0x26],       // mov %esp, (%esi)
            &[0x8b, 0x04, 0x24], // mov (%esp), %eax
            &[0x8b, 0x04, 0x8e], // mov (%esi,%ecx,4), %eax
            &[0x65, 0x8b, 0x06], // mov %gs:(%esi), %eax
            &[0x67, 0x8b, 0x04], // mov (%si), %eax
            &[0x0f, 0xbe, 0x06], // movsbl (%esi), %eax
            &[0xc6, 0x06, 1],    // movb $1, (%esi)
            &[0x0b, 0x06],       // or (%esi), %eax
        ] {
            assert!(!simple(bytes), "{bytes:02x?}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(100_000) })]

        #[test]
        fn what_is_kept_is_what_would_be_decoded_anew(
            codes in prop::collection::vec((prop::sample::select(std::vec![0x89u64, 0x8b, 0x66, 0x0f]), 0..0x1000u64, 0..3u64), 1..40),
        ) {
            let mut moves = Moves::new(Mode::Bits32);
            for (opcode, more, far) in codes {
                let code = opcode | more << 8 | far << 40;
                let anew = first(code, Mode::Bits32).map(|known| known.instruction);
                prop_assert_eq!(moves.decode(code).copied(), anew, "{:#x}", code);
            }
        }
    }
}
