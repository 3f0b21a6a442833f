//! The program that boots in place of seL4: it prints a line for each thing that this product needs of a board, and a block of
//! text for `cargo xtask doctor --board`. See docs/hardware.md.
#![no_std]
#![no_main]
#![deny(unsafe_code)]

mod boot;
mod console;
mod hardware;

use core::fmt::{self, Write};
use core::panic::PanicInfo;

use freestanding as _;
use probe::block::Block;
use probe::machine::Machine;
use probe::pci::Bus;
use probe::{Facts, Sink, Verdict, acpi, judge, multiboot};

use console::Console;
use hardware::Board;

/// Prints verdicts from one on.
struct Lines<'c, 'a> {
    console: &'c Console<'a>,
    from: Verdict,
    counts: [u32; 3],
}

impl Sink for Lines<'_, '_> {
    fn line(&mut self, verdict: Verdict, topic: fmt::Arguments, reason: fmt::Arguments) {
        self.counts[verdict as usize] += 1;
        if verdict >= self.from {
            let mut to = self.console;
            let _ = writeln!(to, "{verdict} {topic}: {reason}");
        }
    }
}

/// Called by `boot` with what the loader left in EAX and EBX.
extern "C" fn start(magic: u32, info: u32) -> ! {
    let board = Board::new();
    let loaded = multiboot::loaded(&board, magic, info);
    let console = Console::new(&board, loaded.as_ref().is_none_or(|loaded| loaded.text));
    // Writing to the console cannot fail.
    let _ = report(&board, &console, loaded);
    board.halt()
}

fn report(board: &Board, console: &Console, loaded: Option<multiboot::Loaded>) -> fmt::Result {
    let mut to = console;
    writeln!(to, "Portcullis probe: what this board has for Portcullis")?;
    let facts = Facts::collect(board, loaded, console.uarts());
    let mcfg = facts.table(b"MCFG").unwrap_or_default();
    let extended = acpi::mcfg(mcfg).find(|(_, segment, ..)| *segment == 0);
    let bus = Bus { machine: board, extended: extended.map(|(address, _, first, last)| (address, first, last)) };
    let lines = |from| {
        let mut lines = Lines { console, from, counts: [0; 3] };
        judge::judge(&facts, &mut lines);
        bus.for_each(|function| {
            judge::function(function.at, function.config(), function.acs, function.input, &mut lines);
        });
        lines.counts
    };
    lines(Verdict::Pass);
    let mut block = Block::begin(console.serial())?;
    block.facts(&facts)?;
    let mut written = Ok(());
    bus.for_each(|function| written = written.and(write!(block, "{function}")));
    written?;
    block.end()?;
    writeln!(to, "What is not PASS, again:")?;
    let [pass, warn, fail] = lines(Verdict::Warn);
    writeln!(to, "{pass} PASS, {warn} WARN, {fail} FAIL. Keep the serial log for `cargo xtask doctor --board`.")?;
    let screen = if console.has_screen() { "" } else { " This screen shows no text." };
    writeln!(to, "Portcullis probe: done.{screen} Switch off.")
}

/// Called by `boot` at an exception.
extern "C" fn fault(vector: u64, code: u64, at: u64, address: u64) -> ! {
    stop(format_args!("processor exception {vector}, code {code:#x}, at {at:#x}, CR2 {address:#x}"))
}

#[panic_handler]
fn panic(info: &PanicInfo) -> ! {
    stop(format_args!("{info}"))
}

fn stop(why: fmt::Arguments) -> ! {
    let board = Board::new();
    let console = Console::new(&board, true);
    let mut to = &console;
    let _ = writeln!(to, "\nFAIL probe: stopped by {why}");
    board.out8(0x80, 0x1f);
    board.halt()
}
