//! Delivery of events: exceptions that exit before they are delivered, interrupts, and events whose delivery another
//! event cut short (SDM volume 3, "Interrupt 8 - Double Fault Exception", and "Information for VM Exits That Occur
//! During Event Delivery").
//!
//! The exceptions that exit, #DB and #AC, are benign: the guest gets them first, whatever was being delivered, and no
//! double fault follows. An exception that was being delivered comes again by itself, since its instruction is executed
//! again; so does INT n. An external interrupt does not: the vCPU keeps it, and injects it as soon as the guest can
//! take it.

use devices::Effect;
use vtx::{
    event::{self, Event, Exception, Exiting, Vectored},
    vmcs::{Vmcs, VmcsField},
};

use crate::{
    answer::{Cause, Next},
    guest::Guest,
    native,
    time::{Clock, Present},
    vcpu::BOOTSTRAP,
};

impl<V: Vmcs> Guest<'_, V> {
    /// Answers the exit of an exception, or of an NMI of the host. The kernel handles #NM itself.
    pub(crate) fn exception(&mut self, now: Present) -> Next {
        if self.cpu.native.is_active() {
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
            // Nothing in the guest can change between two of them: a real processor loops until it is reset.
            (Exiting::AlignmentCheck, Some(Vectored::Exception { vector: ALIGNMENT_CHECK, .. })) => {
                return Next::Reset(Cause::Unsupported("#AC in the delivery of #AC, which comes again for ever"));
            }
            (Exiting::AlignmentCheck, _) => return Next::Raise(Event::Exception(Exception::AlignmentCheck)),
            (Exiting::Trap, _) => self.cpu.debug.trapped(self.cpu.exit.qualification),
            (Exiting::Int1, _) => self.cpu.skip(),
        }
        Next::Raise(Event::Exception(Exception::Debug))
    }

    /// Whether an interrupt is pending for the vCPU, which ends a halt. If so, the next entry injects it, or an
    /// interrupt-window exit comes as soon as the guest can take it.
    #[inline]
    pub fn interrupt(&mut self) -> bool {
        self.vm.board.functions.deliver(&mut self.cpu.lapic);
        self.vm.board.controllers.route(&mut self.cpu.lapic);
        let external = self.external();
        // In a native step the interrupt waits for the end of the instruction: the exit that ends the step settles
        // again.
        if self.cpu.native.is_active() || !external && !self.cpu.lapic.pending() && !self.cpu.holds() {
            self.cpu.want_window(false);
            return false;
        }
        if self.cpu.takes_interrupt() {
            let vector = self.cpu.take_held().unwrap_or_else(|| self.acknowledge_one(external));
            self.cpu.deliver(Event::Interrupt(vector));
        }
        let more = self.pending() || self.cpu.holds();
        self.cpu.want_window(more);
        true
    }

    /// Whether an interrupt is pending for this vCPU.
    #[inline]
    pub fn pending(&self) -> bool {
        self.external() || self.cpu.lapic.pending()
    }

    /// The vector of the interrupt that the vCPU takes now.
    pub fn acknowledge(&mut self) -> u8 {
        self.acknowledge_one(self.external())
    }

    /// The 8259's interrupts come first: the local APIC does not rank them.
    fn acknowledge_one(&mut self, external: bool) -> u8 {
        if !external && let Some(vector) = self.cpu.lapic.acknowledge() {
            // A tick that waited for this one comes next.
            self.vm.board.pay_tick();
            self.vm.board.controllers.route(&mut self.cpu.lapic);
            return vector;
        }
        self.vm.board.acknowledge()
    }

    #[inline]
    fn external(&self) -> bool {
        self.cpu.number == BOOTSTRAP && self.vm.board.pending(&self.cpu.lapic)
    }

    /// Advances the timers of the board and of the local APIC to `tsc`.
    pub fn advance(&mut self, clock: &Clock, tsc: u64) -> Effect {
        self.vm.board.advance(clock.at(tsc)) | self.cpu.advance_apic(tsc)
    }

    /// The TSC value of the next timer interrupt, if there is one.
    pub fn next_timer(&self, clock: &Clock, tsc: u64) -> Option<u64> {
        let board = self.vm.board.next_event(clock.at(tsc)).map(|next| clock.tsc(next));
        match (board, self.cpu.lapic.next_event()) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        }
    }
}
