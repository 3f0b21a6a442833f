//! The checks that a processor makes before it enters a guest, typed in from the SDM: volume 3, "VM Entries", "Checks on VMX
//! Controls" and "Checks on the Guest State Area", as far as a guest in protected mode or in long mode can fail them. They run behind
//! every answer to an exit (see `fake::answer`): a guest that cannot be entered is one that its VMM has lost.

use vmm_server::vcpu::Vcpu;
use vtx::vmcs::{PrimaryControls, Vmcs, VmcsField as F};

use crate::fake::Fields;

const TF: u64 = 1 << 8;
const IF: u64 = 1 << 9;
const VM: u64 = 1 << 17;
/// Interruptibility.
const STI: u64 = 1 << 0;
const MOV_SS: u64 = 1 << 1;
/// In CS's access rights: 64-bit code.
const CS_L: u64 = 1 << 13;
/// Pending debug exceptions: single step.
const BS: u64 = 1 << 14;

/// The first check that fails, if one does, of an entry with what is in `cpu` now.
pub fn check(cpu: &Vcpu<Fields>) -> Result<(), String> {
    let Vcpu { vmcs: mut fields, exit, primary, inject, .. } = cpu.clone();
    let (rip, rflags, inject) = (exit.rip, fields.read(F::GuestRflags), Inject(inject));
    injection(inject, primary, &mut fields)?;
    non_register_state(rflags, inject, &mut fields)?;
    control_registers(&mut fields)?;
    segments(&mut fields, rflags)?;
    let wide = is_long(&mut fields) && fields.read(F::GuestCsAccessRights) & CS_L != 0;
    rule(rip >> 32 == 0 || wide, "RIP bits 63:32", rip)?;
    rule(rflags & 0xffff_ffff_ffc0_802a == 2, "RFLAGS: reserved bits, and bit 1", rflags)?;
    rule(!inject.is(Inject::INTERRUPT) || rflags & IF != 0, "RFLAGS.IF with an interrupt", rflags)
}

/// Whether a guest can be in the state that an exit has brought. More than what could be entered as it is: a trap may just have
/// been taken out of it.
pub fn possible(cpu: &Vcpu<Fields>) -> bool {
    let mut cpu = cpu.clone();
    let trapped = cpu.exit.interruptibility & 3 != 0;
    let step = if trapped && cpu.exit.rflags & TF != 0 { BS } else { 0 };
    cpu.vmcs.write(F::GuestPendingDebug, step);
    cpu.inject = 0;
    check(&cpu).is_ok()
}

/// The entry control "IA-32e mode guest".
fn is_long(fields: &mut Fields) -> bool {
    fields.read(F::EntryControls) & 1 << 9 != 0
}

fn rule(holds: bool, what: &str, value: u64) -> Result<(), String> {
    if holds { Ok(()) } else { Err(format!("{what}: {value:#x}")) }
}

/// The VM-entry interruption information.
#[derive(Clone, Copy)]
struct Inject(u32);

impl Inject {
    const INTERRUPT: u32 = 0;
    const NMI: u32 = 2;
    const HARDWARE: u32 = 3;

    fn valid(self) -> bool {
        self.0 >> 31 != 0
    }

    fn kind(self) -> u32 {
        self.0 >> 8 & 7
    }

    fn vector(self) -> u32 {
        self.0 & 0xff
    }

    fn is(self, kind: u32) -> bool {
        self.valid() && self.kind() == kind
    }
}

/// "VM-Entry Control Fields", and of the execution controls what depends on one another.
fn injection(inject: Inject, primary: PrimaryControls, fields: &mut Fields) -> Result<(), String> {
    let pins = fields.read(F::PinControls);
    let window = !primary.contains(PrimaryControls::NMI_WINDOW) || pins & 1 << 5 != 0;
    rule(window, "NMI-window exiting without virtual NMIs", pins)?;
    rule(
        pins & 1 << 6 != 0 || fields.read(F::ExitControls) & 1 << 22 == 0,
        "a timer is saved that does not count",
        pins,
    )?;
    if !inject.valid() {
        return Ok(());
    }
    let info = u64::from(inject.0);
    rule(inject.0 & 0x7fff_f000 == 0, "interruption information: reserved bits", info)?;
    let fits = match inject.kind() {
        Inject::INTERRUPT | 4 => true,
        Inject::NMI => inject.vector() == 2,
        Inject::HARDWARE => inject.vector() < 32,
        5 | 6 => true,
        _ => false,
    };
    rule(fits, "interruption information: type and vector", info)?;
    let with_code = inject.is(Inject::HARDWARE) && matches!(inject.vector(), 8 | 10..=14 | 17);
    rule(with_code == (inject.0 >> 11 & 1 != 0), "interruption information: error code", info)?;
    let code = fields.read(F::EntryExceptionErrorCode);
    rule(!with_code || code >> 16 == 0, "the error code's bits 31:16", code)?;
    let length = fields.read(F::EntryInstructionLength);
    rule(!matches!(inject.kind(), 4..=6) || (1..=15).contains(&length), "the instruction length", length)
}

/// "Checks on Guest Non-Register State".
fn non_register_state(rflags: u64, inject: Inject, fields: &mut Fields) -> Result<(), String> {
    let (blocked, activity) = (fields.read(F::GuestInterruptibility), fields.read(F::GuestActivity));
    let (pending, debugctl) = (fields.read(F::GuestPendingDebug), fields.read(F::GuestDebugctl));
    let shadow = blocked & (STI | MOV_SS);
    rule(activity <= 1, "the activity state", activity)?;
    rule(activity == 0 || shadow == 0, "halted in a shadow", blocked)?;
    let wakes = !inject.valid()
        || matches!(inject.kind(), Inject::INTERRUPT | Inject::NMI)
        || matches!(inject.vector(), 1 | 18) && inject.is(Inject::HARDWARE);
    rule(activity == 0 || wakes, "halted, with an event that does not end it", inject.0.into())?;
    rule(blocked & !0xf == 0, "interruptibility: reserved bits", blocked)?;
    rule(shadow != STI | MOV_SS, "both shadows", blocked)?;
    rule(blocked & STI == 0 || rflags & IF != 0, "STI's shadow without IF", rflags)?;
    rule(!inject.is(Inject::INTERRUPT) || shadow == 0, "an interrupt in a shadow", blocked)?;
    rule(!inject.is(Inject::NMI) || blocked & (MOV_SS | 1 << 3) == 0, "an NMI that is blocked", blocked)?;
    rule(blocked & 1 << 2 == 0, "blocking by SMI", blocked)?;
    rule(pending & !0x1_500f == 0, "pending debug exceptions: reserved bits", pending)?;
    let steps = rflags & TF != 0 && debugctl & 2 == 0;
    let agree = (pending & BS != 0) == steps;
    rule(shadow == 0 && activity == 0 || agree, "TF and the pending step do not agree in a shadow", pending)
}

/// "Checks on Guest Control Registers, Debug Registers, and MSRs", and on the PDPTEs.
fn control_registers(fields: &mut Fields) -> Result<(), String> {
    let (cr0, cr4) = (fields.read(F::GuestCr0), fields.read(F::GuestCr4));
    rule(cr0 & 0x8000_0021 == 0x8000_0021 && cr0 >> 32 == 0, "CR0: PG, NE and PE are fixed", cr0)?;
    rule(cr4 & 1 << 13 != 0 && cr4 >> 32 == 0, "CR4: VMXE is fixed", cr4)?;
    let (long, efer) = (is_long(fields), fields.read(F::GuestEfer));
    rule(cr4 & 1 << 17 == 0 || long, "CR4.PCIDE outside of IA-32e mode", cr4)?;
    rule(cr4 & 1 << 5 != 0 || !long, "CR4.PAE in IA-32e mode", cr4)?;
    rule([8, 10].iter().all(|bit| (efer >> bit & 1 != 0) == long), "EFER.LME and LMA", efer)?;
    rule(efer & !0xd01 == 0, "EFER: reserved bits", efer)?;
    rule(fields.read(F::GuestCr3) >> 36 == 0, "CR3 beyond the physical address", fields.read(F::GuestCr3))?;
    rule(fields.read(F::GuestDr7) >> 32 == 0, "DR7", fields.read(F::GuestDr7))?;
    for field in [F::GuestPdpte0, F::GuestPdpte1, F::GuestPdpte2, F::GuestPdpte3] {
        let entry = fields.read(field);
        let valid = long || cr4 & 1 << 5 == 0 || entry & 1 == 0 || entry & 0xffff_fff0_0000_01e6 == 0;
        rule(valid, "a PDPTE", entry)?;
    }
    Ok(())
}

/// "Checks on Guest Segment Registers" and "on Guest Descriptor-Table Registers".
fn segments(fields: &mut Fields, rflags: u64) -> Result<(), String> {
    const CS: [F; 4] = [F::GuestCsSelector, F::GuestCsBase, F::GuestCsLimit, F::GuestCsAccessRights];
    const SS: [F; 4] = [F::GuestSsSelector, F::GuestSsBase, F::GuestSsLimit, F::GuestSsAccessRights];
    const DATA: [[F; 4]; 4] = [
        [F::GuestDsSelector, F::GuestDsBase, F::GuestDsLimit, F::GuestDsAccessRights],
        [F::GuestEsSelector, F::GuestEsBase, F::GuestEsLimit, F::GuestEsAccessRights],
        [F::GuestFsSelector, F::GuestFsBase, F::GuestFsLimit, F::GuestFsAccessRights],
        [F::GuestGsSelector, F::GuestGsBase, F::GuestGsLimit, F::GuestGsAccessRights],
    ];
    const LDTR: [F; 4] = [F::GuestLdtrSelector, F::GuestLdtrBase, F::GuestLdtrLimit, F::GuestLdtrAccessRights];
    const TR: [F; 4] = [F::GuestTrSelector, F::GuestTrBase, F::GuestTrLimit, F::GuestTrAccessRights];
    let mut read = |fields_of: [F; 4]| fields_of.map(|field| fields.read(field));
    let (code, stack) = (read(CS), read(SS));
    rule(rflags & VM == 0, "virtual-8086 mode, whose segments no test here has", rflags)?;
    let (dpl, kind) = (code[3] >> 5 & 3, code[3] & 0xf);
    rule(matches!(kind, 9 | 11 | 13 | 15), "CS: accessed code", code[3])?;
    let cpl = stack[3] >> 5 & 3;
    rule(if kind < 12 { dpl == cpl } else { dpl <= cpl }, "CS: privilege level", code[3])?;
    usable("CS", code)?;
    rule(code[3] & CS_L == 0 || code[3] & 1 << 14 == 0 || !is_long(fields), "CS: L and D", code[3])?;
    let mut read = |fields_of: [F; 4]| fields_of.map(|field| fields.read(field));
    if !unusable(stack) {
        rule(matches!(stack[3] & 0xf, 3 | 7), "SS: accessed, writable data", stack[3])?;
        usable("SS", stack)?;
    }
    rule(stack[0] & 3 == code[0] & 3 && cpl == stack[0] & 3, "SS: RPL, CS's RPL and DPL", stack[0])?;
    for (name, segment) in ["DS", "ES", "FS", "GS"].into_iter().zip(DATA.map(&mut read)) {
        if !unusable(segment) {
            let kind = segment[3] & 0xf;
            rule(kind & 1 != 0 && (kind & 8 == 0 || kind & 2 != 0), "data: accessed and readable", segment[3])?;
            let checked = kind < 12;
            rule(!checked || segment[3] >> 5 & 3 >= segment[0] & 3, "data: RPL above DPL", segment[3])?;
            usable(name, segment)?;
        }
    }
    let (local, task) = (read(LDTR), read(TR));
    rule(!unusable(task) && matches!(task[3] & 0x1f, 3 | 11) && task[3] & 0x80 != 0, "TR: a busy TSS", task[3])?;
    rule(task[3] & 0xf == 11 || !is_long(fields), "TR: a 16-bit TSS in IA-32e mode", task[3])?;
    rule(task[0] & 4 == 0, "TR in the LDT", task[0])?;
    granular("TR", task)?;
    if !unusable(local) {
        rule(local[3] & 0x1f == 2 && local[3] & 0x80 != 0 && local[0] & 4 == 0, "LDTR", local[3])?;
        granular("LDTR", local)?;
    }
    let limits = [F::GuestGdtrLimit, F::GuestIdtrLimit].map(|field| fields.read(field));
    rule(limits.iter().all(|limit| limit >> 16 == 0), "the limit of GDTR or IDTR", limits[0] | limits[1])
}

fn unusable(segment: [u64; 4]) -> bool {
    segment[3] >> 16 & 1 != 0
}

/// What holds for code and data segments alike.
fn usable(name: &str, segment: [u64; 4]) -> Result<(), String> {
    rule(segment[3] & 0x90 == 0x90, &format!("{name}: present, and no system segment"), segment[3])?;
    granular(name, segment)
}

fn granular(name: &str, [_, base, limit, rights]: [u64; 4]) -> Result<(), String> {
    let coarse = rights & 1 << 15 != 0;
    rule(rights & 0xffff_ffff_fffe_0f00 == 0, &format!("{name}: reserved rights"), rights)?;
    // "TR, FS, GS: The address must be canonical."
    let has_64_bits = matches!(name, "TR" | "FS" | "GS");
    let canonical = (base as i64) << 16 >> 16 == base as i64;
    rule(if has_64_bits { canonical } else { base >> 32 == 0 }, &format!("{name}: base"), base)?;
    rule(!coarse || limit & 0xfff == 0xfff, &format!("{name}: limit in pages"), limit)?;
    rule(coarse || limit >> 20 == 0, &format!("{name}: limit in bytes"), limit)
}
