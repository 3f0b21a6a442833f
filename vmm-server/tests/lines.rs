//! Interrupt lines of passed-through devices against the PIC, with a guest that masks, serves and ends as Linux does.

use devices::{
    Controllers, Device, Nanos, Width,
    lapic::{Lapic, Vectors},
    pci::msix::Message,
};
use layout::{config::VmLine, guest_board::Chipset};
use proptest::prelude::*;
use proto::pci::{GrantedLine, Messages};
use vmm_server::passthrough::lines::{Lines, Signalling};

const NOW: Nanos = Nanos(5_000_000);
const MILLISECOND: u64 = 1_000_000;

const fn line(line: u8, dest: Option<u8>, limit: u16) -> Option<VmLine> {
    Some(VmLine { line, dest, level: true, limit })
}

const fn granted(line: u8, isa: Option<u8>, level: bool) -> GrantedLine {
    GrantedLine { line, isa, level, messages: None }
}

/// A PIC as Linux initialises it: vectors 0x20 and 0x28, nothing masked.
fn controllers() -> Controllers {
    let mut controllers = Controllers::new();
    for (offset, value) in [(0, 0x11), (1, 0x20), (1, 4), (1, 1), (1, 0)] {
        controllers.pic.primary().write(offset, Width::Byte, value, NOW);
    }
    for (offset, value) in [(0, 0x11), (1, 0x28), (1, 2), (1, 1), (1, 0)] {
        controllers.pic.secondary().write(offset, Width::Byte, value, NOW);
    }
    controllers
}

/// End of interrupt for an input of the second chip.
fn end(controllers: &mut Controllers) {
    controllers.pic.secondary().write(0, Width::Byte, 0x20, NOW);
    controllers.pic.primary().write(0, Width::Byte, 0x20, NOW);
}

fn mask(controllers: &mut Controllers, bits: u32) {
    controllers.pic.secondary().write(1, Width::Byte, bits, NOW);
}

/// A network card's line, at input 11.
fn level(controllers: &mut Controllers) -> Lines {
    let mut lines = Lines::new(Chipset::Pc1995, &[line(4, None, 0)], &[granted(4, None, true)]);
    assert_eq!(lines.reset(controllers), 0);
    lines
}

fn inputs(wanted: &[Option<VmLine>], granted: &[GrantedLine]) -> Vec<Option<u8>> {
    let lines = Lines::new(Chipset::Pc1995, wanted, granted);
    (0..wanted.len()).map(|n| lines.input(n)).collect()
}

#[test]
fn a_line_goes_where_the_description_says_or_drivers_expect_or_cards_are() {
    let wanted = [line(2, None, 0), line(3, None, 0), line(4, None, 0), line(5, Some(11), 0), None, line(6, None, 0)];
    let granted = [granted(2, Some(14), false), granted(3, Some(15), false), granted(4, None, true)];
    assert_eq!(inputs(&wanted, &granted), [Some(14), Some(15), Some(10), Some(11), None, Some(9)]);
}

#[test]
fn inputs_of_the_board_and_inputs_that_cannot_be_shared_are_refused() {
    for taken in [0, 1, 2, 4, 8, 16, 255] {
        assert_eq!(inputs(&[line(2, Some(taken), 0)], &[]), [None], "{taken}");
    }
    let edge_and_level = [granted(2, None, true), granted(3, None, false)];
    assert_eq!(inputs(&[line(2, Some(5), 0), line(3, Some(5), 0)], &edge_and_level), [Some(5), None]);
    assert_eq!(inputs(&[line(2, Some(5), 0), line(3, Some(5), 0)], &[]), [Some(5), Some(5)], "levels");
}

#[test]
fn more_lines_than_inputs_share_one() {
    let wanted: Vec<_> = (0..12).map(|n| line(n, None, 0)).collect();
    let inputs = inputs(&wanted, &[]);
    assert_eq!(inputs[9..], [Some(6), Some(11), Some(11)]);
}

#[test]
fn a_level_is_acknowledged_when_the_guest_has_ended_it() {
    let mut controllers = controllers();
    let mut lines = level(&mut controllers);
    assert_eq!(controllers.pic.elcr().read(1, Width::Byte, NOW), 1 << 3);
    assert_eq!(lines.raise(1, NOW, &mut controllers), 0);
    assert_eq!(controllers.pic.acknowledge(), 0x2b);
    assert_eq!(lines.settle(&mut controllers), 0, "in service");
    end(&mut controllers);
    assert_eq!(lines.settle(&mut controllers), 1);
    assert!(!lines.in_flight());
    assert!(!controllers.pic.pending(), "it is low again");
    assert_eq!(lines.interrupts, 1);
}

/// Linux's handle_level_irq: mask and end, then the device, then unmask. The device asserts until then, so an earlier
/// acknowledgement would bring every interrupt twice.
#[test]
fn a_level_that_is_ended_while_masked_is_acknowledged_when_it_is_unmasked() {
    let mut controllers = controllers();
    let mut lines = level(&mut controllers);
    lines.raise(1, NOW, &mut controllers);
    controllers.pic.acknowledge();
    mask(&mut controllers, 1 << 3);
    end(&mut controllers);
    assert_eq!(lines.settle(&mut controllers), 0);
    assert!(lines.in_flight());
    mask(&mut controllers, 0);
    assert_eq!(lines.settle(&mut controllers), 1);
    assert!(!controllers.pic.pending());
}

#[test]
fn an_interrupt_at_a_masked_input_waits_and_is_not_lost() {
    let mut controllers = controllers();
    let mut lines = level(&mut controllers);
    mask(&mut controllers, 1 << 3);
    assert_eq!(lines.raise(1, NOW, &mut controllers), 0);
    assert!(!controllers.pic.pending());
    assert_eq!(lines.settle(&mut controllers), 0);
    mask(&mut controllers, 0);
    assert_eq!(controllers.pic.acknowledge(), 0x2b);
}

#[test]
fn the_end_of_an_earlier_service_is_not_taken_for_this_one() {
    let mut controllers = controllers();
    let mut lines = level(&mut controllers);
    // Input 11 once by somebody else's doing, ended before the line interrupts.
    controllers.pic.set_line(11, true);
    controllers.pic.acknowledge();
    controllers.pic.set_line(11, false);
    end(&mut controllers);
    assert_eq!(lines.raise(1, NOW, &mut controllers), 0);
    assert_eq!(lines.settle(&mut controllers), 0);
    assert!(controllers.pic.pending());
}

#[test]
fn an_edge_is_acknowledged_at_once_and_waits_in_the_pic() {
    let mut controllers = controllers();
    let mut lines = Lines::new(Chipset::Pc1995, &[line(2, None, 0)], &[granted(2, Some(14), false)]);
    lines.reset(&mut controllers);
    for _ in 0..2 {
        mask(&mut controllers, 1 << 6);
        assert_eq!(lines.raise(1, NOW, &mut controllers), 1);
        assert!(!lines.in_flight());
        mask(&mut controllers, 0);
        assert_eq!(controllers.pic.acknowledge(), 0x2e);
        end(&mut controllers);
        assert!(!controllers.pic.pending(), "one interrupt an edge");
    }
}

#[test]
fn in_automatic_eoi_mode_a_level_ends_when_it_is_taken() {
    let mut controllers = controllers();
    for (offset, value) in [(0, 0x11), (1, 0x28), (1, 2), (1, 3), (1, 0)] {
        controllers.pic.secondary().write(offset, Width::Byte, value, NOW);
    }
    let mut lines = level(&mut controllers);
    lines.raise(1, NOW, &mut controllers);
    assert_eq!(controllers.pic.acknowledge(), 0x2b);
    assert_eq!(lines.settle(&mut controllers), 1);
}

#[test]
fn a_storm_is_acknowledged_when_the_millisecond_is_over() {
    let mut controllers = controllers();
    let mut lines = Lines::new(Chipset::Pc1995, &[line(2, None, 3)], &[granted(2, Some(14), false)]);
    for n in 0..3 {
        assert_eq!(lines.raise(1, NOW + n, &mut controllers), 1);
    }
    assert_eq!(lines.raise(1, NOW + 3, &mut controllers), 0);
    assert_eq!(lines.next_event(), Some(NOW + MILLISECOND));
    assert_eq!(lines.expire(NOW + (MILLISECOND - 1), &mut controllers), 0);
    assert_eq!(lines.expire(NOW + MILLISECOND, &mut controllers), 1);
    assert_eq!(lines.next_event(), None);
    assert_eq!(lines.raise(1, NOW + MILLISECOND, &mut controllers), 1, "the next millisecond counts anew");
    assert_eq!((lines.interrupts, lines.throttled), (5, 1));
}

#[test]
fn a_storming_level_waits_after_its_end() {
    let mut controllers = controllers();
    let mut lines = Lines::new(Chipset::Pc1995, &[line(4, None, 1)], &[granted(4, None, true)]);
    lines.reset(&mut controllers);
    for acknowledged in [1, 0] {
        lines.raise(1, NOW, &mut controllers);
        controllers.pic.acknowledge();
        end(&mut controllers);
        assert_eq!(lines.settle(&mut controllers), acknowledged);
    }
    assert!(!lines.in_flight());
    assert_eq!(lines.expire(NOW + MILLISECOND, &mut controllers), 1);
}

#[test]
fn two_levels_at_one_input_end_together() {
    let mut controllers = controllers();
    let mut lines = Lines::new(Chipset::Pc1995, &[line(4, Some(10), 0), line(5, Some(10), 0)], &[]);
    lines.reset(&mut controllers);
    lines.raise(0b01, NOW, &mut controllers);
    controllers.pic.acknowledge();
    lines.raise(0b10, NOW, &mut controllers);
    end(&mut controllers);
    assert_eq!(lines.settle(&mut controllers), 0b11, "whose device still asserts is signalled again");
}

#[test]
fn a_reset_acknowledges_what_the_guest_will_not_serve_any_more() {
    let mut controllers = controllers();
    let mut lines = Lines::new(Chipset::Pc1995, &[line(4, None, 0), line(5, None, 0)], &[]);
    lines.reset(&mut controllers);
    lines.raise(0b10, NOW, &mut controllers);
    let mut controllers = Controllers::new();
    assert_eq!(lines.reset(&mut controllers), 0b10);
    assert!(!lines.in_flight());
    assert_eq!(controllers.pic.elcr().read(1, Width::Byte, NOW), 0b1100);
}

#[test]
fn signals_of_lines_that_there_are_not_do_nothing() {
    let mut controllers = controllers();
    let mut lines = level(&mut controllers);
    assert_eq!(lines.raise(0xfffe, NOW, &mut controllers), 0);
    assert!(!controllers.pic.pending());
    assert_eq!(lines.interrupts, 0);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(256) })]

    /// Whatever the guest writes to its PIC: a line that is in flight is acknowledged at most once, and once the guest
    /// behaves again, it is.
    #[test]
    fn no_guest_loses_a_line_for_good(writes in prop::collection::vec((0..4u16, any::<u8>()), 0..60)) {
        let mut controllers = controllers();
        let mut lines = level(&mut controllers);
        let mut armed = lines.raise(1, NOW, &mut controllers) == 1;
        for (port, value) in writes {
            match port {
                0 | 1 => controllers.pic.primary().write(port, Width::Byte, value.into(), NOW),
                _ => controllers.pic.secondary().write(port - 2, Width::Byte, value.into(), NOW),
            }
            if controllers.pic.pending() {
                controllers.pic.acknowledge();
            }
            let acknowledged = lines.settle(&mut controllers) == 1;
            prop_assert!(!(armed && acknowledged));
            armed |= acknowledged;
        }
        for (offset, value) in [(0, 0x11), (1, 0x20), (1, 4), (1, 1), (1, 0)] {
            controllers.pic.primary().write(offset, Width::Byte, value, NOW);
        }
        for (offset, value) in [(0, 0x11), (1, 0x28), (1, 2), (1, 1), (1, 0)] {
            controllers.pic.secondary().write(offset, Width::Byte, value, NOW);
        }
        if controllers.pic.pending() {
            controllers.pic.acknowledge();
            end(&mut controllers);
        }
        armed |= lines.settle(&mut controllers) == 1;
        prop_assert!(armed);
    }
}

/// A guest with an I/O APIC never masks the input: the end of the service, which the local APIC tells, is enough.
#[test]
fn the_i_o_apic_ends_a_service_without_a_mask() {
    let (mut controllers, mut lapic) = (Controllers::new(), Lapic::new());
    let mut lines = Lines::new(Chipset::Pc, &[line(4, None, 0)], &[granted(4, None, true)]);
    lines.reset(&mut controllers);
    controllers.ioapic.write(0, Width::Dword, 0x10 + 2 * 11);
    controllers.ioapic.write(0x10, Width::Dword, 0xa051);
    for _ in 0..3 {
        assert_eq!(lines.raise(1, NOW, &mut controllers), 0);
        controllers.route(&mut lapic);
        assert_eq!((lapic.acknowledge(), lines.settle(&mut controllers)), (Some(0x51), 0));
        lapic.write(0xb0, Width::Dword, 0, 0);
        controllers.end(&mut lapic);
        assert_eq!(lines.settle(&mut controllers), 1, "the device may interrupt again");
        controllers.route(&mut lapic);
        assert_eq!(lapic.acknowledge(), None, "the input is low");
    }
}

/// With ACPI, input 9 is the system control interrupt's.
#[test]
fn no_line_gets_the_input_of_power_management() {
    let wanted = [line(4, None, 0), line(5, None, 0), line(6, None, 0), line(7, Some(9), 0)];
    let inputs = |chipset| {
        let lines = Lines::new(chipset, &wanted, &[]);
        [0, 1, 2, 3].map(|n| lines.input(n))
    };
    assert_eq!(inputs(Chipset::Pc1995), [Some(11), Some(10), Some(5), Some(9)]);
    assert_eq!(inputs(Chipset::Pc), [Some(11), Some(10), Some(5), None]);
}

#[test]
fn each_device_on_the_bus_has_the_input_of_its_first_line() {
    let mut lines = Lines::new(Chipset::Pc, &[line(4, None, 0), line(2, Some(14), 0), line(3, Some(15), 0)], &[]);
    for (device, input) in [(1, 11), (2, 14), (2, 15)] {
        lines.wire(device, input);
    }
    let inputs = lines.inputs();
    assert_eq!((inputs[1], inputs[2], inputs[17]), (11, 14, 10), "modelled functions have a free one");
}

/// Linux takes an ISA interrupt for an edge where no table says otherwise; a card off the PCI bus has what the description says.
#[test]
fn an_edge_of_a_card_off_the_bus_is_acknowledged_at_once() {
    let (mut controllers, mut lapic) = (Controllers::new(), Lapic::new());
    let card = VmLine { line: 4, dest: Some(3), level: false, limit: 0 };
    let mut lines = Lines::new(Chipset::Pc, &[Some(card)], &[]);
    lines.reset(&mut controllers);
    controllers.ioapic.write(0, Width::Dword, 0x10 + 2 * 3);
    controllers.ioapic.write(0x10, Width::Dword, 0x33);
    for _ in 0..3 {
        assert_eq!(lines.raise(1, NOW, &mut controllers), 1);
        controllers.route(&mut lapic);
        assert_eq!(lapic.acknowledge(), Some(0x33));
        lapic.write(0xb0, Width::Dword, 0, 0);
    }
}

/// A guest that takes a level for an edge keeps getting its interrupts.
#[test]
fn a_level_that_the_guest_takes_for_an_edge_ends_when_it_is_sent() {
    let (mut controllers, mut lapic) = (Controllers::new(), Lapic::new());
    let mut lines = Lines::new(Chipset::Pc, &[line(4, None, 0)], &[granted(4, None, true)]);
    lines.reset(&mut controllers);
    controllers.ioapic.write(0, Width::Dword, 0x10 + 2 * 11);
    controllers.ioapic.write(0x10, Width::Dword, 0x51);
    for _ in 0..3 {
        assert_eq!(lines.raise(1, NOW, &mut controllers), 0);
        controllers.route(&mut lapic);
        assert_eq!((lapic.acknowledge(), lines.settle(&mut controllers)), (Some(0x51), 1));
        lapic.write(0xb0, Width::Dword, 0, 0);
    }
}

fn message(vector: u8) -> Signalling {
    Signalling::Message(Message::of(0xfee0_0000, vector.into()))
}

fn sent(lines: &mut Lines) -> Vec<u8> {
    let mut messages: Vectors = lines.take_messages();
    let one = || {
        let vector = messages.highest()?;
        messages.clear(vector);
        Some(vector)
    };
    std::iter::from_fn(one).collect()
}

#[test]
fn a_line_that_the_guest_wants_as_a_message_is_one_and_leaves_the_controllers_alone() {
    let mut controllers = controllers();
    let mut lines = level(&mut controllers);
    assert!(lines.signal_by(0, message(0x51), &mut controllers));
    assert!(!lines.signal_by(0, message(0x51), &mut controllers), "it is known");
    for _ in 0..3 {
        assert_eq!((lines.raise(1, NOW, &mut controllers), sent(&mut lines)), (1, vec![0x51]));
    }
    assert!(!lines.in_flight() && !controllers.pic.pending());
    lines.signal_by(0, Signalling::Message(None), &mut controllers);
    assert_eq!((lines.raise(1, NOW, &mut controllers), sent(&mut lines)), (1, vec![]), "not for the processor");
    assert_eq!(lines.reset(&mut controllers), 0);
    lines.raise(1, NOW, &mut controllers);
    assert_eq!((sent(&mut lines), controllers.pic.acknowledge()), (vec![], 0x2b), "after a reset it is a pin again");
}

/// The kernel does not mask messages, so they come while the guest serves the one before.
#[test]
fn a_message_that_comes_during_a_service_is_one_more_interrupt_on_the_pin() {
    let mut controllers = controllers();
    let mut lines = level(&mut controllers);
    lines.raise(1, NOW, &mut controllers);
    assert_eq!(controllers.pic.acknowledge(), 0x2b);
    for _ in 0..3 {
        assert_eq!(lines.raise(1, NOW, &mut controllers), 0);
    }
    end(&mut controllers);
    lines.settle(&mut controllers);
    assert_eq!(controllers.pic.acknowledge(), 0x2b);
    end(&mut controllers);
    assert_eq!((lines.settle(&mut controllers), lines.in_flight()), (1, false));
    assert!(!controllers.pic.pending());
    // As Linux does it: the input is masked meanwhile.
    lines.raise(1, NOW, &mut controllers);
    controllers.pic.acknowledge();
    mask(&mut controllers, 1 << 3);
    end(&mut controllers);
    lines.settle(&mut controllers);
    lines.raise(1, NOW, &mut controllers);
    assert!(lines.in_flight() && !controllers.pic.pending());
    mask(&mut controllers, 0);
    lines.settle(&mut controllers);
    assert_eq!(controllers.pic.acknowledge(), 0x2b);
}

#[test]
fn what_comes_while_a_function_may_not_interrupt_comes_later() {
    let mut controllers = controllers();
    let mut lines = level(&mut controllers);
    for (later, vectors) in [(Signalling::Pin, vec![]), (message(0x61), vec![0x61])] {
        lines.signal_by(0, Signalling::Off, &mut controllers);
        for _ in 0..2 {
            lines.raise(1, NOW, &mut controllers);
        }
        assert!(sent(&mut lines).is_empty() && !controllers.pic.pending() && !lines.in_flight());
        lines.signal_by(0, later, &mut controllers);
        assert_eq!((controllers.pic.pending(), sent(&mut lines)), (vectors.is_empty(), vectors));
        lines.reset(&mut controllers);
        if controllers.pic.pending() {
            controllers.pic.acknowledge();
            end(&mut controllers);
        }
        controllers.drive(11, false);
    }
}

#[test]
fn an_interrupt_that_the_guest_has_not_served_moves_with_the_function() {
    let mut controllers = controllers();
    let mut lines = level(&mut controllers);
    lines.raise(1, NOW, &mut controllers);
    assert!(lines.in_flight());
    lines.signal_by(0, message(0x71), &mut controllers);
    assert_eq!((sent(&mut lines), lines.in_flight(), controllers.pic.pending()), (vec![0x71], false, false));
}

#[test]
fn a_storm_of_messages_gives_one_when_the_millisecond_is_over() {
    let mut controllers = controllers();
    let mut lines = Lines::new(Chipset::Pc, &[line(4, None, 2)], &[granted(4, None, true)]);
    lines.reset(&mut controllers);
    lines.signal_by(0, message(0x51), &mut controllers);
    for (vectors, acknowledged) in [(vec![0x51], 1), (vec![0x51], 1), (vec![], 0), (vec![], 0)] {
        assert_eq!((lines.raise(1, NOW, &mut controllers), sent(&mut lines)), (acknowledged, vectors));
    }
    assert_eq!(lines.next_event(), Some(NOW + MILLISECOND));
    assert_eq!((lines.expire(NOW + MILLISECOND, &mut controllers), sent(&mut lines)), (1, vec![0x51]));
    assert_eq!((lines.next_event(), lines.expire(NOW + 2 * MILLISECOND, &mut controllers)), (None, 0));
}

/// Beyond its limit a function's messages are masked on the machine, until the millisecond is over.
#[test]
fn a_storm_of_messages_is_masked_on_the_machine() {
    let mut controllers = controllers();
    let sender = GrantedLine { messages: Some(Messages::Msi(0xd0)), ..granted(4, None, true) };
    let mut lines =
        Lines::new(Chipset::Pc1995, &[line(3, None, 1), line(4, None, 2)], &[granted(3, None, true), sender]);
    lines.reset(&mut controllers);
    for (signalling, masked) in [(message(0x51), [0, 0, 2]), (Signalling::Pin, [0, 0, 2])] {
        lines.signal_by(1, signalling, &mut controllers);
        for masked in masked {
            lines.raise(0b10, NOW, &mut controllers);
            assert_eq!(lines.masked, masked);
        }
        if signalling == Signalling::Pin {
            assert_eq!(controllers.pic.acknowledge(), 0x2a);
            end(&mut controllers);
            lines.settle(&mut controllers);
        }
        assert_eq!((lines.expire(NOW + (MILLISECOND - 1), &mut controllers), lines.masked), (0, 2));
        sent(&mut lines);
        assert_eq!((lines.expire(NOW + MILLISECOND, &mut controllers), lines.masked), (2, 0));
        // One may have been lost.
        assert_eq!(
            (sent(&mut lines).len(), controllers.pic.pending()),
            match signalling {
                Signalling::Pin => (0, true),
                _ => (1, false),
            }
        );
        lines.reset(&mut controllers);
    }
    // The kernel masks a pin.
    lines.raise(0b01, NOW, &mut controllers);
    lines.raise(0b01, NOW, &mut controllers);
    assert_eq!(lines.masked, 0);
}

/// A card's pin that does not interrupt, as the log names it: how often until a time, with its input unmasked from 1 s on.
fn reports(until: u64, mut at: impl FnMut(u64, &mut Lines, &mut Controllers)) -> Vec<u64> {
    const CARD: layout::Bdf = layout::Bdf { bus: 0, device: 3, function: 0 };
    let mut controllers = controllers();
    mask(&mut controllers, 0xff);
    let mut lines = level(&mut controllers);
    lines.expect(0, CARD);
    let mut reports = Vec::new();
    for second in 0..until {
        if second == 1 {
            mask(&mut controllers, 0);
        }
        at(second, &mut lines, &mut controllers);
        let said = lines.silent(Nanos::from_millis(1000 * second), &controllers);
        reports.extend(said.inspect(|function| assert_eq!(*function, CARD)).map(|_| second));
    }
    reports
}

#[test]
fn a_pin_that_is_silent_for_five_seconds_after_its_driver_has_unmasked_it_is_reported_once() {
    assert_eq!(reports(60, |_, _, _| {}), [6]);
    // The input is masked for a while: another driver begins.
    assert_eq!(reports(60, |second, _, controllers| mask(controllers, if second < 6 { 0xff } else { 0 })), [11]);
}

#[test]
fn a_pin_that_has_interrupted_or_sends_messages_is_not_reported() {
    let raise = |when: u64| {
        move |second: u64, lines: &mut Lines, controllers: &mut Controllers| {
            if second == when {
                lines.raise(1, Nanos::from_millis(1000 * second), controllers);
            }
        }
    };
    assert_eq!(reports(60, raise(0)), [], "before its driver has unmasked it");
    assert_eq!(reports(60, raise(5)), []);
    let sender = GrantedLine { messages: Some(Messages::Msi(0xd0)), ..granted(4, None, true) };
    let mut lines = Lines::new(Chipset::Pc1995, &[line(4, None, 0)], &[sender]);
    lines.expect(0, layout::Bdf { bus: 0, device: 3, function: 0 });
    assert!(!lines.may_be_silent(Nanos::from_millis(60_000)));
}

#[test]
fn a_reset_of_the_guest_begins_the_five_seconds_anew() {
    let reset = |second: u64, lines: &mut Lines, controllers: &mut Controllers| {
        if second == 4 {
            lines.reset(controllers);
        }
    };
    assert_eq!(reports(60, reset), [9]);
}
