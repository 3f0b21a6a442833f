//! An 8042 keyboard controller without keyboard or mouse.
//!
//! IBM PS/2 Hardware Interface Technical Reference, "Keyboard and Auxiliary Device Controller".  Every command that has
//! an answer gets it at once, so that a driver's probe never waits; a byte sent to a device is answered by "resend" and
//! the time-out bit, as the controller does when nothing takes the byte.  There is no auxiliary port: its test fails.
//! The reset line resets the processor alone; that is a reset of the machine, since firmware would make it one.

use super::Reset;

const STATUS_FULL: u8 = 1 << 0;
const STATUS_SYSTEM: u8 = 1 << 2;
const STATUS_COMMAND: u8 = 1 << 3;
const STATUS_UNLOCKED: u8 = 1 << 4;
const STATUS_TIME_OUT: u8 = 1 << 6;

const MODE_INTERRUPT: u8 = 1 << 0;
const MODE_SYSTEM: u8 = 1 << 2;
const MODE_DISABLED: u8 = 1 << 4;
const MODE_TRANSLATE: u8 = 1 << 6;

/// Output port: low resets the processor.
const OUT_RESET: u8 = 1 << 0;
const OUT_A20: u8 = 1 << 1;

const SELF_TEST_PASSED: u8 = 0x55;
const RESEND: u8 = 0xfe;
/// The interface test's "clock line stuck low".
const NO_DEVICE: u8 = 0x01;

/// What the next byte written to the data port is.
#[derive(Clone, Copy, Debug)]
enum Parameter {
    /// A byte for the keyboard or the mouse, which are not there.
    Device,
    Mode,
    OutputPort,
    /// The value of a command that puts it into the output buffer (0xd2), or drops it.
    Echo,
    Ignored,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Keyboard {
    mode: u8,
    output_port: u8,
    data: u8,
    status: u8,
    parameter: Parameter,
}

impl Keyboard {
    pub(super) const fn new() -> Self {
        Self {
            mode: MODE_INTERRUPT | MODE_SYSTEM | MODE_TRANSLATE,
            output_port: OUT_RESET | OUT_A20,
            data: 0,
            status: STATUS_SYSTEM | STATUS_UNLOCKED,
            parameter: Parameter::Device,
        }
    }

    pub(super) const fn a20(&self) -> bool {
        self.output_port & OUT_A20 != 0
    }

    pub(super) const fn irq(&self) -> bool {
        self.status & STATUS_FULL != 0 && self.mode & MODE_INTERRUPT != 0
    }

    pub(super) const fn status(&self) -> u8 {
        self.status
    }

    pub(super) const fn read_data(&mut self) -> u8 {
        self.status &= !(STATUS_FULL | STATUS_TIME_OUT);
        self.data
    }

    pub(super) const fn write_command(&mut self, command: u8) -> Option<Reset> {
        self.status |= STATUS_COMMAND;
        self.parameter = Parameter::Device;
        match command {
            0x20 => self.answer(self.mode),
            0x60 => self.parameter = Parameter::Mode,
            // Without an auxiliary port its test fails, and a byte for it (or looped through it) ends in a time-out.
            0xa9 => self.answer(NO_DEVICE),
            0xaa => self.answer(SELF_TEST_PASSED),
            0xab => self.answer(0),
            0xad => self.mode |= MODE_DISABLED,
            0xae => self.mode &= !MODE_DISABLED,
            0xc0 => self.answer(0x80), // Input port: the key lock is open.
            0xd0 => self.answer(self.output_port),
            0xd1 => self.parameter = Parameter::OutputPort,
            0xd2 => self.parameter = Parameter::Echo,
            0xd3 | 0xd4 => self.parameter = Parameter::Device,
            0xf0..=0xff if command & OUT_RESET == 0 => return Some(Reset::Hard),
            0x61..=0x7f => self.parameter = Parameter::Ignored,
            _ => {}
        }
        None
    }

    pub(super) const fn write_data(&mut self, value: u8) -> Option<Reset> {
        self.status &= !STATUS_COMMAND;
        match core::mem::replace(&mut self.parameter, Parameter::Device) {
            Parameter::Device => {
                self.answer(RESEND);
                self.status |= STATUS_TIME_OUT;
            }
            Parameter::Mode => self.mode = value,
            Parameter::Echo => self.answer(value),
            Parameter::Ignored => {}
            Parameter::OutputPort => {
                self.output_port = value | OUT_RESET;
                if value & OUT_RESET == 0 {
                    return Some(Reset::Hard);
                }
            }
        }
        None
    }

    /// Puts a byte into the output buffer.
    const fn answer(&mut self, value: u8) {
        self.data = value;
        self.status = self.status & !STATUS_TIME_OUT | STATUS_FULL;
    }
}
