//! The process: takes its capabilities, loads the guest, runs it.
#![no_std]
#![no_main]
#![deny(unsafe_code)]

mod backend;
mod entropy;
mod handover;
mod placement;
mod tally;
mod vm;

use layout::config::Vmm;

rt::main!(main);

fn main(config: Vmm) -> ! {
    vm::run(&config)
}
