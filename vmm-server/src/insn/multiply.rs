//! Multiplication (SDM volume 2, "MUL" and "IMUL").

use super::Width;
use super::alu::{flags, sign_extend};

/// The product of `a` and `b`, whose bits count up to `width`: its lower half, its upper half, and EFLAGS after `flags`. CF
/// and OF tell that the upper half is more than the sign, or than zero; the others are undefined, and stay.
pub fn multiply(width: Width, signed: bool, a: u32, b: u32, flags: u32) -> (u32, u32, u32) {
    let bits = 8 * width.bytes();
    let wide = |value: u32| {
        if signed { i64::from(sign_extend(width, value) as i32) } else { i64::from(value & width.mask32()) }
    };
    // Two numbers of 32 bits have a product of 64, be they signed or not.
    let product = wide(a).wrapping_mul(wide(b)) as u64;
    let [low, high] = [product, product >> bits].map(|part| part as u32 & width.mask32());
    let fits = if signed {
        high == sign_extend(width, low).wrapping_shr(31).wrapping_neg() & width.mask32()
    } else {
        high == 0
    };
    let overflow = if fits { 0 } else { flags::CF | flags::OF };
    (low, high, flags & !(flags::CF | flags::OF) | overflow)
}
