use crate::Width;

/// The mode in which the processor executes code: CS.D, the default size of operands and addresses. All differences
/// between modes are methods here. Long mode would be one more variant: operands of 32 bits by default, addresses and
/// pointers of 64.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Mode {
    Bits16,
    Bits32,
}

impl Mode {
    /// The default size of an operand, apart from byte operands.
    pub const fn operand(self) -> Width {
        match self {
            Mode::Bits16 => Width::Word,
            Mode::Bits32 => Width::Dword,
        }
    }

    /// The default size of an offset in a segment.
    pub const fn offset(self) -> Width {
        match self {
            Mode::Bits16 => Width::Word,
            Mode::Bits32 => Width::Dword,
        }
    }

    /// The mode whose sizes a size-override prefix (0x66 or 0x67) selects.
    pub const fn other(self) -> Self {
        match self {
            Mode::Bits16 => Mode::Bits32,
            Mode::Bits32 => Mode::Bits16,
        }
    }

    /// The size of linear addresses, of the instruction pointer and of the stack pointer. It is 32 bits for 16-bit code
    /// as well: such a segment only limits the offsets. Left out: 16-bit stacks.
    pub const fn pointer(self) -> Width {
        match self {
            Mode::Bits16 | Mode::Bits32 => Width::Dword,
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
    fn addresses_wrap_at_four_gigabytes_in_both_modes() {
        for mode in [Mode::Bits16, Mode::Bits32] {
            assert_eq!([mode.wrap(0x1_0000_0004), mode.wrap(u64::MAX)], [4, 0xffff_ffff]);
            assert_eq!(mode.other().other(), mode);
        }
        assert_eq!([Mode::Bits16.offset(), Mode::Bits32.operand()], [Width::Word, Width::Dword]);
    }
}
