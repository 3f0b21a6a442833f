//! timer-server: one deadline per client, by one-shot interrupts of the 8254 or, where that does not count, the HPET; the
//! rate of the TSC, measured once; and the date from the real-time clock. There is no periodic tick: without an armed
//! deadline, no interrupts occur.
#![no_std]
#![forbid(unsafe_code)]

pub mod hpet;
pub mod pit;
pub mod rate;
pub mod rtc;
mod server;
mod shots;

pub use server::{ALARM, Hardware, Server};
pub use shots::Shots;
