//! The process: takes its ports and its interrupt, measures the TSC, builds the server, serves.
#![no_std]
#![no_main]
#![deny(unsafe_code)]

use core::arch::x86_64::{__cpuid, __cpuid_count, CpuidResult};

use layout::{Slot, event};
use mmio::Window;
use proto::timer::{Config, Signal, dispatch};
use rt::{Event, Interrupt, IoPorts};
use timer_server::hpet::Hpet;
use timer_server::pit::Pit;
use timer_server::rtc::Rtc;
use timer_server::{ALARM, Hardware, Server, Shots, rate};

rt::main!(main);

/// Scratch slot that receives the interrupt's handler.
const SCRATCH: u16 = 1;

fn main(config: Config) -> ! {
    let pit = Pit::new(IoPorts::new(&config.pit), IoPorts::new(&config.gate));
    let hpet = config.hpet.and_then(|window| Hpet::find(rt::shared(window)));
    let Ok(mut shots) = Shots::find(pit, hpet, rt::tsc) else {
        panic!("neither 8254 nor HPET counts: switch the HPET on in the firmware's set-up");
    };
    let measured = shots.tsc_hz();
    let tsc_hz = rate::told(leaf_15(), measured).unwrap_or(measured);
    shots.set_tsc_hz(tsc_hz);
    let interrupt = match Interrupt::claim(config.line, SCRATCH) {
        Ok(interrupt) => interrupt,
        Err(error) => panic!("no interrupt: {error:?}"),
    };
    let (name, clients) = (shots.name(), config.clients.len());
    log::info!(
        "TSC {}.{:03} MHz, deadlines by the {name}, {clients} clients",
        tsc_hz / 1_000_000,
        tsc_hz / 1_000 % 1_000
    );
    let machine =
        Machine { shots, rtc: Rtc::new(IoPorts::new(&config.rtc)), clients: &config.clients, alarm: config.alarm };
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

/// CPUID leaf 0x15; zeros where there is none.
fn leaf_15() -> CpuidResult {
    if __cpuid(0).eax < 0x15 {
        return CpuidResult { eax: 0, ebx: 0, ecx: 0, edx: 0 };
    }
    __cpuid_count(0x15, 0)
}

/// The real machine.
struct Machine<'a> {
    shots: Shots<IoPorts, IoPorts, Window>,
    rtc: Rtc<IoPorts>,
    clients: &'a [Signal],
    alarm: Option<Slot>,
}

impl Hardware for Machine<'_> {
    fn now(&self) -> u64 {
        rt::tsc()
    }
    fn one_shot(&mut self, ticks: u64) -> u64 {
        self.shots.one_shot(ticks)
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
