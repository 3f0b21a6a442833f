//! The slow path for EPT violations: the guest accessed an address without RAM. The VMM reads the instruction and
//! emulates it. Unowned addresses read all ones and ignore writes, as on a bus where no device responds. The processor
//! itself executes instructions that the emulator does not know, on a page of ones ([`native`]).

use vtx::{
    exit::{EptTarget, EptViolation},
    vmcs::{Vmcs, VmcsField},
};

use crate::{
    answer::{Cause, Next},
    control,
    guest::Guest,
    insn::{AddressSpace, Instruction, MAX_LENGTH, Progress, Registers, Segment, is_native},
    linear::Linear,
    native,
    time::Present,
};

const IDT_VECTORING_VALID: u64 = 1 << 31;

/// Answers one violation.
pub fn answer<V: Vmcs>(guest: &mut Guest<V>, violation: EptViolation, now: Present) -> Next {
    if guest.cpu.vmcs.read(VmcsField::IdtVectoringInfo) & IDT_VECTORING_VALID != 0 {
        // The stack or the IDT is at an address without RAM (decision 0007).
        return Next::Reset(Cause::Unsupported("an interrupt delivered through memory that is not there"));
    }
    if guest.cpu.native.is_active() {
        return native::violation(guest, violation);
    }
    match violation.target() {
        // The guest executes at an address without RAM, which reads all ones: an invalid opcode.
        EptTarget::Operand if violation.exec() => Next::UNDEFINED,
        EptTarget::Operand => execute(guest, violation, now),
        EptTarget::PageWalk | EptTarget::NoLinear => {
            Next::Reset(Cause::Unsupported("page tables in memory that is not there"))
        }
    }
}

fn execute<V: Vmcs>(guest: &mut Guest<V>, violation: EptViolation, now: Present) -> Next {
    control::refresh(guest);
    let mode = guest.cpu.mode();
    let mut memory = Linear::new(guest, now);
    let code = memory.segment_base(Segment::Cs).wrapping_add(memory.guest().cpu.exit.rip);
    let mut bytes = [0; MAX_LENGTH];
    let fetched = memory.fetch(code, &mut bytes);
    let bytes = bytes.get(..fetched).unwrap_or_default();
    let Some(instruction) = Instruction::decode(bytes, mode) else {
        return if is_native(bytes, mode) { native::begin(guest, violation, now) } else { Next::UNDEFINED };
    };
    let cpu = &mut memory.guest().cpu;
    let rsp = if instruction.uses_stack_pointer() { cpu.vmcs.read(VmcsField::GuestRsp) } else { 0 };
    let mut registers = Registers::new(&cpu.exit.gprs, rsp, cpu.exit.rflags);
    registers.next = cpu.exit.rip.wrapping_add(instruction.length.into());
    let progress = instruction.execute(&mut registers, &mut memory);

    let cpu = &mut guest.cpu;
    if registers.gprs() != cpu.exit.gprs {
        *cpu.gprs_mut() = registers.gprs();
    }
    if instruction.uses_stack_pointer() && registers.rsp() != rsp {
        cpu.vmcs.write(VmcsField::GuestRsp, registers.rsp());
    }
    cpu.set_rflags(registers.flags);
    match progress {
        Ok(Progress::Done) => {
            cpu.exit.instruction_len = instruction.length.into();
            Next::Skip
        }
        Ok(Progress::More) => Next::Retry,
        Err(_) => Next::PROTECTION,
    }
}
