//! Accesses to ports that nothing follows from: no interrupt, no timer, no console, no call to a server. The exit need not
//! even be read for them, but for what an I/O instruction says of itself. A busy guest's accesses are mostly of this kind:
//! it looks whether something has changed, and it has not.
//!
//! Everything else is for [`Machine::read`] and [`Machine::write`], and so is whatever looks unusual here.

use devices::{Device, Nanos, Width, pci::CONFIG_ADDRESS};
use vtx::exit::{Direction, Io};

use super::{Machine, Owner, owner};

/// What came of an access.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AtOnce {
    /// Nothing: it is for the full way. Nothing has happened.
    No,
    /// The OUT is done.
    Written,
    /// The IN reads this, in this width.
    Read(Width, u32),
}

impl Machine {
    /// Answers an access, with `eax` in the guest's EAX, if nothing else follows from it.
    #[inline(always)]
    pub fn at_once(&mut self, io: Io, eax: u32, now: impl Into<Nanos>) -> AtOnce {
        if io.string() {
            return AtOnce::No;
        }
        match io.direction() {
            Direction::Out => self.write_at_once(io, eax),
            Direction::In => self.read_at_once(io, now),
        }
    }

    #[inline(always)]
    fn write_at_once(&mut self, io: Io, eax: u32) -> AtOnce {
        let port = io.port();
        match owner(port).0 {
            Owner::Nobody if !self.passthrough.has_port(port) => AtOnce::Written,
            Owner::Pci if port == CONFIG_ADDRESS && io.width() == Width::Dword => {
                self.pci.set_address(eax);
                AtOnce::Written
            }
            _ => AtOnce::No,
        }
    }

    #[inline(always)]
    fn read_at_once(&mut self, io: Io, now: impl Into<Nanos>) -> AtOnce {
        let (port, width) = (io.port(), io.width());
        let (owner, first) = owner(port);
        let offset = port.wrapping_sub(first);
        let value = match owner {
            Owner::Nobody if !self.passthrough.has_port(port) => Some(width.mask()),
            Owner::Pci if width == Width::Dword => self.pci.read_double_word(offset),
            _ if width != Width::Byte => None,
            Owner::PicPrimary if offset == 1 => self.pic.masks()[0].map(u32::from),
            Owner::PicSecondary if offset == 1 => self.pic.masks()[1].map(u32::from),
            Owner::Pit => Some(self.pit.read(offset, Width::Byte, now.into())),
            Owner::Rtc if offset == 1 => self.rtc.data(now).map(u32::from),
            Owner::Uart if offset == 5 => self.uart.line_status().map(u32::from),
            _ => None,
        };
        value.map_or(AtOnce::No, |value| AtOnce::Read(width, value))
    }
}
