//! Where the program prints: the UARTs, and the screen, in text mode or as a framebuffer.

use core::cell::RefCell;
use core::fmt;

use probe::machine::Memory;
use probe::multiboot;
use probe::screen::{Screen, Surface};
use probe::uart::Uarts;

use crate::hardware::Board;

/// All of it.
pub struct Console<'a> {
    board: &'a Board,
    uarts: Uarts,
    screen: Option<RefCell<Screen>>,
}

impl<'a> Console<'a> {
    /// Looks for UARTs and sets them up, and clears the screen, if there is one.
    pub fn new(board: &'a Board, screen: multiboot::Screen) -> Self {
        // First, so that a screen that fails can be told of.
        let uarts = Uarts::find(board);
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
        Self { board, uarts, screen }
    }

    /// The UARTs that answered at the start, COM1 in bit 0.
    pub fn uarts(&self) -> u8 {
        self.uarts.found()
    }

    /// Whether there is a screen to print on.
    pub fn has_screen(&self) -> bool {
        self.screen.is_some()
    }

    /// Prints on the UARTs alone: what would not fit on the screen.
    pub fn serial(&self) -> Serial<'_, 'a> {
        Serial(self)
    }

    fn show(&self, byte: u8) {
        if let Some(screen) = &self.screen {
            screen.borrow_mut().put(self.board, byte);
        }
    }
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
                self.0.uarts.send(self.0.board, b'\r');
            }
            self.0.uarts.send(self.0.board, byte);
        }
        Ok(())
    }
}
