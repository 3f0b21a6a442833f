//! The intruder: owner of two cards, and a client of pci-server and irq-server like any vmm-server. It requests
//! everything that belongs to others, and operations that no client may perform; then it never serves a shared
//! interrupt line; and at last it executes an I/O instruction without a capability to the port.
//!
//! pci-server logs each of the first sixteen refusals; build/src/tests/gate.rs lists the expected lines.

use layout::slot;
use proto::irq::{self, Route};
use proto::pci::{Client, Error, TakeFrame, Target, Width};
use proto::supervisor::Request;
use proto::timer;
use proto::wire::{Call, Message, Transport};
use rt::{Endpoint, Interrupt, IoPorts, tsc};

use super::ne2000::Ne2000;
use super::{GUESTS_MEMORY, HZ, INTRUDERS_MEMORY, OWNERS_MEMORY, Places, grant, pci};
use crate::fault;
use crate::verdict::{Verdict, flush};

/// Slots of the scratch CNode: for capabilities that it may receive, and for those that it must not.
const PORTS: u16 = 1;
const HANDLER: u16 = 2;
const LOOT: u16 = 3;
/// Lines of the system: two of the servers', and two for each of the five cards. Its own lines, and those of them with
/// a route: a card has one interrupt.
const LINES: u8 = 12;
const OWN_LINES: u32 = 0b1111 << 8;
const OWN_INTERRUPTS: u32 = 0b0101 << 8;
/// Number of its refused requests: a power of two, so that the last one is logged.
const REFUSALS: u32 = 1024;
/// Time for which its card interrupts without being served.
const NEGLECT: u64 = 3 * HZ;

/// A request that pci-server has to refuse.
#[derive(Clone, Copy, Debug)]
enum Attempt {
    List,
    Read(Target, Width),
    Write(Target, Width, u32),
    Ports(u16),
    Frame(TakeFrame),
}
use Attempt::{Frame, List, Ports, Read, Write};

const fn config(function: u8, offset: u8) -> Target {
    Target::Config { function, offset }
}

/// Its own functions: 0 is mediated, 1 is the NE2000. The first page of the first's memory.
const OWN_FRAME: TakeFrame = TakeFrame { function: 0, bar: 0, page: 0 };
const BAR: u8 = 0x10;
const COMMAND: u8 = 0x04;
const DECODE_AND_MASTER: u32 = 0b111;

/// All attempts, and why they fail. Its own functions' registers show the owner's memory and ports meanwhile.
fn attempts(places: Places) -> [(Attempt, Error); 37] {
    let (owners_card, intruders_card) = (places.owners_card, places.intruders_card());
    [
        // One of each kind.
        (List, Error::NotAllowed),
        (Read(config(2, 0), Width::Dword), Error::NotYours),
        (Read(Target::Port(owners_card), Width::Byte), Error::NotYours),
        (Write(Target::Port(places.guests()), Width::Dword, 0), Error::NotYours),
        (Ports(owners_card), Error::NotYours),
        (Ports(0x1f0), Error::NotYours),
        (Read(Target::Port(0xcf8), Width::Dword), Error::NotYours),
        (Ports(0xcf8), Error::NotYours),
        (Read(Target::Memory(OWNERS_MEMORY), Width::Dword), Error::NotYours),
        (Write(Target::Memory(GUESTS_MEMORY), Width::Dword, 0), Error::NotYours),
        (Frame(OWN_FRAME), Error::NotYours),
        (Write(config(0, COMMAND), Width::Word, DECODE_AND_MASTER), Error::NoDma),
        (Read(Target::Port(intruders_card + 31), Width::Word), Error::Straddles),
        (Read(Target::Memory(INTRUDERS_MEMORY + 0x1_ffff), Width::Word), Error::Straddles),
        // More of them.
        (Write(config(2, COMMAND), Width::Word, DECODE_AND_MASTER), Error::NotYours),
        (Write(config(0xff, BAR), Width::Dword, 0), Error::NotYours),
        (Write(Target::Port(owners_card + 31), Width::Byte, 0), Error::NotYours),
        (Read(Target::Port(places.owners() + places.each - 1), Width::Byte), Error::NotYours),
        (Write(Target::Port(0x1f7), Width::Byte, 0xe7), Error::NotYours),
        (Write(Target::Port(0xcf8), Width::Dword, 0x8000_1010), Error::NotYours),
        (Write(Target::Port(0x8900), Width::Byte, 0x53), Error::NotYours),
        (Read(Target::Port(0x3f8), Width::Byte), Error::NotYours),
        (Ports(places.guests()), Error::NotYours),
        (Ports(0x8900), Error::NotYours),
        (Ports(0x20), Error::NotYours),
        (Ports(intruders_card + 1), Error::NotYours),
        (Ports(places.intruders()), Error::NotYours),
        (Write(Target::Memory(OWNERS_MEMORY + 0x1_fffc), Width::Dword, 0), Error::NotYours),
        (Read(Target::Memory(0x10_0000), Width::Dword), Error::NotYours),
        (Read(Target::Memory(0xfec0_0000), Width::Dword), Error::NotYours),
        (Read(Target::Memory(u64::MAX), Width::Byte), Error::NotYours),
        (Frame(TakeFrame { function: 1, ..OWN_FRAME }), Error::NotYours),
        (Frame(TakeFrame { function: 2, ..OWN_FRAME }), Error::NotYours),
        (Frame(TakeFrame { page: 32, ..OWN_FRAME }), Error::NotYours),
        (Write(config(1, COMMAND), Width::Byte, DECODE_AND_MASTER), Error::NoDma),
        (Read(config(0, 0xfe), Width::Dword), Error::Straddles),
        (Write(Target::Memory(INTRUDERS_MEMORY + 0x1_fffe), Width::Dword, 0), Error::Straddles),
    ]
}

/// Runs the intruder.
pub fn intrude() {
    let mut verdict = Verdict::default();
    match Places::find(&mut verdict, 0, 3) {
        Some(places) => intrude_at(places, verdict),
        None => verdict.close(),
    }
}

fn intrude_at(places: Places, mut verdict: Verdict) {
    let own = [
        grant(&mut verdict, 0, Some(INTRUDERS_MEMORY), places.intruders()),
        grant(&mut verdict, 1, None, places.intruders_card()),
    ];
    log::info!("ports {:#x}, {:#x}", places.intruders(), places.intruders_card());
    let lines = own.map(|grant| Some(grant?.lines.first()?.line));
    log::info!("begins");
    verdict.equal("functions behind its own", pci().grant(2), Ok(None));
    set_bases(&mut verdict, OWNERS_MEMORY as u32, places.owners_card);
    let attempts = attempts(places);
    for (attempt, error) in attempts {
        let refused = refused(attempt);
        if refused != Some(error) {
            log::error!("{attempt:x?}");
        }
        verdict.equal("an attempt", refused, Some(error));
        pause();
    }
    unmoved(&mut verdict, places.intruders_card());
    for _ in attempts.len() as u32..REFUSALS {
        verdict.equal("one more", refused(Ports(places.owners_card)), Some(Error::NotYours));
    }
    let card = revoked(&mut verdict, places.intruders_card());
    let line = foreign_lines(&mut verdict, lines);
    flush();
    ask_root_task(&mut verdict, places.owners_card);
    log::info!("verdict follows; the card is neglected from here on");
    verdict.close();
    if let (Some(card), Some(_)) = (card, line) {
        neglect(card);
    }
    fault::fault("configuration");
}

/// Waits, so that each attempt falls between two rounds of the owner.
fn pause() {
    sleep(HZ / 200);
}

fn sleep(ticks: u64) {
    let deadline = tsc() + ticks;
    while tsc() < deadline && timer::Client(Endpoint::at(timer::SERVICE.slot)).arm(deadline).is_ok() {
        rt::wait();
    }
}

/// The error of an attempt, if it failed.
fn refused(attempt: Attempt) -> Option<Error> {
    let taking = Client(Endpoint::at(proto::pci::SERVICE.slot).receive_into(LOOT));
    match attempt {
        List => pci().function(0).err(),
        Read(target, width) => pci().read(target, width).err(),
        Write(target, width, value) => pci().write(target, width, value).err(),
        Ports(first) => taking.take_ports(first).err(),
        Frame(frame) => taking.take_frame(frame).err(),
    }
}

/// Writes other addresses to the BARs of its functions.
fn set_bases(verdict: &mut Verdict, memory: u32, ports: u16) {
    for (function, base) in [(0, memory), (1, u32::from(ports) | 1)] {
        verdict.equal("moving a base address", pci().write(config(function, BAR), Width::Dword, base), Ok(()));
        verdict.equal("its base address", pci().read(config(function, BAR), Width::Dword), Ok(base));
    }
}

/// Whatever its registers show, its devices are where they were; what it could not change is as it was.
fn unmoved(verdict: &mut Verdict, base: u16) {
    verdict.holds("its own memory", pci().read(Target::Memory(INTRUDERS_MEMORY), Width::Dword).is_ok());
    verdict.holds("its own ports", pci().read(Target::Port(base), Width::Byte).is_ok());
    set_bases(verdict, INTRUDERS_MEMORY as u32, base);
    for function in 0..2 {
        let command = pci().read(config(function, COMMAND), Width::Word);
        verdict.equal("bus master", command.map(|command| command & 0b100), Ok(0));
    }
}

/// A port capability of its own works until it is given back, and cannot be kept; then it is taken again.
fn revoked(verdict: &mut Verdict, base: u16) -> Option<Ne2000> {
    let take = || Client(Endpoint::at(proto::pci::SERVICE.slot).receive_into(PORTS)).take_ports(base);
    let ports = IoPorts::at(take().ok()?);
    verdict.holds("its own ports", ports.cap().ioport_in8(base).is_ok());
    verdict.holds("the port behind them", ports.cap().ioport_in8(base + 32).is_err());
    verdict.holds("two ports at their end", ports.cap().ioport_in16(base + 31).is_err());
    verdict.equal("giving back", pci().release(), Ok(()));
    verdict.holds("its ports when given back", ports.cap().ioport_in8(base).is_err());
    let again = take();
    verdict.holds("its ports again", again.is_ok());
    Some(Ne2000::start(IoPorts::at(again.ok()?), base))
}

/// Tries to claim lines of others. Returns its card's own line, claimed.
fn foreign_lines(verdict: &mut Verdict, own: [Option<u8>; 2]) -> Option<Interrupt> {
    let server = irq::Client(Endpoint::at(irq::SERVICE.slot).receive_into(LOOT));
    verdict.equal("lines of its own", server.lines(), Ok(OWN_INTERRUPTS));
    let route = Route { ioapic: 0, pin: 17, level: true, active_low: true };
    for line in (0..=LINES).rev().filter(|line| OWN_LINES & 1 << line == 0) {
        let expected = if line < LINES { irq::Error::NotOwner } else { irq::Error::NoSuchLine };
        verdict.equal("a line of another's", server.claim(line), Err(expected));
        verdict.equal("an answer for another", server.done(line), Err(expected));
        verdict.equal("a route of another's", server.set_route(line, route), Err(irq::Error::NotOwner));
    }
    let [Some(alone), Some(shared)] = own else {
        verdict.holds("lines of its cards", false);
        return None;
    };
    verdict.equal("a route of its own", server.set_route(shared, route), Err(irq::Error::NotOwner));
    let claimed = Interrupt::claim(alone, HANDLER);
    verdict.holds("a line of its own alone", matches!(claimed, Ok(Interrupt::Alone(_))));
    let claimed = Interrupt::claim(shared, HANDLER + 2);
    verdict.holds("a shared line", matches!(claimed, Ok(Interrupt::Shared(_))));
    verdict.equal("an answer to nothing", irq::Client(Endpoint::at(irq::SERVICE.slot)).done(shared), Ok(()));
    claimed.ok()
}

/// root-task gives ports to pci-server alone. A notice's way there is one way, so no answer is awaited.
fn ask_root_task(verdict: &mut Verdict, owners_card: u16) {
    let request = Request::Ports { first: owners_card, last: owners_card + 31, slot: LOOT };
    let mut message = Message::EMPTY;
    verdict.equal("a message", message.encode(Request::LABEL, &request), Ok(()));
    Endpoint::at(slot::SUPERVISOR).send(&message);
}

/// Has its card interrupt, and neither serves it nor sends `Done`. It transmits in a loop, since the emulated line
/// loses the card's level (see `owner`).
fn neglect(mut card: Ne2000) {
    let end = tsc() + NEGLECT;
    while tsc() < end {
        card.send();
        sleep(HZ / 1_000);
    }
}
