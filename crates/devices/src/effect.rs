//! What an access to a device asks of the rest of the machine.

use bitflags::bitflags;

bitflags! {
    /// What has to happen before the guest's next instruction, because of an access to a device. The owner of the devices
    /// joins what several accesses return, and does it once.
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    #[must_use = "a dropped effect is an interrupt that comes late"]
    pub struct Effect: u8 {
        /// The level of an interrupt output, or what the controllers let through, may be another one.
        const LINES = 1 << 0;
        /// A timer is programmed anew: the next deadline may be another one.
        const TIMERS = 1 << 1;
        /// Bytes or requests wait for a back end.
        const OUTPUT = 1 << 2;
        /// A region of ports or memory has moved, appeared or gone.
        const REGIONS = 1 << 3;
        /// The guest asks for a reset of the machine.
        const RESET = 1 << 4;
    }
}

impl Effect {
    /// The guest may run on.
    pub const QUIET: Self = Self::empty();

    /// Whether the guest may run on.
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
