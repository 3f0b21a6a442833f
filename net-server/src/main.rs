//! The process: takes its rings, builds the server, serves.
#![no_std]
#![no_main]
#![deny(unsafe_code)]

use layout::config::Window;
use mmio::RecordRing;
use net_server::{Hardware, Rings, Server};
use proto::{
    net::{Config, Port, dispatch},
    timer,
};
use rt::{Endpoint, Event};

rt::main!(main);

fn main(config: Config) -> ! {
    let hertz = match timer::Client(Endpoint::at(timer::SERVICE.slot)).frequency() {
        Ok(hertz) => hertz,
        Err(error) => panic!("timer-server: {error:?}"),
    };
    for Port { name, mac, .. } in &config.ports {
        log::info!("{name} is {mac}");
    }
    let rings = config
        .ports
        .iter()
        .map(|port| Rings { input: ring(port.input).consumer(), output: ring(port.output).producer() });
    let mut server = Server::new(Machine { config: &config }, &config, rings, hertz);
    server.on_signal(0);
    rt::serve(|event| match event {
        Event::Call(from, message) => dispatch(&mut server, from, message),
        Event::Signal(bits) => {
            server.on_signal(bits);
            Ok(())
        }
    })
}

fn ring(window: Window) -> RecordRing {
    match RecordRing::new(rt::shared(window)) {
        Ok(ring) => ring,
        Err(error) => panic!("{window:?}: {error:?}"),
    }
}

/// The real machine.
struct Machine<'a> {
    config: &'a Config,
}

impl Hardware for Machine<'_> {
    fn now(&self) -> u64 {
        rt::tsc()
    }
    fn signal(&mut self, port: usize) {
        if let Some(port) = self.config.ports.get(port) {
            rt::signal(port.signal);
        }
    }
    fn again(&mut self) {
        rt::signal(self.config.again);
    }
}
