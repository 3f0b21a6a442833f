//! The process: takes its windows, builds the server, serves.
#![no_std]
#![no_main]
#![deny(unsafe_code)]

use fileserver::Server;
use proto::file::{Config, dispatch};
use rt::Event;

rt::main!(main);

fn main(config: Config) -> ! {
    let mut server = Server::new(&config, rt::shared);
    let (images, bytes) = server.totals();
    log::info!("{images} images, {} KiB, for {} clients", bytes.div_ceil(1024), config.clients.len());
    rt::serve(|event| match event {
        Event::Call(from, message) => dispatch(&mut server, from, message),
        Event::Signal(_) => Ok(()),
    })
}
