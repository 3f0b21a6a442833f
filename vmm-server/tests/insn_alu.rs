//! Arithmetic and flags against the processor that runs the test.

use core::arch::asm;
use proptest::prelude::*;
use vmm_server::insn::{Alu, BitOperation, Unary, Width, flags};

const DEFINED_AFTER_LOGIC: u32 = flags::STATUS & !flags::AF;

macro_rules! binary {
    ($name:ident, $op:literal) => {
        /// The processor's result and flags; carry goes in and comes out.
        fn $name(width: Width, a: u32, b: u32, carry: bool) -> (u32, u32) {
            let (mut result, flags): (u32, u64);
            result = a;
            let carry = carry as u8;
            macro_rules! run {
                        ($a:literal, $b:literal) => {
                            // SAFETY: works on registers, and leaves the stack as it was.
                            unsafe {
                                asm!("add {c}, 255", concat!($op, " ", $a, ", ", $b), "pushfq", "pop {f}",
                                     c = inout(reg_byte) carry => _, a = inout(reg_abcd) result, b = in(reg_abcd) b,
                                     f = lateout(reg) flags)
                            }
                        };
                    }
            match width {
                Width::Byte => run!("{a:l}", "{b:l}"),
                Width::Word => run!("{a:x}", "{b:x}"),
                Width::Dword | Width::Qword => run!("{a:e}", "{b:e}"),
            }
            (result & width.mask32(), flags as u32)
        }
    };
}

binary!(add, "add");
binary!(or, "or");
binary!(adc, "adc");
binary!(sbb, "sbb");
binary!(and, "and");
binary!(sub, "sub");
binary!(xor, "xor");
binary!(cmp, "cmp");

macro_rules! unary {
    ($name:ident, $op:literal) => {
        /// The processor's result and flags; carry goes in and comes out.
        fn $name(width: Width, a: u32, carry: bool) -> (u32, u32) {
            let (mut result, flags): (u32, u64);
            result = a;
            let carry = carry as u8;
            macro_rules! run {
                        ($a:literal) => {
                            // SAFETY: works on registers, and leaves the stack as it was.
                            unsafe {
                                asm!("add {c}, 255", concat!($op, " ", $a), "pushfq", "pop {f}",
                                     c = inout(reg_byte) carry => _, a = inout(reg_abcd) result, f = lateout(reg) flags)
                            }
                        };
                    }
            match width {
                Width::Byte => run!("{a:l}"),
                Width::Word => run!("{a:x}"),
                Width::Dword | Width::Qword => run!("{a:e}"),
            }
            (result & width.mask32(), flags as u32)
        }
    };
}

unary!(inc, "inc");
unary!(dec, "dec");
unary!(neg, "neg");

fn width() -> impl Strategy<Value = Width> {
    prop_oneof![Just(Width::Byte), Just(Width::Word), Just(Width::Dword)]
}

/// Any number, and often one at the edge of a width.
fn operand() -> impl Strategy<Value = u32> {
    let edges = [0u32, 1, 0xf, 0x10, 0x7f, 0x80, 0xff, 0x7fff, 0x8000, 0xffff, 0x7fff_ffff, 0x8000_0000, u32::MAX];
    prop_oneof![any::<u32>(), prop::sample::select(edges.to_vec())]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn binary_operations_agree_with_the_processor(width in width(), a in operand(), b in operand(), carry: bool) {
        let table = [
            (Alu::Add, add as fn(Width, u32, u32, bool) -> (u32, u32), flags::STATUS),
            (Alu::Or, or, DEFINED_AFTER_LOGIC),
            (Alu::Adc, adc, flags::STATUS),
            (Alu::Sbb, sbb, flags::STATUS),
            (Alu::And, and, DEFINED_AFTER_LOGIC),
            (Alu::Sub, sub, flags::STATUS),
            (Alu::Xor, xor, DEFINED_AFTER_LOGIC),
        ];
        for (ours, theirs, defined) in table {
            let (result, flags) = ours.apply(width, a, b, carry.into());
            let expected = theirs(width, a, b, carry);
            prop_assert_eq!((result, flags & defined), (expected.0, expected.1 & defined), "{:?}", ours);
        }
        let flags = Alu::Cmp.apply(width, a, b, carry.into()).1;
        prop_assert_eq!(flags, cmp(width, a, b, carry).1 & flags::STATUS);
    }

    #[test]
    fn unary_operations_agree_with_the_processor(width in width(), a in operand(), carry: bool) {
        let table = [
            (Unary::Inc, inc as fn(Width, u32, bool) -> (u32, u32)),
            (Unary::Dec, dec),
            (Unary::Neg, neg),
        ];
        for (ours, theirs) in table {
            let (result, flags) = ours.apply(width, a, carry.into());
            let expected = theirs(width, a, carry);
            prop_assert_eq!((result, flags), (expected.0, expected.1 & flags::STATUS), "{:?}", ours);
        }
    }

    #[test]
    fn other_flags_stay(width in width(), a in operand(), b in operand()) {
        let others = 0x0024_0602 | flags::DF;
        prop_assert_eq!(Alu::Adc.apply(width, a, b, others).1 & !flags::STATUS, others);
        prop_assert_eq!(Unary::Dec.apply(width, a, others).1 & !flags::STATUS, others);
        prop_assert_eq!(BitOperation::Set.apply(width, a, b, others).1 & !flags::CF, others);
    }
}

#[test]
fn not_leaves_the_flags() {
    assert_eq!(Unary::Not.apply(Width::Byte, 0x0f, 0x8d5), (0xf0, 0x8d5));
}

#[test]
fn bits_go_to_carry_and_change() {
    assert_eq!(BitOperation::Test.apply(Width::Dword, 0x8000_0000, 31, 0), (0x8000_0000, 1));
    assert_eq!(BitOperation::Set.apply(Width::Word, 0, 17, 1), (2, 0));
    assert_eq!(BitOperation::Reset.apply(Width::Dword, 0xff, 0, 0), (0xfe, 1));
    assert_eq!(BitOperation::Complement.apply(Width::Dword, 0, 3, 0), (8, 0));
}
