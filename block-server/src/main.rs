//! The process: builds the server, and has it work whenever a ring has changed.
#![no_std]
#![no_main]
#![deny(unsafe_code)]

use block_server::Server;
use proto::{block::Config, file, wire::IpcError};
use rt::{Endpoint, Event};

rt::main!(main);

fn main(config: Config) -> ! {
    let mut server = match Server::new(&config, rt::shared, Endpoint::at(file::SERVICE.slot)) {
        Ok(server) => server,
        Err(error) => panic!("rings: {error:?}"),
    };
    server.step(rt::signal);
    rt::serve(|event| match event {
        // All goes through the rings.
        Event::Call(..) => Err(IpcError::UnknownLabel),
        Event::Signal(bits) => {
            server.end(bits);
            server.step(rt::signal);
            Ok(())
        }
    })
}
