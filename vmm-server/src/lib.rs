//! The server that runs one guest: `run` answers each VM exit, `board` is the guest's machine, `vcpu` each of its
//! processors; `linux` and `boot` load a kernel into its memory. All of this runs in host tests; the binary adds seL4.
#![no_std]
#![forbid(unsafe_code)]

pub mod access;
pub mod answer;
pub mod board;
pub mod boot;
pub mod control;
pub mod crash;
mod debug;
pub mod disk;
mod events;
pub mod functions;
pub mod guest;
pub mod hypercalls;
pub mod insn;
pub mod linear;
pub mod linux;
mod msrs;
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
pub mod vcpu;
pub mod vm;
