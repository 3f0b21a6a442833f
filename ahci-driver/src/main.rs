//! The process: the disk of the AHCI controller that the description gives it.
#![no_std]
#![no_main]
#![deny(unsafe_code)]

use layout::config::Component;

rt::main!(main);

fn main(config: Component) -> ! {
    disk::process::run(&config, ahci_driver::machine::find)
}
