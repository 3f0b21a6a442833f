//! Conditions of CMOVcc and SETcc (SDM volume 1, appendix B "EFLAGS Condition Codes").

use super::alu::flags::{CF, OF, PF, SF, ZF};

/// A condition, by the low four bits of the opcodes that have it: every odd one is the opposite of the one before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Condition(u8);

impl Condition {
    /// From an opcode, of which the low four bits count.
    pub const fn of(opcode: u8) -> Self {
        Self(opcode & 15)
    }

    /// Whether it holds with these EFLAGS.
    pub const fn holds(self, flags: u64) -> bool {
        let less = (flags & SF != 0) != (flags & OF != 0);
        let holds = match self.0 >> 1 {
            0 => flags & OF != 0,
            1 => flags & CF != 0,
            2 => flags & ZF != 0,
            3 => flags & (CF | ZF) != 0,
            4 => flags & SF != 0,
            5 => flags & PF != 0,
            6 => less,
            _ => less || flags & ZF != 0,
        };
        holds != (self.0 & 1 != 0)
    }
}
