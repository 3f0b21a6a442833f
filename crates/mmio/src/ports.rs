//! I/O ports as drivers see them: plain numbers and values (Intel SDM volume 1, chapter 19). In an image, `rt::IoPorts`
//! implements them with an I/O-port capability; in tests, register models do.
//! It leaves out string instructions.

/// A range of I/O ports.
pub trait Ports {
    /// IN, one byte.
    fn in8(&mut self, port: u16) -> u8;
    /// OUT, one byte.
    fn out8(&mut self, port: u16, value: u8);
    /// IN, two bytes, little-endian.
    fn in16(&mut self, port: u16) -> u16;
    /// OUT, two bytes.
    fn out16(&mut self, port: u16, value: u16);
    /// IN, four bytes.
    fn in32(&mut self, port: u16) -> u32;
    /// OUT, four bytes.
    fn out32(&mut self, port: u16, value: u32);
}
