//! Interrupts on their way to the processor: those of the 8259 pair, as far as the local APIC lets them through, and the local
//! APIC's own; and when the next timer interrupts.

use super::Machine;
use crate::time::Clock;

impl Machine {
    /// Whether an interrupt asks for the processor.
    #[inline]
    pub fn pending(&self) -> bool {
        self.external() || self.lapic.pending()
    }

    /// The 8259's interrupt reaches the processor.
    #[inline]
    fn external(&self) -> bool {
        self.pic.pending() && self.lapic.passes_external()
    }

    /// The vector of the interrupt that the processor takes now. The 8259's come first: the local APIC does not rank them.
    pub fn acknowledge(&mut self) -> u8 {
        if !self.external()
            && let Some(vector) = self.lapic.acknowledge()
        {
            return vector;
        }
        let vector = self.pic.acknowledge();
        self.pay_tick();
        vector
    }

    /// TSC at which a timer wants to interrupt.
    pub fn next_tsc(&self, clock: &Clock, tsc: u64) -> Option<u64> {
        let board = self.next_event(clock.at(tsc)).map(|next| clock.tsc(next));
        match (board, self.lapic.next_event()) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        }
    }
}
