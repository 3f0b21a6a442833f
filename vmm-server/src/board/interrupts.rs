//! The board's pending interrupts, and its next timer interrupt.

use devices::{Effect, Nanos, lapic::Lapic};
use layout::guest_board::input;

use super::Board;

impl Board {
    /// Whether an interrupt of the 8259 reaches the bootstrap processor, whose local APIC this is.
    #[inline]
    pub fn pending(&self, lapic: &Lapic) -> bool {
        self.controllers.pic.pending() && (!self.imcr.is_through() || lapic.passes_external())
    }

    /// Acknowledges the interrupt of the 8259 pair; returns its vector.
    pub fn acknowledge(&mut self) -> u8 {
        let vector = self.controllers.pic.acknowledge();
        self.pay_tick();
        vector
    }

    /// Advances the timers, and raises their interrupts that are due.
    pub fn advance(&mut self, now: Nanos) -> Effect {
        if self.lines.may_be_silent(now) {
            self.listen(now);
        }
        self.pit.poll(now);
        let tick = self.pay_tick();
        let clock = if self.rtc_due.is_some_and(|due| due <= now) {
            self.rtc.poll(now);
            self.rtc_effect()
        } else {
            Effect::QUIET
        };
        clock | Effect::TIMERS | Effect::LINES.when(tick || self.controllers.pic.pending())
    }

    /// Logs passed-through pins that stay silent.
    #[cold]
    #[inline(never)]
    fn listen(&mut self, now: Nanos) {
        for function in self.lines.silent(now, &self.controllers) {
            log::warn!(
                "{function}: no interrupt in 5 s since its driver enabled it; its pin may be wired elsewhere: \
                 set `source` in the description"
            );
        }
    }

    /// The time of the board's next timer interrupt.
    pub fn next_event(&self, now: Nanos) -> Option<Nanos> {
        match (self.pit.next_edge(now), self.rtc_due) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        }
    }

    /// Raises a timer tick that the guest is owed, once it has taken the one before. So no tick is lost while the guest
    /// or its VMM does not run; a guest that counts ticks would see a slow clock. Returns whether a controller may have an
    /// interrupt for the processor.
    pub(crate) fn pay_tick(&mut self) -> bool {
        if self.pit.owed() > 0 && !self.controllers.has_tick() && self.pit.pay() {
            self.controllers.drive(input::TIMER, false);
            return self.controllers.drive(input::TIMER, true);
        }
        self.controllers.pic.asks()
    }
}
