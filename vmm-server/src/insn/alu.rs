//! Arithmetic and its flags (SDM volume 1, "Status Flags"). AF is cleared where the SDM leaves it undefined.

use super::{BitOperation, Unary, Width};

/// Bits of EFLAGS.
#[allow(missing_docs)]
pub mod flags {
    pub const CF: u32 = 1 << 0;
    pub const PF: u32 = 1 << 2;
    pub const AF: u32 = 1 << 4;
    pub const ZF: u32 = 1 << 6;
    pub const SF: u32 = 1 << 7;
    pub const DF: u32 = 1 << 10;
    pub const OF: u32 = 1 << 11;
    /// Those that arithmetic sets.
    pub const STATUS: u32 = CF | PF | AF | ZF | SF | OF;
}
use flags::{AF, CF, OF, PF, SF, STATUS, ZF};

/// The eight operations of the first opcode group, in its order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Alu {
    Add,
    Or,
    Adc,
    Sbb,
    And,
    Sub,
    Xor,
    Cmp,
}

impl Alu {
    pub(super) const fn from_bits(bits: u8) -> Self {
        match bits & 7 {
            0 => Alu::Add,
            1 => Alu::Or,
            2 => Alu::Adc,
            3 => Alu::Sbb,
            4 => Alu::And,
            5 => Alu::Sub,
            6 => Alu::Xor,
            _ => Alu::Cmp,
        }
    }

    /// Whether there is a result beside the flags.
    pub(super) fn writes(self) -> bool {
        self != Alu::Cmp
    }

    /// `a` op `b`: the result, and EFLAGS after `flags`. Operands count up to `width`.
    pub fn apply(self, width: Width, a: u32, b: u32, flags: u32) -> (u32, u32) {
        let (a, b, carry) = (a & width.mask32(), b & width.mask32(), flags & CF);
        match self {
            Alu::Add => add(width, a, b, 0, flags),
            Alu::Adc => add(width, a, b, carry, flags),
            Alu::Sub | Alu::Cmp => subtract(width, a, b, 0, flags),
            Alu::Sbb => subtract(width, a, b, carry, flags),
            Alu::And => logic(width, a & b, flags),
            Alu::Or => logic(width, a | b, flags),
            Alu::Xor => logic(width, a ^ b, flags),
        }
    }
}

impl Unary {
    /// The result, and EFLAGS after `flags`.
    pub fn apply(self, width: Width, a: u32, flags: u32) -> (u32, u32) {
        let keep_carry = |(result, new): (u32, u32)| (result, new & !CF | flags & CF);
        match self {
            Unary::Inc => keep_carry(Alu::Add.apply(width, a, 1, flags)),
            Unary::Dec => keep_carry(Alu::Sub.apply(width, a, 1, flags)),
            Unary::Not => (!a & width.mask32(), flags),
            Unary::Neg => Alu::Sub.apply(width, 0, a, flags),
        }
    }
}

impl BitOperation {
    /// `a` with its bit `bit` changed, and EFLAGS after `flags`; `bit` counts modulo the width.
    pub fn apply(self, width: Width, a: u32, bit: u32, flags: u32) -> (u32, u32) {
        let bit = bit % (8 * width.bytes() as u32);
        let mask = 1 << bit;
        let result = match self {
            BitOperation::Test => a,
            BitOperation::Set => a | mask,
            BitOperation::Reset => a & !mask,
            BitOperation::Complement => a ^ mask,
        };
        (result, flags & !CF | a >> bit & CF)
    }
}

fn add(width: Width, a: u32, b: u32, carry: u32, flags: u32) -> (u32, u32) {
    let sum = u64::from(a) + u64::from(b) + u64::from(carry);
    let result = sum as u32 & width.mask32();
    let overflow = sign(width, !(a ^ b) & (a ^ result));
    let carry = if sum > u64::from(width.mask32()) { CF } else { 0 };
    (result, status(width, result, flags) | carry | (a ^ b ^ result) & AF | overflow)
}

fn subtract(width: Width, a: u32, b: u32, borrow: u32, flags: u32) -> (u32, u32) {
    let result = a.wrapping_sub(b).wrapping_sub(borrow) & width.mask32();
    let overflow = sign(width, (a ^ b) & (a ^ result));
    let carry = if u64::from(a) < u64::from(b) + u64::from(borrow) { CF } else { 0 };
    (result, status(width, result, flags) | carry | (a ^ b ^ result) & AF | overflow)
}

fn logic(width: Width, result: u32, flags: u32) -> (u32, u32) {
    (result, status(width, result, flags))
}

/// OF, where the sign bit of `value` is set.
pub(super) fn sign(width: Width, value: u32) -> u32 {
    if value & sign_bit(width) != 0 { OF } else { 0 }
}

const fn sign_bit(width: Width) -> u32 {
    width.mask32() & !(width.mask32() >> 1)
}

/// `flags` with SF, ZF and PF of `result`, and the other status flags clear.
pub(super) fn status(width: Width, result: u32, flags: u32) -> u32 {
    let zero = if result == 0 { ZF } else { 0 };
    let negative = if result & sign_bit(width) != 0 { SF } else { 0 };
    let even = if (result as u8).count_ones().is_multiple_of(2) { PF } else { 0 };
    flags & !STATUS | zero | negative | even
}

/// `value`, of this width, as a signed one of 32 bits.
pub(super) const fn sign_extend(width: Width, value: u32) -> u32 {
    match width {
        Width::Byte => value as u8 as i8 as u32,
        Width::Word => value as u16 as i16 as u32,
        Width::Dword | Width::Qword => value,
    }
}
