//! Arithmetic and its flags (SDM volume 1, "Status Flags"). AF is cleared where the SDM leaves it undefined.

use super::{BitOperation, Unary, Width};

/// Bits of EFLAGS.
#[allow(missing_docs)]
pub mod flags {
    pub const CF: u64 = 1 << 0;
    pub const PF: u64 = 1 << 2;
    pub const AF: u64 = 1 << 4;
    pub const ZF: u64 = 1 << 6;
    pub const SF: u64 = 1 << 7;
    pub const DF: u64 = 1 << 10;
    pub const OF: u64 = 1 << 11;
    /// Those that arithmetic sets.
    pub const STATUS: u64 = CF | PF | AF | ZF | SF | OF;
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
    pub fn apply(self, width: Width, a: u64, b: u64, flags: u64) -> (u64, u64) {
        let (a, b, carry) = (a & width.mask(), b & width.mask(), flags & CF);
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
    pub fn apply(self, width: Width, a: u64, flags: u64) -> (u64, u64) {
        let keep_carry = |(result, new): (u64, u64)| (result, new & !CF | flags & CF);
        match self {
            Unary::Inc => keep_carry(Alu::Add.apply(width, a, 1, flags)),
            Unary::Dec => keep_carry(Alu::Sub.apply(width, a, 1, flags)),
            Unary::Not => (!a & width.mask(), flags),
            Unary::Neg => Alu::Sub.apply(width, 0, a, flags),
        }
    }
}

impl BitOperation {
    /// `a` with its bit `bit` changed, and EFLAGS after `flags`; `bit` counts modulo the width.
    pub fn apply(self, width: Width, a: u64, bit: u64, flags: u64) -> (u64, u64) {
        let bit = bit % (8 * width.bytes() as u64);
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

fn add(width: Width, a: u64, b: u64, carry: u64, flags: u64) -> (u64, u64) {
    let sum = u128::from(a) + u128::from(b) + u128::from(carry);
    let result = sum as u64 & width.mask();
    let overflow = sign(width, !(a ^ b) & (a ^ result));
    let carry = if sum > u128::from(width.mask()) { CF } else { 0 };
    (result, status(width, result, flags) | carry | (a ^ b ^ result) & AF | overflow)
}

fn subtract(width: Width, a: u64, b: u64, borrow: u64, flags: u64) -> (u64, u64) {
    let result = a.wrapping_sub(b).wrapping_sub(borrow) & width.mask();
    let overflow = sign(width, (a ^ b) & (a ^ result));
    let carry = if u128::from(a) < u128::from(b) + u128::from(borrow) { CF } else { 0 };
    (result, status(width, result, flags) | carry | (a ^ b ^ result) & AF | overflow)
}

fn logic(width: Width, result: u64, flags: u64) -> (u64, u64) {
    (result, status(width, result, flags))
}

/// OF, where the sign bit of `value` is set.
pub(super) fn sign(width: Width, value: u64) -> u64 {
    if value & sign_bit(width) != 0 { OF } else { 0 }
}

const fn sign_bit(width: Width) -> u64 {
    width.mask() & !(width.mask() >> 1)
}

/// `flags` with SF, ZF and PF of `result`, and the other status flags clear.
pub(super) fn status(width: Width, result: u64, flags: u64) -> u64 {
    let zero = if result == 0 { ZF } else { 0 };
    let negative = if result & sign_bit(width) != 0 { SF } else { 0 };
    let even = if (result as u8).count_ones().is_multiple_of(2) { PF } else { 0 };
    flags & !STATUS | zero | negative | even
}

/// `value`, of this width, as a signed one of 64 bits.
pub(super) const fn sign_extend(width: Width, value: u64) -> u64 {
    match width {
        Width::Byte => value as i8 as u64,
        Width::Word => value as i16 as u64,
        Width::Dword => value as i32 as u64,
        Width::Qword => value,
    }
}
