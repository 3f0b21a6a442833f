//! Events on their way into the guest: exceptions that exit before they are delivered, interrupts, and what becomes of an
//! event in whose delivery another one came (SDM volume 3, "Interrupt 8 - Double Fault Exception", and "Information for VM
//! Exits That Occur During Event Delivery").
//!
//! The exceptions that exit, #DB and #AC, are benign: whatever was being delivered, they are handled first, and no double
//! fault comes of it. An exception that was being delivered then comes again by itself, since its instruction is executed
//! again, and so does INT n. An interrupt does not: it is kept, and delivered as soon as the guest takes it.

use vtx::{
    event::{self, Event, Exception, Exiting, Vectored},
    vmcs::{Vmcs, VmcsField},
};

use crate::{
    native,
    run::{Cause, Guest, Next},
    time::Present,
};

impl<V: Vmcs> Guest<V> {
    /// Answers the exit of an exception, or of an NMI of the host's. The kernel keeps #NM to itself.
    pub(crate) fn exception(&mut self, now: Present) -> Next {
        if self.native.is_active() {
            return native::exception(self, now);
        }
        const ALIGNMENT_CHECK: u8 = Exception::AlignmentCheck as u8;
        let vmcs = &mut self.cpu.vmcs;
        let Some(exception) = event::exiting(vmcs.read(VmcsField::ExitInterruptionInfo) as u32) else {
            return Next::Retry;
        };
        let first = Vectored::of(vmcs.read(VmcsField::IdtVectoringInfo) as u32);
        if let Some(Vectored::Interrupt(vector)) = first {
            self.cpu.hold(vector);
        }
        match (exception, first) {
            // With one processor, nothing changes from one to the next: a real one stays in it until it is reset.
            (Exiting::AlignmentCheck, Some(Vectored::Exception { vector: ALIGNMENT_CHECK, .. })) => {
                return Next::Reset(Cause::Unsupported("#AC in the delivery of #AC, which comes again for ever"));
            }
            (Exiting::AlignmentCheck, _) => return Next::Raise(Event::Exception(Exception::AlignmentCheck)),
            (Exiting::Trap, _) => self.debug.trapped(self.cpu.exit.qualification),
            (Exiting::Int1, _) => self.cpu.skip(),
        }
        Next::Raise(Event::Exception(Exception::Debug))
    }

    /// Whether there is an interrupt for the guest, which ends a halt. If so, the next entry delivers it, or an exit tells when
    /// the guest takes one.
    #[inline]
    pub fn interrupt(&mut self) -> bool {
        let Self { cpu, machine, native, .. } = self;
        // It comes after the instruction: as soon as the step is over, this is asked again.
        if native.is_active() || !machine.pending() && !cpu.holds() {
            cpu.want_window(false);
            return false;
        }
        if cpu.takes_interrupt() {
            let vector = cpu.take_held().unwrap_or_else(|| machine.acknowledge());
            cpu.deliver(Event::Interrupt(vector));
        }
        cpu.want_window(machine.pending() || cpu.holds());
        true
    }
}
