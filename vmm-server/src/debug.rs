//! Exits for the debug registers, and breakpoints on accesses that the VMM emulates.

use vtx::{
    cr::cr4,
    event::{Event, Exception},
    exit::{Direction, DrAccess},
    vmcs::{Vmcs, VmcsField},
};

use crate::{
    answer::Next,
    vcpu::{Vcpu, debug::Watch},
};

impl<V: Vmcs> Vcpu<V> {
    /// Answers a MOV to or from a debug register. The exit comes before the checks of privilege, of CR4.DE and of DR7.GD (SDM
    /// volume 3, "Instructions That Cause VM Exits Conditionally", MOV DR), so they are made here.
    pub(crate) fn debug_register(&mut self, access: DrAccess) -> Next {
        if self.privilege() != 0 {
            return Next::PROTECTION;
        }
        let aliased = matches!(access.dr, 4 | 5);
        if aliased && self.vmcs.read(VmcsField::GuestCr4) & cr4::DE != 0 {
            return Next::UNDEFINED;
        }
        let dr = if aliased { access.dr + 2 } else { access.dr & 7 };
        if self.debug.guarded() {
            self.debug.detect(&mut self.vmcs);
            return Next::Raise(Event::Exception(Exception::Debug));
        }
        match access.direction {
            Direction::Out => {
                let mode = self.pointers();
                let value = mode.wrap(self.gpr(access.gpr));
                // DR6 and DR7 have 32 bits.
                if dr >= 6 && value >> 32 != 0 {
                    return Next::PROTECTION;
                }
                self.debug.write(dr, value, &mut self.vmcs);
            }
            Direction::In => {
                let value = self.debug.read(dr, &mut self.vmcs);
                self.set_gpr(access.gpr, value);
            }
        }
        Next::Skip
    }

    /// Compares an emulated access to ports with the breakpoints, which the processor cannot do: a trap comes after the
    /// instruction.
    #[inline(never)]
    pub(crate) fn watch_port(&mut self, port: u16, bytes: u32) {
        let hits = self.debug.hit(Watch::Port, port.into(), bytes.into());
        if hits != 0 && self.vmcs.read(VmcsField::GuestCr4) & cr4::DE != 0 {
            self.pend_breakpoints(hits);
        }
    }

    /// The same for memory at a linear address.
    #[inline(never)]
    pub(crate) fn watch_memory(&mut self, watch: Watch, linear: u64, bytes: u64) {
        let hits = self.debug.hit(watch, linear, bytes);
        if hits != 0 {
            self.pend_breakpoints(hits);
        }
    }
}
