//! The fixed hardware of ACPI: power management registers 1 and the power management timer.
//!
//! ACPI specification 6.4, sections 4.8.3.1 to 4.8.3.3. There is no SMI command port, so the machine is in ACPI mode from the
//! start. Both buttons are fixed hardware. Left out: the timer's and the clock's events, whose enable bits have no
//! effect, and sleep states other than soft off.

use crate::{Device, Nanos, SECOND, Width, read_bytes, write_bytes};

/// Offsets from the first port: status and enable (the event block), control, timer.
pub const EVENTS: u16 = 0;
/// Length of the event block.
pub const EVENTS_LEN: u8 = 4;
/// See [`EVENTS`].
pub const CONTROL: u16 = 4;
/// Length of the control block.
pub const CONTROL_LEN: u8 = 2;
/// See [`EVENTS`].
pub const TIMER: u16 = 8;
/// Length of the timer block.
pub const TIMER_LEN: u8 = 4;
/// Ports in all.
pub const PORTS: u16 = 12;

/// Value of SLP_TYP for soft off, which the object \_S5 of the DSDT names.
pub const SOFT_OFF: u16 = 5;

/// The timer's rate in hertz.
const HERTZ: u128 = 3_579_545;

/// Bits of the control register: SCI_EN, SLP_TYP, SLP_EN.
const SCI_ENABLE: u16 = 1 << 0;
const SLEEP_TYPE: u16 = 7 << 10;
const SLEEP: u16 = 1 << 13;
/// Bits that keep what is written: BM_RLD and SLP_TYP.
const CONTROL_KEPT: u16 = SLEEP_TYPE | 1 << 1;

/// A button of the machine.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u16)]
pub enum Button {
    /// Asks the system to shut down.
    Power = 1 << 8,
    /// Asks it to sleep.
    Sleep = 1 << 9,
}

const BUTTONS: u16 = Button::Power as u16 | Button::Sleep as u16;
/// Enable bits that exist: timer, global lock, buttons, clock.
const ENABLES: u16 = BUTTONS | 1 << 0 | 1 << 5 | 1 << 10;

/// The registers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Power {
    status: u16,
    enable: u16,
    control: u16,
    off: bool,
}

impl Power {
    /// After a reset.
    pub const fn new() -> Self {
        Self { status: 0, enable: 0, control: 0, off: false }
    }

    /// Presses a button.
    pub const fn press(&mut self, button: Button) {
        self.status |= button as u16;
    }

    /// Whether the system has switched the machine off since the last call.
    pub const fn take_off(&mut self) -> bool {
        core::mem::replace(&mut self.off, false)
    }

    /// The timer's count at `now`.
    fn count(now: Nanos) -> u32 {
        (u128::from(now.0) * HERTZ / u128::from(SECOND)) as u32
    }

    fn byte(&self, offset: u16) -> u8 {
        let register = match offset {
            0 | 1 => self.status,
            2 | 3 => self.enable,
            4 | 5 => self.control | SCI_ENABLE,
            _ => return 0xff,
        };
        (register >> (8 * (offset % 2))) as u8
    }

    fn set_byte(&mut self, offset: u16, value: u8) {
        let shift = 8 * (offset % 2);
        let (value, here) = (u16::from(value) << shift, 0xff << shift);
        match offset {
            // A written one clears the bit.
            0 | 1 => self.status &= !value,
            2 | 3 => self.enable = (self.enable & !here | value) & ENABLES,
            4 | 5 => {
                self.control = (self.control & !here | value & here) & CONTROL_KEPT;
                self.off |= value & SLEEP != 0 && self.control & SLEEP_TYPE == SOFT_OFF << 10;
            }
            _ => {}
        }
    }
}

impl Device for Power {
    /// The timer is read as a whole: a read of a part of it sees the same count.
    fn read(&mut self, offset: u16, width: Width, now: Nanos) -> u32 {
        match offset.checked_sub(TIMER) {
            Some(within) => Self::count(now).checked_shr(8 * u32::from(within)).unwrap_or(0) & width.mask32(),
            None => read_bytes(offset, width, |offset| self.byte(offset)),
        }
    }

    fn write(&mut self, offset: u16, width: Width, value: u32, _now: Nanos) {
        write_bytes(offset, width, value, |offset, value| self.set_byte(offset, value));
    }

    /// The system control interrupt.
    fn irq(&self) -> bool {
        self.status & self.enable & BUTTONS != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(power: &mut Power, offset: u16, value: u32) {
        power.write(offset, Width::Word, value, Nanos::ZERO);
    }

    fn read(power: &mut Power, offset: u16) -> u32 {
        power.read(offset, Width::Word, Nanos::ZERO)
    }

    #[test]
    fn a_button_interrupts_until_its_status_is_cleared() {
        for button in [Button::Power, Button::Sleep] {
            let mut power = Power::new();
            power.press(button);
            assert!(!power.irq(), "not enabled");
            write(&mut power, 2, 0xffff);
            assert_eq!((power.irq(), read(&mut power, 0), read(&mut power, 2)), (true, button as u32, 0x0721));
            write(&mut power, 0, !(button as u32));
            assert!(power.irq(), "zeros clear nothing");
            write(&mut power, 0, button as u32);
            assert_eq!((power.irq(), read(&mut power, 0)), (false, 0));
        }
    }

    #[test]
    fn it_is_in_acpi_mode_always() {
        let mut power = Power::new();
        assert_eq!(read(&mut power, 4), 1);
        write(&mut power, 4, 0);
        assert_eq!(read(&mut power, 4), 1);
        write(&mut power, 4, 0xffff);
        assert_eq!((read(&mut power, 4), power.take_off()), (0x1c03, false), "SLP_TYP 7 is no state, SLP_EN reads 0");
    }

    /// Linux writes SLP_TYP first, and then both.
    #[test]
    fn soft_off_takes_its_type_and_the_enable_bit() {
        let mut power = Power::new();
        write(&mut power, 4, 5 << 10);
        assert!(!power.take_off());
        write(&mut power, 4, 5 << 10 | 1 << 13);
        assert_eq!([power.take_off(), power.take_off()], [true, false]);
        power.write(5, Width::Byte, 5 << 2 | 1 << 5, Nanos::ZERO);
        assert!(power.take_off(), "by its high byte");
        write(&mut power, 4, 3 << 10 | 1 << 13);
        assert!(!power.take_off());
    }

    #[test]
    fn the_timer_counts_with_its_rate_and_wraps() {
        let mut power = Power::new();
        let mut at = |nanos, offset, width| power.read(offset, width, Nanos(nanos));
        assert_eq!(at(SECOND, 8, Width::Dword), 3_579_545);
        assert_eq!(at(SECOND, 9, Width::Byte), 3_579_545 >> 8 & 0xff);
        assert_eq!(at(1200 * SECOND, 8, Width::Dword), (1200 * 3_579_545u64) as u32, "after twenty minutes");
        assert_eq!(at(u64::MAX, 8, Width::Dword), ((u64::MAX as u128 * 3_579_545 / 1_000_000_000) as u32));
        assert_eq!(at(SECOND, 6, Width::Word), 0xffff);
    }
}
