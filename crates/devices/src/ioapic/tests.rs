use super::*;
use proptest::prelude::*;

const ACTIVE_LOW: u32 = 1 << 13;
const LEVEL_LOW: u32 = 1 << 15 | ACTIVE_LOW;
const MASK: u32 = 1 << 16;

fn set(apic: &mut IoApic, register: u32, value: u32) {
    apic.write(SELECT, Width::Dword, register);
    apic.write(WINDOW, Width::Dword, value);
}

fn get(apic: &mut IoApic, register: u32) -> u32 {
    apic.write(SELECT, Width::Dword, register);
    apic.read(WINDOW, Width::Dword)
}

fn entry(apic: &mut IoApic, input: u32, value: u32) {
    set(apic, 0x10 + 2 * input, value);
}

/// Has the processor take the pending interrupt, and end its service.
fn serve(apic: &mut IoApic, lapic: &mut Lapic) -> Option<u8> {
    let vector = lapic.acknowledge();
    lapic.write(0xb0, Width::Dword, 0, 0);
    apic.end(&lapic.take_ended());
    vector
}

#[test]
fn registers_are_those_of_the_data_sheet() {
    let mut apic = IoApic::new();
    assert_eq!(get(&mut apic, 1), 0x0017_0011);
    assert_eq!([get(&mut apic, 0), get(&mut apic, 2)], [0x0100_0000; 2]);
    set(&mut apic, 0, 0x5fff_ffff);
    assert_eq!(get(&mut apic, 0), 0x0f00_0000);
    assert_eq!(get(&mut apic, 0x10), MASK, "masked after a reset");
    set(&mut apic, 0x3f, 0xffff_ffff);
    assert_eq!(get(&mut apic, 0x3f), 0xff00_0000, "the destination");
    set(&mut apic, 0x3e, 0xffff_ffff);
    assert_eq!(get(&mut apic, 0x3e), 0x0001_afff, "two bits are read only");
    for nothing in [3, 0x0f, 0x40, 0xff] {
        set(&mut apic, nothing, u32::MAX);
        assert_eq!(get(&mut apic, nothing), 0);
    }
}

#[test]
fn narrow_reads_see_the_register_and_narrow_writes_nothing() {
    let mut apic = IoApic::new();
    apic.write(SELECT, Width::Dword, 1);
    apic.write(SELECT, Width::Byte, 0);
    assert_eq!(apic.read(SELECT, Width::Byte), 1);
    assert_eq!(apic.read(WINDOW + 2, Width::Word), 0x17);
    assert_eq!([apic.read(WINDOW + 3, Width::Word), apic.read(0x20, Width::Dword)], [0, 0]);
}

#[test]
fn an_edge_is_sent_once_and_waits_for_the_one_before_it() {
    let (mut apic, mut lapic) = (IoApic::new(), Lapic::new());
    apic.sample(1 << 4, 1 << 4);
    entry(&mut apic, 4, 0x34);
    assert!(!apic.is_ready(), "an edge at a masked entry is lost");
    apic.sample(0, 1 << 4);
    apic.send(&mut lapic);
    apic.sample(0, 1 << 4);
    apic.send(&mut lapic);
    assert!(apic.is_waiting(4) && get(&mut apic, 0x18) & 1 << 12 != 0, "the delivery status says so");
    assert_eq!(lapic.acknowledge(), Some(0x34));
    apic.send(&mut lapic);
    assert!(!apic.is_waiting(4) && lapic.is_requested(0x34));
    lapic.write(0xb0, Width::Dword, 0, 0);
    assert_eq!((lapic.acknowledge(), lapic.has_ended()), (Some(0x34), false));
}

#[test]
fn a_level_is_sent_again_after_each_end_while_it_is_active() {
    let (mut apic, mut lapic) = (IoApic::new(), Lapic::new());
    entry(&mut apic, 11, LEVEL_LOW | 0x51);
    apic.sample(1 << 11, 1 << 11);
    for _ in 0..3 {
        apic.send(&mut lapic);
        assert!(!apic.is_ready() && get(&mut apic, 0x26) & 1 << 14 != 0, "the remote IRR is set");
        assert_eq!(serve(&mut apic, &mut lapic), Some(0x51));
        assert_eq!(apic.take_ended(), 1 << 11);
        assert!(apic.is_ready());
    }
    apic.sample(0, 0);
    apic.send(&mut lapic);
    assert_eq!(lapic.acknowledge(), None);
}

#[test]
fn a_level_leaves_no_edge_behind() {
    let (mut apic, mut lapic) = (IoApic::new(), Lapic::new());
    entry(&mut apic, 9, LEVEL_LOW | 0x41);
    apic.sample(1 << 9, 1 << 9);
    apic.send(&mut lapic);
    assert_eq!((serve(&mut apic, &mut lapic), apic.is_waiting(9)), (Some(0x41), false));
    apic.sample(0, 0);
    entry(&mut apic, 9, 0x41);
    assert!(!apic.is_ready());
}

#[test]
fn an_entry_that_becomes_an_edge_forgets_the_remote_irr() {
    let (mut apic, mut lapic) = (IoApic::new(), Lapic::new());
    entry(&mut apic, 9, LEVEL_LOW | 0x41);
    apic.sample(1 << 9, 1 << 9);
    apic.send(&mut lapic);
    entry(&mut apic, 9, MASK | 0x41);
    entry(&mut apic, 9, LEVEL_LOW | 0x41);
    assert!(apic.is_ready());
}

#[test]
fn a_processor_whose_apic_is_off_gets_the_interrupt_later() {
    let (mut apic, mut lapic) = (IoApic::new(), Lapic::new());
    lapic.write(0xf0, Width::Dword, 0xff, 0);
    entry(&mut apic, 4, 0x34);
    apic.sample(0, 1 << 4);
    apic.send(&mut lapic);
    assert!(apic.is_ready());
    lapic.write(0xf0, Width::Dword, 0x1ff, 0);
    apic.send(&mut lapic);
    assert_eq!(lapic.acknowledge(), Some(0x34));
}

#[test]
fn modes_other_than_fixed_and_lowest_priority_send_nothing() {
    for mode in 0..8 {
        let mut apic = IoApic::new();
        entry(&mut apic, 4, mode << 8 | 0x34);
        apic.sample(0, 1 << 4);
        assert_eq!(apic.is_ready(), mode <= 1, "{mode}");
    }
}

proptest! {
    /// Whatever a guest writes, a level that stays active reaches the processor once the entry is set up.
    #[test]
    fn no_sequence_of_writes_keeps_an_input_from_working(
        writes in proptest::collection::vec((any::<u16>(), any::<u32>()), 0..50),
        samples in proptest::collection::vec(any::<(u32, u32)>(), 0..10),
    ) {
        let (mut apic, mut lapic) = (IoApic::new(), Lapic::new());
        let mut samples = samples.into_iter();
        for (offset, value) in writes {
            apic.write(if offset % 2 == 0 { SELECT } else { WINDOW }, Width::Dword, value);
            if let Some((levels, risen)) = samples.next() {
                apic.sample(levels, risen);
                apic.send(&mut lapic);
            }
        }
        for input in 0..INPUTS as u32 {
            entry(&mut apic, input, MASK);
        }
        let mut lapic = Lapic::new();
        entry(&mut apic, 11, LEVEL_LOW | 0x51);
        apic.sample(1 << 11, 0);
        apic.send(&mut lapic);
        prop_assert_eq!(lapic.acknowledge(), Some(0x51));
    }
}
