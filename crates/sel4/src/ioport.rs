//! I/O ports (seL4 manual, section 8.2).

use crate::{AbsoluteCPtr, Result, init_thread, sys};

/// Creates a capability to the ports `first` to `last`, inclusive, in `slot`. Only the root task can call it: it uses
/// the initial thread's capability to all ports.
pub fn ioport_issue(first: u16, last: u16, slot: &AbsoluteCPtr) -> Result<()> {
    #[cfg(ioport_control)]
    return sys::seL4_X86_IOPortControl_Issue(
        init_thread::slot::IO_PORT_CONTROL.cptr().bits(),
        first.into(),
        last.into(),
        slot.root().bits(),
        slot.path().bits(),
        slot.path().depth(),
    );
    // Before version 10 there is one capability to all ports, and minting narrows a copy: the badge has the first port
    // in bits 31:16 and the last in bits 15:0 (the kernel's `io_port_capdata`, which is not installed).
    #[cfg(not(ioport_control))]
    {
        let all = init_thread::slot::CNODE.cap().absolute_cptr(init_thread::slot::IO_PORT.cap());
        slot.mint_word(&all, crate::CapRights::all(), u64::from(first) << 16 | u64::from(last))
    }
}

impl crate::cap::IoPort {
    /// Reads a byte.
    #[inline]
    pub fn ioport_in8(self, port: u16) -> Result<u8> {
        sys::seL4_X86_IOPort_In8(self.bits(), port)
    }

    /// Reads two bytes from `port` and the next.
    #[inline]
    pub fn ioport_in16(self, port: u16) -> Result<u16> {
        sys::seL4_X86_IOPort_In16(self.bits(), port)
    }

    /// Reads four bytes from `port` on.
    #[inline]
    pub fn ioport_in32(self, port: u16) -> Result<u32> {
        sys::seL4_X86_IOPort_In32(self.bits(), port)
    }

    /// Writes a byte.
    #[inline]
    pub fn ioport_out8(self, port: u16, value: u8) -> Result<()> {
        sys::seL4_X86_IOPort_Out8(self.bits(), port.into(), value.into())
    }

    /// Writes two bytes to `port` and the next.
    #[inline]
    pub fn ioport_out16(self, port: u16, value: u16) -> Result<()> {
        sys::seL4_X86_IOPort_Out16(self.bits(), port.into(), value.into())
    }

    /// Writes four bytes from `port` on.
    #[inline]
    pub fn ioport_out32(self, port: u16, value: u32) -> Result<()> {
        sys::seL4_X86_IOPort_Out32(self.bits(), port.into(), value.into())
    }
}
