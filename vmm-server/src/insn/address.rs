//! Effective addresses: ModRM, SIB and displacement (SDM volume 2, tables 2-1 to 2-3), with what REX adds in 64-bit mode.

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
    /// Number of the base register, or [`NEXT`].
    pub base: Option<u8>,
    /// Number of the index register, and how far its value is shifted left.
    pub index: Option<(u8, u8)>,
    /// Displacement, sign-extended.
    pub displacement: u64,
}

/// As [`Address::base`]: the address of the next instruction, which is where a RIP-relative operand counts from.
pub const NEXT: u8 = 16;

/// The low bits of a prefix from 0x40 to 0x4f, in 64-bit mode.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Rex(u8);

impl Rex {
    pub const fn from_prefix(prefix: u8) -> Self {
        Self(prefix & 15)
    }

    /// W: operands of 64 bits.
    pub const fn wide(self) -> bool {
        self.0 & 8 != 0
    }

    /// The number of a register whose low three bits are `low`, and whose highest is the bit `extension` of the prefix.
    const fn register(self, low: u8, extension: u8) -> u8 {
        low | (self.0 >> extension & 1) << 3
    }

    /// By the middle field of ModRM.
    const fn reg(self, low: u8) -> u8 {
        self.register(low, 2)
    }

    const fn index(self, low: u8) -> u8 {
        self.register(low, 1)
    }

    const fn base(self, low: u8) -> u8 {
        self.register(low, 0)
    }
}

impl Address {
    /// An offset without registers, as of MOV from or to AL, AX or EAX.
    pub(super) const fn absolute(size: Mode, segment: Segment, displacement: u64) -> Self {
        Address { segment, size, base: None, index: None, displacement }
    }

    /// The operand's offset in its segment, plus `extra`.
    pub(super) fn offset(&self, registers: &Registers, extra: u64) -> u64 {
        let base = match self.base {
            None => 0,
            Some(NEXT) => registers.next,
            Some(number) => registers.get(number, Width::Qword),
        };
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
    /// The middle field: more of the opcode.
    pub digit: u8,
    /// The register that it names otherwise.
    pub reg: u8,
    pub address: Address,
}

/// Reads a ModRM byte that names memory, with its SIB byte and displacement. `None` also for a register.
pub(super) fn modrm(cursor: &mut Cursor, code: Mode, size: Mode, rex: Rex, segment: Option<Segment>) -> Option<ModRm> {
    let byte = cursor.byte()?;
    let (mode, digit, rm) = (byte >> 6, byte >> 3 & 7, byte & 7);
    if mode == 3 {
        return None;
    }
    let mut address = match size {
        Mode::Bits16 => address16(cursor, mode, rm)?,
        Mode::Bits32 | Mode::Bits64 => address_by_sib(cursor, code, size, rex, mode, rm)?,
    };
    address.segment = segment.unwrap_or(address.segment);
    Some(ModRm { digit, reg: rex.reg(digit), address })
}

/// In 64-bit mode, what is an address without a base elsewhere counts from the next instruction, unless there is a SIB byte. REX
/// does not change what the low three bits of a number select.
fn address_by_sib(cursor: &mut Cursor, code: Mode, size: Mode, rex: Rex, mode: u8, rm: u8) -> Option<Address> {
    const ESP: u8 = 4;
    const EBP: u8 = 5;
    let (mut low, mut index) = (rm, None);
    if rm == ESP {
        let sib = cursor.byte()?;
        low = sib & 7;
        index = Some((rex.index(sib >> 3 & 7), sib >> 6)).filter(|&(number, _)| number != ESP);
    }
    let absolute = mode == 0 && low == EBP;
    let base = match absolute {
        false => Some(rex.base(low)),
        true if code == Mode::Bits64 && rm != ESP => Some(NEXT),
        true => None,
    };
    let displacement = match mode {
        0 if absolute => cursor.dword()? as i32 as u64,
        0 => 0,
        1 => cursor.byte()? as i8 as u64,
        _ => cursor.dword()? as i32 as u64,
    };
    Some(Address { segment: default_segment(base), size, base, index, displacement })
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

/// The stack's, where the base is ESP or EBP. In 64-bit mode, both have the base 0.
fn default_segment(base: Option<u8>) -> Segment {
    match base {
        Some(4 | 5) => Segment::Ss,
        _ => Segment::Ds,
    }
}
