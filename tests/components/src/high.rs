//! Memory of a function above 4 GiB, which only a 64-bit base address register can have: the registers of a virtio device
//! (virtio 1.2, section 4.1.4.3), of which software selects features.

use layout::{config::Component as Config, event};
use proto::pci::{Access, Bar, BarKind, Client, Error, Grant, Messages, Target, Width};
use rt::{Endpoint, Interrupt};

use crate::verdict::{Verdict, flush};

/// The base address registers of configuration space; the device's registers are at the fifth.
const BARS: u8 = 0x10;
const BAR: u8 = 4;
/// In a register: memory, 64 bits, prefetchable.
const KIND: u32 = 0b1100;

/// The table of MSI-X is at the start of the second.
const TABLE: u8 = 1;
/// Scratch slot of the interrupt's handler.
const HANDLER: u16 = 1;
/// The command register, and in it bus mastering, which sends messages.
const COMMAND: u8 = 0x04;
const BUS_MASTER: u32 = 1 << 2;
/// Registers: the vector of configuration changes, and the device's status, in the end with a driver that has accepted the
/// features and is ready; the features of the driver, of which the 33rd is VERSION_1.
const CONFIG_VECTOR: u64 = 16;
const STATUS: u64 = 20;
const DRIVER_FEATURES: u64 = 12;
/// Registers that read as they were written: of the device's features, and of the driver's.
const SELECTS: [u64; 2] = [0, 8];

/// Its owner reaches it, and nothing beside it; and gets a message of its.
pub fn all(verdict: &mut Verdict, config: &Config) {
    let pci = Client(Endpoint::at(proto::pci::SERVICE.slot));
    let Ok(Some(grant)) = pci.grant(0) else { return verdict.holds("the function", false) };
    let Some(Bar { kind: BarKind::Memory64 { prefetchable: true }, base, size }) =
        grant.function.bars[usize::from(BAR)]
    else {
        return verdict.holds("a 64-bit register", false);
    };
    log::info!("memory at {base:#x}");
    verdict.holds("it is above 4 GiB", base > u64::from(u32::MAX));
    verdict.equal("access", grant.bars[usize::from(BAR)], Access::Mediated);
    let register = |upper| pci.read(Target::Config { function: 0, offset: BARS + 4 * (BAR + upper) }, Width::Dword);
    verdict.equal("the register", (register(0), register(1)), (Ok(base as u32 | KIND), Ok((base >> 32) as u32)));
    for at in SELECTS {
        let value = 0x5a5a_0000 | at as u32;
        verdict.equal("a write", pci.write(word(base + at), Width::Dword, value), Ok(()));
    }
    for at in SELECTS {
        verdict.equal("a read", pci.read(word(base + at), Width::Dword), Ok(0x5a5a_0000 | at as u32));
    }
    verdict.holds("the last of it", pci.read(word(base + size - 4), Width::Dword).is_ok());
    for outside in [base - 4, base + size, base & 0xffff_ffff] {
        verdict.equal("memory beside it", pci.read(word(outside), Width::Dword), Err(Error::NotYours));
    }
    let sent = message(verdict, config, &grant, base);
    verdict.equal("a message by MSI-X", sent, Ok(()));
}

/// The function sends a message by its table when its configuration changes, which the test brings about.
fn message(verdict: &mut Verdict, config: &Config, grant: &Grant, registers: u64) -> Result<(), Error> {
    let pci = Client(Endpoint::at(proto::pci::SERVICE.slot));
    let found = grant.lines.iter().find_map(|line| match line.messages {
        Some(Messages::Msix { at, entry }) => Some((line.line, at, entry)),
        _ => None,
    });
    let Some((line, at, entry)) = found else { return Err(Error::NotYours) };
    verdict.equal("the table", Some(entry), grant.function.bars[usize::from(TABLE)].map(|bar| bar.base));
    let bit = config.lines.iter().position(|own| own.line == line).map_or(0, event::line);
    let interrupt = Interrupt::claim(line, HANDLER);
    verdict.holds("the line", interrupt.is_ok());
    let command = Target::Config { function: 0, offset: COMMAND };
    pci.write(command, Width::Word, pci.read(command, Width::Word)? | BUS_MASTER)?;
    // What a guest would write there means nothing to the machine.
    for (offset, value) in [(0, 0xdead_0000), (4, 0xbeef), (8, 0x4b), (12, 0)] {
        pci.write(word(entry + offset), Width::Dword, value)?;
    }
    pci.write(Target::Config { function: 0, offset: at + 2 }, Width::Word, 1 << 15)?;
    for status in [0, 1, 3] {
        pci.write(word(registers + STATUS), Width::Byte, status)?;
    }
    for (select, features) in [(0, 0), (1, 1)] {
        pci.write(word(registers + SELECTS[1]), Width::Dword, select)?;
        pci.write(word(registers + DRIVER_FEATURES), Width::Dword, features)?;
    }
    pci.write(word(registers + CONFIG_VECTOR), Width::Word, 0)?;
    verdict.equal("the device takes the vector", pci.read(word(registers + CONFIG_VECTOR), Width::Word), Ok(0));
    for status in [0xb, 0xf] {
        pci.write(word(registers + STATUS), Width::Byte, status)?;
    }
    verdict.equal("the driver is ready", pci.read(word(registers + STATUS), Width::Byte), Ok(0xf));
    log::info!("waits for a message");
    flush();
    verdict.holds("a message", bit != 0 && rt::wait() & bit != 0);
    Ok(())
}

fn word(at: u64) -> Target {
    Target::Memory(at)
}
