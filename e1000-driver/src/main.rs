//! The process: finds its controller, starts it, and moves frames whenever the controller or the switch says so.
#![no_std]
#![no_main]
#![deny(unsafe_code)]

use e1000_driver::{Card, Fault, Link, Model, Registers, Uplink};
use layout::{
    config::{Component, Nic},
    event, slot,
};
use proto::pci::{self, Access, Target, Width};
use rt::{Endpoint, Interrupt};

rt::main!(main);

/// The command register of configuration space: memory, bus master, no interrupts.
const COMMAND: u8 = 0x04;
const MEMORY_AND_MASTER: u32 = 1 << 1 | 1 << 2;
const NO_INTERRUPTS: u32 = 1 << 10;
/// Scratch slot of the interrupt's handler.
const HANDLER: u16 = 1;
/// Changes of the link that are logged.
const NOTED: u32 = 32;

static PCI: pci::Client<Endpoint> = pci::Client(Endpoint::at(pci::SERVICE.slot));

fn main(config: Component) -> ! {
    let Some(nic) = config.nics.first() else {
        log::error!("no uplink: the description does not say of which network");
        rt::finish()
    };
    let (mut card, interrupt) = match find(&config) {
        Ok(found) => found,
        Err(why) => {
            log::error!("no uplink: {why}");
            rt::finish()
        }
    };
    let link = card.link();
    match card.mac() {
        Some(mac) => log::info!("{mac}, link {link}"),
        None => log::info!("no address in the EEPROM, link {link}"),
    }
    run(card, nic, interrupt, link)
}

fn run(card: Card<Machine>, nic: &Nic, interrupt: Interrupt, mut link: Link) -> ! {
    let mut uplink = Uplink::new(card, rt::records(nic.output).producer(), rt::records(nic.input).consumer());
    let mut changes = 0;
    interrupt.acknowledge();
    loop {
        while {
            let more = uplink.turn();
            if uplink.must_signal() {
                rt::signal(slot::nic(0));
            }
            more
        } {}
        if rt::wait() & event::line(0) == 0 {
            continue;
        }
        if uplink.card().take_interrupt() {
            let now = uplink.card().link();
            if now != link && changes < NOTED {
                changes += 1;
                log::info!("link {now}");
            }
            link = now;
        }
        interrupt.acknowledge();
    }
}

/// Why there is no controller.
type Why = &'static str;

/// The description's controller, and its interrupt.
fn find(config: &Component) -> Result<(Card<Machine>, Interrupt), Why> {
    let granted = PCI.grant(0).ok().flatten().ok_or("pci-server has no function for it, and says why")?;
    let function = granted.function;
    let model = Model::of(function.vendor, function.device).ok_or("the function is no 82540EM and no 82574")?;
    let (Some(bar), Some(Access::Mediated)) = (function.bars[0], granted.bars.first()) else {
        return Err("the registers cannot be accessed: write access = \"mediated\"");
    };
    let (memory, bus) = config.dma.ok_or("the description has no dma_memory for it")?;
    let line = config.lines.first().ok_or("the function has no interrupt")?;
    let interrupt = Interrupt::claim(line.line, HANDLER).map_err(|_| "irq-server refuses the interrupt")?;
    let command = Target::Config { function: 0, offset: COMMAND };
    let enabled = PCI
        .read(command, Width::Word)
        .and_then(|old| PCI.write(command, Width::Word, old & !NO_INTERRUPTS | MEMORY_AND_MASTER));
    enabled
        .map_err(|_| "pci-server does not let it be bus master: write dma = \"trusted\", or pci_devices_iospace = 1")?;
    let card =
        Card::start(Machine { base: bar.base }, model, rt::shared(memory), bus).map_err(|fault| match fault {
            Fault::Memory => "dma_memory is too small: it takes 36 KiB at least",
            Fault::Silent => "the controller does not come out of its reset",
        })?;
    Ok((card, interrupt))
}

/// The registers, through pci-server.
#[derive(Debug)]
struct Machine {
    base: u64,
}

/// What pci-server refuses reads as a controller that is not there does.
impl Registers for Machine {
    fn read(&mut self, at: u32) -> u32 {
        PCI.read(Target::Memory(self.base + u64::from(at)), Width::Dword).unwrap_or(u32::MAX)
    }

    fn write(&mut self, at: u32, value: u32) {
        let written = PCI.write(Target::Memory(self.base + u64::from(at)), Width::Dword, value);
        debug_assert!(written.is_ok());
    }
}
