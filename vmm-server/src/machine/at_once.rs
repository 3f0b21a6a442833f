//! Accesses to ports that nothing follows from: no interrupt, no timer, no console, no call to a server. The exit need not
//! even be read for them, but for what an I/O instruction says of itself. A busy guest's accesses are mostly of this kind:
//! it looks whether something has changed, and it has not.
//!
//! Everything else is for [`Machine::read`] and [`Machine::write`], and so is whatever looks unusual here.

use devices::{Nanos, Width};
use vtx::exit::{Direction, Io};

use super::{Machine, OWNERS, Owner, TABLE_LEN};

/// What came of an access.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AtOnce {
    /// Nothing: it is for the full way. Nothing has happened.
    No,
    /// The OUT is done.
    Written,
    /// The IN is done, and leaves this in EAX.
    Read(u32),
}

impl Machine {
    /// Answers an access, with `eax` in the guest's EAX, if nothing else follows from it.
    #[inline(always)]
    pub fn at_once(&mut self, io: Io, eax: u32, now: impl Into<Nanos>) -> AtOnce {
        if io.string() {
            return AtOnce::No;
        }
        match io.direction() {
            Direction::Out => self.write_at_once(io, eax, now),
            Direction::In => self.read_at_once(io, eax, now),
        }
    }

    #[inline(always)]
    fn write_at_once(&mut self, io: Io, eax: u32, now: impl Into<Nanos>) -> AtOnce {
        let port = io.port();
        match register(port) {
            Register::Nobody if !self.passthrough.has_port(port) => AtOnce::Written,
            Register::PciAddress if io.width() == Width::Dword => {
                self.pci.set_address(eax);
                AtOnce::Written
            }
            Register::PicPrimaryCommand | Register::PicPrimaryMask
                if self.keeps_pic_quiet(port % 2, io.width(), eax) =>
            {
                self.pic.primary().write_byte(port % 2, eax as u8);
                AtOnce::Written
            }
            Register::Pit if io.width() == Width::Byte => {
                // The second byte of a count is the one that sets a timer.
                let taken = self.pit.write_low_byte(port % 4, eax as u8, now.into());
                self.timers_changed |= taken;
                if taken { AtOnce::Written } else { AtOnce::No }
            }
            _ => AtOnce::No,
        }
    }

    #[inline(always)]
    fn read_at_once(&mut self, io: Io, eax: u32, now: impl Into<Nanos>) -> AtOnce {
        let (port, width) = (io.port(), io.width());
        let register = register(port);
        if register == Register::Nobody && !self.passthrough.has_port(port) {
            return AtOnce::Read(eax | width.mask());
        }
        let byte = match (register, width) {
            (Register::PciAddress, Width::Dword) => return AtOnce::Read(self.pci.address().value()),
            (Register::PciData, Width::Dword) => return self.pci.data().map_or(AtOnce::No, AtOnce::Read),
            (Register::PicPrimaryMask, Width::Byte) => self.pic.masks()[0],
            (Register::PicSecondaryMask, Width::Byte) => self.pic.masks()[1],
            (Register::Pit, Width::Byte) => Some(self.pit.count(port % 4, now)),
            (Register::RtcData, Width::Byte) => self.rtc.data(now),
            (Register::UartLineStatus, Width::Byte) => self.uart.line_status(),
            _ => None,
        };
        byte.map_or(AtOnce::No, |byte| AtOnce::Read(eax & !0xff | u32::from(byte)))
    }
}

/// What is answered here.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Register {
    Nobody,
    PicPrimaryCommand,
    PicPrimaryMask,
    PicSecondaryMask,
    Pit,
    RtcData,
    UartLineStatus,
    PciAddress,
    PciData,
    /// What is not.
    Other,
}

const PORTS: [(u16, Register); 11] = [
    (0x020, Register::PicPrimaryCommand),
    (0x021, Register::PicPrimaryMask),
    (0x040, Register::Pit),
    (0x041, Register::Pit),
    (0x042, Register::Pit),
    (0x043, Register::Pit),
    (0x071, Register::RtcData),
    (0x0a1, Register::PicSecondaryMask),
    (0x3fd, Register::UartLineStatus),
    (0xcf8, Register::PciAddress),
    (0xcfc, Register::PciData),
];

static REGISTERS: [Register; TABLE_LEN] = {
    let mut table = [Register::Nobody; TABLE_LEN];
    let mut port = 0;
    while port < TABLE_LEN {
        if !matches!(OWNERS[port].0, Owner::Nobody) {
            table[port] = Register::Other;
        }
        port += 1;
    }
    let mut row = 0;
    while row < PORTS.len() {
        let (port, register) = PORTS[row];
        table[port as usize] = register;
        row += 1;
    }
    table
};

#[inline(always)]
fn register(port: u16) -> Register {
    REGISTERS.get(usize::from(port)).copied().unwrap_or(Register::Nobody)
}
