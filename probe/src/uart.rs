//! The UARTs that answer at the four usual places, 115200 8N1 (National Semiconductor PC16550D data sheet). Waits are bounded, so a
//! UART that does not send stops nothing.

use core::cell::Cell;

use crate::machine::Machine;

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

/// Those of COM1 to COM4 that have answered.
pub struct Uarts {
    /// Polls of each one's next wait: one after a timeout, until it answers again. `None` where there is no UART.
    polls: [Cell<Option<u32>>; PORTS.len()],
}

impl Uarts {
    /// Looks for them and sets them up.
    pub fn find(machine: &impl Machine) -> Self {
        Self { polls: PORTS.map(|port| Cell::new(set_up(machine, port).then_some(MAX_POLLS))) }
    }

    /// Those that were found, COM1 in bit 0, whether they still send or not.
    pub fn found(&self) -> u8 {
        self.polls.iter().rev().fold(0, |found, polls| found << 1 | u8::from(polls.get().is_some()))
    }

    /// Sends a byte. One that stalls loses it, as a management controller's may while nobody reads it, and is waited for again as
    /// soon as it answers.
    pub fn send(&self, machine: &impl Machine, byte: u8) {
        for (polls, port) in self.polls.iter().zip(PORTS) {
            let Some(most) = polls.get() else { continue };
            let ready = (0..most).any(|_| machine.in8(port + LSR) & LSR_THR_EMPTY != 0);
            if ready {
                machine.out8(port + THR_DLL, byte);
            }
            polls.set(Some(if ready { MAX_POLLS } else { 1 }));
        }
    }
}

/// Whether a UART is there: it keeps what is written to its scratch register. Sets it up.
fn set_up(machine: &impl Machine, port: u16) -> bool {
    let keeps = |value| {
        machine.out8(port + SCRATCH, value);
        machine.in8(port + SCRATCH) == value
    };
    if !(keeps(0x5a) && keeps(0xa5)) || machine.in8(port + LSR) == 0xff {
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
    steps.into_iter().for_each(|(register, value)| machine.out8(port + register, value));
    true
}

#[cfg(test)]
mod tests {
    use core::cell::RefCell;
    use std::string::String;

    use super::*;

    /// COM2 and COM3 alone. COM3 can stall.
    #[derive(Default)]
    struct Ports {
        scratch: [Cell<u8>; 2],
        sent: [RefCell<String>; 2],
        stalls: Cell<bool>,
        reads: Cell<u32>,
    }

    fn index(port: u16) -> Option<usize> {
        [0x2f8, 0x3e8].iter().position(|first| (*first..first + 8).contains(&port))
    }

    impl Machine for Ports {
        fn cpuid(&self, _: u32, _: u32) -> [u32; 4] {
            [0; 4]
        }
        fn msr(&self, _: u32) -> Option<u64> {
            None
        }
        fn tsc(&self) -> u64 {
            0
        }
        fn in8(&self, port: u16) -> u8 {
            self.reads.set(self.reads.get() + 1);
            match (index(port), port & 7) {
                (Some(uart), 7) => self.scratch[uart].get(),
                (Some(1), 5) if self.stalls.get() => 0,
                (Some(_), 5) => 0x60,
                (Some(_), _) => 0,
                (None, _) => 0xff,
            }
        }
        fn out8(&self, port: u16, value: u8) {
            match (index(port), port & 7) {
                (Some(uart), 7) => self.scratch[uart].set(value),
                // The divisor's low byte is 1.
                (Some(uart), 0) if value != 1 => self.sent[uart].borrow_mut().push(value.into()),
                _ => {}
            }
        }
        fn in32(&self, _: u16) -> u32 {
            u32::MAX
        }
        fn out32(&self, _: u16, _: u32) {}
        fn read32(&self, _: u64) -> u32 {
            u32::MAX
        }
        fn write32(&self, _: u64, _: u32) {}
        fn draw8(&self, _: u64, _: u8) {}
        fn draw32(&self, _: u64, _: u32) {}
    }

    #[test]
    fn a_uart_that_has_stalled_goes_on_when_it_answers() {
        let ports = Ports::default();
        let uarts = Uarts::find(&ports);
        let send = |text: &str| text.bytes().for_each(|byte| uarts.send(&ports, byte));
        assert_eq!(uarts.found(), 0b110);
        send("one ");
        ports.stalls.set(true);
        send("t");
        // Asked once for each byte after the timeout, so a stall costs the other nothing.
        ports.reads.set(0);
        send("wo ");
        assert_eq!(ports.reads.get(), 2 * 3);
        assert_eq!(uarts.found(), 0b110, "it is a UART nevertheless");
        ports.stalls.set(false);
        send("three");
        assert_eq!([&*ports.sent[0].borrow(), &*ports.sent[1].borrow()], ["one two three", "one three"]);
        // The next stall is waited for again.
        ports.stalls.set(true);
        ports.reads.set(0);
        send("!");
        assert_eq!(ports.reads.get(), 1 + MAX_POLLS);
    }
}
