//! timer-server: one deadline per client, by the 8254 in one-shot mode; the rate of the TSC, measured once; and the
//! date from the real-time clock. There is no periodic tick: without an armed deadline, no interrupts occur.
#![no_std]
#![forbid(unsafe_code)]

pub mod pit;
pub mod rtc;
mod server;

pub use server::{ALARM, Hardware, Server};
