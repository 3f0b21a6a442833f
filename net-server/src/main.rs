//! The process: takes its rings, builds the server, serves.
#![no_std]
#![no_main]
#![deny(unsafe_code)]

use net_server::{Hardware, Rings, Server};
use proto::{
    net::{Config, Port},
    timer, vsock,
    wire::IpcError,
};
use rt::{Endpoint, Event};

rt::main!(main);

fn main(config: Config) -> ! {
    let time = timer::Client(Endpoint::at(timer::SERVICE.slot));
    let hertz = match time.frequency() {
        Ok(hertz) => hertz,
        Err(error) => panic!("timer-server: {error:?}"),
    };
    for Port { name, mac, .. } in &config.ports {
        log::info!("{name} is {mac}");
    }
    for vsock::Port { name, cid, .. } in &config.sockets {
        log::info!("{name} is CID {cid}");
    }
    let ports = config.ports.iter().map(|port| (port.input, port.output));
    let sockets = config.sockets.iter().map(|port| (port.input, port.output));
    let rings = ports.chain(sockets);
    let rings = rings
        .map(|(input, output)| Rings { input: rt::records(input).consumer(), output: rt::records(output).producer() });
    let mut server = Server::new(Machine { config: &config, time }, &config, rings, hertz);
    server.on_signal(0);
    rt::serve(|event| match event {
        Event::Call(..) => Err(IpcError::UnknownLabel),
        Event::Signal(bits) => {
            server.on_signal(bits);
            Ok(())
        }
    })
}

/// The real machine.
struct Machine<'a> {
    config: &'a Config,
    time: timer::Client<Endpoint>,
}

impl Hardware for Machine<'_> {
    fn now(&self) -> u64 {
        rt::tsc()
    }
    fn signal(&mut self, port: usize) {
        let Config { ports, sockets, .. } = self.config;
        let signals = ports.iter().map(|port| port.signal).chain(sockets.iter().map(|port| port.signal));
        if let Some(signal) = signals.skip(port).next() {
            rt::signal(signal);
        }
    }
    fn again(&mut self) {
        rt::signal(self.config.again);
    }
    fn alarm(&mut self, at: u64) {
        if let Err(error) = self.time.arm(at) {
            log::error!("timer-server: {error:?}");
        }
    }
}
