//! The process: takes its capabilities, loads the guest, runs it.
#![no_std]
#![no_main]
#![deny(unsafe_code)]

mod process;

use layout::config::Vmm;

rt::main!(main);

fn main(config: Vmm) -> ! {
    process::run(&config)
}
