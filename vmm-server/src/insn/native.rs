//! Instructions that the emulator leaves to the processor (SDM volume 2, appendix A "Opcode Map"): those that need
//! nothing beyond their operand in memory, and that a single step executes alone. So none that changes or saves
//! RFLAGS.TF, loads a stack segment (after which no step traps), or changes system registers.

use super::Mode;
use super::{cursor::Cursor, decode::Prefixes};

/// Whether `bytes` begin with such an instruction. Its operands are not checked.
pub fn is_native(bytes: &[u8], mode: Mode) -> bool {
    let mut cursor = Cursor::new(bytes);
    Prefixes::read(&mut cursor, mode)
        .and_then(|(prefixes, opcode)| Some(!prefixes.lock && one_byte(&mut cursor, opcode, mode)?))
        .unwrap_or(false)
}

/// The middle field of the next byte, a ModRM one.
fn group(cursor: &mut Cursor) -> Option<u8> {
    cursor.byte().map(|modrm| modrm >> 3 & 7)
}

fn one_byte(cursor: &mut Cursor, opcode: u8, mode: Mode) -> Option<bool> {
    Some(match opcode {
        // The prefixes of other encodings, of which a guest has none with four bytes.
        0x62 if mode == Mode::Bits64 => false,
        0xc4 | 0xc5 if mode == Mode::Bits64 => true,
        // PUSH and POP, where the stack is nowhere; but not POP SS.
        0x06 | 0x07 | 0x0e | 0x16 | 0x1e | 0x1f | 0x50..=0x61 | 0x68 | 0x6a => true,
        0x0f => two_bytes(cursor)?,
        // BOUND, LES and LDS; with a register, the prefixes of other encodings.
        0x62 => cursor.byte()? < 0xc0,
        0xc4 | 0xc5 => cursor.byte()? >= 0xc0,
        // MOV from a segment register, near RET, ENTER, LEAVE, XLAT, the FPU, near CALL
        0x8c | 0xc2 | 0xc3 | 0xc8 | 0xc9 | 0xd7 | 0xd8..=0xdf | 0xe8 => true,
        // DIV and IDIV
        0xf6 | 0xf7 => matches!(group(cursor)?, 6 | 7),
        // near CALL and JMP
        0xff => matches!(group(cursor)?, 2 | 4),
        _ => false,
    })
}

fn two_bytes(cursor: &mut Cursor) -> Option<bool> {
    Some(match cursor.byte()? {
        // SSE, MMX, and hints
        0x0d | 0x10..=0x1f | 0x28..=0x2f | 0x50..=0x76 | 0x7c..=0x7f | 0xc2..=0xc6 | 0xd0..=0xfe => true,
        // PUSH and POP of FS and GS
        0xa0 | 0xa1 | 0xa8 | 0xa9 => true,
        // FXSAVE, FXRSTOR, LDMXCSR, STMXCSR
        0xae => group(cursor)? < 4,
        // TZCNT and LZCNT
        0xbc | 0xbd => true,
        // INVEPT, INVVPID and INVPCID are the system's.
        0x38 => !matches!(cursor.byte()?, 0x80..=0x82),
        0x3a => true,
        _ => false,
    })
}
