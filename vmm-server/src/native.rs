//! Instructions that the emulator does not know, with an operand at an address without RAM. The processor executes them
//! itself, in a single step on page tables of the VMM (`tables`). These map the pages that the instruction uses as the
//! guest's own tables do, and a page of ones where there is no RAM; writes to that page are discarded (decision 0016).
//!
//! From the exit until the end of the step, the guest has no other page and takes no interrupt, and every exception
//! exits first. A missing page is a page fault: the VMM adds the page if the guest's own tables allow the access. The
//! number of pages in the tables bounds the work. An operand in a device's memory, or one that cannot be mapped, is
//! #UD, as for the emulator.
//!
//! Left out: the VMM uses RFLAGS.TF during the step, so instructions that see this flag are not executed here, see
//! [`crate::insn::is_native`]. The monitor trap flag would not have this problem, but not every processor, and no
//! emulated one, has it.

use vtx::{
    cr::cr4,
    event::{self, Event, Exception},
    exit::{EptTarget, EptViolation},
    vmcs::{Vmcs, VmcsField},
    words::{RFLAGS_RF, RFLAGS_TF},
};

use crate::{
    answer::Next,
    guest::Guest,
    insn::{AddressSpace, Segment},
    linear::Linear,
    paging::Paging,
    time::Present,
    vcpu::{
        Vcpu,
        step::{Native, NativeStep},
        tables::{Kind, Tables},
    },
};

/// Of the pending debug exceptions: B0 to B3.
const BREAKPOINTS: u64 = 0xf;
const PDPTES: [VmcsField; 4] =
    [VmcsField::GuestPdpte0, VmcsField::GuestPdpte1, VmcsField::GuestPdpte2, VmcsField::GuestPdpte3];

/// Begins a step over the instruction that led to `violation`. The guest's view of its control registers is up to date.
pub fn begin<V: Vmcs>(guest: &mut Guest<V>, violation: EptViolation, now: Present) -> Next {
    let vmcs = &mut guest.cpu.vmcs;
    let operand = vmcs.read(VmcsField::GuestLinearAddress);
    let user = guest.cpu.privilege() == 3;
    let kind = if guest.cpu.control.is_long() { Kind::Long } else { Kind::Bits32 };
    let mut memory = Linear::new(guest, now);
    let code = memory.segment_base(Segment::Cs).wrapping_add(memory.guest().cpu.exit.rip);
    let pages = || {
        let mut tables = Tables::new(&guest.vm.ram, kind, user)?;
        tables.map_ones(operand)?;
        Some(tables)
    };
    // A page of ones must not stand in for a device's registers, whose side effects the step could not have.
    let Some(tables) = pages().filter(|_| !guest.vm.board.has_memory_near(violation.gpa)) else {
        return Next::UNDEFINED;
    };
    let mut step = NativeStep::before(guest, tables);
    if let Err(next) = step.map(guest, code, false, now) {
        return next;
    }
    step.enter(guest);
    guest.cpu.native = Native(Some(step));
    Next::Retry
}

/// Answers the exit of an exception in a step: a page that the tables do not have yet, or its end.
pub fn exception<V: Vmcs>(guest: &mut Guest<V>, now: Present) -> Next {
    const DEBUG: u8 = Exception::Debug as u8;
    const PAGE_FAULT: u8 = 14;
    let info = guest.cpu.vmcs.read(VmcsField::ExitInterruptionInfo) as u32;
    match event::hardware_exception(info) {
        // An NMI of the host.
        None => Next::Retry,
        Some(PAGE_FAULT) => page_fault(guest, now),
        Some(vector) => {
            let Some(step) = guest.cpu.native.0.take() else { return Next::Retry };
            step.leave(guest);
            if vector != DEBUG {
                return Exception::of(vector).map_or(Next::PROTECTION, |found| Next::Raise(Event::Exception(found)));
            }
            if guest.cpu.exit.rip == step.rip {
                // The trap came before the instruction was executed. Retrying would loop.
                guest.cpu.debug.after_step(step.dr6, 0, false, &mut guest.cpu.vmcs);
                return Next::UNDEFINED;
            }
            let reasons = guest.cpu.exit.qualification | step.pending;
            let trapped = guest.cpu.debug.after_step(step.dr6, reasons, step.stepped, &mut guest.cpu.vmcs);
            if trapped { Next::Raise(Event::Exception(Exception::Debug)) } else { Next::Retry }
        }
    }
}

/// Adds the page that the instruction misses. If the guest's own tables do not allow the access, the guest gets an
/// exception.
fn page_fault<V: Vmcs>(guest: &mut Guest<V>, now: Present) -> Next {
    const PROTECTION: u64 = 1 << 0;
    const WRITE: u64 = 1 << 1;
    let code = guest.cpu.vmcs.read(VmcsField::ExitInterruptionErrorCode);
    let Some(mut step) = guest.cpu.native.0.take() else { return Next::Retry };
    let linear = guest.cpu.exit.qualification;
    let mapped = match code & PROTECTION {
        0 => step.map(guest, linear, code & WRITE != 0, now),
        _ => Err(Next::PROTECTION),
    };
    step.goes_on(guest, mapped)
}

/// Answers an EPT violation in a step: the rest of the operand is in another page without RAM.
pub fn violation<V: Vmcs>(guest: &mut Guest<V>, violation: EptViolation) -> Next {
    let Some(mut step) = guest.cpu.native.0.take() else { return Next::Retry };
    let linear = guest.cpu.vmcs.read(VmcsField::GuestLinearAddress);
    let replaced = match violation {
        _ if violation.target() == EptTarget::Operand
            && !violation.exec()
            && !guest.vm.board.has_memory_near(violation.gpa) =>
        {
            step.tables.map_ones(linear)
        }
        _ => None,
    };
    step.goes_on(guest, replaced.ok_or(Next::UNDEFINED))
}

impl NativeStep {
    /// Saves the guest's state before the step.
    fn before<V: Vmcs>(guest: &mut Guest<V>, tables: Tables) -> Self {
        let cpu = &mut guest.cpu;
        let dr6 = cpu.debug.dr6(&mut cpu.vmcs);
        let pending = if cpu.is_in_shadow() { cpu.vmcs.read(VmcsField::GuestPendingDebug) & BREAKPOINTS } else { 0 };
        let pae = matches!(cpu.control.paging(), Paging::Pae { .. });
        Self {
            cr3: cpu.exit.cr3,
            cr4: cpu.vmcs.read(VmcsField::GuestCr4),
            pdptes: pae.then(|| PDPTES.map(|field| cpu.vmcs.read(field))),
            dr6,
            rip: cpu.exit.rip,
            stepped: cpu.exit.rflags & RFLAGS_TF != 0,
            pending,
            tables,
        }
    }

    /// Adds the page of `linear`, with the guest's own rights to it.
    fn map<V: Vmcs>(&mut self, guest: &mut Guest<V>, linear: u64, write: bool, now: Present) -> Result<(), Next> {
        let memory = Linear::new(guest, now);
        let (gpa, writable) = match memory.locate(linear, true) {
            Ok(gpa) => (gpa, true),
            Err(_) if !write => (memory.locate(linear, false).map_err(|_| Next::PROTECTION)?, false),
            Err(_) => return Err(Next::PROTECTION),
        };
        self.tables.map(linear, gpa, writable).ok_or(Next::UNDEFINED)
    }

    /// Prepares the entry into the step. It ends a shadow of STI or MOV SS: the step takes no interrupt anyway, and the
    /// shadow would hold back the trap at its end.
    fn enter<V: Vmcs>(&self, guest: &mut Guest<V>) {
        let cpu = &mut guest.cpu;
        if cpu.is_in_shadow() {
            cpu.leave_instruction();
        }
        // RF keeps a breakpoint on this instruction from trapping a second time.
        cpu.set_rflags(cpu.exit.rflags | RFLAGS_TF | RFLAGS_RF);
        forget_trap(cpu);
        cpu.vmcs.write(VmcsField::ExceptionBitmap, event::ALL.into());
        if self.pdptes.is_some() {
            cpu.vmcs.write(VmcsField::GuestCr4, self.cr4 & !cr4::PAE);
        }
        cpu.vmcs.write(VmcsField::GuestCr3, self.tables.root());
    }

    /// Restores the guest's own page tables and state for the next entry.
    fn leave<V: Vmcs>(&self, guest: &mut Guest<V>) {
        let cpu = &mut guest.cpu;
        cpu.exit.cr3 = self.cr3;
        cpu.vmcs.write(VmcsField::GuestCr3, self.cr3);
        if let Some(pdptes) = self.pdptes {
            cpu.vmcs.write(VmcsField::GuestCr4, self.cr4);
            for (field, entry) in PDPTES.into_iter().zip(pdptes) {
                cpu.vmcs.write(field, entry);
            }
        }
        cpu.vmcs.write(VmcsField::ExceptionBitmap, event::EXITING.into());
        let own = if self.stepped { RFLAGS_TF } else { 0 };
        cpu.set_rflags(cpu.exit.rflags & !RFLAGS_TF | own);
    }

    /// Retries the instruction with the added page, or ends the step with the guest's exception.
    fn goes_on<V: Vmcs>(self, guest: &mut Guest<V>, added: Result<(), Next>) -> Next {
        if let Err(next) = added {
            self.leave(guest);
            return next;
        }
        forget_trap(guest.cpu);
        guest.cpu.native = Native(Some(self));
        Next::Retry
    }
}

/// Clears pending debug exceptions, so that no trap comes before the instruction. Bochs leaves the single-step trap
/// pending when the instruction faults (a processor does not: SDM volume 3, "Guest Non-Register State").
fn forget_trap<V: Vmcs>(cpu: &mut Vcpu<V>) {
    cpu.vmcs.write(VmcsField::GuestPendingDebug, 0);
}
