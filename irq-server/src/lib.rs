//! irq-server: the only holder of the kernel's IRQControl. The system description names the owner of each line. A line
//! with one owner is handed over: the owner gets the handler and talks to the kernel by itself from then on, so an
//! interrupt costs no IPC. Lines that arrive at the same input stay here, and all their owners are told.
//! It leaves out the limits of lines that were handed over, which their owners keep, and message signalled interrupts.
#![no_std]
#![forbid(unsafe_code)]

mod line_set;
mod round;
mod server;
mod source;
mod tally;

pub use line_set::LineSet;
pub use server::{Controller, Record, Refused, Server};
pub use tally::Tally;
