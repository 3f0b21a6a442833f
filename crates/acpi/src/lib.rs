//! The ACPI tables of a guest's board: RSDP, XSDT, FADT, FACS, MADT, and a DSDT with the PCI bus, COM1 and the clock (ACPI
//! specification 6.4). `build.rs` makes them; what depends on the VM is filled in here, in fixed places.
//!
//! There is no MCFG: configuration space is reached by mechanism 1 alone. No HPET either: the local APIC's timer waits for
//! values of the TSC, whose rate CPUID says, and stops in no state.
#![no_std]
#![forbid(unsafe_code)]

#[cfg(test)]
extern crate std;

#[cfg(test)]
mod tests;

include!(concat!(env!("OUT_DIR"), "/tables.rs"));

/// Bytes of all tables. The RSDP comes first.
pub const SIZE: usize = TABLES.len();

/// Devices of a PCI bus.
pub const DEVICES: usize = 32;

/// Place of the checksum in a table's header.
const CHECKSUM: usize = 9;

/// What depends on the VM.
#[derive(Clone, Copy, Debug)]
pub struct Parts {
    /// Guest-physical address from which on there is memory for PCI: the end of RAM. A multiple of a page, below
    /// 0xfec00000.
    pub memory: u32,
    /// By device number of the PCI bus, the input of the I/O APIC to which its pins are wired, which is also that of the
    /// 8259 pair.
    pub inputs: [u8; DEVICES],
}

/// The tables, for `layout::guest_board::ACPI_TABLES`.
pub fn tables(parts: &Parts) -> [u8; SIZE] {
    let mut tables = TABLES;
    let length = MEMORY_END.saturating_sub(parts.memory);
    for (at, value) in MEMORY.into_iter().zip([parts.memory, length]) {
        if let Some(place) = tables.get_mut(at..at + 4) {
            place.copy_from_slice(&value.to_le_bytes());
        }
    }
    for (places, input) in ROUTES.iter().zip(&parts.inputs[1..]) {
        for &at in places {
            if let Some(place) = tables.get_mut(at) {
                *place = *input;
            }
        }
    }
    let sum = tables.get(DSDT).unwrap_or_default().iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte));
    if let Some(place) = tables.get_mut(DSDT.start + CHECKSUM) {
        *place = place.wrapping_sub(sum);
    }
    tables
}
