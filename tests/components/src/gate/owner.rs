//! The owner of two cards: in each round it checks its memory and registers, changes them, and sends a frame, which
//! interrupts. It continues while the intruder is active: until the intruder's card has interrupted for a while on the
//! line that they share, and has stopped.

use layout::config::Component;
use layout::event;
use proto::pci::{Target, Width};
use proto::timer;
use rt::{Endpoint, Interrupt, IoPorts, tsc};

use super::ne2000::{MEMORY, Ne2000};
use super::{HZ, OWNERS_MEMORY, Places, grant, pci};
use crate::verdict::{Verdict, flush};

/// Slots of the scratch CNode: the port capability, the interrupt handler.
const PORTS: u16 = 1;
const HANDLER: u16 = 2;
/// Time between two rounds.
const PAUSE: u64 = HZ / 200;
/// Timeout for an interrupt: longer than the ten milliseconds that other owners of the line have.
const INTERRUPT_TIMEOUT: u64 = HZ / 10;
/// Timeout for the intruder.
const INTRUDER_TIMEOUT: u64 = 60 * HZ;
/// Interrupts of the other card after which the owner has seen enough.
const FOREIGN: u32 = 100;
/// Interrupts that may be missing: the emulated I/O APIC keeps only the last level that was set on a line, so it drops
/// the one card's interrupt when the other card deasserts its own, which happens when the intruder's card is reset.
const LOST: u32 = 2;
/// Minimum number of rounds before, while and after the other card interrupts.
const ROUNDS: [u32; 3] = [20, 50, 20];

/// The hardware addresses of the first and the third card (build/src/bochs/config.rs).
const ADDRESS: [u8; 6] = [0x52, 0x54, 0x00, 0x12, 0x34, 0x56];
const OTHER_ADDRESS: [u32; 3] = [0x5452, 0x1200, 0x5834];
/// Registers of the 82540EM (manual 317453, section 13.4): EEPROM read, with its start and done bits; the first of the
/// multicast table, a register like memory.
const EEPROM_READ: u64 = 0x0014;
const EEPROM_START: u32 = 1 << 0;
const EEPROM_DONE: u32 = 1 << 4;
const TABLE: u64 = 0x5200;
/// Configuration space: ID, command, first base address register.
const ID: u8 = 0;
const COMMAND: u8 = 4;
const BAR: u8 = 0x10;

/// Runs the owner.
pub fn work(config: &Component) {
    let mut verdict = Verdict::default();
    if let Some(mut owner) = Owner::new(&mut verdict, config) {
        log::info!("at work");
        owner.rounds(&mut verdict);
    }
    verdict.close();
}

struct Owner {
    card: Ne2000,
    line: Interrupt,
    event: u64,
    /// Command register of the other card.
    command: u32,
    /// Interrupts of other cards.
    foreign: u32,
    /// Missing interrupts of its card.
    lost: u32,
    round: u32,
}

impl Owner {
    fn new(verdict: &mut Verdict, config: &Component) -> Option<Self> {
        let places = Places::find(verdict, 1, 2)?;
        let base = places.owners_card;
        let card = grant(verdict, 0, None, base)?;
        grant(verdict, 1, Some(OWNERS_MEMORY), places.owners())?;
        log::info!("ports {base:#x}, {:#x}", places.owners());
        let line = card.lines.first()?.line;
        let position = config.lines.iter().position(|known| known.line == line)?;
        let ports = proto::pci::Client(Endpoint::at(proto::pci::SERVICE.slot).receive_into(PORTS)).take_ports(base);
        verdict.holds("its ports", ports.is_ok());
        let interrupt = Interrupt::claim(line, HANDLER);
        verdict.holds("its line is shared", matches!(interrupt, Ok(Interrupt::Shared(_))));
        let command = pci().read(Target::Config { function: 1, offset: COMMAND }, Width::Word).ok()?;
        let card = Ne2000::start(IoPorts::at(ports.ok()?), base);
        Some(Self { card, line: interrupt.ok()?, event: event::line(position), command, foreign: 0, lost: 0, round: 0 })
    }

    fn rounds(&mut self, verdict: &mut Verdict) {
        let (start, mut longest) = (tsc(), 0);
        let mut counts = [0; 3];
        let mut phase = 0;
        while phase < counts.len() && tsc() - start < INTRUDER_TIMEOUT {
            let (foreign, begun) = (self.foreign, tsc());
            self.round(verdict);
            longest = longest.max(tsc() - begun);
            self.until(tsc() + PAUSE, |_| false);
            counts[phase] += 1;
            let over = match phase {
                0 => self.foreign >= FOREIGN,
                1 => self.foreign == foreign,
                _ => true,
            };
            if over && counts[phase] >= ROUNDS[phase] {
                phase += 1;
            }
        }
        for (count, least) in counts.into_iter().zip(ROUNDS) {
            verdict.holds("rounds before, while and after the other card interrupts", count >= least);
        }
        verdict.holds("interrupts of its own", self.lost <= LOST);
        let longest = longest / (HZ / 1_000);
        log::info!("{counts:?} rounds, {} foreign interrupts, {} lost", self.foreign, self.lost);
        log::info!("the longest round took {longest} ms");
        flush();
    }

    fn round(&mut self, verdict: &mut Verdict) {
        self.round += 1;
        verdict.equal("the station address", self.card.station_address(), ADDRESS);
        let written: [u8; 64] = core::array::from_fn(|n| (n as u32 * 7 + self.round) as u8);
        let mut read = [0; 64];
        self.card.write_memory(MEMORY, &written);
        self.card.read_memory(MEMORY, &mut read);
        verdict.equal("the card's memory", read, written);
        self.card.send();
        if !self.until(tsc() + INTERRUPT_TIMEOUT, Ne2000::take_sent) {
            verdict.holds("a frame is sent", self.card.take_sent());
            self.lost += 1;
        }
        self.other_card(verdict);
    }

    /// The mediated card.
    fn other_card(&self, verdict: &mut Verdict) {
        let register = |at| Target::Memory(OWNERS_MEMORY + at);
        for (word, expected) in (0..).zip(OTHER_ADDRESS) {
            let begun = pci().write(register(EEPROM_READ), Width::Dword, word << 8 | EEPROM_START);
            verdict.equal("a write", begun, Ok(()));
            let read = pci().read(register(EEPROM_READ), Width::Dword);
            let done = Ok(expected << 16 | word << 8 | EEPROM_DONE);
            verdict.equal("the other's address", read.map(|read| read & !EEPROM_START), done);
        }
        let config = |offset, width| pci().read(Target::Config { function: 1, offset }, width);
        verdict.equal("the other's ID", config(ID, Width::Dword), Ok(0x100e_8086));
        verdict.equal("the other's command", config(COMMAND, Width::Word), Ok(self.command));
        verdict.equal("the other's base address", config(BAR, Width::Dword), Ok(OWNERS_MEMORY as u32));
        if self.round > 1 {
            let last = pci().read(register(TABLE), Width::Dword);
            verdict.equal("what was written in the last round", last, Ok(self.round - 1));
        }
        let written = pci().write(register(TABLE), Width::Dword, self.round);
        verdict.equal("a write", written, Ok(()));
    }

    /// Waits for an interrupt after which `done` is true; returns whether it came before `deadline`.
    fn until(&mut self, deadline: u64, done: impl Fn(&mut Ne2000) -> bool) -> bool {
        let timer = timer::Client(Endpoint::at(timer::SERVICE.slot));
        while tsc() < deadline && timer.arm(deadline).is_ok() {
            if rt::wait() & self.event == 0 {
                continue;
            }
            let over = done(&mut self.card);
            self.foreign += u32::from(!over);
            self.line.acknowledge();
            if over {
                return true;
            }
        }
        false
    }
}
