use super::*;
use std::vec::Vec;

fn parts(memory: u32) -> [u8; SIZE] {
    let mut inputs = [11; DEVICES];
    inputs[1] = 5;
    inputs[31] = 10;
    tables(&Parts { memory, inputs })
}

fn word(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
}

fn table(bytes: &[u8], at: u64) -> &[u8] {
    let at = at as usize - 0xe_0000;
    let length = u32::from_le_bytes(bytes[at + 4..at + 8].try_into().unwrap()) as usize;
    &bytes[at..at + length]
}

fn sum(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0, |sum, byte| sum.wrapping_add(*byte))
}

/// As an operating system finds them (section 5.2.5.1): from the RSDP by addresses, each with its checksum.
#[test]
fn every_table_is_found_and_adds_up_to_zero() {
    let bytes = parts(0x800_0000);
    assert_eq!((&bytes[..8], sum(&bytes[..20]), sum(&bytes[..36])), (b"RSD PTR ".as_slice(), 0, 0));
    let xsdt = table(&bytes, word(&bytes, 24));
    let found: Vec<&[u8]> = (36..xsdt.len()).step_by(8).map(|at| table(&bytes, word(xsdt, at))).collect();
    let names: Vec<&[u8]> = found.iter().map(|table| &table[..4]).collect();
    assert_eq!(names, [b"FACP", b"APIC"]);
    let address = |at: usize| u32::from_le_bytes(found[0][at..at + 4].try_into().unwrap()).into();
    let (facs, dsdt) = (table(&bytes, address(36)), table(&bytes, address(40)));
    assert_eq!((&facs[..4], &dsdt[..4]), (b"FACS".as_slice(), b"DSDT".as_slice()));
    assert_eq!(address(36) % 64, 0);
    for table in found.into_iter().chain([xsdt, dsdt]) {
        assert_eq!(sum(table), 0);
    }
}

#[test]
fn memory_for_pci_ends_at_the_interrupt_controllers() {
    for memory in [0x800_0000u32, 0xc000_0000] {
        let bytes = parts(memory);
        let descriptor = [memory, 0xfebf_ffff, 0, 0xfec0_0000 - memory].map(u32::to_le_bytes).concat();
        assert!(bytes.windows(16).any(|window| window == descriptor));
    }
}

/// A package of four: a double word, a pin, no link, a byte.
#[test]
fn each_device_has_its_input_at_all_pins() {
    let bytes = parts(0x800_0000);
    for (device, input) in [(1, 5), (17, 11), (31, 10)] {
        for (pin, term) in [(0, &[0][..]), (1, &[1]), (2, &[0x0a, 2]), (3, &[0x0a, 3])] {
            let route = [&[0x0c, 0xff, 0xff, device, 0], term, &[0, 0x0a, input]].concat();
            assert!(bytes.windows(route.len()).any(|window| window == route), "{device} {pin}");
        }
    }
}
