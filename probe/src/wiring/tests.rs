use core::cell::Cell;
use std::vec::Vec;

use super::*;

/// A board with an LPC bridge of this ID and class, and its chipset's registers from `BASE` on.
struct Chipset {
    id: u32,
    class: u32,
    enabled: bool,
    registers: Vec<(u64, u16)>,
    selected: Cell<u32>,
}

const BASE: u32 = 0xfed1_c000;

impl Machine for Chipset {
    fn cpuid(&self, _: u32, _: u32) -> [u32; 4] {
        [0; 4]
    }
    fn msr(&self, _: u32) -> Option<u64> {
        None
    }
    fn tsc(&self) -> u64 {
        0
    }
    fn in8(&self, _: u16) -> u8 {
        0xff
    }
    fn out8(&self, _: u16, _: u8) {}
    fn in32(&self, _: u16) -> u32 {
        match self.selected.get() {
            0x8000_f800 => self.id,
            0x8000_f808 => self.class << 16 | 0x04,
            0x8000_f8f0 => BASE | u32::from(self.enabled),
            _ => u32::MAX,
        }
    }
    fn out32(&self, port: u16, value: u32) {
        if port == 0xcf8 {
            self.selected.set(value);
        }
    }
    fn read32(&self, address: u64) -> u32 {
        let half = |at: u64| self.registers.iter().find(|(register, _)| *register == at).map_or(0, |(_, value)| *value);
        let at = address.checked_sub(u64::from(BASE)).filter(|at| *at < 0x4000).expect("a register of the chipset");
        u32::from(half(at)) | u32::from(half(at + 2)) << 16
    }
    fn draw8(&self, _: u64, _: u8) {}
    fn draw32(&self, _: u64, _: u32) {}
    fn write32(&self, _: u64, _: u32) {}
}

fn chipset(id: u32, registers: &[(u64, u16)]) -> Chipset {
    Chipset { id, class: 0x0601, enabled: true, registers: registers.to_vec(), selected: Cell::new(0) }
}

fn wiring(machine: &Chipset) -> Wiring {
    Wiring::read(&Bus { machine, extended: None })
}

/// Where INTA to INTD of a device on bus 0 arrive.
fn inputs(wiring: &Wiring, device: u8) -> [Option<u8>; 4] {
    [1, 2, 3, 4].map(|pin| wiring.input(Bdf { bus: 0, device, function: 0 }, pin))
}

/// A QM77, 7 series, whose firmware has chosen as U-Boot does for another board with this series (Google's Link, whose xHCI
/// controller is off; its value here is made up): PIRQB, H, A, C for INTA to INTD of device 31, and so on.
#[test]
fn a_qm77_says_where_its_pins_arrive() {
    let registers = [
        (0x3140, 0x2071),
        (0x3144, 0x6543),
        (0x3146, 0x4321),
        (0x3148, 0x1070),
        (0x314c, 0x7645),
        (0x3150, 0x3210),
        (0x315c, 0x3210),
        (0x3160, 0x0004),
    ];
    let wiring = wiring(&chipset(0x1e55_8086, &registers));
    // SATA and SMBus.
    assert_eq!(inputs(&wiring, 31), [Some(17), Some(23), Some(16), Some(18)]);
    // Two EHCI controllers, sound, Ethernet, the management engine, xHCI.
    assert_eq!(inputs(&wiring, 29), [Some(19), Some(20), Some(21), Some(22)]);
    assert_eq!(inputs(&wiring, 26)[0], Some(21));
    assert_eq!(inputs(&wiring, 27)[0], Some(16));
    assert_eq!(inputs(&wiring, 25)[0], Some(16));
    assert_eq!(inputs(&wiring, 22)[1], Some(17));
    assert_eq!(inputs(&wiring, 20)[0], Some(20));
    // The root ports.
    assert_eq!(inputs(&wiring, 28), [Some(17), Some(18), Some(19), Some(20)]);
    // The processor's devices, the bridge to conventional PCI, and what is behind bridges.
    for device in [0, 1, 2, 6, 19, 21, 23, 24, 30] {
        assert_eq!(inputs(&wiring, device), [None; 4], "{device}");
    }
    assert_eq!(wiring.input(Bdf { bus: 1, device: 31, function: 2 }, 1), None);
    for pin in [0, 5, 255] {
        assert_eq!(wiring.input(Bdf { bus: 0, device: 31, function: 2 }, pin), None);
    }
}

#[test]
fn registers_that_a_chipset_does_not_have_say_nothing() {
    // QEMU's ICH9, a QS57, a QM67, a Z97.
    for (id, engine, xhci) in
        [(0x2918, None, None), (0x3b0b, Some(16), None), (0x1c4f, Some(16), None), (0x8cc4, Some(16), Some(16))]
    {
        let wiring = wiring(&chipset(id << 16 | 0x8086, &[(0x3140, 0x3210)]));
        assert_eq!(inputs(&wiring, 31), [Some(16), Some(17), Some(18), Some(19)], "{id:#x}");
        assert_eq!((inputs(&wiring, 22)[0], inputs(&wiring, 20)[0]), (engine, xhci), "{id:#x}");
    }
}

#[test]
fn other_bridges_and_chipsets_whose_registers_are_off_say_nothing() {
    let good = || chipset(0x1e55_8086, &[]);
    assert_ne!(wiring(&good()), Wiring::default());
    let others = [
        Chipset { enabled: false, ..good() },
        Chipset { class: 0x0680, ..good() },
        Chipset { id: 0x1e55_1022, ..good() },
        // A 6300ESB, a Q170, and no bridge.
        Chipset { id: 0x25a1_8086, ..good() },
        Chipset { id: 0xa146_8086, ..good() },
        Chipset { id: u32::MAX, ..good() },
    ];
    for other in others {
        assert_eq!(wiring(&other), Wiring::default(), "{:#x}", other.id);
    }
}
