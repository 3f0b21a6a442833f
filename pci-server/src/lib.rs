//! pci-server: the gate to PCI. It is the only process that reaches configuration space, base address registers and device
//! ports; it gives to each client what the description says, by calls or by handing capabilities over, and takes it back.
#![no_std]
#![forbid(unsafe_code)]

mod bus;
mod capabilities;
mod check;
pub mod config_space;
mod function;
pub mod hardware;
mod lines;
mod patience;
mod refusals;
mod reset;
mod resources;
mod server;
mod virtual_space;

pub use bus::scan;
pub use function::describe;
pub use resources::WINDOW;
pub use server::Server;
