//! serial-server: one UART for everyone who prints. Each log and each guest console is a ring of bytes; here they are
//! merged to one stream that a person can read, and what is typed goes to the console in focus.
//! It leaves out changing the focus: that is the first console of the description.
#![no_std]
#![forbid(unsafe_code)]

mod mixer;
mod server;
pub mod uart;

pub use server::{Hardware, Server, Stream};
pub use uart::Reception;
