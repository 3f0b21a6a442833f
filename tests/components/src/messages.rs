//! Message signalled interrupts are hidden from owners: they are memory writes, whose address a driver must not choose.
//! (PCI Local Bus Specification 3.0, sections 6.8.1 and 6.8.2.)

use proto::pci::{Client, Error, Target, Width};
use rt::Endpoint;

use crate::verdict::Verdict;

/// Capability IDs.
const MSI: u8 = 0x05;
const MSI_X: u8 = 0x11;
/// Configuration space: the capability pointer.
const POINTER: u8 = 0x34;
/// Address and data of a message signalled interrupt: the local APIC, vector 0x80.
const ADDRESS: u32 = 0xfee0_0000;
const DATA: u32 = 0x80;
const ENABLE: [u32; 2] = [1 << 16, 1 << 31];

/// Checks the first `functions` of the caller's own. Returns the number of hidden capabilities.
pub fn hidden(verdict: &mut Verdict, functions: u8) -> u32 {
    (0..functions).map(|function| in_function(verdict, function)).sum()
}

fn in_function(verdict: &mut Verdict, function: u8) -> u32 {
    let pci = Client(Endpoint::at(proto::pci::SERVICE.slot));
    let Ok(Some(grant)) = pci.grant(function) else { return 0 };
    let at = |offset| Target::Config { function, offset };
    let signalled = grant.function.capabilities.iter().filter(|known| [MSI, MSI_X].contains(&known.id));
    let mut count = 0;
    for capability in signalled {
        count += 1;
        for (offset, value) in [(0, ENABLE[0]), (0, ENABLE[1]), (4, ADDRESS), (8, DATA)] {
            let register = at(capability.at.wrapping_add(offset));
            verdict.equal("a register of messages", pci.read(register, Width::Dword), Ok(0));
            verdict.equal("a raw write", pci.write(register, Width::Dword, value), Err(Error::ReadOnly));
            verdict.equal("a register of messages", pci.read(register, Width::Dword), Ok(0));
        }
        let control = pci.write(at(capability.at.wrapping_add(2)), Width::Word, 0x8001);
        verdict.equal("a raw write of the control word", control, Err(Error::ReadOnly));
    }
    // The list has at most this many entries.
    let mut next = pci.read(at(POINTER), Width::Byte).unwrap_or(0);
    for _ in 0..48 {
        let Ok(place) = u8::try_from(next & 0xfc) else { break };
        if place < 0x40 {
            break;
        }
        let entry = pci.read(at(place), Width::Word).unwrap_or(0);
        verdict.holds("messages are not in the list", ![MSI, MSI_X].contains(&(entry as u8)));
        next = entry >> 8;
    }
    count
}
