//! DMA behind an IOMMU: a disk's owner reaches its own memory through it and nothing else, whatever address it gives
//! the device. Another component watches the memory that the first one targets; a third has a card without permission
//! for bus mastering. build/src/tests/iommu.rs compares their output with the emulator's state.

use layout::config::Component;
use layout::event;
use mmio::Window;
use proto::pci::{Access, Bar, BarKind, Client, Error, Function, Target, Width};
use proto::timer;
use rt::{Endpoint, Interrupt, tsc};

use crate::ahci::{Ata, Disk, FREE, Fault};
use crate::verdict::{Verdict, flush};

/// The command register, and in it bus mastering.
const COMMAND: u8 = 0x04;
const BUS_MASTER: u32 = 1 << 2;
/// The BAR of AHCI's registers.
const AHCI_BAR: usize = 5;
/// Scratch slot for the interrupt handler.
const HANDLER: u16 = 1;
/// Bytes of a sector; offsets in the data of [`Ata::Identify`]: the model's name, and the number of sectors.
const SECTOR: u64 = 512;
const MODEL: u64 = 2 * 27;
const MODEL_LENGTH: usize = 40;
const SECTORS: u64 = 2 * 100;
/// The pattern of memory without DMA.
const UNTOUCHED: u64 = 0x7070_7070_7070_7070;
/// The pattern of the watched memory.
const CANARY: u64 = 0x6361_6e61_7279_2121;
/// Sectors to read, and one to write.
const READ: u32 = 5;
const WRITTEN: u32 = 9;

fn pci() -> Client<Endpoint> {
    Client(Endpoint::at(proto::pci::SERVICE.slot))
}

/// Lists the machine.
pub fn list() {
    for index in 0.. {
        let Ok(Some(function)) = pci().function(index) else { break };
        let Function { address, vendor, device, subsystem, class, pin, .. } = function;
        log::info!(
            "function {address} {vendor:04x}:{device:04x} {:04x}:{:04x} class {:02x}{:02x} pin {pin}",
            subsystem.0,
            subsystem.1,
            class[0],
            class[1],
        );
        for (n, bar) in function.bars.iter().enumerate() {
            let Some(Bar { kind, base, size }) = bar else { continue };
            let kind = match kind {
                BarKind::Io => "io",
                BarKind::Memory32 { .. } => "memory",
                BarKind::Memory64 { .. } => "memory64",
            };
            log::info!("bar {address} {n} {kind} {base:#x} {size:#x}");
        }
        flush();
    }
    log::info!("listed");
    flush();
}

/// A disk's owner. `outside` is an address of another component's memory. It raises interrupts only if told so: not every
/// kernel survives that (`interrupts` in docs/kernel-defects.md).
pub fn owner(verdict: &mut Verdict, config: &Component, outside: u64, raise: bool) {
    list();
    let Some((memory, bus)) = config.dma.map(|(window, bus)| (rt::shared(window), bus)) else {
        return verdict.holds("memory for devices", false);
    };
    match disk(verdict, config, (memory, bus)) {
        Ok(mut disk) => {
            let tried = inside(verdict, &mut disk, (memory, bus))
                .and_then(|()| beyond(verdict, &mut disk, (memory, bus), outside))
                .and_then(|()| if raise { interrupts(verdict, &mut disk) } else { Ok(()) })
                .and_then(|()| identify(verdict, &mut disk, (memory, bus)));
            verdict.equal("the disk", tried, Ok(()));
            verdict.holds("an interrupt for each command", disk.interrupts >= 8);
        }
        Err(fault) => verdict.equal("the disk starts", Err(fault), Ok(())),
    }
}

/// Sets up the disk, after enabling bus mastering.
fn disk(verdict: &mut Verdict, config: &Component, memory: (Window, u64)) -> Result<Disk, Fault> {
    let grant = pci().grant(0)?.ok_or(Error::NotYours)?;
    verdict.equal("registers are mediated", grant.bars[AHCI_BAR], Access::Mediated);
    verdict.equal("no other function", pci().grant(1), Ok(None));
    let registers = grant.function.bars[AHCI_BAR].ok_or(Error::NotYours)?.base;
    let command = Target::Config { function: 0, offset: COMMAND };
    let off = pci().read(command, Width::Word)?;
    verdict.equal("bus mastering is off at the start", off & BUS_MASTER, 0);
    pci().write(command, Width::Word, off | BUS_MASTER)?;
    verdict.equal("bus mastering is on", pci().read(command, Width::Word)?, off | BUS_MASTER);
    let line = config.lines.first().map_or(0, |line| line.line);
    let interrupt = Interrupt::claim(line, HANDLER);
    verdict.holds("the interrupt line", interrupt.is_ok());
    Disk::start(registers, memory, interrupt.map_err(|_| Fault::NoInterrupt)?)
}

/// Fills all memory that the driver does not use with [`UNTOUCHED`].
fn blank(memory: Window) -> Result<(), Fault> {
    Ok(memory.fill(FREE, memory.len() - FREE, UNTOUCHED as u8)?)
}

/// Whether the bytes from `at` to the end still have the pattern of `blank`.
fn untouched(memory: Window, at: u64) -> bool {
    (at..memory.len()).step_by(8).all(|at| memory.read_u64(at) == Ok(UNTOUCHED))
}

/// DMA inside the domain succeeds.
fn inside(verdict: &mut Verdict, disk: &mut Disk, (memory, bus): (Window, u64)) -> Result<(), Fault> {
    identify(verdict, disk, (memory, bus))?;
    blank(memory)?;
    disk.command(Ata::Read(READ), bus + FREE)?;
    let mut words = (0..SECTOR as u32 / 4).zip((FREE..).step_by(4));
    verdict.holds("a sector", words.all(|(n, at)| memory.read_u32(at) == Ok(READ << 16 | n)));
    verdict.holds("nothing behind the sector", untouched(memory, FREE + SECTOR));
    // To the last byte of the domain.
    disk.command(Ata::Read(READ), bus + memory.len() - SECTOR)?;
    verdict.equal("a sector at the end", memory.read_u32(memory.len() - 4), Ok(READ << 16 | (SECTOR as u32 / 4 - 1)));
    Ok(())
}

fn identify(verdict: &mut Verdict, disk: &mut Disk, (memory, bus): (Window, u64)) -> Result<(), Fault> {
    blank(memory)?;
    disk.command(Ata::Identify, bus + FREE)?;
    let mut model = [0; MODEL_LENGTH];
    memory.read(FREE + MODEL, &mut model)?;
    // Two characters per word, the first in its upper half.
    model.as_chunks_mut::<2>().0.iter_mut().for_each(|pair| pair.swap(0, 1));
    let model = core::str::from_utf8(&model).unwrap_or("?");
    log::info!("disk `{}`, {} sectors", model.trim_end(), memory.read_u64(FREE + SECTORS)?);
    flush();
    verdict.holds("nothing behind the disk's answer", untouched(memory, FREE + SECTOR));
    Ok(())
}

/// DMA outside the domain is blocked: to another component's memory; directly after the
/// domain, directly before it, and across its end; to the last page below 4 GiB.
fn beyond(verdict: &mut Verdict, disk: &mut Disk, (memory, bus): (Window, u64), outside: u64) -> Result<(), Fault> {
    let end = bus + memory.len();
    for (command, to) in [
        (Ata::Identify, outside),
        (Ata::Read(READ), outside + SECTOR),
        (Ata::Read(READ), end),
        (Ata::Read(READ), bus - SECTOR),
        (Ata::Read(READ), end - SECTOR / 2),
        (Ata::Read(READ), 0xffff_f000),
    ] {
        blank(memory)?;
        aim(verdict, disk, command, to)?;
        let crosses = (bus..end).contains(&to);
        verdict.holds("nothing arrives", crosses || untouched(memory, FREE));
    }
    // Reads by the device: the disk does not get the contents of the memory.
    aim(verdict, disk, Ata::Write(WRITTEN), outside)?;
    blank(memory)?;
    disk.command(Ata::Read(WRITTEN), bus + FREE)?;
    let mut words = (FREE..FREE + SECTOR).step_by(8);
    verdict.holds("nothing is read", words.all(|at| memory.read_u64(at).is_ok_and(|word| word != CANARY)));
    Ok(())
}

/// Interrupt messages, which no domain blocks: a sector read to an address two above a multiple of four makes the disk
/// write `n << 16 | sector` to each double word from there on, of which the lower half is what the local APIC takes. So
/// the sector is vector and delivery mode: the vectors of exceptions, those beyond the kernel's interrupts, and an NMI
/// (VT-d specification, section 3.14; Intel SDM volume 3, "Message Signalled Interrupts").
fn interrupts(verdict: &mut Verdict, disk: &mut Disk) -> Result<(), Fault> {
    /// To every processor.
    const ALL: u64 = 0xfeef_f000;
    const NMI: u32 = 4 << 8;
    for message in [158, 200, 254, 255].into_iter().chain(16..32).chain([NMI]) {
        let ended = disk.command(Ata::Read(message), ALL + 2);
        log::info!("raised {message:#x}");
        flush();
        verdict.equal("a sector of interrupts", ended, Ok(()));
    }
    Ok(())
}

/// How long a flood lasts, in seconds, and how many commands it has at least.
const SECONDS: u64 = 4;
const FLOOD: u32 = 100;

/// Has the disk read sectors to the last page below 4 GiB, for some seconds. Then it still works.
pub fn flood(verdict: &mut Verdict, config: &Component) {
    let Some((memory, bus)) = config.dma.map(|(window, bus)| (rt::shared(window), bus)) else {
        return verdict.holds("memory for devices", false);
    };
    let timer = timer::Client(Endpoint::at(timer::SERVICE.slot));
    let hz = timer.frequency().unwrap_or(1);
    let tried = disk(verdict, config, (memory, bus)).and_then(|mut disk| {
        let start = tsc();
        let mut aims = 0;
        while tsc() - start < SECONDS * hz {
            if disk.command(Ata::Read(READ), 0xffff_f000).is_err() {
                disk.start_port()?;
            }
            aims += 1;
        }
        log::info!("aimed for {} ms: {aims} times", (tsc() - start) * 1000 / hz);
        flush();
        verdict.holds("a flood", aims >= FLOOD);
        identify(verdict, &mut disk, (memory, bus))
    });
    verdict.equal("the disk", tried, Ok(()));
}

/// Separates the kernel's report by two lines of this process. The command may time out.
fn aim(verdict: &mut Verdict, disk: &mut Disk, command: Ata, to: u64) -> Result<(), Fault> {
    log::info!("aims at {to:#x}");
    flush();
    let ended = disk.command(command, to);
    log::info!("aimed: {ended:?}");
    flush();
    verdict.holds("an end, or none", matches!(ended, Ok(()) | Err(Fault::NoInterrupt)));
    if ended.is_ok() { Ok(()) } else { disk.start_port() }
}

/// Has the trusted network card read a frame to send at `at` (8254x manual, section 3.3).
fn fetch(at: u64) -> Result<(), Error> {
    const CONTROL: u64 = 0x400;
    const ENABLE: u32 = 1 << 1;
    /// Descriptors: address, bytes, head and tail.
    const DESCRIPTORS: u64 = 0x3800;
    const BYTES: u64 = 0x3808;
    const FIRST: u64 = 0x3810;
    const END: u64 = 0x3818;
    let registers = pci().grant(0)?.and_then(|grant| grant.function.bars[0]).ok_or(Error::NotYours)?.base;
    let command = Target::Config { function: 0, offset: COMMAND };
    let off = pci().read(command, Width::Word)?;
    pci().write(command, Width::Word, off | BUS_MASTER)?;
    let writes = [
        (DESCRIPTORS, at as u32),
        (DESCRIPTORS + 4, 0),
        (BYTES, 128),
        (FIRST, 0),
        (CONTROL, ENABLE),
        (END, 1),
        (CONTROL, 0),
    ];
    for (register, value) in writes {
        pci().write(Target::Memory(registers + register), Width::Dword, value)?;
    }
    pci().write(command, Width::Word, off)
}

/// Watches its memory, whose bus address equals its physical one, for ever. Its card is trusted with all of
/// memory, but with an IOMMU it reaches nothing.
pub fn canary(config: &Component) -> ! {
    let Some((memory, at)) = config.dma.map(|(window, at)| (rt::shared(window), at)) else {
        panic!("no memory to watch");
    };
    let mut fine = (0..memory.len()).step_by(8).all(|at| memory.write_u64(at, CANARY).is_ok());
    log::info!("the card reads: {:?}", fetch(at));
    flush();
    let timer = timer::Client(Endpoint::at(timer::SERVICE.slot));
    let hz = timer.frequency().unwrap_or(1);
    for round in 0u64.. {
        fine &= (0..memory.len()).step_by(8).all(|at| memory.read_u64(at) == Ok(CANARY));
        let word = if fine { "intact" } else { "damaged" };
        log::info!("{CANARY:#x} in {:#x} bytes at {at:#x} {word}, round {round}", memory.len());
        flush();
        let deadline = tsc() + hz / 4;
        while tsc() < deadline && timer.arm(deadline).is_ok() {
            while rt::wait() & event::TIMER == 0 {}
        }
    }
    panic!("the rounds are over")
}

/// The owner of a function that must not do DMA.
pub fn confined(verdict: &mut Verdict) {
    let command = Target::Config { function: 0, offset: COMMAND };
    let off = pci().read(command, Width::Word);
    verdict.holds("the function", off.is_ok());
    for width in [Width::Byte, Width::Word, Width::Dword] {
        let refused = pci().write(command, width, off.unwrap_or(0) | BUS_MASTER);
        verdict.equal("bus mastering without a domain", refused, Err(Error::NoDma));
    }
    verdict.equal("bus mastering stays off", pci().read(command, Width::Word), off);
    verdict.equal("bus mastering is off", off.map(|off| off & BUS_MASTER), Ok(0));
}
