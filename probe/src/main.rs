//! The program that boots in place of seL4: it prints a line for each thing that this product needs of a board, and a block of
//! text for `cargo xtask doctor --board`. See docs/hardware.md.
#![no_std]
#![no_main]
#![deny(unsafe_code)]

mod boot;
mod console;
mod hardware;

use core::fmt::{self, Write};
use core::ops::RangeInclusive;
use core::panic::PanicInfo;
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use freestanding as _;
use probe::block::Block;
use probe::machine::Machine;
use probe::multiboot::Loaded;
use probe::pci::Bus;
use probe::{Facts, Sink, Verdict, acpi, judge, multiboot};

use console::Console;
use hardware::Board;

/// Prints some of the verdicts.
struct Lines<'c, 'a> {
    console: &'c Console<'a>,
    shown: RangeInclusive<Verdict>,
    counts: [u32; 3],
}

impl Sink for Lines<'_, '_> {
    fn line(&mut self, verdict: Verdict, topic: fmt::Arguments, reason: fmt::Arguments) {
        self.counts[verdict as usize] += 1;
        if self.shown.contains(&verdict) {
            let mut to = self.console;
            let _ = writeln!(to, "{verdict} {topic}: {reason}");
        }
    }
}

/// What the loader left in EAX and EBX, from which a failure finds the screen.
static LOADER: [AtomicU32; 2] = [const { AtomicU32::new(0) }; 2];

/// Reads what the loader has said, and what the screen shows: without a word text, as a BIOS leaves it.
fn loaded(board: &Board) -> (Option<Loaded>, multiboot::Screen) {
    let [magic, info] = LOADER.each_ref().map(|word| word.load(Ordering::Relaxed));
    let loaded = multiboot::loaded(board, magic, info);
    let screen = loaded.as_ref().map_or(multiboot::Screen::Text, |loaded| loaded.screen);
    (loaded, screen)
}

/// Called by `boot` with what the loader left in EAX and EBX.
extern "C" fn start(magic: u32, info: u32) -> ! {
    LOADER[0].store(magic, Ordering::Relaxed);
    LOADER[1].store(info, Ordering::Relaxed);
    let board = Board::new();
    let (loaded, screen) = loaded(&board);
    let console = Console::new(&board, screen);
    // Writing to the console cannot fail.
    let _ = report(&board, &console, loaded, screen);
    board.halt()
}

fn report(board: &Board, console: &Console, loaded: Option<Loaded>, screen: multiboot::Screen) -> fmt::Result {
    let mut to = console;
    writeln!(to, "Portcullis probe: what this board has for Portcullis")?;
    let facts = Facts::collect(board, loaded, console.uarts());
    let mcfg = facts.table(b"MCFG").unwrap_or_default();
    let extended = acpi::mcfg(mcfg).find(|(_, segment, ..)| *segment == 0);
    let bus = Bus { machine: board, extended: extended.map(|(address, _, first, last)| (address, first, last)) };
    let lines = |shown| {
        let mut lines = Lines { console, shown, counts: [0; 3] };
        judge::judge(&facts, &mut lines);
        bus.for_each(|function| {
            judge::function(function.at, function.config(), function.acs, function.input, &mut lines);
        });
        lines.counts
    };
    lines(Verdict::Pass..=Verdict::Fail);
    let mut block = Block::begin(console.serial())?;
    block.facts(&facts)?;
    let mut written = Ok(());
    bus.for_each(|function| written = written.and(write!(block, "{function}")));
    written?;
    block.end()?;
    writeln!(to, "What is not PASS, again:")?;
    // What fails last, for a screen with few lines.
    lines(Verdict::Warn..=Verdict::Warn);
    let [pass, warn, fail] = lines(Verdict::Fail..=Verdict::Fail);
    writeln!(
        to,
        "{pass} PASS, {warn} WARN, {fail} FAIL. {}",
        match console.uarts() {
            0 => {
                "No UART answers: for `cargo xtask doctor --board` keep the files of a Linux on this board (docs/hardware.md)."
            }
            _ => "Keep the serial log for `cargo xtask doctor --board`.",
        }
    )?;
    write!(to, "Portcullis probe: done.")?;
    match screen {
        multiboot::Screen::Pixels(None) => {
            write!(to, " The screen shows no text: its pixels have an unknown format, or are in free RAM.")?
        }
        _ if !console.has_screen() => write!(to, " The screen shows no text.")?,
        _ => {}
    }
    writeln!(to, " Switch off.")
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
    static AGAIN: AtomicBool = AtomicBool::new(false);
    let board = Board::new();
    // The screen may be what failed.
    let screen = if AGAIN.swap(true, Ordering::Relaxed) { multiboot::Screen::Unknown } else { loaded(&board).1 };
    let console = Console::new(&board, screen);
    let mut to = &console;
    let _ = writeln!(to, "\nFAIL probe: stopped by {why}");
    board.out8(0x80, 0x1f);
    board.halt()
}
