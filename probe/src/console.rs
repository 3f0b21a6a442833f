//! Where the program prints: the UARTs that answer at the four usual places, 115200 8N1 (National Semiconductor PC16550D data
//! sheet), and the screen, if it is in text mode. Waits are bounded, so a UART that does not send any more stops nothing.

use core::cell::{Cell, RefCell};
use core::fmt;

use probe::machine::{Machine, Memory};

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

const COLUMNS: usize = 80;
const ROWS: usize = 25;
const SCREEN: u64 = 0xb8000;
/// Light grey on black.
const COLOUR: u16 = 0x0700;

/// The screen in text mode.
struct Screen {
    lines: [[u8; COLUMNS]; ROWS],
    column: usize,
}

/// All of it.
pub struct Console<'a> {
    board: &'a Board,
    /// COM1 to COM4 from bit 0 on: those that still send.
    uarts: Cell<u8>,
    screen: Option<RefCell<Screen>>,
}

impl<'a> Console<'a> {
    /// Looks for UARTs and sets them up.
    pub fn new(board: &'a Board, text: bool) -> Self {
        // BIOS data area: the video mode; 2 and 3 are text of 80 columns.
        let mode = board.bytes(0x449, 1).map(|bytes| bytes[0]);
        let screen = (text && matches!(mode, Some(2 | 3)))
            .then(|| RefCell::new(Screen { lines: [[b' '; COLUMNS]; ROWS], column: 0 }));
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
        let Some(screen) = &self.screen else { return };
        let mut screen = screen.borrow_mut();
        if byte == b'\n' || screen.column == COLUMNS {
            screen.lines.rotate_left(1);
            screen.lines[ROWS - 1] = [b' '; COLUMNS];
            screen.column = 0;
            let cells = screen.lines.as_flattened().iter().enumerate();
            cells.for_each(|(at, byte)| self.board.write_text(SCREEN + 2 * at as u64, COLOUR | u16::from(*byte)));
        }
        if byte != b'\n' {
            let column = screen.column;
            screen.lines[ROWS - 1][column] = byte;
            let at = (COLUMNS * (ROWS - 1) + column) as u64;
            self.board.write_text(SCREEN + 2 * at, COLOUR | u16::from(byte));
            screen.column += 1;
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
