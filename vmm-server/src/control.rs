//! Accesses to control registers: `vtx::cr` says what the guest gets and what the processor needs, this carries it out.

use vtx::{
    cr::{Program, Real, Refusal, pdpte_is_valid},
    event::Event,
    exit::{Cr, CrAccess},
    vmcs::{PrimaryControls, Vmcs, VmcsField},
};

use crate::run::{Cause, Guest, Next};

/// Width of a guest-physical address here: no guest reaches beyond 4 GiB.
const ADDRESS_BITS: u32 = 36;

/// Answers a MOV to or from a control register, CLTS or LMSW.
pub fn answer<V: Vmcs>(guest: &mut Guest<V>, access: CrAccess) -> Next {
    refresh(guest);
    let before = guest.control;
    let program = match access {
        CrAccess::MovFrom { cr, gpr } => {
            let value = guest.control.read(cr);
            guest.cpu.set_gpr(gpr, value);
            return Next::Skip;
        }
        CrAccess::MovTo { cr, gpr } => {
            let value = guest.cpu.gpr(gpr);
            if cr == Cr::Cr3 && guest.control.paging() == vtx::cr::Paging::Off {
                // Only remembered: nothing changes for the processor.
                return guest.control.mov_to(cr, value).map_or_else(refused, |_| Next::Skip);
            }
            guest.control.mov_to(cr, value)
        }
        CrAccess::Clts => guest.control.clts(),
        CrAccess::Lmsw { value } => guest.control.lmsw(value),
    };
    match program {
        Err(refusal) => refused(refusal),
        Ok(program) => apply(guest, &program).unwrap_or_else(|next| {
            guest.control = before;
            next
        }),
    }
}

/// Brings the guest's view up to date with what it changed without an exit.
pub fn refresh<V: Vmcs>(guest: &mut Guest<V>) {
    let real = Real {
        cr0: guest.cpu.vmcs.read(VmcsField::GuestCr0),
        cr3: guest.cpu.exit.cr3,
        cr4: guest.cpu.vmcs.read(VmcsField::GuestCr4),
    };
    guest.control.refresh(real);
}

fn refused(refusal: Refusal) -> Next {
    match refusal {
        Refusal::Raise(exception) => Next::Raise(Event::Exception(exception)),
        Refusal::RealMode => Next::Reset(Cause::RealMode),
    }
}

/// Puts `program` into the VMCS.
pub fn apply<V: Vmcs>(guest: &mut Guest<V>, program: &Program) -> Result<Next, Next> {
    const PDPTES: [VmcsField; 4] =
        [VmcsField::GuestPdpte0, VmcsField::GuestPdpte1, VmcsField::GuestPdpte2, VmcsField::GuestPdpte3];
    if let Some(table) = program.pdptes {
        let mut entries = [0; 4];
        for (entry, at) in entries.iter_mut().zip((table..).step_by(8)) {
            // Outside RAM, memory reads all ones, which no processor accepts.
            *entry = guest.ram.read_u64(at).unwrap_or(u64::MAX);
        }
        if !entries.iter().all(|&entry| pdpte_is_valid(entry, ADDRESS_BITS)) {
            return Err(Next::PROTECTION);
        }
        for (field, entry) in PDPTES.into_iter().zip(entries) {
            guest.cpu.vmcs.write(field, entry);
        }
    }
    for (field, value) in [
        (VmcsField::GuestCr0, program.real.cr0),
        (VmcsField::GuestCr3, program.real.cr3),
        (VmcsField::GuestCr4, program.real.cr4),
        (VmcsField::Cr0Mask, program.cr0_mask),
        (VmcsField::Cr0Shadow, program.cr0_shadow),
        (VmcsField::Cr4Mask, program.cr4_mask),
        (VmcsField::Cr4Shadow, program.cr4_shadow),
    ] {
        guest.cpu.vmcs.write(field, value);
    }
    guest.cpu.primary.set(PrimaryControls::CR3_LOAD | PrimaryControls::CR3_STORE, program.cr3_exits);
    Ok(Next::Skip)
}
