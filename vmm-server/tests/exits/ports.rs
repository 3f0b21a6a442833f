//! I/O instructions, and the board behind them.

use devices::{Effect, Nanos, Width};
use layout::guest_board::Chipset;
use proptest::prelude::*;
use vmm_server::{
    answer::{Cause, Next},
    board::Board,
};
use vtx::gpr::Gprs;

use crate::fake::{Ports, answer, guest, raw, reason};

const WIDTHS: [Width; 3] = [Width::Byte, Width::Word, Width::Dword];

/// First and last port of what a PC of this kind has.
const OWNED: [(u16, u16); 13] = [
    (0x20, 0x21),
    (0x40, 0x43),
    (0x60, 0x60),
    (0x61, 0x61),
    (0x64, 0x64),
    (0x70, 0x71),
    (0x80, 0x80),
    (0x92, 0x92),
    (0xa0, 0xa1),
    (0x3f8, 0x3ff),
    (0x4d0, 0x4d1),
    (0xcf8, 0xcfb),
    (0xcfc, 0xcff),
];

fn machine() -> Board {
    Board::new(Chipset::Pc1995, 1 << 20, 1_700_000_000)
}

fn write(machine: &mut Board, writes: &[(u16, u32)]) {
    for &(port, value) in writes {
        machine.output(port, Width::Byte, value, Nanos(0));
    }
}

/// PIC at vector 0x20, everything unmasked.
const PIC: [(u16, u32); 8] =
    [(0x20, 0x11), (0x21, 0x20), (0x21, 4), (0x21, 1), (0x21, 0), (0xa0, 0x11), (0xa1, 0x28), (0xa1, 2)];
/// End of interrupt.
const EOI: (u16, u32) = (0x20, 0x20);
const MILLISECOND: u64 = 1_000_000;

/// Exit qualification of IN or OUT.
fn io(port: u16, width: Width, from: bool) -> u64 {
    (width.bytes() as u64 - 1) | u64::from(from) << 3 | u64::from(port) << 16
}

#[test]
fn an_in_merges_into_al_ax_and_eax() {
    for (width, result) in [(Width::Byte, 0x1234_56ff), (Width::Word, 0x1234_ffff), (Width::Dword, 0xffff_ffff)] {
        let mut guest = guest();
        let gprs = Gprs { rax: 0x1234_5678, ..Gprs::default() };
        assert_eq!(answer(&mut guest, raw(reason::IO, io(0x500, width, true), gprs)), Next::Skip);
        assert_eq!(guest.cpu.exit.gprs.rax, result);
    }
}

#[test]
fn an_out_writes_only_its_width_and_changes_no_register() {
    let mut guest = guest();
    let gprs = Gprs { rax: 0x8000_0034, ..Gprs::default() };
    assert_eq!(answer(&mut guest, raw(reason::IO, io(0x80, Width::Byte, false), gprs)), Next::Skip);
    assert!(!guest.cpu.take_registers_changed());
    assert_eq!(guest.vm.board.input(0x80, Width::Byte, Nanos(0)), 0x34);
}

#[test]
fn unowned_ports_read_ones() {
    let mut machine = machine();
    for port in 0..=0xffff {
        let owned = OWNED.iter().any(|&(first, last)| (first..=last).contains(&port));
        for width in WIDTHS.into_iter().filter(|_| !owned) {
            machine.output(port, width, 0x55aa_55aa, Nanos(0));
            assert_eq!(machine.input(port, width, Nanos(0)), width.mask32(), "{port:#x}");
        }
    }
}

#[test]
fn each_reset_port_resets() {
    for writes in [
        [(0xcf9, 0x02), (0xcf9, 0x06)],
        [(0x64, 0xfe), (0x80, 0)],
        [(0x92, 0x02), (0x92, 0x03)],
        [(0x64, 0xd1), (0x60, 0xfe)],
    ] {
        let mut guest = guest();
        let mut next = Next::Skip;
        for (port, value) in writes {
            let gprs = Gprs { rax: value, ..Gprs::default() };
            let answered = answer(&mut guest, raw(reason::IO, io(port, Width::Byte, false), gprs));
            next = if next == Next::Skip { answered } else { next };
        }
        assert_eq!(next, Next::Reset(Cause::Asked), "{writes:x?}");
    }
}

#[test]
fn a_wide_write_through_the_pci_address_is_no_reset() {
    let mut machine = machine();
    assert_eq!(machine.output_for(0xcf8, Width::Dword, 0x8000_0600, Nanos(0)), Effect::QUIET);
    assert_eq!(machine.input(0xcf8, Width::Dword, Nanos(0)), 0x8000_0600);
}

#[test]
fn a_host_bridge_and_nothing_else_is_on_the_pci_bus() {
    let mut machine = machine();
    let mut ids = |device: u32| {
        machine.output(0xcf8, Width::Dword, 0x8000_0000 | device << 11, Nanos(0));
        machine.input(0xcfc, Width::Dword, Nanos(0))
    };
    assert_eq!(ids(0) & 0xffff, 0x8086);
    assert!((1..32).all(|device| ids(device) == u32::MAX));
}

#[test]
fn late_ticks_are_paid_one_by_one_after_each_end_of_interrupt() {
    let mut machine = machine();
    write(&mut machine, &PIC);
    // Counter 0, mode 2, every 10 ms.
    write(&mut machine, &[(0x43, 0x34), (0x40, 0x9c), (0x40, 0x2e)]);
    assert!(!machine.controllers.pic.pending());
    let _ = machine.advance(Nanos(35 * MILLISECOND));
    for tick in 0..3 {
        assert!(machine.controllers.pic.pending(), "tick {tick}");
        assert_eq!(machine.acknowledge(), 0x20);
        assert!(!machine.controllers.pic.pending(), "it is in service");
        write(&mut machine, &[EOI]);
    }
    assert!(!machine.controllers.pic.pending(), "three ticks in 35 ms");
    assert_eq!(machine.next_event(Nanos(35 * MILLISECOND)).map(|at| at.0 / MILLISECOND), Some(40));
}

#[test]
fn an_empty_transmitter_interrupts_on_line_4() {
    let mut machine = machine();
    write(&mut machine, &PIC);
    // Interrupt enable: THR empty. Modem control: OUT2, the gate of the interrupt.
    write(&mut machine, &[(0x3fc, 0x08), (0x3f9, 0x02)]);
    assert!(machine.controllers.pic.pending());
    assert_eq!(machine.acknowledge(), 0x24);
}

#[test]
fn a_typed_byte_interrupts_and_reading_it_takes_the_interrupt_away() {
    let mut machine = machine();
    write(&mut machine, &PIC);
    write(&mut machine, &[(0x3fc, 0x08), (0x3f9, 0x01)]);
    assert!(machine.uart.push_rx(b'x'));
    assert_eq!(machine.uart_line(), Effect::LINES);
    assert_eq!(machine.acknowledge(), 0x24);
    assert_eq!(machine.input(0x3f8, Width::Byte, Nanos(0)), u32::from(b'x'));
    write(&mut machine, &[EOI]);
    assert!(!machine.controllers.pic.pending());
}

#[test]
fn an_access_says_what_it_asks_for() {
    let mut machine = machine();
    write(&mut machine, &PIC);
    for (port, value, effect) in [
        (0x80, 0, Effect::QUIET),
        (0x43, 0x34, Effect::TIMERS),
        (0x40, 0x9c, Effect::QUIET),
        (0x40, 0x2e, Effect::TIMERS),
        (0x3f8, 0x41, Effect::OUTPUT),
        (0x3fc, 0x08, Effect::LINES | Effect::OUTPUT),
        (0x3f9, 0x02, Effect::LINES | Effect::OUTPUT),
        (0x21, 0xff, Effect::QUIET),
        (0x22, 0x70, Effect::LINES),
        (0xcf9, 0x06, Effect::RESET),
    ] {
        assert_eq!(machine.output_for(port, Width::Byte, value, Nanos(0)), effect, "{port:#x}");
    }
}

#[test]
fn after_a_reset_the_devices_are_new_and_the_clock_runs_on() {
    let mut machine = machine();
    // CMOS byte 0x40, and the year.
    write(&mut machine, &[(0x70, 0x40), (0x71, 0x5a), (0x21, 0), (0x80, 0x77), (0x43, 0x34), (0x40, 9), (0x40, 9)]);
    machine.output(0xcf9, Width::Byte, 6, Nanos(0));
    assert_eq!(machine.reset(), Effect::LINES | Effect::TIMERS);
    assert_eq!(machine.input(0x80, Width::Byte, Nanos(0)), 0);
    write(&mut machine, &[(0x70, 0x40)]);
    assert_eq!(machine.input(0x71, Width::Byte, Nanos(0)), 0x5a);
    write(&mut machine, &[(0x70, 0x09)]);
    assert_eq!(machine.input(0x71, Width::Byte, Nanos(0)), 0x23);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(128) })]

    #[test]
    fn no_port_access_panics_or_answers_beyond_its_width(
        accesses in prop::collection::vec((prop_oneof![0..0xd00u16, any::<u16>()], 0..3usize, any::<u32>(), any::<bool>()), 0..300),
        step in 0..50_000_000u64,
    ) {
        let mut machine = machine();
        let mut now = Nanos(0);
        for (port, width, value, read) in accesses {
            let width = WIDTHS[width];
            if read {
                prop_assert_eq!(machine.input(port, width, now) & !width.mask32(), 0);
            } else {
                machine.output(port, width, value, now);
            }
            now = now + step;
            let _ = machine.advance(now);
            if machine.controllers.pic.pending() {
                machine.acknowledge();
            }
            prop_assert!(machine.next_event(now).is_none_or(|at| at >= now));
        }
    }
}
