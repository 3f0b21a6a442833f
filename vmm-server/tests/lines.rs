//! Interrupt lines of passed-through devices against the PIC, with a guest that masks, serves and ends as Linux does.

use devices::{Device, Nanos, Width, pic::Pic};
use layout::config::VmLine;
use proptest::prelude::*;
use proto::pci::GrantedLine;
use vmm_server::passthrough::lines::Lines;

const NOW: Nanos = Nanos(5_000_000);
const MILLISECOND: u64 = 1_000_000;

const fn line(line: u8, dest: Option<u8>, limit: u16) -> Option<VmLine> {
    Some(VmLine { line, dest, limit })
}

const fn granted(line: u8, isa: Option<u8>, level: bool) -> GrantedLine {
    GrantedLine { line, isa, level }
}

/// A PIC as Linux initialises it: vectors 0x20 and 0x28, nothing masked.
fn pic() -> Pic {
    let mut pic = Pic::new();
    for (offset, value) in [(0, 0x11), (1, 0x20), (1, 4), (1, 1), (1, 0)] {
        pic.primary().write(offset, Width::Byte, value, NOW);
    }
    for (offset, value) in [(0, 0x11), (1, 0x28), (1, 2), (1, 1), (1, 0)] {
        pic.secondary().write(offset, Width::Byte, value, NOW);
    }
    pic
}

/// End of interrupt for an input of the second chip.
fn end(pic: &mut Pic) {
    pic.secondary().write(0, Width::Byte, 0x20, NOW);
    pic.primary().write(0, Width::Byte, 0x20, NOW);
}

fn mask(pic: &mut Pic, bits: u32) {
    pic.secondary().write(1, Width::Byte, bits, NOW);
}

/// A network card's line, at input 11.
fn level(pic: &mut Pic) -> Lines {
    let mut lines = Lines::new(&[line(4, None, 0)], &[granted(4, None, true)]);
    assert_eq!(lines.reset(pic), 0);
    lines
}

fn inputs(wanted: &[Option<VmLine>], granted: &[GrantedLine]) -> Vec<Option<u8>> {
    let lines = Lines::new(wanted, granted);
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
    let mut pic = pic();
    let mut lines = level(&mut pic);
    assert_eq!(pic.elcr().read(1, Width::Byte, NOW), 1 << 3);
    assert_eq!(lines.raise(1, NOW, &mut pic), 0);
    assert_eq!(pic.acknowledge(), 0x2b);
    assert_eq!(lines.settle(&mut pic), 0, "in service");
    end(&mut pic);
    assert_eq!(lines.settle(&mut pic), 1);
    assert!(!lines.in_flight());
    assert!(!pic.pending(), "it is low again");
    assert_eq!(lines.interrupts, 1);
}

/// Linux's handle_level_irq: mask and end, then the device, then unmask. The device asserts until then, so an earlier
/// acknowledgement would bring every interrupt twice.
#[test]
fn a_level_that_is_ended_while_masked_is_acknowledged_when_it_is_unmasked() {
    let mut pic = pic();
    let mut lines = level(&mut pic);
    lines.raise(1, NOW, &mut pic);
    pic.acknowledge();
    mask(&mut pic, 1 << 3);
    end(&mut pic);
    assert_eq!(lines.settle(&mut pic), 0);
    assert!(lines.in_flight());
    mask(&mut pic, 0);
    assert_eq!(lines.settle(&mut pic), 1);
    assert!(!pic.pending());
}

#[test]
fn an_interrupt_at_a_masked_input_waits_and_is_not_lost() {
    let mut pic = pic();
    let mut lines = level(&mut pic);
    mask(&mut pic, 1 << 3);
    assert_eq!(lines.raise(1, NOW, &mut pic), 0);
    assert!(!pic.pending());
    assert_eq!(lines.settle(&mut pic), 0);
    mask(&mut pic, 0);
    assert_eq!(pic.acknowledge(), 0x2b);
}

#[test]
fn the_end_of_an_earlier_service_is_not_taken_for_this_one() {
    let mut pic = pic();
    let mut lines = level(&mut pic);
    // Input 11 once by somebody else's doing, ended before the line interrupts.
    pic.set_line(11, true);
    pic.acknowledge();
    pic.set_line(11, false);
    end(&mut pic);
    assert_eq!(lines.raise(1, NOW, &mut pic), 0);
    assert_eq!(lines.settle(&mut pic), 0);
    assert!(pic.pending());
}

#[test]
fn an_edge_is_acknowledged_at_once_and_waits_in_the_pic() {
    let mut pic = pic();
    let mut lines = Lines::new(&[line(2, None, 0)], &[granted(2, Some(14), false)]);
    lines.reset(&mut pic);
    for _ in 0..2 {
        mask(&mut pic, 1 << 6);
        assert_eq!(lines.raise(1, NOW, &mut pic), 1);
        assert!(!lines.in_flight());
        mask(&mut pic, 0);
        assert_eq!(pic.acknowledge(), 0x2e);
        end(&mut pic);
        assert!(!pic.pending(), "one interrupt an edge");
    }
}

#[test]
fn in_automatic_eoi_mode_a_level_ends_when_it_is_taken() {
    let mut pic = pic();
    for (offset, value) in [(0, 0x11), (1, 0x28), (1, 2), (1, 3), (1, 0)] {
        pic.secondary().write(offset, Width::Byte, value, NOW);
    }
    let mut lines = level(&mut pic);
    lines.raise(1, NOW, &mut pic);
    assert_eq!(pic.acknowledge(), 0x2b);
    assert_eq!(lines.settle(&mut pic), 1);
}

#[test]
fn a_storm_is_acknowledged_when_the_millisecond_is_over() {
    let mut pic = pic();
    let mut lines = Lines::new(&[line(2, None, 3)], &[granted(2, Some(14), false)]);
    for n in 0..3 {
        assert_eq!(lines.raise(1, NOW + n, &mut pic), 1);
    }
    assert_eq!(lines.raise(1, NOW + 3, &mut pic), 0);
    assert_eq!(lines.next_event(), Some(NOW + MILLISECOND));
    assert_eq!(lines.expire(NOW + (MILLISECOND - 1)), 0);
    assert_eq!(lines.expire(NOW + MILLISECOND), 1);
    assert_eq!(lines.next_event(), None);
    assert_eq!(lines.raise(1, NOW + MILLISECOND, &mut pic), 1, "the next millisecond counts anew");
    assert_eq!((lines.interrupts, lines.throttled), (5, 1));
}

#[test]
fn a_storming_level_waits_after_its_end() {
    let mut pic = pic();
    let mut lines = Lines::new(&[line(4, None, 1)], &[granted(4, None, true)]);
    lines.reset(&mut pic);
    for acknowledged in [1, 0] {
        lines.raise(1, NOW, &mut pic);
        pic.acknowledge();
        end(&mut pic);
        assert_eq!(lines.settle(&mut pic), acknowledged);
    }
    assert!(!lines.in_flight());
    assert_eq!(lines.expire(NOW + MILLISECOND), 1);
}

#[test]
fn two_levels_at_one_input_end_together() {
    let mut pic = pic();
    let mut lines = Lines::new(&[line(4, Some(10), 0), line(5, Some(10), 0)], &[]);
    lines.reset(&mut pic);
    lines.raise(0b01, NOW, &mut pic);
    pic.acknowledge();
    lines.raise(0b10, NOW, &mut pic);
    end(&mut pic);
    assert_eq!(lines.settle(&mut pic), 0b11, "whose device still asserts is signalled again");
}

#[test]
fn a_reset_acknowledges_what_the_guest_will_not_serve_any_more() {
    let mut pic = pic();
    let mut lines = Lines::new(&[line(4, None, 0), line(5, None, 0)], &[]);
    lines.reset(&mut pic);
    lines.raise(0b10, NOW, &mut pic);
    let mut pic = Pic::new();
    assert_eq!(lines.reset(&mut pic), 0b10);
    assert!(!lines.in_flight());
    assert_eq!(pic.elcr().read(1, Width::Byte, NOW), 0b1100);
}

#[test]
fn signals_of_lines_that_there_are_not_do_nothing() {
    let mut pic = pic();
    let mut lines = level(&mut pic);
    assert_eq!(lines.raise(0xfffe, NOW, &mut pic), 0);
    assert!(!pic.pending());
    assert_eq!(lines.interrupts, 0);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(256) })]

    /// Whatever the guest writes to its PIC: a line that is in flight is acknowledged at most once, and once the guest
    /// behaves again, it is.
    #[test]
    fn no_guest_loses_a_line_for_good(writes in prop::collection::vec((0..4u16, any::<u8>()), 0..60)) {
        let mut pic = pic();
        let mut lines = level(&mut pic);
        let mut armed = lines.raise(1, NOW, &mut pic) == 1;
        for (port, value) in writes {
            match port {
                0 | 1 => pic.primary().write(port, Width::Byte, value.into(), NOW),
                _ => pic.secondary().write(port - 2, Width::Byte, value.into(), NOW),
            }
            if pic.pending() {
                pic.acknowledge();
            }
            let acknowledged = lines.settle(&mut pic) == 1;
            prop_assert!(!(armed && acknowledged));
            armed |= acknowledged;
        }
        for (offset, value) in [(0, 0x11), (1, 0x20), (1, 4), (1, 1), (1, 0)] {
            pic.primary().write(offset, Width::Byte, value, NOW);
        }
        for (offset, value) in [(0, 0x11), (1, 0x28), (1, 2), (1, 1), (1, 0)] {
            pic.secondary().write(offset, Width::Byte, value, NOW);
        }
        if pic.pending() {
            pic.acknowledge();
            end(&mut pic);
        }
        armed |= lines.settle(&mut pic) == 1;
        prop_assert!(armed);
    }
}
