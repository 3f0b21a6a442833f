//! The short way for device registers in memory: a MOV between a general register and an address without RAM, in flat 32-bit
//! code, which is what drivers execute. The exit itself says at which address, and that the processor allows the access;
//! what is missing is the instruction. Everything else is for `access`, which reads the VMCS at a system call a field.
//!
//! Whatever the guest can change is read anew for each exit: its page tables, and the bytes of the instruction. Only what
//! those bytes mean is remembered.
//!
//! Nothing here asks whether segments are flat, or whether the exit came from delivering an event. Instead, the instruction
//! has to lead to the exit: its operand, with segments taken as flat, must be the very address that the exit names, and it
//! must read where the exit says read. Code in a segment that is not flat can be made to look so, by a program that wants
//! to; what it gets is a wrong value in a register of its own.

use devices::Width;
use vtx::{
    exit::{Direction, EptViolation},
    gpr::{Gpr, Place},
    vmcs::Vmcs,
    words::Words,
};

use crate::{
    paging::{Paging, locate},
    ram::Ram,
    run::Guest,
    time::Present,
};

const PAGE: u32 = 4096;
/// Bytes that are looked at: opcode, ModRM, displacement, and a prefix or the first byte of a long opcode.
const BYTES: u32 = 8;
/// Instructions that are kept: a power of two.
const KEPT: usize = 16;

/// A MOV between a register and memory, MOVZX among them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Move {
    /// Of the instruction, in bytes.
    pub length: u32,
    /// Whether it reads the memory; otherwise it writes.
    pub load: bool,
    /// The operand in memory: what it is when all its bits are ones.
    pub ones: u32,
    /// How many bytes that is.
    pub width: Width,
    /// The other operand.
    pub register: Place,
    /// What a load leaves of the register: MOVZX clears the rest.
    kept: u32,
    /// The highest offset in a page at which the operand does not reach into the next.
    last: u32,
    base: Option<Place>,
    displacement: u32,
}

impl Move {
    /// The register, with `value` loaded.
    #[inline(always)]
    pub fn loaded(&self, exit: &impl Words, value: u32) -> u64 {
        (exit.register(self.register) as u32 & self.kept | value).into()
    }
}

/// Answers a violation, if it is that simple: the instruction is done, and is to be skipped. Otherwise nothing has happened.
#[inline(never)]
pub fn answer<V: Vmcs>(guest: &mut Guest<V>, now: Present) -> bool {
    let exit = &guest.cpu.exit;
    let Some(access) = guest.moves.find(exit, guest.control.paging(), &guest.ram) else { return false };
    if access.load {
        let value = guest.machine.read_memory(exit.guest_physical, access.width, now);
        let value = access.loaded(exit, value);
        *guest.cpu.gprs_mut().at_mut(access.register) = value;
    } else {
        let value = exit.register(access.register) as u32 & access.ones;
        guest.machine.write_memory(exit.guest_physical, access.width, value, now);
    }
    guest.cpu.exit.instruction_len = access.length;
    true
}

/// What was decoded of late. Drivers have few instructions that access a device, and execute them again and again.
pub struct Moves {
    kept: [Known; KEPT],
}

/// An instruction, and the bytes that it was decoded from: those of `code` where `significant` is all ones.
#[derive(Clone, Copy)]
struct Known {
    code: u64,
    significant: u64,
    instruction: Move,
}

impl Default for Moves {
    fn default() -> Self {
        Self::new()
    }
}

impl Moves {
    /// None yet.
    pub const fn new() -> Self {
        const NOTHING: Move = Move {
            length: 0,
            load: false,
            ones: 0,
            register: Place::Rax,
            kept: 0,
            width: Width::Byte,
            last: 0,
            base: None,
            displacement: 0,
        };
        // No code has ones where nothing is significant.
        Self { kept: [Known { code: 1, significant: 0, instruction: NOTHING }; KEPT] }
    }

    /// The instruction that led to an EPT violation, if it is that simple.
    #[inline(always)]
    pub fn find(&mut self, exit: &impl Words, paging: Paging, ram: &Ram) -> Option<&Move> {
        let cr3 = exit.cr3();
        match paging {
            // What most 32-bit guests have is known to the compiler here, which makes the walks shorter.
            Paging::Bits32 { large: true } => {
                self.find_by(exit, ram, |linear| locate(Paging::Bits32 { large: true }, cr3, ram, linear))
            }
            paging => {
                core::hint::cold_path();
                self.find_by(exit, ram, |linear| locate_at_length(paging, cr3, ram, linear))
            }
        }
    }

    #[inline(always)]
    fn find_by(&mut self, exit: &impl Words, ram: &Ram, locate: impl Fn(u32) -> Option<u64>) -> Option<&Move> {
        let direction = EptViolation::direction(exit.qualification())?;
        let rip = exit.rip() as u32;
        if rip % PAGE > PAGE - BYTES {
            return None;
        }
        let code = ram.read_u64(locate(rip)?).ok()?;
        let access = self.decode(code)?;
        let base = access.base.map_or(0, |base| exit.register(base) as u32);
        let linear = base.wrapping_add(access.displacement);
        if access.load != (direction == Direction::In) || linear % PAGE > access.last {
            return None;
        }
        (locate(linear)? == exit.guest_physical()).then_some(access)
    }

    /// The same as [`decode`].
    #[inline(always)]
    fn decode(&mut self, code: u64) -> Option<&Move> {
        // Opcodes are few: mostly the byte behind makes the difference.
        let known = &mut self.kept[(code >> 8) as usize % KEPT];
        if code & known.significant != known.code {
            *known = first(code)?;
        }
        Some(&known.instruction)
    }
}

#[inline(never)]
fn locate_at_length(paging: Paging, cr3: u64, ram: &Ram, linear: u32) -> Option<u64> {
    locate(paging, cr3, ram, linear)
}

#[cold]
fn first(code: u64) -> Option<Known> {
    let instruction = decode(code)?;
    let significant = u64::MAX >> (64 - 8 * instruction.length);
    Some(Known { code: code & significant, significant, instruction })
}

/// Decodes what `code` begins with, its first byte lowest.
fn decode(code: u64) -> Option<Move> {
    let (mut code, mut length, mut operand) = (code, 0, Width::Dword);
    if code & 0xff == 0x66 {
        (code, length, operand) = (code >> 8, 1, Width::Word);
    }
    let (width, load, to_width) = match code as u8 {
        0x88 => (Width::Byte, false, Width::Byte),
        0x89 => (operand, false, operand),
        0x8a => (Width::Byte, true, Width::Byte),
        0x8b => (operand, true, operand),
        0x0f => {
            code >>= 8;
            length += 1;
            match code as u8 {
                0xb6 => (Width::Byte, true, operand),
                0xb7 => (Width::Word, true, operand),
                _ => return None,
            }
        }
        _ => return None,
    };
    let modrm = (code >> 8) as u8;
    let (mode, register, rm) = (modrm >> 6, modrm >> 3 & 7, modrm & 7);
    // A byte register from 4 on is AH to BH; the operand 4 has a SIB byte.
    let high = register > 3 && to_width == Width::Byte;
    let (base, displacement, more) = match (mode, rm) {
        (3, _) | (_, 4) => return None,
        (0, 5) => (None, (code >> 16) as u32, 4),
        (0, _) => (Some(rm), 0, 0),
        (1, _) => (Some(rm), (code >> 16) as i8 as u32, 1),
        _ => (Some(rm), (code >> 16) as u32, 4),
    };
    if high {
        return None;
    }
    Some(Move {
        length: length + 2 + more,
        load,
        ones: width.mask32(),
        register: Gpr::from_bits(register).place()?,
        kept: !to_width.mask32(),
        width,
        last: PAGE - width.bytes() as u32,
        base: base.and_then(|base| Gpr::from_bits(base).place()),
        displacement,
    })
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;
    use crate::insn::{Instruction, Mode, Operation, Source};
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(100_000) })]

        #[test]
        fn what_is_decoded_here_is_what_the_full_decoder_finds(
            prefix in any::<bool>(),
            opcode in prop::sample::select(std::vec![0x88u64, 0x89, 0x8a, 0x8b, 0xb60f, 0xb70f, 0xbe0f, 0xc7, 0xa1]),
            rest: u64,
        ) {
            let long = if opcode > 0xff { 16 } else { 8 };
            let code = opcode | rest << long;
            let code = if prefix { code << 8 | 0x66 } else { code };
            let full = Instruction::decode(&code.to_le_bytes(), Mode::Bits32);
            if let Some(short) = decode(code) {
                let full = full.unwrap();
                let number = |place| (0..8).find(|&n| Gpr::from_bits(n).place() == Some(place)).unwrap();
                prop_assert_eq!((short.length, short.width), (full.length.into(), full.width));
                prop_assert_eq!(short.base.map(number), full.address.base);
                prop_assert_eq!((None, short.displacement), (full.address.index, full.address.displacement as u32));
                match full.operation {
                    Operation::Load(to) => {
                        prop_assert_eq!((true, number(short.register), !short.kept), (short.load, to, full.width.mask32()));
                    }
                    Operation::Extend { to, to_width, signed: false } => {
                        prop_assert_eq!((true, number(short.register), !short.kept), (short.load, to, to_width.mask32()));
                    }
                    Operation::Store(Source::Register(from)) => {
                        prop_assert_eq!((false, number(short.register)), (short.load, from));
                    }
                    other => prop_assert!(false, "{:?}", other),
                }
            }
        }

        #[test]
        fn what_is_kept_is_what_would_be_decoded_anew(
            codes in prop::collection::vec((prop::sample::select(std::vec![0x89u64, 0x8b, 0x66, 0x0f]), 0..0x1000u64, 0..3u64), 1..40),
        ) {
            let mut moves = Moves::new();
            for (opcode, more, far) in codes {
                let code = opcode | more << 8 | far << 40;
                prop_assert_eq!(moves.decode(code).copied(), decode(code), "{:#x}", code);
            }
        }
    }
}
