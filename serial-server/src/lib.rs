//! serial-server: shares one UART among all logs and guest consoles. Each is a ring of bytes; the server merges them to
//! one readable stream, and sends what is typed to the consoles that the user has chosen, the first one of the description
//! at the start.
#![no_std]
#![forbid(unsafe_code)]

mod commands;
mod mixer;
mod server;
mod set;
mod source;
pub mod uart;

pub use server::{Hardware, Managed, Server, Settings, Stream};
pub use uart::Reception;
