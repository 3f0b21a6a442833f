use crate::Width;

/// The mode in which the processor executes code, as CS.D and CS.L select it: the default sizes of operands and addresses. All
/// differences between modes are methods here. Compatibility mode, 16-bit or 32-bit code of a processor in long mode, is one of
/// the narrow modes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Mode {
    Bits16,
    Bits32,
    Bits64,
}

impl Mode {
    /// The default size of an operand, apart from byte operands.
    pub const fn operand(self) -> Width {
        match self {
            Mode::Bits16 => Width::Word,
            Mode::Bits32 | Mode::Bits64 => Width::Dword,
        }
    }

    /// The default size of an offset in a segment.
    pub const fn offset(self) -> Width {
        match self {
            Mode::Bits16 => Width::Word,
            Mode::Bits32 => Width::Dword,
            Mode::Bits64 => Width::Qword,
        }
    }

    /// The size of an operand that the prefix 0x66 selects.
    pub const fn other_operand(self) -> Width {
        match self {
            Mode::Bits16 => Width::Dword,
            Mode::Bits32 | Mode::Bits64 => Width::Word,
        }
    }

    /// The mode whose offsets the prefix 0x67 selects.
    pub const fn other_address(self) -> Self {
        match self {
            Mode::Bits16 | Mode::Bits64 => Mode::Bits32,
            Mode::Bits32 => Mode::Bits16,
        }
    }

    /// The size of linear addresses, of the instruction pointer and of the stack pointer. It is 32 bits for 16-bit code
    /// as well: such a segment only limits the offsets. Left out: 16-bit stacks.
    pub const fn pointer(self) -> Width {
        match self {
            Mode::Bits16 | Mode::Bits32 => Width::Dword,
            Mode::Bits64 => Width::Qword,
        }
    }

    /// Wraps the sum of a linear address or pointer to the pointer size, as the processor does.
    pub const fn wrap(self, address: u64) -> u64 {
        address & self.pointer().mask()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_wrap_at_four_gigabytes_in_narrow_modes() {
        for mode in [Mode::Bits16, Mode::Bits32] {
            assert_eq!([mode.wrap(0x1_0000_0004), mode.wrap(u64::MAX)], [4, 0xffff_ffff]);
        }
        assert_eq!([Mode::Bits64.wrap(0x1_0000_0004), Mode::Bits64.wrap(u64::MAX)], [0x1_0000_0004, u64::MAX]);
    }

    /// SDM volume 1, table "Effective Operand- and Address-Size Attributes" and its counterpart for 64-bit mode.
    #[test]
    fn prefixes_select_the_other_size() {
        use Width::{Dword, Qword, Word};
        let sizes = |mode: Mode| [mode.operand(), mode.other_operand(), mode.offset(), mode.other_address().offset()];
        assert_eq!(sizes(Mode::Bits16), [Word, Dword, Word, Dword]);
        assert_eq!(sizes(Mode::Bits32), [Dword, Word, Dword, Word]);
        assert_eq!(sizes(Mode::Bits64), [Dword, Word, Qword, Dword]);
    }
}
