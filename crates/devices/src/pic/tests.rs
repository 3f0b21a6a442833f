//! The pair as the 8259A data sheet has it; command words are spelled out in bits.

use super::*;
use proptest::prelude::*;
use std::vec::Vec;

const NOW: Nanos = Nanos::ZERO;

fn out(pic: &mut Pic, port: u16, value: u8) {
    let (mut ports, offset) = view(pic, port);
    ports.write(offset, Width::Byte, value.into(), NOW);
}

fn inb(pic: &mut Pic, port: u16) -> u8 {
    let (mut ports, offset) = view(pic, port);
    ports.read(offset, Width::Byte, NOW) as u8
}

fn view(pic: &mut Pic, port: u16) -> (Ports<'_>, u16) {
    match port {
        0x20..0x22 => (pic.primary(), port - 0x20),
        0xa0..0xa2 => (pic.secondary(), port - 0xa0),
        _ => (pic.elcr(), port - 0x4d0),
    }
}

/// The sequence of Linux's `init_8259A`, then all lines unmasked.
fn linux() -> Pic {
    initialised(0b0000_0001)
}

fn initialised(icw4: u8) -> Pic {
    let mut pic = Pic::new();
    for (port, value) in [
        (0x21, 0xff),
        (0x20, 0x11),
        (0x21, 0x30),
        (0x21, 0x04),
        (0x21, icw4),
        (0xa0, 0x11),
        (0xa1, 0x38),
        (0xa1, 0x02),
        (0xa1, 0x01),
        (0x21, 0x00),
        (0xa1, 0x00),
    ] {
        out(&mut pic, port, value);
    }
    pic
}

fn pulse(pic: &mut Pic, irq: u8) {
    pic.set_line(irq, false);
    pic.set_line(irq, true);
}

#[test]
fn linux_finds_a_pic() {
    // probe_8259A: mask the second chip, write a pattern to the first's mask and read it back.
    let mut pic = Pic::new();
    out(&mut pic, 0xa1, 0xff);
    out(&mut pic, 0x21, 0b1111_1011);
    assert_eq!(inb(&mut pic, 0x21), 0b1111_1011);
    assert!(!pic.pending());
}

#[test]
fn each_line_has_its_vector() {
    for irq in (0..16).filter(|&irq| irq != 2) {
        let mut pic = linux();
        pic.set_line(irq, true);
        assert!(pic.pending(), "{irq}");
        assert_eq!(pic.acknowledge(), 0x30 + irq);
        assert!(pic.in_service(irq) && !pic.requested(irq));
        assert!(!pic.pending());
    }
}

#[test]
fn lines_beyond_the_pins_are_ignored() {
    let mut pic = linux();
    for irq in [2, 16, 255] {
        pic.set_line(irq, true);
        assert!(!pic.pending() && !pic.requested(irq));
    }
}

#[test]
fn an_edge_counts_once_however_long_the_line_stays_high() {
    let mut pic = linux();
    pic.set_line(4, true);
    assert_eq!(pic.acknowledge(), 0x34);
    out(&mut pic, 0x20, 0x20);
    pic.set_line(4, true);
    assert!(!pic.pending());
    pulse(&mut pic, 4);
    assert!(pic.pending());
}

#[test]
fn an_edge_during_service_waits_for_the_end_of_interrupt() {
    let mut pic = linux();
    pulse(&mut pic, 0);
    assert_eq!(pic.acknowledge(), 0x30);
    pulse(&mut pic, 0);
    assert!(!pic.pending() && pic.requested(0));
    out(&mut pic, 0x20, 0b0110_0000); // Specific EOI of level 0.
    assert!(pic.pending());
}

#[test]
fn a_line_lowered_before_the_acknowledge_is_a_spurious_interrupt_7() {
    let mut pic = linux();
    pic.set_line(3, true);
    assert!(pic.pending());
    pic.set_line(3, false);
    assert!(!pic.pending());
    assert_eq!(pic.acknowledge(), 0x37);
    out(&mut pic, 0x20, 0x0b);
    assert_eq!(inb(&mut pic, 0x20), 0, "a spurious interrupt has no in-service bit");
}

#[test]
fn a_lowered_line_of_the_second_chip_is_spurious_on_the_first() {
    let mut pic = linux();
    pic.set_line(9, true);
    pic.set_line(9, false);
    assert_eq!(pic.acknowledge(), 0x37);
    assert!(!pic.in_service(2) && !pic.in_service(15));
}

#[test]
fn a_masked_edge_is_remembered() {
    let mut pic = linux();
    out(&mut pic, 0x21, 0b0001_0000);
    pulse(&mut pic, 4);
    assert!(pic.masked(4) && pic.requested(4) && !pic.pending());
    out(&mut pic, 0x21, 0);
    assert_eq!(pic.acknowledge(), 0x34);
}

#[test]
fn masking_the_cascade_masks_the_second_chip() {
    let mut pic = linux();
    out(&mut pic, 0x21, 0b0000_0100);
    pulse(&mut pic, 8);
    assert!(pic.masked(8) && !pic.masked(1) && !pic.pending());
}

#[test]
fn lower_numbers_come_first_and_the_second_chip_stands_at_2() {
    let mut pic = linux();
    for irq in [3, 8, 15, 1] {
        pulse(&mut pic, irq);
    }
    let mut order = Vec::new();
    while pic.pending() {
        let vector = pic.acknowledge();
        order.push(vector);
        if vector >= 0x38 {
            out(&mut pic, 0xa0, 0x20);
        }
        out(&mut pic, 0x20, 0x20);
    }
    assert_eq!(order, [0x31, 0x38, 0x3f, 0x33]);
}

#[test]
fn a_higher_level_nests_and_a_lower_one_waits() {
    let mut pic = linux();
    pulse(&mut pic, 4);
    assert_eq!(pic.acknowledge(), 0x34);
    pulse(&mut pic, 5);
    assert!(!pic.pending());
    pulse(&mut pic, 1);
    assert_eq!(pic.acknowledge(), 0x31);
    out(&mut pic, 0x20, 0x0b);
    assert_eq!(inb(&mut pic, 0x20), 0b0001_0010);
    out(&mut pic, 0x20, 0x20); // Non-specific: ends level 1, the highest in service.
    assert_eq!(inb(&mut pic, 0x20), 0b0001_0000);
}

#[test]
fn a_level_line_asks_until_it_is_lowered() {
    let mut pic = linux();
    out(&mut pic, 0x4d1, 0b0000_1000); // Line 11.
    pic.set_line(11, true);
    for _ in 0..3 {
        assert_eq!(pic.acknowledge(), 0x3b);
        assert!(pic.requested(11));
        out(&mut pic, 0xa0, 0b0110_0011);
        out(&mut pic, 0x20, 0b0110_0010);
        assert!(pic.pending());
    }
    pic.set_line(11, false);
    assert!(!pic.pending());
}

#[test]
fn the_elcr_keeps_timer_keyboard_cascade_clock_and_fpu_on_edges() {
    let mut pic = linux();
    let mut elcr = pic.elcr();
    elcr.write(0, Width::Word, 0xffff, NOW);
    assert_eq!(elcr.read(0, Width::Word, NOW), 0b1101_1110_1111_1000);
}

#[test]
fn a_high_line_that_becomes_edge_triggered_needs_a_new_edge() {
    let mut pic = linux();
    out(&mut pic, 0x4d0, 0b0010_0000);
    pic.set_line(5, true);
    out(&mut pic, 0x4d0, 0);
    assert!(!pic.pending());
    pulse(&mut pic, 5);
    assert!(pic.pending());
}

#[test]
fn initialisation_forgets_edges_masks_and_service() {
    let mut pic = linux();
    pulse(&mut pic, 1);
    pic.acknowledge();
    pulse(&mut pic, 4);
    out(&mut pic, 0x21, 0xff);
    out(&mut pic, 0x20, 0x11);
    assert_eq!(inb(&mut pic, 0x20), 0, "IRR");
    for value in [0x08, 0x04, 0x01] {
        out(&mut pic, 0x21, value);
    }
    assert_eq!(inb(&mut pic, 0x21), 0, "IMR");
    assert!(!pic.in_service(1) && !pic.pending());
    pulse(&mut pic, 4);
    assert_eq!(pic.acknowledge(), 0x0c);
}

#[test]
fn a_single_chip_without_icw4_takes_its_mask_after_icw2() {
    let mut pic = Pic::new();
    out(&mut pic, 0x20, 0b0001_0010); // ICW1: single, no ICW4.
    out(&mut pic, 0x21, 0x43); // ICW2: the low three bits do not count.
    out(&mut pic, 0x21, 0b1010_1010);
    assert_eq!(inb(&mut pic, 0x21), 0b1010_1010);
    pulse(&mut pic, 0);
    assert_eq!(pic.acknowledge(), 0x40);
}

#[test]
fn automatic_eoi_leaves_nothing_in_service() {
    let mut pic = initialised(0b0000_0011);
    pulse(&mut pic, 6);
    assert_eq!(pic.acknowledge(), 0x36);
    assert!(!pic.in_service(6));
    assert_eq!(pic.take_ended(), 1 << 6);
    pulse(&mut pic, 6);
    assert!(pic.pending());
}

#[test]
fn automatic_eoi_can_rotate() {
    let mut pic = initialised(0b0000_0011);
    out(&mut pic, 0x20, 0b1000_0000);
    pulse(&mut pic, 0);
    assert_eq!(pic.acknowledge(), 0x30);
    pulse(&mut pic, 0);
    pulse(&mut pic, 7);
    assert_eq!(pic.acknowledge(), 0x37, "level 0 has the lowest priority now");
    out(&mut pic, 0x20, 0b0000_0000);
    assert_eq!(pic.acknowledge(), 0x30);
    pulse(&mut pic, 1);
    pulse(&mut pic, 0);
    assert_eq!(pic.acknowledge(), 0x30, "without rotation the order stays: 7 is lowest");
}

#[test]
fn rotation_makes_the_level_served_the_lowest() {
    let mut pic = linux();
    pulse(&mut pic, 4);
    pic.acknowledge();
    out(&mut pic, 0x20, 0b1010_0000); // Rotate on non-specific EOI.
    for irq in [4, 5, 3] {
        pulse(&mut pic, irq);
    }
    assert_eq!(pic.acknowledge(), 0x35);
    out(&mut pic, 0x20, 0b1110_0101); // Rotate on specific EOI of 5: then 6, 7, 0 …
    assert_eq!(pic.acknowledge(), 0x33);
    out(&mut pic, 0x20, 0b0010_0000);
    assert_eq!(pic.acknowledge(), 0x34);
}

#[test]
fn priority_can_be_set_without_an_eoi() {
    let mut pic = linux();
    out(&mut pic, 0x20, 0b1100_0101); // Level 5 is lowest, 6 highest.
    pulse(&mut pic, 0);
    pulse(&mut pic, 6);
    assert_eq!(pic.acknowledge(), 0x36);
    assert!(!pic.pending());
}

#[test]
fn special_mask_mode_lets_lower_levels_through() {
    let mut pic = linux();
    pulse(&mut pic, 3);
    pic.acknowledge();
    pulse(&mut pic, 5);
    out(&mut pic, 0x21, 0b0000_1000);
    assert!(!pic.pending(), "masking a level in service does not help by itself");
    out(&mut pic, 0x20, 0b0110_1000); // OCW3: set special mask.
    assert_eq!(pic.acknowledge(), 0x35);
    out(&mut pic, 0x20, 0x20);
    pulse(&mut pic, 6);
    out(&mut pic, 0x20, 0b0100_1000); // Reset special mask: level 3 in service counts again.
    assert!(!pic.pending());
}

#[test]
fn special_fully_nested_mode_lets_the_slave_interrupt_itself() {
    for (icw4, nests) in [(0b0000_0001, false), (0b0001_0001, true)] {
        let mut pic = initialised(icw4);
        pulse(&mut pic, 12);
        assert_eq!(pic.acknowledge(), 0x3c);
        pulse(&mut pic, 9);
        assert_eq!(pic.pending(), nests);
        pulse(&mut pic, 3);
        assert!(nests || !pic.pending(), "level 3 stays below the slave");
        if nests {
            assert_eq!(pic.acknowledge(), 0x39);
            assert!(!pic.pending());
        }
    }
}

#[test]
fn a_poll_acknowledges_and_names_the_level() {
    let mut pic = linux();
    pulse(&mut pic, 4);
    out(&mut pic, 0x20, 0b0000_1100);
    assert_eq!(inb(&mut pic, 0x20), 0b1000_0100);
    assert!(pic.in_service(4));
    out(&mut pic, 0x20, 0b0000_1100);
    assert_eq!(inb(&mut pic, 0x20) & 0x80, 0, "nothing asks");
    assert_eq!(inb(&mut pic, 0x20), 0, "a poll is good for one read: this one is IRR");
}

#[test]
fn ocw3_chooses_between_irr_and_isr_and_the_choice_stays() {
    let mut pic = linux();
    pulse(&mut pic, 1);
    pic.acknowledge();
    pulse(&mut pic, 6);
    assert_eq!(inb(&mut pic, 0x20), 0b0100_0000);
    out(&mut pic, 0x20, 0b0000_1011);
    assert_eq!(inb(&mut pic, 0x20), 0b0000_0010);
    out(&mut pic, 0x20, 0b0000_1000); // No read command: nothing changes.
    assert_eq!(inb(&mut pic, 0x20), 0b0000_0010);
    out(&mut pic, 0x20, 0b0000_1010);
    assert_eq!(inb(&mut pic, 0x20), 0b0100_0000);
}

#[test]
fn the_end_of_each_service_is_reported_once() {
    let mut pic = linux();
    pulse(&mut pic, 11);
    pic.acknowledge();
    assert_eq!(pic.take_ended(), 0);
    out(&mut pic, 0xa0, 0b0110_0011);
    out(&mut pic, 0x20, 0b0110_0010);
    assert_eq!(pic.take_ended(), 1 << 11 | 1 << 2);
    out(&mut pic, 0xa0, 0b0110_0011);
    assert_eq!(pic.take_ended(), 0, "an EOI of a level that is not served ends nothing");
}

#[test]
fn offsets_beyond_the_ports_float() {
    let mut pic = linux();
    assert_eq!(pic.primary().read(1, Width::Word, NOW), 0xff00);
    assert_eq!(pic.secondary().read(2, Width::Byte, NOW), 0xff);
    assert_eq!(pic.elcr().read(0, Width::Dword, NOW), 0xffff_0000);
    pic.primary().write(2, Width::Byte, 0x11, NOW);
    assert!(!pic.pending());
}

proptest! {
    #[test]
    fn a_write_that_keeps_quiet_ends_in_no_request(
        accesses in prop::collection::vec((any::<bool>(), any::<u8>(), 0..16u8, any::<bool>()), 1..100)
    ) {
        let mut pic = linux();
        for (odd, value, irq, high) in accesses {
            pic.set_line(irq, high);
            let quiet = pic.keeps_quiet(odd, value);
            pic.primary().write_byte(odd.into(), value);
            prop_assert!(!quiet || !pic.pending());
            if pic.pending() && value & 1 == 0 {
                pic.acknowledge();
            }
        }
    }
}
