//! Exits that nothing follows from: no interrupt, no timer, no console, no call to a server. Such an exit is not even read,
//! but for the words that its answer needs, and its registers are changed where they are. A busy guest's exits are mostly of
//! this kind.
//!
//! Everything else is for [`Guest::answer`], and so is whatever looks unusual here; what is answered here is what it would
//! answer. Until an answer ends with the registers written, nothing may make a system call, which would overwrite the exit.

use core::arch::x86_64::CpuidResult;

use devices::{Width, lapic::Lapic};
use vtx::{
    exit::{Direction, reason},
    gpr::Place,
    msr,
    words::Words,
};

use crate::{run::Guest, time::Present};

impl<V> Guest<V> {
    /// Answers an exit, if nothing else follows from it, and returns where the guest goes on. Otherwise nothing has happened.
    #[inline(always)]
    pub fn at_once(&mut self, exit: &mut impl Words, now: Present) -> Option<u64> {
        if exit.is_stepped_or_shadowed() || self.debug.armed() {
            return None;
        }
        if exit.reason() == reason::IO {
            return self.io_at_once(exit, now);
        }
        core::hint::cold_path();
        match exit.reason() {
            reason::CPUID => self.cpuid_at_once(exit),
            reason::RDMSR => rdmsr_at_once(exit, now),
            reason::EPT_VIOLATION => self.memory_at_once(exit),
            _ => None,
        }
    }

    /// Answers a WRMSR that sets the local APIC's timer to another moment, if nothing but that follows from it, and returns
    /// where the guest goes on. Otherwise nothing has happened.
    #[inline(always)]
    pub fn deadline_at_once(&mut self, exit: &impl Words, now: Present) -> Option<u64> {
        if exit.reason() != reason::WRMSR
            || exit.is_stepped_or_shadowed()
            || exit.register(Place::Rcx) as u32 != msr::TSC_DEADLINE
        {
            return None;
        }
        let [low, high] = [Place::Rax, Place::Rdx].map(|place| exit.register(place) & 0xffff_ffff);
        let rip = exit.after(exit.instruction_len());
        self.machine.lapic.move_deadline(high << 32 | low, now.tsc()).then_some(rip)
    }

    #[inline(always)]
    fn io_at_once(&mut self, exit: &mut impl Words, now: Present) -> Option<u64> {
        let rip = exit.after(exit.instruction_len());
        let (io, eax) = (exit.io().filter(|io| !io.string())?, exit.register(Place::Rax) as u32);
        match io.direction() {
            Direction::Out => self.machine.write_at_once(io, eax, now).then_some(rip),
            Direction::In => {
                let eax = self.machine.read_at_once(io, eax, now)?;
                exit.set_register(Place::Rax, eax.into());
                exit.write_registers();
                Some(rip)
            }
        }
    }

    #[inline(always)]
    fn cpuid_at_once(&mut self, exit: &mut impl Words) -> Option<u64> {
        let rip = exit.after(exit.instruction_len());
        let (leaf, subleaf) = (exit.register(Place::Rax) as u32, exit.register(Place::Rcx) as u32);
        let CpuidResult { eax, ebx, ecx, edx } = self.cpuid.leaf(leaf, subleaf);
        exit.set_register(Place::Rax, eax.into());
        exit.set_register(Place::Rbx, ebx.into());
        exit.set_register(Place::Rcx, ecx.into());
        exit.set_register(Place::Rdx, edx.into());
        exit.write_registers();
        Some(rip)
    }

    /// Memory that no device has reads ones, and swallows what is written. Of the local APIC, it is the end of an interrupt.
    #[inline(always)]
    fn memory_at_once(&mut self, exit: &mut impl Words) -> Option<u64> {
        let gpa = exit.guest_physical();
        if self.machine.passthrough.has_memory(gpa) || self.machine.functions.memory(gpa, Width::Byte).is_some() {
            return None;
        }
        let access = self.moves.find(exit, self.control.paging(), &self.ram)?;
        let rip = exit.after(access.length);
        if Lapic::has(gpa) {
            let done = !access.load && self.machine.end_quietly(gpa, access.width);
            return done.then_some(rip);
        }
        if access.load {
            exit.set_register(access.register, access.loaded(exit, access.ones));
            exit.write_registers();
        }
        Some(rip)
    }
}

#[inline(always)]
fn rdmsr_at_once(exit: &mut impl Words, now: Present) -> Option<u64> {
    let rip = exit.after(exit.instruction_len());
    let value = msr::read(exit.register(Place::Rcx) as u32, || now.tsc()).ok()?;
    exit.set_register(Place::Rax, value & 0xffff_ffff);
    exit.set_register(Place::Rdx, value >> 32);
    exit.write_registers();
    Some(rip)
}
