//! irq-server: the only holder of the kernel's IRQControl. The system description names the owner of each line. A line
//! with one owner is handed over: the owner gets the handler and acknowledges interrupts to the kernel by itself, so an
//! interrupt costs no IPC. irq-server keeps the handler of lines that share an input, and signals all their owners.
//! It leaves out rate limits of handed-over lines, which their owners enforce.
#![no_std]
#![forbid(unsafe_code)]

mod line_set;
mod round;
mod server;
mod source;

pub use line_set::LineSet;
pub use server::{Controller, Record, Refused, Server};
pub use source::Origin;
