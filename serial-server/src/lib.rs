//! serial-server: shares one UART among all logs and guest consoles. Each is a ring of bytes; the server merges them to
//! one readable stream, and sends keyboard input to the console in focus. It leaves out changing the focus, which is
//! always the first console of the description.
#![no_std]
#![forbid(unsafe_code)]

mod mixer;
mod server;
pub mod uart;

pub use server::{Hardware, Server, Stream};
pub use uart::Reception;
