//! The process: the disk of the IDE controller that the description gives it.
#![no_std]
#![no_main]
#![deny(unsafe_code)]

use layout::config::Component;

rt::main!(main);

fn main(config: Component) -> ! {
    disk::process::run(&config, ide_driver::machine::find)
}
