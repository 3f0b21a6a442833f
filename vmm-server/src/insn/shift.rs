//! Shifts and rotations, and their flags (SDM volume 2, "SAL/SAR/SHL/SHR", "RCL/RCR/ROL/ROR", "SHLD" and "SHRD"). Of a
//! count, five bits count, or six with a word of 64; by zero, no flag changes. OF is defined for a count of one only, and is worked out alike for
//! others.

use super::Width;
use super::alu::{flags, sign, sign_extend, status};
use flags::{CF, OF};

/// The operations of the second opcode group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Shift {
    Rol,
    Ror,
    Rcl,
    Rcr,
    Shl,
    Shr,
    Sar,
}

/// A shift of two words, of which one is the result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DoubleShift {
    /// SHLD: the other word's high bits come in from the right.
    Left,
    /// SHRD: its low bits come in from the left.
    Right,
}

/// The bits of `count` that count, as what the processor shifts by.
const fn counted(width: Width, count: u64) -> u32 {
    let counts = if matches!(width, Width::Qword) { 63 } else { 31 };
    (count & counts) as u32
}

impl Shift {
    pub(super) const fn from_bits(bits: u8) -> Self {
        match bits & 7 {
            0 => Shift::Rol,
            1 => Shift::Ror,
            2 => Shift::Rcl,
            3 => Shift::Rcr,
            5 => Shift::Shr,
            7 => Shift::Sar,
            // 6 is SAL, the same as SHL.
            _ => Shift::Shl,
        }
    }

    /// `a` shifted by `count`, and EFLAGS after `flags`. `a` counts up to `width`.
    pub fn apply(self, width: Width, a: u64, count: u64, flags: u64) -> (u64, u64) {
        let (count, bits) = (counted(width, count), 8 * width.bytes() as u32);
        if count == 0 {
            return (a & width.mask(), flags);
        }
        match self {
            Shift::Rol | Shift::Ror | Shift::Rcl | Shift::Rcr => self.rotate(width, a, count, flags),
            Shift::Shl => {
                let shifted = u128::from(a & width.mask()) << count;
                let (result, carry) = (shifted as u64 & width.mask(), (shifted >> bits) as u64 & CF);
                (result, status(width, result, flags) | carry | sign(width, result) ^ (carry * OF))
            }
            Shift::Shr => {
                let before = (a & width.mask()) >> (count - 1);
                let result = before >> 1;
                (result, status(width, result, flags) | before & CF | sign(width, a))
            }
            Shift::Sar => {
                let before = sign_extend(width, a) as i64 >> (count - 1);
                let result = (before >> 1) as u64 & width.mask();
                (result, status(width, result, flags) | before as u64 & CF)
            }
        }
    }

    /// A rotation; through CF, the word has a bit more.
    fn rotate(self, width: Width, a: u64, count: u32, flags: u64) -> (u64, u64) {
        let bits = 8 * width.bytes() as u32;
        let (carry, size) = match self {
            Shift::Rcl | Shift::Rcr => (flags & CF, bits + 1),
            _ => (0, bits),
        };
        let left = matches!(self, Shift::Rol | Shift::Rcl);
        let count = if left { count % size } else { size - count % size };
        let word = u128::from(a & width.mask()) | u128::from(carry) << bits;
        let rotated = word << count | word >> (size - count);
        let result = rotated as u64 & width.mask();
        let [highest, next] = [1, 2].map(|from| result >> (bits - from) & CF);
        let carry = match self {
            Shift::Rol => result & CF,
            Shift::Ror => highest,
            _ => (rotated >> bits) as u64 & CF,
        };
        let overflow = highest ^ if left { carry } else { next };
        (result, flags & !(CF | OF) | carry | (overflow * OF))
    }
}

impl DoubleShift {
    /// `a` shifted by `count` with bits of `b`, and EFLAGS after `flags`. A count above the width means
    /// nothing, and does nothing here.
    pub fn apply(self, width: Width, a: u64, b: u64, count: u64, flags: u64) -> (u64, u64) {
        let (count, bits) = (counted(width, count), 8 * width.bytes() as u32);
        let [a, b] = [a, b].map(|word| word & width.mask());
        if count == 0 || count > bits {
            return (a, flags);
        }
        let (result, carry) = match self {
            DoubleShift::Left => {
                let words = u128::from(a) << bits | u128::from(b);
                ((words << count >> bits) as u64, a >> (bits - count))
            }
            DoubleShift::Right => {
                let words = (u128::from(b) << bits | u128::from(a)) >> (count - 1);
                ((words >> 1) as u64, words as u64)
            }
        };
        let result = result & width.mask();
        (result, status(width, result, flags) | carry & CF | sign(width, a ^ result))
    }
}
