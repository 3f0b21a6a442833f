//! Multiplication (SDM volume 2, "MUL" and "IMUL").

use super::Width;
use super::alu::{flags, sign_extend};

/// The product of `a` and `b`, whose bits count up to `width`: its lower half, its upper half, and EFLAGS after `flags`. CF
/// and OF tell that the upper half is more than the sign, or than zero; the others are undefined, and stay.
pub fn multiply(width: Width, signed: bool, a: u64, b: u64, flags: u64) -> (u64, u64, u64) {
    let bits = 8 * width.bytes();
    let wide = |value: u64| match signed {
        true => i128::from(sign_extend(width, value) as i64) as u128,
        false => u128::from(value & width.mask()),
    };
    // Two numbers of 64 bits have a product of 128, be they signed or not.
    let product = wide(a).wrapping_mul(wide(b));
    let [low, high] = [product, product >> bits].map(|part| part as u64 & width.mask());
    let filled = if signed { (sign_extend(width, low) as i64 >> 63) as u64 & width.mask() } else { 0 };
    let overflow = if high == filled { 0 } else { flags::CF | flags::OF };
    (low, high, flags & !(flags::CF | flags::OF) | overflow)
}
