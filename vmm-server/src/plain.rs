//! The short way for device registers in memory: a MOV between a general register and an address without RAM, in flat 32-bit
//! code, which is what drivers execute. The exit itself says at which address, and that the processor allows the access;
//! what is missing is the instruction. Everything else is for `access`, which reads the VMCS at a system call a field.
//!
//! Nothing here asks whether segments are flat, or whether the exit came from delivering an event. Instead, the instruction
//! has to lead to the exit: its operand, with segments taken as flat, must be the very address that the exit names, and it
//! must read where the exit says read. Code in a segment that is not flat can be made to look so, by a program that wants
//! to; what it gets is a wrong value in a register of its own.

use devices::Width;
use vtx::{
    exit::{EptTarget, EptViolation},
    gpr::Gpr,
    vmcs::Vmcs,
};

use crate::{
    paging::{EntrySize, Intent, Paging, Root, translate},
    ram::Ram,
    run::Guest,
};

const PAGE: u32 = 4096;
/// Bytes that are looked at: opcode, ModRM, displacement, and a prefix or the first byte of a long opcode.
const BYTES: u32 = 8;

/// A MOV, MOVZX among them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Move {
    length: u8,
    /// Of the operand in memory.
    width: Width,
    load: bool,
    /// What the loaded value goes into: MOVZX clears the rest.
    to_width: Width,
    register: Gpr,
    base: Option<Gpr>,
    displacement: u32,
}

/// Answers a violation, if it is that simple: the instruction is done, and is to be skipped. Otherwise nothing has happened.
#[inline(never)]
pub fn answer<V: Vmcs>(guest: &mut Guest<V>, violation: EptViolation) -> bool {
    execute(guest, violation).is_some()
}

#[inline(always)]
fn execute<V: Vmcs>(guest: &mut Guest<V>, violation: EptViolation) -> Option<()> {
    if violation.target != EptTarget::Operand || violation.exec || violation.read == violation.write {
        return None;
    }
    let root = Root { paging: guest.control.paging(), cr3: guest.cpu.exit.cr3, write_protect: false };
    let rip = guest.cpu.exit.rip as u32;
    if rip % PAGE > PAGE - BYTES {
        return None;
    }
    let code = guest.ram.read_u64(physical(&root, &guest.ram, rip)?).ok()?;
    let instruction = decode(code)?;
    let gprs = &guest.cpu.exit.gprs;
    let base = match instruction.base {
        Some(base) => gprs.get(base)? as u32,
        None => 0,
    };
    let linear = base.wrapping_add(instruction.displacement);
    let crosses = linear % PAGE > PAGE - instruction.width.bytes() as u32;
    if crosses || instruction.load != violation.read || physical(&root, &guest.ram, linear)? != violation.gpa {
        return None;
    }
    let devices = &mut guest.machine.passthrough;
    let old = gprs.get(instruction.register)? as u32;
    if instruction.load {
        let value = devices.read_memory(violation.gpa, instruction.width);
        let kept = old & !instruction.to_width.mask();
        guest.cpu.set_gpr(instruction.register, (kept | value).into());
    } else {
        devices.write_memory(violation.gpa, instruction.width, old & instruction.width.mask());
    }
    guest.cpu.exit.instruction_len = instruction.length.into();
    Some(())
}

/// The processor has checked the rights. Tables of 32-bit entries are walked here, in half the instructions.
#[inline(always)]
fn physical(root: &Root, ram: &Ram, linear: u32) -> Option<u64> {
    match root.paging {
        Paging::Bits32 { large } => by_short_entries(root.cr3 as u32, large, ram, linear),
        _ => by_any_table(root, ram, linear),
    }
}

#[inline(always)]
fn by_short_entries(cr3: u32, large: bool, ram: &Ram, linear: u32) -> Option<u64> {
    const PRESENT: u32 = 1 << 0;
    const LARGE: u32 = 1 << 7;
    /// Of a large page's entry: address bits 32 to 39, and one that is reserved. No page with those is looked at.
    const HIGH: u32 = 0x003f_e000;
    let pde = ram.read_u32((cr3 & !0xfff | linear >> 20 & 0xffc).into()).ok()?;
    if large && pde & LARGE != 0 {
        return (pde & (PRESENT | HIGH) == PRESENT).then(|| (pde & 0xffc0_0000 | linear & 0x003f_ffff).into());
    }
    let pte = ram.read_u32((pde & !0xfff | linear >> 10 & 0xffc).into()).ok()?;
    (pde & pte & PRESENT != 0).then(|| (pte & !0xfff | linear & 0xfff).into())
}

#[inline(never)]
fn by_any_table(root: &Root, ram: &Ram, linear: u32) -> Option<u64> {
    let intent = Intent { write: false, user: false };
    let read = |at, size| match size {
        EntrySize::Four => ram.read_u32(at).ok().map(u64::from),
        EntrySize::Eight => ram.read_u64(at).ok(),
    };
    translate(root, linear, intent, read).ok()
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
    let register = (!high).then(|| Gpr::from_bits(register))?;
    Some(Move {
        length: length + 2 + more,
        width,
        load,
        to_width,
        register,
        base: base.map(Gpr::from_bits),
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
                let number = |gpr: Gpr| (0..8).find(|&n| Gpr::from_bits(n) == gpr).unwrap();
                prop_assert_eq!((short.length, short.width), (full.length, full.width));
                prop_assert_eq!(short.base.map(number), full.address.base);
                prop_assert_eq!((None, short.displacement), (full.address.index, full.address.displacement));
                match full.operation {
                    Operation::Load(to) => {
                        prop_assert_eq!((true, number(short.register), short.to_width), (short.load, to, full.width));
                    }
                    Operation::Extend { to, to_width, signed: false } => {
                        prop_assert_eq!((true, number(short.register), short.to_width), (short.load, to, to_width));
                    }
                    Operation::Store(Source::Register(from)) => {
                        prop_assert_eq!((false, number(short.register)), (short.load, from));
                    }
                    other => prop_assert!(false, "{:?}", other),
                }
            }
        }
    }
}
