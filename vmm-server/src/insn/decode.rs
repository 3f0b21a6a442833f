//! Bytes to instruction (SDM volume 2, appendix A "Opcode Map").

use super::address::{Address, ModRm, Rex, Segment, modrm};
use super::cursor::Cursor;
use super::{
    Alu, BitOperation, Condition, DoubleShift, Instruction, LOW_BYTE, Mode, Operation, Repeat, Shift, Source,
    StringOperation, Unary, Width,
};

/// CL, the count of a shift.
const CL: Source = Source::Register(1);

/// What the prefixes say.
pub(super) struct Prefixes {
    mode: Mode,
    operand: Width,
    address: Mode,
    rex: Option<Rex>,
    segment: Option<Segment>,
    repeat: Repeat,
    pub lock: bool,
    /// 0x66 is there, which is part of some opcodes.
    size: bool,
}

impl Prefixes {
    /// Reads prefixes, and the byte after them.
    pub fn read(cursor: &mut Cursor, mode: Mode) -> Option<(Self, u8)> {
        let mut p = Prefixes {
            mode,
            operand: mode.operand(),
            address: mode,
            rex: None,
            segment: None,
            repeat: Repeat::Once,
            lock: false,
            size: false,
        };
        let is_long = mode == Mode::Bits64;
        loop {
            let byte = cursor.byte()?;
            match byte {
                // In 64-bit mode, these four segments begin at 0, and the prefixes mean nothing.
                0x26 | 0x2e | 0x36 | 0x3e if is_long => {}
                0x26 => p.segment = Some(Segment::Es),
                0x2e => p.segment = Some(Segment::Cs),
                0x36 => p.segment = Some(Segment::Ss),
                0x3e => p.segment = Some(Segment::Ds),
                0x64 => p.segment = Some(Segment::Fs),
                0x65 => p.segment = Some(Segment::Gs),
                0x66 => (p.operand, p.size) = (mode.other_operand(), true),
                0x67 => p.address = mode.other_address(),
                0xf0 => p.lock = true,
                0xf2 => p.repeat = Repeat::WhileNotEqual,
                0xf3 => p.repeat = Repeat::WhileEqual,
                0x40..=0x4f if is_long => {}
                opcode => {
                    if p.rex.is_some_and(Rex::wide) {
                        p.operand = Width::Qword;
                    }
                    return Some((p, opcode));
                }
            }
            // A REX prefix counts only right before the opcode.
            p.rex = (is_long && byte & 0xf0 == 0x40).then_some(Rex::from_prefix(byte));
        }
    }

    /// Byte for an even opcode, the size of operands for an odd one.
    fn width(&self, opcode: u8) -> Width {
        if opcode & 1 == 0 { Width::Byte } else { self.operand }
    }

    /// The size of PUSH and POP, which in 64-bit mode have no operands of 32 bits.
    fn stack_width(&self) -> Width {
        if self.mode == Mode::Bits64 && !self.size { Width::Qword } else { self.operand }
    }

    /// A register operand of this width.
    fn register(&self, reg: u8, width: Width) -> u8 {
        if width == Width::Byte && self.rex.is_some() && matches!(reg, 4..8) { reg | LOW_BYTE } else { reg }
    }

    /// 32 bits, or 64 with REX.W: the size of MOVNTI and MOVDIRI, and of each half that CMPXCHG8B or CMPXCHG16B has.
    fn dword_or_more(&self) -> Width {
        if self.operand == Width::Qword { Width::Qword } else { Width::Dword }
    }

    /// None that could be part of the opcode.
    fn is_plain(&self) -> bool {
        !self.size && self.repeat == Repeat::Once
    }

    fn modrm(&self, cursor: &mut Cursor) -> Option<ModRm> {
        modrm(cursor, self.mode, self.address, self.rex.unwrap_or_default(), self.segment)
    }

    fn data_segment(&self) -> Segment {
        self.segment.unwrap_or(Segment::Ds)
    }
}

/// An operation, its operand's width and where that is.
type Decoded = (Operation, Width, Address);

impl Instruction {
    /// Decodes the instruction that `bytes` begin with. `None`: not one of those listed at the module's head, cut short,
    /// or too long.
    pub fn decode(bytes: &[u8], mode: Mode) -> Option<Instruction> {
        let mut cursor = Cursor::new(bytes);
        let (prefixes, opcode) = Prefixes::read(&mut cursor, mode)?;
        let (operation, width, address) = match opcode {
            0x0f => two_bytes(&mut cursor, &prefixes)?,
            0xa0..=0xaf => without_modrm(&mut cursor, &prefixes, opcode)?,
            _ => one_byte(&mut cursor, &prefixes, opcode)?,
        };
        if prefixes.lock && !lockable(&operation) {
            return None;
        }
        Some(Instruction { length: cursor.used as u8, operation, width, address, mode })
    }
}

fn one_byte(cursor: &mut Cursor, p: &Prefixes, opcode: u8) -> Option<Decoded> {
    let width = p.width(opcode);
    let is_long = p.mode == Mode::Bits64;
    let modrm = match opcode {
        0x00..=0x3f if opcode & 7 < 4 => p.modrm(cursor)?,
        0x63 if is_long => p.modrm(cursor)?,
        0x82 if is_long => return None,
        0x69 | 0x6b | 0x80..=0x8b | 0x8f | 0xc0 | 0xc1 | 0xc6 | 0xc7 | 0xd0..=0xd3 | 0xf6 | 0xf7 | 0xfe | 0xff => {
            p.modrm(cursor)?
        }
        _ => return None,
    };
    let reg = p.register(modrm.reg, width);
    let register = Source::Register(reg);
    let digit = modrm.digit;
    let operation = match (opcode, digit) {
        (0x00..=0x3f, _) if opcode & 2 == 0 => Operation::AluToMemory(Alu::from_bits(opcode >> 3), register),
        (0x00..=0x3f, _) => Operation::AluToRegister(Alu::from_bits(opcode >> 3), reg),
        // MOVSXD
        (0x63, _) => {
            let extend = Operation::Extend { to: reg, to_width: width, signed: true };
            let from = if width == Width::Word { Width::Word } else { Width::Dword };
            return Some((extend, from, modrm.address));
        }
        (0x69, _) => Operation::Multiply(reg, immediate(cursor, width)?),
        (0x6b, _) => Operation::Multiply(reg, immediate(cursor, Width::Byte)?),
        (0x80..=0x82, _) => Operation::AluToMemory(Alu::from_bits(digit), immediate(cursor, width)?),
        (0x83, _) => Operation::AluToMemory(Alu::from_bits(digit), immediate(cursor, Width::Byte)?),
        (0x84 | 0x85, _) => Operation::Test(register),
        (0x86 | 0x87, _) => Operation::Exchange(reg),
        (0x88 | 0x89, _) => Operation::Store(register),
        (0x8a | 0x8b, _) => Operation::Load(reg),
        (0x8f, 0) => return Some((Operation::Pop, p.stack_width(), modrm.address)),
        (0xc0 | 0xc1, _) => Operation::Shift(Shift::from_bits(digit), count(cursor)?),
        (0xc6 | 0xc7, 0) => Operation::Store(immediate(cursor, width)?),
        (0xd0 | 0xd1, _) => Operation::Shift(Shift::from_bits(digit), Source::Immediate(1)),
        (0xd2 | 0xd3, _) => Operation::Shift(Shift::from_bits(digit), CL),
        (0xf6 | 0xf7, 0 | 1) => Operation::Test(immediate(cursor, width)?),
        (0xf6 | 0xf7, 2) => Operation::Unary(Unary::Not),
        (0xf6 | 0xf7, 3) => Operation::Unary(Unary::Neg),
        (0xf6 | 0xf7, 4) => Operation::MultiplyWide { signed: false },
        (0xf6 | 0xf7, 5) => Operation::MultiplyWide { signed: true },
        (0xfe | 0xff, 0) => Operation::Unary(Unary::Inc),
        (0xfe | 0xff, 1) => Operation::Unary(Unary::Dec),
        (0xff, 6) => return Some((Operation::Push, p.stack_width(), modrm.address)),
        _ => return None,
    };
    Some((operation, width, modrm.address))
}

fn immediate(cursor: &mut Cursor, width: Width) -> Option<Source> {
    cursor.immediate(width).map(Source::Immediate)
}

/// A constant that is no number of the operand's.
fn count(cursor: &mut Cursor) -> Option<Source> {
    cursor.byte().map(|byte| Source::Immediate(byte.into()))
}

/// MOV with an absolute address, and the string instructions.
fn without_modrm(cursor: &mut Cursor, p: &Prefixes, opcode: u8) -> Option<Decoded> {
    const ACCUMULATOR: u8 = 0;
    let width = p.width(opcode);
    let mut offset = 0;
    if opcode <= 0xa3 {
        offset = match p.address {
            Mode::Bits16 => u64::from(cursor.word()?),
            Mode::Bits32 => u64::from(cursor.dword()?),
            Mode::Bits64 => cursor.qword()?,
        };
    }
    let operation = match opcode {
        0xa0 | 0xa1 => Operation::Load(ACCUMULATOR),
        0xa2 | 0xa3 => Operation::Store(Source::Register(ACCUMULATOR)),
        0xa4 | 0xa5 => Operation::String(StringOperation::Move, p.repeat),
        0xa6 | 0xa7 => Operation::String(StringOperation::Compare, p.repeat),
        0xaa | 0xab => Operation::String(StringOperation::Store, p.repeat),
        0xac | 0xad => Operation::String(StringOperation::Load, p.repeat),
        0xae | 0xaf => Operation::String(StringOperation::Scan, p.repeat),
        _ => return None,
    };
    Some((operation, width, Address::absolute(p.address, p.data_segment(), offset)))
}

fn two_bytes(cursor: &mut Cursor, p: &Prefixes) -> Option<Decoded> {
    let opcode = cursor.byte()?;
    let modrm = match opcode {
        0x38 => return three_bytes(cursor, p),
        0x40..=0x4f | 0x90..=0x9f | 0xa3..=0xa5 | 0xab..=0xb1 | 0xb3 | 0xb6..=0xb8 | 0xba..=0xc1 | 0xc3 | 0xc7 => {
            p.modrm(cursor)?
        }
        _ => return None,
    };
    let (reg, operand) = (modrm.reg, p.operand);
    let extend = |signed| Operation::Extend { to: reg, to_width: operand, signed };
    let bit = |operation| Operation::Bit(operation, Source::Register(reg));
    let double = |shift, count| Operation::DoubleShift(shift, reg, count);
    let (operation, width) = match opcode {
        0x40..=0x4f => (Operation::LoadIf(Condition::of(opcode), reg), operand),
        0x90..=0x9f => (Operation::StoreIf(Condition::of(opcode)), Width::Byte),
        0xa4 => (double(DoubleShift::Left, count(cursor)?), operand),
        0xa5 => (double(DoubleShift::Left, CL), operand),
        0xac => (double(DoubleShift::Right, count(cursor)?), operand),
        0xad => (double(DoubleShift::Right, CL), operand),
        0xaf => (Operation::Multiply(reg, Source::Register(reg)), operand),
        0xb8 if p.repeat == Repeat::WhileEqual => (Operation::CountOnes(reg), operand),
        // With REPE, TZCNT and LZCNT on a processor that has them.
        0xbc if p.repeat != Repeat::WhileEqual => (Operation::ScanForward(reg), operand),
        0xbd if p.repeat != Repeat::WhileEqual => (Operation::ScanReverse(reg), operand),
        0xa3 => (bit(BitOperation::Test), operand),
        0xab => (bit(BitOperation::Set), operand),
        0xb3 => (bit(BitOperation::Reset), operand),
        0xbb => (bit(BitOperation::Complement), operand),
        0xba => (Operation::Bit(numbered_bit(modrm.digit)?, count(cursor)?), operand),
        0xb0 | 0xb1 => (Operation::CompareExchange(p.register(reg, p.width(opcode))), p.width(opcode)),
        0xc0 | 0xc1 => (Operation::ExchangeAdd(p.register(reg, p.width(opcode))), p.width(opcode)),
        // CLFLUSH, CLFLUSHOPT, CLWB
        0xae if p.repeat == Repeat::Once && (modrm.digit == 7 || modrm.digit == 6 && p.size) => {
            (Operation::Flush, Width::Byte)
        }
        // MOVNTI
        0xc3 if p.is_plain() => (Operation::Store(Source::Register(reg)), p.dword_or_more()),
        0xc7 if modrm.digit == 1 => (Operation::CompareExchangeTwo, p.dword_or_more()),
        0xb6 => (extend(false), Width::Byte),
        0xb7 => (extend(false), Width::Word),
        0xbe => (extend(true), Width::Byte),
        0xbf => (extend(true), Width::Word),
        _ => return None,
    };
    Some((operation, width, modrm.address))
}

/// MOVBE and MOVDIRI.
fn three_bytes(cursor: &mut Cursor, p: &Prefixes) -> Option<Decoded> {
    let opcode = cursor.byte()?;
    let modrm = p.modrm(cursor)?;
    let (operation, width) = match opcode {
        0xf0 if p.repeat == Repeat::Once => (Operation::LoadSwapped(modrm.reg), p.operand),
        0xf1 if p.repeat == Repeat::Once => (Operation::StoreSwapped(modrm.reg), p.operand),
        0xf9 if p.is_plain() => (Operation::Store(Source::Register(modrm.reg)), p.dword_or_more()),
        _ => return None,
    };
    Some((operation, width, modrm.address))
}

fn numbered_bit(reg: u8) -> Option<BitOperation> {
    match reg {
        4 => Some(BitOperation::Test),
        5 => Some(BitOperation::Set),
        6 => Some(BitOperation::Reset),
        7 => Some(BitOperation::Complement),
        _ => None,
    }
}

/// Whether LOCK is allowed: the instruction reads and writes memory.
fn lockable(operation: &Operation) -> bool {
    match operation {
        Operation::AluToMemory(alu, _) => alu.writes(),
        Operation::Bit(bit, _) => *bit != BitOperation::Test,
        Operation::Unary(_) | Operation::Exchange(_) | Operation::ExchangeAdd(_) => true,
        Operation::CompareExchange(_) | Operation::CompareExchangeTwo => true,
        _ => false,
    }
}
