//! Hardware task switches. They exit before the processor has changed anything (SDM volume 3, "Treatment of Task
//! Switches"), and the VMM performs them as the processor would (volume 3, "Task Switching"). Linux for i386 handles
//! double faults by a task gate: the new task has a stack of its own even if the kernel's has overflowed, and prints
//! what happened.
//!
//! Left out: 16-bit TSSs, virtual-8086 tasks, the debug trap of a new task. They reset the guest, as does a task whose
//! segments cannot be loaded, which on a processor is an exception in the new task. Descriptors are not marked as
//! accessed.

use devices::Width;
use vtx::{
    cr::cr0,
    event::Vectored,
    exit::{Cr, TaskSwitchSource},
    vmcs::{Vmcs, VmcsField, access_rights},
};

use crate::{
    answer::{Cause, Next},
    control,
    guest::Guest,
    insn::{AddressSpace, Registers},
    linear::Linear,
    time::Present,
};

/// Offsets in a 32-bit TSS (volume 3, "32-Bit Task-State Segment").
mod tss {
    pub const LINK: u32 = 0x00;
    pub const CR3: u32 = 0x1c;
    pub const EIP: u32 = 0x20;
    pub const EFLAGS: u32 = 0x24;
    pub const EAX: u32 = 0x28;
    /// The general registers from EAX on.
    pub const REGISTERS: usize = 8;
    pub const ES: u32 = 0x48;
    pub const LDT: u32 = 0x60;
    pub const TRAP: u32 = 0x64;
    /// The least limit of a TSS: the offset of its last byte.
    pub const LIMIT: u64 = 0x67;
}

const NESTED: u32 = 1 << 14;
const VIRTUAL_8086: u32 = 1 << 17;
/// Bits of EFLAGS that exist, apart from bit 1, which is always set.
const EFLAGS: u32 = 0x003f_7fd5;
/// Descriptor bits: a busy TSS; a code or data segment that was accessed.
const BUSY: u64 = 1 << 41;
const ACCESSED: u64 = 1 << 40;
/// Selector bit: the descriptor is in the LDT.
const LOCAL: u16 = 1 << 2;
/// Descriptor bit: the limit counts pages.
const PAGES: u64 = 1 << 55;

/// Segment registers in the order of a TSS: selector, base, limit, access rights.
const SEGMENTS: [[VmcsField; 4]; 6] = [
    [VmcsField::GuestEsSelector, VmcsField::GuestEsBase, VmcsField::GuestEsLimit, VmcsField::GuestEsAccessRights],
    [VmcsField::GuestCsSelector, VmcsField::GuestCsBase, VmcsField::GuestCsLimit, VmcsField::GuestCsAccessRights],
    [VmcsField::GuestSsSelector, VmcsField::GuestSsBase, VmcsField::GuestSsLimit, VmcsField::GuestSsAccessRights],
    [VmcsField::GuestDsSelector, VmcsField::GuestDsBase, VmcsField::GuestDsLimit, VmcsField::GuestDsAccessRights],
    [VmcsField::GuestFsSelector, VmcsField::GuestFsBase, VmcsField::GuestFsLimit, VmcsField::GuestFsAccessRights],
    [VmcsField::GuestGsSelector, VmcsField::GuestGsBase, VmcsField::GuestGsLimit, VmcsField::GuestGsAccessRights],
];
const CS: usize = 1;
const SS: usize = 2;
/// Selector: the descriptor is in the LDT.
const TABLE_INDICATOR: u16 = 1 << 2;
const LDTR: [VmcsField; 4] = [
    VmcsField::GuestLdtrSelector,
    VmcsField::GuestLdtrBase,
    VmcsField::GuestLdtrLimit,
    VmcsField::GuestLdtrAccessRights,
];
const TR: [VmcsField; 4] =
    [VmcsField::GuestTrSelector, VmcsField::GuestTrBase, VmcsField::GuestTrLimit, VmcsField::GuestTrAccessRights];

/// The answer to a switch that cannot be made.
const NO_TASK: Next = Next::Reset(Cause::Unsupported("a hardware task switch to what is no 32-bit task"));

/// Answers a task switch: the guest continues in the new task.
pub fn answer<V: Vmcs>(guest: &mut Guest<V>, selector: u16, source: TaskSwitchSource, now: Present) -> Next {
    switch(guest, selector, source, now).map_or_else(|next| next, |()| Next::Retry)
}

fn switch<V: Vmcs>(guest: &mut Guest<V>, selector: u16, source: TaskSwitchSource, now: Present) -> Result<(), Next> {
    control::refresh(guest);
    let vectored = Vectored::of(guest.cpu.vmcs.read(VmcsField::IdtVectoringInfo) as u32);
    let error_code = match vectored {
        Some(Vectored::Exception { has_error_code: true, .. }) => {
            Some(guest.cpu.vmcs.read(VmcsField::IdtVectoringErrorCode) as u32)
        }
        _ => None,
    };
    // The old task continues after the instruction that switched. An exception or an external interrupt has no
    // instruction to step past.
    if source != TaskSwitchSource::TaskGate || matches!(vectored, Some(Vectored::Software) | None) {
        guest.cpu.exit.rip = guest.cpu.exit.rip.wrapping_add(guest.cpu.exit.instruction_len.into()) & 0xffff_ffff;
    }
    let nests = matches!(source, TaskSwitchSource::Call | TaskSwitchSource::TaskGate);
    let old = guest.cpu.vmcs.read(VmcsField::GuestTrSelector) as u16;
    save(guest, source, now)?;
    let mut memory = Linear::system(guest, now);
    // JMP and IRET end the old task; CALL, exceptions and interrupts nest the new task in it, and it stays busy.
    if !nests {
        mark_busy(&mut memory, old, false)?;
    }
    // A task is in the GDT (SDM volume 3, "TSS Descriptor").
    if selector & TABLE_INDICATOR != 0 {
        return Err(NO_TASK);
    }
    let descriptor = descriptor(&mut memory, selector)?;
    let (base, limit) = (base(descriptor), limit(descriptor));
    if descriptor >> 40 & 0x9d != 0x89 || limit < tss::LIMIT {
        return Err(NO_TASK);
    }
    if nests {
        write(&mut memory, base.wrapping_add(tss::LINK), Width::Word, old.into())?;
    }
    if source != TaskSwitchSource::Iret {
        mark_busy(&mut memory, selector, true)?;
    }
    // VM entry requires a limit above 20 bits to have page granularity, so the rights are the descriptor's own.
    set(&mut guest.cpu.vmcs, TR, [selector.into(), base.into(), limit, rights(descriptor | BUSY)]);
    load(guest, base, nests, now)?;
    if let Some(code) = error_code {
        push(guest, code, now)?;
    }
    guest.cpu.leave_instruction();
    guest.cpu.debug.leave_task(&mut guest.cpu.vmcs);
    Ok(())
}

/// Writes the old task's state into its TSS.
fn save<V: Vmcs>(guest: &mut Guest<V>, source: TaskSwitchSource, now: Present) -> Result<(), Next> {
    let vmcs = &mut guest.cpu.vmcs;
    let [base, limit, rights] = [TR[1], TR[2], TR[3]].map(|field| vmcs.read(field));
    if rights & 0xf != u64::from(access_rights::BUSY_TSS) & 0xf || limit < tss::LIMIT {
        return Err(NO_TASK);
    }
    let rsp = vmcs.read(VmcsField::GuestRsp);
    let selectors = SEGMENTS.map(|[selector, ..]| vmcs.read(selector));
    let exit = &guest.cpu.exit;
    let left = if source == TaskSwitchSource::Iret { NESTED } else { 0 };
    let (eip, eflags) = (exit.rip as u32, exit.rflags as u32 & !left);
    let registers = Registers::new(&exit.gprs, rsp, exit.rflags).general;
    let mut memory = Linear::system(guest, now);
    // The guest chooses the base, and linear addresses wrap around.
    let at = base as u32;
    write(&mut memory, at.wrapping_add(tss::EIP), Width::Dword, eip)?;
    write(&mut memory, at.wrapping_add(tss::EFLAGS), Width::Dword, eflags)?;
    for (offset, value) in (tss::EAX..).step_by(4).zip(registers).take(tss::REGISTERS) {
        write(&mut memory, at.wrapping_add(offset), Width::Dword, value as u32)?;
    }
    for (offset, value) in (tss::ES..).step_by(4).zip(selectors) {
        write(&mut memory, at.wrapping_add(offset), Width::Word, value as u32)?;
    }
    Ok(())
}

/// Takes the new task's state from its TSS at `at`.
fn load<V: Vmcs>(guest: &mut Guest<V>, at: u32, nests: bool, now: Present) -> Result<(), Next> {
    let mut memory = Linear::system(guest, now);
    let cr3 = read(&mut memory, at.wrapping_add(tss::CR3), Width::Dword)?;
    let eip = read(&mut memory, at.wrapping_add(tss::EIP), Width::Dword)?;
    let eflags = read(&mut memory, at.wrapping_add(tss::EFLAGS), Width::Dword)? & EFLAGS | 2;
    let eflags = if nests { eflags | NESTED } else { eflags };
    let mut registers = Registers::default();
    for (offset, register) in (tss::EAX..).step_by(4).zip(&mut registers.general).take(tss::REGISTERS) {
        *register = read(&mut memory, at.wrapping_add(offset), Width::Dword)?.into();
    }
    let mut selectors = [0; SEGMENTS.len()];
    for (offset, selector) in (tss::ES..).step_by(4).zip(&mut selectors) {
        *selector = read(&mut memory, at.wrapping_add(offset), Width::Word)? as u16;
    }
    let ldt = read(&mut memory, at.wrapping_add(tss::LDT), Width::Word)? as u16;
    let traps = read(&mut memory, at.wrapping_add(tss::TRAP), Width::Word)? & 1 != 0;
    if eflags & VIRTUAL_8086 != 0 || traps {
        return Err(NO_TASK);
    }
    let before = guest.cpu.control.program();
    let ts = guest.cpu.control.read(Cr::Cr0) | cr0::TS;
    let paged = ts & cr0::PG != 0;
    let cr0 = guest.cpu.control.mov_to(Cr::Cr0, ts);
    let program = if paged { guest.cpu.control.mov_to(Cr::Cr3, cr3.into()) } else { cr0 };
    control::change(guest, &before, &program.map_err(|_| NO_TASK)?)?;
    *guest.cpu.gprs_mut() = registers.gprs();
    guest.cpu.exit.rip = eip.into();
    guest.cpu.exit.cr3 = guest.cpu.control.program().real.cr3;
    guest.cpu.set_rflags(eflags.into());
    guest.cpu.vmcs.write(VmcsField::GuestRsp, registers.rsp());
    load_ldt(guest, ldt, now)?;
    let level = selectors[CS] & 3;
    for (place, (fields, selector)) in SEGMENTS.into_iter().zip(selectors).enumerate() {
        load_segment(guest, place, fields, selector, level, now)?;
    }
    Ok(())
}

fn load_ldt<V: Vmcs>(guest: &mut Guest<V>, selector: u16, now: Present) -> Result<(), Next> {
    let mut values = [selector.into(), 0, 0, access_rights::UNUSABLE.into()];
    if selector & !3 != 0 {
        let descriptor = descriptor(&mut Linear::system(guest, now), selector)?;
        // An LDT is described in the GDT.
        if selector & LOCAL != 0 || descriptor >> 40 & 0x9f != 0x82 {
            return Err(NO_TASK);
        }
        values = [selector.into(), base(descriptor).into(), limit(descriptor), rights(descriptor)];
    }
    set(&mut guest.cpu.vmcs, LDTR, values);
    Ok(())
}

/// Loads a segment register, with the checks of "Loading Segment Registers" that an entry depends on.
fn load_segment<V: Vmcs>(
    guest: &mut Guest<V>,
    place: usize,
    fields: [VmcsField; 4],
    selector: u16,
    level: u16,
    now: Present,
) -> Result<(), Next> {
    if selector & !3 == 0 && place != CS && place != SS {
        set(&mut guest.cpu.vmcs, fields, [selector.into(), 0, 0, access_rights::UNUSABLE.into()]);
        return Ok(());
    }
    let descriptor = descriptor(&mut Linear::system(guest, now), selector)?;
    let (kind, dpl, rpl) = (descriptor >> 40 & 0x1f, (descriptor >> 45 & 3) as u16, selector & 3);
    let (code, conforming) = (kind & 0x18 == 0x18, kind & 0x1c == 0x1c);
    let allowed = match place {
        CS => code && if conforming { dpl <= rpl } else { dpl == rpl },
        SS => kind & 0x1a == 0x12 && dpl == level && rpl == level,
        // Data, or code that can be read.
        _ => kind & 0x10 != 0 && (!code || kind & 2 != 0) && (conforming || dpl >= level.max(rpl)),
    };
    if !allowed || descriptor >> 47 & 1 == 0 {
        return Err(NO_TASK);
    }
    let values = [selector.into(), base(descriptor).into(), limit(descriptor), rights(descriptor | ACCESSED)];
    set(&mut guest.cpu.vmcs, fields, values);
    Ok(())
}

/// Pushes an exception's error code on the new task's stack.
fn push<V: Vmcs>(guest: &mut Guest<V>, code: u32, now: Present) -> Result<(), Next> {
    let top = guest.cpu.vmcs.read(VmcsField::GuestRsp) as u32;
    let top = top.wrapping_sub(4);
    let stack = guest.cpu.vmcs.read(VmcsField::GuestSsBase) as u32;
    write(&mut Linear::system(guest, now), stack.wrapping_add(top), Width::Dword, code)?;
    guest.cpu.vmcs.write(VmcsField::GuestRsp, top.into());
    Ok(())
}

fn set(vmcs: &mut impl Vmcs, fields: [VmcsField; 4], values: [u64; 4]) {
    for (field, value) in fields.into_iter().zip(values) {
        vmcs.write(field, value);
    }
}

/// Where the descriptor of `selector` is.
fn place<V: Vmcs>(memory: &mut Linear<'_, '_, V>, selector: u16) -> Result<u32, Next> {
    let vmcs = &mut memory.guest().cpu.vmcs;
    let [base, limit] = if selector & LOCAL == 0 {
        [VmcsField::GuestGdtrBase, VmcsField::GuestGdtrLimit]
    } else {
        [VmcsField::GuestLdtrBase, VmcsField::GuestLdtrLimit]
    }
    .map(|field| vmcs.read(field) as u32);
    if selector & !3 == 0 || u32::from(selector | 7) > limit {
        return Err(NO_TASK);
    }
    Ok(base.wrapping_add((selector & !7).into()))
}

fn descriptor<V: Vmcs>(memory: &mut Linear<'_, '_, V>, selector: u16) -> Result<u64, Next> {
    let at = place(memory, selector)?;
    let [low, high] = [read(memory, at, Width::Dword)?, read(memory, at.wrapping_add(4), Width::Dword)?];
    Ok(u64::from(high) << 32 | u64::from(low))
}

fn mark_busy<V: Vmcs>(memory: &mut Linear<'_, '_, V>, selector: u16, busy: bool) -> Result<(), Next> {
    let (at, old) = (place(memory, selector)?, descriptor(memory, selector)?);
    let new = if busy { old | BUSY } else { old & !BUSY };
    write(memory, at.wrapping_add(4), Width::Dword, (new >> 32) as u32)
}

fn base(descriptor: u64) -> u32 {
    (descriptor >> 16 & 0xff_ffff | descriptor >> 56 << 24) as u32
}

fn limit(descriptor: u64) -> u64 {
    let limit = descriptor & 0xffff | descriptor >> 32 & 0xf_0000;
    if descriptor & PAGES != 0 { limit << 12 | 0xfff } else { limit }
}

fn rights(descriptor: u64) -> u64 {
    descriptor >> 40 & 0xf0ff
}

fn read<V: Vmcs>(memory: &mut Linear<'_, '_, V>, at: u32, width: Width) -> Result<u32, Next> {
    memory.read(at.into(), width).map(|value| value as u32).map_err(|_| NO_TASK)
}

fn write<V: Vmcs>(memory: &mut Linear<'_, '_, V>, at: u32, width: Width, value: u32) -> Result<(), Next> {
    memory.write(at.into(), width, value.into()).map_err(|_| NO_TASK)
}
