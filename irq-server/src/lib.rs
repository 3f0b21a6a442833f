//! irq-server: the only holder of the kernel's IRQControl. The system description names the owner of each line; the
//! owner gets the line's handler and talks to the kernel by itself from then on, so an interrupt costs no IPC.
//! It leaves out lines with several owners.
#![no_std]
#![forbid(unsafe_code)]

mod server;

pub use server::{Controller, Refused, Server};
