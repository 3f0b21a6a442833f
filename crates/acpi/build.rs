//! Makes the tables of a board that has every device, with the places of what only a running VM knows: `src/lib.rs`
//! completes them. ACPI specification 6.4; sections are named where they are used.

use std::{env, fmt::Write, fs, path::Path};

use acpi_tables::{
    Aml, aml,
    facs::FACS,
    fadt::{FADTBuilder, Flags},
    gas::{AccessSize, AddressSpace, GAS},
    madt::{EnabledStatus, IoApic, ProcessorLocalApic},
    rsdp::Rsdp,
    sdt::Sdt,
    xsdt::XSDT,
};
use devices::{ioapic, lapic, power};
use layout::guest_board::{ACPI_TABLES, POWER, input};

const OEM: [u8; 6] = *b"PORTCU";
const OEM_TABLE: [u8; 8] = *b"PORTCULL";
const REVISION: u32 = 1;

/// Device numbers of a PCI bus that may have interrupts: all but the host bridge's.
const DEVICES: std::ops::Range<u32> = 1..32;
/// Pins of a function.
const PINS: u32 = 4;
/// First byte of the memory for PCI, in place of the address that follows the guest's RAM.
const MEMORY: u32 = 0x5152_5300;
/// The end of that memory: the interrupt controllers follow.
const MEMORY_END: u32 = ioapic::BASE as u32;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let text = source().unwrap_or_else(|_| unreachable!("writing to a string does not fail"));
    let path = Path::new(&env::var_os("OUT_DIR").unwrap_or_default()).join("tables.rs");
    if let Err(error) = fs::write(&path, text) {
        println!("cargo::error={}: {error}", path.display());
    }
}

/// The constants that `src/lib.rs` includes.
fn source() -> Result<String, std::fmt::Error> {
    // What differs between these two is the routes.
    let (tables, dsdt) = tables(0x20);
    let (others, _) = self::tables(0x21);
    let sum = dsdt.start + 9;
    let routes: Vec<usize> = (0..tables.len()).filter(|&at| tables[at] != others[at] && at != sum).collect();
    assert_eq!(routes.len(), DEVICES.len() * PINS as usize, "every route is a byte");
    let memory = find(&tables, &MEMORY.to_le_bytes());
    // In a descriptor, the first address, the last, the translation and the length follow each other (section 6.4.3.5.2).
    let length = memory + 12;
    let mut text = String::new();
    writeln!(text, "/// The tables, one behind the other.")?;
    writeln!(text, "const TABLES: [u8; {}] = {tables:?};", tables.len())?;
    writeln!(text, "/// Where the DSDT is among them.")?;
    writeln!(text, "const DSDT: core::ops::Range<usize> = {}..{};", dsdt.start, dsdt.end)?;
    writeln!(text, "/// Where the first address of the memory for PCI is, and its length.")?;
    writeln!(text, "const MEMORY: [usize; 2] = [{memory}, {length}];")?;
    writeln!(text, "/// The end of that memory.")?;
    writeln!(text, "const MEMORY_END: u32 = {MEMORY_END:#x};")?;
    writeln!(text, "/// For each device number from 1 on, where the inputs of its four pins are.")?;
    writeln!(text, "const ROUTES: [[usize; 4]; {}] = {:?};", DEVICES.len(), routes.chunks(4).collect::<Vec<_>>())?;
    Ok(text)
}

/// The only place of `bytes`.
fn find(within: &[u8], bytes: &[u8]) -> usize {
    let mut places = within.windows(bytes.len()).enumerate().filter(|(_, window)| *window == bytes);
    match (places.next(), places.next()) {
        (Some((at, _)), None) => at,
        _ => panic!("{bytes:x?} is not there, or twice"),
    }
}

/// All tables, and where the DSDT is among them. `gsi` stands for every route.
fn tables(gsi: u8) -> (Vec<u8>, std::ops::Range<usize>) {
    let mut all = Tables::default();
    let rsdp = all.reserve(Rsdp::len());
    let facs = all.add(64, &FACS::new());
    let dsdt = all.add(8, &dsdt(gsi));
    let end = all.bytes.len();
    let fadt = all.add(8, &fadt(address(facs), address(dsdt)));
    let madt = all.add(8, &madt());
    let mut xsdt = XSDT::new(OEM, OEM_TABLE, REVISION);
    for at in [fadt, madt] {
        xsdt.add_entry(address(at).into());
    }
    let xsdt = all.add(8, &xsdt);
    let root = bytes(&Rsdp::new(OEM, address(xsdt).into()));
    all.bytes[rsdp..rsdp + root.len()].copy_from_slice(&root);
    (all.bytes, dsdt..end)
}

/// Tables one behind the other.
#[derive(Default)]
struct Tables {
    bytes: Vec<u8>,
}

impl Tables {
    fn reserve(&mut self, length: usize) -> usize {
        let at = self.bytes.len();
        self.bytes.resize(at + length, 0);
        at
    }

    /// Adds a table at a multiple of `alignment`, and returns its place.
    fn add(&mut self, alignment: usize, table: &dyn Aml) -> usize {
        self.bytes.resize(self.bytes.len().next_multiple_of(alignment), 0);
        let at = self.bytes.len();
        table.to_aml_bytes(&mut self.bytes);
        at
    }
}

fn address(place: usize) -> u32 {
    ACPI_TABLES as u32 + place as u32
}

fn bytes(aml: &dyn Aml) -> Vec<u8> {
    let mut bytes = Vec::new();
    aml.to_aml_bytes(&mut bytes);
    bytes
}

/// The fixed hardware (section 5.2.9): power management registers, reset register, both buttons, no 8042, no VGA.
fn fadt(facs: u32, dsdt: u32) -> impl Aml {
    /// IAPC_BOOT_ARCH: legacy devices such as COM1; no VGA; no PCIe ASPM controls.
    const BOOT: u16 = 1 << 0 | 1 << 2 | 1 << 4;
    let port = |offset: u16, length: u8| {
        let at = u64::from(POWER + offset);
        GAS::new(AddressSpace::SystemIo, 8 * length, 0, AccessSize::Undefined, at)
    };
    let low = |offset: u16| u32::from(POWER + offset).into();
    let mut fadt = FADTBuilder::new(OEM, OEM_TABLE, REVISION);
    fadt.sci_int = u16::from(input::SCI).into();
    fadt.pm1a_evt_blk = low(power::EVENTS);
    fadt.pm1a_cnt_blk = low(power::CONTROL);
    fadt.pm_tmr_blk = low(power::TIMER);
    fadt.pm1_evt_len = power::EVENTS_LEN;
    fadt.pm1_cnt_len = power::CONTROL_LEN;
    fadt.pm_tmr_len = power::TIMER_LEN;
    // Neither C2 nor C3.
    fadt.p_lvl2_lat = 101.into();
    fadt.p_lvl3_lat = 1001.into();
    fadt.century = 0x32;
    fadt.iapc_boot_arch = BOOT.into();
    fadt.reset_reg = GAS::new(AddressSpace::SystemIo, 8, 0, AccessSize::ByteAccess, 0xcf9);
    fadt.reset_value = 6;
    fadt.x_pm1a_evt_blk = port(power::EVENTS, power::EVENTS_LEN);
    fadt.x_pm1a_cnt_blk = port(power::CONTROL, power::CONTROL_LEN);
    fadt.x_pm_tmr_blk = port(power::TIMER, power::TIMER_LEN);
    fadt.firmware_ctrl_32(facs)
        .dsdt_32(dsdt)
        .flag(Flags::Wbinvd)
        .flag(Flags::ProcC1)
        .flag(Flags::FixRtc)
        .flag(Flags::TmrValExt)
        .flag(Flags::ResetRegSup)
        .finalize()
}

/// The interrupt controllers (section 5.2.12): one processor, one I/O APIC; the timer's line is at another input than its number,
/// and the system control interrupt is a level.
fn madt() -> impl Aml {
    /// There is a pair of 8259s as well.
    const PCAT_COMPAT: u32 = 1;
    /// Polarity and trigger mode of an override: as the bus has it; active high and level.
    const BUS: u16 = 0;
    const LEVEL_HIGH: u16 = 0b1101;
    let source = |number: u8, gsi: u8, flags: u16| {
        let [low, high] = flags.to_le_bytes();
        [2, 10, 0, number, gsi, 0, 0, 0, low, high]
    };
    let mut madt = Sdt::new(*b"APIC", 36, 5, OEM, OEM_TABLE, REVISION);
    madt.append_slice(&(lapic::BASE as u32).to_le_bytes());
    madt.append_slice(&PCAT_COMPAT.to_le_bytes());
    madt.append_slice(&bytes(&ProcessorLocalApic::new(0, 0, EnabledStatus::Enabled)));
    madt.append_slice(&bytes(&IoApic::new(ioapic::ID, ioapic::BASE as u32, 0)));
    madt.append_slice(&source(input::TIMER, ioapic::TIMER, BUS));
    madt.append_slice(&source(input::SCI, input::SCI, LEVEL_HIGH));
    madt
}

/// What has no fixed place: the PCI bus with its routes, COM1, the clock, and soft off.
fn dsdt(gsi: u8) -> impl Aml {
    let mut routes = aml::PackageBuilder::new();
    for address in DEVICES.map(|device| device << 16 | 0xffff) {
        for pin in 0..PINS as u8 {
            // The fields are address, pin, no link device, and the input (section 6.2.13).
            routes.add_element(&aml::Package::new(vec![&address, &pin, &aml::ZERO, &gsi]));
        }
    }
    let ports = |first, last| aml::AddressSpace::<u16>::new_io(first, last, None);
    let pages = aml::AddressSpaceCacheable::NotCacheable;
    let pci = device(
        "PCI0",
        "PNP0A03",
        vec![
            &aml::AddressSpace::<u16>::new_bus_number(0, 0),
            &aml::IO::new(0xcf8, 0xcf8, 1, 8),
            &ports(0, 0x0cf7),
            &ports(0x0d00, 0xffff),
            &aml::AddressSpace::<u32>::new_memory(pages, true, MEMORY, MEMORY_END - 1, None),
        ],
        vec![&aml::Name::new("_ADR".into(), &aml::ZERO), &aml::Name::new("_PRT".into(), &routes)],
    );
    let line = |line: u8| aml::Interrupt::new(true, true, false, false, line.into());
    let com1 = device("COM1", "PNP0501", vec![&aml::IO::new(0x3f8, 0x3f8, 1, 8), &line(input::UART)], vec![]);
    let clock = device("RTC_", "PNP0B00", vec![&aml::IO::new(0x70, 0x70, 1, 2), &line(input::CLOCK)], vec![]);
    let off = power::SOFT_OFF as u8;
    let off = bytes(&aml::Name::new("_S5_".into(), &aml::Package::new(vec![&off, &off, &aml::ZERO, &aml::ZERO])));

    let mut dsdt = Sdt::new(*b"DSDT", 36, 2, OEM, OEM_TABLE, REVISION);
    dsdt.append_slice(&aml::Scope::raw("_SB_".into(), [pci, com1, clock].concat()));
    dsdt.append_slice(&off);
    dsdt
}

/// A device with its identity and resources, and `more` objects.
fn device(name: &str, id: &str, resources: Vec<&dyn Aml>, more: Vec<&dyn Aml>) -> Vec<u8> {
    let id = aml::Name::new("_HID".into(), &aml::EISAName::new(id));
    let number = aml::Name::new("_UID".into(), &aml::ZERO);
    let resources = aml::Name::new("_CRS".into(), &aml::ResourceTemplate::new(resources));
    let mut children: Vec<&dyn Aml> = vec![&id, &number, &resources];
    children.extend(more);
    bytes(&aml::Device::new(name.into(), children))
}
