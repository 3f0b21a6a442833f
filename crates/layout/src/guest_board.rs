//! The board that every guest sees, as far as descriptions depend on it: the ports of its devices and their inputs of
//! its PIC. vmm-server models the board (`board.rs`); `capdl-spec` refuses passed-through ports and interrupts that a
//! modelled device has.

use serde::{Deserialize, Serialize};

/// Which board a guest sees.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Chipset {
    /// A PC before ACPI: the pair of 8259s, and no more than an MP table.
    #[default]
    Pc1995,
    /// A PC with ACPI and an I/O APIC.
    Pc,
}

/// A range of ports, both ends inclusive, and the device that answers there.
pub type Ports = (u16, u16, &'static str);

/// First port of the power management registers.
pub const POWER: u16 = 0x600;

/// Guest-physical address of the ACPI tables: where a system looks for the RSDP (ACPI specification, "Finding the RSDP on
/// IA-PC Systems").
pub const ACPI_TABLES: u64 = 0xe_0000;

/// Ports of the board's devices, in ascending order.
pub const PORTS: [Ports; 14] = [
    (0x020, 0x021, "interrupt controller"),
    (0x022, 0x023, "interrupt mode register"),
    (0x040, 0x043, "timer"),
    (0x060, 0x060, "keyboard controller"),
    (0x061, 0x061, "speaker port"),
    (0x064, 0x064, "keyboard controller"),
    (0x070, 0x071, "clock"),
    (0x080, 0x080, "delay port"),
    (0x092, 0x092, "system control port"),
    (0x0a0, 0x0a1, "interrupt controller"),
    (0x3f8, 0x3ff, "UART"),
    (0x4d0, 0x4d1, "interrupt controller"),
    (POWER, POWER + 11, "power management"),
    (0xcf8, 0xcff, "PCI configuration"),
];

/// The device of the board that has one of the ports `first` to `last`.
pub fn owner_of_ports(first: u16, last: u16) -> Option<&'static Ports> {
    PORTS.iter().find(|(from, to, _)| *from <= last && first <= *to)
}

/// Inputs of the pair of 8259s, by their IBM PC numbers.
pub mod input {
    /// Number of inputs.
    pub const COUNT: u8 = 16;
    /// Channel 0 of the 8254.
    pub const TIMER: u8 = 0;
    /// The keyboard controller.
    pub const KEYBOARD: u8 = 1;
    /// The second 8259.
    pub const CASCADE: u8 = 2;
    /// COM1.
    pub const UART: u8 = 4;
    /// The real-time clock.
    pub const CLOCK: u8 = 8;
    /// The system control interrupt of ACPI.
    pub const SCI: u8 = 9;
}

/// The inputs that devices of both boards drive, with the devices.
pub const WIRED: [(u8, &str); 5] = [
    (input::TIMER, "timer"),
    (input::KEYBOARD, "keyboard"),
    (input::CASCADE, "second PIC"),
    (input::UART, "UART"),
    (input::CLOCK, "clock"),
];

/// The device of this board that drives this input.
pub fn driver_of_input(chipset: Chipset, number: u8) -> Option<&'static str> {
    if (chipset, number) == (Chipset::Pc, input::SCI) {
        return Some("power management");
    }
    WIRED.iter().find(|(input, _)| *input == number).map(|(_, device)| *device)
}
