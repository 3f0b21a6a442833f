//! What the VMM answers to each VM exit: one `match`, a line per kind, each gives a `Next`. Total: no reason, register,
//! address or instruction of the guest's leads anywhere but to one of these.
//!
//! Knows neither seL4 nor the processor's bit fields; made-up exits run through it in host tests.

use vtx::{
    cr,
    event::{Event, Exception},
    exit::{Direction, EntryFailure, Exit, Io},
    gpr::Gprs,
    msr,
    vmcs::Vmcs,
};

use crate::{
    access, control,
    cpu::Cpu,
    cpuid::Leaves,
    debug::DebugRegisters,
    machine::Machine,
    native::Native,
    plain::{self, Moves},
    ram::Ram,
    string_io, task,
    time::Present,
};

/// What happens after an exit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// The instruction is done: go on after it.
    Skip,
    /// Go on where the guest stopped.
    Retry,
    /// The instruction faults.
    Raise(Event),
    /// The guest waits for an interrupt.
    Halt,
    /// The guest starts anew.
    Reset(Cause),
    /// The guest has halted with interrupts off, for good: how a PC without ACPI is switched off.
    PowerOff,
}

impl Next {
    /// #UD.
    pub const UNDEFINED: Next = Next::Raise(Event::Exception(Exception::InvalidOpcode));
    /// #GP(0).
    pub const PROTECTION: Next = Next::Raise(Event::Exception(Exception::GeneralProtection));
}

/// Why a guest is reset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// It asked for it by a reset port.
    Asked,
    /// It left protected mode, as Linux does to restart through the BIOS.
    RealMode,
    /// A fault while delivering a double fault.
    TripleFault,
    /// It asked for something that no modelled processor does.
    Unsupported(&'static str),
    /// The processor refused the guest's state.
    EntryFailure(EntryFailure),
    /// An exit that was never asked for.
    Unexpected(Exit),
}

/// The guest as an exit finds it.
pub struct Guest<V> {
    /// Its processor.
    pub cpu: Cpu<V>,
    /// Its board.
    pub machine: Machine,
    /// Its memory.
    pub ram: Ram,
    /// Its control registers, as it sees them.
    pub control: cr::ControlRegisters,
    /// What CPUID tells it.
    pub cpuid: Leaves,
    /// Its debug registers.
    pub debug: DebugRegisters,
    /// Instructions that it has used on device memory.
    pub moves: Moves,
    /// An instruction that the processor does on pages of the VMM's.
    pub native: Native,
}

impl<V: Vmcs> Guest<V> {
    /// Answers one exit. Those that a busy guest takes are answered here; inlined, they know that they skip.
    #[inline(always)]
    pub fn answer(&mut self, exit: Exit, now: Present) -> Next {
        match exit {
            Exit::Io(io) if !io.string() => self.io(io, now),
            Exit::Cpuid => self.cpuid(),
            Exit::Rdmsr => self.rdmsr(now),
            Exit::EptViolation(_) if !self.debug.armed() && plain::answer(self, now) => Next::Skip,
            other => self.answer_rare(other, now),
        }
    }

    #[inline(never)]
    fn answer_rare(&mut self, exit: Exit, now: Present) -> Next {
        match exit {
            Exit::Io(io) => string_io::answer(self, io, now),
            Exit::Wrmsr => self.wrmsr(now),
            Exit::CrAccess(cr_access) => control::answer(self, cr_access),
            Exit::DrAccess(dr) => self.debug_register(dr),
            Exit::EptViolation(violation) => access::answer(self, violation, now),
            Exit::Hlt if self.cpu.interrupts_enabled() => Next::Halt,
            Exit::Hlt => Next::PowerOff,
            Exit::InterruptWindow | Exit::PreemptionTimer | Exit::NmiWindow => Next::Retry,
            // The host's caches are coherent, and stay as they are.
            Exit::Wbinvd | Exit::Invd => Next::Skip,
            // CPUID hides what enables these, so the processor of the guest has no such instruction.
            Exit::Getsec | Exit::VmxInstruction | Exit::Xsetbv | Exit::Monitor | Exit::Mwait => Next::UNDEFINED,
            // These exit only where a control asks for it, and none does.
            Exit::Pause | Exit::Invlpg(_) => Next::Skip,
            Exit::Rdtscp | Exit::Invpcid | Exit::Rdrand | Exit::Rdseed | Exit::Enclave => Next::UNDEFINED,
            Exit::SupervisorXsave | Exit::Pconfig | Exit::UserWait | Exit::LoadIwkey => Next::UNDEFINED,
            Exit::Rdpmc | Exit::Rsm => Next::PROTECTION,
            Exit::ExceptionOrNmi => self.exception(now),
            Exit::TripleFault => Next::Reset(Cause::TripleFault),
            Exit::TaskSwitch { selector, source } => task::answer(self, selector, source, now),
            Exit::EntryFailure(failure) => Next::Reset(Cause::EntryFailure(failure)),
            unexpected => Next::Reset(Cause::Unexpected(unexpected)),
        }
    }

    #[inline(always)]
    fn io(&mut self, io: Io, now: Present) -> Next {
        let width = io.width();
        if self.debug.armed() {
            self.watch_port(io.port(), width.bytes() as u32);
        }
        match io.direction() {
            Direction::In => {
                let value = self.machine.read(io.port(), width, now);
                self.cpu.set_accumulator(width, value);
            }
            Direction::Out => {
                let value = self.cpu.exit.gprs.rax as u32 & width.mask32();
                self.machine.write(io.port(), width, value, now);
                if self.machine.is_reset() {
                    return Next::Reset(Cause::Asked);
                }
            }
        }
        Next::Skip
    }

    #[inline(always)]
    fn cpuid(&mut self) -> Next {
        let Gprs { rax, rcx, .. } = self.cpu.exit.gprs;
        let (leaf, subleaf) = (rax as u32, rcx as u32);
        let result = self.cpuid.leaf(leaf, subleaf);
        let gprs = self.cpu.gprs_mut();
        gprs.rax = result.eax.into();
        gprs.rbx = result.ebx.into();
        gprs.rcx = result.ecx.into();
        gprs.rdx = result.edx.into();
        Next::Skip
    }

    fn rdmsr(&mut self, now: Present) -> Next {
        let value = match self.cpu.exit.gprs.rcx as u32 {
            msr::TSC_DEADLINE => Ok(self.machine.lapic.deadline(now.tsc())),
            number => msr::read(number, || now.tsc()),
        };
        match value {
            Ok(value) => {
                let gprs = self.cpu.gprs_mut();
                gprs.rax = value & 0xffff_ffff;
                gprs.rdx = value >> 32;
                Next::Skip
            }
            Err(msr::Gp) => Next::PROTECTION,
        }
    }

    fn wrmsr(&mut self, now: Present) -> Next {
        let Gprs { rax, rcx, rdx, .. } = self.cpu.exit.gprs;
        let (number, value) = (rcx as u32, rdx << 32 | rax & 0xffff_ffff);
        match msr::write(number, value) {
            Ok(()) => {
                if number == msr::TSC_DEADLINE {
                    self.machine.set_deadline(value, now.tsc());
                }
                Next::Skip
            }
            Err(msr::Gp) => Next::PROTECTION,
        }
    }
}
