//! Memory of a function above 4 GiB, which only a 64-bit base address register can have: the registers of a virtio device
//! (virtio 1.2, section 4.1.4.3), of which software selects features.

use proto::pci::{Access, Bar, BarKind, Client, Error, Target, Width};
use rt::Endpoint;

use crate::verdict::Verdict;

/// The base address registers of configuration space; the device's registers are at the fifth.
const BARS: u8 = 0x10;
const BAR: u8 = 4;
/// In a register: memory, 64 bits, prefetchable.
const KIND: u32 = 0b1100;

/// Registers that read as they were written: of the device's features, and of the driver's.
const SELECTS: [u64; 2] = [0, 8];

/// Its owner reaches it, and nothing beside it.
pub fn all(verdict: &mut Verdict) {
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
}

fn word(at: u64) -> Target {
    Target::Memory(at)
}
