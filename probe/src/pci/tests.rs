use core::cell::Cell;
use std::string::ToString;

use super::*;

const SATA: Bdf = Bdf { bus: 0, device: 0x1f, function: 2 };

/// A SATA controller: ports of 32, a 64-bit BAR of 8 KiB above 4 GiB, MSI behind power management, FLR by advanced features.
fn sata() -> [u8; BYTES] {
    let mut space = [0; BYTES];
    space[..16].copy_from_slice(&[0x86, 0x80, 0x03, 0x1e, 7, 0, 0x10, 0, 4, 1, 6, 1, 0, 0, 0, 0]);
    space[0x10..0x1c].copy_from_slice(&[0x61, 0x40, 0, 0, 0x0c, 0, 0x71, 0xc0, 3, 0, 0, 0]);
    space[0x34] = 0x70;
    space[0x3d] = 2;
    space[0x70..0x72].copy_from_slice(&[POWER, 0x80]);
    space[0x80..0x82].copy_from_slice(&[MSI, 0xb0]);
    space[0xb0..0xb4].copy_from_slice(&[ADVANCED, 0, 6, 3]);
    space
}

#[test]
fn bars_and_capabilities_are_found_in_configuration_space() {
    let space = sata();
    let config = Config(&space);
    let bars: std::vec::Vec<Bar> = config.bars().filter(|bar| bar.base != 0).collect();
    assert_eq!(bars[0], Bar { index: 0, kind: Kind::Ports, base: 0x4060 });
    let kind = Kind::Memory { wide: true, prefetchable: true };
    assert_eq!(bars[1], Bar { index: 1, kind, base: 0x3_c071_0000 });
    assert_eq!((config.capability(MSI), config.capability(MSI_X)), (Some(0x80), None));
    assert!(config.has_reset());
}

#[test]
fn capabilities_in_a_circle_come_to_an_end() {
    let mut space = sata();
    space[0xb1] = 0x70;
    assert_eq!(Config(&space).capability(MSI_X), None);
    assert_eq!(Config(&space[..64]).capability(MSI), None);
}

#[test]
fn a_function_is_printed_as_lspci_does() {
    let sizes = [32, 0x2000, 0, 0, 0, 0];
    let text = Function { at: SATA, config: sata(), sizes, acs: Some(true), input: Some(19) }.to_string();
    let head = "00:1f.2 0106: 8086:1e03 (rev 04) (prog-if 01)\n\tControl: I/O+ Mem+ BusMaster+\n\
                \tInterrupt: pin B routed to IRQ 19\n\tRegion 0: I/O ports at 4060 [size=32]\n\
                \tRegion 1: Memory at 3c0710000 (64-bit, prefetchable) [size=8K]\n\
                \tCapabilities: [100] Access Control Services\n00: 86 80 03 1e 07 00 10 00 04 01 06 01 00 00 00 00\n";
    assert!(text.starts_with(head), "{text}");
    assert_eq!(text.lines().filter(|line| line.as_bytes()[2] == b':' && line.len() == 51).count(), 16, "{text}");
    assert!(text.lines().all(|line| line.len() <= 80));
    let function = |acs| Function { at: SATA, config: sata(), sizes, acs, input: None }.to_string();
    assert!(function(Some(false)).contains("Capabilities: [100] No Access Control Services\n"));
    assert!(!function(None).contains("Access Control Services"));
}

/// A bus with functions at device 1 to 3, whose vendors are Intel, 0, and Intel; extended space at 0 answers `header`.
struct Broken {
    selected: Cell<u32>,
    header: u32,
}

impl Machine for Broken {
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
        match (self.selected.get() >> 8 & 0xff_ffff, self.selected.get() & 0xff) {
            (0x80_0008 | 0x80_0018, 0) => 0x1234_8086,
            (0x80_0010, 0) => 0x1234_0000,
            (0x80_0008..0x80_0020, 8) => 0x0600_0000,
            (0x80_0008..0x80_0020, _) => 0,
            _ => u32::MAX,
        }
    }
    fn out32(&self, port: u16, value: u32) {
        if port == ADDRESS {
            self.selected.set(value);
        }
    }
    fn read32(&self, _: u64) -> u32 {
        self.header
    }
    fn draw8(&self, _: u64, _: u8) {}
    fn draw32(&self, _: u64, _: u32) {}
    fn write32(&self, _: u64, _: u32) {}
}

#[test]
fn a_function_of_vendor_0_is_none_and_access_control_out_of_reach_is_unknown() {
    for (header, acs) in [(u32::MAX, None), (0, Some(false)), (0x0001_000d, Some(true))] {
        let machine = Broken { selected: Cell::new(0), header };
        let mut found = std::vec::Vec::new();
        let bus = Bus { machine: &machine, extended: Some((1 << 32, 0, 0xff)) };
        bus.for_each(|function| found.push((function.at.device, function.acs)));
        assert_eq!(found, [(1, acs), (3, acs)]);
    }
}
