//! Memory without RAM: the local APIC's registers, and what passed-through devices have. All other reads all ones, and
//! swallows writes.

use devices::{
    Width,
    lapic::{self, Lapic},
};

use super::Machine;
use crate::time::Present;

impl Machine {
    /// Reads where there is no RAM.
    pub fn read_memory(&mut self, gpa: u64, width: Width, now: Present) -> u32 {
        if !Lapic::has(gpa) {
            return self.passthrough.read_memory(gpa, width);
        }
        // A register that is not there is an error, which may interrupt.
        self.disturbed = true;
        self.lapic.read(offset(gpa), width, now.tsc())
    }

    /// Writes there.
    pub fn write_memory(&mut self, gpa: u64, width: Width, value: u32, now: Present) {
        if !Lapic::has(gpa) {
            return self.passthrough.write_memory(gpa, width, value);
        }
        if self.end_quietly(gpa, width) {
            return;
        }
        self.disturbed = true;
        self.timers_changed = true;
        self.lapic.write(offset(gpa), width, value, now.tsc());
    }

    /// Whether a device has memory in the page of `gpa` whose accesses exit.
    pub fn has_memory_near(&self, gpa: u64) -> bool {
        Lapic::has(gpa) || self.passthrough.has_memory_near(gpa)
    }

    /// Takes a write to the local APIC that ends an interrupt, if nothing follows from it.
    #[inline(always)]
    pub fn end_quietly(&mut self, gpa: u64, width: Width) -> bool {
        width == Width::Dword && self.lapic.end_quietly(offset(gpa))
    }

    /// Sets the local APIC's deadline, IA32_TSC_DEADLINE.
    pub fn set_deadline(&mut self, deadline: u64, tsc: u64) {
        self.disturbed = true;
        self.timers_changed = true;
        self.lapic.set_deadline(deadline, tsc);
    }
}

const fn offset(gpa: u64) -> u16 {
    (gpa % lapic::SIZE) as u16
}
