//! The interrupt mode configuration register, ports 0x22 and 0x23: it has the 8259 pair's INTR go to the processor, past the
//! local APIC, or to its LINT0 (MultiProcessor Specification 1.4, "PIC Mode"). It cannot be read.

/// Number of the register behind port 0x23.
const NUMBER: u8 = 0x70;
/// INTR goes to LINT0.
const THROUGH: u8 = 1 << 0;

/// The register.
#[derive(Clone, Copy, Debug)]
pub(super) struct Imcr {
    /// What port 0x23 means.
    selected: u8,
    through: bool,
}

impl Imcr {
    /// As firmware leaves it: INTR goes to the processor.
    pub const fn new() -> Self {
        Self { selected: 0, through: false }
    }

    /// As firmware leaves it on a board with an I/O APIC: INTR goes to LINT0.
    pub const fn through() -> Self {
        Self { selected: 0, through: true }
    }

    /// Whether INTR goes to LINT0.
    pub const fn is_through(&self) -> bool {
        self.through
    }

    /// Takes a byte at one of the two ports.
    pub const fn write(&mut self, offset: u16, value: u8) {
        match offset {
            0 => self.selected = value,
            1 if self.selected == NUMBER => self.through = value & THROUGH != 0,
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_8259_passes_the_local_apic_by_until_the_register_says_otherwise() {
        let mut imcr = Imcr::new();
        imcr.write(1, 1);
        assert!(!imcr.is_through(), "another register is selected");
        imcr.write(0, 0x70);
        assert!(!imcr.is_through());
        imcr.write(1, 0xff);
        imcr.write(2, 0);
        assert!(imcr.is_through());
        imcr.write(1, 0xfe);
        assert!(!imcr.is_through());
    }
}
