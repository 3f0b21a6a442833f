//! Shifts and rotations, and their flags (SDM volume 2, "SAL/SAR/SHL/SHR", "RCL/RCR/ROL/ROR", "SHLD" and "SHRD"). Of a
//! count, five bits count; by zero, no flag changes. OF is defined for a count of one only, and is worked out alike for
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

const COUNT: u32 = 31;

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
    pub fn apply(self, width: Width, a: u32, count: u32, flags: u32) -> (u32, u32) {
        let (count, bits) = (count & COUNT, 8 * width.bytes() as u32);
        if count == 0 {
            return (a & width.mask32(), flags);
        }
        match self {
            Shift::Rol | Shift::Ror | Shift::Rcl | Shift::Rcr => self.rotate(width, a, count, flags),
            Shift::Shl => {
                let shifted = u64::from(a & width.mask32()) << count;
                let (result, carry) = (shifted as u32 & width.mask32(), (shifted >> bits) as u32 & CF);
                (result, status(width, result, flags) | carry | sign(width, result) ^ (carry * OF))
            }
            Shift::Shr => {
                let before = (a & width.mask32()) >> (count - 1);
                let result = before >> 1;
                (result, status(width, result, flags) | before & CF | sign(width, a))
            }
            Shift::Sar => {
                let before = sign_extend(width, a) as i32 >> (count - 1);
                let result = (before >> 1) as u32 & width.mask32();
                (result, status(width, result, flags) | before as u32 & CF)
            }
        }
    }

    /// A rotation; through CF, the word has a bit more.
    fn rotate(self, width: Width, a: u32, count: u32, flags: u32) -> (u32, u32) {
        let bits = 8 * width.bytes() as u32;
        let (carry, size) = match self {
            Shift::Rcl | Shift::Rcr => (flags & CF, bits + 1),
            _ => (0, bits),
        };
        let left = matches!(self, Shift::Rol | Shift::Rcl);
        let count = if left { count % size } else { size - count % size };
        let word = u64::from(a & width.mask32()) | u64::from(carry) << bits;
        let rotated = word << count | word >> (size - count);
        let result = rotated as u32 & width.mask32();
        let [highest, next] = [1, 2].map(|from| result >> (bits - from) & CF);
        let carry = match self {
            Shift::Rol => result & CF,
            Shift::Ror => highest,
            _ => (rotated >> bits) as u32 & CF,
        };
        let overflow = highest ^ if left { carry } else { next };
        (result, flags & !(CF | OF) | carry | (overflow * OF))
    }
}

impl DoubleShift {
    /// `a` shifted by `count` with bits of `b`, and EFLAGS after `flags`. Undefined for a count above the width.
    pub fn apply(self, width: Width, a: u32, b: u32, count: u32, flags: u32) -> (u32, u32) {
        let (count, bits) = (count & COUNT, 8 * width.bytes() as u32);
        let [a, b] = [a, b].map(|word| u64::from(word & width.mask32()));
        if count == 0 {
            return (a as u32, flags);
        }
        let (result, carry) = match self {
            DoubleShift::Left => {
                let shifted = u128::from(a << bits | b) << count;
                ((shifted >> bits) as u32, (shifted >> (2 * bits)) as u32)
            }
            DoubleShift::Right => {
                let shifted = (b << bits | a) >> (count - 1);
                ((shifted >> 1) as u32, shifted as u32)
            }
        };
        let result = result & width.mask32();
        (result, status(width, result, flags) | carry & CF | sign(width, a as u32 ^ result))
    }
}
