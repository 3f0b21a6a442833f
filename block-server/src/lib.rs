//! block-server: disks, and parts of disks, for clients. A request never leaves its client's part, whatever its sector number.
#![no_std]
#![forbid(unsafe_code)]

mod drive;
mod export;
mod server;
pub mod table;

pub use server::Server;
