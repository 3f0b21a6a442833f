//! What was refused: counted by client, and told in the log, but not more often than a log can bear. A client can be
//! refused as often as it likes; its line appears the first 16 times, and then whenever the count is a power of two.

use core::fmt;

use heapless::Vec;
use layout::{config::Name, limits::MAX_CLIENTS};
use proto::pci::{Error, PciClient};
use proto::wire::ClientId;

/// Lines before it gets rarer.
const OFTEN: u32 = 16;

/// Whether the log is to have a line of what happens for the `count`th time.
pub fn worth_a_line(count: u32) -> bool {
    count <= OFTEN || count.is_power_of_two()
}

/// The counts.
pub struct Refusals {
    clients: Vec<(Name, u32), MAX_CLIENTS>,
}

impl Refusals {
    /// Nothing refused so far.
    pub fn new(clients: &[PciClient]) -> Self {
        Self { clients: clients.iter().map(|client| (client.name.clone(), 0)).collect() }
    }

    /// Refuses `what` to `client`.
    pub fn add(&mut self, client: ClientId, what: impl fmt::Display, why: Error) {
        // A badge without a name is nobody's that the description knows.
        let Some((name, count)) = self.clients.get_mut(client.index()) else { return };
        *count = count.saturating_add(1);
        if worth_a_line(*count) {
            log::warn!("`{name}`: {what} refused: {why:?} ({count} so far)");
        }
    }

    /// How often a client was refused something.
    pub fn count(&self, client: ClientId) -> u32 {
        self.clients.get(client.index()).map_or(0, |(_, count)| *count)
    }
}
