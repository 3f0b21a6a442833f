//! What the server's core needs beyond configuration space: device registers, time, and capabilities to both. `main.rs`
//! implements it with capabilities; the tests with a simulated machine.

use layout::Bdf;
use proto::irq;
use proto::irq::{MsiMessage, Route};
use proto::pci::Width;
use proto::supervisor::{Refused, Request};

use crate::config_space::ConfigSpace;

/// Registers of devices.
pub trait Devices {
    /// Reads a port through the capability in slot `slot` of the scratch CNode, which covers the access.
    fn port_in(&mut self, slot: u16, port: u16, width: Width) -> u32;
    /// Writes a port, likewise.
    fn port_out(&mut self, slot: u16, port: u16, width: Width, value: u32);
    /// Reads device memory at `at` bytes into the window where it is mapped; aligned.
    fn load(&mut self, at: u64, width: Width) -> u32;
    /// Writes device memory, likewise.
    fn store(&mut self, at: u64, width: Width, value: u32);
}

/// Time.
pub trait Clock {
    /// Time stamp counter.
    fn ticks(&mut self) -> u64;
    /// Ticks per millisecond.
    fn ticks_per_millisecond(&self) -> u64;
}

/// Authority.
pub trait Authority {
    /// Asks root-task for device memory or ports. `map` in the request is relative to the start of the window.
    fn obtain(&mut self, request: Request) -> Result<(), Refused>;
    /// Revokes every copy of the capability in slot `slot` of the scratch CNode.
    fn revoke(&mut self, slot: u16);
    /// The CPtr of the capability in slot `slot`, to hand over a copy.
    fn capability(&self, slot: u16) -> u64;
    /// Sets a line's route at irq-server.
    fn route(&mut self, line: u8, route: Route) -> Result<(), irq::Error>;
    /// Has irq-server take the messages of the function at `from` on a line; returns the message to send.
    fn message(&mut self, line: u8, from: Bdf) -> Result<MsiMessage, irq::Error>;
}

/// All of it.
pub trait Machine: ConfigSpace + Devices + Clock + Authority {}
impl<T: ConfigSpace + Devices + Clock + Authority> Machine for T {}

/// Milliseconds.
#[derive(Clone, Copy, Debug)]
pub struct Millis(pub u64);

/// Milliseconds in ticks.
pub fn ticks_of(clock: &impl Clock, Millis(time): Millis) -> u64 {
    clock.ticks_per_millisecond().saturating_mul(time)
}

/// Busy-waits for at least that many ticks.
pub fn wait(clock: &mut impl Clock, ticks: u64) {
    let start = clock.ticks();
    while clock.ticks().wrapping_sub(start) < ticks {}
}

/// Polls `holds` with a timeout; returns whether it became true.
pub fn wait_until<C: Clock>(clock: &mut C, ticks: u64, mut holds: impl FnMut(&mut C) -> bool) -> bool {
    let start = clock.ticks();
    loop {
        // Read the clock before the poll: if other processes run between the two until the timeout has passed, the
        // device may be ready, and is polled once more.
        let over = clock.ticks().wrapping_sub(start) >= ticks;
        if holds(clock) {
            return true;
        }
        if over {
            return false;
        }
    }
}
