//! The server that runs one guest.
#![no_std]
#![forbid(unsafe_code)]

pub mod insn;
pub mod linux;
