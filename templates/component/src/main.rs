//! The process. It has what the description gives it, and nothing else: this one has its log.
#![no_std]
#![no_main]
#![deny(unsafe_code)]

use my_component::Greeting;
use portcullis::{layout::config::Component, log, rt};

rt::main!(main);

fn main(config: Component) -> ! {
    log::info!("{}", Greeting(&config.args));
    rt::finish()
}
