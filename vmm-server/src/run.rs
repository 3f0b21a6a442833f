//! The answer to each VM exit: one `match`, a line per kind. It is total: every reason, register, address and
//! instruction of the guest has an answer here.
//!
//! Exits without side effects take the fast path: it reads a few words of the kernel's message, and changes registers
//! in place. On the slow path the vCPU takes over the exit, all words of it: when side effects have to be carried out
//! before the next entry, and before an answer that needs the VMCS or pci-server, since a system call overwrites the
//! message.
//!
//! This module knows neither seL4 nor the bit fields of exits; host tests run made-up exits through it.

use core::{arch::x86_64::CpuidResult, hint::cold_path};

use devices::{Effect, Width, lapic::Lapic};
use vtx::{
    cpuid,
    exit::{Direction, EptViolation, Exit, Io, RawExit},
    gpr::MessageGpr,
    msr,
    vmcs::Vmcs,
    words::Message,
};

use crate::{
    access,
    answer::{Answer, Cause, Next},
    board::Remote,
    control,
    guest::Guest,
    hypercalls, msrs,
    plain::Move,
    string_io, task,
    time::Present,
    vcpu::Vcpu,
    vm::Vm,
};

/// Answers one exit of `cpu`.
#[inline(always)]
pub fn answer<V: Vmcs>(vm: &mut Vm, cpu: &mut Vcpu<V>, exit: impl Message, now: Present) -> Answer {
    answer_with(vm, cpu, exit, Effect::QUIET, now)
}

/// Answers one exit of `cpu` whose words have all been read, since `effect` puts it on the slow path in any case.
#[cold]
#[inline(never)]
pub fn answer_late<V: Vmcs>(vm: &mut Vm, cpu: &mut Vcpu<V>, exit: RawExit, effect: Effect, now: Present) -> Effect {
    match answer_with(vm, cpu, exit, effect | Effect::LINES, now) {
        Answer::Taken { effect } => effect,
        // Cannot happen: LINES puts every answer on the slow path.
        Answer::Resume { .. } | Answer::ResumeTimed { .. } => effect,
    }
}

#[inline(always)]
fn answer_with<V: Vmcs>(vm: &mut Vm, cpu: &mut Vcpu<V>, exit: impl Message, effect: Effect, now: Present) -> Answer {
    let stopped = Stopped { vm, cpu, exit, effect };
    match Exit::decode(&stopped.exit) {
        Exit::Io(io) if !io.string() => stopped.io(io, now),
        Exit::Cpuid => stopped.cpuid(),
        Exit::Rdmsr => stopped.rdmsr(now),
        Exit::Wrmsr => stopped.wrmsr(now),
        Exit::EptViolation(violation) => stopped.memory(violation, now),
        Exit::Io(io) => stopped.taken(move |guest| string_io::answer(guest, io, now)),
        Exit::CrAccess(access) => stopped.taken(move |guest| control::answer(guest, access)),
        Exit::DrAccess(access) => stopped.taken(move |guest| guest.cpu.debug_register(access)),
        Exit::Hlt => {
            stopped.taken(move |guest| if guest.cpu.interrupts_enabled() { Next::Halt } else { Next::PowerOff })
        }
        Exit::PreemptionTimer => stopped.taken(move |guest| guest.expire(now)),
        Exit::InterruptWindow | Exit::NmiWindow => stopped.taken(move |_| Next::Retry),
        // The host's caches are coherent, and stay as they are.
        Exit::Wbinvd | Exit::Invd => stopped.taken(move |_| Next::Skip),
        // CPUID hides the features of these instructions, so the guest's processor has none of them.
        Exit::Vmcall => stopped.taken(hypercalls::answer),
        Exit::Getsec | Exit::VmxInstruction | Exit::Monitor | Exit::Mwait => stopped.undefined(),
        Exit::Xsetbv => stopped.taken(control::set_xcr),
        // These exit only with an execution control that is off.
        Exit::Pause | Exit::Invlpg(_) => stopped.taken(move |_| Next::Skip),
        Exit::Rdtscp | Exit::Invpcid | Exit::Rdrand | Exit::Rdseed | Exit::Enclave => stopped.undefined(),
        Exit::SupervisorXsave | Exit::Pconfig | Exit::UserWait | Exit::LoadIwkey => stopped.undefined(),
        Exit::Rdpmc | Exit::Rsm => stopped.taken(move |_| Next::PROTECTION),
        Exit::ExceptionOrNmi => stopped.taken(move |guest| guest.exception(now)),
        Exit::TripleFault => stopped.taken(move |_| Next::Reset(Cause::TripleFault)),
        Exit::TaskSwitch { selector, source } => stopped.taken(move |guest| task::answer(guest, selector, source, now)),
        Exit::EntryFailure(failure) => stopped.taken(move |_| Next::Reset(Cause::EntryFailure(failure))),
        _ => stopped.taken(|guest| Next::Reset(Cause::Unexpected(Exit::decode(&guest.cpu.exit)))),
    }
}

/// A vCPU whose exit is still in the kernel's message.
struct Stopped<'a, V, M> {
    vm: &'a mut Vm,
    cpu: &'a mut Vcpu<V>,
    exit: M,
    effect: Effect,
}

impl<V: Vmcs, M: Message> Stopped<'_, V, M> {
    #[inline(always)]
    fn io(mut self, io: Io, now: Present) -> Answer {
        let port = io.port();
        let rax = self.exit.register(MessageGpr::Rax);
        let watch = move |cpu: &mut Vcpu<V>| {
            if cpu.debug.armed() {
                cpu.watch_port(port, io.width().bytes() as u32);
            }
        };
        match io.direction() {
            Direction::In => match self.vm.board.read(port, io, now) {
                Ok((value, effect)) => {
                    self.exit.set_register(MessageGpr::Rax, rax & io.kept() | u64::from(value));
                    let length = self.exit.instruction_len();
                    self.done(length, true, effect, watch)
                }
                Err(Remote) => self.taken(move |guest| {
                    watch(guest.cpu);
                    guest.remote_in(port, io.width())
                }),
            },
            Direction::Out => match self.vm.board.write(port, io, rax as u32, now) {
                Ok(effect) => {
                    let length = self.exit.instruction_len();
                    self.done(length, false, effect, watch)
                }
                Err(Remote) => self.taken(move |guest| {
                    watch(guest.cpu);
                    guest.remote_out(port, io.width())
                }),
            },
        }
    }

    #[inline(always)]
    fn cpuid(mut self) -> Answer {
        let (leaf, subleaf) = (self.exit.register(MessageGpr::Rax) as u32, self.exit.register(MessageGpr::Rcx) as u32);
        if leaf == cpuid::EXTENDED_FEATURES && self.cpu.control.has_long_mode() {
            return self.taken(|guest| guest.cpu.extended_features());
        }
        let CpuidResult { eax, ebx, ecx, edx } = self.cpu.cpuid.leaf(leaf, subleaf);
        self.exit.set_register(MessageGpr::Rax, eax.into());
        self.exit.set_register(MessageGpr::Rbx, ebx.into());
        self.exit.set_register(MessageGpr::Rcx, ecx.into());
        self.exit.set_register(MessageGpr::Rdx, edx.into());
        let length = self.exit.instruction_len();
        self.done(length, true, Effect::QUIET, |_| {})
    }

    #[inline(always)]
    fn rdmsr(mut self, now: Present) -> Answer {
        let value = match self.exit.register(MessageGpr::Rcx) as u32 {
            msr::TSC_DEADLINE => Ok(self.cpu.lapic.deadline(now.tsc())),
            number => msr::read(self.cpu.processor(), number, || now.tsc()),
        };
        let Ok(value) = value else { return self.taken(move |guest| msrs::read(guest, now)) };
        self.exit.set_register(MessageGpr::Rax, value & 0xffff_ffff);
        self.exit.set_register(MessageGpr::Rdx, value >> 32);
        let length = self.exit.instruction_len();
        self.done(length, true, Effect::QUIET, |_| {})
    }

    #[inline(always)]
    fn wrmsr(self, now: Present) -> Answer {
        let number = self.exit.register(MessageGpr::Rcx) as u32;
        let [low, high] = [MessageGpr::Rax, MessageGpr::Rdx].map(|place| self.exit.register(place) & 0xffff_ffff);
        let value = high << 32 | low;
        let Ok(()) = msr::write(self.cpu.processor(), number, value) else {
            return self.taken(move |guest| control::write_own_msr(guest, number, value, now));
        };
        let effect = match number {
            msr::TSC_DEADLINE => self.cpu.set_tsc_deadline(value, now.tsc()),
            _ => Effect::QUIET,
        };
        let length = self.exit.instruction_len();
        self.done(length, false, effect, |_| {})
    }

    /// Answers an access to an address without RAM: a driver's MOV on the fast path, anything else on the slow one.
    /// Armed breakpoints rule out the fast path, which does not compare linear addresses with them.
    #[inline(always)]
    fn memory(self, violation: EptViolation, now: Present) -> Answer {
        if !self.cpu.debug.armed() {
            let paging = self.cpu.control.paging();
            match self.cpu.moves.find(&self.exit, violation, paging, &self.vm.ram) {
                // Copied in each arm: the compiler then copies only the fields that this direction needs.
                Some(found) if found.load => {
                    let found = *found;
                    return self.load(found, violation.gpa, now);
                }
                Some(found) => {
                    let found = *found;
                    return self.store(found, violation.gpa, now);
                }
                None => {}
            }
        }
        self.taken(move |guest| access::answer(guest, violation, now))
    }

    #[inline(always)]
    fn load(mut self, found: Move, gpa: u64, now: Present) -> Answer {
        let answered = match Lapic::has(gpa) {
            true => Ok(self.cpu.read_apic(gpa, found.width, now)),
            false => self.vm.board.read_memory(gpa, found.width),
        };
        match answered {
            Ok((value, effect)) => {
                let loaded = found.loaded(&self.exit, value.into());
                self.exit.set_register(found.register, loaded);
                self.done(found.length, true, effect, |_| {})
            }
            Err(Remote) => self.taken(move |guest| guest.remote_load(gpa, found)),
        }
    }

    #[inline(always)]
    fn store(self, found: Move, gpa: u64, now: Present) -> Answer {
        let value = (self.exit.register(found.register) & found.ones) as u32;
        let answered = match Lapic::has(gpa) {
            true => Ok(self.cpu.write_apic(gpa, found.width, value, now)),
            false => self.vm.board.write_memory(gpa, found.width, value),
        };
        match answered {
            Ok(effect) => self.done(found.length, false, effect, |_| {}),
            Err(Remote) => self.taken(move |guest| guest.remote_store(gpa, found)),
        }
    }

    /// Ends an instruction of `length` bytes; `changed` says whether registers in the message have changed. Without
    /// side effects, the guest continues after it with those registers. Otherwise the vCPU takes over the exit. `watch`
    /// compares the access with armed breakpoints.
    #[inline(always)]
    fn done(self, length: u32, changed: bool, effect: Effect, watch: impl FnOnce(&mut Vcpu<V>)) -> Answer {
        let (rip, effect) = (self.exit.after(length), self.effect | effect);
        // Past 4 GiB, the slow path knows whether the code is 32-bit code, which wraps around.
        let crosses = (rip ^ self.exit.rip()) >> 32;
        let watched = self.exit.stepped_or_shadowed() | u64::from(self.cpu.debug.armed()) | crosses;
        // Joined, so that the fast path has a single branch.
        if watched | u64::from(effect.bits()) != 0 {
            cold_path();
            // A new deadline alone needs no more words of the exit, and a busy guest sets one per tick.
            if watched != 0 || effect != Effect::TIMERS {
                self.cpu.done(self.exit, length, changed);
                watch(self.cpu);
                self.cpu.next = Next::after(effect);
                return Answer::Taken { effect };
            }
            if changed {
                self.exit.write_registers();
            }
            return Answer::ResumeTimed { rip };
        }
        if changed {
            self.exit.write_registers();
        }
        Answer::Resume { rip }
    }

    /// Has the vCPU take over the exit, and then `answer` it.
    #[inline(always)]
    fn taken(self, answer: impl FnOnce(&mut Guest<V>) -> Next) -> Answer {
        cold_path();
        let Self { vm, cpu, exit, effect } = self;
        cpu.exited(exit);
        Answer::Taken { effect: answer_taken(vm, cpu, effect, answer) }
    }

    #[inline(always)]
    fn undefined(self) -> Answer {
        self.taken(move |_| Next::UNDEFINED)
    }
}

/// Answers an exit that the vCPU has taken over, and returns its side effects.
#[cold]
#[inline(never)]
fn answer_taken<V>(
    vm: &mut Vm,
    cpu: &mut Vcpu<V>,
    effect: Effect,
    answer: impl FnOnce(&mut Guest<V>) -> Next,
) -> Effect {
    let mut guest = Guest::new(vm, cpu);
    guest.join(effect);
    guest.cpu.next = answer(&mut guest);
    guest.effect()
}

impl<V: Vmcs> Guest<'_, V> {
    /// An IN that pci-server makes.
    fn remote_in(&mut self, port: u16, width: Width) -> Next {
        let value = self.vm.board.read_remote(port, width);
        self.cpu.set_accumulator(width, value);
        Next::Skip
    }

    /// An OUT that pci-server makes.
    fn remote_out(&mut self, port: u16, width: Width) -> Next {
        let value = self.cpu.exit.gprs.rax as u32 & width.mask32();
        let effect = self.vm.board.write_remote(port, width, value);
        self.join(effect);
        Next::Skip
    }

    /// A MOV from memory that pci-server makes.
    fn remote_load(&mut self, gpa: u64, found: Move) -> Next {
        let value = self.vm.board.passthrough.read_memory(gpa, found.width);
        let loaded = found.loaded(&self.cpu.exit, value.into());
        *self.cpu.gprs_mut().at_mut(found.register) = loaded;
        self.cpu.exit.instruction_len = found.length;
        Next::Skip
    }

    /// A MOV to memory that pci-server makes.
    fn remote_store(&mut self, gpa: u64, found: Move) -> Next {
        let value = (self.cpu.exit.gprs.at(found.register) & found.ones) as u32;
        let effect = self.vm.board.write_memory_remote(gpa, found.width, value);
        self.join(effect);
        self.cpu.exit.instruction_len = found.length;
        Next::Skip
    }

    /// Answers the preemption timer's exit. Whether the deadline has passed is the run loop's to find out: it reads the
    /// TSC.
    fn expire(&mut self, now: Present) -> Next {
        self.cpu.deadline.on_expiry(now.tsc());
        self.join(Effect::TIMERS);
        Next::Retry
    }
}
