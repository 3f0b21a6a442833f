//! pci-server: the gate to PCI. It owns the configuration ports and the capabilities to BARs. It gives each client
//! access to its functions, by calls (mediated) or by handing over copies of capabilities (direct), and revokes the
//! copies.
#![no_std]
#![forbid(unsafe_code)]

mod bus;
mod capabilities;
mod check;
pub mod config_space;
mod function;
mod groups;
pub mod hardware;
mod lines;
mod msi;
mod msix;
mod owned;
mod refusals;
mod reset;
mod resources;
mod server;
mod virtual_space;
mod wait_budget;
mod wiring;

pub use bus::{Listing, Scope, scan, scan_for};
pub use function::describe;
pub use resources::WINDOW;
pub use server::Server;
