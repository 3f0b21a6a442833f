//! The server that runs one guest: `run` says what each VM exit is answered with, `machine` is the board that the guest
//! sees, `linux` and `boot` put a kernel into its memory. All of it runs in host tests; the binary adds seL4.
#![no_std]
#![forbid(unsafe_code)]

pub mod access;
pub mod at_once;
pub mod boot;
pub mod control;
pub mod countdown;
pub mod cpu;
pub mod cpuid;
pub mod crash;
pub mod deadline;
pub mod debug;
mod events;
pub mod insn;
pub mod linear;
pub mod lines;
pub mod linux;
pub mod machine;
pub mod native;
pub mod paging;
pub mod passthrough;
pub mod plain;
pub mod ram;
pub mod resets;
pub mod run;
pub mod string_io;
mod task;
pub mod time;
pub mod windows;
