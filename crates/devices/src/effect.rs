//! The side effects of an access to a device: what the rest of the machine has to do for it.

use bitflags::bitflags;

bitflags! {
    /// What has to happen before the guest's next instruction, because of an access to a device. The owner of the
    /// devices joins the effects of several accesses, and carries them out once.
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    #[must_use = "a dropped effect is an interrupt that comes late"]
    pub struct Effect: u8 {
        /// The level of an interrupt output, or the controllers' masks and priorities, may have changed.
        const LINES = 1 << 0;
        /// A timer has been reprogrammed: the next deadline may have changed.
        const TIMERS = 1 << 1;
        /// Bytes or requests are pending for a back end.
        const OUTPUT = 1 << 2;
        /// A region of ports or memory has moved, appeared or disappeared.
        const REGIONS = 1 << 3;
        /// The guest asks for a reset of the machine.
        const RESET = 1 << 4;
        /// A PCI function has sent interrupt messages.
        const MESSAGES = 1 << 5;
        /// The guest has switched the machine off.
        const OFF = 1 << 6;
    }
}

impl Effect {
    /// No side effect: the guest can continue at once.
    pub const QUIET: Self = Self::empty();

    /// Whether there is no side effect.
    #[inline(always)]
    pub const fn is_quiet(self) -> bool {
        self.is_empty()
    }

    /// This effect if `condition` holds, and otherwise none.
    #[inline(always)]
    pub const fn when(self, condition: bool) -> Self {
        if condition { self } else { Self::QUIET }
    }
}
