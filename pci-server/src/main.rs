//! The process: takes the configuration ports, lists the machine, serves.
#![no_std]
#![no_main]
#![deny(unsafe_code)]

use layout::config::Pci;
use pci_server::{Server, config_space::Mechanism1, scan};
use proto::pci::dispatch;
use rt::{Event, IoPorts};

rt::main!(main);

fn main(config: Pci) -> ! {
    let mut space = Mechanism1::new(IoPorts::new(&config.config));
    if !space.is_there() {
        log::error!("no PCI configuration mechanism 1: the machine looks empty");
    }
    let listing = scan(&mut space);
    log::info!("{} functions, {} clients", listing.functions.len(), config.clients.len());
    if listing.left_out > 0 {
        log::warn!("{} more functions do not fit the list", listing.left_out);
    }
    let mut server = Server::new(listing, &config);
    rt::serve(|event| match event {
        Event::Call(from, message) => dispatch(&mut server, from, message),
        Event::Signal(_) => Ok(()),
    })
}
