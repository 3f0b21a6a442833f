//! Boards: the devices that the servers own, the interrupt lines they use, and how the machine is switched off.
//! Sources: Intel 440FX and PIIX3 data sheets (ports, ISA interrupts as I/O APIC inputs); for `bochs` also its user
//! manual (ports 0x402, 0xe9 and 0x8900). pci-server finds out at run time what is on the PCI bus; this table says only
//! where firmware may have put it, and how its interrupts are wired.

use proto::{
    pci::{self, Intx},
    serial, timer,
};
use serde::{Deserialize, Deserializer, de::Error};
use toml::Spanned;

use layout::Service;

/// The oldest generation of processors that a board may have. It decides which kernel a system gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Processor {
    /// The kernel uses VT-x with EPT and VPID, and nothing newer.
    Nehalem,
    /// The kernel also uses FSGSBASE.
    IvyBridge,
    /// The kernel also uses pages of 1 GiB, PCID and INVPCID.
    Haswell,
}

/// The page of the HPET: the first of four places (I/O Controller Hub 7 and its successors), and the one that firmware chooses.
pub const HPET: u64 = 0xfed0_0000;

/// A machine that Portcullis runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Board {
    /// As the description's `board` names it.
    pub name: &'static str,
    /// In a few words.
    pub about: &'static str,
    /// The processor features that the kernel relies on.
    pub processor: Processor,
    /// Whether its processor may have the erratum "iTLB multihit" (CVE-2018-12207): code in a large page of an EPT can then
    /// stop the machine.
    pub multihit: bool,
    /// The console's 16550, as the description's `console` has it.
    pub uart: Device,
    /// The console's bits per second.
    pub baud: u32,
    /// The 8254: channels 0 to 2 and the mode register.
    pub pit: Device,
    /// Port 0x61: gate and output of the 8254's channel 2.
    pub gate: PortRange,
    /// The physical address of the HPET's registers, where there may be one. timer-server uses it if the 8254 does not count.
    pub hpet: Option<u64>,
    /// The MC146818 and its CMOS.
    pub rtc: Device,
    /// PCI configuration mechanism 1.
    pub pci: PortRange,
    /// How root-task powers the machine off.
    pub power_off: Option<Switch>,
    /// Ports where an emulator takes marks and text; a description may give them to a guest.
    pub debug_ports: &'static [(u16, &'static str)],
    /// Most RAM that all guests together may have, in bytes.
    pub guest_ram: u64,
    /// Where INTA to INTD of PCI arrive.
    pub intx: Intx,
    /// Ports where firmware places PCI functions, and the PC/AT's ports of IDE controllers.
    pub pci_ports: &'static [PortRange],
    /// Memory below 4 GiB in which firmware places PCI functions: first and last byte.
    pub pci_memory: (u64, u64),
    /// Memory above 4 GiB, likewise, where the board's firmware uses it for 64-bit base addresses.
    pub pci_memory_high: Option<(u64, u64)>,
    /// Whether it has an IOMMU, or may have one.
    pub iommu: bool,
    /// Whether it has VT-x, or may have it.
    pub vtx: bool,
    /// Whether a description can plug in cards.
    pub emulated: bool,
}

/// A port that powers the machine off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Switch {
    /// The port.
    pub port: u16,
    /// Bytes to write to it, one by one.
    pub off: &'static [u8],
    /// Bytes to write instead when something has failed.
    pub failed: &'static [u8],
}

/// A device of the board: its ports and its interrupt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Device {
    /// As messages and maps call it.
    pub name: &'static str,
    /// Its registers.
    pub ports: PortRange,
    /// Its interrupt.
    pub line: IoApicInput,
}

/// Ports `first..=last`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PortRange {
    /// First port.
    pub first: u16,
    /// Last port, inclusive.
    pub last: u16,
}

/// An input of an I/O APIC. Inputs 0 to 15 have the ISA interrupts, which are edge triggered and active high; PCI's behind
/// them are level triggered and active low.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct IoApicInput {
    /// 0 is the first I/O APIC.
    pub ioapic: u8,
    /// Its input, 0 to 23.
    pub pin: u8,
}

const fn ports(first: u16, last: u16) -> PortRange {
    PortRange { first, last }
}

const fn isa(name: &'static str, ports: PortRange, pin: u8) -> Device {
    Device { name, ports, line: IoApicInput { ioapic: 0, pin } }
}

/// seL4 gives no process memory from here on (its PADDR_USER_DEVICE_TOP for x86-64).
pub const ADDRESSES_END: u64 = 1 << 47;

/// What every PC has.
const PC: Board = Board {
    name: "pc",
    about: "PC",
    processor: Processor::Nehalem,
    multihit: true,
    uart: isa("uart", ports(0x3f8, 0x3ff), 4),
    baud: 115_200,
    // ISA interrupt 0 arrives at input 2 (MPS 1.4, section 5, and the ACPI override of every PC).
    pit: isa("timer", ports(0x40, 0x43), 2),
    gate: ports(0x61, 0x61),
    hpet: Some(HPET),
    rtc: isa("rtc", ports(0x70, 0x71), 8),
    pci: ports(0xcf8, 0xcff),
    power_off: None,
    debug_ports: &[],
    guest_ram: 8 << 30,
    intx: Intx::Unknown,
    pci_ports: &[
        ports(0x170, 0x177),
        ports(0x1f0, 0x1f7),
        ports(0x376, 0x376),
        ports(0x3f6, 0x3f6),
        ports(0x1000, 0xffff),
    ],
    // From the end of RAM below 4 GiB, at its earliest, to the I/O APIC.
    pci_memory: (0x8000_0000, 0xfebf_ffff),
    // RAM there is not for devices; root-task finds out where it ends.
    pci_memory_high: Some((1 << 32, ADDRESSES_END - 1)),
    iommu: true,
    vtx: true,
    emulated: false,
};

/// All boards.
pub static BOARDS: [Board; 5] = [
    Board {
        name: "bochs",
        about: "Bochs, i440FX and PIIX3",
        processor: Processor::Haswell,
        multihit: false,
        // iodev/unmapped.cc of Bochs: `Shutdown` is a panic with its own text. Each byte is a line of the log for debugging, so
        // one before `Shutdown` can say what it is for. (`D` would return to the debugger, where that runs: not in Bochs 3.0.)
        // Bochs ends at the word. QEMU ends by one of the bytes, the first or, since version 9, which ends later, the
        // last.
        power_off: Some(Switch { port: 0x8900, off: b"ShutdownS", failed: b"FShutdownF" }),
        debug_ports: &[(0xe9, "text"), (0x402, "marks"), (0x8900, "stop")],
        hpet: None,
        guest_ram: 2 << 30,
        // iodev/pci.cc of Bochs: the I/O APIC's inputs 16 to 19, by (device + pin - 2) & 3.
        intx: Intx::Swizzle { base: 16, add: 2 },
        pci_memory_high: None,
        iommu: false,
        emulated: true,
        ..PC
    },
    // For IOMMU tests: without KVM QEMU emulates VT-d and no VT-x. With it, `pc` is the board.
    Board {
        name: "q35",
        about: "QEMU, Q35 and ICH9",
        guest_ram: 2 << 30,
        intx: Intx::Q35,
        vtx: false,
        emulated: true,
        ..PC
    },
    Board { name: "cma34cr", about: "RTD CMA34CR, a single board computer", processor: Processor::IvyBridge, ..PC },
    Board { name: "pc-modern", about: "PC with a Haswell or later", processor: Processor::Haswell, ..PC },
    PC,
];

static NAMES: [&str; 5] = [BOARDS[0].name, BOARDS[1].name, BOARDS[2].name, BOARDS[3].name, BOARDS[4].name];

impl IoApicInput {
    /// Whether it is one of PCI's.
    pub fn is_pci(self) -> bool {
        self.pin >= 16
    }
}

impl Board {
    /// The rate of the console's line: the UART's clock by 16, by this. The clock is 1.8432 MHz (PC/AT).
    pub fn divisor(&self) -> u16 {
        u16::try_from(115_200 / self.baud.max(1)).unwrap_or(1).max(1)
    }

    /// The devices that servers own, each with its server.
    pub fn owned(&self) -> [(PortRange, &'static str, Service); 5] {
        [
            (self.uart.ports, "UART", serial::SERVICE),
            (self.pit.ports, "8254 timer", timer::SERVICE),
            (self.gate, "8254 gate", timer::SERVICE),
            (self.rtc.ports, "RTC and CMOS", timer::SERVICE),
            (self.pci, "PCI configuration", pci::SERVICE),
        ]
    }

    /// The board of this name.
    pub fn find(name: &str) -> Option<&'static Board> {
        BOARDS.iter().find(|board| board.name == name)
    }
}

/// Reads the name of a board, see [`BOARDS`].
pub(crate) fn by_name<'de, D: Deserializer<'de>>(from: D) -> Result<Spanned<Board>, D::Error> {
    let name = Spanned::<String>::deserialize(from)?;
    let board = Board::find(name.get_ref()).ok_or_else(|| D::Error::unknown_variant(name.get_ref(), &NAMES))?;
    Ok(Spanned::new(name.span(), *board))
}

impl PortRange {
    /// Whether the two ranges have ports in common.
    pub fn overlaps(&self, other: &PortRange) -> bool {
        self.first <= other.last && other.first <= self.last
    }

    /// The ports that two overlapping ranges have in common.
    pub fn overlap(&self, other: &PortRange) -> PortRange {
        PortRange { first: self.first.max(other.first), last: self.last.min(other.last) }
    }
}

impl core::fmt::Display for PortRange {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        if self.first == self.last {
            write!(f, "{:#x}", self.first)
        } else {
            write!(f, "{:#x}-{:#x}", self.first, self.last)
        }
    }
}

#[cfg(test)]
mod tests {

    use super::*;

    #[test]
    fn no_two_devices_of_a_board_share_a_port_or_an_interrupt() {
        for board in &BOARDS {
            let mut ports = vec![board.uart.ports, board.pit.ports, board.gate, board.rtc.ports, board.pci];
            ports.extend(board.debug_ports.iter().map(|&(port, _)| PortRange { first: port, last: port }));
            ports.sort();
            assert!(ports.windows(2).all(|pair| pair[0].last < pair[1].first), "{}", board.name);
            let mut pins = [board.uart.line, board.pit.line, board.rtc.line];
            pins.sort();
            assert!(pins.windows(2).all(|pair| pair[0] < pair[1]), "{}", board.name);
        }
    }
}
