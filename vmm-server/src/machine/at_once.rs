//! Accesses to ports that nothing follows from: no interrupt, no timer, no console, no call to a server. The exit need not
//! even be read for them, but for what an I/O instruction says of itself. A busy guest's accesses are mostly of this kind:
//! it looks whether something has changed, and it has not.
//!
//! Everything else is for [`Machine::read`] and [`Machine::write`], and so is whatever looks unusual here.

use devices::{Nanos, Width};
use vtx::exit::Io;

use super::{Machine, OWNERS, Owner, TABLE_LEN};

impl Machine {
    /// Answers an OUT with `eax` in the guest's EAX, if nothing else follows from it. Otherwise nothing has happened.
    #[inline(always)]
    pub fn write_at_once(&mut self, io: Io, eax: u32, now: impl Into<Nanos>) -> bool {
        let port = io.port();
        match register(port) {
            Register::Nobody => self.is_nobodys(port, io.width()),
            Register::PciAddress if io.width() == Width::Dword => {
                self.functions.set_config_address(eax);
                true
            }
            Register::PicPrimaryCommand | Register::PicPrimaryMask
                if self.keeps_pic_quiet(port % 2, io.width(), eax) =>
            {
                self.pic.primary().write_byte(port % 2, eax as u8);
                true
            }
            Register::Pit if io.width() == Width::Byte => {
                // The second byte of a count is the one that sets a timer.
                let taken = self.pit.write_low_byte(port % 4, eax as u8, now.into());
                self.timers_changed |= taken;
                taken
            }
            _ => false,
        }
    }

    /// Answers an IN, if nothing else follows from it, with what it leaves in EAX. Otherwise nothing has happened.
    #[inline(always)]
    pub fn read_at_once(&mut self, io: Io, eax: u32, now: impl Into<Nanos>) -> Option<u32> {
        let (port, width) = (io.port(), io.width());
        let register = register(port);
        if register == Register::Nobody && self.is_nobodys(port, width) {
            return Some(eax | width.mask32());
        }
        let byte = match (register, width) {
            (Register::PciAddress, Width::Dword) => return Some(self.functions.config_address()),
            (Register::PciData, Width::Dword) => return self.functions.config_data(),
            (Register::PicPrimaryMask, Width::Byte) => self.pic.masks()[0],
            (Register::PicSecondaryMask, Width::Byte) => self.pic.masks()[1],
            (Register::Pit, Width::Byte) => Some(self.pit.count(port % 4, now)),
            (Register::RtcData, Width::Byte) => self.rtc.data(now),
            (Register::UartLineStatus, Width::Byte) => self.uart.line_status(),
            _ => None,
        };
        byte.map(|byte| eax & !0xff | u32::from(byte))
    }

    /// Whether no PCI function has a port that no device of the board has.
    #[inline(always)]
    fn is_nobodys(&self, port: u16, width: Width) -> bool {
        !self.passthrough.has_port(port) && self.functions.port(port, width).is_none()
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
