/// The size of one access to a port, to memory or to a register.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Width {
    /// One byte.
    Byte,
    /// Two bytes.
    Word,
    /// Four bytes.
    Dword,
    /// Eight bytes: memory and registers only, no I/O instruction has it.
    Qword,
}

impl Width {
    /// The number of bytes: 1, 2, 4 or 8.
    pub const fn bytes(self) -> usize {
        match self {
            Self::Byte => 1,
            Self::Word => 2,
            Self::Dword => 4,
            Self::Qword => 8,
        }
    }

    /// All ones in the width: what an access to an unowned port or address reads.
    pub const fn mask(self) -> u64 {
        match self {
            Self::Byte => 0xff,
            Self::Word => 0xffff,
            Self::Dword => 0xffff_ffff,
            Self::Qword => u64::MAX,
        }
    }

    /// The low 32 bits of the mask: all ones for a port, as no port is wider.
    pub const fn mask32(self) -> u32 {
        self.mask() as u32
    }

    /// The width of `n` bytes, if the processor has such an access.
    pub const fn from_bytes(n: u8) -> Option<Self> {
        match n {
            1 => Some(Self::Byte),
            2 => Some(Self::Word),
            4 => Some(Self::Dword),
            8 => Some(Self::Qword),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_width_knows_its_size_and_its_ones() {
        let widths = [
            (1u8, Width::Byte, 0xff),
            (2, Width::Word, 0xffff),
            (4, Width::Dword, 0xffff_ffff),
            (8, Width::Qword, 0xffff_ffff_ffff_ffff),
        ];
        for (n, width, ones) in widths {
            assert_eq!(Width::from_bytes(n), Some(width));
            assert_eq!(width.bytes(), usize::from(n));
            assert_eq!(width.mask(), ones);
            assert_eq!(u64::from(width.mask32()), ones & 0xffff_ffff);
        }
        assert_eq!([0, 3, 5, 16].map(Width::from_bytes), [None; 4]);
    }
}
