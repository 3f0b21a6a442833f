//! Where the program prints: the UARTs that answer at the four usual places, 115200 8N1 (National Semiconductor PC16550D data
//! sheet), and the screen, in text mode or as a framebuffer. Waits are bounded, so a UART that does not send any more stops nothing.

use core::cell::{Cell, RefCell};
use core::fmt;

use probe::machine::{Machine, Memory};
use probe::multiboot;
use probe::screen::{Screen, Surface};

use crate::hardware::Board;

/// COM1 to COM4.
const PORTS: [u16; 4] = [0x3f8, 0x2f8, 0x3e8, 0x2e8];
const THR_DLL: u16 = 0;
const IER_DLM: u16 = 1;
const FCR: u16 = 2;
const LCR: u16 = 3;
const MCR: u16 = 4;
const LSR: u16 = 5;
const SCRATCH: u16 = 7;
const LCR_8_BITS: u8 = 0b0000_0011;
const LCR_DLAB: u8 = 1 << 7;
const LSR_THR_EMPTY: u8 = 1 << 5;
/// A byte takes 87 microseconds, a read at least a tenth of one.
const MAX_POLLS: u32 = 100_000;

/// All of it.
pub struct Console<'a> {
    board: &'a Board,
    /// COM1 to COM4 from bit 0 on: those that still send.
    uarts: Cell<u8>,
    screen: Option<RefCell<Screen>>,
}

impl<'a> Console<'a> {
    /// Looks for UARTs and sets them up, and clears the screen, if there is one.
    pub fn new(board: &'a Board, screen: multiboot::Screen) -> Self {
        // BIOS data area: the video mode; 2 and 3 are text of 80 columns.
        let is_text = || board.bytes(0x449, 1).is_some_and(|mode| matches!(mode[0], 2 | 3));
        let surface = match screen {
            multiboot::Screen::Text => is_text().then_some(Surface::Text),
            multiboot::Screen::Pixels(framebuffer) => {
                framebuffer.map(|framebuffer| board.reach(framebuffer)).map(Surface::Pixels)
            }
            multiboot::Screen::Unknown => None,
        };
        let screen = surface.map(|surface| RefCell::new(Screen::new(board, surface)));
        let mut uarts = 0;
        for (index, port) in PORTS.into_iter().enumerate() {
            if set_up(board, port) {
                uarts |= 1 << index;
            }
        }
        Self { board, uarts: Cell::new(uarts), screen }
    }

    /// The UARTs that answer, COM1 in bit 0.
    pub fn uarts(&self) -> u8 {
        self.uarts.get()
    }

    /// Whether there is a screen to print on.
    pub fn has_screen(&self) -> bool {
        self.screen.is_some()
    }

    /// Prints on the UARTs alone: what would not fit on the screen.
    pub fn serial(&self) -> Serial<'_, 'a> {
        Serial(self)
    }

    fn send(&self, byte: u8) {
        for (index, port) in PORTS.into_iter().enumerate() {
            if self.uarts.get() >> index & 1 == 0 {
                continue;
            }
            if (0..MAX_POLLS).any(|_| self.board.in8(port + LSR) & LSR_THR_EMPTY != 0) {
                self.board.out8(port + THR_DLL, byte);
            } else {
                self.uarts.set(self.uarts.get() & !(1 << index));
            }
        }
    }

    fn show(&self, byte: u8) {
        if let Some(screen) = &self.screen {
            screen.borrow_mut().put(self.board, byte);
        }
    }
}

/// Whether a UART is there: it keeps what is written to its scratch register. Sets it up.
fn set_up(board: &Board, port: u16) -> bool {
    let keeps = |value| {
        board.out8(port + SCRATCH, value);
        board.in8(port + SCRATCH) == value
    };
    if !(keeps(0x5a) && keeps(0xa5)) || board.in8(port + LSR) == 0xff {
        return false;
    }
    let steps = [
        (IER_DLM, 0),
        (LCR, LCR_8_BITS | LCR_DLAB),
        (THR_DLL, 1),
        (IER_DLM, 0),
        (LCR, LCR_8_BITS),
        // FIFOs on and empty; DTR and RTS.
        (FCR, 0b0000_0111),
        (MCR, 0b0000_0011),
    ];
    steps.into_iter().for_each(|(register, value)| board.out8(port + register, value));
    true
}

impl fmt::Write for &Console<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.serial().write_str(text)?;
        text.bytes().for_each(|byte| self.show(byte));
        Ok(())
    }
}

/// The UARTs.
pub struct Serial<'c, 'a>(&'c Console<'a>);

impl fmt::Write for Serial<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            if byte == b'\n' {
                self.0.send(b'\r');
            }
            self.0.send(byte);
        }
        Ok(())
    }
}
