//! The board's reset and delay ports: 0x80, 0x92, 0xcf9, and an 8042 keyboard controller with nothing plugged in.
//!
//! 82371SB (PIIX3, 290550) for 0x92 and 0xcf9; IBM PS/2 Hardware Interface Technical Reference, "Keyboard and Auxiliary
//! Device Controller", for 0x60 and 0x64.  What resets the machine is returned, not done.
//! Left out: devices behind the controller.  It answers for them at once with its time-out code.

mod keyboard;
#[cfg(test)]
mod tests;

use crate::Width;
use keyboard::Keyboard;

/// What a write asks the machine to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reset {
    /// The processor alone (INIT): memory and devices keep their state.
    Soft,
    /// The whole machine.
    Hard,
}

/// The ports of the board, each one byte wide.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Port {
    /// 0x80: a page register that no DMA channel uses; writing it takes a microsecond on ISA.
    Delay,
    /// 0x92: system control port A, with the fast reset and the A20 gate.
    ControlA,
    /// 0xcf9: the reset control register.
    ResetControl,
    /// 0x60: the keyboard controller's data.
    KeyboardData,
    /// 0x64: the keyboard controller's command and status.
    KeyboardCommand,
}

impl Port {
    /// The register at `port`, if it is one of the board's.
    ///
    /// 0xcf9 lies within the PCI configuration address: only accesses of one byte are meant for this register.
    pub const fn at(port: u16) -> Option<Self> {
        match port {
            0x80 => Some(Self::Delay),
            0x92 => Some(Self::ControlA),
            0xcf9 => Some(Self::ResetControl),
            0x60 => Some(Self::KeyboardData),
            0x64 => Some(Self::KeyboardCommand),
            _ => None,
        }
    }
}

const CONTROL_A_RESET: u8 = 1 << 0;
const CONTROL_A_A20: u8 = 1 << 1;
/// The reset is one of the whole machine.
const RESET_HARD: u8 = 1 << 1;
/// A transition of this bit from 0 to 1 resets.
const RESET_NOW: u8 = 1 << 2;

/// The reset and delay ports.
///
/// # Power off
/// Software cannot power off a board without ACPI and APM. Linux then executes `cli; hlt`. A processor that halts with
/// interrupts disabled never continues, so a VMM can treat that as power off.
#[derive(Clone, Debug)]
pub struct ResetPorts {
    delay: u8,
    control_a: u8,
    reset_control: u8,
    keyboard: Keyboard,
}

impl Default for ResetPorts {
    fn default() -> Self {
        Self::new()
    }
}

impl ResetPorts {
    /// A board after power-on, with the A20 gate open.
    pub const fn new() -> Self {
        Self { delay: 0, control_a: CONTROL_A_A20, reset_control: 0, keyboard: Keyboard::new() }
    }

    /// What an access of `width` at `port` reads: no two of these ports are neighbours, so further bytes float high.
    pub const fn read(&mut self, port: Port, width: Width) -> u32 {
        let value = match port {
            Port::Delay => self.delay,
            Port::ControlA => self.control_a,
            Port::ResetControl => self.reset_control,
            Port::KeyboardData => self.keyboard.read_data(),
            Port::KeyboardCommand => self.keyboard.status(),
        };
        width.mask32() & !0xff | value as u32
    }

    /// Takes what is written to `port`; only the first byte reaches it.
    pub const fn write(&mut self, port: Port, _width: Width, value: u32) -> Option<Reset> {
        let [value, ..] = value.to_le_bytes();
        match port {
            Port::Delay => {
                self.delay = value;
                None
            }
            Port::ControlA => self.write_control_a(value),
            Port::ResetControl => self.write_reset_control(value),
            Port::KeyboardData => self.keyboard.write_data(value),
            Port::KeyboardCommand => self.keyboard.write_command(value),
        }
    }

    /// The level of the keyboard's interrupt line, 1.
    pub const fn keyboard_irq(&self) -> bool {
        self.keyboard.irq()
    }

    /// Whether the A20 gate is open, by either of its switches.  Processors of this age ignore it.
    pub const fn a20(&self) -> bool {
        self.control_a & CONTROL_A_A20 != 0 || self.keyboard.a20()
    }

    const fn write_control_a(&mut self, value: u8) -> Option<Reset> {
        let rises = value & !self.control_a & CONTROL_A_RESET != 0;
        self.control_a = value & (CONTROL_A_RESET | CONTROL_A_A20);
        if rises { Some(Reset::Soft) } else { None }
    }

    const fn write_reset_control(&mut self, value: u8) -> Option<Reset> {
        let rises = value & !self.reset_control & RESET_NOW != 0;
        self.reset_control = value & (RESET_HARD | RESET_NOW);
        match (rises, value & RESET_HARD != 0) {
            (false, _) => None,
            (true, true) => Some(Reset::Hard),
            (true, false) => Some(Reset::Soft),
        }
    }
}
