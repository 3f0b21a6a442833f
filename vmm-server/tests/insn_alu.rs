//! Arithmetic and flags against the processor that runs the test.

use core::arch::asm;
use proptest::prelude::*;
use vmm_server::insn::{Alu, BitOperation, Condition, DoubleShift, Shift, Unary, Width, flags, multiply};

const DEFINED_AFTER_LOGIC: u64 = flags::STATUS & !flags::AF;

macro_rules! binary {
    ($name:ident, $op:literal) => {
        /// The processor's result and flags; carry goes in and comes out.
        fn $name(width: Width, a: u64, b: u64, carry: bool) -> (u64, u64) {
            let (mut result, flags): (u64, u64);
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
                Width::Dword => run!("{a:e}", "{b:e}"),
                Width::Qword => run!("{a:r}", "{b:r}"),
            }
            (result & width.mask(), flags)
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
        fn $name(width: Width, a: u64, carry: bool) -> (u64, u64) {
            let (mut result, flags): (u64, u64);
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
                Width::Dword => run!("{a:e}"),
                Width::Qword => run!("{a:r}"),
            }
            (result & width.mask(), flags)
        }
    };
}

unary!(inc, "inc");
unary!(dec, "dec");
unary!(neg, "neg");

macro_rules! shift {
    ($name:ident, $op:literal) => {
        /// The processor's result and flags; carry goes in and comes out.
        fn $name(width: Width, a: u64, count: u64, carry: bool) -> (u64, u64) {
            let (mut result, flags): (u64, u64);
            result = a;
            let carry = carry as u8;
            macro_rules! run {
                        ($a:literal) => {
                            // SAFETY: works on registers, and leaves the stack as it was.
                            unsafe {
                                asm!("add {c}, 255", concat!($op, " ", $a, ", cl"), "pushfq", "pop {f}",
                                     c = inout(reg_byte) carry => _, a = inout(reg_abcd) result, in("rcx") count,
                                     f = lateout(reg) flags)
                            }
                        };
                    }
            match width {
                Width::Byte => run!("{a:l}"),
                Width::Word => run!("{a:x}"),
                Width::Dword => run!("{a:e}"),
                Width::Qword => run!("{a:r}"),
            }
            (result & width.mask(), flags)
        }
    };
}

shift!(rol, "rol");
shift!(ror, "ror");
shift!(rcl, "rcl");
shift!(rcr, "rcr");
shift!(shl, "shl");
shift!(shr, "shr");
shift!(sar, "sar");

macro_rules! double_shift {
    ($name:ident, $op:literal) => {
        /// The processor's result and flags, on words or double words.
        fn $name(width: Width, a: u64, b: u64, count: u64) -> (u64, u64) {
            let (mut result, flags): (u64, u64);
            result = a;
            macro_rules! run {
                ($a:literal, $b:literal) => {
                    // SAFETY: works on registers, and leaves the stack as it was.
                    unsafe {
                        asm!(concat!($op, " ", $a, ", ", $b, ", cl"), "pushfq", "pop {f}", a = inout(reg) result,
                             b = in(reg) b, in("rcx") count, f = lateout(reg) flags)
                    }
                };
            }
            match width {
                Width::Word => run!("{a:x}", "{b:x}"),
                Width::Qword => run!("{a:r}", "{b:r}"),
                _ => run!("{a:e}", "{b:e}"),
            }
            (result & width.mask(), flags)
        }
    };
}

double_shift!(shld, "shld");
double_shift!(shrd, "shrd");

macro_rules! product {
    ($name:ident, $op:literal) => {
        /// The processor's product, its halves, and flags.
        fn $name(width: Width, a: u64, b: u64) -> (u64, u64, u64) {
            let (mut low, mut high, flags): (u64, u64, u64);
            low = a;
            macro_rules! run {
                        ($b:literal) => {
                            // SAFETY: works on registers, and leaves the stack as it was.
                            unsafe {
                                asm!(concat!($op, " ", $b), "pushfq", "pop {f}", inout("rax") low, inout("rdx") 0u64 => high,
                                     b = in(reg_abcd) b, f = lateout(reg) flags)
                            }
                        };
                    }
            match width {
                // Into AX, which has both halves; EDX stays.
                Width::Byte => {
                    run!("{b:l}");
                    high |= low >> 8;
                }
                Width::Word => run!("{b:x}"),
                Width::Dword => run!("{b:e}"),
                Width::Qword => run!("{b:r}"),
            }
            (low & width.mask(), high & width.mask(), flags)
        }
    };
}

product!(mul, "mul");
product!(imul, "imul");

/// Whether each condition holds, by the processor.
fn conditions(flags: u64) -> [bool; 16] {
    macro_rules! each {
        ($($set:literal)*) => {
            [$({
                let holds: u8;
                // SAFETY: sets status flags, and leaves the stack as it was.
                unsafe {
                    asm!("push {f}", "popfq", concat!($set, " {h}"), f = in(reg) flags, h = out(reg_byte) holds)
                };
                holds != 0
            }),*]
        };
    }
    each!("seto" "setno" "setb" "setae" "sete" "setne" "setbe" "seta" "sets" "setns" "setp" "setnp" "setl" "setge" "setle" "setg")
}

fn width() -> impl Strategy<Value = Width> {
    prop_oneof![Just(Width::Byte), Just(Width::Word), Just(Width::Dword), Just(Width::Qword)]
}

/// Any number, and often one at the edge of a width.
fn operand() -> impl Strategy<Value = u64> {
    let edges = [
        0u64,
        1,
        0xf,
        0x10,
        0x7f,
        0x80,
        0xff,
        0x7fff,
        0x8000,
        0xffff,
        0x7fff_ffff,
        0x8000_0000,
        0xffff_ffff,
        1 << 63,
        u64::MAX,
    ];
    prop_oneof![any::<u64>(), prop::sample::select(edges.to_vec())]
}

/// Counts are taken modulo this.
fn counts(width: Width) -> u64 {
    if width == Width::Qword { 64 } else { 32 }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn binary_operations_agree_with_the_processor(width in width(), a in operand(), b in operand(), carry: bool) {
        let table = [
            (Alu::Add, add as fn(Width, u64, u64, bool) -> (u64, u64), flags::STATUS),
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
            (Unary::Inc, inc as fn(Width, u64, bool) -> (u64, u64)),
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
    fn shifts_agree_with_the_processor(width in width(), a in operand(), count in 0..256u64, carry: bool) {
        let table = [
            (Shift::Rol, rol as fn(Width, u64, u64, bool) -> (u64, u64)),
            (Shift::Ror, ror),
            (Shift::Rcl, rcl),
            (Shift::Rcr, rcr),
            (Shift::Shl, shl),
            (Shift::Shr, shr),
            (Shift::Sar, sar),
        ];
        let (shifted, bits) = (count % counts(width), 8 * width.bytes() as u64);
        for (ours, theirs) in table {
            let rotates = matches!(ours, Shift::Rol | Shift::Ror | Shift::Rcl | Shift::Rcr);
            let (result, flags) = ours.apply(width, a, count, carry.into());
            let expected = theirs(width, a, count, carry);
            let defined = match shifted {
                // As they were before, which is not zero there.
                0 => flags::CF,
                _ if rotates && shifted == 1 => flags::CF | flags::OF,
                _ if rotates => flags::CF,
                1 => DEFINED_AFTER_LOGIC,
                n if n > bits && ours != Shift::Sar => DEFINED_AFTER_LOGIC & !flags::OF & !flags::CF,
                _ => DEFINED_AFTER_LOGIC & !flags::OF,
            };
            prop_assert_eq!((result, flags & defined), (expected.0, expected.1 & defined), "{:?}", ours);
        }
    }

    #[test]
    fn double_shifts_agree_with_the_processor(narrow: bool, width in width(), a in operand(), b in operand(), count in 0..256u64) {
        let width = if narrow || width == Width::Byte { Width::Dword } else { width };
        prop_assume!(count % counts(width) <= 8 * width.bytes() as u64);
        let defined = match count % counts(width) {
            0 => 0,
            1 => DEFINED_AFTER_LOGIC,
            _ => DEFINED_AFTER_LOGIC & !flags::OF,
        };
        let table = [(DoubleShift::Left, shld as fn(Width, u64, u64, u64) -> (u64, u64)), (DoubleShift::Right, shrd)];
        for (ours, theirs) in table {
            let (result, flags) = ours.apply(width, a, b, count, 0);
            let expected = theirs(width, a, b, count);
            prop_assert_eq!((result, flags & defined), (expected.0, expected.1 & defined), "{:?}", ours);
        }
    }

    #[test]
    fn products_agree_with_the_processor(width in width(), a in operand(), b in operand()) {
        const DEFINED: u64 = flags::CF | flags::OF;
        for (signed, theirs) in [(false, mul as fn(Width, u64, u64) -> (u64, u64, u64)), (true, imul)] {
            let (low, high, flags) = multiply(width, signed, a, b, 0);
            let expected = theirs(width, a, b);
            prop_assert_eq!((low, high, flags), (expected.0, expected.1, expected.2 & DEFINED), "signed: {}", signed);
        }
    }

    #[test]
    fn conditions_agree_with_the_processor(flags: u64) {
        let flags = flags & flags::STATUS;
        let ours: Vec<bool> = (0..16).map(|number| Condition::of(number).holds(flags)).collect();
        prop_assert_eq!(ours, conditions(flags));
    }

    #[test]
    fn a_shift_by_nothing_leaves_the_flags(width in width(), a in operand(), b in operand(), flags: u64) {
        prop_assert_eq!(Shift::Shl.apply(width, a, 64, flags), (a & width.mask(), flags));
        prop_assert_eq!(Shift::Rcr.apply(width, a, 0, flags), (a & width.mask(), flags));
        prop_assert_eq!(DoubleShift::Left.apply(width, a, b, 64, flags), (a & width.mask(), flags));
    }

    #[test]
    fn other_flags_stay(width in width(), a in operand(), b in operand()) {
        let others = 0x0024_0602 | flags::DF;
        prop_assert_eq!(Alu::Adc.apply(width, a, b, others).1 & !flags::STATUS, others);
        prop_assert_eq!(Unary::Dec.apply(width, a, others).1 & !flags::STATUS, others);
        prop_assert_eq!(Shift::Sar.apply(width, a, 3, others).1 & !flags::STATUS, others);
        prop_assert_eq!(Shift::Rcl.apply(width, a, 3, others | flags::ZF).1 & !(flags::CF | flags::OF), others | flags::ZF);
        prop_assert_eq!(DoubleShift::Right.apply(width, a, b, 3, others).1 & !flags::STATUS, others);
        prop_assert_eq!(multiply(width, true, a, b, others | flags::PF).2 & !(flags::CF | flags::OF), others | flags::PF);
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
