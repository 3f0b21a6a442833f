//! Accesses to modelled PCI functions, and what they ask of the board.

use devices::{Effect, Width, pci::Hit};

use super::Machine;

impl Machine {
    /// Reads a BAR, of which no access here is wider than a double word.
    pub(super) fn read_function(&mut self, hit: Hit, width: Width) -> u32 {
        let (value, effect) = self.functions.read(hit, width, &mut self.pic);
        self.note(effect);
        value as u32
    }

    /// Writes one.
    pub(super) fn write_function(&mut self, hit: Hit, width: Width, value: u32) {
        let effect = self.functions.write(hit, width, value.into(), &mut self.pic);
        self.note(effect);
    }

    /// Does what waits for the functions' back ends.
    pub fn serve_functions(&mut self) {
        let effect = self.functions.serve(&mut self.pic);
        self.note(effect);
    }

    pub(super) fn note(&mut self, effect: Effect) {
        self.disturbed |= !effect.is_quiet();
    }
}
