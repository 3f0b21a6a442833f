//! Accesses to control registers, and to EFER, which decides on the mode with them. `vtx::cr` computes what the guest reads
//! and what the VMCS needs; this module writes it.

use arch::Mode;
use vtx::{
    cr::{ControlRegisters, Long, Program, Real, Refusal, cr4, pdpte_is_valid},
    event::Event,
    exit::{Cr, CrAccess},
    gpr::{Gpr, Gprs},
    msr::{self, Own},
    vmcs::{EntryControls, PrimaryControls, Vmcs, VmcsField, access_rights},
};

use crate::{
    answer::{Cause, Next},
    guest::Guest,
    msrs,
    plain::Moves,
    time::Present,
};

/// Width of a guest-physical address here: no guest reaches beyond 4 GiB.
const ADDRESS_BITS: u32 = 36;

/// Answers a MOV to or from a control register, CLTS or LMSW.
pub fn answer<V: Vmcs>(guest: &mut Guest<V>, access: CrAccess) -> Next {
    refresh(guest);
    let before = guest.cpu.control;
    let moves_cr3 = matches!(access, CrAccess::MovTo { cr: Cr::Cr3, .. });
    let result = match access {
        CrAccess::MovFrom { cr: Cr::Cr8, gpr } => return read_priority(guest, gpr),
        CrAccess::MovTo { cr: Cr::Cr8, gpr } => return write_priority(guest, gpr),
        CrAccess::MovFrom { cr, gpr } => {
            let value = guest.cpu.control.read(cr);
            guest.cpu.set_gpr(gpr, value);
            return Next::Skip;
        }
        CrAccess::MovTo { cr, gpr } => {
            let mode = guest.cpu.pointers();
            let value = mode.wrap(guest.cpu.gpr(gpr));
            if cr == Cr::Cr3 && guest.cpu.control.paging() == vtx::cr::Paging::Off {
                // Without paging the processor runs on the identity pages, so the guest's CR3 is only stored.
                return guest.cpu.control.mov_to(cr, value).map_or_else(refused, |_| Next::Skip);
            }
            guest.cpu.control.mov_to(cr, value)
        }
        CrAccess::Clts => guest.cpu.control.clts(),
        CrAccess::Lmsw { value } => guest.cpu.control.lmsw(value),
    };
    let loads = moves_cr3 || guest.cpu.control.loads_pdptes(&before);
    finish(guest, &before, result, loads)
}

/// Answers a WRMSR that `msr::write` has refused.
pub fn write_own_msr<V: Vmcs>(guest: &mut Guest<V>, number: u32, value: u64, now: Present) -> Next {
    match msr::own(guest.cpu.processor(), number) {
        Some(Own::Efer) => {
            refresh(guest);
            let before = guest.cpu.control;
            let result = guest.cpu.control.set_efer(value);
            finish(guest, &before, result, false)
        }
        _ => msrs::write(guest, number, value, now),
    }
}

/// Puts a change of control registers into force, or takes it back. `loads` says whether the instruction loads the
/// page-directory-pointer-table entries.
fn finish<V: Vmcs>(
    guest: &mut Guest<V>,
    before: &ControlRegisters,
    result: Result<Program, Refusal>,
    loads: bool,
) -> Next {
    let changed = match result {
        Err(refusal) => return refused(refusal),
        Ok(program) => check_switch(guest, before).and_then(|()| {
            let pdptes = program.pdptes.filter(|_| loads);
            change(guest, &before.program(), &Program { pdptes, ..program })
        }),
    };
    let next = changed.unwrap_or_else(|next| {
        guest.cpu.control = *before;
        next
    });
    guest.cpu.cpuid.set_os_xsave(guest.cpu.control.read(Cr::Cr4) & cr4::OSXSAVE != 0);
    next
}

/// Answers XSETBV, which exits only where CR4.OSXSAVE is set. XCR0 is the kernel's, which it does not switch, and no guest's value
/// gets there: it has every component that a guest may want, so a guest that wants less gets more, and none affects another.
pub fn set_xcr<V: Vmcs>(guest: &mut Guest<V>) -> Next {
    let is_kernel = guest.cpu.privilege() == 0;
    let Gprs { rax, rcx, rdx, .. } = guest.cpu.exit.gprs;
    let value = rdx << 32 | rax & 0xffff_ffff;
    match guest.cpu.control.xcr0() {
        0 => Next::UNDEFINED,
        _ if is_kernel && rcx as u32 == 0 && guest.cpu.control.takes_xcr0(value) => Next::Skip,
        _ => Next::PROTECTION,
    }
}

/// Whether long mode may begin or end: not in code that 64-bit mode executes, or would, and not with a task of 16 bits (SDM
/// volume 3, "Initializing IA-32e Mode").
fn check_switch<V: Vmcs>(guest: &mut Guest<V>, before: &ControlRegisters) -> Result<(), Next> {
    /// Of access rights: a busy 16-bit TSS.
    const NARROW_TASK: u64 = 3;
    let begins = guest.cpu.control.is_long();
    if begins == before.is_long() {
        return Ok(());
    }
    let [code, task] =
        [VmcsField::GuestCsAccessRights, VmcsField::GuestTrAccessRights].map(|field| guest.cpu.vmcs.read(field));
    if code & u64::from(access_rights::LONG) != 0 || begins && task & 0xf == NARROW_TASK {
        return Err(Next::PROTECTION);
    }
    Ok(())
}

/// CR8 is the upper half of the local APIC's task priority (SDM volume 3, "Task Priority in IA-32e Mode").
fn read_priority<V: Vmcs>(guest: &mut Guest<V>, gpr: Gpr) -> Next {
    let priority = guest.cpu.lapic.task_priority() >> 4;
    guest.cpu.set_gpr(gpr, priority.into());
    Next::Skip
}

fn write_priority<V: Vmcs>(guest: &mut Guest<V>, gpr: Gpr) -> Next {
    let value = guest.cpu.gpr(gpr);
    if value > 0xf {
        return Next::PROTECTION;
    }
    let effect = guest.cpu.set_cr8(value as u8);
    guest.join(effect);
    Next::Skip
}

/// Reads back what the guest changed without an exit: unowned bits of CR0 and CR4, and CR3.
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

/// Writes all of `program` into the VMCS, for the guest's start and after a reset. The kernel discards all cached
/// translations before the next entry when CR0, CR3 or CR4 is written, so none survives a reset.
pub fn apply<V: Vmcs>(guest: &mut Guest<V>, program: &Program) -> Result<Next, Next> {
    load_pdptes(guest, program)?;
    for (field, value) in fields(program) {
        guest.cpu.vmcs.write(field, value);
    }
    for (field, value) in program.long.iter().flat_map(long_fields) {
        guest.cpu.vmcs.write(field, value);
    }
    guest.cpu.moves = Moves::new(decoded_as(program));
    set_cr3_exits(guest, program);
    Ok(Next::Skip)
}

/// Changes the VMCS from the program `old` to `new`. An unchanged field is not written: the write would cost a system
/// call and, for CR0, CR3 or CR4, all cached translations.
pub(crate) fn change<V: Vmcs>(guest: &mut Guest<V>, old: &Program, new: &Program) -> Result<Next, Next> {
    load_pdptes(guest, new)?;
    // A guest that turns paging on or off expects all translations to be discarded. Its CR3 may equal the identity
    // directory's address, and it may have written to those pages; so CR3 is written in any case.
    let forgets = old.cr3_exits != new.cr3_exits;
    for ((field, value), (_, there)) in fields(new).into_iter().zip(fields(old)) {
        if value != there || forgets && field == VmcsField::GuestCr3 {
            guest.cpu.vmcs.write(field, value);
        }
    }
    let there = old.long.iter().flat_map(long_fields);
    for ((field, value), (_, there)) in new.long.iter().flat_map(long_fields).zip(there) {
        if value != there {
            guest.cpu.vmcs.write(field, value);
        }
    }
    if decoded_as(old) != decoded_as(new) {
        guest.cpu.moves = Moves::new(decoded_as(new));
    }
    set_cr3_exits(guest, new);
    Ok(Next::Skip)
}

fn long_fields(long: &Long) -> [(VmcsField, u64); 2] {
    [(VmcsField::GuestEfer, long.efer), (VmcsField::EntryControls, long.entry.bits().into())]
}

/// The code that [`Moves`] expects.
fn decoded_as(program: &Program) -> Mode {
    match program.long {
        Some(long) if long.entry.contains(EntryControls::IA_32E_MODE) => Mode::Bits64,
        _ => Mode::Bits32,
    }
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

/// Loads the page-directory-pointer-table entries if `program` has PAE paging; invalid ones are #GP.
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
