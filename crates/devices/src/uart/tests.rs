//! The port as the PC16550D data sheet has it, and as Linux's 8250 driver probes and drives it.

use super::*;
use std::vec::Vec;

const NOW: Nanos = Nanos::ZERO;
const RBR: u16 = 0;
const IER: u16 = 1;
const IIR: u16 = 2;
const LCR: u16 = 3;
const MCR: u16 = 4;
const LSR: u16 = 5;
const MSR: u16 = 6;
const SCR: u16 = 7;

fn inb(uart: &mut Uart, offset: u16) -> u8 {
    uart.read(offset, Width::Byte, NOW) as u8
}

fn out(uart: &mut Uart, offset: u16, value: u8) {
    uart.write(offset, Width::Byte, value.into(), NOW);
}

/// FIFOs on with trigger level 8 as Linux sets them, OUT2 on, and the interrupts of `ier`.
fn running(ier: u8) -> Uart {
    let mut uart = Uart::new();
    out(&mut uart, IIR, 0b1000_0001);
    out(&mut uart, MCR, 0b0000_1011);
    inb(&mut uart, MSR);
    out(&mut uart, IER, ier);
    uart
}

fn sent(uart: &mut Uart) -> Vec<u8> {
    let mut buffer = [0; TX_QUEUE];
    let n = uart.take_tx(&mut buffer);
    buffer[..n].to_vec()
}

#[test]
fn after_reset_it_is_idle_and_has_a_terminal() {
    let mut uart = Uart::new();
    assert_eq!(inb(&mut uart, IER), 0);
    assert_eq!(inb(&mut uart, IIR), 0b0000_0001);
    assert_eq!(inb(&mut uart, LSR), 0b0110_0000);
    assert_eq!(inb(&mut uart, MSR), 0b1011_0000);
    assert!(!uart.irq());
}

#[test]
fn what_is_written_is_sent_in_order() {
    let mut uart = Uart::new();
    for byte in *b"login: " {
        assert_eq!(inb(&mut uart, LSR) & 0x60, 0x60);
        out(&mut uart, RBR, byte);
    }
    assert_eq!(uart.tx_pending(), 7);
    let mut three = [0; 3];
    assert_eq!(uart.take_tx(&mut three), 3);
    assert_eq!(&three, b"log");
    assert_eq!(sent(&mut uart), b"in: ");
    assert_eq!(uart.tx_free(), TX_QUEUE);
}

#[test]
fn a_wide_write_at_the_data_port_reaches_the_next_register() {
    let mut uart = Uart::new();
    uart.write(RBR, Width::Word, 0x0241, NOW);
    assert_eq!(inb(&mut uart, IER), 0x02);
    assert_eq!(sent(&mut uart), b"A");
}

#[test]
fn the_divisor_hides_behind_dlab() {
    let mut uart = Uart::new();
    out(&mut uart, LCR, 0x83);
    out(&mut uart, 0, 0x01);
    out(&mut uart, 1, 0x00);
    assert_eq!(uart.read(0, Width::Word, NOW), 0x0001);
    out(&mut uart, LCR, 0x03);
    assert_eq!(inb(&mut uart, IER), 0);
    assert_eq!(sent(&mut uart), b"");
}

#[test]
fn received_bytes_wait_in_the_fifo() {
    let mut uart = running(0);
    assert_eq!(uart.rx_room(), 16);
    for byte in 0..16 {
        assert!(uart.push_rx(byte));
    }
    assert!(!uart.push_rx(99), "the seventeenth is the backend's to keep");
    assert_eq!(inb(&mut uart, LSR) & 0b11, 0b01, "ready, and no overrun");
    for byte in 0..16 {
        assert_eq!(inb(&mut uart, RBR), byte);
    }
    assert_eq!(inb(&mut uart, LSR) & 1, 0);
    assert_eq!(inb(&mut uart, RBR), 15, "an empty receiver repeats itself");
}

#[test]
fn without_fifo_there_is_room_for_one() {
    let mut uart = Uart::new();
    assert!(uart.push_rx(1));
    assert!(!uart.push_rx(2));
    assert_eq!(uart.rx_room(), 0);
}

#[test]
fn the_trigger_level_separates_data_available_from_time_out() {
    for (fcr, level) in [(0b0000_0001u8, 1), (0b0100_0001, 4), (0b1000_0001, 8), (0b1100_0001, 14)] {
        let mut uart = running(0b0000_0001);
        out(&mut uart, IIR, fcr);
        for n in 1..=16 {
            uart.push_rx(n);
            assert!(uart.irq());
            let expected = if n >= level { 0b1100_0100 } else { 0b1100_1100 };
            assert_eq!(inb(&mut uart, IIR), expected, "{n} bytes, trigger {level}");
        }
    }
}

#[test]
fn the_received_interrupt_goes_with_the_last_byte() {
    let mut uart = running(0b0000_0001);
    uart.push_rx(b'a');
    uart.push_rx(b'b');
    inb(&mut uart, RBR);
    assert!(uart.irq());
    inb(&mut uart, RBR);
    assert!(!uart.irq());
    assert_eq!(inb(&mut uart, IIR), 0b1100_0001);
}

#[test]
fn enabling_the_transmit_interrupt_raises_it_each_time() {
    // Linux's test for ports that do not reassert it (UART_BUG_THRE).
    let mut uart = running(0);
    for _ in 0..2 {
        out(&mut uart, IER, 0b0000_0010);
        assert_eq!(inb(&mut uart, IIR), 0b1100_0010);
        assert_eq!(inb(&mut uart, IIR), 0b1100_0001, "naming it ends it");
        out(&mut uart, IER, 0);
    }
}

#[test]
fn enabling_an_enabled_transmit_interrupt_does_not_repeat_it() {
    let mut uart = running(0b0000_0010);
    inb(&mut uart, IIR);
    out(&mut uart, IER, 0b0000_0011);
    assert!(!uart.irq());
}

#[test]
fn a_byte_sent_raises_the_transmit_interrupt_again() {
    let mut uart = running(0b0000_0010);
    inb(&mut uart, IIR);
    out(&mut uart, RBR, b'x');
    assert!(uart.irq());
}

#[test]
fn a_full_queue_takes_thre_away_until_it_drains() {
    let mut uart = running(0b0000_0010);
    let mut written = 0;
    while inb(&mut uart, LSR) & 0x20 != 0 {
        for _ in 0..16 {
            out(&mut uart, RBR, written as u8);
            written += 1;
        }
    }
    assert_eq!(written, TX_QUEUE, "bursts of sixteen fill it without loss");
    assert!(!uart.irq());
    assert_eq!(inb(&mut uart, LSR) & 0x60, 0);
    let mut buffer = [0; 8];
    uart.take_tx(&mut buffer);
    assert!(!uart.irq(), "not yet room for a burst");
    uart.take_tx(&mut buffer);
    assert!(uart.irq());
    assert_eq!(inb(&mut uart, IIR), 0b1100_0010);
}

#[test]
fn a_driver_that_ignores_thre_loses_bytes_and_nothing_else() {
    let mut uart = running(0);
    for _ in 0..2 * TX_QUEUE {
        out(&mut uart, RBR, b'.');
    }
    assert_eq!(sent(&mut uart).len(), TX_QUEUE);
    assert_eq!(inb(&mut uart, LSR), 0b0110_0000);
}

#[test]
fn interrupts_are_named_in_the_order_of_the_data_sheet() {
    let mut uart = running(0b0000_1111);
    // In loopback: an overrun, data, an empty transmitter, and the modem lines' changes.
    out(&mut uart, MCR, 0b0001_1000);
    for byte in 0..17 {
        out(&mut uart, RBR, byte);
    }
    assert_eq!(inb(&mut uart, IIR), 0b1100_0110, "line status");
    assert_eq!(inb(&mut uart, LSR) & 0b10, 0b10, "overrun");
    assert_eq!(inb(&mut uart, IIR), 0b1100_0100, "data");
    for _ in 0..16 {
        inb(&mut uart, RBR);
    }
    assert_eq!(inb(&mut uart, IIR), 0b1100_0010, "transmitter");
    assert_eq!(inb(&mut uart, IIR), 0b1100_0000, "modem status");
    inb(&mut uart, MSR);
    assert_eq!(inb(&mut uart, IIR), 0b1100_0001);
}

#[test]
fn out2_leads_the_interrupt_out() {
    let mut uart = running(0b0000_0001);
    uart.push_rx(1);
    assert!(uart.irq());
    out(&mut uart, MCR, 0b0000_0011);
    assert!(!uart.irq());
    out(&mut uart, MCR, 0b0001_1011);
    assert!(!uart.irq(), "loopback holds the outputs inactive");
}

#[test]
fn loopback_ties_modem_outputs_to_inputs() {
    let mut uart = Uart::new();
    for (mcr, msr) in
        [(0b0001_0000, 0x00), (0b0001_0001, 0x20), (0b0001_0010, 0x10), (0b0001_0100, 0x40), (0b0001_1000, 0x80)]
    {
        out(&mut uart, MCR, mcr);
        assert_eq!(inb(&mut uart, MSR) & 0xf0, msr);
    }
    out(&mut uart, MCR, 0);
    assert_eq!(inb(&mut uart, MSR) & 0xf0, 0b1011_0000);
}

#[test]
fn modem_changes_show_until_read() {
    let mut uart = Uart::new();
    out(&mut uart, MCR, 0b0001_0100); // CTS, DSR and DCD go, RI comes: that is no end of a ring.
    assert_eq!(inb(&mut uart, MSR), 0b0100_1011);
    assert_eq!(inb(&mut uart, MSR), 0b0100_0000);
    out(&mut uart, MCR, 0b0001_0000);
    out(&mut uart, MCR, 0b0001_0100);
    assert_eq!(inb(&mut uart, MSR), 0b0100_0100, "a change is kept though the line came back");
}

#[test]
fn loopback_disconnects_the_line() {
    let mut uart = running(0);
    out(&mut uart, MCR, 0b0001_0000);
    assert!(!uart.push_rx(1));
    out(&mut uart, RBR, 0x5a);
    assert_eq!(inb(&mut uart, RBR), 0x5a);
    assert_eq!(sent(&mut uart), b"");
}

#[test]
fn an_overrun_without_fifo_keeps_the_new_byte_and_with_fifo_the_old() {
    let mut uart = Uart::new();
    out(&mut uart, MCR, 0b0001_0000);
    out(&mut uart, RBR, 1);
    out(&mut uart, RBR, 2);
    assert_eq!(inb(&mut uart, LSR) & 0b11, 0b11);
    assert_eq!(inb(&mut uart, LSR) & 0b11, 0b01, "reading the status clears the overrun");
    assert_eq!(inb(&mut uart, RBR), 2);
}

#[test]
fn resetting_or_switching_the_fifo_empties_the_receiver() {
    for fcr in [0b1000_0011, 0b0000_0000] {
        let mut uart = running(1);
        uart.push_rx(1);
        out(&mut uart, RBR, b'k');
        out(&mut uart, IIR, fcr);
        assert_eq!(inb(&mut uart, LSR) & 1, 0);
        assert!(!uart.irq());
        assert_eq!(sent(&mut uart), b"k", "what was sent is sent");
    }
}

#[test]
fn linux_autoconf_finds_a_16550a() {
    let mut uart = Uart::new();
    // The interrupt enable register keeps four bits.
    out(&mut uart, IER, 0);
    assert_eq!(inb(&mut uart, IER), 0);
    out(&mut uart, IER, 0xff);
    assert_eq!(inb(&mut uart, IER), 0x0f);
    out(&mut uart, IER, 0);
    // The loopback test.
    out(&mut uart, MCR, 0b0001_1010);
    assert_eq!(inb(&mut uart, MSR) & 0xf0, 0x90);
    out(&mut uart, MCR, 0);
    // No EFR behind LCR 0xbf: offset 2 is IIR and is not 0 with FIFOs on.
    out(&mut uart, LCR, 0);
    out(&mut uart, IIR, 0x01);
    assert_eq!(inb(&mut uart, IIR) >> 6, 0b11);
    for lcr in [0x80, 0xbf] {
        out(&mut uart, LCR, lcr);
        assert_ne!(inb(&mut uart, IIR), 0);
    }
    // No 64-byte FIFO (16750), not even with DLAB.
    for lcr in [0x00, 0x80] {
        out(&mut uart, LCR, lcr);
        out(&mut uart, IIR, 0x21);
        assert_eq!(inb(&mut uart, IIR) & 0xe0, 0xc0);
    }
    // Nor the XScale's unit enable bit.
    out(&mut uart, LCR, 0);
    out(&mut uart, IER, 0x40);
    assert_eq!(inb(&mut uart, IER), 0);
    assert_eq!(linux_size_fifo(&mut uart), 16);
}

fn linux_size_fifo(uart: &mut Uart) -> usize {
    out(uart, IIR, 0x07);
    out(uart, MCR, 0x10);
    out(uart, LCR, 0x03);
    (0..=255).for_each(|byte| out(uart, RBR, byte));
    let mut count = 0;
    while inb(uart, LSR) & 1 != 0 && count < 256 {
        inb(uart, RBR);
        count += 1;
    }
    count
}

#[test]
fn linux_interrupt_loop_ends_for_a_full_transmit_buffer() {
    // serial8250_interrupt gives up ("too much work") after 512 rounds; a page is the most it has to send.
    let mut uart = running(0b0000_0010);
    let mut left = 4096;
    let mut rounds = 0;
    while uart.irq() {
        rounds += 1;
        assert!(rounds <= 512);
        if inb(&mut uart, IIR) & 0x0f == 0x02 && inb(&mut uart, LSR) & 0x20 != 0 {
            for _ in 0..left.min(16) {
                out(&mut uart, RBR, b'#');
            }
            left -= left.min(16);
            if left == 0 {
                out(&mut uart, IER, 0);
            }
        }
    }
    assert_eq!(left, 0);
}

#[test]
fn the_scratch_register_keeps_a_byte_and_status_registers_do_not() {
    let mut uart = Uart::new();
    for offset in [LSR, MSR, SCR] {
        out(&mut uart, offset, 0x5a);
    }
    assert_eq!(inb(&mut uart, LSR), 0x60);
    assert_eq!(inb(&mut uart, MSR), 0xb0);
    assert_eq!(inb(&mut uart, SCR), 0x5a);
    assert_eq!(uart.read(SCR, Width::Word, NOW), 0xff5a);
}
