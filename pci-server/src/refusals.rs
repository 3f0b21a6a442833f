//! Refused calls, counted by client and logged with a rate limit: the first 16 of a client, then each whose count is a
//! power of two, so that no client can fill the log.

use core::fmt;

use heapless::Vec;
use layout::{config::Name, limits::MAX_CLIENTS};
use proto::pci::{Error, PciClient};
use proto::wire::ClientId;

/// Occurrences that are all logged.
const FIRST: u32 = 16;

/// Whether to log the `count`th occurrence.
pub fn is_logged(count: u32) -> bool {
    count <= FIRST || count.is_power_of_two()
}

/// The counts.
pub struct Refusals {
    clients: Vec<(Name, u32), MAX_CLIENTS>,
}

impl Refusals {
    /// All counts zero.
    pub fn new(clients: &[PciClient]) -> Self {
        Self { clients: clients.iter().map(|client| (client.name.clone(), 0)).collect() }
    }

    /// Counts and logs that `client` was refused `what`.
    pub fn add(&mut self, client: ClientId, what: impl fmt::Display, why: Error) {
        // A badge that no client of the description has is not counted.
        let Some((name, count)) = self.clients.get_mut(client.index()) else { return };
        *count = count.saturating_add(1);
        if is_logged(*count) {
            log::warn!("`{name}`: {what} refused: {why:?} ({count} so far)");
        }
    }

    /// How often a client was refused something.
    pub fn count(&self, client: ClientId) -> u32 {
        self.clients.get(client.index()).map_or(0, |(_, count)| *count)
    }
}
