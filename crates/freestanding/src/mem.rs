//! Copying, filling and comparing memory.
//!
//! In assembly, so that the compiler cannot turn the body of `memcpy` into a call of `memcpy`. Up to 16 bytes are
//! copied in registers. Longer runs use string instructions with eight bytes per step, since an emulator counts each
//! step as an instruction (on processors since Ivy Bridge it makes no difference), and one overlapping word instead of
//! a tail loop.

use core::arch::naked_asm;

/// Copies `len` bytes between areas that do not overlap; returns `to`.
#[cfg_attr(not(test), unsafe(no_mangle))]
#[unsafe(naked)]
pub unsafe extern "C" fn memcpy(to: *mut u8, from: *const u8, len: usize) -> *mut u8 {
    naked_asm!(
        "mov rax, rdi",
        "cmp rdx, 16",
        "jbe {short}",
        // The last word covers the bytes that do not fill a word. Its addresses are needed before MOVSQ advances rsi and
        // rdi.
        "mov r8, [rsi + rdx - 8]",
        "lea r9, [rdi + rdx - 8]",
        "mov rcx, rdx",
        "shr rcx, 3",
        "rep movsq",
        "mov [r9], r8",
        "ret",
        short = sym copy_short,
    )
}

/// Copies `len` bytes between areas that may overlap; returns `to`.
#[cfg_attr(not(test), unsafe(no_mangle))]
#[unsafe(naked)]
pub unsafe extern "C" fn memmove(to: *mut u8, from: *const u8, len: usize) -> *mut u8 {
    naked_asm!(
        "mov rax, rdi",
        "cmp rdx, 16",
        "jbe {short}",
        "mov rcx, rdx",
        "shr rcx, 3",
        "mov r10, rdi",
        "sub r10, rsi",
        // Unsigned: also above `len` if `to` is below `from`, where copying upwards is right.
        "cmp r10, rdx",
        "jb 2f",
        // Loaded first, since the copy may overwrite it.
        "mov r8, [rsi + rdx - 8]",
        "lea r9, [rdi + rdx - 8]",
        "rep movsq",
        "mov [r9], r8",
        "ret",
        // `to` is inside the source: copies downwards from the end, and the first word last.
        "2:",
        "mov r8, [rsi]",
        "lea rsi, [rsi + rdx - 8]",
        "lea rdi, [rdi + rdx - 8]",
        "std",
        "rep movsq",
        "cld",
        "mov [rax], r8",
        "ret",
        short = sym copy_short,
    )
}

/// At most 16 bytes, all read before any is written: rax = rdi, rsi, rdx as for `memcpy`.
#[unsafe(naked)]
unsafe extern "C" fn copy_short() {
    naked_asm!(
        "cmp edx, 8",
        "jb 2f",
        "mov r8, [rsi]",
        "mov r9, [rsi + rdx - 8]",
        "mov [rdi], r8",
        "mov [rdi + rdx - 8], r9",
        "ret",
        "2: cmp edx, 4",
        "jb 3f",
        "mov r8d, [rsi]",
        "mov r9d, [rsi + rdx - 4]",
        "mov [rdi], r8d",
        "mov [rdi + rdx - 4], r9d",
        "ret",
        "3: test edx, edx",
        "jz 4f",
        "movzx r8d, byte ptr [rsi]",
        "movzx r9d, byte ptr [rsi + rdx - 1]",
        "mov ecx, edx",
        "shr ecx, 1",
        "movzx r10d, byte ptr [rsi + rcx]",
        "mov [rdi], r8b",
        "mov [rdi + rcx], r10b",
        "mov [rdi + rdx - 1], r9b",
        "4: ret",
    )
}

/// Fills `len` bytes with the low byte of `value`; returns `to`.
#[cfg_attr(not(test), unsafe(no_mangle))]
#[unsafe(naked)]
pub unsafe extern "C" fn memset(to: *mut u8, value: i32, len: usize) -> *mut u8 {
    naked_asm!(
        "mov r9, rdi",
        // Eight copies of the byte.
        "movzx eax, sil",
        "mov rcx, 0x0101010101010101",
        "imul rax, rcx",
        "cmp rdx, 8",
        "jb 2f",
        "mov [rdi + rdx - 8], rax",
        "mov rcx, rdx",
        "shr rcx, 3",
        "rep stosq",
        "mov rax, r9",
        "ret",
        "2:",
        "mov ecx, edx",
        "rep stosb",
        "mov rax, r9",
        "ret",
    )
}

/// Compares `len` bytes: negative, zero or positive as the first difference is.
#[cfg_attr(not(test), unsafe(no_mangle))]
#[unsafe(naked)]
pub unsafe extern "C" fn memcmp(left: *const u8, right: *const u8, len: usize) -> i32 {
    naked_asm!(
        "2: cmp rdx, 8",
        "jb 3f",
        "mov rax, [rdi]",
        "mov rcx, [rsi]",
        "add rdi, 8",
        "add rsi, 8",
        "sub rdx, 8",
        "cmp rax, rcx",
        "je 2b",
        // The first differing byte in memory decides, so the first byte becomes the most significant.
        "bswap rax",
        "bswap rcx",
        "cmp rax, rcx",
        // -1 or 1, by the borrow of an unsigned comparison.
        "sbb eax, eax",
        "or eax, 1",
        "ret",
        "3: test rdx, rdx",
        "jz 4f",
        "movzx eax, byte ptr [rdi]",
        "movzx ecx, byte ptr [rsi]",
        "inc rdi",
        "inc rsi",
        "dec rdx",
        "sub eax, ecx",
        "je 3b",
        "ret",
        "4: xor eax, eax",
        "ret",
    )
}

/// Compares `len` bytes: zero when they are equal.
#[cfg_attr(not(test), unsafe(no_mangle))]
#[unsafe(naked)]
pub unsafe extern "C" fn bcmp(left: *const u8, right: *const u8, len: usize) -> i32 {
    naked_asm!("jmp {memcmp}", memcmp = sym memcmp)
}

/// The number of bytes before the first zero.
#[cfg_attr(not(test), unsafe(no_mangle))]
#[unsafe(naked)]
pub unsafe extern "C" fn strlen(text: *const u8) -> usize {
    naked_asm!("xor eax, eax", "2: cmp byte ptr [rdi + rax], 0", "je 3f", "inc rax", "jmp 2b", "3: ret")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes that differ from their neighbours, so that a shifted copy shows.
    fn pattern() -> Vec<u8> {
        (0..200_u32).map(|index| (index * 7 + 3) as u8).collect()
    }

    #[test]
    fn memcpy_copies_every_length_at_every_alignment_and_no_more() {
        for len in 0..70 {
            for skew in 0..9 {
                let (from, mut to) = (pattern(), vec![0xaa_u8; 200]);
                let mut expected = to.clone();
                expected[100 - skew..100 - skew + len].copy_from_slice(&from[skew..skew + len]);
                // SAFETY: both ranges lie within their vectors.
                let result = unsafe { memcpy(to.as_mut_ptr().add(100 - skew), from.as_ptr().add(skew), len) };
                assert_eq!(to, expected, "{len} bytes, skew {skew}");
                assert_eq!(result.cast_const(), to[100 - skew..].as_ptr());
            }
        }
    }

    #[test]
    fn memmove_survives_every_overlap() {
        for len in 0..70 {
            for to in 0..100 {
                let (mut bytes, mut expected) = (pattern(), pattern());
                expected.copy_within(50..50 + len, to);
                let start = bytes.as_mut_ptr();
                // SAFETY: both ranges lie within the vector.
                unsafe { memmove(start.add(to), start.add(50), len) };
                assert_eq!(bytes, expected, "{len} bytes from 50 to {to}");
            }
        }
    }

    #[test]
    fn memset_fills_every_length_and_no_more() {
        for len in 0..70 {
            let mut bytes = pattern();
            let mut expected = pattern();
            expected[5..5 + len].fill(0x9c);
            // SAFETY: the range lies within the vector.
            unsafe { memset(bytes.as_mut_ptr().add(5), 0x1_9c, len) };
            assert_eq!(bytes, expected, "{len} bytes");
        }
    }

    #[test]
    fn memcmp_orders_by_the_first_difference() {
        for len in 1..40 {
            for at in 0..len {
                let (mut left, right) = (pattern(), pattern());
                left[at] = left[at].wrapping_add(1);
                left[at + 1..].fill(0);
                let expected = left[..len].cmp(&right[..len]) as i32;
                // SAFETY: both ranges lie within their vectors.
                let result = unsafe { memcmp(left.as_ptr(), right.as_ptr(), len) };
                assert_eq!(result.signum(), expected, "{len} bytes, difference at {at}");
            }
        }
        let (left, right) = (pattern(), pattern());
        // SAFETY: as above.
        let result = unsafe { bcmp(left.as_ptr(), right.as_ptr(), 199) };
        assert_eq!(result, 0);
    }

    #[test]
    fn strlen_stops_at_the_zero() {
        // SAFETY: the text ends in a zero.
        assert_eq!(unsafe { strlen(c"portcullis".as_ptr().cast()) }, 10);
    }
}
