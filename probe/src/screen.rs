//! The screen, as lines of characters that move up when another begins: in VGA's text mode, or on a framebuffer. Only cells whose
//! character changes are written, since the memory of a framebuffer is slow.

use crate::framebuffer::{CELL_HEIGHT, CELL_WIDTH, Framebuffer};
use crate::machine::Machine;

/// Of text mode, and at least so many on a framebuffer that is large enough for them.
const COLUMNS: usize = 80;
const ROWS: usize = 25;
/// Lines that a framebuffer shows before its characters become larger.
const FEW_ROWS: u32 = 40;
const MOST_COLUMNS: usize = 160;
const MOST_ROWS: usize = 80;
/// Text mode's memory: a character, then its colour.
const TEXT: u64 = 0xb8000;
const LIGHT_GREY: u8 = 7;

/// What shows the characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Surface {
    /// VGA's text mode with 80 by 25 characters.
    Text,
    /// A framebuffer.
    Pixels(Framebuffer),
}

/// The screen.
pub struct Screen {
    surface: Surface,
    /// Pixels to a pixel of the font, in either direction.
    scale: u32,
    columns: usize,
    rows: usize,
    /// Where the next character goes, in the last line.
    column: usize,
    shown: [[u8; MOST_COLUMNS]; MOST_ROWS],
}

impl Screen {
    /// A screen without characters.
    pub fn new(machine: &impl Machine, surface: Surface) -> Self {
        let (scale, columns, rows) = match surface {
            Surface::Text => (1, COLUMNS, ROWS),
            Surface::Pixels(framebuffer) => {
                let (width, height) = framebuffer.size();
                let scale = (width / (COLUMNS as u32 * CELL_WIDTH)).min(height / (FEW_ROWS * CELL_HEIGHT)).max(1);
                let [columns, rows] = [width / (CELL_WIDTH * scale), height / (CELL_HEIGHT * scale)];
                (scale, (columns as usize).clamp(1, MOST_COLUMNS), (rows as usize).clamp(1, MOST_ROWS))
            }
        };
        let screen = Self { surface, scale, columns, rows, column: 0, shown: [[b' '; MOST_COLUMNS]; MOST_ROWS] };
        match surface {
            Surface::Text => {
                (0..rows).for_each(|row| (0..columns).for_each(|column| screen.draw(machine, row, column)))
            }
            Surface::Pixels(framebuffer) => framebuffer.clear(machine),
        }
        screen
    }

    /// Shows a character of ASCII, or begins a line.
    pub fn put(&mut self, machine: &impl Machine, byte: u8) {
        if byte == b'\n' || self.column == self.columns {
            for row in 0..self.rows {
                for column in 0..self.columns {
                    let below = if row + 1 < self.rows { self.shown[row + 1][column] } else { b' ' };
                    self.set(machine, row, column, below);
                }
            }
            self.column = 0;
        }
        if byte != b'\n' {
            self.set(machine, self.rows - 1, self.column, byte);
            self.column += 1;
        }
    }

    fn set(&mut self, machine: &impl Machine, row: usize, column: usize, byte: u8) {
        if self.shown[row][column] != byte {
            self.shown[row][column] = byte;
            self.draw(machine, row, column);
        }
    }

    fn draw(&self, machine: &impl Machine, row: usize, column: usize) {
        let byte = self.shown[row][column];
        match self.surface {
            Surface::Text => {
                let at = TEXT + 2 * (COLUMNS * row + column) as u64;
                machine.draw8(at, byte);
                machine.draw8(at + 1, LIGHT_GREY);
            }
            Surface::Pixels(framebuffer) => {
                let at = (self.scale * CELL_WIDTH * column as u32, self.scale * CELL_HEIGHT * row as u32);
                framebuffer.draw(machine, at, self.scale, byte);
            }
        }
    }
}
