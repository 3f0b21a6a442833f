//! What a kernel that prints does to the UART, which a process may be about to set up (PC16550D data sheet).

use sel4::cap;
use sel4_root_task::serial::{self, Uart};

use crate::bench::Bench;
use crate::check::{Check, Outcome, expect};

/// The checks of this file: for kernels that print.
pub const CHECKS: &[Check] = &[
    Check { defect: "printing", name: "printing leaves the divisor latch as it is", run: latch_is_open },
    Check { defect: "printing", name: "a UART that stalls is waited for again", run: stalls },
];

/// Registers, from the first port on. The first two are the divisor while LCR.DLAB is set.
const THR_DLL: u16 = Uart::COM1.port;
const IER_DLM: u16 = Uart::COM1.port + 1;
const LCR: u16 = Uart::COM1.port + 3;
const LSR: u16 = Uart::COM1.port + 5;
const EIGHT_BITS: u8 = 0x03;
const DLAB: u8 = 0x80;
const IDLE: u8 = 0x40;
/// A transmitter's FIFO, in bytes.
const FIFO: usize = 16;
/// Divisors: 9600 bits per second, and 1.4 seconds for a byte, for which neither the kernel nor root-task waits.
const SLOW: u16 = 12;
const STALLED: u16 = 0x4000;
/// Polls for some seconds, each with a system call.
const MAX_POLLS: usize = 1_000_000;

fn set_rate(uart: cap::IoPort, divisor: u16) -> sel4::Result<()> {
    let [low, high] = divisor.to_le_bytes();
    for (register, value) in [(LCR, EIGHT_BITS | DLAB), (THR_DLL, low), (IER_DLM, high), (LCR, EIGHT_BITS)] {
        uart.ioport_out8(register, value)?;
    }
    Ok(())
}

/// How many polls it takes until the UART has sent everything.
fn polls_until_idle(uart: cap::IoPort) -> usize {
    let idle = |_: &usize| matches!(uart.ioport_in8(LSR), Ok(status) if status & IDLE != 0);
    (0..MAX_POLLS).find(idle).unwrap_or(MAX_POLLS)
}

/// A line of the kernel's, by a system call that it refuses.
fn kernel_prints(bench: &mut Bench) {
    // The line is what the call is for.
    let _ = cap::IoPort::from_cptr(bench.empty_slot()).ioport_in8(0);
}

/// 0058, and root-task: the bytes went into the divisor.
fn latch_is_open(bench: &mut Bench) -> Outcome {
    let uart = bench.ports(Uart::COM1.port, Uart::COM1.last())?;
    serial::drain();
    uart.ioport_out8(LCR, EIGHT_BITS | DLAB)?;
    let [low, high] = Uart::COM1.divisor.to_le_bytes();
    uart.ioport_out8(THR_DLL, low)?;
    uart.ioport_out8(IER_DLM, high)?;
    kernel_prints(bench);
    serial::print("a line while the divisor latch is open\n");
    let after = [uart.ioport_in8(LCR)?, uart.ioport_in8(THR_DLL)?, uart.ioport_in8(IER_DLM)?];
    set_rate(uart, Uart::COM1.divisor)?;
    expect("line control and divisor", after, [EIGHT_BITS | DLAB, low, high])
}

/// 0058, and root-task: a UART that once took too long counted as absent from then on, and lost what did not fit its FIFO.
/// Who waits before each byte leaves two in the UART at the end.
fn stalls(bench: &mut Bench) -> Outcome {
    let uart = bench.ports(Uart::COM1.port, Uart::COM1.last())?;
    serial::drain();
    set_rate(uart, SLOW)?;
    for _ in 0..FIFO {
        uart.ioport_out8(THR_DLL, b' ')?;
    }
    let full = polls_until_idle(uart);
    set_rate(uart, STALLED)?;
    kernel_prints(bench);
    serial::print("\n");
    set_rate(uart, SLOW)?;
    polls_until_idle(uart);
    kernel_prints(bench);
    let kernels = polls_until_idle(uart);
    serial::print("root-task waits for each byte of this line\n");
    let ours = polls_until_idle(uart);
    set_rate(uart, Uart::COM1.divisor)?;
    expect("the kernel waits again", kernels < full / 2, true)?;
    expect("the root task waits again", ours < full / 2, true)
}
