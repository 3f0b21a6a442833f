//! net-server: a switch for each network of the system, with a port for each client.
#![no_std]
#![forbid(unsafe_code)]

mod bucket;
mod connections;
mod counts;
mod learned;
mod members;
mod server;
mod sockets;
mod switch;

pub use counts::Counts;
pub use server::{Hardware, Server};
pub use switch::Rings;
