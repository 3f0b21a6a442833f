//! Addresses that a port has sent from beside its client's own: those of whoever is behind it.

use heapless::Vec;
use proto::net::Mac;

/// Addresses of one port at most. Whoever sends from more loses its own oldest ones, and nobody else's.
pub const MOST: usize = 64;

/// The addresses of a port, the oldest first.
#[derive(Clone, Debug, Default)]
pub struct Learned(Vec<Mac, MOST>);

impl Learned {
    /// Whether the port has sent from this address.
    pub fn has(&self, mac: Mac) -> bool {
        self.0.contains(&mac)
    }

    /// Adds an address, in place of the oldest one where there is no room.
    pub fn add(&mut self, mac: Mac) {
        if self.has(mac) {
            return;
        }
        if self.0.is_full() {
            self.0.remove(0);
        }
        // Cannot fail: there is room.
        let _ = self.0.push(mac);
    }

    /// Removes an address, which another port has sent from.
    pub fn forget(&mut self, mac: Mac) {
        self.0.retain(|known| *known != mac);
    }
}
