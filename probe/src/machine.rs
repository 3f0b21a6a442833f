//! The machine, as the program sees it: instructions that only an operating system may execute, behind a trait, so that the rest
//! runs in host tests.

/// Access to the board. Reads have no effect on what other code sees, unless a register's own specification says so.
pub trait Machine {
    /// CPUID: EAX, EBX, ECX, EDX of a leaf and sub-leaf.
    fn cpuid(&self, leaf: u32, subleaf: u32) -> [u32; 4];
    /// RDMSR; `None` if the processor has no such register (#GP).
    fn msr(&self, register: u32) -> Option<u64>;
    /// RDTSC.
    fn tsc(&self) -> u64;
    /// IN, one byte.
    fn in8(&self, port: u16) -> u8;
    /// OUT, one byte.
    fn out8(&self, port: u16, value: u8);
    /// IN, four bytes.
    fn in32(&self, port: u16) -> u32;
    /// OUT, four bytes.
    fn out32(&self, port: u16, value: u32);
    /// A register of a device; all ones where the address cannot be reached.
    fn read32(&self, address: u64) -> u32;
    /// Writes a register of a device; nothing where the address cannot be reached.
    fn write32(&self, address: u64, value: u32);
    /// Writes one byte of the screen's memory.
    fn draw8(&self, address: u64, value: u8);
    /// Writes four bytes of it, at a multiple of four.
    fn draw32(&self, address: u64, value: u32);

    /// A register of 64 bits, by its halves.
    fn read64(&self, address: u64) -> u64 {
        u64::from(self.read32(address)) | u64::from(self.read32(address.wrapping_add(4))) << 32
    }
}

/// Memory that firmware and the loader have filled in and that nobody changes any more.
pub trait Memory<'a> {
    /// Bytes at a physical address; `None` where they cannot be reached.
    fn bytes(&self, address: u64, length: usize) -> Option<&'a [u8]>;
}

/// A little-endian number of `WIDTH` bytes.
pub fn number<const WIDTH: usize>(bytes: &[u8], at: usize) -> Option<u64> {
    let bytes = bytes.get(at..at.checked_add(WIDTH)?)?;
    Some(bytes.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte)))
}
