//! RDMSR and WRMSR of what `vtx` does not answer by itself: the MSRs that the vCPU has, and those of its local APIC.

use devices::lapic;
use vtx::{
    msr::{self, Own},
    vmcs::Vmcs,
};

use crate::{answer::Next, guest::Guest, time::Present};

/// Answers a RDMSR that `msr::read` has refused.
pub fn read<V: Vmcs>(guest: &mut Guest<V>, now: Present) -> Next {
    let number = guest.cpu.exit.gprs.rcx as u32;
    let value = match msr::own(guest.cpu.processor(), number) {
        Some(own) => guest.cpu.own_msr(own),
        None if lapic::MSRS.contains(&number) => {
            let (value, effect) = guest.cpu.read_x2apic(number, now);
            guest.join(effect);
            let Ok(value) = value else { return Next::PROTECTION };
            value
        }
        None => return Next::PROTECTION,
    };
    let gprs = guest.cpu.gprs_mut();
    (gprs.rax, gprs.rdx) = (value & 0xffff_ffff, value >> 32);
    Next::Skip
}

/// Answers a WRMSR to one that is not EFER, which `msr::write` has refused.
pub fn write<V: Vmcs>(guest: &mut Guest<V>, number: u32, value: u64, now: Present) -> Next {
    let (written, effect) = match msr::own(guest.cpu.processor(), number) {
        Some(Own::ApicBase) => guest.cpu.set_apic_base(value),
        Some(own) => return guest.cpu.write_own_msr(own, value),
        None if lapic::MSRS.contains(&number) => guest.cpu.write_x2apic(number, value, now),
        None => return Next::PROTECTION,
    };
    guest.join(effect);
    written.map_or(Next::PROTECTION, |()| Next::Skip)
}
