//! Configuration space, 256 bytes of each function, four at a time; and a PC's access to it by configuration mechanism
//! 1 (PCI Local Bus Specification 3.0, section 3.2.2.3.2), an address port and a data port. It leaves out the
//! memory-mapped mechanism of PCI Express (ECAM).

use layout::Bdf;
use mmio::Ports;
use proto::pci::Width;

/// Configuration space of all functions. Functions that do not exist read as all ones.
pub trait ConfigSpace {
    /// The four bytes at `offset`, which is a multiple of 4.
    fn read(&mut self, at: Bdf, offset: u8) -> u32;
    /// Writes four bytes.
    fn write(&mut self, at: Bdf, offset: u8, value: u32);
    /// Writes `width` bytes at `offset`, a multiple of `width`, and no others: neighbouring bytes may have bits that
    /// are cleared by writing ones.
    fn write_part(&mut self, at: Bdf, offset: u8, width: Width, value: u32);
}

/// The byte at `offset` (modulo 4) of a register's four.
pub fn byte(word: u32, offset: u8) -> u8 {
    (word >> (8 * u32::from(offset % 4))) as u8
}

/// The two bytes at `offset`, which is even, of a register's four.
pub fn half(word: u32, offset: u8) -> u16 {
    (word >> (8 * u32::from(offset % 4 / 2 * 2))) as u16
}

const ADDRESS: u16 = 0xcf8;
const DATA: u16 = 0xcfc;
const ENABLE: u32 = 1 << 31;

/// Configuration mechanism 1.
pub struct Mechanism1<P>(P);

impl<P: Ports> Mechanism1<P> {
    /// The mechanism behind `ports` (0xcf8 to 0xcff).
    pub fn new(ports: P) -> Self {
        Self(ports)
    }

    /// Whether the machine has it: the address port reads back the written value.
    pub fn is_there(&mut self) -> bool {
        self.0.out32(ADDRESS, ENABLE);
        let there = self.0.in32(ADDRESS) == ENABLE;
        self.0.out32(ADDRESS, 0);
        there
    }

    fn select(&mut self, at: Bdf, offset: u8) {
        let device = u32::from(at.device & 0x1f) << 3 | u32::from(at.function & 7);
        self.0.out32(ADDRESS, ENABLE | u32::from(at.bus) << 16 | device << 8 | u32::from(offset & 0xfc));
    }
}

impl<P: Ports> ConfigSpace for Mechanism1<P> {
    fn read(&mut self, at: Bdf, offset: u8) -> u32 {
        self.select(at, offset);
        self.0.in32(DATA)
    }

    fn write(&mut self, at: Bdf, offset: u8, value: u32) {
        self.select(at, offset);
        self.0.out32(DATA, value);
    }

    fn write_part(&mut self, at: Bdf, offset: u8, width: Width, value: u32) {
        self.select(at, offset);
        match width {
            Width::Byte => self.0.out8(DATA + u16::from(offset & 3), value as u8),
            Width::Word => self.0.out16(DATA + u16::from(offset & 2), value as u16),
            Width::Dword => self.0.out32(DATA, value),
        }
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::vec::Vec;

    #[derive(Default)]
    struct Bridge {
        address: u32,
        written: Vec<(u32, u32)>,
        parts: Vec<(u32, u16, u16)>,
    }

    impl Ports for &mut Bridge {
        fn in32(&mut self, port: u16) -> u32 {
            if port == 0xcf8 { self.address } else { !self.address }
        }
        fn out32(&mut self, port: u16, value: u32) {
            match port {
                0xcf8 => self.address = value,
                _ => self.written.push((self.address, value)),
            }
        }
        fn in8(&mut self, _: u16) -> u8 {
            unreachable!()
        }
        fn out8(&mut self, port: u16, value: u8) {
            self.parts.push((self.address, port, value.into()));
        }
        fn in16(&mut self, _: u16) -> u16 {
            unreachable!()
        }
        fn out16(&mut self, port: u16, value: u16) {
            self.parts.push((self.address, port, value));
        }
    }

    #[test]
    fn address_and_data_go_through_their_ports() {
        let mut bridge = Bridge::default();
        let mut space = Mechanism1::new(&mut bridge);
        assert!(space.is_there());
        let at = Bdf { bus: 0x12, device: 0x1f, function: 2 };
        assert_eq!(space.read(at, 0x10), !0x8012_fa10);
        space.write(at, 0x3c, 7);
        assert_eq!(bridge.written, [(0x8012_fa3c, 7)]);
    }

    #[test]
    fn a_part_of_a_register_is_written_alone() {
        let mut bridge = Bridge::default();
        let mut space = Mechanism1::new(&mut bridge);
        let at = Bdf { bus: 0, device: 1, function: 1 };
        space.write_part(at, 0x41, Width::Byte, 0xabcd);
        space.write_part(at, 0x06, Width::Word, 0xf900);
        space.write_part(at, 0x10, Width::Dword, 1);
        assert_eq!(bridge.parts, [(0x8000_0940, 0xcfd, 0xcd), (0x8000_0904, 0xcfe, 0xf900)]);
        assert_eq!(bridge.written, [(0x8000_0910, 1)]);
    }

    #[test]
    fn parts_of_a_word() {
        assert_eq!((byte(0x4433_2211, 0x3d), byte(0x4433_2211, 3)), (0x22, 0x44));
        assert_eq!((half(0x4433_2211, 0), half(0x4433_2211, 2)), (0x2211, 0x4433));
    }
}
