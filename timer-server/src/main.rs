//! The process: takes its ports and its interrupt, measures the TSC, builds the server, serves.
#![no_std]
#![no_main]
#![deny(unsafe_code)]

use layout::{Slot, event};
use proto::timer::{Config, Signal, dispatch};
use rt::{Event, Interrupt, IoPorts};
use timer_server::pit::{MAX_COUNT, Pit};
use timer_server::rtc::Rtc;
use timer_server::{ALARM, Hardware, Server};

rt::main!(main);

/// Scratch slot that receives the interrupt's handler.
const SCRATCH: u16 = 1;

fn main(config: Config) -> ! {
    let mut pit = Pit::new(IoPorts::new(&config.pit), IoPorts::new(&config.gate));
    // The firmware left channel 0 in a periodic mode, which would interrupt 18 times a second; a one-shot ends it.
    pit.one_shot(MAX_COUNT);
    let tsc_hz = match pit.measure(rt::tsc) {
        Ok(hz) => hz,
        Err(dead) => panic!("8254 channel 2: {dead:?}"),
    };
    let interrupt = match Interrupt::claim(config.line, SCRATCH) {
        Ok(interrupt) => interrupt,
        Err(error) => panic!("no interrupt: {error:?}"),
    };
    log::info!("TSC {}.{:03} MHz, {} clients", tsc_hz / 1_000_000, tsc_hz / 1_000 % 1_000, config.clients.len());
    let machine =
        Machine { pit, rtc: Rtc::new(IoPorts::new(&config.rtc)), clients: &config.clients, alarm: config.alarm };
    let mut server = Server::new(machine, tsc_hz, config.clients.len());
    rt::serve(|event| {
        match event {
            Event::Call(from, message) => return dispatch(&mut server, from, message),
            Event::Signal(bits) => {
                if bits & event::INTERRUPT != 0 {
                    // First, since the shot that `on_interrupt` sets is an edge, which is lost while the line is
                    // masked.
                    interrupt.acknowledge();
                    server.on_interrupt();
                }
                if bits & event::ALARM != 0 {
                    server.on_alarm();
                }
            }
        }
        Ok(())
    })
}

/// The real machine.
struct Machine<'a> {
    pit: Pit<IoPorts, IoPorts>,
    rtc: Rtc<IoPorts>,
    clients: &'a [Signal],
    alarm: Option<Slot>,
}

impl Hardware for Machine<'_> {
    fn now(&self) -> u64 {
        rt::tsc()
    }
    fn one_shot(&mut self, count: u16) {
        self.pit.one_shot(count);
    }
    fn unix_time(&mut self) -> Option<u64> {
        self.rtc.unix_time()
    }
    fn signal(&mut self, client: usize) {
        let slot = if client == ALARM { self.alarm } else { self.clients.get(client).map(|client| client.slot) };
        if let Some(slot) = slot {
            rt::signal(slot);
        }
    }
}
