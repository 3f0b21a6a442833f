//! Interrupts that arrive while the kernel handles another.

use sel4::init_thread::slot;
use sel4::irq::{Polarity, Trigger};
use sel4::{CapRights, cap};

use crate::bench::{Bench, delete, slot_of};
use crate::check::{Check, Outcome, expect};

/// The checks of this file.
pub const CHECKS: &[Check] = &[Check {
    defect: "pending-interrupt",
    name: "an interrupt that arrives while the kernel handles another is one",
    run: arrives_meanwhile,
}];

/// The 8254's ports (Intel 8254 data sheet): counter 0, and the control word. Its output is I/O APIC 0, pin 2.
const COUNTER: u16 = 0x40;
const CONTROL: u16 = 0x43;
const PIN: u64 = 2;
/// Counter 0, both bytes, mode 2: a rate generator.
const RATE: u8 = 0x34;
/// Counter 0, low byte, mode 0: counts once.
const ONCE: u8 = 0x10;
/// A period of some 20 microseconds: in Bochs, 1,000 instructions, which is what the kernel takes for an interrupt.
const DIVISOR: u8 = 24;
/// Polls, each with a system call. In Bochs, the kernel's own timer ticks meanwhile some eighty times.
const POLLS: usize = 20_000;

/// 0045: the kernel takes such an interrupt when it returns to user mode. If it loses the number, the running thread, which
/// is this one, gets the exception of another number.
fn arrives_meanwhile(bench: &mut Bench) -> Outcome {
    let ports = bench.ports(COUNTER, CONTROL)?;
    let handler = cap::IrqHandler::from_cptr(bench.empty_slot());
    let (edge, high) = (Trigger::Edge, Polarity::ActiveHigh);
    slot::IRQ_CONTROL.cap().irq_control_get_ioapic(&slot_of(handler), 0, PIN, edge, high, bench.vector())?;
    let notification: cap::Notification = bench.make()?;
    let badged = cap::Notification::from_cptr(bench.empty_slot());
    slot_of(badged).mint(&slot_of(notification), CapRights::all(), 1)?;
    handler.irq_handler_set_notification(badged)?;
    handler.irq_handler_ack()?;
    ports.ioport_out8(CONTROL, RATE)?;
    ports.ioport_out8(COUNTER, DIVISOR)?;
    ports.ioport_out8(COUNTER, 0)?;
    let mut signals = 0;
    for _ in 0..POLLS {
        if notification.poll() == 1 {
            handler.irq_handler_ack()?;
            signals += 1;
        }
    }
    ports.ioport_out8(CONTROL, ONCE)?;
    delete(handler)?;
    expect("at least 1,000 interrupts", signals >= 1000, true)
}
