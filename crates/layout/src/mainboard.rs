//! Ports of a PC's mainboard, and which processes may have them. Some of its devices can write to memory, raise a
//! system management interrupt (SMI), power the machine off or reset it: a process with such a port controls the whole
//! machine. `capdl-spec` checks descriptions against this list, and pci-server what it finds on the bus.
//!
//! The mainboard has the first 256 of every 1024 ports below 0x1000 (EISA Specification 3.12, I/O address map: ISA system
//! board, EISA system board); cards that are not on the PCI bus decode ten bits and have 0x100 to 0x3ff. Sources of the
//! table: 82371AB PIIX4 data sheet (290562), chapter 2; for 0xcd6 the AMD SB700 register reference (43009). A chipset's
//! power management block, its GPIO and its SMBus are where the firmware puts them, above 0x3ff, so no table can list
//! them.

/// A range of ports, both ends inclusive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fixed {
    /// First port.
    pub first: u16,
    /// Last port.
    pub last: u16,
    /// The device that has them, or what they do.
    pub what: &'static str,
    /// The kernel's own, which no process may have.
    pub kernel: bool,
}

/// Ports of cards that are not on the PCI bus.
pub const CARDS: (u16, u16) = (0x100, 0x3ff);

/// The kernel's own come first; the last rows are the rest of the mainboard's ports.
const FIXED: [Fixed; 19] = [
    kernel(0x020, 0x023, "the interrupt controllers"),
    kernel(0x0a0, 0x0a1, "the interrupt controllers"),
    kernel(0x4d0, 0x4d1, "the interrupt controllers"),
    fixed(0x000, 0x01f, "the DMA controller, which reaches all of memory"),
    fixed(0x02e, 0x02f, "the configuration of the super I/O"),
    fixed(0x060, 0x060, "the keyboard controller, which resets the machine"),
    fixed(0x062, 0x066, "the keyboard and power management controllers, which reset the machine and switch it off"),
    fixed(0x080, 0x091, "the DMA controller's page registers"),
    fixed(0x092, 0x092, "the reset of the processor"),
    fixed(0x0b2, 0x0b3, "system management interrupts"),
    fixed(0x0c0, 0x0df, "the DMA controller, which reaches all of memory"),
    fixed(0x400, 0x40f, "the DMA controllers of EISA"),
    fixed(0x480, 0x48f, "the DMA controllers of EISA"),
    fixed(0xcd6, 0xcd7, "power management"),
    fixed(0xcf8, 0xcff, "PCI configuration space, and the machine's reset"),
    fixed(0x000, 0x0ff, "the mainboard's devices"),
    fixed(0x400, 0x4ff, "the mainboard's devices, often power management"),
    fixed(0x800, 0x8ff, "the mainboard's devices, often power management"),
    fixed(0xc00, 0xcff, "the mainboard's devices"),
];

const fn fixed(first: u16, last: u16, what: &'static str) -> Fixed {
    Fixed { first, last, what, kernel: false }
}

const fn kernel(first: u16, last: u16, what: &'static str) -> Fixed {
    Fixed { first, last, what, kernel: true }
}

impl Fixed {
    /// Whether it has one of the ports `first` to `last`.
    pub fn overlaps(&self, first: u16, last: u16) -> bool {
        self.first <= last && first <= self.last
    }
}

/// The first of the mainboard's ranges that has one of the ports `first` to `last`; no base address register points
/// there.
pub fn among(first: u16, last: u16) -> Option<&'static Fixed> {
    FIXED.iter().find(|fixed| fixed.overlaps(first, last))
}

/// Whether one of the ports `first` to `last` is the kernel's own.
pub fn is_kernels(first: u16, last: u16) -> bool {
    among(first, last).is_some_and(|fixed| fixed.kernel)
}

/// Whether a process with the ports `first` to `last`, which belong to no PCI function, may control the whole machine.
/// True for all ports but those of cards.
pub fn takes_trust(first: u16, last: u16) -> bool {
    first < CARDS.0 || last > CARDS.1
}

/// How the holder of some ports reaches all of memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reaches {
    /// They program a DMA controller, or run code in system management mode.
    ByItself,
    /// They make PCI functions bus masters, which an IOMMU confines.
    ByPci,
}

/// Whether the holder of the ports `first` to `last` reaches all of memory.
pub fn reaches_memory(first: u16, last: u16) -> Option<Reaches> {
    // 8237s and their page registers, APM control (SMI), and EISA's 8237s.
    const DMA: [(u16, u16); 6] =
        [(0x000, 0x01f), (0x080, 0x091), (0x0b2, 0x0b3), (0x0c0, 0x0df), (0x400, 0x40f), (0x480, 0x48f)];
    const PCI: [(u16, u16); 1] = [(0xcf8, 0xcff)];
    let has = |ranges: &[(u16, u16)]| ranges.iter().any(|&(from, to)| from <= last && first <= to);
    match () {
        () if has(&DMA) => Some(Reaches::ByItself),
        () if has(&PCI) => Some(Reaches::ByPci),
        () => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_writes_to_memory_resets_or_switches_off_takes_trust() {
        // 8237s and their pages, 8042, A20 and reset, SMI, EISA DMA, power management of PIIX4, ICH and AMD.
        for port in [
            0, 0xf, 0xc0, 0xdf, 0x81, 0x8f, 0x60, 0x64, 0x92, 0xb2, 0xb3, 0x40b, 0x481, 0x4d6, 0x600, 0xb000, 0xcd6,
            0xcf9,
        ] {
            assert!(takes_trust(port, port), "{port:#x}");
        }
        for (first, last) in [(0x100, 0x3ff), (0x1f0, 0x1f7), (0x300, 0x31f)] {
            assert!(!takes_trust(first, last) && among(first, last).is_none(), "{first:#x}");
        }
        for (first, last) in [(0xff, 0x100), (0x3ff, 0x400), (0, 0xffff)] {
            assert!(takes_trust(first, last) && among(first, last).is_some(), "{first:#x}");
        }
    }

    #[test]
    fn who_programs_dma_reaches_memory() {
        for port in [0x00, 0x0a, 0x83, 0xb2, 0xd6, 0x40b, 0x481] {
            assert_eq!(reaches_memory(port, port), Some(Reaches::ByItself), "{port:#x}");
        }
        assert_eq!(reaches_memory(0xcf8, 0xcff), Some(Reaches::ByPci));
        assert_eq!(reaches_memory(0, 0xffff), Some(Reaches::ByItself));
        // 8254, RTC, UART, IDE, Bochs' debug port 0xe9.
        for port in [0x40, 0x61, 0x70, 0x3f8, 0x1f0, 0xe9, 0x8900] {
            assert_eq!(reaches_memory(port, port), None, "{port:#x}");
        }
    }

    #[test]
    fn the_kernels_interrupt_controllers_are_passed_through_to_no_process() {
        for port in [0x20, 0x21, 0x22, 0x23, 0xa0, 0xa1, 0x4d0, 0x4d1] {
            assert!(is_kernels(port, port) && is_kernels(port, 0xffff) && is_kernels(0, port), "{port:#x}");
        }
        assert!(
            !is_kernels(0, 0x1f) && !is_kernels(0x24, 0x9f) && !is_kernels(0xa2, 0x4cf) && !is_kernels(0x4d2, 0xffff)
        );
    }
}
