//! block-server: disks, parts of disks, and files as disks, for clients. A request never leaves its client's part, whatever
//! its sector number.
#![no_std]
#![forbid(unsafe_code)]

mod drive;
mod export;
mod image;
mod server;
pub mod table;

pub use server::Server;
