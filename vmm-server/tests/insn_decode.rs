//! The decoder against iced-x86: where ours knows an instruction, both agree on its length, operands and address.

use iced_x86::{Decoder, DecoderOptions, Instruction as Iced, Mnemonic, OpKind, Register};
use proptest::prelude::*;
use vmm_server::insn::*;

fn iced(bytes: &[u8], mode: Mode) -> Option<Iced> {
    let bits = match mode {
        Mode::Bits16 => 16,
        Mode::Bits32 => 32,
        Mode::Bits64 => 64,
    };
    let bytes = &bytes[..bytes.len().min(MAX_LENGTH)];
    let instruction = Decoder::new(bits, bytes, DecoderOptions::NONE).decode();
    (!instruction.is_invalid()).then_some(instruction)
}

/// A register's number, and its width where it is a general one.
fn number(register: Register) -> u8 {
    register.full_register().number() as u8
}

fn segment(register: Register) -> Segment {
    match register {
        Register::ES => Segment::Es,
        Register::CS => Segment::Cs,
        Register::SS => Segment::Ss,
        Register::DS => Segment::Ds,
        Register::FS => Segment::Fs,
        Register::GS => Segment::Gs,
        other => panic!("{other:?}"),
    }
}

fn mnemonic(operation: Operation, width: Width) -> Mnemonic {
    let by_width = |b, w, d, q| match width {
        Width::Byte => b,
        Width::Word => w,
        Width::Dword => d,
        Width::Qword => q,
    };
    match operation {
        Operation::Load(_) | Operation::Store(_) => Mnemonic::Mov,
        Operation::LoadSwapped(_) | Operation::StoreSwapped(_) => Mnemonic::Movbe,
        Operation::CompareExchangeTwo if width == Width::Qword => Mnemonic::Cmpxchg16b,
        Operation::CompareExchangeTwo => Mnemonic::Cmpxchg8b,
        Operation::Flush => Mnemonic::Clflush,
        Operation::Extend { signed: false, .. } => Mnemonic::Movzx,
        Operation::Extend { signed: true, .. } => Mnemonic::Movsx,
        Operation::AluToMemory(alu, _) | Operation::AluToRegister(alu, _) => match alu {
            Alu::Add => Mnemonic::Add,
            Alu::Or => Mnemonic::Or,
            Alu::Adc => Mnemonic::Adc,
            Alu::Sbb => Mnemonic::Sbb,
            Alu::And => Mnemonic::And,
            Alu::Sub => Mnemonic::Sub,
            Alu::Xor => Mnemonic::Xor,
            Alu::Cmp => Mnemonic::Cmp,
        },
        Operation::Test(_) => Mnemonic::Test,
        Operation::Unary(Unary::Inc) => Mnemonic::Inc,
        Operation::Unary(Unary::Dec) => Mnemonic::Dec,
        Operation::Unary(Unary::Not) => Mnemonic::Not,
        Operation::Unary(Unary::Neg) => Mnemonic::Neg,
        Operation::Exchange(_) => Mnemonic::Xchg,
        Operation::CompareExchange(_) => Mnemonic::Cmpxchg,
        Operation::ExchangeAdd(_) => Mnemonic::Xadd,
        Operation::Bit(BitOperation::Test, _) => Mnemonic::Bt,
        Operation::Bit(BitOperation::Set, _) => Mnemonic::Bts,
        Operation::Bit(BitOperation::Reset, _) => Mnemonic::Btr,
        Operation::Bit(BitOperation::Complement, _) => Mnemonic::Btc,
        Operation::Shift(Shift::Rol, _) => Mnemonic::Rol,
        Operation::Shift(Shift::Ror, _) => Mnemonic::Ror,
        Operation::Shift(Shift::Rcl, _) => Mnemonic::Rcl,
        Operation::Shift(Shift::Rcr, _) => Mnemonic::Rcr,
        Operation::Shift(Shift::Shl, _) => Mnemonic::Shl,
        Operation::Shift(Shift::Shr, _) => Mnemonic::Shr,
        Operation::Shift(Shift::Sar, _) => Mnemonic::Sar,
        Operation::DoubleShift(DoubleShift::Left, ..) => Mnemonic::Shld,
        Operation::DoubleShift(DoubleShift::Right, ..) => Mnemonic::Shrd,
        Operation::MultiplyWide { signed: false } => Mnemonic::Mul,
        Operation::MultiplyWide { signed: true } | Operation::Multiply(..) => Mnemonic::Imul,
        Operation::ScanForward(_) => Mnemonic::Bsf,
        Operation::ScanReverse(_) => Mnemonic::Bsr,
        Operation::CountOnes(_) => Mnemonic::Popcnt,
        Operation::LoadIf(condition, _) => by_condition(condition, MOVES_IF),
        Operation::StoreIf(condition) => by_condition(condition, SETS_IF),
        Operation::Push => Mnemonic::Push,
        Operation::Pop => Mnemonic::Pop,
        Operation::String(StringOperation::Move, _) => {
            by_width(Mnemonic::Movsb, Mnemonic::Movsw, Mnemonic::Movsd, Mnemonic::Movsq)
        }
        Operation::String(StringOperation::Compare, _) => {
            by_width(Mnemonic::Cmpsb, Mnemonic::Cmpsw, Mnemonic::Cmpsd, Mnemonic::Cmpsq)
        }
        Operation::String(StringOperation::Store, _) => {
            by_width(Mnemonic::Stosb, Mnemonic::Stosw, Mnemonic::Stosd, Mnemonic::Stosq)
        }
        Operation::String(StringOperation::Load, _) => {
            by_width(Mnemonic::Lodsb, Mnemonic::Lodsw, Mnemonic::Lodsd, Mnemonic::Lodsq)
        }
        Operation::String(StringOperation::Scan, _) => {
            by_width(Mnemonic::Scasb, Mnemonic::Scasw, Mnemonic::Scasd, Mnemonic::Scasq)
        }
    }
}

/// By the number of the condition (SDM volume 1, appendix B).
const MOVES_IF: [Mnemonic; 16] = {
    use Mnemonic::*;
    [
        Cmovo, Cmovno, Cmovb, Cmovae, Cmove, Cmovne, Cmovbe, Cmova, Cmovs, Cmovns, Cmovp, Cmovnp, Cmovl, Cmovge,
        Cmovle, Cmovg,
    ]
};
const SETS_IF: [Mnemonic; 16] = {
    use Mnemonic::*;
    [Seto, Setno, Setb, Setae, Sete, Setne, Setbe, Seta, Sets, Setns, Setp, Setnp, Setl, Setge, Setle, Setg]
};

fn by_condition(condition: Condition, mnemonics: [Mnemonic; 16]) -> Mnemonic {
    let number = (0..16).find(|&number| Condition::of(number) == condition).unwrap();
    mnemonics[usize::from(number)]
}

/// Their mnemonic, where several do the same here.
fn kind(theirs: &Iced) -> Mnemonic {
    match theirs.mnemonic() {
        Mnemonic::Movsxd => Mnemonic::Movsx,
        Mnemonic::Movnti | Mnemonic::Movdiri => Mnemonic::Mov,
        Mnemonic::Clflushopt | Mnemonic::Clwb => Mnemonic::Clflush,
        Mnemonic::Sal => Mnemonic::Shl,
        other => other,
    }
}

/// The operand that is not memory, as iced has it.
fn source(theirs: &Iced) -> Option<Source> {
    (0..theirs.op_count()).rev().find_map(|i| match theirs.op_kind(i) {
        OpKind::Register => {
            let register = theirs.op_register(i);
            let high = matches!(register, Register::AH | Register::CH | Register::DH | Register::BH);
            let low = matches!(register, Register::SPL | Register::BPL | Register::SIL | Register::DIL);
            let number = number(register);
            Some(Source::Register(if high { number % 4 + 4 } else { number | if low { LOW_BYTE } else { 0 } }))
        }
        OpKind::Memory => None,
        _ => Some(Source::Immediate(theirs.immediate(i))),
    })
}

/// What the two do not agree on, if anything.
type Verdict = Result<(), &'static str>;

fn check(agree: bool, on: &'static str) -> Verdict {
    if agree { Ok(()) } else { Err(on) }
}

fn agree(ours: &Instruction, theirs: &Iced) -> Verdict {
    check(usize::from(ours.length) == theirs.len(), "length")?;
    check(mnemonic(ours.operation, ours.width) == kind(theirs), "mnemonic")?;
    let operands = if ours.operation == Operation::CompareExchangeTwo { 2 } else { 1 };
    check(operands * ours.width.bytes() == theirs.memory_size().size(), "width")?;
    match ours.operation {
        Operation::String(string, repeat) => agree_on_string(ours, string, repeat, theirs),
        operation => {
            agree_on_address(ours, theirs)?;
            agree_on_source(operation, ours.width, theirs)
        }
    }
}

fn agree_on_string(ours: &Instruction, string: StringOperation, repeat: Repeat, theirs: &Iced) -> Verdict {
    let repeats = theirs.has_rep_prefix() || theirs.has_repne_prefix();
    check((repeat != Repeat::Once) == repeats, "repetition")?;
    if matches!(string, StringOperation::Compare | StringOperation::Scan) {
        check((repeat == Repeat::WhileNotEqual) == theirs.has_repne_prefix(), "kind of repetition")?;
    }
    if !matches!(string, StringOperation::Store | StringOperation::Scan) {
        check(same_segment(ours.mode, ours.address.segment, segment(theirs.memory_segment())), "segment")?;
    }
    Ok(())
}

fn agree_on_source(operation: Operation, width: Width, theirs: &Iced) -> Verdict {
    let ours = match operation {
        Operation::LoadSwapped(r) | Operation::StoreSwapped(r) => Some(Source::Register(r)),
        Operation::Load(r) | Operation::AluToRegister(_, r) | Operation::Exchange(r) => Some(Source::Register(r)),
        Operation::CompareExchange(r) | Operation::ExchangeAdd(r) => Some(Source::Register(r)),
        Operation::Extend { to, to_width, .. } => {
            check(to_width.bytes() == theirs.op_register(0).size(), "destination's width")?;
            Some(Source::Register(to))
        }
        Operation::Store(s) | Operation::AluToMemory(_, s) | Operation::Test(s) | Operation::Bit(_, s) => Some(s),
        Operation::Shift(_, s) => Some(s),
        Operation::DoubleShift(_, from, s) => {
            check(from == number(theirs.op_register(1)), "register to shift in")?;
            Some(s)
        }
        Operation::Multiply(to, s) => {
            check(to == number(theirs.op_register(0)), "register for the product")?;
            Some(s)
        }
        Operation::ScanForward(r) | Operation::ScanReverse(r) | Operation::CountOnes(r) | Operation::LoadIf(_, r) => {
            Some(Source::Register(r))
        }
        _ => None,
    };
    let mask = |s| match s {
        Source::Immediate(value) => Source::Immediate(value & width.mask()),
        register => register,
    };
    check(ours.map(mask) == source(theirs).map(mask), "other operand")
}

/// In 64-bit mode, only FS and GS have a base.
fn same_segment(mode: Mode, ours: Segment, theirs: Segment) -> bool {
    let based = |segment| matches!(segment, Segment::Fs | Segment::Gs);
    ours == theirs || mode == Mode::Bits64 && !based(ours) && !based(theirs)
}

fn agree_on_address(instruction: &Instruction, theirs: &Iced) -> Verdict {
    let ours = &instruction.address;
    let name = |register: Register| match register {
        Register::None => None,
        Register::RIP | Register::EIP => Some(NEXT),
        other => Some(number(other)),
    };
    if ours.base == Some(NEXT) {
        check(theirs.is_ip_rel_memory_operand(), "base")?;
        let size = ours.size.offset().mask();
        let operand = ours.displacement.wrapping_add(theirs.next_ip()) & size;
        check(operand == theirs.ip_rel_memory_address(), "operand's address")?;
        return check(same_segment(instruction.mode, ours.segment, segment(theirs.memory_segment())), "segment");
    }
    check(ours.base == name(theirs.memory_base()), "base")?;
    check(ours.index.map(|(n, _)| n) == name(theirs.memory_index()), "index")?;
    check(ours.index.is_none_or(|(_, shift)| 1 << shift == theirs.memory_index_scale()), "scale")?;
    let mask = ours.size.offset().mask();
    check(ours.displacement & mask == theirs.memory_displacement64() & mask, "displacement")?;
    check(same_segment(instruction.mode, ours.segment, segment(theirs.memory_segment())), "segment")
}

/// What the module promises: these mnemonics with a memory operand.
fn is_promised(theirs: &Iced) -> bool {
    use Mnemonic::*;
    let memory = (0..theirs.op_count()).any(|i| theirs.op_kind(i) == OpKind::Memory);
    let segments = (0..theirs.op_count())
        .any(|i| theirs.op_kind(i) == OpKind::Register && theirs.op_register(i).is_segment_register());
    let known = matches!(
        kind(theirs),
        Mov | Movbe
            | Clflush
            | Movzx
            | Movsx
            | Add
            | Or
            | Adc
            | Sbb
            | And
            | Sub
            | Xor
            | Cmp
            | Test
            | Inc
            | Dec
            | Not
            | Neg
            | Xchg
            | Cmpxchg
            | Xadd
            | Bt
            | Bts
            | Btr
            | Btc
            | Rol
            | Ror
            | Rcl
            | Rcr
            | Shl
            | Shr
            | Sar
            | Shld
            | Shrd
            | Mul
            | Imul
            | Bsf
            | Bsr
            | Popcnt
            | Push
            | Pop
    ) || [MOVES_IF, SETS_IF].concat().contains(&theirs.mnemonic());
    let strings = matches!(
        theirs.mnemonic(),
        Movsb
            | Movsw
            | Movsd
            | Cmpsb
            | Cmpsw
            | Cmpsd
            | Stosb
            | Stosw
            | Stosd
            | Lodsb
            | Lodsw
            | Lodsd
            | Scasb
            | Scasw
            | Scasd
            | Movsq
            | Cmpsq
            | Stosq
            | Lodsq
            | Scasq
    );
    let vector =
        (0..theirs.op_count()).any(|i| theirs.op_kind(i) == OpKind::Register && theirs.op_register(i).is_xmm());
    let wide = matches!(theirs.mnemonic(), Cmpxchg8b | Cmpxchg16b);
    wide || (memory && known && !segments || strings) && !vector && theirs.memory_size().size() <= 8
}

fn both_ways(bytes: &[u8], mode: Mode) {
    let (ours, theirs) = (Instruction::decode(bytes, mode), iced(bytes, mode));
    let verdict = match (&ours, &theirs) {
        (Some(ours), Some(theirs)) => agree(ours, theirs),
        (Some(_), None) => Err("that this is an instruction"),
        (None, Some(theirs)) => check(!is_promised(theirs), "what is supported"),
        (None, None) => Ok(()),
    };
    if let Err(on) = verdict {
        panic!("{bytes:02x?} {mode:?}: no agreement on {on}: {ours:?}, {theirs:?}");
    }
}

/// Every opcode of both maps, with every ModRM byte, in all modes, behind the prefixes that change something.
#[test]
fn every_opcode_with_every_modrm_agrees_with_iced() {
    let tail = [0x25, 0x44, 0x83, 0xf1, 0x7a, 0x91, 0x05, 0x6c, 0x80];
    let prefixes: [&[u8]; 15] = [
        &[],
        &[0x66],
        &[0x67],
        &[0x66, 0x67],
        &[0xf0],
        &[0xf3],
        &[0x64, 0xf2],
        &[0x36, 0x66],
        &[0x40],
        &[0x48],
        &[0x4f],
        &[0x66, 0x4d],
        &[0x67, 0x42],
        &[0x4f, 0x66],
        &[0xf3, 0x41],
    ];
    for prefix in prefixes {
        for map in [&[][..], &[0x0f][..]] {
            for opcode in 0..=255u8 {
                for modrm in 0..=255u8 {
                    let mut bytes = prefix.to_vec();
                    bytes.extend(map);
                    bytes.extend([opcode, modrm]);
                    bytes.extend(tail);
                    both_ways(&bytes, Mode::Bits32);
                    both_ways(&bytes, Mode::Bits16);
                    both_ways(&bytes, Mode::Bits64);
                }
            }
        }
    }
}

#[test]
fn every_sib_byte_agrees_with_iced() {
    for modrm in [0x04, 0x0c, 0x44, 0x84] {
        for sib in 0..=255 {
            both_ways(&[0x8b, modrm, sib, 0x80, 0x90, 0xa0, 0xb0], Mode::Bits32);
            for rex in 0x40..=0x4f {
                both_ways(&[rex, 0x8b, modrm, sib, 0x80, 0x90, 0xa0, 0xb0], Mode::Bits64);
            }
        }
    }
}

#[test]
fn an_instruction_cut_short_is_none() {
    let whole = [0x81, 0x84, 0x8d, 0x10, 0x20, 0x30, 0x40, 0x50, 0x60, 0x70, 0x80];
    assert_eq!(Instruction::decode(&whole, Mode::Bits32).unwrap().length, 11);
    for length in 0..whole.len() {
        assert_eq!(Instruction::decode(&whole[..length], Mode::Bits32), None, "{length} bytes");
    }
}

#[test]
fn an_instruction_of_16_bytes_is_none() {
    let mut bytes = vec![0x2e; 9];
    bytes.extend([0xc7, 0x05, 1, 2, 3, 4, 5, 6, 7, 8]);
    assert_eq!(Instruction::decode(&bytes, Mode::Bits32), None);
    assert_eq!(Instruction::decode(&bytes[4..], Mode::Bits32).unwrap().length, 15);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 20_000, ..ProptestConfig::default() })]
    #[test]
    fn any_bytes_agree_with_iced(bytes in prop::collection::vec(any::<u8>(), 0..20), mode in 0..3usize) {
        both_ways(&bytes, [Mode::Bits16, Mode::Bits32, Mode::Bits64][mode]);
    }
}
