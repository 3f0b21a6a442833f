//! The process: takes its ports, rings and interrupt, builds the server, serves.
#![no_std]
#![no_main]
#![deny(unsafe_code)]

use layout::{Slot, event, limits::MAX_STREAMS, slot};
use mmio::{Ring, Window};
use proto::{
    serial::{Config, RingKind, SerialRing, dispatch},
    timer,
};
use rt::{Endpoint, Event, Interrupt, IoPorts};
use serial_server::uart::Uart;
use serial_server::{Hardware, Managed, Reception, Server, Settings, Stream};

rt::main!(main, log: own);

/// Scratch slot that receives the interrupt's handler.
const SCRATCH: u16 = 1;

fn main(config: Config) -> ! {
    let uart = Uart::new(IoPorts::new(&config.uart), config.uart.first, config.baud);
    let interrupt = match Interrupt::claim(config.line, SCRATCH) {
        Ok(interrupt) => interrupt,
        Err(error) => panic!("no interrupt: {error:?}"),
    };
    let clients = config.rings.iter().map(|ring| ring.input.map(|(_, slot)| slot)).collect();
    let own = Stream {
        name: name("serial-server"),
        kind: RingKind::Log,
        output: ring(rt::logger::own()).consumer(),
        input: None,
    };
    let streams = config.rings.iter().map(stream).chain([own]);
    let settings = Settings { hertz: hertz(), colours: config.colours };
    let answers = ring(rt::logger::answers());
    let managed = config.managed.iter().map(|vm| Managed { name: vm.name.clone(), page: rt::shared(vm.page) });
    let mut server = Server::new(Machine { uart, interrupt, clients }, streams, managed, answers, settings);
    log::info!("{} baud at {:#x}, {} streams", config.baud, config.uart.first, config.rings.len());
    // The UART may have raised its edge before the line was claimed; serving it once clears that.
    server.on_interrupt();
    rt::serve(|event| {
        match event {
            Event::Call(from, message) => return dispatch(&mut server, from, message),
            Event::Signal(bits) => {
                if bits & event::TIMER != 0 {
                    server.on_alarm();
                }
                if bits & event::INTERRUPT != 0 {
                    server.on_interrupt();
                } else {
                    // An interrupt also polls all rings, so a doorbell at the same time is served already.
                    server.on_doorbell();
                }
            }
        }
        Ok(())
    })
}

/// Rate of the TSC.
fn hertz() -> u64 {
    match timer::Client(Endpoint::at(timer::SERVICE.slot)).frequency() {
        Ok(hertz) => hertz,
        Err(error) => panic!("no rate of the TSC: {error:?}"),
    }
}

fn name(text: &str) -> layout::config::Name {
    text.try_into().unwrap_or_default()
}

fn ring(window: Window) -> Ring {
    match Ring::new(window) {
        Ok(ring) => ring,
        Err(error) => panic!("{window:?}: {error:?}"),
    }
}

fn stream(config: &SerialRing) -> Stream {
    Stream {
        name: config.name.clone(),
        kind: config.kind,
        output: ring(rt::shared(config.output)).consumer(),
        input: config.input.map(|(window, _)| ring(rt::shared(window)).producer()),
    }
}

/// The real machine.
struct Machine {
    uart: Uart<IoPorts>,
    interrupt: Interrupt,
    /// By stream: how to signal its client.
    clients: heapless::Vec<Option<Slot>, MAX_STREAMS>,
}

impl Hardware for Machine {
    fn receive(&mut self) -> Option<u8> {
        self.uart.receive()
    }
    fn room(&mut self) -> usize {
        self.uart.room()
    }
    fn send(&mut self, bytes: &[u8]) {
        self.uart.send(bytes);
    }
    fn unsent(&mut self) -> usize {
        self.uart.unsent()
    }
    fn accept(&mut self, reception: Reception) {
        self.uart.accept(reception);
    }
    fn acknowledge(&mut self) -> bool {
        self.interrupt.acknowledge();
        self.uart.interrupting()
    }
    fn overruns(&self) -> u64 {
        self.uart.overruns()
    }
    fn now(&self) -> u64 {
        rt::tsc()
    }
    fn alarm(&mut self, at: u64) {
        // If timer-server fails, the bytes are printed at the next event.
        let armed = timer::Client(Endpoint::at(timer::SERVICE.slot)).arm(at);
        debug_assert!(armed.is_ok());
    }
    fn signal(&mut self, stream: usize) {
        if let Some(Some(slot)) = self.clients.get(stream) {
            rt::signal(*slot);
        }
    }
    fn signal_vm(&mut self, managed: usize) {
        rt::signal(slot::managed(managed));
    }
    fn dump_scheduler(&mut self) -> bool {
        rt::dump_scheduler()
    }
}
