//! Effective addresses: ModRM, SIB and displacement (SDM volume 2, tables 2-1 to 2-3).

use super::cursor::Cursor;
use super::{Mode, Registers, Width};

/// A segment register, numbered as instructions encode it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Segment {
    Es,
    Cs,
    Ss,
    Ds,
    Fs,
    Gs,
}

/// Where a memory operand is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address {
    /// Segment, whose base is to be added.
    pub segment: Segment,
    /// Size of the offset.
    pub size: Mode,
    /// Number of the base register.
    pub base: Option<u8>,
    /// Number of the index register, and how far its value is shifted left.
    pub index: Option<(u8, u8)>,
    /// Displacement, sign-extended.
    pub displacement: u64,
}

impl Address {
    /// An offset without registers, as of MOV from or to AL, AX or EAX.
    pub(super) const fn absolute(size: Mode, segment: Segment, displacement: u64) -> Self {
        Address { segment, size, base: None, index: None, displacement }
    }

    /// The operand's offset in its segment, plus `extra`.
    pub(super) fn offset(&self, registers: &Registers, extra: u64) -> u64 {
        let base = self.base.map_or(0, |number| registers.get(number, Width::Qword));
        let index = self.index.map_or(0, |(number, shift)| registers.get(number, Width::Qword) << (shift & 3));
        let sum = base.wrapping_add(index).wrapping_add(self.displacement).wrapping_add(extra);
        sum & self.size.offset().mask()
    }

    pub(super) fn uses(&self, number: u8) -> bool {
        self.base == Some(number) || self.index.is_some_and(|(index, _)| index == number)
    }
}

/// The ModRM byte, taken apart, with what follows it.
pub(super) struct ModRm {
    /// The middle field: a register, or more of the opcode.
    pub reg: u8,
    pub address: Address,
}

/// Reads a ModRM byte that names memory, with its SIB byte and displacement. `None` also for a register.
pub(super) fn modrm(cursor: &mut Cursor, size: Mode, segment: Option<Segment>) -> Option<ModRm> {
    let byte = cursor.byte()?;
    let (mode, reg, rm) = (byte >> 6, byte >> 3 & 7, byte & 7);
    if mode == 3 {
        return None;
    }
    let mut address = match size {
        Mode::Bits16 => address16(cursor, mode, rm)?,
        Mode::Bits32 => address32(cursor, mode, rm)?,
    };
    address.segment = segment.unwrap_or(address.segment);
    Some(ModRm { reg, address })
}

fn address32(cursor: &mut Cursor, mode: u8, rm: u8) -> Option<Address> {
    const ESP: u8 = 4;
    const EBP: u8 = 5;
    let (mut base, mut index) = (Some(rm), None);
    if rm == ESP {
        let sib = cursor.byte()?;
        base = Some(sib & 7);
        index = Some((sib >> 3 & 7, sib >> 6)).filter(|&(number, _)| number != ESP);
    }
    if mode == 0 && base == Some(EBP) {
        base = None;
    }
    let displacement = match mode {
        0 if base.is_none() => cursor.dword()? as i32 as u64,
        0 => 0,
        1 => cursor.byte()? as i8 as u64,
        _ => cursor.dword()? as i32 as u64,
    };
    Some(Address { segment: default_segment(base), size: Mode::Bits32, base, index, displacement })
}

fn address16(cursor: &mut Cursor, mode: u8, rm: u8) -> Option<Address> {
    const BX: u8 = 3;
    const BP: u8 = 5;
    const SI: u8 = 6;
    const DI: u8 = 7;
    let (base, index) = match rm {
        0 => (Some(BX), Some((SI, 0))),
        1 => (Some(BX), Some((DI, 0))),
        2 => (Some(BP), Some((SI, 0))),
        3 => (Some(BP), Some((DI, 0))),
        4 => (Some(SI), None),
        5 => (Some(DI), None),
        6 if mode == 0 => (None, None),
        6 => (Some(BP), None),
        _ => (Some(BX), None),
    };
    let displacement = match mode {
        0 if base.is_none() => u64::from(cursor.word()?),
        0 => 0,
        1 => cursor.byte()? as i8 as u64,
        _ => u64::from(cursor.word()?),
    };
    Some(Address { segment: default_segment(base), size: Mode::Bits16, base, index, displacement })
}

/// The stack's, where the base is ESP or EBP.
fn default_segment(base: Option<u8>) -> Segment {
    match base {
        Some(4 | 5) => Segment::Ss,
        _ => Segment::Ds,
    }
}
