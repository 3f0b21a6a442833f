//! The board's wiring between the interrupt pins of PCI functions and the inputs of its interrupt controllers.
//!
//! Pins that share an input are wired together: the input is active while any of them is (PCI Local Bus Specification 2.3,
//! section 2.2.6). Left out: inputs of an I/O APIC and message-signalled interrupts, which would be further kinds of target.

use crate::pic::Pic;
use heapless::Vec;

/// Most pins of a board.
pub const PINS: usize = 32;

/// An interrupt pin of a function, by the order in which they were connected.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Pin(u8);

/// Which pins drive which inputs, and which of them do now.
#[derive(Clone, Debug, Default)]
pub struct Router {
    /// By pin, the input of the PIC.
    inputs: Vec<u8, PINS>,
    /// The pins that are active, bit by bit.
    active: u32,
}

impl Router {
    /// No pin yet.
    pub const fn new() -> Self {
        Self { inputs: Vec::new(), active: 0 }
    }

    /// Connects a further pin to an input of the PIC (0 to 15). `None` if the board has no room for it.
    pub fn connect(&mut self, input: u8) -> Option<Pin> {
        let pin = Pin(self.inputs.len() as u8);
        self.inputs.push(input).ok()?;
        Some(pin)
    }

    /// Sets the level of `pin`, and drives its input with the resulting level.
    pub fn drive(&mut self, pin: Pin, level: bool, pic: &mut Pic) {
        let Some(&input) = self.inputs.get(usize::from(pin.0)) else { return };
        let bit = 1 << pin.0;
        self.active = if level { self.active | bit } else { self.active & !bit };
        pic.set_line(input, self.is_active(input));
    }

    /// Sets the inputs of all pins to level, as firmware does, with no pin active: at the start, and after a reset of
    /// the PIC.
    pub fn reset(&mut self, pic: &mut Pic) {
        self.active = 0;
        for &input in &self.inputs {
            pic.set_level_triggered(input);
            pic.set_line(input, false);
        }
    }

    /// The level of an input.
    fn is_active(&self, input: u8) -> bool {
        (0..).zip(&self.inputs).any(|(pin, &at)| at == input && self.active & 1 << pin != 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Device, Nanos, Width};

    /// The PIC's request register, by OCW3 (8259A data sheet, "reading the 8259A status").
    fn requests(pic: &mut Pic) -> u8 {
        let mut secondary = pic.secondary();
        secondary.write(0, Width::Byte, 0x0a, Nanos::ZERO);
        secondary.read(0, Width::Byte, Nanos::ZERO) as u8
    }

    #[test]
    fn an_input_is_active_while_any_of_its_pins_is() {
        let (mut router, mut pic) = (Router::new(), Pic::new());
        let [a, b, c] = [11, 11, 10].map(|input| router.connect(input).unwrap());
        router.reset(&mut pic);
        assert_eq!(pic.elcr().read(0, Width::Word, Nanos::ZERO), 0x0c00);
        router.drive(a, true, &mut pic);
        router.drive(b, true, &mut pic);
        assert_eq!(requests(&mut pic), 1 << 3, "input 11 is the second chip's 3");
        router.drive(a, false, &mut pic);
        assert_eq!(requests(&mut pic), 1 << 3, "b still asks");
        router.drive(c, true, &mut pic);
        router.drive(b, false, &mut pic);
        assert_eq!(requests(&mut pic), 1 << 2);
    }

    #[test]
    fn a_reset_of_the_board_leaves_no_pin_active() {
        let (mut router, mut pic) = (Router::new(), Pic::new());
        let [a, b] = [9, 9].map(|input| router.connect(input).unwrap());
        router.drive(a, true, &mut pic);
        pic = Pic::new();
        router.reset(&mut pic);
        router.drive(b, true, &mut pic);
        router.drive(b, false, &mut pic);
        assert_eq!(requests(&mut pic), 0);
    }

    #[test]
    fn a_board_has_room_for_so_many_pins() {
        let mut router = Router::new();
        for _ in 0..PINS {
            assert!(router.connect(5).is_some());
        }
        assert_eq!(router.connect(5), None);
    }
}
