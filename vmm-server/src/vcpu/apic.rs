//! The vCPU's local APIC: its page, and its deadline, IA32_TSC_DEADLINE. The side effects of an access follow from what
//! has changed in the local APIC's pending interrupt and deadline. Ends of interrupts and new deadlines, of which a
//! busy guest has two a tick, take a fast path.

use devices::{
    Effect, Width,
    lapic::{self, Lapic, Refused},
};

use super::Vcpu;
use crate::time::Present;

impl<V> Vcpu<V> {
    /// Reads its page. An access to a reserved register is an APIC error, which may interrupt.
    #[inline(never)]
    pub fn read_apic(&mut self, gpa: u64, width: Width, now: Present) -> (u32, Effect) {
        self.access_apic(|lapic| lapic.read(offset(gpa), width, now.tsc()))
    }

    /// Writes its page.
    #[inline(always)]
    pub fn write_apic(&mut self, gpa: u64, width: Width, value: u32, now: Present) -> Effect {
        if width == Width::Dword && self.lapic.end_quietly(offset(gpa)) {
            return Effect::QUIET;
        }
        self.write_register(gpa, width, value, now)
    }

    #[inline(never)]
    fn write_register(&mut self, gpa: u64, width: Width, value: u32, now: Present) -> Effect {
        self.access_apic(|lapic| lapic.write(offset(gpa), width, value, now.tsc())).1
    }

    /// Reads a register of the x2APIC, by the MSR's number.
    pub fn read_x2apic(&mut self, number: u32, now: Present) -> (Result<u64, Refused>, Effect) {
        self.access_apic(|lapic| lapic.read_msr(number, now.tsc()))
    }

    /// Writes one.
    pub fn write_x2apic(&mut self, number: u32, value: u64, now: Present) -> (Result<(), Refused>, Effect) {
        self.access_apic(|lapic| lapic.write_msr(number, value, now.tsc()))
    }

    /// Writes IA32_APIC_BASE.
    pub fn set_apic_base(&mut self, value: u64) -> (Result<(), Refused>, Effect) {
        self.access_apic(|lapic| lapic.set_base(value))
    }

    /// Writes CR8: the upper half of the task priority (SDM volume 3, "Task Priority in IA-32e Mode").
    pub fn set_cr8(&mut self, value: u8) -> Effect {
        self.access_apic(|lapic| lapic.set_task_priority(value << 4)).1
    }

    /// Sets its deadline.
    #[inline(always)]
    pub fn set_tsc_deadline(&mut self, deadline: u64, tsc: u64) -> Effect {
        if self.lapic.move_deadline(deadline, tsc) {
            return Effect::TIMERS;
        }
        self.access_apic(|lapic| lapic.set_deadline(deadline, tsc)).1
    }

    /// Advances the timer to `tsc`.
    pub fn advance_apic(&mut self, tsc: u64) -> Effect {
        self.access_apic(|lapic| lapic.advance(tsc)).1
    }

    fn access_apic<R>(&mut self, access: impl FnOnce(&mut Lapic) -> R) -> (R, Effect) {
        let state = |lapic: &Lapic| (lapic.passes_external(), lapic.accepts());
        let before = (self.lapic.next_event(), state(&self.lapic));
        let value = access(&mut self.lapic);
        let (due, after) = (self.lapic.next_event(), state(&self.lapic));
        // A change of LINT0 lets the 8259's interrupts through, or holds them back. Switched on, it takes what an I/O APIC
        // has kept for it.
        let lines = Effect::LINES.when(self.lapic.pending() || self.lapic.has_ended() || after != before.1);
        (value, lines | Effect::TIMERS.when(due != before.0))
    }
}

const fn offset(gpa: u64) -> u16 {
    (gpa % lapic::SIZE) as u16
}
