//! Accesses to control registers: `vtx::cr` says what the guest gets and what the processor needs, this carries it out.

use vtx::{
    cr::{Program, Real, Refusal, pdpte_is_valid},
    event::Event,
    exit::{Cr, CrAccess},
    vmcs::{PrimaryControls, Vmcs, VmcsField},
    words::Words,
};

use crate::{
    answer::{Cause, Next},
    guest::Guest,
};

/// Width of a guest-physical address here: no guest reaches beyond 4 GiB.
const ADDRESS_BITS: u32 = 36;

/// Answers a MOV to or from a control register, CLTS or LMSW.
pub fn answer<V: Vmcs>(guest: &mut Guest<V>, access: CrAccess) -> Next {
    refresh(guest);
    let before = guest.cpu.control;
    let result = match access {
        CrAccess::MovFrom { cr, gpr } => {
            let value = guest.cpu.control.read(cr);
            guest.cpu.set_gpr(gpr, value);
            return Next::Skip;
        }
        CrAccess::MovTo { cr, gpr } => {
            let value = guest.cpu.exit.mode().wrap(guest.cpu.gpr(gpr));
            if cr == Cr::Cr3 && guest.cpu.control.paging() == vtx::cr::Paging::Off {
                // Only remembered: nothing changes for the processor.
                return guest.cpu.control.mov_to(cr, value).map_or_else(refused, |_| Next::Skip);
            }
            guest.cpu.control.mov_to(cr, value)
        }
        CrAccess::Clts => guest.cpu.control.clts(),
        CrAccess::Lmsw { value } => guest.cpu.control.lmsw(value),
    };
    match result {
        Err(refusal) => refused(refusal),
        Ok(program) => change(guest, &before.program(), &program).unwrap_or_else(|next| {
            guest.cpu.control = before;
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
    guest.cpu.control.refresh(real);
}

fn refused(refusal: Refusal) -> Next {
    match refusal {
        Refusal::Raise(exception) => Next::Raise(Event::Exception(exception)),
        Refusal::RealMode => Next::Reset(Cause::RealMode),
    }
}

/// Puts all of `program` into the VMCS, whatever is there. For the start of a guest's life: of the former one, not a
/// translation stays, since the kernel drops them before the next entry if CR0, CR3 or CR4 are written.
pub fn apply<V: Vmcs>(guest: &mut Guest<V>, program: &Program) -> Result<Next, Next> {
    load_pdptes(guest, program)?;
    for (field, value) in fields(program) {
        guest.cpu.vmcs.write(field, value);
    }
    set_cr3_exits(guest, program);
    Ok(Next::Skip)
}

/// Goes from the program `old`, which the VMCS has, to `new`. A field that stays is not written: it would cost a system call,
/// and, if it is CR0, CR3 or CR4, all translations.
pub(crate) fn change<V: Vmcs>(guest: &mut Guest<V>, old: &Program, new: &Program) -> Result<Next, Next> {
    load_pdptes(guest, new)?;
    // The guest may have written the identity pages that it runs on without paging, and believes that nothing is cached then.
    let forgets = old.cr3_exits != new.cr3_exits;
    for ((field, value), (_, there)) in fields(new).into_iter().zip(fields(old)) {
        if value != there || forgets && field == VmcsField::GuestCr3 {
            guest.cpu.vmcs.write(field, value);
        }
    }
    set_cr3_exits(guest, new);
    Ok(Next::Skip)
}

fn fields(program: &Program) -> [(VmcsField, u64); 7] {
    [
        (VmcsField::GuestCr0, program.real.cr0),
        (VmcsField::GuestCr3, program.real.cr3),
        (VmcsField::GuestCr4, program.real.cr4),
        (VmcsField::Cr0Mask, program.cr0_mask),
        (VmcsField::Cr0Shadow, program.cr0_shadow),
        (VmcsField::Cr4Mask, program.cr4_mask),
        (VmcsField::Cr4Shadow, program.cr4_shadow),
    ]
}

fn set_cr3_exits<V: Vmcs>(guest: &mut Guest<V>, program: &Program) {
    guest.cpu.primary.set(PrimaryControls::CR3_LOAD | PrimaryControls::CR3_STORE, program.cr3_exits);
}

/// Loads what `program` wants of the page-directory-pointer table, or finds that it is #GP.
fn load_pdptes<V: Vmcs>(guest: &mut Guest<V>, program: &Program) -> Result<(), Next> {
    const PDPTES: [VmcsField; 4] =
        [VmcsField::GuestPdpte0, VmcsField::GuestPdpte1, VmcsField::GuestPdpte2, VmcsField::GuestPdpte3];
    let Some(table) = program.pdptes else { return Ok(()) };
    let mut entries = [0; 4];
    for (entry, at) in entries.iter_mut().zip((table..).step_by(8)) {
        // Outside RAM, memory reads all ones, which no processor accepts.
        *entry = guest.vm.ram.read_u64(at).unwrap_or(u64::MAX);
    }
    if !entries.iter().all(|&entry| pdpte_is_valid(entry, ADDRESS_BITS)) {
        return Err(Next::PROTECTION);
    }
    for (field, entry) in PDPTES.into_iter().zip(entries) {
        guest.cpu.vmcs.write(field, entry);
    }
    Ok(())
}
