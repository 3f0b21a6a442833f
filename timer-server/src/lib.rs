//! timer-server: one deadline per client, kept by the 8254 in one-shot mode; the rate of the TSC, measured once; and
//! the date from the real-time clock. Where no deadline is armed, there is no interrupt: no periodic tick exists.
#![no_std]
#![forbid(unsafe_code)]

pub mod pit;
pub mod rtc;
mod server;

pub use server::{ALARM, Hardware, Server};
