//! pci-server: the only process that reaches PCI configuration space. So far it lists the machine's functions for
//! those who may know; what it lists was read once, at the start.
#![no_std]
#![forbid(unsafe_code)]

mod bus;
pub mod config_space;
mod function;
mod server;

pub use bus::scan;
pub use function::describe;
pub use server::Server;
